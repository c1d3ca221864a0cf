//! Snapshots copied from one repository into another: the second site.
//!
//! ```text
//! choose:   which snapshots are not there yet, and beside which copy each is walked
//! walk:     trees from the root down; what the destination holds is passed over      (`walk`)
//! content:  whole blobs by pack, with their compressed form; then series, on bases   (`content`, `series`)
//! rename:   trees from the leaves up, where the two name blobs differently           (`rename`)
//! commit:   a snapshot of its own, which says where it was made
//! ```
//!
//! Each snapshot has a writer's session of its own in the destination and is committed before the next one is begun, the
//! oldest first, so that what a night changed finds its bases there. In the source one reader's session stands over all.
//!
//! Two repositories *share names* when they hold the same dedup key (`init --from`). Then trees are taken byte for byte,
//! and what is there is known by its name. If they do not, every blob is read and named anew, unless a snapshot that was
//! copied before tells what it is called there.
//!
//! A crash after any step leaves packs that the next run finds in the index, or a whole snapshot more. Who slept so long
//! that a prune of the destination took it for dead looks through what it stored, as a backup does, and commits anew.

mod choose;
mod content;
mod failures;
mod held;
mod rename;
mod series;
mod walk;

use super::record::Record;
use super::select::Listing;
use super::verify::{self, Damage};
use super::whole::{BEGINNINGS, Trust, is_of_sleep, is_still_there};
use super::{Context, Error, Result};
use crate::base::{BlobId, Event, Kind, PackId, Problem, SnapshotId};
use crate::compress::Level;
use crate::format::run::Outcome as RunOutcome;
use crate::format::session::SessionKind;
use crate::format::snapshot::Snapshot;
use crate::repo::blob_writer::{BlobWriter, Counters, Settings};
use crate::repo::{Session, snapshots};
use choose::{Beside, There};
use content::Content;
use failures::Failures;
use held::Held;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Raw bytes that may be between reading and pack.
const IN_FLIGHT_BYTES: usize = 12 << 20;

/// What to copy and how.
#[derive(Clone, Debug)]
pub struct Options {
    /// Snapshots of the source, and what of them could not be read.
    pub listing: Listing,
    /// How hard to compress what cannot be taken as it is.
    pub level: Level,
    /// Read what was stored back before each snapshot is committed.
    pub verify: bool,
    /// Store nothing, only say what would be.
    pub dry_run: bool,
}

/// What became of one snapshot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fate {
    /// Copied, under this name.
    Copied(SnapshotId),
    /// It was there, under this name.
    There(SnapshotId),
    /// It would be copied: this is a dry run.
    WouldBe,
    /// It cannot be copied whole, so it was not committed.
    Damaged,
    /// It was removed from the source before its turn came.
    Gone,
}

/// One snapshot of the source.
#[derive(Clone, Debug)]
pub struct One {
    /// The snapshot.
    pub snapshot: Snapshot,
    /// What became of it.
    pub fate: Fate,
    /// What it cost.
    pub cost: Cost,
}

/// What copying cost.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cost {
    /// Trees and lists that were read.
    pub trees: u64,
    /// Blobs of content that the destination was not known to hold.
    pub blobs: u64,
    /// Their bytes.
    pub blob_bytes: u64,
    /// Bytes read from the source for them.
    pub read_bytes: u64,
    /// Blobs that were new in the destination, trees and lists included.
    pub new_blobs: u64,
    /// Bytes that the destination grew by.
    pub added_bytes: u64,
}

impl Cost {
    fn add(&mut self, other: &Cost) {
        self.trees += other.trees;
        self.blobs += other.blobs;
        self.blob_bytes += other.blob_bytes;
        self.read_bytes += other.read_bytes;
        self.new_blobs += other.new_blobs;
        self.added_bytes += other.added_bytes;
    }
}

/// What came of it.
#[derive(Clone, Debug, Default)]
pub struct Outcome {
    /// The snapshots that were meant, oldest first.
    pub snapshots: Vec<One>,
    /// The two repositories name blobs alike.
    pub shared_names: bool,
    /// What it cost in all.
    pub cost: Cost,
    /// Damage in the source, with the files that it hurts.
    pub damages: Vec<Damage>,
    /// How many damages there are.
    pub damage_count: u64,
    /// Damage that was met in the destination, and snapshots of the source that cannot be read.
    pub problems: Vec<Problem>,
}

impl Outcome {
    /// How many snapshots had this fate.
    pub fn count(&self, is: impl Fn(&Fate) -> bool) -> u64 {
        self.snapshots.iter().filter(|one| is(&one.fate)).count() as u64
    }

