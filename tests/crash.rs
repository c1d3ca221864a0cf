//! Killed at any change of the store: nothing is lost, and the next run settles what was left.

use crate::founder::strange;
use crate::vault::{
    Act, Files, Vault, back_up, bytes, count, crash_everywhere, files_below, key, keys as keys_of, noise, open,
    prune_all, read_everything, read_index, restore, verify_all,
};
use keepstone::base::{Clock, Secret, SnapshotId};
use keepstone::crypto::slots::{GuardKind, Unlock};
use keepstone::ops::tag::Change;
use keepstone::ops::{forget, keys, prune, rebuild, tag};
use keepstone::repo::{SealedRepository, session};
use keepstone::store::{Area, Crash, Error, Fault, Key, Memory, ObjectStore, Put};
use std::cell::Cell;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// Four nights of a file that changes a little and of one that is new every night; the first two are forgotten, so
/// that packs are partly needed and what stays hangs on bases that no snapshot names.
fn nights() -> Vault {
    let vault = Vault::new();
    let mut dump = noise(1, 400_000);
    for night in 0..4u64 {
        for place in 0..6 {
            dump[place * 60_000 + night as usize * 977..][..40].copy_from_slice(&noise(night * 100 + place as u64, 40));
        }
        vault.write("dump.sql", &dump);
        vault.write("new", &noise(50 + night, 90_000));
        vault.write(&format!("kept/{night}"), &noise(70 + night, 20_000));
        let id = vault.back_up();
        if night < 2 {
            vault.hours(1);
            forget::remove(&vault.open(), id).unwrap();
        }
    }
    vault.hours(1);
    vault
}

/// Everything can be read, and one more prune leaves only what is needed.
fn check(store: &Memory, clock: &Clock, what: &str) {
    let shared: Arc<dyn ObjectStore> = Arc::new(store.clone());
    let blobs = read_everything(&open(shared.clone(), clock).unwrap());
    let blobs = blobs.unwrap_or_else(|error| panic!("{what}: right after the crash: {error}"));
    // The process that crashed is this one and lives: only age tells that its session is dead.
    clock.advance(Duration::from_secs(25 * 3600));
    let context = open(shared.clone(), clock).unwrap();
    prune_all(&context).unwrap_or_else(|error| panic!("{what}: the next prune: {error}"));
    assert_eq!(read_everything(&context).unwrap(), blobs, "{what}");
    let context = open(shared.clone(), clock).unwrap();
    assert_eq!(read_everything(&context).unwrap(), blobs, "{what}");
    read_index(&context).unwrap_or_else(|error| panic!("{what}: a blob that no snapshot needs: {error}"));
    assert!(session::condemned_numbers(store).unwrap().is_empty(), "{what}");
    assert_eq!(count(store, Area::Sessions), 0, "{what}");
    let options = prune::Options { dry_run: true, ..prune::Options::default() };
    let left = prune::prune(&open(shared, clock).unwrap(), &options).unwrap();
    assert_eq!(left.packs_deleted, 0, "{what}: {left:?}");
}

#[test]
fn a_prune_that_is_killed_at_any_change_loses_nothing_and_the_next_one_finishes() {
    let vault = nights();
    let (reference, clock) = vault.copy();
    let context = open(Arc::new(reference.clone()), &clock).unwrap();
    let (snapshots, _) = keepstone::repo::snapshots::list(&context.repository).unwrap();
    assert!(snapshots.iter().all(|snapshot| snapshot.totals.bytes_delta > 0), "the nights hang on one another");
    let before = bytes(&reference, Area::Packs);
    let outcome = prune_all(&context).unwrap();
    assert!(outcome.packs_repacked > 0 && outcome.packs_written > 0, "{outcome:?}");
    assert!(bytes(&reference, Area::Packs) + 100_000 < before, "{outcome:?}");
    assert_eq!(outcome.bytes_after, bytes(&reference, Area::Packs) + bytes(&reference, Area::Index));
    let changes = crash_everywhere(&vault, &|store, clock| prune_all(&open(store, clock)?).map(|_| ()), &check);
    assert!(changes >= 12, "only {changes} changes were tried");
}

