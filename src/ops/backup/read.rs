//! Reading files: cut into chunks, each with its name and marks.
//!
//! Named threads take jobs from a queue; a job is a handful of small files or one large one. Small files come back
//! whole, large ones chunk by chunk through a short channel. Memory is bounded by a permit that whoever hands out the
//! jobs takes for each of them, in their order, so that the job everybody waits for always has its own.

use crate::base::budget::Permit;
use crate::base::{BlobId, Buffers, Problem};
use crate::chunk::{Chunker, Cutter, Piece, least_buffer_bytes};
use crate::crypto::names::{MarkKey, NamingKey};
use crate::format::meta::Meta;
use crate::format::tree::INLINE_BYTES;
use crate::repo::Keyring;
use crate::repo::index::Marks;
use crate::source::files::{Entry, OpenFile, changed_while_read, data_ranges};
use crate::source::imported::{DumpReport, Inspector};
use std::collections::VecDeque;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::ops::Range;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

/// Files up to this size are read whole.
pub const SMALL_BYTES: u64 = 1 << 20;
/// Results of a job that may wait.
const WAITING_RESULTS: usize = 1;
/// Chunks whose bytes wait to be used again.
const KEPT_CHUNKS: usize = 8;
/// What a job of small files takes at least: its buffer has room for more from its last use.
pub const SMALL_PERMIT_BYTES: usize = SMALL_BYTES as usize / 2;
/// Contents of such jobs whose bytes wait to be used again. A vector for each file, taken by one thread and dropped by
/// another, made the allocator keep 40 MiB that nobody used.
const KEPT_CONTENTS: usize = 16;
/// Small files that one reader has open at a time.
const OPEN_AHEAD: usize = 16;
/// What a large file takes while it is read: the cutter's buffer and the chunks that wait or are in hand.
pub const LARGE_PERMIT_BYTES: usize = (4 << 20) + (WAITING_RESULTS + 2) * (1 << 20);

/// A chunk's name and marks.
#[derive(Clone, Copy)]
pub struct Named {
    /// Its name.
    pub id: BlobId,
    /// Its marks.
    pub marks: Marks,
}

/// What was found out about a file when it was read.
pub struct Seen {
    /// What `stat` said after the file was opened.
    pub meta: Meta,
    /// Extended attributes.
    pub xattrs: Vec<(Vec<u8>, Vec<u8>)>,
    /// It changed while it was read.
    pub changed: bool,
    /// Bytes of content that came.
    pub bytes: u64,
    /// What it is as a dump, if somebody asked and it is one.
    pub dump: Option<Box<DumpReport>>,
}

/// A small file. Its content lies among that of its job's other files.
pub struct Small {
    /// What was found out.
    pub seen: Seen,
    /// Where its content lies.
    pub content: Range<usize>,
    /// Where its chunks lie; none if it is so small that it lies in its node.
    pub chunks: Vec<(Range<usize>, Named)>,
}

/// The files of a job of small ones, in order.
pub struct Smalls {
    /// Each file, or why it could not be read.
    pub files: Vec<Result<Small, Problem>>,
    /// The content of all of them, one after the other.
    pub data: Vec<u8>,
}

/// What comes back from a job.
pub enum Message {
    /// All files of a job of small ones. The permit goes with the data.
    Small(Smalls, Permit),
    /// The next chunk of a large file.
    Chunk(Vec<u8>, Named),
    /// So many zero bytes that were never stored.
    Hole(u64),
    /// The end of a large file.
    End(Box<Result<Seen, Problem>>),
}

/// Files to be read together.
pub struct Job {
    files: Vec<Entry>,
    large: bool,
    permit: Permit,
    results: SyncSender<Message>,
}

/// Where the results of a job come from.
pub type Results = Receiver<Message>;

/// The two ends of a job's results. A job may be announced before it is handed out.
pub fn results() -> (SyncSender<Message>, Results) {
    sync_channel(WAITING_RESULTS)
}

