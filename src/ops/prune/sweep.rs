//! Condemning and sweeping: from here on things go.
//!
//! ```text
//! condemn   the numbered record of what goes: nothing goes yet
//! sweep     sessions are listed; if nobody is open who does not know of the record:
//!   spare   what appeared since the plan is looked through; what it needs is spared, decided once and for all
//!   bring back  a segment names what is spared, in full knowledge of the record
//!   prove   all that new snapshots need is there without what goes
//!   delete  segments, then packs; then the record is closed
//! ```
//!
//! What a crash after each line leaves:
//!
//! | after | there is |
//! | --- | --- |
//! | new packs | packs that no segment names: the next prune drops them |
//! | new segments | two places for what was copied: the next prune keeps one |
//! | the condemned record | packs that nobody relies on any more and that still lie there: the next prune sweeps it |
//! | the decision what is spared | the next prune does what was decided |
//! | the segment that brings back | the same; another one would say the same |
//! | some old segments deleted | the merged segments and that one say what they said of packs that stay |
//! | all of them, flushed | the same; without the flush a crash of the machine could bring segments back whose packs are gone |
//! | some packs deleted | no segment names them any more; the rest still stand in the record |
//! | all packs deleted but some that are locked | these are orphans, which the next prune condemns again |
//! | all segments deleted but some that are locked | they name packs that are tombstones until the next prune deletes them |
//! | the roster | the record counts as closed; what it leaves is cleared by the next prune |

use super::super::{Context, Error, Result};
use super::merge::Merge;
use super::plan::{Plan, each_stored, stored_among};
use super::presence::Presence;
use super::spare;
use crate::base::monitor::Event;
use crate::base::{PackId, SegmentId, SessionId, SortedMap, SortedSet};
use crate::format::cbor::Unknown;
use crate::format::session::Condemned;
use crate::repo;
use crate::repo::index::{Origin, Place, list_segments, segments};
use crate::repo::pack_reader::pack_key;
use crate::repo::session;
use crate::store::{Area, Key, Locked, delete_unlocked};
use std::collections::BTreeSet;

/// Objects that are deleted at once, at most.
const AT_ONCE: usize = 1000;

/// What became of an attempt to sweep.
pub enum Swept {
    /// Everything that the record names is gone, or spared.
    Done(Gone),
    /// So many sessions are at work that do not know of the record; this is one of them.
    Waits(String),
}

/// What went.
#[derive(Clone, Copy, Debug, Default)]
pub struct Gone {
    /// Packs.
    pub packs: u64,
    /// Their bytes.
    pub pack_bytes: u64,
    /// Segments.
    pub segments: u64,
    /// Their bytes.
    pub segment_bytes: u64,
    /// Packs that somebody needs after all.
    pub spared: u64,
    /// Packs that the store keeps, because they are locked: no segment that counts names them any more, so the next prune
    /// finds them as orphans and tries again.
    pub locked: u64,
    /// Their bytes.
    pub locked_bytes: u64,
    /// Segments that the store keeps. What they say of packs that went counts for nothing, for these stay in the roster
    /// as tombstones; what they say of others other segments say too, so that nobody minds if they are damaged. The next
    /// prune tries again.
    pub locked_segments: u64,
    /// What keeps the one of them that is kept longest.
    pub lock: Option<Locked>,
}

impl Gone {
    fn add_pack(&mut self, there: Option<u64>) {
        self.packs += u64::from(there.is_some());
        self.pack_bytes += there.unwrap_or(0);
    }

    fn add_segment(&mut self, lock: Option<Locked>, there: Option<u64>) {
        match lock {
            None => {
                self.segments += u64::from(there.is_some());
                self.segment_bytes += there.unwrap_or(0);
            }
            Some(_) => self.locked_segments += 1,
        }
        self.lock = self.lock.max(lock);
    }

    fn add_locked(&mut self, lock: Locked, there: Option<u64>) {
        self.locked += 1;
        self.locked_bytes += there.unwrap_or(0);
        self.lock = self.lock.max(Some(lock));
    }
}

