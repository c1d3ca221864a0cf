//! A store that counts and, if asked, remembers what was done to it.

use super::{Area, Error, Extended, Key, Listed, Locked, ObjectStore, Operation, Put, Upload};
use crate::base::Kind;
use std::collections::BTreeMap;
use std::io::{self, Write};
use std::sync::{Arc, Mutex, MutexGuard};

/// Wraps a store. Clones share their counts.
#[derive(Clone)]
pub struct Record {
    inner: Arc<dyn ObjectStore>,
    book: Arc<Mutex<Book>>,
}

/// How often something was done, and with how many bytes of objects (not of names or headers).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Count {
    /// Requests made.
    pub requests: u64,
    /// Those that failed.
    pub failed: u64,
    /// Bytes sent to the store, whether or not it kept them.
    pub bytes_up: u64,
    /// Bytes received from it.
    pub bytes_down: u64,
}

/// One request, in the order in which they ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// What was done.
    pub operation: Operation,
    /// The object, or the folder that was listed.
    pub path: String,
    /// Bytes sent or received.
    pub bytes: u64,
    /// The kind of the failure, if it failed.
    pub failure: Option<Kind>,
}

#[derive(Default)]
struct Book {
    counts: BTreeMap<Operation, Count>,
    log: Option<Vec<Entry>>,
}

impl Record {
    /// Counts only: any number of requests costs no memory.
    pub fn counting(inner: impl ObjectStore + 'static) -> Record {
        Record { inner: Arc::new(inner), book: Arc::default() }
    }

    /// Counts and remembers every request.
    pub fn logging(inner: impl ObjectStore + 'static) -> Record {
        let record = Record::counting(inner);
        record.book().log = Some(Vec::new());
        record
    }

    /// The counts of one kind of request.
    pub fn count(&self, operation: Operation) -> Count {
        self.book().counts.get(&operation).copied().unwrap_or_default()
    }

    /// The counts of all requests together.
    pub fn total(&self) -> Count {
        let book = self.book();
        book.counts.values().fold(Count::default(), |sum, count| Count {
            requests: sum.requests + count.requests,
            failed: sum.failed + count.failed,
            bytes_up: sum.bytes_up + count.bytes_up,
            bytes_down: sum.bytes_down + count.bytes_down,
        })
    }

    /// What was done so far, oldest first; empty if it only counts.
    pub fn log(&self) -> Vec<Entry> {
        self.book().log.clone().unwrap_or_default()
    }

    /// Forgets all counts and entries.
    pub fn clear(&self) {
        let mut book = self.book();
        book.counts.clear();
        if let Some(log) = &mut book.log {
            log.clear();
        }
    }

    fn book(&self) -> MutexGuard<'_, Book> {
        self.book.lock().expect("nothing panics while it holds the book")
    }

    /// Enters a request that has ended: `bytes` of it in the direction that its operation has.
    fn enter<T>(&self, operation: Operation, path: String, bytes: u64, outcome: &Result<T, Error>) {
        let mut book = self.book();
        let count = book.counts.entry(operation).or_default();
        count.requests += 1;
        count.failed += u64::from(outcome.is_err());
        if operation.changes() {
            count.bytes_up += bytes;
        } else {
            count.bytes_down += bytes;
        }
        if let Some(log) = &mut book.log {
            log.push(Entry { operation, path, bytes, failure: outcome.as_ref().err().map(Error::kind) });
        }
    }

    fn read(&self, operation: Operation, key: &Key, read: Result<Vec<u8>, Error>) -> Result<Vec<u8>, Error> {
        let bytes = read.as_ref().map_or(0, |bytes| bytes.len() as u64);
        self.enter(operation, key.path(), bytes, &read);
        read
    }
}

impl ObjectStore for Record {
    super::forward!(inner: traffic, location, free_bytes, keep_reserve, give_up_reserve, sweep_uploads, puts_are_atomic, is_remote, puts_at_once, introduce, peculiarities);

    fn put(&self, key: &Key, bytes: &[u8]) -> Result<Put, Error> {
        let put = self.inner.put(key, bytes);
        self.enter(Operation::Put, key.path(), bytes.len() as u64, &put);
        put
    }

    fn begin(&self) -> Result<Box<dyn Upload>, Error> {
        Ok(Box::new(RecordUpload { record: self.clone(), inner: self.inner.begin()?, written_bytes: 0 }))
    }

    fn replace(&self, key: &Key, bytes: &[u8]) -> Result<(), Error> {
        let replaced = self.inner.replace(key, bytes);
        self.enter(Operation::Replace, key.path(), bytes.len() as u64, &replaced);
        replaced
    }

    fn get(&self, key: &Key, limit_bytes: u64) -> Result<Vec<u8>, Error> {
        self.read(Operation::Get, key, self.inner.get(key, limit_bytes))
    }

    fn get_range(&self, key: &Key, offset: u64, length: usize) -> Result<Vec<u8>, Error> {
        self.read(Operation::GetRange, key, self.inner.get_range(key, offset, length))
    }

