//! Key slots: listed, added, removed, exchanged; and new keys behind them.
//!
//! A slot is one way to the root key. A new one is stored twice, read back and opened once before anything that it
//! replaces is removed, so a crash or a bad disk at any moment leaves a slot that opens. Only a recipient's cannot be
//! opened here. Removing a slot takes away the way, not what somebody who went it has seen: it opens a new epoch, so
//! that what is stored later is under other keys, and says that whoever kept the root key finds these too.

mod list;
mod reseal;
mod rotate;
mod sheet;
mod status;

pub use list::{Copies, Proven, ProvenBy, SlotInfo, SlotKind, list};
pub use reseal::{ResealOptions, Resealed, old, reseal};
pub use rotate::{RootExchanged, Rotated, exchange_root, newest_epoch_ns, rotate};
pub use sheet::{Recovery, Sheet, recovery_sheet, remove_recovery};
pub use status::{EpochInfo, status};

use super::record::Record;
use super::{Context, Error, Result};
use crate::base::{Kind, Problem, SlotId};
use crate::crypto::RootKey;
use crate::crypto::slots::{GuardKind, Recipient, Unlock};
use crate::format::keys::MAX_LABEL_BYTES;
use crate::format::run::Outcome as Ended;
use crate::repo::slots::{self, StoredSlot};
use crate::repo::{self, Repository, clients, epochs, roots, snapshots};
use crate::store::{Area, Key};
use list::{day, versions};
use std::collections::BTreeSet;

/// What everybody should know who exchanges a secret.
const NOTE: &str = "whoever knew the old secret and kept a copy of the repository can still open that copy, and knows \
                    the keys that new data is sealed under until `key rotate --root`";
/// What everybody should know who removes a slot.
const REMOVED_NOTE: &str = "whoever knew the removed secret may have kept what it opens: all that is stored so far, and \
                            the root key, which opens the new epoch too until `key rotate --root`";

