//! Dumps of databases in snapshots: their manifests, their streams, and what changed from one night to another.
//!
//! A manifest is read whole, within [`MAX_MANIFEST_BYTES`]; streams are read on threads of their own, a few chunks
//! ahead of whoever takes them. Nothing here opens a session or verifies: that is the verb's to do first.

use super::browse::{self, normal, reader, repo_error};
use super::content::Content;
use super::walk::show;
use super::{Context, Error, Result};
use crate::base::{BlobId, Kind};
use crate::format::dump::{MANIFEST_NAME, MAX_MANIFEST_BYTES, Manifest, Table};
use crate::format::snapshot::Snapshot;
use crate::format::tree::{Node, NodeKind};
use crate::repo::blob_reader::BlobReader;
use crate::repo::index::Index;
use crate::repo::{self, Repository, trees};
use crate::target::dump::StoredDump;
use std::collections::BTreeMap;
use std::io::{self, Read};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, sync_channel};
use std::thread::{Builder, JoinHandle};

/// Decoded frames that the reader of one stream keeps.
const STREAM_FRAMES_BYTES: usize = 6 << 20;
/// How much of a stream is copied and handed over at once.
const AHEAD_PIECE_BYTES: usize = 256 << 10;
/// Pieces that may wait for whoever reads a stream.
const AHEAD_PIECES: usize = 4;

/// A dump in a snapshot.
#[derive(Clone, Debug)]
pub struct DumpEntry {
    /// Its directory: `/@postgres/NAME` or `/@mysql/NAME`.
    pub path: Vec<u8>,
    /// What it holds and promises.
    pub manifest: Manifest,
}

/// The dumps of a snapshot with their manifests, in the order of their paths.
pub fn dumps_of(context: &Context, snapshot: &Snapshot) -> Result<Vec<DumpEntry>> {
    let mut paths: Vec<Vec<u8>> = snapshot.dumps.iter().map(|dump| normal(&dump.path.0)).collect();
    paths.sort();
    let load = |path: Vec<u8>| Ok(DumpEntry { manifest: manifest_of(context, snapshot, &path)?, path });
    paths.into_iter().map(load).collect()
}

/// What a failure means to who brings a dump back: a tree or a chunk that the snapshot counts on and that is in no pack, or
/// whose pack is gone, is damage.
pub fn lost(error: Error) -> Error {
    match error {
        Error::Repo(error) if error.kind() == Kind::NotFound => repo::Error::damaged("the dump", error).into(),
        other => other,
    }
}

/// The manifest of the dump in the directory `path`.
pub fn manifest_of(context: &Context, snapshot: &Snapshot, path: &[u8]) -> Result<Manifest> {
    let path = [path, b"/", MANIFEST_NAME.as_bytes()].concat();
    let mut blobs = reader(context);
    let node = browse::resolve_with(&mut blobs, snapshot, &path)?;
    let object = || format!("{} in snapshot {}", show(&path), snapshot.id.short());
    if node.kind != NodeKind::File || node.size > MAX_MANIFEST_BYTES {
        let reason = format!("it is no file of at most {MAX_MANIFEST_BYTES} bytes");
        return Err(repo::Error::damaged(object(), reason).into());
    }
    let mut bytes = Vec::new();
    Content::of(&node, &mut blobs).read_to_end(&mut bytes).map_err(|error| match repo_error(error) {
        Ok(error) => Error::Repo(error),
        Err(source) => Error::Io { what: format!("read {}", object()), source },
    })?;
    Ok(Manifest::decode(&bytes).map_err(repo::Error::object(object()))?)
}

/// Opens the way to the streams of a dump.
pub fn stored(context: &Context, snapshot: &Snapshot, entry: DumpEntry) -> Result<StoredStreams> {
    let folder = browse::resolve(context, snapshot, &entry.path)?;
    let tree = folder.tree.ok_or_else(|| {
        let reason = "it is no directory, though the snapshot says that a dump lies there";
        repo::Error::damaged(format!("{} in snapshot {}", show(&entry.path), snapshot.id.short()), reason)
    })?;
    let (repository, index) = (context.repository.clone(), context.index.clone());
    Ok(StoredStreams { repository, index, path: entry.path, tree, manifest: entry.manifest })
}

/// The streams of a dump in a snapshot.
pub struct StoredStreams {
    repository: Arc<Repository>,
    index: Arc<Index>,
    path: Vec<u8>,
    tree: BlobId,
    manifest: Manifest,
}

impl StoredStreams {
    fn reader(&self) -> BlobReader {
        BlobReader::new(self.repository.clone(), self.index.clone(), STREAM_FRAMES_BYTES)
    }

    fn find(&self, path: &str, blobs: &mut BlobReader) -> io::Result<Node> {
        let missing = || {
            let place = show(&self.path);
            io::Error::new(io::ErrorKind::NotFound, format!("there is no stream {path} in the dump {place}"))
        };
        let mut at = Some(self.tree);
        let mut found = None;
        for name in path.split('/') {
            let tree = at.ok_or_else(missing)?;
            let node = trees::find(tree, name.as_bytes(), blobs).map_err(io::Error::other)?;
            at = node.as_ref().and_then(|node| node.tree);
            found = node;
        }
        found.filter(|node| node.kind == NodeKind::File).ok_or_else(missing)
    }
}

impl StoredDump for StoredStreams {
    fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    fn open(&self, path: &str) -> io::Result<Box<dyn Read + Send + '_>> {
        let mut blobs = self.reader();
        let node = self.find(path, &mut blobs)?;
        Ok(Box::new(Ahead::start(node, blobs)?))
    }
}

