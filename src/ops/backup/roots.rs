//! What the user named, as one tree from `/` down to each of the sources.

use super::super::{Error, Result};
use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};

/// A directory on the way to the sources, or a source itself.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Way {
    /// The number of the source that lies here; nothing beneath it counts then.
    pub source: Option<usize>,
    /// What lies beneath, by name in byte order.
    pub beneath: BTreeMap<Vec<u8>, Way>,
}

/// The absolute form of a path. Without `..` it stays as it was named, symlinks included; with `..` everything but the
/// last component is resolved, since `a/..` is not always where `a` lies.
pub fn absolute(path: &Path) -> Result<PathBuf> {
    let failed = |source| Error::Io { what: format!("find {}", path.display()), source };
    let plain = std::path::absolute(path).map_err(failed)?;
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
        self.beneath.values().filter(|way| way.source.is_none()).map(|way| 1 + way.above()).sum()
    }
}

/// Joins absolute paths into one tree. A source beneath another one is part of it and left out.
pub fn ways(paths: &[PathBuf]) -> Way {
    let mut top = Way::default();
    for (number, path) in paths.iter().enumerate() {
        let mut at = &mut top;
        for name in names(path) {
            if at.source.is_some() {
                break;
            }
            at = at.beneath.entry(name).or_default();
        }
        if at.source.is_none() {
            at.source = Some(number);
            at.beneath.clear();
        }
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
    fn a_source_beneath_another_is_part_of_it() {
        let paths = ["/a/b/c", "/a/b", "/a/x", "/a/b/d"].map(PathBuf::from);
        let top = ways(&paths);
        let a = &top.beneath[b"a".as_slice()];
        assert_eq!(a.beneath[b"b".as_slice()], Way { source: Some(1), beneath: BTreeMap::new() });
        assert_eq!(a.beneath[b"x".as_slice()].source, Some(2));
    }

    #[test]
    fn directories_on_the_way_are_counted_once() {
        let above = |paths: &[&str]| ways(&paths.iter().map(PathBuf::from).collect::<Vec<_>>()).above();
        assert_eq!(above(&["/a/b/c", "/a/x", "/d"]), 2);
        assert_eq!(above(&["/"]), 0);
    }

    #[test]
    fn the_top_itself_swallows_everything() {
        let top = ways(&["/a", "/"].map(PathBuf::from));
        assert_eq!(top, Way { source: Some(1), beneath: BTreeMap::new() });
    }
}
