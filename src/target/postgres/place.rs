//! Databases made for a restore, and how they come into their place.
//!
//! A new database is called `keepstone_restore_` and 16 digits until all is in it. Then it is renamed; if it replaces one,
//! both are renamed in one transaction and the old one is dropped after that. Whatever breaks before leaves the old one
//! as it was; what a restore that was killed leaves is named by the next one, and by `probe`.

use crate::base::{Event, Kind, Stop, random};
use crate::db::postgres::temporary::{Claim, REPLACED, UNFINISHED, create_statement, drop_database, how_to_drop};
pub use crate::db::postgres::temporary::{MAINTENANCE, connect_for_databases};
use crate::db::postgres::{Address, Connection, identifier, literal};
use crate::db::{Error, Result, Watch};
use std::collections::BTreeMap;

/// The most sorts of clients that are named of those that are logged in.
const NAMED_CLIENTS: usize = 5;

/// A database in the making. Dropped, it is dropped at the server too, unless it was put in its place.
pub struct NewDatabase {
    address: Address,
    target: String,
    watch: Watch,
    /// Shows others that somebody is at work on it.
    _keeper: Connection,
    /// Whether there is something to drop.
    unfinished: bool,
}

impl NewDatabase {
    /// Makes an empty database that will take the name in `address`, in a tablespace or else in the server's usual one.
    pub fn create(
        address: &Address,
        properties: &BTreeMap<String, String>,
        tablespace: Option<&str>,
        version_number: u32,
        watch: &Watch,
    ) -> Result<NewDatabase> {
        let Claim { name, mut keeper } = Claim::of(UNFINISHED, address, watch)?;
        let tablespace = tablespace.map(|name| format!(" TABLESPACE {}", identifier(name))).unwrap_or_default();
        let create = create_statement(&name, properties, version_number) + &tablespace;
        keeper.execute(&create).map_err(|error| {
            let message = format!("cannot make a database like the dump's: {}", error.message);
            Error { message, ..error }.database(&address.database)
        })?;
        let new = address.with_database(name);
        Ok(NewDatabase {
            address: new,
            target: address.database.clone(),
            watch: watch.clone(),
            _keeper: keeper,
            unfinished: true,
        })
    }

    /// Where it is for now.
    pub fn address(&self) -> &Address {
        &self.address
    }

    /// Gives it its name. `replace` says that one of that name is there and goes. Answers with the old one if that could
    /// not be dropped, and why.
    pub fn put_in_place(mut self, replace: bool) -> Result<Option<String>> {
        let whole = self.address.database.clone();
        let mut connection = connect_for_databases(&self.address, &self.watch)?;
        // From here on it is whole: whatever happens, it is kept.
        self.unfinished = false;
        let still = |error: Error| {
            let message = format!(
                "{}; all is restored in database {whole}, which has not got its name yet: end the sessions of the old \
                 one and rename it by hand (ALTER DATABASE … RENAME TO …)",
                error.message
            );
            Error { message, ..error }
        };
        end_sessions(&mut connection, &whole).map_err(still)?;
        let rename = |from: &str, to: &str| format!("ALTER DATABASE {} RENAME TO {}", identifier(from), identifier(to));
        if !replace {
            connection.execute(&rename(&whole, &self.target)).map_err(still)?;
            return Ok(None);
        }
        let old = format!("{REPLACED}{:016x}", u64::from_le_bytes(random::bytes()));
        let allow = |may: bool| format!("ALTER DATABASE {} ALLOW_CONNECTIONS {may}", identifier(&self.target));
        connection.execute(&allow(false)).map_err(still)?;
        let swapped = throw_out(&mut connection, &self.target, &self.watch).and_then(|()| {
            connection.execute("BEGIN")?;
            connection.execute(&rename(&self.target, &old))?;
            connection.execute(&rename(&whole, &self.target))?;
            connection.execute("COMMIT")
        });
        if let Err(error) = swapped {
            let _ = connection.execute("ROLLBACK");
            let _ = connection.execute(&allow(true));
            return Err(still(error));
        }
        Ok(drop_database(&mut connection, &old).err().map(|error| {
            let drop = how_to_drop(&mut connection, &old);
            let drop = drop.unwrap_or_else(|_| format!("DROP DATABASE {}", identifier(&old)));
            format!("{old}, which takes room ({}): {drop} when nothing holds it any more", error.message)
        }))
    }

    /// Drops it after a failure, which is told what became of it.
    pub fn give_up(mut self, error: Error) -> Error {
        self.unfinished = false;
        let state = match drop_unfinished(&self.address, &self.watch) {
            Ok(()) => "the unfinished database was dropped again".to_owned(),
            Err(why) => format!(
                "the unfinished database {} could not be dropped ({}): drop it by hand",
                self.address.database, why.message
            ),
        };
        let message = format!("{}; {state}", error.message);
        let database = Some(self.target.clone());
        Error { message, database, ..error }
    }
}

