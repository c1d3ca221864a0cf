//! The answer to "do we have it, and where".
//!
//! The index in the repository is a set of immutable segments ([`segments`]); an [`Index`] answers from their local
//! SQLite form ([`cache`]), which holds memory flat however many blobs there are, and which is nothing but a cache:
//! deleted, it comes back from the segments, and those come back from the packs ([`rebuild`]).
//!
//! A blob is *known* only when a segment in the store says where it lies, in a pack that no later condemned record
//! names, in a block that was not found damaged.

mod add;
pub mod cache;
mod dead;
mod filter;
pub mod late;
mod levels;
pub mod live;
mod load;
mod members;
mod merge;
mod names;
mod own;
mod pinned;
pub mod rebuild;
mod recorded;
mod roster;
mod sealed;
pub mod segments;
mod sound;
#[cfg(test)]
mod tests;

pub use live::{Ascending, LiveSet, Located, PackSummary, PackUsage};
pub use load::{
    LOOKED_AT, Opened, Records, condemned_key, done_key, list_condemned, list_segments, load_condemned,
    load_condemned_at, missing_segment, present_segments, spared_key, unvouched,
};
pub use merge::{Vouching, merge_segments};
pub use names::Names;
pub use own::OwnCache;
pub use rebuild::{Rebuilt, delete_replaced, rebuild_from_packs};
pub use sealed::SealedPart;
pub use segments::{Origin, SegmentContents, SegmentReader, SegmentWriter, each_segment, save};

use crate::base::{Bits, BlobId, KeyId, Mark, PackId, SegmentId, SortedMap};
use crate::format::pack::{BlobKind, Chain, Encoding};
use crate::repo::keyring::Keyring;
use crate::repo::{Error, Result};
use crate::store::{Area, ObjectStore};
use cache::Cache;
use levels::{BlobRow, MarkRow};
use rusqlite::{OptionalExtension, params};
use std::collections::{BTreeSet, HashSet};
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Where a blob lies: all that is needed to read it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// The pack.
    pub pack: PackId,
    /// Where its block begins in the pack.
    pub block_offset: u64,
    /// The block's bytes in the pack.
    pub block_length: u32,
    /// The key that the block is sealed under.
    pub key: KeyId,
    /// Where its frame begins in the block's plaintext.
    pub frame_offset: u32,
    /// The frame's bytes there.
    pub frame_length: u32,
    /// The frame's bytes when decoded.
    pub raw_length: u32,
    /// How the frame is stored.
    pub encoding: Encoding,
    /// The frame's bases.
    pub chain: Option<Chain>,
    /// Where the blob begins in the decoded frame.
    pub offset: u32,
    /// The blob's length.
    pub length: u32,
    /// What it is.
    pub kind: BlobKind,
}

impl Place {
    /// How many frames on bases must be decoded, this one included; 0 for a whole copy.
    pub fn depth(&self) -> u32 {
        self.chain.as_ref().map_or(0, |chain| chain.depth)
    }
}

/// The newest blobs that begin or end like this.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Alike {
    /// The newest blob with this start mark.
    pub start: Option<BlobId>,
    /// The newest blob with this end mark.
    pub end: Option<BlobId>,
}

/// The two marks of a blob.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Marks {
    /// What stood before its start.
    pub start: Option<Mark>,
    /// What stood before its end.
    pub end: Option<Mark>,
}

/// The answer to a claim.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Claim {
    /// It is in the repository, and so is a segment that says where.
    Known,
    /// Somebody in this process is storing it.
    Pending,
    /// Store it: nobody else will.
    Yours,
}

/// The index of one repository, as one process uses it. All calls may come from several threads.
pub struct Index(Mutex<State>);

struct State {
    cache: Cache,
    /// Claimed by this process and in no stored segment yet.
    pending: HashSet<BlobId>,
    /// The newest frame that was recorded before this run.
    newest_before: i64,
    /// The highest number of a condemned record, open or closed, that was seen when the index was opened.
    condemned_seen: u64,
    /// What nobody vouches for is relied on too.
    trusting: bool,
    /// Segments that this process has read from the store, whole and authentic.
    segments_read: BTreeSet<SegmentId>,
}

