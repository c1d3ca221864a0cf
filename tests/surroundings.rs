//! What surrounds a run fails: full and read-only disks, caches that are damaged or somebody else's, sources that
//! change under the reader.

use crate::vault::{Vault, back_up, backup_of, bytes, files_below, key, noise, open, restore, verify_all};
use keepstone::base::monitor::{Event, Monitor, Silent};
use keepstone::base::{Kind, SnapshotId, Stop};
use keepstone::ops::{Context, backup, restore as ops_restore};
use keepstone::repo::SealedRepository;
use keepstone::repo::snapshots::{self, Found};
use keepstone::store::{Area, Fault, Memory, ObjectStore, Operation};
use std::ffi::OsStr;
use std::fs;
use std::io::Write;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

#[test]
fn a_full_repository_fails_the_run_and_hurts_nothing() {
    let vault = Vault::new();
    vault.write("first", &noise(1, 100_000));
    let first = vault.back_up();
    let files = files_below(vault.files.path());
    vault.write("second", &noise(2, 300_000));
    vault.hours(1);
    let before = bytes(&vault.store, Area::Packs);
    for room_bytes in [0, 300, 1_000, 50_000, 200_000, 290_000] {
        let (store, clock) = vault.copy();
        let fault = Fault::new(store.clone());
        fault.full_after(room_bytes);
        let error = back_up(&open(Arc::new(fault), &clock).unwrap(), vault.files.path()).unwrap_err();
        assert_eq!(error.kind(), Kind::Full, "{room_bytes}: {error}");
        let context = open(Arc::new(store.clone()), &clock).unwrap();
        assert!(!verify_all(&context).unwrap().damage);
        assert!(restore(&context, first, vault.files.path()).unwrap().1 == files);
        let next = back_up(&context, vault.files.path()).unwrap();
        assert!(restore(&context, next, vault.files.path()).unwrap().1 == files_below(vault.files.path()));
        assert!(bytes(&store, Area::Packs) < before + 700_000);
    }
}

/// Mounts a small file system; none where that is not allowed.
pub fn small_disk(folder: &Path, bytes: u32) -> Option<SmallDisk> {
    fs::create_dir_all(folder).unwrap();
    let options = format!("size={bytes}");
    let done = Command::new("mount").args(["-t", "tmpfs", "-o", &options, "tmpfs"]).arg(folder).output().ok()?;
    done.status.success().then(|| SmallDisk(folder.to_owned()))
}

/// A mount, until it is dropped.
pub struct SmallDisk(PathBuf);

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

#[test]
fn a_full_target_fails_the_restore_and_is_named() {
    let vault = Vault::new();
    vault.write("large", &noise(1, 900_000));
    vault.write("little", b"fits");
    let id = vault.back_up();
    let place = tempfile::tempdir().unwrap();
    let target = place.path().join("target");
    let Some(_disk) = small_disk(&target, 400_000) else {
        println!("skipped: no file system can be mounted here");
        return;
    };
    let context = vault.open();
    let Found::Snapshot(snapshot) = snapshots::load(&context.repository, id).unwrap() else { panic!("{id}") };
    let (kind, text) = match ops_restore::restore(&context, &snapshot, &ops_restore::Options::new(target.clone())) {
        Err(error) => (error.kind(), error.to_string()),
        Ok(outcome) => {
            assert!(!outcome.damage, "the repository is not in doubt");
            (outcome.problems[0].kind, outcome.problems[0].message.clone())
        }
    };
    assert!(matches!(kind, Kind::Target | Kind::Full), "{kind:?}: {text}");
    assert!(text.contains("large"), "{text}");
}

#[test]
fn a_full_disk_under_the_repository_is_told_and_the_next_run_completes() {
    let place = crate::program::Place::new();
    place.make_tree();
    let Some(_disk) = small_disk(&place.path("vault"), 250_000) else {
        println!("skipped: no file system can be mounted here");
        return;
    };
    let args = [&["backup", "--init"], &crate::program::CHEAP[..], &["source/letters"]].concat();
    place.run(&args).expect(0);
    let full = place.run(&["backup", "source"]).expect(1);
    assert!(full.err.contains("space") || full.err.contains("full"), "{}", full.err);
    place.run(&["verify", "--all"]).expect(0);
    let grown = Command::new("mount").args(["-o", "remount,size=4000000"]).arg(place.path("vault")).status().unwrap();
    assert!(grown.success());
    place.run(&["backup", "source"]).expect(0);
    place.run(&["verify", "--all"]).expect(0);
}

