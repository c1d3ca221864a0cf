//! Restores into real directories: everything comes back as it was, and nothing outside is touched.
#![allow(clippy::unwrap_used)]

use super::*;
use crate::base::clock::Stopwatch;
use crate::base::xattrs::Subject;
use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt, symlink};
use tempfile::TempDir;

fn target_with(options: Options) -> (TempDir, Target) {
    let folder = tempfile::tempdir().unwrap();
    let target = Target::open(folder.path(), options).unwrap();
    (folder, target)
}

fn target() -> (TempDir, Target) {
    target_with(Options::default())
}

fn overwriting(overwrite: Overwrite) -> Options {
    Options { overwrite, ..Options::default() }
}

/// Metadata of something of ours, with an odd time.
fn meta(kind: EntryKind, mode: u32, size: usize) -> Meta {
    Meta {
        kind,
        mode,
        uid: rustix::process::geteuid().as_raw(),
        gid: rustix::process::getegid().as_raw(),
        mtime_ns: 1_234_567_890_123_456_789,
        ctime_ns: 0,
        size: size as u64,
        inode: 0,
        device: 0,
        links: 1,
        rdev: 0,
        symlink_target: Vec::new(),
        xattrs: Vec::new(),
    }
}

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

fn write(target: &Target, folder: &Folder, name: &[u8], bytes: &[u8]) -> Result<(), Error> {
    let meta = meta(EntryKind::File, 0o640, bytes.len());
    let writer = target.begin_file(folder, name, &meta)?;
    writer.write_at(0, bytes)?;
    writer.finish(&meta)
}

fn link_to(points_to: &[u8]) -> Meta {
    Meta { symlink_target: points_to.to_vec(), ..meta(EntryKind::Symlink, 0o777, 0) }
}

/// What lies in a directory, sorted.
fn names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).unwrap().map(|e| e.unwrap().file_name());
    let mut names: Vec<String> = entries.map(|n| n.to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

fn mtime_ns(path: &Path) -> i64 {
    let stat = fs::symlink_metadata(path).unwrap();
    stat.mtime() * 1_000_000_000 + stat.mtime_nsec()
}

#[test]
fn a_file_has_content_mode_and_time_and_no_temporary_name_is_left() {
    let (folder, target) = target();
    write(&target, target.root(), b"a", b"content").unwrap();
    let path = folder.path().join("a");
    assert_eq!(fs::read(&path).unwrap(), b"content");
    assert_eq!(fs::metadata(&path).unwrap().mode() & 0o7777, 0o640);
    assert_eq!(mtime_ns(&path), 1_234_567_890_123_456_789);
    assert_eq!(names(folder.path()), ["a"]);
}

#[test]
fn modes_with_set_id_and_sticky_bits_and_times_before_1970_come_back() {
    let (folder, target) = target();
    for mode in [0o4755, 0o2711, 0o1777, 0o000, 0o7777, 0o444] {
        let meta = Meta { mtime_ns: -1_500_000_001, ..meta(EntryKind::File, mode, 1) };
        let name = format!("{mode:o}");
        let writer = target.begin_file(target.root(), name.as_bytes(), &meta).unwrap();
        writer.write_at(0, b"x").unwrap();
        writer.finish(&meta).unwrap();
        let path = folder.path().join(name);
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o7777, mode);
        assert_eq!(mtime_ns(&path), -1_500_000_001);
    }
}

#[test]
fn a_file_that_is_given_up_leaves_nothing() {
    let (folder, target) = target();
    let meta = meta(EntryKind::File, 0o600, 5);
    let writer = target.begin_file(target.root(), b"a", &meta).unwrap();
    writer.write_at(0, b"he").unwrap();
    let during = names(folder.path());
    assert!(during.len() == 1 && during[0].starts_with(TEMPORARY_PREFIX));
    drop(writer);
    assert!(names(folder.path()).is_empty());
}

