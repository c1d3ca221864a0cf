//! Every decoder against bytes that nobody meant: never a panic, never more memory than the input justifies, and
//! what is read is written back the same. Bounded and reproducible; `fuzz/` runs the same decoders without bounds.

#[path = "decoders/entry.rs"]
pub mod entry;
#[path = "decoders/samples.rs"]
mod samples;
#[path = "decoders/texts.rs"]
mod texts;

use entry::{Outcome, all, check};
use keepstone::base::random::Lot;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

/// Cases for all decoders together; more when asked for.
fn cases() -> u64 {
    if std::env::var_os("KEEPSTONE_LONG").is_some() { 5_000_000 } else { 20_000 }
}

/// Numbers that depend on the seed alone, on every machine.
struct Chance(Lot);

impl Chance {
    fn of(seed: u64) -> Chance {
        Chance(Lot::of(seed))
    }

    fn next(&mut self) -> u64 {
        self.0.draw()
    }

    fn below(&mut self, limit: usize) -> usize {
        (self.next() % limit.max(1) as u64) as usize
    }

    fn bytes(&mut self, most: usize) -> Vec<u8> {
        (0..self.below(most + 1)).map(|_| self.next() as u8).collect()
    }
}

/// Heads of CBOR items that announce more than there is, and small items of every type.
const NASTY: [&[u8]; 16] = [
    &[0x9b, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff],
    &[0xbb, 0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff],
    &[0x5b, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff],
    &[0x7a, 0xff, 0xff, 0xff, 0xff],
    &[0x9a, 0x00, 0xff, 0xff, 0xff],
    &[0x1b, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff],
    &[0x3b, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff],
    &[0x3b, 0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff],
    &[0x1a, 0xff, 0xff, 0xff, 0xff],
    &[0x9f],
    &[0xbf],
    &[0xff],
    &[0xf6],
    &[0xf9, 0x00, 0x00],
    &[0x40],
    &[0x80],
];

fn mutate(chance: &mut Chance, bytes: &mut Vec<u8>, other: &[u8]) {
    for _ in 0..=chance.below(4) {
        let place = chance.below(bytes.len());
        match chance.below(7) {
            0 if !bytes.is_empty() => bytes[place] ^= 1 << chance.below(8),
            1 if !bytes.is_empty() => bytes[place] = chance.next() as u8,
            2 => bytes.truncate(place),
            3 => splice(bytes, place, chance.below(4), NASTY[chance.below(NASTY.len())]),
            4 => {
                let from = chance.below(other.len());
                let to = from + chance.below(other.len() - from);
                splice(bytes, place, chance.below(40), &other[from..to]);
            }
            5 => splice(bytes, place, chance.below(9), &[]),
            _ => {
                let new = chance.bytes(9);
                splice(bytes, place, 0, &new);
            }
        }
    }
}

fn splice(bytes: &mut Vec<u8>, place: usize, removed: usize, new: &[u8]) {
    let end = (place + removed).min(bytes.len());
    bytes.splice(place.min(end)..end, new.iter().copied());
}

#[test]
fn every_sample_is_read_and_written_back_the_same() {
    samples::check_places();
    for (name, decode) in all() {
        for sample in samples::of(name) {
            assert_ne!(check(name, decode, &sample), Outcome::Refused, "{name}");
        }
    }
}

#[test]
fn no_bytes_make_a_decoder_panic_or_read_what_it_would_not_write() {
    let decoders: Vec<_> = all().collect();
    let samples: Vec<Vec<Vec<u8>>> = decoders.iter().map(|(name, _)| samples::of(name)).collect();
    let mut read = 0;
    for seed in 0..cases() {
        let mut chance = Chance::of(seed);
        let place = (seed % decoders.len() as u64) as usize;
        let (name, decode) = decoders[place];
        let (own, others) = (&samples[place], &samples[chance.below(samples.len())]);
        let mut bytes = match chance.below(8) {
            0 => chance.bytes(200),
            _ => own[chance.below(own.len())].clone(),
        };
        mutate(&mut chance, &mut bytes, &others[0]);
        let outcome = catch_unwind(AssertUnwindSafe(|| check(name, decode, &bytes)));
        let outcome = outcome.unwrap_or_else(|_| panic!("{name} with seed {seed}: {bytes:02x?}"));
        read += u64::from(matches!(outcome, Outcome::Read(_)));
    }
    assert!(read * 100 > cases(), "mutations are gentle enough that {read} of {} are still read", cases());
}

