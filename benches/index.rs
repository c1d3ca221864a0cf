//! How quickly the index loads, opens, answers and grows, and how much memory it takes.
//!
//! `cargo bench --bench index -- [blobs]`: builds a store with segments of that many blobs (1,000,000 if not said),
//! loads them into a cache, and measures.
#![allow(clippy::print_stdout, clippy::unwrap_used)]

use keepstone::base::clock::Stopwatch;
use keepstone::base::{BlobId, KeyId, Mark, PackId, RepositoryId, SegmentId, SessionId};
use keepstone::crypto::keys::RootKey;
use keepstone::format::pack::{BlobKind, Encoding, Role};
use keepstone::format::segment::{Entry, FrameRow, PackRow};
use keepstone::repo::index::{Index, Marks, Origin, SegmentContents, SegmentWriter, save};
use keepstone::repo::keyring::{Keyring, new_epoch};
use keepstone::store::{Local, ObjectStore};
use std::path::Path;

const BLOBS_PER_SEGMENT: u64 = 1_000_000;
const BLOBS_PER_PACK: u64 = 128;
const LOOKUPS: u64 = 200_000;

fn main() {
    let blobs = std::env::args().skip(1).find_map(|argument| argument.parse().ok()).unwrap_or(1_000_000);
    let folder = tempfile::tempdir_in(std::env::var("BENCH_DIR").unwrap_or("target".to_owned())).unwrap();
    let store = Local::create(folder.path().join("store")).unwrap();
    let root = RootKey::generate();
    let epoch = new_epoch(&root, None, 0).unwrap();
    let keyring = Keyring::new(RepositoryId([1; 32]), root, &[epoch]).unwrap();
    println!("{blobs} blobs, half of them with marks, two to a frame, {BLOBS_PER_PACK} to a pack");
    measured("write segments", blobs, || write_segments(&store, &keyring, blobs));
    let cache = folder.path().join("cache");
    measured("load all into a new cache", blobs, || drop(open(&store, &keyring, &cache)));
    let (index, _) = measured("open", 1, || open(&store, &keyring, &cache));
    let size: u64 = cache.read_dir().unwrap().map(|file| file.unwrap().metadata().unwrap().len()).sum();
    println!("files: {} MB, {} bytes a blob", size / 1_000_000, size / blobs);
    println!("index says {} blobs", index.blobs().unwrap());
    for round in ["first", "warm"] {
        measured(&format!("look-ups that hit, {round}"), LOOKUPS, || look_up(&index, blobs, true));
        measured(&format!("look-ups that miss, {round}"), LOOKUPS, || look_up(&index, blobs, false));
    }
    measured("places", LOOKUPS / 4, || places(&index, blobs));
    measured("alike", LOOKUPS / 4, || alike(&index, blobs));
    for night in 0..3 {
        measured(&format!("night {night}: 50 segments of 2000 blobs"), 100_000, || {
            add_night(&store, &keyring, &index, night)
        });
        measured(&format!("night {night}: finish run"), 1, || index.finish_run().unwrap());
        measured("look-ups that hit, then", LOOKUPS, || look_up(&index, blobs, true));
    }
    if blobs <= 10_000_000 {
        let mut live = index.begin_live().unwrap();
        measured("mark half of them live", blobs / 2, || {
            for number in 0..blobs / 2 {
                live.mark(&id_at(number * 2, blobs)).unwrap();
            }
        });
        measured("usage of all packs", blobs, || println!("{} packs", live.pack_usage().unwrap().len()));
    }
}

fn measured<T>(what: &str, count: u64, work: impl FnOnce() -> T) -> T {
    let _ = std::fs::write("/proc/self/clear_refs", "5");
    let (begun, cpu) = (Stopwatch::start(), cpu_ticks());
    let value = work();
    let seconds = begun.elapsed().as_secs_f64();
    let rate = count as f64 / seconds;
    let cpu = (cpu_ticks() - cpu) as f64 / 100.0;
    let peak = peak_kib() / 1024;
    println!("{what:<40} {:>10.1} ms {rate:>12.0}/s   CPU {cpu:.2} s   peak {peak} MB", seconds * 1e3);
    value
}

/// User and system time in hundredths of a second.
fn cpu_ticks() -> u64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
    stat.rsplit(')')
        .next()
        .unwrap()
        .split_whitespace()
        .skip(11)
        .take(2)
        .map(|ticks| ticks.parse::<u64>().unwrap())
        .sum()
}

fn peak_kib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmHWM:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

