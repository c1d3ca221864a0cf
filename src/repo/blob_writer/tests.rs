//! Stories of blobs on their way.
#![allow(clippy::unwrap_used)]

use super::*;
use crate::base::{Clock, Secret};
use crate::chunk::Sizes;
use crate::crypto::slots::{GuardKind, Unlock, generate_key_file};
use crate::store::Memory;

/// A repository in memory, its index, and a writer that may have `in_flight_bytes` in flight.
fn writer(in_flight_bytes: usize) -> (Arc<Repository>, Arc<Index>, BlobWriter) {
    let unlock = Unlock::KeyFile(Secret::new(generate_key_file().expose().as_bytes().to_vec()));
    let sizes = Sizes::new(4 << 10, 16 << 10, 64 << 10).unwrap();
    let store = Arc::new(Memory::new());
    let repository = Repository::create(store, sizes, &unlock, GuardKind::KeyFile, "test", Clock::System).unwrap();
    let repository = Arc::new(repository);
    let (index, _) = Index::open(&**repository.store(), repository.keyring(), None).unwrap();
    let index = Arc::new(index);
    let settings = Settings { level: Level::Default, deltas: false, in_flight_bytes, repository_bytes: 0 };
    let session = SessionId([7; 16]);
    let writer = BlobWriter::begin(repository.clone(), index.clone(), session, 0, &settings, None).unwrap();
    (repository, index, writer)
}

/// Bytes that cannot be compressed, or digits, which shrink to less than half.
fn bytes(seed: u64, length: usize, random: bool) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 24) as u8
    };
    (0..length).map(|_| if random { next() } else { b'0' + next() % 10 }).collect()
}

fn put(repository: &Repository, writer: &mut BlobWriter, data: &[u8]) -> BlobId {
    let id = repository.keyring().naming().blob_id(data);
    assert!(writer.put_chunk(id, data, Marks::default(), Hint::default()).unwrap().new);
    id
}

#[test]
fn a_writer_with_little_room_never_waits_for_itself() {
    // Batches from a part of the room to more than all of it, data and metadata between each other.
    for in_flight_bytes in [1, 100_000, 3 << 20] {
        let (repository, index, mut writer) = writer(in_flight_bytes);
        let mut all = Vec::new();
        for number in 0..120_u64 {
            let data = bytes(number, 1000 + (number as usize * 7919) % 150_000, number.is_multiple_of(3));
            all.push((put(&repository, &mut writer, &data), data));
            if number.is_multiple_of(2) {
                let tree = bytes(1000 + number, 30_000, false);
                all.push((writer.put(BlobKind::Tree, tree.clone()).unwrap(), tree));
            }
        }
        writer.finish().unwrap();
        let mut reader = BlobReader::new(repository, index, 4 << 20);
        for (id, data) in &all {
            assert!(reader.read(id).unwrap()[..] == data[..], "{in_flight_bytes}: {id}");
        }
    }
}

#[test]
fn what_cannot_be_compressed_lies_in_blocks_of_its_own_size() {
    let (repository, index, mut writer) = writer(16 << 20);
    let ids: Vec<_> =
        (0..30).map(|number| put(&repository, &mut writer, &bytes(number, 100_000 + number as usize, true))).collect();
    writer.finish().unwrap();
    for id in &ids {
        let place = index.places(id).unwrap().remove(0);
        assert_eq!(place.encoding, crate::compress::Encoding::Raw);
        assert!(place.raw_length < 400_000, "a frame of {}", place.raw_length);
    }
    let mut reader = BlobReader::new(repository, index, 4 << 20);
    assert!(ids.iter().all(|id| reader.read(id).is_ok()));
}

#[test]
fn small_files_share_larger_frames_than_large_chunks_and_trees() {
    let (repository, index, mut writer) = writer(16 << 20);
    let mut raw_length = |length: usize, count: u64, tree: bool| {
        let ids: Vec<BlobId> = (0..count)
            .map(|number| {
                let data = bytes(number * 31 + length as u64, length, false);
                match tree {
                    true => writer.put(BlobKind::Tree, data).unwrap(),
                    false => put(&repository, &mut writer, &data),
                }
            })
            .collect();
        // The first of a kind may share a frame with the last of the kind before.
        ids[ids.len() / 2]
    };
    let (small, large, tree) =
        (raw_length(5000, 1000, false), raw_length(200_000, 30, false), raw_length(5001, 1000, true));
    writer.finish().unwrap();
    let frame = |id: &BlobId| index.places(id).unwrap()[0].raw_length as usize;
    assert!(frame(&small) > SMALL_FRAME_BYTES - 5000);
    assert!(frame(&large) <= FRAME_BYTES && frame(&tree) <= FRAME_BYTES);
}
