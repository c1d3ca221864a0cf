//! What an S3 server's answer means for us: the kind of failure, and what to do about it.

use crate::base::Kind;
use aws_sdk_s3::error::{ProvideErrorMetadata, SdkError};

/// Codes of faults that may pass, some of which come with the status 400: broken on the way here.
const PASSING: [&str; 10] = [
    "SlowDown",
    "RequestTimeout",
    "ServiceUnavailable",
    "InternalError",
    "OperationAborted",
    "ConditionalRequestConflict",
    "IncompleteBody",
    "BadDigest",
    "XAmzContentSHA256Mismatch",
    "XAmzContentChecksumMismatch",
];

/// Codes of servers that have no room.
const FULL: [&str; 6] = [
    "QuotaExceeded",
    "XMinioStorageFull",
    "XMinioAdminBucketQuotaExceeded",
    "InsufficientStorage",
    "StorageFull",
    "EntityTooLarge",
];

/// The longest name of a region that is believed.
const MAX_REGION_BYTES: usize = 64;

/// What came back: the HTTP status if there was an answer, the server's code and its words.
#[derive(Debug, Default)]
pub struct Answer {
    /// The HTTP status; none if no whole answer came.
    pub status: Option<u16>,
    /// The server's code, such as `NoSuchKey`.
    pub code: Option<String>,
    /// The server's words, or ours about why there was no answer.
    pub message: String,
    /// The region that the bucket is in, where the server says so.
    pub region: Option<String>,
}

/// What came back in a failure.
pub fn answer_of<E>(error: &SdkError<E>) -> Answer
where
    E: ProvideErrorMetadata + std::error::Error + 'static,
{
    let response = error.raw_response();
    let message = match error {
        SdkError::ServiceError(service) => service.err().message().unwrap_or_default().to_owned(),
        other => innermost(other),
    };
    Answer {
        status: response.map(|response| response.status().as_u16()),
        code: error.code().map(str::to_owned),
        message,
        region: response.and_then(|response| {
            let header = response.headers().get("x-amz-bucket-region").map(str::to_owned);
            header.or_else(|| region_in(response.body().bytes()?))
        }),
    }
}

/// The region that the body of an answer names, as a server does that says no more than that a signature was for another
/// one. Whatever else it says is no region.
fn region_in(body: &[u8]) -> Option<String> {
    let text = std::str::from_utf8(body).ok()?;
    let (_, behind) = text.split_once("<Region>")?;
    let (region, _) = behind.split_once("</Region>")?;
    let is_name = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
    (!region.is_empty() && region.len() <= MAX_REGION_BYTES && region.chars().all(is_name)).then(|| region.to_owned())
}

/// The words of the innermost cause: the SDK's own only say that there was one.
pub fn innermost(error: &dyn std::error::Error) -> String {
    let mut words = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        words = inner.to_string();
        cause = inner.source();
    }
    words
}

impl Answer {
    /// The object was there already and was left alone.
    pub fn says_exists(&self) -> bool {
        self.status == Some(412) || self.code.as_deref() == Some("PreconditionFailed")
    }

    /// The server does not know what we asked for: a condition, or a request as a whole.
    pub fn says_unknown(&self) -> bool {
        self.status == Some(501) || self.code.as_deref() == Some("NotImplemented")
    }

    /// Nobody has this access key. Garage has no code of its own for it.
    fn says_unknown_key(&self) -> bool {
        self.code.as_deref() == Some("InvalidAccessKeyId") || self.is_forbidden_because("No such key")
    }

    /// The secret key is another one.
    fn says_wrong_signature(&self) -> bool {
        self.code.as_deref() == Some("SignatureDoesNotMatch") || self.is_forbidden_because("Invalid signature")
    }

    /// Garage says no more than that something is forbidden, and why only in words.
    fn is_forbidden_because(&self, words: &str) -> bool {
        self.status == Some(403) && self.message.contains(words)
    }

    /// The range begins behind the end of the object.
    pub fn says_beyond(&self) -> bool {
        self.status == Some(416) || self.code.as_deref() == Some("InvalidRange")
    }

