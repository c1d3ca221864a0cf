//! What a server and a database are, and what we may do there.
//!
//! Asked before anything is dumped or restored, and by whoever only wants to know. Everything comes out of a few
//! questions; what a user may not see is not known, and then nothing is made up.

use super::rights::Rights;
use super::{Family, Session, literal, mark};
use crate::base::Kind;
use crate::db::Result;
use std::collections::BTreeMap;

/// What a server says of itself and of us.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ServerFacts {
    /// `MariaDB` or `MySQL`.
    pub product: String,
    /// The version as the server says it.
    pub version: String,
    /// The version as a number that grows: `101106`.
    pub number: u32,
    /// What tells it from every other: `server_uuid` (MySQL), `server_uid` (MariaDB since 2024), else host name and port.
    pub identity: String,
    /// Whom we are logged in as: `backup@%`.
    pub user: String,
    /// Whether it writes a binary log.
    pub has_log: bool,
    /// Whether it takes no writes.
    pub read_only: bool,
    /// The server it replicates from, if it is a replica and we may see that.
    pub primary: Option<String>,
    /// Whether names of tables differ by case: 0 they do, 1 all are small letters, 2 they are kept and do not.
    pub name_case: u8,
    /// The largest row it takes, in bytes.
    pub max_packet_bytes: u64,
    /// What we may do.
    pub rights: Rights,
}

impl ServerFacts {
    /// Asks.
    pub fn ask(session: &Session) -> Result<ServerFacts> {
        let server = session.with_database("")?;
        let names = "'version','server_uuid','server_uid','hostname','port','log_bin','read_only','super_read_only',\
                     'lower_case_table_names','max_allowed_packet'";
        let rows = server.query(&format!(
            "SHOW GLOBAL VARIABLES WHERE Variable_name IN ({names}); SELECT 'user', CURRENT_USER(); SHOW GRANTS"
        ))?;
        let (grants, variables): (Vec<_>, Vec<_>) = rows.into_iter().partition(|row| row.len() == 1);
        let variables = variables.into_iter().filter_map(|row| Some((row.first()?.clone(), row.get(1)?.clone())));
        let variables: BTreeMap<String, String> = variables.collect();
        let get = |name: &str| variables.get(name).map_or("", String::as_str);
        let version = get("version").to_owned();
        let identity = [get("server_uuid"), get("server_uid")].into_iter().find(|id| !id.is_empty());
        let family = Family::of_version(&version);
        let number = super::tools::number(&version).unwrap_or(0);
        Ok(ServerFacts {
            product: family.product().to_owned(),
            identity: identity.map_or_else(|| format!("{}:{}", get("hostname"), get("port")), str::to_owned),
            user: get("user").to_owned(),
            has_log: get("log_bin") == "ON",
            read_only: get("read_only") == "ON" || get("super_read_only") == "ON",
            primary: primary(&server, family, number),
            name_case: get("lower_case_table_names").parse().unwrap_or(0),
            max_packet_bytes: get("max_allowed_packet").parse().unwrap_or(0),
            rights: Rights::of_grants(grants.iter().filter_map(|row| row.first()).map(String::as_str)),
            version,
            number,
        })
    }

    /// Which family it is.
    pub fn family(&self) -> Family {
        Family::of_version(&self.version)
    }
}

/// Whom a replica follows. Who may not ask does not know.
fn primary(server: &Session, family: Family, number: u32) -> Option<String> {
    let word = if family == Family::MySql && number >= 80_022 { "REPLICA" } else { "SLAVE" };
    let rows = server.query(&format!("SHOW {word} STATUS")).ok()?;
    rows.first().and_then(|row| row.get(1)).cloned()
}

/// The databases of a server that are somebody's, not the server's own.
pub fn databases(session: &Session) -> Result<Vec<String>> {
    const OWN: [&str; 4] = ["information_schema", "performance_schema", "mysql", "sys"];
    let all = session.with_database("")?.column("SHOW DATABASES")?;
    Ok(all.into_iter().filter(|name| !OWN.contains(&name.to_ascii_lowercase().as_str())).collect())
}

/// What a table is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TableKind {
    /// A table.
    #[default]
    Table,
    /// A table that keeps its history (MariaDB).
    Versioned,
    /// A view.
    View,
    /// A sequence (MariaDB).
    Sequence,
}

