//! PostgreSQL databases as sources: one consistent moment, read by several connections at once.
//!
//! A *holder* locks every table against being altered, takes a snapshot and exports it. On that snapshot `pg_dump`
//! writes the definitions, workers copy the rows table by table, and everything is counted as it passes. If the
//! holder's session ends, so does the dump. The streams of a dump:
//!
//! | path | what it holds |
//! | --- | --- |
//! | `globals.sql` | roles and tablespaces of the server (`pg_dumpall --globals-only`) |
//! | `pre-data.dump` | definitions before the data (`pg_dump -Fc -Z0 --section=pre-data`), without large objects |
//! | `tables/SCHEMA.TABLE.copy` | the rows of one table, as `COPY` writes them in the database's encoding |
//! | `large-objects.dump` | all large objects with owners, rights and comments (`pg_dump -Fc -Z0 -a`) |
//! | `post-data.dump` | indexes, constraints, triggers, … (`--section=post-data`) |

mod holder;
mod moment;
mod paths;
mod patterns;
mod plan;
mod programs;
mod rows;

use crate::base::{Clock, Event, Kind};
use crate::db::postgres::{self, Address, Connection, facts, identifier};
use crate::db::probe::Probe;
use crate::db::{Error, Result, Surroundings, Watch};
use crate::format::dump::DumpKind;
use crate::source::dump::{Dump, DumpSource};
use std::path::PathBuf;
use std::time::Duration;

/// How much of a database is taken.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Content {
    /// Definitions and rows.
    #[default]
    Everything,
    /// Definitions without rows.
    SchemaOnly,
    /// Rows without definitions.
    DataOnly,
}

/// What is taken of a database, and how. Patterns are those of `pg_dump`: `*` and `?`, `schema.table`, double quotes
/// around what is meant letter by letter.
#[derive(Clone, Debug)]
pub struct Options {
    /// Only tables and sequences that fit one of these patterns (`--include-table`); all if empty.
    pub include_tables: Vec<String>,
    /// No table that fits one of these (`--exclude-table`).
    pub exclude_tables: Vec<String>,
    /// Only the definition of tables that fit one of these (`--exclude-table-data`).
    pub exclude_table_data: Vec<String>,
    /// Only schemas that fit one of these (`--schema`); all if empty. Without effect beside `include_tables`.
    pub schemas: Vec<String>,
    /// No schema that fits one of these (`--exclude-schema`). Without effect beside `include_tables`.
    pub exclude_schemas: Vec<String>,
    /// Definitions, rows or both.
    pub content: Content,
    /// Whether rows are read in the order of the primary key: slower for the server, and smaller deltas where rows
    /// are updated a lot.
    pub primary_key_order: bool,
    /// Whether roles and tablespaces of the server are taken along; once per server is enough.
    pub globals: bool,
    /// How many streams may be read at once, at least 1.
    pub workers: usize,
    /// How long somebody else's lock on a table is waited for.
    pub lock_timeout: Duration,
    /// Where PostgreSQL's client programs are, if not where they are looked for.
    pub programs: Option<PathBuf>,
}

impl Default for Options {
    fn default() -> Options {
        Options {
            include_tables: Vec::new(),
            exclude_tables: Vec::new(),
            exclude_table_data: Vec::new(),
            schemas: Vec::new(),
            exclude_schemas: Vec::new(),
            content: Content::Everything,
            primary_key_order: false,
            globals: true,
            workers: 2,
            lock_timeout: Duration::from_secs(60),
            programs: None,
        }
    }
}

impl Options {
    /// As the arguments of the command line say it, for the manifest; empty for the whole database.
    pub fn selection(&self) -> Vec<String> {
        let lists = [
            ("--include-table", &self.include_tables),
            ("--exclude-table", &self.exclude_tables),
            ("--exclude-table-data", &self.exclude_table_data),
            ("--schema", &self.schemas),
            ("--exclude-schema", &self.exclude_schemas),
        ];
        let listed = lists.iter().flat_map(|(name, list)| list.iter().map(move |pattern| format!("{name} {pattern}")));
        let content = match self.content {
            Content::Everything => None,
            Content::SchemaOnly => Some("--schema-only".to_owned()),
            Content::DataOnly => Some("--data-only".to_owned()),
        };
        listed.chain(content).collect()
    }

