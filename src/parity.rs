//! Reed-Solomon: recovery cells for a group of cells, and lost cells made anew from those that are left. No I/O.
//!
//! A group has so many *originals* and so many *recovery cells*, all of one length. Any originals that are lost come
//! back as long as at least as many recovery cells are there. Nothing in here tells a good cell from a bad one: whoever
//! calls leaves out what is damaged, and looks at what comes back before it is believed.
//!
//! The code is that of the package `reed-solomon-simd` (GF(2^16), additive FFT, as in Leopard), always at its high rate.
//! `docs/FORMAT.md` says what it computes without any FFT, so that a reader in another language is possible.

use reed_solomon_simd::engine::DefaultEngine;
use reed_solomon_simd::rate::{HighRateDecoder, HighRateEncoder, RateDecoder, RateEncoder};

/// The most cells that a group may have, recovery cells included: below it every combination can be encoded.
pub const MAX_CELLS: usize = 1 << 15;

/// Why cells do not make recovery cells, or lost ones do not come back.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// No such group can be.
    #[error("no group can have {originals} cells of {cell_bytes} bytes and {recovery} recovery cells")]
    Shape {
        /// Cells that are protected.
        originals: usize,
        /// Cells that protect them.
        recovery: usize,
        /// The length of each.
        cell_bytes: usize,
    },
    /// A cell was given twice, is too many, or has another length than the others.
    #[error("a cell does not fit into its group: {0}")]
    Misplaced(String),
    /// Fewer cells are left than there were originals.
    #[error("too few cells are left: {0}")]
    TooFew(String),
}

fn check(originals: usize, recovery: usize, cell_bytes: usize) -> Result<(), Error> {
    let counts = originals.checked_add(recovery).is_some_and(|all| all <= MAX_CELLS) && originals > 0 && recovery > 0;
    // Other lengths are laid out differently within the last 64 bytes; nobody needs them.
    match counts && cell_bytes > 0 && cell_bytes.is_multiple_of(64) {
        true => Ok(()),
        false => Err(Error::Shape { originals, recovery, cell_bytes }),
    }
}

/// Makes recovery cells, group after group of one shape.
pub struct Encoder(HighRateEncoder<DefaultEngine>);

impl Encoder {
    /// For groups of so many cells.
    pub fn new(originals: usize, recovery: usize, cell_bytes: usize) -> Result<Encoder, Error> {
        check(originals, recovery, cell_bytes)?;
        let encoder = HighRateEncoder::new(originals, recovery, cell_bytes, DefaultEngine::new(), None);
        encoder.map(Encoder).map_err(|_| Error::Shape { originals, recovery, cell_bytes })
    }

    /// Takes the next original of the group.
    pub fn add(&mut self, cell: &[u8]) -> Result<(), Error> {
        self.0.add_original_shard(cell).map_err(|error| Error::Misplaced(error.to_string()))
    }

    /// Hands out the recovery cells in their order. Then the next group may come.
    pub fn finish(&mut self, each: &mut dyn FnMut(&[u8])) -> Result<(), Error> {
        let encoded = self.0.encode().map_err(|error| Error::TooFew(error.to_string()))?;
        encoded.recovery_iter().for_each(each);
        Ok(())
    }
}

/// Brings lost cells back, group after group of one shape.
pub struct Decoder(HighRateDecoder<DefaultEngine>);

impl Decoder {
    /// For groups of so many cells.
    pub fn new(originals: usize, recovery: usize, cell_bytes: usize) -> Result<Decoder, Error> {
        check(originals, recovery, cell_bytes)?;
        let decoder = HighRateDecoder::new(originals, recovery, cell_bytes, DefaultEngine::new(), None);
        decoder.map(Decoder).map_err(|_| Error::Shape { originals, recovery, cell_bytes })
    }

    /// Takes an original that is there.
    pub fn add_original(&mut self, index: usize, cell: &[u8]) -> Result<(), Error> {
        self.0.add_original_shard(index, cell).map_err(|error| Error::Misplaced(error.to_string()))
    }

