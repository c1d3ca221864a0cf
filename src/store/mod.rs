//! Objects: named, immutable byte strings somewhere.
//!
//! A store knows nothing of what the bytes mean. It keeps the numbered promises below; `tests/store_contract.rs`
//! holds every implementation to them.

mod fault;
mod forward;
mod local;
mod memory;
pub mod probe;
mod record;
mod retry;
mod s3;
mod throttle;
mod traffic;

pub use fault::{Crash, Damage, Fault};
pub use forward::forward;
pub use local::Local;
pub use memory::Memory;
pub use record::{Count, Entry, Record};
pub use retry::{Retried, Retry, TRIES};
pub use s3::{
    Address as S3Address, Checksums as S3Checksums, Encryption as S3Encryption, Keys as S3Keys, Lock as S3Lock,
    LockMode as S3LockMode, MAX_PUT_BYTES, ObjectSettings as S3ObjectSettings, Past as S3Past, S3,
    Settings as S3Settings,
};
pub use throttle::{Limits, Throttle};
pub use traffic::Traffic;

use crate::base::{Kind, RepositoryId, Timestamp, side_by_side};
use probe::Check;
use std::fmt;
use std::io::{self, Write};
use std::sync::Arc;
use std::time::Duration;

/// What a stream is read in where the store has no better way.
const STREAM_PIECE_BYTES: u64 = 4 << 20;
/// Small requests under way at once, for each large object that a remote store takes at once.
const REQUESTS_PER_PUT: usize = 4;

/// The folders of a repository, one per kind of object.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Area {
    /// The public description of the repository, at the top level.
    Config,
    /// Key slots.
    Keys,
    /// Generations of keys.
    Epochs,
    /// Packs, fanned out by the first two digits of their name.
    Packs,
    /// Index segments.
    Index,
    /// Snapshots and the tombstones that take their place.
    Snapshots,
    /// Marks of sessions at work.
    Sessions,
    /// Numbered records of what prune will delete.
    Condemned,
    /// Records of operations.
    Runs,
    /// Parity sidecars of packs, fanned out like packs.
    Parity,
    /// Reserved: the catalogue.
    Catalogue,
    /// Records of damage found.
    Damage,
    /// What was found damaged and has been replaced, as it was.
    Quarantine,
}

impl Area {
    /// All areas, in the order in which they are listed and checked.
    pub const ALL: [Area; 13] = [
        Area::Config,
        Area::Keys,
        Area::Epochs,
        Area::Packs,
        Area::Index,
        Area::Snapshots,
        Area::Sessions,
        Area::Condemned,
        Area::Runs,
        Area::Parity,
        Area::Catalogue,
        Area::Damage,
        Area::Quarantine,
    ];

    /// What messages call its objects.
    pub fn name(self) -> &'static str {
        match self {
            Area::Config => "config",
            area => area.folder(),
        }
    }

    /// The folder's name; empty for [`Area::Config`], whose objects lie at the top.
    pub fn folder(self) -> &'static str {
        match self {
            Area::Config => "",
            Area::Keys => "keys",
            Area::Epochs => "epochs",
            Area::Packs => "packs",
            Area::Index => "index",
            Area::Snapshots => "snapshots",
            Area::Sessions => "sessions",
            Area::Condemned => "condemned",
            Area::Runs => "runs",
            Area::Parity => "parity",
            Area::Catalogue => "catalogue",
            Area::Damage => "damage",
            Area::Quarantine => "quarantine",
        }
    }

    /// Whether objects lie in sub-folders named by the first two characters of their names.
    pub fn fans_out(self) -> bool {
        matches!(self, Area::Packs | Area::Parity)
    }
}

/// Where an object lies: an area and a name in it. Names are made of `0-9 a-z . -`, 1 to 128 characters, and do
/// not start with a dot.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Key {
    area: Area,
    name: String,
}

impl Key {
    /// A key for `name` in `area`. Panics on a name that breaks the rule above; names are made by us from ids.
    pub fn new(area: Area, name: impl ToString) -> Key {
        let name = name.to_string();
        assert!(Key::is_name(&name), "object names are made from ids and fixed words: {name:?}");
        Key { area, name }
    }

    /// Whether `name` may name an object.
    pub fn is_name(name: &str) -> bool {
        (1..=128).contains(&name.len())
            && !name.starts_with('.')
            && name.bytes().all(|c| matches!(c, b'0'..=b'9' | b'a'..=b'z' | b'.' | b'-'))
    }