#[test]
fn a_whole_file_has_its_name_at_once_only_where_nobody_else_can_see_it() {
    let (folder, target) = target();
    let fresh = target.make_directory(target.root(), b"fresh").unwrap();
    let meta = meta(EntryKind::File, 0o644, 5);
    let begin = |folder: &Folder| target.begin_whole_file(folder, b"a", &meta).unwrap();
    let (inside, path) = (folder.path().join("fresh"), folder.path().join("fresh/a"));
    assert_eq!(fs::metadata(&inside).unwrap().mode() & 0o777, 0o700);
    drop(begin(&fresh));
    assert!(names(&inside).is_empty(), "given up, it leaves nothing");
    let writer = begin(&fresh);
    assert_eq!(names(&inside), ["a"]);
    writer.write_at(0, b"first").unwrap();
    writer.finish(&meta).unwrap();
    assert_eq!((fs::read(&path).unwrap(), mtime_ns(&path)), (b"first".to_vec(), meta.mtime_ns));
    // The name is taken: what is there stays until the other is complete.
    let writer = begin(&fresh);
    writer.write_at(0, b"other").unwrap();
    assert_eq!(fs::read(&path).unwrap(), b"first");
    writer.finish(&meta).unwrap();
    assert_eq!((fs::read(&path).unwrap(), names(&inside).len()), (b"other".to_vec(), 1));
    let writer = begin(target.root());
    assert!(names(folder.path()).iter().any(|name| name.starts_with(TEMPORARY_PREFIX)));
    drop(writer);
}

#[test]
fn several_threads_write_one_file() {
    let (folder, target) = target();
    let meta = meta(EntryKind::File, 0o600, 64_000);
    let writer = target.begin_file(target.root(), b"a", &meta).unwrap();
    std::thread::scope(|scope| {
        for number in 0..8u8 {
            let writer = &writer;
            scope.spawn(move || writer.write_at(u64::from(number) * 8000, &[number + 1; 8000]).unwrap());
        }
    });
    writer.finish(&meta).unwrap();
    let expected: Vec<u8> = (0..8u8).flat_map(|n| [n + 1; 8000]).collect();
    assert_eq!(fs::read(folder.path().join("a")).unwrap(), expected);
}

#[test]
fn runs_of_zeros_become_holes_and_the_content_is_the_same() {
    let mut bytes = vec![0; 4 << 20];
    bytes[1 << 20] = 1;
    for sparse in [true, false] {
        let (folder, target) = target_with(Options { sparse, ..Options::default() });
        write(&target, target.root(), b"a", &bytes).unwrap();
        let path = folder.path().join("a");
        assert_eq!(fs::read(&path).unwrap(), bytes);
        let allocated = fs::metadata(&path).unwrap().blocks() * 512;
        assert_eq!(allocated < 1 << 20, sparse, "{allocated} bytes allocated");
    }
}

#[test]
fn directories_keep_the_times_and_modes_they_are_finished_with() {
    let (folder, target) = target();
    let outer = target.make_directory(target.root(), b"outer").unwrap();
    let inner = target.make_directory(&outer, b"inner").unwrap();
    write(&target, &inner, b"a", b"x").unwrap();
    target.finish_directory(&inner, &meta(EntryKind::Directory, 0o1750, 0)).unwrap();
    target.finish_directory(&outer, &meta(EntryKind::Directory, 0o500, 0)).unwrap();
    for (path, mode) in [("outer", 0o500), ("outer/inner", 0o1750)] {
        let path = folder.path().join(path);
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o7777, mode);
        assert_eq!(mtime_ns(&path), 1_234_567_890_123_456_789);
    }
    // Once more over it, as somebody whom the mode would keep out.
    let outer = target.make_directory(target.root(), b"outer").unwrap();
    write(&target, &outer, b"b", b"y").unwrap();
    target.finish_directory(&outer, &meta(EntryKind::Directory, 0o700, 0)).unwrap();
    assert_eq!(names(&folder.path().join("outer")), ["b", "inner"]);
}

