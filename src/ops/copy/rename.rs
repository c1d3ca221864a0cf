//! Trees under other names, from the leaves up.
//!
//! A piece can be written when all that it names has its name in the destination; until then it waits on the stack
//! beneath what it waits for. Only names of blobs change: pieces are cut where they were, and what this version does not
//! know stays as it is.

use super::super::browse::reader;
use super::super::{Context, Result};
use super::content::Content;
use super::held::{Held, Naming};
use crate::base::{BlobId, Event};
use crate::format::cbor::Cbor;
use crate::format::pack::BlobKind;
use crate::format::tree::{HOLE, ListPiece, Node, TreePiece};
use crate::repo::{self, Error};

/// Stores the tree `root` and all beneath it that has no name in the destination yet; gives its name there. All chunks
/// have theirs.
pub(super) fn trees(source: &Context, held: &Held<'_>, content: &Content<'_>, root: BlobId) -> Result<BlobId> {
    let mut blobs = reader(source);
    let mut waiting = vec![(root, BlobKind::Tree)];
    let mut rename = Rename { naming: &held.naming, missing: Vec::new() };
    while let Some((id, kind)) = waiting.last().copied() {
        source.check_stop()?;
        if held.naming.get(&id)?.is_some() {
            waiting.pop();
            continue;
        }
        let bytes = blobs.read(&id)?;
        match rename.piece(&id, kind, &bytes)? {
            Some(renamed) => {
                source.monitor.event(Event::Done { items: 1, bytes: 0 });
                held.naming.put(&id, &content.put_piece(kind, renamed)?)?;
                waiting.pop();
            }
            None => waiting.append(&mut rename.missing),
        }
    }
    Ok(held.naming.get(&root)?.ok_or_else(|| nameless(&root))?)
}

fn nameless(id: &BlobId) -> Error {
    Error::Internal(format!("blob {id} was copied and has no name in the destination"))
}

struct Rename<'n> {
    naming: &'n Naming,
    /// Pieces that have no names yet.
    missing: Vec<(BlobId, BlobKind)>,
}

impl Rename<'_> {
    /// The piece with all names changed; none if something that it names has no name yet.
    fn piece(&mut self, id: &BlobId, kind: BlobKind, bytes: &[u8]) -> repo::Result<Option<Vec<u8>>> {
        let renamed = match kind {
            BlobKind::List => {
                let mut piece = ListPiece::decode(bytes).map_err(Error::object(format!("content list {id}")))?;
                self.list(&mut piece)?;
                piece.to_cbor()
            }
            _ => {
                let mut piece = TreePiece::decode(bytes).map_err(Error::object(format!("tree {id}")))?;
                piece.nodes.iter_mut().try_for_each(|node| self.node(node))?;
                piece.children.iter_mut().try_for_each(|child| self.rename(&mut child.piece, BlobKind::Tree))?;
                piece.to_cbor()
            }
        };
        Ok(self.missing.is_empty().then_some(renamed))
    }

    fn list(&mut self, piece: &mut ListPiece) -> repo::Result<()> {
        let kind = if piece.level == 0 { BlobKind::Data } else { BlobKind::List };
        piece.ids.0.iter_mut().try_for_each(|id| self.rename(id, kind))
    }

    fn node(&mut self, node: &mut Node) -> repo::Result<()> {
        node.chunks.0.iter_mut().try_for_each(|id| self.rename(id, BlobKind::Data))?;
        node.list.iter_mut().try_for_each(|id| self.rename(id, BlobKind::List))?;
        node.tree.iter_mut().try_for_each(|id| self.rename(id, BlobKind::Tree))
    }

    fn rename(&mut self, id: &mut BlobId, kind: BlobKind) -> repo::Result<()> {
        if *id == HOLE {
            return Ok(());
        }
        match (self.naming.get(id)?, kind) {
            (Some(there), _) => *id = there,
            (None, BlobKind::Data) => return Err(nameless(id)),
            (None, _) => self.missing.push((*id, kind)),
        }
        Ok(())
    }
}
