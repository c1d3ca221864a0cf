//! Every decoder of the format behind one kind of function: bytes in, what became of them out. Shared by the bounded
//! cases of `tests/decoders.rs` and by the targets in `fuzz/`.

use keepstone::base::{KeyId, PackId, RepositoryId, Secret};
use keepstone::crypto::keys::{Class, ClassKey};
use keepstone::crypto::names::hash;
use keepstone::crypto::siv::SivKey;
use keepstone::format::cbor::Cbor;
use keepstone::format::container::{TRAILER_BYTES, find_directory};
use keepstone::format::damage::DamageRecord;
use keepstone::format::envelope::{self, ObjectKind};
use keepstone::format::keys::{Credential, Epoch, Slot};
use keepstone::format::ledger::Ledger;
use keepstone::format::pack::Directory;
use keepstone::format::parity::{CELL_BYTES, PAGE_HASHES, PAGE_SUM_BYTES, Page, Shape, max_sidecar_bytes};
use keepstone::format::run::{History, Run};
use keepstone::format::segment::{Entry, FrameRow, Head, PackRow};
use keepstone::format::session::{Condemned, End, Seen, Session};
use keepstone::format::snapshot::{Snapshot, Tombstone};
use keepstone::format::tree::{ListPiece, TreePiece};
use keepstone::format::{Error, config};
use keepstone::repo::parity;
use keepstone::source::imported::{Inspector, State};
use keepstone::store::{Area, Key, Memory, ObjectStore};

/// What became of some bytes.
#[derive(Debug, PartialEq)]
pub enum Outcome {
    /// An error, as befits them.
    Refused,
    /// They mean something; these are the bytes that say the same.
    Read(Vec<u8>),
    /// They mean something that is not written back.
    Accepted,
}

/// A decoder.
pub type Decoder = fn(&[u8]) -> Outcome;

/// The structures of the format.
pub const RECORDS: [(&str, Decoder); 15] = [
    ("config structure", structure::<config::Config>),
    ("slot structure", structure::<Slot>),
    ("epoch", structure::<Epoch>),
    ("credential", structure::<Credential>),
    ("snapshot", structure::<Snapshot>),
    ("tombstone", structure::<Tombstone>),
    ("session", structure::<Session>),
    ("seen", structure::<Seen>),
    ("end", structure::<End>),
    ("condemned", structure::<Condemned>),
    ("run", structure::<Run>),
    ("ledger", structure::<Ledger>),
    ("history", structure::<History>),
    ("key wrap", structure::<envelope::KeyWrap>),
    ("damage record", structure::<DamageRecord>),
];

/// Pieces of directories and of lists.
pub const PIECES: [(&str, Decoder); 2] = [("tree piece", tree_piece), ("list piece", list_piece)];

/// Places: directories of packs, heads and pages of segments, trailers.
pub const PLACES: [(&str, Decoder); 6] = [
    ("directory", directory),
    ("head", head),
    ("pack rows", structure::<Vec<PackRow>>),
    ("frame rows", structure::<Vec<FrameRow>>),
    ("entry rows", structure::<Vec<Entry>>),
    ("trailer", trailer),
];

/// Whole objects with their headers.
pub const OBJECTS: [(&str, Decoder); 5] = [
    ("config", config_object),
    ("slot", slot),
    ("envelope", sealed),
    ("envelope's plaintext", plaintext),
    ("page of a sidecar", page),
];

/// Parity sidecars, as somebody could write them who knows how their sums are made; nothing is written back.
pub const SIDECARS: [(&str, Decoder); 2] = [("summed page", summed_page), ("sidecar and pack", sidecar_and_pack)];

/// Files that may be dumps: nothing is written back, and nothing is refused.
pub const IMPORTED: [(&str, Decoder); 5] = [
    ("imported dump", |bytes| imported("shop.dump", bytes)),
    ("imported file", |bytes| imported("shop", bytes)),
    ("imported table of contents", |bytes| imported("toc.dat", bytes)),
    ("imported piece", |bytes| imported("8.dat.gz", bytes)),
    ("imported SQL", |bytes| imported("shop.sql.gz", bytes)),
];

/// All decoders of the format.
pub fn all() -> impl Iterator<Item = (&'static str, Decoder)> {
    RECORDS.into_iter().chain(PIECES).chain(PLACES).chain(OBJECTS)
}

/// Gives `bytes` to the decoder that their first byte chooses, and insists on the same bytes coming back.
pub fn run_one(decoders: &[(&str, Decoder)], bytes: &[u8]) {
    let Some((choice, input)) = bytes.split_first() else { return };
    let (name, decode) = decoders[usize::from(*choice) % decoders.len()];
    check(name, decode, input);
}

/// Decodes `input`; panics when it is read and would be written otherwise.
pub fn check(name: &str, decode: Decoder, input: &[u8]) -> Outcome {
    let outcome = decode(input);
    if let Outcome::Read(again) = &outcome {
        assert_eq!(again, input, "{name}: what was read is not what would be written");
    }
    outcome
}

