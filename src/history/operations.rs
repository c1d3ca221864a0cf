//! The operation log: what was done, one JSON object a line, for whoever reads it with other programs.
//!
//! ```text
//! {"timestamp":"2026-11-30T02:00:03Z","operation":"backup","status":"done","details":{"size":1024,"duration":3.2,"records":7,…}}
//! ```
//!
//! Lines are only ever added, each with one write. When the file is large or its first line is old it gets a name with the
//! time and a new one is begun; files whose last line is too old are deleted. Several processes may write.

use super::error::{Error, Result};
use crate::base::Timestamp;
use serde::{Deserialize, Serialize};
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{BufRead, BufReader, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The file's name where nobody names another.
pub const FILE_NAME: &str = "operations.jsonl";
/// The longest line, in bytes; longer ones are passed over when they are read.
const MAX_LINE_BYTES: u64 = 64 << 10;
/// The longest message that is written.
const MAX_MESSAGE_BYTES: usize = 2000;
/// So often a file that another process has just put away is opened again.
const ATTEMPTS: usize = 10;

/// A line.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Line {
    /// When the operation ended, RFC 3339 in UTC.
    pub timestamp: String,
    /// `run` for a whole night, the name of a phase, or a command.
    pub operation: String,
    /// How it ended: `done`, `partial`, `damage`, `failed`, `refused`, `interrupted`, `skipped`, `vanished`.
    pub status: String,
    /// More of it.
    pub details: Details,
}

/// What a line says besides.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Details {
    /// Bytes: added, read back, freed or restored.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub size: Option<u64>,
    /// Seconds.
    pub duration: f64,
    /// Rows of databases, or else files, packs or snapshots that it was about.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub records: Option<u64>,
    /// The profile.
    pub profile: String,
    /// The run that it belongs to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub run: Option<String>,
    /// The snapshot that was made.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub snapshot: Option<String>,
    /// What it did, or why not.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub message: String,
}

/// Where the log is, and how long it is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Log {
    /// The file.
    pub path: PathBuf,
    /// Lines are kept for so long at least.
    pub keep: Duration,
    /// About how large a file may grow.
    pub most_bytes: u64,
}

/// Which lines are meant. What is empty or none lets all through.
#[derive(Clone, Debug, Default)]
pub struct Filter {
    /// Of one of these profiles.
    pub profiles: Vec<String>,
    /// One of these operations.
    pub operations: Vec<String>,
    /// One of these.
    pub statuses: Vec<String>,
    /// Not older.
    pub since: Option<Timestamp>,
    /// The newest so many.
    pub newest: usize,
}

impl Filter {
    fn lets_through(&self, line: &Line) -> bool {
        let at = || line.timestamp.parse::<Timestamp>();
        (self.profiles.is_empty() || self.profiles.contains(&line.details.profile))
            && (self.operations.is_empty() || self.operations.contains(&line.operation))
            && (self.statuses.is_empty() || self.statuses.contains(&line.status))
            && self.since.is_none_or(|since| at().is_ok_and(|at| at >= since))
    }
}

impl Log {
    fn failed(&self, what: &'static str) -> impl Fn(std::io::Error) -> Error + use<> {
        let path = self.path.clone();
        move |source| Error::Io { what, path: path.clone(), source }
    }

    /// Adds lines.
    pub fn add(&self, lines: &[Line], now: Timestamp) -> Result<()> {
        let mut text = String::new();
        for line in lines {
            let mut line = line.clone();
            let end = line.details.message.floor_char_boundary(MAX_MESSAGE_BYTES);
            line.details.message.truncate(end);
            text.push_str(&serde_json::to_string(&line).map_err(|error| self.failed("write")(error.into()))?);
            text.push('\n');
        }
        let mut file = self.locked()?;
        if self.is_due(&mut file, now) {
            let aside = self.aside(now);
            fs::rename(&self.path, &aside).map_err(self.failed("put away"))?;
            file = self.locked()?;
        }
        file.write_all(text.as_bytes()).map_err(self.failed("write"))?;
        self.let_go(now);
        Ok(())
    }

