//! Looking into snapshots: list, find, compare, take out, count.
//!
//! Everything here reads piece by piece: a directory of a million entries or a snapshot of a hundred million costs no
//! more memory than a small one. A directory that cannot be read is a problem; what is beside it is shown.

mod ahead;
mod archive;
mod cat;
mod diff;
mod dump;
mod stats;

pub(super) use ahead::repo_error;
pub use cat::{Cat, KINDS as CAT_KINDS, cat};
pub use diff::{Change, DiffTotals, Difference, diff};
pub use dump::{Archive, Dumped, dump};
pub use stats::{AreaStats, SnapshotStats, repository_stats, stats};

use super::walk::{Step, Walk, show};
use super::{Context, Error, Result};
use crate::base::{BlobId, Kind, Problem};
use crate::format::cbor::{Bytes, Unknown};
use crate::format::snapshot::Snapshot;
use crate::format::tree::{Ids, Node, NodeKind};
use crate::repo::blob_reader::BlobReader;
use crate::repo::trees;
use crate::source::files::{Filter, Trail};
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// Decoded frames that a look keeps.
pub(super) const FRAMES_BYTES: usize = 12 << 20;

/// One entry of a snapshot.
pub struct Entry<'a> {
    /// Its path in the snapshot.
    pub path: &'a [u8],
    /// What it is.
    pub node: &'a Node,
    /// The name of its owner; empty if it had none.
    pub user: &'a [u8],
    /// The name of its group; empty if it had none.
    pub group: &'a [u8],
}

/// Takes entries one by one; an error ends the listing.
pub type Each<'e> = dyn FnMut(&Entry<'_>) -> Result<()> + 'e;

/// A reader for trees and single blobs.
pub(super) fn reader(context: &Context) -> BlobReader {
    BlobReader::new(context.repository.clone(), context.index.clone(), FRAMES_BYTES)
}

/// A node for the root of a snapshot, which has a tree and nothing else.
pub(super) fn root_node(tree: BlobId) -> Node {
    Node {
        name: Bytes(Vec::new()),
        kind: NodeKind::Directory,
        mode: 0o755,
        uid: 0,
        gid: 0,
        mtime_ns: 0,
        ctime_after_ns: 0,
        size: 0,
        inode: 0,
        device: 0,
        links: None,
        target: Bytes(Vec::new()),
        rdev: None,
        xattrs: Vec::new(),
        changed: false,
        inline: Bytes(Vec::new()),
        chunks: Ids::default(),
        lengths: Vec::new(),
        list: None,
        tree: Some(tree),
        unknown: Unknown::none(),
    }
}

/// The components of a path in a snapshot. `.` is left out; `..` does not exist in there.
pub(super) fn components(path: &[u8]) -> impl Iterator<Item = &[u8]> {
    path.split(|c| *c == b'/').filter(|name| !name.is_empty() && *name != b".")
}

/// The path in its usual form: each component after a slash; empty for the root.
pub(super) fn normal(path: &[u8]) -> Vec<u8> {
    components(path).flat_map(|name| [b"/".as_slice(), name].concat()).collect()
}

/// The node at `path`, found by bisection. Symlinks are not followed.
pub fn resolve(context: &Context, snapshot: &Snapshot, path: &[u8]) -> Result<Node> {
    resolve_with(&mut reader(context), snapshot, path)
}

pub(super) fn resolve_with(blobs: &mut BlobReader, snapshot: &Snapshot, path: &[u8]) -> Result<Node> {
    let mut node = root_node(snapshot.root);
    for name in components(path) {
        let found = match node.tree {
            Some(tree) => trees::find(tree, name, blobs)?,
            None => None,
        };
        node = found.ok_or_else(|| {
            let id = snapshot.id.short();
            Error::NotFound(format!("{} is not in snapshot {id}: see `keepstone ls {id}`", show(&normal(path))))
        })?;
    }
    Ok(node)
}

/// Whether `path` is a directory with nothing in it.
pub fn is_empty(context: &Context, snapshot: &Snapshot, path: &[u8]) -> Result<bool> {
    let blobs = &mut reader(context);
    match resolve_with(blobs, snapshot, path)? {
        Node { kind: NodeKind::Directory, tree: Some(tree), .. } => Ok(trees::is_empty(tree, blobs)?),
        node => Ok(node.kind == NodeKind::Directory),
    }
}

/// Lists what is in the directory `path`, or `path` itself if it is none. Answers with what could not be read.
pub fn ls(
    context: &Context,
    snapshot: &Snapshot,
    path: &[u8],
    recursive: bool,
    each: &mut Each<'_>,
) -> Result<Vec<Problem>> {
    let blobs = if recursive { reader(context).walking() } else { reader(context) };
    visit(context, blobs, snapshot, path, &mut |_, entry| {
        each(entry)?;
        Ok(recursive)
    })
}

