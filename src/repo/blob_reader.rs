//! Single blobs read: found in the index, opened, decoded with their bases, and proven by their name.
//!
//! This is the road for trees, for bases and for a file here and there; restoring and verifying whole snapshots
//! plan their reads by pack. Decoded frames stay in a cache of a fixed number of bytes, so neighbours cost nothing.
//!
//! From a remote store, trees and lists come through what is kept at hand ([`PackCache`]). When something is not there,
//! a reader that walks reads with it, in the same round trip, what the walk will come to: whoever walks says what is to
//! be expected, and what comes says what is beneath it.

use super::Repository;
use super::error::{Error, Result};
use super::index::{Index, Marks, OwnCache, Place};
use super::pack_cache::{PackCache, PackSizes, Piece};
use super::pack_reader::{cut_blob, decode_frame, open_block_of, pack_key, read_block, role_of};
use super::trees::{self, GetBlob};
use crate::base::{BlobId, Kind, PackId, side_by_side};
use crate::compress::Decompressor;
use crate::format::pack::{BlobKind, MAX_CHAIN_DEPTH, Role};
use crate::format::tree::TreePiece;
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet, VecDeque};
use std::ops::{Deref, Range};
use std::sync::Arc;

/// The most frames decoded for one blob. Two bases each would allow 2^64 for the deepest chain; neighbours share
/// theirs, so an honest chain needs a few hundred.
const MAX_STEPS: usize = 4096;
/// Bytes of blocks that are read ahead for bases.
const MOST_BYTES_AHEAD: usize = 8 << 20;
/// Chunks and bases that are looked up for that.
const MOST_STEPS_AHEAD: usize = 2048;
/// A gap that is read rather than left out: cheaper than another request.
const GAP_BYTES: u64 = 64 << 10;
/// What is read at once for bases has about so many bytes.
const SPAN_BYTES: u64 = 2 << 20;
/// Trees and lists that a reader remembers to come.
const MOST_EXPECTED: usize = 4096;
/// Pieces of packs that are read ahead at once.
const MOST_PIECES: usize = 256;
/// Levels of directories that are read ahead at once.
const MOST_LEVELS: usize = 24;

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
    at_hand: Option<Arc<PackCache>>,
    own: Option<Arc<OwnCache>>,
    sizes: PackSizes,
    /// What a walk will come to; none for a reader that does not walk.
    expected: Option<VecDeque<BlobId>>,
    /// Sealed blocks that were read ahead.
    ahead: HashMap<(PackId, u64), Vec<u8>>,
}

impl BlobReader {
    /// A reader that keeps up to `cache_bytes` of decoded frames.
    pub fn new(repository: Arc<Repository>, index: Arc<Index>, cache_bytes: usize) -> BlobReader {
        BlobReader {
            at_hand: repository.at_hand().cloned(),
            own: repository.own().cloned(),
            repository,
            index,
            decompressor: Decompressor::new(),
            frames: Cache::new(cache_bytes - cache_bytes / 4),
            blocks: Cache::new(cache_bytes / 4),
            steps: 0,
            sizes: PackSizes::default(),
            expected: None,
            ahead: HashMap::new(),
        }
    }

    /// For who walks whole trees: what will be read is read ahead, where that saves round trips.
    pub fn walking(mut self) -> BlobReader {
        self.expected = self.at_hand.is_some().then(VecDeque::new);
        self
    }

    /// For who wants to know what is in the store: nothing that was kept on this machine is used.
    pub fn from_store_alone(mut self) -> BlobReader {
        self.at_hand = self.at_hand.map(|_| Arc::new(PackCache::in_memory()));
        self
    }

    /// The marks of a blob; none if it is unknown.
    pub fn marks(&self, id: &BlobId) -> Result<Marks> {
        self.index.marks(id)
    }

