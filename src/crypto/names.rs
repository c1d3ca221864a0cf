//! Names: what is called the same is the same.
//!
//! Blobs are named by a BLAKE3 hash under a secret key, so that nobody without it can tell from a name whether a
//! known file is in a repository. Packs and segments are named by a plain BLAKE3 hash of their stored bytes, so that
//! damage is found without any key.

use super::keys::{Class, ClassKey};
use crate::base::{BlobId, Mark, Secret};
use zeroize::Zeroize;

/// Names blobs.
pub struct NamingKey(Secret<[u8; 32]>);

impl NamingKey {
    /// The naming key that belongs to a key of the class `Dedup`.
    pub fn of(dedup: &ClassKey) -> NamingKey {
        NamingKey(derive(dedup, "keepstone v1 blob names"))
    }

    /// The name of a blob with this plaintext.
    pub fn blob_id(&self, plaintext: &[u8]) -> BlobId {
        BlobId(*blake3::keyed_hash(self.0.expose(), plaintext).as_bytes())
    }
}

/// Marks cuts and the beginnings of streams.
pub struct MarkKey {
    cuts: Secret<[u8; 32]>,
    /// A key of its own: no window of bytes in a stream may pass for a stream's name.
    streams: Secret<[u8; 32]>,
}

impl MarkKey {
    /// The mark key that belongs to a key of the class `Dedup`.
    pub fn of(dedup: &ClassKey) -> MarkKey {
        MarkKey { cuts: derive(dedup, "keepstone v1 cut marks"), streams: derive(dedup, "keepstone v1 stream marks") }
    }

    /// The mark of the bytes before a cut.
    pub fn mark(&self, window: &[u8]) -> Mark {
        shortened(blake3::keyed_hash(self.cuts.expose(), window))
    }

    /// The mark that stands at the start of a stream, where no cut is: `kind` says what source the stream comes from,
    /// `base_name` is the last part of its path. Every run of ASCII digits counts as one `0`, so that
    /// `daily_20250311.sql` finds `daily_20250310.sql`.
    pub fn stream_mark(&self, kind: &str, base_name: &[u8]) -> Mark {
        let mut hasher = blake3::Hasher::new_keyed(self.streams.expose());
        // The length first: no two pairs of kind and name run together into the same bytes.
        hasher.update(&(kind.len() as u64).to_le_bytes());
        hasher.update(kind.as_bytes());
        hasher.update(&fold_digits(base_name));
        let mark = shortened(hasher.finalize());
        hasher.zeroize();
        mark
    }
}

/// The seed of the cutter's gear table that belongs to a key of the class `Dedup`.
///
/// It hardens the boundaries against guessing, no more: what keeps them from view is that blocks are sealed whole.
pub fn gear_seed(dedup: &ClassKey) -> u64 {
    let seed = derive(dedup, "keepstone v1 gear table");
    let (first, _) = seed.expose().split_first_chunk().expect("32 bytes begin with 8");
    u64::from_le_bytes(*first)
}

/// Hashes the stored bytes of a pack or a segment as they are written: plain BLAKE3.
#[derive(Clone, Default)]
pub struct PackHasher(blake3::Hasher);

impl PackHasher {
    /// A hasher of nothing yet.
    pub fn new() -> PackHasher {
        PackHasher::default()
    }

    /// Takes in the next stored bytes.
    pub fn update(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    /// The hash of all bytes taken in.
    pub fn finish(self) -> [u8; 32] {
        *self.0.finalize().as_bytes()
    }
}

/// The plain hash of what a record says: what the records after it name it by.
pub fn hash(content: &[u8]) -> [u8; 32] {
    *blake3::hash(content).as_bytes()
}

fn derive(dedup: &ClassKey, context: &str) -> Secret<[u8; 32]> {
    assert_eq!(dedup.class(), Class::Dedup, "names and marks come from the dedup key");
    dedup.derive(context)
}

fn shortened(hash: blake3::Hash) -> Mark {
    let (first, _) = hash.as_bytes().split_first_chunk().expect("32 bytes begin with 8");
    Mark(*first)
}

/// A name with every run of ASCII digits as one `0`: what tonight's file has in common with last night's.
pub fn fold_digits(name: &[u8]) -> Vec<u8> {
    let mut folded = Vec::with_capacity(name.len());
    for run in name.chunk_by(|a, b| a.is_ascii_digit() && b.is_ascii_digit()) {
        folded.push(if run[0].is_ascii_digit() { b'0' } else { run[0] });
    }
    folded
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::ids::to_hex;

    fn dedup() -> ClassKey {
        ClassKey::new(Class::Dedup, Secret::new([5; 32]))
    }

    #[test]
    fn names_depend_on_the_key_and_the_bytes() {
        let name = NamingKey::of(&dedup()).blob_id(b"bytes");
        let other_key = ClassKey::new(Class::Dedup, Secret::new([6; 32]));
        assert_eq!(name, NamingKey::of(&dedup()).blob_id(b"bytes"));
        assert_ne!(name, NamingKey::of(&dedup()).blob_id(b"byteS"));
        assert_ne!(name, NamingKey::of(&other_key).blob_id(b"bytes"));
        assert_ne!(name.0, PackHasher::new().finish());
    }

    #[test]
    fn the_derivations_stay_as_they_are() {
        // Repositories in the world depend on these bytes; they never change.
        assert_eq!(
            NamingKey::of(&dedup()).blob_id(b"bytes").to_string(),
            "76042bd6a619de26557db603c5b21ff3b878533984cd438a162dffce19bc065e"
        );
        assert_eq!(MarkKey::of(&dedup()).mark(&[1; 64]).to_string(), "5e90cfed203c22b1");
        assert_eq!(MarkKey::of(&dedup()).stream_mark("file", b"a1").to_string(), "279b534bc6fad1d6");
        assert_eq!(to_hex(&gear_seed(&dedup()).to_be_bytes()), "456ca1848501c2b1");
    }

    #[test]
    fn tonight_s_dump_finds_last_night_s() {
        let marks = MarkKey::of(&dedup());
        let tonight = marks.stream_mark("file", b"daily_20250311.sql");
        assert_eq!(tonight, marks.stream_mark("file", b"daily_20250310.sql"));
        assert_eq!(tonight, marks.stream_mark("file", b"daily_7.sql"));
        assert_ne!(tonight, marks.stream_mark("file", b"daily_.sql"));
        assert_ne!(tonight, marks.stream_mark("postgres", b"daily_20250311.sql"));
        assert_ne!(marks.stream_mark("ab", b"c"), marks.stream_mark("a", b"bc"));
        assert_eq!(fold_digits(b"12a3b456"), b"0a0b0");
        assert_eq!(fold_digits(b""), b"");
        assert_eq!(fold_digits("é٣--9".as_bytes()), "é٣--0".as_bytes());
    }

    #[test]
    fn a_pack_hash_does_not_depend_on_how_the_bytes_arrive() {
        let mut hasher = PackHasher::new();
        hasher.update(b"in two ");
        hasher.update(b"parts");
        assert_eq!(hasher.finish(), *blake3::hash(b"in two parts").as_bytes());
    }
}
