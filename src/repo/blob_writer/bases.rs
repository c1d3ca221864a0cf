//! Which older blobs a new one is stored on.
//!
//! Candidates are what stood at this place in the parent stream and the newest blobs that begin and end alike: edits
//! in the middle of a chunk leave its ends alone. Where begin and end point to different blobs, the old data was
//! cut elsewhere and the two are joined. A base that cannot be read is told to the index and forgotten.

use super::super::blob_reader::BlobBytes;
use super::super::error::Result;
use super::super::index::{Alike, Marks, Place};
use super::{BlobWriter, Counters, DELTA_LEAST_BYTES, Hint, Next};
use crate::base::{BlobId, Kind};
use crate::format::pack::{BlobKind, Chain, MAX_BASES};

/// Chains end somewhere between these depths, depending on the blob, so that a series does not expire in one night.
const LEAST_DEPTH: u32 = 16;
const DEPTH_SPREAD: u32 = 17;
/// How much may be downloaded for a base, in whole copies.
const WORTH_OF_WHOLE: f64 = 1.5;

/// The blobs that begin and end like this chunk. Those that are near in the parent come before the newest ones: another
/// series of the same data (a copy for tests, a dump in another order) may have been stored since, and the newest blobs
/// with these marks are its.
/// The index is asked for those only where the parent does not say.
fn near_or_newest(marks: &Marks, hint: &Hint<'_>, newest: impl FnOnce() -> Result<Alike>) -> Result<Alike> {
    let nearest = |fits: &dyn Fn(&Marks) -> bool| {
        let places = hint.window.iter().enumerate().filter(|(_, near)| fits(&near.marks));
        places.min_by_key(|(place, _)| place.abs_diff(hint.at)).map(|(_, near)| near.id)
    };
    let begins = |near: &Marks| near.start.is_some() && near.start == marks.start;
    let ends = |near: &Marks| near.end.is_some() && near.end == marks.end;
    if let Some(both) = nearest(&|near| begins(near) && ends(near)) {
        return Ok(Alike { start: Some(both), end: Some(both) });
    }
    let (start, end) = (nearest(&begins), nearest(&ends));
    if start.is_some() && end.is_some() {
        return Ok(Alike { start, end });
    }
    let newest = newest()?;
    Ok(Alike { start: start.or(newest.start), end: end.or(newest.end) })
}

/// The blobs to try, in the order in which they are joined. Marks that agree with each other or with the place in the
/// parent are trusted. Marks of monotonous data (padding, zeros) are common to many blobs and agree with nothing; then,
/// and for chunks that were cut by their size alone, the place counts more.
fn choose(alike: Alike, hint: Hint<'_>) -> ([Option<BlobId>; 2], Next) {
    let nth = |place: Option<usize>| place.and_then(|place| hint.window.get(place)).map(|near| near.id);
    let beside = nth(Some(hint.at));
    // Many files have one name; what stood at this very place is the better guess.
    let start = alike.start.filter(|_| !(hint.first && beside.is_some()));
    let place = |id: Option<BlobId>| hint.window.iter().position(|near| Some(near.id) == id);
    match (start, alike.end, place(start), place(alike.end)) {
        (Some(start), Some(end), _, _) if start == end => ([Some(start), None], Next::Behind(start)),
        (Some(start), Some(end), Some(_), Some(_)) => ([Some(start), Some(end)], Next::Probably(end)),
        (Some(start), _, Some(place), None) => ([Some(start), nth(Some(place + 1))], Next::Within(start)),
        (_, Some(end), None, Some(place)) => ([nth(place.checked_sub(1)), Some(end)], Next::Probably(end)),
        (None, None, ..) => ([beside, nth(Some(hint.at + 1))], Next::Unknown),
        (start, end, ..) if beside.is_none() => ([start, end], Next::Unknown),
        (start, end, ..) => ([beside, start.or(end)], Next::Unknown),
    }
}

/// The bases chosen for a blob.
pub(in super::super) struct Chosen {
    /// What they are called, in the order in which they are joined.
    pub ids: Vec<BlobId>,
    /// Their bytes.
    pub bytes: Vec<BlobBytes>,
    /// How deep the new frame will lie.
    pub depth: u32,
    /// The stored bytes of the deltas beneath it.
    pub delta_bytes: u64,
    /// About what a whole copy of the new blob would take.
    pub whole_bytes: u64,
}

/// What was found for a blob.
pub(in super::super) struct Found {
    /// The bases to store it on.
    pub chosen: Option<Chosen>,
    /// There was a base that is not worth its price any more: without another the blob begins a new chain.
    pub exhausted: bool,
    /// Where in the parent the stream goes on.
    pub next: Next,
}