/// Fills a folder to the last byte.
fn fill(folder: &Path) {
    let mut filler = fs::File::options().create(true).append(true).open(folder.join("filler")).unwrap();
    for piece in [100_000, 512] {
        while filler.write_all(&noise(9, piece)).is_ok() {}
    }
}

#[test]
fn a_prune_makes_room_on_a_disk_without_a_free_byte() {
    let place = crate::program::Place::new();
    place.make_tree();
    let vault = place.path("vault");
    let Some(_disk) = small_disk(&vault, 8_000_000) else {
        println!("skipped: no file system can be mounted here");
        return;
    };
    place.run(&[&["backup", "--init"], &crate::program::CHEAP[..], &["source"]].concat()).expect(0);
    fs::write(place.path("source/large"), noise(1, 2_000_000)).unwrap();
    place.run(&["backup", "source"]).expect(0);
    fs::remove_file(place.path("source/large")).unwrap();
    place.run(&["backup", "source"]).expect(0);
    assert!(vault.join("tmp/reserve").exists());
    fill(&vault);

    let full = place.run(&["backup", "--force", "source/letters"]).expect(1);
    assert!(full.err.contains("keepstone prune"), "{}", full.err);
    place.run(&["forget", "--keep-last", "1"]).expect(0);
    fill(&vault);
    let pruned = place.run(&["prune", "--json"]).expect(0);
    assert!(pruned.err.contains("the room that is kept for it"), "{}", pruned.err);
    let figures = pruned.json().remove(0);
    assert!(figures["deleted_bytes"].as_u64().unwrap() > 2_000_000 && figures["waiting"].is_null(), "{figures}");
    assert!(vault.join("tmp/reserve").exists(), "what was freed is there to be kept again");
    place.run(&["verify", "--all"]).expect(0);
    place.run(&["backup", "source"]).expect(0);
}

#[test]
fn what_is_left_of_uploads_goes_with_a_prune_and_fresh_ones_stay() {
    let place = crate::program::Place::new();
    place.make_tree();
    place.run(&[&["backup", "--init"], &crate::program::CHEAP[..], &["source"]].concat()).expect(0);
    let [old, fresh] = ["0", "1"].map(|digit| place.path("vault/tmp").join(digit.repeat(32)));
    [&old, &fresh].iter().for_each(|path| fs::write(path, noise(1, 9000)).unwrap());
    let an_hour_ago = std::time::SystemTime::now() - std::time::Duration::from_secs(3600);
    fs::File::options().write(true).open(&old).unwrap().set_modified(an_hour_ago).unwrap();
    let pruned = place.run(&["prune"]).expect(0);
    assert!(pruned.err.contains("removed 1 upload that nobody finished"), "{}", pruned.err);
    assert!(!old.exists() && fresh.exists());
}

#[test]
fn a_prune_deletes_nothing_while_a_snapshot_is_gone_that_nobody_forgot() {
    let place = crate::program::Place::new();
    place.make_tree();
    place.run(&[&["backup", "--init"], &crate::program::CHEAP[..], &["source"]].concat()).expect(0);
    let snapshot = fs::read_dir(place.path("vault/snapshots")).unwrap().next().unwrap().unwrap().path();
    fs::write(place.path("source/more"), noise(3, 50_000)).unwrap();
    place.run(&["backup", "source"]).expect(0);
    let object = fs::read(&snapshot).unwrap();
    fs::remove_file(&snapshot).unwrap();
    for args in [&["prune"][..], &["prune", "--dry-run"], &["forget", "--keep-last", "1", "--prune"]] {
        let refused = place.run(args).expect(11);
        assert!(refused.err.contains("is gone") && refused.err.contains("--forget-gone"), "{}", refused.err);
    }
    fs::write(&snapshot, object).unwrap();
    place.run(&["prune"]).expect(0);
    place.run(&["verify", "--all"]).expect(0);
    fs::remove_file(&snapshot).unwrap();
    place.run(&["prune", "--forget-gone"]).expect(0);
    // It is written down as forgotten.
    place.run(&["prune"]).expect(0);
    let verified = place.run(&["verify", "--all"]).expect(0);
    assert!(!verified.err.contains("is gone"), "{}", verified.err);
}

#[test]
fn a_disk_that_is_full_long_before_the_end_of_a_source_is_told_as_such() {
    let place = crate::program::Place::new();
    let Some(_disk) = small_disk(&place.path("vault"), 1_500_000) else {
        println!("skipped: no file system can be mounted here");
        return;
    };
    fs::create_dir(place.path("source")).unwrap();
    (0..24).for_each(|i| fs::write(place.path("source").join(i.to_string()), noise(i, 1_000_000)).unwrap());
    let full = place.run(&[&["backup", "--init"], &crate::program::CHEAP[..], &["source"]].concat()).expect(1);
    assert!(full.err.contains("space"), "{}", full.err);
}

