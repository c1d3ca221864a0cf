//! Compressing and sealing a batch, and proving that what will be stored can be read.
//!
//! Pure work for rayon. Each block is opened from its sealed bytes, decoded and named again before it goes on: a fault
//! in a codec or in the machine's memory must not reach the store.

use super::super::Repository;
use super::super::base_cache::{self, SealedChunk};
use super::super::error::{Error, Result};
use super::super::pack_reader::block_kind;
use super::super::pack_writer::{PlacedFrame, SealedBlock};
use super::{Batch, Counters, FrameJob};
use crate::base::budget::Permit;
use crate::base::random;
use crate::compress::{Compressor, Decompressor, Encoding, Level};
use crate::crypto::siv::Message;
use crate::format::envelope::{self, BLOCK_OVERHEAD};
use crate::format::pack::Role;
use std::cell::RefCell;

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
}

thread_local! {
    static TOOLS: RefCell<Option<Tools>> = const { RefCell::new(None) };
}

/// Compresses and seals `batch`.
pub(super) fn seal(
    repository: &Repository,
    counters: &Counters,
    level: Level,
    caching: bool,
    batch: Batch,
) -> Result<SealedBatch> {
    TOOLS.with_borrow_mut(|tools| {
        if tools.as_ref().is_none_or(|tools| tools.level != level) {
            *tools = Some(Tools {
                level,
                compressor: Compressor::new(level),
                quick: Compressor::new(base_cache::LEVEL),
                decompressor: Decompressor::new(),
                scratch: Vec::new(),
            });
        }
        let tools = tools.as_mut().expect("made above");
        seal_with(tools, repository, counters, caching, batch)
    })
}

/// A block before sealing.
#[derive(Default)]
struct Plain {
    bytes: Vec<u8>,
    frames: Vec<PlacedFrame>,
    jobs: Vec<usize>,
}

fn seal_with(
    tools: &mut Tools,
    repository: &Repository,
    counters: &Counters,
    caching: bool,
    batch: Batch,
) -> Result<SealedBatch> {
    let mut plains = vec![Plain::default()];
    let mut chunks = Vec::new();
    for (number, job) in batch.frames.iter().enumerate() {
        let frame = compress(tools, counters, batch.role, job);
        if caching && job.keep {
            chunks.push(base_cache::seal_chunk(repository.keyring(), &mut tools.quick, job.blobs[0].id, &job.raw)?);
        }
        if plains.last().is_some_and(|plain| plain.bytes.len() >= BLOCK_BYTES) {
            plains.push(Plain::default());
        }
        let plain = plains.last_mut().expect("there is always one");
        add_frame(plain, frame, number, &tools.scratch);
    }
    let blocks = seal_blocks(repository, batch.role, &mut plains)?;
    prove(tools, repository, batch.role, &batch.frames, &plains, &blocks)?;
    let blocks = blocks.into_iter().zip(plains).map(|(bytes, plain)| SealedBlock {
        bytes,
        key: repository.keyring().current(block_kind(batch.role)),
        frames: plain.frames,
    });
    Ok(SealedBatch { role: batch.role, blocks: blocks.collect(), chunks, _permit: batch.permit })
}

