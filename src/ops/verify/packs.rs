//! Packs as the store lists them, against the index.

use super::super::{Context, Result};
use super::found::Found;
use crate::base::PackId;
use crate::repo::Error;
use crate::repo::index::{LiveSet, PackSummary};
use crate::repo::pack_reader::pack_key;
use crate::store::Area;
use std::collections::{BTreeMap, BTreeSet};

/// The packs in the store with their sizes.
pub(super) type Listed = BTreeMap<PackId, u64>;

/// Lists the packs in the store.
pub(super) fn list(context: &Context) -> Result<Listed> {
    let mut listed = BTreeMap::new();
    context.repository.store().list(Area::Packs, &mut |entry| {
        if let Ok(id) = entry.name.parse() {
            listed.insert(id, entry.size_bytes);
        }
    })?;
    Ok(listed)
}

/// The packs that the index counts on and that are there in their full length.
pub(super) fn packs_there(context: &Context, listed: &Listed) -> Result<Vec<PackSummary>> {
    let mut packs = context.index.packs()?;
    packs.retain(|pack| !pack.void && listed.get(&pack.id) == Some(&pack.size_bytes));
    Ok(packs)
}

/// Compares the packs that the index knows with those that are there. What lives in one that is gone or cut off is
/// lost, as far as there is no other copy.
pub(super) fn compare(context: &Context, listed: &Listed, live: &LiveSet<'_>, found: &Found) -> Result<()> {
    let known = context.index.packs()?;
    found.looked_at(known.iter().filter(|pack| !pack.void).count() as u64);
    let mut gone = BTreeMap::new();
    for pack in known.iter().filter(|pack| !pack.void) {
        let key = pack_key(pack.id);
        let error = match listed.get(&pack.id) {
            None => Error::damaged(&key, "it is not there"),
            Some(size) if *size != pack.size_bytes => {
                Error::damaged(&key, format!("it has {size} bytes instead of {}", pack.size_bytes))
            }
            Some(_) => continue,
        };
        found.object(&key.to_string(), &error.to_string());
        gone.insert(pack.id, error);
    }
    let names: BTreeSet<PackId> = known.iter().map(|pack| pack.id).collect();
    let unknown = listed.keys().filter(|id| !names.contains(id)).count();
    if unknown > 0 {
        found.note(format!(
            "{unknown} packs are in no index segment: an interrupted run left them, or it is still at work; the next \
             prune looks after them"
        ));
    }
    if gone.is_empty() {
        return Ok(());
    }
    live.each_live_by_pack(&|pack| gone.contains_key(&pack.id), &mut |pack, located| {
        let others = context.index.places(&located.id)?;
        if others.iter().all(|place| gone.contains_key(&place.pack))
            && let Some(error) = gone.get(pack)
        {
            found.blob(&located.id, error);
        }
        Ok(())
    })?;
    Ok(())
}

/// Tells which packs are damaged. Anything else that was wrong with one ends the verb.
pub(super) fn tell(wrong: BTreeMap<PackId, Error>, found: &Found) -> Result<()> {
    for (id, error) in wrong {
        if !super::super::fetch::is_damage(&error) {
            return Err(error.into());
        }
        found.object(&pack_key(id).to_string(), &error.to_string());
    }
    Ok(())
}
