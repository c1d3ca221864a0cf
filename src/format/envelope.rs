//! Sealed objects and sealed blocks.
//!
//! An **envelope** is an object that stands alone in the store:
//!
//! ```text
//! offset size
//!      0    4  magic "KEEP"
//!      4    2  format version, little-endian
//!      6    1  object kind
//!      7    1  flags: bit 0 = a key wrap follows the nonce; all others 0
//!      8   16  key id
//!     24   16  nonce, random
//!   [ 40    2  length w of the key wrap, little-endian, 1 to 4096            only with flag bit 0
//!     42    w  key wrap, CBOR ]
//!      …   16  synthetic IV
//!      …    n  ciphertext of: content length (4, little-endian), content, zero bytes up to a Padmé length
//! ```
//!
//! The seal is AES-SIV (RFC 5297) with a 512-bit key. Its associated strings are, in this order: bytes 0 to 23, the
//! repository id and the key wrap if any, joined into one string; then the nonce.
//!
//! A **block** lies inside a pack or a segment and shows nothing, not even where it begins: 16 bytes of nonce, 16
//! of synthetic IV, ciphertext. Its first associated string is what the header of an envelope of that kind and key
//! would be (flags 0), followed by the repository id; the second is the nonce. It says nothing of the pack, so that
//! blocks can be copied byte for byte.

use super::cbor::{numbered, record};
use super::{Error, MAGIC, VERSION};
use crate::base::{KeyId, RepositoryId, random};
use crate::crypto::keys::Class;
use crate::crypto::padme::padded_length;
use crate::crypto::siv::SivKey;

numbered! {
    /// What an object, or a block in one, is.
    ObjectKind {
        /// The public description of the repository.
        Config = 1,
        /// A key slot.
        Slot = 2,
        /// A generation of keys.
        Epoch = 3,
        /// A block of file content.
        Data = 4,
        /// A block of trees and content lists.
        Metadata = 5,
        /// The directory of a pack.
        Directory = 6,
        /// A page of an index segment.
        Page = 7,
        /// The head of an index segment.
        Head = 8,
        /// A snapshot.
        Snapshot = 9,
        /// The mark of a session at work.
        Session = 10,
        /// The condemned records that a session has seen.
        Seen = 11,
        /// The end of a session.
        End = 12,
        /// A numbered record of what prune will delete.
        Condemned = 13,
        /// Takes the place of a snapshot whose session was fenced.
        Tombstone = 14,
        /// A record of an operation.
        Run = 15,
        /// A chunk in the local base cache; never in a repository.
        Cached = 16,
        /// A page of a parity sidecar.
        Parity = 17,
        /// Reserved: catalogue.
        Catalogue = 18,
        /// Damage found.
        Damage = 19,
        /// What a run has read back and proven.
        Ledger = 20,
        /// Older records of operations.
        History = 21,
    }
}

impl ObjectKind {
    /// The class of the key that seals this kind. (Epochs are sealed under the root key itself; config, slots
    /// and sidecars are not sealed.)
    pub fn class(self) -> Class {
        match self {
            ObjectKind::Data | ObjectKind::Cached => Class::Data,
            ObjectKind::Metadata
            | ObjectKind::Snapshot
            | ObjectKind::Run
            | ObjectKind::Ledger
            | ObjectKind::History
            | ObjectKind::Catalogue => Class::Metadata,
            _ => Class::Index,
        }
    }

