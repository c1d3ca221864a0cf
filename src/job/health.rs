//! Looks at what a backup needs, one by one: before each night, and whenever somebody asks how things stand.
//!
//! A look is a plain function from [`Facts`] to what it found. [`BEFORE`] are those whose failure stops a night before it
//! begins; whoever knows of something else that must not be lets its look stand there.

use super::databases::{self, Wanted};
use super::place::Location;
use super::{due, missed};
use crate::base::clock;
use crate::base::stat::free_bytes;
use crate::base::{Kind, PackId, SnapshotId};
use crate::config::meant::{Drill, Profile, Scenario};
use crate::config::schedule::Schedule;
use crate::db::certificate::{self, Before};
use crate::db::probe::{Check, Verdict, amount};
use crate::db::{Surroundings, Watch};
use crate::format::snapshot::Snapshot;
use crate::history::{Entry, Outcome, Phase, figure};
use crate::notify::rules::Rules;
use crate::ops::backup::{Limits, Source};
use crate::ops::drill::Sample;
use crate::ops::keys::{self as ops_keys, Copies};
use crate::ops::{Context, probe, select};
use crate::source::dump::DumpSource;
use crate::store::Area;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// How far the clock may be behind what the newest snapshot says.
const CLOCK_DOUBT_NS: i64 = 24 * 3600 * 1_000_000_000;
/// How far it may be behind the end of the last run.
const STEP_BACK_NS: i64 = 3600 * 1_000_000_000;
/// 2026-01-01: no clock that is right says less.
const EARLIEST_NS: i64 = 1_767_225_600 * 1_000_000_000;
/// The nights by which the next one is predicted.
const NIGHTS: usize = 14;
/// What a drill of a sample of files takes at most.
const SAMPLE_BYTES: u64 = 1 << 30;

/// A snapshot of the profile.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seen {
    /// Its name.
    pub id: SnapshotId,
    /// The time it stands for.
    pub time_ns: i64,
    /// When the repository received it.
    pub received_ns: i64,
    /// Something is missing in it.
    pub is_partial: bool,
}

impl Seen {
    /// What has to be known of a snapshot.
    pub fn of(snapshot: &Snapshot) -> Seen {
        Seen {
            id: snapshot.id,
            time_ns: snapshot.time_ns,
            received_ns: snapshot.received_ns,
            is_partial: snapshot.partial,
        }
    }
}

/// All that looks may know.
pub struct Facts<'f> {
    /// The profile.
    pub profile: &'f Profile,
    /// Its repository, open.
    pub context: &'f Context,
    /// Now.
    pub now_ns: i64,
    /// The snapshots of the profile, oldest first.
    pub snapshots: &'f [Seen],
    /// Runs of the profile of which the history knows, oldest first; some of the newest.
    pub entries: &'f [Entry],
    /// The environment, as far as it concerns databases.
    pub surroundings: &'f Surroundings,
    /// Where files lie for a moment if nobody says otherwise.
    pub temp_dir: &'f Path,
}

/// The kind of failure that a check amounts to.
pub fn kind(check: &Check) -> Kind {
    match check.name {
        "repository" => Kind::Denied,
        "space" | "cache" => Kind::Full,
        _ => Kind::Refused,
    }
}

/// A look at one thing.
pub type Look = fn(&Facts<'_>) -> Vec<Check>;

/// What has to be right before a night begins.
pub const BEFORE: &[Look] = &[repository, clock, repository_space, cache_space, drill_space];

/// Makes these looks in their order, up to the first that fails.
pub fn up_to_failure(looks: &[Look], facts: &Facts<'_>) -> Vec<Check> {
    let mut checks = Vec::new();
    for look in looks {
        checks.extend(look(facts));
        if checks.iter().any(|check: &Check| check.verdict == Verdict::Failed) {
            break;
        }
    }
    checks
}

/// Whether the repository can be written.
fn repository(facts: &Facts<'_>) -> Vec<Check> {
    let mut checks = probe::repository(facts.context, 0);
    checks.truncate(1);
    checks
}

/// Whether the clock can be right.
fn clock(facts: &Facts<'_>) -> Vec<Check> {
    const REMEDY: &str = "set the clock";
    let now = due::local(facts.now_ns);
    let too_late =
        |known_ns: Option<i64>, doubt_ns: i64| known_ns.filter(|ns| *ns > facts.now_ns.saturating_add(doubt_ns));
    if facts.now_ns < EARLIEST_NS {
        return vec![Check::failed(
            "clock",
            format!("the clock of this machine says {now:.0}, which is long ago"),
            REMEDY,
        )];
    }
    if let Some(newest_ns) = too_late(facts.snapshots.iter().map(|one| one.received_ns).max(), CLOCK_DOUBT_NS) {
        let newest = due::local(newest_ns);
        let message =
            format!("the clock of this machine says {now:.0}, and the newest snapshot was received at {newest:.0}");
        return vec![Check::failed("clock", message, REMEDY)];
    }
    if let Some(ended_ns) = too_late(facts.entries.last().and_then(|entry| entry.ended_ns), STEP_BACK_NS) {
        let ended = due::local(ended_ns);
        let message =
            format!("the clock of this machine says {now:.0}, and the last run ended at {ended:.0}: it was set back");
        return vec![Check::warning("clock", message, "look whether it is right now")];
    }
    vec![Check::ok("clock", format!("the clock says {now:.0}"))]
}

/// What a night of the profile adds to the repository, by what the last ones did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Need {
    /// What half of them did not exceed.
    pub median_bytes: u64,
    /// What nine of ten did not exceed.
    pub upper_bytes: u64,
    /// How many nights are known.
    pub nights: usize,
}

