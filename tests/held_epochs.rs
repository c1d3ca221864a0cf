//! Epochs that hold earlier ones: opening stays cheap however often keys were renewed, and none is lost for it.

use crate::vault::{
    Files, Vault, crash_everywhere, files_below, key, noise, open, read_everything, restore, verify_all,
};
use keepstone::base::{Clock, EpochId, Kind, Secret, SnapshotId};
use keepstone::crypto::slots::{GuardKind, Unlock};
use keepstone::format::cbor::{Cbor, Unknown};
use keepstone::format::envelope::{self, ObjectKind};
use keepstone::format::keys::Epoch;
use keepstone::ops::{Context, keys, repair};
use keepstone::repo::{SealedRepository, epochs};
use keepstone::store::{Area, Key, Memory, ObjectStore, Record};
use std::path::Path;
use std::sync::Arc;

/// A snapshot of the first epoch and its files, and so many epochs.
fn with_epochs(epochs: u64) -> (Vault, SnapshotId, Files) {
    let vault = Vault::new();
    vault.write("file", &noise(1, 30_000));
    let id = vault.back_up();
    let files = files_below(vault.files.path());
    for _ in 1..epochs {
        epochs::rotate(&vault.open().repository).unwrap();
    }
    (vault, id, files)
}

/// Requests until a command can begin.
fn opening(vault: &Vault, unlock: &Unlock) -> u64 {
    let counted = Record::counting(vault.store.clone());
    let sealed = SealedRepository::open(Arc::new(counted.clone())).unwrap();
    drop(sealed.unlock(unlock, vault.clock.clone()).unwrap());
    counted.total().requests
}

fn loaded(store: &Memory, context: &Context) -> epochs::Loaded {
    let root = context.repository.keyring().root().unwrap();
    epochs::load(store, context.repository.id(), root).unwrap()
}

/// The objects of an epoch: the first and its copy.
fn objects_of(id: EpochId) -> [Key; 2] {
    [Key::new(Area::Epochs, id), Key::new(Area::Epochs, format!("{id}.copy"))]
}

/// The epochs, oldest first.
fn in_order(vault: &Vault) -> Vec<Epoch> {
    let mut epochs = loaded(&vault.store, &vault.open()).epochs;
    epochs.sort_by_key(|epoch| epoch.number);
    epochs
}

/// The snapshot comes back, under the path that it was taken of.
fn restores(store: &Memory, clock: &Clock, (path, id, files): (&Path, SnapshotId, &Files)) {
    let context = open(Arc::new(store.clone()), clock).unwrap();
    assert!(restore(&context, id, path).unwrap().1 == *files, "other files came back");
}

#[test]
fn opening_does_not_take_a_request_for_every_epoch() {
    let (vault, id, files) = with_epochs(1);
    let mut most = 0;
    for number in 2..=145 {
        epochs::rotate(&vault.open().repository).unwrap();
        most = most.max(opening(&vault, &key()));
        if number % 16 == 1 {
            let epochs = loaded(&vault.store, &vault.open());
            assert_eq!((epochs.epochs.len(), epochs.lost.len(), epochs.foreign), (number, 0, false));
        }
    }
    println!("at most {most} requests to open with up to 145 epochs");
    assert!(most <= 16, "{most} requests");
    restores(&vault.store, &vault.clock, (vault.files.path(), id, &files));
    let largest = vault.store.size(&largest_epoch(&vault)).unwrap();
    assert!(largest < 60_000, "an epoch has {largest} bytes");
    assert!(verify_all(&vault.open()).unwrap().damages.is_empty());
}

fn largest_epoch(vault: &Vault) -> Key {
    let names = epochs::names(&vault.store).unwrap();
    names.into_iter().max_by_key(|key| vault.store.size(key).unwrap()).unwrap()
}

#[test]
fn an_epoch_that_is_gone_is_used_all_the_same_and_told_and_written_anew() {
    let (vault, id, files) = with_epochs(12);
    let all = in_order(&vault);
    let held: Vec<EpochId> = all[8].held().map(|epoch| epoch.id).collect();
    assert_eq!(held, all[..8].iter().map(|epoch| epoch.id).collect::<Vec<_>>());
    // The first with both its objects; of the second both are damaged; of the third one is left.
    let gone = objects_of(all[0].id);
    gone.iter().for_each(|key| vault.store.delete(key).unwrap());
    objects_of(all[1].id).iter().for_each(|key| vault.store.replace(key, b"nonsense").unwrap());
    vault.store.delete(&objects_of(all[2].id)[0]).unwrap();
    restores(&vault.store, &vault.clock, (vault.files.path(), id, &files));
    let outcome = verify_all(&vault.open()).unwrap();
    for id in &held[..3] {
        let told = outcome.damages.iter().filter(|damage| format!("{damage:?}").contains(&id.to_string()));
        assert!(told.count() > 0, "{id} is not among {:?}", outcome.damages);
    }
    assert_eq!(loaded(&vault.store, &vault.open()).lost, [all[0].id]);

    keys::repair(&vault.open(), &key()).unwrap();
    assert!(verify_all(&vault.open()).unwrap().damages.is_empty());
    assert_eq!(
        in_order(&vault).iter().map(|epoch| epoch.id).collect::<Vec<_>>(),
        all.iter().map(|epoch| epoch.id).collect::<Vec<_>>()
    );
    // What was written anew is what was there: nobody needs who holds it.
    objects_of(all[8].id).iter().for_each(|key| vault.store.delete(key).unwrap());
    restores(&vault.store, &vault.clock, (vault.files.path(), id, &files));
}

