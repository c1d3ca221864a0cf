//! PostgreSQL's own client programs: finding those that fit a server, and what they may know.
//!
//! `pg_dump` refuses servers newer than itself, so the programs of a major version at least the server's are looked
//! for. They get host, user and password by the environment of that one child, never on its command line.

use super::tls::root_file;
use super::{Address, Tls};
use crate::base::Kind;
use crate::base::child::Program;
use crate::db::{Error, Result, Surroundings, Watch};
use std::cmp::Ordering;
use std::ffi::OsString;
use std::io::Read;
use std::path::{Path, PathBuf};

/// The programs of one version that a backup or a restore needs.
const NEEDED: [&str; 3] = ["pg_dump", "pg_dumpall", "pg_restore"];
/// Where packages of Debian, of PostgreSQL for Red Hat, and of others put each version.
const FOLDERS_OF_VERSIONS: [(&str, &str); 3] =
    [("/usr/lib/postgresql", ""), ("/usr", "pgsql-"), ("/opt/homebrew/opt", "postgresql@")];
/// The first minor versions whose `pg_dump` lets no object's name smuggle commands into a dump (CVE-2026-6477).
const FIXED: [(u32, u32); 5] = [(14, 23), (15, 18), (16, 14), (17, 10), (18, 4)];
/// A path where there is never a file.
const NOWHERE: &str = "/dev/null/none";
/// The longest answer to `--version` that is read, in bytes.
const MAX_VERSION_BYTES: u64 = 1 << 10;

/// Variables that would lead a child elsewhere than we went, or change what it writes.
const MISLEADING: [&str; 17] = [
    "PGSERVICE",
    "PGSERVICEFILE",
    "PGHOSTADDR",
    "PGREQUIREPEER",
    "PGREQUIREAUTH",
    "PGREQUIRESSL",
    "PGSSLCERT",
    "PGSSLKEY",
    "PGSSLCRL",
    "PGSSLCRLDIR",
    "PGSSLNEGOTIATION",
    "PGCHANNELBINDING",
    "PGTARGETSESSIONATTRS",
    "PGLOADBALANCEHOSTS",
    "PGCLIENTENCODING",
    "PGTZ",
    "PGDATESTYLE",
];

/// A client program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tool {
    /// Writes the definitions of a database.
    Dump,
    /// Writes the roles and tablespaces of a server.
    DumpAll,
    /// Brings definitions back.
    Restore,
    /// Runs SQL.
    Psql,
}

impl Tool {
    /// The name of the program.
    pub fn name(self) -> &'static str {
        match self {
            Tool::Dump => "pg_dump",
            Tool::DumpAll => "pg_dumpall",
            Tool::Restore => "pg_restore",
            Tool::Psql => "psql",
        }
    }
}

/// The client programs of one version.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tools {
    folder: PathBuf,
    /// Their major version.
    pub major: u32,
    /// Their minor version.
    pub minor: u32,
}

impl Tools {
    /// Finds programs that fit a server of `version_number`: in `folder` if one is given, else in `PATH` and where
    /// packages put them. Those of the server's own version come first, since what newer ones write uses settings that
    /// the server does not know.
    pub fn find(
        version_number: u32,
        folder: Option<&Path>,
        surroundings: &Surroundings,
        watch: &Watch,
    ) -> Result<Tools> {
        let needed = version_number / 10_000;
        let candidates = match folder {
            Some(folder) => vec![folder.to_owned()],
            None => candidates(surroundings, needed),
        };
        let (mut newer, mut too_old) = (None, None);
        for folder in candidates {
            let Some((major, minor)) = version_in(&folder, watch) else { continue };
            let tools = Tools { folder, major, minor };
            match major.cmp(&needed) {
                Ordering::Equal => return Ok(tools),
                Ordering::Greater => newer.get_or_insert(tools),
                Ordering::Less => too_old.get_or_insert(tools),
            };
        }
        newer.ok_or_else(|| missing(needed, folder, too_old))
    }

    /// The path of a program.
    pub fn path(&self, tool: Tool) -> PathBuf {
        self.folder.join(tool.name())
    }

    /// What a manifest says of them: `pg_dump 15.18`.
    pub fn client(&self) -> String {
        format!("pg_dump {}.{}", self.major, self.minor)
    }

    /// A program that will talk to `database` at the server of `address`: it never asks for a password, and its
    /// command line names no more than the database.
    pub fn program(&self, tool: Tool, address: &Address, database: &str) -> Program {
        let program = equipped(Program::new(self.path(tool)), &address.with_database(database));
        // As a connection string: a name such as `a=b` would be taken for one otherwise.
        program.arg("--no-password").arg(format!("--dbname={}", connection_string(database)))
    }

