//! Every decoder of the format behind one kind of function: bytes in, what became of them out. Shared by the bounded
//! cases of `tests/decoders.rs` and by the targets in `fuzz/`.

use keepstone::base::{KeyId, RepositoryId, Secret};
use keepstone::crypto::keys::{Class, ClassKey};
use keepstone::crypto::siv::SivKey;
use keepstone::format::cbor::Cbor;
use keepstone::format::container::{TRAILER_BYTES, find_directory};
use keepstone::format::envelope::{self, ObjectKind};
use keepstone::format::keys::{Epoch, Slot};
use keepstone::format::ledger::Ledger;
use keepstone::format::pack::Directory;
use keepstone::format::run::{History, Run};
use keepstone::format::segment::{Entry, FrameRow, Head, PackRow};
use keepstone::format::session::{Condemned, End, Seen, Session};
use keepstone::format::snapshot::{Snapshot, Tombstone};
use keepstone::format::tree::{ListPiece, TreePiece};
use keepstone::format::{Error, config};
use keepstone::source::imported::{Inspector, State};

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
pub const RECORDS: [(&str, Decoder); 13] = [
    ("config structure", structure::<config::Config>),
    ("slot structure", structure::<Slot>),
    ("epoch", structure::<Epoch>),
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
pub const OBJECTS: [(&str, Decoder); 4] =
    [("config", config_object), ("slot", slot), ("envelope", sealed), ("envelope's plaintext", plaintext)];

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
