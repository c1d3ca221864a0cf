//! The commands, one short file each.

mod backup;
mod cat;
mod config;
mod copy;
mod diff;
mod drill;
mod dump;
mod entry;
mod forget;
mod health;
mod history;
mod info;
mod init;
mod key;
mod log;
mod ls;
mod metrics;
mod notify;
mod parity;
mod plain;
mod predict;
mod probe;
mod prune;
mod rebuild_index;
mod repair;
mod report;
mod restore;
mod restore_closing;
mod restore_database;
mod restore_imported;
mod rows;
mod run;
mod show;
mod snapshots;
mod stats;
mod store;
mod tables;
mod tag;
mod verify;
mod verify_packs;

use super::app::App;
use super::args::{Command, Filters};
use super::error::Result;
use super::exit::Exit;
use super::print::human;
use crate::base::{Event, Monitor, Problem, SnapshotId};
use crate::config::Config;
use crate::history::{History, Outcome, VANISHED};
use crate::job;
use crate::ops::{Context, select};
use std::ffi::OsString;
use std::os::unix::ffi::OsStrExt;

/// Does what the arguments ask for. Metrics that a config sends somewhere are sent again after a command of a profile that
/// changes what they say.
pub fn run(app: &App, command: &Command) -> Result<Exit> {
    let done = dispatch(app, command);
    if app.global.of_profile.is_some() && is_measured(command) {
        publish(app);
    }
    done
}

/// Whether metrics may be others after it. A night publishes them by itself.
fn is_measured(command: &Command) -> bool {
    matches!(
        command,
        Command::Backup(_)
            | Command::Verify(_)
            | Command::Drill(_)
            | Command::Forget(_)
            | Command::Prune(_)
            | Command::Copy(_)
            | Command::Repair(_)
    )
}

/// The command did what it did: that its metrics could not be written is told beside it.
fn publish(app: &App) {
    let published = Config::load(&app.global.config).map(|config| job::metrics::again(&config));
    if let Ok(Err(error)) = published {
        app.look.note(&format!("the metrics are those of before: {error}"));
    }
}

fn dispatch(app: &App, command: &Command) -> Result<Exit> {
    match command {
        Command::Init(given) => init::run(app, given),
        Command::Backup(given) => backup::run(app, given),
        Command::Probe(given) => probe::run(app, given),
        Command::Snapshots(given) => snapshots::run(app, given),
        Command::Show(given) => show::run(app, given),
        Command::Ls(given) => ls::ls(app, given),
        Command::Find(given) => ls::find(app, given),
        Command::Diff(given) => diff::run(app, given),
        Command::Dump(given) => dump::run(app, given),
        Command::Restore(given) => restore::run(app, given),
        Command::Drill(given) => drill::run(app, given),
        Command::Verify(given) => verify::run(app, given),
        Command::VerifyPacks(given) => verify_packs::run(app, given),
        Command::Stats(given) => stats::run(app, given),
        Command::Cat(given) => cat::run(app, given),
        Command::Info(_) => info::run(app),
        Command::Log(given) => log::run(app, given),
        Command::Key(given) => key::run(app, given),
        Command::RebuildIndex(_) => rebuild_index::run(app),
        Command::Parity(given) => parity::run(app, given),
        Command::Repair(given) => repair::run(app, given),
        Command::Store(given) => store::run(app, given),
        Command::Tag(given) => tag::run(app, given),
        Command::Forget(given) => forget::run(app, given),
        Command::Prune(given) => prune::run(app, given),
        Command::Copy(given) => copy::run(app, given),
        Command::Run(given) => run::run(app, given),
        Command::Health(given) => health::run(app, given),
        Command::History(given) => history::run(app, given),
        Command::Predict(given) => predict::run(app, given),
        Command::Config(given) => config::run(app, given),
        Command::Notify(given) => notify::run(app, given),
        Command::Metrics(given) => metrics::run(app, given),
        Command::Report(given) => report::run(app, given),
        Command::Completions(given) => plain::completions(app, given),
        Command::Version => plain::version(app),
    }
}

/// Which snapshots the common arguments mean.
fn filter(given: &Filters) -> select::Filter {
    select::Filter {
        hosts: given.host.clone(),
        tags: given.tag.iter().map(|list| select::parse_tags(list)).collect(),
        paths: given.path.iter().map(|path| path.as_bytes().to_vec()).collect(),
        ..select::Filter::default()
    }
}

/// The ids of the snapshots that are named, each once.
fn selected(context: &Context, named: &[OsString], filter: &select::Filter) -> Result<Vec<SnapshotId>> {
    let mut ids = Vec::new();
    for name in named {
        let id = select::select(context, name, filter)?.snapshot.id;
        if !ids.contains(&id) {
            ids.push(id);
        }
    }
    Ok(ids)
}

/// Tells that the newest run of the profile that is named vanished: what its end would have said is in no list. A history that
/// cannot be read is told by who reads nothing else.
fn tell_vanished(app: &App) {
    let Some(name) = &app.global.of_profile else { return };
    let newest = || {
        let folder = Config::load(&app.global.config).ok()?.state().folder?;
        History::read(&folder).ok()??.newest(name).ok()?
    };
    if let Some(gone) = newest().filter(|entry| entry.outcome == Outcome::Vanished) {
        app.look.note(&format!(
            "the run of {} vanished: {VANISHED}; the next run makes up for it, or start it with `{}`",
            human::time(gone.begun_ns),
            app.config_command(&format!("run {}", human::shell_word(name)))
        ));
    }
}

/// Tells what was found damaged besides the result; the exit code that this amounts to.
fn tell(app: &App, problems: &[Problem]) -> Exit {
    for problem in problems {
        app.look.event(Event::Problem(problem));
    }
    if problems.is_empty() { Exit::Done } else { Exit::Damage }
}
