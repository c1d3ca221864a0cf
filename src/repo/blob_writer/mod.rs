//! New blobs on their way into the repository.
//!
//! ```text
//! caller:   name -> claim -> gather into frames, or choose bases     (this file, `bases`)
//! rayon:    compress (`seal`) -> seal -> open again -> decode -> name again (`prove`)
//! packer:   blocks, in the order of the batches -> packs             (`packer`)
//! uploader: packs -> store -> segment -> store -> index              (`packer`)
//! ```
//!
//! The caller is one thread; rayon does pure work; packer and uploader are named threads. What is in flight is
//! bounded by a budget of raw bytes. Small blobs share frames of about 1 MiB in the order in which they come; data
//! and metadata never share a frame.

mod bases;
mod packer;
mod prove;
mod seal;
mod taken;
#[cfg(test)]
mod tests;

use super::Repository;
use super::base_cache::BaseCache;
use super::blob_reader::BlobReader;
use super::error::{Error, Result};
use super::index::{Claim, Index, Marks};
use super::pack_writer::{self, PlacedBlob};
use super::trees::PutBlob;
use crate::base::budget::Permit;
use crate::base::clock::Stopwatch;
use crate::base::{BlobId, Budget, Buffers, SessionId};
use crate::compress::Level;
use crate::format::pack::{BlobKind, Role};
use bases::Chosen;
use packer::Packer;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use taken::Taken;
pub use taken::TakenFrame;

/// Raw bytes that a frame gathers …
const FRAME_BYTES: usize = 1 << 20;
/// … and when its blobs are small: source files take 3 % less than in frames of 2 MiB and 5 % less than in
/// those of 1 MiB, in the same time, and whoever wants one of the blobs wants its neighbours.
const SMALL_FRAME_BYTES: usize = 3 << 20;
/// What a small blob has at most, on average over its frame.
const SMALL_BLOB_BYTES: usize = 64 << 10;
/// Raw bytes that are sealed together: enough for several messages side by side.
const BATCH_BYTES: usize = 2 << 20;
/// The most frames in a batch.
const BATCH_FRAMES: usize = 32;
/// Blobs smaller than this are not worth a base.
pub const DELTA_LEAST_BYTES: usize = 16 << 10;
/// Blocks whose bytes wait to be used again.
const KEPT_BLOCKS: usize = 8;
/// Decoded frames kept for bases that are not in the base cache.
const BASE_FRAMES_BYTES: usize = 12 << 20;

/// How new blobs are stored.
pub struct Settings {
    /// How hard to compress.
    pub level: Level,
    /// Whether to look for bases.
    pub deltas: bool,
    /// Raw bytes in flight between the caller and the packs.
    pub in_flight_bytes: usize,
    /// Bytes in the repository so far; larger ones get larger packs.
    pub repository_bytes: u64,
}

/// What storing cost, in bytes. All numbers only grow while a run goes on.
#[derive(Default)]
pub struct Counters {
    /// Raw bytes of data blobs that were new.
    pub data_new: AtomicU64,
    /// Of those, raw bytes stored on bases.
    pub data_delta: AtomicU64,
    /// Stored bytes of frames on bases.
    pub stored_delta: AtomicU64,
    /// About what those would take as whole copies.
    pub whole_delta: AtomicU64,
    /// Stored bytes of all data frames.
    pub stored_data: AtomicU64,
    /// Raw bytes of trees and lists that were new.
    pub metadata_new: AtomicU64,
    /// Stored bytes of their frames.
    pub stored_metadata: AtomicU64,
    /// Bytes that packs and segments added to the store.
    pub added: AtomicU64,
    /// Blobs that were new.
    pub blobs_new: AtomicU64,
    /// Bases that turned out damaged.
    pub bases_damaged: AtomicU64,
    /// Nanoseconds of sealing, summed over threads.
    pub seal_ns: AtomicU64,
    /// Nanoseconds of opening, decoding and naming again what was just sealed, summed over threads.
    pub prove_ns: AtomicU64,
    /// Nanoseconds of writing and storing packs, summed over what went side by side.
    pub upload_ns: AtomicU64,
}

impl Counters {
    fn add(counter: &AtomicU64, bytes: usize) {
        counter.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    fn add_time(counter: &AtomicU64, since: Stopwatch) {
        let ns = u64::try_from(since.elapsed().as_nanos()).unwrap_or(u64::MAX);
        counter.fetch_add(ns, Ordering::Relaxed);
    }
}

/// A chunk of the parent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Near {
    /// Its name.
    pub id: BlobId,
    /// Its marks.
    pub marks: Marks,
}

/// What is known about where a chunk comes from.
#[derive(Clone, Copy, Debug, Default)]
pub struct Hint<'w> {
    /// What stands about its place in the parent.
    pub window: &'w [Near],
    /// Its place in the window; the window's length if that is not known.
    pub at: usize,
    /// It begins its stream: its start mark is only a name, which others may have too.
    pub first: bool,
}

/// What became of a chunk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PutChunk {
    /// It was not there before.
    pub new: bool,
    /// Where in the parent the next chunk is to be looked for.
    pub next: Next,
}

