//! `predict`, from a history whose future is known.

use crate::nights::{place, run};
use crate::program::Place;
use keepstone::base::clock::Timestamp;
use keepstone::base::{Clock, RunId};
use keepstone::history::{By, Entry, History, Outcome, figure};
use serde_json::Value;
use std::fs;

const DAY_NS: i64 = 86_400_000_000_000;

fn now_ns() -> i64 {
    Clock::System.now().as_nanosecond() as i64
}

/// Leaves nights of the last days: what the repository held on each, and what was free beside it.
fn nights(place: &Place, days: i64, bytes: impl Fn(i64) -> u64, free: u64) {
    let folder = place.path("state");
    fs::create_dir_all(&folder).unwrap();
    let (mut history, _) = History::open(&folder, now_ns()).unwrap();
    let night = |day: i64| {
        let mut id = [7; 16];
        id[..8].copy_from_slice(&day.to_be_bytes());
        let begun_ns = now_ns() - (days - day) * DAY_NS;
        let mut entry = Entry::begun(RunId(id), "web", "main", "tower", By::Schedule, begun_ns);
        (entry.outcome, entry.ended_ns) = (Outcome::Done, Some(begun_ns + 1_000_000_000));
        entry.figures.set(figure::REPOSITORY_BYTES, bytes(day));
        entry.figures.set(figure::REPOSITORY_FREE_AFTER_BYTES, free - bytes(day));
        entry
    };
    let entries: Vec<Entry> = (0..days).map(night).collect();
    assert_eq!(history.take_in(&entries).unwrap(), days as u64);
}

fn predict(place: &Place, more: &[&str]) -> Value {
    run(place, &[&["predict", "--json"], more].concat()).expect(0).json().remove(0)
}

/// Days from the last night to a date.
fn days_to(date: &Value) -> i64 {
    let date: Timestamp = format!("{}T00:00:00Z", date.as_str().unwrap()).parse().unwrap();
    (date.as_nanosecond() as i64 - now_ns()) / DAY_NS
}

#[test]
fn a_short_history_says_how_much_is_missing() {
    let place = place("");
    let text = run(&place, &["predict"]).expect(0).text();
    assert!(text.contains("main: 0 of the 7 days that a forecast needs were measured: 7 more"), "{text}");
    nights(&place, 5, |day| 1_000_000 + day as u64, 1 << 40);
    let told = predict(&place, &[]);
    assert_eq!((&told["measured_days"], &told["missing_days"], &told["bytes"]), (&5.into(), &2.into(), &Value::Null));
}

#[test]
fn another_method_than_the_one_that_was_asked_for_says_so() {
    let place = place("");
    nights(&place, 9, |day| 1_000_000 + day as u64, 1 << 40);
    let by = |method: &str| run(&place, &["predict", "--method", method]).expect(0).text();
    assert!(by("ets").contains("by theil-sen (there are too few days for ets"), "{}", by("ets"));
    assert!(!by("theil-sen").contains("too few"));
}

