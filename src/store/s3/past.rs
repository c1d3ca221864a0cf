//! A bucket that keeps versions, as it was at a time: what was deleted or overwritten since is there again.
//!
//! Of each object the newest version stands that the server had by then, or none if a mark of deletion is newer. Times
//! that are given in whole seconds mean all of that second. Servers tell whole seconds too, most of them, and list the
//! newest version of a name first: so of several versions in one second the first that is listed stands. In what order a
//! version and a mark of deletion of one second came the answer does not say, since it lists them apart: then the version
//! stands, for whoever looks back misses what is not there more than he minds what is. Nothing is ever written.

use super::S3;
use super::failure::answer_of;
use super::place::{Asked, Place};
use crate::base::{Kind, Timestamp};
use crate::store::{
    Area, Error, Key, Listed, ObjectStore, Operation, Put, Traffic, Upload, check_limit, check_range, list_in_parts,
    stream_in_pieces,
};
use aws_sdk_s3::operation::list_object_versions::ListObjectVersionsOutput;
use aws_sdk_s3::primitives::DateTime;
use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, PoisonError};

/// So many versions are remembered, so that the ranges of a pack cost one request each.
const REMEMBERED: usize = 4096;
/// What separates the parts of a mark between pages; no name has it.
const SEPARATOR: char = '\n';

/// A store in a bucket as it was.
pub struct Past {
    place: Arc<Place>,
    at: Timestamp,
    found: Mutex<HashMap<String, Version>>,
}

/// The version of an object that stood at the time.
#[derive(Clone)]
struct Version {
    /// None where the bucket did not keep versions yet.
    id: Option<String>,
    size_bytes: u64,
    stored_at: Timestamp,
    class: Option<Arc<str>>,
}

/// What one page says of a name.
#[derive(Default)]
struct Told {
    version: Option<Version>,
    deleted_at: Option<Timestamp>,
}

type Page = ListObjectVersionsOutput;

/// Where the next page begins.
#[derive(Default)]
struct Mark {
    name: String,
    version: String,
    /// The last name of the page before, if what stood there was told already.
    decided: String,
    /// When the name was deleted, if the page before told only that of it, in nanoseconds since 1970.
    deleted: String,
}

impl S3 {
    /// The same bucket as it was at a time, if it keeps versions.
    pub fn at(&self, at: Timestamp) -> Past {
        Past { place: self.place.clone(), at, found: Mutex::default() }
    }
}

impl ObjectStore for Past {
    fn put(&self, key: &Key, _: &[u8]) -> Result<Put, Error> {
        Err(self.unwritable("store", key))
    }

    fn begin(&self) -> Result<Box<dyn Upload>, Error> {
        Err(self.unwritable("store", &self.location()))
    }

    fn replace(&self, key: &Key, _: &[u8]) -> Result<(), Error> {
        Err(self.unwritable("replace", key))
    }

    fn get(&self, key: &Key, limit_bytes: u64) -> Result<Vec<u8>, Error> {
        let version = self.version(Operation::Get, key)?;
        check_limit(&self.place.subject(key), version.size_bytes, limit_bytes)?;
        self.read(key, &version, 0, version.size_bytes)
    }

    fn get_range(&self, key: &Key, offset: u64, length: usize) -> Result<Vec<u8>, Error> {
        let version = self.version(Operation::GetRange, key)?;
        check_range(&self.place.subject(key), version.size_bytes, offset, length)?;
        self.read(key, &version, offset, length as u64)
    }

    fn stream(&self, key: &Key, offset: u64, length: u64, each: &mut dyn FnMut(&[u8]) -> bool) -> Result<(), Error> {
        stream_in_pieces(&mut |offset, length| self.get_range(key, offset, length), offset, length, each)
    }

    fn size(&self, key: &Key) -> Result<u64, Error> {
        Ok(self.version(Operation::Size, key)?.size_bytes)
    }

    fn list(&self, area: Area, each: &mut dyn FnMut(Listed)) -> Result<(), Error> {
        list_in_parts(self, area, each)
    }

