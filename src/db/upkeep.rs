//! Upkeep of databases: tables are vacuumed, analyzed and optimized one by one.
//!
//! A table that cannot be kept stops no other. PostgreSQL says only by a warning that a role may not do it: such a table counts
//! as one that failed.

use super::mysql::{self, Session};
use super::postgres::{self, Connection};
use super::{Error, Result, Watch};
use crate::base::{Event, Kind};
use std::time::Duration;

/// Something that is done with a table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Chore {
    /// Room of rows that are gone is made usable again (PostgreSQL).
    Vacuum,
    /// Statistics for the planner are gathered.
    Analyze,
    /// The table is made anew without gaps (MySQL, MariaDB).
    Optimize,
}

impl Chore {
    /// What a word means.
    pub fn of_name(word: &str) -> Option<Chore> {
        match word {
            "vacuum" => Some(Chore::Vacuum),
            "analyze" => Some(Chore::Analyze),
            "optimize" => Some(Chore::Optimize),
            _ => None,
        }
    }

    /// What was done to a table then.
    pub fn done(self) -> &'static str {
        match self {
            Chore::Vacuum => "vacuumed",
            Chore::Analyze => "analyzed",
            Chore::Optimize => "optimized",
        }
    }
}

/// What became of the upkeep of a database.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Kept {
    /// The database.
    pub database: String,
    /// Tables with which all was done.
    pub tables: u64,
    /// Tables with which something was not, and why.
    pub failed: Vec<(String, String)>,
    /// What the server said of its size before.
    pub before_bytes: u64,
    /// And after.
    pub after_bytes: u64,
}

impl Kept {
    /// Counts a table. What ends everything is an error.
    fn count(&mut self, table: String, done: Result<()>) -> Result<()> {
        match done {
            Ok(()) => self.tables += 1,
            Err(error) if matches!(error.kind(), Kind::Interrupted | Kind::Unavailable) => return Err(error),
            Err(error) => self.failed.push((table, error.message)),
        }
        Ok(())
    }
}

/// A table of PostgreSQL and what it is.
struct Table {
    schema: String,
    name: String,
    /// Rows are in its partitions.
    is_partitioned: bool,
    is_partition: bool,
}

const TABLES: &str = "SELECT n.nspname, c.relname, c.relkind = 'p', c.relispartition \
     FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace \
     WHERE c.relkind IN ('r', 'm', 'p') AND c.relpersistence <> 't' AND n.nspname !~ '^pg_' \
     AND n.nspname <> 'information_schema' ORDER BY 1, 2";
const SIZE: &str = "SELECT pg_catalog.pg_database_size(pg_catalog.current_database())";

/// Does these chores with all tables of a database of PostgreSQL.
pub fn postgres(address: &postgres::Address, chores: &[Chore], patience: Duration, watch: &Watch) -> Result<Kept> {
    let mut connection = Connection::connect(&address.settled(watch)?, None, watch)?;
    connection.execute("SET client_min_messages TO warning")?;
    connection.execute("SET statement_timeout TO 0")?;
    connection.execute(&format!("SET lock_timeout TO {}", patience.as_millis().clamp(1, i32::MAX as u128)))?;
    let size = |connection: &mut Connection| {
        let said = connection.value(SIZE)?;
        said.and_then(|size| size.parse().ok()).ok_or_else(|| connection.strange("the database's size is no number"))
    };
    let mut kept = Kept { database: address.database.clone(), before_bytes: size(&mut connection)?, ..Kept::default() };
    for row in connection.query(TABLES)? {
        let [Some(schema), Some(name), partitioned, partition] = &row[..] else { continue };
        let is = |said: &Option<String>| said.as_deref() == Some("t");
        let table = Table {
            schema: schema.clone(),
            name: name.clone(),
            is_partitioned: is(partitioned),
            is_partition: is(partition),
        };
        let Some(statement) = statement(&table, chores) else { continue };
        let name = format!("{}.{}", table.schema, table.name);
        watch.monitor.event(Event::Current(&name));
        connection.notices();
        let done = connection.execute(&statement).map(drop);
        let warning = connection.notices().into_iter().find(|notice| notice.starts_with("WARNING"));
        let done = done.and_then(|()| match warning {
            Some(warning) => Err(address.error(Kind::Denied, warning.trim_start_matches("WARNING: ").to_owned())),
            None => Ok(()),
        });
        kept.count(name, done)?;
    }
    kept.after_bytes = size(&mut connection)?;
    Ok(kept)
}

