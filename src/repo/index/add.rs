//! Adding what segments say to the cache: packs, frames, blobs, marks.
//!
//! Several segments can be added at once: their entries then pass through one merge instead of one each.

use super::cache::{Cache, FILE_NAME};
use super::levels::{BlobRow, Family as _, MarkRow, Marked};
use super::load::{forget_frames, update_void};
use super::segments::{SegmentContents, SegmentReader};
use crate::base::{BlobId, KeyId, SegmentId};
use crate::format::segment::{Entry, FrameRow, PackRow};
use crate::repo::{Error, Result};
use rusqlite::{Connection, OptionalExtension, Statement, params};
use std::collections::HashMap;

/// The most places of one blob in one segment.
const MAX_COPIES: usize = 4096;

/// Where the rows of a segment come from: packs, then frames, then entries by id.
pub trait SegmentRows {
    /// The highest condemned record that its writer had seen.
    fn condemned_seen(&self) -> u64;
    /// Whether somebody vouches for what it says, whom one can rely on.
    fn proven(&self) -> bool;
    /// The segments that it names as its predecessors.
    fn previous(&self) -> Vec<SegmentId>;
    /// The keys that frames speak of.
    fn keys(&self) -> Vec<KeyId>;
    /// How many entries there will be.
    fn entries(&self) -> u64;
    /// The next pack.
    fn next_pack(&mut self) -> Result<Option<PackRow>>;
    /// The next frame.
    fn next_frame(&mut self) -> Result<Option<FrameRow>>;
    /// The next entry.
    fn next_entry(&mut self) -> Result<Option<Entry>>;
    /// Called after the last row; an error here undoes all.
    fn finish(self) -> Result<()>;
}

impl SegmentRows for SegmentReader<'_> {
    fn condemned_seen(&self) -> u64 {
        self.head.condemned_seen
    }
    fn proven(&self) -> bool {
        self.is_proven()
    }
    fn previous(&self) -> Vec<SegmentId> {
        self.head.previous.clone()
    }
    fn keys(&self) -> Vec<KeyId> {
        self.head.keys.clone()
    }
    fn entries(&self) -> u64 {
        self.head.entries
    }
    fn next_pack(&mut self) -> Result<Option<PackRow>> {
        SegmentReader::next_pack(self)
    }
    fn next_frame(&mut self) -> Result<Option<FrameRow>> {
        SegmentReader::next_frame(self)
    }
    fn next_entry(&mut self) -> Result<Option<Entry>> {
        SegmentReader::next_entry(self)
    }
    fn finish(self) -> Result<()> {
        SegmentReader::finish(self)
    }
}

/// The rows of a segment that was just stored from memory.
pub struct OwnRows<'a> {
    contents: &'a SegmentContents,
    condemned_seen: u64,
    previous: Vec<SegmentId>,
    next: [usize; 3],
}

impl<'a> OwnRows<'a> {
    /// The rows of sorted `contents`, whose writer has seen a condemned record and named predecessors.
    pub fn new(contents: &'a SegmentContents, condemned_seen: u64, previous: Vec<SegmentId>) -> OwnRows<'a> {
        OwnRows { contents, condemned_seen, previous, next: [0; 3] }
    }
}

impl SegmentRows for OwnRows<'_> {
    fn condemned_seen(&self) -> u64 {
        self.condemned_seen
    }
    /// What this very process has stored.
    fn proven(&self) -> bool {
        true
    }
    fn previous(&self) -> Vec<SegmentId> {
        self.previous.clone()
    }
    fn keys(&self) -> Vec<KeyId> {
        self.contents.keys.clone()
    }
    fn entries(&self) -> u64 {
        self.contents.entries.len() as u64
    }
    fn next_pack(&mut self) -> Result<Option<PackRow>> {
        self.next[0] += 1;
        Ok(self.contents.packs.get(self.next[0] - 1).copied())
    }
    fn next_frame(&mut self) -> Result<Option<FrameRow>> {
        self.next[1] += 1;
        Ok(self.contents.frames.get(self.next[1] - 1).cloned())
    }
    fn next_entry(&mut self) -> Result<Option<Entry>> {
        self.next[2] += 1;
        Ok(self.contents.entries.get(self.next[2] - 1).copied())
    }
    fn finish(self) -> Result<()> {
        Ok(())
    }
}

