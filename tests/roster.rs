//! Segments that are gone: noticed whichever it is and whatever happened before, and nothing is missed that went on
//! purpose.

use crate::vault::{Vault, backup_of, keys, noise, open, prune_all, restore, verify_all};
use keepstone::base::SnapshotId;
use keepstone::ops::backup::{self, Parent};
use keepstone::ops::{forget, rebuild, tag, verify};
use keepstone::store::{Area, Crash, Fault, Key, Memory, ObjectStore};
use std::sync::Arc;
use std::time::Duration;

fn segments(store: &dyn ObjectStore) -> Vec<Key> {
    keys(store).into_iter().filter(|key| key.area() == Area::Index).collect()
}

fn structure() -> verify::Options {
    verify::Options { snapshots: Vec::new(), depth: verify::Depth::Structure }
}

/// Nothing is missed.
#[track_caller]
fn is_whole(vault: &Vault, story: &str) {
    let found = verify::verify(&vault.open(), &structure()).unwrap();
    assert!(!found.damage, "{story}: {:?}", found.damages);
}

/// Whichever segment is lost: verify names it or nothing was lost by it; a backup says so too and makes a snapshot that
/// can be restored as it is; and after a rebuild all is well.
fn each_is_missed(vault: &Vault, story: &str) {
    let all = segments(&vault.store);
    for lost in &all {
        let (store, clock) = vault.copy();
        // Whoever died before is dead for the copy too, which received everything just now.
        clock.advance(Duration::from_secs(25 * 3600));
        store.delete(lost).unwrap();
        let reopen = |store: &Memory| open(Arc::new(store.clone()), &clock).unwrap();
        let found = verify::verify(&reopen(&store), &structure()).unwrap();
        let named = found.damages.iter().any(|damage| damage.object == lost.to_string());
        assert!(named || !verify_all(&reopen(&store)).unwrap().damage, "{story}: {lost}: {:?}", found.damages);
        let options = backup_of(vault.files.path());
        let outcome = backup::backup(&reopen(&store), &options).unwrap();
        let told = outcome.damages.iter().any(|damage| damage.subject == lost.to_string());
        assert_eq!(told, named, "{story}: {lost}: {:?}", outcome.damages);
        let id = outcome.snapshot.unwrap().id;
        let (restored, files) = restore(&reopen(&store), id, vault.files.path()).unwrap();
        assert_eq!(restored.problem_count, 0, "{story}: {lost}: {:?}", restored.problems);
        assert!(files == crate::vault::files_below(vault.files.path()));
        if named {
            prune_all(&reopen(&store)).unwrap_err();
        }
        rebuild::rebuild_index(&reopen(&store)).unwrap();
        let found = verify_all(&reopen(&store)).unwrap();
        assert!(!found.damage, "{story}: {lost}: {:?}", found.damages);
        prune_all(&reopen(&store)).unwrap();
    }
}

fn write_night(vault: &Vault, night: u64) {
    let mut dump = noise(7, 150_000);
    let at = 20_000 + night as usize * 700;
    dump[at..at + 30].fill(night as u8);
    vault.write("dump.sql", &dump);
    vault.write(&format!("of/{night}"), &noise(20 + night, 30_000));
}

fn interrupted(vault: &Vault, changes: u64) {
    let fault = Fault::new(vault.store.clone());
    let context = open(Arc::new(fault.clone()), &vault.clock).unwrap();
    fault.crash_at(fault.changes() + changes, Crash::After);
    let _ = backup::backup(&context, &backup_of(vault.files.path()));
    drop(context);
    vault.hours(25);
}

#[test]
fn a_lost_segment_is_missed_after_some_nights() {
    let vault = Vault::new();
    for night in 0..4 {
        write_night(&vault, night);
        vault.back_up();
    }
    assert_eq!(segments(&vault.store).len(), 4);
    is_whole(&vault, "nights");
    for lost in segments(&vault.store) {
        let (store, clock) = vault.copy();
        store.delete(&lost).unwrap();
        let found = verify::verify(&open(Arc::new(store), &clock).unwrap(), &structure()).unwrap();
        assert!(found.damages.iter().any(|damage| damage.object == lost.to_string()), "{lost}: {:?}", found.damages);
    }
    each_is_missed(&vault, "nights");
}

