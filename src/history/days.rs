//! Sums per calendar day.

use super::entry::{Entry, Outcome};
use super::error::Result;
use super::figure::{ADDED_BYTES, CONTENT_BYTES, FREED_BYTES, REPOSITORY_BYTES};
use super::file::{Filter, History};
use crate::base::clock::{TimeZone, Timestamp};
use std::collections::BTreeMap;

/// What happened on one day, as far as it was meant.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Day {
    /// The day on which the runs began: `2026-11-30`.
    pub date: String,
    /// Runs that came to an end or vanished.
    pub runs: u64,
    /// Those that did all that they should.
    pub done: u64,
    /// Those whose snapshot is partial.
    pub partial: u64,
    /// Those that found damage, failed, were refused or stopped, or vanished.
    pub failed: u64,
    /// How long those took of which it is known, together.
    pub duration_ms: u64,
    /// Content of all snapshots that were made.
    pub content_bytes: u64,
    /// What was added to repositories.
    pub added_bytes: u64,
    /// What pruning freed.
    pub freed_bytes: u64,
    /// What the repository of the day's last run held; of several repositories the sum.
    pub repository_bytes: u64,
}

impl History {
    /// Sums of the entries that the filter lets through, for each day of `zone` on which one began.
    pub fn days(&self, filter: &Filter, zone: &TimeZone) -> Result<Vec<Day>> {
        Ok(days(&self.entries(filter)?, zone))
    }
}

/// Sums of entries that are given oldest first.
pub fn days(entries: &[Entry], zone: &TimeZone) -> Vec<Day> {
    let mut days: BTreeMap<String, (Day, BTreeMap<&str, u64>)> = BTreeMap::new();
    for entry in entries.iter().filter(|entry| entry.outcome != Outcome::Running) {
        let begun = Timestamp::from_nanosecond(i128::from(entry.begun_ns)).unwrap_or_default();
        let date = begun.to_zoned(zone.clone()).date().to_string();
        let (day, held) = days.entry(date.clone()).or_default();
        day.date = date;
        add(day, entry);
        if let Some(bytes) = entry.figures.get(REPOSITORY_BYTES) {
            held.insert(&entry.repository, bytes);
            day.repository_bytes = held.values().fold(0, |sum: u64, bytes| sum.saturating_add(*bytes));
        }
    }
    days.into_values().map(|(day, _)| day).collect()
}

fn add(day: &mut Day, entry: &Entry) {
    day.runs += 1;
    match entry.outcome {
        Outcome::Done => day.done += 1,
        Outcome::Partial => day.partial += 1,
        _ => day.failed += 1,
    }
    let figure = |name: &str| entry.figures.get(name).unwrap_or(0);
    for (sum, value) in [
        (&mut day.duration_ms, entry.duration_ms().unwrap_or(0)),
        (&mut day.content_bytes, figure(CONTENT_BYTES)),
        (&mut day.added_bytes, figure(ADDED_BYTES)),
        (&mut day.freed_bytes, figure(FREED_BYTES)),
    ] {
        *sum = sum.saturating_add(value);
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::super::sealed::tests::entry;
    use super::*;

    #[test]
    fn a_day_is_one_of_the_calendar_also_when_clocks_change() {
        let zone = TimeZone::get("Europe/Berlin").unwrap();
        let at = |text: &str| text.parse::<Timestamp>().unwrap().as_nanosecond() as i64;
        // On 2026-10-25 the day has 25 hours in Berlin: it ends at 23:00 UTC and began at 22:00.
        let times = ["2026-10-24T21:59:59Z", "2026-10-24T22:00:00Z", "2026-10-25T22:59:59Z", "2026-10-25T23:00:00Z"];
        let mut entries: Vec<Entry> = (1..).zip(times).map(|(number, time)| entry(number, at(time))).collect();
        entries[1].outcome = Outcome::Done;
        entries[2].outcome = Outcome::Vanished;
        entries[2].figures.set(REPOSITORY_BYTES, 500);
        let days = days(&entries, &zone);
        let dates: Vec<_> = days.iter().map(|day| (day.date.as_str(), day.runs)).collect();
        assert_eq!(dates, [("2026-10-24", 1), ("2026-10-25", 2), ("2026-10-26", 1)]);
        assert_eq!((days[1].done, days[1].partial, days[1].failed), (1, 0, 1));
        assert_eq!((days[1].duration_ms, days[1].content_bytes, days[1].added_bytes), (2000, 2000, 50));
        assert_eq!(days[1].repository_bytes, 500);
    }
}
