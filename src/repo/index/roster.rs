//! Which segments there should be.
//!
//! A listing shows what is there, never what is gone. So every segment names the newest that its writer saw, those
//! that no other one names; with what they name in turn that is all that was there. A snapshot names the newest of when
//! it was committed. Who takes segments away, prune and rebuild, leaves a *roster* in the last `condemned/N.done`: the
//! snapshots that were there, the segments that serve them, and those that went. What segments on the roster name, and
//! what snapshots on it name, does not count any more.
//!
//! A condemned record that is still open is like a roster: what it keeps was there before it was put, and is said to
//! go by no other record before this one is closed.
//!
//! So a segment is missing when the roster, a record, a segment that is on neither or a snapshot that is not on the
//! roster names it, and neither roster nor record says that it goes.

use super::Index;
use super::cache::Cache;
use super::load::{done_key, load_condemned_at};
use super::segments::segment_key;
use crate::base::{Kind, SegmentId, SnapshotId};
use crate::format::session::Condemned;
use crate::repo::Result;
use crate::repo::keyring::Keyring;
use crate::store::ObjectStore;
use rusqlite::params;
use std::collections::BTreeMap;

/// Takes over the roster of the last record that was closed; none for no roster.
pub fn take_over(cache: &mut Cache, store: &dyn ObjectStore, keyring: &Keyring, last: Option<u64>) -> Result<()> {
    let known = cache.read(|cache| {
        let mut found = cache.connection.prepare_cached("SELECT value FROM meta WHERE name = 'roster'")?;
        let mut rows = found.query([])?;
        rows.next()?.map(|row| row.get::<_, i64>(0)).transpose()
    })?;
    if known.map(|number| number as u64) == last {
        return Ok(());
    }
    let roster = last.map(|number| load_condemned_at(store, keyring, &done_key(number), number)).transpose()?;
    cache.write(|cache| replace(cache, roster.as_ref()).map_err(|error| cache.failed(error)))
}

fn replace(cache: &Cache, roster: Option<&Condemned>) -> rusqlite::Result<()> {
    let connection = &cache.connection;
    connection.execute_batch(
        "DELETE FROM roster_segments; DELETE FROM roster_snapshots; DELETE FROM meta WHERE name = 'roster'",
    )?;
    let Some(roster) = roster else { return Ok(()) };
    let mut segment = connection.prepare_cached("INSERT OR IGNORE INTO roster_segments VALUES (?, ?)")?;
    for (segments, stays) in [(&roster.kept_segments, true), (&roster.segments, false)] {
        for id in segments {
            segment.execute(params![id.0, stays])?;
        }
    }
    let mut snapshot = connection.prepare_cached("INSERT OR IGNORE INTO roster_snapshots VALUES (?)")?;
    for id in &roster.snapshots {
        snapshot.execute([id.0])?;
    }
    connection.execute("INSERT INTO meta VALUES ('roster', ?)", [roster.number as i64])?;
    Ok(())
}

/// The segments that should be there and are not, as far as the roster and segments tell. `listed` is what the store
/// has shown.
pub fn missing(
    cache: &mut Cache,
    store: &dyn ObjectStore,
    listed: &BTreeMap<SegmentId, u64>,
) -> Result<Vec<SegmentId>> {
    let unseen: Vec<SegmentId> = cache.read(|cache| {
        let mut found = cache.connection.prepare_cached(
            "SELECT id FROM (
                SELECT segment_previous.id FROM segment_previous JOIN segments ON segments.number = segment
                WHERE segments.id NOT IN (SELECT id FROM roster_segments)
                    AND segments.id NOT IN (SELECT id FROM condemned_segments)
                UNION SELECT id FROM roster_segments WHERE stays = 1
                UNION SELECT id FROM condemned_segments WHERE stays = 1)
             EXCEPT SELECT id FROM segments
             EXCEPT SELECT id FROM roster_segments WHERE stays = 0
             EXCEPT SELECT id FROM condemned_segments WHERE stays = 0",
        )?;
        found.query_map([], |row| Ok(SegmentId(row.get(0)?)))?.collect()
    })?;
    unseen.into_iter().filter(|id| !listed.contains_key(id)).filter_map(|id| if_gone(store, id)).collect()
}

/// The segment if it is not in the store. One that was stored after the listing is.
fn if_gone(store: &dyn ObjectStore, id: SegmentId) -> Option<Result<SegmentId>> {
    match store.size(&segment_key(id)) {
        Ok(_) => None,
        Err(error) if error.kind() == Kind::NotFound => Some(Ok(id)),
        Err(error) => Some(Err(error.into())),
    }
}

impl Index {
    /// The segments that no other one names: whoever adds one names these.
    pub fn newest_segments(&self) -> Result<Vec<SegmentId>> {
        self.state().cache.read(|cache| {
            let mut found = cache.connection.prepare_cached(
                "SELECT id FROM segments
                 EXCEPT SELECT id FROM segment_previous
                 EXCEPT SELECT id FROM roster_segments
                 EXCEPT SELECT id FROM condemned_segments",
            )?;
            found.query_map([], |row| Ok(SegmentId(row.get(0)?)))?.collect()
        })
    }

    /// Which of the segments that a snapshot names are missing.
    pub fn missing_of(
        &self,
        store: &dyn ObjectStore,
        snapshot: SnapshotId,
        named: &[SegmentId],
    ) -> Result<Vec<SegmentId>> {
        let unseen: Vec<SegmentId> = self.state().cache.read(|cache| {
            let mut find = cache.connection.prepare_cached(
                "SELECT EXISTS (SELECT 1 FROM segments WHERE id = ?1)
                    OR EXISTS (SELECT 1 FROM roster_snapshots WHERE id = ?2)
                    OR EXISTS (SELECT 1 FROM roster_segments WHERE id = ?1)
                    OR EXISTS (SELECT 1 FROM condemned_segments WHERE id = ?1)",
            )?;
            let mut unseen = Vec::new();
            for id in named {
                if !find.query_row(params![id.0, snapshot.0], |row| row.get::<_, bool>(0))? {
                    unseen.push(*id);
                }
            }
            Ok(unseen)
        })?;
        unseen.into_iter().filter_map(|id| if_gone(store, id)).collect()
    }
}
