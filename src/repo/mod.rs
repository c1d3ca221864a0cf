//! The vault: keyring, sessions, packs, index, trees, snapshots.
//!
//! `Repository` is a plain type that hands out its parts; a `SealedRepository` is one whose keys are not known yet.
//! Nothing in here knows a file system tree or a database.

pub mod ahead;
pub mod base_cache;
pub mod blob_reader;
pub mod blob_writer;
pub mod clients;
pub mod copies;
pub mod damage;
pub mod epochs;
pub mod error;
pub mod history;
pub mod index;
pub mod keyring;
pub mod ledger;
pub mod pack_cache;
pub mod pack_reader;
pub mod pack_writer;
pub mod parity;
pub mod remembered;
pub mod roots;
pub mod runs;
pub mod session;
pub mod slots;
pub mod snapshots;
pub mod trees;
pub mod twice;

pub use error::{Error, Result};
pub use keyring::Keyring;
pub use session::Session;
pub use twice::mend_copies;

use crate::base::{Clock, KeyId, Machine, RepositoryId, SlotId, random};
use crate::chunk::{Chunker, Sizes};
use crate::crypto::keys::RootKey;
use crate::crypto::slots::{GuardKind, Unlock};
use crate::format::cbor::Unknown;
use crate::format::config::{self, ChunkerConfig, Config, StoreConfig, StoredConfig};
use crate::format::keys::{Epoch, MAX_EPOCH_BYTES, MAX_SLOT_BYTES};
use crate::store::{Area, Key, ObjectStore, Put, probe};
use ahead::{Ahead, Answers};
use pack_cache::PackCache;
use slots::{Client, Granted, StoredSlot};
use std::collections::BTreeSet;
use std::sync::Arc;

/// Reader features that this version has.
const READER_FEATURES: &[&str] = &[];
/// Writer features that this version has.
const WRITER_FEATURES: &[&str] = &[clients::FEATURE];
/// The feature of repositories that were made before the format was frozen.
const DRAFT: &str = "v1-draft";
/// What could be read, and what could not, by name.
pub type Readable<T, N> = (Vec<T>, Vec<(N, Error)>);

/// What the second copy of an object is called.
const COPY: &str = ".copy";
/// Key slots, and epochs, that are asked for together; what there is beyond is read one by one.
const KEY_OBJECTS: usize = 256;

/// A repository whose keys are not known yet.
pub struct SealedRepository {
    store: Arc<dyn ObjectStore>,
    /// The first of which is used, and its copy where the two differ. Which is right shows when one is unlocked.
    config: StoredConfig,
    copy: Option<StoredConfig>,
    /// Names of key slots, of epochs and of their copies.
    listed: BTreeSet<Key>,
    /// Key slots and epochs, which come next.
    ahead: Answers,
}

/// An unlocked repository.
pub struct Repository {
    store: Arc<dyn ObjectStore>,
    config: Config,
    root_id: KeyId,
    keyring: Arc<Keyring>,
    clock: Clock,
    machine: Machine,
    slot: SlotId,
    vouched: bool,
    /// What is kept at hand of a remote store.
    metadata: Option<Arc<PackCache>>,
    /// What a client keeps of what it stored itself, if it may only write.
    own: Option<Arc<index::OwnCache>>,
    /// The newest run records of this machine.
    newest_runs: runs::Remembered,
    /// Key slots and epochs of which only the copy was there.
    halves: Vec<Key>,
}

fn config_key() -> Key {
    Key::new(Area::Config, "config")
}

/// The key of the second copy.
fn copy_of(key: &Key) -> Key {
    Key::new(key.area(), format!("{}{COPY}", key.name()))
}

