//! The streams that PostgreSQL's own programs write: definitions, large objects, roles.

use super::holder::{Moment, workers_lock_timeout};
use super::{Content, Options, PostgresSource};
use crate::base::Kind;
use crate::base::child::{Ended, Program};
use crate::db::postgres::{ROWS_ZONE, Tool, Tools};
use crate::db::{Error, Result, Watch};
use crate::source::dump::Consume;
use std::io::{self, Read};

/// The word between `\restrict` and `\unrestrict` of a plain dump: random by default, which would make every night's
/// file another one. It guards `psql`, through which we put nothing.
const RESTRICT_KEY: &str = "keepstone";
/// The first minor versions that know the option.
const KNOW_RESTRICT_KEY: [(u32, u32); 5] = [(13, 22), (14, 19), (15, 14), (16, 10), (17, 6)];

/// A stream that a program writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Part {
    Globals,
    PreData,
    LargeObjects,
    PostData,
}

impl Part {
    /// Its path in the dump.
    pub(super) fn path(self) -> &'static str {
        match self {
            Part::Globals => "globals.sql",
            Part::PreData => "pre-data.dump",
            Part::LargeObjects => "large-objects.dump",
            Part::PostData => "post-data.dump",
        }
    }
}

/// Runs the program of one part on a snapshot. Gives what it mentioned.
pub(super) fn read(
    source: &PostgresSource,
    tools: &Tools,
    part: Part,
    arguments: &[String],
    watch: &Watch,
    consume: &mut Consume<'_>,
) -> Result<(u64, Vec<String>)> {
    let tool = if part == Part::Globals { Tool::DumpAll } else { Tool::Dump };
    let program = tools.program(tool, source.address(), &source.address().database).args(arguments);
    // Bounds of partitions and defaults are times as well: no setting of a role makes other definitions of them.
    let program = program.env("PGTZ", ROWS_ZONE);
    let error = |kind, message: String| source.error(kind, message).object(part.path());
    let cannot = |what: &str, cause: io::Error| error(Kind::Source, format!("cannot {what} {}: {cause}", tool.name()));
    let (read, ended) = run(program, watch, consume).map_err(|cause| cannot("run", cause))?;
    if ended.stopped || watch.stop.raised() {
        return Err(error(Kind::Interrupted, "stopped".to_owned()));
    }
    // First what we did not want to read: the program then dies of its broken pipe.
    let bytes = read.map_err(|cause| cannot("keep what was written by", cause))?;
    let said = String::from_utf8_lossy(&ended.errors);
    if !ended.status.success() {
        return Err(failed(error, tool, &said, &ended));
    }
    Ok((bytes, said.lines().map(|line| format!("{}: {line}", part.path())).collect()))
}

/// What reading its output came to, and how the program ended.
fn run(program: Program, watch: &Watch, consume: &mut Consume<'_>) -> io::Result<(io::Result<u64>, Ended)> {
    let mut child = program.start(&watch.stop)?;
    let output = child.take_output().ok_or_else(|| io::Error::other("it has no output"))?;
    let mut output = Whole { inner: output, ended: false };
    let read = consume(&mut output).and_then(|bytes| {
        if output.ended { Ok(bytes) } else { Err(io::Error::other("its output was not read to the end")) }
    });
    drop(output);
    Ok((read, child.finish()?))
}

/// Knows whether all was read.
struct Whole<R> {
    inner: R,
    ended: bool,
}

impl<R: Read> Read for Whole<R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let length = self.inner.read(into)?;
        self.ended |= length == 0 && !into.is_empty();
        Ok(length)
    }
}

