//! The log of operations: chained, anchored, put together, and what is said when somebody meddles with it.

use crate::program::{CHEAP, Place};
use crate::vault::{Vault, back_up, key, noise, open, prune_all};
use keepstone::base::monitor::Silent;
use keepstone::base::{Clock, RunId, Stop};
use keepstone::format::run::Run;
use keepstone::ops::log::{self, Checked, Filter, Wrong};
use keepstone::ops::{Context, forget, prune, verify};
use keepstone::repo::{SealedRepository, history, runs};
use keepstone::store::{Area, Crash, Fault, Key, Memory, ObjectStore};
use std::fs;
use std::sync::Arc;

fn all(context: &Context) -> Vec<Run> {
    runs::list(&context.repository).unwrap().0
}

fn checked(context: &Context) -> Checked {
    log::verify(context).unwrap()
}

#[track_caller]
fn sound(context: &Context) -> Checked {
    let checked = checked(context);
    assert_eq!(checked.findings, []);
    checked
}

fn key_of(run: RunId) -> Key {
    Key::new(Area::Runs, run)
}

/// Backups and verifies of a few nights.
fn nights(count: u64) -> Vault {
    let vault = Vault::new();
    for night in 0..count {
        vault.write("file", &noise(night, 9_000));
        vault.back_up();
        vault.hours(1);
        verify_some(&vault.open());
    }
    vault
}

fn verify_some(context: &Context) {
    let part = verify::Part { most_bytes: Some(1), ..verify::Part::default() };
    verify::verify(context, &verify::Options { snapshots: Vec::new(), depth: verify::Depth::Part(part) }).unwrap();
}

#[test]
fn every_record_names_the_one_before_and_snapshots_name_the_newest() {
    let vault = nights(4);
    let context = vault.open();
    let runs = all(&context);
    assert_eq!(runs.iter().map(|run| run.sequence).collect::<Vec<_>>(), (1..=8).collect::<Vec<_>>());
    for pair in runs.windows(2) {
        assert_eq!(pair[1].previous, [pair[0].reference()]);
    }
    let (snapshots, _) = keepstone::repo::snapshots::list(&context.repository).unwrap();
    assert_eq!(snapshots[3].log, [runs[5].reference()]);
    let checked = sound(&context);
    assert_eq!((checked.entries, checked.machines, checked.references), (8, 1, 7 + 3));
    assert!(checked.notes.is_empty(), "{:?}", checked.notes);
}

#[test]
fn a_record_that_is_taken_away_is_named_whichever_it_is() {
    let vault = nights(3);
    let runs = all(&vault.open());
    for run in &runs[..runs.len() - 1] {
        let (store, clock) = vault.copy();
        store.delete(&key_of(run.id)).unwrap();
        let checked = checked(&open(Arc::new(store), &clock).unwrap());
        assert_eq!(
            (checked.finding_count, checked.findings[0].entry, checked.findings[0].wrong),
            (1, run.id, Wrong::Removed)
        );
    }
    // Nobody names the newest; that its snapshot has no record is told.
    vault.back_up();
    let context = vault.open();
    let newest = all(&context).pop().unwrap();
    vault.store.delete(&key_of(newest.id)).unwrap();
    let checked = sound(&context);
    assert!(checked.notes.iter().any(|note| note.contains("no record tells")), "{:?}", checked.notes);
}

#[test]
fn a_record_that_is_altered_or_exchanged_is_named() {
    let vault = nights(3);
    let runs = all(&vault.open());
    let (store, clock) = vault.copy();
    let mut bytes = store.get(&key_of(runs[1].id), u64::MAX).unwrap();
    bytes[40] ^= 1;
    store.replace(&key_of(runs[1].id), &bytes).unwrap();
    let found = checked(&open(Arc::new(store), &clock).unwrap());
    assert_eq!(
        (found.finding_count, found.findings[0].entry, found.findings[0].wrong),
        (1, runs[1].id, Wrong::Altered)
    );

    // In the place of another, and by somebody who has the keys.
    let (store, clock) = vault.copy();
    store.replace(&key_of(runs[1].id), &store.get(&key_of(runs[2].id), u64::MAX).unwrap()).unwrap();
    let found = checked(&open(Arc::new(store), &clock).unwrap());
    assert_eq!((found.finding_count, found.findings[0].wrong), (1, Wrong::Altered));

    let (store, clock) = vault.copy();
    let context = open(Arc::new(store.clone()), &clock).unwrap();
    let lie = Run { operation: "nothing at all".to_owned(), ..runs[1].clone() };
    put(&context, &store, &lie);
    let found = checked(&context);
    assert_eq!(
        (found.finding_count, found.findings[0].entry, found.findings[0].wrong),
        (1, runs[1].id, Wrong::Altered)
    );
    assert!(found.findings[0].message.contains("exchanged"), "{:?}", found.findings);

    // A record that claims another place.
    let (store, clock) = vault.copy();
    let context = open(Arc::new(store.clone()), &clock).unwrap();
    let last = runs.last().unwrap();
    put(&context, &store, &Run { sequence: 2, ..last.clone() });
    let found = checked(&context);
    assert_eq!((found.finding_count, found.findings[0].entry, found.findings[0].wrong), (1, last.id, Wrong::Reordered));
}

