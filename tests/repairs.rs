//! What is said and done when something in the repository is lost, and other mended defects, each with its story.

use crate::program::{CHEAP, Place, noise};
use crate::vault::{Vault, backup_of};
use keepstone::ops::backup;
use serde_json::Value;
use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

/// The objects of one folder of the repository.
fn objects(place: &Place, folder: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![place.path("vault").join(folder)];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() { folders.push(path) } else { found.push(path) }
        }
    }
    found
}

fn last(run: &crate::program::Run) -> Value {
    run.json().pop().unwrap()
}

#[test]
fn a_backup_that_meets_damage_makes_a_whole_snapshot_and_ends_with_4() {
    for folder in ["packs", "index"] {
        let place = Place::with_snapshot();
        let lost = objects(&place, folder);
        fs::remove_file(&lost[0]).unwrap();
        let name = lost[0].file_name().unwrap().to_string_lossy().into_owned();
        if folder == "index" {
            let found = last(&place.run(&["verify", "--structure", "--json"]).expect(4));
            assert!(found.to_string().contains(&name), "{found}");
        }
        let backup = last(&place.run(&["backup", "--json", "source", "not-there"]).expect(4));
        assert_eq!((&backup["partial"], backup["damages"].as_array().unwrap().len()), (&Value::Bool(true), 1));
        let damage = &backup["damages"][0];
        assert!(damage["subject"].as_str().unwrap().contains(&name), "{damage}");
        assert!(damage["message"].as_str().unwrap().contains("rebuild-index"), "{damage}");
        place.run(&["restore", "latest", "--target", "back", "--verify"]).expect(0);
        let restored = place.path("back").join(place.path("source").strip_prefix("/").unwrap());
        assert_eq!(fs::read(restored.join("numbers.bin")).unwrap(), noise(300_000));
        let text = place.run(&["backup", "source"]).expect(4);
        assert!(text.text().contains("damage") && text.text().contains("verify --all"), "{}", text.text());
        let record = objects(&place, "runs").len();
        assert!(record >= 3);
        if folder == "index" {
            place.run(&["rebuild-index"]).expect(0);
            place.run(&["verify", "--all"]).expect(0);
            place.run(&["backup", "source"]).expect(0);
        }
    }
}

#[test]
fn a_dry_run_knows_what_others_stored_meanwhile() {
    let vault = Vault::new();
    vault.write("file", &noise(100_000));
    let context = vault.open();
    vault.back_up();
    let options = backup::Options { dry_run: true, ..backup_of(vault.files.path()) };
    let outcome = backup::backup(&context, &options).unwrap();
    assert_eq!((outcome.snapshot.is_none(), outcome.totals.bytes_new), (true, 0));
    assert!(outcome.parent.is_some());
}

#[test]
fn ignoring_ctime_a_file_is_trusted_whose_inode_changed_just_now() {
    let vault = Vault::new();
    vault.write("file", &noise(10_000));
    let long_ago = SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000);
    let file = fs::File::options().write(true).open(vault.files.path().join("file")).unwrap();
    file.set_modified(long_ago).unwrap();
    // The vault's clock stands in 2025, so every inode was changed after each scan.
    vault.back_up();
    for (ignore_ctime, read) in [(true, 0), (false, 10_000)] {
        let options = backup::Options { ignore_ctime, ..backup_of(vault.files.path()) };
        let outcome = backup::backup(&vault.open(), &options).unwrap();
        assert_eq!(outcome.totals.bytes_read, read, "{ignore_ctime}");
    }
}

#[test]
fn no_child_sees_what_opens_the_repository() {
    let place = Place::new();
    place.run(&[&["init"], &crate::program::CHEAP[..]].concat()).expect(0);
    let args = ["backup", "--stdin-filename", "env", "--stdin-from-command", "--", "env"];
    let secrets = |command: &mut std::process::Command| {
        command.env("KEEPSTONE_PASSWORD_FILE", "nowhere").env("KEEPSTONE_PASSWORD_COMMAND", "false");
        command.env("KEEPSTONE_KEY_FILE", "nowhere");
    };
    place.run_with(&args, secrets, b"").expect(0);
    let seen = place.run(&["dump", "latest", "/env"]).expect(0).text();
    assert!(seen.contains("KEEPSTONE_REPOSITORY=vault"), "{seen}");
    assert!(!seen.contains("KEEPSTONE_PASSWORD") && !seen.contains("KEEPSTONE_KEY"), "{seen}");
    // Nor does the command that prints the password; it prints what it was given by other means.
    let args = ["--password-command", "test -z \"$KEEPSTONE_PASSWORD\" && printf 'correct horse'", "snapshots"];
    place.run(&args).expect(0);
}

