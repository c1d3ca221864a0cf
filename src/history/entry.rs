//! An entry: one run of a profile, from its beginning to its end or to its vanishing.

use super::figure::Figures;
use crate::base::{RepositoryId, RunId, SnapshotId};
use crate::format::run::{MAX_PHASES, MAX_PROBLEMS, MAX_TABLES};
use serde::{Deserialize, Serialize};

/// The longest message of a phase or a problem, in bytes.
const MAX_MESSAGE_BYTES: usize = 2000;
/// The longest name, in bytes.
const MAX_NAME_BYTES: usize = 500;

macro_rules! words {
    ($(#[$meta:meta])* $name:ident { $( $(#[$doc:meta])* $variant:ident = $text:literal, )* }) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum $name { $( $(#[$doc])* $variant, )* }

        impl $name {
            /// All of them.
            pub const ALL: &[$name] = &[$( $name::$variant, )*];

            /// The word for it.
            pub fn name(self) -> &'static str {
                match self { $( $name::$variant => $text, )* }
            }

            /// What a word means; none for one that means nothing.
            pub fn of_name(text: &str) -> Option<$name> {
                $name::ALL.iter().copied().find(|one| one.name() == text)
            }
        }
    };
}

words! {
    /// What started a run.
    By {
        /// A timer.
        Schedule = "schedule",
        /// Somebody.
        Hand = "hand",
    }
}

words! {
    /// How a run ended.
    Outcome {
        /// It goes on, as far as anybody knows.
        Running = "running",
        /// All was done.
        Done = "done",
        /// Some sources could not be read: the snapshot is partial.
        Partial = "partial",
        /// Damage was found.
        Damage = "damage",
        /// A phase failed.
        Failed = "failed",
        /// Refused in order to protect something.
        Refused = "refused",
        /// Somebody asked to stop.
        Interrupted = "interrupted",
        /// Its process was gone before it could say how it ended.
        Vanished = "vanished",
    }
}

impl Outcome {
    /// Whether a snapshot that lacks nothing was made and nothing else went wrong.
    pub fn is_good(self) -> bool {
        self == Outcome::Done
    }
}

/// What is known of a run that vanished.
pub const VANISHED: &str = "its process was ended before it could say anything";

/// A part of a run.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Phase {
    /// `preflight`, `before`, `backup`, `after`, `failed`, `finally`, `verify`, `forget`, `prune`, `drill`.
    pub name: String,
    /// `done`, `partial`, `damage`, `failed` or `skipped`.
    pub outcome: String,
    /// The kind of its failure, if it failed: `unavailable`, `full`, `denied`, `source`, …
    pub kind: Option<String>,
    /// What it did, or why not.
    pub message: String,
    /// How long it took.
    pub duration_ms: u64,
    /// What it counted.
    pub figures: Figures,
}

/// Something that went wrong in a run.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Problem {
    /// What it concerns.
    pub subject: String,
    /// What was tried and what came back.
    pub message: String,
}

/// A table of a database as a run saw it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct TableCount {
    /// The dump that it is in: `@postgres/NAME`.
    pub source: String,
    /// Its name, with its schema where it has one.
    pub name: String,
    /// Rows, exactly.
    pub rows: u64,
    /// Bytes of the rows.
    pub bytes: u64,
}

/// A run of a profile.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Its name, the same as that of its sealed record.
    pub id: RunId,
    /// The profile.
    pub profile: String,
    /// What the config calls the repository.
    pub repository: String,
    /// Which repository it was, if it could be opened.
    pub repository_id: Option<RepositoryId>,
    /// The machine.
    pub host: String,
    /// What started it.
    pub by: By,
    /// When it began.
    pub begun_ns: i64,
    /// When it ended; none while it runs, and for one that vanished when that was noticed.
    pub ended_ns: Option<i64>,
    /// How it ended.
    pub outcome: Outcome,
    /// The snapshot that it made, whole or partial.
    pub snapshot: Option<SnapshotId>,
    /// Its phases in order.
    pub phases: Vec<Phase>,
    /// Its numbers.
    pub figures: Figures,
    /// What went wrong, at most a hundred.
    pub problems: Vec<Problem>,
    /// How much went wrong.
    pub problem_count: u64,
    /// Tables of the databases in its snapshot, the largest of them; empty unless asked for.
    pub tables: Vec<TableCount>,
    /// Whether it lies in the repository as a sealed record.
    pub is_sealed: bool,
}

impl Entry {
    /// An entry that begins.
    pub fn begun(id: RunId, profile: &str, repository: &str, host: &str, by: By, begun_ns: i64) -> Entry {
        Entry {
            id,
            profile: profile.to_owned(),
            repository: repository.to_owned(),
            repository_id: None,
            host: host.to_owned(),
            by,
            begun_ns,
            ended_ns: None,
            outcome: Outcome::Running,
            snapshot: None,
            phases: Vec::new(),
            figures: Figures::default(),
            problems: Vec::new(),
            problem_count: 0,
            tables: Vec::new(),
            is_sealed: false,
        }
    }

