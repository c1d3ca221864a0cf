//! Forecasts of a size or of what is free, from one number a day.
//!
//! Two methods, of which the one counts that would have been nearer in the past of the very series:
//!
//! - **ets**: exponential smoothing in state space form, chosen by its corrected Akaike criterion among models with and
//!   without a trend, damped or not, and with a week where there are four of them (Hyndman and others, *Forecasting with
//!   Exponential Smoothing*, Springer 2008; package `augurs`).
//! - **theil-sen**: the median of the slopes between all pairs of days, with the interval that Kendall's statistic gives it
//!   (Sen, JASA 63, 1968), and the spread of what was left over. It takes a third of wild days and cannot fail, so it
//!   stands in wherever the other has too little to go by or comes to something that cannot be.

mod ets;
pub mod retained;
mod theil_sen;

use crate::base::clock::Date;

/// Fewer days than this are no history.
pub const LEAST_DAYS: usize = 7;
/// The most days of the past that count.
pub const MOST_DAYS: usize = 730;
/// The furthest day that is looked at.
pub const FURTHEST: usize = 3 * 365;
/// With fewer days exponential smoothing guesses more parameters than it has days to go by.
const LEAST_FOR_ETS: usize = 14;
/// So many looks back are averaged at most.
const MOST_ORIGINS: usize = 12;

/// How the future is guessed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    /// Whichever would have been nearer in the past.
    Auto,
    /// Exponential smoothing.
    Ets,
    /// The median slope.
    TheilSen,
}

impl Method {
    /// The word for it.
    pub fn name(self) -> &'static str {
        match self {
            Method::Auto => "auto",
            Method::Ets => "ets",
            Method::TheilSen => "theil-sen",
        }
    }
}

/// How to guess.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// By which method.
    pub method: Method,
    /// The share of futures that lie within the interval, above 0 and below 1.
    pub level: f64,
}

/// A number for each day, the oldest first, without gaps.
#[derive(Clone, Debug, PartialEq)]
pub struct Series {
    first: Date,
    values: Vec<f64>,
    /// Days that were measured; the others lie on a line between two of these.
    measured: usize,
}

/// There is too little to go by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{have} of the {LEAST_DAYS} days that a forecast needs were measured: {} more", LEAST_DAYS - have)]
pub struct TooShort {
    /// Days that were measured.
    pub have: usize,
}

impl TooShort {
    /// Further days that have to be measured.
    pub fn missing(&self) -> usize {
        LEAST_DAYS.saturating_sub(self.have)
    }
}

/// A day that has not come yet.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Expected {
    /// Which.
    pub date: Date,
    /// As likely more as less.
    pub likely: f64,
    /// The lower end of the interval.
    pub least: f64,
    /// Its upper end.
    pub most: f64,
}

/// What is to come.
#[derive(Clone, Debug)]
pub struct Forecast {
    /// The method that was taken.
    pub method: Method,
    /// The share of futures that should lie between `least` and `most`.
    pub level: f64,
    /// Day by day from the one after the last.
    pub days: Vec<Expected>,
}

/// When a limit is reached, as far as [`FURTHEST`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Reached {
    /// Not before this day, at the upper end of the interval.
    pub earliest: Option<Date>,
    /// The likely day.
    pub likely: Option<Date>,
}

/// How far a method was from what came, in the past of the series.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Backtest {
    /// The method.
    pub method: Method,
    /// How many days ahead it looked.
    pub horizon: usize,
    /// How many looks were averaged.
    pub looks: usize,
    /// The mean distance, as a share of what came.
    pub error: f64,
    /// The mean of what was expected less what came, as a share of what came: above zero if it expects too much.
    pub bias: f64,
    /// The share of days that lay within the interval.
    pub within: f64,
}

impl Series {
    /// A series of what was measured on some days, in any order; of several measurements on a day the last given counts.
    /// Days between lie on a line. No more than the newest [`MOST_DAYS`] count.
    pub fn of(measured: impl IntoIterator<Item = (Date, f64)>) -> Result<Series, TooShort> {
        let days: std::collections::BTreeMap<Date, f64> =
            measured.into_iter().filter(|(_, value)| value.is_finite()).collect();
        let newest = days.keys().next_back().copied();
        let since = newest.map(|newest| newest.saturating_sub(span(MOST_DAYS as i64 - 1)));
        let days: Vec<(Date, f64)> =
            days.into_iter().filter(|(date, _)| since.is_some_and(|since| *date >= since)).collect();
        if days.len() < LEAST_DAYS {
            return Err(TooShort { have: days.len() });
        }
        let mut values = vec![days[0].1];
        for pair in days.windows(2) {
            let ((from, start), (to, end)) = (pair[0], pair[1]);
            let steps = distance(from, to);
            values.extend((1..=steps).map(|step| start + (end - start) * step as f64 / steps as f64));
        }
        Ok(Series { first: days[0].0, values, measured: days.len() })
    }

    /// The last day.
    pub fn last(&self) -> Date {
        self.first.saturating_add(span(self.values.len() as i64 - 1))
    }

    /// What the last day has.
    pub fn newest(&self) -> f64 {
        self.values.last().copied().unwrap_or_default()
    }

