//! Everything that can be known before the first byte is written, and the plan that follows from it.

use super::archive::Archive;
use super::choose::Choice;
use super::needs::{Needs, Reason, named_roles, needs};
use super::partitions::with_partitions;
use super::place::{MAINTENANCE, connect_for_databases, held_fast, holds_fast, logged_in};
use super::programs::is_ahead;
use super::{Destination, Options, Programs};
use crate::base::{Event, Kind, counted};
use crate::db::postgres::facts::{self, ServerFacts};
use crate::db::postgres::{Address, Connection, Tools, literal, qualified, temporary};
use crate::db::{Error, Result, Watch};
use crate::format::dump::{DumpKind, Manifest, Sequence, StreamRole, Table};
use crate::target::dump::{Checked, StoredDump};
use std::collections::HashSet;
use std::io::{self, BufReader, ErrorKind};

/// The most names that a message lists.
const NAMED: usize = 10;

/// A restore that nothing known stands against.
pub struct Plan<'p> {
    /// Server and the database that holds everything in the end.
    pub address: &'p Address,
    /// What is restored and how.
    pub options: Options,
    /// What the dump promises.
    pub manifest: Manifest,
    /// The server.
    pub facts: ServerFacts,
    /// The programs.
    pub tools: Tools,
    /// The archive of what comes before the rows: what is chosen of it.
    pub pre_data: Option<Archive>,
    /// The archive of what comes after the rows: what is chosen of it.
    pub post_data: Option<Archive>,
    /// Whether something was left out of the archives, so that the streams cannot be used as they are.
    pub filtered: bool,
    /// The tables whose rows are written, as places in the manifest, in order.
    pub tables: Vec<usize>,
    /// The sequences that are set.
    pub sequences: Vec<Sequence>,
    /// Tablespaces that the server lacks, so that all are left to it.
    pub without_tablespaces: bool,
    /// Whether a database of the name is there.
    pub is_there: bool,
    /// Who is logged in to one that is replaced.
    pub logged_in: Option<String>,
    /// What is worth knowing.
    pub notes: Vec<String>,
}

