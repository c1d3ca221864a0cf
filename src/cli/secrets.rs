//! Where passwords and keys come from: a file, a command, the environment, or a person at the terminal.
//!
//! A password is one line: what follows the first line end does not count. It is never an argument, never printed
//! and never echoed.

use super::args::{Global, KdfCost, NewSecret, Side};
use super::error::{Error, Result};
use super::print::{human, say};
use crate::base::child::Program;
use crate::base::{Kind, Secret, Stop};
use crate::crypto::identity::{generate_identity, identity_from_file, identity_text};
use crate::crypto::slots::{
    GuardKind, KEY_FILE_BYTES, MAX_STRETCH_KIB, Recipient, StretchCost, Unlock, generate_key_file,
};
use std::env;
use std::ffi::{OsStr, OsString};
use std::fs::{File, OpenOptions};
use std::io::{self, IsTerminal, Read, Write};
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// No password is longer; a file given by mistake is not read to its end.
const MAX_PASSWORD_BYTES: u64 = 64 << 10;

/// Said when nothing opens the repository that something is taken from.
const NONE_FROM: &str = "no password for the repository to copy from: give --from-password-file, --from-password-command, \
                         --from-key-file or --from-key-command, or set KEEPSTONE_FROM_PASSWORD (there is no terminal to \
                         ask on)";

/// What opens the repository.
enum Origin {
    Password(Secret<Vec<u8>>),
    PasswordFile(PathBuf),
    PasswordCommand(OsString),
    KeyFile(PathBuf),
    KeyCommand(OsString),
    IdentityFile(PathBuf),
    Terminal,
}

/// What opens a repository or will open it.
pub struct Brought {
    /// The password or key itself.
    pub unlock: Unlock,
    /// It is what a command printed, all of it.
    by_command: bool,
}

/// What the user brings to open the repository.
pub fn unlock(global: &Global) -> Result<Brought> {
    let origin = origin(global);
    match (global.side, &global.repository) {
        (Side::From, Some(place)) => {
            if matches!(origin, Origin::Terminal) && !io::stderr().is_terminal() {
                return Err(Error::usage(NONE_FROM));
            }
            let place = human::name(place.to_string_lossy().as_bytes());
            take(origin, &format!("Password of {place}: "), false)
        }
        _ => take(origin, "Password: ", false),
    }
}

/// What the user brings to open a repository that is made now: a password is asked for twice.
pub fn unlock_new(global: &Global) -> Result<Brought> {
    take(origin(global), "New password: ", true)
}

/// Whether a password or key is named, so that nobody has to be asked.
pub fn is_given(global: &Global) -> bool {
    !matches!(origin(global), Origin::Terminal)
}

/// A further password or key.
pub fn another(new: &NewSecret) -> Result<Brought> {
    if let Some(path) = &new.generate_key_file {
        return make_key_file(path);
    }
    let given = [
        new.new_password_file.clone().map(Origin::PasswordFile),
        new.new_password_command.clone().map(|command| Origin::PasswordCommand(command.into())),
        new.new_key_file.clone().map(Origin::KeyFile),
        new.new_key_command.clone().map(|command| Origin::KeyCommand(command.into())),
    ];
    let origin = given.into_iter().flatten().next().unwrap_or(Origin::Terminal);
    take(origin, "New password: ", true)
}

/// How a slot for it is guarded.
pub fn guard(brought: &Brought, cost: KdfCost) -> Result<GuardKind> {
    let memory_kib = u32::try_from(cost.kdf_memory / 1024).unwrap_or(u32::MAX);
    if !(8..=MAX_STRETCH_KIB).contains(&memory_kib) || !(1..=16).contains(&cost.kdf_passes) {
        return Err(Error::usage("--kdf-memory is 8K to 64M, --kdf-passes is 1 to 16"));
    }
    Ok(match &brought.unlock {
        Unlock::Passphrase(_) => GuardKind::Passphrase(StretchCost { memory_kib, passes: cost.kdf_passes, lanes: 1 }),
        Unlock::KeyFile(_) if brought.by_command => GuardKind::Command,
        Unlock::KeyFile(_) => GuardKind::KeyFile,
        Unlock::Identity(_) => GuardKind::Recipient,
    })
}

/// Makes a key file that only its owner can read. A file that is there is never overwritten.
pub fn make_key_file(path: &Path) -> Result<Brought> {
    let key = generate_key_file();
    write_private(path, key.expose().as_bytes(), "key file")?;
    let unlock = Unlock::KeyFile(Secret::new(key.expose().as_bytes().to_vec()));
    Ok(Brought { unlock, by_command: false })
}

/// Makes an identity file as `age-keygen` does, for its owner only; gives the recipient. A file that is there is never
/// overwritten.
pub fn make_identity_file(path: &Path, made_at: &str) -> Result<Recipient> {
    let (identity, recipient) = new_identity();
    let content = identity_file(&identity, &recipient, made_at);
    write_private(path, content.expose().as_bytes(), "identity file")?;
    Ok(recipient)
}

/// A new identity and its recipient.
pub fn new_identity() -> (Secret<[u8; 32]>, Recipient) {
    let identity = generate_identity();
    let recipient = Recipient::of(&identity);
    (identity, recipient)
}

/// The content of an identity file.
pub fn identity_file(identity: &Secret<[u8; 32]>, recipient: &Recipient, made_at: &str) -> Secret<String> {
    let text = identity_text(identity);
    // Reserved whole, so that no part of the secret is left behind when the text grows.
    let mut content = Secret::new(String::with_capacity(512));
    let all = content.expose_mut();
    for part in ["# created: ", made_at, "\n# public key: ", &recipient.to_string(), "\n", text.expose(), "\n"] {
        all.push_str(part);
    }
    content
}

