//! The JSON that `--json` prints: structs of our own, so that it stays as it is when the engine changes.
//!
//! Every object has a `message_type`. Commands that list many things print one object a line, then a summary; the
//! others print one object. Sizes are in bytes, times are RFC 3339 in UTC, ids are whole. Fields may be added in
//! later versions; none is renamed or removed.
//!
//! A name or path is a JSON string when it is UTF-8. When it is not, the string has U+FFFD in place of each byte that
//! does not belong, and a field of the same name with `_hex` holds all bytes in hexadecimal digits.

use super::human::rfc3339;
use crate::base::{Problem, SnapshotId, ids::to_hex};
use crate::format::cbor::Bytes;
use crate::format::snapshot::{Dump, Snapshot, StoredProblem, Stream, Totals};
use crate::repo::ledger::Known;
use crate::store::Traffic;
use serde::Serialize;

/// A name or path: the text, and all bytes if the text is not all of it.
pub fn path_pair(bytes: &[u8]) -> (String, Option<String>) {
    match std::str::from_utf8(bytes) {
        Ok(text) => (text.to_owned(), None),
        Err(_) => (String::from_utf8_lossy(bytes).into_owned(), Some(to_hex(bytes))),
    }
}

/// Several paths or other byte strings: the texts, and all of them in hexadecimal digits if one of them is not UTF-8.
pub fn path_list(paths: &[Bytes]) -> (Vec<String>, Option<Vec<String>>) {
    let texts = paths.iter().map(|path| path_pair(&path.0).0).collect();
    let all_utf8 = paths.iter().all(|path| std::str::from_utf8(&path.0).is_ok());
    (texts, (!all_utf8).then(|| paths.iter().map(|path| to_hex(&path.0)).collect()))
}

/// Something that went wrong without ending the run.
#[derive(Debug, Serialize)]
pub struct JsonProblem {
    /// What it concerns.
    pub subject: String,
    /// The same in hexadecimal digits, if it is not UTF-8.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub subject_hex: Option<String>,
    /// What was tried and what came back.
    pub message: String,
}

impl From<&Problem> for JsonProblem {
    fn from(problem: &Problem) -> JsonProblem {
        let (subject, subject_hex) = path_pair(problem.exact_subject());
        JsonProblem { subject, subject_hex, message: problem.message.clone() }
    }
}

impl From<&StoredProblem> for JsonProblem {
    fn from(problem: &StoredProblem) -> JsonProblem {
        let (subject, subject_hex) = path_pair(&problem.subject.0);
        JsonProblem { subject, subject_hex, message: problem.message.clone() }
    }
}

/// Problems, as a list.
pub fn problems(problems: &[Problem]) -> Vec<JsonProblem> {
    problems.iter().map(JsonProblem::from).collect()
}

/// What was asked of a store where that costs something.
#[derive(Debug, Serialize)]
pub struct JsonTraffic {
    /// All requests, repeated ones too.
    pub requests: u64,
    /// Those that stored something.
    pub writes: u64,
    /// Those that listed.
    pub lists: u64,
    /// Those that read, or asked for a size.
    pub reads: u64,
    /// Those that deleted.
    pub deletes: u64,
    /// How many were made again because they failed for a reason that may pass.
    pub retries: u64,
    /// Bytes of objects sent.
    pub sent_bytes: u64,
    /// Bytes of objects received.
    pub received_bytes: u64,
}

impl JsonTraffic {
    /// None for a store where requests cost nothing.
    pub fn of(traffic: &Traffic) -> Option<JsonTraffic> {
        (traffic.requests() > 0).then(|| JsonTraffic {
            requests: traffic.requests(),
            writes: traffic.writes,
            lists: traffic.lists,
            reads: traffic.reads,
            deletes: traffic.deletes,
            retries: traffic.retries,
            sent_bytes: traffic.sent_bytes,
            received_bytes: traffic.received_bytes,
        })
    }
}

/// What is known of a snapshot from what was read back.
#[derive(Debug, Serialize)]
pub struct JsonVerification {
    /// `unverified`, `verified`, `damaged` or `drilled`.
    pub state: &'static str,
    /// Since when it is in this state; of a verified one, when the first of what it needs was read.
    pub since: Option<String>,
    /// When all that it needs had been read and was whole; null if it never was, or is damaged.
    pub verified: Option<String>,
    /// When it last came back in a drill.
    pub drilled: Option<String>,
}

