//! The local form of the index: one SQLite file that can be deleted at any time.
//!
//! It carries the repository's id and the number of its schema; whatever is foreign, damaged, truncated or newer is
//! made anew, and where no file can be kept it lives in a private temporary one. Several processes may share it: all
//! that changes together changes in one transaction, and look-ups see the state of one moment (WAL).
//!
//! Frames are numbered in the order of their arrival and never get a number twice, so "recorded before" is a
//! comparison of numbers, a pack is a few ranges of them, and a blob whose frame is gone is simply not there.

use super::dead::Dead;
use super::levels::{self, Blobs, Levels, Marked};
use crate::base::RepositoryId;
use crate::repo::{Error, Result};
use rusqlite::config::DbConfig;
use rusqlite::{Connection, ErrorCode, OptionalExtension, params};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The file's name in its folder.
pub const FILE_NAME: &str = "index-v1.sqlite";
/// The number of the schema below: any other is made anew.
const SCHEMA_VERSION: i64 = 5;
/// SQLite's page cache; of a temporary file's, a quarter of that.
const PAGE_CACHE_KIB: i64 = 8 << 10;
/// How long one process waits for another's transaction. A merge of the largest level takes seconds, large segments
/// from a slow store more than that.
const BUSY: Duration = Duration::from_secs(300);
/// How many look-ups share one read transaction: opening one costs as much as a quarter of a look-up.
const LOOKUPS_PER_READ: u32 = 4096;

const SCHEMA: &str = "
    CREATE TABLE meta (name TEXT PRIMARY KEY, value) WITHOUT ROWID;
    CREATE TABLE segments (number INTEGER PRIMARY KEY, id BLOB UNIQUE NOT NULL, condemned_seen INTEGER NOT NULL,
        proven INTEGER NOT NULL, late INTEGER NOT NULL DEFAULT 0);
    CREATE TABLE segment_packs (segment INTEGER, pack INTEGER, PRIMARY KEY (segment, pack)) WITHOUT ROWID;
    CREATE TABLE segment_previous (segment INTEGER, id BLOB, PRIMARY KEY (segment, id)) WITHOUT ROWID;
    CREATE TABLE roster_segments (id BLOB PRIMARY KEY, stays INTEGER NOT NULL) WITHOUT ROWID;
    CREATE TABLE roster_snapshots (id BLOB PRIMARY KEY) WITHOUT ROWID;
    CREATE TABLE roster_packs (id BLOB PRIMARY KEY) WITHOUT ROWID;
    CREATE TABLE condemned (number INTEGER PRIMARY KEY, decided INTEGER NOT NULL);
    CREATE TABLE condemned_segments (id BLOB, record INTEGER, stays INTEGER NOT NULL,
        PRIMARY KEY (id, record)) WITHOUT ROWID;
    CREATE TABLE condemned_packs (id BLOB, record INTEGER, PRIMARY KEY (id, record)) WITHOUT ROWID;
    CREATE TABLE packs (number INTEGER PRIMARY KEY, id BLOB UNIQUE NOT NULL, size INTEGER NOT NULL,
        role INTEGER NOT NULL, written_ns INTEGER NOT NULL, blobs INTEGER NOT NULL, void INTEGER NOT NULL,
        proven INTEGER NOT NULL);
    CREATE INDEX void_packs ON packs (void) WHERE void = 1;
    CREATE TABLE pack_frames (first INTEGER PRIMARY KEY, count INTEGER NOT NULL, pack INTEGER NOT NULL);
    CREATE INDEX frames_of_pack ON pack_frames (pack);
    CREATE TABLE frames (number INTEGER PRIMARY KEY, pack INTEGER, block_offset INTEGER, block_length INTEGER,
        key INTEGER, start INTEGER, length INTEGER, raw_length INTEGER, encoding INTEGER,
        bases BLOB, depth INTEGER, delta_bytes INTEGER, whole_bytes INTEGER);
    CREATE TABLE keys (number INTEGER PRIMARY KEY, id BLOB UNIQUE NOT NULL);
    CREATE TABLE dead_frames (first INTEGER PRIMARY KEY, last INTEGER NOT NULL, damaged INTEGER NOT NULL);
    CREATE TABLE damage_records (name TEXT, pack BLOB NOT NULL, block_offset INTEGER,
        PRIMARY KEY (name, block_offset)) WITHOUT ROWID;
    CREATE TABLE sound_snapshots (snapshot BLOB PRIMARY KEY, findings INTEGER NOT NULL) WITHOUT ROWID;
    CREATE TABLE marks_pending (mark, side, blob, frame, written_ms);";

