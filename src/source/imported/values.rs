//! The numbers and texts that the head of a PostgreSQL archive is made of, read as their bytes come.

/// Reads values that may be cut anywhere. A value that has not come whole yet is `None`; ask for the same again when
/// there are more bytes.
#[derive(Debug, Default)]
pub struct Values {
    /// How many bytes a number has, without its sign.
    pub int_bytes: usize,
    /// How many bytes a place in the file has.
    pub offset_bytes: usize,
    partial: Vec<u8>,
    text: Option<Text>,
    /// Bytes that were read in all.
    pub position: u64,
}

/// A text that is being read: bytes to come, and the first of those that came.
#[derive(Debug)]
struct Text {
    left: u64,
    kept: Vec<u8>,
}

impl Values {
    /// For numbers and offsets of so many bytes.
    pub fn new(int_bytes: usize, offset_bytes: usize) -> Values {
        Values { int_bytes, offset_bytes, ..Values::default() }
    }

    /// So many bytes.
    fn bytes(&mut self, input: &mut &[u8], length: usize) -> bool {
        let used = input.len().min(length - self.partial.len());
        self.partial.extend_from_slice(&input[..used]);
        *input = &input[used..];
        self.position += used as u64;
        self.partial.len() == length
    }

    /// A byte.
    pub fn byte(&mut self, input: &mut &[u8]) -> Option<u8> {
        let (first, rest) = input.split_first()?;
        *input = rest;
        self.position += 1;
        Some(*first)
    }

    /// A number: a sign byte, then the least significant byte first. What is too large is the largest number.
    pub fn int(&mut self, input: &mut &[u8]) -> Option<i64> {
        if !self.bytes(input, 1 + self.int_bytes) {
            return None;
        }
        let size = little_endian(&self.partial[1..]);
        let size = i64::try_from(size).unwrap_or(i64::MAX);
        let number = if self.partial[0] == 0 { size } else { -size };
        self.partial.clear();
        Some(number)
    }

    /// A place in the file with the byte that says whether it is known.
    pub fn offset(&mut self, input: &mut &[u8]) -> Option<(u8, u64)> {
        if !self.bytes(input, 1 + self.offset_bytes) {
            return None;
        }
        let offset = (self.partial[0], little_endian(&self.partial[1..]));
        self.partial.clear();
        Some(offset)
    }

    /// A text, of which at most the first `keep` bytes are kept; none within if it is the one that says nothing.
    pub fn text(&mut self, input: &mut &[u8], keep: usize) -> Option<Option<Vec<u8>>> {
        if self.text.is_none() {
            let length = self.int(input)?;
            let Ok(left) = u64::try_from(length) else { return Some(None) };
            self.text = Some(Text { left, kept: Vec::new() });
        }
        let text = self.text.as_mut()?;
        let used = usize::try_from(text.left).unwrap_or(usize::MAX).min(input.len());
        let room = keep.saturating_sub(text.kept.len()).min(used);
        text.kept.extend_from_slice(&input[..room]);
        text.left -= used as u64;
        self.position += used as u64;
        *input = &input[used..];
        if text.left > 0 {
            return None;
        }
        self.text.take().map(|text| Some(text.kept))
    }
}

fn little_endian(bytes: &[u8]) -> u64 {
    bytes.iter().rev().fold(0, |number, byte| (number << 8) | u64::from(*byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_come_back_however_they_are_cut() {
        let bytes = [&[0u8, 5, 0, 0, 0][..], b"hello", &[1, 1, 0, 0, 0], &[1, 2, 1, 0, 0], &[2, 7, 1], &[9]].concat();
        for step in 1..bytes.len() {
            let mut values = Values::new(4, 2);
            let (mut text, mut none, mut int, mut offset, mut byte) = (None, None, None, None, None);
            for mut part in bytes.chunks(step) {
                text = text.or_else(|| values.text(&mut part, 3));
                none = none.or_else(|| text.as_ref().and_then(|_| values.text(&mut part, 3)));
                int = int.or_else(|| none.as_ref().and_then(|_| values.int(&mut part)));
                offset = offset.or_else(|| int.and_then(|_| values.offset(&mut part)));
                byte = byte.or_else(|| offset.and_then(|_| values.byte(&mut part)));
            }
            assert_eq!(text, Some(Some(b"hel".to_vec())), "by {step}");
            assert_eq!((none, int, offset, byte), (Some(None), Some(-258), Some((2, 263)), Some(9)), "by {step}");
            assert_eq!(values.position, bytes.len() as u64);
        }
    }
}
