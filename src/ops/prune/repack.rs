//! Copying what lives out of packs that go.
//!
//! A block that lives as a whole and is sealed under the newest keys is copied byte for byte once it has been opened. Of other blocks the frames that
//! live as a whole keep their stored bytes, frames on bases always: a delta means what it meant as long as its bases
//! live. Only what shares a frame with the dead is decoded, proven by its name and compressed anew. Memory is one
//! pack's directory and one block.

use super::super::fetch::is_damage as is_damaged;
use super::super::{Context, Error, Result};
use super::plan::{Fate, Plan};
use crate::base::monitor::Event;
use crate::base::{BlobId, Mark, PackId, SegmentId, SessionId};
use crate::compress::{Compressor, Decompressor, Level};
use crate::format::pack::{Blob, Block, Directory, Frame, Role};
use crate::repo;
use crate::repo::ahead::Ahead;
use crate::repo::index::{Origin, Place, SegmentContents, segments};
use crate::repo::pack_reader::{block_kind, block_name, open_block, pack_key, read_directory};
use crate::repo::pack_writer::{self, PackWriter, PlacedBlob, PlacedFrame, SealedBlock, seal_block};
use crate::store::ObjectStore as _;
use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

/// Raw bytes that a frame gathers.
const FRAME_BYTES: usize = 1 << 20;
/// A block takes frames until it has this many bytes.
const BLOCK_BYTES: usize = 256 << 10;
/// From a remote store packs of up to so many bytes are read whole, several at once, up to so many bytes and packs in all;
/// of larger ones, so many bytes of blocks at once.
const SMALL_BYTES: u64 = 2 << 20;
const AHEAD_BYTES: u64 = 12 << 20;
const AHEAD_PACKS: usize = 64;
/// A segment is stored once this many packs wait for one.
const SEGMENT_PACKS: usize = 8;

/// What the copying wrote.
#[derive(Default)]
pub struct Repacked {
    /// New packs.
    pub packs: u64,
    /// New segments.
    pub segments: Vec<SegmentId>,
    /// Blocks were found damaged that the plan had counted on. The index knows by now.
    pub damaged: bool,
    /// Packs whose directories cannot be read, and why: what lies in them can only stay there.
    pub unreadable: BTreeMap<PackId, String>,
}

/// Copies what lives in the packs that `plan` repacks and has no place in a pack that stays.
pub fn repack(context: &Context, plan: &Plan<'_>, session: SessionId, condemned_seen: u64) -> Result<Repacked> {
    let mut copier = Copier::begin(context, session, condemned_seen)?;
    let packs: Vec<(PackId, u64)> = plan.repacked().collect();
    if packs.is_empty() {
        return Ok(Repacked::default());
    }
    context.monitor.event(Event::Phase("copying what is needed"));
    context.monitor.event(Event::Total {
        items: packs.len() as u64,
        bytes: packs.iter().map(|(_, size_bytes)| size_bytes).sum(),
        complete: true,
    });
    let mut left = &packs[..];
    while !left.is_empty() {
        let (group, rest) = left.split_at(many_enough(left));
        let store = Ahead::new(&**context.repository.store());
        let small = group.iter().filter(|(_, size_bytes)| *size_bytes <= SMALL_BYTES);
        store.ask(&small.map(|(pack, size_bytes)| (pack_key(*pack), *size_bytes)).collect::<Vec<_>>(), &[]);
        for (pack, size_bytes) in group {
            context.check_stop()?;
            copier.copy_pack(&store, plan, *pack, *size_bytes)?;
            context.monitor.event(Event::Done { items: 1, bytes: *size_bytes });
        }
        left = rest;
    }
    copier.finish()
}

/// How many packs from the first on are taken together: as many as there is room for the small ones among them.
fn many_enough(packs: &[(PackId, u64)]) -> usize {
    let mut bytes = 0;
    let fit = packs.iter().take(AHEAD_PACKS).take_while(|(_, size_bytes)| {
        bytes += if *size_bytes <= SMALL_BYTES { *size_bytes } else { 0 };
        bytes <= AHEAD_BYTES
    });
    fit.count().max(1)
}

