//! The walk: scans the sources beside the parent snapshot and says, step by step, what the new snapshot holds.
//!
//! Steps go out in the order of the trees. What did not change goes out as the parent's own node; what must be read
//! goes to the readers, and its step names the place in the order where its content belongs. A step never goes out
//! after the job it waits for could have been handed out: announced first, handed out next, so nobody waits in a
//! circle.

use super::imported::Before as Imported;
use super::read::{Job, LARGE_PERMIT_BYTES, Message, Results, SMALL_BYTES, SMALL_PERMIT_BYTES, results};
use super::roots::{Way, join};
use super::sources::Walked;
use crate::base::stat::is_moved;
use crate::base::{Budget, Event, Kind, Monitor, Problem, Stop};
use crate::crypto::names::fold_digits;
use crate::format::cbor::{Bytes, Unknown};
use crate::format::meta::{EntryKind, Meta};
use crate::format::snapshot::ImportedDump;
use crate::format::tree::{Ids, Node, NodeKind, Xattr};
use crate::repo::blob_reader::BlobReader;
use crate::repo::trees::Nodes;
use crate::source::files::{Entry, Scan};
use std::collections::VecDeque;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::SyncSender;

/// Steps that go out together.
const STEPS: usize = 256;
/// Files of the parent that are gone and remembered, for each directory on the way.
const GONE_FILES: usize = 4;
/// Small files that are read together.
const GROUP_FILES: usize = 128;
/// Entries with a time that cannot be kept that are named; the rest are counted.
const NAMED_MOVED: u64 = 8;
/// What changed less than this before the parent's scan began is not trusted: its time stamp may be older than its
/// content.
const TRUST_NS: i64 = 2_000_000_000;

/// One step of the new snapshot.
pub enum Step {
    /// A directory begins. `before` is its node in the parent.
    Enter(Box<Node>, Option<Box<Node>>),
    /// A complete node; the flag says that it is the parent's own, at the parent's place.
    Node(Box<Node>, bool),
    /// A directory that was gathered from databases or commands, complete and counted; the flag as before.
    Gathered(Box<Node>, bool),
    /// Results of the next files come from here.
    Job(Results),
    /// A file whose content comes from the current job, and its node in the parent.
    File(Box<Entry>, Option<Box<Node>>),
    /// A stream that the builder reads itself, and its node in the parent.
    Stream(usize, Vec<u8>, Option<Box<Node>>),
    /// The next node did not change, and the parent knew it as a dump.
    Imported(Box<ImportedDump>),
    /// The parent had something here.
    Removed,
    /// The directory ends.
    Leave,
    /// Something could not be read.
    Problem(Problem),
    /// A directory that was entered could not be listed.
    Unlisted(Problem),
    /// A part of the parent could not be read.
    Damage(Problem),
}

/// The parent snapshot, as far as the walk needs it.
pub struct Parent {
    /// The tree of its `/`.
    pub root: crate::base::BlobId,
    /// When its scan began.
    pub begun_ns: i64,
    /// Reads its trees.
    pub reader: BlobReader,
    /// What it knew of dumps among its files; none if nobody asks.
    pub imported: Option<Arc<Imported>>,
}

/// Everything that a walk needs.
pub struct Walk {
    /// The sources, by number.
    pub sources: Vec<Walked>,
    /// The scan, and for each path among the sources its root.
    pub scan: Scan,
    /// The roots by source number; none for streams.
    pub roots: Vec<Option<Result<Entry, crate::source::files::Error>>>,
    /// Directories for the top that come from elsewhere, sorted by name.
    pub gathered: VecDeque<Node>,
    /// The parent.
    pub parent: Option<Parent>,
    /// Directories that are left out wherever they are met, by device and inode.
    pub own: Vec<(u64, u64)>,
    /// Inode numbers do not count.
    pub ignore_inode: bool,
    /// Change times of inodes do not count.
    pub ignore_ctime: bool,
    /// Where steps go.
    pub steps: SyncSender<Vec<Step>>,
    /// Where jobs go.
    pub jobs: SyncSender<Job>,
    /// Bytes that may be read ahead.
    pub budget: Budget,
    /// Looks on.
    pub monitor: Arc<dyn Monitor>,
    /// Asks to stop.
    pub stop: Stop,
}

/// The other side has gone; it knows why.
pub struct Gone;

