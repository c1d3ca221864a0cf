//! Checksums of tables whatever the order of their rows.
//!
//! The sum modulo 2^128 of the first 16 bytes (little-endian) of the BLAKE3 hash of each row's text. Two tables with the
//! same rows have the same sum in whatever order they were read; a row more, less or altered makes another one.

/// Adds up rows, which may come in pieces.
#[derive(Clone, Default)]
pub struct RowSum {
    row: blake3::Hasher,
    sum: u128,
}

impl RowSum {
    /// The sum of no rows.
    pub fn new() -> RowSum {
        RowSum::default()
    }

    /// Takes in the next piece of the present row's text.
    pub fn push(&mut self, piece: &[u8]) {
        self.row.update(piece);
    }

    /// The present row ends here. Answers with its whole hash.
    pub fn end_row(&mut self) -> [u8; 32] {
        let hash = *self.row.finalize().as_bytes();
        self.row.reset();
        self.add(hash)
    }

    /// Takes in a row that came in one piece.
    pub fn whole_row(&mut self, text: &[u8]) -> [u8; 32] {
        self.add(*blake3::hash(text).as_bytes())
    }

    fn add(&mut self, hash: [u8; 32]) -> [u8; 32] {
        let (first, _) = hash.split_first_chunk().expect("32 bytes begin with 16");
        self.sum = self.sum.wrapping_add(u128::from_le_bytes(*first));
        hash
    }

    /// The sum so far as 32 hexadecimal digits, the highest first.
    pub fn hex(&self) -> String {
        format!("{:032x}", self.sum)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sum(rows: &[&str]) -> String {
        let mut sum = RowSum::new();
        rows.iter().for_each(|row| {
            sum.whole_row(row.as_bytes());
        });
        sum.hex()
    }

    #[test]
    fn the_sum_depends_on_the_rows_and_not_on_their_order() {
        assert_eq!(sum(&["1,'a'", "2,'b'", "2,'b'"]), sum(&["2,'b'", "1,'a'", "2,'b'"]));
        assert_ne!(sum(&["1", "2"]), sum(&["1", "2", "2"]));
        assert_ne!(sum(&["1", "2"]), sum(&["12", ""]));
        assert_eq!(sum(&[]), "0".repeat(32));
    }

    #[test]
    fn a_row_in_pieces_is_the_same_row() {
        let mut pieces = RowSum::new();
        pieces.push(b"1,");
        pieces.push(b"'a'");
        pieces.end_row();
        assert_eq!(pieces.hex(), sum(&["1,'a'"]));
    }

    #[test]
    fn the_sum_stays_as_it_is() {
        // Manifests in the world hold such sums. BLAKE3 of "abc" begins with 6437b3ac38465133ffb63b75273a8db5.
        assert_eq!(sum(&["abc"]), "b58d3a27753bb6ff33514638acb33764");
    }
}
