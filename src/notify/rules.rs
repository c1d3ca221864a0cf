//! Rules: facts in, alerts out. Nothing here asks anybody anything.
//!
//! A rule may have a threshold at each severity; the gravest that is passed counts. What is not known is neither good nor
//! bad: an alert that was open stays open until somebody can say that it is over.

use super::message::{Severity, savings};
use crate::base::clock::{Timestamp, span};
use crate::db::probe::amount;
use std::time::Duration;

/// A rate means something only when it is one of so many.
pub const LEAST_FOR_A_RATE: u64 = 10;
/// How many tables are named.
const NAMED_TABLES: usize = 5;

/// What is looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Rule {
    /// Something failed, or was damaged.
    Error,
    /// Upkeep of a database failed, which costs the backup nothing.
    Maintenance,
    /// No run at a time when there should have been one.
    Missed,
    /// No snapshot, young enough, that is known to come back.
    Rpo,
    /// The share of runs that were good.
    SuccessRate,
    /// The share of verifications that found nothing.
    VerifyRate,
    /// How long the night took.
    Duration,
    /// How much the night added.
    Size,
    /// How much of the content did not have to be stored.
    Savings,
    /// What is free.
    Free,
    /// What will be needed, against what is free.
    Forecast,
    /// How long the last drill took.
    Rto,
    /// How much the content grew or shrank.
    SizeChange,
    /// How many rows came or went.
    RecordChange,
}

impl Rule {
    /// All of them.
    pub const ALL: [Rule; 14] = [
        Rule::Error,
        Rule::Maintenance,
        Rule::Missed,
        Rule::Rpo,
        Rule::SuccessRate,
        Rule::VerifyRate,
        Rule::Duration,
        Rule::Size,
        Rule::Savings,
        Rule::Free,
        Rule::Forecast,
        Rule::Rto,
        Rule::SizeChange,
        Rule::RecordChange,
    ];

    /// The word for it, which is also its key in the config.
    pub fn name(self) -> &'static str {
        match self {
            Rule::Error => "error",
            Rule::Maintenance => "maintenance",
            Rule::Missed => "missed",
            Rule::Rpo => "rpo",
            Rule::SuccessRate => "success_rate",
            Rule::VerifyRate => "verify_rate",
            Rule::Duration => "duration",
            Rule::Size => "size",
            Rule::Savings => "savings",
            Rule::Free => "free",
            Rule::Forecast => "forecast",
            Rule::Rto => "rto",
            Rule::SizeChange => "size_change",
            Rule::RecordChange => "record_change",
        }
    }

    /// Whether it is news each time and never stays: a change is over as soon as it has happened.
    pub fn is_event(self) -> bool {
        matches!(self, Rule::SizeChange | Rule::RecordChange)
    }
}

/// The thresholds of one severity; none for a rule that does not count there.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Thresholds {
    /// Any failure.
    pub error: bool,
    /// Upkeep that failed.
    pub maintenance: bool,
    /// A run that did not happen.
    pub missed: bool,
    /// The age of the last snapshot that is known to come back.
    pub rpo: Option<Duration>,
    /// The least share of good runs, in per cent.
    pub success_rate: Option<f64>,
    /// The least share of verifications that found nothing, in per cent.
    pub verify_rate: Option<f64>,
    /// The longest night.
    pub duration: Option<Duration>,
    /// The most that a night adds, in bytes.
    pub size: Option<u64>,
    /// The least that does not have to be stored, in per cent.
    pub savings: Option<f64>,
    /// The least that is free, in bytes.
    pub free: Option<u64>,
    /// A forecast above what is free.
    pub forecast: bool,
    /// The longest drill.
    pub rto: Option<Duration>,
    /// The largest change of the content, in per cent.
    pub size_change: Option<f64>,
    /// The largest change of a table, in rows.
    pub record_change: Option<u64>,
}

/// The thresholds of all severities.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Rules {
    /// Look at it now.
    pub critical: Thresholds,
    /// Look at it soon.
    pub warning: Thresholds,
    /// Good to know.
    pub info: Thresholds,
}

/// Good ones of all.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rate {
    /// So many were good.
    pub good: u64,
    /// Of so many.
    pub all: u64,
}

