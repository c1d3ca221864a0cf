//! What keeps a repository in order: forget, prune, tag, key slots, rebuild, info.

use crate::vault::{
    Vault, back_up, bytes, count, key, keys as keys_in, noise, open, prune_all, read_everything, read_index, verify_all,
};
use keepstone::base::{Clock, Kind, Secret, SlotId, TimeZone, Timestamp};
use keepstone::crypto::slots::{GuardKind, StretchCost, Unlock};
use keepstone::format::session::SessionKind;
use keepstone::ops::forget::{Filter, Options, Selection};
use keepstone::ops::retention::{GroupBy, Policy};
use keepstone::ops::tag::Change;
use keepstone::ops::{Context, forget, info, keys, prune, rebuild, tag};
use keepstone::repo::index::{SegmentReader, list_segments};
use keepstone::repo::snapshots::{self, Found};
use keepstone::repo::{SealedRepository, Session, session};
use keepstone::store::{Area, Error, Fault, Key, Locked, ObjectStore, Operation};
use std::sync::Arc;
use std::time::Duration;

fn policy(policy: Policy) -> Options {
    let selection =
        Selection::Policy { policy: Box::new(policy), filter: Filter::default(), group_by: GroupBy::default() };
    Options { selection, zone: TimeZone::UTC, dry_run: false, fresh: None }
}

fn last(count: u32) -> Policy {
    Policy { keep_last: count, ..Policy::default() }
}

/// A vault with a file that is new each night.
fn vault(nights: u64) -> Vault {
    let vault = Vault::new();
    for night in 0..nights {
        vault.write("file", &noise(night, 100_000));
        vault.back_up();
        vault.hours(24);
    }
    vault
}

fn ids(context: &Context) -> Vec<keepstone::base::SnapshotId> {
    snapshots::names(&context.repository).unwrap()
}

#[test]
fn forget_keeps_what_the_policy_keeps_and_prune_frees_the_rest() {
    let vault = vault(5);
    let context = vault.open();
    let before = bytes(&vault.store, Area::Packs);
    let dry = forget::forget(&context, &Options { dry_run: true, ..policy(last(2)) }).unwrap();
    assert_eq!((dry.kept, dry.removed, ids(&context).len()), (2, 3, 5));
    let outcome = forget::forget(&context, &policy(last(2))).unwrap();
    assert_eq!((outcome.kept, outcome.removed, outcome.remaining), (2, 3, 2));
    assert!(outcome.failures.is_empty() && outcome.added_bytes >= 300_000);
    let kept: Vec<_> = outcome.groups[0].kept.iter().map(|kept| kept.snapshot.id).collect();
    let mut there = ids(&context);
    there.sort_by_key(|id| std::cmp::Reverse(kept.iter().position(|kept| kept == id)));
    assert!(kept.iter().all(|id| there.contains(id)) && there.len() == 2);
    assert_eq!(bytes(&vault.store, Area::Packs), before, "forgetting frees nothing");

    let dry = prune::prune(&context, &prune::Options { dry_run: true, ..prune::Options::default() }).unwrap();
    assert_eq!(bytes(&vault.store, Area::Packs), before);
    let outcome = prune::prune(&context, &prune::Options::default()).unwrap();
    assert!(outcome.freed_bytes >= 300_000 && dry.freed_bytes >= 300_000, "{outcome:?} {dry:?}");
    assert_eq!(outcome.packs_deleted, dry.packs_deleted);
    assert_eq!(outcome.bytes_before - outcome.freed_bytes, outcome.bytes_after);
    assert!(bytes(&vault.store, Area::Packs) < before - 300_000);
    read_everything(&context).unwrap();
    read_everything(&vault.open()).unwrap();
    let again = prune::prune(&vault.open(), &prune::Options::default()).unwrap();
    assert_eq!((again.packs_deleted, again.packs_written, again.freed_bytes), (0, 0, 0));
}

