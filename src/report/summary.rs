//! What a stretch of time came to, profile by profile: the figures of a report.

use super::forecast::Options;
use super::growth::{Ends, Growth, Limit};
use super::landmarks::{Landmarks, did, ended, is_back};
use super::period::Period;
use super::render::full;
use crate::base::clock::{Span, span};
use crate::history::{Entry, Outcome, TableCount, figure};
use serde::Serialize;
use std::collections::BTreeMap;

/// The most tables that a report names of a profile.
const MOST_TABLES: usize = 20;
/// A forecast in a report looks so many days ahead.
pub const DAYS_AHEAD: usize = 30;
/// What is full within so many days needs attention.
const FULL_WITHIN_DAYS: i64 = 90;

/// What a profile is measured against.
#[derive(Clone, Debug, Default)]
pub struct Target {
    /// The largest gap between snapshots that are known to come back.
    pub rpo_ms: Option<u64>,
    /// The longest drill.
    pub rto_ms: Option<u64>,
    /// Whether its repository lies elsewhere.
    pub is_remote: bool,
    /// Whether a verification reads new snapshots whole.
    pub reads_snapshots: bool,
    /// So many runs should have been and were not.
    pub missed: u64,
    /// Up to when anything can be known, in nanoseconds since 1970; none for the end of the time.
    pub until_ns: Option<i64>,
    /// When the first of all its runs that are known ended, in nanoseconds since 1970; none before that.
    pub first_ns: Option<i64>,
}

/// A repository whose growth is to be told.
#[derive(Clone, Debug)]
pub struct Ground {
    /// Its name.
    pub name: String,
    /// What was measured of it up to the end of the period.
    pub growth: Growth,
    /// Where it may end.
    pub ends: Ends,
}

/// A report.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// `daily`, `weekly`, `monthly` or `days`.
    pub sort: &'static str,
    /// Its title.
    pub title: String,
    /// The machine.
    pub host: String,
    /// Its beginning, RFC 3339.
    pub from: String,
    /// Its end.
    pub to: String,
    /// What needs attention first, the most pressing first.
    pub attention: Vec<String>,
    /// All profiles together.
    pub all: Totals,
    /// How long a run of any of them took, in milliseconds, on average.
    pub duration_ms: Trend,
    /// Each profile.
    pub profiles: Vec<Profile>,
    /// How each repository grows.
    pub repositories: Vec<Growing>,
}

/// How a repository grows.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Growing {
    /// Its name.
    pub name: String,
    /// Days on which its size was measured.
    pub measured_days: usize,
    /// Further days that a forecast needs; then there is none.
    pub missing_days: usize,
    /// The forecast.
    pub forecast: Option<Guessed>,
}

/// A forecast.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Guessed {
    /// What it holds.
    pub bytes: u64,
    /// What a day adds from now on.
    pub bytes_a_day: i64,
    /// The day that is guessed.
    pub date: String,
    /// What it holds then, as likely more as less.
    pub likely_bytes: u64,
    /// The lower end of the interval.
    pub least_bytes: u64,
    /// Its upper end.
    pub most_bytes: u64,
    /// The share of futures that lie within the interval.
    pub level: f64,
    /// `ets` or `theil-sen`.
    pub method: &'static str,
    /// When the disk is full, if it is one of this machine.
    pub disk: Option<Limit>,
    /// When that of the cache is.
    pub cache: Option<Limit>,
    /// When the quota is reached.
    pub quota: Option<Limit>,
}

/// Sums of all profiles.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Totals {
    /// Runs.
    pub runs: u64,
    /// Good ones.
    pub good: u64,
    /// Those that made a partial snapshot.
    pub partial: u64,
    /// All others.
    pub failed: u64,
    /// Runs that should have been and were not.
    pub missed: u64,
    /// Share of good runs, in per cent.
    pub success_percent: Option<f64>,
    /// What runs added.
    pub added_bytes: u64,
    /// What pruning freed on this machine.
    pub freed_local_bytes: u64,
    /// What pruning freed elsewhere.
    pub freed_remote_bytes: u64,
}

/// A figure now and in the time before.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Trend {
    /// Now.
    pub now: Option<f64>,
    /// In the equally long time before.
    pub before: Option<f64>,
    /// The change, in per cent.
    pub change_percent: Option<f64>,
}

