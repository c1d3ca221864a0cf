//! Many blobs read at once, planned by pack.
//!
//! ```text
//! caller:  windows of wanted blobs -> places -> few large ranged reads      (`plan`)
//! readers: ranges from the store; frames on bases, in stream order          (named threads)
//! rayon:   open several blocks side by side -> decode -> name               (`decode`)
//! takers:  hand each blob to the sink                                       (named threads)
//! ```
//!
//! From a remote store more readers read, each a stream of what lies beside each other in a pack, so that a request costs
//! its round trip once for many blocks and others are under way meanwhile. What has come of a stream is decoded while
//! the rest comes.
//!
//! Each block is read and each frame decoded once per window, however many want its blobs. What is in flight is bounded
//! by one budget, taken before a range is read and given back when the last blob of its frames was taken.
//!
//! A blob whose bytes do not have its name is never handed out. Its block is marked as damaged, so that the index
//! calls its blobs unknown from then on, and other copies are tried; if there is none, the sink is told why.

mod decode;
mod plan;
mod stream;
mod whole;

pub use plan::best_place;
pub use whole::{End, Whole};

use super::{Context, Result};
use crate::base::budget::Permit;
use crate::base::{BlobId, Budget, Kind, PackId};
use crate::repo::blob_reader::{BlobBytes, BlobReader};
use crate::repo::index::{Index, Place};
use crate::repo::pack_reader::{block_name, learn_key, pack_key};
use crate::repo::{Error, Repository};
use plan::{Plan, Run, stretches};
use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{Builder, JoinHandle};

/// Bytes in flight: stored ranges and decoded frames.
const IN_FLIGHT_BYTES: usize = 36 << 20;
/// The same for a remote store: what is under way is in flight for longer.
const REMOTE_IN_FLIGHT_BYTES: usize = 56 << 20;
/// Threads that read; they wait for the store, and decode frames on bases.
const READERS: usize = 2;
/// Threads that read streams besides, from a remote store.
const STREAMERS: usize = 6;
/// Threads that take; they wait for the disk.
const TAKERS: usize = 3;
/// Decoded frames that each reader keeps for bases.
const BASE_FRAMES_BYTES: usize = 14 << 20;
/// Blobs on bases whose blocks are read ahead together from a remote store.
const BASES_AHEAD: usize = 24;
/// Decoded frames that a taker keeps when it looks for other copies.
const RETRY_FRAMES_BYTES: usize = 4 << 20;
/// What content that is handed over costs besides its bytes.
const GIVEN_OVERHEAD_BYTES: usize = 512;
/// Jobs that may wait for a reader.
const WAITING_JOBS: usize = 16;

/// A blob that is wanted.
pub struct Wanted<T> {
    /// Which.
    pub id: BlobId,
    /// How long it should be.
    pub length: u64,
    /// What it is wanted for.
    pub uses: T,
}

/// Takes blobs, on several threads at once and in no particular order.
pub trait Sink<T>: Send + Sync {
    /// Takes a blob, or hears why there is none. May wait.
    fn take(&self, uses: T, blob: Result<&[u8], &Error>);

    /// Whether frames on no bases come through [`Sink::frame`].
    fn takes_frames(&self) -> bool {
        false
    }

    /// Takes what is wanted of one frame: its bytes, the bytes that it is stored as, and where in it the blobs lie. Their
    /// names are proven. May wait.
    fn frame(&self, _raw: &[u8], _stored: &[u8], _blobs: Vec<(Place, T)>) {}

    /// Whether blobs are decoded and named. Who does not look inside hears only of what cannot be read or opened.
    fn looks_inside(&self) -> bool {
        true
    }

    /// Hears of a block or blob that is damaged, whether there is another copy or not. Must return quickly.
    fn damaged(&self, _: &BlobId, _: &Error) {}

    /// Hears whether a pack that was read from its first byte to its last has its name, and how it ends. May wait.
    fn whole(&self, _: PackId, _: Result<End, Error>) {}
}

