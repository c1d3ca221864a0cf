//! Every pack from its first byte to its last: its own name, its directory against the index, and all that lies in it.
//! Each byte is read once, from a remote store by one request for each pack: its directory is what it ends with.

use super::super::fetch::{End, Fetch, Sink, Wanted, Whole, is_damage};
use super::super::{Context, Error, Result};
use super::content::Read;
use super::found::Found;
use super::packs::{self, Listed, each_there};
use crate::base::{Bits, BlobId, Event, Kind, PackId};
use crate::format::pack::{Blob, Directory};
use crate::repo::index::{Located, PackSummary};
use crate::repo::pack_reader::{directory_at_end, pack_key};
use crate::repo::{self, Repository};
use std::collections::{BTreeMap, HashMap, HashSet};
use std::hash::{BuildHasher, RandomState};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Reads these packs in full, for as long as it is not `enough`; one is read in any case.
pub(super) fn read(context: &Context, listed: &Listed, found: &Arc<Found>, enough: &dyn Fn() -> bool) -> Result<Read> {
    let mut chosen = Bits::default();
    each_there(context, listed, &mut |place, _| {
        chosen.set(place);
    })?;
    let left = (0..listed.len()).collect();
    let bytes = listed.iter().map(|(_, size_bytes)| size_bytes).sum();
    context.monitor.event(Event::Total { items: listed.len() as u64, bytes, complete: true });
    let ends = Arc::new(Ends {
        found: found.clone(),
        repository: context.repository.clone(),
        hasher: RandomState::new(),
        indexed: Mutex::default(),
        directory: Mutex::default(),
        wrong: Mutex::default(),
    });
    let fetch = Fetch::begin(context, ends.clone())?;
    let mut reading = Reading { context, fetch, ends, listed, left, open: None, failure: None, begun: 0, enough };
    let is_chosen = |pack: &PackSummary| listed.position(&pack.id).is_some_and(|place| chosen.get(place));
    let walked = context.index.each_by_pack(&is_chosen, &mut |id, located| {
        reading.add(id, located).map_err(|error| {
            reading.failure = Some(error);
            repo::Error::Internal("reading was stopped".to_owned())
        })
    });
    // Why the reading stopped says more than that it did.
    reading.failure.take().map_or(Ok(()), Err)?;
    walked?;
    reading.close()?;
    reading.rest()?;
    let Reading { fetch, ends, begun, .. } = reading;
    let figures = fetch.finish()?;
    let damages = std::mem::take(&mut *locked(&ends.wrong));
    damages.iter().filter(|(_, error)| is_damage(error)).for_each(|(id, _)| found.pack(*id, false));
    packs::tell(damages, found)?;
    Ok(Read { packs: begun, figures })
}

/// Takes what was read, and what is wrong with packs or with what the index says of them.
struct Ends {
    found: Arc<Found>,
    repository: Arc<Repository>,
    hasher: RandomState,
    /// What the index says of the packs that are under way: a hash of the place of each blob, since the places themselves
    /// would fill the memory.
    indexed: Mutex<HashMap<PackId, Vec<u64>>>,
    /// Held while a directory is in memory: that of the largest pack has some ten MiB.
    directory: Mutex<()>,
    wrong: Mutex<BTreeMap<PackId, repo::Error>>,
}

fn locked<T>(of: &Mutex<T>) -> MutexGuard<'_, T> {
    of.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Ends {
    /// Compares what the index says of a pack with its directory.
    fn compare(&self, pack: PackId, indexed: &[u64], end: &End) -> repo::Result<()> {
        let (store, keyring) = (&**self.repository.store(), self.repository.keyring());
        let _alone = locked(&self.directory);
        let directory = directory_at_end(store, keyring, pack, end.size_bytes, &end.bytes)?;
        let there: HashSet<u64> = places_in(&directory).map(|place| self.hasher.hash_one(place)).collect();
        match indexed.iter().filter(|place| !there.contains(place)).count() {
            0 => Ok(()),
            count => {
                let blobs = if count == 1 { "1 blob lies".to_owned() } else { format!("{count} blobs lie") };
                let reason = format!("the index says that {blobs} where its directory does not: rebuild the index");
                Err(repo::Error::damaged(pack_key(pack), reason))
            }
        }
    }
}

