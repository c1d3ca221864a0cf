//! Databases as they are meant, made into sources of a backup and into servers for drills.

use super::error::{Error, Result};
use super::night::Night;
use crate::base::pace::Gauge;
use crate::base::{Clock, Event, Kind, Monitor};
use crate::config::meant::{Database, Drill, Family, Link, Parts};
use crate::config::secrets;
use crate::db::{self, Surroundings, Watch, mysql, postgres};
use crate::format::dump::DumpKind;
use crate::ops::backup::{Limits, Source};
use crate::ops::{self, Context};
use crate::source::dump::{Dump, DumpSource};
use crate::source::{mysql as from_mysql, postgres as from_postgres};
use crate::target::dump::DrillServer;
use crate::target::{mysql as on_mysql, postgres as on_postgres};
use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

/// Databases whose addresses were understood; nobody was asked for anything yet.
pub struct Wanted {
    databases: Vec<(Database, Address)>,
    surroundings: Surroundings,
}

/// An address of either family.
#[derive(Clone)]
pub(super) enum Address {
    /// Of PostgreSQL.
    Postgres(Box<postgres::Address>),
    /// Of MySQL or MariaDB.
    Mysql(Box<mysql::Address>),
}

impl Address {
    /// Reads a link and brings its password.
    pub fn of(link: &Link, surroundings: &Surroundings) -> Result<Address> {
        let password = link.password.as_ref().map(secrets::password_text).transpose()?;
        Ok(match link.family {
            Family::Postgres => {
                let mut address = postgres::Address::parse(&link.url, surroundings).map_err(failed)?;
                address.password = password.or(address.password);
                Address::Postgres(Box::new(address))
            }
            Family::Mysql => {
                let mut address = mysql::Address::parse(&link.url, surroundings).map_err(failed)?;
                address.password = password.or(address.password);
                Address::Mysql(Box::new(address))
            }
        })
    }
}

impl Address {
    /// What somebody should know about it.
    fn notes(&self) -> &[String] {
        match self {
            Address::Postgres(address) => &address.notes,
            Address::Mysql(address) => &address.notes,
        }
    }
}

impl Wanted {
    /// Reads the addresses.
    pub fn of(databases: &[Database], surroundings: Surroundings) -> Result<Wanted> {
        let read = |database: &Database| Ok((database.clone(), Address::of(&database.link, &surroundings)?));
        let databases = databases.iter().map(read).collect::<Result<_>>()?;
        Ok(Wanted { databases, surroundings })
    }

    /// The sources. Asks servers only for the names of their databases, and only if all of them are wanted.
    pub fn sources(&self, context: &Context, limits: &Limits) -> Result<Vec<Source>> {
        let ask = Ask { context, limits };
        let mut sources = Vec::new();
        for (database, address) in &self.databases {
            let name = database.name.as_deref();
            match (address, database.parts.all_databases) {
                (Address::Postgres(address), false) => {
                    sources.push(self.postgres((**address).clone(), name, postgres_options(database)));
                }
                (Address::Postgres(address), true) => sources.extend(self.all_of_postgres(&ask, address, database)?),
                (Address::Mysql(address), false) => {
                    sources.push(of_mysql((**address).clone(), database).map_err(failed)?);
                }
                (Address::Mysql(address), true) => sources.extend(all_of_mysql(&ask, address, database)?),
            }
        }
        Ok(sources)
    }

    fn postgres(&self, address: postgres::Address, name: Option<&str>, options: from_postgres::Options) -> Source {
        let surroundings = self.surroundings.clone();
        Source::Dump(Arc::new(from_postgres::PostgresSource::new(address, name, options, surroundings, Clock::System)))
    }

    fn all_of_postgres(&self, ask: &Ask<'_>, address: &postgres::Address, database: &Database) -> Result<Vec<Source>> {
        let (options, watch) = (postgres_options(database), ask.watch());
        let name = database.name.as_deref();
        ask.databases(DumpKind::Postgres, name, &address.server(), || {
            let clock = Clock::System;
            let found =
                from_postgres::PostgresSource::all_databases(address, &options, &self.surroundings, &clock, &watch)?;
            let renamed = found.into_iter().map(|source| match name {
                None => Source::Dump(Arc::new(source)),
                Some(_) => {
                    let name = prefixed(name, source.name());
                    self.postgres(source.address().clone(), Some(&name), source.options().clone())
                }
            });
            Ok(renamed.collect())
        })
    }
}

