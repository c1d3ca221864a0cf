//! Index segments made anew from the packs themselves.

use super::load::{done_key, list_condemned, load_condemned, load_condemned_at, present_segments};
use super::merge::Vouching;
use super::segments::{Origin, SegmentContents, SegmentReader, save, save_unvouched, segment_key};
use crate::base::{Event, Kind, Monitor, PackId, Problem, SegmentId, Stop, side_by_side};
use crate::format::pack::Directory;
use crate::repo::keyring::Keyring;
use crate::repo::pack_reader::{is_vouched, read_directory};
use crate::repo::{Error, Result};
use crate::store::{Area, ObjectStore};
use std::collections::{BTreeMap, BTreeSet};

/// A segment is stored when it has this many entries.
const ENTRIES_PER_SEGMENT: usize = 100_000;
/// Directories that are read at once: they lie in memory, some MiB of the largest.
const DIRECTORIES_AT_ONCE: usize = 8;

/// What came of a rebuild.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rebuilt {
    /// The new segments.
    pub segments: Vec<SegmentId>,
    /// How many packs they name.
    pub packs: u64,
    /// How many blobs they name.
    pub blobs: u64,
    /// Packs that are void because of condemned records: left out.
    pub condemned: u64,
    /// Packs whose directory cannot be read: left out.
    pub damaged: Vec<Problem>,
    /// Segments that may go now because the new ones say all that they said.
    pub replaced: Vec<SegmentId>,
}

pub use crate::repo::pack_reader::pack_key;

/// Reads trailer and directory of every pack and stores new segments that say what all packs hold. Those that were
/// there before may go then: [`delete_replaced`]. `origin` says who writes them; its `supersedes` and `condemned_seen` are filled in
/// here. Segments that are stored while it works are left alone. For an exclusive caller: nobody else may prune.
pub fn rebuild_from_packs(
    store: &dyn ObjectStore,
    keyring: &Keyring,
    origin: &Origin,
    monitor: &dyn Monitor,
    stop: &Stop,
) -> Result<Rebuilt> {
    let old: Vec<SegmentId> = present_segments(store)?.into_keys().collect();
    let (condemned, highest) = void_packs(store, keyring, &old)?;
    let mut packs: Vec<(PackId, u64)> = Vec::new();
    store.list(Area::Packs, &mut |object| {
        packs.extend(object.name.parse().ok().map(|id: PackId| (id, object.size_bytes)));
    })?;
    packs.sort_unstable();
    monitor.event(Event::Phase("reading pack directories"));
    monitor.event(Event::Total { items: packs.len() as u64, bytes: 0, complete: true });
    let origin = Origin { supersedes: old.clone(), condemned_seen: highest, ..origin.clone() };
    let (vouched, others) = (SegmentContents::default(), SegmentContents::default());
    let mut rebuild = Rebuild { store, keyring, origin, vouched, others, rebuilt: Rebuilt::default() };
    for group in packs.chunks(DIRECTORIES_AT_ONCE.min(store.requests_at_once())) {
        if stop.raised() {
            return Err(Error::Refused("the rebuild was interrupted; the old index is still there".to_owned()));
        }
        let (void, wanted): (Vec<_>, Vec<_>) = group.iter().partition(|(id, _)| condemned.contains(id));
        rebuild.rebuilt.condemned += void.len() as u64;
        let loaded = side_by_side(group.len(), &wanted, |(id, size)| read_and_judge(store, keyring, *id, *size));
        for ((id, size_bytes), directory) in wanted.into_iter().zip(loaded) {
            rebuild.take(id, size_bytes, directory, monitor)?;
        }
        monitor.event(Event::Done { items: group.len() as u64, bytes: 0 });
    }
    rebuild.flush(Vouching::Vouched)?;
    rebuild.flush(Vouching::Unvouched)?;
    let mut rebuilt = rebuild.rebuilt;
    rebuilt.replaced = old;
    Ok(rebuilt)
}

/// Deletes the segments that the new ones replace. New before old: whatever happens in between, no pack is without a
/// segment that names it.
pub fn delete_replaced(store: &dyn ObjectStore, rebuilt: &Rebuilt) -> Result<()> {
    rebuilt.replaced.iter().try_for_each(|segment| store.delete(&segment_key(*segment)))?;
    Ok(store.flush(Area::Index)?)
}

