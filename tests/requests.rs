//! How many requests commands make of a remote store: each costs money, and a small one as much as a large one.

use crate::latency::far::Far;
use crate::vault::{Vault, back_up, key, noise, open, prune_all, restore};
use keepstone::base::monitor::Silent;
use keepstone::base::{SnapshotId, Stop};
use keepstone::format::pack::Role;
use keepstone::ops::{Context, browse, forget, select, verify};
use keepstone::repo::index::PackSummary;
use keepstone::repo::{Error, SealedRepository};
use keepstone::store::Record;
use std::path::Path;
use std::sync::Arc;

/// A repository behind a store that remembers what was asked of it.
struct Asked {
    vault: Vault,
    record: Record,
    cache: tempfile::TempDir,
    /// What took more than it may.
    too_many: Vec<String>,
}

impl Asked {
    fn open(&self) -> Context {
        let store = Arc::new(Far::near(self.record.clone()));
        let repository = SealedRepository::open(store).unwrap().unlock(&key(), self.vault.clock.clone()).unwrap();
        Context::open(repository, Some(self.cache.path().to_owned()), Arc::new(Silent), Stop::new()).unwrap().0
    }

    /// Opens the repository as a command does, and carries it out.
    fn count<T>(&mut self, what: &str, at_most: usize, work: impl FnOnce(&Context, &Path) -> T) -> T {
        self.vault.hours(1);
        self.record.clear();
        let done = work(&self.open(), self.vault.files.path());
        let log = self.record.log();
        println!("{what}: {} requests of at most {at_most}", log.len());
        log.iter().for_each(|entry| println!("    {:?} {}", entry.operation, entry.path));
        if log.len() > at_most {
            self.too_many.push(format!("{what}: {} requests; {at_most} are enough", log.len()));
        }
        done
    }
}

#[test]
fn commands_make_few_requests_of_a_remote_store() {
    // Later than any of these files is written: what changed since a scan began is not trusted.
    let vault = Vault::at("2199-01-01T12:00:00Z");
    vault.write("letter", &noise(1, 3_000));
    vault.write("folder/large", &noise(2, 200_000));
    let record = Record::logging(vault.store.clone());
    let mut asked = Asked { vault, record, cache: tempfile::tempdir().unwrap(), too_many: Vec::new() };
    let first = asked.count("first backup", 17, |context, files| back_up(context, files).unwrap());
    let second = asked.count("unchanged backup", 17, |context, files| back_up(context, files).unwrap());
    asked.vault.write("letter", &noise(3, 3_000));
    asked.count("backup of a change", 18, |context, files| back_up(context, files).unwrap());
    asked
        .count("snapshots", 8, |context, _| select::list(context, &select::Filter::default()).unwrap().snapshots.len());
    asked.count("ls", 8, |context, _| list(context, second));
    asked.count("restore", 13, |context, files| restore(context, first, files).unwrap().0.files);
    asked.count("verify --structure", 47, |context, _| verify_with(context, verify::Depth::Structure));
    asked.count("verify", 55, |context, _| verify_with(context, verify::Depth::Content));
    asked.count("forget", 10, |context, _| forget::remove(context, first).unwrap());
    asked.count("prune", 96, |context, _| prune_all(context).unwrap());
    asked.count("prune of nothing", 44, |context, _| prune_all(context).unwrap());
    assert!(asked.too_many.is_empty(), "{:#?}", asked.too_many);
    let there = open(Arc::new(asked.vault.store.clone()), &asked.vault.clock).unwrap();
    verify_with(&there, verify::Depth::All);
}

fn list(context: &Context, id: SnapshotId) {
    let text = std::ffi::OsString::from(id.to_string());
    let snapshot = select::select(context, &text, &select::Filter::default()).unwrap().snapshot;
    browse::ls(context, &snapshot, b"", true, &mut |_| Ok(())).unwrap();
}

fn verify_with(context: &Context, depth: verify::Depth) {
    let outcome = verify::verify(context, &verify::Options { snapshots: Vec::new(), depth }).unwrap();
    assert!(!outcome.damage, "{:?}", outcome.damages);
}

#[test]
fn each_pack_is_verified_by_one_request_and_small_objects_are_read_once() {
    let vault = Vault::at("2199-01-01T12:00:00Z");
    for night in 0..3 {
        vault.write(&format!("night-{night}"), &noise(night, 700_000));
        vault.hours(1);
        vault.back_up();
    }
    let record = Record::logging(vault.store.clone());
    let mut asked = Asked { vault, record, cache: tempfile::tempdir().unwrap(), too_many: Vec::new() };
    let packs = asked.count("verify --all", 56, |context, _| {
        verify_with(context, verify::Depth::All);
        let mut packs = Vec::new();
        let mut take = |pack: &PackSummary| {
            packs.push((pack.id, pack.role));
            Ok::<(), Error>(())
        };
        context.index.each_pack(&mut take).unwrap();
        packs
    });
    assert_eq!(packs.len(), 6);
    let log = asked.record.log();
    for (pack, role) in packs {
        let reads = log.iter().filter(|entry| entry.path.ends_with(&pack.to_string())).count();
        // Trees are read for the walk too, which comes first and looks at all of the store.
        assert_eq!(reads, if role == Role::Metadata { 2 } else { 1 }, "of the {role:?} in packs/{pack}");
    }
    for entry in log.iter().filter(|entry| entry.path.starts_with("keys/") || entry.path.starts_with("epochs/")) {
        let reads = log.iter().filter(|other| other.path == entry.path).count();
        // To open the repository, and to look at it.
        assert!(reads <= 2, "{reads} of {}", entry.path);
    }
    assert!(asked.too_many.is_empty(), "{:#?}", asked.too_many);
}
