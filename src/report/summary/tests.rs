//! Every figure of a report, of made-up runs in a made-up week.

use super::*;
use crate::base::clock::{TimeZone, Timestamp, Zoned};
use crate::base::{RunId, SessionId};
use crate::history::{By, Phase};
use crate::report::forecast::Method;
use crate::report::render;

const HOUR_NS: i64 = 3_600_000_000_000;
const HOUR_MS: u64 = 3_600_000;

/// The end of the week that all of it is about: a Monday at eight.
fn end() -> Zoned {
    "2026-11-30T08:00:00[UTC]".parse().unwrap()
}

fn week() -> Period {
    Period::before(super::super::period::Sort::Weekly, &end())
}

/// A run that began so many hours before the end and took an hour, with phases and how they ended.
fn run(number: u8, hours: i64, outcome: Outcome, phases: &[(&str, &str)]) -> Entry {
    let begun_ns = end().timestamp().as_nanosecond() as i64 - hours * HOUR_NS;
    let mut entry = Entry::begun(RunId([number; 16]), "web", "main", "tower", By::Schedule, begun_ns);
    (entry.ended_ns, entry.outcome) = (Some(begun_ns + HOUR_NS), outcome);
    let phase = |(name, outcome): &(&str, &str)| Phase {
        name: (*name).to_owned(),
        outcome: (*outcome).to_owned(),
        kind: (*outcome == "failed").then(|| "full".to_owned()),
        ..Phase::default()
    };
    entry.phases = phases.iter().map(phase).collect();
    entry.snapshot =
        (entry.phase("backup").is_some_and(|backup| backup.outcome != "failed")).then_some(SessionId([number; 16]));
    entry
}

const GOOD: &[(&str, &str)] = &[("backup", "done"), ("verify", "done")];
const BAD: &[(&str, &str)] = &[("backup", "failed")];

fn with(mut entry: Entry, figures: &[(&str, u64)]) -> Entry {
    figures.iter().for_each(|(name, value)| entry.figures.set(name, *value));
    entry
}

fn target() -> Target {
    let (rpo_ms, rto_ms) = (Some(24 * HOUR_MS), Some(HOUR_MS / 2));
    Target { rpo_ms, rto_ms, reads_snapshots: true, first_ns: Some(0), ..Target::default() }
}

fn reported(period: &Period, entries: &[Entry], target: Target) -> Report {
    let targets = BTreeMap::from([("web".to_owned(), target)]);
    let options = Options { method: Method::TheilSen, level: 0.8 };
    report(period, &Facts { entries, targets: &targets, grounds: &[], options, host: "tower" })
}

fn of_web(entries: &[Entry], target: Target) -> Profile {
    reported(&week(), entries, target).profiles.remove(0)
}

fn near(value: Option<f64>, expected: f64) {
    assert!(value.is_some_and(|value| (value - expected).abs() < 0.01), "{value:?} is not about {expected}");
}

#[test]
fn a_run_belongs_to_the_time_in_which_it_ended() {
    let day = |hours: i64| {
        let to = end().checked_sub(Span::new().hours(hours)).unwrap();
        Period::before(super::super::period::Sort::Daily, &to)
    };
    // It began before eight and ended after it.
    let entries = [with(run(1, 24, Outcome::Done, GOOD), &[])];
    let mut early = entries[0].clone();
    early.begun_ns -= HOUR_NS / 2;
    early.ended_ns = early.ended_ns.map(|ended| ended - HOUR_NS / 2);
    assert_eq!(reported(&day(0), &[early.clone()], target()).all.runs, 1);
    assert_eq!(reported(&day(24), &[early.clone()], target()).all.runs, 0, "it is in one report and no other");
    let running = Entry { outcome: Outcome::Running, ended_ns: None, ..early };
    assert_eq!(reported(&day(24), &[running], target()).all.runs, 0);
}

