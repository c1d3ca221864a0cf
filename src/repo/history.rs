//! Histories: older run records, whole, a few thousand to an object, so that years of nights are read with a few requests.
//!
//! | after | there is |
//! | --- | --- |
//! | a history is stored and read back | its records twice, in it and by themselves: readers take each once |
//! | some records that it holds are deleted | the rest twice |
//! | all of them, flushed | its records once |
//!
//! Records stay what they are, so their hashes stay, and what names them finds them. Two that merge at once store some
//! records twice; the next merge puts histories together and each record is there once. The newest records always lie by
//! themselves. Who may not delete can merge all the same: what a history holds is not read a second time.

use super::error::{Error, Result};
use super::runs::{self, Dropped};
use super::{Repository, snapshots};
use crate::base::{Kind, RunId, random};
use crate::format::cbor::{Cbor, Unknown};
use crate::format::envelope::ObjectKind;
use crate::format::run::{History, Run, RunRef};
use crate::store::{self, Area, Key, ObjectStore};
use std::collections::{BTreeMap, BTreeSet};

/// What the name of a history ends with.
pub const ENDING: &str = ".history";
/// So many of the newest records lie by themselves.
const LOOSE: usize = 64;
/// Nothing is merged before there are so many more.
const BATCH: usize = 64;
/// A history is closed when its records have so many bytes.
const HISTORY_BYTES: usize = 4 << 20;
/// One with less is merged with others like it, when there are so many of them.
const SMALL_BYTES: u64 = 1 << 20;
const SMALL_AT_ONCE: usize = 8;

/// How to merge.
#[derive(Clone, Copy, Debug, Default)]
pub struct Options {
    /// What is merged is deleted.
    pub delete: bool,
    /// Records that ended before this are dropped, nanoseconds since 1970.
    pub drop_before_ns: Option<i64>,
}

/// What was merged.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Merged {
    /// Records that lay by themselves.
    pub runs: u64,
    /// Histories that were stored.
    pub histories: u64,
    /// Records that were dropped because they are old.
    pub dropped: u64,
}

fn history_key(id: RunId) -> Key {
    Key::new(Area::Runs, format!("{id}{ENDING}"))
}

/// Opens the history that lay under `key`.
pub fn open(repository: &Repository, key: &Key, object: Vec<u8>) -> Result<History> {
    let history: History = repository.keyring().load(ObjectKind::History, object, key)?;
    match history_key(history.id) == *key {
        true => Ok(history),
        false => Err(Error::damaged(key, "it is a history of another name")),
    }
}

fn load(repository: &Repository, key: &Key) -> Result<Option<History>> {
    let object = repository.store().get(key, ObjectKind::History.max_bytes() as u64).map_err(Error::from);
    match object.and_then(|object| open(repository, key, object)) {
        Ok(history) => Ok(Some(history)),
        // One that cannot be read stays as it is.
        Err(error) if matches!(error.kind(), Kind::NotFound | Kind::Damaged | Kind::Unsupported) => Ok(None),
        Err(error) => Err(error),
    }
}

/// What lies in the area: records by themselves, the oldest first, and histories with their sizes.
struct Listing {
    loose: Vec<RunId>,
    histories: Vec<(Key, u64)>,
}

fn list(repository: &Repository) -> Result<Listing> {
    let (mut loose, mut histories) = (Vec::new(), Vec::new());
    repository.store().list(Area::Runs, &mut |listed| {
        if let Ok(id) = listed.name.parse::<RunId>() {
            loose.push((listed.stored_at, id));
        } else if listed.name.strip_suffix(ENDING).is_some_and(|id| id.parse::<RunId>().is_ok()) {
            histories.push((Key::new(Area::Runs, &listed.name), listed.size_bytes));
        }
    })?;
    loose.sort_unstable();
    histories.sort();
    Ok(Listing { loose: loose.into_iter().map(|(_, id)| id).collect(), histories })
}

