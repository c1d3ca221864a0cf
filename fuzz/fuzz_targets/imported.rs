//! Fuzzes the inspector of files that already are dumps; the first byte chooses the name that the file has.
#![no_main]

#[path = "../../tests/decoders/entry.rs"]
#[allow(dead_code)]
mod entry;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| entry::run_one(&entry::IMPORTED, bytes));
