//! Whether all that a tree needs is there: in packs that the index knows and that no condemned record names, the bases of
//! differences included.
//!
//! The index must have been brought up to date since the caller left its mark; what is there then stays for as long as
//! the caller's session is open. Nothing of the content is read, only trees and lists.

use super::{Context, Result, prune};
use crate::base::{BlobId, Kind};
use crate::repo::index::LiveSet;

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
        let all = bases
            .try_fold(true, |all, base| Ok::<_, super::Error>(all && is_sound(context, sound, base, depth + 1)?))?;
        if all {
            sound.mark(id)?;
            return Ok(true);
        }
    }
    Ok(false)
}
