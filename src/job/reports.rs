//! Reports: what the history says of a stretch of time, against what profiles are to keep to.

use super::due::local;
use super::error::{Error, Result};
use super::missed::missed;
use super::past::reads_snapshots;
use crate::base::Machine;
use crate::base::clock::Zoned;
use crate::config::Config;
use crate::config::meant::Profile;
use crate::history::{Entry, Filter, History};
use crate::report::Period;
use crate::report::summary::{self, Report, Target};
use crate::store::S3Address;
use std::collections::BTreeMap;
use std::time::Duration;

/// A run is missed when it has not begun so long after its time.
const GRACE_S: i64 = 3600;

/// A report of all profiles, or of one.
pub fn report(config: &Config, period: &Period, only: Option<&str>, now: &Zoned) -> Result<Report> {
    let state = config.state();
    let folder = state.place()?;
    let names: Vec<&str> = match only {
        Some(name) => vec![name],
        None => config.profiles(),
    };
    let profiles = names.into_iter().map(|name| config.profile(name)).collect::<std::result::Result<Vec<_>, _>>()?;
    let said = |error: crate::history::Error| Error::Said(error.kind(), error.to_string());
    let filter = Filter {
        profiles: only.map(str::to_owned).into_iter().collect(),
        since_ns: Some(period.before_ns().0),
        before_ns: Some(period.ns().1),
        tables: true,
        ..Filter::default()
    };
    let history = History::read(folder).map_err(said)?;
    let entries = history.map_or(Ok(Vec::new()), |history| history.entries(&filter)).map_err(said)?;
    let target = |profile: &Profile| (profile.name.clone(), target(profile, period, &entries, now));
    let targets: BTreeMap<String, Target> = profiles.iter().map(target).collect();
    Ok(summary::report(period, &entries, &targets, &Machine::this().host))
}

fn target(profile: &Profile, period: &Period, entries: &[Entry], now: &Zoned) -> Target {
    let ms = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
    let rules = [&profile.rules.critical, &profile.rules.warning, &profile.rules.info];
    Target {
        rpo_ms: rules.iter().find_map(|rules| rules.rpo).map(ms),
        rto_ms: rules.iter().find_map(|rules| rules.rto).map(ms),
        is_remote: S3Address::is_meant(&profile.repository.place.to_string_lossy()),
        reads_snapshots: reads_snapshots(profile),
        missed: missing(profile, period, entries, now),
        forecast: None,
    }
}

/// Times of the schedule within the period, since the first run that is known, at which nothing was run.
fn missing(profile: &Profile, period: &Period, entries: &[Entry], now: &Zoned) -> u64 {
    let own: Vec<Entry> = entries.iter().filter(|entry| entry.profile == profile.name).cloned().collect();
    let (Some(schedule), Some(first)) = (&profile.schedule, own.first()) else { return 0 };
    let since = if first.begun_ns > period.ns().0 { local(first.begun_ns) } else { period.from.clone() };
    let end = if period.to < *now { &period.to } else { now };
    missed(schedule, &own, &since, end, GRACE_S).len() as u64
}
