//! The verbs: backup, restore, verify, forget, prune and the rest.
//!
//! A verb takes a [`Context`] and its options and gives an outcome; it knows no terminal, no environment, no profile
//! and no schedule, so a test can call it in five lines.

pub mod backup;
pub mod browse;
mod content;
pub mod copy;
pub mod drill;
pub mod dumps;
pub mod export;
mod fetch;
pub mod forget;
pub mod hooks;
pub mod info;
pub mod keys;
pub mod log;
pub mod parity;
pub mod probe;
pub mod prune;
pub mod rebuild;
pub mod record;
pub mod repair;
pub mod restore;
pub mod restore_database;
pub mod retention;
pub mod select;
mod space;
mod spill;
pub mod tag;
#[cfg(test)]
mod tests;
pub mod verify;
mod walk;
mod whole;

use crate::base::{Event, Kind, Monitor, Pace, Problem, Stop};
use crate::format::session::SessionKind;
use crate::format::snapshot::Snapshot;
use crate::repo::ahead::{Ahead, Answers};
use crate::repo::index::{Index, Opened, OwnCache, missing_segment};
use crate::repo::pack_cache::PackCache;
use crate::repo::{self, Repository, Session};
use crate::source;
use crate::target;
use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;

/// What is kept at hand of a remote repository, unless said otherwise.
pub const CACHE_BYTES: u64 = 1 << 30;

/// The folder in that of the local caches that a client has for itself which may only write.
const CLIENT_CACHE: &str = "write-only";

fn make_private(folder: &std::path::Path) -> std::io::Result<()> {
    use std::os::unix::fs::DirBuilderExt;
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)
}

/// What every verb works with: an unlocked repository, its index, and who looks on.
pub struct Context {
    /// The repository.
    pub repository: Arc<Repository>,
    /// Its index, brought up to date when it was opened.
    pub index: Arc<Index>,
    /// Where local caches of this repository lie; none for no cache that outlives the process.
    pub cache_dir: Option<PathBuf>,
    /// Looks on.
    pub monitor: Arc<dyn Monitor>,
    /// Asks to stop.
    pub stop: Stop,
    /// Lets work stand still while the machine is busy.
    pub pace: Pace,
}

impl Context {
    /// Opens the index of `repository` and brings it up to date. Refuses a repository whose config is older than one
    /// that was seen before.
    pub fn open(
        repository: Repository,
        cache_dir: Option<PathBuf>,
        monitor: Arc<dyn Monitor>,
        stop: Stop,
    ) -> Result<(Context, Opened), Error> {
        Context::open_keeping(repository, cache_dir, CACHE_BYTES, monitor, stop)
    }

    /// The same; of a remote repository, trees and lists of up to `cache_bytes` are kept at hand in `cache_dir`.
    pub fn open_keeping(
        mut repository: Repository,
        cache_dir: Option<PathBuf>,
        cache_bytes: u64,
        monitor: Arc<dyn Monitor>,
        stop: Stop,
    ) -> Result<(Context, Opened), Error> {
        // What such a client stored itself it relies on, and nobody else does: caches of its own.
        let cache_dir = cache_dir.map(|folder| match repository.keyring().is_write_only() {
            true => folder.join(CLIENT_CACHE),
            false => folder,
        });
        if let Some(folder) = &cache_dir {
            // Where it cannot be made it is said later.
            let _ = make_private(folder);
            repo::remembered::check_config(&repository, folder)?;
            repository.remember_runs(folder);
        }
        if repository.store().is_remote() {
            let look = monitor.clone();
            let tell = move |note: &str| look.event(Event::Note(note));
            repository.keep_at_hand(match cache_dir.as_ref().filter(|_| cache_bytes > 0) {
                Some(folder) => PackCache::in_folder(folder, cache_bytes, tell),
                None => PackCache::in_memory(),
            });
        }
        if let Some(note) = repo::remembered::check_root(&repository, cache_dir.as_deref())? {
            monitor.event(Event::Note(&note));
        }
        if let Some(folder) = cache_dir.as_ref().filter(|_| repository.keyring().is_write_only()) {
            match OwnCache::open(folder, repository.keyring().clone()) {
                Ok(own) => repository.keep_own(own),
                Err(error) => {
                    let folder = folder.display();
                    let note = format!("nothing is kept in {folder} ({error}): every backup reads all files");
                    monitor.event(Event::Note(&note));
                }
            }
        }
        let repository = Arc::new(repository);
        let (index, opened) = Index::open(&**repository.store(), repository.keyring(), cache_dir.as_deref())?;
        let context = Context { repository, index: Arc::new(index), cache_dir, monitor, stop, pace: Pace::default() };
        context.forget_packs(&opened);
        Ok((context, opened))
    }

