//! Whether everything that snapshots promise can be read.
//!
//! | depth | what is read |
//! | --- | --- |
//! | presence | config, slots, epochs, records, snapshots; each pack is there and has the right size |
//! | structure | also every segment of the index, tree and list; every chunk is in the index |
//! | content | also every chunk that the snapshots need: opened, decoded, named |
//! | sample | the same in some packs, chosen by lot |
//! | all | also every pack in full: its own name, its directory against the index, blobs that nobody needs |
//! | part | the same in a part of the packs, those that were read longest ago |
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
mod proven;
pub mod sealed;
pub(super) mod segments;
mod sidecars;
#[cfg(test)]
mod tests;
mod told;
mod trees;
mod turn;

use super::prune::stored_among;
use super::record::Record;
use super::{Context, Error, Result, select};
use crate::base::clock::Stopwatch;
use crate::base::{BlobId, Event, Kind, PackId, Problem, SnapshotId, SortedMap, SortedSet};
use crate::format::pack::BlobKind;
use crate::format::run::Outcome as RunOutcome;
use crate::format::snapshot::Snapshot;
use crate::repo;
use crate::repo::ledger::{self, Known, News};
use crate::repo::pack_reader::pack_key;
use crate::repo::snapshots;
pub(super) use found::Found;
pub(super) use hurt::find as find_hurt;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
pub use turn::Part;

/// How much is read.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub enum Depth {
    /// Small objects, and whether every pack is there in its full length.
    Presence,
    /// Everything but the content of files.
    Structure,
    /// All content that the snapshots need.
    #[default]
    Content,
    /// The content of so many of a hundred packs, at least one.
    Sample(f64),
    /// Every byte of every pack.
    All,
    /// Every byte of those packs whose turn it is.
    Part(Part),
}

/// The most lost blobs that are remembered.
const MAX_LOST: usize = 200_000;

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
    /// Something is sealed under a key that no epoch of the repository holds any more.
    pub lacks_epoch: bool,
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
    /// What was looked at, and how much of it is damaged.
    pub tally: Tally,
    /// Snapshots that something is hurt of.
    pub hurt: Vec<HurtSnapshot>,
    /// How far the packs are read by now, if whole packs were read.
    pub coverage: Option<Coverage>,
    /// Parity sidecars, if packs get some or have some.
    pub sidecars: Option<Sidecars>,
    /// Snapshots of which all is proven now, by this run or by this and earlier ones.
    pub proven: u64,
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
    /// It is a blob that no pack has.
    pub is_lost: bool,
    /// The files that cannot be restored for it; the first hundred.
    pub files: Vec<HurtFile>,
    /// How many files there are, counted once per snapshot.
    pub file_count: u64,
    /// How many there are in each snapshot.
    pub snapshots: BTreeMap<SnapshotId, u64>,
}

/// What was looked at, and how much of it is damaged.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Objects of the store.
    pub objects: u64,
    /// Of those, damaged ones.
    pub objects_damaged: u64,
    /// Trees, lists and chunks.
    pub blobs: u64,
    /// Of those, damaged ones.
    pub blobs_damaged: u64,
}

/// A snapshot that something is hurt of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HurtSnapshot {
    /// The snapshot.
    pub id: SnapshotId,
    /// Files and directories that something is hurt of, each once.
    pub files: u64,
}

/// What of parity sidecars was looked at.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sidecars {
    /// How many there are, of packs that the index counts on.
    pub there: u64,
    /// Packs that should have one and have none.
    pub missing: u64,
    /// Sidecars with another size than they should have by now.
    pub other_size: u64,
    /// Sidecars that were read from their first byte to their last.
    pub read: u64,
}

