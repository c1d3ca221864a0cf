//! The file of the history: SQLite, read by many, written a few times a night.
//!
//! The journal is a rollback journal and not a write-ahead log: a night writes two transactions, so nobody waits long for
//! anybody; the file is one file that can be copied whenever nobody writes; who may only read it can read it, without
//! making files beside it; and it does not need memory that processes share, which folders of other machines do not have.
//! Each transaction is flushed, so what an entry says is on the disk before the run ends.
//!
//! A file that is damaged is moved aside, never deleted, and a new one begun. One of a later version is left alone.

use super::entry::{By, Entry, Outcome, Phase, Problem, TableCount};
use super::error::{Error, Result};
use super::figure::Figures;
use crate::base::{Machine, RepositoryId, RunId, SnapshotId};
use rusqlite::types::Value;
use rusqlite::{
    Connection, OpenFlags, OptionalExtension, Row, Transaction, TransactionBehavior, params, params_from_iter,
};
use serde::{Deserialize, Serialize};
use std::fs::{self, DirBuilder, OpenOptions};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The file's name in its folder.
pub const FILE_NAME: &str = "history.sqlite";
/// What tells the file from other people's databases: `KEEP` in ASCII.
const APPLICATION_ID: i64 = 0x4b45_4550;
/// How long one process waits for another's transaction.
const BUSY: Duration = Duration::from_secs(30);
/// No detail of an entry is longer, in bytes: its parts have bounds of their own.
const MAX_DETAIL_BYTES: usize = 4 << 20;
/// Entries that one answer holds at most.
pub const MAX_ENTRIES: usize = 100_000;

/// Each makes the schema of one version from that of the version before; the first from nothing.
const MIGRATIONS: [&str; 1] = ["
    CREATE TABLE runs (number INTEGER PRIMARY KEY, id BLOB UNIQUE NOT NULL, profile TEXT NOT NULL, repository TEXT NOT NULL,
        repository_id BLOB, host TEXT NOT NULL, started_by TEXT NOT NULL, begun_ns INTEGER NOT NULL, ended_ns INTEGER,
        outcome TEXT NOT NULL, snapshot BLOB, sealed INTEGER NOT NULL, detail TEXT NOT NULL,
        process INTEGER, process_began INTEGER, boot TEXT);
    CREATE INDEX runs_of_profile ON runs (profile, begun_ns);
    CREATE INDEX runs_by_time ON runs (begun_ns);
    CREATE TABLE tables (run INTEGER NOT NULL, source TEXT NOT NULL, name TEXT NOT NULL, rows INTEGER NOT NULL,
        bytes INTEGER NOT NULL, PRIMARY KEY (run, source, name)) WITHOUT ROWID;"];

const COLUMNS: &str = "number, id, profile, repository, repository_id, host, started_by, begun_ns, ended_ns, outcome, \
                       snapshot, sealed, detail";

/// Which entries are meant. What is empty or none lets all through.
#[derive(Clone, Debug, Default)]
pub struct Filter {
    /// Of one of these profiles.
    pub profiles: Vec<String>,
    /// One that ended so.
    pub outcomes: Vec<Outcome>,
    /// Begun at this time or later, nanoseconds since 1970.
    pub since_ns: Option<i64>,
    /// Begun before this.
    pub before_ns: Option<i64>,
    /// Of these the newest so many.
    pub newest: Option<usize>,
    /// With their tables, which are many.
    pub tables: bool,
}

/// How far ahead of now a run may have begun: one that is further was written under a clock that was wrong.
const AHEAD_NS: i64 = 24 * 3600 * 1_000_000_000;

/// Whether a run can have begun at `begun_ns`, when it is `now_ns`.
pub fn is_believed(begun_ns: i64, now_ns: i64) -> bool {
    begun_ns <= now_ns.saturating_add(AHEAD_NS)
}

impl Filter {
    /// Without runs that begin after `now_ns`: they would hide every later one for years.
    #[must_use]
    pub fn believed(self, now_ns: i64) -> Filter {
        let end_ns = now_ns.saturating_add(AHEAD_NS);
        Filter { before_ns: Some(self.before_ns.map_or(end_ns, |before_ns| before_ns.min(end_ns))), ..self }
    }
}

/// How the file was found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Opened {
    /// There was none: what sealed records say is not in it yet.
    pub is_new: bool,
    /// It was damaged and was moved aside: why, and whereto.
    pub moved: Option<String>,
}

