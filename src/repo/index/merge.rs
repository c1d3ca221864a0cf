//! Merged segments: one that says what several said.
//!
//! A merge is the union of its sources: every place of every blob, each once, less the packs that are not kept. The
//! rows pass through a cache, so that memory does not grow with them.

use super::cache::Cache;
use super::levels::{Blobs, Family as _};
use super::segments::{Origin, SegmentWriter, each_segment};
use super::{Index, add};
use crate::base::{KeyId, PackId, SegmentId};
use crate::format::pack::{BlobKind, Chain, Encoding, Role};
use crate::format::segment::{Entry, FrameRow, PackRow};
use crate::repo::keyring::Keyring;
use crate::repo::{Error, Result};
use crate::store::ObjectStore;
use rusqlite::Row;
use std::collections::{HashMap, HashSet};

/// Whether who writes a segment vouches for what others said that it repeats.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Vouching {
    /// Somebody vouched for all of it.
    Vouched,
    /// Nobody did.
    Unvouched,
}

/// Stores one segment that says what `segments` say of the packs that `keep` picks. Its level and what it supersedes
/// are in `origin`; the sources, each with its size, are left where they are.
pub fn merge_segments(
    store: &dyn ObjectStore,
    keyring: &Keyring,
    origin: Origin,
    (segments, vouching): (&[(SegmentId, u64)], Vouching),
    keep: &dyn Fn(&PackId) -> bool,
) -> Result<SegmentId> {
    let mut cache = Cache::temporary(keyring.repository())?;
    each_segment(store, keyring, segments, |segment, reader| add::add(&mut cache, segment, reader))?;
    write_segment(&mut cache, store, keyring, (origin, vouching), keep)
}

impl Index {
    /// Stores one segment that says all that this index knows of the packs that `keep` picks; and another one if nobody
    /// vouches for some of them.
    pub fn save_merged(
        &self,
        store: &dyn ObjectStore,
        keyring: &Keyring,
        origin: Origin,
        keep: &dyn Fn(&PackId) -> bool,
    ) -> Result<()> {
        let packs = self.packs()?.into_iter().filter(|pack| keep(&pack.id));
        let (proven, others): (Vec<_>, Vec<_>) = packs.partition(|pack| pack.proven);
        for (packs, vouching) in [(proven, Vouching::Vouched), (others, Vouching::Unvouched)] {
            let packs: HashSet<PackId> = packs.into_iter().map(|pack| pack.id).collect();
            if !packs.is_empty() {
                let origin = (origin.clone(), vouching);
                write_segment(&mut self.state().cache, store, keyring, origin, &|pack| packs.contains(pack))?;
            }
        }
        Ok(())
    }
}

/// Writes what `cache` knows of some packs.
pub(super) fn write_segment(
    cache: &mut Cache,
    store: &dyn ObjectStore,
    keyring: &Keyring,
    (origin, vouching): (Origin, Vouching),
    keep: &dyn Fn(&PackId) -> bool,
) -> Result<SegmentId> {
    let mut writer = SegmentWriter::begin(store, keyring, origin)?;
    if vouching == Vouching::Unvouched {
        writer = writer.without_voucher();
    }
    let written = cache.read(|cache| Ok(write_rows(cache, &mut writer, keep)))?;
    match written {
        Ok(()) => writer.finish(),
        Err(Failed::Cache(error)) => Err(cache.failed(error)),
        Err(Failed::Other(error)) => Err(error),
    }
}

/// What failed while rows went from the cache to the store.
enum Failed {
    Cache(rusqlite::Error),
    Other(Error),
}

impl From<rusqlite::Error> for Failed {
    fn from(error: rusqlite::Error) -> Failed {
        Failed::Cache(error)
    }
}

impl From<Error> for Failed {
    fn from(error: Error) -> Failed {
        Failed::Other(error)
    }
}