    /// Whether only some tables or schemas are meant: then neither extensions nor large objects are.
    fn is_part(&self) -> bool {
        !self.include_tables.is_empty() || !self.schemas.is_empty()
    }
}

/// A PostgreSQL database as the user named it.
#[derive(Clone, Debug)]
pub struct PostgresSource {
    address: Address,
    name: String,
    options: Options,
    surroundings: Surroundings,
    clock: Clock,
}

impl PostgresSource {
    /// The database of `address`. It lies in the snapshot under its own name unless `name` gives another; what a file
    /// name cannot hold is written `%2F`.
    pub fn new(
        address: Address,
        name: Option<&str>,
        options: Options,
        surroundings: Surroundings,
        clock: Clock,
    ) -> PostgresSource {
        let name = paths::file_name(name.unwrap_or(&address.database));
        PostgresSource { address, name, options, surroundings, clock }
    }

    /// One source for each database of the server: no templates, none that lets nobody in. Each takes roles and
    /// tablespaces along, which are stored once, so that each can be restored alone.
    pub fn all_databases(
        address: &Address,
        options: &Options,
        surroundings: &Surroundings,
        clock: &Clock,
        watch: &Watch,
    ) -> Result<Vec<PostgresSource>> {
        let address = &address.settled(watch)?;
        let mut connection = Connection::connect(address, None, watch)?;
        let mut sources = Vec::new();
        for listed in facts::databases(&mut connection)? {
            let address = address.with_database(listed.name);
            sources.push(PostgresSource::new(address, None, options.clone(), surroundings.clone(), clock.clone()));
        }
        for (name, is_template) in facts::left_out_databases(&mut connection)? {
            let why = match is_template {
                true => "is a template, so it is not among all: name it by itself to back it up".to_owned(),
                false => format!(
                    "lets nobody in, so it is not backed up: ALTER DATABASE {} ALLOW_CONNECTIONS true, or drop it",
                    identifier(&name)
                ),
            };
            watch.monitor.event(Event::Note(&format!("{}, database {name} {why}", address.server())));
        }
        if sources.is_empty() {
            return Err(address.error(Kind::NotFound, "the server has no database that lets anybody in"));
        }
        Ok(sources)
    }

    /// Where it is.
    pub fn address(&self) -> &Address {
        &self.address
    }

    /// What is taken of it.
    pub fn options(&self) -> &Options {
        &self.options
    }

    /// A failure that names server and database.
    fn error(&self, kind: Kind, message: impl Into<String>) -> Error {
        self.address.error(kind, message).database(&self.address.database)
    }
}

impl DumpSource for PostgresSource {
    fn kind(&self) -> DumpKind {
        DumpKind::Postgres
    }

    fn name(&self) -> &str {
        &self.name
    }

    fn label(&self) -> String {
        self.address.label()
    }

    fn probe(&self, watch: &Watch) -> Result<Option<Probe>> {
        let workers = u32::try_from(self.options.workers).unwrap_or(u32::MAX);
        let programs = self.options.programs.as_deref();
        let mut probe = postgres::probe::probe(&self.address, programs, workers, &self.surroundings, watch);
        // What is left out need not be readable. The dump itself fails on what is not.
        let whole = self.options.selection().is_empty();
        probe.checks.retain(|check| whole || !matches!(check.name, "tables" | "row security" | "large objects"));
        Ok(Some(probe))
    }

    fn begin(&self, watch: &Watch) -> Result<Box<dyn Dump>> {
        let settled = PostgresSource { address: self.address.settled(watch)?, ..self.clone() };
        moment::PostgresDump::begin(&settled, watch).map(|dump| Box::new(dump) as Box<dyn Dump>)
    }
}
