//! Whether there is room: for the repository, its local cache and the files of a drill, against what has to stay free and
//! against what the next night is predicted to take.

use super::Facts;
use crate::base::stat::free_bytes;
use crate::config::meant::Drill;
use crate::db::Watch;
use crate::db::probe::{Check, amount};
use crate::history::{Entry, figure};
use crate::job::databases::Wanted;
use crate::ops::backup::Source;
use crate::ops::drill::Sample;
use crate::ops::probe;
use std::path::PathBuf;

/// The nights by which the next one is predicted.
const NIGHTS: usize = 14;
/// The check of what is free for the repository.
const SPACE: &str = "space";
/// What a drill of a sample of files takes at most.
const SAMPLE_BYTES: u64 = 1 << 30;

/// What a night of the profile takes, by what the last ones did.
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
    /// What the next one adds to the repository.
    pub fn of(entries: &[Entry]) -> Option<Need> {
        Need::by(entries, |entry| entry.figures.get(figure::ADDED_BYTES))
    }

    /// What the next one takes of the disk on which the local cache lies: what was free less after a night than before it.
    /// Where the repository lies on the same disk that is part of it.
    pub fn of_cache(entries: &[Entry]) -> Option<Need> {
        let free = |entry: &Entry, name| entry.figures.get(name);
        Need::by(entries, |entry| {
            let before = free(entry, figure::CACHE_FREE_BEFORE_BYTES)?;
            Some(before.saturating_sub(free(entry, figure::CACHE_FREE_AFTER_BYTES)?))
        })
    }

    /// By the newest of these entries. The very first night stores everything and says nothing about the next: it is not
    /// counted, if it is among them.
    fn by(entries: &[Entry], taken: impl Fn(&Entry) -> Option<u64>) -> Option<Need> {
        let of_night = |entry: &Entry| entry.snapshot.and(taken(entry));
        let mut all: Vec<u64> = entries.iter().filter_map(of_night).collect();
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
pub(super) fn repository_space(facts: &Facts<'_>) -> Vec<Check> {
    let store = facts.context.repository.store();
    let Some(free) = store.free_bytes() else {
        return vec![Check::ok("space", "the repository does not say how much is free")];
    };
    let least = facts.profile.min_free_bytes;
    const REMEDY: &str = "free some space there, or run `keepstone prune`";
    let place = store.location();
    if free < least {
        return vec![too_little(SPACE, free, least, &place, REMEDY)];
    }
    if facts.profile.limits.ignore_free_space {
        return vec![Check::ok("space", format!("{} are free", amount(free)))];
    }
    match Need::of(facts.entries) {
        Some(need) => vec![predicted((SPACE, "added"), (free, least), need, &place, REMEDY)],
        None if facts.entries.iter().any(|entry| entry.snapshot.is_some()) => {
            vec![Check::ok("space", format!("{} are free", amount(free)))]
        }
        None => first_night(facts, free),
    }
}

fn too_little(name: &'static str, free: u64, least: u64, place: &str, remedy: &str) -> Check {
    let message =
        format!("only {} are free for {place}, and {} have to be (`limits.min_free`)", amount(free), amount(least));
    Check::failed(name, message, remedy)
}

/// What is free, and of it has to stay free, against what the next night takes. `taken` is the word for what nights did.
fn predicted(
    (name, taken): (&'static str, &str),
    (free, least): (u64, u64),
    need: Need,
    place: &str,
    remedy: &str,
) -> Check {
    let say = |bytes: u64, which: &str| {
        format!(
            "only {} are free for {place}; {which} of the last {} nights {taken} {}, and {} have to stay free \
             (`limits.min_free`)",
            amount(free),
            need.nights,
            amount(bytes),
            amount(least)
        )
    };
    let fits = |bytes: u64| least.saturating_add(bytes) <= free;
    match (fits(need.median_bytes), fits(need.upper_bytes)) {
        (false, _) => Check::failed(name, say(need.median_bytes, "half"), remedy),
        (true, false) => Check::warning(name, say(need.upper_bytes, "one in ten"), remedy),
        (true, true) if name == SPACE => {
            Check::ok(name, format!("{} are free, and a night adds about {}", amount(free), amount(need.median_bytes)))
        }
        (true, true) => Check::ok(
            name,
            format!("{} are free for {place}, and a night takes about {}", amount(free), amount(need.median_bytes)),
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

pub(super) fn cache_space(facts: &Facts<'_>) -> Vec<Check> {
    let Some(cache) = &facts.context.cache_dir else { return Vec::new() };
    let (Some(free), least) = (free_bytes(cache), facts.profile.min_free_bytes) else { return Vec::new() };
    const NAME: &str = "cache";
    const REMEDY: &str = "free some space there, or name another `cache_dir`";
    let place = format!("the cache in {}", cache.display());
    vec![match Need::of_cache(facts.entries) {
        _ if free < least => too_little(NAME, free, least, &place, REMEDY),
        Some(need) if !facts.profile.limits.ignore_free_space => {
            predicted((NAME, "took"), (free, least), need, &place, REMEDY)
        }
        _ => Check::ok(NAME, format!("{} are free for {place}", amount(free))),
    }]
}

/// Where a drill lays its files.
fn drill_folder(facts: &Facts<'_>, drill: &Drill) -> Option<PathBuf> {
    drill.files.then(|| drill.temp_dir.clone().unwrap_or_else(|| facts.temp_dir.to_owned()))
}

/// A drill that does not fit is no reason to do without a backup.
pub(super) fn drill_space(facts: &Facts<'_>) -> Vec<Check> {
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

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::base::{RunId, SnapshotId};
    use crate::db::probe::Verdict;
    use crate::history::By;

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
        let of = |free: u64| predicted((SPACE, "added"), (free, 50), need, "the vault", "free some");
        let verdict = |free: u64| of(free).verdict;
        assert_eq!(
            [149, 150, 349, 350].map(verdict),
            [Verdict::Failed, Verdict::Warning, Verdict::Warning, Verdict::Ok]
        );
        let check = of(149);
        assert!(check.message.contains("half of the last 14 nights added"), "{check:?}");
    }

    #[test]
    fn what_nights_took_of_the_disk_of_the_cache_says_what_the_next_one_takes() {
        let free = |mut entry: Entry, before: u64, after: u64| {
            entry.figures.set(figure::CACHE_FREE_BEFORE_BYTES, before);
            entry.figures.set(figure::CACHE_FREE_AFTER_BYTES, after);
            entry
        };
        let all = nights(&[1, 1, 1, 1]);
        assert_eq!(Need::of_cache(&all), None, "nobody measured it");
        // The first one filled it; one after which somebody had tidied up took nothing.
        let sizes = [(9000, 1000), (1000, 960), (960, 2000), (2000, 1900)];
        let all: Vec<Entry> =
            all.into_iter().zip(sizes).map(|(one, (before, after))| free(one, before, after)).collect();
        let need = Need::of_cache(&all);
        assert_eq!(need, Some(Need { median_bytes: 40, upper_bytes: 100, nights: 3 }));
        let check = predicted(("cache", "took"), (89, 50), need.unwrap(), "the cache in /c", "free some");
        assert_eq!(check.verdict, Verdict::Failed);
        assert!(check.message.contains("for the cache in /c; half of the last 3 nights took 40 B"), "{check:?}");
    }
}
