//! What lives, what bases must stay, and an index that comes back from the packs.

use super::*;
use crate::base::monitor::Remember;
use crate::base::{Kind, Stop};
use crate::format::container::{directory_bytes, trailer};
use crate::format::envelope::seal_padded;
use crate::store::ObjectStore;

/// A pack whose only blob is a delta on `bases`.
fn on_bases(blob: BlobId, bases: &[BlobId]) -> Directory {
    let mut directory = directory(&[blob], 5);
    directory.frames[0].encoding = Encoding::ZstdOnBases;
    directory.frames[0].chain = Some(Chain { bases: bases.to_vec(), depth: 1, delta_bytes: 100, whole_bytes: 300 });
    directory
}

fn world() -> World {
    let world = World::new();
    let mut shared = directory(&[id(1), id(2), id(3)], 5);
    // Two blobs share the first frame: 200 and 100 of its 300 bytes.
    (shared.blobs[1].frame, shared.blobs[1].offset) = (0, 200);
    (shared.blobs[0].length, shared.blobs[1].length) = (200, 100);
    world.save(&mut contents(&[
        (pack_id(1), shared),
        (pack_id(2), on_bases(id(10), &[id(3), id(11)])),
        (pack_id(3), on_bases(id(11), &[id(12)])),
        (pack_id(4), directory(&[id(12)], 5)),
    ]));
    world
}

#[test]
fn a_base_lives_while_a_blob_on_it_lives_or_lies_in_a_kept_pack() {
    let world = world();
    let (index, _) = world.open(None);
    let lives = |kept: &dyn Fn(&PackSummary) -> bool, marked: &[BlobId]| -> Vec<u64> {
        let mut live = index.begin_live().unwrap();
        live.mark_live(marked).unwrap();
        live.close_over_bases(kept).unwrap();
        (0..20).filter(|number| live.contains(&id(*number)).unwrap()).collect()
    };
    assert_eq!(lives(&|_| false, &[]), [0; 0]);
    assert_eq!(lives(&|_| false, &[id(1)]), [1]);
    assert_eq!(lives(&|_| false, &[id(10)]), [3, 10, 11, 12]);
    assert_eq!(lives(&|pack| pack.id == pack_id(3), &[]), [12]);
    assert_eq!(lives(&|_| true, &[]), [3, 11, 12]);
}

#[test]
fn the_usage_of_a_pack_counts_frames_by_the_share_that_lives() {
    let world = world();
    let (index, _) = world.open(None);
    let mut live = index.begin_live().unwrap();
    assert!(live.mark(&id(1)).unwrap() && !live.mark(&id(1)).unwrap());
    live.mark(&id(12)).unwrap();
    let mut figures = Vec::new();
    live.each_usage::<crate::repo::Error>(&mut |_, pack| {
        figures.push((pack.live_blobs, pack.live_bytes, pack.total_bytes));
        Ok(())
    })
    .unwrap();
    assert_eq!(figures, [(1, 67, 300), (0, 0, 100), (0, 0, 100), (1, 100, 100)]);
    let mut found = Vec::new();
    live.each_live_by_pack(&|_| true, &mut |pack, blob| {
        // The index can be asked while it calls back.
        assert!(index.contains(&blob.id)?);
        found.push((*pack, blob.id));
        Ok(())
    })
    .unwrap();
    assert_eq!(found, [(pack_id(1), id(1)), (pack_id(4), id(12))]);
    let mut offsets = Vec::new();
    index
        .each_by_pack(&|pack| pack.id == pack_id(1), &mut |_, blob| {
            offsets.push((blob.place.block_offset, blob.place.offset));
            Ok(())
        })
        .unwrap();
    assert_eq!(offsets, [(32, 0), (32, 200), (296, 0)]);
}

#[test]
fn thousands_of_ids_are_marked_once_each() {
    let world = World::new();
    let (index, _) = world.open(None);
    let mut live = index.begin_live().unwrap();
    for round in 0..2 {
        for number in 0..70_000 {
            assert_eq!(live.mark(&id(number)).unwrap(), round == 0, "{number}");
        }
    }
    assert_eq!(live.count(), 70_000);
    assert!(!live.contains(&id(70_000)).unwrap());
}

/// Stores a pack of which only the directory is real.
fn store_pack(world: &World, mut directory: Directory) -> PackId {
    let blocks: Vec<u8> = crate::base::random::bytes::<4096>().to_vec();
    directory.written_ns = 7;
    let content = directory.to_cbor();
    let length = directory_bytes(blocks.len() as u64, content.len());
    let key = world.keyring.current(ObjectKind::Directory);
    let siv = world.keyring.siv(key, ObjectKind::Directory, &"test").unwrap();
    let sealed = seal_padded(ObjectKind::Directory, world.keyring.repository(), key, &siv, &content, length, None);
    let object = [&blocks[..], &sealed, &trailer(ObjectKind::Directory, length)].concat();
    let mut hasher = crate::crypto::names::PackHasher::new();
    hasher.update(&object);
    let pack = PackId(hasher.finish());
    world.store.put(&rebuild::pack_key(pack), &object).unwrap();
    pack
}

#[test]
fn the_index_comes_back_from_the_packs_without_the_condemned_and_the_damaged() {
    let world = World::new();
    let good = store_pack(&world, directory(&[id(1), id(2)], 5));
    let condemned = store_pack(&world, directory(&[id(3)], 5));
    let damaged = store_pack(&world, directory(&[id(4)], 5));
    let key = rebuild::pack_key(damaged);
    let mut bytes = world.store.get(&key, 1 << 20).unwrap();
    bytes[4200] ^= 1;
    world.store.delete(&key).unwrap();
    world.store.put(&key, &bytes).unwrap();
    world.condemn(1, &[condemned]);
    let old = world.save(&mut contents(&[(pack_id(99), directory(&[id(9)], 5))]));
    let monitor = Remember::default();
    let rebuilt = rebuild_from_packs(&world.store, &world.keyring, &origin(0), &monitor, &Stop::new()).unwrap();
    assert_eq!((rebuilt.packs, rebuilt.blobs, rebuilt.condemned), (1, 2, 1));
    assert_eq!(rebuilt.replaced, [old]);
    delete_replaced(&world.store, &rebuilt).unwrap();
    assert_eq!(rebuilt.damaged.len(), 1);
    assert_eq!(monitor.problems.lock().unwrap()[0].kind, Kind::Damaged);
    let (index, opened) = world.open(None);
    assert_eq!(opened.segments, rebuilt.segments);
    assert!(!opened.segments.contains(&old));
    let packs: Vec<PackId> = index.packs().unwrap().iter().map(|pack| pack.id).collect();
    assert_eq!(packs, [good]);
    let known: Vec<u64> = (0..10).filter(|number| index.contains(&id(*number)).unwrap()).collect();
    assert_eq!(known, [1, 2]);
    let reader = SegmentReader::open(&world.store, &world.keyring, rebuilt.segments[0]).unwrap();
    assert_eq!((reader.head.supersedes, reader.head.condemned_seen), (vec![old], 1));
}
