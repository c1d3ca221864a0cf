//! Since when all that a snapshot needs is proven: when the first of its packs was read.
//!
//! Trees and lists were read by this very run; of each chunk the copy counts that was read last. What a directory came to
//! is remembered, so that what snapshots share is looked at once; the memory for that is bounded, and what does not fit
//! is looked at again.

use super::super::browse::reader;
use super::super::fetch::is_damage;
use super::super::walk::{Step, Walk};
use super::super::{Context, Result};
use crate::base::{BlobId, SnapshotId};
use crate::format::snapshot::Snapshot;
use crate::format::tree::{HOLE, Node};
use crate::repo::blob_reader::BlobReader;
use crate::repo::ledger::Known;
use crate::repo::trees::Chunks;
use std::collections::HashMap;

/// Directories that are remembered (about 20 MiB).
const MAX_REMEMBERED: usize = 900_000;
/// The time of what was never read.
const NEVER: i64 = i64::MIN;

struct Proof<'p> {
    context: &'p Context,
    known: &'p Known,
    now_ns: i64,
    trees: BlobReader,
    lists: BlobReader,
    /// By the first bytes of a directory's name.
    remembered: HashMap<u64, i64>,
}

/// Of each snapshot that is proven, when the first of what it needs was read, nanoseconds since 1970. Snapshots of which
/// something was never read are left out.
pub(super) fn since(context: &Context, snapshots: &[Snapshot], known: &Known) -> Result<Vec<(SnapshotId, i64)>> {
    let mut proof = Proof {
        context,
        known,
        now_ns: context.repository.now_ns(),
        trees: reader(context).walking(),
        lists: reader(context),
        remembered: HashMap::new(),
    };
    let mut proven = Vec::new();
    for snapshot in snapshots {
        let since_ns = proof.of_tree(snapshot.root)?;
        if since_ns != NEVER {
            proven.push((snapshot.id, since_ns));
        }
    }
    Ok(proven)
}

fn short(tree: &BlobId) -> u64 {
    let (first, _) = tree.0.split_first_chunk().expect("32 bytes begin with 8");
    u64::from_le_bytes(*first)
}

impl Proof<'_> {
    fn of_tree(&mut self, root: BlobId) -> Result<i64> {
        if let Some(known) = self.remembered.get(&short(&root)) {
            return Ok(*known);
        }
        let mut walk = match Walk::begin(root, b"", &mut self.trees) {
            Ok(walk) => walk,
            Err(error) if is_damage(&error) => return Ok(NEVER),
            Err(error) => return Err(error.into()),
        };
        let mut above = vec![(root, self.now_ns)];
        let mut last = self.now_ns;
        loop {
            self.context.check_stop()?;
            match walk.next(&mut self.trees) {
                Ok(None) => return Ok(last),
                Ok(Some(Step::Leave)) => {
                    let Some((tree, since_ns)) = above.pop() else { return Ok(last) };
                    self.remember(&tree, since_ns);
                    last = since_ns;
                    lower(&mut above, since_ns);
                }
                Ok(Some(Step::Entry(node))) => {
                    let since_ns = self.of_content(&node)?;
                    lower(&mut above, since_ns);
                    // What follows cannot make it better.
                    if since_ns == NEVER {
                        return Ok(NEVER);
                    }
                    let Some(tree) = node.tree else { continue };
                    match self.remembered.get(&short(&tree)).copied() {
                        Some(NEVER) => return Ok(NEVER),
                        Some(since_ns) => lower(&mut above, since_ns),
                        None => match walk.enter(tree, &mut self.trees) {
                            Ok(()) => above.push((tree, self.now_ns)),
                            Err(error) if is_damage(&error) => return Ok(NEVER),
                            Err(error) => return Err(error.into()),
                        },
                    }
                }
                Err(error) if is_damage(&error) => return Ok(NEVER),
                Err(error) => return Err(error.into()),
            }
        }
    }

    fn remember(&mut self, tree: &BlobId, since_ns: i64) {
        if self.remembered.len() >= MAX_REMEMBERED {
            self.remembered.clear();
        }
        self.remembered.insert(short(tree), since_ns);
    }

    fn of_content(&mut self, node: &Node) -> Result<i64> {
        let mut since_ns = self.now_ns;
        let mut chunks = Chunks::of(node);
        loop {
            match chunks.next(&mut self.lists) {
                Ok(Some((id, _))) if id == HOLE => {}
                Ok(Some((id, _))) => since_ns = since_ns.min(self.of_chunk(&id)?),
                Ok(None) => return Ok(since_ns),
                Err(error) if is_damage(&error) => return Ok(NEVER),
                Err(error) => return Err(error.into()),
            }
            if since_ns == NEVER {
                return Ok(NEVER);
            }
        }
    }

    fn of_chunk(&self, id: &BlobId) -> Result<i64> {
        let places = self.context.index.places(id)?;
        Ok(places.iter().filter_map(|place| self.known.read_ns(&place.pack)).max().unwrap_or(NEVER))
    }
}

/// What lies in a directory is part of it.
fn lower(above: &mut [(BlobId, i64)], since_ns: i64) {
    if let Some((_, own_ns)) = above.last_mut() {
        *own_ns = since_ns.min(*own_ns);
    }
}
