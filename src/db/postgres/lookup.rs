//! What lies in files beside the address of a PostgreSQL server: services, `.pgpass`, files with one password.

use super::address::{Address, is_default_socket_folder};
use crate::base::{Kind, Secret};
use crate::db::{Error, Result, Surroundings};
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

/// The largest such file that is read: they hold lines that people wrote.
const MAX_FILE_BYTES: u64 = 1 << 20;
/// Where Debian and upstream keep services for everybody.
const SYSTEM_FOLDERS: [&str; 2] = ["/etc/postgresql-common", "/etc/postgresql"];

/// The parameters of a service: from `PGSERVICEFILE` or the file in the home folder, or else the system's.
pub(super) fn service(name: &str, surroundings: &Surroundings) -> Result<BTreeMap<String, String>> {
    let own = match surroundings.get("PGSERVICEFILE") {
        Some(file) => Some(PathBuf::from(file)),
        None => surroundings.home.as_ref().map(|home| home.join(".pg_service.conf")),
    };
    let system = match surroundings.get("PGSYSCONFDIR") {
        Some(folder) => vec![PathBuf::from(folder)],
        None => SYSTEM_FOLDERS.iter().map(PathBuf::from).collect(),
    };
    let mut looked_in = Vec::new();
    for file in own.into_iter().chain(system.into_iter().map(|folder| folder.join("pg_service.conf"))) {
        if let Some(text) = read_if_there(&file)?
            && let Some(found) = section(&text, name)
        {
            return Ok(found);
        }
        looked_in.push(file.display().to_string());
    }
    Err(usage(format!("there is no service {name:?} in {}", looked_in.join(", "))))
}

/// The lines `name=value` below `[name]`.
fn section(text: &str, name: &str) -> Option<BTreeMap<String, String>> {
    let mut found = None;
    for line in text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#')) {
        if let Some(title) = line.strip_prefix('[').and_then(|line| line.strip_suffix(']')) {
            if found.is_some() {
                break;
            }
            found = (title == name).then(BTreeMap::new);
        } else if let (Some(found), Some((key, value))) = (&mut found, line.split_once('=')) {
            found.insert(key.trim_end().to_owned(), value.trim_start().to_owned());
        }
    }
    found
}

/// The password of the first line of `.pgpass` that fits. A file that others can read is not used, as with `libpq`;
/// the address gets a note then.
pub(super) fn pgpass(file: &Path, address: &mut Address) -> Result<Option<Secret<String>>> {
    let Ok(metadata) = std::fs::metadata(file) else { return Ok(None) };
    if !metadata.is_file() {
        return Ok(None);
    }
    if metadata.permissions().mode() & 0o077 != 0 {
        let file = file.display();
        address.notes.push(format!("{file} is not used: others may read it; chmod 600 {file}"));
        return Ok(None);
    }
    let Some(text) = read_if_there(file)?.map(Secret::new) else { return Ok(None) };
    let host = if is_default_socket_folder(&address.host) { "localhost" } else { &address.host };
    let wanted = [host, &address.port.to_string(), &address.database, &address.user];
    let lines = text.expose().lines().filter(|line| !line.starts_with('#'));
    Ok(lines.filter_map(|line| password_for(line, &wanted)).next())
}

/// `host:port:database:user:password`, each but the last perhaps `*`, with `\:` for a colon.
fn password_for(line: &str, wanted: &[&str; 4]) -> Option<Secret<String>> {
    let mut rest = line;
    for wanted in wanted {
        let (field, after) = field(rest);
        if field != "*" && unescaped(field) != **wanted {
            return None;
        }
        rest = after?;
    }
    Some(Secret::new(unescaped(field(rest).0)))
}

/// What stands before the first colon without a backslash, and what follows it.
fn field(text: &str) -> (&str, Option<&str>) {
    let mut escaped = false;
    for (at, letter) in text.char_indices() {
        match letter {
            ':' if !escaped => return (&text[..at], Some(&text[at + 1..])),
            letter => escaped = letter == '\\' && !escaped,
        }
    }
    (text, None)
}

fn unescaped(text: &str) -> String {
    let mut letters = text.chars();
    let mut result = String::with_capacity(text.len());
    while let Some(letter) = letters.next() {
        result.push(if letter == '\\' { letters.next().unwrap_or(letter) } else { letter });
    }
    result
}

/// The first line of a file that holds a password and nothing else.
pub(super) fn password_file(file: &Path) -> Result<Secret<String>> {
    let text = read_if_there(file)?.map(Secret::new);
    let text = text.ok_or_else(|| usage(format!("there is no password file {}", file.display())))?;
    Ok(Secret::new(text.expose().lines().next().unwrap_or_default().to_owned()))
}

fn read_if_there(file: &Path) -> Result<Option<String>> {
    let cannot = |error: io::Error| usage(format!("cannot read {}: {error}", file.display()));
    let open = match File::open(file) {
        Ok(open) => open,
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
            return Ok(None);
        }
        Err(error) => return Err(cannot(error)),
    };
    let mut text = String::new();
    open.take(MAX_FILE_BYTES).read_to_string(&mut text).map_err(cannot)?;
    Ok(Some(text))
}

fn usage(message: String) -> Error {
    Error::new("PostgreSQL address", Kind::Usage, message)
}
