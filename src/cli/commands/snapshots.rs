//! `snapshots`: what points in time there are.

use super::{filter, tell};
use crate::cli::app::App;
use crate::cli::args::{SnapshotKind, Snapshots};
use crate::cli::error::Result;
use crate::cli::exit::Exit;
use crate::cli::print::human;
use crate::cli::print::json::{JsonProblem, JsonSnapshot, problems};
use crate::cli::print::table::Table;
use crate::format::snapshot::Snapshot;
use crate::ops::select;
use serde::Serialize;
use std::collections::BTreeMap;

#[derive(Serialize)]
struct JsonSnapshots {
    message_type: &'static str,
    snapshots: Vec<JsonSnapshot>,
    /// Snapshots that could not be read.
    damaged: Vec<JsonProblem>,
}

/// Lists snapshots, the oldest first.
pub fn run(app: &App, given: &Snapshots) -> Result<Exit> {
    let context = app.context()?;
    let mut wanted = filter(&given.filters);
    wanted.kinds = given.kind.iter().map(|kind| kind_name(*kind).to_owned()).collect();
    wanted.newer_than = given.newer_than.as_deref().map(select::parse_age).transpose()?;
    let mut listing = select::select_all(&context, &given.snapshots, &wanted)?;
    if let Some(most) = given.latest {
        listing.snapshots = latest(listing.snapshots, most);
    }
    app.look.finish();
    if app.out.is_json() {
        app.out.object(&JsonSnapshots {
            message_type: "snapshots",
            snapshots: listing.snapshots.iter().map(JsonSnapshot::from).collect(),
            damaged: problems(&listing.damaged),
        });
    } else {
        print(app, &listing.snapshots);
    }
    Ok(tell(app, &listing.damaged))
}

fn kind_name(kind: SnapshotKind) -> &'static str {
    match kind {
        SnapshotKind::Files => "files",
        SnapshotKind::Db => "db",
        SnapshotKind::Command => "command",
    }
}

/// The newest `most` of each host and paths; the order stays.
fn latest(snapshots: Vec<Snapshot>, most: usize) -> Vec<Snapshot> {
    let mut seen: BTreeMap<(String, Vec<Vec<u8>>), usize> = BTreeMap::new();
    let group = |snapshot: &Snapshot| {
        (snapshot.host.clone(), snapshot.paths.iter().map(|path| path.0.clone()).collect::<Vec<_>>())
    };
    let mut kept: Vec<Snapshot> = snapshots
        .into_iter()
        .rev()
        .filter(|snapshot| {
            let number = seen.entry(group(snapshot)).or_default();
            *number += 1;
            *number <= most
        })
        .collect();
    kept.reverse();
    kept
}

fn print(app: &App, snapshots: &[Snapshot]) {
    let mut table = Table::new(&["ID", "Time", "Host", "Tags", "Kind", ">Files", ">Size", ">Added", "State", "Paths"]);
    for snapshot in snapshots {
        let paths: Vec<String> = snapshot.paths.iter().map(|path| human::name(&path.0)).collect();
        table.row(vec![
            snapshot.id.short(),
            human::time(snapshot.time_ns),
            human::name(snapshot.host.as_bytes()),
            human::name(snapshot.tags.join(",").as_bytes()),
            human::name(snapshot.kinds.join(",").as_bytes()),
            human::count(snapshot.totals.files),
            human::bytes(snapshot.totals.bytes),
            human::bytes(snapshot.totals.added),
            if snapshot.partial { "partial" } else { "complete" }.to_owned(),
            paths.join(" "),
        ]);
    }
    if !snapshots.is_empty() {
        table.print(&app.out);
        app.out.line("");
    }
    app.out.line(human::counted(snapshots.len() as u64, "snapshot"));
    match snapshots.iter().rev().find(|snapshot| !snapshot.partial) {
        Some(snapshot) => {
            let id = snapshot.id.short();
            let time = human::time(snapshot.time_ns);
            app.close(
                &format!("what these snapshots hold; the newest complete one is {id} of {time}"),
                "what changed since then",
                &format!("ls {id}"),
            );
        }
        None if snapshots.is_empty() => app.close("nothing that was asked for", "everything", "backup PATH"),
        None => app.close("what could be read", "what the partial snapshots lack", "show latest"),
    }
}
