//! Sessions, what they have seen, how they end, and the numbered records of what prune will delete.

use super::cbor::{numbered, record};
use crate::base::{PackId, SegmentId, SessionId, SnapshotId};

numbered! {
    /// What a session does.
    SessionKind {
        /// Adds to the repository.
        Writer = 1,
        /// Reads from it and does not want anything swept under its feet.
        Reader = 2,
        /// Prunes.
        Pruner = 3,
    }
}

record! {
    /// The mark that somebody leaves while at work. Equal to the object's name.
    Session {
        /// Its name.
        1 => id: SessionId,
        /// What it does.
        2 => kind: SessionKind,
        /// Which host.
        3 => host: String,
        /// Which process there.
        4 => process: u32,
        /// Which boot of that host, if known.
        5 => boot: String,
        /// When that process began, in the kernel's ticks since boot.
        6 => process_began: u64,
        /// When the session began, nanoseconds since 1970.
        7 => begun_ns: i64,
        /// The program and its version.
        8 => program: String,
        /// The operation.
        9 => operation: String,
    }
}

record! {
    /// Which condemned records a session has seen: `sessions/ID.seen`.
    Seen {
        /// The session.
        1 => session: SessionId,
        /// The records' numbers, ascending.
        2 => records: Vec<u64>,
    }
}

record! {
    /// The end of a session that committed nothing: `sessions/ID.end`.
    End {
        /// The session.
        1 => session: SessionId,
        /// When, nanoseconds since 1970.
        2 => at_ns: i64,
    }
}

record! {
    /// What prune will delete once nobody can need it: `condemned/NUMBER`.
    Condemned {
        /// Its number; it saw every record below.
        1 => number: u64,
        /// The session that prunes.
        2 => session: SessionId,
        /// When, nanoseconds since 1970.
        3 => at_ns: i64,
        /// The packs.
        4 => packs: Vec<PackId>,
        /// The segments.
        5 => segments: Vec<SegmentId>,
        /// The snapshots that the plan saw.
        6 => snapshots: Vec<SnapshotId>,
        /// The segments that the plan saw, besides those named above.
        7 => kept_segments: Vec<SegmentId>,
    }
}