    /// The area.
    pub fn area(&self) -> Area {
        self.area
    }

    /// The name in the area.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The path relative to the repository, with `/` between parts: `packs/3f/3fa9…`.
    pub fn path(&self) -> String {
        match self.area {
            Area::Config => self.name.clone(),
            area if area.fans_out() => {
                format!("{}/{}/{}", area.folder(), self.name.get(..2).unwrap_or(&self.name), self.name)
            }
            area => format!("{}/{}", area.folder(), self.name),
        }
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.path())
    }
}

/// A failed request to a store.
#[derive(Debug, thiserror::Error)]
#[error("cannot {operation} {subject}: {reason}")]
pub struct Error {
    kind: Kind,
    operation: &'static str,
    subject: String,
    reason: String,
}

impl Error {
    /// A failure of `operation` ("read", "write", "list", "delete") on `subject`.
    pub fn new(kind: Kind, operation: &'static str, subject: impl ToString, reason: impl ToString) -> Error {
        Error { kind, operation, subject: subject.to_string(), reason: reason.to_string() }
    }

    /// What kind of failure it is.
    pub fn kind(&self) -> Kind {
        self.kind
    }
}

/// The kinds of request that a store answers; what counters, logs and faults speak of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Operation {
    /// [`ObjectStore::put`].
    Put,
    /// [`Upload::finish`].
    Finish,
    /// [`ObjectStore::replace`].
    Replace,
    /// [`ObjectStore::delete`].
    Delete,
    /// [`ObjectStore::flush`].
    Flush,
    /// [`ObjectStore::get`].
    Get,
    /// [`ObjectStore::get_range`].
    GetRange,
    /// [`ObjectStore::size`].
    Size,
    /// [`ObjectStore::list`].
    List,
}

impl Operation {
    /// Whether it can change what is stored.
    pub fn changes(self) -> bool {
        matches!(self, Operation::Put | Operation::Finish | Operation::Replace | Operation::Delete)
    }

    /// The word for it in messages.
    pub fn verb(self) -> &'static str {
        match self {
            Operation::Put | Operation::Finish => "write",
            Operation::Replace => "replace",
            Operation::Delete => "delete",
            Operation::Flush => "flush",
            Operation::Get | Operation::GetRange => "read",
            Operation::Size => "look at",
            Operation::List => "list",
        }
    }
}

/// What became of a put.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Put {
    /// The object is stored now and was not there before.
    Stored,
    /// An object of that name was there already; it is untouched.
    Existed,
}

/// What keeps an object from being deleted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Locked {
    /// A retention that ends then.
    Until(Timestamp),
    /// A hold that somebody has to lift.
    OnHold,
}

impl fmt::Display for Locked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Locked::Until(until) => write!(f, "locked until {until:.0}"),
            Locked::OnHold => f.write_str("under a legal hold that somebody has to lift"),
        }
    }
}

/// What became of a lock that was to last longer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Extended {
    /// It lasts long enough as it is, until then.
    Enough(Timestamp),
    /// It lasts until then now.
    Now(Timestamp),
}

/// One line of a listing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listed {
    /// The object's name in its area.
    pub name: String,
    /// Its size in bytes.
    pub size_bytes: u64,
    /// When it was stored, by the store's clock.
    pub stored_at: Timestamp,
    /// Its storage class, where a store has such and tells.
    pub class: Option<Arc<str>>,
}

/// An object on its way into a store: write its bytes, then finish. Dropped without `finish`, it leaves nothing.
/// Once a write has failed, `finish` fails too.
pub trait Upload: Write + Send {
    /// Stores what was written under `key`, as [`ObjectStore::put`] would.
    fn finish(self: Box<Self>, key: &Key) -> Result<Put, Error>;

    /// Puts what was written in the place of whatever is at `key`, as [`ObjectStore::replace`] would: for what is too
    /// large to be held in memory. Only to mend a damaged pack with the bytes that its name asks for.
    fn replace(self: Box<Self>, key: &Key) -> Result<(), Error> {
        Err(Error::new(Kind::Unsupported, "replace", key, "this store can only replace small objects"))
    }

    /// Reads what was written, from `offset` on, into the whole of `bytes`.
    fn read_back(&mut self, offset: u64, bytes: &mut [u8]) -> io::Result<()> {
        let _ = (offset, bytes);
        Err(io::Error::new(io::ErrorKind::Unsupported, "what goes into this store cannot be read before it is there"))
    }
}

