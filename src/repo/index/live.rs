//! What lives: the questions of prune, verify and stats, answered with sets on disk.
//!
//! A [`LiveSet`] keeps its ids in a temporary file of its own: ids are marked, bases of what lives are added, and then
//! blobs are counted pack by pack. Memory goes with packs and one bit per frame, never with blobs. Nothing here holds
//! the index while it calls back, so a callback may ask it.

use super::cache::{Cache, temporary_connection};
use super::levels::{BlobRow, Levels, Lives};
use super::{Index, Marks, Place, is_proven, members, place};
use crate::base::{BlobId, PackId};
use crate::format::pack::{BlobKind, Role};
use crate::repo::{Error, Result};
use rusqlite::{Connection, OptionalExtension, params};
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
    /// All packs in the order in which the index learnt of them, void ones included.
    pub fn packs(&self) -> Result<Vec<PackSummary>> {
        Ok(self.numbered_packs()?.into_values().collect())
    }

    pub(super) fn numbered_packs(&self) -> Result<std::collections::BTreeMap<i64, PackSummary>> {
        self.state().cache.read(|cache| {
            let mut found = cache
                .connection
                .prepare("SELECT number, id, size, role, written_ns, blobs, void, proven FROM packs")?;
            let rows = found.query_map([], |row| {
                let role = Role::from_number(u64::from(row.get::<_, u8>(3)?)).unwrap_or(Role::Data);
                Ok((
                    row.get(0)?,
                    PackSummary {
                        id: PackId(row.get(1)?),
                        size_bytes: row.get::<_, i64>(2)? as u64,
                        role,
                        written_ns: row.get(4)?,
                        blobs: row.get::<_, i64>(5)? as u64,
                        void: row.get(6)?,
                        proven: row.get(7)?,
                    },
                ))
            })?;
            rows.collect()
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
        let packs = self.numbered_packs()?;
        self.each_frame_on_bases(&mut |_, pack, bases| match packs.get(&pack) {
            Some(pack) if wanted(pack) => each(bases),
            _ => Ok(()),
        })
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
        let packs = self.numbered_packs()?;
        let ranges = self.ranges()?;
        let pack_of = |frame: i64| {
            let place = ranges.partition_point(|(first, ..)| *first <= frame);
            let (first, count, pack) = *ranges.get(place.checked_sub(1)?)?;
            packs.get(&pack).filter(|pack| frame < first + count && !pack.void && wanted(pack))
        };
        self.rows(true, &mut |row| match (pack_of(row.frame), BlobKind::from_number(u64::from(row.kind))) {
            (Some(pack), Some(kind)) => each(&pack.id, &row.id, kind),
            _ => Ok(()),
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

    /// Ranges of frames: first, count, pack's number; ascending.
    pub(super) fn ranges(&self) -> Result<Vec<(i64, i64, i64)>> {
        self.state().cache.read(|cache| {
            let mut found = cache.connection.prepare("SELECT first, count, pack FROM pack_frames ORDER BY first")?;
            found.query_map([], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?.collect()
        })
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
        self.mark_bases_of_living(&on_bases)?;
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
    fn mark_bases_in_kept(&mut self, kept: &dyn Fn(&PackSummary) -> bool) -> Result<FrameBits> {
        let packs = self.index.numbered_packs()?;
        let mut left = FrameBits::default();
        let index = self.index;
        index.each_frame_on_bases(&mut |frame, pack, bases| {
            match packs.get(&pack) {
                Some(pack) if pack.void => {}
                Some(pack) if kept(pack) => self.mark_bases(bases)?,
                _ => left.set(frame),
            }
            Ok(())
        })?;
        Ok(left)
    }

    fn mark_bases_of_living(&mut self, on_bases: &FrameBits) -> Result<()> {
        let index = self.index;
        index.each_row(&mut |row| {
            if on_bases.get(row.frame) && self.contains(&row.id)? {
                let place = index.locate(&row)?.map(|located| located.place);
                self.mark_bases(place.and_then(|place| place.chain).map(|chain| chain.bases).unwrap_or_default())?;
            }
            Ok(())
        })
    }

    /// How much of each pack lives, void packs included, in the order of [`Index::packs`].
    pub fn pack_usage(&self) -> Result<Vec<PackUsage>> {
        let packs = self.index.numbered_packs()?.into_iter();
        let mut usages: Vec<(i64, PackUsage)> = packs
            .map(|(number, pack)| (number, PackUsage { pack, live_blobs: 0, total_bytes: 0, live_bytes: 0 }))
            .collect();
        self.gather_frames()?;
        let sorted = "SELECT frame, COUNT(*), SUM(length) FROM living GROUP BY frame ORDER BY frame";
        let mut sorted = self.connection.prepare(sorted).map_err(failed)?;
        let mut living = sorted.query([]).map_err(failed)?;
        let mut next = next_living(&mut living)?;
        self.index.each_frame(&mut |frame| {
            let Ok(place) = usages.binary_search_by_key(&frame.pack, |(number, _)| *number) else { return Ok(()) };
            let usage = &mut usages[place].1;
            usage.total_bytes += u64::from(frame.length);
            while next.is_some_and(|(number, ..)| number < frame.number) {
                next = next_living(&mut living)?;
            }
            if let Some((number, blobs, bytes)) = next.filter(|(number, ..)| *number == frame.number) {
                debug_assert_eq!(number, frame.number);
                let share = (bytes as f64 / f64::from(frame.raw_length.max(1))).min(1.0);
                usage.live_blobs += blobs as u64;
                usage.live_bytes += (f64::from(frame.length) * share).ceil() as u64;
            }
            Ok(())
        })?;
        Ok(usages.into_iter().map(|(_, usage)| usage).collect())
    }

    /// Writes frame and length of every living blob into the table `living`.
    fn gather_frames(&self) -> Result<()> {
        let connection = &self.connection;
        connection
            .execute_batch("DROP TABLE IF EXISTS living; CREATE TABLE living (frame, length); BEGIN")
            .map_err(failed)?;
        let mut insert = connection.prepare("INSERT INTO living VALUES (?, ?)").map_err(failed)?;
        self.index.each_row(&mut |row| {
            if self.contains(&row.id)? {
                insert.execute(params![row.frame, row.length]).map_err(failed)?;
            }
            Ok(())
        })?;
        connection.execute_batch("COMMIT").map_err(failed)
    }

    /// Calls `each` for every living blob in the packs that `wanted` picks, pack by pack and in the order of their
    /// places.
    pub fn each_live_by_pack(
        &self,
        wanted: &dyn Fn(&PackSummary) -> bool,
        each: &mut dyn FnMut(&PackId, &Located) -> Result<()>,
    ) -> Result<()> {
        members::each(self.index, wanted, &mut |id| self.contains(id), each)
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

/// One bit per frame.
#[derive(Default)]
pub(super) struct FrameBits(Vec<u64>);

impl FrameBits {
    pub(super) fn is_empty(&self) -> bool {
        self.0.iter().all(|word| *word == 0)
    }

    pub(super) fn clear(&mut self, frame: i64) {
        if let Some(word) = self.0.get_mut((frame >> 6) as usize) {
            *word &= !(1 << (frame & 63));
        }
    }

    pub(super) fn set(&mut self, frame: i64) {
        let word = (frame >> 6) as usize;
        if word >= self.0.len() {
            self.0.resize(word + 1, 0);
        }
        self.0[word] |= 1 << (frame & 63);
    }

    pub(super) fn get(&self, frame: i64) -> bool {
        self.0.get((frame >> 6) as usize).is_some_and(|word| word >> (frame & 63) & 1 == 1)
    }
}