/// What is looked for. What is empty lets all through.
#[derive(Clone, Debug, Default)]
pub struct Find {
    /// Patterns without slash, compared with the name alone.
    pub names: Filter,
    /// Patterns with a slash, compared with the path. What lies in a directory that matches is not listed with it.
    pub paths: Filter,
    /// One of these kinds.
    pub kinds: Vec<NodeKind>,
    /// Changed at this time or later, nanoseconds since 1970.
    pub newer_ns: Option<i64>,
    /// Changed at this time or before, nanoseconds since 1970.
    pub older_ns: Option<i64>,
    /// Files of at least so many bytes.
    pub larger: Option<u64>,
    /// Files of at most so many bytes.
    pub smaller: Option<u64>,
}

impl Find {
    /// Adds a pattern to [`Find::names`] or [`Find::paths`], wherever it belongs.
    pub fn add(&mut self, pattern: &[u8], ignoring_case: bool) -> Result<()> {
        let filter = if pattern.contains(&b'/') { &mut self.paths } else { &mut self.names };
        let added = if ignoring_case { filter.add_ignoring_case(pattern) } else { filter.add(pattern) };
        added.map_err(|bad| Error::Usage(bad.to_string()))
    }

    fn fits(&self, node: &Node) -> bool {
        let is_file = node.kind == NodeKind::File;
        (self.kinds.is_empty() || self.kinds.contains(&node.kind))
            && self.newer_ns.is_none_or(|bound| node.mtime_ns >= bound)
            && self.older_ns.is_none_or(|bound| node.mtime_ns <= bound)
            && self.larger.is_none_or(|bound| is_file && node.size >= bound)
            && self.smaller.is_none_or(|bound| is_file && node.size <= bound)
    }
}

/// Lists the entries beneath `path` that `find` describes.
pub fn find(
    context: &Context,
    snapshot: &Snapshot,
    path: &[u8],
    find: &Find,
    each: &mut Each<'_>,
) -> Result<Vec<Problem>> {
    let any = find.names.is_empty() && find.paths.is_empty();
    let top = find.names.start();
    // For each directory on the way down: how far the patterns have come, and whether one of them matches it.
    let mut trails: Vec<(Trail, bool)> = Vec::new();
    visit(context, reader(context).walking(), snapshot, path, &mut |depth, entry| {
        trails.truncate(depth);
        // The directory where it begins comes first, and stays.
        if trails.is_empty() {
            let above = parent_of(entry.path);
            let matched = find.paths.judge_path(Path::new(OsStr::from_bytes(above))).matched;
            trails.push((find.paths.enter_path(above), matched));
        }
        let (trail, inherited) = &trails[trails.len() - 1];
        let name = &entry.node.name.0;
        let by_path = find.paths.judge(trail, name).matched;
        let matched = any || find.names.judge(&top, name).matched || (by_path && !inherited);
        if matched && find.fits(entry.node) {
            each(entry)?;
        }
        if entry.node.kind == NodeKind::Directory {
            trails.push((find.paths.enter(trail, name), by_path));
        }
        Ok(true)
    })
}

fn parent_of(path: &[u8]) -> &[u8] {
    path.iter().rposition(|c| *c == b'/').map_or(b"", |slash| &path[..slash])
}

/// Visits what is in a directory, or a single entry. The visitor gets how many directories deep beneath `path`
/// an entry lies, at least 1, and says whether a directory is to be entered.
fn visit(
    context: &Context,
    mut blobs: BlobReader,
    snapshot: &Snapshot,
    path: &[u8],
    visitor: &mut dyn FnMut(usize, &Entry<'_>) -> Result<bool>,
) -> Result<Vec<Problem>> {
    let path = normal(path);
    let node = resolve_with(&mut blobs, snapshot, &path)?;
    let Some(tree) = node.tree else {
        visitor(1, &Entry { path: &path, node: &node, user: b"", group: b"" })?;
        return Ok(Vec::new());
    };
    let mut problems = Vec::new();
    let mut walk = Walk::begin(tree, &path, &mut blobs)?;
    while walk.depth() > 0 {
        context.check_stop()?;
        let step = match walk.next(&mut blobs) {
            Ok(Some(step)) => step,
            Ok(None) => break,
            Err(error) => {
                problems.push(unreadable(walk.directory(), error)?);
                continue;
            }
        };
        let Step::Entry(node) = step else { continue };
        let (user, group) = walk.owners(&node);
        let entry = Entry { path: walk.path(), node: &node, user, group };
        let enters = visitor(walk.depth(), &entry)?;
        if let (true, Some(tree)) = (enters, node.tree)
            && let Err(error) = walk.enter(tree, &mut blobs)
        {
            problems.push(unreadable(walk.path(), error)?);
        }
    }
    Ok(problems)
}

/// A directory that is damaged is a problem; a store that does not answer ends the verb.
pub(super) fn unreadable(path: &[u8], error: crate::repo::Error) -> Result<Problem> {
    match error.kind() {
        kind @ (Kind::Damaged | Kind::NotFound) => Ok(Problem::new(show(path), error, kind)),
        _ => Err(error.into()),
    }
}

#[cfg(test)]
mod tests;
