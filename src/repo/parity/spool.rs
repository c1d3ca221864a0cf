//! Objects read cell by cell, as far as they can be read, and laid aside to be read in another order.

use super::spool_failed;
use crate::base::Kind;
use crate::format::parity::CELL_BYTES;
use crate::repo::Result;
use crate::store::{Key, ObjectStore, Upload};

/// After a part that cannot be read, so many cells are read one by one before more is read at once again.
const SINGLY: u64 = 1024;

/// Hands on the bytes of an object in order, as far as `bytes`. A part of it that the disk does not give is zeros; says
/// how many cells are. That the object is not there, or that a server does not answer, ends it.
fn each_piece(
    store: &dyn ObjectStore,
    key: &Key,
    bytes: u64,
    each: &mut dyn FnMut(&[u8]) -> Result<()>,
) -> Result<u64> {
    let (mut at, mut unreadable) = (0, 0);
    while at < bytes {
        let mut failure = None;
        let streamed = store.stream(key, at, bytes - at, &mut |piece| {
            at += piece.len() as u64;
            failure = each(piece).err();
            failure.is_none()
        });
        failure.map_or(Ok(()), Err)?;
        match streamed {
            Ok(()) => break,
            Err(error) if is_fatal(store, &error) => return Err(error.into()),
            Err(_) => {}
        }
        let until = bytes.min((at / CELL_BYTES as u64 + SINGLY) * CELL_BYTES as u64);
        while at < until {
            let length = (CELL_BYTES as u64 - at % CELL_BYTES as u64).min(until - at) as usize;
            match store.get_range(key, at, length) {
                Ok(piece) => each(&piece)?,
                Err(error) if is_fatal(store, &error) => return Err(error.into()),
                Err(_) => {
                    unreadable += 1;
                    each(&vec![0; length])?;
                }
            }
            at += length as u64;
        }
    }
    Ok(unreadable)
}

/// A disk that cannot read one part may still read the others; a server that does not answer has no others.
fn is_fatal(store: &dyn ObjectStore, error: &crate::store::Error) -> bool {
    match error.kind() {
        Kind::NotFound | Kind::Denied => true,
        Kind::Damaged => false,
        _ => store.is_remote(),
    }
}

/// Hands on the cells of an object of `bytes` with their numbers; the last one is filled up with zeros. Says how many the
/// disk did not give.
pub fn each_cell(
    store: &dyn ObjectStore,
    key: &Key,
    bytes: u64,
    each: &mut dyn FnMut(u64, &[u8]) -> Result<()>,
) -> Result<u64> {
    let (mut number, mut part) = (0, Vec::with_capacity(CELL_BYTES));
    let unreadable = each_piece(store, key, bytes, &mut |mut piece| {
        while !piece.is_empty() {
            // Whole cells go on as they are.
            let (cell, rest) = piece.split_at(piece.len().min(CELL_BYTES - part.len()));
            piece = rest;
            match part.is_empty() && cell.len() == CELL_BYTES {
                true => each(number, cell)?,
                false => {
                    part.extend_from_slice(cell);
                    if part.len() < CELL_BYTES {
                        continue;
                    }
                    each(number, &part)?;
                    part.clear();
                }
            }
            number += 1;
        }
        Ok(())
    })?;
    if !part.is_empty() {
        part.resize(CELL_BYTES, 0);
        each(number, &part)?;
    }
    Ok(unreadable)
}

/// An object as it is in the store, laid aside.
pub struct Spool {
    aside: Box<dyn Upload>,
    bytes: u64,
}

impl Spool {
    /// Lays an object of `bytes` aside; `each` sees its cells on the way.
    pub fn fill(
        store: &dyn ObjectStore,
        key: &Key,
        bytes: u64,
        each: &mut dyn FnMut(u64, &[u8]) -> Result<()>,
    ) -> Result<Spool> {
        let mut aside = store.begin()?;
        each_cell(store, key, bytes, &mut |number, cell| {
            let length = (bytes - number * CELL_BYTES as u64).min(CELL_BYTES as u64) as usize;
            aside.write_all(&cell[..length]).map_err(spool_failed)?;
            each(number, cell)
        })?;
        Ok(Spool { aside, bytes })
    }

    /// How many bytes there are.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Reads a cell; zeros where the object ends.
    pub fn cell(&mut self, number: u64, cell: &mut [u8]) -> Result<()> {
        let offset = number * CELL_BYTES as u64;
        let length = self.bytes.saturating_sub(offset).min(cell.len() as u64) as usize;
        cell[length..].fill(0);
        self.aside.read_back(offset, &mut cell[..length]).map_err(spool_failed)
    }

    /// The upload that holds it, to be stored under another name.
    pub fn into_upload(self) -> Box<dyn Upload> {
        self.aside
    }
}
