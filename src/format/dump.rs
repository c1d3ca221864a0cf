//! Dump manifests: what the dump of a database holds and promises.
//!
//! A dump is a directory of streams in its snapshot, `@postgres/NAME` or `@mysql/NAME`, and the manifest is the file
//! `manifest.json` in it, written last. It is JSON (RFC 8259), so that who restores by hand can read it with any tool.
//! Unknown fields are kept.

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// The version of the manifests that this program writes.
pub const VERSION: u32 = 1;
/// The name of the manifest in the directory of its dump.
pub const MANIFEST_NAME: &str = "manifest.json";
/// The largest manifest that is read, in bytes: room for some hundred thousand tables.
pub const MAX_MANIFEST_BYTES: u64 = 256 << 20;

/// Which family of servers a dump comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DumpKind {
    /// PostgreSQL.
    Postgres,
    /// MySQL or MariaDB.
    Mysql,
}

impl DumpKind {
    /// The directory at the top of a snapshot where dumps of this kind lie.
    pub fn folder(self) -> &'static str {
        match self {
            DumpKind::Postgres => "@postgres",
            DumpKind::Mysql => "@mysql",
        }
    }

    /// The name of the kind: `postgres` or `mysql`.
    pub fn name(self) -> &'static str {
        &self.folder()[1..]
    }
}

/// The server that a dump was taken from.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Server {
    /// Host name, address or socket folder, as it was connected to.
    pub host: String,
    /// Port.
    pub port: u16,
    /// What tells this server from every other: the system identifier of PostgreSQL, `server_uuid` or host name and
    /// port of MySQL and MariaDB.
    pub identity: String,
    /// The version as the server says it: `15.8 (Debian 15.8-0+deb12u1)`, `10.11.6-MariaDB`.
    pub version: String,
    /// The version as a number that grows: `150008`, `101106`.
    pub version_number: u32,
    /// `PostgreSQL`, `MariaDB` or `MySQL`.
    pub product: String,
}

/// A table and what was read of it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Table {
    /// Its schema; empty where there is none.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub schema: String,
    /// Its name.
    pub name: String,
    /// The stream that holds its rows, a path beneath the dump's directory; none if only its definition was taken.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stream: Option<String>,
    /// The columns in the order of the stream.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub columns: Vec<String>,
    /// Rows, exactly, in the dump's own snapshot.
    pub rows: u64,
    /// Bytes of the rows in the stream.
    pub bytes: u64,
    /// Checksum of the rows whatever their order, 32 hexadecimal digits: the sum modulo 2^128 of the first 16 bytes
    /// (little-endian) of the BLAKE3 hash of each row's text without its line end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub checksum: Option<String>,
    /// How long reading it took, in milliseconds.
    pub duration_ms: u64,
    /// What it is where that matters: `partition`, `unlogged`, `extension configuration`, `MyISAM`, …
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub note: String,
    /// Which rows were read if not all: the condition of an extension's configuration table.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub condition: Option<String>,
    /// Fields of newer versions.
    #[serde(flatten)]
    pub unknown: BTreeMap<String, serde_json::Value>,
}

/// A sequence and where it stands.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sequence {
    /// Its schema.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub schema: String,
    /// Its name.
    pub name: String,
    /// Its last value.
    pub last_value: i64,
    /// Whether that value was given out.
    pub is_called: bool,
}

/// What a stream is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum StreamRole {
    /// Roles and tablespaces of the whole server, or users and grants: SQL.
    Globals,
    /// Definitions that come before the data.
    PreData,
    /// The rows of one table, or of all.
    Data,
    /// Large objects.
    LargeObjects,
    /// Definitions that come after the data: indexes, constraints, triggers.
    PostData,
    /// Something of a newer version.
    #[serde(other)]
    Other,
}

/// One stream of a dump.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StreamEntry {
    /// Its path beneath the dump's directory, names joined by `/`.
    pub path: String,
    /// What it is for.
    pub role: StreamRole,
    /// Its length in bytes.
    pub bytes: u64,
}

