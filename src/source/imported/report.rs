//! What an inspection finds out about a dump, and what it says about it.

use super::reach::Reach;
use std::collections::BTreeMap;

/// Tables of one dump that are told apart; what comes beyond is counted together.
pub const MAX_TABLES: usize = 100_000;
/// Names and versions are kept up to this many bytes. PostgreSQL's names have at most 63, MySQL's at most 256.
pub const MAX_TEXT_BYTES: usize = 300;

/// Which program wrote a dump, and how.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Format {
    /// SQL of `pg_dump`.
    PostgresSql,
    /// SQL of `pg_dumpall`.
    PostgresClusterSql,
    /// `pg_dump -Fc`.
    PostgresCustom,
    /// `pg_dump -Ft`.
    PostgresTar,
    /// `toc.dat` of `pg_dump -Fd`; its data lies in files beside it.
    PostgresDirectory,
    /// The data of one table of `pg_dump -Fd`.
    PostgresPiece,
    /// SQL of `mysqldump`.
    MysqlSql,
    /// SQL of `mariadb-dump`.
    MariadbSql,
    /// The name says that it is a dump, the content does not say which.
    Unknown,
}

impl Format {
    /// Its name in snapshots and JSON.
    pub fn name(self) -> &'static str {
        match self {
            Format::PostgresSql => "postgres-sql",
            Format::PostgresClusterSql => "postgres-cluster-sql",
            Format::PostgresCustom => "postgres-custom",
            Format::PostgresTar => "postgres-tar",
            Format::PostgresDirectory => "postgres-directory",
            Format::PostgresPiece => "postgres-piece",
            Format::MysqlSql => "mysql-sql",
            Format::MariadbSql => "mariadb-sql",
            Format::Unknown => "unknown",
        }
    }

    /// How to write such a dump without compression; none where that is no option of the program.
    fn uncompressed(self) -> Option<&'static str> {
        match self {
            Format::PostgresCustom => Some("`pg_dump -Fc -Z0` (`--compress=none`)"),
            Format::PostgresDirectory => Some("`pg_dump -Fd -Z0` (`--compress=none`)"),
            _ => None,
        }
    }
}

/// Whether a dump can be counted on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// It is whole as far as its format lets one tell.
    Complete,
    /// It ends too early.
    Truncated,
    /// It contradicts itself.
    Damaged,
    /// There is nothing in it.
    Empty,
    /// It could not be looked into.
    Unchecked,
}

impl State {
    /// Its name in snapshots and JSON.
    pub fn name(self) -> &'static str {
        match self {
            State::Complete => "complete",
            State::Truncated => "truncated",
            State::Damaged => "damaged",
            State::Empty => "empty",
            State::Unchecked => "unchecked",
        }
    }

    /// Whether a restore of it would fall short.
    pub fn is_bad(self) -> bool {
        matches!(self, State::Truncated | State::Damaged | State::Empty)
    }
}

/// Why a dump cannot be counted on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Complaint {
    /// What it amounts to.
    pub state: State,
    /// What was seen, as a sentence without a period.
    pub reason: String,
}

impl Complaint {
    /// It ends too early.
    pub fn truncated(reason: impl Into<String>) -> Complaint {
        Complaint { state: State::Truncated, reason: reason.into() }
    }

    /// It contradicts itself.
    pub fn damaged(reason: impl Into<String>) -> Complaint {
        Complaint { state: State::Damaged, reason: reason.into() }
    }

    /// It could not be looked into.
    pub fn unchecked(reason: impl Into<String>) -> Complaint {
        Complaint { state: State::Unchecked, reason: reason.into() }
    }
}

/// How the bytes of a dump are compressed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Compression {
    /// What compressed the file as a whole, if anything: `gzip`, `zstd`, …
    pub around: Option<&'static str>,
    /// What the dump program compressed the data within with, if anything.
    pub within: Option<&'static str>,
}

impl Compression {
    /// Its name: that of the outermost compression, `none` if there is none.
    pub fn name(self) -> &'static str {
        self.around.or(self.within).unwrap_or("none")
    }

    /// What it costs and how to do without; none if there is nothing to say.
    pub fn advice(self, format: Format) -> Option<String> {
        let name = self.around.or(self.within)?;
        let remedy = match (self.around, format.uncompressed()) {
            (Some(_), _) => format!("write it without {name}"),
            (None, Some(command)) => format!("make it with {command}"),
            (None, None) => "make it without compression".to_owned(),
        };
        Some(format!(
            "it is compressed with {name}, which hides from dedup and delta what did not change, so each new version \
             takes about its whole size in the repository: {remedy}; keepstone compresses by itself"
        ))
    }
}

/// A table in a dump.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TableRows {
    /// Its name, with its schema and, where a file holds several, its database: joined by periods, without quotes.
    pub name: String,
    /// Its rows, exactly; none if they could not be counted.
    pub rows: Option<u64>,
}

