//! Reports: what the history says of a stretch of time, against what profiles are to keep to; made, sent, and sent by
//! themselves when they are due.
//!
//! ```text
//! STATE/reports.json    {"daily":1796025600,…}: up to when each sort has been reported, in seconds since 1970
//! ```
//!
//! Each report that is due begins where the last one of its sort ended, so that every night is in one of them, however long a
//! machine was off, and that is told in one report. Messages are laid down before that is noted: who is ended between the
//! two lays them down again under the same id.

use super::alarm::{folder, lowered};
use super::due::local;
use super::error::{Error, Result};
use super::missed::missed;
use super::past::reads_snapshots;
use super::post::{Post, write_down};
use crate::base::Machine;
use crate::base::clock::{Stopwatch, Timestamp, Zoned};
use crate::config::Config;
use crate::config::meant::{Profile, Reports, Repository};
use crate::history::{Entry, Filter, History};
use crate::notify::alerts::write_whole;
use crate::notify::message::{About, Body, Message, State};
use crate::notify::outbox::{Tried, Waiting};
use crate::report::growth::{Ends, Growth};
use crate::report::period::{Period, Sort};
use crate::report::render;
use crate::report::summary::{self, Facts, Ground, Report, Target};
use crate::store::S3Address;
use std::collections::BTreeMap;
use std::fs::{DirBuilder, File, OpenOptions};
use std::io::Read;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;
use std::time::Duration;

/// A run is missed when it has not begun so long after its time.
const GRACE_S: i64 = 3600;
const DAY_S: i64 = 86_400;
const DAY_NS: i64 = DAY_S * 1_000_000_000;
/// So much longer than the time that is reported a run may have taken.
const LONGEST_RUN_NS: i64 = 7 * DAY_NS;
/// Where nobody has noted anything yet, a report counts whose time came so long ago at most: the timer has just been set up.
const FIRST_S: i64 = 3600;
/// A note from so far in the future was made by a clock that was wrong.
const WRONG_CLOCK_S: i64 = 2 * DAY_S;
/// No report reaches further back.
const FURTHEST_DAYS: i64 = 400;
/// No file of notes is larger.
const MOST_BYTES: u64 = 64 << 10;
const NOTES: &str = "reports.json";

/// A report of all profiles, or of one.
pub fn report(config: &Config, period: &Period, only: Option<&str>, now: &Zoned) -> Result<Report> {
    let folder = folder(&config.state())?;
    let names: Vec<&str> = match only {
        Some(name) => vec![name],
        None => config.profiles(),
    };
    let profiles = names.into_iter().map(|name| config.profile(name)).collect::<std::result::Result<Vec<_>, _>>()?;
    let since_ns = period.before_ns().0.saturating_sub(LONGEST_RUN_NS);
    // What is known to come back may be older than what is compared.
    let earlier = Filter {
        profiles: profiles.iter().map(|profile| profile.name.clone()).collect(),
        since_ns: Some(since_ns.saturating_sub(FURTHEST_DAYS * DAY_NS)),
        before_ns: Some(since_ns),
        ..Filter::default()
    };
    let filter = Filter {
        profiles: only.map(str::to_owned).into_iter().collect(),
        since_ns: Some(since_ns),
        before_ns: Some(period.ns().1),
        tables: true,
        ..Filter::default()
    };
    let mut all = if profiles.is_empty() { Vec::new() } else { entries(&folder, &earlier)? };
    all.extend(entries(&folder, &filter)?);
    let entries = all;
    let mut targets = BTreeMap::new();
    for profile in &profiles {
        let target = Target { first_ns: first_ns(&folder, &profile.name)?, ..target(profile, period, &entries, now) };
        targets.insert(profile.name.clone(), target);
    }
    let grounds = grounds(config, &folder, &profiles, period)?;
    let (options, host) = (config.outlook().options, Machine::this().host);
    let facts = Facts { entries: &entries, targets: &targets, grounds: &grounds, options, host: &host };
    Ok(summary::report(period, &facts))
}

fn entries(folder: &Path, filter: &Filter) -> Result<Vec<Entry>> {
    let said = |error: crate::history::Error| Error::Said(error.kind(), error.to_string());
    let history = History::read(folder).map_err(said)?;
    history.map_or(Ok(Vec::new()), |history| history.entries(filter)).map_err(said)
}

