//! A look at a PostgreSQL database: would a backup of it work, and what should somebody know before.

use super::address::Address;
use super::connection::Connection;
use super::facts::{self, DatabaseFacts, ServerFacts};
use super::quote::{identifier, literal};
use super::temporary;
use super::tools::Tools;
use crate::base::clock::Stopwatch;
use crate::db::probe::{Check, Probe, amount, is_here, some_of};
use crate::db::{Result, Surroundings, Watch};
use std::path::Path;

/// The oldest version that is read.
const OLDEST_VERSION: u32 = 90_600;
/// Sessions that a backup needs beside its workers: the holder and one for pg_dump.
const MORE_SESSIONS: u32 = 2;
/// Locks that a backup takes beside one for each table: catalogs and their indexes.
const MORE_LOCKS: u64 = 100;
/// Locks of others that are shown.
const MOST_BLOCKERS: usize = 3;
/// No question to the server takes longer: somebody is waiting for the answer.
const PATIENCE: &str = "SET statement_timeout = '30s'; SET lock_timeout = '5s'";

/// Looks at the database of `address`, from which `workers` sessions will read. Client programs are looked for in
/// `programs` if that is given.
pub fn probe(
    address: &Address,
    programs: Option<&Path>,
    workers: u32,
    surroundings: &Surroundings,
    watch: &Watch,
) -> Probe {
    let mut probe = Probe::of(address.label(), "postgres");
    let address = &match address.settled(watch) {
        Ok(address) => address,
        Err(error) => {
            probe.checks.push(Check::of_error("connection", &error));
            return probe;
        }
    };
    probe.label = address.label();
    let stopwatch = Stopwatch::start();
    let connected = Connection::connect(address, None, watch);
    let mut connection = match connected {
        Ok(connection) => connection,
        Err(error) => {
            probe.checks.push(Check::of_error("connection", &error));
            return probe;
        }
    };
    let latency = stopwatch.elapsed();
    probe.latency = Some(latency);
    probe.checks.push(Check::ok("connection", format!("logged in as {} in {} ms", address.user, latency.as_millis())));
    if let Err(error) = connection.execute(PATIENCE) {
        probe.checks.push(Check::of_error("connection", &error));
        return probe;
    }
    let server = match ServerFacts::read(&mut connection) {
        Ok(server) => server,
        Err(error) => {
            probe.checks.push(Check::of_error("server", &error));
            return probe;
        }
    };
    probe.server = format!("PostgreSQL {}", server.version);
    probe.checks.push(version(&server));
    probe.take("encryption", encryption(&mut connection, address));
    probe.checks.push(standby(&server));
    probe.take("pooler", pooler(address, watch));
    probe.take("tables", tables(&mut connection, &server));
    if let Some(check) = large_objects(&mut connection, &server).transpose() {
        probe.take("large objects", check);
    }
    probe.take("row security", row_security(&mut connection, &server));
    probe.take("roles", roles(&mut connection, &server));
    probe.checks.push(client_programs(&server, programs, surroundings, watch));
    let size = size(&mut connection, &server, &mut probe);
    probe.take("size", size);
    probe.take("locks", locks(&mut connection, &server));
    probe.take("sessions", sessions(&mut connection, &server, workers));
    probe.take("blockers", blockers(&mut connection));
    if let Some(check) = leftovers(&mut connection, address, watch).transpose() {
        probe.take("leftovers", check);
    }
    probe
}

/// What restores that were broken off have left; none if there is nothing.
fn leftovers(connection: &mut Connection, address: &Address, watch: &Watch) -> Result<Option<Check>> {
    let like = |prefix: &str| format!("pg_catalog.strpos(datname, {}) = 1", literal(prefix));
    let (unfinished, replaced) = (like(temporary::UNFINISHED), like(temporary::REPLACED));
    let sql = format!("SELECT 1 FROM pg_catalog.pg_database WHERE {unfinished} OR {replaced} LIMIT 1");
    if connection.value(&sql)?.is_none() {
        return Ok(None);
    }
    let told = temporary::broken_off(address, watch)?;
    let (first, more) = match told.split_first() {
        None => return Ok(None),
        Some((first, more)) => (first.split_once(": ").unwrap_or((first.as_str(), "drop it")), more.len()),
    };
    let more = if more > 0 { format!(", and {more} more such databases") } else { String::new() };
    Ok(Some(Check::warning("leftovers", format!("{}{more}", first.0), first.1)))
}

