//! Entries and the sealed records that say the same.

use super::entry::{By, Entry, Outcome, Phase, Problem, TableCount};
use super::figure::{self, Figures};
use crate::base::RepositoryId;
use crate::format::cbor::{Bytes, Unknown};
use crate::format::run::{Figure, Outcome as Sealed, Run, RunPhase, RunTable};
use crate::format::snapshot::StoredProblem;

/// The operation that a night is in the log of its repository.
pub const OPERATION: &str = "run";

impl Entry {
    /// The record of an entry that came to its end, without its place among others; `program` wrote it.
    pub fn to_run(&self, program: &str) -> Run {
        let entry = self.clone().bounded();
        let mut figures = stored_figures(&entry.figures);
        if entry.problem_count > 0 && entry.figures.get(figure::PROBLEMS).is_none() {
            figures.push(Figure {
                name: figure::PROBLEMS.to_owned(),
                value: entry.problem_count,
                unknown: Unknown::none(),
            });
        }
        Run {
            id: entry.id,
            operation: OPERATION.to_owned(),
            begun_ns: entry.begun_ns,
            ended_ns: entry.ended_ns.unwrap_or(entry.begun_ns),
            host: entry.host,
            program: program.to_owned(),
            outcome: sealed_outcome(entry.outcome),
            session: None,
            snapshots: entry.snapshot.into_iter().collect(),
            figures,
            problems: entry.problems.into_iter().map(stored_problem).collect(),
            previous: Vec::new(),
            slot: None,
            sequence: 0,
            ledger: None,
            unverified: false,
            profile: Some(entry.profile),
            by: Some(entry.by.name().to_owned()),
            phases: entry.phases.into_iter().map(stored_phase).collect(),
            tables: entry.tables.into_iter().map(stored_table).collect(),
            unknown: Unknown::none(),
        }
    }

    /// The entry that a record of a night is; none for other records. The config calls the repository `name`.
    pub fn of_run(run: &Run, name: &str, repository: RepositoryId) -> Option<Entry> {
        let profile = run.profile.as_ref().filter(|_| run.operation == OPERATION)?;
        let by = run.by.as_deref().and_then(By::of_name).unwrap_or(By::Hand);
        let figures: Figures = run.figures.iter().map(|figure| (figure.name.clone(), figure.value)).collect();
        let entry = Entry {
            repository_id: Some(repository),
            ended_ns: Some(run.ended_ns),
            outcome: outcome_of(run.outcome),
            snapshot: run.snapshots.first().copied(),
            phases: run.phases.iter().map(phase_of).collect(),
            problems: run.problems.iter().map(problem_of).collect(),
            problem_count: figures.get(figure::PROBLEMS).unwrap_or(run.problems.len() as u64),
            figures,
            tables: run.tables.iter().map(table_of).collect(),
            is_sealed: true,
            ..Entry::begun(run.id, profile, name, &run.host, by, run.begun_ns)
        };
        Some(entry.bounded())
    }
}

fn sealed_outcome(outcome: Outcome) -> Sealed {
    match outcome {
        Outcome::Done => Sealed::Done,
        Outcome::Partial => Sealed::Partial,
        Outcome::Damage => Sealed::Damage,
        Outcome::Failed => Sealed::Failed,
        Outcome::Refused => Sealed::Refused,
        Outcome::Interrupted => Sealed::Interrupted,
        Outcome::Running | Outcome::Vanished => Sealed::Vanished,
    }
}

fn outcome_of(outcome: Sealed) -> Outcome {
    match outcome {
        Sealed::Done => Outcome::Done,
        Sealed::Partial => Outcome::Partial,
        Sealed::Damage => Outcome::Damage,
        Sealed::Failed => Outcome::Failed,
        Sealed::Refused => Outcome::Refused,
        Sealed::Interrupted => Outcome::Interrupted,
        Sealed::Vanished => Outcome::Vanished,
    }
}

fn stored_figures(figures: &Figures) -> Vec<Figure> {
    figures
        .0
        .iter()
        .map(|(name, value)| Figure { name: name.clone(), value: *value, unknown: Unknown::none() })
        .collect()
}

