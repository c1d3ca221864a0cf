//! Run records: each operation leaves one behind.
//!
//! Each names the newest records of its machine before it, by their hashes, and a snapshot names those of the machine
//! that made it. So none of them can be taken away or exchanged unnoticed, save the very newest, which nobody names yet.
//! A machine that runs two things at once has two newest records for a moment; the next one names both. A run that is
//! killed leaves no record and no gap: places are given when a record is stored.

use super::ahead::{each_ahead, each_kept};
use super::error::{Error, Result};
use super::keyring::Writer;
use super::{Readable, Repository, history, remembered};
use crate::base::ids::{from_hex, to_hex};
use crate::base::{Kind, RunId};
use crate::format::cbor::{Cbor, Unknown};
use crate::format::envelope::ObjectKind;
use crate::format::run::{History, MAX_PREVIOUS, Run, RunRef};
use crate::store::{Area, Key, ObjectStore};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Records that are read before it is known whether they are enough; four times as many come next.
const FIRST_RUNS: usize = 8;

/// The file in the folder of local caches that remembers the newest records.
const HEADS_NAME: &str = "newest-runs";
/// The most bytes of it: a line for each.
const HEADS_BYTES: u64 = 16 * 128;
/// So many records are looked at to find the newest of this machine where none are remembered.
const LOOKED_AT: usize = 32;

/// So often what is there is listed while somebody else puts it together.
const LISTINGS: usize = 4;

/// The newest records of this machine: those that no other of its records names as previous.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Heads {
    /// Each with its place in the order.
    newest: Vec<(RunRef, u64)>,
}

impl Heads {
    /// What the next record, or a snapshot, names.
    pub fn references(&self) -> Vec<RunRef> {
        self.newest.iter().map(|(reference, _)| reference.clone()).collect()
    }

    /// The place of the next record.
    fn next(&self) -> u64 {
        self.newest.iter().map(|(_, sequence)| *sequence).max().unwrap_or(0).saturating_add(1)
    }

    /// Takes in a record that follows those that it names.
    fn add(&mut self, run: &Run) {
        let before: Vec<RunId> = run.previous.iter().map(|previous| previous.id).collect();
        self.newest.retain(|(known, _)| known.id != run.id && !before.contains(&known.id));
        self.newest.push((run.reference(), run.sequence));
        // Who starts so many at once is served by the newest of them.
        let excess = self.newest.len().saturating_sub(MAX_PREVIOUS);
        self.newest.drain(..excess);
    }

    /// As lines of a file: id, hash, place.
    fn to_text(&self) -> String {
        let line = |(reference, sequence): &(RunRef, u64)| {
            format!("{} {} {sequence}\n", reference.id, to_hex(&reference.hash))
        };
        self.newest.iter().map(line).collect()
    }

    /// Reads such lines; those that make no sense are passed over.
    fn from_text(text: &str) -> Heads {
        let line = |line: &str| {
            let mut words = line.split(' ');
            let id = words.next()?.parse().ok()?;
            let hash = from_hex(words.next()?)?.try_into().ok()?;
            let sequence = words.next()?.parse().ok()?;
            Some((RunRef { id, hash, unknown: Unknown::none() }, sequence))
        };
        Heads { newest: text.lines().filter_map(line).take(MAX_PREVIOUS).collect() }
    }
}

/// What a repository knows of the newest records of this machine, and where it remembers it.
#[derive(Debug, Default)]
pub struct Remembered {
    known: Mutex<Option<Heads>>,
    folder: Option<PathBuf>,
}

impl Remembered {
    /// Remembers it in `folder`.
    pub fn in_folder(folder: &Path) -> Remembered {
        Remembered { known: Mutex::default(), folder: Some(folder.to_owned()) }
    }

    fn known(&self) -> MutexGuard<'_, Option<Heads>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What the last run on this machine left; none if nothing is remembered.
    pub fn on_disk(&self) -> Option<Heads> {
        let text = remembered::read_text(&self.folder.as_ref()?.join(HEADS_NAME), HEADS_BYTES)?;
        Some(Heads::from_text(&text)).filter(|heads| !heads.newest.is_empty())
    }
}

/// The newest records of this machine. They are remembered on it; where they are not, they are looked for among the
/// newest of all.
pub fn heads(repository: &Repository) -> Result<Heads> {
    let remembered = repository.remembered();
    if let Some(known) = &*remembered.known() {
        return Ok(known.clone());
    }
    let found = match remembered.on_disk() {
        Some(heads) => heads,
        None => find_heads(repository)?,
    };
    Ok(remembered.known().get_or_insert(found).clone())
}

