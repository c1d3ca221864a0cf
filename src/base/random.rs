//! The system's random source.

/// Fills an array with random bytes fit for keys, nonces and names.
///
/// Panics when the operating system has no random source: without one nothing here can be safe.
pub fn bytes<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    fill(&mut bytes);
    bytes
}

/// Fills a slice with random bytes; panics like [`bytes()`].
pub fn fill(bytes: &mut [u8]) {
    getrandom::fill(bytes).expect("the operating system provides random bytes");
}
