//! Epochs in the store: generations of keys, loaded, added and sealed anew under another root key.
//!
//! An epoch is an immutable object of a random name, stored twice and read back before anything is sealed under it. A
//! rotation adds one, so of two that happen at once none overwrites the other; the one with the higher number, or of
//! equals with the higher id, is what later runs seal under, and all are kept for reading.

use super::error::{Error, Result};
use super::keyring::{self, Keyring};
use super::{COPY, Repository, clients, read_versions, roots, write_twice};
use crate::base::{EpochId, KeyId, Kind, RepositoryId, SlotId};
use crate::crypto::keys::RootKey;
use crate::format::cbor::Cbor;
use crate::format::envelope::{self, ObjectKind};
use crate::format::keys::{Epoch, MAX_EPOCH_BYTES};
use crate::store::{Area, Key, ObjectStore};
use std::collections::BTreeSet;

/// The epochs of a root key, and whether there are others.
pub struct Loaded {
    /// Those that the root key opens.
    pub epochs: Vec<Epoch>,
    /// Some are sealed under other root keys: the root key is being exchanged, or was.
    pub foreign: bool,
}

/// Opens all epochs that are sealed under `root`.
pub fn load(store: &dyn ObjectStore, repository: RepositoryId, root: &RootKey) -> Result<Loaded> {
    let mut loaded = Loaded { epochs: Vec::new(), foreign: false };
    for key in names(store)? {
        let decode = |bytes: &[u8]| open(&key, bytes, repository, root);
        // What opens is what was sealed: its copy can say nothing else.
        let first = store.get(&key, MAX_EPOCH_BYTES as u64).map_err(Error::from).and_then(|bytes| decode(&bytes));
        if let Ok(Some(epoch)) = first {
            loaded.epochs.push(epoch);
            continue;
        }
        match read_versions(store, &key, MAX_EPOCH_BYTES as u64, &decode) {
            // One whose header was damaged looks like that of another root; its copy does not.
            Ok(versions) => match versions.into_iter().flatten().next() {
                Some(epoch) => loaded.epochs.push(epoch),
                None => loaded.foreign = true,
            },
            // One that was listed and is gone was sealed under a root key that is no more.
            Err(error) if error.kind() == Kind::NotFound => loaded.foreign = true,
            Err(error) => return Err(error),
        }
    }
    Ok(loaded)
}

/// The names of the epochs that say that they are sealed under this root key: all that can be told without it.
pub fn names_under(store: &dyn ObjectStore, root: KeyId) -> Result<BTreeSet<EpochId>> {
    let mut found = BTreeSet::new();
    for key in names(store)? {
        let decode = |bytes: &[u8]| envelope::peek(bytes, ObjectKind::Epoch).map_err(Error::object(&key));
        let heads = match read_versions(store, &key, MAX_EPOCH_BYTES as u64, &decode) {
            Err(error) if error.kind() == Kind::NotFound => continue,
            other => other?,
        };
        if heads.iter().any(|head| head.key == root) {
            found.extend(key.name().parse::<EpochId>().ok());
        }
    }
    Ok(found)
}

/// The plain keys of all epochs, each once.
pub fn names(store: &dyn ObjectStore) -> Result<BTreeSet<Key>> {
    super::names_twice(store, Area::Epochs)
}

/// Opens an epoch; none if it is sealed under another root key.
pub(super) fn open(key: &Key, bytes: &[u8], repository: RepositoryId, root: &RootKey) -> Result<Option<Epoch>> {
    let header = envelope::peek(bytes, ObjectKind::Epoch).map_err(Error::object(key))?;
    if header.key != root.key_id() {
        return Ok(None);
    }
    let content = envelope::open(bytes.to_vec(), &header, repository, &root.epoch_key()).map_err(Error::object(key))?;
    let epoch = Epoch::from_cbor(&content, "key epoch").map_err(Error::object(key))?;
    // The copy has the same name and a suffix.
    if key.name().strip_suffix(COPY).unwrap_or(key.name()) == epoch.id.to_string() {
        Ok(Some(epoch))
    } else {
        Err(Error::damaged(key, "it is the epoch of another name"))
    }
}

/// Stores an epoch and its copy, and reads both back.
pub fn save(store: &dyn ObjectStore, repository: RepositoryId, root: &RootKey, epoch: &Epoch) -> Result<()> {
    let object = envelope::seal(ObjectKind::Epoch, repository, root.key_id(), &root.epoch_key(), &epoch.to_cbor());
    write_twice(store, &epoch_key(epoch.id), &object)
}

/// Where an epoch lies.
pub fn epoch_key(id: EpochId) -> Key {
    Key::new(Area::Epochs, id)
}

/// Opens a new generation of keys: from here on this keyring seals under it, and so do all runs that begin later.
/// Runs at work go on under the keys that they began with.
pub fn rotate(repository: &Repository) -> Result<Epoch> {
    rotate_without(repository, &BTreeSet::new())
}

/// The same; the clients that may only write get what they need of it, but those whose slots are in `but`.
pub fn rotate_without(repository: &Repository, but: &BTreeSet<SlotId>) -> Result<Epoch> {
    roots::refuse_while_exchanged(repository)?;
    let (store, keyring) = (&**repository.store(), repository.keyring());
    let root = keyring.root()?;
    let loaded = load(store, repository.id(), root)?;
    keyring.learn(&loaded.epochs)?;
    let newest = newest(&loaded.epochs)?;
    let epoch = keyring::new_epoch(root, Some((newest, keyring)), repository.now_ns())?;
    // Clients first: without the new keys they could not go on, and before the epoch is there they do without it.
    let all: Vec<Epoch> = loaded.epochs.iter().chain([&epoch]).cloned().collect();
    let renewed = clients::renew_before(repository, &all, but)?;
    save(store, repository.id(), root, &epoch)?;
    // What cannot be opened again must not become what everything is sealed under.
    let reloaded = load(store, repository.id(), root)?;
    if !reloaded.epochs.contains(&epoch) {
        return Err(Error::damaged(epoch_key(epoch.id), "it does not read back as it was written: check the store"));
    }
    roots::refuse_while_exchanged(repository)?;
    keyring.adopt(&reloaded.epochs)?;
    clients::remove_replaced(store, &renewed)?;
    // One that was added meanwhile.
    let done = but.iter().chain(renewed.values()).copied().collect();
    clients::renew_all(repository, &done)?;
    Ok(epoch)
}

/// The epoch that new objects are sealed under.
pub fn newest(epochs: &[Epoch]) -> Result<&Epoch> {
    let newest = epochs.iter().max_by_key(|epoch| (epoch.number, epoch.id));
    newest.ok_or_else(|| Error::damaged("the repository", "it has no key epoch that its root key opens"))
}

/// The ids of all class keys of some epochs.
pub fn key_ids(epochs: &[Epoch]) -> BTreeSet<KeyId> {
    epochs.iter().flat_map(|epoch| &epoch.classes).map(|entry| entry.id).collect()
}

/// Whether `keyring` knows every class key of these epochs.
pub(super) fn all_known(epochs: &[Epoch], keyring: &Keyring) -> bool {
    key_ids(epochs).iter().all(|key| keyring.knows(*key))
}
