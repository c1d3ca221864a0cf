//! Late segments: stored by somebody who slept.
//!
//! Whoever prunes fences sessions that seem dead. Such a session may wake up and store segments: they name packs that may
//! have been swept, and differences whose bases may have been. So a segment is *late*, and packs that only late ones name
//! are void,
//!
//! - when it is not on the last roster and its writer had not seen the record that left it: writers that were not fenced
//!   have seen it, or had stored all their segments when it was swept, and then these are on the roster;
//! - while a record is open, when its writer had not seen it, neither the record nor what is spared of it says that the
//!   segment was there, and its session is fenced. It may have been stored before the session was fenced; then the roster
//!   will name it. If the session is not fenced when we look, after the segment was listed, then whoever sweeps the record
//!   sees the segment too and spares what it needs.

use super::cache::Cache;
use super::load::update_void;
use super::segments::SegmentReader;
use crate::base::{Kind, SegmentId, SessionId};
use crate::format::envelope::{self, ObjectKind};
use crate::repo::keyring::Keyring;
use crate::repo::{Error, Result};
use crate::store::{Area, Key, ObjectStore};
use rusqlite::params;
use std::collections::{BTreeMap, BTreeSet};

/// Finds the late segments among those in the cache. `open` is the record that is open, and `closed` the number of the
/// roster; 0 for none.
pub fn update(
    cache: &mut Cache,
    store: &dyn ObjectStore,
    keyring: &Keyring,
    open: Option<u64>,
    closed: u64,
) -> Result<()> {
    let mut late = unknowing(cache, closed)?;
    if let Some(open) = open {
        late.extend(of_fenced(cache, store, keyring, open)?);
    }
    let known: BTreeSet<SegmentId> = cache.read(|cache| {
        let mut found = cache.connection.prepare_cached("SELECT id FROM segments WHERE late = 1")?;
        found.query_map([], |row| Ok(SegmentId(row.get(0)?)))?.collect()
    })?;
    if known == late {
        return Ok(());
    }
    cache.write(|cache| {
        let marked = mark(cache, &late).and_then(|()| update_void(cache)).and_then(|()| cache.reload_dead());
        marked.map_err(|error| cache.failed(error))
    })
}

fn mark(cache: &Cache, late: &BTreeSet<SegmentId>) -> rusqlite::Result<()> {
    cache.connection.execute("UPDATE segments SET late = 0 WHERE late = 1", [])?;
    let mut mark = cache.connection.prepare_cached("UPDATE segments SET late = 1 WHERE id = ?")?;
    late.iter().try_for_each(|id| mark.execute([id.0]).map(drop))
}

/// The segments that no roster or record says were there and whose writers had not seen record `number`.
fn unknowing(cache: &mut Cache, number: u64) -> Result<BTreeSet<SegmentId>> {
    cache.read(|cache| {
        let mut found = cache.connection.prepare_cached(
            "SELECT id FROM segments WHERE condemned_seen < ?
                AND id NOT IN (SELECT id FROM roster_segments WHERE stays = 1)
                AND id NOT IN (SELECT id FROM condemned_segments WHERE stays = 1)",
        )?;
        found.query_map(params![number as i64], |row| Ok(SegmentId(row.get(0)?)))?.collect()
    })
}

/// Those whose sessions are fenced, among the segments that the open record does not say were there.
fn of_fenced(cache: &mut Cache, store: &dyn ObjectStore, keyring: &Keyring, open: u64) -> Result<Vec<SegmentId>> {
    let going: BTreeSet<SegmentId> = cache.read(|cache| {
        let mut found = cache.connection.prepare_cached("SELECT id FROM condemned_segments WHERE stays = 0")?;
        found.query_map([], |row| Ok(SegmentId(row.get(0)?)))?.collect()
    })?;
    let mut fenced: BTreeMap<SessionId, bool> = BTreeMap::new();
    let mut late = Vec::new();
    for id in unknowing(cache, open)?.difference(&going) {
        let session = SegmentReader::open(store, keyring, *id)?.head.session;
        let is_late = match fenced.get(&session) {
            Some(known) => *known,
            None => *fenced.entry(session).or_insert(is_fenced(store, session)?),
        };
        if is_late {
            late.push(*id);
        }
    }
    Ok(late)
}

/// Whether a tombstone lies where the session's snapshot would.
pub fn is_fenced(store: &dyn ObjectStore, session: SessionId) -> Result<bool> {
    let key = Key::new(Area::Snapshots, session);
    let there = match store.get(&key, ObjectKind::Snapshot.max_bytes() as u64) {
        Err(error) if error.kind() == Kind::NotFound => return Ok(false),
        // Damaged, it is no tombstone that anybody could read.
        Err(error) if error.kind() == Kind::Damaged => return Ok(false),
        other => other?,
    };
    let header = envelope::peek_any(&there, "snapshot").map_err(Error::object(&key));
    Ok(header.is_ok_and(|header| header.kind == ObjectKind::Tombstone))
}
