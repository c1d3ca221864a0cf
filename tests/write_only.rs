//! Clients that may only write: they back up and deduplicate, open nothing, and nobody takes their word.

mod epochs;
mod liars;
mod nights;
mod program;

use crate::latency::far::Far;
use crate::vault::{
    Files, Vault, backup_of, bytes, count, files_below, key, noise, open, prune_all, read_everything, restore,
    verify_all,
};
use keepstone::base::monitor::Silent;
use keepstone::base::{Clock, Kind, Secret, SlotId, SnapshotId, Stop};
use keepstone::crypto::slots::{GuardKind, Unlock};
use keepstone::ops::tag::Change;
use keepstone::ops::{Context, Result, backup, forget, keys, prune, rebuild, tag, verify};
use keepstone::repo::snapshots::{self, Found};
use keepstone::repo::{SealedRepository, session};
use keepstone::store::{Area, Crash, Fault, ObjectStore};
use std::path::Path;
use std::sync::Arc;

/// The key of a client.
fn client_key(name: &str) -> Unlock {
    Unlock::KeyFile(Secret::new(format!("the key file of the client {name}").into_bytes()))
}

fn open_in(store: Arc<dyn ObjectStore>, clock: &Clock, unlock: &Unlock, cache: Option<&Path>) -> Result<Context> {
    let repository = SealedRepository::open(store)?.unlock(unlock, clock.clone())?;
    Ok(Context::open(repository, cache.map(Path::to_owned), Arc::new(Silent), Stop::new())?.0)
}

/// Adds a client that may only write.
fn add_client(vault: &Vault, name: &str) -> SlotId {
    keys::add_write_only(&vault.open(), &client_key(name), GuardKind::KeyFile, name).unwrap().id
}

/// Opens the repository as a client.
fn as_client(vault: &Vault, name: &str) -> Context {
    open_in(Arc::new(vault.store.clone()), &vault.clock, &client_key(name), None).unwrap()
}

/// The same with a folder for its caches.
fn as_client_in(vault: &Vault, name: &str, cache: &Path) -> Context {
    open_in(Arc::new(vault.store.clone()), &vault.clock, &client_key(name), Some(cache)).unwrap()
}

/// Backs the files of the vault up under another host's name, an hour later.
fn back_up_as(vault: &Vault, context: &Context, host: &str) -> backup::Outcome {
    vault.hours(1);
    let options = backup::Options { host: Some(host.to_owned()), ..backup_of(vault.files.path()) };
    backup::backup(context, &options).unwrap()
}

fn id_of(outcome: &backup::Outcome) -> SnapshotId {
    outcome.snapshot.as_ref().unwrap().id
}

/// Restores a snapshot with the full key.
fn restored(vault: &Vault, id: SnapshotId) -> Files {
    let (outcome, files) = restore(&vault.open(), id, vault.files.path()).unwrap();
    assert_eq!(outcome.problem_count, 0, "{:?}", outcome.problems);
    files
}

fn whole(vault: &Vault) {
    let found = verify_all(&vault.open()).unwrap();
    assert!(!found.damage, "{:?}", found.damages);
}

/// A vault with files, a snapshot of them, and a client.
fn with_client() -> Vault {
    let vault = Vault::new();
    vault.write("dump.sql", &noise(1, 300_000));
    vault.write("of/some", &noise(2, 40_000));
    vault.write("of/tiny", b"tiny");
    vault.back_up();
    add_client(&vault, "host7");
    vault
}

#[test]
fn what_a_client_stored_the_full_key_restores_and_the_client_does_not() {
    let vault = with_client();
    vault.write("new", &noise(3, 100_000));
    let context = as_client(&vault, "host7");
    assert!(context.repository.keyring().is_write_only());
    let outcome = back_up_as(&vault, &context, "host7");
    let id = id_of(&outcome);
    assert_eq!(restored(&vault, id), files_below(vault.files.path()));
    whole(&vault);
    let Found::Snapshot(snapshot) = snapshots::load(&vault.open().repository, id).unwrap() else { panic!("{id}") };
    assert!(snapshot.unverified && snapshot.host == "host7");

    // Neither its own nor those of others, as soon as the keys of its session are gone.
    let again = as_client(&vault, "host7");
    for id in snapshots::names(&again.repository).unwrap() {
        let refused = snapshots::load(&again.repository, id).map(drop).unwrap_err();
        assert_eq!(refused.kind(), Kind::WrongKey);
        assert!(refused.to_string().contains("metadata key"), "{refused}");
    }
}

