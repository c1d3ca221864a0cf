//! Which snapshots the sources are compared with.

use super::super::{Context, Error, Result};
use super::imported::Before;
use super::sources::{Sources, places};
use super::{Options, Parent};
use crate::base::{BlobId, SnapshotId};
use crate::crypto::names::fold_digits;
use crate::format::snapshot::Snapshot;
use crate::repo::snapshots::{self, Found as Stored};
use std::os::unix::ffi::OsStrExt;
use std::sync::Arc;

/// The parent, as far as a backup needs it.
#[derive(Clone)]
pub struct Found {
    /// Its name.
    pub id: SnapshotId,
    /// The tree of its `/`.
    pub root: BlobId,
    /// When its scan began.
    pub begun_ns: i64,
    /// What it knew of dumps among its files.
    pub imported: Arc<Before>,
}

/// Where a database or a command lay in an earlier snapshot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    /// The tree of the snapshot's `/`.
    pub root: BlobId,
    /// The place beneath it.
    pub path: Vec<u8>,
}

/// What the sources are compared with.
#[derive(Default)]
pub struct Past {
    /// The parent; none if there is none or none is wanted.
    pub parent: Option<Found>,
    /// Where each database and command lay last. It need not be in the parent: one that failed last night lies in the
    /// snapshot of the night before.
    pub seen: Vec<Option<Seen>>,
}

impl From<&Snapshot> for Found {
    fn from(snapshot: &Snapshot) -> Found {
        let imported = Arc::new(Before::of(snapshot));
        Found { id: snapshot.id, root: snapshot.root, begun_ns: snapshot.begun_ns, imported }
    }
}

impl Past {
    /// Nothing to compare with.
    pub fn none(sources: &Sources) -> Past {
        Past { parent: None, seen: vec![None; sources.fed.len()] }
    }

    /// Finds what the sources are compared with among the `snapshots` that can be counted on, oldest first.
    pub fn find(context: &Context, options: &Options, sources: &Sources, snapshots: &[Snapshot]) -> Result<Past> {
        match options.parent {
            Parent::None => Ok(Past::none(sources)),
            Parent::Given(id) => match snapshots::load(&context.repository, id)? {
                Stored::Snapshot(given) if snapshots.iter().all(|counted| counted.id != given.id) => {
                    Ok(Past::none(sources))
                }
                Stored::Snapshot(snapshot) => {
                    Ok(Past { parent: Some(Found::from(&*snapshot)), seen: seen(&[&snapshot], sources) })
                }
                Stored::Tombstone | Stored::Gone => Err(Error::NotFound(format!("there is no snapshot {id}"))),
            },
            Parent::Newest => {
                let host = options.host.as_ref().unwrap_or(&context.repository.machine().host);
                let of_host: Vec<_> = snapshots.iter().filter(|snapshot| snapshot.host == *host).collect();
                Ok(Past { parent: newest(&of_host, sources), seen: seen(&of_host, sources) })
            }
        }
    }
}

/// The newest of the same paths.
fn newest(of_host: &[&Snapshot], sources: &Sources) -> Option<Found> {
    let wanted = sorted(places(sources).iter().map(|path| path.as_os_str().as_bytes().to_vec()));
    let paths = |snapshot: &Snapshot| sorted(snapshot.paths.iter().map(|path| path.0.clone()));
    let same = of_host.iter().rev().copied().find(|snapshot| paths(snapshot) == wanted);
    // A dump often carries the date in its name: then the parent helps to find bases.
    let folded = |paths: &[Vec<u8>]| sorted(paths.iter().map(|path| fold_digits(path)));
    let alike = || of_host.iter().rev().copied().find(|snapshot| folded(&paths(snapshot)) == folded(&wanted));
    same.or_else(alike).map(Found::from)
}

/// Where each database and command lay last.
fn seen(of_host: &[&Snapshot], sources: &Sources) -> Vec<Option<Seen>> {
    let last_at = |place: &[u8], same: &dyn Fn(&[u8]) -> bool| {
        let fits = |path: &&[u8]| same(path) && depth(path) == depth(place);
        let mut newest = of_host.iter().rev().copied();
        newest.find_map(|snapshot| Some((snapshot, held(snapshot).find(fits)?)))
    };
    let seen = sources.fed.iter().map(|fed| {
        let place = fed.place();
        let exact = last_at(&place, &|path| path == place);
        let found = exact.or_else(|| last_at(&place, &|path| fold_digits(path) == fold_digits(&place)));
        found.map(|(snapshot, path)| Seen { root: snapshot.root, path: path.to_vec() })
    });
    seen.collect()
}

fn depth(path: &[u8]) -> usize {
    path.iter().filter(|byte| **byte == b'/').count()
}

/// Places of databases and commands that are in a snapshot.
fn held(snapshot: &Snapshot) -> impl Iterator<Item = &[u8]> {
    let ended_well = snapshot.streams.iter().filter(|stream| stream.kind != "command" || stream.status == Some(0));
    let dumps = snapshot.dumps.iter().map(|dump| dump.path.0.as_slice());
    dumps.chain(ended_well.map(|stream| stream.path.0.as_slice()))
}

fn sorted(paths: impl Iterator<Item = Vec<u8>>) -> Vec<Vec<u8>> {
    let mut paths: Vec<Vec<u8>> = paths.collect();
    paths.sort();
    // A snapshot of an earlier version has a path as often as it was named.
    paths.dedup();
    paths
}
