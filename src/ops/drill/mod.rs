//! Test restores: does what the snapshot promises come back?
//!
//! Each dump is restored into a database of its own on a server for drills and compared with its manifest: the set of
//! tables, the exact number of rows of each, the checksums of some or of all, where sequences stand. Files are restored,
//! some or all, into a folder for a moment and compared with the snapshot. Or only one table of a dump comes back, among the
//! definitions of all others. What it took is the time that a real restore
//! would take. Nothing is left, whatever happens.

mod compare;
mod files;

pub use compare::{Compared, Difference, MAX_DIFFERENCES};
pub use files::FilesDrill;

use super::dumps::{self, DumpEntry};
use super::record::Record;
use super::restore_database::{Heard, dump_name};
use super::walk::show;
use super::{Context, Error, Result};
use crate::base::clock::Stopwatch;
use crate::base::{Event, Kind, Problem, random};
use crate::db::Watch;
use crate::format::dump::{Manifest, Table};
use crate::format::run::Outcome as RunOutcome;
use crate::format::snapshot::Snapshot;
use crate::target::dump::{self, DrillServer, Restored};
use std::collections::HashSet;
use std::path::PathBuf;

/// How much is compared byte for byte.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Sample {
    /// So many of a hundred tables and files, chosen by lot, at least one of each.
    Percent(f64),
    /// Everything.
    Full,
}

/// What to try.
#[derive(Debug)]
pub struct Options {
    /// Servers to try on, one for each family at most.
    pub servers: Vec<Box<dyn DrillServer>>,
    /// Which dumps.
    pub dumps: Dumps,
    /// Also on the server that a dump was taken from.
    pub allow_source_server: bool,
    /// How much is compared byte for byte.
    pub sample: Sample,
    /// Whether files are tried too.
    pub files: bool,
    /// Where files lie for a moment: a folder that only we can read.
    pub temp_dir: PathBuf,
    /// What other drills have brought back of this very snapshot.
    pub back: Back,
}

/// What of a snapshot came back as promised, or is not in it at all.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Back {
    /// All of its dumps.
    pub databases: bool,
    /// Its files: some or all of them, as the sample says.
    pub files: bool,
}

impl Back {
    /// Whether nothing of the snapshot was left untried.
    pub fn is_all(self) -> bool {
        self.databases && self.files
    }

    /// Either's.
    #[must_use]
    pub fn and(self, other: Back) -> Back {
        Back { databases: self.databases || other.databases, files: self.files || other.files }
    }
}

/// Which dumps are tried, and how much of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Dumps {
    /// None.
    None,
    /// Whole ones: of these names or databases; all if empty.
    Whole(Vec<String>),
    /// Single tables.
    Tables {
        /// Of these dumps, as above.
        databases: Vec<String>,
        /// `SCHEMA.TABLE` or `TABLE`; if empty, one of each dump by lot.
        tables: Vec<String>,
    },
}

impl Dumps {
    fn names(&self) -> &[String] {
        match self {
            Dumps::None => &[],
            Dumps::Whole(databases) | Dumps::Tables { databases, .. } => databases,
        }
    }
}

/// How the drill of one database ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ended {
    /// It came back as promised.
    Same,
    /// It came back, and something is not as promised.
    Different,
    /// It did not come back.
    Failed {
        /// Why.
        message: String,
        /// The kind of failure.
        kind: Kind,
    },
}

/// The drill of one database.
#[derive(Clone, Debug)]
pub struct DatabaseDrill {
    /// The dump's directory in the snapshot.
    pub path: Vec<u8>,
    /// The database that was dumped.
    pub database: String,
    /// The server it was tried on.
    pub server: String,
    /// How it ended.
    pub ended: Ended,
    /// What was restored, if it came back.
    pub restored: Option<Restored>,
    /// What was compared.
    pub compared: Compared,
    /// How long the restore took, in milliseconds.
    pub restore_ms: u64,
    /// How long comparing took, in milliseconds.
    pub compare_ms: u64,
    /// What could not be dropped.
    pub left_behind: Option<String>,
}

