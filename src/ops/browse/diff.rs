//! What is different between two trees.
//!
//! Both are walked side by side, in the order of names. Directories with the same id are the same all through and are
//! not read.

use super::super::{Context, Result};
use super::{normal, reader, resolve_with};
use crate::base::BlobId;
use crate::format::snapshot::Snapshot;
use crate::format::tree::{Node, NodeKind, Xattr};
use crate::repo::blob_reader::BlobReader;
use crate::repo::trees::Nodes;
use std::cmp::Ordering;

/// How an entry differs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// Only in the second.
    Added,
    /// Only in the first.
    Removed,
    /// Another content.
    Modified,
    /// The same content with other metadata.
    Metadata,
    /// Something of another kind.
    Type,
}

impl Change {
    /// One letter: `+`, `-`, `M`, `U` or `T`.
    pub fn letter(self) -> char {
        match self {
            Change::Added => '+',
            Change::Removed => '-',
            Change::Modified => 'M',
            Change::Metadata => 'U',
            Change::Type => 'T',
        }
    }
}

/// One difference.
pub struct Difference<'a> {
    /// The path in the second tree (in the first, for what was removed).
    pub path: &'a [u8],
    /// What is different.
    pub change: Change,
    /// What it was.
    pub before: Option<&'a Node>,
    /// What it is.
    pub after: Option<&'a Node>,
}

/// What differs in all.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DiffTotals {
    /// Files that were added.
    pub files_added: u64,
    /// Files that were removed.
    pub files_removed: u64,
    /// Files with another content.
    pub files_changed: u64,
    /// Directories, symlinks and others that were added.
    pub others_added: u64,
    /// Directories, symlinks and others that were removed.
    pub others_removed: u64,
    /// Symlinks and devices that mean something else, and entries of another kind.
    pub others_changed: u64,
    /// Entries of which only the metadata changed.
    pub metadata_changed: u64,
    /// Bytes of files that were added, and what changed files have now.
    pub bytes_added: u64,
    /// Bytes of files that were removed, and what changed files had before.
    pub bytes_removed: u64,
}

impl DiffTotals {
    fn count(&mut self, difference: &Difference<'_>) {
        let is_file = |node: Option<&Node>| node.is_some_and(|node| node.kind == NodeKind::File);
        let files = is_file(difference.before) || is_file(difference.after);
        let counter = match (difference.change, files) {
            (Change::Added, true) => &mut self.files_added,
            (Change::Added, false) => &mut self.others_added,
            (Change::Removed, true) => &mut self.files_removed,
            (Change::Removed, false) => &mut self.others_removed,
            (Change::Modified, true) => &mut self.files_changed,
            (Change::Modified | Change::Type, _) => &mut self.others_changed,
            (Change::Metadata, _) => &mut self.metadata_changed,
        };
        *counter += 1;
        if difference.change != Change::Metadata {
            let bytes = |node: Option<&Node>| node.map_or(0, |node| node.size);
            self.bytes_added = self.bytes_added.saturating_add(bytes(difference.after));
            self.bytes_removed = self.bytes_removed.saturating_add(bytes(difference.before));
        }
    }
}

/// Takes differences one by one; an error ends the comparison.
pub type Each<'e> = dyn FnMut(&Difference<'_>) -> Result<()> + 'e;

/// Compares a path of one snapshot with a path of another.
pub fn diff(
    context: &Context,
    before: (&Snapshot, &[u8]),
    after: (&Snapshot, &[u8]),
    each: &mut Each<'_>,
) -> Result<DiffTotals> {
    let mut blobs = reader(context);
    let first = resolve_with(&mut blobs, before.0, before.1)?;
    let second = resolve_with(&mut blobs, after.0, after.1)?;
    let mut comparison = Comparison { blobs, path: normal(after.1), levels: Vec::new(), totals: DiffTotals::default() };
    comparison.compare(Some(&first), Some(&second), each)?;
    while !comparison.levels.is_empty() {
        context.check_stop()?;
        comparison.step(each)?;
    }
    Ok(comparison.totals)
}

/// One side of a pair of directories, with the next node in hand.
struct Side {
    nodes: Nodes,
    next: Option<Node>,
}

