//! Key slots: listed, added, removed, exchanged.
//!
//! A slot is one way to the root key. A new one is stored twice, read back and opened once before anything that it
//! replaces is removed, so a crash or a bad disk at any moment leaves a slot that opens. Removing a slot takes away
//! the way, not what somebody who went it has seen: that needs a new key epoch.

use super::record::Record;
use super::{Context, Error, Result};
use crate::base::{Kind, Problem, SlotId};
use crate::crypto::slots::{GuardKind, Unlock};
use crate::format::keys::MAX_LABEL_BYTES;
use crate::format::run::Outcome as Ended;
use crate::repo;
use crate::repo::slots::{self, StoredSlot};
use crate::store::Key;
use std::collections::BTreeSet;

pub use crate::format::keys::GuardKind as SlotKind;
pub use crate::repo::slots::Copies;

/// What everybody should know who removes a slot.
const NOTE: &str = "whoever knew the removed secret and kept a copy of the repository can still open that copy, and \
                    knows the keys that new data is sealed under until there is a new key epoch";

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
    /// When it was last shown to open, nanoseconds since 1970; 0 for never.
    pub proven_ns: i64,
    /// Whether the repository was opened with it now.
    pub current: bool,
    /// Memory that argon2id takes for it, in KiB; for passphrases.
    pub memory_kib: Option<u32>,
    /// Passes of argon2id over that memory.
    pub passes: Option<u32>,
    /// Lanes of argon2id.
    pub lanes: Option<u32>,
    /// How its two copies stand to each other.
    pub copies: Copies,
}

/// Copies were mended.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Repaired {
    /// Objects that were written anew with the bytes of their other copy.
    pub written: Vec<String>,
    /// Objects that differ from their copy and were left, and why.
    pub left: Vec<Problem>,
}

/// A slot was added.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Added {
    /// Its name.
    pub id: SlotId,
}

/// A slot was removed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Removed {
    /// Its name.
    pub id: SlotId,
    /// What this does not protect from, and what would.
    pub note: String,
}

/// A slot took the place of another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Replaced {
    /// The one that is gone.
    pub old: SlotId,
    /// The one in its place, which has been opened once.
    pub new: SlotId,
    /// What this does not protect from, and what would.
    pub note: String,
}

/// All slots that lead to the root key in use, the oldest first. One whose copies differ is there twice.
pub fn list(context: &Context) -> Result<Vec<SlotInfo>> {
    let current = context.repository.slot();
    Ok(versions(context)?.into_iter().map(|stored| describe(stored, current)).collect())
}

fn versions(context: &Context) -> Result<Vec<StoredSlot>> {
    let root = context.repository.keyring().root().key_id();
    let mut stored = slots::list(&**context.repository.store())?;
    stored.retain(|stored| stored.root == root);
    Ok(stored)
}

/// Each slot once.
fn usable(context: &Context) -> Result<Vec<StoredSlot>> {
    let mut stored = versions(context)?;
    let mut seen = BTreeSet::new();
    stored.retain(|stored| seen.insert(stored.slot.id));
    Ok(stored)
}

/// Mends the copies of slots, epochs and config that differ from their other copy. `secret` is what opened the
/// repository: it shows which copy of its own slot is right. Nothing that may be the good one is written over.
pub fn repair(context: &Context, secret: &Unlock) -> Result<Repaired> {
    let mut record = Record::begin(context, "key repair");
    let mended = context.repository.check_writable().and_then(|()| repo::mend_copies(&context.repository, secret));
    match mended {
        Ok((written, left)) => {
            let problem = |(key, reason): &(Key, String)| Problem::new(key.to_string(), reason, Kind::Damaged);
            let left: Vec<Problem> = left.iter().map(problem).collect();
            record.figure("written", written.len() as u64);
            record.problems(&left);
            record.save(context, if left.is_empty() { Ended::Done } else { Ended::Damage })?;
            Ok(Repaired { written: written.iter().map(ToString::to_string).collect(), left })
        }
        Err(error) => {
            let error = error.into();
            record.save_failure(context, &error);
            Err(error)
        }
    }
}

fn describe(stored: StoredSlot, current: SlotId) -> SlotInfo {
    let slot = stored.slot;
    SlotInfo {
        id: slot.id,
        kind: slot.guard.kind,
        label: slot.label,
        created_ns: slot.created_ns,
        proven_ns: slot.proven_ns,
        current: slot.id == current,
        memory_kib: slot.guard.memory_kib,
        passes: slot.guard.passes,
        lanes: slot.guard.lanes,
        copies: stored.copies,
    }
}

