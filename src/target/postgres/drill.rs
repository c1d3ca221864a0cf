//! Drills: a dump restored into a database of its own, looked at, and dropped again.
//!
//! The server must take the same definitions, rows, indexes and constraints as a real one would. What needs roles is left
//! out as far as the server lacks them: owners and grants, and policies and mappings that name such roles. Subscriptions
//! are left out always: a copy must not take part in anybody's replication.

use super::measure::Look;
use super::partitions::Routes;
use super::place::connect_for_databases;
use super::plan::Plan;
use super::rows::session;
use super::{Destination, Options, Programs, TableName, restore, zones};
use crate::base::clock::Stopwatch;
use crate::db::postgres::facts::ServerFacts;
use crate::db::postgres::{Address, TemporaryDatabase, temporary};
use crate::db::{Error, Result, Watch};
use crate::format::dump::{DumpKind, Sequence, Table};
use crate::target::dump::{DRILL_PREFIX, DrillServer, Restored, Sample, StoredDump, TriedOut};
use std::path::PathBuf;

/// A PostgreSQL server for drills.
#[derive(Clone, Debug)]
pub struct Drill {
    /// The server; the database in it does not matter.
    pub address: Address,
    /// Where the programs are.
    pub programs: Programs,
    /// Sessions side by side.
    pub jobs: usize,
    /// Where names are looked for that have no schema.
    pub search_path: Vec<String>,
    /// Where files lie for a moment: a folder that only we can read.
    pub temp_dir: PathBuf,
}

impl DrillServer for Drill {
    fn kind(&self) -> DumpKind {
        DumpKind::Postgres
    }

    fn label(&self) -> String {
        self.address.server()
    }

    fn identity(&self, watch: &Watch) -> Result<String> {
        Ok(ServerFacts::read(&mut connect_for_databases(&self.address.settled(watch)?, watch)?)?.identity)
    }

    fn sweep(&self, watch: &Watch) -> Result<Vec<String>> {
        let server = self.address.settled(watch)?;
        let left = temporary::leftovers(temporary::PREFIX, &server, watch)?;
        for name in &left {
            temporary::drop_leftover(&server, name, watch)?;
        }
        Ok(left)
    }

    fn try_out(&self, stored: &dyn StoredDump, what: Sample<'_>, watch: &Watch) -> Result<TriedOut> {
        let mut options = Options::new(self.temp_dir.clone());
        options.destination = Destination::Create;
        options.jobs = self.jobs;
        (options.owners, options.grants, options.analyze) = (false, false, false);
        options.is_drill = true;
        options.search_path = self.search_path.clone();
        options.rows_of = what.tables.map(|tables| tables.iter().map(|table| TableName::of(table)).collect());
        // The name stands for the one that is made below: nothing has it.
        let server = self.address.settled(watch)?;
        let address = server.with_database(DRILL_PREFIX);
        let plan = Plan::make(&address, &options, &self.programs, stored, watch).map_err(|error| Error {
            // There is none yet, and a name that is cut off tells nobody anything.
            database: error.database.filter(|name| name != DRILL_PREFIX),
            ..error
        })?;
        let database = TemporaryDatabase::create(&server, &plan.manifest.properties, watch)?;
        let name = database.name().to_owned();
        let seen = look(&plan, database.address(), stored, what.sums, watch);
        let left_behind = database.remove().err().map(|error| format!("{name} could not be dropped: {error}"));
        match seen {
            Ok(seen) => Ok(TriedOut { left_behind, ..seen }),
            Err(error) => Err(match left_behind {
                Some(left) => {
                    let message = format!("{}; {left}", error.message);
                    Error { message, ..error }
                }
                None => error,
            }),
        }
    }
}

/// Fills the database and looks what is in it.
fn look(
    plan: &Plan<'_>,
    address: &Address,
    stored: &dyn StoredDump,
    sums: &dyn Fn(&Table) -> bool,
    watch: &Watch,
) -> Result<TriedOut> {
    let mut restored = Restored {
        server: format!("PostgreSQL {}", plan.facts.version),
        database: address.database.clone(),
        created: true,
        notes: plan.notes.clone(),
        ..Restored::default()
    };
    restored.notes.extend(restore::shape(plan, address, watch)?);
    restore::into(plan, address, stored, watch, &mut restored)?;
    watch.monitor.event(crate::base::Event::Phase("comparing"));
    let since = Stopwatch::start();
    let version_number = plan.facts.version_number;
    let routes = Routes::read(&mut session(address, version_number, watch)?, version_number)?;
    let mut sums: Vec<bool> = plan.manifest.tables.iter().map(sums).collect();
    routes.together(&plan.manifest.tables, &mut sums);
    let look = Look { address, version_number, manifest: &plan.manifest, sums, jobs: plan.options.jobs };
    let (tables, note) = zones::tables(&look, &routes, &plan.chosen_tables().collect::<Vec<_>>(), watch)?;
    restored.notes.extend(note);
    let sequences: Vec<Sequence> = look.sequences(watch)?;
    let looked_ms = since.elapsed_ms();
    Ok(TriedOut { restored, tables, sequences, looked_ms, left_behind: None })
}
