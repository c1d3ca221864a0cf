//! PostgreSQL's custom archive format: the head and the table of contents, read and written.
//!
//! `pg_dump -Fc` writes it and `pg_restore` reads it. We read it to know what an archive holds before anything is
//! written to a server (owners, extensions, which index belongs to which table), and write it to give a whole database as
//! one archive. Versions 1.12 (PostgreSQL 9.0) to 1.16 (17 and 18) are understood.
//!
//! | bytes | what |
//! | --- | --- |
//! | 5 | `PGDMP` |
//! | 3 | version: major, minor, revision |
//! | 1 | bytes of an integer |
//! | 1 | bytes of an offset |
//! | 1 | format: 1, custom |
//! | 1 or integer | compression: from 1.15 an algorithm (0 none), before a level (0 none) |
//! | 7 integers | when it was made: second, minute, hour, day, month - 1, year - 1900, daylight saving |
//! | 3 strings | database; version of the server; version of the program |
//! | integer | number of entries; then the entries, then blocks of data |
//!
//! An integer is a byte for its sign (0 is plus) and its bytes, the lowest first. A string is an integer for its length
//! (-1: there is none) and its bytes. An entry:
//!
//! | what | how |
//! | --- | --- |
//! | number in this archive; whether it has data; | integers |
//! | oid of the catalogue; oid; name; kind | strings |
//! | section: 1 none, 2 pre-data, 3 data, 4 post-data | integer |
//! | definition; how to drop it; how to copy into it; schema; tablespace | strings |
//! | access method (from 1.14) | string |
//! | kind of relation (from 1.16) | integer |
//! | owner; whether it has oids (`false`) | strings |
//! | numbers that it depends on, decimal; then a string that is none | strings |
//! | state of its offset (1 unknown, 2 known, 3 no data) and the offset | byte, offset |
//!
//! A block of rows is the byte 1, the number of its entry, pieces (an integer for the length and the bytes) and the
//! integer 0. A block of large objects is the byte 3, the number of its entry, and for each object its oid and pieces as
//! before; an oid of 0 ends it.

use std::io::{self, ErrorKind, Read, Write};

const MAGIC: &[u8; 5] = b"PGDMP";
const CUSTOM: u8 = 1;
const OLDEST_MINOR: u8 = 12;
const NEWEST_MINOR: u8 = 16;
/// The longest string of a table of contents: a definition with a few megabytes is a rarity.
const MAX_STRING_BYTES: u64 = 256 << 20;
/// All strings of one table of contents together.
const MAX_TOC_BYTES: u64 = 1 << 30;
/// How large the pieces of a block of data are that we write.
const PIECE_BYTES: usize = 64 << 10;
/// The largest piece that is read; `pg_dump` writes 16 KiB.
const MAX_PIECE_BYTES: u64 = 16 << 20;

/// When an object is restored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Section {
    /// With what it belongs to.
    None = 1,
    /// Before the rows.
    PreData = 2,
    /// The rows.
    Data = 3,
    /// After the rows.
    PostData = 4,
}

/// One object in an archive.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Its number in the archive.
    pub id: i32,
    /// Whether a block of data belongs to it.
    pub has_data: bool,
    /// The oid of the catalogue that it stands in; `0` where there is none.
    pub catalogue_oid: Vec<u8>,
    /// Its oid where it was dumped.
    pub oid: Vec<u8>,
    /// Its name, for some kinds with that of its table before it.
    pub tag: Vec<u8>,
    /// What it is: `TABLE`, `FK CONSTRAINT`, `ACL`, …
    pub kind: Vec<u8>,
    /// When it is restored.
    pub section: Section,
    /// The statements that make it.
    pub definition: Vec<u8>,
    /// The statement that drops it.
    pub drop: Vec<u8>,
    /// The statement that its rows follow.
    pub copy: Option<Vec<u8>>,
    /// Its schema.
    pub schema: Option<Vec<u8>>,
    /// Its tablespace.
    pub tablespace: Option<Vec<u8>>,
    /// Its access method.
    pub access_method: Option<Vec<u8>>,
    /// What kind of relation, as the catalogue has it.
    pub relation_kind: i32,
    /// Its owner.
    pub owner: Vec<u8>,
    /// The numbers of what must be there before it.
    pub needs: Vec<i32>,
}

