//! Why a command ended early.

use super::exit::Exit;
use crate::base::Kind;
use crate::{config, job, ops, repo, store};
use std::io;

/// Why a command ended early.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A verb failed.
    #[error(transparent)]
    Ops(#[from] ops::Error),
    /// The config cannot be used.
    #[error(transparent)]
    Config(#[from] config::Error),
    /// Something at the front door itself failed: message and kind.
    #[error("{1}")]
    Said(Kind, String),
    /// Standard output was closed by its reader, who has seen enough.
    #[error("standard output was closed")]
    Closed,
}

/// What commands answer.
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

    /// Which exit code it amounts to.
    pub fn exit(&self) -> Exit {
        match self {
            Error::Closed => Exit::Done,
            error => Exit::of(error.kind()),
        }
    }

    /// What helps, where the message does not say it.
    pub fn remedy(&self) -> Option<&'static str> {
        match self {
            Error::Ops(ops::Error::Repo(error)) => error.remedy(),
            _ => None,
        }
    }

    /// Whether somebody asked to stop, and nothing was wrong.
    pub fn is_interruption(&self) -> bool {
        matches!(self, Error::Ops(ops::Error::Interrupted))
    }

    /// The kind of failure.
    pub fn kind(&self) -> Kind {
        match self {
            Error::Ops(error) => error.kind(),
            Error::Config(error) => error.kind(),
            Error::Said(kind, _) => *kind,
            Error::Closed => Kind::Interrupted,
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

impl From<job::Error> for Error {
    fn from(error: job::Error) -> Error {
        match error {
            job::Error::Ops(error) => Error::Ops(error),
            job::Error::Config(error) => Error::Config(error),
            job::Error::Said(kind, text) => Error::Said(kind, text),
        }
    }
}
