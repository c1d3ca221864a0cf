//! Snapshots: one point in time, and the object that takes the place of one that must not come.

use super::cbor::{Bytes, record};
use super::run::RunRef;
use crate::base::{BlobId, RepositoryId, SegmentId, SessionId, SnapshotId};

/// The most problems that a snapshot carries; `problem_count` counts them all.
pub const MAX_PROBLEMS: usize = 1000;
/// The most imported dumps that a snapshot names.
pub const MAX_IMPORTED: usize = 10_000;
/// The most tables that it names of all imported dumps together.
pub const MAX_IMPORTED_TABLES: usize = 50_000;
/// The most tables that it names of one imported dump.
pub const MAX_TABLES_OF_ONE: usize = 5_000;

record! {
    /// Something that could not be read.
    StoredProblem {
        /// What it concerns: a path, an object or a command.
        1 => subject: Bytes,
        /// What came back.
        2 => message: String,
    }
}

record! {
    /// What the run found and what it cost.
    Totals {
        /// Regular files.
        1 => files: u64,
        /// Directories.
        2 => directories: u64,
        /// Everything else.
        3 => others: u64,
        /// Bytes of content of all files.
        4 => bytes: u64,
        /// Files that are new since the parent.
        5 => files_new: u64,
        /// Files that changed since the parent.
        6 => files_changed: u64,
        /// Bytes of content that were read.
        7 => bytes_read: u64,
        /// Bytes of content that were in no blob before.
        8 => bytes_new: u64,
        /// Of those, bytes stored as the difference to a base.
        9 => bytes_delta: u64,
        /// What those take in store.
        10 => stored_delta: u64,
        /// What all new content takes in store, differences included, before sealing.
        11 => stored_data: u64,
        /// Bytes of new trees and lists.
        12 => metadata_new: u64,
        /// What those take in store, before sealing.
        13 => stored_metadata: u64,
        /// Bytes that the run added to the store in all.
        14 => added: u64,
        /// About what the content stored on bases would take as whole copies.
        15 => whole_delta: u64,
    }
}

record! {
    /// A stream that came from a process.
    Stream {
        /// Its place in the tree, unless it is a command that failed.
        1 => path: Bytes,
        /// `stdin` or `command`.
        2 => kind: String,
        /// The command, program and arguments.
        3 => command: Vec<Bytes>,
        /// Its exit status, where there was one.
        4 => status: Option<i64>,
        /// The end of what it wrote to its standard error.
        5 => errors: Bytes,
        /// Bytes that came.
        6 => bytes: u64,
    }
}

record! {
    /// The dump of a database; its directory holds the rest, `manifest.json` first of all.
    Dump {
        /// Its directory in the tree: `/@postgres/NAME`.
        1 => path: Bytes,
        /// `postgres` or `mysql`.
        2 => kind: String,
        /// The database.
        3 => database: String,
        /// The server's product and version.
        4 => server: String,
        /// What tells the server from every other.
        5 => identity: String,
        /// Tables.
        6 => tables: u64,
        /// Rows of all tables, exactly.
        7 => rows: u64,
        /// Bytes of all streams.
        8 => bytes: u64,
        /// When the consistent moment was taken, nanoseconds since 1970.
        9 => taken_ns: i64,
    }
}

record! {
    /// A table in a file that already was a dump.
    ImportedTable {
        /// Its name, with schema and database where the dump says them.
        1 => name: String,
        /// Its rows, exactly; none if they could not be counted.
        2 => rows: Option<u64>,
    }
}

record! {
    /// A file that already was a dump when it was backed up, as `--validate-dumps` found it.
    ImportedDump {
        /// Its place in the tree; that of the directory for a dump in directory format.
        1 => path: Bytes,
        /// `postgres-sql`, `postgres-cluster-sql`, `postgres-custom`, `postgres-tar`, `postgres-directory`,
        /// `mysql-sql`, `mariadb-sql` or `unknown`.
        2 => kind: String,
        /// The program that made it, with its version.
        3 => tool: String,
        /// The server it came from, with its version.
        4 => server: String,
        /// The database, where the dump says it.
        5 => database: String,
        /// `complete`, `truncated`, `damaged`, `empty` or `unchecked`.
        6 => state: String,
        /// Why it is not `complete`.
        7 => reason: String,
        /// Bytes of its files.
        8 => bytes: u64,
        /// What it was compressed with, or `none`.
        9 => compression: String,
        /// Its tables, sorted by name, at most [`MAX_TABLES_OF_ONE`].
        10 => tables: Vec<ImportedTable>,
        /// How many tables there are.
        11 => table_count: u64,
        /// Rows of all tables, as far as they could be counted.
        12 => rows: u64,
        /// What somebody should know.
        13 => notes: Vec<String>,
    }
}

