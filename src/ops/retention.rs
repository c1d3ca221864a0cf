//! Which snapshots a policy keeps, and why. Pure: no repository, no clock.
//!
//! Snapshots of one group are walked from the newest to the oldest. Each counting rule keeps the newest snapshot of
//! each of its latest hours, days, weeks, months or years; days are calendar days in the zone that the caller gives.
//! While a rule has not used up its count or its age, it keeps the oldest snapshot of the group too, so that a young
//! repository grows into its policy instead of losing its beginning. Whatever the policy says, the newest complete
//! snapshot of a group stays, and what claims to come from the future neither goes nor pushes others out.
//!
//! Times are claims of whoever made a snapshot; when the store received it is not. What claims a time after its receipt
//! counts by its receipt. What claims one well after it or well before may be an old backup that somebody brought in, or
//! an attempt to be the newest of every day there ever was: it is decided with the others, and then the others once more
//! without it, so that it costs none of them its place.

use crate::base::SnapshotId;
use crate::base::clock::{Span, TimeZone, Timestamp, Zoned};
use crate::format::cbor::Bytes;
use crate::format::snapshot::Snapshot;
use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

/// A count that never runs out.
pub const UNLIMITED: u32 = u32::MAX;

/// How far a clock may be ahead before a time is not believed.
const DOUBT_NS: i64 = 24 * 3600 * 1_000_000_000;

/// What to keep of each group; nothing by default. A snapshot stays if any rule keeps it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Policy {
    /// The newest so many snapshots.
    pub keep_last: u32,
    /// The newest of each of the latest so many hours that have one.
    pub keep_hourly: u32,
    /// … days.
    pub keep_daily: u32,
    /// … ISO weeks, from Monday.
    pub keep_weekly: u32,
    /// … months.
    pub keep_monthly: u32,
    /// … years.
    pub keep_yearly: u32,
    /// All that are at most so much older than the newest of their group.
    pub keep_within: Option<Period>,
    /// Of those that are at most so much older, the newest of each hour.
    pub keep_within_hourly: Option<Period>,
    /// … of each day.
    pub keep_within_daily: Option<Period>,
    /// … of each week.
    pub keep_within_weekly: Option<Period>,
    /// … of each month.
    pub keep_within_monthly: Option<Period>,
    /// … of each year.
    pub keep_within_yearly: Option<Period>,
    /// All that have every tag of one of these lists.
    pub keep_tags: Vec<Vec<String>>,
}

impl Policy {
    /// Whether it says nothing at all.
    pub fn is_empty(&self) -> bool {
        self.counts().is_empty() && self.periods().is_empty() && self.keep_tags.is_empty()
    }

    fn counts(&self) -> Vec<(Rule, u32)> {
        let all = [
            (Rule::Last, self.keep_last),
            (Rule::Hourly, self.keep_hourly),
            (Rule::Daily, self.keep_daily),
            (Rule::Weekly, self.keep_weekly),
            (Rule::Monthly, self.keep_monthly),
            (Rule::Yearly, self.keep_yearly),
        ];
        all.into_iter().filter(|(_, count)| *count > 0).collect()
    }

    fn periods(&self) -> Vec<(Rule, Period)> {
        let all = [
            (Rule::Last, self.keep_within),
            (Rule::Hourly, self.keep_within_hourly),
            (Rule::Daily, self.keep_within_daily),
            (Rule::Weekly, self.keep_within_weekly),
            (Rule::Monthly, self.keep_within_monthly),
            (Rule::Yearly, self.keep_within_yearly),
        ];
        all.into_iter().filter_map(|(rule, period)| Some((rule, period?))).collect()
    }
}

/// A stretch of calendar time: `2y5m7d3h`, with `w` for weeks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Period {
    /// Years.
    pub years: u32,
    /// Months.
    pub months: u32,
    /// Weeks.
    pub weeks: u32,
    /// Days.
    pub days: u32,
    /// Hours.
    pub hours: u32,
}

impl Period {
    /// The moment this long before `time`; the beginning of time if that is further back than calendars go.
    /// The moment that is so much earlier than `time`, by the calendar.
    pub fn before(&self, time: &Zoned) -> Timestamp {
        let span = Span::new()
            .try_years(self.years)
            .and_then(|span| span.try_months(self.months))
            .and_then(|span| span.try_weeks(self.weeks))
            .and_then(|span| span.try_days(self.days))
            .and_then(|span| span.try_hours(self.hours));
        span.and_then(|span| time.checked_sub(span)).map_or(Timestamp::MIN, |zoned| zoned.timestamp())
    }
}

