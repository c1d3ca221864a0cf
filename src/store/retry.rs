//! A store that asks again when a fault may pass.
//!
//! Which faults may pass is [`Kind::is_transient`]'s to say; everything else is handed on at once. Each wait is random
//! between nothing and a bound that doubles from one try to the next, so that many clients of a store that was away do
//! not all come back in the same moment. ("Full jitter": of the ways to draw waits the one with the least work for all.)
//!
//! What it does about requests whose answer was lost: reads, `replace` and `delete` may be repeated as they are.
//! A repeated `put` may find its own object, so it compares before it answers [`Put::Existed`]; sealed objects
//! hold random bytes, so equal bytes are our own. The bytes of an upload are gone into the store's hands and
//! cannot be sent again from here: `begin` is retried, writing and `finish` are not; a remote store repeats
//! its own uploads.

use super::{Area, Error, Extended, Key, Listed, Locked, ObjectStore, Operation, Put, Traffic, Upload};
use crate::base::{Kind, Stop, random};
use backon::BlockingRetryable;
use std::cell::Cell;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Tries of one request unless said otherwise, the first one included. With the waits below a store that is away is
/// waited for about 31 s, at most 63 s.
pub const TRIES: u32 = 12;

/// The longest wait before the second try; it doubles with each further one.
pub const FIRST_WAIT: Duration = Duration::from_millis(200);

/// No wait is longer than this.
pub const LONGEST_WAIT: Duration = Duration::from_secs(10);

/// A request that failed and is going to be tried again.
#[derive(Debug)]
pub struct Retried<'a> {
    /// What was tried.
    pub operation: &'static str,
    /// How many tries failed so far.
    pub tries: u32,
    /// How many there are at most.
    pub of: u32,
    /// How long we wait now.
    pub wait: Duration,
    /// What came back.
    pub error: &'a Error,
}