/// Merges what lies there by itself, if there is enough of it, and drops what is too old.
pub fn merge(repository: &Repository, options: &Options) -> Result<Merged> {
    let mut merged = Merged::default();
    let Listing { loose, mut histories } = list(repository)?;
    if loose.len() >= LOOSE + BATCH {
        // Another may have merged them and not be allowed to delete, or have been stopped before.
        let mut held = BTreeSet::new();
        for (key, _) in &histories {
            held.extend(load(repository, key)?.into_iter().flat_map(|history| history.runs).map(|run| run.id));
        }
        merge_loose(repository, options, &loose[..loose.len() - LOOSE], &held, &mut merged)?;
    }
    if options.delete {
        histories.retain(|(_, size_bytes)| *size_bytes < SMALL_BYTES);
        if histories.len() >= SMALL_AT_ONCE {
            merge_small(repository, &histories, &mut merged)?;
        }
        if let Some(before_ns) = options.drop_before_ns {
            drop_old(repository, before_ns, &mut merged)?;
        }
        repository.store().flush(Area::Runs)?;
    }
    Ok(merged)
}

/// Merges records that lie by themselves; those that `held` names are only deleted.
fn merge_loose(
    repository: &Repository,
    options: &Options,
    loose: &[RunId],
    held: &BTreeSet<RunId>,
    merged: &mut Merged,
) -> Result<()> {
    let store = &**repository.store();
    let mut writer = Writer::new(repository);
    let mut done: Vec<RunId> = loose.iter().filter(|id| held.contains(*id)).copied().collect();
    let keys: Vec<Key> = loose.iter().filter(|id| !held.contains(*id)).map(|id| Key::new(Area::Runs, id)).collect();
    // A few more wait for others: many small histories would be read as slowly as the records.
    let keys = if keys.len() < BATCH { Vec::new() } else { keys };
    let limit_bytes = ObjectKind::Run.max_bytes() as u64;
    super::ahead::each_ahead(store, &keys, limit_bytes, |store, key| {
        let object = store.get(key, limit_bytes).map_err(Error::from);
        match object.and_then(|object| runs::open_run(repository, key, object)) {
            Ok(run) => {
                done.push(run.id);
                merged.runs += 1;
                writer.add(run)
            }
            // Gone meanwhile, or to be looked at by somebody.
            Err(error) if matches!(error.kind(), Kind::NotFound | Kind::Damaged | Kind::Unsupported) => Ok(()),
            Err(error) => Err(error),
        }
    })?;
    merged.histories += writer.finish()?.histories;
    if options.delete {
        delete(store, done.iter().map(|id| Key::new(Area::Runs, id)))?;
    }
    Ok(())
}

/// Puts small histories together.
fn merge_small(repository: &Repository, small: &[(Key, u64)], merged: &mut Merged) -> Result<()> {
    let mut writer = Writer::new(repository);
    let (mut seen, mut done) = (BTreeSet::new(), Vec::new());
    for (key, _) in small {
        let Some(history) = load(repository, key)? else { continue };
        writer.take_dropped(&history);
        history.runs.into_iter().filter(|run| seen.insert(run.id)).try_for_each(|run| writer.add(run))?;
        done.push(key);
    }
    merged.histories += writer.finish()?.histories;
    delete(&**repository.store(), done.into_iter().cloned())
}

