//! Objects on their way into a bucket: kept in a nameless file until their name is known, then sent, again if need be.

use super::MAX_PUT_BYTES;
use super::place::Place;
use crate::base::ids::to_hex;
use crate::base::{Kind, random};
use crate::store::{Error, Key, ObjectStore, Operation, Put, Upload};
use aws_sdk_s3::primitives::{ByteStream, Length};
use std::cell::Cell;
use std::fs::{File, OpenOptions};
use std::io::{self, BufWriter, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;
use std::sync::Arc;

/// Small writes are gathered up to this many bytes.
const GATHER_BYTES: usize = 128 << 10;
/// Bytes that are read from the file at once while they are sent.
const SEND_BYTES: usize = 256 << 10;
/// Bytes of a stored object that are compared at once.
const COMPARE_BYTES: usize = 4 << 20;

/// What [`S3::begin`](super::S3) hands out.
pub(super) struct S3Upload {
    place: Arc<Place>,
    file: BufWriter<File>,
    length: u64,
    failed: Option<Kind>,
}

impl S3Upload {
    pub(super) fn begin(place: &Arc<Place>) -> Result<S3Upload, Error> {
        let file = nameless(&place.spool).map_err(|error| {
            let folder = place.spool.display();
            Error::new(Kind::of_io(&error), "write", folder, format_args!("{error}: packs are gathered there"))
        })?;
        Ok(S3Upload {
            place: place.clone(),
            file: BufWriter::with_capacity(GATHER_BYTES, file),
            length: 0,
            failed: None,
        })
    }

    fn note<T>(&mut self, outcome: io::Result<T>) -> io::Result<T> {
        outcome.inspect_err(|error| {
            self.failed.get_or_insert(Kind::of_io(error));
        })
    }

    fn spool_failed(&self, error: &io::Error) -> Error {
        Error::new(Kind::of_io(error), "write", self.place.spool.display(), error)
    }

    /// Makes sure that all is in the file and that it can be sent at once.
    fn settle(&mut self, key: &Key) -> Result<(), Error> {
        let flushed = self.flush();
        flushed.map_err(|error| self.spool_failed(&error))?;
        if let Some(kind) = self.failed {
            return Err(Error::new(kind, "write", self.place.subject(key), "an earlier write to it failed"));
        }
        if self.length > MAX_PUT_BYTES {
            let reason = format_args!("it has {} bytes, and {MAX_PUT_BYTES} can be stored at once", self.length);
            return Err(Error::new(Kind::Unsupported, "write", self.place.subject(key), reason));
        }
        Ok(())
    }
}

impl Write for S3Upload {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.file.write(bytes);
        let written = self.note(written)?;
        self.length += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        let flushed = self.file.flush();
        self.note(flushed)
    }
}

impl Upload for S3Upload {
    fn finish(mut self: Box<Self>, key: &Key) -> Result<Put, Error> {
        self.settle(key)?;
        let (place, file, length) = (&self.place, self.file.get_ref(), self.length);
        let tries = Cell::new(0);
        let put = place.patience.again(Operation::Finish, || {
            tries.set(tries.get() + 1);
            place.put_if_absent(key, length, || body(place, file, length))
        })?;
        // After a lost answer it may be our own.
        if put == Put::Existed && tries.get() > 1 && is_same(place, key, file, length)? {
            return Ok(Put::Stored);
        }
        Ok(put)
    }

    fn replace(mut self: Box<Self>, key: &Key) -> Result<(), Error> {
        self.settle(key)?;
        let (place, file, length) = (&self.place, self.file.get_ref(), self.length);
        place.patience.again(Operation::Replace, || place.put_instead(key, length, body(place, file, length)?))
    }

    fn read_back(&mut self, offset: u64, bytes: &mut [u8]) -> io::Result<()> {
        self.flush()?;
        self.file.get_ref().read_exact_at(bytes, offset)
    }
}

/// The file's content from its beginning, to be sent.
fn body(place: &Place, file: &File, length: u64) -> Result<ByteStream, Error> {
    let failed = |error: io::Error| Error::new(Kind::of_io(&error), "read", place.spool.display(), &error);
    let mut file = file.try_clone().map_err(failed)?;
    file.seek(SeekFrom::Start(0)).map_err(failed)?;
    let stream = ByteStream::read_from()
        .file(tokio::fs::File::from_std(file))
        .length(Length::Exact(length))
        .buffer_size(SEND_BYTES)
        .build();
    place.runtime.block_on(stream).map_err(|error| Error::new(Kind::Internal, "read", place.spool.display(), error))
}

/// Whether the stored object is the file.
fn is_same(place: &Arc<Place>, key: &Key, file: &File, length: u64) -> Result<bool, Error> {
    let (store, patience) = (super::S3 { place: place.clone() }, &place.patience);
    if patience.again(Operation::Size, || store.size(key))? != length {
        return Ok(false);
    }
    let failed = |error: io::Error| Error::new(Kind::of_io(&error), "read", place.spool.display(), &error);
    let mut file = file.try_clone().map_err(failed)?;
    file.seek(SeekFrom::Start(0)).map_err(failed)?;
    let mut ours = vec![0; COMPARE_BYTES];
    let mut at = 0;
    while at < length {
        let step = (length - at).min(COMPARE_BYTES as u64) as usize;
        file.read_exact(&mut ours[..step]).map_err(failed)?;
        if patience.again(Operation::GetRange, || store.get_range(key, at, step))? != ours[..step] {
            return Ok(false);
        }
        at += step as u64;
    }
    Ok(true)
}

/// A file that nobody else can open and that is gone when it is closed.
fn nameless(folder: &Path) -> io::Result<File> {
    let path = folder.join(format!("upload-{}", to_hex(&random::bytes::<16>())));
    let file = OpenOptions::new().read(true).write(true).create_new(true).mode(0o600).open(&path)?;
    std::fs::remove_file(&path)?;
    Ok(file)
}
