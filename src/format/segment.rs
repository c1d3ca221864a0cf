//! Index segments: which blobs lie in which packs, as far as one writer or one merge knows.
//!
//! The object is drawn in [`super::container`]; its directory is a [`Head`]. Its blocks are pages of kind `index
//! page`, each the CBOR array of some rows and at most [`MAX_PAGE_BYTES`] long before sealing:
//!
//! - pack pages: rows of [`PackRow`]; a pack's number is the place of its row, counted over all pack pages;
//! - frame pages: rows of [`FrameRow`]; a frame's number is the place of its row, counted likewise;
//! - entry pages: rows of [`Entry`], sorted by blob id over all pages. One id may stand in several rows.
//!
//! Pages are numbered from 0 over pack, frame and entry pages, which lie in this order, each where the one before ends.
//! A page's seal holds only in its segment and at its number ([`page_associated`]).

use super::Error;
use super::cbor::{Cbor, Reader, Writer, record};
use super::container::LEAD_BYTES;
use super::envelope::{BLOCK_OVERHEAD, ObjectKind, block_associated};
use super::pack::{
    BlobKind, Chain, Encoding, Frame, MAX_BLOCK_BYTES, MAX_FRAME_RAW_BYTES, Role, expect_items, read_marks,
};
use super::vouch::Voucher;
use crate::base::{BlobId, KeyId, Mark, PackId, RepositoryId, SegmentId, SessionId};

/// The most bytes of a page before it is sealed.
pub const MAX_PAGE_BYTES: usize = 64 << 10;
/// Levels of merged segments; a writer's own is 0.
pub const MAX_LEVEL: u32 = 16;

/// The first associated string of page `page` of the segment that begins with the random bytes `lead`: that of a block
/// of kind `index page`, then `lead` (32 bytes), then the page's number (4 bytes, little-endian). Pages are never
/// copied, and so nobody can put one in the place of another.
pub fn page_associated(key: KeyId, repository: RepositoryId, lead: &[u8; LEAD_BYTES], page: u32) -> Vec<u8> {
    [&block_associated(ObjectKind::Page, key, repository)[..], lead, &page.to_le_bytes()].concat()
}

/// One page: `[offset, length, rows, first id]`; the first id is null but for entry pages.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PageRef {
    /// Where its block begins in the segment.
    pub offset: u64,
    /// The block's bytes, nonce and synthetic IV included.
    pub length: u32,
    /// How many rows it has.
    pub rows: u32,
    /// The first blob id in it, for entry pages.
    pub first: Option<BlobId>,
}

impl Cbor for PageRef {
    fn write(&self, writer: &mut Writer) {
        writer.array(4);
        writer.uint(self.offset);
        self.length.write(writer);
        self.rows.write(writer);
        self.first.write(writer);
    }
    fn read(reader: &mut Reader<'_>) -> Result<Self, Error> {
        expect_items(reader, &[4])?;
        Ok(PageRef {
            offset: reader.uint()?,
            length: u32::read(reader)?,
            rows: u32::read(reader)?,
            first: Option::read(reader)?,
        })
    }
}

record! {
    /// The head of a segment: what it is and where its pages are.
    Head {
        /// The session that wrote it.
        1 => session: SessionId,
        /// 0 for what a writer stores and what is left of that; one more for each merge of a level.
        2 => level: u32,
        /// The segments that it replaces.
        3 => supersedes: Vec<SegmentId>,
        /// The highest condemned record that its writer had seen; 0 for none.
        4 => condemned_seen: u64,
        /// The keys that blocks of its packs are sealed under.
        5 => keys: Vec<KeyId>,
        /// Pages of pack rows.
        6 => pack_pages: Vec<PageRef>,
        /// Pages of frame rows.
        7 => frame_pages: Vec<PageRef>,
        /// Pages of entries: the sparse table.
        8 => entry_pages: Vec<PageRef>,
        /// How many entries there are.
        9 => entries: u64,
        /// When it was written, nanoseconds since 1970.
        10 => written_ns: i64,
        /// The key that its pages are sealed under.
        11 => page_key: KeyId,
        /// Segments that were there when it was written and that no other one there named so: with what these name in
        /// turn, all that were there.
        12 => previous: Vec<SegmentId>,
        /// Says that a full client wrote the segment.
        13 => voucher: Option<Voucher>,
    }
}

