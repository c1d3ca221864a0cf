//! What lives: the questions of prune, verify and stats, answered with sets on disk.
//!
//! A [`LiveSet`] keeps its ids in a temporary file of its own: ids are marked, bases of what lives are added, and then
//! blobs are counted pack by pack. Memory goes with packs and one bit per frame, never with blobs. Nothing here holds
//! the index while it calls back, so a callback may ask it.

use super::cache::{Cache, temporary_connection};
use super::levels::{BlobRow, Levels, Lives};
use super::{Index, Marks, Place, is_proven, members, place};
use crate::base::{Bits, BlobId, PackId};
use crate::format::pack::{BlobKind, Role};
use crate::repo::{Error, Result};
use rusqlite::{Connection, OptionalExtension, params};
use std::cmp::Ordering;
use std::collections::BTreeSet;

/// Marked ids gather in memory up to this number before they are put in order on disk.
const GATHERED_IDS: usize = 65_536;
/// How many blobs are walked or placed before the index is free for others again.
const BATCH: usize = 1024;

/// A pack as the index knows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PackSummary {
    /// Its name.
    pub id: PackId,
    /// Its size in the store.
    pub size_bytes: u64,
    /// What it is for.
    pub role: Role,
    /// When it was written, nanoseconds since 1970.
    pub written_ns: i64,
    /// How many blobs lie in it.
    pub blobs: u64,
    /// Whether a condemned record names it.
    pub void: bool,
    /// Whether somebody vouches for what is said of it.
    pub proven: bool,
}

/// The columns of a pack, as `read_pack` takes them.
const PACK: &str = "number, id, size, role, written_ns, blobs, void, proven";

fn read_pack(row: &rusqlite::Row<'_>) -> rusqlite::Result<(i64, PackSummary)> {
    let pack = PackSummary {
        id: PackId(row.get(1)?),
        size_bytes: row.get::<_, i64>(2)? as u64,
        role: Role::from_number(u64::from(row.get::<_, u8>(3)?)).unwrap_or(Role::Data),
        written_ns: row.get(4)?,
        blobs: row.get::<_, i64>(5)? as u64,
        void: row.get(6)?,
        proven: row.get(7)?,
    };
    Ok((row.get(0)?, pack))
}

/// How much of a pack lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PackUsage {
    /// The pack.
    pub pack: PackSummary,
    /// Its blobs that live.
    pub live_blobs: u64,
    /// The bytes of its frames in the store.
    pub total_bytes: u64,
    /// The part of them that holds what lives: a frame counts by the share of its decoded bytes that live.
    pub live_bytes: u64,
}

/// A blob at a place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Located {
    /// Its name.
    pub id: BlobId,
    /// Where it lies.
    pub place: Place,
    /// Its marks.
    pub marks: Marks,
}

impl Index {
    /// All packs in the order in which the index learnt of them, void ones included. They all lie in memory:
    /// [`Index::each_pack`] does without.
    pub fn packs(&self) -> Result<Vec<PackSummary>> {
        let mut packs = Vec::new();
        self.each_pack::<Error>(&mut |pack| {
            packs.push(*pack);
            Ok(())
        })?;
        Ok(packs)
    }

    /// Calls `each` for all packs in the order in which the index learnt of them, void ones included. What is learnt
    /// meanwhile may be missed.
    pub fn each_pack<E: From<Error>>(&self, each: &mut dyn FnMut(&PackSummary) -> Result<(), E>) -> Result<(), E> {
        self.each_numbered(&mut |_, pack| each(pack))
    }

    /// The same, each with its number in the cache; these ascend.
    pub(super) fn each_numbered<E: From<Error>>(
        &self,
        each: &mut dyn FnMut(i64, &PackSummary) -> Result<(), E>,
    ) -> Result<(), E> {
        let mut after = 0;
        loop {
            let batch: Vec<(i64, PackSummary)> = self.state().cache.read(|cache| {
                let next = format!("SELECT {PACK} FROM packs WHERE number > ? ORDER BY number LIMIT ?");
                let mut found = cache.connection.prepare_cached(&next)?;
                found.query_map(params![after, BATCH as i64], read_pack)?.collect()
            })?;
            let Some((last, _)) = batch.last() else { return Ok(()) };
            after = *last;
            batch.iter().try_for_each(|(number, pack)| each(*number, pack))?;
        }
    }

