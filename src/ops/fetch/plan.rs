//! From wanted blobs to few large reads.

use super::{Wanted, fits};
use crate::base::{BlobId, PackId};
use crate::format::pack::Encoding;
use crate::repo::index::{Index, Place};
use crate::repo::pack_reader::needs_bases;
use crate::repo::{Error, Result};
use std::collections::HashSet;

/// A gap that is read rather than left out: cheaper than another request.
pub(super) const GAP_BYTES: u64 = 64 << 10;
/// Stored bytes of one read, unless a single block is longer.
const RUN_BYTES: u64 = 8 << 20;
/// Blocks of one read: as many as are opened side by side in the time of one.
const RUN_BLOCKS: usize = 8;
/// Decoded bytes of one read.
const RUN_RAW_BYTES: usize = 8 << 20;
/// Blobs on bases that one reader takes in a row: what is beside each other shares bases.
const ON_BASES: usize = 48;

/// A gap that is read rather than left out when a store is paid by the request.
const STREAM_GAP_BYTES: u64 = 512 << 10;
/// Stored bytes of one request to such a store: with more, others would have nothing to do. Where there is enough for
/// [`LONG_STREAMS`] of them, a request brings twice as much, which is most packs whole.
const STREAM_BYTES: u64 = 16 << 20;
const LONG_STREAMS: u64 = 2;

/// Blobs with their places.
pub(super) type Blobs<T> = Vec<(Place, Wanted<T>)>;

/// Frames of one pack that are read at once.
pub(super) struct Run<T> {
    pub pack: PackId,
    pub offset: u64,
    pub length: usize,
    /// Bytes of frames when decoded, those not counted that are stored as they are.
    pub raw_bytes: usize,
    blocks: usize,
    /// The blobs, sorted by block, frame and place.
    pub blobs: Blobs<T>,
}

impl<T> Run<T> {
    /// Where they end in the pack.
    pub fn end(&self) -> u64 {
        self.offset + self.length as u64
    }

    /// The blobs of each block, with where the block begins.
    pub fn into_blocks(self) -> Vec<(u64, Blobs<T>)> {
        let mut blocks: Vec<(u64, Blobs<T>)> = Vec::new();
        for blob in self.blobs {
            match blocks.last_mut() {
                Some((offset, blobs)) if *offset == blob.0.block_offset => blobs.push(blob),
                _ => blocks.push((blob.0.block_offset, vec![blob])),
            }
        }
        blocks
    }

    /// A read that begins with the block of `place`; nothing is in it yet.
    pub fn begin(place: &Place) -> Run<T> {
        let (offset, length) = (place.block_offset, place.block_length as usize);
        Run { pack: place.pack, offset, length, raw_bytes: 0, blocks: 0, blobs: Vec::new() }
    }

    /// Whether the block of `place` is read together with what is here.
    pub fn takes(&self, place: &Place) -> bool {
        let last = self.blobs.last().map(|(last, _)| last);
        if last.is_some_and(|last| same_block(last, place)) {
            return true;
        }
        let end = place.block_offset.saturating_add(u64::from(place.block_length));
        // Blocks that overlap cannot both be opened where they lie; an index that says so is wrong anyway.
        place.pack == self.pack
            && place.block_offset >= self.end()
            && place.block_offset - self.end() <= GAP_BYTES
            && end - self.offset <= RUN_BYTES
            && self.blocks < RUN_BLOCKS
            && self.raw_bytes < RUN_RAW_BYTES
    }

    /// Takes in a blob that [`Run::takes`] or that it began with.
    pub fn add(&mut self, place: Place, wanted: Wanted<T>) {
        let last = self.blobs.last().map(|(last, _)| last);
        let is_new_frame = last.is_none_or(|last| !same_frame(last, &place));
        self.blocks += usize::from(last.is_none_or(|last| !same_block(last, &place)));
        if is_new_frame && place.encoding != Encoding::Raw {
            self.raw_bytes += place.raw_length as usize;
        }
        let end = place.block_offset + u64::from(place.block_length);
        self.length = (end - self.offset) as usize;
        self.blobs.push((place, wanted));
    }
}

/// Reads of one pack, put together so that one request brings several of them.
pub(super) fn stretches<T>(runs: Vec<Run<T>>) -> Vec<Vec<Run<T>>> {
    let stored: u64 = runs.iter().map(|run| run.length as u64).sum();
    let most_bytes = (stored / LONG_STREAMS).clamp(STREAM_BYTES, 2 * STREAM_BYTES);
    let mut stretches: Vec<Vec<Run<T>>> = Vec::new();
    for run in runs {
        let goes_on = stretches.last().and_then(|stretch| Some((stretch.first()?, stretch.last()?)));
        let goes_on = goes_on.is_some_and(|(first, last)| {
            last.pack == run.pack
                && run.offset >= last.end()
                && run.offset - last.end() <= STREAM_GAP_BYTES
                && run.end() - first.offset <= most_bytes
        });
        match stretches.last_mut() {
            Some(stretch) if goes_on => stretch.push(run),
            _ => stretches.push(vec![run]),
        }
    }
    stretches
}

