//! Single blobs read: found in the index, opened, decoded with their bases, and proven by their name.
//!
//! This is the road for trees, for bases and for a file here and there; restoring and verifying whole snapshots
//! plan their reads by pack. Decoded frames stay in a cache of a fixed number of bytes, so neighbours cost nothing.

use super::Repository;
use super::error::{Error, Result};
use super::index::{Index, Marks, Place};
use super::pack_reader::{cut_blob, decode_frame, read_block};
use super::trees::GetBlob;
use crate::base::{BlobId, Kind, PackId};
use crate::compress::Decompressor;
use crate::format::pack::{BlobKind, MAX_CHAIN_DEPTH};
use std::collections::HashMap;
use std::ops::{Deref, Range};
use std::sync::Arc;

/// The most frames decoded for one blob. Two bases each would allow 2^64 for the deepest chain; neighbours share
/// theirs, so an honest chain needs a few hundred.
const MAX_STEPS: usize = 4096;

/// The bytes of a blob, shared with the frame that they lie in.
#[derive(Clone, Debug)]
pub struct BlobBytes {
    frame: Arc<Vec<u8>>,
    start: usize,
    end: usize,
}

impl BlobBytes {
    /// Bytes that stand alone.
    pub fn whole(bytes: Vec<u8>) -> BlobBytes {
        BlobBytes { start: 0, end: bytes.len(), frame: Arc::new(bytes) }
    }

    /// A part of bytes that others have parts of too.
    pub fn part(bytes: &Arc<Vec<u8>>, part: Range<usize>) -> BlobBytes {
        assert!(part.start <= part.end && part.end <= bytes.len(), "a part lies in the whole");
        BlobBytes { frame: bytes.clone(), start: part.start, end: part.end }
    }
}

impl Deref for BlobBytes {
    type Target = [u8];
    fn deref(&self) -> &[u8] {
        &self.frame[self.start..self.end]
    }
}

/// Where a frame lies: pack, block, place in the block.
type FrameKey = (PackId, u64, u32);

/// Reads blobs one by one. Each thread has its own.
pub struct BlobReader {
    repository: Arc<Repository>,
    index: Arc<Index>,
    decompressor: Decompressor,
    frames: Cache<FrameKey>,
    blocks: Cache<(PackId, u64)>,
    steps: usize,
}

impl BlobReader {
    /// A reader that keeps up to `cache_bytes` of decoded frames.
    pub fn new(repository: Arc<Repository>, index: Arc<Index>, cache_bytes: usize) -> BlobReader {
        BlobReader {
            repository,
            index,
            decompressor: Decompressor::new(),
            frames: Cache::new(cache_bytes - cache_bytes / 4),
            blocks: Cache::new(cache_bytes / 4),
            steps: 0,
        }
    }

    /// The marks of a blob; none if it is unknown.
    pub fn marks(&self, id: &BlobId) -> Result<Marks> {
        self.index.marks(id)
    }

    /// Reads a blob and proves its name. A place that is damaged is told to the index; another copy may do.
    pub fn read(&mut self, id: &BlobId) -> Result<BlobBytes> {
        self.steps = 0;
        self.read_at_depth(id, 0)
    }

    fn read_at_depth(&mut self, id: &BlobId, depth: u32) -> Result<BlobBytes> {
        let mut failure = Error::Missing(*id);
        for place in self.index.places(id)? {
            match self.read_place(&place, id, depth) {
                Ok(blob) => return Ok(blob),
                Err(error) if matches!(error.kind(), Kind::Damaged | Kind::NotFound) => {
                    self.index.mark_damaged(&place.pack, place.block_offset)?;
                    failure = error;
                }
                Err(error) => return Err(error),
            }
        }
        // A snapshot that was made beside a prune may need what is condemned; then it is spared, and there meanwhile.
        for place in self.index.void_places(id)? {
            match self.read_place(&place, id, depth) {
                Err(error) if matches!(error.kind(), Kind::Damaged | Kind::NotFound) => {}
                other => return other,
            }
        }
        Err(failure)
    }

    fn read_place(&mut self, place: &Place, id: &BlobId, depth: u32) -> Result<BlobBytes> {
        let key = (place.pack, place.block_offset, place.frame_offset);
        let frame = match self.frames.get(&key) {
            Some(frame) => frame,
            None => {
                let frame = Arc::new(self.decode(place, id, depth)?);
                self.frames.put(key, frame.clone());
                frame
            }
        };
        cut_blob(&self.repository, place, id, &frame)?;
        let start = place.offset as usize;
        Ok(BlobBytes { frame, start, end: start + place.length as usize })
    }

    fn decode(&mut self, place: &Place, id: &BlobId, depth: u32) -> Result<Vec<u8>> {
        self.steps += 1;
        if depth > MAX_CHAIN_DEPTH || self.steps > MAX_STEPS {
            return Err(Error::damaged(format!("blob {id}"), "its chain of bases is too long or runs in a circle"));
        }
        let mut bases = Vec::new();
        for base in place.chain.iter().flat_map(|chain| &chain.bases) {
            bases.push(self.read_at_depth(base, depth + 1)?);
        }
        let bases: Vec<&[u8]> = bases.iter().map(|base| &**base).collect();
        let block = self.block(place)?;
        let mut frame = Vec::new();
        decode_frame(&mut self.decompressor, place, &block, &bases, &mut frame)?;
        Ok(frame)
    }

    fn block(&mut self, place: &Place) -> Result<Arc<Vec<u8>>> {
        let key = (place.pack, place.block_offset);
        if let Some(block) = self.blocks.get(&key) {
            return Ok(block);
        }
        let block = Arc::new(read_block(&self.repository, place)?);
        self.blocks.put(key, block.clone());
        Ok(block)
    }
}

impl GetBlob for BlobReader {
    fn get(&mut self, id: &BlobId, _: BlobKind) -> Result<BlobBytes> {
        self.read(id)
    }
}

/// Keeps the most recently used byte strings, up to a number of bytes.
struct Cache<K> {
    limit_bytes: usize,
    held_bytes: usize,
    clock: u64,
    held: HashMap<K, (u64, Arc<Vec<u8>>)>,
}

impl<K: Copy + Eq + std::hash::Hash> Cache<K> {
    fn new(limit_bytes: usize) -> Cache<K> {
        Cache { limit_bytes, held_bytes: 0, clock: 0, held: HashMap::new() }
    }

    fn get(&mut self, key: &K) -> Option<Arc<Vec<u8>>> {
        self.clock += 1;
        let (used, bytes) = self.held.get_mut(key)?;
        *used = self.clock;
        Some(bytes.clone())
    }

    fn put(&mut self, key: K, bytes: Arc<Vec<u8>>) {
        if bytes.len() > self.limit_bytes {
            return;
        }
        self.clock += 1;
        self.held_bytes += bytes.len();
        if let Some((_, before)) = self.held.insert(key, (self.clock, bytes)) {
            self.held_bytes -= before.len();
        }
        while self.held_bytes > self.limit_bytes {
            // Frames are large, so there are few: a look through all of them is cheaper than a list to keep.
            let Some(oldest) = self.held.iter().min_by_key(|(_, (used, _))| *used).map(|(key, _)| *key) else { return };
            if let Some((_, gone)) = self.held.remove(&oldest) {
                self.held_bytes -= gone.len();
            }
        }
    }
}