#[test]
fn arguments_patterns_and_names_that_are_not_utf8_survive() {
    let place = Place::new();
    place.make_tree();
    let odd = OsStr::from_bytes(b"odd\xff");
    let words = [OsStr::new("backup"), OsStr::new("--init"), OsStr::new("--exclude"), odd];
    let cheap = crate::program::CHEAP.map(OsStr::new);
    let missing = [OsStr::new("source"), OsStr::from_bytes(b"gone\xff")];
    place.run(&[&words[..], &cheap, &missing].concat()).expect(3);
    let shown = last(&place.run(&["show", "latest", "--json"]).expect(0));
    assert_eq!(shown["snapshot"]["excludes_hex"][0], "6f6464ff");
    let subject = shown["problems"][0]["subject_hex"].as_str().unwrap();
    assert!(subject.ends_with("676f6e65ff"), "{subject}");
    let command = ["backup", "--stdin-filename", "said", "--stdin-from-command", "--", "printf", "%s"].map(OsStr::new);
    place.run(&[&command[..], &[odd]].concat()).expect(0);
    assert_eq!(place.run(&["dump", "latest", "/said"]).expect(0).out, odd.as_bytes());
    let shown = last(&place.run(&["show", "latest", "--json"]).expect(0));
    assert_eq!(shown["streams"][0]["command_hex"][2], "6f6464ff");
}

#[test]
fn an_older_config_that_was_put_back_is_refused_by_who_has_seen_a_later_one() {
    use keepstone::repo::SealedRepository;
    use keepstone::store::{Area, Key, ObjectStore};
    use std::sync::Arc;
    let vault = Vault::new();
    let folder = tempfile::tempdir().unwrap();
    let open = || {
        let sealed = SealedRepository::open(Arc::new(vault.store.clone()))?;
        let repository = sealed.unlock(&crate::vault::key(), vault.clock.clone())?;
        let silent = Arc::new(keepstone::base::monitor::Silent);
        let cache = Some(folder.path().to_path_buf());
        keepstone::ops::Context::open(repository, cache, silent, keepstone::base::Stop::new())
            .map(|(context, _)| context)
    };
    let context = open().unwrap();
    let keys = ["config", "config.copy"].map(|name| Key::new(Area::Config, name));
    let old = vault.store.get(&keys[0], 1 << 16).unwrap();
    let mut config = context.repository.config().clone();
    config.revision += 1;
    let new = keepstone::format::config::encode(&config, context.repository.keyring().root().unwrap());
    // Whoever replaces it may be stopped between the two: the later one counts.
    vault.store.replace(&keys[1], &new).unwrap();
    assert_eq!(open().unwrap().repository.config().revision, 2);
    vault.store.replace(&keys[1], &old).unwrap();
    let refused = open().err().unwrap();
    assert_eq!(refused.kind(), keepstone::base::Kind::Refused);
    let file = folder.path().join(keepstone::repo::remembered::FILE_NAME);
    assert!(refused.to_string().contains(&file.display().to_string()), "{refused}");
    fs::remove_file(file).unwrap();
    open().unwrap();
}

#[test]
fn a_damaged_mark_of_a_session_keeps_prune_waiting_for_a_day_and_no_longer() {
    use keepstone::format::session::SessionKind;
    use keepstone::repo::Session;
    use keepstone::store::{Area, ObjectStore};
    let vault = Vault::new();
    vault.write("file", &noise(10_000));
    vault.back_up();
    std::mem::forget(Session::begin(&vault.open().repository, SessionKind::Writer, "backup").unwrap());
    let open = |key: &keepstone::store::Key| key.area() == Area::Sessions && !key.name().contains('.');
    for key in crate::vault::keys(&vault.store).into_iter().filter(open) {
        vault.store.replace(&key, b"not a mark at all").unwrap();
    }
    vault.hours(1);
    for night in 0..2 {
        vault.write("file", &noise(10_001 + night));
        vault.back_up();
    }
    let first = keepstone::repo::snapshots::names(&vault.open().repository).unwrap()[0];
    keepstone::ops::forget::remove(&vault.open(), first).unwrap();
    let waits = crate::vault::prune_all(&vault.open()).unwrap().waiting.unwrap().reason;
    assert!(waits.contains("damaged"), "{waits}");
    let found = crate::vault::verify_all(&vault.open()).unwrap();
    assert!(found.damages.iter().all(|damage| damage.object.starts_with("sessions/")), "{:?}", found.damages);
    assert!(found.damage && found.damages[0].message.contains("prune a day after"), "{:?}", found.damages);
    vault.hours(25);
    assert_eq!(crate::vault::prune_all(&vault.open()).unwrap().waiting, None);
    assert!(!crate::vault::verify_all(&vault.open()).unwrap().damage);
}

