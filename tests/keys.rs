//! Keys: recipients, new epochs, a new root key, and what becomes of those who open at the same time.

use crate::program::{CHEAP, PASSWORD, Place};
use crate::vault::{Vault, bytes, count, key, noise, open, prune_all, read_everything, verify_all};
use keepstone::base::monitor::Silent;
use keepstone::base::{Clock, KeyId, Kind, Secret, SlotId, Stop};
use keepstone::crypto::identity::generate_identity;
use keepstone::crypto::slots::{GuardKind, Recipient, StretchCost, Unlock};
use keepstone::format::envelope;
use keepstone::ops::keys::{ResealOptions, reseal};
use keepstone::ops::{Context, keys};
use keepstone::repo::{SealedRepository, epochs, roots, snapshots};
use keepstone::store::{Area, Crash, Fault, Key, Memory, ObjectStore};
use std::collections::BTreeMap;
use std::sync::Arc;

const FILE: GuardKind = GuardKind::KeyFile;

fn key_file(text: &str) -> Unlock {
    Unlock::KeyFile(Secret::new(text.as_bytes().to_vec()))
}

fn second() -> Unlock {
    key_file("another key file, for somebody else")
}

fn passphrase(text: &str) -> Unlock {
    Unlock::Passphrase(Secret::new(text.as_bytes().to_vec()))
}

fn opens(store: &Memory, clock: &Clock, unlock: &Unlock) -> Result<SlotId, Kind> {
    let sealed = SealedRepository::open(Arc::new(store.clone())).unwrap();
    sealed.unlock(unlock, clock.clone()).map(|repository| repository.slot()).map_err(|error| error.kind())
}

fn open_with(vault: &Vault, unlock: &Unlock) -> Context {
    let sealed = SealedRepository::open(Arc::new(vault.store.clone())).unwrap();
    let repository = sealed.unlock(unlock, vault.clock.clone()).unwrap();
    Context::open(repository, None, Arc::new(Silent), Stop::new()).unwrap().0
}

fn with_snapshot() -> Vault {
    let vault = Vault::new();
    vault.write("file", &noise(1, 60_000));
    vault.back_up();
    vault
}

/// The key that an object names in its head.
fn sealed_under(vault: &Vault, key: &Key) -> KeyId {
    let object = vault.store.get(key, u64::MAX).unwrap();
    envelope::peek_any(&object, "object").unwrap().key
}

fn snapshot_keys(vault: &Vault) -> Vec<KeyId> {
    let names = snapshots::names(&vault.open().repository).unwrap();
    names.iter().map(|id| sealed_under(vault, &Key::new(Area::Snapshots, id))).collect()
}

// -------------------------------------------------------------------------------------------------------- recipients

#[test]
fn a_recipient_opens_with_an_identity_that_was_never_here() {
    let vault = with_snapshot();
    let identity = generate_identity();
    let recipient = Recipient::of(&identity);
    let added = keys::add_recipient(&vault.open(), &recipient, "in the bank").unwrap();
    let listed = keys::list(&vault.open()).unwrap();
    let slot = listed.iter().find(|slot| slot.id == added.id).unwrap();
    assert_eq!((slot.proven.clone(), slot.recipient.clone()), (None, Some(recipient.to_string())));

    let context = open_with(&vault, &Unlock::Identity(identity));
    assert_eq!(context.repository.slot(), added.id);
    assert!(!context.repository.is_vouched());
    assert!(read_everything(&context).unwrap() > 1);
    let wrong = Unlock::Identity(generate_identity());
    assert_eq!(opens(&vault.store, &vault.clock, &wrong), Err(Kind::WrongKey));

    let again = keys::add_recipient(&vault.open(), &recipient, "twice").unwrap_err();
    assert_eq!(again.kind(), Kind::Refused);
}

#[test]
fn a_key_file_of_another_repository_opens_nothing_and_says_so() {
    let vault = with_snapshot();
    let sealed = SealedRepository::open(Arc::new(vault.store.clone())).unwrap();
    let error = sealed.unlock(&second(), vault.clock.clone()).err().unwrap();
    assert_eq!(error.kind(), Kind::WrongKey);
    assert!(error.to_string().contains("none of the 1 key slots"), "{error}");
}

#[test]
fn a_run_proves_the_key_it_was_opened_with() {
    let vault = with_snapshot();
    let identity = generate_identity();
    let id = keys::add_recipient(&vault.open(), &Recipient::of(&identity), "").unwrap().id;
    vault.hours(5);
    let context = open_with(&vault, &Unlock::Identity(identity));
    verify_all(&context).unwrap();
    let at_ns = vault.clock.now().as_nanosecond() as i64;
    vault.hours(5);
    let slots = keys::list(&vault.open()).unwrap();
    let proven = slots.iter().find(|slot| slot.id == id).unwrap().proven.clone().unwrap();
    assert_eq!(proven.at_ns, at_ns);
    assert!(matches!(proven.by, keys::ProvenBy::Run { operation, .. } if operation == "verify"));
    let own = slots.iter().find(|slot| slot.current).unwrap().proven.clone().unwrap();
    assert_eq!(own.by, keys::ProvenBy::ThisRun);
}

