//! The target compared with the snapshot, after everything was written: kinds, sizes, times, and every byte by the names
//! of the blobs. One thread walks, several read and compare.

use super::super::fetch::is_damage;
use super::super::{Context, Error, Result};
use super::after::{self, Visit};
use super::sieve::{Sieve, Trails};
use super::write::{Shared, add};
use super::{Options, Subject, target_path};
use crate::base::{BlobId, Kind, Problem};
use crate::format::meta::Meta;
use crate::format::pack::MAX_FRAME_RAW_BYTES;
use crate::format::tree::{HOLE, Node, NodeKind};
use crate::repo;
use crate::repo::blob_reader::BlobReader;
use crate::repo::trees::Chunks;
use crate::target::files::{Comparison, FileUpdate, Folder, Overwrite, Target};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Mutex, PoisonError};
use std::thread::Builder;

/// Threads that compare; they wait for the disk.
const THREADS: usize = 4;
/// Entries that one thread takes at once.
const BATCH: usize = 32;
/// Batches that may wait.
const WAITING: usize = 8;
/// Decoded frames that each thread keeps: of content lists only.
const FRAMES_BYTES: usize = 2 << 20;
/// Content is compared in pieces of this size where there is no chunk to name.
const ZEROS: &[u8] = &[0; 128 << 10];

/// Compares.
pub(super) fn verify(context: &Context, options: &Options, shared: &Shared, subject: &Subject) -> Result<()> {
    let Some(target) = &shared.target else { return Ok(()) };
    let (batches, waiting) = sync_channel(WAITING);
    let (waiting, failure) = (Mutex::new(waiting), Mutex::new(None));
    let comparing = Comparing { context, options, shared, subject, target, waiting: &waiting, failure: &failure };
    std::thread::scope(|scope| {
        let mut gathering = Gathering { batches, batch: Vec::new() };
        for number in 0..THREADS {
            let name = format!("comparer-{number}");
            let thread = Builder::new().name(name).spawn_scoped(scope, || comparing.run());
            thread.map_err(|source| Error::Io { what: format!("start thread comparer-{number}"), source })?;
        }
        after::walk(context, shared, &Sieve::new(options), subject, &mut gathering)?;
        gathering.hand_over()
    })?;
    failure.into_inner().unwrap_or_else(PoisonError::into_inner).map_or(Ok(()), |error: repo::Error| Err(error.into()))
}

/// An entry that is to be compared.
struct Job {
    path: Vec<u8>,
    node: Node,
    meta: Meta,
    folder: Folder,
}

/// Gathers what the walk meets into batches.
struct Gathering {
    batches: SyncSender<Vec<Job>>,
    batch: Vec<Job>,
}

impl Gathering {
    fn hand_over(&mut self) -> Result<()> {
        let batch = std::mem::take(&mut self.batch);
        let sent = self.batches.send(batch);
        sent.map_err(|_| repo::Error::Internal("the threads that compare ended early".to_owned()).into())
    }
}

impl Visit for Gathering {
    fn directory(&mut self, _: &[u8], _: BlobId, _: &Folder, _: Option<&Meta>, _: &Trails) -> Result<()> {
        Ok(())
    }

    fn entry(&mut self, path: &[u8], node: &Node, meta: Meta, folder: &Folder) -> Result<()> {
        self.batch.push(Job { path: path.to_vec(), node: node.clone(), meta, folder: folder.clone() });
        if self.batch.len() < BATCH { Ok(()) } else { self.hand_over() }
    }
}

/// What the threads share.
struct Comparing<'v> {
    context: &'v Context,
    options: &'v Options,
    shared: &'v Shared,
    subject: &'v Subject,
    target: &'v Target,
    waiting: &'v Mutex<Receiver<Vec<Job>>>,
    failure: &'v Mutex<Option<repo::Error>>,
}

