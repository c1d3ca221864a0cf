//! A restore, step by step.
//!
//! | step | how | what a failure leaves |
//! | --- | --- | --- |
//! | globals | users and roles that the server lacks, and their grants but those on objects, one by one | those made so far |
//! | database | one that is replaced is dropped, the new one is made, with a mark that it is not whole | nothing, or what is marked |
//! | pre-data | tables and sequences | of a new database nothing; of one that was there what was made so far |
//! | data | a transaction for each table, counted; then counters | the same, and tables that are whole |
//! | post-data | triggers, events, routines, then views | the same |
//! | analyze | statistics | everything; the planner knows less |
//! | end | the mark is dropped | everything |
//! | grants | what those users were granted on tables, columns and routines | everything, and those granted so far |

use super::plan::Plan;
use super::{COUNTERS, Destination, users};
use crate::base::{Event, Kind, Stop};
use crate::db::mysql::facts::is_elsewhere;
use crate::db::mysql::feed::{Ending, feed};
use crate::db::mysql::script;
use crate::db::mysql::{Family, Session, identifier, literal, mark};
use crate::db::{Error, Result, Watch};
use crate::format::dump::{StreamRole, Table};
use crate::target::dump::{Restored, StoredDump};
use std::collections::{BTreeMap, VecDeque};
use std::io::Read;
use std::sync::{Mutex, PoisonError};
use std::thread;

/// The largest text of definitions that is read into memory, in bytes: what a dump may hold at most.
const MAX_TEXT_BYTES: u64 = 64 << 20;
/// How many tables one statement gathers statistics of.
const ANALYZED_AT_ONCE: usize = 100;

/// Does what the plan says.
pub(super) fn restore(plan: &Plan<'_>, stored: &dyn StoredDump, watch: &Watch) -> Result<Restored> {
    let mut restored = begin(plan);
    let mut waiting = users::Waiting::default();
    if plan.options.globals {
        restored.step("globals", watch, |restored| {
            let (on_objects, notes) = users::restore(plan, stored)?;
            waiting = on_objects;
            restored.notes.extend(notes);
            Ok(())
        })?;
    }
    database(plan, stored, watch, &mut restored)?;
    if !waiting.is_empty() {
        restored.step("grants", watch, |restored| {
            restored.notes.extend(waiting.grant(plan)?);
            Ok(())
        })?;
    }
    Ok(restored)
}

/// Makes the database where it is to be made, and fills it.
fn database(plan: &Plan<'_>, stored: &dyn StoredDump, watch: &Watch, restored: &mut Restored) -> Result<()> {
    if plan.options.destination == Destination::Existing {
        return into_existing(plan, stored, watch, restored);
    }
    let replaced = plan.options.destination == Destination::Replace && plan.is_there;
    if replaced {
        let dropped = plan.server.query(&format!("DROP DATABASE {}", identifier(&plan.database)));
        dropped.map_err(|error| error.database(&plan.database))?;
    }
    create(plan, &[mark::set(&plan.database)])?;
    if let Err(error) = into(plan, stored, watch, restored) {
        return Err(give_up(plan, error, replaced));
    }
    clear_mark(plan)?;
    (restored.created, restored.replaced) = (true, replaced);
    Ok(())
}

/// Fills a database that is there; marked meanwhile, if all of it is to come from the dump.
fn into_existing(plan: &Plan<'_>, stored: &dyn StoredDump, watch: &Watch, restored: &mut Restored) -> Result<()> {
    if plan.makes_all() {
        plan.server.query(&mark::set(&plan.database)).map_err(|error| error.database(&plan.database))?;
    }
    into(plan, stored, watch, restored).map_err(|error| left_as(plan, error, restored))?;
    if plan.makes_all() { clear_mark(plan) } else { Ok(()) }
}

/// Says that the database is whole.
fn clear_mark(plan: &Plan<'_>) -> Result<()> {
    let statement = mark::clear(&plan.database);
    plan.server.query(&statement).map(drop).map_err(|error| {
        let message = format!("{}; all is restored, and only its mark is left: {statement}", error.message);
        Error { message, ..error }.database(&plan.database)
    })
}

/// What a restore begins with.
pub(super) fn begin(plan: &Plan<'_>) -> Restored {
    Restored {
        server: plan.server_label(),
        database: plan.database.clone(),
        notes: plan.notes.clone(),
        ..Restored::default()
    }
}

/// Makes the database.
pub(super) fn make(plan: &Plan<'_>) -> Result<()> {
    create(plan, &[])
}