impl Head {
    /// Whether the pages can lie where they are said to (after the lead, before `pages_end`, of bounded size), are
    /// counted rightly, and the entry pages can be searched by bisection.
    pub fn check(&self, pages_end: u64) -> Result<(), Error> {
        let bad = |reason: String| Error::Malformed { what: "index segment", position: 0, reason };
        if self.level > MAX_LEVEL {
            return Err(bad(format!("level {}", self.level)));
        }
        for page in self.pack_pages.iter().chain(&self.frame_pages).chain(&self.entry_pages) {
            page.check(pages_end).map_err(bad)?;
        }
        for pages in [&self.pack_pages, &self.frame_pages] {
            if pages.iter().any(|page| page.first.is_some()) || rows_of(pages) > u64::from(u32::MAX) {
                return Err(bad("pages of packs or frames are not like such pages".to_owned()));
            }
        }
        let sorted = self.entry_pages.is_sorted_by_key(|page| page.first);
        if !sorted || self.entry_pages.iter().any(|page| page.first.is_none()) {
            return Err(bad("the entry pages are not in the order of their first ids".to_owned()));
        }
        if rows_of(&self.entry_pages) != self.entries {
            return Err(bad(format!("its pages do not have {} entries", self.entries)));
        }
        Ok(())
    }
}

/// How many rows the pages have together. Each has fewer than 2^32, and there are far fewer pages than that.
fn rows_of(pages: &[PageRef]) -> u64 {
    pages.iter().map(|page| u64::from(page.rows)).sum()
}

impl PageRef {
    fn check(&self, pages_end: u64) -> Result<(), String> {
        let length = self.length as usize;
        let within = self.offset.checked_add(u64::from(self.length)).is_some_and(|end| end <= pages_end);
        let sane = (BLOCK_OVERHEAD..=MAX_PAGE_BYTES + BLOCK_OVERHEAD).contains(&length)
            && self.rows as usize <= length
            && self.offset >= LEAD_BYTES as u64;
        if within && sane {
            return Ok(());
        }
        Err(format!("no page can lie at {} with {length} bytes and {} rows", self.offset, self.rows))
    }
}

/// A pack: `[id, bytes, role, written]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PackRow {
    /// Its name.
    pub id: PackId,
    /// Its size in the store.
    pub size_bytes: u64,
    /// What it is for.
    pub role: Role,
    /// When it was written, nanoseconds since 1970.
    pub written_ns: i64,
}

impl Cbor for PackRow {
    fn write(&self, writer: &mut Writer) {
        writer.array(4);
        self.id.write(writer);
        writer.uint(self.size_bytes);
        self.role.write(writer);
        writer.int(self.written_ns);
    }
    fn read(reader: &mut Reader<'_>) -> Result<Self, Error> {
        expect_items(reader, &[4])?;
        Ok(PackRow {
            id: PackId::read(reader)?,
            size_bytes: reader.uint()?,
            role: Role::read(reader)?,
            written_ns: reader.int()?,
        })
    }
}

/// A frame and where it lies: `[pack, block offset, block length, key, offset, length, raw length, encoding]`, and
/// for a frame on bases the four items of its chain, as in a pack's directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FrameRow {
    /// The number of its pack.
    pub pack: u32,
    /// Where its block begins in the pack.
    pub block_offset: u64,
    /// The block's bytes in the pack.
    pub block_length: u32,
    /// Which of the head's keys the block is sealed under.
    pub key: u32,
    /// Where the frame begins in the block's plaintext.
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

impl Cbor for FrameRow {
    fn write(&self, writer: &mut Writer) {
        writer.array(if self.chain.is_some() { 12 } else { 8 });
        self.pack.write(writer);
        writer.uint(self.block_offset);
        for number in [self.block_length, self.key, self.offset, self.length, self.raw_length] {
            number.write(writer);
        }
        self.encoding.write(writer);
        if let Some(chain) = &self.chain {
            chain.write_items(writer);
        }
    }
    fn read(reader: &mut Reader<'_>) -> Result<Self, Error> {
        let items = expect_items(reader, &[8, 12])?;
        let mut row = FrameRow {
            pack: u32::read(reader)?,
            block_offset: reader.uint()?,
            block_length: u32::read(reader)?,
            key: u32::read(reader)?,
            offset: u32::read(reader)?,
            length: u32::read(reader)?,
            raw_length: u32::read(reader)?,
            encoding: Encoding::read(reader)?,
            chain: None,
        };
        if items == 12 {
            row.chain = Some(Chain::read_items(reader)?);
        }
        row.check().map_err(|reason| reader.bad(reason))?;
        Ok(row)
    }
}

