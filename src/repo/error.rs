//! What can go wrong in the vault.

use crate::base::{BlobId, KeyId, Kind, SessionId};
use crate::store::Area;
use crate::{crypto, format, store};

/// A failure of the vault.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The store failed.
    #[error(transparent)]
    Store(#[from] store::Error),
    /// Stored bytes are not what they should be, or not what this version knows.
    #[error("{object} {}: {source}", verdict(source))]
    Object {
        /// The object, as a person would name it.
        object: String,
        /// What is wrong with it.
        source: format::Error,
    },
    /// Stored bytes are well-formed but say something that cannot be.
    #[error("{object} is damaged: {reason}")]
    Damaged {
        /// The object.
        object: String,
        /// What is wrong with it.
        reason: String,
    },
    /// No pack known to the index holds the blob.
    #[error(
        "blob {0} is in no pack that the index knows: `keepstone rebuild-index` looks for it in all packs; if it is in none, a backup of the same files stores it anew"
    )]
    Missing(BlobId),
    /// The pack in which the index has a blob cannot be found.
    #[error("{0}")]
    Gone(store::Error),
    /// A key or a seal failed.
    #[error(transparent)]
    Crypto(#[from] crypto::Error),
    /// Something is sealed under a key that no epoch holds.
    #[error(
        "{object} is sealed under key {key}, which no key epoch of this repository holds: the epoch is \
         gone or damaged. `keepstone repair apply --from MIRROR` brings it back; so does putting the missing object back \
         into `epochs/` from any copy of the repository"
    )]
    UnknownKey {
        /// The object.
        object: String,
        /// The key.
        key: KeyId,
    },
    /// Something is sealed under a key that a client which may only write is not granted.
    #[error(
        "{object} is sealed under the {class} key, which a write-only key does not grant: use a password or key that \
         opens the whole repository"
    )]
    NotGranted {
        /// The object.
        object: String,
        /// The class of the key.
        class: &'static str,
    },
    /// Something was to be done that a client which may only write cannot do.
    #[error(
        "cannot {0} with a write-only key: it backs up, and opens nothing that is stored. Use a password or key that \
         opens the whole repository"
    )]
    WriteOnly(String),
    /// There is no repository.
    #[error("there is no repository at {0}: make one with `keepstone init`, or correct the path")]
    NoRepository(String),
    /// There is one, and nobody can open it without its config.
    #[error(
        "{location} is a repository whose config is gone: {objects} objects lie in its {area} folder, but neither `config` \
         nor `config.copy` is there. Put one of them back from a mirror of the repository; without it nobody can open \
         what is stored there. Nothing was changed", area = area.folder()
    )]
    ConfigGone {
        /// Where.
        location: String,
        /// Where something lies.
        area: Area,
        /// How many objects.
        objects: u64,
    },
    /// There is no key slot.
    #[error(
        "all key slots of {0} are gone: put its folder `keys` back from a mirror of the repository; without one of them \
         no password or key opens it"
    )]
    SlotsGone(String),
    /// What says the root key does not fit those who grant it.
    #[error(
        "config is damaged: none of the {slots} key slots of {location} belongs to the root key that it names, so no \
         password or key was tried. Put `config` and `config.copy`, or the folder `keys`, back from a mirror of the \
         repository"
    )]
    NoSlotOfRoot {
        /// How many slots there are.
        slots: usize,
        /// Where.
        location: String,
    },
    /// There is one already.
    #[error("there is already a repository at {0}; it was left as it is")]
    AlreadyThere(String),
    /// No slot opens.
    #[error("wrong password or key: none of the {slots} key slots of {location} opens with it")]
    NoSlotOpens {
        /// How many slots were tried.
        slots: usize,
        /// Where.
        location: String,
    },
    /// The keys at hand are no longer those of the repository.
    #[error("the root key of {0} was exchanged while this ran: run it again; what it has stored stays stored")]
    RootExchanged(String),
    /// A newer version made it.
    #[error("{location} needs the feature `{feature}`, which this version does not have: use a newer keepstone")]
    Feature {
        /// Where.
        location: String,
        /// The feature.
        feature: String,
    },
    /// A version made it that wrote a draft of the format.
    #[error(
        "{0} was made by a version that tried out the format: make a new repository with `keepstone init` and back up into it"
    )]
    Draft(String),
    /// Somebody fenced this session: what it wrote may be swept.
    #[error("this run (session {0}) was fenced by a prune because it seemed dead; run it again, stored data is reused")]
    Fenced(SessionId),
    /// Refused to protect something.
    #[error("{0}")]
    Refused(String),
    /// The local index cache failed in a way that making it anew did not cure.
    #[error("the local index cache {path} failed: {reason}")]
    Cache {
        /// Its path.
        path: String,
        /// What came back.
        reason: String,
    },
    /// A thread of the pipeline ended before its work did.
    #[error("internal error: {0}")]
    Internal(String),
}