#[test]
fn a_repository_that_refuses_changes_can_still_be_read() {
    let vault = Vault::new();
    vault.write("file", &noise(1, 50_000));
    let id = vault.back_up();
    let fault = Fault::new(vault.store.clone());
    for operation in [Operation::Put, Operation::Finish, Operation::Replace, Operation::Delete] {
        fault.fail_next_of(operation, u64::MAX, Kind::Denied);
    }
    let context = open(Arc::new(fault), &vault.clock).unwrap();
    let error = back_up(&context, vault.files.path()).unwrap_err();
    assert_eq!(error.kind(), Kind::Denied, "{error}");
    assert!(!verify_all(&context).unwrap().damage);
    assert!(restore(&context, id, vault.files.path()).unwrap().1 == files_below(vault.files.path()));
}

fn with_cache(store: &Memory, vault: &Vault, cache: &Path) -> Context {
    let store: Arc<dyn ObjectStore> = Arc::new(store.clone());
    let repository = SealedRepository::open(store).unwrap().unlock(&key(), vault.clock.clone()).unwrap();
    Context::open(repository, Some(cache.to_owned()), Arc::new(Silent), Stop::new()).unwrap().0
}

fn with_bases(folder: &Path) -> backup::Options {
    backup::Options { base_cache_bytes: 4 << 20, ..backup_of(folder) }
}

/// What may have become of a cache since the last run.
fn spoil(folder: &Path, how: u32) {
    let mut files = Vec::new();
    let mut folders = vec![folder.to_path_buf()];
    while let Some(at) = folders.pop() {
        for entry in fs::read_dir(at).unwrap().map(std::result::Result::unwrap) {
            if entry.path().is_dir() { folders.push(entry.path()) } else { files.push(entry.path()) }
        }
    }
    assert!(!files.is_empty(), "there is no cache");
    for file in files {
        let mut bytes = fs::read(&file).unwrap();
        match how {
            0 => bytes.truncate(bytes.len() / 2),
            1 => bytes.fill(0),
            2 => bytes.iter_mut().skip(4096).step_by(511).for_each(|byte| *byte ^= 0x41),
            3 => bytes = b"not a cache".to_vec(),
            _ => bytes.clear(),
        }
        fs::write(&file, bytes).unwrap();
    }
}

#[test]
fn a_spoiled_cache_costs_time_and_nothing_else() {
    for how in 0..5 {
        let vault = Vault::new();
        let cache = tempfile::tempdir().unwrap();
        let mut dump = noise(1, 200_000);
        for night in 0..3u8 {
            dump[usize::from(night) * 50_000..][..50].fill(night);
            vault.write("dump.sql", &dump);
            vault.write(&format!("of/{night}"), &noise(9 + u64::from(night), 20_000));
            vault.hours(1);
            let context = with_cache(&vault.store, &vault, cache.path());
            let done = backup::backup(&context, &with_bases(vault.files.path()));
            let id = done.unwrap_or_else(|error| panic!("cache spoiled in way {how}: {error}")).snapshot.unwrap().id;
            let whole = restore(&vault.open(), id, vault.files.path()).unwrap();
            assert!(whole.1 == files_below(vault.files.path()), "{how}: {:?}", whole.0.problems);
            drop(context);
            spoil(cache.path(), how);
        }
        assert!(!verify_all(&vault.open()).unwrap().damage);
    }
}

#[test]
fn a_cache_of_another_or_an_older_repository_is_not_believed() {
    let vault = Vault::new();
    let cache = tempfile::tempdir().unwrap();
    vault.write("file", &noise(1, 80_000));
    let (earlier, _) = vault.copy();
    let context = with_cache(&vault.store, &vault, cache.path());
    backup::backup(&context, &with_bases(vault.files.path())).unwrap();
    drop(context);
    let other = Vault::new();
    for store in [&earlier, &other.store] {
        let id = back_up(&with_cache(store, &vault, cache.path()), vault.files.path()).unwrap();
        let context = open(Arc::new(store.clone()), &vault.clock).unwrap();
        assert!(restore(&context, id, vault.files.path()).unwrap().1 == files_below(vault.files.path()));
    }
}

#[test]
fn two_runs_share_one_cache() {
    let vault = Vault::new();
    let cache = tempfile::tempdir().unwrap();
    vault.write("file", &noise(1, 80_000));
    let contexts = [0, 1].map(|_| with_cache(&vault.store, &vault, cache.path()));
    let ids: Vec<SnapshotId> = std::thread::scope(|scope| {
        let runs = contexts.each_ref().map(|context| scope.spawn(|| back_up(context, vault.files.path()).unwrap()));
        runs.map(|run| run.join().unwrap()).to_vec()
    });
    for id in ids {
        assert!(restore(&vault.open(), id, vault.files.path()).unwrap().1 == files_below(vault.files.path()));
    }
    assert!(!verify_all(&vault.open()).unwrap().damage);
}

