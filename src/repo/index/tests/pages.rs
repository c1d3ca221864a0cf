//! Segments on their way into the store and back.

use super::*;
use crate::base::Kind;
use crate::format::container::{LEAD_BYTES, TRAILER_BYTES};
use crate::format::segment::Entry;
use crate::store::{Key, ObjectStore};

/// A segment with several pages of each table.
fn large() -> SegmentContents {
    let packs: Vec<_> =
        (0..1500u64).map(|pack| (pack_id(pack), directory(&[id(pack * 2), id(pack * 2 + 1)], pack as i64))).collect();
    contents(&packs)
}

fn read(world: &World, segment: SegmentId) -> Result<(usize, usize, Vec<Entry>)> {
    let mut reader = SegmentReader::open(&world.store, &world.keyring, segment)?;
    let (mut packs, mut frames, mut entries) = (0, 0, Vec::new());
    while reader.next_pack()?.is_some() {
        packs += 1;
    }
    while reader.next_frame()?.is_some() {
        frames += 1;
    }
    while let Some(entry) = reader.next_entry()? {
        entries.push(entry);
    }
    reader.finish()?;
    Ok((packs, frames, entries))
}

fn key(segment: SegmentId) -> Key {
    segments::segment_key(segment)
}

fn bytes_of(world: &World, segment: SegmentId) -> Vec<u8> {
    world.store.get(&key(segment), 1 << 30).unwrap()
}

/// Puts other bytes in the place of a segment.
fn put_in_place(world: &World, segment: SegmentId, bytes: &[u8]) {
    world.store.delete(&key(segment)).unwrap();
    world.store.put(&key(segment), bytes).unwrap();
}

#[test]
fn a_segment_of_several_pages_comes_back_sorted() {
    let world = World::new();
    let mut contents = large();
    let segment = world.save(&mut contents);
    let (packs, frames, entries) = read(&world, segment).unwrap();
    assert_eq!((packs, frames), (1500, 3000));
    assert_eq!(entries, contents.entries);
    assert!(entries.is_sorted_by_key(|entry| entry.id));
    let reader = SegmentReader::open(&world.store, &world.keyring, segment).unwrap();
    assert_eq!((reader.head.entries, reader.head.level), (3000, 0));
    assert!(bytes_of(&world, segment).len() > 3 * crate::format::segment::MAX_PAGE_BYTES);
}

#[test]
fn a_segment_damaged_anywhere_is_refused_by_name() {
    let world = World::new();
    let segment = world.save(&mut large());
    let bytes = bytes_of(&world, segment);
    let places = [0, LEAD_BYTES, LEAD_BYTES + 20, bytes.len() / 2, bytes.len() - 3000, bytes.len() - TRAILER_BYTES];
    for place in places.into_iter().chain([bytes.len() - 5]) {
        let mut altered = bytes.clone();
        altered[place] ^= 1;
        put_in_place(&world, segment, &altered);
        let error = read(&world, segment).unwrap_err();
        assert_eq!(error.kind(), Kind::Damaged, "{place}: {error}");
        assert!(error.to_string().contains(&segment.to_string()), "{place}: {error}");
    }
    for length in [0, 10, LEAD_BYTES + TRAILER_BYTES, bytes.len() / 2, bytes.len() - 1] {
        put_in_place(&world, segment, &bytes[..length]);
        assert_eq!(read(&world, segment).unwrap_err().kind(), Kind::Damaged, "{length}");
    }
}

#[test]
fn pages_cannot_change_places_even_under_the_right_name() {
    let world = World::new();
    // Rows of packs are equally long, so are full pages of them: only the seal can tell them apart.
    let packs: Vec<_> = (0..4000).map(|pack| (pack_id(pack), directory(&[], 5))).collect();
    let segment = world.save(&mut contents(&packs));
    let bytes = bytes_of(&world, segment);
    let head = head_of(&world, &bytes);
    let (offset, length) = (head.pack_pages[0].offset, head.pack_pages[0].length);
    assert_eq!((head.pack_pages[1].length, head.pack_pages[1].rows), (length, head.pack_pages[0].rows));
    let (first, length) = (offset as usize, length as usize);
    let mut swapped = bytes.clone();
    swapped[first..first + length].copy_from_slice(&bytes[first + length..first + 2 * length]);
    swapped[first + length..first + 2 * length].copy_from_slice(&bytes[first..first + length]);
    let mut hasher = crate::crypto::names::PackHasher::new();
    hasher.update(&swapped);
    let renamed = SegmentId(hasher.finish());
    world.store.put(&key(renamed), &swapped).unwrap();
    let error = read(&world, renamed).unwrap_err();
    assert!(error.to_string().contains("authentication"), "{error}");
}

fn head_of(world: &World, bytes: &[u8]) -> crate::format::segment::Head {
    let at = bytes.len() - TRAILER_BYTES;
    let (offset, _) =
        crate::format::container::find_directory(ObjectKind::Head, bytes.len() as u64, &bytes[at..]).unwrap();
    world.keyring.load(ObjectKind::Head, bytes[offset as usize..at].to_vec(), &"head").unwrap()
}

#[test]
fn a_segment_under_the_name_of_another_is_refused() {
    let world = World::new();
    let one = world.save(&mut contents(&[(pack_id(1), directory(&[id(1)], 5))]));
    let other = world.save(&mut contents(&[(pack_id(2), directory(&[id(2)], 5))]));
    put_in_place(&world, other, &bytes_of(&world, one));
    let error = read(&world, other).unwrap_err();
    assert!(error.to_string().contains("have the name"), "{error}");
}

#[test]
fn a_large_segment_is_read_in_windows() {
    let world = World::new();
    let ids: Vec<BlobId> = (0..100_000).map(id).collect();
    let packs: Vec<_> = ids.chunks(25_000).zip(0..).map(|(ids, pack)| (pack_id(pack), directory(ids, 1))).collect();
    let mut contents = contents(&packs);
    let segment = world.save(&mut contents);
    assert!(bytes_of(&world, segment).len() > 5 << 20);
    assert_eq!(read(&world, segment).unwrap().2, contents.entries);
}

#[test]
fn a_damaged_segment_is_reported_and_the_others_loaded() {
    let world = World::new();
    let good = world.save(&mut contents(&[(pack_id(1), directory(&[id(1)], 5))]));
    let bad = world.save(&mut contents(&[(pack_id(2), directory(&[id(2)], 5))]));
    let mut bytes = bytes_of(&world, bad);
    bytes[40] ^= 1;
    put_in_place(&world, bad, &bytes);
    let (index, opened) = world.open(None);
    assert_eq!(opened.damaged.len(), 1);
    assert!(opened.damaged[0].subject.contains(&bad.to_string()));
    assert_eq!(opened.segments, [good]);
    assert!(index.contains(&id(1)).unwrap() && !index.contains(&id(2)).unwrap());
}
