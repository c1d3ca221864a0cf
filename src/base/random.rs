//! The system's random source, and numbers that depend on a seed alone.

/// Fills an array with random bytes fit for keys, nonces and names.
///
/// Panics when the operating system has no random source: without one nothing here can be safe.
pub fn bytes<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    fill(&mut bytes);
    bytes
}

/// Fills a slice with random bytes; panics like [`bytes()`].
pub fn fill(bytes: &mut [u8]) {
    getrandom::fill(bytes).expect("the operating system provides random bytes");
}

/// Numbers drawn by lot, the same for the same seed on every machine: SplitMix64 (Steele, Lea, Flood 2014). Whoever knows
/// one knows the next: for samples and tests, never for secrets.
#[derive(Clone, Debug)]
pub struct Lot(u64);

impl Lot {
    /// Begins at a place that nobody can foresee.
    pub fn new() -> Lot {
        Lot(u64::from_le_bytes(bytes()))
    }

    /// Begins at a place that is given.
    pub fn of(seed: u64) -> Lot {
        Lot(seed)
    }

    /// Any number.
    pub fn draw(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut number = self.0;
        number = (number ^ (number >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        number = (number ^ (number >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        number ^ (number >> 31)
    }

    /// A number below a bound; 0 below 0.
    pub fn below(&mut self, bound: u64) -> u64 {
        self.draw() % bound.max(1)
    }

    /// So many bytes.
    pub fn bytes(&mut self, length: usize) -> Vec<u8> {
        let mut bytes: Vec<u8> = (0..length.div_ceil(8)).flat_map(|_| self.draw().to_le_bytes()).collect();
        bytes.truncate(length);
        bytes
    }
}

impl Default for Lot {
    fn default() -> Self {
        Lot::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lots_are_those_that_the_authors_of_the_method_give() {
        let mut lot = Lot::of(0);
        assert_eq!([lot.draw(), lot.draw()], [0xe220_a839_7b1d_cdaf, 0x6e78_9e6a_a1b9_65f4]);
        assert_eq!(Lot::of(7).bytes(11), Lot::of(7).bytes(11));
        assert!((0..100).all(|_| lot.below(3) < 3) && lot.below(0) == 0);
    }
}