/// A profile.
#[derive(Clone, Debug, Serialize)]
pub struct Profile {
    /// Its name.
    pub name: String,
    /// Its runs.
    pub totals: Totals,
    /// How long a run took, in milliseconds, on average.
    pub duration_ms: Trend,
    /// The content of a snapshot in bytes: the newest one, and the newest one of the time before.
    pub content_bytes: Trend,
    /// What the repository holds, the same.
    pub repository_bytes: Trend,
    /// New content by what it takes, on average.
    pub compression: Trend,
    /// Content by what of it was new, on average.
    pub dedup: Trend,
    /// Failures by kind.
    pub errors: BTreeMap<String, u64>,
    /// Tables whose rows changed since the time before, those that changed most first.
    pub tables: Vec<TableChange>,
    /// So many more changed than are named.
    pub more_tables: u64,
    /// Verifications.
    pub verify: Checks,
    /// Share of the complete snapshots of the time that were read back whole, in per cent.
    pub coverage_percent: Option<f64>,
    /// Drills.
    pub drills: Checks,
    /// The longest time without a new snapshot that is known to come back, and what it may be.
    pub rpo: Measured,
    /// How long the last drill took, and what it may take.
    pub rto: Measured,
    /// The share of the time, since its first run, in which there was a snapshot as young as it has to be, in per cent.
    pub availability_percent: Option<f64>,
    /// When its first run ended, RFC 3339, where that lies within the time: what was before it counts for nothing.
    pub availability_since: Option<String>,
    /// The newest snapshot that is known to come back, RFC 3339.
    pub safe: Option<String>,
    /// Each run, the oldest first: what charts are made of.
    pub nights: Vec<Night>,
}

/// A run.
#[derive(Clone, Debug, Serialize)]
pub struct Night {
    /// When it began, RFC 3339.
    pub begun: String,
    /// The repository, as the config calls it.
    pub repository: String,
    /// How it ended.
    pub outcome: &'static str,
    /// How long it took.
    pub duration_ms: Option<u64>,
    /// The content of its snapshot.
    pub content_bytes: Option<u64>,
    /// What it added.
    pub added_bytes: Option<u64>,
    /// What the repository held.
    pub repository_bytes: Option<u64>,
}

/// A table.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct TableChange {
    /// The dump it is in.
    pub source: String,
    /// Its name.
    pub name: String,
    /// Its rows before; none for a new one.
    pub rows_before: Option<u64>,
    /// Its rows now; none for one that is gone.
    pub rows: Option<u64>,
}

/// Verifications or drills.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Checks {
    /// All.
    pub all: u64,
    /// Those that found nothing wrong.
    pub good: u64,
    /// The share, in per cent.
    pub percent: Option<f64>,
}

/// Something against its target.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Measured {
    /// What it was.
    pub measured_ms: Option<u64>,
    /// What it may be.
    pub target_ms: Option<u64>,
    /// Whether it was met; none if one of them is not known.
    pub met: Option<bool>,
}

/// What figures are made of.
#[derive(Clone, Copy, Debug)]
pub struct Facts<'f> {
    /// Runs of the period and of the equally long time before, with their tables, the oldest first.
    pub entries: &'f [Entry],
    /// What profiles are measured against.
    pub targets: &'f BTreeMap<String, Target>,
    /// Their repositories.
    pub grounds: &'f [Ground],
    /// How their growth is guessed.
    pub options: Options,
    /// The machine.
    pub host: &'f str,
}

