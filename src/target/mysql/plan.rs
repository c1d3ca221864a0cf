//! Everything that is checked before anything is written.

use super::restore::{tables_only, text};
use super::{Destination, Options};
use crate::base::Kind;
use crate::db::mysql::{Address, Facts, ServerFacts, Session, identifier, literal, mark, script};
use crate::db::probe::some_of;
use crate::db::{Error, Result, Watch};
use crate::format::dump::{Manifest, StreamRole, Table};
use crate::target::dump::{Checked, StoredDump};

/// Databases that are no restore's business.
const OF_THE_SERVER: [&str; 4] = ["mysql", "sys", "performance_schema", "information_schema"];

/// A restore that can be done as far as it can be known.
pub(super) struct Plan<'p> {
    pub options: &'p Options,
    pub manifest: &'p Manifest,
    /// To the server, with no database: it may not be there yet.
    pub server: Session,
    pub facts: ServerFacts,
    /// The name of the database.
    pub database: String,
    /// Whether a database of that name is there.
    pub is_there: bool,
    /// Whether it is, and a restore into it was broken off.
    is_incomplete: bool,
    /// The tables that are meant.
    pub tables: Vec<&'p Table>,
    pub notes: Vec<String>,
}

impl<'p> Plan<'p> {
    /// Asks the server and looks whether all fits. Changes nothing.
    pub fn make(
        address: &Address,
        options: &'p Options,
        stored: &'p dyn StoredDump,
        watch: &Watch,
    ) -> Result<Plan<'p>> {
        let manifest = stored.manifest();
        if address.database.is_empty() {
            return Err(address.error(Kind::Usage, "no database was named: write mysql://USER@HOST/DATABASE"));
        }
        if OF_THE_SERVER.iter().any(|name| name.eq_ignore_ascii_case(&address.database)) {
            let message =
                format!("{} belongs to the server: restore into a database of another name", address.database);
            return Err(address.error(Kind::Refused, message));
        }
        let session = Session::open(address, Kind::Target, &watch.stop)?;
        let facts = ServerFacts::ask(&session)?;
        let server = session.with_database("")?;
        let name = literal(&address.database);
        let found = server.column(&format!("SELECT 1 FROM information_schema.schemata WHERE schema_name = {name}"))?;
        let (ours, left): (Vec<String>, Vec<String>) =
            mark::marked(&server)?.into_iter().partition(|name| *name == address.database);
        let mut plan = Plan {
            options,
            manifest,
            server,
            facts,
            database: address.database.clone(),
            is_there: !found.is_empty(),
            is_incomplete: !ours.is_empty(),
            tables: manifest.tables.iter().filter(|table| options.wants_rows(&table.name)).collect(),
            notes: left.iter().map(|name| left_behind(name)).collect(),
        };
        plan.check_dump()?;
        plan.check_server()?;
        plan.check_rights()?;
        plan.check_destination()?;
        plan.check_engines(stored)?;
        Ok(plan)
    }

    /// A session in the database that is written.
    pub fn session(&self) -> Result<Session> {
        self.server.with_database(&self.database)
    }

    /// A failure that names server and database.
    pub fn error(&self, kind: Kind, message: impl Into<String>) -> Error {
        self.server.error(kind, message).database(&self.database)
    }

    fn check_dump(&self) -> Result<()> {
        for wanted in &self.options.tables {
            if !self.manifest.tables.iter().any(|table| table.name == *wanted) {
                let database = &self.manifest.database;
                return Err(self.error(Kind::NotFound, format!("the dump of {database} holds no table {wanted}")));
            }
        }
        let has_definitions = self.manifest.streams_of(StreamRole::PreData).next().is_some();
        if self.options.pre_data && !has_definitions && !self.tables.is_empty() {
            let message =
                "the dump holds rows and no definitions: restore them with --phase data into tables that are there";
            return Err(self.error(Kind::Unsupported, message));
        }
        Ok(())
    }

    fn check_server(&mut self) -> Result<()> {
        if self.facts.read_only {
            return Err(self.error(Kind::Target, "the server is read-only: name its primary"));
        }
        let (from, to) = (&self.manifest.server, &self.facts);
        if from.product != to.product {
            let note = format!(
                "the dump is of {} and the server is {}: what only one of them knows fails",
                from.product, to.product
            );
            self.notes.push(note);
        } else if from.version_number / 100 > to.number / 100 {
            self.notes.push(format!("the server ({}) is older than the dump's ({})", to.version, from.version));
        }
        let case = to.name_case.to_string();
        if self.manifest.properties.get("name_case").is_some_and(|before| *before != case) {
            self.notes.push(
                "the server treats capital letters in names of tables otherwise (lower_case_table_names)".to_owned(),
            );
        }
        let has_users = self.manifest.streams_of(StreamRole::Globals).next().is_some();
        if has_users && !self.options.globals && !self.options.is_partial() {
            self.notes.push("users and grants do not go back by themselves: --globals makes them".to_owned());
        }
        Ok(())
    }

    fn check_rights(&self) -> Result<()> {
        let mut needed = vec!["SELECT", "INSERT"];
        if self.options.pre_data {
            needed.extend(["CREATE", "ALTER", "DROP", "REFERENCES"]);
        }
        if self.options.post_data && !self.options.is_partial() {
            needed.extend(["TRIGGER", "CREATE VIEW", "CREATE ROUTINE", "EVENT"]);
        }
        needed.retain(|right| self.facts.rights.lack(right, &self.database));
        if needed.is_empty() {
            return Ok(());
        }
        let (user, needed) = (&self.facts.user, needed.join(", "));
        let (name, host) = user.rsplit_once('@').unwrap_or((user, "%"));
        let database = identifier(&self.database);
        let grant = format!("GRANT {needed} ON {database}.* TO '{name}'@'{host}'");
        Err(self.error(Kind::Denied, format!("{user} lacks {needed}; {grant}")))
    }

    fn check_destination(&self) -> Result<()> {
        let name = &self.database;
        match (self.options.destination, self.is_there) {
            (Destination::Create | Destination::Existing, true) if self.is_incomplete => {
                let remedy = format!(
                    "replace it with --drop-existing --confirm-destructive {name}, or {} if it is to stay as it is",
                    mark::clear(name)
                );
                let message = format!("a database of this name is there, and {}; {remedy}", mark::MEANING);
                Err(self.error(Kind::Refused, message))
            }
            (Destination::Create, true) => {
                let remedy = "choose another name, or say --drop-existing with --confirm-destructive";
                Err(self.error(Kind::Refused, format!("a database of this name is there already; {remedy}")))
            }
            (Destination::Existing, false) => {
                Err(self.error(Kind::NotFound, "there is no such database; --create makes it"))
            }
            (Destination::Existing, true) => self.check_contents(),
            (Destination::Create | Destination::Replace, _) if !self.options.pre_data => {
                let message =
                    "a new database has no tables for rows and indexes: --create wants --phase pre-data as well";
                Err(self.error(Kind::Usage, message))
            }
            (Destination::Create | Destination::Replace, _) => Ok(()),
        }
    }

    /// Servers make a table with another engine if they lack its own, and dumps switch off what would keep them from it.
    fn check_engines(&self, stored: &dyn StoredDump) -> Result<()> {
        if !self.options.pre_data {
            return Ok(());
        }
        let there = "SELECT LOWER(engine) FROM information_schema.engines WHERE support IN ('YES', 'DEFAULT')";
        let there = self.server.column(there).map_err(|error| error.database(&self.database))?;
        let mut lacking = Vec::new();
        for stream in self.manifest.streams_of(StreamRole::PreData) {
            let text = tables_only(self, &text(self, stored, &stream.path)?);
            for statement in script::statements(&text) {
                let engine = script::engine(statement.text).filter(|engine| !there.contains(&engine.to_lowercase()));
                let object = script::object(statement.text);
                if let (Some(engine), Some((_, name))) = (engine, object.as_deref().and_then(|it| it.split_once(' '))) {
                    lacking.push(format!("{name} ({engine})"));
                }
            }
        }
        if lacking.is_empty() {
            return Ok(());
        }
        let what = some_of(&lacking);
        let message = format!(
            "the server lacks the engines of some tables, and would make them with another: {what}; install these engines there \
             (INSTALL SONAME, INSTALL PLUGIN), or restore the other tables with --table"
        );
        Err(self.error(Kind::Unsupported, message))
    }

    /// What is in a database that is there must not stand in the way.
    fn check_contents(&self) -> Result<()> {
        let there = Facts::ask(&self.session()?)?;
        let whole = self.options.pre_data && !self.options.is_partial();
        if whole && !(there.tables.is_empty() && there.routines == 0 && there.events == 0) {
            let what = match there.tables.first() {
                Some(table) => format!("{} tables and views are in it, {} for one", there.tables.len(), table.name),
                None => "routines or events are in it".to_owned(),
            };
            let remedy = "restore with --create into a new one, or say --drop-existing with --confirm-destructive";
            return Err(self.error(Kind::Refused, format!("the database is not empty: {what}; {remedy}")));
        }
        for table in &self.tables {
            let is_there = there.tables.iter().any(|other| other.name == table.name);
            let object = format!("table {}", table.name);
            if self.options.pre_data && is_there {
                let remedy = "drop or rename it, or restore only its rows with --phase data";
                return Err(self.error(Kind::Refused, format!("it is there already; {remedy}")).object(object));
            }
            if !self.options.pre_data && self.options.data && !is_there {
                let remedy = "restore its definition first, with --phase pre-data";
                return Err(self.error(Kind::NotFound, format!("it is not there; {remedy}")).object(object));
            }
        }
        match self.options.data && !self.options.pre_data {
            true => self.check_tables_of_others(),
            false => Ok(()),
        }
    }

    /// Tables that rows go into without having been made just now: empty, and without triggers that would change them.
    fn check_tables_of_others(&self) -> Result<()> {
        let session = self.session()?;
        let questions = self.tables.iter().enumerate().map(|(at, table)| {
            let name = identifier(&table.name);
            format!("SELECT 'rows', '{at}' FROM DUAL WHERE EXISTS (SELECT 1 FROM {name});")
        });
        let database = literal(&self.database);
        let triggers = format!(
            "SELECT 'trigger', event_object_table FROM information_schema.triggers WHERE trigger_schema = {database};"
        );
        for row in session.query(&questions.chain([triggers]).collect::<String>())? {
            let [what, which] = &row[..] else { continue };
            let named = match what.as_str() {
                "rows" => which.parse().ok().and_then(|at: usize| self.tables.get(at)).map(|table| table.name.as_str()),
                _ => self.tables.iter().map(|table| table.name.as_str()).find(|name| name == which),
            };
            let Some(table) = named else { continue };
            let message = match what.as_str() {
                "rows" => "it holds rows already: empty it first",
                _ => {
                    "it has triggers, which would change the rows: drop them first, and make them again with --phase post-data"
                }
            };
            return Err(self.error(Kind::Refused, message).object(format!("table {table}")));
        }
        Ok(())
    }

    /// Whether what is written is all that there will be in the database.
    pub fn makes_all(&self) -> bool {
        let options = self.options;
        options.pre_data && options.data && options.post_data && !options.is_partial()
    }

    /// What a look at it tells.
    pub fn checked(&self) -> Checked {
        let mut plan = Vec::new();
        let name = &self.database;
        match (self.options.destination, self.is_there) {
            (Destination::Create, _) | (Destination::Replace, false) => plan.push(format!("make database {name}")),
            (Destination::Replace, true) => plan.push(format!("drop database {name} and make a new one of that name")),
            (Destination::Existing, _) => plan.push(format!("write into database {name}")),
        }
        let rows: u64 = self.tables.iter().map(|table| table.rows).sum();
        if self.options.pre_data {
            plan.push(format!("define {} tables", self.tables.len()));
        }
        if self.options.data {
            plan.push(format!("write and count {rows} rows"));
        }
        if self.options.post_data {
            plan.push("make triggers, routines, events and views".to_owned());
        }
        Checked {
            server: self.server_label(),
            client: self.server.tools().client.label(),
            plan,
            notes: self.notes.clone(),
        }
    }

    /// The server's product and version.
    pub fn server_label(&self) -> String {
        format!("{} {}", self.facts.product, self.facts.version)
    }
}

/// What a restore that was broken off has left in another database. Nothing of it is dropped by itself.
fn left_behind(database: &str) -> String {
    let name = identifier(database);
    format!("of database {database}: {}; DROP DATABASE {name} when nobody needs it", mark::MEANING)
}
