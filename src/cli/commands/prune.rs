//! `prune`: delete what no snapshot needs any more.

use crate::base::Problem;
use crate::cli::app::App;
use crate::cli::args::Prune;
use crate::cli::error::{Error, Result};
use crate::cli::exit::Exit;
use crate::cli::print::json::JsonTraffic;
use crate::cli::print::{human, table};
use crate::config::values::log_age;
use crate::ops::Context;
use crate::ops::prune::{self, Gone, MaxUnused, Options, Outcome};
use crate::store::{Locked, ObjectStore, Traffic};
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
    kept_bytes: u64,
    repacked_bytes: u64,
    /// What of rewritten packs is read and written, about.
    copied_bytes: u64,
    /// Packs that were condemned and that somebody needs after all.
    packs_spared: u64,
    /// Packs of write-only clients that were read and are relied on from now on.
    packs_vouched: u64,
    /// Blobs of such clients that are not what they say.
    blobs_doubtful: u64,
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
    segments_deleted: u64,
    segments_written: u64,
    /// Parity sidecars that went with their packs; their bytes are in no other figure.
    sidecars_deleted: u64,
    sidecar_bytes_deleted: u64,
    /// Packs that nobody needs and that the store keeps, because they are locked.
    packs_locked: u64,
    locked_bytes: u64,
    segments_locked: u64,
    /// Until when the last of them is; null if that is not known, or none is.
    locked_until: Option<String>,
    /// What goes before the time that its storage class is billed for at least.
    early_bytes: u64,
    /// Objects whose locks were looked at and made to last longer; null if that was not asked for.
    locks: Option<JsonLocks>,
    sessions_fenced: u64,
    sessions_cleared: u64,
    /// Older records of operations that were put together, and dropped.
    records_merged: u64,
    records_dropped: u64,
    /// Why deleting was left to a later prune; null if it was not.
    waiting: Option<String>,
    /// What was left to a later prune.
    waiting_packs: u64,
    waiting_bytes: u64,
    /// Packs that stay as they are because something in them is needed and cannot be read.
    damaged: Vec<JsonDamaged>,
    location: String,
    /// What was asked of the store; null where requests cost nothing.
    store: Option<JsonTraffic>,
}

#[derive(Serialize)]
struct JsonLocks {
    objects: u64,
    extended: u64,
    first_end: Option<String>,
}

#[derive(Serialize)]
struct JsonDamaged {
    object: String,
    message: String,
}

/// Prunes.
pub fn run(app: &App, given: &Prune) -> Result<Exit> {
    let max_unused = given.max_unused.parse::<MaxUnused>().map_err(|error| Error::usage(error.to_string()))?;
    if given.extend_lock && app.global.s3.s3_object_lock.is_none() {
        return Err(Error::usage("--extend-lock needs to know for how long: --s3-object-lock MODE:DAYS"));
    }
    let options = Options {
        max_unused,
        max_repack_bytes: given.max_repack,
        keep_log: given.keep_log.as_deref().map(log_age).transpose().map_err(Error::usage)?,
        dry_run: given.dry_run,
        extend_locks: given.extend_lock,
        gone: if given.forget_gone { Gone::Forgotten } else { Gone::Refused },
        ..Options::default()
    };
    prune(app, &app.context()?, &options)
}

/// The same in a context that is open.
pub fn prune(app: &App, context: &Context, options: &Options) -> Result<Exit> {
    let outcome = prune::prune(context, options)?;
    app.look.finish();
    let store = context.repository.store();
    match app.out.is_json() {
        true => print_json(app, &**store, &outcome),
        false => print_text(app, &store.traffic(), &outcome),
    }
    Ok(super::tell(app, &outcome.damaged))
}

fn print_json(app: &App, store: &dyn ObjectStore, outcome: &Outcome) {
    app.out.object(&JsonPrune {
        message_type: "prune",
        dry_run: outcome.dry_run,
        snapshots: outcome.snapshots,
        live_blobs: outcome.live_blobs,
        packs_before: outcome.packs_before,
        packs_kept: outcome.packs_kept,
        packs_deleted: outcome.packs_deleted,
        packs_repacked: outcome.packs_repacked,
        kept_bytes: outcome.kept_bytes,
        repacked_bytes: outcome.repacked_bytes,
        copied_bytes: outcome.copied_bytes,
        packs_spared: outcome.packs_spared,
        packs_vouched: outcome.packs_vouched,
        blobs_doubtful: outcome.blobs_doubtful,
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
        segments_deleted: outcome.segments_deleted,
        segments_written: outcome.segments_written,
        sidecars_deleted: outcome.sidecars_deleted,
        sidecar_bytes_deleted: outcome.sidecar_bytes_deleted,
        packs_locked: outcome.packs_locked,
        locked_bytes: outcome.locked_bytes,
        segments_locked: outcome.segments_locked,
        locked_until: match outcome.lock {
            Some(Locked::Until(until)) => Some(format!("{until:.0}")),
            Some(Locked::OnHold) | None => None,
        },
        early_bytes: outcome.early_bytes,
        locks: outcome.locks.map(|locks| JsonLocks {
            objects: locks.objects,
            extended: locks.extended,
            first_end: locks.first_end.map(|end| format!("{end:.0}")),
        }),
        sessions_fenced: outcome.sessions_fenced,
        sessions_cleared: outcome.sessions_cleared,
        records_merged: outcome.records_merged,
        records_dropped: outcome.records_dropped,
        waiting: outcome.waiting.as_ref().map(|waiting| waiting.reason.clone()),
        waiting_packs: outcome.waiting.as_ref().map_or(0, |waiting| waiting.packs),
        waiting_bytes: outcome.waiting.as_ref().map_or(0, |waiting| waiting.bytes),
        damaged: outcome.damaged.iter().map(json_damaged).collect(),
        location: store.location(),
        store: JsonTraffic::of(&store.traffic()),
    });
}

