//! Index segments, to and from the store.
//!
//! A [`SegmentWriter`] is fed rows in order (packs, frames, entries by id) and streams sealed pages into the store; a
//! [`SegmentReader`] gives them back in the same order, a few MiB at a time. Neither holds more than one window of
//! pages and the head, however many entries there are.

use crate::base::{BlobId, KeyId, Kind, PackId, RepositoryId, SegmentId, SessionId, random};
use crate::crypto::names::PackHasher;
use crate::crypto::siv::SivKey;
use crate::format::cbor::{Cbor, Reader, Unknown, Writer};
use crate::format::container::{LEAD_BYTES, TRAILER_BYTES, directory_bytes, find_directory, trailer};
use crate::format::envelope::{BLOCK_OVERHEAD, IV_BYTES, NONCE_BYTES, ObjectKind, seal_padded};
use crate::format::pack::Directory;
use crate::format::segment::{Entry, FrameRow, Head, MAX_LEVEL, MAX_PAGE_BYTES, PackRow, PageRef, page_associated};
use crate::format::vouch::Vouched as _;
use crate::repo::ahead::Ahead;
use crate::repo::keyring::{Keyring, VoucherCheck};
use crate::repo::{Error, Result};
use crate::store::{self, Area, Key, ObjectStore, Upload};
use std::io::Write as _;
use std::sync::Arc;

/// How much of a segment is read at once; smaller ones are read whole.
const WINDOW_BYTES: usize = 4 << 20;
/// Segments of up to so many bytes are read whole when many are read one after the other, so many bytes and so many of
/// them at once.
const SMALL_BYTES: u64 = 1 << 20;
const ASKED_BYTES: u64 = 12 << 20;
const ASKED_SEGMENTS: usize = 64;
/// The head of a page's array, at most.
const ARRAY_HEAD_BYTES: usize = 5;

/// Where a segment lies.
pub fn segment_key(id: SegmentId) -> Key {
    Key::new(Area::Index, id)
}

/// Who writes a segment, when, and what it stands for.
#[derive(Clone, Debug)]
pub struct Origin {
    /// The session that writes it.
    pub session: SessionId,
    /// 0 for a writer's own and what is left of them; one more for each merge of a level.
    pub level: u32,
    /// The segments that it replaces.
    pub supersedes: Vec<SegmentId>,
    /// The segments that were there and that no other one named: see [`super::Index::newest_segments`].
    pub previous: Vec<SegmentId>,
    /// The highest condemned record that the writer has seen; 0 for none.
    pub condemned_seen: u64,
    /// When, nanoseconds since 1970.
    pub written_ns: i64,
}

/// What one writer knows of several finished packs. Pack, key and frame numbers are places in the lists here.
#[derive(Clone, Debug, Default)]
pub struct SegmentContents {
    /// The packs.
    pub packs: Vec<PackRow>,
    /// The keys of their blocks.
    pub keys: Vec<KeyId>,
    /// Their frames, pack by pack.
    pub frames: Vec<FrameRow>,
    /// Their blobs; sorted by [`SegmentContents::sort`] at the latest when saved.
    pub entries: Vec<Entry>,
}

impl SegmentContents {
    /// Takes in a finished pack of `size_bytes` and its directory.
    pub fn add_pack(&mut self, id: PackId, size_bytes: u64, directory: &Directory) -> Result<()> {
        directory.check(size_bytes).map_err(Error::object(format!("pack {id}")))?;
        let pack = number(self.packs.len())?;
        let first_frame = number(self.frames.len())?;
        let keys: Vec<u32> = directory.keys.iter().map(|key| self.key_number(*key)).collect::<Result<_>>()?;
        let row = PackRow { id, size_bytes, role: directory.role, written_ns: directory.written_ns };
        self.packs.push(row);
        for frame in &directory.frames {
            // `check` has seen to it that blocks and keys are there.
            let block = &directory.blocks[frame.block as usize];
            self.frames.push(FrameRow {
                pack,
                block_offset: block.offset,
                block_length: block.length,
                key: keys[block.key as usize],
                offset: frame.offset,
                length: frame.length,
                raw_length: frame.raw_length,
                encoding: frame.encoding,
                chain: frame.chain.clone(),
            });
        }
        for blob in &directory.blobs {
            let frame = first_frame.checked_add(blob.frame).ok_or_else(too_many)?;
            self.entries.push(Entry {
                id: blob.id,
                frame,
                offset: blob.offset,
                length: blob.length,
                kind: blob.kind,
                start: blob.start,
                end: blob.end,
            });
        }
        Ok(())
    }

