//! Databases and commands read, several at once.
//!
//! ```text
//! source threads:  connect -> moment -> streams -> manifest   (one source each, with its attempts and its time)
//! stream threads:  read -> cut -> name -> messages            (several for one database)
//! ```
//!
//! Messages go through one short channel to whoever builds the snapshot; he alone stores. What is in memory is bounded
//! by a budget of which each stream takes its share before it is opened. A source that fails fails alone: what came of
//! it is let go, the others go on.

use super::super::probe::preflight;
use super::super::space::Space;
use super::limits::{Limits, TimeLimit};
use super::read::{Named, Namer};
use super::stream::{behind, said};
use crate::base::child::Program;
use crate::base::{Budget, Event, Kind, Monitor, Stop};
use crate::db::Watch;
use crate::db::probe::amount;
use crate::format::cbor::{Bytes, Unknown};
use crate::format::dump::{MANIFEST_NAME, Manifest};
use crate::format::snapshot::Stream;
use crate::format::tree::{INLINE_BYTES, is_name};
use crate::source::dump::{Consume, Dump, DumpSource, Planned};
use std::collections::HashSet;
use std::fmt::Display;
use std::io::{self, Read};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, Builder};

/// Bytes that all open streams may take: buffers of cutters and chunks in hand.
const STREAMS_BYTES: usize = 24 << 20;
/// Messages that may wait for the builder; each is at most a largest chunk.
const WAITING_MESSAGES: usize = 4;
/// Streams lie at most so many directories deep.
const MAX_DEPTH: usize = 16;
/// Where the outputs of commands lie.
pub const COMMANDS: &str = "@command";

/// What is read.
#[derive(Clone, Debug)]
pub enum Origin {
    /// A database.
    Dump(Arc<dyn DumpSource>),
    /// The output of a shell command.
    Command(String),
}

/// A source that is fed into the snapshot.
#[derive(Clone, Debug)]
pub struct Fed {
    /// The directory at the top of the snapshot.
    pub folder: &'static str,
    /// Its name there.
    pub name: String,
    /// What is read.
    pub origin: Origin,
}

impl Fed {
    /// Its place without the first slash, which is what people call it: `@postgres/shop`.
    pub fn label(&self) -> String {
        format!("{}/{}", self.folder, self.name)
    }

    /// Its place in the snapshot.
    pub fn place(&self) -> Vec<u8> {
        format!("/{}", self.label()).into_bytes()
    }
}

/// One stream: the number of its source, and its own number there. A manifest comes after all others.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct StreamId {
    /// The number of the source.
    pub source: usize,
    /// The number among its streams.
    pub stream: usize,
}

/// What a source ended with.
pub enum Ending {
    /// A dump, whose manifest came as its last stream.
    Dump(Box<Manifest>),
    /// A command that ended well.
    Command(Box<Stream>),
}

/// Why there is nothing of a source.
pub struct Failure {
    /// What was tried and what came back; names the source.
    pub message: String,
    /// What is known of a command that failed.
    pub stream: Option<Box<Stream>>,
    /// The user asked to stop.
    pub interrupted: bool,
}

/// What comes from the sources.
pub enum Message {
    /// An attempt begins: the paths of its streams beneath the source's place. Whatever came before is void.
    Begin(usize, Vec<String>),
    /// The next chunk of a stream.
    Chunk(StreamId, Vec<u8>, Named),
    /// A stream ended well, after so many bytes. Content that is so short that it lies in its node comes here.
    End(StreamId, u64, Vec<u8>),
    /// A source has ended.
    Ended(usize, Result<Ending, Failure>),
}

/// A failed attempt.
struct Broken {
    kind: Kind,
    message: String,
    stream: Option<Box<Stream>>,
}

impl Broken {
    fn new(kind: Kind, message: impl Display) -> Broken {
        Broken { kind, message: message.to_string(), stream: None }
    }
}

impl From<crate::db::Error> for Broken {
    fn from(error: crate::db::Error) -> Broken {
        Broken::new(error.kind(), error)
    }
}

