//! Exchanging the root key: a new one is granted to every slot, without anybody's passphrase.
//!
//! Slots, epochs and config name the root key that they belong to; the config says which one counts. What a crash
//! after each line leaves:
//!
//! | after | there is |
//! | --- | --- |
//! | some new slots and epochs | the old root key counts; what is new belongs to a root key that no config names: it goes a day later, with the next exchange |
//! | `config.NNNNNNNNNN` of the next revision | the old one counts; any machine goes on from here, and nobody can begin another exchange |
//! | `config.copy`, then `config` replaced | the new one counts: of two configs the one with the higher revision does |
//! | some old slots and epochs removed | nobody uses them; the next exchange or any machine that goes on removes the rest |
//!
//! Slots and epochs are not changed but written anew under names of their own, which say what they replace; an old one
//! is removed only when its successor is there. A slot is written anew from what it shows and from the grant key that
//! the old root key opens, so a slot that somebody put in, or whose public half was exchanged, gets nothing.
//!
//! Whoever adds or removes a slot or opens an epoch at the same time looks afterwards whether an exchange has begun
//! ([`refuse_while_exchanged`]), and the exchange looks for what was added after its record was put. So of two, one
//! sees the other.

use super::ahead::{Ahead, Answers};
use super::error::{Error, Result};
use super::slots::{self, Granted, StoredSlot};
use super::{Keyring, Repository, clients, config_key, copy_of, epochs, index, keyring};
use crate::base::{EpochId, KeyId, Kind, RepositoryId, SlotId};
use crate::crypto::keys::RootKey;
use crate::crypto::slots::Unlock;
use crate::format::config::{self, Config, StoredConfig};
use crate::format::keys::Epoch;
use crate::store::{Area, Key, ObjectStore, Put};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// What belongs to a root key that no config names stays this long, by the store's clock: somebody may be at it.
const ABANDONED_AFTER_NS: i64 = 24 * 3600 * 1_000_000_000;

/// The root key was exchanged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Exchanged {
    /// The root key that was in use.
    pub old: KeyId,
    /// The one that is.
    pub new: KeyId,
    /// Slots, each with the one that took its place.
    pub slots: Vec<(SlotId, SlotId)>,
    /// Epochs under the new root key.
    pub epochs: u64,
    /// What somebody had begun was brought to its end; nothing new was begun.
    pub resumed: bool,
    /// Slots and epochs of root keys that are no more, removed.
    pub removed: u64,
}

/// The config of a revision before it takes the place of `config`: whoever puts it exchanges the root key.
fn next_key(revision: u64) -> Key {
    Key::new(Area::Config, format!("config.{revision:010}"))
}

/// The revisions whose configs lie there as records of exchanges.
fn recorded(store: &dyn ObjectStore) -> Result<BTreeSet<u64>> {
    let mut revisions = BTreeSet::new();
    store.list(Area::Config, &mut |listed| {
        let digits = listed.name.strip_prefix("config.").filter(|digits| digits.len() >= 10);
        revisions.extend(digits.and_then(|digits| digits.parse::<u64>().ok()));
    })?;
    Ok(revisions)
}

/// The config that counts: the one with the highest revision.
pub(super) fn current_config(store: &dyn ObjectStore) -> Result<StoredConfig> {
    let decode = |bytes: &[u8]| config::decode(bytes).map_err(Error::object("config"));
    let configs = super::read_versions(store, &config_key(), config::MAX_BYTES as u64, &decode)?;
    let newest = configs.into_iter().max_by_key(|stored| stored.config.revision);
    newest.ok_or_else(|| Error::NoRepository(store.location()))
}

/// The config that counts for somebody who has the root key `root`: that of the store, unless no slot belongs to it.
fn counting_config(store: &dyn ObjectStore, root: &RootKey) -> Result<StoredConfig> {
    let current = current_config(store)?;
    if current.root == root.key_id() || slots::list(store)?.iter().any(|stored| stored.root == current.root) {
        return Ok(current);
    }
    Ok(recorded_configs(store)?.into_iter().next().unwrap_or(current))
}