    /// Reads a blob and proves its name. A place that is damaged is told to the index; another copy may do.
    pub fn read(&mut self, id: &BlobId) -> Result<BlobBytes> {
        self.steps = 0;
        let Some(own) = &self.own else { return self.read_at_depth(id, 0) };
        if let Some(bytes) = own.get(id) {
            return Ok(BlobBytes::whole(bytes));
        }
        // What it stored in this run it can read; what its cache has lost is as good as damaged.
        self.read_at_depth(id, 0).map_err(|error| match error {
            Error::NotGranted { object, .. } => {
                Error::damaged(object, "the cache of this write-only key has lost a part of it")
            }
            other => other,
        })
    }

    /// Reads a blob at this very place and proves its name there. Nobody is told if it does not hold.
    pub fn prove(&mut self, place: &Place, id: &BlobId) -> Result<()> {
        self.steps = 0;
        self.read_place(place, id, 0).map(drop)
    }

    /// Reads ahead, several at once, the blocks in which these chunks and all their bases lie, as many as may be in
    /// memory; which those are the index knows. Nothing is done where a store answers at once.
    pub fn read_bases_ahead(&mut self, ids: &[BlobId]) -> Result<()> {
        if !self.repository.store().is_remote() {
            return Ok(());
        }
        let mut wanted = self.blocks_of(ids)?;
        // What was read ahead and is not needed makes room.
        self.ahead.retain(|key, _| wanted.remove(key).is_some());
        let mut spans: Vec<Span> = Vec::new();
        for ((pack, offset), length) in wanted {
            match spans.last_mut().filter(|span| span.takes(&pack, offset)) {
                Some(span) => span.add(offset, length),
                None => spans.push(Span { pack, offset, length: u64::from(length), blocks: vec![(offset, length)] }),
            }
        }
        let store = &**self.repository.store();
        let came = side_by_side(store.requests_at_once(), &spans, |span| {
            store.get_range(&pack_key(span.pack), span.offset, span.length as usize)
        });
        for (span, bytes) in spans.iter().zip(came) {
            // A failure shows when the block is read by itself.
            let Ok(bytes) = bytes else { continue };
            for (offset, length) in &span.blocks {
                let from = (offset - span.offset) as usize;
                self.ahead.insert((span.pack, *offset), bytes[from..from + *length as usize].to_vec());
            }
        }
        Ok(())
    }

    /// Whether a place can be read without asking the store, its bases aside.
    pub fn has_at_hand(&self, place: &Place) -> bool {
        let key = (place.pack, place.block_offset);
        self.frames.held.contains_key(&(place.pack, place.block_offset, place.frame_offset))
            || self.blocks.held.contains_key(&key)
            || self.ahead.contains_key(&key)
    }

    /// The blocks that have to be read for these chunks and their bases, with their lengths.
    fn blocks_of(&self, ids: &[BlobId]) -> Result<BTreeMap<(PackId, u64), u32>> {
        let mut wanted = BTreeMap::new();
        let mut seen = HashSet::new();
        let mut waiting: Vec<BlobId> = ids.iter().rev().copied().collect();
        let mut bytes = 0;
        while let Some(id) = waiting.pop() {
            if !seen.insert(id) || seen.len() > MOST_STEPS_AHEAD {
                continue;
            }
            let Some(place) = self.index.places(&id)?.into_iter().next() else { continue };
            waiting.extend(place.chain.iter().flat_map(|chain| &chain.bases));
            let key = (place.pack, place.block_offset);
            let frame = (place.pack, place.block_offset, place.frame_offset);
            if self.frames.held.contains_key(&frame) || self.blocks.held.contains_key(&key) {
                continue;
            }
            if wanted.insert(key, place.block_length).is_none() {
                bytes += place.block_length as usize;
            }
            if bytes >= MOST_BYTES_AHEAD {
                break;
            }
        }
        Ok(wanted)
    }