impl Drop for NewDatabase {
    fn drop(&mut self) {
        if self.unfinished {
            // Somebody panicked or forgot; there is nobody to tell.
            let _ = drop_unfinished(&self.address, &self.watch);
        }
    }
}

/// What keeps the server from dropping a database, whoever asks: to be known before another one takes its name.
pub fn holds_fast(connection: &mut Connection, database: &str, version_number: u32) -> Result<Option<String>> {
    let database = literal(database);
    let subscriptions = match version_number >= 100_000 {
        true => format!(
            "SELECT 'subscription ' || s.subname FROM pg_catalog.pg_subscription s \
             JOIN pg_catalog.pg_database d ON d.oid = s.subdbid WHERE d.datname = {database} UNION ALL "
        ),
        false => String::new(),
    };
    connection.value(&format!(
        "{subscriptions}SELECT 'replication slot ' || slot_name FROM pg_catalog.pg_replication_slots \
         WHERE database = {database} UNION ALL SELECT 'prepared transaction ' || gid \
         FROM pg_catalog.pg_prepared_xacts WHERE database = {database} LIMIT 1"
    ))
}

/// A refusal of what could not be finished.
pub fn held_fast(address: &Address, by: &str) -> Error {
    let message = format!(
        "{by} keeps the database from being dropped; drop or end it first, or restore into one of another name with --create"
    );
    address.error(Kind::Refused, message).database(&address.database).object(by)
}

/// Over a session of its own, even when somebody has asked to stop.
fn drop_unfinished(address: &Address, watch: &Watch) -> Result<()> {
    assert!(address.database.starts_with(UNFINISHED), "only what was made for a restore is dropped");
    let watch = Watch { stop: Stop::new(), monitor: watch.monitor.clone() };
    let mut connection = connect_for_databases(address, &watch)?;
    end_sessions(&mut connection, &address.database)?;
    drop_database(&mut connection, &address.database)
}

/// Ends the sessions of a database that is somebody's, and says whose before.
fn throw_out(connection: &mut Connection, database: &str, watch: &Watch) -> Result<()> {
    if let Some(who) = logged_in(connection, database)? {
        let server = connection.address().server();
        watch.monitor.event(Event::Note(&format!("{server}: database {database} is replaced, which ends {who}")));
    }
    end_sessions(connection, database)
}

/// Who is logged in to a database: `3 sessions (psql of ann; app of shop, 2)`; none if nobody is.
pub fn logged_in(connection: &mut Connection, database: &str) -> Result<Option<String>> {
    let rows = connection.query(&format!(
        "SELECT coalesce(nullif(application_name, ''), 'a client'), usename, pg_catalog.count(*) {} \
         GROUP BY 1, 2 ORDER BY 3 DESC, 1, 2",
        sessions(database)
    ))?;
    let rows: Vec<(String, String, u64)> = rows
        .into_iter()
        .map(|mut row| {
            let mut text = |at: usize| row.get_mut(at).and_then(Option::take).unwrap_or_default();
            (text(0), text(1), text(2).parse().unwrap_or(1))
        })
        .collect();
    let count: u64 = rows.iter().map(|(_, _, count)| count).sum();
    let one = |(client, user, count): &(String, String, u64)| match count {
        1 => format!("{client} of {user}"),
        _ => format!("{client} of {user}, {count}"),
    };
    let mut named = rows.iter().take(NAMED_CLIENTS).map(one).collect::<Vec<_>>().join("; ");
    if rows.len() > NAMED_CLIENTS {
        named.push_str("; and others");
    }
    let noun = if count == 1 { "session" } else { "sessions" };
    Ok((count > 0).then(|| format!("{count} {noun} ({named})")))
}

/// The sessions of a database. The server's own workers have no user; they leave by themselves, and only a superuser may
/// end them.
fn sessions(database: &str) -> String {
    format!(
        "FROM pg_catalog.pg_stat_activity WHERE datname = {} AND usesysid IS NOT NULL \
         AND pid <> pg_catalog.pg_backend_pid()",
        literal(database)
    )
}

/// Ends the sessions of a database, and waits a moment until they are gone.
fn end_sessions(connection: &mut Connection, database: &str) -> Result<()> {
    let sessions = sessions(database);
    connection.query(&format!("SELECT pg_catalog.pg_terminate_backend(pid) {sessions}"))?;
    // The server says at once that it will end them; that they have ended shows in the list.
    for _ in 0..50 {
        if connection.value(&format!("SELECT 1 {sessions} LIMIT 1"))?.is_none() {
            break;
        }
        connection.query("SELECT pg_catalog.pg_sleep(0.02)")?;
    }
    Ok(())
}
