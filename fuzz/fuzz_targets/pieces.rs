//! Fuzzes the decoders of pieces of directories and of content lists; the first byte chooses one.
#![no_main]

#[path = "../../tests/decoders/entry.rs"]
#[allow(dead_code)]
mod entry;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| entry::run_one(&entry::PIECES, bytes));
