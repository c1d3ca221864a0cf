//! Whether something that has a schedule of its own is due.

use crate::base::clock::{TimeZone, Timestamp, Zoned};
use crate::config::schedule::Schedule;
use crate::format::run::{Outcome, Run, RunPhase};
use crate::history::OPERATION;
use crate::ops::log::{self, Filter};
use crate::ops::{Context, Result};

/// The most records that are looked through for the last of its kind.
const MAX_RECORDS: usize = 10_000;

/// When the last `operation` of this machine that came to its end began, among the records that `is_meant`.
pub fn last(context: &Context, operation: &str, is_meant: impl Fn(&Run) -> bool) -> Result<Option<i64>> {
    let hosts = vec![context.repository.machine().host.clone()];
    let filter = Filter { hosts, operations: vec![operation.to_owned()], ..Filter::default() };
    let came_to_an_end = |run: &&Run| matches!(run.outcome, Outcome::Done | Outcome::Partial | Outcome::Damage);
    let listing = log::list(context, &filter, MAX_RECORDS)?;
    Ok(listing.runs.iter().rev().filter(came_to_an_end).find(|run| is_meant(run)).map(|run| run.begun_ns))
}

/// When a night of this profile on this machine that came to the end of `phase` began last, as its sealed record says.
pub fn last_phase(context: &Context, profile: &str, phase: &str) -> Result<Option<i64>> {
    let hosts = vec![context.repository.machine().host.clone()];
    let filter = Filter { hosts, operations: vec![OPERATION.to_owned()], ..Filter::default() };
    let came_to_an_end = |run: &&Run| {
        let is_meant =
            |one: &RunPhase| one.name == phase && ["done", "partial", "damage"].contains(&one.outcome.as_str());
        run.profile.as_deref() == Some(profile) && run.phases.iter().any(is_meant)
    };
    let listing = log::list(context, &filter, MAX_RECORDS)?;
    Ok(listing.runs.iter().rev().find(came_to_an_end).map(|run| run.begun_ns))
}

/// When it is due next, if it is not due now: it was done (at `last_ns`) since the last time of its schedule.
pub fn not_before(schedule: &Schedule, last_ns: Option<i64>, now: &Zoned) -> Option<Zoned> {
    let due = schedule.last(now)?;
    let last = Timestamp::from_nanosecond(i128::from(last_ns?)).ok()?;
    if last >= due.timestamp() { schedule.next(now) } else { None }
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
}