fn version(server: &ServerFacts) -> Check {
    let version = format!("PostgreSQL {}", server.version);
    match server.version_number < OLDEST_VERSION {
        false => Check::ok("server", version),
        true => Check::failed("server", format!("{version} is too old"), "9.6 is the oldest version that is read"),
    }
}

fn encryption(connection: &mut Connection, address: &Address) -> Result<Check> {
    let sql = "SELECT version FROM pg_catalog.pg_stat_ssl WHERE pid = pg_catalog.pg_backend_pid() AND ssl";
    Ok(match connection.value(sql)? {
        Some(protocol) => Check::ok("encryption", format!("encrypted with {protocol}")),
        None if is_here(&address.host) => Check::ok("encryption", "not encrypted, within this machine"),
        None => {
            let remedy = "turn ssl on at the server and add sslmode=verify-full to the URL";
            Check::warning("encryption", "rows and password travel without encryption", remedy)
        }
    })
}

fn standby(server: &ServerFacts) -> Check {
    match server.standby {
        false => Check::ok("standby", "a primary server"),
        true => Check::warning(
            "standby",
            "a standby: a long dump may be cancelled when the primary's changes arrive, and what arrived late is missing",
            "raise max_standby_streaming_delay there or set hot_standby_feedback = on",
        ),
    }
}

fn pooler(address: &Address, watch: &Watch) -> Result<Check> {
    Ok(match facts::is_pooled(address, watch)? {
        false => Check::ok("pooler", "a session is a process of the server: no pooler shares it by transaction"),
        true => Check::failed("pooler", facts::POOLED, facts::NO_POOLER),
    })
}

fn tables(connection: &mut Connection, server: &ServerFacts) -> Result<Check> {
    let unreadable = facts::unreadable(connection)?;
    if unreadable.is_empty() {
        return Ok(Check::ok("tables", format!("{} may read every table and sequence", server.user)));
    }
    let message = format!("{} may not read {}", server.user, some_of(&unreadable));
    let role = identifier(&server.user);
    let remedy = match server.version_number >= 140_000 {
        true => format!("GRANT pg_read_all_data TO {role}"),
        false => format!("GRANT USAGE on their schemas and SELECT on all tables and sequences to {role}"),
    };
    Ok(Check::failed("tables", message, remedy))
}

/// None if the role may read all there are.
fn large_objects(connection: &mut Connection, server: &ServerFacts) -> Result<Option<Check>> {
    let unreadable = facts::unreadable_large_objects(connection)?;
    if unreadable.is_empty() {
        return Ok(None);
    }
    let message = format!("{} may not read large objects: {}", server.user, some_of(&unreadable));
    let remedy = format!(
        "GRANT SELECT ON LARGE OBJECT {} TO {}, and of the others, or log in as a superuser",
        unreadable[0],
        identifier(&server.user)
    );
    Ok(Some(Check::failed("large objects", message, remedy)))
}

fn row_security(connection: &mut Connection, server: &ServerFacts) -> Result<Check> {
    let hidden = facts::hidden_by_row_security(connection)?;
    if hidden.is_empty() {
        return Ok(Check::ok("row security", "hides no rows"));
    }
    let message = format!("it hides rows of {} from {}", some_of(&hidden), server.user);
    let remedy = format!("ALTER ROLE {} BYPASSRLS, or log in as the owner", identifier(&server.user));
    Ok(Check::failed("row security", message, remedy))
}

fn roles(connection: &mut Connection, server: &ServerFacts) -> Result<Check> {
    let may = "SELECT pg_catalog.has_table_privilege('pg_catalog.pg_authid', 'SELECT')";
    Ok(match connection.value(may)?.as_deref() {
        Some("t") => Check::ok("roles", "roles can be taken with their passwords"),
        _ => Check::warning(
            "roles",
            format!("roles will be taken without their passwords: {} may not read those", server.user),
            "log in as a superuser, or set the passwords again after a restore of the whole server",
        ),
    })
}

