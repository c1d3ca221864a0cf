//! `snapshots`: what points in time there are.

use super::{filter, tell, tell_vanished};
use crate::base::SnapshotId;
use crate::cli::app::App;
use crate::cli::args::{SnapshotKind, SnapshotState, Snapshots};
use crate::cli::error::Result;
use crate::cli::exit::Exit;
use crate::cli::print::human;
use crate::cli::print::json::{JsonProblem, JsonSnapshot, JsonVerification, problems};
use crate::cli::print::table::Table;
use crate::format::snapshot::Snapshot;
use crate::ops::{self, Context, select};
use crate::repo;
use crate::repo::ledger::{Known, State};
use serde::Serialize;
use std::collections::BTreeMap;

#[derive(Serialize)]
struct JsonSnapshots {
    message_type: &'static str,
    snapshots: Vec<JsonListed>,
    /// Snapshots that could not be read.
    damaged: Vec<JsonProblem>,
}

/// What a client knows that may only write.
#[derive(Serialize)]
struct JsonNames {
    message_type: &'static str,
    /// None can be opened with its key.
    snapshots: [(); 0],
    damaged: [(); 0],
    /// What is in the store, the oldest first.
    stored: Vec<JsonName>,
}

#[derive(Serialize)]
struct JsonName {
    id: String,
    /// When the store received it.
    received: String,
}

#[derive(Serialize)]
struct JsonListed {
    #[serde(flatten)]
    snapshot: JsonSnapshot,
    verification: JsonVerification,
}

fn json(snapshot: &Snapshot, known: &Known) -> JsonListed {
    JsonListed { snapshot: snapshot.into(), verification: JsonVerification::of(known, &snapshot.id) }
}

fn is_in(wanted: SnapshotState, state: State) -> bool {
    matches!(
        (wanted, state),
        (SnapshotState::Unverified, State::Unverified)
            | (SnapshotState::Verified, State::Verified(_))
            | (SnapshotState::Damaged, State::Damaged(_))
            | (SnapshotState::Drilled, State::Drilled(_))
    )
}

/// Lists snapshots, the oldest first.
pub fn run(app: &App, given: &Snapshots) -> Result<Exit> {
    let context = app.context()?;
    if context.repository.keyring().is_write_only() {
        return names(app, &context);
    }
    let mut wanted = filter(&given.filters);
    wanted.kinds = given.kind.iter().map(|kind| kind_name(*kind).to_owned()).collect();
    wanted.newer_than = given.newer_than.as_deref().map(select::parse_age).transpose()?;
    let mut listing = select::select_all(&context, &given.snapshots, &wanted)?;
    let known = select::verified(&context)?;
    if !given.state.is_empty() {
        let is_wanted = |snapshot: &Snapshot| given.state.iter().any(|state| is_in(*state, known.state(&snapshot.id)));
        listing.snapshots.retain(is_wanted);
    }
    if let Some(most) = given.latest {
        listing.snapshots = latest(listing.snapshots, most);
    }
    let others = match listing.snapshots.is_empty() {
        true => select::select_all(&context, &[], &select::Filter::default())?.snapshots.len(),
        false => 0,
    };
    app.look.finish();
    if app.out.is_json() {
        app.out.object(&JsonSnapshots {
            message_type: "snapshots",
            snapshots: listing.snapshots.iter().map(|snapshot| json(snapshot, &known)).collect(),
            damaged: problems(&listing.damaged),
        });
    } else {
        print(app, &listing.snapshots, others, &known, context.repository.now_ns());
    }
    tell_vanished(app);
    Ok(tell(app, &listing.damaged))
}

/// Names and times are all that a write-only key shows, of its own snapshots too.
fn names(app: &App, context: &Context) -> Result<Exit> {
    let receipts = repo::snapshots::receipts(&context.repository).map_err(ops::Error::from)?;
    let mut stored: Vec<_> = receipts.into_iter().map(|(id, received_ns)| (received_ns, id)).collect();
    stored.sort_unstable();
    app.look.finish();
    if app.out.is_json() {
        let name = |(received_ns, id): &(i64, SnapshotId)| JsonName {
            id: id.to_string(),
            received: human::rfc3339(*received_ns),
        };
        let stored = stored.iter().map(name).collect();
        app.out.object(&JsonNames { message_type: "snapshots", snapshots: [], damaged: [], stored });
        return Ok(Exit::Done);
    }
    let mut table = Table::new(&["ID", "Received"]);
    stored.iter().for_each(|(received_ns, id)| table.row(vec![id.short(), human::time(*received_ns)]));
    if !stored.is_empty() {
        table.print(&app.out);
        app.out.line("");
    }
    app.out.line(human::counted(stored.len() as u64, "snapshot"));
    app.close(
        "what was backed up with this key: whoever has a key that opens everything can restore it",
        "that it can be read: with this key nobody can tell, so verify with another one, elsewhere",
        "backup PATH",
    );
    Ok(Exit::Done)
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

/// `others`: how many there are besides, if none of them was asked for.
fn print(app: &App, snapshots: &[Snapshot], others: usize, known: &Known, now_ns: i64) {
    let titles = ["ID", "Time", "Host", "Tags", "Kind", ">Files", ">Size", ">Added", "State", "Verified", "Paths"];
    let mut table = Table::new(&titles);
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
            human::completeness(snapshot),
            human::state(known.state(&snapshot.id), now_ns),
            paths.join(" "),
        ]);
    }
    if !snapshots.is_empty() {
        table.print(&app.out);
        app.out.line("");
    }
    app.out.line(human::counted(snapshots.len() as u64, "snapshot"));
    let is_damaged = |snapshot: &&Snapshot| matches!(known.state(&snapshot.id), State::Damaged(_));
    let damaged = snapshots.iter().filter(is_damaged).count();
    match snapshots.iter().rev().find(|snapshot| !snapshot.partial && !is_damaged(snapshot)) {
        Some(snapshot) => {
            let id = snapshot.id.short();
            let time = human::time(snapshot.time_ns);
            let hurt = match damaged {
                0 => String::new(),
                count => format!("what is damaged in {}, and ", human::counted(count as u64, "snapshot")),
            };
            app.close(
                &format!("what these snapshots hold; the newest complete one is {id} of {time}"),
                &format!("{hurt}what changed since then"),
                &format!("ls {id}"),
            );
        }
        None if damaged > 0 => app.close(
            "what of these snapshots can be read",
            &format!("what is damaged in {}", human::counted(damaged as u64, "snapshot")),
            "verify --all",
        ),
        None if others > 0 => app.close(
            &format!("what is in {} that was not asked for", human::counted(others as u64, "snapshot")),
            "what was asked for: no snapshot matches",
            "snapshots",
        ),
        None if snapshots.is_empty() => app.close("nothing: there is no snapshot", "everything", "backup PATH"),
        None => app.close("what could be read", "what the partial snapshots lack", "show latest"),
    }
}
