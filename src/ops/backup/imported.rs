//! Dumps among the files of a backup: what the readers found, what the parent snapshot knew, what both amount to.
//!
//! A dump in directory format is many files. What the readers say of each is put together here when all are known: its
//! table of contents names the others.

use crate::base::{Kind, Problem};
use crate::format::cbor::{Bytes, Unknown};
use crate::format::snapshot::{
    ImportedDump, ImportedTable, MAX_IMPORTED, MAX_IMPORTED_TABLES, MAX_TABLES_OF_ONE, Snapshot,
};
use crate::source::files::Entry;
use crate::source::imported::{
    Complaint, DumpReport, Format, State, TOC_NAME, TableRows, is_dump_name, is_objects_name, piece_name,
};
use std::collections::{BTreeMap, HashMap};
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// Files of dumps in directory format that are remembered, in all; a dump beyond is not judged.
const MAX_PIECES: usize = 200_000;

/// What the parent snapshot knew of dumps among its files.
#[derive(Default)]
pub struct Before {
    validated: bool,
    known: HashMap<Vec<u8>, ImportedDump>,
}

impl Before {
    /// That of a parent.
    pub fn of(parent: &Snapshot) -> Before {
        let known = parent.imported.iter().map(|dump| (dump.path.0.clone(), dump.clone()));
        Before { validated: parent.validated, known: known.collect() }
    }

    /// Whether a file must be read although it did not change: it may be a dump, or a part of one, and nobody looked.
    pub fn must_read(&self, entry: &Entry) -> bool {
        if is_part_name(entry.name()) {
            let folder = entry.path().parent().map(|folder| folder.as_os_str().as_bytes().to_vec());
            let known = folder.as_ref().is_some_and(|folder| self.known.contains_key(folder));
            return !known && entry.path().with_file_name("toc.dat").exists();
        }
        !self.validated && is_dump_name(entry.name())
    }

    /// What is known of a file that did not change.
    pub fn of_file(&self, entry: &Entry) -> Option<ImportedDump> {
        if self.known.is_empty() {
            return None;
        }
        let path = entry.path();
        let path = if entry.name() == TOC_NAME { path.parent()? } else { &path };
        self.known.get(path.as_os_str().as_bytes()).cloned()
    }
}

fn is_part_name(name: &[u8]) -> bool {
    name == TOC_NAME || piece_name(name).is_some() || is_objects_name(name)
}

/// Gathers what is found.
#[derive(Default)]
pub struct Imported {
    dumps: Vec<ImportedDump>,
    folders: BTreeMap<Vec<u8>, Folder>,
    pieces: usize,
    tables: usize,
}

/// What is known of a directory that may hold a dump.
#[derive(Default)]
struct Folder {
    toc: Option<DumpReport>,
    before: Option<ImportedDump>,
    pieces: BTreeMap<String, Piece>,
}

/// A file of a dump in directory format.
struct Piece {
    rows: Option<u64>,
    bytes: u64,
    compression: Option<&'static str>,
    complaint: Option<Complaint>,
    /// Files that it names: those of large objects.
    files: Vec<String>,
}

impl Imported {
    /// A file was read and is a dump, or a part of one.
    pub fn found(&mut self, path: &[u8], report: DumpReport) -> Option<Problem> {
        let (folder, name) = split(path);
        match report.format {
            Format::PostgresDirectory => self.folder(folder).toc = Some(report),
            Format::PostgresPiece if self.pieces < MAX_PIECES => {
                self.pieces += 1;
                let stem = piece_name(name).map_or(name, |(stem, _)| stem);
                let name = String::from_utf8_lossy(stem).into_owned();
                self.folder(folder).pieces.insert(name, Piece::of(report));
            }
            Format::PostgresPiece => {}
            _ => return self.add(record(path, report)),
        }
        None
    }

    /// A file did not change, and the parent knew it as a dump.
    pub fn kept(&mut self, dump: ImportedDump) -> Option<Problem> {
        if dump.kind == Format::PostgresDirectory.name() {
            let path = dump.path.0.clone();
            self.folder(&path).before = Some(dump);
            return None;
        }
        self.add(dump)
    }

    /// Puts together the dumps in directory format and gives all dumps, by path, with the problems that had not been
    /// told yet.
    pub fn finish(mut self) -> (Vec<ImportedDump>, Vec<Problem>) {
        let mut problems = Vec::new();
        for (path, folder) in std::mem::take(&mut self.folders) {
            let dump = folder.finish(&path);
            problems.extend(dump.and_then(|dump| self.add(dump)));
        }
        self.dumps.sort_by(|a, b| a.path.cmp(&b.path));
        (self.dumps, problems)
    }

