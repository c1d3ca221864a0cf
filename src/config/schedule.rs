//! When: times in the five fields of crontab, read by a package that knows calendars and changes of clocks.
//!
//! A time that a change of clocks leaves out comes at the first moment after the gap; one that it repeats comes once.

use crate::base::clock::{TimeZone, Timestamp, Zoned};
use croner::Cron;
use croner::parser::{CronParser, Seconds, Year};
use std::time::Duration;

/// Times that come again and again: `0 2 * * *`, `30 3 * * SUN`, `@daily`.
#[derive(Clone, Debug)]
pub struct Schedule(Cron);

impl Schedule {
    /// Reads it. One whose time never comes is none.
    pub fn parse(text: &str) -> Result<Schedule, String> {
        let wrong = |why: String| {
            format!(
                "`{text}` is not a schedule ({why}): write minute, hour, day, month and day of the week, as in `0 2 * * *`, or @daily"
            )
        };
        let parser = CronParser::builder().seconds(Seconds::Disallowed).year(Year::Disallowed).build();
        let cron = parser.parse(text).map_err(|error| wrong(error.to_string().trim_end_matches('.').to_owned()))?;
        let schedule = Schedule(cron);
        match schedule.next(&Timestamp::UNIX_EPOCH.to_zoned(TimeZone::UTC)) {
            Some(_) => Ok(schedule),
            None => Err(wrong("there is no such day".to_owned())),
        }
    }

    /// The next time after `now`, in its zone.
    pub fn next(&self, now: &Zoned) -> Option<Zoned> {
        self.0.find_next_occurrence(now, false).ok()
    }

    /// The last time up to `now`, in its zone.
    pub fn last(&self, now: &Zoned) -> Option<Zoned> {
        self.0.find_previous_occurrence(now, true).ok()
    }

    /// The longest time between two of its times from now on, for a year or the next many of them.
    pub fn longest(&self, now: &Zoned) -> Option<Duration> {
        const MOST: usize = 20_000;
        const YEAR_S: i64 = 367 * 86_400;
        let end = now.timestamp().as_second().saturating_add(YEAR_S);
        let (mut longest, mut last) = (None, self.next(now)?);
        for _ in 0..MOST {
            let Some(next) = self.next(&last) else { break };
            let apart = next.timestamp().duration_since(last.timestamp()).unsigned_abs();
            longest = longest.max(Some(apart));
            if next.timestamp().as_second() > end {
                break;
            }
            last = next;
        }
        longest
    }

    /// As it was written.
    pub fn text(&self) -> String {
        self.0.pattern.to_string()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn at(text: &str) -> Zoned {
        text.parse().unwrap()
    }

    #[test]
    fn the_next_and_the_last_time_are_those_of_the_calendar() {
        let nightly = Schedule::parse("0 2 * * *").unwrap();
        let now = at("2026-11-30T12:00:00[Europe/Berlin]");
        assert_eq!(nightly.next(&now), Some(at("2026-12-01T02:00:00[Europe/Berlin]")));
        assert_eq!(nightly.last(&now), Some(at("2026-11-30T02:00:00[Europe/Berlin]")));
        let first = Schedule::parse("0 4 1 * *").unwrap();
        assert_eq!(first.last(&now), Some(at("2026-11-01T04:00:00[Europe/Berlin]")));
        let sunday = Schedule::parse("0 3 * * SUN").unwrap();
        assert_eq!(sunday.next(&now), Some(at("2026-12-06T03:00:00[Europe/Berlin]")));
        assert!(Schedule::parse("@daily").is_ok());
    }

    #[test]
    fn a_change_of_clocks_neither_loses_nor_doubles_a_night() {
        let nightly = Schedule::parse("30 2 * * *").unwrap();
        // On 2026-03-29 there is no 02:30 in Berlin, on 2026-10-25 there are two.
        let (mut now, end) = (at("2026-03-28T12:00:00[Europe/Berlin]"), at("2026-03-31T00:00:00[Europe/Berlin]"));
        let mut nights = Vec::new();
        while let Some(next) = nightly.next(&now).filter(|next| *next < end) {
            nights.push(next.date().to_string());
            now = next;
        }
        assert_eq!(nights, ["2026-03-29", "2026-03-30"]);
        let (mut now, end) = (at("2026-10-24T12:00:00[Europe/Berlin]"), at("2026-10-27T00:00:00[Europe/Berlin]"));
        let mut nights = Vec::new();
        while let Some(next) = nightly.next(&now).filter(|next| *next < end) {
            nights.push(next.date().to_string());
            now = next;
        }
        assert_eq!(nights, ["2026-10-25", "2026-10-26"]);
    }

    #[test]
    fn the_longest_time_between_two_times_is_that_of_weekends_and_of_the_end_of_office_hours() {
        let hours = |text: &str| {
            let longest = Schedule::parse(text).unwrap().longest(&at("2026-11-30T12:00:00[UTC]")).unwrap();
            longest.as_secs() / 3600
        };
        assert_eq!(hours("0 2 * * *"), 24);
        assert_eq!(hours("0 3 * * SUN"), 7 * 24);
        assert_eq!(hours("30 2 * * MON-FRI"), 3 * 24);
        assert_eq!(hours("*/5 9-17 * * *"), 15);
        assert_eq!(hours("0 3 1 * *"), 31 * 24);
        // The change of clocks in October makes one of its days longer.
        let nightly = Schedule::parse("0 2 * * *").unwrap();
        assert_eq!(nightly.longest(&at("2026-11-30T12:00:00[Europe/Berlin]")).unwrap().as_secs(), 25 * 3600);
    }

    #[test]
    fn what_is_no_schedule_is_refused_with_an_example() {
        for wrong in ["", "nightly", "0 2 * *", "0 0 2 * * *", "60 2 * * *", "0 2 30 2 *"] {
            let error = Schedule::parse(wrong).unwrap_err();
            assert!(error.contains("as in `0 2 * * *`"), "{wrong}: {error}");
        }
    }
}
