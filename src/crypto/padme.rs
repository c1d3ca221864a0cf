//! Padmé: how long a sealed object is made, so that its length says little about its content.
//!
//! Nikitin, Barman, Lueks, Underwood, Hubaux, Ford: "Reducing Metadata Leakage from Encrypted Files and
//! Communication with PURBs", PoPETs 2019(4), section 4. Of a length of at most 2^n bytes about log n bits remain
//! visible, for at most 12 % more bytes.

/// The length to pad `length` bytes to: never less, and the same for all that have its leading bits.
///
/// Lengths that would not fit a `u64` when padded stay as they are.
pub fn padded_length(length: u64) -> u64 {
    if length < 2 {
        return length;
    }
    // Of the e bits below the leading one, as many may be set as it takes to write e itself; the rest become zero.
    let exponent = length.ilog2();
    let kept_bits = exponent.checked_ilog2().map_or(0, |log| log + 1);
    let mask = (1u64 << (exponent - kept_bits)) - 1;
    length.checked_add(mask).map_or(length, |sum| sum & !mask)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn samples() -> impl Iterator<Item = u64> {
        let around_powers = (3..63).flat_map(|n| {
            let power = 1u64 << n;
            [power - 1, power, power + 1, power + power / 3]
        });
        (0..5000).chain(around_powers)
    }

    #[test]
    fn lengths_of_the_paper_come_out() {
        for (length, padded) in [(0, 0), (1, 1), (8, 8), (9, 10), (16, 16), (17, 18), (100, 104), (1000, 1024)] {
            assert_eq!(padded_length(length), padded, "{length}");
        }
    }

    #[test]
    fn padding_adds_at_most_twelve_per_cent() {
        for length in samples() {
            let padded = padded_length(length);
            assert!(padded >= length, "{length}");
            let added = u128::from(padded - length);
            assert!(added * 100 <= u128::from(length) * 12, "{length} to {padded}");
        }
    }

    #[test]
    fn padding_twice_is_padding_once() {
        for length in samples() {
            assert_eq!(padded_length(padded_length(length)), padded_length(length), "{length}");
        }
    }

    #[test]
    fn what_is_longer_is_not_padded_shorter() {
        let mut sorted: Vec<u64> = samples().collect();
        sorted.sort_unstable();
        for pair in sorted.windows(2) {
            assert!(padded_length(pair[0]) <= padded_length(pair[1]), "{pair:?}");
        }
    }

    #[test]
    fn the_largest_lengths_do_not_wrap() {
        assert_eq!(padded_length(u64::MAX), u64::MAX);
    }
}
