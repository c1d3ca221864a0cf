//! Users, roles and grants of a dump, made on a server that lacks them.
//!
//! Statement by statement, and only those that make accounts or grant something: the stream is SQL, and nothing else in it
//! is wanted. An account that is there already is kept as it is, with its password and its rights. Accounts come before the
//! database, whose views and routines belong to them; grants on tables, columns and routines come when those are there. What
//! the server does not take is a note that names the account and never the hash of its password.

use super::plan::Plan;
use super::restore::text;
use crate::base::Kind;
use crate::db::Result;
use crate::db::mysql::feed::{Ending, feed};
use crate::db::mysql::{Session, script};
use crate::format::dump::StreamRole;
use crate::target::dump::StoredDump;
use std::collections::BTreeSet;

/// A name and a host; roles of MariaDB have none.
type Account = (String, String);

/// What a statement does.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Meaning {
    /// Makes an account.
    Make(Account),
    /// Grants something to an account, or says which role it begins with.
    Grant(Account),
    /// Grants an account something on a table, its columns or a routine.
    GrantOnObject(Account),
    /// Something that has no place here.
    Foreign,
}

/// Grants that wait until what they are about is there.
#[derive(Debug, Default)]
pub(super) struct Waiting(Vec<(Account, String)>);

impl Waiting {
    /// Whether nothing waits.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Grants it. Answers with notes.
    pub fn grant(&self, plan: &Plan<'_>) -> Result<Vec<String>> {
        let mut notes = Vec::new();
        for (account, statement) in &self.0 {
            if let Some(why) = run(&plan.server, statement)? {
                notes.push(not_granted(account, &why));
            }
        }
        Ok(notes)
    }
}

fn not_granted(account: &Account, why: &str) -> String {
    format!("a grant to {} was not taken: {why}", shown(account))
}

/// Makes what is missing. Answers with what is to be granted afterwards, and with notes.
pub(super) fn restore(plan: &Plan<'_>, stored: &dyn StoredDump) -> Result<(Waiting, Vec<String>)> {
    let Some(stream) = plan.manifest.streams_of(StreamRole::Globals).next() else {
        let message = "the dump has no users: it was taken without them; make them by hand";
        return Err(plan.error(Kind::NotFound, message));
    };
    let text = text(plan, stored, &stream.path)?;
    let there = accounts(&plan.server)?;
    let (mut made, mut kept, mut failed, mut notes) = (0, BTreeSet::new(), Vec::new(), Vec::new());
    let mut waiting = Waiting::default();
    for statement in script::statements(&text) {
        match meaning(statement.text) {
            Meaning::Make(account) if there.contains(&account) => drop(kept.insert(shown(&account))),
            Meaning::Grant(account) | Meaning::GrantOnObject(account) if there.contains(&account) => {}
            Meaning::GrantOnObject(account) => waiting.0.push((account, statement.text.to_owned())),
            Meaning::Foreign => {
                let begin: String = statement.text.chars().take(40).collect();
                notes.push(format!("left out of {}: {begin}", stream.path));
            }
            Meaning::Make(account) => match run(&plan.server, statement.text)? {
                None => made += 1,
                // It may begin with a role that is made only below.
                Some(_) => failed.push((format!("account {}", shown(&account)), statement.text.to_owned(), true)),
            },
            Meaning::Grant(account) => match run(&plan.server, statement.text)? {
                None => {}
                Some(_) => failed.push((format!("a grant to {}", shown(&account)), statement.text.to_owned(), false)),
            },
        }
    }
    for (what, statement, makes) in failed {
        match run(&plan.server, &statement)? {
            None => made += usize::from(makes),
            Some(why) => notes.push(format!("{what} was not taken: {why}")),
        }
    }
    notes.insert(0, format!("{made} {} made", if made == 1 { "user or role was" } else { "users and roles were" }));
    if !kept.is_empty() {
        let kept: Vec<String> = kept.into_iter().collect();
        notes.push(format!("users that were there were kept as they are: {}", kept.join(", ")));
    }
    Ok((waiting, notes))
}

/// Runs one statement. Why the server did not take it, if it did not; who cannot go on at all hears of it as a failure.
fn run(server: &Session, statement: &str) -> Result<Option<String>> {
    match feed(server, &mut format!("{statement};\n").as_bytes(), Ending::Any) {
        Ok(_) => Ok(None),
        Err(error) if matches!(error.kind(), Kind::Interrupted | Kind::Unavailable | Kind::NotFound) => Err(error),
        Err(error) => Ok(Some(without_text(&error.message))),
    }
}

/// Servers repeat the text near which they stumbled, and that may be the hash of a password.
fn without_text(message: &str) -> String {
    match message.split_once(" near ") {
        Some((before, _)) => before.to_owned(),
        None => message.to_owned(),
    }
}

fn accounts(server: &Session) -> Result<BTreeSet<Account>> {
    let rows = server.query("SELECT User, Host FROM mysql.user")?;
    Ok(rows
        .into_iter()
        .filter_map(|row| <[String; 2]>::try_from(row).ok())
        // A column that is empty at the end of a line is still a column.
        .map(|[user, host]| (user, host))
        .collect())
}

fn shown((user, host): &Account) -> String {
    if host.is_empty() { user.clone() } else { format!("{user}@{host}") }
}

