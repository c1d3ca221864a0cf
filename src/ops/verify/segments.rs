//! Whether the segments of the index are what was written. A machine whose cache knows what they say does not need them; the
//! next one, and this one when its cache is gone, does.

use super::super::{Context, Error, Result};
use super::sealed;
use crate::base::{Kind, Problem, SegmentId, side_by_side};
use crate::repo;
use crate::repo::index::segments::segment_key;
use crate::repo::index::{Opened, list_segments};
use std::collections::BTreeMap;

/// What came of looking.
pub(in super::super) struct Looked {
    /// Segments that there are.
    pub segments: u64,
    /// Those that are damaged, besides the ones that could not be opened.
    pub damaged: Vec<Problem>,
}

/// Reads the segments that this process has not read yet. Those that could not be `opened` are known.
pub(in super::super) fn look(context: &Context, opened: &Opened) -> Result<Looked> {
    let store = &**context.repository.store();
    let (went, read) = (context.index.went()?, context.index.segments_read());
    let there = opened.segments.iter().filter(|id| !went.contains(id));
    let new: Vec<SegmentId> = there.clone().filter(|id| !read.contains(id)).copied().collect();
    let sizes = if new.is_empty() { BTreeMap::new() } else { list_segments(store)? };
    // One without a size was merged into another one since.
    let wanted: Vec<(SegmentId, u64)> = new.iter().filter_map(|id| Some((*id, *sizes.get(id)?))).collect();
    let looked = side_by_side(sealed::lanes(store), &wanted, |(id, bytes)| look_at(context, *id, *bytes));
    let damaged = looked.into_iter().collect::<Result<Vec<_>>>()?.into_iter().flatten().collect();
    Ok(Looked { segments: there.count() as u64, damaged })
}

fn look_at(context: &Context, id: SegmentId, size_bytes: u64) -> Result<Option<Problem>> {
    let store = &**context.repository.store();
    let key = segment_key(id);
    let has_name = sealed::has_its_name(store, &key, &id.0, size_bytes, &mut |_| !context.stop.raised());
    context.check_stop()?;
    let error = match has_name {
        Ok(true) => return Ok(None),
        Ok(false) => repo::Error::altered(&key),
        // Merged into another one since it was listed.
        Err(error) if error.kind() == Kind::NotFound => return Ok(None),
        Err(error) if sealed::is_damage(store, error.kind()) => repo::Error::damaged(&key, error),
        Err(error) => return Err(Error::from(error)),
    };
    let message = format!(
        "{error}; only caches still know what it says, so that a new machine could restore little: run `keepstone \
         rebuild-index`, which makes it anew from the packs"
    );
    Ok(Some(Problem::new(key.to_string(), message, Kind::Damaged)))
}
