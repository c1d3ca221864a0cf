//! Limits on bandwidth: so many bytes a second up and down, for any store.
//!
//! A `Bucket` says how long bytes have to wait; who sleeps that long is its caller's business, so that it needs no
//! clock in tests. `Throttle` puts one before each direction of a store whose bytes pass through our hands; the store
//! of buckets in the other sense, `s3`, slows its streams down on the wire instead.

use super::{Error, Key, ObjectStore, Put, Upload};
use crate::base::Stop;
use crate::base::clock::Stopwatch;
use std::io::{self, Write};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// What may pass at once after a pause, as a share of a second's bytes: little, so that a limit is kept in every second
/// and not only on average.
const BURST: Duration = Duration::from_millis(250);

/// Bytes a second in each direction; none for as fast as it goes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Limits {
    /// To the store.
    pub upload: Option<u64>,
    /// From the store.
    pub download: Option<u64>,
}

type Now = dyn Fn() -> Duration + Send + Sync;

/// A token bucket. Clones share it.
#[derive(Clone)]
pub(super) struct Bucket {
    bytes_per_second: u64,
    now: Arc<Now>,
    /// When all that was let through so far will have passed at this speed.
    drained: Arc<Mutex<Duration>>,
}

impl Bucket {
    /// One that lets so much through; `now` is a stopwatch.
    pub fn new(bytes_per_second: u64, now: impl Fn() -> Duration + Send + Sync + 'static) -> Bucket {
        Bucket { bytes_per_second: bytes_per_second.max(1), now: Arc::new(now), drained: Arc::default() }
    }

    /// The bucket of a limit, if there is one, by the machine's stopwatch.
    pub fn of(limit: Option<u64>) -> Option<Bucket> {
        let watch = Stopwatch::start();
        limit.map(|limit| Bucket::new(limit, move || watch.elapsed()))
    }

    /// Bytes a second.
    pub fn bytes_per_second(&self) -> u64 {
        self.bytes_per_second
    }

    /// Takes `bytes` out: how long to wait before whatever follows them.
    pub fn take(&self, bytes: u64) -> Duration {
        let now = (self.now)();
        let mut drained = self.drained.lock().unwrap_or_else(PoisonError::into_inner);
        let nanoseconds = u128::from(bytes) * 1_000_000_000 / u128::from(self.bytes_per_second);
        let length = Duration::from_nanos(u64::try_from(nanoseconds).unwrap_or(u64::MAX));
        *drained = (*drained).max(now).saturating_add(length);
        drained.saturating_sub(now).saturating_sub(BURST)
    }
}

/// Wraps a store.
#[derive(Clone)]
pub struct Throttle {
    inner: Arc<dyn ObjectStore>,
    up: Option<Bucket>,
    down: Option<Bucket>,
    wait: Arc<dyn Fn(Duration) + Send + Sync>,
}

impl Throttle {
    /// Keeps to `limits`. Raising `stop` cuts every wait short.
    pub fn new(inner: impl ObjectStore + 'static, limits: Limits, stop: Stop) -> Throttle {
        let (up, down) = (Bucket::of(limits.upload), Bucket::of(limits.download));
        Throttle { inner: Arc::new(inner), up, down, wait: Arc::new(move |length| stop.rest(length)) }
    }

    fn sent(&self, bytes: usize) {
        self.passed(&self.up, bytes);
    }

    fn received<T: AsRef<[u8]>>(&self, read: Result<T, Error>) -> Result<T, Error> {
        read.inspect(|bytes| self.passed(&self.down, bytes.as_ref().len()))
    }

    fn passed(&self, bucket: &Option<Bucket>, bytes: usize) {
        if let Some(bucket) = bucket {
            (self.wait)(bucket.take(bytes as u64));
        }
    }
}

impl ObjectStore for Throttle {
    super::forward!(inner: size, list, list_part, list_together, delete, delete_each, lock_on, extend_lock, flush, traffic, location, free_bytes, keep_reserve, give_up_reserve, sweep_uploads, puts_are_atomic, is_remote, puts_at_once, introduce, peculiarities);