/// The config as it is now, for somebody with the root key.
pub fn proven_config(repository: &Repository) -> Result<Config> {
    let root = repository.keyring().root()?;
    let current = counting_config(&**repository.store(), root)?;
    if current.root != root.key_id() {
        return Err(Error::RootExchanged(repository.store().location()));
    }
    current.prove(root).map_err(Error::object("config"))?;
    Ok(current.config)
}

/// The config that is proven under one of two root keys, for who exchanges them.
fn proven_config_of(store: &dyn ObjectStore, old: &RootKey, new: &RootKey) -> Result<Config> {
    let current = counting_config(store, old)?;
    let root = if current.root == new.key_id() { new } else { old };
    current.prove(root).map_err(Error::object("config"))?;
    Ok(current.config)
}

/// Makes a repository ready for clients that may only write: from then on its config says that there may be some, so that
/// nobody writes there who does not know what that means, and nothing is relied on that nobody vouches for. What is there
/// already must be vouched for.
pub fn prepare_for_clients(repository: &Repository) -> Result<()> {
    let (store, root) = (&**repository.store(), repository.keyring().root()?);
    refuse_while_exchanged(repository)?;
    let config = proven_config(repository)?;
    if !clients::is_prepared(&config) {
        if let Some(object) = index::unvouched(store, repository.keyring())? {
            return Err(Error::Refused(format!(
                "{object} was written by an earlier version, which signed nothing: run `keepstone rebuild-index`, then this \
                 again"
            )));
        }
        let next = clients::prepared(&config);
        put_config(store, &config::encode(&next, root))?;
        refuse_while_exchanged(repository)?;
        if !clients::is_prepared(&proven_config(repository)?) {
            return Err(Error::Refused("somebody else replaced the config meanwhile: run this again".to_owned()));
        }
    }
    repository.keyring().guard();
    Ok(())
}

/// Puts both copies of a config, and reads them back.
fn put_config(store: &dyn ObjectStore, bytes: &[u8]) -> Result<()> {
    for key in [copy_of(&config_key()), config_key()] {
        store.replace(&key, bytes)?;
        if store.get(&key, bytes.len() as u64)? != bytes {
            return Err(Error::damaged(&key, "what was read back is not what was written: check the store"));
        }
    }
    Ok(store.flush(Area::Config)?)
}

/// Fails if another root key than `root` counts by now.
pub fn refuse_other_root(store: &dyn ObjectStore, root: &RootKey) -> Result<()> {
    match counting_config(store, root)?.root == root.key_id() {
        true => Ok(()),
        false => Err(Error::RootExchanged(store.location())),
    }
}

/// Fails if the root key was exchanged since the repository was opened, or if somebody has begun to.
pub fn refuse_while_exchanged(repository: &Repository) -> Result<()> {
    let store = &**repository.store();
    refuse_other_root(store, repository.keyring().root()?)?;
    match pending(repository)? {
        Some(_) => Err(Error::Refused(
            "somebody exchanges the root key of this repository, or was interrupted doing so: wait for it, or bring it \
             to its end with `keepstone key rotate --root`, then run this again and look at `keepstone key list`"
                .to_owned(),
        )),
        None => Ok(()),
    }
}

/// The config of an exchange that was begun and has not got to its end, if there is one.
fn pending(repository: &Repository) -> Result<Option<StoredConfig>> {
    let store = &**repository.store();
    let next = repository.config().revision + 1;
    if !recorded(store)?.contains(&next) {
        return Ok(None);
    }
    let key = next_key(next);
    let bytes = store.get(&key, config::MAX_BYTES as u64)?;
    config::decode(&bytes).map(Some).map_err(Error::object(&key))
}

/// Whether an exchange to the root key in use was interrupted after it came to count.
fn is_untidy(repository: &Repository) -> Result<bool> {
    let store = &**repository.store();
    if !recorded(store)?.contains(&repository.config().revision) {
        return Ok(false);
    }
    let read = |key: &Key| store.get(key, config::MAX_BYTES as u64);
    let differ = match (read(&config_key()), read(&copy_of(&config_key()))) {
        (Ok(first), Ok(second)) => first != second || current_config(store)?.root != repository.root_id(),
        _ => true,
    };
    Ok(differ || !superseded(repository.id(), store, repository.keyring().root()?)?.0.is_empty())
}

