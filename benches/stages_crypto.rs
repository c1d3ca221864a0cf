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

const SIZES: [usize; 4] = [4 << 10, 64 << 10, 256 << 10, 1 << 20];
const ROUNDS: usize = 15;
const BYTES_PER_ROUND: usize = 16 << 20;
const HEADER: &[u8] = b"sixty-four bytes or so of header that every message has in common";

/// The best speed over [`ROUNDS`] of something that handles `bytes` each time.
fn best_speed(bytes: usize, mut work: impl FnMut()) -> f64 {
    let repeats = BYTES_PER_ROUND.div_ceil(bytes);
    let seconds = (0..ROUNDS).map(|_| {
        let watch = Stopwatch::start();
        for _ in 0..repeats {
            work();
        }
        watch.elapsed().as_secs_f64()
    });
    (bytes * repeats) as f64 / seconds.fold(f64::INFINITY, f64::min) / 1e6
}

/// Speeds of sealing and opening `count` messages of `size` bytes together.
fn together(key: &SivKey, count: usize, size: usize) -> (f64, f64) {
    let mut texts = vec![vec![7; size]; count];
    let mut messages: Vec<Message<'_>> =
        texts.iter_mut().map(|text| Message { nonce: [3; 16], text, iv: [0; 16] }).collect();
    let seal = best_speed(size * count, || key.seal_many(HEADER, black_box(&mut messages)));
    // Opening what does not open takes as long, plus the wipe; so each round opens what was sealed just before,
    // and the sealing is taken off again.
    let both = best_speed(size * count, || {
        key.seal_many(HEADER, black_box(&mut messages));
        let answers = key.open_many(HEADER, black_box(&mut messages));
        assert!(answers.iter().all(Result::is_ok));
    });
    (seal, 1.0 / (1.0 / both - 1.0 / seal))
}

/// Speeds of the `aes-siv` crate, which has one message at a time.
fn plain_crate(key: &[u8; 64], size: usize) -> (f64, f64) {
    let cipher = aes_siv::Aes256SivAead::new(&(*key).into());
    let nonce = [3; 16].into();
    let mut text = vec![7; size];
    let mut tag = Default::default();
    let seal = best_speed(size, || {
        tag = cipher.encrypt_inout_detached(&nonce, HEADER, black_box(&mut text[..]).into()).unwrap();
    });
    let both = best_speed(size, || {
        tag = cipher.encrypt_inout_detached(&nonce, HEADER, black_box(&mut text[..]).into()).unwrap();
        cipher.decrypt_inout_detached(&nonce, HEADER, black_box(&mut text[..]).into(), &tag).unwrap();
    });
    (seal, 1.0 / (1.0 / both - 1.0 / seal))
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
        for (how, (seal, open)) in rows {
            println!("{size:>9} {how:>10} {seal:>10.0} {open:>10.0}");
        }
    }
}
