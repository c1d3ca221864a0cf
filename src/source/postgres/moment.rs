//! A moment of a database while it is read.

use super::holder::{self, Moment, settle, workers_lock_timeout};
use super::plan::{Relation, TablePlan};
use super::programs::{self, Part};
use super::rows::Counted;
use super::{PostgresSource, paths};
use crate::base::clock::Stopwatch;
use crate::base::{Event, Kind};
use crate::db::postgres::facts::{self, DatabaseFacts, ServerFacts};
use crate::db::postgres::{Connection, ROWS_MONEY, ROWS_MONEY_PROPERTY, ROWS_ZONE, ROWS_ZONE_PROPERTY, Tools, literal};
use crate::db::{Result, Watch};
use crate::format::dump::{DumpKind, Manifest, Sequence, Server, StreamEntry, StreamRole, Table, VERSION};
use crate::source::dump::{Consume, Dump, Planned};
use std::collections::BTreeMap;
use std::io;
use std::sync::{Mutex, MutexGuard};
use std::time::Duration;

/// The oldest version that is read: row security and its setting came before, `pg_blocking_pids` and others with it.
const OLDEST_VERSION: u32 = 90_600;
/// Sequences that one statement reads.
const SEQUENCES_AT_ONCE: usize = 200;
/// About how many bytes of definitions each table needs, for progress.
const DEFINITION_BYTES: u64 = 1 << 10;
/// How often the holder is asked whether it is still there.
const ASK_EVERY: Duration = Duration::from_secs(1);

/// What a stream holds.
#[derive(Clone, Copy)]
enum What {
    Part(Part),
    /// The place of a table in the plan.
    Table(usize),
}

/// What was read of a stream.
#[derive(Clone, Default)]
struct Done {
    rows: u64,
    bytes: u64,
    checksum: Option<String>,
    duration_ms: u64,
}

/// The dump of one database, begun.
pub(super) struct PostgresDump {
    source: PostgresSource,
    watch: Watch,
    tools: Tools,
    server: ServerFacts,
    database: DatabaseFacts,
    moment: Moment,
    /// Whether the role may read the passwords of roles.
    passwords: bool,
    sequences: Vec<Sequence>,
    taken_ns: i64,
    streams: Vec<Planned>,
    what: Vec<What>,
    holder: Mutex<Holder>,
    /// Sessions in the snapshot that nobody uses just now.
    workers: Mutex<Vec<Connection>>,
    done: Mutex<Vec<Option<Done>>>,
    notes: Mutex<Vec<String>>,
}

/// The session that everything stands on.
struct Holder {
    connection: Connection,
    asked: Stopwatch,
}

impl PostgresDump {
    /// Connects, locks, takes the snapshot and lets the workers join it.
    pub(super) fn begin(source: &PostgresSource, watch: &Watch) -> Result<PostgresDump> {
        let (address, options) = (&source.address, &source.options);
        let mut notes = address.notes.clone();
        let mut holder = Connection::connect(address, None, watch)?;
        let server = ServerFacts::read(&mut holder)?;
        if server.version_number < OLDEST_VERSION {
            let message = format!("PostgreSQL {} is too old: 9.6 is the oldest version that is read", server.version);
            return Err(source.error(Kind::Unsupported, message));
        }
        let tools = Tools::find(server.version_number, options.programs.as_deref(), &source.surroundings, watch)
            .map_err(|error| address.lacks_tools(error))?;
        notes.extend(tools.warning());
        let database = DatabaseFacts::read(&mut holder, server.version_number)?;
        settle(&mut holder, options.lock_timeout)?;
        let process = holder.backend()?;
        let mut workers = Vec::new();
        for _ in 0..options.workers.max(1) {
            let mut worker = Connection::connect(address, None, watch)?;
            settle(&mut worker, workers_lock_timeout(options))?;
            workers.push(worker);
        }
        if workers[0].backend()? == process {
            return Err(facts::pooled(address));
        }
        let moment = holder::hold(&mut holder, options, &server)?;
        let taken_ns = source.clock.now().as_nanosecond() as i64;
        let sequences = sequences(&mut workers[0], &moment.plan.sequences)?;
        let join = format!("SET TRANSACTION SNAPSHOT {}", literal(&moment.snapshot));
        for worker in &mut workers {
            worker.execute("SELECT pg_catalog.set_config('search_path', '', false)")?;
            worker.execute(&format!("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY; {join}"))?;
        }
        let may = "SELECT pg_catalog.has_table_privilege('pg_catalog.pg_authid', 'SELECT')";
        let passwords = holder.value(may)?.as_deref() == Some("t");
        let parts = programs::parts(options, moment.has_large_objects);
        if parts.contains(&Part::Globals) && !passwords {
            notes.push(format!("globals.sql has no passwords of roles: user {} may not read them", server.user));
        }
        if server.standby && moment.plan.tables.iter().any(TablePlan::is_unlogged) {
            notes.push("the server is a standby: unlogged tables have no rows there, and none here".to_owned());
        }
        if moment.plan.has_unread_sequences {
            let note =
                "the server is a standby: it does not know where unlogged sequences stand; a copy begins them anew";
            notes.push(note.to_owned());
        }
        let (streams, what) = streams(&parts, &moment.plan.tables);
        notes.iter().for_each(|note| watch.monitor.event(Event::Note(&format!("{}: {note}", address.label()))));
        Ok(PostgresDump {
            source: source.clone(),
            watch: watch.clone(),
            tools,
            server,
            database,
            moment,
            passwords,
            sequences,
            taken_ns,
            done: Mutex::new(vec![None; streams.len()]),
            streams,
            what,
            holder: Mutex::new(Holder { connection: holder, asked: Stopwatch::start() }),
            workers: Mutex::new(workers),
            notes: Mutex::new(notes),
        })
    }