/// What was read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Figures {
    /// Bytes read from the store.
    pub stored_bytes: u64,
    /// Bytes of decoded frames.
    pub raw_bytes: u64,
}

enum Job<T> {
    /// Blocks of one pack that lie close together.
    Range(Run<T>),
    /// Several such, one after the other in a pack of a remote store.
    Stream(Vec<Run<T>>),
    /// Blobs on bases, in stream order.
    OnBases(Vec<Wanted<T>>),
    /// A pack, all of it.
    Whole(whole::Scan<T>),
}

enum Message<T> {
    /// Blobs of one decoded frame, with their places in it. Their names are proven. What it is stored as comes along if
    /// the sink wants it.
    Frame { bytes: BlobBytes, stored: Option<BlobBytes>, blobs: Vec<(Place, Wanted<T>)>, permit: Arc<Permit> },
    /// A blob that stands alone.
    Blob { bytes: BlobBytes, wanted: Wanted<T>, permit: Permit },
    /// Content that the caller had at hand.
    Given { items: Vec<(T, Vec<u8>)>, permit: Permit },
    /// Blobs of a block that could not be read.
    Failed { wanted: Vec<Wanted<T>>, error: Error },
}

struct Shared<T> {
    repository: Arc<Repository>,
    index: Arc<Index>,
    sink: Arc<dyn Sink<T>>,
    budget: Budget,
    abandoned: AtomicBool,
    failure: Mutex<Option<Error>>,
    stored_bytes: AtomicU64,
    raw_bytes: AtomicU64,
}

impl<T> Shared<T> {
    /// A failure that concerns more than some blobs ends everything.
    fn fail(&self, error: Error) {
        self.failure.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(error);
        self.abandoned.store(true, Ordering::SeqCst);
    }

    fn is_abandoned(&self) -> bool {
        self.abandoned.load(Ordering::Relaxed)
    }

    fn reader(&self, cache_bytes: usize) -> BlobReader {
        BlobReader::new(self.repository.clone(), self.index.clone(), cache_bytes)
    }
}

/// Whether an error says something of the bytes that were read and not of the store as a whole.
pub fn is_damage(error: &Error) -> bool {
    matches!(error.kind(), Kind::Damaged | Kind::NotFound)
}

/// Reads blobs and hands them to a sink.
pub struct Fetch<T: Send + 'static> {
    shared: Arc<Shared<T>>,
    entrance: Option<SyncSender<Job<T>>>,
    /// Where streams go, from a remote store.
    streams: Option<SyncSender<Job<T>>>,
    to_takers: Option<Sender<Message<T>>>,
    threads: Vec<JoinHandle<()>>,
}

