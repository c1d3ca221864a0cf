//! What kinds of failure there are.
//!
//! Each room has an error enum of its own whose `kind()` answers with one of these. Whether to retry, which exit
//! code to end with and whether to raise an alarm are each decided in one place, by kind alone.

/// The kind of a failure: all that retry, exit code and alarm need to know about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// The thing asked for is not there.
    NotFound,
    /// A thing of that name is there already.
    Exists,
    /// The operating system or the store forbids it.
    Denied,
    /// A disk, a quota or a bucket is full.
    Full,
    /// The store does not answer or answers with a passing fault: trying again may help.
    Unavailable,
    /// Stored bytes are not what was written: truncated, altered, forged or undecodable.
    Damaged,
    /// Written by a newer version, or in need of a feature that this version does not have.
    Unsupported,
    /// No key slot opens with the secret that was given.
    WrongKey,
    /// There is no repository at that place.
    NoRepository,
    /// Refused in order to protect something, or because somebody else is at it.
    Refused,
    /// The request itself is malformed.
    Usage,
    /// A source (a file, a stream, a command) cannot be read; the repository is not in doubt.
    Source,
    /// A target (where a restore writes to) cannot be written; the repository is not in doubt.
    Target,
    /// Stopped by the user or by a signal.
    Interrupted,
    /// A fault of this program or of this machine: two computations of the same thing differ.
    Internal,
}

impl Kind {
    /// All of them.
    pub const ALL: [Kind; 15] = [
        Kind::NotFound,
        Kind::Exists,
        Kind::Denied,
        Kind::Full,
        Kind::Unavailable,
        Kind::Damaged,
        Kind::Unsupported,
        Kind::WrongKey,
        Kind::NoRepository,
        Kind::Refused,
        Kind::Usage,
        Kind::Source,
        Kind::Target,
        Kind::Interrupted,
        Kind::Internal,
    ];

    /// The kind that an operating system error amounts to when it concerns a store.
    pub fn of_io(error: &std::io::Error) -> Kind {
        use std::io::ErrorKind as E;
        match error.kind() {
            E::NotFound => Kind::NotFound,
            E::AlreadyExists => Kind::Exists,
            E::PermissionDenied | E::ReadOnlyFilesystem => Kind::Denied,
            E::StorageFull | E::QuotaExceeded | E::FileTooLarge => Kind::Full,
            E::UnexpectedEof => Kind::Damaged,
            _ => Kind::Unavailable,
        }
    }

    /// The word for it.
    pub fn name(self) -> &'static str {
        match self {
            Kind::NotFound => "not_found",
            Kind::Exists => "exists",
            Kind::Denied => "denied",
            Kind::Full => "full",
            Kind::Unavailable => "unavailable",
            Kind::Damaged => "damaged",
            Kind::Unsupported => "unsupported",
            Kind::WrongKey => "wrong_key",
            Kind::NoRepository => "no_repository",
            Kind::Refused => "refused",
            Kind::Usage => "usage",
            Kind::Source => "source",
            Kind::Target => "target",
            Kind::Interrupted => "interrupted",
            Kind::Internal => "internal",
        }
    }

    /// Whether the same request may succeed a little later.
    pub fn is_transient(self) -> bool {
        self == Kind::Unavailable
    }
}