    fn folder(&mut self, path: &[u8]) -> &mut Folder {
        self.folders.entry(path.to_vec()).or_default()
    }

    fn add(&mut self, mut dump: ImportedDump) -> Option<Problem> {
        let problem = problem(&dump);
        dump.tables.truncate(MAX_IMPORTED_TABLES.saturating_sub(self.tables));
        self.tables += dump.tables.len();
        // Those beyond are told if they are bad, and not named in the snapshot.
        if self.dumps.len() < MAX_IMPORTED {
            self.dumps.push(dump);
        }
        problem
    }
}

fn split(path: &[u8]) -> (&[u8], &[u8]) {
    match path.iter().rposition(|byte| *byte == b'/') {
        Some(at) => (&path[..at], &path[at + 1..]),
        None => (&[], path),
    }
}

/// A dump that cannot be counted on is a source that cannot be read, though its bytes are stored.
fn problem(dump: &ImportedDump) -> Option<Problem> {
    let bad = [State::Truncated, State::Damaged, State::Empty].iter().any(|state| state.name() == dump.state);
    let path = String::from_utf8_lossy(&dump.path.0).into_owned();
    let said = format!("{path} is a dump that is {}: {}; its bytes are stored, make it again", dump.state, dump.reason);
    bad.then(|| Problem::at(Path::new(OsStr::from_bytes(&dump.path.0)), said, Kind::Source))
}

fn record(path: &[u8], report: DumpReport) -> ImportedDump {
    let mut notes = report.notes;
    notes.extend(report.compression.advice(report.format));
    ImportedDump {
        path: Bytes(path.to_vec()),
        kind: report.format.name().to_owned(),
        tool: report.tool,
        server: report.server,
        database: report.database,
        state: report.state.name().to_owned(),
        reason: report.reason,
        bytes: report.bytes,
        compression: report.compression.name().to_owned(),
        tables: report.tables.into_iter().take(MAX_TABLES_OF_ONE).map(table).collect(),
        table_count: report.table_count,
        rows: report.rows,
        notes,
        unknown: Unknown::none(),
    }
}

fn table(table: TableRows) -> ImportedTable {
    ImportedTable { name: table.name, rows: table.rows, unknown: Unknown::none() }
}

impl Piece {
    /// Whether it can be nothing but the rows of a table that pg_dump wrote.
    fn holds_rows(&self, name: &str) -> bool {
        name.starts_with(|first: char| first.is_ascii_digit()) && self.complaint.is_none() && self.bytes > 2
    }

    fn of(report: DumpReport) -> Piece {
        let good = report.state == State::Complete;
        let files = report.pieces.into_iter().map(|piece| piece.file).collect();
        Piece {
            files,
            rows: good.then_some(report.rows),
            bytes: report.bytes,
            compression: report.compression.around,
            complaint: (!good).then_some(Complaint { state: report.state, reason: report.reason }),
        }
    }
}

impl Folder {
    /// What its files amount to; none if they are no dump.
    fn finish(self, path: &[u8]) -> Option<ImportedDump> {
        match (self.toc, self.before) {
            (Some(toc), before) => Some(whole(path, toc, &self.pieces, before.is_some())),
            (None, Some(before)) if self.pieces.is_empty() => Some(before),
            (None, Some(before)) => {
                let reason = "some of its files changed, but not all: back up with --force to look at all of them";
                Some(ImportedDump { state: State::Unchecked.name().to_owned(), reason: reason.to_owned(), ..before })
            }
            // The last thing that pg_dump writes is missing. Two line ends alone could be anything.
            (None, None) if self.pieces.iter().any(|(name, piece)| piece.holds_rows(name)) => {
                let mut report = DumpReport::of(Format::PostgresDirectory);
                report.bytes = self.pieces.values().map(|piece| piece.bytes).sum();
                report.complain(Complaint::truncated("its table of contents, toc.dat, is missing"));
                Some(record(path, report))
            }
            (None, None) => None,
        }
    }
}

