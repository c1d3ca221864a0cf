//! The head of a PostgreSQL archive and its table of contents, as `pg_dump` of versions 9.0 to 18 writes them.
//!
//! ```text
//! PGDMP, version (3 bytes), bytes of a number, bytes of an offset, format (1 custom, 3 tar or directory),
//! compression, time (7 numbers), database, server's version, pg_dump's version, number of entries,
//! entries: id, has data, oids, tag, kind, section, SQL to make it, drop it, copy it, namespace, tablespace, …
//! ```

use super::report::{Complaint, text};
use super::values::Values;
use std::collections::HashMap;

/// What an archive begins with.
pub const MAGIC: &[u8] = b"PGDMP";
/// The versions that we know how to read.
const VERSIONS: std::ops::RangeInclusive<u16> = version(1, 12)..=version(1, 16);
/// Entries with data that are told apart; what comes beyond is only counted.
const MAX_DATA_ENTRIES: usize = super::report::MAX_TABLES;
/// What is kept of a name.
const NAME_BYTES: usize = 128;
/// What is kept of a version.
const TEXT_BYTES: usize = 200;

const fn version(major: u8, minor: u8) -> u16 {
    (major as u16) << 8 | minor as u16
}

/// What compresses the data of an archive.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Method {
    /// Nothing.
    #[default]
    None,
    /// Zlib, which pg_dump calls gzip.
    Gzip,
    /// LZ4.
    Lz4,
    /// Zstandard.
    Zstd,
}

impl Method {
    /// Its name; none for none.
    pub fn name(self) -> Option<&'static str> {
        match self {
            Method::None => None,
            Method::Gzip => Some("gzip"),
            Method::Lz4 => Some("lz4"),
            Method::Zstd => Some("zstd"),
        }
    }
}

/// Where the data of an entry is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Whereabouts {
    /// At this offset, if the archive says so.
    Offset(Option<u64>),
    /// In a file of this name.
    File(String),
}

/// An entry that has data.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DataEntry {
    /// The table; none if it is something else, as large objects are.
    pub table: Option<String>,
    /// Its rows are COPY text; else they are INSERT statements.
    pub copy: bool,
    /// Where it is.
    pub whereabouts: Whereabouts,
    /// Its data was found.
    pub seen: bool,
}

/// What the head and the entries say.
#[derive(Debug, Default)]
pub struct Contents {
    /// 1 for custom, 3 for tar and directory.
    pub format: u8,
    /// What compresses the data.
    pub method: Method,
    /// The database.
    pub database: String,
    /// The server's version.
    pub server: String,
    /// The version of `pg_dump`.
    pub tool: String,
    /// Entries with data by their ids, at most [`MAX_DATA_ENTRIES`].
    pub data: HashMap<i64, DataEntry>,
    /// How many more there are.
    pub data_beyond: u64,
    /// Tables that were defined, of the first [`MAX_DATA_ENTRIES`].
    pub tables: Vec<String>,
}

/// What comes next in the head or in an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Field {
    Magic(usize),
    Major,
    Minor,
    Revision,
    IntBytes,
    OffsetBytes,
    Format,
    Compression,
    Time(u8),
    Database,
    Server,
    Tool,
    Count,
    Id,
    HasData,
    TableOid,
    Oid,
    Tag,
    Kind,
    Section,
    Definition,
    Drop,
    Copy,
    Namespace,
    Tablespace,
    AccessMethod,
    RelationKind,
    Owner,
    WithOids,
    Dependency,
    Place,
    End,
}

#[derive(Debug, Default)]
struct Entry {
    id: i64,
    has_data: bool,
    tag: Vec<u8>,
    kind: Vec<u8>,
    copy: bool,
    namespace: Vec<u8>,
    file: Vec<u8>,
    offset: (u8, u64),
}

