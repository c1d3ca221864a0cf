//! Run records: what was done, by whom, with what result.

use super::cbor::{numbered, record};
use super::snapshot::StoredProblem;
use crate::base::{RunId, SessionId, SlotId, SnapshotId};

/// The most problems that a record carries.
pub const MAX_PROBLEMS: usize = 100;

numbered! {
    /// How an operation ended.
    Outcome {
        /// All was done.
        Done = 0,
        /// Nothing was achieved.
        Failed = 1,
        /// Some sources could not be read.
        Partial = 3,
        /// Damage was found.
        Damage = 4,
        /// Refused.
        Refused = 11,
        /// Stopped by the user or a signal.
        Interrupted = 130,
    }
}

record! {
    /// A figure with its name.
    Figure {
        /// What it counts, with the unit last: `packs_deleted`, `freed_bytes`.
        1 => name: String,
        /// How much.
        2 => value: u64,
    }
}

record! {
    /// One execution of one operation.
    Run {
        /// Its name. Equal to the object's name.
        1 => id: RunId,
        /// The operation: `backup`, `restore`, …
        2 => operation: String,
        /// When it began, nanoseconds since 1970.
        3 => begun_ns: i64,
        /// When it ended.
        4 => ended_ns: i64,
        /// Which host.
        5 => host: String,
        /// The program and its version.
        6 => program: String,
        /// How it ended.
        7 => outcome: Outcome,
        /// Its session, if it had one.
        8 => session: Option<SessionId>,
        /// The snapshots it made, read or removed.
        9 => snapshots: Vec<SnapshotId>,
        /// What it counted.
        10 => figures: Vec<Figure>,
        /// What went wrong, at most [`MAX_PROBLEMS`].
        11 => problems: Vec<StoredProblem>,
        /// The hash of the record before it on this machine, once records are chained.
        12 => previous: Option<[u8; 32]>,
        /// The key slot that the repository was opened with.
        13 => slot: Option<SlotId>,
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::format::cbor::{Cbor, Unknown};

    #[test]
    fn a_run_comes_back_however_it_ended() {
        for outcome in [0, 1, 3, 4, 11, 130] {
            let run = Run {
                id: RunId([1; 16]),
                operation: "verify".into(),
                begun_ns: 1,
                ended_ns: 2,
                host: "tower".into(),
                program: "keepstone".into(),
                outcome: Outcome::from_number(outcome).unwrap(),
                session: None,
                snapshots: Vec::new(),
                figures: vec![Figure { name: "read_bytes".into(), value: u64::MAX, unknown: Unknown::none() }],
                problems: Vec::new(),
                previous: Some([4; 32]),
                slot: Some(SlotId([5; 16])),
                unknown: Unknown::none(),
            };
            assert_eq!(Run::from_cbor(&run.to_cbor(), "run").unwrap(), run);
        }
        assert!(Outcome::from_cbor(&[2], "outcome").is_err());
    }
}
