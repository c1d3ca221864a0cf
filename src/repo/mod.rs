//! The vault: keyring, sessions, packs, index, trees, snapshots.

pub mod error;
pub mod index;
pub mod keyring;

pub use error::{Error, Result};
