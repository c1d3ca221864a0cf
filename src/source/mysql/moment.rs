//! A consistent moment of a database, and what is read of it.

use super::definitions::{self, Definitions, chosen};
use super::reader::{Reader, Taken};
use super::{Options, users};
use crate::base::{Clock, Kind};
use crate::db::mysql::facts::is_elsewhere;
use crate::db::mysql::quote::file_name;
use crate::db::mysql::{Facts, Family, Run, Session, Step, TableFacts, TableKind, locks, script};
use crate::db::{Error, Result};
use crate::format::dump::{DumpKind, Manifest, Sequence, Server, StreamEntry, StreamRole, Table, VERSION};
use crate::source::dump::{Consume, Dump, Planned};
use std::collections::BTreeMap;
use std::io;
use std::sync::{Mutex, MutexGuard};

/// How many names a note lists.
const NAMES_IN_A_NOTE: usize = 20;

/// A database at one moment.
pub(super) struct Moment {
    session: Session,
    facts: Facts,
    options: Options,
    chosen: Vec<TableFacts>,
    before: Definitions,
    has_users: bool,
    unknown_users: Vec<String>,
    streams: Vec<Planned>,
    parts: Vec<Part>,
    taken_ns: i64,
    state: Mutex<State>,
}

/// What a stream is.
enum Part {
    /// A text that was read already.
    Text(StreamRole, String),
    /// The rows of a table: its place among those of the run, and among those chosen.
    Rows { place: usize, table: usize },
    /// Where counters stand, read behind the rows: a sequence must not fall back behind a row that has its number.
    Counters,
}

#[derive(Default)]
struct State {
    run: Option<Run>,
    /// What was read of each part.
    taken: Vec<Option<Taken>>,
    after: Option<Definitions>,
}

impl Moment {
    /// Takes the moment: from here on nothing that others write is seen.
    pub fn take(session: Session, facts: Facts, options: Options) -> Result<Moment> {
        let chosen = chosen(&facts, &options.include, &options.exclude);
        if chosen.is_empty() && !options.is_whole() {
            return Err(session
                .error(Kind::NotFound, "no table fits what was chosen: check --include-table and --exclude-table"));
        }
        locks::check(&session, &chosen.iter().collect::<Vec<_>>(), options.lock_timeout)?;
        let before = Definitions::read(&session, &chosen, options.is_whole())?;
        let wants_users = options.users && options.is_whole() && !options.schema_only && !options.data_only;
        let users = if wants_users { users::read(&session, facts.server.family())? } else { None };
        let mut moment = Moment {
            has_users: users.is_some() || !wants_users,
            unknown_users: users.as_ref().map(|users| users.unknown.clone()).unwrap_or_default(),
            session,
            facts,
            options,
            chosen,
            before,
            streams: Vec::new(),
            parts: Vec::new(),
            taken_ns: 0,
            state: Mutex::default(),
        };
        moment.plan(users.map(|users| users.script));
        moment.start()?;
        Ok(moment)
    }

    fn plan(&mut self, users: Option<String>) {
        if !self.options.data_only {
            self.plan_text("schema.sql", StreamRole::PreData, self.before.schema.clone());
            self.plan_text("routines.sql", StreamRole::PostData, self.before.routines.clone());
            self.plan_text("views.sql", StreamRole::PostData, self.before.views.clone());
            self.plan_text("users.sql", StreamRole::Globals, users.unwrap_or_default());
        }
        if !self.options.schema_only {
            let tables: Vec<usize> = (0..self.chosen.len()).filter(|at| self.wants_rows(&self.chosen[*at])).collect();
            for (place, table) in tables.into_iter().enumerate() {
                let facts = &self.chosen[table];
                let path = format!("data/{}.sql", file_name(&facts.name));
                self.streams.push(Planned { path, bytes: facts.bytes });
                self.parts.push(Part::Rows { place, table });
            }
        }
        let counters = self.counters(&self.before).len() as u64;
        if counters > 0 || !self.options.schema_only {
            self.streams.push(Planned { path: "counters.sql".to_owned(), bytes: counters });
            self.parts.push(Part::Counters);
        }
    }

