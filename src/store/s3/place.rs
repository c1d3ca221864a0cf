//! A place in a bucket and how it is asked: names, time limits, how many requests at once, what they are counted as.

use super::address::Address;
use super::failure::answer_of;
use super::label::Labels;
use crate::base::Kind;
use crate::store::retry::Patience;
use crate::store::throttle::Bucket;
use crate::store::{Error, Key, Operation, Put, Traffic};
use aws_sdk_s3::Client;
use aws_sdk_s3::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_s3::primitives::ByteStream;
use std::future::Future;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;
use tokio::runtime::Runtime;
use tokio::sync::Semaphore;

/// Until an answer begins, once everything is sent; and between two pieces of it.
pub(super) const ANSWER_TIMEOUT: Duration = Duration::from_secs(120);
/// No line is thought to be slower: what is sent has as long as it takes at this speed.
const SLOWEST_BYTES_PER_SECOND: u64 = 8 << 10;
/// More requests at once than anybody makes: no limit.
const UNLIMITED: usize = 1 << 20;

pub(super) struct Place {
    pub address: Address,
    pub spool: PathBuf,
    pub client: Client,
    pub runtime: Runtime,
    pub labels: Labels,
    pub patience: Arc<Patience>,
    pub up: Option<Bucket>,
    pub down: Option<Bucket>,
    pub permits: Semaphore,
    pub connections: Option<usize>,
    /// Set once it is known that the server does not honour `If-None-Match`.
    pub looks_first: AtomicBool,
    /// Set once it is known that the server does not delete many objects with one request.
    pub deletes_singly: AtomicBool,
    /// Set once it is known that the server has heard of Object Lock.
    pub knows_locks: AtomicBool,
    pub book: Book,
}

/// What a request costs as.
#[derive(Clone, Copy)]
pub(super) enum Asked {
    Write,
    List,
    Read,
    Delete,
}

/// Counts as [`Traffic`] shows them.
#[derive(Default)]
pub(super) struct Book {
    writes: AtomicU64,
    lists: AtomicU64,
    reads: AtomicU64,
    deletes: AtomicU64,
    sent_bytes: AtomicU64,
    received_bytes: AtomicU64,
}

impl Book {
    fn count(&self, asked: Asked, sent_bytes: u64) {
        let counter = match asked {
            Asked::Write => &self.writes,
            Asked::List => &self.lists,
            Asked::Read => &self.reads,
            Asked::Delete => &self.deletes,
        };
        counter.fetch_add(1, Ordering::Relaxed);
        self.sent_bytes.fetch_add(sent_bytes, Ordering::Relaxed);
    }

    pub fn received(&self, bytes: usize) {
        self.received_bytes.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    pub fn traffic(&self, retries: u64) -> Traffic {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Traffic {
            writes: read(&self.writes),
            lists: read(&self.lists),
            reads: read(&self.reads),
            deletes: read(&self.deletes),
            retries,
            sent_bytes: read(&self.sent_bytes),
            received_bytes: read(&self.received_bytes),
        }
    }
}

/// How many requests may be made at once.
pub(super) fn permits(connections: Option<usize>) -> Semaphore {
    Semaphore::new(connections.unwrap_or(UNLIMITED).clamp(1, UNLIMITED))
}

impl Place {
    /// The object's name in the bucket.
    pub fn name_of(&self, key: &Key) -> String {
        format!("{}{}", self.address.prefix, key.path())
    }

    /// The object in messages.
    pub fn subject(&self, key: &Key) -> String {
        format!("{}/{}", self.address, key.path())
    }

    pub fn failed<E>(&self, operation: Operation, key: &Key, right: &str, error: &SdkError<E>) -> Error
    where
        E: ProvideErrorMetadata + std::error::Error + 'static,
    {
        let answer = answer_of(error);
        Error::new(answer.kind(), operation.verb(), self.subject(key), answer.reason(right))
    }

    /// An answer that no server should give; another try may get a better one.
    pub fn odd(&self, operation: Operation, key: &Key, reason: &str) -> Error {
        Error::new(Kind::Unavailable, operation.verb(), self.subject(key), reason)
    }

    /// Makes a request that sends `sent_bytes` and waits for the beginning of its answer.
    // The SDK's own error: it goes no further than our caller, who makes a small one of it.
    #[allow(clippy::result_large_err)]
    pub fn ask<T, E>(
        &self,
        asked: Asked,
        sent_bytes: u64,
        request: impl Future<Output = Result<T, SdkError<E>>>,
    ) -> Result<T, SdkError<E>> {
        self.runtime.block_on(async {
            let _permit = self.permits.acquire().await;
            self.answered(asked, sent_bytes, request).await
        })
    }