/// Stores an object and its copy, and reads both back.
fn write_twice(store: &dyn ObjectStore, key: &Key, bytes: &[u8]) -> Result<()> {
    for key in [copy_of(key), key.clone()] {
        // Somebody may have completed the pair with the copy just put: that reads back alike.
        let there_before = store.put(&key, bytes)? == Put::Existed;
        match store.get(&key, MAX_SLOT_BYTES.max(bytes.len()) as u64)? {
            read if read == bytes => {}
            _ if there_before => return Err(Error::damaged(&key, "an object of this random name is there already")),
            _ => return Err(Error::damaged(&key, "what was read back is not what was written: check the disk")),
        }
    }
    Ok(())
}

/// Reads an object and its copy: what can be read and understood, the object first; only one where both are alike. A
/// damaged one may still be well formed, so whoever can prove what it says goes on to the next when it is not so.
fn read_versions<T>(
    store: &dyn ObjectStore,
    key: &Key,
    limit_bytes: u64,
    decode: &dyn Fn(&[u8]) -> Result<T>,
) -> Result<Vec<T>> {
    let mut objects = Vec::new();
    let mut errors = Vec::new();
    for key in [key.clone(), copy_of(key)] {
        match store.get(&key, limit_bytes) {
            Ok(bytes) if objects.contains(&bytes) => {}
            Ok(bytes) => objects.push(bytes),
            Err(error) => errors.push(Error::from(error)),
        }
    }
    let mut versions = Vec::new();
    for bytes in &objects {
        match decode(bytes) {
            Ok(version) => versions.push(version),
            Err(error) => errors.push(error),
        }
    }
    // That one of the two is missing says less than what is wrong with the other.
    errors.sort_by_key(|error| error.kind() == crate::base::Kind::NotFound);
    match (versions.is_empty(), errors.into_iter().next()) {
        (true, Some(error)) => Err(error),
        _ => Ok(versions),
    }
}

impl SealedRepository {
    /// Finds the repository in `store` and reads its public description.
    pub fn open(store: Arc<dyn ObjectStore>) -> Result<SealedRepository> {
        let limit = config::MAX_BYTES as u64;
        let decode = |bytes: &[u8]| config::decode(bytes).map_err(Error::object("config"));
        let ahead = Ahead::new(&*store);
        ahead.ask(&[(config_key(), limit), (copy_of(&config_key()), limit)], &[Area::Keys, Area::Epochs]);
        let mut configs = read_versions(&ahead, &config_key(), limit, &decode).map_err(|error| match error.kind() {
            crate::base::Kind::NotFound => not_there(&*store),
            _ => error,
        })?;
        if ahead.listing(Area::Epochs).is_empty() {
            ahead.list_now(&[Area::Keys, Area::Epochs]);
        }
        let of = |area: Area| ahead.listing(area).into_iter().map(move |listed| Key::new(area, listed.name));
        let listed = of(Area::Keys).chain(of(Area::Epochs)).collect();
        // Their copies are needed only where something is wrong with them.
        let slots = ahead.listing(Area::Keys).into_iter().filter(|listed| !listed.name.ends_with(COPY));
        let slots = slots.map(|listed| (Key::new(Area::Keys, listed.name), MAX_SLOT_BYTES as u64)).take(KEY_OBJECTS);
        let epochs = epochs::worth_asking(&ahead, KEY_OBJECTS).into_iter().map(|key| (key, MAX_EPOCH_BYTES as u64));
        ahead.ask(&slots.chain(epochs).collect::<Vec<_>>(), &[]);
        let ahead = ahead.into_answers();
        // Who replaces it may have been stopped between the two.
        configs.sort_by_key(|stored| std::cmp::Reverse(stored.config.revision));
        let unknown = |stored: &StoredConfig| {
            let mut features = stored.config.reader_features.iter();
            features.find(|feature| !READER_FEATURES.contains(&feature.as_str())).cloned()
        };
        let feature = configs.first().and_then(unknown);
        let mut configs = configs.into_iter().filter(|stored| unknown(stored).is_none());
        match configs.next() {
            Some(config) => {
                store.introduce(config.config.repository, config.config.store.put_if_absent);
                Ok(SealedRepository { store, config, copy: configs.next(), listed, ahead })
            }
            None => match feature.unwrap_or_default() {
                feature if feature == DRAFT => Err(Error::Draft(store.location())),
                feature => Err(Error::Feature { location: store.location(), feature }),
            },
        }
    }