/// Makes the database and runs what follows, in one go: who is killed meanwhile does not come between.
fn create(plan: &Plan<'_>, and: &[String]) -> Result<()> {
    let name = identifier(&plan.database);
    let property = |name| plan.manifest.properties.get(name).map(String::as_str).filter(|value| is_word(value));
    let charset = property("charset").map(|charset| format!(" CHARACTER SET {charset}")).unwrap_or_default();
    let collation = property("collation").map(|collation| format!(" COLLATE {collation}")).unwrap_or_default();
    let and: String = and.iter().map(|statement| format!("; {statement}")).collect();
    let made = plan.server.query(&format!("CREATE DATABASE {name}{charset}{collation}{and}"));
    made.map(drop).map_err(|error| {
        let message = format!("cannot make a database like the dump's: {}", error.message);
        Error { message, ..error }.database(&plan.database)
    })
}

fn is_word(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
}

/// Drops a database, even when somebody has asked to stop.
pub(super) fn remove(server: &Session, database: &str) -> Result<()> {
    let session = Session::open(&server.address().with_database(""), Kind::Target, &Stop::new())?;
    session.query(&format!("DROP DATABASE IF EXISTS {}", identifier(database))).map(drop)
}

fn give_up(plan: &Plan<'_>, error: Error, replaced: bool) -> Error {
    let mut state = match remove(&plan.server, &plan.database) {
        Ok(()) => "the unfinished database was dropped again".to_owned(),
        Err(why) => format!("the unfinished database could not be dropped ({}): drop it by hand", why.message),
    };
    if replaced {
        state.push_str("; the one that it was to replace had been dropped before");
    }
    let message = format!("{}; {state}", error.message);
    Error { message, ..error }
}

/// Says what a database that was there looks like after a failure.
fn left_as(plan: &Plan<'_>, error: Error, restored: &Restored) -> Error {
    let all = plan.tables.len();
    let state = format!(
        "the database is incomplete: {} of {all} tables hold their rows; empty it before the next attempt",
        restored.tables
    );
    let message = format!("{}; {state}", error.message);
    Error { message, ..error }
}

/// Fills the database.
pub(super) fn into(plan: &Plan<'_>, stored: &dyn StoredDump, watch: &Watch, restored: &mut Restored) -> Result<()> {
    let session = plan.session()?;
    let options = plan.options;
    if options.pre_data {
        restored.step("pre-data", watch, |_| {
            each_text(plan, stored, StreamRole::PreData, |path, text| load(&session, path, &tables_only(plan, text)))
        })?;
    }
    if options.data {
        restored.step("data", watch, |restored| {
            rows(plan, stored, watch, restored)?;
            let anew = begun_anew(plan, &session)?;
            if !anew.is_empty() {
                let what = "system-versioned tables whose rows say when they were restored, not when they were written";
                restored.notes.push(format!("{what}: {}", anew.join(", ")));
            }
            counters(plan, &session, stored, restored)
        })?;
    }
    if options.post_data {
        restored.step("post-data", watch, |restored| {
            each_text(plan, stored, StreamRole::PostData, |path, text| {
                if path == COUNTERS {
                    return Ok(());
                }
                let text = behind_rows(plan, path, text);
                restored.notes.extend(still_about_another(plan, &text));
                load(&session, path, &text).map_err(|error| about_owners(plan, error))
            })
        })?;
    }
    if options.analyze && options.data {
        restored.step("analyze", watch, |restored| {
            restored.notes.extend(analyze(plan, &session)?);
            Ok(())
        })?;
    }
    Ok(())
}

fn each_text(
    plan: &Plan<'_>,
    stored: &dyn StoredDump,
    role: StreamRole,
    mut work: impl FnMut(&str, &str) -> Result<()>,
) -> Result<()> {
    for stream in plan.manifest.streams_of(role) {
        work(&stream.path, &text(plan, stored, &stream.path)?)?;
    }
    Ok(())
}

/// A stream of definitions, whole.
pub(super) fn text(plan: &Plan<'_>, stored: &dyn StoredDump, path: &str) -> Result<String> {
    let failed = |kind, why: String| plan.error(kind, format!("the stream cannot be read: {why}")).object(path);
    let mut bytes = Vec::new();
    let opened = stored.open(path).map_err(|error| failed(Kind::of_io(&error), error.to_string()))?;
    let read = opened.take(MAX_TEXT_BYTES + 1).read_to_end(&mut bytes);
    read.map_err(|error| failed(Kind::of_io(&error), error.to_string()))?;
    if bytes.len() as u64 > MAX_TEXT_BYTES {
        return Err(failed(Kind::Unsupported, format!("it has more than {} MiB", MAX_TEXT_BYTES >> 20)));
    }
    let is_ours = path == COUNTERS || plan.manifest.streams_of(StreamRole::Globals).any(|stream| stream.path == path);
    // What no dump program wrote has no such line.
    if !is_ours && !script::is_complete(&bytes) {
        return Err(failed(Kind::Damaged, "it ends without the last line of a dump: it was cut off".to_owned()));
    }
    String::from_utf8(bytes).map_err(|_| failed(Kind::Damaged, "it is not UTF-8".to_owned()))
}