    /// How long it took; none while it runs and for one that vanished, of which nobody knows.
    pub fn duration_ms(&self) -> Option<u64> {
        let known = !matches!(self.outcome, Outcome::Running | Outcome::Vanished);
        let ns = self.ended_ns.filter(|_| known)?.saturating_sub(self.begun_ns);
        Some(u64::try_from(ns / 1_000_000).unwrap_or(0))
    }

    /// The phase of this name.
    pub fn phase(&self, name: &str) -> Option<&Phase> {
        self.phases.iter().find(|phase| phase.name == name)
    }

    /// Whether it was a night, and not single tasks of one: it backed up, or would have, or nobody knows.
    pub fn is_night(&self) -> bool {
        self.phases.is_empty() || self.phase("backup").is_some()
    }

    /// The names of its phases that were begun, or were to be.
    pub fn names(&self) -> String {
        let names: Vec<&str> = self.phases.iter().map(|phase| phase.name.as_str()).collect();
        names.join(", ")
    }

    /// Whether it made a snapshot that lacks nothing.
    pub fn is_complete(&self) -> bool {
        self.snapshot.is_some() && self.phase("backup").is_some_and(|phase| phase.outcome == "done")
    }

    /// What somebody should read first: the message of the first phase that did not end well.
    pub fn trouble(&self) -> Option<&str> {
        if self.outcome == Outcome::Vanished {
            return Some(VANISHED);
        }
        let bad = |phase: &&Phase| !matches!(phase.outcome.as_str(), "done" | "skipped");
        self.phases.iter().find(bad).map(|phase| phase.message.as_str())
    }

    /// Within the bounds of what is stored: what is longer is cut.
    pub(super) fn bounded(mut self) -> Entry {
        for name in [&mut self.profile, &mut self.repository, &mut self.host] {
            cut(name, MAX_NAME_BYTES);
        }
        self.phases.truncate(MAX_PHASES);
        for phase in &mut self.phases {
            cut(&mut phase.name, MAX_NAME_BYTES);
            cut(&mut phase.outcome, MAX_NAME_BYTES);
            cut(&mut phase.message, MAX_MESSAGE_BYTES);
            if let Some(kind) = &mut phase.kind {
                cut(kind, MAX_NAME_BYTES);
            }
        }
        self.problem_count = self.problem_count.max(self.problems.len() as u64);
        self.problems.truncate(MAX_PROBLEMS);
        for problem in &mut self.problems {
            cut(&mut problem.subject, MAX_MESSAGE_BYTES);
            cut(&mut problem.message, MAX_MESSAGE_BYTES);
        }
        self.tables
            .sort_by(|one, other| (other.bytes, &one.source, &one.name).cmp(&(one.bytes, &other.source, &other.name)));
        self.tables.truncate(MAX_TABLES);
        for table in &mut self.tables {
            cut(&mut table.source, MAX_NAME_BYTES);
            cut(&mut table.name, MAX_NAME_BYTES);
        }
        self.tables.sort();
        self.tables.dedup_by(|one, other| (&one.source, &one.name) == (&other.source, &other.name));
        self
    }
}

/// Cuts a text so that it has at most so many bytes and still ends with a whole character.
fn cut(text: &mut String, most: usize) {
    if text.len() > most {
        let end = (0..=most - '…'.len_utf8()).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
        text.truncate(end);
        text.push('…');
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_too_long_is_cut_at_a_whole_character() {
        let mut text = "ä".repeat(10);
        cut(&mut text, 20);
        assert_eq!(text.len(), 20, "what fits stays");
        cut(&mut text, 10);
        assert_eq!(text, "äää…");
    }

    #[test]
    fn an_entry_keeps_the_largest_tables_and_the_first_problems() {
        let mut entry = Entry::begun(RunId([1; 16]), "web", "main", "tower", By::Hand, 5);
        let table = |number: u64| TableCount {
            source: "@postgres/shop".into(),
            name: format!("t{number}"),
            rows: 1,
            bytes: number,
        };
        entry.tables = (0..MAX_TABLES as u64 + 10).map(table).collect();
        entry.problems = vec![Problem { subject: "x".into(), message: "y".repeat(5000) }; MAX_PROBLEMS + 1];
        let entry = entry.bounded();
        assert_eq!((entry.tables.len(), entry.problems.len()), (MAX_TABLES, MAX_PROBLEMS));
        assert!(entry.tables.iter().all(|table| table.bytes >= 10));
        assert_eq!(entry.problem_count, MAX_PROBLEMS as u64 + 1);
        assert!(entry.problems[0].message.len() <= MAX_MESSAGE_BYTES);
    }
}
