//! `run`: a night of a profile.

use crate::base::Kind;
use crate::cli::app::App;
use crate::cli::args::{Alone, Run, StartedBy};
use crate::cli::error::{Error, Result};
use crate::cli::exit::Exit;
use crate::cli::print::json::{JsonProblem, JsonSnapshot, problems};
use crate::cli::print::{human, table};
use crate::cli::{secrets, terminal};
use crate::config::{self, Config};
use crate::job;
use crate::job::extent::{Extent, Task};
use crate::job::night::{self, By, Ended, Night, Outcome, Phase};
use serde::Serialize;
use std::collections::BTreeMap;

/// Problems of a phase that JSON shows.
const SHOWN: usize = 100;

#[derive(Serialize)]
struct JsonRun<'a> {
    message_type: &'static str,
    profile: &'a str,
    /// `schedule` or `hand`.
    by: &'static str,
    /// `done`, `partial`, `damage` or `failed`, as the gravest of its phases.
    outcome: &'static str,
    snapshot: Option<JsonSnapshot>,
    phases: Vec<JsonPhase<'a>>,
    duration_ms: u64,
    /// Its id in the history and in the log of the repository.
    run: Option<String>,
    /// Earlier runs that were killed, for which this one makes up.
    vanished: Vec<JsonVanished>,
    /// What could not be written down of it, which cost the backup nothing.
    unwritten: Vec<JsonProblem>,
}

#[derive(Serialize)]
struct JsonVanished {
    run: String,
    begun: String,
}

#[derive(Serialize)]
struct JsonPhase<'a> {
    name: &'static str,
    /// `done`, `partial`, `damage`, `failed` or `skipped`.
    outcome: &'static str,
    message: &'a str,
    figures: BTreeMap<&'static str, u64>,
    problems: Vec<JsonProblem>,
    duration_ms: u64,
}

/// Runs a night.
pub fn run(app: &App, given: &Run) -> Result<Exit> {
    let config = Config::load(&app.global.config)?;
    let (profile, channels) = (config.profile(&given.name)?, config.channels());
    config.exposed().iter().for_each(|exposed| app.look.note(&exposed.message));
    let by = match given.by {
        StartedBy::Schedule => By::Schedule,
        StartedBy::Hand => By::Hand,
    };
    let open = || app.context().map_err(lowered);
    // From here on a signal leaves an entry that says so; but while a password is typed, Ctrl-C simply ends the program.
    if secrets::is_given(&app.global) {
        terminal::heed_signals(&app.stop).map_err(|source| Error::io("listen for signals", source))?;
    }
    let night = Night {
        config: &config,
        profile: &profile,
        channels: &channels,
        by,
        extent: extent(given),
        reach: &app.reach()?,
        open: &open,
        surroundings: &config::surroundings(),
        user: config::user_name(),
    };
    let outcome = night::run(&night)?;
    app.look.finish();
    match app.out.is_json() {
        true => print_json(app, &given.name, by, &outcome),
        false => print_text(app, &given.name, by, &outcome),
    }
    Ok(exit(&outcome))
}

fn extent(given: &Run) -> Extent {
    let task = |alone: &Alone| match alone {
        Alone::Verify => Task::Verify,
        Alone::Drill => Task::Drill,
    };
    let mut tasks: Vec<Task> = given.only.iter().map(task).collect();
    // In the order of a night, each once.
    tasks.sort_by_key(|task| *task == Task::Drill);
    tasks.dedup();
    if tasks.is_empty() { Extent::Night { whole: given.whole } } else { Extent::Only(tasks) }
}

/// The exit code of a night.
fn exit(outcome: &Outcome) -> Exit {
    match outcome.ended() {
        Ended::Done | Ended::Skipped => Exit::Done,
        Ended::Partial => Exit::Partial,
        Ended::Damage => Exit::Damage,
        Ended::Failed(kind) => Exit::of(kind),
    }
}

/// A failure of the front door as one of a job.
fn lowered(error: Error) -> job::Error {
    match error {
        Error::Ops(error) => job::Error::Ops(error),
        Error::Config(error) => job::Error::Config(error),
        Error::Said(kind, text) => job::Error::Said(kind, text),
        Error::Closed => job::Error::Said(Kind::Interrupted, Error::Closed.to_string()),
    }
}

fn print_json(app: &App, profile: &str, by: By, outcome: &Outcome) {
    let phase = |phase: &'_ Phase| {
        let shown = &phase.problems[..phase.problems.len().min(SHOWN)];
        (phase.name, phase.ended.name(), phase.figures.iter().copied().collect(), problems(shown), phase.duration_ms)
    };
    let phases = outcome.phases.iter().map(|one| {
        let (name, outcome, figures, problems, duration_ms) = phase(one);
        JsonPhase { name, outcome, message: &one.message, figures, problems, duration_ms }
    });
    app.out.object(&JsonRun {
        message_type: "run",
        profile,
        by: by.name(),
        outcome: outcome.ended().name(),
        snapshot: outcome.snapshot.as_ref().map(JsonSnapshot::from),
        phases: phases.collect(),
        duration_ms: outcome.duration_ms,
        run: outcome.entry.as_ref().map(|entry| entry.id.to_string()),
        vanished: outcome
            .vanished
            .iter()
            .map(|gone| JsonVanished { run: gone.id.to_string(), begun: human::rfc3339(gone.begun_ns) })
            .collect(),
        unwritten: problems(&outcome.unwritten),
    });
}

fn print_text(app: &App, profile: &str, by: By, outcome: &Outcome) {
    let mut facts = vec![("profile", format!("{profile}, by {}", by.name()))];
    for phase in &outcome.phases {
        let message = human::name(phase.message.as_bytes());
        let said = match phase.ended {
            Ended::Skipped => format!("skipped: {message}"),
            _ => format!("{} in {:.1} s: {message}", phase.ended.name(), phase.duration_ms as f64 / 1000.0),
        };
        facts.push((phase.name, said));
    }
    for gone in &outcome.vanished {
        let said = format!("the run of {} was killed; this one makes up for it", human::time(gone.begun_ns));
        facts.push(("vanished", said));
    }
    for problem in &outcome.unwritten {
        facts.push(("unwritten", human::name(problem.message.as_bytes())));
    }
    table::facts(&app.out, &facts);
    let id = outcome.snapshot.as_ref().map(|snapshot| snapshot.id.short());
    let trouble = outcome.phases.iter().filter(|phase| !matches!(phase.ended, Ended::Done | Ended::Skipped));
    let trouble: Vec<&str> = trouble.map(|phase| phase.name).collect();
    let not_safe = match (trouble.as_slice(), &id) {
        ([], _) => "what changed since then".to_owned(),
        (trouble, Some(_)) => format!("what is said above of {}", trouble.join(", ")),
        (trouble, None) => format!("tonight's data: there is no new snapshot, see {}", trouble.join(", ")),
    };
    let (safe, next) = match &id {
        _ if outcome.phases.iter().any(|phase| phase.ended == Ended::Damage) => {
            ("what does not need the objects that are named above".to_owned(), "repair plan".to_owned())
        }
        Some(id) => (format!("snapshot {id} and what earlier runs stored"), format!("show {id}")),
        None => {
            let next = match outcome.ended() {
                Ended::Failed(Kind::NoRepository) => "health",
                Ended::Failed(Kind::Full) => "prune",
                _ => "snapshots",
            };
            ("what earlier runs stored".to_owned(), next.to_owned())
        }
    };
    app.close(&safe, &not_safe, &next);
}
