//! What every command starts from: the options of all commands, standard output, and the way to the repository.

use super::args::{Global, Opened};
use super::error::{Error, Result};
use super::location::Location;
use super::print::{Output, human};
use super::secrets::{self, Brought};
use super::terminal::{self, Look};
use crate::base::{Clock, RepositoryId, Stop};
use crate::ops::Context;
use crate::repo::{Repository, SealedRepository};
use std::env;
use std::fs::DirBuilder;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The Cache Directory Tagging Specification: who leaves out caches leaves out ours.
const CACHEDIR_TAG: &str = "Signature: 8a477f597d28d172789f06886806bc55\n# This folder holds caches of keepstone; \
                            deleting it costs time and nothing else.\n";

/// What every command starts from.
pub struct App {
    /// Options of every command.
    pub global: Global,
    /// Standard output.
    pub out: Output,
    /// Looks on.
    pub look: Arc<Look>,
    /// Raised by a signal.
    pub stop: Stop,
}

impl App {
    /// Starts.
    pub fn new(global: Global) -> App {
        let stop = Stop::new();
        let look = Arc::new(Look::new(&global, stop.clone()));
        App { out: Output::new(global.json), look, stop, global }
    }

    /// The same for the repository at `from`, opened in its own way.
    pub fn from(&self, from: &Path, opened: &Opened) -> App {
        let global = opened.global(from.to_owned(), &self.global);
        App { out: Output::new(global.json), look: self.look.clone(), stop: self.stop.clone(), global }
    }

    /// Where the repository is.
    pub fn location(&self) -> Result<Location> {
        let path = self.global.repository.as_deref().filter(|path| !path.as_os_str().is_empty());
        let path = path
            .ok_or_else(|| Error::usage("which repository? Give -r FOLDER, or -r s3:…, or set KEEPSTONE_REPOSITORY"))?;
        Location::parse(path, self.global.s3.allow_plain_http)
    }

    /// Whether the repository is a folder of this machine.
    pub fn is_local(&self) -> bool {
        self.location().is_ok_and(|location| location.folder().is_some())
    }

    /// The repository, still locked.
    pub fn sealed(&self) -> Result<SealedRepository> {
        Ok(SealedRepository::open(self.location()?.open(self)?)?)
    }

    /// A folder for packs that are on their way to a remote store.
    pub fn spool(&self) -> Result<PathBuf> {
        let folder = match self.cache_top().filter(|_| !self.global.no_cache) {
            Some(top) => top.join("spool"),
            None => env::temp_dir(),
        };
        let made = DirBuilder::new().recursive(true).mode(0o700).create(&folder);
        made.map_err(|source| Error::io(format!("make {}, where packs are gathered", folder.display()), source))?;
        Ok(folder)
    }

    /// The repository, opened with the user's password or key.
    pub fn repository(&self) -> Result<Repository> {
        Ok(self.repository_and_secret()?.0)
    }

    /// The same, and what it was opened with.
    pub fn repository_and_secret(&self) -> Result<(Repository, Brought)> {
        // First look whether there is one: nobody types a password in vain.
        self.unlocked(self.sealed()?)
    }

    /// A repository that was found, opened with the user's password or key, and what it was opened with.
    pub fn unlocked(&self, sealed: SealedRepository) -> Result<(Repository, Brought)> {
        let brought = secrets::unlock(&self.global)?;
        let repository = sealed.unlock(&brought.unlock, Clock::System)?;
        Ok((repository, brought))
    }

    /// The repository with its index, ready for a verb.
    pub fn context(&self) -> Result<Context> {
        self.context_of(self.repository()?)
    }

    /// The same for a repository that is open already.
    pub fn context_of(&self, repository: Repository) -> Result<Context> {
        // Not earlier: while a password is typed, Ctrl-C simply ends the program.
        terminal::heed_signals(&self.stop).map_err(|source| Error::io("listen for signals", source))?;
        self.second_context_of(repository)
    }