/// Proves that everything alive in packs that go has a place in a pack that stays and is there, as shallow as any: so what
/// hangs on it can be decoded as before, and never comes to hang on itself.
pub fn prove(context: &Context, plan: &Plan<'_>) -> Result<()> {
    context.monitor.event(Event::Phase("proving that nothing needed goes"));
    let stays = who_stays(context, plan)?;
    let going = |pack: &repo::index::PackSummary| plan.goes(&pack.id);
    plan.live.each_live_by_pack(&going, &mut |_, located| {
        let places = context.index.places(&located.id)?;
        let least = places.iter().map(Place::depth).min();
        if places.iter().any(|place| stays.contains(&place.pack) && Some(place.depth()) == least) {
            return Ok(());
        }
        Err(repo::Error::Internal(format!(
            "blob {} is needed and would have gone: nothing was deleted, please report this",
            located.id
        )))
    })?;
    Ok(())
}

/// The packs that are there and do not go, new ones included.
fn who_stays(context: &Context, plan: &Plan<'_>) -> Result<SortedSet<PackId>> {
    let mut stays = Vec::new();
    each_stored(context, &mut |pack, _| stays.extend((!plan.goes(&pack)).then_some(pack)))?;
    Ok(stays.into_iter().collect())
}

/// Stores the record of what goes, under the number after the last that the plan saw; none if that is taken. The plan has
/// served then, and makes room before the record is sealed.
pub fn condemn(context: &Context, plan: Plan<'_>, merge: Merge, session: SessionId) -> Result<Option<Condemned>> {
    let repository = &context.repository;
    // A forgotten snapshot that came back after a crash of the machine would need what is condemned here.
    repository.store().flush(Area::Snapshots)?;
    let record = Condemned {
        number: plan.condemned_seen + 1,
        session,
        at_ns: repository.now_ns(),
        packs: plan.going().map(|(pack, _)| pack).collect(),
        segments: merge.replaced,
        snapshots: plan.snapshots.iter().copied().collect(),
        kept_segments: merge.kept,
        voucher: None,
        unknown: Unknown::none(),
    };
    drop(plan);
    Ok(session::put_condemned(repository, record)?)
}

/// Deletes what `record` names and nobody needs, unless somebody is at work who does not know of it.
pub fn sweep(context: &Context, presence: &mut Presence<'_>, record: &Condemned) -> Result<Swept> {
    let own = presence.session.id();
    let spared = match session::load_spared(&context.repository, record.number)? {
        // Once that is decided nobody can come any more who does not know.
        Some(spared) => spared,
        // Sessions first, then snapshots and segments: who commits in between is found among the snapshots.
        None => match who_does_not_know(context, presence, record)? {
            Some(reason) => return Ok(Swept::Waits(reason)),
            None => {
                let decided = spare::decide(context, record, own)?;
                match session::put_spared(&context.repository, decided)? {
                    Some(spared) => spared,
                    // Others were quicker with all of it.
                    None => return Ok(Swept::Done(Gone::default())),
                }
            }
        },
    };
    let brought_back = bring_back(context, record, &spared, own)?;
    if !record.packs.is_empty() {
        spare::prove(context, &spared)?;
    }
    // Asked before the segments go that may name such packs.
    let mut tombstones = context.index.tombstones()?;
    let swept = context.index.swept()?;
    let named: SortedSet<PackId> = record.packs.iter().copied().collect();
    let stored = stored_among(context, &|pack| named.contains(pack) || swept.contains(pack))?;
    drop(named);
    // What was swept once and is there all the same is locked. No rebuild of the index may find it: its bases are gone.
    tombstones.extend(swept.iter().copied().filter(|pack| stored.contains(pack)));
    context.check_stop()?;
    let gone = delete(context, &stored, record, &spared)?;
    drop(stored);
    session::close_condemned(&context.repository, record, &spared, own, &brought_back, &tombstones)?;
    Ok(Swept::Done(gone))
}