/// Looks for them in the store. One that is not found makes a new beginning, which is no harm.
fn find_heads(repository: &Repository) -> Result<Heads> {
    // A client that may only write cannot open what it left itself: that is a new beginning.
    if repository.keyring().is_write_only() {
        return Ok(Heads::default());
    }
    let mut own = Vec::new();
    newest_first(repository, LOOKED_AT, &mut |run| {
        if run.host == repository.machine().host {
            own.push(run);
        }
        true
    })?;
    own.sort_by_key(|run| run.sequence);
    let mut heads = Heads::default();
    own.iter().for_each(|run| heads.add(run));
    // Those that a record names which was looked at are no heads, in whatever order they came.
    let named: BTreeSet<RunId> = own.iter().flat_map(|run| &run.previous).map(|previous| previous.id).collect();
    heads.newest.retain(|(reference, _)| !named.contains(&reference.id));
    Ok(heads)
}

/// Stores a run record, behind the newest of this machine.
pub fn save(repository: &Repository, run: &mut Run) -> Result<()> {
    let heads = heads(repository)?;
    (run.previous, run.sequence) = (heads.references(), heads.next());
    let sealed = repository.keyring().seal(ObjectKind::Run, &run.to_cbor())?;
    repository.store().put(&Key::new(Area::Runs, run.id), &sealed)?;
    let remembered = repository.remembered();
    // Another process of this machine may have added one of its own meanwhile: then there are two.
    let mut newest = remembered.on_disk().unwrap_or(heads);
    newest.add(run);
    if let Some(folder) = &remembered.folder {
        // Where it cannot be kept the next run looks for it in the store.
        let _ = remembered::write_text(&folder.join(HEADS_NAME), newest.to_text().trim_end());
    }
    *remembered.known() = Some(newest);
    Ok(())
}

/// Gives the newest run records by when the store received them, at most `most`, until `each` has seen enough. Those that
/// cannot be read are passed over; what lies in histories comes last, and of these only the newest is looked at.
pub fn newest_first(repository: &Repository, most: usize, each: &mut dyn FnMut(Run) -> bool) -> Result<()> {
    let (mut listed_runs, mut newest_history) = (Vec::new(), None);
    repository.store().list(Area::Runs, &mut |listed| {
        if let Ok(id) = listed.name.parse::<RunId>() {
            listed_runs.push((std::cmp::Reverse(listed.stored_at), id));
        } else if is_record(&listed.name) {
            newest_history = newest_history.take().max(Some((listed.stored_at, listed.name)));
        }
    })?;
    listed_runs.sort();
    let keys: Vec<Key> = listed_runs.into_iter().take(most).map(|(_, id)| Key::new(Area::Runs, id)).collect();
    let mut enough = false;
    let mut left = &keys[..];
    // What is looked for is mostly found among the first: they are not read with all others.
    let mut at_once = FIRST_RUNS;
    while !left.is_empty() && !enough {
        let (group, rest) = left.split_at(at_once.min(left.len()));
        each_ahead(&**repository.store(), group, ObjectKind::Run.max_bytes() as u64, |store, key| {
            if !enough && let Some(run) = readable(load(repository, store, key))? {
                enough = !each(run);
            }
            Ok::<(), Error>(())
        })?;
        (left, at_once) = (rest, at_once * 4);
    }
    let Some((_, name)) = newest_history.filter(|_| !enough && keys.len() < most) else { return Ok(()) };
    let key = Key::new(Area::Runs, name);
    let object = repository.store().get(&key, ObjectKind::History.max_bytes() as u64).map_err(Error::from);
    let history = readable(object.and_then(|object| history::open(repository, &key, object)))?;
    let mut older = history.into_iter().flat_map(|history| history.runs.into_iter().rev());
    let _ = older.by_ref().take(most - keys.len()).all(each);
    Ok(())
}

/// None for what is gone or damaged.
fn readable<T>(loaded: Result<T>) -> Result<Option<T>> {
    match loaded {
        Ok(one) => Ok(Some(one)),
        Err(error) if matches!(error.kind(), Kind::NotFound | Kind::Damaged | Kind::Unsupported) => Ok(None),
        Err(error) => Err(error),
    }
}

fn load(repository: &Repository, store: &dyn ObjectStore, key: &Key) -> Result<Run> {
    let object = store.get(key, ObjectKind::Run.max_bytes() as u64)?;
    open_run(repository, key, object)
}

/// What was dropped on purpose.
#[derive(Clone, Debug, Default)]
pub struct Dropped {
    /// Records that ended before this.
    pub before_ns: Option<i64>,
    /// Of these, those that are still named.
    pub named: Vec<RunRef>,
}

/// Takes a record, or hears which object cannot be read and why.
type Take<'t> = &'t mut dyn FnMut(Result<Run, (String, Error)>) -> Result<()>;

/// Calls `take` with every run record, each once and in no particular order: those in histories, then those that lie by
/// themselves and are in none. One that cannot be read is told with the name of its object. Gives what was dropped on
/// purpose.
pub fn each(repository: &Repository, take: Take<'_>) -> Result<Dropped> {
    let mut reading = Reading { repository, take, seen: BTreeSet::new(), dropped: Dropped::default() };
    let mut read = BTreeSet::new();
    // A prune may put records together while we read: then what it made of them is looked for once more.
    for _ in 0..LISTINGS {
        let (histories, loose) = list_records(repository, &read)?;
        read.extend(histories.iter().cloned());
        if reading.read(&histories, loose)? == 0 {
            break;
        }
    }
    Ok(reading.dropped)
}

