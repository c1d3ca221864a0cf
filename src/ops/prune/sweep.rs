//! Condemning and sweeping: from here on things go.
//!
//! What a crash after each line leaves:
//!
//! | after | there is |
//! | --- | --- |
//! | new packs | packs that no segment names: the next prune drops them |
//! | new segments | two places for what was copied: the next prune keeps one |
//! | the condemned record | packs that nobody relies on any more and that still lie there: the next prune takes the record back and plans again |
//! | some old segments deleted | the merged segment says what they said of packs that stay |
//! | all of them, flushed | the same; without the flush a crash of the machine could bring segments back whose packs are gone |
//! | some packs deleted | no segment names them any more; the rest are packs without a segment |
//! | the record closed | nothing to do |

use super::super::{Context, Error, Result};
use super::merge::Merge;
use super::plan::{Plan, stored_packs};
use crate::base::monitor::Event;
use crate::base::{PackId, SessionId};
use crate::format::cbor::Unknown;
use crate::format::session::Condemned;
use crate::repo;
use crate::repo::index::{list_segments, segments};
use crate::repo::pack_reader::pack_key;
use crate::repo::session;
use crate::repo::snapshots::{self, Found};
use crate::store::Area;
use std::collections::BTreeSet;

/// What became of an attempt to sweep.
pub enum Swept {
    /// Everything that the record names is gone.
    Done,
    /// Something new appeared that may need what the record names.
    PlanAgain,
    /// Somebody is at work who does not know of the record.
    Wait(String),
}

/// Proves that everything alive in packs that go has a place in a pack that stays and is there.
pub fn prove(context: &Context, plan: &Plan<'_>) -> Result<()> {
    context.monitor.event(Event::Phase("proving that nothing needed goes"));
    let stored = stored_packs(context)?;
    let stays = |pack: &PackId| !plan.goes(pack) && stored.contains_key(pack);
    let going = |pack: &repo::index::PackSummary| plan.goes(&pack.id);
    plan.live.each_live_by_pack(&going, &mut |_, located| {
        if context.index.places(&located.id)?.iter().any(|place| stays(&place.pack)) {
            return Ok(());
        }
        Err(repo::Error::Internal(format!(
            "blob {} is needed and would have gone: nothing was deleted, please report this",
            located.id
        )))
    })?;
    Ok(())
}

/// Stores the record of what goes; none if its number was taken.
pub fn condemn(context: &Context, plan: &Plan<'_>, merge: &Merge, session: SessionId) -> Result<Option<Condemned>> {
    let repository = &context.repository;
    // A forgotten snapshot that came back after a crash of the machine would need what is condemned here.
    repository.store().flush(Area::Snapshots)?;
    let record = Condemned {
        number: session::next_condemned(&**repository.store())?,
        session,
        at_ns: repository.now_ns(),
        packs: plan.going().map(|(pack, _)| *pack).collect(),
        segments: merge.replaced.clone(),
        snapshots: plan.snapshots.iter().copied().collect(),
        kept_segments: merge.kept.clone(),
        unknown: Unknown::none(),
    };
    Ok(session::put_condemned(repository, &record)?.then_some(record))
}

/// Deletes what `record` names if nobody can need it.
pub fn sweep(context: &Context, record: &Condemned, own: SessionId) -> Result<Swept> {
    // Sessions first, then snapshots and segments: who commits in between is found among the snapshots.
    if let Some(reason) = who_does_not_know(context, record, own)? {
        return Ok(Swept::Wait(reason));
    }
    if something_new(context, record)? {
        return Ok(Swept::PlanAgain);
    }
    context.monitor.event(Event::Phase("deleting"));
    let store = &**context.repository.store();
    // Segments before packs: a segment that names a deleted pack would let the next backup believe it has the blob.
    for segment in &record.segments {
        store.delete(&segments::segment_key(*segment))?;
    }
    store.flush(Area::Index)?;
    for pack in &record.packs {
        store.delete(&pack_key(*pack))?;
        context.monitor.event(Event::Done { items: 1, bytes: 0 });
    }
    store.flush(Area::Packs)?;
    session::close_condemned(&context.repository, record.number, own)?;
    Ok(Swept::Done)
}

fn who_does_not_know(context: &Context, record: &Condemned, own: SessionId) -> Result<Option<String>> {
    let open = session::open_sessions(&context.repository)?;
    let other = open
        .into_iter()
        .find(|other| other.mark.id != own && !other.seen.as_ref().is_some_and(|seen| seen.contains(&record.number)));
    Ok(other.map(|other| {
        let mark = other.mark;
        format!("{} began meanwhile on host {} (process {})", mark.operation, mark.host, mark.process)
    }))
}

fn something_new(context: &Context, record: &Condemned) -> Result<bool> {
    let seen: BTreeSet<_> = record.snapshots.iter().collect();
    for id in snapshots::names(&context.repository)?.iter().filter(|id| !seen.contains(id)) {
        if matches!(snapshots::load(&context.repository, *id)?, Found::Snapshot(_)) {
            return Ok(true);
        }
    }
    let seen: BTreeSet<_> = record.segments.iter().chain(&record.kept_segments).collect();
    Ok(list_segments(&**context.repository.store())?.keys().any(|segment| !seen.contains(segment)))
}

/// Takes back records that an earlier prune did not get to sweep. What they named is planned for again: no pack of
/// theirs can have gone while a segment still named it.
pub fn settle_earlier(context: &Context, own: SessionId) -> Result<u64> {
    let numbers = session::condemned_numbers(&**context.repository.store())?;
    for number in &numbers {
        session::close_condemned(&context.repository, *number, own)?;
    }
    Ok(numbers.len() as u64)
}

/// What to say when others keep coming.
pub fn too_busy(attempts: usize) -> Error {
    Error::Refused(format!(
        "the repository changed during each of {attempts} attempts; nothing was deleted: run `keepstone prune` again \
         when no backup runs"
    ))
}