#[test]
fn runs_are_counted_by_how_they_ended_and_the_rate_is_that_of_the_good_ones() {
    let mut entries = vec![
        run(1, 150, Outcome::Done, GOOD),
        run(2, 126, Outcome::Partial, &[("backup", "partial")]),
        run(3, 102, Outcome::Failed, BAD),
        run(4, 78, Outcome::Vanished, &[]),
        run(5, 54, Outcome::Done, GOOD),
    ];
    entries[4].profile = "mail".to_owned();
    let found = reported(&week(), &entries, Target { missed: 2, ..target() });
    let all = &found.all;
    assert_eq!((all.runs, all.good, all.partial, all.failed, all.missed), (5, 2, 1, 2, 2));
    near(all.success_percent, 40.0);
    let web = found.profiles.iter().find(|one| one.name == "web").unwrap();
    near(web.totals.success_percent, 25.0);
    assert_eq!(web.errors, BTreeMap::from([("full".to_owned(), 1), ("vanished".to_owned(), 1)]));
    assert_eq!(
        web.nights.iter().map(|night| night.outcome).collect::<Vec<_>>(),
        ["done", "partial", "failed", "vanished"]
    );
    assert_eq!(found.profiles[0].name, "mail", "also a profile that the config does not know any more");
    let none = reported(&week(), &[], target());
    assert_eq!((none.all.runs, none.all.success_percent), (0, None), "a share of nothing is no number");
}

#[test]
fn trends_compare_with_the_equally_long_time_before() {
    let sizes = |content, repository, new, stored| {
        [
            (figure::CONTENT_BYTES, content),
            (figure::REPOSITORY_BYTES, repository),
            (figure::NEW_BYTES, new),
            (figure::STORED_BYTES, stored),
        ]
    };
    let mut slow = with(run(3, 30, Outcome::Done, GOOD), &sizes(1200, 900, 400, 100));
    slow.ended_ns = slow.ended_ns.map(|ended| ended + HOUR_NS);
    let entries = [
        with(run(1, 7 * 24 + 30, Outcome::Done, GOOD), &sizes(1000, 600, 100, 50)),
        with(run(2, 54, Outcome::Done, GOOD), &sizes(1100, 700, 100, 50)),
        slow,
        // It says nothing of sizes.
        run(4, 6, Outcome::Failed, BAD),
    ];
    let web = of_web(&entries, target());
    // One, two and one hours, against one.
    near(web.duration_ms.now, 4.0 / 3.0 * HOUR_MS as f64);
    near(web.duration_ms.change_percent, 33.33);
    assert_eq!((web.content_bytes.now, web.content_bytes.before), (Some(1200.0), Some(1000.0)));
    near(web.content_bytes.change_percent, 20.0);
    near(web.repository_bytes.change_percent, 50.0);
    // 2 to 1 and 4 to 1, against 2 to 1; 11 to 1 and 3 to 1, against 10 to 1.
    assert_eq!((web.compression.now, web.compression.before), (Some(3.0), Some(2.0)));
    assert_eq!((web.dedup.now, web.dedup.before), (Some(7.0), Some(10.0)));
    let first = of_web(&entries[1..], target());
    assert_eq!((first.content_bytes.before, first.content_bytes.change_percent), (None, None));
}

#[test]
fn what_pruning_freed_is_counted_where_the_repository_is() {
    let freed = |hours| {
        with(run(hours as u8, hours, Outcome::Done, GOOD), &[(figure::FREED_BYTES, 500), (figure::ADDED_BYTES, 70)])
    };
    let entries = [freed(60), freed(36)];
    let here = of_web(&entries, target()).totals;
    assert_eq!((here.freed_local_bytes, here.freed_remote_bytes, here.added_bytes), (1000, 0, 140));
    let there = of_web(&entries, Target { is_remote: true, ..target() }).totals;
    assert_eq!((there.freed_local_bytes, there.freed_remote_bytes), (0, 1000));
}

#[test]
fn verifications_and_drills_have_their_rates_and_coverage_is_what_was_read_whole() {
    let entries = [
        run(1, 150, Outcome::Done, GOOD),
        run(2, 126, Outcome::Done, &[("backup", "done"), ("verify", "skipped"), ("drill", "done")]),
        run(3, 102, Outcome::Damage, &[("backup", "done"), ("verify", "damage"), ("drill", "damage")]),
        run(4, 78, Outcome::Done, &[("backup", "done")]),
    ];
    let web = of_web(&entries, target());
    assert_eq!((web.verify.all, web.verify.good, web.verify.percent), (2, 1, Some(50.0)));
    assert_eq!((web.drills.all, web.drills.good, web.drills.percent), (2, 1, Some(50.0)));
    near(web.coverage_percent, 25.0);
    // The next verification reads the earlier ones too.
    let mut more = entries.to_vec();
    more.push(run(5, 54, Outcome::Done, GOOD));
    near(of_web(&more, target()).coverage_percent, 100.0);
    near(of_web(&more, Target { reads_snapshots: false, ..target() }).coverage_percent, 0.0);
}

