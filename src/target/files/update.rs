//! An existing file that becomes another with as little writing as is safe.
//!
//! Nothing is written before the first difference is found. Then one of three ways is taken:
//!
//! | when | way | a crash leaves |
//! | --- | --- | --- |
//! | the file system can share blocks between files | a clone under a temporary name is changed and renamed | the old file |
//! | the file is small, has other names or may not be written | a copy is changed and renamed | the old file |
//! | otherwise | the file itself is changed | a mixed file whose time of last change is not the snapshot's |
//!
//! In the last way the time of last change is first set to 1970 and made durable; every write then sets it to the
//! present, and the snapshot's comes last, when the bytes are on the disk: a journal would keep it before them. So
//! neither a restore that goes by size and time nor a backup ever takes
//! the mixed file for finished. A file with several names is never changed itself: one of them may lie outside of
//! the target.

use super::writer::{FileWriter, write_all_at};
use super::{Error, FILE_FLAGS, Folder, Target, metadata};
use crate::base::Stat;
use crate::format::meta::{EntryKind, Meta};
use rustix::fd::OwnedFd;
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use std::ffi::CString;
use std::sync::{Mutex, OnceLock, PoisonError};

/// Files below this size are copied: that is cheaper than waiting for the disk once.
const IN_PLACE_BYTES: u64 = 8 * 1024 * 1024;

const COPY_BUFFER_BYTES: usize = 128 * 1024;

/// An existing regular file that is compared and, where it differs, written. Dropped without `finish` it leaves the
/// old file or one that does not look finished.
pub struct FileUpdate {
    target: Target,
    folder: Folder,
    name: CString,
    existing: OwnedFd,
    stat: Stat,
    is_writable: bool,
    /// What a file made in its place is to be.
    meta: Meta,
    way: OnceLock<Way>,
    choosing: Mutex<()>,
}

enum Way {
    InPlace,
    Copy(FileWriter),
}

impl FileUpdate {
    pub(super) fn begin(target: &Target, folder: &Folder, name: CString, meta: &Meta) -> Result<FileUpdate, Error> {
        let directory = folder.descriptor()?;
        let open = |flags| rustix::fs::openat(&*directory, &name, FILE_FLAGS | flags, Mode::empty());
        let (existing, is_writable) = match open(OFlags::RDWR) {
            Ok(existing) => (existing, true),
            Err(Errno::ACCESS | Errno::PERM | Errno::TXTBSY | Errno::ROFS) => {
                (open(OFlags::RDONLY).map_err(|source| folder.failed(&name, "read", source))?, false)
            }
            Err(source) => return Err(folder.failed(&name, "read", source)),
        };
        let stat = Stat::of_open(&existing).map_err(|source| folder.failed(&name, "stat", source))?;
        if EntryKind::of_mode(stat.raw_mode) != Some(EntryKind::File) {
            let path = folder.directory.path_of(name.to_bytes());
            return Err(Error::InTheWay { path, what: "it is not a regular file any more" });
        }
        Ok(FileUpdate {
            target: target.clone(),
            folder: folder.clone(),
            name,
            existing,
            stat,
            is_writable,
            meta: meta.clone(),
            way: OnceLock::new(),
            choosing: Mutex::new(()),
        })
    }

    /// The size of the existing file in bytes.
    pub fn size(&self) -> u64 {
        self.stat.size
    }

    /// Reads the existing file at `offset` and answers how many bytes there were: fewer than asked for at its end.
    pub fn read_at(&self, offset: u64, buffer: &mut [u8]) -> Result<usize, Error> {
        read_at(&self.existing, offset, buffer).map_err(|source| self.folder.failed(&self.name, "read", source))
    }

    /// Whether the existing file has exactly `bytes` at `offset`.
    pub fn has_at(&self, offset: u64, bytes: &[u8]) -> Result<bool, Error> {
        let mut buffer = vec![0; bytes.len().min(COPY_BUFFER_BYTES)];
        for (number, piece) in bytes.chunks(COPY_BUFFER_BYTES).enumerate() {
            let at = offset + (number * COPY_BUFFER_BYTES) as u64;
            let buffer = &mut buffer[..piece.len()];
            if self.read_at(at, buffer)? != piece.len() || buffer != piece {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Writes `bytes` at `offset`; may be called from several threads for different places.
    pub fn write_at(&self, offset: u64, bytes: &[u8]) -> Result<(), Error> {
        match self.way()? {
            // Zeros too: what they replace is not zero.
            Way::Copy(writer) => writer.write_all_at(offset, bytes),
            Way::InPlace => write_all_at(&self.existing, offset, bytes).map_err(|source| self.failed("write", source)),
        }
    }

    /// Whether something was written.
    pub fn is_changed(&self) -> bool {
        self.way.get().is_some()
    }

    /// Sets the size to `meta.size`, then the metadata.
    pub fn finish(mut self, meta: &Meta) -> Result<(), Error> {
        if meta.size != self.stat.size {
            self.way()?;
        }
        match self.way.take() {
            Some(Way::Copy(writer)) => {
                writer.forget_end();
                return writer.finish(meta);
            }
            Some(Way::InPlace) => self.settle(meta.size)?,
            None => {}
        }
        self.target
            .shared
            .set_open(&self.existing, meta, false)
            .map_err(|(operation, source)| self.failed(operation, source))
    }

    /// Sets the size and brings the bytes to the disk, before anything says that this is the snapshot's file.
    fn settle(&self, size: u64) -> Result<(), Error> {
        if size != self.stat.size {
            rustix::fs::ftruncate(&self.existing, size).map_err(|e| self.failed("set the size of", e))?;
        }
        rustix::fs::fdatasync(&self.existing).map_err(|e| self.failed("write to the disk", e))
    }

    fn failed(&self, operation: &'static str, source: Errno) -> Error {
        self.folder.failed(&self.name, operation, source)
    }

    fn way(&self) -> Result<&Way, Error> {
        if let Some(way) = self.way.get() {
            return Ok(way);
        }
        let _guard = self.choosing.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(way) = self.way.get() {
            return Ok(way);
        }
        let way = self.choose()?;
        Ok(self.way.get_or_init(|| way))
    }

    fn choose(&self) -> Result<Way, Error> {
        let writer = FileWriter::create(&self.target, &self.folder, self.name.clone(), &self.meta)?;
        if rustix::fs::ioctl_ficlone(writer.descriptor(), &self.existing).is_ok() {
            return Ok(Way::Copy(writer));
        }
        if self.is_writable && self.stat.links == 1 && self.stat.size >= IN_PLACE_BYTES {
            drop(writer);
            metadata::set_mtime_to_1970(&self.existing)
                .and_then(|()| rustix::fs::fsync(&self.existing))
                .map_err(|source| self.failed("mark as unfinished", source))?;
            return Ok(Way::InPlace);
        }
        self.copy_into(&writer)?;
        Ok(Way::Copy(writer))
    }

    fn copy_into(&self, writer: &FileWriter) -> Result<(), Error> {
        let mut buffer = vec![0; COPY_BUFFER_BYTES];
        let mut offset = 0;
        while offset < self.meta.size {
            let count = self.read_at(offset, &mut buffer)?;
            if count == 0 {
                break;
            }
            writer.write_at(offset, &buffer[..count])?;
            offset += count as u64;
        }
        Ok(())
    }
}

fn read_at(file: &OwnedFd, offset: u64, buffer: &mut [u8]) -> rustix::io::Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        match rustix::io::pread(file, &mut buffer[filled..], offset + filled as u64) {
            Ok(0) => break,
            Ok(count) => filled += count,
            Err(Errno::INTR) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}