    /// The most bytes that a reader brings into memory for one of this kind: an object that stands alone, a block,
    /// or a directory without the padding that it shares with its pack.
    pub const fn max_bytes(self) -> usize {
        match self {
            ObjectKind::Config => super::config::MAX_BYTES,
            ObjectKind::Slot => super::keys::MAX_SLOT_BYTES,
            ObjectKind::Epoch => super::keys::MAX_EPOCH_BYTES,
            ObjectKind::Data | ObjectKind::Metadata => super::pack::MAX_BLOCK_BYTES,
            ObjectKind::Page => super::segment::MAX_PAGE_BYTES + BLOCK_OVERHEAD,
            ObjectKind::Directory | ObjectKind::Head => super::container::MAX_DIRECTORY_BYTES,
            ObjectKind::Session | ObjectKind::End | ObjectKind::Tombstone => 64 << 10,
            ObjectKind::Seen => 1 << 20,
            ObjectKind::Run => 4 << 20,
            ObjectKind::Snapshot | ObjectKind::History | ObjectKind::Damage => 16 << 20,
            ObjectKind::Ledger => 32 << 20,
            ObjectKind::Cached => super::pack::MAX_BLOCK_BYTES,
            ObjectKind::Condemned | ObjectKind::Catalogue => 64 << 20,
            ObjectKind::Parity => super::parity::CELL_BYTES,
        }
    }

    /// The kind's name in messages.
    pub fn name(self) -> &'static str {
        match self {
            ObjectKind::Config => "config",
            ObjectKind::Slot => "key slot",
            ObjectKind::Epoch => "key epoch",
            ObjectKind::Data => "data block",
            ObjectKind::Metadata => "metadata block",
            ObjectKind::Directory => "pack directory",
            ObjectKind::Page => "index page",
            ObjectKind::Head => "index segment",
            ObjectKind::Snapshot => "snapshot",
            ObjectKind::Session => "session",
            ObjectKind::Seen => "session's seen list",
            ObjectKind::End => "session's end",
            ObjectKind::Condemned => "condemned record",
            ObjectKind::Tombstone => "tombstone",
            ObjectKind::Run => "run record",
            ObjectKind::Cached => "cached chunk",
            ObjectKind::Parity => "parity sidecar",
            ObjectKind::Catalogue => "catalogue",
            ObjectKind::Damage => "damage record",
            ObjectKind::Ledger => "ledger of verification",
            ObjectKind::History => "history of runs",
        }
    }
}

/// Bytes of a header: magic, version, kind, flags, key id.
pub const HEADER_BYTES: usize = 24;
/// Bytes of a nonce.
pub const NONCE_BYTES: usize = 16;
/// Bytes of a synthetic IV.
pub const IV_BYTES: usize = 16;
/// What sealing adds to a block.
pub const BLOCK_OVERHEAD: usize = NONCE_BYTES + IV_BYTES;
/// What an envelope without key wrap adds to its padded plaintext.
pub const ENVELOPE_OVERHEAD: usize = HEADER_BYTES + NONCE_BYTES + IV_BYTES;
/// Bytes of the content's length inside the seal.
pub const LENGTH_BYTES: usize = 4;
/// The longest key wrap that is read.
pub const MAX_WRAP_BYTES: usize = 4096;

const FLAG_WRAP: u8 = 1;

record! {
    /// A session key, wrapped to the recipient of a class: what a writer that holds no data keys seals under.
    KeyWrap {
        /// The class key whose recipient it is wrapped to.
        1 => recipient: KeyId,
        /// HPKE base mode: encapsulated key and ciphertext, as `crypto::keys` makes them.
        2 => wrapped: super::cbor::Bytes,
    }
}

/// What can be read of an envelope without a key.
#[derive(Debug)]
pub struct Header {
    /// What the object is.
    pub kind: ObjectKind,
    /// The key that it is sealed under.
    pub key: KeyId,
    /// The wrapped session key, if it is sealed under one.
    pub wrap: Option<KeyWrap>,
    wrap_bytes: Vec<u8>,
    nonce: [u8; NONCE_BYTES],
    body_at: usize,
}

