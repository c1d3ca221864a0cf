//! Answers of a store that are asked for before they are needed, several at once.
//!
//! A remote store answers after a round trip, however little is asked. Code that reads one object after the other
//! reads them through an [`Ahead`]: whoever knows what will be read asks for all of it side by side, and the reading
//! finds the answers there, errors included. On a store that answers at once nothing is asked ahead.

use super::Repository;
use super::error::{Error, Result};
use super::pack_cache::PackCache;
use crate::base::side_by_side;
use crate::store::{self, Area, Extended, Key, Listed, Locked, ObjectStore, Put, Upload};
use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Objects that are asked for together by [`each_ahead`].
const GROUP: usize = 64;
/// Once so many bytes came, nothing more is asked ahead: it is asked when it is needed.
const MOST_BYTES: usize = 16 << 20;

/// A store, and what was asked of it ahead. Each answer is given once, parts of a whole object any number of times; what
/// was not asked ahead is asked now.
pub struct Ahead<'s> {
    store: &'s dyn ObjectStore,
    answers: Mutex<Answers>,
}

/// Answers that nobody has taken yet.
#[derive(Default)]
pub struct Answers {
    objects: HashMap<Key, Result<Vec<u8>, store::Error>>,
    ranges: HashMap<(Key, u64, usize), Result<Vec<u8>, store::Error>>,
    listings: HashMap<Area, Vec<Listed>>,
}

