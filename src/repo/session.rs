//! Sessions: the mark that whoever works on a repository leaves in it.
//!
//! What protects each pair of operations that run at once (a writer is a backup, a reader a restore or verify):
//!
//! | | writer | reader | pruner |
//! | --- | --- | --- | --- |
//! | **writer** | names are content: both store, dedup wins later | a snapshot is visible only when complete | the writer has listed the condemned records after leaving its mark: what they name it does not rely on; what is condemned after that is not swept while its session is open; a fenced writer cannot commit |
//! | **reader** | | nothing to protect | nothing is swept while a session is open that has not seen the record |
//! | **pruner** | | | records are numbered and put-if-absent: who comes second plans again |
//!
//! A session begins with `sessions/ID`, then lists the condemned records and puts `sessions/ID.seen` with their
//! numbers. A record that has been swept or given up leaves `condemned/NUMBER.done`, so that no number ever comes
//! twice: caches and segments know records by their numbers alone. It says which segments there should be from then
//! on ([`super::index`]). A session ends by committing `snapshots/ID` or with `sessions/ID.end`; a writer needs no right to delete.

use super::Repository;
use super::error::{Error, Result};
use crate::base::{Kind, SegmentId, SessionId, SnapshotId, random};
use crate::format::cbor::{Cbor, Unknown};
use crate::format::envelope::{self, ObjectKind};
use crate::format::session::{Condemned, End, Seen, Session as Stored, SessionKind};
use crate::format::snapshot::Snapshot;
use crate::store::{Area, Key, ObjectStore, Put};
use std::collections::{BTreeMap, BTreeSet};

const SEEN: &str = ".seen";
const END: &str = ".end";

/// A session in your hand: the repository knows that you are at work.
pub struct Session<'r> {
    repository: &'r Repository,
    id: SessionId,
    condemned: BTreeSet<u64>,
    ended: bool,
}

impl<'r> Session<'r> {
    /// Leaves a mark, then looks at the condemned records, in this order.
    pub fn begin(repository: &'r Repository, kind: SessionKind, operation: &str) -> Result<Session<'r>> {
        if kind != SessionKind::Reader {
            repository.check_writable()?;
        }
        let id = SessionId(random::bytes());
        let machine = repository.machine();
        let mark = Stored {
            id,
            kind,
            host: machine.host.clone(),
            process: machine.process,
            boot: machine.boot.clone(),
            process_began: machine.process_began,
            begun_ns: repository.now_ns(),
            program: machine.program.clone(),
            operation: operation.to_owned(),
            unknown: Unknown::none(),
        };
        put_new(repository, &Key::new(Area::Sessions, id), ObjectKind::Session, &mark)?;
        let condemned: BTreeSet<u64> = condemned_numbers(&**repository.store())?;
        let seen = Seen { session: id, records: condemned.iter().copied().collect(), unknown: Unknown::none() };
        put_new(repository, &Key::new(Area::Sessions, format!("{id}{SEEN}")), ObjectKind::Seen, &seen)?;
        Ok(Session { repository, id, condemned, ended: false })
    }

    /// Its name.
    pub fn id(&self) -> SessionId {
        self.id
    }

    /// The numbers of the condemned records that it has seen.
    pub fn condemned(&self) -> &BTreeSet<u64> {
        &self.condemned
    }

    /// Commits the snapshot of this session: from here on it exists. Fails when the session was fenced.
    pub fn commit(mut self, snapshot: &Snapshot) -> Result<()> {
        assert!(snapshot.id == self.id, "a snapshot has the name of its session");
        let sealed = self.repository.keyring().seal(ObjectKind::Snapshot, &snapshot.to_cbor())?;
        self.ended = true;
        match self.repository.store().put(&Key::new(Area::Snapshots, self.id), &sealed)? {
            Put::Stored => Ok(()),
            Put::Existed => Err(Error::Fenced(self.id)),
        }
    }

    /// Ends it without a snapshot.
    pub fn end(mut self) -> Result<()> {
        self.put_end()
    }

    fn put_end(&mut self) -> Result<()> {
        self.ended = true;
        let end = End { session: self.id, at_ns: self.repository.now_ns(), unknown: Unknown::none() };
        put_new(self.repository, &Key::new(Area::Sessions, format!("{}{END}", self.id)), ObjectKind::End, &end)
    }
}

/// A session that is let go without a word (an error, a panic) still tries to say that it has ended; if that fails
/// too, prune finds out that its process is gone.
impl Drop for Session<'_> {
    fn drop(&mut self) {
        if !self.ended {
            let _ = self.put_end();
        }
    }
}