impl<'p> Plan<'p> {
    /// Looks at dump, programs and server.
    pub fn make(
        address: &'p Address,
        options: &Options,
        programs: &Programs,
        stored: &dyn StoredDump,
        watch: &Watch,
    ) -> Result<Plan<'p>> {
        watch.monitor.event(Event::Phase("checking the server"));
        let manifest = stored.manifest();
        if manifest.kind != DumpKind::Postgres {
            let message = format!("a dump of {} cannot be restored to PostgreSQL", manifest.server.product);
            return Err(address.error(Kind::Usage, message));
        }
        let mut connection = connect(address, options, watch)?;
        let facts = ServerFacts::read(&mut connection)?;
        may_be_written(address, connection.address(), &facts, manifest, watch)?;
        let client = client_version(manifest).max(facts.version_number);
        let tools = Tools::find(client, programs.folder.as_deref(), &programs.surroundings, watch)
            .map_err(|error| address.lacks_tools(error))?;
        let error = |kind, message| address.error(kind, message).database(&address.database);
        let pre_data = archive(stored, StreamRole::PreData, error)?;
        let post_data = archive(stored, StreamRole::PostData, error)?;
        let mut plan = Plan {
            address,
            options: options.clone(),
            manifest: manifest.clone(),
            tools,
            pre_data,
            post_data,
            filtered: false,
            tables: Vec::new(),
            sequences: Vec::new(),
            without_tablespaces: false,
            is_there: true,
            logged_in: None,
            notes: Vec::new(),
            facts,
        };
        plan.notes.extend(plan.tools.warning());
        if is_ahead(plan.tools.major, plan.facts.major()) {
            plan.notes.push(format!(
                "pg_restore {} is newer than the server: indexes are built one by one; install the client programs of \
                 version {} for more",
                plan.tools.major,
                plan.facts.major()
            ));
        }
        plan.look_further();
        plan.choose(&mut connection)?;
        plan.look_for_database(&mut connection, watch)?;
        plan.look_for_needs(&mut connection)?;
        if plan.options.destination == Destination::Existing {
            plan.look_into_database(&mut connection)?;
        }
        plan.bound_jobs();
        Ok(plan)
    }

    /// Lets archives look for names where the options say.
    fn look_further(&mut self) {
        if self.options.search_path.is_empty() {
            return;
        }
        self.filtered = true;
        let statement = format!("{};\n", self.options.set_search_path());
        for archive in [&mut self.pre_data, &mut self.post_data].into_iter().flatten() {
            let settings = archive.entries.iter_mut().filter(|entry| entry.is("SEARCHPATH"));
            settings.for_each(|entry| entry.definition = statement.clone().into_bytes());
        }
    }

    /// What the user is told of it.
    pub fn checked(&self) -> Checked {
        let mut plan = Vec::new();
        let database = &self.address.database;
        plan.push(match (self.options.destination, self.is_there) {
            (Destination::Existing, _) => format!("restore into database {database}"),
            (Destination::Replace, true) => {
                let ended = self.logged_in.as_deref().map(|who| format!("end {who} and ")).unwrap_or_default();
                format!("make a new database beside {database}, and last {ended}drop the old one")
            }
            _ => format!("make database {database}"),
        });
        let rows = self.chosen_tables().map(|table| table.rows).sum::<u64>();
        if self.options.phases.pre_data {
            let entries = self.pre_data.as_ref().map_or(0, |archive| archive.entries.len());
            plan.push(format!("make {} before the rows", counted(entries as u64, "object")));
        }
        if self.options.phases.data {
            plan.push(format!(
                "write {rows} rows into {}, set {}",
                counted(self.tables.len() as u64, "table"),
                counted(self.sequences.len() as u64, "sequence")
            ));
        }
        if self.options.phases.post_data {
            let entries = self.post_data.as_ref().map_or(0, |archive| archive.entries.len());
            plan.push(format!("make {} after the rows", counted(entries as u64, "object")));
        }
        Checked {
            server: format!("PostgreSQL {}", self.facts.version),
            client: format!("pg_restore {}.{}", self.tools.major, self.tools.minor),
            plan,
            notes: self.notes.clone(),
        }
    }

    /// The tables whose rows are written.
    pub fn chosen_tables(&self) -> impl Iterator<Item = &Table> {
        self.tables.iter().map(|place| &self.manifest.tables[*place])
    }

    /// A failure in the database that is written.
    pub fn error(&self, kind: Kind, message: impl Into<String>) -> Error {
        self.address.error(kind, message).database(&self.address.database)
    }

    /// Takes out of manifest and archives what is meant.
    fn choose(&mut self, connection: &mut Connection) -> Result<()> {
        let schemas: HashSet<String> = match self.options.destination {
            Destination::Existing => column(connection, "SELECT nspname FROM pg_catalog.pg_namespace")?,
            _ => HashSet::from(["public".to_owned()]),
        };
        if self.pre_data.is_none() && (self.options.phases.pre_data || self.options.phases.post_data) {
            let message =
                "the dump holds rows and no definitions: restore them into tables that are there, with --phase data";
            return Err(self.error(Kind::Usage, message));
        }
        if !self.options.phases.pre_data && self.options.destination != Destination::Existing {
            let message = "a new database has no tables for rows and indexes: --create wants --phase pre-data as well";
            return Err(self.error(Kind::Usage, message));
        }
        let nothing = Archive::empty();
        let pre_data = self.pre_data.as_ref().unwrap_or(&nothing);
        self.options.tables = with_partitions(&self.options.tables, &self.options.schemas, pre_data);
        let choice = Choice::new(&self.options, pre_data, &|schema| schemas.contains(schema));
        for table in &self.options.tables {
            let is_there = self.manifest.tables.iter().any(|one| one.schema == table.schema && one.name == table.name);
            let is_defined = pre_data.entries.iter().any(|entry| {
                entry.schema.as_deref() == Some(table.schema.as_bytes()) && entry.tag == table.name.as_bytes()
            });
            if !is_there && !is_defined {
                let message = format!("the dump of {} holds no table {table}", self.manifest.database);
                return Err(self.error(Kind::NotFound, message));
            }
        }
        for schema in &self.options.schemas {
            if !self.manifest.tables.iter().any(|one| one.schema == *schema)
                && !pre_data.entries.iter().any(|entry| entry.schema.as_deref() == Some(schema.as_bytes()))
            {
                let message = format!("the dump of {} holds nothing in schema {schema}", self.manifest.database);
                return Err(self.error(Kind::NotFound, message));
            }
        }
        let sequences = self.manifest.sequences.iter();
        self.sequences = sequences.filter(|one| choice.takes_sequence(&one.schema, &one.name)).cloned().collect();
        let tables = self.manifest.tables.iter().enumerate();
        self.tables = tables
            .filter(|(_, table)| table.stream.is_some() && self.options.wants_rows(&table.schema, &table.name))
            .map(|(place, _)| place)
            .collect();
        if self.options.is_partial() {
            self.filtered = true;
            let chosen = |archive: &Option<Archive>| archive.as_ref().map(|archive| choice.of(archive));
            (self.pre_data, self.post_data) = (chosen(&self.pre_data), chosen(&self.post_data));
        }
        if let Some(tables) = &self.options.rows_of {
            self.filtered = true;
            let options = Options { tables: tables.clone(), ..self.options.clone() };
            let choice = Choice::new(&options, self.pre_data.as_ref().unwrap_or(&nothing), &|_| true);
            let of_rows = |archive: &Archive| {
                let mut archive = choice.of(archive);
                // The rows that they name are not there.
                archive.entries.retain(|entry| !entry.is("FK CONSTRAINT"));
                archive
            };
            self.post_data = self.post_data.as_ref().map(of_rows);
        }
        Ok(())
    }

    fn look_for_database(&mut self, connection: &mut Connection, watch: &Watch) -> Result<()> {
        let database = &self.address.database;
        let sql = format!("SELECT 1 FROM pg_catalog.pg_database WHERE datname = {}", literal(database));
        self.is_there = connection.value(&sql)?.is_some();
        let is_in_place = self.options.destination == Destination::Existing;
        if database == "template0" || database == "template1" || database == MAINTENANCE && !is_in_place {
            let message = format!("{database} belongs to the server: restore into a database of another name");
            return Err(self.error(Kind::Refused, message));
        }
        if is_in_place {
            return Ok(());
        }
        if self.is_there && self.options.destination == Destination::Create {
            let message = format!(
                "the database is there already; restore into another, or replace it with --drop-existing \
                 --confirm-destructive {database}"
            );
            return Err(self.error(Kind::Refused, message));
        }
        if self.is_there
            && let Some(by) = holds_fast(connection, database, self.facts.version_number)?
        {
            return Err(held_fast(self.address, &by));
        }
        if self.is_there {
            self.logged_in = logged_in(connection, database)?;
        }
        if !self.facts.creates_databases {
            let message = format!(
                "role {0} may not create databases: ALTER ROLE {0} CREATEDB, or restore into one that is there",
                self.facts.user
            );
            return Err(self.error(Kind::Denied, message));
        }
        self.notes.extend(temporary::broken_off(self.address, watch)?);
        Ok(())
    }

    /// Roles, extensions and tablespaces that the server lacks.
    fn look_for_needs(&mut self, connection: &mut Connection) -> Result<()> {
        let phases = self.options.phases;
        let roles: HashSet<String> = column(connection, "SELECT rolname FROM pg_catalog.pg_roles")?;
        if self.options.is_drill {
            self.leave_out_for_drill(&roles);
        }
        let archives = [(phases.pre_data, &self.pre_data), (phases.post_data, &self.post_data)];
        let entries = archives.into_iter().filter(|(wanted, _)| *wanted).filter_map(|(_, archive)| archive.as_ref());
        let entries =
            entries.flat_map(|archive| &archive.entries).filter(|entry| !is_of_database(&entry.tag, &entry.kind));
        let needs = needs(entries, self.options.owners, self.options.grants);
        let lacks_roles = self.roles(&needs, &roles).err();
        let available: HashSet<String> = column(connection, "SELECT name FROM pg_catalog.pg_available_extensions")?;
        let missing: Vec<&String> = needs.extensions.iter().filter(|name| !available.contains(*name)).collect();
        if !missing.is_empty() {
            let message = format!(
                "the server has no extension {}: install the packages that bring it, on the server's machine",
                list(&missing)
            );
            let message = match lacks_roles {
                Some(roles) => format!("{message}; {}", roles.message),
                None => message,
            };
            return Err(self.error(Kind::Target, message).object(format!("extension {}", missing[0])));
        }
        if let Some(error) = lacks_roles {
            return Err(error);
        }
        let tablespaces = column(connection, "SELECT spcname FROM pg_catalog.pg_tablespace")?;
        let missing: Vec<&String> = needs.tablespaces.iter().filter(|name| !tablespaces.contains(*name)).collect();
        if !missing.is_empty() && !self.options.globals {
            self.without_tablespaces = true;
            self.notes.push(format!(
                "the server has no tablespace {}: everything goes to the database's own",
                list(&missing)
            ));
        }
        Ok(())
    }

    /// The tablespace of a new database, as it was at the source. If the server lacks it or does not let us in, a note says
    /// so, and it is the server's usual one.
    pub fn own_tablespace(&self, connection: &mut Connection, notes: &mut Vec<String>) -> Result<Option<&str>> {
        let Some(name) = self.manifest.properties.get("tablespace") else { return Ok(None) };
        let may = format!(
            "SELECT pg_catalog.has_tablespace_privilege(oid, 'CREATE') FROM pg_catalog.pg_tablespace WHERE spcname = {}",
            literal(name)
        );
        let why = match connection.value(&may)?.as_deref() {
            Some("t") => return Ok(Some(name)),
            Some(_) => format!("role {} may not create in tablespace {name}", self.facts.user),
            None => format!("the server has no tablespace {name}"),
        };
        notes.push(format!("{why}, where the database was: it is in the server's usual one"));
        Ok(None)
    }

    /// Takes out what a drill cannot make or must not.
    fn leave_out_for_drill(&mut self, roles: &HashSet<String>) {
        let mut left_out = 0;
        for archive in [&mut self.pre_data, &mut self.post_data].into_iter().flatten() {
            let before = archive.entries.len();
            archive.entries.retain(|entry| {
                !entry.is("SUBSCRIPTION") && named_roles(entry).iter().all(|role| roles.contains(role))
            });
            left_out += before - archive.entries.len();
        }
        if left_out > 0 {
            self.filtered = true;
            self.notes.push(format!(
                "{left_out} subscriptions, policies and user mappings were left out: a drill has no such roles"
            ));
        }
    }

    fn roles(&self, needs: &Needs, roles: &HashSet<String>) -> Result<()> {
        if self.options.globals {
            return Ok(());
        }
        let missing: Vec<(&String, &(Reason, String))> =
            needs.roles.iter().filter(|(role, _)| !roles.contains(*role)).collect();
        let Some((first, (_, object))) = missing.first() else { return Ok(()) };
        let remedy = match missing.iter().map(|(_, (reason, _))| *reason).max() {
            Some(Reason::Owner) => "--no-owner leaves everything to the role that restores",
            Some(Reason::Grant) => "--no-owner and --no-acl leave out owners and grants",
            _ => "policies name them, so that they must be there",
        };
        let has_globals = self.manifest.streams_of(StreamRole::Globals).next().is_some();
        let globals = if has_globals { "; --globals makes the roles that the dump knows" } else { "" };
        let names: Vec<&String> = missing.iter().map(|(role, _)| *role).collect();
        let message = format!(
            "the server has no role {}: CREATE ROLE makes it{globals}; {remedy}; {object} needs it",
            list(&names)
        );
        Err(self.error(Kind::Target, message).object(format!("role {first}")))
    }

    /// What is in a database that is there already.
    fn look_into_database(&mut self, connection: &mut Connection) -> Result<()> {
        let phases = self.options.phases;
        let there = column(connection, RELATIONS)?;
        if phases.pre_data && !self.options.is_partial() {
            let objects: Vec<String> = connection.query(OBJECTS)?.into_iter().filter_map(first).collect();
            if let Some(object) = objects.first() {
                let more = if objects.len() > 1 { " and more" } else { "" };
                let database = &self.address.database;
                let message = format!(
                    "the database is not empty: it holds {object}{more}. Restore into a new one with --create, or \
                     replace this one with --drop-existing --confirm-destructive {database}"
                );
                return Err(self.error(Kind::Refused, message));
            }
            return Ok(());
        }
        if phases.pre_data {
            for table in self.chosen_tables() {
                if there.contains(&qualified(&table.schema, &table.name)) {
                    let name = format!("{}.{}", table.schema, table.name);
                    let message = format!(
                        "there is a table {name} already: rename or drop it first, or write only rows with --phase data"
                    );
                    return Err(self.error(Kind::Refused, message).object(format!("table {name}")));
                }
            }
            return Ok(());
        }
        if phases.data {
            self.look_into_tables(connection, &there)?;
        }
        Ok(())
    }

    /// Rows are only written into tables that are there and empty.
    fn look_into_tables(&self, connection: &mut Connection, there: &HashSet<String>) -> Result<()> {
        for table in self.chosen_tables().filter(|table| table.condition.is_none()) {
            let name = qualified(&table.schema, &table.name);
            let error = |kind, message: &str| {
                self.error(kind, message).object(format!("table {}.{}", table.schema, table.name))
            };
            if !there.contains(&name) {
                let message = "it is not in the database: restore the definitions first (--phase pre-data)";
                return Err(error(Kind::NotFound, message));
            }
            if connection.value(&format!("SELECT 1 FROM ONLY {name} LIMIT 1"))?.is_some() {
                let message = "it holds rows already; empty it first (TRUNCATE), if they may go";
                return Err(error(Kind::Refused, message));
            }
        }
        Ok(())
    }

    /// As many sessions as the server has free, two of them kept for whoever else comes.
    fn bound_jobs(&mut self) {
        let free = self.facts.max_sessions.saturating_sub(self.facts.sessions + 2).max(1) as usize;
        if self.options.jobs > free {
            self.notes.push(format!("the server has only {free} sessions free: that many are used"));
        }
        self.options.jobs = self.options.jobs.clamp(1, free);
    }
}

