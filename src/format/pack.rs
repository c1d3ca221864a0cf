//! The directory of a pack: which blocks, frames and blobs it holds.
//!
//! The object itself is drawn in [`super::container`]. A block's plaintext is its frames, one after another.

use super::Error;
use super::cbor::{Bytes, Cbor, Reader, Writer, numbered, record};
use super::envelope::KeyWrap;
use crate::base::{BlobId, KeyId, Mark, SessionId};

numbered! {
    /// What a blob is.
    BlobKind {
        /// A chunk of a file or stream.
        Data = 0,
        /// A piece of a directory.
        Tree = 1,
        /// A piece of a list of chunks.
        List = 2,
    }
}

numbered! {
    /// What a pack is for. Data and metadata never share a pack.
    Role {
        /// Chunks.
        Data = 1,
        /// Trees and content lists.
        Metadata = 2,
    }
}

pub use crate::compress::Encoding;

impl Cbor for Encoding {
    fn write(&self, writer: &mut Writer) {
        writer.uint(*self as u64);
    }
    fn read(reader: &mut Reader<'_>) -> Result<Self, Error> {
        let number = reader.uint()?;
        let encoding = u8::try_from(number).ok().and_then(|number| Encoding::try_from(number).ok());
        encoding.ok_or_else(|| reader.bad(format!("a frame of encoding {number}, which this version does not know")))
    }
}

/// The most bytes that a frame may have when decoded.
pub const MAX_FRAME_RAW_BYTES: usize = 16 << 20;
/// The most bytes that a block may have in store.
pub const MAX_BLOCK_BYTES: usize = 32 << 20;
/// The most blobs in one pack, so that a directory stays small.
pub const MAX_BLOBS: usize = 65_536;
/// The longest chain of bases that a reader follows.
pub const MAX_CHAIN_DEPTH: u32 = 64;
/// The most bases of one blob.
pub const MAX_BASES: usize = 2;

/// One sealed block: `[offset, stored length, key]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Block {
    /// Where it begins in the pack, in bytes.
    pub offset: u64,
    /// Its bytes in the pack, nonce and synthetic IV included.
    pub length: u32,
    /// Which of the directory's keys it is sealed under.
    pub key: u32,
}

impl Cbor for Block {
    fn write(&self, writer: &mut Writer) {
        writer.array(3);
        writer.uint(self.offset);
        self.length.write(writer);
        self.key.write(writer);
    }
    fn read(reader: &mut Reader<'_>) -> Result<Self, Error> {
        expect_items(reader, &[3])?;
        Ok(Block { offset: reader.uint()?, length: u32::read(reader)?, key: u32::read(reader)? })
    }
}

/// What a frame on bases hangs on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chain {
    /// The bases, one or two, in the order in which they are joined.
    pub bases: Vec<BlobId>,
    /// How many frames on bases lie between here and a whole copy, this one included; at least 1.
    pub depth: u32,
    /// The stored bytes of all frames on bases in the longest chain, this one included.
    pub delta_bytes: u64,
    /// About how many bytes a whole copy of the blob would take.
    pub whole_bytes: u64,
}

/// One frame: `[block, offset, length, raw length, encoding]`, and for a frame on bases also
/// `[…, bases joined (32 bytes each), depth, delta bytes, whole bytes]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    /// Which block it lies in.
    pub block: u32,
    /// Where it begins in the block's plaintext.
    pub offset: u32,
    /// Its bytes there.
    pub length: u32,
    /// Its bytes when decoded.
    pub raw_length: u32,
    /// How it is stored.
    pub encoding: Encoding,
    /// Its bases: present exactly with [`Encoding::ZstdOnBases`].
    pub chain: Option<Chain>,
}

impl Cbor for Frame {
    fn write(&self, writer: &mut Writer) {
        writer.array(if self.chain.is_some() { 9 } else { 5 });
        for number in [self.block, self.offset, self.length, self.raw_length] {
            number.write(writer);
        }
        self.encoding.write(writer);
        if let Some(chain) = &self.chain {
            chain.write_items(writer);
        }
    }
    fn read(reader: &mut Reader<'_>) -> Result<Self, Error> {
        let items = expect_items(reader, &[5, 9])?;
        let mut frame = Frame {
            block: u32::read(reader)?,
            offset: u32::read(reader)?,
            length: u32::read(reader)?,
            raw_length: u32::read(reader)?,
            encoding: Encoding::read(reader)?,
            chain: None,
        };
        if items == 9 {
            frame.chain = Some(Chain::read_items(reader)?);
        }
        frame.check(reader)?;
        Ok(frame)
    }
}

impl Frame {
    fn check(&self, reader: &Reader<'_>) -> Result<(), Error> {
        if self.raw_length as usize > MAX_FRAME_RAW_BYTES {
            return Err(reader.bad(format!("a frame of {} bytes", self.raw_length)));
        }
        if self.offset.checked_add(self.length).is_none() {
            return Err(reader.bad("a frame reaches beyond any block"));
        }
        if self.chain.is_some() != (self.encoding == Encoding::ZstdOnBases) {
            return Err(reader.bad("bases belong to frames on bases and to no others"));
        }
        if self.encoding == Encoding::Raw && self.length != self.raw_length {
            return Err(reader.bad("a raw frame has another length than what it holds"));
        }
        Ok(())
    }
}

impl Chain {
    /// Writes the four items that a frame on bases has more than others.
    pub(super) fn write_items(&self, writer: &mut Writer) {
        writer.bytes(&join_ids(&self.bases));
        self.depth.write(writer);
        writer.uint(self.delta_bytes);
        writer.uint(self.whole_bytes);
    }