#[test]
fn a_lost_segment_of_a_run_that_was_interrupted_is_missed_once_somebody_relies_on_it() {
    let vault = Vault::new();
    write_night(&vault, 0);
    vault.back_up();
    write_night(&vault, 1);
    // Session, seen, pack, pack, segment.
    interrupted(&vault, 5);
    assert_eq!(segments(&vault.store).len(), 2);
    is_whole(&vault, "interrupted");
    vault.back_up();
    each_is_missed(&vault, "after an interrupted run");
}

#[test]
fn writers_at_the_same_time_are_both_missed() {
    let vault = Vault::new();
    write_night(&vault, 0);
    vault.back_up();
    let (first, second) = (vault.open(), vault.open());
    let options = backup::Options { parent: Parent::None, ..backup_of(vault.files.path()) };
    for (night, context) in [(1, &first), (2, &second)] {
        write_night(&vault, night);
        backup::backup(context, &options).unwrap();
    }
    is_whole(&vault, "two writers");
    each_is_missed(&vault, "two writers");
    write_night(&vault, 3);
    vault.back_up();
    is_whole(&vault, "two writers and one");
    each_is_missed(&vault, "two writers and one");
}

/// One step of a random story.
fn step(vault: &Vault, snapshots: &mut Vec<SnapshotId>, number: u64, dice: u64) -> String {
    match dice % 8 {
        0 | 1 => {
            write_night(vault, number);
            snapshots.push(vault.back_up());
            "backup".to_owned()
        }
        2 => {
            write_night(vault, number);
            interrupted(vault, 1 + dice / 8 % 7);
            format!("backup interrupted at {}", 1 + dice / 8 % 7)
        }
        3 if snapshots.len() > 1 => {
            forget::remove(&vault.open(), snapshots.remove(dice as usize / 8 % snapshots.len())).unwrap();
            "forget".to_owned()
        }
        4 => {
            vault.hours(25);
            prune_all(&vault.open()).unwrap();
            "prune".to_owned()
        }
        5 => {
            vault.hours(25);
            let fault = Fault::new(vault.store.clone());
            let context = open(Arc::new(fault.clone()), &vault.clock).unwrap();
            fault.crash_at(fault.changes() + 1 + dice / 8 % 12, Crash::After);
            let done = prune_all(&context).is_ok();
            vault.hours(25);
            format!("prune killed at {} ({done})", 1 + dice / 8 % 12)
        }
        6 if !snapshots.is_empty() => {
            let place = dice as usize / 8 % snapshots.len();
            let change = tag::Change::Set(vec![number.to_string()]);
            snapshots[place] = tag::tag(&vault.open(), &[snapshots[place]], &change).unwrap().changed[0].new;
            "tag".to_owned()
        }
        7 => {
            vault.hours(25);
            rebuild::rebuild_index(&vault.open()).unwrap();
            "rebuild".to_owned()
        }
        _ => "nothing".to_owned(),
    }
}

#[test]
fn whatever_happened_nothing_is_missed_without_need_and_all_that_is_needed_is() {
    for seed in 1..=6 {
        let vault = Vault::new();
        let (mut snapshots, mut story) = (Vec::new(), format!("seed {seed}"));
        write_night(&vault, 0);
        snapshots.push(vault.back_up());
        for (number, dice) in (1..).zip(noise(seed, 24).chunks(2)) {
            let dice = u64::from(dice[0]) + 256 * u64::from(dice[1]);
            let what = step(&vault, &mut snapshots, number, dice);
            story = format!("{story}, {what}");
            is_whole(&vault, &story);
        }
        vault.hours(25);
        each_is_missed(&vault, &story);
    }
}