impl JsonVerification {
    /// What `known` says of a snapshot.
    pub fn of(known: &Known, snapshot: &SnapshotId) -> JsonVerification {
        let state = known.state(snapshot);
        JsonVerification {
            state: state.name(),
            since: state.at_ns().map(rfc3339),
            verified: known.whole_ns(snapshot).map(rfc3339),
            drilled: known.drilled_ns(snapshot).map(rfc3339),
        }
    }
}

/// What a run found and what it cost.
#[derive(Debug, Serialize)]
pub struct JsonTotals {
    /// Regular files.
    pub files: u64,
    /// Directories.
    pub directories: u64,
    /// Symlinks, devices and the like.
    pub others: u64,
    /// Bytes of content of all files.
    pub content_bytes: u64,
    /// Files that are new since the parent.
    pub files_new: u64,
    /// Files that changed since the parent.
    pub files_changed: u64,
    /// Bytes that were read.
    pub read_bytes: u64,
    /// Bytes of content that were not in the repository before.
    pub new_bytes: u64,
    /// Bytes of those that are stored as differences to older content.
    pub delta_bytes: u64,
    /// Bytes read that deduplication did not have to store again.
    pub saved_by_dedup_bytes: u64,
    /// Bytes that differences saved beyond compression.
    pub saved_by_delta_bytes: u64,
    /// Bytes that compression saved.
    pub saved_by_compression_bytes: u64,
    /// Bytes that were added to the repository in all.
    pub added_bytes: u64,
}

/// What was saved, and by what.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Saved {
    /// By not storing twice, in bytes of content.
    pub dedup: u64,
    /// By storing differences.
    pub delta: u64,
    /// By compression.
    pub compression: u64,
}

impl Saved {
    /// Splits what was saved: of the bytes that were read, those not new were saved by dedup; of the new, a whole
    /// copy of everything compressed is what compression leaves, and the difference to what is stored is delta's.
    pub fn of(totals: &Totals) -> Saved {
        let whole = totals.stored_data.saturating_sub(totals.stored_delta).saturating_add(totals.whole_delta);
        Saved {
            dedup: totals.bytes_read.saturating_sub(totals.bytes_new),
            delta: totals.whole_delta.saturating_sub(totals.stored_delta),
            compression: totals.bytes_new.saturating_sub(whole),
        }
    }
}

impl From<&Totals> for JsonTotals {
    fn from(totals: &Totals) -> JsonTotals {
        let saved = Saved::of(totals);
        JsonTotals {
            files: totals.files,
            directories: totals.directories,
            others: totals.others,
            content_bytes: totals.bytes,
            files_new: totals.files_new,
            files_changed: totals.files_changed,
            read_bytes: totals.bytes_read,
            new_bytes: totals.bytes_new,
            delta_bytes: totals.bytes_delta,
            saved_by_dedup_bytes: saved.dedup,
            saved_by_delta_bytes: saved.delta,
            saved_by_compression_bytes: saved.compression,
            added_bytes: totals.added,
        }
    }
}

/// A snapshot.
#[derive(Debug, Serialize)]
pub struct JsonSnapshot {
    /// Its id.
    pub id: String,
    /// The first digits of it.
    pub short_id: String,
    /// The time it stands for.
    pub time: String,
    /// When the run began.
    pub begun: String,
    /// When it was committed.
    pub ended: String,
    /// The host.
    pub host: String,
    /// The user.
    pub user: String,
    /// What was backed up.
    pub paths: Vec<String>,
    /// The same in hexadecimal digits, if a path is not UTF-8.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub paths_hex: Option<Vec<String>>,
    /// Tags.
    pub tags: Vec<String>,
    /// `files`, `command`, `db`.
    pub kinds: Vec<String>,
    /// What somebody wanted to say.
    pub description: String,
    /// The snapshot it was compared with.
    pub parent: Option<String>,
    /// The snapshot it is a re-tagged copy of.
    pub original: Option<String>,
    /// Whether something could not be read.
    pub partial: bool,
    /// Whether it was made with a write-only key: nobody vouches for what it says of itself.
    pub write_only: bool,
    /// How many problems there were.
    pub problem_count: u64,
    /// Dumps of databases in it.
    pub dumps: Vec<JsonDump>,
    /// Which program made it.
    pub program: String,
    /// Patterns that were left out.
    pub excludes: Vec<String>,
    /// The same in hexadecimal digits, if one is not UTF-8.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub excludes_hex: Option<Vec<String>>,
    /// What was found and what it cost.
    pub totals: JsonTotals,
}