impl Error {
    /// What kind of failure it is.
    pub fn kind(&self) -> Kind {
        match self {
            Error::Store(error) => error.kind(),
            Error::Object { source, .. } => source.kind(),
            Error::Damaged { .. } | Error::Missing(_) | Error::Gone(_) | Error::UnknownKey { .. } => Kind::Damaged,
            Error::ConfigGone { .. } | Error::SlotsGone(_) | Error::NoSlotOfRoot { .. } => Kind::Damaged,
            Error::Crypto(error) => error.kind(),
            Error::NoRepository(_) => Kind::NoRepository,
            Error::AlreadyThere(_) | Error::Refused(_) | Error::Fenced(_) | Error::RootExchanged(_) => Kind::Refused,
            Error::NoSlotOpens { .. } | Error::NotGranted { .. } => Kind::WrongKey,
            Error::WriteOnly(_) => Kind::Refused,
            Error::Feature { .. } | Error::Draft(_) => Kind::Unsupported,
            Error::Cache { .. } => Kind::Unavailable,
            Error::Internal(_) => Kind::Internal,
        }
    }

    /// What helps, where the message does not say it: packs are mended by what else has what they held.
    pub fn remedy(&self) -> Option<&'static str> {
        const REPAIR: &str = "run `keepstone verify --all` to see what that hurts, then `keepstone repair plan`";
        match self {
            Error::Gone(_) => Some(REPAIR),
            Error::Object { object, .. } | Error::Damaged { object, .. } => {
                let of_pack =
                    object.starts_with("block ") || object.starts_with("blob ") || object.starts_with("packs/");
                of_pack.then_some(REPAIR)
            }
            _ => None,
        }
    }

    /// The message and what helps, unless it says that itself: for want of an epoch only the epoch helps.
    pub fn advising(&self, remedy: &str) -> String {
        match self {
            Error::UnknownKey { .. } => self.to_string(),
            _ => format!("{self}: {remedy}"),
        }
    }

    /// An object that is named by the hash of its bytes and has others.
    pub fn altered(object: impl ToString) -> Error {
        Error::damaged(object, "its bytes do not have its name: some of them were altered")
    }

    /// Says which object the bytes came from.
    pub fn object(object: impl ToString) -> impl FnOnce(format::Error) -> Error {
        move |source| Error::Object { object: object.to_string(), source }
    }

    /// A well-formed object that says something impossible.
    pub fn damaged(object: impl ToString, reason: impl ToString) -> Error {
        Error::Damaged { object: object.to_string(), reason: reason.to_string() }
    }
}

/// What is wrong with an object: one of a newer version is not damaged.
fn verdict(source: &format::Error) -> &'static str {
    match source.kind() {
        Kind::Unsupported => "cannot be read",
        _ => "is damaged",
    }
}

/// What the vault answers.
pub type Result<T, E = Error> = std::result::Result<T, E>;
