//! Keys and seals: names, AES-SIV, key slots. Pure computation, no I/O.
//!
//! | file | what it is for |
//! | --- | --- |
//! | [`keys`] | the keys of a repository and what hangs on what |
//! | [`names`] | names of blobs, marks of cuts, hashes of packs |
//! | [`siv`] | sealing and opening bytes (RFC 5297), several messages at once |
//! | [`padme`] | how long a sealed object is made |
//!
//! Nothing here knows an object or its encoding; bytes come in, bytes go out.

mod hpke;
pub mod keys;
pub mod names;
pub mod padme;
pub mod siv;

pub use keys::{Class, ClassKey, RootKey, wrap_to};
pub use names::{MarkKey, NamingKey, PackHasher, gear_seed};
pub use padme::padded_length;
pub use siv::{Forged, Message, SivKey};

use crate::base::Kind;

/// What can go wrong with keys and seals. No message says anything about a secret.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// Something that was sealed or published by a holder of the keys is not as it was.
    #[error(
        "cannot use the {what}: it is not as it was written (altered, or made by somebody without the key)"
    )]
    Altered {
        /// What it is, as a person would name it.
        what: &'static str,
    },
    /// It is authentic but this version has no name for it.
    #[error(
        "cannot use the {what}: it is of a kind that this version does not know; a newer one may"
    )]
    Unknown {
        /// What it is, as a person would name it.
        what: &'static str,
    },
}

impl Error {
    /// The kind of the failure.
    pub fn kind(&self) -> Kind {
        match self {
            Error::Altered { .. } => Kind::Damaged,
            Error::Unknown { .. } => Kind::Unsupported,
        }
    }
}

/// Whether two secrets are the same, in a time that does not tell where they differ.
fn same_bytes<const N: usize>(a: &[u8; N], b: &[u8; N]) -> bool {
    let difference = a.iter().zip(b).fold(0, |sum, (a, b)| sum | (a ^ b));
    std::hint::black_box(difference) == 0
}
