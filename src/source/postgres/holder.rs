//! The session that holds the moment: locks on all tables, and a snapshot that others join.
//!
//! Locks come before the snapshot, and all of them before anything is read: a table that somebody waits to alter
//! would keep every later reader waiting behind him, while he waits for us.

use super::Options;
use super::plan::{self, Plan, Relation};
use crate::base::Kind;
use crate::db::postgres::facts::ServerFacts;
use crate::db::postgres::{Connection, ROWS_MONEY, ROWS_ZONE, literal};
use crate::db::{Error, Result};
use std::collections::HashSet;
use std::time::Duration;

/// Tables that one statement locks. The statement's length is what bounds it.
const LOCKS_AT_ONCE: usize = 200;
/// How often the list of tables may turn out to be old before it is given up: somebody drops tables all the time.
const ATTEMPTS: usize = 5;
/// How much of a blocker's statement is shown, in letters.
const SHOWN_LETTERS: usize = 100;
/// How long a worker waits for a lock at most. The holder has it already, so whoever is in between waits for the
/// holder, and waiting longer does not help.
const WORKERS_LOCK_TIMEOUT: Duration = Duration::from_secs(10);

/// The moment that was taken.
pub(super) struct Moment {
    /// The name under which others join the snapshot.
    pub(super) snapshot: String,
    /// The place in the server's log; none where it may not be asked.
    pub(super) position: Option<String>,
    pub(super) plan: Plan,
    pub(super) has_large_objects: bool,
}

/// How long workers and programs wait for a lock.
pub(super) fn workers_lock_timeout(options: &Options) -> Duration {
    options.lock_timeout.min(WORKERS_LOCK_TIMEOUT)
}

/// Settings of every session that reads: no timeouts, all rows or an error, and values that say all they hold.
pub(super) fn settle(connection: &mut Connection, lock_timeout: Duration) -> Result<()> {
    let lock_timeout = lock_timeout.as_millis().max(1).min(i32::MAX as u128).to_string();
    let settings = [
        ("statement_timeout", "0"),
        ("lock_timeout", &lock_timeout),
        ("idle_in_transaction_session_timeout", "0"),
        ("idle_session_timeout", "0"),
        ("transaction_timeout", "0"),
        ("row_security", "off"),
        ("synchronize_seqscans", "off"),
        ("extra_float_digits", "3"),
        ("DateStyle", "ISO"),
        ("IntervalStyle", "postgres"),
        ("TimeZone", ROWS_ZONE),
        ("lc_monetary", ROWS_MONEY),
        ("quote_all_identifiers", "off"),
        ("bytea_output", "hex"),
        ("xmloption", "content"),
        // Conditions of extensions are expressions that somebody wrote: no view may run in them (CVE-2024-7348).
        ("restrict_nonsystem_relation_kind", "view, foreign-table"),
    ];
    let values = settings.map(|(name, value)| format!("({}, {})", literal(name), literal(value))).join(", ");
    // What a server of another version does not know is left out by the join.
    connection.query(&format!(
        "SELECT pg_catalog.set_config(s.name, v.value, false) FROM (VALUES {values}) AS v(name, value) \
         JOIN pg_catalog.pg_settings s ON pg_catalog.lower(s.name) = pg_catalog.lower(v.name)"
    ))?;
    Ok(())
}

/// Takes the moment: locks, snapshot, plan.
pub(super) fn hold(holder: &mut Connection, options: &Options, facts: &ServerFacts) -> Result<Moment> {
    for _ in 0..ATTEMPTS {
        let tables = plan::chosen(holder, options, facts.version_number)?;
        holder.execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")?;
        match lock(holder, &tables) {
            Ok(()) => return look_around(holder, options, facts, tables),
            // Dropped or renamed since it was listed.
            Err(error) if error.is("42P01") || error.is("3F000") => {
                holder.execute("ROLLBACK")?;
            }
            Err(error) if error.is("42501") => {
                // The plan names all that the role may not read, not only the first.
                holder.execute("ROLLBACK")?;
                plan::plan(holder, options, facts.version_number, facts.standby)?;
                return Err(error);
            }
            Err(error) => return Err(error),
        }
    }
    let message = format!("tables are dropped faster than they can be locked ({ATTEMPTS} attempts); try again later");
    Err(holder.strange(message).of_kind(Kind::Unavailable))
}

/// What the snapshot shows. It is taken by the first question here, and exported.
fn look_around(
    holder: &mut Connection,
    options: &Options,
    facts: &ServerFacts,
    locked: Vec<Relation>,
) -> Result<Moment> {
    let snapshot = holder.value("SELECT pg_catalog.pg_export_snapshot()")?;
    let snapshot = snapshot.ok_or_else(|| holder.strange("the server exported no snapshot"))?;
    let position = position(holder, facts)?;
    let plan = plan::plan(holder, options, facts.version_number, facts.standby)?;
    let locked: HashSet<&String> = locked.iter().map(|relation| &relation.oid).collect();
    let relations = plan.tables.iter().map(|table| &table.relation);
    // Made between the list and the snapshot.
    let fresh: Vec<Relation> = relations.filter(|relation| !locked.contains(&relation.oid)).cloned().collect();
    lock(holder, &fresh)?;
    let any = "SELECT EXISTS (SELECT FROM pg_catalog.pg_largeobject_metadata)";
    let has_large_objects = holder.value(any)?.as_deref() == Some("t");
    Ok(Moment { snapshot, position, plan, has_large_objects })
}

