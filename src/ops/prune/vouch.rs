//! Vouching for what clients have stored that may only write.
//!
//! Nobody else relies on such packs: the client may have stored anything under any name. So before a plan is made each of
//! them is read once, whole: every blob is decoded, with its bases, and named again. What has the name that was claimed is
//! said once more, in a segment that is signed; from then on it counts like what anybody has stored. What has not is left
//! out, and counts for nothing. Copying and dropping come after that, so a lie never takes the place of the truth.
//!
//! Only segments are stored here, a few packs each: an interrupted prune leaves work that the next one need not do again.

use super::super::{Context, Error, Result};
use crate::base::monitor::Event;
use crate::base::{Kind, PackId, Problem, SessionId, SortedMap};
use crate::format::pack::MAX_BLOBS;
use crate::format::segment::{Entry, FrameRow, PackRow};
use crate::repo::blob_reader::BlobReader;
use crate::repo::index::{Located, Origin, PackSummary, SegmentContents, list_condemned, segments};
use crate::repo::pack_reader::role_of;
use crate::store::Area;
use std::collections::{BTreeMap, HashMap};

/// Decoded frames that the reader keeps.
const FRAMES_BYTES: usize = 16 << 20;
/// A segment is stored once this many packs wait for one …
const SEGMENT_PACKS: usize = 8;
/// … or this many blobs.
const SEGMENT_BLOBS: usize = 65_536;

/// What came of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Vouched {
    /// Packs for which somebody vouches now.
    pub packs: u64,
    /// Their blobs.
    pub blobs: u64,
    /// Blobs that are not what they were said to be, or cannot be read.
    pub doubtful: u64,
    /// New segments.
    pub segments: u64,
}

/// Reads what nobody vouches for, and vouches for what is as it should be.
pub fn vouch(context: &Context, session: SessionId) -> Result<Vouched> {
    let unproven = |pack: &PackSummary| !pack.proven && !pack.void;
    let mut summaries: BTreeMap<PackId, PackSummary> = BTreeMap::new();
    context.index.each_pack::<Error>(&mut |pack| {
        summaries.extend(unproven(pack).then_some((pack.id, *pack)));
        Ok(())
    })?;
    if summaries.is_empty() {
        return Ok(Vouched::default());
    }
    context.monitor.event(Event::Phase("reading what write-only clients have stored"));
    let bytes = summaries.values().map(|pack| pack.size_bytes).sum();
    context.monitor.event(Event::Total { items: summaries.len() as u64, bytes, complete: true });
    let origin = Origin {
        session,
        level: 0,
        supersedes: Vec::new(),
        previous: Vec::new(),
        condemned_seen: list_condemned(&**context.repository.store())?.highest(),
        written_ns: context.repository.now_ns(),
    };
    let reader = BlobReader::new(context.repository.clone(), context.index.clone(), FRAMES_BYTES).from_store_alone();
    let stored = stored_among(context, &summaries)?;
    let (waiting, of_pack) = (SegmentContents::default(), OfPack::default());
    let mut work = Work { context, origin, reader, stored, waiting, of_pack, vouched: Vouched::default() };
    let mut current = None;
    let read = context.index.each_by_pack(&unproven, &mut |pack, located| {
        if context.stop.raised() {
            return Err(crate::repo::Error::Refused("interrupted".to_owned()));
        }
        if current != Some(*pack) {
            work.close_pack(current.and_then(|pack| summaries.get(&pack)))?;
            current = Some(*pack);
        }
        summaries.get(pack).map_or(Ok(()), |summary| work.take(summary, located))
    });
    context.check_stop()?;
    read?;
    work.close_pack(current.and_then(|pack| summaries.get(&pack)))?;
    work.save()?;
    work.tell();
    Ok(work.vouched)
}

fn stored_among(context: &Context, packs: &BTreeMap<PackId, PackSummary>) -> Result<SortedMap<PackId, (u64, i64)>> {
    let mut stored = Vec::new();
    context.repository.store().list(Area::Packs, &mut |listed| {
        let stored_ns = listed.stored_at.as_nanosecond() as i64;
        let pack = listed.name.parse().ok().filter(|pack| packs.contains_key(pack));
        stored.extend(pack.map(|pack| (pack, (listed.size_bytes, stored_ns))));
    })?;
    Ok(stored.into_iter().collect())
}

/// What is right of one pack.
#[derive(Default)]
struct OfPack {
    frames: Vec<(Located, u32)>,
    blobs: Vec<(Located, u32)>,
}

struct Work<'c> {
    context: &'c Context,
    origin: Origin,
    reader: BlobReader,
    /// Sizes of the packs, and when the store received them, nanoseconds since 1970 by its clock.
    stored: SortedMap<PackId, (u64, i64)>,
    waiting: SegmentContents,
    of_pack: OfPack,
    vouched: Vouched,
}

