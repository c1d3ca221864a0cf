//! Prune beside damage: what cannot be read stays with all that it hangs on and is named, and everything else is pruned.

use crate::program::Place;
use crate::vault::{Vault, files_below, key, keys, noise, open, prune_all, read_everything, restore, verify_all};
use keepstone::base::{Kind, SnapshotId};
use keepstone::ops::{forget, prune, rebuild, repair};
use keepstone::store::{Area, Key, ObjectStore};
use std::fs;
use std::sync::Arc;

/// Six nights of a dump that changes a little, so that packs hang on older ones, and of a file that is new every night.
/// The first three are forgotten.
fn nights() -> (Vault, Vec<SnapshotId>) {
    let vault = Vault::new();
    let mut dump = noise(1, 120_000);
    let mut ids = Vec::new();
    for night in 0..6_u64 {
        for place in 0..3 {
            dump[place * 38_000 + night as usize * 977..][..40].copy_from_slice(&noise(night * 100 + place as u64, 40));
        }
        vault.write("dump.sql", &dump);
        vault.write("new", &noise(50 + night, 30_000));
        ids.push(vault.back_up());
        vault.hours(1);
    }
    for id in ids.drain(..3) {
        forget::remove(&vault.open(), id).unwrap();
    }
    vault.hours(30);
    (vault, ids)
}

fn packs(vault: &Vault) -> Vec<Key> {
    keys(&vault.store).into_iter().filter(|key| key.area() == Area::Packs).collect()
}

/// Destroys the trailer of a pack, which says where its directory lies.
fn without_directory(bytes: &mut [u8]) {
    let end = bytes.len();
    bytes[end - 16..].fill(0);
}

/// Destroys the first block of a pack.
fn without_first_block(bytes: &mut [u8]) {
    bytes[32..200].fill(0);
}

fn damage(vault: &Vault, pack: &Key, change: fn(&mut [u8])) {
    let mut bytes = vault.store.get(pack, u64::MAX).unwrap();
    change(&mut bytes);
    vault.store.replace(pack, &bytes).unwrap();
}

/// A copy of the vault that can be spoiled.
fn copy_of(vault: &Vault) -> Vault {
    let (store, clock) = vault.copy();
    Vault { store, clock, ..Vault::new() }
}

#[test]
fn a_pack_without_its_directory_stays_while_it_is_needed_and_all_else_is_pruned() {
    let (vault, ids) = nights();
    let blobs = read_everything(&vault.open()).unwrap();
    let (mut stayed, mut went) = (0, 0);
    for pack in packs(&vault) {
        let hurt = copy_of(&vault);
        let whole = hurt.store.get(&pack, u64::MAX).unwrap();
        damage(&hurt, &pack, without_directory);
        let outcome = prune_all(&hurt.open()).unwrap_or_else(|error| panic!("{pack}: {error}"));
        let is_there = packs(&hurt).contains(&pack);
        let told: Vec<&str> = outcome.damaged.iter().map(|problem| problem.subject.as_str()).collect();
        // One that need not be rewritten is not read, and nothing is known of it.
        if !told.is_empty() {
            assert_eq!((&told[..], is_there), (&[&*pack.to_string()][..], true));
            assert!(outcome.damaged[0].message.contains("keepstone repair plan"), "{:?}", outcome.damaged);
            assert_eq!(outcome.clone().whole().unwrap_err().kind(), Kind::Damaged);
            stayed += 1;
        }
        went += u32::from(!is_there);
        assert!(outcome.packs_deleted > 0, "{pack}: nothing was freed");
        // Blocks are found by the index, so nothing is lost by it, now or when the pack is as it was.
        assert_eq!(read_everything(&hurt.open()).unwrap(), blobs, "{pack}");
        if is_there {
            hurt.store.replace(&pack, &whole).unwrap();
        }
        rebuild::rebuild_index(&hurt.open()).unwrap();
        assert_eq!(read_everything(&hurt.open()).unwrap(), blobs, "{pack}");
        assert_eq!(prune_all(&hurt.open()).unwrap().damaged, [], "{pack}");
        assert!(restore(&hurt.open(), ids[2], vault.files.path()).unwrap().1 == files_below(vault.files.path()));
    }
    assert!(stayed > 0 && went > 0, "{stayed} packs stayed, {went} went");
}

