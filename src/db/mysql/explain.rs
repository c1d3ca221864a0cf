//! What the client programs say on standard error, as failures that name the thing and the remedy.

use super::Address;
use crate::base::Kind;
use crate::db::Error;

/// What a program said, made out.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Said {
    /// The server's or the client's number of the failure.
    pub code: Option<u32>,
    /// The message, without the program's name and the number.
    pub message: String,
    /// The table that a dump program was at.
    pub table: Option<String>,
    /// Whether that table was not there any more when its turn came.
    pub is_gone: bool,
}

/// What the dump program says of a table that it was asked for and that is not there.
const NOT_FOUND: &str = "Couldn't find table: \"";
/// Another attempt lists the tables anew.
const GONE: &str = "it was dropped or renamed after the tables were listed: dump again when nobody does";

/// Reads the last line that tells of a failure.
pub(super) fn made_out(errors: &[u8]) -> Said {
    let text = String::from_utf8_lossy(errors);
    let lines = || text.lines().map(str::trim).filter(|line| !line.is_empty());
    let line = lines()
        .rfind(|line| line.contains("ERROR ") || line.contains("rror:") || line.contains("Error "))
        .or_else(|| lines().next_back())
        .unwrap_or("it said nothing");
    let line = ["mysqldump: ", "mariadb-dump: ", "mysql: ", "mariadb: "]
        .iter()
        .find_map(|program| line.strip_prefix(program))
        .unwrap_or(line);
    let gone = line.split_once(NOT_FOUND).and_then(|(_, name)| name.strip_suffix('"')).map(str::to_owned);
    Said { code: code(line), message: line.to_owned(), is_gone: gone.is_some(), table: gone.or_else(|| table(line)) }
}

/// The number in `ERROR 1045 (28000): …`, `Got error: 1045: …`, `Error 2013: …` or `Couldn't execute '…': … (1142)`.
fn code(line: &str) -> Option<u32> {
    let after = ["ERROR ", "rror: ", "rror "].iter().find_map(|word| {
        let (_, rest) = line.split_once(word)?;
        let digits = rest.split(|letter: char| !letter.is_ascii_digit()).next()?;
        digits.parse().ok()
    });
    after.or_else(|| {
        let (_, number) = line.strip_suffix(')')?.rsplit_once('(')?;
        number.parse().ok()
    })
}

fn table(line: &str) -> Option<String> {
    let (_, rest) = line.split_once("dumping table ")?;
    super::quote::unquoted(rest).map(|(name, _)| name)
}

/// The failure of a program that spoke with the server at `address`. `otherwise` is the kind of what has no kind of its
/// own: `Source` or `Target`.
pub(super) fn failure(address: &Address, errors: &[u8], otherwise: Kind) -> Error {
    let said = made_out(errors);
    let (kind, remedy) = match said.code {
        None if said.is_gone => (Kind::Unavailable, GONE),
        // Over TLS a connection that is cut looks like this; one that does not come about has another reason.
        Some(2026) if was_connected(&said) => sense(2013, otherwise),
        Some(code) => sense(code, otherwise),
        None => (otherwise, ""),
    };
    let mut message = said.message;
    if !remedy.is_empty() {
        message = format!("{message}; {remedy}");
    }
    if said.code == Some(2002) && address.is_socket() {
        message.push_str("; for TCP on this machine say 127.0.0.1");
    }
    let mut error = address.error(kind, message);
    if let Some(table) = said.table {
        error = error.object(format!("table {table}"));
    }
    match said.code {
        Some(code) => error.code(code.to_string()),
        None => error,
    }
}

/// Whether a failure of TLS came after statements were run.
fn was_connected(said: &Said) -> bool {
    said.table.is_some() || ["eof", " at line ", "reset by peer"].iter().any(|sign| said.message.contains(sign))
}

/// What a number means for us, and the remedy.
fn sense(code: u32, otherwise: Kind) -> (Kind, &'static str) {
    match code {
        1045 | 1698 => (Kind::Denied, "check user, password and from where that user may log in"),
        1044 => (Kind::Denied, "the database does not exist or this user has no rights on it: grant them"),
        1142 | 1143 | 1227 | 1370 | 1347 => (Kind::Denied, "grant the right that is named"),
        3118 | 1862 | 1820 => (Kind::Denied, "the account is locked or its password has expired"),
        1049 => (Kind::NotFound, "check the name of the database"),
        1146 | 1051 => (otherwise, "the table was dropped or renamed meanwhile, or never was"),
        1412 => {
            (Kind::Unavailable, "the table was altered or truncated while the dump ran: dump again when nobody does")
        }
        1040 | 1203 | 1226 => {
            (Kind::Unavailable, "the server has no connection left for this user: raise max_connections")
        }
        2005 => (Kind::NotFound, "check the name of the host"),
        2002 | 2003 => (Kind::Unavailable, "check host and port, and that the server runs"),
        2006 | 2013 | 1053 | 1927 | 4031 => (Kind::Unavailable, "the server ended or cut the connection"),
        1205 | 1213 | 1969 | 3024 => (Kind::Unavailable, "another session held what this one needed"),
        1153 | 2020 => (otherwise, "raise max_allowed_packet on the server: a row is larger"),
        1419 => (Kind::Denied, "grant SUPER, or set log_bin_trust_function_creators=1 on the server"),
        1251 | 2059 | 2061 => {
            (Kind::Unsupported, "this client program does not know how that user logs in: install the server's own")
        }
        2026 => (Kind::Denied, "TLS did not come about: check ssl-mode and ssl-ca"),
        1290 | 1792 | 1836 => (otherwise, "the server is read-only: name its primary"),
        1021 | 1114 => (otherwise, "the server's disk or table space is full"),
        _ => (otherwise, ""),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_tables_are_found_in_what_the_programs_say() {
        for (line, code, table) in [
            ("ERROR 1045 (28000): Access denied for user 'app'@'h' (using password: YES)", Some(1045), None),
            ("noise\nERROR 1064 (42000) at line 3: You have an error\n", Some(1064), None),
            ("mysqldump: Got error: 1049: \"Unknown database 'x'\" when selecting the database", Some(1049), None),
            ("mariadb-dump: Couldn't execute 'SHOW EVENTS': Access denied (1044)", Some(1044), None),
            (
                "mysqldump: Error 2013: Lost connection during query when dumping table `a``b` at row: 3",
                Some(2013),
                Some("a`b"),
            ),
            ("mysqldump: Couldn't find table: \"x\"", None, Some("x")),
            ("", None, None),
        ] {
            let said = made_out(line.as_bytes());
            assert_eq!((said.code, said.table.as_deref()), (code, table), "{line}");
            assert!(!said.message.is_empty() && !said.message.starts_with("my"), "{line}");
        }
    }
}
