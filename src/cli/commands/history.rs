//! `history`: what became of the runs of profiles on this machine.

use crate::base::clock::TimeZone;
use crate::base::{Clock, Machine};
use crate::cli::app::App;
use crate::cli::args::{Ended, History as Given, HistoryCommand};
use crate::cli::error::{Error, Result};
use crate::cli::exit::Exit;
use crate::cli::print::human;
use crate::cli::print::table::{self, Table};
use crate::config::Config;
use crate::history::{self, Entry, Figures, Filter, History, Outcome, figure};
use crate::job;
use crate::ops::select;
use serde::Serialize;
use std::collections::BTreeSet;
use std::path::PathBuf;

/// Runs that are listed unless somebody wants more.
const LISTED: usize = 50;
/// Entries that a few digits may mean and that are named.
const LIKE: usize = 5;
/// Problems and tables that are shown to people; JSON has all that are kept.
const SHOWN: usize = 20;

#[derive(Serialize)]
struct JsonEntry<'a> {
    message_type: &'static str,
    id: String,
    profile: &'a str,
    repository: &'a str,
    host: &'a str,
    /// `schedule` or `hand`.
    by: &'static str,
    begun: String,
    ended: Option<String>,
    duration_ms: Option<u64>,
    /// `running`, `done`, `partial`, `damage`, `failed`, `refused`, `interrupted` or `vanished`.
    outcome: &'static str,
    snapshot: Option<String>,
    phases: &'a [history::Phase],
    figures: &'a Figures,
    ratios: JsonRatios,
    problems: &'a [history::Problem],
    problem_count: u64,
    tables: Vec<JsonTable<'a>>,
    /// Whether the repository has it too.
    sealed: bool,
}

#[derive(Serialize)]
struct JsonRatios {
    dedup: Option<f64>,
    delta: Option<f64>,
    compression: Option<f64>,
    savings: Option<f64>,
}

#[derive(Serialize)]
struct JsonTable<'a> {
    source: &'a str,
    name: &'a str,
    rows: u64,
    bytes: u64,
}

#[derive(Serialize)]
struct JsonDay<'a> {
    message_type: &'static str,
    date: &'a str,
    runs: u64,
    done: u64,
    partial: u64,
    failed: u64,
    duration_ms: u64,
    content_bytes: u64,
    added_bytes: u64,
    freed_bytes: u64,
    repository_bytes: u64,
}

#[derive(Serialize)]
struct JsonRebuilt<'a> {
    message_type: &'static str,
    repository: &'a str,
    /// Runs that the history did not have.
    runs: u64,
}

/// Lists, shows or rebuilds.
pub fn run(app: &App, given: &Given) -> Result<Exit> {
    match &given.command {
        None if given.days => days(app, given),
        None => list(app, given),
        Some(HistoryCommand::Show { id }) => show(app, id),
        Some(HistoryCommand::Rebuild { host }) => rebuild(app, host),
    }
}

fn failed(error: history::Error) -> Error {
    Error::Said(error.kind(), error.to_string())
}

fn now_ns() -> i64 {
    i64::try_from(Clock::System.now().as_nanosecond()).unwrap_or(i64::MAX)
}

fn folder(config: &Config) -> Result<PathBuf> {
    Ok(config.state().place()?.to_owned())
}

/// The history of this machine; none if nothing was run yet.
fn open(app: &App) -> Result<Option<History>> {
    History::read(&folder(&Config::load(&app.global.config)?)?).map_err(failed)
}

fn outcome(ended: Ended) -> Outcome {
    match ended {
        Ended::Running => Outcome::Running,
        Ended::Done => Outcome::Done,
        Ended::Partial => Outcome::Partial,
        Ended::Damage => Outcome::Damage,
        Ended::Failed => Outcome::Failed,
        Ended::Refused => Outcome::Refused,
        Ended::Interrupted => Outcome::Interrupted,
        Ended::Vanished => Outcome::Vanished,
    }
}

fn filter(app: &App, given: &Given) -> Result<Filter> {
    let age = given.newer_than.as_deref().map(select::parse_age).transpose()?;
    Ok(Filter {
        profiles: app.global.of_profile.iter().cloned().collect(),
        outcomes: given.outcome.iter().map(|ended| outcome(*ended)).collect(),
        since_ns: age.map(|age| age.before(now_ns())),
        newest: given.newest,
        ..Filter::default()
    })
}

