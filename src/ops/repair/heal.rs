//! Blobs that no pack gives any more, stored anew from where they still are: another repository that names content alike,
//! or the original files.
//!
//! They go into new packs, with a segment, as in a backup; what named them in a damaged block is unknown meanwhile, so it
//! is these that count. A run that is killed leaves packs that the next one, or any backup, finds in the index.

use super::super::browse::reader;
use super::super::verify::Lost;
use super::super::walk::{Step, Walk};
use super::super::{Context, Result, select};
use super::Options;
use crate::base::{BlobId, Event, Kind};
use crate::chunk::Cutter;
use crate::compress::Level;
use crate::format::pack::BlobKind;
use crate::format::session::SessionKind;
use crate::format::snapshot::Snapshot;
use crate::format::tree::{HOLE, Node, NodeKind};
use crate::repo::Session;
use crate::repo::blob_reader::BlobReader;
use crate::repo::blob_writer::{BlobWriter, Hint, Settings};
use crate::repo::index::Marks;
use crate::repo::trees::{Chunks, PutBlob};
use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs::File;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// Raw bytes that may be between reading and pack.
const IN_FLIGHT_BYTES: usize = 12 << 20;
/// Decoded frames of the other repository.
const FRAMES_BYTES: usize = 12 << 20;

/// What was stored anew.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Healed {
    /// Blobs from another repository.
    pub from_repository: u64,
    /// Chunks from the original files.
    pub from_files: u64,
}

impl Healed {
    /// All.
    pub fn blobs(&self) -> u64 {
        self.from_repository + self.from_files
    }
}

/// Looks what of the `lost` could be stored anew, and takes that out of it. Nothing is stored.
pub(super) fn look(context: &Context, options: &Options<'_>, lost: &mut Lost) -> Result<Healed> {
    gather(context, options, &mut |_, _, _| Ok(()), lost)
}

/// Stores what is `lost` anew from whoever has it, and takes that out of it.
pub(super) fn heal(context: &Context, options: &Options<'_>, lost: &mut Lost) -> Result<Healed> {
    if lost.is_empty() || (options.from.is_none() && !options.files) {
        return Ok(Healed::default());
    }
    context.monitor.event(Event::Phase("storing anew what is lost"));
    let repository = &context.repository;
    let session = Session::begin(repository, SessionKind::Writer, "repair apply")?;
    let opened = context.index.refresh(&**repository.store(), repository.keyring())?;
    opened.check_records(&repository.store().location())?;
    // Which packs are gone has to be found out once more: records may have come since.
    context.index.check_packs(&**repository.store(), true)?;
    let settings = Settings {
        level: Level::Default,
        deltas: false,
        in_flight_bytes: IN_FLIGHT_BYTES,
        repository_bytes: context.index.stored_bytes()?,
    };
    let (shared, index) = (repository.clone(), context.index.clone());
    let mut writer = BlobWriter::begin(shared, index, session.id(), session.condemned_seen(), &settings, None)?;
    let healed = gather(
        context,
        options,
        &mut |id, kind, bytes| {
            match kind {
                BlobKind::Data => drop(writer.put_chunk(*id, bytes, Marks::default(), Hint::default())?),
                BlobKind::Tree | BlobKind::List => drop(writer.put(kind, bytes.to_vec())?),
            }
            Ok(())
        },
        lost,
    );
    // Interrupted or not: what is on its way is stored, and counts.
    let finished = writer.finish();
    let healed = healed?;
    finished?;
    session.end()?;
    Ok(healed)
}

/// Takes each blob that was found.
type Take<'t> = &'t mut dyn FnMut(&BlobId, BlobKind, &[u8]) -> Result<()>;

fn gather(context: &Context, options: &Options<'_>, take: Take<'_>, lost: &mut Lost) -> Result<Healed> {
    let mut healed = Healed::default();
    if let Some(from) = options.from {
        healed.from_repository = from_repository(context, from, take, lost)?;
    }
    if options.files && !lost.is_empty() {
        healed.from_files = from_files(context, take, lost)?;
    }
    Ok(healed)
}