    /// Where counters and sequences stand. Those of tables without rows begin anew; a sequence stands where it stands.
    fn counters(&self, definitions: &Definitions) -> String {
        let is_wanted = |statement: &script::Statement<'_>| !script::sequences(statement.text).is_empty();
        match self.options.schema_only {
            true => script::retain(&definitions.counters, is_wanted).trim_start().to_owned(),
            false => definitions.counters.clone(),
        }
    }

    fn wants_rows(&self, table: &TableFacts) -> bool {
        table.has_rows() && !definitions::fits(&self.options.exclude_data, &table.name)
    }

    fn plan_text(&mut self, path: &str, role: StreamRole, text: String) {
        if !text.is_empty() {
            self.streams.push(Planned { path: path.to_owned(), bytes: text.len() as u64 });
            self.parts.push(Part::Text(role, text));
        }
    }

    /// Starts the run over all tables and waits until the program is at the first: then it has its transaction.
    fn start(&mut self) -> Result<()> {
        let tables: Vec<String> = self
            .parts
            .iter()
            .filter_map(|part| match part {
                Part::Rows { table, .. } => Some(self.chosen[*table].name.clone()),
                _ => None,
            })
            .collect();
        let mut run = None;
        if !tables.is_empty() {
            let session = self.session.with_database(&self.facts.database)?;
            let run = run.insert(Run::start(session, tables, self.may_see_position())?);
            run.step()?;
        }
        let taken = self.parts.iter().map(|_| None).collect();
        self.state = Mutex::new(State { run, taken, after: None });
        self.taken_ns = now();
        Ok(())
    }