/// The history of this machine.
pub struct History {
    connection: Connection,
    path: PathBuf,
}

/// What has no column of its own, as JSON.
#[derive(Default, Serialize, Deserialize)]
#[serde(default)]
struct Detail {
    phases: Vec<Phase>,
    figures: Figures,
    problems: Vec<Problem>,
    problem_count: u64,
}

impl History {
    /// Opens the history in `folder`, making it where there is none; `now_ns` stands in the name of one that is moved aside.
    pub fn open(folder: &Path, now_ns: i64) -> Result<(History, Opened)> {
        let path = folder.join(FILE_NAME);
        let failed = |source| Error::Io { what: "make", path: path.clone(), source };
        DirBuilder::new().recursive(true).mode(0o700).create(folder).map_err(failed)?;
        let mut opened = Opened::default();
        match History::attempt(&path, &mut opened) {
            Err(error) if error.kind() == crate::base::Kind::Damaged => {
                let aside = move_aside(&path, now_ns)?;
                opened.moved = Some(format!("{error}; it was moved to {}", aside.display()));
                Ok((History::attempt(&path, &mut opened)?, opened))
            }
            other => Ok((other?, opened)),
        }
    }

    fn attempt(path: &Path, opened: &mut Opened) -> Result<History> {
        let is_there = fs::metadata(path).is_ok_and(|meta| meta.len() > 0);
        opened.is_new = !is_there;
        let failed = |source| Error::Io { what: "make", path: path.to_owned(), source };
        let mut options = OpenOptions::new();
        // SQLite would make it readable for everybody.
        options.read(true).write(true).create(true).truncate(false).mode(0o600).open(path).map_err(failed)?;
        let connection = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_WRITE);
        let mut history = History::of(connection, path)?;
        history.migrate().map_err(|error| history.check_then(error))?;
        if is_there {
            history.check()?;
        }
        Ok(history)
    }

    /// Opens the history in `folder` to read it; none where there is none yet.
    pub fn read(folder: &Path) -> Result<Option<History>> {
        let path = folder.join(FILE_NAME);
        if !fs::exists(&path).map_err(|source| Error::Io { what: "look for", path: path.clone(), source })? {
            return Ok(None);
        }
        let history = History::of(Connection::open_with_flags(&path, OpenFlags::SQLITE_OPEN_READ_ONLY), &path)?;
        match history.version()? {
            0 => Ok(None),
            version if version > MIGRATIONS.len() as i64 => Err(history.newer(version)),
            version if version < MIGRATIONS.len() as i64 => {
                drop(history);
                let mut opened = Opened::default();
                History::attempt(&path, &mut opened).map(Some)
            }
            _ => Ok(Some(history)),
        }
    }

    fn of(connection: rusqlite::Result<Connection>, path: &Path) -> Result<History> {
        let failed = |source| Error::Sql { what: "open", path: path.to_owned(), source };
        let connection = connection.map_err(failed)?;
        let prepare = || {
            connection.busy_timeout(BUSY)?;
            connection.pragma_update(None, "synchronous", "FULL")?;
            connection.pragma_update(None, "trusted_schema", false)
        };
        prepare().map_err(failed)?;
        Ok(History { connection, path: path.to_owned() })
    }

    fn failed(&self, what: &'static str) -> impl Fn(rusqlite::Error) -> Error + use<> {
        let path = self.path.clone();
        move |source| Error::Sql { what, path: path.clone(), source }
    }

    fn version(&self) -> Result<i64> {
        self.connection.pragma_query_value(None, "user_version", |row| row.get(0)).map_err(self.failed("read"))
    }

    fn newer(&self, found: i64) -> Error {
        Error::Newer { path: self.path.clone(), found, known: MIGRATIONS.len() as i64 }
    }

    /// Brings the schema to the newest version, all steps in one transaction.
    fn migrate(&mut self) -> Result<()> {
        let known = MIGRATIONS.len() as i64;
        match self.version()? {
            found if found > known => return Err(self.newer(found)),
            found if found == known => return Ok(()),
            _ => {}
        }
        let failed = self.failed("prepare");
        let mut migrate = || {
            let transaction = self.begin_write()?;
            // Another process may have done it meanwhile.
            let found: i64 = transaction.pragma_query_value(None, "user_version", |row| row.get(0))?;
            for step in MIGRATIONS.iter().skip(usize::try_from(found).unwrap_or(0)) {
                transaction.execute_batch(step)?;
            }
            transaction.pragma_update(None, "user_version", known)?;
            transaction.pragma_update(None, "application_id", APPLICATION_ID)?;
            transaction.commit()
        };
        migrate().map_err(failed)
    }

    /// The lock is taken at once: who reads first and writes then is refused without waiting when another writes.
    fn begin_write(&mut self) -> rusqlite::Result<Transaction<'_>> {
        self.connection.transaction_with_behavior(TransactionBehavior::Immediate)
    }

    /// A file that has our version and not our tables is no history either.
    fn check_then(&self, error: Error) -> Error {
        match self.check() {
            Err(damage) if damage.kind() == crate::base::Kind::Damaged => damage,
            _ => error,
        }
    }

    /// Looks whether the file is whole and ours.
    fn check(&self) -> Result<()> {
        let failed = self.failed("check");
        let said: String =
            self.connection.pragma_query_value(None, "quick_check", |row| row.get(0)).map_err(&failed)?;
        let ours: i64 =
            self.connection.pragma_query_value(None, "application_id", |row| row.get(0)).map_err(&failed)?;
        let what = match (said.as_str(), ours == APPLICATION_ID) {
            ("ok", true) => return Ok(()),
            ("ok", false) => "the file is another program's".to_owned(),
            (said, _) => format!("the file is damaged: {said}"),
        };
        Err(Error::Entry { path: self.path.clone(), what })
    }

    /// Writes down that a run begins, and which process it is.
    pub fn begin(&mut self, entry: &Entry, machine: &Machine) -> Result<()> {
        self.write(entry, Some(machine))
    }

    /// Writes down how it ended, whatever was written of it before.
    pub fn end(&mut self, entry: &Entry) -> Result<()> {
        self.write(entry, None)
    }

    fn write(&mut self, entry: &Entry, machine: Option<&Machine>) -> Result<()> {
        let failed = self.failed("write");
        let mut write = || {
            let transaction = self.begin_write()?;
            put(&transaction, entry, machine)?;
            transaction.commit()
        };
        write().map_err(failed)
    }

    /// Takes in entries that sealed records tell; those that are there already stay as they are, but count as sealed. How
    /// many were new.
    pub fn take_in(&mut self, entries: &[Entry]) -> Result<u64> {
        let failed = self.failed("write");
        let mut take = || {
            let transaction = self.begin_write()?;
            let mut new = 0;
            for entry in entries {
                let known = transaction.execute("UPDATE runs SET sealed = 1 WHERE id = ?", [entry.id.as_bytes()])?;
                if known == 0 {
                    put(&transaction, entry, None)?;
                    new += 1;
                }
            }
            transaction.commit()?;
            Ok(new)
        };
        take().map_err(failed)
    }

    /// Says that an entry lies in its repository as a sealed record.
    pub fn sealed(&mut self, id: RunId) -> Result<()> {
        let done = self.connection.execute("UPDATE runs SET sealed = 1 WHERE id = ?", [id.as_bytes()]);
        done.map(drop).map_err(self.failed("write"))
    }

    /// Runs of `profile` that are said to go on and do not: whoever calls this holds the lock of the profile. They count
    /// as vanished from now on.
    pub fn vanish(&mut self, profile: &str, now_ns: i64) -> Result<Vec<Entry>> {
        let filter =
            Filter { profiles: vec![profile.to_owned()], outcomes: vec![Outcome::Running], ..Filter::default() };
        let mut gone = self.rows(&filter)?;
        for entry in &mut gone {
            entry.outcome = Outcome::Vanished;
            entry.ended_ns = Some(now_ns.max(entry.begun_ns));
            self.end(entry)?;
        }
        Ok(gone)
    }

    /// The newest entry of a profile.
    pub fn newest(&self, profile: &str) -> Result<Option<Entry>> {
        let filter = Filter { profiles: vec![profile.to_owned()], newest: Some(1), ..Filter::default() };
        Ok(self.entries(&filter)?.pop())
    }

    /// When the first run of a profile that came to an end ended.
    pub fn first_end_ns(&self, profile: &str) -> Result<Option<i64>> {
        const QUERY: &str =
            "SELECT min(ended_ns) FROM runs WHERE profile = ?1 AND outcome NOT IN ('running', 'refused')";
        self.connection.query_row(QUERY, [profile], |row| row.get(0)).map_err(self.failed("read"))
    }

    /// The entries that the filter lets through, the oldest first, at most `MAX_ENTRIES` of the newest. One that is said to go
    /// on and whose process is gone counts as vanished; the next run of its profile writes that down.
    pub fn entries(&self, filter: &Filter) -> Result<Vec<Entry>> {
        let is_meant = |outcome: Outcome| filter.outcomes.is_empty() || filter.outcomes.contains(&outcome);
        let mut wide = filter.clone();
        if is_meant(Outcome::Vanished) && !is_meant(Outcome::Running) {
            wide.outcomes.push(Outcome::Running);
        }
        let mut entries = self.rows(&wide)?;
        self.look_for_life(&mut entries)?;
        entries.retain(|entry| is_meant(entry.outcome));
        Ok(entries)
    }

    /// Looks whether the processes of runs that are said to go on are there.
    fn look_for_life(&self, entries: &mut [Entry]) -> Result<()> {
        if entries.iter().all(|entry| entry.outcome != Outcome::Running) {
            return Ok(());
        }
        let machine = Machine::this();
        for entry in entries.iter_mut().filter(|entry| entry.outcome == Outcome::Running) {
            if self.is_gone(entry, &machine)? {
                entry.outcome = Outcome::Vanished;
            }
        }
        Ok(())
    }

    fn is_gone(&self, entry: &Entry, machine: &Machine) -> Result<bool> {
        let failed = self.failed("read");
        type Born = (Option<u32>, Option<i64>, Option<String>);
        const BORN: &str = "SELECT process, process_began, boot FROM runs WHERE id = ?";
        let born = |row: &Row<'_>| Ok((row.get(0)?, row.get(1)?, row.get(2)?));
        let born = self.connection.query_row(BORN, [entry.id.as_bytes()], born).optional().map_err(&failed)?;
        let Some((Some(process), Some(began), Some(boot))): Option<Born> = born else { return Ok(false) };
        if !machine.knows_dead(&entry.host, &boot, process, unsigned(began)) {
            return Ok(false);
        }
        // Its last deed may have been to say how it ended, after this was read.
        const OUTCOME: &str = "SELECT outcome FROM runs WHERE id = ?";
        let said = self.connection.query_row(OUTCOME, [entry.id.as_bytes()], |row| row.get::<_, String>(0));
        Ok(said.optional().map_err(&failed)?.as_deref() == Some(Outcome::Running.name()))
    }

    fn rows(&self, filter: &Filter) -> Result<Vec<Entry>> {
        let failed = self.failed("read");
        let (condition, values) = condition(filter);
        let most = filter.newest.unwrap_or(MAX_ENTRIES).min(MAX_ENTRIES);
        let query =
            format!("SELECT {COLUMNS} FROM runs WHERE {condition} ORDER BY begun_ns DESC, number DESC LIMIT {most}");
        let mut statement = self.connection.prepare(&query).map_err(&failed)?;
        let mut rows = statement.query(params_from_iter(values)).map_err(&failed)?;
        let mut entries = Vec::new();
        while let Some(row) = rows.next().map_err(&failed)? {
            let number: i64 = row.get(0).map_err(&failed)?;
            let mut entry = self.entry_of(row)?;
            if filter.tables {
                entry.tables = self.tables_of(number)?;
            }
            entries.push(entry);
        }
        entries.reverse();
        Ok(entries)
    }

    /// The entries whose ids begin with these hexadecimal digits, with their tables; at most `most`.
    pub fn find(&self, digits: &str, most: usize) -> Result<Vec<Entry>> {
        let failed = self.failed("read");
        let query = format!("SELECT {COLUMNS} FROM runs WHERE substr(lower(hex(id)), 1, length(?1)) = ?1 LIMIT {most}");
        let mut statement = self.connection.prepare(&query).map_err(&failed)?;
        let mut rows = statement.query([digits.to_lowercase()]).map_err(&failed)?;
        let mut entries = Vec::new();
        while let Some(row) = rows.next().map_err(&failed)? {
            let number: i64 = row.get(0).map_err(&failed)?;
            entries.push(Entry { tables: self.tables_of(number)?, ..self.entry_of(row)? });
        }
        drop(rows);
        self.look_for_life(&mut entries)?;
        Ok(entries)
    }

    /// Entries that came to their end and lie in no repository yet, the oldest first: with a repository that may take them.
    pub fn unsealed(&self, repository: &str, most: usize) -> Result<Vec<Entry>> {
        let failed = self.failed("read");
        let query = format!(
            "SELECT {COLUMNS} FROM runs WHERE sealed = 0 AND outcome <> 'running' AND repository = ?1 ORDER BY begun_ns \
             LIMIT {most}"
        );
        let mut statement = self.connection.prepare(&query).map_err(&failed)?;
        let mut rows = statement.query([repository]).map_err(&failed)?;
        let mut entries = Vec::new();
        while let Some(row) = rows.next().map_err(&failed)? {
            let number: i64 = row.get(0).map_err(&failed)?;
            entries.push(Entry { tables: self.tables_of(number)?, ..self.entry_of(row)? });
        }
        Ok(entries)
    }

    /// The profiles of which there are entries.
    pub fn profiles(&self) -> Result<Vec<String>> {
        let failed = self.failed("read");
        let mut statement =
            self.connection.prepare("SELECT DISTINCT profile FROM runs ORDER BY profile").map_err(&failed)?;
        let names = statement.query_map([], |row| row.get(0)).map_err(&failed)?;
        names.collect::<rusqlite::Result<_>>().map_err(&failed)
    }

    /// Lets go of entries that ended before this; how many.
    pub fn drop_before(&mut self, before_ns: i64) -> Result<u64> {
        let failed = self.failed("write");
        let mut drop_them = || {
            let transaction = self.begin_write()?;
            const OLD: &str = "SELECT number FROM runs WHERE ended_ns < ?1";
            transaction.execute(&format!("DELETE FROM tables WHERE run IN ({OLD})"), [before_ns])?;
            let dropped = transaction.execute(&format!("DELETE FROM runs WHERE number IN ({OLD})"), [before_ns])?;
            transaction.commit()?;
            Ok(dropped as u64)
        };
        drop_them().map_err(failed)
    }

    fn entry_of(&self, row: &Row<'_>) -> Result<Entry> {
        let failed = self.failed("read");
        let nonsense = |what: String| Error::Entry { path: self.path.clone(), what };
        let bytes = |at: usize| row.get::<_, Vec<u8>>(at).map_err(&failed);
        let optional = |at: usize| row.get::<_, Option<Vec<u8>>>(at).map_err(&failed);
        let text = |at: usize| row.get::<_, String>(at).map_err(&failed);
        let id = RunId::from_slice(&bytes(1)?).ok_or_else(|| nonsense("its id has another length".to_owned()))?;
        let word = |at: usize, what: &str| nonsense(format!("its {what} is `{}`", text(at).unwrap_or_default()));
        let detail = row.get_ref(12).map_err(&failed)?.as_bytes().unwrap_or_default();
        if detail.len() > MAX_DETAIL_BYTES {
            return Err(nonsense(format!("{id}: its detail has {} bytes", detail.len())));
        }
        let detail: Detail = serde_json::from_slice(detail)
            .map_err(|error| nonsense(format!("{id}: its detail is no JSON: {error}")))?;
        Ok(Entry {
            id,
            profile: text(2)?,
            repository: text(3)?,
            repository_id: optional(4)?.and_then(|bytes| RepositoryId::from_slice(&bytes)),
            host: text(5)?,
            by: By::of_name(&text(6)?).ok_or_else(|| word(6, "beginner"))?,
            begun_ns: row.get(7).map_err(&failed)?,
            ended_ns: row.get(8).map_err(&failed)?,
            outcome: Outcome::of_name(&text(9)?).ok_or_else(|| word(9, "outcome"))?,
            snapshot: optional(10)?.and_then(|bytes| SnapshotId::from_slice(&bytes)),
            is_sealed: row.get(11).map_err(&failed)?,
            phases: detail.phases,
            figures: detail.figures,
            problems: detail.problems,
            problem_count: detail.problem_count,
            tables: Vec::new(),
        })
    }

    fn tables_of(&self, run: i64) -> Result<Vec<TableCount>> {
        let failed = self.failed("read");
        let mut statement = self
            .connection
            .prepare_cached("SELECT source, name, rows, bytes FROM tables WHERE run = ? ORDER BY source, name")
            .map_err(&failed)?;
        let table = |row: &Row<'_>| {
            Ok(TableCount {
                source: row.get(0)?,
                name: row.get(1)?,
                rows: unsigned(row.get(2)?),
                bytes: unsigned(row.get(3)?),
            })
        };
        let tables = statement.query_map([run], table).map_err(&failed)?;
        tables.collect::<rusqlite::Result<_>>().map_err(&failed)
    }
}

