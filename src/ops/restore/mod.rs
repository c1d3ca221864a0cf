//! Bytes back to where they came from, or beneath another directory.
//!
//! ```text
//! walk the trees -> make directories, compare what is there        (`plan`)
//!                -> windows of files -> fetch by pack              (`ops::fetch`)
//!                -> temporary file, metadata, final name           (`write`)
//!                -> remove what does not belong there; compare     (`after`, `compare`)
//! ```
//!
//! A file gets its name when every byte of it was written and proven by its blob's name; in a directory that this
//! restore made, which is closed to others until it is finished, when every byte was proven and is about to be written.
//! A file that needs a blob that cannot be read is named as a problem, and what was there before stays. Nothing is removed
//! unless all that was asked for was restored.

mod after;
mod compare;
mod plan;
mod sieve;
#[cfg(test)]
mod tests;
mod write;

use super::browse::{normal, resolve};
use super::hooks::Hooks;
use super::record::Record;
use super::walk::show;
use super::{Context, Result};
use crate::base::{Event, Kind, Problem};
use crate::format::meta::Meta;
use crate::format::run::Outcome as RunOutcome;
use crate::format::snapshot::Snapshot;
use crate::format::tree::Node;
use crate::source::files::Filter;
use crate::target::files::{self, Overwrite, Target};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use write::Shared;

/// What to restore, where to and how.
#[derive(Clone, Debug)]
pub struct Options {
    /// The directory beneath which everything is written; it is made if need be.
    pub target: PathBuf,
    /// A path in the snapshot whose content comes into the target itself, which gets the metadata of that directory if
    /// it has to be made or is the place that it came from. Without it everything comes beneath the target with its whole path.
    pub path: Option<Vec<u8>>,
    /// If there are patterns: only what they match. They see paths in the snapshot.
    pub includes: Filter,
    /// What they match is left out.
    pub excludes: Filter,
    /// What happens to files that are there already.
    pub overwrite: Overwrite,
    /// Remove what is in the restored directories and not in the snapshot.
    pub delete: bool,
    /// Write nothing, only say what would be.
    pub dry_run: bool,
    /// Compare the target with the snapshot afterwards.
    pub verify: bool,
    /// Write long runs of zeros as holes.
    pub sparse: bool,
    /// Keep the numbers of users and groups; otherwise their names count where this machine knows them.
    pub numeric_ids: bool,
    /// Leave everything to whoever restores it.
    pub no_owner: bool,
    /// Commands around it.
    pub hooks: Hooks,
}

impl Options {
    /// Everything into `target`.
    pub fn new(target: PathBuf) -> Options {
        Options {
            target,
            path: None,
            includes: Filter::new(),
            excludes: Filter::new(),
            overwrite: Overwrite::Always,
            delete: false,
            dry_run: false,
            verify: false,
            sparse: true,
            numeric_ids: false,
            no_owner: false,
            hooks: Hooks::default(),
        }
    }
}

/// What became of it.
#[derive(Clone, Debug, Default)]
pub struct Outcome {
    /// Files that were written, whole or in part.
    pub files: u64,
    /// Directories made or gone through.
    pub directories: u64,
    /// Symlinks, fifos, devices.
    pub others: u64,
    /// Further names of files that have several.
    pub links: u64,
    /// Files that had the right content already.
    pub unchanged: u64,
    /// Entries that were kept as they were, as `overwrite` asked for.
    pub skipped: u64,
    /// Entries that were removed.
    pub deleted: u64,
    /// Bytes written.
    pub bytes_written: u64,
    /// Bytes of content of all files that are now as in the snapshot.
    pub bytes: u64,
    /// Files compared afterwards.
    pub verified_files: u64,
    /// Bytes compared afterwards.
    pub verified_bytes: u64,
    /// What could not be restored; the first thousand.
    pub problems: Vec<Problem>,
    /// How many problems there were.
    pub problem_count: u64,
    /// Something in the repository is damaged.
    pub damage: bool,
    /// What is worth knowing and not wrong.
    pub notes: Vec<String>,
    /// Commands after it that failed.
    pub failed_hooks: Vec<String>,
}

/// Restores.
pub fn restore(context: &Context, snapshot: &Snapshot, options: &Options) -> Result<Outcome> {
    let mut record = Record::begin(context, "restore");
    record.snapshot(snapshot.id);
    let session = if options.dry_run { None } else { context.read_session("restore")?.0 };
    if let Some(session) = &session {
        record.session(session.id());
    }
    let done = if options.dry_run { run(context, snapshot, options) } else { hooked(context, snapshot, options) };
    match &done {
        _ if session.is_none() => {}
        Err(error) => record.save_failed_reading(context, error),
        Ok(outcome) => {
            if outcome.damage {
                record.hurt(context);
            }
            figures(&mut record, outcome);
            record.problems(&outcome.problems);
            let problem = |message: &String| Problem::new("command", message, Kind::Source);
            record.problems(&outcome.failed_hooks.iter().map(problem).collect::<Vec<_>>());
            let ended = match outcome.ended() {
                RunOutcome::Done if !outcome.failed_hooks.is_empty() => RunOutcome::Failed,
                ended => ended,
            };
            if let Err(error) = record.save(context, ended) {
                // What was restored is there, whether that can be written down or not.
                context.monitor.event(Event::Note(&format!("no record of this restore could be stored: {error}")));
            }
        }
    }
    done
}

impl Outcome {
    /// How it ended, commands after it left aside.
    fn ended(&self) -> RunOutcome {
        match (self.damage, self.problem_count) {
            (true, _) => RunOutcome::Damage,
            (false, 0) => RunOutcome::Done,
            (false, _) => RunOutcome::Partial,
        }
    }
}

