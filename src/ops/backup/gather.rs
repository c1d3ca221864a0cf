//! What comes from databases and commands, gathered into directories of the snapshot.
//!
//! Chunks of several streams come mixed, in whatever order they were read; each stream has its own list and its own
//! namesake in an earlier snapshot. A stream that ended well becomes a node that is kept in memory, small, until its
//! source has ended; then the source's directory is built and only its node is kept. What came of a source that failed
//! is let go: its blobs are stored and are used again by the next attempt or the next night.

use super::build::{Builder, add_to};
use super::content::FileContent;
use super::feed::{Ending, Failure, Fed, Message, Origin, StreamId};
use super::parent::Seen;
use super::read::Named;
use super::stream;
use crate::base::{BlobId, Event, Kind, Problem};
use crate::crypto::names::fold_digits;
use crate::format::cbor::{Bytes, Unknown};
use crate::format::dump::{MANIFEST_NAME, Manifest, Table};
use crate::format::run::MAX_TABLES;
use crate::format::snapshot::Dump;
use crate::format::tree::{Node, NodeKind};
use crate::repo::Error as RepoError;
use crate::repo::trees::{TreeBuilder, find};
use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::mpsc::Receiver;

use super::super::browse::components;
use super::super::walk::{Step, Walk, show};
use super::super::{Error, Result};

/// Chunks that lie in the node of a stream; longer lists lie outside, so that the nodes of some thousand large tables
/// take a few MiB.
const NODE_CHUNKS: usize = 32;
/// The most streams of an earlier dump that are remembered because they are gone.
const GONE_STREAMS: usize = 10_000;

/// Damages of earlier snapshots that are told.
const MAX_DAMAGES: usize = 20;

/// A dump that ended well.
#[derive(Clone, Debug)]
pub struct Dumped {
    /// What the snapshot says of it.
    pub record: Dump,
    /// Bytes of its content that had not been stored before, all attempts together.
    pub new_bytes: u64,
    /// Streams that are as they were.
    pub unchanged: u64,
    /// All streams, the manifest not counted.
    pub streams: u64,
    /// Its tables, the largest of them.
    pub tables: Vec<TableSize>,
}

/// A table and what it holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TableSize {
    /// Its name, with its schema where it has one.
    pub name: String,
    /// Rows, exactly.
    pub rows: u64,
    /// Bytes of the rows.
    pub bytes: u64,
}

/// The tables of a dump, the largest of them.
fn tables_of(manifest: &Manifest) -> Vec<TableSize> {
    let name = |table: &Table| match table.schema.as_str() {
        "" => table.name.clone(),
        schema => format!("{schema}.{}", table.name),
    };
    let size = |table: &Table| TableSize { name: name(table), rows: table.rows, bytes: table.bytes };
    let mut tables: Vec<TableSize> = manifest.tables.iter().map(size).collect();
    tables.sort_by(|one, other| (other.bytes, &one.name).cmp(&(one.bytes, &other.name)));
    tables.truncate(MAX_TABLES);
    tables
}

/// How a stream differs from what it was.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Change {
    New,
    Changed,
    Same,
}

/// A directory in the making.
#[derive(Default)]
struct Folder(BTreeMap<Vec<u8>, Item>);

enum Item {
    File(Box<Node>, Change),
    Folder(Folder),
    /// A directory that is complete and counted.
    Built(Box<Node>),
}

impl Folder {
    fn put(&mut self, path: &[u8], item: Item) {
        match path.iter().position(|byte| *byte == b'/') {
            None => drop(self.0.insert(path.to_vec(), item)),
            Some(slash) => {
                let within = self.0.entry(path[..slash].to_vec()).or_insert_with(|| Item::Folder(Folder::default()));
                // Paths were checked: no stream is the directory of another.
                if let Item::Folder(folder) = within {
                    folder.put(&path[slash + 1..], item);
                }
            }
        }
    }

    fn file(&self, path: &[u8]) -> Option<(&Node, Change)> {
        let (name, rest) = match path.iter().position(|byte| *byte == b'/') {
            None => (path, None),
            Some(slash) => (&path[..slash], Some(&path[slash + 1..])),
        };
        match (self.0.get(name)?, rest) {
            (Item::Folder(folder), Some(rest)) => folder.file(rest),
            (Item::File(node, change), None) => Some((node, *change)),
            _ => None,
        }
    }
}

/// What came of one source so far.
#[derive(Default)]
struct Part {
    paths: Vec<String>,
    folder: Folder,
    new_bytes: u64,
    /// Streams of the earlier dump that are gone, by their paths without digits.
    gone: Option<HashMap<Vec<u8>, Vec<u8>>>,
}

