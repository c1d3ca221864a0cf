//! Looks at what a backup needs, one by one: before each night, and whenever somebody asks how things stand.
//!
//! A look is a plain function from [`Facts`] to what it found. [`BEFORE`] are those whose failure stops a night before it
//! begins; whoever knows of something else that must not be lets its look stand there. `room` looks at what is free, `ages` at
//! how old snapshots and proofs are, `runs` at how runs ended, `servers` at databases and certificates.

mod ages;
mod room;
mod runs;
mod servers;

use super::due;
use crate::base::{Kind, PackId, SnapshotId};
use crate::config::meant::Profile;
use crate::db::Surroundings;
use crate::db::probe::{Check, Verdict};
use crate::format::snapshot::Snapshot;
use crate::history::Entry;
use crate::ops::keys::{self as ops_keys, Copies};
use crate::ops::{Context, probe, select};
use crate::store::Area;
use ages::{complete, drilled, quick, verified, whole};
use room::{cache_space, drill_space, repository_space};
use runs::{maintained, runs};
use servers::{certificates, of_databases};
use std::collections::BTreeMap;
use std::path::Path;

const HOUR_NS: i64 = 3600 * 1_000_000_000;
/// A timer and a night take their time.
const SLACK_NS: i64 = 2 * HOUR_NS;

/// How far the clock may be behind what the newest snapshot says.
const CLOCK_DOUBT_NS: i64 = 24 * 3600 * 1_000_000_000;
/// How far it may be behind the end of the last run.
const STEP_BACK_NS: i64 = 3600 * 1_000_000_000;
/// 2026-01-01: no clock that is right says less.
const EARLIEST_NS: i64 = 1_767_225_600 * 1_000_000_000;

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

/// What has to be right before single tasks of a night are done: they add next to nothing.
pub const BEFORE_TASKS: &[Look] = &[repository, clock, drill_space];

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
    let is_to_come = |ns: i64, doubt_ns: i64| ns > facts.now_ns.saturating_add(doubt_ns);
    if facts.now_ns < EARLIEST_NS {
        return vec![Check::failed(
            "clock",
            format!("the clock of this machine says {now:.0}, which is long ago"),
            REMEDY,
        )];
    }
    let newest = facts.snapshots.iter().max_by_key(|one| one.received_ns);
    if let Some(newest) = newest.filter(|one| is_to_come(one.received_ns, CLOCK_DOUBT_NS)) {
        let (received, id) = (due::local(newest.received_ns), newest.id.short());
        let message =
            format!("the clock of this machine says {now:.0}, and snapshot {id} was received at {received:.0}");
        let remedy =
            format!("{REMEDY}; if it is right, another was wrong when it stored that: `keepstone forget {id}`");
        return vec![Check::failed("clock", message, remedy)];
    }
    let ended_ns = facts.entries.last().and_then(|entry| entry.ended_ns);
    if let Some(ended_ns) = ended_ns.filter(|ns| is_to_come(*ns, STEP_BACK_NS)) {
        let ended = due::local(ended_ns);
        let message =
            format!("the clock of this machine says {now:.0}, and the last run ended at {ended:.0}: it was set back");
        return vec![Check::warning("clock", message, "look whether it is right now")];
    }
    vec![Check::ok("clock", format!("the clock says {now:.0}"))]
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
    whole,
    verified,
    drilled,
    quick,
    maintained,
    runs,
    of_databases,
    certificates,
];

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
            format!("packs that were found damaged and are not mended: {damaged}"),
            "run `keepstone repair plan`",
        ),
        (missing, _) => Check::failed(
            NAME,
            format!("packs that the index names and that are gone or have another size: {missing}"),
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_gravest_check_says_how_things_stand() {
        let (ok, bad) = (Check::ok("a", "b"), Check::failed("c", "d", "e"));
        let warning = Check::warning("f", "g", "h");
        assert_eq!(Overall::of([]), Overall::Ok);
        assert_eq!(Overall::of([&ok, &warning]), Overall::Warning);
        assert_eq!(Overall::of([&warning, &bad, &ok]), Overall::Critical);
    }
}
