//! A dump in a snapshot, back to a server.
//!
//! ```text
//! the dump is found -> the name is not protected -> the server is looked at, nothing written
//!   -> every stream that is needed is read and proven (`prove`): to its seals where nothing is seen of what is written
//!      before the names of all were proven too, else to its names at once
//!   -> the command before -> the restore -> the command after, in any case
//! ```

pub mod imported;
mod protect;
mod prove;

pub use protect::{DEFAULT_PATTERNS, Fate, Protection};
use prove::Depth;
pub use prove::Proven;

use super::dumps::{self, DumpEntry};
use super::hooks::Hooks;
use super::record::Record;
use super::walk::show;
use super::{Context, Error, Result};
use crate::base::clock::Stopwatch;
use crate::base::{Event, Kind, Problem};
use crate::db::Watch;
use crate::format::dump::{DumpKind, Manifest};
use crate::format::run::Outcome as RunOutcome;
use crate::format::snapshot::Snapshot;
use crate::repo;
use crate::target::dump::{Checked, DumpTarget, Restored, StoredDump};
use std::io::{self, Read};
use std::sync::{Mutex, PoisonError};

/// What to restore, where to and how.
#[derive(Debug)]
pub struct Options {
    /// The dump's directory or its last name, or the database; none if the snapshot holds only one.
    pub dump: Option<String>,
    /// Where it goes.
    pub target: Box<dyn DumpTarget>,
    /// Which databases are not written by mistake.
    pub protection: Protection,
    /// Commands around it.
    pub hooks: Hooks,
    /// Look at everything, write nothing.
    pub validate_only: bool,
}

/// What became of it.
#[derive(Debug)]
pub struct Outcome {
    /// The dump's directory in the snapshot.
    pub path: Vec<u8>,
    /// What the dump promises.
    pub manifest: Manifest,
    /// What was read before anything was written.
    pub proven: Proven,
    /// What a look at the server found.
    pub checked: Checked,
    /// What was restored; none if that was not asked for.
    pub restored: Option<Restored>,
    /// Commands that failed after a restore that did not.
    pub failed_hooks: Vec<String>,
    /// How long all of it took, in milliseconds.
    pub duration_ms: u64,
}

/// Restores.
pub fn restore_database(context: &Context, snapshot: &Snapshot, options: &Options) -> Result<Outcome> {
    let mut record = Record::begin(context, "restore");
    record.snapshot(snapshot.id);
    let session = if options.validate_only { None } else { context.read_session("restore")?.0 };
    if let Some(session) = &session {
        record.session(session.id());
    }
    let since = Stopwatch::start();
    let done = run(context, snapshot, options).map_err(dumps::lost);
    let done = done.map(|outcome| Outcome { duration_ms: since.elapsed_ms(), ..outcome });
    match &done {
        _ if options.validate_only => {}
        Err(error) => record.save_failed_reading(context, error),
        Ok(outcome) => {
            figures(&mut record, outcome);
            save_record(record, context, &outcome.problems());
        }
    }
    done
}

fn figures(record: &mut Record, outcome: &Outcome) {
    record.figure("verified_bytes", outcome.proven.bytes);
    record.figure("duration_ms", outcome.duration_ms);
    if let Some(restored) = &outcome.restored {
        record.figure("databases", 1);
        record.figure("tables", restored.tables);
        record.figure("rows", restored.rows);
        record.figure("content_bytes", restored.bytes);
        record.figure("sequences", restored.sequences);
    }
}

/// Saves the record of a restore that was done. What was restored is there, whether that can be written down or not.
fn save_record(mut record: Record, context: &Context, problems: &[Problem]) {
    record.problems(problems);
    let ended = if problems.is_empty() { RunOutcome::Done } else { RunOutcome::Failed };
    if let Err(error) = record.save(context, ended) {
        context.monitor.event(Event::Note(&format!("no record of this restore could be stored: {error}")));
    }
}

fn run(context: &Context, snapshot: &Snapshot, options: &Options) -> Result<Outcome> {
    let target = &*options.target;
    let entry = find(context, snapshot, target.kind(), options.dump.as_deref())?;
    if let Some(objection) = options.protection.objection(target.database(), Fate::of(target)) {
        return Err(Error::Refused(objection));
    }
    let (path, manifest) = (entry.path.clone(), entry.manifest.clone());
    let stored = Heard::new(dumps::stored(context, snapshot, entry)?);
    let watch = Watch { stop: context.stop.clone(), monitor: context.monitor.clone() };
    let plan = stored.judge(target.plan(&stored, &watch))?;
    let checked = plan.checked();
    let reads = |stream: &str| plan.reads(stream);
    let proven = prove::prove(context, snapshot, &path, &manifest, &reads, depth(options))?;
    let mut outcome = Outcome {
        path,
        manifest: manifest.clone(),
        proven,
        checked,
        restored: None,
        failed_hooks: Vec::new(),
        duration_ms: 0,
    };
    if options.validate_only {
        return Ok(outcome);
    }
    let write = |()| {
        // Commands change what is there, and in a database that is there somebody may have while the dump was proven.
        let plan = match options.hooks.before.is_empty() && target.lands_whole() {
            true => plan,
            false => stored.judge(target.plan(&stored, &watch))?,
        };
        stored.judge(plan.restore(&stored, &watch))
    };
    let hooks = options.hooks.knowing("KEEPSTONE_DATABASE", target.database());
    let done = hooks.before(&context.stop).and_then(write);
    let failed_hooks = ended(&hooks, &done);
    let left_behind = done.as_ref().ok().and_then(|restored| restored.left_behind.as_deref());
    tell(context, &problems(left_behind, &failed_hooks));
    outcome.restored = Some(done?);
    outcome.failed_hooks = failed_hooks;
    Ok(outcome)
}

