//! `show`: all that is known of one snapshot.

use super::{filter, tables, tell};
use crate::cli::app::App;
use crate::cli::args::Show;
use crate::cli::error::Result;
use crate::cli::exit::Exit;
use crate::cli::print::imported::{self, JsonImported};
use crate::cli::print::json::{JsonProblem, JsonSnapshot, JsonStream, JsonVerification, Saved, path_pair};
use crate::cli::print::{human, table};
use crate::format::cbor::Bytes;
use crate::format::dump::Manifest;
use crate::format::snapshot::Snapshot;
use crate::ops::dumps::DumpEntry;
use crate::ops::select;
use crate::repo::ledger::{Known, State};
use serde::Serialize;

/// Problems that are shown to people; JSON has all that were kept.
const SHOWN_PROBLEMS: usize = 20;

/// Tables of an imported dump that are shown to people; JSON has all that were kept.
const SHOWN_TABLES: usize = 50;

#[derive(Serialize)]
struct JsonShow {
    message_type: &'static str,
    snapshot: JsonSnapshot,
    /// When a `verify` last read it without finding damage; null for never.
    verified: Option<String>,
    verification: JsonVerification,
    /// What could not be read, at most a thousand.
    problems: Vec<JsonProblem>,
    streams: Vec<JsonStream>,
    dumps: Vec<JsonManifest>,
    /// Files that already were dumps.
    imported: Vec<JsonImported>,
}

#[derive(Serialize)]
struct JsonManifest {
    path: String,
    /// All that is known of the dump: `manifest.json`.
    manifest: Manifest,
}

/// Shows a snapshot.
pub fn run(app: &App, given: &Show) -> Result<Exit> {
    let context = app.context()?;
    let snapshot = select::select(&context, &given.snapshot, &filter(&given.filters))?.snapshot;
    let known = select::verified(&context)?;
    let verified = known.whole_ns(&snapshot.id);
    let (dumps, damaged) = tables::dumps(&context, &snapshot)?;
    app.look.finish();
    if app.out.is_json() {
        let manifest = |entry: DumpEntry| JsonManifest { path: path_pair(&entry.path).0, manifest: entry.manifest };
        app.out.object(&JsonShow {
            message_type: "snapshot",
            verified: verified.map(human::rfc3339),
            verification: JsonVerification::of(&known, &snapshot.id),
            problems: snapshot.problems.iter().map(JsonProblem::from).collect(),
            streams: snapshot.streams.iter().map(JsonStream::from).collect(),
            dumps: dumps.into_iter().map(manifest).collect(),
            imported: imported::json(&snapshot.imported),
            snapshot: (&snapshot).into(),
        });
    } else {
        print(app, &snapshot, &known, &dumps);
    }
    Ok(tell(app, &damaged))
}

fn print(app: &App, snapshot: &Snapshot, known: &Known, dumps: &[DumpEntry]) {
    table::facts(&app.out, &facts(snapshot, known));
    dumps.iter().for_each(|entry| tables::print(app, entry));
    print_imported(app, snapshot);
    for problem in snapshot.problems.iter().take(SHOWN_PROBLEMS) {
        app.out.line(format!("  {}", human::name(problem.message.as_bytes())));
    }
    let rest = snapshot.problem_count.saturating_sub(snapshot.problems.len().min(SHOWN_PROBLEMS) as u64);
    if rest > 0 {
        app.out.line(format!("  and {} more", human::count(rest)));
    }
    let id = snapshot.id.short();
    let not_safe = match snapshot.problem_count {
        0 => "what changed since then".to_owned(),
        count => format!("{} that could not be read", human::counted(count, "source")),
    };
    match known.state(&snapshot.id) {
        State::Verified(ns) => {
            let safe = format!("what it holds; read and found whole since {}", human::time(ns));
            app.close(&safe, &not_safe, &format!("restore {id} --target DIR"));
        }
        State::Drilled(ns) => {
            let safe = format!("what it holds; it came back in a drill at {}", human::time(ns));
            app.close(&safe, &not_safe, &format!("restore {id} --target DIR"));
        }
        State::Damaged(ns) => {
            let not_safe = format!("what was found damaged at {}; {not_safe}", human::time(ns));
            app.close("what is not damaged", &not_safe, &format!("verify {id}"));
        }
        State::Unverified => {
            app.close("what it holds, as far as known: it was never verified", &not_safe, &format!("verify {id}"))
        }
    }
}

