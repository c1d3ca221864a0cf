//! Blocks sealed side by side, and the proof that what will be stored can be read.
//!
//! Each block is opened from its sealed bytes, decoded and named again before it goes on: a fault in a codec or in the
//! machine's memory must not reach the store.

use super::super::Repository;
use super::super::error::{Error, Result};
use super::super::pack_reader::block_kind;
use super::super::pack_writer::PlacedFrame;
use super::Counters;
use super::bases::Chosen;
use super::seal::{Plain, Tools};
use crate::base::clock::Stopwatch;
use crate::base::random;
use crate::compress::Encoding;
use crate::crypto::siv::Message;
use crate::format::envelope::{self, BLOCK_OVERHEAD};
use crate::format::pack::Role;

/// Seals all blocks of one role where they lie, and proves them.
pub(super) fn seal_and_prove(
    tools: &mut Tools,
    repository: &Repository,
    counters: &Counters,
    role: Role,
    plains: &mut [&mut Plain],
) -> Result<()> {
    let since = Stopwatch::start();
    seal_blocks(repository, role, plains)?;
    Counters::add_time(&counters.seal_ns, since);
    let since = Stopwatch::start();
    prove(tools, repository, role, plains)?;
    Counters::add_time(&counters.prove_ns, since);
    Ok(())
}

/// Seals all blocks side by side: nonce, synthetic IV, ciphertext.
fn seal_blocks(repository: &Repository, role: Role, plains: &mut [&mut Plain]) -> Result<()> {
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
fn prove(tools: &mut Tools, repository: &Repository, role: Role, plains: &[&mut Plain]) -> Result<()> {
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
        for (frame, chosen) in plain.frames.iter().zip(&plain.bases) {
            let start = frame.offset as usize;
            let stored = &block.text[start..start + frame.length as usize];
            prove_frame(tools, repository, chosen.as_ref(), frame, stored)?;
        }
    }
    tools.opened = opened;
    Ok(())
}

fn prove_frame(
    tools: &mut Tools,
    repository: &Repository,
    chosen: Option<&Chosen>,
    frame: &PlacedFrame,
    stored: &[u8],
) -> Result<()> {
    // Raw bytes are their own frame: they are looked at where they lie.
    if frame.encoding == Encoding::Raw && stored.len() == frame.raw_length as usize {
        return prove_names(repository, frame, stored);
    }
    let bases: Vec<&[u8]> = chosen.iter().flat_map(|chosen| &chosen.bytes).map(|base| &**base).collect();
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