#[test]
fn an_epoch_that_nobody_holds_and_that_is_gone_is_not_passed_over_in_silence() {
    let (vault, id, _) = with_epochs(5);
    let first = in_order(&vault)[0].id;
    objects_of(first).iter().for_each(|key| vault.store.delete(key).unwrap());
    let error = restore(&vault.open(), id, vault.files.path()).unwrap_err();
    assert!(error.to_string().contains("epoch"), "{error}");
}

#[test]
fn an_epoch_whose_objects_are_both_damaged_locks_nobody_out_of_what_the_others_open() {
    let (vault, id, _) = with_epochs(3);
    vault.write("file", &noise(2, 30_000));
    let second = vault.back_up();
    let files = files_below(vault.files.path());
    let first = in_order(&vault)[0].id;
    objects_of(first).iter().for_each(|key| vault.store.replace(key, b"nonsense").unwrap());
    assert!(restore(&vault.open(), id, vault.files.path()).is_err());
    restores(&vault.store, &vault.clock, (vault.files.path(), second, &files));
    let found = verify_all(&vault.open()).unwrap();
    assert!(found.damages.iter().any(|damage| damage.object == objects_of(first)[0].to_string()), "{found:?}");
    // A new root key would leave behind for good what cannot be read now.
    let refused = keys::exchange_root(&vault.open(), &key()).unwrap_err();
    assert_eq!(refused.kind(), Kind::Damaged, "{refused}");
    assert!(objects_of(first).iter().all(|key| vault.store.size(key).is_ok()));
}

#[test]
fn a_lost_epoch_comes_back_from_a_mirror_and_until_then_nothing_else_is_proposed() {
    for how in ["gone", "damaged"] {
        let (vault, id, files) = with_epochs(3);
        let mirror = vault.copy().0;
        let first = in_order(&vault)[0].id;
        for key in objects_of(first) {
            match how {
                "gone" => vault.store.delete(&key).unwrap(),
                _ => vault.store.replace(&key, b"nonsense").unwrap(),
            }
        }
        let found = verify_all(&vault.open()).unwrap();
        assert!(found.lacks_epoch, "{found:?}");
        let plan = repair::plan(&vault.open(), &repair::Options::default(), &key()).unwrap();
        assert!(plan.is_damage() && plan.items.iter().all(|item| item.way == repair::Way::Nothing), "{plan:?}");
        let said = format!("{found:?} {plan:?}");
        assert!(!said.contains("rebuild-index") && !said.contains("keepstone forget"), "{said}");
        assert!(said.contains("epochs/") && said.contains("--from MIRROR"), "{said}");
        let left = keys::repair(&vault.open(), &key()).unwrap().left;
        assert!(left.iter().any(|problem| problem.subject.contains(&id.to_string())), "{left:?}");

        let from = open(Arc::new(mirror), &vault.clock).unwrap();
        let options = repair::Options { from: Some(&from), ..repair::Options::default() };
        let plan = repair::plan(&vault.open(), &options, &key()).unwrap();
        assert!(plan.mends_all(), "{plan:?}");
        assert_eq!(plan.items[0].key, objects_of(first)[0]);
        let applied = repair::apply(&vault.open(), &options, &key()).unwrap();
        assert!(!applied.is_damage(), "{applied:?}");
        restores(&vault.store, &vault.clock, (vault.files.path(), id, &files));
        assert!(!verify_all(&vault.open()).unwrap().damage);
    }
}