/// Adds all rows of a segment in one transaction. A segment that is there already changes nothing.
pub fn add(cache: &mut Cache, id: SegmentId, rows: impl SegmentRows) -> Result<()> {
    add_all(cache, vec![(id, rows)])
}

/// Adds all rows of some segments in one transaction; those that are there already change nothing.
///
/// A pack is either *proven*, when a segment names it for which somebody vouches, or not. Of a proven pack it counts only
/// what such segments say; of another one, what each segment says, for itself.
pub fn add_all<R: SegmentRows>(cache: &mut Cache, mut segments: Vec<(SegmentId, R)>) -> Result<()> {
    segments.sort_by_key(|(_, rows)| !rows.proven());
    cache.write(|cache| {
        // What is only appended needs little of the page cache; the readers and filters need memory too.
        let limited = cache.limit_page_cache(2);
        let added = limited.map_err(Failed::from).and_then(|()| try_add(cache, segments));
        let restored = cache.limit_page_cache(1);
        added.map_err(|failed| failed.0)?;
        restored.map_err(|error| cache.failed(error))
    })
}

/// An error of SQLite on its way through code that has others too.
struct Failed(Error);

impl From<rusqlite::Error> for Failed {
    fn from(error: rusqlite::Error) -> Failed {
        Failed(Error::Cache { path: FILE_NAME.to_owned(), reason: error.to_string() })
    }
}

impl From<Error> for Failed {
    fn from(error: Error) -> Failed {
        Failed(error)
    }
}

fn try_add<R: SegmentRows>(cache: &mut Cache, segments: Vec<(SegmentId, R)>) -> Result<(), Failed> {
    let old_frames: i64 = next_frame(&cache.connection)?;
    let mut sources = Vec::new();
    for (id, mut rows) in segments {
        let known = cache.connection.prepare_cached("SELECT 1 FROM segments WHERE id = ?")?.exists([id.0])?;
        if !known {
            let numbers = add_packs(cache, id, &mut rows)?;
            let frames = add_frames(cache, &mut rows, &numbers)?;
            sources.push(Source { rows, numbers, frames, ahead: None, group: Vec::new() });
        }
    }
    add_entries(cache, &mut sources, old_frames)?;
    let mut may_be_void = false;
    for source in sources {
        source.rows.finish()?;
        may_be_void |= source.numbers.may_be_void;
    }
    if may_be_void {
        update_void(cache)?;
        cache.reload_dead()?;
    }
    Ok(())
}

fn next_frame(connection: &Connection) -> rusqlite::Result<i64> {
    connection.query_row("SELECT value FROM meta WHERE name = 'next_frame'", [], |row| row.get(0))
}

/// A pack of the segment in the cache.
#[derive(Clone, Copy)]
struct PackNumber {
    number: i64,
    known: bool,
    /// What this segment says of it does not count.
    passed_over: bool,
    written_ns: i64,
    /// Blobs that it has got.
    blobs: i64,
}

struct Numbers {
    packs: Vec<PackNumber>,
    keys: Vec<i64>,
    may_be_void: bool,
}