/// How far packs are read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Coverage {
    /// Packs that there are.
    pub packs: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Packs that were never read to their last byte, or not since they were damaged.
    pub unread_packs: u64,
    /// Their bytes.
    pub unread_bytes: u64,
    /// When that was read whose turn comes next, nanoseconds since 1970; of what was read at all.
    pub oldest_ns: Option<i64>,
    /// In how many runs like this one all packs are read, if a part was read.
    pub nights: Option<u64>,
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
    check(options)?;
    let mut record = Record::begin(context, "verify");
    let found = Arc::new(Found::new(context));
    let mut known = ledger::load(&context.repository)?;
    let done = run(context, options, &mut record, &found, &mut known);
    match &done {
        Err(error) => {
            // What was read until then counts.
            let read = found.news();
            note_down(context, &mut record, &mut known, &News { hurt: Vec::new(), ..read });
            record.save_failure(context, error);
        }
        Ok((outcome, news)) => {
            figures(&mut record, outcome);
            let problem = |damage: &Damage| Problem::new(&damage.object, &damage.message, Kind::Damaged);
            record.problems(&outcome.damages.iter().map(problem).collect::<Vec<_>>());
            note_down(context, &mut record, &mut known, news);
            let ended = if outcome.damage { RunOutcome::Damage } else { RunOutcome::Done };
            if let Err(error) = record.save(context, ended) {
                context.monitor.event(Event::Note(&format!("no record of this verify could be stored: {error}")));
            }
        }
    }
    done.map(|(outcome, _)| outcome)
}

fn check(options: &Options) -> Result<()> {
    match options.depth {
        Depth::Sample(percent) if !(percent > 0.0 && percent <= 100.0) => {
            Err(Error::Usage(format!("cannot verify {percent} % of the packs: give more than 0 and at most 100")))
        }
        Depth::Part(Part { share: Some((parts, of)), .. }) if parts == 0 || parts > of => {
            Err(Error::Usage(format!("{parts}/{of} is no share of the packs: give 1/30 for all of them in 30 nights")))
        }
        _ => Ok(()),
    }
}