    /// Whether anything is damaged.
    pub fn damage(&self) -> bool {
        self.damage_count > 0 || !self.problems.is_empty()
    }
}

/// Copies snapshots of `source` into `destination`.
pub fn copy(source: &Context, destination: &Context, options: &Options) -> Result<Outcome> {
    refuse_same(source, destination)?;
    let mut record = Record::begin(destination, "copy");
    let done = run(source, destination, options, &mut record);
    match &done {
        // What stores nothing leaves no record either.
        _ if options.dry_run => {}
        Err(error) => record.save_failure(destination, error),
        Ok(outcome) => {
            figures(&mut record, outcome);
            record.problems(&outcome.problems);
            let problem = |damage: &Damage| Problem::new(&damage.object, &damage.message, Kind::Damaged);
            record.problems(&outcome.damages.iter().map(problem).collect::<Vec<_>>());
            record.save(destination, if outcome.damage() { RunOutcome::Damage } else { RunOutcome::Done })?;
        }
    }
    done
}

/// Refuses to copy a repository into itself, whatever the two are called.
fn refuse_same(source: &Context, destination: &Context) -> Result<()> {
    if source.repository.id() != destination.repository.id() {
        return Ok(());
    }
    let (from, to) = (source.repository.store().location(), destination.repository.store().location());
    Err(Error::Refused(format!("{from} and {to} are the same repository: there is nothing to copy")))
}

fn figures(record: &mut Record, outcome: &Outcome) {
    for (name, value) in [
        ("snapshots_copied", outcome.count(|fate| matches!(fate, Fate::Copied(_)))),
        ("snapshots_there", outcome.count(|fate| matches!(fate, Fate::There(_)))),
        ("snapshots_damaged", outcome.count(|fate| matches!(fate, Fate::Damaged))),
        ("trees", outcome.cost.trees),
        ("blobs", outcome.cost.blobs),
        ("blob_bytes", outcome.cost.blob_bytes),
        ("read_bytes", outcome.cost.read_bytes),
        ("new_blobs", outcome.cost.new_blobs),
        ("added_bytes", outcome.cost.added_bytes),
        ("damages", outcome.damage_count),
    ] {
        record.figure(name, value);
    }
}

fn run(source: &Context, destination: &Context, options: &Options, record: &mut Record) -> Result<Outcome> {
    if !options.dry_run {
        destination.repository.check_writable()?;
    }
    // From here on nothing is swept under us in the source.
    let (session, opened) = source.read_session("copy")?;
    let failures = Failures::new(source);
    let missing = source.missing_segments(&options.listing.snapshots)?;
    let damaged = opened.damaged.iter().chain(&missing);
    damaged.for_each(|problem| failures.object(&problem.subject, &problem.message));
    let mut copying = Copying::begin(source, destination, options, failures)?;
    for snapshot in &options.listing.snapshots {
        let one = copying.take(snapshot)?;
        if let Fate::Copied(id) = one.fate {
            record.snapshot(id);
        }
        copying.outcome.cost.add(&one.cost);
        copying.outcome.snapshots.push(one);
    }
    let outcome = copying.finish()?;
    session.map_or(Ok(()), Session::end)?;
    Ok(outcome)
}

/// A copy on its way.
struct Copying<'c> {
    source: &'c Context,
    destination: &'c Context,
    options: &'c Options,
    there: There,
    held: Held<'c>,
    /// The condemned records of the destination that were open when what is held was found out.
    condemned: BTreeSet<u64>,
    failures: Arc<Failures>,
    outcome: Outcome,
}

