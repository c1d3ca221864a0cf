//! What waits to be told: every message lies here, as a file, from before it is sent until somebody has taken it.
//!
//! ```text
//! STATE/outbox/CREATED-ID.json    one message for one channel; created in nanoseconds since 1970, so that the oldest is first
//! STATE/outbox/lost.json          how many were given up, and why
//! STATE/outbox/lock               held by whoever sends
//! ```
//!
//! A crash between sending and deleting sends a message twice, with the same id; the other order could lose it. There are
//! never more than [`MOST_MESSAGES`], and none is kept longer than [`MOST_DAYS`]; what had to go is counted.

use super::alerts::write_whole;
use super::error::{Error, Result};
use super::message::Message;
use crate::base::Kind;
use crate::base::clock::Timestamp;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{ErrorKind, Read};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// So many messages wait at most; then the oldest goes.
pub const MOST_MESSAGES: usize = 200;
/// A message that nobody took for so many days is given up.
pub const MOST_DAYS: i64 = 14;
/// No message is larger.
const MOST_BYTES: u64 = 4 << 20;
/// The first pause after a failure; each further one is twice as long.
const FIRST_PAUSE_SECONDS: i64 = 60;
/// The longest pause.
const LAST_PAUSE_SECONDS: i64 = 6 * 3600;

/// The messages that wait.
pub struct Outbox {
    folder: PathBuf,
}

/// A message that waits.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Waiting {
    /// The channel that it is for.
    pub channel: String,
    /// Not before, in seconds since 1970: quiet hours, or a pause after a failure.
    pub not_before: i64,
    /// Whether it waits for quiet hours to end.
    pub quiet: bool,
    /// How often it was tried.
    pub attempts: u32,
    /// What came back the last time.
    pub error: Option<String>,
    /// Whether a newer message for the channel makes it worthless.
    pub superseded: bool,
    /// The message.
    pub message: Message,
}

/// Messages that were given up.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lost {
    /// So many.
    pub count: u64,
    /// Why the last one was, and when.
    pub last: String,
}

/// Which messages are tried.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Which {
    /// Those whose time has come.
    Due,
    /// Also those whose pause after a failure is not over. Quiet hours count always.
    All,
}

/// What became of an attempt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tried {
    /// The channel.
    pub channel: String,
    /// The title of the message.
    pub title: String,
    /// What went wrong, if anything.
    pub error: Option<String>,
}

impl Outbox {
    /// The messages that wait below a folder; it is made when the first one comes.
    pub fn below(state_dir: &Path) -> Outbox {
        Outbox { folder: state_dir.join("outbox") }
    }

