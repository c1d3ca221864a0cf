//! A snapshot's tree walked, one entry after the other.
//!
//! Depth first, names in byte order, no more in memory than a piece of each directory on the way down. Whoever walks
//! decides which directories are entered. A piece that cannot be read is an error of its place; the walk goes on
//! behind it.

use crate::base::BlobId;
use crate::format::tree::{Node, Owner};
use crate::repo::Result;
use crate::repo::trees::{GetBlob, Nodes};

/// What comes next.
pub enum Step {
    /// An entry of the innermost directory; its path is [`Walk::path`].
    Entry(Box<Node>),
    /// The innermost directory has no more entries; [`Walk::path`] is its path.
    Leave,
}

struct Level {
    nodes: Nodes,
    path_bytes: usize,
}

/// A walk through a tree.
pub struct Walk {
    levels: Vec<Level>,
    path: Vec<u8>,
}

impl Walk {
    /// Begins in the directory `tree`, whose path is `path` (empty or `/` for the root of a snapshot).
    pub fn begin(tree: BlobId, path: &[u8], blobs: &mut dyn GetBlob) -> Result<Walk> {
        let mut path = path.to_vec();
        while path.last() == Some(&b'/') {
            path.pop();
        }
        let nodes = Nodes::open(tree, blobs)?;
        let level = Level { nodes, path_bytes: path.len() };
        Ok(Walk { levels: vec![level], path })
    }

    /// The next step, or none when the directory where it began is left.
    pub fn next(&mut self, blobs: &mut dyn GetBlob) -> Result<Option<Step>> {
        let Some(level) = self.levels.last_mut() else { return Ok(None) };
        self.path.truncate(level.path_bytes);
        match level.nodes.next(blobs)? {
            Some(node) => {
                self.path.push(b'/');
                self.path.extend_from_slice(&node.name.0);
                Ok(Some(Step::Entry(Box::new(node))))
            }
            None => {
                self.levels.pop();
                Ok(Some(Step::Leave))
            }
        }
    }

    /// Enters the directory that was the last entry: its entries come next, then its [`Step::Leave`].
    pub fn enter(&mut self, tree: BlobId, blobs: &mut dyn GetBlob) -> Result<()> {
        let nodes = Nodes::open(tree, blobs)?;
        self.levels.push(Level { nodes, path_bytes: self.path.len() });
        Ok(())
    }

    /// The path of the last step; empty for the root.
    pub fn path(&self) -> &[u8] {
        &self.path
    }

    /// The path of the innermost directory; empty for the root.
    pub fn directory(&self) -> &[u8] {
        &self.path[..self.levels.last().map_or(0, |level| level.path_bytes)]
    }

    /// How many directories deep it is; 0 when it has ended.
    pub fn depth(&self) -> usize {
        self.levels.len()
    }

    /// The names of a node's owners; of the last entry, before it is entered.
    pub fn owners(&self, node: &Node) -> (&[u8], &[u8]) {
        let Some(level) = self.levels.last() else { return (b"", b"") };
        let (users, groups) = level.nodes.owner_names();
        (owner_name(users, node.uid), owner_name(groups, node.gid))
    }
}

fn owner_name(owners: &[Owner], id: u32) -> &[u8] {
    owners.iter().find(|owner| owner.id == id).map_or(b"", |owner| &owner.name.0)
}

/// A path as people read it; the root is `/`.
pub fn show(path: &[u8]) -> String {
    if path.is_empty() { "/".to_owned() } else { String::from_utf8_lossy(path).into_owned() }
}
