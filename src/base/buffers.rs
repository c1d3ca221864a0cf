//! Byte vectors that are used again.
//!
//! A large vector that is dropped goes back to the system page by page, and the next one of its size is fetched from
//! there, zeroed: for data that cannot be compressed that was a quarter of a backup's processor time.

use std::sync::{Mutex, PoisonError};

/// Emptied vectors that wait for their next use; a bounded number of them.
pub struct Buffers {
    most: usize,
    least_bytes: usize,
    free: Mutex<Vec<Vec<u8>>>,
}

impl Buffers {
    /// Keeps at most `most` vectors, none with room for less than `least_bytes`.
    pub fn new(most: usize, least_bytes: usize) -> Buffers {
        Buffers { most, least_bytes, free: Mutex::default() }
    }

    /// An empty vector, with room from its last use if one waits. Of several the one that was given last, which is
    /// the likeliest to be in the processor's cache.
    pub fn take(&self) -> Vec<u8> {
        self.free.lock().unwrap_or_else(PoisonError::into_inner).pop().unwrap_or_default()
    }

    /// Takes a vector back that nobody reads any more.
    pub fn give(&self, mut bytes: Vec<u8>) {
        if bytes.capacity() < self.least_bytes.max(1) {
            return;
        }
        bytes.clear();
        let mut free = self.free.lock().unwrap_or_else(PoisonError::into_inner);
        if free.len() < self.most {
            free.push(bytes);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_given_comes_back_empty_and_no_more_than_agreed() {
        let buffers = Buffers::new(2, 100);
        (0..3).for_each(|_| buffers.give(vec![7; 200]));
        buffers.give(vec![7; 99]);
        let taken: Vec<_> = (0..3).map(|_| buffers.take()).collect();
        assert!(taken.iter().all(Vec::is_empty));
        assert_eq!(taken.iter().map(|bytes| bytes.capacity() >= 200).collect::<Vec<_>>(), [true, true, false]);
    }
}
