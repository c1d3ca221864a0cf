//! The last lines after a restore of a dump to a server: what is safe, what is not, what to do next.
//!
//! They say no more than what was done: rows were counted where rows came back, a part is followed by the next part, and a
//! drill is named only for dumps that can be drilled.

use crate::cli::app::App;
use crate::cli::args::{Phase, ToDatabase};
use crate::cli::print::human;
use crate::format::dump::{Manifest, StreamRole};
use crate::ops::restore_database::Outcome;
use crate::target::dump::Restored;

/// The phases in the order in which they are restored.
const PHASES: [Phase; 3] = [Phase::PreData, Phase::Data, Phase::PostData];

/// Prints them.
pub fn close(app: &App, id: &str, label: &str, given: &ToDatabase, outcome: &Outcome) {
    let Some(restored) = &outcome.restored else {
        let safe = "the dump: every byte that is needed was read and proven";
        return app.close(safe, "nothing: nothing was written", &format!("restore {id} {}", again(given)));
    };
    let not_safe = not_safe(given, outcome, restored);
    app.close(&safe(label, restored), &not_safe, &next(id, given, &outcome.manifest));
}

fn safe(label: &str, restored: &Restored) -> String {
    match restored.tables {
        0 => format!("{label}: what was asked for was made, and no rows were written"),
        _ => format!("{label}: every row was counted by the server"),
    }
}

/// What somebody has to see to, the most urgent first.
fn not_safe(given: &ToDatabase, outcome: &Outcome, restored: &Restored) -> String {
    if !outcome.failed_hooks.is_empty() {
        return "what the command that failed should have started".to_owned();
    }
    if let Some(left) = &restored.left_behind {
        return room_taken(left);
    }
    let missing: Vec<&str> = still_to_come(given).iter().map(|phase| content(*phase)).collect();
    if !missing.is_empty() {
        return format!("{}: not restored yet", missing.join(", "));
    }
    match has_definitions(&outcome.manifest) {
        true => "nothing known; the content was not compared".to_owned(),
        false => {
            "nothing known; the content was not compared, and no drill can: the dump has no definitions".to_owned()
        }
    }
}

/// That a replaced database is still there.
pub fn room_taken(left: &str) -> String {
    format!("the room on the server's disk: the replaced database is still there as {left}")
}

fn next(id: &str, given: &ToDatabase, manifest: &Manifest) -> String {
    if let Some(phase) = still_to_come(given).first() {
        // The database is there by now.
        let rest = ToDatabase { phase: vec![*phase], create: false, ..given.clone() };
        return format!("restore {id} {}", again(&rest));
    }
    match has_definitions(manifest) {
        true => format!("drill {id}{} --server URL --full{}", which(given), looking(given)),
        false => format!("show {id}"),
    }
}

fn has_definitions(manifest: &Manifest) -> bool {
    manifest.streams_of(StreamRole::PreData).next().is_some()
}

/// The phases after the last that was asked for.
fn still_to_come(given: &ToDatabase) -> &'static [Phase] {
    let done = PHASES.iter().rposition(|phase| given.phase.is_empty() || given.phase.contains(phase));
    done.map_or(&[], |last| &PHASES[last + 1..])
}

fn word(phase: Phase) -> &'static str {
    match phase {
        Phase::PreData => "pre-data",
        Phase::Data => "data",
        Phase::PostData => "post-data",
    }
}

fn content(phase: Phase) -> &'static str {
    match phase {
        Phase::PreData => "definitions",
        Phase::Data => "rows, sequences and large objects",
        Phase::PostData => "indexes, constraints and triggers",
    }
}

fn which(given: &ToDatabase) -> String {
    given.database.as_deref().map(|name| format!(" {}", human::option("--database", name))).unwrap_or_default()
}

fn looking(given: &ToDatabase) -> String {
    given.search_path.iter().map(|schema| format!(" {}", human::option("--search-path", schema))).collect()
}

/// The same once more, without the URL: it may hold a password.
fn again(given: &ToDatabase) -> String {
    let to = if given.to_mysql.is_some() { "--to-mysql" } else { "--to-postgres" };
    let mut words = format!("{to} URL{}", which(given));
    for (flag, is_given) in [
        ("--create", given.create),
        ("--drop-existing", given.drop_existing),
        ("--no-owner", given.no_owner),
        ("--no-acl", given.no_acl),
        ("--globals", given.globals),
    ] {
        if is_given {
            words.push_str(&format!(" {flag}"));
        }
    }
    given.phase.iter().for_each(|phase| words.push_str(&format!(" --phase {}", word(*phase))));
    let named = given.confirm_destructive.iter().map(|name| ("--confirm-destructive", name.clone()));
    let tables = given.table.iter().map(|table| ("--table", table.to_string()));
    let schemas = given.schema.iter().map(|schema| ("--schema", schema.clone()));
    for (flag, value) in named.chain(tables).chain(schemas) {
        words.push_str(&format!(" {}", human::option(flag, &value)));
    }
    words.push_str(&looking(given));
    words
}