impl Index {
    /// Opens the local cache in `cache_dir` and brings it up to date with the store. Without folder, or where none can
    /// be written, it lives in a private temporary file for as long as this value does.
    pub fn open(store: &dyn ObjectStore, keyring: &Keyring, cache_dir: Option<&Path>) -> Result<(Index, Opened)> {
        let (mut cache, found) = Cache::open(keyring.repository(), cache_dir)?;
        let mut opened = load::bring_up_to_date(&mut cache, store, keyring)?;
        opened.rebuilt = found.rebuilt;
        opened.notes.extend(found.notes);
        let newest_before = newest_frame(&mut cache)?;
        let condemned_seen = opened.highest_condemned;
        let segments_read = opened.loaded.iter().copied().collect();
        let state =
            State { cache, pending: HashSet::new(), newest_before, condemned_seen, trusting: false, segments_read };
        Ok((Index(Mutex::new(state)), opened))
    }

    /// Compares with the store once more: what was condemned or swept since the index was opened is unknown from now
    /// on. A writer does so after it has left its mark and before its first claim.
    pub fn refresh(&self, store: &dyn ObjectStore, keyring: &Keyring) -> Result<Opened> {
        let mut state = self.state();
        let opened = load::bring_up_to_date(&mut state.cache, store, keyring)?;
        state.newest_before = newest_frame(&mut state.cache)?;
        state.condemned_seen = opened.highest_condemned;
        state.segments_read.extend(&opened.loaded);
        Ok(opened)
    }

    /// Segments that this process has read from the store. What the cache knows of others it knows from earlier.
    pub fn segments_read(&self) -> BTreeSet<SegmentId> {
        self.state().segments_read.clone()
    }

    /// Relies, from here on, on what clients have stored that may only write, though nobody has looked at it: for who
    /// trusts all of them.
    pub fn trust_writers(&self) {
        self.state().trusting = true;
    }

