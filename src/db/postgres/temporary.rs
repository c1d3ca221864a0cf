//! Databases for a while: made for a drill and dropped in every case, or made by a restore until they get their name.
//!
//! Their names begin with [`PREFIX`] or [`UNFINISHED`] and end with 16 random hexadecimal digits. Whoever made one holds
//! an advisory lock of those digits as long as it lives; one whose lock is free was left behind by a run that was killed.

use super::address::Address;
use super::connection::Connection;
use super::facts::Values;
use super::quote::{identifier, literal};
use crate::base::{Kind, Stop, random};
use crate::db::{Result, Watch};
use std::collections::BTreeMap;

/// How the names of temporary databases begin.
pub const PREFIX: &str = "keepstone_drill_";
/// How the names of databases begin that a restore fills, until they are whole.
pub const UNFINISHED: &str = "keepstone_restore_";
/// How the names of databases begin in whose place a restore has put others.
pub const REPLACED: &str = "keepstone_replaced_";
/// The database that is there on every server, from where others are made and dropped.
pub const MAINTENANCE: &str = "postgres";

/// A session in the database from where others are made: `postgres`, or `template1` where somebody dropped that.
pub fn connect_for_databases(address: &Address, watch: &Watch) -> Result<Connection> {
    match Connection::connect(address, Some(MAINTENANCE), watch) {
        Err(error) if error.kind() == Kind::NotFound => Connection::connect(address, Some("template1"), watch),
        other => other,
    }
    .map(Connection::as_target)
}

/// A name that nobody has, and the session that holds the lock of its digits for as long as it is held.
pub struct Claim {
    /// The name.
    pub name: String,
    /// The session.
    pub keeper: Connection,
}

impl Claim {
    /// Makes up a name that begins with `prefix`.
    pub fn of(prefix: &str, address: &Address, watch: &Watch) -> Result<Claim> {
        let digits = u64::from_le_bytes(random::bytes());
        let mut keeper = connect_for_databases(address, watch)?;
        keeper.query(&format!("SELECT pg_catalog.pg_advisory_lock({})", digits.cast_signed()))?;
        Ok(Claim { name: format!("{prefix}{digits:016x}"), keeper })
    }
}

/// A database that is dropped when this is.
pub struct TemporaryDatabase {
    address: Address,
    /// Holds the advisory lock.
    keeper: Connection,
    watch: Watch,
    dropped: bool,
}

impl TemporaryDatabase {
    /// Makes one at the server of `address`, with `properties` of a dump's manifest (`encoding`, `collate`, `ctype`,
    /// `provider`, `locale`, `icu_rules`), from `template0`.
    pub fn create(
        address: &Address,
        properties: &BTreeMap<String, String>,
        watch: &Watch,
    ) -> Result<TemporaryDatabase> {
        let Claim { name, mut keeper } = Claim::of(PREFIX, address, watch)?;
        let version = keeper.value("SELECT pg_catalog.current_setting('server_version_num')")?;
        let version = version.and_then(|version| version.parse().ok()).unwrap_or(0);
        keeper.execute(&create_statement(&name, properties, version))?;
        Ok(TemporaryDatabase { address: address.with_database(name), keeper, watch: watch.clone(), dropped: false })
    }

    /// Its address.
    pub fn address(&self) -> &Address {
        &self.address
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.address.database
    }

    /// Drops it and tells whether that worked; dropping the value does the same silently.
    pub fn remove(mut self) -> Result<()> {
        self.dropped = true;
        match drop_with(&mut self.keeper, &self.address.database) {
            // The keeper may be gone, or deaf since somebody asked to stop.
            Err(_) => drop_anew(&self.address, &self.watch),
            done => done,
        }
    }
}

impl Drop for TemporaryDatabase {
    fn drop(&mut self) {
        if !self.dropped && drop_anew(&self.address, &self.watch).is_err() {
            // The next drill finds what is left.
            let _ = drop_with(&mut self.keeper, &self.address.database);
        }
    }
}

/// `CREATE DATABASE` from `template0` for what the properties of a manifest say. The owner is left to the caller.
pub fn create_statement(name: &str, properties: &BTreeMap<String, String>, version_number: u32) -> String {
    let mut sql = format!("CREATE DATABASE {} TEMPLATE template0", identifier(name));
    let mut option = |word: &str, property: &str| {
        if let Some(value) = properties.get(property) {
            sql.push_str(&format!(" {word} {}", literal(value)));
        }
    };
    option("ENCODING", "encoding");
    option("LC_COLLATE", "collate");
    option("LC_CTYPE", "ctype");
    let provider = properties.get("provider").map_or("libc", String::as_str);
    if version_number >= 150_000 && provider != "libc" {
        option("LOCALE_PROVIDER", "provider");
        option(if provider == "icu" { "ICU_LOCALE" } else { "BUILTIN_LOCALE" }, "locale");
        option("ICU_RULES", "icu_rules");
    } else if version_number >= 150_000 {
        option("LOCALE_PROVIDER", "provider");
    }
    sql
}

