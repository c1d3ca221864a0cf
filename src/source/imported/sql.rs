//! Dumps that are SQL: what their comments say, how many rows they hold, whether their last line came.

use super::report::{Complaint, DumpReport, Format, Tables, text};
use super::statements::{Dialect, Found, HEAD_BYTES, Statements, table_name};

/// The line at the top of what `pg_dump` writes.
pub const POSTGRES: &[u8] = b"PostgreSQL database dump";
/// The line at the top of what `pg_dumpall` writes.
pub const POSTGRES_CLUSTER: &[u8] = b"PostgreSQL database cluster dump";
/// How the line at the top of what `mysqldump` writes begins.
pub const MYSQL: &[u8] = b"MySQL dump ";
/// How that of `mariadb-dump` begins.
pub const MARIADB: &[u8] = b"MariaDB dump ";
/// What stands before a name in a connection string.
const DBNAME: &[u8] = b"\"dbname='";
/// A statement whose head is as long may have been longer: the end of a head loses a few signs.
const WHOLE_BYTES: usize = HEAD_BYTES - 16;
/// What ends the last line.
const COMPLETE: &[u8] = b" complete";

/// What editors and shells put before text to say that it is UTF-8; the clients of both families pass over it.
const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";
/// What stands before UTF-16, the low byte first and the high byte first.
const UTF_16: [&[u8]; 2] = [b"\xff\xfe", b"\xfe\xff"];

/// The bytes behind the mark that they are UTF-8, if there is one.
pub fn without_mark(opening: &[u8]) -> &[u8] {
    opening.strip_prefix(BYTE_ORDER_MARK).unwrap_or(opening)
}

/// Which dump these bytes are the beginning of, if they are that in UTF-16.
pub fn recognise_wide(opening: &[u8]) -> Option<Format> {
    let at = UTF_16.iter().position(|mark| opening.starts_with(mark))?;
    let narrow: Vec<u8> = opening[2..].chunks_exact(2).map(|pair| pair[at]).collect();
    recognise(&narrow)
}

/// Which dump begins with these bytes, if they are the beginning of one.
pub fn recognise(opening: &[u8]) -> Option<Format> {
    let opening = without_mark(opening);
    opening.split(|byte| *byte == b'\n').find_map(|line| {
        let line = line.strip_prefix(b"--")?.trim_ascii();
        match line {
            POSTGRES => Some(Format::PostgresSql),
            POSTGRES_CLUSTER => Some(Format::PostgresClusterSql),
            _ if line.starts_with(MYSQL) => Some(Format::MysqlSql),
            _ if line.starts_with(MARIADB) => Some(Format::MariadbSql),
            _ => None,
        }
    })
}

/// Inspects SQL.
pub struct Sql {
    statements: Statements,
    facts: Facts,
}

struct Facts {
    report: DumpReport,
    tables: Tables,
    /// The database that the statements concern, where a file holds several.
    current: String,
    /// Dumps that began and did not end: of a database, of a cluster.
    open: bool,
    cluster_open: bool,
    /// The last line of a dump of a database is followed by one that is a mere `--`.
    last_line_open: bool,
    restricted: bool,
    after_end: bool,
    is_mysql: bool,
}

impl Sql {
    /// An inspection from the first byte on.
    pub fn new(format: Format) -> Sql {
        let dialect = match format {
            Format::MysqlSql | Format::MariadbSql => Dialect::Mysql,
            _ => Dialect::Postgres,
        };
        let facts = Facts {
            report: DumpReport::of(format),
            tables: Tables::default(),
            current: String::new(),
            open: false,
            cluster_open: false,
            last_line_open: false,
            restricted: false,
            after_end: false,
            is_mysql: dialect == Dialect::Mysql,
        };
        Sql { statements: Statements::new(dialect), facts }
    }

    /// Takes the next bytes.
    pub fn push(&mut self, bytes: &[u8]) {
        let Sql { statements, facts } = self;
        statements.push(bytes, &mut |found| facts.take(&found));
    }

