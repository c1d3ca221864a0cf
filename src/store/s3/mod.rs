//! Objects in a bucket of an S3-compatible store.
//!
//! Names are the paths of the keys behind the address's prefix. Put-if-absent is `If-None-Match: *` (RFC 9110, 13.1.2);
//! a server that refuses the header is asked whether the object is there first, which `init` then finds out not to be
//! atomic. The SDK does not retry: `store::Retry` does, and uploads, whose bytes only this room has, do it here. Plain
//! functions outside, one runtime of the SDK's inside.
//!
//! Every object is one PUT: packs have at most some 256 MiB, and S3 takes 5 GiB at once (`repo::pack_writer` holds the
//! one to the other). So no multipart upload is ever begun here, and none can be left behind.

mod address;
mod client;
mod delete;
mod failure;
mod label;
mod lock;
mod pace;
mod past;
mod peculiar;
mod place;
mod settings;
mod upload;

pub use address::Address;
pub use past::Past;
pub use settings::{Checksums, Encryption, Keys, Lock, LockMode, ObjectSettings, Settings};

use super::probe::Check;
use super::retry::Patience;
use super::throttle::Bucket;
use super::{
    Area, Error, Extended, Key, Listed, Locked, ObjectStore, Operation, Put, Retried, TRIES, Traffic, Upload,
    check_limit, check_range,
};
use crate::base::{Kind, RepositoryId, Stop, Timestamp};
use aws_sdk_s3::operation::get_object::GetObjectOutput;
use aws_sdk_s3::operation::get_object::builders::GetObjectFluentBuilder;
use aws_sdk_s3::primitives::ByteStream;
use aws_sdk_s3::types::Object;
use failure::answer_of;
use label::Labels;
use place::{ANSWER_TIMEOUT, Asked, Book, Place};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// The largest object that S3 takes in one request.
pub const MAX_PUT_BYTES: u64 = 5 << 30;
/// Packs that are sent at once, unless said otherwise.
const UPLOADS: usize = 4;
/// So many names of a repository's first ones are asked for where that may be all that is asked: some 70 KB.
const FRONT_KEYS: i32 = 200;
/// Bytes that are taken from an answer before its length is believed.
const FIRST_BYTES: u64 = 1 << 20;

/// A store in a bucket. Clones share it.
#[derive(Clone)]
pub struct S3 {
    place: Arc<Place>,
}

impl S3 {
    /// Readies the way to a bucket; the first request shows whether it leads there. `tell` hears of repeated uploads.
    pub fn open(
        address: Address,
        settings: &Settings,
        stop: Stop,
        tell: impl Fn(&Retried<'_>) + Send + Sync + 'static,
    ) -> Result<S3, Error> {
        let failed = |(kind, reason): (Kind, String)| Error::new(kind, "open", &address, reason);
        let labels = Labels::new(settings.objects.clone()).map_err(|reason| failed((Kind::Usage, reason)))?;
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .thread_name("s3")
            .enable_all()
            .build()
            .map_err(|error| Error::new(Kind::Unavailable, "open", &address, error))?;
        let client = runtime.block_on(client::client(&address, settings)).map_err(failed)?;
        let place = Place {
            address,
            spool: settings.spool.clone(),
            client,
            runtime,
            labels,
            patience: Arc::new(Patience::new(settings.tries.unwrap_or(TRIES), stop, tell)),
            up: Bucket::of(settings.limits.upload),
            down: Bucket::of(settings.limits.download),
            permits: place::permits(settings.connections),
            connections: settings.connections,
            looks_first: AtomicBool::new(false),
            deletes_singly: AtomicBool::new(false),
            knows_locks: AtomicBool::new(false),
            book: Book::default(),
        };
        Ok(S3 { place: Arc::new(place) })
    }
}

impl ObjectStore for S3 {
    fn put(&self, key: &Key, bytes: &[u8]) -> Result<Put, Error> {
        self.place.put_if_absent(key, bytes.len() as u64, || Ok(ByteStream::from(bytes.to_vec())))
    }

    fn begin(&self) -> Result<Box<dyn Upload>, Error> {
        Ok(Box::new(upload::S3Upload::begin(&self.place)?))
    }