#[test]
fn the_last_key_that_is_known_to_open_stays() {
    let vault = with_snapshot();
    let identity = generate_identity();
    let added = keys::add_recipient(&vault.open(), &Recipient::of(&identity), "never tried").unwrap().id;
    let own = vault.open().repository.slot();
    let refused = keys::remove(&vault.open(), own, true).unwrap_err();
    assert_eq!(refused.kind(), Kind::Refused);
    assert!(refused.to_string().contains("known to open"), "{refused}");
    assert!(opens(&vault.store, &vault.clock, &key()).is_ok());
    // A run that was opened with it is a proof.
    verify_all(&open_with(&vault, &Unlock::Identity(identity.clone()))).unwrap();
    keys::remove(&vault.open(), own, true).unwrap();
    assert_eq!(opens(&vault.store, &vault.clock, &key()), Err(Kind::WrongKey));
    assert_eq!(opens(&vault.store, &vault.clock, &Unlock::Identity(identity)), Ok(added));
}

// ------------------------------------------------------------------------------------------------------------- epochs

#[test]
fn a_new_epoch_seals_what_comes_later_and_opens_what_was_before() {
    let vault = with_snapshot();
    let before = snapshot_keys(&vault);
    let rotated = keys::rotate(&vault.open()).unwrap();
    assert_eq!((rotated.number, rotated.epochs), (2, 2));
    vault.write("new", &noise(2, 50_000));
    vault.back_up();
    let after = snapshot_keys(&vault);
    assert_eq!(after.len(), 2);
    assert!(after.contains(&before[0]) && after.iter().any(|key| *key != before[0]));
    assert!(read_everything(&vault.open()).unwrap() > 2);
    // What was there is found again under its name: nothing is stored twice.
    assert!(bytes(&vault.store, Area::Packs) < 135_000);
}

#[test]
fn two_rotations_at_once_leave_both_epochs() {
    let vault = with_snapshot();
    let (one, other) = (vault.open(), vault.open());
    let first = epochs::rotate(&one.repository).unwrap();
    let second = epochs::rotate(&other.repository).unwrap();
    assert_ne!(first.id, second.id);
    let loaded = epochs::load(&vault.store, one.repository.id(), one.repository.keyring().root().unwrap()).unwrap();
    assert_eq!(loaded.epochs.len(), 3);
    assert_eq!(count(&vault.store, Area::Epochs), 6, "each lies there twice");
    vault.back_up();
    for context in [one, other] {
        context.index.refresh(&**context.repository.store(), context.repository.keyring()).unwrap();
        read_everything(&context).unwrap();
    }
}

#[test]
fn whoever_is_at_work_while_somebody_rotates_reads_what_comes_later() {
    let vault = with_snapshot();
    let reader = vault.open();
    keys::rotate(&vault.open()).unwrap();
    vault.write("new", &noise(2, 50_000));
    let id = vault.back_up();
    assert!(matches!(snapshots::load(&reader.repository, id).unwrap(), snapshots::Found::Snapshot(_)));
    reader.index.refresh(&**reader.repository.store(), reader.repository.keyring()).unwrap();
    assert!(read_everything(&reader).unwrap() > 2);
}

#[test]
fn removing_a_key_opens_a_new_epoch() {
    let vault = with_snapshot();
    let other = keys::add(&vault.open(), &second(), FILE, "second").unwrap().id;
    let removed = keys::remove(&vault.open(), other, false).unwrap();
    assert_eq!(removed.epoch, 2);
    let before = snapshot_keys(&vault);
    vault.back_up();
    assert!(snapshot_keys(&vault).iter().any(|key| !before.contains(key)));
}

// ----------------------------------------------------------------------------------------------------------- root key

/// A vault that opens with a key file, a passphrase and an identity.
fn three_ways() -> (Vault, [Unlock; 3]) {
    let vault = with_snapshot();
    let cheap = GuardKind::Passphrase(StretchCost { memory_kib: 64, passes: 1, lanes: 1 });
    let identity = generate_identity();
    keys::add(&vault.open(), &passphrase("correct horse"), cheap, "ann").unwrap();
    keys::add_recipient(&vault.open(), &Recipient::of(&identity), "bank").unwrap();
    (vault, [key(), passphrase("correct horse"), Unlock::Identity(identity)])
}

#[test]
fn who_exchanged_the_root_key_with_an_identity_opens_with_it_again_and_another_machine_asks() {
    let (vault, [_, _, identity]) = three_ways();
    let machines = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    let open = |machine: usize| {
        let sealed = SealedRepository::open(Arc::new(vault.store.clone())).unwrap();
        let repository = sealed.unlock(&identity, vault.clock.clone()).unwrap();
        let folder = Some(machines[machine].path().to_path_buf());
        Context::open(repository, folder, Arc::new(Silent), Stop::new()).map(|(context, _)| context)
    };
    open(1).unwrap();
    keys::exchange_root(&open(0).unwrap(), &identity).unwrap();
    open(0).unwrap();
    assert_eq!(open(1).err().unwrap().kind(), Kind::Refused);
}

