//! What earlier nights say, for rules that look at more than one.

use super::due::{awaits, local};
use super::missed::missed;
use super::night::Outcome;
use crate::base::clock::{TimeZone, Timestamp, Zoned};
use crate::config::meant::Profile;
use crate::config::schedule::Schedule;
use crate::history::{self, Entry, Filter, History, TableCount, figure};
use crate::notify::rules::{Facts, Missed, Rate, Safe, Table};
use crate::report::Landmarks;
use crate::report::forecast::{Method, Options};
use crate::report::growth::Growth;
use crate::report::landmarks::ended;
use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

/// So far back runs are looked at.
const DAYS: i64 = 400;
/// So many days say how a repository grows.
const GROWTH_DAYS: i64 = 90;
/// Rates are those of so many days.
const RATE_DAYS: i64 = 30;
/// How old snapshots may be where no rule says so.
const RPO: Duration = Duration::from_secs(24 * 3600);
const DAY_NS: i64 = 86_400 * 1_000_000_000;
/// A run is missed when it has not begun so long after its time.
const GRACE_S: i64 = 3600;
/// Among so many of the newest runs the last one with the rows of tables is looked for.
const RUNS_WITH_TABLES: usize = 20;

/// What the history says of a profile, and what this night compares with. Without a history, what this night itself says; of
/// one that cannot be read nobody knows what it says.
pub fn facts(profile: &Profile, outcome: &Outcome, now: Timestamp) -> Facts {
    let now_ns = i64::try_from(now.as_nanosecond()).unwrap_or(i64::MAX);
    let folder = profile.state.folder.as_deref();
    let since_ns = Some(now_ns.saturating_sub(DAYS * DAY_NS));
    let read_back = try_read(folder, Filter { since_ns, ..of(profile) }.believed(now_ns));
    let is_known = read_back.is_ok();
    let mut entries = read_back.unwrap_or_default();
    let own = outcome.entry.as_ref();
    let is_own = |entry: &Entry| own.is_some_and(|own| own.id == entry.id);
    if !entries.iter().any(is_own) {
        entries.extend(own.cloned());
    }
    let lately = |entry: &&Entry| entry.begun_ns >= now_ns.saturating_sub(RATE_DAYS * DAY_NS);
    let rate = |counts: &dyn Fn(&Entry) -> Option<bool>| {
        let counted: Vec<bool> = entries.iter().filter(lately).filter_map(counts).collect();
        Rate { good: counted.iter().filter(|good| **good).count() as u64, all: counted.len() as u64 }
    };
    let reads_snapshots = reads_snapshots(profile);
    let earlier: Vec<&Entry> = entries.iter().filter(|entry| !is_own(entry)).collect();
    let last_night = earlier.iter().rev().find(|entry| entry.is_night());
    let is_complete = own.is_some_and(Entry::is_complete);
    let last_complete = earlier.iter().rev().find(|entry| entry.is_complete());
    Facts {
        missed: is_known.then(|| missing(profile, &entries, last_night.map(|entry| entry.begun_ns), now_ns)),
        safe: match safe(profile, &Landmarks::of(&entries, reads_snapshots), now_ns) {
            Some(ns) => Safe::At(local(ns).timestamp()),
            None if is_known => Safe::Never,
            None => Safe::Unknown,
        },
        // Of one that goes on nobody knows yet.
        runs: is_known.then(|| {
            rate(&|entry| {
                let counts = entry.is_night() && entry.outcome != history::Outcome::Running;
                counts.then(|| entry.outcome.is_good())
            })
        }),
        verified: is_known.then(|| rate(&|entry| ended(entry, "verify").map(|outcome| outcome == "done"))),
        needed_bytes: needed(folder, profile, own, now_ns),
        drill: entries.iter().rev().find_map(|entry| entry.figures.get(figure::RESTORE_MS)).map(Duration::from_millis),
        // What a partial snapshot lacks was not deleted.
        content_before: last_complete.filter(|_| is_complete).and_then(|one| one.figures.get(figure::CONTENT_BYTES)),
        tables: is_complete.then(|| tables(folder, profile, outcome, &is_own)),
        ..Facts::default()
    }
}

/// What the repository may need more within a month, from the runs of all profiles that use it.
fn needed(folder: Option<&Path>, profile: &Profile, own: Option<&Entry>, now_ns: i64) -> Option<u64> {
    let since_ns = Some(now_ns.saturating_sub(GROWTH_DAYS * DAY_NS));
    let mut entries = read(folder, Filter { since_ns, ..Filter::default() }.believed(now_ns));
    entries.retain(|entry| entry.repository == profile.repository.name && own.is_none_or(|own| own.id != entry.id));
    let growth = Growth::of(entries.iter().chain(own), &TimeZone::system());
    growth.needed_bytes(RATE_DAYS as usize, &Options { method: Method::Auto, level: 0.8 })
}