#[test]
fn a_key_slot_with_both_objects_damaged_comes_back_from_a_mirror_or_is_not_promised() {
    let (vault, ..) = with_epochs(1);
    let other = Unlock::KeyFile(Secret::new(b"the key file of somebody else".to_vec()));
    let slot = keys::add(&vault.open(), &other, GuardKind::KeyFile, "other").unwrap().id;
    let mirror = vault.copy().0;
    for name in [slot.to_string(), format!("{slot}.copy")] {
        vault.store.replace(&Key::new(Area::Keys, name), b"nonsense").unwrap();
    }
    let nothing = repair::Options::default();
    let plan = repair::plan(&vault.open(), &nothing, &key()).unwrap();
    let applied = repair::apply(&vault.open(), &nothing, &key()).unwrap();
    assert_eq!(plan.items, applied.left);
    assert_eq!((plan.items.len(), &plan.items[0].way), (1, &repair::Way::Nothing));
    assert!(plan.items[0].reason.contains("key add"), "{plan:?}");

    let from = open(Arc::new(mirror), &vault.clock).unwrap();
    let options = repair::Options { from: Some(&from), ..nothing };
    let applied = repair::apply(&vault.open(), &options, &key()).unwrap();
    assert!(!applied.is_damage() && applied.mended.len() == 1, "{applied:?}");
    assert!(SealedRepository::open(Arc::new(vault.store.clone())).unwrap().unlock(&other, vault.clock.clone()).is_ok());
    assert!(!verify_all(&vault.open()).unwrap().damage);
}

#[test]
fn a_rotation_that_is_killed_at_any_change_leaves_every_epoch() {
    let (vault, id, files) = with_epochs(8);
    let rotate =
        |store: Arc<dyn ObjectStore>, clock: &Clock| Ok(epochs::rotate(&open(store, clock)?.repository).map(drop)?);
    let changes = crash_everywhere(&vault, &rotate, &|store, clock, what| {
        restores(store, clock, (vault.files.path(), id, &files));
        // The next one holds what this one should have held.
        let context = open(Arc::new(store.clone()), clock).unwrap();
        epochs::rotate(&context.repository).unwrap();
        let epochs = loaded(store, &context);
        assert!(epochs.epochs.len() >= 9 && epochs.epochs.iter().any(|epoch| epoch.held().count() >= 8), "{what}");
        restores(store, clock, (vault.files.path(), id, &files));
        keys::repair(&context, &key()).unwrap();
        assert!(verify_all(&context).unwrap().damages.is_empty(), "{what}");
    });
    assert_eq!(changes, 2, "the epoch and its copy");
}

#[test]
fn a_new_root_key_takes_all_epochs_along_and_opening_stays_cheap() {
    let (vault, id, files) = with_epochs(20);
    // One that only another epoch still holds comes along too.
    objects_of(in_order(&vault)[3].id).iter().for_each(|key| vault.store.delete(key).unwrap());
    let old = vault.open().repository.keyring().root().unwrap().clone();
    keys::exchange_root(&vault.open(), &key()).unwrap();
    let after = loaded(&vault.store, &vault.open());
    assert_eq!((after.epochs.len(), after.lost.len(), after.foreign), (21, 0, false));
    let repository = vault.open().repository.id();
    let left = epochs::load(&vault.store, repository, &old).unwrap();
    assert!(left.epochs.is_empty() && left.foreign, "the old root key opens nothing any more");
    let requests = opening(&vault, &key());
    assert!(requests <= 16, "{requests} requests");
    restores(&vault.store, &vault.clock, (vault.files.path(), id, &files));
    assert!(verify_all(&vault.open()).unwrap().damages.is_empty());
}

#[test]
fn an_exchange_of_the_root_key_that_is_killed_at_any_change_leaves_every_epoch() {
    let (vault, id, files) = with_epochs(9);
    let exchange =
        |store: Arc<dyn ObjectStore>, clock: &Clock| keys::exchange_root(&open(store, clock)?, &key()).map(drop);
    let changes = crash_everywhere(&vault, &exchange, &|store, clock, what| {
        restores(store, clock, (vault.files.path(), id, &files));
        let context = open(Arc::new(store.clone()), clock).unwrap();
        keys::exchange_root(&context, &key()).unwrap_or_else(|error| panic!("{what}: {error}"));
        let context = open(Arc::new(store.clone()), clock).unwrap();
        assert!(loaded(store, &context).epochs.len() >= 10, "{what}");
        restores(store, clock, (vault.files.path(), id, &files));
    });
    assert!(changes > 25, "only {changes} changes");
}

#[test]
fn what_an_older_version_left_sealed_under_the_old_root_key_is_passed_over() {
    let (vault, id, files) = with_epochs(9);
    let all = in_order(&vault);
    let holder = all[8].clone();
    keys::exchange_root(&vault.open(), &key()).unwrap();
    // It exchanged the root key and kept the field that it does not know as it was.
    let context = vault.open();
    let root = context.repository.keyring().root().unwrap();
    let successor = in_order(&vault).into_iter().find(|epoch| epoch.replaces == Some(holder.id)).unwrap();
    let as_old = Epoch { before: holder.before, ..successor };
    let object =
        envelope::seal(ObjectKind::Epoch, context.repository.id(), root.key_id(), &root.epoch_key(), &as_old.to_cbor());
    objects_of(as_old.id).iter().for_each(|key| vault.store.replace(key, &object).unwrap());
    let after = loaded(&vault.store, &vault.open());
    assert_eq!((after.epochs.len(), after.lost.len()), (10, 0));
    restores(&vault.store, &vault.clock, (vault.files.path(), id, &files));
    assert!(verify_all(&vault.open()).unwrap().damages.is_empty());
}

