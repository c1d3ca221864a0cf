//! `restore SNAP:PATH --to-postgres` and `--to-mysql`: a file that already was a dump, back to a server.

use super::restore::Rules;
use super::restore_closing;
use super::restore_database::{hooks, protection, seconds};
use crate::base::Scratch;
use crate::cli::app::App;
use crate::cli::args::ToDatabase;
use crate::cli::error::{Error, Result};
use crate::cli::exit::Exit;
use crate::cli::print::json::path_pair;
use crate::cli::print::{human, table};
use crate::config::surroundings;
use crate::db::Watch;
use crate::db::mysql;
use crate::db::postgres::Address;
use crate::format::snapshot::Snapshot;
use crate::ops::Context;
use crate::ops::restore_database::imported::{Options, Outcome, Target, restore_imported};
use crate::target::postgres::{self, Destination, Programs};
use serde::Serialize;

#[derive(Serialize)]
struct JsonRestoreImported<'a> {
    message_type: &'static str,
    snapshot: String,
    /// The file's place in the snapshot.
    path: String,
    kind: &'static str,
    /// Product and version of the server that it goes to.
    server: &'a str,
    database: &'a str,
    client: &'a str,
    validate_only: bool,
    created: bool,
    replaced: bool,
    /// The database that was replaced, if it could not be dropped, and why.
    #[serde(skip_serializing_if = "Option::is_none")]
    left_behind: Option<&'a str>,
    tables: u64,
    /// Rows in the dump, as far as they could be counted.
    rows: u64,
    verified_bytes: u64,
    duration_ms: u64,
    notes: &'a [String],
    failed_commands: &'a [String],
}

/// Restores an imported dump.
pub fn run(
    app: &App,
    given: &ToDatabase,
    context: &Context,
    snapshot: &Snapshot,
    path: &[u8],
    scratch: &Scratch,
) -> Result<Exit> {
    refuse_parts(given)?;
    let options = options(app, given, path, scratch, snapshot)?;
    let outcome = restore_imported(context, snapshot, &options)?;
    app.look.finish();
    match app.out.is_json() {
        true => print_json(app, snapshot, &options, &outcome),
        false => print_text(app, snapshot, &options, &outcome),
    }
    Ok(if outcome.problems().is_empty() { Exit::Done } else { Exit::Failed })
}

/// A file that was made elsewhere comes back whole.
fn refuse_parts(given: &ToDatabase) -> Result<()> {
    let parts = [
        ("--database", given.database.is_some()),
        ("--table", !given.table.is_empty()),
        ("--schema", !given.schema.is_empty()),
        ("--search-path", !given.search_path.is_empty()),
        ("--phase", !given.phase.is_empty()),
        ("--globals", given.globals),
    ];
    match parts.iter().find(|(_, is_given)| *is_given) {
        None => Ok(()),
        Some((flag, _)) => Err(Error::usage(format!(
            "{flag} is for dumps that keepstone made; a file comes back whole: leave it out, or restore the file with \
             --target DIR and use pg_restore"
        ))),
    }
}

fn options(app: &App, given: &ToDatabase, path: &[u8], scratch: &Scratch, snapshot: &Snapshot) -> Result<Options> {
    let rules = Rules::of(app)?;
    Ok(Options {
        path: path.to_vec(),
        target: target(app, given, scratch)?,
        trust_sql: given.trust_sql,
        protection: protection(&rules, given),
        hooks: hooks(&rules, given, snapshot),
        validate_only: given.validate_only,
    })
}

