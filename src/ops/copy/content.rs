//! Content on its way: read in the order in which it lies in packs, named as the destination names it, stored there.
//!
//! Whole blobs come first, through [`Fetch`]: few large reads, decoded side by side, each frame with its compressed form
//! so that it need not be compressed again. Blobs on bases come after them ([`Series`]), when all memory is free for
//! their chains. Every blob has proven its name before it gets here.

use super::super::fetch::{Fetch, Sink, Wanted, best_place};
use super::super::spill::Spill;
use super::super::{Context, Error, Result};
use super::Copying;
use super::failures::Failures;
use super::held::Naming;
use super::series::Series;
use crate::base::{BlobId, Event, Monitor};
use crate::format::pack::BlobKind;
use crate::repo;
use crate::repo::blob_reader::BlobBytes;
use crate::repo::blob_writer::{BlobWriter, DELTA_LEAST_BYTES, TakenFrame};
use crate::repo::index::{Index, Marks, Place};
use crate::repo::pack_reader::needs_bases;
use crate::repo::pack_writer::PlacedBlob;
use crate::repo::trees::PutBlob;
use std::sync::{Arc, Mutex, PoisonError};

/// What is read and what is written share the memory.
const PARTS: usize = 2;
/// Blobs that are asked for at once.
const WINDOW_BLOBS: usize = 4096;
/// … and their bytes.
const WINDOW_BYTES: u64 = 64 << 20;

/// A chunk that is wanted, in the order in which it is read: whole ones before those on bases, by pack and place.
pub(super) struct Record;

impl Record {
    /// On bases or not; pack, block, frame and place in it; the id.
    pub const BYTES: usize = 1 + 32 + 8 + 4 + 4 + 32;

    fn of(place: &Place, id: &BlobId) -> [u8; Record::BYTES] {
        let mut record = [0; Record::BYTES];
        record[0] = u8::from(needs_bases(place));
        record[1..33].copy_from_slice(&place.pack.0);
        record[33..41].copy_from_slice(&place.block_offset.to_be_bytes());
        record[41..45].copy_from_slice(&place.frame_offset.to_be_bytes());
        record[45..49].copy_from_slice(&place.offset.to_be_bytes());
        record[49..].copy_from_slice(&id.0);
        record
    }

    fn id(record: &[u8; Record::BYTES]) -> BlobId {
        BlobId(*record.last_chunk().expect("an id ends it"))
    }
}

/// The best place of a chunk in the source, as whoever restores would read it.
fn place_of(index: &Index, id: &BlobId) -> repo::Result<Place> {
    best_place(index, id)?.ok_or(repo::Error::Missing(*id))
}

/// What is to be read for a chunk of `length` bytes; within, why it cannot be.
pub(super) fn record_of(index: &Index, id: &BlobId, length: u64) -> Result<Result<[u8; Record::BYTES], repo::Error>> {
    match place_of(index, id) {
        Ok(place) if u64::from(place.length) == length => Ok(Ok(Record::of(&place, id))),
        Ok(place) => {
            let reason = format!("the index says it has {} bytes, a file says {length}", place.length);
            Ok(Err(repo::Error::damaged(format!("blob {id}"), reason)))
        }
        Err(error @ repo::Error::Missing(_)) => Ok(Err(error)),
        Err(error) => Err(error.into()),
    }
}

/// A chunk on its way.
pub(super) struct Piece {
    pub id: BlobId,
    pub marks: Marks,
}

/// Takes what was read.
pub(super) struct Taking {
    pub naming: Arc<Naming>,
    pub failures: Arc<Failures>,
    pub monitor: Arc<dyn Monitor>,
    writer: Mutex<Option<BlobWriter>>,
    failure: Mutex<Option<repo::Error>>,
}

