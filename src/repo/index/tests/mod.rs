//! Stories of the index as a whole; what concerns one file stands there.
#![allow(clippy::unwrap_used)]

mod caches;
mod living;
mod model;
mod pages;

use super::*;
use crate::base::{RepositoryId, SessionId};
use crate::crypto::keys::RootKey;
use crate::format::cbor::{Bytes, Cbor as _, Unknown};
use crate::format::envelope::ObjectKind;
use crate::format::pack::{Blob, Block, Directory, Frame, Role};
use crate::format::session::Condemned;
use crate::repo::keyring::new_epoch;
use crate::store::Memory;

/// A repository with nothing in it.
pub(super) struct World {
    pub store: Memory,
    pub keyring: Keyring,
}

impl World {
    pub fn new() -> World {
        let root = RootKey::generate();
        let epoch = new_epoch(&root, None, 0).unwrap();
        World { store: Memory::new(), keyring: Keyring::new(RepositoryId([7; 32]), root, &[epoch]).unwrap() }
    }

    pub fn open(&self, folder: Option<&Path>) -> (Index, Opened) {
        Index::open(&self.store, &self.keyring, folder).unwrap()
    }

    pub fn save(&self, contents: &mut SegmentContents) -> SegmentId {
        save(&self.store, &self.keyring, origin(0), contents).unwrap()
    }

    pub fn delete(&self, segment: SegmentId) {
        self.store.delete(&segments::segment_key(segment)).unwrap();
    }

    pub fn condemn(&self, number: u64, packs: &[PackId]) {
        let record = Condemned {
            number,
            session: SessionId([1; 16]),
            at_ns: 0,
            packs: packs.to_vec(),
            segments: Vec::new(),
            snapshots: Vec::new(),
            kept_segments: Vec::new(),
            voucher: None,
            unknown: Unknown::none(),
        };
        let object = self.keyring.seal(ObjectKind::Condemned, &record.to_cbor()).unwrap();
        self.store.put(&condemned_key(number), &object).unwrap();
    }
}

pub(super) fn origin(condemned_seen: u64) -> Origin {
    let (session, previous) = (SessionId([1; 16]), Vec::new());
    Origin { session, level: 0, supersedes: Vec::new(), previous, condemned_seen, written_ns: 1 }
}

/// A blob id that is like a hash of `number`.
pub(super) fn id(number: u64) -> BlobId {
    let mut hasher = crate::crypto::names::PackHasher::new();
    hasher.update(&number.to_le_bytes());
    BlobId(hasher.finish())
}

pub(super) fn pack_id(number: u64) -> PackId {
    PackId(id(number << 32).0)
}

pub(super) fn mark(number: u64) -> Option<Mark> {
    Some(Mark(number.to_be_bytes()))
}

/// The directory of a pack with one block and one frame per blob.
pub(super) fn directory(blobs: &[BlobId], written_ns: i64) -> Directory {
    let mut directory = Directory {
        session: SessionId([1; 16]),
        role: Role::Data,
        keys: vec![KeyId([9; 16])],
        blocks: Vec::new(),
        frames: Vec::new(),
        blobs: Vec::new(),
        wraps: Vec::new(),
        written_ns,
        note: Bytes::default(),
        voucher: None,
        unknown: Unknown::none(),
    };
    for (place, id) in blobs.iter().enumerate() {
        let number = place as u32;
        directory.blocks.push(Block { offset: 32 + place as u64 * 132, length: 132, key: 0 });
        directory.frames.push(Frame {
            block: number,
            offset: 0,
            length: 100,
            raw_length: 300,
            encoding: Encoding::Zstd,
            chain: None,
        });
        let (kind, start, end) = (BlobKind::Data, None, None);
        directory.blobs.push(Blob { id: *id, kind, frame: number, offset: 0, length: 300, start, end });
    }
    directory
}

pub(super) fn contents(packs: &[(PackId, Directory)]) -> SegmentContents {
    let mut contents = SegmentContents::default();
    for (id, directory) in packs {
        contents.add_pack(*id, 1 << 25, directory).unwrap();
    }
    contents
}