impl Part {
    fn path(&self, stream: usize) -> &str {
        self.paths.get(stream).map_or(MANIFEST_NAME, String::as_str)
    }
}

/// A stream that is being read.
struct Open {
    content: FileContent,
    before: Option<Node>,
}

/// Takes all that comes and gives the directories for the top of the snapshot, in the order of their names. `seen` says
/// where each source lay in an earlier snapshot, `root_before` is the parent's.
pub fn gather(
    builder: &mut Builder<'_>,
    fed: &[Fed],
    seen: &[Option<Seen>],
    root_before: Option<BlobId>,
    messages: Receiver<Message>,
) -> Result<Vec<Node>> {
    let parts = fed.iter().map(|_| Part::default()).collect();
    let (open, top) = (HashMap::new(), Folder::default());
    let mut gather = Gather { builder, fed, seen, parts, open, top, ended: 0 };
    for message in messages {
        gather.builder.pace.wait(gather.builder.stop);
        gather.take(message)?;
        if gather.builder.stop.raised() {
            return Err(Error::Interrupted);
        }
    }
    if gather.ended < fed.len() {
        return Err(match gather.builder.stop.raised() {
            true => Error::Interrupted,
            false => RepoError::Internal("a thread that read a database or a command ended early".to_owned()).into(),
        });
    }
    gather.finish(root_before)
}

struct Gather<'g, 'a> {
    builder: &'g mut Builder<'a>,
    fed: &'g [Fed],
    seen: &'g [Option<Seen>],
    parts: Vec<Part>,
    open: HashMap<StreamId, Open>,
    top: Folder,
    ended: usize,
}

impl Gather<'_, '_> {
    fn take(&mut self, message: Message) -> Result<()> {
        match message {
            Message::Begin(source, paths) => {
                self.let_go(source);
                self.parts[source].paths = paths;
                Ok(())
            }
            Message::Chunk(id, data, named) => {
                self.chunk(id, &data, named)?;
                self.builder.namer.chunks.give(data);
                Ok(())
            }
            Message::End(id, bytes, inline) => self.end(id, bytes, inline),
            Message::Ended(source, ending) => {
                self.ended += 1;
                match ending {
                    Ok(Ending::Dump(manifest)) => self.dump(source, &manifest),
                    Ok(Ending::Command(stream)) => self.command(source, *stream),
                    Err(failure) => self.failed(source, failure),
                }
            }
        }
    }

    /// Forgets what an attempt has brought.
    fn let_go(&mut self, source: usize) {
        self.open.retain(|id, _| id.source != source);
        self.parts[source].folder = Folder::default();
    }

    fn open(&mut self, id: StreamId) -> Open {
        let before = self.before(id);
        Open { content: FileContent::begin_small(before.as_ref(), NODE_CHUNKS), before }
    }

    fn chunk(&mut self, id: StreamId, data: &[u8], named: Named) -> Result<()> {
        let mut open = match self.open.remove(&id) {
            Some(open) => open,
            None => self.open(id),
        };
        let (sink, reader) = (&mut self.builder.sink, &mut self.builder.reader);
        if open.content.chunk(data, named, sink, reader)? {
            self.parts[id.source].new_bytes += data.len() as u64;
        }
        self.builder.totals().bytes_read += data.len() as u64;
        self.open.insert(id, open);
        Ok(())
    }

    fn end(&mut self, id: StreamId, bytes: u64, inline: Vec<u8>) -> Result<()> {
        let Open { content, before } = match self.open.remove(&id) {
            Some(open) => open,
            None => self.open(id),
        };
        let path = self.parts[id.source].path(id.stream).as_bytes().to_vec();
        let name = path.rsplit(|byte| *byte == b'/').next().unwrap_or(&path);
        let mut node = stream::node(name, self.builder.now_ns);
        node.size = bytes;
        self.builder.totals().bytes_read += inline.len() as u64;
        node.inline.0 = inline;
        content.finish(&mut node, &mut self.builder.sink)?;
        let (node, change) = match before {
            // Nothing says when it changed last but that it did not change tonight.
            Some(before) if is_same(&before, &node) => (before, Change::Same),
            Some(_) => (node, Change::Changed),
            None => (node, Change::New),
        };
        if change != Change::Same {
            self.builder.found.inline_new += node.inline.0.len() as u64;
        }
        self.parts[id.source].folder.put(&path, Item::File(Box::new(node), change));
        self.builder.monitor.event(Event::Done { items: 1, bytes: 0 });
        Ok(())
    }

