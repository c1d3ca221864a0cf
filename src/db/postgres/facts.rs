//! What a PostgreSQL server and its databases are: asked before anything is done with them.

use super::address::Address;
use super::connection::{Connection, Row};
use super::quote::literal;
use crate::base::Kind;
use crate::db::{Error, Result, Watch};
use std::collections::BTreeMap;

/// What is true of the whole server, for the role that is logged in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerFacts {
    /// The version as the server says it: `15.8 (Debian 15.8-0+deb12u1)`.
    pub version: String,
    /// The version as a number that grows: `150008`; `90624` for 9.6.24.
    pub version_number: u32,
    /// The system identifier of the cluster; where it may not be asked, host and port.
    pub identity: String,
    /// Whether it is a standby that replays another's log. It can be dumped; nothing can be restored to it.
    pub standby: bool,
    /// The role that is logged in.
    pub user: String,
    /// Whether the role is a superuser.
    pub superuser: bool,
    /// Whether row security does not concern the role.
    pub bypasses_row_security: bool,
    /// Whether the role may create databases.
    pub creates_databases: bool,
    /// Whether the role may create roles.
    pub creates_roles: bool,
    /// How many sessions the server takes, those for superusers left out.
    pub max_sessions: u32,
    /// How many sessions there are now.
    pub sessions: u32,
    /// How many locks the server has room for, about.
    pub lock_slots: u64,
}

impl ServerFacts {
    /// Asks the server.
    pub fn read(connection: &mut Connection) -> Result<ServerFacts> {
        let sql = "SELECT pg_catalog.current_setting('server_version'), \
             pg_catalog.current_setting('server_version_num'), pg_catalog.pg_is_in_recovery(), rolname, rolsuper, \
             rolbypassrls OR rolsuper, rolcreatedb OR rolsuper, rolcreaterole OR rolsuper, \
             pg_catalog.current_setting('max_connections')::int8 \
               - pg_catalog.current_setting('superuser_reserved_connections')::int8, \
             (SELECT pg_catalog.count(*) FROM pg_catalog.pg_stat_activity), \
             pg_catalog.current_setting('max_locks_per_transaction')::int8 * \
               (pg_catalog.current_setting('max_connections')::int8 \
                + pg_catalog.current_setting('max_prepared_transactions')::int8) \
             FROM pg_catalog.pg_roles WHERE rolname = current_user";
        let row = connection.query(sql)?.into_iter().next();
        let row = Values(row.ok_or_else(|| connection.strange("the role that is logged in is in no catalog"))?);
        let identity = identity(connection)?;
        Ok(ServerFacts {
            version: row.text(0),
            version_number: row.number(1, connection)?,
            identity,
            standby: row.flag(2),
            user: row.text(3),
            superuser: row.flag(4),
            bypasses_row_security: row.flag(5),
            creates_databases: row.flag(6),
            creates_roles: row.flag(7),
            max_sessions: row.number(8, connection)?,
            sessions: row.number(9, connection)?,
            lock_slots: row.number(10, connection)?,
        })
    }

    /// The major version: 15 of `150008`, 9 of `90624`.
    pub fn major(&self) -> u32 {
        self.version_number / 10_000
    }
}

/// The system identifier, which every role may ask for unless somebody took that right away.
fn identity(connection: &mut Connection) -> Result<String> {
    let sql = "SELECT system_identifier FROM pg_catalog.pg_control_system()";
    // Asked for the right first: a refusal would end a transaction that somebody else has begun.
    let may = "SELECT pg_catalog.has_function_privilege('pg_catalog.pg_control_system()', 'EXECUTE')";
    let found = if connection.value(may)?.as_deref() == Some("t") { connection.value(sql)? } else { None };
    Ok(found.unwrap_or_else(|| connection.address().server()))
}