/// Stores what was proven.
fn note_down(context: &Context, record: &mut Record, known: &mut Known, news: &News) {
    if news.is_empty() {
        return;
    }
    let stored = record.ledger(context, known, news);
    if let Err(error) = stored {
        let note = format!("what was read could not be noted down, so it counts as not read: {error}");
        context.monitor.event(Event::Note(&note));
    }
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

fn run(
    context: &Context,
    options: &Options,
    record: &mut Record,
    found: &Arc<Found>,
    known: &mut Known,
) -> Result<(Outcome, News)> {
    let since = Stopwatch::start();
    let (session, opened) = context.read_session("verify")?;
    if let Some(session) = &session {
        record.session(session.id());
    }
    let mut outcome = Outcome { notes: known.doubts.clone(), ..Outcome::default() };
    outcome.notes.iter().for_each(|doubt| context.monitor.event(Event::Note(doubt)));
    context.monitor.event(Event::Phase("checking objects"));
    opened.damaged.iter().for_each(|problem| found.object(&problem.subject, &problem.message));
    objects::check(context, found)?;
    let told = objects::records(context, found)?;
    let snapshots = selected(context, options, found)?;
    if options.snapshots.is_empty() || options.depth != Depth::Content {
        note_missing(context, &told, &snapshots, found)?;
    }
    found.looked_at(snapshots.len() as u64);
    // Some of them may have been committed since the index was brought up to date.
    context.index.refresh(&**context.repository.store(), context.repository.keyring())?;
    let missing = context.missing_segments(&snapshots)?;
    missing.iter().for_each(|problem| found.object(&problem.subject, &problem.message));
    outcome.snapshots = snapshots.len() as u64;
    let reads = !matches!(options.depth, Depth::Presence | Depth::Structure);
    if reads && opened.damaged.is_empty() {
        reconsider(context)?;
    }
    if options.depth != Depth::Presence {
        let looked = segments::look(context, &opened)?;
        found.looked_at(looked.segments);
        looked.damaged.iter().for_each(|problem| found.object(&problem.subject, &problem.message));
    }

    let mut live = context.index.begin_live()?;
    if options.depth != Depth::Presence {
        context.monitor.event(Event::Phase("reading trees"));
        let walked = trees::read(context, &snapshots, &mut live, found)?;
        (outcome.trees, outcome.chunks) = (walked.trees, walked.chunks);
        found.walked(walked.trees);
    }

    context.monitor.event(Event::Phase("checking packs"));
    let listed = packs::list(context)?;
    packs::compare(context, &listed, &live, found)?;
    let read = match &options.depth {
        Depth::Presence | Depth::Structure => None,
        Depth::All => {
            context.monitor.event(Event::Phase("reading packs in full"));
            Some(full::read(context, &listed, found, &|| false)?)
        }
        Depth::Part(part) => {
            context.monitor.event(Event::Phase("reading packs in their turn"));
            Some(turn::read(context, part, &since, &listed, known, found)?)
        }
        depth => {
            context.monitor.event(Event::Phase("reading content"));
            Some(content::read(context, *depth, &listed, &live, found)?)
        }
    };
    let whole_packs = if let Depth::Part(_) = options.depth { found.packs_read() } else { SortedSet::default() };
    let was_read = |pack: &PackId| match options.depth {
        Depth::All => listed.contains(pack),
        _ => whole_packs.contains(pack),
    };
    outcome.sidecars = sidecars::check(context, &listed, &was_read, found)?;
    if let Some(read) = &read {
        outcome.packs = read.packs;
        outcome.bytes_read = read.figures.stored_bytes;
        outcome.bytes_raw = read.figures.raw_bytes;
        outcome.blobs_read = found.blobs_read();
    }
    drop(live);
    if found.any_blob() {
        context.monitor.event(Event::Phase("looking for the files that are hurt"));
        hurt::find(context, &everywhere(context, options, &snapshots)?, found)?;
    }
    let news = conclude(context, options, &snapshots, found, known)?;
    outcome.proven = news.whole.len() as u64;
    if matches!(options.depth, Depth::Content | Depth::All) {
        // A snapshot of which only parts were read must not count as verified.
        news.whole.iter().for_each(|(id, _)| record.snapshot(*id));
    }
    outcome.coverage = match &options.depth {
        Depth::All => Some(turn::coverage(context, None, &listed, known)?),
        Depth::Part(part) => Some(turn::coverage(context, Some((part, outcome.bytes_read)), &listed, known)?),
        _ => None,
    };
    found.hand_over(&mut outcome);
    outcome.lacks_epoch = context.repository.keyring().lacks_any();
    Ok((outcome, news))
}

/// What hurts one snapshot may hurt others that nobody asked for.
fn everywhere(context: &Context, options: &Options, snapshots: &[Snapshot]) -> Result<Vec<Snapshot>> {
    match options.snapshots.is_empty() {
        true => Ok(snapshots.to_vec()),
        false => Ok(select::list_stored(context)?.snapshots),
    }
}

/// What this run has proven, with all that was known before.
fn conclude(
    context: &Context,
    options: &Options,
    snapshots: &[Snapshot],
    found: &Found,
    known: &mut Known,
) -> Result<News> {
    let now_ns = context.repository.now_ns();
    let mut news = found.news();
    known.read_now(&news, now_ns);
    // Where not all was told that is damaged, nobody knows what is whole.
    if !found.is_complete() {
        return Ok(news);
    }
    news.whole = match options.depth {
        Depth::Content | Depth::All => snapshots.iter().map(|snapshot| (snapshot.id, now_ns)).collect(),
        Depth::Part(_) => {
            context.monitor.event(Event::Phase("seeing which snapshots are proven"));
            proven::since(context, snapshots, known)?
        }
        _ => Vec::new(),
    };
    news.whole.retain(|(id, _)| !news.hurt.contains(id));
    Ok(news)
}

/// Notes snapshots of which records tell and that are not there. The store is asked only if some are not among those that
/// were read.
fn note_missing(context: &Context, told: &told::Told, read: &[Snapshot], found: &Found) -> Result<()> {
    let mut there: BTreeSet<SnapshotId> = read.iter().map(|snapshot| snapshot.id).collect();
    if !told.missing(&there).is_empty() {
        there.extend(snapshots::names(&context.repository)?);
        told.missing(&there).into_iter().for_each(|note| found.note(note));
    }
    Ok(())
}

/// Snapshots of which records tell, that are not there, and that nobody tells of having removed: somebody deleted them from
/// the store, and a prune would delete what only they need.
pub fn gone(context: &Context) -> Result<Vec<SnapshotId>> {
    let told = objects::tell(context)?;
    match told.gone(&BTreeSet::new()).next() {
        None => Ok(Vec::new()),
        Some(_) => Ok(told.gone(&snapshots::names(&context.repository)?.into_iter().collect()).collect()),
    }
}

/// Reads these packs from their first byte to their last, all that lies in them included; gives what is damaged.
pub(super) fn read_back(context: &Context, packs: &SortedMap<PackId, u64>) -> Result<Vec<Damage>> {
    let found = Arc::new(Found::new(context));
    full::read(context, packs, &found, &|| false)?;
    let mut outcome = Outcome::default();
    found.hand_over(&mut outcome);
    Ok(outcome.damages)
}

/// Reads packs once more that this machine could not read once: what is whole counts again. The next backup would store anew
/// what is there, and prune would leave alone what it could free.
pub(super) fn reconsider(context: &Context) -> Result<()> {
    if !context.index.knows_of_damage()? {
        return Ok(());
    }
    let doubtful = context.index.doubtful_packs()?;
    if !doubtful.is_empty() {
        context.monitor.event(Event::Phase("reading what could not be read once"));
        let there = stored_among(context, &|pack| doubtful.contains(pack))?;
        let found = Arc::new(Found::silent());
        full::read(context, &there, &found, &|| false)?;
        context.index.forget_damage(&found.news().packs.into_iter().collect())?;
    }
    // What stands on something that is gone is found out anew each time.
    context.index.check_packs(&**context.repository.store(), true)?;
    Ok(())
}

pub(super) use objects::damaged_records;

/// Compares what lies there twice with its other copy; gives what is damaged.
pub(super) fn copies(context: &Context) -> Result<Vec<Damage>> {
    let found = Found::silent();
    objects::check(context, &found)?;
    let mut outcome = Outcome::default();
    found.hand_over(&mut outcome);
    Ok(outcome.damages)
}

/// Blobs that nothing gives any more: what each is, and in which pack it lies.
pub(super) type Lost = BTreeMap<BlobId, (BlobKind, PackId)>;

/// Reads these packs from their first byte to their last. Gives the blobs that cannot be read any more, in them or in any
/// pack, and have no other place; and what was read.
pub(super) fn lost_with(context: &Context, packs: &SortedMap<PackId, u64>) -> Result<(Lost, News)> {
    let found = Arc::new(Found::silent());
    full::read(context, packs, &found, &|| false)?;
    let mut lost = Lost::new();
    let mut note = |pack: &PackId, id: &BlobId, kind: BlobKind| {
        if lost.len() < MAX_LOST {
            lost.insert(*id, (kind, *pack));
        }
    };
    // What stands on what is gone is lost with it, in whichever pack it lies.
    context.index.check_packs(&**context.repository.store(), true)?;
    context.index.each_damaged(&|_| true, &mut |pack, id, kind| {
        if context.index.places(id)?.is_empty() {
            note(pack, id, kind);
        }
        Ok(())
    })?;
    Ok((lost, found.news()))
}

/// Looks in all snapshots for the files that need what is lost.
pub(super) fn hurt_by(context: &Context, lost: &Lost) -> Result<Outcome> {
    let found = Found::silent();
    for (id, (_, pack)) in lost {
        found.blob(id, &repo::Error::damaged(pack_key(*pack), "something in it cannot be read"));
    }
    if found.any_blob() {
        hurt::find(context, &select::list_stored(context)?.snapshots, &found)?;
    }
    let mut outcome = Outcome::default();
    found.hand_over(&mut outcome);
    // What no snapshot needs hurts nobody.
    outcome.damages.retain(|damage| damage.file_count > 0);
    Ok(outcome)
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