#[test]
fn a_version_that_does_not_know_what_an_epoch_holds_does_without() {
    let (vault, _, _) = with_epochs(9);
    // As the table of the first version has it: the field is one that it does not know, and keeps.
    let holder = in_order(&vault).pop().unwrap();
    let bare = Epoch { before: Vec::new(), ..holder.clone() }.to_cbor();
    let whole = holder.to_cbor();
    // A map of five fields with number 6 behind them in place of a map of four.
    assert_eq!((bare[0], whole[0], &bare[1..]), (0xa4, 0xa5, &whole[1..bare.len()]));
    assert_eq!(whole[bare.len()], 6);
    let mut kept = Unknown::none();
    kept.keep(6, &whole[bare.len() + 1..]);
    assert_eq!(kept.count(), 1);
}

#[test]
fn names_that_are_no_epochs_are_passed_over() {
    let (vault, id, files) = with_epochs(2);
    for area in [Area::Epochs, Area::Keys] {
        vault.store.put(&Key::new(area, "readme.txt"), &noise(1, 5_000)).unwrap();
    }
    let found = verify_all(&vault.open()).unwrap();
    let noted = found.notes.iter().filter(|note| note.contains("readme.txt")).count();
    assert!(!found.damage && noted == 2, "{found:?}");
    let repaired = keys::repair(&vault.open(), &key()).unwrap();
    assert!(repaired.left.is_empty() && repaired.written.is_empty(), "{repaired:?}");
    let plan = repair::plan(&vault.open(), &repair::Options::default(), &key()).unwrap();
    assert!(!plan.is_damage(), "{plan:?}");
    restores(&vault.store, &vault.clock, (vault.files.path(), id, &files));
    epochs::rotate(&vault.open().repository).unwrap();
    keys::exchange_root(&vault.open(), &key()).unwrap();
    restores(&vault.store, &vault.clock, (vault.files.path(), id, &files));
}

#[test]
fn a_large_object_that_is_no_epoch_of_ours_costs_a_request_and_hides_nothing() {
    let (vault, id, files) = with_epochs(12);
    let before = opening(&vault, &key());
    // Somebody who can write there puts an epoch of a root key of his own, and a long copy beside one of ours.
    let (stranger, ..) = with_epochs(9);
    let theirs = largest_epoch(&stranger);
    vault.store.put(&theirs, &stranger.store.get(&theirs, u64::MAX).unwrap()).unwrap();
    let ours = objects_of(in_order(&vault)[10].id)[1].clone();
    vault.store.replace(&ours, &noise(3, 50_000)).unwrap();
    assert_eq!(loaded(&vault.store, &vault.open()).epochs.len(), 12);
    restores(&vault.store, &vault.clock, (vault.files.path(), id, &files));
    let after = opening(&vault, &key());
    assert!(after <= before + 12, "{before} requests, then {after}");
}

#[test]
fn a_client_that_may_only_write_does_not_read_every_epoch_either() {
    let (vault, ..) = with_epochs(3);
    let client = Unlock::KeyFile(Secret::new(b"the key file of the client host7".to_vec()));
    keys::add_write_only(&vault.open(), &client, GuardKind::KeyFile, "host7").unwrap();
    let before = opening(&vault, &client);
    for _ in 0..20 {
        epochs::rotate(&vault.open().repository).unwrap();
    }
    let after = opening(&vault, &client);
    assert!(after <= before + 2, "{before} requests, then {after}");
    // It still refuses to seal for an epoch that nobody can open.
    let newest = in_order(&vault).pop().unwrap().id;
    objects_of(newest).iter().for_each(|key| vault.store.replace(key, b"nonsense").unwrap());
    let sealed = SealedRepository::open(Arc::new(vault.store.clone())).unwrap();
    let refused = sealed.unlock(&client, vault.clock.clone()).err().unwrap();
    assert_eq!(refused.kind(), Kind::Damaged, "{refused}");
}

#[test]
fn what_is_read_with_held_epochs_is_all_there_is() {
    let (vault, ..) = with_epochs(1);
    for night in 0..10 {
        vault.write("file", &noise(night, 30_000));
        vault.back_up();
        epochs::rotate(&vault.open().repository).unwrap();
    }
    // Each of the snapshots is under another epoch, and every one of these is known.
    assert!(read_everything(&vault.open()).unwrap() >= 10);
}