    /// Reads the rows of a table over a session that nobody else uses.
    fn read_table(&self, table: &TablePlan, consume: &mut Consume<'_>) -> Result<Done> {
        let object = format!("table {}.{}", table.relation.schema, table.relation.name);
        let worker = lock(&self.workers).pop();
        let mut worker = worker.ok_or_else(|| {
            self.source.error(Kind::Internal, "more streams are read at once than there are workers").object(&object)
        })?;
        let done = self.copy(&mut worker, table, consume);
        // A session whose transaction failed is of no use to anybody.
        if done.is_ok() {
            lock(&self.workers).push(worker);
        }
        done.map_err(|error| match error.is("55P03") {
            true => {
                holder::in_the_way(&mut lock(&self.holder).connection, &[&table.relation.oid], error.object(object))
            }
            false => error.object(object),
        })
    }

    fn copy(&self, worker: &mut Connection, table: &TablePlan, consume: &mut Consume<'_>) -> Result<Done> {
        let sql = table.copy_statement(&self.source.options, &self.database.encoding);
        let mut rows = Counted::new(worker.copy_out(&sql)?);
        let kept = consume(&mut rows);
        let done = Done { rows: rows.rows, bytes: rows.bytes, checksum: Some(rows.checksum()), duration_ms: 0 };
        let ended = rows.ended;
        if let Some(failure) = rows.into_inner().failure() {
            return Err(failure);
        }
        let whole = |cause: io::Error| self.source.error(Kind::Source, format!("cannot keep its rows: {cause}"));
        kept.map_err(whole)?;
        if !ended {
            return Err(whole(io::Error::other("they were not read to the end")));
        }
        Ok(done)
    }

    fn read_part(&self, part: Part, consume: &mut Consume<'_>) -> Result<Done> {
        let source = &self.source;
        let encoding = &self.database.encoding;
        let arguments = programs::arguments(source, &self.tools, part, &self.moment, encoding, self.passwords);
        let (bytes, said) = programs::read(source, &self.tools, part, &arguments, &self.watch, consume)?;
        lock(&self.notes).extend(said);
        Ok(Done { bytes, ..Done::default() })
    }

    /// Fails if the session that holds locks and snapshot is gone: what is read without it may not fit together.
    fn ask_holder(&self, at_least_every: Duration) -> Result<()> {
        let mut holder = lock(&self.holder);
        if holder.asked.elapsed() < at_least_every {
            return Ok(());
        }
        holder.connection.query("SELECT 1").map_err(|error| {
            let message = format!("the session that holds the snapshot is gone: {}", error.message);
            crate::db::Error { message, ..error }
        })?;
        holder.asked = Stopwatch::start();
        Ok(())
    }

    fn table(&self, at: usize, done: &BTreeMap<usize, Done>) -> Table {
        let plan = &self.moment.plan.tables[at];
        let read = done.get(&at);
        let done = read.cloned().unwrap_or_default();
        Table {
            schema: plan.relation.schema.clone(),
            name: plan.relation.name.clone(),
            stream: read.map(|_| paths::table(&plan.relation.schema, &plan.relation.name)),
            columns: plan.columns.clone(),
            rows: done.rows,
            bytes: done.bytes,
            checksum: done.checksum,
            duration_ms: done.duration_ms,
            note: plan.note.to_owned(),
            condition: plan.condition.clone(),
            unknown: BTreeMap::new(),
        }
    }