    /// What is known to be wrong with this version.
    pub fn warning(&self) -> Option<String> {
        let fixed = FIXED.iter().find(|(major, _)| *major == self.major);
        let old = fixed.map_or(self.major < FIXED[0].0, |(_, minor)| self.minor < *minor);
        let to = fixed.map_or("a supported version".to_owned(), |(major, minor)| format!("{major}.{minor}"));
        old.then(|| {
            let (client, folder) = (self.client(), self.folder.display());
            format!("{client} in {folder} has known security holes (CVE-2026-6477): update it to {to} or later")
        })
    }
}

/// The folders to look in, best first.
fn candidates(surroundings: &Surroundings, needed: u32) -> Vec<PathBuf> {
    let on_path = surroundings.get("PATH").unwrap_or_default().split(':').filter(|folder| !folder.is_empty());
    // Debian's wrapper picks a version by itself, by rules of its own.
    let is_wrapper = |folder: &PathBuf| {
        folder.join("pg_dump").canonicalize().is_ok_and(|program| program.ends_with("postgresql-common/pg_wrapper"))
    };
    let mut found: Vec<PathBuf> = on_path.map(PathBuf::from).filter(|folder| !is_wrapper(folder)).collect();
    let mut versions: Vec<(u32, PathBuf)> = Vec::new();
    for (parent, prefix) in FOLDERS_OF_VERSIONS {
        for entry in std::fs::read_dir(parent).into_iter().flatten().flatten() {
            let name = entry.file_name();
            let version = name.to_str().and_then(|name| name.strip_prefix(prefix)).and_then(|name| name.parse().ok());
            versions.extend(version.map(|version| (version, entry.path().join("bin"))));
        }
    }
    versions.sort_by_key(|(version, _)| (*version != needed, std::cmp::Reverse(*version)));
    found.extend(versions.into_iter().map(|(_, folder)| folder));
    found
}

/// The version of the programs in a folder, if all are there and say it.
fn version_in(folder: &Path, watch: &Watch) -> Option<(u32, u32)> {
    if !NEEDED.iter().all(|name| folder.join(name).is_file()) {
        return None;
    }
    let mut child = Program::new(folder.join(NEEDED[0])).arg("--version").start(&watch.stop).ok()?;
    let mut text = String::new();
    child.take_output()?.take(MAX_VERSION_BYTES).read_to_string(&mut text).ok()?;
    child.finish().ok()?;
    version_of(&text)
}

/// `(15, 18)` of `pg_dump (PostgreSQL) 15.18 (Debian …)`, `(19, 0)` of `pg_dump (PostgreSQL) 19devel`.
fn version_of(text: &str) -> Option<(u32, u32)> {
    let version = text.split_once("(PostgreSQL) ")?.1.split_whitespace().next()?;
    let mut numbers = version.split(|letter: char| !letter.is_ascii_digit());
    let major = numbers.next()?.parse().ok()?;
    Some((major, numbers.next().and_then(|minor| minor.parse().ok()).unwrap_or(0)))
}

fn missing(needed: u32, folder: Option<&Path>, too_old: Option<Tools>) -> Error {
    let place = folder.map_or("PATH and /usr/lib/postgresql".to_owned(), |folder| folder.display().to_string());
    let found = match too_old {
        Some(tools) => format!("{} in {} is too old for this server", tools.client(), tools.folder.display()),
        None => format!("pg_dump, pg_dumpall and pg_restore are not in {place}"),
    };
    let remedy = format!("install the client programs of version {needed} or later (postgresql-client-{needed})");
    Error::new("client programs", Kind::Unsupported, format!("{found}; {remedy}"))
}

/// `dbname='a name'`, quoted as connection strings want it.
pub fn connection_string(database: &str) -> String {
    format!("dbname='{}'", database.replace('\\', "\\\\").replace('\'', "\\'"))
}

/// Gives a program what it needs to get to `address`, and takes away what would lead it elsewhere.
pub fn equipped(program: Program, address: &Address) -> Program {
    let program = MISLEADING.iter().fold(program, |program, name| program.without_env(name));
    let program = program.without_env("PGPASSWORD");
    address.environment_of_children().into_iter().fold(program, |program, (name, value)| program.env(name, value))
}