    /// Whether there is nothing in it.
    pub fn is_empty(&self) -> bool {
        self.packs.is_empty()
    }

    /// Puts the entries in the order of their ids.
    pub fn sort(&mut self) {
        self.entries.sort_unstable_by_key(|entry| (entry.id, entry.frame));
    }

    fn key_number(&mut self, key: KeyId) -> Result<u32> {
        if let Some(place) = self.keys.iter().position(|known| *known == key) {
            return number(place);
        }
        self.keys.push(key);
        number(self.keys.len() - 1)
    }
}

fn number(place: usize) -> Result<u32> {
    u32::try_from(place).map_err(|_| too_many())
}

fn too_many() -> Error {
    Error::Internal("an index segment would have more than 2^32 rows".to_owned())
}

/// Stores a segment of `contents`, which it sorts.
pub fn save(
    store: &dyn ObjectStore,
    keyring: &Keyring,
    origin: Origin,
    contents: &mut SegmentContents,
) -> Result<SegmentId> {
    Ok(save_sized(store, keyring, origin, contents)?.0)
}

/// The same; gives its bytes too.
pub fn save_sized(
    store: &dyn ObjectStore,
    keyring: &Keyring,
    origin: Origin,
    contents: &mut SegmentContents,
) -> Result<(SegmentId, u64)> {
    write(SegmentWriter::begin(store, keyring, origin)?, contents)
}

/// Stores a segment of `contents`, which it sorts, and vouches for nothing that it says.
pub fn save_unvouched(
    store: &dyn ObjectStore,
    keyring: &Keyring,
    origin: Origin,
    contents: &mut SegmentContents,
) -> Result<SegmentId> {
    Ok(write(SegmentWriter::begin(store, keyring, origin)?.without_voucher(), contents)?.0)
}

fn write(mut writer: SegmentWriter<'_>, contents: &mut SegmentContents) -> Result<(SegmentId, u64)> {
    contents.sort();
    for key in &contents.keys {
        writer.key(*key)?;
    }
    for pack in &contents.packs {
        writer.pack(pack)?;
    }
    for frame in &contents.frames {
        writer.frame(frame)?;
    }
    for entry in &contents.entries {
        writer.entry(entry)?;
    }
    writer.finish_sized()
}

/// Opens segments one after the other, in this order; each comes with its size as a listing has told it. From a remote
/// store small ones are read several at once.
pub fn each_segment<E: From<Error>>(
    store: &dyn ObjectStore,
    keyring: &Keyring,
    segments: &[(SegmentId, u64)],
    mut each: impl FnMut(SegmentId, SegmentReader<'_>) -> Result<(), E>,
) -> Result<(), E> {
    let mut left = segments;
    while !left.is_empty() {
        let (group, rest) = left.split_at(many_enough(left));
        let ahead = Ahead::new(store);
        let small = group.iter().filter(|(_, size)| *size <= SMALL_BYTES);
        ahead.ask(&small.map(|(id, size)| (segment_key(*id), *size)).collect::<Vec<_>>(), &[]);
        for (id, size) in group {
            each(*id, SegmentReader::open_with(&ahead, keyring, *id, *size, SMALL_BYTES as usize)?)?;
        }
        left = rest;
    }
    Ok(())
}

/// How many segments from the first on are read at once.
fn many_enough(segments: &[(SegmentId, u64)]) -> usize {
    let mut bytes = 0;
    let fit = segments.iter().take_while(|(_, size)| {
        bytes += if *size <= SMALL_BYTES { *size } else { 0 };
        bytes <= ASKED_BYTES
    });
    fit.count().clamp(1, ASKED_SEGMENTS)
}

/// Rows on their way into pages.
#[derive(Default)]
struct Page {
    bytes: Vec<u8>,
    rows: u32,
    first: Option<BlobId>,
}

/// Which rows come next; earlier ones cannot follow.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Stage {
    Packs,
    Frames,
    Entries,
}