    fn read_at_depth(&mut self, id: &BlobId, depth: u32) -> Result<BlobBytes> {
        let mut failure = Error::Missing(*id);
        let tried = self.index.places(id)?;
        for place in &tried {
            match self.try_place(place, id, depth) {
                Ok(blob) => return Ok(blob),
                Err(error) if is_lost(&error) => {
                    self.index.mark_damaged(&place.pack, place.block_offset)?;
                    failure = error;
                }
                Err(error) => return Err(error),
            }
        }
        // A snapshot that was made beside a prune may need what is condemned; then it is spared, and there meanwhile.
        for place in self.index.void_places(id)? {
            match self.read_place(&place, id, depth) {
                Err(error) if is_lost(&error) => {}
                other => return other,
            }
        }
        // What could not be read once may be there again: a disk that was away, an object that somebody has put back.
        for place in self.index.damaged_places(id)? {
            let is_new = |one: &Place| (one.pack, one.block_offset) != (place.pack, place.block_offset);
            if !tried.iter().all(is_new) {
                continue;
            }
            match self.read_place(&place, id, depth) {
                Err(error) if is_lost(&error) => failure = error,
                other => return other,
            }
        }
        // A pack that the index has and the store has not is no pack that somebody asked for in vain.
        Err(match failure {
            Error::Store(gone) if gone.kind() == Kind::NotFound => Error::Gone(gone),
            failure => failure,
        })
    }

    /// Reads a place. What was kept at hand proves nothing: where it does not hold, the store is asked.
    fn try_place(&mut self, place: &Place, id: &BlobId, depth: u32) -> Result<BlobBytes> {
        let read = self.read_place(place, id, depth);
        let Some(at_hand) = self.at_hand_for(place) else { return read };
        match read {
            Err(error) if is_lost(&error) => {
                if let Some(pack_bytes) = self.sizes.of(&self.index, &place.pack)? {
                    at_hand.forget(place.pack, pack_bytes, place.block_offset, u64::from(place.block_length));
                }
                self.frames.remove(&(place.pack, place.block_offset, place.frame_offset));
                self.blocks.remove(&(place.pack, place.block_offset));
                self.read_place(place, id, depth)
            }
            other => other,
        }
    }

    fn at_hand_for(&self, place: &Place) -> Option<Arc<PackCache>> {
        self.at_hand.clone().filter(|_| role_of(place.kind) == Role::Metadata)
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
        let sealed = match self.ahead.remove(&key) {
            Some(sealed) => Some(sealed),
            None => self.sealed_at_hand(place)?,
        };
        let block = match sealed {
            Some(sealed) => open_block_of(&self.repository, place, sealed)?,
            None => read_block(&self.repository, place)?,
        };
        let block = Arc::new(block);
        self.blocks.put(key, block.clone());
        Ok(block)
    }

    /// A block of metadata out of what is kept at hand, into which it is read if need be.
    fn sealed_at_hand(&mut self, place: &Place) -> Result<Option<Vec<u8>>> {
        let Some(at_hand) = self.at_hand_for(place) else { return Ok(None) };
        let Some(pack_bytes) = self.sizes.of(&self.index, &place.pack)? else { return Ok(None) };
        let (offset, length) = (place.block_offset, place.block_length as usize);
        if let Some(sealed) = at_hand.find(place.pack, pack_bytes, offset, length) {
            return Ok(Some(sealed));
        }
        let mut pieces = BTreeSet::from_iter(Piece::of(place.pack, pack_bytes, offset, length as u64));
        let mut expected = self.expected.as_mut().map(std::mem::take).unwrap_or_default();
        let ahead = self.missing(&at_hand, expected.make_contiguous(), &mut pieces)?;
        if self.expected.is_some() {
            // What there was no room for is still to come.
            let left = expected.split_off(ahead.looked_at);
            self.expected = Some(left);
        }
        // A failure concerns what was asked for; it shows when that is read by itself.
        let came = at_hand.fetch(&**self.repository.store(), &pieces);
        if came.is_ok() {
            self.read_beneath(&at_hand, ahead.waiting)?;
        }
        Ok(at_hand.find(place.pack, pack_bytes, offset, length))
    }