/// A file that belongs to a dump in directory format.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Piece {
    /// Its name without the ending that tells how it is compressed.
    pub file: String,
    /// The table whose rows it holds; none for large objects.
    pub table: Option<String>,
}

/// All that was found out about one file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DumpReport {
    /// Which program wrote it, and how.
    pub format: Format,
    /// That program's version, as the dump says it.
    pub tool: String,
    /// The server's version, as the dump says it.
    pub server: String,
    /// The database; empty if the dump does not say it, or holds several.
    pub database: String,
    /// Whether it can be counted on.
    pub state: State,
    /// Why not; empty if it can.
    pub reason: String,
    /// Its length in bytes.
    pub bytes: u64,
    /// How it is compressed.
    pub compression: Compression,
    /// Its tables by name, at most `MAX_TABLES`.
    pub tables: Vec<TableRows>,
    /// How many tables there are.
    pub table_count: u64,
    /// Rows of all tables, as far as they could be counted.
    pub rows: u64,
    /// What somebody should know before counting on it.
    pub notes: Vec<String>,
    /// In directory format: the files that hold the data.
    pub pieces: Vec<Piece>,
    /// In SQL of MySQL and MariaDB: where its statements lead.
    pub reach: Reach,
}

impl DumpReport {
    /// A report of a file of which nothing is known but what is wrong with it.
    pub fn unknown(state: State, reason: impl Into<String>) -> DumpReport {
        DumpReport { state, reason: reason.into(), ..DumpReport::of(Format::Unknown) }
    }

    /// A report of a whole and empty dump.
    pub fn of(format: Format) -> DumpReport {
        DumpReport {
            format,
            tool: String::new(),
            server: String::new(),
            database: String::new(),
            state: State::Complete,
            reason: String::new(),
            bytes: 0,
            compression: Compression::default(),
            tables: Vec::new(),
            table_count: 0,
            rows: 0,
            notes: Vec::new(),
            pieces: Vec::new(),
            reach: Reach::default(),
        }
    }

    /// Takes note of a complaint. The first one is the cause of the others; but what is wrong outweighs what could not
    /// be looked into.
    pub fn complain(&mut self, complaint: Complaint) {
        if self.state == State::Complete || (self.state == State::Unchecked && complaint.state.is_bad()) {
            self.state = complaint.state;
            self.reason = complaint.reason;
        }
    }

    /// Takes over what was counted.
    pub fn count(&mut self, tables: Tables) {
        self.table_count = tables.known.len() as u64 + tables.beyond;
        self.rows = tables.rows;
        if tables.beyond > 0 {
            self.notes.push(format!("only {MAX_TABLES} of its tables are told apart"));
        }
        self.tables = tables.known.into_iter().map(|(name, rows)| TableRows { name, rows }).collect();
    }
}

/// Counts rows of many tables in bounded memory.
#[derive(Debug, Default)]
pub struct Tables {
    known: BTreeMap<String, Option<u64>>,
    beyond: u64,
    rows: u64,
}

impl Tables {
    /// There is such a table.
    pub fn add(&mut self, name: String) {
        self.count(name, Some(0));
    }

    /// So many more rows of a table; none if they could not be counted.
    pub fn count(&mut self, name: String, rows: Option<u64>) {
        self.rows = self.rows.saturating_add(rows.unwrap_or(0));
        if let Some(known) = self.known.get_mut(&name) {
            *known = known.zip(rows).map(|(known, rows)| known.saturating_add(rows));
        } else if self.known.len() < MAX_TABLES {
            self.known.insert(name, rows);
        } else {
            self.beyond += 1;
        }
    }

    /// Whether there is no table at all.
    pub fn is_empty(&self) -> bool {
        self.known.is_empty()
    }
}

/// Text from a dump: at most [`MAX_TEXT_BYTES`], without control characters.
pub fn text(bytes: &[u8]) -> String {
    let bytes = &bytes[..bytes.len().min(MAX_TEXT_BYTES)];
    String::from_utf8_lossy(bytes).chars().map(|c| if c.is_control() { ' ' } else { c }).collect::<String>()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wrong_is_kept_before_what_was_not_looked_into_and_the_first_before_the_next() {
        let mut report = DumpReport::of(Format::PostgresCustom);
        report.complain(Complaint::unchecked("lz4"));
        report.complain(Complaint::truncated("too short"));
        report.complain(Complaint::damaged("odd"));
        assert_eq!((report.state, report.reason.as_str()), (State::Truncated, "too short"));
    }

    #[test]
    fn the_advice_names_the_compression_and_the_remedy() {
        let within = Compression { within: Some("gzip"), around: None };
        assert!(within.advice(Format::PostgresCustom).is_some_and(|text| text.contains("`pg_dump -Fc -Z0`")));
        let around = Compression { around: Some("gzip"), within: None };
        assert!(around.advice(Format::MysqlSql).is_some_and(|text| text.contains("write it without gzip")));
        assert_eq!(Compression::default().advice(Format::MysqlSql), None);
    }
}
