//! COPY as a reader and as a writer.

use super::connection::Connection;
use crate::db::{Error, Result};
use futures_util::{SinkExt, Stream};
use std::future::poll_fn;
use std::io::{self, Cursor, Read, Write};
use std::pin::Pin;
use std::task::Poll;
use tokio_postgres::{CopyInSink, CopyOutStream};

/// The bytes of rows that are gathered before they are sent.
const SEND_BYTES: usize = 64 << 10;

/// What `COPY … TO STDOUT` gives, as a reader. Holds at most one row and what the socket had ready beside it.
pub struct CopyOut<'c> {
    connection: &'c mut Connection,
    stream: Pin<Box<CopyOutStream>>,
    /// A row that did not fit in what the last call could take.
    rest: Option<Cursor<Box<dyn AsRef<[u8]> + Send>>>,
    ended: bool,
    failure: Option<Error>,
}

impl<'c> CopyOut<'c> {
    pub(super) fn new(connection: &'c mut Connection, stream: Pin<Box<CopyOutStream>>) -> CopyOut<'c> {
        CopyOut { connection, stream, rest: None, ended: false, failure: None }
    }

    /// Why reading failed, as an error that names server and database; once.
    pub fn failure(&mut self) -> Option<Error> {
        // It stays known: a copy that failed needs no cancelling, which would hit the next statement.
        self.failure.clone()
    }

    /// Gives what fits of the row that is left over.
    fn read_rest(&mut self, into: &mut [u8]) -> usize {
        let Some(rest) = &mut self.rest else { return 0 };
        let row = (**rest.get_ref()).as_ref();
        let at = usize::try_from(rest.position()).expect("a place in memory");
        let length = into.len().min(row.len() - at);
        into[..length].copy_from_slice(&row[at..at + length]);
        if at + length == row.len() {
            self.rest = None;
        } else {
            rest.set_position((at + length) as u64);
        }
        length
    }

    /// Waits for a row and takes along those that are ready, as far as they fit.
    fn receive(&mut self, into: &mut [u8]) -> Result<usize> {
        let (stream, rest, ended) = (&mut self.stream, &mut self.rest, &mut self.ended);
        let mut filled = 0;
        let gather = poll_fn(|context| {
            while filled < into.len() {
                match stream.as_mut().poll_next(context) {
                    Poll::Ready(Some(Ok(row))) => {
                        let length = row.len().min(into.len() - filled);
                        into[filled..filled + length].copy_from_slice(&row[..length]);
                        filled += length;
                        if length < row.len() {
                            let mut left = Cursor::new(Box::new(row) as Box<dyn AsRef<[u8]> + Send>);
                            left.set_position(length as u64);
                            *rest = Some(left);
                        }
                    }
                    Poll::Ready(Some(Err(error))) => return Poll::Ready(Err(error)),
                    Poll::Ready(None) => {
                        *ended = true;
                        break;
                    }
                    Poll::Pending if filled > 0 => break,
                    Poll::Pending => return Poll::Pending,
                }
            }
            Poll::Ready(Ok(filled))
        });
        let filled = self.connection.wait(gather)?;
        if self.ended {
            // The end of the rows is not yet the end of the statement.
            self.connection.wait(self.connection.client().batch_execute(""))?;
        }
        Ok(filled)
    }
}

impl Read for CopyOut<'_> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        if into.is_empty() {
            return Ok(0);
        }
        let mut filled = self.read_rest(into);
        if filled == 0 && !self.ended {
            filled = self.receive(into).map_err(|error| {
                self.failure = Some(error.clone());
                io::Error::other(error)
            })?;
        }
        Ok(filled)
    }
}

impl Drop for CopyOut<'_> {
    fn drop(&mut self) {
        if !self.ended && self.failure.is_none() {
            // Otherwise the next statement would wait until the server has sent the rest to nobody.
            self.connection.cancel();
        }
    }
}

/// What `COPY … FROM STDIN` takes, as a writer. Dropped without [`CopyIn::finish`] it takes nothing.
pub struct CopyIn<'c> {
    connection: &'c mut Connection,
    sink: Pin<Box<CopyInSink<Cursor<Vec<u8>>>>>,
    gathered: Vec<u8>,
    failure: Option<Error>,
}

impl<'c> CopyIn<'c> {
    pub(super) fn new(connection: &'c mut Connection, sink: Pin<Box<CopyInSink<Cursor<Vec<u8>>>>>) -> CopyIn<'c> {
        CopyIn { connection, sink, gathered: Vec::with_capacity(SEND_BYTES), failure: None }
    }

    /// Says that all rows were written and tells how many the server has taken.
    pub fn finish(mut self) -> Result<u64> {
        self.send()?;
        self.connection.wait(self.sink.as_mut().finish())
    }

    /// Why writing failed, as an error that names server and database; once.
    pub fn failure(&mut self) -> Option<Error> {
        self.failure.take()
    }

    fn send(&mut self) -> Result<()> {
        if self.gathered.is_empty() {
            return Ok(());
        }
        let rows = std::mem::replace(&mut self.gathered, Vec::with_capacity(SEND_BYTES));
        self.connection.wait(self.sink.send(Cursor::new(rows)))
    }
}

impl Write for CopyIn<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let taken = bytes.len().min(SEND_BYTES - self.gathered.len());
        self.gathered.extend_from_slice(&bytes[..taken]);
        if self.gathered.len() == SEND_BYTES {
            self.flush()?;
        }
        Ok(taken)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.send().map_err(|error| {
            self.failure = Some(error.clone());
            io::Error::other(error)
        })
    }
}
