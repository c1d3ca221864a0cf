//! Compressing batches, and gathering what becomes of them until it is worth sealing.
//!
//! Pure work for rayon. A batch is compressed by itself; its blocks wait until there are enough to fill the lanes of
//! the seal, unless the writer waits for room and nobody else will bring more.

use super::super::Repository;
use super::super::base_cache::{self, SealedChunk};
use super::super::error::Result;
use super::super::pack_reader::block_kind;
use super::super::pack_writer::{PlacedBlob, PlacedFrame, SealedBlock};
use super::bases::Chosen;
use super::packer::Arrival;
use super::prove::seal_and_prove;
use super::{Batch, Counters, DELTA_LEAST_BYTES, FrameJob};
use crate::base::budget::Permit;
use crate::base::{BlobId, Buffers};
use crate::compress::{Compressor, Decompressor, Encoding, Level};
use crate::format::envelope::BLOCK_OVERHEAD;
use crate::format::pack::{Chain, Role};
use std::cell::RefCell;
use std::sync::mpsc::Sender;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// A block takes frames until it has this many bytes: a block is what a reader has to fetch.
const BLOCK_BYTES: usize = 256 << 10;
/// So many blocks are sealed together …
const SEALED_BLOCKS: usize = 8;
/// … or so many bytes.
const SEALED_BYTES: usize = 3 << 20;

/// A batch, sealed.
pub(in super::super) struct SealedBatch {
    pub role: Role,
    pub blocks: Vec<SealedBlock>,
    pub chunks: Vec<SealedChunk>,
    pub _permit: Permit,
}

/// What each thread keeps from batch to batch.
pub(super) struct Tools {
    level: Level,
    compressor: Compressor,
    quick: Compressor,
    pub decompressor: Decompressor,
    pub scratch: Vec<u8>,
    pub opened: Vec<u8>,
}

thread_local! {
    static TOOLS: RefCell<Option<Tools>> = const { RefCell::new(None) };
}

/// Compresses and seals batches.
pub(super) struct Sealer {
    repository: Arc<Repository>,
    counters: Arc<Counters>,
    level: Level,
    /// Chunks of series are sealed for the base cache too.
    caching: bool,
    /// Where the raw bytes of frames go when they are compressed.
    frames: Arc<Buffers>,
    /// Where the bytes of blocks come from.
    blocks: Arc<Buffers>,
    waiting: Mutex<Waiting>,
}

/// What is compressed and not sealed yet.
#[derive(Default)]
struct Waiting {
    batches: Vec<Compressed>,
    /// Batches that are being compressed or wait for it.
    running: usize,
    /// Nobody brings more until some of this is stored.
    hurry: bool,
}

/// A batch, compressed.
struct Compressed {
    sequence: u64,
    role: Role,
    plains: Vec<Plain>,
    chunks: Vec<SealedChunk>,
    permit: Permit,
}

/// A block before sealing: room for nonce and synthetic IV, then its frames.
pub(super) struct Plain {
    pub bytes: Vec<u8>,
    pub frames: Vec<PlacedFrame>,
    /// For each frame the bases that it stands on.
    pub bases: Vec<Option<Chosen>>,
}

impl Plain {
    fn begin(buffers: &Buffers) -> Plain {
        let mut bytes = buffers.take();
        bytes.resize(BLOCK_OVERHEAD, 0);
        Plain { bytes, frames: Vec::new(), bases: Vec::new() }
    }

    fn is_full(&self) -> bool {
        self.bytes.len() - BLOCK_OVERHEAD >= BLOCK_BYTES
    }

    fn add(&mut self, mut frame: PlacedFrame, bases: Option<Chosen>, stored: &[u8]) {
        let offset = self.bytes.len() - BLOCK_OVERHEAD;
        frame.offset = u32::try_from(offset).expect("a block is at most some MiB");
        self.bytes.extend_from_slice(stored);
        self.frames.push(frame);
        self.bases.push(bases);
    }

    fn memory_bytes(&self) -> usize {
        let bases = self.bases.iter().flatten().map(Chosen::base_bytes);
        self.bytes.len() + bases.sum::<usize>()
    }
}

impl Waiting {
    /// All that waits, if it is enough or nothing more will come.
    fn take_if_due(&mut self) -> Vec<Compressed> {
        let plains = || self.batches.iter().flat_map(|batch| &batch.plains);
        let enough = plains().count() >= SEALED_BLOCKS
            || plains().map(|plain| plain.bytes.len()).sum::<usize>() >= SEALED_BYTES
            || (self.hurry && self.running == 0);
        if enough { std::mem::take(&mut self.batches) } else { Vec::new() }
    }
}

