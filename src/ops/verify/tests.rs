//! Stories of verifying.
#![allow(clippy::unwrap_used)]

use super::*;
use crate::base::{Monitor, Stop};
use crate::ops::forget;
use crate::ops::select::{Filter, select};
use crate::ops::tests::{Depot, noise};
use crate::repo::ledger::State;
use crate::store::{Area, Key, ObjectStore};
use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs;
use std::path::PathBuf;

/// A folder with tiny, middle and large files.
fn folder() -> (tempfile::TempDir, PathBuf) {
    let holder = tempfile::tempdir().unwrap();
    let top = holder.path().canonicalize().unwrap().join("top");
    fs::create_dir_all(top.join("a/b")).unwrap();
    fs::write(top.join("a/tiny"), "tiny").unwrap();
    fs::write(top.join("a/large"), noise(900_000, 1)).unwrap();
    for number in 0..20 {
        fs::write(top.join(format!("a/b/{number}")), noise(3_000, number + 2)).unwrap();
    }
    (holder, top)
}

fn with(depth: Depth) -> Options {
    Options { snapshots: Vec::new(), depth }
}

fn clean(depot: &Depot, depth: Depth) -> Outcome {
    let outcome = verify(&depot.context, &with(depth)).unwrap();
    assert_eq!(outcome.damages, []);
    assert!(!outcome.damage);
    outcome
}

/// The packs, the smallest first: trees, then chunks.
fn packs(depot: &Depot) -> Vec<Key> {
    let mut packs = depot.keys(Area::Packs);
    packs.sort_by_key(|key| depot.store.size(key).unwrap());
    packs
}

fn names(damage: &Damage) -> Vec<String> {
    damage.files.iter().map(|file| String::from_utf8_lossy(&file.path).into_owned()).collect()
}

#[test]
fn a_sound_repository_is_sound_at_every_depth() {
    let (_holder, top) = folder();
    let depot = Depot::new();
    depot.backup(&top);
    let snapshot = depot.backup(&top);
    let structure = clean(&depot, Depth::Structure);
    assert_eq!((structure.snapshots, structure.bytes_read), (2, 0));
    assert!(select(&depot.context, OsStr::new("latest-verified"), &Filter::default()).is_err());
    let content = clean(&depot, Depth::Content);
    assert!(content.bytes_raw >= 960_000 && content.blobs_read == content.chunks, "{content:?}");
    assert_eq!(clean(&depot, Depth::Sample(1.0)).packs, 1);
    let all = clean(&depot, Depth::All);
    let stored: u64 = packs(&depot).iter().map(|pack| depot.store.size(pack).unwrap()).sum();
    assert!(all.blobs_read > content.blobs_read);
    assert_eq!(all.bytes_read, stored, "each byte of each pack is read once");
    let verified = select(&depot.context, OsStr::new("latest-verified"), &Filter::default()).unwrap();
    assert_eq!(verified.snapshot.id, snapshot.id);
}

#[test]
fn a_flipped_bit_is_found_by_reading_named_with_its_files_and_healed_by_the_next_backup() {
    let (_holder, top) = folder();
    let depot = Depot::new();
    let snapshot = depot.backup(&top);
    let pack = packs(&depot).pop().unwrap();
    depot.damage(&pack, |bytes| bytes[2000] ^= 4);
    assert!(!verify(&depot.context, &with(Depth::Structure)).unwrap().damage);
    let outcome = verify(&depot.context, &with(Depth::Content)).unwrap();
    assert!(outcome.damage);
    assert_eq!(outcome.damage_count, 1, "{:?}", outcome.damages);
    let damage = &outcome.damages[0];
    assert!(damage.message.contains(pack.name()), "{}", damage.message);
    assert!(damage.file_count > 0 && damage.files[0].snapshot == snapshot.id);
    assert!(names(damage).iter().all(|name| name.contains("/a/")), "{:?}", names(damage));
    assert!(select(&depot.context, OsStr::new("latest-verified"), &Filter::default()).is_err());
    // Every file is read again, for what the parent has is no longer trusted.
    let later = depot.backup_all(&top);
    let outcome = verify(&depot.context, &Options { snapshots: vec![later], depth: Depth::Content }).unwrap();
    assert_eq!(outcome.damages, []);
}

