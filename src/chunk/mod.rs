//! Streams into chunks, with cut marks. Pure computation, no I/O.
//!
//! Where a stream is cut depends on its content alone (FastCDC 2020 with normalised chunking, level 1), so an
//! insertion moves a few cuts and leaves the others at the same bytes. A [`Chunker`] knows the [`Sizes`] and the
//! keyed gear table; it cuts data in memory ([`Chunker::cuts`]) or, through a [`Cutter`], anything that can be
//! read. Both cut at the same places.
//!
//! A cut that the content asked for is recognisable: the 64 bytes before it, its [`Window`], will stand before
//! the same cut in the next version of the data, whatever changed further away. Where the search reaches the largest
//! size without one (rows of a table have so few different windows that this is every second chunk), the cut is made
//! where the hash is lowest (`lowest`): that too is the content's choice. A *forced* cut (all of it is alike, or the
//! stream ended) has no such window. This room shows the window; turning it into a mark needs a key and happens
//! elsewhere, as do hashing, naming and storing.

mod cutter;
mod lowest;
mod sizes;

use std::borrow::Cow;
use std::fmt;

use fastcdc::v2020::{Normalization, cut_gear, get_gear_with_seed, select_masks};

pub use cutter::{Chunk, Cutter, least_buffer_bytes};
pub use sizes::{Error, Sizes};

/// The bytes before a cut that the content asked for: what a cut mark is made of.
pub type Window = [u8; WINDOW_BYTES];

/// How many bytes before a cut are in its [`Window`]. Less than the smallest size, so that a window never
/// reaches out of its chunk; more than the bytes that decide about the cut (the gear hash forgets a byte after
/// 48 more).
pub const WINDOW_BYTES: usize = 64;

/// Decides where data is cut. Made once for a repository; shared by reference between threads.
///
/// It holds two tables of 2 KiB. Two chunkers cut alike exactly when their sizes and seeds are alike.
#[derive(Clone)]
pub struct Chunker {
    sizes: Sizes,
    strict: u64,
    relaxed: u64,
    gear: Cow<'static, [u64]>,
    gear_shifted: Cow<'static, [u64]>,
}

/// Where the first chunk of some data ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cut {
    /// The bytes of the chunk: at least one, at most the largest size.
    pub length: usize,
    /// The end of the data made this cut, or the largest size where all is alike, not the content: it has no window.
    pub forced: bool,
}

/// A chunk that lies in somebody else's memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Piece<'a> {
    /// The bytes of the chunk.
    pub data: &'a [u8],
    /// How many bytes of the stream come before it.
    pub start: u64,
    /// Whether the cut at its end was forced.
    pub forced: bool,
}

impl Chunker {
    /// A chunker whose gear table is keyed with `gear_seed` (each entry of the published table XOR the seed; zero
    /// is the published table itself). The seed hardens the boundaries against guessing and is a secret of the
    /// repository; it is not what hides the boundaries.
    pub fn new(sizes: Sizes, gear_seed: u64) -> Chunker {
        let (strict, relaxed) = select_masks(sizes.average(), Normalization::Level1);
        let (gear, gear_shifted) = get_gear_with_seed(gear_seed);
        Chunker { sizes, strict, relaxed, gear, gear_shifted }
    }

    /// The sizes it cuts to.
    pub fn sizes(&self) -> Sizes {
        self.sizes
    }