#[test]
fn a_policy_that_keeps_nothing_removes_nothing() {
    let vault = vault(2);
    let context = vault.open();
    for empty in [Policy::default(), Policy { keep_tags: vec![vec!["gold".to_owned()]], ..Policy::default() }] {
        let error = forget::forget(&context, &policy(empty)).unwrap_err();
        assert_eq!(error.kind(), Kind::Refused);
        assert!(error.to_string().contains("keepstone forget"), "{error}");
    }
    let unknown = Options { selection: Selection::Ids(vec![keepstone::base::SessionId([1; 16])]), ..policy(last(1)) };
    assert_eq!(forget::forget(&context, &unknown).unwrap_err().kind(), Kind::NotFound);
    assert_eq!(ids(&context).len(), 2);
}

#[test]
fn a_removal_that_fails_is_a_failure_and_the_others_go_on() {
    let vault = vault(4);
    let fault = Fault::new(vault.store.clone());
    let context = open(Arc::new(fault.clone()), &vault.clock).unwrap();
    fault.fail_next_of(Operation::Delete, 1, Kind::Denied);
    let outcome = forget::forget(&context, &policy(last(1))).unwrap();
    assert_eq!((outcome.removed, outcome.remaining, outcome.failures.len()), (2, 2, 1));
    assert_eq!(outcome.failures[0].kind, Kind::Denied);
    let (runs, _) = keepstone::repo::runs::list(&context.repository).unwrap();
    let run = runs.iter().rfind(|run| run.operation == "forget").unwrap();
    assert_eq!(run.outcome, keepstone::format::run::Outcome::Failed);
}

#[test]
fn prune_waits_for_nobody_and_the_first_one_after_his_end_deletes_what_he_may_have_counted_on() {
    let vault = vault(3);
    let context = vault.open();
    let writer = Session::begin(&context.repository, SessionKind::Writer, "backup").unwrap();
    forget::forget(&vault.open(), &policy(last(1))).unwrap();
    vault.hours(2);
    let before = count(&vault.store, Area::Packs);
    let outcome = prune_all(&vault.open()).unwrap();
    let waiting = outcome.waiting.clone().unwrap();
    assert!(waiting.packs > 0 && waiting.bytes > 0 && outcome.packs_deleted == 0, "{outcome:?}");
    let text = &waiting.reason;
    assert!(text.contains("backup on host") && text.contains("2 h 0 min"), "{text}");
    assert!(count(&vault.store, Area::Packs) >= before);
    read_everything(&vault.open()).unwrap();
    // Nothing more is condemned meanwhile, and a dry run says what is left.
    assert_eq!(prune_all(&vault.open()).unwrap().waiting.unwrap().record, waiting.record);
    let dry = prune::Options { dry_run: true, ..prune::Options::default() };
    let dry = prune::prune(&vault.open(), &dry).unwrap();
    assert_eq!((dry.packs_deleted, dry.deleted_bytes), (waiting.packs, waiting.bytes));
    writer.end().unwrap();
    let outcome = prune_all(&vault.open()).unwrap();
    assert!(outcome.waiting.is_none() && outcome.packs_deleted >= waiting.packs, "{outcome:?}");
    assert!(count(&vault.store, Area::Packs) < before);
    read_everything(&vault.open()).unwrap();
}

#[test]
fn who_does_not_end_is_fenced_after_a_day_and_cannot_commit() {
    let vault = vault(2);
    let context = vault.open();
    let writer = Session::begin(&context.repository, SessionKind::Writer, "backup").unwrap();
    vault.hours(23);
    assert_eq!(prune_all(&vault.open()).unwrap().sessions_fenced, 0);
    vault.hours(2);
    let outcome = prune_all(&vault.open()).unwrap();
    assert_eq!((outcome.sessions_fenced, outcome.waiting), (1, None));
    let Found::Snapshot(mut snapshot) = snapshots::load(&context.repository, first_snapshot(&context)).unwrap() else {
        panic!("a snapshot")
    };
    snapshot.id = writer.id();
    assert_eq!(writer.commit(&snapshot).unwrap_err().kind(), Kind::Refused, "the fenced writer may still commit");
}

