//! Archives in directory and in tar format: a table of contents, and files of data beside it.

use super::custom::report_of;
use super::report::{Complaint, DumpReport, Format, Piece, Tables};
use super::rows::Rows;
use super::toc::{TocReader, Whereabouts};
use std::collections::HashMap;

/// The name of the table of contents.
pub const TOC_NAME: &[u8] = b"toc.dat";
const BLOCK_BYTES: usize = 512;
/// What the names of files begin with that hold a large object.
pub const LARGE_OBJECT: &[u8] = b"blob_";
/// Large objects that are looked for; the files of those beyond are not missed.
const MAX_OBJECTS: usize = super::report::MAX_TABLES;
/// No line in the list of large objects is longer.
const LINE_BYTES: usize = 64;

/// Inspects the list of large objects of a dump in directory format: a line `OID FILE` for each.
#[derive(Default)]
pub struct Objects {
    line: Vec<u8>,
    files: Vec<String>,
    odd: bool,
}

impl Objects {
    /// Takes the next bytes.
    pub fn push(&mut self, bytes: &[u8]) {
        for byte in bytes {
            match byte {
                b'\n' => self.end_line(),
                _ if self.line.len() < LINE_BYTES => self.line.push(*byte),
                _ => self.odd = true,
            }
        }
    }

    fn end_line(&mut self) {
        let line = std::mem::take(&mut self.line);
        let file = line.iter().position(|byte| *byte == b' ').map(|at| &line[at + 1..]);
        match file.filter(|file| piece_name(file).is_some()) {
            Some(file) if self.files.len() < MAX_OBJECTS => {
                self.files.push(String::from_utf8_lossy(file).into_owned());
            }
            Some(_) => {}
            None => self.odd = true,
        }
    }

    /// What was found, after the last byte.
    pub fn finish(self) -> DumpReport {
        let mut report = DumpReport::of(Format::PostgresPiece);
        if self.odd {
            report.complain(Complaint::damaged("it is no list of large objects"));
        } else if !self.line.is_empty() {
            report.complain(Complaint::truncated("its last line is not whole"));
        }
        report.pieces = self.files.into_iter().map(|file| Piece { file, table: None }).collect();
        report
    }
}

/// Inspects a `toc.dat` that lies in a directory.
#[derive(Default)]
pub struct Toc {
    reader: TocReader,
    complete: bool,
    complaint: Option<Complaint>,
}

impl Toc {
    /// Takes the next bytes.
    pub fn push(&mut self, mut bytes: &[u8]) {
        if self.complaint.is_some() {
            return;
        }
        match self.reader.push(&mut bytes) {
            Ok(complete) => self.complete = complete,
            Err(complaint) => self.complaint = Some(complaint),
        }
        if !bytes.is_empty() && self.complaint.is_none() {
            self.complaint = Some(Complaint::damaged("something follows its table of contents"));
        }
    }

    /// What was found, after the last byte. The tables have no rows yet: those are in the pieces.
    pub fn finish(self) -> DumpReport {
        let contents = &self.reader.contents;
        let mut report = report_of(contents, Format::PostgresDirectory);
        report.notes.retain(|note| !note.starts_with("its rows"));
        self.complaint.into_iter().for_each(|complaint| report.complain(complaint));
        if !self.complete {
            report.complain(Complaint::truncated("it ends in its table of contents"));
        }
        if contents.data_beyond > 0 {
            report.complain(Complaint::unchecked("it has too many tables to look for the data of each"));
        }
        let mut tables = Tables::default();
        contents.tables.iter().for_each(|table| tables.add(table.clone()));
        report.count(tables);
        for entry in contents.data.values() {
            if let Whereabouts::File(file) = &entry.whereabouts {
                report.pieces.push(Piece { file: file.clone(), table: entry.table.clone() });
            }
        }
        report.pieces.sort_by(|a, b| a.file.cmp(&b.file));
        report
    }
}