/// Compresses one frame into `tools.scratch`, on its bases where that is worth it.
fn compress(tools: &mut Tools, counters: &Counters, role: Role, job: &FrameJob) -> PlacedFrame {
    let on_bases = job.chosen.as_ref().and_then(|chosen| {
        let bases: Vec<&[u8]> = chosen.bytes.iter().map(|base| &**base).collect();
        let length = tools.compressor.compress_on(&bases, &job.raw, &mut tools.scratch)?;
        chosen.chain(length)
    });
    let encoding = match on_bases {
        Some(_) => Encoding::ZstdOnBases,
        None => tools.compressor.compress(&job.raw, &mut tools.scratch),
    };
    count(counters, role, job, on_bases.is_some(), tools.scratch.len());
    let number = |bytes: usize| u32::try_from(bytes).expect("a frame is at most 16 MiB");
    PlacedFrame {
        offset: 0,
        length: number(tools.scratch.len()),
        raw_length: number(job.raw.len()),
        encoding,
        chain: on_bases,
        blobs: job.blobs.clone(),
    }
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

fn add_frame(plain: &mut Plain, mut frame: PlacedFrame, job: usize, stored: &[u8]) {
    frame.offset = u32::try_from(plain.bytes.len()).expect("a block is at most some MiB");
    plain.bytes.extend_from_slice(stored);
    plain.frames.push(frame);
    plain.jobs.push(job);
}

/// Seals all blocks side by side: nonce, synthetic IV, ciphertext.
fn seal_blocks(repository: &Repository, role: Role, plains: &mut [Plain]) -> Result<Vec<Vec<u8>>> {
    let kind = block_kind(role);
    let keyring = repository.keyring();
    let key = keyring.current(kind);
    let siv = keyring.siv(key, kind, &"a new block")?;
    let header = envelope::block_associated(kind, key, keyring.repository());
    let mut blocks: Vec<Vec<u8>> = plains
        .iter_mut()
        .map(|plain| {
            let mut block = Vec::with_capacity(BLOCK_OVERHEAD + plain.bytes.len());
            block.extend_from_slice(&random::bytes::<16>());
            block.extend_from_slice(&[0; 16]);
            block.append(&mut plain.bytes);
            block
        })
        .collect();
    let ivs = {
        let mut messages = messages(&mut blocks);
        siv.seal_many(&header, &mut messages);
        messages.iter().map(|message| message.iv).collect::<Vec<_>>()
    };
    for (block, iv) in blocks.iter_mut().zip(ivs) {
        block[16..BLOCK_OVERHEAD].copy_from_slice(&iv);
    }
    Ok(blocks)
}

fn messages(blocks: &mut [Vec<u8>]) -> Vec<Message<'_>> {
    blocks
        .iter_mut()
        .map(|block| {
            let (seal, text) = block.split_at_mut(BLOCK_OVERHEAD);
            Message {
                nonce: seal[..16].try_into().expect("16 bytes"),
                iv: seal[16..].try_into().expect("16 bytes"),
                text,
            }
        })
        .collect()
}

/// Opens a copy of the sealed blocks, decodes every frame and names every blob again.
fn prove(
    tools: &mut Tools,
    repository: &Repository,
    role: Role,
    jobs: &[FrameJob],
    plains: &[Plain],
    blocks: &[Vec<u8>],
) -> Result<()> {
    let kind = block_kind(role);
    let keyring = repository.keyring();
    let key = keyring.current(kind);
    let siv = keyring.siv(key, kind, &"a new block")?;
    let header = envelope::block_associated(kind, key, keyring.repository());
    let mut opened = blocks.to_vec();
    if siv.open_many(&header, &mut messages(&mut opened)).iter().any(Result::is_err) {
        return Err(bad_machine("a block that was just sealed does not open"));
    }
    for (block, plain) in opened.iter().zip(plains) {
        for (frame, job) in plain.frames.iter().zip(&plain.jobs) {
            let start = BLOCK_OVERHEAD + frame.offset as usize;
            let stored = &block[start..start + frame.length as usize];
            prove_frame(tools, repository, &jobs[*job], frame, stored)?;
        }
    }
    Ok(())
}

fn prove_frame(
    tools: &mut Tools,
    repository: &Repository,
    job: &FrameJob,
    frame: &PlacedFrame,
    stored: &[u8],
) -> Result<()> {
    let bases: Vec<&[u8]> = match (&frame.chain, &job.chosen) {
        (Some(_), Some(chosen)) => chosen.bytes.iter().map(|base| &**base).collect(),
        _ => Vec::new(),
    };
    tools
        .decompressor
        .decompress(frame.encoding, stored, &bases, frame.raw_length as usize, &mut tools.scratch)
        .map_err(|error| bad_machine(&format!("a frame that was just compressed does not decode ({error})")))?;
    let naming = repository.keyring().naming();
    for blob in &frame.blobs {
        let start = blob.offset as usize;
        if naming.blob_id(&tools.scratch[start..start + blob.length as usize]) != blob.id {
            return Err(bad_machine(&format!("blob {} has another name after it was packed", blob.id)));
        }
    }
    Ok(())
}

fn bad_machine(what: &str) -> Error {
    Error::Internal(format!("{what}: this points to faulty memory or a faulty processor; test the machine's memory"))
}
