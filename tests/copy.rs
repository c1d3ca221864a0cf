//! Copies in a second repository: equal, incremental, resumable, and nothing is copied that is not whole.

use crate::simulation::hook::Hook;
use crate::vault::{Vault, bytes, count, files_below, key, keys, noise, open, prune_all, restore, verify_all};
use keepstone::base::monitor::Silent;
use keepstone::base::{Clock, Kind, SnapshotId, Stop};
use keepstone::chunk::Sizes;
use keepstone::compress::Level;
use keepstone::crypto::slots::GuardKind;
use keepstone::format::session::SessionKind;
use keepstone::format::snapshot::Snapshot;
use keepstone::ops::copy::{self, Fate, Outcome};
use keepstone::ops::select::{self, Filter};
use keepstone::ops::tag::Change;
use keepstone::ops::{Context, Result, forget, tag};
use keepstone::repo::{Repository, SealedRepository, Session, snapshots};
use keepstone::store::{Area, Crash, Damage, Fault, Memory, ObjectStore, Operation};
use std::sync::Arc;
use std::time::Duration;

/// A second repository, whose names are those of the vault or its own.
struct Site {
    store: Memory,
    clock: Clock,
}

impl Site {
    fn new(vault: &Vault, shared: bool) -> Site {
        let clock = Clock::manual(vault.clock.now());
        let store = Memory::with_clock(clock.clone());
        let place: Arc<dyn ObjectStore> = Arc::new(store.clone());
        let made = match shared {
            true => {
                let like = vault.open().repository;
                Repository::create_like(place, &like, &key(), GuardKind::KeyFile, "first", clock.clone())
            }
            // Chunks of other sizes too: what is copied stays cut as it was.
            false => {
                let sizes = Sizes::new(8 << 10, 32 << 10, 128 << 10).unwrap();
                Repository::create(place, sizes, &key(), GuardKind::KeyFile, "first", clock.clone())
            }
        };
        made.unwrap();
        Site { store, clock }
    }

    fn open(&self) -> Context {
        open(Arc::new(self.store.clone()), &self.clock).unwrap()
    }

    fn bytes(&self) -> u64 {
        bytes(&self.store, Area::Packs)
    }
}

fn all(source: &Context) -> copy::Options {
    let listing = select::list(source, &Filter::default()).unwrap();
    copy::Options { listing, level: Level::Default, verify: false, dry_run: false }
}

fn only(source: &Context, ids: &[SnapshotId]) -> copy::Options {
    let mut options = all(source);
    options.listing.snapshots.retain(|snapshot| ids.contains(&snapshot.id));
    options
}

/// Copies everything and finds nothing wrong.
#[track_caller]
fn copy_all(source: &Context, destination: &Context) -> Outcome {
    let outcome = copy::copy(source, destination, &all(source)).unwrap();
    assert!(!outcome.damage(), "{:?} {:?}", outcome.damages, outcome.problems);
    outcome
}

fn copied(outcome: &Outcome) -> Vec<(Snapshot, SnapshotId)> {
    let id = |fate: &Fate| match fate {
        Fate::Copied(id) => Some(*id),
        _ => None,
    };
    outcome.snapshots.iter().filter_map(|one| Some((one.snapshot.clone(), id(&one.fate)?))).collect()
}

/// A night's changes: a dump of which a little changes everywhere, a file that is new, and many that stay.
fn write_night(vault: &Vault, night: u64) {
    let mut dump = noise(1, 600_000);
    for past in 0..=night {
        for place in 0..8 {
            let at = place * 70_000 + past as usize * 977;
            dump[at..at + 40].copy_from_slice(&noise(past * 100 + place as u64, 40));
        }
    }
    vault.write("dump.sql", &dump);
    vault.write(&format!("new/{night}"), &noise(50 + night, 30_000));
    if night == 0 {
        (0..300).for_each(|file| vault.write(&format!("kept/{}/{file}", file % 7), &noise(500 + file, 900)));
        vault.write("kept/long", &noise(3, 5_000_000));
        vault.write("kept/tiny", b"tiny");
        vault.write("kept/empty", b"");
    }
}

/// Backs so many nights up; gives their names.
fn nights(vault: &Vault, nights: std::ops::Range<u64>) -> Vec<SnapshotId> {
    nights
        .map(|night| {
            write_night(vault, night);
            vault.back_up()
        })
        .collect()
}

