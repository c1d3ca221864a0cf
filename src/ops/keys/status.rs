//! What lies under which epoch.

use super::super::{Context, Result};
use crate::base::{EpochId, KeyId, Kind, PackId};
use crate::format::envelope;
use crate::format::keys::Epoch;
use crate::repo::epochs;
use crate::store::{Area, Key, Listed};
use std::collections::{BTreeMap, BTreeSet};

/// Bytes of an object's head that are read, more than any head without a key wrap has.
const HEAD_BYTES: usize = 60;

/// An epoch, and what is sealed under its keys.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EpochInfo {
    /// Its name.
    pub id: EpochId,
    /// Its place in the order of generations.
    pub number: u64,
    /// When it was made, nanoseconds since 1970.
    pub created_ns: i64,
    /// New objects are sealed under it.
    pub current: bool,
    /// Packs with blocks under its keys.
    pub packs: u64,
    /// The bytes of these blocks.
    pub pack_bytes: u64,
    /// Snapshots.
    pub snapshots: u64,
    /// Run records.
    pub runs: u64,
}

/// All epochs, the oldest first.
pub fn status(context: &Context) -> Result<Vec<EpochInfo>> {
    let repository = &context.repository;
    let root = repository.keyring().root()?;
    let mut epochs = epochs::load(&**repository.store(), repository.id(), root)?.epochs;
    epochs.sort_by_key(|epoch| (epoch.number, epoch.id));
    let newest = epochs::newest(&epochs)?.id;
    context.index.refresh(&**repository.store(), repository.keyring())?;
    let mut packs: BTreeMap<KeyId, (BTreeSet<PackId>, u64)> = BTreeMap::new();
    for part in context.index.sealed_parts()? {
        let under = packs.entry(part.key).or_default();
        under.0.insert(part.pack.id);
        under.1 += part.bytes;
    }
    let (snapshots, runs) = (heads(context, Area::Snapshots)?, heads(context, Area::Runs)?);
    let describe = |epoch: &Epoch| {
        let keys = epochs::key_ids(std::slice::from_ref(epoch));
        let under: Vec<_> = keys.iter().filter_map(|key| packs.get(key)).collect();
        let count = |of: &BTreeMap<KeyId, u64>| keys.iter().filter_map(|key| of.get(key)).sum();
        EpochInfo {
            id: epoch.id,
            number: epoch.number,
            created_ns: epoch.created_ns,
            current: epoch.id == newest,
            packs: under.iter().flat_map(|(packs, _)| packs).collect::<BTreeSet<_>>().len() as u64,
            pack_bytes: under.iter().map(|(_, bytes)| bytes).sum(),
            snapshots: count(&snapshots),
            runs: count(&runs),
        }
    };
    Ok(epochs.iter().map(describe).collect())
}

/// How many objects of an area name which key in their heads.
fn heads(context: &Context, area: Area) -> Result<BTreeMap<KeyId, u64>> {
    let store = context.repository.store();
    let mut names = Vec::new();
    // What lies beside run records is part of them.
    let counts = |listed: &Listed| listed.size_bytes >= HEAD_BYTES as u64 && !listed.name.contains('.');
    store.list(area, &mut |listed| names.extend(counts(&listed).then_some(listed.name)))?;
    let mut counts = BTreeMap::new();
    for name in names {
        context.check_stop()?;
        match store.get_range(&Key::new(area, name), 0, HEAD_BYTES) {
            Ok(head) => {
                if let Ok(header) = envelope::peek_any(&head, "object") {
                    *counts.entry(header.key).or_default() += 1;
                }
            }
            Err(error) if matches!(error.kind(), Kind::NotFound | Kind::Damaged) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(counts)
}