fn target(app: &App, given: &ToDatabase, scratch: &Scratch) -> Result<Target> {
    if let Some(url) = &given.to_mysql {
        return mysql_target(app, given, url);
    }
    let url = given.to_postgres.as_deref().unwrap_or_default();
    let surroundings = surroundings();
    let address = Address::parse(url, &surroundings).map_err(crate::ops::Error::from)?;
    address.notes.iter().for_each(|note| app.look.note(note));
    let watch = Watch { stop: app.stop.clone(), monitor: app.look.clone() };
    let address = address.settled(&watch).map_err(crate::ops::Error::from)?;
    let options = postgres::Options {
        destination: match (given.create, given.drop_existing) {
            (_, true) => Destination::Replace,
            (true, false) => Destination::Create,
            (false, false) => Destination::Existing,
        },
        owners: !given.no_owner,
        grants: !given.no_acl,
        analyze: !given.no_analyze,
        ..postgres::Options::new(scratch.path().to_owned())
    };
    let programs = Programs { surroundings, folder: given.programs.clone() };
    Ok(Target::Postgres(Box::new(postgres::Target { address, options, programs })))
}

/// The same for MySQL and MariaDB, whose client program replaces nothing but tables.
fn mysql_target(app: &App, given: &ToDatabase, url: &str) -> Result<Target> {
    if given.drop_existing {
        return Err(Error::usage("--drop-existing is not for files: drop the database yourself and say --create"));
    }
    let address = mysql::Address::parse(url, &surroundings()).map_err(crate::ops::Error::from)?;
    address.notes.iter().for_each(|note| app.look.note(note));
    Ok(Target::Mysql(Box::new(address), given.create))
}

fn print_json(app: &App, snapshot: &Snapshot, options: &Options, outcome: &Outcome) {
    let done = outcome.done.clone().unwrap_or_default();
    app.out.object(&JsonRestoreImported {
        message_type: "restore_imported",
        snapshot: snapshot.id.to_string(),
        path: path_pair(&options.path).0,
        kind: outcome.report.format.name(),
        server: &outcome.server,
        database: options.target.database(),
        client: &outcome.client,
        validate_only: options.validate_only,
        created: done.created,
        replaced: done.replaced,
        left_behind: done.left_behind.as_deref(),
        tables: outcome.report.table_count,
        rows: outcome.report.rows,
        verified_bytes: outcome.report.bytes,
        duration_ms: outcome.duration_ms,
        notes: if outcome.done.is_some() { &done.notes } else { &outcome.report.notes },
        failed_commands: &outcome.failed_hooks,
    });
}

fn print_text(app: &App, snapshot: &Snapshot, options: &Options, outcome: &Outcome) {
    let report = &outcome.report;
    let label = human::name(options.target.label().as_bytes());
    let held = format!("{}, {}", human::counted(report.table_count, "table"), human::counted(report.rows, "row"));
    let mut facts = vec![
        ("snapshot", format!("{} of {}", snapshot.id.short(), human::time(snapshot.time_ns))),
        ("dump", format!("{}, {}", human::name(&options.path), human::name(report.tool.as_bytes()))),
        ("to", format!("{label}, {}, with {}", outcome.server, outcome.client)),
        ("verified", format!("{}, {held}", human::bytes(report.bytes))),
    ];
    if let Some(done) = &outcome.done {
        let made = match (done.created, done.replaced, &done.left_behind) {
            (_, true, None) => "all of it, in the place of a database that was dropped",
            (_, true, Some(_)) => "all of it, in the place of a database that could not be dropped",
            (true, false, _) => "all of it, in a new database",
            (false, false, _) => "all of it",
        };
        facts.push(("restored", made.to_owned()));
    }
    facts.push(("took", seconds(outcome.duration_ms)));
    table::facts(&app.out, &facts);
    outcome.done.iter().flat_map(|done| &done.notes).for_each(|note| app.look.note(note));
    let id = snapshot.id.short();
    let to = match options.target {
        Target::Postgres(_) => "--to-postgres",
        Target::Mysql(..) => "--to-mysql",
    };
    match options.validate_only {
        true => app.close(
            "the dump: every byte was read and looked into",
            "nothing: nothing was written",
            &format!("restore {id}:PATH {to} URL, without --validate-only"),
        ),
        false => app.close(
            &format!("{label}: the client program restored all of it"),
            &match outcome.done.as_ref().and_then(|done| done.left_behind.as_deref()) {
                Some(left) => restore_closing::room_taken(left),
                None => "nothing known; the rows were counted in the dump, not at the server".to_owned(),
            },
            &format!("show {id}"),
        ),
    }
}