/// Something to ask.
enum Question<'q> {
    Object(&'q Key, u64),
    Listings(&'q [Area]),
}

enum Answer {
    Object(Key, Result<Vec<u8>, store::Error>),
    Listings(Result<HashMap<Area, Vec<Listed>>, store::Error>),
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
        let lanes = self.store.requests_at_once();
        if lanes <= 1 {
            return;
        }
        let objects = objects.iter().map(|(key, limit)| Question::Object(key, *limit));
        let listings = (!listings.is_empty()).then_some(Question::Listings(listings));
        let questions: Vec<Question<'_>> = objects.chain(listings).collect();
        let held = AtomicUsize::new(0);
        let came = side_by_side(lanes, &questions, |question| match question {
            Question::Object(..) if held.load(Ordering::Relaxed) > MOST_BYTES => None,
            Question::Object(key, limit) => {
                let object = self.store.get(key, *limit);
                held.fetch_add(object.as_ref().map_or(0, Vec::len), Ordering::Relaxed);
                Some(Answer::Object((*key).clone(), object))
            }
            Question::Listings(areas) => Some(Answer::Listings(list(self.store, areas))),
        });
        let mut answers = self.answers();
        for answer in came.into_iter().flatten() {
            match answer {
                Answer::Object(key, object) => drop(answers.objects.insert(key, object)),
                // What failed is asked again when it is needed.
                Answer::Listings(listings) => answers.listings.extend(listings.unwrap_or_default()),
            }
        }
    }

    /// Lists several areas together, on any store. What fails is asked again when it is needed.
    pub fn list_now(&self, areas: &[Area]) {
        let listings = list(self.store, areas).unwrap_or_default();
        self.answers().listings.extend(listings);
    }

    /// The listings that nobody has taken yet, once more.
    pub fn listings_again(&self) -> Answers {
        Answers { listings: self.answers().listings.clone(), ..Answers::default() }
    }

    /// Asks for parts of an object, each with where it begins and its bytes. As many as may be in memory: what is asked is
    /// all read.
    pub fn ask_for_parts(&self, key: &Key, parts: &[(u64, usize)]) {
        let lanes = self.store.requests_at_once();
        if lanes <= 1 || self.has_whole(key) {
            return;
        }
        let came = side_by_side(lanes, parts, |(offset, length)| self.store.get_range(key, *offset, *length));
        let part = |(offset, length): &(u64, usize)| (key.clone(), *offset, *length);
        self.answers().ranges.extend(parts.iter().map(part).zip(came));
    }

    fn has_whole(&self, key: &Key) -> bool {
        matches!(self.answers().objects.get(key), Some(Ok(_)))
    }

    /// A part of an object that was asked for, whole or in parts. The whole stays at hand for other parts.
    fn part(&self, key: &Key, offset: u64, length: usize) -> Option<Result<Vec<u8>, store::Error>> {
        let mut answers = self.answers();
        if let Some(part) = answers.ranges.remove(&(key.clone(), offset, length)) {
            return Some(part);
        }
        let whole = answers.objects.get(key)?.as_ref().ok()?;
        let from = usize::try_from(offset).ok()?;
        Some(Ok(whole.get(from..from.checked_add(length)?)?.to_vec()))
    }

    /// A listing that was asked for and that nobody has taken yet; empty if there is none.
    pub fn listing(&self, area: Area) -> Vec<Listed> {
        self.answers().listings.get(&area).cloned().unwrap_or_default()
    }

    fn answers(&self) -> MutexGuard<'_, Answers> {
        self.answers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn list(store: &dyn ObjectStore, areas: &[Area]) -> Result<HashMap<Area, Vec<Listed>>, store::Error> {
    let mut listings: HashMap<Area, Vec<Listed>> = areas.iter().map(|area| (*area, Vec::new())).collect();
    store.list_together(areas, &mut |area, listed| listings.entry(area).or_default().push(listed))?;
    Ok(listings)
}

/// Calls `each` for all `keys`, in their order, with a store where the objects, of at most `limit_bytes`, are asked for
/// ahead.
pub fn each_ahead<E>(
    store: &dyn ObjectStore,
    keys: &[Key],
    limit_bytes: u64,
    mut each: impl FnMut(&dyn ObjectStore, &Key) -> Result<(), E>,
) -> Result<(), E> {
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
pub fn each_kept<T, E>(
    (repository, cache): (&Repository, Option<&PackCache>),
    area: Area,
    keys: &[Key],
    limit_bytes: u64,
    open: impl Fn(&Key, Vec<u8>) -> Result<T>,
    mut take: impl FnMut(&Key, Result<T>) -> Result<(), E>,
) -> Result<(), E> {
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
        match self.part(key, offset, length) {
            Some(part) => part,
            // What was asked for and does not reach so far: the store says what is wrong with it.
            None => self.store.get_range(key, offset, length),
        }
    }

    fn size(&self, key: &Key) -> Result<u64, store::Error> {
        self.store.size(key)
    }

    fn list(&self, area: Area, each: &mut dyn FnMut(Listed)) -> Result<(), store::Error> {
        let asked = self.answers().listings.remove(&area);
        match asked {
            Some(listing) => listing.into_iter().for_each(each),
            None => self.store.list(area, each)?,
        }
        Ok(())
    }

    fn list_together(&self, areas: &[Area], each: &mut dyn FnMut(Area, Listed)) -> Result<(), store::Error> {
        let mut left = Vec::new();
        for area in areas {
            let asked = self.answers().listings.remove(area);
            match asked {
                Some(listing) => listing.into_iter().for_each(|listed| each(*area, listed)),
                None => left.push(*area),
            }
        }
        if left.is_empty() { Ok(()) } else { self.store.list_together(&left, each) }
    }

    fn delete(&self, key: &Key) -> Result<(), store::Error> {
        self.store.delete(key)
    }

    fn delete_each(&self, keys: &[Key]) -> Vec<Result<(), store::Error>> {
        self.store.delete_each(keys)
    }

    fn lock_on(&self, key: &Key) -> Result<Option<Locked>, store::Error> {
        self.store.lock_on(key)
    }

    fn extend_lock(&self, key: &Key) -> Result<Extended, store::Error> {
        self.store.extend_lock(key)
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

    fn is_remote(&self) -> bool {
        self.store.is_remote()
    }

    fn puts_at_once(&self) -> usize {
        self.store.puts_at_once()
    }
}