fn put_new(repository: &Repository, key: &Key, kind: ObjectKind, content: &impl Cbor) -> Result<()> {
    let sealed = repository.keyring().seal(kind, &content.to_cbor())?;
    repository.store().put(key, &sealed)?;
    Ok(())
}

/// The most bytes of an object that are read.
fn limit(kind: ObjectKind) -> u64 {
    kind.max_bytes() as u64
}

/// The numbers of the condemned records in the store.
pub fn condemned_numbers(store: &dyn ObjectStore) -> Result<BTreeSet<u64>> {
    list_condemned(store).map(|(open, _)| open)
}

pub use super::index::{condemned_key, load_condemned};
use super::index::{done_key, list_condemned, list_segments};

/// The number of the next condemned record: above all that ever were.
pub fn next_condemned(store: &dyn ObjectStore) -> Result<u64> {
    let (open, closed) = list_condemned(store)?;
    Ok(open.last().max(closed.last()).copied().unwrap_or(0) + 1)
}

/// Stores a condemned record; false if somebody else has taken its number.
pub fn put_condemned(repository: &Repository, record: &Condemned) -> Result<bool> {
    let sealed = repository.keyring().seal(ObjectKind::Condemned, &record.to_cbor())?;
    Ok(repository.store().put(&condemned_key(record.number), &sealed)? == Put::Stored)
}

/// Takes back a condemned record, whether its packs have been swept or are needed after all.
///
/// What it leaves is the roster of the segments that there should be from then on: those that the record keeps and
/// those of the others that are still there. Together they serve the snapshots that it saw: whatever was swept is said
/// again by those kept, and what was not swept is there.
pub fn close_condemned(repository: &Repository, number: u64, by: SessionId) -> Result<()> {
    let store = &**repository.store();
    let (kept, gone, snapshots) = match load_condemned(store, repository.keyring(), number) {
        Ok(record) => {
            let there = list_segments(store)?;
            let (stay, gone) = record.segments.into_iter().partition(|id| there.contains_key(id));
            let stay: Vec<SegmentId> = stay;
            ([record.kept_segments, stay].concat(), gone, record.snapshots)
        }
        // Nobody knows what it named: what is there counts.
        Err(error) if matches!(error.kind(), Kind::Damaged | Kind::Unsupported | Kind::NotFound) => {
            let snapshots = super::snapshots::names(repository)?;
            (list_segments(store)?.into_keys().collect(), Vec::new(), snapshots)
        }
        Err(error) => return Err(error),
    };
    put_done(repository, number, by, snapshots, kept, gone)
}

/// Leaves a roster without a record: `kept` are the segments that serve all `snapshots`, and `gone` those that go.
pub fn put_roster(
    repository: &Repository,
    by: SessionId,
    snapshots: Vec<SnapshotId>,
    kept: Vec<SegmentId>,
    gone: Vec<SegmentId>,
) -> Result<()> {
    let number = next_condemned(&**repository.store())?;
    put_done(repository, number, by, snapshots, kept, gone)
}

fn put_done(
    repository: &Repository,
    number: u64,
    by: SessionId,
    snapshots: Vec<SnapshotId>,
    kept_segments: Vec<SegmentId>,
    segments: Vec<SegmentId>,
) -> Result<()> {
    let at_ns = repository.now_ns();
    let (packs, unknown) = (Vec::new(), Unknown::none());
    let mark = Condemned { number, session: by, at_ns, packs, segments, snapshots, kept_segments, unknown };
    // The mark first: were the record gone before it, its number could come again.
    put_new(repository, &done_key(number), ObjectKind::Condemned, &mark)?;
    let store = &**repository.store();
    store.delete(&condemned_key(number))?;
    let (_, closed) = list_condemned(store)?;
    closed.iter().filter(|old| **old < number).try_for_each(|old| store.delete(&done_key(*old)))?;
    Ok(())
}