/// A place that keeps objects.
///
/// 1. `put` and `finish` store all bytes or nothing: no reader ever sees a part of an object.
/// 2. They never change an object that is there: the answer is then [`Put::Existed`], and what is there is as
///    durable as if this call had stored it.
/// 3. Of several at once for one name exactly one answers [`Put::Stored`].
/// 4. When they, or `replace`, return, the object survives a crash of this machine, and every later `get`, `size`
///    and `list` shows it.
/// 5. `get` and `get_range` return exactly the stored bytes; an absent object is [`Kind::NotFound`], a range that
///    reaches beyond the end is [`Kind::Damaged`], an object above the limit is [`Kind::Damaged`] before it is
///    brought into memory.
/// 6. `list` shows every object of the area that was there when it began and was not deleted meanwhile, each
///    once, in no particular order; never one that is not finished; names that are no object names are left out.
///    `list_together` shows the same of each of its areas.
/// 7. `delete` of an absent object succeeds.
/// 8. A full disk or quota is [`Kind::Full`], a forbidden request [`Kind::Denied`], a fault that may pass
///    [`Kind::Unavailable`].
/// 9. `replace`, of a store and of an upload, is atomic: a reader sees the old object or the new one; after a crash one of
///    them is there. Before it is finished, an upload gives back what was written to it.
/// 10. What was deleted from an area may be there again after a crash of this machine, unless `flush` of that area has
///     returned since.
/// 11. `delete_each` does to each object what `delete` would and answers for each, in the order in which they were named;
///     which of them goes first is open.
pub trait ObjectStore: Send + Sync {
    /// Stores `bytes` under `key` unless something is there.
    fn put(&self, key: &Key, bytes: &[u8]) -> Result<Put, Error>;

    /// Begins an object whose name is known only when all is written.
    fn begin(&self) -> Result<Box<dyn Upload>, Error>;

    /// Puts `bytes` in the place of whatever is at `key`. Only for the `config` objects, and to mend an object that has
    /// two copies with the bytes of the other.
    fn replace(&self, key: &Key, bytes: &[u8]) -> Result<(), Error>;

    /// Reads a whole object of at most `limit_bytes`.
    fn get(&self, key: &Key, limit_bytes: u64) -> Result<Vec<u8>, Error>;

    /// Reads `length` bytes from `offset`.
    fn get_range(&self, key: &Key, offset: u64, length: usize) -> Result<Vec<u8>, Error>;

    /// Reads `length` bytes from `offset` and hands them on in pieces, in order, until `each` says that it has enough. A
    /// store that is paid by the request makes one of it, and nobody holds more of it in memory than a piece.
    fn stream(&self, key: &Key, offset: u64, length: u64, each: &mut dyn FnMut(&[u8]) -> bool) -> Result<(), Error> {
        stream_in_pieces(&mut |offset, length| self.get_range(key, offset, length), offset, length, each)
    }

    /// The size of an object in bytes.
    fn size(&self, key: &Key) -> Result<u64, Error>;

    /// Calls `each` for every object of an area.
    fn list(&self, area: Area, each: &mut dyn FnMut(Listed)) -> Result<(), Error>;

    /// Shows a part of a listing to `each`: the first part, or the one that `from` leads to. Gives what leads to the next,
    /// if there is one. Whoever asks again after a failure then needs to go back only to where this part began.
    fn list_part(&self, area: Area, from: Option<&str>, each: &mut dyn FnMut(Listed)) -> Result<Option<String>, Error> {
        assert!(from.is_none(), "a store that lists in one part leads to no other");
        self.list(area, each).map(|()| None)
    }

    /// Shows what `list` would of several areas, one after the other as they are named or in the order of their folders'
    /// names, with as few requests as it can: each costs a round trip, and money.
    fn list_together(&self, areas: &[Area], each: &mut dyn FnMut(Area, Listed)) -> Result<(), Error> {
        areas.iter().try_for_each(|area| self.list(*area, &mut |listed| each(*area, listed)))
    }

    /// Removes an object; it is fine if there is none.
    fn delete(&self, key: &Key) -> Result<(), Error>;

    /// Removes several objects, as many at once as it can; an answer for each, in their order. It is fine if one is not
    /// there. On a disk one goes after the other.
    fn delete_each(&self, keys: &[Key]) -> Vec<Result<(), Error>> {
        side_by_side(self.requests_at_once(), keys, |key| self.delete(key))
    }

