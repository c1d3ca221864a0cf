//! How fast one thread cuts, compresses and decompresses.
//!
//! Prints MB/s (10^6 bytes of raw data) as medians of three, and each stage as a share of cutting the same data.
//! The data is made here: rows of a dump as they were yesterday and are today (1 % of them changed), and bytes
//! that cannot be compressed. The machine decides the absolute figures; read the ratios.
//!
//! Runs on a thread of its own, because workers do: the allocator treats the main thread better.

#![allow(clippy::print_stdout)]

use std::collections::HashMap;
use std::fmt::Write as _;
use std::hint::black_box;
use std::time::Instant;

use keepstone::chunk::{Chunker, Cutter, Sizes, Window};
use keepstone::compress::{Compressor, Decompressor, Encoding, Level};

const ROWS: u64 = 250_000;
const RANDOM_BYTES: usize = 32 << 20;

fn main() {
    // `cargo test --benches` passes this: there is nothing to measure in an unoptimised run.
    if std::env::args().any(|argument| argument == "--test") {
        return;
    }
    std::thread::spawn(measure).join().expect("the measuring thread ended well");
}

fn measure() {
    let (yesterday, today) = (dump(0), dump(1));
    let random = random_bytes(1, RANDOM_BYTES);
    let chunker = Chunker::new(Sizes::V1, 0x5eed_5eed_5eed_5eed);
    for (name, data) in [("rows", &today), ("random", &random)] {
        let table = Table::begin(name, data.len());
        let cutting = table.line("cut, in memory", None, || chunker.cuts(data).count());
        table.line("cut, from a reader", Some(cutting), || cut_from_reader(&chunker, data));
        let chunks: Vec<&[u8]> = chunker.cuts(data).map(|piece| piece.data).collect();
        for level in [Level::Fast, Level::Default, Level::Number(6), Level::Number(9)] {
            plain(&table, cutting, level, &chunks);
        }
    }
    on_bases(&chunker, &yesterday, &today);
}

fn cut_from_reader(chunker: &Chunker, data: &[u8]) -> usize {
    let mut cutter = Cutter::new(chunker, data);
    let mut count = 0;
    while let Some(piece) = cutter.next_piece().expect("memory can be read") {
        black_box(piece);
        count += 1;
    }
    count
}

fn plain(table: &Table, cutting: f64, level: Level, chunks: &[&[u8]]) {
    let mut compressor = Compressor::new(level);
    let mut frames: Vec<(Encoding, Vec<u8>)> = vec![(Encoding::Raw, Vec::new()); chunks.len()];
    table.line(&format!("compress, {level:?}"), Some(cutting), || {
        for (chunk, (encoding, stored)) in chunks.iter().zip(&mut frames) {
            *encoding = compressor.compress(chunk, stored);
        }
    });
    table.stored(frames.iter().map(|(_, stored)| stored.len()).sum(), compressor.memory_bytes());
    let (mut decompressor, mut raw) = (Decompressor::new(), Vec::new());
    table.line("  decompress", Some(cutting), || {
        for (chunk, (encoding, stored)) in chunks.iter().zip(&frames) {
            decompressor.decompress(*encoding, stored, &[], chunk.len(), &mut raw).expect("its own frame");
        }
    });
}

fn on_bases(chunker: &Chunker, yesterday: &[u8], today: &[u8]) {
    let pairs: Vec<Pair<'_>> = pair(chunker, yesterday, today);
    let table = Table::begin("rows on yesterday's", pairs.iter().map(|pair| pair.raw.len()).sum());
    let cutting = table.line("cut, in memory", None, || chunker.cuts(today).count());
    let mut compressor = Compressor::new(Level::Default);
    let mut frames = vec![Vec::new(); pairs.len()];
    table.line("compress on bases", Some(cutting), || {
        for (pair, stored) in pairs.iter().zip(&mut frames) {
            compressor.compress_on(&pair.bases, pair.raw, stored).expect("rows resemble their bases");
        }
    });
    table.stored(frames.iter().map(Vec::len).sum(), compressor.memory_bytes());
    let (mut decompressor, mut raw) = (Decompressor::new(), Vec::new());
    table.line("  decompress", Some(cutting), || {
        for (pair, stored) in pairs.iter().zip(&frames) {
            let length = pair.raw.len();
            decompressor
                .decompress(Encoding::ZstdOnBases, stored, &pair.bases, length, &mut raw)
                .expect("its own frame");
            assert!(raw == pair.raw, "a frame gave other bytes back");
        }
    });
}