fn load(session: &Session, path: &str, text: &str) -> Result<()> {
    let mut bytes = text.as_bytes();
    feed(session, &mut bytes, Ending::Any).map(drop).map_err(|error| error.object(path))
}

/// Definitions of the tables that are meant. Nothing is dropped for them: what is there was looked at before.
pub(super) fn tables_only(plan: &Plan<'_>, text: &str) -> String {
    let wanted = |statement: &script::Statement<'_>| {
        let first = script::tokens(statement.text).next();
        if first.is_some_and(|first| first.is("DROP")) {
            return false;
        }
        let object = script::object(statement.text);
        match object.as_deref().and_then(|object| object.split_once(' ')) {
            Some(("table", name)) => plan.options.wants(name),
            Some(("sequence", _)) => !plan.options.is_partial(),
            _ => true,
        }
    };
    in_its_place(plan, script::retain(script::without_sandbox_line(text), wanted))
}

/// A text that names the database by the name that it has now.
fn in_its_place(plan: &Plan<'_>, text: String) -> String {
    match plan.database == plan.manifest.database {
        true => text,
        false => script::moved(&text, &plan.manifest.database, &plan.database),
    }
}

/// What comes behind the rows, as far as it is meant.
fn behind_rows(plan: &Plan<'_>, path: &str, text: &str) -> String {
    let text = script::without_sandbox_line(text);
    let wanted = |statement: &script::Statement<'_>| {
        let object = script::object(statement.text);
        let kind = object.as_deref().and_then(|object| object.split(' ').next());
        match kind {
            Some("trigger") => script::table_of_trigger(statement.text).is_none_or(|table| plan.options.wants(&table)),
            Some("event") => plan.options.events && !plan.options.is_partial(),
            Some(_) => !plan.options.is_partial(),
            None => !plan.options.is_partial() || path != "views.sql",
        }
    };
    let text = in_its_place(plan, script::retain(text, wanted));
    match plan.options.owners {
        true => text,
        false => script::without_definers(&text),
    }
}

/// Says what names the database that was dumped although it lies in another one now.
fn still_about_another(plan: &Plan<'_>, text: &str) -> Option<String> {
    let before = &plan.manifest.database;
    let named = match *before == plan.database {
        true => Vec::new(),
        false => script::naming(text, before),
    };
    (!named.is_empty()).then(|| format!("still about database {before}, which they name: {}", named.join(", ")))
}

fn about_owners(plan: &Plan<'_>, error: Error) -> Error {
    if !plan.options.owners || !error.is("1227") {
        return error;
    }
    let message =
        format!("{}; only few may make what belongs to others: --no-owner gives it to whoever restores", error.message);
    Error { message, ..error }
}

fn counters(plan: &Plan<'_>, session: &Session, stored: &dyn StoredDump, restored: &mut Restored) -> Result<()> {
    if !plan.manifest.streams.iter().any(|stream| stream.path == COUNTERS) {
        return Ok(());
    }
    let text = text(plan, stored, COUNTERS)?;
    let wanted = |statement: &script::Statement<'_>| match script::sequences(statement.text).is_empty() {
        // `ALTER TABLE name AUTO_INCREMENT=…`
        true => {
            let table = script::tokens(statement.text).nth(2);
            let name = table.and_then(|table| crate::db::mysql::quote::unquoted(table.text).map(|(name, _)| name));
            name.is_none_or(|name| plan.options.wants(&name))
        }
        false => !plan.options.is_partial(),
    };
    let text = script::retain(&text, wanted);
    restored.sequences = script::sequences(&text).len() as u64;
    load(session, COUNTERS, &text)
}

/// Rows of all tables that are meant, the largest first, several at once.
fn rows(plan: &Plan<'_>, stored: &dyn StoredDump, watch: &Watch, restored: &mut Restored) -> Result<()> {
    let mut tables: Vec<&Table> = plan.tables.iter().copied().filter(|table| table.stream.is_some()).collect();
    tables.sort_by_key(|table| std::cmp::Reverse(table.bytes));
    let queue = Mutex::new(VecDeque::from(tables));
    let done: Mutex<Vec<&Table>> = Mutex::default();
    let work = || -> Result<()> {
        let session = plan.session()?;
        loop {
            let next = queue.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
            let Some(table) = next else { return Ok(()) };
            let loaded = rows_of(plan, &session, stored, table);
            if loaded.is_err() {
                // Nobody begins another one.
                queue.lock().unwrap_or_else(PoisonError::into_inner).clear();
            }
            loaded?;
            watch.monitor.event(Event::Done { items: 1, bytes: table.bytes });
            done.lock().unwrap_or_else(PoisonError::into_inner).push(table);
        }
    };
    let outcome = thread::scope(|scope| {
        let workers: Vec<_> = (0..plan.options.jobs.max(1)).map(|_| scope.spawn(work)).collect();
        let ended = workers.into_iter().map(|worker| {
            worker.join().unwrap_or_else(|_| Err(plan.error(Kind::Internal, "a thread that writes rows panicked")))
        });
        ended.fold(Ok(()), Result::and)
    });
    for table in done.into_inner().unwrap_or_else(PoisonError::into_inner) {
        restored.tables += 1;
        restored.rows += table.rows;
        restored.bytes += table.bytes;
    }
    outcome
}