    /// Whether the place in the binary log can be asked for. MariaDB tells everybody; MySQL locks all tables for it, a
    /// moment long.
    fn may_see_position(&self) -> bool {
        let server = &self.facts.server;
        let has = |right| server.rights.have(right, None);
        let may = server.family() == Family::MariaDb && self.session.tools().dump.family == Family::MariaDb
            || has("RELOAD") && (has("REPLICATION CLIENT") || has("SUPER"));
        server.has_log && may
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // A panic in a reader leaves the stream it was at without a result, which `finish` notices.
        self.state.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    fn read_rows(&self, stream: usize, place: usize, name: &str, consume: &mut Consume<'_>) -> Result<()> {
        let mut state = self.state();
        let Some(mut run) = state.run.take() else {
            return Err(self.session.error(Kind::Internal, "the run of the dump program has ended already"));
        };
        let mut reader = Reader::new(&mut run, place, name);
        let consumed = consume(&mut reader);
        match reader.finish(consumed.as_ref().err().map(io::Error::kind)) {
            Ok(taken) => {
                state.taken[stream] = Some(taken);
                // Only a run that went well goes on: another one has been ended by now.
                state.run = Some(run);
                Ok(())
            }
            Err(Some(failure)) => Err(failure),
            Err(None) => Err(self.not_consumed(stream, consumed.err())),
        }
    }

    fn not_consumed(&self, stream: usize, error: Option<io::Error>) -> Error {
        let kind = if self.session.stop().raised() { Kind::Interrupted } else { Kind::Source };
        let why = error.map_or_else(|| "it was not read to its end".to_owned(), |error| error.to_string());
        self.session.error(kind, why).object(self.streams[stream].path.clone())
    }

    fn read_text(&self, stream: usize, text: &str, consume: &mut Consume<'_>) -> Result<()> {
        let mut bytes = text.as_bytes();
        match consume(&mut bytes) {
            Ok(_) if bytes.is_empty() => {
                let taken = Taken { stream_bytes: text.len() as u64, ..Taken::default() };
                self.state().taken[stream] = Some(taken);
                Ok(())
            }
            consumed => Err(self.not_consumed(stream, consumed.err())),
        }
    }

    /// The definitions as they are now.
    fn definitions(&self) -> Result<Definitions> {
        let facts = Facts::ask(&self.session)?;
        let chosen = chosen(&facts, &self.options.include, &self.options.exclude);
        Definitions::read(&self.session, &chosen, self.options.is_whole())
    }

    fn manifest(&self, taken: &[Taken], counters: &str, position: Option<String>) -> Manifest {
        let server = &self.facts.server;
        let address = self.session.address();
        // A socket has no port.
        let (host, port) = match address.is_socket() {
            true => (address.server(), 0),
            false => (address.host.clone(), address.port),
        };
        let mut manifest = Manifest {
            version: VERSION,
            kind: DumpKind::Mysql,
            server: Server {
                host,
                port,
                identity: server.identity.clone(),
                version: server.version.clone(),
                version_number: server.number,
                product: server.product.clone(),
            },
            client: self.session.tools().dump.label(),
            database: self.facts.database.clone(),
            properties: BTreeMap::from([
                ("charset".to_owned(), self.facts.charset.clone()),
                ("collation".to_owned(), self.facts.collation.clone()),
                ("name_case".to_owned(), server.name_case.to_string()),
            ]),
            taken_ns: self.taken_ns,
            ended_ns: now(),
            position,
            selection: self.options.as_words(),
            tables: self.tables(taken),
            sequences: sequences(counters),
            streams: Vec::new(),
            notes: self.notes(taken),
            unknown: BTreeMap::new(),
        };
        for ((part, planned), taken) in self.parts.iter().zip(&self.streams).zip(taken) {
            manifest.streams.push(StreamEntry {
                path: planned.path.clone(),
                role: part.role(),
                bytes: taken.stream_bytes,
            });
        }
        manifest
    }

    fn tables(&self, taken: &[Taken]) -> Vec<Table> {
        let mut tables: BTreeMap<&str, Table> = BTreeMap::new();
        for facts in self.chosen.iter().filter(|facts| facts.has_rows()) {
            let table = Table {
                name: facts.name.clone(),
                note: note(facts),
                columns: facts.columns.clone(),
                ..Table::default()
            };
            tables.insert(&facts.name, table);
        }
        for ((part, planned), taken) in self.parts.iter().zip(&self.streams).zip(taken) {
            let Part::Rows { table, .. } = part else { continue };
            if let Some(table) = tables.get_mut(self.chosen[*table].name.as_str()) {
                table.stream = Some(planned.path.clone());
                (table.rows, table.bytes, table.duration_ms) = (taken.rows, taken.bytes, taken.duration_ms);
                table.checksum = Some(taken.checksum.clone());
            }
        }
        tables.into_values().collect()
    }

    /// What somebody should know before restoring. With nothing taken yet, what is known before.
    pub fn notes(&self, taken: &[Taken]) -> Vec<String> {
        let mut notes = Vec::new();
        let mut note = |names: Vec<String>, what: &str| {
            if !names.is_empty() {
                notes.push(format!("{what}: {}", listed(&names)));
            }
        };
        let named = |wanted: &dyn Fn(&TableFacts) -> bool| -> Vec<String> {
            self.chosen.iter().filter(|table| wanted(table)).map(|table| table.name.clone()).collect()
        };
        let unsafe_engine = |table: &&TableFacts| table.has_rows() && !table.is_transactional();
        let loose = self.chosen.iter().filter(unsafe_engine).map(|table| format!("{} ({})", table.name, table.engine));
        note(loose.collect(), "not of the same moment as the others, since their engine knows no transactions");
        note(named(&|table| table.kind == TableKind::Versioned), "without their history");
        note(named(&|table| !table.floats.is_empty()), "FLOAT columns have six digits in every dump, the rest is lost");
        let letters = self
            .chosen
            .iter()
            .flat_map(|table| table.odd_letters.iter().map(|column| format!("{}.{column}", table.name)));
        note(letters.collect(), "letters that UTF-8 does not have are lost");
        let rows = self.parts.iter().enumerate().filter_map(|(at, part)| match part {
            Part::Rows { table, .. } => Some((&self.chosen[*table], taken.get(at))),
            _ => None,
        });
        let elsewhere =
            rows.filter(|(table, taken)| taken.map_or(is_elsewhere(&table.engine), |taken| taken.is_elsewhere));
        note(
            elsewhere.map(|(table, _)| table.name.clone()).collect(),
            "without rows, since their engine keeps them elsewhere",
        );
        note(self.unknown_users.clone(), "accounts that the server lists and does not know");
        if !self.has_users {
            let user = &self.facts.server.user;
            notes.push(format!("without users and grants: {user} may not read them (GRANT SELECT ON mysql.*)"));
        }
        if let Some(primary) = &self.facts.server.primary {
            notes.push(format!("taken from a replica of {primary}"));
        }
        notes
    }
}

impl Part {
    fn role(&self) -> StreamRole {
        match self {
            Part::Text(role, _) => *role,
            Part::Rows { .. } => StreamRole::Data,
            Part::Counters => StreamRole::PostData,
        }
    }
}

impl Dump for Moment {
    fn streams(&self) -> &[Planned] {
        &self.streams
    }