    /// The bytes of all packs that are not void.
    pub fn stored_bytes(&self) -> Result<u64> {
        let bytes: i64 = self.state().cache.read(|cache| {
            let sum = "SELECT COALESCE(SUM(size), 0) FROM packs WHERE void = 0";
            cache.connection.prepare_cached(sum)?.query_row([], |row| row.get(0))
        })?;
        Ok(bytes as u64)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // A panic elsewhere leaves at worst a claim that nobody fulfils.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Asks for a blob that is about to be stored. Of all that ask for one id, one gets [`Claim::Yours`], and must
    /// store it or [`Index::unclaim`] it.
    pub fn claim(&self, id: &BlobId) -> Result<Claim> {
        let mut state = self.state();
        if state.pending.contains(id) {
            return Ok(Claim::Pending);
        }
        if state.relies_on(id)? {
            return Ok(Claim::Known);
        }
        state.pending.insert(*id);
        Ok(Claim::Yours)
    }

    /// Gives a claim back: storing the blob failed.
    pub fn unclaim(&self, id: &BlobId) {
        self.state().pending.remove(id);
    }

    /// Whether a stored segment says where the blob lies.
    pub fn contains(&self, id: &BlobId) -> Result<bool> {
        self.state().cache.read(|cache| is_there(cache, id))
    }

    /// Whether it can be relied on that the blob is stored: a segment says so for which somebody vouches.
    pub fn knows(&self, id: &BlobId) -> Result<bool> {
        self.state().relies_on(id)
    }

    /// Records what a segment that this process has just stored says; its blobs are known from now on. `contents` are
    /// as [`save`] left them: sorted.
    pub fn add(&self, segment: SegmentId, contents: &SegmentContents) -> Result<()> {
        let seen = self.state().condemned_seen;
        self.add_rows(segment, contents, seen, Vec::new())
    }

    /// The same, of a segment of this origin. Here too it says what its writer had seen, not what we have seen since: if
    /// the writer was fenced meanwhile it must count as late for us as for everybody else.
    pub fn add_of(&self, segment: SegmentId, contents: &SegmentContents, origin: &Origin) -> Result<()> {
        self.add_rows(segment, contents, origin.condemned_seen, origin.previous.clone())
    }

    fn add_rows(
        &self,
        segment: SegmentId,
        contents: &SegmentContents,
        condemned_seen: u64,
        previous: Vec<SegmentId>,
    ) -> Result<()> {
        let mut state = self.state();
        let rows = add::OwnRows::new(contents, condemned_seen, previous);
        add::add(&mut state.cache, segment, rows)?;
        for entry in &contents.entries {
            state.pending.remove(&entry.id);
        }
        Ok(())
    }

    /// Whether the blob is known, and all that is known of it agrees that it has `length` bytes. Quicker than
    /// [`Index::places`].
    pub fn is_known_with(&self, id: &BlobId, length: u64) -> Result<bool> {
        self.state().cache.read(|cache| {
            let mut found = false;
            for run in cache.blobs.present().filter(|run| run.may_hold(id)) {
                let mut find = cache.connection.prepare_cached(&run.find_rows)?;
                let mut rows = find.query([id.0.as_slice()])?;
                while let Some(row) = rows.next()? {
                    let blob = <levels::Blobs as levels::Family>::read(row)?;
                    if !cache.dead.holds(blob.frame) {
                        found = u64::from(blob.length) == length;
                        if !found {
                            return Ok(false);
                        }
                    }
                }
            }
            Ok(found)
        })
    }

    /// Where the blob lies, best first: whole copies before those on bases, short chains before long ones. Void packs
    /// and damaged blocks are left out.
    pub fn places(&self, id: &BlobId) -> Result<Vec<Place>> {
        self.state().cache.read(|cache| places(cache, id, false))
    }

    /// Where the blob lies in void packs. While what is there may go, it can be read: a snapshot that was made beside a
    /// prune may need it, and then it is spared.
    pub fn void_places(&self, id: &BlobId) -> Result<Vec<Place>> {
        self.state().cache.read(|cache| {
            let mut void = cache.connection.prepare_cached("SELECT 1 FROM packs WHERE id = ? AND void = 1")?;
            let mut damaged = cache.connection.prepare_cached(
                "SELECT 1 FROM packs JOIN pack_frames ON pack_frames.pack = packs.number
                 JOIN frames ON frames.number BETWEEN pack_frames.first AND pack_frames.first + pack_frames.count - 1
                 JOIN dead_frames ON frames.number BETWEEN dead_frames.first AND dead_frames.last
                 WHERE packs.id = ?1 AND block_offset = ?2 AND damaged IN (?3, ?4)",
            )?;
            let mut found = Vec::new();
            for place in places(cache, id, true)? {
                let at = params![place.pack.0, place.block_offset as i64, FOUND_DAMAGED, RECORDED];
                if void.exists([place.pack.0])? && !damaged.exists(at)? {
                    found.push(place);
                }
            }
            Ok(found)
        })
    }

    /// Where the blob lies in packs that are not void and cannot be read as far as is known: it, or what it stands on, was
    /// found damaged.
    pub fn damaged_places(&self, id: &BlobId) -> Result<Vec<Place>> {
        self.state().cache.read(|cache| {
            let mut counts = cache.connection.prepare_cached("SELECT 1 FROM packs WHERE id = ? AND void = 0")?;
            let mut found = places(cache, id, true)?;
            let mut failed = None;
            found.retain(|place| {
                let exists = counts.exists([place.pack.0]);
                exists.unwrap_or_else(|error| {
                    failed = Some(error);
                    false
                })
            });
            failed.map_or(Ok(found), Err)
        })
    }

    /// Whether anything is unknown because it, or what it stands on, was found damaged or gone.
    pub fn knows_of_damage(&self) -> Result<bool> {
        self.state().cache.read(|cache| {
            let any = "SELECT EXISTS (SELECT 1 FROM dead_frames WHERE damaged <> 0)";
            cache.connection.prepare_cached(any)?.query_row([], |row| row.get::<_, bool>(0))
        })
    }

    /// Where the blob may still be read when [`Index::places`] has nothing that works: in packs that are condemned but
    /// perhaps not yet deleted, and in blocks that were found damaged.
    pub fn last_places(&self, id: &BlobId) -> Result<Vec<Place>> {
        self.state().cache.read(|cache| places(cache, id, true))
    }

    /// The newest blobs with these marks that were recorded before this run: a delta never has a base of its own run.
    pub fn alike(&self, marks: &Marks) -> Result<Alike> {
        let mut state = self.state();
        let (newest, trusting) = (state.newest_before, state.trusting);
        state.cache.read(|cache| {
            let usable = |row: &MarkRow| {
                row.frame <= newest && !cache.dead.holds(row.frame) && (trusting || !cache.unproven.holds(row.frame))
            };
            Ok(Alike {
                start: newest_with(cache, marks.start, 0, &usable)?,
                end: newest_with(cache, marks.end, 1, &usable)?,
            })
        })
    }

    /// The marks of a blob; none if it is unknown.
    pub fn marks(&self, id: &BlobId) -> Result<Marks> {
        self.state().cache.read(|cache| {
            for run in cache.blobs.present().filter(|run| run.may_hold(id)) {
                let mut find = cache.connection.prepare_cached(&run.find_rows)?;
                let found = find.query_row([id.0.as_slice()], <levels::Blobs as levels::Family>::read).optional()?;
                if let Some(row) = found {
                    return Ok(Marks { start: row.start, end: row.end });
                }
            }
            Ok(Marks::default())
        })
    }

    /// Whether there is no blob at all.
    pub fn is_empty(&self) -> Result<bool> {
        Ok(self.blobs()? == 0)
    }

    /// How many blobs there are in packs that are not void; one with several places counts for each.
    pub fn blobs(&self) -> Result<u64> {
        let blobs: i64 = self.state().cache.read(|cache| {
            let sum = "SELECT COALESCE(SUM(blobs), 0) FROM packs WHERE void = 0";
            cache.connection.prepare_cached(sum)?.query_row([], |row| row.get(0))
        })?;
        Ok(blobs as u64)
    }

    /// Ends a run: its blobs may serve as bases from now on.
    pub fn finish_run(&self) -> Result<()> {
        let mut state = self.state();
        load::apply_marks(&mut state.cache)?;
        state.newest_before = newest_frame(&mut state.cache)?;
        state.pending.clear();
        let ended = state.cache.end_read();
        ended.map_err(|error| state.cache.failed(error))
    }

    /// Makes all blobs unknown whose frames lie in the block at `block_offset` of `pack`, because it cannot be read.
    /// What needs them is then stored again. Lasts as long as the cache does.
    pub fn mark_damaged(&self, pack: &PackId, block_offset: u64) -> Result<()> {
        let mut state = self.state();
        state.cache.write(|cache| mark_damaged(cache, pack, block_offset).map_err(|error| cache.failed(error)))
    }

    /// Where the blocks of a pack begin that were found damaged here, or are recorded as damaged.
    pub fn damaged_blocks(&self, pack: &PackId) -> Result<BTreeSet<u64>> {
        self.state().cache.read(|cache| {
            let mut found = cache.connection.prepare_cached(
                "SELECT DISTINCT block_offset FROM packs JOIN pack_frames ON pack_frames.pack = packs.number
                 JOIN frames ON frames.number BETWEEN pack_frames.first AND pack_frames.first + pack_frames.count - 1
                 JOIN dead_frames ON frames.number BETWEEN dead_frames.first AND dead_frames.last
                 WHERE packs.id = ? AND damaged IN (?, ?)",
            )?;
            let rows = found.query_map(params![pack.0, FOUND_DAMAGED, RECORDED], |row| row.get::<_, i64>(0))?;
            rows.map(|row| row.map(|offset| offset as u64)).collect()
        })
    }

    /// Takes back what was found damaged in these packs: they were mended, or are about to be read anew. What hangs on
    /// bases that are still unreadable has to be found once more, so whoever calls this reads the packs.
    pub fn forget_damage(&self, packs: &BTreeSet<PackId>) -> Result<()> {
        self.state().cache.write(|cache| forget_damage(cache, packs).map_err(|error| cache.failed(error)))
    }
}

impl Index {
    /// Compares the packs that the index names with those in the store. What should lie in a pack that is gone or has
    /// another size is unknown from now on, and so is what stands on such bases, on those found damaged earlier, or, if
    /// the index is not `whole`, on those that only a lost segment knew. One listing, no look at content.
    pub fn check_packs(&self, store: &dyn ObjectStore, whole: bool) -> Result<Whole> {
        let mut packs = Vec::new();
        self.each_pack::<Error>(&mut |pack| {
            packs.extend((!pack.void && pack.proven).then_some((pack.id, pack.size_bytes)));
            Ok(())
        })?;
        let packs: SortedMap<PackId, u64> = packs.into_iter().collect();
        let mut there = Bits::default();
        if !packs.is_empty() {
            store.list(Area::Packs, &mut |listed| {
                let place = listed.name.parse().ok().and_then(|id| packs.position(&id));
                let as_said = |place: &usize| packs.at(*place).is_some_and(|(_, bytes)| *bytes == listed.size_bytes);
                there.extend(place.filter(as_said));
            })?;
        }
        let missing = packs.iter().enumerate().filter(|(place, _)| !there.get(*place));
        let missing: Vec<PackId> = missing.map(|(_, (id, _))| *id).collect();
        drop(packs);
        let mut state = self.state();
        let any_of = |state: &mut State, why: i64| {
            state.cache.read(|cache| {
                let any = "SELECT EXISTS (SELECT 1 FROM dead_frames WHERE damaged = ?)";
                cache.connection.prepare_cached(any)?.query_row([why], |row| row.get::<_, bool>(0))
            })
        };
        let damaged = any_of(&mut state, FOUND_DAMAGED)? || any_of(&mut state, RECORDED)?;
        if damaged || !missing.is_empty() || !whole || any_of(&mut state, INFERRED)? {
            state.cache.write(|cache| mark_missing(cache, &missing).map_err(|error| cache.failed(error)))?;
        }
        Ok(Whole { missing, damaged })
    }
}

/// Why frames are dead, as the cache says it: somebody could not read them, which lasts; or what they need was not
/// there when the packs were compared last, which is found anew each time.
const FOUND_DAMAGED: i64 = 1;
const INFERRED: i64 = 2;
/// A record in the store says that they are damaged: for as long as it lies there.
const RECORDED: i64 = 3;

/// Whether what the index names is there, as far as that is known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Whole {
    /// Packs that are gone or have another size.
    pub missing: Vec<PackId>,
    /// Something was found damaged earlier.
    pub damaged: bool,
}

