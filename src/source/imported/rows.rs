//! Counting the rows in the data of one table of a PostgreSQL archive.

use super::copy::CopyRows;
use super::report::Complaint;
use super::statements::{Dialect, Found, Statements};

/// How the first statement begins.
const INSERT: &[u8] = b"INSERT INTO ";

/// Counts what `pg_dump` wrote for one table: COPY text that ends with `\.`, or INSERT statements.
pub enum Rows {
    /// It is not known yet which of the two it is: so many line ends came, then these bytes.
    Unknown(usize, Vec<u8>),
    /// COPY text.
    Copy(CopyRows),
    /// INSERT statements and how many rows they brought.
    Inserts(Box<Statements>, u64),
}

impl Rows {
    /// For data that is COPY text or is not.
    pub fn of(copy: bool) -> Rows {
        match copy {
            true => Rows::Copy(CopyRows::default()),
            false => Rows::Inserts(Box::new(Statements::new(Dialect::Postgres)), 0),
        }
    }

    /// For data that has to tell by itself.
    pub fn of_any() -> Rows {
        Rows::Unknown(0, Vec::new())
    }

    /// Takes the next bytes.
    pub fn push(&mut self, bytes: &[u8]) {
        match self {
            Rows::Unknown(lines, first) => {
                let at = if first.is_empty() { bytes.iter().position(|byte| *byte != b'\n') } else { Some(0) };
                let at = at.unwrap_or(bytes.len());
                *lines = lines.saturating_add(at);
                let used = (bytes.len() - at).min(INSERT.len() - first.len());
                first.extend_from_slice(&bytes[at..at + used]);
                if first.len() == INSERT.len() {
                    self.decide();
                    self.push(&bytes[at + used..]);
                }
            }
            Rows::Copy(rows) => {
                rows.push(bytes);
            }
            Rows::Inserts(statements, rows) => statements.push(bytes, &mut |found| {
                if let Found::Statement(_, tuples, _) = found {
                    *rows = rows.saturating_add(tuples);
                }
            }),
        }
    }

    /// Decides which of the two it is, by the first bytes that are no line ends.
    fn decide(&mut self) {
        let Rows::Unknown(lines, first) = std::mem::replace(self, Rows::Copy(CopyRows::default())) else { return };
        if first == INSERT {
            *self = Rows::of(false);
        } else {
            (0..lines).for_each(|_| self.push(b"\n"));
        }
        self.push(&first);
    }

    /// How many rows there were, after the last byte.
    pub fn finish(mut self) -> Result<u64, Complaint> {
        let cut = || Complaint::truncated("its rows end too early");
        if matches!(&self, Rows::Unknown(_, first) if !first.is_empty()) {
            self.decide();
        }
        match self {
            // So ends the data of an empty table that would be INSERT statements.
            Rows::Unknown(lines, _) => (lines >= 2).then_some(0).ok_or_else(cut),
            Rows::Copy(rows) => rows.ended().then(|| rows.rows()).ok_or_else(cut),
            Rows::Inserts(statements, rows) => statements.is_between().then_some(rows).ok_or_else(cut),
        }
    }
}