    /// The file, locked: whoever waited for the lock looks whether it still is the one.
    fn locked(&self) -> Result<File> {
        if let Some(folder) = self.path.parent() {
            DirBuilder::new().recursive(true).mode(0o700).create(folder).map_err(self.failed("make"))?;
        }
        for _ in 0..ATTEMPTS {
            let mut options = OpenOptions::new();
            let file = options.read(true).append(true).create(true).mode(0o600).open(&self.path);
            let file = file.map_err(self.failed("write"))?;
            file.lock().map_err(self.failed("lock"))?;
            let ours = file.metadata().map_err(self.failed("look at"))?.ino();
            if fs::metadata(&self.path).is_ok_and(|meta| meta.ino() == ours) {
                return Ok(file);
            }
        }
        let source = std::io::Error::other("it is put away again and again");
        Err(self.failed("write")(source))
    }

    /// Whether it is to be put away: it is large, or what it begins with is older than a third of what is kept.
    fn is_due(&self, file: &mut File, now: Timestamp) -> bool {
        let bytes = file.metadata().map_or(0, |meta| meta.len());
        if bytes == 0 || bytes >= self.most_bytes {
            return bytes > 0;
        }
        let mut first = String::new();
        let read =
            file.seek(SeekFrom::Start(0)).and_then(|_| BufReader::new(file.take(MAX_LINE_BYTES)).read_line(&mut first));
        let begun = serde_json::from_str::<Line>(&first).ok().and_then(|line| line.timestamp.parse::<Timestamp>().ok());
        match (read, begun) {
            (Ok(_), Some(begun)) => now.duration_since(begun).unsigned_abs() > self.keep / 3 && begun < now,
            // What nobody can read makes room for what somebody can.
            _ => true,
        }
    }

    fn aside(&self, now: Timestamp) -> PathBuf {
        let name = |number: u32| {
            let mut path = self.path.as_os_str().to_owned();
            path.push(format!(".{}", stamp(now)));
            if number > 0 {
                path.push(format!("-{number}"));
            }
            PathBuf::from(path)
        };
        (0..1000).map(name).find(|path| !path.exists()).unwrap_or_else(|| name(1000))
    }

    /// Files that were put away, the oldest first, each with the time at which that was.
    fn put_away(&self) -> Vec<(Timestamp, PathBuf)> {
        let folder = self.path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let Some(own) = self.path.file_name().and_then(|name| name.to_str()) else { return Vec::new() };
        let when = |entry: fs::DirEntry| {
            let name = entry.file_name();
            let ending = name.to_str()?.strip_prefix(own)?.strip_prefix('.')?.split('-').next()?.to_owned();
            Some((unstamp(&ending)?, entry.path()))
        };
        let entries = fs::read_dir(folder).into_iter().flatten().flatten();
        let mut files: Vec<_> = entries.filter_map(when).collect();
        files.sort();
        files
    }

    /// Deletes files whose last line is too old; how many.
    pub fn let_go(&self, now: Timestamp) -> u64 {
        let is_old = |at: Timestamp| at < now && now.duration_since(at).unsigned_abs() > self.keep;
        let old = self.put_away().into_iter().filter(|(at, _)| is_old(*at));
        // What cannot be removed goes another time.
        old.filter(|(_, path)| fs::remove_file(path).is_ok()).count() as u64
    }

    /// The newest lines that the filter lets through, the oldest of them first. Lines that make no sense are passed over.
    pub fn lines(&self, filter: &Filter) -> Result<Vec<Line>> {
        let mut newest = std::collections::VecDeque::new();
        let mut paths: Vec<PathBuf> = self.put_away().into_iter().map(|(_, path)| path).collect();
        paths.push(self.path.clone());
        for path in paths {
            let file = match File::open(&path) {
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
                other => other.map_err(self.failed("read"))?,
            };
            let mut reader = BufReader::new(file);
            let mut bytes = Vec::new();
            while {
                bytes.clear();
                reader.by_ref().take(MAX_LINE_BYTES).read_until(b'\n', &mut bytes).map_err(self.failed("read"))? > 0
            } {
                let Ok(line) = serde_json::from_slice::<Line>(&bytes) else { continue };
                if filter.lets_through(&line) {
                    newest.push_back(line);
                    if newest.len() > filter.newest {
                        newest.pop_front();
                    }
                }
            }
        }
        Ok(newest.into())
    }
}