#[test]
fn a_blob_is_pending_until_its_segment_is_stored_and_known_to_the_next_process() {
    let world = World::new();
    let folder = tempfile::tempdir().unwrap();
    let (index, _) = world.open(Some(folder.path()));
    assert!(index.is_empty().unwrap());
    assert_eq!(index.claim(&id(1)).unwrap(), Claim::Yours);
    assert_eq!(index.claim(&id(1)).unwrap(), Claim::Pending);
    index.unclaim(&id(1));
    assert_eq!(index.claim(&id(1)).unwrap(), Claim::Yours);
    let mut stored = contents(&[(pack_id(1), directory(&[id(1), id(2)], 5))]);
    let segment = world.save(&mut stored);
    index.add(segment, &stored).unwrap();
    assert_eq!(index.claim(&id(1)).unwrap(), Claim::Known);
    assert_eq!(index.blobs().unwrap(), 2);
    let place = &index.places(&id(2)).unwrap()[0];
    assert_eq!((place.pack, place.block_offset, place.key), (pack_id(1), 164, KeyId([9; 16])));
    drop(index);
    for folder in [Some(folder.path()), None] {
        let (index, opened) = world.open(folder);
        assert_eq!(opened.loaded.len(), usize::from(folder.is_none()));
        assert_eq!(index.claim(&id(1)).unwrap(), Claim::Known);
        assert_eq!(index.claim(&id(3)).unwrap(), Claim::Yours);
    }
}

#[test]
fn blobs_of_condemned_packs_are_unknown_until_a_segment_brings_them_back() {
    let world = World::new();
    let folder = tempfile::tempdir().unwrap();
    let mut stored = contents(&[(pack_id(1), directory(&[id(1)], 5)), (pack_id(2), directory(&[id(2)], 5))]);
    world.save(&mut stored);
    world.condemn(3, &[pack_id(1)]);
    for _ in 0..2 {
        let (index, opened) = world.open(Some(folder.path()));
        assert_eq!((opened.highest_condemned, opened.condemned), (3, vec![3]));
        assert!(!index.contains(&id(1)).unwrap());
        assert!(index.places(&id(1)).unwrap().is_empty());
        assert_eq!(index.last_places(&id(1)).unwrap().len(), 1);
        assert_eq!(index.claim(&id(1)).unwrap(), Claim::Yours);
        assert!(index.contains(&id(2)).unwrap());
    }
    let mut again = contents(&[(pack_id(1), directory(&[id(1)], 5))]);
    save(&world.store, &world.keyring, origin(3), &mut again).unwrap();
    let (index, _) = world.open(Some(folder.path()));
    assert!(index.contains(&id(1)).unwrap());
    world.store.delete(&condemned_key(3)).unwrap();
    let (index, opened) = world.open(Some(folder.path()));
    assert_eq!(opened.condemned, Vec::<u64>::new());
    assert_eq!(index.places(&id(1)).unwrap().len(), 1);
}

#[test]
fn the_newest_blob_with_a_mark_is_found_but_never_one_of_the_current_run() {
    let world = World::new();
    let folder = tempfile::tempdir().unwrap();
    let (index, _) = world.open(Some(folder.path()));
    let marks = Marks { start: mark(1), end: mark(2) };
    let add = |index: &Index, number: u64, written_ns: i64, start: Option<Mark>, end: Option<Mark>| {
        let mut directory = directory(&[id(number)], written_ns);
        (directory.blobs[0].start, directory.blobs[0].end) = (start, end);
        let mut stored = contents(&[(pack_id(number), directory)]);
        let segment = world.save(&mut stored);
        index.add(segment, &stored).unwrap();
    };
    add(&index, 1, 5_000_000, mark(1), mark(2));
    assert_eq!(index.alike(&marks).unwrap(), Alike::default());
    index.finish_run().unwrap();
    assert_eq!(index.alike(&marks).unwrap(), Alike { start: Some(id(1)), end: Some(id(1)) });
    // A later segment with an older pack, and a newer one for one side only.
    add(&index, 2, 4_000_000, mark(1), mark(2));
    add(&index, 3, 6_000_000, mark(1), None);
    assert_eq!(index.alike(&marks).unwrap(), Alike { start: Some(id(1)), end: Some(id(1)) });
    drop(index);
    for folder in [Some(folder.path()), None] {
        let (index, _) = world.open(folder);
        assert_eq!(index.alike(&marks).unwrap(), Alike { start: Some(id(3)), end: Some(id(1)) });
        assert_eq!(index.alike(&Marks::default()).unwrap(), Alike::default());
    }
}

