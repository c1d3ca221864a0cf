//! Entries and their content as one stream, in order and read ahead.
//!
//! ```text
//! feeder (its own thread):  says what comes, in windows       -> fetch by pack      (`ops::fetch`)
//! fetch:                    puts each chunk of a window into its slot
//! caller:                   takes entries and content in order
//! ```
//!
//! One window is taken while the next is read. A chunk that a window needs several times is read once for it.

use super::super::fetch::{Fetch, Sink, Wanted};
use super::super::{Context, Error, Result};
use crate::base::BlobId;
use crate::format::tree::{HOLE, Node};
use crate::repo;
use crate::repo::trees::{Chunks, GetBlob};
use std::collections::HashMap;
use std::io::{self, Read};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::Builder;

/// Bytes of content in a window.
const WINDOW_BYTES: u64 = if cfg!(test) { 100_000 } else { 12 << 20 };
/// Entries and chunks of a window.
const WINDOW_ITEMS: usize = 4096;

/// Runs `feed` on a thread of its own and `take` on this one. What `feed` says comes out of the stream in the same
/// order. An error of `feed` or of reading ends the stream where it happened, and is the answer.
pub fn ahead<E: Send, T>(
    context: &Context,
    feed: impl FnOnce(&mut Feeder<E>) -> Result<()> + Send,
    take: impl FnOnce(&mut Stream<E>) -> Result<T>,
) -> Result<T> {
    // Nothing waits in the channel: what the feeder cannot hand over is the one window that is read ahead.
    let (sender, windows) = sync_channel(0);
    let fetch = Fetch::begin(context, Arc::new(Filling))?;
    let mut feeder = Feeder { fetch, windows: sender, window: Window::default(), gathering: Gathering::default() };
    let mut stream = Stream { windows, window: None, next: 0, ended: false, gave_up: false, at: 0 };
    std::thread::scope(|scope| {
        let run = move || {
            feed(&mut feeder)?;
            feeder.finish()
        };
        let thread = Builder::new().name("read-ahead".to_owned()).spawn_scoped(scope, run);
        let thread = thread.map_err(|source| Error::Io { what: "start thread read-ahead".to_owned(), source })?;
        let taken = take(&mut stream);
        let gave_up = stream.gave_up;
        // The feeder ends when nobody takes any more.
        drop(stream);
        let fed = thread.join().unwrap_or_else(|_| {
            Err(repo::Error::Internal("the thread that reads ahead ended in a panic".to_owned()).into())
        });
        match (taken, fed) {
            (Ok(value), fed) => fed.map(|()| value),
            (Err(_), Err(error)) if gave_up => Err(error),
            (Err(error), _) => Err(error),
        }
    })
}

enum Item<E> {
    Entry(E),
    Bytes(Vec<u8>),
    Zeros(u64),
    /// The chunk in a slot of the window.
    Slot(usize),
}

struct Window<E> {
    items: Vec<Option<Item<E>>>,
    slots: Arc<Slots>,
    /// The stream ends with it.
    is_last: bool,
}

impl<E> Default for Window<E> {
    fn default() -> Self {
        Window { items: Vec::new(), slots: Arc::default(), is_last: false }
    }
}

/// The chunks of a window that is being gathered.
#[derive(Default)]
struct Gathering {
    slots: HashMap<(BlobId, u64), usize>,
    wanted: Vec<Wanted<Promise>>,
    bytes: u64,
}

/// Says what comes.
pub struct Feeder<E> {
    fetch: Fetch<Promise>,
    windows: SyncSender<Window<E>>,
    window: Window<E>,
    gathering: Gathering,
}

impl<E> Feeder<E> {
    /// An entry; its content follows.
    pub fn entry(&mut self, entry: E) -> Result<()> {
        self.add(Item::Entry(entry), 0)
    }

    /// The content of `node`; `lists` reads its list of chunks if there is one.
    pub fn content(&mut self, context: &Context, node: &Node, lists: &mut dyn GetBlob) -> Result<()> {
        if !node.inline.0.is_empty() {
            self.add(Item::Bytes(node.inline.0.clone()), node.inline.0.len() as u64)?;
        }
        let mut chunks = Chunks::of(node);
        while let Some((id, length)) = chunks.next(lists)? {
            if id == HOLE {
                self.add(Item::Zeros(length), 0)?;
            } else {
                let slot = self.slot(id, length);
                self.window.slots.wanted_once_more(slot);
                self.add(Item::Slot(slot), 0)?;
            }
            context.check_stop()?;
        }
        Ok(())
    }

