//! Whether everything that snapshots promise can be read.
//!
//! | depth | what is read |
//! | --- | --- |
//! | structure | config, slots, epochs, records, segments, snapshots; every tree and list; every chunk is in the index, its pack there and of the right size |
//! | content | also every chunk that the snapshots need: opened, decoded, named |
//! | sample | the same in some packs, chosen by lot |
//! | all | also every pack in full: its own name, its directory against the index, blobs that nobody needs |
//!
//! Ids lie on disk, packs are read in the order of their blocks: memory follows neither the number of blobs nor that of
//! files. What is found damaged is unknown to the index from then on, so that the next backup stores it again. At the end
//! the trees are walked once more for the files that are hurt.

mod content;
mod found;
mod full;
mod hurt;
mod objects;
mod packs;
#[cfg(test)]
mod tests;
mod trees;

use super::record::Record;
use super::{Context, Error, Result, select};
use crate::base::{Event, Kind, PackId, Problem, SnapshotId};
use crate::format::run::Outcome as RunOutcome;
use crate::format::snapshot::Snapshot;
pub(super) use found::Found;
pub(super) use hurt::find as find_hurt;
use std::collections::BTreeMap;
use std::sync::Arc;

/// How much is read.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub enum Depth {
    /// Everything but the content of files.
    Structure,
    /// All content that the snapshots need.
    #[default]
    Content,
    /// The content of so many of a hundred packs, at least one.
    Sample(f64),
    /// Every byte of every pack.
    All,
}

/// What to verify.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// These snapshots; none for all.
    pub snapshots: Vec<Snapshot>,
    /// How much is read.
    pub depth: Depth,
}

/// What was found.
#[derive(Clone, Debug, Default)]
pub struct Outcome {
    /// Snapshots whose trees were read.
    pub snapshots: u64,
    /// Different tree and list pieces that were read.
    pub trees: u64,
    /// Different chunks that these snapshots need.
    pub chunks: u64,
    /// Blobs that were read, decoded and named, trees and lists not counted.
    pub blobs_read: u64,
    /// Packs whose content was read.
    pub packs: u64,
    /// Bytes read from the store for content.
    pub bytes_read: u64,
    /// Bytes of content decoded and named.
    pub bytes_raw: u64,
    /// What is damaged; the first thousand.
    pub damages: Vec<Damage>,
    /// How many damages there are.
    pub damage_count: u64,
    /// Whether anything is damaged.
    pub damage: bool,
    /// What is worth knowing and not wrong.
    pub notes: Vec<String>,
}

/// Something damaged, and what it hurts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Damage {
    /// The object or the blob.
    pub object: String,
    /// What was tried and what came back.
    pub message: String,
    /// The files that cannot be restored for it; the first hundred.
    pub files: Vec<HurtFile>,
    /// How many files there are, counted once per snapshot.
    pub file_count: u64,
}

/// A file that cannot be restored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HurtFile {
    /// In which snapshot.
    pub snapshot: SnapshotId,
    /// Its path there.
    pub path: Vec<u8>,
}

/// Verifies.
pub fn verify(context: &Context, options: &Options) -> Result<Outcome> {
    if let Depth::Sample(percent) = options.depth
        && !(percent > 0.0 && percent <= 100.0)
    {
        return Err(Error::Usage(format!("cannot verify {percent} % of the packs: give more than 0 and at most 100")));
    }
    let mut record = Record::begin(context, "verify");
    let done = run(context, options, &mut record);
    match &done {
        Err(error) => record.save_failure(context, error),
        Ok(outcome) => {
            figures(&mut record, outcome);
            let problem = |damage: &Damage| Problem::new(&damage.object, &damage.message, Kind::Damaged);
            record.problems(&outcome.damages.iter().map(problem).collect::<Vec<_>>());
            let ended = if outcome.damage { RunOutcome::Damage } else { RunOutcome::Done };
            if let Err(error) = record.save(context, ended) {
                context.monitor.event(Event::Note(&format!("no record of this verify could be stored: {error}")));
            }
        }
    }
    done
}