#[test]
fn a_damaged_segment_is_found_although_the_cache_knows_what_it_says() {
    let (_holder, top) = folder();
    let depot = Depot::new();
    depot.backup(&top);
    let segment = depot.keys(Area::Index).remove(0);
    let sound = verify(&depot.context, &with(Depth::Content)).unwrap();
    depot.damage(&segment, |bytes| bytes[300] ^= 1);
    for depth in [Depth::Structure, Depth::Content, Depth::All] {
        let outcome = verify(&depot.context, &with(depth)).unwrap();
        assert_eq!(outcome.damage_count, 1, "{:?}", outcome.damages);
        assert_eq!(outcome.damages[0].object, segment.to_string());
        assert!(outcome.damages[0].message.contains("rebuild-index"), "{:?}", outcome.damages);
    }
    let plan =
        crate::ops::repair::plan(&depot.context, &crate::ops::repair::Options::default(), &depot.unlock()).unwrap();
    assert!(plan.items.iter().any(|item| item.key == segment && item.reason.contains("rebuild-index")), "{plan:?}");
    assert!(verify(&depot.context, &with(Depth::Content)).unwrap().tally.objects >= sound.tally.objects);
}

#[test]
fn a_pack_that_could_not_be_read_once_counts_again_when_it_can() {
    let (_holder, top) = folder();
    let depot = Depot::new();
    depot.backup(&top);
    let pack = packs(&depot).pop().unwrap();
    let whole = depot.store.get(&pack, u64::MAX).unwrap();
    depot.damage(&pack, |bytes| bytes[2000] ^= 4);
    assert!(verify(&depot.context, &with(Depth::Content)).unwrap().damage);
    assert!(depot.context.index.knows_of_damage().unwrap());
    depot.store.replace(&pack, &whole).unwrap();
    assert_eq!(verify(&depot.context, &with(Depth::Content)).unwrap().damages, []);
    assert!(!depot.context.index.knows_of_damage().unwrap());
    // So it is to a prune.
    depot.damage(&pack, |bytes| bytes[2000] ^= 4);
    assert!(verify(&depot.context, &with(Depth::Content)).unwrap().damage);
    depot.store.replace(&pack, &whole).unwrap();
    assert_eq!(crate::ops::prune::prune(&depot.context, &crate::ops::prune::Options::default()).unwrap().damaged, []);
}

#[test]
fn a_snapshot_that_somebody_deleted_from_the_store_is_missed() {
    let (_holder, top) = folder();
    let depot = Depot::new();
    let (first, second, third) = (depot.backup(&top), depot.backup(&top), depot.backup(&top));
    let selection = forget::Selection::Ids(vec![second.id]);
    let named = forget::Options { selection, zone: crate::base::clock::TimeZone::UTC, dry_run: false, fresh: None };
    forget::forget(&depot.context, &named).unwrap();
    assert_eq!(verify(&depot.context, &with(Depth::Content)).unwrap().notes, Vec::<String>::new());
    depot.store.delete(&Key::new(Area::Snapshots, first.id)).unwrap();
    let notes = verify(&depot.context, &with(Depth::Content)).unwrap().notes;
    assert!(notes.len() == 1 && notes[0].starts_with(&format!("snapshot {} is gone", first.id.short())), "{notes:?}");
    let all = Options { snapshots: vec![third.clone()], depth: Depth::All };
    assert_eq!(verify(&depot.context, &all).unwrap().notes, notes, "all that there is");
    let named = Options { snapshots: vec![third], depth: Depth::Content };
    assert_eq!(verify(&depot.context, &named).unwrap().notes, Vec::<String>::new(), "who asks for one hears of one");
}

