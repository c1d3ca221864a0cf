//! Random histories against a plain model: a merge is a set union, and nothing dead comes back.

use super::*;
use crate::base::random::Lot;
use std::collections::{BTreeMap, BTreeSet};

const IDS: u64 = 300;

struct History {
    world: World,
    dice: Lot,
    next_pack: u64,
    next_record: u64,
    /// Blobs by pack.
    packs: BTreeMap<PackId, BTreeSet<u64>>,
    /// Packs and what was seen, by segment.
    segments: BTreeMap<SegmentId, (BTreeSet<PackId>, u64)>,
    /// The record that condemns a pack.
    condemned: BTreeMap<PackId, u64>,
}

impl History {
    fn new(seed: u64) -> History {
        History {
            world: World::new(),
            dice: Lot::of(seed),
            next_pack: 1,
            next_record: 1,
            packs: BTreeMap::new(),
            segments: BTreeMap::new(),
            condemned: BTreeMap::new(),
        }
    }

    fn named(&self) -> BTreeSet<PackId> {
        self.segments.values().flat_map(|(packs, _)| packs.iter().copied()).collect()
    }

    fn is_void(&self, pack: &PackId) -> bool {
        let seen = self.segments.values().filter(|(packs, _)| packs.contains(pack)).map(|(_, seen)| *seen).max();
        self.condemned.get(pack).is_some_and(|record| *record > seen.unwrap_or(0))
    }

    fn places(&self, id: u64) -> BTreeSet<PackId> {
        let named = self.named();
        let holds = |pack: &PackId| self.packs[pack].contains(&id) && !self.is_void(pack);
        named.into_iter().filter(holds).collect()
    }

    fn add(&mut self, index: &Index) {
        let mut packs = Vec::new();
        for _ in 0..1 + self.dice.below(3) {
            let blobs: BTreeSet<u64> = (0..1 + self.dice.below(60)).map(|_| self.dice.below(IDS)).collect();
            let pack = pack_id(self.next_pack);
            self.next_pack += 1;
            let ids: Vec<BlobId> = blobs.iter().map(|number| id(*number)).collect();
            packs.push((pack, directory(&ids, self.next_pack as i64)));
            self.packs.insert(pack, blobs);
        }
        let mut stored = contents(&packs);
        let seen = self.next_record - 1;
        let segment = save(&self.world.store, &self.world.keyring, origin(seen), &mut stored).unwrap();
        self.segments.insert(segment, (packs.iter().map(|(pack, _)| *pack).collect(), seen));
        // Half of the segments are another machine's.
        if self.dice.below(2) == 0 {
            index.add(segment, &stored).unwrap();
        }
    }

    fn some_segments(&mut self) -> Vec<SegmentId> {
        let count = 1 + self.dice.below(4);
        let all: Vec<SegmentId> = self.segments.keys().copied().collect();
        let some: BTreeSet<SegmentId> =
            (0..count).filter_map(|_| all.get(self.dice.below(all.len().max(1) as u64) as usize).copied()).collect();
        some.into_iter().collect()
    }

    fn merge(&mut self) {
        let sources = self.some_segments();
        let named: BTreeSet<PackId> =
            sources.iter().flat_map(|segment| self.segments[segment].0.iter().copied()).collect();
        let kept: BTreeSet<PackId> = named.into_iter().filter(|pack| !self.is_void(pack)).collect();
        let seen = self.next_record - 1;
        let (store, keyring) = (&self.world.store, &self.world.keyring);
        let sizes = list_segments(store).unwrap();
        let sized: Vec<_> = sources.iter().map(|segment| (*segment, sizes[segment])).collect();
        let merged =
            merge_segments(store, keyring, origin(seen), (&sized, Vouching::Vouched), &|pack| kept.contains(pack))
                .unwrap();
        self.segments.insert(merged, (kept, seen));
        // A pruner that dies in between leaves sources and merge side by side.
        if self.dice.below(3) > 0 {
            self.remove(&sources);
        }
    }

    fn remove(&mut self, segments: &[SegmentId]) {
        for segment in segments {
            self.world.delete(*segment);
            self.segments.remove(segment);
        }
    }

    fn condemn(&mut self) {
        let named: Vec<PackId> = self.named().into_iter().collect();
        if named.is_empty() {
            return;
        }
        let pack = named[self.dice.below(named.len() as u64) as usize];
        self.world.condemn(self.next_record, &[pack]);
        self.condemned.insert(pack, self.next_record);
        self.next_record += 1;
    }

    fn check(&self, index: &Index, what: &str) {
        let mut entries = 0;
        for number in 0..IDS {
            let expected = self.places(number);
            let found: BTreeSet<PackId> = index.places(&id(number)).unwrap().iter().map(|place| place.pack).collect();
            assert_eq!(found, expected, "{what}, blob {number}");
            assert_eq!(index.contains(&id(number)).unwrap(), !expected.is_empty(), "{what}, blob {number}");
            entries += expected.len() as u64;
        }
        assert_eq!(index.blobs().unwrap(), entries, "{what}");
        let mut walked = 0;
        let mut count = |_: &Located| {
            walked += 1;
            Ok(())
        };
        index.each_entry(&mut count).unwrap();
        assert_eq!(walked, entries, "{what}");
    }
}

#[test]
fn any_history_of_additions_merges_and_removals_agrees_with_the_model() {
    for seed in 0..12 {
        let mut history = History::new(seed);
        let folder = tempfile::tempdir().unwrap();
        let (mut index, _) = history.world.open(Some(folder.path()));
        for step in 0..60 {
            match history.dice.below(10) {
                0..=4 => history.add(&index),
                5 | 6 => history.merge(),
                7 => {
                    let some = history.some_segments();
                    history.remove(&some[..some.len().min(1)]);
                }
                8 => history.condemn(),
                _ => index.finish_run().unwrap(),
            }
            if history.dice.below(4) == 0 {
                drop(index);
                (index, _) = history.world.open(Some(folder.path()));
                history.check(&index, &format!("seed {seed}, step {step}"));
            }
        }
        let (fresh, _) = history.world.open(None);
        history.check(&fresh, &format!("seed {seed}, made anew"));
    }
}
