//! One run of the dump program over the rows of tables, at one moment.
//!
//! The program takes the moment, then gives the tables one after the other, in the order in which they were asked for. A
//! `Run` hands out their rows step by step and knows how far it is. It ends well only if the program did and wrote its
//! last line: a stream that was cut off anywhere is a failure.

use super::rows::{Malformed, Piece, Scanner, keys_switched, table_of_insert};
use super::tools::Family;
use super::{Session, explain};
use crate::base::Kind;
use crate::base::child::{Child, Output};
use crate::db::{Error, Result};
use std::collections::HashMap;
use std::io::Read;
use std::ops::Range;

/// How much is read from the program at once.
const BUFFER_BYTES: usize = 256 << 10;
/// Names of tables are arguments of the program, and Linux takes 2 MiB of those. Some 30,000 names fit.
const MAX_NAMES_BYTES: usize = 1 << 20;

/// What the next step through the rows is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// The rows of this table begin: its place among those asked for.
    Table(usize),
    /// A statement with rows begins: see [`Run::head`].
    Insert,
    /// The next bytes of a row: see [`Run::bytes`].
    Row(Range<usize>),
    /// The row ends.
    RowEnd,
    /// All rows of all tables were given, and the program ended well.
    End,
}

/// A run of the dump program.
pub struct Run {
    session: Session,
    child: Option<Child>,
    output: Option<Output>,
    tables: Vec<String>,
    places: HashMap<String, usize>,
    current: Option<usize>,
    scanner: Scanner,
    buffer: Box<[u8]>,
    unread: Range<usize>,
    head: Vec<u8>,
    position: Option<String>,
    gtid: Option<String>,
    completed: bool,
    ended: bool,
}

impl Run {
    /// Starts the program on `tables` of the session's database. With `position` it says where in the binary log the
    /// moment lies; the server must write one, and MySQL wants rights for it.
    pub fn start(session: Session, tables: Vec<String>, position: bool) -> Result<Run> {
        let bytes: usize = tables.iter().map(|table| table.len() + 1 + size_of::<usize>()).sum();
        if bytes > MAX_NAMES_BYTES {
            let message = format!("{} tables are more than one run of the dump program takes", tables.len());
            return Err(session.error(Kind::Unsupported, message));
        }
        let mut program = session.dumper().args([
            "--single-transaction",
            "--quick",
            "--no-create-info",
            "--skip-triggers",
            "--skip-add-locks",
            "--disable-keys",
            "--extended-insert",
            "--hex-blob",
        ]);
        let dump = &session.tools().dump;
        if position {
            // MySQL renamed it in 8.0.26.
            let is_new = dump.family == Family::MySql && dump.number >= 80_026;
            program = program.arg(if is_new { "--source-data=2" } else { "--master-data=2" });
        }
        let program = program.arg("--").arg(&session.address().database).args(&tables);
        let mut child = session.start(program)?;
        Ok(Run {
            output: child.take_output(),
            child: Some(child),
            places: tables.iter().cloned().enumerate().map(|(place, table)| (table, place)).collect(),
            tables,
            session,
            current: None,
            scanner: Scanner::new(),
            buffer: vec![0; BUFFER_BYTES].into_boxed_slice(),
            unread: 0..0,
            head: Vec::new(),
            position: None,
            gtid: None,
            completed: false,
            ended: false,
        })
    }

    /// The table that is being given.
    pub fn current(&self) -> Option<usize> {
        self.current
    }

    /// Where in the binary log the moment lies, as far as the program has said it.
    pub fn position(&self) -> Option<String> {
        let position = self.position.clone()?;
        Some(match &self.gtid {
            Some(gtid) => format!("{position}, GTID {gtid}"),
            None => position,
        })
    }

    /// The statement that holds the rows, up to `VALUES`; after [`Step::Insert`].
    pub fn head(&self) -> &[u8] {
        &self.head
    }

    /// The bytes of [`Step::Row`]; before the next step.
    pub fn bytes(&self, row: Range<usize>) -> &[u8] {
        &self.buffer[row]
    }

    /// Goes on. After a failure there is nothing more.
    pub fn step(&mut self) -> Result<Step> {
        loop {
            if self.ended {
                return Ok(Step::End);
            }
            if self.unread.is_empty() && !self.fill()? {
                self.end()?;
                continue;
            }
            if let Some(step) = self.next_piece()? {
                return Ok(step);
            }
        }
    }

    fn next_piece(&mut self) -> Result<Option<Step>> {
        let from = self.unread.start;
        let (taken, piece) = match self.scanner.next(&self.buffer[self.unread.clone()]) {
            Ok(next) => next,
            Err(malformed) => return Err(self.malformed(&malformed)),
        };
        self.unread.start += taken;
        match piece {
            None | Some(Piece::InsertEnd) => Ok(None),
            // A row's bytes are the last that were taken: its parenthesis may stand before them.
            Some(Piece::Row(bytes)) => Ok(Some(Step::Row(from + taken - bytes.len()..from + taken))),
            Some(Piece::RowEnd) => Ok(Some(Step::RowEnd)),
            Some(Piece::Insert(head)) => {
                self.head.clear();
                self.head.extend_from_slice(head);
                self.check_table_of_rows().map(Some)
            }
            Some(Piece::Statement(statement)) => {
                let statement = statement.to_vec();
                self.statement(&statement)
            }
            Some(Piece::Comment(comment)) => {
                let comment = String::from_utf8_lossy(comment).into_owned();
                self.comment(&comment);
                Ok(None)
            }
        }
    }