#[test]
fn nobody_is_fenced_for_his_age_when_the_clocks_do_not_agree() {
    let vault = vault(2);
    let context = vault.open();
    let writer = Session::begin(&context.repository, SessionKind::Writer, "backup").unwrap();
    vault.hours(25);
    // A machine whose clock is two hours slow.
    let slow = keepstone::base::Clock::manual(vault.clock.now() - Duration::from_secs(2 * 3600));
    let error = prune_all(&open(Arc::new(vault.store.clone()), &slow).unwrap()).unwrap_err();
    assert_eq!(error.kind(), Kind::Refused);
    assert!(error.to_string().contains("120 minutes ahead of this machine's"), "{error}");
    drop(writer);
    prune_all(&open(Arc::new(vault.store.clone()), &slow).unwrap()).unwrap();
}

fn first_snapshot(context: &Context) -> keepstone::base::SnapshotId {
    let found = ids(context).into_iter();
    let mut snapshots = found.filter(|id| matches!(snapshots::load(&context.repository, *id), Ok(Found::Snapshot(_))));
    snapshots.next().unwrap()
}

#[test]
fn the_packs_of_a_run_that_died_are_freed() {
    let vault = vault(1);
    let before = count(&vault.store, Area::Packs);
    vault.write("lost", &noise(99, 200_000));
    // The run dies after its first pack: what it stored is named by no segment.
    let fault = Fault::stop_after(3, vault.store.clone());
    vault.hours(1);
    back_up(&open(Arc::new(fault), &vault.clock).unwrap(), vault.files.path()).unwrap_err();
    assert_eq!(count(&vault.store, Area::Packs), before + 1);
    vault.hours(25);
    let outcome = prune_all(&vault.open()).unwrap();
    assert_eq!((outcome.packs_orphaned, outcome.sessions_fenced), (1, 1));
    assert_eq!(count(&vault.store, Area::Packs), before);
    read_everything(&vault.open()).unwrap();
}

#[test]
fn many_small_packs_and_segments_become_few() {
    let vault = Vault::new();
    for night in 0..18 {
        vault.write(&format!("file{night}"), &noise(night, 30_000));
        vault.back_up();
    }
    let packs = count(&vault.store, Area::Packs);
    assert!(count(&vault.store, Area::Index) > 16 && packs >= 36);
    let blobs = read_everything(&vault.open()).unwrap();
    let outcome = prune::prune(&vault.open(), &prune::Options::default()).unwrap();
    assert_eq!(count(&vault.store, Area::Packs), 2, "{outcome:?}");
    assert_eq!(count(&vault.store, Area::Index), 1);
    assert_eq!(outcome.segments_after, 1);
    assert_eq!(read_everything(&vault.open()).unwrap(), blobs);
    let before = bytes(&vault.store, Area::Packs);
    vault.write("file0", &noise(77, 30_000));
    vault.back_up();
    assert!(bytes(&vault.store, Area::Packs) < before + 45_000, "the next backup knows what is there");
    read_everything(&vault.open()).unwrap();
}

#[test]
fn rewriting_stays_within_the_bytes_it_is_given() {
    let vault = Vault::new();
    for night in 0..9 {
        vault.write(&format!("file{night}"), &noise(night, 50_000));
        vault.back_up();
    }
    let none = prune::Options { max_repack_bytes: Some(0), ..prune::Options::default() };
    assert_eq!(prune::prune(&vault.open(), &none).unwrap().packs_written, 0);
    let some = prune::Options { max_repack_bytes: Some(200_000), ..prune::Options::default() };
    let outcome = prune::prune(&vault.open(), &some).unwrap();
    assert!(outcome.packs_repacked > 1 && outcome.packs_kept > 1, "{outcome:?}");
}

