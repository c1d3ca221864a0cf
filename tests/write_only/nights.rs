//! Nights of a client that keeps what it stored itself, under its own key.

use super::*;

fn options(vault: &Vault) -> backup::Options {
    backup::Options { host: Some("host7".to_owned()), base_cache_bytes: 64 << 20, ..backup_of(vault.files.path()) }
}

/// A night of the client, with caches in a folder.
fn night(vault: &Vault, cache: &Path) -> backup::Outcome {
    vault.hours(24);
    backup::backup(&as_client_in(vault, "host7", cache), &options(vault)).unwrap()
}

/// Files of which the first changes a little every night.
fn write_night(vault: &Vault, night: u64) {
    let mut dump = noise(1, 400_000);
    for place in 0..6 {
        dump[place * 60_000 + night as usize * 977..][..40].copy_from_slice(&noise(night * 100 + place as u64, 40));
    }
    vault.write("dump.sql", &dump);
}

fn prepared() -> Vault {
    // Later than any of these files is written: what changed since a scan began is not trusted.
    let vault = Vault::at("2199-01-01T12:00:00Z");
    add_client(&vault, "host7");
    write_night(&vault, 0);
    for number in 0..40u64 {
        vault.write(&format!("of/{}/{number}", number % 7), &noise(number + 10, 3_000));
    }
    vault
}

#[test]
fn what_did_not_change_is_not_read_again_and_what_did_is_stored_as_the_difference() {
    let vault = prepared();
    let cache = tempfile::tempdir().unwrap();
    let first = night(&vault, cache.path());
    assert_eq!((first.parent, first.totals.files_new), (None, 41));
    let second = night(&vault, cache.path());
    assert_eq!(second.parent, Some(id_of(&first)));
    assert_eq!((second.unchanged_files, second.totals.bytes_read), (41, 0));
    // The folders above are others' too.
    assert!(second.totals.metadata_new < 1_000, "{:?}", second.totals);

    write_night(&vault, 1);
    let third = night(&vault, cache.path());
    assert_eq!((third.unchanged_files, third.totals.files_changed), (40, 1), "{:?}", third.totals);
    let totals = &third.totals;
    assert!(totals.bytes_delta > 20_000 && totals.stored_delta * 10 < totals.bytes_delta, "{totals:?}");
    write_night(&vault, 2);
    let fourth = night(&vault, cache.path());
    assert!(fourth.totals.bytes_delta > 20_000, "{:?}", fourth.totals);
    assert_eq!(restored(&vault, id_of(&fourth)), files_below(vault.files.path()));
    whole(&vault);

    // All this goes on after a prune has read and rewritten what was stored.
    forget::remove(&vault.open(), id_of(&first)).unwrap();
    prune_all(&vault.open()).unwrap();
    let fifth = night(&vault, cache.path());
    assert_eq!((fifth.parent, fifth.unchanged_files), (Some(id_of(&fourth)), 41));
    write_night(&vault, 3);
    let sixth = night(&vault, cache.path());
    assert!(sixth.totals.bytes_delta > 20_000, "{:?}", sixth.totals);
    assert_eq!(restored(&vault, id_of(&sixth)), files_below(vault.files.path()));
    whole(&vault);
}

#[test]
fn a_snapshot_that_was_forgotten_is_no_parent_and_what_it_needed_is_stored_again() {
    let vault = prepared();
    let cache = tempfile::tempdir().unwrap();
    let first = night(&vault, cache.path());
    forget::remove(&vault.open(), id_of(&first)).unwrap();
    prune_all(&vault.open()).unwrap();
    let second = night(&vault, cache.path());
    assert_eq!((second.parent, second.unchanged_files), (None, 0));
    assert!(second.totals.bytes_new > 500_000, "{:?}", second.totals);
    assert_eq!(restored(&vault, id_of(&second)), files_below(vault.files.path()));
}

#[test]
fn caches_that_are_lost_or_damaged_cost_time_and_nothing_else() {
    let vault = prepared();
    let cache = tempfile::tempdir().unwrap();
    night(&vault, cache.path());
    let own = cache.path().join("write-only/own-v1.sqlite");
    assert!(own.exists());
    for ending in ["-wal", "-shm"] {
        let _ = std::fs::remove_file(cache.path().join(format!("write-only/own-v1.sqlite{ending}")));
    }
    std::fs::write(&own, noise(3, 20_000)).unwrap();
    let again = night(&vault, cache.path());
    assert_eq!((again.parent, again.totals.bytes_new), (None, 0), "what the index has is still known");
    assert!(again.damages.is_empty(), "{:?}", again.damages);
    std::fs::remove_dir_all(cache.path()).unwrap();
    let anew = night(&vault, cache.path());
    assert!(anew.totals.bytes_new > 500_000 && anew.damages.is_empty());
    assert_eq!(restored(&vault, id_of(&anew)), files_below(vault.files.path()));
}

#[test]
fn caches_tell_nobody_else_what_was_backed_up() {
    let vault = prepared();
    vault.write("of/secret-name", b"tiny secret content");
    let cache = tempfile::tempdir().unwrap();
    night(&vault, cache.path());
    let mut seen = 0;
    for (name, bytes) in files_below(cache.path()) {
        for secret in [&b"secret-name"[..], b"secret content", b"host7"] {
            assert!(bytes.windows(secret.len()).all(|window| window != secret), "{name}");
        }
        seen += 1;
    }
    assert!(seen >= 3, "{seen} files");
    // Another client has another key: to it they are noise.
    add_client(&vault, "host8");
    vault.hours(24);
    let other = backup::backup(&as_client_in(&vault, "host8", cache.path()), &options(&vault)).unwrap();
    assert_eq!(other.parent, None);
}

fn copy_folder(from: &Path) -> tempfile::TempDir {
    let copy = tempfile::tempdir().unwrap();
    for (name, bytes) in files_below(from) {
        let path = copy.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, bytes).unwrap();
    }
    copy
}

#[test]
fn a_night_that_is_killed_at_any_change_is_made_good_by_the_next_with_the_same_caches() {
    let vault = prepared();
    let cache = tempfile::tempdir().unwrap();
    night(&vault, cache.path());
    write_night(&vault, 1);
    vault.write("of/new", &noise(99, 30_000));
    let back_up = |store: Arc<dyn ObjectStore>, clock: &Clock, cache: &Path| -> Result<backup::Outcome> {
        let context = open_in(store, clock, &client_key("host7"), Some(cache))?;
        backup::backup(&context, &options(&vault))
    };
    for crash in [Crash::Before, Crash::After] {
        for change in 1.. {
            let ((store, clock), cache) = (vault.copy(), copy_folder(cache.path()));
            let fault = Fault::new(store.clone());
            fault.crash_at(change, crash);
            let done = back_up(Arc::new(fault.clone()), &clock, cache.path());
            if !fault.crashed() {
                done.unwrap();
                assert!(change > 6, "only {change} changes");
                break;
            }
            let what = format!("{crash:?} {change}");
            clock.advance(std::time::Duration::from_secs(25 * 3600));
            let shared: Arc<dyn ObjectStore> = Arc::new(store.clone());
            let next = back_up(shared.clone(), &clock, cache.path()).unwrap();
            assert!(next.parent.is_some(), "{what}");
            let full = open(shared, &clock).unwrap();
            assert!(!verify_all(&full).unwrap().damage, "{what}");
            prune_all(&full).unwrap();
            let (outcome, files) = restore(&full, id_of(&next), vault.files.path()).unwrap();
            assert_eq!((outcome.problem_count, files), (0, files_below(vault.files.path())), "{what}");
        }
    }
}