/// When the first of all runs of a profile ended.
fn first_ns(folder: &Path, profile: &str) -> Result<Option<i64>> {
    let said = |error: crate::history::Error| Error::Said(error.kind(), error.to_string());
    let history = History::read(folder).map_err(said)?;
    history.map_or(Ok(None), |history| history.first_end_ns(profile)).map_err(said)
}

fn target(profile: &Profile, period: &Period, entries: &[Entry], now: &Zoned) -> Target {
    let ms = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
    let rules = [&profile.rules.critical, &profile.rules.warning, &profile.rules.info];
    Target {
        rpo_ms: rules.iter().find_map(|rules| rules.rpo).map(ms),
        rto_ms: rules.iter().find_map(|rules| rules.rto).map(ms),
        is_remote: is_remote(&profile.repository),
        reads_snapshots: reads_snapshots(profile),
        missed: missing(profile, period, entries, now),
        until_ns: i64::try_from(now.timestamp().as_nanosecond()).ok(),
        first_ns: None,
    }
}

fn is_remote(repository: &Repository) -> bool {
    S3Address::is_meant(&repository.place.to_string_lossy())
}

/// Times of the schedule within the period, since the first run that is known, at which nothing was run.
fn missing(profile: &Profile, period: &Period, entries: &[Entry], now: &Zoned) -> u64 {
    let own: Vec<Entry> = entries.iter().filter(|entry| entry.profile == profile.name).cloned().collect();
    let (Some(schedule), Some(first)) = (&profile.schedule, own.first()) else { return 0 };
    let since = if first.begun_ns > period.ns().0 { local(first.begun_ns) } else { period.from.clone() };
    let end = if period.to < *now { &period.to } else { now };
    missed(schedule, &own, &since, end, GRACE_S).len() as u64
}

/// What was measured of the repositories of these profiles up to the end of the period, by whichever profile.
fn grounds(config: &Config, folder: &Path, profiles: &[Profile], period: &Period) -> Result<Vec<Ground>> {
    let end_ns = period.ns().1;
    let since_ns = Some(end_ns.saturating_sub(i64::from(config.outlook().days).saturating_mul(DAY_NS)));
    let entries = entries(folder, &Filter { since_ns, before_ns: Some(end_ns), ..Filter::default() })?;
    let repositories: BTreeMap<&str, &Repository> =
        profiles.iter().map(|profile| (profile.repository.name.as_str(), &profile.repository)).collect();
    let ground = |(name, repository): (&str, &Repository)| Ground {
        name: name.to_owned(),
        growth: Growth::of(entries.iter().filter(|entry| entry.repository == name), period.to.time_zone()),
        ends: Ends { quota_bytes: repository.quota_bytes, has_cache: repository.cache_dir.is_some() },
    };
    Ok(repositories.into_iter().map(ground).collect())
}

/// Sends a report through these channels, or through those that the config names.
pub fn send(config: &Config, report: &Report, channels: &[String], now: &Zoned) -> Result<Vec<Tried>> {
    let since = Stopwatch::start();
    let named = if channels.is_empty() { config.reports().channels } else { channels.to_vec() };
    if named.is_empty() {
        return Err(Error::usage("through which channel? Name some in `channels` of [reports], or say --channel NAME"));
    }
    for name in &named {
        config.channel(name)?;
    }
    let message = message(report, now.timestamp());
    let state = config.state();
    let all = config.channels();
    let mut post = Post::below(&folder(&state)?, &all);
    post.lay_down(to_each(&named, &message), now.timestamp());
    let tried = post.send(now.timestamp()).map_err(lowered)?;
    write_down(&state, "report", &tried, since);
    Ok(tried)
}

fn to_each(channels: &[String], message: &Message) -> Vec<Waiting> {
    let one = |channel: &String| Waiting {
        channel: channel.clone(),
        not_before: 0,
        quiet: false,
        attempts: 0,
        error: None,
        superseded: false,
        message: message.clone(),
    };
    channels.iter().map(one).collect()
}

fn message(report: &Report, now: Timestamp) -> Message {
    let state = if report.attention.is_empty() { State::Ok } else { State::Warning };
    let profile = match report.profiles.as_slice() {
        [one] => one.name.as_str(),
        _ => "all",
    };
    let about = About { profile, host: &report.host, repository: "" };
    let body = Body { text: render::text(report), html: render::html(report), short: Some(render::short(report)) };
    Message {
        title: format!("{} on {}: {}", report.title, report.host, render::gist(report)),
        next: report.attention.first().cloned().unwrap_or_else(|| "nothing".to_owned()),
        body: Some(body),
        ..Message::bare(about, now, state, String::new())
    }
}

