//! A whole backup, beside what its own stages allow.
//!
//! Makes files of rows like those of a dump, measures on one thread what each stage takes for all of their bytes
//! (cut, name, compress, seal, and the proof: open, decode, name again), and divides the sum by the number of
//! processors: no arrangement of these stages can be faster. Then backs the files up into a repository on the local
//! disk and prints how near it came. The machine decides the absolute figures; read the share.

#![allow(clippy::print_stdout)]

use keepstone::base::{Clock, Secret, Silent, Stop};
use keepstone::chunk::{Chunker, Sizes};
use keepstone::compress::{Compressor, Decompressor, Encoding, Level};
use keepstone::crypto::keys::{Class, ClassKey};
use keepstone::crypto::names::NamingKey;
use keepstone::crypto::siv::Message;
use keepstone::crypto::slots::{GuardKind, Unlock};
use keepstone::ops::Context;
use keepstone::ops::backup::{Limits, Options, Parent, Source, backup};
use keepstone::repo::Repository;
use keepstone::source::files::ScanOptions;
use keepstone::store::Local;
use std::fmt::Write as _;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

const FILES: usize = 24;
const FILE_BYTES: usize = 8 << 20;
const FRAME_BYTES: usize = 1 << 20;
const RUNS: usize = 3;

fn main() {
    // `cargo test --benches` passes this: there is nothing to measure in an unoptimised run.
    if std::env::args().any(|argument| argument == "--test") {
        return;
    }
    let files: Vec<Vec<u8>> = (0..FILES).map(|number| rows(number as u64)).collect();
    let bytes: usize = files.iter().map(Vec::len).sum();
    let processors = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let stages = stages(&files);
    let sum: f64 = stages.iter().map(|(_, seconds)| seconds).sum();
    let rate = |seconds: f64| bytes as f64 / 1e6 / seconds;
    println!("{FILES} files, {:.0} MB of rows, {processors} processors", bytes as f64 / 1e6);
    for (name, seconds) in &stages {
        println!("  {name:<34} {:>7.0} MB/s  {:>4.0} % of the work", rate(*seconds), seconds / sum * 100.0);
    }
    let limit = sum / processors as f64;
    println!("  {:<34} {:>7.0} MB/s", "all stages on all processors: limit", rate(limit));
    let mut runs: Vec<f64> = (0..RUNS).map(|_| whole(&files)).collect();
    runs.sort_by(f64::total_cmp);
    let median = runs[RUNS / 2];
    println!(
        "  {:<34} {:>7.0} MB/s  {:>4.0} % of the limit",
        "backup, median of 3",
        rate(median),
        limit / median * 100.0
    );
}

/// Rows with ids, names, amounts and times, different for each file.
fn rows(seed: u64) -> Vec<u8> {
    let mut text = String::with_capacity(FILE_BYTES + 128);
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) + 1;
    let mut next = move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    };
    let mut id = seed * 1_000_000;
    while text.len() < FILE_BYTES {
        id += 1;
        let (a, b) = (next(), next());
        let status = ["new", "paid", "packed", "shipped", "returned"][(a % 5) as usize];
        writeln!(
            text,
            "{id}\t{a:016x}\t{status}\t{}.{:02}\t2026-03-{:02} 0{}:{:02}",
            b % 9000,
            b % 100,
            a % 28,
            b % 9,
            b % 60
        )
        .expect("writing into memory");
    }
    text.into_bytes()
}