    fn check_table_of_rows(&self) -> Result<Step> {
        let table = table_of_insert(&self.head);
        match (&table, self.current) {
            (Some(table), Some(current)) if *table == self.tables[current] => Ok(Step::Insert),
            _ => Err(self.strange(&format!("rows of {}", table.as_deref().unwrap_or("an unknown table")))),
        }
    }

    fn statement(&mut self, statement: &[u8]) -> Result<Option<Step>> {
        if let Some((table, on)) = keys_switched(statement) {
            let place = self.places.get(&table).copied();
            return match (on, place) {
                (true, place) if place == self.current => Ok(None),
                (false, Some(place)) if self.current.is_none_or(|current| current < place) => {
                    self.current = Some(place);
                    Ok(Some(Step::Table(place)))
                }
                _ => Err(self.strange(&format!("table {table}"))),
            };
        }
        let text = String::from_utf8_lossy(statement);
        let first = super::script::tokens(&text).next().map(|token| token.text.to_ascii_uppercase());
        match first.as_deref() {
            // What the session was like before and after; and the ends of transactions.
            Some("SET" | "COMMIT" | "START" | "USE") | None => Ok(None),
            _ => Err(self.strange(&text.chars().take(60).collect::<String>())),
        }
    }

    /// The program said something that is not part of such a run.
    fn strange(&self, what: &str) -> Error {
        let program = self.session.tools().dump.label();
        self.error(Kind::Unsupported, format!("{program} wrote what was not expected here: {what}"))
    }

    fn malformed(&self, malformed: &Malformed) -> Error {
        let program = self.session.tools().dump.label();
        self.error(Kind::Unsupported, format!("what {program} wrote cannot be read: {malformed}"))
    }

    fn comment(&mut self, comment: &str) {
        if comment.starts_with("Dump completed") {
            self.completed = true;
        } else if comment.starts_with("CHANGE ") {
            self.position = position(comment).or(self.position.take());
        } else if let Some((_, gtid)) = comment.split_once("gtid_slave_pos='") {
            self.gtid = gtid.split('\'').next().map(str::to_owned);
        }
    }

    /// Reads on; `false` at the end.
    fn fill(&mut self) -> Result<bool> {
        let Some(output) = &mut self.output else { return Ok(false) };
        match output.read(&mut self.buffer) {
            Ok(length) => {
                self.unread = 0..length;
                Ok(length > 0)
            }
            Err(_) if self.session.stop().raised() => Err(self.error(Kind::Interrupted, "stopped")),
            Err(error) => Err(self.error(Kind::Unavailable, format!("cannot read the dump: {error}"))),
        }
    }

    fn end(&mut self) -> Result<()> {
        self.output = None;
        if let Some(child) = self.child.take() {
            self.session.ended_well(child).map_err(|error| self.at_table(error))?;
        }
        if !self.completed || !self.scanner.may_end() {
            let program = self.session.tools().dump.label();
            let message = format!("the dump breaks off: {program} ended well but did not write its last line");
            return Err(self.error(Kind::Unavailable, message));
        }
        self.ended = true;
        Ok(())
    }

    fn error(&self, kind: Kind, message: impl Into<String>) -> Error {
        self.at_table(self.session.error(kind, message))
    }

    /// With the table that was being given, unless another object is named already.
    fn at_table(&self, error: Error) -> Error {
        match (self.current, &error.object) {
            (Some(current), None) => error.object(format!("table {}", self.tables[current])),
            _ => error,
        }
    }
}

/// `CHANGE MASTER TO MASTER_LOG_FILE='bin.000001', MASTER_LOG_POS=7998;` as `bin.000001:7998`.
fn position(comment: &str) -> Option<String> {
    let (_, rest) = comment.split_once("_LOG_FILE='")?;
    let (file, rest) = rest.split_once('\'')?;
    let (_, rest) = rest.split_once("_LOG_POS=")?;
    let digits = rest.split(|letter: char| !letter.is_ascii_digit()).next()?;
    Some(format!("{file}:{digits}"))
}

/// What the dump program writes of definitions, whole: with `arguments` behind the usual options. Fails if it breaks off.
pub fn definitions(session: &Session, options: &[&str], tables: &[String]) -> Result<String> {
    let program = session.dumper().args(["--no-data", "--skip-lock-tables", "--skip-add-locks"]).args(options);
    let program = program.arg("--").arg(&session.address().database).args(tables);
    let text = session.run(program, "")?;
    let text = String::from_utf8(text).map_err(|error| {
        let at = error.utf8_error().valid_up_to();
        session.error(
            Kind::Unsupported,
            format!("the definitions are not UTF-8 at byte {at}: a view or routine was made in another character set"),
        )
    })?;
    match text.trim_end().lines().next_back() {
        Some(last) if last.starts_with("-- Dump completed") => Ok(text),
        _ => {
            Err(session
                .error(Kind::Unavailable, "the definitions break off: the dump program did not write its last line"))
        }
    }
}

/// What a program's words amount to: for failures of programs that somebody else runs on the same server.
pub fn failure(session: &Session, errors: &[u8]) -> Error {
    explain::failure(session.address(), errors, session.otherwise())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_place_in_the_log_is_read_in_both_families_words() {
        let expected = Some("bin.000001:7998".to_owned());
        assert_eq!(position("CHANGE MASTER TO MASTER_LOG_FILE='bin.000001', MASTER_LOG_POS=7998;"), expected);
        assert_eq!(
            position("CHANGE REPLICATION SOURCE TO SOURCE_LOG_FILE='bin.000001', SOURCE_LOG_POS=7998;"),
            expected
        );
        assert_eq!(position("CHANGE MASTER TO x"), None);
    }
}