#[test]
fn a_client_deduplicates_against_what_full_clients_stored() {
    let vault = with_client();
    let before = bytes(&vault.store, Area::Packs);
    let outcome = back_up_as(&vault, &as_client(&vault, "host7"), "host7");
    assert_eq!(outcome.totals.bytes_new, 0, "{:?}", outcome.totals);
    let added = bytes(&vault.store, Area::Packs) - before;
    assert!(added < 20_000, "{added} bytes were added for what was there");
    assert_eq!(restored(&vault, id_of(&outcome)), files_below(vault.files.path()));
}

#[test]
fn a_client_is_refused_all_that_it_has_no_key_for_and_nothing_is_changed() {
    let vault = with_client();
    let id = snapshots::names(&vault.open().repository).unwrap()[0];
    let context = as_client(&vault, "host7");
    let content = |vault: &Vault| {
        let areas =
            [Area::Config, Area::Keys, Area::Epochs, Area::Packs, Area::Index, Area::Snapshots, Area::Condemned];
        areas.map(|area| bytes(&vault.store, area))
    };
    let before = content(&vault);
    let cheap = GuardKind::KeyFile;
    let policy = forget::Options {
        selection: forget::Selection::Ids(vec![id]),
        zone: keepstone::base::TimeZone::UTC,
        dry_run: false,
        fresh: None,
    };
    let refusals: Vec<(&str, Result<()>)> = vec![
        ("restore", restore(&context, id, vault.files.path()).map(drop)),
        ("verify", verify_all(&context).map(drop)),
        (
            "verify one",
            verify::verify(&context, &verify::Options { snapshots: Vec::new(), depth: verify::Depth::Content })
                .map(drop),
        ),
        ("prune", prune_all(&context).map(drop)),
        ("prune, dry", prune::prune(&context, &prune::Options { dry_run: true, ..Default::default() }).map(drop)),
        ("forget", forget::forget(&context, &policy).map(drop)),
        ("tag", tag::tag(&context, &[id], &Change::Set(vec!["x".to_owned()])).map(drop)),
        ("rebuild", rebuild::rebuild_index(&context).map(drop)),
        ("key add", keys::add(&context, &client_key("mine"), cheap, "").map(drop)),
        ("key add, write-only", keys::add_write_only(&context, &client_key("mine"), cheap, "").map(drop)),
        ("key remove", keys::remove(&context, context.repository.slot(), true).map(drop)),
        ("key passwd", keys::passwd(&context, None, &client_key("mine"), cheap).map(drop)),
        ("key rotate", keys::rotate(&context).map(drop)),
        ("key status", keys::status(&context).map(drop)),
        ("key repair", keys::repair(&context, &client_key("host7")).map(drop)),
        ("root", keys::exchange_root(&context, &client_key("host7")).map(drop)),
        ("list", snapshots::load(&context.repository, id).map(drop).map_err(Into::into)),
        ("read", read_everything(&context).map(drop)),
    ];
    for (what, refused) in refusals {
        let error = refused.expect_err(what);
        assert!(matches!(error.kind(), Kind::Refused | Kind::WrongKey), "{what}: {:?}: {error}", error.kind());
        assert!(error.to_string().contains("write-only"), "{what}: {error}");
    }
    assert_eq!(content(&vault), before);
}

#[test]
fn a_parent_of_somebody_else_is_none_for_a_client_and_its_own_none_for_others() {
    let vault = with_client();
    let outcome = back_up_as(&vault, &as_client(&vault, "host7"), "alpha");
    assert_eq!(outcome.parent, None);
    let full = back_up_as(&vault, &vault.open(), "alpha");
    let first = snapshots::list(&vault.open().repository).unwrap().0[0].id;
    assert_eq!(full.parent, Some(first), "not what a client says is the newest of this host");
}