#[test]
fn rpo_is_the_longest_time_without_a_new_snapshot_that_is_known_to_come_back() {
    let each_day = |count: u8| (0..count).map(|day| run(day, 8 * 24 - 24 * i64::from(day) - 2, Outcome::Done, GOOD));
    // Every day at ten, known at eleven: by then the one before is as old as it gets, a day and an hour.
    let daily: Vec<Entry> = each_day(8).collect();
    let web = of_web(&daily, target());
    assert_eq!((web.rpo.measured_ms, web.rpo.met), (Some(25 * HOUR_MS), Some(true)));
    let met =
        |rpo_minutes: u64| of_web(&daily, Target { rpo_ms: Some(rpo_minutes * HOUR_MS / 60), ..target() }).rpo.met;
    // A twelfth of the target more is still a run each day.
    assert_eq!([25 * 60, 1385, 1384, 60].map(met), [Some(true), Some(true), Some(false), Some(false)]);
    // Two nights fail: three days and the hour.
    let mut gap = daily.clone();
    gap[4] = run(4, 94, Outcome::Failed, BAD);
    gap[5] = run(5, 70, Outcome::Failed, BAD);
    let web = of_web(&gap, target());
    assert_eq!((web.rpo.measured_ms, web.rpo.met), (Some(73 * HOUR_MS), Some(false)));
    // One that was not read back counts for nobody who reads them back.
    let mut unread = daily.clone();
    unread[6] = run(6, 46, Outcome::Done, &[("backup", "done")]);
    assert_eq!(of_web(&unread, target()).rpo.measured_ms, Some(49 * HOUR_MS));
    let parts = of_web(&unread, Target { reads_snapshots: false, ..target() });
    assert_eq!(parts.rpo.measured_ms, Some(25 * HOUR_MS));
    let none = of_web(&[run(1, 20, Outcome::Failed, BAD)], target());
    assert_eq!((none.rpo.measured_ms, none.rpo.met, none.safe), (None, None, None));
}

#[test]
fn availability_is_the_share_of_the_time_with_a_snapshot_as_young_as_it_has_to_be() {
    // One at the very beginning, known an hour later; it is young enough for 24 hours after it began.
    let one = [run(1, 7 * 24, Outcome::Done, GOOD)];
    near(of_web(&one, target()).availability_percent, 23.0 / 168.0 * 100.0);
    near(
        of_web(&one, Target { rpo_ms: Some(7 * 24 * HOUR_MS), ..target() }).availability_percent,
        167.0 / 168.0 * 100.0,
    );
    // One of the time before counts as long as it is young enough.
    let before = [run(1, 7 * 24 + 10, Outcome::Done, GOOD)];
    near(of_web(&before, target()).availability_percent, 14.0 / 168.0 * 100.0);
    near(of_web(&[], target()).availability_percent, 0.0);
    assert_eq!(of_web(&one, Target { rpo_ms: None, ..target() }).availability_percent, None, "there is no target");
}

#[test]
fn availability_counts_from_the_end_of_the_first_run_and_what_was_before_it_is_no_failure() {
    let young = [run(1, 13, Outcome::Done, GOOD)];
    let first_ns = young[0].ended_ns;
    let web = of_web(&young, Target { first_ns, ..target() });
    near(web.availability_percent, 100.0);
    assert_eq!(web.availability_since.as_deref(), Some("2026-11-29T20:00:00Z"));
    assert!(
        render::text(&reported(&week(), &young, Target { first_ns, ..target() }))
            .contains("100.0 % since its first run, 2026-11-29T20:00:00Z")
    );
    // The first one failed: since then there was none for six hours of the twelve.
    let late = [run(1, 13, Outcome::Failed, BAD), run(2, 7, Outcome::Done, GOOD)];
    near(of_web(&late, Target { first_ns, ..target() }).availability_percent, 50.0);
    let to_come = Some(end().timestamp().as_nanosecond() as i64 + HOUR_NS);
    for first_ns in [None, to_come] {
        let web = of_web(&[], Target { first_ns, ..target() });
        assert_eq!((web.availability_percent, web.availability_since), (None, None), "nothing had been run yet");
    }
}

#[test]
fn nothing_is_said_of_a_time_that_is_still_to_come() {
    let one = [run(1, 13, Outcome::Done, GOOD)];
    let first_ns = one[0].ended_ns;
    // Half of an hour after its end, in a week that goes on for half a day.
    let until_ns = first_ns.map(|ended| ended + HOUR_NS / 2);
    let web = of_web(&one, Target { first_ns, until_ns, rpo_ms: Some(2 * HOUR_MS), ..target() });
    assert_eq!((web.rpo.measured_ms, web.rpo.met), (Some(HOUR_MS * 3 / 2), Some(true)));
    near(web.availability_percent, 100.0);
}