fn header_bytes(kind: ObjectKind, flags: u8, key: KeyId) -> [u8; HEADER_BYTES] {
    let mut bytes = [0; HEADER_BYTES];
    bytes[..4].copy_from_slice(&MAGIC);
    bytes[4..6].copy_from_slice(&VERSION.to_le_bytes());
    bytes[6] = kind.number();
    bytes[7] = flags;
    bytes[8..].copy_from_slice(&key.0);
    bytes
}

/// Checks magic and version; gives kind, flags and key id.
pub(super) fn read_header(bytes: &[u8], what: &'static str) -> Result<(ObjectKind, u8, KeyId), Error> {
    let bad = |position: usize, reason: &str| Error::Malformed { what, position, reason: reason.to_owned() };
    let header = bytes.get(..HEADER_BYTES).ok_or_else(|| bad(bytes.len(), "shorter than its header"))?;
    if header[..4] != MAGIC {
        return Err(bad(0, "it does not begin with KEEP"));
    }
    let version = u16::from_le_bytes([header[4], header[5]]);
    match version {
        VERSION => {}
        0 => return Err(bad(4, "format version 0 does not exist")),
        found => return Err(Error::Newer { what, found }),
    }
    let kind = ObjectKind::from_number(u64::from(header[6])).ok_or_else(|| bad(6, "unknown kind of object"))?;
    let key = KeyId::from_slice(&header[8..]).expect("a header ends with 16 bytes of key id");
    Ok((kind, header[7], key))
}

/// The first associated string of a block of `kind` under `key`.
pub fn block_associated(kind: ObjectKind, key: KeyId, repository: RepositoryId) -> [u8; HEADER_BYTES + 32] {
    let mut bytes = [0; HEADER_BYTES + 32];
    bytes[..HEADER_BYTES].copy_from_slice(&header_bytes(kind, 0, key));
    bytes[HEADER_BYTES..].copy_from_slice(&repository.0);
    bytes
}

/// Seals `content` as an object of `kind`.
pub fn seal(kind: ObjectKind, repository: RepositoryId, key: KeyId, siv: &SivKey, content: &[u8]) -> Vec<u8> {
    let length = padded_length((content.len() + LENGTH_BYTES + ENVELOPE_OVERHEAD) as u64) as usize;
    seal_padded(kind, repository, key, siv, content, length, None)
}

/// Seals `content` under a session key that travels with the object as `wrap`.
pub fn seal_wrapped(
    kind: ObjectKind,
    repository: RepositoryId,
    key: KeyId,
    siv: &SivKey,
    content: &[u8],
    wrap: &KeyWrap,
) -> Vec<u8> {
    use super::cbor::Cbor as _;
    let wrap = wrap.to_cbor();
    let length = padded_length((content.len() + LENGTH_BYTES + ENVELOPE_OVERHEAD + 2 + wrap.len()) as u64) as usize;
    seal_padded(kind, repository, key, siv, content, length, Some(&wrap))
}

/// Seals `content` so that the object has exactly `total_bytes`, which must be enough for it.
pub fn seal_padded(
    kind: ObjectKind,
    repository: RepositoryId,
    key: KeyId,
    siv: &SivKey,
    content: &[u8],
    total_bytes: usize,
    wrap: Option<&[u8]>,
) -> Vec<u8> {
    let wrap_bytes = wrap.map_or(0, |wrap| 2 + wrap.len());
    assert!(
        total_bytes >= content.len() + LENGTH_BYTES + ENVELOPE_OVERHEAD + wrap_bytes,
        "an envelope has room for its content"
    );
    let length = u32::try_from(content.len()).expect("sealed objects are far below 4 GiB");
    let nonce: [u8; NONCE_BYTES] = random::bytes();
    let mut object = Vec::with_capacity(total_bytes);
    object.extend_from_slice(&header_bytes(kind, if wrap.is_some() { FLAG_WRAP } else { 0 }, key));
    object.extend_from_slice(&nonce);
    if let Some(wrap) = wrap {
        assert!((1..=MAX_WRAP_BYTES).contains(&wrap.len()), "a key wrap is a few hundred bytes");
        object.extend_from_slice(&(wrap.len() as u16).to_le_bytes());
        object.extend_from_slice(wrap);
    }
    let iv_at = object.len();
    object.extend_from_slice(&[0; IV_BYTES]);
    object.extend_from_slice(&length.to_le_bytes());
    object.extend_from_slice(content);
    object.resize(total_bytes, 0);
    let associated = envelope_associated(&object[..HEADER_BYTES], repository, wrap.unwrap_or(&[]));
    let iv = siv.seal_in_place(&[&associated, &nonce], &mut object[iv_at + IV_BYTES..]);
    object[iv_at..iv_at + IV_BYTES].copy_from_slice(&iv);
    object
}

