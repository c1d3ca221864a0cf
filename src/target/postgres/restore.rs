//! A restore, step by step.
//!
//! | step | how | what a failure leaves |
//! | --- | --- | --- |
//! | globals | statement by statement, what is there is kept | roles made so far |
//! | database | made under a name of its own | nothing |
//! | pre-data | `pg_restore`, fed | of a new database nothing; of one that was there what was made so far |
//! | data | COPY, a transaction for each table, then its indexes while other tables are filled; sequences; large objects | the same, and tables that are whole |
//! | post-data | `pg_restore` with several sessions | the same |
//! | analyze | several sessions | everything; the planner knows less |
//! | place | settings, owner, name; the old one dropped last | everything, under either name |

use super::Destination;
use super::archive::Archive;
use super::circles;
use super::globals;
use super::indexes::Indexes;
use super::partitions::Routes;
use super::place::{NewDatabase, connect_for_databases};
use super::plan::{Plan, is_of_database};
use super::programs::{From, PgRestore, file_in, is_ahead};
use super::rows::{Loading, session, session_looking};
use super::statements::{Word, statements, with_database, words};
use crate::base::Kind;
use crate::db::postgres::{Address, Connection, identifier, literal, qualified};
use crate::db::{Error, Result, Watch};
use crate::format::dump::{Sequence, StreamRole, Table};
use crate::target::dump::{Restored, StoredDump};
use std::collections::{HashSet, VecDeque};
use std::sync::{Mutex, PoisonError};
use std::thread;

/// How a manifest notes a table that lies at another server.
const FOREIGN: &str = "foreign";
/// How many sequences are set by one round trip.
const SEQUENCES_AT_ONCE: usize = 200;
/// Definitions up to this many are made in one transaction when they come into a database that is in use: it takes a lock
/// for each, and servers have room for a few thousand.
const IN_ONE_TRANSACTION: usize = 500;
/// Settings that decide what a text means, or what a value looks like as text. One with a dot in its name is an
/// application's own, which may ask for it anywhere.
const OF_VALUES: [&str; 13] = [
    "TimeZone",
    "timezone_abbreviations",
    "DateStyle",
    "IntervalStyle",
    "default_text_search_config",
    "lc_monetary",
    "lc_numeric",
    "lc_time",
    "extra_float_digits",
    "bytea_output",
    "xmlbinary",
    "transform_null_equals",
    "quote_all_identifiers",
];

/// Does what the plan says.
pub fn restore(plan: &Plan<'_>, stored: &dyn StoredDump, watch: &Watch) -> Result<Restored> {
    let mut restored = Restored {
        server: format!("PostgreSQL {}", plan.facts.version),
        database: plan.address.database.clone(),
        notes: plan.notes.clone(),
        ..Restored::default()
    };
    if plan.options.globals {
        restored.step("globals", watch, |restored| {
            restored.notes.extend(globals::restore(plan, stored, watch)?);
            Ok(())
        })?;
    }
    if plan.options.destination == Destination::Existing {
        let filled = into(plan, plan.address, stored, watch, &mut restored);
        return match filled {
            Ok(()) => Ok(restored),
            Err(error) => Err(left_as(plan, error, &restored)),
        };
    }
    let tablespace = plan.own_tablespace(&mut connect_for_databases(plan.address, watch)?, &mut restored.notes)?;
    let (properties, version) = (&plan.manifest.properties, plan.facts.version_number);
    let new = NewDatabase::create(plan.address, properties, tablespace, version, watch)?;
    let address = new.address().clone();
    let filled = shape(plan, &address, watch)
        .and_then(|_| into(plan, &address, stored, watch, &mut restored))
        .and_then(|()| restored.step("place", watch, |restored| settle(plan, &address, watch, restored)));
    if let Err(error) = filled {
        return Err(new.give_up(error));
    }
    let replace = plan.options.destination == Destination::Replace && plan.is_there;
    restored.left_behind = new.put_in_place(replace)?;
    (restored.created, restored.replaced) = (true, replace);
    Ok(restored)
}

/// Says what a database that was there looks like after a failure.
fn left_as(plan: &Plan<'_>, error: Error, restored: &Restored) -> Error {
    let (done, all) = (restored.tables, plan.tables.len());
    let state = match (restored.steps.is_empty(), plan.options.is_partial()) {
        (true, true) => "the database is as it was before".to_owned(),
        (_, true) => format!("{done} of the {all} tables hold their rows; drop them before the next attempt"),
        (_, false) => {
            format!(
                "the database is incomplete, {done} of {all} tables hold their rows; empty it before the next attempt"
            )
        }
    };
    let message = format!("{}; {state}", error.message);
    Error { message, ..error }
}

