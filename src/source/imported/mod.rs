//! Files that already are dumps: what they hold and whether they are whole.
//!
//! An [`Inspector`] looks on while a file is read; it neither reads anything itself nor keeps more than a few names. It
//! recognises SQL of `pg_dump`, `pg_dumpall`, `mysqldump` and `mariadb-dump`, archives of `pg_dump` in custom, tar and
//! directory format, and any of them within gzip. Rows are counted as they pass, so the counts are those of the bytes
//! that were backed up.

mod copy;
mod custom;
mod folder;
mod gzip;
mod reach;
mod report;
mod rows;
mod sql;
mod statements;
#[cfg(test)]
mod tests;
mod toc;
mod values;

pub use folder::{TOC_NAME, is_objects_name, piece_name};
pub use reach::Reach;
pub use report::{Complaint, Compression, DumpReport, Format, Piece, State, TableRows};

use custom::Custom;
use folder::{LARGE_OBJECT, Objects, Tar, Toc};
use gzip::Gunzip;
use rows::Rows;
use sql::Sql;

/// A dump says what it is within so many bytes.
const OPENING_BYTES: usize = 4096;
/// The longest beginning that tells how a file is compressed.
const MAGIC_BYTES: usize = 6;
/// Holes up to so many bytes are looked at as what they are: zeros.
const HOLE_BYTES: u64 = 1 << 20;
const GZIP: &[u8] = &[0x1f, 0x8b];
/// Compressions that we do not look into, and what they begin with.
const CLOSED: [(&[u8], &str); 5] = [
    (&[0x28, 0xb5, 0x2f, 0xfd], "zstd"),
    (&[0xfd, b'7', b'z', b'X', b'Z', 0], "xz"),
    (b"BZh", "bzip2"),
    (&[0x04, 0x22, 0x4d, 0x18], "lz4"),
    (b"PK\x03\x04", "zip"),
];
/// Endings of names that dumps have, perhaps followed by one that tells how they are compressed.
const ENDINGS: [&str; 8] = ["sql", "dump", "dmp", "pgdump", "pg_dump", "psql", "mysql", "mariadb"];
const PACKED_ENDINGS: [&str; 7] = ["gz", "zst", "zstd", "xz", "bz2", "lz4", "zip"];
/// How dumps begin; for a file that is too short to show more.
const OPENINGS: [&[u8]; 6] = [
    toc::MAGIC,
    b"--\n-- PostgreSQL database dump\n",
    b"--\n-- PostgreSQL database cluster dump\n",
    b"-- MySQL dump ",
    b"/*!999999\\- enable the sandbox mode */ \n-- MariaDB dump ",
    b"/*M!999999\\- enable the sandbox mode */ \n-- MariaDB dump ",
];

/// Whether a file of this name is probably meant to be a dump.
pub fn is_dump_name(name: &[u8]) -> bool {
    let name = String::from_utf8_lossy(name).to_lowercase();
    let stem = match name.rsplit_once('.') {
        Some((stem, ending)) if PACKED_ENDINGS.contains(&ending) => stem,
        _ => &name,
    };
    stem.rsplit_once('.').is_some_and(|(_, ending)| ENDINGS.contains(&ending))
}

/// Looks on while a file is read from its first byte to its last.
pub struct Inspector {
    hint: Hint,
    bytes: u64,
    stage: Stage,
    /// A hole that was too long to be looked at.
    hole: bool,
}

/// What the name says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Hint {
    Dump,
    Toc,
    Piece,
    Objects,
    LargeObject,
    None,
}

enum Stage {
    /// Too few bytes to tell.
    Magic(Vec<u8>),
    Plain(Content),
    Gzip(Box<Gunzip>, Content),
    Closed(&'static str),
    /// It is no dump.
    Nothing,
}

impl Inspector {
    /// Looks at a file of this name; its last part is enough.
    pub fn new(name: &[u8]) -> Inspector {
        let name = name.rsplit(|byte| *byte == b'/').next().unwrap_or(name);
        let hint = match name {
            TOC_NAME => Hint::Toc,
            _ if piece_name(name).is_some() && name.starts_with(LARGE_OBJECT) => Hint::LargeObject,
            _ if piece_name(name).is_some() => Hint::Piece,
            _ if is_objects_name(name) => Hint::Objects,
            _ if is_dump_name(name) => Hint::Dump,
            _ => Hint::None,
        };
        Inspector { hint, bytes: 0, stage: Stage::Magic(Vec::new()), hole: false }
    }