#[test]
fn a_damaged_tree_is_found_by_structure_alone_and_names_the_directory() {
    let (_holder, top) = folder();
    let depot = Depot::new();
    depot.backup(&top);
    let pack = packs(&depot).remove(0);
    depot.damage(&pack, |bytes| bytes[100] ^= 1);
    let outcome = verify(&depot.context, &with(Depth::Structure)).unwrap();
    assert!(outcome.damage && outcome.damages.iter().any(|damage| damage.file_count > 0), "{:?}", outcome.damages);
}

#[test]
fn a_missing_and_a_truncated_pack_are_found_by_structure_alone() {
    let (_holder, top) = folder();
    let depot = Depot::new();
    depot.backup(&top);
    let pack = packs(&depot).pop().unwrap();
    depot.damage(&pack, |bytes| bytes.truncate(5000));
    let outcome = verify(&depot.context, &with(Depth::Structure)).unwrap();
    assert!(outcome.damages[0].message.contains("5000 bytes"), "{:?}", outcome.damages);
    assert_eq!(outcome.damages[0].file_count, 21);
    depot.store.delete(&pack).unwrap();
    let outcome = verify(&depot.context, &with(Depth::Content)).unwrap();
    assert!(outcome.damages[0].message.contains("not there"), "{:?}", outcome.damages);
}

#[test]
fn reading_all_finds_what_no_snapshot_needs() {
    let (_holder, top) = folder();
    let depot = Depot::new();
    let snapshot = depot.backup(&top);
    fs::remove_dir_all(top.join("a")).unwrap();
    depot.backup(&top);
    crate::repo::snapshots::remove(&depot.context.repository, snapshot.id).unwrap();
    let pack = packs(&depot).pop().unwrap();
    depot.damage(&pack, |bytes| bytes[2000] ^= 4);
    assert!(!verify(&depot.context, &with(Depth::Content)).unwrap().damage);
    let outcome = verify(&depot.context, &with(Depth::All)).unwrap();
    assert!(outcome.damages.iter().any(|damage| damage.message.contains("do not have its name")), "{outcome:?}");
}

#[test]
fn reading_all_finds_damage_where_no_blob_lies_and_in_packs_that_no_segment_names() {
    let (_holder, top) = folder();
    let depot = Depot::new();
    depot.backup(&top);
    let pack = packs(&depot).pop().unwrap();
    for at in [3, depot.store.size(&pack).unwrap() - 100] {
        depot.damage(&pack, |bytes| bytes[at as usize] ^= 4);
        assert!(!verify(&depot.context, &with(Depth::Content)).unwrap().damage);
        let outcome = verify(&depot.context, &with(Depth::All)).unwrap();
        assert_eq!(outcome.damage_count, 1, "{:?}", outcome.damages);
        assert!(outcome.damages[0].message.contains("do not have its name"), "{:?}", outcome.damages);
        depot.damage(&pack, |bytes| bytes[at as usize] ^= 4);
    }
    let stray = Key::new(Area::Packs, "5".repeat(64));
    depot.store.put(&stray, &[5; 5000]).unwrap();
    let outcome = verify(&depot.context, &with(Depth::All)).unwrap();
    assert_eq!((outcome.damage_count, outcome.damages[0].object.as_str()), (1, stray.to_string().as_str()));
}