    /// The repository's id.
    pub fn id(&self) -> RepositoryId {
        self.config.config.repository
    }

    /// The repository's id and public settings, not proven yet.
    pub fn config(&self) -> &Config {
        &self.config.config
    }

    /// The store.
    pub fn store(&self) -> &Arc<dyn ObjectStore> {
        &self.store
    }

    /// Opens it with the first slot that `unlock` opens. Config and slots are tried in both their copies where these
    /// differ: damage that leaves an object well formed shows only here.
    pub fn unlock(self, unlock: &Unlock, clock: Clock) -> Result<Repository> {
        let (store, revision) = (self.store.clone(), self.config.config.revision);
        let error = match self.try_unlock(unlock, clock.clone()) {
            Err(error @ (Error::RootExchanged(_) | Error::NoSlotOpens { .. })) => error,
            other => return other,
        };
        // Somebody may have exchanged the root key between our look at the config and that at the slots.
        let again = SealedRepository::open(store.clone())?;
        let done = match error {
            Error::NoSlotOpens { .. } if again.config.config.revision == revision => Err(error),
            _ => again.try_unlock(unlock, clock),
        };
        match done {
            Err(Error::NoSlotOpens { slots: 0, location }) => Err(no_slot_tried(&*store, location)),
            done => done,
        }
    }

    fn try_unlock(mut self, unlock: &Unlock, clock: Clock) -> Result<Repository> {
        let ahead = Ahead::with(&*self.store, std::mem::take(&mut self.ahead));
        let slots = slots::list_once(&ahead)?;
        let ahead = ahead.into_answers();
        let opened = self.open_slot(&self.config, &slots, unlock);
        if let Ok(opened) = opened {
            return self.unlocked(opened, ahead, clock);
        }
        // Where two copies of a slot differ the other one may be right. Not tried for nothing: a wrong passphrase is
        // stretched for each slot that is tried.
        let slots = slots::list(&*self.store)?;
        let first = match opened {
            Err(error) if !slots.iter().any(StoredSlot::has_other) => error,
            _ => match self.open_slot(&self.config, &slots, unlock) {
                Ok(opened) => return self.unlocked(opened, ahead, clock),
                Err(error) => error,
            },
        };
        let recorded = match first {
            Error::NoSlotOpens { slots: 0, .. } => roots::recorded_configs(&*self.store)?,
            _ => Vec::new(),
        };
        for config in self.copy.take().into_iter().chain(recorded) {
            if let Ok(opened) = self.open_slot(&config, &slots, unlock) {
                return SealedRepository { config, ..self }.unlocked(opened, ahead, clock);
            }
        }
        Err(first)
    }

    fn unlocked(
        self,
        (granted, slot, vouched): (Granted, SlotId, bool),
        ahead: Answers,
        clock: Clock,
    ) -> Result<Repository> {
        let root_id = self.config.root;
        let config = self.config.config;
        let halves = twice::halves(&self.listed);
        let keyring = match granted {
            Granted::Root(root) => roots::open_keyring(&self.store, ahead, config.repository, root)?,
            Granted::Client(client) => {
                let known = client.credential.known_epochs();
                let there = epochs::names_under(&Ahead::with(&*self.store, ahead), root_id, &known)?;
                client.credential.check_epochs(&there, &self.store.location())?;
                let is_there = |epoch| there.contains(&epoch);
                Arc::new(Keyring::of_client(config.repository, &client.credential, &is_there, client.cache)?)
            }
        };
        if clients::is_prepared(&config) {
            keyring.guard();
        }
        Ok(Repository {
            store: self.store,
            config,
            root_id,
            keyring,
            clock,
            machine: Machine::this(),
            slot,
            vouched,
            metadata: None,
            own: None,
            newest_runs: runs::Remembered::default(),
            halves,
        })
    }

