//! What a night leaves behind: its entry in the history, sealed records in the repository, lines in the operation log.
//!
//! | killed after | there is |
//! | --- | --- |
//! | the entry was begun | a run that goes on in the history: the next run finds that it vanished |
//! | the entry was ended | an entry that is not sealed: the next run that opens the repository seals it |
//! | people were told | an entry that does not say so |
//! | its record was sealed | the same; the next run finds the record there already |
//!
//! None of it is worth a backup: what cannot be written down is told and the night goes on.

use super::due;
use super::error::Error;
use super::night::{Ended, Night, Outcome, Phase};
use crate::base::clock::Stopwatch;
use crate::base::machine::{Machine, peak_memory_bytes};
use crate::base::stat::free_bytes;
use crate::base::{Clock, Event, Kind, Problem, RunId, Timestamp, counted, random};
use crate::history::operations::{Details, Line};
use crate::history::{self, Entry, Figures, History, figure};
use crate::ops::Context;
use crate::repo::{self, runs};
use crate::store::Traffic;
use std::path::Path;

/// So many of the newest records are looked through when the history has to be filled again by itself.
const REFILL_RECORDS: usize = 2000;
/// So many earlier runs say what is to be expected of this one.
const EARLIER: usize = 60;
/// So many entries that lie in no repository yet are sealed by one night.
const SEALED_AT_ONCE: usize = 100;

/// Figures of a phase that are figures of the whole run, by the phase.
const OF_THE_RUN: [(&str, &[&str]); 10] = [
    ("verify", &[figure::PACKS_READ, figure::DAMAGES]),
    ("forget", &[figure::KEPT, figure::REMOVED]),
    ("prune", &[figure::FREED_BYTES]),
    ("drill", &[figure::RESTORE_MS, figure::DIFFERENCES]),
    ("drill_database", &[figure::RESTORE_MS, figure::DIFFERENCES]),
    // A single table says nothing of how long a restore takes.
    ("drill_table", &[figure::DIFFERENCES]),
    ("drill_files", &[figure::RESTORE_MS, figure::DIFFERENCES]),
    ("drill_machine", &[figure::RESTORE_MS, figure::DIFFERENCES]),
    ("maintenance", &[figure::MAINTAINED_TABLES]),
    ("keys", &[figure::PACKS_RESEALED, figure::RESEALED_BYTES]),
];

/// What is written of a night while it goes on.
pub struct Annals {
    history: Option<History>,
    /// The file is new: what sealed records tell is not in it yet.
    is_new: bool,
    entry: Entry,
    vanished: Vec<Entry>,
    problems: Vec<Problem>,
    traffic: Traffic,
}

fn now_ns() -> i64 {
    i64::try_from(Clock::System.now().as_nanosecond()).unwrap_or(i64::MAX)
}

/// A run that found its profile being run already leaves an entry too: whoever starts runs too closely should see it.
pub fn refused(night: &Night<'_>, state_dir: &Path, error: &Error) {
    if error.kind() != Kind::Refused {
        return;
    }
    let (profile, now_ns) = (night.profile, now_ns());
    let (id, host) = (RunId(random::bytes()), Machine::this().host);
    let begun = Entry::begun(id, &profile.name, &profile.repository.name, &host, night.by, now_ns);
    let problem = history::Problem { subject: "profile".to_owned(), message: error.to_string() };
    let entry = Entry {
        ended_ns: Some(now_ns),
        outcome: history::Outcome::Refused,
        phases: night.extent.begun(profile),
        problems: vec![problem],
        problem_count: 1,
        ..begun
    };
    // The run itself says why it leaves: that this could not be written down matters less.
    let _ = History::open(state_dir, now_ns).and_then(|(mut history, _)| history.end(&entry));
    if let Some(log) = profile.state.operations() {
        let _ = log.add(&[of_run(&entry)], Clock::System.now());
    }
}