impl<T: Send + 'static> Fetch<T> {
    /// Starts the threads.
    pub fn begin(context: &Context, sink: Arc<dyn Sink<T>>) -> Result<Fetch<T>> {
        Fetch::begin_sharing(context, sink, 1)
    }

    /// The same for whoever needs as much memory again for what becomes of it, `parts` - 1 times: less is in flight.
    pub fn begin_sharing(context: &Context, sink: Arc<dyn Sink<T>>, parts: usize) -> Result<Fetch<T>> {
        let streaming = context.repository.store().is_remote();
        let in_flight_bytes = if streaming { REMOTE_IN_FLIGHT_BYTES } else { IN_FLIGHT_BYTES };
        let shared = Arc::new(Shared {
            repository: context.repository.clone(),
            index: context.index.clone(),
            sink,
            budget: Budget::new(in_flight_bytes / parts),
            abandoned: AtomicBool::new(false),
            failure: Mutex::new(None),
            stored_bytes: AtomicU64::new(0),
            raw_bytes: AtomicU64::new(0),
        });
        let (entrance, jobs) = sync_channel(WAITING_JOBS);
        // What this channel holds is bounded by the budget.
        let (to_takers, messages) = channel();
        let (jobs, messages) = (Arc::new(Mutex::new(jobs)), Arc::new(Mutex::new(messages)));
        let mut fetch = Fetch {
            shared,
            entrance: Some(entrance),
            streams: None,
            to_takers: Some(to_takers.clone()),
            threads: Vec::new(),
        };
        if streaming {
            let (entrance, jobs) = sync_channel(WAITING_JOBS);
            let jobs = Arc::new(Mutex::new(jobs));
            fetch.streams = Some(entrance);
            for number in 0..STREAMERS {
                let (shared, jobs, to_takers) = (fetch.shared.clone(), jobs.clone(), to_takers.clone());
                fetch.start(format!("streamer-{number}"), move || read_all(&shared, &jobs, &to_takers))?;
            }
        }
        for number in 0..READERS {
            let (shared, jobs, to_takers) = (fetch.shared.clone(), jobs.clone(), to_takers.clone());
            fetch.start(format!("reader-{number}"), move || read_all(&shared, &jobs, &to_takers))?;
        }
        for number in 0..TAKERS {
            let (shared, messages) = (fetch.shared.clone(), messages.clone());
            fetch.start(format!("taker-{number}"), move || take_all(&shared, &messages))?;
        }
        Ok(fetch)
    }

    fn start(&mut self, name: String, work: impl FnOnce() + Send + 'static) -> Result<()> {
        let what = format!("start thread {name}");
        let thread = Builder::new().name(name).spawn(work);
        self.threads.push(thread.map_err(|source| super::Error::Io { what, source })?);
        Ok(())
    }

    /// Reads a window of blobs, each named once. Waits while too much is in flight; goes on while the window is read.
    pub fn window(&mut self, wanted: Vec<Wanted<T>>) -> Result<()> {
        let plan = Plan::make(&self.shared.index, wanted)?;
        self.read(plan)
    }

    /// The same for blobs whose places are known: just these are read.
    pub fn placed_window(&mut self, placed: Vec<(Place, Wanted<T>)>) -> Result<()> {
        self.read(Plan::of_placed(placed))
    }

    /// The same for a sink that does not look inside: the blocks of these blobs and of all their bases are read and
    /// opened.
    pub fn window_of_seals(&mut self, wanted: Vec<Wanted<T>>) -> Result<()>
    where
        T: Clone,
    {
        let plan = Plan::of_seals(&self.shared.index, wanted)?;
        self.read(plan)
    }

    fn read(&mut self, plan: Plan<T>) -> Result<()> {
        for (wanted, error) in plan.failed {
            self.tell(Message::Failed { wanted: vec![wanted], error });
        }
        let on_bases = plan.on_bases.into_iter().map(Job::OnBases);
        match self.streams.is_some() {
            true => {
                stretches(plan.runs).into_iter().map(Job::Stream).chain(on_bases).try_for_each(|job| self.queue(job))
            }
            false => plan.runs.into_iter().map(Job::Range).chain(on_bases).try_for_each(|job| self.queue(job)),
        }
    }

    fn queue(&mut self, job: Job<T>) -> Result<()> {
        self.check()?;
        let entrance = match job {
            Job::Stream(_) | Job::Whole(_) if self.streams.is_some() => &self.streams,
            _ => &self.entrance,
        };
        if let Some(entrance) = entrance
            && entrance.send(job).is_err()
        {
            return Err(Error::Internal("the readers ended early".to_owned()).into());
        }
        Ok(())
    }

    /// Hands content to the sink that needs no reading, on the threads that take.
    pub fn give(&self, items: Vec<(T, Vec<u8>)>) -> Result<()> {
        self.check()?;
        let bytes: usize = items.iter().map(|(_, bytes)| bytes.len() + GIVEN_OVERHEAD_BYTES).sum();
        let permit = self.shared.budget.take(bytes);
        self.tell(Message::Given { items, permit });
        Ok(())
    }

    fn tell(&self, message: Message<T>) {
        if let Some(to_takers) = &self.to_takers {
            // Takers end only after this sender is gone.
            let _ = to_takers.send(message);
        }
    }

    /// Whether something has failed for good.
    pub fn check(&self) -> Result<()> {
        match self.shared.failure.lock().unwrap_or_else(PoisonError::into_inner).take() {
            Some(error) => Err(error.into()),
            None if self.shared.is_abandoned() => {
                Err(Error::Internal("reading was given up after an earlier failure".to_owned()).into())
            }
            None => Ok(()),
        }
    }

    /// Waits until every blob was taken.
    pub fn finish(mut self) -> Result<Figures> {
        self.join();
        self.check()?;
        Ok(Figures {
            stored_bytes: self.shared.stored_bytes.load(Ordering::Relaxed),
            raw_bytes: self.shared.raw_bytes.load(Ordering::Relaxed),
        })
    }

    fn join(&mut self) {
        self.entrance = None;
        self.streams = None;
        self.to_takers = None;
        for thread in self.threads.drain(..) {
            if thread.join().is_err() {
                self.shared.fail(Error::Internal("a thread that reads blobs ended in a panic".to_owned()));
            }
        }
    }
}

