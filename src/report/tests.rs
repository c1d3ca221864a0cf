//! Metrics of made-up runs.

use super::metrics::{Disk, Form, Gauges, ProfileGauges, Sums, render};
use crate::base::RunId;
use crate::history::{By, Entry, Outcome, Phase, figure};

const HOUR_NS: i64 = 3600 * 1_000_000_000;
const NOW_NS: i64 = 1_796_004_000 * 1_000_000_000;

/// A run that ended so many hours ago, and took a minute.
fn run(number: u8, hours: i64, outcome: Outcome) -> Entry {
    let begun_ns = NOW_NS - hours * HOUR_NS - 60_000_000_000;
    let mut entry = Entry::begun(RunId([number; 16]), "we\"b", "main", "alpha", By::Schedule, begun_ns);
    (entry.ended_ns, entry.outcome) = (Some(NOW_NS - hours * HOUR_NS), outcome);
    entry.figures.set(figure::ADDED_BYTES, 1 << 21);
    let kind = (outcome == Outcome::Failed).then(|| "full".to_owned());
    entry.phases =
        vec![Phase { name: "backup".to_owned(), outcome: outcome.name().to_owned(), kind, ..Phase::default() }];
    entry
}

fn local(_: &Entry) -> String {
    "local".to_owned()
}

fn text(sums: &Sums, form: Form) -> String {
    render(sums, &Gauges::default(), form)
}

#[test]
fn each_run_is_counted_once_also_when_the_history_lets_it_go_or_a_neighbour_ends_first() {
    let mut sums = Sums::default();
    let all = [run(1, 100, Outcome::Done), run(2, 50, Outcome::Failed), run(3, 2, Outcome::Done)];
    sums.take(&all[..1], &local, i64::MAX);
    sums.take(&all, &local, i64::MAX);
    let stored = serde_json::to_string(&sums).unwrap();
    let mut sums: Sums = serde_json::from_str(&stored).unwrap();
    sums.take(&all[1..], &local, i64::MAX);
    // It ended before one that is counted, but was written down after it.
    let late = [run(3, 2, Outcome::Done), run(4, 3, Outcome::Done), run(5, 1, Outcome::Running)];
    sums.take(&late, &local, i64::MAX);
    // A record of long ago that comes back from a repository was counted when it ran.
    sums.take(&[run(6, 1000, Outcome::Done)], &local, i64::MAX);
    let text = text(&sums, Form::Prometheus);
    assert!(text.contains("backup_total{type=\"we\\\"b\",status=\"done\"} 3.0\n"), "{text}");
    assert!(text.contains("backup_errors_total{error_type=\"full\"} 1.0\n"), "{text}");
}

#[test]
fn a_run_under_a_clock_that_was_ahead_hides_none_that_come_after_and_counts_none_twice() {
    let now_ns = |run: &Entry| run.ended_ns.unwrap();
    let (before, ahead, after) = (run(1, 1000, Outcome::Done), run(2, 1, Outcome::Done), run(3, 990, Outcome::Done));
    let mut sums = Sums::default();
    sums.take(std::slice::from_ref(&before), &local, now_ns(&before));
    sums.take(&[before.clone(), ahead.clone()], &local, now_ns(&ahead));
    for _ in 0..2 {
        sums.take(&[before.clone(), ahead.clone(), after.clone()], &local, now_ns(&after));
    }
    let text = text(&sums, Form::Prometheus);
    assert!(text.contains("status=\"done\"} 3.0\n"), "{text}");
}

#[test]
fn a_histogram_is_cumulative_and_ends_with_all() {
    let mut sums = Sums::default();
    let mut small = run(1, 1, Outcome::Done);
    small.figures.set(figure::ADDED_BYTES, 1 << 20);
    sums.take(&[small, run(2, 1, Outcome::Done)], &local, i64::MAX);
    let text = text(&sums, Form::Prometheus);
    let of = |rest: &str| format!("backup_size_bytes_{rest}");
    for line in [
        of("bucket{type=\"we\\\"b\",le=\"1048576.0\"} 1.0"),
        of("bucket{type=\"we\\\"b\",le=\"8388608.0\"} 2.0"),
        of("bucket{type=\"we\\\"b\",le=\"+Inf\"} 2.0"),
        of("sum{type=\"we\\\"b\"} 3145728.0"),
        of("count{type=\"we\\\"b\"} 2.0"),
        "backup_duration_seconds_bucket{type=\"we\\\"b\",status=\"done\",le=\"60.0\"} 2.0".to_owned(),
    ] {
        assert!(text.contains(&format!("{line}\n")), "{line}\n{text}");
    }
}

#[test]
fn the_two_forms_differ_in_what_counters_are_called_and_in_their_end() {
    let mut sums = Sums::default();
    sums.expect("web");
    let (old, new) = (text(&sums, Form::Prometheus), text(&sums, Form::OpenMetrics));
    assert!(old.contains("# TYPE backup_total counter\n") && new.contains("# TYPE backup counter\n"));
    assert!(old.contains("backup_total{type=\"web\",status=\"vanished\"} 0.0\n"), "{old}");
    assert!(new.contains("# UNIT backup_size_bytes bytes\n") && !old.contains("# UNIT"));
    assert!(new.ends_with("# EOF\n") && !old.contains("# EOF"));
}

#[test]
fn ages_are_said_only_to_who_reads_now() {
    let entries = [run(1, 5, Outcome::Failed), Entry { snapshot: None, ..run(2, 2, Outcome::Done) }];
    let profile = ProfileGauges::of("web", &entries, false, NOW_NS);
    assert_eq!(profile.success_rate, Some(0.5));
    let disk = Disk { repository: "main".to_owned(), free_bytes: 25, total_bytes: 100 };
    let mut gauges = Gauges { now_ns: NOW_NS, profiles: vec![profile], disks: vec![disk], is_live: true };
    let live = render(&Sums::default(), &gauges, Form::Prometheus);
    assert!(live.contains("backup_last_run_age_seconds{type=\"web\"} 7260.0\n"), "{live}");
    assert!(live.contains("backup_disk_usage_percent{repository=\"main\"} 75.0\n"), "{live}");
    assert!(!live.contains("backup_last_complete"), "there is none: {live}");
    gauges.is_live = false;
    assert!(!render(&Sums::default(), &gauges, Form::Prometheus).contains("_age_"));
}