#[test]
fn small_objects_and_their_copies_are_read() {
    let (_holder, top) = folder();
    let depot = Depot::new();
    depot.backup(&top);
    for area in [Area::Config, Area::Keys, Area::Epochs, Area::Snapshots, Area::Index] {
        for key in depot.keys(area) {
            depot.damage(&key, |bytes| bytes[30] ^= 1);
            let fresh = depot.fresh();
            let outcome = fresh.and_then(|context| verify(&context, &with(Depth::Structure)));
            depot.damage(&key, |bytes| bytes[30] ^= 1);
            match outcome {
                Ok(outcome) => assert!(outcome.damage, "{key}"),
                Err(error) => assert!(matches!(error.kind(), Kind::Damaged | Kind::WrongKey), "{key}: {error}"),
            }
        }
    }
    let copy = depot.keys(Area::Epochs).remove(1);
    depot.store.delete(&copy).unwrap();
    let outcome = verify(&depot.context, &with(Depth::Structure)).unwrap();
    assert!(outcome.damages[0].message.contains("only the other copy"), "{:?}", outcome.damages);
}

#[test]
fn a_share_that_makes_no_sense_is_refused() {
    let depot = Depot::new();
    for percent in [0.0, -1.0, 101.0, f64::NAN] {
        assert_eq!(verify(&depot.context, &with(Depth::Sample(percent))).unwrap_err().kind(), Kind::Usage);
    }
}

const HOUR_NS: i64 = 3_600_000_000_000;

fn part(depot: &Depot, part: Part) -> Outcome {
    verify(&depot.context, &with(Depth::Part(part))).unwrap()
}

/// One pack a night.
fn night(depot: &Depot) -> Outcome {
    depot.hours(24);
    part(depot, Part { most_bytes: Some(1), ..Part::default() })
}

fn state(depot: &Depot, snapshot: &Snapshot) -> State {
    ledger::load(&depot.context.repository).unwrap().state(&snapshot.id)
}

/// Several nights of backups, each of which fills packs of its own.
fn nights(depot: &Depot, top: &std::path::Path, count: u32) -> Vec<Snapshot> {
    let one = |night| {
        fs::write(top.join(format!("a/new{night}")), noise(200_000, 100 + night)).unwrap();
        depot.backup(top)
    };
    (0..count).map(one).collect()
}

#[test]
fn one_pack_a_night_is_all_of_them_in_the_promised_number_of_nights() {
    let (_holder, top) = folder();
    let depot = Depot::new();
    let snapshots = nights(&depot, &top, 4);
    let count = packs(&depot).len() as u64;
    for done in 1..=count {
        let outcome = night(&depot);
        let coverage = outcome.coverage.unwrap();
        assert_eq!((outcome.packs, coverage.unread_packs, coverage.nights), (1, count - done, Some(count)));
    }
    assert!(snapshots.iter().all(|snapshot| matches!(state(&depot, snapshot), State::Verified(_))));
    // The next one reads what was read longest ago.
    let before = ledger::load(&depot.context.repository).unwrap();
    let oldest = before.read_ns(&packs(&depot).iter().map(id_of).min_by_key(|id| before.read_ns(id)).unwrap()).unwrap();
    let outcome = night(&depot);
    assert!(outcome.coverage.unwrap().oldest_ns.unwrap() > oldest);
    let share = part(&depot, Part { share: Some((1, 2)), ..Part::default() });
    assert!(share.coverage.unwrap().nights.unwrap() <= 2, "{share:?}");
}

fn id_of(key: &Key) -> PackId {
    key.name().parse().unwrap()
}

#[test]
fn a_snapshot_is_verified_since_the_first_of_its_packs_was_read_and_not_before_all_were() {
    let (_holder, top) = folder();
    let depot = Depot::new();
    let first = nights(&depot, &top, 1).remove(0);
    assert_eq!(state(&depot, &first), State::Unverified);
    let count = packs(&depot).len();
    let began = depot.context.repository.now_ns() + 24 * HOUR_NS;
    for read in 0..count {
        // Trees are read every night, but not the pack that they lie in.
        let proven = matches!(state(&depot, &first), State::Verified(_));
        assert!(!proven || read + 1 == count, "after {read} of {count} packs");
        night(&depot);
    }
    let State::Verified(since) = state(&depot, &first) else { panic!("{:?}", state(&depot, &first)) };
    assert!(since >= began, "{since} {began}");
    let second = nights(&depot, &top, 1).remove(0);
    assert_eq!(state(&depot, &second), State::Unverified);
    let outcome = night(&depot);
    assert!(outcome.coverage.unwrap().unread_packs < 3);
    depot.hours(1);
    let wanted = Options { snapshots: vec![second.clone()], depth: Depth::Content };
    verify(&depot.context, &wanted).unwrap();
    assert_eq!(state(&depot, &second), State::Verified(depot.context.repository.now_ns()));
}

