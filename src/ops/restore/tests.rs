//! Stories of restoring.
#![allow(clippy::unwrap_used)]

use super::*;
use crate::base::{Kind, Monitor, Stop};
use crate::ops::tests::{Depot, noise};
use crate::store::{Area, Key};
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

struct Place {
    _holder: tempfile::TempDir,
    source: PathBuf,
    target: PathBuf,
}

impl Place {
    /// A source with a bit of everything, and an empty target.
    fn new() -> Place {
        let holder = tempfile::tempdir().unwrap();
        let top = holder.path().canonicalize().unwrap();
        let place = Place { _holder: holder, source: top.join("source"), target: top.join("target") };
        let source = &place.source;
        fs::create_dir_all(source.join("a/b/c")).unwrap();
        fs::create_dir(source.join("bare")).unwrap();
        fs::write(source.join("a/tiny"), "tiny").unwrap();
        fs::write(source.join("a/empty"), "").unwrap();
        fs::write(source.join("a/large"), noise(700_000, 1)).unwrap();
        fs::write(source.join("a/b/same"), noise(700_000, 1)).unwrap();
        fs::write(source.join("a/b/c/middle"), noise(9_000, 2)).unwrap();
        fs::hard_link(source.join("a/large"), source.join("z-twin")).unwrap();
        symlink("a/large", source.join("link")).unwrap();
        symlink("/nowhere", source.join("dangling")).unwrap();
        let holes = fs::File::create(source.join("holes")).unwrap();
        holes.set_len(3 << 20).unwrap();
        std::os::unix::fs::FileExt::write_all_at(&holes, b"in the middle", 1 << 20).unwrap();
        fs::write(source.join(std::ffi::OsStr::from_bytes(b"not \xff utf-8")), "odd name").unwrap();
        fs::set_permissions(source.join("a/tiny"), fs::Permissions::from_mode(0o640)).unwrap();
        fs::set_permissions(source.join("a/b"), fs::Permissions::from_mode(0o555)).unwrap();
        let old = SystemTime::UNIX_EPOCH + Duration::new(1_000_000_000, 123_456_789);
        fs::File::open(source.join("a/large")).unwrap().set_modified(old).unwrap();
        fs::File::open(source.join("bare")).unwrap().set_modified(old).unwrap();
        place
    }

    fn path(&self) -> Vec<u8> {
        self.source.as_os_str().as_bytes().to_vec()
    }

    /// Straight into the target, without the path above.
    fn options(&self) -> Options {
        Options { path: Some(self.path()), ..Options::new(self.target.clone()) }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        for path in [self.source.join("a/b"), self.target.join("a/b")] {
            let _ = fs::set_permissions(path, fs::Permissions::from_mode(0o755));
        }
    }
}

/// All entries beneath a directory with what matters of them.
fn inventory(top: &Path) -> Vec<String> {
    let mut lines = Vec::new();
    let mut folders = vec![top.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let stat = fs::symlink_metadata(&path).unwrap();
            let content = if stat.is_symlink() {
                fs::read_link(&path).unwrap().display().to_string()
            } else if stat.is_file() {
                digest(&fs::read(&path).unwrap())
            } else {
                folders.extend(stat.is_dir().then(|| path.clone()));
                String::new()
            };
            let mtime = (stat.mtime(), stat.mtime_nsec());
            let name = path.strip_prefix(top).unwrap().display().to_string();
            let size = if stat.is_dir() { 0 } else { stat.len() };
            lines.push(format!("{name} {:o} {mtime:?} {size} {content} {}", stat.mode(), stat.nlink()));
        }
    }
    lines.sort();
    lines
}

/// Enough to tell contents apart (FNV-1a).
fn digest(bytes: &[u8]) -> String {
    let step = |hash: u64, byte: &u8| (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3);
    format!("{:x}", bytes.iter().fold(0xcbf2_9ce4_8422_2325_u64, step))
}

fn clean(depot: &Depot, snapshot: &Snapshot, options: &Options) -> Outcome {
    let outcome = restore(&depot.context, snapshot, options).unwrap();
    assert_eq!(outcome.problems, []);
    assert!(!outcome.damage);
    outcome
}

#[test]
fn everything_comes_back_as_it_was() {
    let place = Place::new();
    let depot = Depot::new();
    let snapshot = depot.backup(&place.source);
    let outcome = clean(&depot, &snapshot, &Options { verify: true, ..place.options() });
    assert_eq!(inventory(&place.source), inventory(&place.target));
    assert_eq!((outcome.files, outcome.links, outcome.others, outcome.directories), (7, 1, 2, 4));
    assert_eq!((outcome.verified_files, outcome.unchanged), (8, 0));
    let times = |path: &Path| fs::metadata(path).unwrap().modified().unwrap();
    assert_eq!(times(&place.source), times(&place.target), "a target that was made for it is like the original");
    let names = fs::metadata(place.target.join("holes")).unwrap();
    assert!(names.blocks() * 512 < 1 << 20, "holes stay holes");
}

