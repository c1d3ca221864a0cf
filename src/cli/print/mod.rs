//! What people and programs read: text, tables and JSON on standard output.
//!
//! Results go to standard output; progress, problems and notes to standard error. When the reader of standard output
//! goes away (`| head`), what is left is not written and the command still does its work and ends with its own code.

pub mod human;
pub mod imported;
pub mod json;
pub mod table;

use super::exit::Exit;
use serde::Serialize;
use std::fmt::Display;
use std::io::{self, BufWriter, ErrorKind, Stdout, Write};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Standard output.
pub struct Output {
    json: bool,
    inner: Mutex<Inner>,
}

struct Inner {
    out: BufWriter<Stdout>,
    /// The first write that failed.
    failed: Option<io::Error>,
}

impl Output {
    /// Standard output, as JSON or as text.
    pub fn new(json: bool) -> Output {
        Output {
            json,
            inner: Mutex::new(Inner { out: BufWriter::with_capacity(64 << 10, io::stdout()), failed: None }),
        }
    }

    /// Whether results are JSON.
    pub fn is_json(&self) -> bool {
        self.json
    }

    /// Prints a line.
    pub fn line(&self, text: impl Display) {
        self.with(|out| writeln!(out, "{text}"));
    }

    /// Prints a line of JSON.
    pub fn object(&self, value: &impl Serialize) {
        self.with(|out| {
            serde_json::to_writer(&mut *out, value).map_err(io::Error::from)?;
            out.write_all(b"\n")
        });
    }

    /// Whether nobody reads any more, or nothing can be written: long listings may end.
    pub fn is_closed(&self) -> bool {
        self.lock().failed.is_some()
    }

    /// Writes out what is buffered. A reader that went away is no failure.
    pub fn finish(&self) -> io::Result<()> {
        self.with(Write::flush);
        match self.lock().failed.take() {
            Some(error) if error.kind() != ErrorKind::BrokenPipe => Err(error),
            _ => Ok(()),
        }
    }

    fn with(&self, write: impl FnOnce(&mut BufWriter<Stdout>) -> io::Result<()>) {
        let mut inner = self.lock();
        if inner.failed.is_none()
            && let Err(error) = write(&mut inner.out)
        {
            inner.failed = Some(error);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The object that `--json` prints on standard error when a command ends early.
#[derive(Serialize)]
struct JsonError<'a> {
    message_type: &'static str,
    /// The exit code.
    code: u8,
    /// Its name.
    kind: &'static str,
    message: &'a str,
}

/// What `--json` prints on standard error when a command ends early.
pub fn json_error(exit: Exit, message: &str) -> String {
    let object = JsonError { message_type: "error", code: exit.code(), kind: exit.name(), message };
    serde_json::to_string(&object).unwrap_or_else(|_| message.to_owned())
}

/// Writes to standard error. When even that fails there is nobody left to tell.
pub fn say(text: impl Display) {
    let _ = writeln!(io::stderr().lock(), "{text}");
}