    /// The numbers in the cache of the packs that `wanted` picks.
    pub(super) fn numbers_of(&self, wanted: &dyn Fn(&PackSummary) -> bool) -> Result<Bits> {
        let mut numbers = Bits::default();
        self.each_numbered::<Error>(&mut |number, pack| {
            if wanted(pack) {
                numbers.set(number as usize);
            }
            Ok(())
        })?;
        Ok(numbers)
    }

    /// The pack that has this number in the cache.
    pub(super) fn pack_numbered(&self, number: i64) -> Result<Option<PackSummary>> {
        self.state().cache.read(|cache| {
            let find = format!("SELECT {PACK} FROM packs WHERE number = ?");
            let found = cache.connection.prepare_cached(&find)?.query_row([number], read_pack).optional()?;
            Ok(found.map(|(_, pack)| pack))
        })
    }

    /// The bytes of a pack in the store; none if the index does not know it.
    pub fn pack_bytes(&self, pack: &PackId) -> Result<Option<u64>> {
        self.state().cache.read(|cache| {
            let mut find = cache.connection.prepare_cached("SELECT size FROM packs WHERE id = ?")?;
            let bytes = find.query_row([pack.0], |row| row.get::<_, i64>(0)).optional()?;
            Ok(bytes.map(|bytes| bytes as u64))
        })
    }

    /// An empty set of living blobs.
    pub fn begin_live(&self) -> Result<LiveSet<'_>> {
        let open = || {
            let connection = temporary_connection()?;
            connection.execute_batch(super::levels::SCHEMA)?;
            let levels = Levels::load(&connection)?;
            Ok((connection, levels))
        };
        let (connection, levels) = open().map_err(failed)?;
        Ok(LiveSet { index: self, connection, levels, gathered: BTreeSet::new() })
    }

    /// Calls `each` for every blob in every pack that `wanted` picks, pack by pack and in the order of their places.
    pub fn each_by_pack(
        &self,
        wanted: &dyn Fn(&PackSummary) -> bool,
        each: &mut dyn FnMut(&PackId, &Located) -> Result<()>,
    ) -> Result<()> {
        members::each(self, wanted, &mut |_| Ok(true), each)
    }

    /// Calls `each` with the bases of every difference in every pack that `wanted` picks, void packs included.
    pub fn each_chain(
        &self,
        wanted: &dyn Fn(&PackSummary) -> bool,
        each: &mut dyn FnMut(Vec<BlobId>) -> Result<()>,
    ) -> Result<()> {
        let wanted = self.numbers_of(wanted)?;
        self.each_frame_on_bases(&mut |_, pack, bases| if wanted.get(pack as usize) { each(bases) } else { Ok(()) })
    }

    /// Calls `each` for every place of every blob, by id. Void packs and damaged blocks are left out.
    pub fn each_entry(&self, each: &mut dyn FnMut(&Located) -> Result<()>) -> Result<()> {
        self.each_row(&mut |row| {
            let located = self.locate(&row)?;
            located.map_or(Ok(()), |located| each(&located))
        })
    }

    fn locate(&self, row: &BlobRow) -> Result<Option<Located>> {
        let place = self.state().cache.read(|cache| place(cache, row))?;
        Ok(place.map(|place| Located { id: row.id, place, marks: Marks { start: row.start, end: row.end } }))
    }

    /// Walks all blobs by id, letting the index go between batches. Blobs that are added meanwhile may be missed.
    pub(super) fn each_row(&self, each: &mut dyn FnMut(BlobRow) -> Result<()>) -> Result<()> {
        self.rows(false, each)
    }

    /// Calls `each` for the blobs that are unknown although they lie in packs that `wanted` picks: because they, or what
    /// they stand on, were found damaged.
    pub fn each_damaged(
        &self,
        wanted: &dyn Fn(&PackSummary) -> bool,
        each: &mut dyn FnMut(&PackId, &BlobId, BlobKind) -> Result<()>,
    ) -> Result<()> {
        let ranges = self.ranges(&self.numbers_of(&|pack| !pack.void && wanted(pack))?)?;
        self.rows(true, &mut |row| {
            let pack = ranges.pack_of(row.frame).map(|pack| self.pack_numbered(pack)).transpose()?.flatten();
            match (pack, BlobKind::from_number(u64::from(row.kind))) {
                (Some(pack), Some(kind)) => each(&pack.id, &row.id, kind),
                _ => Ok(()),
            }
        })
    }

    /// Walks the blobs whose frames are dead, or the others.
    fn rows(&self, dead: bool, each: &mut dyn FnMut(BlobRow) -> Result<()>) -> Result<()> {
        let mut after = None;
        loop {
            let batch = self.state().cache.read(|cache| {
                let mut rows = cache.blobs.batch(&cache.connection, after, BATCH)?;
                after = rows.last().map(|row| (row.id, row.frame));
                rows.retain(|row| cache.dead.holds(row.frame) == dead);
                if !dead {
                    leave_out_doubtful(cache, &mut rows)?;
                }
                Ok(rows)
            })?;
            if after.is_none() {
                return Ok(());
            }
            for row in batch {
                each(row)?;
            }
        }
    }

    /// The frames of the packs with these numbers in the cache.
    pub(super) fn ranges(&self, packs: &Bits) -> Result<Ranges> {
        self.state().cache.read(|cache| {
            let mut ranges = Vec::new();
            let mut found =
                cache.connection.prepare_cached("SELECT first, count, pack FROM pack_frames ORDER BY first")?;
            let mut rows = found.query([])?;
            while let Some(row) = rows.next()? {
                let pack: u32 = row.get(2)?;
                if packs.get(pack as usize) {
                    ranges.push((row.get(0)?, row.get(1)?, pack));
                }
            }
            Ok(Ranges(ranges))
        })
    }
}