    fn slot(&mut self, id: BlobId, length: u64) -> usize {
        let gathering = &mut self.gathering;
        *gathering.slots.entry((id, length)).or_insert_with(|| {
            let promise = Slots::promise(&self.window.slots, id);
            let slot = promise.slot;
            gathering.wanted.push(Wanted { id, length, uses: promise });
            gathering.bytes = gathering.bytes.saturating_add(length);
            slot
        })
    }

    fn add(&mut self, item: Item<E>, bytes: u64) -> Result<()> {
        self.window.items.push(Some(item));
        self.gathering.bytes = self.gathering.bytes.saturating_add(bytes);
        let is_full = self.gathering.bytes >= WINDOW_BYTES || self.window.items.len() >= WINDOW_ITEMS;
        if is_full { self.hand_over() } else { Ok(()) }
    }

    fn hand_over(&mut self) -> Result<()> {
        let gathering = std::mem::take(&mut self.gathering);
        self.fetch.window(gathering.wanted)?;
        if self.windows.send(std::mem::take(&mut self.window)).is_ok() {
            return Ok(());
        }
        // What the reading failed of says more than that nobody takes any more.
        self.fetch.check()?;
        Err(repo::Error::Internal("nobody takes what is read ahead".to_owned()).into())
    }

    fn finish(mut self) -> Result<()> {
        self.window.is_last = true;
        self.hand_over()?;
        self.fetch.finish().map(drop)
    }
}

/// What comes, in order. As a [`Read`] it gives the content of the last entry, or what comes before the first.
pub struct Stream<E> {
    windows: Receiver<Window<E>>,
    window: Option<Window<E>>,
    /// The next item of the window.
    next: usize,
    /// Bytes of that item that were taken.
    at: u64,
    ended: bool,
    gave_up: bool,
}

impl<E> Stream<E> {
    /// The next entry, or none at the end. Content of the last one that was not taken is skipped.
    pub fn entry(&mut self) -> Result<Option<E>, repo::Error> {
        while let Some(item) = self.item()? {
            let entry = match item {
                Some(Item::Entry(_)) => item.take(),
                _ => None,
            };
            self.pass();
            if let Some(Item::Entry(entry)) = entry {
                return Ok(Some(entry));
            }
        }
        Ok(None)
    }

    /// The item whose turn it is, or none at the end.
    fn item(&mut self) -> Result<Option<&mut Option<Item<E>>>, repo::Error> {
        while !self.ended && self.window.as_ref().is_none_or(|window| self.next >= window.items.len()) {
            if self.window.take().is_some_and(|window| window.is_last) {
                self.ended = true;
                break;
            }
            self.next = 0;
            self.window = Some(self.windows.recv().map_err(|_| self.give_up())?);
        }
        Ok(self.window.as_mut().and_then(|window| window.items.get_mut(self.next)))
    }

    fn pass(&mut self) {
        if let Some(window) = &self.window
            && let Some(Some(Item::Slot(slot))) = window.items.get(self.next)
        {
            window.slots.taken_once(*slot);
        }
        self.next += 1;
        self.at = 0;
    }

    fn give_up(&mut self) -> repo::Error {
        self.gave_up = true;
        repo::Error::Internal("reading ahead was given up".to_owned())
    }

    /// Copies from the item whose turn it is; none when the content ends before it.
    fn copy(&mut self, buffer: &mut [u8]) -> Result<Option<usize>, repo::Error> {
        let at = self.at;
        let (count, left) = match self.item()? {
            None | Some(Some(Item::Entry(_))) => return Ok(None),
            Some(Some(Item::Bytes(bytes))) => copy(bytes, at, buffer),
            Some(Some(Item::Zeros(length))) => {
                let left = *length - at;
                let count = buffer.len().min(usize::try_from(left).unwrap_or(usize::MAX));
                buffer[..count].fill(0);
                (count, left - count as u64)
            }
            Some(Some(Item::Slot(slot))) => {
                let slot = *slot;
                let slots = self.window.as_ref().map(|window| window.slots.clone()).unwrap_or_default();
                match slots.wait(slot) {
                    Some(bytes) => copy(&bytes?, at, buffer),
                    None => return Err(self.give_up()),
                }
            }
            Some(None) => (0, 0),
        };
        self.at += count as u64;
        if left == 0 {
            self.pass();
        }
        Ok(Some(count))
    }
}