    /// What kind of failure it is.
    pub fn kind(&self) -> Kind {
        match self.code.as_deref() {
            Some("NoSuchBucket") => return Kind::NoRepository,
            Some("NoSuchKey" | "NotFound") => return Kind::NotFound,
            // A clock that is set right, or a fresh token, makes the same request good.
            Some("RequestTimeTooSkewed" | "ExpiredToken" | "TokenRefreshRequired") => return Kind::Denied,
            Some(code) if PASSING.contains(&code) => return Kind::Unavailable,
            Some(code) if FULL.contains(&code) => return Kind::Full,
            _ => {}
        }
        match self.status {
            // Somebody in between shows a certificate that nobody here trusts: another try shows the same one.
            None if self.message.contains("certificate") => Kind::Denied,
            // A good status with an answer that broke off or cannot be understood.
            None | Some(200..=299 | 408 | 409 | 429 | 500 | 502 | 503 | 504) => Kind::Unavailable,
            Some(404) => Kind::NotFound,
            Some(403) if self.is_forbidden_because("quota is reached") => Kind::Full,
            Some(401 | 403) => Kind::Denied,
            Some(507) => Kind::Full,
            Some(301 | 307 | 400) => Kind::Usage,
            Some(_) => Kind::Denied,
        }
    }

    /// What came back and what to do about it. `right` is what the request needs: `s3:GetObject`, …
    pub fn reason(&self, right: &str) -> String {
        let came = match (&self.code, self.status) {
            (Some(code), _) if self.message.is_empty() => code.clone(),
            (Some(code), _) => format!("{code}: {}", self.message),
            (None, Some(status)) => format!("HTTP status {status} {}", self.message).trim_end().to_owned(),
            (None, None) => self.message.clone(),
        };
        match self.remedy(right) {
            // Some servers speak in whole sentences.
            Some(remedy) => format!("{}; {remedy}", came.trim_end_matches('.')),
            None => came,
        }
    }

    /// Which region to ask.
    fn elsewhere(&self) -> String {
        match &self.region {
            Some(region) => format!("the bucket is in the region {region}: set AWS_REGION or --s3-region {region}"),
            None => "the bucket is in another region: set AWS_REGION or --s3-region".to_owned(),
        }
    }

