//! The store as one client of a simulation sees it: each request waits for its turn, and something may become of it.

use keepstone::base::Kind;
use keepstone::store::{Area, Error, Key, Listed, ObjectStore, Operation, Put, Upload};
use std::io::{self, Write};
use std::sync::Arc;

/// What becomes of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// What should.
    Goes,
    /// It does nothing and fails.
    Fails,
    /// It takes effect and its answer is lost.
    Loses,
    /// The client is stopped for ever, before it or after it.
    Crashes { after: bool },
}

/// Decides who goes on.
pub trait Order: Send + Sync {
    /// Waits until the client may make this request; fails for one that has crashed.
    fn enter(&self, client: usize, operation: Operation, subject: &str) -> Result<Fate, Error>;
    /// The request is over.
    fn leave(&self, client: usize, operation: Operation, subject: &str);
}

/// A failure that may pass.
pub fn unavailable(operation: Operation, subject: &str, reason: &str) -> Error {
    Error::new(Kind::Unavailable, operation.verb(), subject, reason)
}

/// Whether it matters in which order such requests are made: what never changes is the same at any time, and nobody
/// decides anything by the records of runs.
pub fn matters(subject: &str) -> bool {
    !["config", "keys", "epochs", "runs"].iter().any(|folder| subject.starts_with(folder))
}

/// The name by which listings of an area are spoken of.
pub fn folder(area: Area) -> &'static str {
    area.name()
}

/// Wraps a store.
#[derive(Clone)]
pub struct Gate {
    pub order: Arc<dyn Order>,
    pub client: usize,
    pub inner: Arc<dyn ObjectStore>,
}

impl Gate {
    fn request<T>(
        &self,
        operation: Operation,
        subject: &str,
        act: impl FnOnce() -> Result<T, Error>,
    ) -> Result<T, Error> {
        let fate = self.order.enter(self.client, operation, subject)?;
        let done = match fate {
            Fate::Goes => act(),
            Fate::Fails => Err(unavailable(operation, subject, "it was told to fail")),
            Fate::Loses => act().and_then(|_| Err(unavailable(operation, subject, "the answer was lost"))),
            Fate::Crashes { after } => {
                if after {
                    let _ = act();
                }
                Err(unavailable(operation, subject, "it crashed"))
            }
        };
        self.order.leave(self.client, operation, subject);
        done
    }
}

impl ObjectStore for Gate {
    keepstone::store::forward!(inner: location, free_bytes);

    fn put(&self, key: &Key, bytes: &[u8]) -> Result<Put, Error> {
        self.request(Operation::Put, &key.path(), || self.inner.put(key, bytes))
    }
    fn begin(&self) -> Result<Box<dyn Upload>, Error> {
        Ok(Box::new(GateUpload { gate: self.clone(), inner: self.inner.begin()? }))
    }
    fn replace(&self, key: &Key, bytes: &[u8]) -> Result<(), Error> {
        self.request(Operation::Replace, &key.path(), || self.inner.replace(key, bytes))
    }
    fn get(&self, key: &Key, limit_bytes: u64) -> Result<Vec<u8>, Error> {
        self.request(Operation::Get, &key.path(), || self.inner.get(key, limit_bytes))
    }
    fn get_range(&self, key: &Key, offset: u64, length: usize) -> Result<Vec<u8>, Error> {
        self.request(Operation::GetRange, &key.path(), || self.inner.get_range(key, offset, length))
    }
    fn size(&self, key: &Key) -> Result<u64, Error> {
        self.request(Operation::Size, &key.path(), || self.inner.size(key))
    }
    fn list(&self, area: Area, each: &mut dyn FnMut(Listed)) -> Result<(), Error> {
        let mut listed = Vec::new();
        self.request(Operation::List, folder(area), || self.inner.list(area, &mut |entry| listed.push(entry)))?;
        listed.into_iter().for_each(each);
        Ok(())
    }
    fn delete(&self, key: &Key) -> Result<(), Error> {
        self.request(Operation::Delete, &key.path(), || self.inner.delete(key))
    }
}

struct GateUpload {
    gate: Gate,
    inner: Box<dyn Upload>,
}

impl Write for GateUpload {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.inner.write(bytes)
    }
    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

impl Upload for GateUpload {
    fn finish(self: Box<Self>, key: &Key) -> Result<Put, Error> {
        let GateUpload { gate, inner } = *self;
        gate.request(Operation::Finish, &key.path(), || inner.finish(key))
    }
}
