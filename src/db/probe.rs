//! What a look at a database server finds, check by check, before anything is taken from it.

use super::Error;
use crate::base::Kind;
use std::time::Duration;

/// What a check came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Verdict {
    /// As it should be.
    Ok,
    /// A backup works, but somebody should know.
    Warning,
    /// A backup would fail.
    Failed,
}

impl Verdict {
    /// `ok`, `warning` or `failed`.
    pub fn name(self) -> &'static str {
        match self {
            Verdict::Ok => "ok",
            Verdict::Warning => "warning",
            Verdict::Failed => "failed",
        }
    }
}

/// One check.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Check {
    /// What was looked at, one or two words: `connection`, `permissions`.
    pub name: &'static str,
    /// What it came to.
    pub verdict: Verdict,
    /// What was seen, as a sentence without a period.
    pub message: String,
    /// What to do about it; empty if nothing is to be done.
    pub remedy: String,
}

impl Check {
    /// As it should be.
    pub fn ok(name: &'static str, message: impl Into<String>) -> Check {
        Check { name, verdict: Verdict::Ok, message: message.into(), remedy: String::new() }
    }

    /// Somebody should know.
    pub fn warning(name: &'static str, message: impl Into<String>, remedy: impl Into<String>) -> Check {
        Check { name, verdict: Verdict::Warning, message: message.into(), remedy: remedy.into() }
    }

    /// A backup would fail.
    pub fn failed(name: &'static str, message: impl Into<String>, remedy: impl Into<String>) -> Check {
        Check { name, verdict: Verdict::Failed, message: message.into(), remedy: remedy.into() }
    }

    /// A talk that failed. Errors of talks end with their remedy after a semicolon where they have one of their own.
    pub fn of_error(name: &'static str, error: &Error) -> Check {
        let said = error.to_string();
        let (message, remedy) =
            said.rsplit_once("; ").map_or((said.as_str(), ""), |(message, remedy)| (message, remedy));
        let remedy = if remedy.is_empty() { usual_remedy(error.kind()) } else { remedy };
        Check::failed(name, message, remedy)
    }
}

/// What helps against most failures of a kind.
fn usual_remedy(kind: Kind) -> &'static str {
    match kind {
        Kind::Unavailable => {
            "check that the server runs, that host and port are right and that no firewall stands between"
        }
        Kind::Denied => "check user, password and what the server lets that user do",
        Kind::NotFound => "check the name of the database",
        Kind::Unsupported => "install client programs that fit the server",
        Kind::Usage => "correct the address",
        Kind::Interrupted => "run it again",
        _ => "look into the server's log",
    }
}

/// What was found out about one database.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Probe {
    /// Server and database, without secrets.
    pub label: String,
    /// `postgres` or `mysql`.
    pub kind: &'static str,
    /// The server's product and version; empty if it could not be asked.
    pub server: String,
    /// How long it took to connect and log in.
    pub latency: Option<Duration>,
    /// What the database takes on the server, in bytes.
    pub database_bytes: Option<u64>,
    /// About how many bytes a dump of it will be, before dedup and compression.
    pub estimate_bytes: Option<u64>,
    /// Every check, in the order in which they were made.
    pub checks: Vec<Check>,
}

impl Probe {
    /// Nothing known yet.
    pub fn of(label: String, kind: &'static str) -> Probe {
        Probe {
            label,
            kind,
            server: String::new(),
            latency: None,
            database_bytes: None,
            estimate_bytes: None,
            checks: Vec::new(),
        }
    }

    /// The worst of all checks.
    pub fn verdict(&self) -> Verdict {
        self.checks.iter().map(|check| check.verdict).max().unwrap_or(Verdict::Ok)
    }

    /// Takes note of a check, or of the failure that kept it from being made.
    pub fn take(&mut self, name: &'static str, check: Result<Check, Error>) {
        self.checks.push(check.unwrap_or_else(|error| Check::of_error(name, &error)));
    }
}

/// A few names of many: `a, b, c and 4 more`.
pub fn some_of(names: &[String]) -> String {
    const SHOWN: usize = 3;
    let shown = names.iter().take(SHOWN).cloned().collect::<Vec<_>>().join(", ");
    match names.len().saturating_sub(SHOWN) {
        0 => shown,
        more => format!("{shown} and {more} more"),
    }
}

/// `1.4 GiB`.
pub fn amount(bytes: u64) -> String {
    const UNITS: [&str; 5] = ["KiB", "MiB", "GiB", "TiB", "PiB"];
    let mut size = bytes as f64;
    let mut unit = "B";
    for larger in UNITS {
        if size < 1024.0 {
            break;
        }
        size /= 1024.0;
        unit = larger;
    }
    if unit == "B" { format!("{bytes} B") } else { format!("{size:.1} {unit}") }
}

/// Whether a host is this very machine.
pub fn is_here(host: &str) -> bool {
    let address = host.parse::<std::net::IpAddr>();
    host.is_empty()
        || host.starts_with('/')
        || host == "localhost"
        || address.is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_remedy_of_an_error_stands_apart() {
        let error = Error::new("db:5432", Kind::Denied, "the password is wrong; look into .pgpass");
        let check = Check::of_error("connection", &error);
        assert_eq!(
            (check.message.as_str(), check.remedy.as_str()),
            ("db:5432: the password is wrong", "look into .pgpass")
        );
        let check = Check::of_error("connection", &Error::new("db:5432", Kind::Unavailable, "connection refused"));
        assert!(check.remedy.contains("host and port"), "{check:?}");
    }

    #[test]
    fn the_worst_check_decides() {
        let mut probe = Probe::of("db".to_owned(), "postgres");
        assert_eq!(probe.verdict(), Verdict::Ok);
        probe.checks.push(Check::failed("a", "b", "c"));
        probe.checks.push(Check::warning("a", "b", "c"));
        assert_eq!(probe.verdict(), Verdict::Failed);
    }

    #[test]
    fn only_a_few_names_are_said() {
        let names: Vec<String> = ["a", "b", "c", "d"].map(str::to_owned).to_vec();
        assert_eq!(some_of(&names), "a, b, c and 1 more");
        assert_eq!(some_of(&names[..2]), "a, b");
    }
}
