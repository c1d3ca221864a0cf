//! What the environment of a run says about databases, as a value.
//!
//! Only the front door reads the environment; it fills this, and the rooms below look things up in it.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;

/// Variables, home folder and user name of whoever runs us. Holds passwords: prints names of variables only.
#[derive(Clone, Default)]
pub struct Surroundings {
    /// The variables of the environment that concern databases (`PG…`, `MYSQL…`, `DATABASE_URL`, …), or all.
    pub variables: BTreeMap<String, String>,
    /// The home folder, where `.pgpass`, `.pg_service.conf` and `.my.cnf` lie.
    pub home: Option<PathBuf>,
    /// The name of the user at the operating system: what servers are asked for when no user is named.
    pub user: Option<String>,
}

impl Surroundings {
    /// A variable that is set and not empty.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.variables.get(name).map(String::as_str).filter(|value| !value.is_empty())
    }

    /// With a variable more.
    pub fn with(mut self, name: impl Into<String>, value: impl Into<String>) -> Surroundings {
        self.variables.insert(name.into(), value.into());
        self
    }
}

impl fmt::Debug for Surroundings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Surroundings")
            .field("variables", &self.variables.keys().collect::<Vec<_>>())
            .field("home", &self.home)
            .field("user", &self.user)
            .finish()
    }
}
