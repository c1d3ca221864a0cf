//! `log`: what was done, and whether nothing of it was taken away.

use super::{tell, tell_vanished};
use crate::base::{Clock, Timestamp};
use crate::cli::app::App;
use crate::cli::args::{Log, LogCommand, LogLocal, RunOutcome};
use crate::cli::error::{Error, Result};
use crate::cli::exit::Exit;
use crate::cli::print::human;
use crate::cli::print::json::{JsonProblem, problems};
use crate::cli::print::table::{self, Table};
use crate::config::Config;
use crate::format::run::{Outcome as Ended, Run};
use crate::history::operations::{self, Line};
use crate::ops::log::{self, Checked, Filter, Listing};
use crate::ops::select;
use serde::Serialize;
use std::collections::BTreeMap;

/// Findings that are shown to people; JSON has all that were kept.
const SHOWN: usize = 20;

/// What is shown as the size of an operation: the first of these that its record has.
const SIZES: [(&str, &str); 6] = [
    ("added_bytes", "added"),
    ("freed_bytes", "freed"),
    ("bytes_written", "written"),
    ("written_bytes", "written"),
    ("read_bytes", "read"),
    ("file_bytes", "restored"),
];

#[derive(Serialize)]
struct JsonEntry {
    message_type: &'static str,
    id: String,
    operation: String,
    host: String,
    begun: String,
    ended: String,
    duration_ms: u64,
    /// `done`, `failed`, `partial`, `damage`, `refused` or `interrupted`.
    outcome: &'static str,
    /// Its place in the order of its machine's records.
    sequence: u64,
    /// The records of its machine before it.
    previous: Vec<String>,
    session: Option<String>,
    /// The key slot that the repository was opened with.
    slot: Option<String>,
    snapshots: Vec<String>,
    figures: BTreeMap<String, u64>,
    problems: Vec<JsonProblem>,
    program: String,
}

#[derive(Serialize)]
struct JsonListed {
    message_type: &'static str,
    entries: u64,
    /// Older ones that are meant and not shown.
    older: u64,
    damaged: Vec<JsonProblem>,
}

#[derive(Serialize)]
struct JsonChecked {
    message_type: &'static str,
    entries: u64,
    machines: u64,
    /// Names by which entries were looked for.
    references: u64,
    damage: bool,
    finding_count: u64,
    findings: Vec<JsonFinding>,
    notes: Vec<String>,
}

#[derive(Serialize)]
struct JsonFinding {
    entry: String,
    /// `removed`, `altered` or `reordered`.
    wrong: &'static str,
    message: String,
}

/// Lists or verifies.
pub fn run(app: &App, given: &Log) -> Result<Exit> {
    match &given.command {
        Some(LogCommand::Verify) => verify(app),
        Some(LogCommand::Local(given)) => local(app, given),
        None => list(app, given),
    }
}

fn ended(outcome: RunOutcome) -> Ended {
    match outcome {
        RunOutcome::Done => Ended::Done,
        RunOutcome::Failed => Ended::Failed,
        RunOutcome::Partial => Ended::Partial,
        RunOutcome::Damage => Ended::Damage,
        RunOutcome::Refused => Ended::Refused,
        RunOutcome::Interrupted => Ended::Interrupted,
        RunOutcome::Vanished => Ended::Vanished,
    }
}

fn list(app: &App, given: &Log) -> Result<Exit> {
    let context = app.context()?;
    let filter = Filter {
        hosts: given.host.clone(),
        operations: given.operation.clone(),
        outcomes: given.outcome.iter().map(|outcome| ended(*outcome)).collect(),
        newer_than: given.newer_than.as_deref().map(select::parse_age).transpose()?,
    };
    let listing = log::list(&context, &filter, given.newest)?;
    app.look.finish();
    match app.out.is_json() {
        true => print_json(app, &listing),
        false => print_text(app, &listing),
    }
    tell_vanished(app);
    Ok(tell(app, &listing.damaged))
}

/// A line of the operation log.
#[derive(Serialize)]
struct JsonLine<'a> {
    message_type: &'static str,
    #[serde(flatten)]
    line: &'a Line,
}

/// The operation log of this machine.
fn local(app: &App, given: &LogLocal) -> Result<Exit> {
    let state = Config::load(&app.global.config)?.state();
    let log = state.log()?;
    let age = given.newer_than.as_deref().map(select::parse_age).transpose()?;
    let now_ns = i64::try_from(Clock::System.now().as_nanosecond()).unwrap_or(i64::MAX);
    let filter = operations::Filter {
        profiles: app.global.of_profile.iter().cloned().collect(),
        operations: given.operation.clone(),
        statuses: given.status.clone(),
        since: age.map(|age| Timestamp::from_nanosecond(i128::from(age.before(now_ns))).unwrap_or_default()),
        newest: given.newest,
    };
    let lines = log.lines(&filter).map_err(|error| Error::Said(error.kind(), error.to_string()))?;
    if app.out.is_json() {
        lines.iter().for_each(|line| app.out.object(&JsonLine { message_type: "operation", line }));
        return Ok(Exit::Done);
    }
    let mut table = Table::new(&["Time", "Profile", "Operation", "Status", ">Took", ">Size", ">Records", "Message"]);
    for line in &lines {
        let details = &line.details;
        let name = |text: &str| human::name(text.as_bytes());
        table.row(vec![
            name(&line.timestamp),
            name(&details.profile),
            name(&line.operation),
            name(&line.status),
            format!("{:.1} s", details.duration),
            details.size.map_or(String::new(), human::bytes),
            details.records.map_or(String::new(), human::count),
            name(&details.message),
        ]);
    }
    if !lines.is_empty() {
        table.print(&app.out);
        app.out.line("");
    }
    app.out.line(format!("{} in {}", human::counted(lines.len() as u64, "line"), log.path.display()));
    Ok(Exit::Done)
}

