//! `restore`: a snapshot or parts of it, back into a directory.

use super::{filter, restore_database};
use crate::cli::app::App;
use crate::cli::args::{Overwrite, Restore};
use crate::cli::error::{Error, Result};
use crate::cli::exit::Exit;
use crate::cli::print::json::{JsonProblem, problems};
use crate::cli::print::{human, table};
use crate::config::meant::Profile;
use crate::config::{self, Config};
use crate::format::snapshot::Snapshot;
use crate::ops::hooks::Hooks;
use crate::ops::restore::{self, Options, Outcome};
use crate::ops::select::{self, Selected};
use crate::source::files::Filter;
use crate::target::files::Overwrite as Existing;
use serde::Serialize;
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

#[derive(Serialize)]
struct JsonRestore {
    message_type: &'static str,
    snapshot: String,
    target: String,
    dry_run: bool,
    /// Files written.
    files: u64,
    directories: u64,
    others: u64,
    /// Further names of files written.
    links: u64,
    /// Files that were as they should be already.
    files_unchanged: u64,
    /// Files that were left as they are because `--overwrite` says so.
    skipped: u64,
    deleted: u64,
    written_bytes: u64,
    /// Bytes of content of the files restored.
    content_bytes: u64,
    /// Files read back and compared; 0 without `--verify`.
    verified_files: u64,
    verified_bytes: u64,
    /// Whether stored content was found damaged.
    damage: bool,
    problem_count: u64,
    problems: Vec<JsonProblem>,
    notes: Vec<String>,
    /// Commands after it that failed.
    failed_commands: Vec<String>,
}

/// What the config says of restores on this machine, and of those of a profile.
pub struct Rules {
    profile: Option<Profile>,
    /// Patterns of databases that are never written over or replaced.
    pub never: Vec<String>,
}

impl Rules {
    /// Those of the profile, if one is named; else those of the machine, if it has a config.
    pub fn of(app: &App) -> Result<Rules> {
        let global = &app.global;
        match &global.of_profile {
            Some(name) => {
                let profile = Config::load(&global.config)?.profile(name)?;
                Ok(Rules { never: profile.protected.clone(), profile: Some(profile) })
            }
            None if global.config.is_empty() && !config::places().iter().any(|place| place.exists()) => {
                Ok(Rules { profile: None, never: Vec::new() })
            }
            None => Ok(Rules { profile: None, never: Config::load(&global.config)?.protected() }),
        }
    }

    /// The commands around a restore of this snapshot.
    pub fn hooks(&self, snapshot: &Snapshot) -> Hooks {
        let Some(profile) = &self.profile else { return Hooks::default() };
        let knowing_profile = profile.restore_hooks.knowing("KEEPSTONE_PROFILE", profile.name.clone());
        knowing_profile.knowing("KEEPSTONE_SNAPSHOT", snapshot.id.to_string())
    }
}

/// Restores.
pub fn run(app: &App, given: &Restore) -> Result<Exit> {
    let Some(target) = &given.target else { return restore_database::run(app, given) };
    let context = app.context()?;
    let selected = select::select(&context, &given.snapshot, &filter(&given.filters))?;
    let rules = Rules::of(app)?;
    let options = Options { hooks: rules.hooks(&selected.snapshot), ..options(given, &selected, target)? };
    let outcome = restore::restore(&context, &selected.snapshot, &options)?;
    app.look.finish();
    match app.out.is_json() {
        true => print_json(app, given, &selected, target, &outcome),
        false => print_text(app, given, &selected, target, &outcome),
    }
    Ok(match outcome.problem_count {
        _ if outcome.damage => Exit::Damage,
        0 if outcome.failed_hooks.is_empty() => Exit::Done,
        _ => Exit::Failed,
    })
}

fn options(given: &Restore, selected: &Selected, target: &Path) -> Result<Options> {
    Ok(Options {
        path: selected.path.clone(),
        includes: patterns(&given.include, &given.iinclude)?,
        excludes: patterns(&given.exclude, &given.iexclude)?,
        overwrite: match given.overwrite {
            Overwrite::Always => Existing::Always,
            Overwrite::IfChanged => Existing::IfChanged,
            Overwrite::IfNewer => Existing::IfNewer,
            Overwrite::Never => Existing::Never,
        },
        delete: given.delete,
        dry_run: given.dry_run,
        verify: given.verify,
        sparse: given.sparse,
        numeric_ids: given.numeric_ids,
        ..Options::new(target.to_owned())
    })
}

fn patterns(exact: &[OsString], ignoring_case: &[OsString]) -> Result<Filter> {
    let mut filter = Filter::new();
    let bad = |error: crate::source::files::BadPattern| Error::usage(error.to_string());
    for pattern in exact {
        filter.add(pattern.as_bytes()).map_err(bad)?;
    }
    for pattern in ignoring_case {
        filter.add_ignoring_case(pattern.as_bytes()).map_err(bad)?;
    }
    Ok(filter)
}

fn print_json(app: &App, given: &Restore, selected: &Selected, target: &Path, outcome: &Outcome) {
    app.out.object(&JsonRestore {
        message_type: "restore",
        snapshot: selected.snapshot.id.to_string(),
        target: target.to_string_lossy().into_owned(),
        dry_run: given.dry_run,
        files: outcome.files,
        directories: outcome.directories,
        others: outcome.others,
        links: outcome.links,
        files_unchanged: outcome.unchanged,
        skipped: outcome.skipped,
        deleted: outcome.deleted,
        written_bytes: outcome.bytes_written,
        content_bytes: outcome.bytes,
        verified_files: outcome.verified_files,
        verified_bytes: outcome.verified_bytes,
        damage: outcome.damage,
        problem_count: outcome.problem_count,
        problems: problems(&outcome.problems),
        notes: outcome.notes.clone(),
        failed_commands: outcome.failed_hooks.clone(),
    });
}

