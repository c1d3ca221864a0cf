//! A look at a MySQL or MariaDB database: would a backup of it work, and what should somebody know before.

use super::{Address, Facts, ServerFacts, Session, identifier, locks, mark};
use crate::base::clock::Stopwatch;
use crate::base::{Kind, Stop};
use crate::db::Result;
use crate::db::probe::{Check, Probe, amount, is_here, some_of};
use std::time::Duration;

/// Transactions that began longer ago than this, in seconds, are worth a word.
const LONG_SECONDS: u64 = 60;

/// How long a look waits for a locked table.
const PATIENCE: Duration = Duration::from_secs(1);

/// Looks at the database of `address`.
pub fn probe(address: &Address, stop: &Stop) -> Probe {
    let mut probe = Probe::of(address.label(), "mysql");
    let stopwatch = Stopwatch::start();
    let session = match Session::open(address, Kind::Source, stop) {
        Ok(session) => session,
        Err(error) => {
            let name = if error.kind() == Kind::Unsupported { "client programs" } else { "connection" };
            probe.checks.push(Check::of_error(name, &error));
            return probe;
        }
    };
    let latency = stopwatch.elapsed();
    probe.latency = Some(latency);
    let facts = match Facts::ask(&session) {
        Ok(facts) => facts,
        Err(error) => {
            probe.checks.push(Check::of_error("database", &error));
            return probe;
        }
    };
    let server = &facts.server;
    probe.server = format!("{} {}", server.product, server.version);
    let logged_in = format!("logged in as {} in {} ms", server.user, latency.as_millis());
    probe.checks.push(Check::ok("connection", logged_in));
    probe.checks.push(Check::ok("server", probe.server.clone()));
    probe.take("encryption", encryption(&session, address));
    probe.checks.push(replica(server));
    probe.take("pooler", pooler(&session, server));
    probe.checks.extend(wholeness(&facts));
    probe.take("leftovers", leftovers(&session, &facts));
    probe.checks.push(rights(&facts));
    probe.checks.push(routines(&facts));
    probe.take("accounts", accounts(&session, server));
    probe.checks.push(client_programs(&session, server));
    probe.checks.push(engines(&facts));
    probe.database_bytes = Some(facts.bytes());
    probe.estimate_bytes = Some(facts.bytes());
    probe.checks.push(Check::ok("size", format!("{} of rows in {} tables", amount(facts.bytes()), count(&facts))));
    probe.take("blockers", blockers(&session, &facts));
    probe
}

fn count(facts: &Facts) -> usize {
    facts.tables.iter().filter(|table| table.has_rows()).count()
}

fn encryption(session: &Session, address: &Address) -> Result<Check> {
    let rows = session.with_database("")?.query("SHOW SESSION STATUS LIKE 'Ssl_version'")?;
    let protocol = rows.first().and_then(|row| row.get(1)).filter(|protocol| !protocol.is_empty());
    Ok(match protocol {
        Some(protocol) => Check::ok("encryption", format!("encrypted with {protocol}")),
        None if address.is_socket() || is_here(&address.host) => {
            Check::ok("encryption", "not encrypted, within this machine")
        }
        None => {
            let remedy = "turn TLS on at the server and add ssl-mode=VERIFY_IDENTITY to the URL";
            Check::warning("encryption", "rows and password travel without encryption", remedy)
        }
    })
}

fn replica(server: &ServerFacts) -> Check {
    match (&server.primary, server.read_only) {
        (Some(primary), _) => Check::warning(
            "standby",
            format!("a replica of {primary}: what arrived late is missing"),
            "look at its lag (SHOW REPLICA STATUS), or back up the primary",
        ),
        (None, true) => Check::ok("standby", "it takes no writes, perhaps as a replica; a dump does not mind"),
        (None, false) => Check::ok("standby", "a primary server"),
    }
}

/// Poolers answer in the server's name, but not with its connection id or version comment.
fn pooler(session: &Session, server: &ServerFacts) -> Result<Check> {
    let rows = session.with_database("")?.query("SELECT @@version_comment")?;
    let comment = rows.first().and_then(|row| row.first()).map(|comment| comment.to_lowercase()).unwrap_or_default();
    let said = format!("{comment} {}", server.version.to_lowercase());
    let known = ["proxysql", "maxscale", "vitess"].into_iter().find(|name| said.contains(name));
    Ok(match known {
        None => Check::ok("pooler", "the server itself answers"),
        Some(name) => Check::failed(
            "pooler",
            format!("{name} answers, which may spread one dump over several servers"),
            "give the address of one server itself",
        ),
    })
}

/// A database that is not whole is no night to keep.
fn wholeness(facts: &Facts) -> Option<Check> {
    let (name, table) = (&facts.database, identifier(mark::TABLE));
    let remedy = format!(
        "restore it again with --drop-existing --confirm-destructive {name}, or DROP TABLE {table} if it is to stay as it is"
    );
    facts.is_incomplete.then(|| Check::failed("wholeness", mark::MEANING, remedy))
}