/// When there was a snapshot that is known to come back.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Safe {
    /// Nobody knows.
    #[default]
    Unknown,
    /// There was none.
    Never,
    /// The newest was made then.
    At(Timestamp),
}

/// A table, before and after.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Table {
    /// Its name.
    pub name: String,
    /// Its rows at the last time.
    pub before: u64,
    /// Its rows now.
    pub after: u64,
}

/// What a night did.
#[derive(Clone, Debug, Default)]
pub struct Ran {
    /// What failed, in words; nothing if nothing did.
    pub errors: Vec<String>,
    /// Stored bytes are damaged.
    pub is_damaged: bool,
    /// What failed of the upkeep of databases; none if there was no upkeep.
    pub upkeep: Option<Vec<String>>,
    /// How long it took; none for what is no night.
    pub duration: Option<Duration>,
    /// The bytes of all content; none if there is no snapshot.
    pub content_bytes: Option<u64>,
    /// The bytes that were added.
    pub added_bytes: Option<u64>,
}

/// All that rules look at.
#[derive(Clone, Debug, Default)]
pub struct Facts {
    /// The profile, for what to do next.
    pub profile: String,
    /// Now.
    pub now: Timestamp,
    /// What just ran; none if nothing did.
    pub ran: Option<Ran>,
    /// When there should have been a run that was not; none if there was none such, or nothing is known.
    pub missed: Option<Missed>,
    /// The newest snapshot that is known to come back.
    pub safe: Safe,
    /// The runs of the last time.
    pub runs: Option<Rate>,
    /// The verifications of the last time.
    pub verified: Option<Rate>,
    /// What is free for the repository.
    pub free_bytes: Option<u64>,
    /// What the repository will grow by.
    pub needed_bytes: Option<u64>,
    /// How long the last drill took to bring everything back.
    pub drill: Option<Duration>,
    /// The bytes of all content at the last time.
    pub content_before: Option<u64>,
    /// Tables at the last time and now; none if nobody counted.
    pub tables: Option<Vec<Table>>,
}

/// Whether a run is missing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Missed {
    /// All that should have been were.
    No,
    /// There should have been one then.
    At(Timestamp),
}

/// An alert.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Alert {
    /// What was looked at.
    pub rule: Rule,
    /// How grave it is.
    pub severity: Severity,
    /// What is so.
    pub text: String,
    /// What to do.
    pub next: String,
    /// What it comes from, where one rule looks at many things: another cause is news, whatever was told before.
    pub causes: Vec<String>,
    /// Stored bytes are damaged: that is told each time.
    pub is_damage: bool,
}

/// What rules found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Judged {
    /// What is not as it should be.
    pub alerts: Vec<Alert>,
    /// What was looked at and is as it should be, or is not to be looked at any more.
    pub good: Vec<Rule>,
}

/// What a rule says at one severity.
enum Verdict {
    /// It is not looked at.
    Off,
    /// Nobody knows.
    Unknown,
    /// As it should be.
    Good,
    /// Not as it should be.
    Bad(String),
}

/// Judges facts.
pub fn judge(facts: &Facts, rules: &Rules) -> Judged {
    let mut judged = Judged::default();
    for rule in Rule::ALL {
        let levels =
            [(Severity::Critical, &rules.critical), (Severity::Warning, &rules.warning), (Severity::Info, &rules.info)];
        let verdicts = levels.map(|(severity, thresholds)| (severity, verdict(rule, facts, thresholds)));
        let is_unknown = verdicts.iter().any(|(_, verdict)| matches!(verdict, Verdict::Unknown));
        let bad = verdicts.into_iter().find_map(|(severity, verdict)| match verdict {
            Verdict::Bad(text) => Some((severity, text)),
            _ => None,
        });
        match bad {
            Some((severity, text)) => {
                let is_damage = rule == Rule::Error && facts.ran.as_ref().is_some_and(|ran| ran.is_damaged);
                let (next, causes) = (next(rule, facts), causes(rule, facts));
                judged.alerts.push(Alert { rule, severity, text, next, causes, is_damage });
            }
            None if is_unknown => {}
            None => judged.good.push(rule),
        }
    }
    judged
}

