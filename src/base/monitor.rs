//! What an operation tells its onlooker while it works.
//!
//! Below the front door nobody prints. An operation hands events to a `Monitor`; the terminal, a log or a test
//! decides what to make of them.

use super::Kind;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::Mutex;

/// One thing that went wrong without ending the run: an unreadable file, a damaged object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// What it concerns: a path or an object, as a person would name it.
    pub subject: String,
    /// The path's own bytes, where it is one that is not UTF-8; otherwise empty.
    pub raw: Vec<u8>,
    /// What was tried and what came back.
    pub message: String,
    /// The kind of the failure behind it.
    pub kind: Kind,
}

impl Problem {
    /// A problem with `subject`.
    pub fn new(subject: impl Into<String>, message: impl ToString, kind: Kind) -> Problem {
        Problem { subject: subject.into(), raw: Vec::new(), message: message.to_string(), kind }
    }

    /// A problem with what lies at `path`.
    pub fn at(path: impl AsRef<Path>, message: impl ToString, kind: Kind) -> Problem {
        let path = path.as_ref();
        let raw = if path.to_str().is_none() { path.as_os_str().as_bytes().to_vec() } else { Vec::new() };
        Problem { raw, ..Problem::new(path.display().to_string(), message, kind) }
    }

    /// What went wrong, with what it concerns where it does not say so itself.
    pub fn told(&self) -> String {
        match self.message.contains(&self.subject) {
            true => self.message.clone(),
            false => format!("{}: {}", self.subject, self.message),
        }
    }

    /// What it concerns, byte for byte.
    pub fn exact_subject(&self) -> &[u8] {
        if self.raw.is_empty() { self.subject.as_bytes() } else { &self.raw }
    }
}

/// Something an onlooker may want to show.
#[derive(Clone, Debug)]
pub enum Event<'a> {
    /// A new phase begins, named as a person would name it (`scanning`, `reading`, `writing`).
    Phase(&'a str),
    /// What there is to do as far as known; grows while the source is scanned.
    Total {
        /// Number of files, directories and other entries.
        items: u64,
        /// Number of bytes.
        bytes: u64,
        /// Whether the figures are final.
        complete: bool,
    },
    /// More of it is done.
    Done {
        /// Entries finished since the last event.
        items: u64,
        /// Bytes finished since the last event.
        bytes: u64,
    },
    /// The thing being worked on.
    Current(&'a str),
    /// One thing went wrong and the run goes on.
    Problem(&'a Problem),
    /// Something worth knowing that is not wrong.
    Note(&'a str),
}

/// Looks on while an operation works. Called from several threads.
pub trait Monitor: Send + Sync {
    /// Takes note of an event; must return quickly.
    fn event(&self, event: Event<'_>);
}

/// Looks away.
pub struct Silent;

impl Monitor for Silent {
    fn event(&self, _: Event<'_>) {}
}

/// Remembers problems and notes, for tests.
#[derive(Default)]
pub struct Remember {
    /// The problems so far.
    pub problems: Mutex<Vec<Problem>>,
    /// The notes so far.
    pub notes: Mutex<Vec<String>>,
}

impl Monitor for Remember {
    fn event(&self, event: Event<'_>) {
        match event {
            Event::Problem(problem) => self.problems.lock().expect("no panic while held").push(problem.clone()),
            Event::Note(note) => self.notes.lock().expect("no panic while held").push(note.to_owned()),
            _ => {}
        }
    }
}