fn add_packs(cache: &Cache, id: SegmentId, rows: &mut impl SegmentRows) -> Result<Numbers, Failed> {
    let connection = &cache.connection;
    connection
        .prepare_cached("INSERT INTO segments (id, condemned_seen, proven) VALUES (?, ?, ?)")?
        .execute(params![id.0, rows.condemned_seen() as i64, rows.proven()])?;
    let segment = connection.last_insert_rowid();
    let mut follows = connection.prepare_cached("INSERT OR IGNORE INTO segment_previous VALUES (?, ?)")?;
    // Somebody who lies could say that any segment should be there, or that one has been named already.
    for previous in rows.previous().into_iter().filter(|_| rows.proven()) {
        follows.execute(params![segment, previous.0])?;
    }
    let keys = rows.keys().iter().map(|key| key_number(cache, *key)).collect::<rusqlite::Result<_>>()?;
    let mut numbers = Numbers { packs: Vec::new(), keys, may_be_void: false };
    let mut find = connection.prepare_cached("SELECT number, proven FROM packs WHERE id = ?")?;
    let mut condemned = connection.prepare_cached(
        "SELECT 1 FROM condemned_packs WHERE id = ?1 UNION ALL SELECT 1 FROM roster_packs WHERE id = ?1
         UNION ALL SELECT 1 FROM packs WHERE id = ?1 AND void = 1",
    )?;
    let mut insert = connection.prepare_cached(
        "INSERT INTO packs (id, size, role, written_ns, blobs, void, proven) VALUES (?, ?, ?, ?, 0, 0, ?)",
    )?;
    let proven = rows.proven();
    let mut name = connection.prepare_cached("INSERT OR IGNORE INTO segment_packs VALUES (?, ?)")?;
    while let Some(row) = rows.next_pack()? {
        let known: Option<(i64, bool)> = find.query_row([row.id.0], |row| Ok((row.get(0)?, row.get(1)?))).optional()?;
        let number = match known {
            Some((number, was_proven)) => {
                if proven && !was_proven {
                    prove(cache, number, &row)?;
                    numbers.may_be_void = true;
                }
                number
            }
            None => {
                insert.execute(params![row.id.0, row.size_bytes as i64, row.role.number(), row.written_ns, proven])?;
                numbers.may_be_void |= !proven;
                connection.last_insert_rowid()
            }
        };
        numbers.may_be_void |= condemned.exists([row.id.0])?;
        name.execute(params![segment, number])?;
        let was_proven = known.is_some_and(|(_, was_proven)| was_proven);
        let passed_over = was_proven && !proven;
        numbers.packs.push(PackNumber { number, known: was_proven, passed_over, written_ns: row.written_ns, blobs: 0 });
    }
    Ok(numbers)
}

/// From here on it counts of a pack what a segment says for which somebody vouches.
fn prove(cache: &Cache, number: i64, row: &PackRow) -> Result<(), Failed> {
    forget_frames(&cache.connection, number)?;
    cache
        .connection
        .prepare_cached("UPDATE packs SET proven = 1, size = ?, role = ?, written_ns = ?, blobs = 0 WHERE number = ?")?
        .execute(params![row.size_bytes as i64, row.role.number(), row.written_ns, number])?;
    Ok(())
}

fn key_number(cache: &Cache, key: KeyId) -> rusqlite::Result<i64> {
    let connection = &cache.connection;
    connection.prepare_cached("INSERT OR IGNORE INTO keys (id) VALUES (?)")?.execute([key.0])?;
    connection.prepare_cached("SELECT number FROM keys WHERE id = ?")?.query_row([key.0], |row| row.get(0))
}

/// Which frames of the cache the frames of a segment are: runs of equal distance within one pack.
struct FrameRuns {
    /// First number in the segment, first number in the cache, pack's number in the segment.
    runs: Vec<(i64, i64, u32)>,
}

/// Frames that do not count have numbers below zero, from here on.
const PASSED_OVER: i64 = i64::MIN / 2;

/// Frames by block offset and offset.
type FramesByPlace = HashMap<(u64, u32), i64>;

impl FrameRuns {
    fn push(&mut self, in_segment: i64, in_cache: i64, pack: u32) {
        let follows = self
            .runs
            .last()
            .is_some_and(|(segment, cache, last_pack)| *last_pack == pack && in_segment - segment == in_cache - cache);
        if !follows {
            self.runs.push((in_segment, in_cache, pack));
        }
    }

    /// Number in the cache and pack's number in the segment.
    fn find(&self, in_segment: u32) -> Option<(i64, u32)> {
        let frame = i64::from(in_segment);
        let place = self.runs.partition_point(|(first, _, _)| *first <= frame).checked_sub(1)?;
        let (first, cache, pack) = self.runs[place];
        Some((cache + (frame - first), pack))
    }
}