/// Ranges of frames, each of one pack: first, count, the pack's number in the cache; ascending.
pub(super) struct Ranges(Vec<(i64, u32, u32)>);

impl Ranges {
    /// The number of the pack that a frame lies in.
    pub(super) fn pack_of(&self, frame: i64) -> Option<i64> {
        let place = self.0.partition_point(|(first, ..)| *first <= frame);
        let (first, count, pack) = *self.0.get(place.checked_sub(1)?)?;
        (frame < first + i64::from(count)).then_some(i64::from(pack))
    }
}

/// Leaves out the places for which nobody vouches of blobs that have others.
fn leave_out_doubtful(cache: &Cache, rows: &mut Vec<BlobRow>) -> rusqlite::Result<()> {
    let mut doubtful = BTreeSet::new();
    for row in rows.iter().filter(|row| cache.unproven.holds(row.frame)) {
        if is_proven(cache, &row.id)? {
            doubtful.insert((row.id, row.frame));
        }
    }
    rows.retain(|row| !doubtful.contains(&(row.id, row.frame)));
    Ok(())
}

/// The error that a failed statement on a temporary set amounts to.
pub(super) fn failed(error: rusqlite::Error) -> Error {
    Error::Cache { path: "(temporary set of living blobs)".to_owned(), reason: error.to_string() }
}

/// Blobs that live, on disk; gone when dropped.
pub struct LiveSet<'a> {
    pub(super) index: &'a Index,
    connection: Connection,
    levels: Levels<Lives>,
    gathered: BTreeSet<BlobId>,
}