/// What a database is: all that a new one needs to hold the same.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DatabaseFacts {
    /// Its name.
    pub name: String,
    /// The role that owns it.
    pub owner: String,
    /// Its encoding: `UTF8`, `LATIN1`, `SQL_ASCII`.
    pub encoding: String,
    /// Its collation and character classes: `LC_COLLATE`, `LC_CTYPE`.
    pub collate: String,
    /// See [`collate`](DatabaseFacts::collate).
    pub ctype: String,
    /// Who sorts: `libc`, `icu` or `builtin`.
    pub provider: String,
    /// The locale of a provider other than `libc`.
    pub locale: Option<String>,
    /// Rules of ICU beside the locale.
    pub icu_rules: Option<String>,
    /// The version of the collation that its indexes were made with.
    pub collation_version: Option<String>,
    /// How many sessions it takes; -1 for any number.
    pub connection_limit: i32,
    /// Its tablespace.
    pub tablespace: String,
    /// Who may do what with it, as the catalog keeps it; none if nobody changed that.
    pub acl: Option<String>,
    /// Its comment.
    pub comment: Option<String>,
    /// Settings that sessions in it begin with: role or empty, and `name=value`.
    pub settings: Vec<(String, String)>,
    /// Its size on the server's disk in bytes; none where that may not be asked.
    pub bytes: Option<u64>,
}

impl DatabaseFacts {
    /// Asks about the database that `connection` is logged in to.
    pub fn read(connection: &mut Connection, version_number: u32) -> Result<DatabaseFacts> {
        let since = |version: u32, column: &'static str| if version_number >= version { column } else { "NULL" };
        let locale = if version_number >= 170_000 { "d.datlocale" } else { since(150_000, "d.daticulocale") };
        let sql = format!(
            "SELECT d.datname, pg_catalog.pg_get_userbyid(d.datdba), pg_catalog.pg_encoding_to_char(d.encoding), \
             d.datcollate, d.datctype, {}, {locale}, {}, {}, d.datconnlimit, t.spcname, d.datacl::text, \
             pg_catalog.shobj_description(d.oid, 'pg_database'), \
             CASE WHEN pg_catalog.has_database_privilege(d.oid, 'CONNECT') \
               THEN pg_catalog.pg_database_size(d.oid) END \
             FROM pg_catalog.pg_database d JOIN pg_catalog.pg_tablespace t ON t.oid = d.dattablespace \
             WHERE d.datname = pg_catalog.current_database()",
            since(150_000, "d.datlocprovider"),
            since(160_000, "d.daticurules"),
            since(150_000, "d.datcollversion"),
        );
        let row = connection.query(&sql)?.into_iter().next();
        let row = Values(row.ok_or_else(|| connection.strange("the database is in no catalog"))?);
        let settings = connection.query(
            "SELECT CASE s.setrole WHEN 0 THEN '' ELSE pg_catalog.pg_get_userbyid(s.setrole)::text END, \
             pg_catalog.unnest(s.setconfig) FROM pg_catalog.pg_db_role_setting s \
             JOIN pg_catalog.pg_database d ON d.oid = s.setdatabase \
             WHERE d.datname = pg_catalog.current_database() ORDER BY 1, 2",
        )?;
        Ok(DatabaseFacts {
            name: row.text(0),
            owner: row.text(1),
            encoding: row.text(2),
            collate: row.text(3),
            ctype: row.text(4),
            provider: provider_name(&row.text(5)).to_owned(),
            locale: row.maybe(6),
            icu_rules: row.maybe(7),
            collation_version: row.maybe(8),
            connection_limit: row.number(9, connection)?,
            tablespace: row.text(10),
            acl: row.maybe(11),
            comment: row.maybe(12),
            bytes: row.maybe(13).and_then(|bytes| bytes.parse().ok()),
            settings: settings.into_iter().map(Values).map(|row| (row.text(0), row.text(1))).collect(),
        })
    }