/// What became of it.
#[derive(Clone, Debug, Default)]
pub struct Outcome {
    /// The databases, in the order of their dumps.
    pub databases: Vec<DatabaseDrill>,
    /// The files, if the snapshot has any and they were asked for.
    pub files: Option<FilesDrill>,
    /// Databases of earlier drills that died, dropped now.
    pub swept: Vec<String>,
    /// What differs in all.
    pub difference_count: u64,
    /// How many databases did not come back.
    pub failed: u64,
    /// How long all of it took, in milliseconds.
    pub duration_ms: u64,
    /// What is worth knowing and not wrong.
    pub notes: Vec<String>,
    /// What of the snapshot came back, in this drill or in those before it.
    pub back: Back,
}

impl Outcome {
    /// What exit code and alarm need to know; none if all came back as promised.
    pub fn kind(&self) -> Option<Kind> {
        let failed = self.databases.iter().find_map(|drill| match &drill.ended {
            Ended::Failed { kind, .. } => Some(*kind),
            _ => None,
        });
        if self.difference_count > 0 { Some(Kind::Damaged) } else { failed }
    }
}

/// Tries a snapshot out.
pub fn drill(context: &Context, snapshot: &Snapshot, options: &Options) -> Result<Outcome> {
    let mut record = Record::begin(context, "drill");
    record.snapshot(snapshot.id);
    let (session, _) = context.read_session("drill")?;
    if let Some(session) = &session {
        record.session(session.id());
    }
    let since = Stopwatch::start();
    let done = run(context, snapshot, options).map_err(dumps::lost);
    let done = done.map(|outcome| Outcome { duration_ms: since.elapsed_ms(), ..outcome });
    match &done {
        Err(error) => record.save_failure(context, error),
        Ok(outcome) => {
            note_down(&mut record, outcome);
            let ended = match outcome.kind() {
                None => RunOutcome::Done,
                Some(Kind::Damaged) => RunOutcome::Damage,
                Some(_) => RunOutcome::Failed,
            };
            // A single table proves nothing of the others, and files nothing of databases.
            if outcome.back.is_all()
                && let Err(error) = record.drilled(context, snapshot.id)
            {
                context.monitor.event(Event::Note(&format!("that it came back could not be noted down: {error}")));
            }
            if let Err(error) = record.save(context, ended) {
                context.monitor.event(Event::Note(&format!("no record of this drill could be stored: {error}")));
            }
        }
    }
    done
}

fn note_down(record: &mut Record, outcome: &Outcome) {
    let sum = |of: fn(&DatabaseDrill) -> u64| outcome.databases.iter().map(of).sum::<u64>();
    let files = outcome.files.clone().unwrap_or_default();
    for (name, value) in [
        ("databases", outcome.databases.len() as u64),
        ("tables", sum(|drill| drill.compared.tables)),
        ("rows", sum(|drill| drill.compared.rows)),
        ("checksums", sum(|drill| drill.compared.checksums)),
        ("restore_ms", sum(|drill| drill.restore_ms)),
        ("files", files.files),
        ("file_bytes", files.bytes),
        ("differences", outcome.difference_count),
        ("duration_ms", outcome.duration_ms),
    ] {
        record.figure(name, value);
    }
    for drill in &outcome.databases {
        if let Ended::Failed { message, kind } = &drill.ended {
            record.problems(&[Problem::new(&drill.database, message, *kind)]);
        }
        record.problems(&problems(&drill.database, &drill.compared.differences));
        let left = drill.left_behind.iter().map(|left| Problem::new(&drill.server, left, Kind::Target));
        record.problems(&left.collect::<Vec<_>>());
    }
    record.problems(&problems("files", &files.differences));
}

fn problems(of: &str, differences: &[Difference]) -> Vec<Problem> {
    let problem = |one: &Difference| Problem::new(format!("{of}: {}", one.object), &one.message, Kind::Damaged);
    differences.iter().map(problem).collect()
}

