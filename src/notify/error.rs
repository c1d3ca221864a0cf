//! Why somebody could not be told.

use crate::base::Kind;

/// Why somebody could not be told. A message never holds an address or a secret, since addresses of chats are secrets.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{text}")]
pub struct Error {
    kind: Kind,
    text: String,
}

/// What this room answers.
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    /// Of a kind, in words.
    pub fn new(kind: Kind, text: impl Into<String>) -> Error {
        Error { kind, text: text.into() }
    }

    /// What is to be sent, or how, is malformed.
    pub fn usage(text: impl Into<String>) -> Error {
        Error::new(Kind::Usage, text)
    }

    /// Somebody does not answer, or not as he should.
    pub fn unavailable(text: impl Into<String>) -> Error {
        Error::new(Kind::Unavailable, text)
    }

    /// Something of this machine failed: `what` was tried.
    pub fn io(what: impl std::fmt::Display, source: &std::io::Error) -> Error {
        Error::new(Kind::of_io(source), format!("cannot {what}: {source}"))
    }

    /// The kind of failure.
    pub fn kind(&self) -> Kind {
        self.kind
    }
}