/// A segment on its way into the store. Dropped before [`SegmentWriter::finish`], it leaves nothing.
pub struct SegmentWriter<'a> {
    keyring: &'a Keyring,
    upload: Box<dyn Upload>,
    hasher: PackHasher,
    siv: Arc<SivKey>,
    lead: [u8; LEAD_BYTES],
    written_bytes: u64,
    stage: Stage,
    page: Page,
    head: Head,
    packs: u32,
    frames: u32,
    last: Option<(BlobId, u32)>,
    vouches: bool,
}

impl<'a> SegmentWriter<'a> {
    /// Begins a segment.
    pub fn begin(store: &dyn ObjectStore, keyring: &'a Keyring, origin: Origin) -> Result<SegmentWriter<'a>> {
        let page_key = keyring.current(ObjectKind::Page);
        let mut writer = SegmentWriter {
            keyring,
            upload: store.begin()?,
            hasher: PackHasher::new(),
            siv: keyring.siv(page_key, ObjectKind::Page, &"a new index segment")?,
            lead: random::bytes(),
            written_bytes: 0,
            stage: Stage::Packs,
            page: Page::default(),
            head: Head {
                session: origin.session,
                level: origin.level.min(MAX_LEVEL),
                supersedes: origin.supersedes,
                condemned_seen: origin.condemned_seen,
                keys: Vec::new(),
                pack_pages: Vec::new(),
                frame_pages: Vec::new(),
                entry_pages: Vec::new(),
                entries: 0,
                written_ns: origin.written_ns,
                page_key,
                previous: origin.previous,
                voucher: None,
                unknown: Unknown::none(),
            },
            packs: 0,
            frames: 0,
            last: None,
            vouches: true,
        };
        let lead = writer.lead;
        writer.write(&lead)?;
        Ok(writer)
    }

    /// Vouches for nothing: what it says was said by others for whom nobody does.
    pub fn without_voucher(self) -> SegmentWriter<'a> {
        SegmentWriter { vouches: false, ..self }
    }

    /// Takes in a key of blocks and gives its number.
    pub fn key(&mut self, key: KeyId) -> Result<u32> {
        if let Some(place) = self.head.keys.iter().position(|known| *known == key) {
            return number(place);
        }
        self.head.keys.push(key);
        number(self.head.keys.len() - 1)
    }

    /// Takes in a pack and gives its number.
    pub fn pack(&mut self, row: &PackRow) -> Result<u32> {
        self.row(Stage::Packs, row, None)?;
        self.packs = self.packs.checked_add(1).ok_or_else(too_many)?;
        Ok(self.packs - 1)
    }

    /// Takes in a frame of one of the packs and gives its number.
    pub fn frame(&mut self, row: &FrameRow) -> Result<u32> {
        assert!(row.pack < self.packs, "a frame lies in a pack that was written before");
        assert!((row.key as usize) < self.head.keys.len(), "a frame's key was given before");
        self.row(Stage::Frames, row, None)?;
        self.frames = self.frames.checked_add(1).ok_or_else(too_many)?;
        Ok(self.frames - 1)
    }

    /// Takes in a blob. Ids ascend; of one id, frames ascend.
    pub fn entry(&mut self, entry: &Entry) -> Result<()> {
        assert!(entry.frame < self.frames, "a blob lies in a frame that was written before");
        let place = (entry.id, entry.frame);
        if self.last == Some(place) {
            return Ok(());
        }
        assert!(self.last.is_none_or(|last| last < place), "entries are written in order");
        self.last = Some(place);
        self.head.entries += 1;
        self.row(Stage::Entries, entry, Some(entry.id))
    }

    /// Stores the segment and gives its name.
    pub fn finish(self) -> Result<SegmentId> {
        Ok(self.finish_sized()?.0)
    }

