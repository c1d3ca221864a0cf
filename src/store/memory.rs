//! A store in memory, for tests.

use super::{Area, Error, Key, Listed, ObjectStore, Operation, Put, Upload, check_limit, check_range};
use crate::base::{Clock, Kind, Timestamp};
use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::io::{self, Write};
use std::sync::{Arc, Mutex, MutexGuard};

/// Objects in a map. Clones share it; gone when the last one is.
#[derive(Clone)]
pub struct Memory {
    objects: Arc<Mutex<BTreeMap<Key, Object>>>,
    clock: Clock,
}

#[derive(Clone)]
struct Object {
    bytes: Arc<[u8]>,
    stored_at: Timestamp,
}

impl Memory {
    /// An empty store whose clock is the machine's.
    #[allow(clippy::new_without_default)]
    pub fn new() -> Memory {
        Memory::with_clock(Clock::System)
    }

    /// An empty store that takes `stored_at` from `clock`.
    pub fn with_clock(clock: Clock) -> Memory {
        Memory { objects: Arc::default(), clock }
    }

    fn objects(&self) -> MutexGuard<'_, BTreeMap<Key, Object>> {
        self.objects.lock().expect("nothing panics while it holds the map")
    }

    fn object(&self, operation: Operation, key: &Key) -> Result<Object, Error> {
        let found = self.objects().get(key).cloned();
        found.ok_or_else(|| Error::new(Kind::NotFound, operation.verb(), key, "it is not there"))
    }

    fn fresh(&self, bytes: impl Into<Arc<[u8]>>) -> Object {
        Object { bytes: bytes.into(), stored_at: self.clock.now() }
    }

    fn insert(&self, key: &Key, bytes: impl Into<Arc<[u8]>>) -> Put {
        match self.objects().entry(key.clone()) {
            Entry::Occupied(_) => Put::Existed,
            Entry::Vacant(place) => {
                place.insert(self.fresh(bytes));
                Put::Stored
            }
        }
    }
}

impl ObjectStore for Memory {
    fn put(&self, key: &Key, bytes: &[u8]) -> Result<Put, Error> {
        Ok(self.insert(key, bytes))
    }

    fn begin(&self) -> Result<Box<dyn Upload>, Error> {
        Ok(Box::new(MemoryUpload { store: self.clone(), bytes: Vec::new() }))
    }

    fn replace(&self, key: &Key, bytes: &[u8]) -> Result<(), Error> {
        let object = self.fresh(bytes);
        self.objects().insert(key.clone(), object);
        Ok(())
    }

    fn get(&self, key: &Key, limit_bytes: u64) -> Result<Vec<u8>, Error> {
        let object = self.object(Operation::Get, key)?;
        check_limit(key.name(), object.bytes.len() as u64, limit_bytes)?;
        Ok(object.bytes.to_vec())
    }

    fn get_range(&self, key: &Key, offset: u64, length: usize) -> Result<Vec<u8>, Error> {
        let object = self.object(Operation::GetRange, key)?;
        check_range(key.name(), object.bytes.len() as u64, offset, length)?;
        let start = offset as usize;
        Ok(object.bytes[start..start + length].to_vec())
    }

    fn size(&self, key: &Key) -> Result<u64, Error> {
        Ok(self.object(Operation::Size, key)?.bytes.len() as u64)
    }

    fn list(&self, area: Area, each: &mut dyn FnMut(Listed)) -> Result<(), Error> {
        // Collected first: `each` may want to ask this very store something.
        let found: Vec<Listed> = self
            .objects()
            .iter()
            .filter(|(key, _)| key.area() == area)
            .map(|(key, object)| Listed {
                name: key.name().to_owned(),
                size_bytes: object.bytes.len() as u64,
                stored_at: object.stored_at,
                class: None,
            })
            .collect();
        found.into_iter().for_each(each);
        Ok(())
    }

    fn delete(&self, key: &Key) -> Result<(), Error> {
        self.objects().remove(key);
        Ok(())
    }

    fn location(&self) -> String {
        "memory".to_owned()
    }

    fn free_bytes(&self) -> Option<u64> {
        None
    }
}

struct MemoryUpload {
    store: Memory,
    bytes: Vec<u8>,
}

impl Write for MemoryUpload {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.bytes.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Upload for MemoryUpload {
    fn finish(self: Box<Self>, key: &Key) -> Result<Put, Error> {
        Ok(self.store.insert(key, self.bytes))
    }

    fn replace(self: Box<Self>, key: &Key) -> Result<(), Error> {
        self.store.replace(key, &self.bytes)
    }

    fn read_back(&mut self, offset: u64, bytes: &mut [u8]) -> io::Result<()> {
        let there = usize::try_from(offset).ok().and_then(|offset| self.bytes.get(offset..)?.get(..bytes.len()));
        bytes.copy_from_slice(there.ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::time::Duration;

    #[test]
    fn objects_carry_the_time_of_the_clock_they_were_stored_under() {
        let start: Timestamp = "2025-03-10T02:00:00Z".parse().unwrap();
        let clock = Clock::manual(start);
        let store = Memory::with_clock(clock.clone());
        store.put(&Key::new(Area::Keys, "a"), b"first").unwrap();
        clock.advance(Duration::from_secs(60));
        store.put(&Key::new(Area::Keys, "b"), b"second").unwrap();

        let mut times = Vec::new();
        store.list(Area::Keys, &mut |listed| times.push(listed.stored_at)).unwrap();
        assert_eq!(times, [start, start + Duration::from_secs(60)]);
    }

    #[test]
    fn a_listing_may_ask_the_store_meanwhile() {
        let store = Memory::new();
        let key = Key::new(Area::Keys, "a");
        store.put(&key, b"x").unwrap();
        store.list(Area::Keys, &mut |_| store.delete(&key).unwrap()).unwrap();
        assert_eq!(store.size(&key).unwrap_err().kind(), Kind::NotFound);
    }
}
