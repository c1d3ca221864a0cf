//! A store that fails on demand, for tests.
//!
//! Every request gets a number. A `Fault` can crash at a chosen change, fail or lose answers for a while, run
//! full, and show damage on reads. What really lies in the store underneath stays right throughout;
//! [`Fault::healed`] gives it back.

use super::{Area, Error, Key, Listed, ObjectStore, Operation, Put, Upload, check_limit, check_range};
use crate::base::Kind;
use std::collections::BTreeMap;
use std::io::{self, Write};
use std::sync::{Arc, Mutex, MutexGuard};

/// Wraps a store. Clones share their faults.
#[derive(Clone)]
pub struct Fault {
    inner: Arc<dyn ObjectStore>,
    state: Arc<Mutex<State>>,
}

/// What becomes of the change at which a crash strikes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Crash {
    /// It does not take effect.
    Before,
    /// It takes effect, but its answer is lost.
    After,
}

/// What reads see in the place of an object. A successful change of the object ends it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Damage {
    /// The lowest bit of the byte at this offset (modulo the size) is inverted.
    Flip(u64),
    /// Only so many bytes are left.
    Truncate(u64),
    /// The bytes of another object.
    Swap(Key),
    /// Nothing: it is as if it had never been stored, and can be stored again.
    Drop,
}

#[derive(Default)]
struct State {
    operations: u64,
    changes: u64,
    crash_at: Option<(u64, Crash)>,
    crashed: bool,
    failing: Vec<Failing>,
    losing_answers: u64,
    room_bytes: Option<u64>,
    damage: BTreeMap<Key, Damage>,
}

struct Failing {
    only: Option<Operation>,
    left: u64,
    kind: Kind,
}

/// Whether the caller hears what became of a request.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Answer {
    Given,
    Lost,
}

impl Fault {
    /// No faults yet.
    pub fn new(inner: impl ObjectStore + 'static) -> Fault {
        Fault { inner: Arc::new(inner), state: Arc::default() }
    }

    /// The first `changes` changes succeed; then every request fails.
    pub fn stop_after(changes: u64, inner: impl ObjectStore + 'static) -> Fault {
        let fault = Fault::new(inner);
        fault.crash_at(changes + 1, Crash::Before);
        fault
    }

    /// Crashes at the `change`th change (put, finish, replace, delete) since the beginning, counted from 1: it
    /// and every later request fail with [`Kind::Unavailable`].
    pub fn crash_at(&self, change: u64, crash: Crash) {
        self.state().crash_at = Some((change, crash));
    }

    /// The next `count` requests fail with `kind` and do nothing. Orders add up: a later one waits for those
    /// before it that concern the same requests.
    pub fn fail_next(&self, count: u64, kind: Kind) {
        self.fail(None, count, kind);
    }

    /// The next `count` requests of one sort fail with `kind` and do nothing.
    pub fn fail_next_of(&self, operation: Operation, count: u64, kind: Kind) {
        self.fail(Some(operation), count, kind);
    }

    /// The next `count` changes take effect, but answer [`Kind::Unavailable`].
    pub fn lose_answers(&self, count: u64) {
        self.state().losing_answers = count;
    }

    /// From now on only `bytes` more can be stored; deleting gives nothing back.
    pub fn full_after(&self, bytes: u64) {
        self.state().room_bytes = Some(bytes);
    }

    /// Shows `damage` to whoever reads or lists `key`.
    pub fn damage(&self, key: &Key, damage: Damage) {
        self.state().damage.insert(key.clone(), damage);
    }

    /// How many requests have been made so far, failed ones included.
    pub fn operations(&self) -> u64 {
        self.state().operations
    }

    /// How many of them were changes.
    pub fn changes(&self) -> u64 {
        self.state().changes
    }

    /// Whether the crash has struck.
    pub fn crashed(&self) -> bool {
        self.state().crashed
    }

    /// The store underneath, without faults.
    pub fn healed(&self) -> Arc<dyn ObjectStore> {
        self.inner.clone()
    }