/// Whether new snapshots are read back whole.
pub fn reads_snapshots(profile: &Profile) -> bool {
    profile.verify.as_ref().is_some_and(|verify| verify.newer_than.is_some())
}

fn of(profile: &Profile) -> Filter {
    Filter { profiles: vec![profile.name.clone()], ..Filter::default() }
}

/// What cannot be read was told when the night wrote its own entry.
fn read(folder: Option<&Path>, filter: Filter) -> Vec<Entry> {
    try_read(folder, filter).unwrap_or_default()
}

fn try_read(folder: Option<&Path>, filter: Filter) -> history::Result<Vec<Entry>> {
    let history = folder.map(History::read).transpose()?.flatten();
    history.map_or(Ok(Vec::new()), |history| history.entries(&filter))
}

/// Why the history cannot be read, if so.
pub fn unreadable(profile: &Profile) -> Option<history::Error> {
    try_read(profile.state.folder.as_deref(), Filter { newest: Some(1), ..of(profile) }).err()
}

/// The newest snapshot that is known to come back, or that is complete and whose verification is still to come at its time.
fn safe(profile: &Profile, marks: &Landmarks, now_ns: i64) -> Option<i64> {
    let waiting = marks.complete.filter(|made_ns| awaits_verification(profile, *made_ns, now_ns));
    marks.safe(reads_snapshots(profile)).max(waiting)
}

/// Whether a snapshot of the profile that was made then is to be read back at a time of its own, which has not come yet.
pub fn awaits_verification(profile: &Profile, made_ns: i64, now_ns: i64) -> bool {
    let rules = [&profile.rules.critical, &profile.rules.warning, &profile.rules.info];
    let rpo = rules.into_iter().find_map(|rules| rules.rpo).unwrap_or(RPO);
    let verify = profile.verify.as_ref().filter(|verify| verify.newer_than.is_some());
    let schedule = verify.and_then(|verify| verify.schedule.as_ref());
    schedule.is_some_and(|schedule| awaits(schedule, rpo, made_ns, &local(now_ns)))
}

/// When a run of the profile that read everything began, among those since the last time for it.
pub fn last_whole(profile: &Profile, schedule: &Schedule, now: &Zoned) -> Option<i64> {
    let due_ns = i64::try_from(schedule.last(now)?.timestamp().as_nanosecond()).ok()?;
    let now_ns = i64::try_from(now.timestamp().as_nanosecond()).unwrap_or(i64::MAX);
    let since = Filter { since_ns: Some(due_ns), ..of(profile) }.believed(now_ns);
    let is_whole =
        |entry: &&Entry| entry.snapshot.is_some() && entry.figures.get(figure::WHOLE).is_some_and(|one| one > 0);
    read(profile.state.folder.as_deref(), since).iter().rev().find(is_whole).map(|entry| entry.begun_ns)
}

/// The newest run of the profile, if it vanished and no later one has told it.
pub fn vanished(profile: &Profile, now_ns: i64) -> Option<Entry> {
    let newest = Filter { newest: Some(1), ..of(profile) }.believed(now_ns);
    let newest = read(profile.state.folder.as_deref(), newest);
    newest.into_iter().find(|entry| entry.outcome == history::Outcome::Vanished)
}

/// The last time since the run before this one at which nothing was run.
fn missing(profile: &Profile, entries: &[Entry], since_ns: Option<i64>, now_ns: i64) -> Missed {
    let times = match (&profile.schedule, since_ns) {
        (Some(schedule), Some(since_ns)) => missed(schedule, entries, &local(since_ns), &local(now_ns), GRACE_S),
        _ => Vec::new(),
    };
    times.last().map_or(Missed::No, |time| Missed::At(time.timestamp()))
}

/// Tables now and when they were counted last.
fn tables(folder: Option<&Path>, profile: &Profile, outcome: &Outcome, is_own: &dyn Fn(&Entry) -> bool) -> Vec<Table> {
    if outcome.tables.is_empty() {
        return Vec::new();
    }
    let filter = Filter { newest: Some(RUNS_WITH_TABLES), tables: true, ..of(profile) };
    let earlier = read(folder, filter)
        .into_iter()
        .rev()
        .find(|entry| !is_own(entry) && entry.is_complete() && !entry.tables.is_empty());
    let Some(earlier) = earlier else { return Vec::new() };
    let mut rows: BTreeMap<String, (u64, u64)> = BTreeMap::new();
    let name = |table: &TableCount| format!("{} {}", table.source, table.name);
    earlier.tables.iter().for_each(|table| rows.entry(name(table)).or_default().0 = table.rows);
    outcome.tables.iter().for_each(|table| rows.entry(name(table)).or_default().1 = table.rows);
    rows.into_iter().map(|(name, (before, after))| Table { name, before, after }).collect()
}
