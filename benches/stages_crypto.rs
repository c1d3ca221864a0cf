//! How fast the seals are: one message, four and eight together, beside the `aes-siv` crate in the same run.
//!
//! `cargo bench --bench stages_crypto` prints MB/s (10^6 bytes) for each size; the best of several rounds counts,
//! because other work on the machine only ever makes a round slower.

#![allow(clippy::print_stdout, clippy::unwrap_used)]

use aes_siv::KeyInit;
use aes_siv::aead::AeadInOut;
use keepstone::base::clock::Stopwatch;
use keepstone::crypto::{Message, SivKey};
use std::hint::black_box;
use std::time::Duration;

const SIZES: [usize; 4] = [4 << 10, 64 << 10, 256 << 10, 1 << 20];
const ROUNDS: usize = 15;
const BYTES_PER_ROUND: usize = 16 << 20;
const HEADER: &[u8] = b"sixty-four bytes or so of header that every message has in common";

/// The best speeds of two things done in turn, over [`ROUNDS`], in MB/s; each handles `bytes` a time.
fn best_speeds(bytes: usize, mut seal_and_open: impl FnMut() -> [Duration; 2]) -> [f64; 2] {
    let repeats = BYTES_PER_ROUND.div_ceil(bytes);
    let mut best = [Duration::MAX; 2];
    for _ in 0..ROUNDS {
        let mut sums = [Duration::ZERO; 2];
        for _ in 0..repeats {
            let times = seal_and_open();
            sums = [sums[0] + times[0], sums[1] + times[1]];
        }
        best = [best[0].min(sums[0]), best[1].min(sums[1])];
    }
    best.map(|sum| (bytes * repeats) as f64 / sum.as_secs_f64() / 1e6)
}

fn timed<T>(work: impl FnOnce() -> T) -> (Duration, T) {
    let watch = Stopwatch::start();
    let result = work();
    (watch.elapsed(), result)
}

/// Speeds of sealing and opening `count` messages of `size` bytes together.
fn together(key: &SivKey, count: usize, size: usize) -> [f64; 2] {
    let mut texts = vec![vec![7; size]; count];
    let mut messages: Vec<Message<'_>> =
        texts.iter_mut().map(|text| Message { nonce: [3; 16], text, iv: [0; 16] }).collect();
    best_speeds(size * count, || {
        let (seal, ()) = timed(|| key.seal_many(HEADER, black_box(&mut messages)));
        let (open, answers) = timed(|| key.open_many(HEADER, black_box(&mut messages)));
        assert!(answers.iter().all(Result::is_ok));
        [seal, open]
    })
}

/// Speeds of the `aes-siv` crate, which has one message at a time.
fn plain_crate(key: &[u8; 64], size: usize) -> [f64; 2] {
    let cipher = aes_siv::Aes256SivAead::new(&(*key).into());
    let nonce = [3; 16].into();
    let mut text = vec![7; size];
    best_speeds(size, || {
        let text = black_box(&mut text[..]);
        let (seal, tag) = timed(|| cipher.encrypt_inout_detached(&nonce, HEADER, text.into()));
        let tag = tag.unwrap();
        let (open, opened) = timed(|| cipher.decrypt_inout_detached(&nonce, HEADER, text.into(), &tag));
        opened.unwrap();
        [seal, open]
    })
}

fn main() {
    let raw = [0x5a; 64];
    let key = SivKey::new(&raw);
    println!("{:>9} {:>10} {:>10} {:>10}", "bytes", "how", "seal MB/s", "open MB/s");
    for size in SIZES {
        let rows = [
            ("aes-siv", plain_crate(&raw, size)),
            ("1", together(&key, 1, size)),
            ("4", together(&key, 4, size)),
            ("8", together(&key, 8, size)),
        ];
        for (how, [seal, open]) in rows {
            println!("{size:>9} {how:>10} {seal:>10.0} {open:>10.0}");
        }
    }
}
