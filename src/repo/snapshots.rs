//! Snapshots in the store: listed, loaded, removed.

use super::ahead::each_kept;
use super::error::{Error, Result};
use super::keyring::Writer;
use super::pack_cache::PackCache;
use super::{Readable, Repository};
use crate::base::{Kind, SnapshotId};
use crate::format::envelope::{self, ObjectKind};
use crate::format::snapshot::{Snapshot, Tombstone};
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
    match repository.store().get(&key, limit_bytes()) {
        Err(error) if error.kind() == Kind::NotFound => Ok(Found::Gone),
        object => open(repository, &key, object?),
    }
}

/// The most bytes that a snapshot or a tombstone may have.
fn limit_bytes() -> u64 {
    ObjectKind::Snapshot.max_bytes() as u64
}

/// Opens what lay under the name of a snapshot.
fn open(repository: &Repository, key: &Key, object: Vec<u8>) -> Result<Found> {
    let header = envelope::peek_any(&object, "snapshot").map_err(Error::object(key))?;
    if header.kind == ObjectKind::Tombstone {
        let tombstone: Tombstone = repository.keyring().load(ObjectKind::Tombstone, object, key)?;
        return match tombstone.session.to_string() == key.name() {
            true => Ok(Found::Tombstone),
            false => Err(Error::damaged(key, "it is the tombstone of another session")),
        };
    }
    let (snapshot, writer): (Snapshot, _) = repository.keyring().load_of(ObjectKind::Snapshot, object, key)?;
    if writer == Writer::Client && !snapshot.unverified {
        return Err(Error::damaged(key, "a client that may only write made it and says that it was another"));
    }
    match snapshot.id.to_string() == key.name() {
        true => Ok(Found::Snapshot(Box::new(snapshot))),
        false => Err(Error::damaged(key, "it is the snapshot of another name")),
    }
}

/// Calls `take` with what lies under each of these names, which are all that there are, in their order. Several are
/// read at once, and what is kept at hand is not read again: what lies under a name is never changed.
pub fn each<E>(
    repository: &Repository,
    names: &[SnapshotId],
    take: impl FnMut(SnapshotId, Result<Found>) -> Result<(), E>,
) -> Result<(), E> {
    each_kept_in(repository, repository.at_hand().map(|cache| &**cache), names, take)
}

fn each_kept_in<E>(
    repository: &Repository,
    cache: Option<&PackCache>,
    names: &[SnapshotId],
    mut take: impl FnMut(SnapshotId, Result<Found>) -> Result<(), E>,
) -> Result<(), E> {
    let keys: Vec<Key> = names.iter().map(|id| Key::new(Area::Snapshots, id)).collect();
    let mut ids = names.iter();
    let open = |key: &Key, object| open(repository, key, object);
    each_kept((repository, cache), Area::Snapshots, &keys, limit_bytes(), open, |_, found| {
        let id = ids.next().expect("as many answers as names");
        match found {
            Err(error) if error.kind() == Kind::NotFound => take(*id, Ok(Found::Gone)),
            found => take(*id, found),
        }
    })
}

/// All snapshots in order of their time, and those that could not be read.
pub fn list(repository: &Repository) -> Result<Readable<Snapshot, SnapshotId>> {
    list_kept_in(repository, repository.at_hand().map(|cache| &**cache))
}

/// The same, read from the store alone: for who wants to know what is there.
pub fn list_stored(repository: &Repository) -> Result<Readable<Snapshot, SnapshotId>> {
    list_kept_in(repository, None)
}

fn list_kept_in(repository: &Repository, cache: Option<&PackCache>) -> Result<Readable<Snapshot, SnapshotId>> {
    let mut snapshots = Vec::new();
    let mut damaged = Vec::new();
    each_kept_in(repository, cache, &names(repository)?, |id, found| {
        match found {
            Ok(Found::Snapshot(snapshot)) => snapshots.push(*snapshot),
            Ok(Found::Tombstone | Found::Gone) => {}
            // One of a newer version may as well be one whose header was hit; either way the others can be read.
            Err(error) if matches!(error.kind(), Kind::Damaged | Kind::Unsupported) => damaged.push((id, error)),
            Err(error) => return Err(error),
        }
        Ok(())
    })?;
    snapshots.sort_by_key(|snapshot| (snapshot.time_ns, snapshot.id));
    Ok((snapshots, damaged))
}

/// Removes a snapshot. What only it needed is garbage from then on, for prune.
pub fn remove(repository: &Repository, id: SnapshotId) -> Result<()> {
    repository.store().delete(&Key::new(Area::Snapshots, id))?;
    Ok(())
}