    fn replace(&self, key: &Key, bytes: &[u8]) -> Result<(), Error> {
        self.place.put_instead(key, bytes.len() as u64, ByteStream::from(bytes.to_vec()))
    }

    fn get(&self, key: &Key, limit_bytes: u64) -> Result<Vec<u8>, Error> {
        let place = &self.place;
        place.runtime.block_on(async {
            let _permit = place.permits.acquire().await;
            let answer = place.answered(Asked::Read, 0, place.get_request(key, None).send()).await;
            let answer = answer.map_err(|error| place.failed(Operation::Get, key, "s3:GetObject", &error))?;
            let size_bytes = place.length_of(key, &answer)?;
            check_limit(&place.subject(key), size_bytes, limit_bytes)?;
            place.body(key, answer, size_bytes).await
        })
    }

    fn get_range(&self, key: &Key, offset: u64, length: usize) -> Result<Vec<u8>, Error> {
        let place = &self.place;
        if length == 0 {
            // HTTP knows no empty range.
            check_range(&place.subject(key), self.size(key)?, offset, length)?;
            return Ok(Vec::new());
        }
        place.runtime.block_on(async {
            let _permit = place.permits.acquire().await;
            let answer = place.range(key, None, offset, length as u64).await?;
            place.body(key, answer, length as u64).await
        })
    }

    fn stream(&self, key: &Key, offset: u64, length: u64, each: &mut dyn FnMut(&[u8]) -> bool) -> Result<(), Error> {
        let place = &self.place;
        if length == 0 {
            return Ok(());
        }
        if place.connections.is_some() {
            // Whoever takes the pieces may wait for others who wait for a connection: one that is open all that time
            // must not count, and so could not be limited.
            let mut get = |offset, length| self.get_range(key, offset, length);
            return super::stream_in_pieces(&mut get, offset, length, each);
        }
        place.runtime.block_on(async {
            let answer = place.range(key, None, offset, length).await?;
            place.pieces(key, answer, length, each).await
        })
    }

    fn size(&self, key: &Key) -> Result<u64, Error> {
        let place = &self.place;
        let request = place.client.head_object().bucket(&place.address.bucket).key(place.name_of(key));
        let answer = place.ask(Asked::Read, 0, request.send());
        let answer = answer.map_err(|error| place.failed(Operation::Size, key, "s3:GetObject", &error))?;
        let length = answer.content_length().and_then(|length| u64::try_from(length).ok());
        length.ok_or_else(|| place.odd(Operation::Size, key, "the answer has no length"))
    }

    fn list(&self, area: Area, each: &mut dyn FnMut(Listed)) -> Result<(), Error> {
        super::list_in_parts(self, area, each)
    }

    fn list_part(&self, area: Area, from: Option<&str>, each: &mut dyn FnMut(Listed)) -> Result<Option<String>, Error> {
        self.place.list_page(area, from, each)
    }

    fn list_together(&self, areas: &[Area], each: &mut dyn FnMut(Area, Listed)) -> Result<(), Error> {
        if let Some(lines) = self.place.list_front(areas)? {
            lines.into_iter().for_each(|(area, listed)| each(area, listed));
            return Ok(());
        }
        areas.iter().try_for_each(|area| self.list(*area, &mut |listed| each(*area, listed)))
    }

    fn delete(&self, key: &Key) -> Result<(), Error> {
        self.place.delete(key)
    }

    fn delete_each(&self, keys: &[Key]) -> Vec<Result<(), Error>> {
        self.place.delete_each(keys, self.requests_at_once())
    }

    fn lock_on(&self, key: &Key) -> Result<Option<Locked>, Error> {
        self.place.lock_on(key)
    }

    fn extend_lock(&self, key: &Key) -> Result<Extended, Error> {
        self.place.extend_lock(key)
    }

