//! Packs read from their first byte to their last, each byte once: hashed for the pack's own name, and decoded from the
//! same buffers.
//!
//! A pack's bytes go through one reader in order, because a hash does; its blobs are decoded side by side.

use super::decode::decode;
use super::plan::{Blobs, GAP_BYTES, Run, same_block};
use super::stream::Cutting;
use super::{Fetch, Job, Message, Shared, Wanted, fits, give_back, is_damage, learn_keys, read_range};
use crate::base::PackId;
use crate::crypto::names::PackHasher;
use crate::repo::Error;
use crate::repo::index::Place;
use crate::repo::pack_reader::{needs_bases, pack_key};
use crate::store::Key;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, Sender, SyncSender, sync_channel};

/// Blobs of one read, unless a single block has more.
const RUN_BLOBS: usize = 4096;
/// Reads of one pack that may wait for its reader.
const WAITING_RUNS: usize = 6;
/// What no blob lies in is read in pieces of this size.
const PIECE_BYTES: u64 = 4 << 20;
/// The end of a pack is kept, for its directory: of the pack this part, which that of the smallest files does not fill, and
/// at most so many bytes.
const END_PART: u64 = 16;
const END_BYTES: u64 = 4 << 20;
/// … and at least so many.
const LEAST_END_BYTES: u64 = 64 << 10;

/// The last bytes of a pack, those behind its last blob as far as they are not too many.
pub struct End {
    /// The pack's bytes in all.
    pub size_bytes: u64,
    /// The last of them.
    pub bytes: Vec<u8>,
}

/// Where the end of a pack begins that is kept.
fn end_of(size_bytes: u64) -> u64 {
    size_bytes.saturating_sub((size_bytes / END_PART).clamp(LEAST_END_BYTES, END_BYTES))
}

/// A pack whose bytes are on their way.
pub(super) struct Scan<T> {
    pack: PackId,
    size_bytes: u64,
    runs: Receiver<Run<T>>,
}

/// A pack of which it is being said which blobs lie in it. Dropped without [`Whole::finish`], the rest of it is hashed
/// all the same.
pub struct Whole<T> {
    size_bytes: u64,
    runs: SyncSender<Run<T>>,
    run: Option<Run<T>>,
    /// Where the last run ends.
    end: u64,
    /// What cannot be decoded on the way: blobs on bases, and what lies before the end of what was handed on.
    aside: Blobs<T>,
}

impl<T: Send + 'static> Whole<T> {
    /// Begins the pack, which has `size_bytes` in the store.
    pub fn begin(fetch: &mut Fetch<T>, pack: PackId, size_bytes: u64) -> super::Result<Whole<T>> {
        let (sender, runs) = sync_channel(WAITING_RUNS);
        fetch.queue(Job::Whole(Scan { pack, size_bytes, runs }))?;
        Ok(Whole { size_bytes, runs: sender, run: None, end: 0, aside: Vec::new() })
    }

    /// A blob of the pack; blobs come in the order of their places.
    pub fn add(&mut self, fetch: &mut Fetch<T>, place: Place, wanted: Wanted<T>) -> super::Result<()> {
        if !self.is_next(&place) || needs_bases(&place) || fits(&wanted, place.length as usize).is_err() {
            self.aside.push((place, wanted));
            return if self.aside.len() < RUN_BLOBS { Ok(()) } else { self.read_aside(fetch) };
        }
        let goes_on = |run: &Run<T>| run.takes(&place) && (run.blobs.len() < RUN_BLOBS || run.is_in_last(&place));
        if !self.run.as_ref().is_some_and(goes_on) {
            self.send(fetch)?;
        }
        let run = self.run.get_or_insert_with(|| Run::begin(&place));
        run.add(place, wanted);
        self.end = run.end();
        Ok(())
    }

    fn is_next(&self, place: &Place) -> bool {
        let is_in_last = self.run.as_ref().is_some_and(|run| run.is_in_last(place));
        let end = place.block_offset.saturating_add(u64::from(place.block_length));
        is_in_last || place.block_offset >= self.end && end <= self.size_bytes
    }

    fn send(&mut self, fetch: &Fetch<T>) -> super::Result<()> {
        let Some(run) = self.run.take() else { return Ok(()) };
        if self.runs.send(run).is_ok() {
            return Ok(());
        }
        fetch.check()?;
        Err(Error::Internal("the reader of a pack ended early".to_owned()).into())
    }

    fn read_aside(&mut self, fetch: &mut Fetch<T>) -> super::Result<()> {
        fetch.placed_window(std::mem::take(&mut self.aside))
    }

    /// There are no more blobs in it. When it was read the sink is told.
    pub fn finish(mut self, fetch: &mut Fetch<T>) -> super::Result<()> {
        self.send(fetch)?;
        self.read_aside(fetch)
    }
}

impl<T> Run<T> {
    /// Whether `place` lies in the last block.
    fn is_in_last(&self, place: &Place) -> bool {
        self.blobs.last().is_some_and(|(last, _)| same_block(last, place))
    }
}

