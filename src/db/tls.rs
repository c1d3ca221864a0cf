//! How strict TLS to a database server is, whatever its family calls it.

use crate::base::like;

/// What people write who want TLS.
const WORDS: [&str; 5] = ["sslmode", "ssl-mode", "usessl", "sslcert", "sslrootcert"];

/// What is wrong with a parameter of an address that is not known and seems to be about TLS. To pass over it would mean to
/// talk to the server without what somebody asked for. `words` are how the family says it.
pub fn misunderstood(name: &str, words: &str) -> Option<String> {
    let small = name.to_ascii_lowercase();
    let about_tls = small.contains("ssl") || small.contains("tls") || like(&small, WORDS.into_iter()).is_some();
    about_tls.then(|| {
        format!("the parameter `{name}` of the address is unknown and seems to be about TLS: say {words} or what else is meant, or leave it out")
    })
}

/// How strict TLS is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tls {
    /// Never.
    Disable,
    /// If the server offers it, whoever it is: the default where nobody asks.
    Prefer,
    /// Always, whoever the server is.
    Unverified,
    /// Always, with a certificate that an authority we trust has signed, for whatever name.
    VerifyCa,
    /// Always, with such a certificate for the very host: what asking for TLS means.
    VerifyFull,
}

impl Tls {
    /// Whether a connection without TLS is refused.
    pub fn is_demanded(self) -> bool {
        matches!(self, Tls::Unverified | Tls::VerifyCa | Tls::VerifyFull)
    }

    /// As `libpq` calls it.
    pub fn word(self) -> &'static str {
        match self {
            Tls::Disable => "disable",
            Tls::Prefer => "prefer",
            Tls::Unverified => "require",
            Tls::VerifyCa => "verify-ca",
            Tls::VerifyFull => "verify-full",
        }
    }
}