impl From<&Snapshot> for JsonSnapshot {
    fn from(snapshot: &Snapshot) -> JsonSnapshot {
        let (paths, paths_hex) = path_list(&snapshot.paths);
        let (excludes, excludes_hex) = path_list(&snapshot.excludes);
        JsonSnapshot {
            id: snapshot.id.to_string(),
            short_id: snapshot.id.short(),
            time: rfc3339(snapshot.time_ns),
            begun: rfc3339(snapshot.begun_ns),
            ended: rfc3339(snapshot.ended_ns),
            host: snapshot.host.clone(),
            user: snapshot.user.clone(),
            paths,
            paths_hex,
            tags: snapshot.tags.clone(),
            kinds: snapshot.kinds.clone(),
            description: snapshot.description.clone(),
            parent: snapshot.parent.map(|id| id.to_string()),
            original: snapshot.original.map(|id| id.to_string()),
            partial: snapshot.partial,
            write_only: snapshot.unverified,
            problem_count: snapshot.problem_count,
            dumps: snapshot.dumps.iter().map(JsonDump::from).collect(),
            program: snapshot.program.clone(),
            excludes,
            excludes_hex,
            totals: (&snapshot.totals).into(),
        }
    }
}

/// The dump of a database.
#[derive(Clone, Debug, Serialize)]
pub struct JsonDump {
    /// Its directory in the snapshot.
    pub path: String,
    /// `postgres` or `mysql`.
    pub kind: String,
    /// The database.
    pub database: String,
    /// The server's product and version.
    pub server: String,
    /// Tables.
    pub tables: u64,
    /// Rows of all tables, exactly.
    pub rows: u64,
    /// Bytes of all streams.
    pub content_bytes: u64,
    /// The moment that it stands for.
    pub taken: String,
}

impl From<&Dump> for JsonDump {
    fn from(dump: &Dump) -> JsonDump {
        JsonDump {
            path: path_pair(&dump.path.0).0,
            kind: dump.kind.clone(),
            database: dump.database.clone(),
            server: dump.server.clone(),
            tables: dump.tables,
            rows: dump.rows,
            content_bytes: dump.bytes,
            taken: rfc3339(dump.taken_ns),
        }
    }
}

/// A stream that came from a process.
#[derive(Debug, Serialize)]
pub struct JsonStream {
    /// Its place in the snapshot; a command that failed is not there.
    pub path: String,
    /// The same in hexadecimal digits, if it is not UTF-8.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub path_hex: Option<String>,
    /// `stdin` or `command`.
    pub kind: String,
    /// Program and arguments.
    pub command: Vec<String>,
    /// The same in hexadecimal digits, if one is not UTF-8.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub command_hex: Option<Vec<String>>,
    /// The exit status; null if there was none.
    pub status: Option<i64>,
    /// The end of what the command wrote to its standard error.
    pub errors: String,
    /// The same in hexadecimal digits, if it is not UTF-8.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub errors_hex: Option<String>,
    /// Bytes that came.
    pub bytes: u64,
}

impl From<&Stream> for JsonStream {
    fn from(stream: &Stream) -> JsonStream {
        let (path, path_hex) = path_pair(&stream.path.0);
        let (command, command_hex) = path_list(&stream.command);
        let (errors, errors_hex) = path_pair(&stream.errors.0);
        JsonStream {
            path,
            path_hex,
            kind: stream.kind.clone(),
            command,
            command_hex,
            status: stream.status,
            errors,
            errors_hex,
            bytes: stream.bytes,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_that_is_not_utf8_keeps_all_its_bytes() {
        assert_eq!(path_pair(b"plain"), ("plain".to_owned(), None));
        assert_eq!(path_pair(b"a\xff"), ("a\u{fffd}".to_owned(), Some("61ff".to_owned())));
        let (texts, hex) = path_list(&[Bytes(b"a".to_vec()), Bytes(b"\xff".to_vec())]);
        assert_eq!(texts.len(), 2);
        assert_eq!(hex, Some(vec!["61".to_owned(), "ff".to_owned()]));
    }
}
