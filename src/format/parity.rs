//! Parity sidecars: what of a pack can be made anew when parts of it are damaged.
//!
//! A pack is cut into *cells* of [`CELL_BYTES`], the last one filled up with zeros. Cell *i* belongs to group *i* mod
//! *g*: neighbours lie in different groups, so that a burst of damage takes a little of each. Each group has its own
//! recovery cells. A sidecar consists of cells too:
//!
//! ```text
//! cells            what
//! p                the pages: the hash of each cell, and at the head of each page all that a reader has to know
//! g × r            recovery cells; number j × g + i is the j-th of group i
//! p                the pages once more
//! ```
//!
//! A page:
//!
//! ```text
//! offset  size
//!      0     4  magic "KEEP"
//!      4     2  format version
//!      6     1  kind 17
//!      7     1  0
//!      8    32  the pack's id
//!     40     8  the pack's bytes
//!     48     4  g, the number of groups
//!     52     4  r, the recovery cells of a group
//!     56     4  which page this is, from 0
//!     60     4  0
//!     64  4000  hashes of up to 500 cells: those of the pack, then the recovery cells; zeros behind the last
//!   4064    32  BLAKE3 of all bytes before
//! ```
//!
//! Nothing here is sealed: whoever has the store can repair, without a key. What comes of it counts only if its BLAKE3
//! is the pack's name.

use super::envelope::ObjectKind;
use super::{Error, MAGIC, VERSION};
use crate::base::PackId;
use crate::crypto::names;
use std::fmt;
use std::str::FromStr;

/// Bytes of a cell: what a disk loses at once.
pub const CELL_BYTES: usize = 4096;
/// Bytes of a cell's hash: the beginning of its BLAKE3. It tells damage by chance; the pack's name tells all else.
pub const HASH_BYTES: usize = 8;
/// Bytes of a page before its hashes.
pub const PAGE_HEAD_BYTES: usize = 64;
/// Bytes of a page behind its hashes.
pub const PAGE_SUM_BYTES: usize = 32;
/// Hashes in a page.
pub const PAGE_HASHES: usize = (CELL_BYTES - PAGE_HEAD_BYTES - PAGE_SUM_BYTES) / HASH_BYTES;
/// The most cells of a pack in one group: with their recovery cells they are what repair holds in memory.
pub const MAX_GROUP_CELLS: u64 = 1024;
/// The most recovery cells of one group.
pub const MAX_GROUP_RECOVERY: u32 = 512;
/// The fewest recovery cells of one group: a hit that lies across two cells can be mended.
pub const MIN_GROUP_RECOVERY: u32 = 2;
/// The largest pack that has a sidecar.
pub const MAX_PACK_BYTES: u64 = 1 << 30;

const SUM_AT: usize = CELL_BYTES - PAGE_SUM_BYTES;
const WHAT: &str = "parity sidecar";

/// The beginning of a cell's BLAKE3.
pub type CellHash = [u8; HASH_BYTES];

/// The hash of a cell.
pub fn cell_hash(cell: &[u8]) -> CellHash {
    names::hash(cell)[..HASH_BYTES].try_into().expect("a hash is longer")
}

/// How much of a pack may be damaged and still come back: hundredths of a per cent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Share(u32);

/// A text or number that is no share.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no share for parity: write 5%, anything from 1% to 50%")]
pub struct NotAShare(String);

impl Share {
    /// From hundredths of a per cent; none if it is less than 1 % or more than 50 %.
    pub fn from_hundredths(hundredths: u32) -> Option<Share> {
        (100..=5000).contains(&hundredths).then_some(Share(hundredths))
    }

    /// In hundredths of a per cent.
    pub fn hundredths(self) -> u32 {
        self.0
    }

    fn recovery_for(self, cells: u64) -> u32 {
        let recovery = (cells * u64::from(self.0)).div_ceil(10_000);
        u32::try_from(recovery)
            .map_or(MAX_GROUP_RECOVERY, |recovery| recovery.clamp(MIN_GROUP_RECOVERY, MAX_GROUP_RECOVERY))
    }
}

