//! Packs in the making: sealed blocks go in, an object with its directory comes out.

use super::error::{Error, Result};
use super::pack_cache::{Keeping, PackCache};
use super::pack_reader::{block_kind, open_block};
use super::{Keyring, Repository, parity};
use crate::base::{BlobId, KeyId, Kind, Mark, PackId, SessionId, random};
use crate::crypto::names::PackHasher;
use crate::format::cbor::{Bytes, Cbor, Unknown};
use crate::format::container::{self, LEAD_BYTES};
use crate::format::envelope::{self, BLOCK_OVERHEAD, IV_BYTES, NONCE_BYTES, ObjectKind};
use crate::format::pack::{Blob, BlobKind, Block, Chain, Directory, Encoding, Frame, MAX_BLOBS, Role};
use crate::format::parity::{Shape, Share};
use crate::format::segment::PackRow;
use crate::store::{Area, Key, ObjectStore, Upload};
use std::io::Write;
use std::sync::Arc;

/// What a pack grows to in a small repository. Larger ones get larger packs, since requests cost money.
pub const TARGET_BYTES: u64 = 32 << 20;
/// The most that a pack grows to.
pub const MAX_TARGET_BYTES: u64 = 256 << 20;
/// Every store takes a pack at once, also when its last block and its directory come on top: no store needs uploads in
/// parts, and none can be left half done.
const _: () = assert!(2 * MAX_TARGET_BYTES <= crate::store::MAX_PUT_BYTES);
/// About what a blob takes in a directory, marks and frame included.
const DIRECTORY_ENTRY_BYTES: u64 = 80;

/// How large packs should become in a repository of `repository_bytes`: so that there are some ten thousand at most,
/// and always a power of two, which is a Padmé length.
pub fn target_bytes(repository_bytes: u64) -> u64 {
    (repository_bytes / 8192).next_power_of_two().clamp(TARGET_BYTES, MAX_TARGET_BYTES)
}

/// A blob in a block that is not in a pack yet.
#[derive(Clone, Copy, Debug)]
pub struct PlacedBlob {
    /// Its name.
    pub id: BlobId,
    /// What it is.
    pub kind: BlobKind,
    /// Where it begins in the decoded frame.
    pub offset: u32,
    /// Its length.
    pub length: u32,
    /// What stood before its start.
    pub start: Option<Mark>,
    /// What stood before its end.
    pub end: Option<Mark>,
}

/// A frame in a block that is not in a pack yet.
#[derive(Clone, Debug)]
pub struct PlacedFrame {
    /// Where it begins in the block's plaintext.
    pub offset: u32,
    /// Its bytes there.
    pub length: u32,
    /// Its bytes when decoded.
    pub raw_length: u32,
    /// How it is stored.
    pub encoding: Encoding,
    /// Its bases.
    pub chain: Option<Chain>,
    /// What it holds.
    pub blobs: Vec<PlacedBlob>,
}

/// A block, sealed: nonce, synthetic IV, ciphertext.
pub struct SealedBlock {
    /// The bytes.
    pub bytes: Vec<u8>,
    /// The key that it is sealed under.
    pub key: KeyId,
    /// What it holds.
    pub frames: Vec<PlacedFrame>,
}

/// Seals the frames in `plain` as one block, and opens it again to see that it can be read.
pub fn seal_block(keyring: &Keyring, role: Role, plain: &[u8], frames: Vec<PlacedFrame>) -> Result<SealedBlock> {
    let kind = block_kind(role);
    let key = keyring.current(kind);
    let siv = keyring.siv(key, kind, &"a new block")?;
    let associated = envelope::block_associated(kind, key, keyring.repository());
    let nonce = random::bytes::<NONCE_BYTES>();
    let mut bytes = Vec::with_capacity(BLOCK_OVERHEAD + plain.len());
    bytes.extend_from_slice(&nonce);
    bytes.extend_from_slice(&[0; IV_BYTES]);
    bytes.extend_from_slice(plain);
    let iv = siv.seal_in_place(&[&associated, &nonce], &mut bytes[BLOCK_OVERHEAD..]);
    bytes[NONCE_BYTES..BLOCK_OVERHEAD].copy_from_slice(&iv);
    match open_block(keyring, kind, key, bytes.clone(), &"a new block") {
        Ok(opened) if opened == plain => Ok(SealedBlock { bytes, key, frames }),
        _ => Err(Error::Internal(
            "a block that was just sealed does not open: this points to faulty memory or a faulty processor".to_owned(),
        )),
    }
}

impl SealedBlock {
    fn blobs(&self) -> usize {
        self.frames.iter().map(|frame| frame.blobs.len()).sum()
    }
}

/// A pack in the making.
pub struct PackWriter {
    at_hand: Option<Arc<PackCache>>,
    upload: Box<dyn Upload>,
    hasher: PackHasher,
    offset: u64,
    target_bytes: u64,
    directory: Directory,
    keeping: Option<Keeping>,
    parity: Option<(Arc<dyn ObjectStore>, Share)>,
}

/// A pack whose bytes are all written, not stored yet.
pub struct FilledPack {
    upload: Box<dyn Upload>,
    /// Its name, size and role.
    pub row: PackRow,
    /// Its directory.
    pub directory: Directory,
    kept: Option<(Arc<PackCache>, Keeping)>,
    parity: Option<(Arc<dyn ObjectStore>, Share)>,
}

