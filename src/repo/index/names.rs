//! What blobs are called in another repository: an id for an id, on disk, gone when dropped.

use super::cache::temporary_connection;
use super::levels::{self, Family, Levels};
use super::live::failed;
use crate::base::BlobId;
use crate::repo::Result;
use rusqlite::{Connection, OptionalExtension, Row, Statement, params};
use std::cmp::Ordering;
use std::collections::BTreeMap;

/// Pairs that are gathered before they go to disk.
const GATHERED_PAIRS: usize = 8192;

/// A blob here and what it is called there.
type Pair = (BlobId, BlobId);

/// Pairs by the first id.
struct Renamed;

impl Family for Renamed {
    type Row = Pair;
    const NAME: &'static str = "names";
    const COLUMNS: &'static str = "id BLOB PRIMARY KEY, other BLOB";
    const PLACES: &'static str = "?, ?";
    const KEY: &'static str = "id";
    const FIND: &'static str = "id = ?";
    const CONFLICT: &'static str = "ON CONFLICT DO NOTHING";
    const FILTERED_LEVELS: usize = 2;
    fn read(row: &Row<'_>) -> rusqlite::Result<Pair> {
        Ok((BlobId(row.get(0)?), BlobId(row.get(1)?)))
    }
    fn insert(statement: &mut Statement<'_>, (id, other): &Pair) -> rusqlite::Result<usize> {
        statement.execute(params![id.0.as_slice(), other.0.as_slice()])
    }
    fn order(a: &Pair, b: &Pair) -> Ordering {
        a.0.cmp(&b.0)
    }
    fn wins(_: &Pair, _: &Pair) -> bool {
        true
    }
    fn frame(_: &Pair) -> i64 {
        0
    }
    fn filtered((id, _): &Pair) -> Option<&BlobId> {
        Some(id)
    }
}

/// Names of blobs in another repository.
pub struct Names {
    connection: Connection,
    levels: Levels<Renamed>,
    gathered: BTreeMap<BlobId, BlobId>,
}

impl Names {
    /// No names yet.
    pub fn new() -> Result<Names> {
        let open = || {
            let connection = temporary_connection()?;
            connection.execute_batch(levels::SCHEMA)?;
            let levels = Levels::load(&connection)?;
            Ok((connection, levels))
        };
        let (connection, levels) = open().map_err(failed)?;
        Ok(Names { connection, levels, gathered: BTreeMap::new() })
    }

    /// Remembers that the blob `id` is called `other` there.
    pub fn put(&mut self, id: &BlobId, other: &BlobId) -> Result<()> {
        self.gathered.insert(*id, *other);
        if self.gathered.len() >= GATHERED_PAIRS { self.settle() } else { Ok(()) }
    }

    /// What the blob is called there, if that is known.
    pub fn get(&self, id: &BlobId) -> Result<Option<BlobId>> {
        if let Some(other) = self.gathered.get(id) {
            return Ok(Some(*other));
        }
        self.find(id).map_err(failed)
    }

    fn find(&self, id: &BlobId) -> rusqlite::Result<Option<BlobId>> {
        for run in self.levels.present().filter(|run| run.may_hold(id)) {
            let mut find = self.connection.prepare_cached(&run.find_rows)?;
            if let Some((_, other)) = find.query_row([id.0.as_slice()], Renamed::read).optional()? {
                return Ok(Some(other));
            }
        }
        Ok(None)
    }

    fn settle(&mut self) -> Result<()> {
        let mut pairs = std::mem::take(&mut self.gathered).into_iter();
        let mut settle = || {
            self.connection.execute_batch("BEGIN")?;
            let count = pairs.len() as i64;
            self.levels.insert::<rusqlite::Error>(&self.connection, count, &|_| false, || Ok(pairs.next()))?;
            self.connection.execute_batch("COMMIT")
        };
        settle().map_err(failed)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn id(number: u32, side: u8) -> BlobId {
        let mut bytes = [side; 32];
        bytes[..4].copy_from_slice(&number.wrapping_mul(2_654_435_761).to_be_bytes());
        BlobId(bytes)
    }

    #[test]
    fn names_are_found_in_memory_and_on_disk_and_unknown_ones_are_not() {
        let mut names = Names::new().unwrap();
        for number in 0..20_000 {
            names.put(&id(number, 1), &id(number, 2)).unwrap();
            if number % 3 == 0 {
                names.put(&id(number / 2, 1), &id(number / 2, 2)).unwrap();
            }
        }
        for number in 0..20_000 {
            assert_eq!(names.get(&id(number, 1)).unwrap(), Some(id(number, 2)));
            assert_eq!(names.get(&id(number, 3)).unwrap(), None);
        }
    }
}
