//! What the destination holds, and what it is called there.

use super::super::{Context, Result};
use crate::base::BlobId;
use crate::format::pack::BlobKind;
use crate::repo::index::{Index, LiveSet, Names};
use crate::repo::{self, Repository};
use std::sync::{Arc, Mutex, PoisonError};

/// What blobs of the source are called in the destination, for several threads.
pub(super) struct Naming {
    repository: Arc<Repository>,
    index: Arc<Index>,
    /// None where both have the same names.
    names: Option<Mutex<Names>>,
}

impl Naming {
    fn new(source: &Context, destination: &Context) -> Result<Naming> {
        let shared = source.repository.keyring().names_like(destination.repository.keyring());
        let names = if shared { None } else { Some(Mutex::new(Names::new()?)) };
        Ok(Naming { repository: destination.repository.clone(), index: destination.index.clone(), names })
    }

    /// Whether the two name blobs alike.
    pub fn is_shared(&self) -> bool {
        self.names.is_none()
    }

    /// What the blob `id` is called in the destination, if that is known.
    pub fn get(&self, id: &BlobId) -> repo::Result<Option<BlobId>> {
        match &self.names {
            None => Ok(Some(*id)),
            Some(names) => names.lock().unwrap_or_else(PoisonError::into_inner).get(id),
        }
    }

    /// Remembers what the blob `id` is called in the destination.
    pub fn put(&self, id: &BlobId, there: &BlobId) -> repo::Result<()> {
        match &self.names {
            None => Ok(()),
            Some(names) => names.lock().unwrap_or_else(PoisonError::into_inner).put(id, there),
        }
    }

    /// Names the blob `id`, whose bytes these are, as the destination does, and remembers that.
    pub fn name(&self, id: &BlobId, bytes: &[u8]) -> repo::Result<BlobId> {
        if self.is_shared() {
            return Ok(*id);
        }
        let there = self.repository.keyring().naming().blob_id(bytes);
        self.put(id, &there)?;
        Ok(there)
    }

    /// The name of the blob `id` in the destination, if it is known to lie there.
    pub fn there(&self, id: &BlobId) -> repo::Result<Option<BlobId>> {
        match self.get(id)? {
            Some(there) if self.index.knows(&there)? => Ok(Some(there)),
            _ => Ok(None),
        }
    }
}

/// What need not be walked or read.
pub(super) struct Held<'c> {
    source: &'c Context,
    /// Trees, lists and chunks that the destination has or is getting now, by their names in the source. Of trees and
    /// lists: with all that they name, since a committed snapshot reaches them or the one on its way will.
    walked: LiveSet<'c>,
    pub naming: Arc<Naming>,
}

impl<'c> Held<'c> {
    /// Nothing is known yet.
    pub fn new(source: &'c Context, destination: &'c Context) -> Result<Held<'c>> {
        let naming = Arc::new(Naming::new(source, destination)?);
        Ok(Held { source, walked: source.index.begin_live()?, naming })
    }

    /// Whether the two name blobs alike.
    pub fn is_shared(&self) -> bool {
        self.naming.is_shared()
    }

    /// Forgets what was walked. Names stay true.
    pub fn forget_walked(&mut self) -> Result<()> {
        self.walked = self.source.index.begin_live()?;
        Ok(())
    }

    /// Marks a blob; true when it was not marked before.
    pub fn mark(&mut self, id: &BlobId) -> Result<bool> {
        Ok(self.walked.mark(id)?)
    }

    /// A tree or list that a committed snapshot of the destination reaches, or a chunk of which only the name is learnt.
    pub fn learn(&mut self, kind: BlobKind, old: &BlobId, new: &BlobId) -> Result<()> {
        self.naming.put(old, new)?;
        if kind != BlobKind::Data {
            self.walked.mark(old)?;
        }
        Ok(())
    }
}