/// Copies `bytes` from `at` on; how many, and how many are left.
fn copy(bytes: &[u8], at: u64, buffer: &mut [u8]) -> (usize, u64) {
    let rest = &bytes[(at as usize).min(bytes.len())..];
    let count = rest.len().min(buffer.len());
    buffer[..count].copy_from_slice(&rest[..count]);
    (count, (rest.len() - count) as u64)
}

impl<E> Read for Stream<E> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if buffer.is_empty() {
            return Ok(0);
        }
        loop {
            match self.copy(buffer).map_err(io::Error::other)? {
                // An item of no bytes is not the end.
                Some(0) => {}
                Some(count) => return Ok(count),
                None => return Ok(0),
            }
        }
    }
}

/// The failure of the vault that an error of reading carries, or the error itself.
pub fn repo_error(error: io::Error) -> Result<repo::Error, io::Error> {
    error.downcast::<repo::Error>()
}

/// The chunks of a window as they come.
#[derive(Default)]
struct Slots {
    /// Each with the number of items that will take it.
    slots: Mutex<Vec<(Slot, usize)>>,
    changed: Condvar,
}

enum Slot {
    Waiting,
    Filled(Result<Arc<Vec<u8>>, String>, BlobId),
    /// There is nothing any more, or never will be because reading was given up.
    Lost,
}

impl Slots {
    fn lock(&self) -> MutexGuard<'_, Vec<(Slot, usize)>> {
        self.slots.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn promise(slots: &Arc<Slots>, id: BlobId) -> Promise {
        let mut all = slots.lock();
        all.push((Slot::Waiting, 0));
        Promise { slots: slots.clone(), slot: all.len() - 1, id }
    }

    fn set(&self, slot: usize, state: Slot) {
        let mut slots = self.lock();
        if let Some((place @ Slot::Waiting, _)) = slots.get_mut(slot) {
            *place = state;
            self.changed.notify_all();
        }
    }

    fn wanted_once_more(&self, slot: usize) {
        if let Some((_, uses)) = self.lock().get_mut(slot) {
            *uses += 1;
        }
    }

    /// Lets go of a chunk that no further item takes.
    fn taken_once(&self, slot: usize) {
        if let Some((state, uses)) = self.lock().get_mut(slot) {
            *uses = uses.saturating_sub(1);
            if *uses == 0 {
                *state = Slot::Lost;
            }
        }
    }

    /// Waits for a chunk; none if it will never come.
    fn wait(&self, slot: usize) -> Option<Result<Arc<Vec<u8>>, repo::Error>> {
        let mut slots = self.lock();
        loop {
            match slots.get(slot).map(|(slot, _)| slot) {
                Some(Slot::Filled(Ok(bytes), _)) => return Some(Ok(bytes.clone())),
                Some(Slot::Filled(Err(reason), id)) => {
                    return Some(Err(repo::Error::damaged(format!("blob {id}"), reason)));
                }
                Some(Slot::Waiting) => {
                    slots = self.changed.wait(slots).unwrap_or_else(PoisonError::into_inner);
                }
                Some(Slot::Lost) | None => return None,
            }
        }
    }
}

/// A slot that is to be filled. Dropped, it says that it never will be.
struct Promise {
    slots: Arc<Slots>,
    slot: usize,
    id: BlobId,
}

impl Drop for Promise {
    fn drop(&mut self) {
        self.slots.set(self.slot, Slot::Lost);
    }
}

/// Puts chunks into their slots.
struct Filling;

impl Sink<Promise> for Filling {
    fn take(&self, promise: Promise, blob: Result<&[u8], &repo::Error>) {
        let bytes = blob.map(|bytes| Arc::new(bytes.to_vec())).map_err(|error| error.to_string());
        promise.slots.set(promise.slot, Slot::Filled(bytes, promise.id));
    }
}