/// A store that deletes what is deleted together in the other order.
struct Backwards(Arc<dyn ObjectStore>);

impl ObjectStore for Backwards {
    keepstone::store::forward!(0: put, begin, replace, get, get_range, size, list, delete, location, free_bytes);
    fn delete_each(&self, keys: &[Key]) -> Vec<Result<(), Error>> {
        let mut answers: Vec<_> = keys.iter().rev().map(|key| self.0.delete(key)).collect();
        answers.reverse();
        answers
    }
}

#[test]
fn whatever_was_deleted_first_of_what_goes_together_a_killed_prune_loses_nothing() {
    let vault = nights();
    let backwards = |store, clock: &Clock| open(Arc::new(Backwards(store)), clock);
    let changes = crash_everywhere(&vault, &|store, clock| prune_all(&backwards(store, clock)?).map(|_| ()), &check);
    assert!(changes >= 12, "only {changes} changes were tried");
    crash_everywhere(
        &vault,
        &|store, clock| {
            let context = backwards(store, clock)?;
            let oldest = keepstone::repo::snapshots::names(&context.repository)?;
            forget::remove(&context, oldest[0])
        },
        &check,
    );
}

#[test]
fn a_forget_that_is_killed_at_any_change_leaves_whole_snapshots() {
    let vault = nights();
    crash_everywhere(
        &vault,
        &|store, clock| {
            let context = open(store, clock)?;
            let newest = keepstone::repo::snapshots::names(&context.repository)?;
            let options = forget::Options {
                selection: forget::Selection::Ids(newest[..1].to_vec()),
                zone: keepstone::base::TimeZone::UTC,
                dry_run: false,
                fresh: None,
            };
            match forget::forget(&context, &options)?.failures.first() {
                None => Ok(()),
                Some(problem) => Err(keepstone::ops::Error::Refused(problem.message.clone())),
            }
        },
        &check,
    );
}

#[test]
fn a_tagging_that_is_killed_at_any_change_leaves_the_snapshot_under_one_name_or_both() {
    let vault = nights();
    crash_everywhere(
        &vault,
        &|store, clock| {
            let context = open(store, clock)?;
            let ids = keepstone::repo::snapshots::names(&context.repository)?;
            tag::tag(&context, &ids[..1], &Change::Set(vec!["gold".to_owned()])).map(|_| ())
        },
        &check,
    );
}

#[test]
fn a_rebuild_that_is_killed_at_any_change_leaves_an_index_that_knows_everything() {
    let vault = nights();
    crash_everywhere(&vault, &|store, clock| rebuild::rebuild_index(&open(store, clock)?).map(|_| ()), &check);
}

/// Snapshots that are committed, and what they hold.
type Committed = BTreeMap<SnapshotId, Files>;

/// Crashes a backup of the vault's files at each of its changes in turn, in both ways.
fn crash_backup_everywhere(vault: &Vault, committed: &Committed) {
    let folder = vault.files.path();
    let (whole, clock) = vault.copy();
    back_up(&open(Arc::new(whole.clone()), &clock).unwrap(), folder).unwrap();
    let added = bytes(&whole, Area::Packs) - bytes(&vault.store, Area::Packs);
    let reused = Cell::new(0);
    let act = |store, clock: &Clock| back_up(&open(store, clock)?, folder).map(drop);
    let changes = crash_everywhere(vault, &act, &|store, clock, what| {
        // The one that was not stopped has stored all of it.
        if what != "not stopped" {
            reused.set(reused.get() + u32::from(check_backup(vault, committed, (store, clock), added)));
        }
    });
    assert!(changes > 5, "only {changes} changes");
    assert!(reused.get() >= 2, "what a killed run had stored was used again {} times", reused.get());
}