/// The repository of the samples.
pub const REPOSITORY: RepositoryId = RepositoryId([4; 32]);
/// The kind of the sealed samples.
pub const KIND: ObjectKind = ObjectKind::Snapshot;

/// The key of the sealed samples.
pub fn key() -> (KeyId, SivKey) {
    let class = ClassKey::new(Class::Metadata, Secret::new([2; 32]));
    (class.id(), class.sub_key(KIND.number()))
}

fn read(result: Result<Vec<u8>, Error>) -> Outcome {
    result.map_or(Outcome::Refused, Outcome::Read)
}

fn structure<T: Cbor>(bytes: &[u8]) -> Outcome {
    read(T::from_cbor(bytes, "structure").map(|value| value.to_cbor()))
}

fn tree_piece(bytes: &[u8]) -> Outcome {
    let Ok(piece) = TreePiece::decode(bytes) else { return Outcome::Refused };
    for node in &piece.nodes {
        let total: u64 = node.chunks().map(|(_, length)| length).sum();
        assert!(node.chunks.0.is_empty() || total == node.size, "chunks add up to the size");
        let _ = node.ctime_ns();
    }
    Outcome::Read(piece.to_cbor())
}

fn list_piece(bytes: &[u8]) -> Outcome {
    read(ListPiece::decode(bytes).map(|piece| piece.to_cbor()))
}

/// Where the blocks of the sample pack and the pages of the sample segment end.
pub const BLOCKS_END: u64 = 1000;

fn directory(bytes: &[u8]) -> Outcome {
    let directory = Directory::from_cbor(bytes, "directory");
    if let Ok(directory) = &directory
        && directory.check(BLOCKS_END).is_ok()
    {
        walk(directory);
    }
    read(directory.map(|directory| directory.to_cbor()))
}

/// What every reader does with a directory that passed its check; none of it may overflow or miss.
fn walk(directory: &Directory) {
    let mut decoded = 0u64;
    for blob in &directory.blobs {
        let frame = &directory.frames[blob.frame as usize];
        let block = &directory.blocks[frame.block as usize];
        assert!(block.offset + u64::from(block.length) <= BLOCKS_END);
        assert!(frame.offset + frame.length <= block.length);
        assert!(blob.offset + blob.length <= frame.raw_length);
        decoded += u64::from(blob.length);
    }
    let room: u64 = directory.frames.iter().map(|frame| u64::from(frame.raw_length)).sum();
    assert!(decoded <= room, "no byte belongs to two blobs");
}

fn head(bytes: &[u8]) -> Outcome {
    let head = Head::from_cbor(bytes, "head");
    if let Ok(head) = &head {
        let _ = head.check(BLOCKS_END);
    }
    read(head.map(|head| head.to_cbor()))
}

fn trailer(bytes: &[u8]) -> Outcome {
    let trailer = &bytes[bytes.len().saturating_sub(TRAILER_BYTES)..];
    // Sizes that an object can have, up to the largest number.
    for object_bytes in [0, 15, 16, 48, bytes.len() as u64, 1 << 20, 1 << 40, u64::MAX] {
        if let Ok((offset, length)) = find_directory(ObjectKind::Directory, object_bytes, trailer) {
            assert_eq!(offset + length as u64 + TRAILER_BYTES as u64, object_bytes);
            assert!(length <= 64 << 20);
        }
    }
    Outcome::Accepted
}

/// Whatever a file holds and however it comes: the same report, of no more than the file can hold.
fn imported(name: &str, bytes: &[u8]) -> Outcome {
    let inspect = |step: usize| {
        let mut inspector = Inspector::new(name.as_bytes());
        bytes.chunks(step).for_each(|part| inspector.push(part));
        inspector.finish()
    };
    let report = inspect(bytes.len().max(1));
    assert_eq!(report, inspect(1 + bytes.len() % 7), "{name}: it depends on how it comes");
    if let Some(report) = report {
        assert_eq!(report.bytes, bytes.len() as u64);
        assert!(report.tables.len() as u64 <= report.table_count);
        assert_eq!(report.state == State::Complete, report.reason.is_empty());
    }
    Outcome::Accepted
}

fn config_object(bytes: &[u8]) -> Outcome {
    match config::decode(bytes) {
        Ok(stored) => {
            let _ = stored.config.to_cbor();
            Outcome::Accepted
        }
        Err(_) => Outcome::Refused,
    }
}

fn slot(bytes: &[u8]) -> Outcome {
    read(Slot::decode(bytes).map(|(slot, root)| slot.encode(root)))
}

fn page(bytes: &[u8]) -> Outcome {
    read(Page::decode(bytes).map(|page| page.encode()))
}

