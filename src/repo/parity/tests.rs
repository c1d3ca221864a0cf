//! What sidecars bring back, and what they cost when they are damaged themselves.
#![allow(clippy::unwrap_used, clippy::print_stdout)]

use super::*;
use crate::base::random::Lot;
use crate::crypto::names;
use crate::format::parity::{CELL_BYTES, Page, Shape, Share};
use crate::repo::pack_reader::pack_key;
use crate::store::Memory;

const CELL: usize = CELL_BYTES;

fn below(lot: &mut Lot, limit: usize) -> usize {
    lot.below(limit as u64) as usize
}

/// A pack, or what stands for one here, with its sidecar.
struct Pair {
    store: Memory,
    pack: PackId,
    bytes: Vec<u8>,
    sidecar: Vec<u8>,
    shape: Shape,
}

impl Pair {
    fn new(length: usize, share: &str, seed: u64) -> Pair {
        let bytes = Lot::of(seed).bytes(length);
        let (store, pack) = (Memory::new(), PackId(names::hash(&bytes)));
        let shape = Shape::new(length as u64, share.parse::<Share>().unwrap()).unwrap();
        store.put(&pack_key(pack), &bytes).unwrap();
        make_for(&store, pack, length as u64, shape).unwrap().finish(&sidecar_key(pack)).unwrap();
        let sidecar = store.get(&sidecar_key(pack), u64::MAX).unwrap();
        assert_eq!(sidecar.len() as u64, shape.sidecar_bytes());
        Pair { store, pack, bytes, sidecar, shape }
    }

    /// Puts changed bytes in the place of both.
    fn damage(&self, pack: impl FnOnce(&mut Vec<u8>), sidecar: impl FnOnce(&mut Vec<u8>)) {
        let (mut bytes, mut beside) = (self.bytes.clone(), self.sidecar.clone());
        pack(&mut bytes);
        sidecar(&mut beside);
        self.store.replace(&pack_key(self.pack), &bytes).unwrap();
        self.store.replace(&sidecar_key(self.pack), &beside).unwrap();
    }

    fn sizes(&self) -> (u64, u64) {
        let size = |key: &Key| self.store.size(key).unwrap();
        (size(&pack_key(self.pack)), size(&sidecar_key(self.pack)))
    }

    fn assess(&self) -> Assessment {
        let (there, sidecar) = self.sizes();
        assess(&self.store, self.pack, there, &Sidecar::read(&self.store, self.pack, sidecar).unwrap()).unwrap()
    }

    /// Whether it can be mended; then it is, and what comes of it is the pack as it was.
    fn mends(&self) -> bool {
        let (there, sidecar) = self.sizes();
        match mend(&self.store, self.pack, there, sidecar) {
            Ok(mended) => {
                mended.upload.replace(&pack_key(self.pack)).unwrap();
                assert!(self.store.get(&pack_key(self.pack), u64::MAX).unwrap() == self.bytes, "other bytes came back");
                true
            }
            Err(error) => {
                assert_eq!(error.kind(), Kind::Damaged, "{error}");
                false
            }
        }
    }
}

/// The lengths of packs: one cell, a few, one group, several groups with a last one that has less.
const LENGTHS: [usize; 5] = [CELL, 5 * CELL, 600 * CELL + 17, 1025 * CELL, 3 * 1024 * CELL - CELL / 2];