    fn remedy(&self, right: &str) -> Option<String> {
        let text = match self.code.as_deref() {
            Some("NoSuchBucket") => "make the bucket first, or mend its name".to_owned(),
            Some("RequestTimeTooSkewed") => "set this machine's clock (NTP), or the server's".to_owned(),
            Some("ExpiredToken" | "TokenRefreshRequired") => {
                "get a fresh session token (log in again, or renew AWS_SESSION_TOKEN)".to_owned()
            }
            _ if self.says_unknown_key() => "the server does not know this access key".to_owned(),
            _ if self.says_wrong_signature() => {
                "the secret key does not fit the access key, or a proxy changes requests".to_owned()
            }
            // What is said of a lock in a bucket that has none; no other of our requests is invalid.
            Some("InvalidRequest") if right.contains("--s3-object-lock") => {
                "Object Lock has to be switched on in the bucket, or leave out --s3-object-lock".to_owned()
            }
            Some("InvalidStorageClass") => "give one that the server knows with --s3-storage-class".to_owned(),
            Some("PermanentRedirect" | "AuthorizationHeaderMalformed" | "IllegalLocationConstraintException") => {
                self.elsewhere()
            }
            _ if self.kind() == Kind::Full => {
                "make room, or raise the quota; what is stored stays, and the next run uses it".to_owned()
            }
            _ => match self.status {
                None if self.kind() == Kind::Denied => "name its authority with --s3-ca".to_owned(),
                // What rustls says of a server that begins without TLS.
                None if self.message.contains("InvalidContentType") => {
                    "it does not speak https there: correct the port, or write s3:http://".to_owned()
                }
                Some(401 | 403) => format!("these credentials need the right {right} here"),
                Some(301 | 307) => self.elsewhere(),
                _ => return None,
            },
        };
        Some(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(status: u16, code: &str) -> Answer {
        let code = (!code.is_empty()).then(|| code.to_owned());
        Answer { status: Some(status), code, ..Answer::default() }
    }

    #[test]
    fn what_may_pass_is_told_from_what_will_not() {
        for status in [408, 409, 429, 500, 502, 503, 504] {
            assert_eq!(answer(status, "").kind(), Kind::Unavailable, "{status}");
        }
        assert_eq!(Answer::default().kind(), Kind::Unavailable);
        for (status, code, kind) in [
            (403, "AccessDenied", Kind::Denied),
            (403, "RequestTimeTooSkewed", Kind::Denied),
            (404, "NoSuchBucket", Kind::NoRepository),
            (404, "", Kind::NotFound),
            (507, "", Kind::Full),
            (403, "QuotaExceeded", Kind::Full),
            (400, "IncompleteBody", Kind::Unavailable),
            (200, "", Kind::Unavailable),
            (400, "AuthorizationHeaderMalformed", Kind::Usage),
        ] {
            assert_eq!(answer(status, code).kind(), kind, "{status} {code}");
        }
    }

    #[test]
    fn a_quota_that_is_told_in_words_is_no_missing_right() {
        let message =
            "Forbidden: Bucket size quota is reached, maximum total size of objects for this bucket: 5000000.";
        let answer = Answer { message: message.to_owned(), ..answer(403, "AccessDenied") };
        assert_eq!(answer.kind(), Kind::Full);
        let reason = answer.reason("s3:PutObject");
        assert!(reason.contains("raise the quota") && !reason.contains("s3:PutObject"), "{reason}");
    }

    #[test]
    fn the_region_that_the_server_names_is_handed_on() {
        let answer = Answer { region: Some("eu-central-1".to_owned()), ..answer(301, "PermanentRedirect") };
        assert!(answer.reason("s3:GetObject").ends_with("--s3-region eu-central-1"));
    }

    #[test]
    fn a_region_in_a_body_is_found_and_nothing_else_is_taken_for_one() {
        let body = |region: &str| format!("<Error><Code>X</Code><Region>{region}</Region></Error>").into_bytes();
        assert_eq!(region_in(&body("garage")).as_deref(), Some("garage"));
        for other in ["", "a b", "<b/>", "a\u{1b}[1m", &"long".repeat(20)] {
            assert_eq!(region_in(&body(other)), None, "{other}");
        }
        assert_eq!(region_in(b"<Region>garage"), None);
        assert_eq!(region_in(b"\xff<Region>garage</Region>"), None);
    }

    #[test]
    fn a_certificate_that_nobody_trusts_is_not_asked_again() {
        let message = "invalid peer certificate: UnknownIssuer".to_owned();
        let answer = Answer { message, ..Answer::default() };
        assert_eq!(answer.kind(), Kind::Denied);
        assert!(answer.reason("s3:GetObject").contains("--s3-ca"));
    }

    #[test]
    fn a_server_without_https_and_a_class_that_it_does_not_know_are_told_with_their_remedies() {
        let message = "received corrupt message of type InvalidContentType".to_owned();
        let plain = Answer { message, ..Answer::default() };
        assert!(plain.reason("s3:GetObject").contains("s3:http://"));
        let message = "The storage class you specified is not valid.".to_owned();
        let class = Answer { message, ..answer(400, "InvalidStorageClass") };
        assert!(
            class
                .reason("s3:PutObject")
                .ends_with("is not valid; give one that the server knows with --s3-storage-class")
        );
    }

    #[test]
    fn a_bucket_without_locks_is_told() {
        let right = "s3:PutObject (and s3:PutObjectRetention for --s3-object-lock)";
        assert!(answer(400, "InvalidRequest").reason(right).contains("switched on in the bucket"));
        assert!(!answer(400, "InvalidRequest").reason("s3:PutObject").contains("lock"));
    }

    #[test]
    fn a_missing_right_is_named() {
        assert!(answer(403, "AccessDenied").reason("s3:PutObject").contains("s3:PutObject"));
        assert!(answer(403, "RequestTimeTooSkewed").reason("s3:PutObject").contains("clock"));
        assert!(answer(301, "").reason("s3:ListBucket").contains("region"));
    }
}
