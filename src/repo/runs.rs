//! Run records: each operation leaves one behind.

use super::ahead::{each_ahead, each_kept};
use super::error::{Error, Result};
use super::{Readable, Repository};
use crate::base::{Kind, RunId};
use crate::format::cbor::Cbor;
use crate::format::envelope::ObjectKind;
use crate::format::run::Run;
use crate::store::{Area, Key, ObjectStore};

/// Records that are read before it is known whether they are enough; four times as many come next.
const FIRST_RUNS: usize = 8;

/// Stores a run record.
pub fn save(repository: &Repository, run: &Run) -> Result<()> {
    let sealed = repository.keyring().seal(ObjectKind::Run, &run.to_cbor())?;
    repository.store().put(&Key::new(Area::Runs, run.id), &sealed)?;
    Ok(())
}

/// Gives the newest run records by when the store received them, at most `most`, until `each` has seen enough. Those that
/// cannot be read are passed over.
pub fn newest_first(repository: &Repository, most: usize, each: &mut dyn FnMut(Run) -> bool) -> Result<()> {
    let mut listed_runs = Vec::new();
    repository.store().list(Area::Runs, &mut |listed| {
        if let Ok(id) = listed.name.parse::<RunId>() {
            listed_runs.push((std::cmp::Reverse(listed.stored_at), id));
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
            match load(repository, store, key) {
                _ if enough => {}
                Ok(run) => enough = !each(run),
                Err(error) if matches!(error.kind(), Kind::NotFound | Kind::Damaged) => {}
                Err(error) => return Err(error),
            }
            Ok::<(), Error>(())
        })?;
        (left, at_once) = (rest, at_once * 4);
    }
    Ok(())
}

fn load(repository: &Repository, store: &dyn ObjectStore, key: &Key) -> Result<Run> {
    let object = store.get(key, ObjectKind::Run.max_bytes() as u64)?;
    open(repository, key, object)
}

/// All run records in order of their beginning, and those that could not be read.
pub fn list(repository: &Repository) -> Result<Readable<Run, RunId>> {
    let mut keys = Vec::new();
    let is_run = |name: &str| name.parse::<RunId>().is_ok();
    repository.store().list(Area::Runs, &mut |listed| {
        keys.extend(is_run(&listed.name).then(|| Key::new(Area::Runs, &listed.name)));
    })?;
    let mut runs = Vec::new();
    let mut damaged = Vec::new();
    let limit_bytes = ObjectKind::Run.max_bytes() as u64;
    let open = |key: &Key, object| open(repository, key, object);
    each_kept(
        (repository, repository.at_hand().map(|cache| &**cache)),
        Area::Runs,
        &keys,
        limit_bytes,
        open,
        |key, run| {
            match run {
                Ok(run) => runs.push(run),
                Err(error) if error.kind() == Kind::NotFound => {}
                Err(error) if error.kind() == Kind::Damaged => {
                    damaged.extend(key.name().parse().ok().map(|id| (id, error)))
                }
                Err(error) => return Err(error),
            }
            Ok(())
        },
    )?;
    runs.sort_by_key(|run| (run.begun_ns, run.id));
    Ok((runs, damaged))
}

fn open(repository: &Repository, key: &Key, object: Vec<u8>) -> Result<Run> {
    let run: Run = repository.keyring().load(ObjectKind::Run, object, key)?;
    match run.id.to_string() == key.name() {
        true => Ok(run),
        false => Err(Error::damaged(key, "it is the record of another run")),
    }
}