fn write_private(path: &Path, content: &[u8], what: &str) -> Result<()> {
    let failed = |source| Error::io(format!("make {what} {}", path.display()), source);
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path).map_err(failed)?;
    file.write_all(content).and_then(|()| file.sync_all()).map_err(failed)
}

/// An argument goes before the environment; in the environment the first of them that is set.
fn origin(global: &Global) -> Origin {
    let flags = [
        global.password_file.clone().map(Origin::PasswordFile),
        global.password_command.clone().map(|command| Origin::PasswordCommand(command.into())),
        global.key_file.clone().map(Origin::KeyFile),
        global.key_command.clone().map(|command| Origin::KeyCommand(command.into())),
        global.identity_file.clone().map(Origin::IdentityFile),
    ];
    let prefix = match global.side {
        Side::Main => "KEEPSTONE",
        Side::From => "KEEPSTONE_FROM",
    };
    let set = |name: &str| env::var_os(format!("{prefix}_{name}")).filter(|value| !value.is_empty());
    let environment = || {
        set("PASSWORD")
            .map(|password| Origin::Password(Secret::new(password.into_vec())))
            .or_else(|| set("PASSWORD_FILE").map(|path| Origin::PasswordFile(path.into())))
            .or_else(|| set("PASSWORD_COMMAND").map(Origin::PasswordCommand))
            .or_else(|| set("KEY_FILE").map(|path| Origin::KeyFile(path.into())))
            .or_else(|| set("KEY_COMMAND").map(Origin::KeyCommand))
            .or_else(|| set("IDENTITY_FILE").map(|path| Origin::IdentityFile(path.into())))
    };
    flags.into_iter().flatten().next().or_else(environment).unwrap_or(Origin::Terminal)
}

fn take(origin: Origin, prompt: &str, twice: bool) -> Result<Brought> {
    let by_command = matches!(origin, Origin::KeyCommand(_));
    let most_key_bytes = *KEY_FILE_BYTES.end() as u64;
    let unlock = match origin {
        Origin::Password(password) => Unlock::Passphrase(password),
        Origin::PasswordFile(path) => Unlock::Passphrase(first_line(read(&path, MAX_PASSWORD_BYTES)?, &path)?),
        Origin::PasswordCommand(command) => {
            let printed = output_of(&command, "password", MAX_PASSWORD_BYTES)?;
            Unlock::Passphrase(first_line(printed, Path::new("what the password command printed"))?)
        }
        Origin::KeyFile(path) => Unlock::KeyFile(read(&path, most_key_bytes)?),
        Origin::KeyCommand(command) => Unlock::KeyFile(output_of(&command, "key", most_key_bytes)?),
        Origin::IdentityFile(path) => {
            let identity = identity_from_file(&read(&path, most_key_bytes)?);
            Unlock::Identity(identity.map_err(|error| Error::usage(format!("{}: {error}", path.display())))?)
        }
        Origin::Terminal => Unlock::Passphrase(ask(prompt, twice)?),
    };
    Ok(Brought { unlock, by_command })
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

/// What a command prints that is to be a `what`. It may ask the person at the terminal for what it needs.
fn output_of(command: &OsStr, what: &str, most: u64) -> Result<Secret<Vec<u8>>> {
    let failed = |source| Error::io(format!("run the {what} command"), source);
    let mut child = Program::shell(command).at_the_terminal().start(&Stop::new()).map_err(failed)?;
    let output = child.take_output().expect("nobody took it before");
    let Some(content) = read_all(output, most).map_err(failed)? else {
        return Err(Error::usage(format!("the {what} command printed far more than a {what}")));
    };
    let status = child.finish().map_err(failed)?.status;
    if !status.success() {
        return Err(Error::Said(Kind::Unavailable, format!("the {what} command failed ({status})")));
    }
    Ok(content)
}

fn ask(prompt: &str, twice: bool) -> Result<Secret<Vec<u8>>> {
    const NONE: &str = "no password: give --password-file, --password-command, --key-file, --key-command or --identity-file, or set \
         KEEPSTONE_PASSWORD";
    if !io::stderr().is_terminal() {
        return Err(Error::usage(format!("{NONE} (there is no terminal to ask on)")));
    }
    let ask = |prompt: &str| {
        let typed = rpassword::prompt_password(prompt).map_err(|_| Error::usage(NONE))?;
        Ok::<_, Error>(Secret::new(typed.into_bytes()))
    };
    loop {
        let password = ask(prompt)?;
        if password.expose().is_empty() {
            return Err(Error::usage("the password is empty: nothing was done"));
        }
        if !twice || ask("The same again: ")?.expose() == password.expose() {
            return Ok(password);
        }
        say("These were not the same; once more.");
    }
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
        let output_of = |command: &str| output_of(OsStr::new(command), "password", 64);
        assert_eq!(output_of("printf 'hunter2\\nmore\\n'").unwrap().expose(), b"hunter2\nmore\n");
        assert!(output_of("yes").unwrap_err().to_string().contains("far more"));
        let error = output_of("echo hunter2; exit 3").unwrap_err();
        assert_eq!(error.kind(), Kind::Unavailable);
        assert!(!error.to_string().contains("hunter2"));
    }

    #[test]
    fn a_key_file_is_made_once_and_for_its_owner_only() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("vault.key");
        assert!(matches!(make_key_file(&path).unwrap().unlock, Unlock::KeyFile(_)));
        assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(make_key_file(&path).err().unwrap().kind(), Kind::Exists);
    }

    #[test]
    fn a_file_that_cannot_be_a_password_is_not_read_to_its_end() {
        assert!(read_all(io::repeat(1), MAX_PASSWORD_BYTES).unwrap().is_none());
    }
}