    /// The same; gives its bytes too.
    fn finish_sized(mut self) -> Result<(SegmentId, u64)> {
        self.flush()?;
        if self.vouches {
            self.keyring.vouch(&self.hasher.clone().finish(), &mut self.head)?;
        }
        let content = self.head.to_cbor();
        let length = directory_bytes(self.written_bytes, content.len());
        let key = self.keyring.current(ObjectKind::Head);
        let siv = self.keyring.siv(key, ObjectKind::Head, &"a new index segment")?;
        let repository = self.keyring.repository();
        let head = seal_padded(ObjectKind::Head, repository, key, &siv, &content, length, None);
        self.write(&head)?;
        self.write(&trailer(ObjectKind::Head, length))?;
        let id = SegmentId(self.hasher.finish());
        self.upload.finish(&segment_key(id))?;
        Ok((id, self.written_bytes))
    }

    fn row(&mut self, stage: Stage, row: &impl Cbor, id: Option<BlobId>) -> Result<()> {
        assert!(stage >= self.stage, "rows come as packs, frames, entries");
        let bytes = row.to_cbor();
        if stage != self.stage || self.page.bytes.len() + bytes.len() > MAX_PAGE_BYTES - ARRAY_HEAD_BYTES {
            self.flush()?;
            self.stage = stage;
        }
        if self.page.rows == 0 {
            self.page.first = id;
        }
        self.page.bytes.extend_from_slice(&bytes);
        self.page.rows += 1;
        Ok(())
    }

    fn flush(&mut self) -> Result<()> {
        let page = std::mem::take(&mut self.page);
        if page.rows == 0 {
            return Ok(());
        }
        let mut text = Writer::default();
        text.array(page.rows as usize);
        text.verbatim(&page.bytes);
        let mut text = text.finish();
        let number = self.head.pack_pages.len() + self.head.frame_pages.len() + self.head.entry_pages.len();
        let nonce: [u8; NONCE_BYTES] = random::bytes();
        let (key, repository) = (self.head.page_key, self.keyring.repository());
        let associated = page_associated(key, repository, &self.lead, number as u32);
        let iv = self.siv.seal_in_place(&[&associated, &nonce], &mut text);
        let length = (text.len() + BLOCK_OVERHEAD) as u32;
        let page_ref = PageRef { offset: self.written_bytes, length, rows: page.rows, first: page.first };
        match self.stage {
            Stage::Packs => self.head.pack_pages.push(page_ref),
            Stage::Frames => self.head.frame_pages.push(page_ref),
            Stage::Entries => self.head.entry_pages.push(page_ref),
        }
        self.write(&nonce)?;
        self.write(&iv)?;
        self.write(&text)
    }

    fn write(&mut self, bytes: &[u8]) -> Result<()> {
        self.hasher.update(bytes);
        self.written_bytes += bytes.len() as u64;
        let failed =
            |error: std::io::Error| store::Error::new(Kind::of_io(&error), "write", "a new index segment", error);
        Ok(self.upload.write_all(bytes).map_err(failed)?)
    }
}

/// The pages of one table and how far they have been read.
struct Table<T> {
    pages: std::vec::IntoIter<PageRef>,
    rows: std::vec::IntoIter<T>,
}

impl<T> Table<T> {
    fn new(pages: Vec<PageRef>) -> Table<T> {
        Table { pages: pages.into_iter(), rows: Vec::new().into_iter() }
    }
}

/// Reads a segment's rows: all packs, then all frames, then all entries, then [`SegmentReader::finish`].
pub struct SegmentReader<'a> {
    pages: Pages<'a>,
    /// What the segment says of itself; its page lists have been taken out.
    pub head: Head,
    packs: Table<PackRow>,
    frames: Table<FrameRow>,
    entries: Table<Entry>,
    pack_bytes: Vec<u64>,
    frame_count: u64,
    last: Option<BlobId>,
    size_bytes: u64,
    /// What follows the pages, for the hash; empty for a segment that was not read whole.
    tail: Vec<u8>,
    standing: Standing,
}

/// How far what a segment says can be relied on.
enum Standing {
    /// Nobody holds the index key who could not be trusted.
    Trusted,
    /// Nobody vouches for it, or somebody unknown.
    Unproven,
    /// Somebody vouches for it, if this check holds for the hash of the head's content.
    Vouched(VoucherCheck, [u8; 32]),
}