#[test]
fn rto_is_what_the_last_drill_took_against_its_target() {
    let drill = |number, hours, ms| with(run(number, hours, Outcome::Done, GOOD), &[(figure::RESTORE_MS, ms)]);
    let entries = [drill(1, 60, 3 * HOUR_MS), drill(2, 36, HOUR_MS / 4), run(3, 12, Outcome::Done, GOOD)];
    let web = of_web(&entries, target());
    assert_eq!(
        (web.rto.measured_ms, web.rto.target_ms, web.rto.met),
        (Some(HOUR_MS / 4), Some(HOUR_MS / 2), Some(true))
    );
    assert_eq!(of_web(&entries[..1], target()).rto.met, Some(false));
    assert_eq!(of_web(&entries[2..], target()).rto.met, None, "there was no drill");
}

#[test]
fn tables_that_changed_most_stand_first_also_those_that_came_and_went() {
    let counted = |entry: Entry, rows: &[(&str, u64)]| {
        let table = |(name, rows): &(&str, u64)| TableCount {
            source: "@postgres/shop".to_owned(),
            name: (*name).to_owned(),
            rows: *rows,
            bytes: 1,
        };
        Entry { tables: rows.iter().map(table).collect(), ..entry }
    };
    let entries = [
        counted(run(1, 8 * 24, Outcome::Done, GOOD), &[("gone", 40), ("orders", 900), ("same", 7)]),
        counted(run(2, 60, Outcome::Done, GOOD), &[("orders", 950)]),
        counted(run(3, 36, Outcome::Done, GOOD), &[("new", 5), ("orders", 1001), ("same", 7)]),
    ];
    let web = of_web(&entries, target());
    let said: Vec<_> = web.tables.iter().map(|one| (one.name.as_str(), one.rows_before, one.rows)).collect();
    assert_eq!(said, [("orders", Some(900), Some(1001)), ("gone", Some(40), None), ("new", None, Some(5))]);
    let many: Vec<(String, u64)> =
        (0..MOST_TABLES as u64 + 3).map(|number| (format!("t{number}"), number + 1)).collect();
    let many: Vec<(&str, u64)> = many.iter().map(|(name, rows)| (name.as_str(), *rows)).collect();
    let web = of_web(
        &[counted(run(1, 60, Outcome::Done, GOOD), &[("x", 0)]), counted(run(2, 36, Outcome::Done, GOOD), &many)],
        target(),
    );
    assert_eq!((web.tables.len(), web.more_tables), (MOST_TABLES, 4));
}

#[test]
fn the_most_pressing_stands_first_and_a_quiet_week_needs_nobody() {
    let mut entries: Vec<Entry> =
        (0..8).map(|day| run(day, 8 * 24 - 24 * i64::from(day) - 2, Outcome::Done, GOOD)).collect();
    let quiet = Target { rpo_ms: Some(26 * HOUR_MS), ..target() };
    assert_eq!(reported(&week(), &entries, quiet.clone()).attention, Vec::<String>::new());
    entries[3] = with(run(3, 118, Outcome::Failed, BAD), &[]);
    entries[4] = with(
        run(4, 94, Outcome::Damage, &[("backup", "done"), ("verify", "damage"), ("drill", "damage")]),
        &[(figure::RESTORE_MS, HOUR_MS)],
    );
    let attention = reported(&week(), &entries, Target { missed: 1, ..quiet }).attention;
    let parts = [
        "would have been lost, more than",
        "1 of 6 verifications found something wrong: run `keepstone --profile web repair plan`",
        "1 of 1 drills did not bring everything back",
        "2 of 7 runs were not good, most often `full` (1)",
        "1 runs did not happen",
        "the last drill took 1 h 0 min, more than 30 min 0 s",
    ];
    assert_eq!(attention.len(), parts.len(), "{attention:#?}");
    for (said, part) in attention.iter().zip(parts) {
        assert!(said.contains(part), "{part}: {attention:#?}");
    }
}

/// What grows by a gigabyte a day, of which `free_gb` are free and 200 in all allowed, as it was measured on so many days.
fn ground(days: i64, free_gb: u64) -> Ground {
    const GB: u64 = 1 << 30;
    let night = |day: i64| {
        let number = (100 + day) as u64;
        let free = (free_gb + days as u64 - 1 - day as u64) * GB;
        let sizes = [(figure::REPOSITORY_BYTES, number * GB), (figure::REPOSITORY_FREE_AFTER_BYTES, free)];
        with(run(day as u8, (days - day) * 24 - 20, Outcome::Done, GOOD), &sizes)
    };
    let entries: Vec<Entry> = (0..days).map(night).collect();
    let ends = Ends { quota_bytes: Some(200 * GB), has_cache: true };
    Ground { name: "main".to_owned(), growth: Growth::of(entries.iter(), &TimeZone::UTC), ends }
}

