//! Forecasts of series whose future is known.

use super::*;
use crate::base::random::Lot;

fn day(number: i64) -> Date {
    Date::constant(2026, 1, 1).saturating_add(span(number))
}

/// A series of so many days.
fn series(days: i64, value: impl Fn(i64) -> f64) -> Series {
    Series::of((0..days).map(|number| (day(number), value(number)))).unwrap()
}

const OPTIONS: Options = Options { method: Method::Auto, level: 0.8 };

/// A repository of 50 GB that grows by 100 MB a night, give or take, and loses what a prune frees each week.
fn sawtooth(days: i64, seed: u64) -> Series {
    let mut lot = Lot::of(seed);
    let noise: Vec<f64> = (0..days).map(|_| lot.below(40) as f64 * 1e6).collect();
    series(days, |number| 50e9 + 100e6 * number as f64 + (number % 7) as f64 * 60e6 + noise[number as usize])
}

#[test]
fn a_history_of_a_week_is_the_least_and_what_is_missing_is_said() {
    let few = Series::of((0..4).map(|number| (day(number), 1.0))).unwrap_err();
    assert_eq!(few.to_string(), "4 of the 7 days that a forecast needs were measured: 3 more");
    let same_day = Series::of((0..20).map(|number| (day(0), f64::from(number)))).unwrap_err();
    assert_eq!(same_day.have, 1);
    assert!(Series::of((0..7).map(|number| (day(number), 1.0))).is_ok());
}

#[test]
fn days_without_a_night_lie_on_a_line_and_old_ones_do_not_count() {
    let holes = [0, 1, 2, 3, 4, 5, 10].map(|number| (day(number), 10.0 * number as f64));
    let series = Series::of(holes).unwrap();
    assert_eq!((series.values.len(), series.measured(), series.last()), (11, 7, day(10)));
    assert_eq!(series.values[7], 70.0);
    let long = Series::of((0..2000).map(|number| (day(number), 1.0))).unwrap();
    assert_eq!((long.values.len(), long.last()), (MOST_DAYS, day(1999)));
}

#[test]
fn what_grows_steadily_goes_on_growing() {
    for method in [Method::Auto, Method::Ets, Method::TheilSen] {
        for days in [7, 14, 40, 200] {
            let series = sawtooth(days, 7);
            let guess = forecast(&series, 30, &Options { method, ..OPTIONS });
            let expected = 50e9 + 100e6 * (days + 29) as f64 + 200e6;
            let ahead = guess.ahead(30).unwrap();
            assert_eq!(ahead.date, day(days + 29));
            let far = (ahead.likely - expected).abs() / expected;
            // A week that climbs to its end cannot be told from a trend before there is a second one.
            let bound = if days < 14 { 0.06 } else { 0.03 };
            assert!(far < bound, "{method:?} from {days} days: {} of {expected}", ahead.likely);
            assert!(ahead.least <= ahead.likely && ahead.likely <= ahead.most, "{ahead:?}");
        }
    }
}

#[test]
fn a_limit_is_reached_on_a_day_and_not_before() {
    let series = series(60, |number| 100.0 + number as f64);
    let guess = forecast(&series, FURTHEST, &Options { method: Method::TheilSen, ..OPTIONS });
    let reached = guess.grows_to(200.0);
    assert_eq!((reached.earliest, reached.likely), (Some(day(100)), Some(day(100))), "a line has no spread");
    assert_eq!(guess.grows_to(1e9), Reached::default());
    let free = super::tests::series(60, |number| 1000.0 - 5.0 * number as f64);
    let guess = forecast(&free, FURTHEST, &Options { method: Method::TheilSen, ..OPTIONS });
    assert_eq!(guess.shrinks_to(0.0).likely, Some(day(200)));
    assert!(guess.days.iter().all(|day| day.least >= 0.0), "nothing is less than nothing");
}

#[test]
fn what_cannot_be_modelled_is_guessed_all_the_same() {
    let wild = |number: i64| if number % 5 == 0 { 0.0 } else { 1e15 / (number + 1) as f64 };
    for series in [series(30, |_| 0.0), series(30, |_| 5e9), series(30, wild), series(8, wild)] {
        for method in [Method::Auto, Method::Ets, Method::TheilSen] {
            let guess = forecast(&series, 400, &Options { method, ..OPTIONS });
            assert_eq!(guess.days.len(), 400);
            assert!(guess.days.iter().all(|day| day.likely.is_finite() && day.most.is_finite()), "{method:?}");
        }
    }
    let same = forecast(&series(30, |_| 5e9), 10, &OPTIONS);
    assert_eq!((same.days[9].least, same.days[9].likely, same.days[9].most), (5e9, 5e9, 5e9));
}

#[test]
fn a_look_back_says_how_far_each_method_was_from_what_came() {
    let tried = backtest(&sawtooth(120, 3), 30, 0.8);
    let names: Vec<_> = tried.iter().map(|tried| tried.method.name()).collect();
    assert_eq!(names, ["theil-sen", "ets"]);
    for tried in &tried {
        assert!(tried.error < 0.02 && tried.bias.abs() <= tried.error, "{tried:?}");
        assert!((0.0..=1.0).contains(&tried.within) && tried.looks > 5 && tried.horizon == 30, "{tried:?}");
    }
    // A jump that nobody could know of is an error that is seen.
    let jump = backtest(&series(60, |number| if number < 50 { 100.0 } else { 200.0 }), 10, 0.8);
    assert!(jump[0].error > 0.1 && jump[0].bias < 0.0, "{jump:?}");
    assert!(backtest(&series(7, |number| number as f64), 30, 0.8).is_empty(), "too little to look back on");
}

#[test]
fn the_nearer_method_is_taken() {
    // A trend that bends: only smoothing follows it.
    let bent = series(120, |number| if number < 60 { 1e9 } else { 1e9 + 5e7 * (number - 60) as f64 });
    assert_eq!(forecast(&bent, 14, &OPTIONS).method, Method::Ets);
    assert_eq!(forecast(&sawtooth(10, 1), 14, &OPTIONS).method, Method::TheilSen, "too few days for the other");
}