/// A session that has neither committed nor ended, as the store shows it.
#[derive(Clone, Debug)]
pub struct OpenSession {
    /// Its mark.
    pub mark: Stored,
    /// The condemned records that it has seen; none if it has not said yet.
    pub seen: Option<BTreeSet<u64>>,
    /// When the store received its mark, nanoseconds since 1970 by the store's clock.
    pub stored_ns: i64,
    /// Whether its process is known to be gone.
    pub dead: bool,
}

/// All sessions that have neither committed, ended nor been fenced.
pub fn open_sessions(repository: &Repository) -> Result<Vec<OpenSession>> {
    let store = &**repository.store();
    let mut marks = BTreeMap::new();
    let mut closed = BTreeSet::new();
    let mut with_seen = BTreeSet::new();
    // Sessions first, then snapshots: a session that commits in between is found among the snapshots.
    store.list(Area::Sessions, &mut |listed| {
        let name = listed.name.as_str();
        if let Some(id) = name.strip_suffix(END).and_then(|id| id.parse::<SessionId>().ok()) {
            closed.insert(id);
        } else if let Some(id) = name.strip_suffix(SEEN).and_then(|id| id.parse::<SessionId>().ok()) {
            with_seen.insert(id);
        } else if let Ok(id) = name.parse::<SessionId>() {
            marks.insert(id, listed.stored_at.as_nanosecond() as i64);
        }
    })?;
    store.list(Area::Snapshots, &mut |listed| closed.extend(listed.name.parse::<SessionId>().ok()))?;
    let mut open = Vec::new();
    for (id, stored_ns) in marks.into_iter().filter(|(id, _)| !closed.contains(id)) {
        if let Some(session) = load_session(repository, id, stored_ns, with_seen.contains(&id))? {
            open.push(session);
        }
    }
    Ok(open)
}

/// A session as its mark says it. One whose mark is damaged is open too: nobody knows who it is, so it counts as
/// living until it is old.
fn load_session(repository: &Repository, id: SessionId, stored_ns: i64, has_seen: bool) -> Result<Option<OpenSession>> {
    let key = Key::new(Area::Sessions, id);
    let mark = match load_mark(repository, id) {
        Ok(mark) => mark,
        Err(error) if error.kind() == Kind::NotFound => return Ok(None),
        Err(error) if is_unreadable(&error) => unknown_session(id, &key),
        Err(error) => return Err(error),
    };
    let seen = match has_seen.then(|| load_seen(repository, id)) {
        None => None,
        Some(Ok(seen)) => Some(seen),
        // What it has seen is not known, so nothing is swept before it ends or is fenced.
        Some(Err(error)) if is_unreadable(&error) || error.kind() == Kind::NotFound => None,
        Some(Err(error)) => return Err(error),
    };
    let dead = repository.machine().knows_dead(&mark.host, &mark.boot, mark.process, mark.process_began);
    Ok(Some(OpenSession { mark, seen, stored_ns, dead }))
}

fn is_unreadable(error: &Error) -> bool {
    matches!(error.kind(), Kind::Damaged | Kind::Unsupported)
}

fn load_mark(repository: &Repository, id: SessionId) -> Result<Stored> {
    let key = Key::new(Area::Sessions, id);
    let object = repository.store().get(&key, limit(ObjectKind::Session))?;
    let mark: Stored = repository.keyring().load(ObjectKind::Session, object, &key)?;
    match mark.id == id {
        true => Ok(mark),
        false => Err(Error::damaged(&key, "it is the mark of another session")),
    }
}

