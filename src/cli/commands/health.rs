//! `health`: how things stand.

use crate::cli::app::App;
use crate::cli::args::Health;
use crate::cli::error::Result;
use crate::cli::exit::Exit;
use crate::cli::print::human;
use crate::cli::print::table::Table;
use crate::config::meant::Profile;
use crate::config::{self, Config};
use crate::db::probe::Check;
use crate::history::{Entry, Filter, History, is_believed};
use crate::job::health::{self, ALL, Facts, Overall};
use crate::job::night;
use serde::Serialize;
use std::env;

/// So many of the last runs are looked at.
const RUNS: usize = 400;

#[derive(Serialize)]
struct JsonHealth<'a> {
    message_type: &'static str,
    profile: &'a str,
    repository: &'a str,
    /// `ok`, `warning` or `critical`.
    status: &'static str,
    checks: Vec<JsonCheck<'a>>,
}

#[derive(Serialize)]
struct JsonCheck<'a> {
    name: &'static str,
    /// `ok`, `warning` or `critical`.
    status: &'static str,
    message: &'a str,
    remedy: &'a str,
}

#[derive(Serialize)]
struct JsonOverall {
    message_type: &'static str,
    /// `ok`, `warning` or `critical`.
    status: &'static str,
}

/// Looks at one profile or at all.
pub fn run(app: &App, given: &Health) -> Result<Exit> {
    let config = Config::load(&app.global.config)?;
    let name = given.name.as_deref().or(app.global.of_profile.as_deref());
    let names: Vec<&str> = name.map_or_else(|| config.profiles(), |name| vec![name]);
    let mut overall = Overall::Ok;
    for name in names {
        let profile = config.profile(name)?;
        let checks = look(app, &profile);
        overall = overall.max(Overall::of(&checks));
        app.look.finish();
        match app.out.is_json() {
            true => print_json(app, &profile, &checks),
            false => print_text(app, &profile, &checks),
        }
    }
    match app.out.is_json() {
        true => app.out.object(&JsonOverall { message_type: "health", status: overall.name() }),
        false => app.out.line(format!("overall   {}", overall.name())),
    }
    Ok(match overall {
        Overall::Ok => Exit::Done,
        Overall::Warning => Exit::Warning,
        Overall::Critical => Exit::Critical,
    })
}

/// All looks at a profile. A repository that does not open is one of their answers.
fn look(app: &App, profile: &Profile) -> Vec<Check> {
    let opened = app.of_profile(&profile.name).and_then(|app| app.context());
    let context = match opened {
        Ok(context) => context,
        Err(error) => {
            let message = format!("it cannot be opened: {error}");
            return vec![Check::failed("repository", message, "look whether it is reachable, and what opens it")];
        }
    };
    let snapshots = match night::snapshots_of(profile, &context) {
        Ok(snapshots) => snapshots,
        Err(error) => {
            let message = format!("its snapshots cannot be listed: {error}");
            return vec![Check::failed("repository", message, "run `keepstone verify`")];
        }
    };
    let of_profile = Filter { profiles: vec![profile.name.clone()], newest: Some(RUNS), ..Filter::default() };
    let filter = of_profile.clone().believed(context.repository.now_ns());
    let mut checks = Vec::new();
    let history = profile.state.folder.as_deref().map(History::read).transpose();
    let entries = history.and_then(|history| {
        let Some(history) = history.flatten() else { return Ok(None) };
        let to_come = history.entries(&of_profile)?.pop();
        checks.extend(to_come.filter(|entry| !is_believed(entry.begun_ns, context.repository.now_ns())).map(ahead));
        history.entries(&filter).map(Some)
    });
    let entries = entries.unwrap_or_else(|error| {
        let remedy = "the next run moves it aside and makes it anew; or run `keepstone history rebuild`";
        checks.push(Check::warning("history", error.to_string(), remedy));
        None
    });
    let facts = Facts {
        profile,
        context: &context,
        now_ns: context.repository.now_ns(),
        snapshots: &snapshots,
        entries: &entries.unwrap_or_default(),
        surroundings: &config::surroundings(),
        temp_dir: &env::temp_dir(),
    };
    checks.extend(health::all(ALL, &facts));
    checks
}

/// A run from the future.
fn ahead(entry: Entry) -> Check {
    let message = format!(
        "run {} says that it began at {}: a clock was ahead, and it counts for nothing until then",
        entry.id.short(),
        human::time(entry.begun_ns)
    );
    Check::warning("history", message, "look whether the clock is right now")
}

fn status(check: &Check) -> &'static str {
    Overall::of([check]).name()
}

fn print_json<'c>(app: &App, profile: &Profile, checks: &'c [Check]) {
    let json = |check: &'c Check| {
        let Check { name, message, remedy, .. } = check;
        JsonCheck { name, status: status(check), message, remedy }
    };
    app.out.object(&JsonHealth {
        message_type: "health_profile",
        profile: &profile.name,
        repository: &profile.repository.name,
        status: Overall::of(checks).name(),
        checks: checks.iter().map(json).collect(),
    });
}

fn print_text(app: &App, profile: &Profile, checks: &[Check]) {
    let name = |text: &str| human::name(text.as_bytes());
    app.out.line(format!(
        "{} in {}: {}",
        name(&profile.name),
        name(&profile.repository.name),
        Overall::of(checks).name()
    ));
    let mut table = Table::new(&["Check", "Status", "Seen"]);
    for check in checks {
        let remedy = if check.remedy.is_empty() { String::new() } else { format!("; {}", name(&check.remedy)) };
        table.row(vec![check.name.to_owned(), status(check).to_owned(), format!("{}{remedy}", name(&check.message))]);
    }
    table.print(&app.out);
    app.out.line("");
}