impl Annals {
    /// Opens the history, finds runs that vanished and begins an entry. Whoever calls this holds the profile's lock.
    pub fn begin(night: &Night<'_>, state_dir: &Path) -> Annals {
        let (machine, now_ns) = (Machine::this(), now_ns());
        let profile = &night.profile.name;
        let id = RunId(random::bytes());
        let mut annals = Annals {
            history: None,
            is_new: false,
            entry: Entry {
                phases: night.extent.begun(night.profile),
                ..Entry::begun(id, profile, &night.profile.repository.name, &machine.host, night.by, now_ns)
            },
            vanished: Vec::new(),
            problems: Vec::new(),
            traffic: Traffic::default(),
        };
        match History::open(state_dir, now_ns) {
            Err(error) => annals.trouble(night, &error),
            Ok((mut history, opened)) => {
                annals.is_new = opened.is_new;
                if let Some(moved) = &opened.moved {
                    annals.tell(night, Problem::new("history", moved, Kind::Damaged));
                }
                match history.vanish(profile, now_ns) {
                    Ok(vanished) => annals.vanished = vanished,
                    Err(error) => annals.trouble(night, &error),
                }
                if let Err(error) = history.begin(&annals.entry, &machine) {
                    annals.trouble(night, &error);
                }
                annals.history = Some(history);
            }
        }
        for gone in &annals.vanished {
            let note = format!(
                "the run of {:.0} vanished: {}; this run makes up for it",
                due::local(gone.begun_ns),
                history::VANISHED
            );
            night.reach.monitor.event(Event::Note(&note));
        }
        annals
    }

    /// The newest runs of the profile before this one, as far as they are known, oldest first.
    pub fn earlier(&self) -> Vec<Entry> {
        let filter = history::Filter {
            profiles: vec![self.entry.profile.clone()],
            before_ns: Some(self.entry.begun_ns),
            newest: Some(EARLIER),
            ..history::Filter::default()
        };
        self.history.as_ref().and_then(|history| history.entries(&filter).ok()).unwrap_or_default()
    }

    fn tell(&mut self, night: &Night<'_>, problem: Problem) {
        night.reach.monitor.event(Event::Problem(&problem));
        self.problems.push(problem);
    }

    fn trouble(&mut self, night: &Night<'_>, error: &history::Error) {
        let message = format!(
            "{error}; the backup does without, and its record in the repository says the same: `keepstone --profile {} history \
             rebuild` brings it back",
            night.profile.name
        );
        self.tell(night, Problem::new("history", message, error.kind()));
    }

    /// The repository is open: a new history is filled from its records.
    pub fn opened(&mut self, night: &Night<'_>, context: &Context) {
        let repository = &context.repository;
        self.entry.repository_id = Some(repository.id());
        self.traffic = repository.store().traffic();
        let figures = &mut self.entry.figures;
        figures.set_known(figure::REPOSITORY_FREE_BEFORE_BYTES, repository.store().free_bytes());
        figures.set_known(figure::CACHE_FREE_BEFORE_BYTES, context.cache_dir.as_deref().and_then(free_bytes));
        if let Some(history) = self.history.as_mut().filter(|_| self.is_new && !repository.keyring().is_write_only()) {
            match refill(history, night, context) {
                Ok(0) => {}
                Ok(count) => {
                    let note =
                        format!("the history was filled again with {count} runs from the records in the repository");
                    night.reach.monitor.event(Event::Note(&note));
                }
                Err(error) => self.tell(night, Problem::new("history", &error, error.kind())),
            }
        }
    }

    /// The night is over: writes down what became of it. What cannot be written goes into `outcome`.
    pub fn end(&mut self, night: &Night<'_>, outcome: &mut Outcome, opened: Option<&Context>) {
        self.let_go(night, outcome);
        self.entry.ended_ns = Some(now_ns().max(self.entry.begun_ns));
        self.fill(outcome, opened);
        self.keep(night);
        if let Some(context) = opened
            && let Err(problem) = self.seal(context)
        {
            self.tell(night, problem);
        }
        self.log(night, &lines(&self.entry, &self.vanished));
        outcome.vanished.clone_from(&self.vanished);
        outcome.unwritten.clone_from(&self.problems);
        outcome.entry = Some(self.entry.clone());
    }