#[test]
fn nothing_goes_when_a_tree_or_a_segment_cannot_be_read() {
    let vault = vault(3);
    let context = vault.open();
    forget::forget(&context, &policy(last(1))).unwrap();
    let before = count(&vault.store, Area::Packs);
    let store: &dyn ObjectStore = &vault.store;
    let segment = *list_segments(store).unwrap().keys().next().unwrap();
    let key = Key::new(Area::Index, segment);
    let good = store.get(&key, u64::MAX).unwrap();
    let mut bad = good.clone();
    bad[100] ^= 1;
    store.replace(&key, &bad).unwrap();
    let error = prune_all(&vault.open()).unwrap_err();
    assert_eq!(error.kind(), Kind::Damaged);
    assert!(error.to_string().contains("rebuild-index"), "{error}");
    assert_eq!(count(&vault.store, Area::Packs), before);
    let rebuilt = rebuild::rebuild_index(&vault.open()).unwrap();
    assert_eq!((rebuilt.packs as usize, rebuilt.damaged.len()), (before, 0));
    prune_all(&vault.open()).unwrap();
    read_everything(&vault.open()).unwrap();
    // A needed pack that is gone: the others must stay for whoever repairs.
    let pack = crate::vault::keys(store).into_iter().find(|key| key.area() == Area::Packs).unwrap();
    store.delete(&pack).unwrap();
    let error = prune_all(&vault.open()).unwrap_err();
    assert_eq!(error.kind(), Kind::Damaged);
    assert!(error.to_string().contains("nothing was deleted"), "{error}");
    assert_eq!(count(store, Area::Packs), 1);
}

#[test]
fn a_base_lives_while_anything_on_it_lies_in_a_pack_that_stays() {
    let vault = Vault::new();
    let mut dump = noise(1, 200_000);
    vault.write("dump", &dump);
    vault.back_up();
    for place in 0..10 {
        dump[place * 20_000..][..30].copy_from_slice(&noise(place as u64, 30));
    }
    vault.write("dump", &dump);
    vault.write("stays", &noise(2, 100_000));
    vault.back_up();
    vault.write("dump", &noise(3, 1000));
    vault.back_up();
    forget::forget(&vault.open(), &policy(last(1))).unwrap();
    // The second night's pack stays for the other file. Its differences are dead, but the next backup may find them
    // alike and build on them: the first night's pack has to stay with it.
    let packs = count(&vault.store, Area::Packs);
    let options = prune::Options { max_unused: prune::MaxUnused::Unlimited, ..prune::Options::default() };
    prune::prune(&vault.open(), &options).unwrap();
    assert!(count(&vault.store, Area::Packs) >= packs - 2, "only the first two nights' trees go");
    read_index(&vault.open()).unwrap();
    prune_all(&vault.open()).unwrap();
    assert!(bytes(&vault.store, Area::Packs) < 130_000);
    read_index(&vault.open()).unwrap();
    read_everything(&vault.open()).unwrap();
}

#[test]
fn what_dead_differences_hang_on_counts_as_unused() {
    let vault = Vault::new();
    let mut dump = noise(1, 400_000);
    vault.write("dump", &dump);
    vault.back_up();
    (0..40).for_each(|place| dump[place * 10_000 + 5000..][..10].copy_from_slice(&noise(place as u64, 10)));
    vault.write("dump", &dump);
    vault.write("stays", &noise(2, 1_000_000));
    vault.back_up();
    vault.write("dump", &noise(3, 1000));
    vault.back_up();
    forget::forget(&vault.open(), &policy(last(1))).unwrap();
    let prune = |max_unused: &str| {
        let options = prune::Options { max_unused: max_unused.parse().unwrap(), ..prune::Options::default() };
        prune::prune(&vault.open(), &options).unwrap()
    };
    // Differences of some hundred bytes each, together far below five per cent, keep 400,000.
    let kept = prune("unlimited");
    assert!((300_000..450_000).contains(&kept.pinned_bytes), "{kept:?}");
    assert!(prune("60%").packs_repacked == 0);
    let freed = prune("5%");
    assert_eq!((freed.packs_repacked, freed.pinned_bytes), (1, 0), "{freed:?}");
    assert!(bytes(&vault.store, Area::Packs) < 1_060_000, "{freed:?}");
    read_index(&vault.open()).unwrap();
    read_everything(&vault.open()).unwrap();
}

