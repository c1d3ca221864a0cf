//! The directory of a pack: which blocks, frames and blobs it holds.
//!
//! The object itself is drawn in [`super::container`]. A block's plaintext is its frames, one after another.

use super::Error;
use super::cbor::{Bytes, Cbor, Reader, Writer, numbered, record};
use super::container::LEAD_BYTES;
use super::envelope::{BLOCK_OVERHEAD, KeyWrap};
use super::vouch::Voucher;
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
/// The most stored bytes that a chain can have.
pub const MAX_CHAIN_BYTES: u64 = MAX_CHAIN_DEPTH as u64 * MAX_BLOCK_BYTES as u64;

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
        frame.check().map_err(|reason| reader.bad(reason))?;
        Ok(frame)
    }
}

impl Frame {
    /// Whether a frame can be like this, wherever it lies.
    pub(super) fn check(&self) -> Result<(), String> {
        if self.raw_length as usize > MAX_FRAME_RAW_BYTES {
            return Err(format!("a frame of {} bytes", self.raw_length));
        }
        if self.end() > (MAX_BLOCK_BYTES - BLOCK_OVERHEAD) as u64 {
            return Err("a frame reaches beyond any block".to_owned());
        }
        if self.chain.is_some() != (self.encoding == Encoding::ZstdOnBases) {
            return Err("bases belong to frames on bases and to no others".to_owned());
        }
        if self.encoding == Encoding::Raw && self.length != self.raw_length {
            return Err("a raw frame has another length than what it holds".to_owned());
        }
        Ok(())
    }

    /// Where it ends in the block's plaintext.
    fn end(&self) -> u64 {
        u64::from(self.offset) + u64::from(self.length)
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
        let (delta_bytes, whole_bytes) = (reader.uint()?, reader.uint()?);
        // Bounded, so that nobody who adds such figures up can overflow.
        if delta_bytes > MAX_CHAIN_BYTES || whole_bytes > MAX_BLOCK_BYTES as u64 {
            return Err(reader.bad(format!("a chain of {delta_bytes} bytes instead of {whole_bytes}")));
        }
        Ok(Chain { bases, depth, delta_bytes, whole_bytes })
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
            (blob.start, blob.end) = read_marks(reader)?;
        }
        if blob.end_in_frame() > MAX_FRAME_RAW_BYTES as u64 {
            return Err(reader.bad("a blob reaches beyond any frame"));
        }
        Ok(blob)
    }
}

impl Blob {
    /// Where it ends in the decoded frame.
    fn end_in_frame(&self) -> u64 {
        u64::from(self.offset) + u64::from(self.length)
    }
}

/// A start and an end mark, of which at least one is there.
pub(super) fn read_marks(reader: &mut Reader<'_>) -> Result<(Option<Mark>, Option<Mark>), Error> {
    let marks = (Option::read(reader)?, Option::read(reader)?);
    if marks == (None, None) {
        return Err(reader.bad("room for marks and no mark"));
    }
    Ok(marks)
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
        /// Says that a full client wrote the pack.
        10 => voucher: Option<Voucher>,
    }
}

impl Directory {
    /// Whether all places lie within one another: blocks in a pack whose directory begins at `blocks_end`, frames in
    /// blocks, blobs in frames. Each list is in the order of its places and nothing overlaps, so a walk over all
    /// blobs decodes each byte once.
    pub fn check(&self, blocks_end: u64) -> Result<(), Error> {
        let sound = self.check_counts().and_then(|()| self.check_blocks(blocks_end));
        let sound = sound.and_then(|()| self.check_frames()).and_then(|()| self.check_blobs());
        sound.map_err(|reason| Error::Malformed { what: "pack directory", position: 0, reason })
    }

    fn check_counts(&self) -> Result<(), String> {
        let most = self.blobs.len().max(self.frames.len()).max(self.blocks.len());
        if most > MAX_BLOBS { Err(format!("{most} things in one pack")) } else { Ok(()) }
    }

    fn check_blocks(&self, blocks_end: u64) -> Result<(), String> {
        let mut free = LEAD_BYTES as u64;
        for block in &self.blocks {
            let end = block.offset.checked_add(u64::from(block.length)).filter(|end| *end <= blocks_end);
            let sane = (BLOCK_OVERHEAD..=MAX_BLOCK_BYTES).contains(&(block.length as usize))
                && (block.key as usize) < self.keys.len()
                && block.offset >= free;
            free = match end {
                Some(end) if sane => end,
                _ => return Err(format!("no block can lie at {} with {} bytes", block.offset, block.length)),
            };
        }
        Ok(())
    }

