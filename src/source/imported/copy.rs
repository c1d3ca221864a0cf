//! Counting the rows of COPY text: one a line, until the line `\.`.

use std::io::BufRead;

/// Counts rows as their bytes come. A row cannot contain a line end: COPY writes those as `\n`.
#[derive(Debug, Default)]
pub struct CopyRows {
    rows: u64,
    line: Line,
}

/// How far the present line has come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Line {
    #[default]
    Start,
    Backslash,
    Dot,
    Middle,
    Ended,
}

impl CopyRows {
    /// Takes what belongs to the rows and to the line that ends them, and says how many bytes that was; all of them
    /// unless the end was among them.
    pub fn push(&mut self, bytes: &[u8]) -> usize {
        let mut rest = bytes;
        while let Some((first, after)) = rest.split_first() {
            match (self.line, first) {
                (Line::Ended, _) => break,
                (Line::Start, b'\\') => self.line = Line::Backslash,
                (Line::Backslash, b'.') => self.line = Line::Dot,
                // Written on a system whose lines end so.
                (Line::Dot, b'\r') => {}
                (Line::Dot, b'\n') => self.line = Line::Ended,
                _ => {
                    rest = self.rest_of_line(rest);
                    continue;
                }
            }
            rest = after;
        }
        bytes.len() - rest.len()
    }

    fn rest_of_line<'b>(&mut self, mut bytes: &'b [u8]) -> &'b [u8] {
        let whole = bytes;
        let skipped = bytes.skip_until(b'\n').unwrap_or(0);
        let ended = skipped > 0 && whole[skipped - 1] == b'\n';
        self.rows += u64::from(ended);
        self.line = if ended { Line::Start } else { Line::Middle };
        bytes
    }

    /// Rows so far.
    pub fn rows(&self) -> u64 {
        self.rows
    }

    /// Whether the line came that ends them.
    pub fn ended(&self) -> bool {
        self.line == Line::Ended
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_counted_until_the_line_that_ends_them_however_they_are_cut() {
        let text = b"1\ta\\nb\n\n\\N\t\\\\.\n\\.x\n.\n\\.\n\nrest";
        for at in 0..text.len() {
            let mut rows = CopyRows::default();
            let first = rows.push(&text[..at]);
            let second = if first == at { rows.push(&text[at..]) } else { 0 };
            assert_eq!((rows.rows(), rows.ended(), first + second), (5, true, text.len() - 5), "cut at {at}");
        }
    }

    #[test]
    fn rows_without_their_end_are_not_ended() {
        let mut rows = CopyRows::default();
        assert_eq!(rows.push(b"1\n2\n\\."), 6);
        assert!(!rows.ended());
        assert_eq!(rows.rows(), 2);
    }
}