    /// Takes the next bytes.
    pub fn push(&mut self, mut bytes: &[u8]) {
        self.bytes += bytes.len() as u64;
        if let Stage::Magic(magic) = &mut self.stage {
            let used = bytes.len().min(MAGIC_BYTES - magic.len());
            magic.extend_from_slice(&bytes[..used]);
            bytes = &bytes[used..];
            if magic.len() < MAGIC_BYTES {
                return;
            }
            self.open();
        }
        self.pass(bytes);
    }

    /// Takes so many zero bytes of a hole.
    pub fn hole(&mut self, bytes: u64) {
        const ZEROS: [u8; 4096] = [0; 4096];
        let mut left = bytes.min(HOLE_BYTES);
        self.bytes += bytes - left;
        self.hole |= left < bytes;
        while left > 0 && !matches!(self.stage, Stage::Nothing) {
            let now = left.min(ZEROS.len() as u64);
            self.push(&ZEROS[..now as usize]);
            left -= now;
        }
    }

    /// Decides how the file is compressed, and lets its first bytes pass.
    fn open(&mut self) {
        let Stage::Magic(magic) = std::mem::replace(&mut self.stage, Stage::Nothing) else { return };
        let closed = CLOSED.iter().find(|(beginning, _)| magic.starts_with(beginning));
        self.stage = match closed {
            _ if magic.starts_with(GZIP) || (self.hint == Hint::Dump && *magic == GZIP[..1]) => {
                Stage::Gzip(Box::default(), Content::new(self.hint))
            }
            Some((_, name)) if !matches!(self.hint, Hint::Toc | Hint::Objects | Hint::None) => Stage::Closed(name),
            Some(_) => Stage::Nothing,
            None => Stage::Plain(Content::new(self.hint)),
        };
        self.pass(&magic);
    }

    fn pass(&mut self, bytes: &[u8]) {
        let nothing = match &mut self.stage {
            Stage::Plain(content) => {
                content.push(bytes);
                content.is_nothing()
            }
            Stage::Gzip(gunzip, content) => {
                gunzip.push(bytes, &mut |bytes| content.push(bytes));
                // By its name it should be a dump: whether it is whole matters all the same.
                content.is_nothing() && self.hint == Hint::None
            }
            _ => false,
        };
        if nothing {
            self.stage = Stage::Nothing;
        }
    }

    /// What was found, after the last byte; none if it is no dump.
    pub fn finish(mut self) -> Option<DumpReport> {
        if self.bytes == 0 && self.hint == Hint::Dump {
            return Some(DumpReport::unknown(State::Empty, "the file is empty"));
        }
        self.open_short();
        let mut report = match self.stage {
            Stage::Plain(content) => content.finish()?,
            Stage::Gzip(gunzip, content) => unpacked(*gunzip, content, self.hint)?,
            Stage::Closed(name) => closed(name, self.hint),
            Stage::Magic(_) | Stage::Nothing => return None,
        };
        if self.hole {
            report.state = State::Damaged;
            report.reason = "there is a large hole in it".to_owned();
        }
        report.bytes = self.bytes;
        Some(report)
    }

    /// A file that is shorter than what tells how it is compressed.
    fn open_short(&mut self) {
        if matches!(self.stage, Stage::Magic(_)) {
            self.open();
        }
    }
}

fn unpacked(gunzip: Gunzip, content: Content, hint: Hint) -> Option<DumpReport> {
    let complaint = gunzip.finish();
    let empty = content.bytes == 0;
    let mut report = match content.finish() {
        Some(report) => report,
        None if hint != Hint::Dump => return None,
        None if empty && complaint.is_none() => {
            let reason = "its gzip stream holds nothing: probably the program that should have filled it failed";
            DumpReport::unknown(State::Empty, reason)
        }
        None => DumpReport::unknown(State::Complete, ""),
    };
    if let Some(complaint) = complaint {
        // That it ends early within follows from this.
        if report.state != State::Damaged {
            report.state = State::Complete;
        }
        report.complain(complaint);
    } else if report.format == Format::Unknown && report.state == State::Complete {
        return None;
    }
    report.compression.around = Some("gzip");
    Some(report)
}

fn closed(name: &'static str, hint: Hint) -> DumpReport {
    let reason = format!("{name} is not looked into");
    let mut report = DumpReport::unknown(State::Unchecked, reason);
    if matches!(hint, Hint::Piece | Hint::LargeObject) {
        report.format = Format::PostgresPiece;
    }
    report.compression.around = Some(name);
    report
}

/// The content of a file, out of its compression.
struct Content {
    hint: Hint,
    bytes: u64,
    kind: Kind,
}

enum Kind {
    /// Too few bytes to tell.
    Opening(Vec<u8>),
    Sql(Box<Sql>),
    Custom(Box<Custom>),
    Toc(Box<Toc>),
    Tar(Box<Tar>),
    Piece(Rows),
    Objects(Objects),
    /// A large object of a dump in directory format: anything at all.
    LargeObject,
    /// SQL in UTF-16.
    Wide(Format),
    Nothing,
}

impl Content {
    fn new(hint: Hint) -> Content {
        let kind = match hint {
            Hint::Piece => Kind::Piece(Rows::of_any()),
            Hint::Objects => Kind::Objects(Objects::default()),
            Hint::LargeObject => Kind::LargeObject,
            _ => Kind::Opening(Vec::new()),
        };
        Content { hint, bytes: 0, kind }
    }

