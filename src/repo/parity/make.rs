//! Making the sidecar of a pack.

use super::{refused, spool_failed};
use crate::base::PackId;
use crate::crypto::names::PackHasher;
use crate::format::parity::{CELL_BYTES, CellHash, PAGE_HASHES, Page, Shape, cell_hash};
use crate::parity::Encoder;
use crate::repo::pack_reader::pack_key;
use crate::repo::{Error, Result};
use crate::store::{Key, ObjectStore, Upload};

/// Fills the bytes with what stands in the pack from that offset on.
pub type ReadAt<'r> = &'r mut dyn FnMut(u64, &mut [u8]) -> Result<()>;

/// Makes the sidecar of `pack`, whose bytes `read` gives; whoever gets it finishes it when the pack is in the store.
pub fn make(store: &dyn ObjectStore, pack: PackId, shape: Shape, read: ReadAt<'_>) -> Result<Box<dyn Upload>> {
    // The pages come first and hold the hashes of recovery cells that come behind them, so those wait here.
    let mut recovery = store.begin()?;
    let hashes = encode(&shape, read, &mut *recovery)?;
    let mut sidecar = store.begin()?;
    write_pages(pack, &shape, &hashes, &mut *sidecar)?;
    let mut cell = vec![0; CELL_BYTES];
    for number in 0..shape.recovery_cells() {
        // They were made group by group and lie as groups alternate.
        let (group, index) = (number % shape.groups(), number / shape.groups());
        let at = group * shape.group_recovery() as u64 + index;
        recovery.read_back(at * CELL_BYTES as u64, &mut cell).map_err(spool_failed)?;
        sidecar.write_all(&cell).map_err(spool_failed)?;
    }
    write_pages(pack, &shape, &hashes, &mut *sidecar)?;
    Ok(sidecar)
}

/// Writes the recovery cells group by group; gives the hashes of all cells.
fn encode(shape: &Shape, read: ReadAt<'_>, recovery: &mut dyn Upload) -> Result<Vec<CellHash>> {
    let mut hashes = vec![CellHash::default(); shape.hashes() as usize];
    let mut encoder = Encoder::new(shape.group_cells(), shape.group_recovery(), CELL_BYTES).map_err(refused)?;
    let mut cell = vec![0; CELL_BYTES];
    for group in 0..shape.groups() {
        for index in 0..shape.group_cells() {
            cell.fill(0);
            if let Some(number) = shape.cell(group, index) {
                let offset = number * CELL_BYTES as u64;
                let length = (shape.pack_bytes() - offset).min(CELL_BYTES as u64) as usize;
                read(offset, &mut cell[..length])?;
                hashes[number as usize] = cell_hash(&cell);
            }
            encoder.add(&cell).map_err(refused)?;
        }
        let (mut index, mut failure) = (0, None);
        let encoded = encoder.finish(&mut |cell| {
            let number = shape.recovery_cell(group, index);
            hashes[(shape.cells() + number) as usize] = cell_hash(cell);
            index += 1;
            if let Err(error) = recovery.write_all(cell) {
                failure.get_or_insert(error);
            }
        });
        encoded.map_err(refused)?;
        failure.map_or(Ok(()), |error| Err(spool_failed(error)))?;
    }
    Ok(hashes)
}

fn write_pages(pack: PackId, shape: &Shape, hashes: &[CellHash], to: &mut dyn Upload) -> Result<()> {
    for (number, hashes) in hashes.chunks(PAGE_HASHES).enumerate() {
        let number = u32::try_from(number).expect("a sidecar has a thousand pages at most");
        let page = Page { pack, shape: *shape, number, hashes: hashes.to_vec() };
        to.write_all(&page.encode()).map_err(spool_failed)?;
    }
    Ok(())
}

/// Makes the sidecar of a pack of `bytes` that is in the store. An error of kind `Damaged` says that the pack does not have
/// its name: what is damaged is not to be protected.
pub fn make_for(store: &dyn ObjectStore, pack: PackId, bytes: u64, shape: Shape) -> Result<Box<dyn Upload>> {
    let key = pack_key(pack);
    let mut hasher = PackHasher::new();
    if store.is_remote() {
        let mut aside = store.begin()?;
        stream(store, &key, bytes, &mut |piece| {
            hasher.update(piece);
            aside.write_all(piece).map_err(spool_failed)
        })?;
        check(pack, hasher)?;
        return make(store, pack, shape, &mut |offset, into| aside.read_back(offset, into).map_err(spool_failed));
    }
    stream(store, &key, bytes, &mut |piece| {
        hasher.update(piece);
        Ok(())
    })?;
    check(pack, hasher)?;
    make(store, pack, shape, &mut |offset, into| {
        into.copy_from_slice(&store.get_range(&key, offset, into.len())?);
        Ok(())
    })
}

fn stream(store: &dyn ObjectStore, key: &Key, bytes: u64, each: &mut dyn FnMut(&[u8]) -> Result<()>) -> Result<()> {
    let mut failure = None;
    store.stream(key, 0, bytes, &mut |piece| {
        failure = each(piece).err();
        failure.is_none()
    })?;
    failure.map_or(Ok(()), Err)
}

fn check(pack: PackId, hasher: PackHasher) -> Result<()> {
    match hasher.finish() == pack.0 {
        true => Ok(()),
        false => Err(Error::altered(pack_key(pack))),
    }
}
