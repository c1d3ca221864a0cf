//! The arguments of `backup` that concern databases and commands.

use super::values::named;
use clap::Args;
use std::path::PathBuf;
use std::time::Duration;

const HEADING: &str = "Databases and commands";
const PARTS: &str = "What of the databases";

/// Databases and commands that are backed up, and how.
#[derive(Clone, Debug, Args)]
pub struct Databases {
    /// Back up a PostgreSQL database (may be repeated): a URL, `key=value` words, the name of a database, or '' for
    /// what DATABASE_URL or PGDATABASE says
    #[arg(long, value_name = "[NAME=]URL", value_parser = named, help_heading = HEADING)]
    pub postgres: Vec<Named>,
    /// Back up a MySQL or MariaDB database (may be repeated)
    #[arg(long, value_name = "[NAME=]URL", value_parser = named, help_heading = HEADING)]
    pub mysql: Vec<Named>,
    /// Back up what a shell command prints, as the file /@command/NAME (may be repeated); if it fails, the snapshot
    /// is partial and lacks it
    #[arg(long, value_name = "NAME=COMMAND", value_parser = command, help_heading = HEADING)]
    pub command: Vec<(String, String)>,
    /// So many databases and commands are read at once
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = at_least_one, help_heading = HEADING)]
    pub max_parallel: u32,
    /// So many tables of each database are read at once (PostgreSQL)
    #[arg(long, value_name = "N", default_value_t = 2, value_parser = at_least_one, help_heading = HEADING)]
    pub workers: u32,
    /// Give up on a database or command that takes longer
    #[arg(long, value_name = "SECONDS", default_value = "3600", value_parser = seconds, help_heading = HEADING)]
    pub source_timeout: Duration,
    /// Give up on databases and commands that have not ended after this time, counted for all of them together
    #[arg(long, value_name = "SECONDS", value_parser = seconds, help_heading = HEADING)]
    pub timeout: Option<Duration>,
    /// Try a database whose failure may pass so often
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = at_least_one, help_heading = HEADING)]
    pub attempts: u32,
    /// Begin even if the databases are more than ten times as large as what is free where the repository lies
    #[arg(long, help_heading = HEADING)]
    pub ignore_free_space: bool,
    /// Wait so long for a table that somebody else has locked
    #[arg(long, value_name = "SECONDS", default_value = "60", value_parser = seconds, help_heading = HEADING)]
    pub lock_timeout: Duration,
    /// The folder of PostgreSQL's client programs [default: found by themselves; those of MySQL and MariaDB in PATH]
    #[arg(long, value_name = "FOLDER", help_heading = HEADING)]
    pub programs: Option<PathBuf>,
    /// What of the databases is taken.
    #[command(flatten)]
    pub parts: Parts,
}

/// What of the databases is taken.
#[derive(Clone, Debug, Default, PartialEq, Eq, Args)]
pub struct Parts {
    /// Every database of the server; each is called after itself
    #[arg(long, help_heading = PARTS)]
    pub all_databases: bool,
    /// Only tables that match: `orders`, `sales.*` (may be repeated)
    #[arg(long, value_name = "PATTERN", help_heading = PARTS)]
    pub include_table: Vec<String>,
    /// All tables but those that match (may be repeated)
    #[arg(long, value_name = "PATTERN", help_heading = PARTS)]
    pub exclude_table: Vec<String>,
    /// Of tables that match only the definition (may be repeated)
    #[arg(long, value_name = "PATTERN", help_heading = PARTS)]
    pub exclude_table_data: Vec<String>,
    /// Only schemas that match (may be repeated; PostgreSQL)
    #[arg(long, value_name = "PATTERN", help_heading = PARTS)]
    pub schema: Vec<String>,
    /// All schemas but those that match (may be repeated; PostgreSQL)
    #[arg(long, value_name = "PATTERN", help_heading = PARTS)]
    pub exclude_schema: Vec<String>,
    /// Definitions, and no rows
    #[arg(long, conflicts_with = "data_only", help_heading = PARTS)]
    pub schema_only: bool,
    /// Rows, and no definitions
    #[arg(long, help_heading = PARTS)]
    pub data_only: bool,
    /// No roles, tablespaces, users and grants of the server
    #[arg(long, help_heading = PARTS)]
    pub no_globals: bool,
    /// Read tables in the order of their primary keys: slower, and smaller differences from night to night where rows
    /// move about (PostgreSQL; MySQL keeps that order by itself)
    #[arg(long, help_heading = PARTS)]
    pub primary_key_order: bool,
}

/// A database as it was given.
#[derive(Clone, PartialEq, Eq)]
pub struct Named {
    /// What it is to be called; none for its own name.
    pub name: Option<String>,
    /// The server and database. May hold a password: never printed.
    pub address: String,
}

impl std::fmt::Debug for Named {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Named").field("name", &self.name).finish_non_exhaustive()
    }
}

pub(super) fn command(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, line)) if !name.is_empty() && !line.trim().is_empty() => Ok((name.to_owned(), line.to_owned())),
        _ => Err("write NAME=COMMAND: what it is called in the snapshot, and the shell command".to_owned()),
    }
}

fn at_least_one(text: &str) -> Result<u32, String> {
    text.parse().ok().filter(|number| *number > 0).ok_or_else(|| "write a whole number, at least 1".to_owned())
}

fn seconds(text: &str) -> Result<Duration, String> {
    let seconds = text.trim_end_matches('s').parse().ok().filter(|seconds| *seconds > 0.0);
    let wrong = || "write a number of seconds above 0".to_owned();
    seconds.and_then(|seconds| Duration::try_from_secs_f64(seconds).ok()).ok_or_else(wrong)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_command_has_a_name() {
        assert_eq!(command("a=b=c | d"), Ok(("a".to_owned(), "b=c | d".to_owned())));
        for wrong in ["", "pg_dump", "=x", "a=", "a= "] {
            assert!(command(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn times_are_seconds() {
        assert_eq!(seconds("90"), Ok(Duration::from_secs(90)));
        assert_eq!(seconds("0.5s"), Ok(Duration::from_millis(500)));
        for wrong in ["0", "-1", "", "1h", "inf", "NaN", "1e300"] {
            assert!(seconds(wrong).is_err(), "{wrong}");
        }
    }
}
