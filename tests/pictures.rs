//! The picture of a report in the README is the page itself, of a made-up week: what a browser shows of it is what a mail
//! program shows.
//!
//! `KEEPSTONE_PICTURES=1` writes it anew.

use keepstone::base::clock::{TimeZone, Timestamp, Zoned};
use keepstone::base::{RunId, SessionId};
use keepstone::history::{By, Entry, Outcome, Phase, TableCount, figure};
use keepstone::report::Period;
use keepstone::report::forecast::{Method, Options};
use keepstone::report::growth::{Ends, Growth};
use keepstone::report::period::Sort;
use keepstone::report::render;
use keepstone::report::summary::{Facts, Ground, Report, Target, report};
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::Command;

const HOUR_NS: i64 = 3_600_000_000_000;
/// The night of the week that goes wrong.
const BAD: i64 = 3;

fn end() -> Zoned {
    "2026-11-29T08:00:00[UTC]".parse().unwrap()
}

/// A night of a shop that grows, so many nights before the end.
fn night(ago: i64) -> Entry {
    let begun_ns = end().timestamp().as_nanosecond() as i64 - ago * 24 * HOUR_NS - 6 * HOUR_NS;
    let number = u64::try_from(60 - ago).unwrap();
    let mut entry = Entry::begun(RunId([number as u8; 16]), "shop", "offsite", "db1", By::Schedule, begun_ns);
    let is_good = ago != BAD;
    let wave = [0, 7, 2, 9, 4, 11, 5][(number % 7) as usize];
    entry.ended_ns = Some(begun_ns + (if is_good { 260 + 8 * wave as i64 } else { 35 }) * 1_000_000_000);
    entry.outcome = if is_good { Outcome::Done } else { Outcome::Failed };
    let phase = |name: &str, outcome: &str, kind: Option<&str>| Phase {
        name: name.to_owned(),
        outcome: outcome.to_owned(),
        kind: kind.map(str::to_owned),
        ..Phase::default()
    };
    if !is_good {
        entry.phases = vec![phase("backup", "failed", Some("unavailable"))];
        return entry;
    }
    entry.snapshot = Some(SessionId(entry.id.0));
    entry.phases = vec![phase("backup", "done", None), phase("verify", "done", None)];
    if ago == 6 {
        entry.phases.push(phase("drill", "done", None));
        entry.figures.set(figure::RESTORE_MS, 19 * 60_000);
    }
    const MB: u64 = 1 << 20;
    for (name, value) in [
        (figure::CONTENT_BYTES, (180_000 + 620 * number) * MB),
        (figure::NEW_BYTES, (2_100 + 60 * wave) * MB),
        (figure::STORED_BYTES, (290 + 12 * wave) * MB),
        (figure::ADDED_BYTES, (300 + 12 * wave) * MB),
        (figure::REPOSITORY_BYTES, (38_000 + 350 * number + 90 * wave) * MB),
        (figure::FREED_BYTES, 40 * MB),
    ] {
        entry.figures.set(name, value);
    }
    let table =
        |name: &str, rows: u64| TableCount { source: "@postgres/shop".into(), name: name.into(), rows, bytes: 1 };
    entry.tables =
        vec![table("public.orders", 1_200_000 + 4_150 * number), table("public.customers", 88_000 + 61 * number)];
    entry
}

fn week() -> Report {
    let nights: Vec<Entry> = (0..56).rev().map(night).collect();
    let hours = |hours: u64| Some(hours * 3_600_000);
    let target = Target {
        rpo_ms: hours(25),
        rto_ms: hours(1),
        is_remote: true,
        reads_snapshots: true,
        missed: 0,
        until_ns: None,
        first_ns: Some(0),
    };
    let ground = Ground {
        name: "offsite".to_owned(),
        growth: Growth::of(nights.iter(), &TimeZone::UTC),
        ends: Ends { quota_bytes: Some(80 << 30), has_cache: false },
    };
    let facts = Facts {
        entries: &nights[42..],
        targets: &BTreeMap::from([("shop".to_owned(), target)]),
        grounds: &[ground],
        options: Options { method: Method::TheilSen, level: 0.8 },
        host: "db1",
    };
    report(&Period::before(Sort::Weekly, &end()), &facts)
}

/// The page within a picture, as wide and high as it is.
fn picture(page: &str) -> String {
    let (_, body) = page.split_once("<body style=\"").unwrap();
    let (style, body) = body.split_once("\">\n").unwrap();
    let body = body.strip_suffix("</body></html>\n").unwrap();
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"680\" height=\"{HEIGHT}\" viewBox=\"0 0 680 {HEIGHT}\">\n\
         <title>A weekly report of a made-up shop</title>\n\
         <foreignObject width=\"680\" height=\"{HEIGHT}\">\n<div xmlns=\"http://www.w3.org/1999/xhtml\" style=\"{style};min-height:100%;\
         box-sizing:border-box\">\n{body}</div>\n</foreignObject>\n</svg>\n"
    )
}

/// What a browser needs for all of it.
const HEIGHT: u32 = 1950;

#[test]
fn the_picture_of_a_report_is_the_page_itself() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/pictures/report.svg");
    let made = picture(&render::html(&week()));
    if std::env::var_os("KEEPSTONE_PICTURES").is_some() {
        fs::write(&path, &made).unwrap();
    }
    assert!(made.matches("<svg").count() == 4 && made.contains("Look at this first"), "{made}");
    assert_eq!(fs::read_to_string(&path).unwrap(), made, "KEEPSTONE_PICTURES=1 writes it anew");
    // A browser shows a picture only if it is well-formed.
    let code = "import sys, xml.dom.minidom; xml.dom.minidom.parse(sys.argv[1])";
    assert!(Command::new("python3").args(["-c", code]).arg(&path).status().unwrap().success());
    let moment: Timestamp = week().to.parse().unwrap();
    assert_eq!(moment, end().timestamp());
}