/// SQLite's numbers have a sign; no count of ours needs the last bit.
fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

fn unsigned(number: i64) -> u64 {
    u64::try_from(number).unwrap_or(0)
}

/// Puts an entry in the place of whatever was known of it.
fn put(connection: &Connection, entry: &Entry, machine: Option<&Machine>) -> rusqlite::Result<()> {
    let entry = entry.clone().bounded();
    let detail = Detail {
        phases: entry.phases,
        figures: entry.figures,
        problems: entry.problems,
        problem_count: entry.problem_count,
    };
    let detail =
        serde_json::to_string(&detail).map_err(|error| rusqlite::Error::ToSqlConversionFailure(error.into()))?;
    let before = connection.query_row("SELECT number FROM runs WHERE id = ?", [entry.id.as_bytes()], |row| row.get(0));
    if let Some(number) = before.optional()? {
        let number: i64 = number;
        connection.execute("DELETE FROM tables WHERE run = ?", [number])?;
        connection.execute("DELETE FROM runs WHERE number = ?", [number])?;
    }
    connection.execute(
        "INSERT INTO runs (id, profile, repository, repository_id, host, started_by, begun_ns, ended_ns, outcome, snapshot, \
         sealed, detail, process, process_began, boot) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        params![
            entry.id.as_bytes(),
            entry.profile,
            entry.repository,
            entry.repository_id.as_ref().map(|id| id.as_bytes()),
            entry.host,
            entry.by.name(),
            entry.begun_ns,
            entry.ended_ns,
            entry.outcome.name(),
            entry.snapshot.as_ref().map(|id| id.as_bytes()),
            entry.is_sealed,
            detail,
            machine.map(|machine| machine.process),
            machine.map(|machine| signed(machine.process_began)),
            machine.map(|machine| &machine.boot),
        ],
    )?;
    let number = connection.last_insert_rowid();
    let mut statement = connection.prepare_cached("INSERT INTO tables VALUES (?, ?, ?, ?, ?)")?;
    for table in &entry.tables {
        statement.execute(params![number, table.source, table.name, signed(table.rows), signed(table.bytes)])?;
    }
    Ok(())
}