#[test]
fn symlinks_fifos_sockets_and_hard_links_are_made_and_made_again() {
    let (folder, target) = target();
    let root = target.root();
    for _ in 0..2 {
        write(&target, root, b"file", b"x").unwrap();
        target.make_symlink(root, b"link", &link_to(b"no \xff where")).unwrap();
        target.make_special(root, b"fifo", &meta(EntryKind::Fifo, 0o622, 0)).unwrap();
        target.make_special(root, b"socket", &meta(EntryKind::Socket, 0o755, 0)).unwrap();
        target.hard_link(root, b"file", root, b"other").unwrap();
        target.hard_link(root, b"link", root, b"link2").unwrap();
    }
    let stat = |name: &str| fs::symlink_metadata(folder.path().join(name)).unwrap();
    assert_eq!(fs::read_link(folder.path().join("link")).unwrap().as_os_str(), OsStr::from_bytes(b"no \xff where"));
    assert_eq!(mtime_ns(&folder.path().join("link")), 1_234_567_890_123_456_789);
    assert_eq!(stat("fifo").mode(), 0o010_622);
    assert_eq!(stat("socket").mode(), 0o140_755);
    assert_eq!((stat("file").ino(), stat("file").nlink()), (stat("other").ino(), 2));
    assert_eq!(stat("link").ino(), stat("link2").ino());
    assert_eq!(names(folder.path()), ["fifo", "file", "link", "link2", "other", "socket"]);
}

#[test]
fn root_restores_owners_and_devices_and_others_are_told_that_they_cannot() {
    let (folder, target) = target();
    let foreign = Meta { uid: 12345, gid: 54321, ..meta(EntryKind::File, 0o6755, 0) };
    target.begin_file(target.root(), b"a", &foreign).unwrap().finish(&foreign).unwrap();
    let stat = fs::metadata(folder.path().join("a")).unwrap();
    let device = Meta { rdev: rustix::fs::makedev(1, 3), ..meta(EntryKind::CharDevice, 0o666, 0) };
    let made = target.make_special(target.root(), b"null", &device);
    if is_root() {
        assert_eq!((stat.uid(), stat.gid(), stat.mode() & 0o7777), (12345, 54321, 0o6755));
        let to_nobody = Meta { uid: 12345, gid: 54321, ..link_to(b"x") };
        target.make_symlink(target.root(), b"l", &to_nobody).unwrap();
        assert_eq!(fs::symlink_metadata(folder.path().join("l")).unwrap().uid(), 12345);
        if made.is_ok() {
            assert_eq!(fs::metadata(folder.path().join("null")).unwrap().rdev(), device.rdev);
        }
        assert!(target.notes().is_empty());
    } else {
        assert_eq!(stat.mode() & 0o7777, 0o755);
        assert_eq!(target.notes().len(), 2);
        assert_eq!(made.unwrap_err().kind(), Kind::Target);
    }
}

/// An access list (acl(5)) as the kernel takes it: owner, user 12345, group, mask, others.
fn access_list() -> Vec<u8> {
    const NOBODY: u32 = u32::MAX;
    let mut bytes = 2u32.to_le_bytes().to_vec();
    for (tag, permissions, id) in
        [(1u16, 6u16, NOBODY), (2, 4, 12345), (4, 4, NOBODY), (16, 6, NOBODY), (32, 0, NOBODY)]
    {
        bytes.extend_from_slice(&tag.to_le_bytes());
        bytes.extend_from_slice(&permissions.to_le_bytes());
        bytes.extend_from_slice(&id.to_le_bytes());
    }
    bytes
}

fn xattrs_of(folder: &Folder, name: &CStr) -> Vec<(Vec<u8>, Vec<u8>)> {
    Subject::entry(&folder.descriptor().unwrap(), name).read_all().unwrap()
}