    fn check_frames(&self) -> Result<(), String> {
        let mut free = (0, 0);
        for frame in &self.frames {
            frame.check()?;
            let room = self.blocks.get(frame.block as usize).map(|block| block.length as usize - BLOCK_OVERHEAD);
            let place = (frame.block, u64::from(frame.offset));
            if place < free || room.is_none_or(|room| frame.end() > room as u64) {
                return Err(format!("no frame can lie at {} in block {}", frame.offset, frame.block));
            }
            free = (frame.block, frame.end());
        }
        Ok(())
    }

    fn check_blobs(&self) -> Result<(), String> {
        let mut free = (0, 0);
        for blob in &self.blobs {
            let frame = self.frames.get(blob.frame as usize);
            let place = (blob.frame, u64::from(blob.offset));
            if place < free || frame.is_none_or(|frame| blob.end_in_frame() > u64::from(frame.raw_length)) {
                return Err(format!("blob {} cannot lie in frame {}", blob.id, blob.frame));
            }
            if (blob.kind == BlobKind::Data) != (self.role == Role::Data) {
                return Err(format!("blob {} is in a pack of the wrong role", blob.id));
            }
            free = (blob.frame, blob.end_in_frame());
        }
        Ok(())
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::format::cbor::Unknown;

    const END: u64 = 1000;

    fn frame(block: u32, offset: u32, length: u32) -> Frame {
        Frame { block, offset, length, raw_length: 5000, encoding: Encoding::Zstd, chain: None }
    }

    fn blob(frame: u32, offset: u32, length: u32) -> Blob {
        Blob { id: BlobId([1; 32]), kind: BlobKind::Data, frame, offset, length, start: None, end: None }
    }

    fn chain() -> Chain {
        Chain { bases: vec![BlobId([2; 32])], depth: 1, delta_bytes: 10, whole_bytes: 20 }
    }

    fn directory() -> Directory {
        let mut unknown = Unknown::none();
        unknown.keep(12, &[0x01]);
        Directory {
            session: SessionId([1; 16]),
            role: Role::Data,
            keys: vec![KeyId([1; 16])],
            blocks: vec![Block { offset: 32, length: 132, key: 0 }, Block { offset: 164, length: 836, key: 0 }],
            frames: vec![frame(0, 0, 60), frame(0, 60, 40), frame(1, 0, 804)],
            blobs: vec![blob(0, 0, 3000), blob(0, 3000, 2000), blob(2, 0, 5000)],
            wraps: Vec::new(),
            written_ns: 3,
            note: Bytes::default(),
            voucher: None,
            unknown,
        }
    }

    /// What the check says once something has been changed.
    fn accepted(change: impl Fn(&mut Directory)) -> bool {
        let mut directory = directory();
        change(&mut directory);
        directory.check(END).is_ok()
    }

    #[test]
    fn a_directory_comes_back_with_what_is_unknown_in_it() {
        let read = Directory::from_cbor(&directory().to_cbor(), "directory").unwrap();
        assert_eq!(read, directory());
        read.check(END).unwrap();
    }

    #[test]
    fn blocks_lie_in_the_pack_in_order_and_apart() {
        assert!(accepted(|_| ()));
        assert!(directory().check(END - 1).is_err(), "beyond the end");
        assert!(!accepted(|d| d.blocks[0].offset = 31), "in the lead");
        assert!(!accepted(|d| d.blocks[1].offset = 163), "overlap");
        assert!(!accepted(|d| d.blocks.swap(0, 1)), "order");
        assert!(!accepted(|d| d.blocks[1].offset = u64::MAX), "overflow");
        assert!(!accepted(|d| d.blocks[1].length = u32::MAX), "length");
        assert!(!accepted(|d| d.blocks[0].length = BLOCK_OVERHEAD as u32 - 1), "too short");
        assert!(!accepted(|d| d.blocks[0].key = 1), "no such key");
        let huge = |length| {
            let block = Block { offset: 32, length, key: 0 };
            let (frames, blobs) = (Vec::new(), Vec::new());
            Directory { blocks: vec![block], frames, blobs, ..directory() }.check(1 << 40).is_ok()
        };
        assert!(huge(MAX_BLOCK_BYTES as u32) && !huge(MAX_BLOCK_BYTES as u32 + 1));
    }

    #[test]
    fn frames_lie_in_their_blocks_in_order_and_apart() {
        assert!(!accepted(|d| d.frames[2].length = 805), "beyond its block");
        assert!(!accepted(|d| d.frames[2].block = 2), "no such block");
        assert!(!accepted(|d| d.frames[1].offset = 59), "overlap");
        assert!(!accepted(|d| d.frames.swap(1, 2)), "order");
        // In 32 bits this sum is 4.
        assert!(!accepted(|d| (d.frames[2].offset, d.frames[2].length) = (u32::MAX, 5)), "overflow");
        assert!(!accepted(|d| d.frames[2].raw_length = MAX_FRAME_RAW_BYTES as u32 + 1), "too long");
    }

    #[test]
    fn blobs_lie_in_their_frames_in_order_and_apart() {
        assert!(!accepted(|d| d.blobs[2].length = 5001), "beyond its frame");
        assert!(!accepted(|d| d.blobs[2].frame = 3), "no such frame");
        assert!(!accepted(|d| d.blobs[1].offset = 2999), "overlap");
        assert!(!accepted(|d| d.blobs.swap(1, 2)), "order");
        assert!(!accepted(|d| (d.blobs[2].offset, d.blobs[2].length) = (u32::MAX, u32::MAX)), "overflow");
    }

    #[test]
    fn data_and_metadata_never_share_a_pack() {
        assert!(!accepted(|d| d.blobs[2].kind = BlobKind::Tree));
        assert!(!accepted(|d| d.role = Role::Metadata));
        assert!(accepted(|d| {
            d.role = Role::Metadata;
            d.blobs.iter_mut().for_each(|blob| blob.kind = BlobKind::List);
        }));
    }

    #[test]
    fn a_pack_has_so_many_blobs_and_no_more() {
        assert!(accepted(|d| d.blobs = vec![blob(0, 0, 0); MAX_BLOBS]));
        assert!(!accepted(|d| d.blobs = vec![blob(0, 0, 0); MAX_BLOBS + 1]));
        assert!(!accepted(|d| d.frames = vec![frame(0, 0, 0); MAX_BLOBS + 1]));
    }

    #[test]
    fn frames_that_cannot_be_are_refused() {
        let read = |frame: Frame| Frame::from_cbor(&frame.to_cbor(), "frame").is_ok();
        let base = || frame(0, 0, 10);
        assert!(read(base()));
        assert!(read(Frame { raw_length: MAX_FRAME_RAW_BYTES as u32, ..base() }));
        assert!(!read(Frame { raw_length: MAX_FRAME_RAW_BYTES as u32 + 1, ..base() }));
        assert!(!read(Frame { offset: u32::MAX, length: 1, ..base() }));
        assert!(!read(Frame { encoding: Encoding::Raw, ..base() }));
        assert!(read(Frame { encoding: Encoding::Raw, raw_length: 10, ..base() }));
        assert!(!read(Frame { encoding: Encoding::ZstdOnBases, ..base() }));
        assert!(!read(Frame { chain: Some(chain()), ..base() }));
        let on = |chain: Chain| read(Frame { encoding: Encoding::ZstdOnBases, chain: Some(chain), ..base() });
        assert!(on(chain()));
        assert!(on(Chain { bases: vec![BlobId([2; 32]); MAX_BASES], depth: MAX_CHAIN_DEPTH, ..chain() }));
        assert!(!on(Chain { bases: Vec::new(), ..chain() }));
        assert!(!on(Chain { bases: vec![BlobId([2; 32]); MAX_BASES + 1], ..chain() }));
        assert!(!on(Chain { depth: 0, ..chain() }));
        assert!(!on(Chain { depth: MAX_CHAIN_DEPTH + 1, ..chain() }));
        assert!(!on(Chain { delta_bytes: MAX_CHAIN_BYTES + 1, ..chain() }));
        assert!(!on(Chain { whole_bytes: MAX_BLOCK_BYTES as u64 + 1, ..chain() }));
    }

    #[test]
    fn blobs_that_cannot_be_are_refused() {
        let read = |bytes: &[u8]| Blob::from_cbor(bytes, "blob");
        for marks in [(Some(Mark([1; 8])), None), (None, Some(Mark([2; 8]))), (None, None)] {
            let blob = Blob { start: marks.0, end: marks.1, ..blob(0, 5, 10) };
            assert_eq!(read(&blob.to_cbor()).unwrap(), blob);
        }
        let mut unmarked = blob(0, 5, 10).to_cbor();
        unmarked[0] = 0x87;
        assert!(read(&[&unmarked[..], &[0xf6, 0xf6]].concat()).is_err(), "two ways to have no mark");
        let raw = MAX_FRAME_RAW_BYTES as u32;
        assert!(read(&blob(0, 1, raw - 1).to_cbor()).is_ok());
        assert!(read(&blob(0, 1, raw).to_cbor()).is_err());
        assert!(read(&blob(0, u32::MAX, u32::MAX).to_cbor()).is_err());
    }
}
