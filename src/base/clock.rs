//! The one clock.
//!
//! Nothing else in the crate reads the time of day or a stopwatch, so that a test can say what time it is.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, Instant};

pub use jiff::civil::Date;
pub use jiff::tz::TimeZone;
pub use jiff::{Span, Timestamp, Zoned};

/// Where the time comes from.
#[derive(Clone, Debug)]
pub enum Clock {
    /// The machine's own clock.
    System,
    /// Nanoseconds since 1970 that only move when told to.
    Manual(Arc<AtomicI64>),
}

impl Clock {
    /// A clock that stands at `start` until [`Clock::advance`] is called.
    pub fn manual(start: Timestamp) -> Clock {
        Clock::Manual(Arc::new(AtomicI64::new(start.as_nanosecond() as i64)))
    }

    /// The time of day.
    pub fn now(&self) -> Timestamp {
        match self {
            Clock::System => Timestamp::now(),
            Clock::Manual(nanoseconds) => {
                Timestamp::from_nanosecond(i128::from(nanoseconds.load(Ordering::SeqCst))).unwrap_or(Timestamp::MAX)
            }
        }
    }

    /// Moves a manual clock forward; has no effect on the machine's own.
    pub fn advance(&self, by: Duration) {
        if let Clock::Manual(nanoseconds) = self {
            nanoseconds.fetch_add(by.as_nanos() as i64, Ordering::SeqCst);
        }
    }
}

/// A stopwatch, started when it is made.
#[derive(Clone, Copy)]
pub struct Stopwatch(Instant);

impl Stopwatch {
    /// Starts now.
    #[allow(clippy::new_without_default)]
    pub fn start() -> Stopwatch {
        Stopwatch(Instant::now())
    }

    /// Time since the start; never runs backwards.
    pub fn elapsed(&self) -> Duration {
        self.0.elapsed()
    }

    /// The same in whole milliseconds.
    pub fn elapsed_ms(&self) -> u64 {
        u64::try_from(self.0.elapsed().as_millis()).unwrap_or(u64::MAX)
    }
}

/// A span of time, as people say it.
pub fn span(ms: u64) -> String {
    let seconds = ms / 1000;
    match seconds {
        0..=59 => format!("{:.1} s", ms as f64 / 1000.0),
        60..=3599 => format!("{} min {} s", seconds / 60, seconds % 60),
        3600..=172_799 => format!("{} h {} min", seconds / 3600, seconds / 60 % 60),
        _ => format!("{} days {} h", seconds / 86_400, seconds / 3600 % 24),
    }
}
