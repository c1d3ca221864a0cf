//! Dumps on their way back: what a database target is given to read, and what it must be able to do.

use crate::base::Event;
use crate::base::clock::Stopwatch;
use crate::db::{Result, Watch};
use crate::format::dump::{DumpKind, Manifest, Sequence, Table};
use std::fmt::Debug;
use std::io::{self, Read};

/// What the names of databases begin with that a drill makes. Nothing else is ever dropped by a drill, and patterns
/// that protect databases do not look at them.
pub const DRILL_PREFIX: &str = "keepstone_drill_";

/// A dump in a snapshot. Its streams were verified before a target sees them, and are read again here: a stream that
/// cannot be read to its end fails, it never just ends.
pub trait StoredDump: Sync {
    /// What it holds and promises.
    fn manifest(&self) -> &Manifest;
    /// Reads a stream by its path beneath the dump's directory. May be called from several threads.
    fn open(&self, path: &str) -> io::Result<Box<dyn Read + Send + '_>>;
}

/// One database of a server, to which a dump goes back, with all that the user chose about the way.
pub trait DumpTarget: Debug + Send + Sync {
    /// Which family of servers.
    fn kind(&self) -> DumpKind;
    /// Server and database for messages, without secrets.
    fn label(&self) -> String;
    /// The database that would be written: protected patterns are compared with it, and a confirmation names it.
    fn database(&self) -> &str;
    /// Whether a database that is there may be dropped for it.
    fn may_drop(&self) -> bool;
    /// Whether a database is made, and one that is there is left as it is.
    fn only_makes(&self) -> bool {
        false
    }
    /// Whether nothing of a restore is to be seen, under the target's name or anywhere else, before all that the dump
    /// holds was read, proven and counted: what breaks off leaves everything as it was.
    fn lands_whole(&self) -> bool {
        false
    }
    /// Looks whether the dump can be restored as it was asked for: versions, programs, rights, roles, what is there
    /// already. Changes nothing.
    fn plan<'p>(&'p self, stored: &'p dyn StoredDump, watch: &Watch) -> Result<Box<dyn PlannedRestore + 'p>>;
    /// The look alone.
    fn check(&self, stored: &dyn StoredDump, watch: &Watch) -> Result<Checked> {
        Ok(self.plan(stored, watch)?.checked())
    }
    /// Looks and restores.
    fn restore(&self, stored: &dyn StoredDump, watch: &Watch) -> Result<Restored> {
        self.plan(stored, watch)?.restore(stored, watch)
    }
}

/// A restore that nothing stood against when it was looked at.
pub trait PlannedRestore {
    /// What the look found.
    fn checked(&self) -> Checked;
    /// Whether a stream of the dump will be read, by its path; only those are verified first.
    fn reads(&self, _path: &str) -> bool {
        true
    }
    /// Does it. Rows are counted while they are written; another number than the manifest's is a failure. A failure says
    /// what state the target is in.
    fn restore(&self, stored: &dyn StoredDump, watch: &Watch) -> Result<Restored>;
}

/// What a look at a target found. What forbids the restore is an error instead.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Checked {
    /// The server's product and version.
    pub server: String,
    /// The client program that would be used.
    pub client: String,
    /// What would happen, one sentence each.
    pub plan: Vec<String>,
    /// What is worth knowing and forbids nothing.
    pub notes: Vec<String>,
}

/// A part of a restore and how long it took.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Step {
    /// What was done: `pre-data`, `data`, `post-data`, `analyze`, …
    pub name: String,
    /// How long it took, in milliseconds.
    pub duration_ms: u64,
}

/// What was restored.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Restored {
    /// The server's product and version.
    pub server: String,
    /// The database that holds it now.
    pub database: String,
    /// Whether the database was made for it.
    pub created: bool,
    /// Whether one of its name was there and was dropped.
    pub replaced: bool,
    /// Tables whose rows were written.
    pub tables: u64,
    /// Rows written; what the server counted.
    pub rows: u64,
    /// Bytes of rows.
    pub bytes: u64,
    /// Sequences set.
    pub sequences: u64,
    /// What was done, in order.
    pub steps: Vec<Step>,
    /// What is worth knowing: objects left out, owners that stayed as they were, …
    pub notes: Vec<String>,
    /// The database that was replaced, if it could not be dropped, and why.
    pub left_behind: Option<String>,
}

impl Restored {
    /// Does one step, announced and timed; one that fails is not listed.
    pub fn step(&mut self, name: &str, watch: &Watch, work: impl FnOnce(&mut Restored) -> Result<()>) -> Result<()> {
        watch.monitor.event(Event::Phase(&format!("restoring {name}")));
        let since = Stopwatch::start();
        work(self)?;
        self.steps.push(Step { name: name.to_owned(), duration_ms: since.elapsed_ms() });
        Ok(())
    }
}

/// What of a dump was written as one stream.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Exported {
    /// Tables with rows.
    pub tables: u64,
    /// Rows, as the manifest counts them.
    pub rows: u64,
    /// Bytes of rows.
    pub bytes: u64,
}

impl Exported {
    /// One more table with so many bytes of rows.
    pub fn add(&mut self, table: &Table, bytes: u64) {
        self.tables += 1;
        self.rows += table.rows;
        self.bytes += bytes;
    }
}

/// A server on which dumps are tried out in databases of their own.
pub trait DrillServer: Debug + Send + Sync {
    /// Which family of servers.
    fn kind(&self) -> DumpKind;
    /// The server for messages, without secrets.
    fn label(&self) -> String;
    /// What tells it from every other server, as [`crate::format::dump::Server::identity`] has it.
    fn identity(&self, watch: &Watch) -> Result<String>;
    /// Drops databases that drills left behind which died: they have [`DRILL_PREFIX`] and nobody uses them. Answers with
    /// their names.
    fn sweep(&self, watch: &Watch) -> Result<Vec<String>>;
    /// Restores into a new database whose name begins with [`DRILL_PREFIX`], looks what is there, and drops it again, even
    /// after a failure and when somebody asked to stop. `what` says which rows are written and looked at.
    fn try_out(&self, stored: &dyn StoredDump, what: Sample<'_>, watch: &Watch) -> Result<TriedOut>;
}

/// Which rows a drill writes, and which it reads again.
#[derive(Clone, Copy)]
pub struct Sample<'s> {
    /// Definitions of everything are made, and the rows of these tables alone are written; none for all.
    pub tables: Option<&'s [&'s Table]>,
    /// Which tables are read again for their checksums.
    pub sums: &'s dyn Fn(&Table) -> bool,
}

impl<'s> Sample<'s> {
    /// Everything is written.
    pub fn whole(sums: &'s dyn Fn(&Table) -> bool) -> Sample<'s> {
        Sample { tables: None, sums }
    }
}

/// What a drill saw.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TriedOut {
    /// What was restored, and how long it took.
    pub restored: Restored,
    /// Every table that was there: its rows as the server counts them, its checksum where it was asked for.
    pub tables: Vec<Table>,
    /// Every sequence and where it stood.
    pub sequences: Vec<Sequence>,
    /// How long looking took, in milliseconds.
    pub looked_ms: u64,
    /// The database, if it could not be dropped, and why.
    pub left_behind: Option<String>,
}
