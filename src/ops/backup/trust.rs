//! Whether what an earlier snapshot says is stored can be counted on without a look at the index.
//!
//! It can while no condemned record is open, and if the record's plan saw the snapshot: then all that it needs has a copy
//! in a pack that stays. One that was committed since may hang on packs that the record names. They are spared when it is
//! swept, if the snapshot is still there then; it may have been forgotten. So it is looked through first.

use super::super::whole::is_whole;
use super::super::{Context, Result};
use super::parent::Past;
use crate::base::{BlobId, Event, SnapshotId};
use crate::format::snapshot::Snapshot;
use crate::repo::session;
use std::collections::BTreeSet;

/// Takes out of `past` what cannot be counted on. `condemned` is the record that is open, if one is.
pub fn known(context: &Context, condemned: Option<u64>, snapshots: &[Snapshot], mut past: Past) -> Result<Past> {
    let Some(number) = condemned else { return Ok(past) };
    let seen = match session::load_condemned(&**context.repository.store(), context.repository.keyring(), number) {
        Ok(record) => record.snapshots.into_iter().collect(),
        // It was swept since, and what was needed of it spared. But who knows what else has happened: all is looked at.
        Err(error) if error.kind() == crate::base::Kind::NotFound => BTreeSet::new(),
        Err(error) => return Err(error.into()),
    };
    let planned: BTreeSet<BlobId> =
        snapshots.iter().filter(|snapshot| seen.contains(&snapshot.id)).map(|snapshot| snapshot.root).collect();
    let mut trust = Trust { context, seen, roots: planned, others: BTreeSet::new() };
    if let Some(parent) = &past.parent
        && !trust.takes(Some(parent.id), parent.root)?
    {
        let note = "what the parent needs may be deleted by a prune: everything is read";
        context.monitor.event(Event::Note(note));
        past.parent = None;
    }
    for seen in &mut past.seen {
        if let Some(at) = seen
            && !trust.takes(None, at.root)?
        {
            *seen = None;
        }
    }
    Ok(past)
}

struct Trust<'c> {
    context: &'c Context,
    /// The snapshots that the record's plan saw.
    seen: BTreeSet<SnapshotId>,
    /// Trees that can be counted on.
    roots: BTreeSet<BlobId>,
    /// Trees that cannot.
    others: BTreeSet<BlobId>,
}

impl Trust<'_> {
    fn takes(&mut self, id: Option<SnapshotId>, root: BlobId) -> Result<bool> {
        if id.is_some_and(|id| self.seen.contains(&id)) || self.roots.contains(&root) {
            return Ok(true);
        }
        if self.others.contains(&root) {
            return Ok(false);
        }
        let whole = is_whole(self.context, root)?;
        if whole {
            self.roots.insert(root)
        } else {
            self.others.insert(root)
        };
        Ok(whole)
    }
}