#[test]
fn the_index_comes_back_from_the_packs() {
    let vault = vault(2);
    let blobs = read_everything(&vault.open()).unwrap();
    for segment in list_segments(&vault.store).unwrap().keys() {
        vault.store.delete(&Key::new(Area::Index, segment)).unwrap();
    }
    let context = vault.open();
    assert!(read_everything(&context).is_err());
    let outcome = rebuild::rebuild_index(&context).unwrap();
    assert!(outcome.packs == 4 && outcome.damaged.is_empty(), "{outcome:?}");
    assert_eq!(read_everything(&context).unwrap(), blobs);
    assert_eq!(read_everything(&vault.open()).unwrap(), blobs);
}

#[test]
fn numbers_of_condemned_records_never_come_twice() {
    let vault = vault(3);
    let mut highest = 0;
    for keep in [2, 1] {
        forget::forget(&vault.open(), &policy(last(keep))).unwrap();
        prune_all(&vault.open()).unwrap();
        let next = session::list_condemned(&vault.store).unwrap().highest() + 1;
        assert!(next > highest + 1);
        highest = next - 1;
        assert_eq!(count(&vault.store, Area::Condemned), 1, "only the last leaves its number");
    }
    let keyring = vault.open().repository.keyring().clone();
    for segment in list_segments(&vault.store).unwrap().keys() {
        let reader = SegmentReader::open(&vault.store, &keyring, *segment).unwrap();
        assert!(reader.head.condemned_seen < highest + 1);
    }
}

#[test]
fn tags_change_under_a_new_name_that_says_where_it_came_from() {
    let vault = vault(1);
    let context = vault.open();
    let first = ids(&context)[0];
    let add = Change::Edit { add: vec!["b".to_owned(), "a".to_owned()], remove: Vec::new() };
    let outcome = tag::tag(&context, &[first], &add).unwrap();
    let second = outcome.changed[0].new;
    assert_eq!((outcome.changed[0].old, outcome.changed[0].tags.join(",")), (first, "a,b".to_owned()));
    assert_eq!(ids(&context), [second]);
    assert_eq!(tag::tag(&context, &[second], &add).unwrap().unchanged, 1);
    let set = tag::tag(&context, &[second], &Change::Set(vec!["c".to_owned()])).unwrap();
    let Found::Snapshot(third) = snapshots::load(&context.repository, set.changed[0].new).unwrap() else {
        panic!("a snapshot")
    };
    assert_eq!((third.original, third.tags.join(",")), (Some(first), "c".to_owned()));
    assert!(session::open_sessions(&context.repository).unwrap().is_empty());
    assert_eq!(tag::tag(&context, &[first], &add).unwrap_err().kind(), Kind::NotFound);
}

fn passphrase(text: &str) -> Unlock {
    Unlock::Passphrase(Secret::new(text.as_bytes().to_vec()))
}

fn opens(vault: &Vault, unlock: &Unlock) -> Result<SlotId, Kind> {
    let sealed = SealedRepository::open(Arc::new(vault.store.clone())).unwrap();
    let opened = sealed.unlock(unlock, vault.clock.clone());
    opened.map(|repository| repository.slot()).map_err(|error| error.kind())
}

