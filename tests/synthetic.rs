//! Segments that name blobs which nobody has: what a repository of so many of them looks like to its index.

use keepstone::base::{BlobId, KeyId, Mark, PackId, SessionId};
use keepstone::format::pack::{BlobKind, Encoding, Role};
use keepstone::format::segment::{Entry, FrameRow, PackRow};
use keepstone::repo::index::{Marks, Origin, SegmentWriter};
use keepstone::repo::keyring::Keyring;
use keepstone::store::ObjectStore;

/// Blobs in a segment.
pub const BLOBS_PER_SEGMENT: u64 = 1_000_000;
/// Blobs in a pack, two to a frame: 128 unless `KEEPSTONE_BLOBS_PER_PACK` says an even number, to see what packs cost.
pub fn blobs_per_pack() -> u64 {
    static ASKED: std::sync::OnceLock<u64> = std::sync::OnceLock::new();
    *ASKED.get_or_init(|| {
        let asked =
            std::env::var("KEEPSTONE_BLOBS_PER_PACK").ok().map(|blobs| blobs.parse().expect("a number of blobs"));
        asked.filter(|blobs| blobs % 2 == 0 && *blobs > 0).unwrap_or(128)
    })
}

/// A number like a hash of another one.
pub fn mixed(number: u64) -> u64 {
    let mut z = number.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    z = (z ^ z >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ z >> 31
}

/// An id whose first bytes are `first` and the rest like a hash.
pub fn id(first: u64) -> BlobId {
    let mut id = [0; 32];
    for (part, bytes) in id.chunks_exact_mut(8).enumerate() {
        let word = if part == 0 { first } else { mixed(first.wrapping_add(part as u64)) };
        bytes.copy_from_slice(&word.to_be_bytes());
    }
    BlobId(id)
}

/// The blob `number` of `blobs`: ids of one segment ascend, and each segment spans all ids.
pub fn id_at(number: u64, blobs: u64) -> BlobId {
    let segment = number / BLOBS_PER_SEGMENT;
    let count = (blobs - segment * BLOBS_PER_SEGMENT).min(BLOBS_PER_SEGMENT);
    let step = u64::MAX / count;
    let place = number % BLOBS_PER_SEGMENT;
    id(step * place + mixed(number) % step)
}

/// Marks of every other blob.
pub fn marks_of(number: u64) -> Marks {
    match number % 2 {
        0 => Marks { start: Some(Mark(mixed(number).to_be_bytes())), end: Some(Mark(mixed(!number).to_be_bytes())) },
        _ => Marks::default(),
    }
}

/// Who wrote the segments.
pub fn origin() -> Origin {
    let (session, previous) = (SessionId([1; 16]), Vec::new());
    Origin { session, level: 1, supersedes: Vec::new(), previous, condemned_seen: 0, written_ns: 1 }
}

/// The pack `number`.
pub fn pack_row(number: u64) -> PackRow {
    PackRow { id: PackId(id(mixed(number)).0), size_bytes: 1 << 25, role: Role::Data, written_ns: number as i64 }
}

/// The frame that begins with the blob at `place` of a pack.
pub fn frame_row(pack: u32, place: u64) -> FrameRow {
    FrameRow {
        pack,
        block_offset: 32 + place / 2 * 400_000,
        block_length: 390_000,
        key: 0,
        offset: 0,
        length: 300_000,
        raw_length: 524_288,
        encoding: Encoding::Zstd,
        chain: None,
    }
}

/// The packs of the segment that begins with the blob `first` of `blobs`.
pub fn packs_of_segment(first: u64, blobs: u64) -> impl Iterator<Item = PackRow> {
    let count = (blobs - first).min(BLOBS_PER_SEGMENT);
    (0..count.div_ceil(blobs_per_pack())).map(move |number| pack_row(first + number))
}

/// Writes segments that name so many blobs.
pub fn write_segments(store: &dyn ObjectStore, keyring: &Keyring, blobs: u64) {
    let mut number = 0;
    while number < blobs {
        let end = (number + BLOBS_PER_SEGMENT).min(blobs);
        let count = end - number;
        let mut writer = SegmentWriter::begin(store, keyring, origin()).unwrap();
        writer.key(KeyId([3; 16])).unwrap();
        for pack in packs_of_segment(number, blobs) {
            writer.pack(&pack).unwrap();
        }
        for frame in 0..count.div_ceil(2) {
            writer.frame(&frame_row((frame * 2 / blobs_per_pack()) as u32, frame * 2 % blobs_per_pack())).unwrap();
        }
        for place in 0..count {
            let marks = marks_of(number + place);
            // As in life, the order of ids has nothing to do with the order of places.
            let frame = (place * 7919 % count / 2) as u32;
            let offset = (place % 2 * 262_144) as u32;
            let id = id_at(number + place, blobs);
            let (kind, start, end) = (BlobKind::Data, marks.start, marks.end);
            writer.entry(&Entry { id, frame, offset, length: 262_144, kind, start, end }).unwrap();
        }
        writer.finish().unwrap();
        number = end;
    }
}
