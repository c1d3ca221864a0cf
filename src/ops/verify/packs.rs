//! Packs as the store lists them, against the index.

use super::super::{Context, Result};
use super::found::Found;
use crate::base::{Bits, PackId, SortedMap};
use crate::repo::Error;
use crate::repo::index::{LiveSet, PackSummary};
use crate::repo::pack_reader::pack_key;
use crate::repo::snapshots;
use crate::store::Area;
use std::collections::BTreeMap;

/// The packs in the store with their sizes.
pub(super) type Listed = SortedMap<PackId, u64>;

/// Lists the packs in the store.
pub(super) fn list(context: &Context) -> Result<Listed> {
    let mut listed = Vec::new();
    context.repository.store().list(Area::Packs, &mut |entry| {
        if let Ok(id) = entry.name.parse() {
            listed.push((id, entry.size_bytes));
        }
    })?;
    Ok(listed.into_iter().collect())
}

/// Calls `each` for the packs that the index counts on and that are there in their full length, in the order in which it
/// learnt of them, each with its place among those that are `listed`.
pub(super) fn each_there(context: &Context, listed: &Listed, each: &mut dyn FnMut(usize, &PackSummary)) -> Result<()> {
    context.index.each_pack(&mut |pack| {
        let place = listed.position(&pack.id).filter(|_| !pack.void);
        if let Some((place, (_, size_bytes))) = place.and_then(|place| Some((place, listed.at(place)?)))
            && *size_bytes == pack.size_bytes
        {
            each(place, pack);
        }
        Ok(())
    })
}

/// What is wrong with a pack that should have so many bytes.
fn lacking(listed: &Listed, pack: PackId, size_bytes: u64) -> Option<Error> {
    let reason = match listed.get(&pack) {
        None => "it is not there".to_owned(),
        Some(there) if *there != size_bytes => format!("it has {there} bytes instead of {size_bytes}"),
        Some(_) => return None,
    };
    Some(Error::damaged(pack_key(pack), reason))
}

/// Compares the packs that the index knows with those that are there. What lives in one that is gone or cut off is
/// lost, as far as there is no other copy.
pub(super) fn compare(context: &Context, listed: &Listed, live: &LiveSet<'_>, found: &Found) -> Result<()> {
    let (mut gone, mut named, mut counted) = (Vec::new(), Bits::default(), 0);
    context.index.each_pack::<super::super::Error>(&mut |pack| {
        named.extend(listed.position(&pack.id));
        if pack.void {
            return Ok(());
        }
        counted += 1;
        if let Some(error) = lacking(listed, pack.id, pack.size_bytes) {
            found.object(&pack_key(pack.id).to_string(), &error.to_string());
            gone.push((pack.id, pack.size_bytes));
        }
        Ok(())
    })?;
    found.looked_at(counted);
    let unknown = listed.len() as u64 - named.count();
    if unknown > 0 {
        let (packs, them) = if unknown == 1 { ("pack is", "it") } else { ("packs are", "them") };
        let lost = context.missing_segments(&snapshots::list(&context.repository)?.0)?;
        found.note(match lost.is_empty() {
            true => format!(
                "{unknown} {packs} in no index segment: an interrupted run left {them}, or it is still at work; a prune ten \
                 minutes after that run has ended, or later, takes {them} away"
            ),
            false => format!(
                "{unknown} {packs} in no index segment, and {} gone that snapshots need: run `keepstone rebuild-index`, \
                 then `keepstone verify --all`",
                if lost.len() == 1 { "1 segment is".to_owned() } else { format!("{} segments are", lost.len()) }
            ),
        });
    }
    let gone: SortedMap<PackId, u64> = gone.into_iter().collect();
    if gone.is_empty() {
        return Ok(());
    }
    live.each_live_by_pack(&|pack| gone.contains(&pack.id), &mut |pack, located| {
        let others = context.index.places(&located.id)?;
        if others.iter().all(|place| gone.contains(&place.pack))
            && let Some(error) = gone.get(pack).and_then(|size_bytes| lacking(listed, *pack, *size_bytes))
        {
            found.blob(&located.id, &error);
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