/// Every copy restores to what the original restores to, and says the same of itself.
#[track_caller]
fn same(vault: &Vault, site: &Context, pairs: &[(Snapshot, SnapshotId)]) {
    let folder = vault.files.path();
    for (original, id) in pairs {
        let snapshots::Found::Snapshot(copy) = snapshots::load(&site.repository, *id).unwrap() else {
            panic!("{id} is no snapshot");
        };
        let origin = copy.copied.as_ref().unwrap();
        assert!(copy.log.is_empty());
        assert_eq!((origin.repository, origin.snapshot), (vault.open().repository.id(), original.id));
        let alike = Snapshot {
            id: original.id,
            root: original.root,
            parent: original.parent,
            received_ns: original.received_ns,
            segments: original.segments.clone(),
            copied: None,
            // Records stay where they were stored.
            log: original.log.clone(),
            ..*copy
        };
        assert_eq!(alike, *original);
        let (first, wanted) = restore(&vault.open(), original.id, folder).unwrap();
        let (second, there) = restore(site, *id, folder).unwrap();
        assert!(first.problem_count + second.problem_count == 0 && wanted.len() > 300);
        assert!(wanted == there, "{} and its copy {id} differ", original.id);
    }
}

#[test]
fn copies_equal_their_originals_whether_names_are_shared_or_not() {
    let vault = Vault::new();
    nights(&vault, 0..3);
    for shared in [true, false] {
        let site = Site::new(&vault, shared);
        let outcome = copy_all(&vault.open(), &site.open());
        assert_eq!(outcome.shared_names, shared);
        let pairs = copied(&outcome);
        assert_eq!(pairs.len(), 3);
        same(&vault, &site.open(), &pairs);
        let found = verify_all(&site.open()).unwrap();
        assert!(!found.damage, "{:?}", found.damages);
        // The second time there is nothing to do.
        let before = keys(&site.store).len();
        let again = copy_all(&vault.open(), &site.open());
        assert_eq!(again.count(|fate| matches!(fate, Fate::There(_))), 3);
        assert_eq!(again.cost, copy::Cost::default());
        assert_eq!(keys(&site.store).len(), before + 1, "a record of the run and nothing else");
    }
}

#[test]
fn a_night_that_is_copied_later_costs_what_changed() {
    let vault = Vault::new();
    nights(&vault, 0..2);
    for shared in [true, false] {
        let site = Site::new(&vault, shared);
        copy_all(&vault.open(), &site.open());
        let (whole, before) = (site.bytes(), bytes(&vault.store, Area::Packs));
        let id = if shared { nights(&vault, 2..3) } else { nights(&vault, 3..4) };
        let cost = bytes(&vault.store, Area::Packs) - before;
        let outcome = copy_all(&vault.open(), &site.open());
        let pairs = copied(&outcome);
        assert!(pairs.iter().any(|(original, _)| original.id == id[0]));
        let added = site.bytes() - whole;
        assert_eq!(pairs.len(), 1);
        // What it cost the first repository, and far less than all of it.
        assert!(
            added < cost + cost / 5 && added * 10 < whole,
            "shared {shared}: {added}, {cost} there, {whole} before"
        );
        assert!(outcome.cost.blob_bytes < 700_000, "shared {shared}: {:?}", outcome.cost);
        assert!(outcome.cost.trees < 12, "shared {shared}: unchanged trees are not walked: {:?}", outcome.cost);
        same(&vault, &site.open(), &pairs);
        assert!(!verify_all(&site.open()).unwrap().damage);
    }
}

#[test]
fn a_night_without_the_ones_before_it_is_stored_on_what_is_there_or_whole() {
    let vault = Vault::new();
    let ids = nights(&vault, 0..6);
    for shared in [true, false] {
        let site = Site::new(&vault, shared);
        let (source, destination) = (vault.open(), site.open());
        let first = copy::copy(&source, &destination, &only(&source, &ids[..1])).unwrap();
        let whole = site.bytes();
        // Its bases of the nights between are not there: it hangs on the first night.
        let last = copy::copy(&source, &destination, &only(&source, &ids[5..])).unwrap();
        let added = site.bytes() - whole;
        assert!(added < 400_000, "shared {shared}: {added} bytes added to {whole}");
        same(&vault, &destination, &[copied(&first), copied(&last)].concat());
        // Alone it has nothing to hang on, and is whole all the same.
        let alone = Site::new(&vault, shared);
        let outcome = copy::copy(&vault.open(), &alone.open(), &only(&vault.open(), &ids[5..])).unwrap();
        same(&vault, &alone.open(), &copied(&outcome));
        for site in [&site, &alone] {
            assert!(!verify_all(&site.open()).unwrap().damage);
        }
    }
}