impl Job {
    /// A job of small files.
    pub fn small(files: Vec<Entry>, permit: Permit, results: SyncSender<Message>) -> Job {
        Job { files, large: false, permit, results }
    }

    /// A job of one large file.
    pub fn large(file: Entry, permit: Permit, results: SyncSender<Message>) -> Job {
        Job { files: vec![file], large: true, permit, results }
    }
}

/// Cuts and names.
pub struct Namer {
    /// Where the bytes of large files' chunks come from and go to.
    pub chunks: Buffers,
    /// The same for the contents of jobs of small files.
    contents: Buffers,
    chunker: Chunker,
    keyring: Arc<Keyring>,
    marks: MarkKey,
    inspects: bool,
}

impl Namer {
    /// With the repository's chunker and keys. Says whether files that are dumps are looked into on the way.
    pub fn new(chunker: Chunker, keyring: Arc<Keyring>, inspects: bool) -> Namer {
        let chunks = Buffers::new(KEPT_CHUNKS, 0);
        let contents = Buffers::new(KEPT_CONTENTS, 0);
        Namer { chunks, contents, chunker, marks: keyring.marks(), keyring, inspects }
    }

    /// Takes the contents of a job of small files back. Files that grew while they were read left room behind that would
    /// stay for good: that is not kept.
    pub fn take_back(&self, contents: Vec<u8>) {
        if contents.capacity() <= 2 * SMALL_BYTES as usize {
            self.contents.give(contents);
        }
    }

    fn inspector(&self, entry: &Entry) -> Option<Inspector> {
        self.inspects.then(|| Inspector::new(entry.name()))
    }

    fn naming(&self) -> &NamingKey {
        self.keyring.naming()
    }

    /// Names a piece. `start` is the mark of its start, replaced by that of the next one.
    fn name(&self, piece: &Piece<'_>, start: &mut Option<crate::base::Mark>) -> Named {
        let end = piece.end_window().map(|window| self.marks.mark(window));
        let marks = Marks { start: std::mem::replace(start, end), end };
        Named { id: self.naming().blob_id(piece.data), marks }
    }

    /// A buffer for a stream that is read beside many others: as small as can be.
    pub fn stream_buffer(&self) -> Vec<u8> {
        vec![0; least_buffer_bytes(&self.chunker)]
    }

    /// What such a stream takes while it is read: the buffer and a chunk in hand.
    pub fn stream_bytes(&self) -> usize {
        least_buffer_bytes(&self.chunker) + self.chunker.sizes().max()
    }

    /// The mark of the start of a stream.
    pub fn stream_start(&self, kind: &str, name: &[u8]) -> crate::base::Mark {
        self.marks.stream_mark(kind, name)
    }

    /// Cuts a stream and hands out its chunks until it ends or `each` has had enough.
    pub fn stream(
        &self,
        reader: impl Read,
        start: &mut Option<crate::base::Mark>,
        buffer: &mut Vec<u8>,
        each: &mut dyn FnMut(&[u8], Named) -> bool,
    ) -> std::io::Result<u64> {
        let mut cutter = Cutter::with_buffer(&self.chunker, reader, std::mem::take(buffer));
        let mut bytes = 0;
        let result = loop {
            match cutter.next_piece() {
                Ok(Some(piece)) => {
                    bytes += piece.data.len() as u64;
                    if !each(piece.data, self.name(&piece, start)) {
                        break Ok(bytes);
                    }
                }
                Ok(None) => break Ok(bytes),
                Err(error) => break Err(error),
            }
        };
        *buffer = cutter.into_buffer();
        result
    }
}

/// The threads that read.
pub struct Readers {
    jobs: Option<SyncSender<Job>>,
    threads: Vec<JoinHandle<()>>,
}

