//! Rows into tables: several sessions side by side, one transaction for each table, counted by the server.
//!
//! A larger table that this restore has made is emptied in the same transaction: that lets the server leave out its log
//! where `wal_level` permits and write rows that need no later vacuum (`FREEZE`). Nobody else looks into a table that was
//! made a moment ago, so nobody can see rows too early.

use super::Options;
use super::indexes::Indexes;
use super::partitions::Routes;
use super::programs::{From, PgRestore};
use crate::base::{Event, Kind};
use crate::db::postgres::{Address, Connection, ROWS_MONEY_PROPERTY, identifier, literal, qualified};
use crate::db::{Error, Result, Watch};
use crate::format::dump::{Manifest, Table};
use crate::target::dump::StoredDump;
use std::collections::{HashSet, VecDeque};
use std::io::{self, Read, Write};
use std::sync::{Mutex, PoisonError};
use std::thread;

/// How much is read from the snapshot at once.
const PIECE_BYTES: usize = 128 << 10;

/// Smaller tables are not emptied first: two new files for each cost more than it saves.
const EMPTIED_FROM_BYTES: u64 = 1 << 20;

/// What every session of ours begins with, whatever somebody set for the role or the database. How values are written
/// (`DateStyle`, …) is left to those: rows are read in any case, and a condition of a table may depend on it.
const SESSION: &str = "SET client_min_messages = error; SET statement_timeout = 0; SET lock_timeout = 0; \
     SET idle_in_transaction_session_timeout = 0; SET row_security = off; SET synchronous_commit = off; \
     SET check_function_bodies = off; SET xmloption = content; SET default_transaction_read_only = off; \
     SET default_transaction_isolation = 'read committed'; SET standard_conforming_strings = on; \
     SET array_nulls = on; SET quote_all_identifiers = off; \
     SELECT pg_catalog.set_config('search_path', '', false)";

/// A session with the settings that a restore needs.
pub fn session(address: &Address, version_number: u32, watch: &Watch) -> Result<Connection> {
    let mut connection = Connection::connect(address, None, watch)?.as_target();
    connection.query(SESSION)?;
    if version_number >= 170_000 {
        connection.execute("SET transaction_timeout = 0")?;
    }
    Ok(connection)
}

/// The same, with names that have no schema looked for where `options` say.
pub fn session_looking(address: &Address, version_number: u32, options: &Options, watch: &Watch) -> Result<Connection> {
    let mut connection = session(address, version_number, watch)?;
    if !options.search_path.is_empty() {
        connection.query(&options.set_search_path())?;
    }
    Ok(connection)
}

/// The statement after which a session reads and writes amounts of money as the dump has them; none if it does not say.
pub fn in_money_of(manifest: &Manifest) -> Option<String> {
    let locale = manifest.properties.get(ROWS_MONEY_PROPERTY)?;
    Some(format!("SELECT pg_catalog.set_config('lc_monetary', {}, false)", literal(locale)))
}

/// Which rows go where.
pub struct Loading<'a, 'i> {
    /// Server and database.
    pub address: &'a Address,
    /// The server's version.
    pub version_number: u32,
    /// What the dump says of itself.
    pub manifest: &'a Manifest,
    /// The tables.
    pub tables: Vec<&'a Table>,
    /// Those that this restore has made, by schema and name.
    pub fresh: HashSet<(&'a str, &'a str)>,
    /// Whether triggers and foreign keys keep still: they are there already.
    pub quiet_triggers: bool,
    /// Partitions whose rows go into a table above them.
    pub routes: &'a Routes,
    /// Sessions.
    pub jobs: usize,
    /// Where names without a schema are looked for.
    pub options: &'a Options,
    /// What whoever has no table left makes meanwhile, and with what.
    pub meanwhile: Option<(&'a Indexes<'i>, PgRestore<'a>)>,
}

/// What was written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Loaded {
    /// Tables.
    pub tables: u64,
    /// Rows, as the server counts them.
    pub rows: u64,
    /// Bytes.
    pub bytes: u64,
}