fn duration_ms(run: &Run) -> u64 {
    u64::try_from(run.ended_ns.saturating_sub(run.begun_ns) / 1_000_000).unwrap_or(0)
}

fn print_json(app: &App, listing: &Listing) {
    for run in &listing.runs {
        let figures = run.figures.iter().map(|figure| (figure.name.clone(), figure.value));
        app.out.object(&JsonEntry {
            message_type: "log_entry",
            id: run.id.to_string(),
            operation: run.operation.clone(),
            host: run.host.clone(),
            begun: human::rfc3339(run.begun_ns),
            ended: human::rfc3339(run.ended_ns),
            duration_ms: duration_ms(run),
            outcome: run.outcome.name(),
            sequence: run.sequence,
            previous: run.previous.iter().map(|previous| previous.id.to_string()).collect(),
            session: run.session.map(|session| session.to_string()),
            slot: run.slot.map(|slot| slot.to_string()),
            snapshots: run.snapshots.iter().map(ToString::to_string).collect(),
            figures: figures.collect(),
            problems: run.problems.iter().map(JsonProblem::from).collect(),
            program: run.program.clone(),
        });
    }
    let (entries, damaged) = (listing.runs.len() as u64, problems(&listing.damaged));
    app.out.object(&JsonListed { message_type: "log", entries, older: listing.older, damaged });
}

fn size(run: &Run) -> String {
    let figure = |name: &str| run.figures.iter().find(|figure| figure.name == name);
    let found = SIZES.iter().find_map(|(name, word)| Some((figure(name)?.value, word)));
    found.map_or(String::new(), |(bytes, word)| format!("{} {word}", human::bytes(bytes)))
}

fn print_text(app: &App, listing: &Listing) {
    let mut table = Table::new(&["Time", "Host", ">No", "Operation", "Outcome", ">Took", "Size", "ID"]);
    for run in &listing.runs {
        table.row(vec![
            human::time(run.begun_ns),
            human::name(run.host.as_bytes()),
            run.sequence.to_string(),
            human::name(run.operation.as_bytes()),
            run.outcome.name().to_owned(),
            format!("{:.1} s", duration_ms(run) as f64 / 1000.0),
            size(run),
            run.id.short(),
        ]);
    }
    if !listing.runs.is_empty() {
        table.print(&app.out);
        app.out.line("");
    }
    let older = match listing.older {
        0 => String::new(),
        older => format!(", and {} older: see --newest", human::count(older)),
    };
    app.out.line(format!("{}{older}", human::counted(listing.runs.len() as u64, "operation")));
    app.out.line("");
    app.out.line(format!("next      {}", app.command("log verify")));
}

fn verify(app: &App) -> Result<Exit> {
    let context = app.context()?;
    let checked = log::verify(&context)?;
    app.look.finish();
    match app.out.is_json() {
        true => print_checked_json(app, &checked),
        false => print_checked(app, &checked),
    }
    Ok(if checked.finding_count > 0 { Exit::Damage } else { Exit::Done })
}

fn print_checked_json(app: &App, checked: &Checked) {
    let finding = |finding: &log::Finding| JsonFinding {
        entry: finding.entry.to_string(),
        wrong: finding.wrong.name(),
        message: finding.message.clone(),
    };
    app.out.object(&JsonChecked {
        message_type: "log_verify",
        entries: checked.entries,
        machines: checked.machines,
        references: checked.references,
        damage: checked.finding_count > 0,
        finding_count: checked.finding_count,
        findings: checked.findings.iter().map(finding).collect(),
        notes: checked.notes.clone(),
    });
}

fn print_checked(app: &App, checked: &Checked) {
    table::facts(
        &app.out,
        &[
            (
                "checked",
                format!(
                    "{} of {}, {}",
                    human::counted(checked.entries, "record"),
                    human::counted(checked.machines, "machine"),
                    human::counted(checked.references, "reference")
                ),
            ),
            (
                "wrong",
                match checked.finding_count {
                    0 => "nothing".to_owned(),
                    count => human::counted(count, "record"),
                },
            ),
        ],
    );
    for finding in checked.findings.iter().take(SHOWN) {
        let message = human::name(finding.message.as_bytes());
        app.out.line(format!("  record {} was {}: {message}", finding.entry, finding.wrong.name()));
    }
    let rest = checked.finding_count.saturating_sub(checked.findings.len().min(SHOWN) as u64);
    if rest > 0 {
        app.out.line(format!("  and {} more", human::count(rest)));
    }
    checked.notes.iter().for_each(|note| app.look.note(&human::name(note.as_bytes())));
    match checked.finding_count {
        0 => app.close(
            "every record that another one, a snapshot or this machine names is there as it was",
            "the newest record of each machine, which nobody names yet",
            "log",
        ),
        _ => app.close(
            "the records that are not named above",
            "what was done in the runs named above: somebody who can write to the store changed the log",
            "log",
        ),
    }
}