impl Comparing<'_> {
    fn run(&self) {
        let lists = BlobReader::new(self.context.repository.clone(), self.context.index.clone(), FRAMES_BYTES);
        let mut comparer = Comparer { comparing: self, lists, buffer: Vec::new() };
        while let Some(batch) = self.next() {
            // After a failure the rest is only taken away, so that the walk comes to its end.
            for job in batch {
                let failed = self.failure.lock().unwrap_or_else(PoisonError::into_inner).is_some();
                if failed || self.context.check_stop().is_err() {
                    break;
                }
                if let Err(error) = comparer.entry(&job) {
                    self.failure.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(error);
                }
            }
        }
    }

    fn next(&self) -> Option<Vec<Job>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner).recv().ok()
    }

    fn differs(&self, path: &[u8], what: &str) {
        let subject = target_path(self.options, self.subject, path);
        self.shared.problem(Problem::new(subject, format!("is not as in the snapshot: {what}"), Kind::Target));
    }
}

/// Compares on one thread.
struct Comparer<'c> {
    comparing: &'c Comparing<'c>,
    lists: BlobReader,
    buffer: Vec<u8>,
}

impl Comparer<'_> {
    fn entry(&mut self, job: &Job) -> repo::Result<()> {
        let (comparing, shared) = (self.comparing, self.comparing.shared);
        let (path, node) = (&job.path, &job.node);
        let comparison = match comparing.target.compare(&job.folder, &node.name.0, &job.meta) {
            Ok(comparison) => comparison,
            Err(error) => {
                shared.refused(error);
                return Ok(());
            }
        };
        let is_kept = matches!(comparing.options.overwrite, Overwrite::Never | Overwrite::IfNewer);
        match comparison {
            // It was to be kept as it was.
            Comparison::OtherKind | Comparison::Differs if is_kept => return Ok(()),
            Comparison::Absent => comparing.differs(path, "it is not there"),
            Comparison::OtherKind => comparing.differs(path, "something of another kind is there"),
            Comparison::Differs => comparing.differs(path, "size, time or target differ"),
            Comparison::Same => {}
        }
        if comparison != Comparison::Same || node.kind != NodeKind::File {
            return Ok(());
        }
        let existing = match comparing.target.update_file(&job.folder, &node.name.0, &job.meta) {
            Ok(existing) => existing,
            Err(error) => {
                shared.refused(error);
                return Ok(());
            }
        };
        match self.first_difference(node, &existing)? {
            Some(offset) => {
                let what = format!(
                    "its content differs from byte {offset} on; if nobody else writes there, test disk and memory"
                );
                comparing.differs(path, &what);
            }
            None => {
                add(&shared.counts.verified_files, 1);
                add(&shared.counts.verified_bytes, node.size);
            }
        }
        Ok(())
    }

    /// Compares content; answers with where it differs first.
    fn first_difference(&mut self, node: &Node, existing: &FileUpdate) -> repo::Result<Option<u64>> {
        if existing.size() != node.size {
            return Ok(Some(existing.size().min(node.size)));
        }
        let has = |offset: u64, bytes: &[u8]| existing.has_at(offset, bytes).is_ok_and(|same| same);
        if !has(0, &node.inline.0) {
            return Ok(Some(0));
        }
        let mut chunks = Chunks::of(node);
        let mut offset = 0;
        loop {
            let (id, length) = match chunks.next(&mut self.lists) {
                Ok(Some(chunk)) => chunk,
                Ok(None) => return Ok(None),
                // Told when the file was to be restored.
                Err(error) if is_damage(&error) => return Ok(Some(offset)),
                Err(error) => return Err(error),
            };
            let same = if id == HOLE {
                let pieces = length.div_ceil(ZEROS.len() as u64);
                (0..pieces).all(|piece| {
                    let from = piece * ZEROS.len() as u64;
                    has(offset + from, &ZEROS[..(length - from).min(ZEROS.len() as u64) as usize])
                })
            } else {
                length <= MAX_FRAME_RAW_BYTES as u64 && self.has_chunk(existing, id, offset, length)
            };
            if !same {
                return Ok(Some(offset));
            }
            offset += length;
        }
    }

    fn has_chunk(&mut self, existing: &FileUpdate, id: BlobId, offset: u64, length: u64) -> bool {
        self.buffer.resize(length as usize, 0);
        existing.read_at(offset, &mut self.buffer).is_ok_and(|count| count as u64 == length)
            && self.comparing.context.repository.keyring().naming().blob_id(&self.buffer) == id
    }
}