/// A time in the name of a file: `20261130T020003Z`.
fn stamp(at: Timestamp) -> String {
    at.strftime("%Y%m%dT%H%M%SZ").to_string()
}

fn unstamp(text: &str) -> Option<Timestamp> {
    let is_stamp = text.len() == 16 && text.is_ascii();
    let part = |from: usize, to: usize| &text[from..to];
    let written =
        || format!("{}-{}-{}T{}:{}:{}Z", part(0, 4), part(4, 6), part(6, 8), part(9, 11), part(11, 13), part(13, 15));
    is_stamp.then(written).and_then(|text| text.parse().ok())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    fn line(time: &str, operation: &str) -> Line {
        let details =
            Details { size: Some(5), duration: 1.5, records: None, profile: "web".into(), ..Details::default() };
        Line { timestamp: time.to_owned(), operation: operation.to_owned(), status: "done".into(), details }
    }

    fn log(folder: &Path) -> Log {
        Log { path: folder.join("state/operations.jsonl"), keep: Duration::from_secs(90 * 86_400), most_bytes: 2000 }
    }

    fn all() -> Filter {
        Filter { newest: usize::MAX, ..Filter::default() }
    }

    #[test]
    fn a_line_is_one_object_with_the_promised_keys_and_comes_back() {
        let folder = tempfile::tempdir().unwrap();
        let log = log(folder.path());
        let one = line("2026-11-30T02:00:03Z", "backup");
        log.add(std::slice::from_ref(&one), at("2026-11-30T02:00:03Z")).unwrap();
        let text = fs::read_to_string(&log.path).unwrap();
        let value: serde_json::Value = serde_json::from_str(text.trim_end()).unwrap();
        assert_eq!(value["details"]["duration"], 1.5);
        assert_eq!((&value["timestamp"], &value["operation"]), (&"2026-11-30T02:00:03Z".into(), &"backup".into()));
        assert_eq!(log.lines(&all()).unwrap(), [one]);
    }

    #[test]
    fn lines_are_found_by_operation_time_and_number_and_nonsense_is_passed_over() {
        let folder = tempfile::tempdir().unwrap();
        let log = log(folder.path());
        let times = ["2026-11-28T02:00:00Z", "2026-11-29T02:00:00Z", "2026-11-30T02:00:00Z"];
        for time in times {
            log.add(&[line(time, "backup"), line(time, "verify")], at(time)).unwrap();
            fs::OpenOptions::new().append(true).open(&log.path).unwrap().write_all(b"{half\n").unwrap();
        }
        let found = |filter: Filter| log.lines(&filter).unwrap().len();
        assert_eq!(found(all()), 6);
        assert_eq!(found(Filter { operations: vec!["verify".into()], ..all() }), 3);
        assert_eq!(found(Filter { since: Some(at(times[1])), ..all() }), 4);
        assert_eq!(found(Filter { statuses: vec!["failed".into()], ..all() }), 0);
        assert_eq!(found(Filter { profiles: vec!["mail".into()], ..all() }), 0);
        let newest = log.lines(&Filter { newest: 1, ..Filter::default() }).unwrap();
        assert_eq!((newest[0].timestamp.as_str(), newest[0].operation.as_str()), (times[2], "verify"));
    }

    #[test]
    fn a_large_or_old_file_is_put_away_and_what_is_too_old_is_deleted() {
        let folder = tempfile::tempdir().unwrap();
        let log = log(folder.path());
        let add = |time: &str| log.add(&[line(time, "backup")], at(time)).unwrap();
        let files = || fs::read_dir(log.path.parent().unwrap()).unwrap().count();
        add("2026-01-01T02:00:00Z");
        add("2026-01-30T02:00:00Z");
        assert_eq!(files(), 1);
        add("2026-02-01T02:00:00Z");
        assert_eq!(files(), 2, "its first line is older than thirty days");
        assert_eq!(log.lines(&all()).unwrap().len(), 3, "what was put away is still read");
        add("2026-05-10T02:00:00Z");
        assert_eq!(files(), 2, "what was put away in February is gone, and that of May is new");
        for _ in 0..40 {
            add("2026-05-10T02:00:01Z");
        }
        assert!(files() > 3, "files of the same second have names of their own");
        assert_eq!(log.lines(&all()).unwrap().len(), 42);
    }
}
