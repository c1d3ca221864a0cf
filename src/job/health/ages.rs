//! How old snapshots and what is known of them may be.

use super::runs::of_scenario;
use super::{Facts, HOUR_NS, SLACK_NS};
use crate::base::clock;
use crate::config::meant::{Drill, Scenario};
use crate::config::schedule::Schedule;
use crate::db::probe::{Check, Verdict};
use crate::history::{Entry, figure};
use crate::job::due;
use crate::job::past::awaits_verification;
use crate::notify::rules::Rules;
use crate::ops::select;
use std::time::Duration;

/// How old snapshots may be where no rule says so.
const RPO_NS: i64 = 24 * HOUR_NS;
/// Drills are monthly unless their schedule says otherwise.
pub(super) const DRILL_NS: i64 = 35 * 24 * HOUR_NS;
/// The first run after its time plays a drill: that may be a day later.
pub(super) const DRILL_SLACK_NS: i64 = 26 * HOUR_NS;

/// A span of time in days or hours.
pub(super) fn span(ns: i64) -> String {
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
pub(super) fn between(schedule: Option<&Schedule>, least_ns: i64, now_ns: i64) -> i64 {
    let now = due::local(now_ns);
    let apart = || {
        let last = schedule?.last(&now)?;
        let next = schedule?.next(&now)?;
        i64::try_from(next.timestamp().as_nanosecond() - last.timestamp().as_nanosecond()).ok()
    };
    apart().unwrap_or(least_ns).max(least_ns)
}

pub(super) fn complete(facts: &Facts<'_>) -> Vec<Check> {
    let night_ns = between(facts.profile.schedule.as_ref(), 0, facts.now_ns);
    let most = Ages::of_rules(&facts.profile.rules).kept_by(night_ns);
    let newest = facts.snapshots.iter().filter(|one| !one.is_partial).map(|one| one.time_ns).max();
    let remedy = format!("run `keepstone run {}`, and look why nothing did", facts.profile.name);
    vec![age("complete", "complete snapshot", newest, most, facts.now_ns, &remedy)]
}

/// Whether a run has read everything when it should.
pub(super) fn whole(facts: &Facts<'_>) -> Vec<Check> {
    const NAME: &str = "whole";
    let Some(schedule) = &facts.profile.whole else { return Vec::new() };
    let remedy =
        format!("run `keepstone run {} --whole`, and look whether runs are made when it is due", facts.profile.name);
    let is_whole =
        |entry: &&Entry| entry.snapshot.is_some() && entry.figures.get(figure::WHOLE).is_some_and(|one| one > 0);
    let Some(last) = facts.entries.iter().rev().find(is_whole) else {
        return vec![Check::warning(NAME, "no run that is known has read what looks unchanged too", remedy)];
    };
    let age_ns = facts.now_ns.saturating_sub(last.begun_ns);
    let message = format!("everything was read, also what looked unchanged, {} ago", span(age_ns));
    let most_ns = between(Some(schedule), 0, facts.now_ns).saturating_add(DRILL_SLACK_NS);
    vec![if age_ns <= most_ns { Check::ok(NAME, message) } else { Check::warning(NAME, message, remedy) }]
}

pub(super) fn verified(facts: &Facts<'_>) -> Vec<Check> {
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
    let made = facts.snapshots.iter().filter(|one| !one.is_partial).map(|one| one.time_ns).max();
    if let Some(made_ns) = made.filter(|made_ns| awaits_verification(facts.profile, *made_ns, facts.now_ns))
        && check.verdict != Verdict::Ok
    {
        let made = span(facts.now_ns.saturating_sub(made_ns));
        return vec![Check::ok(NAME, format!("{}; that of {made} ago will be, when its time comes", check.message))];
    }
    // A share of all packs each night proves all in time, and no snapshot at once.
    let by_share = given.is_some_and(|given| given.newer_than.is_none() && given.part.is_some());
    vec![match (check.verdict, by_share, given) {
        (Verdict::Failed, true, _) | (Verdict::Failed, _, None) => Check { verdict: Verdict::Warning, ..check },
        _ => check,
    }]
}

pub(super) fn drilled(facts: &Facts<'_>) -> Vec<Check> {
    const NAME: &str = "drilled";
    const REMEDY: &str = "run `keepstone drill latest`; a table `drill` in the profile does it by itself";
    let Ok(known) = select::verified(facts.context) else { return Vec::new() };
    let newest = facts.snapshots.iter().filter_map(|one| known.drilled_ns(&one.id)).max();
    let schedule = facts.profile.drills.first().and_then(|drill| drill.schedule.as_ref());
    let most_ns = between(schedule, DRILL_NS, facts.now_ns);
    let drills = &facts.profile.drills;
    let is_part = |drill: &Drill| !matches!(drill.scenario, Scenario::Whole | Scenario::Machine(_));
    let check = match newest {
        // Nobody has promised to bring all of a snapshot back at once: each scenario speaks for itself.
        _ if !drills.is_empty() && drills.iter().all(is_part) => {
            let said = newest.map_or("no snapshot came back whole at once".to_owned(), |ns| {
                format!("the newest proof of a whole snapshot is {} old", span(facts.now_ns.saturating_sub(ns)))
            });
            Check::ok(NAME, format!("{said}; scenarios try its parts"))
        }
        _ => age(NAME, "proof by a drill", newest, Ages::of(most_ns), facts.now_ns, REMEDY),
    };
    // Without drills in the profile nobody has promised any.
    let check = match (check.verdict, drills.is_empty()) {
        (Verdict::Failed, true) => Check { verdict: Verdict::Warning, ..check },
        _ => check,
    };
    let scenarios = drills.iter().filter(|drill| drill.scenario != Scenario::Whole);
    [check].into_iter().chain(scenarios.map(|drill| of_scenario(facts, drill))).collect()
}

/// Whether the last drill was as quick as a restore has to be.
pub(super) fn quick(facts: &Facts<'_>) -> Vec<Check> {
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

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

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
}