#[test]
fn bursts_scattered_hits_and_cut_off_ends_up_to_the_share_come_back() {
    let (mut tried, mut mended) = (0, 0);
    for (seed, length) in LENGTHS.into_iter().enumerate() {
        let pair = Pair::new(length, "5%", seed as u64);
        let (groups, recovery) = (pair.shape.groups() as usize, pair.shape.group_recovery());
        assert_eq!(pair.assess().outlook, Outlook::Whole);
        let lot = &mut Lot::of(99 + seed as u64);
        // A burst hits one cell more than its length, since it lies anywhere.
        let burst = ((groups * recovery - 1) * CELL).min(length);
        for _ in 0..4 {
            let at = below(lot, length - burst + 1);
            let noise = lot.bytes(burst);
            pair.damage(|bytes| bytes[at..at + burst].copy_from_slice(&noise), |_| ());
            (tried, mended) = (tried + 1, mended + u32::from(pair.mends()));
            pair.damage(|bytes| bytes[at..at + burst].fill(0), |_| ());
            (tried, mended) = (tried + 1, mended + u32::from(pair.mends()));
        }
        // As many flipped bits as each group has recovery cells, in cells of its own.
        pair.damage(
            |bytes| {
                for group in 0..groups {
                    for index in 0..recovery {
                        if let Some(cell) = pair.shape.cell(group as u64, index) {
                            let at = cell as usize * CELL + below(lot, CELL);
                            bytes[at.min(length - 1)] ^= 1 << below(lot, 8);
                        }
                    }
                }
            },
            |_| (),
        );
        (tried, mended) = (tried + 1, mended + u32::from(pair.mends()));
        pair.damage(|bytes| bytes.truncate(length - burst), |_| ());
        (tried, mended) = (tried + 1, mended + u32::from(pair.mends()));
        pair.damage(|bytes| bytes.extend_from_slice(b"and something behind it"), |_| ());
        (tried, mended) = (tried + 1, mended + u32::from(pair.mends()));
    }
    println!("{mended} of {tried} damaged packs came back");
    assert_eq!((tried, mended), (55, 55));
}

#[test]
fn one_hit_more_than_the_share_is_too_much_and_says_so() {
    for (seed, length) in LENGTHS.into_iter().enumerate().skip(1) {
        let pair = Pair::new(length, "5%", seed as u64);
        let hit = |hits: usize| {
            pair.damage(
                |bytes| {
                    (0..hits).filter_map(|at| pair.shape.cell(0, at)).for_each(|cell| bytes[cell as usize * CELL] ^= 1)
                },
                |_| (),
            );
        };
        let recovery = pair.shape.group_recovery();
        hit(recovery + 1);
        let assessment = pair.assess();
        assert_eq!((assessment.outlook, assessment.damaged), (Outlook::Hopeless, recovery as u64 + 1));
        assert!(!pair.mends());
        hit(recovery);
        assert_eq!(pair.assess().outlook, Outlook::Mendable);
        assert!(pair.mends());
    }
}

#[test]
fn damage_of_the_sidecar_costs_what_was_hit_and_no_more() {
    let pair = Pair::new(700 * CELL, "5%", 7);
    let (pages, recovery) = (pair.shape.pages() as usize, pair.shape.recovery_cells() as usize);
    assert_eq!((pages, recovery), (2, 35));
    let hit_pack = |bytes: &mut Vec<u8>| bytes[3 * CELL..5 * CELL].fill(9);
    let read = || Sidecar::read(&pair.store, pair.pack, pair.sizes().1).unwrap();
    // Any one cell, then everything but one copy of each page and two recovery cells.
    for cell in 0..2 * pages + recovery {
        pair.damage(hit_pack, |sidecar| sidecar[cell * CELL + 77] ^= 1);
        assert_eq!(read().damaged_cells, 1, "{cell}");
        assert!(read().check(pair.pack).unwrap_err().to_string().contains("1 of its 39 cells"));
        assert!(pair.mends(), "{cell}");
    }
    pair.damage(hit_pack, |sidecar| sidecar[pages * CELL..(pages + recovery - 2) * CELL].fill(0));
    assert!(pair.mends());
    pair.damage(hit_pack, |sidecar| sidecar[pages * CELL..(pages + recovery - 1) * CELL].fill(0));
    assert!(!pair.mends(), "one recovery cell does not bring two cells back");
    // The first half of the pages is gone, the end is cut off behind the recovery cells, both by themselves.
    pair.damage(hit_pack, |sidecar| sidecar[..pages * CELL].fill(0));
    assert!(pair.mends());
    pair.damage(hit_pack, |sidecar| sidecar.truncate((pages + recovery) * CELL));
    assert_eq!(read().damaged_cells, 2);
    assert!(pair.mends());
    pair.damage(hit_pack, |sidecar| sidecar.truncate(pages * CELL + 5000));
    assert!(!pair.mends());
}