    /// What was found, after the last byte.
    pub fn finish(self) -> DumpReport {
        let Sql { statements, facts } = self;
        let mut report = facts.report;
        if let Some(complaint) = unfinished(&statements) {
            report.complain(complaint);
        }
        if facts.open || facts.cluster_open || facts.last_line_open || facts.restricted {
            let last = match report.format {
                Format::MysqlSql | Format::MariadbSql => "-- Dump completed",
                _ if facts.cluster_open => "-- PostgreSQL database cluster dump complete",
                _ => "-- PostgreSQL database dump complete",
            };
            report.complain(Complaint::truncated(format!("it does not end with `{last}`")));
        }
        if statements.had_odd_delimiter() {
            report.reach.unbound("DELIMITER".to_owned());
        }
        if facts.after_end {
            report.notes.push("statements follow its last line".to_owned());
        }
        if facts.tables.is_empty() {
            report.notes.push("there is no table in it".to_owned());
        }
        report.count(facts.tables);
        report
    }
}

/// A name that stands in a connection string, which quotes with backslashes, within double quotes, of which two are one.
fn unquoted(name: &[u8]) -> Vec<u8> {
    let mut plain = Vec::with_capacity(name.len());
    let mut bytes = name.iter().copied().peekable();
    while let Some(byte) = bytes.next() {
        if byte == b'"' && bytes.peek() == Some(&b'"') {
            bytes.next();
        }
        // Double quotes are the outer ones: a backslash never stands before one of them for the string within.
        let escaped = if byte == b'\\' { bytes.next() } else { None };
        plain.push(escaped.unwrap_or(byte));
    }
    plain
}

fn unfinished(statements: &Statements) -> Option<Complaint> {
    if statements.is_between() {
        return None;
    }
    let (head, copies) = statements.open();
    let place = match (table_of(head), copies) {
        (Some(table), true) => format!("in the rows of {table}"),
        (Some(table), false) => format!("in a statement on {table}"),
        (None, _) => "in a statement or comment".to_owned(),
    };
    Some(Complaint::truncated(format!("it ends {place}")))
}

/// The table that a statement brings rows for.
fn table_of(head: &[u8]) -> Option<String> {
    after_words(head, &[&["COPY"]])
        .or_else(|| {
            let insert: [&[&str]; 3] = [&["INSERT", "REPLACE"], &["IGNORE", ""], &["INTO"]];
            after_words(head, &insert)
        })
        .and_then(table_name)
}

/// The table that a statement makes.
fn table_made(head: &[u8]) -> Option<String> {
    let words: [&[&str]; 4] = [&["CREATE"], &["UNLOGGED", ""], &["TABLE"], &["IF", ""]];
    let rest = after_words(head, &words)?;
    let rest = after_words(rest, &[&["NOT"], &["EXISTS"]]).unwrap_or(rest);
    table_name(rest)
}

/// What follows some words, of each of which one form must stand there; an empty form says that it may be missing.
fn after_words<'h>(head: &'h [u8], words: &[&[&str]]) -> Option<&'h [u8]> {
    words.iter().try_fold(head, |rest, forms| {
        forms.iter().find_map(|form| match form.len() {
            0 => Some(rest),
            length => {
                let word = rest.get(..length).filter(|word| word.eq_ignore_ascii_case(form.as_bytes()))?;
                rest[word.len()..].strip_prefix(b" ")
            }
        })
    })
}

impl Facts {
    fn take(&mut self, found: &Found<'_>) {
        match found {
            Found::Comment(line) => self.comment(line),
            Found::Command(line) => self.command(line),
            Found::Copied(head, rows) => {
                self.follows();
                if let Some(table) = table_of(head) {
                    self.tables.count(self.full_name(&table), Some(*rows));
                }
            }
            Found::Statement(head, tuples, conditional) => self.statement(head, *tuples, *conditional),
        }
    }

    fn follows(&mut self) {
        self.after_end |= !self.open && !self.cluster_open;
    }