fn figures(record: &mut Record, outcome: &Outcome) {
    for (name, value) in [
        ("snapshots", outcome.snapshots),
        ("trees", outcome.trees),
        ("chunks", outcome.chunks),
        ("blobs_read", outcome.blobs_read),
        ("packs", outcome.packs),
        ("read_bytes", outcome.bytes_read),
        ("raw_bytes", outcome.bytes_raw),
        ("damages", outcome.damage_count),
    ] {
        record.figure(name, value);
    }
}

fn run(context: &Context, options: &Options, record: &mut Record) -> Result<Outcome> {
    let (session, opened) = context.read_session("verify")?;
    if let Some(session) = &session {
        record.session(session.id());
    }
    let found = Arc::new(Found::new(context));
    let mut outcome = Outcome::default();
    context.monitor.event(Event::Phase("checking objects"));
    opened.damaged.iter().for_each(|problem| found.object(&problem.subject, &problem.message));
    objects::check(context, &found)?;
    objects::records(context, &found)?;
    let snapshots = selected(context, options, &found)?;
    // Some of them may have been committed since the index was brought up to date.
    context.index.refresh(&**context.repository.store(), context.repository.keyring())?;
    let missing = context.missing_segments(&snapshots)?;
    missing.iter().for_each(|problem| found.object(&problem.subject, &problem.message));
    outcome.snapshots = snapshots.len() as u64;

    context.monitor.event(Event::Phase("reading trees"));
    let mut live = context.index.begin_live()?;
    let walked = trees::read(context, &snapshots, &mut live, &found)?;
    (outcome.trees, outcome.chunks) = (walked.trees, walked.chunks);

    context.monitor.event(Event::Phase("checking packs"));
    let listed = packs::list(context)?;
    packs::compare(context, &listed, &live, &found)?;
    let read = match options.depth {
        Depth::Structure => None,
        Depth::All => {
            context.monitor.event(Event::Phase("reading packs in full"));
            Some(full::read(context, &listed, &found)?)
        }
        depth => {
            context.monitor.event(Event::Phase("reading content"));
            Some(content::read(context, depth, &listed, &live, &found)?)
        }
    };
    if let Some(read) = read {
        outcome.packs = read.packs;
        outcome.bytes_read = read.figures.stored_bytes;
        outcome.bytes_raw = read.figures.raw_bytes;
        outcome.blobs_read = found.blobs_read();
    }
    drop(live);
    if found.any_blob() {
        context.monitor.event(Event::Phase("looking for the files that are hurt"));
        hurt::find(context, &snapshots, &found)?;
    }
    if matches!(options.depth, Depth::Content | Depth::All) {
        // A snapshot of which only parts were read must not count as verified.
        snapshots.iter().for_each(|snapshot| record.snapshot(snapshot.id));
    }
    found.hand_over(&mut outcome);
    Ok(outcome)
}

/// Reads these packs from their first byte to their last, all that lies in them included; gives what is damaged.
pub(super) fn read_back(context: &Context, packs: BTreeMap<PackId, u64>) -> Result<Vec<Damage>> {
    let found = Arc::new(Found::new(context));
    full::read(context, &packs, &found)?;
    let mut outcome = Outcome::default();
    found.hand_over(&mut outcome);
    Ok(outcome.damages)
}

/// The snapshots to verify. When all are meant, those that cannot be read are damages.
fn selected(context: &Context, options: &Options, found: &Found) -> Result<Vec<Snapshot>> {
    if !options.snapshots.is_empty() {
        return Ok(options.snapshots.clone());
    }
    let listing = select::list_stored(context)?;
    listing.damaged.iter().for_each(|problem| found.object(&problem.subject, &problem.message));
    Ok(listing.snapshots)
}
