//! Why the history cannot be read or written.

use crate::base::Kind;
use std::path::PathBuf;

/// Why the history cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// SQLite says so.
    #[error("cannot {what} {}: {source}", path.display())]
    Sql {
        /// What was tried.
        what: &'static str,
        /// The file.
        path: PathBuf,
        /// What came back.
        source: rusqlite::Error,
    },
    /// The system says so.
    #[error("cannot {what} {}: {source}", path.display())]
    Io {
        /// What was tried.
        what: &'static str,
        /// The file.
        path: PathBuf,
        /// What came back.
        source: std::io::Error,
    },
    /// It was written by a later version of this program.
    #[error("{} was written by a later version of keepstone (its schema is {found}, this version knows {known}): use that version", path.display())]
    Newer {
        /// The file.
        path: PathBuf,
        /// The number of its schema.
        found: i64,
        /// The newest number that we know.
        known: i64,
    },
    /// An entry makes no sense.
    #[error("an entry of {} makes no sense: {what}; `keepstone history rebuild` makes the file anew", path.display())]
    Entry {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        what: String,
    },
}

/// What the history answers.
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    /// The kind of failure.
    pub fn kind(&self) -> Kind {
        match self {
            Error::Io { source, .. } => Kind::of_io(source),
            Error::Newer { .. } => Kind::Unsupported,
            Error::Entry { .. } => Kind::Damaged,
            Error::Sql { source, .. } => kind_of_sql(source),
        }
    }
}

fn kind_of_sql(error: &rusqlite::Error) -> Kind {
    use rusqlite::ErrorCode as Code;
    match error.sqlite_error_code() {
        Some(Code::DatabaseCorrupt | Code::NotADatabase) => Kind::Damaged,
        Some(Code::DiskFull) => Kind::Full,
        Some(Code::PermissionDenied | Code::ReadOnly | Code::CannotOpen) => Kind::Denied,
        Some(Code::DatabaseBusy | Code::DatabaseLocked) => Kind::Unavailable,
        _ => Kind::Internal,
    }
}