fn add_frames(cache: &Cache, rows: &mut impl SegmentRows, numbers: &Numbers) -> Result<FrameRuns, Failed> {
    let connection = &cache.connection;
    let mut runs = FrameRuns { runs: Vec::new() };
    let mut next = next_frame(connection)?;
    let mut ranges: Vec<(i64, i64, i64)> = Vec::new();
    let mut known: Option<(u32, FramesByPlace)> = None;
    let mut insert = connection.prepare_cached("INSERT INTO frames VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)")?;
    let mut in_segment = 0;
    while let Some(row) = rows.next_frame()? {
        let pack = numbers.packs.get(row.pack as usize).copied();
        let pack = pack.ok_or_else(|| Error::Internal("a frame of a pack that is not there".to_owned()))?;
        if pack.passed_over {
            runs.push(in_segment, PASSED_OVER + in_segment, row.pack);
            in_segment += 1;
            continue;
        }
        if pack.known && known.as_ref().is_none_or(|(number, _)| *number != row.pack) {
            known = Some((row.pack, frames_of(cache, pack.number)?));
        }
        let old = match &known {
            Some((number, frames)) if *number == row.pack => frames.get(&(row.block_offset, row.offset)).copied(),
            _ => None,
        };
        let frame = match old {
            Some(frame) => frame,
            None => {
                insert_frame(&mut insert, next, pack.number, numbers, &row)?;
                match ranges.last_mut() {
                    Some((first, count, of)) if *of == pack.number && *first + *count == next => *count += 1,
                    _ => ranges.push((next, 1, pack.number)),
                }
                next += 1;
                next - 1
            }
        };
        runs.push(in_segment, frame, row.pack);
        in_segment += 1;
    }
    let mut range = connection.prepare_cached("INSERT INTO pack_frames VALUES (?, ?, ?)")?;
    for (first, count, pack) in ranges {
        range.execute(params![first, count, pack])?;
    }
    connection.execute("UPDATE meta SET value = ? WHERE name = 'next_frame'", [next])?;
    Ok(runs)
}

fn insert_frame(
    insert: &mut Statement<'_>,
    number: i64,
    pack: i64,
    numbers: &Numbers,
    row: &FrameRow,
) -> rusqlite::Result<()> {
    let key = numbers.keys.get(row.key as usize).copied();
    let chain = row.chain.as_ref();
    let bases = chain.map(|chain| chain.bases.iter().flat_map(|id| id.0).collect::<Vec<u8>>());
    insert.execute(params![
        number,
        pack,
        row.block_offset as i64,
        row.block_length,
        key,
        row.offset,
        row.length,
        row.raw_length,
        row.encoding as u8,
        bases,
        chain.map(|chain| chain.depth),
        chain.map(|chain| chain.delta_bytes as i64),
        chain.map(|chain| chain.whole_bytes as i64),
    ])?;
    Ok(())
}

/// The frames of a pack that the cache has, by their places.
fn frames_of(cache: &Cache, pack: i64) -> rusqlite::Result<FramesByPlace> {
    let mut found = cache.connection.prepare_cached(
        "SELECT block_offset, start, number FROM pack_frames JOIN frames ON number BETWEEN first AND first + count - 1
         WHERE pack_frames.pack = ?",
    )?;
    let rows = found
        .query_map([pack], |row| Ok(((row.get::<_, i64>(0)? as u64, row.get::<_, u32>(1)?), row.get::<_, i64>(2)?)))?;
    rows.collect()
}

