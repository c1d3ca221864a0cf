//! A small filter that says "surely not here" of most ids that are not in a level.
//!
//! A blocked Bloom filter: an id belongs to one 64-byte block (one cache line) and sets [`PROBES`] of its 512 bits.
//! Ids are keyed hashes, so their own bytes serve as hash. At [`BITS_PER_ID`] about two of a hundred absent ids pass.

use crate::base::BlobId;

const BLOCK_WORDS: usize = 8;
const PROBES: usize = 5;
const BITS_PER_ID: u64 = 10;

/// The filter of one level.
#[derive(Clone)]
pub struct Filter(Vec<[u64; BLOCK_WORDS]>);

impl Filter {
    /// An empty filter with room for about `ids`.
    pub fn for_ids(ids: u64) -> Filter {
        let blocks = (ids * BITS_PER_ID).div_ceil(BLOCK_WORDS as u64 * 64).max(1);
        Filter(vec![[0; BLOCK_WORDS]; blocks as usize])
    }

    /// The filter whose bytes these are.
    pub fn from_bytes(bytes: &[u8]) -> Option<Filter> {
        if bytes.is_empty() || !bytes.len().is_multiple_of(BLOCK_WORDS * 8) {
            return None;
        }
        let word = |bytes: &[u8]| bytes.iter().rev().fold(0, |word, byte| word << 8 | u64::from(*byte));
        let block = |bytes: &[u8]| std::array::from_fn(|i| word(&bytes[i * 8..][..8]));
        Some(Filter(bytes.chunks_exact(BLOCK_WORDS * 8).map(block).collect()))
    }

    /// Its bytes: words, little-endian.
    pub fn to_bytes(&self) -> Vec<u8> {
        self.0.iter().flatten().flat_map(|word| word.to_le_bytes()).collect()
    }

    /// Takes in an id.
    pub fn insert(&mut self, id: &BlobId) {
        let block = self.block(id);
        for (word, bit) in probes(id) {
            self.0[block][word] |= bit;
        }
    }

    /// False when the id was surely not taken in.
    pub fn may_hold(&self, id: &BlobId) -> bool {
        let block = &self.0[self.block(id)];
        probes(id).all(|(word, bit)| block[word] & bit != 0)
    }

    fn block(&self, id: &BlobId) -> usize {
        // Not the first bytes: ids that stand next to each other in a table would crowd one block.
        let hash = u64::from_le_bytes(id.0[8..16].try_into().expect("eight bytes"));
        ((u128::from(hash) * self.0.len() as u128) >> 64) as usize
    }
}

fn probes(id: &BlobId) -> impl Iterator<Item = (usize, u64)> {
    let hash = u64::from_le_bytes(id.0[16..24].try_into().expect("eight bytes"));
    (0..PROBES).map(move |probe| {
        let nine_bits = hash >> (probe * 9) & 511;
        ((nine_bits >> 6) as usize, 1 << (nine_bits & 63))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(number: u64) -> BlobId {
        BlobId(*blake3_like(number).first_chunk().expect("32 bytes"))
    }

    /// SplitMix64: good enough to stand for keyed hashes.
    fn blake3_like(number: u64) -> Vec<u8> {
        (0..4u64)
            .flat_map(|i| {
                let mut z = number.wrapping_mul(4).wrapping_add(i).wrapping_mul(0x9e37_79b9_7f4a_7c15);
                z = (z ^ z >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
                z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
                (z ^ z >> 31).to_le_bytes()
            })
            .collect()
    }

    #[test]
    fn what_was_taken_in_passes_and_few_others_do() {
        let mut filter = Filter::for_ids(10_000);
        (0..10_000).for_each(|n| filter.insert(&id(n)));
        let filter = Filter::from_bytes(&filter.to_bytes()).expect("its own bytes");
        assert!((0..10_000).all(|n| filter.may_hold(&id(n))));
        let wrong = (10_000..20_000).filter(|n| filter.may_hold(&id(*n))).count();
        assert!(wrong < 300, "{wrong} of 10000 absent ids pass");
        assert!(Filter::from_bytes(&[0; 63]).is_none());
    }
}
