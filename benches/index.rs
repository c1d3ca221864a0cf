//! How quickly the index loads, opens, answers and grows, and how much memory it takes.
//!
//! `cargo bench --bench index -- [blobs]`: builds a store with segments of that many blobs (1,000,000 if not said),
//! loads them into a cache, and measures.
#![allow(clippy::print_stdout, clippy::unwrap_used)]

#[path = "../tests/synthetic.rs"]
mod synthetic;

use keepstone::base::clock::Stopwatch;
use keepstone::base::{KeyId, RepositoryId, SegmentId};
use keepstone::crypto::keys::RootKey;
use keepstone::format::pack::BlobKind;
use keepstone::format::segment::Entry;
use keepstone::repo::index::{Index, SegmentContents, save};
use keepstone::repo::keyring::{Keyring, new_epoch};
use keepstone::store::{Local, ObjectStore};
use std::path::Path;
use synthetic::{blobs_per_pack, frame_row, id, id_at, marks_of, mixed, origin, pack_row, write_segments};

const LOOKUPS: u64 = 200_000;

fn main() {
    let blobs = std::env::args().skip(1).find_map(|argument| argument.parse().ok()).unwrap_or(1_000_000);
    let folder = tempfile::tempdir_in(std::env::var("BENCH_DIR").unwrap_or("target".to_owned())).unwrap();
    let store = Local::create(folder.path().join("store")).unwrap();
    let root = RootKey::generate();
    let epoch = new_epoch(&root, None, 0).unwrap();
    let keyring = Keyring::new(RepositoryId([1; 32]), root, &[epoch]).unwrap();
    println!("{blobs} blobs, half of them with marks, two to a frame, {} to a pack", blobs_per_pack());
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
        measured("usage of all packs", blobs, || {
            let mut packs = 0;
            let count = &mut |_, _| {
                packs += 1;
                Ok::<_, keepstone::repo::Error>(())
            };
            live.each_usage(count).unwrap();
            println!("{packs} packs");
        });
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
    (index, opened.loaded.len() as u64)
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
            let pack = (place / blobs_per_pack()) as u32;
            if place % blobs_per_pack() == 0 {
                contents.packs.push(pack_row(number));
            }
            if place % 2 == 0 {
                contents.frames.push(frame_row(pack, place % blobs_per_pack()));
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
