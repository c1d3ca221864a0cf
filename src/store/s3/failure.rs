//! What an S3 server's answer means for us: the kind of failure, and what to do about it.

use crate::base::Kind;

/// What came back: the HTTP status if there was an answer, the server's code and its words.
#[derive(Debug, Default)]
pub struct Answer {
    /// The HTTP status; none if no whole answer came.
    pub status: Option<u16>,
    /// The server's code, such as `NoSuchKey`.
    pub code: Option<String>,
    /// The server's words, or ours about why there was no answer.
    pub message: String,
}

impl Answer {
    /// The object was there already and was left alone.
    pub fn says_exists(&self) -> bool {
        self.status == Some(412) || self.code.as_deref() == Some("PreconditionFailed")
    }

    /// The server does not know the condition we asked for.
    pub fn says_unknown_condition(&self) -> bool {
        self.status == Some(501) || self.code.as_deref() == Some("NotImplemented")
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
            Some("SlowDown" | "RequestTimeout" | "ServiceUnavailable" | "InternalError" | "OperationAborted") => {
                return Kind::Unavailable;
            }
            Some("QuotaExceeded" | "XMinioStorageFull" | "InsufficientStorage" | "StorageFull") => return Kind::Full,
            _ => {}
        }
        match self.status {
            None | Some(408 | 409 | 429 | 500 | 502 | 503 | 504) => Kind::Unavailable,
            Some(404) => Kind::NotFound,
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
            Some(remedy) => format!("{came}; {remedy}"),
            None => came,
        }
    }

    fn remedy(&self, right: &str) -> Option<String> {
        let text = match self.code.as_deref() {
            Some("NoSuchBucket") => "make the bucket first, or mend its name".to_owned(),
            Some("RequestTimeTooSkewed") => "set this machine's clock".to_owned(),
            Some("ExpiredToken" | "TokenRefreshRequired") => "get a fresh session token".to_owned(),
            Some("InvalidAccessKeyId") => "the server does not know this access key".to_owned(),
            Some("SignatureDoesNotMatch") => {
                "the secret key does not fit the access key, or a proxy changes requests".to_owned()
            }
            Some("PermanentRedirect" | "AuthorizationHeaderMalformed" | "IllegalLocationConstraintException") => {
                "the bucket is in another region: set AWS_REGION or --s3-region".to_owned()
            }
            _ => match self.status {
                Some(401 | 403) => format!("these credentials need the right {right} here"),
                Some(301 | 307) => "the bucket is in another region: set AWS_REGION or --s3-region".to_owned(),
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
        Answer { status: Some(status), code, message: String::new() }
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
            (400, "AuthorizationHeaderMalformed", Kind::Usage),
        ] {
            assert_eq!(answer(status, code).kind(), kind, "{status} {code}");
        }
    }

    #[test]
    fn a_missing_right_is_named() {
        assert!(answer(403, "AccessDenied").reason("s3:PutObject").contains("s3:PutObject"));
        assert!(answer(403, "RequestTimeTooSkewed").reason("s3:PutObject").contains("clock"));
        assert!(answer(301, "").reason("s3:ListBucket").contains("region"));
    }
}
