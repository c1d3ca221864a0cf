//! A file that already was a dump, back to a server.
//!
//! ```text
//! the file is found -> read to its end and looked into: whole, of a form that fits -> the name is not protected
//!   -> the server is looked at -> the command before -> the restore, all or nothing -> the command after, in any case
//! ```

use super::super::browse::{normal, reader, repo_error, resolve};
use super::super::content::Content;
use super::super::dumps;
use super::super::hooks::Hooks;
use super::super::record::Record;
use super::super::walk::show;
use super::super::{Context, Error, Result};
use super::{Fate, Protection, ended, problems, save_record, tell};
use crate::base::clock::Stopwatch;
use crate::base::{Event, Kind, Problem};
use crate::db::mysql::feed::{Ending, feed};
use crate::db::mysql::{self, ServerFacts, Session};
use crate::db::{self, Watch};
use crate::format::snapshot::Snapshot;
use crate::format::tree::{Node, NodeKind};
use crate::source::imported::{DumpReport, Format, Inspector};
use crate::target::postgres;
use crate::target::postgres::imported::{Done, Form};
use std::io::Read;

/// How much is read at once while a dump is looked into.
const PIECE_BYTES: usize = 256 << 10;

/// Where an imported dump goes.
#[derive(Debug)]
pub enum Target {
    /// Into a database of PostgreSQL.
    Postgres(Box<postgres::Target>),
    /// Into a database of MySQL or MariaDB; the flag says that it is to be made.
    Mysql(Box<mysql::Address>, bool),
}

/// What to restore, where to and how.
#[derive(Debug)]
pub struct Options {
    /// The file's place in the snapshot.
    pub path: Vec<u8>,
    /// Where it goes.
    pub target: Target,
    /// SQL may run as the user that restores.
    pub trust_sql: bool,
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
    /// What was found in the file.
    pub report: DumpReport,
    /// Product and version of the server.
    pub server: String,
    /// The program that restores.
    pub client: String,
    /// What was done; none if that was not asked for.
    pub done: Option<Done>,
    /// Commands that failed after a restore that did not.
    pub failed_hooks: Vec<String>,
    /// How long all of it took, in milliseconds.
    pub duration_ms: u64,
}

impl Target {
    /// The database.
    pub fn database(&self) -> &str {
        match self {
            Target::Postgres(target) => &target.address.database,
            Target::Mysql(address, _) => &address.database,
        }
    }

    /// Server and database, without secrets.
    pub fn label(&self) -> String {
        match self {
            Target::Postgres(target) => target.address.label(),
            Target::Mysql(address, _) => address.label(),
        }
    }

    /// What becomes of a database that is there.
    fn fate(&self) -> Fate {
        match self {
            Target::Postgres(target) => Fate::of(&**target),
            Target::Mysql(_, true) => Fate::Untouched,
            Target::Mysql(_, false) => Fate::Filled,
        }
    }
}

/// Restores.
pub fn restore_imported(context: &Context, snapshot: &Snapshot, options: &Options) -> Result<Outcome> {
    let mut record = Record::begin(context, "restore");
    record.snapshot(snapshot.id);
    let session = if options.validate_only { None } else { context.read_session("restore")?.0 };
    if let Some(session) = &session {
        record.session(session.id());
    }
    let since = Stopwatch::start();
    let done = run(context, snapshot, options).map(|outcome| Outcome { duration_ms: since.elapsed_ms(), ..outcome });
    match &done {
        _ if options.validate_only => {}
        Err(error) => record.save_failure(context, error),
        Ok(outcome) => {
            record.figure("databases", 1);
            record.figure("tables", outcome.report.table_count);
            record.figure("rows", outcome.report.rows);
            record.figure("duration_ms", outcome.duration_ms);
            save_record(record, context, &outcome.problems());
        }
    }
    done
}

fn run(context: &Context, snapshot: &Snapshot, options: &Options) -> Result<Outcome> {
    let name = show(&normal(&options.path));
    let node = resolve(context, snapshot, &options.path)?;
    check_is_file(context, snapshot, &node, &name)?;
    context.monitor.event(Event::Phase("verifying the dump"));
    let report = look_into(context, &node, &name)?;
    fits(&report, options, &name)?;
    stays(&report, options, &name)?;
    if let Some(objection) = options.protection.objection(options.target.database(), options.target.fate()) {
        return Err(Error::Refused(objection));
    }
    let watch = Watch { stop: context.stop.clone(), monitor: context.monitor.clone() };
    match &options.target {
        Target::Postgres(target) => to_postgres(context, &node, report, target, options, &watch),
        Target::Mysql(address, create) => to_mysql(context, &node, report, address, *create, options, &watch),
    }
}