    /// All rows come out of one program, one table after the other.
    fn workers(&self) -> usize {
        1
    }

    fn read(&self, stream: usize, consume: &mut Consume<'_>) -> Result<()> {
        match self.parts.get(stream) {
            Some(Part::Text(_, text)) => self.read_text(stream, text, consume),
            Some(Part::Rows { place, table }) => {
                let name = &self.chosen[*table].name;
                self.read_rows(stream, *place, name, consume).map_err(|error| match error.object {
                    None => error.object(format!("table {name}")),
                    Some(_) => error,
                })
            }
            Some(Part::Counters) => {
                let after = self.definitions()?;
                self.read_text(stream, &self.counters(&after), consume)?;
                self.state().after = Some(after);
                Ok(())
            }
            None => Err(self.session.error(Kind::Internal, "there is no such stream")),
        }
    }

    fn finish(self: Box<Self>) -> Result<Manifest> {
        let State { mut run, taken, after } = std::mem::take(&mut *self.state());
        let has_rows = self.parts.iter().any(|part| matches!(part, Part::Rows { .. }));
        let taken: Option<Vec<Taken>> = taken.into_iter().collect();
        let (Some(taken), true) = (taken, run.is_some() || !has_rows) else {
            return Err(self.session.error(Kind::Internal, "not every stream of the dump was read"));
        };
        let mut position = None;
        if let Some(run) = &mut run {
            match run.step()? {
                Step::End => position = run.position(),
                _ => return Err(self.session.error(Kind::Internal, "not every table of the dump was read")),
            }
        }
        let after = after.map_or_else(|| self.definitions(), Ok)?;
        self.before.compare(&after, &self.session)?;
        Ok(self.manifest(&taken, &after.counters, position))
    }
}

fn now() -> i64 {
    i64::try_from(Clock::System.now().as_nanosecond()).unwrap_or(i64::MAX)
}

fn note(facts: &TableFacts) -> String {
    match facts.kind {
        _ if !facts.is_transactional() => facts.engine.clone(),
        TableKind::Versioned => "system-versioned, without history".to_owned(),
        _ => String::new(),
    }
}

fn listed(names: &[String]) -> String {
    let more = names.len().saturating_sub(NAMES_IN_A_NOTE);
    let mut listed = names[..names.len() - more].join(", ");
    if more > 0 {
        listed.push_str(&format!(" and {more} more"));
    }
    listed
}

fn sequences(counters: &str) -> Vec<Sequence> {
    let found = script::sequences(counters).into_iter();
    found
        .map(|found| Sequence {
            schema: String::new(),
            name: found.name,
            last_value: found.value,
            is_called: found.is_used,
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_list_is_cut() {
        let names: Vec<String> = (0..25).map(|number| format!("t{number}")).collect();
        assert!(listed(&names).ends_with("t19 and 5 more"));
        assert_eq!(listed(&names[..2]), "t0, t1");
    }
}