    fn put(&self, key: &Key, bytes: &[u8]) -> Result<Put, Error> {
        self.sent(bytes.len());
        self.inner.put(key, bytes)
    }

    fn begin(&self) -> Result<Box<dyn Upload>, Error> {
        Ok(Box::new(ThrottleUpload { throttle: self.clone(), inner: self.inner.begin()? }))
    }

    fn replace(&self, key: &Key, bytes: &[u8]) -> Result<(), Error> {
        self.sent(bytes.len());
        self.inner.replace(key, bytes)
    }

    fn get(&self, key: &Key, limit_bytes: u64) -> Result<Vec<u8>, Error> {
        self.received(self.inner.get(key, limit_bytes))
    }

    fn get_range(&self, key: &Key, offset: u64, length: usize) -> Result<Vec<u8>, Error> {
        self.received(self.inner.get_range(key, offset, length))
    }
}

struct ThrottleUpload {
    throttle: Throttle,
    inner: Box<dyn Upload>,
}

impl Write for ThrottleUpload {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.inner.write(bytes)?;
        self.throttle.sent(written);
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

impl Upload for ThrottleUpload {
    fn finish(self: Box<Self>, key: &Key) -> Result<Put, Error> {
        self.inner.finish(key)
    }

    fn replace(self: Box<Self>, key: &Key) -> Result<(), Error> {
        self.inner.replace(key)
    }

    fn read_back(&mut self, offset: u64, bytes: &mut [u8]) -> io::Result<()> {
        self.inner.read_back(offset, bytes)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::super::{Area, Memory};
    use super::*;
    use std::sync::atomic::{AtomicU64, Ordering};

    /// A stopwatch that goes on by what is waited.
    fn hand() -> (Arc<AtomicU64>, impl Fn() -> Duration + Clone) {
        let milliseconds = Arc::new(AtomicU64::new(0));
        let read = milliseconds.clone();
        (milliseconds, move || Duration::from_millis(read.load(Ordering::SeqCst)))
    }

    #[test]
    fn many_bytes_take_as_long_as_the_limit_says_however_they_come() {
        for piece in [1u64, 700, 10_000, 1_000_000] {
            let (hand, now) = hand();
            let bucket = Bucket::new(100_000, now);
            for _ in 0..1_000_000 / piece {
                let wait = bucket.take(piece);
                hand.fetch_add(wait.as_micros().div_ceil(1000) as u64, Ordering::SeqCst);
            }
            let took = hand.load(Ordering::SeqCst);
            assert!((9_700..=10_010).contains(&took), "{piece}: {took} ms for ten seconds' bytes");
        }
    }

    #[test]
    fn a_pause_saves_up_no_more_than_a_burst() {
        let (hand, now) = hand();
        let bucket = Bucket::new(1000, now);
        hand.store(3_600_000, Ordering::SeqCst);
        assert_eq!(bucket.take(250), Duration::ZERO);
        assert_eq!(bucket.take(1000), Duration::from_secs(1));
    }

    #[test]
    fn both_directions_are_slowed_each_by_its_own_limit() {
        let waits: Arc<Mutex<Vec<Duration>>> = Arc::default();
        let waited = waits.clone();
        let limits = Limits { upload: Some(1 << 20), download: Some(1 << 19) };
        let store = Throttle {
            wait: Arc::new(move |length| waited.lock().unwrap().push(length)),
            up: Some(Bucket::new(1 << 20, || Duration::ZERO)),
            down: Some(Bucket::new(1 << 19, || Duration::ZERO)),
            ..Throttle::new(Memory::new(), limits, Stop::new())
        };
        let key = Key::new(Area::Packs, "aa");
        let mut upload = store.begin().unwrap();
        upload.write_all(&vec![1; 2 << 20]).unwrap();
        upload.finish(&key).unwrap();
        store.get(&key, 4 << 20).unwrap();
        store.get_range(&key, 0, 1 << 19).unwrap();
        let total: Duration = waits.lock().unwrap()[..2].iter().sum();
        assert_eq!(total, Duration::from_secs(6) - 2 * BURST);
        assert_eq!(waits.lock().unwrap()[2], Duration::from_secs(5) - BURST);
    }
}
