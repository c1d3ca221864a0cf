//! Holds `docs/FORMAT.md` to the code: its tables, its limits, the strings that keys are derived with, its vectors.

use super::decoders::entry::{REPOSITORY, seal_by_the_document};
use fastcdc::v2020::{Normalization, get_gear_with_seed, select_masks};
use keepstone::base::ids::to_hex;
use keepstone::base::*;
use keepstone::chunk::{Chunker, Sizes};
use keepstone::crypto::identity::identity_text;
use keepstone::crypto::keys::{Class, ClassKey, RootKey};
use keepstone::crypto::names::{MarkKey, NamingKey, gear_seed};
use keepstone::crypto::padme::padded_length;
use keepstone::crypto::siv::SivKey;
use keepstone::crypto::slots::{Grant, Recipient, Unlock, accept, grant, open_grant_key, open_private, seal_grant_key};
use keepstone::format::cbor::{Bytes, Cbor, Unknown};
use keepstone::format::config::{CHUNKER_FASTCDC, ChunkerConfig, Config, StoreConfig};
use keepstone::format::envelope::KeyWrap;
use keepstone::format::keys::{Guard, GuardKind, Slot, StoredGrant};
use keepstone::format::tree::{Ids, Node, NodeKind};
use keepstone::format::{config, envelope};
use keepstone::parity::Encoder;
use std::fs;
use std::path::{Path, PathBuf};

fn top() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn document() -> String {
    fs::read_to_string(top().join("docs/FORMAT.md")).expect("docs/FORMAT.md is there")
}

/// The source files below a folder of `src`, without their tests.
fn sources(folder: &str) -> Vec<(PathBuf, String)> {
    let mut found = Vec::new();
    let mut folders = vec![top().join("src").join(folder)];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else {
                let text = fs::read_to_string(&path).unwrap();
                let code = text.split("#[cfg(test)]").next().unwrap_or_default().to_owned();
                found.push((path, code));
            }
        }
    }
    found
}

/// What stands between `name! {` at the beginning of a line and its `}`.
fn blocks<'a>(code: &'a str, name: &str) -> Vec<&'a str> {
    let opening = format!("\n{name}! {{\n");
    code.split(&opening).skip(1).map(|rest| rest.split("\n}").next().unwrap_or_default()).collect()
}

/// The name of the structure that a block declares.
fn declared(block: &str) -> &str {
    let line = block.lines().find(|line| line.ends_with('{') && !line.trim_start().starts_with("//"));
    line.expect("a block declares something").trim().trim_end_matches(" {")
}

/// The first two cells of each row in the table under the heading of `name`, without the table's own head.
fn rows(document: &str, name: &str) -> Vec<(String, String)> {
    let heading = format!("\n#### `{name}`\n\n");
    let (_, after) = document.split_once(&heading).unwrap_or_else(|| panic!("docs/FORMAT.md has no table of {name}"));
    let table = after.lines().take_while(|line| line.starts_with('|')).skip(2);
    table
        .map(|line| {
            let mut cells = line.split('|').map(|cell| cell.trim().trim_matches('`').to_owned()).skip(1);
            (cells.next().unwrap(), cells.next().unwrap())
        })
        .collect()
}

/// Pairs of what stands on both sides of `mark` in the lines of a block.
fn pairs(block: &str, mark: &str) -> Vec<(String, String)> {
    let lines = block.lines().map(str::trim).filter(|line| !line.starts_with("//"));
    let split = lines.filter_map(|line| line.trim_end_matches(',').split_once(mark));
    split.map(|(left, right)| (left.to_owned(), right.to_owned())).collect()
}

#[test]
fn every_key_of_every_structure_stands_in_the_document() {
    let document = document();
    let mut structures = 0;
    for (_, code) in sources("format") {
        for block in blocks(&code, "record") {
            let code: Vec<_> = pairs(block, " => ")
                .into_iter()
                .map(|(key, field)| (key, field.split(':').next().unwrap_or_default().trim().to_owned()))
                .collect();
            assert_eq!(rows(&document, declared(block)), code, "{}", declared(block));
            structures += 1;
        }
    }
    assert!(structures >= 25, "{structures} structures found in the code");
}

