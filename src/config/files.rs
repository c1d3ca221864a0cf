//! Which files the config is read from.

use super::error::{Error, Result};
use super::tree::Files;
use crate::base::Kind;
use std::env;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

/// The system's.
const SYSTEM: &str = "/etc/keepstone/keepstone.toml";
/// Where root keeps state.
const STATE: &str = "/var/lib/keepstone";
/// No config is larger; a file given by mistake is not read to its end.
const MAX_BYTES: u64 = 1 << 20;

/// Where a config is looked for if nobody names one: what stands in the later ones counts more.
pub fn places() -> Vec<PathBuf> {
    let mut places = vec![PathBuf::from(SYSTEM)];
    places.extend(user_place());
    places
}

/// Where the one who asks would have a config of his own: root that of the system.
pub fn own_place() -> Result<PathBuf> {
    match rustix::process::geteuid().is_root() {
        true => Ok(SYSTEM.into()),
        false => user_place()
            .ok_or_else(|| Error::usage("where to? Neither XDG_CONFIG_HOME nor HOME is set: say --config FILE")),
    }
}

/// Where the one who asks keeps what outlives a run and is no cache; none if nobody says where his home is.
pub(super) fn own_state() -> Option<PathBuf> {
    let set = |name: &str| env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let users = || set("XDG_STATE_HOME").or_else(|| set("HOME").map(|home| home.join(".local/state")));
    set("KEEPSTONE_STATE_DIR").or_else(|| match rustix::process::geteuid().is_root() {
        true => Some(STATE.into()),
        false => users().map(|folder| folder.join("keepstone")),
    })
}

fn user_place() -> Option<PathBuf> {
    let set = |name: &str| env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let folder = set("XDG_CONFIG_HOME").or_else(|| set("HOME").map(|home| home.join(".config")))?;
    Some(folder.join("keepstone/keepstone.toml"))
}

/// Reads the files that are given, or those that are there.
pub(super) fn read(given: &[PathBuf]) -> Result<Files> {
    let mut files = Files::default();
    for path in given {
        files.add(path.clone(), text(path)?);
    }
    for path in places().into_iter().filter(|_| given.is_empty()) {
        match text(&path) {
            Ok(text) => drop(files.add(path, text)),
            Err(error) if error.kind() == Kind::NotFound => {}
            Err(error) => return Err(error),
        }
    }
    let is_empty = files.paths().next().is_none();
    match is_empty {
        false => Ok(files),
        true => {
            let places: Vec<String> = places().iter().map(|path| path.display().to_string()).collect();
            let text = format!(
                "there is no config, neither {}: make one with `keepstone config init`, or name one with --config",
                places.join(" nor ")
            );
            Err(Error::usage(text))
        }
    }
}

fn text(path: &Path) -> Result<String> {
    let failed = |source| Error::io(format!("read {}", path.display()), source);
    let mut bytes = Vec::new();
    File::open(path).and_then(|file| file.take(MAX_BYTES + 1).read_to_end(&mut bytes)).map_err(failed)?;
    if bytes.len() as u64 > MAX_BYTES {
        return Err(Error::usage(format!("{} is larger than 1 MiB: that is no config", path.display())));
    }
    String::from_utf8(bytes).map_err(|error| {
        let line =
            error.as_bytes()[..error.utf8_error().valid_up_to()].iter().filter(|byte| **byte == b'\n').count() + 1;
        Error::usage(format!("{}:{line}: this is not UTF-8: save the file as UTF-8", path.display()))
    })
}
