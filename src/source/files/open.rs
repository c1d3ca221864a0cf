//! Content and details of entries, read when the consumer wants them.

use super::{Entry, Error};
use crate::base::Stat;
use crate::base::xattrs::Subject;
use crate::format::meta::{EntryKind, Meta, Xattrs};
use rustix::fd::{AsFd, OwnedFd};
use rustix::fs::{Advice, Mode, OFlags, SeekFrom};
use rustix::io::Errno;
use std::fs::File;
use std::io;
use std::num::NonZeroU64;
use std::ops::Range;

/// From this size on the kernel is told that a file will be read from front to back.
const LARGE_FILE_BYTES: u64 = 256 * 1024;

/// Flags that keep an open from following a symlink, waiting for a writer of a fifo or becoming a terminal.
const FLAGS: OFlags =
    OFlags::RDONLY.union(OFlags::NOFOLLOW).union(OFlags::NONBLOCK).union(OFlags::NOCTTY).union(OFlags::CLOEXEC);

/// A regular file that was opened for reading.
pub struct OpenFile {
    /// The file, at its beginning.
    pub file: File,
    /// What `stat` says of the open file; it may be newer than the listing.
    pub meta_now: Meta,
    /// Whether it has fewer blocks than its size asks for, so that [`data_ranges`] saves reading zeros.
    pub is_sparse: bool,
}

/// What is not known from a `stat`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Details {
    /// Extended attributes, sorted by name.
    pub xattrs: Xattrs,
    /// Where a symlink points to; empty for all else.
    pub symlink_target: Vec<u8>,
}

impl Entry {
    /// Opens a regular file. If a new file was renamed into its place since it was listed, that one is opened
    /// and `meta_now` is its own; anything but a regular file is [`Error::Replaced`].
    pub fn open(&self) -> Result<OpenFile, Error> {
        let error = |source: Errno| self.error("open", source);
        let directory = self.directory().descriptor();
        let directory = directory.map_err(|source| self.error("open", source))?;
        let descriptor = open_quietly(&directory, self).map_err(error)?;
        let stat = Stat::of_open(&descriptor).map_err(error)?;
        let meta_now = match Meta::of_stat(&stat) {
            Some(meta) if meta.kind == EntryKind::File => meta,
            _ => {
                return Err(Error::Replaced { path: self.path(), operation: "open" });
            }
        };
        advise(&descriptor, meta_now.size);
        let is_sparse = stat.allocated_bytes < meta_now.size;
        Ok(OpenFile { file: File::from(descriptor), meta_now, is_sparse })
    }

    /// Reads what `stat` does not say. For a regular file that is open anyway [`OpenFile::xattrs`] is cheaper.
    pub fn read_details(&self) -> Result<Details, Error> {
        let directory = self.directory().descriptor();
        let directory = directory.map_err(|source| self.error("open", source))?;
        let symlink_target = match self.meta.kind {
            EntryKind::Symlink => rustix::fs::readlinkat(&directory, self.c_name(), Vec::new())
                .map_err(|source| match source {
                    // What is there now is not a symlink.
                    Errno::INVAL => self.error("read symlink", Errno::STALE),
                    other => self.error("read symlink", other),
                })?
                .into_bytes(),
            _ => Vec::new(),
        };
        let xattrs = Subject::entry(&directory, self.c_name())
            .read_all()
            .map_err(|source| self.error("read extended attributes of", source))?;
        Ok(Details { xattrs, symlink_target })
    }
}

impl OpenFile {
    /// Asks the kernel to read all of the file, and does not wait for it. Advice only.
    pub fn ask_for_all(&self) {
        if let Some(length) = NonZeroU64::new(self.meta_now.size) {
            let _ = rustix::fs::fadvise(&self.file, 0, Some(length), Advice::WillNeed);
        }
    }

    /// The extended attributes, sorted by name. `entry` is named in the error.
    pub fn xattrs(&self, entry: &Entry) -> Result<Xattrs, Error> {
        Subject::Open(self.file.as_fd()).read_all().map_err(|source| entry.error("read extended attributes of", source))
    }

    /// What `stat` says of the file now, for [`changed_while_read`]. `entry` is named in the error.
    pub fn stat(&self, entry: &Entry) -> Result<Meta, Error> {
        let stat = Stat::of_open(&self.file).map_err(|source| entry.error("stat", source))?;
        Meta::of_stat(&stat).ok_or_else(|| entry.error("stat", Errno::STALE))
    }
}

/// Whether a file was written to between two `stat`s of it. A mere chmod is not a change of content.
pub fn changed_while_read(before: &Meta, after: &Meta) -> bool {
    before.size != after.size || before.mtime_ns != after.mtime_ns || before.inode != after.inode
}

fn open_quietly(directory: &OwnedFd, entry: &Entry) -> rustix::io::Result<OwnedFd> {
    let open = |flags| rustix::fs::openat(directory, entry.c_name(), flags, Mode::empty());
    match open(FLAGS | OFlags::NOATIME) {
        // Only the owner may leave the access time alone.
        Err(Errno::PERM) => open(FLAGS),
        // Another process holds a lease; the kernel has asked it to give it up. A fifo never answers so.
        Err(Errno::AGAIN) => open(FLAGS.difference(OFlags::NONBLOCK)),
        other => other,
    }
}

/// Advice only: a file system that does not take it is not worse off.
fn advise(descriptor: &OwnedFd, size: u64) {
    if size < LARGE_FILE_BYTES {
        return;
    }
    let _ = rustix::fs::fadvise(descriptor, 0, None, Advice::Sequential);
    let ahead = NonZeroU64::new(size.min(4 * 1024 * 1024));
    let _ = rustix::fs::fadvise(descriptor, 0, ahead, Advice::WillNeed);
}

/// The parts of a file that hold data, in order; between them are holes, which read as zeros. A file system that
/// does not know answers with one range. Moves the position of `file`.
pub fn data_ranges(file: &File, size: u64) -> impl Iterator<Item = io::Result<Range<u64>>> {
    let mut at = 0;
    std::iter::from_fn(move || {
        if at >= size {
            return None;
        }
        match next_data(file, at, size) {
            Ok(Some(range)) => {
                at = range.end;
                Some(Ok(range))
            }
            Ok(None) => {
                at = size;
                None
            }
            Err(error) => {
                at = size;
                Some(Err(error))
            }
        }
    })
}

fn next_data(file: &File, from: u64, size: u64) -> io::Result<Option<Range<u64>>> {
    let start = match rustix::fs::seek(file, SeekFrom::Data(from)) {
        Ok(start) if start < size => start,
        // Nothing but a hole up to the end.
        Ok(_) | Err(Errno::NXIO) => return Ok(None),
        Err(Errno::INVAL | Errno::OPNOTSUPP) => return Ok(Some(from..size)),
        Err(error) => return Err(error.into()),
    };
    let end = rustix::fs::seek(file, SeekFrom::Hole(start))?.min(size);
    // A file that is cut short meanwhile must not make us run in circles.
    Ok((end > start).then_some(start..end))
}