impl Need {
    /// By the newest of these entries. The very first night stores everything and says nothing about the next: it is not
    /// counted, if it is among them.
    pub fn of(entries: &[Entry]) -> Option<Need> {
        let added = |entry: &Entry| entry.snapshot.and(entry.figures.get(figure::ADDED_BYTES));
        let mut all: Vec<u64> = entries.iter().filter_map(added).collect();
        if all.len() <= NIGHTS && !all.is_empty() {
            all.remove(0);
        }
        let mut nights = all.split_off(all.len().saturating_sub(NIGHTS));
        nights.sort_unstable();
        let at = |share: usize| nights.get((nights.len() * share / 10).min(nights.len().saturating_sub(1))).copied();
        Some(Need { median_bytes: at(5)?, upper_bytes: at(9)?, nights: nights.len() })
    }
}

/// Whether there is room for what is to come.
fn repository_space(facts: &Facts<'_>) -> Vec<Check> {
    let store = facts.context.repository.store();
    let Some(free) = store.free_bytes() else {
        return vec![Check::ok("space", "the repository does not say how much is free")];
    };
    let least = facts.profile.min_free_bytes;
    const REMEDY: &str = "free some space there, or run `keepstone prune`";
    let place = store.location();
    if free < least {
        return vec![too_little(free, least, &place, REMEDY)];
    }
    if facts.profile.limits.ignore_free_space {
        return vec![Check::ok("space", format!("{} are free", amount(free)))];
    }
    match Need::of(facts.entries) {
        Some(need) => vec![predicted(free, least, need, &place, REMEDY)],
        None if facts.entries.iter().any(|entry| entry.snapshot.is_some()) => {
            vec![Check::ok("space", format!("{} are free", amount(free)))]
        }
        None => first_night(facts, free),
    }
}

fn too_little(free: u64, least: u64, place: &str, remedy: &str) -> Check {
    let message =
        format!("only {} are free for {place}, and {} have to be (`limits.min_free`)", amount(free), amount(least));
    Check::failed("space", message, remedy)
}

fn predicted(free: u64, least: u64, need: Need, place: &str, remedy: &str) -> Check {
    let say = |bytes: u64, which: &str| {
        format!(
            "only {} are free for {place}; {which} of the last {} nights added {}, and {} have to stay free \
             (`limits.min_free`)",
            amount(free),
            need.nights,
            amount(bytes),
            amount(least)
        )
    };
    let fits = |bytes: u64| least.saturating_add(bytes) <= free;
    match (fits(need.median_bytes), fits(need.upper_bytes)) {
        (false, _) => Check::failed("space", say(need.median_bytes, "half"), remedy),
        (true, false) => Check::warning("space", say(need.upper_bytes, "one in ten"), remedy),
        (true, true) => Check::ok(
            "space",
            format!("{} are free, and a night adds about {}", amount(free), amount(need.median_bytes)),
        ),
    }
}

/// Of a first night nothing is known but what databases say of themselves; files are not counted before they are read.
fn first_night(facts: &Facts<'_>, free: u64) -> Vec<Check> {
    let bytes = estimate(facts);
    let mut checks = probe::repository(facts.context, bytes);
    let space = checks.split_off(1);
    match bytes {
        0 => vec![Check::ok("space", format!("{} are free", amount(free)))],
        _ => space,
    }
}

