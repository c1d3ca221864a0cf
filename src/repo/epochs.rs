//! Epochs in the store: generations of keys, loaded, added and sealed anew under another root key.
//!
//! An epoch is an immutable object of a random name, stored twice and read back before anything is sealed under it. A
//! rotation adds one, so of two that happen at once none overwrites the other; the one with the higher number, or of
//! equals with the higher id, is what later runs seal under, and all are kept for reading.
//!
//! None is ever deleted, also when nothing seems to be sealed under it any more: an object that a slow writer stores, that
//! a store did not list, that lies in quarantine or comes back from a past version of the bucket could not be opened
//! again, and run records and snapshots keep the key that they were sealed under. So that opening does not cost a request
//! for each, every eighth holds the ones before it: whoever has opened one has the keys of up to 128 others. Those
//! stay objects of their own, twice each, and the listing says which there are: what nobody holds is read. What is held
//! and not listed was lost; it is used, told by `verify` and written anew by `key repair`.

use super::ahead::Ahead;
use super::error::{Error, Result};
use super::keyring::{self, Keyring};
use super::{COPY, Repository, clients, read_versions, roots, write_twice};
use crate::base::{EpochId, KeyId, Kind, RepositoryId, SlotId};
use crate::crypto::keys::RootKey;
use crate::format::cbor::{Bytes, Cbor};
use crate::format::envelope::{self, ObjectKind};
use crate::format::keys::{Epoch, MAX_CLIENT_EPOCHS, MAX_EPOCH_BYTES};
use crate::store::{Area, Key, ObjectStore};
use std::collections::{BTreeMap, BTreeSet};

/// An epoch of more bytes than this holds earlier ones; without them it has about 400.
const HOLDER_BYTES: u64 = 2048;
/// When so many would be read one by one, the next one that is opened holds them too.
const HOLD_AT: usize = 8;
/// The most that one holds. Whoever holds so many is held by nobody: it is read, and the next ones begin anew.
const MOST_HELD: usize = 128;
/// The most bytes that one holds: with its own keys it stays below [`MAX_EPOCH_BYTES`].
const MOST_HELD_BYTES: usize = 56 << 10;

/// The epochs of a root key, and whether there are others.
pub struct Loaded {
    /// Those that the root key opens.
    pub epochs: Vec<Epoch>,
    /// Those of them that have no object any more, neither the first nor the copy: a later one still holds them.
    pub lost: Vec<EpochId>,
    /// The first that is there and cannot be read, neither the object nor its copy, and that no other holds: what is sealed
    /// under it cannot be opened.
    pub damaged: Option<Error>,
    /// Some are sealed under other root keys: the root key is being exchanged, or was.
    pub foreign: bool,
}

impl Loaded {
    /// All epochs; fails if one cannot be read. For whoever leaves behind what he does not know.
    pub fn whole(self) -> Result<Vec<Epoch>> {
        match self.damaged {
            Some(error) => Err(error),
            None => Ok(self.epochs),
        }
    }
}

/// Opens all epochs that are sealed under `root`. One that is damaged locks nobody out of what the others open. What one of
/// them holds of others need not be read, so the largest come first; the listing says which there are.
pub fn load(store: &dyn ObjectStore, repository: RepositoryId, root: &RootKey) -> Result<Loaded> {
    let listed = largest_first(listed(store)?);
    let ahead = Ahead::new(store);
    let mut found: BTreeMap<EpochId, Epoch> = BTreeMap::new();
    let mut foreign = false;
    let mut damaged = Vec::new();
    let mut asked = false;
    for (place, (id, size_bytes)) in listed.iter().enumerate() {
        if found.contains_key(id) {
            continue;
        }
        if *size_bytes <= HOLDER_BYTES && !asked {
            let rest = listed[place..].iter().filter(|(id, _)| !found.contains_key(id));
            ahead.ask(&rest.map(|(id, _)| (epoch_key(*id), MAX_EPOCH_BYTES as u64)).collect::<Vec<_>>(), &[]);
            asked = true;
        }
        match read(&ahead, *id, repository, root) {
            Ok(Some(epoch)) => take(&mut found, epoch, root),
            Ok(None) => foreign = true,
            Err(error) if error.kind() == Kind::Damaged => damaged.push((*id, error)),
            Err(error) => return Err(error),
        }
    }
    damaged.retain(|(id, _)| !found.contains_key(id));
    let damaged = damaged.into_iter().next().map(|(_, error)| error);
    if found.is_empty()
        && let Some(error) = damaged
    {
        return Err(error);
    }
    let there: BTreeSet<EpochId> = listed.iter().map(|(id, _)| *id).collect();
    let lost = found.keys().filter(|id| !there.contains(id)).copied().collect();
    Ok(Loaded { epochs: found.into_values().collect(), lost, damaged, foreign })
}