fn position(holder: &mut Connection, facts: &ServerFacts) -> Result<Option<String>> {
    let function = match (facts.standby, facts.version_number >= 100_000) {
        (false, true) => "pg_current_wal_lsn",
        (true, true) => "pg_last_wal_replay_lsn",
        (false, false) => "pg_current_xlog_location",
        (true, false) => "pg_last_xlog_replay_location",
    };
    holder.value(&format!(
        "SELECT CASE WHEN pg_catalog.has_function_privilege('pg_catalog.{function}()', 'EXECUTE') \
         THEN pg_catalog.{function}() END"
    ))
}

/// Locks tables against being altered or dropped; nobody else is kept from anything.
fn lock(holder: &mut Connection, relations: &[Relation]) -> Result<()> {
    let tables: Vec<&Relation> = relations.iter().filter(|relation| relation.is_locked()).collect();
    for batch in tables.chunks(LOCKS_AT_ONCE) {
        let names = batch.iter().map(|table| format!("ONLY {}", table.sql())).collect::<Vec<_>>().join(", ");
        if let Err(error) = holder.execute(&format!("LOCK TABLE {names} IN ACCESS SHARE MODE")) {
            return Err(explained(holder, batch, tables.len(), error));
        }
    }
    Ok(())
}

/// Why locking failed, with who is in the way.
fn explained(holder: &mut Connection, batch: &[&Relation], tables: usize, error: Error) -> Error {
    if error.is("53200") {
        let message = format!("{} (there are {tables} tables to lock)", error.message);
        return Error { message, ..error };
    }
    if !error.is("55P03") || holder.execute("ROLLBACK").is_err() {
        return error;
    }
    in_the_way(holder, &batch.iter().map(|table| table.oid.as_str()).collect::<Vec<_>>(), error)
}

/// The failure to get a lock, with the table, who has or wants it for himself, and what to do about it. Of a statement the
/// texts are left out: they are somebody's, and perhaps a password.
pub(super) fn in_the_way(connection: &mut Connection, oids: &[&str], error: Error) -> Error {
    let sql = format!(
        "SELECT n.nspname || '.' || c.relname, l.pid, coalesce(a.usename, x.owner), \
           pg_catalog.to_char(pg_catalog.clock_timestamp() - coalesce(a.xact_start, x.prepared), 'HH24:MI:SS'), a.state, \
           pg_catalog.substr(pg_catalog.regexp_replace(pg_catalog.regexp_replace(a.query, '''[^'']*(''|$)', '''...''', \
             'g'), '\\s+', ' ', 'g'), 1, {SHOWN_LETTERS}), l.granted, x.gid \
         FROM pg_catalog.pg_locks l JOIN pg_catalog.pg_class c ON c.oid = l.relation \
         JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace \
         LEFT JOIN pg_catalog.pg_stat_activity a ON a.pid = l.pid \
         LEFT JOIN (pg_catalog.pg_locks t JOIN pg_catalog.pg_prepared_xacts x ON x.transaction = t.transactionid) \
           ON l.pid IS NULL AND t.pid IS NULL AND t.virtualtransaction = l.virtualtransaction \
         WHERE l.relation IN ({}) AND l.mode = 'AccessExclusiveLock' \
           AND l.database = (SELECT oid FROM pg_catalog.pg_database WHERE datname = pg_catalog.current_database()) \
         ORDER BY NOT l.granted, coalesce(a.xact_start, x.prepared) LIMIT 1",
        oids.join(", ")
    );
    let blocker = connection.query(&sql).ok().and_then(|rows| rows.into_iter().next());
    let Some(blocker) = blocker else { return error };
    let said = |at: usize| blocker.get(at).and_then(Option::as_deref).unwrap_or("?");
    let (process, user, since, state, query) = (said(1), said(2), said(3), said(4), said(5));
    let how = if said(6) == "t" { "locked by" } else { "waited for, in order to lock it, by" };
    let message = match blocker.get(7).and_then(Option::as_deref).map(literal) {
        Some(gid) => format!(
            "{how} the prepared transaction {gid} (user {user}, prepared {since} ago), which no session holds any more; \
             end it with COMMIT PREPARED {gid} or ROLLBACK PREPARED {gid}"
        ),
        None => format!(
            "{how} process {process} (user {user}, {state}, its transaction began {since} ago, last statement: {query}); \
             wait until it ends, or end it with SELECT pg_terminate_backend({process})"
        ),
    };
    Error { message, ..error }.object(format!("table {}", said(0)))
}
