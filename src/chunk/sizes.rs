//! How large chunks may be.

use crate::base::Kind;

const KIB: usize = 1 << 10;
const MIB: usize = 1 << 20;

/// The smallest, the average and the largest size of a chunk, in bytes; always a sensible triple.
///
/// Chosen when a repository is made and fixed from then on: with other sizes nothing would be cut where it was
/// cut before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sizes {
    min: usize,
    average: usize,
    max: usize,
}

/// Sizes that cannot be cut to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "cannot cut chunks of {min}/{average}/{max} bytes (smallest/average/largest): each must be a power of two, each \
     larger than the one before, from 4 KiB to 16 MiB, the smallest at most 1 MiB and the average at most 4 MiB"
)]
pub struct Error {
    min: u64,
    average: u64,
    max: u64,
}

impl Error {
    /// Always [`Kind::Unsupported`]: sizes come from a repository's config, whose proof is checked elsewhere, so
    /// a version that knows better wrote them.
    pub fn kind(&self) -> Kind {
        Kind::Unsupported
    }
}

impl Sizes {
    /// What repositories of format 1 are made with: 64 KiB, 256 KiB, 1 MiB.
    pub const V1: Sizes = Sizes { min: 64 * KIB, average: 256 * KIB, max: MIB };

    /// The sizes that any repository may ask for are powers of two (the search steps two bytes at a time, and the
    /// average selects a mask by its logarithm) with 4 KiB <= min < average < max <= 16 MiB, min at most 1 MiB and
    /// average at most 4 MiB.
    ///
    /// # Errors
    ///
    /// Names the three sizes when they are outside these bounds.
    pub fn new(min: u64, average: u64, max: u64) -> Result<Sizes, Error> {
        let sound = [min, average, max].iter().all(|size| size.is_power_of_two())
            && min >= 4 * KIB as u64
            && min < average
            && average < max
            && min <= MIB as u64
            && average <= 4 * MIB as u64
            && max <= 16 * MIB as u64;
        if !sound {
            return Err(Error { min, average, max });
        }
        // Each is at most 16 MiB.
        Ok(Sizes { min: min as usize, average: average as usize, max: max as usize })
    }

    /// No chunk but the last of a stream is smaller.
    pub fn min(self) -> usize {
        self.min
    }

    /// What chunks tend to: the mean is a little larger or smaller, as the content has it.
    pub fn average(self) -> usize {
        self.average
    }

    /// No chunk is larger.
    pub fn max(self) -> usize {
        self.max
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn the_sizes_of_version_one_are_sound() {
        assert_eq!(Sizes::new(64 << 10, 256 << 10, 1 << 20), Ok(Sizes::V1));
        assert!(Sizes::new(1 << 20, 4 << 20, 16 << 20).is_ok());
    }

    #[test]
    fn foolish_sizes_are_refused_by_name() {
        for (min, average, max) in [
            (0, 0, 0),
            (2 << 10, 256 << 10, 1 << 20),
            (64 << 10, 64 << 10, 1 << 20),
            (64 << 10, 1 << 20, 1 << 20),
            (64 << 10, 256 << 10, 32 << 20),
            (64 << 10, 8 << 20, 16 << 20),
            (2 << 20, 4 << 20, 16 << 20),
            (65_537, 256 << 10, 1 << 20),
            (u64::MAX, u64::MAX, u64::MAX),
        ] {
            let error = Sizes::new(min, average, max).unwrap_err();
            assert!(error.to_string().contains(&format!("{min}/{average}/{max}")), "{error}");
            assert_eq!(error.kind(), Kind::Unsupported);
        }
    }
}