/// Rows of one table, and whether they are as many as were promised.
fn rows_of(plan: &Plan<'_>, session: &Session, stored: &dyn StoredDump, table: &Table) -> Result<()> {
    let name = |error: Error| error.object(format!("table {}", table.name));
    let path = table.stream.as_deref().unwrap_or_default();
    let stream = stored.open(path).map_err(|error| {
        name(session.error(Kind::of_io(&error), format!("the stream {path} cannot be read: {error}")))
    })?;
    // On the stream's own first line: a failure names the line.
    let before = if keeps_times(plan) { "SET SESSION system_versioning_insert_history=1; " } else { "" };
    feed(session, &mut before.as_bytes().chain(stream), Ending::Trailer).map_err(name)?;
    // What a table of these counts are rows of others. The note of a table names its engine.
    if table.rows == 0 && is_elsewhere(&table.note) {
        return Ok(());
    }
    let counted = count(session, std::slice::from_ref(&table.name)).map_err(name)?;
    match counted.first() {
        Some(rows) if *rows == table.rows => Ok(()),
        Some(rows) => {
            let message = format!("the dump promises {} rows, the server counts {rows}", table.rows);
            Err(name(session.error(Kind::Damaged, message)))
        }
        None => Err(name(session.error(Kind::Target, "the server did not count the rows"))),
    }
}

/// Whether the server takes what rows of system-versioned tables say of when they were written: MariaDB from 10.11 on. From
/// 11.5 on the end of time is another one, and a row that ends with the old one would be history.
fn keeps_times(plan: &Plan<'_>) -> bool {
    let (from, to) = (&plan.manifest.server, &plan.facts);
    let is_late = |number: u32| number >= 110_500;
    to.family() == Family::MariaDb
        && from.product == to.product
        && to.number >= 101_100
        && is_late(from.version_number) == is_late(to.number)
}

/// The system-versioned tables with columns for when a row was written in which that is not what it was. Transactions, which
/// stand there instead of times, have other numbers on each server.
pub(super) fn begun_anew(plan: &Plan<'_>, session: &Session) -> Result<Vec<String>> {
    if plan.facts.family() != Family::MariaDb || plan.facts.number < 100_300 {
        return Ok(Vec::new());
    }
    let database = literal(&plan.database);
    let but_times = if keeps_times(plan) { " AND data_type <> 'timestamp'" } else { "" };
    let names = session.column(&format!(
        "SELECT DISTINCT table_name FROM information_schema.columns WHERE table_schema = {database} \
         AND generation_expression IN ('ROW START', 'ROW END'){but_times} ORDER BY 1"
    ))?;
    Ok(names.into_iter().filter(|name| plan.tables.iter().any(|table| table.name == *name)).collect())
}

/// How many rows tables have, exactly.
pub(super) fn count(session: &Session, tables: &[String]) -> Result<Vec<u64>> {
    let question: String =
        tables.iter().map(|table| format!("SELECT COUNT(*) FROM {};\n", identifier(table))).collect();
    Ok(session.column(&question)?.iter().filter_map(|number| number.parse().ok()).collect())
}

/// Gathers statistics. What fails is a note: everything is there all the same.
fn analyze(plan: &Plan<'_>, session: &Session) -> Result<Vec<String>> {
    let mut notes = BTreeMap::new();
    for some in plan.tables.chunks(ANALYZED_AT_ONCE) {
        let names: Vec<String> = some.iter().map(|table| identifier(&table.name)).collect();
        // Table, operation, kind of message, message.
        for row in session.query(&format!("ANALYZE NO_WRITE_TO_BINLOG TABLE {}", names.join(", ")))? {
            if let [table, _, kind, message] = &row[..]
                && kind.eq_ignore_ascii_case("error")
            {
                notes.insert(table.clone(), format!("no statistics of {table}: {message}"));
            }
        }
    }
    Ok(notes.into_values().collect())
}
