//! `probe`: would a backup of these databases work?

use crate::cli::app::App;
use crate::cli::args::Probe as Given;
use crate::cli::error::Result;
use crate::cli::exit::Exit;
use crate::cli::print::human;
use crate::cli::terminal;
use crate::config::surroundings;
use crate::db::probe::{Check, Probe, Verdict};
use crate::db::{Surroundings, Watch, mysql, postgres};
use crate::ops::probe::{self, Options, Target};
use serde::Serialize;

#[derive(Serialize)]
struct JsonProbe {
    message_type: &'static str,
    /// Server and database.
    label: String,
    kind: &'static str,
    server: String,
    verdict: &'static str,
    /// How long it took to connect; null if nobody answered.
    latency_ms: Option<u64>,
    database_bytes: Option<u64>,
    estimate_bytes: Option<u64>,
    checks: Vec<JsonCheck>,
}

#[derive(Serialize)]
struct JsonCheck {
    name: &'static str,
    verdict: &'static str,
    message: String,
    remedy: String,
}

#[derive(Serialize)]
struct JsonRepository {
    message_type: &'static str,
    verdict: &'static str,
    checks: Vec<JsonCheck>,
}

#[derive(Serialize)]
struct JsonSummary {
    message_type: &'static str,
    verdict: &'static str,
    databases: usize,
    failed: usize,
    warnings: usize,
    estimate_bytes: u64,
}

/// Looks.
pub fn run(app: &App, given: &Given) -> Result<Exit> {
    let surroundings = surroundings();
    let targets: Vec<Target> = given.urls.iter().map(|url| target(url, &surroundings)).collect();
    let context = match &app.global.repository {
        Some(path) if !path.as_os_str().is_empty() => Some(app.context()?),
        _ => None,
    };
    if context.is_none() {
        terminal::heed_signals(&app.stop)
            .map_err(|source| crate::cli::error::Error::io("listen for signals", source))?;
    }
    let options = Options {
        max_parallel: given.max_parallel as usize,
        workers: given.workers,
        programs: given.programs.clone(),
        surroundings,
    };
    let watch = Watch { stop: app.stop.clone(), monitor: app.look.clone() };
    let probes = probe::probe(&targets, &options, &watch)?;
    let estimate = probes.iter().filter_map(|probe| probe.estimate_bytes).fold(0, u64::saturating_add);
    let repository = context.map(|context| probe::repository(&context, estimate)).unwrap_or_default();
    app.look.finish();
    let worst = probes.iter().map(Probe::verdict).chain(repository.iter().map(|check| check.verdict)).max();
    let worst = worst.unwrap_or(Verdict::Ok);
    match app.out.is_json() {
        true => print_json(app, &probes, &repository, worst, estimate),
        false => print_text(app, &probes, &repository, worst),
    }
    Ok(if worst == Verdict::Failed { Exit::Failed } else { Exit::Done })
}

/// What a word on the command line means. A URL that cannot be understood is a failure of its own.
fn target(text: &str, surroundings: &Surroundings) -> Target {
    let is_mysql = mysql::address::is_url(text);
    // Passwords may stand before the `@`: the place behind it names the database well enough.
    let label = || text.rsplit(['@', '/']).next().unwrap_or(text).to_owned();
    let parsed = match is_mysql {
        true => mysql::Address::parse(text, surroundings).map(|address| Target::Mysql(Box::new(address))),
        false => postgres::Address::parse(text, surroundings).map(|address| Target::Postgres(Box::new(address))),
    };
    parsed.unwrap_or_else(|error| Target::Unknown(label(), error))
}

fn json_check(check: &Check) -> JsonCheck {
    JsonCheck {
        name: check.name,
        verdict: check.verdict.name(),
        message: check.message.clone(),
        remedy: check.remedy.clone(),
    }
}

fn worst_of(checks: &[Check]) -> Verdict {
    checks.iter().map(|check| check.verdict).max().unwrap_or(Verdict::Ok)
}

fn print_json(app: &App, probes: &[Probe], repository: &[Check], worst: Verdict, estimate_bytes: u64) {
    for probe in probes {
        app.out.object(&JsonProbe {
            message_type: "probe",
            label: probe.label.clone(),
            kind: probe.kind,
            server: probe.server.clone(),
            verdict: probe.verdict().name(),
            latency_ms: probe.latency.map(|latency| latency.as_millis() as u64),
            database_bytes: probe.database_bytes,
            estimate_bytes: probe.estimate_bytes,
            checks: probe.checks.iter().map(json_check).collect(),
        });
    }
    if !repository.is_empty() {
        let checks = repository.iter().map(json_check).collect();
        let verdict = worst_of(repository).name();
        app.out.object(&JsonRepository { message_type: "probe_repository", verdict, checks });
    }
    let all = || probes.iter().flat_map(|probe| &probe.checks).chain(repository);
    let count = |verdict: Verdict| all().filter(|check| check.verdict == verdict).count();
    app.out.object(&JsonSummary {
        message_type: "probe_summary",
        verdict: worst.name(),
        databases: probes.len(),
        failed: count(Verdict::Failed),
        warnings: count(Verdict::Warning),
        estimate_bytes,
    });
}

fn print_text(app: &App, probes: &[Probe], repository: &[Check], worst: Verdict) {
    for probe in probes {
        let server = if probe.server.is_empty() { "nobody could be asked" } else { &probe.server };
        app.out.line(format!("{}: {}", text(&probe.label), text(server)));
        probe.checks.iter().for_each(|check| print_check(app, check));
        app.out.line("");
    }
    if !repository.is_empty() {
        app.out.line("repository");
        repository.iter().for_each(|check| print_check(app, check));
        app.out.line("");
    }
    app.out.line(match worst {
        Verdict::Ok => "all is well: a backup will work",
        Verdict::Warning => "a backup will work; look at the warnings",
        Verdict::Failed => "a backup would fail or lack something",
    });
}

fn print_check(app: &App, check: &Check) {
    app.out.line(format!("  {:<8} {:<16} {}", check.verdict.name(), check.name, text(&check.message)));
    if !check.remedy.is_empty() {
        app.out.line(format!("  {:<8} {:<16} remedy: {}", "", "", text(&check.remedy)));
    }
}

fn text(text: &str) -> String {
    human::name(text.as_bytes())
}