impl Entry {
    /// An entry of our own, with neither owner nor schema.
    pub fn new(id: i32, kind: &str, tag: &str, section: Section) -> Entry {
        Entry {
            id,
            has_data: false,
            catalogue_oid: b"0".to_vec(),
            oid: b"0".to_vec(),
            tag: tag.as_bytes().to_vec(),
            kind: kind.as_bytes().to_vec(),
            section,
            definition: Vec::new(),
            drop: Vec::new(),
            copy: None,
            schema: None,
            tablespace: None,
            access_method: None,
            relation_kind: 0,
            owner: Vec::new(),
            needs: Vec::new(),
        }
    }

    /// Whether it is of a kind.
    pub fn is(&self, kind: &str) -> bool {
        self.kind == kind.as_bytes()
    }

    /// Kind and name for messages and lists.
    pub fn label(&self) -> String {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        match &self.schema {
            Some(schema) if !schema.is_empty() => {
                format!("{} {}.{}", text(&self.kind), text(schema), text(&self.tag))
            }
            _ => format!("{} {}", text(&self.kind), text(&self.tag)),
        }
    }
}

/// An archive without its data.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Archive {
    /// The version of the format; the major one is 1.
    pub minor: u8,
    /// The revision of the format.
    pub revision: u8,
    /// Bytes of an integer, 1 to 8.
    pub integer_bytes: u8,
    /// Bytes of an offset, 1 to 8.
    pub offset_bytes: u8,
    /// Whether blocks of data are compressed.
    pub compressed: bool,
    /// When it was made: second, minute, hour, day, month - 1, year - 1900, daylight saving.
    pub made: [i32; 7],
    /// The database.
    pub database: Vec<u8>,
    /// The version of its server.
    pub server_version: Vec<u8>,
    /// The version of the program that dumped it.
    pub program_version: Vec<u8>,
    /// What it holds.
    pub entries: Vec<Entry>,
}

impl Archive {
    /// An archive of nothing, in the format of PostgreSQL 12 to 15.
    pub fn empty() -> Archive {
        Archive {
            minor: 14,
            revision: 0,
            integer_bytes: 4,
            offset_bytes: 8,
            compressed: false,
            made: [0; 7],
            database: Vec::new(),
            server_version: Vec::new(),
            program_version: Vec::new(),
            entries: Vec::new(),
        }
    }

    /// The same with other entries.
    pub fn with_entries(&self, entries: Vec<Entry>) -> Archive {
        Archive {
            entries,
            database: self.database.clone(),
            server_version: self.server_version.clone(),
            program_version: self.program_version.clone(),
            ..*self
        }
    }

    /// Reads head and table of contents; the reader stands at the first block of data afterwards.
    pub fn read(input: &mut dyn Read) -> io::Result<Archive> {
        let mut head = [0; 11];
        input.read_exact(&mut head).map_err(|_| bad("it is shorter than the head of a custom-format archive"))?;
        let [.., major, minor, revision, integer_bytes, offset_bytes, format] = head;
        if &head[..5] != MAGIC {
            return Err(bad("it does not begin with PGDMP"));
        }
        if major != 1 || !(OLDEST_MINOR..=NEWEST_MINOR).contains(&minor) {
            return Err(bad(&format!(
                "version {major}.{minor} of the archive format is unknown: use a newer keepstone"
            )));
        }
        if format != CUSTOM || !(1..=8).contains(&integer_bytes) || !(1..=8).contains(&offset_bytes) {
            return Err(bad("it is not an archive in custom format"));
        }
        let mut input = Input { input, minor, integer_bytes, offset_bytes, left_bytes: MAX_TOC_BYTES };
        let compressed = if minor >= 15 { input.byte()? != 0 } else { input.integer()? != 0 };
        let mut made = [0; 7];
        for part in &mut made {
            *part = input.integer()?;
        }
        let (database, server_version, program_version) = (input.text()?, input.text()?, input.text()?);
        let count = input.integer()?;
        let mut entries = Vec::new();
        for _ in 0..count {
            entries.push(input.entry()?);
        }
        Ok(Archive {
            minor,
            revision,
            integer_bytes,
            offset_bytes,
            compressed,
            made,
            database,
            server_version,
            program_version,
            entries,
        })
    }

    /// Writes head and table of contents.
    pub fn write(&self, out: &mut dyn Write) -> io::Result<()> {
        out.write_all(MAGIC)?;
        out.write_all(&[1, self.minor, self.revision, self.integer_bytes, self.offset_bytes, CUSTOM])?;
        if self.minor >= 15 {
            out.write_all(&[u8::from(self.compressed)])?;
        } else {
            self.integer(i64::from(self.compressed), out)?;
        }
        for part in self.made {
            self.integer(i64::from(part), out)?;
        }
        for text in [&self.database, &self.server_version, &self.program_version] {
            self.string(Some(text), out)?;
        }
        self.integer(self.entries.len() as i64, out)?;
        self.entries.iter().try_for_each(|entry| self.write_entry(entry, out))
    }

