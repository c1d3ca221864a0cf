//! Names of things: fixed-size byte strings that cannot be mixed up.

use std::fmt;
use std::str::FromStr;

/// A text that is not the hexadecimal form of an id.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is not {what}: expected {digits} hexadecimal digits")]
pub struct NotAnId {
    text: String,
    what: &'static str,
    digits: usize,
}

/// Writes `bytes` as lower-case hexadecimal digits.
pub fn to_hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let mut text = String::with_capacity(bytes.len() * 2);
    for byte in bytes {
        text.push(DIGITS[usize::from(byte >> 4)] as char);
        text.push(DIGITS[usize::from(byte & 15)] as char);
    }
    text
}

/// Reads lower-case or upper-case hexadecimal digits; `None` when the text is anything else.
pub fn from_hex(text: &str) -> Option<Vec<u8>> {
    if !text.len().is_multiple_of(2) || !text.is_ascii() {
        return None;
    }
    let digit = |c: u8| (c as char).to_digit(16).map(|d| d as u8);
    text.as_bytes().chunks_exact(2).map(|pair| Some(digit(pair[0])? << 4 | digit(pair[1])?)).collect()
}

macro_rules! id {
    ($(#[$doc:meta])* $name:ident, $size:literal, $what:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub [u8; $size]);

        impl $name {
            /// The number of bytes.
            pub const SIZE: usize = $size;

            /// The bytes.
            pub fn as_bytes(&self) -> &[u8] {
                &self.0
            }

            /// An id from exactly as many bytes as it has.
            pub fn from_slice(bytes: &[u8]) -> Option<Self> {
                bytes.try_into().ok().map($name)
            }

            /// The first eight hexadecimal digits, for people.
            pub fn short(&self) -> String {
                to_hex(&self.0[..4])
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&to_hex(&self.0))
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}({})", stringify!($name), self.short())
            }
        }

        impl FromStr for $name {
            type Err = NotAnId;
            fn from_str(text: &str) -> Result<Self, NotAnId> {
                from_hex(text).and_then(|bytes| Self::from_slice(&bytes)).ok_or_else(|| NotAnId {
                    text: text.to_owned(),
                    what: $what,
                    digits: $size * 2,
                })
            }
        }
    };
}

id!(/// The name of a blob: the keyed BLAKE3 hash of its plaintext.
    BlobId, 32, "a blob id");
id!(/// The name of a pack: the plain BLAKE3 hash of its stored bytes.
    PackId, 32, "a pack id");
id!(/// The name of an index segment: the plain BLAKE3 hash of its stored bytes.
    SegmentId, 32, "a segment id");
id!(/// The name of a repository: random, chosen at `init`.
    RepositoryId, 32, "a repository id");
id!(/// The name of a session, and of the snapshot that the session commits: random.
    SessionId, 16, "a snapshot id");
id!(/// The name of one operation's record: random.
    RunId, 16, "a run id");
id!(/// The name of a generation of keys: random.
    EpochId, 16, "an epoch id");
id!(/// The name of a key slot: random.
    SlotId, 16, "a key slot id");
id!(/// Says under which key something is sealed; derived from that key, reveals nothing of it.
    KeyId, 16, "a key id");
id!(/// A keyed hash of the 64 bytes before a cut: what a blob's start or end looks like.
    Mark, 8, "a cut mark");

/// A snapshot has the id of the session that committed it.
pub type SnapshotId = SessionId;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_survives_its_text_form_and_refuses_others() {
        let id = BlobId(std::array::from_fn(|i| i as u8 * 7));
        assert_eq!(id.to_string().parse::<BlobId>().expect("its own text"), id);
        for wrong in ["", "abc", &"g".repeat(64), &"a".repeat(63), &"é".repeat(32)] {
            assert!(wrong.parse::<BlobId>().is_err(), "{wrong:?}");
        }
    }
}
