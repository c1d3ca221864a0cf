//! `restore --to-postgres` and `--to-mysql`: a dump back to a server.

use super::restore::Rules;
use super::{filter, restore_closing, restore_imported};
use crate::base::Scratch;
use crate::cli::app::App;
use crate::cli::args::{Phase, Restore, ToDatabase};
use crate::cli::error::{Error, Result};
use crate::cli::exit::Exit;
use crate::cli::print::json::path_pair;
use crate::cli::print::{human, table};
use crate::cli::scratch::scratch;
use crate::config::surroundings;
use crate::db::Watch;
use crate::db::postgres::Address;
use crate::format::snapshot::Snapshot;
use crate::ops::hooks::Hooks;
use crate::ops::restore_database::{DEFAULT_PATTERNS, Options, Outcome, Protection, restore_database};
use crate::ops::select;
use crate::target::dump::{DumpTarget, Restored, Step};
use crate::target::mysql;
use crate::target::postgres::{self, Destination, Phases, Programs};
use serde::Serialize;

#[derive(Serialize)]
struct JsonRestoreDatabase<'a> {
    message_type: &'static str,
    snapshot: String,
    /// `postgres` or `mysql`.
    kind: &'static str,
    /// The dump's place in the snapshot.
    dump: String,
    /// The database that was dumped.
    from_database: &'a str,
    /// Product and version of the server that it goes to.
    server: &'a str,
    /// The database that it goes to.
    database: &'a str,
    /// The program that brings definitions back.
    client: &'a str,
    validate_only: bool,
    /// Whether the database was made.
    created: bool,
    /// Whether one was there and was dropped.
    replaced: bool,
    /// The database that was replaced, if it could not be dropped, and why.
    #[serde(skip_serializing_if = "Option::is_none")]
    left_behind: Option<&'a str>,
    tables: u64,
    rows: u64,
    content_bytes: u64,
    sequences: u64,
    /// Bytes of the dump that were read and proven before anything was written.
    verified_bytes: u64,
    steps: Vec<JsonStep<'a>>,
    duration_ms: u64,
    plan: &'a [String],
    notes: &'a [String],
    /// Commands that failed after a restore that did not.
    failed_commands: &'a [String],
}

/// A part of a restore.
#[derive(Serialize)]
pub struct JsonStep<'a> {
    name: &'a str,
    duration_ms: u64,
}

impl<'a> From<&'a Step> for JsonStep<'a> {
    fn from(step: &'a Step) -> JsonStep<'a> {
        JsonStep { name: &step.name, duration_ms: step.duration_ms }
    }
}

/// Restores a dump.
pub fn run(app: &App, given: &Restore) -> Result<Exit> {
    let scratch = scratch(given.to_database.temp_dir.as_deref())?;
    let target = target(app, &given.to_database, &scratch)?;
    let context = app.context()?;
    let selected = select::select(&context, &given.snapshot, &filter(&given.filters))?;
    if let Some(path) = &selected.path {
        return restore_imported::run(app, &given.to_database, &context, &selected.snapshot, path, &scratch);
    }
    let options = options(app, &given.to_database, target, &selected.snapshot)?;
    let outcome = restore_database(&context, &selected.snapshot, &options)?;
    app.look.finish();
    match app.out.is_json() {
        true => print_json(app, &selected.snapshot, &options, &outcome),
        false => print_text(app, &selected.snapshot, &given.to_database, &options, &outcome),
    }
    Ok(if outcome.problems().is_empty() { Exit::Done } else { Exit::Failed })
}

fn options(app: &App, given: &ToDatabase, target: Box<dyn DumpTarget>, snapshot: &Snapshot) -> Result<Options> {
    let rules = Rules::of(app)?;
    Ok(Options {
        dump: given.database.clone(),
        target,
        protection: protection(&rules, given),
        hooks: hooks(&rules, given, snapshot),
        validate_only: given.validate_only,
    })
}

/// What the command line and the config protect.
pub fn protection(rules: &Rules, given: &ToDatabase) -> Protection {
    let patterns = match given.protect.as_slice() {
        [] => DEFAULT_PATTERNS.map(str::to_owned).to_vec(),
        patterns => patterns.to_vec(),
    };
    Protection { patterns, confirmed: given.confirm_destructive.clone(), never: rules.never.clone() }
}

/// The commands of the profile around those of the command line.
pub fn hooks(rules: &Rules, given: &ToDatabase, snapshot: &Snapshot) -> Hooks {
    let mut hooks = rules.hooks(snapshot);
    hooks.before.extend(given.before.iter().cloned());
    hooks.finally.splice(0..0, given.after.iter().cloned());
    hooks
}

/// The server and what is done there.
fn target(app: &App, given: &ToDatabase, scratch: &Scratch) -> Result<Box<dyn DumpTarget>> {
    if let Some(url) = &given.to_mysql {
        return mysql_target(app, given, url);
    }
    let url = given.to_postgres.as_deref().unwrap_or_default();
    let surroundings = surroundings();
    let address = Address::parse(url, &surroundings).map_err(crate::ops::Error::from)?;
    address.notes.iter().for_each(|note| app.look.note(note));
    let watch = Watch { stop: app.stop.clone(), monitor: app.look.clone() };
    let address = address.settled(&watch).map_err(crate::ops::Error::from)?;
    let phase = |phase| given.phase.is_empty() || given.phase.contains(&phase);
    let options = postgres::Options {
        destination: match (given.create, given.drop_existing) {
            (_, true) => Destination::Replace,
            (true, false) => Destination::Create,
            (false, false) => Destination::Existing,
        },
        tables: given.table.clone(),
        schemas: given.schema.clone(),
        phases: Phases { pre_data: phase(Phase::PreData), data: phase(Phase::Data), post_data: phase(Phase::PostData) },
        owners: !given.no_owner,
        grants: !given.no_acl,
        globals: given.globals,
        jobs: usize::from(given.jobs),
        analyze: !given.no_analyze,
        search_path: given.search_path.clone(),
        ..postgres::Options::new(scratch.path().to_owned())
    };
    let programs = Programs { surroundings, folder: given.programs.clone() };
    Ok(Box::new(postgres::Target { address, options, programs }))
}

