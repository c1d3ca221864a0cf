//! Sorted tables in levels: what lets a B-tree take random ids night after night.
//!
//! New rows go to level 0, a small table that fits the page cache. A level that outgrows its bound is merged with the
//! ones above it into a new table of the next level, by cursors that walk in order and rows that are only appended:
//! a large table never sees a random insert (ten million of those would not end within minutes). A look-up asks the
//! levels one after another; filters of bounded size let it skip most of them.

use super::filter::Filter;
use crate::base::{BlobId, Mark};
use rusqlite::{Connection, Row, Statement, params};
use std::cmp::Ordering;

/// How many rows level 0 may have; each further one has ten times as many, the last has no bound.
pub const LEVEL_0_ROWS: i64 = if cfg!(test) { 64 } else { 65_536 };
const GROWTH: i64 = 10;
/// How many levels there are.
pub const LEVELS: usize = 4;
/// Filters are stored in parts of this size.
const PART_BYTES: usize = 64 << 10;

type Result<T, E = rusqlite::Error> = std::result::Result<T, E>;

fn bound(level: usize) -> i64 {
    if level + 1 == LEVELS { i64::MAX } else { LEVEL_0_ROWS * GROWTH.pow(level as u32) }
}

/// One kind of row that is kept in levels.
pub trait Family {
    /// A row.
    type Row: Copy;
    /// Tables are named by this and a number.
    const NAME: &'static str;
    /// Columns and key of a table.
    const COLUMNS: &'static str;
    /// One question mark per column.
    const PLACES: &'static str;
    /// The columns of the key.
    const KEY: &'static str;
    /// What a look-up asks for.
    const FIND: &'static str;
    /// What becomes of a row whose key is there.
    const CONFLICT: &'static str;
    /// How many levels, from 0, have filters. Three are at most 9.1 MB, two 0.9 MB.
    const FILTERED_LEVELS: usize;
    /// Reads a row of all columns.
    fn read(row: &Row<'_>) -> Result<Self::Row>;
    /// Inserts a row.
    fn insert(statement: &mut Statement<'_>, row: &Self::Row) -> Result<usize>;
    /// Which of two rows comes first by key.
    fn order(a: &Self::Row, b: &Self::Row) -> Ordering;
    /// Whether `a` stays when it has the same key as `b`.
    fn wins(a: &Self::Row, b: &Self::Row) -> bool;
    /// Its frame.
    fn frame(row: &Self::Row) -> i64;
    /// What a filter keeps of it.
    fn filtered(row: &Self::Row) -> Option<&BlobId>;
}

/// A blob in a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BlobRow {
    /// Its name.
    pub id: BlobId,
    /// The number of its frame in the cache.
    pub frame: i64,
    /// Where it begins in the decoded frame.
    pub offset: u32,
    /// Its bytes.
    pub length: u32,
    /// What it is.
    pub kind: u8,
    /// Its start mark.
    pub start: Option<Mark>,
    /// Its end mark.
    pub end: Option<Mark>,
}

/// Blobs by id.
pub struct Blobs;

fn mark_number(mark: Option<Mark>) -> Option<i64> {
    mark.map(|mark| i64::from_be_bytes(mark.0))
}

fn number_mark(number: Option<i64>) -> Option<Mark> {
    number.map(|number| Mark(number.to_be_bytes()))
}

impl Blobs {
    /// The columns of a table in no order.
    pub const LOOSE_COLUMNS: &'static str = "id, frame, start, length, kind, start_mark, end_mark";

