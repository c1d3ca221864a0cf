//! Compressing and sealing a batch, and proving that what will be stored can be read.
//!
//! Pure work for rayon. Each block is opened from its sealed bytes, decoded and named again before it goes on: a fault
//! in a codec or in the machine's memory must not reach the store.

use super::super::Repository;
use super::super::base_cache::{self, SealedChunk};
use super::super::error::{Error, Result};
use super::super::pack_reader::block_kind;
use super::super::pack_writer::{PlacedBlob, PlacedFrame, SealedBlock};
use super::{Batch, Counters, FrameJob};
use crate::base::budget::Permit;
use crate::base::{Buffers, random};
use crate::compress::{Compressor, Decompressor, Encoding, Level};
use crate::crypto::siv::Message;
use crate::format::envelope::{self, BLOCK_OVERHEAD};
use crate::format::pack::{Chain, Role};
use std::cell::RefCell;
use std::sync::Arc;

/// A block takes frames until it has this many bytes: a block is what a reader has to fetch.
const BLOCK_BYTES: usize = 256 << 10;

/// A batch, sealed.
pub(in super::super) struct SealedBatch {
    pub role: Role,
    pub blocks: Vec<SealedBlock>,
    pub chunks: Vec<SealedChunk>,
    pub _permit: Permit,
}

/// What each thread keeps from batch to batch.
struct Tools {
    level: Level,
    compressor: Compressor,
    quick: Compressor,
    decompressor: Decompressor,
    scratch: Vec<u8>,
    opened: Vec<u8>,
}

thread_local! {
    static TOOLS: RefCell<Option<Tools>> = const { RefCell::new(None) };
}

/// Compresses and seals batches.
pub(super) struct Sealer {
    pub repository: Arc<Repository>,
    pub counters: Arc<Counters>,
    pub level: Level,
    /// Chunks of series are sealed for the base cache too.
    pub caching: bool,
    /// Where the raw bytes of frames go when they are stored.
    pub frames: Arc<Buffers>,
    /// Where the bytes of blocks come from.
    pub blocks: Arc<Buffers>,
}

/// A block before sealing: room for nonce and synthetic IV, then its frames.
struct Plain {
    bytes: Vec<u8>,
    frames: Vec<PlacedFrame>,
    jobs: Vec<usize>,
}

impl Plain {
    fn begin(buffers: &Buffers) -> Plain {
        let mut bytes = buffers.take();
        bytes.resize(BLOCK_OVERHEAD, 0);
        Plain { bytes, frames: Vec::new(), jobs: Vec::new() }
    }

    fn is_full(&self) -> bool {
        self.bytes.len() - BLOCK_OVERHEAD >= BLOCK_BYTES
    }

    fn add(&mut self, mut frame: PlacedFrame, job: usize, stored: &[u8]) {
        let offset = self.bytes.len() - BLOCK_OVERHEAD;
        frame.offset = u32::try_from(offset).expect("a block is at most some MiB");
        self.bytes.extend_from_slice(stored);
        self.frames.push(frame);
        self.jobs.push(job);
    }
}

impl Sealer {
    /// Compresses and seals `batch`.
    pub fn seal(&self, batch: Batch) -> Result<SealedBatch> {
        TOOLS.with_borrow_mut(|tools| {
            if tools.as_ref().is_none_or(|tools| tools.level != self.level) {
                *tools = Some(Tools {
                    level: self.level,
                    compressor: Compressor::new(self.level),
                    quick: Compressor::new(base_cache::LEVEL),
                    decompressor: Decompressor::new(),
                    scratch: Vec::new(),
                    opened: Vec::new(),
                });
            }
            self.seal_with(tools.as_mut().expect("made above"), batch)
        })
    }

    fn seal_with(&self, tools: &mut Tools, batch: Batch) -> Result<SealedBatch> {
        let repository = &*self.repository;
        let mut plains = vec![Plain::begin(&self.blocks)];
        let mut chunks = Vec::new();
        for (number, job) in batch.frames.iter().enumerate() {
            let (encoding, chain) = self.compress(tools, batch.role, job);
            if self.caching && job.keep {
                chunks.push(base_cache::seal_chunk(repository.keyring(), &mut tools.quick, job.blobs[0].id, &job.raw)?);
            }
            for (frame, stored) in placed(job, encoding, chain, &tools.scratch) {
                if plains.last().is_some_and(Plain::is_full) {
                    plains.push(Plain::begin(&self.blocks));
                }
                plains.last_mut().expect("there is always one").add(frame, number, stored);
            }
        }
        seal_blocks(repository, batch.role, &mut plains)?;
        prove(tools, repository, batch.role, &batch.frames, &plains)?;
        batch.frames.into_iter().for_each(|job| self.frames.give(job.raw));
        let key = repository.keyring().current(block_kind(batch.role));
        let blocks = plains.into_iter().map(|plain| SealedBlock { bytes: plain.bytes, key, frames: plain.frames });
        Ok(SealedBatch { role: batch.role, blocks: blocks.collect(), chunks, _permit: batch.permit })
    }

