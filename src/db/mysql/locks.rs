//! Tables that somebody else has locked: which, and by whom as far as the server tells.
//!
//! The dump programs wait for a lock as long as the server likes, often a day, and cannot be told otherwise. So each table
//! is opened once before, by a session that does not wait so long.

use super::{Session, TableFacts, identifier, literal};
use crate::base::Kind;
use crate::db::{Error, Result};
use std::time::Duration;

/// Engines whose tables are opened without asking anybody else.
const LOCAL: [&str; 5] = ["MyISAM", "Aria", "MEMORY", "CSV", "ARCHIVE"];
/// What servers say when a wait was too long.
const TIMED_OUT: &str = "1205";
/// How many connections are named that may be the one.
const NAMED: usize = 3;

/// A table that somebody else has locked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Locked {
    /// The table.
    pub table: String,
    /// Who holds it: `connection 7 (app@h, Sleep for 12 s)`; none if the server does not tell.
    pub holder: Option<String>,
    /// The number of that connection.
    pub connection: Option<String>,
    /// Who else is in the database, where the holder is not known.
    pub others: Vec<String>,
}

/// The first of the tables that cannot be read within so much time, if there is one.
pub fn first_locked(session: &Session, tables: &[&TableFacts], patience: Duration) -> Result<Option<Locked>> {
    let is_local = |table: &TableFacts| LOCAL.iter().any(|engine| table.engine.eq_ignore_ascii_case(engine));
    let tables: Vec<&str> = tables
        .iter()
        .filter(|table| table.has_rows() && (table.is_transactional() || is_local(table)))
        .map(|table| table.name.as_str())
        .filter(|name| !name.contains('\n'))
        .collect();
    if tables.is_empty() {
        return Ok(None);
    }
    // One statement a line: the server says at which it failed.
    let mut question = format!("SET SESSION lock_wait_timeout={};\n", seconds(patience));
    for table in &tables {
        question.push_str(&format!("SELECT 1 FROM {} LIMIT 0;\n", identifier(table)));
    }
    let Err(error) = session.query(&question) else { return Ok(None) };
    match error.kind() {
        Kind::Interrupted => Err(error),
        _ if error.is(TIMED_OUT) => {
            let table = line(&error.message).and_then(|line| tables.get(line.checked_sub(2)?).copied());
            Ok(table.map(|table| described(session, table)))
        }
        // Whatever else it is, the dump says it better.
        _ => Ok(None),
    }
}

/// Fails if one of the tables is locked and not let go within `patience`.
pub fn check(session: &Session, tables: &[&TableFacts], patience: Duration) -> Result<()> {
    match first_locked(session, tables, patience)? {
        None => Ok(()),
        Some(locked) => Err(locked.error(session, patience)),
    }
}

impl Locked {
    /// Who has it, as far as it is known.
    pub fn by(&self) -> String {
        match (&self.holder, self.others.is_empty()) {
            (Some(holder), _) => format!("locked by {holder}"),
            (None, true) => "locked by a connection that the server does not tell us".to_owned(),
            (None, false) => format!("locked, perhaps by one of {}", self.others.join(", ")),
        }
    }

    /// What to do about it.
    pub fn remedy(&self) -> String {
        match &self.connection {
            Some(connection) => format!("let it end, or KILL {connection}"),
            None => "look into SHOW PROCESSLIST; INSTALL SONAME 'metadata_lock_info' (MariaDB), or the right to read \
                     performance_schema (MySQL), lets the server tell who it is"
                .to_owned(),
        }
    }

    fn error(&self, session: &Session, patience: Duration) -> Error {
        let seconds = seconds(patience);
        let message = format!("{}, and not free within {seconds} s (--lock-timeout): {}", self.by(), self.remedy());
        session.error(Kind::Unavailable, message).object(format!("table {}", self.table))
    }
}

/// Servers count whole seconds.
fn seconds(patience: Duration) -> u64 {
    patience.as_secs().max(1)
}

/// The number in `ERROR 1205 (HY000) at line 3: …`.
fn line(message: &str) -> Option<usize> {
    let (_, rest) = message.split_once(" at line ")?;
    rest.split(|letter: char| !letter.is_ascii_digit()).next()?.parse().ok()
}

fn described(session: &Session, table: &str) -> Locked {
    let connection = holder(session, table);
    let database = literal(&session.address().database);
    let which = match &connection {
        Some(connection) => format!("id = {connection}"),
        None => format!("db = {database} AND id <> CONNECTION_ID()"),
    };
    let found = session.query(&format!(
        "SELECT id, user, host, command, time FROM information_schema.processlist WHERE {which} ORDER BY time DESC LIMIT {NAMED}"
    ));
    let mut others: Vec<String> = found.unwrap_or_default().iter().filter_map(|row| shown(row)).collect();
    let known = connection.as_ref().map(|connection| match others.pop() {
        Some(shown) => shown,
        None => format!("connection {connection}"),
    });
    Locked { table: table.to_owned(), holder: known, connection, others }
}

fn shown(row: &[String]) -> Option<String> {
    let [id, user, host, command, time] = row else { return None };
    let host = host.rsplit_once(':').map_or(host.as_str(), |(host, _)| host);
    Some(format!("connection {id} ({user}@{host}, {command} for {time} s)"))
}

/// The connection that holds the lock, if the server lists locks and we may see them.
fn holder(session: &Session, table: &str) -> Option<String> {
    let (database, table) = (literal(&session.address().database), literal(table));
    let mariadb = format!(
        "SELECT thread_id FROM information_schema.metadata_lock_info WHERE table_schema = {database} AND table_name = {table} \
         AND (lock_mode LIKE '%EXCLUSIVE%' OR lock_mode LIKE '%NO_READ%')"
    );
    let mysql = format!(
        "SELECT t.processlist_id FROM performance_schema.metadata_locks l JOIN performance_schema.threads t \
         ON t.thread_id = l.owner_thread_id WHERE l.object_schema = {database} AND l.object_name = {table} \
         AND l.lock_status = 'GRANTED' AND (l.lock_type = 'EXCLUSIVE' OR l.lock_type LIKE '%NO_READ%')"
    );
    let first = |sql: &String| session.column(sql).ok().and_then(|found| found.into_iter().next());
    [mariadb, mysql].iter().find_map(first).filter(|id| id.bytes().all(|byte| byte.is_ascii_digit()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_statement_that_timed_out_is_found() {
        assert_eq!(line("ERROR 1205 (HY000) at line 3: Lock wait timeout exceeded"), Some(3));
        assert_eq!(line("ERROR 1205: Lock wait timeout exceeded"), None);
        assert_eq!((seconds(Duration::from_millis(200)), seconds(Duration::from_secs(90))), (1, 90));
    }
}