fn mark_missing(cache: &mut Cache, packs: &[PackId]) -> rusqlite::Result<()> {
    cache.connection.execute("DELETE FROM dead_frames WHERE damaged = ?", [INFERRED])?;
    for pack in packs {
        let Some(number) = load::pack_number(cache, *pack)? else { continue };
        let mut found = cache.connection.prepare_cached("SELECT first, count FROM pack_frames WHERE pack = ?")?;
        let ranges = found.query_map([number], |row| Ok((row.get(0)?, row.get::<_, i64>(1)?)))?;
        for range in ranges {
            let (first, count) = range?;
            mark_range(cache, first, first + count - 1)?;
        }
    }
    cache.reload_dead()?;
    // A frame whose base is unknown is lost, and so in turn is what stands on it.
    while mark_orphans(cache)? > 0 {
        cache.reload_dead()?;
    }
    Ok(())
}

/// Marks frames as unknown. Where the first of them was found damaged, its row stays as it is.
fn mark_range(cache: &Cache, mut first: i64, last: i64) -> rusqlite::Result<()> {
    let mut taken = cache.connection.prepare_cached("SELECT last FROM dead_frames WHERE first = ?")?;
    while let Some(end) = taken.query_row([first], |row| row.get::<_, i64>(0)).optional()? {
        first = end + 1;
    }
    if first <= last {
        let mark = "INSERT INTO dead_frames VALUES (?, ?, ?)";
        cache.connection.prepare_cached(mark)?.execute(params![first, last, INFERRED])?;
    }
    Ok(())
}