/// The open cache and what is kept in memory of it: level tables, filters and ranges of dead frames.
pub struct Cache {
    /// For the other files of this room; look-ups go through [`Cache::read`], changes through [`Cache::write`].
    pub connection: Connection,
    /// Blobs by id.
    pub blobs: Levels<Blobs>,
    /// Blobs by mark.
    pub marks: Levels<Marked>,
    /// Frames whose blobs are unknown.
    pub dead: Dead,
    /// Those of them whose rows can leave.
    pub gone: Dead,
    /// Frames of packs for which nobody vouches: they can be read, and are not relied on.
    pub unproven: Dead,
    /// The file, if it is no temporary one.
    path: Option<PathBuf>,
    generation: i64,
    reads_left: u32,
    in_read: bool,
}

/// How the cache was found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Found {
    /// Why it was made anew, if something was there and could not be used.
    pub rebuilt: Option<String>,
    /// What the user may want to know: that no file could be kept, and why.
    pub notes: Vec<String>,
}

impl Cache {
    /// Opens the cache of `repository` in `folder`, making it where it cannot be used; without folder, or where
    /// none can be written, in a private temporary file that goes with the process.
    pub fn open(repository: RepositoryId, folder: Option<&Path>) -> Result<(Cache, Found)> {
        let mut found = Found::default();
        let Some(folder) = folder else { return Ok((Cache::temporary(repository)?, found)) };
        match Cache::open_file(repository, folder, &mut found) {
            Ok(cache) => Ok((cache, found)),
            Err(reason) => {
                let path = folder.join(FILE_NAME);
                found.notes.push(format!(
                    "the index cache {} cannot be used ({reason}); this run uses a temporary one, which takes longer",
                    path.display()
                ));
                Ok((Cache::temporary(repository)?, found))
            }
        }
    }

    fn open_file(repository: RepositoryId, folder: &Path, found: &mut Found) -> Result<Cache, String> {
        let path = folder.join(FILE_NAME);
        make_private(folder, &path).map_err(|error| error.to_string())?;
        match Cache::attempt(repository, &path, found) {
            Err(error) if is_damage(&error) => {
                found.rebuilt = Some(format!("the file was damaged: {error}"));
                remove_files(&path).map_err(|error| error.to_string())?;
                make_private(folder, &path).map_err(|error| error.to_string())?;
                Cache::attempt(repository, &path, found).map_err(|error| error.to_string())
            }
            other => other.map_err(|error| error.to_string()),
        }
    }

    fn attempt(repository: RepositoryId, path: &Path, found: &mut Found) -> rusqlite::Result<Cache> {
        let connection = Connection::open(path)?;
        configure(&connection)?;
        connection.query_row("PRAGMA journal_mode = WAL", [], |_| Ok(()))?;
        if let Some(reason) = prepare_schema(&connection, repository)? {
            found.rebuilt = Some(reason);
        }
        Cache::with(connection, Some(path.to_path_buf()))
    }

    /// A cache that lives as long as this value.
    pub fn temporary(repository: RepositoryId) -> Result<Cache> {
        let open = || {
            let connection = Connection::open("")?;
            configure(&connection)?;
            prepare_schema(&connection, repository)?;
            Cache::with(connection, None)
        };
        open().map_err(|error| failure(None, error))
    }

    fn with(connection: Connection, path: Option<PathBuf>) -> rusqlite::Result<Cache> {
        let mut cache = Cache {
            blobs: Levels::load(&connection)?,
            marks: Levels::load(&connection)?,
            dead: Dead::load(&connection)?,
            gone: Dead::load_gone(&connection)?,
            unproven: Dead::load_unproven(&connection)?,
            generation: generation(&connection)?,
            connection,
            path,
            reads_left: 0,
            in_read: false,
        };
        cache.begin_read()?;
        Ok(cache)
    }

    /// The error that a failed statement amounts to.
    pub fn failed(&self, error: rusqlite::Error) -> Error {
        failure(self.path.as_deref(), error)
    }

