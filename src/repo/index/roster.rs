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
//! roster names it, and neither roster nor record says that it goes. What late segments name ([`super::late`]) does not
//! count: whoever wrote them had slept, and knew what there was long ago.
//!
//! In `packs` a roster names what was swept: tombstones. A segment may name such a pack still, written by somebody who
//! did not know, or be read by somebody who had listed it just before it went.

use super::Index;
use super::cache::Cache;
use super::load::{done_key, load_condemned_at, update_void};
use super::segments::segment_key;
use crate::base::{Kind, PackId, SegmentId, SnapshotId, SortedSet, side_by_side};
use crate::format::session::Condemned;
use crate::repo::Result;
use crate::repo::keyring::Keyring;
use crate::store::ObjectStore;
use rusqlite::params;
use std::collections::{BTreeMap, BTreeSet};

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
    cache.write(|cache| {
        let replaced = replace(cache, roster.as_ref()).and_then(|()| cache.reload_dead());
        replaced.map_err(|error| cache.failed(error))
    })
}

fn replace(cache: &Cache, roster: Option<&Condemned>) -> rusqlite::Result<()> {
    let connection = &cache.connection;
    connection.execute_batch(
        "DELETE FROM roster_segments; DELETE FROM roster_snapshots; DELETE FROM roster_packs;
         DELETE FROM meta WHERE name = 'roster'",
    )?;
    let Some(roster) = roster else { return update_void(cache) };
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
    let mut pack = connection.prepare_cached("INSERT OR IGNORE INTO roster_packs VALUES (?)")?;
    for id in &roster.packs {
        pack.execute([id.0])?;
    }
    connection.execute("INSERT INTO meta VALUES ('roster', ?)", [roster.number as i64])?;
    update_void(cache)
}

/// The segments that an open record says go, and those that went as far as the roster tells: where the store refuses to
/// delete, they are still there.
pub fn going(cache: &mut Cache) -> Result<BTreeSet<SegmentId>> {
    cache.read(|cache| {
        let mut found = cache.connection.prepare_cached(
            "SELECT id FROM condemned_segments WHERE stays = 0
             UNION SELECT id FROM roster_segments WHERE stays = 0
             EXCEPT SELECT id FROM condemned_segments WHERE stays = 1",
        )?;
        found.query_map([], |row| Ok(SegmentId(row.get(0)?)))?.collect()
    })
}

/// The segments that the roster says were left: they are there until a later one says otherwise.
pub fn kept(cache: &mut Cache) -> Result<BTreeSet<SegmentId>> {
    cache.read(|cache| {
        let mut found = cache.connection.prepare_cached("SELECT id FROM roster_segments WHERE stays = 1")?;
        found.query_map([], |row| Ok(SegmentId(row.get(0)?)))?.collect()
    })
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
                WHERE late = 0 AND segments.id NOT IN (SELECT id FROM roster_segments)
                    AND segments.id NOT IN (SELECT id FROM condemned_segments)
                UNION SELECT id FROM roster_segments WHERE stays = 1
                UNION SELECT id FROM condemned_segments WHERE stays = 1)
             EXCEPT SELECT id FROM segments
             EXCEPT SELECT id FROM roster_segments WHERE stays = 0
             EXCEPT SELECT id FROM condemned_segments WHERE stays = 0",
        )?;
        found.query_map([], |row| Ok(SegmentId(row.get(0)?)))?.collect()
    })?;
    gone_of(store, &unseen.into_iter().filter(|id| !listed.contains_key(id)).collect::<Vec<_>>())
}

/// Those of the segments that are not in the store; several are asked for at once.
pub fn gone_of(store: &dyn ObjectStore, segments: &[SegmentId]) -> Result<Vec<SegmentId>> {
    side_by_side(store.requests_at_once(), segments, |id| if_gone(store, *id)).into_iter().flatten().collect()
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
    /// The segments that went as far as the last roster tells. Others say all that they said of what is there; one that
    /// lies there all the same need not be read.
    pub fn went(&self) -> Result<BTreeSet<SegmentId>> {
        self.state().cache.read(|cache| {
            let mut found = cache.connection.prepare_cached("SELECT id FROM roster_segments WHERE stays = 0")?;
            found.query_map([], |row| Ok(SegmentId(row.get(0)?)))?.collect()
        })
    }

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

    /// The packs that the last roster says were swept, as far as a segment still names them.
    pub fn tombstones(&self) -> Result<BTreeSet<PackId>> {
        self.state().cache.read(|cache| {
            let mut found = cache.connection.prepare_cached("SELECT id FROM roster_packs JOIN packs USING (id)")?;
            found.query_map([], |row| Ok(PackId(row.get(0)?)))?.collect()
        })
    }

    /// All packs that the last roster says were swept.
    pub fn swept(&self) -> Result<SortedSet<PackId>> {
        self.state().cache.read(|cache| {
            let mut found = cache.connection.prepare_cached("SELECT id FROM roster_packs")?;
            found.query_map([], |row| Ok(PackId(row.get(0)?)))?.collect()
        })
    }

    /// The segments whose writers had seen the condemned record `number`.
    pub fn segments_that_saw(&self, number: u64) -> Result<Vec<SegmentId>> {
        self.state().cache.read(|cache| {
            let mut found = cache.connection.prepare_cached("SELECT id FROM segments WHERE condemned_seen >= ?")?;
            found.query_map([number as i64], |row| Ok(SegmentId(row.get(0)?)))?.collect()
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
        gone_of(store, &unseen)
    }
}
