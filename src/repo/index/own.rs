//! What a client keeps of what it stored itself, when it may only write: trees, content lists and its last snapshots.
//!
//! It can open nothing in the repository, so without this it would have to read every file every night. Everything here is
//! sealed under a key of the client's own ([`ObjectKind::Cached`]) and proven by its name when it is read: whoever can
//! change the file can make a run slower, not wrong. It is only a cache. Deleting it costs time.
//!
//! A snapshot is remembered when all its trees are here. What no remembered snapshot needs goes when it is more than what
//! they need, but not what the last few runs stored: another one of this client may be at work.

use super::cache::make_private;
use crate::base::{BlobId, SnapshotId};
use crate::compress::{Compressor, Decompressor};
use crate::crypto::names::hash;
use crate::format::cbor::Cbor as _;
use crate::format::snapshot::Snapshot;
use crate::format::tree::{ListPiece, TreePiece};
use crate::repo::base_cache::{self, SealedChunk};
use crate::repo::trees::named;
use crate::repo::{Keyring, Result};
use rusqlite::{Connection, OptionalExtension, params};
use std::collections::HashMap;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// The file's name in its folder.
const FILE_NAME: &str = "own-v1.sqlite";
const SCHEMA_VERSION: i64 = 1;
const SCHEMA: &str = "
    CREATE TABLE pieces (id BLOB PRIMARY KEY, length INTEGER NOT NULL, sealed BLOB NOT NULL, round INTEGER NOT NULL)
        WITHOUT ROWID;
    CREATE TABLE snapshots (id BLOB PRIMARY KEY, series BLOB UNIQUE NOT NULL, round INTEGER NOT NULL,
        name BLOB NOT NULL, length INTEGER NOT NULL, sealed BLOB NOT NULL) WITHOUT ROWID;
    CREATE TABLE meta (name TEXT PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID;
    INSERT INTO meta VALUES ('round', 0), ('needed', 0);";

/// Sealed bytes that wait to be put into the file together.
const WAITING_BYTES: usize = 1 << 20;
/// Snapshots that are remembered at most, one for each set of paths.
const MOST_SERIES: i64 = 64;
/// What was stored so many runs ago, or later, stays whatever needs it.
const ROUNDS: i64 = 8;

/// What a client keeps of what it stored.
pub struct OwnCache(Mutex<State>);

struct State {
    connection: Connection,
    keyring: Arc<Keyring>,
    compressor: Compressor,
    decompressor: Decompressor,
    round: i64,
    waiting: HashMap<BlobId, SealedChunk>,
    waiting_bytes: usize,
    /// Something could not be kept: no snapshot of this run is remembered.
    failed: bool,
}

impl OwnCache {
    /// Opens the cache in `folder`; one that cannot be used is made anew.
    pub fn open(folder: &Path, keyring: Arc<Keyring>) -> std::io::Result<OwnCache> {
        let path = folder.join(FILE_NAME);
        make_private(folder, &path)?;
        let opened = open_file(&path).or_else(|_| {
            std::fs::remove_file(&path).map_err(|error| rusqlite::Error::ToSqlConversionFailure(error.into()))?;
            open_file(&path)
        });
        let (connection, round) = opened.map_err(std::io::Error::other)?;
        // Others who may read the folder see when it is written, and how much.
        make_private(folder, &path)?;
        Ok(OwnCache(Mutex::new(State {
            connection,
            keyring,
            compressor: Compressor::new(base_cache::LEVEL),
            decompressor: Decompressor::new(),
            round,
            waiting: HashMap::new(),
            waiting_bytes: 0,
            failed: false,
        })))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Keeps a piece of a tree or list that is in the repository, or is about to be. Where that fails nothing is lost but
    /// time.
    pub fn keep(&self, id: &BlobId, bytes: &[u8]) {
        let mut state = self.state();
        let kept = state.keep(id, bytes);
        state.failed |= kept.is_err();
    }

    /// A piece that is here and whole.
    pub fn get(&self, id: &BlobId) -> Option<Vec<u8>> {
        self.state().get(id)
    }

    /// The snapshots that are remembered, the newest of each set of paths, in order of their time.
    pub fn snapshots(&self) -> Vec<Snapshot> {
        let mut snapshots = self.state().snapshots().unwrap_or_default();
        snapshots.sort_by_key(|snapshot| (snapshot.time_ns, snapshot.id));
        snapshots
    }

    /// Remembers a snapshot that was committed, whose trees are all here.
    pub fn remember(&self, snapshot: &Snapshot) {
        let mut state = self.state();
        if !state.failed && state.remember(snapshot).is_ok() {
            // What is not swept now is another time.
            let _ = state.sweep_if_worth_it();
        }
    }

    /// Forgets snapshots that are gone from the repository.
    pub fn forget(&self, gone: &[SnapshotId]) {
        let state = self.state();
        for id in gone {
            let _ = state.connection.execute("DELETE FROM snapshots WHERE id = ?", [id.0]);
        }
    }
}

fn open_file(path: &Path) -> rusqlite::Result<(Connection, i64)> {
    let connection = Connection::open(path)?;
    super::cache::configure(&connection)?;
    connection.query_row("PRAGMA journal_mode = WAL", [], |_| Ok(()))?;
    let version: i64 = connection.query_row("PRAGMA user_version", [], |row| row.get(0))?;
    if version == 0 {
        connection.execute_batch(&format!("BEGIN; {SCHEMA} PRAGMA user_version = {SCHEMA_VERSION}; COMMIT"))?;
    } else if version != SCHEMA_VERSION {
        return Err(rusqlite::Error::InvalidQuery);
    }
    connection.execute("UPDATE meta SET value = value + 1 WHERE name = 'round'", [])?;
    let round = connection.query_row("SELECT value FROM meta WHERE name = 'round'", [], |row| row.get(0))?;
    Ok((connection, round))
}

/// What stands for the host and the paths of a snapshot.
fn series_of(snapshot: &Snapshot) -> [u8; 32] {
    let mut paths: Vec<&[u8]> = snapshot.paths.iter().map(|path| path.0.as_slice()).collect();
    paths.sort_unstable();
    let mut text = snapshot.host.clone().into_bytes();
    for path in paths {
        text.push(0);
        text.extend_from_slice(path);
    }
    hash(&text)
}

impl State {
    fn keep(&mut self, id: &BlobId, bytes: &[u8]) -> Result<()> {
        let sealed = base_cache::seal_chunk(&self.keyring, &mut self.compressor, *id, bytes)?;
        self.waiting_bytes += sealed.sealed_bytes().len();
        self.waiting.insert(*id, sealed);
        if self.waiting_bytes >= WAITING_BYTES { self.settle() } else { Ok(()) }
    }

    fn settle(&mut self) -> Result<()> {
        let waiting = std::mem::take(&mut self.waiting);
        self.waiting_bytes = 0;
        let put = || {
            self.connection.execute_batch("BEGIN IMMEDIATE")?;
            let mut insert = self.connection.prepare_cached(
                "INSERT INTO pieces VALUES (?, ?, ?, ?) ON CONFLICT (id) DO UPDATE SET round = excluded.round",
            )?;
            for (id, chunk) in &waiting {
                insert.execute(params![id.0, chunk.raw_length(), chunk.sealed_bytes(), self.round])?;
            }
            self.connection.execute_batch("COMMIT")
        };
        put().map_err(|error| {
            let _ = self.connection.execute_batch("ROLLBACK");
            failed(error)
        })
    }

    fn get(&mut self, id: &BlobId) -> Option<Vec<u8>> {
        let bytes = match self.waiting.get(id) {
            Some(chunk) => {
                let (sealed, length) = (chunk.sealed_bytes().to_vec(), chunk.raw_length());
                base_cache::open_chunk(&self.keyring, &mut self.decompressor, sealed, length)?
            }
            None => {
                let find = "SELECT length, sealed FROM pieces WHERE id = ?";
                let found = self
                    .connection
                    .prepare_cached(find)
                    .ok()?
                    .query_row([id.0], |row| Ok((row.get::<_, u32>(0)?, row.get::<_, Vec<u8>>(1)?)));
                let (length, sealed) = found.optional().ok()??;
                base_cache::open_chunk(&self.keyring, &mut self.decompressor, sealed, length)?
            }
        };
        (self.keyring.naming().blob_id(&bytes) == *id).then_some(bytes)
    }

    fn snapshots(&mut self) -> Result<Vec<Snapshot>> {
        let rows = {
            let find = "SELECT name, length, sealed FROM snapshots";
            let mut found = self.connection.prepare_cached(find).map_err(failed)?;
            let rows = found.query_map([], |row| Ok((row.get::<_, [u8; 32]>(0)?, row.get(1)?, row.get(2)?)));
            rows.and_then(Iterator::collect::<rusqlite::Result<Vec<(_, u32, Vec<u8>)>>>).map_err(failed)?
        };
        let mut snapshots = Vec::new();
        for (name, length, sealed) in rows {
            let content = base_cache::open_chunk(&self.keyring, &mut self.decompressor, sealed, length);
            let content = content.filter(|content| self.keyring.naming().blob_id(content).0 == name);
            snapshots.extend(content.and_then(|content| Snapshot::from_cbor(&content, "snapshot").ok()));
        }
        Ok(snapshots)
    }

    fn remember(&mut self, snapshot: &Snapshot) -> Result<()> {
        self.settle()?;
        let content = snapshot.to_cbor();
        let name = self.keyring.naming().blob_id(&content);
        let sealed = base_cache::seal_chunk(&self.keyring, &mut self.compressor, name, &content)?;
        let series = series_of(snapshot);
        let put = || {
            self.connection.execute(
                "INSERT OR REPLACE INTO snapshots VALUES (?, ?, ?, ?, ?, ?)",
                params![snapshot.id.0, series, self.round, name.0, sealed.raw_length(), sealed.sealed_bytes()],
            )?;
            self.connection.execute(
                "DELETE FROM snapshots WHERE id NOT IN (SELECT id FROM snapshots ORDER BY round DESC LIMIT ?)",
                [MOST_SERIES],
            )
        };
        put().map(drop).map_err(failed)
    }

    /// Takes out what nobody needs, if there is more of it than of what somebody does.
    fn sweep_if_worth_it(&mut self) -> Result<()> {
        let count = |query: &str| self.connection.query_row(query, [], |row| row.get::<_, i64>(0)).map_err(failed);
        let there = count("SELECT COUNT(*) FROM pieces")?;
        let needed = count("SELECT value FROM meta WHERE name = 'needed'")?;
        if there <= needed * 2 + 1000 {
            return Ok(());
        }
        self.connection
            .execute_batch(
                "CREATE TEMP TABLE IF NOT EXISTS needed (id BLOB PRIMARY KEY) WITHOUT ROWID; DELETE FROM needed",
            )
            .map_err(failed)?;
        for snapshot in self.snapshots()? {
            self.mark(snapshot.root)?;
        }
        let swept = self.connection.execute_batch(&format!(
            "BEGIN IMMEDIATE;
             DELETE FROM pieces WHERE round < {} AND id NOT IN (SELECT id FROM needed);
             UPDATE meta SET value = (SELECT COUNT(*) FROM needed) WHERE name = 'needed';
             COMMIT; DELETE FROM needed",
            self.round - ROUNDS
        ));
        swept.map_err(|error| {
            let _ = self.connection.execute_batch("ROLLBACK");
            failed(error)
        })
    }

    /// Marks a tree and all trees and lists beneath it.
    fn mark(&mut self, root: BlobId) -> Result<()> {
        let mut waiting = vec![(root, true)];
        while let Some((id, is_tree)) = waiting.pop() {
            let insert = self.connection.prepare_cached("INSERT OR IGNORE INTO needed VALUES (?)");
            if insert.and_then(|mut insert| insert.execute([id.0])).map_err(failed)? == 0 {
                continue;
            }
            let Some(bytes) = self.get(&id) else { continue };
            match is_tree {
                true => {
                    let Ok(piece) = TreePiece::decode(&bytes) else { continue };
                    let lists: Vec<BlobId> = piece.nodes.iter().filter_map(|node| node.list).collect();
                    waiting.extend(named(&piece).map(|id| (id, !lists.contains(&id))));
                }
                false => {
                    let Ok(piece) = ListPiece::decode(&bytes) else { continue };
                    if piece.level > 0 {
                        waiting.extend(piece.ids.0.into_iter().map(|id| (id, false)));
                    }
                }
            }
        }
        Ok(())
    }
}

fn failed(error: rusqlite::Error) -> crate::repo::Error {
    crate::repo::Error::Cache { path: FILE_NAME.to_owned(), reason: error.to_string() }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::repo::index::tests::World;
    use std::os::unix::fs::PermissionsExt;

    fn opened(folder: &Path, keyring: &Arc<Keyring>) -> OwnCache {
        OwnCache::open(folder, keyring.clone()).unwrap()
    }

    #[test]
    fn what_is_kept_is_there_the_next_time_and_only_what_has_its_name() {
        let folder = tempfile::tempdir().unwrap();
        let keyring = Arc::new(World::new().keyring);
        let bytes = b"a piece of a tree".to_vec();
        let id = keyring.naming().blob_id(&bytes);
        let other = BlobId([1; 32]);
        let cache = opened(folder.path(), &keyring);
        cache.keep(&id, &bytes);
        cache.keep(&other, &bytes);
        assert_eq!(cache.get(&id), Some(bytes.clone()));
        cache.state().settle().unwrap();
        drop(cache);
        let cache = opened(folder.path(), &keyring);
        assert_eq!((cache.get(&id), cache.get(&other)), (Some(bytes), None));
        let mode = std::fs::metadata(folder.path().join(FILE_NAME)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        let stored = std::fs::read(folder.path().join(FILE_NAME)).unwrap();
        assert!(stored.windows(7).all(|window| window != b"a piece"), "it is sealed");
    }

    #[test]
    fn a_file_that_is_none_of_ours_is_made_anew() {
        let folder = tempfile::tempdir().unwrap();
        let keyring = Arc::new(World::new().keyring);
        std::fs::write(folder.path().join(FILE_NAME), "nonsense of some length".repeat(100)).unwrap();
        let cache = opened(folder.path(), &keyring);
        assert!(cache.snapshots().is_empty());
        let id = keyring.naming().blob_id(b"piece");
        cache.keep(&id, b"piece");
        assert_eq!(cache.get(&id), Some(b"piece".to_vec()));
    }
}
