//! A repository in memory, for the stories of all verbs.
#![allow(clippy::unwrap_used)]

use super::Context;
use super::backup::{self, backup};
use super::retention::samples::taken_at;
use crate::base::monitor::Remember;
use crate::base::pace::{Gauge, Pace, Rules, Watch};
use crate::base::{Clock, Kind, Monitor, Secret, SessionId, SnapshotId, Stop, Timestamp, random};
use crate::chunk::Sizes;
use crate::compress::Level;
use crate::crypto::slots::{GuardKind, Unlock, generate_key_file};
use crate::format::cbor::Cbor;
use crate::format::envelope::ObjectKind;
use crate::format::snapshot::Snapshot;
use crate::repo::{Repository, SealedRepository};
use crate::source::files::ScanOptions;
use crate::store::{Area, Error, Key, Listed, Memory, ObjectStore, Put, Upload};
use std::path::Path;
use std::sync::Arc;

/// An unlocked repository with small chunks, and who looks on.
pub struct Depot {
    pub context: Context,
    pub store: Arc<Memory>,
    pub seen: Arc<Remember>,
    clock: Clock,
    secret: Vec<u8>,
}

impl Depot {
    pub fn new() -> Depot {
        let clock = Clock::manual(Timestamp::from_second(1_700_000_000).unwrap());
        let store = Arc::new(Memory::with_clock(clock.clone()));
        let secret = generate_key_file().expose().as_bytes().to_vec();
        let sizes = Sizes::new(4 << 10, 16 << 10, 64 << 10).unwrap();
        let unlock = Unlock::KeyFile(Secret::new(secret.clone()));
        let repository =
            Repository::create(store.clone(), sizes, &unlock, GuardKind::KeyFile, "test", clock.clone()).unwrap();
        let seen = Arc::new(Remember::default());
        let (context, _) = Context::open(repository, None, seen.clone(), Stop::new()).unwrap();
        Depot { context, store, seen, clock, secret }
    }

    /// Lets hours pass.
    pub fn hours(&self, hours: u64) {
        self.clock.advance(std::time::Duration::from_secs(hours * 3600));
    }

    /// Backs up `path`, a minute after whatever was before.
    pub fn backup(&self, path: &Path) -> Snapshot {
        self.backup_beside(path, backup::Parent::Newest)
    }

    /// The same, but every file is read.
    pub fn backup_all(&self, path: &Path) -> Snapshot {
        self.backup_beside(path, backup::Parent::None)
    }

    fn backup_beside(&self, path: &Path, parent: backup::Parent) -> Snapshot {
        self.clock.advance(std::time::Duration::from_secs(60));
        let options = backup::Options {
            sources: vec![backup::Source::Path(path.to_owned())],
            scan: ScanOptions::default(),
            exclude_texts: Vec::new(),
            host: None,
            user: "test".to_owned(),
            tags: Vec::new(),
            description: String::new(),
            time: None,
            parent,
            level: Level::Default,
            deltas: true,
            ignore_inode: false,
            ignore_ctime: false,
            dry_run: false,
            base_cache_bytes: 0,
            limits: backup::Limits::default(),
            validate_dumps: false,
        };
        backup(&self.context, &options).unwrap().snapshot.unwrap()
    }

    /// The same repository for somebody who may only read.
    pub fn read_only(&self) -> Context {
        let store = Arc::new(ReadOnly(self.store.clone()));
        self.open(store, self.seen.clone(), Stop::new())
    }

    /// The same repository with another onlooker.
    pub fn watched(&self, monitor: Arc<dyn Monitor>, stop: Stop) -> Context {
        self.open(self.store.clone(), monitor, stop)
    }

    /// The same repository opened once more, if it can be.
    pub fn fresh(&self) -> super::Result<Context> {
        self.try_open(self.store.clone(), self.seen.clone(), Stop::new())
    }

    /// What opens it.
    pub fn unlock(&self) -> Unlock {
        Unlock::KeyFile(Secret::new(self.secret.clone()))
    }

    fn open(&self, store: Arc<dyn ObjectStore>, monitor: Arc<dyn Monitor>, stop: Stop) -> Context {
        self.try_open(store, monitor, stop).unwrap()
    }