fn print_text(app: &App, given: &Restore, selected: &Selected, folder: &Path, outcome: &Outcome) {
    let target = human::name(folder.as_os_str().as_bytes());
    let others: String = [(outcome.links, "hard link"), (outcome.others, "other")]
        .iter()
        .filter(|(count, _)| *count > 0)
        .map(|(count, what)| format!(", {}", human::counted(*count, what)))
        .collect();
    let mut facts = vec![
        ("snapshot", format!("{} of {}", selected.snapshot.id.short(), human::time(selected.snapshot.time_ns))),
        (
            if given.dry_run { "would go" } else { "restored" },
            format!(
                "{}, {}{others}, {}",
                human::counted(outcome.files, "file"),
                human::counted(outcome.directories, "directory"),
                human::bytes(outcome.bytes)
            ),
        ),
        ("to", target.clone()),
        (
            "written",
            if given.dry_run { "nothing: this was a dry run".to_owned() } else { human::bytes(outcome.bytes_written) },
        ),
        ("as before", human::counted(outcome.unchanged, "file")),
    ];
    let optional = [(outcome.skipped, "kept", "file"), (outcome.deleted, "deleted", "entry")];
    facts.extend(optional.iter().filter(|one| one.0 > 0).map(|(n, what, noun)| (*what, human::counted(*n, noun))));
    if given.verify {
        let files = human::counted(outcome.verified_files, "file");
        facts.push(("compared", format!("{files}, {}", human::bytes(outcome.verified_bytes))));
    }
    if outcome.problem_count > 0 {
        facts.push(("problems", human::count(outcome.problem_count)));
    }
    table::facts(&app.out, &facts);
    outcome.notes.iter().for_each(|note| app.look.note(note));
    conclude(app, given, selected, outcome, &target, folder);
}

fn conclude(app: &App, given: &Restore, selected: &Selected, outcome: &Outcome, target: &str, folder: &Path) {
    if outcome.is_nothing() {
        let not_safe = "what was wanted: nothing in the snapshot matches, so nothing was restored";
        return app.close("the snapshot", not_safe, &format!("ls {}", selected.snapshot.id.short()));
    }
    let same = same_again(given, selected, folder);
    if given.dry_run {
        return app.close("the snapshot", "nothing: this was a dry run", &same);
    }
    let again = if given.verify { same } else { format!("{same} --verify") };
    let problems = human::counted(outcome.problem_count, "entry");
    if outcome.problem_count == 0 && !outcome.failed_hooks.is_empty() {
        let safe = format!("what was restored, in {target}");
        return app.close(&safe, "what the command that failed should have done", &again);
    }
    let (safe, not_safe, next) = match (outcome.problem_count, given.verify) {
        (1.., _) if outcome.damage => (
            "what was restored without a problem",
            format!("{problems} that the repository no longer has whole"),
            "verify --all".to_owned(),
        ),
        (1.., _) => (
            "the snapshot, and what was restored without a problem",
            format!("{problems} that could not be restored"),
            again,
        ),
        (0, true) => (
            "what was restored: it was read back and compared",
            "nothing known".to_owned(),
            format!("snapshots --path {}", first_path(selected)),
        ),
        (0, false) => ("what was restored", "nothing known; the files were not read back".to_owned(), again),
    };
    let safe = format!("{safe}, in {target}");
    app.close(&safe, &not_safe, &next);
}

/// The same restore once more, with all that decides what is written where: without `--overwrite never` the next
/// command would write over what this one has kept.
fn same_again(given: &Restore, selected: &Selected, folder: &Path) -> String {
    let word = |text: &OsStr| human::shell_word(&text.to_string_lossy());
    let id = selected.snapshot.id.short();
    let from = match &selected.path {
        Some(path) => format!("{id}:{}", String::from_utf8_lossy(path)),
        None => id,
    };
    let mut text = format!("restore {} --target {}", human::shell_word(&from), word(folder.as_os_str()));
    text.push_str(match given.overwrite {
        Overwrite::Always => "",
        Overwrite::IfChanged => " --overwrite if-changed",
        Overwrite::IfNewer => " --overwrite if-newer",
        Overwrite::Never => " --overwrite never",
    });
    let switches = [
        ("delete", given.delete),
        ("verify", given.verify),
        ("sparse", given.sparse),
        ("numeric-ids", given.numeric_ids),
    ];
    switches.iter().filter(|(_, on)| *on).for_each(|(name, _)| text.push_str(&format!(" --{name}")));
    let patterns = [
        ("include", &given.include),
        ("iinclude", &given.iinclude),
        ("exclude", &given.exclude),
        ("iexclude", &given.iexclude),
    ];
    for (name, patterns) in patterns {
        patterns.iter().for_each(|pattern| text.push_str(&format!(" --{name} {}", word(pattern))));
    }
    text
}

fn first_path(selected: &Selected) -> String {
    let path = selected.snapshot.paths.first().map(|path| String::from_utf8_lossy(&path.0).into_owned());
    human::shell_word(&path.unwrap_or_else(|| "/".to_owned()))
}