struct Walker {
    walk: Walk,
    waiting: Vec<Step>,
    group: Vec<Entry>,
    group_bytes: usize,
    group_results: Option<SyncSender<Message>>,
    items: u64,
    bytes: u64,
    trusted_before_ns: i64,
    /// Entries with a time that cannot be kept.
    moved: u64,
}

/// The nodes of one directory of the parent, to be asked for in order.
struct Before {
    nodes: Option<Nodes>,
    next: Option<Node>,
    /// The newest of the files that are gone: one of them may be what a new file was called last night.
    gone: VecDeque<Node>,
}

/// Walks all of `ways`.
pub fn walk(walk: Walk, ways: &Way) -> Result<(), Gone> {
    let trusted_before_ns = walk.parent.as_ref().map_or(i64::MIN, |parent| parent.begun_ns - TRUST_NS);
    let root = walk.parent.as_ref().map(|parent| parent.root);
    let mut walker = Walker {
        walk,
        waiting: Vec::new(),
        group: Vec::new(),
        group_bytes: 0,
        group_results: None,
        items: 0,
        bytes: 0,
        trusted_before_ns,
        moved: 0,
    };
    walker.top(ways, root)?;
    walker.flush()?;
    walker.tell_total(true);
    walker.tell_moved();
    Ok(())
}

impl Walker {
    fn top(&mut self, ways: &Way, root: Option<crate::base::BlobId>) -> Result<(), Gone> {
        let gathered = std::mem::take(&mut self.walk.gathered);
        let number = match ways.source {
            None => return self.ways_beneath(ways, Path::new("/"), root, gathered),
            Some(number) => number,
        };
        match self.walk.roots[number].take() {
            Some(Ok(entry)) => self.listed(&entry, root, gathered, ways),
            Some(Err(error)) => {
                self.push(Step::Problem(error.problem()))?;
                self.ways_beneath(ways, Path::new("/"), root, gathered)
            }
            None => Ok(()),
        }
    }

    /// What was gathered and comes before `name`. Whether `name` itself is taken by it.
    fn gathered_before(
        &mut self,
        gathered: &mut VecDeque<Node>,
        name: Option<&[u8]>,
        before: &mut Before,
    ) -> Result<bool, Gone> {
        let mut taken = false;
        let comes = |node: &Node| name.is_none_or(|name| *node.name.0 <= *name);
        while !taken && gathered.front().is_some_and(comes) {
            let Some(node) = gathered.pop_front() else { break };
            taken = name == Some(&node.name.0);
            let old = self.take_before(before, &node.name.0)?;
            let same = old.is_some_and(|old| old == node);
            self.push(Step::Gathered(Box::new(node), same))?;
        }
        if let (true, Some(name)) = (taken, name) {
            let path = format!("/{}", String::from_utf8_lossy(name));
            let message = format!("{path} was not backed up: its place is that of databases and commands");
            self.push(Step::Problem(Problem::new(path, message, Kind::Source)))?;
        }
        Ok(taken)
    }

    /// A directory that is only on the way to sources.
    fn ways_beneath(
        &mut self,
        way: &Way,
        path: &Path,
        tree: Option<crate::base::BlobId>,
        mut gathered: VecDeque<Node>,
    ) -> Result<(), Gone> {
        let mut before = self.before(tree)?;
        for (name, way) in &way.beneath {
            self.way(name, way, path, &mut gathered, &mut before)?;
        }
        self.gathered_before(&mut gathered, None, &mut before)?;
        self.rest_is_removed(&mut before)
    }

    /// What lies at one name of a directory that is not listed, or that is left out of its listing.
    fn way(
        &mut self,
        name: &[u8],
        way: &Way,
        path: &Path,
        gathered: &mut VecDeque<Node>,
        before: &mut Before,
    ) -> Result<(), Gone> {
        if self.gathered_before(gathered, Some(name), before)? {
            return Ok(());
        }
        let old = self.take_before(before, name)?;
        let path = join(path, name);
        match way.source {
            Some(number) => {
                let namesake = if old.is_none() { before.namesake(name).cloned() } else { None };
                self.source(number, name, old, namesake, way)
            }
            None => {
                let Some(node) = self.node_on_the_way(&path, name)? else { return Ok(()) };
                let tree = old.as_ref().and_then(|old| old.tree);
                self.push(Step::Enter(Box::new(node), old.map(Box::new)))?;
                self.ways_beneath(way, &path, tree, VecDeque::new())?;
                self.push(Step::Leave)
            }
        }
    }