    fn write_entry(&self, entry: &Entry, out: &mut dyn Write) -> io::Result<()> {
        self.integer(i64::from(entry.id), out)?;
        self.integer(i64::from(entry.has_data), out)?;
        for text in [&entry.catalogue_oid, &entry.oid, &entry.tag, &entry.kind] {
            self.string(Some(text), out)?;
        }
        self.integer(entry.section as i64, out)?;
        self.string(Some(&entry.definition), out)?;
        self.string(Some(&entry.drop), out)?;
        for text in [&entry.copy, &entry.schema, &entry.tablespace] {
            self.string(text.as_deref(), out)?;
        }
        if self.minor >= 14 {
            self.string(entry.access_method.as_deref(), out)?;
        }
        if self.minor >= 16 {
            self.integer(i64::from(entry.relation_kind), out)?;
        }
        self.string(Some(&entry.owner), out)?;
        self.string(Some(b"false"), out)?;
        for need in &entry.needs {
            self.string(Some(need.to_string().as_bytes()), out)?;
        }
        self.string(None, out)?;
        // Whoever writes to a pipe cannot come back to fill in offsets; readers look for the block then.
        out.write_all(&[if entry.has_data { 1 } else { 3 }])?;
        out.write_all(&[0; 8][..usize::from(self.offset_bytes)])
    }

    /// Writes an integer.
    pub fn integer(&self, number: i64, out: &mut dyn Write) -> io::Result<()> {
        out.write_all(&[u8::from(number < 0)])?;
        out.write_all(&number.unsigned_abs().to_le_bytes()[..usize::from(self.integer_bytes)])
    }

    fn string(&self, text: Option<&[u8]>, out: &mut dyn Write) -> io::Result<()> {
        match text {
            None => self.integer(-1, out),
            Some(text) => {
                self.integer(text.len() as i64, out)?;
                out.write_all(text)
            }
        }
    }

    /// Writes a block of rows: what `rows` gives, then `after`. Answers with the bytes that `rows` gave.
    pub fn write_rows(&self, id: i32, rows: &mut dyn Read, after: &[u8], out: &mut dyn Write) -> io::Result<u64> {
        out.write_all(&[1])?;
        self.integer(i64::from(id), out)?;
        let mut piece = vec![0; PIECE_BYTES];
        let mut bytes = 0;
        loop {
            let count = rows.read(&mut piece)?;
            if count == 0 {
                break;
            }
            bytes += count as u64;
            self.integer(count as i64, out)?;
            out.write_all(&piece[..count])?;
        }
        self.integer(after.len() as i64, out)?;
        out.write_all(after)?;
        self.integer(0, out)?;
        Ok(bytes)
    }

    /// Reads all blocks of large objects behind this archive's table of contents. `each` hears of the number of an entry,
    /// then of an object's oid with its pieces, then of the object with none.
    pub fn objects(&self, from: &mut dyn Read, each: &mut EachPiece<'_>) -> io::Result<()> {
        if self.compressed {
            return Err(bad("its data is compressed: only archives made with -Z0 can be taken apart"));
        }
        let (minor, integer_bytes, offset_bytes) = (self.minor, self.integer_bytes, self.offset_bytes);
        let mut input = Input { input: from, minor, integer_bytes, offset_bytes, left_bytes: u64::MAX };
        while let Some(kind) = input.byte_or_end()? {
            if kind != 3 {
                return Err(bad(&format!("a block of kind {kind} stands where large objects should")));
            }
            each(Piece::Entry(input.integer()?))?;
            loop {
                let oid = input.integer()?;
                if oid == 0 {
                    each(Piece::End)?;
                    break;
                }
                while let Some(bytes) = input.piece()? {
                    each(Piece::Bytes(oid.cast_unsigned(), &bytes))?;
                }
                each(Piece::Bytes(oid.cast_unsigned(), &[]))?;
            }
        }
        Ok(())
    }

