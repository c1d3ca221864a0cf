//! Directories and content lists: built piece by piece, read piece by piece.
//!
//! A builder never holds more than one piece and the names of the pieces before it, a reader never more than one
//! piece per level, so a directory of a million entries or a file of a terabyte costs no more memory than a small
//! one. Pieces are cut where the hash of a name says so: an entry more or less changes one piece, not all.

use super::blob_reader::BlobBytes;
use super::error::{Error, Result};
use crate::base::BlobId;
use crate::format::cbor::{Bytes, Cbor, Unknown, Writer};
use crate::format::pack::BlobKind;
use crate::format::tree::{Child, Ids, ListPiece, MAX_PIECE_ITEMS, NODE_CHUNKS, Node, Owner, TreePiece};
use std::collections::BTreeMap;

/// No cut before a piece has this many bytes.
const PIECE_LEAST_BYTES: usize = 16 << 10;
/// A cut, whatever the hash says, once a piece has this many bytes.
const PIECE_MOST_BYTES: usize = 192 << 10;
/// One name in this many ends a piece.
const PIECE_NAMES: u64 = 256;
/// A list piece is cut at one id in 256, but not before this many.
const LIST_LEAST: usize = 64;
/// … and at the latest here.
const LIST_MOST: usize = 1024;

/// Takes encoded trees and lists and gives their names.
pub trait PutBlob {
    /// Stores `bytes` as a blob of `kind` unless it is there already.
    fn put(&mut self, kind: BlobKind, bytes: Vec<u8>) -> Result<BlobId>;
}

/// Gives the bytes of a blob.
pub trait GetBlob {
    /// Reads a blob of `kind`.
    fn get(&mut self, id: &BlobId, kind: BlobKind) -> Result<BlobBytes>;

    /// Hears which trees and lists may be asked for soon, most of them in this order.
    fn expect(&mut self, _: &mut dyn Iterator<Item = BlobId>) {}
}

/// A directory in the making.
#[derive(Default)]
pub struct TreeBuilder {
    nodes: Vec<u8>,
    count: usize,
    first: Vec<u8>,
    last: Vec<u8>,
    users: BTreeMap<u32, Vec<u8>>,
    groups: BTreeMap<u32, Vec<u8>>,
    pieces: Vec<Child>,
}

impl TreeBuilder {
    /// An empty directory.
    pub fn new() -> TreeBuilder {
        TreeBuilder::default()
    }

    /// Adds a node; nodes come in strictly ascending order of their names. `user` and `group` are the names of its
    /// owners, empty where there is none.
    pub fn add(&mut self, node: &Node, user: &[u8], group: &[u8], blobs: &mut dyn PutBlob) -> Result<()> {
        assert!(self.last.is_empty() || self.last < node.name.0, "nodes come sorted by name");
        if self.count == 0 {
            self.first = node.name.0.clone();
        }
        self.last.clone_from(&node.name.0);
        let mut writer = Writer::after(std::mem::take(&mut self.nodes));
        node.write(&mut writer);
        self.nodes = writer.finish();
        self.count += 1;
        remember(&mut self.users, node.uid, user);
        remember(&mut self.groups, node.gid, group);
        let full = self.nodes.len() >= PIECE_MOST_BYTES || self.count >= MAX_PIECE_ITEMS;
        if full || (self.nodes.len() >= PIECE_LEAST_BYTES && ends_piece(&node.name.0)) {
            self.close_piece(blobs)?;
        }
        Ok(())
    }

    fn close_piece(&mut self, blobs: &mut dyn PutBlob) -> Result<()> {
        let users = owners(std::mem::take(&mut self.users));
        let groups = owners(std::mem::take(&mut self.groups));
        let mut writer = Writer::default();
        writer.map(1 + usize::from(self.count > 0) + usize::from(!users.is_empty()) + usize::from(!groups.is_empty()));
        writer.uint(1);
        writer.uint(0);
        if self.count > 0 {
            writer.uint(2);
            writer.array(self.count);
            writer.verbatim(&self.nodes);
        }
        for (key, owners) in [(4, users), (5, groups)] {
            if !owners.is_empty() {
                writer.uint(key);
                owners.write(&mut writer);
            }
        }
        let piece = blobs.put(BlobKind::Tree, writer.finish())?;
        let first = Bytes(std::mem::take(&mut self.first));
        self.pieces.push(Child { first, piece, unknown: Unknown::none() });
        self.nodes.clear();
        self.count = 0;
        Ok(())
    }