#[test]
fn a_pack_with_a_lost_block_stays_with_all_that_it_hangs_on_until_it_is_mended() {
    let (vault, _) = nights();
    let blobs = read_everything(&vault.open()).unwrap();
    let (mut stayed, mut refused) = (0, 0);
    for pack in packs(&vault) {
        let hurt = copy_of(&vault);
        let whole = hurt.store.get(&pack, u64::MAX).unwrap();
        damage(&hurt, &pack, without_first_block);
        match prune_all(&hurt.open()) {
            Ok(outcome) if outcome.damaged.is_empty() => {}
            Ok(outcome) => {
                assert_eq!(outcome.damaged[0].subject, pack.to_string());
                stayed += 1;
            }
            // What a tree names that cannot be read is unknown: then nothing goes.
            Err(error) => {
                assert!(error.to_string().contains("nothing was deleted"), "{pack}: {error}");
                refused += 1;
            }
        }
        if packs(&hurt).contains(&pack) {
            hurt.store.replace(&pack, &whole).unwrap();
        }
        rebuild::rebuild_index(&hurt.open()).unwrap();
        assert_eq!(read_everything(&hurt.open()).unwrap(), blobs, "{pack}: what was mended lacks what it hangs on");
        assert_eq!(prune_all(&hurt.open()).unwrap().damaged, [], "{pack}");
    }
    assert!(stayed > 0 && refused > 0, "{stayed} packs stayed, {refused} refused");
}

#[test]
fn what_the_next_backup_stored_anew_lets_the_damaged_pack_go() {
    let (vault, ids) = nights();
    // The pack that everything hangs on: the largest.
    let pack = packs(&vault).into_iter().max_by_key(|pack| vault.store.size(pack).unwrap()).unwrap();
    damage(&vault, &pack, without_first_block);
    repair::apply(&vault.open(), &repair::Options { all: true, ..repair::Options::default() }, &key()).unwrap();
    let outcome = prune_all(&vault.open()).unwrap();
    assert_eq!(outcome.damaged.len(), 1, "{:?}", outcome.damaged);
    let dry = prune::Options { dry_run: true, ..prune::Options::default() };
    assert_eq!(prune::prune(&vault.open(), &dry).unwrap().damaged, outcome.damaged, "a dry run says the same");
    for id in ids {
        forget::remove(&vault.open(), id).unwrap();
    }
    let files = files_below(vault.files.path());
    let id = vault.back_up();
    vault.hours(30);
    assert_eq!(prune_all(&vault.open()).unwrap().damaged, []);
    assert!(!packs(&vault).contains(&pack), "nobody needs it any more");
    assert!(restore(&vault.open(), id, vault.files.path()).unwrap().1 == files);
    assert!(!verify_all(&vault.open()).unwrap().damage);
}

#[test]
fn an_interrupted_prune_beside_a_damaged_pack_takes_nothing() {
    let (vault, _) = nights();
    let blobs = read_everything(&vault.open()).unwrap();
    let needed = |pack: &Key| {
        let hurt = copy_of(&vault);
        damage(&hurt, pack, without_directory);
        !prune_all(&hurt.open()).unwrap().damaged.is_empty()
    };
    let pack = packs(&vault).into_iter().find(|pack| needed(pack)).unwrap();
    let whole = vault.store.get(&pack, u64::MAX).unwrap();
    damage(&vault, &pack, without_directory);
    let prune = |store: Arc<dyn ObjectStore>, clock: &keepstone::base::Clock| prune_all(&open(store, clock)?).map(drop);
    let changes = crate::vault::crash_everywhere(&vault, &prune, &|store, clock, what| {
        store.replace(&pack, &whole).unwrap();
        clock.advance(std::time::Duration::from_secs(25 * 3600));
        let context = open(Arc::new(store.clone()), clock).unwrap();
        assert_eq!(read_everything(&context).unwrap(), blobs, "{what}");
        rebuild::rebuild_index(&context).unwrap();
        let context = open(Arc::new(store.clone()), clock).unwrap();
        assert_eq!(read_everything(&context).unwrap(), blobs, "{what}");
    });
    assert!(changes > 10, "only {changes} changes");
}

#[test]
fn the_program_names_what_is_damaged_and_ends_with_4() {
    let place = Place::with_snapshot();
    let source = place.path("source");
    fs::write(source.join("numbers.bin"), noise(7, 200_000)).unwrap();
    place.run(&["backup", "source"]).expect(0);
    place.run(&["forget", "latest~1"]).expect(0);
    let mut packs = Vec::new();
    for folder in fs::read_dir(place.path("vault/packs")).unwrap() {
        packs.extend(fs::read_dir(folder.unwrap().path()).unwrap().map(|entry| entry.unwrap().path()));
    }
    // All directories are gone: whatever would be rewritten cannot be.
    for pack in &packs {
        let mut bytes = fs::read(pack).unwrap();
        without_directory(&mut bytes);
        fs::write(pack, bytes).unwrap();
    }
    let run = place.run(&["prune", "--max-unused", "0", "--json"]).expect(4);
    let json = run.json().into_iter().find(|object| object["message_type"] == "prune").unwrap();
    let damaged = json["damaged"].as_array().unwrap();
    assert!(!damaged.is_empty(), "{json}");
    assert!(damaged.iter().all(|one| one["message"].as_str().unwrap().contains("repair plan")), "{json}");
    let run = place.run(&["prune", "--max-unused", "0"]).expect(4);
    assert!(run.err.contains("keepstone repair plan"), "{}", run.err);
    place.run(&["restore", "latest", "--target", "out"]).expect(0);
}