/// Drops a database, also one that serves as a template.
pub fn drop_database(connection: &mut Connection, name: &str) -> Result<()> {
    if is_template(connection, name)? {
        connection.execute(&no_template(name))?;
    }
    connection.execute(&format!("DROP DATABASE IF EXISTS {}", identifier(name)))?;
    Ok(())
}

fn is_template(connection: &mut Connection, name: &str) -> Result<bool> {
    let sql = format!("SELECT datistemplate FROM pg_catalog.pg_database WHERE datname = {}", literal(name));
    Ok(connection.value(&sql)?.as_deref() == Some("t"))
}

fn no_template(name: &str) -> String {
    format!("ALTER DATABASE {} IS_TEMPLATE false", identifier(name))
}

/// The statements that drop a database, for somebody who looks for them in a message.
pub fn how_to_drop(connection: &mut Connection, name: &str) -> Result<String> {
    let drop = format!("DROP DATABASE {}", identifier(name));
    Ok(if is_template(connection, name)? { format!("{}; {drop}", no_template(name)) } else { drop })
}

/// Databases whose names begin with `prefix` and whose makers are gone.
pub fn leftovers(prefix: &str, address: &Address, watch: &Watch) -> Result<Vec<String>> {
    let mut connection = connect_for_databases(address, watch)?;
    let sql = format!(
        "SELECT datname FROM pg_catalog.pg_database WHERE pg_catalog.strpos(datname, {}) = 1 ORDER BY 1",
        literal(prefix)
    );
    let mut left = Vec::new();
    for name in connection.query(&sql)?.into_iter().map(|row| Values(row).text(0)) {
        let Ok(digits) = u64::from_str_radix(&name[prefix.len()..], 16) else { continue };
        let lock = format!("pg_catalog.pg_try_advisory_lock({})", digits.cast_signed());
        if connection.value(&format!("SELECT {lock}"))?.as_deref() == Some("t") {
            connection.query(&format!("SELECT pg_catalog.pg_advisory_unlock({})", digits.cast_signed()))?;
            left.push(name);
        }
    }
    Ok(left)
}

/// What restores that were broken off have left at a server, and what can be done: one sentence for each database. Nothing of
/// it is dropped by itself: who broke off while a database got its name may want it.
pub fn broken_off(address: &Address, watch: &Watch) -> Result<Vec<String>> {
    let mut told = Vec::new();
    for (prefix, what) in [
        (UNFINISHED, "was left behind by a restore that was broken off"),
        (REPLACED, "was replaced by a restore that could not drop it or was broken off before"),
    ] {
        for name in leftovers(prefix, address, watch)? {
            let drop = how_to_drop(&mut connect_for_databases(address, watch)?, &name)?;
            told.push(format!("database {name} {what} and takes room: {drop} when nobody needs it"));
        }
    }
    Ok(told)
}

/// Drops a temporary database by name, and whoever is logged in to it; refuses any other.
pub fn drop_leftover(address: &Address, name: &str, watch: &Watch) -> Result<()> {
    drop_anew(&address.with_database(name), watch)
}

/// Over a connection of its own, even when somebody has asked to stop.
fn drop_anew(address: &Address, watch: &Watch) -> Result<()> {
    let watch = Watch { stop: Stop::new(), monitor: watch.monitor.clone() };
    let mut connection = connect_for_databases(address, &watch)?;
    drop_with(&mut connection, &address.database)
}

fn drop_with(connection: &mut Connection, name: &str) -> Result<()> {
    if !name.starts_with(PREFIX) {
        let message = format!("{name} is no temporary database: its name does not begin with {PREFIX}");
        return Err(connection.address().error(Kind::Refused, message));
    }
    // FORCE came with version 13; this works everywhere.
    connection.query(&format!(
        "SELECT pg_catalog.pg_terminate_backend(pid) FROM pg_catalog.pg_stat_activity \
         WHERE datname = {} AND pid <> pg_catalog.pg_backend_pid()",
        literal(name)
    ))?;
    drop_database(connection, name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_database_is_made_as_the_manifest_says_and_the_server_understands() {
        let properties = |provider: &str| {
            [("encoding", "UTF8"), ("collate", "C"), ("ctype", "C"), ("provider", provider), ("locale", "de")]
                .map(|(name, value)| (name.to_owned(), value.to_owned()))
                .into()
        };
        let old = create_statement("a\"b", &properties("libc"), 140_000);
        assert_eq!(old, "CREATE DATABASE \"a\"\"b\" TEMPLATE template0 ENCODING 'UTF8' LC_COLLATE 'C' LC_CTYPE 'C'");
        assert!(create_statement("a", &properties("icu"), 150_000).ends_with("LOCALE_PROVIDER 'icu' ICU_LOCALE 'de'"));
        let builtin = create_statement("a", &properties("builtin"), 170_000);
        assert!(builtin.ends_with("LOCALE_PROVIDER 'builtin' BUILTIN_LOCALE 'de'"));
    }
}