fn envelope_associated(header: &[u8], repository: RepositoryId, wrap: &[u8]) -> Vec<u8> {
    [header, &repository.0, wrap].concat()
}

/// Reads the public part of an object that should be of `kind`.
pub fn peek(object: &[u8], kind: ObjectKind) -> Result<Header, Error> {
    let header = peek_any(object, kind.name())?;
    if header.kind != kind {
        return Err(Error::Malformed {
            what: kind.name(),
            position: 6,
            reason: format!("it is a {}", header.kind.name()),
        });
    }
    Ok(header)
}

/// Reads the public part of an object of any sealed kind; `what` names it in errors.
pub fn peek_any(object: &[u8], what: &'static str) -> Result<Header, Error> {
    use super::cbor::Cbor as _;
    let (kind, flags, key) = read_header(object, what)?;
    let short = || Error::Malformed { what, position: object.len(), reason: "it ends too early".to_owned() };
    let nonce_end = HEADER_BYTES + NONCE_BYTES;
    let nonce = object.get(HEADER_BYTES..nonce_end).ok_or_else(short)?;
    let (wrap, wrap_bytes, body_at) = match flags {
        0 => (None, Vec::new(), nonce_end),
        FLAG_WRAP => {
            let length = object.get(nonce_end..nonce_end + 2).ok_or_else(short)?;
            let length = usize::from(u16::from_le_bytes([length[0], length[1]]));
            if !(1..=MAX_WRAP_BYTES).contains(&length) {
                let reason = format!("a key wrap of {length} bytes");
                return Err(Error::Malformed { what, position: nonce_end, reason });
            }
            let bytes = object.get(nonce_end + 2..nonce_end + 2 + length).ok_or_else(short)?;
            (Some(KeyWrap::from_cbor(bytes, "key wrap")?), bytes.to_vec(), nonce_end + 2 + length)
        }
        _ => return Err(Error::Malformed { what, position: 7, reason: "unknown flags".to_owned() }),
    };
    if object.len() < body_at + IV_BYTES + LENGTH_BYTES {
        return Err(short());
    }
    let nonce = nonce.try_into().expect("a nonce has its length");
    Ok(Header { kind, key, wrap, wrap_bytes, nonce, body_at })
}

