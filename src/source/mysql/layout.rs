//! How the rows of a table are written down: one a line, in statements whose ends the rows themselves choose.
//!
//! Dump programs begin a new `INSERT` whenever the last one has reached a megabyte, so that a row more at the beginning of
//! a table moves every statement behind it. Here a statement ends behind a row whose hash says so: tonight's statements
//! begin and end where last night's did, but for those that changed. The text is otherwise the program's own.

use crate::crypto::RowSum;

/// A statement does not end before it has so many bytes, unless the table ends or a row is too long for it.
const MIN_STATEMENT_BYTES: usize = 64 << 10;
/// Beyond that it goes on for so many bytes on average.
const MEAN_FURTHER_BYTES: u64 = 192 << 10;
/// A statement of several rows has at most so many bytes, below the smallest `max_allowed_packet` by default. A row
/// that is longer has a statement of its own.
const MAX_STATEMENT_BYTES: usize = 1000 << 10;

/// Writes the rows of one table, and counts and sums them.
#[derive(Default)]
pub(super) struct Layout {
    /// The statement up to `VALUES`.
    head: Vec<u8>,
    /// Bytes of the statement that is open; 0 if none is.
    open_bytes: usize,
    /// The row so far.
    row: Vec<u8>,
    /// Whether the row is too long to be held, and is written as it comes.
    passes: bool,
    sum: RowSum,
    rows: u64,
    bytes: u64,
}

impl Layout {
    /// Rows follow that belong behind `head`.
    pub fn insert(&mut self, head: &[u8], out: &mut Vec<u8>) {
        if self.head != head {
            self.close(out);
            self.head = head.to_vec();
        }
    }

    /// The next bytes of a row.
    pub fn piece(&mut self, piece: &[u8], out: &mut Vec<u8>) {
        self.sum.push(piece);
        self.bytes += piece.len() as u64;
        if self.passes {
            out.extend_from_slice(piece);
            return;
        }
        self.row.extend_from_slice(piece);
        if self.row.len() > MAX_STATEMENT_BYTES {
            self.close(out);
            self.begin_row(out);
            out.append(&mut self.row);
            self.passes = true;
        }
    }

    /// The row ends.
    pub fn end_row(&mut self, out: &mut Vec<u8>) {
        let hash = self.sum.end_row();
        self.rows += 1;
        if std::mem::take(&mut self.passes) {
            out.push(b')');
            self.close(out);
            return;
        }
        if self.open_bytes + self.row.len() > MAX_STATEMENT_BYTES {
            self.close(out);
        }
        self.begin_row(out);
        out.extend_from_slice(&self.row);
        out.push(b')');
        let length = self.row.len();
        self.open_bytes += length;
        self.row.clear();
        if self.open_bytes >= MIN_STATEMENT_BYTES && ends_here(&hash, length) {
            self.close(out);
        }
    }

    fn begin_row(&mut self, out: &mut Vec<u8>) {
        match self.open_bytes {
            0 => out.extend_from_slice(&self.head),
            _ => out.push(b','),
        }
        out.extend_from_slice(b"\n(");
        self.open_bytes += 3;
    }

    /// Ends the statement that is open.
    pub fn close(&mut self, out: &mut Vec<u8>) {
        if std::mem::take(&mut self.open_bytes) > 0 {
            out.extend_from_slice(b";\n");
        }
    }

    /// Rows so far.
    pub fn rows(&self) -> u64 {
        self.rows
    }

    /// Bytes of the rows so far, without what stands between them.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Their checksum.
    pub fn checksum(&self) -> String {
        self.sum.hex()
    }
}

/// Whether a statement ends behind a row of `length` bytes: the longer, the likelier.
fn ends_here(hash: &[u8; 32], length: usize) -> bool {
    let (_, last) = hash.split_last_chunk().expect("32 bytes end with 4");
    u64::from(u32::from_le_bytes(*last)) * MEAN_FURTHER_BYTES < (length as u64) << 32
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn written(rows: &[String]) -> (Layout, String) {
        let (mut layout, mut out) = (Layout::default(), Vec::new());
        layout.insert(b"INSERT INTO `t` VALUES", &mut out);
        for row in rows {
            layout.piece(row.as_bytes(), &mut out);
            layout.end_row(&mut out);
        }
        layout.close(&mut out);
        (layout, String::from_utf8(out).unwrap())
    }

    #[test]
    fn rows_stand_one_a_line_and_are_counted_and_summed() {
        let (layout, text) = written(&["1,'a'".into(), "2,NULL".into()]);
        assert_eq!(text, "INSERT INTO `t` VALUES\n(1,'a'),\n(2,NULL);\n");
        assert_eq!((layout.rows(), layout.bytes()), (2, 11));
        assert_eq!(written(&["2,NULL".into(), "1,'a'".into()]).0.checksum(), layout.checksum());
        assert_eq!(written(&[]).1, "");
    }

    #[test]
    fn a_row_more_moves_few_statements() {
        let rows: Vec<String> = (0..40_000).map(|number| format!("{number},'{}'", "x".repeat(40))).collect();
        let statements = |text: &str| text.split(";\n").map(str::to_owned).collect::<std::collections::BTreeSet<_>>();
        let before = statements(&written(&rows).1);
        let after = statements(&written(&[&["-1,'new'".to_owned()][..], &rows].concat()).1);
        assert!(before.len() > 5, "{}", before.len());
        assert!(before.difference(&after).count() <= 3, "of {}", before.len());
        assert!(before.iter().all(|statement| statement.len() <= MAX_STATEMENT_BYTES + 100));
    }

    #[test]
    fn a_row_that_is_longer_than_a_statement_passes_and_has_one_of_its_own() {
        let long = "y".repeat(MAX_STATEMENT_BYTES * 3);
        let (mut layout, mut out) = (Layout::default(), Vec::new());
        layout.insert(b"I", &mut out);
        layout.piece(b"1", &mut out);
        layout.end_row(&mut out);
        for piece in long.as_bytes().chunks(1000) {
            layout.piece(piece, &mut out);
            assert!(layout.row.len() <= MAX_STATEMENT_BYTES + 1000);
        }
        layout.end_row(&mut out);
        layout.piece(b"3", &mut out);
        layout.end_row(&mut out);
        layout.close(&mut out);
        assert_eq!(String::from_utf8(out).unwrap(), format!("I\n(1);\nI\n({long});\nI\n(3);\n"));
        assert_eq!(layout.rows(), 3);
    }
}