fn client_programs(server: &ServerFacts, programs: Option<&Path>, surroundings: &Surroundings, watch: &Watch) -> Check {
    match Tools::find(server.version_number, programs, surroundings, watch) {
        Err(error) => Check::of_error("client programs", &error),
        Ok(tools) => match tools.warning() {
            None => Check::ok("client programs", format!("{} fits this server", tools.client())),
            Some(warning) => {
                let (message, remedy) = warning.rsplit_once(": ").unwrap_or((&warning, "update it"));
                Check::warning("client programs", message, remedy)
            }
        },
    }
}

fn size(connection: &mut Connection, server: &ServerFacts, probe: &mut Probe) -> Result<Check> {
    let database = DatabaseFacts::read(connection, server.version_number)?;
    // From the catalog's own counts: to ask for the size of a table is to wait for whoever locks it.
    let sql = "SELECT COALESCE(pg_catalog.sum(c.relpages::int8), 0) * pg_catalog.current_setting('block_size')::int8 \
               FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace \
               WHERE c.relkind IN ('r', 't') AND n.nspname NOT IN ('pg_catalog', 'information_schema')";
    let counted = connection.value(sql)?.and_then(|bytes| bytes.split('.').next()?.parse::<u64>().ok());
    let counted = counted.filter(|bytes| *bytes > 0);
    probe.database_bytes = database.bytes;
    probe.estimate_bytes = counted.map(|bytes| bytes.min(database.bytes.unwrap_or(u64::MAX))).or(database.bytes);
    Ok(match (probe.database_bytes, probe.estimate_bytes) {
        (Some(bytes), Some(estimate)) => {
            Check::ok("size", format!("{} on the server, a dump of about {}", amount(bytes), amount(estimate)))
        }
        _ => {
            let remedy = format!("GRANT CONNECT ON DATABASE to {}", server.user);
            Check::warning("size", "the size of the database may not be asked", remedy)
        }
    })
}

fn locks(connection: &mut Connection, server: &ServerFacts) -> Result<Check> {
    let sql = "SELECT pg_catalog.count(*) FROM pg_catalog.pg_class c \
               JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace \
               WHERE c.relkind IN ('r', 'p') AND n.nspname NOT IN ('pg_catalog', 'information_schema')";
    let tables: u64 = connection.value(sql)?.and_then(|count| count.parse().ok()).unwrap_or(0);
    let (needed, room) = (tables + MORE_LOCKS, server.lock_slots);
    let message = format!("{tables} tables, room for about {room} locks");
    let setting = "max_locks_per_transaction";
    let mut raise = || -> Result<String> {
        let sql = "SELECT pg_catalog.current_setting('max_locks_per_transaction')::int8, \
                   pg_catalog.current_setting('max_connections')::int8 \
                   + pg_catalog.current_setting('max_prepared_transactions')::int8";
        let row = connection.query(sql)?.into_iter().next().unwrap_or_default();
        let number = |at: usize| row.get(at).cloned().flatten().and_then(|text| text.parse::<u64>().ok()).unwrap_or(1);
        let wanted = (2 * needed).div_ceil(number(1).max(1)).max(number(0) + 1);
        Ok(format!("set {setting} = {wanted} in the server's configuration and start it again"))
    };
    Ok(match () {
        () if needed > room => Check::failed("locks", message, raise()?),
        () if needed * 10 > room * 7 => Check::warning("locks", message, raise()?),
        () => Check::ok("locks", message),
    })
}

fn sessions(connection: &mut Connection, server: &ServerFacts, workers: u32) -> Result<Check> {
    let needed = workers + MORE_SESSIONS;
    if let Some((whose, limit, others)) = limit_of_sessions(connection)? {
        let enough = others + i64::from(needed);
        if limit < enough {
            let message = format!("{whose} may have {limit} sessions, {others} are others', {needed} are needed");
            let remedy = format!("ALTER {whose} CONNECTION LIMIT {enough}, or use fewer workers");
            return Ok(Check::failed("sessions", message, remedy));
        }
    }
    // Ours is among those that are there.
    let free = (server.max_sessions + 1).saturating_sub(server.sessions);
    let message = format!("{free} of {} sessions are free, {needed} are needed", server.max_sessions);
    Ok(match free < needed {
        false => Check::ok("sessions", message),
        true => Check::failed("sessions", message, "raise max_connections of the server, or use fewer workers"),
    })
}