#[test]
fn copies_of_keys_and_config_are_mended_and_a_key_opens_by_its_command() {
    let place = Place::with_snapshot();
    let command = "printf 'a key that nobody guesses'";
    place.run(&["key", "add", "--command", command, "--label", "safe"]).expect(0);
    let run = |args: &[&str]| {
        let open = |process: &mut std::process::Command| {
            process.env_remove("KEEPSTONE_PASSWORD");
        };
        place.run_with(&[&["--key-command", command], args].concat(), open, b"")
    };
    run(&["snapshots"]).expect(0);
    run(&["verify", "--structure"]).expect(0);
    assert!(place.run(&["--key-command", "false", "snapshots"]).expect(1).err.contains("key command failed"));
    place.run(&["--key-command", "printf 'some other key here'", "snapshots"]).expect(12);
    let listed = last(&run(&["key", "list", "--json"]).expect(0));
    let keys = listed["keys"].as_array().unwrap();
    assert_eq!((&keys[1]["kind"], &keys[1]["current"], keys.len()), (&Value::from("command"), &Value::Bool(true), 2));

    let slot = |number: usize, ending: &str| {
        place.path("vault/keys").join(format!("{}{ending}", keys[number]["id"].as_str().unwrap()))
    };
    let flip = |path: &std::path::Path, from_end: usize| {
        let mut bytes = fs::read(path).unwrap();
        let at = bytes.len() - from_end;
        bytes[at] ^= 1;
        fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
        fs::write(path, bytes).unwrap();
    };
    let whole = [fs::read(slot(0, "")).unwrap(), fs::read(slot(1, "")).unwrap()];
    // Sealed bytes of the password's slot, which only the password can tell from good ones; the other's copy is gone;
    // of the config the copy is damaged.
    flip(&slot(0, ""), 40);
    fs::remove_file(slot(1, ".copy")).unwrap();
    flip(&place.path("vault/config.copy"), 3);
    let found = last(&run(&["verify", "--structure", "--json"]).expect(4));
    assert_eq!(found["damages"].as_array().unwrap().len(), 3, "{found}");
    assert!(found["damages"][0]["message"].as_str().unwrap().contains("key repair"), "{found}");
    let listed = last(&run(&["key", "list", "--json"]).expect(0));
    let copies: Vec<_> = listed["keys"].as_array().unwrap().iter().map(|key| key["copies"].as_str().unwrap()).collect();
    assert_eq!(copies, ["first", "second", "alone"]);
    assert!(run(&["key", "list"]).expect(0).text().contains("key repair"));

    let repaired = last(&run(&["key", "repair", "--json"]).expect(4));
    assert_eq!((repaired["written"].as_array().unwrap().len(), repaired["left"].as_array().unwrap().len()), (2, 1));
    assert_eq!(fs::read(slot(1, ".copy")).unwrap(), whole[1]);
    place.run(&["key", "repair"]).expect(0);
    for ending in ["", ".copy"] {
        assert_eq!(fs::read(slot(0, ending)).unwrap(), whole[0]);
    }
    assert!(place.run(&["key", "repair"]).expect(0).text().contains("alike"));
    place.run(&["verify", "--structure"]).expect(0);
    let long = "x".repeat(1025);
    place.run(&["key", "add", "--command", command, "--label", &long]).expect(2);
}

#[test]
fn a_key_whose_first_copy_is_damaged_is_wrapped_anew_all_the_same() {
    let place = Place::with_snapshot();
    let slot = objects(&place, "keys").into_iter().find(|path| path.extension().is_none()).unwrap();
    let mut bytes = fs::read(&slot).unwrap();
    let at = bytes.len() - 40;
    bytes[at] ^= 1;
    fs::remove_file(&slot).unwrap();
    fs::write(&slot, bytes).unwrap();
    place.run(&[&["key", "rewrap"], &crate::program::CHEAP[..]].concat()).expect(0);
    place.run(&["verify", "--structure"]).expect(0);
}

#[test]
fn forget_says_when_nothing_is_meant() {
    let place = Place::with_snapshot();
    let none = place.run(&["forget", "--keep-last", "1", "--host", "nobody"]).expect(0).text();
    assert!(none.contains("no snapshot is meant") && none.contains("1 snapshot"), "{none}");
    let none = last(&place.run(&["forget", "--keep-last", "1", "--tag", "none", "--json"]).expect(0));
    assert_eq!((&none["matched"], &none["remaining"]), (&Value::from(0), &Value::from(1)));
    let missing = place.run(&["forget", "latest", "00000000", "ffffffff"]).expect(1).err;
    assert!(
        missing.contains("00000000") && missing.contains("ffffffff") && missing.contains("Nothing was"),
        "{missing}"
    );
    let one = last(&place.run(&["forget", "--keep-last", "1", "--json"]).expect(0));
    assert_eq!(one["matched"], 1);
}

