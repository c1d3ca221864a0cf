//! Which client programs there are: MariaDB's, MySQL's, or both.

use crate::base::child::Program;
use crate::base::{Kind, Stop};
use crate::db::{Error, Result};
use std::io::Read;

/// Who made a program or a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    /// MariaDB.
    MariaDb,
    /// MySQL, and what is made from it.
    MySql,
}

impl Family {
    /// Its name as a product.
    pub fn product(self) -> &'static str {
        match self {
            Family::MariaDb => "MariaDB",
            Family::MySql => "MySQL",
        }
    }

    /// The family of a server or program whose version reads so.
    pub fn of_version(version: &str) -> Family {
        match version.to_ascii_lowercase().contains("mariadb") {
            true => Family::MariaDb,
            false => Family::MySql,
        }
    }
}

/// A program and what it says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tool {
    /// Its name, looked for in `PATH`.
    pub program: String,
    /// Who made it.
    pub family: Family,
    /// Its version: `10.11.6-MariaDB`, `8.0.36`.
    pub version: String,
    /// The version as a number that grows: `101106`, `80036`.
    pub number: u32,
}

/// The two programs of one family.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tools {
    /// Asks the server and reads SQL: `mariadb` or `mysql`.
    pub client: Tool,
    /// Writes dumps: `mariadb-dump` or `mysqldump`.
    pub dump: Tool,
}

/// The names of both programs: the first that are there are the ones by default.
const NAMES: [(&str, &str); 2] = [("mariadb", "mariadb-dump"), ("mysql", "mysqldump")];

impl Tools {
    /// Every pair of programs that is there, at most one of each family. Fails if there is none.
    pub fn find(stop: &Stop) -> Result<Vec<Tools>> {
        let mut found: Vec<Tools> = Vec::new();
        let mut lonely = None;
        for (client, dump) in NAMES {
            match (Tool::ask(client, stop)?, Tool::ask(dump, stop)?) {
                (Some(client), Some(dump)) if found.iter().all(|tools| tools.client.family != client.family) => {
                    found.push(Tools { client, dump });
                }
                (Some(_), None) => lonely = Some(dump),
                (None, Some(_)) => lonely = Some(client),
                _ => {}
            }
        }
        if !found.is_empty() {
            return Ok(found);
        }
        let what = lonely.map_or("neither mariadb and mariadb-dump nor mysql and mysqldump are".to_owned(), |name| {
            format!("{name} is not")
        });
        let remedy = "install the package mariadb-client or mysql-client";
        Err(Error::new("MySQL client programs", Kind::Unsupported, format!("{what} to be found in PATH; {remedy}")))
    }

    /// The pair for a server of `family`: its own if it is there, else the first.
    pub fn best(mut found: Vec<Tools>, family: Family) -> Option<Tools> {
        let at = found.iter().position(|tools| tools.dump.family == family).unwrap_or(0);
        (at < found.len()).then(|| found.swap_remove(at))
    }
}

impl Tool {
    /// What `program` says of itself; none if there is no such program.
    fn ask(program: &str, stop: &Stop) -> Result<Option<Tool>> {
        let failed =
            |what: String| Error::new(program, Kind::Unsupported, format!("cannot ask for its version: {what}"));
        let mut child = match Program::new(program).arg("--version").start(stop) {
            Ok(child) => child,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(failed(error.to_string())),
        };
        let mut text = Vec::new();
        if let Some(output) = child.take_output() {
            let _ = output.take(4096).read_to_end(&mut text);
        }
        let ended = child.finish().map_err(|error| failed(error.to_string()))?;
        if ended.stopped {
            return Err(Error::new(program, Kind::Interrupted, "stopped"));
        }
        let text = String::from_utf8_lossy(&text);
        let (version, number) = version(&text).ok_or_else(|| failed(format!("it answers {:?}", text.trim())))?;
        Ok(Some(Tool { program: program.to_owned(), family: Family::of_version(&text), version, number }))
    }

    /// Name and version: `mariadb-dump 10.11.6-MariaDB`.
    pub fn label(&self) -> String {
        format!("{} {}", self.program, self.version)
    }
}

/// The version in what a program says of itself: the number behind `Distrib`, else behind `from`, else behind `Ver`.
fn version(text: &str) -> Option<(String, u32)> {
    let word = ["Distrib ", "from ", "Ver "].iter().find_map(|before| Some(text.split_once(before)?.1))?;
    let word = word.split([' ', ',']).next().unwrap_or_default();
    Some((word.to_owned(), number(word)?))
}

/// `10.11.6-MariaDB-0+deb12u1` as `101106`.
pub(super) fn number(version: &str) -> Option<u32> {
    let mut parts = version.split(|letter: char| !letter.is_ascii_digit()).take(3).map(|part| part.parse::<u32>().ok());
    let major = parts.next()??;
    let mut next = || parts.next().flatten().unwrap_or(0).min(99);
    let (minor, patch) = (next(), next());
    Some(major.min(10_000) * 10_000 + minor * 100 + patch)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_read_from_what_programs_say() {
        for (text, family, expected) in [
            ("mariadb-dump  Ver 10.19 Distrib 10.11.19-MariaDB, for debian-linux-gnu", Family::MariaDb, 101_119),
            ("mariadb from 11.4.2-MariaDB, client 15.2 for debian-linux-gnu (x86_64)", Family::MariaDb, 110_402),
            ("mysqldump  Ver 8.0.36 for Linux on x86_64 (MySQL Community Server - GPL)", Family::MySql, 80_036),
            ("mysql  Ver 14.14 Distrib 5.7.44, for Linux (x86_64)", Family::MySql, 50_744),
        ] {
            assert_eq!(version(text).unwrap().1, expected, "{text}");
            assert_eq!(Family::of_version(text), family, "{text}");
        }
        assert_eq!(version("who knows"), None);
        assert_eq!(number("8.4"), Some(80_400));
    }

    #[test]
    fn the_servers_own_family_is_preferred() {
        let tools = |family| {
            let tool = Tool { program: "x".into(), family, version: "1".into(), number: 1 };
            Tools { client: tool.clone(), dump: tool }
        };
        let both = || vec![tools(Family::MariaDb), tools(Family::MySql)];
        assert_eq!(Tools::best(both(), Family::MySql), Some(tools(Family::MySql)));
        assert_eq!(Tools::best(vec![tools(Family::MariaDb)], Family::MySql), Some(tools(Family::MariaDb)));
        assert_eq!(Tools::best(Vec::new(), Family::MySql), None);
    }
}