/// All that the threads share.
pub struct Feed<'f> {
    fed: &'f [Fed],
    limits: &'f Limits,
    namer: Arc<Namer>,
    budget: Budget,
    buffers: Mutex<Vec<Vec<u8>>>,
    monitor: Arc<dyn Monitor>,
    user: &'f Stop,
    all: Stop,
    next: AtomicUsize,
    /// Streams and bytes to be expected of each source; none before it has begun.
    expected: Mutex<Vec<Option<(u64, u64)>>>,
    space: Space,
    told_of_space: AtomicBool,
    retries: AtomicU64,
}

impl<'f> Feed<'f> {
    /// What `fed` will be read with.
    pub fn new(
        fed: &'f [Fed],
        limits: &'f Limits,
        namer: Arc<Namer>,
        monitor: Arc<dyn Monitor>,
        user: &'f Stop,
        space: Space,
    ) -> Feed<'f> {
        Feed {
            fed,
            limits,
            namer,
            budget: Budget::new(STREAMS_BYTES),
            buffers: Mutex::default(),
            monitor,
            user,
            all: user.child(),
            next: AtomicUsize::new(0),
            expected: Mutex::new(vec![None; fed.len()]),
            space,
            told_of_space: AtomicBool::new(false),
            retries: AtomicU64::new(0),
        }
    }

    /// How often a source was tried again so far.
    pub fn retries(&self) -> u64 {
        self.retries.load(Ordering::Relaxed)
    }

    /// Reads all sources; `take` gets what comes, on this thread. When it returns, whoever still reads is stopped.
    pub fn run<R>(&self, take: impl FnOnce(Receiver<Message>) -> R) -> io::Result<R> {
        let (sender, messages) = sync_channel(WAITING_MESSAGES);
        let limit = self.limits.timeout.map(|limit| TimeLimit::start(&self.all, limit)).transpose()?;
        thread::scope(|scope| {
            let threads: io::Result<Vec<_>> = (0..self.fed.len().min(self.limits.max_parallel.max(1)))
                .map(|number| {
                    let (sender, limit) = (sender.clone(), limit.as_ref());
                    let work = move || self.work(&sender, limit);
                    Builder::new().name(format!("source-{number}")).spawn_scoped(scope, work)
                })
                .collect();
            drop(sender);
            let taken = match &threads {
                Ok(_) => Some(take(messages)),
                Err(_) => None,
            };
            self.all.raise();
            // One that panicked has not told its end, which whoever took knows.
            let threads: io::Result<Vec<_>> =
                threads.map(|threads| threads.into_iter().map(|thread| thread.join()).collect());
            threads.map(|_| taken.expect("taken if the threads were started"))
        })
    }

    /// Reads one source after the other until there is none left.
    fn work(&self, sender: &SyncSender<Message>, overall: Option<&TimeLimit>) {
        loop {
            let number = self.next.fetch_add(1, Ordering::SeqCst);
            let Some(fed) = self.fed.get(number) else { return };
            let ending = self.source(number, fed, sender, overall);
            if sender.send(Message::Ended(number, ending)).is_err() {
                return;
            }
        }
    }

    /// Reads one source within its time.
    fn source(
        &self,
        number: usize,
        fed: &Fed,
        sender: &SyncSender<Message>,
        overall: Option<&TimeLimit>,
    ) -> Result<Ending, Failure> {
        let stop = self.all.child();
        let limit = TimeLimit::start(&stop, self.limits.source_timeout);
        let read = match &limit {
            Ok(_) => self.attempts(number, fed, &stop, sender),
            Err(error) => Err(Broken::new(Kind::Source, format!("cannot start a thread: {error}"))),
        };
        read.map_err(|broken| {
            let seconds = |limit: std::time::Duration| limit.as_secs_f64();
            let why = match (&limit, overall, self.limits.timeout) {
                (Ok(limit), ..) if limit.ran_out() => format!(
                    "it took longer than {} s, the time that a source has: --source-timeout gives it more",
                    seconds(self.limits.source_timeout)
                ),
                (_, Some(overall), Some(timeout)) if overall.ran_out() => format!(
                    "the {} s that all databases and commands have were over: --timeout gives them more",
                    seconds(timeout)
                ),
                _ => broken.message,
            };
            let message = format!("{} was not backed up: {why}", fed.label());
            Failure { message, stream: broken.stream, interrupted: self.user.raised() }
        })
    }

    /// Tries until it succeeds, fails for good, or was tried often enough.
    fn attempts(&self, number: usize, fed: &Fed, stop: &Stop, sender: &SyncSender<Message>) -> Result<Ending, Broken> {
        let mut waits = self.limits.waits();
        for attempt in 1.. {
            let broken = match self.attempt(number, fed, stop, sender) {
                Ok(ending) => return Ok(ending),
                Err(broken) => broken,
            };
            let wait = match broken.kind.is_transient() && !stop.raised() {
                true => waits.next(),
                false => None,
            };
            let Some(wait) = wait else {
                let tried = if attempt > 1 { format!(" (tried {attempt} times)") } else { String::new() };
                return Err(Broken { message: format!("{}{tried}", broken.message), ..broken });
            };
            let note = format!(
                "{}: attempt {attempt} of {} failed, the next one begins in {:.1} s: {}",
                fed.label(),
                self.limits.attempts,
                wait.as_secs_f64(),
                broken.message
            );
            self.monitor.event(Event::Note(&note));
            self.retries.fetch_add(1, Ordering::Relaxed);
            stop.rest(wait);
            if stop.raised() {
                return Err(broken);
            }
        }
        unreachable!("the loop returns")
    }

    fn attempt(&self, number: usize, fed: &Fed, stop: &Stop, sender: &SyncSender<Message>) -> Result<Ending, Broken> {
        // One stream that fails stops the others of its source, and nobody else.
        let stop = stop.child();
        let attempt = Attempt { feed: self, number, fed, stop: &stop, sender };
        match &fed.origin {
            Origin::Dump(source) => attempt.dump(&**source),
            Origin::Command(line) => attempt.command(line),
        }
    }

    /// A source has said how large it is. What clearly does not fit is refused, before any of it is stored.
    fn expect(&self, number: usize, planned: &[Planned]) -> Result<(), Broken> {
        let mut expected = self.expected.lock().unwrap_or_else(PoisonError::into_inner);
        let bytes = planned.iter().fold(0u64, |sum, planned| sum.saturating_add(planned.bytes));
        expected[number] = Some((planned.len() as u64 + 1, bytes));
        let sum = |expected: &[Option<(u64, u64)>]| {
            let known = expected.iter().flatten();
            known.fold((0, 0u64), |sum, one| (sum.0 + one.0, sum.1.saturating_add(one.1)))
        };
        let (items, bytes) = sum(&expected[..]);
        if self.space.lacks(bytes) {
            expected[number] = None;
            let message = format!(
                "{}, not even a tenth; free some space there, use a larger disk, or say --ignore-free-space",
                self.room(bytes)
            );
            return Err(Broken::new(Kind::Refused, message));
        }
        // Nobody knows how much a command will print.
        let told = |fed: &Fed| matches!(fed.origin, Origin::Dump(_));
        let complete = expected.iter().all(Option::is_some) && self.fed.iter().all(told);
        self.monitor.event(Event::Total { items, bytes, complete });
        if self.space.may_lack(bytes) && !self.told_of_space.swap(true, Ordering::SeqCst) {
            let note = format!(
                "{}: if the disk becomes full the backup fails, and earlier snapshots stay as they are",
                self.room(bytes)
            );
            self.monitor.event(Event::Note(&note));
        }
        Ok(())
    }

    fn room(&self, bytes: u64) -> String {
        let free = self.space.free_bytes.unwrap_or(0);
        let (free, bytes) = (amount(free), amount(bytes));
        format!("{free} are free where the repository lies, and the databases are about {bytes} before compression")
    }
}