/// Host and port of each PostgreSQL server that may be talked with over TLS.
pub fn tls_places(databases: &[Database], surroundings: &Surroundings) -> BTreeSet<(String, u16)> {
    let place = |database: &Database| match Address::of(&database.link, surroundings) {
        Ok(Address::Postgres(address)) if !address.host.starts_with('/') && address.tls != postgres::Tls::Disable => {
            let host = address.host_address.map_or_else(|| address.host.clone(), |host| host.to_string());
            Some((host, address.port))
        }
        _ => None,
    };
    databases.iter().filter_map(place).collect()
}

/// A gauge for the replicas of each PostgreSQL server that the profile reads.
pub fn lag_gauges(night: &Night<'_>, bound: Duration) -> Vec<Gauge> {
    let links = night.profile.databases.iter().map(|database| &database.link);
    let mut addresses: Vec<postgres::Address> = Vec::new();
    for link in links.filter(|link| link.family == Family::Postgres) {
        match Address::of(link, night.surroundings) {
            Ok(Address::Postgres(address)) if addresses.iter().all(|known| known.server() != address.server()) => {
                addresses.push(*address);
            }
            // One that makes no sense is told when it is to be read.
            _ => {}
        }
    }
    let gauge = |address: postgres::Address| {
        let name = format!("the replication lag of {} in s", address.server());
        let watch = Watch { stop: night.reach.stop.clone(), monitor: night.reach.monitor.clone() };
        let mut lag = Lag { address, watch, connection: None, told: false };
        Gauge { name, bound: bound.as_secs_f64(), read: Box::new(move || lag.read()) }
    };
    addresses.into_iter().map(gauge).collect()
}

/// Asks a server how far its replicas are behind.
struct Lag {
    address: postgres::Address,
    watch: Watch,
    connection: Option<postgres::Connection>,
    told: bool,
}

impl Lag {
    fn read(&mut self) -> Option<f64> {
        let asked = self.ask();
        if let Err(error) = &asked {
            self.connection = None;
            if !std::mem::replace(&mut self.told, true) {
                let note = format!("the replication lag is not known now, so its bound holds nobody up: {error}");
                self.watch.monitor.event(Event::Note(&note));
            }
        }
        asked.ok()
    }

    fn ask(&mut self) -> db::Result<f64> {
        let connection = match self.connection.take() {
            Some(connection) => connection,
            None => postgres::Connection::connect(&self.address, None, &self.watch)?,
        };
        postgres::facts::replication_lag_seconds(self.connection.insert(connection))
    }
}

/// The servers on which a drill tries databases.
pub fn servers(
    drill: &Drill,
    surroundings: &Surroundings,
    scratch: &Path,
    monitor: &dyn Monitor,
) -> Result<Vec<Box<dyn DrillServer>>> {
    drill.servers.iter().map(|link| server(link, drill, surroundings, scratch, monitor)).collect()
}

fn server(
    link: &Link,
    drill: &Drill,
    surroundings: &Surroundings,
    scratch: &Path,
    monitor: &dyn Monitor,
) -> Result<Box<dyn DrillServer>> {
    let address = Address::of(link, surroundings)?;
    address.notes().iter().for_each(|note| monitor.event(Event::Note(note)));
    let server: Box<dyn DrillServer> = match address {
        Address::Mysql(address) => Box::new(on_mysql::Drill { address: *address, jobs: drill.jobs }),
        Address::Postgres(address) => Box::new(on_postgres::Drill {
            address: *address,
            programs: on_postgres::Programs { surroundings: surroundings.clone(), folder: link.programs.clone() },
            jobs: drill.jobs,
            search_path: drill.search_path.clone(),
            temp_dir: scratch.to_owned(),
        }),
    };
    Ok(server)
}

fn failed(error: db::Error) -> Error {
    Error::Ops(ops::Error::Database(error))
}

/// `NAME.DATABASE`, or the database's name alone.
fn prefixed(name: Option<&str>, database: &str) -> String {
    name.map_or_else(|| database.to_owned(), |name| format!("{name}.{database}"))
}

fn of_mysql(address: mysql::Address, database: &Database) -> db::Result<Source> {
    let source = from_mysql::Source::new(address, mysql_options(database))?;
    Ok(Source::Dump(match database.name.as_deref() {
        None => Arc::new(source),
        Some(name) => Arc::new(source.named(name)),
    }))
}