#[test]
fn no_text_makes_a_parser_panic_or_say_what_it_does_not_read() {
    let all =
        texts::TEXTS.iter().flat_map(|(name, parse, samples)| samples.iter().map(move |text| (name, parse, text)));
    let refused: Vec<_> = all.filter(|(_, parse, text)| parse(text.as_bytes()) != Outcome::Accepted).collect();
    assert!(refused.is_empty(), "{:?}", refused.iter().map(|(name, _, text)| (name, text)).collect::<Vec<_>>());
    let mut read = 0;
    for seed in 0..cases() {
        let mut chance = Chance::of(seed);
        let (name, parse, samples) = texts::TEXTS[(seed % texts::TEXTS.len() as u64) as usize];
        let (_, _, others) = texts::TEXTS[chance.below(texts::TEXTS.len())];
        let mut bytes = samples[chance.below(samples.len())].as_bytes().to_vec();
        let other = others[chance.below(others.len())];
        mutate(&mut chance, &mut bytes, other.as_bytes());
        let outcome = catch_unwind(AssertUnwindSafe(|| parse(&bytes)));
        let outcome =
            outcome.unwrap_or_else(|_| panic!("{name} with seed {seed}: {:?}", bytes.escape_ascii().to_string()));
        read += u64::from(outcome == Outcome::Accepted);
    }
    assert!(read * 50 > cases(), "mutations are gentle enough that {read} of {} are still read", cases());
}

