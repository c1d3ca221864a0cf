//! Commands around a restore: a service is stopped before and started again afterwards.
//!
//! They run in a shell, with `KEEPSTONE_DATABASE` and, afterwards, `KEEPSTONE_OUTCOME` (`done` or `failed`) in their
//! environment, and with nothing that opens the repository.

use super::super::{Error, Result};
use crate::base::Stop;
use crate::base::child::Program;
use std::io;

/// Runs the commands in order; the first that fails ends it, before anything was written.
pub fn before(commands: &[String], database: &str, stop: &Stop) -> Result<()> {
    for command in commands {
        let program = Program::shell(command).env("KEEPSTONE_DATABASE", database);
        run(program, stop).map_err(|why| match stop.raised() {
            true => Error::Interrupted,
            false => Error::Refused(format!("nothing was written: the command `{command}` before the restore {why}")),
        })?;
    }
    Ok(())
}

/// Runs all commands, whatever happens, also when somebody has asked to stop: a service must run again. Answers with what
/// failed.
pub fn after(commands: &[String], database: &str, done: bool) -> Vec<String> {
    let outcome = if done { "done" } else { "failed" };
    let mut failed = Vec::new();
    for command in commands {
        let program = Program::shell(command).env("KEEPSTONE_DATABASE", database).env("KEEPSTONE_OUTCOME", outcome);
        if let Err(why) = run(program, &Stop::new()) {
            failed.push(format!("the command `{command}` after the restore {why}"));
        }
    }
    failed
}

fn run(program: Program, stop: &Stop) -> Result<(), String> {
    let cannot = |error: io::Error| format!("could not be run: {error}");
    let mut child = program.start(stop).map_err(cannot)?;
    if let Some(mut output) = child.take_output() {
        // Nobody reads it here; a command that wants to be heard writes to a log.
        io::copy(&mut output, &mut io::sink()).map_err(cannot)?;
    }
    let ended = child.finish().map_err(cannot)?;
    if ended.status.success() {
        return Ok(());
    }
    let words = String::from_utf8_lossy(&ended.errors).into_owned();
    Err(format!("failed ({}): {}", ended.status, words.trim()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_hear_of_database_and_outcome_and_failures_are_told() {
        let stop = Stop::new();
        assert!(before(&["test \"$KEEPSTONE_DATABASE\" = shop".into()], "shop", &stop).is_ok());
        let error = before(&["echo no >&2; exit 3".into(), "exit 0".into()], "shop", &stop);
        assert!(error.is_err_and(|error| error.to_string().contains("no") && error.to_string().contains("nothing")));
        let failed = after(&["test \"$KEEPSTONE_OUTCOME\" = failed".into(), "exit 1".into()], "shop", false);
        assert_eq!(failed.len(), 1, "{failed:?}");
    }
}
