//! What must hold in any world: every snapshot that was committed and not forgotten can be read bit for bit by somebody
//! who knows nothing, and when all are gone two prunes leave what is needed and nothing else.

use crate::vault::{count, keys, open, prune_all, read_index, restore_all_of};
use keepstone::base::{Clock, SnapshotId};
use keepstone::ops::{Context, prune};
use keepstone::repo::{session, snapshots};
use keepstone::store::{Area, Memory, ObjectStore};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// What lies in a snapshot, by name.
pub type Content = BTreeMap<String, Vec<u8>>;

/// What is known of a world beyond what its store says.
#[derive(Clone, Default)]
pub struct Known {
    /// What the runs that were begun would hold, by their tags.
    pub runs: BTreeMap<String, Content>,
    /// Snapshots whose backups ended well.
    pub committed: BTreeMap<SnapshotId, String>,
    /// Snapshots that somebody has set out to forget.
    pub forgotten: BTreeSet<SnapshotId>,
}

/// A second store with the same objects, all of them stored at its clock's time.
pub fn copy_of(from: &Memory, clock: Clock) -> Memory {
    let copy = Memory::with_clock(clock);
    for key in keys(from) {
        copy.put(&key, &from.get(&key, u64::MAX).unwrap()).unwrap();
    }
    copy
}

/// Reads all that is there as somebody who knows nothing; gives what is wrong.
pub fn look(store: &Memory, clock: &Clock, known: &Known) -> Vec<String> {
    let context = match open(Arc::new(store.clone()), clock) {
        Ok(context) => context,
        Err(error) => return vec![error.to_string()],
    };
    let mut wrong = Vec::new();
    let opened = context.index.refresh(store, context.repository.keyring()).unwrap();
    wrong.extend(opened.damaged.iter().map(|problem| format!("{}: {}", problem.subject, problem.message)));
    let (listed, damaged) = snapshots::list(&context.repository).unwrap();
    wrong.extend(damaged.iter().map(|(id, error)| format!("snapshot {id}: {error}")));
    let there: BTreeSet<SnapshotId> = listed.iter().map(|snapshot| snapshot.id).collect();
    let is_lost = |id: &&SnapshotId| !there.contains(*id) && !known.forgotten.contains(*id);
    wrong.extend(known.committed.keys().filter(is_lost).map(|id| format!("snapshot {id} is gone")));
    for snapshot in &listed {
        let name = format!("{} ({})", snapshot.id, snapshot.tags[0]);
        match restore_all_of(&context, snapshot.root) {
            Ok(content) if Some(&content) == known.runs.get(&snapshot.tags[0]) => {}
            Ok(_) => wrong.push(format!("{name} holds something else")),
            Err(error) => wrong.push(format!("{name} cannot be read: {error}")),
        }
    }
    wrong
}

/// Everybody is gone: two prunes leave what is needed and nothing else. Gives what is wrong.
pub fn settle(
    store: &Memory,
    clock: &Clock,
    known: &Known,
    view: &dyn Fn(Memory) -> Arc<dyn ObjectStore>,
) -> Vec<String> {
    for _ in 0..2 {
        if let Err(error) = open(view(store.clone()), clock).and_then(|context| prune_all(&context)) {
            return vec![format!("the last prunes: {error}")];
        }
    }
    let mut wrong = look(store, clock, known);
    let context = open(Arc::new(store.clone()), clock).unwrap();
    if let Err(error) = read_index(&context) {
        wrong.push(format!("something in the index cannot be read: {error}"));
    }
    wrong.extend(garbage(store, &context));
    wrong
}

/// What is left that nobody needs.
fn garbage(store: &Memory, context: &Context) -> Option<String> {
    let options = prune::Options { dry_run: true, max_unused: prune::MaxUnused::Bytes(0), ..prune::Options::default() };
    let left = match prune::prune(context, &options) {
        Ok(left) => left,
        Err(error) => return Some(format!("the last look: {error}")),
    };
    let open = session::condemned_numbers(store).unwrap();
    let marks = (count(store, Area::Sessions), count(store, Area::Condemned));
    let clean = (left.packs_deleted, left.unused_bytes) == (0, 0) && open.is_empty() && marks.0 == 0 && marks.1 <= 1;
    (!clean).then(|| format!("garbage is left: {left:?}, records {open:?}, marks {marks:?}"))
}
