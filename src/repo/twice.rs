//! What lies in the store twice: config, key slots and epochs. Which of two copies is right, what of them is lost, and
//! what comes back: from the other copy, from a later epoch, from a mirror.

use super::copies::{self, Mended, Standing, Verdict, Written};
use super::error::{Error, Result};
use super::{COPY, Repository, config_key, copy_of, epochs, slots};
use crate::base::{EpochId, Kind, RepositoryId, SlotId};
use crate::crypto::keys::RootKey;
use crate::crypto::slots::Unlock;
use crate::format::config;
use crate::format::keys::{MAX_EPOCH_BYTES, MAX_SLOT_BYTES};
use crate::store::{Area, Key, ObjectStore};
use std::collections::{BTreeMap, BTreeSet};

/// The most bytes of any of them.
const MAX_TWICE_BYTES: usize = 64 << 10;

/// Mends one copy of everything that lies in the store twice with the other, as far as `unlock` and the root key tell
/// which is right; gives what was written, and what was left and why.
pub fn mend_copies(repository: &Repository, unlock: &Unlock) -> Result<Written> {
    let (store, root) = (&*repository.store, repository.keyring.root()?);
    let (mut written, mut left) = (Vec::new(), Vec::new());
    let mut take = |key: Key, mended: Mended| match mended {
        Mended::Alike => {}
        Mended::Written(key) => written.push(key),
        Mended::Left(reason) => left.push((key, reason)),
    };
    let judge = |bytes: &[u8]| judge_config(bytes, root);
    take(config_key(), copies::mend(store, &config_key(), config::MAX_BYTES as u64, &judge)?);
    for (key, mended) in mend_epochs(repository, root)? {
        take(key, mended);
    }
    for key in names_twice(store, Area::Keys)? {
        let judge = |bytes: &[u8]| slots::judge(&key, bytes, repository.id(), root.key_id(), unlock);
        take(key.clone(), copies::mend(store, &key, MAX_SLOT_BYTES as u64, &judge)?);
    }
    Ok((written, left))
}

/// Mends epochs: with their copies, and where there is none that opens, with what a later one holds.
fn mend_epochs(repository: &Repository, root: &RootKey) -> Result<Vec<(Key, Mended)>> {
    let store = &*repository.store;
    let loaded = epochs::load(store, repository.id(), root)?;
    let held = |key: &Key| loaded.epochs.iter().find(|epoch| epochs::epoch_key(epoch.id) == *key);
    let mut all = Vec::new();
    for key in epochs::names(store)? {
        let judge = |bytes: &[u8]| judge_epoch(&key, bytes, repository.id(), root);
        let mut mended = copies::mend(store, &key, MAX_EPOCH_BYTES as u64, &judge)?;
        // One that is known opens under this root key, so neither object says what it should.
        if let Some(epoch) = held(&key).filter(|_| !epochs::is_there(store, &key, repository.id(), root)) {
            epochs::save_again(store, repository.id(), root, epoch)?;
            mended = Mended::Written(key.clone());
        }
        all.push((key, mended));
    }
    for epoch in loaded.epochs.iter().filter(|epoch| loaded.lost.contains(&epoch.id)) {
        epochs::save(store, repository.id(), root, epoch)?;
        let key = epochs::epoch_key(epoch.id);
        all.extend([(key.clone(), Mended::Written(copy_of(&key))), (key.clone(), Mended::Written(key))]);
    }
    Ok(all)
}

/// The plain keys of an area whose objects lie there twice, each once. Names that no slot and no epoch has are passed over.
pub(super) fn names_twice(store: &dyn ObjectStore, area: Area) -> Result<BTreeSet<Key>> {
    let mut keys = BTreeSet::new();
    store.list(area, &mut |listed| {
        keys.extend(plain_name(area, &listed.name).map(|name| Key::new(area, name)));
    })?;
    Ok(keys)
}

/// What the first object is called of that which lies twice in this area under this name; none for names that nobody gives.
pub fn plain_name(area: Area, name: &str) -> Option<&str> {
    let plain = name.strip_suffix(COPY).unwrap_or(name);
    let is_ours = match area {
        Area::Config => plain == "config",
        Area::Keys => plain.parse::<SlotId>().is_ok(),
        Area::Epochs => plain.parse::<EpochId>().is_ok(),
        _ => false,
    };
    is_ours.then_some(plain)
}

/// What [`mend_copies`] would leave as it is, by the plain key, and why. Nothing is written.
pub fn beyond_mending(repository: &Repository, unlock: &Unlock) -> Result<BTreeMap<Key, String>> {
    let (store, root) = (&*repository.store, repository.keyring.root()?);
    let known = epochs::load(store, repository.id(), root)?.epochs;
    let mut left = BTreeMap::new();
    for area in [Area::Config, Area::Keys, Area::Epochs] {
        for key in names_twice(store, area)? {
            // What is known of an epoch is written anew if need be.
            let is_known = known.iter().any(|epoch| epochs::epoch_key(epoch.id) == key);
            let judge = |bytes: &[u8]| judge(&key, bytes, repository, root, unlock);
            match copies::compare(store, &key, MAX_TWICE_BYTES as u64, &judge)? {
                Standing::Undecided(reason) if !is_known => drop(left.insert(key, reason)),
                _ => {}
            }
        }
    }
    Ok(left)
}

