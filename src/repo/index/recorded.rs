//! Damage that is recorded in the store: what it names is unknown, as if it had been found here.

use super::cache::Cache;
use super::load::{Opened, pack_number};
use super::{FOUND_DAMAGED, INFERRED, Index, RECORDED, mark_orphans, sound};
use crate::base::{Kind, PackId};
use crate::repo::keyring::Keyring;
use crate::repo::{Result, damage};
use crate::store::ObjectStore;
use rusqlite::params;
use std::collections::BTreeSet;

impl Index {
    /// The packs that records of damage name, as far as they were there when the index was brought up to date.
    pub fn recorded_packs(&self) -> Result<BTreeSet<PackId>> {
        self.state().cache.read(|cache| {
            let mut found = cache.connection.prepare_cached("SELECT DISTINCT pack FROM damage_records")?;
            found.query_map([], |row| Ok(PackId(row.get(0)?)))?.collect()
        })
    }
}

/// Takes over the records that lie in the store by now. One that cannot be read says nothing, and is told.
pub(super) fn update(cache: &mut Cache, store: &dyn ObjectStore, keyring: &Keyring, opened: &mut Opened) -> Result<()> {
    let listed: BTreeSet<String> = damage::list(store)?.into_keys().collect();
    let known: BTreeSet<String> = cache.read(|cache| {
        let mut found = cache.connection.prepare("SELECT DISTINCT name FROM damage_records")?;
        found.query_map([], |row| row.get(0))?.collect()
    })?;
    // Frames of packs that came or went may have other numbers now.
    let moved = !listed.is_empty() && (!opened.loaded.is_empty() || opened.packs_dropped > 0);
    if listed == known && !moved {
        return Ok(());
    }
    let mut records = Vec::new();
    for name in listed.difference(&known) {
        match damage::load(store, keyring, name) {
            Ok(record) => records.push((name, record)),
            // Mended meanwhile.
            Err(error) if error.kind() == Kind::NotFound => {}
            Err(error) if error.kind() == Kind::Damaged => opened.notes.push(error.to_string()),
            Err(error) => return Err(error),
        }
    }
    cache.write(|cache| {
        let change = || {
            for name in known.difference(&listed) {
                cache.connection.execute("DELETE FROM damage_records WHERE name = ?", [name])?;
            }
            let mut insert =
                cache.connection.prepare_cached("INSERT OR IGNORE INTO damage_records VALUES (?, ?, ?)")?;
            for (name, record) in &records {
                for block in &record.blocks {
                    insert.execute(params![name, record.pack.0, *block as i64])?;
                }
            }
            if !records.is_empty() {
                sound::found_more(&cache.connection)?;
            }
            mark(cache)
        };
        let changed = change();
        changed.and_then(|()| infer(cache)).map_err(|error| cache.failed(error))
    })
}

/// What stands on what is recorded is as unknown as that; and what stood on something that is mended is known again.
/// Packs that are gone are found once more when they are compared next.
fn infer(cache: &mut Cache) -> rusqlite::Result<()> {
    cache.reload_dead()?;
    let any = "SELECT EXISTS (SELECT 1 FROM dead_frames WHERE damaged IN (?, ?))";
    if cache.connection.query_row(any, [FOUND_DAMAGED, RECORDED], |row| row.get(0))? {
        while mark_orphans(cache)? > 0 {
            cache.reload_dead()?;
        }
    }
    Ok(())
}

/// Marks the frames of all blocks that records name, and only those.
fn mark(cache: &Cache) -> rusqlite::Result<()> {
    cache.connection.execute("DELETE FROM dead_frames WHERE damaged IN (?, ?)", [RECORDED, INFERRED])?;
    let mut found = cache.connection.prepare("SELECT DISTINCT pack, block_offset FROM damage_records")?;
    let rows = found.query_map([], |row| Ok((row.get::<_, [u8; 32]>(0)?, row.get::<_, i64>(1)?)))?;
    for row in rows {
        let (pack, block) = row?;
        let Some(number) = pack_number(cache, PackId(pack))? else { continue };
        cache.connection.execute(
            "INSERT OR IGNORE INTO dead_frames
             SELECT number, number, ? FROM pack_frames JOIN frames ON number BETWEEN first AND first + count - 1
             WHERE pack_frames.pack = ? AND block_offset = ?",
            params![RECORDED, number, block],
        )?;
    }
    Ok(())
}
