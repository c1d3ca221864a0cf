//! What differences that nobody needs hang on, and which packs are damaged: what prune rewrites besides what is unused.
//!
//! A frame on bases that stays in a pack keeps its bases, needed or not: whoever builds on it next has to be able to
//! decode it. A few dead bytes in a pack that is needed for something else may so keep much that nobody needs.

use super::live::LiveSet;
use super::{FOUND_DAMAGED, Index, RECORDED};
use crate::base::{Bits, BlobId, PackId};
use crate::repo::Result;
use std::collections::{BTreeMap, BTreeSet};

impl Index {
    /// The packs with blocks that were found damaged.
    pub fn damaged_packs(&self) -> Result<BTreeSet<PackId>> {
        Ok(&self.packs_dead_for(FOUND_DAMAGED)? | &self.packs_dead_for(RECORDED)?)
    }

    /// The packs with blocks that this machine could not read once, and that no record in the store says to be damaged.
    pub fn doubtful_packs(&self) -> Result<BTreeSet<PackId>> {
        Ok(&self.packs_dead_for(FOUND_DAMAGED)? - &self.packs_dead_for(RECORDED)?)
    }

    fn packs_dead_for(&self, why: i64) -> Result<BTreeSet<PackId>> {
        self.state().cache.read(|cache| {
            let mut found = cache.connection.prepare_cached(
                "SELECT DISTINCT packs.id FROM dead_frames
                 JOIN pack_frames ON dead_frames.first BETWEEN pack_frames.first AND pack_frames.first + count - 1
                 JOIN packs ON packs.number = pack_frames.pack
                 WHERE damaged = ?",
            )?;
            found.query_map([why], |row| Ok(PackId(row.get(0)?)))?.collect()
        })
    }
}

impl LiveSet<'_> {
    /// For each of the packs that are `kept`: the bytes, about, of bases that do not live, lie in no kept pack, and would
    /// stay for frames in this pack that do not live. A base that several packs would keep counts for the first.
    pub fn pinned_bytes(&self, kept: &dyn Fn(&PackId) -> bool) -> Result<BTreeMap<PackId, u64>> {
        let kept_packs = self.index.numbers_of(&|pack| !pack.void && kept(&pack.id))?;
        let mut dead = Bits::default();
        self.index.each_frame_on_bases(&mut |frame, pack, _| {
            if kept_packs.get(pack as usize) {
                dead.set(frame as usize);
            }
            Ok(())
        })?;
        let mut pinned = BTreeMap::new();
        if dead.is_empty() {
            return Ok(pinned);
        }
        let mut ascending = self.ascending();
        self.index.each_row(&mut |row| {
            if dead.get(row.frame as usize) && ascending.contains(&row.id)? {
                dead.clear(row.frame as usize);
            }
            Ok(())
        })?;
        let mut seen = self.index.begin_live()?;
        self.index.each_frame_on_bases(&mut |frame, number, bases| {
            if !dead.get(frame as usize) {
                return Ok(());
            }
            let bytes = self.pinned_by(bases, kept, &mut seen)?;
            if let (true, Some(pack)) = (bytes > 0, self.index.pack_numbered(number)?) {
                *pinned.entry(pack.id).or_default() += bytes;
            }
            Ok(())
        })?;
        Ok(pinned)
    }

    /// The bytes of these bases, and of theirs in turn, that were not `seen` before, do not live and are not kept.
    fn pinned_by(&self, bases: Vec<BlobId>, kept: &dyn Fn(&PackId) -> bool, seen: &mut LiveSet<'_>) -> Result<u64> {
        let mut bytes = 0;
        // At most as many wait as chains are deep, times two.
        let mut waiting = bases;
        while let Some(base) = waiting.pop() {
            if self.contains(&base)? || !seen.mark(&base)? {
                continue;
            }
            let places = self.index.places(&base)?;
            if let Some(place) = places.first()
                && places.iter().all(|place| !kept(&place.pack))
            {
                bytes += u64::from(place.frame_length) * u64::from(place.length) / u64::from(place.raw_length.max(1));
            }
            waiting.extend(places.into_iter().filter_map(|place| place.chain).flat_map(|chain| chain.bases));
        }
        Ok(bytes)
    }
}
