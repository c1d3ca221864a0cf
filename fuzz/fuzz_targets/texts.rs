//! Fuzzes the parsers of what people and servers write; the first byte chooses one.
#![no_main]

#[path = "../../tests/decoders/entry.rs"]
#[allow(dead_code)]
mod entry;
#[path = "../../tests/decoders/texts.rs"]
mod texts;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    entry::run_one(&texts::TEXTS.map(|(name, parse, _)| (name, parse)), bytes);
});