    /// What the first slot grants that `unlock` opens, which has to prove the config too; the slot, and whether its grant
    /// says that it was made by somebody who had the root key.
    fn open_slot(
        &self,
        config: &StoredConfig,
        slots: &[StoredSlot],
        unlock: &Unlock,
    ) -> Result<(Granted, SlotId, bool)> {
        let mut tried = BTreeSet::new();
        let mut broken = None;
        let mut best: Option<(Box<Client>, SlotId)> = None;
        for stored in slots.iter().filter(|stored| stored.root == config.root) {
            if best.is_some() && stored.slot.access.is_none() {
                continue;
            }
            tried.insert(stored.slot.id);
            match slots::open(stored, config.config.repository, unlock) {
                Ok(Granted::Root(root)) => {
                    config.prove(&root).map_err(Error::object("config"))?;
                    return Ok((Granted::Root(root), stored.slot.id, slots::is_vouched(stored)));
                }
                // A slot that was renewed is there twice for a moment: the one with more epochs is the newer.
                Ok(Granted::Client(client)) => {
                    let epochs = |(client, _): &(Box<Client>, SlotId)| client.credential.newest();
                    let this = (client, stored.slot.id);
                    best = Some(best.take().filter(|best| epochs(best) >= epochs(&this)).unwrap_or(this));
                }
                Err(error) if slots::is_wrong_secret(&error) => {}
                Err(error) => broken = Some(error),
            }
        }
        if let Some((client, slot)) = best {
            // It has no key to prove the config with: what it was granted says what the config is.
            if client.credential.config != config.config.digest() {
                return Err(Error::object("config")(crate::format::Error::Forged { what: "config" }));
            }
            return Ok((Granted::Client(client), slot, true));
        }
        let slots = tried.len();
        Err(broken.unwrap_or(Error::NoSlotOpens { slots, location: self.store.location() }))
    }
}

/// Why there was no slot that a password or key could have been tried with: then it is not that which is wrong.
fn no_slot_tried(store: &dyn ObjectStore, location: String) -> Error {
    match slots::list_once(store).map(|slots| slots.len()) {
        Ok(0) => Error::SlotsGone(location),
        Ok(slots) => Error::NoSlotOfRoot { slots, location },
        Err(error) => error,
    }
}

impl Repository {
    /// Makes a repository in an empty store, with one key slot.
    pub fn create(
        store: Arc<dyn ObjectStore>,
        sizes: Sizes,
        unlock: &Unlock,
        guard: GuardKind,
        label: &str,
        clock: Clock,
    ) -> Result<Repository> {
        refuse_existing(&*store)?;
        let root = RootKey::generate();
        let created_ns = clock.now().as_nanosecond() as i64;
        let epoch = keyring::new_epoch(&root, None, created_ns)?;
        found(store, sizes, (root, epoch), (unlock, guard, label), clock)
    }

    /// The same, for a repository that cuts, marks and names as `like` does, so that copies between the two share
    /// chunks. Everything else is its own: whoever opens the one cannot open the other.
    pub fn create_like(
        store: Arc<dyn ObjectStore>,
        like: &Repository,
        unlock: &Unlock,
        guard: GuardKind,
        label: &str,
        clock: Clock,
    ) -> Result<Repository> {
        refuse_existing(&*store)?;
        let root = RootKey::generate();
        let epoch = keyring::first_epoch_like(&root, &like.keyring, clock.now().as_nanosecond() as i64);
        found(store, like.sizes()?, (root, epoch), (unlock, guard, label), clock)
    }

    /// The store.
    pub fn store(&self) -> &Arc<dyn ObjectStore> {
        &self.store
    }

