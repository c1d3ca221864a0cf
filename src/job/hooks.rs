//! Commands around the backup.

use crate::base::Stop;
use crate::base::child::Program;
use crate::ops::backup::TimeLimit;
use std::io::{self, ErrorKind};
use std::time::Duration;

/// Runs shell commands one after the other; the first that fails ends it, with what went wrong. What they print is not
/// kept; the end of what they say on standard error is told when they fail.
pub fn run(commands: &[String], variables: &[(&str, String)], timeout: Duration, stop: &Stop) -> Result<(), String> {
    for (number, command) in commands.iter().enumerate() {
        let of = if commands.len() > 1 { format!(" {} of {}", number + 1, commands.len()) } else { String::new() };
        one(command, variables, timeout, stop).map_err(|why| format!("command{of} {why}"))?;
    }
    Ok(())
}

fn one(command: &str, variables: &[(&str, String)], timeout: Duration, stop: &Stop) -> Result<(), String> {
    let stop = stop.child();
    let failed = |error: io::Error| format!("cannot be run: {error}");
    let limit = TimeLimit::start(&stop, timeout).map_err(failed)?;
    let program = variables.iter().fold(Program::shell(command), |program, (name, value)| program.env(name, value));
    let mut child = program.start(&stop).map_err(failed)?;
    let drained = child.take_output().map_or(Ok(0), |mut output| io::copy(&mut output, &mut io::sink()));
    let ended = child.finish().map_err(failed)?;
    if limit.ran_out() {
        return Err(format!("had not ended after {} s and was ended", timeout.as_secs()));
    }
    match drained {
        Err(error) if error.kind() != ErrorKind::Other => return Err(format!("could not be listened to: {error}")),
        _ => {}
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
    fn a_command_that_does_not_end_is_ended() {
        let error = run(&["sleep 3600"], Duration::from_millis(100)).unwrap_err();
        assert!(error.contains("had not ended"), "{error}");
    }
}