impl Taking {
    /// Works with the writer. What fails in the destination ends everything.
    pub fn write<T>(&self, work: impl FnOnce(&mut BlobWriter) -> repo::Result<T>) -> repo::Result<T> {
        let mut writer = self.writer.lock().unwrap_or_else(PoisonError::into_inner);
        match writer.as_mut() {
            Some(writer) => work(writer),
            None => Err(repo::Error::Internal("the destination failed earlier".to_owned())),
        }
    }

    /// A failure that concerns more than some blobs.
    pub fn fail(&self, error: repo::Error) {
        self.failure.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(error);
    }

    /// Whether there was one.
    pub fn has_failed(&self) -> bool {
        self.failure.lock().unwrap_or_else(PoisonError::into_inner).is_some()
    }

    /// Hands it out.
    pub fn check(&self) -> Result<()> {
        self.failure.lock().unwrap_or_else(PoisonError::into_inner).take().map_or(Ok(()), |error| Err(error.into()))
    }

    /// Says that so much is done.
    pub fn done(&self, items: usize, bytes: usize) {
        self.monitor.event(Event::Done { items: items as u64, bytes: bytes as u64 });
    }

    fn take_frame(&self, raw: &[u8], stored: &[u8], blobs: &[(Place, Piece)]) -> repo::Result<()> {
        let Some((first, _)) = blobs.first() else { return Ok(()) };
        let mut placed = Vec::with_capacity(blobs.len());
        for (place, piece) in blobs {
            let bytes = &raw[place.offset as usize..(place.offset + place.length) as usize];
            placed.push(PlacedBlob {
                id: self.naming.name(&piece.id, bytes)?,
                kind: BlobKind::Data,
                offset: place.offset,
                length: place.length,
                start: piece.marks.start,
                end: piece.marks.end,
            });
        }
        let bytes = placed.iter().map(|blob| blob.length as usize).sum();
        let frame = TakenFrame { raw, encoding: first.encoding, stored, blobs: placed };
        self.write(|writer| writer.put_frame(frame))?;
        self.done(blobs.len(), bytes);
        Ok(())
    }

    fn take_blob(&self, piece: &Piece, bytes: &[u8]) -> repo::Result<()> {
        let id = self.naming.name(&piece.id, bytes)?;
        self.write(|writer| writer.put_on(id, bytes, piece.marks, Vec::new()))?;
        self.done(1, bytes.len());
        Ok(())
    }
}

impl Sink<Piece> for Taking {
    fn take(&self, piece: Piece, blob: Result<&[u8], &repo::Error>) {
        if self.has_failed() {
            return;
        }
        match blob {
            Ok(bytes) => self.take_blob(&piece, bytes).unwrap_or_else(|error| self.fail(error)),
            Err(error) => self.failures.blob(&piece.id, error),
        }
    }

    fn takes_frames(&self) -> bool {
        true
    }

    fn frame(&self, raw: &[u8], stored: &[u8], blobs: Vec<(Place, Piece)>) {
        if !self.has_failed() {
            self.take_frame(raw, stored, &blobs).unwrap_or_else(|error| self.fail(error));
        }
    }

    /// Another copy may do, but this one is damaged all the same.
    fn damaged(&self, id: &BlobId, error: &repo::Error) {
        self.failures.object(&format!("blob {id}"), &error.to_string());
    }
}

/// The way of one snapshot's blobs into the destination.
pub(super) struct Content<'c> {
    source: &'c Context,
    taking: Arc<Taking>,
}

