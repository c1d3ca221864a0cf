//! Fuzzes parity sidecars and what repair makes of them; the first byte chooses a page or a pack with its sidecar.
#![no_main]

#[path = "../../tests/decoders/entry.rs"]
#[allow(dead_code)]
mod entry;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| entry::run_one(&entry::SIDECARS, bytes));