fn from_repository(context: &Context, from: &Context, take: Take<'_>, lost: &mut Lost) -> Result<u64> {
    let mut reader = BlobReader::new(from.repository.clone(), from.index.clone(), FRAMES_BYTES);
    let before = lost.len();
    for (id, (kind, _)) in lost.clone() {
        context.check_stop()?;
        match reader.read(&id) {
            Ok(bytes) if context.repository.keyring().naming().blob_id(&bytes) == id => {
                take(&id, kind, &bytes)?;
                lost.remove(&id);
            }
            // It has it no more than we do.
            Ok(_) => {}
            Err(error) if matches!(error.kind(), Kind::Damaged | Kind::NotFound) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok((before - lost.len()) as u64)
}

/// Reads the files of this machine in whose snapshots something is lost, where they still lie, and stores those of their
/// chunks that are.
fn from_files(context: &Context, take: Take<'_>, lost: &mut Lost) -> Result<u64> {
    let before = lost.len();
    let own = &context.repository.machine().host;
    let snapshots = select::list_stored(context)?.snapshots;
    let mut read = BTreeSet::new();
    for snapshot in snapshots.iter().filter(|snapshot| snapshot.host == *own) {
        for path in hurt_files(context, snapshot, lost)? {
            context.check_stop()?;
            if read.insert(path.clone()) && !lost.is_empty() {
                store_chunks(context, Path::new(OsStr::from_bytes(&path)), take, lost)?;
            }
        }
    }
    Ok((before - lost.len()) as u64)
}

/// The paths of the files of a snapshot that need what is lost. Directories that cannot be read are passed over.
fn hurt_files(context: &Context, snapshot: &Snapshot, lost: &Lost) -> Result<Vec<Vec<u8>>> {
    let (mut trees, mut lists) = (reader(context).walking(), reader(context));
    let mut paths = Vec::new();
    let Ok(mut walk) = Walk::begin(snapshot.root, b"", &mut trees) else { return Ok(paths) };
    loop {
        let node = match walk.next(&mut trees) {
            Ok(Some(Step::Entry(node))) => node,
            Ok(Some(Step::Leave)) => continue,
            Ok(None) => return Ok(paths),
            Err(error) if matches!(error.kind(), Kind::Damaged | Kind::NotFound) => continue,
            Err(error) => return Err(error.into()),
        };
        if node.kind == NodeKind::File && needs(&node, &mut lists, lost) {
            paths.push(walk.path().to_vec());
        }
        if let Some(tree) = node.tree {
            // What cannot be entered hurts nothing that could be read from the outside.
            let _ = walk.enter(tree, &mut trees);
        }
    }
}

fn needs(node: &Node, lists: &mut BlobReader, lost: &Lost) -> bool {
    let mut chunks = Chunks::of(node);
    loop {
        match chunks.next(lists) {
            Ok(Some((id, _))) if id != HOLE && lost.contains_key(&id) => return true,
            Ok(Some(_)) => {}
            Ok(None) => return false,
            // Its list is lost: what it named may be in the file.
            Err(_) => return true,
        }
    }
}

/// Cuts a file as a backup would, and stores those of its chunks that are lost.
fn store_chunks(context: &Context, path: &Path, take: Take<'_>, lost: &mut Lost) -> Result<()> {
    // What is there no more, or is something else by now, helps nobody.
    if !path.symlink_metadata().is_ok_and(|metadata| metadata.is_file()) {
        return Ok(());
    }
    let Ok(file) = File::open(path) else { return Ok(()) };
    let chunker = context.repository.chunker()?;
    let naming = context.repository.keyring().naming();
    for chunk in Cutter::new(&chunker, file) {
        let Ok(chunk) = chunk else { return Ok(()) };
        let id = naming.blob_id(&chunk.data);
        if lost.remove(&id).is_some() {
            take(&id, BlobKind::Data, &chunk.data)?;
        }
    }
    Ok(())
}