#[test]
fn a_later_backup_into_the_copy_dedups_against_it_when_names_are_shared() {
    let vault = Vault::new();
    nights(&vault, 0..2);
    let mut added = Vec::new();
    for shared in [true, false] {
        let site = Site::new(&vault, shared);
        copy_all(&vault.open(), &site.open());
        let mut options = crate::vault::backup_of(vault.files.path());
        options.parent = keepstone::ops::backup::Parent::None;
        options.host = Some("beta".to_owned());
        let before = site.bytes();
        let made = keepstone::ops::backup::backup(&site.open(), &options).unwrap().snapshot.unwrap();
        added.push(site.bytes() - before);
        let (outcome, files) = restore(&site.open(), made.id, vault.files.path()).unwrap();
        assert!(outcome.problem_count == 0 && files == files_below(vault.files.path()));
    }
    let [shared, own] = added[..] else { panic!("two sites") };
    assert!(shared < 40_000 && own > 20 * shared, "{shared} and {own} bytes");
}

#[test]
fn what_comes_home_and_what_is_tagged_is_known() {
    let vault = Vault::new();
    let ids = nights(&vault, 0..2);
    let site = Site::new(&vault, true);
    let third = Site::new(&vault, false);
    let source = vault.open();
    copy_all(&source, &site.open());
    tag::tag(&source, &ids[..1], &Change::Set(vec!["gold".to_owned()])).unwrap();
    let copies = snapshots::names(&site.open().repository).unwrap();
    tag::tag(&site.open(), &copies[..1], &Change::Set(vec!["silver".to_owned()])).unwrap();
    let there = |outcome: &Outcome| outcome.count(|fate| matches!(fate, Fate::There(_)));
    assert_eq!(there(&copy_all(&vault.open(), &site.open())), 2);
    assert_eq!(there(&copy_all(&site.open(), &vault.open())), 2, "they come from there");
    // By way of the site or directly: a third repository gets each once.
    assert_eq!(copied(&copy_all(&site.open(), &third.open())).len(), 2);
    assert_eq!(there(&copy_all(&vault.open(), &third.open())), 2);
    // What home has forgotten comes back.
    let newest = snapshots::list(&vault.open().repository).unwrap().0.pop().unwrap();
    forget::remove(&vault.open(), newest.id).unwrap();
    vault.hours(48);
    prune_all(&vault.open()).unwrap();
    assert_eq!(copied(&copy_all(&site.open(), &vault.open())).len(), 1);
    assert!(!verify_all(&vault.open()).unwrap().damage);
}

#[test]
fn a_copy_that_is_killed_at_any_change_is_made_good_by_the_next_which_uses_what_was_stored() {
    let vault = Vault::new();
    vault.write("dump.sql", &noise(1, 200_000));
    vault.write("of/some", &noise(2, 40_000));
    vault.back_up();
    vault.write("of/more", &noise(3, 60_000));
    vault.back_up();
    for shared in [true, false] {
        let whole = Site::new(&vault, shared);
        copy_all(&vault.open(), &whole.open());
        let mut reused = 0;
        for crash in [Crash::Before, Crash::After] {
            for change in 1.. {
                let site = Site::new(&vault, shared);
                let fault = Fault::new(site.store.clone());
                fault.crash_at(change, crash);
                let destination = open(Arc::new(fault.clone()), &site.clock).unwrap();
                let done = copy::copy(&vault.open(), &destination, &all(&vault.open()));
                if !fault.crashed() {
                    done.unwrap();
                    assert!(change > 12, "only {change} changes");
                    break;
                }
                let segments = count(&site.store, Area::Index) as u64;
                check_killed(&vault, &site, &whole, &format!("{shared} {crash:?} {change}"));
                reused += u64::from(segments == 1);
            }
        }
        assert!(reused >= 2, "what a killed run had stored was used again {reused} times");
    }
}

