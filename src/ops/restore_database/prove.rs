//! Whether a dump in a snapshot can be read to its last byte, before anything is written anywhere.
//!
//! Every blob of its streams is read from the store, opened, decoded and named; nothing is kept. What this costs is one
//! more reading; what it saves is a database that was dropped for a dump that breaks off.
//!
//! Where whatever is written stays out of sight until all of it was decoded and named anyway, the seals are enough: every
//! block that a blob or one of its bases lies in is read from the store and opened, so that nothing is missing or altered,
//! and nothing is decoded. That costs a fifth. If anything is wrong there, all is read once more to its names, which knows
//! of other copies and says what is hurt.

use super::super::browse::{normal, reader, resolve_with};
use super::super::fetch::{Fetch, Sink, Wanted, is_damage};
use super::super::walk::{Step, Walk, show};
use super::super::{Context, Error, Result};
use crate::base::{BlobId, Event};
use crate::format::dump::{MANIFEST_NAME, Manifest};
use crate::format::snapshot::Snapshot;
use crate::format::tree::{HOLE, Node, NodeKind};
use crate::repo;
use crate::repo::blob_reader::BlobReader;
use crate::repo::trees::Chunks;
use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

/// How many blobs are planned at once.
const WINDOW_BLOBS: usize = 4096;
/// The most streams that a message names.
const NAMED_STREAMS: usize = 10;

/// What was read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Proven {
    /// Streams.
    pub streams: u64,
    /// Bytes of their content.
    pub bytes: u64,
}

/// How deep is looked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Depth {
    /// Every block is read and opened.
    Seals,
    /// Every blob is decoded and named.
    Names,
}

/// Hears of every blob, and remembers the streams whose blobs cannot be read.
struct Witness {
    depth: Depth,
    failed: Mutex<HashMap<u32, String>>,
    /// Whether anything was wrong, even if another copy was good.
    hurt: AtomicBool,
}

impl Witness {
    fn fail(&self, stream: u32, reason: String) {
        self.failed.lock().unwrap_or_else(PoisonError::into_inner).entry(stream).or_insert(reason);
    }
}

impl Sink<u32> for Witness {
    fn take(&self, stream: u32, blob: Result<&[u8], &repo::Error>) {
        if let Err(error) = blob {
            self.fail(stream, error.to_string());
        }
    }

    fn looks_inside(&self) -> bool {
        self.depth == Depth::Names
    }

    fn damaged(&self, _: &BlobId, _: &repo::Error) {
        self.hurt.store(true, Ordering::Relaxed);
    }
}

/// Reads every stream of the dump at `path` that `reads` asks for. Damage is an error of kind `Damaged` that names the
/// streams.
pub fn prove(
    context: &Context,
    snapshot: &Snapshot,
    path: &[u8],
    manifest: &Manifest,
    reads: &dyn Fn(&str) -> bool,
    depth: Depth,
) -> Result<Proven> {
    context.monitor.event(Event::Phase("verifying the dump"));
    // Why streams cannot be read: once a block is known to be damaged, who looks again only hears that it is not there.
    let mut reasons = HashMap::new();
    if depth == Depth::Seals {
        let mut proof = Proof::begin(context, Depth::Seals)?;
        proof.walk(snapshot, &normal(path), manifest, reads)?;
        match proof.sealed()? {
            Ok(proven) => return Ok(proven),
            Err(found) => reasons = found,
        }
    }
    let mut proof = Proof::begin(context, Depth::Names)?;
    proof.walk(snapshot, &normal(path), manifest, reads)?;
    proof.finish(snapshot, &reasons)
}

struct Proof<'c> {
    context: &'c Context,
    lists: BlobReader,
    fetch: Fetch<u32>,
    witness: Arc<Witness>,
    names: Vec<String>,
    window: HashMap<BlobId, (u64, u32)>,
    proven: Proven,
}