/// Where in the parent a stream goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// Behind this blob, for sure: it is the same, or both its marks agree.
    Behind(BlobId),
    /// Behind this blob, if it is near.
    Probably(BlobId),
    /// Still in this blob: it began here and was cut elsewhere.
    Within(BlobId),
    /// Nobody knows.
    Unknown,
}

/// One frame to be compressed and sealed.
pub(super) struct FrameJob {
    raw: Vec<u8>,
    blobs: Vec<PlacedBlob>,
    chosen: Option<Chosen>,
    /// It is one chunk of a series that will be a base again: the base cache keeps it whole.
    keep: bool,
    /// How it is stored elsewhere, if it can be taken as it is.
    taken: Option<Taken>,
}

/// Several frames that are compressed and sealed together.
pub(super) struct Batch {
    sequence: u64,
    role: Role,
    frames: Vec<FrameJob>,
    permit: Permit,
}

/// Frames of one role on their way into a batch.
struct Gather {
    buffers: Arc<Buffers>,
    raw: Vec<u8>,
    blobs: Vec<PlacedBlob>,
    frames: Vec<FrameJob>,
    frames_bytes: usize,
}

impl Gather {
    fn new(buffers: &Arc<Buffers>) -> Gather {
        Gather { buffers: buffers.clone(), raw: Vec::new(), blobs: Vec::new(), frames: Vec::new(), frames_bytes: 0 }
    }

    /// Adds a blob to the frame being gathered.
    fn add(&mut self, id: BlobId, kind: BlobKind, bytes: &[u8], marks: Marks) {
        if !self.raw.is_empty() && self.raw.len() + bytes.len() > self.frame_bytes(kind) {
            self.close_frame();
        }
        if self.raw.is_empty() {
            self.raw = self.buffers.take();
        }
        // At once as much as it may become: doubled, it would get room for a third more than that.
        if self.raw.capacity() < self.raw.len() + bytes.len() {
            let room = if self.raw.is_empty() { FRAME_BYTES } else { SMALL_FRAME_BYTES };
            self.raw.reserve_exact(room.saturating_sub(self.raw.len()).max(bytes.len()));
        }
        self.blobs.push(placed(id, kind, self.raw.len(), bytes.len(), marks));
        self.raw.extend_from_slice(bytes);
    }

    /// How large the frame may become. Trees are read one by one, so that theirs stay small.
    fn frame_bytes(&self, kind: BlobKind) -> usize {
        let small = kind == BlobKind::Data && self.raw.len() <= self.blobs.len() * SMALL_BLOB_BYTES;
        if small { SMALL_FRAME_BYTES } else { FRAME_BYTES }
    }

    fn close_frame(&mut self) {
        if !self.blobs.is_empty() {
            let raw = std::mem::take(&mut self.raw);
            let blobs = std::mem::take(&mut self.blobs);
            self.push(FrameJob { raw, blobs, chosen: None, keep: false, taken: None });
        }
    }

    fn push(&mut self, frame: FrameJob) {
        // Bases are in memory too until the frame is compressed.
        self.frames_bytes += frame.raw.len() + frame.chosen.as_ref().map_or(0, Chosen::base_bytes);
        self.frames_bytes += frame.taken.as_ref().map_or(0, |taken| taken.stored.len());
        self.frames.push(frame);
    }

    /// Whether what is closed makes a batch. The frame that is being gathered goes with a later one: closed early, it
    /// would often hold a single small blob.
    fn is_full(&self) -> bool {
        self.frames_bytes >= BATCH_BYTES || self.frames.len() >= BATCH_FRAMES
    }
}

fn placed(id: BlobId, kind: BlobKind, offset: usize, length: usize, marks: Marks) -> PlacedBlob {
    let number = |bytes: usize| u32::try_from(bytes).expect("a frame is at most 16 MiB");
    PlacedBlob { id, kind, offset: number(offset), length: number(length), start: marks.start, end: marks.end }
}

/// Stores new blobs.
pub struct BlobWriter {
    repository: Arc<Repository>,
    index: Arc<Index>,
    counters: Arc<Counters>,
    sealer: Arc<seal::Sealer>,
    deltas: bool,
    budget: Budget,
    data: Gather,
    metadata: Gather,
    sequence: u64,
    packer: Packer,
    reader: BlobReader,
    base_cache: Option<BaseCache>,
}