    /// What keeps an object from being deleted, where the store knows such a thing and tells.
    fn lock_on(&self, key: &Key) -> Result<Option<Locked>, Error> {
        let _ = key;
        Ok(None)
    }

    /// Sees to it that an object stays locked for about as long as one that is stored now; says until when it is.
    fn extend_lock(&self, key: &Key) -> Result<Extended, Error> {
        let reason = "nothing is locked here; name a bucket with Object Lock and --s3-object-lock MODE:DAYS";
        Err(Error::new(Kind::Usage, "lock", key, reason))
    }

    /// Makes deletions in an area last. To be called before something else is deleted or promised that relies on them.
    /// A store whose deletions last at once has nothing to do.
    fn flush(&self, area: Area) -> Result<(), Error> {
        let _ = area;
        Ok(())
    }

    /// Where this is, for messages: a path or a URL without secrets.
    fn location(&self) -> String;

    /// Bytes that can still be written, where the store can tell.
    fn free_bytes(&self) -> Option<u64>;

    /// Keeps a little room for a prune, which has to write before it may delete, where a disk that becomes full would leave it
    /// none. As well as it can: nothing depends on it.
    fn keep_reserve(&self) {}

    /// Gives up what [`keep_reserve`](ObjectStore::keep_reserve) has kept; whether there was any.
    fn give_up_reserve(&self) -> Result<bool, Error> {
        Ok(false)
    }

    /// Removes what is left of uploads whose processes are gone and that were last written to more than `older_than` ago,
    /// where such things lie about; how many.
    fn sweep_uploads(&self, older_than: Duration) -> Result<u64, Error> {
        let _ = older_than;
        Ok(0)
    }

    /// Whether promise 3 holds between machines. A store that only looks before it puts says no; nobody else may be
    /// at work in it then.
    fn puts_are_atomic(&self) -> bool {
        true
    }

    /// Whether each answer comes through a network, so that it is better to wait for many at once.
    fn is_remote(&self) -> bool {
        false
    }

    /// How many large objects are best stored at once: more than one where each waits for a network.
    fn puts_at_once(&self) -> usize {
        1
    }

    /// How many small requests are best under way at once.
    fn requests_at_once(&self) -> usize {
        if self.is_remote() { self.puts_at_once().max(1) * REQUESTS_PER_PUT } else { 1 }
    }

    /// Tells which repository lies here and whether puts were found to be atomic when it was made: a store may label
    /// its objects with the one, and has to be careful without the other.
    fn introduce(&self, repository: RepositoryId, puts_are_atomic: bool) {
        let _ = (repository, puts_are_atomic);
    }

    /// What was asked of the store so far, where that costs something; nothing for a disk.
    fn traffic(&self) -> Traffic {
        Traffic::default()
    }

    /// What is worth knowing of this store beyond the promises, for `store probe`.
    fn peculiarities(&self) -> Vec<Check> {
        Vec::new()
    }
}

impl<S: ObjectStore + ?Sized> ObjectStore for Arc<S> {
    fn put(&self, key: &Key, bytes: &[u8]) -> Result<Put, Error> {
        (**self).put(key, bytes)
    }

    fn begin(&self) -> Result<Box<dyn Upload>, Error> {
        (**self).begin()
    }

    fn replace(&self, key: &Key, bytes: &[u8]) -> Result<(), Error> {
        (**self).replace(key, bytes)
    }

    fn get(&self, key: &Key, limit_bytes: u64) -> Result<Vec<u8>, Error> {
        (**self).get(key, limit_bytes)
    }

    fn get_range(&self, key: &Key, offset: u64, length: usize) -> Result<Vec<u8>, Error> {
        (**self).get_range(key, offset, length)
    }

    fn stream(&self, key: &Key, offset: u64, length: u64, each: &mut dyn FnMut(&[u8]) -> bool) -> Result<(), Error> {
        (**self).stream(key, offset, length, each)
    }

    fn size(&self, key: &Key) -> Result<u64, Error> {
        (**self).size(key)
    }

    fn list(&self, area: Area, each: &mut dyn FnMut(Listed)) -> Result<(), Error> {
        (**self).list(area, each)
    }

    fn list_part(&self, area: Area, from: Option<&str>, each: &mut dyn FnMut(Listed)) -> Result<Option<String>, Error> {
        (**self).list_part(area, from, each)
    }

    fn list_together(&self, areas: &[Area], each: &mut dyn FnMut(Area, Listed)) -> Result<(), Error> {
        (**self).list_together(areas, each)
    }

