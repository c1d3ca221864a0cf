//! Packs as the store lists them, against the index and against their own names.

use super::super::{Context, Result};
use super::found::Found;
use crate::base::{BlobId, PackId};
use crate::crypto::names::PackHasher;
use crate::format::pack::{Blob, Directory};
use crate::repo::Error;
use crate::repo::index::{LiveSet, Located};
use crate::repo::pack_reader::{pack_key, read_directory};
use crate::store::Area;
use std::collections::{BTreeMap, BTreeSet, HashSet};

/// How much of a pack is read at once.
const PIECE_BYTES: u64 = 4 << 20;

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

/// Compares the packs that the index knows with those that are there. What lives in one that is gone or cut off is
/// lost, as far as there is no other copy.
pub(super) fn compare(context: &Context, listed: &Listed, live: &LiveSet<'_>, found: &Found) -> Result<()> {
    let known = context.index.packs()?;
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

/// Reads every pack in full: its name, and its directory against the index.
pub(super) fn read_all(context: &Context, listed: &Listed, found: &Found) -> Result<()> {
    for (id, size_bytes) in listed {
        context.check_stop()?;
        match read_one(context, *id, *size_bytes) {
            Ok(()) => {}
            Err(error) if super::super::fetch::is_damage(&error) => {
                found.object(&pack_key(*id).to_string(), &error.to_string());
            }
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

fn read_one(context: &Context, id: PackId, size_bytes: u64) -> crate::repo::Result<()> {
    let key = pack_key(id);
    let store = &**context.repository.store();
    let mut hasher = PackHasher::new();
    let mut offset = 0;
    while offset < size_bytes {
        let length = (size_bytes - offset).min(PIECE_BYTES);
        hasher.update(&store.get_range(&key, offset, length as usize)?);
        offset += length;
    }
    if hasher.finish() != id.0 {
        return Err(Error::damaged(&key, "its bytes do not have its name: some of them were altered"));
    }
    let directory = read_directory(store, context.repository.keyring(), id, size_bytes)?;
    compare_directory(context, id, &directory)
}

/// The index must know of a pack what its directory says. One that the index does not know was told before.
fn compare_directory(context: &Context, id: PackId, directory: &Directory) -> crate::repo::Result<()> {
    let places = places_in(directory);
    let mut wrong = None;
    context.index.each_by_pack(&|pack| pack.id == id && !pack.void, &mut |_, located| {
        if !places.contains(&place_of(located)) {
            wrong = Some(located.id);
        }
        Ok(())
    })?;
    let Some(blob) = wrong else { return Ok(()) };
    let reason = format!("the index says that blob {blob} lies where its directory does not: rebuild the index");
    Err(Error::damaged(pack_key(id), reason))
}

/// Blob, block, frame and place in the frame, each with its length.
type At = (BlobId, (u64, u32), (u32, u32), (u32, u32));

fn places_in(directory: &Directory) -> HashSet<At> {
    let at = |blob: &Blob| {
        let frame = directory.frames.get(blob.frame as usize)?;
        let block = directory.blocks.get(frame.block as usize)?;
        Some((blob.id, (block.offset, block.length), (frame.offset, frame.length), (blob.offset, blob.length)))
    };
    directory.blobs.iter().filter_map(at).collect()
}

fn place_of(located: &Located) -> At {
    let place = &located.place;
    let (block, frame) = ((place.block_offset, place.block_length), (place.frame_offset, place.frame_length));
    (located.id, block, frame, (place.offset, place.length))
}