/// Somebody's relations, by their quoted names.
const RELATIONS: &str = "SELECT pg_catalog.concat('\"', pg_catalog.replace(n.nspname, '\"', '\"\"'), '\".\"', \
     pg_catalog.replace(c.relname, '\"', '\"\"'), '\"') \
     FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace \
     WHERE n.nspname !~ '^pg_' AND n.nspname <> 'information_schema'";

/// The first things that make a database not empty: schemas, relations, functions, types, extensions that the user made.
/// Objects of the server itself have oids below 16384.
pub const OBJECTS: &str = "SELECT kind || ' ' || name FROM ( \
       SELECT 1 AS place, 'table' AS kind, n.nspname || '.' || c.relname AS name, c.oid \
         FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace \
         WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f', 'S') AND n.nspname !~ '^pg_toast' \
     UNION ALL SELECT 2, 'function', n.nspname || '.' || p.proname, p.oid \
         FROM pg_catalog.pg_proc p JOIN pg_catalog.pg_namespace n ON n.oid = p.pronamespace \
     UNION ALL SELECT 3, 'type', n.nspname || '.' || t.typname, t.oid \
         FROM pg_catalog.pg_type t JOIN pg_catalog.pg_namespace n ON n.oid = t.typnamespace \
         WHERE t.typrelid = 0 AND t.typelem = 0 \
     UNION ALL SELECT 4, 'schema', nspname, oid FROM pg_catalog.pg_namespace \
         WHERE nspname !~ '^pg_' \
     UNION ALL SELECT 5, 'extension', extname, oid FROM pg_catalog.pg_extension \
     UNION ALL SELECT 6, 'large object', oid::text, oid FROM pg_catalog.pg_largeobject_metadata \
     ) objects WHERE oid >= 16384 ORDER BY place, name LIMIT 2";