    /// Inserts a row, and the number of its pack after it.
    pub fn insert_with_pack(statement: &mut Statement<'_>, row: &BlobRow, pack: i64) -> Result<usize> {
        let (start, end) = (mark_number(row.start), mark_number(row.end));
        let id = row.id.0.as_slice();
        statement.execute(params![id, row.frame, row.offset, row.length, row.kind, start, end, pack])
    }
}

impl Family for Blobs {
    type Row = BlobRow;
    const NAME: &'static str = "blobs";
    const COLUMNS: &'static str = "id BLOB, frame INTEGER, start, length, kind, start_mark, end_mark, \
                                   PRIMARY KEY (id, frame)";
    const PLACES: &'static str = "?, ?, ?, ?, ?, ?, ?";
    const KEY: &'static str = "id, frame";
    const FIND: &'static str = "id = ?";
    const CONFLICT: &'static str = "ON CONFLICT DO NOTHING";
    const FILTERED_LEVELS: usize = 3;
    fn read(row: &Row<'_>) -> Result<BlobRow> {
        Ok(BlobRow {
            id: BlobId(row.get(0)?),
            frame: row.get(1)?,
            offset: row.get(2)?,
            length: row.get(3)?,
            kind: row.get(4)?,
            start: number_mark(row.get(5)?),
            end: number_mark(row.get(6)?),
        })
    }
    fn insert(statement: &mut Statement<'_>, row: &BlobRow) -> Result<usize> {
        let (start, end) = (mark_number(row.start), mark_number(row.end));
        statement.execute(params![row.id.0.as_slice(), row.frame, row.offset, row.length, row.kind, start, end])
    }
    fn order(a: &BlobRow, b: &BlobRow) -> Ordering {
        (a.id, a.frame).cmp(&(b.id, b.frame))
    }
    fn wins(_: &BlobRow, _: &BlobRow) -> bool {
        true
    }
    fn frame(row: &BlobRow) -> i64 {
        row.frame
    }
    fn filtered(row: &BlobRow) -> Option<&BlobId> {
        Some(&row.id)
    }
}

/// The newest blob that has a mark on one side.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MarkRow {
    /// The mark, as a number.
    pub mark: i64,
    /// 0 for a start, 1 for an end.
    pub side: u8,
    /// The first eight bytes of the blob's id; with the frame they find it.
    pub blob: i64,
    /// The blob's frame.
    pub frame: i64,
    /// When its pack was written, in milliseconds since 1970.
    pub written_ms: i64,
}

impl MarkRow {
    /// The rows of a blob whose pack was written at `written_ns`.
    pub fn of(blob: &BlobRow, written_ns: i64) -> impl Iterator<Item = MarkRow> {
        let first = i64::from_be_bytes(*blob.id.0.first_chunk().expect("an id has 32 bytes"));
        let frame = blob.frame;
        [(blob.start, 0), (blob.end, 1)].into_iter().filter_map(move |(mark, side)| {
            let mark = mark_number(mark)?;
            Some(MarkRow { mark, side, blob: first, frame, written_ms: written_ns.div_euclid(1_000_000) })
        })
    }
}

/// Blobs by mark.
pub struct Marked;

impl Family for Marked {
    type Row = MarkRow;
    const NAME: &'static str = "marks";
    const COLUMNS: &'static str = "mark INTEGER, side INTEGER, blob, frame, written_ms, PRIMARY KEY (mark, side)";
    const PLACES: &'static str = "?, ?, ?, ?, ?";
    const KEY: &'static str = "mark, side";
    const FIND: &'static str = "mark = ? AND side = ?";
    const CONFLICT: &'static str = "ON CONFLICT DO UPDATE SET blob = excluded.blob, frame = excluded.frame, \
                                    written_ms = excluded.written_ms \
                                    WHERE (excluded.written_ms, excluded.frame) > (written_ms, frame)";
    const FILTERED_LEVELS: usize = 0;
    fn read(row: &Row<'_>) -> Result<MarkRow> {
        Ok(MarkRow {
            mark: row.get(0)?,
            side: row.get(1)?,
            blob: row.get(2)?,
            frame: row.get(3)?,
            written_ms: row.get(4)?,
        })
    }
    fn insert(statement: &mut Statement<'_>, row: &MarkRow) -> Result<usize> {
        statement.execute(params![row.mark, row.side, row.blob, row.frame, row.written_ms])
    }
    fn order(a: &MarkRow, b: &MarkRow) -> Ordering {
        (a.mark, a.side).cmp(&(b.mark, b.side))
    }
    fn wins(a: &MarkRow, b: &MarkRow) -> bool {
        (a.written_ms, a.frame) > (b.written_ms, b.frame)
    }
    fn frame(row: &MarkRow) -> i64 {
        row.frame
    }
    fn filtered(_: &MarkRow) -> Option<&BlobId> {
        None
    }
}

/// Ids of blobs that live.
pub struct Lives;

impl Family for Lives {
    type Row = BlobId;
    const NAME: &'static str = "lives";
    const COLUMNS: &'static str = "id BLOB PRIMARY KEY";
    const PLACES: &'static str = "?";
    const KEY: &'static str = "id";
    const FIND: &'static str = "id = ?";
    const CONFLICT: &'static str = "ON CONFLICT DO NOTHING";
    const FILTERED_LEVELS: usize = 2;
    fn read(row: &Row<'_>) -> Result<BlobId> {
        Ok(BlobId(row.get(0)?))
    }
    fn insert(statement: &mut Statement<'_>, id: &BlobId) -> Result<usize> {
        statement.execute([id.0.as_slice()])
    }
    fn order(a: &BlobId, b: &BlobId) -> Ordering {
        a.cmp(b)
    }
    fn wins(_: &BlobId, _: &BlobId) -> bool {
        true
    }
    fn frame(_: &BlobId) -> i64 {
        0
    }
    fn filtered(id: &BlobId) -> Option<&BlobId> {
        Some(id)
    }
}

