//! Bringing the cache up to date: segments in, packs that no segment names out, condemned packs void.

use super::cache::Cache;
use super::levels::{BlobRow, LEVELS, MarkRow, Marked};
use super::segments::{SegmentContents, SegmentReader, segment_key};
use crate::base::{BlobId, KeyId, Kind, PackId, Problem, SegmentId};
use crate::format::cbor::Cbor as _;
use crate::format::envelope::ObjectKind;
use crate::format::segment::{Entry, FrameRow, PackRow};
use crate::format::session::Condemned;
use crate::repo::keyring::Keyring;
use crate::repo::{Error, Result};
use crate::store::{Area, Key, ObjectStore};
use rusqlite::{OptionalExtension, params};
use std::collections::{BTreeMap, BTreeSet, HashMap};

/// The largest condemned record that is read.
const MAX_CONDEMNED_BYTES: u64 = 64 << 20;
/// How often a listing is made again because a segment in it was gone when it was to be read.
const LISTINGS: usize = 4;
/// The most places of one blob in one segment.
const MAX_COPIES: usize = 4096;

/// What came of bringing the cache up to date.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Opened {
    /// Segments that were read.
    pub segments_loaded: u64,
    /// Packs that no present segment names any more.
    pub packs_dropped: u64,
    /// Why the cache was made anew, if something was there and could not be used.
    pub rebuilt: Option<String>,
    /// What the user may want to know.
    pub notes: Vec<String>,
    /// Segments that could not be read because they are damaged: what only they know is unknown.
    pub damaged: Vec<Problem>,
    /// The segments that the index was brought up to date with, damaged ones left out, ascending.
    pub segments: Vec<SegmentId>,
    /// The highest condemned record; 0 for none.
    pub highest_condemned: u64,
    /// All condemned records' numbers, ascending.
    pub condemned: Vec<u64>,
}

/// The name of condemned record `number`: ten digits.
pub fn condemned_key(number: u64) -> Key {
    Key::new(Area::Condemned, format!("{number:010}"))
}

/// Compares the cache with the store and makes it as new.
pub fn bring_up_to_date(cache: &mut Cache, store: &dyn ObjectStore, keyring: &Keyring) -> Result<Opened> {
    let mut opened = Opened::default();
    for attempt in 1.. {
        // What the cache has is read before the store is listed: a segment that another process adds to both in
        // between is then not taken for one that has been deleted.
        let known = cached_segments(cache)?;
        let listed = list_segments(store)?;
        match load_missing(cache, store, keyring, &known, &listed, &mut opened) {
            Err(error) if error.kind() == Kind::NotFound && attempt < LISTINGS => continue,
            Err(error) => return Err(error),
            Ok(()) => {}
        }
        opened.packs_dropped += drop_segments(cache, &known, &listed)?;
        opened.segments = listed.into_keys().collect();
        let damaged: BTreeSet<String> = opened.damaged.iter().map(|problem| problem.subject.clone()).collect();
        opened.segments.retain(|id| !damaged.contains(&segment_key(*id).to_string()));
        break;
    }
    // Records after segments: of what is void we would rather know too much.
    opened.condemned = update_condemned(cache, store, keyring)?;
    opened.highest_condemned = opened.condemned.last().copied().unwrap_or(0);
    apply_marks(cache)?;
    Ok(opened)
}

fn cached_segments(cache: &mut Cache) -> Result<BTreeMap<SegmentId, i64>> {
    cache.read(|cache| {
        let mut found = cache.connection.prepare("SELECT id, number FROM segments")?;
        found.query_map([], |row| Ok((SegmentId(row.get(0)?), row.get(1)?)))?.collect()
    })
}

/// All segments in the store, with their sizes.
pub fn list_segments(store: &dyn ObjectStore) -> Result<BTreeMap<SegmentId, u64>> {
    let mut listed = BTreeMap::new();
    store.list(Area::Index, &mut |object| {
        // Names that are no ids are other people's files.
        if let Ok(id) = object.name.parse::<SegmentId>() {
            listed.insert(id, object.size_bytes);
        }
    })?;
    Ok(listed)
}