#[test]
fn key_slots_are_added_exchanged_and_removed_but_never_the_last() {
    let vault = Vault::new();
    let context = vault.open();
    let cheap = GuardKind::Passphrase(StretchCost { memory_kib: 64, passes: 1, lanes: 1 });
    let only = keys::list(&context).unwrap();
    assert!(only.len() == 1 && only[0].current && only[0].label == "first");
    let refused = keys::remove(&context, only[0].id, true).unwrap_err();
    assert_eq!(refused.kind(), Kind::Refused);

    let added = keys::add(&context, &passphrase("correct horse"), cheap, "second").unwrap();
    assert_eq!(opens(&vault, &passphrase("correct horse")), Ok(added.id));
    assert_eq!(keys::remove(&context, only[0].id, false).unwrap_err().kind(), Kind::Refused);
    assert_eq!(keys::remove(&context, SlotId([9; 16]), false).unwrap_err().kind(), Kind::NotFound);

    let changed = keys::passwd(&context, Some(added.id), &passphrase("battery"), cheap).unwrap();
    assert_eq!(opens(&vault, &passphrase("correct horse")), Err(Kind::WrongKey));
    assert_eq!(opens(&vault, &passphrase("battery")), Ok(changed.new));

    let dearer = GuardKind::Passphrase(StretchCost { memory_kib: 128, passes: 2, lanes: 1 });
    let wrong = keys::rewrap(&context, Some(changed.new), &passphrase("staple"), dearer).unwrap_err();
    assert_eq!(wrong.kind(), Kind::WrongKey);
    let rewrapped = keys::rewrap(&context, Some(changed.new), &passphrase("battery"), dearer).unwrap();
    let listed = keys::list(&context).unwrap();
    let slot = listed.iter().find(|slot| slot.id == rewrapped.new).unwrap();
    assert_eq!((slot.memory_kib, slot.passes, slot.label.as_str()), (Some(128), Some(2), "second"));
    assert_eq!(listed.len(), 2);
    assert_eq!(keys::find_slot(&context, &slot.id.to_string()[..6]).unwrap(), slot.id);
    assert_eq!(keys::find_slot(&context, "zz").unwrap_err().kind(), Kind::NotFound);

    let removed = keys::remove(&context, only[0].id, true).unwrap();
    assert!(removed.note.contains("epoch"));
    assert_eq!(opens(&vault, &key()), Err(Kind::WrongKey));
    assert_eq!(opens(&vault, &passphrase("battery")), Ok(rewrapped.new));
}

#[test]
fn info_sums_up_days_weeks_and_months() {
    let vault = vault(3);
    let context = vault.open();
    forget::forget(&context, &policy(last(2))).unwrap();
    let outcome = info::info(&context, &info::Options { zone: TimeZone::UTC }).unwrap();
    assert_eq!((outcome.snapshots, outcome.hosts.join(","), outcome.runs), (2, "alpha".to_owned(), 4));
    assert_eq!(outcome.content_bytes, 200_000);
    // March 1st 2025 is a Saturday.
    let labels: Vec<&str> = outcome.weeks.iter().map(|sum| sum.label.as_str()).collect();
    assert_eq!(labels, ["2025-W09", "2025-W10"]);
    assert_eq!(outcome.months.len(), 1);
    let month = &outcome.months[0];
    assert_eq!((month.label.as_str(), month.snapshots, month.runs), ("2025-03", 2, 4));
    assert_eq!(month.outcomes, [("done".to_owned(), 4)]);
    assert_eq!(outcome.days[0].label, "2025-03-01");
    assert_eq!(outcome.total_bytes, outcome.areas.iter().map(|area| area.bytes).sum::<u64>());
    assert!(outcome.problems.is_empty());
}

/// A store that lets nobody delete packs before a time, or nothing at all.
struct Locking {
    inner: Arc<dyn ObjectStore>,
    clock: Clock,
    until: Timestamp,
    all: bool,
}

impl Locking {
    fn locks(&self, key: &Key) -> bool {
        (self.all || key.area() == Area::Packs) && self.clock.now() < self.until
    }
}

impl ObjectStore for Locking {
    keepstone::store::forward!(inner: put, begin, replace, get, get_range, size, list, location, free_bytes);
    fn delete(&self, key: &Key) -> Result<(), Error> {
        match self.locks(key) {
            true => {
                Err(Error::new(Kind::Denied, "delete", key, "Access Denied because object protected by object lock"))
            }
            false => self.inner.delete(key),
        }
    }
    fn lock_on(&self, key: &Key) -> Result<Option<Locked>, Error> {
        Ok(self.locks(key).then_some(Locked::Until(self.until)))
    }
}