    fn fail(&self, only: Option<Operation>, left: u64, kind: Kind) {
        if left > 0 {
            self.state().failing.push(Failing { only, left, kind });
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("nothing panics while it holds the faults")
    }

    fn check(&self, operation: Operation, subject: &str) -> Result<Answer, Error> {
        self.state().admit(operation).map_err(|(kind, reason)| Error::new(kind, operation.verb(), subject, reason))
    }

    /// Makes a change unless a fault says otherwise.
    fn change<T>(&self, operation: Operation, key: &Key, act: impl FnOnce() -> Result<T, Error>) -> Result<T, Error> {
        let answer = self.check(operation, &key.path())?;
        let outcome = act()?;
        match answer {
            Answer::Given => Ok(outcome),
            Answer::Lost => Err(unavailable(operation.verb(), key, "the answer was lost")),
        }
    }

    /// Stores something of `length` bytes if there is room for it.
    fn store(
        &self,
        operation: Operation,
        key: &Key,
        length: u64,
        store: impl FnOnce() -> Result<Put, Error>,
    ) -> Result<Put, Error> {
        self.change(operation, key, || {
            if self.state().room_bytes.is_some_and(|room| room < length) {
                let reason = "no space left (as told to pretend)";
                return Err(Error::new(Kind::Full, operation.verb(), key, reason));
            }
            if self.damage_of(key) == Some(Damage::Drop) {
                self.inner.delete(key)?;
            }
            let put = store()?;
            if put == Put::Stored {
                self.settle(key, length);
            }
            Ok(put)
        })
    }

    /// Takes note that `key` was stored anew with `length` bytes.
    fn settle(&self, key: &Key, length: u64) {
        let mut state = self.state();
        state.damage.remove(key);
        if let Some(room) = &mut state.room_bytes {
            *room = room.saturating_sub(length);
        }
    }

    fn damage_of(&self, key: &Key) -> Option<Damage> {
        self.state().damage.get(key).cloned()
    }

    /// What reads see of a damaged object.
    fn damaged(&self, key: &Key, damage: Damage) -> Result<Vec<u8>, Error> {
        let whole = |key: &Key| self.inner.get(key, u64::MAX);
        match damage {
            Damage::Flip(offset) => {
                let mut bytes = whole(key)?;
                let length = bytes.len().max(1) as u64;
                if let Some(byte) = bytes.get_mut((offset % length) as usize) {
                    *byte ^= 1;
                }
                Ok(bytes)
            }
            Damage::Truncate(length) => {
                let mut bytes = whole(key)?;
                bytes.truncate(usize::try_from(length).unwrap_or(usize::MAX));
                Ok(bytes)
            }
            Damage::Swap(other) => whole(&other),
            Damage::Drop => Err(Error::new(Kind::NotFound, "read", key, "it is not there")),
        }
    }

    /// A listing's line as a damaged object would show it.
    fn listed(&self, area: Area, listed: Listed) -> Option<Listed> {
        let key = Key::new(area, &listed.name);
        match self.damage_of(&key) {
            None => Some(listed),
            Some(damage) => {
                self.damaged(&key, damage).ok().map(|bytes| Listed { size_bytes: bytes.len() as u64, ..listed })
            }
        }
    }
}

impl State {
    /// Counts a request and decides what becomes of it.
    fn admit(&mut self, operation: Operation) -> Result<Answer, (Kind, &'static str)> {
        self.operations += 1;
        self.changes += u64::from(operation.changes());
        if self.crashed {
            return Err((Kind::Unavailable, "it has crashed"));
        }
        if let Some(crash) = self.crash_strikes(operation) {
            self.crashed = true;
            return match crash {
                Crash::Before => Err((Kind::Unavailable, "it crashed before this")),
                Crash::After => Ok(Answer::Lost),
            };
        }
        if let Some(kind) = self.failure_of(operation) {
            return Err((kind, "it was told to fail"));
        }
        if operation.changes() && self.losing_answers > 0 {
            self.losing_answers -= 1;
            return Ok(Answer::Lost);
        }
        Ok(Answer::Given)
    }