impl FrameRow {
    fn check(&self) -> Result<(), String> {
        let length = self.block_length as usize;
        let reachable = self.block_offset.checked_add(u64::from(self.block_length)).is_some();
        if !(BLOCK_OVERHEAD..=MAX_BLOCK_BYTES).contains(&length) || !reachable {
            return Err(format!("no block can lie at {} with {length} bytes", self.block_offset));
        }
        self.frame().check()?;
        if u64::from(self.offset) + u64::from(self.length) > (length - BLOCK_OVERHEAD) as u64 {
            return Err("a frame lies outside its block".to_owned());
        }
        Ok(())
    }

    /// The same frame as a pack's directory has it; which block it lies in is left open.
    fn frame(&self) -> Frame {
        Frame {
            block: 0,
            offset: self.offset,
            length: self.length,
            raw_length: self.raw_length,
            encoding: self.encoding,
            chain: self.chain.clone(),
        }
    }
}

/// A blob: `[id, frame, offset, length, kind]`, and if it has a mark also `[…, start mark, end mark]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Its name.
    pub id: BlobId,
    /// The number of its frame.
    pub frame: u32,
    /// Where it begins in the decoded frame.
    pub offset: u32,
    /// Its length in bytes.
    pub length: u32,
    /// What it is.
    pub kind: BlobKind,
    /// What stood before its start.
    pub start: Option<Mark>,
    /// What stood before its end.
    pub end: Option<Mark>,
}