    /// A dump has ended. What its manifest says of its streams must be what came.
    fn dump(&mut self, source: usize, manifest: &Manifest) -> Result<()> {
        let fed = &self.fed[source];
        let part = std::mem::take(&mut self.parts[source]);
        if let Some(why) = differs(manifest, &part) {
            let message = format!("{} was not backed up: {why}", fed.label());
            return self.failed(source, Failure { message, stream: None, interrupted: false });
        }
        let streams = || part.paths.iter().filter_map(|path| part.folder.file(path.as_bytes()));
        let unchanged = streams().filter(|(_, change)| *change == Change::Same).count() as u64;
        let (place, root) = (fed.place(), self.seen[source].as_ref().map(|seen| seen.root));
        // Where it lay before may have had another name.
        let before = self.seen[source].as_ref().map(|seen| seen.path.clone());
        let node = self.directory(part.folder, fed.name.as_bytes(), root, &before.unwrap_or_else(|| place.clone()))?;
        self.top.put(&place[1..], Item::Built(Box::new(node)));
        self.builder.found.dumps.push(Dumped {
            record: record_of(place, manifest),
            new_bytes: part.new_bytes,
            unchanged,
            streams: part.paths.len() as u64,
            tables: tables_of(manifest),
        });
        Ok(())
    }

    fn command(&mut self, source: usize, stream: crate::format::snapshot::Stream) -> Result<()> {
        let fed = &self.fed[source];
        let part = std::mem::take(&mut self.parts[source]);
        let file = part.folder.0.into_values().next();
        let file = file.ok_or_else(|| RepoError::Internal("a command ended without its stream".to_owned()))?;
        self.top.put(&fed.place()[1..], file);
        self.builder.found.streams.push(stream);
        Ok(())
    }

    fn failed(&mut self, source: usize, failure: Failure) -> Result<()> {
        if failure.interrupted {
            return Err(Error::Interrupted);
        }
        self.let_go(source);
        self.builder.found.streams.extend(failure.stream.map(|stream| *stream));
        self.builder.problem(Problem::new(self.fed[source].label(), failure.message, Kind::Source));
        Ok(())
    }

    /// The directories at the top of the snapshot.
    fn finish(mut self, root_before: Option<BlobId>) -> Result<Vec<Node>> {
        let found = &mut self.builder.found;
        found.dumps.sort_by(|one, other| one.record.path.0.cmp(&other.record.path.0));
        found.streams.sort_by(|one, other| one.path.0.cmp(&other.path.0));
        let top = std::mem::take(&mut self.top);
        let mut nodes = Vec::new();
        for (name, item) in top.0 {
            if let Item::Folder(folder) = item {
                nodes.push(self.directory(folder, &name, root_before, &name)?);
            }
        }
        Ok(nodes)
    }

    /// Builds a directory and counts what is in it. Beneath `root` it lay at `path`.
    fn directory(&mut self, folder: Folder, name: &[u8], root: Option<BlobId>, path: &[u8]) -> Result<Node> {
        let mut tree = TreeBuilder::new();
        for (name, item) in folder.0 {
            let node = match item {
                Item::File(node, change) => {
                    self.count(&node, change);
                    *node
                }
                Item::Folder(folder) => self.directory(folder, &name, root, &[path, b"/", &name].concat())?,
                Item::Built(node) => *node,
            };
            add_to(&mut tree, &node, &self.builder.accounts, &mut self.builder.sink)?;
        }
        let mut node = stream::directory(name, self.builder.now_ns);
        node.tree = Some(tree.finish(&mut self.builder.sink)?);
        self.builder.totals().directories += 1;
        let before = root.and_then(|root| self.find(root, path));
        Ok(before.filter(|before| is_same(before, &node)).unwrap_or(node))
    }

    fn count(&mut self, node: &Node, change: Change) {
        let totals = self.builder.totals();
        totals.files += 1;
        totals.bytes += node.size;
        match change {
            Change::New => totals.files_new += 1,
            Change::Changed => totals.files_changed += 1,
            Change::Same => self.builder.found.unchanged_files += 1,
        }
    }

    /// What the stream was in an earlier snapshot: what lay at its place, or else one that is gone and whose name
    /// differs in digits only.
    fn before(&mut self, id: StreamId) -> Option<Node> {
        let seen = self.seen[id.source].clone()?;
        let file = |node: Node| (node.kind == NodeKind::File).then_some(node);
        if let Origin::Command(_) = self.fed[id.source].origin {
            return self.find(seen.root, &seen.path).and_then(file);
        }
        let path = self.parts[id.source].path(id.stream).as_bytes().to_vec();
        let at = |path: &[u8]| [&seen.path, b"/".as_slice(), path].concat();
        if let Some(node) = self.find(seen.root, &at(&path)) {
            return file(node);
        }
        let namesake = self.gone(id.source, &seen).get(&fold_digits(&path))?.clone();
        self.find(seen.root, &at(&namesake)).and_then(file)
    }