/// Whether an entry concerns the database itself and not what is in it.
pub fn is_of_database(tag: &[u8], kind: &[u8]) -> bool {
    kind.starts_with(b"DATABASE") || tag.starts_with(b"DATABASE ")
}

fn connect(address: &Address, options: &Options, watch: &Watch) -> Result<Connection> {
    if options.destination != Destination::Existing {
        return connect_for_databases(address, watch);
    }
    Connection::connect(address, None, watch).map(Connection::as_target).map_err(|error| match error.kind() {
        Kind::NotFound => {
            let message = format!("{}; --create makes it", error.message);
            Error { message, ..error }
        }
        _ => error,
    })
}

/// Whether a restore to this server can end well. `reached` leads to a database that is there.
fn may_be_written(
    address: &Address,
    reached: &Address,
    facts: &ServerFacts,
    manifest: &Manifest,
    watch: &Watch,
) -> Result<()> {
    if facts.standby {
        let message = "the server is a standby: it takes no changes; give the address of its primary";
        return Err(address.error(Kind::Target, message));
    }
    let from = manifest.server.version_number / 10_000;
    if facts.major() < from {
        let message = format!(
            "the server is PostgreSQL {}, the dump is of {}: an older server does not understand it; restore to \
             PostgreSQL {from} or later",
            facts.version, manifest.server.version
        );
        return Err(address.error(Kind::Unsupported, message));
    }
    if facts::is_pooled(reached, watch).unwrap_or(false) {
        return Err(facts::pooled(address));
    }
    Ok(())
}