/// Everything that was committed is whole, and the next backup completes. Whether it found packs of the killed one in
/// the index and stored less.
fn check_backup(vault: &Vault, committed: &Committed, (store, clock): (&Memory, &Clock), added: u64) -> bool {
    let folder = vault.files.path();
    let again = || open(Arc::new(store.clone()), clock).unwrap();
    let found = verify_all(&again()).unwrap();
    assert!(!found.damage, "{:?}", found.damages);
    let segments = count(store, Area::Index) - count(&vault.store, Area::Index);
    let before = bytes(store, Area::Packs);
    clock.advance(Duration::from_secs(60));
    let id = back_up(&again(), folder).unwrap();
    let now = bytes(store, Area::Packs) - before;
    if segments > 0 {
        assert!(now * 2 < added, "{now} bytes were stored again although {segments} segments were there, of {added}");
    }
    let context = again();
    let found = verify_all(&context).unwrap();
    assert!(!found.damage, "{:?}", found.damages);
    let mut all = committed.clone();
    all.insert(id, files_below(folder));
    for (id, files) in &all {
        let (outcome, restored) = restore(&context, *id, folder).unwrap();
        assert!(outcome.problem_count == 0 && restored == *files, "{id}: {:?}", outcome.problems);
    }
    segments > 0
}

#[test]
fn a_first_backup_that_is_killed_at_any_change_is_made_good_by_the_next() {
    let vault = Vault::new();
    vault.write("dump.sql", &noise(1, 200_000));
    vault.write("of/some", &noise(2, 40_000));
    crash_backup_everywhere(&vault, &Committed::new());
}

#[test]
fn a_later_backup_that_is_killed_at_any_change_leaves_all_earlier_snapshots_whole() {
    let vault = Vault::new();
    let mut committed = Committed::new();
    let mut dump = noise(1, 300_000);
    for night in 0..3u8 {
        for place in 0..8 {
            dump[place * 36_000 + usize::from(night) * 901..][..30].fill(night + 1);
        }
        vault.write("dump.sql", &dump);
        vault.write("same", &noise(3, 30_000));
        vault.write(&format!("of/{night}"), &noise(60 + u64::from(night), 70_000));
        if night < 2 {
            committed.insert(vault.back_up(), files_below(vault.files.path()));
        }
    }
    vault.hours(1);
    crash_backup_everywhere(&vault, &committed);
}

#[test]
fn an_init_that_is_killed_at_any_change_leaves_a_repository_or_none() {
    let vault = Vault::new();
    vault.write("file", &noise(1, 10_000));
    for crash in [Crash::Before, Crash::After] {
        for change in 1.. {
            let store = Memory::with_clock(vault.clock.clone());
            let fault = Fault::new(store.clone());
            fault.crash_at(change, crash);
            let done = strange(Arc::new(fault.clone()), "first", &vault.clock);
            if !fault.crashed() {
                done.unwrap();
                assert!(change > 6, "only {change} changes");
                break;
            }
            if let Err(error) = SealedRepository::open(Arc::new(store.clone())) {
                assert_eq!(error.kind(), keepstone::base::Kind::NoRepository, "{crash:?} {change}: {error}");
                strange(Arc::new(store.clone()), "first", &vault.clock)
                    .unwrap_or_else(|error| panic!("{crash:?} {change}: init again: {error}"));
            }
            let context =
                open(Arc::new(store), &vault.clock).unwrap_or_else(|error| panic!("{crash:?} {change}: {error}"));
            back_up(&context, vault.files.path()).unwrap();
        }
    }
}

fn new_key() -> Unlock {
    Unlock::KeyFile(Secret::new(b"another key file, for the new slot".to_vec()))
}

