//! Damaged packs: how much can be made anew, and making it anew.
//!
//! Cells whose hashes are wrong are left out, and the code brings them back. Of cells whose hash nobody knows any more,
//! because both pages were hit that held it, it is first believed that they are what they were, then that they are not.
//! Neither is believed further than the pack's name: what does not have it is thrown away.

use super::spool::each_cell;
use super::{Sidecar, Spool, refused, spool_failed};
use crate::base::PackId;
use crate::crypto::names::PackHasher;
use crate::format::parity::{CELL_BYTES, Shape, cell_hash};
use crate::parity::Decoder;
use crate::repo::pack_reader::pack_key;
use crate::repo::{Error, Result};
use crate::store::{ObjectStore, Upload};
use std::collections::BTreeMap;

/// What is known of a cell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Sound,
    Damaged,
    Unknown,
}

/// Whether a pack can be mended with its sidecar.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outlook {
    /// It has its name: nothing is wrong with it.
    Whole,
    /// All that is damaged can be made anew.
    Mendable,
    /// More is damaged than can be made anew.
    Hopeless,
}

/// What a look at a pack beside its sidecar shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Assessment {
    /// What can be done.
    pub outlook: Outlook,
    /// The pack's cells.
    pub cells: u64,
    /// Cells that are damaged or missing.
    pub damaged: u64,
    /// Cells of which it cannot be said.
    pub unknown: u64,
}

/// A pack that was mended, written and not stored yet.
pub struct Mended {
    /// Its bytes, which have its name.
    pub upload: Box<dyn Upload>,
    /// How many.
    pub bytes: u64,
    /// The cells that were made anew.
    pub cells: u64,
    /// The damaged one, as it is in the store.
    pub damaged: Spool,
}

/// Judges the cells of a pack while they pass by.
struct Judge<'s> {
    sidecar: &'s Sidecar,
    hasher: PackHasher,
    states: Vec<State>,
    bytes: u64,
}

impl Judge<'_> {
    fn new(sidecar: &Sidecar, bytes: u64) -> Judge<'_> {
        Judge { sidecar, hasher: PackHasher::new(), states: Vec::new(), bytes }
    }

    fn take(&mut self, number: u64, cell: &[u8]) {
        let length = self.bytes.saturating_sub(number * CELL_BYTES as u64).min(CELL_BYTES as u64) as usize;
        self.hasher.update(&cell[..length]);
        if number < self.sidecar.shape.cells() {
            self.states.push(match self.sidecar.hash(number) {
                Some(hash) if *hash == cell_hash(cell) => State::Sound,
                Some(_) => State::Damaged,
                None => State::Unknown,
            });
        }
    }

    /// The states of all cells, and whether the bytes have the pack's name. What is not there is damaged.
    fn finish(mut self, pack: PackId) -> (Vec<State>, bool) {
        self.states.resize(self.sidecar.shape.cells() as usize, State::Damaged);
        (self.states, self.hasher.finish() == pack.0)
    }
}

/// Looks how much of a pack is damaged, of which `there` bytes are in the store, and whether it can be mended. Nothing is
/// written.
pub fn assess(store: &dyn ObjectStore, pack: PackId, there: u64, sidecar: &Sidecar) -> Result<Assessment> {
    let mut judge = Judge::new(sidecar, there);
    // What is longer than it should be is read to its end too: whether it is whole shows there.
    each_cell(store, &pack_key(pack), there, &mut |number, cell| {
        judge.take(number, cell);
        Ok(())
    })?;
    let (states, whole) = judge.finish(pack);
    let count = |state: State| states.iter().filter(|other| **other == state).count() as u64;
    let mendable = |doubt: State| (0..sidecar.shape.groups()).all(|group| fits(sidecar, &states, group, doubt));
    let outlook = match whole {
        true => Outlook::Whole,
        false if mendable(State::Sound) => Outlook::Mendable,
        false => Outlook::Hopeless,
    };
    Ok(Assessment {
        outlook,
        cells: sidecar.shape.cells(),
        damaged: count(State::Damaged),
        unknown: count(State::Unknown),
    })
}

/// A group's cells that are lost, cells of unknown state counting as `doubt`.
fn lost<'a>(shape: &'a Shape, states: &'a [State], group: u64, doubt: State) -> impl Iterator<Item = u64> + 'a {
    (0..shape.group_cells()).filter_map(move |index| shape.cell(group, index)).filter(move |cell| {
        match states[*cell as usize] {
            State::Unknown => doubt == State::Damaged,
            state => state == State::Damaged,
        }
    })
}

/// The recovery cells of a group that are what they were.
fn sound_recovery(sidecar: &Sidecar, group: u64) -> impl Iterator<Item = (usize, u64)> + '_ {
    (0..sidecar.shape.group_recovery())
        .map(move |index| (index, sidecar.shape.recovery_cell(group, index)))
        .filter(|(_, number)| sidecar.is_sound(*number))
}

