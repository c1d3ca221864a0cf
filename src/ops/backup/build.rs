//! Building the new snapshot's trees out of the walk's steps, in order.
//!
//! While a directory is as it was in the parent, nothing is encoded: only the number of its nodes is counted. At the
//! first difference the nodes so far are taken from the parent's tree. A directory that stays as it was to its end
//! keeps its tree.

use super::content::FileContent;
use super::gather::Dumped;
use super::imported::Imported;
use super::read::{Message, Namer, Results, Seen, Small, Smalls};
use super::sources::Walked;
use super::stream;
use super::walk::{Step, node_of};
use crate::base::budget::Permit;
use crate::base::{BlobId, Event, Kind, Monitor, Pace, Problem, Stop};
use crate::format::snapshot::{ImportedDump, MAX_PROBLEMS, Stream, Totals};
use crate::format::tree::{Node, NodeKind};
use crate::repo::blob_reader::BlobReader;
use crate::repo::blob_writer::{BlobWriter, Counters, Hint, Next, PutChunk};
use crate::repo::index::{Claim, Index, Marks};
use crate::repo::trees::{Nodes, PutBlob, TreeBuilder};
use crate::repo::{Error as RepoError, Keyring};
use crate::source::files::{Accounts, Entry};
use std::os::unix::ffi::OsStrExt;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::Receiver;

use super::super::{Error, Result};

/// Where new blobs go.
pub enum Sink {
    /// Into the repository.
    Real(Box<BlobWriter>),
    /// Nowhere: they are only counted.
    Dry(Dry),
}

/// Counts what would be new.
pub struct Dry {
    /// Says what is known.
    pub index: Arc<Index>,
    /// Names trees.
    pub keyring: Arc<Keyring>,
    /// What would be new.
    pub counters: Arc<Counters>,
}

impl Sink {
    /// Bytes of trees and lists that were new so far.
    fn metadata_new(&self) -> u64 {
        let counters = match self {
            Sink::Real(writer) => writer.counters(),
            Sink::Dry(dry) => &dry.counters,
        };
        counters.metadata_new.load(Ordering::Relaxed)
    }

    pub(super) fn put_chunk(
        &mut self,
        id: BlobId,
        bytes: &[u8],
        marks: Marks,
        hint: Hint<'_>,
    ) -> Result<PutChunk, RepoError> {
        match self {
            Sink::Real(writer) => writer.put_chunk(id, bytes, marks, hint),
            Sink::Dry(dry) => {
                let new = dry.index.claim(&id)? == Claim::Yours;
                if new {
                    dry.counters.data_new.fetch_add(bytes.len() as u64, Ordering::Relaxed);
                }
                Ok(PutChunk { new, next: Next::Unknown })
            }
        }
    }
}

impl PutBlob for Sink {
    fn put(&mut self, kind: crate::format::pack::BlobKind, bytes: Vec<u8>) -> Result<BlobId, RepoError> {
        match self {
            Sink::Real(writer) => writer.put(kind, bytes),
            Sink::Dry(dry) => {
                let id = dry.keyring.naming().blob_id(&bytes);
                if dry.index.claim(&id)? == Claim::Yours {
                    dry.counters.metadata_new.fetch_add(bytes.len() as u64, Ordering::Relaxed);
                }
                Ok(id)
            }
        }
    }
}

/// A directory in the making.
struct Open {
    node: Option<Node>,
    before: Option<Box<Node>>,
    /// The tree in the parent.
    tree: Option<BlobId>,
    /// So many nodes are as they were, and no other node has come yet.
    same: Option<u64>,
    builder: TreeBuilder,
    /// Bytes of files that were read, lie in the tree itself and are not in the parent at the same place.
    inline_bytes: u64,
}

impl Open {
    fn new(node: Option<Node>, before: Option<Box<Node>>, tree: Option<BlobId>) -> Open {
        Open { node, before, tree, same: tree.map(|_| 0), builder: TreeBuilder::new(), inline_bytes: 0 }
    }
}

