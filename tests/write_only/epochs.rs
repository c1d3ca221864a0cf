//! New keys and old ones, and what becomes of clients that were not asked.

use super::*;
use crate::vault::crash_everywhere;
use keepstone::base::KeyId;
use keepstone::format::config::{self, Config};
use keepstone::format::envelope;
use keepstone::repo::epochs;
use keepstone::store::Key;

/// The metadata key to whose recipient the key of a snapshot is wrapped.
fn recipient_of(vault: &Vault, id: SnapshotId) -> KeyId {
    let object = vault.store.get(&Key::new(Area::Snapshots, id), u64::MAX).unwrap();
    envelope::peek_any(&object, "snapshot").unwrap().wrap.unwrap().recipient
}

fn newest_metadata_key(vault: &Vault) -> KeyId {
    vault.open().repository.keyring().current(keepstone::format::envelope::ObjectKind::Snapshot)
}

fn client_slots(vault: &Vault) -> Vec<SlotId> {
    keys::list(&vault.open()).unwrap().iter().filter(|slot| slot.write_only).map(|slot| slot.id).collect()
}

#[test]
fn a_new_epoch_reaches_clients_without_their_secrets() {
    let vault = with_client();
    let before = id_of(&back_up_as(&vault, &as_client(&vault, "host7"), "host7"));
    assert_eq!(recipient_of(&vault, before), newest_metadata_key(&vault));
    keys::rotate(&vault.open()).unwrap();
    assert_ne!(recipient_of(&vault, before), newest_metadata_key(&vault));
    vault.write("new", &noise(3, 50_000));
    vault.back_up();
    let outcome = back_up_as(&vault, &as_client(&vault, "host7"), "host7");
    assert_eq!(recipient_of(&vault, id_of(&outcome)), newest_metadata_key(&vault));
    assert_eq!(outcome.totals.bytes_new, 0, "it reads what was stored under the new index key");
    assert_eq!(client_slots(&vault).len(), 1);
    assert_eq!(restored(&vault, id_of(&outcome)), files_below(vault.files.path()));
}

#[test]
fn a_client_that_is_removed_opens_nothing_and_learns_nothing_of_the_new_epoch() {
    let vault = with_client();
    let other = add_client(&vault, "host8");
    let before = vault.copy().0;
    let going = keys::list(&vault.open()).unwrap().into_iter().find(|slot| slot.label == "host7").unwrap();
    let removed = keys::remove(&vault.open(), going.id, false).unwrap();
    assert!(removed.epoch == 2 && removed.note.contains("index keys of before"), "{}", removed.note);
    let refused = open_in(Arc::new(vault.store.clone()), &vault.clock, &client_key("host7"), None).err().unwrap();
    assert_eq!(refused.kind(), Kind::WrongKey);
    // His slot of before, put back by somebody who kept it, does not know the new epoch.
    for key in crate::vault::keys(&before).into_iter().filter(|key| key.name().starts_with(&going.id.to_string())) {
        vault.store.put(&key, &before.get(&key, u64::MAX).unwrap()).unwrap();
    }
    let refused = open_in(Arc::new(vault.store.clone()), &vault.clock, &client_key("host7"), None).err().unwrap();
    assert_eq!(refused.kind(), Kind::Refused);
    assert!(refused.to_string().contains("key repair"), "{refused}");
    assert_ne!(client_slots(&vault), [other], "the slot of the other was written anew");
    back_up_as(&vault, &as_client(&vault, "host8"), "host8");
}

#[test]
fn the_last_key_that_opens_everything_stays_whatever_clients_there_are() {
    let vault = with_client();
    let own = vault.open().repository.slot();
    let refused = keys::remove(&vault.open(), own, true).unwrap_err();
    assert_eq!(refused.kind(), Kind::Refused);
    assert!(refused.to_string().contains("last key slot that opens everything"), "{refused}");
}

#[test]
fn a_new_root_key_reaches_clients_too() {
    let vault = with_client();
    keys::exchange_root(&vault.open(), &key()).unwrap();
    vault.write("new", &noise(3, 50_000));
    let outcome = back_up_as(&vault, &as_client(&vault, "host7"), "host7");
    assert_eq!(recipient_of(&vault, id_of(&outcome)), newest_metadata_key(&vault));
    assert_eq!(restored(&vault, id_of(&outcome)), files_below(vault.files.path()));
}

/// After a crash at any change of `act` the client backs up, or says that it must be told and is told by a repair.
fn crash_beside_a_client(vault: &Vault, act: impl Fn(&Context) -> Result<()>) {
    let changes = crash_everywhere(vault, &|store, clock| act(&open(store, clock)?), &|store, clock, what| {
        let shared: Arc<dyn ObjectStore> = Arc::new(store.clone());
        let as_client = || open_in(shared.clone(), clock, &client_key("host7"), None);
        let context = as_client().or_else(|error| {
            assert!(error.to_string().contains("key repair"), "{what}: {error}");
            keys::repair(&open(shared.clone(), clock).unwrap(), &key()).unwrap();
            as_client()
        });
        let context = context.unwrap_or_else(|error| panic!("{what}: {error}"));
        let id = id_of(&backup::backup(&context, &backup_of(vault.files.path())).unwrap());
        let full = open(shared, clock).unwrap();
        assert_eq!(restore(&full, id, vault.files.path()).unwrap().1, files_below(vault.files.path()));
    });
    assert!(changes > 2, "only {changes} changes");
}