/// What the dump of one database holds and promises.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    /// The version of the manifest: [`VERSION`].
    pub version: u32,
    /// The family of servers.
    pub kind: DumpKind,
    /// The server.
    pub server: Server,
    /// The client program that wrote the definitions, with its version.
    pub client: String,
    /// The database.
    pub database: String,
    /// What a new database needs to hold the same: `encoding`, `collate`, `ctype`, `provider`, `owner`, …
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub properties: BTreeMap<String, String>,
    /// When the consistent moment was taken, nanoseconds since 1970.
    pub taken_ns: i64,
    /// When the last byte had been read.
    pub ended_ns: i64,
    /// The place in the server's log at that moment: an LSN, or a binary log file and position.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub position: Option<String>,
    /// What was chosen if not the whole database, as options say it: `--schema sales`, `--schema-only`, …
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub selection: Vec<String>,
    /// Every table, sorted by schema and name.
    pub tables: Vec<Table>,
    /// Every sequence.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub sequences: Vec<Sequence>,
    /// Every stream.
    pub streams: Vec<StreamEntry>,
    /// What somebody should know before restoring: tables that are not consistent, roles without passwords, …
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<String>,
    /// Fields of newer versions.
    #[serde(flatten)]
    pub unknown: BTreeMap<String, serde_json::Value>,
}

impl Manifest {
    /// As bytes: indented JSON, a line end last.
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = serde_json::to_vec_pretty(self).expect("maps with text keys and numbers always encode");
        bytes.push(b'\n');
        bytes
    }

    /// From bytes. Refuses manifests of a newer version and paths that lead out of the dump's directory.
    pub fn decode(bytes: &[u8]) -> Result<Manifest, super::Error> {
        let malformed = |position, reason: String| super::Error::Malformed { what: "dump manifest", position, reason };
        let manifest: Manifest =
            serde_json::from_slice(bytes).map_err(|error| malformed(error.column(), error.to_string()))?;
        if manifest.version != VERSION {
            return Err(malformed(0, format!("version {} is unknown: use a newer keepstone", manifest.version)));
        }
        let paths = manifest.streams.iter().map(|stream| &stream.path);
        for path in paths.chain(manifest.tables.iter().filter_map(|table| table.stream.as_ref())) {
            if !path.split('/').all(|name| super::tree::is_name(name.as_bytes())) {
                return Err(malformed(0, format!("{path:?} is no path of a stream")));
            }
        }
        Ok(manifest)
    }

    /// The rows of all tables.
    pub fn rows(&self) -> u64 {
        self.tables.iter().fold(0, |sum, table| sum.saturating_add(table.rows))
    }

    /// The bytes of all streams.
    pub fn bytes(&self) -> u64 {
        self.streams.iter().fold(0, |sum, stream| sum.saturating_add(stream.bytes))
    }

    /// The streams of one role, in order.
    pub fn streams_of(&self, role: StreamRole) -> impl Iterator<Item = &StreamEntry> {
        self.streams.iter().filter(move |stream| stream.role == role)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn manifest() -> Manifest {
        Manifest {
            version: VERSION,
            kind: DumpKind::Postgres,
            server: Server { host: "db".into(), port: 5432, product: "PostgreSQL".into(), ..Server::default() },
            client: "pg_dump 15.8".into(),
            database: "shop".into(),
            properties: BTreeMap::from([("encoding".to_owned(), "UTF8".to_owned())]),
            taken_ns: 1,
            ended_ns: 2,
            position: Some("0/1".into()),
            selection: Vec::new(),
            tables: vec![Table {
                name: "orders".into(),
                rows: 3,
                stream: Some("tables/orders".into()),
                ..Table::default()
            }],
            sequences: Vec::new(),
            streams: vec![StreamEntry { path: "tables/orders".into(), role: StreamRole::Data, bytes: 4 }],
            notes: Vec::new(),
            unknown: BTreeMap::new(),
        }
    }

    #[test]
    fn a_manifest_comes_back_with_fields_that_nobody_knows_yet() {
        let mut value: serde_json::Value = serde_json::from_slice(&manifest().encode()).unwrap();
        value["mood"] = "calm".into();
        value["tables"][0]["colour"] = 7.into();
        value["streams"][0]["role"] = "dreams".into();
        let read = Manifest::decode(&serde_json::to_vec(&value).unwrap()).unwrap();
        assert_eq!(read.unknown["mood"], "calm");
        assert_eq!(read.tables[0].unknown["colour"], 7);
        assert_eq!(read.streams[0].role, StreamRole::Other);
        assert_eq!((read.rows(), read.bytes()), (3, 4));
    }

    #[test]
    fn a_manifest_of_a_newer_version_or_with_a_path_that_leads_out_is_refused() {
        let newer = Manifest { version: 2, ..manifest() };
        assert!(Manifest::decode(&newer.encode()).is_err());
        for path in ["../x", "/x", "a//b", "", "a/.."] {
            let mut manifest = manifest();
            manifest.streams[0].path = path.to_owned();
            assert!(Manifest::decode(&manifest.encode()).is_err(), "{path:?} was taken");
        }
    }
}
