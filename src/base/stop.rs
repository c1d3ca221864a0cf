//! A flag that asks everybody to stop.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// A shared flag: once raised it stays raised. Loops look at it between items, so that what is stored stays stored.
#[derive(Clone, Default)]
pub struct Stop {
    flag: Arc<AtomicBool>,
    above: Option<Arc<Stop>>,
}

impl Stop {
    /// A flag that is down.
    pub fn new() -> Stop {
        Stop::default()
    }

    /// A flag for a part of the work: it counts as raised when this one is, and can be raised alone.
    #[must_use]
    pub fn child(&self) -> Stop {
        Stop { flag: Arc::default(), above: Some(Arc::new(self.clone())) }
    }

    /// Asks everybody who holds a clone to stop.
    pub fn raise(&self) {
        self.flag.store(true, Ordering::SeqCst);
    }

    /// Whether somebody asked to stop.
    pub fn raised(&self) -> bool {
        self.flag.load(Ordering::Relaxed) || self.above.as_ref().is_some_and(|above| above.raised())
    }

    /// The raw flag, for a signal handler.
    pub fn flag(&self) -> Arc<AtomicBool> {
        self.flag.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_can_be_stopped_alone_and_stops_with_the_whole() {
        let whole = Stop::new();
        let (first, second) = (whole.child(), whole.child());
        let deep = second.child();
        first.raise();
        assert!(first.raised() && !whole.raised() && !second.raised() && !deep.raised());
        whole.raise();
        assert!(second.raised() && deep.raised());
    }
}
