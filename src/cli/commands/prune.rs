//! `prune`: delete what no snapshot needs any more.

use crate::cli::app::App;
use crate::cli::args::Prune;
use crate::cli::error::{Error, Result};
use crate::cli::exit::Exit;
use crate::cli::print::{human, table};
use crate::ops::Context;
use crate::ops::prune::{self, MaxUnused, Options, Outcome};
use serde::Serialize;

#[derive(Serialize)]
struct JsonPrune {
    message_type: &'static str,
    dry_run: bool,
    snapshots: u64,
    live_blobs: u64,
    packs_before: u64,
    packs_kept: u64,
    packs_deleted: u64,
    packs_repacked: u64,
    /// Packs that were condemned and that somebody needs after all.
    packs_spared: u64,
    packs_written: u64,
    deleted_bytes: u64,
    written_bytes: u64,
    bytes_before: u64,
    bytes_after: u64,
    freed_bytes: u64,
    unused_bytes: u64,
    /// What only differences hang on that nobody needs.
    pinned_bytes: u64,
    segments_before: u64,
    segments_after: u64,
    sessions_fenced: u64,
    sessions_cleared: u64,
    /// Why deleting was left to a later prune; null if it was not.
    waiting: Option<String>,
    /// What was left to a later prune.
    waiting_packs: u64,
    waiting_bytes: u64,
}

/// Prunes.
pub fn run(app: &App, given: &Prune) -> Result<Exit> {
    let max_unused = given.max_unused.parse::<MaxUnused>().map_err(|error| Error::usage(error.to_string()))?;
    let options =
        Options { max_unused, max_repack_bytes: given.max_repack, dry_run: given.dry_run, ..Options::default() };
    prune(app, &app.context()?, &options)
}

/// The same in a context that is open.
pub fn prune(app: &App, context: &Context, options: &Options) -> Result<Exit> {
    let outcome = prune::prune(context, options)?;
    app.look.finish();
    match app.out.is_json() {
        true => print_json(app, &outcome),
        false => print_text(app, &outcome),
    }
    Ok(Exit::Done)
}

fn print_json(app: &App, outcome: &Outcome) {
    app.out.object(&JsonPrune {
        message_type: "prune",
        dry_run: outcome.dry_run,
        snapshots: outcome.snapshots,
        live_blobs: outcome.live_blobs,
        packs_before: outcome.packs_before,
        packs_kept: outcome.packs_kept,
        packs_deleted: outcome.packs_deleted,
        packs_repacked: outcome.packs_repacked,
        packs_spared: outcome.packs_spared,
        packs_written: outcome.packs_written,
        deleted_bytes: outcome.deleted_bytes,
        written_bytes: outcome.written_bytes,
        bytes_before: outcome.bytes_before,
        bytes_after: outcome.bytes_after,
        freed_bytes: outcome.freed_bytes,
        unused_bytes: outcome.unused_bytes,
        pinned_bytes: outcome.pinned_bytes,
        segments_before: outcome.segments_before,
        segments_after: outcome.segments_after,
        sessions_fenced: outcome.sessions_fenced,
        sessions_cleared: outcome.sessions_cleared,
        waiting: outcome.waiting.as_ref().map(|waiting| waiting.reason.clone()),
        waiting_packs: outcome.waiting.as_ref().map_or(0, |waiting| waiting.packs),
        waiting_bytes: outcome.waiting.as_ref().map_or(0, |waiting| waiting.bytes),
    });
}

fn print_text(app: &App, outcome: &Outcome) {
    let packs = |number| human::counted(number, "pack");
    let would = if outcome.dry_run { "would be " } else { "" };
    let mut facts = vec![
        ("looked at", format!("{}, {}", human::counted(outcome.snapshots, "snapshot"), packs(outcome.packs_before))),
        (
            "packs",
            format!(
                "{} kept, {} {would}deleted, {} {would}rewritten, {} written",
                outcome.packs_kept, outcome.packs_deleted, outcome.packs_repacked, outcome.packs_written
            ),
        ),
        (
            "bytes",
            format!(
                "{} {would}deleted, {}{} {would}written",
                human::bytes(outcome.deleted_bytes),
                if outcome.dry_run { "about " } else { "" },
                human::bytes(outcome.written_bytes)
            ),
        ),
        ("size", format!("{} before, {} after", human::bytes(outcome.bytes_before), human::bytes(outcome.bytes_after))),
        (
            "freed",
            format!(
                "{}{}",
                human::bytes(outcome.freed_bytes),
                if outcome.dry_run { " (not yet: this was a dry run)" } else { "" }
            ),
        ),
        ("unused", format!("{} left in packs that are needed", human::bytes(outcome.unused_bytes))),
    ];
    if outcome.pinned_bytes > 0 {
        facts.push(("kept for", format!("differences that nobody needs: {}", human::bytes(outcome.pinned_bytes))));
    }
    if outcome.packs_spared > 0 {
        facts.push(("spared", format!("{} that a backup beside it needs after all", packs(outcome.packs_spared))));
    }
    if let Some(waiting) = &outcome.waiting {
        let what = format!("{}, {}", packs(waiting.packs), human::bytes(waiting.bytes));
        facts.push(("waiting", format!("{what} left to a later prune: {}", waiting.reason)));
    }
    table::facts(&app.out, &facts);
    let next = match (outcome.dry_run, &outcome.waiting) {
        (true, _) | (_, Some(_)) => "prune",
        _ => "verify --structure",
    };
    app.close("what the snapshots hold", "what only forgotten snapshots held", next);
}