#[test]
fn a_new_root_key_is_granted_to_everybody_without_a_secret_of_theirs() {
    let (vault, ways) = three_ways();
    let before = keys::list(&vault.open()).unwrap();
    let old = vault.open().repository.keyring().root().unwrap().key_id();
    let done = keys::exchange_root(&vault.open(), &key()).unwrap();
    assert_eq!((done.old, done.slots.len(), done.epochs, done.resumed), (old, 3, 2, false));
    let after = keys::list(&vault.open()).unwrap();
    let shown = |slots: &[keys::SlotInfo]| -> Vec<_> {
        let shown = slots.iter().map(|slot| (slot.label.clone(), slot.created_ns, slot.recipient.clone()));
        let shown: std::collections::BTreeSet<_> = shown.collect();
        shown.into_iter().collect()
    };
    assert_eq!(shown(&before), shown(&after));
    assert!(before.iter().all(|slot| after.iter().all(|other| other.id != slot.id)));
    for way in &ways {
        let context = open_with(&vault, way);
        assert_eq!(context.repository.keyring().root().unwrap().key_id(), done.new);
        assert_eq!(context.repository.config().revision, 2);
        assert!(read_everything(&context).unwrap() > 1);
    }
    // Nothing of the old root key is left, and what comes now is under keys that its holders never saw.
    assert_eq!((count(&vault.store, Area::Keys), count(&vault.store, Area::Epochs)), (6, 4));
    let before = snapshot_keys(&vault);
    vault.back_up();
    assert!(snapshot_keys(&vault).iter().any(|key| !before.contains(key)));
    // And again, twice.
    for revision in [3, 4] {
        keys::exchange_root(&vault.open(), &key()).unwrap();
        assert_eq!(vault.open().repository.config().revision, revision);
    }
    ways.iter().for_each(|way| assert!(read_everything(&open_with(&vault, way)).unwrap() > 1));
    assert!(verify_all(&vault.open()).unwrap().damages.is_empty());
}

#[test]
fn the_old_root_key_opens_nothing_that_is_stored_later() {
    let vault = with_snapshot();
    let spy = vault.open();
    let old = spy.repository.keyring().root().unwrap().clone();
    keys::exchange_root(&vault.open(), &key()).unwrap();
    vault.write("secret", &noise(5, 30_000));
    let id = vault.back_up();
    let left = epochs::load(&vault.store, spy.repository.id(), &old).unwrap();
    assert!(left.epochs.is_empty() && left.foreign);
    let error = snapshots::load(&spy.repository, id).err().unwrap();
    assert_eq!(error.kind(), Kind::Refused, "{error}");
    assert!(error.to_string().contains("root key") && error.to_string().contains("run it again"), "{error}");
}

#[test]
fn a_public_half_that_somebody_put_in_gets_no_new_root_key() {
    let vault = with_snapshot();
    let other = keys::add(&vault.open(), &second(), FILE, "second").unwrap().id;
    let thief = Recipient::of(&generate_identity());
    for name in [other.to_string(), format!("{other}.copy")] {
        let at = Key::new(Area::Keys, name);
        let object = vault.store.get(&at, u64::MAX).unwrap();
        let (mut slot, root) = keepstone::format::keys::Slot::decode(&object).unwrap();
        slot.public = thief.public;
        vault.store.replace(&at, &slot.encode(root)).unwrap();
    }
    let error = keys::exchange_root(&vault.open(), &key()).unwrap_err();
    assert_eq!(error.kind(), Kind::Refused);
    assert!(error.to_string().contains(&other.short()) && error.to_string().contains("key remove"), "{error}");
    assert_eq!(vault.open().repository.config().revision, 1);
    keys::remove(&vault.open(), other, false).unwrap();
    assert_eq!(keys::exchange_root(&vault.open(), &key()).unwrap().slots.len(), 1);
}

#[test]
fn of_two_who_exchange_the_root_key_at_once_one_is_refused() {
    let (vault, ways) = three_ways();
    let late = vault.open();
    keys::exchange_root(&vault.open(), &key()).unwrap();
    let error = keys::exchange_root(&late, &key()).unwrap_err();
    assert_eq!(error.kind(), Kind::Refused, "{error}");
    for act in [keys::rotate(&late).map(drop), keys::add(&late, &second(), FILE, "").map(drop)] {
        assert_eq!(act.unwrap_err().kind(), Kind::Refused);
    }
    ways.iter().for_each(|way| assert!(opens(&vault.store, &vault.clock, way).is_ok()));
    assert_eq!(opens(&vault.store, &vault.clock, &second()), Err(Kind::WrongKey));
}

/// Stops an exchange at each of its changes in turn; gives what is there then.
fn interrupted(vault: &Vault, crash: Crash, mut check: impl FnMut(&Memory, &Clock, &str)) -> u64 {
    for change in 1.. {
        let (store, clock) = vault.copy();
        let fault = Fault::new(store.clone());
        let context = open(Arc::new(fault.clone()), &clock).unwrap();
        fault.crash_at(change, crash);
        let done = roots::exchange(&context.repository, &key(), &BTreeMap::new());
        if !fault.crashed() {
            done.unwrap();
            return change - 1;
        }
        check(&store, &clock, &format!("{crash:?} change {change}"));
    }
    unreachable!("the last round returns")
}