fn list(app: &App, given: &Given) -> Result<Exit> {
    let mut filter = filter(app, given)?;
    filter.newest = filter.newest.or(Some(LISTED));
    filter.tables = app.out.is_json();
    let entries = open(app)?.map(|history| history.entries(&filter)).transpose().map_err(failed)?.unwrap_or_default();
    if app.out.is_json() {
        entries.iter().for_each(|entry| app.out.object(&json(entry)));
        return Ok(Exit::Done);
    }
    let mut table = Table::new(&["Begun", "Profile", "By", "Outcome", ">Took", ">Content", ">Added", "Snapshot", "ID"]);
    for entry in &entries {
        let bytes = |name: &str| entry.figures.get(name).map_or(String::new(), human::bytes);
        table.row(vec![
            human::time(entry.begun_ns),
            human::name(entry.profile.as_bytes()),
            entry.by.name().to_owned(),
            entry.outcome.name().to_owned(),
            entry.duration_ms().map_or(String::new(), seconds),
            bytes(figure::CONTENT_BYTES),
            bytes(figure::ADDED_BYTES),
            entry.snapshot.map_or(String::new(), |id| id.short()),
            entry.id.short(),
        ]);
    }
    if !entries.is_empty() {
        table.print(&app.out);
        app.out.line("");
    }
    app.out.line(human::counted(entries.len() as u64, "run"));
    if let Some(newest) = entries.last() {
        app.out.line("");
        app.out.line(format!("next      {}", app.config_command(&format!("history show {}", newest.id.short()))));
    }
    Ok(Exit::Done)
}

fn seconds(ms: u64) -> String {
    format!("{:.1} s", ms as f64 / 1000.0)
}

fn days(app: &App, given: &Given) -> Result<Exit> {
    let filter = filter(app, given)?;
    let history = open(app)?;
    let days = history.map(|history| history.days(&filter, &TimeZone::system())).transpose();
    let days = days.map_err(failed)?.unwrap_or_default();
    if app.out.is_json() {
        for day in &days {
            let history::Day { runs, done, partial, failed, duration_ms, content_bytes, .. } = *day;
            let history::Day { added_bytes, freed_bytes, repository_bytes, .. } = *day;
            let (message_type, date) = ("day", day.date.as_str());
            let object = JsonDay {
                message_type,
                date,
                runs,
                done,
                partial,
                failed,
                duration_ms,
                content_bytes,
                added_bytes,
                freed_bytes,
                repository_bytes,
            };
            app.out.object(&object);
        }
        return Ok(Exit::Done);
    }
    let mut table = Table::new(&["Day", ">Runs", ">Done", ">Partial", ">Failed", ">Took", ">Added", ">Freed", ">Held"]);
    for day in &days {
        table.row(vec![
            day.date.clone(),
            human::count(day.runs),
            human::count(day.done),
            human::count(day.partial),
            human::count(day.failed),
            seconds(day.duration_ms),
            human::bytes(day.added_bytes),
            human::bytes(day.freed_bytes),
            human::bytes(day.repository_bytes),
        ]);
    }
    if !days.is_empty() {
        table.print(&app.out);
        app.out.line("");
    }
    app.out.line(human::counted(days.len() as u64, "day"));
    Ok(Exit::Done)
}

fn show(app: &App, digits: &str) -> Result<Exit> {
    let found = open(app)?.map(|history| history.find(digits, LIKE)).transpose().map_err(failed)?.unwrap_or_default();
    match found.as_slice() {
        [entry] if app.out.is_json() => app.out.object(&json(entry)),
        [entry] => print(app, entry),
        [] => {
            let text = format!("there is no run {digits} in the history: `keepstone history` lists them");
            return Err(Error::Said(crate::base::Kind::NotFound, text));
        }
        several => {
            let ids: Vec<String> = several.iter().map(|entry| entry.id.to_string()).collect();
            return Err(Error::usage(format!("{digits} may mean {}: write more digits", ids.join(", "))));
        }
    }
    Ok(Exit::Done)
}

fn json(entry: &Entry) -> JsonEntry<'_> {
    let ratios = entry.figures.ratios();
    JsonEntry {
        message_type: "history_entry",
        id: entry.id.to_string(),
        profile: &entry.profile,
        repository: &entry.repository,
        host: &entry.host,
        by: entry.by.name(),
        begun: human::rfc3339(entry.begun_ns),
        ended: entry.ended_ns.map(human::rfc3339),
        duration_ms: entry.duration_ms(),
        outcome: entry.outcome.name(),
        snapshot: entry.snapshot.map(|id| id.to_string()),
        phases: &entry.phases,
        figures: &entry.figures,
        ratios: JsonRatios {
            dedup: ratios.dedup,
            delta: ratios.delta,
            compression: ratios.compression,
            savings: ratios.savings,
        },
        problems: &entry.problems,
        problem_count: entry.problem_count,
        tables: entry
            .tables
            .iter()
            .map(|table| JsonTable { source: &table.source, name: &table.name, rows: table.rows, bytes: table.bytes })
            .collect(),
        sealed: entry.is_sealed,
    }
}