#[test]
fn packs_that_are_locked_are_left_by_every_prune_until_they_are_not_and_nobody_finds_them_again() {
    // A series of differences: what is locked of it hangs on bases that go.
    let vault = Vault::new();
    let mut dump = noise(1, 400_000);
    for night in 0..5u64 {
        (0..6).for_each(|at| dump[at * 60_000 + night as usize * 977..][..40].copy_from_slice(&noise(night * 10, 40)));
        vault.write("dump.sql", &dump);
        vault.write("new", &noise(50 + night, 50_000));
        vault.back_up();
    }
    vault.hours(1);
    let until = vault.clock.now() + Duration::from_secs(72 * 3600);
    let (inner, clock): (Arc<dyn ObjectStore>, _) = (Arc::new(vault.store.clone()), vault.clock.clone());
    let locked =
        || open(Arc::new(Locking { inner: inner.clone(), clock: clock.clone(), until, all: false }), &clock).unwrap();
    forget::forget(&locked(), &policy(last(1))).unwrap();
    let blobs = read_everything(&vault.open()).unwrap();
    let first = prune_all(&locked()).unwrap();
    assert!(first.packs_locked >= 4 && first.locked_bytes > 100_000, "{first:?}");
    assert_eq!((first.packs_deleted, first.lock), (0, Some(Locked::Until(until))), "{first:?}");
    // However often, and also where another prune has things of its own to sweep in between.
    for night in 0..2u64 {
        vault.write("new", &noise(70 + night, 50_000));
        vault.back_up();
        vault.hours(24);
        forget::forget(&locked(), &policy(last(1))).unwrap();
        let again = prune_all(&locked()).unwrap();
        assert!(again.packs_locked > first.packs_locked && again.packs_deleted == 0, "{again:?}");
        // Nobody takes what is in them for known, also where the index is made anew from the packs that are there.
        rebuild::rebuild_index(&locked()).unwrap();
        read_index(&vault.open()).unwrap();
        assert!(read_everything(&vault.open()).unwrap() >= blobs - 10);
    }
    vault.hours(30);
    let last = prune_all(&locked()).unwrap();
    assert!(last.packs_locked == 0 && last.packs_deleted > first.packs_locked, "{last:?}");
    let kept = open(inner.clone(), &clock).unwrap().index.packs().unwrap().len();
    assert_eq!(count(&vault.store, Area::Packs), kept, "nothing is left");
    read_everything(&vault.open()).unwrap();
}

#[test]
fn a_bucket_that_locks_everything_stops_no_prune_and_what_is_replaced_goes_when_the_locks_end() {
    let vault = vault(5);
    vault.hours(1);
    let until = vault.clock.now() + Duration::from_secs(120 * 3600);
    let (inner, clock): (Arc<dyn ObjectStore>, _) = (Arc::new(vault.store.clone()), vault.clock.clone());
    let locking = || Locking { inner: inner.clone(), clock: clock.clone(), until, all: true };
    let locked = || open(Arc::new(locking()), &clock).unwrap();
    let mut blobs = 0;
    for night in 0..3u64 {
        vault.write("new", &noise(90 + night, 50_000));
        back_up(&locked(), vault.files.path()).unwrap();
        // Who may lift locks forgets.
        forget::forget(&vault.open(), &policy(last(1))).unwrap();
        blobs = read_everything(&vault.open()).unwrap();
        let pruned = prune_all(&locked()).unwrap();
        assert_eq!((pruned.packs_deleted, pruned.segments_deleted), (0, 0), "{pruned:?}");
        assert!(pruned.packs_locked > 0 && pruned.segments_locked > 0, "{pruned:?}");
        assert_eq!((pruned.sessions_cleared, pruned.lock), (0, Some(Locked::Until(until))), "{pruned:?}");
        assert_eq!(read_everything(&vault.open()).unwrap(), blobs);
        assert!(!verify_all(&vault.open()).unwrap().damage);
        // Nobody counts on what the prune took for gone: it comes back whole when it is stored again.
        read_index(&vault.open()).unwrap();
        vault.hours(12);
    }
    // A writer beside it who knows only what the locked segments say.
    vault.write("new", &noise(90, 50_000));
    back_up(&locked(), vault.files.path()).unwrap();
    read_everything(&vault.open()).unwrap();
    vault.hours(120);
    let last = prune_all(&locked()).unwrap();
    assert!(last.segments_locked == 0 && last.segments_deleted >= 3 && last.packs_deleted > 0, "{last:?}");
    let kept = vault.open().index.packs().unwrap().len();
    assert_eq!(count(&vault.store, Area::Packs), kept, "nothing is left");
    assert!(read_everything(&vault.open()).unwrap() >= blobs);
    assert!(!verify_all(&vault.open()).unwrap().damage);
}

