//! What is spared of a condemned record: packs that somebody needs after all.
//!
//! Who did not know of the record may have relied on what it names. When nobody such is at work any more, all that can
//! need it is there to be seen: snapshots and segments that the plan did not see. What they need is
//!
//! - all that the new snapshots reach;
//! - the bases of all differences in packs that the new segments name, and in packs that are spared, needed or not: the
//!   next backup may build on them.
//!
//! Snapshots and segments that the plan saw need nothing: it was proven that what lives in packs that go, bases
//! included, has a copy in a pack that stays.

use super::super::{Context, Error, Result};
use super::plan;
use crate::base::monitor::Event;
use crate::base::{BlobId, PackId, SegmentId, SessionId, SnapshotId, SortedSet};
use crate::format::cbor::Unknown;
use crate::format::session::Condemned;
use crate::repo;
use crate::repo::index::{LiveSet, Place, SegmentReader, present_segments};
use crate::repo::snapshots::{self, Found};
use std::collections::BTreeSet;

/// Finds out what is to be spared of `record`. Sessions were listed before, and nobody who does not know is open.
pub fn decide(context: &Context, record: &Condemned, own: SessionId) -> Result<Condemned> {
    // Snapshots before segments: what is committed has all its segments in the store.
    let names = snapshots::names(&context.repository)?;
    // Where no pack goes nobody has to know what is in them, and the index may be what is to be mended.
    let segments = match record.packs.is_empty() {
        true => present_segments(&**context.repository.store())?.into_keys().collect(),
        false => super::refresh(context)?,
    };
    let seen: BTreeSet<&SnapshotId> = record.snapshots.iter().collect();
    let new_snapshots: Vec<SnapshotId> = names.into_iter().filter(|id| !seen.contains(id)).collect();
    let seen: BTreeSet<&SegmentId> = record.segments.iter().chain(&record.kept_segments).collect();
    let new_segments: Vec<SegmentId> = segments.into_iter().filter(|id| !seen.contains(id)).collect();
    let packs = match record.packs.is_empty() {
        true => BTreeSet::new(),
        false => find(context, record, &new_snapshots, &new_segments)?,
    };
    Ok(Condemned {
        number: record.number,
        session: own,
        at_ns: context.repository.now_ns(),
        packs: packs.into_iter().collect(),
        segments: Vec::new(),
        snapshots: new_snapshots,
        kept_segments: new_segments,
        voucher: None,
        unknown: Unknown::none(),
    })
}

fn find(
    context: &Context,
    record: &Condemned,
    new_snapshots: &[SnapshotId],
    new_segments: &[SegmentId],
) -> Result<BTreeSet<PackId>> {
    context.monitor.event(Event::Phase("looking for what is needed after all"));
    let condemned = record.packs.iter().copied().collect();
    let mut stored = Vec::new();
    plan::each_stored(context, &mut |pack, _| stored.push(pack))?;
    let stored = stored.into_iter().collect();
    let mut search = Search { context, condemned, stored, spared: BTreeSet::new() };
    let mut live = context.index.begin_live()?;
    for id in new_snapshots {
        if let Found::Snapshot(snapshot) = snapshots::load(&context.repository, *id)? {
            search.snapshot(&mut live, snapshot.root)?;
        }
    }
    let mut of_new = BTreeSet::new();
    for id in new_segments {
        let (store, keyring) = (&**context.repository.store(), context.repository.keyring());
        let mut reader = SegmentReader::open(store, keyring, *id)?;
        while let Some(pack) = reader.next_pack()? {
            of_new.extend(Some(pack.id).filter(|pack| !search.condemned.contains(pack)));
        }
    }
    search.close_over_bases(of_new)?;
    Ok(search.spared)
}

struct Search<'c> {
    context: &'c Context,
    condemned: SortedSet<PackId>,
    stored: SortedSet<PackId>,
    spared: BTreeSet<PackId>,
}

impl Search<'_> {
    fn snapshot(&mut self, live: &mut LiveSet<'_>, root: BlobId) -> Result<()> {
        plan::mark_tree(self.context, live, root, &mut |id| match self.take(id)? {
            true => Ok(()),
            false => Err(plan::missing(id)),
        })
    }

    /// Makes sure that a blob stays, sparing a pack if need be. False if it is nowhere.
    fn take(&mut self, id: &BlobId) -> Result<bool> {
        let mut places = self.context.index.places(id)?;
        places.extend(self.context.index.void_places(id)?);
        places.retain(|place| self.stored.contains(&place.pack));
        // The shallowest: what hangs on it may be what a deeper one hangs on.
        let least = places.iter().map(Place::depth).min().unwrap_or(0);
        if places.iter().any(|place| place.depth() == least && self.stays(place)) {
            return Ok(true);
        }
        // A whole copy first: it needs no other pack.
        let Some(place) = places.iter().min_by_key(|place| (place.depth(), place.pack)) else { return Ok(false) };
        self.spared.insert(place.pack);
        Ok(true)
    }

    fn stays(&self, place: &Place) -> bool {
        !self.condemned.contains(&place.pack) || self.spared.contains(&place.pack)
    }

    /// Spares the bases of all differences in `packs` and in what is spared, until nothing more is.
    fn close_over_bases(&mut self, mut packs: BTreeSet<PackId>) -> Result<()> {
        loop {
            packs.extend(&self.spared);
            let before = self.spared.len();
            let mut bases = BTreeSet::new();
            self.context.index.each_chain(&|pack| packs.contains(&pack.id), &mut |found| {
                bases.extend(found);
                Ok(())
            })?;
            for base in bases {
                self.context.check_stop()?;
                // One that is nowhere was lost before: whoever needs it has been told, or will be.
                self.take(&base)?;
            }
            if self.spared.len() == before {
                return Ok(());
            }
        }
    }
}

/// Proves that all that the new snapshots need can be had without what goes.
pub fn prove(context: &Context, spared: &Condemned) -> Result<()> {
    for id in &spared.snapshots {
        if let Found::Snapshot(snapshot) = snapshots::load(&context.repository, *id)?
            && !super::super::whole::is_whole(context, snapshot.root)?
        {
            return Err(Error::Repo(repo::Error::Internal(format!(
                "snapshot {id} would have lost something: nothing was deleted, please report this"
            ))));
        }
    }
    Ok(())
}
