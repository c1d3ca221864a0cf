//! Cutting what can only be read once.
//!
//! A [`Cutter`] keeps one buffer, searches it in place and moves only the unfinished tail to its front. It hands
//! out chunks in that buffer ([`Cutter::next_piece`], for a caller who first asks whether the chunk is known) or
//! as copies of their own (as an iterator, for a caller who sends them to another thread).

use std::fmt;
use std::io::{self, Read};

use super::{Chunker, Piece, Window, window_before};

/// Four largest chunks of format 1: at most a quarter of the bytes is moved once.
const BUFFER_BYTES: usize = 4 << 20;

/// Reads a stream and cuts it into chunks. Memory: one buffer of [`Cutter::buffer_bytes`].
pub struct Cutter<'a, R> {
    chunker: &'a Chunker,
    reader: R,
    buffer: Vec<u8>,
    /// Where the next chunk begins in the buffer.
    begin: usize,
    /// Where the bytes that were read end in the buffer.
    filled: usize,
    /// How many bytes of the stream have been handed out.
    position: u64,
    at_end: bool,
}

/// The smallest buffer that a stream is cut in, for who cuts many at once: each byte is moved once then.
pub fn least_buffer_bytes(chunker: &Chunker) -> usize {
    chunker.sizes().max() * 2
}

/// A chunk with its own memory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chunk {
    /// The bytes of the chunk.
    pub data: Vec<u8>,
    /// How many bytes of the stream come before it.
    pub start: u64,
    /// Whether the cut at its end was forced.
    pub forced: bool,
}

impl Chunk {
    /// The window of the cut at the end; `None` when that cut was forced.
    pub fn end_window(&self) -> Option<&Window> {
        if self.forced { None } else { window_before(&self.data, self.data.len()) }
    }
}

impl From<Piece<'_>> for Chunk {
    fn from(piece: Piece<'_>) -> Chunk {
        Chunk { data: piece.data.to_vec(), start: piece.start, forced: piece.forced }
    }
}

impl<'a, R: Read> Cutter<'a, R> {
    /// Begins to cut what `reader` gives.
    pub fn new(chunker: &'a Chunker, reader: R) -> Self {
        Self::with_buffer(chunker, reader, Vec::new())
    }

    /// Begins to cut with a buffer that an earlier cutter left behind, so that many small streams do not allocate
    /// one each. A buffer of at least [`least_buffer_bytes`] is used as it is, a smaller one grows to the usual size.
    pub fn with_buffer(chunker: &'a Chunker, reader: R, mut buffer: Vec<u8>) -> Self {
        if buffer.len() < least_buffer_bytes(chunker) {
            buffer.resize(Self::buffer_bytes(chunker), 0);
        }
        Cutter { chunker, reader, buffer, begin: 0, filled: 0, position: 0, at_end: false }
    }

    /// The memory that cutting a stream takes: 4 MiB, or twice the largest chunk when that is more.
    pub fn buffer_bytes(chunker: &Chunker) -> usize {
        BUFFER_BYTES.max(least_buffer_bytes(chunker))
    }

    /// Takes the buffer out, for [`Cutter::with_buffer`].
    pub fn into_buffer(self) -> Vec<u8> {
        self.buffer
    }