    /// Everybody was told: adds how that went to the entry in the history. How the night ended stays as it was, and so does its
    /// sealed record: that one could not be stored is something to tell, so it was made before.
    pub fn close(mut self, night: &Night<'_>, outcome: &mut Outcome) {
        let told: Vec<history::Phase> = outcome.phases.iter().skip(self.entry.phases.len()).map(phase).collect();
        let known = self.problems.len();
        if !told.is_empty() {
            let of_phase = |phase: &history::Phase| of_phase(&self.entry, phase);
            let lines: Vec<Line> = told.iter().map(of_phase).collect();
            self.log(night, &lines);
            self.entry.phases.extend(told);
            self.keep(night);
        }
        outcome.unwritten.extend(self.problems.drain(known..));
        outcome.entry = Some(self.entry);
    }

    fn keep(&mut self, night: &Night<'_>) {
        let entry = self.entry.clone();
        if let Some(history) = &mut self.history
            && let Err(error) = history.end(&entry)
        {
            self.trouble(night, &error);
        }
    }

    fn log(&mut self, night: &Night<'_>, lines: &[Line]) {
        if let Some(log) = night.profile.state.operations()
            && let Err(error) = log.add(lines, Clock::System.now())
        {
            self.tell(night, Problem::new("operation log", &error, error.kind()));
        }
    }

    /// Lets go of entries and of files of the operation log that are older than what is kept: a phase, if there were any.
    fn let_go(&mut self, night: &Night<'_>, outcome: &mut Outcome) {
        let since = Stopwatch::start();
        let state = &night.profile.state;
        if let Some(doubt) = doubt(outcome) {
            return night.reach.monitor.event(Event::Note(&doubt));
        }
        let keep_ns = state.history_keep.before(now_ns());
        let dropped = self.history.as_mut().map_or(Ok(0), |history| history.drop_before(keep_ns));
        let files = state.operations().map_or(0, |log| log.let_go(Clock::System.now()));
        let runs = match dropped {
            Ok(0) if files == 0 => return,
            Ok(runs) => runs,
            // They go another time.
            Err(error) => return self.trouble(night, &error),
        };
        let (runs_said, files_said) = (counted(runs, "run"), counted(files, "file"));
        outcome.phases.push(Phase {
            name: "records",
            ended: Ended::Done,
            message: format!(
                "{runs_said} of the history and {files_said} of the operation log were older than what is kept: they are gone"
            ),
            figures: vec![(figure::HISTORY_DROPPED, runs), (figure::LOG_FILES_DROPPED, files)],
            problems: Vec::new(),
            duration_ms: since.elapsed_ms(),
        });
    }

    fn fill(&mut self, outcome: &Outcome, opened: Option<&Context>) {
        let entry = &mut self.entry;
        entry.outcome = ended(&outcome.ended());
        entry.snapshot = outcome.snapshot.as_ref().map(|snapshot| snapshot.id);
        entry.tables.clone_from(&outcome.tables);
        entry.phases = outcome.phases.iter().map(phase).collect();
        let problems = outcome.phases.iter().flat_map(|phase| &phase.problems).chain(&self.problems);
        entry.problems = problems.map(problem).collect();
        let counted =
            outcome.phases.iter().map(|phase| phase.figures.iter().find(|(name, _)| *name == figure::PROBLEMS));
        let beyond: u64 = counted.flatten().map(|(_, count)| *count).sum();
        entry.problem_count = beyond.max(entry.problems.len() as u64);
        for phase in &outcome.phases {
            let of_phase = OF_THE_RUN.iter().find(|(name, _)| *name == phase.name).map_or(&[][..], |(_, names)| names);
            for (name, value) in &phase.figures {
                if phase.name == "backup" || of_phase.contains(name) {
                    let known = entry.figures.get(name).filter(|_| phase.name.starts_with("drill"));
                    // Of several drills the longest, and all that they found.
                    let value = match (known, *name) {
                        (None, _) => *value,
                        (Some(known), figure::DIFFERENCES) => known.saturating_add(*value),
                        (Some(known), _) => known.max(*value),
                    };
                    entry.figures.set(name, value);
                }
            }
            if phase.name == "verify" && phase.ended != Ended::Skipped {
                entry.figures.set(figure::VERIFY_MS, phase.duration_ms);
            }
        }
        let figures = &mut entry.figures;
        figures.set(figure::PROBLEMS, entry.problem_count);
        figures.set_known(figure::PEAK_MEMORY_BYTES, peak_memory_bytes());
        figures.set(figure::PAUSED_MS, outcome.pace.paused_ms());
        figures.set(figure::PAUSES, outcome.pace.pauses());
        if let Some(context) = opened {
            let store = context.repository.store();
            figures.set(figure::STORE_RETRIES, store.traffic().since(&self.traffic).retries);
            figures.set_known(figure::REPOSITORY_FREE_AFTER_BYTES, store.free_bytes());
            figures.set_known(figure::CACHE_FREE_AFTER_BYTES, context.cache_dir.as_deref().and_then(free_bytes));
            figures.set_known(figure::REPOSITORY_BYTES, context.index.stored_bytes().ok());
            figures.set(figure::SNAPSHOTS, outcome.snapshots_left());
        }
    }