#[test]
fn an_exchange_that_is_killed_at_any_change_locks_nobody_out_and_anybody_ends_it() {
    let (vault, ways) = three_ways();
    for crash in [Crash::Before, Crash::After] {
        let mut turn = 0;
        let changes = interrupted(&vault, crash, |store, clock, what| {
            for way in &ways {
                opens(store, clock, way).unwrap_or_else(|error| panic!("{what}: {error:?}"));
            }
            turn += 1;
            // Another machine, with another key each time, goes on.
            let way = &ways[turn % ways.len()];
            let again = || {
                let sealed = SealedRepository::open(Arc::new(store.clone())).unwrap();
                let repository = sealed.unlock(way, clock.clone()).unwrap();
                roots::exchange(&repository, way, &BTreeMap::new())
            };
            let before = open(Arc::new(store.clone()), clock).unwrap().repository.config().revision;
            let ended = again().unwrap_or_else(|error| panic!("{what}: going on: {error}"));
            for way in &ways {
                opens(store, clock, way).unwrap_or_else(|error| panic!("{what}: after the end: {error:?}"));
            }
            let context = open(Arc::new(store.clone()), clock).unwrap();
            // Where nothing was left to be ended, a new one was begun.
            let revision = if ended.resumed { 2 } else { before + 1 };
            assert_eq!(context.repository.config().revision, revision, "{what}");
            assert!(read_everything(&context).unwrap() > 1, "{what}");
            let config = |name| store.get(&Key::new(Area::Config, name), u64::MAX).unwrap();
            assert_eq!(config("config"), config("config.copy"), "{what}");
            // What was abandoned goes with the first exchange a day later.
            clock.advance(std::time::Duration::from_secs(25 * 3600));
            let last = again().unwrap_or_else(|error| panic!("{what}: once more: {error}"));
            assert!(!last.resumed, "{what}: {last:?}");
            assert_eq!(count(store, Area::Keys), 6, "{what}");
            assert_eq!(count(store, Area::Epochs) as u64, 2 * last.epochs, "{what}");
        });
        assert!(changes > 20, "only {changes} changes");
    }
}

#[test]
fn a_key_that_an_interrupted_exchange_did_not_know_says_who_can_end_it() {
    let (vault, _) = three_ways();
    let mut refused = 0;
    interrupted(&vault, Crash::After, |store, clock, _| {
        let context = open(Arc::new(store.clone()), clock).unwrap();
        if let Err(error) = keys::add(&context, &second(), FILE, "late") {
            assert_eq!(error.kind(), Kind::Refused, "{error}");
            assert!(error.to_string().contains("key rotate --root"), "{error}");
            refused += 1;
        }
    });
    assert!((1..=4).contains(&refused), "{refused}");
}

#[test]
fn an_old_config_that_a_sleeper_put_back_locks_nobody_out() {
    let (vault, ways) = three_ways();
    let old = vault.store.get(&Key::new(Area::Config, "config"), u64::MAX).unwrap();
    keys::exchange_root(&vault.open(), &key()).unwrap();
    for name in ["config", "config.copy"] {
        vault.store.replace(&Key::new(Area::Config, name), &old).unwrap();
    }
    ways.iter().for_each(|way| assert!(opens(&vault.store, &vault.clock, way).is_ok()));
    assert_eq!(vault.open().repository.config().revision, 2);
    assert!(keys::exchange_root(&vault.open(), &key()).unwrap().resumed);
    assert_ne!(vault.store.get(&Key::new(Area::Config, "config"), u64::MAX).unwrap(), old);
}

// ------------------------------------------------------------------------------------------------- at the front door

fn value(run: &crate::program::Run) -> serde_json::Value {
    run.json().remove(0)
}