#[test]
fn every_number_of_every_enumeration_stands_in_the_document() {
    let document = document();
    let mut enumerations = 0;
    for (_, code) in sources("format") {
        for block in blocks(&code, "numbered") {
            let code: Vec<_> = pairs(block, " = ").into_iter().map(|(name, number)| (number, name)).collect();
            assert_eq!(rows(&document, declared(block)), code, "{}", declared(block));
            enumerations += 1;
        }
    }
    assert!(enumerations >= 7, "{enumerations} enumerations found in the code");
}

#[test]
fn every_string_that_keys_hang_on_stands_in_the_document() {
    let document = document();
    let mut strings = 0;
    for (path, code) in ["crypto", "format", "repo"].into_iter().flat_map(sources) {
        for text in code.split('"').filter(|text| text.starts_with("keepstone v1 ") && !text.contains('\n')) {
            // The document writes CLASS and KIND where the code puts them in.
            let text = text.replace("{class}", "CLASS").replace("{kind}", "KIND").replace("{}", "CLASS");
            assert!(document.contains(&format!("\"{text}\"")), "{}: {text:?}", path.display());
            strings += 1;
        }
    }
    assert!(strings >= 18, "{strings} strings found in the code");
}

macro_rules! limits {
    ($($room:ident :: $name:ident),* $(,)?) => {
        [$( (concat!(stringify!($room), "::", stringify!($name)), keepstone::format::$room::$name as u64) ),*]
    };
}

#[test]
fn every_limit_stands_in_the_document() {
    let document = document();
    let limits = limits![
        cbor::MAX_NESTING,
        config::MAX_BYTES,
        config::CHUNKER_FASTCDC,
        container::LEAD_BYTES,
        container::TRAILER_BYTES,
        container::STEP_BYTES,
        container::MAX_DIRECTORY_BYTES,
        damage::MAX_BLOCKS,
        dump::VERSION,
        dump::MAX_MANIFEST_BYTES,
        envelope::HEADER_BYTES,
        envelope::NONCE_BYTES,
        envelope::IV_BYTES,
        envelope::BLOCK_OVERHEAD,
        envelope::ENVELOPE_OVERHEAD,
        envelope::LENGTH_BYTES,
        envelope::MAX_WRAP_BYTES,
        keys::MAX_SLOT_BYTES,
        keys::MAX_EPOCH_BYTES,
        keys::MAX_LABEL_BYTES,
        keys::MAX_CLIENT_EPOCHS,
        keys::SEALED_PRIVATE_BYTES,
        keys::SEALED_KEY_BYTES,
        ledger::PREFIX_BYTES,
        ledger::MAX_COVERED,
        pack::MAX_FRAME_RAW_BYTES,
        pack::MAX_BLOCK_BYTES,
        pack::MAX_BLOBS,
        pack::MAX_CHAIN_DEPTH,
        pack::MAX_BASES,
        pack::MAX_CHAIN_BYTES,
        parity::CELL_BYTES,
        parity::HASH_BYTES,
        parity::PAGE_HEAD_BYTES,
        parity::PAGE_SUM_BYTES,
        parity::PAGE_HASHES,
        parity::MAX_GROUP_CELLS,
        parity::MAX_GROUP_RECOVERY,
        parity::MIN_GROUP_RECOVERY,
        parity::MAX_PACK_BYTES,
        run::MAX_PHASES,
        run::MAX_PREVIOUS,
        run::MAX_PROBLEMS,
        run::MAX_TABLES,
        segment::MAX_PAGE_BYTES,
        segment::MAX_LEVEL,
        session::MAX_CONDEMNED,
        snapshot::MAX_PROBLEMS,
        snapshot::MAX_IMPORTED,
        snapshot::MAX_IMPORTED_TABLES,
        snapshot::MAX_TABLES_OF_ONE,
        tree::INLINE_BYTES,
        tree::NODE_CHUNKS,
        tree::MAX_NAME_BYTES,
        tree::MAX_LEVEL,
        tree::MAX_PIECE_BYTES,
        tree::MAX_PIECE_ITEMS,
    ];
    for (name, value) in limits {
        let row = format!("\n| `{name}` | {value} |");
        assert!(document.contains(&row), "docs/FORMAT.md lacks {row}");
    }
    for (path, code) in sources("format") {
        let room = path.file_stem().unwrap().to_str().unwrap();
        for line in code.lines().filter_map(|line| line.strip_prefix("pub const ")) {
            let name = format!("{room}::{}", line.split(':').next().unwrap_or_default());
            let elsewhere =
                ["mod::VERSION", "mod::MAGIC", "tree::HOLE", "dump::MANIFEST_NAME"].contains(&name.as_str());
            assert!(elsewhere || limits.iter().any(|(known, _)| *known == name), "{name} is in no table");
        }
    }
}