/// One base, tried.
enum Tried {
    /// It may carry one more delta.
    Fit(Place, BlobBytes),
    /// Its chain is at its end.
    Exhausted,
    /// It is far away, and too small for the way to pay.
    Small,
    /// It cannot be a base.
    Unfit,
}

impl Chosen {
    /// The raw bytes of the bases.
    pub fn base_bytes(&self) -> usize {
        self.bytes.iter().map(|base| base.len()).sum()
    }

    /// The chain of a frame that took `length` bytes on these bases, if it is worth having: clearly smaller than a
    /// whole copy, and with all the deltas beneath it not more than one.
    pub fn chain(&self, length: usize) -> Option<Chain> {
        let delta_bytes = self.delta_bytes + length as u64;
        let worth_it = (length as u64) * 4 <= self.whole_bytes * 3 && delta_bytes <= self.whole_bytes;
        worth_it.then(|| Chain {
            bases: self.ids.clone(),
            depth: self.depth,
            delta_bytes,
            whole_bytes: self.whole_bytes,
        })
    }
}

impl BlobWriter {
    /// Chooses and loads bases for the new blob `id`.
    pub(super) fn choose_bases(&mut self, id: BlobId, length: usize, marks: Marks, hint: Hint<'_>) -> Result<Found> {
        let mut found = Found { chosen: None, exhausted: false, next: Next::Unknown };
        if !self.deltas {
            return Ok(found);
        }
        let candidates;
        let alike = near_or_newest(&marks, &hint, || self.index.alike(&marks))?;
        (candidates, found.next) = choose(alike, hint);
        let mut chosen = Chosen { ids: Vec::new(), bytes: Vec::new(), depth: 0, delta_bytes: 0, whole_bytes: 0 };
        let mut whole_per_byte: f64 = 0.0;
        for candidate in candidates.into_iter().flatten().take(MAX_BASES) {
            if chosen.ids.contains(&candidate) {
                continue;
            }
            let (place, bytes) = match self.try_base(&candidate, depth_limit(&id, &marks), &hint)? {
                Tried::Fit(place, bytes) => (place, bytes),
                // The other base alone would make a poor delta: better a new beginning now.
                Tried::Exhausted => return Ok(Found { chosen: None, exhausted: true, ..found }),
                Tried::Small => {
                    found.exhausted = true;
                    continue;
                }
                Tried::Unfit => continue,
            };
            chosen.depth = chosen.depth.max(depth_of(&place) + 1);
            chosen.delta_bytes = chosen.delta_bytes.max(place.chain.as_ref().map_or(0, |chain| chain.delta_bytes));
            whole_per_byte = whole_per_byte.max(whole_bytes(&place) / bytes.len().max(1) as f64);
            chosen.ids.push(candidate);
            chosen.bytes.push(bytes);
        }
        chosen.whole_bytes = (whole_per_byte * length as f64) as u64;
        found.chosen = (!chosen.ids.is_empty()).then_some(chosen);
        Ok(found)
    }

    /// The bytes of a base, if it may still carry one more delta and can be read.
    fn try_base(&mut self, id: &BlobId, depth_limit: u32, hint: &Hint<'_>) -> Result<Tried> {
        let Some(place) = self.index.places(id)?.into_iter().next() else { return Ok(Tried::Unfit) };
        if place.kind != BlobKind::Data {
            return Ok(Tried::Unfit);
        }
        if depth_of(&place) >= depth_limit {
            return Ok(Tried::Exhausted);
        }
        if let Some(bytes) = self.base_cache.as_mut().and_then(|cache| cache.get(id)) {
            return Ok(Tried::Fit(place, bytes));
        }
        // A client that may only write can open nothing but what it has kept itself.
        if self.repository.keyring().is_write_only() {
            return Ok(Tried::Unfit);
        }
        if self.repository.store().is_remote() {
            if (place.length as usize) < DELTA_LEAST_BYTES {
                return Ok(Tried::Small);
            }
            if !is_worth_a_download(&place) {
                return Ok(Tried::Exhausted);
            }
            if !self.reader.has_at_hand(&place) {
                // What stands behind it in the parent is needed next.
                let near = hint.window.iter().skip(hint.at).map(|near| near.id).filter(|near| near != id);
                self.reader.read_bases_ahead(&std::iter::once(*id).chain(near).collect::<Vec<_>>())?;
            }
        }
        match self.reader.read(id) {
            Ok(bytes) => Ok(Tried::Fit(place, bytes)),
            Err(error) if matches!(error.kind(), Kind::Damaged | Kind::NotFound) => {
                // The reader has told the index: unknown from now on, whatever needs it is stored whole again.
                Counters::add(&self.counters.bases_damaged, 1);
                Ok(Tried::Unfit)
            }
            Err(error) => Err(error),
        }
    }
}