    fn list_part(&self, area: Area, from: Option<&str>, each: &mut dyn FnMut(Listed)) -> Result<Option<String>, Error> {
        let folder = self.place.folder_of(area);
        let mark = from.map(Mark::read).unwrap_or_default();
        let page = self.page(&folder, area.folder().is_empty(), &mark)?;
        for (name, told) in told(&page, self.at, &mark) {
            let Some(version) = told.standing() else { continue };
            let Some(name) = super::name_in(area, &folder, &name) else { continue };
            let Version { size_bytes, stored_at, class, .. } = version;
            each(Listed { name, size_bytes, stored_at, class });
        }
        Ok(next(&page, self.at, &mark))
    }

    fn delete(&self, key: &Key) -> Result<(), Error> {
        Err(self.unwritable("delete", key))
    }

    fn location(&self) -> String {
        format!("{} as of {}", self.place.address, self.at)
    }

    fn free_bytes(&self) -> Option<u64> {
        None
    }

    fn is_remote(&self) -> bool {
        true
    }

    fn puts_at_once(&self) -> usize {
        self.place.puts_at_once()
    }

    fn traffic(&self) -> Traffic {
        self.place.book.traffic(self.place.patience.retries())
    }
}

impl Past {
    fn unwritable(&self, verb: &'static str, subject: &dyn std::fmt::Display) -> Error {
        let reason = "what a bucket was at a time is only read; leave --as-of away, or copy it into another repository";
        Error::new(Kind::Denied, verb, subject, reason)
    }

    /// The version of an object that stood at the time.
    fn version(&self, operation: Operation, key: &Key) -> Result<Version, Error> {
        let name = self.place.name_of(key);
        let known = self.found.lock().unwrap_or_else(PoisonError::into_inner).get(&name).cloned();
        if let Some(version) = known {
            return Ok(version);
        }
        let version = self.look_up(&name)?.ok_or_else(|| {
            let reason = format_args!("it was not there at {}", self.at);
            Error::new(Kind::NotFound, operation.verb(), self.place.subject(key), reason)
        })?;
        let mut found = self.found.lock().unwrap_or_else(PoisonError::into_inner);
        if found.len() >= REMEMBERED {
            found.clear();
        }
        found.insert(name, version.clone());
        Ok(version)
    }

    fn look_up(&self, name: &str) -> Result<Option<Version>, Error> {
        let mut mark = Mark::default();
        loop {
            // Names that this one only begins come after it.
            let page = self.page(name, false, &mark)?;
            let told = told(&page, self.at, &mark).remove(name);
            if told.as_ref().is_some_and(|told| told.version.is_some()) {
                return Ok(told.and_then(Told::standing));
            }
            match next(&page, self.at, &mark) {
                Some(next) if next.starts_with(&format!("{name}{SEPARATOR}")) => mark = Mark::read(&next),
                _ => return Ok(None),
            }
        }
    }

    fn page(&self, prefix: &str, only_here: bool, mark: &Mark) -> Result<ListObjectVersionsOutput, Error> {
        let given = |text: &str| Some(text.to_owned()).filter(|text| !text.is_empty());
        let request = self.place.client.list_object_versions().bucket(&self.place.address.bucket).prefix(prefix);
        let request = request.set_delimiter(only_here.then(|| "/".to_owned()));
        let request = request.set_key_marker(given(&mark.name)).set_version_id_marker(given(&mark.version));
        self.place.ask(Asked::List, 0, request.send()).map_err(|error| {
            let answer = answer_of(&error);
            let subject = format!("the versions of {}/{prefix}", self.place.address.bucket);
            Error::new(answer.kind(), "list", subject, answer.reason("s3:ListBucketVersions"))
        })
    }

    /// A range of a version that has it.
    fn read(&self, key: &Key, version: &Version, offset: u64, length: u64) -> Result<Vec<u8>, Error> {
        let place = &self.place;
        if length == 0 {
            return Ok(Vec::new());
        }
        place.runtime.block_on(async {
            let _permit = place.permits.acquire().await;
            let answer = place.range(key, version.id.as_deref(), offset, length).await?;
            place.body(key, answer, length).await
        })
    }
}

