//! Dumps back to PostgreSQL.
//!
//! ```text
//! what is chosen     options, choose (which entries of an archive), statements (SQL cut into words)
//! what is needed     archive (tables of contents), needs (roles, extensions), plan (all checks, nothing written)
//! what is written    globals, place (databases made and put in place), programs (pg_restore), rows (parallel COPY),
//!                    indexes (those that are made beside the rows)
//! what is proven     drill (a database for a while), measure (counts and checksums), zones (in which rows are compared)
//! what is not ours    imported (files that already were dumps)
//! without a server   export (plain SQL, one archive)
//! ```
//!
//! A database that is made for a restore has a name of its own until it is whole: nobody ever finds half a database
//! under the right name, and what is replaced is dropped last. Definitions go through `pg_restore`, never through
//! `psql`; rows through COPY, one transaction for each table, counted by the server.

pub mod archive;
mod choose;
mod circles;
mod drill;
mod export;
mod globals;
pub mod imported;
mod indexes;
mod measure;
mod needs;
mod options;
mod partitions;
mod place;
mod plan;
mod programs;
mod restore;
mod rows;
mod statements;
mod zones;

pub use drill::Drill;
pub use export::{archive as export_archive, sql as export_sql};
pub use options::{Destination, Options, Phases, TableName};

use super::dump::{Checked, DumpTarget, PlannedRestore, Restored, StoredDump};
use crate::db::postgres::Address;
use crate::db::{Result, Surroundings, Watch};
use crate::format::dump::{DumpKind, StreamRole};
use plan::Plan;
use std::path::PathBuf;

/// Where PostgreSQL's programs are looked for.
#[derive(Clone, Debug, Default)]
pub struct Programs {
    /// The environment: `PATH` counts.
    pub surroundings: Surroundings,
    /// A folder that they must be in, if somebody named one.
    pub folder: Option<PathBuf>,
}

/// A database of a PostgreSQL server to which a dump goes back.
#[derive(Clone, Debug)]
pub struct Target {
    /// Server and database.
    pub address: Address,
    /// What is restored and how.
    pub options: Options,
    /// Where the programs are.
    pub programs: Programs,
}

impl DumpTarget for Target {
    fn kind(&self) -> DumpKind {
        DumpKind::Postgres
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

    fn lands_whole(&self) -> bool {
        // Roles are made at the server as they come.
        self.options.destination != Destination::Existing && !self.options.globals
    }

    fn plan<'p>(&'p self, stored: &'p dyn StoredDump, watch: &Watch) -> Result<Box<dyn PlannedRestore + 'p>> {
        Ok(Box::new(Plan::make(&self.address, &self.options, &self.programs, stored, watch)?))
    }
}

impl PlannedRestore for Plan<'_> {
    fn checked(&self) -> Checked {
        Plan::checked(self)
    }

    fn reads(&self, path: &str) -> bool {
        if let Some(place) = self.manifest.tables.iter().position(|table| table.stream.as_deref() == Some(path)) {
            return self.options.phases.data && self.tables.binary_search(&place).is_ok();
        }
        match self.manifest.streams.iter().find(|stream| stream.path == path).map(|stream| stream.role) {
            Some(StreamRole::Globals) => self.options.globals,
            Some(StreamRole::LargeObjects) => self.options.phases.data && !self.options.is_partial(),
            _ => true,
        }
    }

    fn restore(&self, stored: &dyn StoredDump, watch: &Watch) -> Result<Restored> {
        restore::restore(self, stored, watch)
    }
}