/// One attempt to read one source.
struct Attempt<'a> {
    feed: &'a Feed<'a>,
    number: usize,
    fed: &'a Fed,
    stop: &'a Stop,
    sender: &'a SyncSender<Message>,
}

impl Attempt<'_> {
    fn dump(&self, source: &dyn DumpSource) -> Result<Ending, Broken> {
        let watch = Watch { stop: self.stop.clone(), monitor: self.feed.monitor.clone() };
        preflight(source, &watch)?;
        let dump = source.begin(&watch)?;
        check_paths(dump.streams()).map_err(|why| Broken::new(Kind::Internal, why))?;
        let paths: Vec<String> = dump.streams().iter().map(|planned| planned.path.clone()).collect();
        let streams = paths.len();
        self.feed.expect(self.number, dump.streams())?;
        self.send(Message::Begin(self.number, paths))?;
        self.streams(&*dump)?;
        let manifest = dump.finish()?;
        let encoded = manifest.encode();
        self.stream(streams, MANIFEST_NAME, |consume| {
            consume(&mut encoded.as_slice()).map(|_| ()).map_err(|error| Broken::new(Kind::Source, error))
        })?;
        Ok(Ending::Dump(Box::new(manifest)))
    }

    /// Reads all streams of a dump on as many threads as it has workers.
    fn streams(&self, dump: &dyn Dump) -> Result<(), Broken> {
        let streams = dump.streams();
        let next = AtomicUsize::new(0);
        let failed: Mutex<Option<Broken>> = Mutex::new(None);
        let fail = |broken: Broken| {
            failed.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(broken);
            self.stop.raise();
        };
        let work = || {
            while !self.stop.raised() {
                let number = next.fetch_add(1, Ordering::SeqCst);
                let Some(planned) = streams.get(number) else { return };
                let read = self.stream(number, &planned.path, |consume| Ok(dump.read(number, consume)?));
                if let Err(broken) = read {
                    fail(broken);
                }
            }
        };
        let panicked = thread::scope(|scope| {
            let mut threads = Vec::new();
            for worker in 0..dump.workers().clamp(1, streams.len().max(1)) {
                let name = format!("stream-{}-{worker}", self.number);
                match Builder::new().name(name).spawn_scoped(scope, work) {
                    Ok(thread) => threads.push(thread),
                    Err(error) => fail(Broken::new(Kind::Source, format!("cannot start a thread: {error}"))),
                }
            }
            threads.into_iter().map(|thread| thread.join()).filter(Result::is_err).count() > 0
        });
        if let Some(broken) = failed.into_inner().unwrap_or_else(PoisonError::into_inner) {
            return Err(broken);
        }
        match (panicked, self.stop.raised()) {
            (true, _) => Err(Broken::new(Kind::Internal, "a thread that read a stream ended in a panic")),
            (_, true) => Err(stopped()),
            (false, false) => Ok(()),
        }
    }

    /// Reads the output of a shell command. A command that fails is a failure whatever it has printed.
    fn command(&self, line: &str) -> Result<Ending, Broken> {
        self.feed.expect(self.number, &[])?;
        self.send(Message::Begin(self.number, vec![self.fed.name.clone()]))?;
        let mut stream = Box::new(Stream {
            path: Bytes(self.fed.place()),
            kind: "command".to_owned(),
            command: ["sh", "-c", line].map(|word| Bytes(word.as_bytes().to_vec())).to_vec(),
            status: None,
            errors: Bytes::default(),
            bytes: 0,
            unknown: Unknown::none(),
        });
        let read = self.stream(0, "", |consume| {
            let failed = |what: &str, error| Broken::new(Kind::Source, format!("cannot {what} its command: {error}"));
            let mut child = Program::shell(line).start(self.stop).map_err(|error| failed("start", error))?;
            let mut output = child.take_output().expect("nobody took it before");
            // If that fails the child is dropped, which ends it.
            stream.bytes = consume(&mut output).map_err(|error| failed("read the output of", error))?;
            drop(output);
            let ended = child.finish().map_err(|error| failed("wait for", error))?;
            stream.errors.0 = ended.errors;
            stream.status = ended.status.code().map(i64::from);
            match (ended.stopped, ended.status.success()) {
                (true, _) => Err(stopped()),
                (_, true) => {
                    if let Some(said) = said(&stream.errors) {
                        self.feed.monitor.event(Event::Note(&format!("{}: its command said: {said}", self.fed.name)));
                    }
                    Ok(())
                }
                (_, false) => {
                    let said = behind(&stream.errors);
                    Err(Broken::new(Kind::Source, format!("its command ended with {}{said}", ended.status)))
                }
            }
        });
        match read {
            Ok(()) => Ok(Ending::Command(stream)),
            Err(broken) => Err(Broken { stream: Some(stream), ..broken }),
        }
    }

    /// Cuts, names and sends one stream; `read` reads it and says whether it ended well. `path` is that beneath the
    /// source's place.
    fn stream(
        &self,
        number: usize,
        path: &str,
        read: impl FnOnce(&mut Consume<'_>) -> Result<(), Broken>,
    ) -> Result<(), Broken> {
        let (feed, id) = (self.feed, StreamId { source: self.number, stream: number });
        let _permit = feed.budget.take(feed.namer.stream_bytes());
        let mut buffer = feed.buffers.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let buffer = buffer.get_or_insert_with(|| feed.namer.stream_buffer());
        let name = format!("{}/{path}", self.fed.label());
        feed.monitor.event(Event::Current(name.trim_end_matches('/')));
        let mut start = Some(feed.namer.stream_start("stream", name.as_bytes()));
        let mut sending = Sending { attempt: self, id, bytes: 0, short: Vec::new() };
        let mut consume = |reader: &mut dyn Read| {
            let mut sent = Ok(());
            let bytes = feed.namer.stream(reader, &mut start, buffer, &mut |data, named| {
                sent = sending.chunk(data, named);
                sent.is_ok()
            })?;
            sent.map(|()| bytes)
        };
        let read = read(&mut consume);
        feed.buffers.lock().unwrap_or_else(PoisonError::into_inner).push(std::mem::take(buffer));
        read?;
        sending.end()
    }

    fn send(&self, message: Message) -> Result<(), Broken> {
        self.sender.send(message).map_err(|_| stopped())
    }
}