impl Outcome {
    /// What did not end well beside what was restored.
    pub fn problems(&self) -> Vec<Problem> {
        let left_behind = self.restored.as_ref().and_then(|restored| restored.left_behind.as_deref());
        problems(left_behind, &self.failed_hooks)
    }
}

fn tell(context: &Context, problems: &[Problem]) {
    problems.iter().for_each(|problem| context.monitor.event(Event::Problem(problem)));
}

/// A replaced database that is still there, and commands that failed.
fn problems(left_behind: Option<&str>, failed_hooks: &[String]) -> Vec<Problem> {
    let left_behind = left_behind.map(|left| {
        let message = format!("the replaced database is still there as {left}");
        Problem::new("database", message, Kind::Target)
    });
    let failed = failed_hooks.iter().map(|message| Problem::new("command", message, Kind::Source));
    left_behind.into_iter().chain(failed).collect()
}

/// Runs the commands that come after it.
fn ended<T>(hooks: &Hooks, done: &Result<T>) -> Vec<String> {
    match done {
        Ok(_) => hooks.after("done", ""),
        Err(error) => hooks.after("failed", &error.to_string()),
    }
}

/// How deep the dump is looked into beforehand. What is restored under another name is proven name by name while it is
/// written, and put in its place behind that; for everything else the proof must come first.
fn depth(options: &Options) -> Depth {
    let nothing_is_seen = options.target.lands_whole() && options.hooks.before.is_empty();
    if nothing_is_seen && !options.validate_only { Depth::Seals } else { Depth::Names }
}

/// The dump of one family that is meant.
fn find(context: &Context, snapshot: &Snapshot, kind: DumpKind, name: Option<&str>) -> Result<DumpEntry> {
    let mut entries = dumps::dumps_of(context, snapshot)?;
    entries.retain(|entry| entry.manifest.kind == kind);
    let what = match kind {
        DumpKind::Postgres => " of PostgreSQL",
        DumpKind::Mysql => " of MySQL or MariaDB",
    };
    pick(snapshot, entries, name, what)
}

/// The dump of any family that is meant.
pub(super) fn find_any(context: &Context, snapshot: &Snapshot, name: Option<&str>) -> Result<DumpEntry> {
    pick(snapshot, dumps::dumps_of(context, snapshot)?, name, " of a database")
}

fn pick(snapshot: &Snapshot, mut entries: Vec<DumpEntry>, name: Option<&str>, what: &str) -> Result<DumpEntry> {
    let id = snapshot.id.short();
    let names: Vec<String> = entries.iter().map(dump_name).collect();
    if entries.is_empty() {
        return Err(Error::NotFound(format!("snapshot {id} holds no dump{what}: see `keepstone show {id}`")));
    }
    if let Some(name) = name {
        let is_meant = |entry: &DumpEntry| {
            dump_name(entry) == name || show(&entry.path) == name || show(&entry.path) == format!("/{name}")
        };
        let exact = entries.iter().position(is_meant);
        let by_database = || {
            let mut fitting = (0..entries.len()).filter(|at| entries[*at].manifest.database == name);
            fitting.next().filter(|_| fitting.next().is_none())
        };
        let place = exact.or_else(by_database).ok_or_else(|| {
            Error::NotFound(format!("snapshot {id} holds no dump {name:?}; it holds {}", names.join(", ")))
        })?;
        return Ok(entries.swap_remove(place));
    }
    if entries.len() > 1 {
        let names = names.join(", ");
        return Err(Error::Usage(format!("snapshot {id} holds several dumps: say which with --database: {names}")));
    }
    Ok(entries.swap_remove(0))
}

/// The last name of the dump's directory.
pub fn dump_name(entry: &DumpEntry) -> String {
    let name = entry.path.rsplit(|byte| *byte == b'/').next().unwrap_or_default();
    String::from_utf8_lossy(name).into_owned()
}

/// A dump whose failures of reading are remembered: to a target they are only errors of input, to us they say whether the
/// repository is damaged.
pub(super) struct Heard {
    inner: dumps::StoredStreams,
    failure: Mutex<Option<repo::Error>>,
}

impl Heard {
    pub fn new(inner: dumps::StoredStreams) -> Heard {
        Heard { inner, failure: Mutex::new(None) }
    }

    fn keep(&self, error: io::Error) -> io::Error {
        match error.downcast::<repo::Error>() {
            Ok(error) => {
                let words = error.to_string();
                self.failure.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(error);
                io::Error::other(words)
            }
            Err(error) => error,
        }
    }

    /// What came of a target's work: what failed in the repository counts before what the target made of it.
    pub fn judge<T>(&self, done: crate::db::Result<T>) -> Result<T> {
        done.map_err(|error| match self.failure.lock().unwrap_or_else(PoisonError::into_inner).take() {
            Some(failure) if failure.kind() == Kind::Damaged => {
                let object = failure.to_string();
                repo::Error::damaged("the dump", format!("{object} ({error})")).into()
            }
            _ => Error::Database(error),
        })
    }
}

impl StoredDump for Heard {
    fn manifest(&self) -> &Manifest {
        self.inner.manifest()
    }

    fn open(&self, path: &str) -> io::Result<Box<dyn Read + Send + '_>> {
        let inner = self.inner.open(path).map_err(|error| self.keep(error))?;
        Ok(Box::new(HeardStream { inner, dump: self }))
    }
}

struct HeardStream<'d> {
    inner: Box<dyn Read + Send + 'd>,
    dump: &'d Heard,
}

impl Read for HeardStream<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.inner.read(buffer).map_err(|error| self.dump.keep(error))
    }
}