/// Whether two blobs lie in one frame that both say is the same.
fn same_frame(one: &Located, other: &Located) -> bool {
    let of = |located: &Located| {
        let place = &located.place;
        let block = (place.block_offset, place.block_length, place.key);
        (block, place.frame_offset, place.frame_length, place.raw_length, place.encoding, place.chain.clone())
    };
    of(one) == of(other)
}

impl Work<'_> {
    /// Reads one blob of a pack.
    fn take(&mut self, pack: &PackSummary, located: &Located) -> crate::repo::Result<()> {
        if !self.is_right(pack, located)? || self.of_pack.blobs.len() >= MAX_BLOBS {
            self.vouched.doubtful += 1;
            return Ok(());
        }
        let of_pack = &mut self.of_pack;
        let frame = match of_pack.frames.last() {
            Some((last, number)) if same_frame(last, located) => *number,
            _ => {
                let number = of_pack.frames.len() as u32;
                of_pack.frames.push((located.clone(), number));
                number
            }
        };
        of_pack.blobs.push((located.clone(), frame));
        Ok(())
    }

    /// Whether a blob is there under this name, in the place that was told. One whose base may go is not.
    fn is_right(&mut self, pack: &PackSummary, located: &Located) -> crate::repo::Result<bool> {
        if role_of(located.place.kind) != pack.role {
            return Ok(false);
        }
        for base in located.place.chain.iter().flat_map(|chain| &chain.bases) {
            if !self.context.index.contains(base)? {
                return Ok(false);
            }
        }
        match self.reader.prove(&located.place, &located.id) {
            Ok(()) => Ok(true),
            Err(error) if matches!(error.kind(), Kind::Damaged | Kind::NotFound) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Puts what is right of a pack among what waits for a segment.
    fn close_pack(&mut self, pack: Option<&PackSummary>) -> crate::repo::Result<()> {
        let of_pack = std::mem::take(&mut self.of_pack);
        let Some(pack) = pack.filter(|_| !of_pack.blobs.is_empty()) else { return Ok(()) };
        let Some((size_bytes, stored_ns)) = self.stored.get(&pack.id).copied() else { return Ok(()) };
        self.context.monitor.event(Event::Done { items: 1, bytes: pack.size_bytes });
        self.vouched.packs += 1;
        self.vouched.blobs += of_pack.blobs.len() as u64;
        // Who lies about when it was written could have his copy taken for the newest.
        let written_ns = pack.written_ns.min(stored_ns);
        let row = PackRow { id: pack.id, size_bytes, role: pack.role, written_ns };
        add_pack(&mut self.waiting, row, &of_pack);
        if self.waiting.packs.len() >= SEGMENT_PACKS || self.waiting.entries.len() >= SEGMENT_BLOBS {
            self.save()?;
        }
        Ok(())
    }

    fn save(&mut self) -> crate::repo::Result<()> {
        let mut contents = std::mem::take(&mut self.waiting);
        if contents.is_empty() {
            return Ok(());
        }
        let repository = &self.context.repository;
        let (store, keyring) = (&**repository.store(), repository.keyring());
        let segment = segments::save(store, keyring, self.origin.clone(), &mut contents)?;
        self.vouched.segments += 1;
        self.context.index.add_of(segment, &contents, &self.origin)
    }

    fn tell(&self) {
        if self.vouched.doubtful > 0 {
            let message = format!(
                "{} blobs that write-only clients stored are not what they say, or cannot be read: nothing relies on them; \
                 run `keepstone verify --all` to see whether a snapshot needs them",
                self.vouched.doubtful
            );
            self.context.monitor.event(Event::Problem(&Problem::new("index", message, Kind::Damaged)));
        }
    }
}

fn add_pack(contents: &mut SegmentContents, row: PackRow, of_pack: &OfPack) {
    let pack = contents.packs.len() as u32;
    let first = contents.frames.len() as u32;
    contents.packs.push(row);
    let mut keys: HashMap<_, u32> = contents.keys.iter().enumerate().map(|(n, key)| (*key, n as u32)).collect();
    for (located, _) in &of_pack.frames {
        let place = &located.place;
        let key = *keys.entry(place.key).or_insert_with(|| {
            contents.keys.push(place.key);
            contents.keys.len() as u32 - 1
        });
        contents.frames.push(FrameRow {
            pack,
            block_offset: place.block_offset,
            block_length: place.block_length,
            key,
            offset: place.frame_offset,
            length: place.frame_length,
            raw_length: place.raw_length,
            encoding: place.encoding,
            chain: place.chain.clone(),
        });
    }
    contents.entries.extend(of_pack.blobs.iter().map(|(located, frame)| Entry {
        id: located.id,
        frame: first + frame,
        offset: located.place.offset,
        length: located.place.length,
        kind: located.place.kind,
        start: located.marks.start,
        end: located.marks.end,
    }));
}