fn write_rows(cache: &Cache, writer: &mut SegmentWriter<'_>, keep: &dyn Fn(&PackId) -> bool) -> Result<(), Failed> {
    let packs = write_packs(cache, writer, keep)?;
    let runs = write_frames(cache, writer, &packs)?;
    cache.blobs.walk::<Failed>(&cache.connection, &mut |row| {
        let place = runs.partition_point(|(first, ..)| *first <= row.frame);
        let run = place.checked_sub(1).map(|place| runs[place]);
        let Some((first, count, in_segment)) = run.filter(|(first, count, _)| row.frame < first + count) else {
            return Ok(());
        };
        debug_assert!(row.frame - first < count);
        let Some(kind) = BlobKind::from_number(u64::from(row.kind)) else { return Ok(()) };
        let frame = in_segment + Blobs::frame(&row).wrapping_sub(first) as u32;
        let (id, offset, length, start, end) = (row.id, row.offset, row.length, row.start, row.end);
        Ok(writer.entry(&Entry { id, frame, offset, length, kind, start, end })?)
    })
}

/// Writes the packs; gives their numbers in the segment by those in the cache.
fn write_packs(
    cache: &Cache,
    writer: &mut SegmentWriter<'_>,
    keep: &dyn Fn(&PackId) -> bool,
) -> Result<HashMap<i64, u32>, Failed> {
    let mut numbers = HashMap::new();
    let mut found = cache.connection.prepare("SELECT number, id, size, role, written_ns FROM packs ORDER BY number")?;
    let mut rows = found.query([])?;
    while let Some(row) = rows.next()? {
        let id = PackId(row.get(1)?);
        let Some(role) = Role::from_number(u64::from(row.get::<_, u8>(3)?)).filter(|_| keep(&id)) else { continue };
        let pack = PackRow { id, size_bytes: row.get::<_, i64>(2)? as u64, role, written_ns: row.get(4)? };
        numbers.insert(row.get(0)?, writer.pack(&pack)?);
    }
    Ok(numbers)
}

/// Writes the frames of the packs; gives runs of their numbers: first in the cache, how many, first in the segment.
/// Both ascend together, so that a blob's places stay in order.
fn write_frames(
    cache: &Cache,
    writer: &mut SegmentWriter<'_>,
    packs: &HashMap<i64, u32>,
) -> Result<Vec<(i64, i64, u32)>, Failed> {
    let mut keys: HashMap<i64, u32> = HashMap::new();
    let mut found = cache.connection.prepare("SELECT number, id FROM keys")?;
    let mut rows = found.query([])?;
    while let Some(row) = rows.next()? {
        keys.insert(row.get(0)?, writer.key(KeyId(row.get(1)?))?);
    }
    let mut runs: Vec<(i64, i64, u32)> = Vec::new();
    let mut found = cache.connection.prepare("SELECT * FROM frames ORDER BY number")?;
    let mut rows = found.query([])?;
    while let Some(row) = rows.next()? {
        let number: i64 = row.get(0)?;
        let (Some(pack), Some(key)) = (packs.get(&row.get(1)?), keys.get(&row.get(4)?)) else { continue };
        let Some(frame) = read_frame(row, *pack, *key)? else { continue };
        let in_segment = writer.frame(&frame)?;
        match runs.last_mut() {
            Some((first, count, _)) if *first + *count == number => *count += 1,
            _ => runs.push((number, 1, in_segment)),
        }
    }
    Ok(runs)
}

fn read_frame(row: &Row<'_>, pack: u32, key: u32) -> rusqlite::Result<Option<FrameRow>> {
    let Ok(encoding) = Encoding::try_from(row.get::<_, u8>(8)?) else { return Ok(None) };
    Ok(Some(FrameRow {
        pack,
        block_offset: row.get::<_, i64>(2)? as u64,
        block_length: row.get(3)?,
        key,
        offset: row.get(5)?,
        length: row.get(6)?,
        raw_length: row.get(7)?,
        encoding,
        chain: read_chain(row, 9)?,
    }))
}

/// Reads a frame's chain from four columns, the first of which is null where there is none.
pub(super) fn read_chain(row: &Row<'_>, column: usize) -> rusqlite::Result<Option<Chain>> {
    let Some(bases) = row.get_ref(column)?.as_blob_or_null()? else { return Ok(None) };
    Ok(Some(Chain {
        bases: bases.chunks_exact(32).filter_map(crate::base::BlobId::from_slice).collect(),
        depth: row.get(column + 1)?,
        delta_bytes: row.get::<_, i64>(column + 2)? as u64,
        whole_bytes: row.get::<_, i64>(column + 3)? as u64,
    }))
}