    /// Stores what is left and gives the directory's id.
    pub fn finish(mut self, blobs: &mut dyn PutBlob) -> Result<BlobId> {
        if self.count > 0 || self.pieces.is_empty() {
            self.close_piece(blobs)?;
        }
        let mut level = 0;
        while self.pieces.len() > 1 {
            level += 1;
            let mut above = Vec::new();
            for children in groups_of(std::mem::take(&mut self.pieces), |child| ends_piece(&child.first.0)) {
                let first = children[0].first.clone();
                let piece = TreePiece {
                    level,
                    nodes: Vec::new(),
                    children,
                    users: Vec::new(),
                    groups: Vec::new(),
                    unknown: Unknown::none(),
                };
                let piece = blobs.put(BlobKind::Tree, piece.to_cbor())?;
                above.push(Child { first, piece, unknown: Unknown::none() });
            }
            self.pieces = above;
        }
        Ok(self.pieces[0].piece)
    }
}

fn remember(names: &mut BTreeMap<u32, Vec<u8>>, id: u32, name: &[u8]) {
    if !name.is_empty() && !names.contains_key(&id) {
        names.insert(id, name.to_vec());
    }
}

fn owners(names: BTreeMap<u32, Vec<u8>>) -> Vec<Owner> {
    names.into_iter().map(|(id, name)| Owner { id, name: Bytes(name), unknown: Unknown::none() }).collect()
}

/// FNV-1a, 64 bits (Fowler, Noll, Vo): good enough to choose where to cut, and the same everywhere for ever.
fn ends_piece(name: &[u8]) -> bool {
    let hash = name
        .iter()
        .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3));
    (hash ^ (hash >> 32)).is_multiple_of(PIECE_NAMES)
}

/// Cuts a list into groups of at least two, ending where `ends` says or at [`LIST_MOST`].
fn groups_of<T>(items: Vec<T>, ends: impl Fn(&T) -> bool) -> Vec<Vec<T>> {
    let mut groups = Vec::new();
    let mut group = Vec::new();
    for item in items {
        let cut = group.len() + 1 >= LIST_MOST || (group.len() + 1 >= LIST_LEAST && ends(&item));
        group.push(item);
        if cut {
            groups.push(std::mem::take(&mut group));
        }
    }
    if !group.is_empty() {
        groups.push(group);
    }
    groups
}

/// The content of a file, ready for its node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Content {
    /// Chunks with their lengths, few enough to lie in the node.
    Chunks(Vec<(BlobId, u64)>),
    /// The topmost piece of a list.
    List(BlobId),
}

/// A list of chunks in the making.
pub struct ListBuilder {
    chunks: Vec<(BlobId, u64)>,
    pieces: Vec<(BlobId, u64)>,
    node_chunks: usize,
}

impl Default for ListBuilder {
    fn default() -> ListBuilder {
        ListBuilder::with_node_chunks(NODE_CHUNKS)
    }
}

impl ListBuilder {
    /// An empty list.
    pub fn new() -> ListBuilder {
        ListBuilder::default()
    }

    /// An empty list that lies in its node up to `node_chunks` chunks only, at most [`NODE_CHUNKS`]: for who keeps
    /// many nodes in memory.
    pub fn with_node_chunks(node_chunks: usize) -> ListBuilder {
        ListBuilder { chunks: Vec::new(), pieces: Vec::new(), node_chunks: node_chunks.min(NODE_CHUNKS) }
    }

