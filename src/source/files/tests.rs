//! Walks over real trees: order, kinds, limits, and things that change under the walker.
#![allow(clippy::unwrap_used)]

use super::*;
use crate::base::Stop;
use crate::base::clock::Stopwatch;
use crate::format::meta::EntryKind;
use std::ffi::{CString, OsStr};
use std::fs;
use std::io::Read;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::Path;
use tempfile::TempDir;

fn start(root: &Path, options: ScanOptions) -> (Scan, Entry) {
    let mut scan = Scan::start(&[root.to_owned()], options, Stop::new()).unwrap();
    let root = scan.take_roots().remove(0).unwrap();
    (scan, root)
}

/// Walks depth-first with a stack of its own, as deep paths demand, and calls `each` before entering.
fn walk(scan: &Scan, root: &Entry, each: &mut dyn FnMut(Result<&Entry, &Error>)) {
    let mut stack = Vec::new();
    match scan.list(root) {
        Ok(listing) => stack.push(listing),
        Err(error) => each(Err(&error)),
    }
    while let Some(listing) = stack.last_mut() {
        match listing.next() {
            None => {
                stack.pop();
            }
            Some(Err(error)) => each(Err(&error)),
            Some(Ok(entry)) => {
                each(Ok(&entry));
                if entry.is_directory() {
                    match scan.list(&entry) {
                        Ok(listing) => stack.push(listing),
                        Err(error) => each(Err(&error)),
                    }
                }
            }
        }
    }
}

/// Paths relative to the root in the order of the walk, and errors.
fn paths(root: &Path, options: ScanOptions) -> (Vec<String>, Vec<Error>) {
    let mut found = (Vec::new(), Vec::new());
    let (scan, entry) = start(root, options);
    walk(&scan, &entry, &mut |entry| match entry {
        Ok(entry) => {
            let path = entry.path();
            let relative = path.strip_prefix(root).unwrap();
            found.0.push(relative.to_string_lossy().into_owned());
        }
        Err(error) => found.1.push(Error::new(PathBuf::new(), "walk", io::Error::other(error.to_string()))),
    });
    found
}

fn tree(files: &[&str]) -> TempDir {
    let root = tempfile::tempdir().unwrap();
    for file in files {
        let path = root.path().join(file);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, file).unwrap();
    }
    root
}

fn excluding(patterns: &[&str]) -> ScanOptions {
    let mut options = ScanOptions::default();
    for pattern in patterns {
        options.excludes.add(pattern.as_bytes()).unwrap();
    }
    options
}

#[test]
fn a_walk_is_depth_first_in_byte_order_with_any_number_of_scanners() {
    let root = tree(&["b/x", "b-/y", "b/c/d/e", "a", "Z", "b/c.", "c/1", "c/2/3"]);
    let expected = ["Z", "a", "b", "b/c", "b/c/d", "b/c/d/e", "b/c.", "b/x", "b-", "b-/y", "c", "c/1", "c/2", "c/2/3"];
    for threads in 0..4 {
        let options = ScanOptions { threads, ..ScanOptions::default() };
        assert_eq!(paths(root.path(), options).0, expected, "{threads} threads");
    }
}

#[test]
fn the_smallest_look_ahead_does_not_stop_the_walk() {
    let files: Vec<String> = (0..300).map(|i| format!("{}/{}/{i}", i % 7, i % 13)).collect();
    let files: Vec<&str> = files.iter().map(String::as_str).collect();
    let root = tree(&files);
    let whole = paths(root.path(), ScanOptions::default()).0;
    let options = ScanOptions { look_ahead_bytes: 1, ..ScanOptions::default() };
    assert_eq!(paths(root.path(), options).0, whole);
    assert_eq!(whole.len(), 300 + 7 + 91);
}