fn put(context: &Context, store: &Memory, run: &Run) {
    use keepstone::format::cbor::Cbor;
    use keepstone::format::envelope::ObjectKind;
    let sealed = context.repository.keyring().seal(ObjectKind::Run, &run.to_cbor()).unwrap();
    store.replace(&key_of(run.id), &sealed).unwrap();
}

#[test]
fn a_ledger_that_is_taken_away_or_altered_is_named() {
    let vault = nights(2);
    let ledger = |store: &Memory| {
        let keys = crate::vault::keys(store);
        keys.into_iter().find(|key| key.name().ends_with(".ledger")).unwrap()
    };
    let (store, clock) = vault.copy();
    store.delete(&ledger(&store)).unwrap();
    let found = checked(&open(Arc::new(store), &clock).unwrap());
    assert_eq!((found.finding_count, found.findings[0].wrong), (1, Wrong::Removed), "{:?}", found.findings);
    let (store, clock) = vault.copy();
    let key = ledger(&store);
    let mut bytes = store.get(&key, u64::MAX).unwrap();
    bytes[60] ^= 1;
    store.replace(&key, &bytes).unwrap();
    let found = checked(&open(Arc::new(store), &clock).unwrap());
    assert_eq!((found.finding_count, found.findings[0].wrong), (1, Wrong::Altered), "{:?}", found.findings);
}

#[test]
fn two_at_once_on_one_machine_are_no_fork_and_the_next_names_both() {
    let vault = nights(1);
    let cache = tempfile::tempdir().unwrap();
    let context = || {
        let store: Arc<dyn ObjectStore> = Arc::new(vault.store.clone());
        let repository = SealedRepository::open(store).unwrap().unlock(&key(), vault.clock.clone()).unwrap();
        Context::open(repository, Some(cache.path().to_owned()), Arc::new(Silent), Stop::new()).unwrap().0
    };
    verify_some(&context());
    let (one, other) = (context(), context());
    // Both know what is the newest before either stores its own.
    let before = [&one, &other].map(|context| runs::heads(&context.repository).unwrap());
    assert_eq!(before[0], before[1]);
    verify_some(&one);
    verify_some(&other);
    verify_some(&context());
    let runs = all(&context());
    let sequences: Vec<u64> = runs.iter().map(|run| run.sequence).collect();
    assert_eq!(sequences.iter().max(), Some(&5), "{sequences:?}");
    let joined = runs.iter().find(|run| run.sequence == 5).unwrap();
    assert_eq!(joined.previous.len(), 2);
    sound(&context());
    // What this machine remembers is missed even before anything names it.
    vault.store.delete(&key_of(joined.id)).unwrap();
    let found = checked(&context());
    assert_eq!((found.finding_count, found.findings[0].entry), (1, joined.id));
    assert!(found.findings[0].message.contains("this machine"), "{:?}", found.findings);
}

#[test]
fn a_run_that_is_killed_anywhere_looks_like_nothing_else() {
    let vault = nights(2);
    vault.write("file", &noise(77, 30_000));
    for crash in [Crash::Before, Crash::After] {
        for change in 1.. {
            let (store, clock) = vault.copy();
            let fault = Fault::new(store.clone());
            fault.crash_at(change, crash);
            let done = open(Arc::new(fault.clone()), &clock).and_then(|context| back_up(&context, vault.files.path()));
            let context = open(Arc::new(store), &clock).unwrap();
            sound(&context);
            if !fault.crashed() {
                done.unwrap();
                break;
            }
            back_up(&context, vault.files.path()).unwrap();
            verify_some(&context);
            sound(&context);
        }
    }
}

