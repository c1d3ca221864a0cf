//! Sealing old packs anew under the newest epoch.
//!
//! A pack is rewritten as prune rewrites it: new packs and segments first, then a condemned record, then the old ones
//! go. So it can be interrupted at any moment, anybody goes on, and nobody at work is disturbed. What is left to do is
//! no record of its own: it is what the index says lies under older keys. Packs are taken in batches; each is read and
//! compared with its name before, so that a damaged one is counted and left, and the others go on.
//!
//! Trees and content are sealed anew, with the directories and segments that name them. Snapshots and run records keep
//! their keys: their names are said elsewhere, and they go with time.

use super::super::prune::{self, MaxUnused};
use super::super::record::Record;
use super::super::{Context, Error, Result};
use crate::base::monitor::Event;
use crate::base::{KeyId, Kind, PackId, Problem};
use crate::crypto::names::PackHasher;
use crate::format::envelope::ObjectKind;
use crate::format::run::Outcome as Ended;
use crate::repo;
use crate::repo::epochs;
use crate::repo::pack_reader::pack_key;
use std::collections::{BTreeMap, BTreeSet};

/// Packs of so many bytes are rewritten before the old ones go: what is lost at most by an interruption, and the room
/// that is needed at most.
const BATCH_BYTES: u64 = 1 << 30;
/// Bytes of a pack that are read at once.
const PIECE_BYTES: u64 = 4 << 20;

/// What is sealed anew.
#[derive(Clone, Debug, Default)]
pub struct ResealOptions {
    /// Only packs that were written since, nanoseconds since 1970; what is older is left to go with time.
    pub since_ns: Option<i64>,
    /// At most so many bytes of packs in this run; the next run goes on.
    pub budget_bytes: Option<u64>,
}

/// What came of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Resealed {
    /// Packs that were sealed anew.
    pub packs: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Packs that could not be read, and why.
    pub failed: Vec<Problem>,
    /// Packs that are still under older keys, failed ones included.
    pub left_packs: u64,
    /// Their bytes.
    pub left_bytes: u64,
    /// Of these, packs that were not meant: older than asked for.
    pub passed_over: u64,
    /// Old packs still lie there for somebody who is at work: a later prune deletes them.
    pub waiting: bool,
}

/// How many packs are under older keys than the newest, and their bytes.
pub fn old(context: &Context) -> Result<(u64, u64)> {
    adopt_newest(context)?;
    let old = old_packs(context)?;
    Ok((old.len() as u64, old.values().map(|(bytes, _)| bytes).sum()))
}

/// Seals old packs anew. Interrupted, it has done what its counts say.
pub fn reseal(context: &Context, options: &ResealOptions) -> Result<Resealed> {
    let mut record = Record::begin(context, "key rotate --reseal");
    let mut done = Resealed::default();
    match run(context, options, &mut done) {
        Ok(()) => {
            for (name, value) in [
                ("packs_resealed", done.packs),
                ("resealed_bytes", done.bytes),
                ("packs_failed", done.failed.len() as u64),
                ("packs_left", done.left_packs),
                ("left_bytes", done.left_bytes),
            ] {
                record.figure(name, value);
            }
            record.problems(&done.failed);
            record.save(context, if done.failed.is_empty() { Ended::Done } else { Ended::Damage })?;
            Ok(done)
        }
        Err(error) => {
            record.figure("packs_resealed", done.packs);
            record.figure("resealed_bytes", done.bytes);
            record.save_failure(context, &error);
            Err(error)
        }
    }
}

fn run(context: &Context, options: &ResealOptions, done: &mut Resealed) -> Result<()> {
    adopt_newest(context)?;
    let mut failed = BTreeSet::new();
    let mut budget_bytes = options.budget_bytes.unwrap_or(u64::MAX);
    loop {
        context.check_stop()?;
        let batch = next_batch(context, options, &mut failed, budget_bytes, done)?;
        if batch.is_empty() {
            break;
        }
        let outcome = prune::prune(
            context,
            &prune::Options {
                max_unused: MaxUnused::Unlimited,
                rewrite: batch.keys().copied().collect(),
                ..prune::Options::default()
            },
        )?;
        done.waiting |= outcome.waiting.is_some();
        let in_batch = |problem: &Problem| batch.keys().any(|pack| pack_key(*pack).to_string() == problem.subject);
        done.failed.extend(outcome.damaged.into_iter().filter(in_batch));
        failed.extend(
            batch.keys().filter(|pack| done.failed.iter().any(|one| one.subject == pack_key(**pack).to_string())),
        );
        let bytes: u64 = batch.values().sum();
        budget_bytes = budget_bytes.saturating_sub(bytes);
        let left = old_packs(context)?;
        let resealed = batch.iter().filter(|(pack, _)| !left.contains_key(*pack));
        let resealed: Vec<u64> = resealed.map(|(_, bytes)| *bytes).collect();
        done.packs += resealed.len() as u64;
        done.bytes += resealed.iter().sum::<u64>();
        if resealed.is_empty() {
            // Somebody else is in the way; the packs are as they were.
            break;
        }
    }
    let left = old_packs(context)?;
    done.left_packs = left.len() as u64;
    done.left_bytes = left.values().map(|(bytes, _)| bytes).sum();
    done.passed_over = left.values().filter(|(_, written_ns)| is_too_old(options, *written_ns)).count() as u64;
    Ok(())
}