impl Standing {
    fn of(keyring: &Keyring, head: &Head) -> Standing {
        let check = head.voucher.as_ref().and_then(|voucher| keyring.voucher(voucher));
        match check {
            _ if !keyring.is_guarded() => Standing::Trusted,
            None => Standing::Unproven,
            Some(check) => Standing::Vouched(check, head.content_hash()),
        }
    }
}

/// The sealed pages, read one after another.
struct Pages<'a> {
    store: &'a dyn ObjectStore,
    key: Key,
    siv: Arc<SivKey>,
    page_key: KeyId,
    repository: RepositoryId,
    lead: Option<[u8; LEAD_BYTES]>,
    end: u64,
    window: Vec<u8>,
    window_at: u64,
    window_bytes: usize,
    next_at: u64,
    number: usize,
    hasher: PackHasher,
}

impl<'a> SegmentReader<'a> {
    /// Opens the segment `id`.
    pub fn open(store: &'a dyn ObjectStore, keyring: &Keyring, id: SegmentId) -> Result<SegmentReader<'a>> {
        let size_bytes = store.size(&segment_key(id))?;
        SegmentReader::open_sized(store, keyring, id, size_bytes)
    }

    /// Opens the segment `id`, whose size a listing has told.
    pub fn open_sized(
        store: &'a dyn ObjectStore,
        keyring: &Keyring,
        id: SegmentId,
        size_bytes: u64,
    ) -> Result<SegmentReader<'a>> {
        SegmentReader::open_with(store, keyring, id, size_bytes, WINDOW_BYTES)
    }

