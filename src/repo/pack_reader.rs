//! Packs read: directories, blocks, frames.

use super::error::{Error, Result};
use super::index::Place;
use super::{Keyring, Repository};
use crate::base::{BlobId, PackId};
use crate::compress::Decompressor;
use crate::crypto::names::PackHasher;
use crate::format::cbor::Cbor;
use crate::format::container::{self, LEAD_BYTES, TRAILER_BYTES};
use crate::format::envelope::{self, BLOCK_OVERHEAD, HEADER_BYTES, IV_BYTES, NONCE_BYTES, ObjectKind};
use crate::format::pack::{BlobKind, Directory, Encoding, Role};
use crate::format::vouch::Vouched as _;
use crate::store::{Area, Key, ObjectStore};

/// How much of a pack's end is read in the hope that the directory lies in it.
const TAIL_BYTES: u64 = 64 << 10;

/// How much of a pack is read at once to be hashed.
const HASHED_BYTES: u64 = 4 << 20;

/// The kind of the blocks of a pack for `role`.
pub fn block_kind(role: Role) -> ObjectKind {
    match role {
        Role::Data => ObjectKind::Data,
        Role::Metadata => ObjectKind::Metadata,
    }
}

/// Which packs hold blobs of `kind`.
pub fn role_of(kind: BlobKind) -> Role {
    match kind {
        BlobKind::Data => Role::Data,
        BlobKind::Tree | BlobKind::List => Role::Metadata,
    }
}

/// The key of a pack.
pub fn pack_key(id: PackId) -> Key {
    Key::new(Area::Packs, id)
}

/// Reads and checks the directory of a pack of `size_bytes`, by one or two ranged reads.
pub fn read_directory(store: &dyn ObjectStore, keyring: &Keyring, id: PackId, size_bytes: u64) -> Result<Directory> {
    let tail_bytes = size_bytes.min(TAIL_BYTES);
    let tail = store.get_range(&pack_key(id), size_bytes - tail_bytes, tail_bytes as usize)?;
    directory_at_end(store, keyring, id, size_bytes, &tail)
}

/// Checks the directory of a pack of `size_bytes` whose last bytes are `tail`; a directory that is longer is read.
pub fn directory_at_end(
    store: &dyn ObjectStore,
    keyring: &Keyring,
    id: PackId,
    size_bytes: u64,
    tail: &[u8],
) -> Result<Directory> {
    let key = pack_key(id);
    if size_bytes < (LEAD_BYTES + TRAILER_BYTES) as u64 {
        return Err(Error::damaged(&key, format!("it has only {size_bytes} bytes")));
    }
    let trailer = tail.len().checked_sub(TRAILER_BYTES).map_or(tail, |start| &tail[start..]);
    let (offset, length) =
        container::find_directory(ObjectKind::Directory, size_bytes, trailer).map_err(Error::object(&key))?;
    let sealed = match offset.checked_sub(size_bytes - tail.len() as u64) {
        Some(skip) => tail[skip as usize..skip as usize + length].to_vec(),
        None => store.get_range(&key, offset, length)?,
    };
    open_directory(keyring, id, sealed, offset)
}

/// Whether somebody who holds the repository's own keys signed for this directory of a pack and for all that lies before
/// it. Reads the whole pack if there is a signature.
pub fn is_vouched(
    store: &dyn ObjectStore,
    keyring: &Keyring,
    id: PackId,
    size_bytes: u64,
    directory: &Directory,
) -> Result<bool> {
    let Some(check) = directory.voucher.as_ref().and_then(|voucher| keyring.voucher(voucher)) else { return Ok(false) };
    let key = pack_key(id);
    let trailer = store.get_range(&key, size_bytes - TRAILER_BYTES as u64, TRAILER_BYTES)?;
    let (end, _) =
        container::find_directory(ObjectKind::Directory, size_bytes, &trailer).map_err(Error::object(&key))?;
    let (mut hasher, mut at) = (PackHasher::new(), 0);
    while at < end {
        let length = (end - at).min(HASHED_BYTES) as usize;
        hasher.update(&store.get_range(&key, at, length)?);
        at += length as u64;
    }
    Ok(check.holds(ObjectKind::Directory, &hasher.finish(), &directory.content_hash()))
}