/// What each stage takes for all files on one thread, in seconds.
fn stages(files: &[Vec<u8>]) -> Vec<(&'static str, f64)> {
    let chunker = Chunker::new(Sizes::V1, 0x5eed);
    let naming = NamingKey::of(&ClassKey::generate(Class::Dedup));
    let siv = ClassKey::generate(Class::Data).sub_key(4);
    let (mut compressor, mut decompressor) = (Compressor::new(Level::Default), Decompressor::new());
    let mut frames: Vec<(&[u8], Encoding, Vec<u8>)> = Vec::new();
    let cut = timed(|| files.iter().for_each(|file| assert!(chunker.cuts(file).count() > 0)));
    let name = timed(|| {
        files.iter().flat_map(|file| chunker.cuts(file)).for_each(|piece| {
            std::hint::black_box(naming.blob_id(piece.data));
        })
    }) - cut;
    let compress = timed(|| {
        for raw in files.iter().flat_map(|file| file.chunks(FRAME_BYTES)) {
            let mut stored = Vec::new();
            let encoding = compressor.compress(raw, &mut stored);
            frames.push((raw, encoding, stored));
        }
    });
    let plain: Vec<Vec<u8>> = frames.iter().map(|(_, _, stored)| stored.clone()).collect();
    let mut ivs = Vec::new();
    let seal = timed(|| {
        for batch in frames.chunks_mut(4) {
            let mut messages: Vec<Message<'_>> =
                batch.iter_mut().map(|(_, _, text)| Message { nonce: [1; 16], text, iv: [0; 16] }).collect();
            siv.seal_many(b"bench", &mut messages);
            ivs.extend(messages.iter().map(|message| message.iv));
        }
    });
    let mut raw = Vec::new();
    let prove = timed(|| {
        for (batch, ivs) in frames.chunks_mut(4).zip(ivs.chunks(4)) {
            let mut messages: Vec<Message<'_>> =
                batch.iter_mut().zip(ivs).map(|((_, _, text), iv)| Message { nonce: [1; 16], text, iv: *iv }).collect();
            assert!(siv.open_many(b"bench", &mut messages).iter().all(Result::is_ok));
        }
        for (original, encoding, stored) in &frames {
            decompressor
                .decompress(*encoding, stored, &[], original.len(), &mut raw)
                .expect("what was just compressed");
            std::hint::black_box(naming.blob_id(&raw));
        }
    });
    assert!(frames.iter().zip(&plain).all(|((_, _, opened), before)| opened == before));
    vec![("cut", cut), ("name", name), ("compress", compress), ("seal", seal), ("open, decode, name again", prove)]
}

fn timed(work: impl FnOnce()) -> f64 {
    let start = Instant::now();
    work();
    start.elapsed().as_secs_f64()
}

/// Backs all files up into a new repository; seconds from the scan to the committed snapshot.
fn whole(files: &[Vec<u8>]) -> f64 {
    let folder = tempfile::tempdir().expect("a place for the bench");
    let source = folder.path().join("source");
    std::fs::create_dir(&source).expect("a new folder");
    for (number, file) in files.iter().enumerate() {
        std::fs::write(source.join(format!("rows-{number:02}.sql")), file).expect("room for the bench");
    }
    let context = context(&folder.path().join("repository"));
    let options = Options {
        sources: vec![Source::Path(source)],
        scan: ScanOptions::default(),
        exclude_texts: Vec::new(),
        host: None,
        user: String::new(),
        tags: Vec::new(),
        description: String::new(),
        time: None,
        parent: Parent::Newest,
        level: Level::Default,
        deltas: true,
        ignore_inode: false,
        ignore_ctime: false,
        dry_run: false,
        base_cache_bytes: 0,
        limits: Limits::default(),
        validate_dumps: false,
    };
    timed(|| assert_eq!(backup(&context, &options).expect("a backup").problem_count, 0))
}

fn context(path: &Path) -> Context {
    let store = Arc::new(Local::create(path).expect("a new folder"));
    let unlock = Unlock::KeyFile(Secret::new(b"a key file of the bench".to_vec()));
    let repository = Repository::create(store, Sizes::V1, &unlock, GuardKind::KeyFile, "bench", Clock::System);
    let repository = repository.expect("a new repository");
    Context::open(repository, None, Arc::new(Silent), Stop::new()).expect("an index").0
}