fn class(class: Class, byte: u8) -> ClassKey {
    ClassKey::new(class, Secret::new([byte; 32]))
}

fn sample_root() -> RootKey {
    RootKey::from_bytes(Secret::new([1; 32]))
}

fn fingerprint(key: &SivKey) -> String {
    to_hex(&key.seal_in_place(&[], &mut []))
}

/// A key as the document derives it, without the code that the program uses.
fn derived_by_the_document(context: &str, material: &[u8]) -> SivKey {
    let mut key = [0; 64];
    blake3::Hasher::new_derive_key(context).update(material).finalize_xof().fill(&mut key);
    SivKey::new(&key)
}

fn sample_config() -> Config {
    let none = Unknown::none;
    Config {
        repository: REPOSITORY,
        created_ns: 7,
        chunker: ChunkerConfig {
            id: CHUNKER_FASTCDC,
            min_bytes: 65_536,
            average_bytes: 262_144,
            max_bytes: 1_048_576,
            unknown: none(),
        },
        reader_features: Vec::new(),
        writer_features: vec!["write-only-clients".into()],
        store: StoreConfig {
            put_if_absent: true,
            list_after_write: true,
            range_reads: true,
            skew_ms: Some(-250),
            unknown: none(),
        },
        revision: 1,
        parity: None,
        unknown: none(),
    }
}

fn sample_node() -> Node {
    Node {
        name: Bytes(b"hello".to_vec()),
        kind: NodeKind::File,
        mode: 0o644,
        uid: 1000,
        gid: 1000,
        mtime_ns: 1_000_000_000,
        ctime_after_ns: 1,
        size: 5,
        inode: 12,
        device: 34,
        links: None,
        target: Bytes::default(),
        rdev: None,
        xattrs: Vec::new(),
        changed: false,
        inline: Bytes(b"world".to_vec()),
        chunks: Ids::default(),
        lengths: Vec::new(),
        list: None,
        tree: None,
        unknown: Unknown::none(),
    }
}

fn sample_stream() -> Vec<u8> {
    let mut stream = vec![0; 3_000_001];
    blake3::Hasher::new().update(b"keepstone").finalize_xof().fill(&mut stream);
    stream
}

/// `content` with its length, padded so that the envelope has a Padmé length, sealed by hand.
fn sample_envelope() -> Vec<u8> {
    let key = class(Class::Metadata, 2);
    let padded = padded_length(24 + 16 + 16 + 4 + 7) as usize - 24 - 16 - 16;
    let mut plaintext = b"\x07\0\0\0content".to_vec();
    plaintext.resize(padded, 0);
    let object = seal_by_the_document(key.id(), &key.sub_key(9), [7; 16], &plaintext);
    let header = envelope::peek(&object, envelope::ObjectKind::Snapshot).unwrap();
    let opened = envelope::open(object.clone(), &header, REPOSITORY, &key.sub_key(9)).unwrap();
    assert_eq!(opened, b"content", "what the document seals, the program opens");
    object
}

