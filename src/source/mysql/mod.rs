//! Databases of MySQL and MariaDB as sources.
//!
//! A dump is made of streams that are SQL, each complete in itself:
//!
//! | stream | role | what |
//! | --- | --- | --- |
//! | `schema.sql` | pre-data | tables and sequences, without where their counters stand |
//! | `data/TABLE.sql` | data | the rows of one table, one a line |
//! | `routines.sql` | post-data | triggers, events, procedures, functions |
//! | `views.sql` | post-data | views |
//! | `counters.sql` | post-data | where `AUTO_INCREMENT` and sequences stand |
//! | `users.sql` | globals | users, roles and grants of the server, if we may see them |
//!
//! What changes every night stays out of what does not: dates, and counters, which have a stream of their own. All rows
//! come out of one run of the dump program and one transaction. Tables whose engine knows no transactions are taken as
//! they are when their turn comes, and named.

mod definitions;
mod events;
mod layout;
mod moment;
mod reader;
mod users;

use crate::base::{Event, Kind};
use crate::db::mysql;
use crate::db::mysql::quote::file_name;
use crate::db::mysql::{Address, Facts, Session};
use crate::db::probe::Probe;
use crate::db::{Error, Result, Watch};
use crate::format::dump::DumpKind;
use crate::source::dump::{Dump, DumpSource};
use std::time::Duration;

/// What of a database is taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// Only tables and views that one of these patterns (`*`, `?`) covers; all if there is none. Then events, procedures
    /// and functions are left out.
    pub include: Vec<String>,
    /// Not those that one of these covers.
    pub exclude: Vec<String>,
    /// Of these the definitions only.
    pub exclude_data: Vec<String>,
    /// Definitions without rows.
    pub schema_only: bool,
    /// Rows without definitions.
    pub data_only: bool,
    /// Users, roles and grants of the server too, if we may see them.
    pub users: bool,
    /// How long a table that somebody else has locked is waited for.
    pub lock_timeout: Duration,
}

impl Default for Options {
    fn default() -> Options {
        Options {
            include: Vec::new(),
            exclude: Vec::new(),
            exclude_data: Vec::new(),
            schema_only: false,
            data_only: false,
            users: true,
            lock_timeout: Duration::from_secs(60),
        }
    }
}

impl Options {
    /// Whether everything in the database is taken.
    fn is_whole(&self) -> bool {
        self.include.is_empty() && self.exclude.is_empty()
    }

    /// Whether procedures, functions and events are.
    fn takes_routines(&self) -> bool {
        self.is_whole() && !self.data_only
    }

    /// As options of the command line say it.
    fn as_words(&self) -> Vec<String> {
        let mut words: Vec<String> = Vec::new();
        words.extend(self.include.iter().map(|pattern| format!("--include-table {pattern}")));
        words.extend(self.exclude.iter().map(|pattern| format!("--exclude-table {pattern}")));
        words.extend(self.exclude_data.iter().map(|pattern| format!("--exclude-table-data {pattern}")));
        words.extend(self.schema_only.then(|| "--schema-only".to_owned()));
        words.extend(self.data_only.then(|| "--data-only".to_owned()));
        words
    }
}

/// A database of a MySQL or MariaDB server.
#[derive(Debug)]
pub struct Source {
    address: Address,
    options: Options,
    name: String,
}

impl Source {
    /// The database that `address` names.
    pub fn new(address: Address, options: Options) -> Result<Source> {
        if address.database.is_empty() {
            return Err(address.error(Kind::Usage, "no database was named: write mysql://USER@HOST/DATABASE"));
        }
        if options.schema_only && options.data_only {
            return Err(address.error(Kind::Usage, "--schema-only and --data-only leave nothing to dump"));
        }
        let name = file_name(&address.database);
        Ok(Source { address, options, name })
    }

    /// The same with another name for its directory in the snapshot, a plain file name.
    #[must_use]
    pub fn named(self, name: impl Into<String>) -> Source {
        Source { name: name.into(), ..self }
    }

    /// What is taken.
    pub fn options(&self) -> &Options {
        &self.options
    }

    /// Where the server is.
    pub fn address(&self) -> &Address {
        &self.address
    }
}

impl DumpSource for Source {
    fn kind(&self) -> DumpKind {
        DumpKind::Mysql
    }

    fn name(&self) -> &str {
        &self.name
    }

    fn label(&self) -> String {
        self.address.label()
    }

    fn probe(&self, watch: &Watch) -> Result<Option<Probe>> {
        let mut probe = mysql::probe::probe(&self.address, &watch.stop);
        // What is left out need not be readable.
        probe.checks.retain(|check| self.options.takes_routines() || check.name != "routines");
        Ok(Some(probe))
    }

    fn begin(&self, watch: &Watch) -> Result<Box<dyn Dump>> {
        for note in &self.address.notes {
            watch.monitor.event(Event::Note(note));
        }
        let session = Session::open(&self.address, Kind::Source, &watch.stop)?;
        let facts = Facts::ask(&session)?;
        check_rights(&session, &facts, &self.options)?;
        let moment = moment::Moment::take(session, facts, self.options.clone())?;
        // What the dump cannot hold is in its manifest, which nobody reads who does not look for it.
        for note in moment.notes(&[]) {
            watch.monitor.event(Event::Note(&format!("{}: {note}", self.address.label())));
        }
        Ok(Box::new(moment))
    }
}

/// What we may not see is missing in the dump without a word: triggers, for one.
fn check_rights(session: &Session, facts: &Facts, options: &Options) -> Result<()> {
    let user = &facts.server.user;
    let missing = facts.missing_rights().join(", ");
    if !missing.is_empty() {
        let right = format!("{missing} ON {}.*", crate::db::mysql::identifier(&facts.database));
        return Err(lacking(session, facts, &format!("{user} lacks {missing}"), &right, ""));
    }
    match facts.right_to_routines().filter(|_| options.takes_routines()) {
        None => Ok(()),
        Some(right) => {
            let otherwise = ", or leave out routines and events with --include-table '*'";
            Err(lacking(session, facts, &facts.kept_routines(), right, otherwise))
        }
    }
}

fn lacking(session: &Session, facts: &Facts, what: &str, right: &str, otherwise: &str) -> Error {
    let user = &facts.server.user;
    let (name, host) = user.rsplit_once('@').unwrap_or((user, "%"));
    let hint = facts.server.rights.hint();
    session.error(
        Kind::Denied,
        format!(
            "{what}, and the dump would be incomplete without a word; GRANT {right} TO '{name}'@'{host}'{hint}{otherwise}"
        ),
    )
}