#[test]
fn what_a_client_stored_is_stored_again_by_others_until_a_prune_has_read_it() {
    let vault = with_client();
    add_client(&vault, "host8");
    vault.write("new", &noise(5, 200_000));
    let of_client = id_of(&back_up_as(&vault, &as_client(&vault, "host7"), "host7"));
    let new = |context: &Context, host: &str| back_up_as(&vault, context, host).totals.bytes_new;
    assert_eq!(new(&as_client(&vault, "host8"), "host8"), 200_000, "another client does not rely on it");
    assert_eq!(new(&vault.open(), "alpha"), 200_000, "nor does a full one");
    // Now a full client has stored it, on which everybody relies.
    assert_eq!(new(&as_client(&vault, "host8"), "host8"), 0);

    vault.write("newer", &noise(6, 150_000));
    back_up_as(&vault, &as_client(&vault, "host7"), "host7");
    let pruned = prune_all(&vault.open()).unwrap();
    assert!(pruned.packs_vouched >= 2 && pruned.blobs_doubtful == 0, "{pruned:?}");
    assert_eq!(new(&as_client(&vault, "host8"), "host8"), 0, "read by a prune");
    assert_eq!(new(&vault.open(), "alpha"), 0);
    assert_eq!(restored(&vault, of_client).len(), 4);
    whole(&vault);
    prune_all(&vault.open()).unwrap();
    assert_eq!(prune_all(&vault.open()).unwrap().packs_vouched, 0, "once is enough");
}

#[test]
fn who_trusts_writers_relies_on_what_they_stored_at_once() {
    let vault = with_client();
    vault.write("new", &noise(5, 200_000));
    back_up_as(&vault, &as_client(&vault, "host7"), "host7");
    let context = vault.open();
    context.index.trust_writers();
    let outcome = back_up_as(&vault, &context, "alpha");
    assert_eq!(outcome.totals.bytes_new, 0);
    assert_eq!(restored(&vault, id_of(&outcome)), files_below(vault.files.path()));
}

#[test]
fn a_client_relies_on_what_it_stored_itself_as_long_as_it_has_its_cache() {
    let vault = with_client();
    let cache = tempfile::tempdir().unwrap();
    vault.write("new", &noise(5, 200_000));
    let new = |context: &Context| back_up_as(&vault, context, "host7").totals.bytes_new;
    assert_eq!(new(&as_client_in(&vault, "host7", cache.path())), 200_000);
    assert_eq!(new(&as_client_in(&vault, "host7", cache.path())), 0);
    assert_eq!(new(&as_client(&vault, "host7")), 200_000, "nobody tells it apart from others");
    assert_eq!(new(&as_client_in(&vault, "host7", cache.path())), 0);
    whole(&vault);
}

#[test]
fn forgetting_and_pruning_what_clients_stored_frees_it_and_keeps_the_rest() {
    let vault = with_client();
    vault.write("night", &noise(10, 150_000));
    let first = id_of(&back_up_as(&vault, &as_client(&vault, "host7"), "host7"));
    vault.write("night", &noise(11, 150_000));
    let second = id_of(&back_up_as(&vault, &as_client(&vault, "host7"), "host7"));
    let files = files_below(vault.files.path());
    forget::remove(&vault.open(), first).unwrap();
    let before = bytes(&vault.store, Area::Packs);
    prune_all(&vault.open()).unwrap();
    assert!(bytes(&vault.store, Area::Packs) + 140_000 < before);
    assert_eq!(restored(&vault, second), files);
    // Rewritten packs are sealed under the repository's own keys.
    prune_all(&vault.open()).unwrap();
    rebuild::rebuild_index(&vault.open()).unwrap();
    assert_eq!(restored(&vault, second), files);
    whole(&vault);
}

#[test]
fn an_index_made_anew_from_packs_says_who_wrote_them() {
    let vault = with_client();
    vault.write("new", &noise(5, 200_000));
    let of_client = id_of(&back_up_as(&vault, &as_client(&vault, "host7"), "host7"));
    rebuild::rebuild_index(&vault.open()).unwrap();
    let proven = |proven: bool| vault.open().index.packs().unwrap().iter().filter(|pack| pack.proven == proven).count();
    assert!(proven(true) > 0 && proven(false) > 0, "{} and {}", proven(true), proven(false));
    assert_eq!(back_up_as(&vault, &vault.open(), "alpha").totals.bytes_new, 200_000);
    assert_eq!(restored(&vault, of_client), files_below(vault.files.path()));
}