#[test]
fn a_damaged_pack_goes_once_a_backup_has_stored_again_what_was_in_it() {
    use crate::vault::{Vault, keys, verify_all};
    use keepstone::format::pack::Role;
    use keepstone::ops::{Context, prune};
    use keepstone::store::{Area, Key, ObjectStore};
    use std::sync::Arc;
    let vault = Vault::new();
    let cache = tempfile::tempdir().unwrap();
    let open = || {
        let sealed = keepstone::repo::SealedRepository::open(Arc::new(vault.store.clone())).unwrap();
        let repository = sealed.unlock(&crate::vault::key(), vault.clock.clone()).unwrap();
        let silent = Arc::new(keepstone::base::monitor::Silent);
        let folder = Some(cache.path().to_path_buf());
        Context::open(repository, folder, silent, keepstone::base::Stop::new()).unwrap().0
    };
    let long_ago = SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000);
    for number in 0..6 {
        vault.write(&format!("file{number}"), &crate::vault::noise(number, 60_000));
        let file = fs::File::options().write(true).open(vault.files.path().join(format!("file{number}"))).unwrap();
        file.set_modified(long_ago).unwrap();
    }
    let backup = || {
        vault.hours(1);
        let options = backup::Options { ignore_ctime: true, ..backup_of(vault.files.path()) };
        backup::backup(&open(), &options).unwrap()
    };
    backup();
    assert_eq!(backup().totals.bytes_read, 0);
    let data = open().index.packs().unwrap().into_iter().find(|pack| pack.role == Role::Data).unwrap();
    let key = Key::new(Area::Packs, data.id);
    let mut bytes = vault.store.get(&key, u64::MAX).unwrap();
    bytes[100_000] ^= 1;
    vault.store.replace(&key, &bytes).unwrap();
    assert!(verify_all(&open()).unwrap().damage);
    let healed = backup();
    assert!(healed.totals.bytes_new > 0 && healed.totals.bytes_read == 360_000, "{:?}", healed.totals);
    // What was made since counts on nothing damaged, and need not be read again while the damaged pack is still there.
    assert_eq!(backup().totals.bytes_read, 0);
    assert_eq!(backup().totals.bytes_read, 0);
    // Who does not know of the damage keeps the newer of two copies, whether packs stay or are rewritten.
    for (max_unused, stays) in [("unlimited", true), ("0", false)] {
        let (store, clock) = vault.copy();
        clock.advance(Duration::from_secs(25 * 3600));
        let elsewhere = || crate::vault::open(Arc::new(store.clone()), &clock).unwrap();
        let options = prune::Options { max_unused: max_unused.parse().unwrap(), ..Default::default() };
        prune::prune(&elsewhere(), &options).unwrap();
        let id = healed.snapshot.as_ref().unwrap().id;
        let (outcome, files) = crate::vault::restore(&elsewhere(), id, vault.files.path()).unwrap();
        assert!(outcome.problem_count == 0 && files.len() == 6, "{max_unused}: {:?}", outcome.problems);
        assert_eq!(verify_all(&elsewhere()).unwrap().damage, stays, "{max_unused}");
    }
    // A rewriting of the damaged pack takes what lives from wherever it can be read.
    for max_unused in ["unlimited", "0"] {
        prune::prune(&open(), &prune::Options { max_unused: max_unused.parse().unwrap(), ..Default::default() })
            .unwrap();
        assert!(!keys(&vault.store).contains(&key), "{max_unused}");
        let found = verify_all(&open()).unwrap();
        assert!(!found.damage, "{:?}", found.damages);
    }
    assert_eq!(backup().totals.bytes_read, 0);
}

/// Changes one byte of each copy of an object.
fn flip(place: &Place, names: &[&str], at: usize) {
    for name in names {
        let path = place.path("vault").join(name);
        let mut bytes = fs::read(&path).unwrap();
        bytes[at] ^= 1;
        let mut permissions = fs::metadata(&path).unwrap().permissions();
        permissions.set_mode(0o600);
        fs::set_permissions(&path, permissions).unwrap();
        fs::write(&path, bytes).unwrap();
    }
}