/// Adds the entries of all sources, in order of their ids.
fn add_entries<R: SegmentRows>(cache: &mut Cache, sources: &mut [Source<R>], old_frames: i64) -> Result<(), Failed> {
    let count = sources.iter().map(|source| source.rows.entries()).sum::<u64>();
    let count = i64::try_from(count).unwrap_or(i64::MAX / 2);
    let tables: Vec<String> = cache.blobs.present().map(|run| run.table.clone()).collect();
    let Cache { connection, blobs, gone, .. } = cache;
    // Rows that are there already are left out: each stands in one level only, and counts stay true.
    let mut there = Vec::with_capacity(tables.len());
    for table in &tables {
        there.push(connection.prepare(&format!("SELECT 1 FROM {table} WHERE id = ? AND frame = ?"))?);
    }
    let mut pending = connection.prepare("INSERT INTO marks_pending VALUES (?, ?, ?, ?, ?)")?;
    let mut union = Union { heads: Vec::new(), sources };
    union.begin()?;
    blobs.insert::<Failed>(connection, count, &|frame| gone.holds(frame), || {
        'next: while let Some((row, pack)) = union.next()? {
            if row.frame < old_frames {
                for find in &mut there {
                    if find.exists(params![row.id.0.as_slice(), row.frame])? {
                        continue 'next;
                    }
                }
            }
            pack.blobs += 1;
            for mark in MarkRow::of(&row, pack.written_ns) {
                Marked::insert(&mut pending, &mark)?;
            }
            return Ok(Some(row));
        }
        Ok(None)
    })?;
    let mut update = connection.prepare_cached("UPDATE packs SET blobs = blobs + ? WHERE number = ?")?;
    for pack in sources.iter().flat_map(|source| &source.numbers.packs).filter(|pack| pack.blobs > 0) {
        update.execute([pack.blobs, pack.number])?;
    }
    Ok(())
}

/// The rows of several sources in one order, each once.
struct Union<'a, R> {
    sources: &'a mut [Source<R>],
    heads: Vec<Option<(BlobRow, u32)>>,
}

impl<R: SegmentRows> Union<'_, R> {
    fn begin(&mut self) -> Result<()> {
        for source in self.sources.iter_mut() {
            self.heads.push(source.next()?);
        }
        Ok(())
    }

    /// The next row and the pack that it is counted for.
    fn next(&mut self) -> Result<Option<(BlobRow, &mut PackNumber)>> {
        let key = |head: &Option<(BlobRow, u32)>| head.as_ref().map(|(row, _)| (row.id, row.frame));
        let least = self.heads.iter().enumerate().filter_map(|(place, head)| Some((key(head)?, place))).min();
        let Some((least, first)) = least else { return Ok(None) };
        let taken = self.heads[first];
        for (head, source) in self.heads.iter_mut().zip(self.sources.iter_mut()) {
            while key(head) == Some(least) {
                *head = source.next()?;
            }
        }
        Ok(taken.map(|(row, pack)| (row, &mut self.sources[first].numbers.packs[pack as usize])))
    }
}

/// A segment whose packs and frames have been added and whose entries follow.
struct Source<R> {
    rows: R,
    numbers: Numbers,
    frames: FrameRuns,
    ahead: Option<Entry>,
    /// The copies of one blob in the order of the cache's frame numbers, last first.
    group: Vec<(BlobRow, u32)>,
}

impl<R: SegmentRows> Source<R> {
    fn next(&mut self) -> Result<Option<(BlobRow, u32)>> {
        // Of a blob there may be nothing but what does not count.
        while self.group.is_empty() && self.gather()? {}
        Ok(self.group.pop())
    }

    /// Gathers the copies of the next blob; false if there is none.
    fn gather(&mut self) -> Result<bool> {
        let Some(first) = self.ahead.take().map_or_else(|| self.rows.next_entry(), |entry| Ok(Some(entry)))? else {
            return Ok(false);
        };
        self.push(first)?;
        while let Some(entry) = self.rows.next_entry()? {
            if entry.id != first.id {
                self.ahead = Some(entry);
                break;
            }
            self.push(entry)?;
        }
        self.group.sort_unstable_by_key(|(row, _)| std::cmp::Reverse(row.frame));
        self.group.dedup_by_key(|(row, _)| row.frame);
        Ok(true)
    }

    fn push(&mut self, entry: Entry) -> Result<()> {
        let place = self.frames.find(entry.frame);
        let (frame, pack) = place.filter(|_| self.group.len() < MAX_COPIES).ok_or_else(|| too_odd(entry.id))?;
        if frame < 0 {
            return Ok(());
        }
        let Entry { id, offset, length, kind, start, end, .. } = entry;
        self.group.push((BlobRow { id, frame, offset, length, kind: kind.number(), start, end }, pack));
        Ok(())
    }
}

fn too_odd(id: BlobId) -> Error {
    Error::damaged("an index segment", format!("blob {id} has no frame, or more than {MAX_COPIES} places"))
}
