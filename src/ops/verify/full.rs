//! Every pack from its first byte to its last: its own name, its directory against the index, and all that lies in it.
//! Each byte is read once.

use super::super::fetch::{Fetch, Sink, Wanted, Whole, is_damage};
use super::super::{Context, Error, Result};
use super::content::Read;
use super::found::Found;
use super::packs::{self, Listed, each_there};
use crate::base::{Bits, BlobId, Event, PackId, side_by_side};
use crate::format::pack::{Blob, Directory};
use crate::repo;
use crate::repo::index::{Located, PackSummary};
use crate::repo::pack_reader::{pack_key, read_directory};
use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};

/// Directories that are read at once: they lie in memory, some MiB of the largest.
const DIRECTORIES_AT_ONCE: usize = 8;

/// Reads these packs in full, for as long as it is not `enough`; one is read in any case.
pub(super) fn read(context: &Context, listed: &Listed, found: &Arc<Found>, enough: &dyn Fn() -> bool) -> Result<Read> {
    let (mut chosen, mut order) = (Bits::default(), VecDeque::new());
    let reads_ahead = context.repository.store().requests_at_once() > 1;
    each_there(context, listed, &mut |place, _| {
        chosen.set(place);
        order.extend(reads_ahead.then_some(place));
    })?;
    let left = (0..listed.len()).collect();
    let bytes = listed.iter().map(|(_, size_bytes)| size_bytes).sum();
    context.monitor.event(Event::Total { items: listed.len() as u64, bytes, complete: true });
    let names = Arc::new(Names { found: found.clone(), wrong: Mutex::default() });
    let fetch = Fetch::begin(context, names.clone())?;
    let mut reading = Reading {
        context,
        fetch,
        listed,
        left,
        order,
        directories: HashMap::new(),
        open: None,
        wrong: BTreeMap::new(),
        failure: None,
        begun: 0,
        enough,
    };
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
    let Reading { fetch, wrong, begun, .. } = reading;
    let figures = fetch.finish()?;
    let mut damages = names.wrong();
    for (id, error) in wrong {
        // A directory in a pack that was altered says nothing.
        damages.entry(id).or_insert(error);
    }
    damages.iter().filter(|(_, error)| is_damage(error)).for_each(|(id, _)| found.pack(*id, false));
    packs::tell(damages, found)?;
    Ok(Read { packs: begun, figures })
}

/// Takes what was read, and which packs do not have their names.
struct Names {
    found: Arc<Found>,
    wrong: Mutex<BTreeMap<PackId, repo::Error>>,
}

impl Names {
    fn wrong(&self) -> BTreeMap<PackId, repo::Error> {
        std::mem::take(&mut *self.wrong.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Sink<BlobId> for Names {
    fn take(&self, id: BlobId, blob: Result<&[u8], &repo::Error>) {
        self.found.take(id, blob);
    }

    fn damaged(&self, id: &BlobId, error: &repo::Error) {
        self.found.damaged(id, error);
    }

    fn whole(&self, pack: PackId, outcome: Result<(), repo::Error>) {
        match outcome {
            Ok(()) => self.found.pack(pack, true),
            Err(error) => drop(self.wrong.lock().unwrap_or_else(PoisonError::into_inner).insert(pack, error)),
        }
    }
}

struct Reading<'c> {
    context: &'c Context,
    fetch: Fetch<BlobId>,
    /// The packs.
    listed: &'c Listed,
    /// The places of those that were not begun.
    left: Bits,
    /// The order in which they are about to be begun, as far as somebody reads ahead.
    order: VecDeque<usize>,
    /// What directories say that were read with others.
    directories: HashMap<PackId, Result<HashSet<At>, repo::Error>>,
    open: Option<Open>,
    /// What is wrong with directories.
    wrong: BTreeMap<PackId, repo::Error>,
    failure: Option<Error>,
    /// Packs that were begun.
    begun: u64,
    enough: &'c dyn Fn() -> bool,
}

/// The pack that is being read.
struct Open {
    id: PackId,
    whole: Whole<BlobId>,
    /// What its directory says; none if it cannot be read.
    places: Option<HashSet<At>>,
}

impl Reading<'_> {
    fn add(&mut self, id: &PackId, located: &Located) -> Result<()> {
        if self.open.as_ref().is_none_or(|open| open.id != *id) {
            self.close()?;
            self.begin(*id)?;
        }
        let Some(open) = &mut self.open else { return Ok(()) };
        if open.places.as_ref().is_some_and(|places| !places.contains(&place_of(located))) {
            let blob = located.id;
            let reason =
                format!("the index says that blob {blob} lies where its directory does not: rebuild the index");
            self.wrong.insert(*id, repo::Error::damaged(pack_key(*id), reason));
        }
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
        if !self.directories.contains_key(&id) {
            self.read_directories(id, size_bytes);
        }
        let places = match self.directories.remove(&id) {
            Some(Ok(places)) => Some(places),
            Some(Err(error)) => {
                self.wrong.insert(id, error);
                None
            }
            None => None,
        };
        let whole = Whole::begin(&mut self.fetch, id, size_bytes)?;
        self.open = Some(Open { id, whole, places });
        Ok(())
    }

    /// Reads the directory of a pack, and from a remote store together with it those of the packs that come next.
    fn read_directories(&mut self, id: PackId, size_bytes: u64) {
        let (store, keyring) = (&**self.context.repository.store(), self.context.repository.keyring());
        let mut packs = vec![(id, size_bytes)];
        while packs.len() < store.requests_at_once().min(DIRECTORIES_AT_ONCE)
            && let Some(next) = self.order.pop_front()
        {
            packs.extend(self.listed.at(next).filter(|_| self.left.get(next)).copied());
        }
        let came = side_by_side(packs.len(), &packs, |(id, size_bytes)| {
            read_directory(store, keyring, *id, *size_bytes).map(|directory| places_in(&directory))
        });
        self.directories.extend(packs.into_iter().map(|(id, _)| id).zip(came));
    }

    fn close(&mut self) -> Result<()> {
        self.open.take().map_or(Ok(()), |open| open.whole.finish(&mut self.fetch))
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

fn places_in(directory: &Directory) -> HashSet<At> {
    let at = |blob: &Blob| {
        let frame = directory.frames.get(blob.frame as usize)?;
        let block = directory.blocks.get(frame.block as usize)?;
        Some((blob.id, (block.offset, block.length), (frame.offset, frame.length), (blob.offset, blob.length)))
    };
    directory.blobs.iter().filter_map(at).collect()
}

fn place_of(located: &Located) -> At {
    let place = &located.place;
    let (block, frame) = ((place.block_offset, place.block_length), (place.frame_offset, place.frame_length));
    (located.id, block, frame, (place.offset, place.length))
}
