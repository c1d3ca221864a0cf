//! Keys and seals: names, AES-SIV, key slots. Pure computation, no I/O.
//!
//! | file | what it is for |
//! | --- | --- |
//! | [`siv`] | sealing and opening bytes (RFC 5297), several messages at once |

pub mod siv;

pub use siv::{Forged, Message, SivKey};

/// Whether two secrets are the same, in a time that does not tell where they differ.
fn same_bytes<const N: usize>(a: &[u8; N], b: &[u8; N]) -> bool {
    let difference = a.iter().zip(b).fold(0, |sum, (a, b)| sum | (a ^ b));
    std::hint::black_box(difference) == 0
}