    /// Compresses one frame into `tools.scratch`, on its bases where that is worth it. What is to be stored as it is
    /// leaves `tools.scratch` empty.
    fn compress(&self, tools: &mut Tools, role: Role, job: &FrameJob) -> (Encoding, Option<Chain>) {
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

/// Seals all blocks side by side: nonce, synthetic IV, ciphertext.
fn seal_blocks(repository: &Repository, role: Role, plains: &mut [Plain]) -> Result<()> {
    let kind = block_kind(role);
    let keyring = repository.keyring();
    let key = keyring.current(kind);
    let siv = keyring.siv(key, kind, &"a new block")?;
    let header = envelope::block_associated(kind, key, keyring.repository());
    for plain in plains.iter_mut() {
        plain.bytes[..16].copy_from_slice(&random::bytes::<16>());
    }
    let ivs = {
        let mut messages: Vec<_> = plains.iter_mut().map(|plain| message(&mut plain.bytes)).collect();
        siv.seal_many(&header, &mut messages);
        messages.iter().map(|message| message.iv).collect::<Vec<_>>()
    };
    for (plain, iv) in plains.iter_mut().zip(ivs) {
        plain.bytes[16..BLOCK_OVERHEAD].copy_from_slice(&iv);
    }
    Ok(())
}

fn message(block: &mut [u8]) -> Message<'_> {
    let (seal, text) = block.split_at_mut(BLOCK_OVERHEAD);
    Message { nonce: seal[..16].try_into().expect("16 bytes"), iv: seal[16..].try_into().expect("16 bytes"), text }
}

/// Opens a copy of the sealed blocks, decodes every frame and names every blob again.
fn prove(tools: &mut Tools, repository: &Repository, role: Role, jobs: &[FrameJob], plains: &[Plain]) -> Result<()> {
    let kind = block_kind(role);
    let keyring = repository.keyring();
    let key = keyring.current(kind);
    let siv = keyring.siv(key, kind, &"a new block")?;
    let header = envelope::block_associated(kind, key, keyring.repository());
    let mut opened = std::mem::take(&mut tools.opened);
    opened.clear();
    plains.iter().for_each(|plain| opened.extend_from_slice(&plain.bytes));
    let mut blocks = Vec::with_capacity(plains.len());
    let mut rest = &mut opened[..];
    for plain in plains {
        let (block, after) = rest.split_at_mut(plain.bytes.len());
        blocks.push(message(block));
        rest = after;
    }
    if siv.open_many(&header, &mut blocks).iter().any(Result::is_err) {
        return Err(bad_machine("a block that was just sealed does not open"));
    }
    for (block, plain) in blocks.iter().zip(plains) {
        for (frame, job) in plain.frames.iter().zip(&plain.jobs) {
            let start = frame.offset as usize;
            let stored = &block.text[start..start + frame.length as usize];
            prove_frame(tools, repository, &jobs[*job], frame, stored)?;
        }
    }
    tools.opened = opened;
    Ok(())
}

fn prove_frame(
    tools: &mut Tools,
    repository: &Repository,
    job: &FrameJob,
    frame: &PlacedFrame,
    stored: &[u8],
) -> Result<()> {
    // Raw bytes are their own frame: they are looked at where they lie.
    if frame.encoding == Encoding::Raw && stored.len() == frame.raw_length as usize {
        return prove_names(repository, frame, stored);
    }
    let bases: Vec<&[u8]> = match (&frame.chain, &job.chosen) {
        (Some(_), Some(chosen)) => chosen.bytes.iter().map(|base| &**base).collect(),
        _ => Vec::new(),
    };
    tools
        .decompressor
        .decompress(frame.encoding, stored, &bases, frame.raw_length as usize, &mut tools.scratch)
        .map_err(|error| bad_machine(&format!("a frame that was just compressed does not decode ({error})")))?;
    prove_names(repository, frame, &tools.scratch)
}

fn prove_names(repository: &Repository, frame: &PlacedFrame, raw: &[u8]) -> Result<()> {
    let naming = repository.keyring().naming();
    for blob in &frame.blobs {
        let start = blob.offset as usize;
        if naming.blob_id(&raw[start..start + blob.length as usize]) != blob.id {
            return Err(bad_machine(&format!("blob {} has another name after it was packed", blob.id)));
        }
    }
    Ok(())
}

fn bad_machine(what: &str) -> Error {
    Error::Internal(format!("{what}: this points to faulty memory or a faulty processor; test the machine's memory"))
}