#[test]
fn further_names_of_what_is_no_file_come_back_as_such() {
    use std::os::unix::fs::MetadataExt;
    let place = Place::new();
    assert!(std::process::Command::new("mkfifo").arg(place.source.join("pipe")).status().unwrap().success());
    for (name, other) in [("pipe", "a/pipe too"), ("dangling", "bare/dangling too")] {
        fs::hard_link(place.source.join(name), place.source.join(other)).unwrap();
    }
    let depot = Depot::new();
    let snapshot = depot.backup(&place.source);
    let outcome = clean(&depot, &snapshot, &Options { verify: true, ..place.options() });
    assert_eq!(inventory(&place.source), inventory(&place.target));
    assert_eq!((outcome.links, outcome.others), (3, 3));
    let inode = |name: &str| fs::symlink_metadata(place.target.join(name)).unwrap().ino();
    assert_eq!(inode("pipe"), inode("a/pipe too"));
    assert_eq!(inode("dangling"), inode("bare/dangling too"));
    let again = clean(&depot, &snapshot, &place.options());
    assert_eq!((again.links, again.others), (3, 3), "nor does it harm them that they are there");
    assert_eq!(inode("pipe"), inode("a/pipe too"));
}

#[test]
fn the_whole_path_comes_beneath_the_target() {
    let place = Place::new();
    let depot = Depot::new();
    let snapshot = depot.backup(&place.source);
    clean(&depot, &snapshot, &Options::new(place.target.clone()));
    let beneath = place.target.join(place.source.strip_prefix("/").unwrap());
    assert_eq!(inventory(&place.source), inventory(&beneath));
    fs::set_permissions(beneath.join("a/b"), fs::Permissions::from_mode(0o755)).unwrap();
}

#[test]
fn in_place_only_what_differs_is_written() {
    let place = Place::new();
    let depot = Depot::new();
    let snapshot = depot.backup(&place.source);
    clean(&depot, &snapshot, &place.options());
    let again = clean(&depot, &snapshot, &place.options());
    assert_eq!((again.files, again.bytes_written, again.unchanged), (0, 0, 7));
    let mut large = noise(700_000, 1);
    large[350_000] ^= 1;
    fs::write(place.target.join("a/b/same"), large).unwrap();
    fs::write(place.target.join("a/tiny"), "tinu").unwrap();
    fs::write(place.target.join("holes"), vec![7; 4 << 20]).unwrap();
    let dry = clean(&depot, &snapshot, &Options { dry_run: true, ..place.options() });
    assert_eq!((dry.files, dry.unchanged), (3, 5));
    assert_eq!(fs::read(place.target.join("a/tiny")).unwrap(), b"tinu");
    let repaired = clean(&depot, &snapshot, &Options { verify: true, ..place.options() });
    assert_eq!(repaired.files, 3);
    assert!(repaired.bytes_written < (3 << 20) + 70_000, "{}", repaired.bytes_written);
    assert_eq!(inventory(&place.source), inventory(&place.target));
}

#[test]
fn what_is_there_is_kept_or_replaced_as_asked() {
    let place = Place::new();
    let depot = Depot::new();
    let snapshot = depot.backup(&place.source);
    fs::create_dir_all(place.target.join("a")).unwrap();
    let there = place.target.join("a/tiny");
    fs::write(&there, "mine").unwrap();
    let with = |overwrite| Options { overwrite, ..place.options() };
    let never = clean(&depot, &snapshot, &with(Overwrite::Never));
    assert_eq!((never.skipped, fs::read(&there).unwrap()), (1, b"mine".to_vec()));
    clean(&depot, &snapshot, &with(Overwrite::IfNewer));
    assert_eq!(fs::read(&there).unwrap(), b"mine");
    let changed = clean(&depot, &snapshot, &with(Overwrite::IfChanged));
    assert_eq!(changed.files, 1);
    assert_eq!(fs::read(&there).unwrap(), b"tiny");
}

#[test]
fn only_what_is_asked_for_is_restored() {
    let place = Place::new();
    let depot = Depot::new();
    let snapshot = depot.backup(&place.source);
    let mut options = place.options();
    options.includes.add(b"middle").unwrap();
    options.includes.add(b"tiny").unwrap();
    options.excludes.add(b"tiny").unwrap();
    clean(&depot, &snapshot, &options);
    let found: Vec<String> =
        inventory(&place.target).iter().map(|line| line.split(' ').next().unwrap().to_owned()).collect();
    assert_eq!(found, ["a", "a/b", "a/b/c", "a/b/c/middle"]);
    let one = Options { path: Some([&place.path()[..], b"/a/tiny"].concat()), ..place.options() };
    clean(&depot, &snapshot, &one);
    assert_eq!(fs::read(place.target.join("tiny")).unwrap(), b"tiny");
}