    /// Looks something up. Many look-ups share one moment's state, which is never older than some thousand of them.
    pub fn read<T>(&mut self, look_up: impl FnOnce(&Cache) -> rusqlite::Result<T>) -> Result<T> {
        let result = match self.begin_read() {
            Ok(()) => look_up(self),
            Err(error) => Err(error),
        };
        result.map_err(|error| self.failed(error))
    }

    /// Changes something: all of it, or nothing when `change` fails.
    pub fn write<T>(&mut self, change: impl FnOnce(&mut Cache) -> Result<T>) -> Result<T> {
        let begun = self.end_read().and_then(|()| self.connection.execute_batch("BEGIN IMMEDIATE"));
        begun.and_then(|()| self.catch_up()).map_err(|error| self.abandon(error))?;
        let value = match change(self) {
            Ok(value) => value,
            Err(error) => {
                self.roll_back();
                return Err(error);
            }
        };
        let ended = self
            .connection
            .execute("UPDATE meta SET value = value + 1 WHERE name = 'generation'", [])
            .and_then(|_| self.connection.execute_batch("COMMIT"));
        ended.map_err(|error| self.abandon(error))?;
        self.generation += 1;
        Ok(value)
    }

    /// Lets the page cache have a part of its usual bytes.
    pub fn limit_page_cache(&self, part: i64) -> rusqlite::Result<()> {
        self.connection.execute_batch(&format!("PRAGMA cache_size = -{}", PAGE_CACHE_KIB / part))
    }

    /// Lets go of the state that look-ups share.
    pub fn end_read(&mut self) -> rusqlite::Result<()> {
        if std::mem::take(&mut self.in_read) {
            self.connection.execute_batch("COMMIT")?;
        }
        Ok(())
    }

    fn begin_read(&mut self) -> rusqlite::Result<()> {
        if self.in_read && self.reads_left > 0 {
            self.reads_left -= 1;
            return Ok(());
        }
        self.end_read()?;
        self.connection.execute_batch("BEGIN")?;
        self.in_read = true;
        self.reads_left = LOOKUPS_PER_READ;
        self.catch_up()
    }

    /// Takes over what another process has changed.
    fn catch_up(&mut self) -> rusqlite::Result<()> {
        let generation = generation(&self.connection)?;
        if generation != self.generation {
            self.reload()?;
            self.generation = generation;
        }
        Ok(())
    }

    fn reload(&mut self) -> rusqlite::Result<()> {
        self.blobs = Levels::load(&self.connection)?;
        self.marks = Levels::load(&self.connection)?;
        self.reload_dead()
    }

    /// Reads again which frames are dead.
    pub fn reload_dead(&mut self) -> rusqlite::Result<()> {
        self.dead = Dead::load(&self.connection)?;
        self.gone = Dead::load_gone(&self.connection)?;
        self.unproven = Dead::load_unproven(&self.connection)?;
        Ok(())
    }

    fn abandon(&mut self, error: rusqlite::Error) -> Error {
        self.roll_back();
        self.failed(error)
    }

    fn roll_back(&mut self) {
        if !self.connection.is_autocommit() {
            // A failed rollback leaves a transaction that the next BEGIN complains about.
            let _ = self.connection.execute_batch("ROLLBACK");
        }
        self.in_read = false;
        // What is in memory may be ahead of what was rolled back; no generation has this number.
        self.generation = -1;
    }
}

fn generation(connection: &Connection) -> rusqlite::Result<i64> {
    connection.prepare_cached("SELECT value FROM meta WHERE name = 'generation'")?.query_row([], |row| row.get(0))
}

fn failure(path: Option<&Path>, error: rusqlite::Error) -> Error {
    let path = path.map_or_else(|| "(temporary)".to_owned(), |path| path.display().to_string());
    Error::Cache { path, reason: error.to_string() }
}

/// Whether the file is no database, or not all of one.
fn is_damage(error: &rusqlite::Error) -> bool {
    match error.sqlite_error_code() {
        Some(code) => matches!(code, ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase | ErrorCode::Unknown),
        // A value of another type than we wrote.
        None => true,
    }
}

/// Makes folder and file so that only this user can read them.
pub(super) fn make_private(folder: &Path, path: &Path) -> std::io::Result<()> {
    use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    let file =
        std::fs::OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(path)?;
    if file.metadata()?.permissions().mode() & 0o077 != 0 {
        file.set_permissions(std::fs::Permissions::from_mode(0o600))?;
    }
    Ok(())
}