/// What is said to the server about a table. Partitions are vacuumed one by one; statistics of them and of their whole, which
/// nothing else gathers, come with the whole.
fn statement(table: &Table, chores: &[Chore]) -> Option<String> {
    let vacuum = chores.contains(&Chore::Vacuum) && !table.is_partitioned;
    let is_part_of_whole = table.is_partition;
    let analyze = chores.contains(&Chore::Analyze) && !is_part_of_whole;
    let name = postgres::qualified(&table.schema, &table.name);
    match (vacuum, analyze) {
        (true, true) => Some(format!("VACUUM (ANALYZE) {name}")),
        (true, false) => Some(format!("VACUUM {name}")),
        (false, true) => Some(format!("ANALYZE {name}")),
        (false, false) => None,
    }
}

const MYSQL_TABLES: &str = "SELECT table_name FROM information_schema.tables WHERE table_schema = DATABASE() \
     AND table_type = 'BASE TABLE' ORDER BY 1";
/// MySQL would answer with sizes of yesterday; MariaDB passes over the comment.
const MYSQL_SIZE: &str = "/*!80000 SET SESSION information_schema_stats_expiry = 0 */; \
     SELECT COALESCE(SUM(data_length + index_length), 0) FROM information_schema.tables WHERE table_schema = DATABASE()";

/// Does these chores with all tables of a database of MySQL or MariaDB.
pub fn mysql(address: &mysql::Address, chores: &[Chore], patience: Duration, watch: &Watch) -> Result<Kept> {
    if address.database.is_empty() {
        return Err(address.error(Kind::Usage, "no database was named: write mysql://USER@HOST/DATABASE"));
    }
    let session = Session::open(address, Kind::Source, &watch.stop)?;
    let size = || {
        let said = session.column(MYSQL_SIZE)?;
        let size = said.last().and_then(|size| size.parse().ok());
        size.ok_or_else(|| address.error(Kind::Unsupported, "the database's size is no number"))
    };
    let mut kept = Kept { database: address.database.clone(), before_bytes: size()?, ..Kept::default() };
    for name in session.column(MYSQL_TABLES)? {
        watch.monitor.event(Event::Current(&name));
        let done = chores.iter().try_for_each(|chore| with_table(&session, *chore, &name, patience));
        kept.count(name, done)?;
    }
    kept.after_bytes = size()?;
    Ok(kept)
}

/// Such a statement never fails by itself: what went wrong stands in its rows.
fn with_table(session: &Session, chore: Chore, name: &str, patience: Duration) -> Result<()> {
    let verb = match chore {
        Chore::Analyze => "ANALYZE",
        Chore::Optimize => "OPTIMIZE",
        Chore::Vacuum => return Ok(()),
    };
    let wait = patience.as_secs().clamp(1, 31_536_000);
    let name = mysql::identifier(name);
    let rows = session.query(&format!("SET SESSION lock_wait_timeout = {wait}; {verb} TABLE {name}"))?;
    match rows.iter().find_map(|row| complaint(row)) {
        Some(why) => Err(Error::new(session.address().server(), Kind::Source, why)),
        None => Ok(()),
    }
}

/// Columns: table, operation, sort of message, message.
fn complaint(row: &[String]) -> Option<String> {
    let [_, _, sort, message] = row else { return None };
    sort.eq_ignore_ascii_case("error").then(|| message.clone())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(is_partitioned: bool, is_partition: bool) -> Table {
        Table { schema: "public".into(), name: "a\"b".into(), is_partitioned, is_partition }
    }

    #[test]
    fn partitions_are_vacuumed_and_their_whole_is_analyzed() {
        let both = [Chore::Vacuum, Chore::Analyze];
        let said = |table: Table, chores: &[Chore]| statement(&table, chores);
        let name = "\"public\".\"a\"\"b\"";
        assert_eq!(said(table(false, false), &both), Some(format!("VACUUM (ANALYZE) {name}")));
        assert_eq!(said(table(true, false), &both), Some(format!("ANALYZE {name}")));
        assert_eq!(said(table(false, true), &both), Some(format!("VACUUM {name}")));
        assert_eq!(said(table(true, true), &both), None, "the whole of it is analyzed above");
        assert_eq!(said(table(true, false), &[Chore::Vacuum]), None);
    }

    #[test]
    fn only_errors_of_a_table_are_complaints() {
        let row = |sort: &str| ["shop.t", "optimize", sort, "said"].map(str::to_owned);
        assert_eq!(complaint(&row("Error")).as_deref(), Some("said"));
        assert_eq!(complaint(&row("note")), None, "InnoDB says that it does it in its own way");
        assert_eq!(complaint(&row("status")), None);
    }

    #[test]
    fn words_of_the_config_are_chores() {
        let chores = ["vacuum", "analyze", "optimize", "drop"].map(Chore::of_name);
        assert_eq!(chores, [Some(Chore::Vacuum), Some(Chore::Analyze), Some(Chore::Optimize), None]);
    }
}