fn load_missing(
    cache: &mut Cache,
    store: &dyn ObjectStore,
    keyring: &Keyring,
    known: &BTreeMap<SegmentId, i64>,
    listed: &BTreeMap<SegmentId, u64>,
    opened: &mut Opened,
) -> Result<()> {
    let mut missing: Vec<_> = listed.iter().filter(|(id, _)| !known.contains_key(id)).collect();
    // Large ones first: they go straight to the level where they stay.
    missing.sort_unstable_by_key(|(_, bytes)| std::cmp::Reverse(**bytes));
    for (id, bytes) in missing {
        let loaded = SegmentReader::open_sized(store, keyring, *id, *bytes).and_then(|reader| add(cache, *id, reader));
        match loaded {
            Ok(()) => opened.segments_loaded += 1,
            Err(error) if is_damage(&error) => {
                let subject = segment_key(*id).to_string();
                let known = opened.damaged.iter().any(|problem| problem.subject == subject);
                if !known {
                    opened.damaged.push(Problem::new(subject, error, Kind::Damaged));
                }
            }
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Whether it is the object that is damaged, not the cache or the way to the store.
fn is_damage(error: &Error) -> bool {
    error.kind() == Kind::Damaged && !matches!(error, Error::Cache { .. })
}

/// Removes the `known` segments that are not `listed` any more, and the packs that only they named.
fn drop_segments(
    cache: &mut Cache,
    known: &BTreeMap<SegmentId, i64>,
    listed: &BTreeMap<SegmentId, u64>,
) -> Result<u64> {
    let gone: Vec<i64> = known.iter().filter(|(id, _)| !listed.contains_key(id)).map(|(_, number)| *number).collect();
    if gone.is_empty() {
        return Ok(0);
    }
    cache.write(|cache| {
        let dropped = remove_segments(cache, &gone);
        dropped.map_err(|error| cache.failed(error))
    })
}

fn remove_segments(cache: &mut Cache, segments: &[i64]) -> rusqlite::Result<u64> {
    let mut packs = BTreeSet::new();
    {
        let connection = &cache.connection;
        let mut named = connection.prepare("SELECT pack FROM segment_packs WHERE segment = ?")?;
        let mut forget = connection.prepare("DELETE FROM segment_packs WHERE segment = ?")?;
        let mut delete = connection.prepare("DELETE FROM segments WHERE number = ?")?;
        for segment in segments {
            for pack in named.query_map([segment], |row| row.get::<_, i64>(0))? {
                packs.insert(pack?);
            }
            forget.execute([segment])?;
            delete.execute([segment])?;
        }
    }
    // One scan answers for all packs: an index from packs to segments would cost more than it saves.
    let still_named: BTreeSet<i64> = {
        let mut found = cache.connection.prepare("SELECT DISTINCT pack FROM segment_packs")?;
        found.query_map([], |row| row.get(0))?.collect::<Result<_, _>>()?
    };
    let mut dropped = 0;
    for pack in packs.difference(&still_named) {
        drop_pack(cache, *pack)?;
        dropped += 1;
    }
    update_void(cache)?;
    cache.reload_dead()?;
    purge_if_worth_it(cache)?;
    Ok(dropped)
}

/// Forgets a pack. Its frames stay as a range of dead ones until a merge has taken the last of its blobs out.
fn drop_pack(cache: &Cache, pack: i64) -> rusqlite::Result<()> {
    let connection = &cache.connection;
    let ranges: Vec<(i64, i64)> = {
        let mut found = connection.prepare_cached("SELECT first, count FROM pack_frames WHERE pack = ?")?;
        found.query_map([pack], |row| Ok((row.get(0)?, row.get(1)?)))?.collect::<Result<_, _>>()?
    };
    for (first, count) in ranges {
        let last = first + count - 1;
        connection
            .prepare_cached("DELETE FROM dead_frames WHERE first BETWEEN ? AND ?")?
            .execute(params![first, last])?;
        connection.prepare_cached("INSERT INTO dead_frames VALUES (?, ?, 0)")?.execute(params![first, last])?;
        connection.prepare_cached("DELETE FROM frames WHERE number BETWEEN ? AND ?")?.execute(params![first, last])?;
    }
    connection.prepare_cached("DELETE FROM pack_frames WHERE pack = ?")?.execute([pack])?;
    connection.prepare_cached("DELETE FROM packs WHERE number = ?")?.execute([pack])?;
    Ok(())
}

/// Takes the blobs of packs that are gone out of all levels once they are a third of what is there.
fn purge_if_worth_it(cache: &mut Cache) -> rusqlite::Result<()> {
    let present: i64 = cache.connection.query_row("SELECT COALESCE(SUM(blobs), 0) FROM packs", [], |row| row.get(0))?;
    let rows = cache.blobs.rows();
    if rows < present + present / 2 + 10_000 {
        return Ok(());
    }
    let Cache { connection, blobs, marks, gone, .. } = cache;
    blobs.purge(connection, &|frame| gone.holds(frame))?;
    marks.purge(connection, &|frame| gone.holds(frame))?;
    connection.execute("DELETE FROM dead_frames WHERE damaged = 0", [])?;
    cache.reload_dead()
}

/// Reads the condemned records that are new, forgets those that are gone, and says which there are.
fn update_condemned(cache: &mut Cache, store: &dyn ObjectStore, keyring: &Keyring) -> Result<Vec<u64>> {
    let mut listed: BTreeSet<u64> = BTreeSet::new();
    store.list(Area::Condemned, &mut |object| {
        let number = object.name.parse::<u64>().ok();
        listed.extend(number.filter(|number| condemned_key(*number).name() == object.name));
    })?;
    let known: BTreeSet<i64> = cache.read(|cache| {
        let mut found = cache.connection.prepare("SELECT number FROM condemned")?;
        found.query_map([], |row| row.get(0))?.collect()
    })?;
    let known: BTreeSet<u64> = known.into_iter().map(|number| number as u64).collect();
    if known == listed {
        return Ok(listed.into_iter().collect());
    }
    let mut records = Vec::new();
    for number in listed.difference(&known) {
        match load_condemned(store, keyring, *number) {
            Ok(record) => records.push(record),
            // Swept between listing and reading: what it named is gone from the segments too.
            Err(error) if error.kind() == Kind::NotFound => {}
            Err(error) => return Err(error),
        }
    }
    let forgotten: Vec<u64> = known.difference(&listed).copied().collect();
    cache.write(|cache| {
        let changed = change_condemned(cache, &records, &forgotten);
        changed.map_err(|error| cache.failed(error))
    })?;
    Ok(listed.into_iter().collect())
}

/// Reads condemned record `number`.
pub fn load_condemned(store: &dyn ObjectStore, keyring: &Keyring, number: u64) -> Result<Condemned> {
    let key = condemned_key(number);
    let object = store.get(&key, MAX_CONDEMNED_BYTES)?;
    let content = keyring.open(ObjectKind::Condemned, object, &key)?;
    let record = Condemned::from_cbor(&content, ObjectKind::Condemned.name()).map_err(Error::object(&key))?;
    if record.number == number {
        Ok(record)
    } else {
        Err(Error::damaged(&key, format!("it says that it is number {}", record.number)))
    }
}

fn change_condemned(cache: &mut Cache, records: &[Condemned], forgotten: &[u64]) -> rusqlite::Result<()> {
    {
        let connection = &cache.connection;
        let mut record = connection.prepare_cached("INSERT OR IGNORE INTO condemned VALUES (?)")?;
        let mut pack = connection.prepare_cached("INSERT OR IGNORE INTO condemned_packs VALUES (?, ?)")?;
        for condemned in records {
            record.execute([condemned.number as i64])?;
            for id in &condemned.packs {
                pack.execute(params![id.0, condemned.number as i64])?;
            }
        }
        for number in forgotten {
            connection.execute("DELETE FROM condemned WHERE number = ?", [*number as i64])?;
            connection.execute("DELETE FROM condemned_packs WHERE record = ?", [*number as i64])?;
        }
    }
    update_void(cache)?;
    cache.reload_dead()
}

/// A pack is void while a condemned record names it that none of the segments naming it had seen: a segment that
/// names it in full knowledge of the record has brought it back.
fn update_void(cache: &Cache) -> rusqlite::Result<()> {
    cache.connection.execute_batch(
        "UPDATE packs SET void = 0 WHERE void = 1;
         UPDATE packs SET void = 1 WHERE number IN (
            SELECT named.number FROM (
                SELECT packs.number, MAX(record) AS record FROM condemned_packs JOIN packs USING (id)
                GROUP BY packs.number) AS named
            WHERE named.record > (
                SELECT COALESCE(MAX(condemned_seen), 0)
                FROM segments CROSS JOIN segment_packs ON segment = segments.number
                WHERE segment_packs.pack = named.number))",
    )
}

/// Where the rows of a segment come from: packs, then frames, then entries by id.
pub trait SegmentRows {
    /// The highest condemned record that its writer had seen.
    fn condemned_seen(&self) -> u64;
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
    next: [usize; 3],
}

impl<'a> OwnRows<'a> {
    /// The rows of sorted `contents`.
    pub fn new(contents: &'a SegmentContents, condemned_seen: u64) -> OwnRows<'a> {
        OwnRows { contents, condemned_seen, next: [0; 3] }
    }
}

impl SegmentRows for OwnRows<'_> {
    fn condemned_seen(&self) -> u64 {
        self.condemned_seen
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
    cache.write(|cache| {
        let known: Option<i64> = cache
            .connection
            .query_row("SELECT number FROM segments WHERE id = ?", [id.0], |row| row.get(0))
            .optional()
            .map_err(|error| cache.failed(error))?;
        if known.is_some() { Ok(()) } else { add_rows(cache, id, rows) }
    })
}

/// An error of SQLite on its way through code that has others too.
struct Failed(Error);

impl From<rusqlite::Error> for Failed {
    fn from(error: rusqlite::Error) -> Failed {
        Failed(Error::Cache { path: super::cache::FILE_NAME.to_owned(), reason: error.to_string() })
    }
}

impl From<Error> for Failed {
    fn from(error: Error) -> Failed {
        Failed(error)
    }
}

fn add_rows(cache: &mut Cache, id: SegmentId, rows: impl SegmentRows) -> Result<()> {
    try_add_rows(cache, id, rows).map_err(|failed| failed.0)
}

fn try_add_rows(cache: &mut Cache, id: SegmentId, mut rows: impl SegmentRows) -> Result<(), Failed> {
    let numbers = add_packs(cache, id, &mut rows)?;
    let frames = add_frames(cache, &mut rows, &numbers)?;
    let counts = add_entries(cache, &mut rows, &frames, &numbers)?;
    let mut update = cache.connection.prepare_cached("UPDATE packs SET blobs = blobs + ? WHERE number = ?")?;
    for (pack, count) in numbers.packs.iter().zip(&counts) {
        if *count > 0 {
            update.execute(params![count, pack.number])?;
        }
    }
    drop(update);
    rows.finish()?;
    if numbers.may_be_void {
        update_void(cache)?;
        cache.reload_dead()?;
    }
    Ok(())
}

/// A pack of the segment in the cache.
#[derive(Clone, Copy)]
struct PackNumber {
    number: i64,
    known: bool,
    written_ns: i64,
}

struct Numbers {
    packs: Vec<PackNumber>,
    keys: Vec<i64>,
    may_be_void: bool,
}

fn add_packs(cache: &Cache, id: SegmentId, rows: &mut impl SegmentRows) -> Result<Numbers, Failed> {
    let connection = &cache.connection;
    connection
        .prepare_cached("INSERT INTO segments (id, condemned_seen) VALUES (?, ?)")?
        .execute(params![id.0, rows.condemned_seen() as i64])?;
    let segment = connection.last_insert_rowid();
    let keys = rows.keys().iter().map(|key| key_number(cache, *key)).collect::<rusqlite::Result<_>>()?;
    let mut numbers = Numbers { packs: Vec::new(), keys, may_be_void: false };
    let mut find = connection.prepare_cached("SELECT number FROM packs WHERE id = ?")?;
    let mut condemned = connection.prepare_cached("SELECT 1 FROM condemned_packs WHERE id = ?")?;
    let mut insert = connection
        .prepare_cached("INSERT INTO packs (id, size, role, written_ns, blobs, void) VALUES (?, ?, ?, ?, 0, 0)")?;
    let mut name = connection.prepare_cached("INSERT OR IGNORE INTO segment_packs VALUES (?, ?)")?;
    while let Some(row) = rows.next_pack()? {
        let known: Option<i64> = find.query_row([row.id.0], |row| row.get(0)).optional()?;
        let number = match known {
            Some(number) => number,
            None => {
                insert.execute(params![row.id.0, row.size_bytes as i64, row.role.number(), row.written_ns])?;
                connection.last_insert_rowid()
            }
        };
        numbers.may_be_void |= condemned.exists([row.id.0])?;
        name.execute(params![segment, number])?;
        numbers.packs.push(PackNumber { number, known: known.is_some(), written_ns: row.written_ns });
    }
    Ok(numbers)
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
    /// Frames from here on are new with this segment.
    new_from: i64,
}

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

/// The frames of a pack that are in the cache, by block and place in it.
type FramesByPlace = HashMap<(u64, u32), i64>;

fn add_frames(cache: &Cache, rows: &mut impl SegmentRows, numbers: &Numbers) -> Result<FrameRuns, Failed> {
    let connection = &cache.connection;
    let new_from: i64 =
        connection.query_row("SELECT value FROM meta WHERE name = 'next_frame'", [], |row| row.get(0))?;
    let mut runs = FrameRuns { runs: Vec::new(), new_from };
    let mut next = new_from;
    let mut ranges: Vec<(i64, i64, i64)> = Vec::new();
    let mut known: Option<(u32, FramesByPlace)> = None;
    let mut insert = connection.prepare_cached("INSERT INTO frames VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)")?;
    let mut in_segment = 0;
    while let Some(row) = rows.next_frame()? {
        let pack = numbers.packs.get(row.pack as usize).copied();
        let pack = pack.ok_or_else(|| Error::Internal("a frame of a pack that is not there".to_owned()))?;
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
    insert: &mut rusqlite::Statement<'_>,
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
fn frames_of(cache: &Cache, pack: i64) -> rusqlite::Result<HashMap<(u64, u32), i64>> {
    let mut found = cache.connection.prepare_cached(
        "SELECT block_offset, start, number FROM pack_frames JOIN frames ON number BETWEEN first AND first + count - 1
         WHERE pack_frames.pack = ?",
    )?;
    let rows = found
        .query_map([pack], |row| Ok(((row.get::<_, i64>(0)? as u64, row.get::<_, u32>(1)?), row.get::<_, i64>(2)?)))?;
    rows.collect()
}

/// Adds the entries, in order of their ids; gives how many new ones each pack got.
fn add_entries(
    cache: &mut Cache,
    rows: &mut impl SegmentRows,
    frames: &FrameRuns,
    numbers: &Numbers,
) -> Result<Vec<i64>, Failed> {
    let count = i64::try_from(rows.entries()).unwrap_or(i64::MAX / 2);
    let mut counts = vec![0; numbers.packs.len()];
    let tables: Vec<String> = cache.blobs.present().map(|run| run.table.clone()).collect();
    let tables = if numbers.packs.iter().any(|pack| pack.known) { tables } else { Vec::new() };
    let Cache { connection, blobs, gone, .. } = cache;
    let mut copies = Copies { rows, ahead: None, frames, group: Vec::new() };
    // Rows that are there already are left out: each stands in one level only, and counts stay true.
    let mut there = Vec::with_capacity(LEVELS);
    for table in &tables {
        there.push(connection.prepare(&format!("SELECT 1 FROM {table} WHERE id = ? AND frame = ?"))?);
    }
    let mut pending = connection.prepare("INSERT INTO marks_pending VALUES (?, ?, ?, ?, ?)")?;
    blobs.insert::<Failed>(connection, count, &|frame| gone.holds(frame), || {
        'next: while let Some((row, pack)) = copies.next()? {
            if row.frame < frames.new_from {
                for find in &mut there {
                    if find.exists(params![row.id.0.as_slice(), row.frame])? {
                        continue 'next;
                    }
                }
            }
            counts[pack as usize] += 1;
            for mark in MarkRow::of(&row, numbers.packs[pack as usize].written_ns) {
                <Marked as super::levels::Family>::insert(&mut pending, &mark)?;
            }
            return Ok(Some(row));
        }
        Ok(None)
    })?;
    Ok(counts)
}

/// Puts the copies of each blob in the order of the cache's frame numbers, each once.
struct Copies<'a, R> {
    rows: &'a mut R,
    ahead: Option<Entry>,
    frames: &'a FrameRuns,
    /// The copies of one blob, last first.
    group: Vec<(BlobRow, u32)>,
}

impl<R: SegmentRows> Copies<'_, R> {
    fn next(&mut self) -> Result<Option<(BlobRow, u32)>> {
        if self.group.is_empty() {
            self.gather()?;
        }
        Ok(self.group.pop())
    }

    fn gather(&mut self) -> Result<()> {
        let Some(first) = self.ahead.take().map_or_else(|| self.rows.next_entry(), |entry| Ok(Some(entry)))? else {
            return Ok(());
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
        Ok(())
    }

    fn push(&mut self, entry: Entry) -> Result<()> {
        let place = self.frames.find(entry.frame);
        let (frame, pack) = place.filter(|_| self.group.len() < MAX_COPIES).ok_or_else(|| too_odd(entry.id))?;
        let Entry { id, offset, length, kind, start, end, .. } = entry;
        self.group.push((BlobRow { id, frame, offset, length, kind: kind.number(), start, end }, pack));
        Ok(())
    }
}

fn too_odd(id: BlobId) -> Error {
    Error::damaged("an index segment", format!("blob {id} has no frame, or more than {MAX_COPIES} places"))
}

/// Lets the marks of finished runs be found.
pub fn apply_marks(cache: &mut Cache) -> Result<()> {
    let any = cache.read(|cache| cache.connection.prepare_cached("SELECT 1 FROM marks_pending LIMIT 1")?.exists([]))?;
    if !any {
        return Ok(());
    }
    cache.write(|cache| {
        let applied = move_marks(cache);
        applied.map_err(|error| cache.failed(error))
    })
}

fn move_marks(cache: &mut Cache) -> rusqlite::Result<()> {
    let Cache { connection, marks, gone, .. } = cache;
    let count: i64 = connection.query_row("SELECT COUNT(*) FROM marks_pending", [], |row| row.get(0))?;
    {
        let mut sorted =
            connection.prepare("SELECT * FROM marks_pending ORDER BY mark, side, written_ms DESC, frame DESC")?;
        let mut rows = sorted.query([])?;
        marks.insert::<rusqlite::Error>(connection, count, &|frame| gone.holds(frame), || {
            rows.next()?.map(<Marked as super::levels::Family>::read).transpose()
        })?;
    }
    connection.execute("DELETE FROM marks_pending", [])?;
    Ok(())
}

/// Which of `packs` the index knows, void ones included. For tests and for those who plan.
pub fn pack_number(cache: &Cache, id: PackId) -> rusqlite::Result<Option<i64>> {
    let mut find = cache.connection.prepare_cached("SELECT number FROM packs WHERE id = ?")?;
    find.query_row([id.0], |row| row.get(0)).optional()
}