/// About what dumps of the databases come to. Those that cannot be asked now are told when it is their turn.
fn estimate(facts: &Facts<'_>) -> u64 {
    let Ok(wanted) = Wanted::of(&facts.profile.databases, facts.surroundings.clone()) else { return 0 };
    let context = facts.context;
    let watch = Watch { stop: context.stop.clone(), monitor: context.monitor.clone() };
    let one = |source: &Source| match source {
        Source::Dump(dump) => dump.probe(&watch).ok().flatten().and_then(|probe| probe.estimate_bytes),
        _ => None,
    };
    let sources = wanted.sources(context, &facts.profile.limits).unwrap_or_default();
    sources.iter().filter_map(one).fold(0, u64::saturating_add)
}

fn cache_space(facts: &Facts<'_>) -> Vec<Check> {
    let Some(cache) = &facts.context.cache_dir else { return Vec::new() };
    let (Some(free), least) = (free_bytes(cache), facts.profile.min_free_bytes) else { return Vec::new() };
    let place = format!("the cache in {}", cache.display());
    match free < least {
        true => vec![too_little(free, least, &place, "free some space there, or name another `cache_dir`")],
        false => vec![Check::ok("cache", format!("{} are free for {place}", amount(free)))],
    }
}

/// Where a drill lays its files.
fn drill_folder(facts: &Facts<'_>, drill: &Drill) -> Option<PathBuf> {
    drill.files.then(|| drill.temp_dir.clone().unwrap_or_else(|| facts.temp_dir.to_owned()))
}

/// A drill that does not fit is no reason to do without a backup.
fn drill_space(facts: &Facts<'_>) -> Vec<Check> {
    facts.profile.drills.iter().flat_map(|drill| space_of_drill(facts, drill)).take(1).collect()
}

fn space_of_drill(facts: &Facts<'_>, drill: &Drill) -> Vec<Check> {
    let Some(folder) = drill_folder(facts, drill) else { return Vec::new() };
    let content = facts.entries.iter().rev().find_map(|entry| entry.figures.get(figure::CONTENT_BYTES)).unwrap_or(0);
    let need = match drill.sample {
        Sample::Full => content,
        Sample::Percent(percent) => ((content as f64 * percent / 100.0) as u64).min(SAMPLE_BYTES),
    };
    match free_bytes(&folder) {
        Some(free) if free < need => {
            let message = format!(
                "only {} are free in {} for the files of a drill, which take about {}",
                amount(free),
                folder.display(),
                amount(need)
            );
            vec![Check::warning("drill", message, "free some space there, or name another `drill.temp_dir`")]
        }
        _ => Vec::new(),
    }
}

/// All that is worth a look for who asks how things stand.
pub const ALL: &[Look] = &[
    repository,
    consistency,
    keys,
    clock,
    repository_space,
    cache_space,
    drill_space,
    complete,
    verified,
    drilled,
    quick,
    maintained,
    runs,
    of_databases,
    certificates,
];

/// How old snapshots may be where no rule says so.
const RPO_NS: i64 = 24 * HOUR_NS;
/// A timer and a night take their time.
const SLACK_NS: i64 = 2 * HOUR_NS;
/// Drills are monthly unless their schedule says otherwise.
const DRILL_NS: i64 = 35 * 24 * HOUR_NS;
/// The first run after its time plays a drill: that may be a day later.
const DRILL_SLACK_NS: i64 = 26 * HOUR_NS;
const HOUR_NS: i64 = 3600 * 1_000_000_000;

/// How things stand.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Overall {
    /// All is well.
    Ok,
    /// Somebody should look soon.
    Warning,
    /// Somebody should look now.
    Critical,
}

impl Overall {
    /// As the gravest of these checks says.
    pub fn of<'c>(checks: impl IntoIterator<Item = &'c Check>) -> Overall {
        let one = |check: &Check| match check.verdict {
            Verdict::Ok => Overall::Ok,
            Verdict::Warning => Overall::Warning,
            Verdict::Failed => Overall::Critical,
        };
        checks.into_iter().map(one).max().unwrap_or(Overall::Ok)
    }

    /// The word for it.
    pub fn name(self) -> &'static str {
        match self {
            Overall::Ok => "ok",
            Overall::Warning => "warning",
            Overall::Critical => "critical",
        }
    }
}

/// Makes all these looks.
pub fn all(looks: &[Look], facts: &Facts<'_>) -> Vec<Check> {
    looks.iter().flat_map(|look| look(facts)).collect()
}