    /// Finds the end of the first chunk of `data`, which begins where a chunk begins. `at_end` says that nothing
    /// comes after `data`.
    ///
    /// `None` when more data is needed: there is none, or less than the largest size and not the end. Data of at
    /// most the smallest size is one chunk and is not looked at.
    pub fn cut(&self, data: &[u8], at_end: bool) -> Option<Cut> {
        let reachable = data.len().min(self.sizes.max());
        if reachable == 0 || (reachable < self.sizes.max() && !at_end) {
            return None;
        }
        let (_, length) = cut_gear(
            &data[..reachable],
            self.sizes.min(),
            self.sizes.average(),
            self.sizes.max(),
            self.strict,
            self.relaxed,
            self.strict << 1,
            self.relaxed << 1,
            &self.gear,
            &self.gear_shifted,
        );
        // A cut by content lies before the byte that completed it, hence never at the end of what was searched.
        if length < reachable {
            return Some(Cut { length, forced: false });
        }
        // What is left of a stream stays whole up to the largest size.
        let lowest = (reachable == self.sizes.max())
            .then(|| lowest::find(&self.gear, data, self.sizes.average()..self.sizes.max()))
            .flatten();
        Some(Cut { length: lowest.unwrap_or(length), forced: lowest.is_none() })
    }

    /// Cuts a whole stream that is in memory. Empty data has no chunks.
    pub fn cuts<'a>(&'a self, data: &'a [u8]) -> Cuts<'a> {
        Cuts { chunker: self, data, position: 0 }
    }
}

impl fmt::Debug for Chunker {
    /// Without the tables: they give the seed away.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Chunker").field("sizes", &self.sizes).finish_non_exhaustive()
    }
}

/// The chunks of a stream in memory, in order; see [`Chunker::cuts`].
#[derive(Clone, Debug)]
pub struct Cuts<'a> {
    chunker: &'a Chunker,
    data: &'a [u8],
    position: usize,
}

impl<'a> Iterator for Cuts<'a> {
    type Item = Piece<'a>;

    fn next(&mut self) -> Option<Piece<'a>> {
        let rest = &self.data[self.position..];
        let cut = self.chunker.cut(rest, true)?;
        let piece = Piece { data: &rest[..cut.length], start: self.position as u64, forced: cut.forced };
        self.position += cut.length;
        Some(piece)
    }
}

impl std::iter::FusedIterator for Cuts<'_> {}

impl<'a> Piece<'a> {
    /// The window of the cut at the end; `None` when that cut was forced.
    pub fn end_window(&self) -> Option<&'a Window> {
        if self.forced { None } else { window_before(self.data, self.data.len()) }
    }
}