    fn location(&self) -> String {
        self.place.address.to_string()
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

    fn introduce(&self, repository: RepositoryId, puts_are_atomic: bool) {
        self.place.labels.introduce(repository);
        if !puts_are_atomic {
            self.place.looks_first.store(true, Ordering::Relaxed);
        }
    }

    fn traffic(&self) -> Traffic {
        self.place.book.traffic(self.place.patience.retries())
    }

    fn peculiarities(&self) -> Vec<Check> {
        peculiar::checks(&self.place)
    }

    fn puts_are_atomic(&self) -> bool {
        !self.place.looks_first.load(Ordering::Relaxed)
    }
}

impl Place {
    /// A request for an object as it is, or for a version of it.
    fn get_request(&self, key: &Key, version: Option<&str>) -> GetObjectFluentBuilder {
        let request = self.client.get_object().bucket(&self.address.bucket).key(self.name_of(key));
        request.set_version_id(version.map(str::to_owned))
    }

    fn length_of(&self, key: &Key, answer: &GetObjectOutput) -> Result<u64, Error> {
        let length = answer.content_length().and_then(|length| u64::try_from(length).ok());
        length.ok_or_else(|| self.odd(Operation::Get, key, "the answer has no length"))
    }

    /// The answer to a request for a range, which has its length.
    async fn range(
        &self,
        key: &Key,
        version: Option<&str>,
        offset: u64,
        length: u64,
    ) -> Result<GetObjectOutput, Error> {
        let beyond = || {
            let reason = format_args!("{length} bytes at {offset} were asked for, but it is shorter");
            Error::new(Kind::Damaged, "read", self.subject(key), reason)
        };
        let last = offset.checked_add(length - 1).ok_or_else(beyond)?;
        let request = self.get_request(key, version).range(format!("bytes={offset}-{last}"));
        let answer = match self.answered(Asked::Read, 0, request.send()).await {
            Ok(answer) => answer,
            Err(error) if answer_of(&error).says_beyond() => return Err(beyond()),
            Err(error) => return Err(self.failed(Operation::GetRange, key, "s3:GetObject", &error)),
        };
        if answer.content_range().and_then(whole_size).is_some_and(|size_bytes| last >= size_bytes) {
            return Err(beyond());
        }
        let came = self.length_of(key, &answer)?;
        if came != length {
            // A server without ranges sends the whole object, a damaged one something else.
            let reason = format_args!("{length} bytes were asked for and {came} are sent");
            return Err(Error::new(Kind::Damaged, "read", self.subject(key), reason));
        }
        Ok(answer)
    }

    /// The whole body of an answer, which has `size_bytes`.
    async fn body(&self, key: &Key, answer: GetObjectOutput, size_bytes: u64) -> Result<Vec<u8>, Error> {
        let mut bytes = Vec::with_capacity(size_bytes.min(FIRST_BYTES) as usize);
        let mut take = |piece: &[u8]| {
            bytes.extend_from_slice(piece);
            true
        };
        self.pieces(key, answer, size_bytes, &mut take).await?;
        Ok(bytes)
    }

