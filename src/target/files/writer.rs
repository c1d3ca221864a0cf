//! A new file on its way: written under a temporary name and renamed when it is complete, unless nobody can see it
//! before that and its content is at hand.

use super::{Error, FILE_FLAGS, Folder, Target};
use crate::format::meta::Meta;
use rustix::fd::{AsFd, OwnedFd};
use rustix::fs::{AtFlags, FallocateFlags, OFlags};
use rustix::io::Errno;
use std::ffi::{CStr, CString};
use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};

/// From this size on the space of a file is reserved when holes are not wanted.
const PREALLOCATED_BYTES: u64 = 1024 * 1024;

/// The unit in which file systems leave holes.
const BLOCK_BYTES: usize = 4096;

/// Shorter runs of zeros are written: a file in many pieces is slower to read than a few zeros.
const HOLE_BYTES: usize = 4 * BLOCK_BYTES;

/// A regular file that is being written, from any number of threads. Dropped without `finish`, it leaves nothing.
pub struct FileWriter {
    target: Target,
    folder: Folder,
    name: CString,
    /// None if it has its name already.
    temporary: Option<CString>,
    descriptor: OwnedFd,
    /// The end of the last byte that was written, not counting holes.
    end: AtomicU64,
    is_in_place: bool,
}

impl FileWriter {
    pub(super) fn begin(target: &Target, folder: &Folder, name: CString, meta: &Meta) -> Result<FileWriter, Error> {
        let writer = FileWriter::create(target, folder, name, meta)?;
        if !target.options().sparse && meta.size >= PREALLOCATED_BYTES {
            writer.reserve(meta.size)?;
        }
        Ok(writer)
    }

    /// In a directory that this restore made, and that nobody else can enter yet, the file gets its name at once: a
    /// quarter of what a small file costs goes into renaming it.
    pub(super) fn begin_whole(
        target: &Target,
        folder: &Folder,
        name: CString,
        meta: &Meta,
    ) -> Result<FileWriter, Error> {
        if !folder.is_fresh || folder.passes_on_acl {
            return FileWriter::begin(target, folder, name, meta);
        }
        match create(target, folder, &name, meta)? {
            Ok(descriptor) => Ok(FileWriter::of(target, folder, name, None, descriptor)),
            // What is there gives way when the new file is complete.
            Err(Errno::EXIST) => FileWriter::begin(target, folder, name, meta),
            Err(source) => Err(folder.failed(&name, "create", source)),
        }
    }

    pub(super) fn create(target: &Target, folder: &Folder, name: CString, meta: &Meta) -> Result<FileWriter, Error> {
        let temporary = target.shared.temporary_name();
        match create(target, folder, &temporary, meta)? {
            Ok(descriptor) => Ok(FileWriter::of(target, folder, name, Some(temporary), descriptor)),
            Err(source) => Err(folder.failed(&name, "create a file for", source)),
        }
    }

    fn of(
        target: &Target,
        folder: &Folder,
        name: CString,
        temporary: Option<CString>,
        descriptor: OwnedFd,
    ) -> FileWriter {
        let (target, folder, end) = (target.clone(), folder.clone(), AtomicU64::new(0));
        FileWriter { target, folder, name, temporary, descriptor, end, is_in_place: false }
    }

    /// Without giving the file that length: after a power cut it would be as long as it should be, and zeros.
    fn reserve(&self, size: u64) -> Result<(), Error> {
        match rustix::fs::fallocate(&self.descriptor, FallocateFlags::KEEP_SIZE, 0, size) {
            Ok(()) => Ok(()),
            Err(source @ (Errno::NOSPC | Errno::DQUOT | Errno::FBIG)) => {
                Err(self.folder.failed(&self.name, "reserve space for", source))
            }
            // Some file systems cannot; then the space is found while writing.
            Err(_) => Ok(()),
        }
    }

    pub(super) fn descriptor(&self) -> &OwnedFd {
        &self.descriptor
    }

    /// Writes `bytes` at `offset`. Long runs of zeros are left as holes if the options say so.
    pub fn write_at(&self, offset: u64, bytes: &[u8]) -> Result<(), Error> {
        if !self.target.options().sparse {
            return self.write_all_at(offset, bytes);
        }
        let mut written = 0;
        while let Some(hole) = next_hole(offset, bytes, written) {
            self.write_all_at(offset + written as u64, &bytes[written..hole.start])?;
            written = hole.end;
        }
        self.write_all_at(offset + written as u64, &bytes[written..])
    }