impl<'c> Copying<'c> {
    fn begin(
        source: &'c Context,
        destination: &'c Context,
        options: &'c Options,
        failures: Failures,
    ) -> Result<Copying<'c>> {
        let store = &**destination.repository.store();
        let mut outcome = Outcome::default();
        let opened = destination.index.refresh(store, destination.repository.keyring())?;
        outcome.problems.extend(opened.damaged);
        let whole = destination.index.check_packs(store, outcome.problems.is_empty())?;
        outcome.problems.extend(whole.missing.iter().map(missing_pack));
        let there = There::find(source, destination, &mut outcome.problems)?;
        // With a part of the destination out of reach, its snapshots tell nothing of what it holds.
        let trusted = !whole.damaged && outcome.problems.is_empty();
        outcome.problems.extend(options.listing.damaged.iter().cloned());
        outcome.problems.iter().for_each(|problem| destination.monitor.event(Event::Problem(problem)));
        let held = Held::new(source, destination)?;
        outcome.shared_names = held.is_shared();
        let there = if trusted { there } else { there.not_to_be_relied_on() };
        let (condemned, failures) = (opened.condemned.into_iter().collect(), Arc::new(failures));
        Ok(Copying { source, destination, options, there, held, condemned, failures, outcome })
    }

    /// Copies one snapshot, unless it is there.
    fn take(&mut self, snapshot: &Snapshot) -> Result<One> {
        self.source.check_stop()?;
        let one = |fate, cost| One { snapshot: snapshot.clone(), fate, cost };
        if let Some(id) = self.there.copy_of(self.source, snapshot) {
            return Ok(one(Fate::There(id), Cost::default()));
        }
        if !self.there.is_in_source(self.source, snapshot) {
            return Ok(one(Fate::Gone, Cost::default()));
        }
        let name = format!("looking at {}", snapshot.id.short());
        self.source.monitor.event(Event::Phase(&name));
        let failed_before = self.failures.count();
        let (fate, cost) = match self.options.dry_run {
            true => self.look(snapshot)?,
            false => self.store(snapshot, failed_before)?,
        };
        if self.failures.count() > failed_before {
            // What was marked as held may be what could not be read.
            self.held.forget_walked()?;
            self.failures.find_files(self.source, snapshot)?;
            return Ok(one(Fate::Damaged, cost));
        }
        Ok(one(fate, cost))
    }

    /// Says what copying a snapshot would take.
    fn look(&mut self, snapshot: &Snapshot) -> Result<(Fate, Cost)> {
        let beside = self.beside(snapshot, None)?;
        let (_, cost) = self.walk(snapshot, beside, None)?;
        Ok((Fate::WouldBe, cost))
    }

    /// Stores what a snapshot needs and commits it, unless some of it could not be read. Who was taken for dead meanwhile
    /// looks whether all is still there and commits anew, or copies once more.
    fn store(&mut self, snapshot: &Snapshot, failed_before: u64) -> Result<(Fate, Cost)> {
        let mut session = self.begin_session()?;
        let packs = if self.options.verify { self.packs()? } else { BTreeSet::new() };
        let (mut cost, mut stored) = (Cost::default(), None);
        for beginning in 1.. {
            let last = beginning == BEGINNINGS;
            let root = match stored.take() {
                Some(root) => root,
                None => match self.put(snapshot, &session, &mut cost) {
                    Err(error) if !last && is_of_sleep(self.destination, session.id(), &error)? => {
                        session = self.begin_anew("copying it once more")?;
                        continue;
                    }
                    root => root?,
                },
            };
            if self.failures.count() > failed_before {
                session.end()?;
                return Ok((Fate::Damaged, cost));
            }
            self.read_back(&packs)?;
            let committed = self.there.as_copied(self.source, self.destination, snapshot, session.id(), root)?;
            match session.commit(&committed) {
                Err(crate::repo::Error::Fenced(_)) if !last => {}
                done => {
                    done?;
                    let id = committed.id;
                    self.there.add(committed);
                    return Ok((Fate::Copied(id), cost));
                }
            }
            // This machine slept, or the destination was away, for longer than a prune waits.
            session = self.begin_session()?;
            if is_still_there(self.destination, root)? {
                self.say_asleep("all that it stored is still there");
                stored = Some(root);
            } else {
                self.say_asleep("something that it stored is gone, so it is copied once more");
                self.held = Held::new(self.source, self.destination)?;
            }
        }
        unreachable!("the last beginning returns")
    }

    fn say_asleep(&self, what: &str) {
        let note = format!("this copy was taken for dead by a prune of the destination: {what}");
        self.destination.monitor.event(Event::Note(&note));
    }

    /// Begins as if nothing had been stored or learnt for this snapshot.
    fn begin_anew(&mut self, what: &str) -> Result<Session<'c>> {
        self.say_asleep(what);
        // What was on its way is nobody's any more.
        self.destination.index.finish_run()?;
        let session = self.begin_session()?;
        self.held = Held::new(self.source, self.destination)?;
        Ok(session)
    }

    /// Stores what a snapshot needs, whatever becomes of it; gives its root in the destination.
    fn put(&mut self, snapshot: &Snapshot, session: &Session<'_>, cost: &mut Cost) -> Result<BlobId> {
        let writer = self.begin_writer(session)?;
        let counters = writer.counters().clone();
        let content = Content::new(self, writer);
        let filled = self.fill(snapshot, session, &content);
        // Interrupted or not: what is on its way is stored, and the next run finds it.
        let finished = content.finish();
        let (root, mut this_time) = match (filled, finished) {
            (Err(error), Err(_)) if error.kind() != Kind::Interrupted => return Err(error),
            (filled, finished) => finished.and(filled)?,
        };
        take_counters(&mut this_time, &counters);
        cost.add(&this_time);
        Ok(root)
    }

    /// Begins a session and brings the index up to date after its mark, as every writer does before it relies on anything.
    fn begin_session(&mut self) -> Result<Session<'c>> {
        let repository = &self.destination.repository;
        let session = Session::begin(repository, SessionKind::Writer, "copy")?;
        let opened = self.destination.index.refresh(&**repository.store(), repository.keyring())?;
        opened.check_records(&repository.store().location())?;
        let names = snapshots::names(repository)?;
        let gone = self.there.forget_gone(&names.into_iter().collect());
        // What a snapshot reached that is gone may be gone too; and one of before a record may hang on what that names.
        if gone || self.condemned != *session.condemned() {
            self.held = Held::new(self.source, self.destination)?;
            self.condemned = session.condemned().clone();
        }
        Ok(session)
    }

    /// The snapshot of the destination beside which to walk, if it can be counted on.
    fn beside(&self, snapshot: &Snapshot, session: Option<&Session<'_>>) -> Result<Option<Beside>> {
        let beside = self.there.beside(self.source, snapshot, self.held.is_shared());
        let (Some(found), Some(number)) = (beside, session.and_then(|session| session.condemned().last())) else {
            return Ok(beside);
        };
        let mut trust = Trust::beside(self.destination, *number)?;
        Ok(if trust.takes(Some(found.id), found.new)? { beside } else { None })
    }

    fn begin_writer(&self, session: &Session<'_>) -> Result<BlobWriter> {
        let (repository, index) = (&self.destination.repository, &self.destination.index);
        let settings = Settings {
            level: self.options.level,
            // Bases come from the source, which knows them.
            deltas: false,
            in_flight_bytes: IN_FLIGHT_BYTES,
            repository_bytes: index.stored_bytes()?,
        };
        let condemned_seen = session.condemned_seen();
        let (repository, index) = (repository.clone(), index.clone());
        Ok(BlobWriter::begin(repository, index, session.id(), condemned_seen, &settings, None)?)
    }

    /// Trees and content; gives the name of the root in the destination.
    fn fill(&mut self, snapshot: &Snapshot, session: &Session<'_>, content: &Content<'c>) -> Result<(BlobId, Cost)> {
        let beside = self.beside(snapshot, Some(session))?;
        let failed_before = self.failures.count();
        let (wanted, mut cost) = self.walk(snapshot, beside, Some(content))?;
        let monitor = &self.source.monitor;
        monitor.event(Event::Phase(&format!("copying {}", snapshot.id.short())));
        monitor.event(Event::Total { items: cost.blobs, bytes: cost.blob_bytes, complete: true });
        cost.read_bytes = content.read(wanted)?;
        if self.held.is_shared() || self.failures.count() > failed_before {
            return Ok((snapshot.root, cost));
        }
        let root = rename::trees(self.source, &self.held, content, snapshot.root)?;
        Ok((root, cost))
    }

    /// The packs that the destination's index knows.
    fn packs(&self) -> Result<BTreeSet<PackId>> {
        Ok(self.destination.index.packs()?.into_iter().map(|pack| pack.id).collect())
    }

    /// Reads every pack in full that is not one of those `before`.
    fn read_back(&self, before: &BTreeSet<PackId>) -> Result<()> {
        if !self.options.verify {
            return Ok(());
        }
        let packs = self.destination.index.packs()?.into_iter();
        let new = packs.filter(|pack| !before.contains(&pack.id)).map(|pack| (pack.id, pack.size_bytes)).collect();
        self.source.monitor.event(Event::Phase("reading back what was stored"));
        let damages = verify::read_back(self.destination, &new)?;
        match damages.first() {
            None => Ok(()),
            Some(damage) => {
                let reason = format!("what was just stored does not come back ({}): check the store", damage.message);
                Err(crate::repo::Error::damaged(&damage.object, reason).into())
            }
        }
    }

    fn finish(mut self) -> Result<Outcome> {
        self.failures.hand_over(&mut self.outcome);
        Ok(self.outcome)
    }
}

fn take_counters(cost: &mut Cost, counters: &Counters) {
    let get = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
    cost.new_blobs = get(&counters.blobs_new);
    cost.added_bytes = get(&counters.added);
}

fn missing_pack(pack: &PackId) -> Problem {
    let message = "it is gone from the destination or has another size than it should: what is copied now does not rely \
                   on it; run `keepstone verify --all` there, then `keepstone rebuild-index`";
    Problem::new(format!("packs/{pack}"), message, Kind::Damaged)
}