/// Reads a pack, on the thread of a reader.
pub(super) fn read<T: Send + 'static>(shared: &Arc<Shared<T>>, scan: Scan<T>, to_takers: &Sender<Message<T>>) {
    let pack = scan.pack;
    let read = match shared.repository.store().is_remote() {
        true => stream_all(shared, scan, to_takers),
        false => read_all(shared, scan, to_takers),
    };
    match read {
        Err(error) if !is_damage(&error) => shared.fail(error),
        // Given up on the way: a part of a pack says nothing.
        _ if shared.is_abandoned() => {}
        outcome => shared.sink.whole(pack, outcome),
    }
}

/// The same from a remote store, by one request.
fn stream_all<T: Send + 'static>(
    shared: &Arc<Shared<T>>,
    scan: Scan<T>,
    to_takers: &Sender<Message<T>>,
) -> Result<End, Error> {
    let key = pack_key(scan.pack);
    let mut hasher = PackHasher::new();
    let runs = scan.runs.into_iter();
    let mut cutting = Cutting::new(shared, runs, 0, to_takers).keeping_from(end_of(scan.size_bytes));
    let streamed = shared.repository.store().stream(&key, 0, scan.size_bytes, &mut |bytes| {
        hasher.update(bytes);
        cutting.take(bytes)
    });
    let end = End { size_bytes: scan.size_bytes, bytes: cutting.take_kept() };
    if shared.is_abandoned() {
        return Ok(end);
    }
    let left = cutting.left();
    if let Err(error) = streamed.map_err(Error::from) {
        if is_damage(&error) {
            left.for_each(|run| read_range(shared, run, to_takers));
        }
        return Err(error);
    }
    if hasher.finish() == scan.pack.0 { Ok(end) } else { Err(Error::altered(key)) }
}

fn read_all<T: Send + 'static>(
    shared: &Arc<Shared<T>>,
    scan: Scan<T>,
    to_takers: &Sender<Message<T>>,
) -> Result<End, Error> {
    let mut hashed = Hashed { shared, key: pack_key(scan.pack), hasher: PackHasher::new(), offset: 0, failure: Ok(()) };
    for run in scan.runs {
        if shared.is_abandoned() {
            break;
        }
        hashed.read_run(run, to_takers)?;
    }
    hashed.read_to(end_of(scan.size_bytes))?;
    let bytes = hashed.read_end(scan.size_bytes)?;
    hashed.failure?;
    if shared.is_abandoned() || hashed.hasher.finish() == scan.pack.0 {
        return Ok(End { size_bytes: scan.size_bytes, bytes });
    }
    Err(Error::altered(hashed.key))
}

struct Hashed<'s, T> {
    shared: &'s Arc<Shared<T>>,
    key: Key,
    hasher: PackHasher,
    offset: u64,
    /// The first part that is out of reach. The others are read all the same.
    failure: Result<(), Error>,
}

impl<T: Send + 'static> Hashed<'_, T> {
    fn read_run(&mut self, run: Run<T>, to_takers: &Sender<Message<T>>) -> Result<(), Error> {
        if run.offset - self.offset > GAP_BYTES {
            self.read_to(run.offset)?;
        }
        let from = self.offset;
        let length = (run.end() - from) as usize;
        let permit = Arc::new(self.shared.budget.take(length + run.raw_bytes));
        match self.read(length).and_then(|bytes| learn_keys(self.shared, &run).map(|()| bytes)) {
            Ok(bytes) => {
                let (shared, to_takers) = (self.shared.clone(), to_takers.clone());
                rayon::spawn(move || decode(&shared, run, from, bytes, &permit, &to_takers));
                Ok(())
            }
            Err(error) if is_damage(&error) => {
                give_back(run, &error, to_takers);
                self.failure = std::mem::replace(&mut self.failure, Ok(())).and(Err(error));
                Ok(())
            }
            Err(error) => Err(error),
        }
    }

    /// Hashes what lies before `end`.
    fn read_to(&mut self, end: u64) -> Result<(), Error> {
        while self.offset < end && !self.shared.is_abandoned() {
            let length = (end - self.offset).min(PIECE_BYTES) as usize;
            if let Err(error) = self.read(length) {
                if !is_damage(&error) {
                    return Err(error);
                }
                self.failure = std::mem::replace(&mut self.failure, Ok(())).and(Err(error));
            }
        }
        Ok(())
    }

    /// Hashes what lies before `end` and gives it: the last bytes of the pack.
    fn read_end(&mut self, end: u64) -> Result<Vec<u8>, Error> {
        if self.offset >= end || self.shared.is_abandoned() {
            return Ok(Vec::new());
        }
        self.read((end - self.offset) as usize).or_else(|error| {
            if !is_damage(&error) {
                return Err(error);
            }
            self.failure = std::mem::replace(&mut self.failure, Ok(())).and(Err(error));
            Ok(Vec::new())
        })
    }

    /// Reads and hashes the next bytes, and goes on behind them even when they are out of reach.
    fn read(&mut self, length: usize) -> Result<Vec<u8>, Error> {
        let read = self.shared.repository.store().get_range(&self.key, self.offset, length);
        self.offset += length as u64;
        let bytes = read?;
        self.shared.stored_bytes.fetch_add(length as u64, Ordering::Relaxed);
        self.hasher.update(&bytes);
        Ok(bytes)
    }
}
