//! `drill`: a snapshot restored for a moment and compared.

use super::filter;
use super::restore_database::{JsonStep, seconds};
use crate::cli::app::App;
use crate::cli::args::Drill;
use crate::cli::error::{Error, Result};
use crate::cli::exit::Exit;
use crate::cli::print::json::path_pair;
use crate::cli::print::{human, table};
use crate::cli::scratch::scratch;
use crate::config::meant::{self, Family, Link};
use crate::config::surroundings;
use crate::db::mysql::address as mysql_address;
use crate::format::snapshot::Snapshot;
use crate::job::build;
use crate::ops::drill::{self, Back, DatabaseDrill, Difference, Ended, FilesDrill, Outcome, Sample};
use crate::ops::select;
use serde::Serialize;

/// The most differences that are printed one by one.
const TOLD: usize = 20;

#[derive(Serialize)]
struct JsonDrill<'a> {
    message_type: &'static str,
    snapshot: String,
    /// `same`, `different` or `failed`.
    outcome: &'static str,
    databases: Vec<JsonDatabase<'a>>,
    files: Option<JsonFiles<'a>>,
    /// Databases that earlier drills left behind, dropped now.
    swept: &'a [String],
    difference_count: u64,
    /// Databases that did not come back.
    failed: u64,
    duration_ms: u64,
    notes: &'a [String],
}

#[derive(Serialize)]
struct JsonDatabase<'a> {
    /// The dump's place in the snapshot.
    dump: String,
    database: &'a str,
    server: &'a str,
    outcome: &'static str,
    /// Why it did not come back.
    message: Option<&'a str>,
    tables: u64,
    rows: u64,
    /// Tables whose content was compared.
    checksums: u64,
    sequences: u64,
    /// How long the restore took: what to expect of a real one.
    restore_ms: u64,
    compare_ms: u64,
    steps: Vec<JsonStep<'a>>,
    difference_count: u64,
    differences: Vec<JsonDifference<'a>>,
    /// A database that could not be dropped.
    left_behind: Option<&'a str>,
    notes: &'a [String],
}

#[derive(Serialize)]
struct JsonFiles<'a> {
    of_files: u64,
    files: u64,
    content_bytes: u64,
    duration_ms: u64,
    difference_count: u64,
    differences: Vec<JsonDifference<'a>>,
}

#[derive(Serialize)]
struct JsonDifference<'a> {
    object: &'a str,
    message: &'a str,
}

impl<'a> From<&'a Difference> for JsonDifference<'a> {
    fn from(difference: &'a Difference) -> JsonDifference<'a> {
        JsonDifference { object: &difference.object, message: &difference.message }
    }
}

/// Tries a snapshot out.
pub fn run(app: &App, given: &Drill) -> Result<Exit> {
    let scratch = scratch(given.temp_dir.as_deref())?;
    let options = build::drill(&meant(given)?, &surroundings(), scratch.path(), &*app.look, Back::default())?;
    let context = app.context()?;
    let selected = select::select(&context, &given.snapshot, &filter(&given.filters))?;
    if selected.path.is_some() {
        return Err(Error::usage("name the snapshot without a path, and databases with --database"));
    }
    let outcome = drill::drill(&context, &selected.snapshot, &options)?;
    app.look.finish();
    match app.out.is_json() {
        true => print_json(app, &selected.snapshot, &outcome),
        false => print_text(app, &selected.snapshot, given, &outcome),
    }
    Ok(outcome.kind().map_or(Exit::Done, Exit::of))
}

/// The drill as it is meant.
fn meant(given: &Drill) -> Result<meant::Drill> {
    let mut servers: Vec<Link> = Vec::new();
    for url in &given.server {
        let family = if mysql_address::is_url(url) { Family::Mysql } else { Family::Postgres };
        if servers.iter().any(|other| other.family == family) {
            return Err(Error::usage("one server for each family is enough: --server is given twice for one"));
        }
        servers.push(Link { family, url: url.clone(), password: None, programs: given.programs.clone() });
    }
    Ok(meant::Drill {
        scenario: meant::Scenario::Whole,
        schedule: None,
        sample: if given.full { Sample::Full } else { Sample::Percent(given.sample) },
        files: !given.no_files && given.database.is_empty(),
        databases: given.database.clone(),
        allow_source_server: given.allow_source_server,
        jobs: usize::from(given.jobs),
        temp_dir: given.temp_dir.clone(),
        search_path: given.search_path.clone(),
        servers,
    })
}

fn word(ended: &Ended) -> &'static str {
    match ended {
        Ended::Same => "same",
        Ended::Different => "different",
        Ended::Failed { .. } => "failed",
    }
}

fn message(ended: &Ended) -> Option<&str> {
    match ended {
        Ended::Failed { message, .. } => Some(message),
        _ => None,
    }
}

/// How the whole ended.
fn whole(outcome: &Outcome) -> &'static str {
    match (outcome.difference_count, outcome.failed) {
        (1.., _) => "different",
        (0, 1..) => "failed",
        (0, 0) => "same",
    }
}

fn print_json(app: &App, snapshot: &Snapshot, outcome: &Outcome) {
    app.out.object(&JsonDrill {
        message_type: "drill",
        snapshot: snapshot.id.to_string(),
        outcome: whole(outcome),
        databases: outcome.databases.iter().map(json_database).collect(),
        files: outcome.files.as_ref().map(json_files),
        swept: &outcome.swept,
        difference_count: outcome.difference_count,
        failed: outcome.failed,
        duration_ms: outcome.duration_ms,
        notes: &outcome.notes,
    });
}