/// The bytes of a file, read ahead on a thread of its own.
struct Ahead {
    pieces: Option<Receiver<io::Result<Vec<u8>>>>,
    piece: Vec<u8>,
    at: usize,
    ended: bool,
    thread: Option<JoinHandle<()>>,
}

impl Ahead {
    fn start(node: Node, mut blobs: BlobReader) -> io::Result<Ahead> {
        let (sender, pieces) = sync_channel(AHEAD_PIECES);
        let read = move || {
            let mut content = Content::of(&node, &mut blobs);
            loop {
                let mut piece = vec![0; AHEAD_PIECE_BYTES];
                let read = fill(&mut content, &mut piece).map(|length| {
                    piece.truncate(length);
                    piece
                });
                let over = !matches!(&read, Ok(piece) if !piece.is_empty());
                // Whoever read may have seen enough.
                if sender.send(read).is_err() || over {
                    return;
                }
            }
        };
        let thread = Builder::new().name("stream-ahead".to_owned()).spawn(read)?;
        Ok(Ahead { pieces: Some(pieces), piece: Vec::new(), at: 0, ended: false, thread: Some(thread) })
    }
}

/// Reads until the piece is full or the content ends.
fn fill(content: &mut Content<'_>, piece: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    while filled < piece.len() {
        match content.read(&mut piece[filled..])? {
            0 => break,
            length => filled += length,
        }
    }
    Ok(filled)
}

impl Read for Ahead {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.at == self.piece.len() && !self.ended && !buffer.is_empty() {
            let lost = || io::Error::other("the thread that read the stream ended early");
            let pieces = self.pieces.as_ref().ok_or_else(lost)?;
            self.piece = pieces.recv().map_err(|_| lost())??;
            self.at = 0;
            self.ended = self.piece.is_empty();
        }
        let length = buffer.len().min(self.piece.len() - self.at);
        buffer[..length].copy_from_slice(&self.piece[self.at..self.at + length]);
        self.at += length;
        Ok(length)
    }
}

impl Drop for Ahead {
    fn drop(&mut self) {
        self.pieces = None;
        if let Some(thread) = self.thread.take() {
            // That it panicked was an error of the reader's.
            let _ = thread.join();
        }
    }
}

/// Rows and bytes of a table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Size {
    /// Rows.
    pub rows: u64,
    /// Bytes.
    pub bytes: u64,
}

/// A table that is not as it was.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TableChange {
    /// Its schema; empty where there is none.
    pub schema: String,
    /// Its name.
    pub name: String,
    /// What it was; none if it is new.
    pub before: Option<Size>,
    /// What it is; none if it is gone.
    pub after: Option<Size>,
}

impl TableChange {
    /// Whether rows and bytes are the same and only the checksum says that the content is not.
    pub fn is_same_size(&self) -> bool {
        self.before == self.after
    }

    /// How many rows there are more than before; negative if there are less.
    pub fn rows_more(&self) -> i128 {
        let rows = |size: &Option<Size>| size.map_or(0, |size| i128::from(size.rows));
        rows(&self.after) - rows(&self.before)
    }
}

/// A table before and after.
type Pair<'m> = (Option<&'m Table>, Option<&'m Table>);

/// The tables that differ between two dumps, in the order of their names.
pub fn compare(before: &Manifest, after: &Manifest) -> Vec<TableChange> {
    let mut pairs: BTreeMap<(&str, &str), Pair<'_>> = BTreeMap::new();
    for table in &before.tables {
        pairs.entry((&table.schema, &table.name)).or_default().0 = Some(table);
    }
    for table in &after.tables {
        pairs.entry((&table.schema, &table.name)).or_default().1 = Some(table);
    }
    let size = |table: Option<&Table>| table.map(|table| Size { rows: table.rows, bytes: table.bytes });
    let changes = pairs.into_iter().filter_map(|((schema, name), (before, after))| {
        let (old, new) = (size(before), size(after));
        let other_content = before.zip(after).is_some_and(|(before, after)| {
            before.checksum.is_some() && after.checksum.is_some() && before.checksum != after.checksum
        });
        let change = TableChange { schema: schema.to_owned(), name: name.to_owned(), before: old, after: new };
        (old != new || other_content).then_some(change)
    });
    changes.collect()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::format::dump::{DumpKind, VERSION};

    fn manifest(tables: &[(&str, u64, &str)]) -> Manifest {
        let table = |(name, rows, checksum): &(&str, u64, &str)| Table {
            name: (*name).to_owned(),
            rows: *rows,
            bytes: rows * 10,
            checksum: Some((*checksum).to_owned()),
            ..Table::default()
        };
        Manifest {
            version: VERSION,
            kind: DumpKind::Postgres,
            server: Default::default(),
            client: String::new(),
            database: "shop".to_owned(),
            properties: BTreeMap::new(),
            taken_ns: 0,
            ended_ns: 0,
            position: None,
            selection: Vec::new(),
            tables: tables.iter().map(table).collect(),
            sequences: Vec::new(),
            streams: Vec::new(),
            notes: Vec::new(),
            unknown: BTreeMap::new(),
        }
    }

    #[test]
    fn tables_that_came_went_or_changed_are_told_and_no_others() {
        let before = manifest(&[("a", 1, "x"), ("b", 2, "x"), ("c", 3, "x"), ("d", 4, "x")]);
        let after = manifest(&[("a", 1, "x"), ("b", 5, "y"), ("c", 3, "z"), ("e", 6, "x")]);
        let changes = compare(&before, &after);
        let told: Vec<_> =
            changes.iter().map(|change| (change.name.as_str(), change.rows_more(), change.is_same_size())).collect();
        assert_eq!(told, [("b", 3, false), ("c", 0, true), ("d", -4, false), ("e", 6, false)]);
        assert_eq!(changes[2].after, None);
        assert_eq!(compare(&after, &after), []);
    }
}