/// The figures of a period. A run belongs to the time in which it ended: that is when somebody could know of it.
pub fn report(period: &Period, facts: &Facts<'_>) -> Report {
    let Facts { entries, targets, host, .. } = *facts;
    let mut names: Vec<&str> = targets.keys().map(String::as_str).collect();
    names.extend(entries.iter().map(|entry| entry.profile.as_str()));
    names.sort_unstable();
    names.dedup();
    let profiles: Vec<Profile> = names
        .iter()
        .map(|name| {
            let own: Vec<&Entry> = entries.iter().filter(|entry| entry.profile == **name).collect();
            profile(period, name, &own, &targets.get(*name).cloned().unwrap_or_default())
        })
        .collect();
    let mut all = Totals::default();
    profiles.iter().for_each(|profile| all.add(&profile.totals));
    all.success_percent = percent(all.good, all.runs);
    let repositories: Vec<Growing> = facts.grounds.iter().map(|ground| growing(ground, &facts.options)).collect();
    let everybody: Vec<&Entry> = entries.iter().filter(|entry| entry.is_night()).collect();
    let duration = |time| mean(&within(&everybody, time), |one| one.duration_ms().map(|ms| ms as f64));
    let of_profiles = profiles.iter().flat_map(attention);
    let of_repositories = repositories.iter().flat_map(|one| tight(one, period));
    Report {
        sort: period.sort.name(),
        title: period.title(),
        host: host.to_owned(),
        from: period.from.timestamp().to_string(),
        to: period.to.timestamp().to_string(),
        attention: sorted(of_profiles.chain(of_repositories).collect()),
        all,
        duration_ms: trend(duration(period.ns()), duration(period.before_ns())),
        profiles,
        repositories,
    }
}

/// The runs that ended in a stretch of time. Of one that vanished nobody knows when it did: it belongs to when it began.
fn within<'e>(entries: &[&'e Entry], (from, to): (i64, i64)) -> Vec<&'e Entry> {
    let is_within = |entry: &&&Entry| {
        let known_ns = entry.ended_ns.filter(|_| entry.outcome != Outcome::Vanished).unwrap_or(entry.begun_ns);
        (from..to).contains(&known_ns) && entry.outcome != Outcome::Running
    };
    entries.iter().filter(is_within).copied().collect()
}

fn growing(ground: &Ground, options: &Options) -> Growing {
    let outlook = ground.growth.outlook(DAYS_AHEAD, options, ground.ends);
    let (measured_days, missing_days) = match (&ground.growth.size, &outlook) {
        (Ok(size), Ok(_)) => (size.measured(), 0),
        (Err(short), _) | (_, Err(short)) => (short.have, short.missing()),
    };
    let guessed = outlook.ok().and_then(|outlook| {
        let day = outlook.far.ahead(DAYS_AHEAD)?;
        Some(Guessed {
            bytes: outlook.bytes,
            bytes_a_day: outlook.bytes_a_day,
            date: day.date.to_string(),
            likely_bytes: day.likely as u64,
            least_bytes: day.least as u64,
            most_bytes: day.most as u64,
            level: outlook.far.level,
            method: outlook.far.method.name(),
            disk: outlook.disk,
            cache: outlook.cache,
            quota: outlook.quota,
        })
    });
    Growing { name: ground.name.clone(), measured_days, missing_days, forecast: guessed }
}

/// What of a repository is full soon.
fn tight(one: &Growing, period: &Period) -> Vec<(u8, String)> {
    let Some(forecast) = &one.forecast else { return Vec::new() };
    let soon = period.to.date().saturating_add(Span::new().days(FULL_WITHIN_DAYS)).to_string();
    let limits = [("disk", &forecast.disk), ("cache's disk", &forecast.cache), ("quota", &forecast.quota)];
    // Days written year first are in order as texts.
    let is_soon = |limit: &&Limit| limit.full_earliest.as_ref().is_some_and(|earliest| *earliest <= soon);
    let text = |(what, limit): (&str, &Option<Limit>)| {
        let limit = limit.as_ref().filter(is_soon)?;
        Some((3, format!("repository {}: of its {what} {}: make room, or keep less", one.name, full(limit))))
    };
    limits.into_iter().filter_map(text).collect()
}

/// The most pressing first, then as they came.
fn sorted(mut list: Vec<(u8, String)>) -> Vec<String> {
    list.sort_by_key(|(urgency, _)| *urgency);
    list.into_iter().map(|(_, text)| text).collect()
}

