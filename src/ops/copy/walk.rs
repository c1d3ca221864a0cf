//! What a snapshot needs that the destination does not hold.
//!
//! Piece by piece from the root down, on a stack of pieces that are still to be looked at. Beside it goes a snapshot that
//! the destination has: what the two have in common is learnt on the way down and not entered. No more of a tree is read
//! than what differs.

use super::super::browse::reader;
use super::super::fetch::is_damage;
use super::super::spill::Spill;
use super::super::{Context, Result};
use super::content::{Content, Record, record_of};
use super::{Beside, Copying, Cost};
use crate::base::{BlobId, Event};
use crate::format::pack::BlobKind;
use crate::format::snapshot::Snapshot;
use crate::format::tree::{HOLE, ListPiece, Node, TreePiece};
use crate::repo;
use crate::repo::blob_reader::{BlobBytes, BlobReader};
use crate::repo::trees::Chunks;

/// A piece of a tree that both repositories have.
#[derive(Clone, Copy)]
struct Pair {
    old: BlobId,
    new: BlobId,
}

/// A piece that is still to be looked at.
struct Visit {
    id: BlobId,
    kind: BlobKind,
    beside: Option<Pair>,
}

/// A piece of a tree that both have, decoded.
struct Known {
    pair: Pair,
    old: TreePiece,
    new: TreePiece,
}

/// A walk through one snapshot.
pub(super) struct Walk<'w, 'c> {
    copying: &'w mut Copying<'c>,
    content: Option<&'w Content<'c>>,
    trees: BlobReader,
    /// Reads the trees beside, as the source and as the destination name them.
    old: BlobReader,
    new: BlobReader,
    stack: Vec<Visit>,
    wanted: Spill<{ Record::BYTES }>,
    cost: Cost,
}

impl<'c> Copying<'c> {
    /// Walks `snapshot`; gives the places of all chunks that are wanted. With `content`, pieces that need no other names
    /// go there at once.
    pub(super) fn walk(
        &mut self,
        snapshot: &Snapshot,
        beside: Option<Beside>,
        content: Option<&Content<'c>>,
    ) -> Result<(Spill<{ Record::BYTES }>, Cost)> {
        let (source, destination) = (self.source, self.destination);
        let in_source = beside.is_none_or(|beside| beside.in_source);
        let mut walk = Walk {
            content,
            trees: reader(source),
            old: reader(if in_source { source } else { destination }),
            new: reader(destination),
            stack: Vec::new(),
            wanted: Spill::new(source),
            cost: Cost::default(),
            copying: self,
        };
        walk.run(snapshot.root, beside)?;
        Ok((walk.wanted, walk.cost))
    }
}

