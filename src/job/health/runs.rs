//! How the last runs ended, and whether one is missing.

use super::ages::{DRILL_NS, DRILL_SLACK_NS, between, span};
use super::{Facts, HOUR_NS, SLACK_NS};
use crate::config::meant::Drill;
use crate::db::probe::Check;
use crate::history::{Entry, Outcome, Phase};
use crate::job::{due, lock, missed};

/// The newest run in which a phase was begun, and what came of it.
fn last_of<'f>(facts: &'f Facts<'_>, name: &str) -> Option<(&'f Entry, &'f Phase)> {
    let ended = |entry: &'f Entry| Some((entry, entry.phase(name).filter(|phase| phase.outcome != "skipped")?));
    facts.entries.iter().rev().find_map(ended)
}

/// How a scenario ended when it was played last, and whether that is long ago.
pub(super) fn of_scenario(facts: &Facts<'_>, drill: &Drill) -> Check {
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
pub(super) fn maintained(facts: &Facts<'_>) -> Vec<Check> {
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

/// A run that goes on takes no longer.
const LONG_NS: i64 = 24 * HOUR_NS;

/// A run that goes on: since when, and which process it is.
fn going_on(facts: &Facts<'_>) -> Option<Check> {
    const NAME: &str = "running";
    let running = facts.entries.iter().rfind(|entry| entry.outcome == Outcome::Running)?;
    let folder = facts.profile.state.folder.as_deref();
    let holder = folder.and_then(|folder| lock::holder(folder, &facts.profile.name));
    let process = holder.map_or(String::new(), |holder| format!(" ({holder})"));
    let age_ns = facts.now_ns.saturating_sub(running.begun_ns);
    let message = format!("a run has been going on for {}{process}", span(age_ns));
    Some(match age_ns > LONG_NS {
        true => Check::failed(NAME, message, "look what it waits for, or end its process: no other run begins before"),
        false => Check::ok(NAME, message),
    })
}

/// How the last runs ended, and whether one is missing.
pub(super) fn runs(facts: &Facts<'_>) -> Vec<Check> {
    const NAME: &str = "runs";
    let mut checks = Vec::new();
    let ended = || facts.entries.iter().filter(|entry| entry.outcome != Outcome::Running);
    let nights: Vec<&Entry> = ended().filter(|entry| entry.is_night()).collect();
    let remedy = |entry: &Entry| format!("see `keepstone history show {}`", entry.id.short());
    checks.push(match nights.last() {
        None => {
            Check::warning(NAME, "no run of the profile is known on this machine", "start `keepstone run` by a timer")
        }
        Some(last) if last.outcome.is_good() => Check::ok(NAME, "the last run that ended did all that it should"),
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
    checks.extend(going_on(facts));
    // A run of single tasks that came later does not hide how the night ended, nor does the night hide it.
    if let Some(task) = ended().next_back().filter(|entry| !entry.is_night() && !entry.outcome.is_good()) {
        let why = task.trouble().map_or(String::new(), |why| format!(": {why}"));
        let message = format!("since then {} ended as {}{why}", task.names(), task.outcome.name());
        checks.push(Check::failed("tasks", message, remedy(task)));
    }
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