/// Somebody may have opened an epoch since this repository was opened.
fn adopt_newest(context: &Context) -> Result<()> {
    let (repository, keyring) = (&context.repository, context.repository.keyring());
    let loaded = epochs::load(&**repository.store(), repository.id(), keyring.root()?)?;
    Ok(keyring.adopt(&loaded.epochs)?)
}

fn is_too_old(options: &ResealOptions, written_ns: i64) -> bool {
    options.since_ns.is_some_and(|since_ns| written_ns < since_ns)
}

/// Packs with blocks under older keys: their size, and when they were written.
fn old_packs(context: &Context) -> Result<BTreeMap<PackId, (u64, i64)>> {
    let (store, keyring) = (&**context.repository.store(), context.repository.keyring());
    context.index.refresh(store, keyring)?;
    let current: [KeyId; 2] = [ObjectKind::Data, ObjectKind::Metadata].map(|kind| keyring.current(kind));
    let parts = context.index.sealed_parts()?;
    let old = parts.into_iter().filter(|part| !current.contains(&part.key));
    Ok(old.map(|part| (part.pack.id, (part.pack.size_bytes, part.pack.written_ns))).collect())
}

/// The next packs to be sealed anew, whole ones only, the newest first: what is old goes with time.
fn next_batch(
    context: &Context,
    options: &ResealOptions,
    failed: &mut BTreeSet<PackId>,
    budget_bytes: u64,
    done: &mut Resealed,
) -> Result<BTreeMap<PackId, u64>> {
    let mut candidates: Vec<_> = old_packs(context)?.into_iter().collect();
    candidates.retain(|(pack, (_, written_ns))| !failed.contains(pack) && !is_too_old(options, *written_ns));
    candidates.sort_by_key(|(pack, (_, written_ns))| (std::cmp::Reverse(*written_ns), *pack));
    // A budget below the size of every pack would never come to an end: one pack is taken in any case.
    let smallest = candidates.iter().map(|(_, (size_bytes, _))| *size_bytes).min().unwrap_or(0);
    let budget_bytes = if done.packs == 0 { budget_bytes.max(smallest) } else { budget_bytes };
    let mut batch = BTreeMap::new();
    let mut room_bytes = budget_bytes.min(BATCH_BYTES);
    for (pack, (size_bytes, _)) in candidates {
        // One pack always fits a batch, but never a budget that it exceeds.
        if size_bytes > budget_bytes || (size_bytes > room_bytes && !batch.is_empty()) {
            continue;
        }
        context.check_stop()?;
        match check_whole(context, pack, size_bytes) {
            Ok(()) => {
                room_bytes = room_bytes.saturating_sub(size_bytes);
                batch.insert(pack, size_bytes);
            }
            Err(error) if matches!(error.kind(), Kind::Damaged | Kind::NotFound) => {
                let problem = Problem::new(pack_key(pack).to_string(), &error, error.kind());
                context.monitor.event(Event::Problem(&problem));
                failed.insert(pack);
                done.failed.push(problem);
            }
            Err(error) => return Err(error),
        }
        if room_bytes == 0 {
            break;
        }
    }
    Ok(batch)
}

/// Whether a pack's bytes are those that it is named after.
fn check_whole(context: &Context, pack: PackId, size_bytes: u64) -> Result<()> {
    let mut hasher = PackHasher::new();
    let mut offset = 0;
    while offset < size_bytes {
        let length = PIECE_BYTES.min(size_bytes - offset);
        hasher.update(&context.repository.store().get_range(&pack_key(pack), offset, length as usize)?);
        offset += length;
    }
    match PackId(hasher.finish()) == pack {
        true => Ok(()),
        false => {
            Err(Error::Repo(repo::Error::damaged(pack_key(pack), "its bytes are not those that it is named after")))
        }
    }
}