    /// Adds the pieces that are missing for some of `ids` to `pieces`, as many as can be kept; gives what they are for.
    fn missing(&mut self, at_hand: &PackCache, ids: &[BlobId], pieces: &mut BTreeSet<Piece>) -> Result<Missing> {
        let most = at_hand.ahead_bytes();
        let mut bytes: usize = pieces.iter().map(|piece| piece.length).sum();
        let mut waiting = Vec::new();
        for (looked_at, id) in ids.iter().enumerate() {
            let place = self.index.places(id)?.into_iter().next();
            let Some(place) = place.filter(|place| role_of(place.kind) == Role::Metadata) else { continue };
            let Some(pack_bytes) = self.sizes.of(&self.index, &place.pack)? else { continue };
            let of_place = Piece::of(place.pack, pack_bytes, place.block_offset, u64::from(place.block_length));
            let missing: Vec<Piece> =
                of_place.into_iter().filter(|piece| pieces.contains(piece) || !at_hand.has(piece)).collect();
            if missing.is_empty() {
                continue;
            }
            bytes += missing.iter().filter(|piece| !pieces.contains(piece)).map(|piece| piece.length).sum::<usize>();
            if bytes > most || pieces.len() >= MOST_PIECES {
                return Ok(Missing { waiting, looked_at });
            }
            pieces.extend(missing);
            waiting.push((place, *id));
        }
        Ok(Missing { waiting, looked_at: ids.len() })
    }

    /// Reads what lies beneath trees that have just come, level by level, as long as something is missing.
    fn read_beneath(&mut self, at_hand: &PackCache, mut came: Vec<(Place, BlobId)>) -> Result<()> {
        for _ in 0..MOST_LEVELS {
            // In the order in which they lie, so that each frame is decoded once.
            came.sort_by_key(|(place, _)| (place.pack, place.block_offset, place.frame_offset, place.offset));
            let mut beneath = Vec::new();
            for (place, id) in &came {
                // What is not as it should be is found when the walk comes to it.
                let Ok(bytes) = self.read_kept(place, id) else { continue };
                if let Ok(piece) = TreePiece::decode(&bytes) {
                    beneath.extend(trees::named(&piece));
                }
                if beneath.len() >= MOST_EXPECTED {
                    break;
                }
            }
            let mut pieces = BTreeSet::new();
            came = self.missing(at_hand, &beneath, &mut pieces)?.waiting;
            if pieces.is_empty() || at_hand.fetch(&**self.repository.store(), &pieces).is_err() {
                return Ok(());
            }
        }
        Ok(())
    }

    /// A tree that is at hand.
    fn read_kept(&mut self, place: &Place, id: &BlobId) -> Result<BlobBytes> {
        let expected = self.expected.take();
        let read = self.read_place(place, id, 0);
        self.expected = expected;
        read
    }
}

/// Blocks of one pack that are read at once.
struct Span {
    pack: PackId,
    offset: u64,
    length: u64,
    blocks: Vec<(u64, u32)>,
}

impl Span {
    fn takes(&self, pack: &PackId, offset: u64) -> bool {
        let end = self.offset + self.length;
        self.pack == *pack && offset >= end && offset - end <= GAP_BYTES && self.length < SPAN_BYTES
    }

    fn add(&mut self, offset: u64, length: u32) {
        self.length = offset + u64::from(length) - self.offset;
        self.blocks.push((offset, length));
    }
}

/// What has to be read before some trees and lists are at hand.
struct Missing {
    /// Those, and where they lie.
    waiting: Vec<(Place, BlobId)>,
    /// How many were looked at before there was no more room.
    looked_at: usize,
}

impl GetBlob for BlobReader {
    fn get(&mut self, id: &BlobId, _: BlobKind) -> Result<BlobBytes> {
        self.read(id)
    }

    fn expect(&mut self, ids: &mut dyn Iterator<Item = BlobId>) {
        let Some(expected) = &mut self.expected else { return };
        // What is deepest comes first.
        for (place, id) in ids.take(MOST_EXPECTED).enumerate() {
            expected.insert(place, id);
        }
        expected.truncate(MOST_EXPECTED);
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

    fn remove(&mut self, key: &K) {
        if let Some((_, gone)) = self.held.remove(key) {
            self.held_bytes -= gone.len();
        }
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

/// Whether what was to be read is damaged or gone, and not the way to it.
fn is_lost(error: &Error) -> bool {
    matches!(error.kind(), Kind::Damaged | Kind::NotFound)
}