fn run(context: &Context, snapshot: &Snapshot, options: &Options) -> Result<Outcome> {
    let watch = Watch { stop: context.stop.clone(), monitor: context.monitor.clone() };
    let entries = chosen(context, snapshot, options)?;
    let servers = servers(snapshot, &entries, options, &watch)?;
    let databases = is_every_dump(snapshot, options, entries.len());
    let mut outcome = Outcome::default();
    for server in options.servers.iter().filter(|_| options.dumps != Dumps::None) {
        context.monitor.event(Event::Phase("looking for what earlier drills left behind"));
        outcome.swept.extend(server.sweep(&watch)?);
    }
    for (entry, server) in entries.into_iter().zip(servers) {
        context.check_stop()?;
        let drill = database(context, snapshot, entry, server, options, &watch)?;
        outcome.difference_count += drill.compared.difference_count;
        outcome.failed += u64::from(matches!(drill.ended, Ended::Failed { .. }));
        outcome.databases.push(drill);
    }
    if options.files && has_files(snapshot) {
        context.check_stop()?;
        let files = files::drill(context, snapshot, options.sample, &options.temp_dir)?;
        outcome.difference_count += files.difference_count;
        outcome.notes.extend(files.notes.iter().cloned());
        outcome.files = Some(files);
    }
    if outcome.kind().is_none() {
        let files = outcome.files.is_some() || !has_files(snapshot);
        outcome.back = options.back.and(Back { databases, files });
    }
    Ok(outcome)
}

/// Whether these are all dumps of the snapshot, each whole.
fn is_every_dump(snapshot: &Snapshot, options: &Options, chosen: usize) -> bool {
    !matches!(options.dumps, Dumps::Tables { .. }) && snapshot.dumps.len() == chosen
}

/// Whether there is something besides dumps.
fn has_files(snapshot: &Snapshot) -> bool {
    snapshot.kinds.is_empty() || snapshot.kinds.iter().any(|kind| kind != "db")
}

/// The dumps that are tried.
fn chosen(context: &Context, snapshot: &Snapshot, options: &Options) -> Result<Vec<DumpEntry>> {
    if options.dumps == Dumps::None {
        return Ok(Vec::new());
    }
    let mut entries = dumps::dumps_of(context, snapshot)?;
    let is_meant = |entry: &DumpEntry, name: &str| {
        dump_name(entry) == name || entry.manifest.database == name || show(&entry.path) == name
    };
    let names = options.dumps.names();
    for name in names {
        if !entries.iter().any(|entry| is_meant(entry, name)) {
            let id = snapshot.id.short();
            let names: Vec<String> = entries.iter().map(dump_name).collect();
            let names = if names.is_empty() { "none".to_owned() } else { names.join(", ") };
            return Err(Error::NotFound(format!("snapshot {id} holds no dump {name:?}; it holds {names}")));
        }
    }
    if !names.is_empty() {
        entries.retain(|entry| names.iter().any(|name| is_meant(entry, name)));
    }
    if let Dumps::Tables { tables, .. } = &options.dumps {
        for name in tables {
            if !entries.iter().any(|entry| entry.manifest.tables.iter().any(|table| is_called(table, name))) {
                let id = snapshot.id.short();
                return Err(Error::NotFound(format!("no dump in snapshot {id} holds a table {name:?}")));
            }
        }
        entries.retain(|entry| !rows_of(&entry.manifest, tables).is_empty());
    }
    Ok(entries)
}

fn is_called(table: &Table, name: &str) -> bool {
    table.stream.is_some() && (table.name == name || format!("{}.{}", table.schema, table.name) == name)
}

/// The tables of a dump whose rows come back: those of these names, or one by lot.
fn rows_of<'m>(manifest: &'m Manifest, names: &[String]) -> Vec<&'m Table> {
    let mut tables: Vec<&Table> = manifest.tables.iter().filter(|table| table.stream.is_some()).collect();
    if names.is_empty() {
        // Those with rows first: an empty table proves little.
        tables.sort_by_cached_key(|table| (table.rows == 0, random::bytes::<8>()));
        tables.truncate(1);
    } else {
        tables.retain(|table| names.iter().any(|name| is_called(table, name)));
    }
    tables
}

