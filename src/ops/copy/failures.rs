//! What of the source cannot be read, and which files that hurts.

use super::super::verify::{self, Found};
use super::super::{Context, Result};
use super::Outcome;
use crate::base::BlobId;
use crate::format::snapshot::Snapshot;
use crate::repo::Error;
use std::sync::atomic::{AtomicU64, Ordering};

/// Damages, each told once, and how often one of them stood in the way.
pub(super) struct Failures {
    found: Found,
    count: AtomicU64,
}

impl Failures {
    pub fn new(source: &Context) -> Failures {
        Failures { found: Found::new(source), count: AtomicU64::new(0) }
    }

    /// An object is damaged. That alone stands in the way of nothing.
    pub fn object(&self, object: &str, message: &str) {
        self.found.object(object, message);
    }

    /// A blob cannot be read at all: the snapshot cannot be copied.
    pub fn blob(&self, id: &BlobId, error: &Error) {
        self.count.fetch_add(1, Ordering::Relaxed);
        self.found.blob(id, error);
    }

    /// How many blobs could not be read, those that several snapshots need counted for each.
    pub fn count(&self) -> u64 {
        self.count.load(Ordering::Relaxed)
    }

    /// Looks for the files of `snapshot` that cannot be read.
    pub fn find_files(&self, source: &Context, snapshot: &Snapshot) -> Result<()> {
        verify::find_hurt(source, std::slice::from_ref(snapshot), &self.found)
    }

    /// Moves everything into the outcome.
    pub fn hand_over(&self, outcome: &mut Outcome) {
        let mut found = verify::Outcome::default();
        self.found.hand_over(&mut found);
        outcome.damages = found.damages;
        outcome.damage_count = found.damage_count;
    }
}
