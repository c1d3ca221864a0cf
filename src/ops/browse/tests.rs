//! Stories of looking into snapshots.
#![allow(clippy::unwrap_used)]

use super::*;
use crate::ops::tests::{Depot, noise};
use crate::store::ObjectStore;
use std::fs;
use std::io::Read;
use std::path::PathBuf;

/// A folder with a bit of everything, and the bytes of its path.
fn folder() -> (tempfile::TempDir, PathBuf, Vec<u8>) {
    let holder = tempfile::tempdir().unwrap();
    let top = holder.path().canonicalize().unwrap().join("top");
    fs::create_dir_all(top.join("a/b")).unwrap();
    fs::write(top.join("a/b/deep.txt"), "deep").unwrap();
    fs::write(top.join("a/large.bin"), noise(300_000, 1)).unwrap();
    fs::write(top.join("empty"), "").unwrap();
    std::os::unix::fs::symlink("a/large.bin", top.join("link")).unwrap();
    let path = top.as_os_str().as_bytes().to_vec();
    (holder, top, path)
}

fn join(path: &[u8], rest: &str) -> Vec<u8> {
    [path, rest.as_bytes()].concat()
}

fn listed(depot: &Depot, snapshot: &Snapshot, path: &[u8], recursive: bool) -> Vec<String> {
    let mut names = Vec::new();
    let problems = ls(&depot.context, snapshot, path, recursive, &mut |entry| {
        names.push(show(&entry.path[path.len()..]));
        Ok(())
    });
    assert!(problems.unwrap().is_empty());
    names
}

#[test]
fn a_directory_is_listed_in_order_and_if_wanted_with_all_beneath() {
    let (_holder, top, path) = folder();
    let depot = Depot::new();
    let snapshot = depot.backup(&top);
    assert_eq!(listed(&depot, &snapshot, &path, false), ["/a", "/empty", "/link"]);
    assert_eq!(
        listed(&depot, &snapshot, &path, true),
        ["/a", "/a/b", "/a/b/deep.txt", "/a/large.bin", "/empty", "/link"]
    );
    assert_eq!(resolve(&depot.context, &snapshot, &join(&path, "/a/b/deep.txt")).unwrap().inline.0, b"deep");
    let missing = resolve(&depot.context, &snapshot, b"/nothing/here").unwrap_err();
    assert!(matches!(&missing, Error::NotFound(text) if text.contains("/nothing/here")), "{missing}");
}

#[test]
fn entries_are_found_by_name_path_kind_and_size() {
    let (_holder, top, path) = folder();
    let depot = Depot::new();
    let snapshot = depot.backup(&top);
    let found = |wanted: &Find| {
        let mut names = Vec::new();
        find(&depot.context, &snapshot, b"/", wanted, &mut |entry| {
            names.push(show(&entry.path[path.len()..]));
            Ok(())
        })
        .unwrap();
        names
    };
    let with = |patterns: &[&str]| {
        let mut find = Find::default();
        patterns.iter().for_each(|pattern| find.add(pattern.as_bytes(), false).unwrap());
        find
    };
    assert_eq!(found(&with(&["*.txt"])), ["/a/b/deep.txt"]);
    assert_eq!(found(&with(&["b"])), ["/a/b"]);
    assert_eq!(found(&with(&["top/a"])), ["/a"]);
    assert_eq!(found(&with(&["top/*"])), ["/a", "/empty", "/link"]);
    assert_eq!(found(&Find { kinds: vec![NodeKind::Symlink], ..Find::default() }), ["/link"]);
    assert_eq!(found(&Find { larger: Some(10), ..Find::default() }), ["/a/large.bin"]);
    assert_eq!(found(&Find { newer_ns: Some(i64::MAX), ..Find::default() }), [""; 0]);
}

#[test]
fn a_comparison_names_what_changed_and_how() {
    let (_holder, top, path) = folder();
    let depot = Depot::new();
    let before = depot.backup(&top);
    fs::write(top.join("a/large.bin"), noise(300_000, 2)).unwrap();
    fs::remove_file(top.join("empty")).unwrap();
    fs::create_dir(top.join("empty")).unwrap();
    fs::write(top.join("empty/x"), "x").unwrap();
    fs::remove_file(top.join("link")).unwrap();
    let mut permissions = fs::metadata(top.join("a/b/deep.txt")).unwrap().permissions();
    std::os::unix::fs::PermissionsExt::set_mode(&mut permissions, 0o600);
    fs::set_permissions(top.join("a/b/deep.txt"), permissions).unwrap();
    fs::create_dir(top.join("new")).unwrap();
    fs::write(top.join("new/y"), "yy").unwrap();
    let after = depot.backup(&top);
    let mut lines = Vec::new();
    let totals = diff(&depot.context, (&before, &path), (&after, &path), &mut |difference| {
        if difference.after.is_none_or(|node| node.kind != NodeKind::Directory) || difference.change != Change::Metadata
        {
            lines.push(format!("{}{}", difference.change.letter(), show(&difference.path[path.len()..])));
        }
        Ok(())
    })
    .unwrap();
    assert_eq!(lines, ["U/a/b/deep.txt", "M/a/large.bin", "T/empty", "+/empty/x", "-/link", "+/new", "+/new/y"]);
    assert_eq!((totals.files_added, totals.files_changed, totals.others_added), (2, 1, 1));
    let same = diff(&depot.context, (&after, b"/"), (&after, b"/"), &mut |_| panic!("nothing differs")).unwrap();
    assert_eq!(same, DiffTotals::default());
}

