//! A store that asks again when a fault may pass.
//!
//! Which faults may pass is [`Kind::is_transient`]'s to say; everything else is handed on at once. The waits grow
//! from one try to the next and are drawn out by a random part, so that many clients of a store that was away do
//! not all come back in the same moment.
//!
//! What it does about requests whose answer was lost: reads, `replace` and `delete` may be repeated as they are.
//! A repeated `put` may find its own object, so it compares before it answers [`Put::Existed`]; sealed objects
//! hold random bytes, so equal bytes are our own. The bytes of an upload are gone into the store's hands and
//! cannot be sent again from here: `begin` is retried, writing and `finish` are not; a remote store repeats
//! its own uploads.

use super::{Area, Error, Key, Listed, ObjectStore, Operation, Put, Upload};
use crate::base::{Kind, Stop, random};
use backon::{BlockingRetryable, ExponentialBuilder};
use std::cell::Cell;
use std::sync::Arc;
use std::time::Duration;

/// Tries of one request, the first one included. With the waits below a store may be away for at least 12.6 s,
/// at most twice that.
pub const TRIES: u32 = 7;

/// The shortest wait before the second try; each further wait is twice as long.
pub const FIRST_WAIT: Duration = Duration::from_millis(200);

/// No wait is longer than this, not counting the random part, which is at most as long again.
pub const LONGEST_WAIT: Duration = Duration::from_secs(10);

/// A request that failed and is going to be tried again.
#[derive(Debug)]
pub struct Retried<'a> {
    /// What was tried.
    pub operation: &'static str,
    /// How many tries failed so far.
    pub tries: u32,
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
    wait: Arc<Wait>,
    tell: Arc<Tell>,
    stop: Stop,
}

impl Retry {
    /// Tells `tell` of every retry and sleeps in between. Raising `stop` cuts the sleep short; the request is then
    /// tried for the last time.
    pub fn new(
        inner: impl ObjectStore + 'static,
        stop: Stop,
        tell: impl Fn(&Retried<'_>) + Send + Sync + 'static,
    ) -> Retry {
        Retry { inner: Arc::new(inner), wait: Arc::new(sleeper(stop.clone())), tell: Arc::new(tell), stop }
    }

    /// Waits by calling `wait` instead of sleeping.
    pub fn waiting(self, wait: impl Fn(Duration) + Send + Sync + 'static) -> Retry {
        Retry { wait: Arc::new(wait), ..self }
    }

    /// Runs `request` until it succeeds, fails for good, or has been tried often enough.
    fn again<T>(&self, operation: &'static str, request: impl FnMut() -> Result<T, Error>) -> Result<T, Error> {
        let wait = self.wait.clone();
        again(&self.stop, move |length| wait(length), operation, &*self.tell, request)
    }

    /// What a repeated put that found something there amounts to.
    fn compare(&self, key: &Key, bytes: &[u8]) -> Result<Put, Error> {
        let found = self.again(Operation::Get.verb(), || self.inner.get(key, bytes.len() as u64));
        match found {
            Ok(found) if found == bytes => Ok(Put::Stored),
            // Longer than ours.
            Err(error) if error.kind() == Kind::Damaged => Ok(Put::Existed),
            Ok(_) => Ok(Put::Existed),
            Err(error) => Err(error),
        }
    }
}

/// Sleeps until somebody asks to stop.
pub(super) fn sleeper(stop: Stop) -> impl Fn(Duration) {
    move |length| stop.rest(length)
}

/// Runs `request` until it succeeds, fails for good, has been tried often enough, or `stop` is raised. `tell` hears of
/// each wait before `wait` waits.
pub(super) fn again<T>(
    stop: &Stop,
    wait: impl Fn(Duration) + 'static,
    operation: &'static str,
    tell: &Tell,
    request: impl FnMut() -> Result<T, Error>,
) -> Result<T, Error> {
    let mut tries = 0;
    request
        .retry(waits())
        .sleep(wait)
        .when(|error: &Error| error.kind().is_transient() && !stop.raised())
        .notify(|error: &Error, wait: Duration| {
            tries += 1;
            tell(&Retried { operation, tries, wait, error });
        })
        .call()
}

fn waits() -> ExponentialBuilder {
    ExponentialBuilder::default()
        .with_min_delay(FIRST_WAIT)
        .with_max_delay(LONGEST_WAIT)
        .with_factor(2.0)
        .with_max_times(TRIES as usize - 1)
        .with_jitter()
        .with_jitter_seed(u64::from_ne_bytes(random::bytes()))
}

impl ObjectStore for Retry {
    fn put(&self, key: &Key, bytes: &[u8]) -> Result<Put, Error> {
        let tries = Cell::new(0);
        let put = self.again(Operation::Put.verb(), || {
            tries.set(tries.get() + 1);
            self.inner.put(key, bytes)
        })?;
        if put == Put::Existed && tries.get() > 1 {
            return self.compare(key, bytes);
        }
        Ok(put)
    }