/// Whether all that the index names is in the store. Packs are listed, not read; what is found changes nothing that is known.
fn consistency(facts: &Facts<'_>) -> Vec<Check> {
    const NAME: &str = "consistency";
    let (missing, damaged) = match compared(facts.context) {
        Ok(compared) => compared,
        Err(error) => {
            return vec![Check::failed(
                NAME,
                format!("the packs cannot be compared: {error}"),
                "run `keepstone verify`",
            )];
        }
    };
    vec![match (missing, damaged) {
        (0, 0) => Check::ok(NAME, "every pack that the index names is there"),
        (0, damaged) => Check::failed(
            NAME,
            format!("{damaged} packs were found damaged and are not mended"),
            "run `keepstone repair plan`",
        ),
        (missing, _) => Check::failed(
            NAME,
            format!("{missing} packs that the index names are gone or have another size"),
            "run `keepstone verify --all`, then `keepstone repair plan`",
        ),
    }]
}

/// How many packs that the index names are gone or have another size, and how many are known to be damaged.
fn compared(context: &Context) -> super::Result<(usize, usize)> {
    let known = select::verified(context)?;
    let packs: Vec<_> = context.index.packs()?.into_iter().filter(|pack| !pack.void && pack.proven).collect();
    let damaged = packs.iter().filter(|pack| known.is_damaged(&pack.id)).count();
    let mut missing: BTreeMap<PackId, u64> = packs.into_iter().map(|pack| (pack.id, pack.size_bytes)).collect();
    context.repository.store().list(Area::Packs, &mut |listed| {
        if let Ok(id) = listed.name.parse::<PackId>()
            && missing.get(&id) == Some(&listed.size_bytes)
        {
            missing.remove(&id);
        }
    })?;
    Ok((missing.len(), damaged))
}

/// Whether the slots are whole, and whether somebody can come in when this machine is gone.
fn keys(facts: &Facts<'_>) -> Vec<Check> {
    const NAME: &str = "keys";
    let slots = match ops_keys::list(facts.context) {
        Ok(slots) => slots,
        Err(error) => {
            return vec![Check::failed(
                NAME,
                format!("the key slots cannot be read: {error}"),
                "run `keepstone key list`",
            )];
        }
    };
    let mut checks = Vec::new();
    let hurt = slots.iter().filter(|slot| slot.copies != Copies::Alike).count();
    if hurt > 0 {
        checks.push(Check::warning(
            NAME,
            format!("{hurt} key slots are not there twice"),
            "run `keepstone key repair`",
        ));
    }
    // Who may only write opens nothing on the worst day.
    let ways = slots.iter().filter(|slot| !slot.write_only && slot.copies != Copies::Second).count();
    checks.push(match ways {
        0 | 1 => Check::warning(
            NAME,
            "there is one way in: whoever loses it loses all backups",
            "make a recovery key with `keepstone key generate` and `key add --recipient`, print `keepstone key recovery-sheet`, and keep both elsewhere",
        ),
        ways => Check::ok(NAME, format!("the repository opens, and there are {ways} ways in")),
    });
    checks
}

/// A span of time in days or hours.
fn span(ns: i64) -> String {
    let hours = ns.max(0) / HOUR_NS;
    match hours {
        0..48 => format!("{hours} hours"),
        _ => format!("{} days", hours / 24),
    }
}

/// How old something may be before somebody should look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Ages {
    /// Look soon.
    warning_ns: i64,
    /// Look now.
    critical_ns: i64,
}

impl Ages {
    /// Grave when it is more than twice what it may be.
    fn of(most_ns: i64) -> Ages {
        Ages { warning_ns: most_ns, critical_ns: most_ns.saturating_mul(2) }
    }

    /// What the rules for alerts say of the age of snapshots; a day where they say nothing.
    fn of_rules(rules: &Rules) -> Ages {
        let ns = |time: Duration| i64::try_from(time.as_nanos()).unwrap_or(i64::MAX);
        match (rules.warning.rpo.or(rules.info.rpo).map(ns), rules.critical.rpo.map(ns)) {
            (Some(warning_ns), Some(critical_ns)) => Ages { warning_ns: warning_ns.min(critical_ns), critical_ns },
            (None, Some(critical_ns)) => Ages { warning_ns: critical_ns, critical_ns },
            (Some(warning_ns), None) => Ages { warning_ns, critical_ns: i64::MAX },
            (None, None) => Ages::of(RPO_NS),
        }
    }

    /// Where what is asked for is more than a schedule can keep: grave is only what is older than the schedule makes it.
    fn kept_by(self, between_ns: i64) -> Ages {
        Ages { critical_ns: self.critical_ns.max(between_ns), ..self }
    }
}

