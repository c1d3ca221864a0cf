//! Passwords and keys that the config names: from a file, a command or an environment variable.
//!
//! A password is one line: what follows the first line end does not count. It is never printed.

use super::error::{Error, Result};
use super::meant::Origin;
use crate::base::child::Program;
use crate::base::{Kind, Secret, Stop};
use crate::crypto::identity::identity_from_file;
use crate::crypto::slots::{KEY_FILE_BYTES, Unlock};
use crate::ops::backup::TimeLimit;
use std::env;
use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, IsTerminal, Read};
use std::os::unix::ffi::OsStringExt;
use std::path::Path;
use std::time::Duration;

/// No password is longer; a file given by mistake is not read to its end.
const MAX_PASSWORD_BYTES: u64 = 64 << 10;

/// What opens a repository or will open it.
pub struct Brought {
    /// The password or key itself.
    pub unlock: Unlock,
    /// It is what a command printed, all of it.
    pub by_command: bool,
}

/// How long a command may take to print a secret where nobody sits at a terminal whom it may ask.
const PATIENCE: Duration = Duration::from_secs(60);

/// Brings what opens a repository.
pub fn bring(origin: &Origin) -> Result<Brought> {
    bring_until(origin, &Stop::new())
}

/// The same, unless somebody asks to stop.
pub fn bring_until(origin: &Origin, stop: &Stop) -> Result<Brought> {
    let most_key_bytes = *KEY_FILE_BYTES.end() as u64;
    let unlock = match origin {
        Origin::KeyFile(path) => Unlock::KeyFile(read(path, most_key_bytes)?),
        Origin::KeyCommand(command) => Unlock::KeyFile(output_of(command, "key", most_key_bytes, patience(), stop)?),
        Origin::IdentityFile(path) => {
            let identity = identity_from_file(&read(path, most_key_bytes)?);
            Unlock::Identity(identity.map_err(|error| Error::usage(format!("{}: {error}", path.display())))?)
        }
        password => Unlock::Passphrase(password_until(password, stop)?),
    };
    Ok(Brought { unlock, by_command: matches!(origin, Origin::KeyCommand(_)) })
}

/// Brings a password. A key is none.
pub fn password(origin: &Origin) -> Result<Secret<Vec<u8>>> {
    password_until(origin, &Stop::new())
}

fn password_until(origin: &Origin, stop: &Stop) -> Result<Secret<Vec<u8>>> {
    match origin {
        Origin::PasswordFile(path) => first_line(read(path, MAX_PASSWORD_BYTES)?, path),
        Origin::PasswordCommand(command) => {
            let printed = output_of(command, "password", MAX_PASSWORD_BYTES, patience(), stop)?;
            first_line(printed, Path::new("what the password command printed"))
        }
        Origin::PasswordVariable(name) => match env::var_os(name).filter(|value| !value.is_empty()) {
            Some(value) => Ok(Secret::new(value.into_vec())),
            None => {
                Err(Error::usage(format!("the environment variable {name} is not set: it should hold the password")))
            }
        },
        Origin::KeyFile(_) | Origin::KeyCommand(_) | Origin::IdentityFile(_) => Err(Error::usage(
            "a key is no password: name a password with password_file, password_command or password_env",
        )),
    }
}

/// Brings a password as a text: that of a database.
pub fn password_text(origin: &Origin) -> Result<Secret<String>> {
    text(origin)
}

/// Brings a line that is a secret: a password, a token, the address of a chat.
pub fn text(origin: &Origin) -> Result<Secret<String>> {
    let password = password(origin)?;
    let text = std::str::from_utf8(password.expose())
        .map_err(|_| Error::usage("a password, token or address is not UTF-8"))?;
    Ok(Secret::new(text.to_owned()))
}

fn read(path: &Path, most: u64) -> Result<Secret<Vec<u8>>> {
    let failed = |source| Error::io(format!("read {}", path.display()), source);
    let file = File::open(path).map_err(failed)?;
    read_all(file, most).map_err(failed)?.ok_or_else(|| {
        Error::usage(format!("{} is larger than {most} bytes: it is no password and no key", path.display()))
    })
}

/// At most `most` bytes; none if there are more. The room is reserved at once so that no part is left behind.
fn read_all(from: impl Read, most: u64) -> io::Result<Option<Secret<Vec<u8>>>> {
    let mut content = Secret::new(Vec::with_capacity(most as usize + 1));
    from.take(most + 1).read_to_end(content.expose_mut())?;
    Ok((content.expose().len() as u64 <= most).then_some(content))
}