#[test]
fn blobs_of_a_damaged_block_are_stored_again_and_the_good_copy_wins() {
    let world = World::new();
    let folder = tempfile::tempdir().unwrap();
    world.save(&mut contents(&[(pack_id(1), directory(&[id(1), id(2)], 5))]));
    let (index, _) = world.open(Some(folder.path()));
    index.mark_damaged(&pack_id(1), 32).unwrap();
    assert!(!index.contains(&id(1)).unwrap() && index.contains(&id(2)).unwrap());
    drop(index);
    let (index, _) = world.open(Some(folder.path()));
    assert_eq!(index.claim(&id(1)).unwrap(), Claim::Yours);
    let mut again = contents(&[(pack_id(2), directory(&[id(1)], 6))]);
    let segment = world.save(&mut again);
    index.add(segment, &again).unwrap();
    let packs: Vec<PackId> = index.places(&id(1)).unwrap().iter().map(|place| place.pack).collect();
    assert_eq!(packs, [pack_id(2)]);
    assert_eq!(index.last_places(&id(1)).unwrap()[0].pack, pack_id(1));
}

#[test]
fn a_snapshot_is_sound_until_damage_is_found_that_it_did_not_know() {
    let world = World::new();
    let folder = tempfile::tempdir().unwrap();
    world.save(&mut contents(&[(pack_id(1), directory(&[id(1), id(2)], 5))]));
    let (index, _) = world.open(Some(folder.path()));
    let snapshots = [1, 2, 3].map(|number| SessionId([number; 16]));
    let sound = |index: &Index| index.sound_snapshots().unwrap().into_iter().collect::<Vec<_>>();
    // Nothing is damaged: nobody asks, and nothing is written down.
    index.note_sound(snapshots[0], index.findings().unwrap()).unwrap();
    assert_eq!(sound(&index), []);
    index.mark_damaged(&pack_id(1), 32).unwrap();
    let findings = index.findings().unwrap();
    index.note_sound(snapshots[1], findings).unwrap();
    // The same block again is no news.
    index.mark_damaged(&pack_id(1), 32).unwrap();
    drop(index);
    let (index, _) = world.open(Some(folder.path()));
    assert_eq!(sound(&index), [snapshots[1]]);
    // A run during which more is found may have counted on it.
    world.save(&mut contents(&[(pack_id(2), directory(&[id(3)], 6))]));
    index.refresh(&world.store, &world.keyring).unwrap();
    index.mark_damaged(&pack_id(2), 32).unwrap();
    index.note_sound(snapshots[2], findings).unwrap();
    assert_eq!(sound(&index), []);
    index.note_sound(snapshots[2], index.findings().unwrap()).unwrap();
    assert_eq!(sound(&index), [snapshots[2]]);
}

#[test]
fn whole_copies_come_before_deltas_and_short_chains_before_long() {
    let world = World::new();
    let on = |depth: u32| {
        let mut directory = directory(&[id(1)], 5);
        directory.frames[0].encoding = Encoding::ZstdOnBases;
        directory.frames[0].chain = Some(Chain { bases: vec![id(8), id(9)], depth, delta_bytes: 6, whole_bytes: 7 });
        directory
    };
    world.save(&mut contents(&[(pack_id(1), on(3)), (pack_id(2), on(1)), (pack_id(3), directory(&[id(1)], 5))]));
    let (index, opened) = world.open(None);
    assert_eq!(opened.damaged, []);
    let places = index.places(&id(1)).unwrap();
    assert_eq!(places.iter().map(Place::depth).collect::<Vec<_>>(), [0, 1, 3]);
    let chain = places[1].chain.as_ref().unwrap();
    assert_eq!((&chain.bases[..], chain.delta_bytes, chain.whole_bytes), (&[id(8), id(9)][..], 6, 7));
}
