//! How long a source may take, how often it is tried, and how many are read at once.

use crate::base::{Stop, random};
use backon::{BackoffBuilder, ExponentialBuilder};
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::thread::{Builder, JoinHandle};
use std::time::Duration;

/// No wait before another attempt is longer.
const LONGEST_WAIT: Duration = Duration::from_secs(60);

/// Bounds for databases and commands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// So many sources are read at once, at least 1.
    pub max_parallel: usize,
    /// A database whose failure may pass is tried so often, at least once.
    pub attempts: u32,
    /// The wait before the second attempt; each further one is twice as long, drawn out by a random part, at most a
    /// minute.
    pub first_wait: Duration,
    /// How long one source may take, all attempts together.
    pub source_timeout: Duration,
    /// How long all of them together may take; none for as long as they need.
    pub timeout: Option<Duration>,
    /// Begin also where the estimates say that the repository's disk is far too small.
    pub ignore_free_space: bool,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            max_parallel: 3,
            attempts: 3,
            first_wait: Duration::from_secs(1),
            source_timeout: Duration::from_secs(3600),
            timeout: None,
            ignore_free_space: false,
        }
    }
}

impl Limits {
    /// The waits between attempts.
    pub fn waits(&self) -> impl Iterator<Item = Duration> {
        let waits = ExponentialBuilder::default()
            .with_min_delay(self.first_wait)
            .with_max_delay(LONGEST_WAIT)
            .with_factor(2.0)
            .with_max_times(self.attempts.saturating_sub(1) as usize)
            .with_jitter()
            .with_jitter_seed(u64::from_ne_bytes(random::bytes()));
        waits.build().map(|wait| wait.min(LONGEST_WAIT))
    }
}

/// Raises a flag when the time is over, unless it is dropped before.
pub struct TimeLimit {
    cancel: Option<Sender<()>>,
    ran_out: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl TimeLimit {
    /// From now on `stop` is raised after `limit`.
    pub fn start(stop: &Stop, limit: Duration) -> io::Result<TimeLimit> {
        let (cancel, cancelled) = channel();
        let ran_out = Arc::new(AtomicBool::new(false));
        let (stop, flag) = (stop.clone(), ran_out.clone());
        let wait = move || {
            // Nothing is ever sent: it returns when the time is over or nobody asks any more.
            if cancelled.recv_timeout(limit) == Err(RecvTimeoutError::Timeout) {
                flag.store(true, Ordering::SeqCst);
                stop.raise();
            }
        };
        let thread = Builder::new().name("time-limit".to_owned()).spawn(wait)?;
        Ok(TimeLimit { cancel: Some(cancel), ran_out, thread: Some(thread) })
    }

    /// Whether the time is over.
    pub fn ran_out(&self) -> bool {
        self.ran_out.load(Ordering::SeqCst)
    }
}

impl Drop for TimeLimit {
    fn drop(&mut self) {
        self.cancel = None;
        if let Some(thread) = self.thread.take() {
            // It holds nothing that could be lost.
            let _ = thread.join();
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_from_one_second_to_a_minute() {
        let limits = Limits { attempts: 10, ..Limits::default() };
        let waits: Vec<Duration> = limits.waits().collect();
        assert_eq!(waits.len(), 9);
        for (number, wait) in waits.iter().enumerate() {
            let least = Duration::from_secs(1 << number).min(LONGEST_WAIT);
            assert!(*wait >= least && *wait <= (least * 2).min(LONGEST_WAIT), "{waits:?}");
        }
        assert_eq!(Limits { attempts: 1, ..Limits::default() }.waits().count(), 0);
        assert_eq!(Limits { attempts: 0, ..Limits::default() }.waits().count(), 0);
    }

    #[test]
    fn a_limit_raises_its_flag_only_when_the_time_is_over() {
        let (whole, long) = (Stop::new(), Duration::from_secs(3600));
        let part = whole.child();
        drop(TimeLimit::start(&part, long).unwrap());
        assert!(!part.raised());
        let short = TimeLimit::start(&part, Duration::ZERO).unwrap();
        part.rest(long);
        assert!(part.raised() && short.ran_out() && !whole.raised());
    }
}