/// What was committed is whole; the next copy completes and stores nothing a second time that a segment names.
fn check_killed(vault: &Vault, site: &Site, whole: &Site, what: &str) {
    let found = verify_all(&site.open()).unwrap();
    assert!(!found.damage, "{what}: {:?}", found.damages);
    let segments = count(&site.store, Area::Index);
    let before = site.bytes();
    let outcome = copy_all(&vault.open(), &site.open());
    assert_eq!(outcome.snapshots.len(), 2, "{what}");
    let now = site.bytes() - before;
    if segments > 0 {
        assert!(now * 2 < whole.bytes(), "{what}: {now} bytes although {segments} segments were there");
    }
    assert_eq!(snapshots::list(&site.open().repository).unwrap().0.len(), 2, "{what}");
    let found = verify_all(&site.open()).unwrap();
    assert!(!found.damage, "{what}: {:?}", found.damages);
}

#[test]
fn a_damaged_snapshot_is_not_copied_and_the_others_are() {
    let vault = Vault::new();
    vault.write("good", &noise(1, 90_000));
    vault.back_up();
    let before = keys(&vault.store);
    vault.write("bad", &noise(2, 90_000));
    let bad = vault.back_up();
    let data = keys(&vault.store).into_iter().filter(|key| key.area() == Area::Packs && !before.contains(key));
    let largest = data.max_by_key(|key| vault.store.size(key).unwrap()).unwrap();
    std::fs::remove_file(vault.files.path().join("bad")).unwrap();
    vault.write("good too", &noise(3, 9_000));
    vault.back_up();
    for damage in [Damage::Flip(40_000), Damage::Drop] {
        for shared in [true, false] {
            let fault = Fault::new(vault.store.clone());
            fault.damage(&largest, damage.clone());
            let source = || open(Arc::new(fault.clone()), &vault.clock).unwrap();
            let site = Site::new(&vault, shared);
            let outcome = copy::copy(&source(), &site.open(), &all(&source())).unwrap();
            assert!(outcome.damage());
            assert_eq!(outcome.snapshots[1].fate, Fate::Damaged, "{damage:?}");
            assert_eq!(copied(&outcome).len(), 2, "{damage:?}");
            let hurt: Vec<_> = outcome.damages.iter().flat_map(|damage| &damage.files).collect();
            assert!(!hurt.is_empty() && hurt.iter().all(|file| file.snapshot == bad), "{:?}", outcome.damages);
            assert!(hurt.iter().all(|file| file.path.ends_with(b"/bad")), "{hurt:?}");
            assert_eq!(snapshots::list(&site.open().repository).unwrap().0.len(), 2);
            assert!(!verify_all(&site.open()).unwrap().damage);
            // When the source is whole again, the rest follows.
            assert_eq!(copied(&copy_all(&vault.open(), &site.open())).len(), 1);
            assert!(!verify_all(&site.open()).unwrap().damage);
        }
    }
}

#[test]
fn what_the_destination_has_lost_is_stored_again_and_not_relied_on() {
    let vault = Vault::new();
    nights(&vault, 0..2);
    for shared in [true, false] {
        let site = Site::new(&vault, shared);
        copy_all(&vault.open(), &site.open());
        let packs = keys(&site.store).into_iter().filter(|key| key.area() == Area::Packs);
        let largest = packs.max_by_key(|key| site.store.size(key).unwrap()).unwrap();
        site.store.delete(&largest).unwrap();
        let ids = nights(&vault, if shared { 2..3 } else { 3..4 });
        let outcome = copy::copy(&vault.open(), &site.open(), &only(&vault.open(), &ids)).unwrap();
        assert!(outcome.damage() && outcome.problems.iter().any(|problem| problem.subject.contains(largest.name())));
        same(&vault, &site.open(), &copied(&outcome));
    }
}

#[test]
fn a_destination_that_fails_or_is_full_fails_the_run_and_loses_nothing() {
    let vault = Vault::new();
    nights(&vault, 0..1);
    for full in [true, false] {
        let site = Site::new(&vault, true);
        let fault = Fault::new(site.store.clone());
        match full {
            true => fault.full_after(2_000_000),
            false => fault.crash_at(4, Crash::Before),
        }
        let destination = open(Arc::new(fault), &site.clock).unwrap();
        let error = copy::copy(&vault.open(), &destination, &all(&vault.open())).unwrap_err();
        assert_eq!(error.kind(), if full { Kind::Full } else { Kind::Unavailable }, "{error}");
        assert!(!verify_all(&site.open()).unwrap().damage);
        assert_eq!(copied(&copy_all(&vault.open(), &site.open())).len(), 1);
    }
}

