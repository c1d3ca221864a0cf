//! What a restored database holds: its tables, their rows counted by the server, checksums of rows read out again,
//! where its sequences stand.

use super::rows::{in_money_of, session};
use crate::base::{Event, Kind};
use crate::crypto::RowSum;
use crate::db::postgres::{Address, Connection, identifier, literal, qualified};
use crate::db::{Error, Result, Watch};
use crate::format::dump::{Manifest, Sequence, Table};
use std::collections::{HashMap, VecDeque};
use std::io::{self, Read};
use std::sync::{Mutex, PoisonError};
use std::thread;

/// How much is read from the server at once.
const PIECE_BYTES: usize = 128 << 10;

/// Tables that somebody made, and whether an extension did: those count only where a dump lists them.
const TABLES: &str = "SELECT n.nspname, c.relname, EXISTS ( \
       SELECT 1 FROM pg_catalog.pg_depend d WHERE d.classid = 'pg_catalog.pg_class'::regclass \
       AND d.objid = c.oid AND d.deptype = 'e') \
     FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace \
     WHERE c.relkind IN ('r', 'p', 'f') AND n.nspname !~ '^pg_' AND n.nspname <> 'information_schema' \
     ORDER BY 1, 2";

const SEQUENCES: &str = "SELECT n.nspname, c.relname \
     FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace \
     WHERE c.relkind = 'S' AND n.nspname !~ '^pg_' ORDER BY 1, 2";

/// What a session begins with that reads rows as a dump does.
const AS_DUMPED: &str = "SET DateStyle = 'ISO, YMD'; SET IntervalStyle = 'postgres'; SET extra_float_digits = 3; \
     SET bytea_output = 'hex'";

/// Looks at a database.
pub struct Look<'a> {
    /// Server and database.
    pub address: &'a Address,
    /// The server's version.
    pub version_number: u32,
    /// What should be there.
    pub manifest: &'a Manifest,
    /// Which tables are read again.
    pub sums: Vec<bool>,
    /// Sessions.
    pub jobs: usize,
}