#[test]
fn time_that_is_over_stops_behind_the_first_pack() {
    let (_holder, top) = folder();
    let depot = Depot::new();
    nights(&depot, &top, 3);
    let outcome = part(&depot, Part { most_seconds: Some(0), ..Part::default() });
    assert_eq!(outcome.packs, 1);
    assert!(outcome.coverage.unwrap().nights.unwrap() >= 2);
    let all = part(&depot, Part { most_seconds: Some(3600), ..Part::default() });
    let coverage = all.coverage.unwrap();
    assert_eq!((coverage.unread_packs, coverage.nights), (0, Some(1)));
}

#[test]
fn damage_hurts_every_snapshot_that_needs_it_and_is_over_when_all_is_read_whole() {
    let (_holder, top) = folder();
    let depot = Depot::new();
    let snapshots = nights(&depot, &top, 3);
    clean(&depot, Depth::All);
    // What only the last night brought.
    let last = packs(&depot).into_iter().filter(|key| depot.store.size(key).unwrap() > 150_000).max_by_key(|key| {
        depot.context.index.packs().unwrap().iter().find(|pack| pack.id == id_of(key)).unwrap().written_ns
    });
    let last = last.unwrap();
    depot.damage(&last, |bytes| bytes[3000] ^= 1);
    depot.hours(1);
    let outcome = verify(&depot.context, &with(Depth::All)).unwrap();
    assert_eq!(outcome.hurt.iter().map(|hurt| hurt.id).collect::<Vec<_>>(), [snapshots[2].id], "{outcome:?}");
    assert_eq!(outcome.damages.iter().map(|damage| damage.snapshots.len()).max(), Some(1));
    assert!(outcome.tally.objects_damaged > 0 && outcome.tally.objects > 8, "{:?}", outcome.tally);
    assert!(outcome.tally.blobs_damaged > 0 && outcome.tally.blobs > 20, "{:?}", outcome.tally);
    assert!(matches!(state(&depot, &snapshots[2]), State::Damaged(_)));
    assert!(matches!(state(&depot, &snapshots[1]), State::Verified(_)));
    let verified = select(&depot.context, OsStr::new("latest-verified"), &Filter::default()).unwrap();
    assert_eq!(verified.snapshot.id, snapshots[1].id);
    assert_eq!(ledger::load(&depot.context.repository).unwrap().read_ns(&id_of(&last)), None, "it counts as not read");
    // The next backup stores what is damaged once more; then it is whole.
    depot.hours(1);
    depot.backup_all(&top);
    let wanted = Options { snapshots: vec![snapshots[2].clone()], depth: Depth::Content };
    depot.hours(1);
    let outcome = verify(&depot.context, &wanted).unwrap();
    assert!(outcome.hurt.is_empty(), "{outcome:?}");
    assert!(matches!(state(&depot, &snapshots[2]), State::Verified(_)));
}