fn check_is_file(context: &Context, snapshot: &Snapshot, node: &Node, name: &str) -> Result<()> {
    match node.kind {
        NodeKind::File => Ok(()),
        NodeKind::Directory if is_dump(context, snapshot, name)? => Err(Error::Usage(format!(
            "{name} is the dump of a database: name the snapshot without a path, and the dump with --database"
        ))),
        NodeKind::Directory => Err(Error::Usage(format!(
            "{name} is a directory: bring a dump in directory format back with --target DIR, then run `pg_restore \
             --jobs N` on it"
        ))),
        _ => Err(Error::Usage(format!("{name} is no regular file"))),
    }
}

/// Whether a database was dumped into this directory.
fn is_dump(context: &Context, snapshot: &Snapshot, name: &str) -> Result<bool> {
    Ok(dumps::dumps_of(context, snapshot)?.iter().any(|entry| show(&normal(&entry.path)) == name))
}

/// Reads all of it: what cannot be read, or is not whole, is never begun with.
fn look_into(context: &Context, node: &Node, name: &str) -> Result<DumpReport> {
    let mut blobs = reader(context);
    let mut content = Content::of(node, &mut blobs);
    let mut inspector = Inspector::new(&node.name.0);
    let mut piece = vec![0; PIECE_BYTES];
    loop {
        context.check_stop()?;
        match content.read(&mut piece) {
            Ok(0) => break,
            Ok(length) => inspector.push(&piece[..length]),
            Err(error) => {
                let io = |source| Error::Io { what: format!("read {name}"), source };
                return Err(repo_error(error).map_or_else(io, Error::Repo));
            }
        }
    }
    let unknown = || Error::Usage(format!("{name} is no dump that keepstone recognises; restore it with --target DIR"));
    inspector.finish().ok_or_else(unknown)
}

/// Whether what is in the file can go where it should.
fn fits(report: &DumpReport, options: &Options, name: &str) -> Result<()> {
    if report.state.is_bad() {
        let state = report.state.name();
        let text = format!("{name} is {state}: {}; take an earlier snapshot, where it is whole", report.reason);
        return Err(Error::Refused(text));
    }
    if let Some(around) = report.compression.around {
        let text = format!(
            "{name} lies within {around}: bring it back with --target DIR, unpack it and feed it to the client program"
        );
        return Err(Error::Refused(text));
    }
    let is_mysql = matches!(report.format, Format::MysqlSql | Format::MariadbSql);
    match (&options.target, report.format) {
        (_, Format::PostgresClusterSql) => Err(Error::Refused(format!(
            "{name} holds a whole server (pg_dumpall), which goes into no single database: bring it back with --target \
             DIR and feed it to psql"
        ))),
        (_, Format::Unknown | Format::PostgresPiece | Format::PostgresDirectory) => {
            Err(Error::Usage(format!("{name} is not a whole dump by itself; restore it with --target DIR")))
        }
        (Target::Postgres(_), _) if is_mysql => {
            Err(Error::Usage(format!("{name} is a dump of MySQL or MariaDB; it cannot go to PostgreSQL")))
        }
        (Target::Mysql(..), _) if !is_mysql => {
            Err(Error::Usage(format!("{name} is a dump of PostgreSQL; it cannot go to MySQL or MariaDB")))
        }
        (_, Format::PostgresCustom | Format::PostgresTar) => Ok(()),
        _ if options.trust_sql => Ok(()),
        _ => {
            let otherwise = if is_mysql { "" } else { ", or make dumps in custom format (pg_dump -Fc -Z0)" };
            Err(Error::Refused(format!(
                "{name} is SQL, which can do whatever the user may who restores it: say --trust-sql if you trust \
                 it{otherwise}"
            )))
        }
    }
}

/// SQL that names databases by itself goes to those, whatever was named here.
fn stays(report: &DumpReport, options: &Options, name: &str) -> Result<()> {
    let Target::Mysql(address, _) = &options.target else { return Ok(()) };
    let Some(beyond) = report.reach.beyond(&address.database) else { return Ok(()) };
    let into = report.reach.only_database().map(|own| format!("restore it into a database named {own}, or "));
    Err(Error::Refused(format!(
        "{name} does not stay in {}: {beyond}; {}bring it back with --target DIR and feed it to the client program, or dump \
         without --databases and --all-databases",
        address.database,
        into.unwrap_or_default()
    )))
}