/// Histories that are not in `read`, and records that lie by themselves.
fn list_records(repository: &Repository, read: &BTreeSet<Key>) -> Result<(Vec<Key>, Vec<Key>)> {
    let (mut histories, mut loose) = (Vec::new(), Vec::new());
    repository.store().list(Area::Runs, &mut |listed| {
        if is_record(&listed.name) {
            let key = Key::new(Area::Runs, &listed.name);
            if listed.name.ends_with(history::ENDING) { &mut histories } else { &mut loose }.push(key);
        }
    })?;
    histories.retain(|key| !read.contains(key));
    Ok((histories, loose))
}

struct Reading<'r> {
    repository: &'r Repository,
    take: Take<'r>,
    seen: BTreeSet<RunId>,
    dropped: Dropped,
}

impl Reading<'_> {
    /// Reads these objects as far as their records were not taken before; gives how many went away meanwhile.
    fn read(&mut self, histories: &[Key], mut loose: Vec<Key>) -> Result<u64> {
        let (repository, mut gone) = (self.repository, 0);
        let limit_bytes = ObjectKind::History.max_bytes() as u64;
        each_ahead(&**repository.store(), histories, limit_bytes, |store, key| {
            let object = store.get(key, limit_bytes).map_err(Error::from);
            match object.and_then(|object| history::open(repository, key, object)) {
                Ok(history) => self.take_history(history),
                Err(error) => self.take_error(key, error, &mut gone),
            }
        })?;
        loose.retain(|key| key.name().parse::<RunId>().is_ok_and(|id| !self.seen.contains(&id)));
        let cache = repository.at_hand().map(|cache| &**cache);
        let limit_bytes = ObjectKind::Run.max_bytes() as u64;
        let open = |key: &Key, object| open_run(repository, key, object);
        each_kept((repository, cache), Area::Runs, &loose, limit_bytes, open, |key, run| match run {
            Ok(run) => self.take_run(run),
            Err(error) => self.take_error(key, error, &mut gone),
        })?;
        Ok(gone)
    }

    fn take_history(&mut self, history: History) -> Result<()> {
        self.dropped.before_ns = self.dropped.before_ns.max(history.dropped_before_ns);
        self.dropped.named.extend(history.dropped);
        history.runs.into_iter().try_for_each(|run| self.take_run(run))
    }

    fn take_run(&mut self, run: Run) -> Result<()> {
        if self.seen.insert(run.id) { (self.take)(Ok(run)) } else { Ok(()) }
    }

    fn take_error(&mut self, key: &Key, error: Error, gone: &mut u64) -> Result<()> {
        match error.kind() {
            Kind::NotFound => *gone += 1,
            Kind::Damaged | Kind::Unsupported => (self.take)(Err((key.name().to_owned(), error)))?,
            _ => return Err(error),
        }
        Ok(())
    }
}

/// Whether an object of this name holds records.
fn is_record(name: &str) -> bool {
    name.strip_suffix(history::ENDING).unwrap_or(name).parse::<RunId>().is_ok()
}

/// All run records in order of their beginning, and those that could not be read, by the names of their objects.
pub fn list(repository: &Repository) -> Result<Readable<Run, String>> {
    let (mut runs, mut damaged) = (Vec::new(), Vec::new());
    each(repository, &mut |run| {
        match run {
            Ok(run) => runs.push(run),
            Err(unreadable) => damaged.push(unreadable),
        }
        Ok(())
    })?;
    runs.sort_by_key(|run| (run.begun_ns, run.sequence, run.id));
    Ok((runs, damaged))
}

/// The record of one run; none if there is none.
pub fn find(repository: &Repository, id: RunId) -> Result<Option<Run>> {
    match load(repository, &**repository.store(), &Key::new(Area::Runs, id)) {
        Err(error) if error.kind() == Kind::NotFound => {}
        found => return found.map(Some),
    }
    let mut found = None;
    each(repository, &mut |run| {
        found = found.take().or(run.ok().filter(|run| run.id == id));
        Ok(())
    })?;
    Ok(found)
}

/// Opens the record that lay under `key`.
pub(super) fn open_run(repository: &Repository, key: &Key, object: Vec<u8>) -> Result<Run> {
    let (run, writer): (Run, _) = repository.keyring().load_of(ObjectKind::Run, object, key)?;
    if writer == Writer::Client && !run.unverified {
        return Err(Error::damaged(key, "a client that may only write left it and says that it was another"));
    }
    match run.id.to_string() == key.name() {
        true => Ok(run),
        false => Err(Error::damaged(key, "it is the record of another run")),
    }
}