/// A block under the key 02… of its class, whose associated header goes on with `more`, sealed by hand.
fn sample_block(of: Class, kind: u8, more: &[u8], plaintext: &[u8]) -> Vec<u8> {
    let (key, nonce) = (class(of, 2), [7; 16]);
    let header = [b"KEEP\x01\x00".as_slice(), &[kind, 0], &key.id().0, &REPOSITORY.0, more].concat();
    let mut text = plaintext.to_vec();
    let iv = key.sub_key(kind).seal_in_place(&[&header, &nonce], &mut text);
    [&nonce[..], &iv, &text].concat()
}

fn key_vectors() -> Vec<(&'static str, String)> {
    let root = sample_root();
    let (data, metadata, dedup) = (class(Class::Data, 2), class(Class::Metadata, 2), class(Class::Dedup, 5));
    vec![
        ("root key 01…: id", root.key_id().to_string()),
        ("root key 01…: proof of the bytes `config`", to_hex(&root.config_proof(b"config"))),
        ("root key 01…: fingerprint of the wrapping key of index", fingerprint(&root.wrap_key(Class::Index))),
        ("root key 01…: fingerprint of the epoch key", fingerprint(&root.epoch_key())),
        ("data key 02…: id", data.id().to_string()),
        ("data key 02…: recipient's public key", to_hex(&data.recipient_public())),
        ("data key 02…: fingerprint of the seal key of kind 4", fingerprint(&data.sub_key(4))),
        ("metadata key 02…: fingerprint of the seal key of kind 9", fingerprint(&metadata.sub_key(9))),
        ("dedup key 05…: id of the blob `bytes`", NamingKey::of(&dedup).blob_id(b"bytes").to_string()),
        ("dedup key 05…: mark of 64 bytes 01", MarkKey::of(&dedup).mark(&[1; 64]).to_string()),
        (
            "dedup key 05…: mark of a stream, kind `file`, name `a12`",
            MarkKey::of(&dedup).stream_mark("file", b"a12").to_string(),
        ),
        ("dedup key 05…: gear seed", format!("{:016x}", gear_seed(&dedup))),
    ]
}

fn slot_vectors() -> Vec<(&'static str, String)> {
    let recipient = Recipient::of(&Secret::new([8; 32]));
    let params = argon2::Params::new(8, 1, 1, Some(64)).unwrap();
    let argon2 = argon2::Argon2::new(argon2::Algorithm::Argon2id, argon2::Version::V0x13, params);
    let mut stretched = [0; 64];
    argon2.hash_password_into(b"passphrase", &[7; 16], &mut stretched).unwrap();
    let material = blake3::derive_key("keepstone v1 key file content", b"sixteen bytes of secret");
    vec![
        (
            "passphrase `passphrase`, salt 07…, 8 KiB, 1 pass, 1 lane: fingerprint of G",
            fingerprint(&SivKey::new(&stretched)),
        ),
        (
            "key file `sixteen bytes of secret`: fingerprint of G",
            fingerprint(&derived_by_the_document("keepstone v1 key file", &material)),
        ),
        ("key line of 05…: fingerprint of G", fingerprint(&derived_by_the_document("keepstone v1 key file", &[5; 32]))),
        ("key line of 05…: check", to_hex(&blake3::derive_key("keepstone v1 key file check", &[5; 32])[..4])),
        ("identity 08…: public key", to_hex(&recipient.public)),
        ("identity 08…: text", identity_text(&Secret::new([8; 32])).expose().clone()),
        ("identity 08…: recipient", recipient.to_string()),
    ]
}

fn object_vectors() -> Vec<(&'static str, String)> {
    let root = sample_root();
    let lengths = [1, 9, 17, 100, 1000, 70_000, 33_554_433];
    let padded: Vec<String> = lengths.iter().map(|length| format!("{length}→{}", padded_length(*length))).collect();
    vec![
        ("Padmé", padded.join(" ")),
        ("config", to_hex(&config::encode(&sample_config(), &root))),
        ("envelope", to_hex(&sample_envelope())),
        ("block", to_hex(&sample_block(Class::Data, 4, &[], b"content"))),
        ("page", to_hex(&sample_block(Class::Index, 7, &[&[3; 32][..], &258u32.to_le_bytes()].concat(), &[0x80]))),
        ("node", to_hex(&sample_node().to_cbor())),
    ]
}

