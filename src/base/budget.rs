//! A bound on the bytes in flight.
//!
//! Whoever brings bytes into the process takes a permit first and gives it back when the bytes are gone. One
//! budget is shared by all stages of an operation, so its memory is one number that can be set and printed.

use std::sync::{Arc, Condvar, Mutex, PoisonError};

struct State {
    free_bytes: usize,
}

struct Shared {
    total_bytes: usize,
    state: Mutex<State>,
    freed: Condvar,
}

/// A number of bytes that may be in memory at once.
#[derive(Clone)]
pub struct Budget(Arc<Shared>);

/// A part of a budget; gives itself back when dropped.
pub struct Permit {
    budget: Budget,
    bytes: usize,
}

impl Budget {
    /// A budget of `total_bytes`.
    pub fn new(total_bytes: usize) -> Budget {
        assert!(total_bytes > 0, "a budget of nothing would wait for ever");
        Budget(Arc::new(Shared {
            total_bytes,
            state: Mutex::new(State { free_bytes: total_bytes }),
            freed: Condvar::new(),
        }))
    }

    /// Waits until `bytes` are free and takes them. More than the whole budget counts as the whole budget, so
    /// that one large thing passes alone instead of never.
    pub fn take(&self, bytes: usize) -> Permit {
        let bytes = bytes.min(self.0.total_bytes);
        let mut state = self.0.state.lock().unwrap_or_else(PoisonError::into_inner);
        while state.free_bytes < bytes {
            state = self.0.freed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        state.free_bytes -= bytes;
        Permit { budget: self.clone(), bytes }
    }

    /// Takes `bytes` if they are free, and does not wait.
    pub fn try_take(&self, bytes: usize) -> Option<Permit> {
        let bytes = bytes.min(self.0.total_bytes);
        let mut state = self.0.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.free_bytes = state.free_bytes.checked_sub(bytes)?;
        Some(Permit { budget: self.clone(), bytes })
    }

    /// The whole budget in bytes.
    pub fn total_bytes(&self) -> usize {
        self.0.total_bytes
    }
}

impl Permit {
    /// Gives back what is held above `bytes`.
    pub fn shrink(&mut self, bytes: usize) {
        if bytes < self.bytes {
            self.give_back(self.bytes - bytes);
            self.bytes = bytes;
        }
    }

    fn give_back(&self, bytes: usize) {
        let mut state = self.budget.0.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.free_bytes += bytes;
        drop(state);
        self.budget.0.freed.notify_all();
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.give_back(self.bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc;

    #[test]
    fn who_does_not_wait_gets_only_what_is_free() {
        let budget = Budget::new(10);
        let first = budget.try_take(8).expect("all is free");
        assert!(budget.try_take(3).is_none());
        assert!(budget.try_take(2).is_some());
        drop(first);
        assert!(budget.try_take(100).is_some(), "more than the whole budget is the whole budget");
    }

    #[test]
    fn a_second_taker_waits_for_the_first() {
        let budget = Budget::new(10);
        let first = budget.take(8);
        let (tell, told) = mpsc::channel();
        let waiting = budget.clone();
        let thread = std::thread::spawn(move || {
            let _second = waiting.take(100);
            tell.send(()).expect("the test listens");
        });
        assert!(told.try_recv().is_err());
        drop(first);
        told.recv().expect("the second taker gets the whole budget");
        thread.join().expect("no panic");
        assert_eq!(budget.0.state.lock().expect("not poisoned").free_bytes, 10);
    }
}
