//! The arguments of ways back to databases: those of `restore`, and `drill`.

use super::Filters;
use super::values::percent;
use crate::target::postgres::TableName;
use clap::{Args, ValueEnum};
use std::ffi::OsString;
use std::path::PathBuf;

const HEADING: &str = "To a database server";

/// A part of a restore.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Phase {
    /// Definitions that come before the rows
    PreData,
    /// Rows, sequences, large objects
    Data,
    /// Indexes, constraints, triggers, and what else comes after the rows
    PostData,
}

/// A dump back to a server.
#[derive(Clone, Debug, Args)]
pub struct ToDatabase {
    /// Restore a dump into this PostgreSQL database: a URL, `key=value` words, or the name of a database
    #[arg(long, value_name = "URL", groups = ["where", "server"], help_heading = HEADING, conflicts_with_all = FOR_FILES)]
    pub to_postgres: Option<String>,
    /// Restore a dump into this MySQL or MariaDB database: a URL, or the name of a database
    #[arg(long, value_name = "URL", groups = ["where", "server"], help_heading = HEADING, conflicts_with_all = FOR_FILES)]
    pub to_mysql: Option<String>,
    /// Which dump of the snapshot, if it holds several
    #[arg(long, value_name = "NAME", requires = "server", help_heading = HEADING)]
    pub database: Option<String>,
    /// Make the database; it gets its name when it is whole
    #[arg(long, requires = "server", help_heading = HEADING)]
    pub create: bool,
    /// Put a new database in the place of the one that is there, which is dropped last; all of the dump, not a part of it.
    /// PostgreSQL then ends the sessions of whoever is logged in to the old one
    #[arg(long, requires = "server", conflicts_with_all = ["table", "schema", "phase"], help_heading = HEADING)]
    pub drop_existing: bool,
    /// Say the name of the database once more, if it is protected or would be dropped
    #[arg(long, value_name = "NAME", requires = "server", help_heading = HEADING)]
    pub confirm_destructive: Option<String>,
    /// Patterns of databases that are not written without that (may be repeated) [default: *prod*]
    #[arg(long, value_name = "PATTERN", requires = "server", help_heading = HEADING)]
    pub protect: Vec<String>,
    /// Only this table, with its sequences, indexes, constraints and triggers (may be repeated)
    #[arg(long, value_name = "SCHEMA.TABLE", value_parser = TableName::parse, requires = "server", help_heading = HEADING)]
    pub table: Vec<TableName>,
    /// Only what lies in this schema (may be repeated)
    #[arg(long, value_name = "SCHEMA", requires = "server", help_heading = HEADING)]
    pub schema: Vec<String>,
    /// Only this part of the restore (may be repeated)
    #[arg(long, value_name = "PHASE", requires = "server", help_heading = HEADING)]
    pub phase: Vec<Phase>,
    /// Check everything, the stored dump too, and write nothing
    #[arg(long, requires = "server", help_heading = HEADING)]
    pub validate_only: bool,
    /// Let a dump that is SQL (SNAP:PATH) do whatever the role may that restores it
    #[arg(long, requires = "server", help_heading = HEADING)]
    pub trust_sql: bool,
    /// Leave everything to the role that restores
    #[arg(long, requires = "server", help_heading = HEADING)]
    pub no_owner: bool,
    /// Grant nothing
    #[arg(long, requires = "server", help_heading = HEADING)]
    pub no_acl: bool,
    /// Make the roles, users, grants and tablespaces of the dump that the server lacks; who is there keeps the password
    #[arg(long, requires = "server", help_heading = HEADING)]
    pub globals: bool,
    /// Look in this schema too for what functions in checks, indexes and views name without one; nowhere unless said, as with
    /// pg_restore (may be repeated)
    #[arg(long, value_name = "SCHEMA", requires = "server", help_heading = HEADING)]
    pub search_path: Vec<String>,
    /// Gather no statistics afterwards
    #[arg(long, requires = "server", help_heading = HEADING)]
    pub no_analyze: bool,
    /// So many tables and indexes at once
    #[arg(short, long, value_name = "N", default_value_t = 2, value_parser = clap::value_parser!(u16).range(1..=64), help_heading = HEADING)]
    pub jobs: u16,
    /// Run a shell command before anything is written; if it fails, nothing is (may be repeated)
    #[arg(long, value_name = "COMMAND", requires = "server", help_heading = HEADING)]
    pub before: Vec<String>,
    /// Run a shell command afterwards, also after a failure (may be repeated)
    #[arg(long, value_name = "COMMAND", requires = "server", help_heading = HEADING)]
    pub after: Vec<String>,
    /// The folder of the server's client programs [default: found by themselves]
    #[arg(long, value_name = "DIR", requires = "server", help_heading = HEADING)]
    pub programs: Option<PathBuf>,
    /// Where files lie for a moment [default: $TMPDIR]
    #[arg(long, value_name = "DIR", requires = "server", help_heading = HEADING)]
    pub temp_dir: Option<PathBuf>,
}

/// Arguments that only mean something for files.
const FOR_FILES: [&str; 10] =
    ["include", "iinclude", "exclude", "iexclude", "overwrite", "delete", "dry_run", "verify", "sparse", "numeric_ids"];

/// Prove that a snapshot comes back: restore it for a moment and compare.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  keepstone drill latest --server postgres://drill@spare/postgres
  keepstone drill latest --server postgres://drill@spare/postgres --database shop --full
  keepstone drill latest --server mysql://drill@spare
  keepstone drill latest --sample 5%            files only, where the snapshot has no databases

Each database is restored into a new one called keepstone_drill_…, compared with what its dump \
promises (tables, exact numbers of rows, checksums of a sample of tables or of all, sequences) and \
dropped, also after a failure. The server should not be the one that the dump was taken from.
Exit code 4 says that something is not as promised.")]
pub struct Drill {
    /// The snapshot
    #[arg(value_name = "SNAP", default_value = "latest")]
    pub snapshot: OsString,
    /// The server for databases to be tried on: a URL (may be repeated, one for each family of servers)
    #[arg(long, value_name = "URL")]
    pub server: Vec<String>,
    /// Only this dump or database (may be repeated)
    #[arg(long, value_name = "NAME")]
    pub database: Vec<String>,
    /// Compare the content of this share of tables and files; rows are counted always
    #[arg(long, value_name = "PERCENT", value_parser = percent, default_value = "10%", conflicts_with = "full")]
    pub sample: f64,
    /// Compare the content of everything
    #[arg(long)]
    pub full: bool,
    /// Also on the very server that a dump was taken from
    #[arg(long)]
    pub allow_source_server: bool,
    /// Databases only
    #[arg(long)]
    pub no_files: bool,
    /// Look in this schema too for what functions in checks, indexes and views name without one (may be repeated)
    #[arg(long, value_name = "SCHEMA")]
    pub search_path: Vec<String>,
    /// So many tables and indexes at once
    #[arg(short, long, value_name = "N", default_value_t = 2, value_parser = clap::value_parser!(u16).range(1..=64))]
    pub jobs: u16,
    /// The folder of the server's client programs [default: found by themselves]
    #[arg(long, value_name = "DIR")]
    pub programs: Option<PathBuf>,
    /// Where files lie for a moment [default: $TMPDIR]
    #[arg(long, value_name = "DIR")]
    pub temp_dir: Option<PathBuf>,
    /// Among which snapshots it is looked for.
    #[command(flatten)]
    pub filters: Filters,
}