type Wait = dyn Fn(Duration) + Send + Sync;
pub(super) type Tell = dyn Fn(&Retried<'_>) + Send + Sync;

/// Wraps a store.
#[derive(Clone)]
pub struct Retry {
    inner: Arc<dyn ObjectStore>,
    patience: Arc<Patience>,
}

/// How a failed request is tried again: how often, who hears of it, how it is waited.
pub(super) struct Patience {
    tries: u32,
    tell: Box<Tell>,
    wait: Box<Wait>,
    stop: Stop,
    retries: AtomicU64,
}

impl Retry {
    /// Tells `tell` of every retry and sleeps in between. Raising `stop` cuts the sleep short; the request is then
    /// tried for the last time.
    pub fn new(
        inner: impl ObjectStore + 'static,
        stop: Stop,
        tell: impl Fn(&Retried<'_>) + Send + Sync + 'static,
    ) -> Retry {
        Retry { inner: Arc::new(inner), patience: Arc::new(Patience::new(TRIES, stop, tell)) }
    }

    /// Tries each request so often, the first time included.
    pub fn trying(self, tries: u32) -> Retry {
        self.with(|patience| Patience { tries: tries.max(1), ..patience })
    }

    /// Waits by calling `wait` instead of sleeping.
    pub fn waiting(self, wait: impl Fn(Duration) + Send + Sync + 'static) -> Retry {
        self.with(|patience| Patience { wait: Box::new(wait), ..patience })
    }

    fn with(self, change: impl FnOnce(Patience) -> Patience) -> Retry {
        let patience = Arc::into_inner(self.patience).expect("a store is set up before it is shared");
        Retry { inner: self.inner, patience: Arc::new(change(patience)) }
    }

    /// Runs `request` until it succeeds, fails for good, or has been tried often enough.
    fn again<T>(&self, operation: Operation, request: impl FnMut() -> Result<T, Error>) -> Result<T, Error> {
        self.patience.again(operation, request)
    }

    /// What a repeated put that found something there amounts to.
    fn compare(&self, key: &Key, bytes: &[u8]) -> Result<Put, Error> {
        let found = self.again(Operation::Get, || self.inner.get(key, bytes.len() as u64));
        match found {
            Ok(found) if found == bytes => Ok(Put::Stored),
            // Longer than ours.
            Err(error) if error.kind() == Kind::Damaged => Ok(Put::Existed),
            Ok(_) => Ok(Put::Existed),
            Err(error) => Err(error),
        }
    }
}

impl Patience {
    /// `tell` hears of each wait; raising `stop` cuts it short, and the request is then tried for the last time.
    pub(super) fn new(tries: u32, stop: Stop, tell: impl Fn(&Retried<'_>) + Send + Sync + 'static) -> Patience {
        let sleeper = stop.clone();
        let wait = Box::new(move |length| sleeper.rest(length));
        Patience { tries: tries.max(1), tell: Box::new(tell), wait, stop, retries: AtomicU64::new(0) }
    }

    /// Runs `request` until it succeeds, fails for good, has been tried often enough, or somebody asked to stop.
    pub(super) fn again<T>(
        self: &Arc<Self>,
        operation: Operation,
        request: impl FnMut() -> Result<T, Error>,
    ) -> Result<T, Error> {
        let mut tries = 0;
        let sleeper = self.clone();
        request
            .retry(waits(self.tries))
            .sleep(move |length| (sleeper.wait)(length))
            .when(|error: &Error| error.kind().is_transient() && !self.stop.raised())
            .notify(|error: &Error, wait: Duration| {
                tries += 1;
                self.retries.fetch_add(1, Ordering::Relaxed);
                (self.tell)(&Retried { operation: operation.verb(), tries, of: self.tries, wait, error });
            })
            .call()
    }

    /// How often a request was made again.
    pub(super) fn retries(&self) -> u64 {
        self.retries.load(Ordering::Relaxed)
    }
}

/// The waits between so many tries.
fn waits(tries: u32) -> impl Iterator<Item = Duration> + Send + Sync + Unpin {
    (0..tries.saturating_sub(1)).map(|number| longest_wait(number).mul_f64(share()))
}

/// The bound of the wait after so many waits.
fn longest_wait(number: u32) -> Duration {
    FIRST_WAIT.saturating_mul(1 << number.min(16)).min(LONGEST_WAIT)
}

/// A random number from 0 to 1.
fn share() -> f64 {
    f64::from(u32::from_ne_bytes(random::bytes())) / f64::from(u32::MAX)
}

impl ObjectStore for Retry {
    super::forward!(inner: location, free_bytes, keep_reserve, give_up_reserve, sweep_uploads, puts_are_atomic, is_remote, puts_at_once, introduce, peculiarities);

    fn put(&self, key: &Key, bytes: &[u8]) -> Result<Put, Error> {
        let tries = Cell::new(0);
        let put = self.again(Operation::Put, || {
            tries.set(tries.get() + 1);
            self.inner.put(key, bytes)
        })?;
        if put == Put::Existed && tries.get() > 1 {
            return self.compare(key, bytes);
        }
        Ok(put)
    }

    fn begin(&self) -> Result<Box<dyn Upload>, Error> {
        self.again(Operation::Put, || self.inner.begin())
    }

    fn replace(&self, key: &Key, bytes: &[u8]) -> Result<(), Error> {
        self.again(Operation::Replace, || self.inner.replace(key, bytes))
    }

    fn get(&self, key: &Key, limit_bytes: u64) -> Result<Vec<u8>, Error> {
        self.again(Operation::Get, || self.inner.get(key, limit_bytes))
    }

    fn get_range(&self, key: &Key, offset: u64, length: usize) -> Result<Vec<u8>, Error> {
        self.again(Operation::GetRange, || self.inner.get_range(key, offset, length))
    }

    fn stream(&self, key: &Key, offset: u64, length: u64, each: &mut dyn FnMut(&[u8]) -> bool) -> Result<(), Error> {
        // A further try goes on where the one before broke off.
        let mut done = 0;
        self.again(Operation::GetRange, || {
            let from = done;
            self.inner.stream(key, offset + from, length - from, &mut |piece| {
                done += piece.len() as u64;
                each(piece)
            })
        })
    }

    fn size(&self, key: &Key) -> Result<u64, Error> {
        self.again(Operation::Size, || self.inner.size(key))
    }

    fn list(&self, area: Area, each: &mut dyn FnMut(Listed)) -> Result<(), Error> {
        super::list_in_parts(self, area, each)
    }

    fn list_part(&self, area: Area, from: Option<&str>, each: &mut dyn FnMut(Listed)) -> Result<Option<String>, Error> {
        // Kept until the part is complete: a second try begins at its front, and each object is shown once. Part by
        // part, since with enough parts one of them fails in every try.
        let (part, next) = self.again(Operation::List, || {
            let mut part = Vec::new();
            let next = self.inner.list_part(area, from, &mut |listed| part.push(listed))?;
            Ok((part, next))
        })?;
        part.into_iter().for_each(each);
        Ok(next)
    }

    fn list_together(&self, areas: &[Area], each: &mut dyn FnMut(Area, Listed)) -> Result<(), Error> {
        // What was shown before a failure comes again: nothing is handed on before all of it is there.
        let lines = self.again(Operation::List, || {
            let mut lines = Vec::new();
            self.inner.list_together(areas, &mut |area, listed| lines.push((area, listed)))?;
            Ok(lines)
        })?;
        lines.into_iter().for_each(|(area, listed)| each(area, listed));
        Ok(())
    }

    fn delete(&self, key: &Key) -> Result<(), Error> {
        self.again(Operation::Delete, || self.inner.delete(key))
    }

    fn delete_each(&self, keys: &[Key]) -> Vec<Result<(), Error>> {
        let mut answers: Vec<Result<(), Error>> = keys.iter().map(|_| Ok(())).collect();
        // Only what failed for a reason that may pass is asked for again.
        let mut open: Vec<usize> = (0..keys.len()).collect();
        let tried = self.again(Operation::Delete, || {
            let asked: Vec<Key> = open.iter().map(|place| keys[*place].clone()).collect();
            let came = self.inner.delete_each(&asked);
            let asked = std::mem::take(&mut open);
            for (place, answer) in asked.into_iter().zip(came) {
                open.extend(answer.as_ref().err().filter(|error| error.kind().is_transient()).map(|_| place));
                answers[place] = answer;
            }
            match open.first() {
                Some(first) => std::mem::replace(&mut answers[*first], Ok(())),
                None => Ok(()),
            }
        });
        if let (Err(error), Some(first)) = (tried, open.first()) {
            answers[*first] = Err(error);
        }
        answers
    }

    fn lock_on(&self, key: &Key) -> Result<Option<Locked>, Error> {
        self.again(Operation::Size, || self.inner.lock_on(key))
    }

    fn extend_lock(&self, key: &Key) -> Result<Extended, Error> {
        self.again(Operation::Replace, || self.inner.extend_lock(key))
    }

    fn flush(&self, area: Area) -> Result<(), Error> {
        self.again(Operation::Flush, || self.inner.flush(area))
    }

    fn traffic(&self) -> Traffic {
        let inner = self.inner.traffic();
        Traffic { retries: inner.retries + self.patience.retries(), ..inner }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::super::{Fault, Memory};
    use super::*;
    use std::sync::Mutex;

    struct Setting {
        fault: Fault,
        retry: Retry,
        waits: Arc<Mutex<Vec<Duration>>>,
        told: Arc<Mutex<Vec<String>>>,
        stop: Stop,
    }

    fn setting() -> Setting {
        let fault = Fault::new(Memory::new());
        let (waits, told): (Arc<Mutex<Vec<_>>>, Arc<Mutex<Vec<_>>>) = Default::default();
        let stop = Stop::new();
        let (waits_in, told_in) = (waits.clone(), told.clone());
        let retry = Retry::new(fault.clone(), stop.clone(), move |retried| {
            let line = format!("{} {} {}", retried.operation, retried.tries, retried.error);
            told_in.lock().unwrap().push(line);
        })
        .waiting(move |wait| waits_in.lock().unwrap().push(wait));
        Setting { fault, retry, waits, told, stop }
    }

    fn key() -> Key {
        Key::new(Area::Keys, "a")
    }

    #[test]
    fn a_fault_that_passes_goes_unnoticed_but_told() {
        let setting = setting();
        setting.fault.fail_next(2, Kind::Unavailable);
        assert_eq!(setting.retry.put(&key(), b"x").unwrap(), Put::Stored);
        let told = setting.told.lock().unwrap();
        assert_eq!(told.len(), 2);
        assert!(told[1].starts_with("write 2 cannot write keys/a: "), "{told:?}");
    }

    #[test]
    fn a_fault_that_stays_is_reported_after_bounded_growing_waits() {
        let setting = setting();
        setting.fault.fail_next(1000, Kind::Unavailable);
        assert_eq!(setting.retry.size(&key()).unwrap_err().kind(), Kind::Unavailable);
        assert_eq!(setting.fault.operations(), u64::from(TRIES));
        let waits = setting.waits.lock().unwrap();
        assert_eq!(waits.len() as u32, TRIES - 1);
        for (number, wait) in waits.iter().enumerate() {
            assert!(*wait <= longest_wait(number as u32), "{waits:?}");
        }
        assert_eq!(setting.retry.traffic().retries, u64::from(TRIES) - 1);
    }

    #[test]
    fn waits_are_drawn_from_all_of_a_bound_that_doubles() {
        let bounds: Vec<u64> = (0..8).map(|number| longest_wait(number).as_millis() as u64).collect();
        assert_eq!(bounds, [200, 400, 800, 1600, 3200, 6400, 10_000, 10_000]);
        let drawn: Vec<Duration> = (0..500).flat_map(|_| waits(2)).collect();
        // That 500 of them miss a fifth of the range has a chance of 10^-48.
        assert!(drawn.iter().min().is_some_and(|least| *least < FIRST_WAIT / 5));
        assert!(drawn.iter().max().is_some_and(|most| *most > FIRST_WAIT * 4 / 5 && *most <= FIRST_WAIT));
    }

    #[test]
    fn tries_can_be_fewer() {
        let setting = setting();
        setting.fault.fail_next(1000, Kind::Unavailable);
        let retry = Retry::new(setting.fault.clone(), Stop::new(), |_| ()).trying(2).waiting(|_| ());
        assert_eq!(retry.size(&key()).unwrap_err().kind(), Kind::Unavailable);
        assert_eq!(setting.fault.operations(), 2);
    }

    #[test]
    fn a_fault_that_cannot_pass_is_not_retried() {
        for kind in [Kind::NotFound, Kind::Denied, Kind::Full, Kind::Damaged, Kind::Unsupported] {
            let setting = setting();
            setting.fault.fail_next(1, kind);
            assert_eq!(setting.retry.delete(&key()).unwrap_err().kind(), kind);
            assert_eq!(setting.fault.operations(), 1);
        }
    }

    #[test]
    fn a_put_whose_answer_was_lost_knows_its_own_bytes() {
        let setting = setting();
        setting.fault.lose_answers(1);
        assert_eq!(setting.retry.put(&key(), b"ours").unwrap(), Put::Stored);
    }

    #[test]
    fn a_repeated_put_does_not_claim_what_another_stored() {
        for others in [&b"their"[..], b"other bytes", b""] {
            let setting = setting();
            setting.fault.put(&key(), others).unwrap();
            setting.fault.fail_next(1, Kind::Unavailable);
            assert_eq!(setting.retry.put(&key(), b"ours.").unwrap(), Put::Existed);
        }
    }

    #[test]
    fn nothing_is_retried_once_asked_to_stop() {
        let setting = setting();
        setting.fault.fail_next(1000, Kind::Unavailable);
        setting.stop.raise();
        assert_eq!(setting.retry.get(&key(), 1).unwrap_err().kind(), Kind::Unavailable);
        assert_eq!(setting.fault.operations(), 1);
    }

    /// Fails the first listing after it has shown one object.
    struct Torn {
        inner: Memory,
        torn: Mutex<bool>,
    }

    impl ObjectStore for Torn {
        crate::store::forward!(inner: put, begin, replace, get, get_range, size, delete, location, free_bytes);

        fn list(&self, area: Area, each: &mut dyn FnMut(Listed)) -> Result<(), Error> {
            let mut shown = 0;
            let tear = !std::mem::replace(&mut *self.torn.lock().unwrap(), true);
            self.inner.list(area, &mut |listed| {
                shown += 1;
                if !tear || shown == 1 {
                    each(listed);
                }
            })?;
            match tear {
                true => Err(Error::new(Kind::Unavailable, "list", area.folder(), "reset")),
                false => Ok(()),
            }
        }
    }

    /// Lists in parts of one object each, and fails before every second answer.
    struct Parts {
        inner: Memory,
        asked: AtomicU64,
    }

    impl Parts {
        fn names(&self, area: Area) -> Vec<Listed> {
            let mut names = Vec::new();
            self.inner.list(area, &mut |listed| names.push(listed)).unwrap();
            names
        }
    }

    impl ObjectStore for Parts {
        crate::store::forward!(inner: put, begin, replace, get, get_range, size, delete, location, free_bytes);

        fn list(&self, _: Area, _: &mut dyn FnMut(Listed)) -> Result<(), Error> {
            panic!("a listing in parts is asked for part by part")
        }
        fn list_part(
            &self,
            area: Area,
            from: Option<&str>,
            each: &mut dyn FnMut(Listed),
        ) -> Result<Option<String>, Error> {
            if self.asked.fetch_add(1, Ordering::SeqCst).is_multiple_of(2) {
                return Err(Error::new(Kind::Unavailable, "list", area.folder(), "reset"));
            }
            let at: usize = from.map_or(0, |from| from.parse().unwrap());
            let names = self.names(area);
            names.get(at).cloned().into_iter().for_each(each);
            Ok((at + 1 < names.len()).then(|| (at + 1).to_string()))
        }
    }

    #[test]
    fn a_long_listing_whose_every_part_fails_once_comes_to_its_end() {
        let inner = Memory::new();
        let expected: Vec<String> = (10..60).map(|number| number.to_string()).collect();
        for name in &expected {
            inner.put(&Key::new(Area::Keys, name), b"x").unwrap();
        }
        let store = Retry::new(Parts { inner, asked: AtomicU64::new(0) }, Stop::new(), |_| ()).waiting(|_| ());
        let mut names = Vec::new();
        store.list(Area::Keys, &mut |listed| names.push(listed.name)).unwrap();
        assert_eq!(names, expected);
        assert_eq!(store.traffic().retries, 50);
    }

    #[test]
    fn a_listing_torn_off_in_the_middle_shows_each_object_once() {
        let inner = Memory::new();
        for name in ["a", "b", "c"] {
            inner.put(&Key::new(Area::Keys, name), b"x").unwrap();
        }
        let torn = Torn { inner, torn: Mutex::new(false) };
        let store = Retry::new(torn, Stop::new(), |_| ()).waiting(|_| ());
        let mut names = Vec::new();
        store.list(Area::Keys, &mut |listed| names.push(listed.name)).unwrap();
        assert_eq!(names, ["a", "b", "c"]);
    }
}