    /// Opens the segment `id`, whose size a listing has told, to be read `window_bytes` at a time.
    pub fn open_with(
        store: &'a dyn ObjectStore,
        keyring: &Keyring,
        id: SegmentId,
        size_bytes: u64,
        window_bytes: usize,
    ) -> Result<SegmentReader<'a>> {
        assert!(window_bytes > MAX_PAGE_BYTES + BLOCK_OVERHEAD, "a window holds any page");
        let key = segment_key(id);
        if size_bytes < (LEAD_BYTES + TRAILER_BYTES) as u64 {
            return Err(Error::damaged(&key, format!("it has only {size_bytes} bytes: truncated")));
        }
        let whole = size_bytes <= window_bytes as u64;
        let mut window = if whole { store.get(&key, size_bytes)? } else { Vec::new() };
        if whole && window.len() as u64 != size_bytes {
            return Err(Error::damaged(&key, format!("{} bytes of {size_bytes} came back", window.len())));
        }
        let last = size_bytes - TRAILER_BYTES as u64;
        let trailer =
            if whole { window.split_off(last as usize) } else { store.get_range(&key, last, TRAILER_BYTES)? };
        let (end, length) = find_directory(ObjectKind::Head, size_bytes, &trailer).map_err(Error::object(&key))?;
        let sealed = if whole { window.split_off(end as usize) } else { store.get_range(&key, end, length)? };
        // A large head is padded by up to a sixteenth of the whole: it is read again rather than kept.
        let tail = if whole { [&sealed[..], &trailer].concat() } else { Vec::new() };
        let head: Head = keyring.load(ObjectKind::Head, sealed, &key)?;
        head.check(end).map_err(Error::object(&key))?;
        let standing = Standing::of(keyring, &head);
        let mut pages = Pages::new(store, keyring, key, head.page_key, end, window)?;
        pages.window_bytes = window_bytes;
        SegmentReader::with(pages, head, standing, tail, size_bytes)
    }

    /// Whether what it says can be relied on. That the voucher holds shows in [`SegmentReader::finish`].
    pub fn is_proven(&self) -> bool {
        !matches!(self.standing, Standing::Unproven)
    }

    fn with(
        pages: Pages<'a>,
        mut head: Head,
        standing: Standing,
        tail: Vec<u8>,
        size_bytes: u64,
    ) -> Result<SegmentReader<'a>> {
        let count = |pages: &[PageRef]| pages.iter().map(|page| u64::from(page.rows)).sum::<u64>();
        let fits = |rows: u64| rows <= u64::from(u32::MAX);
        let frame_count = count(&head.frame_pages);
        if !fits(count(&head.pack_pages)) || !fits(frame_count) || count(&head.entry_pages) != head.entries {
            return Err(pages.damaged("its head counts more rows than its pages have"));
        }
        Ok(SegmentReader {
            packs: Table::new(std::mem::take(&mut head.pack_pages)),
            frames: Table::new(std::mem::take(&mut head.frame_pages)),
            entries: Table::new(std::mem::take(&mut head.entry_pages)),
            pack_bytes: Vec::new(),
            frame_count,
            last: None,
            pages,
            head,
            size_bytes,
            tail,
            standing,
        })
    }

    /// The next pack.
    pub fn next_pack(&mut self) -> Result<Option<PackRow>> {
        let row = self.pages.next_row(&mut self.packs)?;
        if let Some(row) = &row {
            self.pack_bytes.push(row.size_bytes);
        }
        Ok(row)
    }

    /// The next frame.
    pub fn next_frame(&mut self) -> Result<Option<FrameRow>> {
        let Some(row) = self.pages.next_row(&mut self.frames)? else { return Ok(None) };
        let pack_bytes = self.pack_bytes.get(row.pack as usize).copied().unwrap_or(0);
        let end = row.block_offset.checked_add(u64::from(row.block_length));
        if end.is_none_or(|end| end > pack_bytes) {
            return Err(self.pages.damaged(format!("a frame lies outside its pack {}", row.pack)));
        }
        if row.key as usize >= self.head.keys.len() {
            return Err(self.pages.damaged(format!("a frame is sealed under key {} of its list", row.key)));
        }
        Ok(Some(row))
    }

    /// The next entry; ids never descend.
    pub fn next_entry(&mut self) -> Result<Option<Entry>> {
        let Some(entry) = self.pages.next_row(&mut self.entries)? else { return Ok(None) };
        if self.last.is_some_and(|last| last > entry.id) {
            return Err(self.pages.damaged("its entries are out of order"));
        }
        if u64::from(entry.frame) >= self.frame_count {
            return Err(self.pages.damaged(format!("blob {} lies in a frame that is not there", entry.id)));
        }
        self.last = Some(entry.id);
        Ok(Some(entry))
    }

    /// To be called when all rows have been read: compares the hash of all bytes with the name.
    pub fn finish(self) -> Result<()> {
        let mut pages = self.pages;
        pages.read_lead()?;
        if pages.next_at != pages.end {
            return Err(pages.damaged("bytes lie between its pages and its head, or it was not read to the end"));
        }
        if let Standing::Vouched(check, content) = &self.standing
            && !check.holds(ObjectKind::Head, &pages.hasher.clone().finish(), content)
        {
            return Err(pages.damaged("it is not what somebody signed who holds the repository's own keys"));
        }
        match self.tail.is_empty() {
            true => pages.hash_rest(self.size_bytes)?,
            false => pages.hasher.update(&self.tail),
        }
        let hash = SegmentId(std::mem::take(&mut pages.hasher).finish());
        if hash.to_string() == pages.key.name() {
            Ok(())
        } else {
            Err(pages.damaged(format!("its bytes have the name {}", hash.short())))
        }
    }
}

/// A row that may stand first in an entry page.
trait Row: Cbor {
    fn sorted_by(&self) -> Option<BlobId> {
        None
    }
}
impl Row for PackRow {}
impl Row for FrameRow {}
impl Row for Entry {
    fn sorted_by(&self) -> Option<BlobId> {
        Some(self.id)
    }
}

