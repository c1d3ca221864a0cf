//! A flag that asks everybody to stop.

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use std::io::{self, Read};
use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// How often a wait looks whether somebody asked to stop.
pub const LOOK_EVERY: Duration = Duration::from_millis(50);

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

    /// Sleeps so long, or until somebody asks to stop.
    pub fn rest(&self, mut left: Duration) {
        while !left.is_zero() && !self.raised() {
            let nap = left.min(LOOK_EVERY);
            std::thread::sleep(nap);
            left -= nap;
        }
    }

    /// The raw flag, for a signal handler.
    pub fn flag(&self) -> Arc<AtomicBool> {
        self.flag.clone()
    }
}

/// Reads from a pipe, and no longer than until somebody asks to stop: who writes nothing into it keeps nobody. Nothing
/// between it and the pipe may buffer.
pub struct Stoppable<R> {
    pipe: R,
    stop: Stop,
}

impl<R: Read + AsFd> Stoppable<R> {
    /// Reads from `pipe`.
    pub fn new(pipe: R, stop: Stop) -> Stoppable<R> {
        Stoppable { pipe, stop }
    }
}

impl<R: Read + AsFd> Read for Stoppable<R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let pause = Timespec { tv_sec: 0, tv_nsec: LOOK_EVERY.subsec_nanos().into() };
        loop {
            if self.stop.raised() {
                // Not `ErrorKind::Interrupted`: readers would try again.
                return Err(io::Error::other("stopped"));
            }
            match poll(&mut [PollFd::new(&self.pipe, PollFlags::IN)], Some(&pause)) {
                Ok(0) | Err(rustix::io::Errno::INTR) => {}
                Ok(_) => return self.pipe.read(into),
                Err(error) => return Err(error.into()),
            }
        }
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
