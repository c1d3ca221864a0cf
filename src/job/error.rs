//! Why a part of a job failed.

use crate::base::Kind;
use crate::{config, ops, repo, store};
use std::io;

/// Why a part of a job failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A verb failed.
    #[error(transparent)]
    Ops(#[from] ops::Error),
    /// What the config names cannot be brought.
    #[error(transparent)]
    Config(#[from] config::Error),
    /// Something else: kind and message.
    #[error("{1}")]
    Said(Kind, String),
}

/// What jobs answer.
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    /// A mistake in the request.
    pub fn usage(text: impl Into<String>) -> Error {
        Error::Said(Kind::Usage, text.into())
    }

    /// Something of this machine failed: `what` was tried.
    pub fn io(what: impl Into<String>, source: io::Error) -> Error {
        Error::Ops(ops::Error::Io { what: what.into(), source })
    }

    /// The kind of failure.
    pub fn kind(&self) -> Kind {
        match self {
            Error::Ops(error) => error.kind(),
            Error::Config(error) => error.kind(),
            Error::Said(kind, _) => *kind,
        }
    }
}

impl From<repo::Error> for Error {
    fn from(error: repo::Error) -> Error {
        Error::Ops(error.into())
    }
}

impl From<store::Error> for Error {
    fn from(error: store::Error) -> Error {
        Error::Ops(error.into())
    }
}