/// The slot whose id begins with `prefix`.
pub fn find_slot(context: &Context, prefix: &str) -> Result<SlotId> {
    let prefix = prefix.to_ascii_lowercase();
    let matching = usable(context)?.into_iter().map(|stored| stored.slot.id);
    let matching: Vec<SlotId> = matching.filter(|id| id.to_string().starts_with(&prefix)).collect();
    match matching[..] {
        [id] => Ok(id),
        [] => Err(Error::NotFound(format!("no key slot begins with {prefix}: see `keepstone key list`"))),
        _ => Err(Error::Usage(format!("{} key slots begin with {prefix}: write more of the id", matching.len()))),
    }
}

/// Adds a slot that `unlock` opens. `kind` must fit what `unlock` is.
pub fn add(context: &Context, unlock: &Unlock, kind: GuardKind, label: &str) -> Result<Added> {
    recorded(context, "key add", || Ok(Added { id: store_slot(context, unlock, kind, label)? }))
}

/// Removes a slot: never the last one, and the one in use only when `force` is set.
pub fn remove(context: &Context, id: SlotId, force: bool) -> Result<Removed> {
    recorded(context, "key remove", || {
        context.repository.check_writable()?;
        let slots = usable(context)?;
        find(&slots, id)?;
        if slots.len() == 1 {
            return Err(Error::Refused(format!(
                "{id} is the last key slot: without it nobody could ever open the repository. Add another first: \
                 `keepstone key add`"
            )));
        }
        if id == context.repository.slot() && !force {
            return Err(Error::Refused(format!(
                "{id} is the key slot that this run was opened with: open the repository with another one to see \
                 that it works, or use --force"
            )));
        }
        slots::remove(&**context.repository.store(), id)?;
        Ok(Removed { id, note: NOTE.to_owned() })
    })
}

/// Puts a slot that `new` opens in the place of `slot`, by default the one in use, under the same label.
pub fn passwd(context: &Context, slot: Option<SlotId>, new: &Unlock, kind: GuardKind) -> Result<Replaced> {
    recorded(context, "key passwd", || {
        let slots = usable(context)?;
        let old = find(&slots, slot.unwrap_or(context.repository.slot()))?;
        replace(context, old, new, kind)
    })
}

/// Guards `slot`, by default the one in use, anew with its own `secret`: with another cost of argon2id, say.
pub fn rewrap(context: &Context, slot: Option<SlotId>, secret: &Unlock, kind: GuardKind) -> Result<Replaced> {
    recorded(context, "key rewrap", || {
        let slots = versions(context)?;
        let id = slot.unwrap_or(context.repository.slot());
        find(&slots, id)?;
        let mut broken = None;
        // Where its copies differ, the one that opens is the slot.
        for old in slots.iter().filter(|stored| stored.slot.id == id) {
            match slots::open(old, context.repository.id(), secret) {
                Ok(_) => return replace(context, old, secret, kind),
                Err(error) if slots::is_wrong_secret(&error) => {}
                Err(error) => broken = Some(error),
            }
        }
        let location = format!("{} (slot {})", context.repository.store().location(), id.short());
        Err(broken.unwrap_or(repo::Error::NoSlotOpens { slots: 1, location }).into())
    })
}

fn find(slots: &[StoredSlot], id: SlotId) -> Result<&StoredSlot> {
    let found = slots.iter().find(|stored| stored.slot.id == id);
    found.ok_or_else(|| Error::NotFound(format!("there is no key slot {id}: see `keepstone key list`")))
}

/// The new slot first; it has been opened when `store_slot` returns. A crash before the removal leaves both.
fn replace(context: &Context, old: &StoredSlot, new: &Unlock, kind: GuardKind) -> Result<Replaced> {
    let id = store_slot(context, new, kind, &old.slot.label)?;
    slots::remove(&**context.repository.store(), old.slot.id)?;
    Ok(Replaced { old: old.slot.id, new: id, note: NOTE.to_owned() })
}

fn store_slot(context: &Context, unlock: &Unlock, kind: GuardKind, label: &str) -> Result<SlotId> {
    let repository = &context.repository;
    repository.check_writable()?;
    if label.len() > MAX_LABEL_BYTES {
        return Err(Error::Usage(format!(
            "a label of {} bytes is too long: {MAX_LABEL_BYTES} are the most",
            label.len()
        )));
    }
    let root = repository.keyring().root();
    Ok(slots::add(&**repository.store(), repository.id(), root, unlock, kind, label, repository.clock())?)
}

fn recorded<T>(context: &Context, operation: &str, act: impl FnOnce() -> Result<T>) -> Result<T> {
    let record = Record::begin(context, operation);
    match act() {
        Ok(outcome) => record.save(context, Ended::Done).map(|()| outcome),
        Err(error) => {
            record.save_failure(context, &error);
            Err(error)
        }
    }
}