/// A report that was due.
#[derive(Debug)]
pub struct Due {
    /// What it is about.
    pub period: Period,
    /// What it comes to, in a line.
    pub gist: String,
}

/// Sends the reports whose time has come, each once, and what waits since earlier.
pub fn due(config: &Config, now: &Zoned) -> Result<(Vec<Due>, Vec<Tried>)> {
    let since = Stopwatch::start();
    let reports = config.reports();
    if reports.channels.is_empty() {
        return Ok((Vec::new(), Vec::new()));
    }
    let (state, channels) = (config.state(), config.channels());
    let folder = folder(&state)?;
    let mut post = Post::below(&folder, &channels);
    let lock = lock(&folder)?;
    let mut notes = read(&folder);
    let mut made = Vec::new();
    for period in periods(&reports, &mut notes, now) {
        let report = report(config, &period, None, now)?;
        let id = format!("{}-{}", period.sort.name(), period.to.timestamp().as_second());
        let message = Message { id, ..message(&report, now.timestamp()) };
        post.lay_down(to_each(&reports.channels, &message), now.timestamp());
        made.push(Due { period, gist: render::gist(&report) });
    }
    let json = serde_json::to_vec(&notes).unwrap_or_default();
    // Where nothing can be noted, nothing may be sent again and again either: the next time tells.
    write_whole(&folder.join(NOTES), &json, 0o600).map_err(lowered)?;
    drop(lock);
    let tried = post.send(now.timestamp()).map_err(lowered)?;
    write_down(&state, "report", &tried, since);
    Ok((made, tried))
}

/// Up to when each sort has been reported, in seconds since 1970.
type Notes = BTreeMap<String, i64>;

/// Two that come at the same time do not both send.
fn lock(folder: &Path) -> Result<File> {
    // No profile has a name that begins with a dot, and so none has this lock.
    let path = folder.join(".reports.lock");
    let failed = |source| Error::io(format!("lock {}", path.display()), source);
    DirBuilder::new().recursive(true).mode(0o700).create(folder).map_err(failed)?;
    let mut options = OpenOptions::new();
    let file = options.write(true).create(true).truncate(false).mode(0o600).open(&path).map_err(failed)?;
    file.lock().map_err(failed)?;
    Ok(file)
}

/// What cannot be read counts as nothing: then it is as on the first day, and no report is sent twice for it.
fn read(folder: &Path) -> Notes {
    let mut text = String::new();
    let read = File::open(folder.join(NOTES)).and_then(|file| file.take(MOST_BYTES).read_to_string(&mut text));
    read.ok().and_then(|_| serde_json::from_str(&text).ok()).unwrap_or_default()
}

/// What is due, and notes it. Of a sort whose time came several times while the machine was off there is one.
fn periods(reports: &Reports, notes: &mut Notes, now: &Zoned) -> Vec<Period> {
    let now_s = now.timestamp().as_second();
    let mut periods = Vec::new();
    for (sort, schedule) in &reports.due {
        let noted = notes.get(sort.name()).copied().filter(|noted| *noted <= now_s + WRONG_CLOCK_S);
        let last = noted.unwrap_or(now_s - FIRST_S);
        match schedule.last(now).filter(|due| due.timestamp().as_second() > last) {
            Some(due) => {
                notes.insert(sort.name().to_owned(), due.timestamp().as_second());
                periods.push(since(*sort, noted, due));
            }
            None if noted.is_none() => drop(notes.insert(sort.name().to_owned(), now_s)),
            None => {}
        }
    }
    periods
}