/// A table, view or sequence.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TableFacts {
    /// Its name.
    pub name: String,
    /// What it is.
    pub kind: TableKind,
    /// Its engine, empty for views.
    pub engine: String,
    /// About how many bytes its rows take.
    pub bytes: u64,
    /// Its columns in order.
    pub columns: Vec<String>,
    /// Columns of type `FLOAT`, which servers write with six digits only.
    pub floats: Vec<String>,
    /// Columns in a character set with letters that UTF-8 may not give back: `name (sjis)`.
    pub odd_letters: Vec<String>,
}

/// Engines whose tables only lead to rows that lie elsewhere; dump programs give none of them.
pub fn is_elsewhere(engine: &str) -> bool {
    ["MRG_MyISAM", "MRG_ISAM", "FEDERATED", "CONNECT", "OQGRAPH", "SPIDER", "VP"]
        .iter()
        .any(|name| engine.eq_ignore_ascii_case(name))
}

impl TableFacts {
    /// Whether it holds rows that a dump takes.
    pub fn has_rows(&self) -> bool {
        matches!(self.kind, TableKind::Table | TableKind::Versioned)
    }

    /// Whether a transaction sees it as it was at one moment.
    pub fn is_transactional(&self) -> bool {
        ["InnoDB", "ROCKSDB", "TokuDB", "ndbcluster"].iter().any(|engine| self.engine.eq_ignore_ascii_case(engine))
    }
}

/// What a database holds.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Facts {
    /// Its server.
    pub server: ServerFacts,
    /// Its name.
    pub database: String,
    /// Its character set.
    pub charset: String,
    /// Its collation.
    pub collation: String,
    /// Whether a restore into it was begun and not ended: see [`mark`].
    pub is_incomplete: bool,
    /// Tables, views and sequences, sorted as the server sorts them.
    pub tables: Vec<TableFacts>,
    /// Triggers, as far as we may see them.
    pub triggers: u64,
    /// Events, as far as we may see them.
    pub events: u64,
    /// Procedures, functions and packages, as far as we may see them.
    pub routines: u64,
    /// Those of them whose text the server keeps from us.
    pub hidden_routines: u64,
}

impl Facts {
    /// Asks about the database that the session's address names. Fails with `NotFound` if there is none or we may not
    /// see it.
    pub fn ask(session: &Session) -> Result<Facts> {
        let database = session.address().database.clone();
        if database.is_empty() {
            return Err(session.error(Kind::Usage, "no database was named: write mysql://USER@HOST/DATABASE"));
        }
        let server = ServerFacts::ask(session)?;
        let mut facts = Facts { server, database, ..Facts::default() };
        facts.take_answer(&session.with_database("")?, session)?;
        Ok(facts)
    }

    fn take_answer(&mut self, server: &Session, session: &Session) -> Result<()> {
        let name = literal(&self.database);
        let rows = server.query(&format!(
            "SELECT 'schema', default_character_set_name, default_collation_name FROM information_schema.schemata \
               WHERE schema_name = {name};
             SELECT 'table', table_name, table_type, COALESCE(engine, ''), COALESCE(data_length, 0) \
               FROM information_schema.tables WHERE table_schema = {name} ORDER BY table_name;
             SELECT 'column', table_name, column_name, data_type, COALESCE(character_set_name, '') \
               FROM information_schema.columns WHERE table_schema = {name} ORDER BY table_name, ordinal_position;
             SELECT 'triggers', COUNT(*) FROM information_schema.triggers WHERE trigger_schema = {name};
             SELECT 'events', COUNT(*) FROM information_schema.events WHERE event_schema = {name};
             SELECT 'routines', COUNT(*), COUNT(*) - COUNT(routine_definition) FROM information_schema.routines \
               WHERE routine_schema = {name}"
        ))?;
        let mut places = BTreeMap::new();
        let mut is_there = false;
        for row in rows {
            let texts: Vec<&str> = row.iter().map(String::as_str).collect();
            match texts[..] {
                ["schema", charset, collation] => {
                    is_there = true;
                    (self.charset, self.collation) = (charset.to_owned(), collation.to_owned());
                }
                ["table", mark::TABLE, ..] => self.is_incomplete = true,
                ["table", name, kind, engine, bytes] => {
                    places.insert(name.to_owned(), self.tables.len());
                    self.tables.push(table(name, kind, engine, bytes));
                }
                ["column", table, name, kind, charset] => {
                    if let Some(place) = places.get(table) {
                        add_column(&mut self.tables[*place], name, kind, charset);
                    }
                }
                ["triggers", count] => self.triggers = count.parse().unwrap_or(0),
                ["events", count] => self.events = count.parse().unwrap_or(0),
                ["routines", count, hidden] => {
                    self.routines = count.parse().unwrap_or(0);
                    self.hidden_routines = hidden.parse().unwrap_or(0);
                }
                _ => {}
            }
        }
        match is_there {
            true => Ok(()),
            false => {
                let user = &self.server.user;
                let message = format!(
                    "there is no such database, or {user} has no rights on it; check the name, or grant SELECT"
                );
                Err(session.error(Kind::NotFound, message))
            }
        }
    }