    /// The same for whoever has a permit already.
    pub async fn answered<T, E>(
        &self,
        asked: Asked,
        sent_bytes: u64,
        request: impl Future<Output = Result<T, SdkError<E>>>,
    ) -> Result<T, SdkError<E>> {
        self.book.count(asked, sent_bytes);
        let limit = self.time_for(sent_bytes);
        match tokio::time::timeout(limit, request).await {
            Ok(answer) => answer,
            Err(_) => Err(SdkError::timeout_error(format!("no answer came within {} s", limit.as_secs()))),
        }
    }

    /// How long an answer may take to begin after so many bytes.
    fn time_for(&self, sent_bytes: u64) -> Duration {
        // Packs share what is allowed; half of a share is still in time.
        let share = self.up.as_ref().map(|up| up.bytes_per_second() / (2 * self.puts_at_once() as u64));
        time_for(sent_bytes, share)
    }

    pub fn puts_at_once(&self) -> usize {
        self.connections.unwrap_or(super::UPLOADS)
    }

    /// Stores what `body` gives, `length` bytes, unless something is there. `body` may be asked twice.
    pub fn put_if_absent(
        &self,
        key: &Key,
        length: u64,
        body: impl Fn() -> Result<ByteStream, Error>,
    ) -> Result<Put, Error> {
        self.check_locks(key)?;
        let put = |conditional: bool| {
            let request = self.labels.put_on(self.client.put_object(), key);
            let request = request.bucket(&self.address.bucket).key(self.name_of(key)).body(self.paced(body()?));
            let request = if conditional { request.if_none_match("*") } else { request };
            Ok::<_, Error>(self.ask(Asked::Write, length, request.send()))
        };
        if !self.looks_first.load(Ordering::Relaxed) {
            match put(true)? {
                Ok(_) => return Ok(Put::Stored),
                Err(error) if answer_of(&error).says_exists() => return Ok(Put::Existed),
                Err(error) if answer_of(&error).says_unknown() => {
                    self.looks_first.store(true, Ordering::Relaxed);
                }
                Err(error) => return Err(self.failed(Operation::Put, key, self.right_to_put(), &error)),
            }
        }
        if self.is_there(key)? {
            return Ok(Put::Existed);
        }
        let stored = put(false)?;
        stored.map(|_| Put::Stored).map_err(|error| self.failed(Operation::Put, key, self.right_to_put(), &error))
    }

    /// Stores `body`, `length` bytes, whatever is there.
    pub fn put_instead(&self, key: &Key, length: u64, body: ByteStream) -> Result<(), Error> {
        self.check_locks(key)?;
        let request = self.labels.put_on(self.client.put_object(), key);
        let request = request.bucket(&self.address.bucket).key(self.name_of(key)).body(self.paced(body));
        let answer = self.ask(Asked::Write, length, request.send());
        answer.map(drop).map_err(|error| self.failed(Operation::Replace, key, self.right_to_put(), &error))
    }

    /// A body at the speed that is allowed.
    pub fn paced(&self, body: ByteStream) -> ByteStream {
        match &self.up {
            Some(bucket) => ByteStream::new(super::pace::Paced::body(body.into_inner(), bucket)),
            None => body,
        }
    }

    /// The rights that storing needs.
    pub fn right_to_put(&self) -> &'static str {
        self.labels.right_to_put()
    }

    fn is_there(&self, key: &Key) -> Result<bool, Error> {
        let request = self.client.head_object().bucket(&self.address.bucket).key(self.name_of(key));
        match self.ask(Asked::Read, 0, request.send()) {
            Ok(_) => Ok(true),
            Err(error) if answer_of(&error).kind() == Kind::NotFound => Ok(false),
            Err(error) => Err(self.failed(Operation::Size, key, "s3:GetObject", &error)),
        }
    }
}

fn time_for(sent_bytes: u64, share: Option<u64>) -> Duration {
    let slowest = share.map_or(SLOWEST_BYTES_PER_SECOND, |share| share.clamp(1, SLOWEST_BYTES_PER_SECOND));
    ANSWER_TIMEOUT.saturating_add(Duration::from_secs(sent_bytes / slowest))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pack_has_the_time_that_a_slow_line_takes() {
        assert_eq!(time_for(0, None), ANSWER_TIMEOUT);
        assert_eq!(time_for(32 << 20, None), ANSWER_TIMEOUT + Duration::from_secs(4096));
        // Four packs at 16 KiB a second together: 2 KiB a second each is still in time.
        assert_eq!(time_for(32 << 20, Some(2048)), ANSWER_TIMEOUT + Duration::from_secs(16_384));
        assert_eq!(time_for(32 << 20, Some(u64::MAX)), time_for(32 << 20, None));
        assert_eq!(time_for(u64::MAX, Some(0)).as_secs(), u64::MAX);
    }
}