/// The narrower of the limits that the role and the database have, whose it is, and how many sessions are taken of it
/// besides ours. None without such limits; a superuser passes them.
fn limit_of_sessions(connection: &mut Connection) -> Result<Option<(String, i64, i64)>> {
    let sql = "WITH l(kind, name, allowed, taken) AS ( \
                 SELECT 'ROLE', r.rolname, r.rolconnlimit, \
                   (SELECT pg_catalog.count(*) FROM pg_catalog.pg_stat_activity a WHERE a.usesysid = r.oid) \
                 FROM pg_catalog.pg_roles r WHERE r.rolname = session_user AND NOT r.rolsuper \
                 UNION ALL SELECT 'DATABASE', d.datname, d.datconnlimit, \
                   (SELECT pg_catalog.count(*) FROM pg_catalog.pg_stat_activity a \
                    WHERE a.datid = d.oid AND a.usesysid IS NOT NULL) \
                 FROM pg_catalog.pg_database d JOIN pg_catalog.pg_roles r ON r.rolname = session_user \
                 WHERE d.datname = pg_catalog.current_database() AND NOT r.rolsuper) \
               SELECT kind, name, allowed, taken FROM l WHERE allowed >= 0 ORDER BY allowed - taken LIMIT 1";
    let Some(row) = connection.query(sql)?.into_iter().next() else { return Ok(None) };
    let text = |at: usize| row.get(at).cloned().flatten().unwrap_or_default();
    let number = |at: usize| text(at).parse().map_err(|_| connection.strange("a limit of sessions is no number"));
    Ok(Some((format!("{} {}", text(0), identifier(&text(1))), number(2)?, number(3)? - 1)))
}

fn blockers(connection: &mut Connection) -> Result<Check> {
    let sql = "SELECT l.pid, n.nspname || '.' || c.relname, \
               pg_catalog.date_part('epoch', pg_catalog.clock_timestamp() - coalesce(a.xact_start, x.prepared))::int8, \
               x.gid \
               FROM pg_catalog.pg_locks l JOIN pg_catalog.pg_class c ON c.oid = l.relation \
               JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace \
               JOIN pg_catalog.pg_database d ON d.oid = l.database AND d.datname = pg_catalog.current_database() \
               LEFT JOIN pg_catalog.pg_stat_activity a ON a.pid = l.pid \
               LEFT JOIN (pg_catalog.pg_locks t JOIN pg_catalog.pg_prepared_xacts x ON x.transaction = t.transactionid) \
                 ON l.pid IS NULL AND t.pid IS NULL AND t.virtualtransaction = l.virtualtransaction \
               WHERE l.locktype = 'relation' AND l.mode = 'AccessExclusiveLock' AND c.relkind IN ('r', 'p', 'S') \
               AND l.pid IS DISTINCT FROM pg_catalog.pg_backend_pid() AND n.nspname !~ '^pg_' ORDER BY 3 DESC NULLS LAST, 1";
    let rows = connection.query(sql)?;
    if rows.is_empty() {
        return Ok(Check::ok("blockers", "nobody holds a lock that a dump would wait for"));
    }
    let text = |row: &super::Row, at: usize| row.get(at).cloned().flatten();
    let said = |row: &super::Row| {
        let since = text(row, 2).map_or(String::new(), |seconds| format!(" for {seconds} s"));
        let who = match text(row, 3) {
            Some(gid) => format!("prepared transaction {}", literal(&gid)),
            None => format!("session {}", text(row, 0).unwrap_or_default()),
        };
        format!("{who} on {}{since}", text(row, 1).unwrap_or_default())
    };
    let shown: Vec<String> = rows.iter().take(MOST_BLOCKERS).map(said).collect();
    let ending = |row: &super::Row| match text(row, 3) {
        Some(gid) => format!("ROLLBACK PREPARED {}", literal(&gid)),
        None => format!("SELECT pg_terminate_backend({})", text(row, 0).unwrap_or_default()),
    };
    let end = rows.first().map(ending).unwrap_or_default();
    let message = format!("exclusive locks that a dump would wait for: {}", shown.join("; "));
    Ok(Check::warning("blockers", message, format!("let them end, or {end}")))
}