    /// Hands on the body of an answer, which has `size_bytes`, piece by piece.
    async fn pieces(
        &self,
        key: &Key,
        answer: GetObjectOutput,
        size_bytes: u64,
        each: &mut (dyn FnMut(&[u8]) -> bool + '_),
    ) -> Result<(), Error> {
        let mut came = 0;
        let mut body = answer.body;
        loop {
            let piece = match tokio::time::timeout(ANSWER_TIMEOUT, body.next()).await {
                Ok(None) => break,
                Ok(Some(Ok(piece))) => piece,
                Ok(Some(Err(error))) => {
                    return Err(self.odd(Operation::Get, key, &format!("the answer broke off: {error}")));
                }
                Err(_) => return Err(self.odd(Operation::Get, key, "the answer stopped coming")),
            };
            self.book.received(piece.len());
            if let Some(bucket) = &self.down {
                tokio::time::sleep(bucket.take(piece.len() as u64)).await;
            }
            came += piece.len() as u64;
            if came > size_bytes {
                return Err(self.odd(Operation::Get, key, "more came than was announced"));
            }
            if !each(&piece) {
                return Ok(());
            }
        }
        match came == size_bytes {
            true => Ok(()),
            false => Err(self.odd(Operation::Get, key, &format!("{came} of {size_bytes} bytes came"))),
        }
    }

    /// What the names of an area begin with.
    fn folder_of(&self, area: Area) -> String {
        match area.folder() {
            "" => self.address.prefix.clone(),
            folder => format!("{}{folder}/", self.address.prefix),
        }
    }

    /// These areas out of one page that begins where the repository does: small areas come first by name, before packs.
    /// None if they do not all fit, or lie further back.
    fn list_front(&self, areas: &[Area]) -> Result<Option<Vec<(Area, Listed)>>, Error> {
        let folders: Vec<(Area, String)> = areas.iter().map(|area| (*area, self.folder_of(*area))).collect();
        let Some(last) = folders.iter().map(|(_, folder)| folder.as_str()).max() else { return Ok(Some(Vec::new())) };
        let packs = self.folder_of(Area::Packs);
        if last >= packs.as_str() || areas.contains(&Area::Config) {
            return Ok(None);
        }
        let request = self.client.list_objects_v2().bucket(&self.address.bucket).prefix(&self.address.prefix);
        let page = self.ask(Asked::List, 0, request.max_keys(FRONT_KEYS).send()).map_err(|error| {
            let answer = answer_of(&error);
            Error::new(answer.kind(), "list", &self.address, answer.reason("s3:ListBucket"))
        })?;
        let keys = || page.contents().iter().filter_map(Object::key);
        // A directory bucket of Amazon's lists in no order: then what came last says nothing.
        let is_all = !page.is_truncated().unwrap_or(true)
            || (keys().is_sorted() && keys().next_back().is_some_and(|key| key > last && !key.starts_with(last)));
        let lines = || {
            page.contents().iter().filter_map(|object| {
                let (area, folder) =
                    folders.iter().find(|(_, folder)| object.key().is_some_and(|key| key.starts_with(folder)))?;
                Some((*area, listed(*area, folder, object)?))
            })
        };
        Ok(is_all.then(|| lines().collect()))
    }

    /// One page of a listing; gives the mark of the next one.
    fn list_page(&self, area: Area, from: Option<&str>, each: &mut dyn FnMut(Listed)) -> Result<Option<String>, Error> {
        let folder = self.folder_of(area);
        let request = self.client.list_objects_v2().bucket(&self.address.bucket).prefix(&folder);
        // What lies in folders at the top belongs to other areas.
        let delimiter = area.folder().is_empty().then(|| "/".to_owned());
        let request = request.set_delimiter(delimiter).set_continuation_token(from.map(str::to_owned));
        let page = self.ask(Asked::List, 0, request.send()).map_err(|error| {
            let answer = answer_of(&error);
            Error::new(
                answer.kind(),
                "list",
                format!("{}/{}", self.address, area.folder()),
                answer.reason("s3:ListBucket"),
            )
        })?;
        page.contents().iter().filter_map(|object| listed(area, &folder, object)).for_each(each);
        let further = page.is_truncated().unwrap_or(false);
        Ok(page.next_continuation_token.filter(|_| further))
    }
}

/// One line of a listing; none for what is no object of ours.
fn listed(area: Area, folder: &str, object: &Object) -> Option<Listed> {
    let name = name_in(area, folder, object.key()?)?;
    let stored_at = object.last_modified().and_then(|at| Timestamp::from_second(at.secs()).ok());
    Some(Listed {
        name,
        size_bytes: object.size().and_then(|size| u64::try_from(size).ok()).unwrap_or(0),
        stored_at: stored_at.unwrap_or(Timestamp::UNIX_EPOCH),
        class: object.storage_class().map(|class| class.as_str().into()),
    })
}

/// The name in its area of what is stored under `path`; none for what is no object of ours.
fn name_in(area: Area, folder: &str, path: &str) -> Option<String> {
    let path = path.strip_prefix(folder)?;
    let name = match area.fans_out() {
        true => {
            let (fan, name) = path.split_once('/')?;
            // A name in the wrong folder would not be found by `get` either.
            (name.get(..2).unwrap_or(name) == fan).then_some(name)?
        }
        false => path,
    };
    Key::is_name(name).then(|| name.to_owned())
}

/// The size of the object in `bytes 0-9/1234`.
fn whole_size(content_range: &str) -> Option<u64> {
    content_range.rsplit_once('/')?.1.parse().ok()
}