    fn node_on_the_way(&mut self, path: &PathBuf, name: &[u8]) -> Result<Option<Node>, Gone> {
        match std::fs::metadata(path) {
            Ok(metadata) => Ok(Some(node_of(&meta_of(&metadata), name, &[], &[]))),
            Err(error) => {
                let message = format!("cannot stat {}: {error}", path.display());
                self.push(Step::Problem(Problem::at(path, message, Kind::Source)))?;
                Ok(None)
            }
        }
    }

    fn source(
        &mut self,
        number: usize,
        name: &[u8],
        old: Option<Node>,
        namesake: Option<Node>,
        way: &Way,
    ) -> Result<(), Gone> {
        if let Walked::Stream(..) = self.walk.sources[number] {
            self.close_group()?;
            return self.push(Step::Stream(number, name.to_vec(), old.or(namesake).map(Box::new)));
        }
        match (self.walk.roots[number].take(), namesake) {
            (Some(Ok(entry)), Some(namesake)) if entry.meta.kind == EntryKind::File => {
                self.file_of_other_name(entry, namesake)
            }
            (Some(Ok(entry)), _) => self.entry(entry, old, way),
            (Some(Err(error)), _) => self.push(Step::Problem(error.problem())),
            (None, _) => Ok(()),
        }
    }

    /// What a listing has at a name at which, or beneath which, something was named besides. Mostly it is part of what
    /// is walked anyway; a directory of another file system is not where the walk stays on one.
    fn named_besides(&mut self, child: Entry, old: Option<Node>, way: &Way) -> Result<(), Gone> {
        match way.source {
            Some(number) if !self.walk.scan.enters(&child) => {
                let name = child.name().to_vec();
                self.source(number, &name, old, None, way)
            }
            _ if child.is_directory() => self.entry(child, old, way),
            _ => {
                let path = child.path();
                self.entry(child, old, way)?;
                self.unreachable_beneath(&path, way)
            }
        }
    }

    /// Sources that were named by way of something that is no directory but a link to one: the link is what is kept.
    fn unreachable_beneath(&mut self, path: &Path, way: &Way) -> Result<(), Gone> {
        for (name, way) in &way.beneath {
            let below = join(path, name);
            if way.source.is_some() {
                let message = format!(
                    "{} was not backed up: {} is no directory; name the place that it links to",
                    below.display(),
                    path.display()
                );
                self.push(Step::Problem(Problem::at(&below, message, Kind::Source)))?;
            }
            self.unreachable_beneath(&below, way)?;
        }
        Ok(())
    }

    fn entry(&mut self, entry: Entry, old: Option<Node>, way: &Way) -> Result<(), Gone> {
        self.items += 1;
        if entry.meta.kind == EntryKind::File {
            self.bytes = self.bytes.saturating_add(entry.meta.size);
        }
        if self.items.is_multiple_of(1024) {
            self.tell_total(false);
        }
        if is_moved(entry.meta.mtime_ns) {
            self.note_moved(&entry);
        }
        match entry.meta.kind {
            EntryKind::Directory => self.directory(&entry, old, way),
            _ if self.is_unchanged(&entry.meta, old.as_ref()) && !self.must_inspect(&entry) => match old {
                Some(old) => {
                    self.imported(&entry)?;
                    self.push(Step::Node(Box::new(old), true))
                }
                None => Ok(()),
            },
            EntryKind::File => self.file(entry, old),
            _ => self.special(&entry),
        }
    }

    /// A new file that has a namesake in the parent: it is read, with the namesake's content as bases.
    fn file_of_other_name(&mut self, entry: Entry, namesake: Node) -> Result<(), Gone> {
        self.items += 1;
        self.bytes = self.bytes.saturating_add(entry.meta.size);
        self.file(entry, Some(namesake))
    }

    /// Whether a file that did not change is read all the same, because it may be a dump that nobody looked at.
    fn must_inspect(&self, entry: &Entry) -> bool {
        let imported = self.walk.parent.as_ref().and_then(|parent| parent.imported.as_ref());
        entry.meta.kind == EntryKind::File && imported.is_some_and(|imported| imported.must_read(entry))
    }