/// What restores that were broken off have left elsewhere on the server.
fn leftovers(session: &Session, facts: &Facts) -> Result<Check> {
    let left = mark::marked(&session.with_database("")?)?;
    let left: Vec<String> = left.into_iter().filter(|name| *name != facts.database).collect();
    Ok(match left.first() {
        None => Check::ok("leftovers", "no restore has left an incomplete database"),
        Some(first) => Check::warning(
            "leftovers",
            format!("restores that were broken off, or are still at work, have left incomplete: {}", some_of(&left)),
            format!("DROP DATABASE {} when nobody needs it", identifier(first)),
        ),
    })
}

fn rights(facts: &Facts) -> Check {
    let missing = facts.missing_rights();
    match missing.is_empty() {
        true => Check::ok("tables", format!("{} has the rights that a dump needs", facts.server.user)),
        false => {
            let message = format!("{} lacks {} on {}", facts.server.user, missing.join(", "), facts.database);
            let (rights, hint) = (missing.join(", "), facts.server.rights.hint());
            let remedy = format!("GRANT {rights} ON `{}`.* TO that account{hint}", facts.database);
            Check::failed("tables", message, remedy)
        }
    }
}

fn routines(facts: &Facts) -> Check {
    match facts.right_to_routines() {
        None => Check::ok("routines", "procedures and functions can be read, whoever made them"),
        Some(right) => {
            let remedy = format!(
                "GRANT {right} TO that account{}, or back up without routines and events: --include-table '*'",
                facts.server.rights.hint()
            );
            Check::failed("routines", facts.kept_routines(), remedy)
        }
    }
}

fn accounts(session: &Session, server: &ServerFacts) -> Result<Check> {
    let may = server.rights.have("SELECT", Some("mysql"));
    let asked = || session.with_database("")?.query("SELECT COUNT(*) FROM mysql.user");
    Ok(match may || asked().is_ok() {
        true => Check::ok("accounts", "users and their rights can be taken"),
        false => Check::warning(
            "accounts",
            format!("users and their rights will not be taken: {} may not read them", server.user),
            "GRANT SELECT ON `mysql`.* TO that account, or make the accounts again after a restore",
        ),
    })
}

fn client_programs(session: &Session, server: &ServerFacts) -> Check {
    let tool = &session.tools().dump;
    let label = tool.label();
    match tool.family == server.family() {
        true => Check::ok("client programs", format!("{label} fits this server")),
        false => Check::warning(
            "client programs",
            format!("{label} is of another family than {}", server.product),
            format!("install the client programs of {}", server.product),
        ),
    }
}

fn engines(facts: &Facts) -> Check {
    let odd = facts.tables.iter().filter(|table| table.has_rows() && !table.is_transactional());
    let odd: Vec<String> = odd.map(|table| format!("{} ({})", table.name, table.engine)).collect();
    match odd.is_empty() {
        true => Check::ok("engines", "every table is read as it was at one moment"),
        false => Check::warning(
            "engines",
            format!("what is written meanwhile may be seen in part: {}", some_of(&odd)),
            "ALTER TABLE … ENGINE=InnoDB, or let nobody write while it is backed up",
        ),
    }
}

fn blockers(session: &Session, facts: &Facts) -> Result<Check> {
    if let Some(locked) = locks::first_locked(session, &facts.tables.iter().collect::<Vec<_>>(), PATIENCE)? {
        let message = format!("a dump would wait for table {}: {}", locked.table, locked.by());
        return Ok(Check::warning("blockers", message, locked.remedy()));
    }
    let fine = || Check::ok("blockers", "no table is locked, and no statement has been running for long");
    let sql = format!(
        "SELECT ID, TIME, COALESCE(STATE, ''), COALESCE(INFO, '') FROM information_schema.PROCESSLIST \
         WHERE COMMAND NOT IN ('Sleep', 'Daemon', 'Binlog Dump', 'Slave_IO', 'Slave_SQL') AND TIME >= {LONG_SECONDS} \
         AND ID <> CONNECTION_ID() AND (INFO LIKE 'ALTER%' OR INFO LIKE 'LOCK%' OR INFO LIKE 'OPTIMIZE%' \
         OR INFO LIKE 'FLUSH%' OR STATE LIKE '%metadata lock%') ORDER BY TIME DESC"
    );
    let Ok(rows) = session.with_database("")?.query(&sql) else { return Ok(fine()) };
    let Some([id, seconds, ..]) = rows.first().map(Vec::as_slice) else { return Ok(fine()) };
    let message =
        format!("connection {id} has been changing or locking tables for {seconds} s: a dump may wait for it");
    Ok(Check::warning("blockers", message, format!("let it end, or KILL {id}")))
}