#[test]
fn latest_does_not_mean_an_older_snapshot_while_one_cannot_be_read() {
    let place = Place::with_snapshot();
    let old = objects(&place, "snapshots").remove(0);
    let old_id = old.file_name().unwrap().to_string_lossy().into_owned();
    fs::write(place.path("source/new"), "new").unwrap();
    place.run(&["backup", "source"]).expect(0);
    let newest = objects(&place, "snapshots").into_iter().find(|path| *path != old).unwrap();
    let name = newest.file_name().unwrap().to_string_lossy().into_owned();
    flip(&place, &[&format!("snapshots/{name}")], 100);
    for args in [
        &["ls", "latest"][..],
        &["show", "latest"],
        &["dump", "latest", "/"],
        &["diff", &old_id, "latest"],
        &["diff", "latest~1", "latest"],
        &["restore", "latest", "--target", "back"],
        &["tag", "--add", "x", "latest"],
        &["forget", "latest"],
        &["verify", "latest"],
        &["drill", "latest"],
    ] {
        let run = place.run(args).expect(4);
        assert!(run.err.contains(&name[..8]) && run.err.contains("mirror"), "{args:?}: {}", run.err);
        assert!(!place.path("back").exists());
    }
    place.run(&["restore", &old_id, "--target", "back"]).expect(0);
    // Without a name it means what can be read, and says what cannot.
    let verify = place.run(&["verify"]).expect(4);
    assert!(verify.text().contains(&name[..8]) && !verify.text().contains("is whole"), "{}", verify.text());
    assert!(verify.text().contains("checked  1 snapshot"), "{}", verify.text());
    flip(&place, &[&format!("snapshots/{old_id}")], 100);
    place.run(&["ls", "latest"]).expect(4);
    place.run(&["verify"]).expect(4);
    place.run(&["forget", &name]).expect(0);
    place.run(&["forget", &old_id]).expect(0);
    place.run(&["ls", "latest"]).expect(1);
}

#[test]
fn no_new_repository_is_made_over_one_whose_config_is_gone() {
    let place = Place::with_snapshot();
    let before = objects(&place, "");
    for name in ["config", "config.copy"] {
        fs::rename(place.path("vault").join(name), place.path(name)).unwrap();
    }
    let init = [&["init"], &CHEAP[..]].concat();
    for args in [&init[..], &["backup", "--init", "source"], &["snapshots"], &["backup", "source"], &["verify"]] {
        let run = place.run(args).expect(4);
        assert!(run.err.contains("whose config is gone"), "{}", run.err);
        assert!(run.err.contains("mirror") && !run.err.contains("keepstone init"), "{}", run.err);
    }
    for name in ["config", "config.copy"] {
        fs::rename(place.path(name), place.path("vault").join(name)).unwrap();
    }
    assert_eq!(objects(&place, "").len(), before.len());
    place.run(&["verify", "--all"]).expect(0);
    // What an `init` leaves that was killed is in nobody's way.
    let begun = Place::with_snapshot();
    for name in ["config", "config.copy"] {
        fs::remove_file(begun.path("vault").join(name)).unwrap();
    }
    for folder in ["packs", "index", "snapshots", "runs"] {
        fs::remove_dir_all(begun.path("vault").join(folder)).unwrap();
    }
    let run = begun.run(&["snapshots"]).expect(10);
    assert!(run.err.contains("keepstone init"), "{}", run.err);
    begun.run(&init).expect(0);
    begun.run(&["backup", "source"]).expect(0);
}

#[test]
fn it_is_not_the_password_that_is_wrong_when_slots_or_config_are() {
    let place = Place::with_snapshot();
    fs::rename(place.path("vault/keys"), place.path("keys")).unwrap();
    let run = place.run(&["snapshots"]).expect(4);
    assert!(run.err.contains("key slots") && run.err.contains("mirror"), "{}", run.err);
    fs::rename(place.path("keys"), place.path("vault/keys")).unwrap();
    let configs = ["config", "config.copy"];
    for at in [8, 20, 40] {
        flip(&place, &configs, at);
        let run = place.run(&["snapshots"]).expect(4);
        assert!(run.err.contains("config is damaged") && !run.err.contains("wrong password"), "{at}: {}", run.err);
        flip(&place, &configs, at);
    }
    // The version of the format: 1 becomes 9.
    for name in configs {
        let path = place.path("vault").join(name);
        let mut bytes = fs::read(&path).unwrap();
        bytes[4] = 9;
        fs::write(&path, bytes).unwrap();
    }
    let run = place.run(&["snapshots"]).expect(1);
    assert!(run.err.contains("use a newer keepstone") && !run.err.contains("damaged"), "{}", run.err);
}

