//! The stream of one table, cut out of the one run that gives all tables.

use super::layout::Layout;
use crate::base::Kind;
use crate::base::clock::Stopwatch;
use crate::db::mysql::script::TRAILER;
use crate::db::mysql::{Run, Step, identifier};
use crate::db::{Error, Result};
use std::io::{self, Read};

/// What stands before the rows: as the dump programs have it, so that the stream can be loaded by hand.
pub(super) const PRELUDE: &str = "/*!40101 SET NAMES utf8mb4 */;\n/*!40103 SET TIME_ZONE='+00:00' */;\n\
    /*!40014 SET UNIQUE_CHECKS=0, FOREIGN_KEY_CHECKS=0 */;\n/*!40101 SET SQL_MODE='NO_AUTO_VALUE_ON_ZERO' */;\n";
/// How much is made ready at once.
const READY_BYTES: usize = 64 << 10;

/// What was read of a table.
#[derive(Clone, Debug, Default)]
pub(super) struct Taken {
    /// Rows.
    pub rows: u64,
    /// Bytes of rows.
    pub bytes: u64,
    /// Bytes of the stream.
    pub stream_bytes: u64,
    /// Their checksum.
    pub checksum: String,
    /// How long it took.
    pub duration_ms: u64,
    /// Whether the program gave no rows of it, since its engine keeps them elsewhere.
    pub is_elsewhere: bool,
}

/// Reads the stream of one table.
pub(super) struct Reader<'r> {
    run: &'r mut Run,
    place: usize,
    table: String,
    layout: Layout,
    out: Vec<u8>,
    given: usize,
    total: u64,
    began: bool,
    is_there: bool,
    done: bool,
    failure: Option<Error>,
    watch: Stopwatch,
}

impl<'r> Reader<'r> {
    /// Of the table at `place`, by its name. Those before it must have been read.
    pub fn new(run: &'r mut Run, place: usize, name: &str) -> Reader<'r> {
        Reader {
            run,
            place,
            table: identifier(name),
            layout: Layout::default(),
            out: PRELUDE.into(),
            given: 0,
            total: 0,
            began: false,
            is_there: false,
            done: false,
            failure: None,
            watch: Stopwatch::start(),
        }
    }

    /// What was read, if it was read to its end; else why not.
    pub fn finish(mut self, error: Option<io::ErrorKind>) -> Result<Taken, Option<Error>> {
        if let Some(failure) = self.failure.take() {
            return Err(Some(failure));
        }
        if error.is_some() || !self.done || self.given < self.out.len() {
            return Err(None);
        }
        Ok(Taken {
            rows: self.layout.rows(),
            bytes: self.layout.bytes(),
            stream_bytes: self.total,
            checksum: self.layout.checksum(),
            duration_ms: self.watch.elapsed_ms(),
            is_elsewhere: !self.is_there,
        })
    }

    fn make_ready(&mut self) -> Result<()> {
        self.out.clear();
        self.given = 0;
        if !self.began && !self.begin()? {
            return Ok(());
        }
        while self.out.len() < READY_BYTES && !self.done {
            match self.run.step()? {
                Step::Insert => self.layout.insert(self.run.head(), &mut self.out),
                Step::Row(bytes) => self.layout.piece(self.run.bytes(bytes), &mut self.out),
                Step::RowEnd => self.layout.end_row(&mut self.out),
                Step::Table(_) | Step::End => self.end(true),
            }
        }
        Ok(())
    }

    /// Goes to the table's first row. `false` if the program gave no rows of it, as of engines whose rows lie elsewhere.
    fn begin(&mut self) -> Result<bool> {
        self.began = true;
        while self.run.current().is_none_or(|current| current < self.place) {
            match self.run.step()? {
                Step::Table(_) => {}
                Step::End => break,
                _ => {
                    let message = "the streams of a dump were not read in their order";
                    return Err(Error::new("mysql dump", Kind::Internal, message));
                }
            }
        }
        self.is_there = self.run.current() == Some(self.place);
        match self.is_there {
            true => self.out.extend(format!("/*!40000 ALTER TABLE {} DISABLE KEYS */;\n", self.table).bytes()),
            false => self.end(false),
        }
        Ok(self.is_there)
    }

    fn end(&mut self, keys: bool) {
        self.layout.close(&mut self.out);
        if keys {
            self.out.extend(format!("/*!40000 ALTER TABLE {} ENABLE KEYS */;\n", self.table).bytes());
        }
        self.out.extend_from_slice(TRAILER.as_bytes());
        self.done = true;
    }
}

impl Read for Reader<'_> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        while self.given == self.out.len() {
            if self.done {
                return Ok(0);
            }
            if let Err(error) = self.make_ready() {
                let message = error.to_string();
                self.failure = Some(error);
                return Err(io::Error::other(message));
            }
        }
        let ready = &self.out[self.given..];
        let length = ready.len().min(into.len());
        into[..length].copy_from_slice(&ready[..length]);
        self.given += length;
        self.total += length as u64;
        Ok(length)
    }
}
