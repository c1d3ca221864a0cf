//! When: times in the five fields of crontab, read by a package that knows calendars and changes of clocks.
//!
//! A time that a change of clocks leaves out comes at the first moment after the gap; one that it repeats comes once.

use crate::base::clock::{TimeZone, Timestamp, Zoned};
use croner::Cron;
use croner::parser::{CronParser, Seconds, Year};

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
    fn what_is_no_schedule_is_refused_with_an_example() {
        for wrong in ["", "nightly", "0 2 * *", "0 0 2 * * *", "60 2 * * *", "0 2 30 2 *"] {
            let error = Schedule::parse(wrong).unwrap_err();
            assert!(error.contains("as in `0 2 * * *`"), "{wrong}: {error}");
        }
    }
}
