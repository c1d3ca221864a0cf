//! The content of one file as a stream, read chunk by chunk by whoever takes it.

use crate::format::tree::{HOLE, Node};
use crate::repo;
use crate::repo::blob_reader::{BlobBytes, BlobReader};
use crate::repo::trees::Chunks;
use std::io::{Error, Read, Result};

/// Reads the content of a file from beginning to end. A chunk that cannot be read is an error that
/// [`repo_error`](super::browse::repo_error) finds again.
pub struct Content<'r> {
    blobs: &'r mut BlobReader,
    chunks: Chunks,
    piece: Piece,
    at: usize,
}

enum Piece {
    Inline(Vec<u8>),
    Blob(BlobBytes),
    Zeros(u64),
}

impl<'r> Content<'r> {
    /// The content of `node`.
    pub fn of(node: &Node, blobs: &'r mut BlobReader) -> Content<'r> {
        Content { blobs, chunks: Chunks::of(node), piece: Piece::Inline(node.inline.0.clone()), at: 0 }
    }

    /// Copies from the piece in hand; 0 when it is used up.
    fn copy(&mut self, buffer: &mut [u8]) -> usize {
        let bytes: &[u8] = match &mut self.piece {
            Piece::Inline(bytes) => bytes,
            Piece::Blob(bytes) => bytes,
            Piece::Zeros(left) => {
                let count = usize::try_from(*left).unwrap_or(usize::MAX).min(buffer.len());
                buffer[..count].fill(0);
                *left -= count as u64;
                return count;
            }
        };
        let count = buffer.len().min(bytes.len() - self.at);
        buffer[..count].copy_from_slice(&bytes[self.at..self.at + count]);
        self.at += count;
        count
    }

    fn advance(&mut self) -> repo::Result<bool> {
        let Some((id, length)) = self.chunks.next(self.blobs)? else { return Ok(false) };
        self.at = 0;
        self.piece = if id == HOLE { Piece::Zeros(length) } else { Piece::Blob(read_chunk(self.blobs, &id, length)?) };
        Ok(true)
    }
}

/// Reads a chunk that should have `length` bytes.
fn read_chunk(blobs: &mut BlobReader, id: &crate::base::BlobId, length: u64) -> repo::Result<BlobBytes> {
    let bytes = blobs.read(id)?;
    if bytes.len() as u64 == length {
        Ok(bytes)
    } else {
        let reason = format!("it has {} bytes where its file says {length}", bytes.len());
        Err(repo::Error::damaged(format!("blob {id}"), reason))
    }
}

impl Read for Content<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> Result<usize> {
        if buffer.is_empty() {
            return Ok(0);
        }
        loop {
            let count = self.copy(buffer);
            if count > 0 || !self.advance().map_err(Error::other)? {
                return Ok(count);
            }
        }
    }
}