fn stored_phase(phase: Phase) -> RunPhase {
    let figures = stored_figures(&phase.figures);
    let Phase { name, outcome, kind, message, duration_ms, .. } = phase;
    RunPhase { name, outcome, message, duration_ms, figures, kind, unknown: Unknown::none() }
}

fn phase_of(phase: &RunPhase) -> Phase {
    Phase {
        name: phase.name.clone(),
        outcome: phase.outcome.clone(),
        kind: phase.kind.clone(),
        message: phase.message.clone(),
        duration_ms: phase.duration_ms,
        figures: phase.figures.iter().map(|figure| (figure.name.clone(), figure.value)).collect(),
    }
}

fn stored_problem(problem: Problem) -> StoredProblem {
    StoredProblem { subject: Bytes(problem.subject.into_bytes()), message: problem.message, unknown: Unknown::none() }
}

fn problem_of(problem: &StoredProblem) -> Problem {
    Problem { subject: String::from_utf8_lossy(&problem.subject.0).into_owned(), message: problem.message.clone() }
}

fn stored_table(table: TableCount) -> RunTable {
    let TableCount { source, name, rows, bytes } = table;
    RunTable { source, name, rows, bytes, unknown: Unknown::none() }
}

fn table_of(table: &RunTable) -> TableCount {
    TableCount { source: table.source.clone(), name: table.name.clone(), rows: table.rows, bytes: table.bytes }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
pub(super) mod tests {
    use super::*;
    use crate::base::{RunId, SnapshotId};
    use crate::format::cbor::Cbor;

    /// An entry with something in every field.
    pub fn entry(number: u8, begun_ns: i64) -> Entry {
        let mut figures = Figures::default();
        figures.set(figure::CONTENT_BYTES, 1000);
        figures.set(figure::ADDED_BYTES, 10 * u64::from(number));
        figures.set(figure::PROBLEMS, 3);
        let phase = Phase {
            name: "backup".into(),
            outcome: "partial".into(),
            kind: Some("source".into()),
            message: "a table is locked".into(),
            duration_ms: 5,
            figures: figures.clone(),
        };
        let table = |name: &str| TableCount {
            source: "@postgres/shop".into(),
            name: name.into(),
            rows: 7,
            bytes: u64::MAX >> 1,
        };
        Entry {
            repository_id: Some(RepositoryId([3; 32])),
            ended_ns: Some(begun_ns + 2_000_000_000),
            outcome: Outcome::Partial,
            snapshot: Some(SnapshotId::from_slice(&[number; 16]).unwrap()),
            phases: vec![phase],
            figures,
            problems: vec![Problem { subject: "@postgres/shop".into(), message: "locked".into() }],
            problem_count: 3,
            tables: vec![table("public.orders"), table("public.users")],
            ..Entry::begun(RunId([number; 16]), "web", "main", "tower", By::Schedule, begun_ns)
        }
    }

    #[test]
    fn an_entry_comes_back_from_its_sealed_record_whole() {
        let entry = entry(1, 17);
        let run = entry.to_run("keepstone 1");
        let read = Run::from_cbor(&run.to_cbor(), "run").unwrap();
        let back = Entry::of_run(&read, "main", RepositoryId([3; 32])).unwrap();
        assert_eq!(back, Entry { is_sealed: true, ..entry });
        for outcome in Outcome::ALL.iter().filter(|outcome| **outcome != Outcome::Running) {
            assert_eq!(outcome_of(sealed_outcome(*outcome)), *outcome);
        }
    }

    #[test]
    fn a_record_of_something_else_is_no_entry() {
        let night = entry(1, 17).to_run("keepstone 1");
        let repository = RepositoryId([3; 32]);
        assert_eq!(Entry::of_run(&Run { operation: "backup".into(), ..night.clone() }, "main", repository), None);
        assert_eq!(Entry::of_run(&Run { profile: None, ..night }, "main", repository), None);
    }
}