/// Reads head and entries as they come.
#[derive(Debug)]
pub struct TocReader {
    /// Reads numbers the way this archive has them; goes on with the data.
    pub values: Values,
    /// What is known so far.
    pub contents: Contents,
    next: Field,
    version: u16,
    left: u64,
    entry: Entry,
}

impl Default for TocReader {
    fn default() -> TocReader {
        TocReader {
            values: Values::new(4, 8),
            contents: Contents::default(),
            next: Field::Magic(0),
            version: 0,
            left: 0,
            entry: Entry::default(),
        }
    }
}

impl TocReader {
    /// Takes what belongs to the table of contents. Says whether it is complete.
    pub fn push(&mut self, input: &mut &[u8]) -> Result<bool, Complaint> {
        while self.next != Field::End {
            match self.field(input)? {
                Some(next) => self.next = next,
                None => return Ok(false),
            }
        }
        Ok(true)
    }

    /// Reads one field and says what comes next; none if the field has not come whole.
    fn field(&mut self, input: &mut &[u8]) -> Result<Option<Field>, Complaint> {
        match self.next {
            Field::Magic(_)
            | Field::Major
            | Field::Minor
            | Field::Revision
            | Field::IntBytes
            | Field::OffsetBytes
            | Field::Format => {
                let Some(byte) = self.values.byte(input) else { return Ok(None) };
                self.head_byte(byte).map(Some)
            }
            Field::Compression if self.version >= version(1, 15) => {
                let Some(byte) = self.values.byte(input) else { return Ok(None) };
                self.contents.method = method(byte)?;
                Ok(Some(Field::Time(0)))
            }
            Field::Compression
            | Field::Time(_)
            | Field::Count
            | Field::Id
            | Field::HasData
            | Field::Section
            | Field::RelationKind => {
                let Some(number) = self.values.int(input) else { return Ok(None) };
                self.number(number).map(Some)
            }
            Field::Place if self.contents.format == 1 => {
                let Some(offset) = self.values.offset(input) else { return Ok(None) };
                self.entry.offset = offset;
                Ok(Some(self.end_entry()))
            }
            Field::End => Ok(None),
            _ => {
                let in_head = matches!(self.next, Field::Database | Field::Server | Field::Tool);
                let keep = if in_head { TEXT_BYTES } else { NAME_BYTES };
                let Some(value) = self.values.text(input, keep) else { return Ok(None) };
                Ok(Some(self.word(value)))
            }
        }
    }

    fn head_byte(&mut self, byte: u8) -> Result<Field, Complaint> {
        Ok(match self.next {
            Field::Magic(at) if MAGIC[at] != byte => return Err(Complaint::damaged("it is no PostgreSQL archive")),
            Field::Magic(at) if at + 1 < MAGIC.len() => Field::Magic(at + 1),
            Field::Magic(_) => Field::Major,
            Field::Major => {
                self.version = version(byte, 0);
                Field::Minor
            }
            Field::Minor => {
                self.version |= u16::from(byte);
                if !VERSIONS.contains(&self.version) {
                    let (major, minor) = (self.version >> 8, byte);
                    let reason = format!("archives of version {major}.{minor} are not known");
                    return Err(Complaint::unchecked(reason));
                }
                Field::Revision
            }
            Field::Revision => Field::IntBytes,
            Field::IntBytes | Field::OffsetBytes if !(1..=8).contains(&byte) => {
                return Err(Complaint::damaged(format!("its head says that numbers have {byte} bytes")));
            }
            Field::IntBytes => {
                self.values.int_bytes = usize::from(byte);
                Field::OffsetBytes
            }
            Field::OffsetBytes => {
                self.values.offset_bytes = usize::from(byte);
                Field::Format
            }
            _ if !matches!(byte, 1 | 3) => {
                return Err(Complaint::damaged(format!("its head names the unknown format {byte}")));
            }
            _ => {
                self.contents.format = byte;
                Field::Compression
            }
        })
    }

