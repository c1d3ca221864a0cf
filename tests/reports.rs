//! Reports of nights that were, in every form.

use crate::nights;
use crate::program::Place;
use keepstone::base::{Machine, RunId, SessionId, Timestamp, random};
use keepstone::history::{By, Entry, History, Outcome, Phase, TableCount, figure};
use serde_json::Value;

/// A run that began so many hours ago and took a minute for each of them.
fn past_run(place: &Place, hours: i64, outcome: Outcome, rows: u64) {
    let now_ns = i64::try_from(Timestamp::now().as_nanosecond()).unwrap();
    let begun_ns = now_ns - hours * 3600 * 1_000_000_000;
    let id = RunId(random::bytes());
    let mut entry = Entry::begun(id, "web", "main", "alpha", By::Schedule, begun_ns);
    (entry.ended_ns, entry.outcome) = (Some(begun_ns + 60_000_000_000), outcome);
    let is_good = outcome == Outcome::Done;
    let (word, kind) = if is_good { ("done", None) } else { ("failed", Some("full".to_owned())) };
    entry.snapshot = is_good.then_some(SessionId(id.0));
    entry.phases = vec![Phase { name: "backup".to_owned(), outcome: word.to_owned(), kind, ..Phase::default() }];
    if is_good {
        for phase in ["verify", "drill"] {
            let done = Phase { name: phase.to_owned(), outcome: "done".to_owned(), ..Phase::default() };
            entry.phases.push(done);
        }
        for (name, value) in [
            (figure::CONTENT_BYTES, 1 << 30),
            (figure::NEW_BYTES, 1 << 24),
            (figure::STORED_BYTES, 1 << 22),
            (figure::ADDED_BYTES, 1 << 22),
            (figure::REPOSITORY_BYTES, 1 << 29),
            (figure::FREED_BYTES, 1 << 20),
            (figure::RESTORE_MS, 5000),
        ] {
            entry.figures.set(name, value);
        }
        let table = TableCount { source: "@postgres/shop".to_owned(), name: "orders".to_owned(), rows, bytes: 10 };
        entry.tables = vec![table];
    }
    let (mut history, _) = History::open(&place.path("state"), now_ns).unwrap();
    history.begin(&entry, &Machine::this()).unwrap();
    history.end(&entry).unwrap();
}

fn week() -> Place {
    let place = nights::place("verify.newer_than = \"7d\"\n");
    past_run(&place, 9 * 24, Outcome::Done, 900);
    for day in (1..7).rev() {
        past_run(&place, day * 24, if day == 3 { Outcome::Failed } else { Outcome::Done }, 1000 + day as u64);
    }
    place
}

fn report(place: &Place, arguments: &[&str]) -> String {
    nights::run(place, &[&["report"], arguments].concat()).expect(0).text()
}

#[test]
fn a_week_is_summed_up_against_the_one_before_and_what_is_wrong_stands_first() {
    let place = week();
    let text = report(&place, &["weekly"]);
    for part in [
        "Look at this first",
        "web: up to 3 days 0 h would have been lost, more than 24 h 0 min",
        "1 of 6 runs were not good, most often `full` (1)",
        "6: 5 good, 0 partial, 1 failed, 0 missed",
        "83.3 %",
        "1 min 0 s (+0.0 % against the time before)",
        "compression   4.0 to 1",
        "dedup         64.0 to 1",
        "5 of 5 found nothing wrong, 100.0 %",
        "RTO           5.0 s, target 30 min 0 s: met",
        "RPO           3 days 0 h, target 24 h 0 min: NOT met",
        "freed         5.0 MiB on this machine",
        "@postgres/shop orders: 900 -> 1001 rows (+101)",
        "failures      full 1",
    ] {
        assert!(text.contains(part), "{part}\n{text}");
    }
    let json: Value = serde_json::from_str(&report(&place, &["weekly", "--json"])).unwrap();
    assert_eq!((&json["message_type"], &json["all"]["runs"]), (&"report".into(), &6.into()));
    let profile = &json["profiles"][0];
    assert_eq!((&profile["coverage_percent"], &profile["rpo"]["met"]), (&100.0.into(), &false.into()));
    // Five days of the seven had a snapshot younger than a day: not the first one before anything ran, and not that of
    // the failure.
    let available = profile["availability_percent"].as_f64().unwrap();
    assert!((70.0..73.0).contains(&available), "{available}");
}

#[test]
fn every_form_holds_every_run_and_nothing_breaks_out_of_it() {
    let place = week();
    let csv = report(&place, &["weekly", "--format", "csv"]);
    assert_eq!(csv.lines().count(), 7);
    assert!(csv.starts_with("profile,begun,outcome,duration_ms,content_bytes,added_bytes,repository_bytes"));
    assert!(csv.lines().any(|line| line.starts_with("web,") && line.contains(",failed,60000,,,")), "{csv}");
    let markdown = report(&place, &["weekly", "--format", "markdown"]);
    assert!(markdown.contains("## Look at this first") && markdown.contains("| @postgres/shop orders | 900 | 1001 |"));
    let page = report(&place, &["weekly", "--format", "html"]);
    assert_eq!((page.matches("<svg").count(), page.matches("</svg>").count()), (3, 3));
    assert_eq!(page.matches("fill=\"#c62828\"").count(), 2, "the run that failed has another colour: {page}");
    assert!(!page.contains("<script") && !page.contains("src="), "a mail shows nothing from elsewhere");
    let daily: Value = serde_json::from_str(&report(&place, &["daily", "--json"])).unwrap();
    assert_eq!(daily["all"]["runs"], 0, "the last run began a day ago");
    let none = report(&place, &["--from", "2020-01-01", "--to", "2020-01-31"]);
    assert!(none.contains("0: 0 good") && none.contains("there is no snapshot that is known to come back"), "{none}");
}

#[test]
fn a_time_that_is_none_is_refused() {
    let place = nights::place("");
    for (arguments, why) in [
        (&["report", "--from", "yesterday"][..], "is not a day"),
        (&["report", "--from", "2026-02-30"][..], "is not a day"),
        (&["report", "--from", "2026-03-02", "--to", "2026-03-01"][..], "after the last one"),
        (&["report"][..], "required"),
    ] {
        let error = nights::run(&place, arguments).expect(2).err;
        assert!(error.contains(why), "{arguments:?}: {error}");
    }
}