    fn crash_strikes(&self, operation: Operation) -> Option<Crash> {
        let (change, crash) = self.crash_at?;
        (operation.changes() && self.changes >= change).then_some(crash)
    }

    fn failure_of(&mut self, operation: Operation) -> Option<Kind> {
        let failing = self.failing.iter_mut().find(|failing| failing.only.is_none_or(|only| only == operation))?;
        failing.left -= 1;
        let kind = failing.kind;
        self.failing.retain(|failing| failing.left > 0);
        Some(kind)
    }
}

impl ObjectStore for Fault {
    fn put(&self, key: &Key, bytes: &[u8]) -> Result<Put, Error> {
        let length = bytes.len() as u64;
        self.store(Operation::Put, key, length, || self.inner.put(key, bytes))
    }

    fn begin(&self) -> Result<Box<dyn Upload>, Error> {
        if self.crashed() {
            return Err(unavailable("write", self.location(), "it has crashed"));
        }
        Ok(Box::new(FaultUpload { fault: self.clone(), inner: self.inner.begin()?, written_bytes: 0, full: false }))
    }

    fn replace(&self, key: &Key, bytes: &[u8]) -> Result<(), Error> {
        self.store(Operation::Replace, key, bytes.len() as u64, || {
            self.inner.replace(key, bytes)?;
            Ok(Put::Stored)
        })?;
        Ok(())
    }

    fn get(&self, key: &Key, limit_bytes: u64) -> Result<Vec<u8>, Error> {
        self.check(Operation::Get, &key.path())?;
        match self.damage_of(key) {
            None => self.inner.get(key, limit_bytes),
            Some(damage) => {
                let bytes = self.damaged(key, damage)?;
                check_limit(&key.path(), bytes.len() as u64, limit_bytes)?;
                Ok(bytes)
            }
        }
    }

    fn get_range(&self, key: &Key, offset: u64, length: usize) -> Result<Vec<u8>, Error> {
        self.check(Operation::GetRange, &key.path())?;
        match self.damage_of(key) {
            None => self.inner.get_range(key, offset, length),
            Some(damage) => {
                let bytes = self.damaged(key, damage)?;
                check_range(&key.path(), bytes.len() as u64, offset, length)?;
                let start = offset as usize;
                Ok(bytes[start..start + length].to_vec())
            }
        }
    }

    fn size(&self, key: &Key) -> Result<u64, Error> {
        self.check(Operation::Size, &key.path())?;
        match self.damage_of(key) {
            None => self.inner.size(key),
            Some(damage) => Ok(self.damaged(key, damage)?.len() as u64),
        }
    }

    fn list(&self, area: Area, each: &mut dyn FnMut(Listed)) -> Result<(), Error> {
        self.check(Operation::List, area.folder())?;
        self.inner.list(area, &mut |listed| {
            if let Some(listed) = self.listed(area, listed) {
                each(listed);
            }
        })
    }

    fn delete(&self, key: &Key) -> Result<(), Error> {
        self.change(Operation::Delete, key, || {
            self.inner.delete(key)?;
            self.state().damage.remove(key);
            Ok(())
        })
    }

    fn flush(&self, area: Area) -> Result<(), Error> {
        self.check(Operation::Flush, area.folder())?;
        self.inner.flush(area)
    }

    fn location(&self) -> String {
        self.inner.location()
    }

    fn free_bytes(&self) -> Option<u64> {
        self.state().room_bytes.or_else(|| self.inner.free_bytes())
    }

    fn puts_are_atomic(&self) -> bool {
        self.inner.puts_are_atomic()
    }

    fn is_remote(&self) -> bool {
        self.inner.is_remote()
    }