/// What a page says of each name that it has something of from before the time.
fn told(page: &Page, at: Timestamp, mark: &Mark) -> BTreeMap<String, Told> {
    let mut all: BTreeMap<String, Told> = BTreeMap::new();
    if let Ok(deleted_ns) = mark.deleted.parse::<i128>() {
        let deleted_at = Timestamp::from_nanosecond(deleted_ns).ok();
        all.insert(mark.name.clone(), Told { version: None, deleted_at });
    }
    for version in page.versions() {
        let (Some(name), Some(stored_at)) = (version.key(), before(version.last_modified(), at)) else { continue };
        let told = all.entry(name.to_owned()).or_default();
        if told.version.as_ref().is_none_or(|known| known.stored_at < stored_at) {
            told.version = Some(Version {
                id: version.version_id().map(str::to_owned),
                size_bytes: version.size().and_then(|size| u64::try_from(size).ok()).unwrap_or(0),
                stored_at,
                class: version.storage_class().map(|class| class.as_str().into()),
            });
        }
    }
    for deleted in page.delete_markers() {
        let (Some(name), Some(deleted_at)) = (deleted.key(), before(deleted.last_modified(), at)) else { continue };
        let told = all.entry(name.to_owned()).or_default();
        told.deleted_at = told.deleted_at.max(Some(deleted_at));
    }
    all.remove(&mark.decided);
    all
}

/// When something was stored, as finely as the server says it, if that is not later than `at`.
fn before(stored: Option<&DateTime>, at: Timestamp) -> Option<Timestamp> {
    let stored = Timestamp::new(stored?.secs(), i32::try_from(stored?.subsec_nanos()).ok()?).ok()?;
    let whole_seconds = at.subsec_nanosecond() == 0;
    let is_before = if whole_seconds { stored.as_second() <= at.as_second() } else { stored <= at };
    is_before.then_some(stored)
}

/// The mark of the page after this one.
fn next(page: &Page, at: Timestamp, mark: &Mark) -> Option<String> {
    let name = page.next_key_marker().filter(|_| page.is_truncated().unwrap_or(false))?;
    let told = told(page, at, mark).remove(name);
    let has_version = told.as_ref().is_some_and(|told| told.version.is_some());
    let decided = if name == mark.decided || has_version { name } else { "" };
    // Older versions of it are on the next page, perhaps one of the same second.
    let deleted_at = told.filter(|told| told.version.is_none()).and_then(|told| told.deleted_at);
    let deleted = deleted_at.map_or(String::new(), |at| at.as_nanosecond().to_string());
    let version = page.next_version_id_marker().unwrap_or_default();
    Some([name, version, decided, &deleted].join(&SEPARATOR.to_string()))
}

impl Told {
    /// The version that stands, unless a later mark says that it was deleted.
    fn standing(self) -> Option<Version> {
        let deleted_at = self.deleted_at;
        self.version.filter(|version| deleted_at.is_none_or(|deleted_at| deleted_at <= version.stored_at))
    }
}