/// Deletes the cache in `folder`. Whoever has it open keeps what he has; the next to open it makes it anew.
pub fn remove(folder: &Path) -> std::io::Result<()> {
    remove_files(&folder.join(FILE_NAME))
}

fn remove_files(path: &Path) -> std::io::Result<()> {
    for ending in ["", "-wal", "-shm"] {
        let mut name = path.as_os_str().to_owned();
        name.push(ending);
        match std::fs::remove_file(&name) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    Ok(())
}

/// SQLite's own temporary database: created privately, deleted at once, on disk when it outgrows its page cache.
pub fn temporary_connection() -> rusqlite::Result<Connection> {
    let connection = Connection::open("")?;
    configure(&connection)?;
    connection.execute_batch(&format!("PRAGMA cache_size = -{}", PAGE_CACHE_KIB / 4))?;
    Ok(connection)
}

pub(super) fn configure(connection: &Connection) -> rusqlite::Result<()> {
    connection.busy_timeout(BUSY)?;
    connection.set_prepared_statement_cache_capacity(64);
    // Otherwise SQLite plans a statement anew each time one of its values changes, if there was an index that might
    // have been of use for some value: half the time of a verify went into parsing.
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true)?;
    // NORMAL: a power cut may take the last transactions but never leaves half of one. A file in WAL mode that
    // stays large after a merge is cut back at the next checkpoint.
    connection.execute_batch(&format!(
        "PRAGMA synchronous = NORMAL; PRAGMA cache_size = -{PAGE_CACHE_KIB}; PRAGMA mmap_size = 0;
         PRAGMA trusted_schema = OFF; PRAGMA journal_size_limit = 16777216; PRAGMA wal_autocheckpoint = 4000;"
    ))
}

/// Makes the tables unless they are there and belong to `repository`; says why if others had to go.
fn prepare_schema(connection: &Connection, repository: RepositoryId) -> rusqlite::Result<Option<String>> {
    if unusable(connection, repository)?.is_none() {
        return Ok(None);
    }
    // Somebody else may be at the same; who comes second finds the tables.
    connection.execute_batch("BEGIN IMMEDIATE")?;
    let made = match unusable(connection, repository)? {
        None => None,
        Some(reason) => {
            drop_all(connection)?;
            connection.execute_batch(SCHEMA)?;
            connection.execute_batch(levels::SCHEMA)?;
            connection.pragma_update(None, "user_version", SCHEMA_VERSION)?;
            let mut insert = connection.prepare("INSERT INTO meta VALUES (?, ?)")?;
            insert.execute(params!["repository", repository.0])?;
            insert.execute(params!["generation", 1])?;
            insert.execute(params!["next_frame", 1])?;
            Some(reason)
        }
    };
    connection.execute_batch("COMMIT")?;
    Ok(made.flatten())
}

/// Why the tables cannot be used; the inner `None` says that there are none yet.
fn unusable(connection: &Connection, repository: RepositoryId) -> rusqlite::Result<Option<Option<String>>> {
    let tables: i64 = connection.query_row("SELECT COUNT(*) FROM sqlite_schema", [], |row| row.get(0))?;
    if tables == 0 {
        return Ok(Some(None));
    }
    let version: i64 = connection.query_row("PRAGMA user_version", [], |row| row.get(0))?;
    if version != SCHEMA_VERSION {
        return Ok(Some(Some(format!("it has schema {version}, this program has {SCHEMA_VERSION}"))));
    }
    let found = connection.query_row("SELECT value FROM meta WHERE name = 'repository'", [], |row| row.get(0));
    let found: Option<[u8; 32]> = found.optional()?;
    if found != Some(repository.0) {
        return Ok(Some(Some("it belonged to another repository".to_owned())));
    }
    Ok(None)
}

fn drop_all(connection: &Connection) -> rusqlite::Result<()> {
    let mut names = Vec::new();
    let mut found = connection.prepare("SELECT type, name FROM sqlite_schema WHERE type IN ('table', 'view')")?;
    let mut rows = found.query([])?;
    while let Some(row) = rows.next()? {
        names.push((row.get::<_, String>(0)?, row.get::<_, String>(1)?));
    }
    for (kind, name) in names.iter().filter(|(_, name)| !name.starts_with("sqlite_")) {
        connection.execute_batch(&format!("DROP {kind} \"{}\"", name.replace('"', "\"\"")))?;
    }
    Ok(())
}