impl Readers {
    /// Starts `threads` readers.
    pub fn start(threads: usize, namer: &Arc<Namer>) -> std::io::Result<Readers> {
        let (jobs, queue) = sync_channel(threads);
        let queue = Arc::new(Mutex::new(queue));
        let buffers = Arc::new(Mutex::new(Vec::new()));
        let mut readers = Readers { jobs: Some(jobs), threads: Vec::new() };
        for number in 0..threads {
            let (queue, buffers, namer) = (queue.clone(), buffers.clone(), namer.clone());
            let reader = std::thread::Builder::new().name(format!("reader-{number}"));
            readers.threads.push(reader.spawn(move || run(&queue, &buffers, &namer))?);
        }
        Ok(readers)
    }

    /// Where jobs go.
    pub fn queue(&self) -> SyncSender<Job> {
        self.jobs.clone().expect("open until the readers are dropped")
    }
}

impl Drop for Readers {
    fn drop(&mut self) {
        self.jobs = None;
        for thread in self.threads.drain(..) {
            // A reader that panicked has told so by closing its channel.
            let _ = thread.join();
        }
    }
}

fn run(queue: &Mutex<Receiver<Job>>, buffers: &Mutex<Vec<Vec<u8>>>, namer: &Namer) {
    loop {
        let job = queue.lock().unwrap_or_else(PoisonError::into_inner).recv();
        let Ok(job) = job else { return };
        // Whoever waits for the results may have given up: then nobody misses them.
        if job.large {
            // Permits let few large files be read at once: their buffers are shared by all readers.
            let mut buffer = buffers.lock().unwrap_or_else(PoisonError::into_inner).pop().unwrap_or_default();
            read_large(&job.files[0], namer, &job.results, &mut buffer);
            buffers.lock().unwrap_or_else(PoisonError::into_inner).push(buffer);
            drop(job.permit);
        } else {
            let files = read_all(&job.files, namer);
            let _ = job.results.send(Message::Small(files, job.permit));
        }
    }
}

fn problem(entry: &Entry, what: &str, error: &std::io::Error) -> Problem {
    let path = entry.path();
    Problem::at(&path, format!("cannot {what} {}: {error}", path.display()), crate::base::Kind::Source)
}

/// Reads small files in order, the next few open and asked for while one is read: a disk that is asked for many at
/// once answers sooner, and the kernel waits and wakes once for several.
fn read_all(files: &[Entry], namer: &Namer) -> Smalls {
    let mut data = namer.contents.take();
    data.reserve_exact(files.iter().map(|entry| entry.meta.size as usize).sum());
    let mut ahead = VecDeque::with_capacity(OPEN_AHEAD);
    let mut coming = files.iter();
    let mut read = Vec::with_capacity(files.len());
    for entry in files {
        while ahead.len() < OPEN_AHEAD
            && let Some(next) = coming.next()
        {
            let open = next.open();
            if let Ok(open) = &open {
                open.ask_for_all();
            }
            ahead.push_back(open);
        }
        let open = ahead.pop_front().expect("opened above");
        let open = open.map_err(|error| error.problem());
        read.push(open.and_then(|open| read_small(entry, open, &mut data, namer)));
    }
    Smalls { files: read, data }
}

/// Reads a small file behind those that `all` holds already.
fn read_small(entry: &Entry, mut open: OpenFile, all: &mut Vec<u8>, namer: &Namer) -> Result<Small, Problem> {
    let start_of_file = all.len();
    // A file that grew beyond a large one's size meanwhile is cut short and said to have changed.
    (&mut open.file).take(4 * SMALL_BYTES).read_to_end(all).map_err(|error| problem(entry, "read", &error))?;
    let content = start_of_file..all.len();
    let data = &all[content.clone()];
    let xattrs = open.xattrs(entry).map_err(|error| error.problem())?;
    let after = open.stat(entry).map_err(|error| error.problem())?;
    let changed = changed_while_read(&open.meta_now, &after) || data.len() as u64 != after.size;
    let dump = namer.inspector(entry).and_then(|mut inspector| {
        inspector.push(data);
        inspector.finish().map(Box::new)
    });
    let seen = Seen { meta: open.meta_now, xattrs, changed, bytes: data.len() as u64, dump };
    let mut chunks = Vec::new();
    if data.len() > INLINE_BYTES {
        let mut start = Some(namer.stream_start("file", entry.name()));
        let mut offset = content.start;
        for piece in namer.chunker.cuts(data) {
            let named = namer.name(&piece, &mut start);
            chunks.push((offset..offset + piece.data.len(), named));
            offset += piece.data.len();
        }
    }
    Ok(Small { seen, content, chunks })
}