impl fmt::Display for Share {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 % 100 {
            0 => write!(f, "{}%", self.0 / 100),
            rest => write!(f, "{}.{}%", self.0 / 100, format!("{rest:02}").trim_end_matches('0')),
        }
    }
}

impl FromStr for Share {
    type Err = NotAShare;
    fn from_str(text: &str) -> Result<Share, NotAShare> {
        let wrong = || NotAShare(text.to_owned());
        let number = text.strip_suffix('%').ok_or_else(wrong)?;
        let (whole, part) = number.split_once('.').unwrap_or((number, "0"));
        let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit()) && (1..=2).contains(&text.len());
        if !digits(whole) || !digits(part) {
            return Err(wrong());
        }
        let hundredths = |text: &str| format!("{text:0<2}").parse::<u32>().ok();
        let all = whole.parse::<u32>().ok().zip(hundredths(part)).map(|(whole, part)| whole * 100 + part);
        all.and_then(Share::from_hundredths).ok_or_else(wrong)
    }
}

/// How a pack is cut into groups: all places follow from it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shape {
    pack_bytes: u64,
    groups: u32,
    recovery: u32,
}

impl Shape {
    /// The shape for a pack of so many bytes; none for one without bytes or above [`MAX_PACK_BYTES`].
    pub fn new(pack_bytes: u64, share: Share) -> Option<Shape> {
        let cells = pack_bytes.div_ceil(CELL_BYTES as u64);
        let groups = u32::try_from(cells.div_ceil(MAX_GROUP_CELLS)).ok()?;
        let of_group = cells.div_ceil(u64::from(groups.max(1)));
        Shape::checked(pack_bytes, groups, share.recovery_for(of_group))
    }

    fn checked(pack_bytes: u64, groups: u32, recovery: u32) -> Option<Shape> {
        let shape = Shape { pack_bytes, groups, recovery };
        let sane = (1..=MAX_PACK_BYTES).contains(&pack_bytes)
            && (1..=shape.cells()).contains(&u64::from(groups))
            && (1..=MAX_GROUP_RECOVERY).contains(&recovery)
            && shape.group_cells() <= MAX_GROUP_CELLS as usize;
        sane.then_some(shape)
    }

    /// The pack's bytes.
    pub fn pack_bytes(&self) -> u64 {
        self.pack_bytes
    }

    /// The pack's cells.
    pub fn cells(&self) -> u64 {
        self.pack_bytes.div_ceil(CELL_BYTES as u64)
    }

    /// Groups.
    pub fn groups(&self) -> u64 {
        u64::from(self.groups)
    }

    /// Cells of the pack in a group. The last groups may have one less: a cell of zeros stands in for it.
    pub fn group_cells(&self) -> usize {
        self.cells().div_ceil(u64::from(self.groups.max(1))) as usize
    }

    /// Recovery cells of a group.
    pub fn group_recovery(&self) -> usize {
        self.recovery as usize
    }

    /// Recovery cells of all groups.
    pub fn recovery_cells(&self) -> u64 {
        self.groups() * u64::from(self.recovery)
    }

    /// Cells with a hash: those of the pack and the recovery cells.
    pub fn hashes(&self) -> u64 {
        self.cells() + self.recovery_cells()
    }

    /// Pages, each of which is there twice.
    pub fn pages(&self) -> u64 {
        self.hashes().div_ceil(PAGE_HASHES as u64)
    }

    /// The sidecar's cells.
    pub fn sidecar_cells(&self) -> u64 {
        2 * self.pages() + self.recovery_cells()
    }

    /// The sidecar's bytes.
    pub fn sidecar_bytes(&self) -> u64 {
        self.sidecar_cells() * CELL_BYTES as u64
    }

    /// The cell of the pack at `index` of `group`; none where zeros stand in.
    pub fn cell(&self, group: u64, index: usize) -> Option<u64> {
        Some(index as u64 * self.groups() + group).filter(|cell| *cell < self.cells())
    }

    /// The number of a recovery cell among all.
    pub fn recovery_cell(&self, group: u64, index: usize) -> u64 {
        index as u64 * self.groups() + group
    }