/// From the end of the last one of its sort, but never less than what it is called after.
fn since(sort: Sort, noted: Option<i64>, due: Zoned) -> Period {
    let usual = Period::before(sort, &due);
    let furthest = due.timestamp().as_second() - FURTHEST_DAYS * DAY_S;
    let noted = noted.and_then(|noted| Timestamp::from_second(noted.max(furthest)).ok());
    match noted.map(|noted| noted.to_zoned(due.time_zone().clone())).filter(|noted| *noted < usual.from) {
        Some(from) => Period { from, ..usual },
        None => usual,
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::config::schedule::Schedule;

    fn at(text: &str) -> Zoned {
        text.parse().unwrap()
    }

    fn usual() -> Reports {
        let due = [(Sort::Daily, "0 8 * * *"), (Sort::Weekly, "0 8 * * SUN"), (Sort::Monthly, "0 8 1 * *")];
        let due = due.map(|(sort, text)| (sort, Schedule::parse(text).unwrap())).to_vec();
        Reports { channels: vec!["ops".to_owned()], due }
    }

    fn told(notes: &mut Notes, now: &str) -> Vec<String> {
        let day = |time: &Zoned| time.strftime("%d %H").to_string();
        let one = |period: &Period| format!("{}: {} to {}", period.sort.name(), day(&period.from), day(&period.to));
        periods(&usual(), notes, &at(now)).iter().map(one).collect()
    }

    #[test]
    fn each_report_is_due_once_and_none_on_the_day_on_which_somebody_begins() {
        let mut notes = Notes::new();
        let none: [&str; 0] = [];
        assert_eq!(told(&mut notes, "2026-11-25T12:00:00[Europe/Berlin]"), none, "its time was before we came");
        assert_eq!(told(&mut notes, "2026-11-26T07:59:00[Europe/Berlin]"), none);
        assert_eq!(told(&mut notes, "2026-11-26T08:10:00[Europe/Berlin]"), ["daily: 25 08 to 26 08"]);
        assert_eq!(told(&mut notes, "2026-11-26T08:15:00[Europe/Berlin]"), none);
        assert_eq!(told(&mut notes, "2026-11-27T08:00:00[Europe/Berlin]"), ["daily: 26 08 to 27 08"]);
    }

    #[test]
    fn a_timer_that_is_set_up_at_eight_reports_at_once() {
        assert_eq!(told(&mut Notes::new(), "2026-11-26T08:20:00[Europe/Berlin]"), ["daily: 25 08 to 26 08"]);
    }

    #[test]
    fn what_was_slept_through_is_told_in_one_report_of_each_sort_that_leaves_no_night_out() {
        let mut notes = Notes::new();
        assert_eq!(told(&mut notes, "2026-11-19T08:00:00[Europe/Berlin]"), ["daily: 18 08 to 19 08"]);
        // Off from Thursday to the Tuesday after the next one; a Sunday and the first of a month were among it.
        let back = told(&mut notes, "2026-12-01T17:00:00[Europe/Berlin]");
        assert_eq!(back, ["daily: 19 08 to 01 08", "weekly: 19 08 to 29 08", "monthly: 01 08 to 01 08"]);
        assert!(told(&mut notes, "2026-12-01T17:15:00[Europe/Berlin]").is_empty());
        let next = told(&mut notes, "2026-12-02T08:00:00[Europe/Berlin]");
        assert_eq!(next, ["daily: 01 08 to 02 08"]);
    }

    #[test]
    fn a_change_of_clocks_brings_neither_two_reports_nor_none() {
        let mut notes =
            Notes::from([("daily".to_owned(), at("2026-10-24T08:00:00[Europe/Berlin]").timestamp().as_second())]);
        let mut count = 0;
        let mut now = at("2026-10-24T08:00:00[Europe/Berlin]");
        let end = at("2026-10-27T00:00:00[Europe/Berlin]");
        while now < end {
            let daily = periods(&usual(), &mut notes, &now);
            count += daily.iter().filter(|period| period.sort == Sort::Daily).count();
            now = now.checked_add(crate::base::clock::Span::new().minutes(15)).unwrap();
        }
        assert_eq!(count, 2);
    }

    #[test]
    fn a_clock_that_is_set_back_repeats_nothing_and_one_that_was_years_ahead_silences_nothing_for_long() {
        let mut notes = Notes::new();
        assert_eq!(told(&mut notes, "2026-11-26T08:00:30[Europe/Berlin]").len(), 1);
        assert!(told(&mut notes, "2026-11-26T07:00:00[Europe/Berlin]").is_empty());
        assert!(told(&mut notes, "2026-11-26T08:00:00[Europe/Berlin]").is_empty());
        let mut wrong = Notes::from([("daily".to_owned(), at("2036-01-01T00:00:00[UTC]").timestamp().as_second())]);
        assert!(told(&mut wrong, "2026-11-26T12:00:00[Europe/Berlin]").is_empty());
        assert_eq!(told(&mut wrong, "2026-11-27T08:00:00[Europe/Berlin]"), ["daily: 26 08 to 27 08"]);
    }
}
