//! The front door: arguments, secrets, terminal, text and JSON, exit codes.
//!
//! The only room that prints, asks a person or reads the environment. Each command is a short file in `commands`:
//! it turns arguments into the options of a verb, calls the verb and prints the outcome.

mod app;
pub mod args;
mod commands;
mod databases;
pub mod error;
pub mod exit;
pub mod print;
mod profile;
mod scratch;
mod secrets;
mod terminal;

use crate::base::Clock;
use crate::base::clock::Stopwatch;
use crate::config::{self, Config};
use crate::history::operations::{Details, Line};
use app::App;
use args::{Cli, Command};
use error::Error;
use exit::Exit;
use print::say;

/// Runs the command that the arguments name. The answer is the exit code.
pub fn run() -> u8 {
    terminal::no_core_dumps();
    terminal::open_many_files();
    let (global, command) = Cli::read();
    let mut app = App::new(global);
    let since = Stopwatch::start();
    let done = app.at_profile().and_then(|()| commands::run(&app, &command));
    app.look.finish();
    if app.global.verbose {
        app.look.note(&format!("{} took {:.2} s", command.name(), since.elapsed().as_secs_f64()));
    }
    let message = done.as_ref().err().map_or(String::new(), ToString::to_string);
    let exit = done.unwrap_or_else(|error| {
        let hint = error.remedy().or_else(|| command.after_interruption().filter(|_| error.is_interruption()));
        complain(&app, &error, hint)
    });
    write_down(&app, &command, exit, message, since);
    match app.out.finish() {
        Ok(()) => exit.code(),
        Err(source) => {
            let is_done = matches!(exit, Exit::Done | Exit::Partial);
            let hint = is_done.then_some("the command itself was carried out; only what it says of it was not written");
            let told = complain(&app, &Error::io("write to standard output", source), hint);
            if exit == Exit::Done { told.code() } else { exit.code() }
        }
    }
}

/// What is done by hand to the repository of a profile stands in the operation log of the machine, beside what its runs do.
fn write_down(app: &App, command: &Command, exit: Exit, message: String, since: Stopwatch) {
    let Some(profile) = app.global.of_profile.as_ref().filter(|_| command.is_operation()) else { return };
    let Some(log) = Config::load(&app.global.config).ok().and_then(|config| config.state().operations()) else {
        return;
    };
    let now = Clock::System.now();
    let line = Line {
        timestamp: now.strftime("%Y-%m-%dT%H:%M:%SZ").to_string(),
        operation: command.name().to_owned(),
        status: exit.name().to_owned(),
        details: Details {
            duration: since.elapsed().as_secs_f64(),
            profile: profile.clone(),
            message,
            ..Details::default()
        },
    };
    if let Err(error) = log.add(&[line], now) {
        app.look.note(&format!("the operation log: {error}"));
    }
}

fn complain(app: &App, error: &Error, hint: Option<&str>) -> Exit {
    let exit = error.exit();
    if matches!(error, Error::Closed) {
        return exit;
    }
    let message = match hint {
        Some(hint) => format!("{error}; {hint}"),
        None => error.to_string(),
    };
    if app.out.is_json() {
        say(print::json_error(exit, &message));
    } else {
        match error {
            // Each complaint has lines of its own, in which nothing is left that could command a terminal.
            Error::Config(config::Error::Wrong(_)) => say(message),
            _ => say(format!("keepstone: {}", print::human::name(message.as_bytes()))),
        }
    }
    exit
}
