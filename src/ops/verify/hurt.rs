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

/// Walks the trees of all snapshots and tells for each damage which files and directories need what is damaged. What was
/// found sound beneath one snapshot is not walked again beneath the next.
pub(in super::super) fn find(context: &Context, snapshots: &[Snapshot], found: &Found) -> Result<()> {
    let mut trees = reader(context).walking();
    let mut lists = reader(context);
    let mut sound = context.index.begin_live()?;
    for snapshot in snapshots {
        if sound.contains(&snapshot.root)? {
            continue;
        }
        let mut walk = match Walk::begin(snapshot.root, b"", &mut trees) {
            Ok(walk) => walk,
            Err(error) => {
                hurt_tree(found, snapshot, snapshot.root, b"/", error)?;
                found.hurt_one(snapshot.id);
                continue;
            }
        };
        // Each directory on the way down, with what had been told when it was entered, and whether it is hurt itself.
        let (mut told, mut above) = (0u64, vec![(snapshot.root, 0, false)]);
        while let Some((tree, before, is_hurt)) = above.last().copied() {
            context.check_stop()?;
            let node = match walk.next(&mut trees) {
                Ok(Some(Step::Entry(node))) => node,
                Ok(Some(Step::Leave)) => {
                    above.pop();
                    if told == before {
                        sound.mark(&tree)?;
                    }
                    continue;
                }
                Ok(None) => break,
                Err(error) => {
                    hurt_tree(found, snapshot, tree, walk.directory(), error)?;
                    told += 1;
                    if !is_hurt {
                        found.hurt_one(snapshot.id);
                    }
                    above.last_mut().expect("it was there just now").2 = true;
                    continue;
                }
            };
            let damages = damages_of(&node, &mut lists, found)?;
            damages.iter().for_each(|damage| found.hurt(*damage, snapshot.id, walk.path()));
            told += damages.len() as u64;
            if !damages.is_empty() {
                found.hurt_one(snapshot.id);
            }
            if let Some(tree) = node.tree
                && !sound.contains(&tree)?
            {
                match walk.enter(tree, &mut trees) {
                    Ok(()) => above.push((tree, told, false)),
                    Err(error) => {
                        hurt_tree(found, snapshot, tree, walk.path(), error)?;
                        found.hurt_one(snapshot.id);
                        told += 1;
                    }
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
    // In a snapshot that nobody asked for it may be met here for the first time.
    if found.damage_of(&tree).is_none() {
        found.blob(&tree, &error);
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
