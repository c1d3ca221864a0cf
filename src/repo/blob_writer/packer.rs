//! Sealed batches into packs, packs into the store, their segments into the index.
//!
//! Order is safety: a pack is in the store before the segment that names it, and the segment before the index says
//! `Known`. A crash in between leaves a pack without segment (prune finds it) or a segment that the index learns when
//! it is opened next.

use super::super::Repository;
use super::super::base_cache::ChunkLog;
use super::super::error::Result;
use super::super::index::Index;
use super::super::index::segments::{self, Origin, SegmentContents};
use super::super::pack_writer::{FilledPack, PackWriter};
use super::seal::SealedBatch;
use super::{Counters, gone};
use crate::base::clock::Stopwatch;
use crate::base::{Buffers, SessionId};
use crate::format::pack::{Directory, Role};
use crate::format::segment::PackRow;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, SyncSender, channel, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

/// A segment is stored once this many packs wait for one …
const SEGMENT_PACKS: usize = 8;
/// … or this many blobs.
const SEGMENT_BLOBS: usize = 65_536;
/// So long after the last segment another is stored with the next pack, be there ever so little to say: what a run has
/// stored that is killed over a slow line, the next one finds.
const SEGMENT_MS: u64 = 30_000;

/// How often a lane that waits for a pack looks whether another one failed.
const LOOK_UP: Duration = Duration::from_millis(100);

/// What packer and uploader need to know.
pub(super) struct Work {
    pub repository: Arc<Repository>,
    pub index: Arc<Index>,
    pub counters: Arc<Counters>,
    pub session: SessionId,
    pub condemned_seen: u64,
    pub target_bytes: u64,
    pub chunk_log: Option<ChunkLog>,
    /// Where the bytes of blocks come from and go to.
    pub blocks: Arc<Buffers>,
}

/// A batch with its place in the order.
pub(super) type Arrival = (u64, Result<SealedBatch>);

/// The packer's thread, seen from outside.
pub(super) struct Packer {
    entrance: Option<Sender<Arrival>>,
    thread: Option<JoinHandle<Result<()>>>,
}

impl Packer {
    /// Starts packer and uploader.
    pub fn begin(work: Work) -> Result<Packer> {
        // The channel itself needs no bound: what it holds is bounded by the writer's budget.
        let (entrance, arrivals) = channel();
        let thread = std::thread::Builder::new()
            .name("packer".to_owned())
            .spawn(move || pack_all(work, &arrivals))
            .map_err(|error| super::Error::Internal(format!("cannot start a thread: {error}")))?;
        Ok(Packer { entrance: Some(entrance), thread: Some(thread) })
    }

    /// Where sealed batches go.
    pub fn entrance(&self) -> Sender<Arrival> {
        self.entrance.clone().expect("it is closed only by finish")
    }

    /// Whether the packer still works; if not, why.
    pub fn check(&mut self) -> Result<()> {
        if self.thread.as_ref().is_some_and(|thread| !thread.is_finished()) { Ok(()) } else { self.join() }
    }

    fn join(&mut self) -> Result<()> {
        let thread = self.thread.take().ok_or_else(|| gone("packer"))?;
        let ended = thread.join().map_err(|_| gone("packer"))?;
        ended.and_then(|()| if self.entrance.is_some() { Err(gone("packer")) } else { Ok(()) })
    }

    /// Waits until everything is stored.
    pub fn finish(&mut self) -> Result<()> {
        self.entrance = None;
        self.join()
    }
}

fn pack_all(work: Work, arrivals: &Receiver<Arrival>) -> Result<()> {
    let work = Arc::new(work);
    // One pack may wait while another is stored.
    let (hand_over, filled) = sync_channel(1);
    let uploader = {
        let work = work.clone();
        std::thread::Builder::new()
            .name("uploader".to_owned())
            .spawn(move || upload_all(&work, filled))
            .map_err(|error| super::Error::Internal(format!("cannot start a thread: {error}")))?
    };
    let packed = pack_in_order(&work, arrivals, hand_over);
    // The uploader's own failure explains why the packer could not hand over.
    let uploaded = uploader.join().map_err(|_| gone("uploader"))?;
    uploaded.and(packed)
}

fn pack_in_order(work: &Work, arrivals: &Receiver<Arrival>, hand_over: SyncSender<FilledPack>) -> Result<()> {
    let mut packs = OpenPacks { work, hand_over, data: None, metadata: None };
    let mut early = BTreeMap::new();
    let mut next = 0;
    for (sequence, batch) in arrivals {
        early.insert(sequence, batch?);
        while let Some(batch) = early.remove(&next) {
            packs.add(batch)?;
            next += 1;
        }
    }
    if !early.is_empty() {
        return Err(gone("sealer"));
    }
    packs.finish()
}