/// Whether a file of this name may hold the data of a table or of a large object in directory format: `3456.dat`,
/// `3456.dat.gz`, `blob_16413.dat`. Gives the name without the ending that tells how it is compressed, and that ending.
pub fn piece_name(name: &[u8]) -> Option<(&[u8], &[u8])> {
    let before = if name.starts_with(LARGE_OBJECT) { LARGE_OBJECT.len() } else { 0 };
    let digits = name[before..].iter().take_while(|byte| byte.is_ascii_digit()).count();
    let (stem, ending) = name.split_at_checked(before + digits + 4)?;
    let known = [&b""[..], b".gz", b".lz4", b".zst"];
    (digits > 0 && stem.ends_with(b".dat") && known.contains(&ending)).then_some((stem, ending))
}

/// Whether a file of this name lists the large objects in directory format.
pub fn is_objects_name(name: &[u8]) -> bool {
    let number = name.strip_prefix(b"blobs").and_then(|rest| rest.strip_suffix(b".toc"));
    let number = number.map(|number| number.strip_prefix(b"_").unwrap_or(number));
    number.is_some_and(|number| number.iter().all(u8::is_ascii_digit))
}

/// What comes next in a tar file.
enum Place {
    Header,
    Member {
        left: u64,
        padding: u64,
    },
    /// One block of zero bytes has come, of the two that end the file.
    Ending,
    Ended,
}

/// Inspects a tar file that `pg_dump` wrote.
pub struct Tar {
    toc: TocReader,
    toc_complete: bool,
    place: Place,
    block: Vec<u8>,
    member: Option<Member>,
    /// Ids of entries by the names of their files.
    files: HashMap<String, i64>,
    tables: Tables,
    complaint: Option<Complaint>,
}

/// The member that is being read, where its content matters.
enum Member {
    Toc,
    Rows { table: String, rows: Rows },
}

impl Tar {
    /// An inspection from the first byte on.
    pub fn new() -> Tar {
        Tar {
            toc: TocReader::default(),
            toc_complete: false,
            place: Place::Header,
            block: Vec::with_capacity(BLOCK_BYTES),
            member: None,
            files: HashMap::new(),
            tables: Tables::default(),
            complaint: None,
        }
    }

    /// Whether a file begins like such a tar file.
    pub fn recognise(opening: &[u8]) -> bool {
        opening.len() >= BLOCK_BYTES && opening.starts_with(b"toc.dat\0") && &opening[257..262] == b"ustar"
    }

    /// Takes the next bytes.
    pub fn push(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() && self.complaint.is_none() {
            let used = match self.place {
                Place::Header | Place::Ending => self.header(bytes),
                Place::Member { left, padding } => self.member(bytes, left, padding),
                Place::Ended => Ok(bytes.len()),
            };
            match used {
                Ok(used) => bytes = &bytes[used..],
                Err(complaint) => self.complaint = Some(complaint),
            }
        }
    }

    fn header(&mut self, bytes: &[u8]) -> Result<usize, Complaint> {
        let used = bytes.len().min(BLOCK_BYTES - self.block.len());
        self.block.extend_from_slice(&bytes[..used]);
        if self.block.len() == BLOCK_BYTES {
            let block = std::mem::take(&mut self.block);
            self.begin_member(&block)?;
        }
        Ok(used)
    }

    fn begin_member(&mut self, header: &[u8]) -> Result<(), Complaint> {
        if header.iter().all(|byte| *byte == 0) {
            self.place = if matches!(self.place, Place::Ending) { Place::Ended } else { Place::Ending };
            return Ok(());
        }
        let checksum = header.iter().enumerate().map(|(at, byte)| match at {
            148..156 => u64::from(b' '),
            _ => u64::from(*byte),
        });
        if number(&header[148..156]) != Some(checksum.sum()) {
            return Err(Complaint::damaged("the header of a member has a wrong checksum"));
        }
        let size = number(&header[124..136]).ok_or_else(|| Complaint::damaged("a member has no valid size"))?;
        let name = header[..100].split(|byte| *byte == 0).next().unwrap_or_default();
        self.member = self.member_named(name);
        let padding = size.next_multiple_of(BLOCK_BYTES as u64) - size;
        self.place = Place::Member { left: size, padding };
        if size == 0 { self.end_member() } else { Ok(()) }
    }