struct Copier<'c> {
    context: &'c Context,
    origin: Origin,
    target_bytes: u64,
    compressor: Compressor,
    decompressor: Decompressor,
    data: Lane,
    metadata: Lane,
    waiting: SegmentContents,
    repacked: Repacked,
}

/// What is on its way into packs of one role.
struct Lane {
    role: Role,
    raw: Vec<u8>,
    blobs: Vec<PlacedBlob>,
    plain: Vec<u8>,
    frames: Vec<PlacedFrame>,
    pack: Option<PackWriter>,
}

impl Lane {
    fn new(role: Role) -> Lane {
        Lane { role, raw: Vec::new(), blobs: Vec::new(), plain: Vec::new(), frames: Vec::new(), pack: None }
    }
}

/// One block of a pack that goes, with what of it is wanted.
struct OldBlock<'d> {
    directory: &'d Directory,
    number: usize,
    /// Its frames, and of each the blobs with whether they are wanted.
    frames: Vec<(&'d Frame, Vec<(&'d Blob, bool)>)>,
}

/// How many blocks from the first on are read together.
fn blocks_at_once(blocks: &[OldBlock<'_>]) -> usize {
    let mut bytes = 0;
    let fit = blocks.iter().take_while(|block| {
        bytes += u64::from(block.place().length);
        bytes <= AHEAD_BYTES
    });
    fit.count().max(1)
}

impl OldBlock<'_> {
    /// Where it lies.
    fn place(&self) -> &Block {
        &self.directory.blocks[self.number]
    }

    fn is_wanted(&self) -> bool {
        self.frames.iter().any(|(_, blobs)| blobs.iter().any(|(_, wanted)| *wanted))
    }

    fn is_whole(&self) -> bool {
        self.frames.iter().all(|(_, blobs)| blobs.iter().all(|(_, wanted)| *wanted))
    }
}

/// A place of a blob in a pack that is copied.
#[derive(PartialEq, Eq)]
struct Going {
    pack: PackId,
    depth: u32,
    written_ns: i64,
}