/// What cannot be read beside is no help, and no harm.
fn if_readable<T>(read: repo::Result<T>) -> Result<Option<T>> {
    match read {
        Ok(read) => Ok(Some(read)),
        Err(error) if is_damage(&error) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

fn tree_at(blobs: &mut BlobReader, id: &BlobId) -> repo::Result<TreePiece> {
    TreePiece::decode(&blobs.read(id)?).map_err(repo::Error::object(format!("tree {id}")))
}

impl Walk<'_, '_> {
    fn run(&mut self, root: BlobId, beside: Option<Beside>) -> Result<()> {
        let beside = beside.map(|beside| Pair { old: beside.old, new: beside.new });
        if let Some(pair) = beside {
            self.copying.held.learn(BlobKind::Tree, &pair.old, &pair.new)?;
        }
        self.stack.push(Visit { id: root, kind: BlobKind::Tree, beside });
        while let Some(visit) = self.stack.pop() {
            self.context().check_stop()?;
            if self.copying.held.mark(&visit.id)? {
                self.visit(&visit)?;
            }
        }
        Ok(())
    }

    fn context(&self) -> &Context {
        self.copying.source
    }

    fn is_shared(&self) -> bool {
        self.copying.held.is_shared()
    }

    fn visit(&mut self, visit: &Visit) -> Result<()> {
        let looked = self.trees.read(&visit.id).map_err(Into::into).and_then(|bytes| match visit.kind {
            BlobKind::List => self.list(visit, &bytes),
            _ => self.tree(visit, &bytes),
        });
        match looked {
            Err(super::Error::Repo(error)) if is_damage(&error) => {
                self.copying.failures.blob(&visit.id, &error);
                Ok(())
            }
            other => other,
        }
    }

    /// Counts a piece and hands it on, if it is what the destination needs.
    fn take(&mut self, kind: BlobKind, bytes: &BlobBytes) -> Result<()> {
        self.cost.trees += 1;
        self.context().monitor.event(Event::Done { items: 1, bytes: bytes.len() as u64 });
        match self.content {
            Some(content) if self.is_shared() => content.put_piece(kind, bytes.to_vec()).map(drop),
            _ => Ok(()),
        }
    }

    fn tree(&mut self, visit: &Visit, bytes: &BlobBytes) -> Result<()> {
        let piece = TreePiece::decode(bytes).map_err(repo::Error::object(format!("tree {}", visit.id)))?;
        self.take(BlobKind::Tree, bytes)?;
        let known = match visit.beside {
            Some(pair) => self.known(pair)?,
            None => None,
        };
        if let Some(known) = &known {
            self.learn(known)?;
        }
        for child in &piece.children {
            let beside = known.as_ref().and_then(|known| piece_beside(known, &child.first.0));
            self.stack.push(Visit { id: child.piece, kind: BlobKind::Tree, beside });
        }
        piece.nodes.iter().try_for_each(|node| self.node(node, known.as_ref()))
    }

    /// The piece beside, from both repositories. None if it cannot be read or is not the same in both.
    fn known(&mut self, pair: Pair) -> Result<Option<Known>> {
        let Some(old) = if_readable(tree_at(&mut self.old, &pair.old))? else { return Ok(None) };
        if self.is_shared() {
            return Ok(Some(Known { pair, new: old.clone(), old }));
        }
        let Some(new) = if_readable(tree_at(&mut self.new, &pair.new))? else { return Ok(None) };
        let firsts = |piece: &TreePiece| piece.children.iter().map(|child| child.first.clone()).collect::<Vec<_>>();
        let alike = old.level == new.level
            && firsts(&old) == firsts(&new)
            && old.nodes.len() == new.nodes.len()
            && old.nodes.iter().zip(&new.nodes).all(|(old, new)| is_same(old, new));
        Ok(alike.then_some(Known { pair, old, new }))
    }

    /// Learns what is beneath a piece that both have.
    fn learn(&mut self, known: &Known) -> Result<()> {
        let held = &mut self.copying.held;
        for (old, new) in known.old.children.iter().zip(&known.new.children) {
            held.learn(BlobKind::Tree, &old.piece, &new.piece)?;
        }
        for (old, new) in known.old.nodes.iter().zip(&known.new.nodes) {
            if let (Some(old), Some(new)) = (&old.tree, &new.tree) {
                held.learn(BlobKind::Tree, old, new)?;
            }
            if let (Some(old), Some(new)) = (&old.list, &new.list) {
                held.learn(BlobKind::List, old, new)?;
            }
            for (old, new) in old.chunks.0.iter().zip(&new.chunks.0).filter(|(old, _)| **old != HOLE) {
                held.learn(BlobKind::Data, old, new)?;
            }
        }
        Ok(())
    }

    fn node(&mut self, node: &Node, known: Option<&Known>) -> Result<()> {
        let beside = known.and_then(|known| node_beside(known, &node.name.0));
        if let Some(tree) = node.tree {
            let pair = beside.and_then(|(old, new)| Some(Pair { old: old.tree?, new: new.tree? }));
            self.stack.push(Visit { id: tree, kind: BlobKind::Tree, beside: pair });
        }
        if node.list.is_some() || !node.chunks.0.is_empty() {
            self.learn_chunks(node, beside)?;
        }
        if let Some(list) = node.list {
            self.stack.push(Visit { id: list, kind: BlobKind::List, beside: None });
        }
        node.chunks().try_for_each(|(id, length)| self.want(&id, length))
    }

    /// Learns what the chunks of the file that was here before are called there: it changed, but not all of it.
    fn learn_chunks(&mut self, node: &Node, beside: Option<(&Node, &Node)>) -> Result<()> {
        let Some((old, new)) = beside else { return Ok(()) };
        // Those that lie in their node were learnt with it, and a list that is the same has been.
        if self.is_shared() || old.list.is_none() || old.list == node.list {
            return Ok(());
        }
        let (mut olds, mut news) = (Chunks::of(old), Chunks::of(new));
        loop {
            let (old, new) = (if_readable(olds.next(&mut self.old))?, if_readable(news.next(&mut self.new))?);
            match (old.flatten(), new.flatten()) {
                (Some((old, length)), Some((new, same))) if length == same => {
                    if old != HOLE {
                        self.copying.held.learn(BlobKind::Data, &old, &new)?;
                    }
                }
                _ => return Ok(()),
            }
        }
    }

    fn list(&mut self, visit: &Visit, bytes: &BlobBytes) -> Result<()> {
        let piece = ListPiece::decode(bytes).map_err(repo::Error::object(format!("content list {}", visit.id)))?;
        self.take(BlobKind::List, bytes)?;
        for (id, length) in piece.ids.0.iter().zip(&piece.lengths) {
            match piece.level {
                0 => self.want(id, *length)?,
                _ => self.stack.push(Visit { id: *id, kind: BlobKind::List, beside: None }),
            }
        }
        Ok(())
    }

    /// A chunk is needed: it is wanted unless the destination holds it.
    fn want(&mut self, id: &BlobId, length: u64) -> Result<()> {
        if *id == HOLE || !self.copying.held.mark(id)? || self.copying.held.naming.there(id)?.is_some() {
            return Ok(());
        }
        match record_of(&self.copying.source.index, id, length)? {
            Ok(record) => {
                self.cost.blobs += 1;
                self.cost.blob_bytes += length;
                self.wanted.add(&record)
            }
            Err(error) => {
                self.copying.failures.blob(id, &error);
                Ok(())
            }
        }
    }
}

/// Whether a node of the destination is the copy of one of the source: all but names of blobs is the same.
fn is_same(old: &Node, new: &Node) -> bool {
    (&old.name, old.kind, old.size, &old.lengths) == (&new.name, new.kind, new.size, &new.lengths)
        && old.chunks.0.len() == new.chunks.0.len()
        && old.list.is_some() == new.list.is_some()
        && old.chunks.0.iter().zip(&new.chunks.0).all(|(old, new)| (*old == HOLE) == (*new == HOLE))
}

/// The piece beside that would hold the name `first`. A directory that has grown into several pieces has its only one
/// beside each of them.
fn piece_beside(known: &Known, first: &[u8]) -> Option<Pair> {
    if known.old.level == 0 {
        return Some(known.pair);
    }
    let after = known.old.children.partition_point(|child| child.first.0.as_slice() <= first);
    let place = after.saturating_sub(1);
    Some(Pair { old: known.old.children.get(place)?.piece, new: known.new.children.get(place)?.piece })
}

/// The nodes beside of this name.
fn node_beside<'k>(known: &'k Known, name: &[u8]) -> Option<(&'k Node, &'k Node)> {
    let place = known.old.nodes.binary_search_by(|node| node.name.0.as_slice().cmp(name)).ok()?;
    Some((&known.old.nodes[place], known.new.nodes.get(place)?))
}
