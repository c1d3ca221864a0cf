//! Records of damage: what of a pack cannot be read and could not be mended.
//!
//! What a record names is unknown to everybody from then on: the next backup stores it again instead of counting on it,
//! whichever machine runs it. A record goes when its pack was mended, or is gone.

use super::cbor::record;
use crate::base::PackId;

/// The most blocks that one record names: more than any pack has.
pub const MAX_BLOCKS: usize = 65_536;

record! {
    /// Blocks of a pack that cannot be read: `damage/PACK.N`.
    DamageRecord {
        /// The pack. Equal to the first part of the object's name.
        1 => pack: PackId,
        /// Where the blocks begin in the pack, in bytes, ascending.
        2 => blocks: Vec<u64>,
        /// When this was found out, nanoseconds since 1970.
        3 => at_ns: i64,
    } checked by DamageRecord::check
}

impl DamageRecord {
    fn check(&self) -> Result<(), String> {
        let ascending = self.blocks.is_sorted_by(|one, other| one < other);
        match !self.blocks.is_empty() && ascending && self.blocks.len() <= MAX_BLOCKS {
            true => Ok(()),
            false => Err("its blocks are none, too many or not in order".to_owned()),
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::format::cbor::{Cbor, Unknown};

    #[test]
    fn a_record_names_blocks_in_order_and_at_least_one() {
        for (blocks, fits) in [(&[32][..], true), (&[32, 4000], true), (&[], false), (&[9, 9], false), (&[9, 8], false)]
        {
            let record =
                DamageRecord { pack: PackId([1; 32]), blocks: blocks.to_vec(), at_ns: 5, unknown: Unknown::none() };
            assert_eq!(DamageRecord::from_cbor(&record.to_cbor(), "damage").is_ok(), fits, "{blocks:?}");
        }
    }
}
