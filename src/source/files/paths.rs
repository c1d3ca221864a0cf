//! Lists of paths, as given to `--files-from` and `--files-from-raw`.

use super::filter::{Component, lines_without_comments};
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// A list of paths that is not in the form it should have.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadPathList {
    /// Bytes after the last zero byte: the list was cut off or is separated by something else.
    #[error("the list of paths does not end in a zero byte: is it separated by newlines?")]
    Unterminated,
    /// Two zero bytes in a row.
    #[error("path {number} of the list is empty")]
    Empty {
        /// Which one, counted from 1.
        number: usize,
    },
}

impl BadPathList {
    /// Always a mistake in the request.
    pub fn kind(&self) -> crate::base::Kind {
        crate::base::Kind::Usage
    }
}

/// One path a line; white space around it, blank lines and lines that begin with `#` are left out. A line with
/// wildcards stands for all that they match.
pub fn paths_from_lines(text: &[u8]) -> Vec<PathBuf> {
    lines_without_comments(text).flat_map(paths_of_line).collect()
}

/// What one line names. If there is something whose name has such characters it is meant too, and a line that matches
/// nothing stays as it is: that it is not there is told as of any other path.
fn paths_of_line(line: &[u8]) -> Vec<PathBuf> {
    let literal = path_of(line);
    if !has_wildcards(line) {
        return vec![literal];
    }
    let mut found = matching(line);
    if found.is_empty() || (is_there(&literal) && !found.contains(&literal)) {
        found.push(literal);
    }
    found
}

fn has_wildcards(text: &[u8]) -> bool {
    text.iter().any(|c| b"*?[\\".contains(c))
}

fn is_there(path: &Path) -> bool {
    path.symlink_metadata().is_ok()
}

/// What is there and matches, sorted. A wildcard stands for characters of one name, also a dot at its beginning.
fn matching(line: &[u8]) -> Vec<PathBuf> {
    let top = if line.starts_with(b"/") { "/" } else { "" };
    let mut found = vec![PathBuf::from(top)];
    for part in line.split(|&c| c == b'/').filter(|part| !part.is_empty()) {
        found = match Component::parse(part) {
            _ if !has_wildcards(part) => found.iter().map(|folder| folder.join(path_of(part))).collect(),
            Ok(pattern) => found.iter().flat_map(|folder| names_matching(folder, &pattern)).collect(),
            Err(_) => return Vec::new(),
        };
    }
    found.retain(|path| is_there(path));
    found.sort();
    found
}

/// The entries of a folder that match; of one that cannot be read none.
fn names_matching(folder: &Path, pattern: &Component) -> Vec<PathBuf> {
    let place = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
    let entries = std::fs::read_dir(place).into_iter().flatten().flatten();
    let names = entries.map(|entry| entry.file_name()).filter(|name| pattern.matches(name.as_bytes()));
    names.map(|name| folder.join(name)).collect()
}

/// Paths that each end in a zero byte, taken as they are.
pub fn paths_from_raw(bytes: &[u8]) -> Result<Vec<PathBuf>, BadPathList> {
    if bytes.is_empty() {
        return Ok(Vec::new());
    }
    let bytes = bytes.strip_suffix(b"\0").ok_or(BadPathList::Unterminated)?;
    let paths = bytes.split(|&c| c == 0).enumerate();
    paths
        .map(|(i, path)| match path {
            b"" => Err(BadPathList::Empty { number: i + 1 }),
            path => Ok(path_of(path)),
        })
        .collect()
}

fn path_of(bytes: &[u8]) -> PathBuf {
    PathBuf::from(OsStr::from_bytes(bytes))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn lines_have_comments_and_raw_lists_have_none() {
        let lines = paths_from_lines(b"/a\n# no\n\n /b c \r\n#/d\n/e");
        assert_eq!(lines, ["/a", "/b c", "/e"].map(PathBuf::from));
        let raw = paths_from_raw(b"/a\n\0# \xff\0").expect("well formed");
        assert_eq!(raw[0], PathBuf::from("/a\n"));
        assert_eq!(raw[1].as_os_str().as_bytes(), b"# \xff");
    }

    #[test]
    fn a_line_with_wildcards_stands_for_what_they_match() {
        let folder = tempfile::tempdir().unwrap();
        let top = folder.path();
        for name in ["web1/logs", "web2/logs", ".web3/logs", "db1", "a[1]", "a1"] {
            std::fs::create_dir_all(top.join(name)).unwrap();
        }
        let listed = |pattern: &str| {
            let found = paths_from_lines(top.join(pattern).as_os_str().as_bytes());
            let below = |path: PathBuf| path.strip_prefix(top).unwrap().to_str().unwrap().to_owned();
            found.into_iter().map(below).collect::<Vec<_>>()
        };
        assert_eq!(listed("*/logs"), [".web3/logs", "web1/logs", "web2/logs"]);
        assert_eq!(listed("web[2-9]"), ["web2"]);
        assert_eq!(listed("?b1"), ["db1"]);
        assert_eq!(listed("a[1]"), ["a1", "a[1]"], "both may be meant");
        assert_eq!(listed(r"a\[1]"), ["a[1]"]);
        assert_eq!(listed("none*"), ["none*"], "what is not there is told, not passed over");
        assert_eq!(listed("[web1"), ["[web1"]);
    }

    #[test]
    fn a_raw_list_that_was_cut_off_or_has_holes_is_refused() {
        assert_eq!(paths_from_raw(b"/a\n/b\n"), Err(BadPathList::Unterminated));
        assert_eq!(paths_from_raw(b"/a\0\0"), Err(BadPathList::Empty { number: 2 }));
        assert_eq!(paths_from_raw(b""), Ok(Vec::new()));
    }
}