fn json_database(drill: &DatabaseDrill) -> JsonDatabase<'_> {
    let restored = drill.restored.as_ref();
    JsonDatabase {
        dump: path_pair(&drill.path).0,
        database: &drill.database,
        server: &drill.server,
        outcome: word(&drill.ended),
        message: message(&drill.ended),
        tables: drill.compared.tables,
        rows: drill.compared.rows,
        checksums: drill.compared.checksums,
        sequences: drill.compared.sequences,
        restore_ms: drill.restore_ms,
        compare_ms: drill.compare_ms,
        steps: restored.iter().flat_map(|restored| &restored.steps).map(JsonStep::from).collect(),
        difference_count: drill.compared.difference_count,
        differences: drill.compared.differences.iter().map(JsonDifference::from).collect(),
        left_behind: drill.left_behind.as_deref(),
        notes: restored.map_or(&[], |restored| &restored.notes),
    }
}

fn json_files(files: &FilesDrill) -> JsonFiles<'_> {
    JsonFiles {
        of_files: files.of_files,
        files: files.files,
        content_bytes: files.bytes,
        duration_ms: files.duration_ms,
        difference_count: files.difference_count,
        differences: files.differences.iter().map(JsonDifference::from).collect(),
    }
}

fn print_text(app: &App, snapshot: &Snapshot, given: &Drill, outcome: &Outcome) {
    let mut facts = vec![("snapshot", format!("{} of {}", snapshot.id.short(), human::time(snapshot.time_ns)))];
    for drill in &outcome.databases {
        facts.push(("database", database_line(drill)));
        facts.extend(drill.left_behind.iter().map(|left| ("left behind", left.clone())));
    }
    if let Some(files) = &outcome.files {
        let (count, all) = (human::count(files.files), human::counted(files.of_files, "file"));
        let bytes = human::bytes(files.bytes);
        facts.push((
            "files",
            format!("{count} of {all} restored and compared, {bytes}, in {}", seconds(files.duration_ms)),
        ));
    }
    if outcome.databases.is_empty() && outcome.files.is_none() {
        facts.push(("tried", "nothing: the snapshot holds neither databases nor files".to_owned()));
    }
    if !outcome.swept.is_empty() {
        facts.push(("swept", format!("{}, left behind by drills that died", outcome.swept.join(", "))));
    }
    facts.push(("took", seconds(outcome.duration_ms)));
    table::facts(&app.out, &facts);
    print_differences(app, outcome);
    let restored = outcome.databases.iter().filter_map(|drill| drill.restored.as_ref());
    restored.flat_map(|restored| &restored.notes).chain(&outcome.notes).for_each(|note| app.look.note(note));
    conclude(app, snapshot, given, outcome);
}

fn database_line(drill: &DatabaseDrill) -> String {
    let name = name_of(drill);
    if let Some(message) = message(&drill.ended) {
        return format!("{name} did not come back: {}", human::name(message.as_bytes()));
    }
    let compared = &drill.compared;
    format!(
        "{name} restored in {}: {}, {}, content of {} compared in {}: {}",
        seconds(drill.restore_ms),
        human::counted(compared.tables, "table"),
        human::counted(compared.rows, "row"),
        human::counted(compared.checksums, "table"),
        seconds(drill.compare_ms),
        match compared.difference_count {
            0 => "as promised".to_owned(),
            count => human::counted(count, "difference"),
        }
    )
}

/// What the dump is called in the snapshot, and the database if it is called otherwise.
fn name_of(drill: &DatabaseDrill) -> String {
    let name = human::name(drill.path.rsplit(|byte| *byte == b'/').next().unwrap_or_default());
    let database = human::name(drill.database.as_bytes());
    if name == database { name } else { format!("{name} (database {database})") }
}

fn print_differences(app: &App, outcome: &Outcome) {
    let of_databases = outcome
        .databases
        .iter()
        .flat_map(|drill| drill.compared.differences.iter().map(|one| (drill.database.as_str(), one)));
    let of_files = outcome.files.iter().flat_map(|files| files.differences.iter().map(|one| ("files", one)));
    let all: Vec<(&str, &Difference)> = of_databases.chain(of_files).collect();
    if all.is_empty() {
        return;
    }
    app.out.line("");
    for (of, one) in all.iter().take(TOLD) {
        let text = format!("{of}: {}: {}", one.object, one.message);
        app.out.line(format!("differs   {}", human::name(text.as_bytes())));
    }
    let more = outcome.difference_count.saturating_sub(TOLD.min(all.len()) as u64);
    if more > 0 {
        app.out.line(format!("differs   … and {}", human::counted(more, "more difference")));
    }
}

fn conclude(app: &App, snapshot: &Snapshot, given: &Drill, outcome: &Outcome) {
    let id = snapshot.id.short();
    let compared = if given.full { "all of it was" } else { "a sample of its content was" };
    match whole(outcome) {
        "same" => {
            let not_safe =
                if given.full { "nothing known" } else { "content outside the sample, which was not compared" };
            // Files come back without a server.
            let server = if snapshot.dumps.is_empty() { "" } else { " --server URL" };
            let next = if given.full { "snapshots".to_owned() } else { format!("drill {id}{server} --full") };
            app.close(&format!("the snapshot: it came back, and {compared} compared"), not_safe, &next);
        }
        "different" => app.close(
            "nothing of what differs",
            "the snapshot: what came back is not what was promised",
            &format!("verify {id}"),
        ),
        _ => app.close(
            "the snapshot as far as it is known",
            "a restore: at least one database did not come back",
            &format!("verify {id}"),
        ),
    }
}