impl<'c> Proof<'c> {
    fn begin(context: &'c Context, depth: Depth) -> Result<Proof<'c>> {
        let witness = Arc::new(Witness { depth, failed: Mutex::default(), hurt: AtomicBool::new(false) });
        Ok(Proof {
            context,
            lists: reader(context),
            fetch: Fetch::begin(context, witness.clone())?,
            witness,
            names: Vec::new(),
            window: HashMap::new(),
            proven: Proven::default(),
        })
    }

    fn walk(
        &mut self,
        snapshot: &Snapshot,
        path: &[u8],
        manifest: &Manifest,
        reads: &dyn Fn(&str) -> bool,
    ) -> Result<()> {
        let promised: HashMap<&str, u64> =
            manifest.streams.iter().map(|stream| (stream.path.as_str(), stream.bytes)).collect();
        let mut missing: HashMap<&str, u64> =
            promised.iter().filter(|(path, _)| reads(path)).map(|(path, bytes)| (*path, *bytes)).collect();
        let top = resolve_with(&mut self.lists, snapshot, path)?;
        let Some(tree) = top.tree else {
            return Err(Error::NotFound(format!("{} is no directory: there is no dump", show(path))));
        };
        let mut walk = Walk::begin(tree, path, &mut self.lists)?;
        while let Some(step) = walk.next(&mut self.lists)? {
            self.context.check_stop()?;
            let Step::Entry(node) = step else { continue };
            if let Some(tree) = node.tree {
                walk.enter(tree, &mut self.lists)?;
                continue;
            }
            let name = String::from_utf8_lossy(&walk.path()[path.len() + 1..]).into_owned();
            if node.kind == NodeKind::File && (name == MANIFEST_NAME || reads(&name)) {
                missing.remove(name.as_str());
                let length = promised.get(name.as_str()).copied();
                self.stream(name, &node, length)?;
            }
        }
        for name in missing.into_keys() {
            let stream = self.begin_stream(name.to_owned());
            self.witness.fail(stream, "the manifest promises it, and it is not in the snapshot".to_owned());
        }
        Ok(())
    }

    fn begin_stream(&mut self, name: String) -> u32 {
        self.names.push(name);
        u32::try_from(self.names.len() - 1).unwrap_or(u32::MAX)
    }

    fn stream(&mut self, name: String, node: &Node, promised: Option<u64>) -> Result<()> {
        self.proven.streams += u64::from(name != MANIFEST_NAME);
        let stream = self.begin_stream(name);
        self.proven.bytes += node.size;
        if let Some(promised) = promised.filter(|promised| *promised != node.size) {
            let reason = format!("it has {} bytes where the manifest promises {promised}", node.size);
            self.witness.fail(stream, reason);
        }
        let mut length = node.inline.0.len() as u64;
        let mut chunks = Chunks::of(node);
        loop {
            match chunks.next(&mut self.lists) {
                Ok(None) => break,
                Ok(Some((id, bytes))) => {
                    length = length.saturating_add(bytes);
                    if id != HOLE {
                        self.chunk(id, bytes, stream)?;
                    }
                }
                Err(error) if is_damage(&error) => {
                    self.witness.fail(stream, error.to_string());
                    return Ok(());
                }
                Err(error) => return Err(error.into()),
            }
        }
        if length != node.size {
            self.witness.fail(stream, format!("its content has {length} bytes where its entry says {}", node.size));
        }
        Ok(())
    }

    fn chunk(&mut self, id: BlobId, bytes: u64, stream: u32) -> Result<()> {
        self.window.insert(id, (bytes, stream));
        if self.window.len() >= WINDOW_BLOBS { self.read_window() } else { Ok(()) }
    }

    fn read_window(&mut self) -> Result<()> {
        let window = std::mem::take(&mut self.window);
        let wanted = window.into_iter().map(|(id, (length, uses))| Wanted { id, length, uses }).collect();
        self.context.check_stop()?;
        match self.witness.depth {
            Depth::Seals => self.fetch.window_of_seals(wanted),
            Depth::Names => self.fetch.window(wanted),
        }
    }

    /// What was read, if every seal held and nothing was missing; else what was wrong, by the number of the stream.
    fn sealed(mut self) -> Result<std::result::Result<Proven, HashMap<u32, String>>> {
        self.read_window()?;
        self.fetch.finish()?;
        let mut failed = self.witness.failed.lock().unwrap_or_else(PoisonError::into_inner);
        let is_well = failed.is_empty() && !self.witness.hurt.load(Ordering::Relaxed);
        Ok(if is_well { Ok(self.proven) } else { Err(std::mem::take(&mut *failed)) })
    }

    /// What was read; `reasons` are known already for some streams.
    fn finish(mut self, snapshot: &Snapshot, reasons: &HashMap<u32, String>) -> Result<Proven> {
        self.read_window()?;
        self.fetch.finish()?;
        let failed = self.witness.failed.lock().unwrap_or_else(PoisonError::into_inner);
        if failed.is_empty() {
            return Ok(self.proven);
        }
        let say = |(stream, reason): (&u32, &String)| {
            format!("{}: {}", self.names[*stream as usize], reasons.get(stream).unwrap_or(reason))
        };
        let mut said: Vec<String> = failed.iter().map(say).collect();
        said.sort();
        let more = said.len().saturating_sub(NAMED_STREAMS);
        said.truncate(NAMED_STREAMS);
        let more = if more > 0 { format!(" (and {more} more streams)") } else { String::new() };
        let what = format!("the dump in snapshot {}", snapshot.id.short());
        Err(repo::Error::damaged(what, format!("nothing was written; {}{more}", said.join("; "))).into())
    }
}
