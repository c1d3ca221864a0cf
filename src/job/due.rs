//! Whether something that has a schedule of its own is due.

use crate::base::clock::{TimeZone, Timestamp, Zoned};
use crate::config::schedule::Schedule;
use crate::format::run::{Figure, Outcome, Run, RunPhase};
use crate::history::{OPERATION, figure, is_believed};
use crate::ops::log::{self, Filter};
use crate::ops::{Context, Result};
use std::time::Duration;

/// The most records that are looked through for the last of its kind.
const MAX_RECORDS: usize = 10_000;

/// When the last `operation` of this machine, not from the future, that came to its end began, among the records that `is_meant`.
pub fn last(context: &Context, operation: &str, is_meant: impl Fn(&Run) -> bool) -> Result<Option<i64>> {
    let hosts = vec![context.repository.machine().host.clone()];
    let filter = Filter { hosts, operations: vec![operation.to_owned()], ..Filter::default() };
    let came_to_an_end = |run: &&Run| matches!(run.outcome, Outcome::Done | Outcome::Partial | Outcome::Damage);
    let now_ns = context.repository.now_ns();
    let listing = log::list(context, &filter, MAX_RECORDS)?;
    let believed = listing.runs.iter().rev().filter(|run| is_believed(run.begun_ns, now_ns));
    Ok(believed.filter(came_to_an_end).find(|run| is_meant(run)).map(|run| run.begun_ns))
}

/// When a run of this profile on this machine that came to the end of `phase` began last, as its sealed record says.
pub fn last_phase(context: &Context, profile: &str, phase: &str) -> Result<Option<i64>> {
    last_phase_that(context, profile, &|one| one.name == phase)
}

/// The same for a backup that read everything.
pub fn last_whole(context: &Context, profile: &str) -> Result<Option<i64>> {
    let is_whole = |figure: &Figure| figure.name == figure::WHOLE && figure.value > 0;
    last_phase_that(context, profile, &|one| one.name == "backup" && one.figures.iter().any(is_whole))
}

fn last_phase_that(context: &Context, profile: &str, is_it: &dyn Fn(&RunPhase) -> bool) -> Result<Option<i64>> {
    let hosts = vec![context.repository.machine().host.clone()];
    let filter = Filter { hosts, operations: vec![OPERATION.to_owned()], ..Filter::default() };
    let came_to_an_end = |run: &&Run| {
        let is_meant = |one: &RunPhase| is_it(one) && ["done", "partial", "damage"].contains(&one.outcome.as_str());
        run.profile.as_deref() == Some(profile) && run.phases.iter().any(is_meant)
    };
    let now_ns = context.repository.now_ns();
    let listing = log::list(context, &filter, MAX_RECORDS)?;
    let mut believed = listing.runs.iter().rev().filter(|run| is_believed(run.begun_ns, now_ns));
    Ok(believed.find(came_to_an_end).map(|run| run.begun_ns))
}

/// When it is due next, if it is not due now: it was done (at `last_ns`) since the last time of its schedule.
pub fn not_before(schedule: &Schedule, last_ns: Option<i64>, now: &Zoned) -> Option<Zoned> {
    let due = schedule.last(now)?;
    let last = Timestamp::from_nanosecond(i128::from(last_ns?)).ok()?;
    if last >= due.timestamp() { schedule.next(now) } else { None }
}

/// Whether the time has not come yet at which `schedule` reads back what was made at `made_ns`, or was it a moment ago. Only a
/// schedule counts that reads back as often as snapshots have to be good (`rpo`).
pub fn awaits(schedule: &Schedule, rpo: Duration, made_ns: i64, now: &Zoned) -> bool {
    const SLACK_S: i64 = 2 * 3600;
    let is_often = schedule.longest(now).is_some_and(|longest| longest <= rpo + Duration::from_secs(SLACK_S as u64));
    let time = schedule.next(&local(made_ns)).map(|time| time.timestamp().as_second() + SLACK_S);
    is_often && time.is_some_and(|time| now.timestamp().as_second() < time)
}

/// A moment in local time.
pub fn local(now_ns: i64) -> Zoned {
    Timestamp::from_nanosecond(i128::from(now_ns)).unwrap_or_default().to_zoned(TimeZone::system())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn it_is_due_once_after_each_time_of_its_schedule_however_late() {
        let at = |text: &str| text.parse::<Zoned>().unwrap();
        let ns = |text: &str| at(text).timestamp().as_nanosecond() as i64;
        let monthly = Schedule::parse("0 3 1 * *").unwrap();
        let now = at("2026-11-30T02:00:00[UTC]");
        assert_eq!(not_before(&monthly, None, &now), None, "it was never done");
        assert_eq!(
            not_before(&monthly, Some(ns("2026-10-31T02:00:00[UTC]")), &now),
            None,
            "its time was slept through"
        );
        let done = Some(ns("2026-11-02T02:00:00[UTC]"));
        assert_eq!(not_before(&monthly, done, &now), Some(at("2026-12-01T03:00:00[UTC]")));
        assert_eq!(not_before(&monthly, done, &at("2026-12-02T02:00:00[UTC]")), None);
    }

    #[test]
    fn a_snapshot_waits_for_its_verification_until_the_time_of_that_is_over() {
        let at = |text: &str| text.parse::<Zoned>().unwrap().with_time_zone(TimeZone::system());
        let made = at("2026-11-30T02:00:00[UTC]");
        let made_ns = made.timestamp().as_nanosecond() as i64;
        let after = |schedule: &str, hours: i64, rpo_hours: u64| {
            let now = made.checked_add(crate::base::clock::Span::new().hours(hours)).unwrap();
            awaits(&Schedule::parse(schedule).unwrap(), Duration::from_secs(rpo_hours * 3600), made_ns, &now)
        };
        // Whatever the zone of this machine: the next full fourth hour comes within four, and two are slack.
        assert!(after("0 */4 * * *", 1, 24));
        assert!(!after("0 */4 * * *", 7, 24), "its time is over");
        assert!(!after("0 */4 * * *", 1, 1), "it is read back more seldom than it has to be good");
        assert!(!after("0 6 * * SUN", 1, 24));
    }
}