    /// Which page a cell of the sidecar holds; none for a recovery cell.
    pub fn page_at(&self, cell: u64) -> Option<u64> {
        let behind = self.pages() + self.recovery_cells();
        match cell {
            _ if cell < self.pages() => Some(cell),
            _ if cell >= behind && cell < self.sidecar_cells() => Some(cell - behind),
            _ => None,
        }
    }
}

/// The largest sidecar that any pack can have.
pub fn max_sidecar_bytes() -> u64 {
    let all = Share::from_hundredths(5000).and_then(|share| Shape::new(MAX_PACK_BYTES, share));
    all.expect("the largest pack has a sidecar").sidecar_bytes()
}

/// One page of a sidecar.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page {
    /// The pack that the sidecar is for.
    pub pack: PackId,
    /// How it is cut.
    pub shape: Shape,
    /// Which page this is.
    pub number: u32,
    /// The hashes that it holds.
    pub hashes: Vec<CellHash>,
}

impl Page {
    /// How many hashes page `number` has.
    pub fn length(shape: &Shape, number: u64) -> usize {
        shape.hashes().saturating_sub(number.saturating_mul(PAGE_HASHES as u64)).min(PAGE_HASHES as u64) as usize
    }

    /// The page's bytes.
    pub fn encode(&self) -> Vec<u8> {
        assert_eq!(self.hashes.len(), Page::length(&self.shape, u64::from(self.number)), "a page has all its hashes");
        let mut bytes = Vec::with_capacity(CELL_BYTES);
        bytes.extend_from_slice(&MAGIC);
        bytes.extend_from_slice(&VERSION.to_le_bytes());
        bytes.extend_from_slice(&[ObjectKind::Parity.number(), 0]);
        bytes.extend_from_slice(&self.pack.0);
        bytes.extend_from_slice(&self.shape.pack_bytes.to_le_bytes());
        for number in [self.shape.groups, self.shape.recovery, self.number, 0] {
            bytes.extend_from_slice(&number.to_le_bytes());
        }
        self.hashes.iter().for_each(|hash| bytes.extend_from_slice(hash));
        bytes.resize(SUM_AT, 0);
        let sum = names::hash(&bytes);
        bytes.extend_from_slice(&sum);
        bytes
    }

