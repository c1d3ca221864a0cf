//! Changing the tags of snapshots.
//!
//! Objects never change, so a snapshot with other tags is a new one that says which it came from. The new one is
//! stored before the old one goes: a crash in between leaves both.

use super::record::Record;
use super::{Context, Error, Result, forget};
use crate::base::SnapshotId;
use crate::format::run::Outcome as Ended;
use crate::format::session::SessionKind;
use crate::format::snapshot::Snapshot;
use crate::repo::Session;
use crate::repo::snapshots::{self, Found};

/// What to do with the tags of each snapshot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// Put these in the place of all.
    Set(Vec<String>),
    /// Add and remove; removing wins.
    Edit {
        /// Tags to add.
        add: Vec<String>,
        /// Tags to remove.
        remove: Vec<String>,
    },
}

impl Change {
    fn apply(&self, tags: &[String]) -> Vec<String> {
        let mut changed = match self {
            Change::Set(tags) => tags.clone(),
            Change::Edit { add, remove } => {
                tags.iter().chain(add).filter(|tag| !remove.contains(tag)).cloned().collect()
            }
        };
        changed.retain(|tag| !tag.is_empty());
        changed.sort();
        changed.dedup();
        changed
    }
}

/// A snapshot under its new name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Changed {
    /// The name it had.
    pub old: SnapshotId,
    /// The name it has now.
    pub new: SnapshotId,
    /// Its tags now, sorted.
    pub tags: Vec<String>,
}

/// What came of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Outcome {
    /// Snapshots that have other tags now.
    pub changed: Vec<Changed>,
    /// Snapshots that had these tags already.
    pub unchanged: u64,
}

/// Changes the tags of `ids`.
pub fn tag(context: &Context, ids: &[SnapshotId], change: &Change) -> Result<Outcome> {
    let mut record = Record::begin(context, "tag");
    let mut outcome = Outcome::default();
    let tagged = ids.iter().try_for_each(|id| tag_one(context, *id, change, &mut outcome));
    // Those that went are named too, or they would seem to have been lost.
    outcome.changed.iter().for_each(|changed| {
        record.snapshot(changed.new);
        record.snapshot(changed.old);
    });
    record.figure("snapshots_changed", outcome.changed.len() as u64);
    // Before the old ones go: whoever misses them finds who removed them.
    match &tagged {
        Ok(()) => record.save(context, Ended::Done)?,
        Err(error) => record.save_failure(context, error),
    }
    outcome.changed.iter().try_for_each(|changed| forget::remove(context, changed.old))?;
    tagged.map(|()| outcome)
}

fn tag_one(context: &Context, id: SnapshotId, change: &Change, outcome: &mut Outcome) -> Result<()> {
    context.check_stop()?;
    // The session comes first, and holds: from here on no prune sweeps anything, so that what the old snapshot needs is
    // there for the new one even if somebody forgets the old one meanwhile.
    let session = Session::begin_holding(&context.repository, SessionKind::Writer, "tag")?;
    let Found::Snapshot(old) = snapshots::load(&context.repository, id)? else {
        session.end()?;
        return Err(Error::NotFound(format!("there is no snapshot {id}")));
    };
    let tags = change.apply(&old.tags);
    if tags == old.tags {
        outcome.unchanged += 1;
        return Ok(session.end()?);
    }
    context.index.refresh(&**context.repository.store(), context.repository.keyring())?;
    let new = Snapshot {
        id: session.id(),
        tags: tags.clone(),
        original: old.original.or(Some(old.id)),
        // It is as old as its session, not as what it holds: these are named by now, or gone on purpose.
        segments: context.index.newest_segments()?,
        ..*old
    };
    session.commit(&new)?;
    outcome.changed.push(Changed { old: id, new: new.id, tags });
    Ok(())
}