#[test]
fn what_does_not_belong_is_removed_only_on_request_and_only_in_what_was_backed_up() {
    let place = Place::new();
    let depot = Depot::new();
    let snapshot = depot.backup(&place.source);
    let options = Options::new(place.target.clone());
    clean(&depot, &snapshot, &options);
    let beneath = place.target.join(place.source.strip_prefix("/").unwrap());
    fs::write(beneath.join("a/extra"), "x").unwrap();
    fs::create_dir_all(beneath.join("more/deep")).unwrap();
    fs::write(place.target.join("outside"), "x").unwrap();
    let delete = Options { delete: true, ..options };
    let dry = clean(&depot, &snapshot, &Options { dry_run: true, ..delete.clone() });
    assert_eq!((dry.deleted, beneath.join("a/extra").exists()), (2, true));
    assert_eq!(clean(&depot, &snapshot, &delete).deleted, 2);
    assert_eq!(inventory(&place.source), inventory(&beneath));
    assert!(place.target.join("outside").exists());
    fs::set_permissions(beneath.join("a/b"), fs::Permissions::from_mode(0o755)).unwrap();
}

#[test]
fn a_damaged_block_is_named_and_the_rest_restored() {
    let place = Place::new();
    let depot = Depot::new();
    let snapshot = depot.backup(&place.source);
    clean(&depot, &snapshot, &place.options());
    let before = inventory(&place.target).len();
    let pack = data_pack(&depot);
    depot.damage(&pack, |bytes| bytes[5000] ^= 1);
    fs::remove_file(place.target.join("a/large")).unwrap();
    fs::write(place.target.join("z-twin"), "what was there before").unwrap();
    fs::write(place.target.join("extra"), "x").unwrap();
    let outcome = restore(&depot.context, &snapshot, &Options { delete: true, ..place.options() }).unwrap();
    assert!(outcome.damage && outcome.problem_count > 0);
    assert!(outcome.problems.iter().any(|problem| problem.subject.ends_with("a/large")), "{:?}", outcome.problems);
    assert!(outcome.problems.iter().all(|problem| !problem.message.is_empty()));
    assert!(!place.target.join("a/large").exists());
    assert_eq!(fs::read(place.target.join("z-twin")).unwrap(), b"what was there before");
    assert_eq!(fs::read(place.target.join("a/tiny")).unwrap(), b"tiny");
    assert!(place.target.join("extra").exists(), "nothing is removed when something could not be restored");
    assert_eq!(inventory(&place.target).len(), before, "no temporary file is left");
    assert!(outcome.notes.iter().any(|note| note.contains("nothing was removed")));
}

#[test]
fn a_missing_pack_hurts_only_the_files_in_it() {
    let place = Place::new();
    let depot = Depot::new();
    let snapshot = depot.backup(&place.source);
    crate::store::ObjectStore::delete(&*depot.store, &data_pack(&depot)).unwrap();
    let outcome = restore(&depot.context, &snapshot, &place.options()).unwrap();
    assert!(outcome.damage);
    assert_eq!(fs::read(place.target.join("a/tiny")).unwrap(), b"tiny");
    assert!(place.target.join("bare").is_dir());
}

/// The pack that holds chunks: the largest.
fn data_pack(depot: &Depot) -> Key {
    let size = |key: &Key| crate::store::ObjectStore::size(&*depot.store, key).unwrap();
    depot.keys(Area::Packs).into_iter().max_by_key(size).unwrap()
}

#[test]
fn chunks_on_bases_come_back() {
    let place = Place::new();
    let depot = Depot::new();
    let path = place.source.join("a/large");
    for night in 0..5 {
        let mut bytes = fs::read(&path).unwrap();
        (0..20).for_each(|at| bytes[at * 30_000 + night] ^= 0x55);
        fs::remove_file(&path).unwrap();
        fs::write(&path, &bytes).unwrap();
        depot.backup(&place.source);
    }
    let snapshot = depot.backup(&place.source);
    clean(&depot, &snapshot, &Options { verify: true, ..place.options() });
    assert_eq!(inventory(&place.source), inventory(&place.target));
}

#[test]
fn a_repository_that_cannot_be_written_is_restored_all_the_same() {
    let place = Place::new();
    let depot = Depot::new();
    let snapshot = depot.backup(&place.source);
    let context = depot.read_only();
    let outcome = restore(&context, &snapshot, &place.options()).unwrap();
    assert_eq!(outcome.problem_count, 0);
    assert_eq!(inventory(&place.source), inventory(&place.target));
}

#[test]
fn a_restore_that_is_stopped_leaves_no_temporary_files() {
    struct StopAt(Stop);
    impl Monitor for StopAt {
        fn event(&self, event: Event<'_>) {
            if matches!(event, Event::Total { .. } | Event::Phase(_)) {
                self.0.raise();
            }
        }
    }
    let place = Place::new();
    let depot = Depot::new();
    let snapshot = depot.backup(&place.source);
    let stop = Stop::new();
    let context = depot.watched(Arc::new(StopAt(stop.clone())), stop);
    let error = restore(&context, &snapshot, &place.options()).unwrap_err();
    assert_eq!(error.kind(), Kind::Interrupted);
    assert!(inventory(&place.target).iter().all(|line| !line.contains(".keepstone-")));
}