    fn begin(&self) -> Result<Box<dyn Upload>, Error> {
        self.again(Operation::Put.verb(), || self.inner.begin())
    }

    fn replace(&self, key: &Key, bytes: &[u8]) -> Result<(), Error> {
        self.again(Operation::Replace.verb(), || self.inner.replace(key, bytes))
    }

    fn get(&self, key: &Key, limit_bytes: u64) -> Result<Vec<u8>, Error> {
        self.again(Operation::Get.verb(), || self.inner.get(key, limit_bytes))
    }

    fn get_range(&self, key: &Key, offset: u64, length: usize) -> Result<Vec<u8>, Error> {
        self.again(Operation::GetRange.verb(), || self.inner.get_range(key, offset, length))
    }

    fn stream(&self, key: &Key, offset: u64, length: u64, each: &mut dyn FnMut(&[u8]) -> bool) -> Result<(), Error> {
        // A further try goes on where the one before broke off.
        let mut done = 0;
        self.again(Operation::GetRange.verb(), || {
            let from = done;
            self.inner.stream(key, offset + from, length - from, &mut |piece| {
                done += piece.len() as u64;
                each(piece)
            })
        })
    }

    fn size(&self, key: &Key) -> Result<u64, Error> {
        self.again(Operation::Size.verb(), || self.inner.size(key))
    }

    fn list(&self, area: Area, each: &mut dyn FnMut(Listed)) -> Result<(), Error> {
        // Kept until the listing is complete: a second try begins at the front, and each object is shown once.
        let listing = self.again(Operation::List.verb(), || {
            let mut listing = Vec::new();
            self.inner.list(area, &mut |listed| listing.push(listed))?;
            Ok(listing)
        })?;
        listing.into_iter().for_each(each);
        Ok(())
    }

    fn delete(&self, key: &Key) -> Result<(), Error> {
        self.again(Operation::Delete.verb(), || self.inner.delete(key))
    }

    fn flush(&self, area: Area) -> Result<(), Error> {
        self.again(Operation::Flush.verb(), || self.inner.flush(area))
    }

    fn location(&self) -> String {
        self.inner.location()
    }

    fn free_bytes(&self) -> Option<u64> {
        self.inner.free_bytes()
    }

    fn puts_are_atomic(&self) -> bool {
        self.inner.puts_are_atomic()
    }

    fn puts_at_once(&self) -> usize {
        self.inner.puts_at_once()
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
            let shortest = (FIRST_WAIT * 2u32.pow(number as u32)).min(LONGEST_WAIT);
            assert!((shortest..=shortest * 2).contains(wait), "{waits:?}");
        }
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
        fn put(&self, key: &Key, bytes: &[u8]) -> Result<Put, Error> {
            self.inner.put(key, bytes)
        }
        fn begin(&self) -> Result<Box<dyn Upload>, Error> {
            self.inner.begin()
        }
        fn replace(&self, key: &Key, bytes: &[u8]) -> Result<(), Error> {
            self.inner.replace(key, bytes)
        }
        fn get(&self, key: &Key, limit_bytes: u64) -> Result<Vec<u8>, Error> {
            self.inner.get(key, limit_bytes)
        }
        fn get_range(&self, key: &Key, offset: u64, length: usize) -> Result<Vec<u8>, Error> {
            self.inner.get_range(key, offset, length)
        }
        fn size(&self, key: &Key) -> Result<u64, Error> {
            self.inner.size(key)
        }
        fn delete(&self, key: &Key) -> Result<(), Error> {
            self.inner.delete(key)
        }
        fn location(&self) -> String {
            self.inner.location()
        }
        fn free_bytes(&self) -> Option<u64> {
            None
        }
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
