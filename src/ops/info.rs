//! What a repository holds and what has been done to it: totals, and sums per day, week and month.
//!
//! Made of what is listed and of run records and snapshots; packs are not opened. It changes nothing and leaves no
//! record of itself.

use super::{Context, Result};
use crate::base::clock::{TimeZone, Timestamp, Zoned};
use crate::base::{Kind, Problem};
use crate::format::run::Outcome as Ended;
use crate::format::snapshot::Snapshot;
use crate::repo::{runs, snapshots};
use crate::store::Area;
use std::collections::{BTreeMap, BTreeSet};

/// How to sum up.
#[derive(Clone, Debug)]
pub struct Options {
    /// Whose calendar days, weeks and months count.
    pub zone: TimeZone,
}

/// What one area of the store holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AreaSum {
    /// The area's folder: `packs`, `index`, …
    pub name: String,
    /// Objects in it.
    pub objects: u64,
    /// Their bytes.
    pub bytes: u64,
}

/// What happened in one day, week or month.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sum {
    /// Which: `2025-03-10`, `2025-W11`, `2025-03`.
    pub label: String,
    /// Snapshots, of those that are still there.
    pub snapshots: u64,
    /// Of those, partial ones.
    pub partial: u64,
    /// Bytes of content that these snapshots' runs read.
    pub bytes_read: u64,
    /// Bytes that these snapshots' runs added to the store.
    pub added_bytes: u64,
    /// Runs of any operation.
    pub runs: u64,
    /// Runs by how they ended: `done`, `partial`, `failed`, …; those that never happened are left out.
    pub outcomes: Vec<(String, u64)>,
}

/// What there is.
#[derive(Clone, Debug, Default)]
pub struct Outcome {
    /// Snapshots.
    pub snapshots: u64,
    /// Of those, partial ones.
    pub partial: u64,
    /// Whose they are, sorted.
    pub hosts: Vec<String>,
    /// The time of the oldest snapshot, nanoseconds since 1970.
    pub first_ns: Option<i64>,
    /// The time of the newest.
    pub last_ns: Option<i64>,
    /// What each area holds; empty ones are left out.
    pub areas: Vec<AreaSum>,
    /// Bytes of all objects.
    pub total_bytes: u64,
    /// Bytes of content that all snapshots together stand for.
    pub content_bytes: u64,
    /// Run records.
    pub runs: u64,
    /// By day, the oldest first; days without snapshot and run are left out.
    pub days: Vec<Sum>,
    /// By ISO week.
    pub weeks: Vec<Sum>,
    /// By month.
    pub months: Vec<Sum>,
    /// Snapshots and records that cannot be read.
    pub problems: Vec<Problem>,
}

/// Sums up.
pub fn info(context: &Context, options: &Options) -> Result<Outcome> {
    let (snapshots, damaged_snapshots) = snapshots::list(&context.repository)?;
    let (mut runs, mut damaged_runs) = (Vec::new(), Vec::new());
    runs::each(&context.repository, &mut |run| {
        match run {
            Ok(run) => runs.push((run.begun_ns, run.outcome)),
            Err(unreadable) => damaged_runs.push(unreadable),
        }
        Ok(())
    })?;
    let mut outcome = totals(&snapshots);
    outcome.areas = areas(context)?;
    outcome.total_bytes = outcome.areas.iter().fold(0, |sum, area| sum.saturating_add(area.bytes));
    outcome.runs = runs.len() as u64;
    for (label, sums) in
        [(day as Label, &mut outcome.days), (week as Label, &mut outcome.weeks), (month as Label, &mut outcome.months)]
    {
        *sums = sum_up(&snapshots, &runs, &options.zone, label);
    }
    let problem = |name: String, error: &crate::repo::Error| Problem::new(name, error, Kind::Damaged);
    outcome.problems.extend(damaged_snapshots.iter().map(|(id, error)| problem(format!("snapshot {id}"), error)));
    outcome.problems.extend(damaged_runs.iter().map(|(id, error)| problem(format!("run record {id}"), error)));
    Ok(outcome)
}

fn totals(snapshots: &[Snapshot]) -> Outcome {
    let hosts: BTreeSet<&String> = snapshots.iter().map(|snapshot| &snapshot.host).collect();
    Outcome {
        snapshots: snapshots.len() as u64,
        partial: snapshots.iter().filter(|snapshot| snapshot.partial).count() as u64,
        hosts: hosts.into_iter().cloned().collect(),
        first_ns: snapshots.iter().map(|snapshot| snapshot.time_ns).min(),
        last_ns: snapshots.iter().map(|snapshot| snapshot.time_ns).max(),
        content_bytes: snapshots.iter().fold(0, |sum, snapshot| sum.saturating_add(snapshot.totals.bytes)),
        ..Outcome::default()
    }
}

fn areas(context: &Context) -> Result<Vec<AreaSum>> {
    let mut sums = Vec::new();
    for area in Area::ALL {
        let (mut objects, mut bytes) = (0, 0);
        context.repository.store().list(area, &mut |listed| {
            objects += 1;
            bytes += listed.size_bytes;
        })?;
        if objects > 0 {
            let name = if area == Area::Config { "config" } else { area.folder() }.to_owned();
            sums.push(AreaSum { name, objects, bytes });
        }
    }
    Ok(sums)
}

type Label = fn(&Zoned) -> String;

fn day(time: &Zoned) -> String {
    time.date().to_string()
}

fn week(time: &Zoned) -> String {
    let week = time.date().iso_week_date();
    format!("{:04}-W{:02}", week.year(), week.week())
}

fn month(time: &Zoned) -> String {
    format!("{:04}-{:02}", time.year(), time.month())
}

fn sum_up(snapshots: &[Snapshot], runs: &[(i64, Ended)], zone: &TimeZone, label: Label) -> Vec<Sum> {
    let label = |time_ns: i64| {
        let time = Timestamp::from_nanosecond(i128::from(time_ns)).unwrap_or(Timestamp::MIN);
        label(&time.to_zoned(zone.clone()))
    };
    let mut sums: BTreeMap<String, Sum> = BTreeMap::new();
    for snapshot in snapshots {
        let sum = sums.entry(label(snapshot.begun_ns)).or_default();
        sum.snapshots += 1;
        sum.partial += u64::from(snapshot.partial);
        sum.bytes_read = sum.bytes_read.saturating_add(snapshot.totals.bytes_read);
        sum.added_bytes = sum.added_bytes.saturating_add(snapshot.totals.added);
    }
    for (begun_ns, outcome) in runs {
        let sum = sums.entry(label(*begun_ns)).or_default();
        sum.runs += 1;
        let name = outcome.name();
        match sum.outcomes.iter_mut().find(|(known, _)| known == name) {
            Some((_, count)) => *count += 1,
            None => sum.outcomes.push((name.to_owned(), 1)),
        }
    }
    let labelled = sums.into_iter().map(|(label, mut sum)| {
        sum.outcomes.sort();
        Sum { label, ..sum }
    });
    labelled.collect()
}