fn who_does_not_know(context: &Context, presence: &mut Presence<'_>, record: &Condemned) -> Result<Option<String>> {
    let others = presence.others(context)?;
    let unknowing: Vec<_> = others.iter().filter(|other| !other.knows(record)).collect();
    Ok(unknowing.first().map(|other| {
        let more = if unknowing.len() > 1 { format!(", and {} more", unknowing.len() - 1) } else { String::new() };
        format!("{}{more}", presence.describe(other))
    }))
}

/// Sees to it that segments name what is spared in full knowledge of the record: those that named it before may go with
/// the record. Gives all segments that do.
fn bring_back(context: &Context, record: &Condemned, spared: &Condemned, session: SessionId) -> Result<Vec<SegmentId>> {
    if record.packs.is_empty() {
        return Ok(Vec::new());
    }
    let spare: BTreeSet<&PackId> = spared.packs.iter().collect();
    let spare: BTreeSet<PackId> = record.packs.iter().filter(|pack| spare.contains(pack)).copied().collect();
    super::refresh(context)?;
    if !still_void(context, &spare)?.is_empty() {
        let (store, keyring) = (&**context.repository.store(), context.repository.keyring());
        let origin = Origin {
            session,
            level: 0,
            supersedes: Vec::new(),
            previous: Vec::new(),
            condemned_seen: record.number,
            written_ns: context.repository.now_ns(),
        };
        let void = still_void(context, &spare)?;
        context.index.save_merged(store, keyring, origin, &|pack| void.contains(pack))?;
        super::refresh(context)?;
    }
    if let Some(pack) = still_void(context, &spare)?.first() {
        return Err(Error::Repo(repo::Error::Internal(format!(
            "pack {pack} is needed after all and no segment brings it back: nothing was deleted, please report this"
        ))));
    }
    Ok(context.index.segments_that_saw(record.number)?)
}

/// Those of the packs that some segment names and none brings back. What was swept earlier cannot come back.
fn still_void(context: &Context, spare: &BTreeSet<PackId>) -> Result<BTreeSet<PackId>> {
    let mut void = BTreeSet::new();
    if spare.is_empty() {
        return Ok(void);
    }
    let swept = context.index.tombstones()?;
    context.index.each_pack::<Error>(&mut |pack| {
        if pack.void && spare.contains(&pack.id) && !swept.contains(&pack.id) {
            void.insert(pack.id);
        }
        Ok(())
    })?;
    Ok(void)
}

/// Segments before packs: a segment that names a deleted pack would let the next backup believe it has the blob. Within
/// each of the two the order is all one, so many go at once.
fn delete(context: &Context, stored: &SortedMap<PackId, u64>, record: &Condemned, spared: &Condemned) -> Result<Gone> {
    context.monitor.event(Event::Phase("deleting"));
    let store = &**context.repository.store();
    let listed = list_segments(store)?;
    let mut gone = Gone::default();
    for segments in record.segments.chunks(AT_ONCE) {
        let keys: Vec<Key> = segments.iter().map(|segment| segments::segment_key(*segment)).collect();
        for (segment, lock) in segments.iter().zip(delete_unlocked(store, &keys)?) {
            gone.add_segment(lock, listed.get(segment).copied());
        }
    }
    store.flush(Area::Index)?;
    let spare: BTreeSet<&PackId> = spared.packs.iter().collect();
    let count = record.packs.iter().filter(|pack| !spare.contains(pack)).count() as u64;
    gone.spared = record.packs.len() as u64 - count;
    context.monitor.event(Event::Total { items: count, bytes: 0, complete: true });
    let mut left = record.packs.iter().filter(|pack| !spare.contains(pack)).copied().peekable();
    while left.peek().is_some() {
        let packs: Vec<PackId> = left.by_ref().take(AT_ONCE).collect();
        let keys: Vec<Key> = packs.iter().map(|pack| pack_key(*pack)).collect();
        for (pack, lock) in packs.iter().zip(delete_unlocked(store, &keys)?) {
            let there = stored.get(pack).copied();
            match lock {
                None => gone.add_pack(there),
                Some(lock) => gone.add_locked(lock, there),
            }
        }
        context.monitor.event(Event::Done { items: packs.len() as u64, bytes: 0 });
    }
    store.flush(Area::Packs)?;
    Ok(gone)
}