/// What an alert comes from: what failed, without numbers, which are others each night.
fn causes(rule: Rule, facts: &Facts) -> Vec<String> {
    let said = match (rule, &facts.ran) {
        (Rule::Error, Some(ran)) => &ran.errors[..],
        (Rule::Maintenance, Some(ran)) => ran.upkeep.as_deref().unwrap_or_default(),
        _ => &[],
    };
    said.iter().map(|text| text.chars().filter(|one| !one.is_ascii_digit()).collect()).collect()
}

/// What is so, if there is a threshold and the fact is known.
fn look<T, F>(threshold: Option<T>, fact: Option<F>, bad: impl FnOnce(T, F) -> Option<String>) -> Verdict {
    match (threshold, fact) {
        (None, _) => Verdict::Off,
        (_, None) => Verdict::Unknown,
        (Some(threshold), Some(fact)) => bad(threshold, fact).map_or(Verdict::Good, Verdict::Bad),
    }
}

fn verdict(rule: Rule, facts: &Facts, thresholds: &Thresholds) -> Verdict {
    let ran = facts.ran.as_ref();
    let (content, added) = (ran.and_then(|ran| ran.content_bytes), ran.and_then(|ran| ran.added_bytes));
    match rule {
        Rule::Error => look(thresholds.error.then_some(()), ran, |(), ran| errors(&ran.errors)),
        Rule::Maintenance => {
            let upkeep = ran.and_then(|ran| ran.upkeep.as_ref());
            look(thresholds.maintenance.then_some(()), upkeep, |(), upkeep| errors(upkeep))
        }
        Rule::Missed => look(thresholds.missed.then_some(()), facts.missed, |(), missed| match missed {
            Missed::No => None,
            Missed::At(time) => Some(format!("there was no run at {}", moment(time))),
        }),
        Rule::Rpo => look(thresholds.rpo, age(facts), too_old),
        Rule::SuccessRate => {
            look(thresholds.success_rate, facts.runs, |least, rate| low(least, rate, "runs were good"))
        }
        Rule::VerifyRate => look(thresholds.verify_rate, facts.verified, |least, rate| {
            low(least, rate, "verifications found nothing wrong")
        }),
        Rule::Duration => {
            let took = ran.and_then(|ran| ran.duration);
            look(thresholds.duration, took, |most, took| long("the night", most, took))
        }
        Rule::Size => look(thresholds.size, added, |most, added| {
            (added > most).then(|| format!("the night added {}, more than {}", amount(added), amount(most)))
        }),
        // Of the first snapshot, and of one that cannot be compared, all has to be stored.
        Rule::Savings => {
            look(thresholds.savings, facts.content_before.and(content.zip(added)), |least, (content, added)| {
                let saved = savings(content, added).filter(|saved| *saved < least)?;
                Some(format!("only {saved:.1} % of the content did not have to be stored, less than {least} %"))
            })
        }
        Rule::Free => look(thresholds.free, facts.free_bytes, |least, free| {
            (free < least).then(|| format!("only {} are free, less than {}", amount(free), amount(least)))
        }),
        Rule::Forecast => {
            let known = facts.needed_bytes.zip(facts.free_bytes);
            look(thresholds.forecast.then_some(()), known, |(), (needed, free)| {
                (needed > free).then(|| format!("{} will be needed, and {} are free", amount(needed), amount(free)))
            })
        }
        Rule::Rto => look(thresholds.rto, facts.drill, |most, drill| long("the last drill", most, drill)),
        Rule::SizeChange => look(thresholds.size_change, content.zip(facts.content_before), |most, (now, before)| {
            let change = (now as f64 - before as f64) / before.max(1) as f64 * 100.0;
            (change.abs() > most)
                .then(|| format!("the content changed by {change:+.1} %, from {} to {}", amount(before), amount(now)))
        }),
        Rule::RecordChange => look(thresholds.record_change, facts.tables.as_ref(), |most, tables| rows(most, tables)),
    }
}