fn load_seen(repository: &Repository, id: SessionId) -> Result<BTreeSet<u64>> {
    let key = Key::new(Area::Sessions, format!("{id}{SEEN}"));
    let object = repository.store().get(&key, limit(ObjectKind::Seen))?;
    let seen: Seen = repository.keyring().load(ObjectKind::Seen, object, &key)?;
    match seen.session == id {
        true => Ok(seen.records.into_iter().collect()),
        false => Err(Error::damaged(&key, "it is what another session has seen")),
    }
}

fn unknown_session(id: SessionId, key: &Key) -> Stored {
    Stored {
        id,
        kind: SessionKind::Writer,
        host: String::new(),
        process: 0,
        boot: String::new(),
        process_began: 0,
        begun_ns: 0,
        program: String::new(),
        operation: format!("a session whose mark {key} is damaged"),
        unknown: Unknown::none(),
    }
}

/// Sessions that have committed, ended or been fenced and whose marks still lie there.
pub fn closed_sessions(store: &dyn ObjectStore) -> Result<BTreeSet<SessionId>> {
    let mut left = BTreeSet::new();
    let mut closed = BTreeSet::new();
    store.list(Area::Sessions, &mut |listed| {
        let (name, ended) = match listed.name.strip_suffix(END) {
            Some(name) => (name, true),
            None => (listed.name.strip_suffix(SEEN).unwrap_or(&listed.name), false),
        };
        if let Ok(id) = name.parse::<SessionId>() {
            left.insert(id);
            if ended {
                closed.insert(id);
            }
        }
    })?;
    store.list(Area::Snapshots, &mut |listed| closed.extend(listed.name.parse::<SessionId>().ok()))?;
    Ok(left.intersection(&closed).copied().collect())
}

/// Takes away what finished sessions left: prune's work, since writers may not delete.
pub fn clear_session(store: &dyn ObjectStore, id: SessionId) -> Result<()> {
    // The mark last: while it is there the others still say that it is closed.
    store.delete(&Key::new(Area::Sessions, format!("{id}{SEEN}")))?;
    store.delete(&Key::new(Area::Sessions, id))?;
    store.delete(&Key::new(Area::Sessions, format!("{id}{END}")))?;
    Ok(())
}

/// Whether the process of a session is known to be gone. False when its mark cannot tell.
pub fn is_gone(repository: &Repository, id: SessionId) -> Result<bool> {
    match load_mark(repository, id) {
        Ok(mark) => Ok(repository.machine().knows_dead(&mark.host, &mark.boot, mark.process, mark.process_began)),
        Err(error) if is_unreadable(&error) || error.kind() == Kind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

/// Whether a tombstone lies where the session's snapshot would.
pub fn is_fenced(repository: &Repository, id: SessionId) -> Result<bool> {
    let key = Key::new(Area::Snapshots, id);
    let there = match repository.store().get(&key, limit(ObjectKind::Snapshot)) {
        Err(error) if error.kind() == Kind::NotFound => return Ok(false),
        other => other?,
    };
    let header = envelope::peek_any(&there, "snapshot").map_err(Error::object(&key))?;
    Ok(header.kind == ObjectKind::Tombstone)
}

/// Ends a dead session for ever: puts a tombstone where its snapshot would come. False if its snapshot was quicker.
pub fn fence(repository: &Repository, id: SessionId, by: SessionId) -> Result<bool> {
    let tombstone = crate::format::snapshot::Tombstone {
        session: id,
        fenced_by: by,
        at_ns: repository.now_ns(),
        unknown: Unknown::none(),
    };
    let sealed = repository.keyring().seal(ObjectKind::Tombstone, &tombstone.to_cbor())?;
    let key = Key::new(Area::Snapshots, id);
    match repository.store().put(&key, &sealed)? {
        Put::Stored => Ok(true),
        Put::Existed => {
            let there = repository.store().get(&key, limit(ObjectKind::Snapshot))?;
            let header = envelope::peek_any(&there, "snapshot").map_err(Error::object(&key))?;
            Ok(header.kind == ObjectKind::Tombstone)
        }
    }
}