/// A stream on its way.
struct Sending<'s> {
    attempt: &'s Attempt<'s>,
    id: StreamId,
    bytes: u64,
    /// The first chunk, if it is so short that it may lie in its node.
    short: Vec<u8>,
}

impl Sending<'_> {
    fn chunk(&mut self, data: &[u8], named: Named) -> io::Result<()> {
        if self.attempt.stop.raised() {
            return Err(io::Error::other("stopped"));
        }
        let first = self.bytes == 0;
        self.bytes += data.len() as u64;
        self.attempt.feed.monitor.event(Event::Done { items: 0, bytes: data.len() as u64 });
        // No chunk but the last is that short, so this is the whole stream.
        if first && data.len() <= INLINE_BYTES {
            self.short = data.to_vec();
            return Ok(());
        }
        let mut chunk = self.attempt.feed.namer.chunks.take();
        chunk.extend_from_slice(data);
        let message = Message::Chunk(self.id, chunk, named);
        self.attempt.sender.send(message).map_err(|_| io::Error::other("nobody takes what is read any more"))
    }

    fn end(self) -> Result<(), Broken> {
        let whole = self.short.is_empty() || self.short.len() as u64 == self.bytes;
        if !whole {
            return Err(Broken::new(Kind::Internal, "a stream went on after its end"));
        }
        self.attempt.send(Message::End(self.id, self.bytes, self.short))
    }
}

