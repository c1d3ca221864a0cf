//! What every command starts from: the options of all commands, standard output, and the way to the repository.

use super::args::{Global, Opened};
use super::error::{Error, Result};
use super::print::{Output, human};
use super::profile;
use super::secrets::{self, Brought};
use super::terminal::{self, Look};
use crate::base::{Clock, Stop};
use crate::config::{self, Config};
use crate::job::place::Location;
use crate::job::reach::{Caches, Reach};
use crate::ops::Context;
use crate::repo::{Repository, SealedRepository};
use std::env;
use std::path::{Path, PathBuf};
use std::sync::Arc;

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

    /// The repository is that of the profile, if one is named.
    pub fn at_profile(&mut self) -> Result<()> {
        let Some(name) = self.global.of_profile.clone() else { return Ok(()) };
        if self.global.repository.is_some() && !self.is_repository_from_environment() {
            return Err(Error::usage("-r and --profile both say which repository: leave one out"));
        }
        let repository = Config::load(&self.global.config)?.profile(&name)?.repository;
        profile::take(&mut self.global, repository);
        Ok(())
    }

    /// The same for the repository of this profile.
    pub fn of_profile(&self, name: &str) -> Result<App> {
        let mut global = self.global.clone();
        (global.repository, global.origin, global.of_profile) = (None, None, Some(name.to_owned()));
        let mut app =
            App { global, out: Output::new(self.global.json), look: self.look.clone(), stop: self.stop.clone() };
        app.at_profile()?;
        Ok(app)
    }

    fn is_repository_from_environment(&self) -> bool {
        env::var_os("KEEPSTONE_REPOSITORY").map(PathBuf::from) == self.global.repository
    }

    /// The same for the repository at `from`, opened in its own way.
    pub fn from(&self, from: &Path, opened: &Opened) -> App {
        let global = opened.global(from.to_owned(), &self.global);
        App { out: Output::new(global.json), look: self.look.clone(), stop: self.stop.clone(), global }
    }

    /// The way to the repository.
    pub fn reach(&self) -> Result<Reach> {
        let place = self.global.repository.clone().filter(|path| !path.as_os_str().is_empty());
        let place = place
            .ok_or_else(|| Error::usage("which repository? Give -r FOLDER, or -r s3:…, or set KEEPSTONE_REPOSITORY"))?;
        let caches = match self.global.no_cache {
            true => Caches::None,
            false => config::cache_top(self.global.cache_dir.clone()).map_or(Caches::Unknown, Caches::Below),
        };
        let (monitor, stop) = (self.look.clone(), self.stop.clone());
        let (repository, as_of) = (profile::meant(&self.global, place), self.global.s3.as_of);
        Ok(Reach { repository, as_of, caches, temp_dir: env::temp_dir(), monitor, stop })
    }

    /// Where the repository is.
    pub fn location(&self) -> Result<Location> {
        Ok(self.reach()?.location()?)
    }

    /// Whether the repository is a folder of this machine.
    pub fn is_local(&self) -> bool {
        self.location().is_ok_and(|location| location.folder().is_some())
    }

    /// The repository, still locked.
    pub fn sealed(&self) -> Result<SealedRepository> {
        Ok(self.reach()?.sealed()?)
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
        let brought = secrets::unlock(&self.global, &self.stop)?;
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
        let opened = (repository.id().short(), repository.slot().short(), repository.store().location());
        let context = self.reach()?.context(repository)?;
        if self.global.verbose {
            let cache = context.cache_dir.as_ref();
            let cache = cache.map_or("no cache".to_owned(), |folder| format!("cache {}", folder.display()));
            let (id, slot, place) = opened;
            self.look.note(&format!("repository {id} in {place}, opened with key {slot}, {cache}"));
        }
        Ok(context)
    }

    /// A further command for the same repository, as it can be typed.
    pub fn command(&self, words: &str) -> String {
        let given = &self.global;
        self.command_with(given.password_file.as_deref(), given.key_file.as_deref(), words)
    }

    /// The same after the way to open the repository has changed: with these files in place of those that were given.
    pub fn command_with(&self, password_file: Option<&Path>, key_file: Option<&Path>, words: &str) -> String {
        if self.global.of_profile.is_some() {
            return self.config_command(words);
        }
        let mut text = human::shell_word(&program());
        let from_environment = self.is_repository_from_environment();
        let given = [
            ("-r", self.global.repository.as_deref().filter(|_| !from_environment)),
            ("--password-file", password_file),
            ("--key-file", key_file),
            ("--identity-file", self.global.identity_file.as_deref()),
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

    /// A further command that finds its repository in the config, or needs none, as it can be typed.
    pub fn config_command(&self, words: &str) -> String {
        let mut text = human::shell_word(&program());
        let files = self.global.config.iter().filter(|_| env::var_os("KEEPSTONE_CONFIG").is_none());
        files.for_each(|file| text.push_str(&format!(" --config {}", human::shell_word(&file.to_string_lossy()))));
        if let Some(name) = &self.global.of_profile {
            text.push_str(&format!(" --profile {}", human::shell_word(name)));
        }
        format!("{text} {words}")
    }

    /// Ends a report for people: what is safe, what is not, and what to do next.
    pub fn close(&self, safe: &str, not_safe: &str, next: &str) {
        self.close_with(safe, not_safe, &self.command(next));
    }

    /// The same with a next command that is spelled out.
    pub fn close_with(&self, safe: &str, not_safe: &str, next: &str) {
        self.out.line("");
        self.out.line(format!("safe      {safe}"));
        self.out.line(format!("not safe  {not_safe}"));
        self.out.line(format!("next      {next}"));
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