    /// Reads what [`Chain::write_items`] wrote.
    pub(super) fn read_items(reader: &mut Reader<'_>) -> Result<Chain, Error> {
        let bases = split_ids(reader)?;
        if !(1..=MAX_BASES).contains(&bases.len()) {
            return Err(reader.bad(format!("a frame on {} bases", bases.len())));
        }
        let depth = u32::read(reader)?;
        if !(1..=MAX_CHAIN_DEPTH).contains(&depth) {
            return Err(reader.bad(format!("a chain of depth {depth}")));
        }
        Ok(Chain { bases, depth, delta_bytes: reader.uint()?, whole_bytes: reader.uint()? })
    }
}

/// Ids joined into one byte string.
pub(super) fn join_ids(ids: &[BlobId]) -> Vec<u8> {
    ids.iter().flat_map(|id| id.0).collect()
}

/// A byte string of joined ids.
pub(super) fn split_ids(reader: &mut Reader<'_>) -> Result<Vec<BlobId>, Error> {
    let bytes = reader.bytes()?;
    if !bytes.len().is_multiple_of(BlobId::SIZE) {
        return Err(reader.bad(format!("{} bytes are no list of ids", bytes.len())));
    }
    Ok(bytes.chunks_exact(BlobId::SIZE).filter_map(BlobId::from_slice).collect())
}

/// Enters an array of one of the `allowed` lengths.
pub(super) fn expect_items(reader: &mut Reader<'_>, allowed: &[usize]) -> Result<usize, Error> {
    let items = reader.array()?;
    if allowed.contains(&items) { Ok(items) } else { Err(reader.bad(format!("{items} items in a row"))) }
}

/// One blob: `[id, kind, frame, offset, length]`, and if it has a mark also `[…, start mark, end mark]` with null
/// for the one that is not there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Blob {
    /// Its name.
    pub id: BlobId,
    /// What it is.
    pub kind: BlobKind,
    /// Which frame it lies in.
    pub frame: u32,
    /// Where it begins in the decoded frame.
    pub offset: u32,
    /// Its length in bytes.
    pub length: u32,
    /// What stood before its start.
    pub start: Option<Mark>,
    /// What stood before its end.
    pub end: Option<Mark>,
}

impl Cbor for Blob {
    fn write(&self, writer: &mut Writer) {
        let marked = self.start.is_some() || self.end.is_some();
        writer.array(if marked { 7 } else { 5 });
        self.id.write(writer);
        self.kind.write(writer);
        for number in [self.frame, self.offset, self.length] {
            number.write(writer);
        }
        if marked {
            self.start.write(writer);
            self.end.write(writer);
        }
    }
    fn read(reader: &mut Reader<'_>) -> Result<Self, Error> {
        let items = expect_items(reader, &[5, 7])?;
        let mut blob = Blob {
            id: BlobId::read(reader)?,
            kind: BlobKind::read(reader)?,
            frame: u32::read(reader)?,
            offset: u32::read(reader)?,
            length: u32::read(reader)?,
            start: None,
            end: None,
        };
        if items == 7 {
            blob.start = Option::read(reader)?;
            blob.end = Option::read(reader)?;
        }
        Ok(blob)
    }
}

record! {
    /// The directory of a pack.
    Directory {
        /// The session that wrote it.
        1 => session: SessionId,
        /// What the pack is for.
        2 => role: Role,
        /// The keys of its blocks.
        3 => keys: Vec<KeyId>,
        /// Its blocks, in the order of their places.
        4 => blocks: Vec<Block>,
        /// Its frames, block by block.
        5 => frames: Vec<Frame>,
        /// Its blobs, frame by frame.
        6 => blobs: Vec<Blob>,
        /// Session keys that some of its blocks are sealed under.
        7 => wraps: Vec<KeyWrap>,
        /// When it was written, nanoseconds since 1970: newer marks win.
        8 => written_ns: i64,
        /// Free for the writer.
        9 => note: Bytes,
    }
}

impl Directory {
    /// Whether all places lie within one another: blocks in a pack whose blocks end at `blocks_end`, frames in
    /// blocks, blobs in frames.
    pub fn check(&self, blocks_end: u64) -> Result<(), Error> {
        let bad = |reason: String| Error::Malformed { what: "pack directory", position: 0, reason };
        for block in &self.blocks {
            let within = (block.offset).checked_add(u64::from(block.length)).is_some_and(|end| end <= blocks_end);
            let sane = block.length as usize >= super::envelope::BLOCK_OVERHEAD
                && block.length as usize <= MAX_BLOCK_BYTES
                && (block.key as usize) < self.keys.len();
            if !within || !sane {
                return Err(bad(format!("no block can lie at {} with {} bytes", block.offset, block.length)));
            }
        }
        for frame in &self.frames {
            let block = self.blocks.get(frame.block as usize);
            let room = block.map_or(0, |block| block.length as usize - super::envelope::BLOCK_OVERHEAD);
            if block.is_none() || (frame.offset + frame.length) as usize > room {
                return Err(bad(format!("a frame lies outside its block {}", frame.block)));
            }
        }
        for blob in &self.blobs {
            let frame = self.frames.get(blob.frame as usize);
            let end = blob.offset.checked_add(blob.length);
            if !matches!((frame, end), (Some(frame), Some(end)) if end <= frame.raw_length) {
                return Err(bad(format!("blob {} lies outside its frame", blob.id)));
            }
        }
        Ok(())
    }
}