/// Builds the trees of a snapshot.
pub struct Builder<'a> {
    /// Where blobs go.
    pub sink: Sink,
    /// Reads the parent's trees and lists.
    pub reader: BlobReader,
    /// Names of owners.
    pub accounts: Accounts,
    /// Cuts and names streams.
    pub namer: Arc<Namer>,
    /// The sources, for streams.
    pub sources: &'a [Walked],
    /// Looks on.
    pub monitor: &'a dyn Monitor,
    /// Asks to stop.
    pub stop: &'a Stop,
    /// Lets work stand still while the machine is busy. Here all of it comes together, and whoever reads ahead of it fills
    /// his channel and waits.
    pub pace: &'a Pace,
    /// The time of streams' nodes.
    pub now_ns: i64,
    /// What was found.
    pub found: Found,
    open: Vec<Open>,
    current: Option<Current>,
}

/// What a build found.
#[derive(Default)]
pub struct Found {
    /// Counts of what was found.
    pub totals: Option<Totals>,
    /// Files that are as they were in the parent.
    pub unchanged_files: u64,
    /// What could not be read; at most [`MAX_PROBLEMS`].
    pub problems: Vec<Problem>,
    /// How many problems there were.
    pub problem_count: u64,
    /// Directories that could not be listed: there, and nothing in them was read.
    pub unlisted: u64,
    /// Parts of the parent that could not be read; at most [`MAX_PROBLEMS`].
    pub damages: Vec<Problem>,
    /// Streams that ended well, and commands that failed.
    pub streams: Vec<Stream>,
    /// Dumps that ended well.
    pub dumps: Vec<Dumped>,
    /// Bytes of small files and streams that lie in trees which were not there before.
    pub inline_new: u64,
    /// Nodes of sources and what is in them.
    pub nodes: u64,
    /// Files that are dumps, while they are found.
    pub imported: Imported,
    /// Files that are dumps, when all is found.
    pub imported_dumps: Vec<ImportedDump>,
    /// How often a database was tried again.
    pub source_retries: u64,
}

/// The small files of a job that are still to come, and the content of all of them.
struct Contents {
    files: std::vec::IntoIter<std::result::Result<Small, Problem>>,
    data: Vec<u8>,
    _permit: Permit,
}

impl Contents {
    fn new(smalls: Smalls, permit: Permit) -> Contents {
        Contents { files: smalls.files.into_iter(), data: smalls.data, _permit: permit }
    }
}

/// The job whose results come next.
struct Current {
    results: Results,
    small: Option<Contents>,
}

