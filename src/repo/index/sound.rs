//! Snapshots that count on nothing that was found damaged.
//!
//! After damage was found, what a snapshot says is stored may lie in a damaged block: the next backup reads everything
//! and stores again what is gone. From then on its snapshot can be counted on, and what is made from it, until damage is
//! found once more. Only this cache knows what was found, so only snapshots that were made with it are noted.

use super::{FOUND_DAMAGED, Index, RECORDED};
use crate::base::{SessionId, SnapshotId};
use crate::repo::Result;
use rusqlite::{Connection, OptionalExtension, params};
use std::collections::BTreeSet;

/// How often damage was found so far.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Findings(i64);

impl Index {
    /// How often damage was found so far, whatever became of it.
    pub fn findings(&self) -> Result<Findings> {
        self.state().cache.read(|cache| findings(&cache.connection))
    }

    /// The snapshots that were made since damage was found last.
    pub fn sound_snapshots(&self) -> Result<BTreeSet<SnapshotId>> {
        self.state().cache.read(|cache| {
            let now = findings(&cache.connection)?;
            let mut noted =
                cache.connection.prepare_cached("SELECT snapshot FROM sound_snapshots WHERE findings = ?")?;
            noted.query_map([now.0], |row| Ok(SessionId(row.get(0)?)))?.collect()
        })
    }

    /// Notes that `snapshot` counts on nothing that was found damaged up to `findings`. If more was found meanwhile it
    /// does not count; while nothing is damaged every snapshot does.
    pub fn note_sound(&self, snapshot: SnapshotId, findings: Findings) -> Result<()> {
        if findings.0 == 0 {
            return Ok(());
        }
        self.state().cache.write(|cache| {
            let note = || {
                cache.connection.execute("DELETE FROM sound_snapshots WHERE findings < ?", [findings.0])?;
                cache.connection.execute(
                    "INSERT OR REPLACE INTO sound_snapshots SELECT ?, ?
                     WHERE EXISTS (SELECT 1 FROM dead_frames WHERE damaged IN (?, ?))",
                    params![snapshot.0, findings.0, FOUND_DAMAGED, RECORDED],
                )
            };
            note().map(drop).map_err(|error| cache.failed(error))
        })
    }
}

fn findings(connection: &Connection) -> rusqlite::Result<Findings> {
    let mut found = connection.prepare_cached("SELECT value FROM meta WHERE name = 'findings'")?;
    Ok(Findings(found.query_row([], |row| row.get(0)).optional()?.unwrap_or(0)))
}

/// Damage was found that was not known.
pub(super) fn found_more(connection: &Connection) -> rusqlite::Result<()> {
    connection
        .prepare_cached("INSERT INTO meta VALUES ('findings', 1) ON CONFLICT (name) DO UPDATE SET value = value + 1")?
        .execute([])
        .map(drop)
}