fn chunk_vectors() -> Vec<(&'static str, String)> {
    let seed = gear_seed(&class(Class::Dedup, 5));
    let (gear, _) = get_gear_with_seed(0);
    let stream = sample_stream();
    let lengths: Vec<String> =
        Chunker::new(Sizes::V1, seed).cuts(&stream).map(|piece| piece.data.len().to_string()).collect();
    vec![
        ("published gear entries 0, 1, 255", format!("{:016x} {:016x} {:016x}", gear[0], gear[1], gear[255])),
        ("chunks with the gear seed above", lengths.join(" ")),
    ]
}

fn vectors() -> String {
    let all = [key_vectors(), slot_vectors(), object_vectors(), chunk_vectors()].concat();
    all.iter().map(|(name, value)| format!("{name} = {value}\n")).collect()
}

#[test]
fn the_vectors_in_the_document_are_what_the_program_computes() {
    let document = document();
    let (_, after) = document.split_once("\n```vectors\n").expect("docs/FORMAT.md has a block of vectors");
    let written = after.split("```").next().unwrap_or_default();
    let computed = vectors();
    assert!(written == computed, "the vectors should be\n{computed}");
}

#[test]
fn keys_derived_by_the_document_are_the_program_s() {
    let root = sample_root();
    let by_the_document = |context: &str, byte: u8| fingerprint(&derived_by_the_document(context, &[byte; 32]));
    assert_eq!(by_the_document("keepstone v1 epoch", 1), fingerprint(&root.epoch_key()));
    for (name, key) in
        [("dedup", Class::Dedup), ("index", Class::Index), ("metadata", Class::Metadata), ("data", Class::Data)]
    {
        assert_eq!(by_the_document(&format!("keepstone v1 wrap {name}"), 1), fingerprint(&root.wrap_key(key)));
        for kind in [1, 4, 19] {
            let context = format!("keepstone v1 {name} object {kind}");
            assert_eq!(by_the_document(&context, 2), fingerprint(&class(key, 2).sub_key(kind)));
        }
    }
    let dedup = class(Class::Dedup, 5);
    let naming = blake3::derive_key("keepstone v1 blob names", &[5; 32]);
    assert_eq!(NamingKey::of(&dedup).blob_id(b"x").0, *blake3::keyed_hash(&naming, b"x").as_bytes());
    let streams = blake3::derive_key("keepstone v1 stream marks", &[5; 32]);
    let mark = blake3::keyed_hash(&streams, b"\x04\0\0\0\0\0\0\0filea0");
    assert_eq!(MarkKey::of(&dedup).stream_mark("file", b"a12").0, mark.as_bytes()[..8]);
}

/// Section 14's chunker, word for word.
fn first_chunk(data: &[u8], gear: &[u64], [min, average, max]: [usize; 3], [strict, relaxed]: [u64; 2]) -> usize {
    let n = data.len().min(max);
    if n <= min {
        return n;
    }
    let mut h = 0u64;
    let mut hashes = Vec::new();
    for i in min..n / 2 * 2 {
        h = (h << 1).wrapping_add(gear[usize::from(data[i])]);
        let mask = if i < average { strict } else { relaxed };
        if h & mask == 0 {
            return i;
        }
        hashes.push(h);
    }
    if n < max || hashes[average - min..].iter().all(|h| *h == hashes[average - min]) {
        return n;
    }
    (average..max).rev().min_by_key(|i| hashes[i - min]).unwrap()
}