#[test]
fn a_recovery_key_is_made_handed_on_and_opens() {
    use std::os::unix::fs::PermissionsExt;
    let place = Place::with_snapshot();
    let made = place.run(&["key", "generate", "bank.identity"]).expect(0);
    let recipient = made.text().trim().to_owned();
    assert!(recipient.starts_with("age1") && !made.err.contains("SECRET"), "{}", made.err);
    let file = place.path("bank.identity");
    assert_eq!(file.metadata().unwrap().permissions().mode() & 0o777, 0o600);
    assert!(std::fs::read_to_string(&file).unwrap().contains(&format!("# public key: {recipient}\nAGE-SECRET-KEY-1")));
    place.run(&["key", "generate", "bank.identity"]).expect(1);

    place.run(&["key", "add", "--recipient", &recipient, "--label", "bank"]).expect(0);
    place.run(&["key", "add", "--recipient", &recipient]).expect(11);
    let bare = |command: &mut std::process::Command| {
        command.env_remove("KEEPSTONE_PASSWORD");
    };
    let opened =
        place.run_with(&["--identity-file", "bank.identity", "--cache-dir", "other", "snapshots"], bare, b"").expect(0);
    assert!(opened.err.contains("root key's id"), "{}", opened.err);
    // Only the first time.
    let opened =
        place.run_with(&["--identity-file", "bank.identity", "--cache-dir", "other", "verify"], bare, b"").expect(0);
    assert!(!opened.err.contains("root key's id"), "{}", opened.err);
    let from_environment = |command: &mut std::process::Command| {
        command.env_remove("KEEPSTONE_PASSWORD").env("KEEPSTONE_IDENTITY_FILE", "bank.identity");
    };
    place.run_with(&["restore", "latest", "--target", "out"], from_environment, b"").expect(0);
    let listed = value(&place.run(&["key", "list", "--json"]).expect(0));
    let bank = listed["keys"].as_array().unwrap().iter().find(|key| key["label"] == "bank").unwrap();
    assert_eq!((&bank["kind"], &bank["recipient"]), (&"recipient".into(), &recipient.into()));
    assert_eq!(bank["proven_by"], "restore");

    // A root key that the machine has not seen is not believed to an identity.
    let rotated = value(&place.run(&["key", "rotate", "--root", "--json"]).expect(0));
    assert_eq!(rotated["keys"].as_array().unwrap().len(), 2);
    let refused = place
        .run_with(&["--identity-file", "bank.identity", "--cache-dir", "other", "snapshots"], bare, b"")
        .expect(11);
    assert!(refused.err.contains(rotated["root_key_id"].as_str().unwrap()), "{}", refused.err);
    place.run(&["--cache-dir", "other", "snapshots"]).expect(0);
    let with_identity =
        || place.run_with(&["--identity-file", "bank.identity", "--cache-dir", "other", "snapshots"], bare, b"");
    with_identity().expect(0);

    // Nor is another repository in the place of this one, whatever its own id: its maker needs no secret of ours.
    let vault = place.path("vault");
    std::fs::rename(&vault, place.path("away")).unwrap();
    place.run(&[&["init"], &crate::program::CHEAP[..]].concat()).expect(0);
    place.run(&["key", "add", "--recipient", made.text().trim()]).expect(0);
    let refused = with_identity().expect(11);
    assert!(refused.err.contains("another repository in its place"), "{}", refused.err);
    std::fs::remove_dir_all(&vault).unwrap();
    std::fs::rename(place.path("away"), &vault).unwrap();
    with_identity().expect(0);
}

#[test]
fn what_is_no_recipient_or_identity_is_refused_without_showing_it() {
    let place = Place::with_snapshot();
    place.run(&["key", "generate", "own.identity"]).expect(0);
    let identity = std::fs::read_to_string(place.path("own.identity")).unwrap();
    let secret = identity.lines().last().unwrap();
    let run = place.run(&["key", "add", "--recipient", secret]).expect(2);
    assert!(run.err.contains("secret") && !run.err.contains(&secret[20..40]), "{}", run.err);
    place.run(&["key", "add", "--recipient", "ssh-ed25519 AAAA"]).expect(2);
    place.run(&["key", "add", "--recipient", "age1qqqq", "--new-password-file", "x"]).expect(2);
    std::fs::write(place.path("broken"), &secret[..secret.len() - 1]).unwrap();
    let run = place.run(&["--identity-file", "broken", "snapshots"]).expect(2);
    assert!(run.err.contains("letter") && !run.err.contains(&secret[20..40]), "{}", run.err);
    place.run(&["--identity-file", "own.identity", "snapshots"]).expect(12);
    place.run(&["--identity-file", "nowhere", "snapshots"]).expect(1);
    let printed = place.run(&["key", "generate", "-"]).expect(0).text();
    assert!(printed.lines().last().unwrap().starts_with("AGE-SECRET-KEY-1"));
}

#[test]
fn a_rotation_is_told_in_text_and_json() {
    let place = Place::with_snapshot();
    let run = place.run(&["key", "rotate"]).expect(0).text();
    assert!(run.contains("epoch 2") && run.contains("rotate --root"), "{run}");
    let json = value(&place.run(&["key", "rotate", "--json"]).expect(0));
    assert_eq!((&json["message_type"], &json["epoch"], &json["epochs"]), (&"key_rotate".into(), &3.into(), &3.into()));
    std::fs::write(place.path("second"), "second secret\n").unwrap();
    let added = [&["key", "add", "--new-password-file", "second", "--json"], &CHEAP[..]].concat();
    let added = value(&place.run(&added).expect(0))["added"].as_str().unwrap().to_owned();
    let removed = value(&place.run(&["key", "remove", &added, "--json"]).expect(0));
    assert_eq!(removed["epoch"], 4);
    let text = place.run(&["key", "rotate", "--root"]).expect(0).text();
    assert!(text.contains("exchanged the root key") && text.contains("1 key"), "{text}");
    place.run(&["verify", "--all"]).expect(0);
    assert!(!place.run(&["key", "list"]).expect(0).text().contains(PASSWORD));
}

// -------------------------------------------------------------------------------------------------------- sealing anew

