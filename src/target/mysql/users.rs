//! Users, roles and grants of a dump, made on a server that lacks them.
//!
//! Statement by statement, and only those that make accounts or grant something: the stream is SQL, and nothing else in it
//! is wanted. An account that is there already keeps its password and its rights, and is granted what it lacks of the dump's:
//! it may be there because of an attempt that failed. The account that restores is left alone, and so is the door that it came
//! in by: an account that would stand before it is not made. Accounts come before the database, whose views and routines belong
//! to them; grants on tables, columns and routines come when those are there. What the server does not take is a note that
//! names the account and never the hash of its password.

use super::plan::Plan;
use super::restore::text;
use crate::base::Kind;
use crate::db::Result;
use crate::db::mysql::feed::{Ending, feed};
use crate::db::mysql::{Family, Session, literal, script};
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
    /// Grants something to an account, says what of it is not meant, or which role it begins with.
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
    let there = There::ask(plan)?;
    let (mut made, mut failed, mut notes) = (0, Vec::new(), Vec::new());
    let (mut kept, mut added, mut left_out) = (BTreeSet::new(), BTreeSet::new(), BTreeSet::new());
    let mut waiting = Waiting::default();
    for statement in script::statements(&text) {
        let meaning = meaning(statement.text);
        let mut sql = statement.text.to_owned();
        if let Meaning::Make(account) | Meaning::Grant(account) | Meaning::GrantOnObject(account) = &meaning {
            if there.would_stand_before(account) {
                left_out.insert(shown(account));
                continue;
            }
            if there.accounts.contains(account) {
                kept.insert(shown(account));
                sql = without_login(&sql);
                let is_made = matches!(meaning, Meaning::Make(_));
                if is_made || *account == there.own || there.grants.contains(&sql) || grants_nothing(&sql) {
                    continue;
                }
                added.insert(shown(account));
            }
        }
        match meaning {
            Meaning::GrantOnObject(account) => waiting.0.push((account, sql)),
            Meaning::Foreign => {
                let begin: String = sql.chars().take(40).collect();
                notes.push(format!("left out of {}: {begin}", stream.path));
            }
            Meaning::Make(account) => match run(&plan.server, &sql)? {
                None => made += 1,
                // It may begin with a role that is made only below.
                Some(_) => failed.push((format!("account {}", shown(&account)), sql, true)),
            },
            Meaning::Grant(account) => match run(&plan.server, &sql)? {
                None => {}
                Some(_) => failed.push((format!("a grant to {}", shown(&account)), sql, false)),
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
    let mut note = |accounts: &BTreeSet<String>, what: &str| {
        if !accounts.is_empty() {
            notes.push(format!("{what}: {}", accounts.iter().cloned().collect::<Vec<_>>().join(", ")));
        }
    };
    note(&kept, "users that were there were kept as they are, with their passwords");
    note(&added, "of these were granted what they lacked of the dump's grants");
    let why = format!(
        "not made, since whoever logs in as {} or another user that is there would get in as them instead",
        shown(&there.own)
    );
    note(&left_out, &why);
    Ok((waiting, notes))
}

/// Who is on the server, and what they were granted.
struct There {
    accounts: BTreeSet<Account>,
    /// As [`without_login`] leaves it.
    grants: BTreeSet<String>,
    /// The account that restores.
    own: Account,
}

impl There {
    fn ask(plan: &Plan<'_>) -> Result<There> {
        let accounts = accounts(&plan.server)?;
        let ask = |(user, host): &Account| match host.is_empty() && plan.facts.family() == Family::MariaDb {
            true => format!("SHOW GRANTS FOR {};\n", literal(user)),
            false => format!("SHOW GRANTS FOR {}@{};\n", literal(user), literal(host)),
        };
        let rows = plan.server.query_each(&accounts.iter().map(ask).collect::<String>())?;
        let grants = rows.into_iter().filter_map(|row| row.into_iter().next()).map(|line| without_login(&line));
        let user = &plan.facts.user;
        let (user, host) = user.rsplit_once('@').unwrap_or((user, "%"));
        Ok(There { grants: grants.collect(), own: (user.to_owned(), host.to_owned()), accounts })
    }

    /// Whether an account that is not there would let in some of those who get in by another one now: the server takes the
    /// first whose host fits, the most exact host first, and an account without a name fits every name.
    fn would_stand_before(&self, account: &Account) -> bool {
        let (user, host) = account;
        let is_before = |other: &Account| !is_role(other) && exactness(host) > exactness(&other.1);
        let shadows = match user.is_empty() {
            true => self.accounts.iter().any(is_before),
            false => *user == self.own.0 && is_before(&self.own),
        };
        shadows && !is_role(account) && !self.accounts.contains(account)
    }
}

/// Roles of MariaDB have no host. An account may have an empty one too, but none that is made today.
fn is_role((_, host): &Account) -> bool {
    host.is_empty()
}

/// How exact a host is, as servers sort them: by where the first `%` or `_` stands.
fn exactness(host: &str) -> usize {
    match host.find(['%', '_']) {
        Some(wild) => wild,
        None if host.contains('/') => usize::MAX - 1,
        None => usize::MAX,
    }
}

/// A grant without the password and the demands on a connection that MariaDB repeats in it.
fn without_login(statement: &str) -> String {
    let tokens: Vec<script::Token<'_>> = script::tokens(statement).collect();
    let words: Vec<&str> = tokens.iter().map(|token| token.text).collect();
    let Some(at) = grantee(&words).filter(|_| words[0].eq_ignore_ascii_case("GRANT")) else {
        return statement.to_owned();
    };
    let last = if words.get(at + 1) == Some(&"@") { at + 2 } else { at };
    let (Some(account), Some(rest)) = (tokens.get(last), words.get(last + 1..)) else { return statement.to_owned() };
    let passes_on = |word: &str| {
        rest.windows(2).any(|pair| pair[0].eq_ignore_ascii_case(word) && pair[1].eq_ignore_ascii_case("OPTION"))
    };
    let option = ["GRANT", "ADMIN"].into_iter().find(|word| passes_on(word));
    let option = option.map(|word| format!(" WITH {word} OPTION")).unwrap_or_default();
    format!("{}{option}", &statement[..account.place.end])
}

/// Whether a grant only says that there is an account.
fn grants_nothing(statement: &str) -> bool {
    statement.starts_with("GRANT USAGE ON *.* ") && !statement.ends_with(" OPTION")
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
        // What MySQL takes away of rights on all databases.
        () if is(0, "REVOKE") => named(after_last("FROM")).map(Meaning::Grant),
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
            ("REVOKE SELECT ON `d`.* FROM `ann`@`%`", grant("ann", "%")),
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
    fn a_grant_to_who_is_there_changes_no_password() {
        for (statement, left) in [
            (
                "GRANT SELECT ON *.* TO `w`@`%` IDENTIFIED BY PASSWORD '*B6' REQUIRE SSL WITH GRANT OPTION MAX_USER_CONNECTIONS 3",
                "GRANT SELECT ON *.* TO `w`@`%` WITH GRANT OPTION",
            ),
            ("GRANT USAGE ON *.* TO `w`@`%` IDENTIFIED BY PASSWORD '*B6'", "GRANT USAGE ON *.* TO `w`@`%`"),
            ("GRANT `r` TO `w`@`%` WITH ADMIN OPTION", "GRANT `r` TO `w`@`%` WITH ADMIN OPTION"),
            ("GRANT INSERT ON `d`.* TO `r`", "GRANT INSERT ON `d`.* TO `r`"),
            ("REVOKE SELECT ON `d`.* FROM `w`@`%`", "REVOKE SELECT ON `d`.* FROM `w`@`%`"),
        ] {
            assert_eq!(without_login(statement), left);
        }
        assert!(grants_nothing("GRANT USAGE ON *.* TO `w`@`%`"));
        assert!(!grants_nothing("GRANT USAGE ON *.* TO `w`@`%` WITH GRANT OPTION"));
    }

    #[test]
    fn nobody_is_made_who_would_stand_before_those_who_are_there() {
        let there = |own: (&str, &str), others: &[(&str, &str)]| There {
            accounts: others.iter().chain([&own]).map(|(user, host)| pair(user, host)).collect(),
            grants: BTreeSet::new(),
            own: pair(own.0, own.1),
        };
        let anywhere = there(("root", "%"), &[("app", "10.%"), ("role", "")]);
        for (user, host) in [("root", "localhost"), ("root", "10.0.0.%"), ("", "localhost"), ("", "10.0.%")] {
            assert!(anywhere.would_stand_before(&pair(user, host)), "{user}@{host}");
        }
        for (user, host) in [("app", "localhost"), ("root", "%"), ("", "%"), ("root", "")] {
            assert!(!anywhere.would_stand_before(&pair(user, host)), "{user}@{host}");
        }
        let exact = there(("root", "localhost"), &[]);
        assert!(!exact.would_stand_before(&pair("root", "%")) && !exact.would_stand_before(&pair("", "localhost")));
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