    /// Lays a message down for a channel; one that waits there already is not laid down again.
    pub fn put(&self, waiting: &Waiting, now: Timestamp) -> Result<()> {
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&self.folder)
            .map_err(|error| self.failed("make", &error))?;
        let _lock = self.lock()?;
        let mut names = self.names()?;
        // Whoever was ended in the middle of it begins again.
        let own = format!("-{}.json", waiting.message.id);
        let is_there = |name: &&String| {
            name.ends_with(&own) && self.read(name).is_ok_and(|other| other.channel == waiting.channel)
        };
        if names.iter().any(|name| is_there(&name)) {
            return Ok(());
        }
        if waiting.superseded {
            for name in &names {
                if self.read(name).is_ok_and(|other| other.superseded && other.channel == waiting.channel) {
                    self.remove(name)?;
                }
            }
            names = self.names()?;
        }
        let excess = (names.len() + 1).saturating_sub(MOST_MESSAGES);
        for name in &names[..excess] {
            let what =
                self.read(name).map_or_else(|_| name.clone(), |old| format!("{}: {}", old.channel, old.message.title));
            self.lose(&format!("{what} (more than {MOST_MESSAGES} messages wait)"), 1)?;
            self.remove(name)?;
        }
        // Messages for several channels may share an id.
        let taken = |ns: &i128| names.contains(&format!("{ns:020}{own}"));
        let created = (now.as_nanosecond()..).find(|ns| !taken(ns)).unwrap_or(now.as_nanosecond());
        self.write(&format!("{created:020}{own}"), waiting)
    }

    /// Tries to send what waits, the oldest first. After a failure nothing else is tried through the same channel this
    /// time, so that a server that hangs costs one time limit and not two hundred.
    pub fn send(
        &self,
        which: Which,
        now: Timestamp,
        send: &mut dyn FnMut(&Waiting) -> Result<()>,
    ) -> Result<Vec<Tried>> {
        let mut tried = Vec::new();
        if !self.folder.exists() {
            return Ok(tried);
        }
        let _lock = self.lock()?;
        let mut silent = BTreeSet::new();
        for name in self.names()? {
            let mut waiting = match self.read(&name) {
                Ok(waiting) => waiting,
                // Whoever wrote it, it will never be sent.
                Err(error) if error.kind() == Kind::Damaged => {
                    self.lose(&error.to_string(), 1)?;
                    self.remove(&name)?;
                    continue;
                }
                Err(error) => return Err(error),
            };
            let is_due = waiting.not_before <= now.as_second() || (which == Which::All && !waiting.quiet);
            if !is_due || silent.contains(&waiting.channel) {
                continue;
            }
            let error = send(&waiting).err();
            let (channel, title) = (waiting.channel.clone(), waiting.message.title.clone());
            match &error {
                None => self.remove(&name)?,
                Some(error) => {
                    silent.insert(channel.clone());
                    self.postpone(&name, &mut waiting, error, now)?;
                }
            }
            tried.push(Tried { channel, title, error: error.map(|error| error.to_string()) });
        }
        Ok(tried)
    }

    /// What waits, the oldest first.
    pub fn list(&self) -> Result<Vec<Waiting>> {
        if !self.folder.exists() {
            return Ok(Vec::new());
        }
        Ok(self.names()?.iter().filter_map(|name| self.read(name).ok()).collect())
    }

    /// What was given up.
    pub fn lost(&self) -> Lost {
        let read = fs::read_to_string(self.folder.join("lost.json"));
        read.ok().and_then(|text| serde_json::from_str(&text).ok()).unwrap_or_default()
    }

    /// Keeps a message for later, unless it is too old by now.
    fn postpone(&self, name: &str, waiting: &mut Waiting, error: &Error, now: Timestamp) -> Result<()> {
        if now.as_second() - waiting.message.time > MOST_DAYS * 86_400 {
            self.lose(&format!("{}: {} (for {MOST_DAYS} days: {error})", waiting.channel, waiting.message.title), 1)?;
            return self.remove(name);
        }
        let pause = FIRST_PAUSE_SECONDS.checked_shl(waiting.attempts.min(20)).unwrap_or(LAST_PAUSE_SECONDS);
        waiting.attempts += 1;
        waiting.quiet = false;
        waiting.not_before = now.as_second() + pause.min(LAST_PAUSE_SECONDS);
        waiting.error = Some(error.to_string());
        self.write(name, waiting)
    }

    fn lose(&self, what: &str, count: u64) -> Result<()> {
        let lost = Lost { count: self.lost().count + count, last: what.to_owned() };
        let text = serde_json::to_vec(&lost).unwrap_or_default();
        write_whole(&self.folder.join("lost.json"), &text, 0o600)
    }

    /// Names of messages, the oldest first.
    fn names(&self) -> Result<Vec<String>> {
        let entries = fs::read_dir(&self.folder).map_err(|error| self.failed("list", &error))?;
        let is_message = |name: &String| name.ends_with(".json") && name.starts_with(|c: char| c.is_ascii_digit());
        let mut names: Vec<String> =
            entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok()).filter(is_message).collect();
        names.sort();
        Ok(names)
    }

    fn read(&self, name: &str) -> Result<Waiting> {
        let mut text = String::new();
        let file = File::open(self.folder.join(name)).map_err(|error| self.failed("read", &error))?;
        let read = file.take(MOST_BYTES).read_to_string(&mut text);
        let damaged = |why: String| Error::new(Kind::Damaged, format!("{name} in the outbox is not a message: {why}"));
        match read {
            Err(error) if error.kind() == ErrorKind::InvalidData => Err(damaged(error.to_string())),
            Err(error) => Err(self.failed("read", &error)),
            Ok(_) => serde_json::from_str(&text).map_err(|error| damaged(error.to_string())),
        }
    }

    fn write(&self, name: &str, waiting: &Waiting) -> Result<()> {
        let text = serde_json::to_vec(waiting)
            .map_err(|error| Error::new(Kind::Internal, format!("a message cannot be written: {error}")))?;
        // It would be cut when it is read.
        if text.len() as u64 > MOST_BYTES {
            return Err(Error::usage(format!("a message of {} bytes is too large to be kept", text.len())));
        }
        write_whole(&self.folder.join(name), &text, 0o600)
    }

    fn remove(&self, name: &str) -> Result<()> {
        match fs::remove_file(self.folder.join(name)) {
            Err(error) if error.kind() != ErrorKind::NotFound => Err(self.failed("delete a message in", &error)),
            _ => Ok(()),
        }
    }

    /// Whoever holds it is done soon: what it waits for has time limits.
    fn lock(&self) -> Result<File> {
        let mut options = OpenOptions::new();
        options.write(true).create(true).truncate(false).mode(0o600);
        let file = options.open(self.folder.join("lock")).map_err(|error| self.failed("lock", &error))?;
        file.lock().map_err(|error| self.failed("lock", &error))?;
        Ok(file)
    }

    fn failed(&self, what: &str, error: &std::io::Error) -> Error {
        Error::io(format!("{what} {}", self.folder.display()), error)
    }
}