fn with_ground(ground: Ground) -> Report {
    let options = Options { method: Method::TheilSen, level: 0.8 };
    let targets = BTreeMap::new();
    report(&week(), &Facts { entries: &[], targets: &targets, grounds: &[ground], options, host: "tower" })
}

#[test]
fn a_forecast_says_when_disk_and_quota_are_full_in_every_form() {
    let found = with_ground(ground(20, 40));
    let guessed = found.repositories[0].forecast.clone().unwrap();
    assert_eq!((guessed.bytes, guessed.bytes_a_day, guessed.likely_bytes), (119 << 30, 1 << 30, 149 << 30));
    // The newest day is the 30th of November: 40 days of what is free, and 81 of the quota.
    assert_eq!(guessed.date, "2026-12-30");
    assert_eq!(guessed.disk.as_ref().unwrap().full_likely.as_deref(), Some("2027-01-09"));
    assert_eq!(guessed.quota.as_ref().unwrap().full_likely.as_deref(), Some("2027-02-19"));
    assert_eq!(guessed.cache, None, "nobody measured it");
    assert_eq!(found.attention.len(), 2, "{:?}", found.attention);
    assert!(
        found.attention[0].starts_with("repository main: of its disk 40.0 GiB left: full on 2027-01-09"),
        "{:?}",
        found.attention
    );
    let said = "40.0 GiB left: full on 2027-01-09, on 2027-01-09 at the earliest";
    for form in [render::text(&found), render::html(&found), render::markdown(&found), render::short(&found)] {
        assert!(form.contains(said), "{form}");
    }
    assert!(render::text(&found).contains("+1.0 GiB a day"));
    let csv = render::csv(&found);
    let row: Vec<&str> = csv.lines().nth(1).unwrap().split(',').collect();
    assert_eq!(row.len(), csv.lines().next().unwrap().split(',').count(), "{csv}");
    assert_eq!(row[..3], ["", "2026-12-30", "forecast"]);
    assert_eq!((row[6], row[7], row[11]), ((149u64 << 30).to_string().as_str(), "main", "2027-01-09"));
    let json = serde_json::to_value(&found).unwrap();
    assert_eq!(json["repositories"][0]["forecast"]["disk"]["full_likely"], "2027-01-09");
}

#[test]
fn a_disk_that_lasts_needs_no_attention_and_too_few_days_are_no_forecast() {
    assert!(with_ground(Ground { ends: Ends::default(), ..ground(20, 400) }).attention.is_empty());
    let young = with_ground(ground(3, 40));
    let expected = Growing { name: "main".to_owned(), measured_days: 3, missing_days: 4, forecast: None };
    assert_eq!(young.repositories, [expected]);
    assert!(render::text(&young).contains("3 of the 7 days that a forecast needs were measured: 4 more"));
    assert_eq!(render::csv(&young).lines().count(), 1);
    let moment: Timestamp = young.to.parse().unwrap();
    assert_eq!(moment, end().timestamp());
}

#[test]
fn a_page_shows_runs_also_where_no_charts_are_shown_and_no_name_breaks_out_of_it() {
    let mut entries: Vec<Entry> = (0..40)
        .map(|number| {
            with(run(number, 160 - i64::from(number), Outcome::Done, GOOD), &[(figure::ADDED_BYTES, 1 << 20)])
        })
        .collect();
    entries[39] = run(39, 2, Outcome::Failed, BAD);
    entries.iter_mut().for_each(|entry| entry.profile = "<script>\"x\"".to_owned());
    let found = reported(&week(), &entries, target());
    let page = render::html(&found);
    assert!(!page.contains("<script>") && page.contains("&lt;script&gt;"));
    let rows = page.split("Begun (UTC)").nth(1).unwrap().split("</table>").next().unwrap().matches("<tr>").count();
    assert_eq!(rows, 31, "the newest of a month: {page}");
    assert!(page.contains("width:90px;height:8px;background:#2e7d32"));
    let short = render::short(&found);
    assert!(short.lines().count() < 12 && short.contains("39 of 40 runs good"), "{short}");
    assert_eq!(render::gist(&found), "39 of 40 runs good, 2 things need attention");
}