#[test]
fn a_chunker_made_from_the_document_cuts_where_the_program_does() {
    let random = &sample_stream()[..1_000_001];
    // Rows of which few places differ, which leave many chunks without a cut, and bytes that are all alike.
    let rows: Vec<u8> = (0..20_000).flat_map(|row| format!("{:<99}\n", row * 7919 % 1000).into_bytes()).collect();
    let seed = 0x456c_a184_8501_c2b1;
    let (gear, _) = get_gear_with_seed(seed);
    let (mut by_content, mut by_force) = (0, 0);
    for sizes in [[4096, 8192, 16_384], [4096, 16_384, 65_536], [65_536, 262_144, 1_048_576]] {
        let [min, average, max] = sizes;
        let masks: [u64; 2] = select_masks(average, Normalization::Level1).into();
        let chunker = Chunker::new(Sizes::new(min as u64, average as u64, max as u64).unwrap(), seed);
        for mut rest in [random, &rows, &[0; 2_000_000]] {
            while !rest.is_empty() {
                let cut = chunker.cut(rest, true).unwrap();
                assert_eq!(first_chunk(rest, &gear, sizes, masks), cut.length, "{} left", rest.len());
                by_content += usize::from(!cut.forced);
                by_force += usize::from(cut.forced);
                rest = &rest[cut.length..];
            }
        }
    }
    assert!(by_content > 100 && by_force > 100, "{by_content} and {by_force}");
}

#[test]
fn the_masks_in_the_document_are_the_chunker_s() {
    let document = document();
    for (name, average) in [("4 KiB", 8192), ("128 KiB", 1 << 18), ("2 MiB", 1 << 22)] {
        let (_, relaxed) = select_masks(average, Normalization::Level1);
        assert!(document.contains(&format!("{name} {relaxed:x}")), "{name} {relaxed:x}");
    }
    for (name, average) in [("16 KiB", 8192), ("512 KiB", 1 << 18), ("8 MiB", 1 << 22)] {
        let (strict, _) = select_masks(average, Normalization::Level1);
        assert!(document.contains(&format!("{name} {strict:x}")), "{name} {strict:x}");
    }
}

/// Numbers of 16 bits in coordinates of the basis that section 8 names.
struct Field {
    /// What each coordinate vector stands for, and back.
    element: Vec<u16>,
    coordinates: Vec<u16>,
}

impl Field {
    const BASIS: [u16; 16] = [
        0x0001, 0xacca, 0x3c0e, 0x163e, 0xc582, 0xed2e, 0x914c, 0x4012, 0x6c98, 0x10d8, 0x6a72, 0xb900, 0xfdb8, 0xfb34,
        0xff38, 0x991e,
    ];

    fn new() -> Field {
        let of = |x: u32| (0..16).filter(|bit| x >> bit & 1 == 1).fold(0, |sum, bit| sum ^ Field::BASIS[bit]);
        let element: Vec<u16> = (0..1 << 16).map(of).collect();
        let mut coordinates = vec![0; 1 << 16];
        element.iter().enumerate().for_each(|(x, element)| coordinates[usize::from(*element)] = x as u16);
        Field { element, coordinates }
    }

    fn times(&self, x: u16, y: u16) -> u16 {
        let (mut a, mut b) = (u32::from(self.element[usize::from(x)]), self.element[usize::from(y)]);
        let mut product = 0;
        while b != 0 {
            product ^= if b & 1 == 1 { a } else { 0 };
            a = if a & 0x8000 != 0 { (a << 1) ^ 0x1_002d } else { a << 1 };
            b >>= 1;
        }
        self.coordinates[product as usize]
    }

    fn inverse(&self, x: u16) -> u16 {
        // x^(2^16 - 2), by squaring.
        let one = self.coordinates[1];
        (1..16)
            .fold((one, x), |(product, power), _| {
                let power = self.times(power, power);
                (self.times(product, power), power)
            })
            .0
    }

    /// The recovery cells of section 8: sums of polynomials through runs of originals.
    fn recovery(&self, originals: &[u16], count: usize) -> Vec<u16> {
        let m = count.next_power_of_two();
        let value = |at: u16| {
            let runs = originals.chunks(m).enumerate().map(|(run, values)| {
                let point = |t: usize| ((run + 1) * m + t) as u16;
                let terms = values.iter().enumerate().map(|(t, value)| {
                    (0..m).filter(|other| *other != t).fold(*value, |term, other| {
                        let below = self.inverse(point(t) ^ point(other));
                        self.times(term, self.times(at ^ point(other), below))
                    })
                });
                terms.fold(0, |sum, term| sum ^ term)
            });
            runs.fold(0, |sum, value| sum ^ value)
        };
        (0..count as u16).map(value).collect()
    }
}

