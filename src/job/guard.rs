//! What keeps a night from letting snapshots go although its backup lacks nothing: that what it backs up is suddenly empty,
//! as a disk is that is not mounted, or that two machines pass for one. A policy would let go what is good in both cases.

use super::error::{Error, Result};
use crate::format::snapshot::Snapshot;
use crate::ops::{self, Context, browse};
use std::collections::HashSet;

/// How often snapshots go back to paths that others have replaced, until they are taken for those of two machines. Once is
/// a change of the config that somebody has taken back.
const RETURNS: usize = 2;

/// Refuses if `ours`, the snapshots that a policy would look at, in any order, show one of the two. `fresh` was made a
/// moment ago.
pub fn check(context: &Context, fresh: &Snapshot, mut ours: Vec<Snapshot>) -> Result<()> {
    ours.sort_by_key(|snapshot| (snapshot.received_ns, snapshot.id));
    let paths: Vec<Vec<&[u8]>> =
        ours.iter().map(|one| one.paths.iter().map(|path| path.0.as_slice()).collect()).collect();
    if let Some(other) = other_series(&paths) {
        let shown =
            |paths: &[&[u8]]| paths.iter().map(|path| String::from_utf8_lossy(path)).collect::<Vec<_>>().join(", ");
        let (host, mine) = (&fresh.host, fresh.paths.iter().map(|path| path.0.as_slice()).collect::<Vec<_>>());
        return Err(refused(format!(
            "snapshots of host {host} and this profile go to and fro between {} and {}, as if two machines had one name: give \
             one of them another `host` in its profile, or let those go by hand that are no longer wanted. Nothing was removed",
            shown(&mine),
            shown(if *other == mine { &paths[paths.len() - 2] } else { other })
        )));
    }
    for path in &fresh.paths {
        if let Some(full) = emptied(context, fresh, &path.0, &ours)? {
            let path = String::from_utf8_lossy(&path.0);
            return Err(refused(format!(
                "{path} is empty, and was not in snapshot {}: is it mounted? As long as such snapshots are there nothing is \
                 removed; if it is meant, take the path out of the profile, or let them go by hand: `keepstone forget {}`",
                full.id.short(),
                full.id.short()
            )));
        }
    }
    Ok(())
}

fn refused(message: String) -> Error {
    Error::Ops(ops::Error::Refused(message))
}

/// The newest of `ours` in which `path` holds something, if it holds nothing in `fresh`.
fn emptied<'s>(context: &Context, fresh: &Snapshot, path: &[u8], ours: &'s [Snapshot]) -> Result<Option<&'s Snapshot>> {
    if !is_empty(context, fresh, path)? {
        return Ok(None);
    }
    for older in ours.iter().rev().filter(|older| older.id != fresh.id && older.paths.iter().any(|one| one.0 == path)) {
        if !is_empty(context, older, path)? {
            return Ok(Some(older));
        }
    }
    Ok(None)
}

/// Also where the path is not there at all.
fn is_empty(context: &Context, snapshot: &Snapshot, path: &[u8]) -> Result<bool> {
    match browse::is_empty(context, snapshot, path) {
        Err(ops::Error::NotFound(_)) => Ok(true),
        found => Ok(found?),
    }
}

/// The paths that others go back to again and again, the oldest first.
fn other_series<P: Eq + std::hash::Hash>(paths: &[P]) -> Option<&P> {
    let mut seen = HashSet::new();
    let mut returns = 0;
    for (before, now) in paths.iter().zip(paths.iter().skip(1)) {
        seen.insert(before);
        if before != now && seen.contains(now) {
            returns += 1;
            if returns == RETURNS {
                return Some(before);
            }
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_series_are_told_from_one_whose_paths_change() {
        let other = |series: &str| other_series(&series.chars().collect::<Vec<_>>()).copied();
        assert_eq!(other(""), None);
        assert_eq!(other("AAAABBBCCD"), None, "a config that changes");
        assert_eq!(other("AAABBAAAA"), None, "a change that is taken back");
        assert_eq!(other("ABAB"), Some('A'));
        assert_eq!(other("AABBBAABB"), Some('A'));
    }
}