fn all_of_mysql(ask: &Ask<'_>, address: &mysql::Address, database: &Database) -> Result<Vec<Source>> {
    let (watch, name) = (ask.watch(), database.name.as_deref());
    ask.databases(DumpKind::Mysql, name, &address.server(), || {
        let session = mysql::Session::open(address, Kind::Source, &watch.stop)?;
        let mut sources = Vec::new();
        for found in mysql::facts::databases(&session)? {
            // Each takes the users and grants of the server along: it may be the only one that goes back. Stored are they once.
            let source = from_mysql::Source::new(address.with_database(found), mysql_options(database))?;
            let name = prefixed(name, source.name());
            sources.push(Source::Dump(Arc::new(source.named(name))));
        }
        match sources.is_empty() {
            true => Err(address.error(Kind::NotFound, "the server shows this user no database")),
            false => Ok(sources),
        }
    })
}

/// What asking a server for its databases needs.
struct Ask<'a> {
    context: &'a Context,
    limits: &'a Limits,
}

impl Ask<'_> {
    fn watch(&self) -> Watch {
        Watch { stop: self.context.stop.clone(), monitor: self.context.monitor.clone() }
    }

    /// The databases of a server, or a source that fails in their place.
    fn databases(
        &self,
        kind: DumpKind,
        name: Option<&str>,
        server: &str,
        list: impl Fn() -> db::Result<Vec<Source>>,
    ) -> Result<Vec<Source>> {
        match self.patiently(list) {
            Ok(found) => Ok(found),
            Err(error) if error.kind() == Kind::Interrupted => Err(failed(error)),
            Err(error) => {
                let name = name.unwrap_or(server).replace('/', "%2F");
                Ok(vec![Source::Dump(Arc::new(Unlisted { kind, name, error }))])
            }
        }
    }

    /// Asks again for as long as a failure may pass and attempts are left.
    fn patiently<T>(&self, ask: impl Fn() -> db::Result<T>) -> db::Result<T> {
        let (stop, mut waits) = (&self.context.stop, self.limits.waits());
        loop {
            let error = match ask() {
                Err(error) if error.kind().is_transient() && !stop.raised() => error,
                other => return other,
            };
            let Some(wait) = waits.next() else { return Err(error) };
            let note = format!("asking for databases again in {:.1} s: {error}", wait.as_secs_f64());
            self.context.monitor.event(Event::Note(&note));
            stop.rest(wait);
        }
    }
}

fn postgres_options(database: &Database) -> from_postgres::Options {
    let Parts { include_table, exclude_table, exclude_table_data, schema, exclude_schema, .. } = database.parts.clone();
    from_postgres::Options {
        include_tables: include_table,
        exclude_tables: exclude_table,
        exclude_table_data,
        schemas: schema,
        exclude_schemas: exclude_schema,
        content: match (database.parts.schema_only, database.parts.data_only) {
            (true, _) => from_postgres::Content::SchemaOnly,
            (_, true) => from_postgres::Content::DataOnly,
            _ => from_postgres::Content::Everything,
        },
        primary_key_order: database.parts.primary_key_order,
        globals: !database.parts.no_globals,
        workers: database.workers as usize,
        lock_timeout: database.lock_timeout,
        programs: database.link.programs.clone(),
    }
}

fn mysql_options(database: &Database) -> from_mysql::Options {
    let parts = &database.parts;
    from_mysql::Options {
        include: parts.include_table.clone(),
        exclude: parts.exclude_table.clone(),
        exclude_data: parts.exclude_table_data.clone(),
        schema_only: parts.schema_only,
        data_only: parts.data_only,
        users: !parts.no_globals,
        lock_timeout: database.lock_timeout,
    }
}

/// A server that does not tell its databases: a source that fails, so that the others go on.
#[derive(Debug)]
struct Unlisted {
    kind: DumpKind,
    name: String,
    error: db::Error,
}

impl DumpSource for Unlisted {
    fn kind(&self) -> DumpKind {
        self.kind
    }
    fn name(&self) -> &str {
        &self.name
    }
    fn label(&self) -> String {
        self.name.clone()
    }
    fn begin(&self, _: &Watch) -> db::Result<Box<dyn Dump>> {
        // It was asked often enough.
        Err(self.error.clone().of_kind(Kind::Source))
    }
}