fn meaning(statement: &str) -> Meaning {
    let words: Vec<&str> = script::tokens(statement).map(|token| token.text).collect();
    let is = |at: usize, word: &str| words.get(at).is_some_and(|text| text.eq_ignore_ascii_case(word));
    let named = |at: Option<usize>| at.and_then(|at| account(words.get(at..)?));
    let after_last = |word: &str| words.iter().rposition(|text| text.eq_ignore_ascii_case(word)).map(|at| at + 1);
    let made = is(0, "CREATE") && (is(1, "USER") || is(1, "ROLE")) && is(2, "IF") && is(3, "NOT") && is(4, "EXISTS");
    let found = match () {
        () if made => named(Some(5)).map(Meaning::Make),
        () if is(0, "GRANT") && is_on_object(&words) => named(grantee(&words)).map(Meaning::GrantOnObject),
        () if is(0, "GRANT") => named(grantee(&words)).map(Meaning::Grant),
        () if is(0, "SET") && is(1, "DEFAULT") && is(2, "ROLE") => named(after_last("FOR")).map(Meaning::Grant),
        () => None,
    };
    found.unwrap_or(Meaning::Foreign)
}

/// Where the account stands to whom something is granted: behind the first `TO` that is no name in quotes.
fn grantee(words: &[&str]) -> Option<usize> {
    words.iter().position(|text| text.eq_ignore_ascii_case("TO")).map(|at| at + 1)
}

/// Whether something is granted on an object in a database: `` ON `d`.`t` ``, `` ON PROCEDURE `d`.`p` ``; not on `` `d`.* ``,
/// and no role.
fn is_on_object(words: &[&str]) -> bool {
    let Some(on) = words.iter().position(|text| text.eq_ignore_ascii_case("ON")) else { return false };
    let point = words[on..].iter().position(|text| *text == ".").map(|at| on + at);
    let is_before = |at: usize| grantee(words).is_none_or(|grantee| at < grantee);
    point.filter(|at| is_before(*at)).is_some_and(|at| words.get(at + 1).is_some_and(|name| *name != "*"))
}

/// An account at the beginning: `` `a`@`%` ``, `'a'@'%'`, `a`.
fn account(words: &[&str]) -> Option<Account> {
    let user = name(words.first()?)?;
    match (words.get(1), words.get(2)) {
        (Some(&"@"), Some(host)) => Some((user, name(host)?)),
        _ => Some((user, String::new())),
    }
}

/// A name without its quotes.
fn name(word: &str) -> Option<String> {
    for quote in ['`', '\'', '"'] {
        if let Some(inner) = word.strip_prefix(quote) {
            let inner = inner.strip_suffix(quote)?;
            let twice = format!("{quote}{quote}");
            let inner = inner.replace(&twice, &quote.to_string());
            return Some(if quote == '`' { inner } else { inner.replace("\\\\", "\\") });
        }
    }
    word.starts_with(|letter: char| letter.is_alphanumeric() || letter == '_').then(|| word.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pair(user: &str, host: &str) -> Account {
        (user.to_owned(), host.to_owned())
    }

    #[test]
    fn only_accounts_and_grants_are_taken() {
        let make = |user: &str, host: &str| Meaning::Make(pair(user, host));
        let grant = |user: &str, host: &str| Meaning::Grant(pair(user, host));
        let on_object = |user: &str, host: &str| Meaning::GrantOnObject(pair(user, host));
        for (statement, expected) in [
            ("CREATE USER IF NOT EXISTS `bo``ss`@`%` IDENTIFIED BY PASSWORD '*1'", make("bo`ss", "%")),
            ("CREATE USER IF NOT EXISTS 'it''s'@'localhost' IDENTIFIED WITH 'x' AS 0x00", make("it's", "localhost")),
            ("CREATE ROLE IF NOT EXISTS 'r'", make("r", "")),
            ("GRANT SELECT ON `to`.* TO `ann`@`10.%` WITH GRANT OPTION", grant("ann", "10.%")),
            ("GRANT `r` TO `ann`@`%`", grant("ann", "%")),
            ("GRANT USAGE ON *.* TO `r`", grant("r", "")),
            ("GRANT SELECT, INSERT (`on`, `b.c`) ON `d`.`t` TO `ann`@`%`", on_object("ann", "%")),
            ("GRANT EXECUTE ON PROCEDURE `d`.`p` TO `ann`@`%`", on_object("ann", "%")),
            ("GRANT SELECT ON `d`.* TO `a.b`@`%`", grant("a.b", "%")),
            ("SET DEFAULT ROLE `r` FOR `ann`@`%`", grant("ann", "%")),
        ] {
            assert_eq!(meaning(statement), expected, "{statement}");
        }
        for foreign in [
            "CREATE USER `a`@`%`",
            "DROP USER IF EXISTS `a`@`%`",
            "SET GLOBAL x = 1",
            "CREATE TABLE IF NOT EXISTS a (x int)",
            "ALTER USER `a`@`%` IDENTIFIED BY 'x'",
            "GRANT",
        ] {
            assert_eq!(meaning(foreign), Meaning::Foreign, "{foreign}");
        }
    }

    #[test]
    fn what_the_server_repeats_is_not_repeated() {
        assert_eq!(
            without_text("ERROR 1064: wrong syntax near 'PASSWORD '*4A'' at line 1"),
            "ERROR 1064: wrong syntax"
        );
        assert_eq!(without_text("ERROR 1227: denied"), "ERROR 1227: denied");
    }
}