    /// The same for a second repository: signals are heeded already.
    pub fn second_context_of(&self, repository: Repository) -> Result<Context> {
        let cache_dir = self.cache_dir(repository.id());
        if self.global.verbose {
            let cache =
                cache_dir.as_ref().map_or("no cache".to_owned(), |folder| format!("cache {}", folder.display()));
            let (id, slot, place) = (repository.id().short(), repository.slot().short(), repository.store().location());
            self.look.note(&format!("repository {id} in {place}, opened with key {slot}, {cache}"));
        }
        let (look, stop) = (self.look.clone(), self.stop.clone());
        let (context, _) = Context::open_keeping(repository, cache_dir, self.global.cache_size, look, stop)?;
        Ok(context)
    }

    /// The folder for local caches of this repository; none if nothing is to be kept or can be.
    fn cache_dir(&self, repository: RepositoryId) -> Option<PathBuf> {
        // What is known of the present does not hold for the past, nor the other way round.
        if self.global.no_cache || self.global.s3.as_of.is_some() {
            return None;
        }
        let Some(top) = self.cache_top() else {
            self.look.note("no local cache: neither --cache-dir nor HOME is set; every command reads the whole index");
            return None;
        };
        let folder = top.join(repository.to_string());
        let made = DirBuilder::new().recursive(true).mode(0o700).create(&folder);
        match made {
            Ok(()) => {
                mark_as_cache(&top);
                Some(folder)
            }
            Err(error) => {
                let folder = folder.display();
                self.look.note(&format!("no local cache: cannot make {folder} ({error}); this takes longer"));
                None
            }
        }
    }

    fn cache_top(&self) -> Option<PathBuf> {
        let set = |name: &str| env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
        let given = self.global.cache_dir.clone().filter(|path| !path.as_os_str().is_empty());
        given
            .or_else(|| set("XDG_CACHE_HOME").filter(|path| path.is_absolute()).map(|path| path.join("keepstone")))
            .or_else(|| set("HOME").map(|home| home.join(".cache/keepstone")))
    }

    /// A further command for the same repository, as it can be typed.
    pub fn command(&self, words: &str) -> String {
        let mut text = human::shell_word(&program());
        let from_environment = env::var_os("KEEPSTONE_REPOSITORY").map(PathBuf::from) == self.global.repository;
        let given = [
            ("-r", self.global.repository.as_ref().filter(|_| !from_environment)),
            ("--password-file", self.global.password_file.as_ref()),
            ("--key-file", self.global.key_file.as_ref()),
            ("--identity-file", self.global.identity_file.as_ref()),
        ];
        let given = given.into_iter().filter_map(|(flag, value)| Some((flag, value?.to_string_lossy().into_owned())));
        for (flag, value) in given.chain(self.global.s3.words()) {
            text.push_str(&format!(" {flag} {}", human::shell_word(&value)));
        }
        if self.global.s3.allow_plain_http {
            text.push_str(" --allow-plain-http");
        }
        format!("{text} {words}")
    }

    /// Ends a report for people: what is safe, what is not, and what to do next.
    pub fn close(&self, safe: &str, not_safe: &str, next: &str) {
        self.out.line("");
        self.out.line(format!("safe      {safe}"));
        self.out.line(format!("not safe  {not_safe}"));
        self.out.line(format!("next      {}", self.command(next)));
    }

    /// For long listings: ends them when nobody reads any more.
    pub fn still_read(&self) -> crate::ops::Result<()> {
        match self.out.is_closed() {
            true => Err(crate::ops::Error::Interrupted),
            false => Ok(self.stop_if_asked()?),
        }
    }

    fn stop_if_asked(&self) -> crate::ops::Result<()> {
        if self.stop.raised() { Err(crate::ops::Error::Interrupted) } else { Ok(()) }
    }

    /// What a listing ended with: that nobody reads any more is no failure.
    pub fn listed<T>(&self, result: crate::ops::Result<T>) -> Result<T> {
        result.map_err(|error| match self.out.is_closed() {
            true => Error::Closed,
            false => error.into(),
        })
    }
}

/// How this program was called, so that a printed command can be typed again.
fn program() -> String {
    env::args_os().next().and_then(|name| name.into_string().ok()).unwrap_or_else(|| "keepstone".to_owned())
}

fn mark_as_cache(top: &Path) {
    let tag = top.join("CACHEDIR.TAG");
    if !tag.exists() {
        // Only a courtesy to other backup programs.
        let _ = std::fs::write(tag, CACHEDIR_TAG);
    }
}