#[test]
fn a_rotation_that_is_killed_at_any_change_leaves_clients_that_can_be_helped() {
    let vault = with_client();
    crash_beside_a_client(&vault, |context| keys::rotate(context).map(drop));
}

#[test]
fn an_exchange_of_the_root_key_that_is_killed_at_any_change_leaves_clients_that_can_be_helped() {
    let vault = with_client();
    crash_beside_a_client(&vault, |context| keys::exchange_root(context, &key()).map(drop));
}

#[test]
fn adding_a_client_that_is_killed_at_any_change_harms_nobody() {
    let vault = with_client();
    crash_beside_a_client(&vault, |context| {
        keys::add_write_only(context, &client_key("host8"), GuardKind::KeyFile, "host8").map(drop)
    });
    let first = Vault::new();
    first.write("file", &noise(1, 10_000));
    first.back_up();
    for change in 1..12 {
        let (store, clock) = first.copy();
        let fault = Fault::new(store.clone());
        fault.crash_at(change, Crash::Before);
        let context = open(Arc::new(fault.clone()), &clock).unwrap();
        let _ = keys::add_write_only(&context, &client_key("host7"), GuardKind::KeyFile, "");
        let full = open(Arc::new(store.clone()), &clock).unwrap();
        crate::vault::back_up(&full, first.files.path()).unwrap();
    }
}

#[test]
fn a_config_without_its_features_is_refused_by_a_client_that_cannot_prove_it() {
    let vault = with_client();
    let object = |name: &str| Key::new(Area::Config, name);
    let stored = config::decode(&vault.store.get(&object("config"), u64::MAX).unwrap()).unwrap();
    assert!(stored.config.writer_features.iter().any(|feature| feature == "write-only-clients"));
    let weaker = Config { writer_features: Vec::new(), revision: 9, ..stored.config };
    // Somebody without the root key puts it there, for the right root key and with a proof that is none.
    let forged = keepstone::format::config::encode(&weaker, &keepstone::crypto::RootKey::generate());
    let right_id = [&forged[..8], &stored.root.0, &forged[24..]].concat();
    for name in ["config.copy", "config"] {
        vault.store.replace(&object(name), &right_id).unwrap();
    }
    let refused = open_in(Arc::new(vault.store.clone()), &vault.clock, &client_key("host7"), None).err().unwrap();
    assert_eq!(refused.kind(), Kind::Damaged, "{refused}");
}

#[test]
fn the_first_client_makes_the_repository_one_that_others_must_know_about() {
    let vault = Vault::new();
    vault.write("file", &noise(1, 10_000));
    vault.back_up();
    let features = |vault: &Vault| vault.open().repository.config().writer_features.clone();
    assert_eq!(features(&vault), [""; 0]);
    add_client(&vault, "host7");
    assert_eq!(features(&vault), ["write-only-clients"]);
    assert_eq!(vault.open().repository.config().revision, 2);
    add_client(&vault, "host8");
    assert_eq!(vault.open().repository.config().revision, 2);
    assert_eq!(epochs::names(&vault.store).unwrap().len(), 1);
}

#[test]
fn a_client_may_get_a_new_secret_and_stays_what_it_is() {
    let vault = with_client();
    let slot = client_slots(&vault)[0];
    keys::passwd(&vault.open(), Some(slot), &client_key("new"), GuardKind::KeyFile).unwrap();
    assert!(as_client(&vault, "new").repository.keyring().is_write_only());
    let listed = keys::list(&vault.open()).unwrap();
    assert_eq!(listed.iter().filter(|slot| slot.write_only && slot.label == "host7").count(), 1);
}

#[test]
fn an_index_that_nobody_signed_has_to_be_made_anew_before_the_first_client() {
    let vault = Vault::new();
    vault.write("file", &noise(1, 60_000));
    vault.back_up();
    // As a version wrote it that signed nothing.
    let context = vault.open();
    let (store, keyring) = (&**context.repository.store(), context.repository.keyring());
    let origin = keepstone::repo::index::Origin {
        session: keepstone::base::SessionId([9; 16]),
        level: 0,
        supersedes: Vec::new(),
        previous: Vec::new(),
        condemned_seen: 0,
        written_ns: 1,
    };
    let mut nothing = keepstone::repo::index::SegmentContents::default();
    keepstone::repo::index::segments::save_unvouched(store, keyring, origin, &mut nothing).unwrap();
    let add = || keys::add_write_only(&vault.open(), &client_key("host7"), GuardKind::KeyFile, "");
    let refused = add().unwrap_err();
    assert_eq!(refused.kind(), Kind::Refused);
    assert!(refused.to_string().contains("rebuild-index"), "{refused}");
    assert_eq!(vault.open().repository.config().writer_features, [""; 0]);
    rebuild::rebuild_index(&vault.open()).unwrap();
    add().unwrap();
    assert_eq!(back_up_as(&vault, &as_client(&vault, "host7"), "host7").totals.bytes_new, 0);
}
