//! How many round trips commands wait for, one after the other, with a repository in a store far away.

pub mod far;

use crate::vault::{Vault, back_up, key, noise, prune_all};
use far::{Far, Rounds};
use keepstone::base::monitor::Silent;
use keepstone::base::{Secret, SnapshotId, Stop};
use keepstone::crypto::slots::{GuardKind, Unlock};
use keepstone::ops::rebuild::rebuild_index;
use keepstone::ops::{Context, browse, keys, restore, select, verify};
use keepstone::repo::SealedRepository;
use keepstone::store::ObjectStore;
use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;

/// Says to the process that counts that it is the one.
const INSIDE: &str = "KEEPSTONE_TEST_ROUNDS";
/// Nights of the repository, each with a few changes somewhere in the tree.
const NIGHTS: u64 = 24;

#[test]
fn round_trips_are_few_and_do_not_grow_with_the_nights() {
    if std::env::var_os(INSIDE).is_some() {
        return count_rounds();
    }
    // Only what this test starts must run in the process whose threads are watched.
    let test = std::env::current_exe().unwrap();
    let name = "latency::round_trips_are_few_and_do_not_grow_with_the_nights";
    let counted = Command::new(test).args([name, "--exact", "--nocapture"]).env(INSIDE, "1").output().unwrap();
    let said = String::from_utf8_lossy(&counted.stdout);
    println!("{said}");
    assert!(counted.status.success(), "{}", String::from_utf8_lossy(&counted.stderr));
    assert!(said.contains("1 passed"), "the count did not run");
}

/// A repository of some nights, in which every directory was last written in another one.
fn nights() -> (Vault, SnapshotId) {
    let vault = Vault::new();
    for folder in 0..40 {
        for depth in ["", "/a", "/a/b"] {
            vault.write(&format!("{folder}{depth}/file"), &noise(folder, 3_000));
        }
    }
    vault.write("large", &noise(7, 400_000));
    let mut last = vault.back_up();
    for night in 1..NIGHTS {
        vault.write(&format!("{night}/a/b/new"), &noise(1000 + night, 5_000));
        vault.write(&format!("{night}/news"), &noise(2000 + night, 5_000));
        last = vault.back_up();
    }
    (vault, last)
}

struct Counting {
    vault: Vault,
    rounds: Arc<Rounds>,
    /// What took how many rounds and requests.
    table: Vec<(&'static str, u64, u64)>,
}

impl Counting {
    fn open(&self, cache: Option<PathBuf>) -> Context {
        let store: Arc<dyn ObjectStore> = Arc::new(Far::away(self.vault.store.clone(), &self.rounds));
        let repository = SealedRepository::open(store).unwrap().unlock(&key(), self.vault.clock.clone()).unwrap();
        Context::open(repository, cache, Arc::new(Silent), Stop::new()).unwrap().0
    }

    fn count<T>(&mut self, what: &'static str, at_most: u64, work: impl FnOnce(&Counting) -> T) -> T {
        let (rounds, requests) = self.rounds.so_far();
        let done = work(self);
        let (now, asked) = self.rounds.so_far();
        println!("{what:40} {:5} rounds {:6} requests", now - rounds, asked - requests);
        self.table.push((what, now - rounds, at_most));
        done
    }
}

fn list(context: &Context, id: SnapshotId) -> usize {
    let snapshot = snapshot(context, id);
    let mut entries = 0;
    let problems = browse::ls(context, &snapshot, b"", true, &mut |_| {
        entries += 1;
        Ok(())
    });
    assert!(problems.unwrap().is_empty());
    entries
}

fn snapshot(context: &Context, id: SnapshotId) -> keepstone::format::snapshot::Snapshot {
    let text = std::ffi::OsString::from(id.to_string());
    select::select(context, &text, &select::Filter::default()).unwrap().snapshot
}

fn count_rounds() {
    let (vault, last) = nights();
    let files = vault.files.path().to_owned();
    let mut counting = Counting { vault, rounds: Rounds::begin(), table: Vec::new() };
    let cache = tempfile::tempdir().unwrap();
    let folder = |name: &str| {
        let folder = cache.path().join(name);
        std::fs::create_dir_all(&folder).unwrap();
        Some(folder)
    };
    let cold = counting.count("open, nothing cached", 8, |counting| counting.open(folder("a")));
    counting.count("list all snapshots", 3, |_| {
        assert_eq!(select::list(&cold, &select::Filter::default()).unwrap().snapshots.len() as u64, NIGHTS);
    });
    let entries = counting.count("list all files, nothing cached", 12, |_| list(&cold, last));
    assert!(entries > 200, "{entries}");
    drop(cold);
    let warm = counting.count("open again", 5, |counting| counting.open(folder("a")));
    counting.count("list all files again", 2, |_| list(&warm, last));
    counting.count("unchanged backup", 24, |_| back_up(&warm, &files).unwrap());
    drop(warm);
    let bare = counting.open(None);
    counting.count("restore, no cache", 30, |_| restore_all(&bare, last));
    counting.count("verify", 64, |_| verify_with(&bare, verify::Depth::Content));
    counting.count("verify --all", 90, |_| verify_with(&bare, verify::Depth::All));
    drop(bare);
    let trusted = counting.open(folder("b"));
    counting.count("rebuild-index", 90, |_| assert!(rebuild_index(&trusted).unwrap().packs >= NIGHTS));
    drop(trusted);
    let trusted = counting.open(folder("c"));
    let spare = Unlock::KeyFile(Secret::new(b"a key file that is used by no run".to_vec()));
    keys::add(&trusted, &spare, GuardKind::KeyFile, "spare").unwrap();
    counting.count("key list", 8, |_| assert_eq!(keys::list(&trusted).unwrap().len(), 2));
    let outcome = counting.count("prune, small packs", 95, |_| prune_all(&trusted).unwrap());
    assert!(outcome.packs_repacked > NIGHTS && outcome.sessions_cleared >= NIGHTS, "{outcome:?}");
    for (what, rounds, at_most) in counting.table {
        assert!(rounds <= at_most, "{what} waits for {rounds} round trips; {at_most} are enough");
    }
}

fn restore_all(context: &Context, id: SnapshotId) {
    let target = tempfile::tempdir().unwrap();
    let options = restore::Options::new(target.path().join("back"));
    let outcome = restore::restore(context, &snapshot(context, id), &options).unwrap();
    assert_eq!(outcome.problem_count, 0, "{:?}", outcome.problems);
    assert!(outcome.files > 150);
}

fn verify_with(context: &Context, depth: verify::Depth) {
    let outcome = verify::verify(context, &verify::Options { snapshots: Vec::new(), depth }).unwrap();
    assert!(!outcome.damage, "{:?}", outcome.damages);
}