#[test]
fn skipped_directories_give_back_what_was_prepared_for_them() {
    let files: Vec<String> = (0..400).map(|i| format!("{:02}/{}/f", i % 20, i)).collect();
    let files: Vec<&str> = files.iter().map(String::as_str).collect();
    let root = tree(&files);
    for round in 0..20 {
        let (scan, entry) = start(root.path(), ScanOptions::default());
        let listing = scan.list(&entry).unwrap();
        for (i, entry) in listing.enumerate() {
            if (i + round) % 3 == 0 {
                let mut inside = scan.list(&entry.unwrap()).unwrap();
                assert!(inside.next().unwrap().unwrap().is_directory());
            }
        }
    }
}

#[test]
fn every_kind_of_entry_is_told_with_its_stat_and_details() {
    let root = tree(&["file"]);
    let path = root.path();
    symlink(OsStr::from_bytes(b"to \xff nowhere"), path.join("link")).unwrap();
    rustix::fs::mknodat(
        rustix::fs::CWD,
        path.join("fifo"),
        rustix::fs::FileType::Fifo,
        rustix::fs::Mode::from_raw_mode(0o640),
        0,
    )
    .unwrap();
    let _socket = std::os::unix::net::UnixListener::bind(path.join("socket")).unwrap();
    fs::set_permissions(path.join("file"), fs::Permissions::from_mode(0o4751)).unwrap();
    let (scan, root) = start(path, ScanOptions::default());
    let entries: Vec<Entry> = scan.list(&root).unwrap().map(|e| e.unwrap()).collect();
    let kinds: Vec<EntryKind> = entries.iter().map(|e| e.meta.kind).collect();
    use EntryKind::*;
    assert_eq!(kinds, [Fifo, File, Symlink, Socket]);
    let stat = fs::metadata(path.join("file")).unwrap();
    let meta = &entries[1].meta;
    assert_eq!((meta.mode, meta.size), (0o4751, 4));
    assert_eq!((meta.inode, meta.links), (stat.ino(), 1));
    assert_eq!(meta.mtime_ns, stat.mtime() * 1_000_000_000 + stat.mtime_nsec());
    let details = entries[2].read_details().unwrap();
    assert_eq!(details.symlink_target, b"to \xff nowhere");
    assert_eq!(entries[3].read_details().unwrap(), Details::default());
}

#[test]
fn names_of_any_bytes_and_of_255_bytes_are_kept() {
    let root = tempfile::tempdir().unwrap();
    let names = [b"\x01\xff\xfe".to_vec(), vec![b'n'; 255], "ü\n".into()];
    for name in &names {
        fs::write(root.path().join(OsStr::from_bytes(name)), name).unwrap();
    }
    let (scan, root) = start(root.path(), ScanOptions::default());
    let found: Vec<Vec<u8>> = scan
        .list(&root)
        .unwrap()
        .map(|entry| {
            let entry = entry.unwrap();
            let mut content = Vec::new();
            entry.open().unwrap().file.read_to_end(&mut content).unwrap();
            assert_eq!(content, entry.name());
            content
        })
        .collect();
    assert_eq!(found, names);
}

#[test]
fn paths_far_beyond_the_limit_of_the_kernel_are_walked_and_read() {
    let root = tempfile::tempdir().unwrap();
    let name = CString::new("d".repeat(100)).unwrap();
    let depth = 260;
    let mut directory =
        rustix::fs::openat(rustix::fs::CWD, root.path(), rustix::fs::OFlags::DIRECTORY, rustix::fs::Mode::empty())
            .unwrap();
    for _ in 0..depth {
        let mode = rustix::fs::Mode::RWXU;
        rustix::fs::mkdirat(&directory, &name, mode).unwrap();
        let flags = rustix::fs::OFlags::DIRECTORY;
        directory = rustix::fs::openat(&directory, &name, flags, mode).unwrap();
    }
    let flags = rustix::fs::OFlags::CREATE | rustix::fs::OFlags::WRONLY;
    let file = rustix::fs::openat(&directory, "end", flags, rustix::fs::Mode::RWXU).unwrap();
    rustix::io::write(&file, b"deep").unwrap();
    let (scan, entry) = start(root.path(), ScanOptions::default());
    let mut seen = 0;
    walk(&scan, &entry, &mut |entry| {
        let entry = entry.unwrap();
        seen += 1;
        if !entry.is_directory() {
            assert!(entry.path().as_os_str().len() > 26_000);
            let mut content = String::new();
            entry.open().unwrap().file.read_to_string(&mut content).unwrap();
            assert_eq!(content, "deep");
            assert_eq!(entry.read_details().unwrap(), Details::default());
        }
    });
    assert_eq!(seen, depth + 1);
}