    /// Adds a chunk.
    pub fn add(&mut self, id: BlobId, length: u64, blobs: &mut dyn PutBlob) -> Result<()> {
        self.chunks.push((id, length));
        // Until it is known that the list is too long for its node, nothing is stored.
        if self.pieces.is_empty() && self.chunks.len() <= self.node_chunks {
            return Ok(());
        }
        while let Some(end) = list_cut(&self.chunks) {
            let rest = self.chunks.split_off(end);
            let piece = std::mem::replace(&mut self.chunks, rest);
            self.pieces.push(put_list(0, &piece, blobs)?);
        }
        Ok(())
    }

    /// Stores what is left and gives the content.
    pub fn finish(mut self, blobs: &mut dyn PutBlob) -> Result<Content> {
        if self.pieces.is_empty() && self.chunks.len() <= self.node_chunks {
            return Ok(Content::Chunks(self.chunks));
        }
        if !self.chunks.is_empty() {
            self.pieces.push(put_list(0, &self.chunks, blobs)?);
        }
        let mut level = 0;
        while self.pieces.len() > 1 {
            level += 1;
            let groups = groups_of(std::mem::take(&mut self.pieces), |(id, _)| id.0[0] == 0);
            for group in groups {
                self.pieces.push(put_list(level, &group, blobs)?);
            }
        }
        Ok(Content::List(self.pieces[0].0))
    }
}

fn list_cut(chunks: &[(BlobId, u64)]) -> Option<usize> {
    let from = LIST_LEAST.min(chunks.len());
    let marked = chunks[from..].iter().position(|(id, _)| id.0[0] == 0).map(|at| from + at + 1);
    marked.filter(|end| *end <= LIST_MOST).or((chunks.len() >= LIST_MOST).then_some(LIST_MOST))
}

fn put_list(level: u32, items: &[(BlobId, u64)], blobs: &mut dyn PutBlob) -> Result<(BlobId, u64)> {
    let piece = ListPiece {
        level,
        ids: Ids(items.iter().map(|(id, _)| *id).collect()),
        lengths: items.iter().map(|(_, length)| *length).collect(),
        unknown: Unknown::none(),
    };
    let total = items.iter().fold(0, |sum: u64, (_, length)| sum.saturating_add(*length));
    Ok((blobs.put(BlobKind::List, piece.to_cbor())?, total))
}

/// The nodes of a directory, one by one, in order. Also hands out the owners' names of each piece.
pub struct Nodes {
    tree: BlobId,
    above: Vec<(u32, std::vec::IntoIter<Child>)>,
    nodes: std::vec::IntoIter<Node>,
    users: Vec<Owner>,
    groups: Vec<Owner>,
}

impl Nodes {
    /// The nodes of directory `tree`.
    pub fn open(tree: BlobId, blobs: &mut dyn GetBlob) -> Result<Nodes> {
        let none = Vec::new().into_iter();
        let mut nodes = Nodes { tree, above: Vec::new(), nodes: none, users: Vec::new(), groups: Vec::new() };
        nodes.enter(&tree, None, blobs)?;
        Ok(nodes)
    }

    fn enter(&mut self, piece: &BlobId, beneath: Option<u32>, blobs: &mut dyn GetBlob) -> Result<()> {
        let bytes = blobs.get(piece, BlobKind::Tree)?;
        let object = || format!("tree {piece}");
        let piece = TreePiece::decode(&bytes).map_err(Error::object(object()))?;
        if beneath.is_some_and(|level| piece.level + 1 != level) {
            return Err(Error::damaged(object(), "it has another level than the piece above says"));
        }
        blobs.expect(&mut named(&piece));
        if piece.level == 0 {
            self.nodes = piece.nodes.into_iter();
            self.users = piece.users;
            self.groups = piece.groups;
        } else {
            self.above.push((piece.level, piece.children.into_iter()));
        }
        Ok(())
    }

    /// The next node, or none at the end.
    pub fn next(&mut self, blobs: &mut dyn GetBlob) -> Result<Option<Node>> {
        loop {
            if let Some(node) = self.nodes.next() {
                return Ok(Some(node));
            }
            let Some((level, pieces)) = self.above.last_mut() else { return Ok(None) };
            match (*level, pieces.next()) {
                (level, Some(child)) => self.enter(&child.piece, Some(level), blobs)?,
                (_, None) => {
                    self.above.pop();
                }
            }
        }
    }