    fn full_name(&self, table: &str) -> String {
        if self.current.is_empty() { table.to_owned() } else { format!("{}.{table}", self.current) }
    }

    fn statement(&mut self, head: &[u8], tuples: u64, conditional: bool) {
        self.follows();
        if self.is_mysql {
            self.report.reach.take(head, head.len() < WHOLE_BYTES);
        }
        if let Some(table) = table_of(head) {
            self.tables.count(self.full_name(&table), Some(tuples));
        // What MySQL makes in a conditional comment stands for a view.
        } else if let Some(table) = table_made(head).filter(|_| !conditional) {
            self.tables.add(self.full_name(&table));
        } else if let Some(database) = after_words(head, &[&["USE"]]).and_then(table_name) {
            self.current = database;
        }
    }

    fn command(&mut self, line: &[u8]) {
        let mut words = line.split(|byte| *byte == b' ');
        match words.next() {
            Some(b"restrict") => self.restricted = true,
            Some(b"unrestrict") => self.restricted = false,
            Some(b"connect") => {
                // A name that is not plain comes as `-reuse-previous=on "dbname='a name'"`.
                let quoted = line.windows(DBNAME.len()).position(|words| words == DBNAME);
                let quoted = quoted.and_then(|at| line[at + DBNAME.len()..].strip_suffix(b"'\"")).map(unquoted);
                let plain = || table_name(words.next_back().unwrap_or_default()).unwrap_or_default();
                self.current = quoted.map_or_else(plain, |name| text(&name));
            }
            _ => {}
        }
    }

    fn comment(&mut self, line: &[u8]) {
        if std::mem::take(&mut self.last_line_open) && !line.is_empty() {
            self.last_line_open = true;
        }
        let report = &mut self.report;
        let after = |beginning: &[u8]| line.strip_prefix(beginning).map(text);
        match line {
            POSTGRES => self.open = true,
            POSTGRES_CLUSTER => self.cluster_open = true,
            _ if line.strip_suffix(COMPLETE) == Some(POSTGRES) => {
                self.open = false;
                self.last_line_open = true;
            }
            _ if line.strip_suffix(COMPLETE) == Some(POSTGRES_CLUSTER) => {
                self.cluster_open = false;
                self.last_line_open = true;
            }
            _ if line.starts_with(b"Dump completed") => self.open = false,
            _ if line.starts_with(MYSQL) || line.starts_with(MARIADB) => {
                self.open = true;
                report.tool = text(line.split(|byte| *byte == b',').next().unwrap_or_default());
            }
            _ => {
                if let Some(version) = after(b"Dumped from database version ") {
                    report.server = format!("PostgreSQL {version}");
                } else if let Some(version) = after(b"Dumped by pg_dump version ") {
                    report.tool = format!("pg_dump {version}");
                } else if let Some(version) = after(b"Server version\t") {
                    let product = if version.contains("MariaDB") { "MariaDB" } else { "MySQL" };
                    report.server = format!("{product} {version}");
                } else if let Some(host) = after(b"Host: ") {
                    report.database = host.split_once("Database: ").map_or("", |(_, name)| name.trim()).to_owned();
                }
            }
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_database_of_a_cluster_has_the_name_that_its_connect_line_quotes() {
        let mut sql = Sql::new(Format::PostgresClusterSql);
        sql.push(b"--\n-- PostgreSQL database cluster dump\n--\n\n");
        let names = [
            (r#"\connect -reuse-previous=on "dbname='a ""b\''""#, r#"a "b'"#),
            (r#"\connect -reuse-previous=on "dbname='back\\slash'""#, r"back\slash"),
            (r#"\connect -reuse-previous=on "dbname='""'""#, r#"""#),
            (r"\connect shop", "shop"),
        ];
        for (line, name) in names {
            sql.push(format!("{line}\n\n").as_bytes());
            assert_eq!(sql.facts.current, name, "{line}");
        }
    }
}
