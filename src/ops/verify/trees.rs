//! Every tree and every list of the snapshots, each read once; every chunk that they name is marked.

use super::super::browse::reader;
use super::super::fetch::is_damage;
use super::super::walk::{Step, Walk};
use super::super::{Context, Result};
use super::found::Found;
use crate::base::BlobId;
use crate::format::pack::BlobKind;
use crate::format::snapshot::Snapshot;
use crate::format::tree::{HOLE, Node};
use crate::repo;
use crate::repo::Error;
use crate::repo::blob_reader::{BlobBytes, BlobReader};
use crate::repo::index::LiveSet;
use crate::repo::trees::{Chunks, GetBlob};

/// What was met on the way.
#[derive(Default)]
pub(super) struct Walked {
    pub trees: u64,
    pub chunks: u64,
}

/// Reads pieces and marks them; those that cannot be read are found.
struct Marking<'m, 'i> {
    blobs: BlobReader,
    live: &'m mut LiveSet<'i>,
    found: &'m Found,
    trees: u64,
}

impl GetBlob for Marking<'_, '_> {
    fn get(&mut self, id: &BlobId, _: BlobKind) -> repo::Result<BlobBytes> {
        self.trees += u64::from(self.live.mark(id)?);
        self.blobs.read(id).inspect_err(|error| {
            if is_damage(error) {
                self.found.blob(id, error);
            }
        })
    }

    fn expect(&mut self, ids: &mut dyn Iterator<Item = BlobId>) {
        self.blobs.expect(ids);
    }
}

/// Reads the trees of `snapshots` and marks in `live` all blobs that they need.
pub(super) fn read(context: &Context, snapshots: &[Snapshot], live: &mut LiveSet<'_>, found: &Found) -> Result<Walked> {
    let mut walked = Walked::default();
    let mut marking = Marking { blobs: reader(context).from_store_alone().walking(), live, found, trees: 0 };
    for snapshot in snapshots {
        if !marking.live.contains(&snapshot.root)? {
            walk(context, snapshot.root, &mut marking, &mut walked)?;
        }
    }
    walked.trees = marking.trees;
    Ok(walked)
}

/// Damage was found by the reader or is told here; anything else ends the verb.
fn go_on(marking: &Marking<'_, '_>, tree: BlobId, error: Error) -> Result<()> {
    if !is_damage(&error) {
        return Err(error.into());
    }
    if marking.found.damage_of(&tree).is_none() {
        marking.found.blob(&tree, &error);
    }
    Ok(())
}

fn walk(context: &Context, root: BlobId, marking: &mut Marking<'_, '_>, walked: &mut Walked) -> Result<()> {
    let mut walk = match Walk::begin(root, b"", marking) {
        Ok(walk) => walk,
        Err(error) => return go_on(marking, root, error),
    };
    let mut trees = vec![root];
    while let Some(tree) = trees.last().copied() {
        context.check_stop()?;
        let node = match walk.next(marking) {
            Ok(Some(Step::Entry(node))) => node,
            Ok(Some(Step::Leave)) => {
                trees.pop();
                continue;
            }
            Ok(None) => return Ok(()),
            Err(error) => {
                go_on(marking, tree, error)?;
                continue;
            }
        };
        chunks(context, &node, marking, walked)?;
        if let Some(tree) = node.tree
            && !marking.live.contains(&tree)?
        {
            match walk.enter(tree, marking) {
                Ok(()) => trees.push(tree),
                Err(error) => go_on(marking, tree, error)?,
            }
        }
    }
    Ok(())
}

fn chunks(context: &Context, node: &Node, marking: &mut Marking<'_, '_>, walked: &mut Walked) -> Result<()> {
    if let Some(list) = node.list
        && marking.live.contains(&list)?
    {
        return Ok(());
    }
    let mut chunks = Chunks::of(node);
    loop {
        let (id, length) = match chunks.next(marking) {
            Ok(Some(chunk)) => chunk,
            Ok(None) => return Ok(()),
            Err(error) => {
                go_on(marking, node.list.unwrap_or(HOLE), error)?;
                continue;
            }
        };
        if id != HOLE && marking.live.mark(&id)? {
            walked.chunks += 1;
            check_chunk(context, &id, length, marking.found)?;
        }
    }
}

/// A chunk must be in the index with the length that its file expects.
fn check_chunk(context: &Context, id: &BlobId, length: u64, found: &Found) -> Result<()> {
    if context.index.is_known_with(id, length)? {
        return Ok(());
    }
    let mut places = context.index.places(id)?;
    if places.is_empty() {
        // Condemned beside the run that made this snapshot: it is spared when the rest is swept.
        places = context.index.void_places(id)?;
    }
    if let Some(place) = places.first() {
        if u64::from(place.length) != length {
            let reason = format!("the index says it has {} bytes, a file says {length}", place.length);
            found.blob(id, &Error::damaged(format!("blob {id}"), reason));
        }
        return Ok(());
    }
    let error = match context.index.last_places(id)?.first() {
        Some(place) => {
            let reason =
                format!("its only copy lies in packs/{}, which could not be read before or is condemned", place.pack);
            Error::damaged(format!("blob {id}"), reason)
        }
        None => Error::Missing(*id),
    };
    found.blob(id, &error);
    Ok(())
}