    /// Days that were measured.
    pub fn measured(&self) -> usize {
        self.measured
    }
}

fn span(days: i64) -> crate::base::clock::Span {
    crate::base::clock::Span::new().days(days)
}

/// The days from one to a later one.
fn distance(from: Date, to: Date) -> i64 {
    from.until(to).map_or(1, |span| i64::from(span.get_days())).max(1)
}

/// The curve of a method: what is likely, with an interval.
struct Curve {
    likely: Vec<f64>,
    least: Vec<f64>,
    most: Vec<f64>,
}

/// Guesses the next `horizon` days. What is guessed is never below zero.
pub fn forecast(series: &Series, horizon: usize, options: &Options) -> Forecast {
    let horizon = horizon.clamp(1, FURTHEST);
    let method = match options.method {
        Method::Auto => nearest(series, horizon, options.level),
        given => given,
    };
    let (method, curve) = curve(&series.values, horizon, method, options.level);
    let last = series.last();
    let days = (0..horizon).map(|day| {
        let likely = curve.likely[day].max(0.0);
        Expected {
            date: last.saturating_add(span(day as i64 + 1)),
            likely,
            least: curve.least[day].clamp(0.0, likely),
            most: curve.most[day].max(likely),
        }
    });
    Forecast { method, level: options.level, days: days.collect() }
}

/// Guesses as far as anybody looks, by the method that is best for the next `horizon` days.
pub fn far(series: &Series, horizon: usize, options: &Options) -> Forecast {
    let method = match options.method {
        Method::Auto => nearest(series, horizon.clamp(1, FURTHEST), options.level),
        given => given,
    };
    forecast(series, FURTHEST, &Options { method, ..*options })
}

/// The curve of a method, and the method that it is of in the end.
fn curve(values: &[f64], horizon: usize, method: Method, level: f64) -> (Method, Curve) {
    let by_ets = || (values.len() >= LEAST_FOR_ETS).then(|| ets::curve(values, horizon, level)).flatten();
    match method {
        Method::Ets | Method::Auto => match by_ets() {
            Some(curve) => (Method::Ets, curve),
            None => (Method::TheilSen, theil_sen::curve(values, horizon, level)),
        },
        Method::TheilSen => (Method::TheilSen, theil_sen::curve(values, horizon, level)),
    }
}

/// The method that was nearest in the past; the robust one where that cannot be told.
fn nearest(series: &Series, horizon: usize, level: f64) -> Method {
    let tried = backtest(series, horizon, level);
    let nearest = tried.iter().min_by(|one, other| one.error.total_cmp(&other.error));
    nearest.map_or(Method::TheilSen, |tried| tried.method)
}

/// Guesses from days of the past what came after them, by each method that has enough to go by. None where the history
/// is too short to look back: it takes as many days again as the least.
pub fn backtest(series: &Series, horizon: usize, level: f64) -> Vec<Backtest> {
    let values = &series.values;
    let horizon = horizon.min(values.len() / 3).max(1);
    let first = LEAST_DAYS.max(values.len() / 2);
    if first + horizon > values.len() {
        return Vec::new();
    }
    let origins = values.len() - horizon - first + 1;
    let step = origins.div_ceil(MOST_ORIGINS);
    let methods = [Method::TheilSen, Method::Ets];
    let methods = methods.into_iter().filter(|method| *method == Method::TheilSen || first >= LEAST_FOR_ETS);
    methods
        .map(|method| {
            let (mut looks, mut days, mut error, mut bias, mut within) = (0, 0.0, 0.0, 0.0, 0.0);
            for origin in (first..=values.len() - horizon).rev().step_by(step) {
                let (_, curve) = curve(&values[..origin], horizon, method, level);
                looks += 1;
                for (day, came) in values[origin..origin + horizon].iter().enumerate() {
                    let share = (curve.likely[day].max(0.0) - came) / came.abs().max(1.0);
                    days += 1.0;
                    error += share.abs();
                    bias += share;
                    within += f64::from(u8::from(*came >= curve.least[day] && *came <= curve.most[day]));
                }
            }
            Backtest { method, horizon, looks, error: error / days, bias: bias / days, within: within / days }
        })
        .collect()
}

impl Forecast {
    /// When the forecast grows to `limit`.
    pub fn grows_to(&self, limit: f64) -> Reached {
        let first =
            |is_there: &dyn Fn(&Expected) -> bool| self.days.iter().find(|day| is_there(day)).map(|day| day.date);
        Reached { earliest: first(&|day| day.most >= limit), likely: first(&|day| day.likely >= limit) }
    }

    /// When it shrinks to `limit`: what is free, for example.
    pub fn shrinks_to(&self, limit: f64) -> Reached {
        let first =
            |is_there: &dyn Fn(&Expected) -> bool| self.days.iter().find(|day| is_there(day)).map(|day| day.date);
        Reached { earliest: first(&|day| day.least <= limit), likely: first(&|day| day.likely <= limit) }
    }

    /// The day so many days ahead, or the furthest there is.
    pub fn ahead(&self, days: usize) -> Option<&Expected> {
        self.days.get(days.clamp(1, self.days.len().max(1)) - 1)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;
