//! The way to a repository: its place, its caches, who looks on.

use super::error::{Error, Result};
use super::place::Location;
use crate::base::{Event, Monitor, RepositoryId, Stop, Timestamp};
use crate::config::meant::Repository as Meant;
use crate::ops::Context;
use crate::repo::{Repository, SealedRepository};
use std::fs::DirBuilder;
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The Cache Directory Tagging Specification: who leaves out caches leaves out ours.
const CACHEDIR_TAG: &str = "Signature: 8a477f597d28d172789f06886806bc55\n# This folder holds caches of keepstone; \
                            deleting it costs time and nothing else.\n";

/// Where local caches lie.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Caches {
    /// In a folder for each repository below this one.
    Below(PathBuf),
    /// Nowhere: nothing outlives the process.
    None,
    /// Nowhere, since nobody knows a place: which is told.
    Unknown,
}

/// All that it takes to come to a repository but what opens it.
pub struct Reach {
    /// The repository.
    pub repository: Meant,
    /// A bucket as it was at a time.
    pub as_of: Option<Timestamp>,
    /// Its caches.
    pub caches: Caches,
    /// Where files may lie for a moment.
    pub temp_dir: PathBuf,
    /// Looks on.
    pub monitor: Arc<dyn Monitor>,
    /// Asks to stop.
    pub stop: Stop,
}

impl Reach {
    /// Where the repository is.
    pub fn location(&self) -> Result<Location> {
        Location::parse(&self.repository.place, self.repository.bucket.plain_http)
    }

    /// The repository, still locked.
    pub fn sealed(&self) -> Result<SealedRepository> {
        Ok(SealedRepository::open(self.location()?.open(self)?)?)
    }

    /// A folder for packs that are on their way to a remote store.
    pub fn spool(&self) -> Result<PathBuf> {
        let folder = match &self.caches {
            Caches::Below(top) => top.join("spool"),
            Caches::None | Caches::Unknown => self.temp_dir.clone(),
        };
        let made = make_private(&folder);
        made.map_err(|source| Error::io(format!("make {}, where packs are gathered", folder.display()), source))?;
        Ok(folder)
    }

    /// Whether nothing outlives the process.
    pub fn caches_nothing(&self) -> bool {
        self.caches == Caches::None
    }

    /// An open repository with its index, ready for a verb.
    pub fn context(&self, repository: Repository) -> Result<Context> {
        let cache_dir = self.cache_dir(repository.id());
        let (look, stop) = (self.monitor.clone(), self.stop.clone());
        let (context, _) = Context::open_keeping(repository, cache_dir, self.repository.cache_bytes, look, stop)?;
        Ok(context)
    }

    /// The folder for local caches of this repository; none if nothing is to be kept or can be.
    fn cache_dir(&self, repository: RepositoryId) -> Option<PathBuf> {
        // What is known of the present does not hold for the past, nor the other way round.
        let top = match &self.caches {
            _ if self.as_of.is_some() => return None,
            Caches::None => return None,
            Caches::Below(top) => top,
            Caches::Unknown => {
                self.note("no local cache: neither --cache-dir nor HOME is set; every command reads the whole index");
                return None;
            }
        };
        let folder = top.join(repository.to_string());
        match make_private(&folder) {
            Ok(()) => {
                mark_as_cache(top);
                Some(folder)
            }
            Err(error) => {
                self.note(&format!("no local cache: cannot make {} ({error}); this takes longer", folder.display()));
                None
            }
        }
    }

    fn note(&self, text: &str) {
        self.monitor.event(Event::Note(text));
    }
}

fn make_private(folder: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(folder)
}

fn mark_as_cache(top: &Path) {
    let tag = top.join("CACHEDIR.TAG");
    if !tag.exists() {
        // Only a courtesy to other backup programs.
        let _ = std::fs::write(tag, CACHEDIR_TAG);
    }
}
