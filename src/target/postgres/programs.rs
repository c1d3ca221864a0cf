//! `pg_restore` at work: what it is fed, and what its last words mean.

use super::Options;
use super::archive::Archive;
use crate::base::Kind;
use crate::base::child::{Ended, Program};
use crate::db::postgres::{Address, Tool, Tools};
use crate::db::{Error, Result, Watch};
use std::fs::OpenOptions;
use std::io::{self, BufWriter, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::thread;

/// The most of its words that a message repeats, in characters.
const SAID_LETTERS: usize = 600;
/// How much is gathered before it is written to a pipe or a file.
const BUFFER_BYTES: usize = 256 << 10;

/// `pg_restore` for one database.
#[derive(Clone, Copy)]
pub struct PgRestore<'p> {
    /// The programs.
    pub tools: &'p Tools,
    /// Server and database.
    pub address: &'p Address,
    /// Owners and grants or not.
    pub options: &'p Options,
    /// Whether tablespaces are left to the server.
    pub without_tablespaces: bool,
    /// Whether the program says something that the server is too old to know: see [`is_ahead`].
    pub is_ahead: bool,
    /// Who may stop it.
    pub watch: &'p Watch,
}

/// What an archive is taken from.
pub enum From<'a> {
    /// A stream as it is.
    Stream(Box<dyn Read + Send + 'a>),
    /// A table of contents alone.
    Contents(&'a Archive),
}

impl From<'_> {
    /// Writes the archive.
    pub fn write(self, out: &mut dyn Write) -> io::Result<()> {
        let mut out = BufWriter::with_capacity(BUFFER_BYTES, out);
        match self {
            From::Stream(mut stream) => io::copy(&mut stream, &mut out).map(drop)?,
            From::Contents(archive) => archive.write(&mut out)?,
        }
        out.flush()
    }

    /// Writes the archive to a new file that only we can read.
    pub fn write_file(self, path: &Path) -> io::Result<()> {
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
        self.write(&mut file)
    }
}

impl PgRestore<'_> {
    /// Restores an archive that is fed to it, in one go. `in_one` says that it all or nothing is kept.
    pub fn fed(&self, section: Option<&str>, from: From<'_>, in_one: bool) -> Result<()> {
        let mut program = self.program(section).with_input();
        if in_one && !self.is_ahead {
            program = program.arg("--single-transaction");
        }
        let mut child = program.start(&self.watch.stop).map_err(|error| self.cannot_start(&error))?;
        let input = child.take_input();
        let (fed, ended) = thread::scope(|scope| {
            // A thread of its own: who is stopped must not wait for somebody to read the pipe.
            let feeder = scope.spawn(move || input.map_or(Ok(()), |mut input| from.write(&mut input)));
            let ended = child.finish();
            let fed = feeder.join().unwrap_or_else(|_| Err(io::Error::other("the thread that feeds it panicked")));
            (fed, ended)
        });
        self.judge(ended, Some(fed))
    }

    /// Restores an archive in a file with several sessions.
    pub fn file(&self, section: Option<&str>, file: &Path, jobs: usize) -> Result<()> {
        // Several sessions count what they forgive in a way of their own.
        let jobs = if self.is_ahead { 1 } else { jobs };
        let program = self.program(section).arg(format!("--jobs={jobs}")).arg(file);
        let child = program.start(&self.watch.stop).map_err(|error| self.cannot_start(&error))?;
        self.judge(child.finish(), None)
    }

    fn program(&self, section: Option<&str>) -> Program {
        let mut program = self.tools.program(Tool::Restore, self.address, &self.address.database);
        if !self.is_ahead {
            program = program.arg("--exit-on-error");
        }
        if let Some(section) = section {
            program = program.arg(format!("--section={section}"));
        }
        for (flag, wanted) in [
            ("--no-owner", !self.options.owners),
            ("--no-acl", !self.options.grants),
            ("--no-tablespaces", self.without_tablespaces),
        ] {
            if wanted {
                program = program.arg(flag);
            }
        }
        program
    }

    fn cannot_start(&self, error: &io::Error) -> Error {
        let path = self.tools.path(Tool::Restore);
        Error::new(path.display().to_string(), Kind::Unsupported, format!("cannot start it: {error}"))
    }

    fn judge(&self, ended: io::Result<Ended>, fed: Option<io::Result<()>>) -> Result<()> {
        let error = |kind, message: String| self.address.error(kind, message).database(&self.address.database);
        let ended = ended.map_err(|cause| error(Kind::Unavailable, format!("cannot wait for pg_restore: {cause}")))?;
        if ended.stopped || self.watch.stop.raised() {
            return Err(error(Kind::Interrupted, "stopped".to_owned()));
        }
        // If the program ended early, that is why it could not be fed, unless what feeds it failed first.
        match fed {
            Some(Err(cause)) if cause.kind() != io::ErrorKind::BrokenPipe => {
                return Err(error(
                    Kind::of_io(&cause),
                    format!("pg_restore could not be fed from the snapshot: {cause}"),
                ));
            }
            _ => {}
        }
        if ended.status.success() {
            return Ok(());
        }
        let words = String::from_utf8_lossy(&ended.errors).into_owned();
        if self.is_ahead && is_only_ahead(&words) {
            return Ok(());
        }
        Err(explain(&words, error, &ended.status.to_string()))
    }
}

/// Whether a program of this major version sets `transaction_timeout` for a server that does not know it: `pg_restore`
/// does so from version 17 on, whatever the server. It must go on after errors then, and they are judged at the end.
pub fn is_ahead(program_major: u32, server_major: u32) -> bool {
    program_major >= 17 && server_major < 17
}

