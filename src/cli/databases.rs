//! Databases as they are named on the command line, made into sources of a backup.

use super::args::{Databases, Named, Parts};
use super::error::{Error, Result};
use super::surroundings::surroundings;
use crate::base::{Clock, Event, Kind};
use crate::db::{self, Surroundings, Watch, mysql, postgres};
use crate::format::dump::DumpKind;
use crate::ops::backup::{Limits, Source};
use crate::ops::{self, Context};
use crate::source::dump::{Dump, DumpSource};
use crate::source::{mysql as from_mysql, postgres as from_postgres};
use std::sync::Arc;

/// Databases whose addresses were understood; nobody was asked for anything yet.
pub struct Wanted {
    postgres: Vec<(Option<String>, postgres::Address)>,
    mysql: Vec<(Option<String>, mysql::Address)>,
    surroundings: Surroundings,
}

impl Wanted {
    /// Reads the addresses.
    pub fn parse(given: &Databases) -> Result<Wanted> {
        match (given.postgres.is_empty(), given.mysql.is_empty()) {
            (true, true) if given.parts != Parts::default() => {
                let text = "what of the databases is to be taken was said, but no database: add --postgres or --mysql";
                return Err(Error::usage(text));
            }
            (true, false) => refuse_what_mysql_has_not(&given.parts)?,
            _ => {}
        }
        let surroundings = surroundings();
        Ok(Wanted {
            postgres: addresses(&given.postgres, |text| postgres::Address::parse(text, &surroundings))?,
            mysql: addresses(&given.mysql, |text| mysql::Address::parse(text, &surroundings))?,
            surroundings,
        })
    }

    /// The sources. Asks servers only for the names of their databases, and only if all of them are wanted.
    pub fn sources(&self, context: &Context, given: &Databases, limits: &Limits) -> Result<Vec<Source>> {
        let ask = Ask { context, limits };
        let mut sources = Vec::new();
        for (name, address) in &self.postgres {
            match given.parts.all_databases {
                false => sources.push(self.postgres(address.clone(), name.as_deref(), postgres_options(given))),
                true => sources.extend(self.all_of_postgres(&ask, name.as_deref(), address, given)?),
            }
        }
        for (name, address) in &self.mysql {
            match given.parts.all_databases {
                false => sources.push(of_mysql(address.clone(), name.as_deref(), given).map_err(failed)?),
                true => sources.extend(all_of_mysql(&ask, name.as_deref(), address, given)?),
            }
        }
        Ok(sources)
    }

    fn postgres(&self, address: postgres::Address, name: Option<&str>, options: from_postgres::Options) -> Source {
        let surroundings = self.surroundings.clone();
        Source::Dump(Arc::new(from_postgres::PostgresSource::new(address, name, options, surroundings, Clock::System)))
    }

    fn all_of_postgres(
        &self,
        ask: &Ask<'_>,
        name: Option<&str>,
        address: &postgres::Address,
        given: &Databases,
    ) -> Result<Vec<Source>> {
        let (options, watch) = (postgres_options(given), ask.watch());
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

fn addresses<A>(given: &[Named], parse: impl Fn(&str) -> db::Result<A>) -> Result<Vec<(Option<String>, A)>> {
    given.iter().map(|named| Ok((named.name.clone(), parse(&named.address).map_err(failed)?))).collect()
}

fn failed(error: db::Error) -> Error {
    Error::Ops(ops::Error::Database(error))
}

/// `NAME.DATABASE`, or the database's name alone.
fn prefixed(name: Option<&str>, database: &str) -> String {
    name.map_or_else(|| database.to_owned(), |name| format!("{name}.{database}"))
}

fn of_mysql(address: mysql::Address, name: Option<&str>, given: &Databases) -> db::Result<Source> {
    let source = from_mysql::Source::new(address, mysql_options(given))?;
    Ok(Source::Dump(match name {
        None => Arc::new(source),
        Some(name) => Arc::new(source.named(name)),
    }))
}

fn all_of_mysql(ask: &Ask<'_>, name: Option<&str>, address: &mysql::Address, given: &Databases) -> Result<Vec<Source>> {
    let watch = ask.watch();
    ask.databases(DumpKind::Mysql, name, &address.server(), || {
        let session = mysql::Session::open(address, Kind::Source, &watch.stop)?;
        let mut sources = Vec::new();
        for database in mysql::facts::databases(&session)? {
            // Users and grants are those of the server: once is enough.
            let users = sources.is_empty() && !given.parts.no_globals;
            let options = from_mysql::Options { users, ..mysql_options(given) };
            let source = from_mysql::Source::new(address.with_database(database), options)?;
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

fn postgres_options(given: &Databases) -> from_postgres::Options {
    let Parts { include_table, exclude_table, exclude_table_data, schema, exclude_schema, .. } = given.parts.clone();
    from_postgres::Options {
        include_tables: include_table,
        exclude_tables: exclude_table,
        exclude_table_data,
        schemas: schema,
        exclude_schemas: exclude_schema,
        content: match (given.parts.schema_only, given.parts.data_only) {
            (true, _) => from_postgres::Content::SchemaOnly,
            (_, true) => from_postgres::Content::DataOnly,
            _ => from_postgres::Content::Everything,
        },
        primary_key_order: given.parts.primary_key_order,
        globals: !given.parts.no_globals,
        workers: given.workers as usize,
        lock_timeout: given.lock_timeout,
        programs: given.programs.clone(),
    }
}

fn mysql_options(given: &Databases) -> from_mysql::Options {
    from_mysql::Options {
        include: given.parts.include_table.clone(),
        exclude: given.parts.exclude_table.clone(),
        exclude_data: given.parts.exclude_table_data.clone(),
        schema_only: given.parts.schema_only,
        data_only: given.parts.data_only,
        users: !given.parts.no_globals,
    }
}

/// What only PostgreSQL has is a mistake if there is no PostgreSQL.
fn refuse_what_mysql_has_not(parts: &Parts) -> Result<()> {
    let lists = [("--schema", &parts.schema), ("--exclude-schema", &parts.exclude_schema)];
    match lists.iter().find(|(_, list)| !list.is_empty()) {
        Some((option, _)) => Err(Error::usage(format!("{option} means nothing to MySQL and MariaDB: leave it out"))),
        None => Ok(()),
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