/// Stores so many records as quickly as it goes.
fn pile_up(context: &Context, clock: &Clock, count: u64) {
    for _ in 0..count {
        clock.advance(std::time::Duration::from_secs(3600));
        let newest = all_newest(context);
        let mut run = Run { id: RunId(keepstone::base::random::bytes()), ledger: None, ..newest };
        (run.begun_ns, run.ended_ns) = (context.repository.now_ns(), context.repository.now_ns() + 1);
        runs::save(&context.repository, &mut run).unwrap();
    }
}

fn all_newest(context: &Context) -> Run {
    let mut newest = None;
    runs::newest_first(&context.repository, 1, &mut |run| {
        newest = Some(run);
        false
    })
    .unwrap();
    newest.unwrap()
}

fn objects(store: &Memory) -> usize {
    crate::vault::count(store, Area::Runs)
}

#[test]
fn what_a_prune_puts_together_is_all_there_proven_and_no_longer_a_pile() {
    let vault = nights(2);
    let context = vault.open();
    pile_up(&context, &vault.clock, 600);
    let before = all(&context);
    prune_all(&vault.open()).unwrap();
    assert!(objects(&vault.store) < 80, "{} objects", objects(&vault.store));
    let after = all(&vault.open());
    assert_eq!(after[..before.len()], before[..]);
    assert_eq!(after.len(), before.len() + 1);
    assert_eq!(runs::find(&vault.open().repository, before[3].id).unwrap(), Some(before[3].clone()));
    assert!(runs::find(&vault.open().repository, RunId([9; 16])).unwrap().is_none());
    let checked = sound(&vault.open());
    assert!(checked.entries > 600 && checked.references > 600, "{checked:?}");
    // The chain goes on, and years of it stay a few objects.
    for _ in 0..10 {
        pile_up(&context, &vault.clock, 130);
        prune_all(&vault.open()).unwrap();
        assert!(objects(&vault.store) < 64 + 64 + 64 + 16, "{} objects", objects(&vault.store));
    }
    sound(&vault.open());
    let listing = log::list(&vault.open(), &Filter::default(), 10).unwrap();
    assert_eq!((listing.runs.len(), listing.older > 1800), (10, true), "{}", listing.older);
    // A history that is taken away takes records with it, and they are missed.
    let history = crate::vault::keys(&vault.store).into_iter().find(|key| key.name().ends_with(".history")).unwrap();
    vault.store.delete(&history).unwrap();
    let found = checked_of(&vault);
    assert!(found.finding_count > 0 && found.findings.iter().all(|one| one.wrong == Wrong::Removed), "{found:?}");
}

fn checked_of(vault: &Vault) -> Checked {
    checked(&vault.open())
}

#[test]
fn a_merge_that_is_killed_at_any_change_loses_no_record() {
    let vault = nights(1);
    pile_up(&vault.open(), &vault.clock, 140);
    let before = all(&vault.open());
    let merge = history::Options { delete: true, drop_before_ns: None };
    let mut tried = 0;
    // Deletions are alike: the first, one in between and the last tell all.
    for change in [1, 2, 3, 40, 70, 76, 77, 78] {
        for crash in [Crash::Before, Crash::After] {
            let (store, clock) = vault.copy();
            let fault = Fault::new(store.clone());
            fault.crash_at(change, crash);
            let context = open(Arc::new(fault.clone()), &clock).unwrap();
            let done = history::merge(&context.repository, &merge);
            tried += u32::from(fault.crashed());
            assert_eq!(done.is_ok(), !fault.crashed());
            let context = open(Arc::new(store.clone()), &clock).unwrap();
            assert_eq!(all(&context), before, "{crash:?} {change}");
            sound(&context);
            history::merge(&context.repository, &merge).unwrap();
            assert_eq!(all(&context), before, "{crash:?} {change}, merged again");
            sound(&context);
        }
    }
    assert!(tried >= 12, "{tried} crashes");
}