fn read_large(entry: &Entry, namer: &Namer, results: &SyncSender<Message>, buffer: &mut Vec<u8>) {
    let seen = send_large(entry, namer, results, buffer);
    let _ = results.send(Message::End(Box::new(seen)));
}

fn send_large(
    entry: &Entry,
    namer: &Namer,
    results: &SyncSender<Message>,
    buffer: &mut Vec<u8>,
) -> Result<Seen, Problem> {
    let mut open = entry.open().map_err(|error| error.problem())?;
    let start = Some(namer.stream_start("file", entry.name()));
    let mut to = Sending { namer, results, start, inspector: namer.inspector(entry) };
    let bytes = if open.is_sparse {
        send_ranges(entry, &mut open.file, open.meta_now.size, &mut to, buffer)?
    } else {
        to.stream(&mut open.file, buffer).map_err(|error| problem(entry, "read", &error))?
    };
    let dump = to.inspector.and_then(Inspector::finish).map(Box::new);
    let xattrs = open.xattrs(entry).map_err(|error| error.problem())?;
    let after = open.stat(entry).map_err(|error| error.problem())?;
    let changed = changed_while_read(&open.meta_now, &after) || bytes != after.size;
    Ok(Seen { meta: open.meta_now, xattrs, changed, bytes, dump })
}

/// Where the content of a large file goes.
struct Sending<'s> {
    namer: &'s Namer,
    results: &'s SyncSender<Message>,
    start: Option<crate::base::Mark>,
    inspector: Option<Inspector>,
}

impl Sending<'_> {
    fn stream(&mut self, reader: impl Read, buffer: &mut Vec<u8>) -> std::io::Result<u64> {
        let Sending { namer, results, start, inspector } = self;
        namer.stream(reader, start, buffer, &mut |data, named| {
            inspector.iter_mut().for_each(|inspector| inspector.push(data));
            let mut chunk = namer.chunks.take();
            chunk.extend_from_slice(data);
            results.send(Message::Chunk(chunk, named)).is_ok()
        })
    }

    fn hole(&mut self, bytes: u64) {
        self.inspector.iter_mut().for_each(|inspector| inspector.hole(bytes));
        let _ = self.results.send(Message::Hole(bytes));
    }
}

/// Reads the parts of a sparse file that hold data, and says how long the holes between them are.
fn send_ranges(
    entry: &Entry,
    file: &mut File,
    size: u64,
    to: &mut Sending<'_>,
    buffer: &mut Vec<u8>,
) -> Result<u64, Problem> {
    let failed = |error: std::io::Error| problem(entry, "read", &error);
    let ranges = data_ranges(file, size).collect::<std::io::Result<Vec<_>>>().map_err(failed)?;
    let mut at = 0;
    for range in ranges {
        if range.start > at {
            to.hole(range.start - at);
            to.start = None;
        }
        file.seek(SeekFrom::Start(range.start)).map_err(failed)?;
        let length = range.end - range.start;
        let sent = to.stream(file.take(length), buffer).map_err(failed)?;
        at = range.start + sent;
        if sent < length {
            return Ok(at);
        }
    }
    if size > at {
        to.hole(size - at);
    }
    Ok(size.max(at))
}
