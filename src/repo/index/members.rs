//! The blobs of whole packs, pack by pack and in the order of their places.
//!
//! They are gathered by id, which is how the index keeps them, and put in order: in memory while they are few, in a
//! temporary file otherwise. Blobs of one frame come one after the other, so each frame is looked up once.

use super::cache::temporary_connection;
use super::levels::{BlobRow, Blobs, Family};
use super::live::{Located, PackSummary, failed};
use super::{Index, Marks, Place, frame_place, in_frame};
use crate::base::{BlobId, PackId};
use crate::repo::Result;
use rusqlite::Connection;

/// So many lie in memory (about 6 MiB).
const FEW: usize = if cfg!(test) { 16 } else { 65_536 };

/// Calls `each` for every blob that is `picked` in the packs that are `wanted`. It is asked by id what is picked.
pub(super) fn each(
    index: &Index,
    wanted: &dyn Fn(&PackSummary) -> bool,
    picked: &mut dyn FnMut(&BlobId) -> Result<bool>,
    each: &mut dyn FnMut(&PackId, &Located) -> Result<()>,
) -> Result<()> {
    let ranges = index.ranges(&index.numbers_of(wanted)?)?;
    let mut gathered = Gathered { few: Vec::new(), disk: None };
    index.each_row(&mut |row| match ranges.pack_of(row.frame) {
        Some(pack) if picked(&row.id)? => gathered.add(pack, row),
        _ => Ok(()),
    })?;
    let mut last = None;
    gathered.each(&mut |row| {
        let Some(place) = find(index, &mut last, row)? else { return Ok(()) };
        let marks = Marks { start: row.start, end: row.end };
        each(&place.pack.clone(), &Located { id: row.id, place, marks })
    })
}

/// The place of a row whose frame is often the `last` one's.
fn find(index: &Index, last: &mut Option<(i64, Option<Place>)>, row: &BlobRow) -> Result<Option<Place>> {
    let frame = match last {
        Some((number, frame)) if *number == row.frame => frame,
        _ => &mut last.insert((row.frame, index.state().cache.read(|cache| frame_place(cache, row.frame))?)).1,
    };
    Ok(frame.as_ref().and_then(|frame| in_frame(frame, row)))
}

/// Rows, each with the number of its pack.
struct Gathered {
    few: Vec<(i64, BlobRow)>,
    disk: Option<Connection>,
}

impl Gathered {
    fn add(&mut self, pack: i64, row: BlobRow) -> Result<()> {
        self.few.push((pack, row));
        if self.few.len() < FEW { Ok(()) } else { self.settle() }
    }

    /// Moves what lies in memory to disk.
    fn settle(&mut self) -> Result<()> {
        let connection = match &self.disk {
            Some(connection) => connection,
            None => self.disk.insert(temporary_table().map_err(failed)?),
        };
        let settle = || {
            connection.execute_batch("BEGIN")?;
            let mut insert =
                connection.prepare_cached(&format!("INSERT INTO members VALUES ({}, ?)", Blobs::PLACES))?;
            for (pack, row) in &self.few {
                Blobs::insert_with_pack(&mut insert, row, *pack)?;
            }
            drop(insert);
            connection.execute_batch("COMMIT")
        };
        settle().map_err(failed)?;
        self.few.clear();
        Ok(())
    }

    fn each(mut self, each: &mut dyn FnMut(&BlobRow) -> Result<()>) -> Result<()> {
        if self.disk.is_some() {
            self.settle()?;
        }
        let Some(connection) = &self.disk else {
            self.few.sort_unstable_by_key(|(pack, row)| (*pack, row.frame, row.offset, row.id));
            return self.few.iter().try_for_each(|(_, row)| each(row));
        };
        let mut sorted = connection.prepare("SELECT * FROM members ORDER BY pack, frame, start, id").map_err(failed)?;
        let mut rows = sorted.query([]).map_err(failed)?;
        while let Some(row) = rows.next().map_err(failed)? {
            each(&Blobs::read(row).map_err(failed)?)?;
        }
        Ok(())
    }
}

fn temporary_table() -> rusqlite::Result<Connection> {
    let connection = temporary_connection()?;
    connection.execute_batch(&format!("CREATE TABLE members ({}, pack)", Blobs::LOOSE_COLUMNS))?;
    Ok(connection)
}
