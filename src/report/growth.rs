//! How a repository grew, and what was free beside it: series out of the runs of its profiles.

use super::forecast::{Forecast, Options, Series, TooShort, forecast};
use crate::base::clock::{Date, TimeZone, Timestamp};
use crate::history::figure::{CACHE_FREE_AFTER_BYTES, REPOSITORY_BYTES, REPOSITORY_FREE_AFTER_BYTES};
use crate::history::{Entry, Outcome};

/// What was measured of a repository, a number for each day.
#[derive(Clone, Debug)]
pub struct Growth {
    /// What it held.
    pub size: Result<Series, TooShort>,
    /// What was free beside it; an error for a bucket, of which nobody knows.
    pub free: Result<Series, TooShort>,
    /// What was free for the local cache.
    pub cache_free: Result<Series, TooShort>,
}

impl Growth {
    /// From the runs of all profiles of a repository, the oldest first. Days are those of `zone`.
    pub fn of<'e>(entries: impl Iterator<Item = &'e Entry> + Clone, zone: &TimeZone) -> Growth {
        let ended = entries.filter(|entry| entry.outcome != Outcome::Running);
        let series = |name: &str| {
            let measured = ended.clone().filter_map(|entry| Some((date(entry, zone), entry.figures.get(name)? as f64)));
            Series::of(measured)
        };
        Growth {
            size: series(REPOSITORY_BYTES),
            free: series(REPOSITORY_FREE_AFTER_BYTES),
            cache_free: series(CACHE_FREE_AFTER_BYTES),
        }
    }

    /// Bytes that the repository may need more in so many days, at the upper end of the interval.
    pub fn needed_bytes(&self, days: usize, options: &Options) -> Option<u64> {
        let size = self.size.as_ref().ok()?;
        let ahead = forecast(size, days, options);
        ahead.ahead(days).map(|day| (day.most - size.newest()).max(0.0) as u64)
    }
}

fn date(entry: &Entry, zone: &TimeZone) -> Date {
    let begun = Timestamp::from_nanosecond(i128::from(entry.begun_ns)).unwrap_or_default();
    begun.to_zoned(zone.clone()).date()
}

/// Bytes a day between now and the end of a forecast.
pub fn each_day(series: &Series, ahead: &Forecast) -> f64 {
    ahead.days.last().map_or(0.0, |last| (last.likely - series.newest()) / ahead.days.len() as f64)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::base::RunId;
    use crate::history::By;
    use crate::report::forecast::Method;

    fn night(number: u8, bytes: u64) -> Entry {
        let begun: Timestamp = "2026-10-01T01:00:00Z".parse().unwrap();
        let begun_ns = begun.as_nanosecond() as i64 + i64::from(number) * 86_400_000_000_000;
        let mut entry = Entry::begun(RunId([number; 16]), "web", "main", "tower", By::Schedule, begun_ns);
        entry.outcome = Outcome::Done;
        entry.figures.set(REPOSITORY_BYTES, bytes);
        entry
    }

    #[test]
    fn a_repository_that_grows_needs_more_and_what_nobody_measured_is_not_guessed() {
        let entries: Vec<Entry> = (0..20).map(|number| night(number, 1_000_000 + 1_000 * u64::from(number))).collect();
        let growth = Growth::of(entries.iter(), &TimeZone::UTC);
        let options = Options { method: Method::TheilSen, level: 0.8 };
        assert_eq!(growth.needed_bytes(30, &options), Some(30_000));
        let size = growth.size.unwrap();
        assert_eq!(each_day(&size, &forecast(&size, 30, &options)), 1_000.0);
        assert_eq!((growth.free.unwrap_err().have, growth.cache_free.unwrap_err().have), (0, 0));
        let few = Growth::of(entries[..3].iter(), &TimeZone::UTC);
        assert_eq!((few.needed_bytes(30, &options), few.size.unwrap_err().have), (None, 3));
    }
}