impl Look<'_> {
    /// The tables of the database as a manifest would have them, their rows read in `zone` or else in that of a session
    /// here.
    pub fn tables(&self, zone: Option<&str>, watch: &Watch) -> Result<Vec<Table>> {
        let mut connection = session(self.address, self.version_number, watch)?;
        let all = self.manifest.tables.iter().enumerate();
        let promised: HashMap<(&str, &str), usize> =
            all.map(|(place, table)| ((table.schema.as_str(), table.name.as_str()), place)).collect();
        let seen: Mutex<Vec<Table>> = Mutex::default();
        let mut queue = VecDeque::new();
        for row in connection.query(TABLES)? {
            let [Some(schema), Some(name), of_extension] = &row[..] else { continue };
            let place = promised.get(&(schema.as_str(), name.as_str())).copied();
            let table = Table { schema: schema.clone(), name: name.clone(), ..Table::default() };
            match place.map(|place| (place, &self.manifest.tables[place])) {
                Some((place, promised)) if promised.stream.is_some() => queue.push_back(place),
                Some(_) => lock(&seen).push(table),
                None if of_extension.as_deref() == Some("t") => {}
                None => lock(&seen).push(table),
            }
        }
        drop(connection);
        self.measure(queue, &seen, zone, watch)?;
        let mut seen = seen.into_inner().unwrap_or_else(PoisonError::into_inner);
        seen.sort_by(|a, b| (&a.schema, &a.name).cmp(&(&b.schema, &b.name)));
        Ok(seen)
    }

    /// Some of them once more, by their places in the manifest.
    pub fn again(&self, places: &[usize], zone: &str, watch: &Watch) -> Result<Vec<Table>> {
        let seen: Mutex<Vec<Table>> = Mutex::default();
        self.measure(places.iter().copied().collect(), &seen, Some(zone), watch)?;
        Ok(seen.into_inner().unwrap_or_else(PoisonError::into_inner))
    }

    fn measure(
        &self,
        queue: VecDeque<usize>,
        seen: &Mutex<Vec<Table>>,
        zone: Option<&str>,
        watch: &Watch,
    ) -> Result<()> {
        let jobs = self.jobs.clamp(1, queue.len().max(1));
        let queue = Mutex::new(queue);
        let failure: Mutex<Option<Error>> = Mutex::new(None);
        let watch = Watch { stop: watch.stop.child(), monitor: watch.monitor.clone() };
        let work = || -> Result<()> {
            let mut connection: Option<Connection> = None;
            loop {
                let place = lock(&queue).pop_front();
                let Some(place) = place else { return Ok(()) };
                let connection = match &mut connection {
                    Some(connection) => connection,
                    none => none.insert(self.session(zone, &watch)?),
                };
                let promised = &self.manifest.tables[place];
                let name = format!("table {}.{}", promised.schema, promised.name);
                watch.monitor.event(Event::Current(&name));
                let table = self.table(connection, promised, self.sums[place]).map_err(|error| error.object(name))?;
                lock(seen).push(table);
            }
        };
        thread::scope(|scope| {
            for _ in 0..jobs {
                scope.spawn(|| {
                    if let Err(error) = work() {
                        lock(&failure).get_or_insert(error);
                        watch.stop.raise();
                    }
                });
            }
        });
        failure.into_inner().unwrap_or_else(PoisonError::into_inner).map_or(Ok(()), Err)
    }

    fn session(&self, zone: Option<&str>, watch: &Watch) -> Result<Connection> {
        let mut connection = session(self.address, self.version_number, watch)?;
        connection.query(AS_DUMPED)?;
        for sql in zone.map(in_zone).into_iter().chain(in_money_of(self.manifest)) {
            connection.query(&sql)?;
        }
        Ok(connection)
    }

    fn table(&self, connection: &mut Connection, promised: &Table, sum: bool) -> Result<Table> {
        let mut table = Table {
            schema: promised.schema.clone(),
            name: promised.name.clone(),
            stream: promised.stream.clone(),
            ..Table::default()
        };
        let name = qualified(&promised.schema, &promised.name);
        let condition = promised.condition.as_deref().map(|condition| format!(" {condition}")).unwrap_or_default();
        if sum && promised.checksum.is_some() {
            let (rows, checksum) = self.sum(connection, promised, &name, &condition)?;
            (table.rows, table.checksum) = (rows, Some(checksum));
            return Ok(table);
        }
        let count = connection.value(&format!("SELECT pg_catalog.count(*) FROM ONLY {name}{condition}"))?;
        table.rows =
            count.and_then(|count| count.parse().ok()).ok_or_else(|| connection.strange("count(*) is no number"))?;
        Ok(table)
    }

    /// Reads the rows as the dump did. Answers with their number and their checksum.
    fn sum(&self, connection: &mut Connection, promised: &Table, name: &str, condition: &str) -> Result<(u64, String)> {
        let columns: Vec<String> = promised.columns.iter().map(|column| identifier(column)).collect();
        let columns = columns.join(", ");
        let what = match (columns.is_empty(), condition.is_empty()) {
            (true, _) => name.to_owned(),
            (false, true) => format!("{name} ({columns})"),
            (false, false) => format!("(SELECT {columns} FROM ONLY {name}{condition})"),
        };
        let encoding = self.manifest.properties.get("encoding").map_or("UTF8", String::as_str);
        let sql = format!("COPY {what} TO STDOUT WITH (FORMAT text, ENCODING {})", literal(encoding));
        let address = self.address;
        let mut copy = connection.copy_out(&sql)?;
        let summed = sum_rows(&mut copy);
        summed.map_err(|error| {
            let lost = || address.error(Kind::Unavailable, error.to_string()).database(&address.database);
            copy.failure().unwrap_or_else(lost)
        })
    }

    /// The sequences of the database.
    pub fn sequences(&self, watch: &Watch) -> Result<Vec<Sequence>> {
        let mut connection = session(self.address, self.version_number, watch)?;
        let names: Vec<(String, String)> = connection
            .query(SEQUENCES)?
            .into_iter()
            .filter_map(|row| match <[Option<String>; 2]>::try_from(row) {
                Ok([Some(schema), Some(name)]) => Some((schema, name)),
                _ => None,
            })
            .collect();
        let mut found = Vec::new();
        for (schema, name) in names {
            let sql = format!("SELECT last_value, is_called FROM {}", qualified(&schema, &name));
            let row = connection.query(&sql)?.into_iter().next().unwrap_or_default();
            let [Some(last_value), Some(is_called)] = &row[..] else { continue };
            let last_value = last_value
                .parse()
                .map_err(|_| connection.strange("a sequence stands at something that is no number"))?;
            found.push(Sequence { schema, name, last_value, is_called: is_called == "t" });
        }
        Ok(found)
    }
}

/// The statement after which a session writes times in `zone`; one that the server does not know is an error.
pub fn in_zone(zone: &str) -> String {
    format!("SELECT pg_catalog.set_config('TimeZone', {}, false)", literal(zone))
}

/// Rows end with line ends; within them those are escaped.
fn sum_rows(rows: &mut dyn Read) -> io::Result<(u64, String)> {
    let mut sum = RowSum::new();
    let mut count = 0;
    let mut piece = vec![0; PIECE_BYTES];
    loop {
        let length = rows.read(&mut piece)?;
        if length == 0 {
            return Ok((count, sum.hex()));
        }
        let mut rest = &piece[..length];
        while let Some(end) = rest.iter().position(|byte| *byte == b'\n') {
            sum.push(&rest[..end]);
            sum.end_row();
            count += 1;
            rest = &rest[end + 1..];
        }
        sum.push(rest);
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    // Pushing and popping cannot leave it half done.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
