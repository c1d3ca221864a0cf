//! What is worth knowing of a bucket beyond the promises: versions, retention.

use super::Place;
use super::failure::answer_of;
use super::place::Asked;
use crate::base::Kind;
use crate::store::probe::Check;
use aws_sdk_s3::types::BucketVersioningStatus;

/// Looks at the bucket's settings. Many servers and policies keep them to themselves, which is no fault.
pub(super) fn checks(place: &Place) -> Vec<Check> {
    let mut checks = vec![versions(place)];
    checks.extend(place.labels.wants_lock().then(|| retention(place)));
    checks
}

fn versions(place: &Place) -> Check {
    const NAME: &str = "versions";
    let request = place.client.get_bucket_versioning().bucket(&place.address.bucket);
    let answer = match place.ask(Asked::Read, 0, request.send()) {
        Ok(answer) => answer,
        Err(error) => return untold(NAME, answer_of(&error).reason("s3:GetBucketVersioning")),
    };
    match answer.status() {
        Some(BucketVersioningStatus::Enabled) => Check::warning(
            NAME,
            "the bucket keeps every version: what prune deletes is still stored and paid for",
            "let a lifecycle rule end noncurrent versions after as many days as you want to be able to go back",
        ),
        _ => Check::good(NAME, "what is deleted is gone"),
    }
}

fn retention(place: &Place) -> Check {
    const NAME: &str = "object lock";
    let answer = match place.lock_settings() {
        Ok(answer) => answer,
        Err(error) => {
            let answer = answer_of(&error);
            return match () {
                () if answer.says_unknown() => unknown(NAME),
                () if answer.kind() == Kind::NotFound => unlocked(NAME),
                () => untold(NAME, answer.reason("s3:GetBucketObjectLockConfiguration")),
            };
        }
    };
    match answer.object_lock_configuration() {
        Some(_) => Check::good(NAME, "the bucket locks objects that ask for it"),
        None => unlocked(NAME),
    }
}

fn unknown(name: &'static str) -> Check {
    Check::bad(
        name,
        "the server knows no Object Lock",
        "leave --s3-object-lock out, or use a server that locks objects: nothing is stored with it here",
    )
}

fn unlocked(name: &'static str) -> Check {
    Check::bad(
        name,
        "the bucket has no Object Lock",
        "make a bucket with Object Lock, or leave --s3-object-lock out: nothing can be stored with it here",
    )
}

fn untold(name: &'static str, reason: String) -> Check {
    Check::good(name, format!("the server does not tell ({reason})"))
}
