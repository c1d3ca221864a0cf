//! Whether dumps fit where the repository lies, as far as that is known before they are taken.
//!
//! How well rows compress and how much of them is stored already shows only afterwards. So there are two answers besides
//! "yes": what might not fit is told, and what cannot fit by any hope is refused.

/// Of what compresses best a tenth is left; nobody should hope for more.
const HOPE: u64 = 10;

/// What there is room for.
#[derive(Clone, Copy, Debug, Default)]
pub struct Space {
    /// Bytes that are free where the repository lies; none if nobody knows.
    pub free_bytes: Option<u64>,
    /// Bytes that the repository has stored so far.
    pub stored_bytes: u64,
}

impl Space {
    /// Whether content of so many bytes, of which nothing is stored yet, may not fit.
    pub fn may_lack(self, bytes: u64) -> bool {
        self.is_first(bytes) && self.free_bytes.is_some_and(|free| free < bytes)
    }

    /// Whether it will not fit, however well it compresses.
    pub fn lacks(self, bytes: u64) -> bool {
        self.is_first(bytes) && self.free_bytes.is_some_and(|free| free < bytes / HOPE)
    }

    /// After the first night only differences are stored.
    fn is_first(self, bytes: u64) -> bool {
        self.stored_bytes < bytes / 4
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn room_is_short_only_for_what_is_larger_than_it_and_mostly_new() {
        let space = |free_bytes, stored_bytes| Space { free_bytes, stored_bytes };
        assert!(space(Some(99), 0).may_lack(100) && space(Some(99), 24).may_lack(100));
        assert!(!space(Some(100), 0).may_lack(100) && !space(Some(99), 25).may_lack(100));
        assert!(!space(None, 0).may_lack(u64::MAX) && !space(None, 0).lacks(u64::MAX));
        assert!(space(Some(9), 0).lacks(100) && !space(Some(10), 0).lacks(100) && !space(Some(9), 25).lacks(100));
    }
}
