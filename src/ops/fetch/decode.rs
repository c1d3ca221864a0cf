//! A range of a pack into blobs: pure work.

use super::plan::{Blobs, Run, same_frame};
use super::{Message, Shared};
use crate::base::budget::Permit;
use crate::compress::Decompressor;
use crate::crypto::siv::Message as Sealed;
use crate::format::envelope::{self, BLOCK_OVERHEAD, NONCE_BYTES};
use crate::format::pack::Encoding;
use crate::repo::blob_reader::BlobBytes;
use crate::repo::index::Place;
use crate::repo::pack_reader::{block_kind, block_name, cut_blob, decode_frame, role_of};
use crate::repo::{Error, Result};
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::Sender;

/// Opens the blocks of `run`, which lie in `bytes` from `range_offset` of the pack on, decodes their frames and hands on
/// what has the right name.
pub(super) fn decode<T>(
    shared: &Shared<T>,
    run: Run<T>,
    range_offset: u64,
    mut bytes: Vec<u8>,
    permit: &Arc<Permit>,
    to_takers: &Sender<Message<T>>,
) {
    if shared.is_abandoned() {
        return;
    }
    let blocks = run.into_blocks();
    let places: Vec<Place> = blocks.iter().map(|(_, blobs)| blobs[0].0.clone()).collect();
    let opened = open_blocks(shared, &places, range_offset, &mut bytes);
    let bytes = Arc::new(bytes);
    let mut decompressor = Decompressor::new();
    for ((_, blobs), opened) in blocks.into_iter().zip(opened) {
        let place = &blobs[0].0;
        let start = (place.block_offset - range_offset) as usize;
        let text = start + BLOCK_OVERHEAD..start + place.block_length as usize;
        match opened {
            Ok(()) if !shared.sink.looks_inside() => {}
            Ok(()) => decode_block(shared, &mut decompressor, (&bytes, text), blobs, permit, to_takers),
            Err(error) => give_up(shared, blobs, error, to_takers),
        }
    }
}

/// Opens all blocks side by side, where they lie.
fn open_blocks<T>(shared: &Shared<T>, places: &[Place], range_offset: u64, bytes: &mut [u8]) -> Vec<Result<()>> {
    let mut results = Vec::with_capacity(places.len());
    let mut rest = bytes;
    let mut consumed = range_offset;
    for group in places.chunk_by(|a, b| (a.key, role_of(a.kind)) == (b.key, role_of(b.kind))) {
        let mut messages = Vec::with_capacity(group.len());
        for place in group {
            let (_, after) = rest.split_at_mut((place.block_offset - consumed) as usize);
            let (block, after) = after.split_at_mut(place.block_length as usize);
            consumed = place.block_offset + u64::from(place.block_length);
            rest = after;
            let (seal, text) = block.split_at_mut(BLOCK_OVERHEAD);
            let (nonce, iv) = seal.split_at(NONCE_BYTES);
            let nonce = nonce.try_into().expect("a nonce has its length");
            messages.push(Sealed { nonce, iv: iv.try_into().expect("an IV has its length"), text });
        }
        results.extend(open_group(shared, group, &mut messages));
    }
    results
}

fn open_group<T>(shared: &Shared<T>, group: &[Place], messages: &mut [Sealed<'_>]) -> Vec<Result<()>> {
    let keyring = shared.repository.keyring();
    let kind = block_kind(role_of(group[0].kind));
    let key = group[0].key;
    let name = |place: &Place| block_name(place.pack, place.block_offset);
    let siv = match keyring.siv(key, kind, &name(&group[0])) {
        Ok(siv) => siv,
        Err(_) => {
            return group.iter().map(|place| Err(Error::UnknownKey { object: name(place), key })).collect();
        }
    };
    let header = envelope::block_associated(kind, key, keyring.repository());
    let opened = siv.open_many(&header, messages);
    let forged = |place| Error::Object { object: name(place), source: crate::format::Error::Forged { what: "block" } };
    opened.into_iter().zip(group).map(|(opened, place)| opened.map_err(|_| forged(place))).collect()
}

fn decode_block<T>(
    shared: &Shared<T>,
    decompressor: &mut Decompressor,
    (bytes, text): (&Arc<Vec<u8>>, Range<usize>),
    blobs: Blobs<T>,
    permit: &Arc<Permit>,
    to_takers: &Sender<Message<T>>,
) {
    let mut frames: Vec<Blobs<T>> = Vec::new();
    for blob in blobs {
        match frames.last_mut() {
            Some(frame) if same_frame(&frame[0].0, &blob.0) => frame.push(blob),
            _ => frames.push(vec![blob]),
        }
    }
    for blobs in frames {
        let whole_range = bytes;
        let bytes = match decode_one(decompressor, &blobs[0].0, bytes, &text) {
            Ok(bytes) => bytes,
            Err(error) => {
                give_up(shared, blobs, error, to_takers);
                continue;
            }
        };
        shared.raw_bytes.fetch_add(bytes.len() as u64, Ordering::Relaxed);
        let stored = shared.sink.takes_frames().then(|| BlobBytes::part(whole_range, frame_range(&blobs[0].0, &text)));
        let mut good = Vec::with_capacity(blobs.len());
        for (place, wanted) in blobs {
            match cut_blob(&shared.repository, &place, &wanted.id, &bytes).map(|_| ()) {
                Ok(()) => good.push((place, wanted)),
                Err(error) => give_up(shared, vec![(place, wanted)], error, to_takers),
            }
        }
        // If the takers are gone, nobody wants it any more.
        let _ = to_takers.send(Message::Frame { bytes, stored, blobs: good, permit: permit.clone() });
    }
}

/// Decodes the frame of `place`, whose block's plaintext is `text` of `bytes`. One that is stored as it is stays there.
fn decode_one(
    decompressor: &mut Decompressor,
    place: &Place,
    bytes: &Arc<Vec<u8>>,
    text: &Range<usize>,
) -> Result<BlobBytes> {
    let stored = frame_range(place, text);
    if place.encoding == Encoding::Raw && place.frame_length == place.raw_length && stored.end <= text.end {
        return Ok(BlobBytes::part(bytes, stored));
    }
    let mut frame = Vec::new();
    decode_frame(decompressor, place, &bytes[text.clone()], &[], &mut frame)?;
    Ok(BlobBytes::whole(frame))
}

/// Where the stored form of the frame of `place` lies, beside its block's plaintext.
fn frame_range(place: &Place, text: &Range<usize>) -> Range<usize> {
    let start = text.start + place.frame_offset as usize;
    start..start + place.frame_length as usize
}

/// Makes a block unknown and lets the takers look for other copies of what was wanted from it.
fn give_up<T>(shared: &Shared<T>, blobs: Blobs<T>, error: Error, to_takers: &Sender<Message<T>>) {
    let place = &blobs[0].0;
    if let Err(error) = shared.index.mark_damaged(&place.pack, place.block_offset) {
        shared.fail(error);
    }
    let wanted = blobs.into_iter().map(|(_, wanted)| wanted).collect();
    let _ = to_takers.send(Message::Failed { wanted, error });
}