    /// Writes `bytes` at `offset`, zeros too.
    pub(super) fn write_all_at(&self, offset: u64, bytes: &[u8]) -> Result<(), Error> {
        if bytes.is_empty() {
            return Ok(());
        }
        write_all_at(&self.descriptor, offset, bytes)
            .map_err(|source| self.folder.failed(&self.name, "write", source))?;
        self.end.fetch_max(offset + bytes.len() as u64, Ordering::Relaxed);
        Ok(())
    }

    /// Sets the size to `meta.size` and the metadata, and puts the file in its place.
    pub fn finish(mut self, meta: &Meta) -> Result<(), Error> {
        if self.end.load(Ordering::Relaxed) != meta.size {
            rustix::fs::ftruncate(&self.descriptor, meta.size)
                .map_err(|source| self.folder.failed(&self.name, "set the size of", source))?;
        }
        let is_clean = !self.folder.passes_on_acl;
        self.target
            .shared
            .set_open(&self.descriptor, meta, is_clean)
            .map_err(|(operation, source)| self.folder.failed(&self.name, operation, source))?;
        if let Some(temporary) = &self.temporary {
            self.target.put_in_place(&self.folder, temporary, &self.name)?;
        }
        self.is_in_place = true;
        Ok(())
    }

    /// Makes `finish` set the size whatever was written: the file began as a copy.
    pub(super) fn forget_end(&self) {
        self.end.store(u64::MAX, Ordering::Relaxed);
    }
}

impl Drop for FileWriter {
    fn drop(&mut self) {
        if !self.is_in_place
            && let Ok(directory) = self.folder.descriptor()
        {
            // If it cannot be removed it keeps a name that tells what it is.
            let name = self.temporary.as_ref().unwrap_or(&self.name);
            let _ = rustix::fs::unlinkat(&*directory, name, AtFlags::empty());
        }
    }
}

/// Makes an empty file that was not there.
fn create(target: &Target, folder: &Folder, name: &CStr, meta: &Meta) -> Result<rustix::io::Result<OwnedFd>, Error> {
    let flags = FILE_FLAGS | OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL;
    let mode = target.shared.identity.initial_mode(meta);
    Ok(rustix::fs::openat(&*folder.descriptor()?, name, flags, mode))
}

/// Writes all bytes at a place of a file, however many calls it takes.
pub(super) fn write_all_at(file: impl AsFd, mut offset: u64, mut bytes: &[u8]) -> rustix::io::Result<()> {
    while !bytes.is_empty() {
        match rustix::io::pwrite(&file, bytes, offset) {
            Ok(0) => return Err(Errno::IO),
            Ok(count) => {
                offset += count as u64;
                bytes = &bytes[count..];
            }
            Err(Errno::INTR) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// The next run of whole zero blocks in `bytes`, which lie at `offset` of the file, that is worth a hole.
fn next_hole(offset: u64, bytes: &[u8], from: usize) -> Option<Range<usize>> {
    let misaligned = (offset + from as u64) as usize % BLOCK_BYTES;
    let mut at = from + (BLOCK_BYTES - misaligned) % BLOCK_BYTES;
    let mut run = at;
    while at + BLOCK_BYTES <= bytes.len() {
        let is_zero = is_zero(&bytes[at..at + BLOCK_BYTES]);
        if !is_zero && at - run >= HOLE_BYTES {
            break;
        }
        at += BLOCK_BYTES;
        if !is_zero {
            run = at;
        }
    }
    (at <= bytes.len() && at.saturating_sub(run) >= HOLE_BYTES).then_some(run..at)
}

fn is_zero(block: &[u8]) -> bool {
    // Most blocks show at their beginning that they are not; the rest compares as fast as memory is read.
    block[..16] == [0; 16] && block[16..] == block[..block.len() - 16]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn holes_are_whole_blocks_of_the_file_and_long_enough() {
        let mut bytes = vec![0; 10 * BLOCK_BYTES];
        assert_eq!(next_hole(0, &bytes, 0), Some(0..10 * BLOCK_BYTES));
        assert_eq!(next_hole(100, &bytes, 0), Some(BLOCK_BYTES - 100..10 * BLOCK_BYTES - 100));
        bytes[5 * BLOCK_BYTES] = 1;
        assert_eq!(next_hole(0, &bytes, 0), Some(0..5 * BLOCK_BYTES));
        assert_eq!(next_hole(0, &bytes, 5 * BLOCK_BYTES), Some(6 * BLOCK_BYTES..10 * BLOCK_BYTES));
        bytes[7 * BLOCK_BYTES - 1] = 1;
        assert_eq!(next_hole(0, &bytes, 5 * BLOCK_BYTES), None);
        assert_eq!(next_hole(0, &[0; 100], 0), None);
        assert_eq!(next_hole(5, &[0; 10], 0), None);
    }
}