impl LiveSet<'_> {
    /// Marks a blob; true when it was not marked before.
    pub fn mark(&mut self, id: &BlobId) -> Result<bool> {
        if self.contains(id)? {
            return Ok(false);
        }
        self.gathered.insert(*id);
        if self.gathered.len() >= GATHERED_IDS {
            self.settle()?;
        }
        Ok(true)
    }

    /// Marks blobs.
    pub fn mark_live(&mut self, ids: &[BlobId]) -> Result<()> {
        for id in ids {
            self.gathered.insert(*id);
            if self.gathered.len() >= GATHERED_IDS {
                self.settle()?;
            }
        }
        Ok(())
    }

    /// Whether a blob is marked.
    pub fn contains(&self, id: &BlobId) -> Result<bool> {
        Ok(self.gathered.contains(id) || self.levels.holds(&self.connection, id).map_err(failed)?)
    }

    /// How many blobs are marked, at most: one that was marked long ago and again counts twice until merged.
    pub fn count(&self) -> u64 {
        self.gathered.len() as u64 + self.levels.rows() as u64
    }

    fn settle(&mut self) -> Result<()> {
        let gathered = std::mem::take(&mut self.gathered);
        let mut ids = gathered.into_iter();
        let mut settle = || {
            self.connection.execute_batch("BEGIN")?;
            let count = ids.len() as i64;
            self.levels.insert::<rusqlite::Error>(&self.connection, count, &|_| false, || Ok(ids.next()))?;
            self.connection.execute_batch("COMMIT")
        };
        settle().map_err(failed)
    }

    /// Marks the bases, and theirs in turn, of all blobs that are marked and of all blobs in packs that `kept` picks:
    /// a delta that stays in a pack needs its bases, referenced or not. Void packs are never kept.
    pub fn close_over_bases(&mut self, kept: &dyn Fn(&PackSummary) -> bool) -> Result<()> {
        self.connection
            .execute_batch("CREATE TABLE IF NOT EXISTS todo (number INTEGER PRIMARY KEY, id BLOB)")
            .map_err(failed)?;
        let on_bases = self.mark_bases_in_kept(kept)?;
        if !on_bases.is_empty() {
            self.mark_bases_of_living(&on_bases)?;
        }
        while let Some(id) = self.next_todo()? {
            for place in self.index.places(&id)? {
                self.mark_bases(place.chain.map(|chain| chain.bases).unwrap_or_default())?;
            }
        }
        Ok(())
    }

    fn mark_bases(&mut self, bases: Vec<BlobId>) -> Result<()> {
        for base in bases {
            if self.mark(&base)? {
                let insert = self.connection.prepare_cached("INSERT INTO todo (id) VALUES (?)");
                insert.and_then(|mut insert| insert.execute([base.0])).map_err(failed)?;
            }
        }
        Ok(())
    }

    fn next_todo(&mut self) -> Result<Option<BlobId>> {
        let take = "DELETE FROM todo WHERE number = (SELECT MAX(number) FROM todo) RETURNING id";
        let taken = self.connection.prepare_cached(take).and_then(|mut take| {
            let mut rows = take.query([])?;
            let id = rows.next()?.map(|row| row.get(0)).transpose()?;
            // A statement that returns rows has done its work only when it is asked for one more.
            while rows.next()?.is_some() {}
            Ok(id.map(BlobId))
        });
        taken.map_err(failed)
    }

    /// Marks the bases of all frames in kept packs; gives the frames on bases in packs that are not kept.
    fn mark_bases_in_kept(&mut self, kept: &dyn Fn(&PackSummary) -> bool) -> Result<Bits> {
        let index = self.index;
        let void = index.numbers_of(&|pack| pack.void)?;
        let kept = index.numbers_of(&|pack| !pack.void && kept(pack))?;
        let mut left = Bits::default();
        index.each_frame_on_bases(&mut |frame, pack, bases| {
            if kept.get(pack as usize) {
                self.mark_bases(bases)?;
            } else if !void.get(pack as usize) {
                left.set(frame as usize);
            }
            Ok(())
        })?;
        Ok(left)
    }

    fn mark_bases_of_living(&mut self, on_bases: &Bits) -> Result<()> {
        let index = self.index;
        index.each_row(&mut |row| {
            if on_bases.get(row.frame as usize) && self.contains(&row.id)? {
                let place = index.locate(&row)?.map(|located| located.place);
                self.mark_bases(place.and_then(|place| place.chain).map(|chain| chain.bases).unwrap_or_default())?;
            }
            Ok(())
        })
    }

    /// Calls `each` with how much of each pack lives, void packs included, and with the number that the cache knows it by;
    /// these ascend.
    pub fn each_usage<E: From<Error>>(&self, each: &mut dyn FnMut(i64, PackUsage) -> Result<(), E>) -> Result<(), E> {
        let mut sums = self.sums()?.into_iter().peekable();
        self.index.each_numbered(&mut |number, pack| {
            while sums.next_if(|sum| sum.pack < number).is_some() {}
            let sum = sums.next_if(|sum| sum.pack == number).unwrap_or_default();
            let Sum { live_blobs, total_bytes, live_bytes, .. } = sum;
            each(number, PackUsage { pack: *pack, live_blobs: u64::from(live_blobs), total_bytes, live_bytes })
        })
    }

    /// What the frames of each pack come to, by the number of the pack.
    fn sums(&self) -> Result<Vec<Sum>> {
        let mut sums: Vec<Sum> = Vec::new();
        self.index.each_numbered::<Error>(&mut |pack, _| {
            sums.push(Sum { pack, ..Sum::default() });
            Ok(())
        })?;
        self.gather_frames()?;
        let sorted = "SELECT frame, COUNT(*), SUM(length) FROM living GROUP BY frame ORDER BY frame";
        let mut sorted = self.connection.prepare(sorted).map_err(failed)?;
        let mut living = sorted.query([]).map_err(failed)?;
        let mut next = next_living(&mut living)?;
        self.index.each_frame(&mut |frame| {
            let Ok(place) = sums.binary_search_by_key(&frame.pack, |sum| sum.pack) else { return Ok(()) };
            let sum = &mut sums[place];
            sum.total_bytes += u64::from(frame.length);
            while next.is_some_and(|(number, ..)| number < frame.number) {
                next = next_living(&mut living)?;
            }
            if let Some((number, blobs, bytes)) = next.filter(|(number, ..)| *number == frame.number) {
                debug_assert_eq!(number, frame.number);
                let share = (bytes as f64 / f64::from(frame.raw_length.max(1))).min(1.0);
                sum.live_blobs = sum.live_blobs.saturating_add(u32::try_from(blobs).unwrap_or(u32::MAX));
                sum.live_bytes += (f64::from(frame.length) * share).ceil() as u64;
            }
            Ok(())
        })?;
        Ok(sums)
    }

    /// Writes frame and length of every living blob into the table `living`.
    fn gather_frames(&self) -> Result<()> {
        let connection = &self.connection;
        connection
            .execute_batch("DROP TABLE IF EXISTS living; CREATE TABLE living (frame, length); BEGIN")
            .map_err(failed)?;
        let mut insert = connection.prepare("INSERT INTO living VALUES (?, ?)").map_err(failed)?;
        let mut ascending = self.ascending();
        self.index.each_row(&mut |row| {
            if ascending.contains(&row.id)? {
                insert.execute(params![row.frame, row.length]).map_err(failed)?;
            }
            Ok(())
        })?;
        connection.execute_batch("COMMIT").map_err(failed)
    }

    /// Answers for ids that ascend: walking along is a fraction of the work of looking each of them up.
    pub fn ascending(&self) -> Ascending<'_> {
        Ascending { live: self, batch: Vec::new(), place: 0, after: None, is_over: false }
    }

    /// Calls `each` for every living blob in the packs that `wanted` picks, pack by pack and in the order of their
    /// places.
    pub fn each_live_by_pack(
        &self,
        wanted: &dyn Fn(&PackSummary) -> bool,
        each: &mut dyn FnMut(&PackId, &Located) -> Result<()>,
    ) -> Result<()> {
        let mut ascending = self.ascending();
        members::each(self.index, wanted, &mut |id| ascending.contains(id), each)
    }
}

