//! The files that cannot be restored because of what was found.

use super::super::browse::reader;
use super::super::fetch::is_damage;
use super::super::walk::{Step, Walk};
use super::super::{Context, Result};
use super::found::Found;
use crate::base::BlobId;
use crate::format::snapshot::Snapshot;
use crate::format::tree::Node;
use crate::repo::Error;
use crate::repo::blob_reader::BlobReader;
use crate::repo::trees::Chunks;
use std::collections::BTreeSet;

/// Walks the trees of all snapshots and tells for each damage which files and directories need what is damaged.
pub(in super::super) fn find(context: &Context, snapshots: &[Snapshot], found: &Found) -> Result<()> {
    let mut trees = reader(context).walking();
    let mut lists = reader(context);
    for snapshot in snapshots {
        let mut walk = match Walk::begin(snapshot.root, b"", &mut trees) {
            Ok(walk) => walk,
            Err(error) => {
                hurt_tree(found, snapshot, snapshot.root, b"/", error)?;
                continue;
            }
        };
        let mut above = vec![snapshot.root];
        while let Some(tree) = above.last().copied() {
            context.check_stop()?;
            let node = match walk.next(&mut trees) {
                Ok(Some(Step::Entry(node))) => node,
                Ok(Some(Step::Leave)) => {
                    above.pop();
                    continue;
                }
                Ok(None) => break,
                Err(error) => {
                    hurt_tree(found, snapshot, tree, walk.directory(), error)?;
                    continue;
                }
            };
            for damage in damages_of(&node, &mut lists, found)? {
                found.hurt(damage, snapshot.id, walk.path());
            }
            if let Some(tree) = node.tree {
                match walk.enter(tree, &mut trees) {
                    Ok(()) => above.push(tree),
                    Err(error) => hurt_tree(found, snapshot, tree, walk.path(), error)?,
                }
            }
        }
    }
    Ok(())
}

fn hurt_tree(found: &Found, snapshot: &Snapshot, tree: BlobId, path: &[u8], error: Error) -> Result<()> {
    if !is_damage(&error) {
        return Err(error.into());
    }
    if let Some(damage) = found.damage_of(&tree) {
        found.hurt(damage, snapshot.id, path);
    }
    Ok(())
}

/// The damages that a file suffers from, each once.
fn damages_of(node: &Node, lists: &mut BlobReader, found: &Found) -> Result<BTreeSet<usize>> {
    let mut damages = BTreeSet::new();
    let mut chunks = Chunks::of(node);
    loop {
        match chunks.next(lists) {
            Ok(Some((id, _))) => damages.extend(found.damage_of(&id)),
            Ok(None) => return Ok(damages),
            Err(error) if is_damage(&error) => damages.extend(node.list.and_then(|list| found.damage_of(&list))),
            Err(error) => return Err(error.into()),
        }
    }
}