/// Fills a database.
pub fn into(
    plan: &Plan<'_>,
    address: &Address,
    stored: &dyn StoredDump,
    watch: &Watch,
    restored: &mut Restored,
) -> Result<()> {
    fill(plan, address, stored, watch, restored).map_err(|error| match is_for_want_of_a_schema(&error) {
        true if plan.options.search_path.is_empty() => {
            let message = format!(
                "{}; a function names this without its schema, and a restore looks in none, as pg_restore does: say \
                 --search-path SCHEMA, or give the function its own at the source (ALTER FUNCTION … SET search_path)",
                error.message
            );
            Error { message, ..error }
        }
        _ => error,
    })
}

/// Whether the server missed something that was named without a schema: all that a dump says itself has one.
fn is_for_want_of_a_schema(error: &Error) -> bool {
    let text = error.message.as_str();
    let named = |noun: &str| {
        let (name, _) = text.split_once(noun)?.1.split_once(" does not exist")?;
        Some(name.split('(').next().unwrap_or_default())
    };
    ["function ", "relation ", "type "].iter().any(|noun| named(noun).is_some_and(|name| !name.contains('.')))
        || text.contains("operator does not exist: ")
}

fn fill(
    plan: &Plan<'_>,
    address: &Address,
    stored: &dyn StoredDump,
    watch: &Watch,
    restored: &mut Restored,
) -> Result<()> {
    let phases = plan.options.phases;
    let program = PgRestore {
        tools: &plan.tools,
        address,
        options: &plan.options,
        without_tablespaces: plan.without_tablespaces,
        is_ahead: is_ahead(plan.tools.major, plan.facts.major()),
        watch,
    };
    if phases.pre_data {
        restored.step("pre-data", watch, |_| pre_data(plan, &program, stored))?;
    }
    let indexes = plan.post_data.as_ref().filter(|_| phases.data && phases.post_data);
    let indexes = indexes.map(|archive| Indexes::of(archive, plan.chosen_tables()));
    if phases.data {
        let meanwhile = indexes.as_ref().map(|indexes| (indexes, program));
        restored.step("data", watch, |restored| data(plan, address, stored, watch, meanwhile, restored))?;
        restored.step("sequences", watch, |restored| {
            restored.sequences = sequences(plan, address, watch)?;
            Ok(())
        })?;
        if !plan.options.is_partial()
            && plan.options.rows_of.is_none()
            && let Some(stream) = plan.manifest.streams_of(StreamRole::LargeObjects).next()
        {
            restored.step("large objects", watch, |_| {
                let reader = stored.open(&stream.path).map_err(|error| unreadable(plan, &stream.path, &error))?;
                program.fed(None, From::Stream(reader), false)
            })?;
        }
    }
    if phases.post_data {
        let rest = indexes.as_ref().and_then(Indexes::rest);
        restored.step("post-data", watch, |_| post_data(plan, &program, rest.as_ref(), stored))?;
    }
    if plan.options.analyze && phases.data {
        restored.step("analyze", watch, |restored| {
            restored.notes.extend(analyze(plan, address, watch)?);
            Ok(())
        })?;
    }
    Ok(())
}

fn unreadable(plan: &Plan<'_>, stream: &str, error: &std::io::Error) -> Error {
    plan.error(Kind::of_io(error), format!("stream {stream} of the snapshot cannot be read: {error}"))
}

/// An archive of the dump: the stream itself, unless something was left out of it.
fn source<'a>(
    plan: &'a Plan<'_>,
    role: StreamRole,
    archive: Option<&'a Archive>,
    stored: &'a dyn StoredDump,
) -> Result<Option<From<'a>>> {
    if plan.filtered {
        return Ok(archive.map(From::Contents));
    }
    let Some(stream) = plan.manifest.streams_of(role).next() else { return Ok(None) };
    let reader = stored.open(&stream.path).map_err(|error| unreadable(plan, &stream.path, &error))?;
    Ok(Some(From::Stream(reader)))
}

fn pre_data(plan: &Plan<'_>, program: &PgRestore<'_>, stored: &dyn StoredDump) -> Result<()> {
    let Some(from) = source(plan, StreamRole::PreData, plan.pre_data.as_ref(), stored)? else { return Ok(()) };
    let count = plan.pre_data.as_ref().map_or(0, |archive| archive.entries.len());
    let in_use = plan.options.destination == Destination::Existing;
    program.fed(Some("pre-data"), from, in_use && count <= IN_ONE_TRANSACTION)
}

/// Makes what comes after the rows: all of it, or the `rest` that was not made beside them.
fn post_data(plan: &Plan<'_>, program: &PgRestore<'_>, rest: Option<&Archive>, stored: &dyn StoredDump) -> Result<()> {
    if plan.options.jobs > 1
        && let Some((first, last)) = rest.or(plan.post_data.as_ref()).and_then(circles::split)
    {
        with_jobs(plan, program, From::Contents(&first), plan.options.jobs)?;
        return with_jobs(plan, program, From::Contents(&last), 1);
    }
    let from = match rest {
        Some(rest) => Some(From::Contents(rest)),
        None => source(plan, StreamRole::PostData, plan.post_data.as_ref(), stored)?,
    };
    from.map_or(Ok(()), |from| with_jobs(plan, program, from, plan.options.jobs))
}