fn profile(period: &Period, name: &str, entries: &[&Entry], target: &Target) -> Profile {
    let (now, before) = (within(entries, period.ns()), within(entries, period.before_ns()));
    // Runs of single tasks count by what they found, and not among the nights.
    let (nights, nights_before) = (nights(&now), nights(&before));
    let last = |entries: &[&Entry], name: &str| {
        entries.iter().rev().find_map(|one| one.figures.get(name)).map(|one| one as f64)
    };
    let trend_of = |name: &str| trend(last(&now, name), last(&before, name));
    let (tables, more_tables) = tables(&now, &before);
    let safe = safe_times(&within(entries, (i64::MIN, period.ns().1)), target);
    Profile {
        name: name.to_owned(),
        totals: totals(&nights, target),
        duration_ms: trend(
            mean(&nights, |one| one.duration_ms().map(|ms| ms as f64)),
            mean(&nights_before, |one| one.duration_ms().map(|ms| ms as f64)),
        ),
        content_bytes: trend_of(figure::CONTENT_BYTES),
        repository_bytes: trend_of(figure::REPOSITORY_BYTES),
        compression: trend(
            mean(&now, |one| one.figures.ratios().compression),
            mean(&before, |one| one.figures.ratios().compression),
        ),
        dedup: trend(mean(&now, |one| one.figures.ratios().dedup), mean(&before, |one| one.figures.ratios().dedup)),
        errors: errors(&now),
        tables,
        more_tables,
        verify: checks(&now, "verify"),
        coverage_percent: coverage(&now, target),
        drills: checks(&now, "drill"),
        rpo: rpo(period, &safe, target),
        rto: measured(now.iter().rev().find_map(|one| one.figures.get(figure::RESTORE_MS)), target.rto_ms),
        availability_percent: availability(period, &safe, target),
        availability_since: target.first_ns.filter(|first| (period.ns().0..period.ns().1).contains(first)).map(moment),
        safe: safe.last().map(|(known, _)| moment(*known)),
        nights: nights.iter().map(|one| night(one)).collect(),
    }
}

fn nights<'e>(entries: &[&'e Entry]) -> Vec<&'e Entry> {
    entries.iter().filter(|entry| entry.is_night()).copied().collect()
}

fn totals(entries: &[&Entry], target: &Target) -> Totals {
    let count = |outcome| entries.iter().filter(|entry| entry.outcome == outcome).count() as u64;
    let sum = |name| entries.iter().filter_map(|entry| entry.figures.get(name)).fold(0, u64::saturating_add);
    let (good, partial, runs) = (count(Outcome::Done), count(Outcome::Partial), entries.len() as u64);
    let freed = sum(figure::FREED_BYTES);
    Totals {
        runs,
        good,
        partial,
        failed: runs - good - partial,
        missed: target.missed,
        success_percent: percent(good, runs),
        added_bytes: sum(figure::ADDED_BYTES),
        freed_local_bytes: if target.is_remote { 0 } else { freed },
        freed_remote_bytes: if target.is_remote { freed } else { 0 },
    }
}

impl Totals {
    fn add(&mut self, other: &Totals) {
        for (sum, value) in [
            (&mut self.runs, other.runs),
            (&mut self.good, other.good),
            (&mut self.partial, other.partial),
            (&mut self.failed, other.failed),
            (&mut self.missed, other.missed),
            (&mut self.added_bytes, other.added_bytes),
            (&mut self.freed_local_bytes, other.freed_local_bytes),
            (&mut self.freed_remote_bytes, other.freed_remote_bytes),
        ] {
            *sum = sum.saturating_add(value);
        }
    }
}

fn percent(part: u64, of: u64) -> Option<f64> {
    (of > 0).then(|| part as f64 / of as f64 * 100.0)
}

fn mean(entries: &[&Entry], value: impl Fn(&Entry) -> Option<f64>) -> Option<f64> {
    let values: Vec<f64> = entries.iter().filter_map(|entry| value(entry)).collect();
    (!values.is_empty()).then(|| values.iter().sum::<f64>() / values.len() as f64)
}

fn trend(now: Option<f64>, before: Option<f64>) -> Trend {
    let change = |(now, before): (f64, f64)| (before != 0.0).then(|| (now - before) / before * 100.0);
    Trend { now, before, change_percent: now.zip(before).and_then(change) }
}

fn errors(entries: &[&Entry]) -> BTreeMap<String, u64> {
    let mut errors = BTreeMap::new();
    for entry in entries {
        let kinds = entry.phases.iter().filter_map(|phase| phase.kind.clone());
        let vanished = (entry.outcome == Outcome::Vanished).then(|| "vanished".to_owned());
        kinds.chain(vanished).for_each(|kind| *errors.entry(kind).or_insert(0) += 1);
    }
    errors
}