/// The server for each dump. Refuses the one that it was taken from before anything is made anywhere.
fn servers<'o>(
    snapshot: &Snapshot,
    entries: &[DumpEntry],
    options: &'o Options,
    watch: &Watch,
) -> Result<Vec<&'o dyn DrillServer>> {
    let mut found = Vec::new();
    for entry in entries {
        let kind = entry.manifest.kind;
        let server = options.servers.iter().find(|server| server.kind() == kind).ok_or_else(|| {
            let (id, name) = (snapshot.id.short(), dump_name(entry));
            Error::Usage(format!(
                "snapshot {id} holds the {} dump {name}: name a server to try it on, --server URL, which should not be \
                 the one that it was taken from",
                kind.name()
            ))
        })?;
        let identity = server.identity(watch)?;
        if !options.allow_source_server && identity == entry.manifest.server.identity {
            return Err(Error::Refused(format!(
                "{} is the server that the dump of {} was taken from: name another one, or add --allow-source-server \
                 if its load does not matter",
                server.label(),
                entry.manifest.database
            )));
        }
        found.push(&**server);
    }
    Ok(found)
}

/// One database. That it does not come back is an outcome; only who asks to stop ends all.
fn database(
    context: &Context,
    snapshot: &Snapshot,
    entry: DumpEntry,
    server: &dyn DrillServer,
    options: &Options,
    watch: &Watch,
) -> Result<DatabaseDrill> {
    let (path, manifest) = (entry.path.clone(), entry.manifest.clone());
    context.monitor.event(Event::Current(&manifest.database));
    let stored = Heard::new(dumps::stored(context, snapshot, entry)?);
    let promised = match &options.dumps {
        Dumps::Tables { tables, .. } => of_tables(&manifest, &rows_of(&manifest, tables)),
        _ => manifest.clone(),
    };
    let is_part = promised.tables.len() < manifest.tables.len();
    // A table that comes back alone is compared whole.
    let summed = sampled(&promised, if is_part { Sample::Full } else { options.sample });
    let is_summed = |table: &Table| summed.contains(&(table.schema.as_str(), table.name.as_str()));
    let tables: Vec<&Table> = promised.tables.iter().collect();
    let what = dump::Sample { tables: is_part.then_some(&tables[..]), sums: &is_summed };
    let tried = stored.judge(server.try_out(&stored, what, watch));
    let mut drill = DatabaseDrill {
        path,
        database: manifest.database.clone(),
        server: server.label(),
        ended: Ended::Same,
        restored: None,
        compared: Compared::default(),
        restore_ms: 0,
        compare_ms: 0,
        left_behind: None,
    };
    match tried {
        Err(error) if error.kind() == Kind::Interrupted => return Err(error),
        Err(error) => {
            drill.ended = Ended::Failed { message: error.to_string(), kind: error.kind() };
        }
        Ok(mut tried) => {
            if is_part {
                let is_tried =
                    |table: &Table| tables.iter().any(|one| (&one.schema, &one.name) == (&table.schema, &table.name));
                tried.tables.retain(is_tried);
            }
            drill.compared = compare::compare(&promised, &tried);
            if drill.compared.difference_count > 0 {
                drill.ended = Ended::Different;
            }
            drill.restore_ms = tried.restored.steps.iter().map(|step| step.duration_ms).sum();
            drill.compare_ms = tried.looked_ms;
            drill.left_behind = tried.left_behind;
            drill.restored = Some(tried.restored);
        }
    }
    Ok(drill)
}

/// What a dump promises of some of its tables.
fn of_tables(manifest: &Manifest, tables: &[&Table]) -> Manifest {
    Manifest { tables: tables.iter().map(|table| (*table).clone()).collect(), ..manifest.clone() }
}

/// The tables that are read again, by schema and name.
fn sampled(manifest: &Manifest, sample: Sample) -> HashSet<(&str, &str)> {
    let mut tables: Vec<&Table> = manifest.tables.iter().filter(|table| table.checksum.is_some()).collect();
    let name = |table: &'_ &Table| (table.schema.clone(), table.name.clone());
    let count = match sample {
        Sample::Full => tables.len(),
        Sample::Percent(percent) => wanted(tables.len() as u64, percent) as usize,
    };
    // Those with rows first: an empty table proves little.
    tables.sort_by_cached_key(|table| (table.rows == 0, random::bytes::<8>(), name(table)));
    tables.into_iter().take(count).map(|table| (table.schema.as_str(), table.name.as_str())).collect()
}

/// So many of a hundred, at least one if there is one.
fn wanted(of: u64, percent: f64) -> u64 {
    let share = (of as f64 * percent / 100.0).ceil();
    // A share of a count that fits in a number fits as well.
    (share as u64).clamp(u64::from(of > 0), of)
}