/// A text that is no period.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a period: write numbers with y, m, w, d or h, each once, as in `1y6m` or `30d`")]
pub struct NotAPeriod(String);

impl FromStr for Period {
    type Err = NotAPeriod;
    fn from_str(text: &str) -> Result<Period, NotAPeriod> {
        parse_period(text).ok_or_else(|| NotAPeriod(text.to_owned()))
    }
}

fn parse_period(text: &str) -> Option<Period> {
    let mut period = Period::default();
    let mut seen = String::new();
    let mut rest = text;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit())?;
        let number = rest[..digits].parse().ok()?;
        let unit = rest[digits..].chars().next()?;
        let field = match unit {
            'y' => &mut period.years,
            'm' => &mut period.months,
            'w' => &mut period.weeks,
            'd' => &mut period.days,
            'h' => &mut period.hours,
            _ => return None,
        };
        if seen.contains(unit) {
            return None;
        }
        seen.push(unit);
        *field = number;
        rest = &rest[digits + 1..];
    }
    (period != Period::default()).then_some(period)
}

impl fmt::Display for Period {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let parts = [(self.years, 'y'), (self.months, 'm'), (self.weeks, 'w'), (self.days, 'd'), (self.hours, 'h')];
        parts.iter().filter(|(number, _)| *number > 0).try_for_each(|(number, unit)| write!(f, "{number}{unit}"))
    }
}

/// What counts as one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Rule {
    /// Each snapshot.
    Last,
    /// Each hour.
    Hourly,
    /// Each day.
    Daily,
    /// Each ISO week.
    Weekly,
    /// Each month.
    Monthly,
    /// Each year.
    Yearly,
}

impl Rule {
    fn name(self) -> &'static str {
        match self {
            Rule::Last => "last",
            Rule::Hourly => "hourly",
            Rule::Daily => "daily",
            Rule::Weekly => "weekly",
            Rule::Monthly => "monthly",
            Rule::Yearly => "yearly",
        }
    }

    /// What two snapshots share exactly if they fall into the same hour, day, … An hour that a change of clocks
    /// repeats is two hours.
    fn bucket(self, time: &Zoned, place: usize) -> (i64, i64) {
        let (year, month, day) = (i64::from(time.year()), i64::from(time.month()), i64::from(time.day()));
        let date = (year * 12 + month) * 31 + day;
        match self {
            Rule::Last => (place as i64, 0),
            Rule::Hourly => (date * 24 + i64::from(time.hour()), i64::from(time.offset().seconds())),
            Rule::Daily => (date, 0),
            Rule::Weekly => {
                let week = time.date().iso_week_date();
                (i64::from(week.year()), i64::from(week.week()))
            }
            Rule::Monthly => (year, month),
            Rule::Yearly => (year, 0),
        }
    }
}

/// Why a snapshot stays.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reason {
    /// The newest of its hour, day, …, and the count reaches that far.
    Counted(Rule),
    /// The oldest of its group, while the count or the age is not used up.
    Oldest(Rule),
    /// Young enough, and the newest of its hour, day, ….
    Within(Rule),
    /// It has these tags.
    Tagged(Vec<String>),
    /// It claims to be from the future, so nothing can be said about its age.
    Future,
    /// The newest of its group that lacks nothing: kept whatever the policy says.
    NewestComplete,
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Reason::Counted(rule) => f.write_str(rule.name()),
            Reason::Oldest(rule) => write!(f, "oldest {}", rule.name()),
            Reason::Within(Rule::Last) => f.write_str("within"),
            Reason::Within(rule) => write!(f, "within {}", rule.name()),
            Reason::Tagged(tags) => write!(f, "tags {}", tags.join(",")),
            Reason::Future => f.write_str("time in the future"),
            Reason::NewestComplete => f.write_str("newest complete"),
        }
    }
}

/// A snapshot and why it stays; no reason at all: it goes.
#[derive(Clone, Debug)]
pub struct Decision {
    /// The snapshot.
    pub snapshot: Snapshot,
    /// Why it stays.
    pub reasons: Vec<Reason>,
}

impl Decision {
    /// Adds a reason, unless it is there already.
    fn keep(&mut self, reason: Reason) {
        if !self.reasons.contains(&reason) {
            self.reasons.push(reason);
        }
    }

