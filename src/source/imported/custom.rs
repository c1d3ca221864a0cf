//! Archives in custom format: head, table of contents, then blocks of data.
//!
//! ```text
//! block: 1 (data) or 3 (large objects), id of its entry, chunks
//! chunks: length, bytes; …; length 0          large objects: oid, chunks; …; oid 0
//! ```
//!
//! Nothing marks the end of the file. An archive that was cut between two blocks is found out by its table of contents.

use super::report::{Complaint, Compression, DumpReport, Format, Tables};
use super::rows::Rows;
use super::toc::{Contents, DataEntry, Method, TocReader, Whereabouts};
use flate2::{Decompress, FlushDecompress, Status};

const OUTPUT_BYTES: usize = 32 << 10;

/// What comes next after the table of contents.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    Contents,
    Block,
    Id { objects: bool },
    Object,
    Length { objects: bool },
    Bytes { left: u64, objects: bool },
}

/// Inspects an archive.
pub struct Custom {
    toc: TocReader,
    place: Place,
    block_at: u64,
    block: Option<Block>,
    blocks_beyond: u64,
    tables: Tables,
    complaint: Option<Complaint>,
}

/// The data that is being read.
struct Block {
    id: i64,
    table: Option<String>,
    rows: Option<Rows>,
    unpack: Option<Unpack>,
}

/// A zlib stream.
struct Unpack {
    inflate: Decompress,
    output: Box<[u8]>,
    ended: bool,
}

impl Custom {
    /// An inspection from the first byte on.
    pub fn new() -> Custom {
        Custom {
            toc: TocReader::default(),
            place: Place::Contents,
            block_at: 0,
            block: None,
            blocks_beyond: 0,
            tables: Tables::default(),
            complaint: None,
        }
    }

    /// Takes the next bytes.
    pub fn push(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() && self.complaint.is_none() {
            if let Err(complaint) = self.step(&mut bytes) {
                self.complaint = Some(complaint);
            }
        }
    }

    fn step(&mut self, bytes: &mut &[u8]) -> Result<(), Complaint> {
        let values = &mut self.toc.values;
        match self.place {
            Place::Contents => {
                if self.toc.push(bytes)? {
                    self.place = Place::Block;
                }
            }
            Place::Block => {
                self.block_at = values.position;
                match values.byte(bytes) {
                    Some(1) => self.place = Place::Id { objects: false },
                    Some(3) => self.place = Place::Id { objects: true },
                    Some(kind) => {
                        let reason = format!("at byte {} a block of the unknown kind {kind} begins", self.block_at);
                        return Err(Complaint::damaged(reason));
                    }
                    None => {}
                }
            }
            Place::Id { objects } => {
                if let Some(id) = values.int(bytes) {
                    self.begin_block(id)?;
                    self.place = if objects { Place::Object } else { Place::Length { objects } };
                }
            }
            Place::Object => match values.int(bytes) {
                Some(0) => self.end_block()?,
                Some(_) => self.place = Place::Length { objects: true },
                None => {}
            },
            Place::Length { objects } => {
                if let Some(length) = values.int(bytes) {
                    self.chunk(length, objects)?;
                }
            }
            Place::Bytes { left, objects } => {
                let used = usize::try_from(left).unwrap_or(usize::MAX).min(bytes.len());
                let (now, later) = bytes.split_at(used);
                values.position += used as u64;
                *bytes = later;
                let left = left - used as u64;
                self.place = if left == 0 { Place::Length { objects } } else { Place::Bytes { left, objects } };
                if let Some(block) = &mut self.block {
                    block.push(now)?;
                }
            }
        }
        Ok(())
    }

    fn chunk(&mut self, length: i64, objects: bool) -> Result<(), Complaint> {
        self.place = match u64::try_from(length) {
            Ok(0) if objects => Place::Object,
            Ok(0) => return self.end_block(),
            Ok(left) => Place::Bytes { left, objects },
            Err(_) => {
                let reason = format!("at byte {} a piece has the length {length}", self.toc.values.position);
                return Err(Complaint::damaged(reason));
            }
        };
        Ok(())
    }

    fn begin_block(&mut self, id: i64) -> Result<(), Complaint> {
        let contents = &mut self.toc.contents;
        let Some(entry) = contents.data.get_mut(&id) else {
            if contents.data_beyond > self.blocks_beyond {
                self.blocks_beyond += 1;
                self.block = Some(Block { id, table: None, rows: None, unpack: None });
                return Ok(());
            }
            let reason = format!("at byte {} data begins that its table of contents does not name", self.block_at);
            return Err(Complaint::damaged(reason));
        };
        if let Whereabouts::Offset(Some(offset)) = entry.whereabouts
            && offset != self.block_at
        {
            let reason =
                format!("{} begins at byte {} where its table of contents says {offset}", named(entry), self.block_at);
            return Err(Complaint::damaged(reason));
        }
        let countable = entry.table.is_some() && matches!(contents.method, Method::None | Method::Gzip);
        let unpack = (countable && contents.method == Method::Gzip).then(Unpack::new);
        let rows = countable.then(|| Rows::of(entry.copy));
        self.block = Some(Block { id, table: entry.table.clone(), rows, unpack });
        Ok(())
    }

