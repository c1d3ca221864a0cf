//! Counting rows as they pass.

use crate::crypto::RowSum;
use std::io::{self, Read};

/// Reads the rows that COPY writes as text, and counts them, their bytes and their checksum. A line end inside a value
/// is written `\n`, so each that comes ends a row.
pub(super) struct Counted<R> {
    inner: R,
    /// Rows so far.
    pub(super) rows: u64,
    /// Bytes so far.
    pub(super) bytes: u64,
    sum: RowSum,
    /// Whether a row has begun and not ended.
    within: bool,
    /// Whether the end was seen.
    pub(super) ended: bool,
}

impl<R: Read> Counted<R> {
    pub(super) fn new(inner: R) -> Counted<R> {
        Counted { inner, rows: 0, bytes: 0, sum: RowSum::new(), within: false, ended: false }
    }

    /// The checksum, as a manifest has it.
    pub(super) fn checksum(&self) -> String {
        self.sum.hex()
    }

    pub(super) fn into_inner(self) -> R {
        self.inner
    }

    fn count(&mut self, bytes: &[u8]) {
        self.bytes += bytes.len() as u64;
        for piece in bytes.split_inclusive(|byte| *byte == b'\n') {
            match piece.split_last() {
                Some((b'\n', row)) if self.within => {
                    self.sum.push(row);
                    self.sum.end_row();
                    self.within = false;
                    self.rows += 1;
                }
                Some((b'\n', row)) => {
                    self.sum.whole_row(row);
                    self.rows += 1;
                }
                _ => {
                    self.sum.push(piece);
                    self.within = true;
                }
            }
        }
    }
}

impl<R: Read> Read for Counted<R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let length = self.inner.read(into)?;
        if length == 0 && !into.is_empty() {
            if self.within {
                return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the last row has no end"));
            }
            self.ended = true;
        }
        self.count(&into[..length]);
        Ok(length)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_counted_however_they_are_cut() {
        let text = b"1\ta\n\n22\tb\\n\n";
        let mut sums = Vec::new();
        for size in 1..=text.len() {
            let mut counted = Counted::new(&text[..]);
            let mut piece = vec![0; size];
            while counted.read(&mut piece).unwrap() > 0 {}
            assert_eq!((counted.rows, counted.bytes, counted.ended), (3, text.len() as u64, true));
            sums.push(counted.checksum());
        }
        sums.dedup();
        assert_eq!(sums.len(), 1);
        assert!(io::copy(&mut Counted::new(&b"1\n2"[..]), &mut io::sink()).is_err(), "a row without its end");
    }
}