record! {
    /// Where a snapshot was made that came by `copy`.
    Copied {
        /// The repository in which it was committed first.
        1 => repository: RepositoryId,
        /// Its name there.
        2 => snapshot: SnapshotId,
    }
}

record! {
    /// One point in time.
    Snapshot {
        /// Its name: that of the session that committed it. Equal to the object's name.
        1 => id: SnapshotId,
        /// The time it stands for, nanoseconds since 1970.
        2 => time_ns: i64,
        /// When the scan began.
        3 => begun_ns: i64,
        /// When it was committed.
        4 => ended_ns: i64,
        /// Which host.
        5 => host: String,
        /// Which user.
        6 => user: String,
        /// The tree of `/`.
        7 => root: BlobId,
        /// What was backed up, absolute paths.
        8 => paths: Vec<Bytes>,
        /// Tags, sorted.
        9 => tags: Vec<String>,
        /// The snapshot it was compared with.
        10 => parent: Option<SnapshotId>,
        /// Something could not be read.
        11 => partial: bool,
        /// What could not be read, at most [`MAX_PROBLEMS`].
        12 => problems: Vec<StoredProblem>,
        /// How many problems there were.
        13 => problem_count: u64,
        /// What was found and what it cost.
        14 => totals: Totals,
        /// The program and its version.
        15 => program: String,
        /// Patterns that were left out.
        16 => excludes: Vec<Bytes>,
        /// Streams in it, and commands that failed.
        17 => streams: Vec<Stream>,
        /// What it holds: `files`, `command`, `db`; sorted.
        18 => kinds: Vec<String>,
        /// The snapshot that this one is a re-tagged copy of.
        19 => original: Option<SnapshotId>,
        /// What somebody wanted to say about it.
        20 => description: String,
        /// When the repository received it, by the store's clock where it has one.
        21 => received_ns: i64,
        /// Dumps of databases in it.
        22 => dumps: Vec<Dump>,
        /// Segments that were there when it was committed and that no other one there named as previous: with what these
        /// name in turn, all that it may need.
        23 => segments: Vec<SegmentId>,
        /// Files in it that already were dumps, by path, at most [`MAX_IMPORTED`].
        24 => imported: Vec<ImportedDump>,
        /// Such files were looked for.
        25 => validated: bool,
        /// Where it was made, if that was in another repository.
        26 => copied: Option<Copied>,
        /// The newest run records of its machine that were there when it was committed: they cannot be taken away
        /// unnoticed.
        27 => log: Vec<RunRef>,
        /// A client made it that may only write: nobody else vouches for what it says.
        28 => unverified: bool,
    }
}

record! {
    /// Takes the place of the snapshot of a session that was fenced.
    Tombstone {
        /// The fenced session.
        1 => session: SessionId,
        /// Who fenced it.
        2 => fenced_by: SessionId,
        /// When.
        3 => at_ns: i64,
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::format::cbor::{Cbor, Unknown};

    #[test]
    fn a_tombstone_cannot_be_read_as_a_snapshot_nor_the_other_way_round() {
        let tombstone = Tombstone {
            session: SessionId([1; 16]),
            fenced_by: SessionId([2; 16]),
            at_ns: 3,
            unknown: Unknown::none(),
        };
        let bytes = tombstone.to_cbor();
        assert_eq!(Tombstone::from_cbor(&bytes, "tombstone").unwrap(), tombstone);
        assert!(Snapshot::from_cbor(&bytes, "snapshot").is_err());
    }

    #[test]
    fn a_stream_comes_back_without_its_status_and_with_any_bytes_in_its_path() {
        let stream = Stream {
            path: Bytes(vec![b'/', 0xff]),
            kind: "stdin".into(),
            command: Vec::new(),
            status: None,
            errors: Bytes::default(),
            bytes: u64::MAX,
            unknown: Unknown::none(),
        };
        assert_eq!(Stream::from_cbor(&stream.to_cbor(), "stream").unwrap(), stream);
        let failed = Stream { status: Some(-9), ..stream };
        assert_eq!(Stream::from_cbor(&failed.to_cbor(), "stream").unwrap(), failed);
    }
}