/// Marks the frames that stand on a blob nobody knows; says how many were new.
fn mark_orphans(cache: &Cache) -> rusqlite::Result<usize> {
    let mut orphans = Vec::new();
    let on_bases = "SELECT number, bases FROM frames WHERE bases IS NOT NULL";
    let mut frames = cache.connection.prepare_cached(on_bases)?;
    let mut rows = frames.query([])?;
    while let Some(row) = rows.next()? {
        let number: i64 = row.get(0)?;
        if cache.dead.holds(number) {
            continue;
        }
        let bases = row.get_ref(1)?.as_blob()?;
        for base in bases.chunks_exact(BlobId::SIZE).filter_map(BlobId::from_slice) {
            if !is_there(cache, &base)? {
                orphans.push(number);
                break;
            }
        }
    }
    for number in &orphans {
        let mark = "INSERT OR IGNORE INTO dead_frames VALUES (?, ?, ?)";
        cache.connection.prepare_cached(mark)?.execute(params![number, number, INFERRED])?;
    }
    Ok(orphans.len())
}

fn newest_frame(cache: &mut Cache) -> Result<i64> {
    cache.read(|cache| {
        let next = "SELECT value - 1 FROM meta WHERE name = 'next_frame'";
        cache.connection.prepare_cached(next)?.query_row([], |row| row.get(0))
    })
}