#[test]
fn a_file_is_dumped_byte_for_byte_and_a_directory_as_an_archive() {
    let (_holder, top, path) = folder();
    let long = "x".repeat(200);
    fs::write(top.join("a").join(&long), "long").unwrap();
    fs::hard_link(top.join("a/large.bin"), top.join("z-twin")).unwrap();
    let depot = Depot::new();
    let snapshot = depot.backup(&top);
    let mut out = Vec::new();
    dump(&depot.context, &snapshot, &join(&path, "/a/large.bin"), Archive::Tar, &mut out).unwrap();
    assert_eq!(out, noise(300_000, 1));
    let mut out = Vec::new();
    let dumped = dump(&depot.context, &snapshot, &path, Archive::Tar, &mut out).unwrap();
    assert_eq!(dumped.entries, 9);
    let unpacked = tempfile::tempdir().unwrap();
    tar::Archive::new(out.as_slice()).unpack(unpacked.path()).unwrap();
    assert_eq!(fs::read(unpacked.path().join("top/a/large.bin")).unwrap(), noise(300_000, 1));
    assert_eq!(fs::read(unpacked.path().join("top/z-twin")).unwrap(), noise(300_000, 1));
    assert_eq!(fs::read(unpacked.path().join("top/a").join(long)).unwrap(), b"long");
    let mut out = Vec::new();
    dump(&depot.context, &snapshot, &path, Archive::Zip, &mut out).unwrap();
    let mut zip = zip::ZipArchive::new(std::io::Cursor::new(out)).unwrap();
    let mut deep = String::new();
    zip.by_name("top/a/b/deep.txt").unwrap().read_to_string(&mut deep).unwrap();
    assert_eq!(deep, "deep");
}

#[test]
fn names_that_are_not_utf8_stay_different_in_a_zip_and_are_told() {
    use std::os::unix::ffi::OsStrExt;
    let (_holder, top, path) = folder();
    for name in [b"odd\xff", b"odd\xfe"] {
        fs::write(top.join(std::ffi::OsStr::from_bytes(name)), &name[3..]).unwrap();
    }
    let depot = Depot::new();
    let snapshot = depot.backup(&top);
    let mut out = Vec::new();
    let dumped = dump(&depot.context, &snapshot, &path, Archive::Zip, &mut out).unwrap();
    assert_eq!(dumped.renamed, 2);
    let mut zip = zip::ZipArchive::new(std::io::Cursor::new(out)).unwrap();
    for (name, byte) in [("top/odd\\xff", 0xff), ("top/odd\\xfe", 0xfe)] {
        let mut content = Vec::new();
        zip.by_name(name).unwrap().read_to_end(&mut content).unwrap();
        assert_eq!(content, [byte]);
    }
}

/// Takes so many bytes and no more.
struct Narrow(usize);

impl std::io::Write for Narrow {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0 = self.0.checked_sub(bytes.len()).ok_or(std::io::ErrorKind::StorageFull)?;
        Ok(bytes.len())
    }
    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[test]
fn a_dump_ends_where_something_cannot_be_read_or_written() {
    let (_holder, top, path) = folder();
    fs::write(top.join("z-large.bin"), noise(900_000, 9)).unwrap();
    let depot = Depot::new();
    let snapshot = depot.backup(&top);
    let mut all = Vec::new();
    dump(&depot.context, &snapshot, &path, Archive::Tar, &mut all).unwrap();
    for room in [0, 1000, 400_000, all.len() - 1] {
        let error = dump(&depot.context, &snapshot, &path, Archive::Tar, &mut Narrow(room)).unwrap_err();
        assert!(error.to_string().contains("to the output"), "{room}: {error}");
    }
    let mut packs = depot.keys(crate::store::Area::Packs);
    packs.sort_by_key(|key| depot.store.size(key).unwrap());
    depot.damage(&packs.pop().unwrap(), |bytes| {
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
    });
    let mut out = Vec::new();
    let error = dump(&depot.context, &snapshot, &path, Archive::Tar, &mut out).unwrap_err();
    assert_eq!(error.kind(), Kind::Damaged, "{error}");
    assert!(all.starts_with(&out) && out.len() < all.len() - 1024, "what was written is the beginning of the whole");
}

#[test]
fn objects_are_shown_and_counted() {
    let (_holder, top, _) = folder();
    let depot = Depot::new();
    let snapshot = depot.backup(&top);
    let again = depot.backup(&top);
    let Cat::Value(config) = cat(&depot.context, "config", "").unwrap() else { panic!("a structure") };
    assert_eq!(config["repository"], depot.context.repository.id().to_string());
    assert!(matches!(cat(&depot.context, "snapshot", "latest").unwrap(), Cat::Value(v) if v["host"] == again.host));
    assert!(matches!(cat(&depot.context, "tree", &snapshot.root.to_string()).unwrap(), Cat::Value(_)));
    for key in depot.keys(crate::store::Area::Packs) {
        assert!(matches!(cat(&depot.context, "pack", key.name()).unwrap(), Cat::Value(v) if v["blobs"].is_array()));
    }
    assert_eq!(cat(&depot.context, "thing", "").unwrap_err().kind(), Kind::Usage);
    let stats = stats(&depot.context, &[snapshot, again]).unwrap();
    assert_eq!((stats.snapshots, stats.files, stats.unique_bytes), (2, 6, 300_004));
    let packs = repository_stats(&depot.context).unwrap();
    assert!(packs.iter().any(|area| area.area == crate::store::Area::Packs && area.bytes > 300_000));
}