/// What the age of something comes to.
fn age(name: &'static str, what: &str, at_ns: Option<i64>, most: Ages, now_ns: i64, remedy: &str) -> Check {
    let Some(at_ns) = at_ns else { return Check::failed(name, format!("there is no {what}"), remedy) };
    let age_ns = now_ns.saturating_sub(at_ns);
    let message = format!("the newest {what} is {} old", span(age_ns));
    match age_ns {
        _ if age_ns <= most.warning_ns.saturating_add(SLACK_NS) => Check::ok(name, message),
        _ if age_ns <= most.critical_ns.saturating_add(SLACK_NS) => Check::warning(name, message, remedy),
        _ => Check::failed(name, message, remedy),
    }
}

/// The time between two runs, if the profile has a schedule and it is longer than what is asked for.
fn between(schedule: Option<&Schedule>, least_ns: i64, now_ns: i64) -> i64 {
    let now = due::local(now_ns);
    let apart = || {
        let last = schedule?.last(&now)?;
        let next = schedule?.next(&now)?;
        i64::try_from(next.timestamp().as_nanosecond() - last.timestamp().as_nanosecond()).ok()
    };
    apart().unwrap_or(least_ns).max(least_ns)
}

fn complete(facts: &Facts<'_>) -> Vec<Check> {
    let night_ns = between(facts.profile.schedule.as_ref(), 0, facts.now_ns);
    let most = Ages::of_rules(&facts.profile.rules).kept_by(night_ns);
    let newest = facts.snapshots.iter().filter(|one| !one.is_partial).map(|one| one.time_ns).max();
    let remedy = format!("run `keepstone run {}`, and look why nothing did", facts.profile.name);
    vec![age("complete", "complete snapshot", newest, most, facts.now_ns, &remedy)]
}

fn verified(facts: &Facts<'_>) -> Vec<Check> {
    const NAME: &str = "verified";
    let known = match select::verified(facts.context) {
        Ok(known) => known,
        Err(error) => {
            return vec![Check::failed(
                NAME,
                format!("it cannot be told what was read back: {error}"),
                "run `keepstone log verify`",
            )];
        }
    };
    let good = facts.snapshots.iter().filter(|one| known.whole_ns(&one.id).is_some());
    let newest = good.map(|one| one.time_ns).max();
    let given = facts.profile.verify.as_ref();
    let night_ns = between(facts.profile.schedule.as_ref(), 0, facts.now_ns);
    let verify_ns = between(given.and_then(|given| given.schedule.as_ref()), night_ns, facts.now_ns);
    let most = Ages::of_rules(&facts.profile.rules).kept_by(verify_ns);
    let remedy = match given {
        Some(_) => "run `keepstone verify latest`",
        None => {
            "let the profile read back what it stores: a table `verify` with `newer_than`; or run `keepstone verify latest`"
        }
    };
    let check = age(NAME, "snapshot that was read back whole", newest, most, facts.now_ns, remedy);
    // A share of all packs each night proves all in time, and no snapshot at once.
    let by_share = given.is_some_and(|given| given.newer_than.is_none() && given.part.is_some());
    vec![match (check.verdict, by_share, given) {
        (Verdict::Failed, true, _) | (Verdict::Failed, _, None) => Check { verdict: Verdict::Warning, ..check },
        _ => check,
    }]
}

fn drilled(facts: &Facts<'_>) -> Vec<Check> {
    const NAME: &str = "drilled";
    const REMEDY: &str = "run `keepstone drill latest`; a table `drill` in the profile does it by itself";
    let Ok(known) = select::verified(facts.context) else { return Vec::new() };
    let newest = facts.snapshots.iter().filter_map(|one| known.drilled_ns(&one.id)).max();
    let schedule = facts.profile.drills.first().and_then(|drill| drill.schedule.as_ref());
    let most_ns = between(schedule, DRILL_NS, facts.now_ns);
    let check = age(NAME, "proof by a drill", newest, Ages::of(most_ns), facts.now_ns, REMEDY);
    // Without drills in the profile nobody has promised any.
    let check = match (check.verdict, facts.profile.drills.is_empty()) {
        (Verdict::Failed, true) => Check { verdict: Verdict::Warning, ..check },
        _ => check,
    };
    let scenarios = facts.profile.drills.iter().filter(|drill| drill.scenario != Scenario::Whole);
    [check].into_iter().chain(scenarios.map(|drill| of_scenario(facts, drill))).collect()
}