fn errors(errors: &[String]) -> Option<String> {
    let first = errors.first()?;
    let more = if errors.len() > 1 { format!(" (and {} more)", errors.len() - 1) } else { String::new() };
    Some(format!("{first}{more}"))
}

/// The age of the newest snapshot that is known to come back; none of the outer if nobody knows.
fn age(facts: &Facts) -> Option<Option<Duration>> {
    match facts.safe {
        Safe::Unknown => None,
        Safe::Never => Some(None),
        Safe::At(time) => {
            let seconds = facts.now.as_second() - time.as_second();
            Some(Some(Duration::from_secs(u64::try_from(seconds).unwrap_or(0))))
        }
    }
}

fn too_old(most: Duration, age: Option<Duration>) -> Option<String> {
    match age {
        None => Some("there is no snapshot that is known to come back".to_owned()),
        Some(age) if age > most => Some(format!(
            "the newest snapshot that is known to come back is {} old, more than {}",
            text_of(age),
            text_of(most)
        )),
        Some(_) => None,
    }
}

fn low(least: f64, rate: Rate, what: &str) -> Option<String> {
    let percent = rate.good as f64 / rate.all.max(1) as f64 * 100.0;
    let counts = rate.all >= LEAST_FOR_A_RATE && percent < least;
    counts.then(|| format!("only {} of the last {} {what}: {percent:.1} %, less than {least} %", rate.good, rate.all))
}

fn long(what: &str, most: Duration, took: Duration) -> Option<String> {
    (took > most).then(|| format!("{what} took {}, more than {}", text_of(took), text_of(most)))
}

fn rows(most: u64, tables: &[Table]) -> Option<String> {
    let changed: Vec<&Table> = tables.iter().filter(|table| table.before.abs_diff(table.after) > most).collect();
    let named: Vec<String> = changed
        .iter()
        .take(NAMED_TABLES)
        .map(|table| {
            let sign = if table.after >= table.before { '+' } else { '-' };
            format!("{} {sign}{} rows", table.name, table.before.abs_diff(table.after))
        })
        .collect();
    let more = changed.len().saturating_sub(NAMED_TABLES);
    let more = if more > 0 { format!(" and {more} more tables") } else { String::new() };
    (!changed.is_empty()).then(|| format!("{}{more}", named.join(", ")))
}

fn text_of(duration: Duration) -> String {
    span(u64::try_from(duration.as_millis()).unwrap_or(u64::MAX))
}

fn moment(time: Timestamp) -> String {
    time.strftime("%Y-%m-%d %H:%M UTC").to_string()
}

/// What to do about it.
fn next(rule: Rule, facts: &Facts) -> String {
    let profile = &facts.profile;
    match rule {
        Rule::Error => format!("look at what it says, mend it and run `keepstone run {profile}`"),
        Rule::Maintenance => {
            "look at what it says with `keepstone history show`: the backup itself is as good as ever".to_owned()
        }
        Rule::Missed => format!(
            "look whether its timer is on, and run `keepstone run {profile}`; if it ran and could not write that down, \
             `keepstone --profile {profile} history rebuild` brings it back"
        ),
        Rule::Rpo => {
            format!("run `keepstone run {profile}`, and `keepstone --profile {profile} verify` if nothing is read back")
        }
        Rule::SuccessRate => {
            format!("run `keepstone --profile {profile} log --outcome failed`: something keeps failing")
        }
        Rule::VerifyRate => format!("run `keepstone --profile {profile} repair plan`"),
        Rule::Duration => format!("run `keepstone --profile {profile} log`: what takes longer than it did?"),
        Rule::Size => format!("run `keepstone --profile {profile} diff` on the last two snapshots: what is new?"),
        Rule::Savings => "look whether sources are compressed or encrypted before they are read".to_owned(),
        Rule::Free => format!("free some space, or run `keepstone --profile {profile} prune`"),
        Rule::Forecast => "make room before that day, or keep less (`retention`)".to_owned(),
        Rule::Rto => "look which part of the drill takes longest, or allow more (`alerts`)".to_owned(),
        Rule::SizeChange | Rule::RecordChange => {
            format!("nothing if that was meant; else `keepstone --profile {profile} diff` on the last two snapshots")
        }
    }
}
