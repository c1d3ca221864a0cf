//! Parity sidecars for packs that have none, and away with those that nobody wants.
//!
//! Each pack is read and proven before its sidecar is made: what is damaged is not to be protected. Sidecars are stored
//! one by one, so who is interrupted goes on where it stopped. A sidecar of another size than is asked for goes right
//! before the one in its place is stored; a crash in between leaves a pack without one, which the next run makes.

use super::record::Record;
use super::{Context, Error, Result};
use crate::base::{Event, Kind, PackId, Problem};
use crate::format::parity::{Shape, Share};
use crate::format::run::Outcome as Ended;
use crate::repo::pack_reader::pack_key;
use crate::repo::parity::{self, sidecar_key};
use crate::store::{Area, Key, Put};
use std::collections::BTreeMap;

/// Sidecars that are deleted at once, at most.
const AT_ONCE: usize = 1000;

/// What came of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Outcome {
    /// Packs in the store.
    pub packs: u64,
    /// Sidecars that were there as they should be.
    pub there: u64,
    /// Sidecars that were made.
    pub made: u64,
    /// Their bytes.
    pub made_bytes: u64,
    /// Of those, sidecars in the place of others with another size.
    pub replaced: u64,
    /// Sidecars that were taken away.
    pub removed: u64,
    /// Their bytes.
    pub removed_bytes: u64,
    /// Packs that are damaged, so that nothing was made for them.
    pub damaged: Vec<Problem>,
}

/// Makes the sidecars that are missing or have another size than `share` asks for; takes all away if it is none.
pub fn build(context: &Context, share: Option<Share>) -> Result<Outcome> {
    let mut record = Record::begin(context, "parity");
    let mut outcome = Outcome::default();
    let done = context.repository.check_writable().map_err(Error::from).and_then(|()| match share {
        Some(share) => make_all(context, share, &mut outcome),
        None => remove_all(context, &mut outcome),
    });
    record.figure("packs", outcome.packs);
    record.figure("sidecars_made", outcome.made);
    record.figure("made_bytes", outcome.made_bytes);
    record.figure("sidecars_removed", outcome.removed);
    record.problems(&outcome.damaged);
    match done {
        Ok(()) => {
            record.save(context, if outcome.damaged.is_empty() { Ended::Done } else { Ended::Damage })?;
            Ok(outcome)
        }
        Err(error) => {
            record.save_failure(context, &error);
            Err(error)
        }
    }
}

fn make_all(context: &Context, share: Share, outcome: &mut Outcome) -> Result<()> {
    let store = &**context.repository.store();
    // Before the packs: whoever stores a pack right now stores its sidecar too.
    let sidecars = parity::list(store)?;
    let mut packs = BTreeMap::new();
    store.list(Area::Packs, &mut |listed| {
        packs.extend(listed.name.parse::<PackId>().ok().map(|pack| (pack, listed.size_bytes)));
    })?;
    outcome.packs = packs.len() as u64;
    let mut wanted = Vec::new();
    for (pack, bytes) in packs {
        match (Shape::new(bytes, share), sidecars.get(&pack)) {
            (Some(shape), Some(there)) if *there == shape.sidecar_bytes() => outcome.there += 1,
            (Some(shape), there) => wanted.push((pack, bytes, shape, there.is_some())),
            // No pack of ours has no bytes, or more than a sidecar can be for.
            (None, _) => {}
        }
    }
    context.monitor.event(Event::Phase("making parity sidecars"));
    let bytes = wanted.iter().map(|(_, bytes, ..)| bytes).sum();
    context.monitor.event(Event::Total { items: wanted.len() as u64, bytes, complete: true });
    for (pack, bytes, shape, is_there) in wanted {
        context.check_stop()?;
        match make_one(context, pack, bytes, shape, is_there) {
            Ok(true) => {
                outcome.made += 1;
                outcome.made_bytes += shape.sidecar_bytes();
                outcome.replaced += u64::from(is_there);
            }
            Ok(false) => outcome.there += 1,
            // Swept since it was listed.
            Err(error) if error.kind() == Kind::NotFound => {}
            Err(error) if error.kind() == Kind::Damaged => {
                let reason = format!("{error}; no sidecar was made for it: run `keepstone repair plan --all`");
                let problem = Problem::new(pack_key(pack).to_string(), reason, Kind::Damaged);
                context.monitor.event(Event::Problem(&problem));
                outcome.damaged.push(problem);
            }
            Err(error) => return Err(error),
        }
        context.monitor.event(Event::Done { items: 1, bytes });
    }
    Ok(())
}

/// Makes a sidecar and stores it, in the place of another if one `is_there`. False if somebody else has just done so.
pub(super) fn make_one(context: &Context, pack: PackId, bytes: u64, shape: Shape, is_there: bool) -> Result<bool> {
    let store = &**context.repository.store();
    let made = parity::make_for(store, pack, bytes, shape)?;
    let key = sidecar_key(pack);
    if is_there {
        store.delete(&key)?;
    }
    Ok(made.finish(&key)? == Put::Stored)
}

fn remove_all(context: &Context, outcome: &mut Outcome) -> Result<()> {
    let store = &**context.repository.store();
    let sidecars: Vec<(PackId, u64)> = parity::list(store)?.into_iter().collect();
    context.monitor.event(Event::Phase("taking parity sidecars away"));
    for sidecars in sidecars.chunks(AT_ONCE) {
        context.check_stop()?;
        let keys: Vec<Key> = sidecars.iter().map(|(pack, _)| sidecar_key(*pack)).collect();
        for ((_, bytes), deleted) in sidecars.iter().zip(store.delete_each(&keys)) {
            deleted?;
            outcome.removed += 1;
            outcome.removed_bytes += bytes;
        }
    }
    Ok(store.flush(Area::Parity)?)
}
