//! The base cache: the newest version of what was stored on bases, whole, on the local disk.
//!
//! Next night's delta needs last night's chunk in full. Without this cache its whole chain has to be decoded, and
//! from a remote store be fetched first. It is only a cache: deleting it costs time, never data.
//!
//! Each run appends to one file of its own, `NAME.bases`:
//!
//! ```text
//! 16 bytes  "KEEP bases v1" and zeros
//! then for each chunk:
//!    32  blob id
//!     4  raw length, little-endian
//!     4  n, little-endian
//!     n  sealed block of kind `cached chunk`: one zstd frame
//! ```
//!
//! A chunk is used only when its bytes have the name that was asked for.

use super::Keyring;
use super::blob_reader::BlobBytes;
use super::error::Result;
use super::pack_reader::open_block;
use crate::base::{BlobId, random};
use crate::compress::{Compressor, Decompressor, Encoding, Level};
use crate::crypto::siv::Message;
use crate::format::envelope::{self, BLOCK_OVERHEAD, ObjectKind};
use std::collections::HashMap;
use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

const MAGIC: &[u8; 16] = b"KEEP bases v1\0\0\0";
const SUFFIX: &str = "bases";
const RECORD_BYTES: usize = 40;
/// The most chunks that are known at once: their table lies in memory (about 6 MiB).
const MAX_CHUNKS: usize = 100_000;
/// The largest chunk that is read.
const MAX_CHUNK_BYTES: u32 = 17 << 20;

#[derive(Clone, Copy)]
struct Kept {
    file: usize,
    offset: u64,
    length: u32,
    raw_length: u32,
}

/// The base cache of one repository.
pub struct BaseCache {
    folder: PathBuf,
    limit_bytes: u64,
    keyring: Arc<Keyring>,
    files: Vec<File>,
    chunks: HashMap<BlobId, Kept>,
    decompressor: Decompressor,
    log: ChunkLog,
}

struct Appending {
    path: PathBuf,
    file: BufWriter<File>,
}

/// The end of the cache that new chunks are appended to, shared with whoever appends them.
#[derive(Clone)]
pub struct ChunkLog(Arc<Mutex<Log>>);

struct Log {
    folder: PathBuf,
    appending: Option<Appending>,
    /// What may still be appended: a file that is larger than the cache may be would go at once.
    left_bytes: u64,
    failed: bool,
}

/// A chunk, sealed and ready to be appended.
pub struct SealedChunk {
    id: BlobId,
    raw_length: u32,
    sealed: Vec<u8>,
}

impl SealedChunk {
    /// Its bytes before it was sealed.
    pub fn raw_length(&self) -> u32 {
        self.raw_length
    }

    /// What is stored of it.
    pub fn sealed_bytes(&self) -> &[u8] {
        &self.sealed
    }
}

/// Opens what [`seal_chunk`] sealed; none if it does not hold.
pub fn open_chunk(
    keyring: &Keyring,
    decompressor: &mut Decompressor,
    sealed: Vec<u8>,
    raw_length: u32,
) -> Option<Vec<u8>> {
    let key = keyring.current(ObjectKind::Cached);
    let stored = open_block(keyring, ObjectKind::Cached, key, sealed, &"a cached chunk").ok()?;
    let (encoding, stored) = stored.split_first()?;
    let encoding = Encoding::try_from(*encoding).ok()?;
    let mut raw = Vec::new();
    decompressor.decompress(encoding, stored, &[], raw_length.min(MAX_CHUNK_BYTES) as usize, &mut raw).ok()?;
    Some(raw)
}

impl BaseCache {
    /// Opens the cache in `folder`, which is made if need be. What cannot be read is left out.
    pub fn open(folder: &Path, limit_bytes: u64, keyring: Arc<Keyring>) -> std::io::Result<BaseCache> {
        fs::create_dir_all(folder)?;
        let mut cache = BaseCache {
            folder: folder.to_owned(),
            limit_bytes,
            keyring,
            files: Vec::new(),
            chunks: HashMap::new(),
            decompressor: Decompressor::new(),
            log: ChunkLog(Arc::new(Mutex::new(Log {
                folder: folder.to_owned(),
                appending: None,
                left_bytes: limit_bytes,
                failed: false,
            }))),
        };
        // Oldest first, so that the newest version of a chunk wins.
        for (path, _, _) in files_by_age(folder)? {
            if let Ok(file) = File::open(path) {
                cache.learn(file);
            }
        }
        Ok(cache)
    }

    /// Reads where the chunks of a file lie; stops at the first thing that is not as it should be.
    fn learn(&mut self, file: File) {
        let mut magic = [0; MAGIC.len()];
        if file.read_exact_at(&mut magic, 0).is_err() || magic != *MAGIC {
            return;
        }
        let number = self.files.len();
        let mut offset = MAGIC.len() as u64;
        let mut head = [0; RECORD_BYTES];
        while self.chunks.len() < MAX_CHUNKS && file.read_exact_at(&mut head, offset).is_ok() {
            let id = BlobId::from_slice(&head[..32]).expect("32 bytes");
            let raw_length = u32::from_le_bytes(head[32..36].try_into().expect("4 bytes"));
            let length = u32::from_le_bytes(head[36..40].try_into().expect("4 bytes"));
            if raw_length > MAX_CHUNK_BYTES || length > MAX_CHUNK_BYTES {
                break;
            }
            offset += RECORD_BYTES as u64;
            self.chunks.insert(id, Kept { file: number, offset, length, raw_length });
            offset += u64::from(length);
        }
        self.files.push(file);
    }