/// Several sessions need to jump about in the archive.
fn with_jobs(plan: &Plan<'_>, program: &PgRestore<'_>, from: From<'_>, jobs: usize) -> Result<()> {
    let file = file_in(&plan.options.temp_dir, "post-data.dump");
    let written = from.write_file(&file);
    let done = match written {
        Ok(()) => program.file(Some("post-data"), &file, jobs),
        Err(error) => {
            Err(plan.error(Kind::of_io(&error), format!("cannot put the archive into {}: {error}", file.display())))
        }
    };
    // It lies in a folder that is removed as a whole anyway.
    let _ = std::fs::remove_file(&file);
    done
}

fn data(
    plan: &Plan<'_>,
    address: &Address,
    stored: &dyn StoredDump,
    watch: &Watch,
    meanwhile: Option<(&Indexes<'_>, PgRestore<'_>)>,
    restored: &mut Restored,
) -> Result<()> {
    let quiet_triggers = !plan.options.phases.pre_data && may_silence(plan, address, watch, restored)?;
    let made: HashSet<(&[u8], &[u8])> = match &plan.pre_data {
        Some(archive) if plan.options.phases.pre_data => {
            let tables = archive.entries.iter().filter(|entry| entry.is("TABLE"));
            tables.map(|entry| (entry.schema.as_deref().unwrap_or_default(), entry.tag.as_slice())).collect()
        }
        _ => HashSet::new(),
    };
    let tables: Vec<_> = plan.chosen_tables().collect();
    let names = tables.iter().map(|table| (table.schema.as_str(), table.name.as_str()));
    let fresh = names.filter(|(schema, name)| made.contains(&(schema.as_bytes(), name.as_bytes()))).collect();
    let routes = Routes::read(&mut session(address, plan.facts.version_number, watch)?, plan.facts.version_number)?;
    let loading = Loading {
        address,
        version_number: plan.facts.version_number,
        manifest: &plan.manifest,
        tables,
        fresh,
        routes: &routes,
        quiet_triggers,
        jobs: plan.options.jobs,
        options: &plan.options,
        meanwhile,
    };
    let (outcome, loaded) = loading.load(stored, watch);
    (restored.tables, restored.rows, restored.bytes) = (loaded.tables, loaded.rows, loaded.bytes);
    outcome
}

/// Whether triggers and foreign keys that are there already can be kept from seeing the rows.
fn may_silence(plan: &Plan<'_>, address: &Address, watch: &Watch, restored: &mut Restored) -> Result<bool> {
    let mut connection = session(address, plan.facts.version_number, watch)?;
    if connection.value("SELECT 1 FROM pg_catalog.pg_trigger LIMIT 1")?.is_none() {
        return Ok(false);
    }
    match connection.execute("SET session_replication_role = replica") {
        Ok(_) => {
            let note = "triggers and foreign keys did not see the rows, which come from one consistent moment";
            restored.notes.push(note.to_owned());
            Ok(true)
        }
        Err(error) if error.kind() == Kind::Denied => {
            let note = "triggers and foreign keys see the rows: only a superuser may keep them still";
            restored.notes.push(note.to_owned());
            Ok(false)
        }
        Err(error) => Err(error),
    }
}

fn sequences(plan: &Plan<'_>, address: &Address, watch: &Watch) -> Result<u64> {
    if plan.sequences.is_empty() {
        return Ok(0);
    }
    let mut connection = session(address, plan.facts.version_number, watch)?;
    for some in plan.sequences.chunks(SEQUENCES_AT_ONCE) {
        let sql: Vec<String> = some.iter().map(set_sequence).collect();
        connection.query(&sql.join("; "))?;
    }
    Ok(plan.sequences.len() as u64)
}

/// The statement that puts a sequence where it stood.
pub fn set_sequence(sequence: &Sequence) -> String {
    let name = literal(&qualified(&sequence.schema, &sequence.name));
    format!("SELECT pg_catalog.setval({name}, {}, {})", sequence.last_value, sequence.is_called)
}