#[test]
fn a_pack_that_is_gone_is_damage_with_a_remedy_under_every_command() {
    let place = Place::with_snapshot();
    let file = place.path("source/letters/ann.txt");
    let file = file.to_str().unwrap();
    for pack in objects(&place, "packs") {
        fs::remove_file(pack).unwrap();
    }
    let large = place.path("source/numbers.bin");
    for args in [
        &["ls", "latest"][..],
        &["dump", "latest", file],
        &["dump", "latest", large.to_str().unwrap()],
        &["find", "ann.txt"],
        &["restore", "latest", "--target", "back"],
    ] {
        let run = place.run(&[&["--no-cache"], args].concat()).expect(4);
        assert!(run.err.contains("repair plan") || run.text().contains("repair plan"), "{args:?}: {}", run.err);
    }
}

#[test]
fn a_time_that_no_snapshot_can_hold_is_told_and_the_backup_is_complete() {
    let place = Place::with_snapshot();
    // The year 2440.
    let far = SystemTime::UNIX_EPOCH + Duration::from_secs(14_831_769_600);
    let path = place.path("source/far");
    fs::write(&path, "far").unwrap();
    fs::File::options().write(true).open(&path).unwrap().set_modified(far).unwrap();
    if fs::metadata(&path).unwrap().modified().unwrap() != far {
        println!("skipped: this file system keeps no such time");
        return;
    }
    for _ in 0..2 {
        let run = place.run(&["backup", "source"]).expect(0);
        assert!(run.err.contains("source/far: its time of last change"), "{}", run.err);
    }
    place.run(&["restore", "latest", "--target", "back", "--verify"]).expect(0);
}

#[test]
fn what_is_named_is_backed_up_whatever_pattern_matches_it() {
    let place = Place::new();
    fs::create_dir_all(place.path("s/.git/.hooks")).unwrap();
    fs::create_dir_all(place.path("s/dir")).unwrap();
    for name in ["s/.git/config", "s/.git/.hooks/x", "s/dir/file"] {
        fs::write(place.path(name), "x").unwrap();
    }
    place.run(&[&["init"], &CHEAP[..]].concat()).expect(0);
    for sources in [&["s/.git"][..], &["s/dir", "s/.git"]] {
        place.run(&[&["backup", "-e", ".*"], sources].concat()).expect(0);
        let listed = place.run(&["ls", "latest"]).expect(0).text();
        assert!(listed.contains(".git/config") && !listed.contains(".hooks"), "{listed}");
    }
    let run = place.run(&["backup", "-e", "**", "s/dir"]).expect(1);
    assert!(run.err.contains("with all that is in it"), "{}", run.err);
}

#[test]
fn a_repository_that_is_met_under_another_path_is_left_out() {
    let vault = Vault::new();
    vault.write("mounted/object", b"of the repository");
    vault.write("letter", b"Dear Ann");
    let mounted = fs::metadata(vault.files.path().join("mounted")).unwrap();
    let mut options = backup_of(vault.files.path());
    options.scan.own = vec![(mounted.dev(), mounted.ino())];
    let found = backup::backup(&vault.open(), &options).unwrap();
    // The folder itself, and those above it.
    let above = vault.files.path().components().count() as u64 - 1;
    assert_eq!((found.totals.files, found.totals.directories, found.problem_count), (1, above, 0));
}

#[test]
fn small_files_count_as_new_once_and_not_as_saved() {
    let place = Place::new();
    fs::create_dir(place.path("in")).unwrap();
    fs::write(place.path("in/a"), "thirteen byte").unwrap();
    let args = [&["backup", "--init", "--json"], &CHEAP[..], &["in"]].concat();
    let first = last(&place.run(&args).expect(0));
    let figures = |object: &Value| {
        let number = |name: &str| object["totals"][name].as_u64().unwrap();
        (
            number("read_bytes"),
            number("new_bytes"),
            number("saved_by_dedup_bytes"),
            number("saved_by_compression_bytes"),
        )
    };
    assert_eq!(figures(&first), (13, 13, 0, 0), "{first}");
    let again = last(&place.run(&["backup", "--json", "--force", "in"]).expect(0));
    assert_eq!(figures(&again), (13, 0, 13, 0), "{again}");
    fs::write(place.path("in/b"), "more").unwrap();
    // Whether the old one is read once more depends on its age.
    let more = last(&place.run(&["backup", "--json", "in"]).expect(0));
    let (_, new, _, compressed) = figures(&more);
    assert_eq!((new, compressed), (4, 0), "{more}");
}