/// Does something once, when the first entry is done or the first bytes are.
struct Meddler(std::sync::Mutex<Option<Box<dyn FnOnce() + Send>>>);

impl Monitor for Meddler {
    fn event(&self, event: Event<'_>) {
        if matches!(event, Event::Done { .. })
            && let Some(act) = self.0.lock().unwrap().take()
        {
            act();
        }
    }
}

fn meddled(vault: &Vault, act: impl FnOnce() + Send + 'static) -> backup::Outcome {
    let mut context = vault.open();
    context.monitor = Arc::new(Meddler(std::sync::Mutex::new(Some(Box::new(act)))));
    backup::backup(&context, &backup_of(vault.files.path())).unwrap()
}

#[test]
fn a_file_that_grows_or_vanishes_while_it_is_read_is_told() {
    let vault = Vault::new();
    vault.write("a/large", &noise(1, 60 << 20));
    vault.write("b/vanishes", &noise(2, 100_000));
    vault.write("c/stays", &noise(3, 10_000));
    let folder = vault.files.path().to_owned();
    let outcome = meddled(&vault, move || {
        use std::io::Write;
        let mut large = fs::OpenOptions::new().append(true).open(folder.join("a/large")).unwrap();
        large.write_all(b"more").unwrap();
        fs::remove_dir_all(folder.join("b")).unwrap();
    });
    let snapshot = outcome.snapshot.unwrap();
    assert!(snapshot.partial && outcome.problem_count >= 1, "{:?}", outcome.problems);
    assert!(outcome.problems.iter().all(|problem| problem.kind == Kind::Source), "{:?}", outcome.problems);
    let told = |name: &str| outcome.problems.iter().any(|problem| problem.message.contains(name));
    assert!(told("a/large"), "{:?}", outcome.problems);
    let (restored, files) = restore(&vault.open(), snapshot.id, vault.files.path()).unwrap();
    assert_eq!(restored.problem_count, 0);
    assert!(files["c/stays"] == noise(3, 10_000));
    assert!(files.contains_key("b/vanishes") || told("b"), "{:?}", outcome.problems);
}

fn long_name(byte: u8) -> PathBuf {
    PathBuf::from(OsStr::from_bytes(&[byte; 255]))
}

#[test]
fn odd_trees_come_back_with_everything() {
    let vault = Vault::new();
    let folder = vault.files.path();
    fs::write(folder.join(long_name(b'x')), "long").unwrap();
    fs::write(folder.join(long_name(0xff)), "no text").unwrap();
    let mut deep = folder.to_path_buf();
    for level in 0..100 {
        deep.push(format!("level{level:03}"));
    }
    fs::create_dir_all(&deep).unwrap();
    fs::write(deep.join("bottom"), "deep").unwrap();
    fs::create_dir(folder.join("many")).unwrap();
    (0..20_000).for_each(|number| fs::write(folder.join(format!("many/{number}")), []).unwrap());
    let id = vault.back_up();
    let context = vault.open();
    let Found::Snapshot(snapshot) = snapshots::load(&context.repository, id).unwrap() else { panic!("{id}") };
    let target = tempfile::tempdir().unwrap();
    let options = ops_restore::Options::new(target.path().to_owned());
    let outcome = ops_restore::restore(&context, &snapshot, &options).unwrap();
    assert_eq!(outcome.problem_count, 0, "{:?}", outcome.problems);
    assert_same(folder, &target.path().join(folder.strip_prefix("/").unwrap()));
}

/// The same names, content, modes, owners and times.
fn assert_same(left: &Path, right: &Path) {
    let metadata = [left, right].map(|path| fs::symlink_metadata(path).unwrap());
    let facts = metadata.each_ref().map(|of| (of.mode(), of.uid(), of.gid(), of.mtime(), of.mtime_nsec()));
    assert_eq!(facts[0], facts[1], "{}", left.display());
    if !metadata[0].is_dir() {
        assert!(fs::read(left).unwrap() == fs::read(right).unwrap(), "{}", left.display());
        return;
    }
    let names = |folder: &Path| {
        let mut names: Vec<_> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        names.sort();
        names
    };
    assert_eq!(names(left), names(right), "{}", left.display());
    names(left).iter().for_each(|name| assert_same(&left.join(name), &right.join(name)));
}