/// What the frames of a pack come to.
#[derive(Clone, Copy, Default)]
struct Sum {
    pack: i64,
    total_bytes: u64,
    live_bytes: u64,
    live_blobs: u32,
}

/// A walk along a set of living blobs.
pub struct Ascending<'a> {
    live: &'a LiveSet<'a>,
    batch: Vec<BlobId>,
    place: usize,
    after: Option<BlobId>,
    is_over: bool,
}

impl Ascending<'_> {
    /// Whether a blob is marked; none is asked for that comes before the last one.
    pub fn contains(&mut self, id: &BlobId) -> Result<bool> {
        loop {
            while let Some(next) = self.batch.get(self.place) {
                match next.cmp(id) {
                    Ordering::Less => self.place += 1,
                    Ordering::Equal => return Ok(true),
                    Ordering::Greater => return Ok(self.live.gathered.contains(id)),
                }
            }
            if self.is_over {
                return Ok(self.live.gathered.contains(id));
            }
            self.batch = self.live.levels.batch(&self.live.connection, self.after, BATCH).map_err(failed)?;
            (self.place, self.after, self.is_over) = (0, self.batch.last().copied(), self.batch.len() < BATCH);
        }
    }
}

fn next_living(rows: &mut rusqlite::Rows<'_>) -> Result<Option<(i64, i64, i64)>> {
    let row = rows.next().map_err(failed)?;
    row.map(|row| Ok((row.get(0)?, row.get(1)?, row.get(2)?))).transpose().map_err(failed)
}

