//! What a sidecar says, as far as it is whole.

use super::spool::each_cell;
use super::{Spool, sidecar_key};
use crate::base::PackId;
use crate::format::MAGIC;
use crate::format::parity::{CELL_BYTES, CellHash, PAGE_HASHES, Page, Shape, cell_hash, max_sidecar_bytes};
use crate::repo::{Error, Result};
use crate::store::ObjectStore;
use std::collections::BTreeMap;

/// A sidecar that was read from its first byte to its last. Damage costs what was hit: of each page there are two, and
/// each recovery cell counts by itself.
pub struct Sidecar {
    /// How the pack is cut.
    pub shape: Shape,
    /// Cells that are damaged or missing; 0 for a whole sidecar.
    pub damaged_cells: u64,
    hashes: BTreeMap<u64, Vec<CellHash>>,
    sound_recovery: Vec<bool>,
}

/// What was seen of a sidecar so far.
#[derive(Default)]
struct Seen {
    hashes: Vec<CellHash>,
    pages: Vec<(u64, Page)>,
}

impl Seen {
    fn take(&mut self, number: u64, cell: &[u8]) {
        self.hashes.push(cell_hash(cell));
        if cell.starts_with(&MAGIC)
            && let Ok(page) = Page::decode(cell)
        {
            self.pages.push((number, page));
        }
    }
}

impl Sidecar {
    /// Reads the sidecar of `pack`, which has `bytes`.
    pub fn read(store: &dyn ObjectStore, pack: PackId, bytes: u64) -> Result<Sidecar> {
        let mut seen = Seen::default();
        check_size(pack, bytes)?;
        each_cell(store, &sidecar_key(pack), bytes, &mut |number, cell| {
            seen.take(number, cell);
            Ok(())
        })?;
        Sidecar::of(pack, bytes, seen)
    }

    /// The same, and lays it aside.
    pub fn spool(store: &dyn ObjectStore, pack: PackId, bytes: u64) -> Result<(Sidecar, Spool)> {
        let mut seen = Seen::default();
        check_size(pack, bytes)?;
        let spool = Spool::fill(store, &sidecar_key(pack), bytes, &mut |number, cell| {
            seen.take(number, cell);
            Ok(())
        })?;
        Ok((Sidecar::of(pack, bytes, seen)?, spool))
    }

    fn of(pack: PackId, bytes: u64, seen: Seen) -> Result<Sidecar> {
        let key = sidecar_key(pack);
        let shape = match seen.pages.iter().find(|(_, page)| page.pack == pack) {
            Some((_, page)) => page.shape,
            None => {
                return Err(match seen.pages.first() {
                    Some((_, page)) => Error::damaged(key, format!("it is the sidecar of pack {}", page.pack)),
                    None => Error::damaged(key, "not one of its pages can be read"),
                });
            }
        };
        let mut sidecar = Sidecar { shape, damaged_cells: 0, hashes: BTreeMap::new(), sound_recovery: Vec::new() };
        let mut sound = 0;
        for (at, page) in seen.pages {
            if page.pack == pack && page.shape == shape && shape.page_at(at) == Some(u64::from(page.number)) {
                sound += 1;
                sidecar.hashes.insert(u64::from(page.number), page.hashes);
            }
        }
        for number in 0..shape.recovery_cells() {
            let there = seen.hashes.get((shape.pages() + number) as usize);
            let is_sound = there.is_some() && sidecar.hash(shape.cells() + number) == there;
            sidecar.sound_recovery.push(is_sound);
            sound += u64::from(is_sound);
        }
        let odd = u64::from(bytes != shape.sidecar_bytes());
        sidecar.damaged_cells = (shape.sidecar_cells() - sound).max(odd);
        Ok(sidecar)
    }

    /// The hash that a cell should have, recovery cells behind those of the pack; none if both pages are damaged that
    /// would say it.
    pub fn hash(&self, cell: u64) -> Option<&CellHash> {
        self.hashes.get(&(cell / PAGE_HASHES as u64))?.get((cell % PAGE_HASHES as u64) as usize)
    }

    /// Whether a recovery cell is what it was.
    pub fn is_sound(&self, recovery_cell: u64) -> bool {
        self.sound_recovery.get(recovery_cell as usize).copied().unwrap_or(false)
    }

    /// Fails unless every cell of it is what it was.
    pub fn check(&self, pack: PackId) -> Result<()> {
        match self.damaged_cells {
            0 => Ok(()),
            cells => {
                let all = self.shape.sidecar_cells();
                let reason = format!("{cells} of its {all} cells of {CELL_BYTES} bytes are not what they were");
                Err(Error::damaged(sidecar_key(pack), reason))
            }
        }
    }
}

/// Bounded before anything is read.
fn check_size(pack: PackId, bytes: u64) -> Result<()> {
    match bytes <= max_sidecar_bytes() {
        true => Ok(()),
        false => Err(Error::damaged(sidecar_key(pack), format!("no sidecar has {bytes} bytes"))),
    }
}