impl Sealer {
    /// A sealer. `frames` takes the raw bytes of frames back, `blocks` gives the bytes of blocks.
    pub fn new(
        repository: Arc<Repository>,
        counters: Arc<Counters>,
        level: Level,
        caching: bool,
        frames: Arc<Buffers>,
        blocks: Arc<Buffers>,
    ) -> Sealer {
        Sealer { repository, counters, level, caching, frames, blocks, waiting: Mutex::default() }
    }

    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Compresses `batch` on one of rayon's threads. It arrives at `exit` when it is sealed, perhaps with others.
    pub fn begin(self: &Arc<Self>, batch: Batch, exit: Sender<Arrival>) {
        self.waiting().running += 1;
        let sealer = self.clone();
        rayon::spawn(move || {
            let sequence = batch.sequence;
            let compressed = with_tools(sealer.level, |tools| sealer.compress_batch(tools, batch));
            let due = {
                let mut waiting = sealer.waiting();
                waiting.running -= 1;
                match compressed {
                    Ok(compressed) => waiting.batches.push(compressed),
                    // If the packer is gone, `check` will say why; what is dropped gives its memory back.
                    Err(error) => drop(exit.send((sequence, Err(error)))),
                }
                waiting.take_if_due()
            };
            sealer.seal(due, &exit);
        });
    }

    /// Says that nobody brings more batches until [`Sealer::no_hurry`]: what waits does not wait for them.
    pub fn hurry(self: &Arc<Self>, exit: Sender<Arrival>) {
        let due = {
            let mut waiting = self.waiting();
            waiting.hurry = true;
            waiting.take_if_due()
        };
        if !due.is_empty() {
            let sealer = self.clone();
            rayon::spawn(move || sealer.seal(due, &exit));
        }
    }

    /// More batches come.
    pub fn no_hurry(&self) {
        self.waiting().hurry = false;
    }

    fn seal(&self, mut due: Vec<Compressed>, exit: &Sender<Arrival>) {
        let Some(first) = due.first().map(|batch| batch.sequence) else { return };
        let sealed = with_tools(self.level, |tools| {
            [Role::Data, Role::Metadata].into_iter().try_for_each(|role| {
                let of_role = due.iter_mut().filter(|batch| batch.role == role);
                let mut plains: Vec<&mut Plain> = of_role.flat_map(|batch| &mut batch.plains).collect();
                seal_and_prove(tools, &self.repository, &self.counters, role, &mut plains)
            })
        });
        if let Err(error) = sealed {
            let _ = exit.send((first, Err(error)));
            return;
        }
        for batch in due {
            let key = self.repository.keyring().current(block_kind(batch.role));
            let block = |plain: Plain| SealedBlock { bytes: plain.bytes, key, frames: plain.frames };
            let sealed = SealedBatch {
                role: batch.role,
                blocks: batch.plains.into_iter().map(block).collect(),
                chunks: batch.chunks,
                _permit: batch.permit,
            };
            let _ = exit.send((batch.sequence, Ok(sealed)));
        }
    }

    fn compress_batch(&self, tools: &mut Tools, mut batch: Batch) -> Result<Compressed> {
        let mut plains = vec![Plain::begin(&self.blocks)];
        let mut chunks = Vec::new();
        for mut job in batch.frames {
            let (encoding, chain) = self.compress(tools, batch.role, &job);
            if self.caching {
                let keyring = self.repository.keyring();
                for (id, bytes) in self.bases_to_come(batch.role, &job) {
                    chunks.push(base_cache::seal_chunk(keyring, &mut tools.quick, id, bytes)?);
                }
            }
            let mut bases = job.chosen.take_if(|_| chain.is_some());
            for (frame, stored) in placed(&job, encoding, chain, &tools.scratch) {
                if plains.last().is_some_and(Plain::is_full) {
                    plains.push(Plain::begin(&self.blocks));
                }
                plains.last_mut().expect("there is always one").add(frame, bases.take(), stored);
            }
            self.frames.give(job.raw);
        }
        batch.permit.shrink(plains.iter().map(Plain::memory_bytes).sum());
        Ok(Compressed { sequence: batch.sequence, role: batch.role, plains, chunks, permit: batch.permit })
    }

