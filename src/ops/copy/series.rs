//! Blobs on bases: decoded with their chains, and stored on what of these the destination holds.
//!
//! A base that is not there is replaced by the nearest one beneath it that is: when only every seventh night is copied,
//! a night is stored as the difference to the one a week before. If there is none, the blob is stored whole.

use super::super::fetch::{best_place, is_damage};
use super::super::{Context, Error, Result};
use super::content::{Base, Piece, Taking};
use crate::base::{BlobId, Stop};
use crate::format::pack::MAX_BASES;
use crate::repo::blob_reader::BlobReader;
use crate::repo::index::Index;
use crate::repo::{self, Repository};
use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{Builder, JoinHandle};

/// Threads that read and decode.
const READERS: usize = 3;
/// Decoded frames that each of them keeps: the chains of neighbours have much in common.
const FRAMES_BYTES: usize = 12 << 20;
/// Blobs that one reader takes in a row.
const GROUP: usize = 48;
/// Groups that may wait.
const WAITING: usize = 2;
/// The most blobs of a chain that are looked at for one that is there.
const MAX_ANCESTORS: usize = 64;

/// The threads that copy series.
pub(super) struct Series {
    work: Arc<Work>,
    entrance: Option<SyncSender<Vec<Piece>>>,
    group: Vec<Piece>,
    threads: Vec<JoinHandle<()>>,
}

struct Work {
    repository: Arc<Repository>,
    index: Arc<Index>,
    taking: Arc<Taking>,
    stop: Stop,
    /// Bytes of the frames that were asked for, as they are stored; those of bases are not known.
    read: AtomicU64,
}

impl Series {
    pub fn begin(source: &Context, taking: Arc<Taking>) -> Result<Series> {
        let (repository, index) = (source.repository.clone(), source.index.clone());
        let work = Arc::new(Work { repository, index, taking, stop: source.stop.clone(), read: AtomicU64::new(0) });
        let (entrance, groups) = sync_channel(WAITING);
        let groups = Arc::new(Mutex::new(groups));
        let mut series = Series { work, entrance: Some(entrance), group: Vec::new(), threads: Vec::new() };
        for number in 0..READERS {
            let (work, groups) = (series.work.clone(), groups.clone());
            let thread = Builder::new().name(format!("series-{number}")).spawn(move || work.run(&groups));
            let failed = |source| Error::Io { what: "start a thread that reads series".to_owned(), source };
            series.threads.push(thread.map_err(failed)?);
        }
        Ok(series)
    }

    /// Another blob, in the order of the stream as far as that is known.
    pub fn add(&mut self, piece: Piece) -> Result<()> {
        self.group.push(piece);
        if self.group.len() < GROUP { Ok(()) } else { self.send() }
    }

    fn send(&mut self) -> Result<()> {
        let group = std::mem::take(&mut self.group);
        match &self.entrance {
            Some(entrance) if entrance.send(group).is_err() => {
                Err(repo::Error::Internal("the readers of series ended early".to_owned()).into())
            }
            _ => Ok(()),
        }
    }

    /// Waits until all are stored or on their way; says how many bytes were read for them.
    pub fn finish(mut self) -> Result<u64> {
        self.send()?;
        self.join();
        Ok(self.work.read.load(Ordering::Relaxed))
    }

    fn join(&mut self) {
        self.entrance = None;
        for thread in self.threads.drain(..) {
            if thread.join().is_err() {
                let error = "a thread that copies series ended in a panic";
                self.work.taking.fail(repo::Error::Internal(error.to_owned()));
            }
        }
    }
}

/// Let go of without `finish`: what waits is dropped.
impl Drop for Series {
    fn drop(&mut self) {
        self.join();
    }
}

impl Work {
    fn run(&self, groups: &Mutex<Receiver<Vec<Piece>>>) {
        let mut reader = BlobReader::new(self.repository.clone(), self.index.clone(), FRAMES_BYTES);
        let next = || groups.lock().unwrap_or_else(PoisonError::into_inner).recv();
        while let Ok(group) = next() {
            for piece in group {
                // Groups are taken all the same, so that nobody waits to hand one over.
                if !self.taking.has_failed() && !self.stop.raised() {
                    self.copy(&mut reader, &piece);
                }
            }
        }
    }

    fn copy(&self, reader: &mut BlobReader, piece: &Piece) {
        match self.try_copy(reader, piece) {
            Ok(()) => {}
            Err(Failed::Source(error)) if is_damage(&error) => self.taking.failures.blob(&piece.id, &error),
            Err(Failed::Source(error) | Failed::Destination(error)) => self.taking.fail(error),
        }
    }

    fn try_copy(&self, reader: &mut BlobReader, piece: &Piece) -> Result<(), Failed> {
        let place = best_place(&self.index, &piece.id).map_err(Failed::Source)?;
        let stored = place.map_or(0, |place| place.frame_length);
        let bytes = reader.read(&piece.id).map_err(Failed::Source)?;
        self.read.fetch_add(u64::from(stored), Ordering::Relaxed);
        let id = self.taking.naming.name(&piece.id, &bytes).map_err(Failed::Destination)?;
        let bases = self.bases(reader, &piece.id)?;
        let put = self.taking.write(|writer| writer.put_on(id, &bytes, piece.marks, bases));
        put.map_err(Failed::Destination)?;
        self.taking.done(1, bytes.len());
        Ok(())
    }

    /// The nearest blobs of the chain of `id` that the destination holds, with their bytes.
    fn bases(&self, reader: &mut BlobReader, id: &BlobId) -> Result<Vec<Base>, Failed> {
        let mut bases = Vec::new();
        let direct = self.bases_of(id)?;
        let mut queue: VecDeque<BlobId> = direct.iter().copied().collect();
        let mut seen: Vec<BlobId> = Vec::new();
        while let Some(base) = queue.pop_front() {
            if bases.len() == MAX_BASES || seen.len() == MAX_ANCESTORS {
                break;
            }
            if seen.contains(&base) {
                continue;
            }
            seen.push(base);
            match self.base(reader, &base, direct.contains(&base))? {
                Some(found) => bases.push(found),
                None => queue.extend(self.bases_of(&base)?),
            }
        }
        Ok(bases)
    }

    fn bases_of(&self, id: &BlobId) -> Result<Vec<BlobId>, Failed> {
        let place = best_place(&self.index, id).map_err(Failed::Source)?;
        Ok(place.and_then(|place| place.chain).map_or_else(Vec::new, |chain| chain.bases))
    }

    /// The blob `id`, if the destination holds it. What a direct base is called there is found out: it was just decoded.
    fn base(&self, reader: &mut BlobReader, id: &BlobId, direct: bool) -> Result<Option<Base>, Failed> {
        let naming = &self.taking.naming;
        if direct && naming.get(id).map_err(Failed::Destination)?.is_none() {
            let Some(bytes) = readable(reader.read(id))? else { return Ok(None) };
            naming.name(id, &bytes).map_err(Failed::Destination)?;
        }
        let Some(there) = naming.there(id).map_err(Failed::Destination)? else { return Ok(None) };
        Ok(readable(reader.read(id))?.map(|bytes| (there, bytes)))
    }
}

/// On which side it failed: damage of the source hurts one blob, any failure of the destination everything.
enum Failed {
    Source(repo::Error),
    Destination(repo::Error),
}

fn readable<T>(read: repo::Result<T>) -> Result<Option<T>, Failed> {
    match read {
        Ok(read) => Ok(Some(read)),
        Err(error) if is_damage(&error) => Ok(None),
        Err(error) => Err(Failed::Source(error)),
    }
}