    /// The streams of the earlier dump that are in this one no more, listed once.
    fn gone(&mut self, source: usize, seen: &Seen) -> &HashMap<Vec<u8>, Vec<u8>> {
        if self.parts[source].gone.is_none() {
            let gone = self.list_gone(source, seen).unwrap_or_default();
            self.parts[source].gone = Some(gone);
        }
        self.parts[source].gone.get_or_insert_default()
    }

    /// What cannot be read is no help, and no harm.
    fn list_gone(&mut self, source: usize, seen: &Seen) -> Option<HashMap<Vec<u8>, Vec<u8>>> {
        let tree = self.find(seen.root, &seen.path)?.tree?;
        let there: HashSet<&[u8]> = self.parts[source].paths.iter().map(|path| path.as_bytes()).collect();
        let reader = &mut self.builder.reader;
        let mut gone = HashMap::new();
        let mut walk = Walk::begin(tree, b"", reader).ok()?;
        while let Some(step) = walk.next(reader).ok()? {
            let Step::Entry(node) = step else { continue };
            let path = walk.path()[1..].to_vec();
            match node.tree {
                Some(tree) => walk.enter(tree, reader).ok()?,
                None if !there.contains(path.as_slice()) && gone.len() < GONE_STREAMS => {
                    gone.insert(fold_digits(&path), path);
                }
                None => {}
            }
        }
        Some(gone)
    }

    /// The node at a path beneath a root, if it is there and can be read.
    fn find(&mut self, root: BlobId, path: &[u8]) -> Option<Node> {
        let mut tree = Some(root);
        let mut found = None;
        for name in components(path) {
            let node = find(tree?, name, &mut self.builder.reader);
            let node = node.inspect_err(|error| self.cannot_read_past(path, error)).ok()??;
            tree = node.tree;
            found = Some(node);
        }
        found
    }

    /// An earlier snapshot that is damaged takes nothing from this one, but somebody should know.
    fn cannot_read_past(&mut self, path: &[u8], error: &RepoError) {
        let damages = &mut self.builder.found.damages;
        if matches!(error.kind(), Kind::Damaged | Kind::NotFound) && damages.len() < MAX_DAMAGES {
            let text = format!("cannot read {} of an earlier snapshot: {error}", show(path));
            let problem = Problem::new("an earlier snapshot", text, Kind::Damaged);
            self.builder.monitor.event(Event::Problem(&problem));
            damages.push(problem);
        }
    }
}

/// Whether nothing but times tells two nodes apart.
fn is_same(before: &Node, node: &Node) -> bool {
    let timeless = Node {
        mtime_ns: before.mtime_ns,
        ctime_after_ns: before.ctime_after_ns,
        unknown: before.unknown.clone(),
        ..node.clone()
    };
    timeless == *before
}

/// How what came differs from what the manifest says, if it does.
fn differs(manifest: &Manifest, part: &Part) -> Option<String> {
    for stream in &manifest.streams {
        let came = part.folder.file(stream.path.as_bytes()).map(|(node, _)| node.size);
        if came != Some(stream.bytes) {
            let came = came.map_or("nothing".to_owned(), |bytes| format!("{bytes} bytes"));
            let (path, bytes) = (&stream.path, stream.bytes);
            return Some(format!("its manifest says that {path} has {bytes} bytes, but {came} came of it"));
        }
    }
    let told: HashSet<&str> = manifest.streams.iter().map(|stream| stream.path.as_str()).collect();
    if let Some(silent) = part.paths.iter().find(|path| !told.contains(path.as_str())) {
        return Some(format!("its manifest does not say what {silent} is"));
    }
    let streams = manifest.tables.iter().filter_map(|table| table.stream.as_deref());
    let missing = streams.into_iter().find(|stream| !told.contains(stream))?;
    Some(format!("its manifest says that rows are in {missing}, which did not come"))
}

/// What the snapshot says of a dump.
fn record_of(place: Vec<u8>, manifest: &Manifest) -> Dump {
    Dump {
        path: Bytes(place),
        kind: manifest.kind.name().to_owned(),
        database: manifest.database.clone(),
        server: format!("{} {}", manifest.server.product, manifest.server.version).trim().to_owned(),
        identity: manifest.server.identity.clone(),
        tables: manifest.tables.len() as u64,
        rows: manifest.rows(),
        bytes: manifest.bytes(),
        taken_ns: manifest.taken_ns,
        unknown: Unknown::none(),
    }
}
