//! Answers of a store that are asked for before they are needed, several at once.
//!
//! A remote store answers after a round trip, however little is asked. Code that reads one object after the other
//! reads them through an [`Ahead`]: whoever knows what will be read asks for all of it side by side, and the reading
//! finds the answers there, errors included. On a store that answers at once nothing is asked ahead.

use super::Repository;
use super::error::{Error, Result};
use super::pack_cache::PackCache;
use crate::base::side_by_side;
use crate::store::{self, Area, Key, Listed, ObjectStore, Put, Upload};
use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Reads under way at once, for each object that the store takes at once: reads are smaller.
const READS_PER_PUT: usize = 4;
/// Objects that are asked for together by [`each_ahead`].
const GROUP: usize = 64;
/// Once so many bytes came, nothing more is asked ahead: it is asked when it is needed.
const MOST_BYTES: usize = 16 << 20;

/// How many reads are best under way at once: more than one where each waits for a network.
pub fn reads_at_once(store: &dyn ObjectStore) -> usize {
    match store.puts_at_once() {
        0 | 1 => 1,
        puts => puts * READS_PER_PUT,
    }
}

/// Whether a store is reached through a network.
pub fn is_remote(store: &dyn ObjectStore) -> bool {
    reads_at_once(store) > 1
}

/// A store, and what was asked of it ahead. Each answer is given once; what was not asked ahead is asked now.
pub struct Ahead<'s> {
    store: &'s dyn ObjectStore,
    answers: Mutex<Answers>,
}

/// Answers that nobody has taken yet.
#[derive(Default)]
pub struct Answers {
    objects: HashMap<Key, Result<Vec<u8>, store::Error>>,
    listings: HashMap<Area, Result<Vec<Listed>, store::Error>>,
}

/// Something to ask.
enum Question<'q> {
    Object(&'q Key, u64),
    Listing(Area),
}

enum Answer {
    Object(Key, Result<Vec<u8>, store::Error>),
    Listing(Area, Result<Vec<Listed>, store::Error>),
}