fn print(app: &App, entry: &Entry) {
    let name = |text: &str| human::name(text.as_bytes());
    let bytes = |figure: &str| entry.figures.get(figure).map(human::bytes);
    let time = |figure: &str| entry.figures.get(figure).map(seconds);
    let ratios = entry.figures.ratios();
    let times = |ratio: Option<f64>| ratio.map(|ratio| format!("{ratio:.1} times"));
    let sealed = if entry.is_sealed { "in the history and in the repository" } else { "in the history only" };
    let mut facts = vec![
        ("run", entry.id.to_string()),
        ("profile", format!("{}, by {}, on {}", name(&entry.profile), entry.by.name(), name(&entry.host))),
        ("repository", name(&entry.repository)),
        ("begun", human::time(entry.begun_ns)),
        ("outcome", entry.outcome.name().to_owned()),
        ("written", sealed.to_owned()),
    ];
    let known = [
        ("took", entry.duration_ms().map(seconds)),
        ("snapshot", entry.snapshot.map(|id| id.to_string())),
        ("content", bytes(figure::CONTENT_BYTES)),
        ("read", bytes(figure::READ_BYTES)),
        ("new", bytes(figure::NEW_BYTES)),
        ("added", bytes(figure::ADDED_BYTES)),
        ("dedup", times(ratios.dedup)),
        ("delta", times(ratios.delta)),
        ("compression", times(ratios.compression)),
        ("memory", bytes(figure::PEAK_MEMORY_BYTES)),
        ("encryption", time(figure::SEAL_MS)),
        ("upload", time(figure::UPLOAD_MS)),
        ("free before", bytes(figure::REPOSITORY_FREE_BEFORE_BYTES)),
        ("free after", bytes(figure::REPOSITORY_FREE_AFTER_BYTES)),
        ("paused", time(figure::PAUSED_MS)),
    ];
    facts.extend(known.into_iter().filter_map(|(what, value)| Some((what, value?))));
    table::facts(&app.out, &facts);
    if !entry.phases.is_empty() {
        app.out.line("");
        let mut table = Table::new(&["Phase", "Outcome", ">Took", "Message"]);
        for phase in &entry.phases {
            table.row(vec![name(&phase.name), name(&phase.outcome), seconds(phase.duration_ms), name(&phase.message)]);
        }
        table.print(&app.out);
    }
    if !entry.tables.is_empty() {
        app.out.line("");
        let mut tables: Vec<_> = entry.tables.iter().collect();
        tables.sort_by_key(|table| std::cmp::Reverse(table.bytes));
        let mut shown = Table::new(&["Table", ">Rows", ">Size", "Dump"]);
        for table in tables.iter().take(SHOWN) {
            shown.row(vec![
                name(&table.name),
                human::count(table.rows),
                human::bytes(table.bytes),
                name(&table.source),
            ]);
        }
        shown.print(&app.out);
        rest(app, tables.len() as u64);
    }
    if !entry.problems.is_empty() {
        app.out.line("");
        for problem in entry.problems.iter().take(SHOWN) {
            app.out.line(format!("  {}: {}", name(&problem.subject), name(&problem.message)));
        }
        rest(app, entry.problem_count);
    }
}

fn rest(app: &App, all: u64) {
    let rest = all.saturating_sub(SHOWN as u64);
    if rest > 0 {
        app.out.line(format!("  and {} more: see --json", human::count(rest)));
    }
}

/// Reads the records of one repository for each that is meant.
fn rebuild(app: &App, hosts: &[String]) -> Result<Exit> {
    let config = Config::load(&app.global.config)?;
    let folder = folder(&config)?;
    let (mut history, opened) = History::open(&folder, now_ns()).map_err(failed)?;
    if let Some(moved) = &opened.moved {
        app.look.note(moved);
    }
    let own = [Machine::this().host];
    let hosts = if hosts.is_empty() { &own } else { hosts };
    let mut seen = BTreeSet::new();
    let profiles: Vec<&str> = match &app.global.of_profile {
        Some(name) => vec![name],
        None => config.profiles(),
    };
    for name in profiles {
        let repository = config.profile(name)?.repository.name;
        if !seen.insert(repository.clone()) {
            continue;
        }
        let context = app.of_profile(name)?.context()?;
        let runs = job::rebuild(&mut history, &repository, hosts, &context)?;
        app.look.finish();
        match app.out.is_json() {
            true => app.out.object(&JsonRebuilt { message_type: "history_rebuild", repository: &repository, runs }),
            false => {
                let runs = human::counted(runs, "run");
                app.out.line(format!("{runs} from the records of {}", human::name(repository.as_bytes())));
            }
        }
    }
    if !app.out.is_json() {
        app.out.line("");
        app.out.line(format!("next      {}", app.config_command("history")));
    }
    Ok(Exit::Done)
}