    fn manifest(self, done: Vec<Done>) -> Manifest {
        let of_tables = self.what.iter().zip(&done).filter_map(|(what, done)| match what {
            What::Table(at) => Some((*at, done.clone())),
            What::Part(_) => None,
        });
        let of_tables = of_tables.collect();
        let tables: Vec<Table> = (0..self.moment.plan.tables.len()).map(|at| self.table(at, &of_tables)).collect();
        let role = |what: &What| match what {
            What::Table(_) => StreamRole::Data,
            What::Part(Part::Globals) => StreamRole::Globals,
            What::Part(Part::PreData) => StreamRole::PreData,
            What::Part(Part::LargeObjects) => StreamRole::LargeObjects,
            What::Part(Part::PostData) => StreamRole::PostData,
        };
        let entries = self.streams.iter().zip(&self.what).zip(&done);
        let entry = |((planned, what), done): ((&Planned, &What), &Done)| StreamEntry {
            path: planned.path.clone(),
            role: role(what),
            bytes: done.bytes,
        };
        let address = &self.source.address;
        let mut properties = self.database.properties();
        properties.insert(ROWS_ZONE_PROPERTY.to_owned(), ROWS_ZONE.to_owned());
        properties.insert(ROWS_MONEY_PROPERTY.to_owned(), ROWS_MONEY.to_owned());
        Manifest {
            version: VERSION,
            kind: DumpKind::Postgres,
            server: Server {
                host: address.host.clone(),
                port: address.port,
                identity: self.server.identity.clone(),
                version: self.server.version.clone(),
                version_number: self.server.version_number,
                product: "PostgreSQL".to_owned(),
            },
            client: self.tools.client(),
            database: address.database.clone(),
            properties,
            taken_ns: self.taken_ns,
            ended_ns: self.source.clock.now().as_nanosecond() as i64,
            position: self.moment.position.clone(),
            selection: self.source.options.selection(),
            streams: entries.map(entry).collect(),
            tables,
            sequences: self.sequences,
            notes: self.notes.into_inner().unwrap_or_else(|poisoned| poisoned.into_inner()),
            unknown: BTreeMap::new(),
        }
    }
}

impl Dump for PostgresDump {
    fn streams(&self) -> &[Planned] {
        &self.streams
    }

    fn workers(&self) -> usize {
        self.source.options.workers.max(1)
    }

    fn read(&self, stream: usize, consume: &mut Consume<'_>) -> Result<()> {
        self.ask_holder(ASK_EVERY)?;
        let stopwatch = Stopwatch::start();
        let mut done = match self.what[stream] {
            What::Part(part) => self.read_part(part, consume)?,
            What::Table(at) => self.read_table(&self.moment.plan.tables[at], consume)?,
        };
        done.duration_ms = stopwatch.elapsed_ms();
        lock(&self.done)[stream] = Some(done);
        Ok(())
    }

    fn finish(self: Box<Self>) -> Result<Manifest> {
        self.ask_holder(Duration::ZERO)?;
        let done: Option<Vec<Done>> = lock(&self.done).iter().cloned().collect();
        let done = done.ok_or_else(|| self.source.error(Kind::Internal, "not every stream was read"))?;
        Ok(self.manifest(done))
    }
}

/// The streams in the order in which they should begin. Programs first: they lock what they describe, and the earlier
/// they do the less can come in between. Then the largest tables.
fn streams(parts: &[Part], tables: &[TablePlan]) -> (Vec<Planned>, Vec<What>) {
    let definitions = DEFINITION_BYTES * (tables.len() as u64 + 1);
    let of_part = |part: &Part| (Planned { path: part.path().to_owned(), bytes: definitions }, What::Part(*part));
    let mut by_size: Vec<usize> = (0..tables.len()).filter(|at| tables[*at].has_data).collect();
    by_size.sort_by_key(|at| std::cmp::Reverse(tables[*at].bytes));
    let of_table = |at: usize| {
        let relation = &tables[at].relation;
        (Planned { path: paths::table(&relation.schema, &relation.name), bytes: tables[at].bytes }, What::Table(at))
    };
    parts.iter().map(of_part).chain(by_size.into_iter().map(of_table)).unzip()
}

/// Where sequences stand. They follow no snapshot: read after it was taken they are at least as far as its rows.
fn sequences(connection: &mut Connection, relations: &[Relation]) -> Result<Vec<Sequence>> {
    let mut found = Vec::with_capacity(relations.len());
    for batch in relations.chunks(SEQUENCES_AT_ONCE) {
        let one =
            |(at, relation): (usize, &Relation)| format!("SELECT {at}, last_value, is_called FROM {}", relation.sql());
        let sql = batch.iter().enumerate().map(one).collect::<Vec<_>>().join(" UNION ALL ");
        for row in connection.query(&sql)? {
            let text = |at: usize| row.get(at).and_then(Option::as_deref).unwrap_or_default();
            let relation = text(0).parse().ok().and_then(|at: usize| batch.get(at));
            let (Some(relation), Ok(last_value)) = (relation, text(1).parse()) else {
                return Err(connection.strange("a sequence has a value that is no number"));
            };
            let (schema, name) = (relation.schema.clone(), relation.name.clone());
            found.push(Sequence { schema, name, last_value, is_called: text(2) == "t" });
        }
    }
    found.sort_by(|one, other| (&one.schema, &one.name).cmp(&(&other.schema, &other.name)));
    Ok(found)
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // What is kept in them is put in and taken out whole.
    mutex.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}
