//! Retention of objects that are stored already: how long it lasts, and that it lasts longer.
//!
//! What an object gets when it is stored stands in `label`.

use super::failure::answer_of;
use super::label::{mode, until};
use super::place::{Asked, Place};
use crate::base::{Kind, Timestamp};
use crate::store::{Error, Extended, Key, Locked, Operation};
use aws_sdk_s3::error::SdkError;
use aws_sdk_s3::operation::get_object_lock_configuration::{
    GetObjectLockConfigurationError, GetObjectLockConfigurationOutput,
};
use aws_sdk_s3::operation::head_object::HeadObjectOutput;
use aws_sdk_s3::types::{
    ChecksumAlgorithm, ObjectLockLegalHoldStatus, ObjectLockMode, ObjectLockRetention, ObjectLockRetentionMode,
};
use std::sync::atomic::Ordering;

/// A lock is left as it is while it lasts for this part of its days: so each object is locked anew a few times a month
/// and not every night.
const ENOUGH_PART: u32 = 2;
/// What is wrong with a server that has never heard of locks.
pub(super) const UNKNOWN: &str = "this server knows no Object Lock and would store it without one; leave out --s3-object-lock, \
                                  or use a server that locks objects";

impl Place {
    fn head(&self, key: &Key) -> Result<HeadObjectOutput, Error> {
        let request = self.client.head_object().bucket(&self.address.bucket).key(self.name_of(key));
        let answer = self.ask(Asked::Read, 0, request.send());
        answer.map_err(|error| {
            self.failed(Operation::Size, key, "s3:GetObject (and s3:GetObjectRetention for locks)", &error)
        })
    }

    /// Refuses to store what is to be locked at a server that knows no locks: it would take the object, leave out the lock
    /// and say nothing. Asked once, and believed only if the server says so: many keep the bucket's settings to themselves.
    pub fn check_locks(&self, key: &Key) -> Result<(), Error> {
        if !self.labels.locks(key) || self.knows_locks.load(Ordering::Relaxed) {
            return Ok(());
        }
        match self.lock_settings() {
            Err(error) if answer_of(&error).says_unknown() => {
                Err(Error::new(Kind::Unsupported, "lock", self.subject(key), UNKNOWN))
            }
            // Everything else shows when the object is stored.
            _ => {
                self.knows_locks.store(true, Ordering::Relaxed);
                Ok(())
            }
        }
    }

    /// What the bucket does about locks.
    // The SDK's own error: it goes no further than our caller, who makes a small one of it.
    #[allow(clippy::result_large_err)]
    pub fn lock_settings(&self) -> Result<GetObjectLockConfigurationOutput, SdkError<GetObjectLockConfigurationError>> {
        let request = self.client.get_object_lock_configuration().bucket(&self.address.bucket);
        self.ask(Asked::Read, 0, request.send())
    }

    /// What keeps an object from being deleted, as far as the server tells.
    pub fn lock_on(&self, key: &Key) -> Result<Option<Locked>, Error> {
        let head = match self.head(key) {
            Err(error) if error.kind() == Kind::NotFound => return Ok(None),
            head => head?,
        };
        if head.object_lock_legal_hold_status() == Some(&ObjectLockLegalHoldStatus::On) {
            return Ok(Some(Locked::OnHold));
        }
        let now = self.labels.now();
        Ok(retained_until(&head).filter(|until| *until > now).map(Locked::Until))
    }

    /// Sees to it that the retention of an object lasts.
    pub fn extend_lock(&self, key: &Key) -> Result<Extended, Error> {
        let Some(lock) = self.labels.lock() else {
            let reason = "no retention was asked for: name it with --s3-object-lock MODE:DAYS";
            return Err(Error::new(Kind::Usage, "lock", self.subject(key), reason));
        };
        let (head, now) = (self.head(key)?, self.labels.now());
        let enough = now.as_second().saturating_add(i64::from(lock.days) * 86_400 / i64::from(ENOUGH_PART));
        if let Some(until) = retained_until(&head).filter(|until| until.as_second() >= enough) {
            return Ok(Extended::Enough(until));
        }
        // The strict mode cannot be taken back.
        let asked = match head.object_lock_mode() {
            Some(ObjectLockMode::Compliance) => ObjectLockMode::Compliance,
            _ => mode(lock.mode),
        };
        let last = until(now, lock.days);
        let retention = ObjectLockRetention::builder()
            .mode(ObjectLockRetentionMode::from(asked.as_str()))
            .retain_until_date(last)
            .build();
        let request = self.client.put_object_retention().bucket(&self.address.bucket).key(self.name_of(key));
        let request = request.checksum_algorithm(ChecksumAlgorithm::Crc32).retention(retention);
        let answer = self.ask(Asked::Write, 0, request.send());
        answer.map_err(|error| {
            let answer = answer_of(&error);
            Error::new(answer.kind(), "lock", self.subject(key), answer.reason("s3:PutObjectRetention"))
        })?;
        Ok(Extended::Now(Timestamp::from_second(last.secs()).unwrap_or(now)))
    }
}

fn retained_until(head: &HeadObjectOutput) -> Option<Timestamp> {
    head.object_lock_retain_until_date().and_then(|until| Timestamp::from_second(until.secs()).ok())
}