/// The packs that are void, and the highest condemned record that there is or was.
fn void_packs(store: &dyn ObjectStore, keyring: &Keyring, segments: &[SegmentId]) -> Result<(BTreeSet<PackId>, u64)> {
    let records = list_condemned(store)?;
    let mut void: BTreeMap<PackId, u64> = BTreeMap::new();
    for number in &records.open {
        // Numbers ascend: the last record that names a pack counts.
        void.extend(load_condemned(store, keyring, *number)?.packs.into_iter().map(|pack| (pack, *number)));
    }
    if !void.is_empty() {
        for segment in segments {
            match forgive_named(store, keyring, *segment, &mut void) {
                Err(error) if matches!(error.kind(), Kind::Damaged | Kind::NotFound) => {}
                other => other?,
            }
        }
    }
    let mut void: BTreeSet<PackId> = void.into_keys().collect();
    if records.closed > 0 {
        // What was swept stays so: whoever began to delete it may still be at it.
        match load_condemned_at(store, keyring, &done_key(records.closed), records.closed) {
            Ok(roster) => void.extend(roster.packs),
            Err(error) if matches!(error.kind(), Kind::Damaged | Kind::Unsupported | Kind::NotFound) => {}
            Err(error) => return Err(error),
        }
    }
    Ok((void, records.highest()))
}

/// Takes out the packs that a segment names in full knowledge of the records that condemned them.
fn forgive_named(
    store: &dyn ObjectStore,
    keyring: &Keyring,
    segment: SegmentId,
    void: &mut BTreeMap<PackId, u64>,
) -> Result<()> {
    let mut reader = SegmentReader::open(store, keyring, segment)?;
    if !reader.is_proven() {
        return Ok(());
    }
    while let Some(pack) = reader.next_pack()? {
        if void.get(&pack.id).is_some_and(|record| *record <= reader.head.condemned_seen) {
            void.remove(&pack.id);
        }
    }
    Ok(())
}

/// Reads the directory of a pack. Where there are clients that may only write, what it says is vouched for only if it is
/// signed, and if it is the directory of just this pack.
fn read_and_judge(
    store: &dyn ObjectStore,
    keyring: &Keyring,
    id: PackId,
    size_bytes: u64,
) -> Result<(Directory, Vouching)> {
    let directory = read_directory(store, keyring, id, size_bytes)?;
    let vouched = !keyring.is_guarded() || is_vouched(store, keyring, id, size_bytes, &directory)?;
    Ok((directory, if vouched { Vouching::Vouched } else { Vouching::Unvouched }))
}

struct Rebuild<'a> {
    store: &'a dyn ObjectStore,
    keyring: &'a Keyring,
    origin: Origin,
    /// Of packs that somebody vouches for.
    vouched: SegmentContents,
    /// Of the others.
    others: SegmentContents,
    rebuilt: Rebuilt,
}

impl Rebuild<'_> {
    fn take(
        &mut self,
        id: PackId,
        size_bytes: u64,
        directory: Result<(Directory, Vouching)>,
        monitor: &dyn Monitor,
    ) -> Result<()> {
        let loaded = directory.and_then(|(directory, vouching)| {
            self.contents(vouching).add_pack(id, size_bytes, &directory)?;
            Ok(vouching)
        });
        let mut taken = Vouching::Vouched;
        match loaded {
            Ok(vouching) => {
                self.rebuilt.packs += 1;
                taken = vouching;
            }
            Err(error) if matches!(error.kind(), Kind::Damaged | Kind::NotFound) => {
                let problem = Problem::new(pack_key(id).to_string(), &error, Kind::Damaged);
                monitor.event(Event::Problem(&problem));
                self.rebuilt.damaged.push(problem);
            }
            Err(error) => return Err(error),
        }
        if self.contents(taken).entries.len() >= ENTRIES_PER_SEGMENT { self.flush(taken) } else { Ok(()) }
    }

    fn contents(&mut self, vouching: Vouching) -> &mut SegmentContents {
        match vouching {
            Vouching::Vouched => &mut self.vouched,
            Vouching::Unvouched => &mut self.others,
        }
    }

    fn flush(&mut self, vouching: Vouching) -> Result<()> {
        let mut contents = std::mem::take(self.contents(vouching));
        if contents.is_empty() {
            return Ok(());
        }
        self.rebuilt.blobs += contents.entries.len() as u64;
        let (store, keyring, origin) = (self.store, self.keyring, self.origin.clone());
        let segment = match vouching {
            Vouching::Vouched => save(store, keyring, origin, &mut contents)?,
            Vouching::Unvouched => save_unvouched(store, keyring, origin, &mut contents)?,
        };
        self.rebuilt.segments.push(segment);
        Ok(())
    }
}
