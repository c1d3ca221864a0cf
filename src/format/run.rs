//! Run records: what was done, by whom, with what result.

use super::cbor::{Cbor, Unknown, numbered, record};
use super::snapshot::StoredProblem;
use crate::base::{RunId, SessionId, SlotId, SnapshotId};
use crate::crypto::names::hash;

/// The most problems that a record carries.
pub const MAX_PROBLEMS: usize = 100;
/// The most phases of a night.
pub const MAX_PHASES: usize = 64;
/// The most tables that a record counts.
pub const MAX_TABLES: usize = 2000;

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
        /// Its process was gone before it could say anything: told by a later run of the same machine.
        Vanished = 137,
    }
}

impl Outcome {
    /// The word for it.
    pub fn name(self) -> &'static str {
        match self {
            Outcome::Done => "done",
            Outcome::Failed => "failed",
            Outcome::Partial => "partial",
            Outcome::Damage => "damage",
            Outcome::Refused => "refused",
            Outcome::Interrupted => "interrupted",
            Outcome::Vanished => "vanished",
        }
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
    /// A part of a night.
    RunPhase {
        /// What was done: `preflight`, `backup`, `verify`, …
        1 => name: String,
        /// How it ended: `done`, `partial`, `damage`, `failed` or `skipped`.
        2 => outcome: String,
        /// What it did, or why not.
        3 => message: String,
        /// How long it took.
        4 => duration_ms: u64,
        /// What it counted.
        5 => figures: Vec<Figure>,
        /// The kind of its failure.
        6 => kind: Option<String>,
    }
}

record! {
    /// A table as a night saw it.
    RunTable {
        /// The dump that it is in: `@postgres/NAME`.
        1 => source: String,
        /// Its name, with its schema where it has one.
        2 => name: String,
        /// Rows, exactly.
        3 => rows: u64,
        /// Bytes of the rows.
        4 => bytes: u64,
    }
}

record! {
    /// Names a run record by its hash, so that it can neither be taken away nor exchanged unnoticed.
    RunRef {
        /// Its name.
        1 => id: RunId,
        /// The plain hash of its CBOR.
        2 => hash: [u8; 32],
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
        /// The newest records of the same machine that it knew; several where runs went side by side.
        12 => previous: Vec<RunRef>,
        /// The key slot that the repository was opened with.
        13 => slot: Option<SlotId>,
        /// Its place in the order of its machine's records: one more than the highest of those before it.
        14 => sequence: u64,
        /// The plain hash of the CBOR of its ledger, if it left one.
        15 => ledger: Option<[u8; 32]>,
        /// A client left it that may only write: nobody else vouches for what it says.
        16 => unverified: bool,
        /// The profile, if it was a night of one.
        17 => profile: Option<String>,
        /// What started it: `schedule` or `hand`.
        18 => by: Option<String>,
        /// Its phases in their order, at most [`MAX_PHASES`].
        19 => phases: Vec<RunPhase>,
        /// Tables of the databases in its snapshot, the largest of them, at most [`MAX_TABLES`].
        20 => tables: Vec<RunTable>,
    } checked by Run::check
}

record! {
    /// Older run records, whole, in one object: `runs/ID.history`. They need not lie there by themselves any more.
    History {
        /// Its name.
        1 => id: RunId,
        /// When it was stored, nanoseconds since 1970.
        2 => made_ns: i64,
        /// The records, in the order of their beginning.
        3 => runs: Vec<Run>,
        /// Records that ended before this were dropped on purpose.
        4 => dropped_before_ns: Option<i64>,
        /// Of the dropped ones, those that records or snapshots still name.
        5 => dropped: Vec<RunRef>,
    }
}

/// The most records that one names as previous.
pub const MAX_PREVIOUS: usize = 16;

impl Run {
    fn check(&self) -> Result<(), String> {
        match self {
            run if run.previous.len() > MAX_PREVIOUS => Err("too many records before it".to_owned()),
            run if run.phases.len() > MAX_PHASES => Err("too many phases".to_owned()),
            run if run.tables.len() > MAX_TABLES => Err("too many tables".to_owned()),
            _ => Ok(()),
        }
    }

    /// What the records after it name it by.
    pub fn reference(&self) -> RunRef {
        RunRef { id: self.id, hash: hash(&self.to_cbor()), unknown: Unknown::none() }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn phase() -> RunPhase {
        let figures = vec![Figure { name: "files".into(), value: 3, unknown: Unknown::none() }];
        RunPhase {
            name: "backup".into(),
            outcome: "failed".into(),
            message: "no answer".into(),
            duration_ms: 4,
            figures,
            kind: Some("unavailable".into()),
            unknown: Unknown::none(),
        }
    }

    fn table() -> RunTable {
        let (source, name) = ("@postgres/shop".into(), "public.orders".into());
        RunTable { source, name, rows: 5, bytes: 6, unknown: Unknown::none() }
    }

    #[test]
    fn a_run_comes_back_however_it_ended() {
        for outcome in [0, 1, 3, 4, 11, 130, 137] {
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
                previous: vec![RunRef { id: RunId([3; 16]), hash: [4; 32], unknown: Unknown::none() }],
                slot: Some(SlotId([5; 16])),
                sequence: 7,
                ledger: Some([6; 32]),
                unverified: false,
                profile: Some("web".into()),
                by: Some("schedule".into()),
                phases: vec![phase()],
                tables: vec![table()],
                unknown: Unknown::none(),
            };
            assert_eq!(Run::from_cbor(&run.to_cbor(), "run").unwrap(), run);
        }
        assert!(Outcome::from_cbor(&[2], "outcome").is_err());
    }

    #[test]
    fn a_record_is_named_by_what_it_says_and_names_only_so_many() {
        let run = |previous| Run {
            id: RunId([1; 16]),
            operation: "verify".into(),
            begun_ns: 1,
            ended_ns: 2,
            host: "tower".into(),
            program: "keepstone".into(),
            outcome: Outcome::Done,
            session: None,
            snapshots: Vec::new(),
            figures: Vec::new(),
            problems: Vec::new(),
            previous,
            slot: None,
            sequence: 1,
            ledger: None,
            unverified: false,
            profile: None,
            by: None,
            phases: Vec::new(),
            tables: Vec::new(),
            unknown: Unknown::none(),
        };
        let first = run(Vec::new()).reference();
        assert_ne!(first.hash, run(vec![first.clone()]).reference().hash);
        for (count, fits) in [(MAX_PREVIOUS, true), (MAX_PREVIOUS + 1, false)] {
            let read = Run::from_cbor(&run(vec![first.clone(); count]).to_cbor(), "run");
            assert_eq!(read.is_ok(), fits, "{count}");
        }
        for (phases, tables, fits) in
            [(MAX_PHASES, MAX_TABLES, true), (MAX_PHASES + 1, 0, false), (0, MAX_TABLES + 1, false)]
        {
            let large = Run { phases: vec![phase(); phases], tables: vec![table(); tables], ..run(Vec::new()) };
            assert_eq!(Run::from_cbor(&large.to_cbor(), "run").is_ok(), fits, "{phases} {tables}");
        }
    }
}
