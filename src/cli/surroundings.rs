//! What the environment says about databases, and where files may lie for a moment.

use super::error::{Error, Result};
use crate::base::Scratch;
use crate::db::Surroundings;
use crate::source::files::Accounts;
use std::env;
use std::path::{Path, PathBuf};

/// What the names of variables begin with that concern databases, and where their programs are and put files.
const PREFIXES: [&str; 7] = ["PG", "MYSQL", "MARIADB", "DATABASE_URL", "PATH", "TMPDIR", "XDG_RUNTIME_DIR"];

/// Variables that concern databases, home folder and user name.
pub fn surroundings() -> Surroundings {
    let concerns = |name: &String| PREFIXES.iter().any(|prefix| name.starts_with(prefix));
    let text = |(name, value): (std::ffi::OsString, std::ffi::OsString)| {
        Some((name.into_string().ok()?, value.into_string().ok()?))
    };
    Surroundings {
        variables: env::vars_os().filter_map(text).filter(|(name, _)| concerns(name)).collect(),
        home: env::var_os("HOME").filter(|home| !home.is_empty()).map(PathBuf::from),
        user: user(),
    }
}

fn user() -> Option<String> {
    let number = rustix::process::geteuid().as_raw();
    let named = Accounts::of_this_machine().user_name(number).map(str::to_owned);
    let variable = |name: &str| env::var(name).ok().filter(|name| !name.is_empty());
    named.or_else(|| variable("USER")).or_else(|| variable("LOGNAME"))
}

/// A folder for a moment that only we can read, in `parent` or else where the system keeps such things.
pub fn scratch(parent: Option<&Path>) -> Result<Scratch> {
    let parent = parent.map_or_else(env::temp_dir, Path::to_owned);
    Scratch::new(&parent).map_err(|source| {
        Error::io(format!("make a folder for a moment in {} (--temp-dir names another)", parent.display()), source)
    })
}