#[test]
fn a_file_that_several_damages_hurt_is_counted_once() {
    let (_holder, top) = folder();
    let depot = Depot::new();
    let snapshots = nights(&depot, &top, 2);
    let first = packs(&depot).pop().unwrap();
    depot.damage(&first, |bytes| bytes.iter_mut().step_by(100_000).skip(1).for_each(|byte| *byte ^= 1));
    let outcome = verify(&depot.context, &with(Depth::All)).unwrap();
    let mut files: BTreeMap<_, BTreeSet<&[u8]>> = BTreeMap::new();
    let (mut named, mut of_large) = (0u64, 0);
    for file in outcome.damages.iter().flat_map(|damage| &damage.files) {
        files.entry(file.snapshot).or_default().insert(&file.path);
        named += 1;
        of_large += u32::from(file.path.ends_with(b"large"));
    }
    let counted: Vec<_> = files.into_iter().map(|(id, files)| HurtSnapshot { id, files: files.len() as u64 }).collect();
    assert_eq!(outcome.hurt, counted);
    assert!(of_large > 2 && named > counted.iter().map(|hurt| hurt.files).sum::<u64>(), "{of_large} of {named}");
    assert_eq!(counted.len(), snapshots.len());
}

#[test]
fn damage_found_for_one_snapshot_is_told_of_all_that_it_hurts() {
    let (_holder, top) = folder();
    let depot = Depot::new();
    let snapshots = nights(&depot, &top, 3);
    let first = packs(&depot).pop().unwrap();
    depot.damage(&first, |bytes| bytes[9000] ^= 1);
    let wanted = Options { snapshots: vec![snapshots[1].clone()], depth: Depth::Content };
    let outcome = verify(&depot.context, &wanted).unwrap();
    let hurt: Vec<_> = outcome.hurt.iter().map(|hurt| hurt.id).collect();
    assert!(snapshots.iter().all(|snapshot| hurt.contains(&snapshot.id)), "{outcome:?}");
    assert!(snapshots.iter().all(|snapshot| matches!(state(&depot, snapshot), State::Damaged(_))));
}

#[test]
fn what_was_read_before_somebody_stopped_it_counts() {
    let (_holder, top) = folder();
    let depot = Depot::new();
    nights(&depot, &top, 4);
    let stop = Stop::new();
    let watched = depot.watched(Arc::new(StopAfterReading(stop.clone())), stop);
    let one = Part { most_bytes: Some(1), ..Part::default() };
    let error = verify(&watched, &with(Depth::Part(one))).unwrap_err();
    assert_eq!(error.kind(), Kind::Interrupted);
    let known = ledger::load(&depot.context.repository).unwrap();
    assert_eq!(packs(&depot).iter().filter(|key| known.read_ns(&id_of(key)).is_some()).count(), 1);
    let (runs, _) = crate::repo::runs::list(&depot.context.repository).unwrap();
    // The clock stands still here, so that the records have no order.
    let outcomes: Vec<_> = runs.iter().filter(|run| run.operation == "verify").map(|run| run.outcome).collect();
    assert_eq!(outcomes, [RunOutcome::Interrupted]);
}

/// Asks to stop once packs were read.
struct StopAfterReading(Stop);

impl Monitor for StopAfterReading {
    fn event(&self, event: Event<'_>) {
        if let Event::Phase("seeing which snapshots are proven") = event {
            self.0.raise();
        }
    }
}

#[test]
fn a_share_or_a_time_that_makes_no_sense_is_refused() {
    let depot = Depot::new();
    for share in [(0, 3), (4, 3)] {
        let error = verify(&depot.context, &with(Depth::Part(Part { share: Some(share), ..Part::default() })));
        assert_eq!(error.unwrap_err().kind(), Kind::Usage);
    }
}

#[test]
fn presence_sees_what_is_gone_without_reading_a_tree() {
    let (_holder, top) = folder();
    let depot = Depot::new();
    depot.backup(&top);
    let outcome = clean(&depot, Depth::Presence);
    assert_eq!((outcome.trees, outcome.bytes_read), (0, 0));
    let pack = packs(&depot).pop().unwrap();
    depot.damage(&pack, |bytes| bytes.truncate(4096));
    let outcome = verify(&depot.context, &with(Depth::Presence)).unwrap();
    assert_eq!(outcome.damage_count, 1, "{:?}", outcome.damages);
}