    fn puts_at_once(&self) -> usize {
        self.inner.puts_at_once()
    }
}

struct FaultUpload {
    fault: Fault,
    inner: Box<dyn Upload>,
    written_bytes: u64,
    full: bool,
}

impl Write for FaultUpload {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.fault.crashed() {
            return Err(io::Error::other("it has crashed"));
        }
        let room_bytes = self.fault.state().room_bytes;
        if room_bytes.is_some_and(|room| room < self.written_bytes + bytes.len() as u64) {
            self.full = true;
            return Err(io::Error::new(io::ErrorKind::StorageFull, "no space left"));
        }
        let written = self.inner.write(bytes)?;
        self.written_bytes += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

impl Upload for FaultUpload {
    fn finish(self: Box<Self>, key: &Key) -> Result<Put, Error> {
        let FaultUpload { fault, inner, written_bytes, full } = *self;
        if full {
            return Err(Error::new(Kind::Full, "write", key, "a write to it failed before"));
        }
        fault.store(Operation::Finish, key, written_bytes, || inner.finish(key))
    }

    fn replace(self: Box<Self>, key: &Key) -> Result<(), Error> {
        let FaultUpload { fault, inner, written_bytes, full } = *self;
        if full {
            return Err(Error::new(Kind::Full, "write", key, "a write to it failed before"));
        }
        fault.store(Operation::Finish, key, written_bytes, || inner.replace(key).map(|()| Put::Stored)).map(drop)
    }