#[test]
fn a_malformed_command_line_is_an_object_too_where_json_is_asked_for() {
    let place = Place::new();
    for args in [&["ls", "--json"][..], &["--json", "frobnicate"], &["backup", "--no-such-flag", "--json"]] {
        let run = place.run(args).expect(2);
        let error: Value = serde_json::from_str(run.err.trim_end()).unwrap();
        assert_eq!((&error["message_type"], &error["code"]), (&Value::from("error"), &Value::from(2)), "{error}");
        assert!(!error["message"].as_str().unwrap().is_empty() && run.out.is_empty());
    }
    place.run(&["ls", "--json", "--help"]).expect(0);
}

#[test]
fn a_variable_that_is_set_to_nothing_counts_as_not_set() {
    let place = Place::with_snapshot();
    let empty = |names: &'static [&'static str]| {
        move |command: &mut std::process::Command| {
            for name in names {
                command.env(name, "");
            }
        }
    };
    let settings = &["KEEPSTONE_CACHE_DIR", "KEEPSTONE_CACHE_SIZE", "KEEPSTONE_CONFIG"];
    place.run_with(&["snapshots"], empty(settings), b"").expect(0);
    let run = place.run_with(&["snapshots"], empty(&["KEEPSTONE_REPOSITORY"]), b"").expect(2);
    assert!(run.err.contains("which repository?"), "{}", run.err);
    place.run_with(&["-r", "vault", "snapshots"], empty(&["KEEPSTONE_REPOSITORY"]), b"").expect(0);
}

#[test]
fn every_kind_that_cat_offers_is_one_that_it_knows() {
    let place = Place::with_snapshot();
    let help = place.run(&["cat", "--help"]).expect(0).text();
    let from = help.find("Its kind: ").unwrap() + "Its kind: ".len();
    let kinds: String = help[from..].split("[ID]").next().unwrap().split_whitespace().collect::<Vec<_>>().join(" ");
    let kinds: Vec<_> = kinds.split([',', ' ']).filter(|word| !word.is_empty() && *word != "or").collect();
    assert!(kinds.len() > 8 && kinds.contains(&"condemned"), "{kinds:?}");
    for kind in kinds {
        let run = place.run(&["cat", kind, "nothing"]);
        assert!(!run.err.contains("no kind of object"), "{kind}: {}", run.err);
    }
}

#[test]
fn an_include_that_matches_nothing_says_from_where_patterns_count() {
    let place = Place::with_snapshot();
    let source = place.path("source");
    let snap = format!("latest:{}", source.display());
    let run = place.run(&["restore", &snap, "--target", "back", "-i", "/letters/ann.txt"]).expect(0);
    assert!(run.err.contains("counts from the top of the snapshot"), "{}", run.err);
    let whole = source.join("letters/ann.txt");
    let run = place.run(&["restore", &snap, "--target", "back", "-i", whole.to_str().unwrap()]).expect(0);
    assert!(!run.err.contains("counts from the top"), "{}", run.err);
    assert!(place.path("back/letters/ann.txt").exists());
}

#[test]
fn a_path_that_is_named_twice_is_kept_once() {
    let place = Place::with_snapshot();
    fs::write(place.path("list"), "source\nsource\nsource/\n").unwrap();
    let backup = last(&place.run(&["backup", "--json", "--files-from", "list", "source"]).expect(0));
    assert_eq!(backup["snapshot"]["paths"].as_array().unwrap().len(), 1, "{backup}");
    assert_eq!(backup["files_unchanged"].as_u64(), Some(3), "{backup}");
}

#[test]
fn a_damaged_snapshot_is_forgotten_without_an_empty_table() {
    let place = Place::with_snapshot();
    let name = objects(&place, "snapshots").remove(0).file_name().unwrap().to_string_lossy().into_owned();
    flip(&place, &[&format!("snapshots/{name}")], 100);
    let text = place.run(&["forget", &name]).expect(0).text();
    assert!(text.contains("was damaged") && !text.contains("Reasons"), "{text}");
}

#[test]
fn what_several_steps_of_a_command_find_is_told_once() {
    let place = Place::with_snapshot();
    let name = objects(&place, "index").remove(0).file_name().unwrap().to_string_lossy().into_owned();
    flip(&place, &[&format!("index/{name}")], 200);
    let run = place.run(&["--no-cache", "verify", "--all"]).expect(4);
    let mut lines: Vec<&str> = run.err.lines().collect();
    assert!(lines.iter().any(|line| line.contains(&name)), "{}", run.err);
    let all = lines.len();
    lines.sort_unstable();
    lines.dedup();
    assert_eq!(lines.len(), all, "{}", run.err);
}