#[test]
fn growth_limits_and_costs_are_told_with_an_interval() {
    let place = place("");
    let config = place.path("keepstone.toml");
    let text = fs::read_to_string(&config).unwrap();
    let text = text.replace("[profiles.web]", "quota = \"60G\"\nprice = \"shelf\"\n[prices.shelf]\nstorage = 0.01\n[prices.cold]\nstorage = \"0.002\"\ncurrency = \"EUR\"\n[profiles.web]");
    fs::write(&config, text.replace("storage = 0.01", "storage = \"0.01\"")).unwrap();
    // 50 GB and 100 MB more each night; beside it 60 GB at first.
    nights(&place, 60, |day| 50_000_000_000 + 100_000_000 * day as u64, 110_000_000_000);
    let told = predict(&place, &["--backtest"]);
    assert_eq!((told["bytes_a_day"].as_i64().unwrap() + 500_000) / 1_000_000, 100, "{told}");
    let days = told["days"].as_array().unwrap();
    assert_eq!(days.len(), 30);
    let last = days[29]["bytes"].as_u64().unwrap();
    assert!((58_700_000_000..59_100_000_000).contains(&last), "{told}");
    // 60 GiB are 64.4 GB: 85 nights more. 110 GB are 541 nights more.
    assert!((80..90).contains(&days_to(&told["quota"]["full_likely"])), "{told}");
    assert!((520..560).contains(&days_to(&told["disk"]["full_likely"])), "{told}");
    assert_eq!((&told["cost"]["currency"], &told["cost"]["now_a_month"]), (&"USD".into(), &0.56.into()));
    let tried = told["backtest"].as_array().unwrap();
    assert!(tried.len() == 2 && tried.iter().all(|one| one["error_percent"].as_f64().unwrap() < 1.0), "{told}");
    let cold = predict(&place, &["--price", "cold", "--days", "90", "--method", "theil-sen", "--level", "95%"]);
    assert_eq!(
        (&cold["cost"]["currency"], &cold["method"], &cold["level"]),
        (&"EUR".into(), &"theil-sen".into(), &0.95.into())
    );
    assert_eq!(cold["days"].as_array().unwrap().len(), 90);
    let text = run(&place, &["predict", "--backtest"]).expect(0).text();
    for words in
        ["main, 60 days measured", "80 % of futures between", "95.4 MiB a day", "quota", "USD a month", "theil-sen: 0"]
    {
        assert!(text.contains(words), "{words} is not in\n{text}");
    }
}

#[test]
fn another_policy_is_tried_on_the_snapshots_that_are_there() {
    let place = place("retention.daily = 3\n");
    run(&place, &["run", "web"]).expect(0);
    nights(&place, 20, |day| 1_000_000 + 10_000 * day as u64, 1 << 40);
    let told = run(&place, &["--profile", "web", "predict", "--json", "--keep-daily", "20"]).expect(0).json().remove(0);
    assert_eq!((&told["policy"]["snapshots"], &told["policy"]["other_snapshots"]), (&3.into(), &20.into()), "{told}");
    let text = run(&place, &["--profile", "web", "predict", "--keep-daily", "20"]).expect(0).text();
    assert!(text.contains("20 snapshots in place of 3, then about "), "{text}");
}

#[test]
fn what_makes_no_sense_is_refused_with_the_remedy() {
    let place = place("");
    for (args, words) in [
        (&["--repository", "mian"][..], "did you mean `main`?"),
        (&["--price", "gold"], "name one of [prices]"),
        (&["--level", "100%"], "from 50% to 99%"),
        (&["--keep-daily", "7"], "Say --profile NAME"),
        (&["--days", "0"], "0 is not in"),
    ] {
        let refused = run(&place, &[&["predict"], args].concat()).expect(2);
        assert!(refused.err.contains(words), "{args:?}: {}", refused.err);
    }
    let config = place.path("keepstone.toml");
    let text = fs::read_to_string(&config)
        .unwrap()
        .replace("[profiles.web]", "price = \"gold\"\n[prices.cold]\nstorage = \"cheap\"\n[profiles.web]");
    fs::write(&config, text).unwrap();
    let refused = run(&place, &["config", "check"]).expect(2);
    assert!(refused.err.contains("`cheap` is not a price"), "{}", refused.err);
}

#[test]
fn a_night_tells_when_more_will_be_needed_than_is_free() {
    let place = place(
        "notify.channels = \"own\"\nalerts.warning.savings = \"off\"\nalerts.critical.rpo = \"off\"\n\
         [notify.command.own]\nrun = \"cat >> HERE/told\"\n",
    );
    // Ten terabytes more each night.
    nights(&place, 20, |day| 10_000_000_000_000 * (day as u64 + 1), 1 << 60);
    run(&place, &["run", "web"]).expect(0);
    let told = fs::read_to_string(place.path("told")).unwrap();
    assert!(told.contains("will be needed, and ") && told.contains("\"rule\":\"forecast\""), "{told}");
}