#[test]
fn extended_attributes_and_access_lists_are_set_and_others_removed() {
    let (_folder, target) = target();
    let root = target.root();
    let mut wanted = vec![
        (b"system.posix_acl_access".to_vec(), access_list()),
        (b"user.empty".to_vec(), vec![]),
        (b"user.x".to_vec(), vec![b'v'; 1500]),
    ];
    if is_root() {
        let capability = [1, 0, 0, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
        wanted.insert(0, (b"security.capability".to_vec(), capability.to_vec()));
    }
    let full = Meta { xattrs: wanted.clone(), ..meta(EntryKind::File, 0o660, 0) };
    target.begin_file(root, b"a", &full).unwrap().finish(&full).unwrap();
    if !target.notes().is_empty() {
        return; // A file system without them.
    }
    assert_eq!(xattrs_of(root, c"a"), wanted);
    let plain = meta(EntryKind::File, 0o640, 0);
    target.set_metadata(root, b"a", &plain).unwrap();
    assert_eq!(xattrs_of(root, c"a"), []);
    let stat = Stat::of_entry(&root.descriptor().unwrap(), c"a").unwrap();
    assert_eq!((stat.raw_mode & 0o7777, stat.mtime_ns), (0o640, plain.mtime_ns));
}

#[test]
fn what_is_as_it_should_be_is_not_touched() {
    let (folder, target) = target();
    let root = target.root();
    let xattrs = vec![(b"system.posix_acl_access".to_vec(), access_list()), (b"user.x".to_vec(), b"v".to_vec())];
    let full = Meta { xattrs, ..meta(EntryKind::File, 0o660, 3) };
    let file = target.begin_file(root, b"a", &full).unwrap();
    file.write_at(0, b"one").unwrap();
    file.finish(&full).unwrap();
    let link = link_to(b"a");
    target.make_symlink(root, b"l", &link).unwrap();
    if !target.notes().is_empty() {
        return; // A file system without extended attributes.
    }
    let changed_ns = |name: &CStr| Stat::of_entry(&root.descriptor().unwrap(), name).unwrap().ctime_ns;
    let before = (changed_ns(c"a"), changed_ns(c"l"));
    // Until the clock of the file system has gone on: what is touched from now on shows.
    while before.1 >= {
        fs::write(folder.path().join("clock"), "").unwrap();
        changed_ns(c"clock")
    } {}
    target.set_metadata(root, b"a", &full).unwrap();
    target.set_metadata(root, b"l", &link).unwrap();
    let update = target.update_file(root, b"a", &full).unwrap();
    assert!(update.has_at(0, b"one").unwrap());
    update.finish(&full).unwrap();
    assert_eq!((changed_ns(c"a"), changed_ns(c"l")), before);
}

#[test]
fn a_default_access_list_of_the_target_does_not_get_into_restored_files() {
    let (folder, target) = target();
    let default = c"system.posix_acl_default";
    if Subject::Open(rustix::fd::AsFd::as_fd(&*target.root().descriptor().unwrap()))
        .set(default, &access_list())
        .is_err()
    {
        return;
    }
    let target = Target::open(folder.path(), Options::default()).unwrap();
    let inner = target.make_directory(target.root(), b"d").unwrap();
    write(&target, &inner, b"a", b"x").unwrap();
    assert_eq!(xattrs_of(&inner, c"a"), []);
    assert_eq!(fs::metadata(folder.path().join("d/a")).unwrap().mode() & 0o777, 0o640);
    target.finish_directory(&inner, &meta(EntryKind::Directory, 0o755, 0)).unwrap();
    assert_eq!(xattrs_of(target.root(), c"d"), []);
    assert_eq!(fs::metadata(folder.path().join("d")).unwrap().mode() & 0o777, 0o755);
}

#[test]
fn names_that_lead_elsewhere_are_refused() {
    let (folder, target) = target();
    let root = target.root();
    for name in [&b""[..], b".", b"..", b"a/b", b"/etc", b"a\0b"] {
        assert!(matches!(write(&target, root, name, b"x"), Err(Error::BadName { .. })));
        assert!(target.make_directory(root, name).is_err());
        assert!(target.make_symlink(root, name, &link_to(b"x")).is_err());
        assert!(target.hard_link(root, name, root, b"x").is_err());
        assert!(target.remove(root, name).is_err());
    }
    assert!(names(folder.path()).is_empty());
}

/// A place outside with a file, which must stay as it is.
fn outside() -> TempDir {
    let outside = tempfile::tempdir().unwrap();
    fs::write(outside.path().join("passwd"), b"root").unwrap();
    outside
}

fn assert_untouched(outside: &TempDir) {
    assert_eq!(names(outside.path()), ["passwd"]);
    let path = outside.path().join("passwd");
    assert_eq!(fs::read(&path).unwrap(), b"root");
    assert_ne!(mtime_ns(&path), 1_234_567_890_123_456_789);
    assert_ne!(mtime_ns(outside.path()), 1_234_567_890_123_456_789);
}

#[test]
fn symlinks_of_the_archive_or_of_the_target_lead_nowhere() {
    let outside = outside();
    let (folder, target) = target();
    let root = target.root();
    // The archive says: a is a symlink to a folder outside, and then a directory with a file.
    target.make_symlink(root, b"a", &link_to(outside.path().as_os_str().as_bytes())).unwrap();
    let a = target.make_directory(root, b"a").unwrap();
    write(&target, &a, b"passwd", b"evil").unwrap();
    target.finish_directory(&a, &meta(EntryKind::Directory, 0o700, 0)).unwrap();
    assert!(fs::symlink_metadata(folder.path().join("a")).unwrap().is_dir());
    // A file in whose place there is a symlink to a file outside.
    symlink(outside.path().join("passwd"), folder.path().join("b")).unwrap();
    let file = meta(EntryKind::File, 0o640, 4);
    assert_eq!(target.decide(root, b"b", &file).unwrap(), Decision::Write);
    assert!(target.update_file(root, b"b", &file).is_err());
    write(&target, root, b"b", b"evil").unwrap();
    // Metadata, hard links and removal of what is a symlink.
    symlink(outside.path(), folder.path().join("c")).unwrap();
    let _ = target.set_metadata(root, b"c", &meta(EntryKind::Directory, 0o777, 0));
    target.hard_link(root, b"c", root, b"d").unwrap();
    write(&target, root, b"d", b"evil").unwrap();
    target.remove(root, b"c").unwrap();
    // A directory that becomes a symlink while it is written to.
    let e = target.make_directory(root, b"e").unwrap();
    e.descriptor().unwrap();
    fs::rename(folder.path().join("e"), folder.path().join("moved")).unwrap();
    symlink(outside.path(), folder.path().join("e")).unwrap();
    e.directory.close();
    assert!(write(&target, &e, b"passwd", b"evil").is_err());
    assert_untouched(&outside);
}

#[test]
fn a_file_with_another_name_outside_is_not_changed_in_place() {
    let outside = outside();
    let (folder, target) = target();
    let big = vec![b'r'; 9 << 20];
    fs::write(outside.path().join("passwd"), &big).unwrap();
    fs::hard_link(outside.path().join("passwd"), folder.path().join("a")).unwrap();
    let meta = meta(EntryKind::File, 0o600, big.len());
    let update = target.update_file(target.root(), b"a", &meta).unwrap();
    update.write_at(0, b"evil").unwrap();
    update.finish(&meta).unwrap();
    assert_eq!(fs::read(outside.path().join("passwd")).unwrap(), big);
    assert!(fs::read(folder.path().join("a")).unwrap().starts_with(b"evilrrr"));
}

#[test]
fn what_is_of_another_kind_gives_way_but_content_only_when_deletion_is_allowed() {
    for delete in [false, true] {
        let (folder, target) = target_with(Options { delete, ..Options::default() });
        let root = target.root();
        fs::create_dir(folder.path().join("empty")).unwrap();
        fs::create_dir_all(folder.path().join("full/inner")).unwrap();
        fs::write(folder.path().join("full/inner/x"), b"x").unwrap();
        fs::write(folder.path().join("file"), b"x").unwrap();
        write(&target, root, b"empty", b"now a file").unwrap();
        target.make_directory(root, b"file").unwrap();
        let result = write(&target, root, b"full", b"now a file");
        if delete {
            result.unwrap();
            assert!(folder.path().join("full").is_file());
        } else {
            assert!(matches!(result, Err(Error::InTheWay { .. })));
            assert!(target.make_symlink(root, b"full", &link_to(b"x")).is_err());
            assert!(folder.path().join("full/inner/x").exists());
        }
        assert_eq!(names(folder.path()), ["empty", "file", "full"]);
    }
}

#[test]
fn the_overwrite_mode_decides_about_existing_files() {
    use Decision::*;
    let older = Meta { mtime_ns: 1, ..meta(EntryKind::File, 0o600, 1) };
    let same = meta(EntryKind::File, 0o640, 1);
    let newer = Meta { mtime_ns: i64::MAX, ..same.clone() };
    let cases = [
        (Overwrite::Always, [Update, Update, Update]),
        (Overwrite::IfChanged, [Update, Same, Update]),
        (Overwrite::IfNewer, [Keep, Keep, Update]),
        (Overwrite::Never, [Keep, Keep, Keep]),
    ];
    for (overwrite, expected) in cases {
        let (_folder, target) = target_with(overwriting(overwrite));
        let root = target.root();
        assert_eq!(target.decide(root, b"a", &same).unwrap(), Write);
        write(&target, root, b"a", b"x").unwrap();
        let decided = [&older, &same, &newer].map(|meta| target.decide(root, b"a", meta).unwrap());
        assert_eq!(decided, expected, "{overwrite:?}");
        assert_eq!(target.compare(root, b"a", &same).unwrap(), Comparison::Same);
        assert_eq!(target.compare(root, b"a", &link_to(b"x")).unwrap(), Comparison::OtherKind);
        assert_eq!(target.compare(root, b"none", &same).unwrap(), Comparison::Absent);
    }
}

/// Makes `old` into `new` by writing the blocks of 64 KiB that differ; answers how many those were.
fn update(target: &Target, name: &[u8], new: &[u8]) -> usize {
    const BLOCK: usize = 64 * 1024;
    let meta = meta(EntryKind::File, 0o640, new.len());
    let update = target.update_file(target.root(), name, &meta).unwrap();
    let mut written = 0;
    for (number, block) in new.chunks(BLOCK).enumerate() {
        let offset = (number * BLOCK) as u64;
        if !update.has_at(offset, block).unwrap() {
            update.write_at(offset, block).unwrap();
            written += 1;
        }
    }
    assert_eq!(update.is_changed(), written > 0);
    update.finish(&meta).unwrap();
    written
}

#[test]
fn an_existing_file_becomes_another_by_what_differs_alone() {
    let (folder, target) = target();
    let path = folder.path().join("a");
    // Below and above the size from which files are changed in place.
    for size in [300_000, 9 << 20] {
        let old: Vec<u8> = (0..size).map(|i| (i % 251) as u8).collect();
        let mut changed = old.clone();
        changed[70_000] ^= 1;
        let longer = [&changed[..], b"and more"].concat();
        let shorter = &changed[..size - 100_000];
        let mut zeros = shorter.to_vec();
        zeros[65_536..196_608].fill(0);
        fs::write(&path, &old).unwrap();
        let inode = fs::metadata(&path).unwrap().ino();
        for (new, blocks) in [(&old[..], 0), (&changed, 1), (&longer, 1), (shorter, 0), (&zeros, 2)] {
            assert_eq!(update(&target, b"a", new), blocks);
            assert!(fs::read(&path).unwrap() == new);
            assert_eq!(mtime_ns(&path), 1_234_567_890_123_456_789);
            assert_eq!(fs::metadata(&path).unwrap().mode() & 0o7777, 0o640);
        }
        let is_in_place = fs::metadata(&path).unwrap().ino() == inode;
        assert!(is_in_place || size < IN_PLACE_TEST || target.notes().is_empty());
    }
    assert_eq!(names(folder.path()), ["a"]);
}

/// Whether a large file is changed in place depends on the file system: one that clones never does.
const IN_PLACE_TEST: usize = 8 << 20;

#[test]
fn an_update_that_is_given_up_leaves_the_old_file_or_one_that_does_not_look_finished() {
    let (folder, target) = target();
    for size in [1000, 9 << 20] {
        let path = folder.path().join("a");
        let old = vec![b'o'; size];
        write(&target, target.root(), b"a", &old).unwrap();
        let meta = meta(EntryKind::File, 0o640, size);
        let update = target.update_file(target.root(), b"a", &meta).unwrap();
        update.write_at(10, b"new").unwrap();
        drop(update);
        let is_old = fs::read(&path).unwrap() == old;
        let looks_finished = mtime_ns(&path) == meta.mtime_ns;
        assert!(is_old || !looks_finished, "{size}");
        assert_eq!(names(folder.path()), ["a"]);
    }
}

#[test]
fn what_the_snapshot_does_not_have_is_found_and_removed_beneath_the_root_only() {
    let outside = outside();
    let (folder, target) = target();
    let root = target.root();
    fs::create_dir_all(folder.path().join("old/deep/er")).unwrap();
    fs::write(folder.path().join("old/deep/er/x"), b"x").unwrap();
    symlink(outside.path(), folder.path().join("old/deep/link")).unwrap();
    fs::hard_link(outside.path().join("passwd"), folder.path().join("old/hard")).unwrap();
    fs::write(folder.path().join("kept"), b"x").unwrap();
    let others = target.others(root, |name| name == b"kept").unwrap();
    assert_eq!(others, [b"old".to_vec()]);
    for name in others {
        target.remove(root, &name).unwrap();
    }
    assert_eq!(names(folder.path()), ["kept"]);
    assert_untouched(&outside);
    let looked_at = target.existing_directory(root, b"kept").unwrap();
    assert!(looked_at.is_none() && target.existing_directory(root, b"none").unwrap().is_none());
}

#[test]
fn what_is_mounted_beneath_is_not_removed() {
    let Ok(target) = Target::open(Path::new("/"), Options::default()) else {
        return;
    };
    // On Linux `/proc` is always a file system of its own.
    assert!(target.remove(target.root(), b"proc").is_err());
    assert!(Path::new("/proc/self/status").exists());
}

#[test]
fn names_of_any_bytes_and_paths_beyond_the_limit_of_the_kernel_are_written() {
    let (folder, target) = target();
    let name = [b'd'; 255];
    write(&target, target.root(), b"\xff\xfe\x01\n", b"x").unwrap();
    write(&target, target.root(), &name, b"x").unwrap();
    let long = [b'n'; 256];
    assert!(matches!(write(&target, target.root(), &long, b"x"), Err(Error::Failed { .. })));
    target.remove(target.root(), &name).unwrap();
    let mut folders = vec![target.root().clone()];
    for _ in 0..250 {
        folders.push(target.make_directory(folders.last().unwrap(), &name).unwrap());
    }
    write(&target, folders.last().unwrap(), b"end", b"deep").unwrap();
    for folder in folders.iter().skip(1).rev() {
        target.finish_directory(folder, &meta(EntryKind::Directory, 0o755, 0)).unwrap();
    }
    let end = folders.last().unwrap();
    assert!(end.path().as_os_str().len() > 60_000);
    assert_eq!(target.stat(end, c"end").unwrap().unwrap().size, 4);
    target.remove(target.root(), &name).unwrap();
    assert_eq!(names(folder.path()).len(), 1);
}

#[test]
fn a_full_or_read_only_target_says_so() {
    let source = || io::Error::from(Errno::NOSPC);
    let full = Error::Failed { path: "/t".into(), operation: "write", source: source() };
    assert_eq!(full.kind(), Kind::Full);
    let error = Target::open(Path::new("/proc/keepstone"), Options::default()).err().unwrap();
    assert_eq!(error.kind(), Kind::Target);
    assert!(error.problem().message.contains("/proc/keepstone"));
}

#[test]
fn a_mode_that_is_not_set_stays_closed_while_the_file_is_written() {
    let (folder, target) = target();
    let foreign = Meta { uid: 12345, ..meta(EntryKind::File, 0o666, 1) };
    let writer = target.begin_file(target.root(), b"a", &foreign).unwrap();
    let path = folder.path().join(&names(folder.path())[0]);
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    writer.write_at(0, b"x").unwrap();
    assert_eq!(fs::File::open(&path).unwrap().read_at(&mut [0; 2], 0).unwrap(), 1);
}

/// Prints what small files cost: `cargo test --release --lib -- --ignored --nocapture small_file_rate`.
#[test]
#[ignore = "a measurement"]
#[allow(clippy::print_stderr)]
fn small_file_rate() {
    let (_folder, target) = target();
    for round in 0..3 {
        let watch = Stopwatch::start();
        let top = target.make_directory(target.root(), format!("{round}").as_bytes()).unwrap();
        let mut files = 0;
        for directory in 0..1000 {
            let folder = target.make_directory(&top, format!("{directory}").as_bytes()).unwrap();
            for file in 0..17 {
                write(&target, &folder, format!("file{file}").as_bytes(), &[7; 3000]).unwrap();
                files += 1;
            }
            target.finish_directory(&folder, &meta(EntryKind::Directory, 0o755, 0)).unwrap();
        }
        let seconds = watch.elapsed().as_secs_f64();
        eprintln!("{files} files in {seconds:.3} s: {:.1} us each", seconds * 1e6 / f64::from(files));
    }
}