fn under_old_keys(context: &Context) -> u64 {
    keys::status(context).unwrap().iter().filter(|epoch| !epoch.current).map(|epoch| epoch.packs).sum()
}

#[test]
fn old_packs_are_sealed_anew_and_hold_what_they_held() {
    let vault = Vault::new();
    let mut dump = noise(1, 300_000);
    for night in 0..3u64 {
        (0..6).for_each(|place| dump[place * 45_000 + night as usize * 977..][..40].copy_from_slice(&noise(night, 40)));
        vault.write("dump", &dump);
        vault.back_up();
    }
    let blobs = read_everything(&vault.open()).unwrap();
    keys::rotate(&vault.open()).unwrap();
    let before = under_old_keys(&vault.open());
    assert!(before >= 3, "{before}");
    let done = reseal(&vault.open(), &ResealOptions::default()).unwrap();
    assert_eq!((done.packs, done.left_packs, done.failed.len(), done.waiting), (before, 0, 0, false));
    assert_eq!(under_old_keys(&vault.open()), 0);
    let context = vault.open();
    assert_eq!(read_everything(&context).unwrap(), blobs);
    assert!(verify_all(&context).unwrap().damages.is_empty());
    let (kept, _) = snapshots::list(&context.repository).unwrap();
    assert!(kept.iter().any(|snapshot| snapshot.totals.bytes_delta > 0), "differences stay differences");
    // Who has the old epoch's keys alone opens no block any more.
    let old: Vec<KeyId> = snapshot_keys(&vault);
    let parts = context.index.sealed_parts().unwrap();
    assert!(!parts.is_empty() && parts.iter().all(|part| !old.contains(&part.key)));
    let again = reseal(&context, &ResealOptions::default()).unwrap();
    assert_eq!((again.packs, again.bytes), (0, 0));
}

#[test]
fn sealing_anew_stays_within_its_budget_and_any_machine_goes_on() {
    let vault = Vault::new();
    for night in 0..4 {
        vault.write(&format!("file{night}"), &noise(night, 100_000));
        vault.back_up();
    }
    keys::rotate(&vault.open()).unwrap();
    let total = under_old_keys(&vault.open());
    let some = ResealOptions { budget_bytes: Some(230_000), ..ResealOptions::default() };
    let first = reseal(&vault.open(), &some).unwrap();
    assert!(first.packs >= 2 && first.left_packs >= 2 && first.bytes <= 230_000, "{first:?}");
    assert_eq!(first.packs + first.left_packs, total);
    // Nor does it stand still where none fits.
    let least = reseal(&vault.open(), &ResealOptions { budget_bytes: Some(1), ..ResealOptions::default() }).unwrap();
    assert_eq!((least.packs, least.left_packs), (1, first.left_packs - 1));
    let first = least;
    let rest = reseal(&vault.open(), &ResealOptions::default()).unwrap();
    assert_eq!((rest.packs, rest.left_packs), (first.left_packs, 0));
    read_everything(&vault.open()).unwrap();
}

#[test]
fn what_is_older_than_asked_for_is_left_to_go_with_time() {
    let vault = Vault::new();
    vault.write("old", &noise(1, 100_000));
    vault.back_up();
    vault.hours(24 * 100);
    let since_ns = vault.clock.now().as_nanosecond() as i64;
    vault.write("new", &noise(2, 100_000));
    vault.back_up();
    keys::rotate(&vault.open()).unwrap();
    let options = ResealOptions { since_ns: Some(since_ns), ..ResealOptions::default() };
    let done = reseal(&vault.open(), &options).unwrap();
    assert!(done.packs >= 1 && done.left_packs >= 1 && done.left_packs == done.passed_over, "{done:?}");
}

#[test]
fn a_damaged_pack_is_counted_and_the_others_are_sealed_anew() {
    let vault = Vault::new();
    for night in 0..3 {
        vault.write(&format!("file{night}"), &noise(night, 100_000));
        vault.back_up();
    }
    keys::rotate(&vault.open()).unwrap();
    let total = under_old_keys(&vault.open());
    let packs = vault.open().index.packs().unwrap();
    let victim = packs.iter().find(|pack| pack.size_bytes > 90_000).unwrap().id;
    let at = keepstone::repo::pack_reader::pack_key(victim);
    let mut object = vault.store.get(&at, u64::MAX).unwrap();
    object[5000] ^= 1;
    vault.store.replace(&at, &object).unwrap();
    let done = reseal(&vault.open(), &ResealOptions::default()).unwrap();
    assert_eq!((done.packs, done.failed.len(), done.left_packs), (total - 1, 1, 1), "{done:?}");
    assert!(done.failed[0].message.contains(&victim.to_string()), "{:?}", done.failed);
}

