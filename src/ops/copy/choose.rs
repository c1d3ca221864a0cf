//! What the destination has of the source: which snapshots are copies of which, and beside which one to walk.

use super::super::{Context, Result};
use crate::base::{BlobId, Kind, Problem, RepositoryId, SessionId, SnapshotId};
use crate::format::cbor::Unknown;
use crate::format::snapshot::{Copied, Snapshot};
use crate::repo::snapshots;
use std::collections::{BTreeMap, BTreeSet};

/// Where a snapshot was committed first, and under which name. Neither copying nor other tags change it.
type Origin = (RepositoryId, SnapshotId);

/// The origin of a snapshot that lies in `repository`.
fn origin(repository: RepositoryId, snapshot: &Snapshot) -> Origin {
    match &snapshot.copied {
        Some(copied) => (copied.repository, copied.snapshot),
        None => (repository, snapshot.original.unwrap_or(snapshot.id)),
    }
}

/// A snapshot that both repositories have, or that the destination has and whose trees are named alike.
#[derive(Clone, Copy, Debug)]
pub(super) struct Beside {
    /// Its name in the destination.
    pub id: SnapshotId,
    /// Its root in the source's names.
    pub old: BlobId,
    /// Its root in the destination.
    pub new: BlobId,
    /// Its trees can be read in the source; otherwise in the destination.
    pub in_source: bool,
}

/// The snapshots of the destination, and those of the source that they are copies of.
pub(super) struct There {
    repository: RepositoryId,
    by_origin: BTreeMap<Origin, SnapshotId>,
    snapshots: BTreeMap<SnapshotId, Kept>,
    /// Roots of all snapshots of the source.
    roots: BTreeMap<Origin, BlobId>,
    relied_on: bool,
}

/// What is remembered of a snapshot of the destination.
struct Kept {
    origin: Origin,
    time_ns: i64,
    host: String,
    paths: Vec<Vec<u8>>,
    root: BlobId,
}

impl There {
    /// Reads all snapshots of both; tells what cannot be read in the destination.
    pub fn find(source: &Context, destination: &Context, problems: &mut Vec<Problem>) -> Result<There> {
        let repository = destination.repository.id();
        let (by_origin, snapshots, roots) = Default::default();
        let mut there = There { repository, by_origin, snapshots, roots, relied_on: true };
        let (found, damaged) = snapshots::list(&destination.repository)?;
        // Clients that may only write could claim that anything was copied.
        found.into_iter().filter(|snapshot| !snapshot.unverified).for_each(|snapshot| there.add(snapshot));
        for (id, error) in damaged {
            let message = format!("the destination's snapshot cannot be read, and may be copied once more: {error}");
            problems.push(Problem::new(format!("snapshot {}", id.short()), message, Kind::Damaged));
        }
        let (of_source, _) = snapshots::list(&source.repository)?;
        let root = |snapshot: Snapshot| (origin(source.repository.id(), &snapshot), snapshot.root);
        there.roots = of_source.into_iter().map(root).collect();
        Ok(there)
    }

    /// The same, but nothing that these snapshots reach is taken for granted.
    pub fn not_to_be_relied_on(self) -> There {
        There { relied_on: false, ..self }
    }

    /// Takes in a snapshot of the destination.
    pub fn add(&mut self, snapshot: Snapshot) {
        let origin = origin(self.repository, &snapshot);
        self.by_origin.insert(origin, snapshot.id);
        let paths = sorted_paths(&snapshot);
        let Snapshot { id, time_ns, host, root, .. } = snapshot;
        self.snapshots.insert(id, Kept { origin, time_ns, host, paths, root });
    }

    /// The name of the copy of `snapshot`, if there is one. One that came from here in the first place is its own copy.
    pub fn copy_of(&self, source: &Context, snapshot: &Snapshot) -> Option<SnapshotId> {
        self.by_origin.get(&origin(source.repository.id(), snapshot)).copied()
    }

    /// Whether `snapshot` was still in the source when our session was.
    pub fn is_in_source(&self, source: &Context, snapshot: &Snapshot) -> bool {
        self.roots.contains_key(&origin(source.repository.id(), snapshot))
    }

    /// Forgets what is not among `names` any more; whether there was such a snapshot.
    pub fn forget_gone(&mut self, names: &BTreeSet<SnapshotId>) -> bool {
        let before = self.snapshots.len();
        self.snapshots.retain(|id, _| names.contains(id));
        self.by_origin.retain(|_, id| names.contains(id));
        self.snapshots.len() < before
    }

    /// The snapshot that `snapshot` is most like: of its host and paths, the one nearest in time.
    pub fn beside(&self, source: &Context, snapshot: &Snapshot, shared_names: bool) -> Option<Beside> {
        let paths = sorted_paths(snapshot);
        let unlike = |kept: &Kept| {
            let distance = kept.time_ns.abs_diff(snapshot.time_ns);
            (kept.host != snapshot.host, kept.paths != paths, kept.origin.0 != source.repository.id(), distance)
        };
        let usable = |kept: &Kept| self.relied_on && (shared_names || self.roots.contains_key(&kept.origin));
        let found = self.snapshots.iter().filter(|(_, kept)| usable(kept));
        let (id, kept) = found.min_by_key(|(_, kept)| unlike(kept))?;
        let (id, in_source) = (*id, self.roots.get(&kept.origin).copied());
        Some(match shared_names {
            true => Beside { id, old: kept.root, new: kept.root, in_source: in_source == Some(kept.root) },
            false => Beside { id, old: in_source?, new: kept.root, in_source: true },
        })
    }

    /// The copy of `snapshot` as the destination will have it.
    pub fn as_copied(
        &self,
        source: &Context,
        destination: &Context,
        snapshot: &Snapshot,
        id: SessionId,
        root: BlobId,
    ) -> Result<Snapshot> {
        let from = source.repository.id();
        let (repository, name) = origin(from, snapshot);
        let copied = Copied { repository, snapshot: name, unknown: Unknown::none() };
        let parent = snapshot.parent.and_then(|parent| self.by_origin.get(&(from, parent)).copied());
        Ok(Snapshot {
            id,
            root,
            parent,
            original: None,
            copied: Some(copied),
            log: Vec::new(),
            received_ns: destination.repository.now_ns(),
            // It is as old as its session, not as what it holds.
            segments: destination.index.newest_segments()?,
            ..snapshot.clone()
        })
    }
}

fn sorted_paths(snapshot: &Snapshot) -> Vec<Vec<u8>> {
    let mut paths: Vec<Vec<u8>> = snapshot.paths.iter().map(|path| path.0.clone()).collect();
    paths.sort();
    paths
}