impl<'a> Builder<'a> {
    /// A builder with nothing in it yet.
    pub fn new(
        sink: Sink,
        reader: BlobReader,
        namer: Arc<Namer>,
        sources: &'a [Walked],
        monitor: &'a dyn Monitor,
        (stop, pace): (&'a Stop, &'a Pace),
        now_ns: i64,
    ) -> Builder<'a> {
        let accounts = Accounts::of_this_machine();
        let found = Found { totals: Some(super::no_totals()), ..Found::default() };
        let (open, current) = (Vec::new(), None);
        Builder { sink, reader, accounts, namer, sources, monitor, stop, pace, now_ns, found, open, current }
    }

    /// Follows all steps; gives the tree of `/`.
    pub fn build(&mut self, steps: &Receiver<Vec<Step>>, root_before: Option<BlobId>) -> Result<BlobId> {
        self.open.push(Open::new(None, None, root_before));
        for step in steps.iter().flatten() {
            self.pace.wait(self.stop);
            if self.stop.raised() {
                return Err(Error::Interrupted);
            }
            self.follow(step)?;
        }
        if self.stop.raised() {
            return Err(Error::Interrupted);
        }
        let (dumps, problems) = std::mem::take(&mut self.found.imported).finish();
        self.found.imported_dumps = dumps;
        problems.into_iter().for_each(|problem| self.problem(problem));
        let top = self.open.pop().expect("pushed above");
        if !self.open.is_empty() {
            return Err(RepoError::Internal("the walk ended early".to_owned()).into());
        }
        self.close(top).map(|(tree, _)| tree)
    }

    pub(super) fn totals(&mut self) -> &mut Totals {
        self.found.totals.get_or_insert_with(super::no_totals)
    }

    fn follow(&mut self, step: Step) -> Result<()> {
        match step {
            Step::Enter(node, before) => {
                let tree = before.as_ref().and_then(|before| before.tree);
                self.open.push(Open::new(Some(*node), before, tree));
                Ok(())
            }
            Step::Node(node, same) => self.ready(*node, same),
            Step::Gathered(node, same) => self.add(&node, same),
            Step::Job(results) => {
                self.current = Some(Current { results, small: None });
                Ok(())
            }
            Step::File(entry, before) => self.file(&entry, before),
            Step::Stream(number, name, before) => self.stream(number, &name, before),
            Step::Imported(dump) => {
                let problem = self.found.imported.kept(*dump);
                problem.into_iter().for_each(|problem| self.problem(problem));
                Ok(())
            }
            Step::Removed => self.differs(),
            Step::Leave => self.leave(),
            Step::Unlisted(problem) => {
                self.found.unlisted += 1;
                self.problem(problem);
                self.differs()
            }
            Step::Damage(problem) => {
                self.monitor.event(Event::Problem(&problem));
                if self.found.damages.len() < MAX_PROBLEMS {
                    self.found.damages.push(problem);
                }
                Ok(())
            }
            Step::Problem(problem) => {
                self.problem(problem);
                self.differs()
            }
        }
    }

    pub(super) fn problem(&mut self, problem: Problem) {
        self.monitor.event(Event::Problem(&problem));
        self.found.problem_count += 1;
        if self.found.problems.len() < MAX_PROBLEMS {
            self.found.problems.push(problem);
        }
    }

    fn ready(&mut self, node: Node, same: bool) -> Result<()> {
        let bytes = node.size;
        match node.kind {
            NodeKind::File => {
                self.totals().files += 1;
                add(&mut self.totals().bytes, bytes);
                self.found.unchanged_files += u64::from(same);
            }
            _ => self.totals().others += 1,
        }
        self.monitor.event(Event::Done { items: 1, bytes });
        self.found.nodes += 1;
        self.add(&node, same)
    }

    /// Adds a node to the directory that is open.
    fn add(&mut self, node: &Node, same: bool) -> Result<()> {
        if same && let Some(Open { same: Some(count), .. }) = self.open.last_mut() {
            *count += 1;
            return Ok(());
        }
        self.differs()?;
        let open = self.open.last_mut().expect("the top is open until the end");
        add_to(&mut open.builder, node, &self.accounts, &mut self.sink)
    }

    /// The open directory is not as it was: its nodes so far are taken from the parent.
    fn differs(&mut self) -> Result<()> {
        let open = self.open.last_mut().expect("the top is open until the end");
        let (Some(count), Some(tree)) = (open.same.take(), open.tree) else { return Ok(()) };
        if count == 0 {
            return Ok(());
        }
        let mut nodes = Nodes::open(tree, &mut self.reader)?;
        for _ in 0..count {
            let node = nodes.next(&mut self.reader)?;
            let node = node.ok_or_else(|| RepoError::Internal("the parent's tree has changed".to_owned()))?;
            add_to(&mut open.builder, &node, &self.accounts, &mut self.sink)?;
        }
        Ok(())
    }

    fn leave(&mut self) -> Result<()> {
        let open = self.open.pop().expect("a directory is left after it was entered");
        let (tree, done) = self.close(open)?;
        let Some((mut node, before)) = done else { return Ok(()) };
        node.tree = Some(tree);
        let same = before.is_some_and(|before| *before == node);
        self.totals().directories += 1;
        self.found.nodes += 1;
        self.monitor.event(Event::Done { items: 1, bytes: 0 });
        self.add(&node, same)
    }

    /// The tree of a directory, and its node with that in the parent.
    #[allow(clippy::type_complexity)]
    fn close(&mut self, open: Open) -> Result<(BlobId, Option<(Node, Option<Box<Node>>)>)> {
        let tree = match (open.same, open.tree) {
            (Some(_), Some(tree)) => tree,
            _ => {
                let before = self.sink.metadata_new();
                let tree = open.builder.finish(&mut self.sink)?;
                // Its last piece names all others, so it is new if any of them is.
                if self.sink.metadata_new() > before {
                    add(&mut self.found.inline_new, open.inline_bytes);
                }
                tree
            }
        };
        Ok((tree, open.node.map(|node| (node, open.before))))
    }

    fn file(&mut self, entry: &Entry, before: Option<Box<Node>>) -> Result<()> {
        let lost = || RepoError::Internal("a reader ended early".to_owned());
        let current = self.current.as_mut().ok_or_else(lost)?;
        let mut contents = match current.small.take() {
            Some(contents) => contents,
            None => match current.results.recv().map_err(|_| lost())? {
                Message::Small(smalls, permit) => Contents::new(smalls, permit),
                first => return self.large(entry, first, before),
            },
        };
        let small = contents.files.next().ok_or_else(lost)?;
        match small {
            Ok(small) => self.small(entry, small, &contents.data, before)?,
            Err(problem) => self.unreadable(problem)?,
        }
        match &mut self.current {
            Some(current) if contents.files.len() > 0 => current.small = Some(contents),
            _ => self.namer.take_back(contents.data),
        }
        Ok(())
    }

    fn unreadable(&mut self, problem: Problem) -> Result<()> {
        self.monitor.event(Event::Done { items: 1, bytes: 0 });
        self.problem(problem);
        self.differs()
    }

    fn small(&mut self, entry: &Entry, mut small: Small, data: &[u8], before: Option<Box<Node>>) -> Result<()> {
        self.dump(entry, &mut small.seen);
        let mut node = self.read_node(entry, &small.seen);
        if small.chunks.is_empty() {
            node.inline.0 = data[small.content].to_vec();
            if before.as_ref().is_none_or(|before| before.inline != node.inline) {
                let open = self.open.last_mut().expect("the top is open until the end");
                open.inline_bytes += node.inline.0.len() as u64;
            }
        } else {
            let mut content = FileContent::begin(before.as_deref());
            for (range, named) in small.chunks {
                content.chunk(&data[range], named, &mut self.sink, &mut self.reader)?;
            }
            content.finish(&mut node, &mut self.sink)?;
        }
        self.finish_file(node, before)
    }

    fn large(&mut self, entry: &Entry, first: Message, before: Option<Box<Node>>) -> Result<()> {
        let Some(current) = self.current.take() else { return Ok(()) };
        let mut content = FileContent::begin(before.as_deref());
        let mut message = first;
        let seen = loop {
            match message {
                Message::Chunk(data, named) => {
                    content.chunk(&data, named, &mut self.sink, &mut self.reader)?;
                    self.monitor.event(Event::Done { items: 0, bytes: data.len() as u64 });
                    self.namer.chunks.give(data);
                }
                Message::Hole(bytes) => content.hole(bytes, &mut self.sink)?,
                Message::End(seen) => break *seen,
                Message::Small(..) => return Err(RepoError::Internal("a reader mixed up its jobs".to_owned()).into()),
            }
            if self.stop.raised() {
                return Err(Error::Interrupted);
            }
            let lost = |_| RepoError::Internal("a reader ended early".to_owned());
            message = current.results.recv().map_err(lost)?;
        };
        match seen {
            Ok(mut seen) => {
                self.dump(entry, &mut seen);
                let mut node = self.read_node(entry, &seen);
                content.finish(&mut node, &mut self.sink)?;
                self.finish_file(node, before)
            }
            Err(problem) => self.unreadable(problem),
        }
    }

    /// Takes note of a file that is a dump.
    fn dump(&mut self, entry: &Entry, seen: &mut Seen) {
        let Some(report) = seen.dump.take() else { return };
        let problem = self.found.imported.found(entry.path().as_os_str().as_bytes(), *report);
        problem.into_iter().for_each(|problem| self.problem(problem));
    }

    fn read_node(&mut self, entry: &Entry, seen: &Seen) -> Node {
        add(&mut self.totals().bytes_read, seen.bytes);
        let mut node = node_of(&seen.meta, entry.name(), &seen.xattrs, &[]);
        node.size = seen.bytes;
        node.changed = seen.changed;
        if seen.changed {
            let path = entry.path();
            let message = format!("{} changed while it was read: its content may be a mixture", path.display());
            self.problem(Problem::at(path, message, Kind::Source));
        }
        node
    }

    fn finish_file(&mut self, node: Node, before: Option<Box<Node>>) -> Result<()> {
        match before {
            // Read because its times could not be trusted, and found the same.
            Some(before) if *before == node => self.found.unchanged_files += 1,
            Some(_) => self.totals().files_changed += 1,
            None => self.totals().files_new += 1,
        }
        self.totals().files += 1;
        add(&mut self.totals().bytes, node.size);
        self.found.nodes += 1;
        let bytes = if node.inline.0.is_empty() && node.chunks.0.len() > 1 { 0 } else { node.size };
        self.monitor.event(Event::Done { items: 1, bytes });
        self.add(&node, false)
    }

    /// Reads a stream from its process to its end. A stream that does not end well fails the run: half a dump is no
    /// dump.
    fn stream(&mut self, number: usize, name: &[u8], before: Option<Box<Node>>) -> Result<()> {
        let Walked::Stream(_, kind) = &self.sources[number] else { return Ok(()) };
        let mut node = stream::node(name, self.now_ns);
        let mut content = FileContent::begin(before.as_deref());
        let mut start = Some(self.namer.stream_start("stream", name));
        let (namer, sink, reader, monitor, stop) =
            (self.namer.clone(), &mut self.sink, &mut self.reader, self.monitor, self.stop);
        let mut failed = None;
        let ended = stream::read(kind, stop, |input| {
            let read = namer.stream(input, &mut start, &mut Vec::new(), &mut |data, named| {
                monitor.event(Event::Done { items: 0, bytes: data.len() as u64 });
                failed = content.chunk(data, named, sink, reader).err();
                failed.is_none() && !stop.raised()
            });
            // What cannot be stored need not be waited for.
            if failed.is_some() { Err(std::io::Error::other("it could not be stored")) } else { read }
        });
        if let Some(error) = failed {
            return Err(error);
        }
        if self.stop.raised() {
            return Err(Error::Interrupted);
        }
        let mut stream = ended?;
        if let Some(said) = stream::said(&stream.errors) {
            let command = stream.command.first().map(|word| String::from_utf8_lossy(&word.0)).unwrap_or_default();
            monitor.event(Event::Note(&format!("{command} said: {said}")));
        }
        stream.path.0 = [b"/", name].concat();
        node.size = stream.bytes;
        add(&mut self.totals().bytes_read, stream.bytes);
        self.found.streams.push(stream);
        content.finish(&mut node, &mut self.sink)?;
        self.finish_file(node, before)
    }
}

/// Sparse files may come to more bytes than there are numbers.
fn add(sum: &mut u64, bytes: u64) {
    *sum = sum.saturating_add(bytes);
}

/// Adds a node with the names of its owners.
pub(super) fn add_to(builder: &mut TreeBuilder, node: &Node, accounts: &Accounts, sink: &mut Sink) -> Result<()> {
    let user = accounts.user_name(node.uid).unwrap_or_default();
    let group = accounts.group_name(node.gid).unwrap_or_default();
    Ok(builder.add(node, user.as_bytes(), group.as_bytes(), sink)?)
}
