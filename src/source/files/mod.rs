//! Where the bytes of a file tree come from.
//!
//! A `Scan` walks trees depth-first in byte order of names. The consumer pulls one `Listing` per directory and
//! gets its entries in order; scanner threads have usually prepared the next listings already, a bounded number
//! of bytes ahead. Scanning reads names and `stat`s only; content, symlink targets and extended attributes are
//! read when the consumer asks for them, because it does so for changed entries alone.
//!
//! Nothing here follows a symlink below a root, and every file is opened relative to its directory. What cannot
//! be read is an [`Error`] for that one entry and the walk goes on.
//!
//! ```text
//! let mut scan = Scan::start(&roots, options, stop)?;
//! for root in scan.take_roots() {          // Result<Entry, Error>
//!     visit(&scan, root?)                  // if it is a directory: scan.list(&entry), visit each, in order
//! }
//! ```

mod accounts;
pub mod filter;
mod listing;
mod open;
mod paths;
mod scan;

pub use accounts::Accounts;
pub use filter::{BadPattern, Filter, Trail, Verdict};
pub use listing::{CACHEDIR_TAG_SIGNATURE, Entry, Marker};
pub use open::{Details, OpenFile, changed_while_read, data_ranges};
pub use paths::{BadPathList, paths_from_lines, paths_from_raw};
pub use scan::{Listing, Scan, ScanOptions};

#[cfg(test)]
mod tests;

use crate::base::{Kind, Problem};
use std::io;
use std::path::PathBuf;

/// Why something of a source was not read.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// It was listed and is gone: somebody deleted or renamed it meanwhile.
    #[error("cannot {operation} {}: it vanished while the backup was running", path.display())]
    Vanished {
        /// The entry.
        path: PathBuf,
        /// What was tried.
        operation: &'static str,
    },
    /// Something of another kind has taken its place since it was listed.
    #[error("cannot {operation} {}: something else took its place while the backup was running", path.display())]
    Replaced {
        /// The entry.
        path: PathBuf,
        /// What was tried.
        operation: &'static str,
    },
    /// The operating system refuses it.
    #[error("cannot {operation} {}: {source}", path.display())]
    Unreadable {
        /// The entry.
        path: PathBuf,
        /// What was tried.
        operation: &'static str,
        /// What came back.
        source: io::Error,
    },
    /// A root of which the user's own patterns leave nothing.
    #[error("{} is excluded by a pattern, with all that is in it: name another source or change the pattern", path.display())]
    Excluded {
        /// The root.
        path: PathBuf,
    },
    /// The machine gives no more threads.
    #[error("cannot start a scanner thread: {0}")]
    Thread(io::Error),
}

impl Error {
    fn new(path: PathBuf, operation: &'static str, source: impl Into<io::Error>) -> Error {
        use rustix::io::Errno;
        let source = source.into();
        match Errno::from_io_error(&source) {
            Some(Errno::NOENT) => Error::Vanished { path, operation },
            Some(Errno::LOOP | Errno::NOTDIR | Errno::STALE) => Error::Replaced { path, operation },
            _ => Error::Unreadable { path, operation, source },
        }
    }

    /// What the operating system said.
    fn into_io(self) -> io::Error {
        use rustix::io::Errno;
        match self {
            Error::Vanished { .. } => Errno::NOENT.into(),
            Error::Unreadable { source, .. } | Error::Thread(source) => source,
            Error::Replaced { .. } | Error::Excluded { .. } => Errno::STALE.into(),
        }
    }

    /// The kind of failure: [`Kind::Source`] for everything that concerns one entry.
    pub fn kind(&self) -> Kind {
        match self {
            Error::Excluded { .. } => Kind::Usage,
            Error::Thread(_) => Kind::Unavailable,
            _ => Kind::Source,
        }
    }

    /// Whether the entry is merely gone.
    pub fn is_vanished(&self) -> bool {
        matches!(self, Error::Vanished { .. })
    }

    /// The same as a problem to report.
    pub fn problem(&self) -> Problem {
        match self {
            Error::Vanished { path, .. }
            | Error::Replaced { path, .. }
            | Error::Unreadable { path, .. }
            | Error::Excluded { path } => Problem::at(path, self, self.kind()),
            Error::Thread(_) => Problem::new("scanner", self, self.kind()),
        }
    }
}