fn stopped() -> Broken {
    Broken::new(Kind::Interrupted, "it was stopped")
}

/// Whether streams can lie at these paths: plain names, each once, none of them a directory of another.
fn check_paths(streams: &[Planned]) -> Result<(), String> {
    let mut paths = HashSet::from([MANIFEST_NAME]);
    for stream in streams {
        let names: Vec<&str> = stream.path.split('/').collect();
        if names.len() > MAX_DEPTH || !names.iter().all(|name| is_name(name.as_bytes())) {
            return Err(format!("{:?} cannot be the path of a stream", stream.path));
        }
        if !paths.insert(&stream.path) {
            return Err(format!("two streams would lie at {:?}", stream.path));
        }
    }
    for path in &paths {
        let above = path.match_indices('/').map(|(end, _)| &path[..end]);
        if let Some(above) = above.into_iter().find(|above| paths.contains(above)) {
            return Err(format!("{above:?} would be a stream and the directory of {path:?}"));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn streams_lie_beneath_their_dump_each_at_a_place_of_its_own() {
        let check = |paths: &[&str]| {
            let planned: Vec<_> = paths.iter().map(|path| Planned { path: (*path).to_owned(), bytes: 0 }).collect();
            check_paths(&planned)
        };
        assert_eq!(check(&["a", "b/c", "b/d"]), Ok(()));
        for wrong in [&["a", "a"][..], &["a", "a/b"], &["../a"], &["/a"], &["a//b"], &[""], &["manifest.json"]] {
            assert!(check(wrong).is_err(), "{wrong:?}");
        }
        assert!(check(&[&["x"; 17].join("/")]).is_err());
    }
}