#[test]
fn a_reseal_that_is_killed_at_any_change_loses_nothing_and_another_machine_goes_on() {
    let vault = Vault::new();
    for night in 0..2 {
        vault.write(&format!("file{night}"), &noise(night, 60_000));
        vault.back_up();
    }
    vault.hours(1);
    keys::rotate(&vault.open()).unwrap();
    let blobs = read_everything(&vault.open()).unwrap();
    for crash in [Crash::Before, Crash::After] {
        for change in 1.. {
            let (store, clock) = vault.copy();
            let fault = Fault::new(store.clone());
            fault.crash_at(change, crash);
            let done = open(Arc::new(fault.clone()), &clock)
                .and_then(|context| reseal(&context, &ResealOptions::default()).map(drop));
            if !fault.crashed() {
                done.unwrap();
                assert!(change > 8, "only {change} changes");
                break;
            }
            let what = format!("{crash:?} change {change}");
            let again = || open(Arc::new(store.clone()), &clock).unwrap();
            assert_eq!(read_everything(&again()).unwrap(), blobs, "{what}");
            // The process that crashed is this one and lives: only age tells that its session is dead.
            clock.advance(std::time::Duration::from_secs(25 * 3600));
            let done = reseal(&again(), &ResealOptions::default()).unwrap_or_else(|error| panic!("{what}: {error}"));
            assert_eq!((done.left_packs, done.failed.len()), (0, 0), "{what}");
            prune_all(&again()).unwrap();
            assert_eq!(read_everything(&again()).unwrap(), blobs, "{what}");
            assert!(bytes(&store, Area::Packs) < 2 * bytes(&vault.store, Area::Packs), "{what}");
        }
    }
}

#[test]
fn adding_a_recipient_and_rotating_killed_at_any_change_lock_nobody_out() {
    let vault = with_snapshot();
    let identity = generate_identity();
    let recipient = Recipient::of(&identity);
    let other = keys::add(&vault.open(), &second(), FILE, "second").unwrap().id;
    type Act<'a> = &'a dyn Fn(&Context) -> keepstone::ops::Result<()>;
    let acts: [Act<'_>; 3] = [
        &|context| keys::add_recipient(context, &recipient, "bank").map(drop),
        &|context| keys::rotate(context).map(drop),
        &|context| keys::remove(context, other, false).map(drop),
    ];
    for (place, act) in acts.iter().enumerate() {
        for crash in [Crash::Before, Crash::After] {
            for change in 1.. {
                let (store, clock) = vault.copy();
                let fault = Fault::new(store.clone());
                let context = open(Arc::new(fault.clone()), &clock).unwrap();
                fault.crash_at(change, crash);
                let done = act(&context);
                if !fault.crashed() {
                    done.unwrap();
                    assert!(change > 2, "only {change} changes");
                    break;
                }
                let again = open(Arc::new(store.clone()), &clock);
                let again = again.unwrap_or_else(|error| panic!("act {place}, {crash:?} change {change}: {error}"));
                assert!(read_everything(&again).unwrap() > 1);
                match act(&again) {
                    Ok(()) => {}
                    // It had come to its end but for the record of the run.
                    Err(error) if matches!(error.kind(), Kind::Refused | Kind::NotFound) => {}
                    Err(error) => panic!("act {place}, {crash:?} change {change}, again: {error}"),
                }
            }
        }
    }
}

// --------------------------------------------------------------------------------------------------- recovery sheets

#[test]
fn a_sheet_has_what_a_bare_machine_needs() {
    use std::os::unix::fs::PermissionsExt;
    let place = Place::with_snapshot();
    let made = ["key", "recovery-sheet", "--new-identity", "--format", "html", "--output", "sheet.html"];
    place.run(&made).expect(0);
    place.run(&made).expect(1);
    let sheet = std::fs::read_to_string(place.path("sheet.html")).unwrap();
    assert_eq!(place.path("sheet.html").metadata().unwrap().permissions().mode() & 0o777, 0o600);
    let listed = value(&place.run(&["key", "list", "--json"]).expect(0));
    assert_eq!(listed["keys"].as_array().unwrap().len(), 2, "a sheet that was not made gets no key");
    assert!(sheet.contains(listed["root_key_id"].as_str().unwrap()));
    assert!(sheet.contains(place.path("vault").canonicalize().unwrap().to_str().unwrap()));

    // Typed in from the paper, in a place that knows nothing.
    let text = place.run(&["key", "recovery-sheet", "--new-identity", "--label", "paper"]).expect(0).text();
    let identity = text.lines().map(str::trim).find(|line| line.starts_with("AGE-SECRET-KEY-1")).unwrap();
    let bare = Place::new();
    std::fs::write(bare.path("recovery.identity"), identity).unwrap();
    let vault = place.path("vault").canonicalize().unwrap();
    let environment = |command: &mut std::process::Command| {
        command.env_remove("KEEPSTONE_PASSWORD").env("KEEPSTONE_REPOSITORY", &vault);
        command.env("KEEPSTONE_IDENTITY_FILE", "recovery.identity");
    };
    for line in text.lines().map(str::trim).filter(|line| line.starts_with("keepstone ") && !line.contains("postgres"))
    {
        let words: Vec<String> = line.split(' ').skip(1).map(|word| word.replace("/mnt/new", "new")).collect();
        bare.run_with(&words, environment, b"").expect(0);
    }
    assert!(bare.path("new").join(place.path("source").strip_prefix("/").unwrap()).join("letters/ann.txt").exists());

    let without = place.run(&["key", "recovery-sheet", "--json"]).expect(0);
    let without = value(&without);
    assert_eq!((&without["identity"], &without["recipient"]), (&serde_json::Value::Null, &serde_json::Value::Null));
    assert!(without["commands"].as_array().unwrap().len() >= 5);
}

