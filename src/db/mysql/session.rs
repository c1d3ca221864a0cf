//! Asking a server, and starting the client programs on it.
//!
//! A `Session` is no connection: each question starts the client program, which connects, answers and ends. That is slow
//! enough to ask many things at once, and simple enough that nothing is left behind.

use super::login::Login;
use super::tools::Family;
use super::{Address, Tools, explain};
use crate::base::child::{Child, Program};
use crate::base::{Kind, Stop};
use crate::db::{Error, Result};
use std::io::{Read, Write};

/// The largest answer to a question that is read, in bytes.
const MAX_ANSWER_BYTES: u64 = 64 << 20;
/// What the programs read of our environment otherwise, and shall not.
const VARIABLES: [&str; 6] =
    ["MYSQL_HOST", "MYSQL_PWD", "MYSQL_TCP_PORT", "MYSQL_UNIX_PORT", "MYSQL_GROUP_SUFFIX", "MARIADB_GROUP_SUFFIX"];
/// Whatever mode the server has: names and texts are quoted as we read and write them, and nothing is padded.
const PLAIN: &str = "--init-command=SET SESSION sql_mode=''";
/// What `sql_select_limit` says where there is none.
const NO_LIMIT: &str = "18446744073709551615";
/// Largest packets and rows that the programs take: the most there is.
const MAX_PACKET: &str = "--max-allowed-packet=1073741824";

/// A way to a server: address, programs, and the option file through which they get in.
pub struct Session {
    address: Address,
    tools: Tools,
    login: Login,
    stop: Stop,
    /// What failures are that have no kind of their own.
    otherwise: Kind,
}

impl Session {
    /// Looks for the programs and asks the server who it is; with the programs of its own family if they are there.
    /// `otherwise` is the kind of failures that the server reports and that have no kind of their own: `Source` or
    /// `Target`.
    pub fn open(address: &Address, otherwise: Kind, stop: &Stop) -> Result<Session> {
        let lacks = |error: Error| address.error(error.kind, error.message).object("client programs");
        let found = Tools::find(stop).map_err(lacks)?;
        let first = Tools::best(found.clone(), Family::MariaDb)
            .ok_or_else(|| address.error(Kind::Unsupported, "no client program"))?;
        let session = Session::with_tools(address, first, otherwise, stop)?;
        let server = session.with_database("");
        let answer = server?
            .query("SELECT VERSION(); SHOW SESSION STATUS LIKE 'Ssl_cipher'; SELECT @@SESSION.sql_select_limit")?;
        let limit = answer.get(2).and_then(|row| row.first()).map_or("0", String::as_str);
        if limit != NO_LIMIT {
            let message = format!(
                "the server gives this user's sessions no more than {limit} rows of a table (sql_select_limit, of the server \
                 or by init_connect), so that every dump would be cut off: SET GLOBAL sql_select_limit=DEFAULT, or leave this \
                 user out of init_connect"
            );
            return Err(address.error(otherwise, message));
        }
        let version = answer.first().and_then(|row| row.first()).cloned().unwrap_or_default();
        let encrypted = answer.get(1).and_then(|row| row.get(1)).is_some_and(|cipher| !cipher.is_empty());
        if address.tls.is_demanded() && !address.is_socket() && !encrypted {
            let remedy = "switch TLS on at the server, or say ssl-mode=PREFERRED";
            return Err(
                address.error(Kind::Denied, format!("the server does not offer the TLS that was asked for; {remedy}"))
            );
        }
        match Tools::best(found, Family::of_version(&version)) {
            Some(tools) if tools != session.tools => Session::with_tools(address, tools, otherwise, stop),
            _ => Ok(session),
        }
    }

    fn with_tools(address: &Address, tools: Tools, otherwise: Kind, stop: &Stop) -> Result<Session> {
        let login = Login::write(address, tools.client.family)?;
        Ok(Session { address: address.clone(), tools, login, stop: stop.clone(), otherwise })
    }

    /// The same server with another database; with an empty name, none.
    pub fn with_database(&self, database: &str) -> Result<Session> {
        Session::with_tools(&self.address.with_database(database), self.tools.clone(), self.otherwise, &self.stop)
    }

    /// Where it leads.
    pub fn address(&self) -> &Address {
        &self.address
    }

    /// The programs.
    pub fn tools(&self) -> &Tools {
        &self.tools
    }

    /// What ends every wait.
    pub fn stop(&self) -> &Stop {
        &self.stop
    }

    /// Runs statements and answers with the rows of all of them, one after the other, columns as texts; a NULL is the
    /// text `NULL`. Statements that may fail on their own are asked for on their own: the first failure ends it.
    pub fn query(&self, sql: &str) -> Result<Vec<Vec<String>>> {
        let program = self.client().args([PLAIN, "--batch", "--skip-column-names", "--quick"]);
        Ok(rows(&self.run(program, sql)?))
    }

    /// The same, going on behind statements that fail: their rows are missing.
    pub fn query_each(&self, sql: &str) -> Result<Vec<Vec<String>>> {
        let program = self.client().args([PLAIN, "--batch", "--skip-column-names", "--quick", "--force"]);
        Ok(rows(&self.run(program, sql)?))
    }

    /// The first column of each row.
    pub fn column(&self, sql: &str) -> Result<Vec<String>> {
        Ok(self.query(sql)?.into_iter().filter_map(|row| row.into_iter().next()).collect())
    }