    /// Whether a rule of the policy keeps it, rather than our own caution alone.
    pub fn by_policy(&self) -> bool {
        self.reasons.iter().any(|reason| !matches!(reason, Reason::NewestComplete | Reason::Future))
    }
}

/// When the store received each snapshot, nanoseconds since 1970 by the store's clock.
pub type Receipts = BTreeMap<SnapshotId, i64>;

/// The time that counts for a snapshot, nanoseconds since 1970: the one it stands for, unless that is after the store
/// received it. A wrong clock or a mistyped `--time` must not make it the newest for years. Without a receipt the
/// snapshot's own word is taken, with a day's allowance for clocks.
fn standing_ns(snapshot: &Snapshot, receipts: &Receipts) -> i64 {
    match received_ns(snapshot, receipts) {
        Some(received_ns) => snapshot.time_ns.min(received_ns),
        None if claims_future(snapshot) => snapshot.received_ns,
        None => snapshot.time_ns,
    }
}

fn claims_future(snapshot: &Snapshot) -> bool {
    snapshot.received_ns > 0 && snapshot.time_ns > snapshot.received_ns.saturating_add(DOUBT_NS)
}

fn received_ns(snapshot: &Snapshot, receipts: &Receipts) -> Option<i64> {
    receipts.get(&snapshot.id).copied().filter(|received_ns| *received_ns > 0)
}

/// Whether it claims another time than that of its receipt.
fn is_doubtful(snapshot: &Snapshot, receipts: &Receipts) -> bool {
    let received_ns = received_ns(snapshot, receipts).unwrap_or(snapshot.received_ns);
    snapshot.time_ns.abs_diff(received_ns) > DOUBT_NS as u64
}

/// Decides for the snapshots of one group, newest first.
pub fn decide(
    snapshots: Vec<Snapshot>,
    receipts: &Receipts,
    policy: &Policy,
    zone: &TimeZone,
    now_ns: i64,
) -> Vec<Decision> {
    let mut decisions: Vec<Decision> =
        snapshots.into_iter().map(|snapshot| Decision { snapshot, reasons: Vec::new() }).collect();
    let age = |one: &Decision| (standing_ns(&one.snapshot, receipts), one.snapshot.received_ns, one.snapshot.id);
    decisions.sort_by_key(|decision| std::cmp::Reverse(age(decision)));
    let is_future = |one: &Decision| standing_ns(&one.snapshot, receipts) > now_ns.saturating_add(DOUBT_NS);
    let known = decisions.partition_point(is_future);
    let (future, past) = decisions.split_at_mut(known);
    future.iter_mut().for_each(|decision| decision.reasons.push(Reason::Future));
    let mut past: Vec<&mut Decision> = past.iter_mut().collect();
    apply(&mut past, receipts, policy, zone);
    let all = past.len();
    past.retain(|one| !is_doubtful(&one.snapshot, receipts));
    if past.len() < all {
        apply(&mut past, receipts, policy, zone);
    }
    keep_tagged(&mut decisions, policy);
    keep_newest_complete(&mut decisions);
    decisions
}

/// Says of each whether a rule keeps it, as if there were no others.
fn apply(decisions: &mut [&mut Decision], receipts: &Receipts, policy: &Policy, zone: &TimeZone) {
    let times: Vec<Zoned> = decisions.iter().map(|one| zoned(standing_ns(&one.snapshot, receipts), zone)).collect();
    for (rule, count) in policy.counts() {
        count_down(decisions, &times, rule, count);
    }
    for (rule, period) in policy.periods() {
        keep_within(decisions, &times, rule, period);
    }
}

fn zoned(time_ns: i64, zone: &TimeZone) -> Zoned {
    let timestamp = Timestamp::from_nanosecond(i128::from(time_ns)).unwrap_or(Timestamp::MIN);
    timestamp.to_zoned(zone.clone())
}

fn count_down(decisions: &mut [&mut Decision], times: &[Zoned], rule: Rule, count: u32) {
    let mut left = count;
    let mut before = None;
    let oldest = decisions.len().saturating_sub(1);
    for (place, (decision, time)) in decisions.iter_mut().zip(times).enumerate() {
        if left == 0 {
            return;
        }
        let bucket = Some(rule.bucket(time, place));
        if bucket != before {
            decision.keep(Reason::Counted(rule));
            before = bucket;
            if left != UNLIMITED {
                left -= 1;
            }
        } else if place == oldest {
            decision.keep(Reason::Oldest(rule));
        }
    }
}