fn json_damaged(problem: &Problem) -> JsonDamaged {
    JsonDamaged { object: problem.subject.clone(), message: problem.message.clone() }
}

fn print_text(app: &App, traffic: &Traffic, outcome: &Outcome) {
    let packs = |number| human::counted(number, "pack");
    let would = if outcome.dry_run { "would be " } else { "" };
    let about = if outcome.dry_run { "about " } else { "" };
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
                "{} kept, {} {would}deleted, {} {would}rewritten, {about}{} {would}written",
                human::bytes(outcome.kept_bytes),
                human::bytes(outcome.deleted_bytes),
                human::bytes(outcome.repacked_bytes),
                human::bytes(outcome.written_bytes)
            ),
        ),
    ];
    if !outcome.dry_run {
        let (deleted, written) = (outcome.segments_deleted, outcome.segments_written);
        facts.push((
            "index",
            format!("{}, {deleted} deleted, {written} written", human::counted(outcome.segments_after, "segment")),
        ));
    }
    facts.extend([
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
    ]);
    facts.extend(exceptions(outcome));
    if traffic.requests() > 0 {
        facts.push(("store", human::traffic(traffic)));
    }
    table::facts(&app.out, &facts);
    let next = match (outcome.dry_run, &outcome.waiting) {
        (true, _) | (_, Some(_)) => "prune",
        _ => "verify --structure",
    };
    app.close("what the snapshots hold", "what only forgotten snapshots held", next);
}

/// What is not as everybody expects it.
fn exceptions(outcome: &Outcome) -> Vec<(&'static str, String)> {
    let packs = |number| human::counted(number, "pack");
    let mut facts = Vec::new();
    if outcome.pinned_bytes > 0 {
        facts.push(("kept for", format!("differences that nobody needs: {}", human::bytes(outcome.pinned_bytes))));
    }
    if outcome.packs_vouched > 0 {
        facts.push(("vouched", format!("{} of write-only clients, read for this", packs(outcome.packs_vouched))));
    }
    if outcome.blobs_doubtful > 0 {
        let blobs = outcome.blobs_doubtful;
        facts.push(("doubtful", format!("{blobs} blobs of write-only clients are not what they say")));
    }
    if outcome.sidecars_deleted > 0 {
        let would = if outcome.dry_run { "would be " } else { "" };
        let what = human::counted(outcome.sidecars_deleted, "sidecar");
        facts.push(("parity", format!("{what} {would}deleted, {}", human::bytes(outcome.sidecar_bytes_deleted))));
    }
    if outcome.packs_spared > 0 {
        facts.push(("spared", format!("{} that a backup beside it needs after all", packs(outcome.packs_spared))));
    }
    if outcome.early_bytes > 0 {
        let early = human::bytes(outcome.early_bytes);
        facts.push(("billed on", format!("{early} that goes before the least time of its storage class")));
    }
    if let Some(lock) = outcome.lock {
        let mut what = format!("{}, {}", packs(outcome.packs_locked), human::bytes(outcome.locked_bytes));
        if outcome.segments_locked > 0 {
            what.push_str(&format!(", {}", human::counted(outcome.segments_locked, "index segment")));
        }
        facts.push(("locked", format!("{what} that nobody needs, the last {lock}; a prune after that deletes it")));
    }
    if let Some(locks) = outcome.locks {
        let end = locks.first_end.map_or(String::new(), |end| format!(", none ends before {end:.0}"));
        let objects = human::counted(locks.objects, "object");
        facts.push(("locks", format!("{} of {objects} made to last longer{end}", human::count(locks.extended))));
    }
    if let Some(waiting) = &outcome.waiting {
        let what = format!("{}, {}", packs(waiting.packs), human::bytes(waiting.bytes));
        facts.push(("waiting", format!("{what} left to a later prune: {}", waiting.reason)));
    }
    facts
}