    /// About how many bytes its rows take.
    pub fn bytes(&self) -> u64 {
        self.tables.iter().fold(0, |sum, table| sum.saturating_add(table.bytes))
    }

    /// The right without which a dump may lack procedures, functions and packages, as `GRANT` names it. Servers show those of
    /// others without their text to whoever may run or alter them, and to nobody else.
    pub fn right_to_routines(&self) -> Option<&'static str> {
        let rights = &self.server.rights;
        let (sees_texts, right) = match self.server.family() {
            Family::MariaDb => (
                !rights.lack_on("SELECT", "mysql", "proc") || rights.have("SHOW CREATE ROUTINE", Some(&self.database)),
                "SELECT ON mysql.proc",
            ),
            Family::MySql if self.server.number < 80_000 => {
                (!rights.lack_on("SELECT", "mysql", "proc"), "SELECT ON mysql.proc")
            }
            // A global SELECT is enough; one on the database is not.
            Family::MySql => (
                rights.have("SHOW_ROUTINE", None) || rights.have("SELECT", None),
                if self.server.number < 80_020 { "SELECT ON *.*" } else { "SHOW_ROUTINE ON *.*" },
            ),
        };
        let sees_names = ["EXECUTE", "ALTER ROUTINE"].iter().any(|right| rights.have(right, Some(&self.database)));
        let sees_all = sees_texts || sees_names && self.hidden_routines == 0;
        (!sees_all).then_some(right)
    }

    /// What is kept from us of them, in words.
    pub fn kept_routines(&self) -> String {
        let user = &self.server.user;
        match self.hidden_routines {
            0 => format!("{user} may not see procedures and functions of others, nor whether there are any"),
            1 => format!("{user} may not see the text of 1 procedure or function"),
            hidden => format!("{user} may not see the text of {hidden} procedures and functions"),
        }
    }

    /// What a dump needs and we do not have, as `GRANT` names it.
    pub fn missing_rights(&self) -> Vec<&'static str> {
        let mut needed = vec!["SELECT", "TRIGGER"];
        if self.tables.iter().any(|table| table.kind == TableKind::View) {
            needed.push("SHOW VIEW");
        }
        needed.push("EVENT");
        needed.retain(|right| self.server.rights.lack(right, &self.database));
        needed
    }
}

fn table(name: &str, kind: &str, engine: &str, bytes: &str) -> TableFacts {
    let kind = match kind {
        "VIEW" | "SYSTEM VIEW" => TableKind::View,
        "SEQUENCE" => TableKind::Sequence,
        "SYSTEM VERSIONED" => TableKind::Versioned,
        _ => TableKind::Table,
    };
    let bytes = bytes.parse().unwrap_or(0);
    TableFacts { name: name.to_owned(), kind, engine: engine.to_owned(), bytes, ..TableFacts::default() }
}

fn add_column(table: &mut TableFacts, name: &str, kind: &str, charset: &str) {
    const MANY_BYTES: [&str; 8] = ["big5", "cp932", "eucjpms", "euckr", "gb2312", "gbk", "sjis", "ujis"];
    table.columns.push(name.to_owned());
    if kind == "float" {
        table.floats.push(name.to_owned());
    }
    if MANY_BYTES.contains(&charset) {
        table.odd_letters.push(format!("{name} ({charset})"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_are_what_the_server_calls_them() {
        let found = table("t", "SYSTEM VERSIONED", "InnoDB", "16384");
        assert!(found.has_rows() && found.is_transactional());
        assert!(!table("v", "VIEW", "", "0").has_rows());
        assert!(!table("m", "BASE TABLE", "MyISAM", "0").is_transactional());
        assert!(is_elsewhere("MRG_MYISAM") && !is_elsewhere("MyISAM") && !is_elsewhere(""));
    }

    #[test]
    fn columns_that_do_not_come_back_exactly_are_remembered() {
        let mut found = table("t", "BASE TABLE", "InnoDB", "1");
        add_column(&mut found, "a", "float", "");
        add_column(&mut found, "b", "varchar", "sjis");
        add_column(&mut found, "c", "double", "latin1");
        assert_eq!(found.columns, ["a", "b", "c"]);
        assert_eq!((found.floats, found.odd_letters), (vec!["a".to_owned()], vec!["b (sjis)".to_owned()]));
    }
}
