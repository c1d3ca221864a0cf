//! What the user named, as one tree from `/` down to each of the sources.

use super::super::{Error, Result};
use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};

/// A directory on the way to the sources, or a source itself.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Way {
    /// The number of the source that lies here.
    pub source: Option<usize>,
    /// What lies beneath, by name in byte order. Beneath a source that is what was named besides: the walk comes by it
    /// anyway, unless it lies on another file system or is left out.
    pub beneath: BTreeMap<Vec<u8>, Way>,
}

/// The absolute form of a path. Without `..` it stays as it was named, symlinks included; with `..` everything but the
/// last component is resolved, since `a/..` is not always where `a` lies.
pub fn absolute(path: &Path) -> Result<PathBuf> {
    let failed = |source| Error::Io { what: format!("find {}", path.display()), source };
    // Without a slash at its end: `/home/` and `/home` are one place, and the next run finds its parent by it.
    let plain: PathBuf = std::path::absolute(path).map_err(failed)?.components().collect();
    if !plain.components().any(|part| part == Component::ParentDir) {
        return Ok(plain);
    }
    match (plain.parent(), plain.file_name()) {
        (Some(parent), Some(name)) => Ok(parent.canonicalize().map_err(failed)?.join(name)),
        _ => plain.canonicalize().map_err(failed),
    }
}

impl Way {
    /// Directories that are only on the way to a source, the top not counted.
    pub fn above(&self) -> u64 {
        self.beneath.values().map(|way| u64::from(way.source.is_none()) + way.above()).sum()
    }
}

/// Joins absolute paths into one tree. What is named twice counts once.
pub fn ways(paths: &[PathBuf]) -> Way {
    let mut top = Way::default();
    for (number, path) in paths.iter().enumerate() {
        let at = names(path).into_iter().fold(&mut top, |at, name| at.beneath.entry(name).or_default());
        at.source.get_or_insert(number);
    }
    top
}

/// The names of a path from the top.
pub fn names(path: &Path) -> Vec<Vec<u8>> {
    path.components()
        .filter_map(|part| match part {
            Component::Normal(name) => Some(name.as_bytes().to_vec()),
            _ => None,
        })
        .collect()
}

/// `path` and one more name.
pub fn join(path: &Path, name: &[u8]) -> PathBuf {
    path.join(OsStr::from_bytes(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_source_beneath_another_lies_beneath_it_whichever_was_named_first() {
        let paths = ["/a/b/c", "/a/b", "/a/x", "/a/b/d/e", "/a/b"].map(PathBuf::from);
        let top = ways(&paths);
        let a = &top.beneath[b"a".as_slice()];
        let b = &a.beneath[b"b".as_slice()];
        assert_eq!((a.source, b.source), (None, Some(1)));
        assert_eq!(b.beneath[b"c".as_slice()].source, Some(0));
        assert_eq!(b.beneath[b"d".as_slice()].source, None);
        assert_eq!(b.beneath[b"d".as_slice()].beneath[b"e".as_slice()].source, Some(3));
        assert_eq!(a.beneath[b"x".as_slice()].source, Some(2));
    }

    #[test]
    fn a_slash_at_the_end_names_no_other_place() {
        for path in ["/a/b", "/a/b/", "/a//b/.", "/a/./b//"] {
            assert_eq!(absolute(Path::new(path)).expect("nothing to resolve").as_os_str(), "/a/b", "{path}");
        }
        assert_eq!(absolute(Path::new("/")).expect("nothing to resolve").as_os_str(), "/");
    }

    #[test]
    fn directories_on_the_way_are_counted_once() {
        let above = |paths: &[&str]| ways(&paths.iter().map(PathBuf::from).collect::<Vec<_>>()).above();
        assert_eq!(above(&["/a/b/c", "/a/x", "/d"]), 2);
        assert_eq!(above(&["/"]), 0);
    }

    #[test]
    fn the_top_itself_is_a_source_like_others() {
        let top = ways(&["/a", "/"].map(PathBuf::from));
        assert_eq!((top.source, top.beneath[b"a".as_slice()].source), (Some(1), Some(0)));
    }
}
