//! Snapshots in the store: listed, loaded, removed.

use super::error::{Error, Result};
use super::{Readable, Repository};
use crate::base::{Kind, SnapshotId};
use crate::format::envelope::{self, ObjectKind};
use crate::format::snapshot::Snapshot;
use crate::store::{Area, Key};
use std::collections::BTreeMap;

/// What lies under a snapshot's name.
pub enum Found {
    /// A snapshot.
    Snapshot(Box<Snapshot>),
    /// A tombstone: its session was fenced.
    Tombstone,
    /// Nothing any more: it was removed while we looked.
    Gone,
}

/// The names of all snapshots and tombstones.
pub fn names(repository: &Repository) -> Result<Vec<SnapshotId>> {
    let mut names = Vec::new();
    repository.store().list(Area::Snapshots, &mut |listed| names.extend(listed.name.parse::<SnapshotId>().ok()))?;
    names.sort();
    Ok(names)
}

/// When the store received each snapshot or tombstone, by its own clock: what no writer can claim otherwise.
pub fn receipts(repository: &Repository) -> Result<BTreeMap<SnapshotId, i64>> {
    let mut receipts = BTreeMap::new();
    repository.store().list(Area::Snapshots, &mut |listed| {
        let received_ns = i64::try_from(listed.stored_at.as_nanosecond()).unwrap_or(i64::MAX);
        receipts.extend(listed.name.parse::<SnapshotId>().ok().map(|id| (id, received_ns)));
    })?;
    Ok(receipts)
}

/// Reads what lies under the name `id`.
pub fn load(repository: &Repository, id: SnapshotId) -> Result<Found> {
    let key = Key::new(Area::Snapshots, id);
    let object = match repository.store().get(&key, ObjectKind::Snapshot.max_bytes() as u64) {
        Err(error) if error.kind() == Kind::NotFound => return Ok(Found::Gone),
        other => other?,
    };
    let header = envelope::peek_any(&object, "snapshot").map_err(Error::object(&key))?;
    if header.kind == ObjectKind::Tombstone {
        let tombstone: crate::format::snapshot::Tombstone =
            repository.keyring().load(ObjectKind::Tombstone, object, &key)?;
        return if tombstone.session == id {
            Ok(Found::Tombstone)
        } else {
            Err(Error::damaged(&key, "it is the tombstone of another session"))
        };
    }
    let snapshot: Snapshot = repository.keyring().load(ObjectKind::Snapshot, object, &key)?;
    if snapshot.id == id {
        Ok(Found::Snapshot(Box::new(snapshot)))
    } else {
        Err(Error::damaged(&key, "it is the snapshot of another name"))
    }
}

/// All snapshots in order of their time, and those that could not be read.
pub fn list(repository: &Repository) -> Result<Readable<Snapshot, SnapshotId>> {
    let mut snapshots = Vec::new();
    let mut damaged = Vec::new();
    for id in names(repository)? {
        match load(repository, id) {
            Ok(Found::Snapshot(snapshot)) => snapshots.push(*snapshot),
            Ok(Found::Tombstone | Found::Gone) => {}
            // One of a newer version may as well be one whose header was hit; either way the others can be read.
            Err(error) if matches!(error.kind(), Kind::Damaged | Kind::Unsupported) => damaged.push((id, error)),
            Err(error) => return Err(error),
        }
    }
    snapshots.sort_by_key(|snapshot| (snapshot.time_ns, snapshot.id));
    Ok((snapshots, damaged))
}

/// Removes a snapshot. What only it needed is garbage from then on, for prune.
pub fn remove(repository: &Repository, id: SnapshotId) -> Result<()> {
    repository.store().delete(&Key::new(Area::Snapshots, id))?;
    Ok(())
}