/// A frame as far as its bytes are counted.
struct FrameBytes {
    number: i64,
    pack: i64,
    length: u32,
    raw_length: u32,
}

impl Index {
    fn each_frame(&self, each: &mut dyn FnMut(FrameBytes) -> Result<()>) -> Result<()> {
        let mut after = 0;
        loop {
            let batch: Vec<FrameBytes> = self.state().cache.read(|cache| {
                let mut found = cache.connection.prepare_cached(
                    "SELECT number, pack, length, raw_length FROM frames WHERE number > ? ORDER BY number LIMIT ?",
                )?;
                let rows = found.query_map(params![after, BATCH as i64], |row| {
                    Ok(FrameBytes {
                        number: row.get(0)?,
                        pack: row.get(1)?,
                        length: row.get(2)?,
                        raw_length: row.get(3)?,
                    })
                })?;
                rows.collect()
            })?;
            let Some(last) = batch.last() else { return Ok(()) };
            after = last.number;
            batch.into_iter().try_for_each(&mut *each)?;
        }
    }

    /// Calls `each` for every frame on bases: its number, its pack's number, its bases.
    pub(super) fn each_frame_on_bases(&self, each: &mut dyn FnMut(i64, i64, Vec<BlobId>) -> Result<()>) -> Result<()> {
        let mut after = 0;
        loop {
            let batch = self.frames_on_bases(after, BATCH)?;
            let Some((last, ..)) = batch.last() else { return Ok(()) };
            after = *last;
            batch.into_iter().try_for_each(|(frame, pack, bases)| each(frame, pack, bases))?;
        }
    }

    /// Frames on bases with numbers above `after`: number, pack's number, bases.
    fn frames_on_bases(&self, after: i64, limit: usize) -> Result<Vec<(i64, i64, Vec<BlobId>)>> {
        self.state().cache.read(|cache| {
            let mut found = cache.connection.prepare_cached(
                "SELECT number, pack, bases FROM frames WHERE number > ? AND bases IS NOT NULL ORDER BY number LIMIT ?",
            )?;
            let rows = found.query_map(params![after, limit as i64], |row| {
                let bases = row.get_ref(2)?.as_blob()?;
                Ok((row.get(0)?, row.get(1)?, bases.chunks_exact(32).filter_map(BlobId::from_slice).collect()))
            })?;
            rows.collect()
        })
    }
}