impl State {
    /// Whether it can be relied on that the blob is stored.
    fn relies_on(&mut self, id: &BlobId) -> Result<bool> {
        let trusting = self.trusting;
        self.cache.read(|cache| has_frame(cache, id, &|frame| trusting || !cache.unproven.holds(frame)))
    }
}

fn is_there(cache: &Cache, id: &BlobId) -> rusqlite::Result<bool> {
    has_frame(cache, id, &|_| true)
}

/// Whether the blob lies in a frame that counts for somebody for whom one vouches.
fn is_proven(cache: &Cache, id: &BlobId) -> rusqlite::Result<bool> {
    has_frame(cache, id, &|frame| !cache.unproven.holds(frame))
}

fn has_frame(cache: &Cache, id: &BlobId, counts: &dyn Fn(i64) -> bool) -> rusqlite::Result<bool> {
    for run in cache.blobs.present().filter(|run| run.may_hold(id)) {
        let mut find = cache.connection.prepare_cached(&run.find_frames)?;
        let mut rows = find.query([id.0.as_slice()])?;
        while let Some(row) = rows.next()? {
            let frame = row.get(0)?;
            if !cache.dead.holds(frame) && counts(frame) {
                return Ok(true);
            }
        }
    }
    Ok(false)
}

/// The places of a blob: those that count, or those that are `dead`. Where somebody vouches for one of them, the others
/// are left out: they are as good as their writer is honest.
fn places(cache: &Cache, id: &BlobId, dead: bool) -> rusqlite::Result<Vec<Place>> {
    let mut places = Vec::new();
    let mut unproven = Vec::new();
    for run in cache.blobs.present().filter(|run| run.may_hold(id)) {
        let mut find = cache.connection.prepare_cached(&run.find_rows)?;
        let mut rows = find.query([id.0.as_slice()])?;
        while let Some(row) = rows.next()? {
            let blob = <levels::Blobs as levels::Family>::read(row)?;
            if cache.dead.holds(blob.frame) == dead {
                let found = if cache.unproven.holds(blob.frame) { &mut unproven } else { &mut places };
                found.extend(place(cache, &blob)?);
            }
        }
    }
    if places.is_empty() {
        places = unproven;
    }
    places.sort_by_key(|place| (place.depth(), place.frame_length));
    Ok(places)
}

/// Where a blob lies; `None` when its frame is gone, or when it could not lie there.
fn place(cache: &Cache, blob: &BlobRow) -> rusqlite::Result<Option<Place>> {
    Ok(frame_place(cache, blob.frame)?.and_then(|frame| in_frame(&frame, blob)))
}

/// Where a frame lies, as the place of a blob of no bytes in it.
fn frame_place(cache: &Cache, frame: i64) -> rusqlite::Result<Option<Place>> {
    let mut find = cache.connection.prepare_cached(
        "SELECT packs.id, block_offset, block_length, keys.id, start, length, raw_length, encoding,
                bases, depth, delta_bytes, whole_bytes
         FROM frames CROSS JOIN packs ON packs.number = pack CROSS JOIN keys ON keys.number = key
         WHERE frames.number = ?",
    )?;
    Ok(find.query_row([frame], read_frame).optional()?.flatten())
}