fn keep_within(decisions: &mut [&mut Decision], times: &[Zoned], rule: Rule, period: Period) {
    let Some(newest) = times.first() else { return };
    let since = period.before(newest);
    let mut before = None;
    let oldest = decisions.len().saturating_sub(1);
    for (place, (decision, time)) in decisions.iter_mut().zip(times).enumerate() {
        let bucket = Some(rule.bucket(time, place));
        if time.timestamp() < since {
            return;
        }
        if bucket != before {
            decision.keep(Reason::Within(rule));
            before = bucket;
        } else if place == oldest {
            decision.keep(Reason::Oldest(rule));
        }
    }
}

fn keep_tagged(decisions: &mut [Decision], policy: &Policy) {
    for decision in decisions {
        for tags in &policy.keep_tags {
            if has_tags(&decision.snapshot, tags) {
                decision.reasons.push(Reason::Tagged(tags.clone()));
            }
        }
    }
}

/// Whether a snapshot has all of `tags`; a list of one empty tag means a snapshot without any.
pub fn has_tags(snapshot: &Snapshot, tags: &[String]) -> bool {
    match tags {
        [none] if none.is_empty() => snapshot.tags.is_empty(),
        _ => !tags.is_empty() && tags.iter().all(|tag| snapshot.tags.contains(tag)),
    }
}

fn keep_newest_complete(decisions: &mut [Decision]) {
    let newest = decisions.iter_mut().find(|one| !one.snapshot.partial && !one.reasons.contains(&Reason::Future));
    if let Some(decision) = newest.filter(|decision| decision.reasons.is_empty()) {
        decision.reasons.push(Reason::NewestComplete);
    }
}

/// What the snapshots of one group have in common.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GroupBy {
    /// The host.
    pub host: bool,
    /// The paths, in whatever order.
    pub paths: bool,
    /// The tags.
    pub tags: bool,
}

impl Default for GroupBy {
    fn default() -> GroupBy {
        GroupBy { host: true, paths: true, tags: false }
    }
}

/// A text that is no way to group.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is nothing to group by: use host, paths and tags, separated by commas, or nothing for one group")]
pub struct NotAGrouping(String);

impl FromStr for GroupBy {
    type Err = NotAGrouping;
    fn from_str(text: &str) -> Result<GroupBy, NotAGrouping> {
        let mut group_by = GroupBy { host: false, paths: false, tags: false };
        for part in text.split(',').map(str::trim).filter(|part| !part.is_empty()) {
            match part {
                "host" | "hosts" => group_by.host = true,
                "path" | "paths" => group_by.paths = true,
                "tag" | "tags" => group_by.tags = true,
                _ => return Err(NotAGrouping(part.to_owned())),
            }
        }
        Ok(group_by)
    }
}

/// What a group's snapshots share; `None` where it was not asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct GroupKey {
    /// The host.
    pub host: Option<String>,
    /// The paths, sorted.
    pub paths: Option<Vec<Bytes>>,
    /// The tags, sorted.
    pub tags: Option<Vec<String>>,
}

impl GroupKey {
    /// The group of `snapshot`.
    pub fn of(snapshot: &Snapshot, group_by: GroupBy) -> GroupKey {
        let mut paths = snapshot.paths.clone();
        paths.sort();
        let mut tags = snapshot.tags.clone();
        tags.sort();
        GroupKey {
            host: group_by.host.then(|| snapshot.host.clone()),
            paths: group_by.paths.then_some(paths),
            tags: group_by.tags.then_some(tags),
        }
    }
}

impl fmt::Display for GroupKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut parts = Vec::new();
        parts.extend(self.host.as_ref().map(|host| format!("host {host}")));
        parts.extend(self.paths.as_ref().map(|paths| {
            let paths: Vec<_> = paths.iter().map(|path| String::from_utf8_lossy(&path.0)).collect();
            format!("paths {}", paths.join(" "))
        }));
        parts.extend(self.tags.as_ref().map(|tags| format!("tags {}", tags.join(","))));
        if parts.is_empty() { f.write_str("all snapshots") } else { f.write_str(&parts.join(", ")) }
    }
}

#[cfg(test)]
pub(crate) mod samples {
    //! Snapshots made of nothing, for tests.
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::base::{BlobId, SnapshotId};
    use crate::format::cbor::Unknown;
    use crate::ops::backup::no_totals;