impl<'c> Copier<'c> {
    fn begin(context: &'c Context, session: SessionId, condemned_seen: u64) -> Result<Copier<'c>> {
        let written_ns = context.repository.now_ns();
        Ok(Copier {
            context,
            origin: Origin {
                session,
                level: 0,
                supersedes: Vec::new(),
                previous: Vec::new(),
                condemned_seen,
                written_ns,
            },
            target_bytes: pack_writer::target_bytes(context.index.stored_bytes()?),
            compressor: Compressor::new(Level::Default),
            decompressor: Decompressor::new(),
            data: Lane::new(Role::Data),
            metadata: Lane::new(Role::Metadata),
            waiting: SegmentContents::default(),
            repacked: Repacked::default(),
        })
    }

    fn copy_pack(&mut self, store: &Ahead<'_>, plan: &Plan<'_>, pack: PackId, size_bytes: u64) -> Result<()> {
        let directory = match read_directory(store, self.context.repository.keyring(), pack, size_bytes) {
            Err(error) if is_damaged(&error) => {
                self.repacked.unreadable.insert(pack, error.to_string());
                return Ok(());
            }
            other => other?,
        };
        let mut blocks = self.blocks(plan, pack, &directory)?;
        blocks.retain(OldBlock::is_wanted);
        let mut left = &blocks[..];
        while !left.is_empty() {
            let (group, rest) = left.split_at(blocks_at_once(left));
            let part = |block: &OldBlock<'_>| (block.place().offset, block.place().length as usize);
            store.ask_for_parts(&pack_key(pack), &group.iter().map(part).collect::<Vec<_>>());
            group.iter().try_for_each(|block| self.take_block(store, pack, block))?;
            left = rest;
        }
        Ok(())
    }

    fn take_block(&mut self, store: &Ahead<'_>, pack: PackId, block: &OldBlock<'_>) -> Result<()> {
        match self.copy_block(store, pack, block) {
            // The next plan knows: what is wanted of it is had elsewhere, or the pack stays as it is.
            Err(error) if is_damage(&error) => {
                self.context.index.mark_damaged(&pack, block.place().offset)?;
                self.repacked.damaged = true;
                Ok(())
            }
            other => other,
        }
    }

    /// The blocks of a pack. A blob is wanted if it lives and this is the place to copy it from.
    fn blocks<'d>(&self, plan: &Plan<'_>, pack: PackId, directory: &'d Directory) -> Result<Vec<OldBlock<'d>>> {
        let new = |number| OldBlock { directory, number, frames: Vec::new() };
        let mut blocks: Vec<OldBlock<'d>> = (0..directory.blocks.len()).map(new).collect();
        let mut places = Vec::with_capacity(directory.frames.len());
        for frame in &directory.frames {
            let block = &mut blocks[frame.block as usize];
            places.push((frame.block as usize, block.frames.len()));
            block.frames.push((frame, Vec::new()));
        }
        let mut here = BTreeSet::new();
        for blob in &directory.blobs {
            let depth = directory.frames[blob.frame as usize].chain.as_ref().map_or(0, |chain| chain.depth);
            let wanted = plan.live.contains(&blob.id)?
                && self.is_believed(pack, directory, blob)?
                && self.is_to_copy(plan, pack, depth, &blob.id)?
                && here.insert(blob.id);
            let (block, frame) = places[blob.frame as usize];
            blocks[block].frames[frame].1.push((blob, wanted));
        }
        Ok(blocks)
    }

    /// Whether the directory of a pack is believed in what it says of a blob. Where there are clients that may only write,
    /// any of them could have written it: only what the index says too was looked at.
    fn is_believed(&self, pack: PackId, directory: &Directory, blob: &Blob) -> Result<bool> {
        if !self.context.repository.keyring().is_guarded() {
            return Ok(true);
        }
        let frame = &directory.frames[blob.frame as usize];
        let block = &directory.blocks[frame.block as usize];
        let is_there = |place: &Place| {
            (place.pack, place.block_offset, place.block_length) == (pack, block.offset, block.length)
                && place.key == directory.keys[block.key as usize]
                && (place.frame_offset, place.frame_length, place.raw_length)
                    == (frame.offset, frame.length, frame.raw_length)
                && (place.encoding, &place.chain) == (frame.encoding, &frame.chain)
                && (place.offset, place.length, place.kind) == (blob.offset, blob.length, blob.kind)
        };
        Ok(self.context.index.places(&blob.id)?.iter().any(is_there))
    }

    /// Whether a blob is to be copied out of this pack, where it lies at this depth. Of all its places in packs that are
    /// copied it is the shallowest, since others may hang on that (`count_once` in the plan). It is done without where as
    /// shallow a place stays that is not older: of two copies the newer is the one to trust. So then the newest is copied,
    /// if it is newer than what stays.
    fn is_to_copy(&self, plan: &Plan<'_>, pack: PackId, depth: u32, id: &BlobId) -> Result<bool> {
        let places = self.context.index.places(id)?;
        let going: Vec<Going> = places
            .iter()
            .filter_map(|place| {
                let (fate, written_ns) = plan.fate(&place.pack)?;
                let going = Going { pack: place.pack, depth: place.depth(), written_ns };
                (fate == Fate::Repack).then_some(going)
            })
            .collect();
        let Some(here) = going.iter().find(|going| going.pack == pack && going.depth == depth) else {
            // It cannot be read here, as the index knows: tried only if there is nothing else.
            return Ok(places.is_empty());
        };
        let stays = |going: &Going| {
            let as_new = |place: &Place| {
                plan.fate(&place.pack).is_some_and(|(fate, kept_ns)| fate == Fate::Keep && kept_ns >= going.written_ns)
            };
            places.iter().any(|place| place.depth() <= going.depth && as_new(place))
        };
        let shallowest = going.iter().min_by_key(|going| (going.depth, Reverse(going.written_ns), going.pack));
        let newest = going.iter().max_by_key(|going| (going.written_ns, Reverse(going.depth), going.pack));
        Ok(match shallowest.filter(|shallowest| !stays(shallowest)) {
            Some(shallowest) => here == shallowest,
            None => Some(here) == newest && !stays(here),
        })
    }

    fn copy_block(&mut self, store: &Ahead<'_>, pack: PackId, block: &OldBlock<'_>) -> Result<()> {
        let repository = &self.context.repository;
        let (directory, place) = (block.directory, block.place());
        let key = directory.keys[place.key as usize];
        let name = block_name(pack, place.offset);
        let sealed = store.get_range(&pack_key(pack), place.offset, place.length as usize)?;
        let plain = open_block(repository.keyring(), block_kind(directory.role), key, sealed.clone(), &name)?;
        // A session key lies in the old directory only: what is sealed under one is sealed anew, and so is what lies under
        // the keys of an older epoch.
        let is_current = key == repository.keyring().current(block_kind(directory.role));
        if block.is_whole() && is_current && directory.wraps.is_empty() {
            let frames = block.frames.iter().map(|(frame, blobs)| placed_frame(frame, blobs)).collect();
            return self.write_block(directory.role, SealedBlock { bytes: sealed, key, frames });
        }
        for (frame, blobs) in &block.frames {
            let stored = plain
                .get(frame.offset as usize..(frame.offset + frame.length) as usize)
                .ok_or_else(|| repo::Error::damaged(&name, "a frame reaches beyond its end"))?;
            if !blobs.iter().any(|(_, wanted)| *wanted) {
                continue;
            }
            if frame.chain.is_some() || blobs.iter().all(|(_, wanted)| *wanted) {
                self.add_frame(directory.role, stored, placed_frame(frame, blobs))?;
            } else {
                self.split_frame(directory.role, frame, stored, blobs, &name)?;
            }
        }
        Ok(())
    }

    /// Decodes a frame that is partly dead and gathers the blobs that are wanted.
    fn split_frame(
        &mut self,
        role: Role,
        frame: &Frame,
        stored: &[u8],
        blobs: &[(&Blob, bool)],
        name: &str,
    ) -> Result<()> {
        let mut raw = Vec::new();
        self.decompressor
            .decompress(frame.encoding, stored, &[], frame.raw_length as usize, &mut raw)
            .map_err(|error| repo::Error::damaged(name, error))?;
        let naming = self.context.repository.keyring().naming();
        for (blob, _) in blobs.iter().filter(|(_, wanted)| *wanted) {
            let bytes = raw
                .get(blob.offset as usize..(blob.offset + blob.length) as usize)
                .filter(|bytes| naming.blob_id(bytes) == blob.id)
                .ok_or_else(|| repo::Error::damaged(name, format!("what should be blob {} is another", blob.id)))?;
            self.add_blob(role, blob, bytes)?;
        }
        Ok(())
    }

    fn lane(&mut self, role: Role) -> &mut Lane {
        match role {
            Role::Data => &mut self.data,
            Role::Metadata => &mut self.metadata,
        }
    }

    fn add_blob(&mut self, role: Role, blob: &Blob, bytes: &[u8]) -> Result<()> {
        let lane = self.lane(role);
        if !lane.raw.is_empty() && lane.raw.len() + bytes.len() > FRAME_BYTES {
            self.close_frame(role)?;
        }
        let lane = self.lane(role);
        let offset = number(lane.raw.len());
        lane.blobs.push(placed_blob(blob, offset));
        lane.raw.extend_from_slice(bytes);
        Ok(())
    }

    /// Compresses what is gathered, and decodes it again before it is believed.
    fn close_frame(&mut self, role: Role) -> Result<()> {
        let lane = self.lane(role);
        let (raw, blobs) = (std::mem::take(&mut lane.raw), std::mem::take(&mut lane.blobs));
        if blobs.is_empty() {
            return Ok(());
        }
        let (mut stored, mut proof) = (Vec::new(), Vec::new());
        let encoding = self.compressor.compress(&raw, &mut stored);
        let decoded = self.decompressor.decompress(encoding, &stored, &[], raw.len(), &mut proof);
        if decoded.is_err() || proof != raw {
            return Err(repo::Error::Internal(
                "a frame that was just compressed does not decode: this points to faulty memory or a faulty processor"
                    .to_owned(),
            )
            .into());
        }
        let frame = PlacedFrame {
            offset: 0,
            length: number(stored.len()),
            raw_length: number(raw.len()),
            encoding,
            chain: None,
            blobs,
        };
        self.add_frame(role, &stored, frame)
    }

    fn add_frame(&mut self, role: Role, stored: &[u8], mut frame: PlacedFrame) -> Result<()> {
        let lane = self.lane(role);
        frame.offset = number(lane.plain.len());
        lane.plain.extend_from_slice(stored);
        lane.frames.push(frame);
        if lane.plain.len() >= BLOCK_BYTES { self.close_block(role) } else { Ok(()) }
    }

    fn close_block(&mut self, role: Role) -> Result<()> {
        let lane = self.lane(role);
        let (plain, frames) = (std::mem::take(&mut lane.plain), std::mem::take(&mut lane.frames));
        if frames.is_empty() {
            return Ok(());
        }
        let block = seal_block(self.context.repository.keyring(), role, &plain, frames)?;
        self.write_block(role, block)
    }

    fn write_block(&mut self, role: Role, block: SealedBlock) -> Result<()> {
        if let Some(full) = self.lane(role).pack.take_if(|pack| !pack.has_room(&block)) {
            self.store(full)?;
        }
        let (context, session, target_bytes) = (self.context, self.origin.session, self.target_bytes);
        let lane = self.lane(role);
        let mut pack = match lane.pack.take() {
            Some(pack) => pack,
            None => PackWriter::begin(&context.repository, lane.role, session, target_bytes)?,
        };
        pack.add(block)?;
        lane.pack = Some(pack);
        Ok(())
    }

    fn store(&mut self, pack: PackWriter) -> Result<()> {
        let (row, directory) = pack.fill(self.context.repository.keyring())?.store()?;
        self.waiting.add_pack(row.id, row.size_bytes, &directory)?;
        self.repacked.packs += 1;
        if self.waiting.packs.len() >= SEGMENT_PACKS { self.save_segment() } else { Ok(()) }
    }

    fn save_segment(&mut self) -> Result<()> {
        let mut contents = std::mem::take(&mut self.waiting);
        if contents.is_empty() {
            return Ok(());
        }
        let repository = &self.context.repository;
        let segment = segments::save(&**repository.store(), repository.keyring(), self.origin.clone(), &mut contents)?;
        self.context.index.add_of(segment, &contents, &self.origin)?;
        self.repacked.segments.push(segment);
        Ok(())
    }

    fn finish(mut self) -> Result<Repacked> {
        for role in [Role::Data, Role::Metadata] {
            self.close_frame(role)?;
            self.close_block(role)?;
            if let Some(pack) = self.lane(role).pack.take() {
                self.store(pack)?;
            }
        }
        self.save_segment()?;
        Ok(self.repacked)
    }
}

fn is_damage(error: &Error) -> bool {
    matches!(error, Error::Repo(error) if is_damaged(error))
}

fn number(bytes: usize) -> u32 {
    u32::try_from(bytes).expect("frames and blocks are a few MiB")
}

fn placed_blob(blob: &Blob, offset: u32) -> PlacedBlob {
    let (start, end): (Option<Mark>, Option<Mark>) = (blob.start, blob.end);
    PlacedBlob { id: blob.id, kind: blob.kind, offset, length: blob.length, start, end }
}

/// A frame that is copied as it is. All its blobs come along: they cost nothing more.
fn placed_frame(frame: &Frame, blobs: &[(&Blob, bool)]) -> PlacedFrame {
    PlacedFrame {
        offset: frame.offset,
        length: frame.length,
        raw_length: frame.raw_length,
        encoding: frame.encoding,
        chain: frame.chain.clone(),
        blobs: blobs.iter().map(|(blob, _)| placed_blob(blob, blob.offset)).collect(),
    }
}