/// Whether the last drill was as quick as a restore has to be.
fn quick(facts: &Facts<'_>) -> Vec<Check> {
    const NAME: &str = "rto";
    const REMEDY: &str =
        "see which step takes long with `keepstone drill latest`, or say in `alerts` what a restore may take";
    let last = facts.entries.iter().rev().find_map(|entry| entry.figures.get(figure::RESTORE_MS));
    let Some(took) = last.map(Duration::from_millis) else { return Vec::new() };
    let rules = &facts.profile.rules;
    let (warning, critical) = (rules.warning.rto.or(rules.info.rto), rules.critical.rto);
    let Some(target) = warning.or(critical) else { return Vec::new() };
    let is_over = |most: Option<Duration>| most.filter(|most| took > *most);
    let said = |time: Duration| clock::span(u64::try_from(time.as_millis()).unwrap_or(u64::MAX));
    let message = |most: Duration| format!("the last drill took {}, and a restore may take {}", said(took), said(most));
    vec![match (is_over(critical), is_over(warning)) {
        (Some(most), _) => Check::failed(NAME, message(most), REMEDY),
        (None, Some(most)) => Check::warning(NAME, message(most), REMEDY),
        (None, None) => Check::ok(NAME, message(target)),
    }]
}

/// The newest run in which a phase was begun, and what came of it.
fn last_of<'f>(facts: &'f Facts<'_>, name: &str) -> Option<(&'f Entry, &'f Phase)> {
    let ended = |entry: &'f Entry| Some((entry, entry.phase(name).filter(|phase| phase.outcome != "skipped")?));
    facts.entries.iter().rev().find_map(ended)
}

/// How a scenario ended when it was played last, and whether that is long ago.
fn of_scenario(facts: &Facts<'_>, drill: &Drill) -> Check {
    let name = drill.scenario.phase();
    let Some((last, phase)) = last_of(facts, name) else {
        return Check::warning(name, "it was never played", format!("run `keepstone run {}`", facts.profile.name));
    };
    let age_ns = facts.now_ns.saturating_sub(last.begun_ns);
    let message = format!("{} {} ago: {}", phase.outcome, span(age_ns), phase.message);
    let most_ns = between(drill.schedule.as_ref(), DRILL_NS, facts.now_ns);
    match phase.outcome.as_str() {
        "done" if age_ns <= most_ns.saturating_add(DRILL_SLACK_NS) => Check::ok(name, message),
        "done" => Check::warning(name, message, "look whether runs are made when it is due"),
        _ => Check::failed(name, message, format!("see `keepstone history show {}`", last.id.short())),
    }
}

/// How the upkeep of databases ended when it was done last.
fn maintained(facts: &Facts<'_>) -> Vec<Check> {
    const NAME: &str = "maintenance";
    if facts.profile.maintenance.is_none() {
        return Vec::new();
    }
    let Some((last, phase)) = last_of(facts, NAME) else {
        return vec![Check::warning(NAME, "it was never done", format!("run `keepstone run {}`", facts.profile.name))];
    };
    let age = span(facts.now_ns.saturating_sub(last.begun_ns));
    let message = format!("{} {age} ago: {}", phase.outcome, phase.message);
    vec![match phase.outcome.as_str() {
        "done" => Check::ok(NAME, message),
        _ => Check::warning(NAME, message, format!("see `keepstone history show {}`", last.id.short())),
    }]
}

/// How the last runs ended, and whether one is missing.
fn runs(facts: &Facts<'_>) -> Vec<Check> {
    const NAME: &str = "runs";
    let mut checks = Vec::new();
    let ended: Vec<&Entry> = facts.entries.iter().filter(|entry| entry.outcome != Outcome::Running).collect();
    let remedy = |entry: &Entry| format!("see `keepstone history show {}`", entry.id.short());
    checks.push(match ended.last() {
        None => {
            Check::warning(NAME, "no run of the profile is known on this machine", "start `keepstone run` by a timer")
        }
        Some(last) if last.outcome.is_good() => Check::ok(NAME, "the last run did all that it should"),
        Some(last) => {
            let why = last.trouble().map_or(String::new(), |why| format!(": {why}"));
            let message = format!("the last run ended as {}{why}", last.outcome.name());
            match last.outcome {
                Outcome::Partial | Outcome::Refused | Outcome::Interrupted => {
                    Check::warning(NAME, message, remedy(last))
                }
                _ => Check::failed(NAME, message, remedy(last)),
            }
        }
    });
    if let (Some(schedule), Some(first)) = (&facts.profile.schedule, facts.entries.first()) {
        let since = due::local(first.begun_ns.max(facts.now_ns - 7 * 24 * HOUR_NS));
        let missed =
            missed::missed(schedule, facts.entries, &since, &due::local(facts.now_ns), SLACK_NS / 1_000_000_000);
        if let Some(newest) = missed.last() {
            let message = format!("{} of the last week's runs are missing, the newest of {newest:.0}", missed.len());
            checks.push(Check::warning("missed", message, "look whether the timer runs: `systemctl list-timers`"));
        }
    }
    checks
}

