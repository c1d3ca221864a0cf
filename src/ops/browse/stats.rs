//! How much there is: in snapshots, in the repository.

use super::super::walk::{Step, Walk};
use super::super::{Context, Result, spill::Spill};
use super::reader;
use crate::base::BlobId;
use crate::format::snapshot::Snapshot;
use crate::format::tree::{HOLE, NodeKind};
use crate::repo::blob_reader::BlobReader;
use crate::repo::trees::Chunks;
use crate::store::Area;
use std::collections::HashSet;

/// Directories that are remembered as counted; the rest are counted again, which costs time and nothing else.
const REMEMBERED_TREES: usize = 200_000;
/// Id and length of a chunk, side by side.
const RECORD_BYTES: usize = BlobId::SIZE + 8;

/// What snapshots hold.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SnapshotStats {
    /// How many snapshots.
    pub snapshots: u64,
    /// Files, over all snapshots.
    pub files: u64,
    /// Directories, over all snapshots.
    pub directories: u64,
    /// Everything else, over all snapshots.
    pub others: u64,
    /// Bytes that restoring each of them would write.
    pub restore_bytes: u64,
    /// Different chunks.
    pub unique_blobs: u64,
    /// Bytes of different chunks and of content that lies in trees, before compression.
    pub unique_bytes: u64,
}

/// Counts what `snapshots` hold. Trees are read once, however many snapshots share them.
pub fn stats(context: &Context, snapshots: &[Snapshot]) -> Result<SnapshotStats> {
    let mut stats = SnapshotStats::default();
    let mut count = Counting {
        context,
        trees: reader(context).walking(),
        lists: reader(context),
        seen: HashSet::new(),
        chunks: Spill::new(context),
        inline_bytes: 0,
    };
    for snapshot in snapshots {
        let totals = &snapshot.totals;
        stats.snapshots += 1;
        stats.files = stats.files.saturating_add(totals.files);
        stats.directories = stats.directories.saturating_add(totals.directories);
        stats.others = stats.others.saturating_add(totals.others);
        stats.restore_bytes = stats.restore_bytes.saturating_add(totals.bytes);
        count.tree(snapshot.root)?;
    }
    stats.unique_bytes = count.inline_bytes;
    count.chunks.finish(&mut |record: &[u8; RECORD_BYTES]| {
        let length = u64::from_be_bytes(record[BlobId::SIZE..].try_into().expect("8 bytes"));
        stats.unique_blobs += 1;
        stats.unique_bytes = stats.unique_bytes.saturating_add(length);
        Ok(())
    })?;
    Ok(stats)
}

struct Counting<'c> {
    context: &'c Context,
    trees: BlobReader,
    lists: BlobReader,
    seen: HashSet<BlobId>,
    chunks: Spill<RECORD_BYTES>,
    inline_bytes: u64,
}

impl Counting<'_> {
    fn is_new(&mut self, tree: BlobId) -> bool {
        if self.seen.len() < REMEMBERED_TREES { self.seen.insert(tree) } else { !self.seen.contains(&tree) }
    }

    fn tree(&mut self, root: BlobId) -> Result<()> {
        if !self.is_new(root) {
            return Ok(());
        }
        let mut walk = Walk::begin(root, b"", &mut self.trees)?;
        while let Some(step) = walk.next(&mut self.trees)? {
            let Step::Entry(node) = step else {
                self.context.check_stop()?;
                continue;
            };
            if node.kind == NodeKind::File {
                self.inline_bytes += node.inline.0.len() as u64;
                let mut chunks = Chunks::of(&node);
                while let Some((id, length)) = chunks.next(&mut self.lists)? {
                    if id != HOLE {
                        let mut record = [0; RECORD_BYTES];
                        record[..BlobId::SIZE].copy_from_slice(&id.0);
                        record[BlobId::SIZE..].copy_from_slice(&length.to_be_bytes());
                        self.chunks.add(&record)?;
                    }
                }
            }
            if let Some(tree) = node.tree
                && self.is_new(tree)
            {
                walk.enter(tree, &mut self.trees)?;
            }
        }
        Ok(())
    }
}

/// What lies in one area of the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AreaStats {
    /// The area.
    pub area: Area,
    /// How many objects.
    pub objects: u64,
    /// Their bytes.
    pub bytes: u64,
}

/// Counts the objects of the repository, area by area.
pub fn repository_stats(context: &Context) -> Result<Vec<AreaStats>> {
    let mut stats = Vec::new();
    for area in Area::ALL {
        let mut of_area = AreaStats { area, objects: 0, bytes: 0 };
        context.repository.store().list(area, &mut |listed| {
            of_area.objects += 1;
            of_area.bytes = of_area.bytes.saturating_add(listed.size_bytes);
        })?;
        stats.push(of_area);
    }
    Ok(stats)
}