/// Gathers statistics. What fails is a note: everything is there all the same. Of a foreign table only its own server
/// could, which a restore has no business with.
fn analyze(plan: &Plan<'_>, address: &Address, watch: &Watch) -> Result<Vec<String>> {
    let wanted = plan.manifest.tables.iter().filter(|table| plan.options.wants(&table.schema, &table.name));
    let mut wanted: Vec<&Table> = wanted.filter(|table| table.note != FOREIGN).collect();
    // The largest first, so that nobody waits for it in the end.
    wanted.sort_by_key(|table| std::cmp::Reverse(table.bytes));
    let queue: Mutex<VecDeque<String>> =
        Mutex::new(wanted.iter().map(|table| qualified(&table.schema, &table.name)).collect());
    let notes: Mutex<Vec<String>> = Mutex::default();
    let work = || -> Result<()> {
        let mut connection: Option<Connection> = None;
        loop {
            let name = queue.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
            let Some(name) = name else { return Ok(()) };
            let connection = match &mut connection {
                Some(connection) => connection,
                none => none.insert(session_looking(address, plan.facts.version_number, &plan.options, watch)?),
            };
            if let Err(error) = connection.execute(&format!("ANALYZE {name}")) {
                if matches!(error.kind(), Kind::Interrupted | Kind::Unavailable) {
                    return Err(error);
                }
                notes.lock().unwrap_or_else(PoisonError::into_inner).push(format!("no statistics of {name}: {error}"));
            }
        }
    };
    thread::scope(|scope| {
        let workers: Vec<_> = (0..plan.options.jobs).map(|_| scope.spawn(work)).collect();
        let ended = workers.into_iter().map(|worker| {
            worker
                .join()
                .unwrap_or_else(|_| Err(plan.error(Kind::Internal, "a thread that gathers statistics panicked")))
        });
        ended.fold(Ok(()), Result::and)
    })?;
    Ok(notes.into_inner().unwrap_or_else(PoisonError::into_inner))
}

/// Gives a new database, before anything comes into it, those of its settings that decide what a text means or a value
/// looks like: conditions of tables may depend on them, and what materialized views hold. Answers with what the server does
/// not take.
pub fn shape(plan: &Plan<'_>, address: &Address, watch: &Watch) -> Result<Vec<String>> {
    let mut connection = session(address, plan.facts.version_number, watch)?;
    let wanted = of_database(plan, address, false).into_iter().filter(|statement| is_of_values(statement.as_bytes()));
    take(plan, &mut connection, wanted.collect())
}

/// Whether a statement is such a setting.
fn is_of_values(statement: &[u8]) -> bool {
    let words = words(statement);
    let is = |at: usize, keyword: &str| words.get(at).is_some_and(|word| word.is(keyword));
    let setting = words.get(4).and_then(Word::name).map(String::from_utf8_lossy).unwrap_or_default();
    let is_value = OF_VALUES.iter().any(|name| setting.eq_ignore_ascii_case(name)) || setting.contains('.');
    is(0, "ALTER") && is(1, "DATABASE") && is(3, "SET") && is_value
}

/// Gives a new database what belongs to the database itself: settings, grants, comment, owner. What the server does not
/// take is a note: the content is there.
fn settle(plan: &Plan<'_>, address: &Address, watch: &Watch, restored: &mut Restored) -> Result<()> {
    if plan.options.is_partial() || !plan.options.phases.pre_data {
        return Ok(());
    }
    let mut connection = session(address, plan.facts.version_number, watch)?;
    let mut sql = of_database(plan, address, plan.options.grants);
    if plan.options.owners
        && let Some(owner) = plan.manifest.properties.get("owner")
    {
        sql.push(format!("ALTER DATABASE {} OWNER TO {}", identifier(&address.database), identifier(owner)));
    }
    restored.notes.extend(take(plan, &mut connection, sql)?);
    Ok(())
}

/// What the dump says of the database itself, as statements for the one at `address`.
fn of_database(plan: &Plan<'_>, address: &Address, grants: bool) -> Vec<String> {
    let mut wanted = Vec::new();
    for entry in plan.pre_data.iter().flat_map(|archive| &archive.entries) {
        let is_grant = entry.is("ACL");
        if is_of_database(&entry.tag, &entry.kind) && !entry.is("DATABASE") && (grants || !is_grant) {
            wanted.extend(statements(&entry.definition));
        }
    }
    wanted
        .into_iter()
        .filter_map(|statement| with_database(statement, &plan.manifest.database, &address.database))
        .map(|statement| String::from_utf8_lossy(&statement).into_owned())
        .collect()
}

/// Runs statements about the database at the connection's end. Answers with those that the server does not take.
fn take(plan: &Plan<'_>, connection: &mut Connection, sql: Vec<String>) -> Result<Vec<String>> {
    let own = connection.address().database.clone();
    let mut left_out = Vec::new();
    for statement in sql {
        if let Err(error) = connection.execute(&statement) {
            if matches!(error.kind(), Kind::Interrupted | Kind::Unavailable) {
                return Err(error);
            }
            let statement = statement.replace(&own, &plan.address.database);
            left_out.push(format!("left out: {statement}: {}", error.message));
        }
    }
    Ok(left_out)
}