    fn is_nothing(&self) -> bool {
        matches!(self.kind, Kind::Nothing)
    }

    fn push(&mut self, bytes: &[u8]) {
        self.bytes += bytes.len() as u64;
        match &mut self.kind {
            Kind::Opening(opening) => {
                let used = bytes.len().min(OPENING_BYTES - opening.len());
                opening.extend_from_slice(&bytes[..used]);
                if opening.len() == OPENING_BYTES {
                    self.decide();
                    self.pass(&bytes[used..]);
                }
            }
            _ => self.pass(bytes),
        }
    }

    fn pass(&mut self, bytes: &[u8]) {
        match &mut self.kind {
            Kind::Sql(sql) => sql.push(bytes),
            Kind::Custom(custom) => custom.push(bytes),
            Kind::Toc(toc) => toc.push(bytes),
            Kind::Tar(tar) => tar.push(bytes),
            Kind::Piece(rows) => rows.push(bytes),
            Kind::Objects(objects) => objects.push(bytes),
            Kind::Opening(_) | Kind::LargeObject | Kind::Wide(_) | Kind::Nothing => {}
        }
    }

    /// Decides what it is, by its first bytes, and lets them pass.
    fn decide(&mut self) {
        let Kind::Opening(opening) = std::mem::replace(&mut self.kind, Kind::Nothing) else { return };
        self.kind = if opening.starts_with(toc::MAGIC) {
            match self.hint {
                Hint::Toc => Kind::Toc(Box::default()),
                _ => Kind::Custom(Box::new(Custom::new())),
            }
        } else if Tar::recognise(&opening) {
            Kind::Tar(Box::new(Tar::new()))
        } else if let Some(format) = sql::recognise(&opening) {
            Kind::Sql(Box::new(Sql::new(format)))
        } else if let Some(format) = sql::recognise_wide(&opening) {
            Kind::Wide(format)
        } else {
            Kind::Nothing
        };
        let is_sql = matches!(self.kind, Kind::Sql(_));
        self.pass(if is_sql { sql::without_mark(&opening) } else { &opening });
    }

    fn finish(mut self) -> Option<DumpReport> {
        if let Kind::Opening(opening) = &self.kind {
            let beginning = OPENINGS.iter().any(|whole| !opening.is_empty() && whole.starts_with(opening));
            let cut = self.hint == Hint::Dump && beginning;
            self.decide();
            if cut && self.is_nothing() {
                let reason = "it ends in its first line";
                return Some(DumpReport::unknown(State::Truncated, reason));
            }
        }
        match self.kind {
            Kind::Sql(sql) => Some(sql.finish()),
            Kind::Custom(custom) => Some(custom.finish()),
            Kind::Toc(toc) => Some(toc.finish()),
            Kind::Tar(tar) => Some(tar.finish()),
            Kind::Piece(rows) => Some(piece(rows)),
            Kind::Objects(objects) => Some(objects.finish()),
            Kind::LargeObject => Some(DumpReport::of(Format::PostgresPiece)),
            Kind::Wide(format) => Some(wide(format)),
            Kind::Opening(_) | Kind::Nothing => None,
        }
    }
}

/// No client loads it, and letters that the console did not have are lost.
fn wide(format: Format) -> DumpReport {
    let option = match format {
        Format::PostgresSql | Format::PostgresClusterSql => "--file",
        _ => "--result-file",
    };
    let mut report = DumpReport::of(format);
    report.complain(Complaint::damaged(format!(
        "it is UTF-16, as a `>` of PowerShell writes it, and no client loads that: dump with {option}=FILE instead"
    )));
    report
}

fn piece(rows: Rows) -> DumpReport {
    let mut report = DumpReport::of(Format::PostgresPiece);
    match rows.finish() {
        Ok(rows) => report.rows = rows,
        Err(complaint) => report.complain(complaint),
    }
    report
}