    fn number(&mut self, number: i64) -> Result<Field, Complaint> {
        Ok(match self.next {
            Field::Compression => {
                self.contents.method = if number == 0 { Method::None } else { Method::Gzip };
                Field::Time(0)
            }
            Field::Time(6) => Field::Database,
            Field::Time(part) => Field::Time(part + 1),
            Field::Count => {
                let bad = |_| Complaint::damaged(format!("its table of contents has {number} entries"));
                self.left = u64::try_from(number).map_err(bad)?;
                if self.left == 0 { Field::End } else { Field::Id }
            }
            Field::Id if number <= 0 => {
                return Err(Complaint::damaged(format!("its table of contents has an entry of number {number}")));
            }
            Field::Id => {
                self.entry = Entry { id: number, ..Entry::default() };
                Field::HasData
            }
            Field::HasData => {
                self.entry.has_data = number != 0;
                Field::TableOid
            }
            Field::Section => Field::Definition,
            _ => Field::Owner,
        })
    }

    fn word(&mut self, value: Option<Vec<u8>>) -> Field {
        let none = value.is_none();
        let bytes = value.unwrap_or_default();
        match self.next {
            Field::Database => self.contents.database = text(&bytes),
            Field::Server => self.contents.server = text(&bytes),
            Field::Tool => self.contents.tool = text(&bytes),
            Field::Tag => self.entry.tag = bytes,
            Field::Kind => self.entry.kind = bytes,
            Field::Copy => self.entry.copy = bytes.starts_with(b"COPY"),
            Field::Namespace => self.entry.namespace = bytes,
            Field::Place => {
                self.entry.file = bytes;
                return self.end_entry();
            }
            _ => {}
        }
        self.after_word(none)
    }

    /// What follows a text.
    fn after_word(&self, none: bool) -> Field {
        match self.next {
            Field::Database => Field::Server,
            Field::Server => Field::Tool,
            Field::Tool => Field::Count,
            Field::TableOid => Field::Oid,
            Field::Oid => Field::Tag,
            Field::Tag => Field::Kind,
            Field::Kind => Field::Section,
            Field::Definition => Field::Drop,
            Field::Drop => Field::Copy,
            Field::Copy => Field::Namespace,
            Field::Namespace => Field::Tablespace,
            Field::Tablespace if self.version >= version(1, 14) => Field::AccessMethod,
            Field::AccessMethod if self.version >= version(1, 16) => Field::RelationKind,
            Field::Tablespace | Field::AccessMethod => Field::Owner,
            Field::Owner => Field::WithOids,
            Field::Dependency if none => Field::Place,
            _ => Field::Dependency,
        }
    }

    fn end_entry(&mut self) -> Field {
        let entry = std::mem::take(&mut self.entry);
        let name = || {
            let (namespace, tag) = (text(&entry.namespace), text(&entry.tag));
            if namespace.is_empty() { tag } else { format!("{namespace}.{tag}") }
        };
        let contents = &mut self.contents;
        if entry.kind == b"TABLE" && contents.tables.len() < MAX_DATA_ENTRIES {
            contents.tables.push(name());
        }
        if entry.has_data && contents.data.len() < MAX_DATA_ENTRIES {
            let whereabouts = match contents.format {
                1 => Whereabouts::Offset((entry.offset.0 == 2).then_some(entry.offset.1)),
                _ => Whereabouts::File(text(&entry.file)),
            };
            let table = (entry.kind == b"TABLE DATA").then(name);
            contents.data.insert(entry.id, DataEntry { table, copy: entry.copy, whereabouts, seen: false });
        } else if entry.has_data {
            contents.data_beyond += 1;
        }
        self.left -= 1;
        if self.left == 0 { Field::End } else { Field::Id }
    }
}

fn method(number: u8) -> Result<Method, Complaint> {
    match number {
        0 => Ok(Method::None),
        1 => Ok(Method::Gzip),
        2 => Ok(Method::Lz4),
        3 => Ok(Method::Zstd),
        _ => Err(Complaint::unchecked(format!("its head names the unknown compression {number}"))),
    }
}