/// A chunk of today and those of yesterday that begin or end as it does.
struct Pair<'a> {
    bases: Vec<&'a [u8]>,
    raw: &'a [u8],
}

fn pair<'a>(chunker: &Chunker, yesterday: &'a [u8], today: &'a [u8]) -> Vec<Pair<'a>> {
    let (mut by_start, mut by_end) = (HashMap::new(), HashMap::new());
    for (start, chunk, end) in windowed(chunker, yesterday) {
        start.map(|start| by_start.insert(start, chunk));
        end.map(|end| by_end.insert(end, chunk));
    }
    let mut pairs = Vec::new();
    for (start, raw, end) in windowed(chunker, today) {
        let mut bases: Vec<&[u8]> = start.and_then(|start| by_start.get(&start).copied()).into_iter().collect();
        bases.extend(end.and_then(|end| by_end.get(&end).copied()).filter(|base| !bases.contains(base)));
        if !bases.is_empty() && !bases.contains(&raw) {
            pairs.push(Pair { bases, raw });
        }
    }
    pairs
}

type Windowed<'a> = (Option<Window>, &'a [u8], Option<Window>);

fn windowed<'a>(chunker: &Chunker, data: &'a [u8]) -> Vec<Windowed<'a>> {
    let mut before = None;
    let mut found = Vec::new();
    for (start, length, end) in chunker.cuts(data).map(|p| (p.start as usize, p.data.len(), p.end_window().copied())) {
        found.push((before, &data[start..start + length], end));
        before = end;
    }
    found
}

struct Table {
    bytes: usize,
}

impl Table {
    fn begin(name: &str, bytes: usize) -> Table {
        println!("{name}: {:.1} MB", bytes as f64 / 1e6);
        Table { bytes }
    }

    /// Measures and prints one stage; gives its MB/s.
    fn line<T>(&self, what: &str, against: Option<f64>, mut stage: impl FnMut() -> T) -> f64 {
        let mut seconds: Vec<f64> = (0..3)
            .map(|_| {
                let begun = Instant::now();
                black_box(stage());
                begun.elapsed().as_secs_f64()
            })
            .collect();
        seconds.sort_by(f64::total_cmp);
        let speed = self.bytes as f64 / 1e6 / seconds[1];
        match against {
            None => println!("  {what:<28} {speed:>7.0} MB/s"),
            Some(other) => println!("  {what:<28} {speed:>7.0} MB/s  {:>6.2} x cutting", speed / other),
        }
        speed
    }

    fn stored(&self, stored: usize, memory: usize) {
        let share = 100.0 * stored as f64 / self.bytes as f64;
        println!("    stored {share:.2} % of raw, compressor holds {} KiB", memory >> 10);
    }
}

fn random_bytes(seed: u64, length: usize) -> Vec<u8> {
    let mut random = Random(seed);
    (0..length).map(|_| random.next() as u8).collect()
}

struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }

    fn word(&mut self) -> &'static str {
        const WORDS: [&str; 16] = [
            "order", "shipment", "pending", "north", "south", "customer", "invoice", "return", "express", "paid",
            "open", "closed", "river", "market", "garden", "silver",
        ];
        WORDS[self.below(16) as usize]
    }
}

/// Rows as a dump has them; from night to night every hundredth has other content and a few are new.
fn dump(night: u64) -> Vec<u8> {
    let mut text = String::new();
    for id in 0..ROWS {
        let changed = night > 0 && Random(id * 31).below(100) == 0;
        row(id, &mut Random(id * 7919 + if changed { night << 40 } else { 0 }), &mut text);
        if night > 0 && Random(id * 37).below(300) == 0 {
            row(ROWS + id, &mut Random(id * 104_729), &mut text);
        }
    }
    text.into_bytes()
}

fn row(id: u64, random: &mut Random, text: &mut String) {
    let (first, second, third) = (random.word(), random.word(), random.word());
    let (cents, month, day) = (random.below(10_000_000), 1 + random.below(12), 1 + random.below(28));
    let (second_of_day, token) = (random.below(86_400), random.next());
    writeln!(
        text,
        "{id}\t{first} {second}\t{second}.{third}{}@example.org\t{}.{:02}\t2025-{month:02}-{day:02} {second_of_day}\t{token:016x}",
        random.below(10_000),
        cents / 100,
        cents % 100,
    )
    .expect("a string takes all text");
}