// -------------------------------------------------------------------------------------------------- secrets stay away

/// Everything that a run left behind in the open.
fn told(place: &Place, run: &crate::program::Run) -> String {
    let mut text = format!("{}{}", run.text(), run.err);
    let mut folders = vec![place.path("cache")];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).into_iter().flatten() {
            let path = entry.unwrap().path();
            match path.is_dir() {
                true => folders.push(path),
                false => text.push_str(&String::from_utf8_lossy(&std::fs::read(path).unwrap())),
            }
        }
    }
    text
}

#[test]
fn no_command_tells_a_secret_to_its_output_its_cache_or_its_children() {
    let place = Place::with_snapshot();
    place.run(&["key", "generate", "own.identity"]).expect(0);
    let identity = std::fs::read_to_string(place.path("own.identity")).unwrap();
    let identity = identity.lines().last().unwrap().to_owned();
    std::fs::write(place.path("second"), "second secret phrase\n").unwrap();
    let recipient = place.run(&["key", "generate", "other.identity"]).expect(0).text().trim().to_owned();
    let look = "tr '\\0' '\\n' < /proc/$$/environ; tr '\\0' '\\n' < /proc/$PPID/cmdline";
    let add_second = [&["key", "add", "--new-password-file", "second"], &CHEAP[..]].concat();
    let passwd = [&["key", "passwd", "--new-password-file", "second"], &CHEAP[..]].concat();
    let commands: Vec<Vec<&str>> = vec![
        vec!["init"],
        vec!["backup", "source"],
        vec!["backup", "--stdin-from-command", "--", "sh", "-c", look],
        vec!["snapshots"],
        vec!["show"],
        vec!["ls", "latest"],
        vec!["find", "ann*"],
        vec!["diff", "latest~1", "latest"],
        vec!["stats"],
        vec!["info"],
        vec!["verify", "--all"],
        vec!["cat", "config"],
        vec!["restore", "latest", "--target", "out"],
        vec!["tag", "--add", "x", "latest"],
        vec!["forget", "--keep-last", "1"],
        vec!["prune"],
        vec!["rebuild-index"],
        vec!["key", "list"],
        vec!["key", "status"],
        vec!["key", "add", "--recipient", &recipient],
        add_second,
        vec!["key", "rotate"],
        vec!["key", "rotate", "--reseal"],
        vec!["key", "rotate", "--root"],
        vec!["key", "repair"],
        vec!["key", "recovery-sheet"],
        vec!["key", "remove", "zz"],
        vec!["--identity-file", "own.identity", "snapshots"],
        vec!["-r", "nowhere", "snapshots"],
        passwd,
    ];
    let secrets = [PASSWORD, "second secret phrase", &identity[15..50]];
    for command in &commands {
        for form in [vec!["--verbose"], vec!["--json"]] {
            let run = place.run(&[command.clone(), form].concat());
            let told = told(&place, &run);
            for secret in secrets {
                assert!(!told.contains(secret), "{command:?} tells {secret}: {told}");
            }
        }
    }
    // The last one exchanged the password.
    place.run(&["snapshots"]).expect(12);
    let dumped = place.run_with(
        &["--password-file", "second", "dump", "latest", "/stdin"],
        |command| {
            command.env_remove("KEEPSTONE_PASSWORD");
        },
        b"",
    );
    assert!(!dumped.text().contains(PASSWORD), "a child was given the password");
}

#[test]
fn a_program_with_keys_in_memory_leaves_no_image_of_it() {
    let place = Place::with_snapshot();
    // A command that gives the password and looks at who asks.
    let look = "grep core /proc/$PPID/limits > limits; printf 'correct horse'";
    let bare = |command: &mut std::process::Command| {
        command.env_remove("KEEPSTONE_PASSWORD");
    };
    place.run_with(&["--password-command", look, "snapshots"], bare, b"").expect(0);
    let limits = std::fs::read_to_string(place.path("limits")).unwrap();
    assert_eq!(limits.split_whitespace().skip(4).take(2).collect::<Vec<_>>(), ["0", "0"], "{limits}");

    // Killed as a crash kills it, it writes no image, wherever images go to.
    use std::os::unix::process::ExitStatusExt;
    let kill = "kill -ABRT $PPID; printf 'correct horse'";
    let mut command = place.command(&["--password-command", kill, "snapshots"]);
    bare(&mut command);
    let output = command.output().unwrap();
    assert_eq!(output.status.signal(), Some(6), "{output:?}");
    assert!(!output.status.core_dumped());
    let left: Vec<_> = std::fs::read_dir(place.path("")).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert!(left.iter().all(|name| !name.to_string_lossy().contains("core")), "{left:?}");
}