impl Cbor for Entry {
    fn write(&self, writer: &mut Writer) {
        let marked = self.start.is_some() || self.end.is_some();
        writer.array(if marked { 7 } else { 5 });
        self.id.write(writer);
        for number in [self.frame, self.offset, self.length] {
            number.write(writer);
        }
        self.kind.write(writer);
        if marked {
            self.start.write(writer);
            self.end.write(writer);
        }
    }
    fn read(reader: &mut Reader<'_>) -> Result<Self, Error> {
        let items = expect_items(reader, &[5, 7])?;
        let mut entry = Entry {
            id: BlobId::read(reader)?,
            frame: u32::read(reader)?,
            offset: u32::read(reader)?,
            length: u32::read(reader)?,
            kind: BlobKind::read(reader)?,
            start: None,
            end: None,
        };
        if u64::from(entry.offset) + u64::from(entry.length) > MAX_FRAME_RAW_BYTES as u64 {
            return Err(reader.bad("a blob reaches beyond any frame"));
        }
        if items == 7 {
            (entry.start, entry.end) = read_marks(reader)?;
        }
        Ok(entry)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::format::cbor::Unknown;

    const END: u64 = 1000;

    fn page(offset: u64, rows: u32, first: Option<u8>) -> PageRef {
        PageRef { offset, length: 100, rows, first: first.map(|byte| BlobId([byte; 32])) }
    }

    fn head() -> Head {
        let mut unknown = Unknown::none();
        unknown.keep(14, &[0x01]);
        Head {
            session: SessionId([1; 16]),
            level: 1,
            supersedes: vec![SegmentId([2; 32])],
            condemned_seen: 0,
            keys: vec![KeyId([1; 16])],
            pack_pages: vec![page(32, 1, None)],
            frame_pages: vec![page(132, 2, None)],
            entry_pages: vec![page(232, 3, Some(1)), page(900, 4, Some(1))],
            entries: 7,
            written_ns: 1,
            page_key: KeyId([1; 16]),
            previous: vec![SegmentId([3; 32])],
            voucher: None,
            unknown,
        }
    }

    fn accepted(change: impl Fn(&mut Head)) -> bool {
        let mut head = head();
        change(&mut head);
        head.check(END).is_ok()
    }

    #[test]
    fn a_head_comes_back_with_what_is_unknown_in_it() {
        assert_eq!(Head::from_cbor(&head().to_cbor(), "head").unwrap(), head());
    }

    #[test]
    fn a_head_that_cannot_be_is_refused() {
        assert!(accepted(|_| ()));
        assert!(head().check(END - 1).is_err(), "beyond the end");
        assert!(!accepted(|h| h.level = MAX_LEVEL + 1));
        assert!(!accepted(|h| h.pack_pages[0].offset = 31), "in the lead");
        assert!(!accepted(|h| h.pack_pages[0].offset = u64::MAX), "overflow");
        assert!(!accepted(|h| h.pack_pages[0].length = BLOCK_OVERHEAD as u32 - 1));
        assert!(!accepted(|h| h.pack_pages[0].length = (MAX_PAGE_BYTES + BLOCK_OVERHEAD + 1) as u32));
        assert!(!accepted(|h| h.frame_pages[0].rows = 101), "more rows than bytes");
        assert!(!accepted(|h| h.frame_pages[0].first = Some(BlobId([1; 32]))), "not a page of entries");
        assert!(!accepted(|h| h.entry_pages[0].first = None), "a page of entries");
        assert!(!accepted(|h| h.entry_pages[0].first = Some(BlobId([2; 32]))), "order");
        assert!(!accepted(|h| h.entries = 8), "count");
    }

    fn frame_row() -> FrameRow {
        FrameRow {
            pack: 0,
            block_offset: 32,
            block_length: 132,
            key: 0,
            offset: 40,
            length: 60,
            raw_length: 5000,
            encoding: Encoding::Zstd,
            chain: None,
        }
    }

    #[test]
    fn rows_come_back() {
        let pack = PackRow { id: PackId([1; 32]), size_bytes: 1 << 40, role: Role::Metadata, written_ns: -1 };
        assert_eq!(PackRow::from_cbor(&pack.to_cbor(), "row").unwrap(), pack);
        let chain = Chain { bases: vec![BlobId([2; 32]); 2], depth: 64, delta_bytes: 1, whole_bytes: 2 };
        for row in [frame_row(), FrameRow { encoding: Encoding::ZstdOnBases, chain: Some(chain), ..frame_row() }] {
            assert_eq!(FrameRow::from_cbor(&row.to_cbor(), "row").unwrap(), row);
        }
    }

    #[test]
    fn frame_rows_that_cannot_be_are_refused() {
        let read = |row: FrameRow| FrameRow::from_cbor(&row.to_cbor(), "row").is_ok();
        assert!(read(frame_row()));
        assert!(!read(FrameRow { block_length: 31, ..frame_row() }));
        assert!(!read(FrameRow { block_length: MAX_BLOCK_BYTES as u32 + 1, ..frame_row() }));
        assert!(!read(FrameRow { block_offset: u64::MAX, ..frame_row() }));
        assert!(!read(FrameRow { length: 61, ..frame_row() }));
        assert!(!read(FrameRow { offset: u32::MAX, length: u32::MAX, ..frame_row() }));
        assert!(!read(FrameRow { raw_length: MAX_FRAME_RAW_BYTES as u32 + 1, ..frame_row() }));
        assert!(!read(FrameRow { encoding: Encoding::Raw, ..frame_row() }), "a raw frame of two lengths");
        assert!(!read(FrameRow { encoding: Encoding::ZstdOnBases, ..frame_row() }), "no bases");
    }

    #[test]
    fn entries_that_cannot_be_are_refused() {
        let entry =
            Entry { id: BlobId([1; 32]), frame: 1, offset: 0, length: 9, kind: BlobKind::List, start: None, end: None };
        let read = |entry: Entry| Entry::from_cbor(&entry.to_cbor(), "entry");
        for mark in [None, Some(Mark([1; 8]))] {
            let entry = Entry { end: mark, ..entry };
            assert_eq!(read(entry).unwrap(), entry);
        }
        let raw = MAX_FRAME_RAW_BYTES as u32;
        assert!(read(Entry { offset: 1, length: raw - 1, ..entry }).is_ok());
        assert!(read(Entry { offset: 1, length: raw, ..entry }).is_err());
        assert!(read(Entry { offset: u32::MAX, length: u32::MAX, ..entry }).is_err());
        let mut unmarked = entry.to_cbor();
        unmarked[0] = 0x87;
        assert!(Entry::from_cbor(&[&unmarked[..], &[0xf6, 0xf6]].concat(), "entry").is_err());
    }
}
