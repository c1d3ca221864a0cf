//! What the environment says about databases, users and caches.

use crate::db::Surroundings;
use crate::source::files::Accounts;
use std::env;
use std::path::PathBuf;

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

/// The value of a variable, as patterns in files may name it.
pub fn variable(name: &str) -> Option<std::ffi::OsString> {
    env::var_os(name)
}

fn user() -> Option<String> {
    let number = rustix::process::geteuid().as_raw();
    let named = Accounts::of_this_machine().user_name(number).map(str::to_owned);
    let variable = |name: &str| env::var(name).ok().filter(|name| !name.is_empty());
    named.or_else(|| variable("USER")).or_else(|| variable("LOGNAME"))
}

/// What snapshots call the user who makes them.
pub fn user_name() -> String {
    let named = ["USER", "LOGNAME"].iter().filter_map(env::var_os).find(|name| !name.is_empty());
    let number = || {
        let number = rustix::process::getuid().as_raw();
        Accounts::of_this_machine().user_name(number).map_or_else(|| number.to_string(), str::to_owned)
    };
    named.map_or_else(number, |name| name.to_string_lossy().into_owned())
}

/// Where local caches lie: where somebody said, or else where this user's do.
pub fn cache_top(given: Option<PathBuf>) -> Option<PathBuf> {
    let set = |name: &str| env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    given
        .filter(|path| !path.as_os_str().is_empty())
        .or_else(|| set("XDG_CACHE_HOME").filter(|path| path.is_absolute()).map(|path| path.join("keepstone")))
        .or_else(|| set("HOME").map(|home| home.join(".cache/keepstone")))
}