#[test]
fn a_place_that_is_a_file_or_below_one_is_a_wrong_word_and_named() {
    let place = Place::new();
    fs::write(place.path("notes.txt"), "text").unwrap();
    for repository in ["notes.txt", "notes.txt/vault"] {
        for command in ["init", "snapshots"] {
            let said = place.run(&["-r", repository, command]).expect(2).err;
            assert!(said.contains("notes.txt is a file"), "{said}");
        }
    }
}

#[test]
fn a_mirror_that_is_older_than_the_password_opens_with_its_own() {
    let place = Place::with_snapshot();
    let copied = std::process::Command::new("cp").arg("-a").args([place.path("vault"), place.path("mirror")]).status();
    assert!(copied.unwrap().success());
    fs::write(place.path("new"), "another\n").unwrap();
    fs::write(place.path("old"), "correct horse\n").unwrap();
    place.run(&["key", "passwd", "--new-password-file", "new"]).expect(0);
    let lost = &objects(&place, "packs")[0];
    fs::remove_file(lost).unwrap();
    let repair = ["--password-file", "new", "repair", "apply", "--all", "--from", "mirror"];
    let bare = |command: &mut std::process::Command| {
        command.env_remove("KEEPSTONE_PASSWORD");
    };
    let run = place.run_with(&repair, bare, b"").expect(2);
    assert!(run.err.contains("--from-password-file"), "{}", run.err);
    place.run_with(&[&repair[..], &["--from-password-file", "old"]].concat(), bare, b"").expect(0);
    assert!(lost.exists());
    place.run_with(&["--password-file", "new", "verify", "--all"], bare, b"").expect(0);
}

#[test]
fn packs_whose_segments_are_gone_are_not_said_to_be_left_by_an_interrupted_run() {
    let place = Place::with_snapshot();
    fs::create_dir(place.path("second")).unwrap();
    fs::write(place.path("second/note"), noise(2000)).unwrap();
    objects(&place, "index").iter().for_each(|segment| fs::remove_file(segment).unwrap());
    place.run(&["--cache-dir", "new", "backup", "second"]);
    let run = place.run(&["--cache-dir", "newer", "verify", "latest"]);
    let said = run.text() + &run.err;
    assert!(said.contains("in no index segment, and 1 segment is gone") && said.contains("rebuild-index"), "{said}");
    assert!(!said.contains("a prune ten minutes"), "{said}");
    place.run(&["--cache-dir", "newer", "rebuild-index"]).expect(0);
    place.run(&["--cache-dir", "newer", "verify", "--all"]).expect(0);
}

#[test]
fn what_a_restore_finds_damaged_counts_as_damaged_until_it_is_read_whole() {
    let place = Place::with_snapshot();
    let state =
        || last(&place.run(&["snapshots", "--json"]).expect(0))["snapshots"][0]["verification"]["state"].clone();
    place.run(&["verify", "--all"]).expect(0);
    assert_eq!(state(), "verified");
    let packs = objects(&place, "packs");
    let pack = packs.iter().max_by_key(|path| path.metadata().unwrap().len()).unwrap();
    let whole = fs::read(pack).unwrap();
    let mut hurt = whole.clone();
    hurt[whole.len() / 3..][..3].fill(7);
    fs::set_permissions(pack, fs::Permissions::from_mode(0o600)).unwrap();
    fs::write(pack, hurt).unwrap();
    place.run(&["restore", "latest-verified", "--target", "back"]).expect(4);
    assert_eq!(state(), "damaged");
    place.run(&["restore", "latest-verified", "--target", "back"]).expect(1);
    fs::write(pack, whole).unwrap();
    place.run(&["verify", "--all"]).expect(0);
    assert_eq!(state(), "verified");
}

#[test]
fn a_pack_whose_directory_is_damaged_is_mended_also_where_no_segment_names_it() {
    let place = Place::new();
    place.make_tree();
    place.run(&[&["init", "--parity", "5%"], &CHEAP[..]].concat()).expect(0);
    place.run(&["backup", "source"]).expect(0);
    for path in objects(&place, "packs") {
        let mut bytes = fs::read(&path).unwrap();
        let end = bytes.len();
        bytes[end - 20] ^= 1;
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        fs::write(&path, bytes).unwrap();
    }
    objects(&place, "index").iter().for_each(|segment| fs::remove_file(segment).unwrap());
    let run = |args: &[&str], code: i32| place.run(&[&["--cache-dir", "new"], args].concat()).expect(code);
    // As the messages lead somebody.
    run(&["rebuild-index"], 4);
    let mended = run(&["repair", "apply"], 0);
    assert!(mended.text().contains("mended by its parity sidecar"), "{}", mended.text());
    run(&["rebuild-index"], 0);
    run(&["verify", "--all"], 0);
    run(&["restore", "latest", "--target", "back", "--verify"], 0);
}
