//! Fuzzes the decoders of whole objects with their headers; the first byte chooses one.
#![no_main]

#[path = "../../tests/decoders/entry.rs"]
#[allow(dead_code)]
mod entry;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| entry::run_one(&entry::OBJECTS, bytes));