fn open(store: &Local, keyring: &Keyring, cache: &Path) -> (Index, u64) {
    let (index, opened) = Index::open(store, keyring, Some(cache)).unwrap();
    assert!(opened.notes.is_empty() && opened.damaged.is_empty());
    (index, opened.segments_loaded)
}

fn mixed(number: u64) -> u64 {
    let mut z = number.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    z = (z ^ z >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ z >> 31
}

/// An id whose first bytes are `first` and the rest like a hash.
fn id(first: u64) -> BlobId {
    let mut id = [0; 32];
    for (part, bytes) in id.chunks_exact_mut(8).enumerate() {
        let word = if part == 0 { first } else { mixed(first.wrapping_add(part as u64)) };
        bytes.copy_from_slice(&word.to_be_bytes());
    }
    BlobId(id)
}

/// The blob `number` of `blobs`: ids of one segment ascend, and each segment spans all ids.
fn id_at(number: u64, blobs: u64) -> BlobId {
    let segment = number / BLOBS_PER_SEGMENT;
    let count = (blobs - segment * BLOBS_PER_SEGMENT).min(BLOBS_PER_SEGMENT);
    let step = u64::MAX / count;
    let place = number % BLOBS_PER_SEGMENT;
    id(step * place + mixed(number) % step)
}

fn marks_of(number: u64) -> Marks {
    match number % 2 {
        0 => Marks { start: Some(Mark(mixed(number).to_be_bytes())), end: Some(Mark(mixed(!number).to_be_bytes())) },
        _ => Marks::default(),
    }
}

fn origin() -> Origin {
    let (session, previous) = (SessionId([1; 16]), Vec::new());
    Origin { session, level: 1, supersedes: Vec::new(), previous, condemned_seen: 0, written_ns: 1 }
}

fn pack_row(number: u64) -> PackRow {
    PackRow { id: PackId(id(mixed(number)).0), size_bytes: 1 << 25, role: Role::Data, written_ns: number as i64 }
}

fn frame_row(pack: u32, place: u64) -> FrameRow {
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

fn write_segments(store: &dyn ObjectStore, keyring: &Keyring, blobs: u64) {
    let mut number = 0;
    while number < blobs {
        let end = (number + BLOBS_PER_SEGMENT).min(blobs);
        let count = end - number;
        let mut writer = SegmentWriter::begin(store, keyring, origin()).unwrap();
        writer.key(KeyId([3; 16])).unwrap();
        for pack in 0..count.div_ceil(BLOBS_PER_PACK) {
            writer.pack(&pack_row(number + pack)).unwrap();
        }
        for frame in 0..count.div_ceil(2) {
            writer.frame(&frame_row((frame * 2 / BLOBS_PER_PACK) as u32, frame * 2 % BLOBS_PER_PACK)).unwrap();
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

fn look_up(index: &Index, blobs: u64, hit: bool) {
    for number in 0..LOOKUPS {
        let wanted = mixed(number) % blobs;
        let id = if hit { id_at(wanted, blobs) } else { id(mixed(!number)) };
        assert_eq!(index.contains(&id).unwrap(), hit);
    }
}

fn places(index: &Index, blobs: u64) {
    for number in 0..LOOKUPS / 4 {
        assert_eq!(index.places(&id_at(mixed(number) % blobs, blobs)).unwrap().len(), 1);
    }
}

fn alike(index: &Index, blobs: u64) {
    for number in 0..LOOKUPS / 4 {
        let wanted = mixed(number) % blobs / 2 * 2;
        assert_eq!(index.alike(&marks_of(wanted)).unwrap().end, Some(id_at(wanted, blobs)));
    }
}

fn add_night(store: &dyn ObjectStore, keyring: &Keyring, index: &Index, night: u64) {
    for segment in 0..50 {
        let mut contents = SegmentContents { keys: vec![KeyId([3; 16])], ..SegmentContents::default() };
        for place in 0..2000 {
            let number = (1 << 40) + night * 1_000_000 + segment * 2000 + place;
            let pack = (place / BLOBS_PER_PACK) as u32;
            if place % BLOBS_PER_PACK == 0 {
                contents.packs.push(pack_row(number));
            }
            if place % 2 == 0 {
                contents.frames.push(frame_row(pack, place % BLOBS_PER_PACK));
            }
            let marks = marks_of(number);
            contents.entries.push(Entry {
                id: id(mixed(number)),
                frame: (place / 2) as u32,
                offset: 0,
                length: 262_144,
                kind: BlobKind::Data,
                start: marks.start,
                end: marks.end,
            });
        }
        let id: SegmentId = save(store, keyring, origin(), &mut contents).unwrap();
        index.add(id, &contents).unwrap();
    }
}