impl Side {
    fn open(tree: BlobId, blobs: &mut BlobReader) -> Result<Side> {
        let mut nodes = Nodes::open(tree, blobs)?;
        let next = nodes.next(blobs)?;
        Ok(Side { nodes, next })
    }

    fn take(&mut self, blobs: &mut BlobReader) -> Result<Option<Node>> {
        let next = self.nodes.next(blobs)?;
        Ok(std::mem::replace(&mut self.next, next))
    }
}

struct Level {
    before: Option<Side>,
    after: Option<Side>,
    path_bytes: usize,
}

struct Comparison {
    blobs: BlobReader,
    path: Vec<u8>,
    levels: Vec<Level>,
    totals: DiffTotals,
}

impl Comparison {
    /// Compares the next name of the innermost pair of directories.
    fn step(&mut self, each: &mut Each<'_>) -> Result<()> {
        let Some(level) = self.levels.last_mut() else { return Ok(()) };
        self.path.truncate(level.path_bytes);
        let name = |side: &Option<Side>| Some(side.as_ref()?.next.as_ref()?.name.0.clone());
        let order = match (name(&level.before), name(&level.after)) {
            (None, None) => {
                self.levels.pop();
                return Ok(());
            }
            (Some(_), None) => Ordering::Less,
            (None, Some(_)) => Ordering::Greater,
            (Some(before), Some(after)) => before.cmp(&after),
        };
        let mut take = |side: &mut Option<Side>, wanted: bool| match side {
            Some(side) if wanted => side.take(&mut self.blobs),
            _ => Ok(None),
        };
        let before = take(&mut level.before, order != Ordering::Greater)?;
        let after = take(&mut level.after, order != Ordering::Less)?;
        let Some(node) = after.as_ref().or(before.as_ref()) else { return Ok(()) };
        self.path.push(b'/');
        self.path.extend_from_slice(&node.name.0);
        self.compare(before.as_ref(), after.as_ref(), each)
    }

    fn compare(&mut self, before: Option<&Node>, after: Option<&Node>, each: &mut Each<'_>) -> Result<()> {
        let change = match (before, after) {
            (None, None) => None,
            (None, Some(_)) => Some(Change::Added),
            (Some(_), None) => Some(Change::Removed),
            (Some(before), Some(after)) => change_of(before, after),
        };
        // The top has no name of its own and may be a mere root.
        let is_top = self.levels.is_empty() && before.is_some_and(|node| node.tree.is_some());
        if let Some(change) = change.filter(|_| !is_top) {
            let difference =
                Difference { path: if self.path.is_empty() { b"/" } else { &self.path }, change, before, after };
            self.totals.count(&difference);
            each(&difference)?;
        }
        let (before, after) = (before.and_then(|node| node.tree), after.and_then(|node| node.tree));
        if before != after {
            self.enter(before, after)?;
        }
        Ok(())
    }

    fn enter(&mut self, before: Option<BlobId>, after: Option<BlobId>) -> Result<()> {
        let mut open = |tree: Option<BlobId>| tree.map(|tree| Side::open(tree, &mut self.blobs)).transpose();
        let (before, after) = (open(before)?, open(after)?);
        self.levels.push(Level { before, after, path_bytes: self.path.len() });
        Ok(())
    }
}

fn change_of(before: &Node, after: &Node) -> Option<Change> {
    if before.kind != after.kind {
        return Some(Change::Type);
    }
    let is_directory = before.kind == NodeKind::Directory;
    if !is_directory && (content(before) != content(after) || pointing(before) != pointing(after)) {
        return Some(Change::Modified);
    }
    (metadata(before) != metadata(after)).then_some(Change::Metadata)
}

fn content(node: &Node) -> (u64, &[u8], &[BlobId], &[u64], Option<BlobId>) {
    (node.size, &node.inline.0, &node.chunks.0, &node.lengths, node.list)
}

fn pointing(node: &Node) -> (&[u8], Option<u64>) {
    (&node.target.0, node.rdev)
}

fn metadata(node: &Node) -> (u32, u32, u32, i64, &[Xattr]) {
    (node.mode, node.uid, node.gid, node.mtime_ns, &node.xattrs)
}
