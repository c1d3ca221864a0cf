//! The bytes of every object: structs to bytes and back. No I/O.
//!
//! `docs/FORMAT.md` says the same for readers of other languages; a change here is a change there.

pub mod cbor;
pub mod config;
pub mod container;
pub mod damage;
pub mod dump;
pub mod envelope;
pub mod keys;
pub mod ledger;
pub mod meta;
pub mod pack;
pub mod parity;
pub mod run;
pub mod segment;
pub mod session;
pub mod snapshot;
pub mod tree;
pub mod vouch;

use crate::base::Kind;

/// The version of the format that this program writes.
pub const VERSION: u16 = 1;

/// The first bytes of every object that begins with a header.
pub const MAGIC: [u8; 4] = *b"KEEP";

/// Why bytes are not what they should be.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The bytes do not have the form they should have.
    #[error("{what} is malformed at byte {position}: {reason}")]
    Malformed {
        /// What was being read.
        what: &'static str,
        /// Where the reading stopped.
        position: usize,
        /// What was found.
        reason: String,
    },
    /// The seal does not fit: altered, truncated, moved to another place, or sealed under another key.
    #[error("{what} fails its authentication: it was altered, truncated or put in the place of another")]
    Forged {
        /// What was being opened.
        what: &'static str,
    },
    /// Written by a newer version.
    #[error("{what} has format version {found}, this program reads {VERSION}: use a newer keepstone")]
    Newer {
        /// What was being read.
        what: &'static str,
        /// The version that it says it has.
        found: u16,
    },
}

impl Error {
    /// What kind of failure it is.
    pub fn kind(&self) -> Kind {
        match self {
            Error::Malformed { .. } | Error::Forged { .. } => Kind::Damaged,
            Error::Newer { .. } => Kind::Unsupported,
        }
    }
}
