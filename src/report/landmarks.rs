//! The newest snapshots of a profile that are complete, that are known to be readable, and that were brought back.

use crate::history::{Entry, Outcome, Phase, figure};

/// When they were begun, in nanoseconds since 1970; none where there is none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Landmarks {
    /// The newest night, however it ended.
    pub run: Option<i64>,
    /// The newest complete snapshot.
    pub complete: Option<i64>,
    /// The newest complete snapshot that was read back whole.
    pub verified: Option<i64>,
    /// The newest complete snapshot that came back in a drill.
    pub drilled: Option<i64>,
}

impl Landmarks {
    /// Those among the entries of one profile, which are given oldest first. Where `reads_snapshots`, a verification reads
    /// new snapshots whole; otherwise it reads parts of the repository, and no snapshot counts as read.
    pub fn of(entries: &[Entry], reads_snapshots: bool) -> Landmarks {
        let mut marks = Landmarks::default();
        for entry in entries.iter().filter(|entry| entry.outcome != Outcome::Running) {
            if entry.is_night() {
                marks.run = Some(entry.begun_ns);
            }
            if entry.is_complete() {
                marks.complete = Some(entry.begun_ns);
            }
            // A run reads back and tries the newest complete snapshot, its own or an earlier one.
            if reads_snapshots && did(entry, "verify") {
                marks.verified = marks.complete;
            }
            if is_back(entry) {
                marks.drilled = marks.complete;
            }
        }
        marks
    }

    /// The newest snapshot that is known to come back, as far as the profile looks: a complete one where nothing reads
    /// snapshots, else one that was read or brought back.
    pub fn safe(&self, reads_snapshots: bool) -> Option<i64> {
        if reads_snapshots { self.verified.max(self.drilled) } else { self.complete }
    }
}

/// Drills that bring back more than a single table.
const DRILLS: [&str; 3] = ["drill_database", "drill_files", "drill_machine"];

/// The phase of this name, if it was begun; where a run has drills of several sorts, the first of them that failed.
fn begun<'e>(entry: &'e Entry, name: &str) -> Option<&'e Phase> {
    let begun = |name: &&str| entry.phase(name).filter(|phase| phase.outcome != "skipped");
    let drills = if name == "drill" { &DRILLS[..] } else { &[] };
    let mut found: Vec<&Phase> = drills.iter().filter_map(begun).collect();
    found.sort_by_key(|phase| phase.outcome == "done");
    begun(&name).or(found.first().copied())
}

/// Whether a phase came to a good end.
pub fn did(entry: &Entry, phase: &str) -> bool {
    begun(entry, phase).is_some_and(|phase| phase.outcome == "done")
}

/// Whether a drill, or several together, brought back all of a snapshot. Files alone prove nothing of databases.
pub fn is_back(entry: &Entry) -> bool {
    let is_whole = |phase: &Phase| phase.outcome == "done" && phase.figures.get(figure::WHOLE_SNAPSHOT) != Some(0);
    let phases = ["drill"].into_iter().chain(DRILLS).filter_map(|name| entry.phase(name));
    did(entry, "drill") && phases.into_iter().any(is_whole)
}

/// How a phase ended, if it was begun.
pub fn ended<'e>(entry: &'e Entry, phase: &str) -> Option<&'e str> {
    begun(entry, phase).map(|phase| phase.outcome.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::{RunId, SessionId};
    use crate::history::By;

    /// A run that began at `begun_ns`, with phases and how they ended.
    fn run(begun_ns: i64, phases: &[(&str, &str)]) -> Entry {
        let phase = |(name, outcome): &(&str, &str)| Phase {
            name: (*name).to_owned(),
            outcome: (*outcome).to_owned(),
            ..Phase::default()
        };
        Entry {
            outcome: Outcome::Done,
            snapshot: Some(SessionId([1; 16])),
            phases: phases.iter().map(phase).collect(),
            ..Entry::begun(RunId([begun_ns as u8; 16]), "web", "main", "alpha", By::Schedule, begun_ns)
        }
    }

    #[test]
    fn a_snapshot_is_safe_when_it_is_complete_and_was_read_back_where_that_is_done() {
        let entries = [
            run(1, &[("backup", "done"), ("verify", "done"), ("drill", "done")]),
            run(2, &[("backup", "done"), ("verify", "damage"), ("drill", "skipped")]),
            run(3, &[("backup", "partial"), ("verify", "skipped")]),
            Entry { outcome: Outcome::Running, ..run(4, &[]) },
        ];
        let marks = Landmarks::of(&entries, true);
        let expected = Landmarks { run: Some(3), complete: Some(2), verified: Some(1), drilled: Some(1) };
        assert_eq!(marks, expected);
        assert_eq!((marks.safe(true), marks.safe(false)), (Some(1), Some(2)));
        let parts = Landmarks::of(&entries, false);
        assert_eq!((parts.verified, parts.safe(false)), (None, Some(2)), "parts of packs are no snapshot");
        assert_eq!(Landmarks::of(&[], true), Landmarks::default());
    }

    #[test]
    fn drills_of_several_sorts_count_as_one_that_ends_as_the_worst_and_a_single_table_is_none() {
        let of = |phases: &[(&str, &str)]| ended(&run(1, phases), "drill").map(str::to_owned);
        assert_eq!(of(&[("drill_database", "done"), ("drill_files", "failed")]).as_deref(), Some("failed"));
        assert_eq!(of(&[("drill_database", "skipped"), ("drill_files", "done")]).as_deref(), Some("done"));
        assert_eq!(of(&[("drill_table", "done"), ("drill_files", "skipped")]), None);
        assert!(did(&run(1, &[("drill_machine", "done")]), "drill"));
    }

    #[test]
    fn what_brought_back_a_part_of_a_snapshot_makes_none_a_drilled_one() {
        let part = |mut entry: Entry, whole: &[u64]| {
            let figure = |(phase, whole): (&mut Phase, &u64)| phase.figures.set(figure::WHOLE_SNAPSHOT, *whole);
            entry.phases.iter_mut().skip(1).zip(whole).for_each(figure);
            entry
        };
        let drilled = |phases: &[(&str, &str)], whole: &[u64]| {
            Landmarks::of(&[part(run(7, &[&[("backup", "done")][..], phases].concat()), whole)], true).drilled
        };
        assert_eq!(drilled(&[("drill_files", "done")], &[0]), None);
        assert_eq!(drilled(&[("drill_files", "done")], &[1]), Some(7), "there were no databases");
        assert_eq!(drilled(&[("drill_database", "done"), ("drill_files", "done")], &[0, 1]), Some(7));
        assert_eq!(drilled(&[("drill_database", "failed"), ("drill_files", "done")], &[0, 1]), None);
    }

    #[test]
    fn a_later_run_reads_back_what_an_earlier_one_stored() {
        let entries = [run(1, &[("backup", "done")]), run(2, &[("backup", "failed"), ("verify", "done")])];
        assert_eq!(Landmarks::of(&entries, true).verified, Some(1));
    }
}
