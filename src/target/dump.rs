//! Dumps on their way back: what a database target is given to read.

use crate::format::dump::Manifest;
use std::io::{self, Read};

/// A dump in a snapshot. Its streams were verified before a target sees them, and are read again here: a stream that
/// cannot be read to its end fails, it never just ends.
pub trait StoredDump: Sync {
    /// What it holds and promises.
    fn manifest(&self) -> &Manifest;
    /// Reads a stream by its path beneath the dump's directory. May be called from several threads.
    fn open(&self, path: &str) -> io::Result<Box<dyn Read + Send + '_>>;
}