struct OpenPacks<'w> {
    work: &'w Work,
    hand_over: SyncSender<FilledPack>,
    data: Option<PackWriter>,
    metadata: Option<PackWriter>,
}

impl OpenPacks<'_> {
    fn add(&mut self, batch: SealedBatch) -> Result<()> {
        let since = Stopwatch::start();
        let added = self.write(batch);
        Counters::add_time(&self.work.counters.upload_ns, since);
        added
    }

    fn write(&mut self, batch: SealedBatch) -> Result<()> {
        if let Some(log) = &self.work.chunk_log {
            log.append(&batch.chunks);
        }
        let open = match batch.role {
            Role::Data => &mut self.data,
            Role::Metadata => &mut self.metadata,
        };
        for block in batch.blocks {
            if let Some(full) = open.take_if(|pack| !pack.has_room(&block)) {
                hand_over(self.work, &self.hand_over, full)?;
            }
            if open.is_none() {
                *open = Some(begin_pack(self.work, batch.role)?);
            }
            let pack = open.as_mut().expect("begun above");
            self.work.blocks.give(pack.add(block)?);
        }
        Ok(())
    }

    fn finish(mut self) -> Result<()> {
        for pack in [self.data.take(), self.metadata.take()].into_iter().flatten() {
            hand_over(self.work, &self.hand_over, pack)?;
        }
        Ok(())
    }
}

fn begin_pack(work: &Work, role: Role) -> Result<PackWriter> {
    PackWriter::begin(&work.repository, role, work.session, work.target_bytes)
}

fn hand_over(work: &Work, uploader: &SyncSender<FilledPack>, pack: PackWriter) -> Result<()> {
    uploader.send(pack.fill(work.repository.keyring())?).map_err(|_| gone("uploader"))
}

/// A pack that is in the store.
type Stored = (PackRow, Directory);

/// Stores packs, several at once where the store takes them so, and saves the segments that name them.
fn upload_all(work: &Work, filled: Receiver<FilledPack>) -> Result<()> {
    let filled = Mutex::new(filled);
    let lanes = work.repository.store().puts_at_once().max(1);
    let failed = &AtomicBool::new(false);
    std::thread::scope(|scope| {
        let (tell, stored) = sync_channel(lanes);
        for _ in 0..lanes {
            let (tell, filled) = (tell.clone(), &filled);
            scope.spawn(move || store_packs(&work.counters, filled, failed, &tell));
        }
        drop(tell);
        save_segments(work, &stored).inspect_err(|_| failed.store(true, Ordering::Relaxed))
    })
}

/// One lane: stores one pack after the other until there are no more or one of the lanes failed.
fn store_packs(
    counters: &Counters,
    filled: &Mutex<Receiver<FilledPack>>,
    failed: &AtomicBool,
    tell: &SyncSender<Result<Stored>>,
) {
    while !failed.load(Ordering::Relaxed) {
        let pack = filled.lock().unwrap_or_else(PoisonError::into_inner).recv_timeout(LOOK_UP);
        match pack {
            Ok(pack) => {
                let since = Stopwatch::start();
                let stored = pack.store();
                Counters::add_time(&counters.upload_ns, since);
                failed.fetch_or(stored.is_err(), Ordering::Relaxed);
                // If nobody hears it, somebody else has failed.
                let _ = tell.send(stored);
            }
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return,
        }
    }
}

fn save_segments(work: &Work, stored: &Receiver<Result<Stored>>) -> Result<()> {
    let (mut waiting, mut since) = (SegmentContents::default(), Stopwatch::start());
    for pack in stored {
        let (row, directory) = pack?;
        work.counters.added.fetch_add(row.size_bytes, Ordering::Relaxed);
        waiting.add_pack(row.id, row.size_bytes, &directory)?;
        let is_full = waiting.packs.len() >= SEGMENT_PACKS || waiting.entries.len() >= SEGMENT_BLOBS;
        if is_full || since.elapsed_ms() >= SEGMENT_MS {
            save_segment(work, std::mem::take(&mut waiting))?;
            since = Stopwatch::start();
        }
    }
    if waiting.is_empty() { Ok(()) } else { save_segment(work, waiting) }
}

fn save_segment(work: &Work, mut contents: SegmentContents) -> Result<()> {
    let previous = work.index.newest_segments()?;
    let origin = Origin {
        session: work.session,
        level: 0,
        supersedes: Vec::new(),
        previous,
        condemned_seen: work.condemned_seen,
        written_ns: work.repository.now_ns(),
    };
    let (store, keyring) = (&**work.repository.store(), work.repository.keyring());
    let (id, bytes) = segments::save_sized(store, keyring, origin.clone(), &mut contents)?;
    work.counters.added.fetch_add(bytes, Ordering::Relaxed);
    work.index.add_of(id, &contents, &origin)
}
