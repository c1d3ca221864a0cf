//! Run records: each operation leaves one behind.

use super::error::{Error, Result};
use super::{Readable, Repository};
use crate::base::{Kind, RunId};
use crate::format::cbor::Cbor;
use crate::format::envelope::ObjectKind;
use crate::format::run::Run;
use crate::store::{Area, Key};

/// Stores a run record.
pub fn save(repository: &Repository, run: &Run) -> Result<()> {
    let sealed = repository.keyring().seal(ObjectKind::Run, &run.to_cbor())?;
    repository.store().put(&Key::new(Area::Runs, run.id), &sealed)?;
    Ok(())
}

/// All run records in order of their beginning, and those that could not be read.
pub fn list(repository: &Repository) -> Result<Readable<Run, RunId>> {
    let mut ids = Vec::new();
    repository.store().list(Area::Runs, &mut |listed| ids.extend(listed.name.parse::<RunId>().ok()))?;
    let mut runs = Vec::new();
    let mut damaged = Vec::new();
    for id in ids {
        let key = Key::new(Area::Runs, id);
        let loaded = repository
            .store()
            .get(&key, ObjectKind::Run.max_bytes() as u64)
            .map_err(Error::from)
            .and_then(|object| repository.keyring().load::<Run>(ObjectKind::Run, object, &key));
        match loaded {
            Ok(run) if run.id == id => runs.push(run),
            Ok(_) => damaged.push((id, Error::damaged(&key, "it is the record of another run"))),
            Err(error) if error.kind() == Kind::NotFound => {}
            Err(error) if error.kind() == Kind::Damaged => damaged.push((id, error)),
            Err(error) => return Err(error),
        }
    }
    runs.sort_by_key(|run| (run.begun_ns, run.id));
    Ok((runs, damaged))
}
