//! Where a repository in an S3-compatible store lies: endpoint, bucket and prefix.

use crate::base::Kind;
use crate::store::Error;
use std::fmt;
use std::net::IpAddr;

/// The forms that are understood, for messages.
const FORMS: &str = "write s3://BUCKET/PREFIX for Amazon, or s3:https://HOST/BUCKET/PREFIX";

/// A place in a bucket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Address {
    /// The server, `https://host:port`; none for Amazon's own.
    pub endpoint: Option<String>,
    /// The bucket.
    pub bucket: String,
    /// What the names of all objects begin with; empty or ending in `/`.
    pub prefix: String,
}

impl Address {
    /// Whether a repository's name is that of a place in a bucket.
    pub fn is_meant(text: &str) -> bool {
        text.starts_with("s3:")
    }

    /// Reads `s3://BUCKET/PREFIX`, `s3:https://HOST/BUCKET/PREFIX`, `s3:http://HOST/BUCKET/PREFIX` (loopback only, or
    /// if `plain_http` is allowed) and `s3:HOST/BUCKET/PREFIX`. Anything else is [`Kind::Usage`].
    pub fn parse(text: &str, plain_http: bool) -> Result<Address, Error> {
        let refuse = |kind, reason: &str| Error::new(kind, "open", shown(text), reason);
        let rest = text.strip_prefix("s3:").ok_or_else(|| refuse(Kind::Usage, FORMS))?;
        let (endpoint, place) = match rest.strip_prefix("//") {
            Some(place) => (None, place),
            None => {
                let (scheme, rest) = rest.split_once("://").unwrap_or(("https", rest));
                let (host, place) = rest.split_once('/').unwrap_or((rest, ""));
                if host.contains('@') {
                    let reason = "keys do not belong in the address: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, \
                                  or use a profile";
                    return Err(refuse(Kind::Usage, reason));
                }
                match scheme {
                    "https" => {}
                    "http" if plain_http || is_loopback(host) => {}
                    "http" => {
                        let reason = "plain http would show your requests to everybody on the way: use https, or allow \
                                      it with --allow-plain-http";
                        return Err(refuse(Kind::Refused, reason));
                    }
                    _ => return Err(refuse(Kind::Usage, FORMS)),
                }
                if !is_host(host) {
                    return Err(refuse(Kind::Usage, &format!("{host:?} is no host name: {FORMS}")));
                }
                (Some(format!("{scheme}://{host}")), place)
            }
        };
        let (bucket, prefix) = place.split_once('/').unwrap_or((place, ""));
        if !is_bucket(bucket) {
            return Err(refuse(Kind::Usage, &format!("{bucket:?} is no bucket name: {FORMS}")));
        }
        let prefix = prefix.trim_matches('/');
        if !prefix.is_empty() && !prefix.split('/').all(is_part) {
            let reason = "a prefix is made of letters, digits, '-', '_' and '.', in parts separated by '/'";
            return Err(refuse(Kind::Usage, reason));
        }
        let prefix = if prefix.is_empty() { String::new() } else { format!("{prefix}/") };
        Ok(Address { endpoint, bucket: bucket.to_owned(), prefix })
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let prefix = self.prefix.trim_end_matches('/');
        let slash = if prefix.is_empty() { "" } else { "/" };
        match &self.endpoint {
            None => write!(f, "s3://{}{slash}{prefix}", self.bucket),
            Some(endpoint) => write!(f, "s3:{endpoint}/{}{slash}{prefix}", self.bucket),
        }
    }
}

/// The address without what might be a key in it.
fn shown(text: &str) -> String {
    match text.rsplit_once('@') {
        Some((_, rest)) => format!("s3:…@{rest}"),
        None => text.to_owned(),
    }
}

fn is_host(host: &str) -> bool {
    !host.is_empty() && host.bytes().all(|c| c.is_ascii_alphanumeric() || b"-._:[]".contains(&c))
}

/// Whether requests to `host` stay on this machine.
fn is_loopback(host: &str) -> bool {
    let name = match host.strip_prefix('[') {
        Some(rest) => rest.split(']').next().unwrap_or(rest),
        None => host.rsplit_once(':').map_or(host, |(name, _)| name),
    };
    name == "localhost" || name.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

/// Whether an endpoint that was configured elsewhere may be asked: encrypted, on this machine, or if it is allowed.
pub(super) fn is_allowed(url: &str, plain_http: bool) -> bool {
    match url.split_once("://") {
        Some((scheme, rest)) if scheme.eq_ignore_ascii_case("http") => {
            plain_http || is_loopback(rest.split('/').next().unwrap_or(rest))
        }
        _ => true,
    }
}

fn is_bucket(bucket: &str) -> bool {
    (3..=63).contains(&bucket.len())
        && bucket.bytes().all(|c| c.is_ascii_alphanumeric() || b"-._".contains(&c))
        && !bucket.starts_with(['-', '.'])
}

fn is_part(part: &str) -> bool {
    !matches!(part, "" | "." | "..") && part.bytes().all(|c| c.is_ascii_alphanumeric() || b"-._".contains(&c))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read_as_people_write_them() {
        for (text, endpoint, bucket, prefix) in [
            ("s3://vault", None, "vault", ""),
            ("s3://vault/a/b/", None, "vault", "a/b/"),
            ("s3:https://s3.example.org/vault/x", Some("https://s3.example.org"), "vault", "x/"),
            ("s3:store.example.org:8443/vault", Some("https://store.example.org:8443"), "vault", ""),
            ("s3:http://127.0.0.1:8333/vault", Some("http://127.0.0.1:8333"), "vault", ""),
            ("s3:http://[::1]:8333/vault", Some("http://[::1]:8333"), "vault", ""),
            ("s3:http://localhost/vault", Some("http://localhost"), "vault", ""),
        ] {
            let address = Address::parse(text, false).unwrap();
            let expected = (endpoint.map(str::to_owned), bucket.to_owned(), prefix.to_owned());
            assert_eq!((address.endpoint.clone(), address.bucket.clone(), address.prefix.clone()), expected);
            assert_eq!(Address::parse(&address.to_string(), false).unwrap(), address);
        }
    }

    #[test]
    fn what_is_no_address_is_refused_with_the_form_to_use() {
        for text in ["s3:", "s3://", "s3:///x", "s3:https://", "s3:ftp://h/vault", "s3://vault/../x", "s3://a b/c"] {
            let error = Address::parse(text, false).unwrap_err();
            assert_eq!(error.kind(), Kind::Usage, "{text}: {error}");
        }
    }

    #[test]
    fn plain_http_leaves_this_machine_only_when_it_is_allowed() {
        let text = "s3:http://store.example.org/vault";
        assert_eq!(Address::parse(text, false).unwrap_err().kind(), Kind::Refused);
        assert!(Address::parse(text, true).is_ok());
        for (url, allowed) in
            [("https://h/", true), ("http://127.0.0.1:9/", true), ("http://h", false), ("HTTP://h:9/x", false)]
        {
            assert_eq!(is_allowed(url, false), allowed, "{url}");
            assert!(is_allowed(url, true));
        }
        assert_eq!(Address::parse("s3:http://127.0.0.1.example.org/vault", false).unwrap_err().kind(), Kind::Refused);
    }

    #[test]
    fn keys_in_an_address_are_refused_and_not_shown() {
        let error = Address::parse("s3:https://key:secret@host/vault", false).unwrap_err();
        assert!(!error.to_string().contains("secret"), "{error}");
    }
}