/// Whether nothing failed but that.
fn is_only_ahead(words: &str) -> bool {
    let ignored = words.lines().rev().find_map(|line| line.split_once("errors ignored on restore: "));
    let count = words.matches("unrecognized configuration parameter \"transaction_timeout\"").count();
    count > 0 && ignored.and_then(|(_, number)| number.trim().parse().ok()) == Some(count)
}

/// What `pg_restore` complained of: the object that it was at, and what the server said.
fn explain(words: &str, error: impl Fn(Kind, String) -> Error, status: &str) -> Error {
    let object = words.lines().rev().find_map(|line| line.split_once("from TOC entry ").map(|(_, entry)| entry));
    let object = object.map(|entry| entry.splitn(4, ' ').last().unwrap_or(entry).trim().to_owned());
    let object =
        object.or_else(|| words.lines().find_map(|line| line.strip_prefix("Command was: ").and_then(beginning)));
    let complaints = words.lines().filter(|line| !line.contains("\"transaction_timeout\""));
    let said = complaints.clone().find_map(|line| {
        let (_, said) = line.split_once("error: ")?;
        Some(said.trim_start_matches("could not execute query: ").to_owned())
    });
    let detail = complaints.clone().find(|line| line.starts_with("DETAIL:") || line.starts_with("HINT:"));
    let said = match (said, detail) {
        (Some(said), Some(detail)) => format!("{said} ({detail})"),
        (Some(said), None) => said,
        (None, _) => words.trim().to_owned(),
    };
    let lost = [
        "server closed the connection",
        "terminating connection",
        "connection to server",
        "no connection to the server",
    ];
    let kind = match () {
        () if lost.iter().any(|sign| words.contains(sign)) => Kind::Unavailable,
        () if words.contains("No space left") || words.contains("disk full") => Kind::Full,
        () if words.contains("permission denied") || words.contains("must be owner") => Kind::Denied,
        () => Kind::Target,
    };
    let remedy = if words.contains("max_locks_per_transaction") {
        "; raise max_locks_per_transaction of the server and start it again"
    } else {
        ""
    };
    let said: String = said.chars().take(SAID_LETTERS).collect();
    let error = error(kind, format!("pg_restore failed ({status}): {said}{remedy}"));
    match object {
        Some(object) => error.object(object),
        None => error,
    }
}

/// The beginning of a statement, which names what it makes: several sessions of `pg_restore` do not say which entry they
/// were at.
fn beginning(statement: &str) -> Option<String> {
    let end = statement.find(['(', ';']).into_iter().chain(statement.find(" USING ")).min();
    let begin: Vec<&str> = statement[..end.unwrap_or(statement.len())].split_whitespace().take(8).collect();
    (!begin.is_empty()).then(|| begin.join(" "))
}

/// A file in a folder for a moment.
pub fn file_in(folder: &Path, name: &str) -> PathBuf {
    folder.join(format!("{}-{name}", crate::base::random::bytes::<4>().map(|byte| format!("{byte:02x}")).concat()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn explained(words: &str) -> Error {
        explain(words, |kind, message| Error::new("db:5432", kind, message), "exit status: 1")
    }

    #[test]
    fn the_last_words_of_pg_restore_name_the_object_and_the_reason() {
        let error = explained(
            "pg_restore: while PROCESSING TOC:\npg_restore: from TOC entry 3397; 0 0 ACL TABLE orders sales\n\
             pg_restore: error: could not execute query: ERROR:  role \"audit\" does not exist\n\
             Command was: GRANT SELECT ON TABLE public.orders TO audit;\n",
        );
        assert_eq!(error.object.as_deref(), Some("ACL TABLE orders sales"));
        assert!(error.message.contains("role \"audit\" does not exist"), "{error}");
        assert_eq!(error.kind(), Kind::Target);
        let lost = explained("pg_restore: error: could not execute query: server closed the connection unexpectedly\n");
        assert_eq!(lost.kind(), Kind::Unavailable);
        assert!(explained("what?").to_string().contains("what?"));
        let cut = explained(
            "pg_restore: error: could not execute query: FATAL:  terminating connection due to administrator command\n\
             Command was: CREATE INDEX of_x ON public.orders USING btree (public.f(id));\n\n\n\
             pg_restore: error: a worker process died unexpectedly\n",
        );
        assert_eq!(
            (cut.object.as_deref(), cut.kind()),
            (Some("CREATE INDEX of_x ON public.orders"), Kind::Unavailable)
        );
    }

    #[test]
    fn a_program_that_is_ahead_of_its_server_is_forgiven_that_and_nothing_else() {
        assert!(is_ahead(18, 15) && !is_ahead(18, 17) && !is_ahead(16, 15));
        let ahead = "pg_restore: error: could not execute query: ERROR:  unrecognized configuration parameter \
                     \"transaction_timeout\"\nCommand was: SET transaction_timeout = 0;\n";
        let ignored = |count: u32| format!("pg_restore: warning: errors ignored on restore: {count}\n");
        assert!(is_only_ahead(&format!("{ahead}{}", ignored(1))));
        assert!(is_only_ahead(&format!("{ahead}{ahead}{}", ignored(2))));
        let other = "pg_restore: error: could not execute query: ERROR:  type \"x\" does not exist\n";
        assert!(!is_only_ahead(&format!("{ahead}{other}{}", ignored(2))));
        assert!(!is_only_ahead(&format!("{other}{}", ignored(1))) && !is_only_ahead(ahead));
        let error = explained(&format!("{ahead}{other}"));
        assert!(error.message.contains("type \"x\""), "{error}");
    }
}