impl Sink<BlobId> for Ends {
    fn take(&self, id: BlobId, blob: Result<&[u8], &repo::Error>) {
        self.found.take(id, blob);
    }

    fn damaged(&self, id: &BlobId, error: &repo::Error) {
        self.found.damaged(id, error);
    }

    /// A directory in a pack that was altered says nothing.
    fn whole(&self, pack: PackId, outcome: Result<End, repo::Error>) {
        let indexed = locked(&self.indexed).remove(&pack).unwrap_or_default();
        match outcome.and_then(|end| self.compare(pack, &indexed, &end)) {
            Ok(()) => self.found.pack(pack, true),
            // Nobody needs what no segment names: it has gone since it was listed, or was listed although it had gone.
            Err(error) if indexed.is_empty() && error.kind() == Kind::NotFound => {}
            Err(error) => drop(locked(&self.wrong).insert(pack, error)),
        }
    }
}

struct Reading<'c> {
    context: &'c Context,
    fetch: Fetch<BlobId>,
    ends: Arc<Ends>,
    /// The packs.
    listed: &'c Listed,
    /// The places of those that were not begun.
    left: Bits,
    open: Option<Open>,
    failure: Option<Error>,
    /// Packs that were begun.
    begun: u64,
    enough: &'c dyn Fn() -> bool,
}

/// The pack that is being read.
struct Open {
    id: PackId,
    whole: Whole<BlobId>,
    /// What the index says of it.
    places: Vec<u64>,
}

impl Reading<'_> {
    fn add(&mut self, id: &PackId, located: &Located) -> Result<()> {
        if self.open.as_ref().is_none_or(|open| open.id != *id) {
            self.close()?;
            self.begin(*id)?;
        }
        let Some(open) = &mut self.open else { return Ok(()) };
        open.places.push(self.ends.hasher.hash_one(place_of(located)));
        let (id, length) = (located.id, u64::from(located.place.length));
        open.whole.add(&mut self.fetch, located.place.clone(), Wanted { id, length, uses: id })
    }

    fn begin(&mut self, id: PackId) -> Result<()> {
        self.context.check_stop()?;
        let Some(place) = self.listed.position(&id).filter(|place| self.left.get(*place)) else { return Ok(()) };
        self.left.clear(place);
        let size_bytes = self.listed.at(place).map_or(0, |(_, size_bytes)| *size_bytes);
        if self.begun > 0 && (self.enough)() {
            return Ok(());
        }
        self.begun += 1;
        let whole = Whole::begin(&mut self.fetch, id, size_bytes)?;
        self.open = Some(Open { id, whole, places: Vec::new() });
        Ok(())
    }

    /// The pack is read to its end after this, and not before: until then its reader waits for what is wanted of it.
    fn close(&mut self) -> Result<()> {
        let Some(open) = self.open.take() else { return Ok(()) };
        locked(&self.ends.indexed).insert(open.id, open.places);
        open.whole.finish(&mut self.fetch)
    }

    /// Packs of which the index knows nothing that counts: their names and directories alone.
    fn rest(&mut self) -> Result<()> {
        let mut from = 0;
        while let Some((place, (id, _))) = self.left.first_from(from).and_then(|at| Some((at, self.listed.at(at)?))) {
            self.begin(*id)?;
            self.close()?;
            from = place + 1;
        }
        Ok(())
    }
}

/// Blob, block, frame and place in the frame, each with its length.
type At = (BlobId, (u64, u32), (u32, u32), (u32, u32));

fn places_in(directory: &Directory) -> impl Iterator<Item = At> {
    directory.blobs.iter().filter_map(|blob: &Blob| {
        let frame = directory.frames.get(blob.frame as usize)?;
        let block = directory.blocks.get(frame.block as usize)?;
        Some((blob.id, (block.offset, block.length), (frame.offset, frame.length), (blob.offset, blob.length)))
    })
}

fn place_of(located: &Located) -> At {
    let place = &located.place;
    let (block, frame) = ((place.block_offset, place.block_length), (place.frame_offset, place.frame_length));
    (located.id, block, frame, (place.offset, place.length))
}
