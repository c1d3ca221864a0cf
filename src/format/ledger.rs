//! What was read back and proven, and when: the ledger of verification.

use super::cbor::{Bytes, numbered, record};
use crate::base::{PackId, RunId, SnapshotId};

/// Bytes of a pack's name that stand for it in a ledger: of a million packs two begin alike once in 30 million
/// repositories.
pub const PREFIX_BYTES: usize = 8;
/// The most ledgers that one covers.
pub const MAX_COVERED: usize = 100_000;

/// The first bytes of a pack's name.
pub type PackPrefix = [u8; PREFIX_BYTES];

/// What stands for a pack.
pub fn prefix(pack: &PackId) -> PackPrefix {
    let (first, _) = pack.0.split_first_chunk().expect("32 bytes begin with 8");
    *first
}

numbered! {
    /// What was found out about snapshots.
    Finding {
        /// All that they need was read and is whole.
        Whole = 1,
        /// Something that they need is damaged.
        Hurt = 2,
        /// They came back in a drill.
        Drilled = 3,
    }
}

record! {
    /// Packs that were read from their first byte to their last.
    PacksRead {
        /// When, nanoseconds since 1970.
        1 => at_ns: i64,
        /// The first `PREFIX_BYTES` bytes of their names, ascending, one after another.
        2 => packs: Bytes,
        /// Their bytes do not have their names.
        3 => damaged: bool,
    } checked by PacksRead::check
}

impl PacksRead {
    fn check(&self) -> Result<(), String> {
        let whole = self.packs.0.len().is_multiple_of(PREFIX_BYTES);
        let ascending = self.prefixes().is_sorted_by(|one, other| one < other);
        if whole && ascending { Ok(()) } else { Err("its packs are not in order".to_owned()) }
    }

    /// What stands for the packs.
    pub fn prefixes(&self) -> impl Iterator<Item = PackPrefix> {
        self.packs.0.as_chunks().0.iter().copied()
    }
}

record! {
    /// Snapshots of which the same was found out at the same time.
    SnapshotsFound {
        /// When, nanoseconds since 1970; of whole ones, when the first of what they need was read.
        1 => at_ns: i64,
        /// What.
        2 => finding: Finding,
        /// The snapshots.
        3 => snapshots: Vec<SnapshotId>,
    }
}

record! {
    /// What a run has read and proven: `runs/ID.ledger`. One that covers others says all that they say.
    Ledger {
        /// The run. Equal to the object's name.
        1 => run: RunId,
        /// When it was stored, nanoseconds since 1970.
        2 => at_ns: i64,
        /// Ledgers that need not be read beside it, at most [`MAX_COVERED`].
        3 => covers: Vec<RunId>,
        /// Packs.
        4 => packs: Vec<PacksRead>,
        /// Snapshots.
        5 => snapshots: Vec<SnapshotsFound>,
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::format::cbor::{Cbor, Unknown};

    fn read(packs: &[u8]) -> PacksRead {
        PacksRead { at_ns: 5, packs: Bytes(packs.to_vec()), damaged: false, unknown: Unknown::none() }
    }

    #[test]
    fn packs_stand_in_order_and_none_twice() {
        for (packs, fits) in [
            (&[][..], true),
            (&[1; 8], true),
            (&[0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 2], true),
            (&[1; 16], false),
            (&[1; 9], false),
            (&[0, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0, 1], false),
        ] {
            assert_eq!(PacksRead::from_cbor(&read(packs).to_cbor(), "packs").is_ok(), fits, "{packs:?}");
        }
        assert_eq!(read(&[7; 8]).prefixes().collect::<Vec<_>>(), [[7; 8]]);
        assert_eq!(prefix(&PackId(std::array::from_fn(|place| place as u8))), [0, 1, 2, 3, 4, 5, 6, 7]);
    }
}