    /// The next chunk, inside the buffer; `None` at the end of the stream.
    ///
    /// # Errors
    ///
    /// What the reader answers, unchanged; interrupted reads are repeated. No bytes are lost by an error: calling
    /// again continues where it stood.
    pub fn next_piece(&mut self) -> io::Result<Option<Piece<'_>>> {
        self.fill()?;
        let Some(cut) = self.chunker.cut(&self.buffer[self.begin..self.filled], self.at_end) else {
            return Ok(None);
        };
        let (begin, start) = (self.begin, self.position);
        self.begin += cut.length;
        self.position += cut.length as u64;
        Ok(Some(Piece { data: &self.buffer[begin..self.begin], start, forced: cut.forced }))
    }

    /// Reads until the next cut can be decided: a largest chunk is there, or the stream ended.
    fn fill(&mut self) -> io::Result<()> {
        let needed = self.chunker.sizes().max();
        if self.buffer.len() - self.begin < needed {
            self.buffer.copy_within(self.begin..self.filled, 0);
            self.filled -= self.begin;
            self.begin = 0;
        }
        while !self.at_end && self.filled - self.begin < needed {
            match self.reader.read(&mut self.buffer[self.filled..]) {
                Ok(0) => self.at_end = true,
                Ok(count) => self.filled += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

/// Chunks with memory of their own. After an error the iterator may be asked again, as [`Cutter::next_piece`] may.
impl<R: Read> Iterator for Cutter<'_, R> {
    type Item = io::Result<Chunk>;

    fn next(&mut self) -> Option<io::Result<Chunk>> {
        self.next_piece().map(|piece| piece.map(Chunk::from)).transpose()
    }
}

impl<R> fmt::Debug for Cutter<'_, R> {
    /// Without the content that is being cut.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cutter")
            .field("chunker", self.chunker)
            .field("position", &self.position)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
pub(super) mod tests {
    use super::*;
    use crate::base::random::Lot;
    use crate::chunk::Sizes;

    /// Bytes that do not compress, the same for the same seed.
    pub fn random_bytes(seed: u64, length: usize) -> Vec<u8> {
        let mut lot = Lot::of(seed);
        (0..length).map(|_| lot.draw() as u8).collect()
    }

    /// Rows with a number and much padding, which hold few places that a mask would choose.
    pub fn padded_rows(seed: u64, count: usize) -> Vec<u8> {
        let random = random_bytes(seed, count);
        random.iter().enumerate().flat_map(|(row, byte)| format!("{row}\t{byte:<80}\n").into_bytes()).collect()
    }

    /// Gives its data in pieces of random length, with an interruption now and then.
    struct Dribble<'a> {
        data: &'a [u8],
        lot: Lot,
        largest: u64,
    }

    impl Read for Dribble<'_> {
        fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
            if self.lot.draw().is_multiple_of(16) {
                return Err(io::ErrorKind::Interrupted.into());
            }
            let wanted = (1 + self.lot.draw() % self.largest) as usize;
            let count = wanted.min(into.len()).min(self.data.len());
            into[..count].copy_from_slice(&self.data[..count]);
            self.data = &self.data[count..];
            Ok(count)
        }
    }

    fn chunker() -> Chunker {
        Chunker::new(Sizes::new(4 << 10, 16 << 10, 64 << 10).unwrap(), 99)
    }

    #[test]
    fn a_stream_is_cut_where_the_same_data_in_memory_is_cut() {
        let chunker = chunker();
        for seed in 0..12_u64 {
            let mut lot = Lot::of(seed);
            let length = [0, 1, 4096, 70_000, 5_000_000][(lot.draw() % 5) as usize] + lot.draw() as usize % 3;
            let data = match seed % 2 {
                0 => random_bytes(seed, length),
                _ => padded_rows(seed, length / 80),
            };
            let largest = [100, 9_000, 300_000, 9_000_000][seed as usize % 4];
            let cutter = Cutter::new(&chunker, Dribble { data: &data, lot, largest });
            let read: Vec<Chunk> = cutter.map(Result::unwrap).collect();
            let whole: Vec<Chunk> = chunker.cuts(&data).map(Chunk::from).collect();
            assert!(read == whole, "seed {seed}: {} chunks, not {}", read.len(), whole.len());
            assert!(read.iter().zip(chunker.cuts(&data)).all(|(a, b)| a.end_window() == b.end_window()));
        }
    }

    #[test]
    fn an_empty_stream_has_no_chunk() {
        assert!(Cutter::new(&chunker(), io::empty()).next().is_none());
    }

    #[test]
    fn the_buffer_does_not_grow_and_can_be_used_again() {
        let chunker = Chunker::new(Sizes::V1, 5);
        let expected = Cutter::<io::Empty>::buffer_bytes(&chunker);
        assert_eq!(expected, 4 << 20);
        let mut cutter = Cutter::new(&chunker, io::repeat(0).take(30 << 20));
        while let Some(piece) = cutter.next_piece().unwrap() {
            assert_eq!(piece.data.len(), 1 << 20);
        }
        let buffer = cutter.into_buffer();
        assert_eq!((buffer.len(), buffer.capacity()), (expected, expected));
        let (address, mut again) = (buffer.as_ptr(), Cutter::with_buffer(&chunker, &b"short"[..], buffer));
        assert_eq!(again.next_piece().unwrap().unwrap().data, b"short");
        let buffer = again.into_buffer();
        assert_eq!(buffer.as_ptr(), address);
    }

    #[test]
    fn a_failing_reader_is_reported_and_nothing_is_lost() {
        struct Hiccup<'a>(Dribble<'a>, bool);
        impl Read for Hiccup<'_> {
            fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
                if self.0.data.len() < 50_000 && !std::mem::replace(&mut self.1, true) {
                    return Err(io::Error::other("the cable fell out"));
                }
                self.0.read(into)
            }
        }
        let chunker = chunker();
        let data = random_bytes(4, 200_000);
        let mut cutter = Cutter::new(&chunker, Hiccup(Dribble { data: &data, lot: Lot::of(8), largest: 999 }, false));
        let (mut joined, mut failures) = (Vec::new(), 0);
        loop {
            match cutter.next_piece() {
                Ok(Some(piece)) => joined.extend_from_slice(piece.data),
                Ok(None) => break,
                Err(error) => {
                    assert_eq!(error.to_string(), "the cable fell out");
                    failures += 1;
                }
            }
        }
        assert_eq!((joined == data, failures), (true, 1));
    }
}
