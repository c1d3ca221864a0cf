//! Run records: each verb leaves one in the repository.

use super::{Context, Error};
use crate::base::{Event, Kind, PackId, Problem, RunId, SessionId, SnapshotId, SortedSet, random};
use crate::format::cbor::{Bytes, Unknown};
use crate::format::ledger::{PackPrefix, prefix};
use crate::format::run::{Figure, MAX_PROBLEMS, Outcome, Run};
use crate::format::snapshot::StoredProblem;
use crate::repo::ledger::{self, Known, News};
use crate::repo::{runs, snapshots};
use std::collections::BTreeSet;

/// A record in the making: begun when the verb begins.
pub struct Record {
    run: Run,
}

impl Record {
    /// Begins the record of `operation`.
    pub fn begin(context: &Context, operation: &str) -> Record {
        let machine = context.repository.machine();
        Record {
            run: Run {
                id: RunId(random::bytes()),
                operation: operation.to_owned(),
                begun_ns: context.repository.now_ns(),
                ended_ns: 0,
                host: machine.host.clone(),
                program: machine.program.clone(),
                outcome: Outcome::Failed,
                session: None,
                snapshots: Vec::new(),
                figures: Vec::new(),
                problems: Vec::new(),
                previous: Vec::new(),
                slot: Some(context.repository.slot()),
                sequence: 0,
                ledger: None,
                unverified: context.repository.keyring().is_write_only(),
                profile: None,
                by: None,
                phases: Vec::new(),
                tables: Vec::new(),
                unknown: Unknown::none(),
            },
        }
    }

    /// Says which session it was.
    pub fn session(&mut self, session: SessionId) {
        self.run.session = Some(session);
    }

    /// Names a snapshot that was made, read or removed.
    pub fn snapshot(&mut self, snapshot: SnapshotId) {
        self.run.snapshots.push(snapshot);
    }

    /// Adds a figure; the unit stands last in its name.
    pub fn figure(&mut self, name: &str, value: u64) {
        self.run.figures.push(Figure { name: name.to_owned(), value, unknown: Unknown::none() });
    }

    /// Adds problems.
    pub fn problems(&mut self, problems: &[Problem]) {
        let room = MAX_PROBLEMS - self.run.problems.len().min(MAX_PROBLEMS);
        self.run.problems.extend(problems.iter().take(room).map(stored_problem));
    }

    /// Stores what the run has proven, beside its record.
    pub fn ledger(&mut self, context: &Context, known: &mut Known, news: &News) -> Result<(), Error> {
        let repository = &context.repository;
        let mut packs = Vec::new();
        context.index.each_pack::<Error>(&mut |pack| {
            packs.push(prefix(&pack.id));
            Ok(())
        })?;
        let packs: SortedSet<PackPrefix> = packs.into_iter().collect();
        let snapshots: BTreeSet<SnapshotId> = snapshots::names(repository)?.into_iter().collect();
        let at_ns = repository.now_ns();
        let is_there = |pack: &PackPrefix| packs.contains(pack);
        let hash = ledger::save(repository, self.run.id, at_ns, news, known, &is_there, &snapshots)?;
        self.run.ledger = Some(hash);
        Ok(())
    }

    /// Stores beside the record that a snapshot came back.
    pub fn drilled(&mut self, context: &Context, snapshot: SnapshotId) -> Result<(), Error> {
        let mut known = ledger::load(&context.repository)?;
        self.ledger(context, &mut known, &News { drilled: vec![snapshot], ..News::default() })
    }

    /// Stores beside the record which packs are damaged, of those that these problems are about: a repair looks at them. As
    /// well as it can: what was found is told in any case.
    pub fn damaged_packs(&mut self, context: &Context, problems: &[Problem]) {
        let pack = |problem: &Problem| problem.subject.rsplit('/').next().and_then(|name| name.parse().ok());
        let damaged: Vec<PackId> = problems.iter().filter_map(pack).collect();
        self.found(context, News { damaged, ..News::default() });
    }

    /// Stores beside the record that the snapshots which it names need something that is damaged. As well as it can: what
    /// was found is told in any case.
    pub fn hurt(&mut self, context: &Context) {
        let hurt = self.run.snapshots.clone();
        self.found(context, News { hurt, ..News::default() });
    }

    fn found(&mut self, context: &Context, news: News) {
        if news.is_empty() {
            return;
        }
        let noted = ledger::load(&context.repository).map_err(Error::from);
        if let Err(error) = noted.and_then(|mut known| self.ledger(context, &mut known, &news)) {
            context.monitor.event(Event::Note(&format!("what is damaged could not be noted down: {error}")));
        }
    }

    /// Stores the record.
    pub fn save(mut self, context: &Context, outcome: Outcome) -> Result<(), Error> {
        self.run.outcome = outcome;
        self.run.ended_ns = context.repository.now_ns();
        Ok(runs::save(&context.repository, &mut self.run)?)
    }

    /// Stores the record of a verb that failed. That it failed matters more than whether this can be stored.
    pub fn save_failure(mut self, context: &Context, error: &Error) {
        self.problems(&[Problem::new("run", error, error.kind())]);
        let outcome = match error.kind() {
            Kind::Interrupted => Outcome::Interrupted,
            Kind::Refused => Outcome::Refused,
            Kind::Damaged => Outcome::Damage,
            _ => Outcome::Failed,
        };
        let _ = self.save(context, outcome);
    }

    /// The same for a verb that brings back what its snapshots hold: if that is damaged, they are from then on.
    pub fn save_failed_reading(mut self, context: &Context, error: &Error) {
        if error.kind() == Kind::Damaged {
            self.hurt(context);
        }
        self.save_failure(context, error);
    }
}

/// A problem as it is stored.
pub fn stored_problem(problem: &Problem) -> StoredProblem {
    let subject = Bytes(problem.exact_subject().to_vec());
    StoredProblem { subject, message: problem.message.clone(), unknown: Unknown::none() }
}