/// SQL may drop what it makes anew: a database that holds something is not given to it by mistake.
fn spare(options: &Options, held: Option<String>) -> db::Result<()> {
    let database = options.target.database();
    match held {
        Some(held) if options.protection.confirmed.as_deref() != Some(database) => {
            let message = format!(
                "the database is not empty: it holds {held}, and the SQL may drop what it makes anew. Restore into a new \
                 one with --create, or add --confirm-destructive {database}"
            );
            let error = db::Error::new(options.target.label(), Kind::Refused, message);
            Err(error)
        }
        _ => Ok(()),
    }
}

fn to_postgres(
    context: &Context,
    node: &Node,
    report: DumpReport,
    target: &postgres::Target,
    options: &Options,
    watch: &Watch,
) -> Result<Outcome> {
    let form = match report.format {
        Format::PostgresSql => Form::Sql,
        _ => Form::Archive,
    };
    let ready = postgres::imported::check(target, form, watch)?;
    if form == Form::Sql {
        spare(options, postgres::imported::held(target, watch)?)?;
    }
    let (server, client) = (ready.server.clone(), ready.client.clone());
    let restore = || {
        let mut blobs = reader(context);
        let content = Box::new(Content::of(node, &mut blobs));
        postgres::imported::restore(target, &ready, form, content, watch)
    };
    finish(context, report, server, client, options, restore)
}

fn to_mysql(
    context: &Context,
    node: &Node,
    report: DumpReport,
    address: &mysql::Address,
    create: bool,
    options: &Options,
    watch: &Watch,
) -> Result<Outcome> {
    if address.database.is_empty() {
        return Err(Error::Usage("name the database that the dump goes to: mysql://USER@HOST/DATABASE".to_owned()));
    }
    let reached = if create { address.with_database("") } else { address.clone() };
    let session = Session::open(&reached, Kind::Target, &watch.stop)?;
    let facts = ServerFacts::ask(&session)?;
    let server = format!("{} {}", facts.product, facts.version);
    let client = session.tools().client.label();
    let name = mysql::identifier(&address.database);
    if !create {
        let tables =
            "SELECT table_name FROM information_schema.tables WHERE table_schema = DATABASE() ORDER BY 1 LIMIT 1";
        spare(options, session.column(tables)?.into_iter().next().map(|table| format!("table {table}")))?;
    }
    let restore = || {
        if create {
            session.query(&format!("CREATE DATABASE {name}; {}", mysql::mark::set(&address.database)))?;
        }
        let session = session.with_database(&address.database)?;
        let mut blobs = reader(context);
        let mut content = Content::of(node, &mut blobs);
        let fed = feed(&session, &mut content, Ending::Trailer);
        if let (Err(_), true) = (&fed, create) {
            // It was made for this, and is not whole.
            let _ = session.with_database("")?.query(&format!("DROP DATABASE IF EXISTS {name}"));
        }
        fed?;
        if create {
            session.query(&mysql::mark::clear(&address.database))?;
        }
        // Definitions cannot be taken back there.
        let note = "tables are replaced one by one: had it failed, some would be new and some as they were";
        let notes = if create { Vec::new() } else { vec![note.to_owned()] };
        Ok(Done { created: create, notes, ..Done::default() })
    };
    finish(context, report, server, client, options, restore)
}

/// Commands and the restore between them.
fn finish(
    context: &Context,
    report: DumpReport,
    server: String,
    client: String,
    options: &Options,
    restore: impl FnOnce() -> db::Result<Done>,
) -> Result<Outcome> {
    let outcome = Outcome { report, server, client, done: None, failed_hooks: Vec::new(), duration_ms: 0 };
    if options.validate_only {
        return Ok(outcome);
    }
    let database = options.target.database();
    context.monitor.event(Event::Phase("restoring the dump"));
    let hooks = options.hooks.knowing("KEEPSTONE_DATABASE", database);
    let done = hooks.before(&context.stop).and_then(|()| restore().map_err(Error::from));
    let failed_hooks = ended(&hooks, &done);
    let left_behind = done.as_ref().ok().and_then(|done| done.left_behind.as_deref());
    tell(context, &problems(left_behind, &failed_hooks));
    Ok(Outcome { done: Some(done?), failed_hooks, ..outcome })
}

impl Outcome {
    /// What did not end well beside what was restored.
    pub fn problems(&self) -> Vec<Problem> {
        let left_behind = self.done.as_ref().and_then(|done| done.left_behind.as_deref());
        problems(left_behind, &self.failed_hooks)
    }
}