    /// Copies all blocks of large objects behind this archive's table of contents, `from`, to `out`, an archive whose head
    /// is `to`; `number` gives the new number of an entry. Answers with the bytes of the objects.
    pub fn copy_objects(
        &self,
        from: &mut dyn Read,
        to: &Archive,
        number: &dyn Fn(i32) -> i32,
        out: &mut dyn Write,
    ) -> io::Result<u64> {
        let mut copied = 0;
        // The object whose pieces are being written.
        let mut open = None;
        self.objects(from, &mut |piece| match piece {
            Piece::Entry(entry) => {
                out.write_all(&[3])?;
                to.integer(i64::from(number(entry)), out)
            }
            Piece::Bytes(oid, bytes) => {
                if open.is_none() {
                    open = Some(oid);
                    to.integer(i64::from(oid.cast_signed()), out)?;
                }
                to.integer(bytes.len() as i64, out)?;
                if bytes.is_empty() {
                    open = None;
                }
                copied += bytes.len() as u64;
                out.write_all(bytes)
            }
            Piece::End => to.integer(0, out),
        })?;
        Ok(copied)
    }
}

/// A piece of a block of large objects.
pub enum Piece<'p> {
    /// A block begins: the number of its entry.
    Entry(i32),
    /// Bytes of the object with an oid; none where it ends.
    Bytes(u32, &'p [u8]),
    /// The block ends.
    End,
}

/// Takes pieces one by one; an error ends the reading.
pub type EachPiece<'e> = dyn FnMut(Piece<'_>) -> io::Result<()> + 'e;

fn bad(reason: &str) -> io::Error {
    io::Error::new(ErrorKind::InvalidData, reason.to_owned())
}

/// Bytes of an archive.
struct Input<'r> {
    input: &'r mut dyn Read,
    minor: u8,
    integer_bytes: u8,
    offset_bytes: u8,
    /// How much strings may still take.
    left_bytes: u64,
}