/// Whether a group has recovery cells for all that it lost.
fn fits(sidecar: &Sidecar, states: &[State], group: u64, doubt: State) -> bool {
    lost(&sidecar.shape, states, group, doubt).count() <= sound_recovery(sidecar, group).count()
}

/// Mends a pack of which `there` bytes are in the store, with its sidecar of `sidecar_bytes`. An error of kind `Damaged`
/// says that too much is lost. Nothing is stored yet; what is written has the pack's name.
pub fn mend(store: &dyn ObjectStore, pack: PackId, there: u64, sidecar_bytes: u64) -> Result<Mended> {
    let (sidecar, mut recovery) = Sidecar::spool(store, pack, sidecar_bytes)?;
    let mut judge = Judge::new(&sidecar, there);
    let mut damaged = Spool::fill(store, &pack_key(pack), there, &mut |number, cell| {
        judge.take(number, cell);
        Ok(())
    })?;
    let (states, _) = judge.finish(pack);
    let doubts: &[State] = match states.contains(&State::Unknown) {
        true => &[State::Sound, State::Damaged],
        false => &[State::Sound],
    };
    for doubt in doubts {
        if !(0..sidecar.shape.groups()).all(|group| fits(&sidecar, &states, group, *doubt)) {
            continue;
        }
        let mut patches = Patches { aside: store.begin()?, places: BTreeMap::new() };
        for group in 0..sidecar.shape.groups() {
            let lost: Vec<u64> = lost(&sidecar.shape, &states, group, *doubt).collect();
            if !lost.is_empty() {
                restore_group(&sidecar, group, &lost, (&mut damaged, &mut recovery), &mut patches)?;
            }
        }
        let mut upload = store.begin()?;
        if write(&sidecar.shape, &mut damaged, &mut patches, &mut *upload)? == pack.0 {
            let (bytes, cells) = (sidecar.shape.pack_bytes(), patches.places.len() as u64);
            return Ok(Mended { upload, bytes, cells, damaged });
        }
    }
    let damaged = states.iter().filter(|state| **state != State::Sound).count();
    let reason = format!(
        "{damaged} of its {} cells are damaged, which is more than its sidecar can make anew",
        sidecar.shape.cells()
    );
    Err(Error::damaged(pack_key(pack), reason))
}

/// Cells that were made anew, and where they lie aside.
struct Patches {
    aside: Box<dyn Upload>,
    places: BTreeMap<u64, u64>,
}

impl Patches {
    fn add(&mut self, number: u64, cell: &[u8]) -> Result<()> {
        let place = self.places.len() as u64;
        self.places.insert(number, place);
        self.aside.write_all(cell).map_err(spool_failed)
    }
}

fn restore_group(
    sidecar: &Sidecar,
    group: u64,
    lost: &[u64],
    (damaged, recovery): (&mut Spool, &mut Spool),
    patches: &mut Patches,
) -> Result<()> {
    let shape = &sidecar.shape;
    let mut decoder = Decoder::new(shape.group_cells(), shape.group_recovery(), CELL_BYTES).map_err(refused)?;
    let mut cell = vec![0; CELL_BYTES];
    for index in 0..shape.group_cells() {
        match shape.cell(group, index) {
            Some(number) if lost.binary_search(&number).is_ok() => continue,
            Some(number) => damaged.cell(number, &mut cell)?,
            None => cell.fill(0),
        }
        decoder.add_original(index, &cell).map_err(refused)?;
    }
    // As many as are needed: each further one only takes time.
    for (index, number) in sound_recovery(sidecar, group).take(lost.len()) {
        recovery.cell(shape.pages() + number, &mut cell)?;
        decoder.add_recovery(index, &cell).map_err(refused)?;
    }
    let mut written = Ok(());
    let decoded = decoder.finish(&mut |index, cell| {
        if let (Ok(()), Some(number)) = (&written, shape.cell(group, index)) {
            written = patches.add(number, cell);
        }
    });
    decoded.map_err(refused)?;
    written
}

/// Writes the pack, with the cells in it that were made anew; gives its BLAKE3.
fn write(shape: &Shape, damaged: &mut Spool, patches: &mut Patches, upload: &mut dyn Upload) -> Result<[u8; 32]> {
    let mut hasher = PackHasher::new();
    let mut cell = vec![0; CELL_BYTES];
    for number in 0..shape.cells() {
        match patches.places.get(&number) {
            Some(place) => patches.aside.read_back(place * CELL_BYTES as u64, &mut cell).map_err(spool_failed)?,
            None => damaged.cell(number, &mut cell)?,
        }
        let length = (shape.pack_bytes() - number * CELL_BYTES as u64).min(CELL_BYTES as u64) as usize;
        hasher.update(&cell[..length]);
        upload.write_all(&cell[..length]).map_err(spool_failed)?;
    }
    Ok(hasher.finish())
}