    /// Reads a page. Its sum comes last: that of a page of a newer version may lie elsewhere.
    pub fn decode(bytes: &[u8]) -> Result<Page, Error> {
        let bad = |position: usize, reason: &str| Error::Malformed { what: WHAT, position, reason: reason.to_owned() };
        let (kind, flags, _) = super::envelope::read_header(bytes, WHAT)?;
        if kind != ObjectKind::Parity || flags != 0 {
            return Err(bad(6, "it is another kind of object"));
        }
        if bytes.len() != CELL_BYTES || names::hash(&bytes[..SUM_AT]) != bytes[SUM_AT..] {
            return Err(bad(SUM_AT, "the sum of a page does not fit what is in it"));
        }
        let number = |at: usize| u32::from_le_bytes(bytes[at..at + 4].try_into().expect("four bytes"));
        let pack_bytes = u64::from_le_bytes(bytes[40..48].try_into().expect("eight bytes"));
        let shape = Shape::checked(pack_bytes, number(48), number(52));
        let shape = shape.ok_or_else(|| bad(40, "no pack is cut like this"))?;
        let length = Page::length(&shape, u64::from(number(56)));
        let end = PAGE_HEAD_BYTES + length * HASH_BYTES;
        if length == 0 || number(60) != 0 || bytes[end..SUM_AT].iter().any(|byte| *byte != 0) {
            return Err(bad(56, "there is no such page, or it has bytes set that should be zero"));
        }
        let hashes = bytes[PAGE_HEAD_BYTES..end].chunks_exact(HASH_BYTES);
        let hashes = hashes.map(|hash| hash.try_into().expect("as long as a hash")).collect();
        let pack = PackId::from_slice(&bytes[8..40]).expect("32 bytes");
        Ok(Page { pack, shape, number: number(56), hashes })
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn share(text: &str) -> Share {
        text.parse().unwrap()
    }

    #[test]
    fn a_share_is_a_percentage_between_one_and_fifty() {
        for (text, hundredths, again) in
            [("5%", 500, "5%"), ("2.5%", 250, "2.5%"), ("12.25%", 1225, "12.25%"), ("1.05%", 105, "1.05%")]
        {
            assert_eq!((share(text).hundredths(), &*share(text).to_string()), (hundredths, again));
        }
        for text in ["", "%", "5", "0.5%", "51%", "5.123%", "-5%", "5 %", "5.%", "off", "é%"] {
            assert!(text.parse::<Share>().is_err(), "{text:?}");
        }
    }

    #[test]
    fn every_cell_lies_in_one_group_and_every_place_follows_from_the_shape() {
        for bytes in [1, 4096, 8192, 40_960, 4 << 20, (4 << 20) + 1, 32 << 20, 256 << 20, MAX_PACK_BYTES] {
            for share in [share("1%"), share("5%"), share("50%")] {
                let shape = Shape::new(bytes, share).unwrap();
                assert_eq!(shape.cells(), bytes.div_ceil(4096));
                assert!(shape.group_cells() <= 1024 && shape.group_recovery() >= 2);
                let mut seen = vec![false; shape.cells() as usize];
                for group in 0..shape.groups() {
                    for cell in (0..shape.group_cells()).filter_map(|index| shape.cell(group, index)) {
                        assert!(!std::mem::replace(&mut seen[cell as usize], true), "{cell} is in two groups");
                    }
                }
                assert!(seen.iter().all(|seen| *seen));
                let pages: Vec<u64> = (0..shape.sidecar_cells()).filter_map(|cell| shape.page_at(cell)).collect();
                assert_eq!(pages.len() as u64, 2 * shape.pages());
            }
        }
        assert_eq!((Shape::new(0, share("5%")), Shape::new(MAX_PACK_BYTES + 1, share("5%"))), (None, None));
        let large = Shape::new(32 << 20, share("5%")).unwrap();
        assert_eq!((large.groups(), large.group_recovery(), large.pages()), (8, 52, 18));
        assert!(max_sidecar_bytes() < MAX_PACK_BYTES);
    }

    #[test]
    fn a_page_comes_back_and_every_changed_bit_is_noticed() {
        let shape = Shape::new(3 << 20, share("5%")).unwrap();
        for number in 0..shape.pages() {
            let hashes = (0..Page::length(&shape, number)).map(|hash| [hash as u8; 8]).collect();
            let page = Page { pack: PackId([3; 32]), shape, number: number as u32, hashes };
            let bytes = page.encode();
            assert_eq!((bytes.len(), Page::decode(&bytes).unwrap()), (CELL_BYTES, page));
            for at in [0, 4, 6, 7, 9, 41, 49, 53, 57, 61, 70, 4063, 4064, 4095] {
                let mut altered = bytes.clone();
                altered[at] ^= 4;
                assert!(Page::decode(&altered).is_err(), "{at}");
            }
            assert!(Page::decode(&bytes[1..]).is_err() && Page::decode(&bytes[..4095]).is_err());
        }
    }

    #[test]
    fn a_page_with_a_right_sum_that_says_what_cannot_be_is_refused() {
        let shape = Shape::new(8192, share("5%")).unwrap();
        let page = Page { pack: PackId([3; 32]), shape, number: 0, hashes: vec![[1; 8]; 4] };
        // The pack's bytes, groups, recovery cells, the page's number, the zero behind it, a hash too many.
        for (at, value) in [(47, 0xff), (40, 0), (48, 9), (51, 1), (52, 0), (53, 3), (56, 1), (60, 1), (120, 1)] {
            let mut bytes = page.encode();
            bytes[at] = value;
            if at == 40 {
                bytes[40..48].fill(0);
            }
            let sum = names::hash(&bytes[..SUM_AT]);
            bytes[SUM_AT..].copy_from_slice(&sum);
            assert!(Page::decode(&bytes).is_err(), "{at}");
        }
    }
}
