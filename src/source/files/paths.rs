//! Lists of paths, as given to `--files-from` and `--files-from-raw`.

use super::filter::lines_without_comments;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

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

/// One path a line; white space around it, blank lines and lines that begin with `#` are left out.
pub fn paths_from_lines(text: &[u8]) -> Vec<PathBuf> {
    lines_without_comments(text).map(path_of).collect()
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
    fn a_raw_list_that_was_cut_off_or_has_holes_is_refused() {
        assert_eq!(paths_from_raw(b"/a\n/b\n"), Err(BadPathList::Unterminated));
        assert_eq!(paths_from_raw(b"/a\0\0"), Err(BadPathList::Empty { number: 2 }));
        assert_eq!(paths_from_raw(b""), Ok(Vec::new()));
    }
}
