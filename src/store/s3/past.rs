//! A bucket that keeps versions, as it was at a time: what was deleted or overwritten since is there again.
//!
//! Of each object the newest version stands that the server had by then, or none if a mark of deletion is newer. Of two
//! in the same second, which is as finely as some servers tell, the one that holds data stands. Nothing is ever written.

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

/// Where the next page begins.
#[derive(Default)]
struct Mark {
    name: String,
    version: String,
    /// The last name of the page before: what stood there was told already.
    decided: String,
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
        for (name, told) in self.told(&page, &mark) {
            let Some(version) = told.standing() else { continue };
            let Some(name) = super::name_in(area, &folder, &name) else { continue };
            let Version { size_bytes, stored_at, class, .. } = version;
            each(Listed { name, size_bytes, stored_at, class });
        }
        Ok(self.next(&page, &mark))
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
            if let Some(told) = self.told(&page, &mark).remove(name) {
                return Ok(told.standing());
            }
            match self.next(&page, &mark) {
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

    /// What a page says of each name that it has something of from before the time.
    fn told(&self, page: &ListObjectVersionsOutput, mark: &Mark) -> BTreeMap<String, Told> {
        let mut all: BTreeMap<String, Told> = BTreeMap::new();
        for version in page.versions() {
            let (Some(name), Some(at)) = (version.key(), self.before(version.last_modified())) else { continue };
            let told = all.entry(name.to_owned()).or_default();
            if told.version.as_ref().is_none_or(|known| known.stored_at < at) {
                told.version = Some(Version {
                    id: version.version_id().map(str::to_owned),
                    size_bytes: version.size().and_then(|size| u64::try_from(size).ok()).unwrap_or(0),
                    stored_at: at,
                    class: version.storage_class().map(|class| class.as_str().into()),
                });
            }
        }
        for deleted in page.delete_markers() {
            let (Some(name), Some(at)) = (deleted.key(), self.before(deleted.last_modified())) else { continue };
            let told = all.entry(name.to_owned()).or_default();
            told.deleted_at = told.deleted_at.max(Some(at));
        }
        all.remove(&mark.decided);
        all
    }

    /// The time of a version, if it is not later than ours.
    fn before(&self, stored: Option<&DateTime>) -> Option<Timestamp> {
        stored.and_then(|at| Timestamp::from_second(at.secs()).ok()).filter(|at| *at <= self.at)
    }

    /// The mark of the page after this one.
    fn next(&self, page: &ListObjectVersionsOutput, mark: &Mark) -> Option<String> {
        let name = page.next_key_marker().filter(|_| page.is_truncated().unwrap_or(false))?;
        let is_decided = name == mark.decided || self.told(page, mark).contains_key(name);
        let version = page.next_version_id_marker().unwrap_or_default();
        Some([name, version, if is_decided { name } else { "" }].join(&SEPARATOR.to_string()))
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
        Mark { name: next(), version: next(), decided: next() }
    }
}
