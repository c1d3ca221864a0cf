//! Which entries of a snapshot are meant.

use super::Options;
use crate::source::files::{Filter, Trail};

/// Includes and excludes as they were asked for.
pub(super) struct Sieve<'o> {
    includes: &'o Filter,
    excludes: &'o Filter,
}

/// How far the patterns have come on the way to a directory.
pub(super) struct Trails {
    include: Trail,
    exclude: Trail,
}

/// What is to be done with an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Choice {
    /// It is not meant, and neither is anything beneath.
    Skip,
    /// It is not meant, but something beneath may be.
    Below,
    /// It is meant.
    Take,
}

impl<'o> Sieve<'o> {
    pub fn new(options: &'o Options) -> Sieve<'o> {
        Sieve { includes: &options.includes, excludes: &options.excludes }
    }

    /// The trails of the directory at `path` of the snapshot.
    pub fn begin(&self, path: &[u8]) -> Trails {
        Trails { include: self.includes.enter_path(path), exclude: self.excludes.enter_path(path) }
    }

    /// The trails of the directory `name` in a directory with `trails`.
    pub fn enter(&self, trails: &Trails, name: &[u8]) -> Trails {
        Trails {
            include: self.includes.enter(&trails.include, name),
            exclude: self.excludes.enter(&trails.exclude, name),
        }
    }

    pub fn choose(&self, trails: &Trails, name: &[u8]) -> Choice {
        if !self.excludes.is_empty() && self.excludes.judge(&trails.exclude, name).matched {
            return Choice::Skip;
        }
        if self.includes.is_empty() {
            return Choice::Take;
        }
        let verdict = self.includes.judge(&trails.include, name);
        match (verdict.matched, verdict.below) {
            (true, _) => Choice::Take,
            (false, true) => Choice::Below,
            (false, false) => Choice::Skip,
        }
    }
}