    fn stream(&self, key: &Key, offset: u64, length: u64, each: &mut dyn FnMut(&[u8]) -> bool) -> Result<(), Error> {
        let mut bytes = 0;
        let streamed = self.inner.stream(key, offset, length, &mut |piece| {
            bytes += piece.len() as u64;
            each(piece)
        });
        self.enter(Operation::GetRange, key.path(), bytes, &streamed);
        streamed
    }

    fn size(&self, key: &Key) -> Result<u64, Error> {
        let size = self.inner.size(key);
        self.enter(Operation::Size, key.path(), 0, &size);
        size
    }

    fn list(&self, area: Area, each: &mut dyn FnMut(Listed)) -> Result<(), Error> {
        let listed = self.inner.list(area, each);
        self.enter(Operation::List, area.folder().to_owned(), 0, &listed);
        listed
    }

    fn list_part(&self, area: Area, from: Option<&str>, each: &mut dyn FnMut(Listed)) -> Result<Option<String>, Error> {
        let listed = self.inner.list_part(area, from, each);
        self.enter(Operation::List, area.folder().to_owned(), 0, &listed);
        listed
    }

    fn list_together(&self, areas: &[Area], each: &mut dyn FnMut(Area, Listed)) -> Result<(), Error> {
        let listed = self.inner.list_together(areas, each);
        let folders: Vec<&str> = areas.iter().map(|area| area.folder()).collect();
        self.enter(Operation::List, folders.join(" "), 0, &listed);
        listed
    }

    fn delete(&self, key: &Key) -> Result<(), Error> {
        let deleted = self.inner.delete(key);
        self.enter(Operation::Delete, key.path(), 0, &deleted);
        deleted
    }

    fn delete_each(&self, keys: &[Key]) -> Vec<Result<(), Error>> {
        let deleted = self.inner.delete_each(keys);
        keys.iter().zip(&deleted).for_each(|(key, deleted)| self.enter(Operation::Delete, key.path(), 0, deleted));
        deleted
    }

    fn lock_on(&self, key: &Key) -> Result<Option<Locked>, Error> {
        let locked = self.inner.lock_on(key);
        self.enter(Operation::Size, key.path(), 0, &locked);
        locked
    }

    fn extend_lock(&self, key: &Key) -> Result<Extended, Error> {
        let extended = self.inner.extend_lock(key);
        self.enter(Operation::Size, key.path(), 0, &extended);
        extended
    }

    fn flush(&self, area: Area) -> Result<(), Error> {
        let flushed = self.inner.flush(area);
        self.enter(Operation::Flush, area.folder().to_owned(), 0, &flushed);
        flushed
    }
}

/// Its bytes are counted when it is finished.
struct RecordUpload {
    record: Record,
    inner: Box<dyn Upload>,
    written_bytes: u64,
}

impl Write for RecordUpload {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.inner.write(bytes)?;
        self.written_bytes += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

impl Upload for RecordUpload {
    fn finish(self: Box<Self>, key: &Key) -> Result<Put, Error> {
        let put = self.inner.finish(key);
        self.record.enter(Operation::Finish, key.path(), self.written_bytes, &put);
        put
    }

    fn replace(self: Box<Self>, key: &Key) -> Result<(), Error> {
        let replaced = self.inner.replace(key);
        self.record.enter(Operation::Replace, key.path(), self.written_bytes, &replaced);
        replaced
    }

    fn read_back(&mut self, offset: u64, bytes: &mut [u8]) -> io::Result<()> {
        self.inner.read_back(offset, bytes)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::super::Memory;
    use super::*;

    #[test]
    fn requests_and_bytes_are_counted_by_kind_and_logged_in_order() {
        let store = Record::logging(Memory::new());
        let (segment, pack) = (Key::new(Area::Index, "aa"), Key::new(Area::Packs, "bb"));
        store.put(&segment, b"12345").unwrap();
        let mut upload = store.begin().unwrap();
        upload.write_all(b"123").unwrap();
        upload.finish(&pack).unwrap();
        store.get(&segment, 9).unwrap();
        store.get_range(&pack, 1, 2).unwrap();
        store.delete(&segment).unwrap();
        store.get(&segment, 9).unwrap_err();

        let get = store.count(Operation::Get);
        assert_eq!((get.requests, get.failed, get.bytes_down), (2, 1, 5));
        let total = store.total();
        assert_eq!((total.requests, total.bytes_up, total.bytes_down), (6, 8, 7));
        let log = store.log();
        let order: Vec<_> = log.iter().map(|entry| (entry.operation, &*entry.path)).collect();
        assert_eq!(
            order,
            [
                (Operation::Put, "index/aa"),
                (Operation::Finish, "packs/bb/bb"),
                (Operation::Get, "index/aa"),
                (Operation::GetRange, "packs/bb/bb"),
                (Operation::Delete, "index/aa"),
                (Operation::Get, "index/aa"),
            ]
        );
        assert_eq!(log[5].failure, Some(Kind::NotFound));
    }

    #[test]
    fn counting_keeps_no_log_and_clearing_starts_anew() {
        let store = Record::counting(Memory::new());
        store.put(&Key::new(Area::Index, "aa"), b"1").unwrap();
        assert!(store.log().is_empty());
        store.clear();
        assert_eq!(store.total(), Count::default());
    }
}