    /// Takes a recovery cell that is there.
    pub fn add_recovery(&mut self, index: usize, cell: &[u8]) -> Result<(), Error> {
        self.0.add_recovery_shard(index, cell).map_err(|error| Error::Misplaced(error.to_string()))
    }

    /// Hands out the originals that were not given, with their places. Then the next group may come.
    pub fn finish(&mut self, each: &mut dyn FnMut(usize, &[u8])) -> Result<(), Error> {
        let decoded = self.0.decode().map_err(|error| Error::TooFew(error.to_string()))?;
        decoded.restored_original_iter().for_each(|(index, cell)| each(index, cell));
        Ok(())
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    const CELL: usize = 64;

    fn cells(count: usize) -> Vec<Vec<u8>> {
        (0..count).map(|cell| (0..CELL).map(|at| (cell * 31 + at * 7 + cell * at) as u8).collect()).collect()
    }

    fn encoded(originals: &[Vec<u8>], recovery: usize) -> Vec<Vec<u8>> {
        let mut encoder = Encoder::new(originals.len(), recovery, CELL).unwrap();
        originals.iter().for_each(|cell| encoder.add(cell).unwrap());
        let mut made = Vec::new();
        encoder.finish(&mut |cell| made.push(cell.to_vec())).unwrap();
        made
    }

    #[test]
    fn as_many_cells_come_back_as_there_are_recovery_cells_and_not_one_more() {
        for (count, recovery) in [(1, 2), (2, 2), (37, 5), (1024, 52), (100, 100)] {
            let originals = cells(count);
            let made = encoded(&originals, recovery);
            assert_eq!(made.len(), recovery);
            let mut decoder = Decoder::new(count, recovery, CELL).unwrap();
            for lost in [recovery.min(count), recovery + 1] {
                // The same decoder serves group after group, whatever became of the one before.
                (lost..count).for_each(|at| decoder.add_original(at, &originals[at]).unwrap());
                made.iter().enumerate().for_each(|(at, cell)| decoder.add_recovery(at, cell).unwrap());
                let mut back = Vec::new();
                let done = decoder.finish(&mut |at, cell| back.push((at, cell.to_vec())));
                if lost > recovery && count > recovery {
                    assert!(matches!(done, Err(Error::TooFew(_))), "{count} {recovery} {lost}: {done:?}");
                    break;
                }
                done.unwrap();
                assert_eq!(back.len(), lost.min(count));
                assert!(back.iter().all(|(at, cell)| *cell == originals[*at]), "{count} {recovery} {lost}");
            }
        }
    }

    #[test]
    fn nothing_lost_gives_nothing_back_and_what_cannot_be_a_group_is_refused() {
        let originals = cells(3);
        let mut decoder = Decoder::new(3, 2, CELL).unwrap();
        originals.iter().enumerate().for_each(|(at, cell)| decoder.add_original(at, cell).unwrap());
        decoder.finish(&mut |at, _| panic!("{at} was not lost")).unwrap();
        for (originals, recovery, cell_bytes) in [(0, 1, 64), (1, 0, 64), (1, 1, 0), (1, 1, 63), (MAX_CELLS, 1, 64)] {
            assert!(Encoder::new(originals, recovery, cell_bytes).is_err());
            assert!(Decoder::new(originals, recovery, cell_bytes).is_err());
        }
        assert!(matches!(decoder.add_original(3, &originals[0]), Err(Error::Misplaced(_))));
        assert!(matches!(decoder.add_original(0, &originals[0][1..]), Err(Error::Misplaced(_))));
    }

    #[test]
    fn the_code_stays_as_it_is() {
        // Sidecars in the world depend on these bytes; they never change.
        let made = encoded(&cells(3), 2);
        let hash =
            |cell: &[u8]| cell.iter().fold(0u32, |hash, byte| hash.wrapping_mul(31).wrapping_add((*byte).into()));
        assert_eq!([hash(&made[0]), hash(&made[1])], [3_231_202_908, 3_327_471_500]);
    }
}