    fn delete(&self, key: &Key) -> Result<(), Error> {
        (**self).delete(key)
    }

    fn delete_each(&self, keys: &[Key]) -> Vec<Result<(), Error>> {
        (**self).delete_each(keys)
    }

    fn lock_on(&self, key: &Key) -> Result<Option<Locked>, Error> {
        (**self).lock_on(key)
    }

    fn extend_lock(&self, key: &Key) -> Result<Extended, Error> {
        (**self).extend_lock(key)
    }

    fn flush(&self, area: Area) -> Result<(), Error> {
        (**self).flush(area)
    }

    fn location(&self) -> String {
        (**self).location()
    }

    fn free_bytes(&self) -> Option<u64> {
        (**self).free_bytes()
    }

    fn keep_reserve(&self) {
        (**self).keep_reserve();
    }

    fn give_up_reserve(&self) -> Result<bool, Error> {
        (**self).give_up_reserve()
    }

    fn sweep_uploads(&self, older_than: Duration) -> Result<u64, Error> {
        (**self).sweep_uploads(older_than)
    }

    fn puts_are_atomic(&self) -> bool {
        (**self).puts_are_atomic()
    }

    fn is_remote(&self) -> bool {
        (**self).is_remote()
    }

    fn puts_at_once(&self) -> usize {
        (**self).puts_at_once()
    }

    fn introduce(&self, repository: RepositoryId, puts_are_atomic: bool) {
        (**self).introduce(repository, puts_are_atomic);
    }

    fn traffic(&self) -> Traffic {
        (**self).traffic()
    }

    fn peculiarities(&self) -> Vec<Check> {
        (**self).peculiarities()
    }
}

/// What keeps an object that could not be deleted; the failure itself if it is nothing of that sort.
pub fn lock_of(store: &dyn ObjectStore, key: &Key, error: Error) -> Result<Locked, Error> {
    if error.kind() != Kind::Denied {
        return Err(error);
    }
    match store.lock_on(key) {
        Ok(Some(locked)) => Ok(locked),
        // Who may not delete at all may not ask for locks either.
        Ok(None) | Err(_) => Err(error),
    }
}

/// Deletes several objects; one that is locked stays and is no failure. Gives what keeps it, or nothing, for each of them
/// in their order.
pub fn delete_unlocked(store: &dyn ObjectStore, keys: &[Key]) -> Result<Vec<Option<Locked>>, Error> {
    let answers = keys.iter().zip(store.delete_each(keys));
    answers
        .map(|(key, answer)| answer.map_or_else(|error| lock_of(store, key, error).map(Some), |()| Ok(None)))
        .collect()
}

/// A listing as its parts give it, one after the other: `list` of a store that has more than one.
fn list_in_parts(store: &impl ObjectStore, area: Area, each: &mut dyn FnMut(Listed)) -> Result<(), Error> {
    let mut from = None;
    loop {
        from = store.list_part(area, from.as_deref(), each)?;
        if from.is_none() {
            return Ok(());
        }
    }
}

/// A stream as a row of ranges, each of which `get` reads whole.
fn stream_in_pieces(
    get: &mut dyn FnMut(u64, usize) -> Result<Vec<u8>, Error>,
    offset: u64,
    length: u64,
    each: &mut dyn FnMut(&[u8]) -> bool,
) -> Result<(), Error> {
    let mut done = 0;
    while done < length {
        let step = (length - done).min(STREAM_PIECE_BYTES);
        if !each(&get(offset + done, step as usize)?) {
            break;
        }
        done += step;
    }
    Ok(())
}

/// Why an object of `size_bytes` is not brought into memory, if it is not.
fn check_limit(subject: &str, size_bytes: u64, limit_bytes: u64) -> Result<(), Error> {
    if size_bytes <= limit_bytes {
        return Ok(());
    }
    Err(Error::new(
        Kind::Damaged,
        "read",
        subject,
        format_args!("it has {size_bytes} bytes, at most {limit_bytes} can be right"),
    ))
}

/// Why a range cannot be read from an object of `size_bytes`, if it cannot.
fn check_range(subject: &str, size_bytes: u64, offset: u64, length: usize) -> Result<(), Error> {
    let end = offset.checked_add(length as u64);
    if end.is_some_and(|end| end <= size_bytes) {
        return Ok(());
    }
    Err(Error::new(
        Kind::Damaged,
        "read",
        subject,
        format_args!("{length} bytes at {offset} were asked for, but it has only {size_bytes}"),
    ))
}
