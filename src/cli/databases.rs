//! Databases as they are named on the command line, made into sources of a backup.

use super::args::{Databases, Named, Parts};
use super::error::{Error, Result};
use super::surroundings::surroundings;
use crate::base::{Clock, Event, Kind};
use crate::db::postgres::Address;
use crate::db::{self, Surroundings, Watch};
use crate::format::dump::DumpKind;
use crate::ops;
use crate::ops::Context;
use crate::ops::backup::{Limits, Source, rest};
use crate::source::dump::{Dump, DumpSource};
use crate::source::postgres::{Content, Options, PostgresSource};
use std::sync::Arc;

/// Databases whose addresses were understood; nobody was asked for anything yet.
pub struct Wanted {
    postgres: Vec<(Option<String>, Address)>,
    surroundings: Surroundings,
}

impl Wanted {
    /// Reads the addresses.
    pub fn parse(given: &Databases) -> Result<Wanted> {
        let surroundings = surroundings();
        let postgres = |named: &Named| Ok((named.name.clone(), Address::parse(&named.address, &surroundings)?));
        let postgres = given.postgres.iter().map(postgres).collect::<Result<_, db::Error>>().map_err(failed)?;
        if !given.mysql.is_empty() {
            return Err(Error::usage("this version takes no dumps of MySQL and MariaDB"));
        }
        Ok(Wanted { postgres, surroundings })
    }

    /// The sources. Asks servers only for the names of their databases, and only if all of them are wanted.
    pub fn sources(&self, context: &Context, given: &Databases, limits: &Limits) -> Result<Vec<Source>> {
        let mut sources = Vec::new();
        for (name, address) in &self.postgres {
            let options = postgres_options(given);
            match given.parts.all_databases {
                false => sources.push(self.postgres(address.clone(), name.as_deref(), options)),
                true => sources.extend(self.all_of_postgres(address, name.as_deref(), &options, context, limits)?),
            }
        }
        Ok(sources)
    }

    fn postgres(&self, address: Address, name: Option<&str>, options: Options) -> Source {
        let surroundings = self.surroundings.clone();
        Source::Dump(Arc::new(PostgresSource::new(address, name, options, surroundings, Clock::System)))
    }

    /// Every database of a server, each under its own name, after `NAME.` if a name was given.
    fn all_of_postgres(
        &self,
        address: &Address,
        name: Option<&str>,
        options: &Options,
        context: &Context,
        limits: &Limits,
    ) -> Result<Vec<Source>> {
        let watch = Watch { stop: context.stop.clone(), monitor: context.monitor.clone() };
        let list = || PostgresSource::all_databases(address, options, &self.surroundings, &Clock::System, &watch);
        match patiently(context, limits, list) {
            Ok(found) => Ok(found.into_iter().map(|source| self.renamed(source, name)).collect()),
            Err(error) if error.kind() == Kind::Interrupted => Err(failed(error)),
            Err(error) => {
                let name = name.map_or_else(|| address.server(), str::to_owned).replace('/', "%2F");
                Ok(vec![Source::Dump(Arc::new(Unlisted { kind: DumpKind::Postgres, name, error }))])
            }
        }
    }

    fn renamed(&self, source: PostgresSource, name: Option<&str>) -> Source {
        match name {
            None => Source::Dump(Arc::new(source)),
            Some(name) => {
                let name = format!("{name}.{}", source.name());
                self.postgres(source.address().clone(), Some(&name), source.options().clone())
            }
        }
    }
}

fn failed(error: db::Error) -> Error {
    Error::Ops(ops::Error::Database(error))
}

/// Asks again for as long as a failure may pass and attempts are left.
fn patiently<T>(context: &Context, limits: &Limits, ask: impl Fn() -> db::Result<T>) -> db::Result<T> {
    let mut waits = limits.waits();
    loop {
        let error = match ask() {
            Err(error) if error.kind().is_transient() && !context.stop.raised() => error,
            other => return other,
        };
        let Some(wait) = waits.next() else { return Err(error) };
        let note = format!("asking for databases again in {:.1} s: {error}", wait.as_secs_f64());
        context.monitor.event(Event::Note(&note));
        rest(wait, &context.stop);
    }
}

fn postgres_options(given: &Databases) -> Options {
    let Parts { include_table, exclude_table, exclude_table_data, schema, exclude_schema, .. } = given.parts.clone();
    Options {
        include_tables: include_table,
        exclude_tables: exclude_table,
        exclude_table_data,
        schemas: schema,
        exclude_schemas: exclude_schema,
        content: match (given.parts.schema_only, given.parts.data_only) {
            (true, _) => Content::SchemaOnly,
            (_, true) => Content::DataOnly,
            _ => Content::Everything,
        },
        primary_key_order: given.parts.primary_key_order,
        globals: !given.parts.no_globals,
        workers: given.workers as usize,
        lock_timeout: given.lock_timeout,
        programs: given.programs.clone(),
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