/// Whether databases can be dumped: connection, rights, client programs, room for sessions.
fn of_databases(facts: &Facts<'_>) -> Vec<Check> {
    const NAME: &str = "databases";
    if facts.profile.databases.is_empty() {
        return Vec::new();
    }
    let context = facts.context;
    let watch = Watch { stop: context.stop.clone(), monitor: context.monitor.clone() };
    let sources = Wanted::of(&facts.profile.databases, facts.surroundings.clone())
        .and_then(|wanted| wanted.sources(context, &Limits { attempts: 1, ..facts.profile.limits.clone() }));
    let sources = match sources {
        Ok(sources) => sources,
        Err(error) => return vec![Check::failed(NAME, error.to_string(), "mend the config: `keepstone config check`")],
    };
    let look = |source: &Source| match source {
        Source::Dump(dump) => Some(of_database(&**dump, &watch)),
        _ => None,
    };
    sources.iter().filter_map(look).collect()
}

/// The gravest of what a look at a database finds.
fn of_database(dump: &dyn DumpSource, watch: &Watch) -> Check {
    const NAME: &str = "databases";
    let label = dump.label();
    match dump.probe(watch) {
        Err(error) => {
            let check = Check::of_error(NAME, &error);
            Check { message: format!("{label}: {}", check.message), ..check }
        }
        Ok(None) => Check::ok(NAME, format!("{label} can be read")),
        Ok(Some(probe)) => match probe.checks.into_iter().max_by_key(|check| check.verdict) {
            Some(bad) if bad.verdict != Verdict::Ok => {
                Check { name: NAME, message: format!("{label}: {}: {}", bad.name, bad.message), ..bad }
            }
            _ => Check::ok(NAME, format!("{label} can be dumped ({})", probe.server)),
        },
    }
}

/// How long before its end a certificate is told.
const CERTIFICATE_NS: i64 = 14 * 24 * HOUR_NS;
/// How long a server may take to show its certificate.
const CERTIFICATE_WAIT: Duration = Duration::from_secs(10);

/// When the certificates of the servers end that the profile talks with: its bucket's, and those of PostgreSQL. That a server
/// cannot be reached is said elsewhere.
fn certificates(facts: &Facts<'_>) -> Vec<Check> {
    let mut places = BTreeSet::new();
    let bucket = Location::parse(&facts.profile.repository.place, facts.profile.repository.bucket.plain_http);
    if let Ok(Location::Bucket(address)) = bucket {
        places.extend(address.endpoint.as_deref().and_then(certificate::place_of).map(|place| (place, false)));
    }
    places.extend(
        databases::tls_places(&facts.profile.databases, facts.surroundings).into_iter().map(|place| (place, true)),
    );
    let look = |((host, port), is_postgres): &((String, u16), bool)| {
        let before = if *is_postgres { Before::Postgres } else { Before::Nothing };
        let ends = certificate::ends(host, *port, before, CERTIFICATE_WAIT).ok().flatten()?;
        let ends_ns = i64::try_from(ends.as_nanosecond()).unwrap_or(i64::MAX);
        Some(of_certificate(&format!("{host}:{port}"), ends_ns, facts.now_ns))
    };
    places.iter().filter_map(look).collect()
}