/// The restore with the commands around it.
fn hooked(context: &Context, snapshot: &Snapshot, options: &Options) -> Result<Outcome> {
    let hooks = options.hooks.knowing("KEEPSTONE_TARGET", options.target.to_string_lossy());
    let done = hooks.before(&context.stop).and_then(|()| run(context, snapshot, options));
    let failed_hooks = match &done {
        Ok(outcome) => {
            let first = outcome.problems.first().map_or("", |problem| problem.message.as_str());
            hooks.after(outcome.ended().name(), first)
        }
        Err(error) => hooks.after("failed", &error.to_string()),
    };
    for failed in &failed_hooks {
        context.monitor.event(Event::Problem(&Problem::new("command", failed, Kind::Source)));
    }
    Ok(Outcome { failed_hooks, ..done? })
}

fn figures(record: &mut Record, outcome: &Outcome) {
    for (name, value) in [
        ("files", outcome.files),
        ("unchanged_files", outcome.unchanged),
        ("deleted", outcome.deleted),
        ("written_bytes", outcome.bytes_written),
        ("content_bytes", outcome.bytes),
        ("verified_bytes", outcome.verified_bytes),
        ("problems", outcome.problem_count),
    ] {
        record.figure(name, value);
    }
}

impl Outcome {
    /// Whether there was nothing at all to restore.
    pub fn is_nothing(&self) -> bool {
        let seen = [self.files, self.directories, self.others, self.links, self.unchanged, self.skipped];
        seen.iter().all(|number| *number == 0) && self.problem_count == 0
    }
}

/// What is restored: a directory's tree, or a single entry.
struct Subject {
    /// Its path in the snapshot; empty for the root.
    path: Vec<u8>,
    node: Node,
    /// The target stands for this directory and gets its metadata.
    owns_target: bool,
}

impl Subject {
    /// The metadata that the target itself gets, if any.
    fn target_meta(&self, shared: &Shared) -> Option<Meta> {
        (self.owns_target && self.node.tree.is_some()).then(|| shared.meta(&self.node, (b"", b"")))
    }
}

/// Restores without a session and without a record of its own.
pub(super) fn run(context: &Context, snapshot: &Snapshot, options: &Options) -> Result<Outcome> {
    let path = normal(options.path.as_deref().unwrap_or(b""));
    let node = resolve(context, snapshot, &path)?;
    let owns_target = !path.is_empty() && stands_for(&options.target, &path);
    let subject = Subject { path, node, owns_target };
    let target = open_target(options)?;
    let shared = Arc::new(Shared::new(context, target, options));
    context.monitor.event(Event::Phase(if options.dry_run { "comparing" } else { "restoring" }));
    if subject.path.is_empty() {
        let totals = &snapshot.totals;
        let items = totals.files + totals.directories + totals.others;
        context.monitor.event(Event::Total { items, bytes: totals.bytes, complete: true });
    }
    plan::restore(context, options, &shared, &subject)?;
    shared.check()?;
    if options.delete {
        after::delete(context, snapshot, options, &shared, &subject)?;
    }
    if options.verify && !options.dry_run {
        context.monitor.event(Event::Phase("comparing"));
        compare::verify(context, options, &shared, &subject)?;
    }
    let mut outcome = outcome(&shared);
    if !options.includes.is_empty() && outcome.is_nothing() {
        let anchor = "a pattern that begins with / counts from the top of the snapshot, whatever PATH is given with it";
        outcome.notes.push(format!("nothing in the snapshot matches what was to be included: {anchor}"));
    }
    Ok(outcome)
}

/// Whether the target has to be made for the directory at `path`, or is the very place that it came from. Any other
/// directory keeps the metadata that somebody gave it: a restore into a shared directory must not close it to everybody else.
fn stands_for(target: &Path, path: &[u8]) -> bool {
    match target.canonicalize() {
        Ok(target) => target.as_os_str().as_bytes() == path,
        Err(_) => !target.exists(),
    }
}

/// A dry run makes no directory: if there is none, everything would be new.
fn open_target(options: &Options) -> Result<Option<Target>> {
    if options.dry_run && !options.target.is_dir() {
        return Ok(None);
    }
    let settings = files::Options { overwrite: options.overwrite, delete: options.delete, sparse: options.sparse };
    Ok(Some(Target::open(&options.target, settings)?))
}

fn outcome(shared: &Shared) -> Outcome {
    let counts = &shared.counts;
    let get = |counter: &std::sync::atomic::AtomicU64| counter.load(Ordering::Relaxed);
    let problems = shared.problems();
    let mut notes = shared.notes();
    notes.extend(shared.target.as_ref().map(Target::notes).unwrap_or_default());
    Outcome {
        files: get(&counts.files),
        directories: get(&counts.directories),
        others: get(&counts.others),
        links: get(&counts.links),
        unchanged: get(&counts.unchanged),
        skipped: get(&counts.skipped),
        deleted: get(&counts.deleted),
        bytes_written: get(&counts.bytes_written),
        bytes: get(&counts.bytes),
        verified_files: get(&counts.verified_files),
        verified_bytes: get(&counts.verified_bytes),
        problem_count: problems.count,
        damage: problems.damage,
        problems: problems.first,
        notes,
        failed_hooks: Vec::new(),
    }
}

/// The place of an entry in the target, for messages.
fn target_path(options: &Options, subject: &Subject, path: &[u8]) -> String {
    let beneath = path.get(subject.path.len()..).unwrap_or(path);
    format!("{}{}", options.target.display(), show(beneath))
}