/// Exchanges the root key, or brings an exchange to its end that was interrupted. `unlock` is what opened the
/// repository: it proves the new root key before the old one is given up.
///
/// `proven` says of slots when they were last shown to open, where that is known better than the slots say it.
pub fn exchange(repository: &Repository, unlock: &Unlock, proven: &BTreeMap<SlotId, i64>) -> Result<Exchanged> {
    repository.check_writable()?;
    let store = &**repository.store();
    if !(repository.config().store.put_if_absent && repository.config().store.list_after_write) {
        return Err(Error::Refused(format!(
            "{} does not honour put-if-absent or does not list what was just written, so two exchanges of the root key \
             at once could lock everybody out; nothing was changed",
            store.location()
        )));
    }
    let old = repository.keyring().root()?;
    refuse_other_root(store, old)?;
    if let Some(next) = pending(repository)? {
        let new = root_of(repository, &next, unlock)?;
        return Exchange { repository, old, new: &new, proven, resumed: true }.finish(&next.config);
    }
    if is_untidy(repository)? {
        return Exchange { repository, old, new: old, proven, resumed: true }.tidy(old.key_id());
    }
    begin(repository, unlock, proven)
}

/// The new root key of an exchange that somebody else has begun.
fn root_of(repository: &Repository, next: &StoredConfig, unlock: &Unlock) -> Result<RootKey> {
    let slots = slots::list(&**repository.store())?;
    let mut broken = None;
    for stored in slots.iter().filter(|stored| stored.root == next.root) {
        match slots::open(stored, repository.id(), unlock) {
            // A key that only writes brings no exchange to its end.
            Ok(Granted::Client(_)) => {}
            Ok(Granted::Root(root)) => {
                next.prove(&root).map_err(Error::object(next_key(next.config.revision)))?;
                return Ok(root);
            }
            Err(error) if slots::is_wrong_secret(&error) => {}
            Err(error) => broken = Some(error),
        }
    }
    Err(broken.unwrap_or_else(|| {
        Error::Refused(
            "an exchange of the root key was interrupted, and the password or key given here is not among those that \
             it was granted to: run this with another one"
                .to_owned(),
        )
    }))
}

fn begin(repository: &Repository, unlock: &Unlock, proven: &BTreeMap<SlotId, i64>) -> Result<Exchanged> {
    let store = &**repository.store();
    let (old, new) = (repository.keyring().root()?, RootKey::generate());
    let exchange = Exchange { repository, old, new: &new, proven, resumed: false };
    exchange.grant_to_all()?;
    let sealed = exchange.reseal_epochs()?;
    // Whoever had the old root key knows the keys of all epochs so far.
    let fresh = keyring::new_epoch(&new, Some((epochs::newest(&sealed)?, repository.keyring())), repository.now_ns())?;
    let fresh = Epoch { before: epochs::to_hold(&sealed), ..fresh };
    epochs::save(store, repository.id(), &new, &fresh)?;
    exchange.grant_to_clients()?;
    exchange.prove(unlock)?;
    // As it is now: somebody may have prepared the repository for clients since it was opened.
    let config = proven_config(repository)?;
    let next = Config { revision: config.revision + 1, ..config };
    exchange.claim(&next)?;
    exchange.finish(&next)
}

/// An exchange at work: from the root key of the repository, as it was opened, to a new one.
struct Exchange<'r> {
    repository: &'r Repository,
    old: &'r RootKey,
    new: &'r RootKey,
    proven: &'r BTreeMap<SlotId, i64>,
    resumed: bool,
}