/// The [`Window`] before `position` in `data`; `None` when `data` has fewer bytes before it or does not reach it.
pub fn window_before(data: &[u8], position: usize) -> Option<&Window> {
    data.get(..position)?.last_chunk()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::collections::HashSet;

    use super::*;
    use crate::chunk::cutter::tests::{padded_rows, random_bytes};

    /// Small sizes, so that a few hundred KiB have many chunks.
    fn chunker(seed: u64) -> Chunker {
        Chunker::new(Sizes::new(4 << 10, 16 << 10, 64 << 10).unwrap(), seed)
    }

    fn windows(chunker: &Chunker, data: &[u8]) -> HashSet<Window> {
        chunker.cuts(data).filter_map(|piece| piece.end_window().copied()).collect()
    }

    #[test]
    fn no_data_makes_no_chunk() {
        assert_eq!(chunker(1).cut(&[], true), None);
        assert_eq!(chunker(1).cut(&[], false), None);
        assert_eq!(chunker(1).cuts(&[]).count(), 0);
    }

    #[test]
    fn chunks_join_to_the_stream_and_keep_their_sizes() {
        let chunker = chunker(7);
        let data = random_bytes(3, 700_001);
        let pieces: Vec<Piece<'_>> = chunker.cuts(&data).collect();
        assert_eq!(pieces.iter().flat_map(|p| p.data).copied().collect::<Vec<u8>>(), data);
        let (last, others) = pieces.split_last().unwrap();
        assert!(last.forced && last.end_window().is_none());
        for piece in others {
            assert!((4 << 10..=64 << 10).contains(&piece.data.len()));
            assert!(!piece.forced);
            let end = piece.start as usize + piece.data.len();
            let window = (!piece.forced).then(|| window_before(&data, end).unwrap());
            assert_eq!(piece.end_window(), window);
        }
        let mean = data.len() / pieces.len();
        assert!((8 << 10..=32 << 10).contains(&mean), "mean {mean}");
    }

    #[test]
    fn data_without_content_is_cut_by_force() {
        let data = vec![0_u8; 200 << 10];
        let pieces: Vec<(usize, bool)> = chunker(0).cuts(&data).map(|p| (p.data.len(), p.forced)).collect();
        assert_eq!(pieces, [(64 << 10, true), (64 << 10, true), (64 << 10, true), (8 << 10, true)]);
    }

    #[test]
    fn rows_that_ask_for_no_cut_are_still_cut_by_their_content() {
        let (mut old_cuts, mut kept) = (0, 0);
        for seed in 0..8 {
            let chunker = chunker(seed);
            let before = padded_rows(seed, 30_000);
            // One row in a hundred changes its length, and some go.
            let lines = before.split_inclusive(|byte| *byte == b'\n').enumerate();
            let after: Vec<u8> = lines
                .flat_map(|(row, line)| match row % 100 {
                    7 => format!("{row}\tchanged last night\n").into_bytes(),
                    8 if row % 300 == 8 => Vec::new(),
                    _ => line.to_vec(),
                })
                .collect();
            let (old, new) = (windows(&chunker, &before), windows(&chunker, &after));
            old_cuts += old.len();
            kept += old.intersection(&new).count();
            let forced = chunker.cuts(&before).filter(|piece| piece.forced).count();
            assert_eq!(forced, 1, "seed {seed}: only the end of the data");
        }
        assert!(kept * 10 > old_cuts * 8, "{kept} of {old_cuts} cuts are found again");
    }

    #[test]
    fn small_data_is_one_chunk() {
        for length in [1, 64, (4 << 10) - 1, 4 << 10] {
            let data = random_bytes(5, length);
            assert_eq!(chunker(9).cut(&data, true), Some(Cut { length, forced: true }));
            assert_eq!(chunker(9).cut(&data, false), None);
        }
    }

    #[test]
    fn cuts_come_back_after_an_insertion() {
        let chunker = chunker(42);
        let before = random_bytes(11, 2 << 20);
        let mut after = before.clone();
        after.splice(900_000..900_000, b"something that was not there last night".iter().copied());
        let (old, new) = (windows(&chunker, &before), windows(&chunker, &after));
        let kept = old.intersection(&new).count();
        assert!(old.len() > 60 && kept + 4 >= old.len(), "{kept} of {} cuts kept", old.len());
    }

    #[test]
    fn another_seed_cuts_elsewhere() {
        let data = random_bytes(13, 1 << 20);
        let (one, two) = (windows(&chunker(1), &data), windows(&chunker(2), &data));
        assert!(one.len() > 30 && one.intersection(&two).count() <= 2);
        assert_eq!(one, windows(&chunker(1), &data));
    }

    #[test]
    fn a_window_needs_its_bytes() {
        let data = random_bytes(17, 100);
        assert_eq!(window_before(&data, 63), None);
        assert_eq!(window_before(&data, 64).unwrap()[..], data[..64]);
        assert_eq!(window_before(&data, 100).unwrap()[..], data[36..]);
        assert_eq!(window_before(&data, 101), None);
    }

    #[test]
    fn a_printed_chunker_keeps_its_seed_to_itself() {
        assert_eq!(format!("{:?}", chunker(3)).matches("0x").count(), 0);
        assert!(format!("{:?}", chunker(3)).len() < 100);
    }

    #[test]
    fn cuts_of_version_one_stay_where_they_are() {
        let chunker = Chunker::new(Sizes::V1, 0x0123_4567_89ab_cdef);
        let data = random_bytes(2024, 3 << 20);
        let lengths: Vec<usize> = chunker.cuts(&data).map(|piece| piece.data.len()).collect();
        // A repository that exists was cut like this; other figures here mean that it would store everything anew.
        let first = [290_930, 275_801, 283_460, 315_531, 345_148, 327_303, 247_541, 310_456, 225_867, 508_632, 15_059];
        assert_eq!(lengths, first);
    }
}