/// Let go of without `finish`: what is on its way is dropped.
impl<T: Send + 'static> Drop for Fetch<T> {
    fn drop(&mut self) {
        if self.entrance.is_some() {
            self.shared.abandoned.store(true, Ordering::SeqCst);
            self.join();
        }
    }
}

fn next<J>(queue: &Mutex<Receiver<J>>) -> Option<J> {
    queue.lock().unwrap_or_else(PoisonError::into_inner).recv().ok()
}

fn read_all<T: Send + 'static>(
    shared: &Arc<Shared<T>>,
    jobs: &Mutex<Receiver<Job<T>>>,
    to_takers: &Sender<Message<T>>,
) {
    let mut reader = shared.reader(BASE_FRAMES_BYTES);
    while let Some(job) = next(jobs) {
        if shared.is_abandoned() {
            continue;
        }
        match job {
            Job::Range(run) => read_range(shared, run, to_takers),
            Job::Stream(runs) => stream::read(shared, runs, to_takers),
            Job::OnBases(wanted) => read_on_bases(shared, &mut reader, wanted, to_takers),
            Job::Whole(scan) => whole::read(shared, scan, to_takers),
        }
    }
}

fn read_range<T: Send + 'static>(shared: &Arc<Shared<T>>, run: Run<T>, to_takers: &Sender<Message<T>>) {
    let permit = Arc::new(shared.budget.take(run.length + run.raw_bytes));
    let store = shared.repository.store();
    let range = || Ok(store.get_range(&pack_key(run.pack), run.offset, run.length)?);
    match learn_keys(shared, &run).and_then(|()| range()) {
        Ok(bytes) => {
            shared.stored_bytes.fetch_add(run.length as u64, Ordering::Relaxed);
            let (shared, to_takers, run_offset) = (shared.clone(), to_takers.clone(), run.offset);
            rayon::spawn(move || decode::decode(&shared, run, run_offset, bytes, &permit, &to_takers));
        }
        Err(error) if matches!(error.kind(), Kind::Damaged | Kind::NotFound) => {
            give_back(run, &error, to_takers);
        }
        Err(error) => shared.fail(error),
    }
}

/// Brings the session keys of a run's blocks, so that opening them is pure work.
fn learn_keys<T>(shared: &Shared<T>, run: &Run<T>) -> Result<(), Error> {
    run.blobs.iter().try_for_each(|(place, _)| learn_key(&shared.repository, place))
}

/// Lets the takers look for the blobs of a range that is out of reach. Perhaps only one of its blocks is: each is tried
/// alone.
fn give_back<T>(run: Run<T>, error: &Error, to_takers: &Sender<Message<T>>) {
    let pack = run.pack;
    for (offset, blobs) in run.into_blocks() {
        let wanted = blobs.into_iter().map(|(_, wanted)| wanted).collect();
        let error = Error::damaged(block_name(pack, offset), error);
        let _ = to_takers.send(Message::Failed { wanted, error });
    }
}