/// The same as somebody could write it who knows how the sum is made: the decoder gets past it.
fn summed_page(bytes: &[u8]) -> Outcome {
    let mut content = bytes[..bytes.len().min(CELL_BYTES - PAGE_SUM_BYTES)].to_vec();
    content.resize(CELL_BYTES - PAGE_SUM_BYTES, 0);
    let sum = hash(&content);
    match Page::decode(&[&content[..], &sum].concat()) {
        Ok(page) => {
            assert!(page.shape.sidecar_bytes() <= max_sidecar_bytes() && page.hashes.len() <= PAGE_HASHES);
            assert_eq!(page.encode(), [&content[..], &sum].concat());
            Outcome::Accepted
        }
        Err(_) => Outcome::Refused,
    }
}

/// A pack and its sidecar with changes: each four bytes say where and what; of a page that was changed the sum is made
/// right again if the place is odd. Whatever is there, it is mended to the pack as it was, or not at all.
fn sidecar_and_pack(bytes: &[u8]) -> Outcome {
    let pack: Vec<u8> = (0..20 * CELL_BYTES).map(|at| (at * 7 + at / 251) as u8).collect();
    let (store, id) = (Memory::new(), PackId(hash(&pack)));
    let key = Key::new(Area::Packs, id);
    store.put(&key, &pack).expect("memory takes it");
    let shape = Shape::new(pack.len() as u64, "5%".parse().expect("a share")).expect("a shape");
    let made = parity::make_for(&store, id, pack.len() as u64, shape).expect("it is whole");
    made.finish(&parity::sidecar_key(id)).expect("memory takes it");
    let mut sidecar = store.get(&parity::sidecar_key(id), u64::MAX).expect("it is there");
    let mut damaged = pack.clone();
    for change in bytes.chunks_exact(4) {
        let at = usize::from(change[0]) << 16 | usize::from(change[1]) << 8 | usize::from(change[2]);
        let at = at % (sidecar.len() + damaged.len());
        match at.checked_sub(sidecar.len()) {
            Some(at) => damaged[at] ^= change[3],
            None => sidecar[at] ^= change[3],
        }
        let page = at / CELL_BYTES * CELL_BYTES;
        if at % 2 == 1 && page < sidecar.len() {
            let sum = hash(&sidecar[page..page + CELL_BYTES - PAGE_SUM_BYTES]);
            sidecar[page + CELL_BYTES - PAGE_SUM_BYTES..page + CELL_BYTES].copy_from_slice(&sum);
        }
    }
    if bytes.len() % 4 == 3 {
        sidecar.truncate(bytes.iter().map(|byte| usize::from(*byte)).sum::<usize>() * 13 % sidecar.len());
    }
    store.replace(&key, &damaged).expect("memory takes it");
    store.replace(&parity::sidecar_key(id), &sidecar).expect("memory takes it");
    let (there, beside) = (damaged.len() as u64, sidecar.len() as u64);
    if let Ok(read) = parity::Sidecar::read(&store, id, beside) {
        let _ = parity::assess(&store, id, there, &read);
    }
    match parity::mend(&store, id, there, beside) {
        Ok(mended) => {
            mended.upload.replace(&key).expect("memory takes it");
            assert!(store.get(&key, u64::MAX).expect("it is there") == pack, "other bytes came back");
            Outcome::Accepted
        }
        Err(_) => Outcome::Refused,
    }
}

fn sealed(bytes: &[u8]) -> Outcome {
    let (_, siv) = key();
    let Ok(header) = envelope::peek_any(bytes, "object") else { return Outcome::Refused };
    let _ = envelope::peek(bytes, KIND);
    match envelope::open(bytes.to_vec(), &header, REPOSITORY, &siv) {
        Ok(content) => {
            assert!(content.len() <= bytes.len());
            Outcome::Accepted
        }
        Err(_) => Outcome::Refused,
    }
}

/// Seals `bytes` as the whole plaintext of an envelope, as somebody with the key but without this program could.
fn plaintext(bytes: &[u8]) -> Outcome {
    let (id, siv) = key();
    let object = seal_by_the_document(id, &siv, [7; 16], bytes);
    let Ok(header) = envelope::peek(&object, KIND) else { return Outcome::Refused };
    match envelope::open(object, &header, REPOSITORY, &siv) {
        Ok(content) => {
            let padding = bytes.len() - 4 - content.len();
            Outcome::Read([&(content.len() as u32).to_le_bytes()[..], &content, &vec![0; padding]].concat())
        }
        Err(_) => Outcome::Refused,
    }
}

/// An envelope put together from what `docs/FORMAT.md` says.
pub fn seal_by_the_document(key: KeyId, siv: &SivKey, nonce: [u8; 16], plaintext: &[u8]) -> Vec<u8> {
    let header = [b"KEEP\x01\x00".as_slice(), &[KIND.number(), 0], &key.0].concat();
    let mut text = plaintext.to_vec();
    let iv = siv.seal_in_place(&[&[&header[..], &REPOSITORY.0].concat(), &nonce], &mut text);
    [&header[..], &nonce, &iv, &text].concat()
}