fn failed(error: impl Fn(Kind, String) -> Error, tool: Tool, said: &str, ended: &Ended) -> Error {
    let has = |words: &[&str]| words.iter().any(|word| said.contains(word));
    let kind = if has(&["permission denied", "must be superuser", "must be owner"]) {
        Kind::Denied
    } else if has(&["server version mismatch"]) {
        Kind::Unsupported
    } else if has(&[
        "timeout",
        "server closed the connection",
        "terminating connection",
        "connection to server",
        "starting up",
        "recovery",
    ]) {
        Kind::Unavailable
    } else {
        Kind::Source
    };
    let remedy = if has(&["timeout"]) {
        "; somebody waits to alter a table that it needs"
    } else if has(&["max_locks_per_transaction"]) {
        "; raise max_locks_per_transaction of the server and start it again"
    } else if tool == Tool::DumpAll {
        "; leave roles and tablespaces out if this role may not read them"
    } else {
        ""
    };
    let said = said.trim().replace('\n', "; ");
    error(kind, format!("{} failed ({}): {said}{remedy}", tool.name(), ended.status))
}

/// The arguments for one part of the dump of a snapshot. `encoding` is that of the database.
pub(super) fn arguments(
    source: &PostgresSource,
    tools: &Tools,
    part: Part,
    moment: &Moment,
    encoding: &str,
    passwords: bool,
) -> Vec<String> {
    let options = source.options();
    if part == Part::Globals {
        return of_globals(&source.address().database, tools, passwords);
    }
    let mut arguments = vec!["--format=custom".to_owned(), "--compress=0".to_owned()];
    arguments.push(format!("--snapshot={}", moment.snapshot));
    arguments.push(format!("--encoding={}", encoding_of_definitions(encoding)));
    arguments.push(format!("--lock-wait-timeout={}", workers_lock_timeout(options).as_millis().max(1)));
    if part == Part::LargeObjects {
        // The schema of the server's own side tables: none of them is ever dumped, and large objects lie in no schema.
        arguments.extend(["--data-only", "--blobs", "--schema=pg_toast"].map(str::to_owned));
        return arguments;
    }
    let section = if part == Part::PreData { "pre-data" } else { "post-data" };
    arguments.extend([format!("--section={section}"), "--no-blobs".to_owned()]);
    let lists = [
        ("--table", &options.include_tables),
        ("--exclude-table", &options.exclude_tables),
        ("--schema", &options.schemas),
        ("--exclude-schema", &options.exclude_schemas),
        ("--table", &moment.plan.with_partitions),
        ("--exclude-table", &moment.plan.without_partitions),
    ];
    for (name, list) in lists {
        arguments.extend(list.iter().map(|pattern| format!("{name}={pattern}")));
    }
    arguments
}

/// Names are in UTF-8, as in the manifest, whatever a setting of the role asks for. Of a database that does not know what
/// its bytes mean the server could not say it in UTF-8.
fn encoding_of_definitions(of_database: &str) -> &str {
    if of_database == "SQL_ASCII" { of_database } else { "UTF8" }
}

fn of_globals(database: &str, tools: &Tools, passwords: bool) -> Vec<String> {
    let mut arguments = vec!["--globals-only".to_owned(), "--encoding=UTF8".to_owned()];
    // Otherwise it wants to get in to `postgres`, which not every role may. A name that looks like a connection string
    // would be taken for one.
    if !database.contains(['=', ':']) {
        arguments.push(format!("--database={database}"));
    }
    let knows = KNOW_RESTRICT_KEY.iter().find(|(major, _)| *major == tools.major);
    if knows.map_or(tools.major >= 18, |(_, minor)| tools.minor >= *minor) {
        arguments.push(format!("--restrict-key={RESTRICT_KEY}"));
    }
    if !passwords {
        arguments.push("--no-role-passwords".to_owned());
    }
    arguments
}

/// The parts of a dump.
pub(super) fn parts(options: &Options, has_large_objects: bool) -> Vec<Part> {
    let mut parts = Vec::new();
    if options.content != Content::DataOnly {
        parts.extend([Part::PostData, Part::PreData]);
        parts.extend(options.globals.then_some(Part::Globals));
    }
    let wants_large_objects = options.content != Content::SchemaOnly && !options.is_part();
    parts.extend((has_large_objects && wants_large_objects).then_some(Part::LargeObjects));
    parts
}