/// The objects that verify names.
fn named_damage(context: &Context) -> Vec<String> {
    let found = verify_all(context).unwrap();
    assert_eq!(found.damage, !found.damages.is_empty());
    found.damages.into_iter().map(|damage| damage.object).collect()
}

#[test]
fn a_damaged_segment_that_cannot_be_deleted_is_nobodys_concern_once_the_index_was_made_anew() {
    let vault = vault(4);
    let until = vault.clock.now() + Duration::from_secs(100 * 24 * 3600);
    let (inner, clock): (Arc<dyn ObjectStore>, _) = (Arc::new(vault.store.clone()), vault.clock.clone());
    let locked =
        || open(Arc::new(Locking { inner: inner.clone(), clock: clock.clone(), until, all: true }), &clock).unwrap();
    let segments: Vec<Key> = keys_in(&vault.store).into_iter().filter(|key| key.area() == Area::Index).collect();
    let spoiled = &segments[1];
    let mut damaged = vault.store.get(spoiled, u64::MAX).unwrap();
    damaged[200..300].fill(0);
    vault.store.replace(spoiled, &damaged).unwrap();
    assert!(named_damage(&locked()).contains(&spoiled.to_string()));
    assert_eq!(prune_all(&locked()).unwrap_err().kind(), Kind::Damaged);

    let rebuilt = rebuild::rebuild_index(&locked()).unwrap();
    assert_eq!(rebuilt.damaged, []);
    let blobs = read_everything(&vault.open()).unwrap();
    for round in 0..3 {
        assert_eq!(named_damage(&locked()), [""; 0], "round {round}");
        vault.write("file", &noise(70 + round, 100_000));
        back_up(&locked(), vault.files.path()).unwrap();
        assert_eq!(named_damage(&locked()), [""; 0], "round {round}: after a backup");
        vault.hours(30);
        forget::forget(&vault.open(), &policy(last(3))).unwrap();
        let pruned = prune_all(&locked()).unwrap();
        assert!(pruned.segments_locked >= 4 && pruned.damaged.is_empty(), "{pruned:?}");
        assert_eq!(named_damage(&locked()), [""; 0], "round {round}: after a prune");
        rebuild::rebuild_index(&locked()).unwrap();
    }
    assert!(list_segments(&vault.store).unwrap().len() > 4 && vault.store.size(spoiled).is_ok());
    vault.hours(100 * 24);
    prune_all(&vault.open()).unwrap();
    assert_eq!(named_damage(&vault.open()), [""; 0]);
    assert_eq!(vault.store.size(spoiled).unwrap_err().kind(), Kind::NotFound);
    let left = list_segments(&vault.store).unwrap();
    assert!(left.len() <= 2, "what was replaced has gone: {left:?}");
    assert!(read_everything(&vault.open()).unwrap() <= blobs + 30);
    // What is damaged now is missed as ever.
    let last = left.into_keys().next().unwrap();
    vault.store.delete(&Key::new(Area::Index, last)).unwrap();
    assert!(named_damage(&vault.open()).contains(&Key::new(Area::Index, last).to_string()));
}