impl Input<'_> {
    fn byte(&mut self) -> io::Result<u8> {
        self.byte_or_end()?.ok_or_else(|| bad("it ends too early"))
    }

    fn byte_or_end(&mut self) -> io::Result<Option<u8>> {
        let mut byte = [0];
        loop {
            match self.input.read(&mut byte) {
                Ok(count) => return Ok((count == 1).then_some(byte[0])),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }

    fn integer(&mut self) -> io::Result<i32> {
        let negative = self.byte()? != 0;
        let mut bytes = [0; 8];
        let bytes_used = &mut bytes[..usize::from(self.integer_bytes)];
        self.input.read_exact(bytes_used).map_err(ended)?;
        let number = i64::try_from(u64::from_le_bytes(bytes)).ok().filter(|number| *number <= i64::from(u32::MAX));
        let number = number.ok_or_else(|| bad("a number in it is too large"))?;
        // Oids go up to 2^32 and stand there as the integer of the same bits.
        Ok(if negative { (-number) as i32 } else { number as i32 })
    }

    fn string(&mut self) -> io::Result<Option<Vec<u8>>> {
        let Ok(length) = u64::try_from(self.integer()?) else { return Ok(None) };
        if length > MAX_STRING_BYTES || length > self.left_bytes {
            return Err(bad(&format!("a text in it has {length} bytes, which is too much")));
        }
        self.left_bytes -= length;
        let mut text = Vec::new();
        // Grows with what comes, not with what is promised.
        Read::take(&mut *self.input, length).read_to_end(&mut text)?;
        if (text.len() as u64) < length {
            return Err(bad("it ends in the middle of a text"));
        }
        Ok(Some(text))
    }

    /// The next piece of data, or none where it ends.
    fn piece(&mut self) -> io::Result<Option<Vec<u8>>> {
        let Ok(length @ 1..) = u64::try_from(self.integer()?) else { return Ok(None) };
        if length > MAX_PIECE_BYTES {
            return Err(bad(&format!("a piece of its data has {length} bytes, which is too much")));
        }
        let mut bytes = Vec::new();
        Read::take(&mut *self.input, length).read_to_end(&mut bytes)?;
        if (bytes.len() as u64) < length {
            return Err(bad("it ends in the middle of its data"));
        }
        Ok(Some(bytes))
    }

    fn text(&mut self) -> io::Result<Vec<u8>> {
        Ok(self.string()?.unwrap_or_default())
    }

    fn entry(&mut self) -> io::Result<Entry> {
        let id = self.integer()?;
        let has_data = self.integer()? != 0;
        let (catalogue_oid, oid, tag, kind) = (self.text()?, self.text()?, self.text()?, self.text()?);
        let section = match self.integer()? {
            1 => Section::None,
            2 => Section::PreData,
            3 => Section::Data,
            4 => Section::PostData,
            other => return Err(bad(&format!("an entry of it is in section {other}, which is unknown"))),
        };
        let (definition, drop, copy) = (self.text()?, self.text()?, self.string()?);
        let (schema, tablespace) = (self.string()?, self.string()?);
        let access_method = if self.minor >= 14 { self.string()? } else { None };
        let relation_kind = if self.minor >= 16 { self.integer()? } else { 0 };
        let (owner, _with_oids) = (self.text()?, self.string()?);
        let mut needs = Vec::new();
        while let Some(text) = self.string()? {
            let number = std::str::from_utf8(&text).ok().and_then(|text| text.parse().ok());
            needs.push(number.ok_or_else(|| bad("a dependency in it is no number"))?);
        }
        let mut offset = [0; 9];
        self.input.read_exact(&mut offset[..=usize::from(self.offset_bytes)]).map_err(ended)?;
        Ok(Entry {
            id,
            has_data,
            catalogue_oid,
            oid,
            tag,
            kind,
            section,
            definition,
            drop,
            copy,
            schema,
            tablespace,
            access_method,
            relation_kind,
            owner,
            needs,
        })
    }
}

fn ended(error: io::Error) -> io::Error {
    if error.kind() == ErrorKind::UnexpectedEof { bad("it ends too early") } else { error }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn archive(minor: u8) -> Archive {
        let mut table = Entry::new(7, "TABLE", "odd\nname", Section::PreData);
        table.schema = Some(b"public".to_vec());
        table.owner = b"ann".to_vec();
        table.definition = b"CREATE TABLE x ();\n".to_vec();
        table.needs = vec![3, 1_000_000];
        if minor >= 14 {
            table.access_method = Some(b"heap".to_vec());
        }
        let mut rows = Entry::new(9, "TABLE DATA", "odd\nname", Section::Data);
        rows.has_data = true;
        rows.copy = Some(b"COPY x FROM stdin;\n".to_vec());
        Archive {
            minor,
            revision: 0,
            integer_bytes: 4,
            offset_bytes: 8,
            compressed: false,
            made: [1, 2, 3, 4, 5, 126, 0],
            database: b"shop".to_vec(),
            server_version: b"15.18".to_vec(),
            program_version: b"15.18".to_vec(),
            entries: vec![table, rows],
        }
    }

    #[test]
    fn an_archive_of_every_version_comes_back() {
        for minor in OLDEST_MINOR..=NEWEST_MINOR {
            let mut bytes = Vec::new();
            archive(minor).write(&mut bytes).unwrap();
            let mut rest = &bytes[..];
            assert_eq!(Archive::read(&mut rest).unwrap(), archive(minor), "1.{minor}");
            assert!(rest.is_empty());
        }
    }

    #[test]
    fn a_damaged_archive_is_an_error_and_takes_no_more_memory_than_it_has_bytes() {
        let mut bytes = Vec::new();
        archive(14).write(&mut bytes).unwrap();
        for length in 0..bytes.len() {
            assert!(Archive::read(&mut &bytes[..length]).is_err(), "{length} of {} bytes were enough", bytes.len());
        }
        for at in 0..bytes.len() {
            let mut bytes = bytes.clone();
            bytes[at] ^= 0x7f;
            // Whatever comes, it comes back.
            let _ = Archive::read(&mut &bytes[..]);
        }
    }

    #[test]
    fn rows_and_large_objects_are_written_in_blocks() {
        let archive = archive(14);
        let mut bytes = Vec::new();
        assert_eq!(archive.write_rows(9, &mut &b"1\t2\n"[..], b"\\.\n", &mut bytes).unwrap(), 4);
        assert_eq!(bytes[..6], [1, 0, 9, 0, 0, 0]);
        assert_eq!(bytes[6..15], [0, 4, 0, 0, 0, b'1', b'\t', b'2', b'\n']);
        assert_eq!(bytes[bytes.len() - 5..], [0, 0, 0, 0, 0]);

        let block =
            [&[3, 0, 5, 0, 0, 0][..], &[0, 1, 0, 0, 0xf0], &[0, 2, 0, 0, 0, b'h', b'i'], &[0; 5], &[0; 5]].concat();
        let mut copied = Vec::new();
        let count = archive.copy_objects(&mut &block[..], &archive, &|id| id + 1, &mut copied).unwrap();
        assert_eq!(count, 2);
        assert_eq!(copied[2], 6);
        assert_eq!(copied.len(), block.len());
        assert!(archive.copy_objects(&mut &block[..9], &archive, &|id| id, &mut Vec::new()).is_err());
    }
}