impl Levels<Lives> {
    /// Whether the id is there.
    pub fn holds(&self, connection: &Connection, id: &BlobId) -> Result<bool> {
        for run in self.present().filter(|run| run.may_hold(id)) {
            if connection.prepare_cached(&run.find_rows)?.exists([id.0.as_slice()])? {
                return Ok(true);
            }
        }
        Ok(false)
    }
}

impl Levels<Lives> {
    /// The next ids after one, at most `limit`; fewer only at the end.
    pub fn batch(&self, connection: &Connection, after: Option<BlobId>, limit: usize) -> Result<Vec<BlobId>> {
        let after = after.map_or(Vec::new(), |id| id.0.to_vec());
        let mut batch: Vec<BlobId> = Vec::new();
        for run in self.largest_first() {
            // Nothing behind the last one of a full batch can be among the next.
            let until = batch.get(limit - 1).map_or(vec![0xff; 33], |id| id.0.to_vec());
            let next = format!("SELECT id FROM {} WHERE id > ? AND id <= ? ORDER BY id LIMIT ?", run.table);
            let mut next = connection.prepare_cached(&next)?;
            let rows = next.query_map(params![after, until, limit as i64], Lives::read)?;
            rows.collect::<Result<Vec<_>>>().map(|rows| batch.extend(rows))?;
            batch.sort_unstable();
            batch.dedup();
            batch.truncate(limit);
        }
        Ok(batch)
    }
}

impl Levels<Blobs> {
    /// The next rows by key after one, at most `limit`. None are left when there are none.
    pub fn batch(&self, connection: &Connection, after: Option<(BlobId, i64)>, limit: usize) -> Result<Vec<BlobRow>> {
        let (id, frame) = after.map_or((Vec::new(), 0), |(id, frame)| (id.0.to_vec(), frame));
        let mut batch: Vec<BlobRow> = Vec::new();
        for run in self.largest_first() {
            // Nothing behind the last one of a full batch can be among the next.
            let last = batch.get(limit - 1);
            let (until, until_frame) = last.map_or((vec![0xff; 33], 0), |row| (row.id.0.to_vec(), row.frame));
            let next = format!(
                "SELECT * FROM {} WHERE (id, frame) > (?, ?) AND (id, frame) <= (?, ?) ORDER BY id, frame LIMIT ?",
                run.table
            );
            let mut next = connection.prepare_cached(&next)?;
            let rows = next.query_map(params![id, frame, until, until_frame, limit as i64], Blobs::read)?;
            rows.collect::<Result<Vec<_>>>().map(|rows| batch.extend(rows))?;
            batch.sort_unstable_by(Blobs::order);
            batch.dedup_by_key(|row| (row.id, row.frame));
            batch.truncate(limit);
        }
        Ok(batch)
    }
}

/// One level's table.
pub struct Run {
    /// Its name.
    pub table: String,
    /// Gives the frames of a key's first column.
    pub find_frames: String,
    /// Gives the rows of a whole key, or of an id.
    pub find_rows: String,
    number: i64,
    /// How many rows it has.
    pub rows: i64,
    filter: Option<Filter>,
}

impl Run {
    fn new<F: Family>(number: i64, rows: i64, filter: Option<Filter>) -> Run {
        let table = format!("{}_{number}", F::NAME);
        Run {
            find_frames: format!("SELECT frame FROM {table} WHERE {}", F::FIND),
            find_rows: format!("SELECT * FROM {table} WHERE {}", F::FIND),
            table,
            number,
            rows,
            filter,
        }
    }

    /// False when the id is surely not in it.
    pub fn may_hold(&self, id: &BlobId) -> bool {
        self.filter.as_ref().is_none_or(|filter| filter.may_hold(id))
    }
}

/// The tables of one family, as one transaction sees them.
pub struct Levels<F> {
    /// By level; `None` where there is no table.
    pub runs: [Option<Run>; LEVELS],
    family: std::marker::PhantomData<F>,
}

/// The tables that describe levels and keep their filters.
pub const SCHEMA: &str = "
    CREATE TABLE levels (family TEXT, level INTEGER, number INTEGER, rows INTEGER, PRIMARY KEY (family, level));
    CREATE TABLE filters (family TEXT, level INTEGER, part INTEGER, bits BLOB, PRIMARY KEY (family, level, part));";

