//! What is about packs that are gone: their parity sidecars, and records of damage in them.

use super::super::{Context, Result};
use super::plan::stored_among;
use crate::base::{PackId, SortedMap};
use crate::repo::{damage, parity};
use crate::store::{Area, Key, delete_unlocked};

/// Sidecars that are deleted at once, at most.
const AT_ONCE: usize = 1000;

/// What went.
#[derive(Clone, Copy, Debug, Default)]
pub struct Dropped {
    /// Sidecars.
    pub sidecars: u64,
    /// Their bytes.
    pub bytes: u64,
}

/// The sidecars whose packs are not there, or are `going`, with their sizes. Sidecars are listed first, and each is stored
/// after its pack: one whose pack is not listed then has none any more.
pub fn orphans(context: &Context, going: &dyn Fn(&PackId) -> bool) -> Result<SortedMap<PackId, u64>> {
    let mut sidecars = parity::list(&**context.repository.store())?;
    if !sidecars.is_empty() {
        let packs = stored_among(context, &|pack| sidecars.contains(pack))?;
        sidecars.retain(|pack, _| !packs.contains(pack) || going(pack));
    }
    Ok(sidecars)
}

/// Takes away records of damage in packs that are gone.
pub fn drop_records(context: &Context) -> Result<()> {
    if !context.index.recorded_packs()?.is_empty() {
        let packs = stored_among(context, &|_| true)?;
        damage::clear(&**context.repository.store(), &|pack| !packs.contains(pack))?;
    }
    Ok(())
}

/// Deletes sidecars whose packs are gone. A crash before it leaves some, which the next prune finds.
pub fn drop_orphans(context: &Context) -> Result<Dropped> {
    let store = &**context.repository.store();
    let orphans: Vec<(PackId, u64)> = orphans(context, &|_| false)?.into_iter().collect();
    let mut dropped = Dropped::default();
    for orphans in orphans.chunks(AT_ONCE) {
        let keys: Vec<Key> = orphans.iter().map(|(pack, _)| parity::sidecar_key(*pack)).collect();
        // One that is locked helps nobody and harms nobody.
        for ((_, bytes), lock) in orphans.iter().zip(delete_unlocked(store, &keys)?) {
            if lock.is_none() {
                dropped.sidecars += 1;
                dropped.bytes += bytes;
            }
        }
    }
    if dropped.sidecars > 0 {
        store.flush(Area::Parity)?;
    }
    Ok(dropped)
}