impl Mark {
    fn read(text: &str) -> Mark {
        let mut parts = text.split(SEPARATOR).map(str::to_owned);
        let mut next = || parts.next().unwrap_or_default();
        Mark { name: next(), version: next(), decided: next(), deleted: next() }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use aws_sdk_s3::types::{DeleteMarkerEntry, ObjectVersion};

    fn version(name: &str, id: &str, seconds: f64) -> ObjectVersion {
        let at = DateTime::from_secs_f64(seconds);
        ObjectVersion::builder().key(name).version_id(id).size(1).last_modified(at).build()
    }

    fn deleted(name: &str, seconds: f64) -> DeleteMarkerEntry {
        DeleteMarkerEntry::builder().key(name).last_modified(DateTime::from_secs_f64(seconds)).build()
    }

    fn page(versions: Vec<ObjectVersion>, deleted: Vec<DeleteMarkerEntry>) -> Page {
        ListObjectVersionsOutput::builder().set_versions(Some(versions)).set_delete_markers(Some(deleted)).build()
    }

    fn seconds(seconds: i64) -> Timestamp {
        Timestamp::from_second(seconds).unwrap()
    }

    fn standing(page: &Page, at: Timestamp, mark: &Mark) -> Option<String> {
        told(page, at, mark).remove("a").and_then(Told::standing).and_then(|version| version.id)
    }

    #[test]
    fn of_two_versions_in_one_second_the_newer_one_stands_which_is_listed_first() {
        let both = page(vec![version("a", "newer", 10.0), version("a", "older", 10.0)], Vec::new());
        assert_eq!(standing(&both, seconds(10), &Mark::default()).unwrap(), "newer");
        assert_eq!(standing(&both, seconds(9), &Mark::default()), None);
        // A server that tells parts of seconds may list them as it likes.
        let finer = page(vec![version("a", "older", 10.25), version("a", "newer", 10.5)], Vec::new());
        assert_eq!(standing(&finer, seconds(10), &Mark::default()).unwrap(), "newer");
        let between = Timestamp::new(10, 300_000_000).unwrap();
        assert_eq!(standing(&finer, between, &Mark::default()).unwrap(), "older");
    }

    #[test]
    fn what_was_stored_and_deleted_in_one_second_stands_unless_the_server_knows_better() {
        let one = page(vec![version("a", "it", 10.0)], vec![deleted("a", 10.0)]);
        assert_eq!(standing(&one, seconds(10), &Mark::default()).unwrap(), "it");
        let later = page(vec![version("a", "it", 10.0)], vec![deleted("a", 11.0)]);
        assert_eq!(standing(&later, seconds(10), &Mark::default()).unwrap(), "it");
        assert_eq!(standing(&later, seconds(11), &Mark::default()), None);
        let finer = page(vec![version("a", "it", 10.25)], vec![deleted("a", 10.5)]);
        assert_eq!(standing(&finer, seconds(10), &Mark::default()), None);
        let again = page(vec![version("a", "it", 10.5)], vec![deleted("a", 10.25)]);
        assert_eq!(standing(&again, seconds(10), &Mark::default()).unwrap(), "it");
    }

    /// A page that ends within the versions of `a`.
    fn cut(versions: Vec<ObjectVersion>, deleted: Vec<DeleteMarkerEntry>) -> Page {
        let page = ListObjectVersionsOutput::builder().set_versions(Some(versions)).set_delete_markers(Some(deleted));
        page.is_truncated(true).next_key_marker("a").next_version_id_marker("v").build()
    }

    #[test]
    fn what_a_page_says_of_its_last_name_counts_on_the_next_one() {
        // The newest version is on the first page, another one of the same second on the second.
        let first = cut(vec![version("a", "newer", 10.0)], Vec::new());
        let mark = Mark::read(&next(&first, seconds(10), &Mark::default()).unwrap());
        let second = page(vec![version("a", "older", 10.0)], Vec::new());
        assert_eq!(standing(&second, seconds(10), &mark), None, "it was told already");
        // It was deleted, says the first page; when, decides what of the second stands.
        for (stored, stands) in [(10.0, true), (9.0, false)] {
            let first = cut(Vec::new(), vec![deleted("a", 10.0)]);
            let mark = Mark::read(&next(&first, seconds(10), &Mark::default()).unwrap());
            let second = page(vec![version("a", "it", stored), version("b", "other", 1.0)], Vec::new());
            assert_eq!(standing(&second, seconds(10), &mark).is_some(), stands, "{stored}");
            assert!(told(&second, seconds(10), &mark).contains_key("b"));
        }
        // Nothing of it was there by then, says the first page.
        let first = cut(vec![version("a", "late", 20.0)], vec![deleted("a", 21.0)]);
        let mark = Mark::read(&next(&first, seconds(10), &Mark::default()).unwrap());
        let second = page(vec![version("a", "early", 5.0)], Vec::new());
        assert_eq!(standing(&second, seconds(10), &mark).unwrap(), "early");
        // A name whose versions fill more than two pages is told once.
        let mark = Mark::read(&next(&cut(vec![version("a", "x", 9.0)], Vec::new()), seconds(10), &mark).unwrap());
        let mark = Mark::read(&next(&cut(vec![version("a", "y", 8.0)], Vec::new()), seconds(10), &mark).unwrap());
        assert_eq!(standing(&page(vec![version("a", "z", 7.0)], Vec::new()), seconds(10), &mark), None);
    }
}
