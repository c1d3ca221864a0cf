//! What run records tell of snapshots: which were stored, and which were removed on purpose. A snapshot that somebody
//! deletes from the store is in no listing, and nothing else misses it.

use crate::base::clock::Timestamp;
use crate::base::{SessionId, SnapshotId};
use crate::format::run::{Outcome, Run};
use std::collections::{BTreeMap, BTreeSet};

/// How many are named one by one.
const MOST_NAMED: usize = 10;

/// What records tell.
#[derive(Default)]
pub(super) struct Told {
    stored: BTreeMap<SnapshotId, String>,
    removed: BTreeSet<SnapshotId>,
}

impl Told {
    /// Takes a record. What nobody vouches for counts for nothing.
    pub(super) fn take(&mut self, run: &Run) {
        match run.operation.as_str() {
            _ if run.unverified => {}
            "backup" | "copy" if matches!(run.outcome, Outcome::Done | Outcome::Partial) => {
                let ended = Timestamp::from_nanosecond(i128::from(run.ended_ns)).unwrap_or(Timestamp::UNIX_EPOCH);
                let what = format!("a {} on {} stored at {ended:.0}", run.operation, run.host);
                self.stored.extend(run.snapshots.iter().map(|id| (*id, what.clone())));
            }
            "forget" | "tag" => self.removed.extend(&run.snapshots),
            _ => {}
        }
    }

    /// Those that were stored, are not `there` and were removed by nobody who tells of it.
    pub(super) fn gone<'t>(&'t self, there: &'t BTreeSet<SessionId>) -> impl Iterator<Item = SnapshotId> + 't {
        self.stored.keys().filter(|id| !there.contains(id) && !self.removed.contains(id)).copied()
    }

    /// Notes on those that were stored, are not `there` and were removed by nobody who tells of it.
    pub(super) fn missing(&self, there: &BTreeSet<SessionId>) -> Vec<String> {
        let mut notes: Vec<String> = self
            .gone(there)
            .map(|id| {
                let what = &self.stored[&id];
                format!(
                    "snapshot {} is gone, which {what}, and no record tells who removed it: put its object back from a mirror. \
                     `prune` deletes nothing until then, or until it is told that it was meant to go (--forget-gone)",
                    id.short()
                )
            })
            .collect();
        let rest = notes.len().saturating_sub(MOST_NAMED);
        notes.truncate(MOST_NAMED);
        notes.extend((rest > 0).then(|| format!("{rest} more snapshots are gone in the same way")));
        notes
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::RunId;
    use crate::format::cbor::Unknown;

    fn run(operation: &str, outcome: Outcome, snapshots: &[u8], unverified: bool) -> Run {
        Run {
            id: RunId([0; 16]),
            operation: operation.to_owned(),
            begun_ns: 0,
            ended_ns: 0,
            host: "web1".to_owned(),
            program: String::new(),
            outcome,
            session: None,
            snapshots: snapshots.iter().map(|byte| SessionId([*byte; 16])).collect(),
            figures: Vec::new(),
            problems: Vec::new(),
            previous: Vec::new(),
            slot: None,
            sequence: 0,
            ledger: None,
            unverified,
            profile: None,
            by: None,
            phases: Vec::new(),
            tables: Vec::new(),
            unknown: Unknown::none(),
        }
    }

    #[test]
    fn what_was_stored_and_is_gone_is_told_unless_somebody_says_that_he_removed_it() {
        let mut told = Told::default();
        for one in [
            run("backup", Outcome::Done, &[1], false),
            run("backup", Outcome::Partial, &[2], false),
            run("copy", Outcome::Done, &[3, 4], false),
            run("forget", Outcome::Done, &[3], false),
            run("tag", Outcome::Done, &[4, 5], false),
            run("backup", Outcome::Failed, &[6], false),
            run("verify", Outcome::Done, &[7], false),
            run("backup", Outcome::Done, &[8], true),
        ] {
            told.take(&one);
        }
        let missing = told.missing(&BTreeSet::from([SessionId([1; 16])]));
        assert_eq!(missing.len(), 1, "{missing:?}");
        assert!(
            missing[0].starts_with("snapshot 02020202 is gone, which a backup on web1 stored at 1970"),
            "{missing:?}"
        );
        assert_eq!(told.missing(&BTreeSet::from([1, 2].map(|byte| SessionId([byte; 16])))), Vec::<String>::new());
    }
}