impl<'a> Pages<'a> {
    fn new(
        store: &'a dyn ObjectStore,
        keyring: &Keyring,
        key: Key,
        page_key: KeyId,
        end: u64,
        window: Vec<u8>,
    ) -> Result<Pages<'a>> {
        let pages = Pages {
            siv: keyring.siv(page_key, ObjectKind::Page, &key)?,
            page_key,
            repository: keyring.repository(),
            store,
            key,
            lead: None,
            end,
            window,
            window_at: 0,
            window_bytes: WINDOW_BYTES,
            next_at: 0,
            number: 0,
            hasher: PackHasher::new(),
        };
        Ok(pages)
    }

    fn damaged(&self, reason: impl ToString) -> Error {
        Error::damaged(&self.key, reason)
    }

    /// The next `length` bytes before the head.
    fn take(&mut self, length: usize) -> Result<Vec<u8>> {
        let at = (self.next_at - self.window_at) as usize;
        if self.window.len() < at + length {
            let wanted = (self.end - self.next_at).min(self.window_bytes as u64) as usize;
            if wanted < length {
                return Err(self.damaged("a page reaches into its head"));
            }
            self.window = self.store.get_range(&self.key, self.next_at, wanted)?;
            self.window_at = self.next_at;
            if self.window.len() != wanted {
                return Err(self.damaged(format!("{} bytes of {wanted} came back", self.window.len())));
            }
        }
        let at = (self.next_at - self.window_at) as usize;
        let bytes = self.window[at..at + length].to_vec();
        self.hasher.update(&bytes);
        self.next_at += length as u64;
        Ok(bytes)
    }

    /// Reads what stands before the pages. Not at once: the first window is read when the heads of all segments that
    /// are read together have been decoded and their memory is free again.
    fn read_lead(&mut self) -> Result<[u8; LEAD_BYTES]> {
        if let Some(lead) = self.lead {
            return Ok(lead);
        }
        let lead = self.take(LEAD_BYTES)?.try_into().expect("as many bytes as were asked for");
        self.lead = Some(lead);
        Ok(lead)
    }

    /// Takes head and trailer into the hash.
    fn hash_rest(&mut self, size_bytes: u64) -> Result<()> {
        while self.next_at < size_bytes {
            let length = (size_bytes - self.next_at).min(self.window_bytes as u64) as usize;
            self.hasher.update(&self.store.get_range(&self.key, self.next_at, length)?);
            self.next_at += length as u64;
        }
        Ok(())
    }

    fn next_row<T: Row>(&mut self, table: &mut Table<T>) -> Result<Option<T>> {
        loop {
            if let Some(row) = table.rows.next() {
                return Ok(Some(row));
            }
            let Some(page) = table.pages.next() else { return Ok(None) };
            table.rows = self.read_page(&page)?.into_iter();
        }
    }

    fn read_page<T: Row>(&mut self, page: &PageRef) -> Result<Vec<T>> {
        let lead = self.read_lead()?;
        if page.offset != self.next_at {
            return Err(self.damaged(format!("its page {} does not follow the one before", self.number)));
        }
        let mut bytes = self.take(page.length as usize)?;
        let text = bytes.split_off(BLOCK_OVERHEAD);
        let text = self.open_page(&lead, &bytes, text)?;
        let rows = decode_rows::<T>(&text).map_err(Error::object(&self.key))?;
        let first = rows.first().and_then(Row::sorted_by);
        if rows.len() != page.rows as usize || first != page.first {
            return Err(self.damaged(format!("its page {} is not the one that its head names", self.number)));
        }
        self.number += 1;
        Ok(rows)
    }

    fn open_page(&self, lead: &[u8; LEAD_BYTES], seal: &[u8], mut text: Vec<u8>) -> Result<Vec<u8>> {
        let (nonce, iv) = seal.split_at(NONCE_BYTES);
        let iv: [u8; IV_BYTES] = iv.try_into().expect("a block's overhead is nonce and IV");
        let associated = page_associated(self.page_key, self.repository, lead, self.number as u32);
        match self.siv.open_in_place(&[&associated, nonce], &iv, &mut text) {
            Ok(()) => Ok(text),
            Err(_) => Err(self.damaged(format!("its page {} fails its authentication", self.number))),
        }
    }
}

fn decode_rows<T: Cbor>(text: &[u8]) -> Result<Vec<T>, crate::format::Error> {
    let mut reader = Reader::new(text, "index page");
    let rows = reader.array()?;
    let mut decoded = Vec::new();
    for _ in 0..rows {
        decoded.push(T::read(&mut reader)?);
    }
    reader.end()?;
    Ok(decoded)
}
