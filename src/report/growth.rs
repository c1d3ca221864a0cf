//! How a repository grew, and what was free beside it: series out of the runs of its profiles.

use super::forecast::{Forecast, Options, Reached, Series, TooShort, far, forecast};
use crate::base::clock::{Date, TimeZone, Timestamp};
use crate::history::figure::{CACHE_FREE_AFTER_BYTES, REPOSITORY_BYTES, REPOSITORY_FREE_AFTER_BYTES};
use crate::history::{Entry, Outcome};
use serde::Serialize;

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

/// How a repository goes on.
#[derive(Clone, Debug)]
pub struct Outlook {
    /// What it holds.
    pub bytes: u64,
    /// Bytes a day until the day that was asked about.
    pub bytes_a_day: i64,
    /// Day by day, as far as anybody looks.
    pub far: Forecast,
    /// The disk beside it, if it is on this machine.
    pub disk: Option<Limit>,
    /// The disk of its cache, if it has one.
    pub cache: Option<Limit>,
    /// How large it may grow, if somebody said so.
    pub quota: Option<Limit>,
}

/// Where a repository may end.
#[derive(Clone, Copy, Debug, Default)]
pub struct Ends {
    /// How large it may grow.
    pub quota_bytes: Option<u64>,
    /// Whether it has a cache on this machine.
    pub has_cache: bool,
}

/// Something that has an end.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Limit {
    /// What is left of it.
    pub left_bytes: u64,
    /// Not before this day, at the upper end of the interval.
    pub full_earliest: Option<String>,
    /// The likely day.
    pub full_likely: Option<String>,
}

impl Limit {
    fn of(left: f64, reached: Reached) -> Limit {
        let day = |date: Option<Date>| date.map(|date| date.to_string());
        Limit {
            left_bytes: left.max(0.0) as u64,
            full_earliest: day(reached.earliest),
            full_likely: day(reached.likely),
        }
    }
}

impl Growth {
    /// How it goes on; `horizon` is the number of days that matter most.
    pub fn outlook(&self, horizon: usize, options: &Options, ends: Ends) -> Result<Outlook, TooShort> {
        let size = self.size.as_ref().map_err(|short| *short)?;
        let ahead = far(size, horizon, options);
        let shrinks = |free: &Series| Limit::of(free.newest(), far(free, horizon, options).shrinks_to(0.0));
        let grows = |quota: u64| Limit::of(quota as f64 - size.newest(), ahead.grows_to(quota as f64));
        let likely = ahead.ahead(horizon).map_or(size.newest(), |day| day.likely);
        Ok(Outlook {
            bytes: size.newest() as u64,
            bytes_a_day: ((likely - size.newest()) / horizon.max(1) as f64) as i64,
            disk: self.free.as_ref().ok().map(shrinks),
            cache: self.cache_free.as_ref().ok().filter(|_| ends.has_cache).map(shrinks),
            quota: ends.quota_bytes.map(grows),
            far: ahead,
        })
    }

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
        let quota = Ends { quota_bytes: Some(1_029_000), has_cache: true };
        let outlook = growth.outlook(30, &options, quota).unwrap();
        assert_eq!((outlook.bytes, outlook.bytes_a_day), (1_019_000, 1_000));
        let full = Some("2026-10-30".to_owned());
        let end = Limit { left_bytes: 10_000, full_earliest: full.clone(), full_likely: full };
        assert_eq!((outlook.disk, outlook.cache, outlook.quota), (None, None, Some(end)));
        assert_eq!((growth.free.unwrap_err().have, growth.cache_free.unwrap_err().have), (0, 0));
        let few = Growth::of(entries[..3].iter(), &TimeZone::UTC);
        assert_eq!((few.needed_bytes(30, &options), few.outlook(30, &options, quota).unwrap_err().have), (None, 3));
    }
}