/// What a mirror still has of key slots and epochs of which nothing that makes sense is left here: each plain key with the
/// bytes that both its objects should have.
pub fn lost_here(repository: &Repository, mirror: &Repository, unlock: &Unlock) -> Result<BTreeMap<Key, Vec<u8>>> {
    let root = repository.keyring.root()?;
    let mut found = BTreeMap::new();
    let known = epochs::load(&*repository.store, repository.id(), root)?.epochs;
    for key in epochs::names(&*mirror.store)? {
        let is_known = known.iter().any(|epoch| epochs::epoch_key(epoch.id) == key);
        if !is_known && !is_anything(repository, &key, unlock)? {
            found.extend(proven_in(mirror, repository, &key, unlock)?.map(|bytes| (key, bytes)));
        }
    }
    // A slot that is not here was removed, for all that is known.
    for key in names_twice(&*repository.store, Area::Keys)? {
        if !is_anything(repository, &key, unlock)? {
            found.extend(proven_in(mirror, repository, &key, unlock)?.map(|bytes| (key, bytes)));
        }
    }
    Ok(found)
}

/// Whether the object or its copy makes sense.
fn is_anything(repository: &Repository, key: &Key, unlock: &Unlock) -> Result<bool> {
    let root = repository.keyring.root()?;
    for key in [key.clone(), copy_of(key)] {
        match repository.store.get(&key, MAX_TWICE_BYTES as u64) {
            Ok(bytes) if matches!(judge(&key, &bytes, repository, root, unlock), Verdict::Damaged(_)) => {}
            Ok(_) => return Ok(true),
            Err(error) if matches!(error.kind(), Kind::NotFound | Kind::Damaged) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(false)
}

/// What the mirror has under `key` or as its copy, if it is what belongs there.
fn proven_in(mirror: &Repository, repository: &Repository, key: &Key, unlock: &Unlock) -> Result<Option<Vec<u8>>> {
    let root = repository.keyring.root()?;
    for at in [key.clone(), copy_of(key)] {
        match mirror.store.get(&at, MAX_TWICE_BYTES as u64) {
            Ok(bytes) => match judge(key, &bytes, repository, root, unlock) {
                Verdict::Proven(_) | Verdict::Sound => return Ok(Some(bytes)),
                Verdict::Damaged(_) | Verdict::Foreign => {}
            },
            Err(error) if matches!(error.kind(), Kind::NotFound | Kind::Damaged) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(None)
}

/// Writes an object and its copy anew, and reads both back.
pub fn put_back(store: &dyn ObjectStore, key: &Key, bytes: &[u8]) -> Result<()> {
    for key in [copy_of(key), key.clone()] {
        store.replace(&key, bytes)?;
        if store.get(&key, bytes.len() as u64)? != bytes {
            return Err(Error::damaged(&key, "what was read back is not what was written: check the disk"));
        }
    }
    Ok(())
}

/// Takes in the keys of epochs that come from a mirror, so that what is sealed under them can be read.
pub fn learn(repository: &Repository, objects: &BTreeMap<Key, Vec<u8>>) -> Result<()> {
    let root = repository.keyring.root()?;
    let mut found = Vec::new();
    for (key, bytes) in objects.iter().filter(|(key, _)| key.area() == Area::Epochs) {
        found.extend(epochs::open(key, bytes, repository.id(), root)?);
    }
    repository.keyring.learn(&found)
}

/// The plain keys of those of which only the copy is among the `listed`: it is put first, so whoever was stopped between the
/// two leaves this. Whoever removes one takes the copy first.
pub(super) fn halves(listed: &BTreeSet<Key>) -> Vec<Key> {
    let copies = listed.iter().filter(|key| key.name().ends_with(COPY));
    let plain = copies.filter_map(|key| Some(Key::new(key.area(), plain_name(key.area(), key.name())?)));
    plain.filter(|key| !listed.contains(key)).collect()
}

/// Puts the missing half beside what somebody stored who was stopped before he put it, as far as this root key tells.
pub(super) fn complete(repository: &Repository) -> Result<()> {
    for key in &repository.halves {
        let Ok(root) = repository.keyring.root() else { return Ok(()) };
        let judge = |bytes: &[u8]| match key.area() {
            Area::Epochs => judge_epoch(key, bytes, repository.id(), root),
            _ => slots::judge_unopened(key, bytes, root.key_id()),
        };
        let own = |bytes: &[u8]| match judge(bytes) {
            Verdict::Foreign => Verdict::Damaged("it is for others".to_owned()),
            verdict => verdict,
        };
        copies::mend(&*repository.store, key, MAX_TWICE_BYTES as u64, &own)?;
    }
    Ok(())
}

/// What can be said of `bytes` that lie at `key`.
fn judge(key: &Key, bytes: &[u8], repository: &Repository, root: &RootKey, unlock: &Unlock) -> Verdict {
    let plain = Key::new(key.area(), key.name().strip_suffix(COPY).unwrap_or(key.name()));
    match key.area() {
        Area::Config => judge_config(bytes, root),
        Area::Epochs => judge_epoch(&plain, bytes, repository.id(), root),
        _ => slots::judge(&plain, bytes, repository.id(), root.key_id(), unlock),
    }
}

fn judge_config(bytes: &[u8], root: &RootKey) -> Verdict {
    match config::decode(bytes) {
        Ok(stored) if stored.prove(root).is_ok() => Verdict::Proven(stored.config.revision),
        Ok(_) => Verdict::Damaged("it is not proven by the root key".to_owned()),
        Err(error) if error.kind() == Kind::Unsupported => Verdict::Foreign,
        Err(error) => Verdict::Damaged(error.to_string()),
    }
}

fn judge_epoch(key: &Key, bytes: &[u8], repository: RepositoryId, root: &RootKey) -> Verdict {
    match epochs::open(key, bytes, repository, root) {
        Ok(Some(_)) => Verdict::Proven(0),
        Ok(None) => Verdict::Foreign,
        Err(error) if error.kind() == Kind::Unsupported => Verdict::Foreign,
        Err(error) => Verdict::Damaged(error.to_string()),
    }
}
