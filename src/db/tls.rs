//! How strict TLS to a database server is, whatever its family calls it.

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