    /// The public description.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// The repository's id.
    pub fn id(&self) -> RepositoryId {
        self.config.repository
    }

    /// Says which root key it is; shows nothing of it.
    pub fn root_id(&self) -> KeyId {
        self.root_id
    }

    /// The keys.
    pub fn keyring(&self) -> &Arc<Keyring> {
        &self.keyring
    }

    /// The clock.
    pub fn clock(&self) -> &Clock {
        &self.clock
    }

    /// Whether of several machines that put the same name at once exactly one succeeds: found out when the repository
    /// was made, or since. Without that only one may prune, and nobody else may be at work meanwhile.
    pub fn puts_are_atomic(&self) -> bool {
        self.config.store.put_if_absent && self.store.puts_are_atomic()
    }

    /// Nanoseconds since 1970, now.
    pub fn now_ns(&self) -> i64 {
        self.clock.now().as_nanosecond() as i64
    }

    /// This machine.
    pub fn machine(&self) -> &Machine {
        &self.machine
    }

    /// The slot that it was opened with.
    pub fn slot(&self) -> SlotId {
        self.slot
    }

    /// Whether the slot it was opened with says that somebody who had the root key made it. A recipient's does not:
    /// whoever can write to the store could have put another repository in the place of this one.
    pub fn is_vouched(&self) -> bool {
        self.vouched
    }

    /// Keeps trees, content lists and small objects at hand: only worth it for a remote store.
    pub fn keep_at_hand(&mut self, cache: PackCache) {
        self.metadata = Some(Arc::new(cache));
    }

    /// Keeps what is stored of trees and lists on this machine: for a client that may only write and could not read it.
    pub fn keep_own(&mut self, own: index::OwnCache) {
        self.own = Some(Arc::new(own));
    }

    /// What a client keeps of what it stored itself.
    pub fn own(&self) -> Option<&Arc<index::OwnCache>> {
        self.own.as_ref()
    }

    /// Remembers in `folder` which run records of this machine are the newest.
    pub fn remember_runs(&mut self, folder: &std::path::Path) {
        self.newest_runs = runs::Remembered::in_folder(folder);
    }

    /// What is known of the newest run records of this machine.
    pub fn remembered(&self) -> &runs::Remembered {
        &self.newest_runs
    }

    /// What is kept at hand; none for a store that needs no such thing.
    pub fn at_hand(&self) -> Option<&Arc<PackCache>> {
        self.metadata.as_ref()
    }

    /// The chunker, with its keyed gear table.
    pub fn chunker(&self) -> Result<Chunker> {
        Ok(Chunker::new(self.sizes()?, self.keyring.gear_seed()))
    }

    /// The sizes of chunks.
    fn sizes(&self) -> Result<Sizes> {
        let given = &self.config.chunker;
        if given.id != config::CHUNKER_FASTCDC {
            let feature = format!("chunker {}", given.id);
            return Err(Error::Feature { location: self.store.location(), feature });
        }
        let sizes = Sizes::new(u64::from(given.min_bytes), u64::from(given.average_bytes), u64::from(given.max_bytes));
        sizes.map_err(|error| Error::damaged("config", error))
    }

    /// Whether this version may write here.
    pub fn check_writable(&self) -> Result<()> {
        match self.config.writer_features.iter().find(|feature| !WRITER_FEATURES.contains(&feature.as_str())) {
            Some(feature) => Err(Error::Feature { location: self.store.location(), feature: feature.clone() }),
            None => Ok(()),
        }
    }
}

/// Where there is no config: why there is no repository, or why there seems to be none. Key slots, epochs and marks of
/// sessions alone are what an `init` leaves that was killed: nothing is lost with them.
fn not_there(store: &dyn ObjectStore) -> Error {
    const BEGUN: [Area; 4] = [Area::Config, Area::Keys, Area::Epochs, Area::Sessions];
    for area in Area::ALL.into_iter().filter(|area| !BEGUN.contains(area)) {
        let mut objects = 0u64;
        if let Err(error) = store.list(area, &mut |_| objects += 1) {
            return error.into();
        }
        if objects > 0 {
            return Error::ConfigGone { location: store.location(), area, objects };
        }
    }
    Error::NoRepository(store.location())
}