    /// A snapshot numbered `number` that was taken and received at `time`.
    pub fn snapshot(number: u64, time: &str) -> Snapshot {
        let mut id = [0; 16];
        id[8..].copy_from_slice(&number.to_be_bytes());
        taken_at(SnapshotId::from_slice(&id).unwrap(), time.parse::<Timestamp>().unwrap().as_nanosecond() as i64)
    }

    /// A snapshot that was taken and received at `time_ns`.
    pub fn taken_at(id: SnapshotId, time_ns: i64) -> Snapshot {
        Snapshot {
            id,
            time_ns,
            begun_ns: time_ns,
            ended_ns: time_ns,
            host: "alpha".to_owned(),
            user: String::new(),
            root: BlobId([7; 32]),
            paths: vec![Bytes(b"/home".to_vec())],
            tags: Vec::new(),
            parent: None,
            partial: false,
            problems: Vec::new(),
            problem_count: 0,
            totals: no_totals(),
            program: String::new(),
            excludes: Vec::new(),
            streams: Vec::new(),
            kinds: vec!["files".to_owned()],
            original: None,
            description: String::new(),
            received_ns: time_ns,
            dumps: Vec::new(),
            segments: Vec::new(),
            imported: Vec::new(),
            validated: false,
            copied: None,
            log: Vec::new(),
            unverified: false,
            unknown: Unknown::none(),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::samples::snapshot;
    use super::*;
    use std::collections::BTreeSet;

    const NOW: &str = "2030-01-01T00:00:00Z";

    fn at(time: &str) -> i64 {
        time.parse::<Timestamp>().unwrap().as_nanosecond() as i64
    }

    fn zone(name: &str) -> TimeZone {
        TimeZone::get(name).unwrap()
    }

    /// The times of what stays, newest first, with the reasons.
    fn kept(times: &[&str], policy: &Policy, zone: &TimeZone) -> Vec<(String, String)> {
        let snapshots = times.iter().enumerate().map(|(number, time)| snapshot(number as u64, time)).collect();
        let decisions = decide(snapshots, &Receipts::new(), policy, zone, at(NOW));
        let stays = decisions.iter().filter(|decision| !decision.reasons.is_empty());
        stays
            .map(|decision| {
                let reasons: Vec<String> = decision.reasons.iter().map(ToString::to_string).collect();
                (times[decision.snapshot.id.0[15] as usize].to_owned(), reasons.join("; "))
            })
            .collect()
    }

    fn check(times: &[&str], policy: &Policy, zone: &TimeZone, expected: &[(&str, &str)]) {
        let expected: Vec<_> = expected.iter().map(|(time, why)| (time.to_string(), why.to_string())).collect();
        assert_eq!(kept(times, policy, zone), expected, "{policy:?}");
    }

    #[test]
    fn each_rule_keeps_the_newest_of_its_latest_stretches() {
        let utc = TimeZone::UTC;
        let times = [
            "2025-01-31T10:00:00Z",
            "2025-02-28T09:00:00Z",
            "2025-02-28T09:30:00Z",
            "2025-03-01T08:00:00Z",
            "2025-03-02T08:00:00Z",
            "2025-03-03T08:00:00Z",
            "2025-03-03T08:15:00Z",
        ];
        let last = |keep_last| Policy { keep_last, ..Policy::default() };
        check(&times, &last(2), &utc, &[(times[6], "last"), (times[5], "last")]);
        let hourly = Policy { keep_hourly: 2, ..Policy::default() };
        check(&times, &hourly, &utc, &[(times[6], "hourly"), (times[4], "hourly")]);
        let daily = Policy { keep_daily: 3, ..Policy::default() };
        check(&times, &daily, &utc, &[(times[6], "daily"), (times[4], "daily"), (times[3], "daily")]);
        // 2025-03-03 is a Monday.
        let weekly = Policy { keep_weekly: 2, ..Policy::default() };
        check(&times, &weekly, &utc, &[(times[6], "weekly"), (times[4], "weekly")]);
        let monthly = Policy { keep_monthly: UNLIMITED, ..Policy::default() };
        check(&times, &monthly, &utc, &[(times[6], "monthly"), (times[2], "monthly"), (times[0], "monthly")]);
        let yearly = Policy { keep_yearly: 1, ..Policy::default() };
        check(&times, &yearly, &utc, &[(times[6], "yearly")]);
        let yearly = Policy { keep_yearly: 2, ..Policy::default() };
        check(&times, &yearly, &utc, &[(times[6], "yearly"), (times[0], "oldest yearly")]);
    }

    #[test]
    fn periods_count_back_from_the_newest_over_leap_days_and_ends_of_months() {
        let times = ["2023-02-28T12:00:00Z", "2024-02-29T11:59:59Z", "2024-02-29T12:00:00Z", "2024-03-31T12:00:00Z"];
        let within = |text: &str| Policy { keep_within: Some(text.parse().unwrap()), ..Policy::default() };
        // A month before March 31st is the last day of February.
        check(&times, &within("1m"), &TimeZone::UTC, &[(times[3], "within"), (times[2], "within")]);
        check(&times, &within("1d"), &TimeZone::UTC, &[(times[3], "within")]);
        assert_eq!(kept(&times, &within("1y1m3d"), &TimeZone::UTC).len(), 4);
        assert_eq!(kept(&times, &within("1y1m"), &TimeZone::UTC).len(), 4);
        assert_eq!(kept(&times, &within("1y"), &TimeZone::UTC).len(), 3);
        assert_eq!(kept(&times, &within("4000000000y"), &TimeZone::UTC).len(), 4);
        let monthly = Policy { keep_within_monthly: Some("2m".parse().unwrap()), ..Policy::default() };
        check(&times, &monthly, &TimeZone::UTC, &[(times[3], "within monthly"), (times[2], "within monthly")]);
        let young = &times[1..];
        let kept = [(times[3], "within monthly"), (times[2], "within monthly"), (times[1], "oldest monthly")];
        check(young, &monthly, &TimeZone::UTC, &kept);
    }

    #[test]
    fn days_are_those_of_the_zone_also_when_clocks_change() {
        let berlin = zone("Europe/Berlin");
        // The day of 23 hours: from 23:00 UTC to 22:00 UTC of the next.
        let times = ["2025-03-29T22:59:00Z", "2025-03-29T23:00:00Z", "2025-03-30T21:59:00Z", "2025-03-30T22:00:00Z"];
        let daily = Policy { keep_daily: 3, ..Policy::default() };
        check(&times, &daily, &berlin, &[(times[3], "daily"), (times[2], "daily"), (times[0], "daily")]);
        // The hour from two to three comes twice: at +02:00 and at +01:00.
        let times = ["2025-10-26T00:10:00Z", "2025-10-26T00:50:00Z", "2025-10-26T01:10:00Z", "2025-10-26T01:50:00Z"];
        let hourly = Policy { keep_hourly: 2, ..Policy::default() };
        check(&times, &hourly, &berlin, &[(times[3], "hourly"), (times[1], "hourly")]);
    }

    #[test]
    fn an_iso_week_may_reach_over_new_year() {
        // December 30th 2024 and January 5th 2025 are in the same week, December 29th is not.
        let times = ["2024-12-29T12:00:00Z", "2024-12-30T12:00:00Z", "2025-01-05T12:00:00Z"];
        let weekly = Policy { keep_weekly: 2, ..Policy::default() };
        check(&times, &weekly, &TimeZone::UTC, &[(times[2], "weekly"), (times[0], "weekly")]);
    }

    #[test]
    fn of_equal_times_always_the_same_one_stays() {
        let times = ["2025-01-01T00:00:00Z"; 4];
        let snapshots: Vec<Snapshot> = (0..4).map(|number| snapshot(number, times[number as usize])).collect();
        let policy = Policy { keep_last: 1, ..Policy::default() };
        for turn in 0..4 {
            let mut turned = snapshots.clone();
            turned.rotate_left(turn);
            let decisions = decide(turned, &Receipts::new(), &policy, &TimeZone::UTC, at(NOW));
            assert_eq!(decisions[0].snapshot.id, snapshots[3].id);
            assert_eq!(decisions.iter().filter(|decision| !decision.reasons.is_empty()).count(), 1);
        }
    }

    #[test]
    fn a_time_from_the_future_pushes_nothing_out() {
        let good = snapshot(1, "2025-03-01T00:00:00Z");
        let mistyped = Snapshot { time_ns: at("2052-03-01T00:00:00Z"), ..snapshot(2, "2025-02-01T00:00:00Z") };
        let wrong_clock = snapshot(3, "2099-01-01T00:00:00Z");
        let policy = Policy { keep_last: 1, ..Policy::default() };
        let all = vec![good.clone(), mistyped.clone(), wrong_clock.clone()];
        let decisions = decide(all, &Receipts::new(), &policy, &TimeZone::UTC, at(NOW));
        let reasons_of = |snapshot: &Snapshot| {
            decisions.iter().find(|one| one.snapshot.id == snapshot.id).map(|one| one.reasons.clone()).unwrap()
        };
        assert_eq!(reasons_of(&good), [Reason::Counted(Rule::Last)]);
        assert_eq!(reasons_of(&mistyped), []);
        assert_eq!(reasons_of(&wrong_clock), [Reason::Future]);
    }

    /// Thirty honest nights, and what `claim` makes of snapshots that were received in the last of them.
    fn nights_and_intruders(claims: &[&str]) -> (Vec<Snapshot>, Receipts) {
        let night = |number: u64| snapshot(number, &format!("2025-03-{number:02}T02:00:00Z"));
        let mut all: Vec<Snapshot> = (1..=30).map(night).collect();
        let mut receipts: Receipts = all.iter().map(|night| (night.id, night.time_ns)).collect();
        for (number, claim) in claims.iter().enumerate() {
            // Whatever such a writer says of its receipt is sealed with the rest.
            let intruder = snapshot(100 + number as u64, claim);
            receipts.insert(intruder.id, at("2025-03-30T03:00:00Z"));
            all.push(intruder);
        }
        (all, receipts)
    }

    fn honest_kept(all: &[Snapshot], receipts: &Receipts, policy: &Policy) -> BTreeSet<SnapshotId> {
        let decisions = decide(all.to_vec(), receipts, policy, &TimeZone::UTC, at("2025-03-31T00:00:00Z"));
        let kept = decisions.iter().filter(|one| !one.reasons.is_empty()).map(|one| one.snapshot.id);
        kept.filter(|id| id.0[15] < 100).collect()
    }

    #[test]
    fn what_claims_impossible_times_costs_no_honest_snapshot_its_place() {
        // The newest of each day that is over for more than a day, the oldest of all, and times to come.
        let mut claims: Vec<String> = (1..=28).map(|day| format!("2025-03-{day:02}T23:59:59Z")).collect();
        claims.extend(["1999-01-01T00:00:00Z", "2025-04-05T00:00:00Z", "2099-01-01T00:00:00Z"].map(str::to_owned));
        let claims: Vec<&str> = claims.iter().map(String::as_str).collect();
        let (alone, receipts_alone) = nights_and_intruders(&[]);
        let (crowd, receipts) = nights_and_intruders(&claims);
        for policy in [
            Policy { keep_last: 7, ..Policy::default() },
            Policy { keep_daily: 7, ..Policy::default() },
            Policy { keep_weekly: 4, keep_hourly: 3, ..Policy::default() },
            Policy { keep_daily: 40, ..Policy::default() },
            Policy { keep_within: Some("6d".parse().unwrap()), ..Policy::default() },
            Policy { keep_within_weekly: Some("1m".parse().unwrap()), ..Policy::default() },
        ] {
            let without = honest_kept(&alone, &receipts_alone, &policy);
            let with = honest_kept(&crowd, &receipts, &policy);
            assert!(with.is_superset(&without), "{policy:?}: {with:?} {without:?}");
        }
    }

    #[test]
    fn old_backups_that_were_brought_in_are_kept_and_dropped_as_a_policy_says() {
        let (mut all, mut receipts) = nights_and_intruders(&[]);
        // All of them were copied here yesterday, and say so.
        receipts.values_mut().for_each(|received_ns| *received_ns = at("2025-05-01T00:00:00Z"));
        all.iter_mut().for_each(|night| night.received_ns = at("2025-05-01T00:00:00Z"));
        let weekly = Policy { keep_weekly: 2, keep_last: 1, ..Policy::default() };
        let kept = honest_kept(&all, &receipts, &weekly);
        assert_eq!(kept.iter().map(|id| id.0[15]).collect::<Vec<_>>(), [23, 30]);
    }

    #[test]
    fn the_newest_complete_snapshot_stays_when_only_partial_ones_came_after_it() {
        let complete = snapshot(1, "2025-03-01T00:00:00Z");
        let partial = Snapshot { partial: true, ..snapshot(2, "2025-03-02T00:00:00Z") };
        let policy = Policy { keep_last: 1, ..Policy::default() };
        let decisions = decide(vec![complete, partial], &Receipts::new(), &policy, &TimeZone::UTC, at(NOW));
        assert_eq!(decisions[0].reasons, [Reason::Counted(Rule::Last)]);
        assert_eq!(decisions[1].reasons, [Reason::NewestComplete]);
    }

    #[test]
    fn tags_keep_only_with_all_of_a_list() {
        let mut tagged = snapshot(1, "2025-03-01T00:00:00Z");
        tagged.tags = vec!["a".to_owned(), "b".to_owned()];
        let list = |text: &str| text.split(',').map(str::to_owned).collect::<Vec<_>>();
        assert!(has_tags(&tagged, &list("a,b")) && has_tags(&tagged, &list("b")));
        assert!(!has_tags(&tagged, &list("a,c")) && !has_tags(&tagged, &[]) && !has_tags(&tagged, &list("")));
        assert!(has_tags(&snapshot(2, "2025-03-01T00:00:00Z"), &list("")));
        let policy = Policy { keep_tags: vec![list("a,b")], ..Policy::default() };
        let decisions = decide(
            vec![tagged, snapshot(3, "2025-03-05T00:00:00Z")],
            &Receipts::new(),
            &policy,
            &TimeZone::UTC,
            at(NOW),
        );
        assert_eq!(decisions[0].reasons, [Reason::NewestComplete]);
        assert_eq!(decisions[1].reasons, [Reason::Tagged(list("a,b"))]);
    }

    #[test]
    fn a_period_reads_as_it_prints_and_others_are_refused() {
        for text in ["1y6m", "30d", "2w", "5h", "2y5m1w7d3h"] {
            assert_eq!(text.parse::<Period>().unwrap().to_string(), text);
        }
        for text in ["", "0d", "5", "d", "5x", "1d2d", "-1d", "1 d", "99999999999d", "1dé", "é"] {
            assert!(text.parse::<Period>().is_err(), "{text:?}");
        }
        assert_eq!("".parse::<GroupBy>().unwrap(), GroupBy { host: false, paths: false, tags: false });
        assert_eq!("paths,host".parse::<GroupBy>().unwrap(), GroupBy::default());
        assert!("color".parse::<GroupBy>().is_err());
    }

    /// Numbers that are random enough and the same every time.
    struct Numbers(u64);

    impl Numbers {
        fn below(&mut self, bound: u64) -> u64 {
            self.0 ^= self.0 << 13;
            self.0 ^= self.0 >> 7;
            self.0 ^= self.0 << 17;
            self.0 % bound
        }
    }

    #[test]
    fn a_larger_policy_never_keeps_less_and_each_rule_keeps_what_it_counts() {
        for seed in 1..150u64 {
            let mut numbers = Numbers(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15));
            let start = at("2024-02-20T00:00:00Z");
            let snapshots: Vec<Snapshot> = (0..1 + numbers.below(60))
                .map(|number| {
                    let time_ns = start + (numbers.below(60 * 24 * 6) as i64) * 600 * 1_000_000_000;
                    Snapshot { time_ns, received_ns: time_ns, ..snapshot(number, NOW) }
                })
                .collect();
            let mut policy = Policy::default();
            let mut before = BTreeSet::new();
            for _ in 0..6 {
                let more = numbers.below(5) as u32;
                match numbers.below(6) {
                    0 => policy.keep_last += more,
                    1 => policy.keep_hourly += more,
                    2 => policy.keep_daily += more,
                    3 => policy.keep_weekly += more,
                    4 => policy.keep_monthly += more,
                    _ => {
                        policy.keep_within =
                            Some(Period { days: more + 1, ..Period::default() }.max(policy.keep_within))
                    }
                }
                let decisions =
                    decide(snapshots.clone(), &Receipts::new(), &policy, &zone("America/New_York"), at(NOW));
                assert_eq!(decisions.len(), snapshots.len(), "seed {seed}");
                let kept: BTreeSet<_> =
                    decisions.iter().filter(|one| one.by_policy()).map(|one| one.snapshot.id).collect();
                assert!(kept.is_superset(&before), "seed {seed}: {policy:?}");
                let last = (policy.keep_last as usize).min(snapshots.len());
                assert!(kept.len() >= last, "seed {seed}: {policy:?}");
                assert!(policy.is_empty() || kept.contains(&decisions[0].snapshot.id), "seed {seed}: {policy:?}");
                before = kept;
            }
        }
    }

    impl Period {
        fn max(self, other: Option<Period>) -> Period {
            other.filter(|other| other.days > self.days).unwrap_or(self)
        }
    }
}
