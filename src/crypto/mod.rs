//! Keys and seals: names, AES-SIV, key slots. Pure computation, no I/O.
//!
//! | file | what it is for |
//! | --- | --- |
//! | [`keys`] | the keys of a repository and what hangs on what |
//! | [`identity`] | X25519 identities and recipients as age writes them |
//! | [`slots`] | ways to the root key: passphrase, key file, command, recipient |
//! | [`names`] | names of blobs, marks of cuts, hashes of packs |
//! | [`vouch`] | signatures of those who hold a metadata key (RFC 8032) |
//! | [`siv`] | sealing and opening bytes (RFC 5297), several messages at once |
//! | [`padme`] | how long a sealed object is made |
//! | [`RowSum`] | checksums of tables whatever the order of their rows |
//!
//! Nothing here knows an object or its encoding; bytes come in, bytes go out.

mod hpke;
pub mod identity;
pub mod keys;
pub mod names;
pub mod padme;
mod row_sum;
pub mod siv;
pub mod slots;
pub mod vouch;

pub use keys::{Class, ClassKey, RootKey, wrap_to};
pub use names::{MarkKey, NamingKey, PackHasher, gear_seed};
pub use padme::padded_length;
pub use row_sum::RowSum;
pub use siv::{Forged, Message, SivKey};

use crate::base::Kind;

/// What can go wrong with keys and seals. No message says anything about a secret.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// Something that was sealed or published by a holder of the keys is not as it was.
    #[error("cannot use the {what}: it is not as it was written (altered, or made by somebody without the key)")]
    Altered {
        /// What it is, as a person would name it.
        what: &'static str,
    },
    /// It is authentic but this version has no name for it.
    #[error("cannot use the {what}: it is of a kind that this version does not know; a newer one may")]
    Unknown {
        /// What it is, as a person would name it.
        what: &'static str,
    },
    /// The secret opens another slot, or none.
    #[error("the secret does not open this key slot")]
    WrongSecret,
    /// The slot is opened by something else than what was given.
    #[error("this key slot is opened by another kind of secret than the one given")]
    OtherUnlock,
    /// A slot asks for more than any slot may.
    #[error("cannot stretch the passphrase: the key slot asks for {got} as {what}, at most {most} is accepted")]
    StretchTooCostly {
        /// The parameter.
        what: &'static str,
        /// What the slot says.
        got: u32,
        /// What is accepted.
        most: u32,
    },
    /// argon2id failed.
    #[error("cannot stretch the passphrase: {message}")]
    Stretch {
        /// What it said.
        message: String,
    },
    /// A passphrase without a character.
    #[error("the passphrase is empty: an empty one protects nothing")]
    EmptyPassphrase,
    /// A key file that is too short to be a secret or too long to be meant.
    #[error(
        "the content of the key file, or what the command printed, has {bytes} bytes, line ends at its end not counted: it must have 16 to 65536"
    )]
    UnfitKeyFile {
        /// Its length.
        bytes: usize,
    },
    /// A recipient's text that does not hold together.
    #[error(
        "this is no recipient, or mistyped: one is `age1` and 58 letters and digits, as `keepstone key generate` or \
         `age-keygen` prints it (no plugins, no SSH keys)"
    )]
    MistypedRecipient,
    /// The secret was given where the public half is wanted.
    #[error("this is an identity, which is secret; what is wanted is its recipient, which begins with `age1`")]
    IdentityNotRecipient,
    /// A file without an identity.
    #[error("the identity file holds no identity: it needs a line that begins with AGE-SECRET-KEY-1")]
    NoIdentity,
    /// An identity whose check does not hold.
    #[error("the identity does not hold together: compare it with the original, a letter is wrong or missing")]
    MistypedIdentity,
    /// A file with several identities.
    #[error("the identity file holds {count} identities: put the one for this repository into a file of its own")]
    ManyIdentities {
        /// How many lines there are.
        count: usize,
    },
    /// An identity file that is encrypted itself.
    #[error("the identity file is encrypted: decrypt it first, for example `--identity-file <(age -d FILE)`")]
    EncryptedIdentity,
    /// A key line whose check does not hold.
    #[error("the key does not hold together: compare it with the original, a digit is wrong or missing")]
    MistypedKey,
}

impl Error {
    /// The kind of the failure.
    pub fn kind(&self) -> Kind {
        match self {
            Error::Altered { .. } => Kind::Damaged,
            Error::Unknown { .. } | Error::StretchTooCostly { .. } => Kind::Unsupported,
            Error::WrongSecret | Error::OtherUnlock => Kind::WrongKey,
            Error::EmptyPassphrase | Error::UnfitKeyFile { .. } | Error::MistypedKey => Kind::Usage,
            Error::MistypedRecipient | Error::IdentityNotRecipient => Kind::Usage,
            Error::NoIdentity | Error::MistypedIdentity | Error::ManyIdentities { .. } => Kind::Usage,
            Error::EncryptedIdentity => Kind::Usage,
            Error::Stretch { .. } => Kind::Internal,
        }
    }
}

/// Whether two secrets are the same, in a time that does not tell where they differ.
fn same_bytes<const N: usize>(a: &[u8; N], b: &[u8; N]) -> bool {
    let difference = a.iter().zip(b).fold(0, |sum, (a, b)| sum | (a ^ b));
    std::hint::black_box(difference) == 0
}
