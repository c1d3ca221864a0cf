//! Dumps back to MySQL and MariaDB.
//!
//! ```text
//! what is chosen     options
//! what is needed     plan (all checks, nothing written)
//! what is written    users, restore (definitions, rows by several sessions, counters, routines, views)
//! what is proven     drill (a database for a while), look (counts, checksums, sequences)
//! without a server   export (plain SQL)
//! ```
//!
//! These servers cannot rename a database, so a new one has its name from the beginning, and a mark in it says that it is
//! not whole yet; a restore that fails drops what it made, one that is killed leaves the mark. Streams go through the client program, which runs no commands of its own; each table's rows are committed
//! at once, and counted by the server afterwards.

mod drill;
mod export;
mod look;
mod plan;
mod restore;
mod users;

pub use drill::Drill;
pub use export::sql as export_sql;

use super::dump::{Checked, DumpTarget, PlannedRestore, Restored, StoredDump};
use crate::db::mysql::Address;
use crate::db::{Result, Watch};
use crate::format::dump::{DumpKind, StreamRole};
use plan::Plan;

/// Which database is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Destination {
    /// One that is there, and empty unless only some tables or steps are restored.
    #[default]
    Existing,
    /// A new one.
    Create,
    /// A new one in the place of one that is there, which is dropped first.
    Replace,
}

/// What is restored and how.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// Which database is written.
    pub destination: Destination,
    /// Only these tables, with their triggers. Empty for all.
    pub tables: Vec<String>,
    /// Definitions of tables and sequences.
    pub pre_data: bool,
    /// Rows, and where counters and sequences stand.
    pub data: bool,
    /// Triggers, events, routines, views.
    pub post_data: bool,
    /// Let routines and views belong to whom they belonged; else to whoever restores.
    pub owners: bool,
    /// Make the users, roles and grants of the dump that the server lacks.
    pub globals: bool,
    /// Make events; they begin to run at once.
    pub events: bool,
    /// Sessions that write rows side by side, at least 1.
    pub jobs: usize,
    /// Gather statistics for the planner afterwards.
    pub analyze: bool,
    /// Definitions of everything, and the rows of these tables alone; none for all. For drills.
    pub rows_of: Option<Vec<String>>,
}

impl Default for Options {
    /// Everything, into a database that is there and empty, with two sessions.
    fn default() -> Options {
        Options {
            destination: Destination::Existing,
            tables: Vec::new(),
            pre_data: true,
            data: true,
            post_data: true,
            owners: true,
            globals: false,
            events: true,
            jobs: 2,
            analyze: true,
            rows_of: None,
        }
    }
}

impl Options {
    /// Whether only some tables are restored.
    pub fn is_partial(&self) -> bool {
        !self.tables.is_empty()
    }

    /// Whether the rows of a table are written.
    pub fn wants_rows(&self, name: &str) -> bool {
        self.wants(name) && self.rows_of.as_ref().is_none_or(|tables| tables.iter().any(|wanted| wanted == name))
    }

    /// Whether a table is meant.
    pub fn wants(&self, name: &str) -> bool {
        !self.is_partial() || self.tables.iter().any(|wanted| wanted == name)
    }
}

/// The stream that says where counters stand.
const COUNTERS: &str = "counters.sql";

/// A database of a MySQL or MariaDB server to which a dump goes back.
#[derive(Clone, Debug)]
pub struct Target {
    /// Server and database.
    pub address: Address,
    /// What is restored and how.
    pub options: Options,
}

impl DumpTarget for Target {
    fn kind(&self) -> DumpKind {
        DumpKind::Mysql
    }

    fn label(&self) -> String {
        self.address.label()
    }

    fn database(&self) -> &str {
        &self.address.database
    }

    fn may_drop(&self) -> bool {
        self.options.destination == Destination::Replace
    }

    fn only_makes(&self) -> bool {
        self.options.destination == Destination::Create
    }

    fn plan<'p>(&'p self, stored: &'p dyn StoredDump, watch: &Watch) -> Result<Box<dyn PlannedRestore + 'p>> {
        Ok(Box::new(Plan::make(&self.address, &self.options, stored, watch)?))
    }
}

impl PlannedRestore for Plan<'_> {
    fn checked(&self) -> Checked {
        Plan::checked(self)
    }

    fn reads(&self, path: &str) -> bool {
        if let Some(table) = self.manifest.tables.iter().find(|table| table.stream.as_deref() == Some(path)) {
            return self.options.data && self.options.wants(&table.name);
        }
        match self.manifest.streams.iter().find(|stream| stream.path == path).map(|stream| stream.role) {
            Some(StreamRole::Globals) => self.options.globals,
            _ if path == COUNTERS => self.options.data,
            Some(StreamRole::PreData) => self.options.pre_data,
            Some(StreamRole::PostData) => self.options.post_data,
            _ => true,
        }
    }

    fn restore(&self, stored: &dyn StoredDump, watch: &Watch) -> Result<Restored> {
        restore::restore(self, stored, watch)
    }
}