/// Reads an epoch; none if it is of another root key, or gone with it.
fn read(store: &dyn ObjectStore, id: EpochId, repository: RepositoryId, root: &RootKey) -> Result<Option<Epoch>> {
    let key = epoch_key(id);
    let decode = |bytes: &[u8]| open(&key, bytes, repository, root);
    // What opens is what was sealed: its copy can say nothing else.
    let first = store.get(&key, MAX_EPOCH_BYTES as u64).map_err(Error::from).and_then(|bytes| decode(&bytes));
    if let Ok(Some(epoch)) = first {
        return Ok(Some(epoch));
    }
    match read_versions(store, &key, MAX_EPOCH_BYTES as u64, &decode) {
        // One whose header was damaged looks like that of another root; its copy does not.
        Ok(versions) => Ok(versions.into_iter().flatten().next()),
        // One that was listed and is gone was sealed under a root key that is no more.
        Err(error) if error.kind() == Kind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// Whether an epoch or its copy opens.
pub(super) fn is_there(store: &dyn ObjectStore, key: &Key, repository: RepositoryId, root: &RootKey) -> bool {
    let decode = |bytes: &[u8]| open(key, bytes, repository, root);
    let versions = read_versions(store, key, MAX_EPOCH_BYTES as u64, &decode);
    versions.is_ok_and(|versions| versions.iter().any(Option::is_some))
}

/// Takes in an epoch and what it holds. An exchange of the root key by a version that knows nothing of it leaves what
/// the old one opens: that is passed over.
fn take(found: &mut BTreeMap<EpochId, Epoch>, epoch: Epoch, root: &RootKey) {
    for held in held_by(&epoch, root) {
        found.entry(held.id).or_insert(held);
    }
    found.insert(epoch.id, epoch);
}

fn held_by(epoch: &Epoch, root: &RootKey) -> Vec<Epoch> {
    epoch.held().filter(|held| keyring::opens(root, held)).collect()
}

/// The epochs that this one holds, as far as they open.
pub fn ids_held_by(epoch: &Epoch, root: &RootKey) -> Vec<EpochId> {
    held_by(epoch, root).into_iter().map(|held| held.id).collect()
}

/// What the next epoch holds of those that are there, so that opening reads one object in their place: nothing as long as
/// few are read one by one.
pub(super) fn to_hold(epochs: &[Epoch]) -> Vec<Bytes> {
    let (full, rest): (Vec<&Epoch>, Vec<&Epoch>) = epochs.iter().partition(|epoch| is_full(epoch));
    let done: BTreeSet<EpochId> = full.iter().flat_map(|epoch| epoch.held()).map(|epoch| epoch.id).collect();
    let mut rest: Vec<&Epoch> = rest.into_iter().filter(|epoch| !done.contains(&epoch.id)).collect();
    let held: BTreeSet<EpochId> = rest.iter().flat_map(|epoch| epoch.held()).map(|epoch| epoch.id).collect();
    if rest.iter().filter(|epoch| !held.contains(&epoch.id)).count() < HOLD_AT {
        return Vec::new();
    }
    rest.sort_by_key(|epoch| (epoch.number, epoch.id));
    let mut bytes = 0;
    let all = rest.into_iter().take(MOST_HELD).map(Epoch::to_hold);
    let fitting = all.take_while(|epoch| {
        bytes += epoch.0.len();
        bytes <= MOST_HELD_BYTES
    });
    fitting.collect()
}

fn is_full(epoch: &Epoch) -> bool {
    let bytes: usize = epoch.before.iter().map(|held| held.0.len()).sum();
    epoch.before.len() >= MOST_HELD || bytes >= MOST_HELD_BYTES * 3 / 4
}

/// The names of those epochs of a root key that are there, for somebody who cannot open them and has the keys of `known`.
/// Of others their heads say to which root key they belong. The newest known one is looked at too: nothing should be
/// sealed for whoever holds it if nobody does.
pub fn names_under(store: &dyn ObjectStore, root: KeyId, known: &[(u64, EpochId)]) -> Result<BTreeSet<EpochId>> {
    let there: BTreeSet<EpochId> = listed(store)?.into_keys().collect();
    let newest = known.iter().filter(|(_, id)| there.contains(id)).max();
    let known: BTreeSet<EpochId> = known.iter().filter(|known| Some(*known) != newest).map(|(_, id)| *id).collect();
    let (mut found, mut unknown): (BTreeSet<EpochId>, BTreeSet<EpochId>) =
        there.into_iter().partition(|id| known.contains(id));
    if known.len() + 1 >= MAX_CLIENT_EPOCHS {
        // Of very many it has the keys of the newest: it cannot tell the older ones from those that it should know.
        unknown.retain(|id| newest.is_some_and(|(_, newest)| newest == id));
    }
    let ahead = Ahead::new(store);
    ahead.ask(&unknown.iter().map(|id| (epoch_key(*id), MAX_EPOCH_BYTES as u64)).collect::<Vec<_>>(), &[]);
    for id in unknown {
        let key = epoch_key(id);
        let decode = |bytes: &[u8]| envelope::peek(bytes, ObjectKind::Epoch).map_err(Error::object(&key));
        let heads = match read_versions(&ahead, &key, MAX_EPOCH_BYTES as u64, &decode) {
            Err(error) if error.kind() == Kind::NotFound => continue,
            other => other?,
        };
        if heads.iter().any(|head| head.key == root) {
            found.insert(id);
        }
    }
    Ok(found)
}

/// The epochs that are there, by their first object or the copy, with the bytes of the larger. Other names are passed over.
fn listed(store: &dyn ObjectStore) -> Result<BTreeMap<EpochId, u64>> {
    let mut found: BTreeMap<EpochId, u64> = BTreeMap::new();
    store.list(Area::Epochs, &mut |listed| {
        if let Ok(id) = listed.name.strip_suffix(COPY).unwrap_or(&listed.name).parse() {
            let size_bytes = found.entry(id).or_default();
            *size_bytes = listed.size_bytes.max(*size_bytes);
        }
    })?;
    Ok(found)
}

fn largest_first(listed: BTreeMap<EpochId, u64>) -> Vec<(EpochId, u64)> {
    let mut listed: Vec<(EpochId, u64)> = listed.into_iter().collect();
    listed.sort_by_key(|(id, size_bytes)| (std::cmp::Reverse(*size_bytes), *id));
    listed
}

/// Which epochs are worth asking for before any of them is open: the largest if it holds others, else the first `most`.
pub(super) fn worth_asking(ahead: &Ahead<'_>, most: usize) -> Vec<Key> {
    let names = ahead.listing(Area::Epochs);
    let mut plain: Vec<_> = names.into_iter().filter(|listed| listed.name.parse::<EpochId>().is_ok()).collect();
    plain.sort_by_key(|listed| std::cmp::Reverse(listed.size_bytes));
    let holds = plain.first().is_some_and(|largest| largest.size_bytes > HOLDER_BYTES);
    let wanted = if holds { 1 } else { most };
    plain.into_iter().take(wanted).map(|listed| Key::new(Area::Epochs, listed.name)).collect()
}

/// The plain keys of all epochs, each once.
pub fn names(store: &dyn ObjectStore) -> Result<BTreeSet<Key>> {
    Ok(listed(store)?.into_keys().map(epoch_key).collect())
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

/// Writes an epoch anew, and its copy, where neither opens any more.
pub(super) fn save_again(
    store: &dyn ObjectStore,
    repository: RepositoryId,
    root: &RootKey,
    epoch: &Epoch,
) -> Result<()> {
    let object = envelope::seal(ObjectKind::Epoch, repository, root.key_id(), &root.epoch_key(), &epoch.to_cbor());
    super::twice::put_back(store, &epoch_key(epoch.id), &object)
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
    let epoch = Epoch { before: to_hold(&loaded.epochs), ..epoch };
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