#[test]
fn cells_whose_hashes_are_lost_are_tried_as_they_are_and_as_lost() {
    let pair = Pair::new(1024 * CELL, "50%", 8);
    let pages = pair.shape.pages() as usize;
    let both_pages = |sidecar: &mut Vec<u8>| {
        let length = sidecar.len();
        sidecar[CELL..CELL + 9].fill(1);
        sidecar[length - (pages - 1) * CELL..][..9].fill(1);
    };
    pair.damage(|bytes| bytes[3 * CELL] ^= 1, both_pages);
    let assessment = pair.assess();
    assert_eq!((assessment.damaged, assessment.unknown, assessment.outlook), (1, 500, Outlook::Mendable));
    assert!(pair.mends(), "as they are");
    pair.damage(|bytes| bytes[600 * CELL] ^= 1, both_pages);
    assert!(pair.mends(), "as lost: the recovery cells for all of them are there");
}

#[test]
fn what_is_no_sidecar_of_this_pack_is_refused() {
    let (pair, other) = (Pair::new(40 * CELL, "5%", 1), Pair::new(40 * CELL, "5%", 2));
    let read = |bytes: &[u8]| {
        pair.damage(|pack| pack[0] ^= 1, |sidecar| *sidecar = bytes.to_vec());
        assert!(!pair.mends());
        let error = Sidecar::read(&pair.store, pair.pack, bytes.len() as u64).err().unwrap();
        assert_eq!(error.kind(), Kind::Damaged);
        error.to_string()
    };
    let text = read(&other.sidecar);
    assert!(text.contains(&format!("it is the sidecar of pack {}", other.pack)), "{text}");
    assert!(read(&[]).contains("not one of its pages"), "nothing");
    assert!(read(&Lot::of(5).bytes(90_000)).contains("not one of its pages"), "noise");
    let error = Sidecar::read(&pair.store, pair.pack, u64::MAX).err().unwrap();
    assert!(error.to_string().contains("no sidecar has"), "{error}");
}

#[test]
fn a_forged_sidecar_never_brings_back_a_pack_that_does_not_have_its_name() {
    // Everything about it is right but that it was made from other bytes.
    let (pair, evil) = (Pair::new(40 * CELL, "5%", 1), Pair::new(40 * CELL, "5%", 2));
    let mut forged = evil.sidecar.clone();
    for cell in (0..pair.shape.sidecar_cells()).filter(|cell| pair.shape.page_at(*cell).is_some()) {
        let at = cell as usize * CELL;
        let page = Page::decode(&forged[at..at + CELL]).unwrap();
        forged[at..at + CELL].copy_from_slice(&Page { pack: pair.pack, ..page }.encode());
    }
    // All but two cells are the forger's too.
    pair.damage(
        |bytes| bytes[2 * CELL..].copy_from_slice(&evil.bytes[2 * CELL..]),
        |sidecar| *sidecar = forged.clone(),
    );
    assert_eq!(pair.assess().outlook, Outlook::Mendable, "it looks as if");
    assert!(!pair.mends());
    // A pack that is whole stays what it is, whatever its sidecar says.
    pair.damage(|_| (), |sidecar| *sidecar = forged);
    assert_eq!(pair.assess().outlook, Outlook::Whole);
}

#[test]
fn no_sidecar_is_made_for_a_damaged_pack() {
    let pair = Pair::new(9 * CELL, "5%", 4);
    pair.damage(|bytes| bytes[1] ^= 1, |_| ());
    let error = make_for(&pair.store, pair.pack, 9 * CELL as u64, pair.shape).err().unwrap();
    assert!(error.kind() == Kind::Damaged && error.to_string().contains("do not have its name"), "{error}");
}