impl Exchange<'_> {
    fn store(&self) -> &dyn ObjectStore {
        &**self.repository.store()
    }

    fn old(&self) -> &RootKey {
        self.old
    }

    /// Grants the new root key to every slot that has no successor yet.
    fn grant_to_all(&self) -> Result<()> {
        let stored = slots::list(self.store())?;
        let done: BTreeSet<SlotId> = of_root(&stored, self.new).filter_map(|stored| stored.slot.replaces).collect();
        let mut granted = done.clone();
        let mut failed: BTreeMap<SlotId, Error> = BTreeMap::new();
        let roots = of_root(&stored, self.old()).filter(|old| old.slot.access.is_none());
        for old in roots.filter(|old| !done.contains(&old.slot.id)) {
            // Where its copies differ, the one that holds is the slot.
            if granted.contains(&old.slot.id) {
                continue;
            }
            let proven_ns = self.proven.get(&old.slot.id).copied();
            match slots::grant_anew(self.store(), self.repository.id(), (self.old(), self.new), old, proven_ns) {
                Ok(()) => {
                    granted.insert(old.slot.id);
                }
                Err(error) if error.kind() == Kind::Damaged => {
                    failed.insert(old.slot.id, error);
                }
                Err(error) => return Err(error),
            }
        }
        match failed.into_iter().find(|(id, _)| !granted.contains(id)) {
            None => Ok(()),
            Some((id, error)) => Err(Error::Refused(format!(
                "key {} would be left without the new root key ({error}): mend it with `keepstone key repair`, or remove \
                 it with `keepstone key remove {}`; the old root key stays in use",
                id.short(),
                id.short()
            ))),
        }
    }

    /// Gives every client that may only write what it needs of the new epochs, unless it has got it.
    fn grant_to_clients(&self) -> Result<()> {
        let repository = self.repository.id();
        let epochs = epochs::load(self.store(), repository, self.new)?.whole()?;
        let done = slots::list(self.store())?;
        let done = of_root(&done, self.new).filter_map(|stored| stored.slot.replaces).collect();
        let config = &proven_config_of(self.store(), self.old, self.new)?;
        let giver = clients::Giver { store: self.store(), repository, config, from: self.old, to: self.new };
        giver.renew(&epochs, &done).map(drop)
    }

    /// Seals every epoch under the new root key that is not yet; gives all that are there.
    fn reseal_epochs(&self) -> Result<Vec<Epoch>> {
        let repository = self.repository.id();
        let mut sealed = epochs::load(self.store(), repository, self.new)?.whole()?;
        let done: BTreeSet<EpochId> = sealed.iter().filter_map(|epoch| epoch.replaces).collect();
        let mut epochs = epochs::load(self.store(), repository, self.old())?.whole()?;
        epochs.sort_by_key(|epoch| (epoch.number, epoch.id));
        for epoch in epochs {
            if !done.contains(&epoch.id) {
                let anew = keyring::reseal_epoch(self.old(), self.new, &epoch)?;
                let anew = Epoch { before: epochs::to_hold(&sealed), ..anew };
                epochs::save(self.store(), repository, self.new, &anew)?;
                sealed.push(anew);
            }
        }
        Ok(sealed)
    }

    /// Opens everything under the new root key as somebody will who knows nothing but his secret.
    fn prove(&self, unlock: &Unlock) -> Result<()> {
        let stored = slots::list(self.store())?;
        let opens = of_root(&stored, self.new).any(|stored| {
            let opened = slots::open(stored, self.repository.id(), unlock);
            opened.is_ok_and(|granted| matches!(granted, Granted::Root(root) if root.key_id() == self.new.key_id()))
        });
        if !opens {
            return Err(Error::damaged("the new key slots", "none of them opens: the old root key stays in use"));
        }
        self.prove_epochs()
    }

    /// Every class key that is known under the old root key is there under the new one.
    fn prove_epochs(&self) -> Result<()> {
        let repository = self.repository.id();
        let before = epochs::load(self.store(), repository, self.old())?.whole()?;
        let after = epochs::load(self.store(), repository, self.new)?.whole()?;
        let keyring = Keyring::new(repository, self.new.clone(), &after)?;
        let probe = b"the same names as before";
        let same_names = keyring.naming().blob_id(probe) == self.repository.keyring().naming().blob_id(probe);
        if same_names && epochs::all_known(&before, &keyring) {
            return Ok(());
        }
        Err(Error::damaged("the new key epochs", "they lack a key of the old ones: the old root key stays in use"))
    }

    /// Puts the record of the exchange. Of two machines only one can.
    fn claim(&self, next: &Config) -> Result<()> {
        let key = next_key(next.revision);
        let bytes = config::encode(next, self.new);
        let put = self.store().put(&key, &bytes)?;
        // It may be our own, whose answer was lost on the way.
        let ours = put == Put::Stored || self.store().get(&key, config::MAX_BYTES as u64)? == bytes;
        if !ours {
            return Err(Error::Refused(
                "somebody else exchanges the root key just now: nothing was changed here".to_owned(),
            ));
        }
        // Who slept since it was opened may come after an exchange whose record is gone.
        if let Err(error) = refuse_other_root(self.store(), self.old()) {
            self.store().delete(&key)?;
            return Err(error);
        }
        Ok(())
    }

    /// From the record to the end: what came late, the config, and taking the old away.
    fn finish(&self, next: &Config) -> Result<Exchanged> {
        let old = self.old().key_id();
        self.grant_to_all()?;
        self.drop_removed()?;
        self.reseal_epochs()?;
        self.grant_to_clients()?;
        self.prove_epochs()?;
        self.switch(next)?;
        // An epoch that was opened just before, by somebody who has not looked yet, is not lost.
        self.reseal_epochs()?;
        self.tidy(old)
    }

    /// A slot that was removed meanwhile is removed here too.
    fn drop_removed(&self) -> Result<()> {
        let stored = slots::list(self.store())?;
        let there = super::twice::names_twice(self.store(), Area::Keys)?;
        // Had somebody else got to the end, the old slots would be gone for another reason.
        refuse_other_root(self.store(), self.old())?;
        for slot in of_root(&stored, self.new).map(|stored| &stored.slot) {
            if slot.replaces.is_some_and(|old| !there.contains(&slots::slot_key(old))) {
                slots::remove(self.store(), slot.id)?;
            }
        }
        Ok(())
    }

    fn switch(&self, next: &Config) -> Result<()> {
        // Stores cannot replace on a condition: the look comes as late as it can. Were this process to sleep right
        // here until the root key has been exchanged twice, opening would still find the record of the later one.
        refuse_other_root(self.store(), self.old())?;
        put_config(self.store(), &config::encode(next, self.new))
    }

    /// Takes away what has a successor, and what was abandoned.
    fn tidy(&self, old: KeyId) -> Result<Exchanged> {
        let store = self.store();
        let current = counting_config(store, self.new)?;
        if current.root != self.new.key_id() {
            return Err(Error::RootExchanged(store.location()));
        }
        current.prove(self.new).map_err(Error::object("config"))?;
        self.copy_config(&current.config)?;
        let (replaced, abandoned) = superseded(self.repository.id(), store, self.new)?;
        for key in replaced.iter().chain(&abandoned) {
            store.delete(&copy_of(key))?;
            store.delete(key)?;
        }
        // A root key that is no more must not open anything again after a power cut.
        store.flush(Area::Keys)?;
        store.flush(Area::Epochs)?;
        for revision in recorded(store)?.into_iter().filter(|revision| *revision < current.config.revision) {
            store.delete(&next_key(revision))?;
        }
        let stored = slots::list(store)?;
        let slots = of_root(&stored, self.new).filter_map(|stored| Some((stored.slot.replaces?, stored.slot.id)));
        let slots: BTreeMap<SlotId, SlotId> = slots.collect();
        Ok(Exchanged {
            old,
            new: self.new.key_id(),
            slots: slots.into_iter().collect(),
            epochs: epochs::load(store, self.repository.id(), self.new)?.whole()?.len() as u64,
            resumed: self.resumed,
            removed: (replaced.len() + abandoned.len()) as u64,
        })
    }

    /// Both copies say the same.
    fn copy_config(&self, config: &Config) -> Result<()> {
        let bytes = config::encode(config, self.new);
        for key in [copy_of(&config_key()), config_key()] {
            if self.store().get(&key, config::MAX_BYTES as u64).ok().as_deref() != Some(&bytes[..]) {
                self.store().replace(&key, &bytes)?;
            }
        }
        Ok(())
    }
}