    /// Says what the parent knew of a dump.
    fn imported(&mut self, entry: &Entry) -> Result<(), Gone> {
        let imported = self.walk.parent.as_ref().and_then(|parent| parent.imported.as_ref());
        let known =
            imported.filter(|_| entry.meta.kind == EntryKind::File).and_then(|imported| imported.of_file(entry));
        known.map_or(Ok(()), |dump| self.push(Step::Imported(Box::new(dump))))
    }

    fn is_unchanged(&self, meta: &Meta, old: Option<&Node>) -> bool {
        let Some(old) = old else { return false };
        let ctime_ns = old.mtime_ns.wrapping_add(old.ctime_after_ns);
        let changed_ns = if self.walk.ignore_ctime { meta.mtime_ns } else { meta.mtime_ns.max(meta.ctime_ns) };
        old.kind.number() == meta.kind as u8
            && !old.changed
            && (old.size == meta.size || meta.kind != EntryKind::File)
            && old.mtime_ns == meta.mtime_ns
            && (self.walk.ignore_ctime || ctime_ns == meta.ctime_ns)
            && (self.walk.ignore_inode || old.inode == meta.inode)
            && changed_ns < self.trusted_before_ns
    }

    fn directory(&mut self, entry: &Entry, old: Option<Node>, way: &Way) -> Result<(), Gone> {
        let known = old.as_ref().filter(|old| self.is_unchanged(&entry.meta, Some(old)));
        let node = match known {
            Some(known) => Node { device: entry.meta.device, tree: None, ..known.clone() },
            None => match entry.read_details() {
                Ok(details) => node_of(&entry.meta, entry.name(), &details.xattrs, &[]),
                Err(error) => {
                    self.push(Step::Problem(error.problem()))?;
                    node_of(&entry.meta, entry.name(), &[], &[])
                }
            },
        };
        let tree = old.as_ref().and_then(|old| old.tree);
        self.push(Step::Enter(Box::new(node), old.map(Box::new)))?;
        self.listed(entry, tree, VecDeque::new(), way)?;
        self.push(Step::Leave)
    }

    /// Everything in a directory of the scan, what was gathered for it, and what was named beneath it besides.
    fn listed(
        &mut self,
        entry: &Entry,
        tree: Option<crate::base::BlobId>,
        mut gathered: VecDeque<Node>,
        way: &Way,
    ) -> Result<(), Gone> {
        let listing = match self.walk.scan.list(entry) {
            Ok(listing) => listing,
            Err(error) => {
                self.push(Step::Unlisted(error.problem()))?;
                return self.ways_beneath(way, &entry.path(), tree, gathered);
            }
        };
        let mut before = self.before(tree)?;
        let mut named = way.beneath.iter().peekable();
        for child in listing {
            if self.walk.stop.raised() {
                return Err(Gone);
            }
            match child {
                Ok(child) => {
                    while let Some((name, way)) = named.next_if(|(name, _)| name.as_slice() < child.name()) {
                        self.way(name, way, &entry.path(), &mut gathered, &mut before)?;
                    }
                    let besides = named.next_if(|(name, _)| name.as_slice() == child.name());
                    if self.gathered_before(&mut gathered, Some(child.name()), &mut before)? {
                        continue;
                    }
                    self.child(child, &mut before, besides.map(|(_, way)| way))?;
                }
                Err(error) => self.push(Step::Problem(error.problem()))?,
            }
        }
        for (name, way) in named {
            self.way(name, way, &entry.path(), &mut gathered, &mut before)?;
        }
        self.gathered_before(&mut gathered, None, &mut before)?;
        self.rest_is_removed(&mut before)
    }

    /// Whether an entry is the repository or its cache, mounted at a place where no name tells it.
    fn is_own(&self, child: &Entry) -> bool {
        child.is_directory() && self.walk.own.contains(&(child.meta.device, child.meta.inode))
    }

    fn child(&mut self, child: Entry, before: &mut Before, besides: Option<&Way>) -> Result<(), Gone> {
        if self.is_own(&child) {
            let path = child.path();
            let note = format!("{} is left out: this repository or its cache is mounted there", path.display());
            self.walk.monitor.event(Event::Note(&note));
            return Ok(());
        }
        let old = self.take_before(before, child.name())?;
        if let Some(way) = besides {
            return self.named_besides(child, old, way);
        }
        let new_file = old.is_none() && child.meta.kind == EntryKind::File;
        let namesake = if new_file { before.namesake(child.name()) } else { None };
        match namesake.cloned() {
            Some(namesake) => self.file_of_other_name(child, namesake),
            None => self.entry(child, old, &Way::default()),
        }
    }