fn refuse_existing(store: &dyn ObjectStore) -> Result<()> {
    for key in [config_key(), copy_of(&config_key())] {
        match store.size(&key) {
            Ok(_) => return Err(Error::AlreadyThere(store.location())),
            Err(error) if error.kind() == crate::base::Kind::NotFound => {}
            Err(error) => return Err(error.into()),
        }
    }
    match not_there(store) {
        Error::NoRepository(_) => Ok(()),
        error => Err(error),
    }
}

/// Stores what makes a repository. The config comes last: before it there is nothing, after it there is a whole
/// repository.
fn found(
    store: Arc<dyn ObjectStore>,
    sizes: Sizes,
    (root, epoch): (RootKey, Epoch),
    (unlock, guard, label): (&Unlock, GuardKind, &str),
    clock: Clock,
) -> Result<Repository> {
    let id = RepositoryId(random::bytes());
    store.introduce(id, true);
    let honoured = probe(&*store, &clock)?;
    store.introduce(id, honoured.put_if_absent);
    epochs::save(&*store, id, &root, &epoch)?;
    let slot = slots::add(&*store, id, &root, unlock, guard, label, &clock)?;
    let config = new_config(id, epoch.created_ns, sizes, honoured);
    match write_twice(&*store, &config_key(), &config::encode(&config, &root)) {
        Err(Error::Damaged { .. }) => return Err(Error::AlreadyThere(store.location())),
        other => other?,
    }
    store.keep_reserve();
    let root_id = root.key_id();
    let keyring = Arc::new(Keyring::new(id, root, &[epoch])?.with_store(store.clone()));
    Ok(Repository {
        store,
        config,
        root_id,
        keyring,
        clock,
        machine: Machine::this(),
        slot,
        vouched: true,
        metadata: None,
        own: None,
        newest_runs: runs::Remembered::default(),
        halves: Vec::new(),
    })
}

fn new_config(repository: RepositoryId, created_ns: i64, sizes: Sizes, store: StoreConfig) -> Config {
    let size = |bytes: usize| u32::try_from(bytes).expect("chunks are at most 16 MiB");
    let chunker = ChunkerConfig {
        id: config::CHUNKER_FASTCDC,
        min_bytes: size(sizes.min()),
        average_bytes: size(sizes.average()),
        max_bytes: size(sizes.max()),
        unknown: Unknown::none(),
    };
    Config {
        repository,
        created_ns,
        chunker,
        // Features come when they are needed.
        reader_features: Vec::new(),
        writer_features: Vec::new(),
        store,
        revision: 1,
        parity: None,
        unknown: Unknown::none(),
    }
}

/// Tries what the store honours. Refuses one whose clock differs too much from ours.
fn probe(store: &dyn ObjectStore, clock: &Clock) -> Result<StoreConfig> {
    let found = probe::probe(store, clock)?;
    if let Some(skew_ms) = found.skew_ms.filter(|skew_ms| probe::is_skewed(*skew_ms)) {
        let (place, remedy) = (store.location(), probe::CLOCK_REMEDY);
        let ahead = if skew_ms > 0 { "ahead of" } else { "behind" };
        let seconds = skew_ms.unsigned_abs() / 1000;
        return Err(Error::Refused(format!(
            "cannot use {place}: its clock is {seconds} s {ahead} this machine's; {remedy}. Nothing was made"
        )));
    }
    Ok(StoreConfig {
        put_if_absent: found.put_if_absent,
        list_after_write: found.list_after_write,
        range_reads: found.range_reads,
        skew_ms: found.skew_ms,
        unknown: Unknown::none(),
    })
}