/// The place of `blob` in a frame, unless it could not lie there.
fn in_frame(frame: &Place, blob: &BlobRow) -> Option<Place> {
    let kind = BlobKind::from_number(u64::from(blob.kind))?;
    let fits = u64::from(blob.offset) + u64::from(blob.length) <= u64::from(frame.raw_length);
    fits.then(|| Place { offset: blob.offset, length: blob.length, kind, ..frame.clone() })
}

fn read_frame(row: &rusqlite::Row<'_>) -> rusqlite::Result<Option<Place>> {
    let Ok(encoding) = Encoding::try_from(row.get::<_, u8>(7)?) else { return Ok(None) };
    Ok(Some(Place {
        pack: PackId(row.get(0)?),
        block_offset: row.get::<_, i64>(1)? as u64,
        block_length: row.get(2)?,
        key: KeyId(row.get(3)?),
        frame_offset: row.get(4)?,
        frame_length: row.get(5)?,
        raw_length: row.get(6)?,
        encoding,
        chain: merge::read_chain(row, 8)?,
        offset: 0,
        length: 0,
        kind: BlobKind::Data,
    }))
}

fn newest_with(
    cache: &Cache,
    mark: Option<Mark>,
    side: u8,
    usable: &dyn Fn(&MarkRow) -> bool,
) -> rusqlite::Result<Option<BlobId>> {
    let Some(mark) = mark else { return Ok(None) };
    let mut best: Option<MarkRow> = None;
    for run in cache.marks.present() {
        let mut find = cache.connection.prepare_cached(&run.find_rows)?;
        let found = find
            .query_row(params![i64::from_be_bytes(mark.0), side], <levels::Marked as levels::Family>::read)
            .optional()?;
        let usable = found.filter(usable);
        best = match (best, usable) {
            (Some(best), Some(row)) if row.written_ms <= best.written_ms => Some(best),
            (best, row) => row.or(best),
        };
    }
    match best {
        Some(row) => blob_of(cache, &row),
        None => Ok(None),
    }
}

/// The whole id of a blob of which a mark keeps the beginning.
fn blob_of(cache: &Cache, row: &MarkRow) -> rusqlite::Result<Option<BlobId>> {
    let (mut least, mut most) = ([0; 32], [0xff; 32]);
    least[..8].copy_from_slice(&row.blob.to_be_bytes());
    most[..8].copy_from_slice(&row.blob.to_be_bytes());
    for run in cache.blobs.present() {
        let find = format!("SELECT id FROM {} WHERE id BETWEEN ? AND ? AND frame = ?", run.table);
        let mut find = cache.connection.prepare_cached(&find)?;
        let id = find.query_row(params![least.as_slice(), most.as_slice(), row.frame], |row| row.get(0)).optional()?;
        if let Some(id) = id {
            return Ok(Some(BlobId(id)));
        }
    }
    Ok(None)
}

fn forget_damage(cache: &mut Cache, packs: &BTreeSet<PackId>) -> rusqlite::Result<()> {
    for pack in packs {
        let Some(number) = load::pack_number(cache, *pack)? else { continue };
        cache.connection.execute(
            "DELETE FROM dead_frames WHERE damaged <> 0 AND EXISTS (
                 SELECT 1 FROM pack_frames
                 WHERE pack = ? AND dead_frames.first BETWEEN pack_frames.first AND pack_frames.first + count - 1)",
            [number],
        )?;
    }
    cache.reload_dead()
}

fn mark_damaged(cache: &mut Cache, pack: &PackId, block_offset: u64) -> rusqlite::Result<()> {
    let Some(number) = load::pack_number(cache, *pack)? else { return Ok(()) };
    let more = cache.connection.execute(
        "INSERT OR IGNORE INTO dead_frames
         SELECT number, number, 1 FROM pack_frames JOIN frames ON number BETWEEN first AND first + count - 1
         WHERE pack_frames.pack = ? AND block_offset = ?",
        params![number, block_offset as i64],
    )?;
    if more > 0 {
        sound::found_more(&cache.connection)?;
    }
    cache.reload_dead()
}