impl<F: Family> Levels<F> {
    /// Reads what levels there are.
    pub fn load(connection: &Connection) -> Result<Levels<F>> {
        let mut levels = Levels { runs: [const { None }; LEVELS], family: std::marker::PhantomData };
        let mut found = connection.prepare_cached("SELECT level, number, rows FROM levels WHERE family = ?")?;
        let mut rows = found.query([F::NAME])?;
        while let Some(row) = rows.next()? {
            let (level, number): (u8, i64) = (row.get(0)?, row.get(1)?);
            let level = usize::from(level);
            if let Some(run) = levels.runs.get_mut(level) {
                let filter = load_filter::<F>(connection, level)?;
                *run = Some(Run::new::<F>(number, row.get(2)?, filter));
            }
        }
        Ok(levels)
    }

    /// Rows in all levels, those of frames that are gone included.
    pub fn rows(&self) -> i64 {
        self.runs.iter().flatten().map(|run| run.rows).sum()
    }

    /// The levels that there are, newest first.
    pub fn present(&self) -> impl Iterator<Item = &Run> {
        self.runs.iter().flatten()
    }

    /// The levels that there are, the one with the most rows first.
    fn largest_first(&self) -> Vec<&Run> {
        let mut runs: Vec<&Run> = self.present().collect();
        runs.sort_by_key(|run| std::cmp::Reverse(run.rows));
        runs
    }

    /// Takes in at most `count` rows that arrive in order. Rows of frames that are `gone` leave the levels that are
    /// merged on the way.
    pub fn insert<E: From<rusqlite::Error>>(
        &mut self,
        connection: &Connection,
        count: i64,
        gone: &dyn Fn(i64) -> bool,
        rows: impl FnMut() -> Result<Option<F::Row>, E>,
    ) -> Result<(), E> {
        let mut total = count;
        for level in 0..LEVELS {
            total += self.runs[level].as_ref().map_or(0, |run| run.rows);
            if total <= bound(level) {
                return match level {
                    0 => self.insert_small(connection, rows),
                    _ => self.merge(connection, level, total, gone, rows),
                };
            }
        }
        unreachable!("the last level has no bound")
    }

    /// Merges all levels into the last one that is in use, so that only rows of frames that are not `gone` remain.
    pub fn purge(&mut self, connection: &Connection, gone: &dyn Fn(i64) -> bool) -> Result<()> {
        let Some(last) = self.runs.iter().rposition(Option::is_some) else { return Ok(()) };
        self.merge::<rusqlite::Error>(connection, last, self.rows(), gone, || Ok(None))
    }

    /// A sorted walk over all levels: each key once.
    pub fn walk<E: From<rusqlite::Error>>(
        &self,
        connection: &Connection,
        each: &mut dyn FnMut(F::Row) -> Result<(), E>,
    ) -> Result<(), E> {
        let tables: Vec<&str> = self.present().map(|run| run.table.as_str()).collect();
        let mut no_more = || Ok(None);
        merge_sorted::<F, E>(connection, &tables, &mut no_more, each)
    }

    fn insert_small<E: From<rusqlite::Error>>(
        &mut self,
        connection: &Connection,
        mut rows: impl FnMut() -> Result<Option<F::Row>, E>,
    ) -> Result<(), E> {
        let mut run = match self.runs[0].take() {
            Some(run) => run,
            None => new_run::<F>(connection, 0, LEVEL_0_ROWS)?,
        };
        let insert = format!("INSERT INTO {} VALUES ({}) {}", run.table, F::PLACES, F::CONFLICT);
        let mut insert = connection.prepare_cached(&insert)?;
        while let Some(row) = rows()? {
            run.rows += F::insert(&mut insert, &row)? as i64;
            if let (Some(filter), Some(id)) = (&mut run.filter, F::filtered(&row)) {
                filter.insert(id);
            }
        }
        drop(insert);
        save_run::<F>(connection, 0, &run)?;
        self.runs[0] = Some(run);
        Ok(())
    }

