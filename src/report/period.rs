//! Stretches of time that reports are about: a day, a week, a month, or from one day to another.

use crate::base::clock::{Date, Span, Timestamp, Zoned};

/// Sorts of reports.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Sort {
    /// The last 24 hours.
    Daily,
    /// The last seven days.
    Weekly,
    /// The last month.
    Monthly,
    /// Days that somebody named.
    Days,
}

impl Sort {
    /// The word for it.
    pub fn name(self) -> &'static str {
        match self {
            Sort::Daily => "daily",
            Sort::Weekly => "weekly",
            Sort::Monthly => "monthly",
            Sort::Days => "days",
        }
    }
}

/// A stretch of time, and the equally long one before it, with which it is compared.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Period {
    /// What it was asked for as.
    pub sort: Sort,
    /// Its beginning.
    pub from: Zoned,
    /// Its end, which does not belong to it.
    pub to: Zoned,
}

impl Period {
    /// The last day, week or month before `now`. A report at eight in the morning is about the night that is just over, so
    /// that it ends now and not at midnight.
    pub fn before(sort: Sort, now: &Zoned) -> Period {
        let span = match sort {
            Sort::Daily | Sort::Days => Span::new().hours(24),
            Sort::Weekly => Span::new().days(7),
            Sort::Monthly => Span::new().months(1),
        };
        // It fails only before the year -9999.
        let from = now.checked_sub(span).unwrap_or_else(|_| now.clone());
        Period { sort, from, to: now.clone() }
    }

    /// Whole days, both of which belong to it: `2026-11-01` to `2026-11-30`.
    pub fn days(from: &str, to: Option<&str>, now: &Zoned) -> Result<Period, String> {
        let day = |text: &str| {
            let date: Date = text.parse().map_err(|_| format!("`{text}` is not a day: write it as in 2026-11-30"))?;
            date.to_zoned(now.time_zone().clone()).map_err(|_| format!("there is no day `{text}`"))
        };
        let from = day(from)?;
        let to = match to {
            Some(to) => day(to)?.tomorrow().map_err(|_| format!("there is no day after `{to}`"))?,
            None => now.clone(),
        };
        match from < to {
            true => Ok(Period { sort: Sort::Days, from, to }),
            false => Err("the first day is after the last one".to_owned()),
        }
    }

    /// Its beginning and its end, in nanoseconds since 1970.
    pub fn ns(&self) -> (i64, i64) {
        (ns(self.from.timestamp()), ns(self.to.timestamp()))
    }

    /// The equally long stretch before it.
    pub fn before_ns(&self) -> (i64, i64) {
        let (from, to) = self.ns();
        (from.saturating_sub(to.saturating_sub(from)), from)
    }

    /// How it is called in a title.
    pub fn title(&self) -> String {
        let day = |time: &Zoned| time.strftime("%Y-%m-%d %H:%M").to_string();
        match self.sort {
            Sort::Days => format!("from {} to {}", day(&self.from), day(&self.to)),
            sort => format!("{} report, {} to {}", sort.name(), day(&self.from), day(&self.to)),
        }
    }
}

fn ns(time: Timestamp) -> i64 {
    i64::try_from(time.as_nanosecond()).unwrap_or(i64::MAX)
}
