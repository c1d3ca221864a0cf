//! Dumps: sources whose bytes come as many streams out of one consistent moment.
//!
//! A `DumpSource` says what is meant; `begin` takes the moment and gives a `Dump`, whose streams may be read by several
//! threads at once; `finish` tells what was read. A dump that did not finish well is no dump.

use crate::db::probe::Probe;
use crate::db::{Result, Watch};
use crate::format::dump::{DumpKind, Manifest};
use std::fmt::Debug;
use std::io::{self, Read};

/// A database as the user named it.
pub trait DumpSource: Debug + Send + Sync {
    /// Which family of servers; decides where the dump lies in the snapshot.
    fn kind(&self) -> DumpKind;
    /// The name of its directory there: that of the database unless the user gave another. A plain file name.
    fn name(&self) -> &str;
    /// Server and database for messages, without secrets.
    fn label(&self) -> String;
    /// Looks whether a dump would work, without writing anything; none if there is nothing to look at. Fails with
    /// `Unavailable` if the server cannot be reached, which may pass.
    fn probe(&self, _: &Watch) -> Result<Option<Probe>> {
        Ok(None)
    }
    /// Connects and takes the consistent moment. Called again for another attempt after a failure that may pass.
    fn begin(&self, watch: &Watch) -> Result<Box<dyn Dump>>;
}

/// One stream that can be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Planned {
    /// Its path beneath the dump's directory, names joined by `/`; each a plain file name. The same for the same
    /// table every night, since it is what finds the bases of deltas.
    pub path: String,
    /// About how many bytes it will be, for progress and order.
    pub bytes: u64,
}

/// Reads a stream to its end and says how many bytes came. Fails if the reader fails or the bytes are not wanted.
pub type Consume<'c> = dyn FnMut(&mut dyn Read) -> io::Result<u64> + 'c;

/// A consistent moment that is being read.
pub trait Dump: Send + Sync {
    /// Every stream, in the order in which they should begin: the largest first.
    fn streams(&self) -> &[Planned];
    /// How many streams may be read at once, at least 1.
    fn workers(&self) -> usize;
    /// Reads one stream, once. The reader that `consume` gets ends only if the stream ended well so far; a failure
    /// that shows after the last byte is the result of this function. Called from up to `workers` threads.
    fn read(&self, stream: usize, consume: &mut Consume<'_>) -> Result<()>;
    /// Checks what can only be checked at the end and tells what was read. Called after every stream was read.
    fn finish(self: Box<Self>) -> Result<Manifest>;
}