fn read_on_bases<T>(
    shared: &Shared<T>,
    reader: &mut BlobReader,
    wanted: Vec<Wanted<T>>,
    to_takers: &Sender<Message<T>>,
) {
    let mut wanted = wanted.into_iter();
    let mut group: VecDeque<Wanted<T>> = VecDeque::new();
    loop {
        if group.is_empty() {
            group.extend(wanted.by_ref().take(BASES_AHEAD));
            let ids: Vec<BlobId> = group.iter().map(|wanted| wanted.id).collect();
            if let Err(error) = reader.read_bases_ahead(&ids) {
                return shared.fail(error);
            }
        }
        let Some(wanted) = group.pop_front() else { return };
        if shared.is_abandoned() {
            return;
        }
        let permit = shared.budget.take(usize::try_from(wanted.length).unwrap_or(usize::MAX));
        let message = match reader.read(&wanted.id).and_then(|bytes| fits(&wanted, bytes.len()).map(|()| bytes)) {
            Ok(bytes) => {
                shared.raw_bytes.fetch_add(bytes.len() as u64, Ordering::Relaxed);
                Message::Blob { bytes, wanted, permit }
            }
            Err(error) if is_damage(&error) => Message::Failed { wanted: vec![wanted], error },
            Err(error) => return shared.fail(error),
        };
        // Takers end only after this sender is gone.
        let _ = to_takers.send(message);
    }
}

/// Whether a blob has the length that is expected of it.
fn fits<T>(wanted: &Wanted<T>, length: usize) -> Result<(), Error> {
    if length as u64 == wanted.length {
        return Ok(());
    }
    let reason = format!("it has {length} bytes where {} are expected", wanted.length);
    Err(Error::damaged(format!("blob {}", wanted.id), reason))
}

fn take_all<T>(shared: &Shared<T>, messages: &Mutex<Receiver<Message<T>>>) {
    let mut reader = None;
    while let Some(message) = next(messages) {
        if shared.is_abandoned() {
            continue;
        }
        match message {
            Message::Frame { bytes, stored, blobs, permit } => {
                match &stored {
                    Some(stored) => {
                        let blobs = blobs.into_iter().map(|(place, wanted)| (place, wanted.uses)).collect();
                        shared.sink.frame(&bytes, stored, blobs);
                    }
                    None => take_each(shared, &bytes, blobs),
                }
                drop((bytes, stored));
                drop(permit);
            }
            Message::Blob { bytes, wanted, permit } => {
                shared.sink.take(wanted.uses, Ok(&bytes));
                drop(bytes);
                drop(permit);
            }
            Message::Given { items, permit } => {
                items.into_iter().for_each(|(uses, bytes)| shared.sink.take(uses, Ok(&bytes)));
                drop(permit);
            }
            Message::Failed { wanted, error } => {
                wanted.iter().for_each(|wanted| shared.sink.damaged(&wanted.id, &error));
                let reader = reader.get_or_insert_with(|| shared.reader(RETRY_FRAMES_BYTES));
                wanted.into_iter().for_each(|wanted| retry(shared, reader, wanted, &error));
            }
        }
    }
}

fn take_each<T>(shared: &Shared<T>, frame: &[u8], blobs: Vec<(Place, Wanted<T>)>) {
    for (place, wanted) in blobs {
        let start = place.offset as usize;
        shared.sink.take(wanted.uses, Ok(&frame[start..start + place.length as usize]));
    }
}

/// Looks for another copy of a blob whose first could not be read.
fn retry<T>(shared: &Shared<T>, reader: &mut BlobReader, wanted: Wanted<T>, first: &Error) {
    match reader.read(&wanted.id) {
        Ok(bytes) => match fits(&wanted, bytes.len()) {
            Ok(()) => shared.sink.take(wanted.uses, Ok(&bytes)),
            Err(error) => shared.sink.take(wanted.uses, Err(&error)),
        },
        // That there is no copy left says less than what was wrong with the first.
        Err(Error::Missing(_)) => shared.sink.take(wanted.uses, Err(first)),
        Err(error) if is_damage(&error) => shared.sink.take(wanted.uses, Err(&error)),
        Err(error) => shared.fail(error),
    }
}