/// What everybody should know who removes the slot of a client that may only write.
const REMOVED_CLIENT_NOTE: &str = "whoever knew the removed secret may have kept the index keys of before: they tell of \
                                   what was stored until now, not what is in it, and nothing of what comes; take the \
                                   access to the store from that machine too";

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
    /// The number of the epoch that was opened.
    pub epoch: u64,
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
    context.repository.keyring().check_full("key repair")?;
    let mut record = Record::begin(context, "key repair");
    let mended = context.repository.check_writable().and_then(|()| repo::mend_copies(&context.repository, secret));
    match mended {
        Ok((mut written, left)) => {
            let keyless = keyless(context)?;
            // Clients that were to be told of a new epoch when somebody was stopped.
            let renewed = clients::renew_all(&context.repository, &BTreeSet::new())?;
            written.extend(renewed.values().map(|slot| slots::slot_key(*slot)));
            let problem = |(key, reason): &(Key, String)| Problem::new(key.to_string(), reason, Kind::Damaged);
            let left: Vec<Problem> = left.iter().map(problem).chain(keyless).collect();
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

/// Snapshots that an epoch would open which is lost: no copy here gives it back.
fn keyless(context: &Context) -> Result<Vec<Problem>> {
    let (_, unreadable) = snapshots::list_stored(&context.repository)?;
    let unreadable = unreadable.into_iter().filter(|(_, error)| matches!(error, repo::Error::UnknownKey { .. }));
    let problem = |(id, error)| Problem::new(Key::new(Area::Snapshots, id).to_string(), error, Kind::Damaged);
    Ok(unreadable.map(problem).collect())
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

/// Adds a slot for a client that may only write, which `unlock` opens; `kind` must fit what it is. With it one can back up
/// and deduplicate, and open nothing that is stored. The first one makes the repository ready for such clients: from then
/// on only what somebody vouches for is relied on.
pub fn add_write_only(context: &Context, unlock: &Unlock, kind: GuardKind, label: &str) -> Result<Added> {
    recorded(context, "key add", || Ok(Added { id: store_client_slot(context, unlock, kind, label)? }))
}

fn store_client_slot(context: &Context, unlock: &Unlock, kind: GuardKind, label: &str) -> Result<SlotId> {
    if kind == GuardKind::Recipient {
        let text = "a write-only key is a password, a key file or a command: an identity could not tell who made it";
        return Err(Error::Usage(text.to_owned()));
    }
    while_no_exchange(context, label, |repository, _| {
        roots::prepare_for_clients(repository)?;
        clients::add(repository, unlock, kind, label)
    })
}

/// Adds a slot for a recipient, whose private half is not here: whether it opens shows when he tries.
pub fn add_recipient(context: &Context, recipient: &Recipient, label: &str) -> Result<Added> {
    recorded(context, "key add", || {
        let known = usable(context)?.into_iter().find(|stored| stored.slot.public == recipient.public);
        if let Some(stored) = known {
            let id = stored.slot.id.short();
            return Err(Error::Refused(format!("this recipient has a key slot already: {id}")));
        }
        let id = while_no_exchange(context, label, |repository, root| {
            slots::add_recipient(&**repository.store(), repository.id(), root, recipient, label, repository.clock())
        })?;
        Ok(Added { id })
    })
}

/// Removes a slot, and opens a new epoch: never the last slot, never the last that is known to open, and the one in use
/// only when `force` is set.
pub fn remove(context: &Context, id: SlotId, force: bool) -> Result<Removed> {
    recorded(context, "key remove", || {
        context.repository.check_writable()?;
        let slots = usable(context)?;
        let going = find(&slots, id)?;
        let opens_all = |stored: &StoredSlot| stored.slot.access.is_none();
        let is_client = !opens_all(going);
        if !is_client && slots.iter().filter(|stored| opens_all(stored)).count() == 1 {
            let of_all = if slots.len() > 1 { " that opens everything" } else { "" };
            return Err(Error::Refused(format!(
                "{id} is the last key slot{of_all}: without it nobody could ever open the repository. Add another first: \
                 `keepstone key add`"
            )));
        }
        if id == context.repository.slot() && !force {
            return Err(Error::Refused(format!(
                "{id} is the key slot that this run was opened with: open the repository with another one to see \
                 that it works, or use --force"
            )));
        }
        if !is_client {
            refuse_unproven(context, id)?;
        }
        // The epoch first: after a crash in between there is one epoch more, and the slot can be removed again. A client
        // that is removed gets nothing of it.
        let epoch = epochs::rotate_without(&context.repository, &BTreeSet::from([id]))?;
        slots::remove(&**context.repository.store(), id)?;
        roots::refuse_while_exchanged(&context.repository)?;
        let note = if is_client { REMOVED_CLIENT_NOTE } else { REMOVED_NOTE };
        Ok(Removed { id, epoch: epoch.number, note: note.to_owned() })
    })
}

/// Removes a slot that nobody can have opened yet.
fn remove_unproven(context: &Context, id: SlotId) -> Result<()> {
    Ok(slots::remove(&**context.repository.store(), id)?)
}

/// Somebody must be known to be able to open what is left.
fn refuse_unproven(context: &Context, going: SlotId) -> Result<()> {
    let slots = list(context)?;
    let (gone, left): (Vec<_>, Vec<_>) = slots.iter().partition(|slot| slot.id == going);
    if left.iter().any(|slot| slot.proven.is_some() && !slot.write_only) {
        return Ok(());
    }
    let made = left.iter().map(|slot| slot.created_ns).max().map(day).unwrap_or_default();
    let label = gone.first().map_or("", |slot| slot.label.as_str());
    Err(Error::Refused(format!(
        "{} ({label}) is the last key that is known to open the repository: of the others, made on {made} or before, no \
         record of a run says that it opened. Prove one of them first: `keepstone --identity-file FILE verify` leaves a \
         record, `snapshots` does not",
        going.short(),
    )))
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
    // Who could only write can do no more with a new secret.
    let id = match old.slot.access {
        None => store_slot(context, new, kind, &old.slot.label)?,
        Some(_) => store_client_slot(context, new, kind, &old.slot.label)?,
    };
    slots::remove(&**context.repository.store(), old.slot.id)?;
    roots::refuse_while_exchanged(&context.repository)?;
    Ok(Replaced { old: old.slot.id, new: id, note: NOTE.to_owned() })
}

fn store_slot(context: &Context, unlock: &Unlock, kind: GuardKind, label: &str) -> Result<SlotId> {
    while_no_exchange(context, label, |repository, root| {
        slots::add(&**repository.store(), repository.id(), root, unlock, kind, label, repository.clock())
    })
}

/// A slot that is added while somebody exchanges the root key might not get the new one: looks before, and again after.
fn while_no_exchange(
    context: &Context,
    label: &str,
    add: impl FnOnce(&Repository, &RootKey) -> repo::Result<SlotId>,
) -> Result<SlotId> {
    let repository = &context.repository;
    repository.check_writable()?;
    if label.len() > MAX_LABEL_BYTES {
        return Err(Error::Usage(format!(
            "a label of {} bytes is too long: {MAX_LABEL_BYTES} are the most",
            label.len()
        )));
    }
    roots::refuse_while_exchanged(repository)?;
    let id = add(repository, repository.keyring().root()?)?;
    roots::refuse_while_exchanged(repository)?;
    Ok(id)
}

fn recorded<T>(context: &Context, operation: &str, act: impl FnOnce() -> Result<T>) -> Result<T> {
    context.repository.keyring().check_full(operation)?;
    let record = Record::begin(context, operation);
    match act() {
        Ok(outcome) => record.save(context, Ended::Done).map(|()| outcome),
        Err(error) => {
            record.save_failure(context, &error);
            Err(error)
        }
    }
}