#[test]
fn recovery_cells_are_what_the_document_says() {
    let field = Field::new();
    assert_eq!(field.times(field.coordinates[1], 77), 77);
    for (count, recovery) in [(1, 2), (3, 2), (5, 3), (20, 4), (37, 9)] {
        let cell = |number: usize| (0..64).map(|at| (number * 91 + at * 37 + number * at) as u8).collect::<Vec<u8>>();
        let cells: Vec<Vec<u8>> = (0..count).map(cell).collect();
        let mut encoder = Encoder::new(count, recovery, 64).unwrap();
        cells.iter().for_each(|cell| encoder.add(cell).unwrap());
        let mut made: Vec<Vec<u8>> = Vec::new();
        encoder.finish(&mut |cell| made.push(cell.to_vec())).unwrap();
        // The first and the last number of the 64 bytes.
        for at in [0, 31] {
            let number = |cell: &Vec<u8>| u16::from_le_bytes([cell[at], cell[at + 32]]);
            let originals: Vec<u16> = cells.iter().map(number).collect();
            let expected = field.recovery(&originals, recovery);
            assert_eq!(made.iter().map(number).collect::<Vec<_>>(), expected, "{count} {recovery}");
        }
    }
}

/// The value of a vector that is not computed here, because its making takes random numbers.
fn written(name: &str) -> Vec<u8> {
    let document = document();
    let line = document.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(" = "));
    ids::from_hex(line.expect("the document has the vector")).expect("hexadecimal digits")
}

#[test]
fn the_slot_in_the_document_grants_its_root_key() {
    let (slot, root) = Slot::decode(&written("slot")).unwrap();
    let identity = Secret::new([8; 32]);
    let private = open_private(&Recipient::of(&identity).slot(), &Unlock::Identity(identity)).unwrap();
    let stored = slot.grant.clone().unwrap();
    let grant = Grant { enc: stored.encapsulated, sealed: stored.sealed.0 };
    let accepted = accept(&private, &grant, &REPOSITORY, &slot.associated(root)).unwrap();
    assert_eq!((accepted.key_id(), root), (sample_root().key_id(), sample_root().key_id()));
    open_grant_key(&accepted, &REPOSITORY, &slot.public, &slot.psk_under_root.0).unwrap();
}

#[test]
fn the_wrap_in_the_document_holds_its_session_key() {
    let recipient = class(Class::Data, 2);
    let wrap = KeyWrap::from_cbor(&written("wrap"), "key wrap").unwrap();
    assert_eq!(wrap.recipient, recipient.id());
    let session = recipient.unwrap_session_key(&wrap.wrapped.0, &REPOSITORY.0).unwrap();
    assert_eq!((session.class(), session.id()), (Class::Data, class(Class::Data, 9).id()));
}

/// Prints a new slot for the document: `cargo test --test all another_slot -- --ignored --nocapture`.
#[test]
#[ignore = "a measurement: prints a new vector for the document"]
fn another_slot_for_the_document() {
    let recipient = Recipient::of(&Secret::new([8; 32]));
    let root = sample_root();
    let none = Unknown::none;
    let guard = Guard {
        kind: GuardKind::Recipient,
        salt: Bytes::default(),
        memory_kib: None,
        passes: None,
        lanes: None,
        sealed: Bytes::default(),
        unknown: none(),
    };
    let psk = seal_grant_key(&root, &REPOSITORY, &recipient.public, &Secret::new([11; 32]));
    let mut slot = Slot {
        id: SlotId([6; 16]),
        created_ns: 7,
        label: "recovery".into(),
        public: recipient.public,
        guard,
        psk_under_root: Bytes(psk),
        grant: None,
        proven_ns: 0,
        replaces: None,
        access: None,
        unknown: none(),
    };
    let associated = slot.associated(root.key_id());
    let made = grant(&recipient.public, None, &REPOSITORY, &associated, &root).unwrap();
    slot.grant = Some(StoredGrant { encapsulated: made.enc, sealed: Bytes(made.sealed), unknown: none() });
    println!("slot = {}", to_hex(&slot.encode(root.key_id())));
}
