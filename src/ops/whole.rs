//! Whether all that a tree needs is there: in packs that the index knows and that no condemned record names, the bases of
//! differences included. And for whom that has to be found out: for who was taken for dead, and for who wants to count on
//! a snapshot while a record is open.
//!
//! The index must have been brought up to date since the caller left its mark; what is there then stays for as long as
//! the caller's session is open. Nothing of the content is read, only trees and lists.

use super::{Context, Error, Result, prune};
use crate::base::{BlobId, Kind, SessionId, SnapshotId};
use crate::repo::index::LiveSet;
use crate::repo::session;
use std::collections::BTreeSet;

/// How often a writer begins anew because it was taken for dead.
pub const BEGINNINGS: u32 = 4;

/// Whether a writer failed because its session was fenced: what it had stored may be swept under its hands.
pub fn is_of_sleep(context: &Context, session: SessionId, error: &Error) -> Result<bool> {
    let gone = matches!(error.kind(), Kind::NotFound | Kind::Damaged);
    Ok(gone && session::is_fenced(&context.repository, session)?)
}

/// Whether all that a tree needs is there, for a session that has just begun.
pub fn is_still_there(context: &Context, root: BlobId) -> Result<bool> {
    let store = context.repository.store();
    let opened = context.refresh()?;
    opened.check_records(&store.location())?;
    context.index.check_packs(&**store, opened.damaged.is_empty())?;
    is_whole(context, root)
}

/// Which snapshots can be counted on while a condemned record is open: those that its plan saw, for all that they need
/// has a copy in a pack that stays. One that was committed since may hang on packs that the record names. They are spared
/// when it is swept, if the snapshot is still there then; it may have been forgotten. So it is looked through first.
pub struct Trust<'c> {
    context: &'c Context,
    /// The snapshots that the record's plan saw.
    seen: BTreeSet<SnapshotId>,
    /// Trees that can be counted on.
    roots: BTreeSet<BlobId>,
    /// Trees that cannot.
    others: BTreeSet<BlobId>,
}

impl<'c> Trust<'c> {
    /// While the record `number` is open.
    pub fn beside(context: &'c Context, number: u64) -> Result<Trust<'c>> {
        let seen = match session::load_condemned(&**context.repository.store(), context.repository.keyring(), number) {
            Ok(record) => record.snapshots.into_iter().collect(),
            // It was swept since, and what was needed of it spared. But who knows what else has happened: all is looked at.
            Err(error) if error.kind() == Kind::NotFound => BTreeSet::new(),
            Err(error) => return Err(error.into()),
        };
        Ok(Trust { context, seen, roots: BTreeSet::new(), others: BTreeSet::new() })
    }

    /// A snapshot has this tree: it counts for others that have the same.
    pub fn hear_of(&mut self, id: SnapshotId, root: BlobId) {
        if self.seen.contains(&id) {
            self.roots.insert(root);
        }
    }

    /// Whether a tree can be counted on, which perhaps is that of a snapshot.
    pub fn takes(&mut self, id: Option<SnapshotId>, root: BlobId) -> Result<bool> {
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

/// Whether the tree and everything beneath it are there.
pub fn is_whole(context: &Context, root: BlobId) -> Result<bool> {
    let mut live = context.index.begin_live()?;
    let mut sound = context.index.begin_live()?;
    let checked = prune::mark_tree(context, &mut live, root, &mut |id| match is_sound(context, &mut sound, id, 0)? {
        true => Ok(()),
        false => Err(prune::missing(id)),
    });
    match checked {
        Ok(()) => Ok(true),
        Err(error) if matches!(error.kind(), Kind::Damaged | Kind::NotFound) => Ok(false),
        Err(error) => Err(error),
    }
}

/// Whether a blob has a place that counts, and so have the bases that it is stored on there.
fn is_sound(context: &Context, sound: &mut LiveSet<'_>, id: &BlobId, depth: u32) -> Result<bool> {
    if sound.contains(id)? {
        return Ok(true);
    }
    if depth > crate::format::pack::MAX_CHAIN_DEPTH {
        return Ok(false);
    }
    for place in context.index.places(id)? {
        let mut bases = place.chain.iter().flat_map(|chain| &chain.bases);
        let all =
            bases.try_fold(true, |all, base| Ok::<_, Error>(all && is_sound(context, sound, base, depth + 1)?))?;
        if all {
            sound.mark(id)?;
            return Ok(true);
        }
    }
    Ok(false)
}