    /// Seals this entry, and those of earlier runs that could not be.
    fn seal(&mut self, context: &Context) -> std::result::Result<(), Problem> {
        let entries = match &self.history {
            Some(history) => history.unsealed(&self.entry.repository, SEALED_AT_ONCE).unwrap_or_default(),
            None => Vec::new(),
        };
        let earlier = entries.into_iter().chain(self.vanished.iter().filter(|_| self.history.is_none()).cloned());
        let mut entries: Vec<Entry> = earlier.filter(|entry| entry.id != self.entry.id).collect();
        entries.push(self.entry.clone());
        for entry in &entries {
            save(context, entry).map_err(|error| {
                let message =
                    format!("the record of the run could not be stored: {error}; the next run tries it again");
                Problem::new("repository", message, error.kind())
            })?;
            if let Some(history) = &mut self.history {
                // Otherwise the next run finds out that it is there.
                let _ = history.sealed(entry.id);
            }
        }
        self.entry.is_sealed = true;
        Ok(())
    }
}

/// So long without a snapshot, and the clock may be ahead: nothing is let go for its age.
const DOUBT_NS: i64 = 31 * 24 * 3600 * 1_000_000_000;

/// Why nothing is let go for its age tonight, if so: a clock that is years ahead would clear all.
fn doubt(outcome: &Outcome) -> Option<String> {
    let last_ns = outcome.last_received_ns().filter(|last_ns| now_ns().saturating_sub(*last_ns) > DOUBT_NS)?;
    Some(format!(
        "the last snapshot was received at {:.0}, long before what the clock says: if the clock is ahead, set it; nothing of the \
         history is let go tonight",
        due::local(last_ns)
    ))
}

/// Stores the record of an entry; one that is there is left as it is.
fn save(context: &Context, entry: &Entry) -> repo::Result<()> {
    let repository = &context.repository;
    let mut run = entry.to_run(&repository.machine().program);
    run.slot = Some(repository.slot());
    run.unverified = repository.keyring().is_write_only();
    match runs::save(repository, &mut run) {
        Err(error) if error.kind() == Kind::Exists => Ok(()),
        saved => saved,
    }
}

/// Takes the newest nights of this machine from the records in the repository; how many.
fn refill(history: &mut History, night: &Night<'_>, context: &Context) -> super::Result<u64> {
    let repository = &context.repository;
    let host = &repository.machine().host;
    let name = &night.profile.repository.name;
    let mut entries = Vec::new();
    runs::newest_first(repository, REFILL_RECORDS, &mut |run| {
        entries.extend(Entry::of_run(&run, name, repository.id()).filter(|entry| entry.host == *host));
        true
    })?;
    taken_in(history, &entries)
}

/// Takes all nights of these machines, or of all if none is named, from the records in a repository; how many were new.
pub fn rebuild(history: &mut History, name: &str, hosts: &[String], context: &Context) -> super::Result<u64> {
    let repository = &context.repository;
    let mut entries = Vec::new();
    runs::each(repository, &mut |run| {
        let entry = run.ok().and_then(|run| Entry::of_run(&run, name, repository.id()));
        entries.extend(entry.filter(|entry| hosts.is_empty() || hosts.contains(&entry.host)));
        Ok(())
    })?;
    entries.sort_by_key(|entry| (entry.begun_ns, entry.id));
    taken_in(history, &entries)
}