    /// As the manifest of a dump keeps it: `encoding`, `collate`, `ctype`, `provider`, `locale`, `icu_rules`,
    /// `collation_version`, `owner`, `tablespace`, `connection_limit`, `acl`, `comment`; what is unknown or usual is
    /// left out. `settings` holds a line `role TAB name=value` each, the role empty for everybody.
    pub fn properties(&self) -> BTreeMap<String, String> {
        let mut found = BTreeMap::new();
        let mut keep = |name: &str, value: Option<&str>| {
            if let Some(value) = value.filter(|value| !value.is_empty()) {
                found.insert(name.to_owned(), value.to_owned());
            }
        };
        keep("encoding", Some(&self.encoding));
        keep("collate", Some(&self.collate));
        keep("ctype", Some(&self.ctype));
        keep("provider", Some(&self.provider));
        keep("locale", self.locale.as_deref());
        keep("icu_rules", self.icu_rules.as_deref());
        keep("collation_version", self.collation_version.as_deref());
        keep("owner", Some(&self.owner));
        keep("tablespace", Some(&self.tablespace).filter(|name| *name != "pg_default").map(String::as_str));
        keep("acl", self.acl.as_deref());
        keep("comment", self.comment.as_deref());
        let settings: Vec<String> = self.settings.iter().map(|(role, setting)| format!("{role}\t{setting}")).collect();
        keep("settings", Some(&settings.join("\n")));
        if self.connection_limit != -1 {
            keep("connection_limit", Some(&self.connection_limit.to_string()));
        }
        found
    }
}

fn provider_name(letter: &str) -> &'static str {
    match letter {
        "i" => "icu",
        "b" => "builtin",
        _ => "libc",
    }
}

/// A database in the list of a server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listed {
    /// Its name.
    pub name: String,
    /// Its size on the server's disk in bytes; none where that may not be asked.
    pub bytes: Option<u64>,
}

/// The databases of a server that hold somebody's data: no templates, none that lets nobody in, none of our drills.
pub fn databases(connection: &mut Connection) -> Result<Vec<Listed>> {
    let sql = format!(
        "SELECT datname, CASE WHEN pg_catalog.has_database_privilege(oid, 'CONNECT') \
           THEN pg_catalog.pg_database_size(oid) END \
         FROM pg_catalog.pg_database WHERE datallowconn AND NOT datistemplate AND datconnlimit <> -2 \
         AND pg_catalog.strpos(datname, {}) <> 1 ORDER BY datname",
        literal(super::temporary::PREFIX)
    );
    let rows = connection.query(&sql)?.into_iter().map(Values);
    Ok(rows.map(|row| Listed { name: row.text(0), bytes: row.maybe(1).and_then(|size| size.parse().ok()) }).collect())
}

/// Databases that [`databases`] leaves out and that may hold somebody's data, and whether that is because they are templates;
/// others let nobody in.
pub fn left_out_databases(connection: &mut Connection) -> Result<Vec<(String, bool)>> {
    let sql = format!(
        "SELECT datname, datistemplate FROM pg_catalog.pg_database \
         WHERE (datistemplate OR NOT datallowconn OR datconnlimit = -2) AND datname NOT IN ('template0', 'template1') \
         AND pg_catalog.strpos(datname, {}) <> 1 ORDER BY datname",
        literal(super::temporary::PREFIX)
    );
    Ok(connection.query(&sql)?.into_iter().map(Values).map(|row| (row.text(0), row.text(1) == "t")).collect())
}

/// The extensions of a database with their versions, by name.
pub fn extensions(connection: &mut Connection) -> Result<Vec<(String, String)>> {
    let rows = connection.query("SELECT extname, extversion FROM pg_catalog.pg_extension ORDER BY 1")?;
    Ok(rows.into_iter().map(Values).map(|row| (row.text(0), row.text(1))).collect())
}

/// Somebody's relations that hold rows or a position: tables, their partitions, sequences; none of a session's own.
const OF_SOMEBODY: &str = "FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace \
     WHERE n.nspname <> 'information_schema' AND n.nspname !~ '^pg_' AND c.relpersistence <> 't'";

/// The tables and sequences that the role may not read, as `schema.name`: a dump of the whole database fails on them.
pub fn unreadable(connection: &mut Connection) -> Result<Vec<String>> {
    let sql = format!(
        "SELECT n.nspname || '.' || c.relname {OF_SOMEBODY} AND c.relkind IN ('r', 'p', 'S') AND NOT ( \
           pg_catalog.has_schema_privilege(n.oid, 'USAGE') AND CASE WHEN c.relkind = 'S' \
             THEN pg_catalog.has_sequence_privilege(c.oid, 'SELECT') \
             ELSE pg_catalog.has_table_privilege(c.oid, 'SELECT') END) ORDER BY 1"
    );
    Ok(connection.query(&sql)?.into_iter().map(|row| Values(row).text(0)).collect())
}