    /// The chunk called `id`, if it is here and whole.
    pub fn get(&mut self, id: &BlobId) -> Option<BlobBytes> {
        let kept = *self.chunks.get(id)?;
        let chunk = self.read(&kept);
        let chunk = chunk.filter(|chunk| self.keyring.naming().blob_id(chunk) == *id);
        if chunk.is_none() {
            self.chunks.remove(id);
        }
        chunk.map(BlobBytes::whole)
    }

    fn read(&mut self, kept: &Kept) -> Option<Vec<u8>> {
        let mut sealed = vec![0; kept.length as usize];
        self.files.get(kept.file)?.read_exact_at(&mut sealed, kept.offset).ok()?;
        open_chunk(&self.keyring, &mut self.decompressor, sealed, kept.raw_length)
    }

    /// Where new chunks are appended.
    pub fn log(&self) -> ChunkLog {
        self.log.clone()
    }

    /// Ends this run's file and makes room: the oldest files go until the cache is within its limit.
    pub fn finish(&mut self) -> std::io::Result<()> {
        self.log.lock().finish()?;
        let files = files_by_age(&self.folder)?;
        let mut total: u64 = files.iter().map(|(_, _, bytes)| bytes).sum();
        for (path, _, bytes) in files {
            if total <= self.limit_bytes {
                break;
            }
            fs::remove_file(path)?;
            total -= bytes;
        }
        Ok(())
    }
}

impl ChunkLog {
    fn lock(&self) -> std::sync::MutexGuard<'_, Log> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Appends chunks. A disk that is full or broken ends the caching, not the run.
    pub fn append(&self, chunks: &[SealedChunk]) {
        let mut log = self.lock();
        for chunk in chunks {
            let bytes = (RECORD_BYTES + chunk.sealed.len()) as u64;
            log.left_bytes = log.left_bytes.saturating_sub(bytes);
            if log.left_bytes == 0 {
                return;
            }
            log.failed = log.failed || log.append(chunk).is_err();
        }
    }
}

impl Log {
    fn append(&mut self, chunk: &SealedChunk) -> std::io::Result<()> {
        let appending = match &mut self.appending {
            Some(appending) => appending,
            none => none.insert(begin_file(&self.folder)?),
        };
        let length = u32::try_from(chunk.sealed.len()).expect("a sealed chunk is at most 16 MiB and a bit");
        let file = &mut appending.file;
        file.write_all(&chunk.id.0)?;
        file.write_all(&chunk.raw_length.to_le_bytes())?;
        file.write_all(&length.to_le_bytes())?;
        file.write_all(&chunk.sealed)
    }

    /// Gives the file its name. A record that a full disk cut short is left out when the file is read.
    fn finish(&mut self) -> std::io::Result<()> {
        let Some(mut appending) = self.appending.take() else { return Ok(()) };
        let flushed = appending.file.flush();
        fs::rename(&appending.path, appending.path.with_extension(SUFFIX)).and(flushed)
    }
}

/// An unfinished file is of no use to anybody.
impl Drop for Log {
    fn drop(&mut self) {
        if let Some(appending) = self.appending.take() {
            let _ = fs::remove_file(appending.path);
        }
    }
}

fn begin_file(folder: &Path) -> std::io::Result<Appending> {
    let name = crate::base::ids::to_hex(&random::bytes::<8>());
    let path = folder.join(format!("{name}.writing"));
    let file = File::options().write(true).create_new(true).mode(0o600).open(&path)?;
    let mut file = BufWriter::with_capacity(256 << 10, file);
    file.write_all(MAGIC)?;
    Ok(Appending { path, file })
}

/// The finished files, oldest first, with their sizes.
fn files_by_age(folder: &Path) -> std::io::Result<Vec<(PathBuf, std::time::SystemTime, u64)>> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.extension().is_some_and(|suffix| suffix == SUFFIX) {
            let metadata = fs::symlink_metadata(&path)?;
            if metadata.is_file() {
                files.push((path, metadata.modified()?, metadata.len()));
            }
        }
    }
    files.sort_by(|one, other| (one.1, &one.0).cmp(&(other.1, &other.0)));
    Ok(files)
}

/// Seals a chunk for the cache. Pure work.
pub fn seal_chunk(keyring: &Keyring, compressor: &mut Compressor, id: BlobId, raw: &[u8]) -> Result<SealedChunk> {
    let mut stored = Vec::new();
    let encoding = compressor.compress(raw, &mut stored);
    let mut sealed = Vec::with_capacity(BLOCK_OVERHEAD + 1 + stored.len());
    let nonce = random::bytes();
    sealed.extend_from_slice(&nonce);
    sealed.extend_from_slice(&[0; 16]);
    sealed.push(encoding as u8);
    sealed.extend_from_slice(&stored);
    let key = keyring.current(ObjectKind::Cached);
    let siv = keyring.siv(key, ObjectKind::Cached, &"a cached chunk")?;
    let header = envelope::block_associated(ObjectKind::Cached, key, keyring.repository());
    let mut message = [Message { nonce, text: &mut sealed[BLOCK_OVERHEAD..], iv: [0; 16] }];
    siv.seal_many(&header, &mut message);
    let iv = message[0].iv;
    sealed[16..BLOCK_OVERHEAD].copy_from_slice(&iv);
    let raw_length = u32::try_from(raw.len()).expect("a chunk is at most 16 MiB");
    Ok(SealedChunk { id, raw_length, sealed })
}

/// How chunks in the cache are compressed: quickly, they will be read once.
pub const LEVEL: Level = Level::Quick;