/// Puts a table of contents and its files together.
fn whole(path: &[u8], mut toc: DumpReport, pieces: &BTreeMap<String, Piece>, known: bool) -> ImportedDump {
    let mut rows: HashMap<&str, Option<u64>> = HashMap::new();
    let mut named: Vec<(String, Option<String>)> =
        std::mem::take(&mut toc.pieces).into_iter().map(|piece| (piece.file, piece.table)).collect();
    let lists = named.iter().filter_map(|(file, _)| pieces.get(file)).flat_map(|piece| &piece.files);
    let objects: Vec<_> = lists.map(|file| (file.clone(), None)).collect();
    named.extend(objects);
    for (file, table) in &named {
        let Some(piece) = pieces.get(file) else {
            let missing = match known {
                true => Complaint::unchecked("some of its files did not change and were not read: use --force"),
                false => Complaint::truncated(format!("its file {file} is missing")),
            };
            toc.complain(missing);
            continue;
        };
        toc.bytes += piece.bytes;
        toc.compression.within = toc.compression.within.or(piece.compression);
        if let Some(complaint) = &piece.complaint {
            let reason = format!("{file}: {}", complaint.reason);
            toc.complain(Complaint { reason, ..complaint.clone() });
        }
        if let Some(table) = table {
            toc.rows += piece.rows.unwrap_or(0);
            rows.insert(table, piece.rows);
        }
    }
    for table in &mut toc.tables {
        table.rows = rows.get(table.name.as_str()).copied().unwrap_or(table.rows);
    }
    record(path, toc)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::source::imported::Piece as Named;

    fn toc() -> DumpReport {
        let mut toc = DumpReport::of(Format::PostgresDirectory);
        toc.tables = vec![TableRows { name: "public.orders".into(), rows: Some(0) }];
        toc.pieces = vec![Named { file: "8.dat".into(), table: Some("public.orders".into()) }];
        toc
    }

    fn piece(rows: u64) -> DumpReport {
        DumpReport { rows, bytes: 10, ..DumpReport::of(Format::PostgresPiece) }
    }

    #[test]
    fn a_dump_in_a_directory_is_one_dump_whatever_the_order_of_its_files() {
        let mut imported = Imported::default();
        assert_eq!(imported.found(b"/d/8.dat.gz", piece(3)), None);
        assert_eq!(imported.found(b"/d/toc.dat", toc()), None);
        assert_eq!(imported.found(b"/other/1.dat", DumpReport { bytes: 2, ..piece(0) }), None);
        let (dumps, problems) = imported.finish();
        assert!(problems.is_empty());
        assert_eq!(dumps.len(), 1);
        assert_eq!((dumps[0].path.0.as_slice(), dumps[0].rows, dumps[0].state.as_str()), (&b"/d"[..], 3, "complete"));
        assert_eq!(dumps[0].tables[0].rows, Some(3));
    }

    #[test]
    fn a_dump_in_a_directory_without_one_of_its_files_is_a_problem() {
        let mut imported = Imported::default();
        imported.found(b"/d/toc.dat", toc());
        let (dumps, problems) = imported.finish();
        assert_eq!((dumps[0].state.as_str(), problems.len()), ("truncated", 1));
        assert!(problems[0].message.contains("8.dat is missing"), "{problems:?}");
        let mut imported = Imported::default();
        imported.found(b"/d/8.dat", piece(3));
        let (_, problems) = imported.finish();
        assert!(problems[0].message.contains("toc.dat"), "{problems:?}");
    }

    #[test]
    fn a_large_object_that_is_missing_is_a_problem_and_files_that_only_look_so_are_not() {
        let mut toc = toc();
        toc.pieces.push(Named { file: "blobs.toc".into(), table: None });
        let mut list = piece(0);
        list.pieces = vec![Named { file: "blob_16413.dat".into(), table: None }];
        let mut imported = Imported::default();
        imported.found(b"/d/toc.dat", toc.clone());
        imported.found(b"/d/8.dat", piece(3));
        imported.found(b"/d/blobs.toc", list.clone());
        imported.found(b"/other/blob_1.dat", piece(0));
        let (dumps, problems) = imported.finish();
        assert_eq!((dumps.len(), problems.len()), (1, 1));
        assert!(problems[0].message.contains("blob_16413.dat is missing"), "{problems:?}");
        let mut imported = Imported::default();
        imported.found(b"/d/toc.dat", toc);
        imported.found(b"/d/8.dat", piece(3));
        imported.found(b"/d/blobs.toc", list);
        imported.found(b"/d/blob_16413.dat.gz", piece(0));
        let (dumps, problems) = imported.finish();
        assert!(problems.is_empty(), "{problems:?}");
        assert_eq!(dumps[0].bytes, 30);
    }

    #[test]
    fn what_is_wrong_with_a_file_that_did_not_change_is_told_again() {
        let mut report = DumpReport::of(Format::MysqlSql);
        report.complain(Complaint::truncated("it ends in a statement"));
        let mut imported = Imported::default();
        let first = imported.found(b"/shop.sql", report).unwrap();
        let (dumps, _) = imported.finish();
        let second = Imported::default().kept(dumps[0].clone());
        assert_eq!(second, Some(first));
    }
}
