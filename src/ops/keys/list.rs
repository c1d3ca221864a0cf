//! Which key slots there are, and when each of them last opened the repository.
//!
//! A slot says when it was shown to open as it was made; after that, run records tell: each names the slot that its run
//! was opened with. Runs of those who may only read leave no record, so a slot may have been used later than is known.

use super::super::{Context, Result};
use crate::base::{SlotId, Timestamp};
use crate::crypto::slots::Recipient;
use crate::repo::runs;
use crate::repo::slots::{self, StoredSlot};
use std::collections::{BTreeMap, BTreeSet};

pub use crate::format::keys::GuardKind as SlotKind;
pub use crate::repo::slots::Copies;

/// So many run records are looked through, the newest first.
const MOST_RUNS: usize = 200;

/// A slot, as far as it can be told without its secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SlotInfo {
    /// Its name.
    pub id: SlotId,
    /// What guards it.
    pub kind: SlotKind,
    /// What people call it.
    pub label: String,
    /// When it was made, nanoseconds since 1970.
    pub created_ns: i64,
    /// When it is known to have opened last; none for never.
    pub proven: Option<Proven>,
    /// Whether the repository was opened with it now.
    pub current: bool,
    /// Memory that argon2id takes for it, in KiB; for passphrases.
    pub memory_kib: Option<u32>,
    /// Passes of argon2id over that memory.
    pub passes: Option<u32>,
    /// Lanes of argon2id.
    pub lanes: Option<u32>,
    /// Whose slot it is, in age's text form; for recipients.
    pub recipient: Option<String>,
    /// With it one can back up, and open nothing that is stored.
    pub write_only: bool,
    /// How its two copies stand to each other.
    pub copies: Copies,
}

/// That a slot opened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Proven {
    /// When, nanoseconds since 1970.
    pub at_ns: i64,
    /// How that is known.
    pub by: ProvenBy,
}

/// How it is known that a slot opened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ProvenBy {
    /// It was opened when it was made.
    Making,
    /// This very run was opened with it.
    ThisRun,
    /// The record of a run names it.
    Run {
        /// The run's operation.
        operation: String,
        /// Its host.
        host: String,
    },
}

/// All slots that lead to the root key in use, the oldest first. One whose copies differ is there twice.
pub fn list(context: &Context) -> Result<Vec<SlotInfo>> {
    let stored = versions(context)?;
    let known = known_openings(context, &stored)?;
    let current = context.repository.slot();
    Ok(stored.into_iter().map(|stored| describe(stored, current, &known)).collect())
}

/// The slots of the root key in use.
pub(super) fn versions(context: &Context) -> Result<Vec<StoredSlot>> {
    let root = context.repository.root_id();
    let mut stored = slots::list(&**context.repository.store())?;
    stored.retain(|stored| stored.root == root);
    Ok(stored)
}

/// When each slot was last opened, as far as it is known, nanoseconds since 1970.
pub(super) fn proven_times(context: &Context) -> Result<BTreeMap<SlotId, i64>> {
    let slots = list(context)?;
    Ok(slots.into_iter().filter_map(|slot| Some((slot.id, slot.proven?.at_ns))).collect())
}

/// What is known of slots besides what they say themselves.
fn known_openings(context: &Context, stored: &[StoredSlot]) -> Result<BTreeMap<SlotId, Proven>> {
    let mut known = BTreeMap::new();
    known.insert(context.repository.slot(), Proven { at_ns: context.repository.now_ns(), by: ProvenBy::ThisRun });
    // The root key may have been exchanged since: a run then names the slot before.
    let replaced: BTreeMap<SlotId, SlotId> =
        stored.iter().filter_map(|stored| Some((stored.slot.replaces?, stored.slot.id))).collect();
    let mut wanted: BTreeSet<SlotId> = stored.iter().map(|stored| stored.slot.id).collect();
    let of_clients: BTreeSet<SlotId> =
        stored.iter().filter(|stored| stored.slot.access.is_some()).map(|stored| stored.slot.id).collect();
    wanted.remove(&context.repository.slot());
    runs::newest_first(&context.repository, MOST_RUNS, &mut |run| {
        if let Some(slot) = run.slot.map(|slot| replaced.get(&slot).copied().unwrap_or(slot))
            // A client could claim that any key opened; that its own did it says by leaving a record.
            && (!run.unverified || of_clients.contains(&slot))
            && wanted.remove(&slot)
        {
            let by = ProvenBy::Run { operation: run.operation, host: run.host };
            known.insert(slot, Proven { at_ns: run.begun_ns, by });
        }
        !wanted.is_empty()
    })?;
    Ok(known)
}

fn describe(stored: StoredSlot, current: SlotId, known: &BTreeMap<SlotId, Proven>) -> SlotInfo {
    let (slot, copies) = (stored.slot, stored.copies);
    let made = (slot.proven_ns != 0).then_some(Proven { at_ns: slot.proven_ns, by: ProvenBy::Making });
    let known = known.get(&slot.id).cloned();
    SlotInfo {
        id: slot.id,
        kind: slot.guard.kind,
        label: slot.label,
        created_ns: slot.created_ns,
        proven: [known, made].into_iter().flatten().max_by_key(|proven| proven.at_ns),
        current: slot.id == current,
        memory_kib: slot.guard.memory_kib,
        passes: slot.guard.passes,
        lanes: slot.guard.lanes,
        recipient: (slot.guard.kind == SlotKind::Recipient).then(|| Recipient { public: slot.public }.to_string()),
        write_only: slot.access.is_some(),
        copies,
    }
}

/// A moment for people.
pub(super) fn day(at_ns: i64) -> String {
    let at = Timestamp::from_nanosecond(i128::from(at_ns)).unwrap_or(Timestamp::UNIX_EPOCH);
    at.to_string().chars().take(10).collect()
}