    fn end_block(&mut self) -> Result<(), Complaint> {
        self.place = Place::Block;
        let Some(block) = self.block.take() else { return Ok(()) };
        let table = block.table.clone();
        let rows = block.finish(&mut self.toc.contents).map_err(|complaint| match &table {
            Some(table) => Complaint { reason: format!("{table}: {}", complaint.reason), ..complaint },
            None => complaint,
        })?;
        if let Some(table) = table {
            self.tables.count(table, rows);
        }
        Ok(())
    }

    /// What was found, after the last byte.
    pub fn finish(mut self) -> DumpReport {
        let contents = &self.toc.contents;
        let mut report = report_of(contents, Format::PostgresCustom);
        if self.complaint.is_none() {
            self.complaint = self.cut(contents);
        }
        self.complaint.into_iter().for_each(|complaint| report.complain(complaint));
        let mut tables = self.tables;
        contents.tables.iter().for_each(|table| tables.add(table.clone()));
        report.count(tables);
        report
    }

    /// What is missing at the end, if anything.
    fn cut(&self, contents: &Contents) -> Option<Complaint> {
        match (self.place, &self.block) {
            (Place::Contents, _) => Some(Complaint::truncated("it ends in its table of contents")),
            (Place::Block, _) => {
                let unseen = contents.data.values().find(|entry| !entry.seen);
                let missing = contents.data.values().filter(|entry| !entry.seen).count();
                let beyond = contents.data_beyond.saturating_sub(self.blocks_beyond);
                let entry = unseen?;
                let others = missing as u64 + beyond - 1;
                let others = if others > 0 { format!(" and {others} more") } else { String::new() };
                Some(Complaint::truncated(format!("{}{others} is missing at its end", named(entry))))
            }
            (_, Some(Block { table: Some(table), .. })) => {
                Some(Complaint::truncated(format!("it ends in the rows of {table}")))
            }
            _ => Some(Complaint::truncated("it ends in the middle of its data")),
        }
    }
}

fn named(entry: &DataEntry) -> String {
    match &entry.table {
        Some(table) => format!("the data of {table}"),
        None => "the data of large objects".to_owned(),
    }
}

/// What the head says.
pub fn report_of(contents: &Contents, format: Format) -> DumpReport {
    let named = |product: &str, version: &str| match version {
        "" => String::new(),
        version => format!("{product} {version}"),
    };
    let mut report = DumpReport {
        tool: named("pg_dump", &contents.tool),
        server: named("PostgreSQL", &contents.server),
        database: contents.database.clone(),
        compression: Compression { around: None, within: contents.method.name() },
        ..DumpReport::of(format)
    };
    if let Method::Lz4 | Method::Zstd = contents.method {
        let name = contents.method.name().unwrap_or_default();
        report.notes.push(format!("its rows could not be counted, since they are compressed with {name}"));
    }
    if contents.data.is_empty() && contents.tables.is_empty() {
        report.notes.push("there is no table in it".to_owned());
    }
    report
}

impl Block {
    fn push(&mut self, bytes: &[u8]) -> Result<(), Complaint> {
        let Some(rows) = &mut self.rows else { return Ok(()) };
        match &mut self.unpack {
            None => rows.push(bytes),
            Some(unpack) => unpack.push(bytes, rows)?,
        }
        Ok(())
    }

    fn finish(self, contents: &mut Contents) -> Result<Option<u64>, Complaint> {
        if let Some(entry) = contents.data.get_mut(&self.id) {
            entry.seen = true;
        }
        if self.unpack.is_some_and(|unpack| !unpack.ended) {
            return Err(Complaint::truncated("its compressed rows end too early"));
        }
        self.rows.map(Rows::finish).transpose()
    }
}

impl Unpack {
    fn new() -> Unpack {
        Unpack { inflate: Decompress::new(true), output: vec![0; OUTPUT_BYTES].into_boxed_slice(), ended: false }
    }

    fn push(&mut self, mut bytes: &[u8], rows: &mut Rows) -> Result<(), Complaint> {
        while !self.ended {
            let (read, written) = (self.inflate.total_in(), self.inflate.total_out());
            let status = self.inflate.decompress(bytes, &mut self.output, FlushDecompress::None);
            let status = status.map_err(|_| Complaint::damaged("its compressed rows cannot be unpacked"))?;
            let read = (self.inflate.total_in() - read) as usize;
            let written = (self.inflate.total_out() - written) as usize;
            bytes = &bytes[read..];
            rows.push(&self.output[..written]);
            self.ended = status == Status::StreamEnd;
            if read == 0 && written == 0 {
                break;
            }
        }
        Ok(())
    }
}