fn of_root<'s>(slots: &'s [StoredSlot], root: &RootKey) -> impl Iterator<Item = &'s StoredSlot> + use<'s> {
    let root = root.key_id();
    slots.iter().filter(move |stored| stored.root == root)
}

/// Slots and epochs of other root keys than `root`: those that have a successor under it, and others that were abandoned
/// a day ago. Epochs come last, since without slots nobody opens them.
fn superseded(repository: RepositoryId, store: &dyn ObjectStore, root: &RootKey) -> Result<(Vec<Key>, Vec<Key>)> {
    let mut stored_at = BTreeMap::new();
    for area in [Area::Keys, Area::Epochs] {
        store.list(area, &mut |listed| {
            // Whoever was stopped may have left only the copy.
            let name = listed.name.strip_suffix(super::COPY).unwrap_or(&listed.name);
            stored_at.insert(Key::new(area, name), listed.stored_at.as_nanosecond() as i64);
        })?;
    }
    let newest_ns = stored_at.values().max().copied().unwrap_or(0);
    let abandoned = |key: &Key| stored_at.get(key).is_some_and(|at| newest_ns - at > ABANDONED_AFTER_NS);
    let slots = slots::list(store)?;
    let replaced: BTreeSet<SlotId> = of_root(&slots, root).filter_map(|stored| stored.slot.replaces).collect();
    let foreign = slots.iter().filter(|stored| stored.root != root.key_id()).map(|stored| stored.slot.id);
    let foreign: BTreeSet<SlotId> = foreign.collect();
    let slots = foreign.into_iter().map(|id| (slots::slot_key(id), replaced.contains(&id)));
    let epochs = epochs::load(store, repository, root)?.whole()?;
    let replaced: BTreeSet<Key> = epochs.iter().filter_map(|epoch| epoch.replaces).map(epochs::epoch_key).collect();
    let own: BTreeSet<Key> = epochs.iter().map(|epoch| epochs::epoch_key(epoch.id)).collect();
    let foreign = epochs::names(store)?.into_iter().filter(|key| !own.contains(key));
    let epochs = foreign.map(|key| {
        let is_replaced = replaced.contains(&key);
        (key, is_replaced)
    });
    let (replaced, others): (Vec<_>, Vec<_>) = slots.chain(epochs).partition(|(_, replaced)| *replaced);
    let keys = |of: Vec<(Key, bool)>| of.into_iter().map(|(key, _)| key);
    Ok((keys(replaced).collect(), keys(others).filter(abandoned).collect()))
}

/// The configs of exchanges that are recorded, the latest first: one of them counts if no slot belongs to `config` any
/// more, because a machine that slept put an old one back.
pub(super) fn recorded_configs(store: &dyn ObjectStore) -> Result<Vec<StoredConfig>> {
    let mut configs = Vec::new();
    for revision in recorded(store)?.into_iter().rev() {
        let key = next_key(revision);
        let bytes = store.get(&key, config::MAX_BYTES as u64)?;
        configs.push(config::decode(&bytes).map_err(Error::object(&key))?);
    }
    Ok(configs)
}

/// The keys of a repository. Fails with [`Error::RootExchanged`] if that happened while it was opened.
pub(super) fn open_keyring(
    store: &Arc<dyn ObjectStore>,
    ahead: Answers,
    repository: RepositoryId,
    root: RootKey,
) -> Result<Arc<Keyring>> {
    let loaded = epochs::load(&Ahead::with(&**store, ahead), repository, &root)?;
    if loaded.foreign {
        refuse_other_root(&**store, &root)?;
    }
    Ok(Arc::new(Keyring::new(repository, root, &loaded.epochs)?.with_store(store.clone())))
}