fn taken_in(history: &mut History, entries: &[Entry]) -> super::Result<u64> {
    history.take_in(entries).map_err(|error| super::Error::Said(error.kind(), error.to_string()))
}

fn ended(ended: &Ended) -> history::Outcome {
    match ended {
        Ended::Done | Ended::Skipped => history::Outcome::Done,
        Ended::Partial => history::Outcome::Partial,
        Ended::Damage => history::Outcome::Damage,
        Ended::Failed(Kind::Refused) => history::Outcome::Refused,
        Ended::Failed(Kind::Interrupted) => history::Outcome::Interrupted,
        Ended::Failed(_) => history::Outcome::Failed,
    }
}

fn phase(phase: &Phase) -> history::Phase {
    let figures: Figures = phase.figures.iter().map(|(name, value)| ((*name).to_owned(), *value)).collect();
    let kind = match phase.ended {
        Ended::Failed(kind) => Some(kind.name().to_owned()),
        Ended::Damage => Some(Kind::Damaged.name().to_owned()),
        Ended::Partial => Some(Kind::Source.name().to_owned()),
        Ended::Done | Ended::Skipped => None,
    };
    history::Phase {
        name: phase.name.to_owned(),
        outcome: phase.ended.name().to_owned(),
        kind,
        message: phase.message.clone(),
        duration_ms: phase.duration_ms,
        figures,
    }
}

fn problem(problem: &Problem) -> history::Problem {
    history::Problem { subject: problem.subject.clone(), message: problem.message.clone() }
}

/// A line for the run, one for each phase that was begun, and one for each earlier run that vanished.
fn lines(entry: &Entry, vanished: &[Entry]) -> Vec<Line> {
    let gone = vanished.iter().map(of_run);
    let phases = entry.phases.iter().filter(|phase| phase.outcome != "skipped").map(|phase| of_phase(entry, phase));
    gone.chain(phases).chain([of_run(entry)]).collect()
}

fn rfc3339(ns: i64) -> String {
    let at = Timestamp::from_nanosecond(i128::from(ns)).unwrap_or_default();
    at.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

fn of_run(entry: &Entry) -> Line {
    let first = entry
        .problems
        .first()
        .filter(|_| entry.outcome == history::Outcome::Refused)
        .map(|problem| problem.message.as_str());
    let figure = |name: &str| entry.figures.get(name);
    let details = Details {
        size: figure(figure::ADDED_BYTES),
        duration: entry.duration_ms().unwrap_or(0) as f64 / 1000.0,
        records: records(&entry.figures),
        profile: entry.profile.clone(),
        run: Some(entry.id.to_string()),
        snapshot: entry.snapshot.map(|id| id.to_string()),
        message: entry.trouble().or(first).unwrap_or_default().to_owned(),
    };
    Line {
        timestamp: rfc3339(entry.ended_ns.unwrap_or(entry.begun_ns)),
        operation: history::OPERATION.to_owned(),
        status: entry.outcome.name().to_owned(),
        details,
    }
}

fn of_phase(entry: &Entry, phase: &history::Phase) -> Line {
    let figure = |name: &str| phase.figures.get(name);
    let size = match phase.name.as_str() {
        "backup" => figure(figure::ADDED_BYTES),
        "prune" => figure(figure::FREED_BYTES),
        _ => figure(figure::READ_BYTES),
    };
    let details = Details {
        size,
        duration: phase.duration_ms as f64 / 1000.0,
        records: records(&phase.figures),
        profile: entry.profile.clone(),
        run: Some(entry.id.to_string()),
        snapshot: entry.snapshot.filter(|_| phase.name == "backup").map(|id| id.to_string()),
        message: phase.message.clone(),
    };
    Line {
        timestamp: rfc3339(entry.ended_ns.unwrap_or(entry.begun_ns)),
        operation: phase.name.clone(),
        status: phase.outcome.clone(),
        details,
    }
}

/// Rows where there are databases, or else what it was about: files, packs, snapshots.
fn records(figures: &Figures) -> Option<u64> {
    let names = [figure::ROWS, figure::FILES, figure::PACKS_READ, figure::REMOVED];
    names.iter().filter_map(|name| figures.get(name)).find(|count| *count > 0)
}