/// What the filter means in SQL, and the values in it.
fn condition(filter: &Filter) -> (String, Vec<Value>) {
    let (mut parts, mut values) = (vec!["1".to_owned()], Vec::new());
    let mut one_of = |column: &str, names: Vec<String>| {
        if !names.is_empty() {
            parts.push(format!("{column} IN ({})", vec!["?"; names.len()].join(", ")));
            values.extend(names.into_iter().map(Value::Text));
        }
    };
    one_of("profile", filter.profiles.clone());
    one_of("outcome", filter.outcomes.iter().map(|outcome| outcome.name().to_owned()).collect());
    for (comparison, value) in [("begun_ns >= ?", filter.since_ns), ("begun_ns < ?", filter.before_ns)] {
        if let Some(value) = value {
            parts.push(comparison.to_owned());
            values.push(Value::Integer(value));
        }
    }
    (parts.join(" AND "), values)
}

/// Moves a file aside with what SQLite has put beside it; gives its new name.
fn move_aside(path: &Path, now_ns: i64) -> Result<PathBuf> {
    let mut aside = path.as_os_str().to_owned();
    aside.push(format!(".damaged-{}", now_ns / 1_000_000_000));
    let aside = PathBuf::from(aside);
    fs::rename(path, &aside).map_err(|source| Error::Io { what: "move aside", path: path.to_owned(), source })?;
    for ending in ["-journal", "-wal", "-shm"] {
        let beside = |path: &Path| {
            let mut name = path.as_os_str().to_owned();
            name.push(ending);
            name
        };
        // Mostly there is none. One that stayed would be applied to the new file.
        let _ = fs::rename(beside(path), beside(&aside));
    }
    Ok(aside)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::super::sealed::tests::entry;
    use super::*;
    use crate::base::Kind;

    fn open(folder: &Path) -> History {
        History::open(folder, 7).unwrap().0
    }

    #[test]
    fn an_entry_comes_back_whole_and_a_second_word_about_it_takes_the_place_of_the_first() {
        let folder = tempfile::tempdir().unwrap();
        let mut history = open(folder.path());
        let whole = entry(1, 100);
        let begun = Entry::begun(whole.id, "web", "main", "tower", By::Schedule, 100);
        history.begin(&begun, &Machine::this()).unwrap();
        assert_eq!(history.newest("web").unwrap().unwrap(), begun);
        history.end(&whole).unwrap();
        drop(history);
        let history = History::read(folder.path()).unwrap().unwrap();
        let all = Filter { tables: true, ..Filter::default() };
        assert_eq!(history.entries(&all).unwrap(), std::slice::from_ref(&whole));
        assert_eq!(history.find(&whole.id.short().to_uppercase(), 2).unwrap(), [whole]);
        assert!(history.find("ff", 2).unwrap().is_empty());
    }

    #[test]
    fn a_filter_lets_through_what_it_means_oldest_first() {
        let folder = tempfile::tempdir().unwrap();
        let mut history = open(folder.path());
        for number in 1..=5 {
            let profile = if number % 2 == 0 { "mail" } else { "web" };
            let outcome = if number == 5 { Outcome::Failed } else { Outcome::Done };
            let one = Entry { profile: profile.to_owned(), outcome, ..entry(number, i64::from(number) * 10) };
            history.end(&one).unwrap();
        }
        let begun =
            |filter: &Filter| history.entries(filter).unwrap().iter().map(|entry| entry.begun_ns).collect::<Vec<_>>();
        let all = Filter::default();
        assert_eq!(begun(&all), [10, 20, 30, 40, 50]);
        assert_eq!(begun(&Filter { profiles: vec!["web".into()], ..all.clone() }), [10, 30, 50]);
        assert_eq!(begun(&Filter { newest: Some(2), ..all.clone() }), [40, 50]);
        assert_eq!(begun(&Filter { since_ns: Some(20), before_ns: Some(40), ..all.clone() }), [20, 30]);
        assert_eq!(begun(&Filter { outcomes: vec![Outcome::Failed, Outcome::Vanished], ..all }), [50]);
        assert_eq!(history.profiles().unwrap(), ["mail", "web"]);
        assert!(history.entries(&Filter::default()).unwrap()[0].tables.is_empty(), "only for whoever asks");
        assert_eq!(history.drop_before(2_000_000_000 + 30).unwrap(), 2);
        assert_eq!(history.entries(&Filter::default()).unwrap().len(), 3);
    }

    #[test]
    fn a_run_that_nobody_heard_of_again_has_vanished() {
        let folder = tempfile::tempdir().unwrap();
        let mut history = open(folder.path());
        let begun =
            |number: u8, profile: &str| Entry::begun(RunId([number; 16]), profile, "main", "tower", By::Hand, 10);
        history.begin(&begun(1, "web"), &Machine::this()).unwrap();
        history.begin(&begun(2, "mail"), &Machine::this()).unwrap();
        let gone = history.vanish("web", 50).unwrap();
        assert_eq!(gone.len(), 1);
        assert_eq!((gone[0].outcome, gone[0].ended_ns, gone[0].duration_ms()), (Outcome::Vanished, Some(50), None));
        assert!(history.vanish("web", 60).unwrap().is_empty(), "it is told once");
        assert_eq!(history.newest("mail").unwrap().unwrap().outcome, Outcome::Running);
        assert_eq!(history.unsealed("main", 10).unwrap(), gone);
        history.sealed(gone[0].id).unwrap();
        assert!(history.unsealed("main", 10).unwrap().is_empty());
    }

    #[test]
    fn what_sealed_records_tell_is_taken_in_once() {
        let folder = tempfile::tempdir().unwrap();
        let mut history = open(folder.path());
        history.end(&entry(1, 10)).unwrap();
        let sealed = |number| Entry { is_sealed: true, ..entry(number, 10) };
        assert_eq!(history.take_in(&[sealed(1), sealed(2)]).unwrap(), 1);
        assert_eq!(history.take_in(&[sealed(1), sealed(2)]).unwrap(), 0);
        assert!(history.entries(&Filter::default()).unwrap().iter().all(|entry| entry.is_sealed));
    }

    #[test]
    fn several_that_begin_at_once_wait_for_each_other() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path();
        let several = 0..8;
        std::thread::scope(|scope| {
            for number in several.clone() {
                scope.spawn(move || {
                    let mut history = open(path);
                    for more in 0..10 {
                        history.end(&entry(number * 10 + more, 10)).unwrap();
                    }
                });
            }
        });
        assert_eq!(open(path).entries(&Filter::default()).unwrap().len(), 80);
    }

    #[test]
    fn a_damaged_file_is_moved_aside_and_a_new_one_begun() {
        for damage in ["not a database at all, and long enough to be taken for a file of its own", ""] {
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join(FILE_NAME);
            open(folder.path()).end(&entry(1, 10)).unwrap();
            let whole = fs::read(&path).unwrap();
            let bytes = match damage {
                // The first page is whole, the rest is not.
                "" => [&whole[..4096], &vec![0x5a; whole.len() - 4096][..]].concat(),
                text => text.repeat(10).into_bytes(),
            };
            fs::write(&path, &bytes).unwrap();
            let (mut history, opened) = History::open(folder.path(), 7_000_000_000).unwrap();
            let moved = opened.moved.unwrap();
            assert!(opened.is_new && moved.contains("history.sqlite.damaged-7"), "{moved}");
            assert_eq!(fs::read(folder.path().join("history.sqlite.damaged-7")).unwrap(), bytes);
            history.end(&entry(2, 10)).unwrap();
            let (_, opened) = History::open(folder.path(), 8).unwrap();
            assert_eq!(opened, Opened::default());
        }
    }

    #[test]
    fn a_file_of_a_later_version_is_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let history = open(folder.path());
        history.connection.pragma_update(None, "user_version", 99).unwrap();
        drop(history);
        for error in [History::open(folder.path(), 7).err().unwrap(), History::read(folder.path()).err().unwrap()] {
            assert_eq!(error.kind(), Kind::Unsupported);
            assert!(error.to_string().contains("later version"), "{error}");
        }
        assert!(folder.path().join(FILE_NAME).exists());
    }

    #[test]
    fn where_there_is_no_history_yet_nobody_reads_one() {
        let folder = tempfile::tempdir().unwrap();
        assert!(History::read(folder.path()).unwrap().is_none());
        fs::write(folder.path().join(FILE_NAME), "").unwrap();
        assert!(History::read(folder.path()).unwrap().is_none());
        let (_, opened) = History::open(folder.path(), 7).unwrap();
        assert!(opened.is_new);
    }
}