    /// The chunks of a frame that the base cache keeps: those of series. A client that may only write can have no others as
    /// bases than it keeps, so of what it stores it keeps all that could become one.
    fn bases_to_come<'j>(&self, role: Role, job: &'j FrameJob) -> Vec<(BlobId, &'j [u8])> {
        let bytes = |blob: &PlacedBlob| &job.raw[blob.offset as usize..(blob.offset + blob.length) as usize];
        let is_one = |blob: &&PlacedBlob| blob.length as usize >= DELTA_LEAST_BYTES;
        match self.repository.keyring().is_write_only() {
            false if job.keep => vec![(job.blobs[0].id, &job.raw)],
            true if role == Role::Data => job.blobs.iter().filter(is_one).map(|blob| (blob.id, bytes(blob))).collect(),
            _ => Vec::new(),
        }
    }

    /// Compresses one frame into `tools.scratch`, on its bases where that is worth it. What is to be stored as it is
    /// leaves `tools.scratch` empty.
    fn compress(&self, tools: &mut Tools, role: Role, job: &FrameJob) -> (Encoding, Option<Chain>) {
        if let Some(taken) = &job.taken {
            tools.scratch.clone_from(&taken.stored);
            let stored = if taken.encoding == Encoding::Raw { job.raw.len() } else { taken.stored.len() };
            count(&self.counters, role, job, false, stored);
            return (taken.encoding, None);
        }
        let on_bases = job.chosen.as_ref().and_then(|chosen| {
            let bases: Vec<&[u8]> = chosen.bytes.iter().map(|base| &**base).collect();
            let length = tools.compressor.compress_on(&bases, &job.raw, &mut tools.scratch)?;
            chosen.chain(length)
        });
        let encoding = match on_bases {
            Some(_) => Encoding::ZstdOnBases,
            None if is_hopeless(tools, job) => Encoding::Raw,
            None => tools.compressor.try_compress(&job.raw, &mut tools.scratch),
        };
        let stored = if encoding == Encoding::Raw { job.raw.len() } else { tools.scratch.len() };
        count(&self.counters, role, job, on_bases.is_some(), stored);
        (encoding, on_bases)
    }
}

/// Whether every blob of a frame is large and looks as if nothing could be saved. Small ones are too many kinds of
/// things to be judged by samples.
fn is_hopeless(tools: &mut Tools, job: &FrameJob) -> bool {
    let hopeless = job.blobs.iter().all(|blob| {
        let start = blob.offset as usize;
        tools.compressor.finds_nothing(&job.raw[start..start + blob.length as usize], &mut tools.scratch)
    });
    tools.scratch.clear();
    hopeless
}

/// The frames that a job becomes, with their stored bytes: one, unless it is stored as it is. Then nothing keeps its
/// blobs together, and it is cut into pieces of about a block, so that whoever wants one reads no more, and blocks are
/// sealed side by side.
fn placed<'b>(
    job: &'b FrameJob,
    encoding: Encoding,
    chain: Option<Chain>,
    compressed: &'b [u8],
) -> Vec<(PlacedFrame, &'b [u8])> {
    let number = |bytes: usize| u32::try_from(bytes).expect("a frame is at most 16 MiB");
    let frame = |stored: &[u8], raw_length: usize, chain, blobs| PlacedFrame {
        offset: 0,
        length: number(stored.len()),
        raw_length: number(raw_length),
        encoding,
        chain,
        blobs,
    };
    if encoding != Encoding::Raw {
        return vec![(frame(compressed, job.raw.len(), chain, job.blobs.clone()), compressed)];
    }
    let mut pieces = Vec::new();
    let mut blobs: Vec<PlacedBlob> = Vec::new();
    let mut start = 0;
    for (place, blob) in job.blobs.iter().enumerate() {
        blobs.push(PlacedBlob { offset: blob.offset - number(start), ..*blob });
        let end = (blob.offset + blob.length) as usize;
        if end - start >= BLOCK_BYTES || place + 1 == job.blobs.len() {
            let stored = &job.raw[start..end];
            pieces.push((frame(stored, stored.len(), None, std::mem::take(&mut blobs)), stored));
            start = end;
        }
    }
    pieces
}

fn count(counters: &Counters, role: Role, job: &FrameJob, on_bases: bool, stored: usize) {
    match role {
        Role::Data => Counters::add(&counters.stored_data, stored),
        Role::Metadata => Counters::add(&counters.stored_metadata, stored),
    }
    if on_bases {
        Counters::add(&counters.data_delta, job.raw.len());
        Counters::add(&counters.stored_delta, stored);
        Counters::add(&counters.whole_delta, job.chosen.as_ref().map_or(0, |chosen| chosen.whole_bytes as usize));
    }
}

fn with_tools<T>(level: Level, work: impl FnOnce(&mut Tools) -> T) -> T {
    TOOLS.with_borrow_mut(|tools| {
        if tools.as_ref().is_none_or(|tools| tools.level != level) {
            *tools = Some(Tools {
                level,
                compressor: Compressor::new(level),
                quick: Compressor::new(base_cache::LEVEL),
                decompressor: Decompressor::new(),
                scratch: Vec::new(),
                opened: Vec::new(),
            });
        }
        work(tools.as_mut().expect("made above"))
    })
}
