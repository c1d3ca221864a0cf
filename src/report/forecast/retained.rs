//! What a policy comes to: the snapshots that are there, nights that go on as they did, and `forget` after each.

use crate::base::SessionId;
use crate::base::clock::TimeZone;
use crate::format::snapshot::Snapshot;
use crate::ops::retention::{Decision, GroupBy, GroupKey, Policy, Receipts, decide};
use std::collections::BTreeMap;

/// So many of a group's newest snapshots say how often one is made and what it adds.
const LOOKED_AT: usize = 30;
const DAY_NS: i64 = 86_400_000_000_000;
const HOUR_NS: i64 = DAY_NS / 24;

/// What stays on some day.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Retained {
    /// Snapshots.
    pub snapshots: u64,
    /// What they had added when they were made: about what is freed when they go.
    pub bytes: u64,
}

/// What stays in so many days. Each group of snapshots, by host and paths, goes on with the median distance and the
/// median size of its newest ones, and the policy decides each day. Without one everything stays.
pub fn retained(
    snapshots: &[Snapshot],
    policy: Option<&Policy>,
    days: usize,
    zone: &TimeZone,
    now_ns: i64,
) -> Retained {
    let by = GroupBy { host: true, paths: true, tags: false };
    let mut groups: BTreeMap<GroupKey, Vec<Snapshot>> = BTreeMap::new();
    for snapshot in snapshots {
        groups.entry(GroupKey::of(snapshot, by)).or_default().push(snapshot.clone());
    }
    let each = groups.into_values().map(|group| of_group(group, policy, days, zone, now_ns));
    each.fold(Retained::default(), |sum, one| Retained {
        snapshots: sum.snapshots + one.snapshots,
        bytes: sum.bytes.saturating_add(one.bytes),
    })
}

fn of_group(mut group: Vec<Snapshot>, policy: Option<&Policy>, days: usize, zone: &TimeZone, now_ns: i64) -> Retained {
    group.sort_by_key(|snapshot| snapshot.time_ns);
    let (every_ns, added) = rhythm(&group);
    let mut number = 0u64;
    for day in 1..=days as i64 {
        let until_ns = now_ns.saturating_add(day * DAY_NS);
        while let Some(next) = group.last().and_then(|last| following(last, every_ns, added, until_ns, &mut number)) {
            group.push(next);
        }
        if let Some(policy) = policy {
            let decided = decide(std::mem::take(&mut group), &Receipts::default(), policy, zone, until_ns);
            let stays = |decision: &Decision| !decision.reasons.is_empty();
            group = decided.into_iter().filter(stays).map(|decision| decision.snapshot).collect();
            group.sort_by_key(|snapshot| snapshot.time_ns);
        }
    }
    let bytes = group.iter().fold(0u64, |sum, snapshot| sum.saturating_add(snapshot.totals.added));
    Retained { snapshots: group.len() as u64, bytes }
}

/// How often a group gets a snapshot, and what one adds. One that stands alone is the first of one a day.
fn rhythm(group: &[Snapshot]) -> (i64, u64) {
    let newest = &group[group.len().saturating_sub(LOOKED_AT)..];
    let mut distances: Vec<i64> = newest.windows(2).map(|pair| pair[1].time_ns - pair[0].time_ns).collect();
    let mut added: Vec<u64> = newest.iter().skip(1).map(|snapshot| snapshot.totals.added).collect();
    distances.sort_unstable();
    added.sort_unstable();
    let distance = distances.get(distances.len() / 2).copied().unwrap_or(DAY_NS);
    (distance.max(HOUR_NS), added.get(added.len() / 2).copied().unwrap_or(0))
}

/// The snapshot after this one, if it is made by then.
fn following(last: &Snapshot, every_ns: i64, added: u64, until_ns: i64, number: &mut u64) -> Option<Snapshot> {
    let time_ns = last.time_ns.checked_add(every_ns).filter(|time_ns| *time_ns <= until_ns)?;
    *number += 1;
    // No snapshot has such an id: those are random.
    let mut id = [0xff; 16];
    id[8..].copy_from_slice(&number.to_be_bytes());
    let mut next = Snapshot {
        id: SessionId(id),
        time_ns,
        begun_ns: time_ns,
        ended_ns: time_ns,
        received_ns: time_ns,
        partial: false,
        ..last.clone()
    };
    next.totals.added = added;
    Some(next)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::ops::retention::samples::snapshot;

    fn nights(count: u64) -> Vec<Snapshot> {
        let night = |number: u64| {
            let mut one = snapshot(number, &format!("2026-03-{:02}T02:00:00Z", number));
            one.totals.added = if number == 1 { 5000 } else { 10 };
            one
        };
        (1..=count).map(night).collect()
    }

    fn now_ns() -> i64 {
        "2026-03-20T12:00:00Z".parse::<crate::base::clock::Timestamp>().unwrap().as_nanosecond() as i64
    }

    #[test]
    fn nights_go_on_and_a_policy_lets_go_of_them() {
        let nights = nights(20);
        let all = retained(&nights, None, 30, &TimeZone::UTC, now_ns());
        assert_eq!(all, Retained { snapshots: 50, bytes: 5000 + 49 * 10 });
        let week = Policy { keep_daily: 7, ..Policy::default() };
        let kept = retained(&nights, Some(&week), 30, &TimeZone::UTC, now_ns());
        assert_eq!(kept, Retained { snapshots: 7, bytes: 70 });
        let more = Policy { keep_daily: 7, keep_weekly: 4, keep_monthly: 6, ..Policy::default() };
        let kept = retained(&nights, Some(&more), 60, &TimeZone::UTC, now_ns());
        assert!((11..=14).contains(&kept.snapshots), "{kept:?}");
        assert_eq!(retained(&nights, None, 0, &TimeZone::UTC, now_ns()).snapshots, 20);
    }

    #[test]
    fn what_stands_alone_is_the_first_of_one_a_day_and_nothing_comes_of_nothing() {
        let one = nights(1);
        assert_eq!(retained(&one, None, 10, &TimeZone::UTC, now_ns()).snapshots, 1 + 19 + 10);
        assert_eq!(retained(&[], None, 10, &TimeZone::UTC, now_ns()), Retained::default());
    }
}