/// Opens and checks a directory that begins at `offset` of its pack.
pub fn open_directory(keyring: &Keyring, id: PackId, sealed: Vec<u8>, offset: u64) -> Result<Directory> {
    let key = pack_key(id);
    let content = keyring.open(ObjectKind::Directory, sealed, &key)?;
    let directory = Directory::from_cbor(&content, "pack directory").map_err(Error::object(&key))?;
    directory.check(offset).map_err(Error::object(&key))?;
    // Who may only write has nothing to open them with, and need not.
    for wrap in directory.wraps.iter().filter(|_| !keyring.is_write_only()) {
        keyring.accept(wrap, block_kind(directory.role).class(), &key)?;
    }
    Ok(directory)
}

/// Opens a block: its plaintext, which is its frames. `name` says which block, for errors.
pub fn open_block(
    keyring: &Keyring,
    kind: ObjectKind,
    key: crate::base::KeyId,
    mut block: Vec<u8>,
    name: &dyn std::fmt::Display,
) -> Result<Vec<u8>> {
    if block.len() < BLOCK_OVERHEAD {
        return Err(Error::damaged(name, "it is shorter than its seal"));
    }
    let siv = keyring.siv(key, kind, name)?;
    let associated = envelope::block_associated(kind, key, keyring.repository());
    let nonce: [u8; NONCE_BYTES] = block[..NONCE_BYTES].try_into().expect("a nonce has its length");
    let iv: [u8; IV_BYTES] = block[NONCE_BYTES..BLOCK_OVERHEAD].try_into().expect("an IV has its length");
    debug_assert_eq!(associated.len(), HEADER_BYTES + 32);
    siv.open_in_place(&[&associated, &nonce], &iv, &mut block[BLOCK_OVERHEAD..]).map_err(|_| Error::Object {
        object: name.to_string(),
        source: crate::format::Error::Forged { what: "block" },
    })?;
    block.drain(..BLOCK_OVERHEAD);
    Ok(block)
}

/// Says where a block is, for people.
pub fn block_name(pack: PackId, offset: u64) -> String {
    format!("block at byte {offset} of packs/{pack}")
}

/// Makes sure that the key of a block is at hand: one of a session travels in the directory of the block's pack.
pub fn learn_key(repository: &Repository, place: &Place) -> Result<()> {
    let (store, keyring) = (repository.store(), repository.keyring());
    if keyring.knows(place.key) {
        return Ok(());
    }
    let size_bytes = store.size(&pack_key(place.pack))?;
    read_directory(&**store, keyring, place.pack, size_bytes).map(drop)
}

/// Reads and opens the block that `place` lies in.
pub fn read_block(repository: &Repository, place: &Place) -> Result<Vec<u8>> {
    learn_key(repository, place)?;
    let block = repository.store().get_range(&pack_key(place.pack), place.block_offset, place.block_length as usize)?;
    open_block_of(repository, place, block)
}

/// Opens the block that `place` lies in.
pub fn open_block_of(repository: &Repository, place: &Place, block: Vec<u8>) -> Result<Vec<u8>> {
    let name = block_name(place.pack, place.block_offset);
    open_block(repository.keyring(), block_kind(role_of(place.kind)), place.key, block, &name)
}

/// Decodes the frame of `place` out of its block's plaintext, onto `bases`.
pub fn decode_frame(
    decompressor: &mut Decompressor,
    place: &Place,
    block: &[u8],
    bases: &[&[u8]],
    frame: &mut Vec<u8>,
) -> Result<()> {
    let name = || block_name(place.pack, place.block_offset);
    let end = place.frame_offset as usize + place.frame_length as usize;
    let stored = block
        .get(place.frame_offset as usize..end)
        .ok_or_else(|| Error::damaged(name(), "a frame reaches beyond its end"))?;
    decompressor
        .decompress(place.encoding, stored, bases, place.raw_length as usize, frame)
        .map_err(|error| Error::damaged(name(), error))
}

/// The blob of `place` in its decoded frame, if its name is right.
pub fn cut_blob<'f>(repository: &Repository, place: &Place, id: &BlobId, frame: &'f [u8]) -> Result<&'f [u8]> {
    let name = || block_name(place.pack, place.block_offset);
    let end = place.offset as usize + place.length as usize;
    let blob = frame
        .get(place.offset as usize..end)
        .ok_or_else(|| Error::damaged(name(), format!("blob {id} lies outside its frame")))?;
    if repository.keyring().naming().blob_id(blob) == *id {
        Ok(blob)
    } else {
        Err(Error::damaged(name(), format!("what should be blob {id} has another name")))
    }
}

/// Whether a place's frame needs bases.
pub fn needs_bases(place: &Place) -> bool {
    place.encoding == Encoding::ZstdOnBases
}