/// What all sessions share.
struct Shared<'a> {
    queue: Mutex<VecDeque<&'a Table>>,
    loaded: Mutex<Loaded>,
    failure: Mutex<Option<Error>>,
    /// Stops all sessions when one fails.
    watch: Watch,
}

impl Loading<'_, '_> {
    /// Writes all rows. The first failure ends all sessions; what was loaded until then is told in any case.
    pub fn load(&self, stored: &dyn StoredDump, watch: &Watch) -> (Result<()>, Loaded) {
        let mut tables = self.tables.clone();
        tables.sort_by_key(|table| std::cmp::Reverse(table.bytes));
        let bytes = tables.iter().map(|table| table.bytes).sum();
        watch.monitor.event(Event::Total { items: tables.len() as u64, bytes, complete: true });
        let jobs = self.jobs.clamp(1, tables.len().max(1));
        let shared = Shared {
            queue: Mutex::new(tables.into()),
            loaded: Mutex::default(),
            failure: Mutex::new(None),
            watch: Watch { stop: watch.stop.child(), monitor: watch.monitor.clone() },
        };
        if let Some((indexes, _)) = &self.meanwhile {
            indexes.begin(jobs);
        }
        thread::scope(|scope| {
            for _ in 0..jobs {
                scope.spawn(|| {
                    if let Err(error) = self.work(stored, &shared) {
                        shared.failure.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(error);
                        shared.watch.stop.raise();
                    }
                });
            }
        });
        let loaded = *shared.loaded.lock().unwrap_or_else(PoisonError::into_inner);
        let failure = shared.failure.into_inner().unwrap_or_else(PoisonError::into_inner);
        (failure.map_or(Ok(()), Err), loaded)
    }

    fn work(&self, stored: &dyn StoredDump, shared: &Shared<'_>) -> Result<()> {
        let mut connection = None;
        loop {
            let table = shared.queue.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
            let Some(table) = table else { break };
            let name = format!("table {}.{}", table.schema, table.name);
            if connection.is_none() {
                connection = Some(self.connect(&shared.watch).map_err(|error| error.object(&name))?);
            }
            let connection = connection.as_mut().expect("made three lines above");
            shared.watch.monitor.event(Event::Current(&name));
            let (rows, bytes) =
                self.table(connection, stored, table, &shared.watch).map_err(|error| error.object(&name))?;
            let mut loaded = shared.loaded.lock().unwrap_or_else(PoisonError::into_inner);
            loaded.tables += 1;
            loaded.rows += rows;
            loaded.bytes += bytes;
            drop(loaded);
            // What shares its rows with others is full when they are.
            if let Some((indexes, _)) = self.meanwhile.as_ref().filter(|_| self.routes.instead_of(table).is_none()) {
                indexes.full(table);
            }
        }
        drop(connection);
        self.make_indexes(shared)
    }

    /// Makes indexes of tables that are full, as long as somebody else is still at work.
    fn make_indexes(&self, shared: &Shared<'_>) -> Result<()> {
        let Some((indexes, program)) = &self.meanwhile else { return Ok(()) };
        let program = PgRestore { watch: &shared.watch, ..*program };
        while let Some(task) = indexes.next() {
            shared.watch.monitor.event(Event::Current(&task.label));
            program.fed(Some("post-data"), From::Contents(&task.archive), false)?;
            indexes.made(&task);
        }
        Ok(())
    }

    fn connect(&self, watch: &Watch) -> Result<Connection> {
        let mut connection = session_looking(self.address, self.version_number, self.options, watch)?;
        if let Some(sql) = in_money_of(self.manifest) {
            connection.query(&sql)?;
        }
        if self.quiet_triggers {
            connection.execute("SET session_replication_role = replica")?;
        }
        Ok(connection)
    }