#[test]
fn a_directory_of_twenty_thousand_entries_comes_in_order() {
    let root = tempfile::tempdir().unwrap();
    for i in 0..20_000 {
        fs::write(root.path().join(format!("f{i}")), b"").unwrap();
    }
    fs::create_dir(root.path().join("f19999x")).unwrap();
    fs::write(root.path().join("f19999x/inside"), b"").unwrap();
    let found = paths(root.path(), ScanOptions::default()).0;
    assert_eq!(found.len(), 20_002);
    assert!(found.is_sorted());
}

#[test]
fn what_vanishes_between_listing_and_reading_is_told_apart() {
    let root = tree(&["a", "b/c", "d", "e"]);
    let options = ScanOptions { threads: 0, ..ScanOptions::default() };
    let (scan, entry) = start(root.path(), options);
    let entries: Vec<Entry> = scan.list(&entry).unwrap().map(|e| e.unwrap()).collect();
    fs::remove_file(root.path().join("a")).unwrap();
    fs::remove_dir_all(root.path().join("b")).unwrap();
    fs::remove_file(root.path().join("d")).unwrap();
    fs::create_dir(root.path().join("d")).unwrap();
    let error = entries[0].open().err().unwrap();
    assert!(error.is_vanished() && error.kind() == Kind::Source);
    assert!(error.problem().subject.ends_with("/a"));
    assert!(scan.list(&entries[1]).err().unwrap().is_vanished());
    assert!(matches!(entries[2].open(), Err(Error::Replaced { .. })));
    fs::write(root.path().join("new"), b"newer").unwrap();
    fs::rename(root.path().join("new"), root.path().join("e")).unwrap();
    assert_eq!(entries[3].open().unwrap().meta_now.size, 5);
}

#[test]
fn a_symlink_swapped_in_during_the_walk_is_not_followed() {
    let secret = tree(&["passwd", "folder/passwd"]);
    let root = tree(&["passwd", "folder/passwd"]);
    let options = ScanOptions { threads: 0, ..ScanOptions::default() };
    let (scan, entry) = start(root.path(), options);
    let entries: Vec<Entry> = scan.list(&entry).unwrap().map(|e| e.unwrap()).collect();
    let folder = scan.list(&entries[0]).unwrap();
    let inner: Vec<Entry> = folder.map(|e| e.unwrap()).collect();
    fs::rename(root.path().join("folder"), root.path().join("old")).unwrap();
    symlink(secret.path().join("folder"), root.path().join("folder")).unwrap();
    fs::remove_file(root.path().join("passwd")).unwrap();
    symlink(secret.path().join("passwd"), root.path().join("passwd")).unwrap();
    assert!(matches!(entries[1].open(), Err(Error::Replaced { .. })));
    assert!(scan.list(&entries[0]).is_err());
    inner[0].directory().close();
    assert!(matches!(inner[0].open(), Err(Error::Replaced { .. })));
}

#[test]
fn a_fifo_swapped_in_does_not_block() {
    let root = tree(&["a"]);
    let (scan, entry) = start(root.path(), ScanOptions::default());
    let file = scan.list(&entry).unwrap().next().unwrap().unwrap();
    fs::remove_file(root.path().join("a")).unwrap();
    let mode = rustix::fs::Mode::RWXU;
    let fifo = rustix::fs::FileType::Fifo;
    rustix::fs::mknodat(rustix::fs::CWD, root.path().join("a"), fifo, mode, 0).unwrap();
    assert!(matches!(file.open(), Err(Error::Replaced { .. })));
}