impl Address {
    /// The variables that lead a client program to this database, the password among them: for the environment of
    /// that one child and nothing else. [`equipped`] also takes away what misleads.
    pub fn environment_of_children(&self) -> Vec<(&'static str, OsString)> {
        let mut variables: Vec<(&'static str, OsString)> = vec![
            ("PGHOST", self.host.clone().into()),
            ("PGPORT", self.port.to_string().into()),
            ("PGUSER", self.user.clone().into()),
            ("PGDATABASE", self.database.clone().into()),
            ("PGSSLMODE", if self.is_socket() { "disable" } else { self.tls.word() }.into()),
            ("PGGSSENCMODE", "disable".into()),
            ("PGAPPNAME", self.application_name.clone().into()),
            ("PGCONNECT_TIMEOUT", self.connect_timeout.as_secs().max(2).to_string().into()),
            ("PGOPTIONS", self.options.clone().unwrap_or_default().into()),
            // Nobody looks for other passwords than the one we found.
            ("PGPASSFILE", NOWHERE.into()),
            ("PG_COLOR", "never".into()),
            ("LC_ALL", "C".into()),
        ];
        if let Some(address) = self.host_address {
            variables.push(("PGHOSTADDR", address.to_string().into()));
        }
        if let Some(password) = &self.password {
            variables.push(("PGPASSWORD", password.expose().into()));
        }
        if self.require_channel_binding {
            variables.push(("PGCHANNELBINDING", "require".into()));
        }
        if let Some((certificate, key)) = &self.client_certificate {
            variables.push(("PGSSLCERT", certificate.into()));
            variables.push(("PGSSLKEY", key.into()));
        }
        match self.tls {
            Tls::VerifyCa | Tls::VerifyFull => {
                variables.extend(root_file(self).map(|file| ("PGSSLROOTCERT", file.into())));
            }
            // With a file that is there, `libpq` would look at certificates after all.
            _ => variables.push(("PGSSLROOTCERT", NOWHERE.into())),
        }
        variables
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::base::{Silent, Stop};
    use std::os::unix::fs::PermissionsExt;
    use std::sync::Arc;

    fn fake_programs(version: &str) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        for name in NEEDED {
            let path = folder.path().join(name);
            std::fs::write(&path, format!("#!/bin/sh\necho 'pg_dump (PostgreSQL) {version}'\n")).unwrap();
            std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755)).unwrap();
        }
        folder
    }

    #[test]
    fn versions_are_understood() {
        assert_eq!(version_of("pg_dump (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)\n"), Some((15, 18)));
        assert_eq!(version_of("pg_dump (PostgreSQL) 19devel\n"), Some((19, 0)));
        assert_eq!(version_of("what?"), None);
    }

    #[test]
    fn programs_that_are_missing_too_old_or_unsafe_are_named() {
        let watch = Watch { stop: Stop::new(), monitor: Arc::new(Silent) };
        let around = Surroundings::default();
        let folder = fake_programs("15.3");
        let tools = Tools::find(150_003, Some(folder.path()), &around, &watch).unwrap();
        assert_eq!(tools.client(), "pg_dump 15.3");
        assert!(tools.warning().unwrap().contains("15.18"));
        let error = Tools::find(160_000, Some(folder.path()), &around, &watch).unwrap_err();
        assert_eq!(error.kind(), Kind::Unsupported);
        assert!(error.to_string().contains("pg_dump 15.3") && error.to_string().contains("postgresql-client-16"));
        std::fs::remove_file(folder.path().join("pg_restore")).unwrap();
        assert!(Tools::find(150_000, Some(folder.path()), &around, &watch).is_err());
        let (newer, own) = (fake_programs("99.1"), fake_programs("98.2"));
        let path = format!("{}:{}", newer.path().display(), own.path().display());
        let around = around.with("PATH", path);
        let major = |version| Tools::find(version, None, &around, &watch).unwrap().major;
        assert_eq!((major(970_000), major(980_000), major(990_000)), (99, 98, 99));
    }

    #[test]
    fn children_get_the_password_by_their_environment_and_databases_by_a_quoted_name() {
        let around = Surroundings { user: Some("nobody".into()), ..Surroundings::default() };
        let address = Address::parse("postgres://ann:hush@h:7/d?sslmode=no-verify", &around).unwrap();
        let variables = address.environment_of_children();
        let value =
            |name: &str| variables.iter().find(|(key, _)| *key == name).map(|(_, value)| value.to_str().unwrap());
        assert_eq!((value("PGHOST"), value("PGPORT"), value("PGPASSWORD")), (Some("h"), Some("7"), Some("hush")));
        assert_eq!(value("PGSSLMODE"), Some("require"));
        assert_eq!(connection_string("it's a\\b"), "dbname='it\\'s a\\\\b'");
    }
}