#[test]
fn what_was_stored_is_read_back_before_it_is_committed() {
    let vault = Vault::new();
    nights(&vault, 0..2);
    let site = Site::new(&vault, false);
    let source = vault.open();
    let options = copy::Options { verify: true, ..all(&source) };
    let outcome = copy::copy(&source, &site.open(), &options).unwrap();
    assert_eq!(copied(&outcome).len(), 2);
    same(&vault, &site.open(), &copied(&outcome));
}

#[test]
fn a_dry_run_stores_nothing_and_says_what_would_be_copied() {
    let vault = Vault::new();
    nights(&vault, 0..2);
    let site = Site::new(&vault, true);
    let before = keys(&site.store);
    let source = vault.open();
    let outcome = copy::copy(&source, &site.open(), &copy::Options { dry_run: true, ..all(&source) }).unwrap();
    assert_eq!(keys(&site.store), before);
    assert_eq!(outcome.count(|fate| *fate == Fate::WouldBe), 2);
    let real = copy_all(&source, &site.open());
    assert_eq!((outcome.cost.blobs, outcome.cost.blob_bytes), (real.cost.blobs, real.cost.blob_bytes));
}

#[test]
fn who_is_asked_to_stop_keeps_what_was_stored() {
    let vault = Vault::new();
    nights(&vault, 0..1);
    let site = Site::new(&vault, true);
    let repository = SealedRepository::open(Arc::new(vault.store.clone())).unwrap();
    let repository = repository.unlock(&key(), vault.clock.clone()).unwrap();
    let stop = Stop::new();
    let (source, _) = Context::open(repository, None, Arc::new(Silent), stop.clone()).unwrap();
    let options = all(&source);
    stop.raise();
    let error = copy::copy(&source, &site.open(), &options).unwrap_err();
    assert_eq!(error.kind(), Kind::Interrupted);
    assert_eq!(copied(&copy_all(&vault.open(), &site.open())).len(), 1);
}

#[test]
fn a_repository_is_not_copied_into_itself() {
    let vault = Vault::new();
    nights(&vault, 0..1);
    let (twin, clock) = vault.copy();
    let error = |destination: Context| copy::copy(&vault.open(), &destination, &all(&vault.open())).unwrap_err();
    assert_eq!(error(vault.open()).kind(), Kind::Refused);
    assert_eq!(error(open(Arc::new(twin), &clock).unwrap()).kind(), Kind::Refused, "nor into its twin");
}

#[test]
fn a_snapshot_that_goes_from_the_destination_takes_nothing_along_that_a_later_copy_counts_on() -> Result<()> {
    let vault = Vault::new();
    nights(&vault, 0..2);
    let site = Site::new(&vault, true);
    copy_all(&vault.open(), &site.open());
    for id in snapshots::names(&site.open().repository)? {
        forget::remove(&site.open(), id)?;
    }
    site.clock.advance(Duration::from_secs(48 * 3600));
    prune_all(&site.open())?;
    let outcome = copy_all(&vault.open(), &site.open());
    assert_eq!(copied(&outcome).len(), 2);
    same(&vault, &site.open(), &copied(&outcome));
    Ok(())
}

/// Condemns all that the snapshots of `context`'s repository need, which are forgotten, while somebody is at work who does
/// not know of it and commits `last` once more in the end; gives the name that it has then.
fn condemned_and_needed(opened: &dyn Fn() -> Context, last: &Snapshot) -> SnapshotId {
    let context = opened();
    let session = Session::begin(&context.repository, SessionKind::Writer, "tag").unwrap();
    for id in snapshots::names(&context.repository).unwrap() {
        forget::remove(&opened(), id).unwrap();
    }
    let outcome = prune_all(&opened()).unwrap();
    assert!(outcome.waiting.is_some_and(|waiting| waiting.packs >= 2), "a record is open");
    let id = session.id();
    session.commit(&Snapshot { id, ..last.clone() }).unwrap();
    id
}