#[test]
fn an_unreadable_directory_is_one_error_and_the_rest_is_read() {
    let root = tree(&["a/x", "b/y", "c"]);
    let closed = fs::Permissions::from_mode(0o000);
    fs::set_permissions(root.path().join("a"), closed.clone()).unwrap();
    fs::set_permissions(root.path().join("c"), closed).unwrap();
    if rustix::process::geteuid().is_root() {
        // Root reads everything; what remains to be seen is that the walk is whole.
        assert_eq!(paths(root.path(), ScanOptions::default()).0.len(), 5);
        return;
    }
    let (found, errors) = paths(root.path(), ScanOptions::default());
    assert_eq!(found, ["a", "b", "b/y", "c"]);
    assert_eq!(errors.len(), 1);
    fs::set_permissions(root.path().join("a"), fs::Permissions::from_mode(0o700)).unwrap();
}

#[test]
fn a_root_may_be_a_file_a_symlink_or_the_working_directory() {
    let root = tree(&["a"]);
    symlink("a", root.path().join("l")).unwrap();
    let kind = |path: &Path| start(path, ScanOptions::default()).1.meta.kind;
    assert_eq!(kind(&root.path().join("a")), EntryKind::File);
    assert_eq!(kind(&root.path().join("l")), EntryKind::Symlink);
    assert_eq!(kind(Path::new("/")), EntryKind::Directory);
    assert_eq!(kind(Path::new(".")), EntryKind::Directory);
    let (scan, top) = start(Path::new("/"), ScanOptions::default());
    let first = scan.list(&top).unwrap().next().unwrap().unwrap();
    assert_eq!(first.path().parent(), Some(Path::new("/")));
}

#[test]
fn a_root_that_is_not_there_is_an_error_of_its_own() {
    let root = tree(&["a"]);
    let roots = [root.path().join("missing"), root.path().join("a")];
    let mut scan = Scan::start(&roots, ScanOptions::default(), Stop::new()).unwrap();
    let roots = scan.take_roots();
    let error = roots[0].as_ref().err().unwrap();
    assert!(!error.is_vanished() && error.to_string().contains("missing"));
    assert!(roots[1].is_ok());
}

#[test]
fn excluded_entries_are_not_listed_and_not_entered() {
    let root = tree(&["a.o", "a.c", "target/x", "src/b.o", "src/keep/b.c", "src/lib/c.c"]);
    let inside = root.path().join("src/lib");
    let options = excluding(&["*.o", "target", inside.to_str().unwrap()]);
    let expected = ["a.c", "src", "src/keep", "src/keep/b.c"];
    assert_eq!(paths(root.path(), options).0, expected);
}

#[test]
fn a_root_of_which_the_patterns_leave_nothing_says_so() {
    let root = tree(&["a"]);
    let all_beneath = format!("{}/**", root.path().display());
    for pattern in ["**", "*", &all_beneath] {
        let mut scan = Scan::start(&[root.path().to_owned()], excluding(&[pattern]), Stop::new()).unwrap();
        assert!(matches!(scan.take_roots().remove(0), Err(Error::Excluded { .. })), "{pattern}");
    }
}

#[test]
fn a_root_is_taken_whatever_matches_it_and_patterns_choose_beneath_it() {
    let root = tree(&["s/.git/config", "s/.git/.hidden", "s/.git/refs/.git/x", "s/.git/refs/main", "s/lib/a.o"]);
    let git = root.path().join("s/.git");
    let above = format!("{}/*", root.path().join("s").display());
    let itself = git.display().to_string();
    for patterns in [&[".*"][..], &[".git", ".hidden"], &[&*above, ".*"], &[&*itself, ".*"], &["/", ".*"]] {
        assert_eq!(paths(&git, excluding(patterns)).0, ["config", "refs", "refs/main"], "{patterns:?}");
    }
    assert_eq!(paths(&git, excluding(&["s"])).0.len(), 6, "what it lies in is not what was found");
}