#[test]
fn a_backup_of_a_client_that_is_killed_at_any_change_loses_nothing_and_the_next_completes() {
    let vault = with_client();
    vault.write("new", &noise(5, 120_000));
    let folder = vault.files.path();
    let back_up = |store: Arc<dyn ObjectStore>, clock: &Clock| -> Result<SnapshotId> {
        let context = open_in(store, clock, &client_key("host7"), None)?;
        let options = backup::Options { host: Some("host7".to_owned()), ..backup_of(folder) };
        Ok(id_of(&backup::backup(&context, &options)?))
    };
    for crash in [Crash::Before, Crash::After] {
        for change in 1.. {
            let (store, clock) = vault.copy();
            let fault = Fault::new(store.clone());
            fault.crash_at(change, crash);
            let done = back_up(Arc::new(fault.clone()), &clock);
            if !fault.crashed() {
                done.unwrap();
                assert!(change > 6, "only {change} changes");
                break;
            }
            let what = format!("{crash:?} {change}");
            let shared: Arc<dyn ObjectStore> = Arc::new(store.clone());
            let found = verify_all(&open(shared.clone(), &clock).unwrap()).unwrap();
            assert!(!found.damage, "{what}: {:?}", found.damages);
            clock.advance(std::time::Duration::from_secs(25 * 3600));
            let id = back_up(shared.clone(), &clock).unwrap();
            let full = open(shared.clone(), &clock).unwrap();
            prune_all(&full).unwrap();
            assert!(session::condemned_numbers(&store).unwrap().is_empty(), "{what}");
            assert_eq!(count(&store, Area::Sessions), 0, "{what}");
            let (outcome, files) = restore(&open(shared, &clock).unwrap(), id, folder).unwrap();
            assert_eq!(outcome.problem_count, 0, "{what}");
            assert_eq!(files, files_below(folder), "{what}");
        }
    }
}

#[test]
fn a_prune_that_vouches_for_a_client_may_be_killed_at_any_change() {
    let vault = with_client();
    vault.write("night", &noise(10, 100_000));
    let first = id_of(&back_up_as(&vault, &as_client(&vault, "host7"), "host7"));
    vault.write("night", &noise(11, 100_000));
    let second = id_of(&back_up_as(&vault, &as_client(&vault, "host7"), "host7"));
    forget::remove(&vault.open(), first).unwrap();
    let files = files_below(vault.files.path());
    for crash in [Crash::Before, Crash::After] {
        for change in 1.. {
            let (store, clock) = vault.copy();
            let fault = Fault::new(store.clone());
            fault.crash_at(change, crash);
            let done = open(Arc::new(fault.clone()), &clock).and_then(|context| prune_all(&context));
            if !fault.crashed() {
                done.unwrap();
                assert!(change > 6, "only {change} changes");
                break;
            }
            clock.advance(std::time::Duration::from_secs(25 * 3600));
            let shared: Arc<dyn ObjectStore> = Arc::new(store.clone());
            prune_all(&open(shared.clone(), &clock).unwrap()).unwrap();
            let full = open(shared, &clock).unwrap();
            assert!(!verify_all(&full).unwrap().damage, "{crash:?} {change}");
            assert_eq!(restore(&full, second, vault.files.path()).unwrap().1, files, "{crash:?} {change}");
        }
    }
}

#[test]
fn a_key_that_only_writes_opens_with_a_key_file_only() {
    let vault = with_client();
    assert!(open(Arc::new(vault.store.clone()), &vault.clock).is_ok());
    let wrong = open_in(Arc::new(vault.store.clone()), &vault.clock, &client_key("host9"), None).err().unwrap();
    assert_eq!(wrong.kind(), Kind::WrongKey);
    let identity = Unlock::Identity(keepstone::crypto::identity::generate_identity());
    let refused = keys::add_write_only(&vault.open(), &identity, GuardKind::Recipient, "").unwrap_err();
    assert_eq!(refused.kind(), Kind::Usage);
}

#[test]
fn what_a_client_stored_is_read_from_a_store_far_away_by_whoever_has_seen_its_packs_before() {
    let vault = with_client();
    vault.write("new", &noise(3, 100_000));
    let id = id_of(&back_up_as(&vault, &as_client(&vault, "host7"), "host7"));
    let cache = tempfile::tempdir().unwrap();
    let far = || -> Arc<dyn ObjectStore> { Arc::new(Far::near(vault.store.clone())) };
    let full = || open_in(far(), &vault.clock, &key(), Some(cache.path())).unwrap();
    // The first to open it reads what is in the packs, and with it the keys of the client's sessions.
    drop(full());
    for depth in [verify::Depth::Content, verify::Depth::All] {
        let found = verify::verify(&full(), &verify::Options { snapshots: Vec::new(), depth }).unwrap();
        assert!(!found.damage, "{depth:?}: {:?}", found.damages);
    }
    let (outcome, files) = restore(&full(), id, vault.files.path()).unwrap();
    assert_eq!(outcome.problem_count, 0, "{:?}", outcome.problems);
    assert_eq!(files, files_below(vault.files.path()));
}