fn first_line(mut content: Secret<Vec<u8>>, from: &Path) -> Result<Secret<Vec<u8>>> {
    let bytes = content.expose_mut();
    let end = bytes.iter().position(|&byte| byte == b'\n').unwrap_or(bytes.len());
    bytes.truncate(end);
    if bytes.last() == Some(&b'\r') {
        bytes.pop();
    }
    match bytes.is_empty() {
        true => Err(Error::usage(format!("the first line of {} is empty: it should be the password", from.display()))),
        false => Ok(content),
    }
}

fn patience() -> Option<Duration> {
    (!io::stderr().is_terminal()).then_some(PATIENCE)
}

/// What a command prints that is to be a `what`. It may ask the person at the terminal for what it needs.
fn output_of(
    command: &OsStr,
    what: &str,
    most: u64,
    patience: Option<Duration>,
    stop: &Stop,
) -> Result<Secret<Vec<u8>>> {
    let failed = |source| Error::io(format!("run the {what} command"), source);
    let ours = stop.child();
    let limit = patience.map(|patience| TimeLimit::start(&ours, patience)).transpose().map_err(failed)?;
    let program = Program::shell(command);
    // Where nobody can be asked it has a group of its own, so that what it started ends with it.
    let program = if patience.is_none() { program.at_the_terminal() } else { program.showing_errors() };
    let mut child = program.start(&ours).map_err(failed)?;
    let output = child.take_output().expect("nobody took it before");
    let printed = read_all(output, most);
    if stop.raised() {
        return Err(Error::Said(Kind::Interrupted, format!("stopped while the {what} command ran")));
    }
    if limit.is_some_and(|limit| limit.ran_out()) {
        let seconds = patience.unwrap_or_default().as_secs();
        let text = format!("the {what} command had not ended after {seconds} s and was ended: see what it waits for");
        return Err(Error::Said(Kind::Unavailable, text));
    }
    let Some(content) = printed.map_err(failed)? else {
        return Err(Error::usage(format!("the {what} command printed far more than a {what}")));
    };
    let status = child.finish().map_err(failed)?.status;
    if !status.success() {
        return Err(Error::Said(Kind::Unavailable, format!("the {what} command failed ({status})")));
    }
    Ok(content)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn line_of(text: &[u8]) -> Option<Vec<u8>> {
        let line = first_line(Secret::new(text.to_vec()), Path::new("file"));
        line.ok().map(|line| line.expose().clone())
    }

    #[test]
    fn a_password_is_the_first_line_without_its_end() {
        assert_eq!(line_of(b"secret\n").unwrap(), b"secret");
        assert_eq!(line_of(b"secret\r\nmore").unwrap(), b"secret");
        assert_eq!(line_of(b" with spaces ").unwrap(), b" with spaces ");
        assert_eq!(line_of(b"\nsecret"), None);
        assert_eq!(line_of(b""), None);
    }

    #[test]
    fn a_command_prints_the_password_and_its_failure_is_one() {
        let output_of = |command: &str| output_of(OsStr::new(command), "password", 64, None, &Stop::new());
        assert_eq!(output_of("printf 'hunter2\\nmore\\n'").unwrap().expose(), b"hunter2\nmore\n");
        assert!(output_of("yes").unwrap_err().to_string().contains("far more"));
        let error = output_of("echo hunter2; exit 3").unwrap_err();
        assert_eq!(error.kind(), Kind::Unavailable);
        assert!(!error.to_string().contains("hunter2"));
    }

    #[test]
    fn a_command_that_does_not_end_is_ended() {
        let output_of =
            |stop: &Stop| output_of(OsStr::new("sleep 1000"), "password", 64, Some(Duration::from_millis(50)), stop);
        let error = output_of(&Stop::new()).unwrap_err();
        assert!(error.kind() == Kind::Unavailable && error.to_string().contains("had not ended"), "{error}");
        let stop = Stop::new();
        stop.raise();
        assert_eq!(output_of(&stop).unwrap_err().kind(), Kind::Interrupted);
    }

    #[test]
    fn a_file_that_cannot_be_a_password_is_not_read_to_its_end() {
        assert!(read_all(io::repeat(1), MAX_PASSWORD_BYTES).unwrap().is_none());
    }
}