impl BlobWriter {
    /// Begins to store for `session`.
    pub fn begin(
        repository: Arc<Repository>,
        index: Arc<Index>,
        session: SessionId,
        condemned_seen: u64,
        settings: &Settings,
        base_cache: Option<BaseCache>,
    ) -> Result<BlobWriter> {
        let counters = Arc::new(Counters::default());
        let frames = Arc::new(Buffers::new(settings.in_flight_bytes / SMALL_FRAME_BYTES, FRAME_BYTES));
        let blocks = Arc::new(Buffers::new(KEPT_BLOCKS, 0));
        let target_bytes = pack_writer::target_bytes(settings.repository_bytes);
        let work = packer::Work {
            repository: repository.clone(),
            index: index.clone(),
            counters: counters.clone(),
            session,
            condemned_seen,
            target_bytes,
            chunk_log: base_cache.as_ref().map(BaseCache::log),
            blocks: blocks.clone(),
        };
        let sealer = seal::Sealer::new(
            repository.clone(),
            counters.clone(),
            settings.level,
            base_cache.is_some(),
            frames.clone(),
            blocks,
        );
        Ok(BlobWriter {
            reader: BlobReader::new(repository.clone(), index.clone(), BASE_FRAMES_BYTES),
            packer: Packer::begin(work)?,
            sealer: Arc::new(sealer),
            // Without a past there is nothing to be alike.
            deltas: settings.deltas && !index.is_empty()?,
            budget: Budget::new(settings.in_flight_bytes),
            data: Gather::new(&frames),
            metadata: Gather::new(&frames),
            sequence: 0,
            base_cache,
            repository,
            index,
            counters,
        })
    }

    /// What was stored so far.
    pub fn counters(&self) -> &Arc<Counters> {
        &self.counters
    }

    /// Stores a chunk unless it is there.
    pub fn put_chunk(&mut self, id: BlobId, bytes: &[u8], marks: Marks, hint: Hint<'_>) -> Result<PutChunk> {
        if self.index.claim(&id)? != Claim::Yours {
            return Ok(PutChunk { new: false, next: Next::Behind(id) });
        }
        let mut next = Next::Unknown;
        Counters::add(&self.counters.data_new, bytes.len());
        Counters::add(&self.counters.blobs_new, 1);
        if bytes.len() < DELTA_LEAST_BYTES {
            self.data.add(id, BlobKind::Data, bytes, Marks::default());
        } else {
            let bases = self.choose_bases(id, bytes.len(), marks, hint)?;
            next = bases.next;
            match (bases.chosen, bases.exhausted) {
                (None, false) => self.data.add(id, BlobKind::Data, bytes, marks),
                // A chunk of a series has its frame to itself, so that whoever needs it as a base decodes no other.
                (chosen, _) => {
                    let blobs = vec![placed(id, BlobKind::Data, 0, bytes.len(), marks)];
                    self.data.push(FrameJob { raw: bytes.to_vec(), blobs, chosen, keep: true, taken: None });
                }
            }
        }
        self.submit_if_full(Role::Data)?;
        Ok(PutChunk { new: true, next })
    }

    fn gather(&mut self, role: Role) -> &mut Gather {
        match role {
            Role::Data => &mut self.data,
            Role::Metadata => &mut self.metadata,
        }
    }

    fn submit_if_full(&mut self, role: Role) -> Result<()> {
        if self.gather(role).is_full() { self.submit(role) } else { Ok(()) }
    }

    /// Hands the frames that are closed to the sealers; waits while too much is in flight.
    fn submit(&mut self, role: Role) -> Result<()> {
        let gather = self.gather(role);
        if gather.frames.is_empty() {
            return Ok(());
        }
        let frames = std::mem::take(&mut gather.frames);
        let bytes = std::mem::take(&mut gather.frames_bytes);
        self.packer.check()?;
        let permit = match self.budget.try_take(bytes) {
            Some(permit) => permit,
            None => {
                self.sealer.hurry(self.packer.entrance());
                let permit = self.budget.take(bytes);
                self.sealer.no_hurry();
                permit
            }
        };
        let batch = Batch { sequence: self.sequence, role, frames, permit };
        self.sequence += 1;
        self.sealer.begin(batch, self.packer.entrance());
        Ok(())
    }

    /// Stores all that is still on its way: after this every blob is in the store and in the index.
    pub fn finish(mut self) -> Result<Arc<Counters>> {
        for role in [Role::Data, Role::Metadata] {
            self.gather(role).close_frame();
            self.submit(role)?;
        }
        self.sealer.hurry(self.packer.entrance());
        self.packer.finish()?;
        if let Some(cache) = &mut self.base_cache {
            // Losing the cache costs time next night, not data.
            let _ = cache.finish();
        }
        self.index.finish_run()?;
        Ok(self.counters)
    }
}

impl PutBlob for BlobWriter {
    fn put(&mut self, kind: BlobKind, bytes: Vec<u8>) -> Result<BlobId> {
        assert!(kind != BlobKind::Data, "chunks come through put_chunk");
        let id = self.repository.keyring().naming().blob_id(&bytes);
        if let Some(own) = self.repository.own() {
            own.keep(&id, &bytes);
        }
        if self.index.claim(&id)? == Claim::Yours {
            Counters::add(&self.counters.metadata_new, bytes.len());
            Counters::add(&self.counters.blobs_new, 1);
            self.metadata.add(id, kind, &bytes, Marks::default());
            self.submit_if_full(Role::Metadata)?;
        }
        Ok(id)
    }
}

/// A stage that ended before its work did; the reason is found by joining it.
fn gone(stage: &str) -> Error {
    Error::Internal(format!("the {stage} ended early"))
}