    fn special(&mut self, entry: &Entry) -> Result<(), Gone> {
        match entry.read_details() {
            Ok(details) => {
                let node = node_of(&entry.meta, entry.name(), &details.xattrs, &details.symlink_target);
                self.push(Step::Node(Box::new(node), false))
            }
            Err(error) => self.push(Step::Problem(error.problem())),
        }
    }

    fn file(&mut self, entry: Entry, old: Option<Node>) -> Result<(), Gone> {
        if entry.meta.size > SMALL_BYTES {
            self.close_group()?;
            let (sender, results) = results();
            self.waiting.push(Step::Job(results));
            self.waiting.push(Step::File(Box::new(entry.clone()), old.map(Box::new)));
            self.send()?;
            let permit = self.walk.budget.take(LARGE_PERMIT_BYTES);
            return self.walk.jobs.send(Job::large(entry, permit, sender)).map_err(|_| Gone);
        }
        if self.group.len() >= GROUP_FILES || self.group_bytes + entry.meta.size as usize > SMALL_BYTES as usize {
            self.close_group()?;
        }
        if self.group_results.is_none() {
            let (sender, results) = results();
            self.group_results = Some(sender);
            self.waiting.push(Step::Job(results));
        }
        self.group_bytes += entry.meta.size as usize;
        self.group.push(entry.clone());
        self.push(Step::File(Box::new(entry), old.map(Box::new)))
    }

    /// Announces what waits, then hands out the job of small files that were gathered.
    fn close_group(&mut self) -> Result<(), Gone> {
        let Some(results) = self.group_results.take() else { return Ok(()) };
        self.send()?;
        let permit = self.walk.budget.take(self.group_bytes.max(SMALL_PERMIT_BYTES));
        let files = std::mem::take(&mut self.group);
        self.group_bytes = 0;
        self.walk.jobs.send(Job::small(files, permit, results)).map_err(|_| Gone)
    }

    fn push(&mut self, step: Step) -> Result<(), Gone> {
        self.waiting.push(step);
        if self.waiting.len() >= STEPS { self.flush() } else { Ok(()) }
    }

    fn flush(&mut self) -> Result<(), Gone> {
        self.close_group()?;
        self.send()
    }

    fn send(&mut self) -> Result<(), Gone> {
        if self.waiting.is_empty() {
            return Ok(());
        }
        self.walk.steps.send(std::mem::take(&mut self.waiting)).map_err(|_| Gone)
    }

    /// A time that no snapshot can hold. Not a problem: all else of the entry is kept, and a disk with a file from the far
    /// future would have no complete snapshot for ever.
    fn note_moved(&mut self, entry: &Entry) {
        self.moved += 1;
        if self.moved <= NAMED_MOVED {
            let path = entry.path();
            let text = format!(
                "{}: its time of last change lies outside of the years 1677 to 2262, which is all that a snapshot can \
                 hold: it is kept with the nearest time that fits",
                path.display()
            );
            self.walk.monitor.event(Event::Note(&text));
        }
    }

    fn tell_moved(&self) {
        let more = self.moved.saturating_sub(NAMED_MOVED);
        if more > 0 {
            self.walk.monitor.event(Event::Note(&format!("{more} more have such a time")));
        }
    }

    fn tell_total(&self, complete: bool) {
        self.walk.monitor.event(Event::Total { items: self.items, bytes: self.bytes, complete });
    }

    /// The nodes of a directory of the parent. What cannot be read is as if it had not been there: it will be read
    /// from the source again.
    fn before(&mut self, tree: Option<crate::base::BlobId>) -> Result<Before, Gone> {
        let mut before = Before { nodes: None, next: None, gone: VecDeque::new() };
        if let (Some(tree), Some(parent)) = (tree, &mut self.walk.parent) {
            match Nodes::open(tree, &mut parent.reader) {
                Ok(nodes) => before.nodes = Some(nodes),
                Err(error) => self.cannot_read_parent(&error)?,
            }
        }
        self.turn(&mut before)?;
        Ok(before)
    }