/// The version of the program that wrote the dump, as servers number theirs: `pg_dump 15.18` is 150000.
pub fn client_version(manifest: &Manifest) -> u32 {
    let digits = manifest.client.split_ascii_whitespace().nth(1).unwrap_or_default();
    digits.split('.').next().and_then(|major| major.parse::<u32>().ok()).unwrap_or(0).saturating_mul(10_000)
}

/// The table of contents of one of a dump's archives.
pub fn archive(
    stored: &dyn StoredDump,
    role: StreamRole,
    error: impl Fn(Kind, String) -> Error,
) -> Result<Option<Archive>> {
    let Some(stream) = stored.manifest().streams_of(role).next() else { return Ok(None) };
    let unreadable = |cause: io::Error| {
        let kind = if cause.kind() == ErrorKind::InvalidData { Kind::Damaged } else { Kind::of_io(&cause) };
        error(kind, format!("stream {} of the snapshot cannot be read: {cause}", stream.path))
    };
    let reader = stored.open(&stream.path).map_err(unreadable)?;
    Archive::read(&mut BufReader::new(reader)).map_err(unreadable).map(Some)
}

fn first(row: Vec<Option<String>>) -> Option<String> {
    row.into_iter().next().flatten()
}

/// The first column of an answer.
fn column(connection: &mut Connection, sql: &str) -> Result<HashSet<String>> {
    Ok(connection.query(sql)?.into_iter().filter_map(first).collect())
}

/// Names with commas, not too many.
fn list(names: &[&String]) -> String {
    let more = names.len().saturating_sub(NAMED);
    let names: Vec<&str> = names.iter().take(NAMED).map(|name| name.as_str()).collect();
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    format!("{}{more}", names.join(", "))
}