/// The newest snapshot.
fn newest(context: &Context) -> Snapshot {
    snapshots::list(&context.repository).unwrap().0.pop().unwrap()
}

#[test]
fn what_lies_in_condemned_packs_of_the_source_is_copied_as_it_is_restored() {
    for shared in [true, false] {
        let vault = Vault::new();
        let ids = nights(&vault, 0..4);
        let first = Site::new(&vault, shared);
        copy::copy(&vault.open(), &first.open(), &only(&vault.open(), &ids[..1])).unwrap();
        // A series of differences, all of it in packs that a record names.
        let id = condemned_and_needed(&|| vault.open(), &newest(&vault.open()));
        let (outcome, wanted) = restore(&vault.open(), id, vault.files.path()).unwrap();
        assert_eq!((outcome.problem_count, wanted.len()), (0, files_below(vault.files.path()).len()));
        let site = Site::new(&vault, shared);
        let outcome = copy_all(&vault.open(), &site.open());
        same(&vault, &site.open(), &copied(&outcome));
        assert!(!verify_all(&site.open()).unwrap().damage);
        // Where the first night is, they stay differences.
        let before = first.bytes();
        same(&vault, &first.open(), &copied(&copy_all(&vault.open(), &first.open())));
        let added = first.bytes() - before;
        assert!(added < 400_000, "shared {shared}: {added} bytes added to {before}");
    }
}

#[test]
fn a_copy_that_slept_looks_whether_all_that_it_stored_is_there_and_commits_anew() {
    for shared in [true, false] {
        for gone in [false, true] {
            let vault = Vault::new();
            nights(&vault, 0..2);
            let site = Site::new(&vault, shared);
            let (store, clock) = (site.store.clone(), site.clock.clone());
            let hook = Hook::new(
                Arc::new(site.store.clone()),
                |_, operation, subject| operation == Operation::Put && subject.starts_with("snapshots/"),
                move || {
                    // The first prune takes the copy for dead; another one finds that nobody needs what it stored.
                    for prune in 0..if gone { 3 } else { 1 } {
                        clock.advance(Duration::from_secs(26 * 3600));
                        let outcome = prune_all(&open(Arc::new(store.clone()), &clock).unwrap()).unwrap();
                        assert_eq!(outcome.sessions_fenced, u64::from(prune == 0));
                    }
                },
            );
            let destination = open(Arc::new(hook.clone()), &site.clock).unwrap();
            let outcome = copy_all(&vault.open(), &destination);
            assert!(hook.has_struck());
            assert_eq!(copied(&outcome).len(), 2, "shared {shared}, gone {gone}");
            same(&vault, &site.open(), &copied(&outcome));
            site.clock.advance(Duration::from_secs(48 * 3600));
            prune_all(&site.open()).unwrap();
            same(&vault, &site.open(), &copied(&outcome));
            assert!(!verify_all(&site.open()).unwrap().damage);
        }
    }
}

#[test]
fn a_copy_does_not_count_on_what_a_snapshot_needs_that_may_be_forgotten_beside_a_prune() {
    for shared in [true, false] {
        let vault = Vault::new();
        nights(&vault, 0..1);
        let site = Site::new(&vault, shared);
        copy_all(&vault.open(), &site.open());
        let late = condemned_and_needed(&|| site.open(), &newest(&site.open()));
        nights(&vault, 1..2);
        let (store, clock) = (site.store.clone(), site.clock.clone());
        // When the copy is about to commit, what it walked beside is forgotten and swept.
        let hook = Hook::new(
            Arc::new(site.store.clone()),
            |_, operation, subject| operation == Operation::Put && subject.starts_with("snapshots/"),
            move || {
                let there = open(Arc::new(store.clone()), &clock).unwrap();
                forget::remove(&there, late).unwrap();
                assert!(prune_all(&there).unwrap().packs_deleted > 0);
            },
        );
        let destination = open(Arc::new(hook.clone()), &site.clock).unwrap();
        let outcome = copy_all(&vault.open(), &destination);
        assert!(hook.has_struck() && copied(&outcome).len() == 1, "shared {shared}");
        same(&vault, &site.open(), &copied(&outcome));
        assert!(!verify_all(&site.open()).unwrap().damage);
    }
}