pub(super) fn depth_of(place: &Place) -> u32 {
    place.chain.as_ref().map_or(0, |chain| chain.depth)
}

/// Whether a base that is not at hand is worth being downloaded: what a difference saves is saved for as long as it is
/// stored, so it may cost somewhat more once than the whole copy that it saves. Otherwise the chunk is stored whole, and
/// is at hand the next night.
fn is_worth_a_download(place: &Place) -> bool {
    let whole = whole_bytes(place);
    let download = whole + place.chain.as_ref().map_or(0.0, |chain| chain.delta_bytes as f64);
    download <= whole * WORTH_OF_WHOLE
}

/// About what a whole copy of the blob takes: its share of its frame, or what its chain remembers.
pub(super) fn whole_bytes(place: &Place) -> f64 {
    match &place.chain {
        Some(chain) => chain.whole_bytes as f64,
        None => f64::from(place.frame_length) * f64::from(place.length) / f64::from(place.raw_length.max(1)),
    }
}

/// How deep a chain may become. It depends on the start mark, which stays the same from night to night, so that each
/// place in a stream has its own limit and all limits are equally frequent.
pub(super) fn depth_limit(id: &BlobId, marks: &Marks) -> u32 {
    let byte = marks.start.map_or(id.0[0], |mark| mark.0[0]);
    LEAST_DEPTH + u32::from(byte) % DEPTH_SPREAD
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::Mark;
    use crate::repo::blob_writer::Near;

    fn blob(number: u8) -> BlobId {
        BlobId([number; 32])
    }

    fn marks(start: u8, end: u8) -> Marks {
        Marks { start: Some(Mark([start; 8])), end: Some(Mark([end; 8])) }
    }

    /// Three chunks one after the other: blob 1 between marks 1 and 2, and so on.
    fn parent() -> Vec<Near> {
        (1..4).map(|number| Near { id: blob(number), marks: marks(number, number + 1) }).collect()
    }

    fn chosen(marks: Marks, newest: Alike, at: usize) -> ([Option<BlobId>; 2], Next) {
        let window = parent();
        let hint = Hint { window: &window, at, first: false };
        choose(near_or_newest(&marks, &hint, || Ok(newest)).expect("nothing is read"), hint)
    }

    #[test]
    fn a_copy_of_the_data_that_was_stored_later_does_not_take_the_place_of_the_parent() {
        let copy = Alike { start: Some(blob(9)), end: Some(blob(9)) };
        assert_eq!(chosen(marks(2, 3), copy, 1), ([Some(blob(2)), None], Next::Behind(blob(2))));
        // The place was lost by one and is found again.
        assert_eq!(chosen(marks(2, 3), copy, 2), ([Some(blob(2)), None], Next::Behind(blob(2))));
        // Two of the parent's chunks became one.
        let both = ([Some(blob(1)), Some(blob(2))], Next::Probably(blob(2)));
        assert_eq!(chosen(marks(1, 3), copy, 0), both);
    }

    #[test]
    fn a_base_is_downloaded_while_that_costs_less_than_half_a_copy_more_than_storing_one() {
        let place = |delta_bytes| Place {
            pack: crate::base::PackId([0; 32]),
            block_offset: 0,
            block_length: 0,
            key: crate::base::KeyId([0; 16]),
            frame_offset: 0,
            frame_length: 1000,
            raw_length: 4000,
            encoding: crate::compress::Encoding::ZstdOnBases,
            chain: Some(Chain { bases: Vec::new(), depth: 3, delta_bytes, whole_bytes: 1000 }),
            offset: 0,
            length: 4000,
            kind: BlobKind::Data,
        };
        assert!(is_worth_a_download(&Place { chain: None, ..place(0) }));
        assert!(is_worth_a_download(&place(500)));
        assert!(!is_worth_a_download(&place(501)));
    }

    #[test]
    fn what_is_not_near_is_looked_for_everywhere() {
        let elsewhere = Alike { start: Some(blob(9)), end: Some(blob(9)) };
        assert_eq!(chosen(marks(7, 8), elsewhere, 0), ([Some(blob(9)), None], Next::Behind(blob(9))));
        assert_eq!(chosen(marks(7, 8), Alike::default(), 0), ([Some(blob(1)), Some(blob(2))], Next::Unknown));
    }
}
