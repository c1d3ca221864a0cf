//! Killed at any change of the store: nothing is lost, and the next run settles what was left.

use crate::vault::{Vault, bytes, count, noise, open, prune_all, read_everything, read_index};
use keepstone::base::Clock;
use keepstone::ops::tag::Change;
use keepstone::ops::{Result, forget, prune, rebuild, tag};
use keepstone::repo::session;
use keepstone::store::{Area, Memory, ObjectStore};
use keepstone::store::{Crash, Fault};
use std::sync::Arc;
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

/// What is stopped: it gets the store that will fail and the clock.
type Act<'a> = &'a dyn Fn(Arc<dyn ObjectStore>, &Clock) -> Result<()>;

/// Runs `act` on copies of `vault`, crashing at each of its changes in turn, in both ways.
fn crash_everywhere(vault: &Vault, act: Act<'_>) -> u64 {
    for crash in [Crash::Before, Crash::After] {
        for change in 1.. {
            let (store, clock) = vault.copy();
            let fault = Fault::new(store.clone());
            fault.crash_at(change, crash);
            let done = act(Arc::new(fault.clone()), &clock);
            if !fault.crashed() {
                done.unwrap();
                if crash == Crash::After {
                    return change - 1;
                }
                break;
            }
            check(&store, &clock, &format!("{crash:?} change {change}"));
        }
    }
    unreachable!("the second round returns")
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
    let changes = crash_everywhere(&vault, &|store, clock| prune_all(&open(store, clock)?).map(|_| ()));
    assert!(changes >= 12, "only {changes} changes were tried");
}

#[test]
fn a_forget_that_is_killed_at_any_change_leaves_whole_snapshots() {
    let vault = nights();
    crash_everywhere(&vault, &|store, clock| {
        let context = open(store, clock)?;
        let newest = keepstone::repo::snapshots::names(&context.repository)?;
        let options = forget::Options {
            selection: forget::Selection::Ids(newest[..1].to_vec()),
            zone: keepstone::base::TimeZone::UTC,
            dry_run: false,
        };
        match forget::forget(&context, &options)?.failures.first() {
            None => Ok(()),
            Some(problem) => Err(keepstone::ops::Error::Refused(problem.message.clone())),
        }
    });
}

#[test]
fn a_tagging_that_is_killed_at_any_change_leaves_the_snapshot_under_one_name_or_both() {
    let vault = nights();
    crash_everywhere(&vault, &|store, clock| {
        let context = open(store, clock)?;
        let ids = keepstone::repo::snapshots::names(&context.repository)?;
        tag::tag(&context, &ids[..1], &Change::Set(vec!["gold".to_owned()])).map(|_| ())
    });
}

#[test]
fn a_rebuild_that_is_killed_at_any_change_leaves_an_index_that_knows_everything() {
    let vault = nights();
    crash_everywhere(&vault, &|store, clock| rebuild::rebuild_index(&open(store, clock)?).map(|_| ()));
}