    fn read_back(&mut self, offset: u64, bytes: &mut [u8]) -> io::Result<()> {
        self.inner.read_back(offset, bytes)
    }
}

fn unavailable(operation: &'static str, subject: impl ToString, reason: &str) -> Error {
    Error::new(Kind::Unavailable, operation, subject, reason)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::super::Memory;
    use super::*;

    fn key(name: &str) -> Key {
        Key::new(Area::Packs, name)
    }

    fn names(store: &dyn ObjectStore) -> Vec<String> {
        let mut names = Vec::new();
        store.list(Area::Packs, &mut |listed| names.push(listed.name)).unwrap();
        names
    }

    fn upload(store: &dyn ObjectStore, key: &Key, bytes: &[u8]) -> Result<Put, Error> {
        let mut upload = store.begin()?;
        upload.write_all(bytes).map_err(|error| Error::new(Kind::of_io(&error), "write", key, &error))?;
        upload.finish(key)
    }

    #[test]
    fn a_crash_lets_so_many_changes_through_and_then_answers_nothing() {
        let store = Fault::stop_after(2, Memory::new());
        store.put(&key("aa"), b"1").unwrap();
        upload(&store, &key("ab"), b"2").unwrap();
        store.get(&key("aa"), 9).unwrap();
        assert_eq!(store.put(&key("ac"), b"3").unwrap_err().kind(), Kind::Unavailable);
        assert_eq!(store.get(&key("aa"), 9).unwrap_err().kind(), Kind::Unavailable);
        assert_eq!(upload(&store, &key("ad"), b"").unwrap_err().kind(), Kind::Unavailable);
        assert_eq!(names(&*store.healed()), ["aa", "ab"]);
    }

    #[test]
    fn a_crash_can_take_effect_and_lose_its_answer() {
        let store = Fault::new(Memory::new());
        store.crash_at(1, Crash::After);
        assert_eq!(upload(&store, &key("aa"), b"1").unwrap_err().kind(), Kind::Unavailable);
        assert!(store.crashed());
        assert_eq!(names(&*store.healed()), ["aa"]);
    }

    #[test]
    fn an_upload_under_way_does_not_survive_a_crash() {
        let store = Fault::stop_after(0, Memory::new());
        let mut upload = store.begin().unwrap();
        upload.write_all(b"half").unwrap();
        store.delete(&key("aa")).unwrap_err();
        assert!(upload.write_all(b"more").is_err());
        assert_eq!(upload.finish(&key("ab")).unwrap_err().kind(), Kind::Unavailable);
        assert!(names(&*store.healed()).is_empty());
    }

    #[test]
    fn a_failure_lasts_as_long_as_told_and_changes_nothing() {
        let store = Fault::new(Memory::new());
        for kind in [Kind::Unavailable, Kind::Denied, Kind::Full, Kind::Damaged] {
            store.fail_next(2, kind);
            assert_eq!(store.put(&key("aa"), b"1").unwrap_err().kind(), kind);
            assert_eq!(store.list(Area::Packs, &mut |_| ()).unwrap_err().kind(), kind);
            assert!(names(&store).is_empty());
        }
        assert_eq!(store.operations(), 12);
        assert_eq!(store.changes(), 4);
    }

    #[test]
    fn a_failure_can_concern_one_sort_of_request() {
        let store = Fault::new(Memory::new());
        store.fail_next_of(Operation::Delete, 1, Kind::Denied);
        store.put(&key("aa"), b"1").unwrap();
        assert_eq!(store.delete(&key("aa")).unwrap_err().kind(), Kind::Denied);
        store.delete(&key("aa")).unwrap();
    }

    #[test]
    fn a_lost_answer_is_a_change_that_took_effect() {
        let store = Fault::new(Memory::new());
        store.lose_answers(1);
        assert_eq!(store.put(&key("aa"), b"1").unwrap_err().kind(), Kind::Unavailable);
        assert_eq!(store.put(&key("aa"), b"1").unwrap(), Put::Existed);
    }

    #[test]
    fn a_full_disk_takes_what_fits_and_nothing_in_part() {
        let store = Fault::new(Memory::new());
        store.full_after(5);
        store.put(&key("aa"), b"123").unwrap();
        assert_eq!(store.free_bytes(), Some(2));
        assert_eq!(store.put(&key("ab"), b"123").unwrap_err().kind(), Kind::Full);
        assert_eq!(upload(&store, &key("ac"), b"123").unwrap_err().kind(), Kind::Full);
        assert_eq!(store.replace(&key("aa"), b"123").unwrap_err().kind(), Kind::Full);
        store.put(&key("ad"), b"12").unwrap();
        assert_eq!(names(&store), ["aa", "ad"]);
    }

    #[test]
    fn an_upload_that_ran_full_cannot_be_finished() {
        let store = Fault::new(Memory::new());
        store.full_after(2);
        let mut upload = store.begin().unwrap();
        upload.write_all(b"123").unwrap_err();
        assert_eq!(upload.finish(&key("aa")).unwrap_err().kind(), Kind::Full);
    }

    #[test]
    fn damage_shows_alike_in_every_kind_of_read() {
        let store = Fault::new(Memory::new());
        for (name, bytes) in [("aa", b"abcd"), ("ab", b"efgh"), ("ac", b"ijkl"), ("ad", b"mnop")] {
            store.put(&key(name), bytes).unwrap();
        }
        store.damage(&key("aa"), Damage::Flip(6));
        store.damage(&key("ab"), Damage::Truncate(1));
        store.damage(&key("ac"), Damage::Swap(key("ad")));
        store.damage(&key("ad"), Damage::Drop);

        assert_eq!(store.get(&key("aa"), 9).unwrap(), b"abbd");
        assert_eq!(store.get_range(&key("aa"), 2, 1).unwrap(), b"b");
        assert_eq!(store.size(&key("ab")).unwrap(), 1);
        assert_eq!(store.get_range(&key("ab"), 0, 2).unwrap_err().kind(), Kind::Damaged);
        assert_eq!(store.get(&key("ac"), 9).unwrap(), b"mnop");
        assert_eq!(store.size(&key("ad")).unwrap_err().kind(), Kind::NotFound);
        assert_eq!(names(&store), ["aa", "ab", "ac"]);
        assert_eq!(store.healed().get(&key("aa"), 9).unwrap(), b"abcd");
    }

    #[test]
    fn what_was_dropped_can_be_stored_again() {
        let store = Fault::new(Memory::new());
        store.put(&key("aa"), b"old").unwrap();
        store.damage(&key("aa"), Damage::Drop);
        assert_eq!(store.put(&key("aa"), b"new").unwrap(), Put::Stored);
        assert_eq!(store.get(&key("aa"), 9).unwrap(), b"new");
    }
}