    /// One table in one transaction. Answers with rows and bytes.
    fn table(
        &self,
        connection: &mut Connection,
        stored: &dyn StoredDump,
        table: &Table,
        watch: &Watch,
    ) -> Result<(u64, u64)> {
        let Some(stream) = &table.stream else { return Ok((0, 0)) };
        let address = self.address;
        let unreadable = |error: io::Error| {
            let message = format!("stream {stream} of the snapshot cannot be read: {error}");
            address.error(Kind::of_io(&error), message).database(&address.database)
        };
        let instead = self.routes.instead_of(table);
        let is_fresh = instead.is_none()
            && table.bytes >= EMPTIED_FROM_BYTES
            && self.fresh.contains(&(table.schema.as_str(), table.name.as_str()));
        let with_partitions = instead.is_some();
        let name = instead.unwrap_or_else(|| qualified(&table.schema, &table.name));
        let mut rows = stored.open(stream).map_err(unreadable)?;
        match is_fresh {
            true => connection.execute(&format!("BEGIN; TRUNCATE TABLE ONLY {name}"))?,
            false => connection.execute("BEGIN")?,
        };
        let stilled = match self.quiet_triggers {
            true => still(connection, &name, with_partitions)?,
            false => Vec::new(),
        };
        let columns: Vec<String> = table.columns.iter().map(|column| identifier(column)).collect();
        let columns = if columns.is_empty() { String::new() } else { format!(" ({})", columns.join(", ")) };
        let freeze = if is_fresh { ", FREEZE" } else { "" };
        let encoding = literal(self.manifest.properties.get("encoding").map_or("UTF8", String::as_str));
        let sql = format!("COPY {name}{columns} FROM STDIN WITH (FORMAT text, ENCODING {encoding}{freeze})");
        let mut copy = connection.copy_in(&sql)?;
        let mut piece = vec![0; PIECE_BYTES];
        let mut bytes = 0;
        loop {
            let length = rows.read(&mut piece).map_err(unreadable)?;
            if length == 0 {
                break;
            }
            if let Err(error) = copy.write_all(&piece[..length]) {
                let lost = || address.error(Kind::Unavailable, error.to_string()).database(&address.database);
                return Err(copy.failure().unwrap_or_else(lost));
            }
            bytes += length as u64;
            watch.monitor.event(Event::Done { items: 0, bytes: length as u64 });
        }
        let count = copy.finish()?;
        if count != table.rows {
            let message = format!(
                "the server has taken {count} rows where the manifest promises {}; the table was left empty",
                table.rows
            );
            let _ = connection.execute("ROLLBACK");
            return Err(address.error(Kind::Damaged, message).database(&address.database));
        }
        for trigger in &stilled {
            connection.execute(trigger)?;
        }
        connection.execute("COMMIT")?;
        watch.monitor.event(Event::Done { items: 1, bytes: 0 });
        Ok((count, bytes))
    }
}

/// Stills the triggers of a table that fire also where a session replicates, for the transaction that is under way. Answers
/// with the statements that let them be as they were.
fn still(connection: &mut Connection, table: &str, with_partitions: bool) -> Result<Vec<String>> {
    let table = literal(table);
    let partitions = match with_partitions {
        true => "UNION ALL SELECT i.inhrelid FROM meant m JOIN pg_catalog.pg_inherits i ON i.inhparent = m.oid",
        false => "",
    };
    let rows = connection.query(&format!(
        "WITH RECURSIVE meant(oid) AS (SELECT {table}::pg_catalog.regclass::pg_catalog.oid {partitions}) \
         SELECT n.nspname, c.relname, t.tgname, t.tgenabled FROM meant m JOIN pg_catalog.pg_class c ON c.oid = m.oid \
         JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace JOIN pg_catalog.pg_trigger t ON t.tgrelid = c.oid \
         WHERE t.tgenabled IN ('A', 'R') ORDER BY c.oid, t.oid"
    ))?;
    let mut as_they_were = Vec::new();
    for row in rows {
        let Ok([Some(schema), Some(name), Some(trigger), Some(when)]) = <[Option<String>; 4]>::try_from(row) else {
            continue;
        };
        let (table, trigger) = (qualified(&schema, &name), identifier(&trigger));
        connection.execute(&format!("ALTER TABLE ONLY {table} DISABLE TRIGGER {trigger}"))?;
        let when = if when == "A" { "ALWAYS" } else { "REPLICA" };
        as_they_were.push(format!("ALTER TABLE ONLY {table} ENABLE {when} TRIGGER {trigger}"));
    }
    Ok(as_they_were)
}