/// After a crash at any change of slots, the old secret or the new one opens.
fn crash_key_change(vault: &Vault, act: Act<'_>) {
    let changes = crash_everywhere(vault, act, &|store, clock, what| {
        let shared: Arc<dyn ObjectStore> = Arc::new(store.clone());
        let opens = |unlock: &Unlock| SealedRepository::open(shared.clone()).unwrap().unlock(unlock, clock.clone());
        let repository = opens(&key()).or_else(|_| opens(&new_key()));
        let repository = repository.unwrap_or_else(|error| panic!("{what}: {error}"));
        assert!(!keepstone::repo::snapshots::names(&repository).unwrap().is_empty());
    });
    assert!(changes > 2, "only {changes} changes");
}

#[test]
fn a_change_of_keys_that_is_killed_at_any_change_locks_nobody_out() {
    let vault = Vault::new();
    vault.write("file", &noise(1, 10_000));
    vault.back_up();
    let kind = GuardKind::KeyFile;
    crash_key_change(&vault, &|store, clock| keys::add(&open(store, clock)?, &new_key(), kind, "new").map(|_| ()));
    crash_key_change(&vault, &|store, clock| keys::passwd(&open(store, clock)?, None, &new_key(), kind).map(|_| ()));
    crash_key_change(&vault, &|store, clock| keys::rewrap(&open(store, clock)?, None, &key(), kind).map(|_| ()));
    keys::add(&vault.open(), &new_key(), kind, "new").unwrap();
    crash_key_change(&vault, &|store, clock| {
        let context = open(store, clock)?;
        keys::remove(&context, context.repository.slot(), true).map(|_| ())
    });
}

#[test]
fn a_rotation_or_resealing_that_is_killed_at_any_change_is_completed_by_the_next_backup() {
    let vault = Vault::new();
    vault.write("file", &noise(1, 300_000));
    vault.back_up();
    let rotate = |store: Arc<dyn ObjectStore>, clock: &Clock| {
        let context = open(store, clock)?;
        keys::rotate(&context)?;
        keys::reseal(&context, &keys::ResealOptions::default()).map(drop)
    };
    let changes = crash_everywhere(&vault, &rotate, &|store, clock, what| {
        clean_after_a_backup(&vault, store, clock, what);
    });
    assert!(changes > 6, "only {changes} changes");
}

#[test]
fn a_slot_of_which_only_the_copy_was_stored_is_completed_by_the_next_backup() {
    let vault = Vault::new();
    vault.write("file", &noise(1, 10_000));
    vault.back_up();
    let add = |store: Arc<dyn ObjectStore>, clock: &Clock| {
        keys::add(&open(store, clock)?, &new_key(), GuardKind::KeyFile, "new").map(drop)
    };
    crash_everywhere(&vault, &add, &|store, clock, what| {
        clean_after_a_backup(&vault, store, clock, what);
    });
}

/// What a key command left half done the next backup completes.
fn clean_after_a_backup(vault: &Vault, store: &Memory, clock: &Clock, what: &str) {
    let open = || open(Arc::new(store.clone()), clock).unwrap_or_else(|error| panic!("{what}: {error}"));
    back_up(&open(), vault.files.path()).unwrap_or_else(|error| panic!("{what}: {error}"));
    let found = verify_all(&open()).unwrap();
    assert!(!found.damage, "{what}: {:?}", found.damages);
}

/// A store whose deletions last only once they are flushed.
#[derive(Clone)]
struct Forgetful {
    inner: Memory,
    deleted: Arc<Mutex<Deleted>>,
}

/// Objects that may come back.
type Deleted = Vec<(Key, Vec<u8>)>;

impl Forgetful {
    /// The areas where deletions have not lasted.
    fn areas(&self) -> Vec<Area> {
        let deleted = self.deleted.lock().unwrap();
        Area::ALL.into_iter().filter(|area| deleted.iter().any(|(key, _)| key.area() == *area)).collect()
    }

    /// What is there after a power cut that undid the deletions of one area.
    fn after_power_cut(&self, area: Area, clock: &Clock) -> Memory {
        let copy = Memory::with_clock(clock.clone());
        for key in keys_of(&self.inner) {
            copy.put(&key, &self.inner.get(&key, u64::MAX).unwrap()).unwrap();
        }
        for (key, bytes) in self.deleted.lock().unwrap().iter().filter(|(key, _)| key.area() == area) {
            copy.put(key, bytes).unwrap();
        }
        copy
    }
}