    fn cannot_read_parent(&mut self, error: &crate::repo::Error) -> Result<(), Gone> {
        let text = format!("cannot use the parent snapshot here ({error}): everything is read and stored again");
        if matches!(error.kind(), Kind::Damaged | Kind::NotFound) {
            let text = format!("{text}; run `keepstone verify --all` to see what else that hurts");
            return self.push(Step::Damage(Problem::new("the parent snapshot", text, Kind::Damaged)));
        }
        self.walk.monitor.event(Event::Note(&text));
        Ok(())
    }

    fn turn(&mut self, before: &mut Before) -> Result<(), Gone> {
        let (Some(nodes), Some(parent)) = (&mut before.nodes, &mut self.walk.parent) else { return Ok(()) };
        match nodes.next(&mut parent.reader) {
            Ok(node) => before.next = node,
            Err(error) => {
                (before.nodes, before.next) = (None, None);
                self.cannot_read_parent(&error)?;
            }
        }
        Ok(())
    }

    /// The parent's node called `name`; those before it are gone.
    fn take_before(&mut self, before: &mut Before, name: &[u8]) -> Result<Option<Node>, Gone> {
        while let Some(node) = before.next.take_if(|node| node.name.0.as_slice() <= name) {
            self.turn(before)?;
            if node.name.0 == name {
                return Ok(Some(node));
            }
            before.remember_gone(node);
            self.push(Step::Removed)?;
        }
        Ok(None)
    }

    fn rest_is_removed(&mut self, before: &mut Before) -> Result<(), Gone> {
        // One is enough to say that the directory is not as it was.
        if before.next.is_some() { self.push(Step::Removed) } else { Ok(()) }
    }
}

impl Before {
    fn remember_gone(&mut self, node: Node) {
        if node.kind == NodeKind::File {
            self.gone.truncate(GONE_FILES - 1);
            self.gone.push_front(node);
        }
    }

    /// The file that a new one called `name` probably was in the parent: its name differs in digits only.
    fn namesake(&self, name: &[u8]) -> Option<&Node> {
        let folded = fold_digits(name);
        let next = self.next.iter().filter(|node| node.kind == NodeKind::File);
        self.gone.iter().chain(next).find(|node| fold_digits(&node.name.0) == folded)
    }
}

/// A node without content.
pub fn node_of(meta: &Meta, name: &[u8], xattrs: &[(Vec<u8>, Vec<u8>)], target: &[u8]) -> Node {
    let kind =
        NodeKind::from_number(u64::from(meta.kind as u8)).expect("kinds of entries and nodes have one numbering");
    let is_device = matches!(meta.kind, EntryKind::CharDevice | EntryKind::BlockDevice);
    Node {
        name: Bytes(name.to_vec()),
        kind,
        mode: meta.mode,
        uid: meta.uid,
        gid: meta.gid,
        mtime_ns: meta.mtime_ns,
        ctime_after_ns: meta.ctime_ns.wrapping_sub(meta.mtime_ns),
        size: 0,
        inode: meta.inode,
        device: meta.device,
        links: (meta.links > 1 && meta.kind != EntryKind::Directory).then_some(meta.links),
        target: Bytes(target.to_vec()),
        rdev: is_device.then_some(meta.rdev),
        xattrs: xattrs.iter().map(|(name, value)| Xattr { name: name.clone(), value: value.clone() }).collect(),
        changed: false,
        inline: Bytes::default(),
        chunks: Ids::default(),
        lengths: Vec::new(),
        list: None,
        tree: None,
        unknown: Unknown::none(),
    }
}

fn meta_of(metadata: &std::fs::Metadata) -> Meta {
    let ns = |seconds: i64, ns: i64| seconds.saturating_mul(1_000_000_000).saturating_add(ns);
    Meta {
        kind: EntryKind::Directory,
        mode: metadata.mode() & 0o7777,
        uid: metadata.uid(),
        gid: metadata.gid(),
        mtime_ns: ns(metadata.mtime(), metadata.mtime_nsec()),
        ctime_ns: ns(metadata.ctime(), metadata.ctime_nsec()),
        size: 0,
        inode: metadata.ino(),
        device: metadata.dev(),
        links: metadata.nlink(),
        rdev: 0,
        symlink_target: Vec::new(),
        xattrs: Vec::new(),
    }
}