/// Opens an object whose header was read by [`peek`], in place; gives the content.
pub fn open(mut object: Vec<u8>, header: &Header, repository: RepositoryId, siv: &SivKey) -> Result<Vec<u8>, Error> {
    let what = header.kind.name();
    let text_at = header.body_at + IV_BYTES;
    if object.len() < text_at + LENGTH_BYTES {
        return Err(Error::Malformed { what, position: object.len(), reason: "it ends too early".to_owned() });
    }
    let associated = envelope_associated(&object[..HEADER_BYTES], repository, &header.wrap_bytes);
    let iv = object[header.body_at..text_at].try_into().expect("an IV has its length");
    siv.open_in_place(&[&associated, &header.nonce], &iv, &mut object[text_at..])
        .map_err(|_| Error::Forged { what })?;
    let length = &object[text_at..text_at + LENGTH_BYTES];
    let length = u32::from_le_bytes(length.try_into().expect("four bytes")) as usize;
    let content_at = text_at + LENGTH_BYTES;
    if length > object.len() - content_at {
        let reason = format!("its content is said to have {length} bytes");
        return Err(Error::Malformed { what, position: content_at, reason });
    }
    // One content has one padding; bytes that nobody looks at would be a place to hide something in.
    if object[content_at + length..].iter().any(|byte| *byte != 0) {
        let reason = "its padding is not zero".to_owned();
        return Err(Error::Malformed { what, position: content_at + length, reason });
    }
    object.truncate(content_at + length);
    object.drain(..content_at);
    Ok(object)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::base::{Kind, Secret};
    use crate::crypto::keys::ClassKey;
    use crate::format::cbor::{Bytes, Cbor, Unknown};

    const REPOSITORY: RepositoryId = RepositoryId([4; 32]);
    const KIND: ObjectKind = ObjectKind::Snapshot;

    fn class_key(byte: u8) -> ClassKey {
        ClassKey::new(Class::Metadata, Secret::new([byte; 32]))
    }

    fn siv(kind: ObjectKind) -> SivKey {
        class_key(1).sub_key(kind.number())
    }

    fn wrap() -> KeyWrap {
        KeyWrap { recipient: KeyId([7; 16]), wrapped: Bytes(vec![1; 81]), unknown: Unknown::none() }
    }

    fn samples() -> [Vec<u8>; 2] {
        let id = class_key(1).id();
        [
            seal(KIND, REPOSITORY, id, &siv(KIND), b"content"),
            seal_wrapped(KIND, REPOSITORY, id, &siv(KIND), b"content", &wrap()),
        ]
    }

    fn opened(object: &[u8]) -> Result<Vec<u8>, Error> {
        let header = peek(object, KIND)?;
        open(object.to_vec(), &header, REPOSITORY, &siv(KIND))
    }

    #[test]
    fn an_envelope_opens_to_its_content_and_shows_who_sealed_it() {
        for (object, wrapped) in samples().iter().zip([None, Some(wrap())]) {
            assert_eq!(opened(object).unwrap(), b"content");
            let header = peek(object, KIND).unwrap();
            assert_eq!((header.kind, header.key, header.wrap), (KIND, class_key(1).id(), wrapped));
            assert_eq!(padded_length(object.len() as u64), object.len() as u64);
        }
    }

    #[test]
    fn equal_content_never_looks_equal() {
        assert_ne!(samples()[0][24..], samples()[0][24..]);
    }

    #[test]
    fn every_changed_bit_is_refused() {
        for object in samples() {
            for bit in 0..object.len() * 8 {
                let mut altered = object.clone();
                altered[bit / 8] ^= 1 << (bit % 8);
                assert!(opened(&altered).is_err(), "bit {bit}");
            }
        }
    }

    #[test]
    fn an_envelope_cut_or_continued_is_refused() {
        for object in samples() {
            for length in 0..object.len() {
                assert_eq!(opened(&object[..length]).unwrap_err().kind(), Kind::Damaged, "{length}");
            }
            assert!(opened(&[&object[..], &[0]].concat()).is_err());
        }
    }

    #[test]
    fn an_envelope_holds_in_its_repository_under_its_key_and_as_its_kind_only() {
        let object = samples()[0].clone();
        let header = peek(&object, KIND).unwrap();
        let refused = |repository, key: &SivKey| {
            matches!(open(object.clone(), &header, repository, key), Err(Error::Forged { .. }))
        };
        assert!(refused(RepositoryId([5; 32]), &siv(KIND)));
        assert!(refused(REPOSITORY, &siv(ObjectKind::Run)));
        assert!(refused(REPOSITORY, &class_key(2).sub_key(KIND.number())));
        assert_eq!(peek(&object, ObjectKind::Run).unwrap_err().kind(), Kind::Damaged);
        let mut renamed = object.clone();
        renamed[6] = ObjectKind::Run.number();
        let header = peek(&renamed, ObjectKind::Run).unwrap();
        assert!(open(renamed, &header, REPOSITORY, &siv(KIND)).is_err());
    }

    #[test]
    fn a_wrap_cannot_be_taken_off_or_exchanged() {
        let [plain, wrapped] = samples();
        let wrap_bytes = wrap().to_cbor();
        let bare = [&wrapped[..7], &[0], &wrapped[8..40], &wrapped[42 + wrap_bytes.len()..]].concat();
        assert!(opened(&bare).is_err());
        let other = KeyWrap { recipient: KeyId([8; 16]), ..wrap() }.to_cbor();
        let exchanged = [&wrapped[..42], &other, &wrapped[42 + other.len()..]].concat();
        assert!(opened(&exchanged).is_err());
        let length = (wrap_bytes.len() as u16).to_le_bytes();
        let put_on = [&plain[..7], &[1], &plain[8..40], &length, &wrap_bytes, &plain[40..]].concat();
        assert!(opened(&put_on).is_err());
    }

    #[test]
    fn what_a_header_cannot_say_is_refused() {
        let object = samples()[0].clone();
        let with = |at: usize, byte: u8| {
            let mut altered = object.clone();
            altered[at] = byte;
            peek(&altered, KIND).unwrap_err().kind()
        };
        assert_eq!(with(0, b'k'), Kind::Damaged);
        assert_eq!(with(4, 0), Kind::Damaged);
        assert_eq!(with(4, 2), Kind::Unsupported);
        assert_eq!(with(5, 1), Kind::Unsupported);
        assert_eq!(with(6, 0), Kind::Damaged);
        assert_eq!(with(6, 255), Kind::Damaged);
        assert_eq!(with(7, 2), Kind::Damaged);
    }

    /// Seals a plaintext of somebody who holds the key and does not keep to the rules.
    fn seal_plaintext(plaintext: &[u8]) -> Vec<u8> {
        let header = header_bytes(KIND, 0, class_key(1).id());
        let mut text = plaintext.to_vec();
        let iv = siv(KIND).seal_in_place(&[&envelope_associated(&header, REPOSITORY, &[]), &[3; 16]], &mut text);
        [&header[..], &[3; 16], &iv, &text].concat()
    }

    #[test]
    fn a_content_length_beyond_the_plaintext_is_refused() {
        assert_eq!(opened(&seal_plaintext(b"\x03\0\0\0abc\0\0")).unwrap(), b"abc");
        for bad in [&b"\x04\0\0\0abc"[..], b"\xff\xff\xff\xffabc", b"\x02\0\0\0abc", b"\x03\0\0\0abc\0\x01", b"\0\0\0"]
        {
            assert_eq!(opened(&seal_plaintext(bad)).unwrap_err().kind(), Kind::Damaged, "{bad:?}");
        }
    }

    #[test]
    fn a_header_of_another_object_opens_nothing_and_harms_nobody() {
        let [plain, wrapped] = samples();
        for (object, other) in [(&plain, &wrapped), (&wrapped, &plain), (&plain[..10].to_vec(), &wrapped)] {
            let header = peek(other, KIND).unwrap();
            assert!(open(object.clone(), &header, REPOSITORY, &siv(KIND)).is_err());
        }
    }

    #[test]
    fn a_block_is_bound_to_its_kind_key_and_repository() {
        let base = block_associated(ObjectKind::Data, KeyId([1; 16]), REPOSITORY);
        assert_ne!(base, block_associated(ObjectKind::Metadata, KeyId([1; 16]), REPOSITORY));
        assert_ne!(base, block_associated(ObjectKind::Data, KeyId([2; 16]), REPOSITORY));
        assert_ne!(base, block_associated(ObjectKind::Data, KeyId([1; 16]), RepositoryId([5; 32])));
    }
}