fn joined(words: &[Bytes]) -> Vec<u8> {
    words.iter().map(|word| &*word.0).collect::<Vec<_>>().join(&b' ')
}

/// Dumps among the files, with their tables.
fn print_imported(app: &App, snapshot: &Snapshot) {
    for dump in &snapshot.imported {
        app.out.line(format!("  dump {}", imported::line(dump)));
        imported::details(dump).iter().for_each(|detail| app.out.line(format!("    {detail}")));
        for table in dump.tables.iter().take(SHOWN_TABLES) {
            app.out.line(format!("      {}", imported::table(&table.name, table.rows)));
        }
        let rest = dump.table_count.saturating_sub(dump.tables.len().min(SHOWN_TABLES) as u64);
        if rest > 0 {
            app.out.line(format!("      and {} more", human::counted(rest, "table")));
        }
    }
}

fn verification(known: &Known, snapshot: &Snapshot) -> String {
    match known.state(&snapshot.id) {
        State::Damaged(ns) => format!("damaged, found at {}", human::time(ns)),
        _ => known.whole_ns(&snapshot.id).map_or("never".to_owned(), human::time),
    }
}

fn facts(snapshot: &Snapshot, known: &Known) -> Vec<(&'static str, String)> {
    let totals = &snapshot.totals;
    let saved = Saved::of(totals);
    let bytes = human::bytes;
    let text = |text: &str| human::name(text.as_bytes());
    let paths: Vec<String> = snapshot.paths.iter().map(|path| human::name(&path.0)).collect();
    let mut facts = vec![
        ("snapshot", snapshot.id.to_string()),
        ("time", human::time(snapshot.time_ns)),
        ("host", text(&snapshot.host)),
        ("user", text(&snapshot.user)),
        ("paths", paths.join(" ")),
        ("tags", text(&snapshot.tags.join(","))),
        ("state", human::completeness(snapshot)),
        ("verified", verification(known, snapshot)),
        ("drilled", known.drilled_ns(&snapshot.id).map_or("never".to_owned(), human::time)),
        ("parent", snapshot.parent.map_or("none".to_owned(), |id| id.short())),
        (
            "found",
            format!(
                "{}, {}, {}",
                human::counted(totals.files, "file"),
                human::counted(totals.directories, "directory"),
                bytes(totals.bytes)
            ),
        ),
        ("changes", format!("{} new, {} changed", human::count(totals.files_new), human::count(totals.files_changed))),
        (
            "saved",
            format!(
                "{} by dedup, {} by delta, {} by compression",
                bytes(saved.dedup),
                bytes(saved.delta),
                bytes(saved.compression)
            ),
        ),
        ("added", bytes(totals.added)),
        ("program", text(&snapshot.program)),
    ];
    if !snapshot.description.is_empty() {
        facts.push(("description", text(&snapshot.description)));
    }
    if !snapshot.excludes.is_empty() {
        facts.push(("left out", human::name(&joined(&snapshot.excludes))));
    }
    for stream in &snapshot.streams {
        let from = if stream.command.is_empty() { stream.kind.clone().into_bytes() } else { joined(&stream.command) };
        let failed = match (stream.kind.as_str(), stream.status) {
            ("command", Some(0)) | ("stdin", _) => String::new(),
            (_, Some(status)) => format!(", failed with status {status} and is not in the snapshot"),
            (_, None) => ", was ended and is not in the snapshot".to_owned(),
        };
        facts.push((
            "stream",
            format!("{} of {} from {}{failed}", human::name(&stream.path.0), bytes(stream.bytes), human::name(&from)),
        ));
        // What a failure said stands with the problems.
        if stream.kind == "command" && stream.status == Some(0) && !stream.errors.0.trim_ascii().is_empty() {
            facts.push(("said", human::name(stream.errors.0.trim_ascii())));
        }
    }
    for dump in &snapshot.dumps {
        facts.push(("database", format!("{}, taken {}", human::dump(dump), human::time(dump.taken_ns))));
    }
    if snapshot.problem_count > 0 {
        facts.push(("problems", human::count(snapshot.problem_count)));
    }
    facts
}