/// The large objects that the role may not read, by number: a dump of the whole database fails on them. The right to read
/// all data covers none of them.
pub fn unreadable_large_objects(connection: &mut Connection) -> Result<Vec<String>> {
    let sql = "SELECT m.oid FROM pg_catalog.pg_largeobject_metadata m \
         WHERE pg_catalog.current_setting('lo_compat_privileges') = 'off' \
           AND NOT pg_catalog.pg_has_role(m.lomowner, 'USAGE') AND NOT EXISTS ( \
             SELECT 1 FROM pg_catalog.aclexplode(m.lomacl) a WHERE a.privilege_type = 'SELECT' \
             AND (a.grantee = 0 OR pg_catalog.pg_has_role(a.grantee, 'USAGE'))) ORDER BY 1";
    Ok(connection.query(sql)?.into_iter().map(|row| Values(row).text(0)).collect())
}

/// The tables whose row security hides rows from the role, as `schema.name`: a dump fails on them rather than being
/// short.
pub fn hidden_by_row_security(connection: &mut Connection) -> Result<Vec<String>> {
    let sql = format!(
        "SELECT n.nspname || '.' || c.relname {OF_SOMEBODY} AND c.relkind IN ('r', 'p') AND c.relrowsecurity \
         AND pg_catalog.row_security_active(c.oid) ORDER BY 1"
    );
    Ok(connection.query(&sql)?.into_iter().map(|row| Values(row).text(0)).collect())
}

/// Whether two sessions through `address` share one process of the server: a pooler that hands out its sessions by
/// transaction stands in between. Settings of one client then leak to others, and a dump's `search_path` with them.
pub fn is_pooled(address: &Address, watch: &Watch) -> Result<bool> {
    let mut one = Connection::connect(address, None, watch)?;
    let process = one.backend()?;
    let mut other = Connection::connect(address, None, watch)?;
    Ok(other.backend()? == process)
}

/// What is wrong with such a pooler.
pub const POOLED: &str = "a pooler that shares sessions by transaction answers here, and a dump's settings would leak to \
     other clients";
/// What to do about it.
pub const NO_POOLER: &str = "give the address of the server itself (the pooler's configuration names it)";

/// A refusal for such a pooler.
pub fn pooled(address: &Address) -> Error {
    address.error(Kind::Refused, format!("{POOLED}: {NO_POOLER}"))
}

/// A row whose values are taken by place.
pub(super) struct Values(pub(super) Row);

impl Values {
    pub(super) fn maybe(&self, at: usize) -> Option<String> {
        self.0.get(at).cloned().flatten()
    }

    pub(super) fn text(&self, at: usize) -> String {
        self.maybe(at).unwrap_or_default()
    }

    fn flag(&self, at: usize) -> bool {
        self.text(at) == "t"
    }

    fn number<N: std::str::FromStr>(&self, at: usize, connection: &Connection) -> Result<N> {
        let text = self.text(at);
        text.parse().map_err(|_| connection.strange(format!("the server says {text:?} where a number was expected")))
    }
}
/// How far replicas are behind, in seconds: of a primary the one that is furthest behind, of a standby itself. Zero where
/// there is none; the role has to be a member of `pg_monitor` to see those of others.
pub fn replication_lag_seconds(connection: &mut Connection) -> Result<f64> {
    const SQL: &str = "SELECT CASE WHEN pg_catalog.pg_is_in_recovery() THEN \
        CASE WHEN pg_catalog.pg_last_wal_receive_lsn() IS NOT DISTINCT FROM pg_catalog.pg_last_wal_replay_lsn() THEN 0 \
        ELSE extract(epoch FROM pg_catalog.now() - pg_catalog.pg_last_xact_replay_timestamp()) END \
        ELSE (SELECT pg_catalog.max(extract(epoch FROM replay_lag)) FROM pg_catalog.pg_stat_replication) END";
    let value = connection.value(SQL)?;
    Ok(value.and_then(|text| text.parse::<f64>().ok()).unwrap_or(0.0).max(0.0))
}