#[test]
fn cache_directories_and_marked_ones_keep_only_their_marker() {
    let root = tree(&["cache/x", "fake/x", "fake/CACHEDIR.TAG", "marked/.nobackup", "marked/x"]);
    let tag = [CACHEDIR_TAG_SIGNATURE, b"\n# by a test"].concat();
    fs::write(root.path().join("cache/CACHEDIR.TAG"), tag).unwrap();
    let options = ScanOptions {
        exclude_caches: true,
        exclude_if_present: vec![Marker::parse(b".nobackup"), Marker::parse(b"x:no such header")],
        ..ScanOptions::default()
    };
    let expected = ["cache", "cache/CACHEDIR.TAG", "fake", "fake/CACHEDIR.TAG", "fake/x", "marked", "marked/.nobackup"];
    assert_eq!(paths(root.path(), options).0, expected);
}

#[test]
fn large_files_are_left_out_when_asked() {
    let root = tree(&["dir/small"]);
    fs::write(root.path().join("large"), vec![0; 5000]).unwrap();
    let options = ScanOptions { exclude_larger_than: Some(4999), ..ScanOptions::default() };
    assert_eq!(paths(root.path(), options).0, ["dir", "dir/small"]);
}

#[test]
fn another_file_system_is_an_empty_directory_when_staying_on_one() {
    // On Linux `/proc` is always a file system of its own.
    let options = ScanOptions { one_file_system: true, threads: 1, look_ahead_bytes: 1, ..ScanOptions::default() };
    let (scan, root) = start(Path::new("/"), options);
    let mut listing = scan.list(&root).unwrap();
    let proc = listing.find(|e| e.as_ref().is_ok_and(|e| e.name() == b"proc"));
    assert!(scan.list(&proc.unwrap().unwrap()).unwrap().is_empty());
}

#[test]
fn holes_are_found_and_changes_while_reading_are_seen() {
    let root = tempfile::tempdir().unwrap();
    let path = root.path().join("sparse");
    let file = fs::File::create(&path).unwrap();
    file.set_len(8 * 1024 * 1024).unwrap();
    std::os::unix::fs::FileExt::write_at(&file, b"data", 4 * 1024 * 1024).unwrap();
    let (scan, entry) = start(root.path(), ScanOptions::default());
    let entry = scan.list(&entry).unwrap().next().unwrap().unwrap();
    let open = entry.open().unwrap();
    let ranges: Vec<_> = data_ranges(&open.file, open.meta_now.size).map(|range| range.unwrap()).collect();
    if open.is_sparse {
        assert!(ranges.iter().any(|r| r.contains(&(4 * 1024 * 1024))));
        assert!(ranges.iter().map(|r| r.end - r.start).sum::<u64>() < 1024 * 1024);
    }
    file.set_len(1).unwrap();
    assert!(changed_while_read(&open.meta_now, &open.stat(&entry).unwrap()));
}

#[test]
fn a_raised_stop_ends_the_scanners_and_the_consumer_may_still_finish() {
    let root = tree(&["a/b/c", "d/e"]);
    let stop = Stop::new();
    let mut scan = Scan::start(&[root.path().to_owned()], ScanOptions::default(), stop.clone()).unwrap();
    stop.raise();
    let root = scan.take_roots().remove(0).unwrap();
    let mut count = 0;
    walk(&scan, &root, &mut |_| count += 1);
    assert_eq!(count, 5);
}

/// Prints the rate of a warm scan: `cargo test --release --lib -- --ignored --nocapture scan_rate`.
#[test]
#[ignore = "a measurement"]
#[allow(clippy::print_stderr)]
fn scan_rate() {
    for threads in [0, 1, 2, 2, 3] {
        let watch = Stopwatch::start();
        let options = ScanOptions { threads, ..ScanOptions::default() };
        let (scan, root) = start(Path::new("/usr"), options);
        let (mut entries, mut directories) = (0u64, 0u64);
        walk(&scan, &root, &mut |entry| {
            entries += 1;
            directories += u64::from(entry.is_ok_and(|e| e.is_directory()));
        });
        let seconds = watch.elapsed().as_secs_f64();
        eprintln!(
            "{threads} scanners: {entries} entries, {directories} directories in {seconds:.3} s, {:.0}/s",
            entries as f64 / seconds
        );
    }
}