impl ObjectStore for Forgetful {
    keepstone::store::forward!(inner: begin, replace, get, get_range, size, list);

    fn put(&self, key: &Key, bytes: &[u8]) -> Result<Put, Error> {
        // Naming an object flushes its folder.
        self.deleted.lock().unwrap().retain(|(deleted, _)| deleted.area() != key.area());
        self.inner.put(key, bytes)
    }
    fn delete(&self, key: &Key) -> Result<(), Error> {
        if let Ok(bytes) = self.inner.get(key, u64::MAX) {
            self.deleted.lock().unwrap().push((key.clone(), bytes));
        }
        self.inner.delete(key)
    }
    fn flush(&self, area: Area) -> Result<(), Error> {
        self.deleted.lock().unwrap().retain(|(deleted, _)| deleted.area() != area);
        Ok(())
    }
    fn location(&self) -> String {
        "forgetful".to_owned()
    }
    fn free_bytes(&self) -> Option<u64> {
        None
    }
}

/// Cuts the power at each change of `act` in turn: whichever area's deletions are undone, nothing is damaged, and the
/// next prune leaves it so.
fn cut_power_everywhere(vault: &Vault, act: Act<'_>) -> u64 {
    let mut undone = 0;
    for change in 1.. {
        let (inner, clock) = vault.copy();
        let forgetful = Forgetful { inner, deleted: Arc::default() };
        let fault = Fault::new(forgetful.clone());
        fault.crash_at(change, Crash::After);
        let done = act(Arc::new(fault.clone()), &clock);
        for area in forgetful.areas() {
            undone += 1;
            let store = forgetful.after_power_cut(area, &clock);
            let again = || open(Arc::new(store.clone()), &clock).unwrap();
            let found = verify_all(&again()).unwrap();
            assert!(!found.damage, "change {change}, {area:?} undone: {:?}", found.damages);
            clock.advance(Duration::from_secs(25 * 3600));
            prune_all(&again()).unwrap();
            let found = verify_all(&again()).unwrap();
            assert!(!found.damage, "change {change}, {area:?} undone, after a prune: {:?}", found.damages);
        }
        if !fault.crashed() {
            done.unwrap();
            return undone;
        }
    }
    unreachable!("the last round returns")
}

#[test]
fn a_power_cut_that_brings_back_what_was_deleted_damages_nothing() {
    let vault = nights();
    let undone = cut_power_everywhere(&vault, &|store, clock| {
        let context = open(store, clock)?;
        let oldest = keepstone::repo::snapshots::list(&context.repository)?.0[0].id;
        forget::remove(&context, oldest)?;
        prune_all(&context).map(|_| ())
    });
    assert!(undone > 5, "{undone} undone");
    cut_power_everywhere(&vault, &|store, clock| rebuild::rebuild_index(&open(store, clock)?).map(|_| ()));
}

#[test]
fn a_removed_key_does_not_come_back() {
    let vault = Vault::new();
    vault.write("file", &noise(1, 10_000));
    vault.back_up();
    let added = keys::add(&vault.open(), &new_key(), GuardKind::KeyFile, "new").unwrap().id;
    let forgetful = Forgetful { inner: vault.store.clone(), deleted: Arc::default() };
    let context = open(Arc::new(forgetful.clone()), &vault.clock).unwrap();
    keys::remove(&context, added, false).unwrap();
    assert!(!forgetful.areas().contains(&Area::Keys));
    let snapshot = keepstone::repo::snapshots::names(&context.repository).unwrap();
    let options = forget::Options {
        selection: forget::Selection::Ids(snapshot),
        zone: keepstone::base::TimeZone::UTC,
        dry_run: false,
        fresh: None,
    };
    forget::forget(&context, &options).unwrap();
    assert!(!forgetful.areas().contains(&Area::Snapshots));
}