impl<'s> Ahead<'s> {
    /// Nothing is asked yet.
    pub fn new(store: &'s dyn ObjectStore) -> Ahead<'s> {
        Ahead::with(store, Answers::default())
    }

    /// With answers of the same store that are left from before.
    pub fn with(store: &'s dyn ObjectStore, answers: Answers) -> Ahead<'s> {
        Ahead { store, answers: Mutex::new(answers) }
    }

    /// What is left.
    pub fn into_answers(self) -> Answers {
        self.answers.into_inner().unwrap_or_else(PoisonError::into_inner)
    }

    /// Asks for objects, each with the most bytes that it may have, and for listings.
    pub fn ask(&self, objects: &[(Key, u64)], listings: &[Area]) {
        let lanes = reads_at_once(self.store);
        if lanes <= 1 {
            return;
        }
        let objects = objects.iter().map(|(key, limit)| Question::Object(key, *limit));
        let questions: Vec<Question<'_>> = objects.chain(listings.iter().copied().map(Question::Listing)).collect();
        let held = AtomicUsize::new(0);
        let came = side_by_side(lanes, &questions, |question| match question {
            Question::Object(..) if held.load(Ordering::Relaxed) > MOST_BYTES => None,
            Question::Object(key, limit) => {
                let object = self.store.get(key, *limit);
                held.fetch_add(object.as_ref().map_or(0, Vec::len), Ordering::Relaxed);
                Some(Answer::Object((*key).clone(), object))
            }
            Question::Listing(area) => Some(Answer::Listing(*area, list(self.store, *area))),
        });
        let mut answers = self.answers();
        for answer in came.into_iter().flatten() {
            match answer {
                Answer::Object(key, object) => drop(answers.objects.insert(key, object)),
                Answer::Listing(area, listing) => drop(answers.listings.insert(area, listing)),
            }
        }
    }

    /// Asks for the first `most` objects that the listings show which were asked for before; each listing with the most
    /// bytes of its objects.
    pub fn ask_for_all(&self, listings: &[(Area, u64)], most: usize) {
        let mut objects = Vec::new();
        {
            let answers = self.answers();
            for (area, limit) in listings {
                if let Some(Ok(listing)) = answers.listings.get(area) {
                    objects.extend(listing.iter().map(|listed| (Key::new(*area, &listed.name), *limit)));
                }
            }
        }
        objects.truncate(most);
        self.ask(&objects, &[]);
    }

    fn answers(&self) -> MutexGuard<'_, Answers> {
        self.answers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn list(store: &dyn ObjectStore, area: Area) -> Result<Vec<Listed>, store::Error> {
    let mut listing = Vec::new();
    store.list(area, &mut |listed| listing.push(listed))?;
    Ok(listing)
}

/// Calls `each` for all `keys`, in their order, with a store where the objects, of at most `limit_bytes`, are asked for
/// ahead.
pub fn each_ahead(
    store: &dyn ObjectStore,
    keys: &[Key],
    limit_bytes: u64,
    mut each: impl FnMut(&dyn ObjectStore, &Key) -> Result<()>,
) -> Result<()> {
    let ahead = Ahead::new(store);
    for group in keys.chunks(GROUP) {
        ahead.ask(&group.iter().map(|key| (key.clone(), limit_bytes)).collect::<Vec<_>>(), &[]);
        group.iter().try_for_each(|key| each(&ahead, key))?;
    }
    Ok(())
}

/// Reads objects that never change under their names and calls `take` with what `open` makes of each, in their order.
/// What is kept in `cache` is not read again, and what was read is kept: if `open` takes it, for nobody trusts a local
/// file. All that is kept of their area under other names is thrown away: `keys` are all that there are.
pub fn each_kept<T>(
    (repository, cache): (&Repository, Option<&PackCache>),
    area: Area,
    keys: &[Key],
    limit_bytes: u64,
    open: impl Fn(&Key, Vec<u8>) -> Result<T>,
    mut take: impl FnMut(&Key, Result<T>) -> Result<()>,
) -> Result<()> {
    let store = &**repository.store();
    let Some(cache) = cache else {
        return each_ahead(store, keys, limit_bytes, |store, key| {
            let object = store.get(key, limit_bytes).map_err(Error::from);
            take(key, object.and_then(|object| open(key, object)))
        });
    };
    let mut kept = cache.objects(area);
    let ahead = Ahead::new(store);
    for group in keys.chunks(GROUP) {
        let missing = group.iter().filter(|key| !kept.contains(key.name()));
        ahead.ask(&missing.map(|key| (key.clone(), limit_bytes)).collect::<Vec<_>>(), &[]);
        for key in group {
            let at_hand = kept.remove(key.name()).then(|| cache.object(key, limit_bytes)).flatten();
            if let Some(Ok(opened)) = at_hand.map(|object| open(key, object)) {
                take(key, Ok(opened))?;
                continue;
            }
            let object = ahead.get(key, limit_bytes).map_err(Error::from);
            let opened = object.and_then(|object| {
                let opened = open(key, object.clone())?;
                cache.keep_object(key, &object);
                Ok(opened)
            });
            take(key, opened)?;
        }
    }
    kept.iter().filter(|name| Key::is_name(name)).for_each(|name| cache.forget_object(&Key::new(area, name)));
    Ok(())
}

impl ObjectStore for Ahead<'_> {
    fn put(&self, key: &Key, bytes: &[u8]) -> Result<Put, store::Error> {
        self.store.put(key, bytes)
    }

    fn begin(&self) -> Result<Box<dyn Upload>, store::Error> {
        self.store.begin()
    }

    fn replace(&self, key: &Key, bytes: &[u8]) -> Result<(), store::Error> {
        self.store.replace(key, bytes)
    }

    fn get(&self, key: &Key, limit_bytes: u64) -> Result<Vec<u8>, store::Error> {
        let asked = self.answers().objects.remove(key);
        match asked {
            // It was asked for with another limit: the store says what is wrong with it.
            Some(Ok(object)) if object.len() as u64 > limit_bytes => self.store.get(key, limit_bytes),
            Some(answer) => answer,
            None => self.store.get(key, limit_bytes),
        }
    }

    fn get_range(&self, key: &Key, offset: u64, length: usize) -> Result<Vec<u8>, store::Error> {
        self.store.get_range(key, offset, length)
    }

    fn size(&self, key: &Key) -> Result<u64, store::Error> {
        self.store.size(key)
    }

    fn list(&self, area: Area, each: &mut dyn FnMut(Listed)) -> Result<(), store::Error> {
        let asked = self.answers().listings.remove(&area);
        match asked {
            Some(listing) => listing?.into_iter().for_each(each),
            None => self.store.list(area, each)?,
        }
        Ok(())
    }

    fn delete(&self, key: &Key) -> Result<(), store::Error> {
        self.store.delete(key)
    }

    fn flush(&self, area: Area) -> Result<(), store::Error> {
        self.store.flush(area)
    }

    fn location(&self) -> String {
        self.store.location()
    }

    fn free_bytes(&self) -> Option<u64> {
        self.store.free_bytes()
    }

    fn puts_are_atomic(&self) -> bool {
        self.store.puts_are_atomic()
    }

    fn puts_at_once(&self) -> usize {
        self.store.puts_at_once()
    }
}