impl<'c> Content<'c> {
    pub fn new(copying: &Copying<'c>, writer: BlobWriter) -> Content<'c> {
        let taking = Taking {
            naming: copying.held.naming.clone(),
            failures: copying.failures.clone(),
            monitor: copying.source.monitor.clone(),
            writer: Mutex::new(Some(writer)),
            failure: Mutex::new(None),
        };
        Content { source: copying.source, taking: Arc::new(taking) }
    }

    /// Stores a piece of a tree or a list; gives its name in the destination.
    pub fn put_piece(&self, kind: BlobKind, bytes: Vec<u8>) -> Result<BlobId> {
        Ok(self.taking.write(|writer| writer.put(kind, bytes))?)
    }

    /// Reads and stores all that is wanted; says how many bytes were read for it.
    pub fn read(&self, mut wanted: Spill<{ Record::BYTES }>) -> Result<u64> {
        wanted.settle()?;
        let mut reading = Reading { content: self, fetch: None, series: None, window: Vec::new(), bytes: 0, read: 0 };
        wanted.finish(&mut |record| reading.add(&Record::id(record), record[0] != 0))?;
        reading.finish()
    }

    /// Stores what is still on its way.
    pub fn finish(self) -> Result<()> {
        self.taking.check()?;
        let writer = self.taking.writer.lock().unwrap_or_else(PoisonError::into_inner).take();
        match writer {
            Some(writer) => Ok(writer.finish().map(drop)?),
            None => Ok(()),
        }
    }
}

/// Reading in order: windows of whole blobs, then series.
struct Reading<'r, 'c> {
    content: &'r Content<'c>,
    fetch: Option<Fetch<Piece>>,
    series: Option<Series>,
    window: Vec<(Place, Wanted<Piece>)>,
    bytes: u64,
    read: u64,
}

impl Reading<'_, '_> {
    fn add(&mut self, id: &BlobId, on_bases: bool) -> Result<()> {
        let source = self.content.source;
        source.check_stop()?;
        self.content.taking.check()?;
        let place = match place_of(&source.index, id) {
            Err(error @ repo::Error::Missing(_)) => {
                // What it lay in was found damaged a moment ago.
                self.content.taking.failures.blob(id, &error);
                return Ok(());
            }
            other => other?,
        };
        let length = u64::from(place.length);
        let piece = Piece { id: *id, marks: self.marks(id, length)? };
        // The block of one that was to be read whole may have been damaged, and another copy may lie on bases.
        if on_bases {
            return self.add_to_series(piece);
        }
        self.window.push((place, Wanted { id: *id, length, uses: piece }));
        self.bytes += length;
        if self.window.len() < WINDOW_BLOBS && self.bytes < WINDOW_BYTES { Ok(()) } else { self.read_window() }
    }

    /// Its marks, where they mean something in the destination.
    fn marks(&self, id: &BlobId, length: u64) -> Result<Marks> {
        match self.content.taking.naming.is_shared() && length >= DELTA_LEAST_BYTES as u64 {
            true => Ok(self.content.source.index.marks(id)?),
            false => Ok(Marks::default()),
        }
    }

    fn read_window(&mut self) -> Result<()> {
        self.bytes = 0;
        if self.window.is_empty() {
            return Ok(());
        }
        let fetch = match &mut self.fetch {
            Some(fetch) => fetch,
            None => self.fetch.insert(Fetch::begin_sharing(self.content.source, self.content.taking.clone(), PARTS)?),
        };
        fetch.placed_window(std::mem::take(&mut self.window))
    }

    /// Ends the reading of whole blobs, so that their memory is free.
    fn end_fetch(&mut self) -> Result<()> {
        self.read_window()?;
        if let Some(fetch) = self.fetch.take() {
            self.read += fetch.finish()?.stored_bytes;
        }
        self.content.taking.check()
    }

    fn add_to_series(&mut self, piece: Piece) -> Result<()> {
        if self.series.is_none() {
            self.end_fetch()?;
            self.series = Some(Series::begin(self.content.source, self.content.taking.clone())?);
        }
        match &mut self.series {
            Some(series) => series.add(piece),
            None => Err(Error::Refused("a series that was just begun is gone".to_owned())),
        }
    }

    fn finish(mut self) -> Result<u64> {
        self.end_fetch()?;
        if let Some(series) = self.series.take() {
            self.read += series.finish()?;
        }
        self.content.taking.check()?;
        Ok(self.read)
    }
}

/// Bytes of a base, under its name in the destination.
pub(super) type Base = (BlobId, BlobBytes);