pub(super) fn same_block(a: &Place, b: &Place) -> bool {
    (a.pack, a.block_offset, a.block_length, a.key) == (b.pack, b.block_offset, b.block_length, b.key)
}

pub(super) fn same_frame(a: &Place, b: &Place) -> bool {
    let frame = |place: &Place| (place.frame_offset, place.frame_length, place.raw_length, place.encoding);
    same_block(a, b) && frame(a) == frame(b)
}

/// How a window is read.
pub(super) struct Plan<T> {
    pub runs: Vec<Run<T>>,
    pub on_bases: Vec<Vec<Wanted<T>>>,
    pub failed: Vec<(Wanted<T>, Error)>,
}

impl<T> Default for Plan<T> {
    fn default() -> Self {
        Plan { runs: Vec::new(), on_bases: Vec::new(), failed: Vec::new() }
    }
}

impl<T> Plan<T> {
    /// Asks the index for each blob and sorts by pack.
    pub fn make(index: &Index, wanted: Vec<Wanted<T>>) -> Result<Plan<T>> {
        let mut plan = Plan::default();
        let mut placed = Vec::with_capacity(wanted.len());
        for wanted in wanted {
            match best_place(index, &wanted.id)? {
                None => {
                    let error = Error::Missing(wanted.id);
                    plan.failed.push((wanted, error));
                }
                Some(place) => placed.push((place, wanted)),
            }
        }
        plan.add(placed);
        Ok(plan)
    }

    /// The blocks of these blobs and of all that they are built on.
    pub fn of_seals(index: &Index, wanted: Vec<Wanted<T>>) -> Result<Plan<T>>
    where
        T: Clone,
    {
        let mut plan = Plan::default();
        let mut seen: HashSet<BlobId> = wanted.iter().map(|wanted| wanted.id).collect();
        let mut placed = Vec::with_capacity(wanted.len());
        let mut waiting: Vec<(BlobId, Option<u64>, T)> =
            wanted.into_iter().map(|wanted| (wanted.id, Some(wanted.length), wanted.uses)).collect();
        while let Some((id, length, uses)) = waiting.pop() {
            let Some(place) = best_place(index, &id)? else {
                plan.failed.push((Wanted { id, length: length.unwrap_or(0), uses }, Error::Missing(id)));
                continue;
            };
            let wanted = Wanted { id, length: length.unwrap_or(place.length.into()), uses };
            if let Err(error) = fits(&wanted, place.length as usize) {
                plan.failed.push((wanted, error));
                continue;
            }
            let bases = place.chain.iter().flat_map(|chain| &chain.bases).filter(|base| seen.insert(**base));
            waiting.extend(bases.map(|base| (*base, None, wanted.uses.clone())));
            placed.push((place, wanted));
        }
        plan.put_in_runs(placed);
        Ok(plan)
    }

    /// Sorts by pack what has its place already.
    pub fn of_placed(placed: Vec<(Place, Wanted<T>)>) -> Plan<T> {
        let mut plan = Plan::default();
        plan.add(placed);
        plan
    }

    fn add(&mut self, placed: Vec<(Place, Wanted<T>)>) {
        let mut whole = Vec::with_capacity(placed.len());
        for (place, wanted) in placed {
            match fits(&wanted, place.length as usize) {
                Err(error) => self.failed.push((wanted, error)),
                Ok(()) if needs_bases(&place) => self.put_on_bases(wanted),
                Ok(()) => whole.push((place, wanted)),
            }
        }
        self.put_in_runs(whole);
    }

    fn put_in_runs(&mut self, mut placed: Blobs<T>) {
        placed.sort_by_key(|(place, _)| (place.pack, place.block_offset, place.frame_offset, place.offset));
        for (place, wanted) in placed {
            match self.runs.last_mut() {
                Some(run) if run.takes(&place) => run.add(place, wanted),
                _ => {
                    let mut run = Run::begin(&place);
                    run.add(place, wanted);
                    self.runs.push(run);
                }
            }
        }
    }

    fn put_on_bases(&mut self, wanted: Wanted<T>) {
        match self.on_bases.last_mut() {
            Some(group) if group.len() < ON_BASES => group.push(wanted),
            _ => self.on_bases.push(vec![wanted]),
        }
    }
}

/// The best place of a blob; if there is none that counts, one where it may still be: in a pack that is condemned and
/// not yet deleted, or in a block that could not be read once.
pub fn best_place(index: &Index, id: &BlobId) -> Result<Option<Place>> {
    if let Some(place) = index.places(id)?.into_iter().next() {
        return Ok(Some(place));
    }
    if let Some(place) = index.void_places(id)?.into_iter().next() {
        return Ok(Some(place));
    }
    Ok(index.last_places(id)?.into_iter().min_by_key(needs_bases))
}
