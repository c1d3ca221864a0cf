//! Times at which a profile should have run and did not.

use crate::base::clock::{Timestamp, Zoned};
use crate::config::schedule::Schedule;
use crate::history::{Entry, Outcome};

/// The most that are told of one profile.
pub const MAX_MISSED: usize = 1000;

/// The times of `schedule` after `since` at which nothing was run: neither at that time nor later, before the next one. Who
/// started it does not matter, and neither how it ended; what was no night does not count. A time counts as missed `grace_s` seconds after it, since a timer
/// may be late.
pub fn missed(schedule: &Schedule, entries: &[Entry], since: &Zoned, now: &Zoned, grace_s: i64) -> Vec<Zoned> {
    let mut begun: Vec<Timestamp> = entries
        .iter()
        .filter(|entry| entry.outcome != Outcome::Refused && entry.is_night())
        .map(|entry| Timestamp::from_nanosecond(i128::from(entry.begun_ns)).unwrap_or_default())
        .collect();
    begun.sort();
    let mut missed = Vec::new();
    let mut time = schedule.next(since);
    while let Some(due) = time.take().filter(|due| due.timestamp().as_second() + grace_s <= now.timestamp().as_second())
    {
        let next = schedule.next(&due);
        let after = begun.partition_point(|at| *at < due.timestamp());
        let is_met = begun.get(after).is_some_and(|at| next.as_ref().is_none_or(|next| *at < next.timestamp()));
        if !is_met {
            missed.push(due);
        }
        // The newest count: those of long ago are let go.
        if missed.len() > MAX_MISSED {
            missed.remove(0);
        }
        time = next;
    }
    missed
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::base::RunId;
    use crate::history::By;

    fn at(text: &str) -> Zoned {
        text.parse().unwrap()
    }

    fn run(time: &str) -> Entry {
        let begun_ns = at(time).timestamp().as_nanosecond() as i64;
        let entry = Entry::begun(RunId([1; 16]), "web", "main", "tower", By::Schedule, begun_ns);
        Entry { outcome: Outcome::Failed, ..entry }
    }

    fn dates(missed: Vec<Zoned>) -> Vec<String> {
        missed.iter().map(|time| time.date().to_string()).collect()
    }

    #[test]
    fn a_time_without_a_run_before_the_next_one_is_missed() {
        let nightly = Schedule::parse("0 2 * * *").unwrap();
        let entries = [
            run("2026-11-26T02:00:00[UTC]"),
            // By hand, since the timer did not.
            run("2026-11-27T15:00:00[UTC]"),
            run("2026-11-29T02:00:30[UTC]"),
        ];
        let since = at("2026-11-25T12:00:00[UTC]");
        let missed = |now: &str| dates(missed(&nightly, &entries, &since, &at(now), 3600));
        assert_eq!(missed("2026-11-30T02:59:59[UTC]"), ["2026-11-28"]);
        assert_eq!(missed("2026-11-30T03:00:00[UTC]"), ["2026-11-28", "2026-11-30"]);
    }

    #[test]
    fn a_change_of_clocks_makes_no_night_missing() {
        let nightly = Schedule::parse("30 2 * * *").unwrap();
        // On 2026-03-29 there is no 02:30 in Berlin: it comes at 03:00. On 2026-10-25 there are two: the first counts.
        for (since, now, entries) in [
            (
                "2026-03-28T12:00:00[Europe/Berlin]",
                "2026-03-30T12:00:00[Europe/Berlin]",
                ["2026-03-29T03:00:10[Europe/Berlin]", "2026-03-30T02:30:00[Europe/Berlin]"],
            ),
            (
                "2026-10-24T12:00:00[Europe/Berlin]",
                "2026-10-26T12:00:00[Europe/Berlin]",
                ["2026-10-25T02:30:10+02:00[Europe/Berlin]", "2026-10-26T02:30:00[Europe/Berlin]"],
            ),
        ] {
            let entries = entries.map(run);
            let none = missed(&nightly, &entries, &at(since), &at(now), 0);
            assert!(none.is_empty(), "{none:?}");
            assert_eq!(missed(&nightly, &entries[1..], &at(since), &at(now), 0).len(), 1);
        }
    }

    #[test]
    fn years_of_silence_are_told_within_bounds() {
        let hourly = Schedule::parse("0 * * * *").unwrap();
        let missed = missed(&hourly, &[], &at("2026-01-01T00:00:00[UTC]"), &at("2026-11-01T00:00:00[UTC]"), 0);
        assert_eq!(missed.len(), MAX_MISSED);
        assert_eq!(missed.last(), Some(&at("2026-11-01T00:00:00[UTC]")));
    }
}