impl PackWriter {
    /// Begins a pack of up to `target_bytes`.
    pub fn begin(repository: &Repository, role: Role, session: SessionId, target_bytes: u64) -> Result<PackWriter> {
        let directory = Directory {
            session,
            role,
            keys: Vec::new(),
            blocks: Vec::new(),
            frames: Vec::new(),
            blobs: Vec::new(),
            wraps: Vec::new(),
            written_ns: repository.now_ns(),
            note: Bytes::default(),
            voucher: None,
            unknown: Unknown::none(),
        };
        let upload = repository.store().begin()?;
        let at_hand = repository.at_hand().filter(|_| role == Role::Metadata).cloned();
        let keeping = at_hand.as_ref().and_then(|cache| cache.begin_pack());
        let hasher = PackHasher::new();
        let parity = parity::share(repository.config()).map(|share| (repository.store().clone(), share));
        let mut pack = PackWriter { at_hand, upload, hasher, offset: 0, target_bytes, directory, keeping, parity };
        pack.write(&random::bytes::<LEAD_BYTES>())?;
        Ok(pack)
    }

    fn write(&mut self, bytes: &[u8]) -> Result<()> {
        self.upload
            .write_all(bytes)
            .map_err(|error| crate::store::Error::new(Kind::of_io(&error), "write", "a pack", error))?;
        self.hasher.update(bytes);
        if let Some(keeping) = &mut self.keeping {
            keeping.write(bytes);
        }
        self.offset += bytes.len() as u64;
        Ok(())
    }

    /// Whether `block` still fits; an empty pack takes any block.
    pub fn has_room(&self, block: &SealedBlock) -> bool {
        let blobs = self.directory.blobs.len() + block.blobs();
        let bytes = self.offset + block.bytes.len() as u64 + blobs as u64 * DIRECTORY_ENTRY_BYTES;
        self.directory.blocks.is_empty() || (bytes <= self.target_bytes && blobs <= MAX_BLOBS)
    }

    /// Writes a block; gives back its bytes, which nobody needs any more.
    pub fn add(&mut self, block: SealedBlock) -> Result<Vec<u8>> {
        let key = self.key_number(block.key);
        let number = |count: usize| u32::try_from(count).expect("a pack has far fewer than 2^32 parts");
        let block_number = number(self.directory.blocks.len());
        self.directory.blocks.push(Block { offset: self.offset, length: number(block.bytes.len()), key });
        for frame in block.frames {
            let frame_number = number(self.directory.frames.len());
            self.directory.blobs.extend(frame.blobs.iter().map(|blob| Blob {
                id: blob.id,
                kind: blob.kind,
                frame: frame_number,
                offset: blob.offset,
                length: blob.length,
                start: blob.start,
                end: blob.end,
            }));
            self.directory.frames.push(Frame {
                block: block_number,
                offset: frame.offset,
                length: frame.length,
                raw_length: frame.raw_length,
                encoding: frame.encoding,
                chain: frame.chain,
            });
        }
        self.write(&block.bytes)?;
        Ok(block.bytes)
    }

    fn key_number(&mut self, key: KeyId) -> u32 {
        let keys = &mut self.directory.keys;
        let place = keys.iter().position(|known| *known == key).unwrap_or_else(|| {
            keys.push(key);
            keys.len() - 1
        });
        u32::try_from(place).expect("a pack has a handful of keys")
    }

    /// Writes the directory and the trailer.
    pub fn fill(mut self, keyring: &Keyring) -> Result<FilledPack> {
        let wraps = self.directory.keys.iter().filter_map(|key| keyring.wrap_of(*key));
        self.directory.wraps = wraps.cloned().collect();
        keyring.vouch(&self.hasher.clone().finish(), &mut self.directory)?;
        let content = self.directory.to_cbor();
        let length = container::directory_bytes(self.offset, content.len());
        let key = keyring.current(ObjectKind::Directory);
        let siv = keyring.siv(key, ObjectKind::Directory, &"a new pack")?;
        let repository = keyring.repository();
        let sealed = envelope::seal_padded(ObjectKind::Directory, repository, key, &siv, &content, length, None);
        self.write(&sealed)?;
        self.write(&container::trailer(ObjectKind::Directory, length))?;
        let row = PackRow {
            id: PackId(self.hasher.finish()),
            size_bytes: self.offset,
            role: self.directory.role,
            written_ns: self.directory.written_ns,
        };
        let kept = self.at_hand.zip(self.keeping);
        Ok(FilledPack { upload: self.upload, row, directory: self.directory, kept, parity: self.parity })
    }
}

impl FilledPack {
    /// Stores it. From here on it is there, even if the machine goes down. Then its sidecar is stored, if packs get one:
    /// a crash in between leaves a pack without, which `keepstone parity` makes later.
    pub fn store(mut self) -> Result<(PackRow, Directory)> {
        let sidecar = self.sidecar()?;
        self.upload.finish(&Key::new(Area::Packs, self.row.id))?;
        if let Some(sidecar) = sidecar {
            sidecar.finish(&parity::sidecar_key(self.row.id))?;
        }
        if let Some((cache, keeping)) = self.kept {
            cache.finish_pack(keeping, self.row.id);
        }
        Ok((self.row, self.directory))
    }

    /// Makes the sidecar while the pack's bytes still lie here.
    fn sidecar(&mut self) -> Result<Option<Box<dyn Upload>>> {
        let Some((store, share)) = &self.parity else { return Ok(None) };
        let Some(shape) = Shape::new(self.row.size_bytes, *share) else { return Ok(None) };
        let upload = &mut self.upload;
        let read = &mut |offset: u64, bytes: &mut [u8]| {
            let read = upload.read_back(offset, bytes);
            read.map_err(|error| crate::store::Error::new(Kind::of_io(&error), "read", "a pack", error).into())
        };
        parity::make(&**store, self.row.id, shape, read).map(Some)
    }
}
