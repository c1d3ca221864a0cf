//! Drills of a night: each scenario with its own outcome.

use super::error::{Error, Result};
use super::health::Seen;
use super::night::{Ended, Night, Told, snapshots_of, whole};
use super::reach::{Caches, Reach};
use super::{annals, build};
use crate::base::clock::Stopwatch;
use crate::base::{Clock, Kind, Machine, Scratch, counted};
use crate::config::meant::{Drill, Origin, Scenario};
use crate::config::secrets;
use crate::format::run::Run;
use crate::history::{History, figure};
use crate::ops::drill::{Back, Outcome};
use crate::ops::{Context, drill};

/// When a drill of this sort was played last, as far as records say; any drill of these snapshots counts for one of all.
pub fn last(night: &Night<'_>, context: &Context, ours: &[Seen], given: &Drill) -> crate::ops::Result<Option<i64>> {
    let is_ours = |run: &Run| run.snapshots.iter().any(|id| ours.iter().any(|snapshot| snapshot.id == *id));
    match given.scenario {
        Scenario::Whole => super::due::last(context, "drill", is_ours),
        _ => super::due::last_phase(context, &night.profile.name, given.scenario.phase()),
    }
}

/// Tries the newest complete snapshot of the profile. `back` is what other drills of this night have brought back of it.
pub fn try_out(night: &Night<'_>, context: &Context, ours: &[Seen], given: &Drill, back: &mut Back) -> Result<Told> {
    let parent = given.temp_dir.clone().unwrap_or_else(|| night.reach.temp_dir.clone());
    let scratch = Scratch::new(&parent).map_err(|source| {
        Error::io(
            format!("make a folder for a moment in {} (`drill.temp_dir` names another)", parent.display()),
            source,
        )
    })?;
    match &given.scenario {
        Scenario::Machine(origin) => on_bare_machine(night, context, given, origin.as_ref(), &scratch),
        _ => played(night, context, ours, given, &scratch, back),
    }
}

fn played(
    night: &Night<'_>,
    context: &Context,
    ours: &[Seen],
    given: &Drill,
    scratch: &Scratch,
    back: &mut Back,
) -> Result<Told> {
    let newest = ours.iter().rfind(|snapshot| !snapshot.is_partial);
    let Some(snapshot) = newest.map(|newest| whole(context, newest.id)).transpose()?.flatten() else {
        return Ok(Told { ended: Ended::Skipped, ..Told::done("there is no complete snapshot to try") });
    };
    let options = build::drill(given, night.surroundings, scratch.path(), &*night.reach.monitor, *back)?;
    let tried = drill::drill(context, &snapshot, &options)?;
    *back = back.and(tried.back);
    Ok(told(&snapshot.id.short(), given, &tried))
}

fn told(id: &str, given: &Drill, tried: &Outcome) -> Told {
    let files = tried.files.as_ref().map_or(0, |files| files.files);
    let figures = vec![
        (figure::DATABASES, tried.databases.len() as u64),
        (figure::FILES, files),
        (figure::DIFFERENCES, tried.difference_count),
        (figure::RESTORE_MS, tried.duration_ms),
        (figure::WHOLE_SNAPSHOT, u64::from(tried.back.is_all())),
    ];
    let message = match tried.kind() {
        None => format!("snapshot {id} came back as promised: {}", tried_of(given, tried)),
        Some(Kind::Damaged) => format!(
            "snapshot {id} did not come back as promised: {}; run `keepstone drill {id}`",
            counted(tried.difference_count, "difference")
        ),
        Some(_) => format!(
            "snapshot {id}: {} did not come back; run `keepstone drill {id}`",
            counted(tried.failed, "database")
        ),
    };
    let ended = match tried.kind() {
        None => Ended::Done,
        Some(Kind::Damaged) => Ended::Damage,
        Some(kind) => Ended::Failed(kind),
    };
    Told { ended, message, figures, problems: Vec::new() }
}

/// What was tried: databases, files or both; or tables.
fn tried_of(given: &Drill, tried: &Outcome) -> String {
    let databases = tried.databases.len() as u64;
    if matches!(given.scenario, Scenario::Table(_)) {
        let sum = |of: fn(&drill::Compared) -> u64| tried.databases.iter().map(|one| of(&one.compared)).sum::<u64>();
        let (tables, rows) = (sum(|compared| compared.tables), sum(|compared| compared.rows));
        return format!(
            "{} with {} of {}",
            counted(tables, "table"),
            counted(rows, "row"),
            counted(databases, "database")
        );
    }
    let databases = Some(databases).filter(|count| *count > 0).map(|count| counted(count, "database"));
    let files = tried.files.as_ref().map(|files| counted(files.files, "file"));
    let all: Vec<String> = databases.into_iter().chain(files).collect();
    if all.is_empty() { "nothing was in it to try".to_owned() } else { all.join(", ") }
}

/// The worst day: nothing is there but the repository, this program and what opens it.
fn on_bare_machine(
    night: &Night<'_>,
    context: &Context,
    given: &Drill,
    origin: Option<&Origin>,
    scratch: &Scratch,
) -> Result<Told> {
    let since = Stopwatch::start();
    let bare = bare(night, context, origin, scratch)?;
    let ours = snapshots_of(night.profile, &bare)?;
    let runs = history_again(night, &bare, scratch)?;
    let opened_ms = since.elapsed_ms();
    let mut told = played(night, &bare, &ours, given, scratch, &mut Back::default())?;
    told.message = format!(
        "opened with an empty cache in {:.1} s, {} and {} found; {}",
        opened_ms as f64 / 1000.0,
        counted(ours.len() as u64, "snapshot"),
        counted(runs, "run"),
        told.message
    );
    for (name, value) in &mut told.figures {
        if *name == figure::RESTORE_MS {
            *value = value.saturating_add(opened_ms);
        }
    }
    told.figures.extend([(figure::OPEN_MS, opened_ms), (figure::SNAPSHOTS, ours.len() as u64), (figure::RUNS, runs)]);
    Ok(told)
}

/// The repository as somebody opens it who has only `origin`.
fn bare(night: &Night<'_>, context: &Context, origin: Option<&Origin>, scratch: &Scratch) -> Result<Context> {
    let meant = &night.reach.repository;
    let origin = origin.or(meant.origin.as_ref()).ok_or_else(|| {
        Error::usage("what opens the repository on a bare machine? Say `identity_file`, `password_file` or another of these keys in `drill.scenarios.machine`")
    })?;
    let reach = Reach {
        repository: meant.clone(),
        as_of: None,
        caches: Caches::Below(scratch.path().join("cache")),
        temp_dir: scratch.path().to_owned(),
        monitor: night.reach.monitor.clone(),
        stop: night.reach.stop.clone(),
    };
    let repository = reach.sealed()?.unlock(&secrets::bring(origin)?.unlock, Clock::System)?;
    Ok(Context { pace: context.pace.clone(), ..reach.context(repository)? })
}

/// The runs of which a machine knows that has lost its history: those with records.
fn history_again(night: &Night<'_>, bare: &Context, scratch: &Scratch) -> Result<u64> {
    let now_ns = bare.repository.now_ns();
    let said = |error: crate::history::Error| Error::Said(error.kind(), error.to_string());
    let (mut history, _) = History::open(&scratch.path().join("state"), now_ns).map_err(said)?;
    annals::rebuild(&mut history, &night.profile.repository.name, &[Machine::this().host], bare)
}