/// What the fuzz targets begin with, a folder for each: `KEEPSTONE_CORPUS=fuzz/corpus` keeps it.
#[test]
fn the_samples_are_a_corpus_for_every_fuzz_target() {
    let scratch = tempfile::tempdir().unwrap();
    let top = std::env::var_os("KEEPSTONE_CORPUS").map_or_else(|| scratch.path().to_owned(), Into::into);
    let format = |decoders: &[(&'static str, entry::Decoder)]| -> Vec<(entry::Decoder, Vec<Vec<u8>>)> {
        decoders.iter().map(|(name, decode)| (*decode, samples::of(name))).collect()
    };
    let texts =
        texts::TEXTS.iter().map(|(_, parse, texts)| (*parse, texts.iter().map(|text| text.as_bytes().to_vec())));
    let corpora = [
        ("records", format(&entry::RECORDS)),
        ("pieces", format(&entry::PIECES)),
        ("places", format(&entry::PLACES)),
        ("objects", format(&entry::OBJECTS)),
        ("imported", entry::IMPORTED.iter().map(|(_, inspect)| (*inspect, samples::dumps())).collect()),
        ("texts", texts.map(|(parse, texts)| (parse, texts.collect())).collect()),
    ];
    for (target, decoders) in corpora {
        std::fs::create_dir_all(top.join(target)).unwrap();
        for (place, (decode, samples)) in decoders.into_iter().enumerate() {
            for (number, sample) in samples.into_iter().enumerate() {
                assert_ne!(decode(&sample), Outcome::Refused, "{target}: {place} refuses its sample {number}");
                // The first byte says which decoder gets the rest.
                let input = [&[place as u8][..], &sample].concat();
                std::fs::write(top.join(target).join(format!("{place:02}-{number:02}")), input).unwrap();
            }
        }
    }
}

#[test]
fn no_file_makes_the_inspector_of_dumps_panic_or_say_two_things() {
    let samples = samples::dumps();
    for (_, inspect) in entry::IMPORTED {
        samples.iter().for_each(|sample| drop(inspect(sample)));
    }
    for seed in 0..cases() / 5 {
        let mut chance = Chance::of(seed);
        let (name, inspect) = entry::IMPORTED[chance.below(entry::IMPORTED.len())];
        let mut bytes = samples[chance.below(samples.len())].clone();
        let other = &samples[chance.below(samples.len())];
        mutate(&mut chance, &mut bytes, other);
        let outcome = catch_unwind(AssertUnwindSafe(|| inspect(&bytes)));
        outcome.unwrap_or_else(|_| panic!("{name} with seed {seed}: {bytes:02x?}"));
    }
}

#[test]
fn no_sidecar_makes_repair_panic_or_gives_other_bytes() {
    let mut accepted = 0;
    for seed in 0..cases() / 40 {
        let mut chance = Chance::of(seed);
        let (name, decode) = entry::SIDECARS[usize::from(seed % 4 != 0)];
        let bytes = match name {
            "summed page" => {
                let mut bytes = samples::of("page of a sidecar").remove(0);
                mutate(&mut chance, &mut bytes, &[0; 64]);
                bytes
            }
            // A sidecar has its pages first; most changes go there.
            _ => (0..1 + chance.below(6))
                .flat_map(|_| [0, chance.next() as u8 & 0x1f, chance.next() as u8, 1 << chance.below(8)])
                .collect(),
        };
        let outcome = catch_unwind(AssertUnwindSafe(|| decode(&bytes)));
        let outcome = outcome.unwrap_or_else(|_| panic!("{name} with seed {seed}: {bytes:02x?}"));
        accepted += u64::from(outcome == Outcome::Accepted);
    }
    assert!(accepted * 10 > cases() / 40, "only {accepted} were any good");
}

#[test]
fn a_truncated_encoding_is_refused_at_every_length() {
    for (name, decode) in all().filter(|(name, _)| *name != "trailer" && *name != "envelope's plaintext") {
        for sample in samples::of(name) {
            for length in 0..sample.len() {
                assert_eq!(decode(&sample[..length]), Outcome::Refused, "{name} cut to {length} bytes");
            }
        }
    }
}

#[test]
fn a_sealed_or_proven_object_is_refused_when_any_bit_of_it_changes() {
    let decode = entry::OBJECTS.iter().find(|(name, _)| *name == "envelope").expect("it is in the list").1;
    for sample in samples::of("envelope") {
        for bit in 0..sample.len() * 8 {
            let mut altered = sample.clone();
            altered[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(decode(&altered), Outcome::Refused, "bit {bit}");
        }
    }
}

#[test]
fn announced_lengths_cost_nothing_until_their_bytes_are_there() {
    let begun = Instant::now();
    for (name, decode) in all() {
        for nasty in NASTY {
            for key in 0..24 {
                // A map of one pair; a list of lists; deep nesting of the announcement in itself.
                let one = [&[0xa1, key], nasty].concat();
                assert!(!matches!(decode(&one), Outcome::Read(_)), "{name}: {one:02x?}");
                let _ = decode(&nasty.repeat(1000));
            }
        }
        let _ = decode(&[0x81; 1 << 16]);
        let _ = decode(&[&[0xa1, 0x18, 60][..], &[0x81; 1 << 16]].concat());
    }
    assert!(begun.elapsed() < Duration::from_secs(60), "took {:?}", begun.elapsed());
}

#[test]
fn what_is_read_takes_memory_in_proportion_to_its_bytes() {
    use keepstone::format::tree::{MAX_PIECE_BYTES, Node};
    // The worst a byte can do is to be part of a node of nothing: 21 bytes, and 3 of name where there are so many.
    let smallest = 24;
    let worst = MAX_PIECE_BYTES / smallest * size_of::<Node>();
    assert!(worst < 96 << 20, "a hostile piece takes {worst} bytes");
}

#[test]
fn the_first_byte_chooses_the_decoder_in_the_fuzz_targets() {
    for (choice, (name, _)) in entry::RECORDS.iter().enumerate() {
        for sample in samples::of(name) {
            entry::run_one(&entry::RECORDS, &[&[choice as u8], &sample[..]].concat());
        }
    }
    entry::run_one(&entry::RECORDS, &[]);
}
