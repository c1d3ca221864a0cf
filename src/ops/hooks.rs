//! Shell commands around a backup or a restore: a service is stopped before and started again afterwards.
//!
//! They find what it is about in their environment, and nothing that opens the repository.

use super::backup::TimeLimit;
use super::{Error, Result as Answer};
use crate::base::Stop;
use crate::base::child::Program;
use std::io;
use std::thread::Builder;
use std::time::Duration;

/// How long a command may take where nobody says otherwise.
pub const TIMEOUT: Duration = Duration::from_secs(24 * 3600);

/// Commands around a backup or a restore.
#[derive(Clone, Debug)]
pub struct Hooks {
    /// Before anything is read or written; the first that fails ends it.
    pub before: Vec<String>,
    /// After a backup that made a snapshot, or a restore that wrote all.
    pub after: Vec<String>,
    /// After one that did not.
    pub failed: Vec<String>,
    /// After both, also when somebody has asked to stop: a service must run again.
    pub finally: Vec<String>,
    /// How long each may take.
    pub timeout: Duration,
    /// What they find in their environment.
    pub variables: Vec<(&'static str, String)>,
}

impl Default for Hooks {
    fn default() -> Hooks {
        Hooks {
            before: Vec::new(),
            after: Vec::new(),
            failed: Vec::new(),
            finally: Vec::new(),
            timeout: TIMEOUT,
            variables: Vec::new(),
        }
    }
}

impl Hooks {
    /// The same commands, which are told one thing more.
    #[must_use]
    pub fn knowing(&self, name: &'static str, value: impl Into<String>) -> Hooks {
        let mut hooks = self.clone();
        hooks.variables.push((name, value.into()));
        hooks
    }

    /// Runs those that come before.
    pub fn before(&self, stop: &Stop) -> Answer<()> {
        run(&self.before, &self.variables, self.timeout, stop).map_err(|why| match stop.raised() {
            true => Error::Interrupted,
            false => Error::Refused(format!("nothing was written: before the restore {why}")),
        })
    }

    /// Runs all that come after, whatever happens. Answers with what failed. `outcome` is `done`, `partial`, `damage` or
    /// `failed`.
    pub fn after(&self, outcome: &'static str, message: &str) -> Vec<String> {
        let told = self.knowing("KEEPSTONE_OUTCOME", outcome).knowing("KEEPSTONE_MESSAGE", message);
        let first = if outcome == "done" { &self.after } else { &self.failed };
        let one = |command: &String| {
            let ran = run(std::slice::from_ref(command), &told.variables, self.timeout, &Stop::new());
            ran.err().map(|why| format!("after the restore {why}"))
        };
        first.iter().chain(&self.finally).filter_map(one).collect()
    }
}

/// Runs shell commands one after the other; the first that fails ends it, with what went wrong. What they print is not
/// kept; the end of what they say on standard error is told when they fail.
pub fn run(commands: &[String], variables: &[(&str, String)], timeout: Duration, stop: &Stop) -> Result<(), String> {
    for (number, command) in commands.iter().enumerate() {
        let of = if commands.len() > 1 { format!(" {} of {}", number + 1, commands.len()) } else { String::new() };
        one(command, variables, timeout, stop).map_err(|why| format!("the command{of} `{command}` {why}"))?;
    }
    Ok(())
}

fn one(command: &str, variables: &[(&str, String)], timeout: Duration, stop: &Stop) -> Result<(), String> {
    let stop = stop.child();
    let failed = |error: io::Error| format!("cannot be run: {error}");
    let limit = TimeLimit::start(&stop, timeout).map_err(failed)?;
    let program = variables.iter().fold(Program::shell(command), |program, (name, value)| program.env(name, value));
    let mut child = program.start(&stop).map_err(failed)?;
    // Aside: a daemon that it started may hold its output open for ever, and the command has ended when its shell has.
    if let Some(mut output) = child.take_output() {
        let drain = move || io::copy(&mut output, &mut io::sink()).map(drop);
        Builder::new().name("drain".to_owned()).spawn(drain).map_err(failed)?;
    }
    let ended = child.finish().map_err(failed)?;
    let ran_out = limit.ran_out();
    // Nobody listens any more.
    stop.raise();
    if ran_out {
        return Err(format!("had not ended after {} s and was ended", timeout.as_secs()));
    }
    match (ended.stopped, ended.status.success()) {
        (true, _) => Err("was ended, since somebody asked to stop".to_owned()),
        (false, true) => Ok(()),
        (false, false) => {
            let said = String::from_utf8_lossy(&ended.errors);
            let said = said.lines().rfind(|line| !line.trim().is_empty()).unwrap_or_default().trim();
            let said = if said.is_empty() { String::new() } else { format!(": {said}") };
            Err(format!("failed ({}){said}", ended.status))
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    const LONG: Duration = Duration::from_secs(3600);

    #[test]
    fn a_daemon_that_a_command_leaves_is_not_waited_for() {
        let since = std::time::Instant::now();
        assert_eq!(run(&["sleep 30 & true"], LONG), Ok(()));
        assert!(since.elapsed() < Duration::from_secs(20), "{:?}", since.elapsed());
    }

    fn run(commands: &[&str], timeout: Duration) -> Result<(), String> {
        let commands: Vec<String> = commands.iter().map(|command| (*command).to_owned()).collect();
        super::run(&commands, &[("KEEPSTONE_PROFILE", "web".to_owned())], timeout, &Stop::new())
    }

    #[test]
    fn commands_know_the_profile_and_the_first_that_fails_ends_them() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("ran").display().to_string();
        let write = format!("echo much; printf %s \"$KEEPSTONE_PROFILE\" > {file}");
        assert_eq!(run(&[&write, "true"], LONG), Ok(()));
        assert_eq!(std::fs::read_to_string(&file).unwrap(), "web");
        std::fs::remove_file(&file).unwrap();
        let error = run(&["echo 'no such thing' >&2; exit 3", &write], LONG).unwrap_err();
        assert!(error.contains("1 of 2") && error.contains("no such thing"), "{error}");
        assert!(!std::path::Path::new(&file).exists());
    }

    #[test]
    fn commands_around_a_restore_hear_of_its_outcome_and_failures_are_told() {
        let hooks = |before: &[&str], after: &[&str]| Hooks {
            before: before.iter().map(|line| (*line).to_owned()).collect(),
            finally: after.iter().map(|line| (*line).to_owned()).collect(),
            failed: vec!["test \"$KEEPSTONE_MESSAGE\" = 'no room'".to_owned()],
            after: vec!["exit 7".to_owned()],
            variables: vec![("KEEPSTONE_DATABASE", "shop".to_owned())],
            ..Hooks::default()
        };
        let stop = Stop::new();
        assert!(hooks(&["test \"$KEEPSTONE_DATABASE\" = shop"], &[]).before(&stop).is_ok());
        let error = hooks(&["echo no >&2; exit 3", "exit 0"], &[]).before(&stop).unwrap_err().to_string();
        assert!(
            error.contains("nothing was written") && error.contains("echo no") && error.contains(": no"),
            "{error}"
        );
        let failed = hooks(&[], &["test \"$KEEPSTONE_OUTCOME\" = failed", "exit 1"]).after("failed", "no room");
        assert_eq!(failed.len(), 1, "{failed:?}");
        assert_eq!(hooks(&[], &[]).after("done", "").len(), 1, "what comes after a good one failed");
    }

    #[test]
    fn a_command_that_does_not_end_is_ended() {
        let error = run(&["sleep 3600"], Duration::from_millis(100)).unwrap_err();
        assert!(error.contains("had not ended"), "{error}");
    }
}