    /// What is kept at hand of packs that are gone goes too.
    fn forget_packs(&self, opened: &Opened) {
        let Some(at_hand) = self.repository.at_hand().filter(|_| opened.packs_dropped > 0) else { return };
        // One that cannot be looked up stays: it may go another time.
        at_hand.retain(&|pack| !matches!(self.index.pack_bytes(pack), Ok(None)));
    }

    /// Compares the index with the store once more.
    fn refresh(&self) -> Result<Opened, Error> {
        self.refresh_with(Answers::default())
    }

    /// The same, with what was listed just now.
    fn refresh_with(&self, looked: Answers) -> Result<Opened, Error> {
        let store = Ahead::with(&**self.repository.store(), looked);
        let opened = self.index.refresh(&store, self.repository.keyring())?;
        self.forget_packs(&opened);
        Ok(opened)
    }

    /// Begins a session of somebody who reads, and brings the index up to date after its mark. A repository that
    /// cannot be written is read all the same: whoever can sweep it could not see the mark anyway.
    fn read_session(&self, operation: &str) -> Result<(Option<Session<'_>>, Opened), Error> {
        let begun = Session::begin(&self.repository, SessionKind::Reader, operation);
        let mut session = match begun {
            Ok(session) => Some(session),
            Err(error) if matches!(error.kind(), Kind::Denied | Kind::Full) => {
                let note =
                    format!("{operation} leaves no mark in the repository, so do not prune it meanwhile: {error}");
                self.monitor.event(Event::Note(&note));
                None
            }
            Err(error) => return Err(error.into()),
        };
        let looked = session.as_mut().map(Session::take_looked).unwrap_or_default();
        let opened = self.refresh_with(looked)?;
        opened.damaged.iter().for_each(|problem| self.monitor.event(Event::Problem(problem)));
        Ok((session, opened))
    }

    /// The segments that these snapshots name and that are gone; each once.
    fn missing_segments<'s>(&self, snapshots: impl IntoIterator<Item = &'s Snapshot>) -> Result<Vec<Problem>, Error> {
        let store = &**self.repository.store();
        let mut missing = BTreeSet::new();
        // Clients that may only write could claim that any segment was there.
        for snapshot in snapshots.into_iter().filter(|snapshot| !snapshot.unverified) {
            missing.extend(self.index.missing_of(store, snapshot.id, &snapshot.segments)?);
        }
        Ok(missing.into_iter().map(missing_segment).collect())
    }

    /// Between two pieces of work: stands still while the machine is busy, and ends the verb if somebody asked to stop.
    pub fn check_stop(&self) -> Result<(), Error> {
        self.pace.wait(&self.stop);
        if self.stop.raised() { Err(Error::Interrupted) } else { Ok(()) }
    }
}

/// Why a verb failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The vault failed.
    #[error(transparent)]
    Repo(#[from] repo::Error),
    /// A source failed as a whole.
    #[error(transparent)]
    Source(#[from] source::files::Error),
    /// A target failed as a whole.
    #[error(transparent)]
    Target(#[from] target::files::Error),
    /// A talk with a database server failed.
    #[error(transparent)]
    Database(#[from] crate::db::Error),
    /// The request cannot be carried out as it stands.
    #[error("{0}")]
    Usage(String),
    /// What was asked for is not there.
    #[error("{0}")]
    NotFound(String),
    /// Stored bytes are damaged, so that it cannot be told what was asked for.
    #[error("{0}")]
    Damaged(String),
    /// Refused in order to protect something.
    #[error("{0}")]
    Refused(String),
    /// Nothing of what was asked for could be read.
    #[error("{0}")]
    NothingRead(String, Vec<Problem>),
    /// The local machine failed in some other way.
    #[error("cannot {what}: {source}")]
    Io {
        /// What was tried, on what.
        what: String,
        /// What came back.
        source: std::io::Error,
    },
    /// Somebody asked to stop.
    #[error("interrupted")]
    Interrupted,
}

impl Error {
    /// What kind of failure it is.
    pub fn kind(&self) -> Kind {
        match self {
            Error::Repo(error) => error.kind(),
            Error::Source(error) => error.kind(),
            Error::Target(error) => error.kind(),
            Error::Database(error) => error.kind(),
            Error::Usage(_) => Kind::Usage,
            Error::NotFound(_) => Kind::NotFound,
            Error::Damaged(_) => Kind::Damaged,
            Error::Refused(_) => Kind::Refused,
            Error::NothingRead(..) => Kind::Source,
            Error::Io { source, .. } => Kind::of_io(source),
            Error::Interrupted => Kind::Interrupted,
        }
    }
}

impl From<crate::store::Error> for Error {
    fn from(error: crate::store::Error) -> Error {
        Error::Repo(error.into())
    }
}

/// What verbs answer.
pub type Result<T, E = Error> = std::result::Result<T, E>;