    fn merge<E: From<rusqlite::Error>>(
        &mut self,
        connection: &Connection,
        target: usize,
        most: i64,
        gone: &dyn Fn(i64) -> bool,
        mut rows: impl FnMut() -> Result<Option<F::Row>, E>,
    ) -> Result<(), E> {
        // The filters go first: old and new together would be twice the memory.
        let old: Vec<Run> = self.runs[..=target].iter_mut().filter_map(Option::take).collect();
        let old: Vec<Run> = old.into_iter().map(|run| Run { filter: None, ..run }).collect();
        let mut run = new_run::<F>(connection, target, most)?;
        {
            let mut insert = connection.prepare(&format!("INSERT INTO {} VALUES ({})", run.table, F::PLACES))?;
            let tables: Vec<&str> = old.iter().map(|run| run.table.as_str()).collect();
            merge_sorted::<F, E>(connection, &tables, &mut rows, &mut |row| {
                if !gone(F::frame(&row)) {
                    F::insert(&mut insert, &row)?;
                    run.rows += 1;
                    if let (Some(filter), Some(id)) = (&mut run.filter, F::filtered(&row)) {
                        filter.insert(id);
                    }
                }
                Ok(())
            })?;
        }
        connection.flush_prepared_statement_cache();
        for run in &old {
            connection.execute_batch(&format!("DROP TABLE {}", run.table))?;
        }
        connection.execute("DELETE FROM levels WHERE family = ? AND level <= ?", params![F::NAME, target as i64])?;
        connection.execute("DELETE FROM filters WHERE family = ? AND level <= ?", params![F::NAME, target as i64])?;
        save_run::<F>(connection, target, &run)?;
        self.runs[target] = Some(run);
        Ok(())
    }
}

fn new_run<F: Family>(connection: &Connection, level: usize, most: i64) -> Result<Run> {
    let number: i64 = connection.query_row("SELECT 1 + COALESCE(MAX(number), 0) FROM levels", [], |row| row.get(0))?;
    let filter = (level < F::FILTERED_LEVELS).then(|| Filter::for_ids(most.max(0) as u64));
    let run = Run::new::<F>(number, 0, filter);
    connection.execute_batch(&format!("CREATE TABLE {} ({}) WITHOUT ROWID", run.table, F::COLUMNS))?;
    Ok(run)
}

fn save_run<F: Family>(connection: &Connection, level: usize, run: &Run) -> Result<()> {
    connection.prepare_cached("INSERT OR REPLACE INTO levels VALUES (?, ?, ?, ?)")?.execute(params![
        F::NAME,
        level as i64,
        run.number,
        run.rows
    ])?;
    let Some(filter) = &run.filter else { return Ok(()) };
    let mut insert = connection.prepare_cached("INSERT OR REPLACE INTO filters VALUES (?, ?, ?, ?)")?;
    for (part, bits) in filter.to_bytes().chunks(PART_BYTES).enumerate() {
        insert.execute(params![F::NAME, level as i64, part as i64, bits])?;
    }
    Ok(())
}

fn load_filter<F: Family>(connection: &Connection, level: usize) -> Result<Option<Filter>> {
    let mut bytes = Vec::new();
    let mut parts =
        connection.prepare_cached("SELECT bits FROM filters WHERE family = ? AND level = ? ORDER BY part")?;
    let mut rows = parts.query(params![F::NAME, level as i64])?;
    while let Some(row) = rows.next()? {
        bytes.extend_from_slice(row.get_ref(0)?.as_blob()?);
    }
    Ok(Filter::from_bytes(&bytes))
}

/// Walks `tables` and `more` in order of their keys; of equal keys the one that wins is given.
fn merge_sorted<F: Family, E: From<rusqlite::Error>>(
    connection: &Connection,
    tables: &[&str],
    more: &mut dyn FnMut() -> Result<Option<F::Row>, E>,
    each: &mut dyn FnMut(F::Row) -> Result<(), E>,
) -> Result<(), E> {
    let mut statements = Vec::new();
    for table in tables {
        statements.push(connection.prepare(&format!("SELECT * FROM {table} ORDER BY {}", F::KEY))?);
    }
    let mut cursors = Vec::new();
    for statement in &mut statements {
        cursors.push(statement.query([])?);
    }
    let mut heads: Vec<Option<F::Row>> = Vec::new();
    for cursor in &mut cursors {
        heads.push(cursor.next()?.map(F::read).transpose()?);
    }
    heads.push(more()?);
    loop {
        let mut least: Option<F::Row> = None;
        for head in heads.iter().flatten() {
            let better = least.as_ref().is_none_or(|least| match F::order(head, least) {
                Ordering::Less => true,
                Ordering::Equal => F::wins(head, least),
                Ordering::Greater => false,
            });
            if better {
                least = Some(*head);
            }
        }
        let Some(least) = least else { return Ok(()) };
        for (place, head) in heads.iter_mut().enumerate() {
            while head.as_ref().is_some_and(|head| F::order(head, &least) == Ordering::Equal) {
                *head = match cursors.get_mut(place) {
                    Some(cursor) => cursor.next()?.map(F::read).transpose()?,
                    None => more()?,
                };
            }
        }
        each(least)?;
    }
}