fn of_certificate(place: &str, ends_ns: i64, now_ns: i64) -> Check {
    const NAME: &str = "certificates";
    const REMEDY: &str = "renew it on the server";
    let ends = due::local(ends_ns).date();
    match ends_ns.saturating_sub(now_ns) {
        i64::MIN..=0 => Check::failed(NAME, format!("the certificate of {place} ended on {ends}"), REMEDY),
        1..CERTIFICATE_NS => Check::warning(NAME, format!("the certificate of {place} ends on {ends}"), REMEDY),
        _ => Check::ok(NAME, format!("the certificate of {place} is good until {ends}")),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::base::{RunId, SnapshotId};
    use crate::history::By;

    #[test]
    fn what_is_old_is_told_and_what_is_twice_as_old_is_grave() {
        let most = Ages::of(RPO_NS);
        let verdict = |hours: i64| age("complete", "snapshot", Some(0), most, hours * HOUR_NS, "run it").verdict;
        assert_eq!([26, 27, 50, 51].map(verdict), [Verdict::Ok, Verdict::Warning, Verdict::Warning, Verdict::Failed]);
        assert_eq!(age("complete", "snapshot", None, most, 0, "run it").verdict, Verdict::Failed);
        let weekly = Schedule::parse("0 3 * * SUN").unwrap();
        let now_ns = 1_796_000_000 * 1_000_000_000;
        // A change of clocks makes one of them an hour shorter or longer.
        assert!((between(Some(&weekly), RPO_NS, now_ns) - 7 * 24 * HOUR_NS).abs() <= HOUR_NS);
        assert_eq!(between(None, RPO_NS, now_ns), RPO_NS);
        let hourly = Schedule::parse("0 * * * *").unwrap();
        assert_eq!(between(Some(&hourly), RPO_NS, now_ns), RPO_NS, "more often than asked for is no promise");
    }

    #[test]
    fn snapshots_may_be_as_old_as_the_rules_for_alerts_say_and_a_schedule_that_cannot_keep_that_is_told() {
        let hours = |hours: u64| Some(Duration::from_secs(hours * 3600));
        let limits = |warning: Option<Duration>, critical: Option<Duration>| {
            let mut rules = Rules::default();
            (rules.warning.rpo, rules.critical.rpo) = (warning, critical);
            let Ages { warning_ns, critical_ns } = Ages::of_rules(&rules);
            (warning_ns / HOUR_NS, critical_ns / HOUR_NS)
        };
        assert_eq!(limits(hours(12), hours(36)), (12, 36));
        assert_eq!(limits(None, hours(6)), (6, 6), "beyond it is critical at once");
        assert_eq!(limits(hours(6), None).0, 6);
        assert_eq!(limits(None, None), (24, 48), "whoever wants no alerts is told all the same");
        let weekly = Ages { warning_ns: 24 * HOUR_NS, critical_ns: 24 * HOUR_NS }.kept_by(7 * 24 * HOUR_NS);
        let verdict = |days: i64| age("complete", "snapshot", Some(0), weekly, days * 24 * HOUR_NS, "run it").verdict;
        assert_eq!([1, 3, 7, 8].map(verdict), [Verdict::Ok, Verdict::Warning, Verdict::Warning, Verdict::Failed]);
    }

    #[test]
    fn a_certificate_is_told_two_weeks_before_its_end() {
        let verdict = |days: i64| of_certificate("db1:5432", days * 24 * HOUR_NS, 0).verdict;
        assert_eq!([-1, 0, 13, 15].map(verdict), [Verdict::Failed, Verdict::Failed, Verdict::Warning, Verdict::Ok]);
    }

    #[test]
    fn the_gravest_check_says_how_things_stand() {
        let (ok, bad) = (Check::ok("a", "b"), Check::failed("c", "d", "e"));
        let warning = Check::warning("f", "g", "h");
        assert_eq!(Overall::of([]), Overall::Ok);
        assert_eq!(Overall::of([&ok, &warning]), Overall::Warning);
        assert_eq!(Overall::of([&warning, &bad, &ok]), Overall::Critical);
    }

    fn nights(added: &[u64]) -> Vec<Entry> {
        let night = |(number, added): (i64, &u64)| {
            let mut entry = Entry::begun(RunId([1; 16]), "web", "main", "tower", By::Schedule, number);
            entry.snapshot = SnapshotId::from_slice(&[1; 16]);
            entry.figures.set(figure::ADDED_BYTES, *added);
            entry
        };
        (0..).zip(added).map(night).collect()
    }

    #[test]
    fn the_next_night_is_predicted_by_the_last_ones_and_not_by_the_first() {
        assert_eq!(Need::of(&[]), None);
        assert_eq!(Need::of(&nights(&[1000])), None, "the first night stores everything");
        assert_eq!(Need::of(&nights(&[1000, 7])), Some(Need { median_bytes: 7, upper_bytes: 7, nights: 1 }));
        let two_weeks: Vec<u64> = (1..=20).collect();
        let need = Need::of(&nights(&two_weeks)).unwrap();
        assert_eq!(need, Need { median_bytes: 14, upper_bytes: 19, nights: 14 });
        let mut failed = nights(&[1000, 5, 900]);
        failed[2].snapshot = None;
        assert_eq!(Need::of(&failed).unwrap().upper_bytes, 5, "a night without snapshot is no night");
    }

    #[test]
    fn what_half_of_the_nights_need_has_to_be_free_and_what_one_in_ten_needs_is_told() {
        let need = Need { median_bytes: 100, upper_bytes: 300, nights: 14 };
        let verdict = |free: u64| predicted(free, 50, need, "the vault", "free some").verdict;
        assert_eq!(
            [149, 150, 349, 350].map(verdict),
            [Verdict::Failed, Verdict::Warning, Verdict::Warning, Verdict::Ok]
        );
        let check = predicted(149, 50, need, "the vault", "free some");
        assert!(check.message.contains("half of the last 14 nights added"), "{check:?}");
    }
}
