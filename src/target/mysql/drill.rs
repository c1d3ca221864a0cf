//! Drills: a dump restored into a database of its own, looked at, and dropped again.
//!
//! Events are left out: they would begin to run. Routines and views belong to whoever drills.

use super::plan::Plan;
use super::{Destination, Options, look, restore};
use crate::base::child::Child;
use crate::base::clock::Stopwatch;
use crate::base::{Event, Kind, random};
use crate::db::mysql::tools::Family;
use crate::db::mysql::{Address, Claim, ServerFacts, Session, literal};
use crate::db::{Error, Result, Watch};
use crate::format::dump::{DumpKind, Table};
use crate::target::dump::{DRILL_PREFIX, DrillServer, Restored, Sample, StoredDump, TriedOut};

/// A MySQL or MariaDB server for drills.
#[derive(Clone, Debug)]
pub struct Drill {
    /// The server; the database in it does not matter.
    pub address: Address,
    /// Sessions side by side.
    pub jobs: usize,
}

impl Drill {
    fn session(&self, watch: &Watch) -> Result<Session> {
        Session::open(&self.address.with_database(""), Kind::Target, &watch.stop)
    }
}

impl DrillServer for Drill {
    fn kind(&self) -> DumpKind {
        DumpKind::Mysql
    }

    fn label(&self) -> String {
        self.address.server()
    }

    fn identity(&self, watch: &Watch) -> Result<String> {
        Ok(ServerFacts::ask(&self.session(watch)?)?.identity)
    }

    fn sweep(&self, watch: &Watch) -> Result<Vec<String>> {
        let session = self.session(watch)?;
        // A drill that lives holds the lock of its database's name, and where there are no such locks keeps a session in it.
        let pattern = literal(&DRILL_PREFIX.replace('_', "\\_")).replace("\\\\", "\\");
        let pattern = format!("{}%'", pattern.trim_end_matches('\''));
        let left = session.column(&format!(
            "SELECT schema_name FROM information_schema.schemata WHERE schema_name LIKE {pattern} AND schema_name NOT IN \
             (SELECT db FROM information_schema.processlist WHERE db IS NOT NULL) AND COALESCE(IS_FREE_LOCK(schema_name), 1) = 1"
        ))?;
        for name in &left {
            assert!(name.starts_with(DRILL_PREFIX), "only what drills made is dropped");
            restore::remove(&session, name)?;
        }
        Ok(left)
    }

    fn try_out(&self, stored: &dyn StoredDump, what: Sample<'_>, watch: &Watch) -> Result<TriedOut> {
        let options = Options {
            destination: Destination::Create,
            owners: false,
            events: false,
            analyze: false,
            jobs: self.jobs,
            rows_of: what.tables.map(|tables| tables.iter().map(|table| table.name.clone()).collect()),
            ..Options::default()
        };
        let name = format!("{DRILL_PREFIX}{:016x}", u64::from_le_bytes(random::bytes()));
        let plan = Plan::make(&self.address.with_database(&name), &options, stored, watch)?;
        let _claim = Claim::of(&name, &plan.server)?;
        let seen = restore::make(&plan).and_then(|()| look(&plan, stored, what.sums, watch));
        let left_behind = restore::remove(&plan.server, &name).err();
        let left_behind = left_behind.map(|error| format!("{name} could not be dropped: {error}"));
        match seen {
            Ok(seen) => Ok(TriedOut { left_behind, ..seen }),
            Err(error) => Err(match left_behind {
                Some(left) => Error { message: format!("{}; {left}", error.message), ..error },
                None => error,
            }),
        }
    }
}

/// Fills the database and looks what is in it.
fn look(plan: &Plan<'_>, stored: &dyn StoredDump, sums: &dyn Fn(&Table) -> bool, watch: &Watch) -> Result<TriedOut> {
    let session = plan.session()?;
    let _keeper = keeper(&session)?;
    let mut restored = Restored { created: true, ..restore::begin(plan) };
    restored.notes.retain(|note| !note.starts_with("users and grants"));
    restore::into(plan, stored, watch, &mut restored)?;
    watch.monitor.event(Event::Phase("comparing"));
    let since = Stopwatch::start();
    let mut wanted: Vec<&str> =
        plan.manifest.tables.iter().filter(|table| sums(table)).map(|table| table.name.as_str()).collect();
    let (before, now) = (Family::of_version(&plan.manifest.client), plan.server.tools().dump.family);
    if before != now && !wanted.is_empty() {
        let (before, now) = (before.product(), now.product());
        restored
            .notes
            .push(format!("no checksums compared: {before}'s and {now}'s programs write the same rows otherwise"));
        wanted.clear();
    }
    let anew = restore::begun_anew(plan, &session)?;
    wanted.retain(|name| !anew.iter().any(|table| table == name));
    let tables = look::tables(&session, &wanted)?;
    let sequences = look::sequences(&session)?;
    let looked_ms = since.elapsed_ms();
    Ok(TriedOut { restored, tables, sequences, looked_ms, left_behind: None })
}

/// A session that does nothing but be there for as long as it is held.
fn keeper(session: &Session) -> Result<Child> {
    session.start(session.client().args(["--batch"]).with_input())
}
