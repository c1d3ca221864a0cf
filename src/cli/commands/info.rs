//! `info`: totals, and counts per day, week and month.

use super::tell;
use crate::base::clock::TimeZone;
use crate::cli::app::App;
use crate::cli::error::Result;
use crate::cli::exit::Exit;
use crate::cli::print::human;
use crate::cli::print::json::{JsonProblem, problems};
use crate::cli::print::table::{self, Table};
use crate::ops::info::{self, Options, Outcome, Sum};
use serde::Serialize;
use std::collections::BTreeMap;

/// Days, weeks and months that are shown to people; JSON has them all.
const SHOWN: usize = 7;

#[derive(Serialize)]
struct JsonInfo {
    message_type: &'static str,
    snapshots: u64,
    partial: u64,
    hosts: Vec<String>,
    first: Option<String>,
    last: Option<String>,
    areas: Vec<JsonArea>,
    total_bytes: u64,
    /// Sum of the content of all snapshots.
    content_bytes: u64,
    runs: u64,
    days: Vec<JsonSum>,
    weeks: Vec<JsonSum>,
    months: Vec<JsonSum>,
    problems: Vec<JsonProblem>,
}

#[derive(Serialize)]
struct JsonArea {
    name: String,
    objects: u64,
    bytes: u64,
}

#[derive(Serialize)]
struct JsonSum {
    label: String,
    snapshots: u64,
    partial: u64,
    read_bytes: u64,
    added_bytes: u64,
    runs: u64,
    /// How the runs ended, and how many so.
    outcomes: BTreeMap<String, u64>,
}

/// Prints totals.
pub fn run(app: &App) -> Result<Exit> {
    let outcome = info::info(&app.context()?, &Options { zone: TimeZone::system() })?;
    app.look.finish();
    match app.out.is_json() {
        true => print_json(app, &outcome),
        false => print_text(app, &outcome),
    }
    Ok(tell(app, &outcome.problems))
}

fn print_json(app: &App, outcome: &Outcome) {
    let sums = |sums: &[Sum]| sums.iter().map(json_sum).collect();
    let areas = outcome.areas.iter();
    let areas = areas.map(|area| JsonArea { name: area.name.clone(), objects: area.objects, bytes: area.bytes });
    app.out.object(&JsonInfo {
        message_type: "info",
        snapshots: outcome.snapshots,
        partial: outcome.partial,
        hosts: outcome.hosts.clone(),
        first: outcome.first_ns.map(human::rfc3339),
        last: outcome.last_ns.map(human::rfc3339),
        areas: areas.collect(),
        total_bytes: outcome.total_bytes,
        content_bytes: outcome.content_bytes,
        runs: outcome.runs,
        days: sums(&outcome.days),
        weeks: sums(&outcome.weeks),
        months: sums(&outcome.months),
        problems: problems(&outcome.problems),
    });
}

fn json_sum(sum: &Sum) -> JsonSum {
    JsonSum {
        label: sum.label.clone(),
        snapshots: sum.snapshots,
        partial: sum.partial,
        read_bytes: sum.bytes_read,
        added_bytes: sum.added_bytes,
        runs: sum.runs,
        outcomes: sum.outcomes.iter().map(|(name, number)| (name.to_string(), *number)).collect(),
    }
}

fn print_text(app: &App, outcome: &Outcome) {
    let time = |ns: Option<i64>| ns.map_or("-".to_owned(), human::time);
    let hosts: Vec<String> = outcome.hosts.iter().map(|host| human::name(host.as_bytes())).collect();
    let partial = outcome.partial;
    table::facts(
        &app.out,
        &[
            ("snapshots", format!("{}, {partial} of them partial", human::count(outcome.snapshots))),
            ("hosts", hosts.join(", ")),
            ("oldest", time(outcome.first_ns)),
            ("newest", time(outcome.last_ns)),
            ("content", format!("{} in all snapshots together", human::bytes(outcome.content_bytes))),
            ("stored", human::bytes(outcome.total_bytes)),
        ],
    );
    for (title, sums) in [("Day", &outcome.days), ("Week", &outcome.weeks), ("Month", &outcome.months)] {
        print_sums(app, title, sums);
    }
    match outcome.last_ns {
        Some(ns) => app.close(&format!("what was there at {}", human::time(ns)), "what changed since then", "verify"),
        None => app.close("nothing: there is no snapshot", "everything", "backup PATH"),
    }
}

fn print_sums(app: &App, title: &'static str, sums: &[Sum]) {
    if sums.is_empty() {
        return;
    }
    let mut table = Table::new(&[title, ">Snapshots", ">Partial", ">Read", ">Added", ">Runs", "How they ended"]);
    for sum in &sums[sums.len().saturating_sub(SHOWN)..] {
        let outcomes: Vec<String> = sum.outcomes.iter().map(|(name, number)| format!("{number} {name}")).collect();
        table.row(vec![
            sum.label.clone(),
            human::count(sum.snapshots),
            human::count(sum.partial),
            human::bytes(sum.bytes_read),
            human::bytes(sum.added_bytes),
            human::count(sum.runs),
            outcomes.join(", "),
        ]);
    }
    app.out.line("");
    table.print(&app.out);
}
