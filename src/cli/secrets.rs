//! Where passwords and keys come from: a file, a command, the environment, or a person at the terminal.
//!
//! A password is one line: what follows the first line end does not count. It is never an argument, never printed
//! and never echoed.

use super::args::{Global, KdfCost, NewSecret, Side};
use super::error::{Error, Result};
use super::print::{human, say};
use crate::base::{Secret, Stop};
use crate::config::meant::Origin;
use crate::config::secrets;
pub use crate::config::secrets::Brought;
use crate::crypto::identity::{generate_identity, identity_text};
use crate::crypto::slots::{GuardKind, MAX_STRETCH_KIB, Recipient, StretchCost, Unlock, generate_key_file};
use std::env;
use std::fs::OpenOptions;
use std::io::{self, IsTerminal, Write};
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

/// Said when nothing opens the repository that something is taken from.
const NONE_FROM: &str = "no password for the repository to copy from: give --from-password-file, --from-password-command, \
                         --from-key-file or --from-key-command, or set KEEPSTONE_FROM_PASSWORD (there is no terminal to \
                         ask on)";

/// What opens the repository.
enum Way {
    Password(Secret<Vec<u8>>),
    Origin(Origin),
    Terminal,
}

/// What the user brings to open the repository.
pub fn unlock(global: &Global, stop: &Stop) -> Result<Brought> {
    let way = way(global);
    match (global.side, &global.repository) {
        (Side::From, Some(place)) => {
            if matches!(way, Way::Terminal) && !io::stderr().is_terminal() {
                return Err(Error::usage(NONE_FROM));
            }
            let place = human::name(place.to_string_lossy().as_bytes());
            take(way, &format!("Password of {place}: "), false, stop)
        }
        _ => take(way, "Password: ", false, stop),
    }
}

/// What the user brings to open a repository that is made now: a password is asked for twice.
pub fn unlock_new(global: &Global) -> Result<Brought> {
    take(way(global), "New password: ", true, &Stop::new())
}

/// Whether a password or key is named, so that nobody has to be asked.
pub fn is_given(global: &Global) -> bool {
    !matches!(way(global), Way::Terminal)
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
    let way = given.into_iter().flatten().next().map_or(Way::Terminal, Way::Origin);
    take(way, "New password: ", true, &Stop::new())
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

/// What the profile says goes before an argument, and that before the environment; in the environment the first of them
/// that is set.
fn way(global: &Global) -> Way {
    if let Some(origin) = &global.origin {
        return Way::Origin(origin.clone());
    }
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
            .map(|password| Way::Password(Secret::new(password.into_vec())))
            .or_else(|| set("PASSWORD_FILE").map(|path| Way::Origin(Origin::PasswordFile(path.into()))))
            .or_else(|| set("PASSWORD_COMMAND").map(|command| Way::Origin(Origin::PasswordCommand(command))))
            .or_else(|| set("KEY_FILE").map(|path| Way::Origin(Origin::KeyFile(path.into()))))
            .or_else(|| set("KEY_COMMAND").map(|command| Way::Origin(Origin::KeyCommand(command))))
            .or_else(|| set("IDENTITY_FILE").map(|path| Way::Origin(Origin::IdentityFile(path.into()))))
    };
    flags.into_iter().flatten().next().map(Way::Origin).or_else(environment).unwrap_or(Way::Terminal)
}

fn take(way: Way, prompt: &str, twice: bool, stop: &Stop) -> Result<Brought> {
    let password = match way {
        Way::Origin(origin) => return Ok(secrets::bring_until(&origin, stop)?),
        Way::Password(password) => password,
        Way::Terminal => ask(prompt, twice)?,
    };
    Ok(Brought { unlock: Unlock::Passphrase(password), by_command: false })
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
    use crate::base::Kind;

    #[test]
    fn a_key_file_is_made_once_and_for_its_owner_only() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("vault.key");
        assert!(matches!(make_key_file(&path).unwrap().unlock, Unlock::KeyFile(_)));
        assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(make_key_file(&path).err().unwrap().kind(), Kind::Exists);
    }
}