/// Drops records from histories that ended before a time. Which of them are still named is written down first.
fn drop_old(repository: &Repository, before_ns: i64, merged: &mut Merged) -> Result<()> {
    let (mut old, mut named) = (BTreeMap::new(), BTreeSet::new());
    let Dropped { named: dropped, .. } = runs::each(repository, &mut |run| {
        let Ok(run) = run else { return Ok(()) };
        match run.ended_ns < before_ns {
            true => drop(old.insert(run.id, run.reference().hash)),
            false => named.extend(run.previous.iter().map(|previous| previous.id)),
        }
        Ok(())
    })?;
    for snapshot in snapshots::list(repository)?.0 {
        named.extend(snapshot.log.iter().map(|reference| reference.id));
    }
    old.extend(dropped.into_iter().map(|reference| (reference.id, reference.hash)));
    let still_named: Vec<RunRef> = old
        .iter()
        .filter(|(id, _)| named.contains(*id))
        .map(|(id, hash)| RunRef { id: *id, hash: *hash, unknown: Unknown::none() })
        .collect();
    for (key, _) in list(repository)?.histories {
        let Some(history) = load(repository, &key)? else { continue };
        let count = history.runs.len();
        if history.runs.iter().all(|run| run.ended_ns >= before_ns) {
            continue;
        }
        let mut writer = Writer::new(repository);
        writer.dropped_before_ns = Some(before_ns).max(history.dropped_before_ns);
        writer.dropped = still_named.iter().map(|reference| (reference.id, reference.hash)).collect();
        let kept: Vec<Run> = history.runs.into_iter().filter(|run| run.ended_ns >= before_ns).collect();
        merged.dropped += (count - kept.len()) as u64;
        kept.into_iter().try_for_each(|run| writer.add(run))?;
        merged.histories += writer.finish()?.histories;
        delete(&**repository.store(), [key])?;
    }
    Ok(())
}

/// Takes away what is said elsewhere by now. What is locked says it twice.
fn delete(store: &dyn ObjectStore, keys: impl IntoIterator<Item = Key>) -> Result<()> {
    store::delete_unlocked(store, &keys.into_iter().collect::<Vec<_>>())?;
    Ok(())
}

/// Fills histories.
struct Writer<'r> {
    repository: &'r Repository,
    runs: Vec<Run>,
    bytes: usize,
    dropped_before_ns: Option<i64>,
    dropped: BTreeMap<RunId, [u8; 32]>,
    histories: u64,
}

impl<'r> Writer<'r> {
    fn new(repository: &'r Repository) -> Writer<'r> {
        Writer {
            repository,
            runs: Vec::new(),
            bytes: 0,
            dropped_before_ns: None,
            dropped: BTreeMap::new(),
            histories: 0,
        }
    }

    fn take_dropped(&mut self, history: &History) {
        self.dropped_before_ns = self.dropped_before_ns.max(history.dropped_before_ns);
        self.dropped.extend(history.dropped.iter().map(|reference| (reference.id, reference.hash)));
    }

    fn add(&mut self, run: Run) -> Result<()> {
        self.bytes += run.to_cbor().len();
        self.runs.push(run);
        if self.bytes < HISTORY_BYTES { Ok(()) } else { self.put() }
    }

    /// Stores a history, and reads it back: what it holds will lie nowhere else.
    fn put(&mut self) -> Result<()> {
        let id = RunId(random::bytes());
        let mut runs = std::mem::take(&mut self.runs);
        runs.sort_by_key(|run| (run.begun_ns, run.sequence, run.id));
        let dropped = std::mem::take(&mut self.dropped);
        let dropped = dropped.into_iter().map(|(id, hash)| RunRef { id, hash, unknown: Unknown::none() }).collect();
        let history = History {
            id,
            made_ns: self.repository.now_ns(),
            runs,
            dropped_before_ns: self.dropped_before_ns.take(),
            dropped,
            unknown: Unknown::none(),
        };
        self.bytes = 0;
        let key = history_key(id);
        let sealed = self.repository.keyring().seal(ObjectKind::History, &history.to_cbor())?;
        self.repository.store().put(&key, &sealed)?;
        if self.repository.store().get(&key, sealed.len() as u64)? != sealed {
            return Err(Error::damaged(&key, "what was read back is not what was written: nothing was deleted"));
        }
        self.histories += 1;
        Ok(())
    }

    fn finish(mut self) -> Result<Writer<'r>> {
        if !self.runs.is_empty() || self.dropped_before_ns.is_some() {
            self.put()?;
        }
        Ok(self)
    }
}