/// The same for MySQL and MariaDB, which know no schemas.
fn mysql_target(app: &App, given: &ToDatabase, url: &str) -> Result<Box<dyn DumpTarget>> {
    let unknown = [
        ("--schema", !given.schema.is_empty()),
        ("--search-path", !given.search_path.is_empty()),
        ("--no-acl", given.no_acl),
        ("--programs", given.programs.is_some()),
    ];
    if let Some((option, _)) = unknown.into_iter().find(|(_, is_given)| *is_given) {
        return Err(Error::usage(format!("{option} means nothing to MySQL and MariaDB: leave it out")));
    }
    let address = crate::db::mysql::Address::parse(url, &surroundings()).map_err(crate::ops::Error::from)?;
    address.notes.iter().for_each(|note| app.look.note(note));
    let phase = |phase| given.phase.is_empty() || given.phase.contains(&phase);
    let options = mysql::Options {
        destination: match (given.create, given.drop_existing) {
            (_, true) => mysql::Destination::Replace,
            (true, false) => mysql::Destination::Create,
            (false, false) => mysql::Destination::Existing,
        },
        tables: given.table.iter().map(|table| table.name.clone()).collect(),
        pre_data: phase(Phase::PreData),
        data: phase(Phase::Data),
        post_data: phase(Phase::PostData),
        owners: !given.no_owner,
        globals: given.globals,
        events: true,
        jobs: usize::from(given.jobs),
        analyze: !given.no_analyze,
        rows_of: None,
    };
    Ok(Box::new(mysql::Target { address, options }))
}

fn print_json(app: &App, snapshot: &Snapshot, options: &Options, outcome: &Outcome) {
    let nothing = Restored::default();
    let restored = outcome.restored.as_ref().unwrap_or(&nothing);
    app.out.object(&JsonRestoreDatabase {
        message_type: "restore_database",
        snapshot: snapshot.id.to_string(),
        kind: outcome.manifest.kind.name(),
        dump: path_pair(&outcome.path).0,
        from_database: &outcome.manifest.database,
        server: &outcome.checked.server,
        database: options.target.database(),
        client: &outcome.checked.client,
        validate_only: options.validate_only,
        created: restored.created,
        replaced: restored.replaced,
        left_behind: restored.left_behind.as_deref(),
        tables: restored.tables,
        rows: restored.rows,
        content_bytes: restored.bytes,
        sequences: restored.sequences,
        verified_bytes: outcome.proven.bytes,
        steps: restored.steps.iter().map(JsonStep::from).collect(),
        duration_ms: outcome.duration_ms,
        plan: &outcome.checked.plan,
        notes: if outcome.restored.is_some() { &restored.notes } else { &outcome.checked.notes },
        failed_commands: &outcome.failed_hooks,
    });
}

fn print_text(app: &App, snapshot: &Snapshot, given: &ToDatabase, options: &Options, outcome: &Outcome) {
    let taken = human::time(outcome.manifest.taken_ns);
    let dump = human::name(&outcome.path);
    let label = human::name(options.target.label().as_bytes());
    let mut facts = vec![
        ("snapshot", format!("{} of {}", snapshot.id.short(), human::time(snapshot.time_ns))),
        ("dump", format!("{dump}, {} of {taken}", outcome.manifest.server.product)),
        ("to", format!("{label}, {}", outcome.checked.server)),
        (
            "verified",
            format!("{}, {}", human::counted(outcome.proven.streams, "stream"), human::bytes(outcome.proven.bytes)),
        ),
    ];
    match &outcome.restored {
        None => facts.push(("would", outcome.checked.plan.join("; "))),
        Some(restored) => facts.extend(restored_facts(restored)),
    }
    facts.push(("took", seconds(outcome.duration_ms)));
    table::facts(&app.out, &facts);
    let notes = outcome.restored.as_ref().map_or(&outcome.checked.notes, |restored| &restored.notes);
    notes.iter().for_each(|note| app.look.note(note));
    restore_closing::close(app, &snapshot.id.short().to_string(), &label, given, outcome);
}

fn restored_facts(restored: &Restored) -> Vec<(&'static str, String)> {
    let made = match (restored.created, restored.replaced, &restored.left_behind) {
        (_, true, None) => ", in the place of one that was dropped",
        (_, true, Some(_)) => ", in the place of one that could not be dropped",
        (true, false, _) => ", in a new database",
        (false, false, _) => "",
    };
    let steps = restored.steps.iter().map(|step| format!("{} {}", step.name, seconds(step.duration_ms)));
    vec![
        (
            "restored",
            format!(
                "{}, {}, {}{made}",
                human::counted(restored.tables, "table"),
                human::counted(restored.rows, "row"),
                human::bytes(restored.bytes)
            ),
        ),
        ("steps", steps.collect::<Vec<_>>().join(", ")),
    ]
}

/// A time in seconds.
pub fn seconds(milliseconds: u64) -> String {
    format!("{:.1} s", milliseconds as f64 / 1000.0)
}