#[test]
fn who_may_not_delete_merges_all_the_same_and_two_at_once_do_no_harm() {
    let vault = nights(1);
    pile_up(&vault.open(), &vault.clock, 300);
    let before = all(&vault.open());
    let merge =
        |delete| history::merge(&vault.open().repository, &history::Options { delete, drop_before_ns: None }).unwrap();
    assert!(merge(false).runs > 200);
    assert_eq!(merge(false).runs, 0, "they are in a history");
    assert_eq!(all(&vault.open()), before);
    let (twice, clock) = vault.copy();
    merge(true);
    assert!(objects(&vault.store) < 80);
    assert_eq!(all(&vault.open()), before);
    // Another who merged at the same time.
    for key in crate::vault::keys(&twice).into_iter().filter(|key| key.area() == Area::Runs) {
        vault.store.put(&key, &twice.get(&key, u64::MAX).unwrap()).unwrap();
    }
    assert_eq!(all(&vault.open()), before);
    sound(&open(Arc::new(twice), &clock).unwrap());
}

#[test]
fn records_that_are_dropped_for_their_age_are_excused_and_others_are_not() {
    let vault = nights(2);
    pile_up(&vault.open(), &vault.clock, 200);
    vault.hours(24 * 400);
    pile_up(&vault.open(), &vault.clock, 200);
    let old = all(&vault.open());
    let options = prune::Options {
        keep_log: Some(keepstone::ops::select::Age { months: 12, seconds: 0 }),
        ..prune::Options::default()
    };
    let outcome = prune::prune(&vault.open(), &options).unwrap();
    assert!(outcome.records_dropped > 150 && outcome.records_merged > 300, "{outcome:?}");
    let left = all(&vault.open());
    assert!(left.len() < old.len() && left.iter().all(|run| run.ended_ns > old[150].ended_ns));
    let checked = sound(&vault.open());
    assert!(checked.notes.iter().any(|note| note.contains("dropped by a prune")), "{:?}", checked.notes);
    // What was not dropped is still missed.
    let (store, clock) = vault.copy();
    store.delete(&key_of(left[left.len() - 5].id)).unwrap();
    let found = log::verify(&open(Arc::new(store), &clock).unwrap()).unwrap();
    assert_eq!(found.finding_count, 1, "{:?}", found.findings);
}

#[test]
fn a_forgotten_snapshot_takes_nothing_of_the_log_with_it() {
    let vault = nights(2);
    let context = vault.open();
    let ids = keepstone::repo::snapshots::names(&context.repository).unwrap();
    ids.into_iter().for_each(|id| forget::remove(&context, id).unwrap());
    assert_eq!(sound(&context).entries, 4);
}

#[test]
fn the_log_is_listed_filtered_and_verified_and_a_removed_record_is_exit_code_4() {
    let place = Place::new();
    place.make_tree();
    place.run(&[&["backup", "--init"], &CHEAP[..], &["source"]].concat()).expect(0);
    place.run(&["backup", "source", "nowhere"]).expect(3);
    place.run(&["verify"]).expect(0);
    let listed = place.run(&["log", "--json"]).expect(0).json();
    let operations: Vec<_> = listed.iter().filter_map(|entry| entry["operation"].as_str()).collect();
    assert_eq!(operations, ["backup", "backup", "verify"]);
    assert_eq!((&listed[1]["sequence"], &listed[1]["outcome"]), (&2.into(), &"partial".into()));
    assert_eq!(listed[1]["previous"][0], listed[0]["id"]);
    let partial = place.run(&["log", "--outcome", "partial", "--operation", "backup", "--json"]).expect(0).json();
    assert_eq!(partial.len(), 2);
    let text = place.run(&["log", "--newest", "1"]).expect(0).text();
    assert!(text.contains("verify") && text.contains("2 older"), "{text}");
    assert!(place.run(&["log", "--host", "elsewhere"]).expect(0).text().contains("0 operations"));
    let sound = place.run(&["log", "verify"]).expect(0).text();
    assert!(sound.contains("nothing") && sound.contains("3 records of 1 machine"), "{sound}");
    let id = listed[1]["id"].as_str().unwrap();
    fs::remove_file(place.path("vault/runs").join(id)).unwrap();
    let found = place.run(&["log", "verify"]).expect(4);
    assert!(found.text().contains(&format!("record {id} was removed")), "{}", found.text());
    let found = &place.run(&["log", "verify", "--json"]).expect(4).json()[0];
    assert_eq!((&found["finding_count"], &found["findings"][0]["entry"]), (&1.into(), &id.into()));
}