/// The rows of the newest run with tables against those of the newest one before the time; without such a one, against
/// the oldest of the time itself.
fn tables(now: &[&Entry], before: &[&Entry]) -> (Vec<TableChange>, u64) {
    let has_tables = |entry: &&&Entry| !entry.tables.is_empty();
    let Some(new) = now.iter().rev().find(has_tables) else { return (Vec::new(), 0) };
    let Some(old) = before.iter().rev().find(has_tables).or_else(|| now.iter().find(has_tables)) else {
        return (Vec::new(), 0);
    };
    let mut changes = changes(&old.tables, &new.tables);
    let more = changes.len().saturating_sub(MOST_TABLES);
    changes.truncate(MOST_TABLES);
    (changes, more as u64)
}

/// The tables whose rows differ, those that differ most first.
pub fn changes(old: &[TableCount], new: &[TableCount]) -> Vec<TableChange> {
    type Rows = (Option<u64>, Option<u64>);
    let mut rows: BTreeMap<(&str, &str), Rows> = BTreeMap::new();
    for table in old {
        rows.entry((&table.source, &table.name)).or_default().0 = Some(table.rows);
    }
    for table in new {
        rows.entry((&table.source, &table.name)).or_default().1 = Some(table.rows);
    }
    let mut changes: Vec<TableChange> = rows
        .into_iter()
        .filter(|(_, (before, now))| before != now)
        .map(|((source, name), (rows_before, rows))| TableChange {
            source: source.to_owned(),
            name: name.to_owned(),
            rows_before,
            rows,
        })
        .collect();
    changes.sort_by_key(|one| std::cmp::Reverse(one.rows_before.unwrap_or(0).abs_diff(one.rows.unwrap_or(0))));
    changes
}

fn checks(entries: &[&Entry], phase: &str) -> Checks {
    let all = entries.iter().filter(|entry| ended(entry, phase).is_some()).count() as u64;
    let good = entries.iter().filter(|entry| did(entry, phase)).count() as u64;
    Checks { all, good, percent: percent(good, all) }
}

/// The share of complete snapshots that were read back by their own run or by the next one that read anything.
fn coverage(entries: &[&Entry], target: &Target) -> Option<f64> {
    let (mut all, mut read, mut unread) = (0, 0, 0);
    for entry in entries {
        if entry.is_complete() {
            all += 1;
            unread += 1;
        }
        if did(entry, "verify") && target.reads_snapshots {
            read += std::mem::take(&mut unread);
        }
    }
    percent(read, all)
}

/// Snapshots that are known to come back: when each was begun, and since when it is known.
fn safe_times(entries: &[&Entry], target: &Target) -> Vec<(i64, i64)> {
    let mut times: Vec<(i64, i64)> = Vec::new();
    let (mut marks, mut made_ns) = (Landmarks::default(), None);
    for entry in entries {
        let ended_ns = entry.ended_ns.unwrap_or(entry.begun_ns);
        if entry.is_complete() {
            (marks.complete, made_ns) = (Some(entry.begun_ns), Some(ended_ns));
        }
        if is_back(entry) {
            marks.drilled = marks.complete;
        }
        if target.reads_snapshots && did(entry, "verify") {
            marks.verified = marks.complete;
        }
        // What a run of its own finds good later was good since it was made: who had needed it would have had it.
        let known_ns = made_ns.filter(|_| !entry.is_night()).unwrap_or(ended_ns);
        if let Some(safe) =
            marks.safe(target.reads_snapshots).filter(|safe| times.last().is_none_or(|(last, _)| last < safe))
        {
            times.push((safe, known_ns));
        }
    }
    times
}

/// The part of the time that is over.
fn known(period: &Period, target: &Target) -> (i64, i64) {
    let (from, to) = period.ns();
    (from, to.min(target.until_ns.unwrap_or(to)))
}

/// A timer, the run itself and a change of clocks make a day a little longer than 24 hours. What is promised for a day is kept
/// by a run each day.
const MOST_SLACK_MS: u64 = 2 * 3600 * 1000;