    fn try_open(&self, store: Arc<dyn ObjectStore>, monitor: Arc<dyn Monitor>, stop: Stop) -> super::Result<Context> {
        let repository = SealedRepository::open(store)?.unlock(&self.unlock(), self.clock.clone())?;
        Ok(Context::open(repository, None, monitor, stop)?.0)
    }

    /// The objects of an area.
    pub fn keys(&self, area: Area) -> Vec<Key> {
        let mut keys = Vec::new();
        self.store.list(area, &mut |listed| keys.push(Key::new(area, listed.name))).unwrap();
        keys.sort();
        keys
    }

    /// Puts `change`d bytes in the place of an object.
    pub fn damage(&self, key: &Key, change: impl FnOnce(&mut Vec<u8>)) {
        let mut bytes = self.store.get(key, u64::MAX).unwrap();
        change(&mut bytes);
        self.store.replace(key, &bytes).unwrap();
    }
}

/// Stores a snapshot of nothing.
pub fn save_snapshot(depot: &Depot, time_ns: i64, change: impl FnOnce(&mut Snapshot)) -> SnapshotId {
    let taken = taken_at(SessionId(random::bytes()), time_ns);
    let mut snapshot = Snapshot { host: "a".to_owned(), ..taken };
    change(&mut snapshot);
    let keyring = depot.context.repository.keyring();
    let sealed = keyring.seal(ObjectKind::Snapshot, &snapshot.to_cbor()).unwrap();
    depot.store.put(&Key::new(Area::Snapshots, snapshot.id), &sealed).unwrap();
    snapshot.id
}

/// Bytes without any pattern, the same for the same `state`.
pub fn noise(length: usize, mut state: u32) -> Vec<u8> {
    let step = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 24) as u8
    };
    std::iter::repeat_with(step).take(length).collect()
}

/// A store that somebody may only read.
struct ReadOnly(Arc<Memory>);

fn denied(key: &impl std::fmt::Display) -> Error {
    Error::new(Kind::Denied, "write", key, "read-only file system")
}

impl ObjectStore for ReadOnly {
    fn put(&self, key: &Key, _: &[u8]) -> Result<Put, Error> {
        Err(denied(key))
    }
    fn begin(&self) -> Result<Box<dyn Upload>, Error> {
        Err(denied(&"an object"))
    }
    fn replace(&self, key: &Key, _: &[u8]) -> Result<(), Error> {
        Err(denied(key))
    }
    fn get(&self, key: &Key, limit_bytes: u64) -> Result<Vec<u8>, Error> {
        self.0.get(key, limit_bytes)
    }
    fn get_range(&self, key: &Key, offset: u64, length: usize) -> Result<Vec<u8>, Error> {
        self.0.get_range(key, offset, length)
    }
    fn size(&self, key: &Key) -> Result<u64, Error> {
        self.0.size(key)
    }
    fn list(&self, area: Area, each: &mut dyn FnMut(Listed)) -> Result<(), Error> {
        self.0.list(area, each)
    }
    fn delete(&self, key: &Key) -> Result<(), Error> {
        Err(denied(key))
    }
    fn location(&self) -> String {
        self.0.location()
    }
    fn free_bytes(&self) -> Option<u64> {
        self.0.free_bytes()
    }
}

/// A brake that stays closed until somebody stands at it.
fn closed_until_met(context: &mut Context, seen: Arc<Remember>) -> Watch {
    context.pace = Pace::watched();
    let look = context.pace.clone();
    let read = Box::new(move || Some(if look.standing() == 0 { 90.0 } else { 10.0 }));
    let gauge = Gauge { name: "load".to_owned(), bound: 50.0, read };
    let rules =
        Rules { look_every: std::time::Duration::from_millis(1), longest_pause: std::time::Duration::from_secs(3600) };
    Watch::start(&context.pace, vec![gauge], rules, &context.stop, seen).unwrap()
}

#[test]
fn a_backup_stands_still_while_the_machine_is_busy_and_is_whole_all_the_same() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("note"), "to do").unwrap();
    let mut depot = Depot::new();
    let watch = closed_until_met(&mut depot.context, depot.seen.clone());
    let snapshot = depot.backup(folder.path());
    assert!(!snapshot.partial && depot.context.pace.pauses() > 0);
    drop(watch);
    let notes = depot.seen.notes.lock().unwrap();
    assert_eq!(notes.iter().filter(|note| note.contains("load is 90, above 50")).count(), 1, "{notes:?}");
}