    fn member_named(&mut self, name: &[u8]) -> Option<Member> {
        if name == TOC_NAME {
            return Some(Member::Toc);
        }
        if is_objects_name(name) {
            // Its entry names a file that is never there.
            self.toc
                .contents
                .data
                .values_mut()
                .filter(|entry| entry.table.is_none())
                .for_each(|entry| entry.seen = true);
            return None;
        }
        let id = std::str::from_utf8(name).ok().and_then(|name| self.files.get(name))?;
        let entry = self.toc.contents.data.get_mut(id)?;
        entry.seen = true;
        entry.table.clone().map(|table| Member::Rows { table, rows: Rows::of(entry.copy) })
    }

    fn member(&mut self, bytes: &[u8], left: u64, padding: u64) -> Result<usize, Complaint> {
        let used = usize::try_from(left).unwrap_or(usize::MAX).min(bytes.len());
        let (mut now, left) = (&bytes[..used], left - used as u64);
        match &mut self.member {
            Some(Member::Toc) => {
                self.toc_complete = self.toc.push(&mut now)?;
            }
            Some(Member::Rows { rows, .. }) => rows.push(now),
            None => {}
        }
        let skipped = usize::try_from(padding).unwrap_or(usize::MAX).min(bytes.len() - used);
        let padding = padding - skipped as u64;
        self.place = Place::Member { left, padding };
        if left == 0 && padding == 0 {
            self.end_member()?;
        }
        Ok(used + skipped)
    }

    fn end_member(&mut self) -> Result<(), Complaint> {
        self.place = Place::Header;
        match self.member.take() {
            Some(Member::Toc) if !self.toc_complete => {
                return Err(Complaint::damaged("its table of contents ends too early"));
            }
            Some(Member::Toc) => {
                for (id, entry) in &self.toc.contents.data {
                    if let Whereabouts::File(file) = &entry.whereabouts {
                        self.files.insert(file.clone(), *id);
                    }
                }
            }
            Some(Member::Rows { table, rows }) => {
                let rows = rows
                    .finish()
                    .map_err(|complaint| Complaint { reason: format!("{table}: {}", complaint.reason), ..complaint })?;
                self.tables.count(table, Some(rows));
            }
            None => {}
        }
        Ok(())
    }

    /// What was found, after the last byte.
    pub fn finish(self) -> DumpReport {
        let contents = &self.toc.contents;
        let mut report = report_of(contents, Format::PostgresTar);
        self.complaint.into_iter().for_each(|complaint| report.complain(complaint));
        if let Some(Member::Rows { table, .. }) = &self.member {
            report.complain(Complaint::truncated(format!("it ends in the rows of {table}")));
        }
        if !matches!(self.place, Place::Ended) {
            report.complain(Complaint::truncated("the blocks that end a tar file are missing"));
        }
        if let Some(entry) = contents.data.values().find(|entry| !entry.seen) {
            let what = entry.table.as_deref().unwrap_or("large objects");
            report.complain(Complaint::truncated(format!("the data of {what} is missing")));
        }
        let mut tables = self.tables;
        contents.tables.iter().for_each(|table| tables.add(table.clone()));
        report.count(tables);
        report
    }
}

/// A number as tar writes it: octal digits, or with the highest bit set the bytes of the number.
fn number(field: &[u8]) -> Option<u64> {
    if let [0x80, rest @ ..] = field {
        let (high, low) = rest.split_at_checked(rest.len().checked_sub(8)?)?;
        let number = low.iter().fold(0, |sum, byte| (sum << 8) | u64::from(*byte));
        return (high.iter().all(|byte| *byte == 0) && number <= i64::MAX as u64).then_some(number);
    }
    let digits = std::str::from_utf8(field).ok()?.trim_matches(['\0', ' ']);
    // No file is longer than a signed number can say, so that rounding up cannot overflow.
    u64::from_str_radix(digits, 8).ok().filter(|number| *number <= i64::MAX as u64)
}