    /// The names of the owners of the nodes of the piece that the last node came from.
    pub fn owner_names(&self) -> (&[Owner], &[Owner]) {
        (&self.users, &self.groups)
    }

    /// The directory's id.
    pub fn tree(&self) -> BlobId {
        self.tree
    }
}

/// The trees and lists that a piece of a tree names.
pub fn named(piece: &TreePiece) -> impl Iterator<Item = BlobId> {
    let pieces = piece.children.iter().map(|child| child.piece);
    pieces.chain(piece.nodes.iter().flat_map(|node| node.tree.into_iter().chain(node.list)))
}

/// Stands for the level of what is above a list: nothing is.
const ANY_LEVEL: u32 = u32::MAX;

/// The chunks of a file, in order, whether they lie in its node or in a list.
pub struct Chunks {
    items: std::vec::IntoIter<(BlobId, u64)>,
    above: Vec<(u32, std::vec::IntoIter<(BlobId, u64)>)>,
}

impl Chunks {
    /// The chunks of `node`. Inline content has none.
    pub fn of(node: &Node) -> Chunks {
        match node.list {
            // The list's own level is not known yet: it is read like a child that may have any level.
            Some(list) => {
                Chunks { items: Vec::new().into_iter(), above: vec![(ANY_LEVEL, vec![(list, node.size)].into_iter())] }
            }
            None => Chunks { items: node.chunks().collect::<Vec<_>>().into_iter(), above: Vec::new() },
        }
    }

    /// The next chunk and its length, or none at the end.
    pub fn next(&mut self, blobs: &mut dyn GetBlob) -> Result<Option<(BlobId, u64)>> {
        loop {
            if let Some(item) = self.items.next() {
                return Ok(Some(item));
            }
            let Some((level, pieces)) = self.above.last_mut() else { return Ok(None) };
            let level = *level;
            let Some((id, length)) = pieces.next() else {
                self.above.pop();
                continue;
            };
            let object = || format!("content list {id}");
            let piece = ListPiece::decode(&blobs.get(&id, BlobKind::List)?).map_err(Error::object(object()))?;
            if level != ANY_LEVEL && piece.level + 1 != level {
                return Err(Error::damaged(object(), "it has another level than the piece above says"));
            }
            if piece.lengths.iter().sum::<u64>() != length {
                return Err(Error::damaged(object(), "its lengths do not add up"));
            }
            let items: Vec<_> = piece.ids.0.into_iter().zip(piece.lengths).collect();
            if piece.level > 0 {
                blobs.expect(&mut items.iter().map(|(id, _)| *id));
            }
            if piece.level == 0 {
                self.items = items.into_iter();
            } else {
                self.above.push((piece.level, items.into_iter()));
            }
        }
    }
}

/// Whether a directory has no entries.
pub fn is_empty(tree: BlobId, blobs: &mut dyn GetBlob) -> Result<bool> {
    let piece = TreePiece::decode(&blobs.get(&tree, BlobKind::Tree)?).map_err(Error::object(format!("tree {tree}")))?;
    Ok(piece.level == 0 && piece.nodes.is_empty())
}

/// The node called `name` in directory `tree`, found by bisection.
pub fn find(tree: BlobId, name: &[u8], blobs: &mut dyn GetBlob) -> Result<Option<Node>> {
    let mut at = tree;
    loop {
        let bytes = blobs.get(&at, BlobKind::Tree)?;
        let mut piece = TreePiece::decode(&bytes).map_err(Error::object(format!("tree {at}")))?;
        if piece.level == 0 {
            let place = piece.nodes.binary_search_by(|node| node.name.0.as_slice().cmp(name));
            return Ok(place.ok().map(|place| piece.nodes.swap_remove(place)));
        }
        match piece.children.partition_point(|child| child.first.0.as_slice() <= name) {
            0 => return Ok(None),
            after => at = piece.children[after - 1].piece,
        }
    }
}