    /// Runs a program that reads `input` and answers with what it prints, at most 64 MiB.
    pub fn run(&self, program: Program, input: &str) -> Result<Vec<u8>> {
        let mut child = self.start(program.with_input())?;
        let pipe = child.take_input();
        let output = child.take_output();
        let mut answer = Vec::new();
        let mut read = Ok(0);
        std::thread::scope(|scope| {
            // A question may be longer than a pipe takes while the program already answers.
            scope.spawn(move || {
                if let Some(mut pipe) = pipe {
                    // If it does not want to hear it all, its own words say why.
                    let _ = pipe.write_all(input.as_bytes());
                }
            });
            if let Some(output) = output {
                read = output.take(MAX_ANSWER_BYTES + 1).read_to_end(&mut answer);
            }
        });
        self.ended_well(child)?;
        read.map_err(|error| self.address.error(Kind::Unavailable, format!("cannot read what it answers: {error}")))?;
        if answer.len() as u64 > MAX_ANSWER_BYTES {
            let limit = MAX_ANSWER_BYTES >> 20;
            return Err(self.address.error(Kind::Unsupported, format!("the answer has more than {limit} MiB")));
        }
        Ok(answer)
    }

    /// Waits for a program's end and makes its failure ours.
    pub fn ended_well(&self, child: Child) -> Result<()> {
        let ended = child.finish().map_err(|error| self.address.error(Kind::Unavailable, error.to_string()))?;
        if ended.stopped || self.stop.raised() && !ended.status.success() {
            return Err(self.address.error(Kind::Interrupted, "stopped"));
        }
        match ended.status.success() {
            true => Ok(()),
            false => Err(explain::failure(&self.address, &ended.errors, self.otherwise)),
        }
    }

    /// Starts a program made by [`Session::client`] or [`Session::dumper`].
    pub fn start(&self, program: Program) -> Result<Child> {
        self.start_with(program, &self.stop)
    }

    /// The same with another flag that ends every wait.
    pub fn start_with(&self, program: Program, stop: &Stop) -> Result<Child> {
        program.start(stop).map_err(|error| {
            let missing = error.kind() == std::io::ErrorKind::NotFound;
            let kind = if missing { Kind::Unsupported } else { Kind::Unavailable };
            self.address.error(
                kind,
                format!("cannot start {} or {}: {error}", self.tools.client.program, self.tools.dump.program),
            )
        })
    }

    /// The client program, on the database if there is one.
    pub fn client(&self) -> Program {
        let program = self.program(&self.tools.client.program).args(["--default-character-set=utf8mb4", MAX_PACKET]);
        match self.address.database.as_str() {
            "" => program,
            // Two dashes that are part of the name would be read as an option.
            database => program.arg(format!("--database={database}")),
        }
    }

    /// The dump program; its database and tables are arguments that the caller adds behind its options.
    pub fn dumper(&self) -> Program {
        let program = self.program(&self.tools.dump.program).args([
            "--default-character-set=utf8mb4",
            MAX_PACKET,
            "--no-tablespaces",
            "--skip-dump-date",
            "--quote-names",
            "--comments",
        ]);
        match self.tools.dump.family {
            Family::MariaDb => program,
            // What a replica needs to know of the past is no part of a database, and asking for it needs more rights.
            Family::MySql if self.tools.dump.number >= 80_002 => {
                program.args(["--set-gtid-purged=OFF", "--column-statistics=0"])
            }
            Family::MySql => program.arg("--set-gtid-purged=OFF"),
        }
    }

    fn program(&self, name: &str) -> Program {
        let program = VARIABLES.iter().fold(Program::new(name), |program, variable| program.without_env(variable));
        // It must be the first argument.
        let mut option = std::ffi::OsString::from("--defaults-file=");
        option.push(self.login.file().path());
        program.arg(option).with_file(self.login.file())
    }

    /// A failure that names server and database.
    pub fn error(&self, kind: Kind, message: impl Into<String>) -> Error {
        self.address.error(kind, message)
    }

    /// The kind of failures that have no kind of their own.
    pub fn otherwise(&self) -> Kind {
        self.otherwise
    }
}

fn rows(answer: &[u8]) -> Vec<Vec<String>> {
    answer.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()).map(columns).collect()
}

/// A line of the client program's batch output: columns between tabs, with `\t`, `\n`, `\0` and `\\` written so.
fn columns(line: &[u8]) -> Vec<String> {
    line.split(|byte| *byte == b'\t').map(column).collect()
}

fn column(text: &[u8]) -> String {
    let mut plain = Vec::with_capacity(text.len());
    let mut rest = text.iter();
    while let Some(byte) = rest.next() {
        plain.push(match byte {
            b'\\' => match rest.next() {
                Some(b'n') => b'\n',
                Some(b't') => b'\t',
                Some(b'0') => 0,
                Some(other) => *other,
                None => b'\\',
            },
            other => *other,
        });
    }
    String::from_utf8_lossy(&plain).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_comes_back_as_it_was() {
        assert_eq!(columns(b"a\\tb\t\\\\n\tc\\nd\\0"), ["a\tb", "\\n", "c\nd\0"]);
        assert_eq!(columns("ü😀\t".as_bytes()), ["ü😀", ""]);
    }
}
