//! Fuzzes the decoders of structures that stand alone; the first byte chooses one.
#![no_main]

#[path = "../../tests/decoders/entry.rs"]
#[allow(dead_code)]
mod entry;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| entry::run_one(&entry::RECORDS, bytes));
