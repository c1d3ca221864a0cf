//! Which snapshot the sources are compared with.

use super::super::{Context, Error, Result};
use super::{Options, Parent, Source, places};
use crate::base::{BlobId, SnapshotId};
use crate::crypto::names::fold_digits;
use crate::format::snapshot::Snapshot;
use crate::repo::snapshots::{self, Found as Stored};
use std::os::unix::ffi::OsStrExt;

/// The parent, as far as a backup needs it.
pub struct Found {
    /// Its name.
    pub id: SnapshotId,
    /// The tree of its `/`.
    pub root: BlobId,
    /// When its scan began.
    pub begun_ns: i64,
}

impl From<&Snapshot> for Found {
    fn from(snapshot: &Snapshot) -> Found {
        Found { id: snapshot.id, root: snapshot.root, begun_ns: snapshot.begun_ns }
    }
}

/// Finds the parent among all `snapshots`, oldest first; none if there is none or none is wanted.
pub fn find(context: &Context, options: &Options, sources: &[Source], snapshots: &[Snapshot]) -> Result<Option<Found>> {
    match options.parent {
        Parent::None => Ok(None),
        Parent::Given(id) => match snapshots::load(&context.repository, id)? {
            Stored::Snapshot(snapshot) => Ok(Some(Found::from(&*snapshot))),
            Stored::Tombstone | Stored::Gone => Err(Error::NotFound(format!("there is no snapshot {id}"))),
        },
        Parent::Newest => Ok(newest(context, options, sources, snapshots)),
    }
}

fn newest(context: &Context, options: &Options, sources: &[Source], snapshots: &[Snapshot]) -> Option<Found> {
    let host = options.host.as_ref().unwrap_or(&context.repository.machine().host);
    let wanted = sorted(places(sources).iter().map(|path| path.as_os_str().as_bytes().to_vec()));
    let of_host = || snapshots.iter().rev().filter(|snapshot| snapshot.host == *host);
    let paths = |snapshot: &Snapshot| sorted(snapshot.paths.iter().map(|path| path.0.clone()));
    let same = of_host().find(|snapshot| paths(snapshot) == wanted);
    // A dump often carries the date in its name: then the parent helps to find bases.
    let folded = |paths: &[Vec<u8>]| sorted(paths.iter().map(|path| fold_digits(path)));
    let alike = || of_host().find(|snapshot| folded(&paths(snapshot)) == folded(&wanted));
    same.or_else(alike).map(Found::from)
}

fn sorted(paths: impl Iterator<Item = Vec<u8>>) -> Vec<Vec<u8>> {
    let mut paths: Vec<Vec<u8>> = paths.collect();
    paths.sort();
    paths
}