/// The most that would have been lost at any moment of the time, against the target.
fn rpo(period: &Period, safe: &[(i64, i64)], target: &Target) -> Measured {
    let (from, to) = known(period, target);
    // At the end of each stretch, one snapshot has just not been replaced by the next.
    let ends = safe.iter().map(|(_, known)| *known).filter(|known| *known > from && *known < to).chain([to]);
    let loss = |end: i64| safe.iter().rev().find(|(_, known)| *known < end).map(|(begun, _)| end - begun);
    let worst = ends.filter_map(loss).max();
    let worst_ms = worst.map(|ns| u64::try_from(ns / 1_000_000).unwrap_or(0));
    let met = worst_ms.zip(target.rpo_ms).map(|(worst, most)| worst <= most + (most / 12).min(MOST_SLACK_MS));
    Measured { met, ..measured(worst_ms, target.rpo_ms) }
}

fn measured(measured_ms: Option<u64>, target_ms: Option<u64>) -> Measured {
    Measured { measured_ms, target_ms, met: measured_ms.zip(target_ms).map(|(measured, target)| measured <= target) }
}

/// The share of the time in which the newest snapshot that was known to come back was as young as it has to be. It counts
/// from the end of the first run on: nobody could have had one before that.
fn availability(period: &Period, safe: &[(i64, i64)], target: &Target) -> Option<f64> {
    let rpo_ns = i64::try_from(target.rpo_ms?).ok()?.checked_mul(1_000_000)?;
    let (from, to) = known(period, target);
    let from = from.max(target.first_ns?);
    let mut covered = 0;
    for (at, (begun, known)) in safe.iter().enumerate() {
        let replaced = safe.get(at + 1).map_or(to, |(_, known)| *known);
        let end = replaced.min(begun.saturating_add(rpo_ns)).min(to);
        covered += (end - (*known).max(from)).max(0);
    }
    (to > from).then(|| covered as f64 / (to - from) as f64 * 100.0)
}

fn night(entry: &Entry) -> Night {
    Night {
        begun: moment(entry.begun_ns),
        repository: entry.repository.clone(),
        outcome: entry.outcome.name(),
        duration_ms: entry.duration_ms(),
        content_bytes: entry.figures.get(figure::CONTENT_BYTES),
        added_bytes: entry.figures.get(figure::ADDED_BYTES),
        repository_bytes: entry.figures.get(figure::REPOSITORY_BYTES),
    }
}

fn moment(ns: i64) -> String {
    let seconds = ns.div_euclid(1_000_000_000);
    crate::base::Timestamp::from_second(seconds).unwrap_or_default().to_string()
}

/// What somebody should look at, each with how pressing it is: 0 is most.
fn attention(profile: &Profile) -> Vec<(u8, String)> {
    let name = &profile.name;
    let mut list = Vec::new();
    match (profile.rpo.met, &profile.safe) {
        (_, None) => list.push((0, format!("{name}: there is no snapshot that is known to come back"))),
        (Some(false), _) => list.push((
            1,
            format!(
                "{name}: up to {} would have been lost, more than {}",
                span(profile.rpo.measured_ms.unwrap_or(0)),
                span(profile.rpo.target_ms.unwrap_or(0))
            ),
        )),
        _ => {}
    }
    let bad = |checks: &Checks| checks.all - checks.good;
    if bad(&profile.verify) > 0 {
        list.push((
            1,
            format!(
                "{name}: {} of {} verifications found something wrong: run `keepstone --profile {name} repair plan`",
                bad(&profile.verify),
                profile.verify.all
            ),
        ));
    }
    if bad(&profile.drills) > 0 {
        list.push((
            1,
            format!("{name}: {} of {} drills did not bring everything back", bad(&profile.drills), profile.drills.all),
        ));
    }
    if profile.totals.failed + profile.totals.partial > 0 {
        let most = profile.errors.iter().max_by_key(|(_, count)| **count);
        let most = most.map_or(String::new(), |(kind, count)| format!(", most often `{kind}` ({count})"));
        list.push((
            2,
            format!(
                "{name}: {} of {} runs were not good{most}",
                profile.totals.failed + profile.totals.partial,
                profile.totals.runs
            ),
        ));
    }
    if profile.totals.missed > 0 {
        list.push((2, format!("{name}: {} runs did not happen: look whether its timer is on", profile.totals.missed)));
    }
    if profile.rto.met == Some(false) {
        list.push((
            3,
            format!(
                "{name}: the last drill took {}, more than {}",
                span(profile.rto.measured_ms.unwrap_or(0)),
                span(profile.rto.target_ms.unwrap_or(0))
            ),
        ));
    }
    list
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;
