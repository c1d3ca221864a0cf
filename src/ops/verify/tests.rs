//! Stories of verifying.
#![allow(clippy::unwrap_used)]

use super::*;
use crate::ops::select::{Filter, select};
use crate::ops::tests::{Depot, noise};
use crate::store::{Area, Key, ObjectStore};
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
