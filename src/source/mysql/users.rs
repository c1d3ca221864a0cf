//! The users, roles and grants of a server as SQL, with what their passwords are stored as.

use crate::base::Kind;
use crate::db::Result;
use crate::db::mysql::{Family, Session, literal};
use std::collections::BTreeSet;

/// Accounts that servers make for themselves.
const OWN: [&str; 5] = ["mariadb.sys", "mysql.sys", "mysql.session", "mysql.infoschema", "PUBLIC"];
/// How a row begins that says whose answer follows.
const MARK: &str = "#keepstone";

/// Users, roles and grants.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Users {
    /// Statements that make them, one a line. They never go back by themselves.
    pub script: String,
    /// Accounts that the server lists and does not know: those of named hosts while it looks up no names, and those
    /// that are dropped just now.
    pub unknown: Vec<String>,
}

/// Asks for them; nothing if we may not see them.
pub(super) fn read(session: &Session, family: Family) -> Result<Option<Users>> {
    let server = session.with_database("")?;
    let is_role = if family == Family::MariaDb { "is_role" } else { "'N'" };
    let list = format!("SELECT User, Host, {is_role} FROM mysql.user ORDER BY 3 DESC, 1, 2");
    let accounts = match server.query(&list) {
        Ok(rows) => rows,
        Err(error) if error.kind() == Kind::Denied => return Ok(None),
        Err(error) => return Err(error),
    };
    let accounts: Vec<Account> = accounts.iter().filter_map(|row| Account::of_row(row)).collect();
    let mut question = String::new();
    if family == Family::MySql {
        // Salts are bytes of any kind.
        question.push_str("/*!80017 SET SESSION print_identified_with_as_hex=ON */;\n");
    }
    accounts.iter().for_each(|account| account.ask(&mut question));
    let rows = server.query_each(&question)?;
    let users = users(&accounts, rows.into_iter().filter_map(|row| row.into_iter().next()));
    Ok(Some(users).filter(|users| !users.script.is_empty()))
}

struct Account {
    /// As SQL.
    name: String,
    is_role: bool,
}

impl Account {
    fn of_row(row: &[String]) -> Option<Account> {
        let [user, host, is_role] = row else { return None };
        let is_role = is_role == "Y";
        let name = if is_role { literal(user) } else { format!("{}@{}", literal(user), literal(host)) };
        (!OWN.contains(&user.as_str())).then_some(Account { name, is_role })
    }

    /// A row that says whose answer follows.
    fn mark(&self) -> String {
        format!("{MARK} {}", self.name)
    }

    fn ask(&self, question: &mut String) {
        let name = &self.name;
        let make = match self.is_role {
            true => format!("SELECT {};\n", literal(&format!("CREATE ROLE {name}"))),
            false => format!("SHOW CREATE USER {name};\n"),
        };
        question.push_str(&format!("SELECT {};\n{make}SHOW GRANTS FOR {name};\n", literal(&self.mark())));
    }
}

/// First whoever is granted something, then the grants: one may be granted to another.
fn users(accounts: &[Account], lines: impl Iterator<Item = String>) -> Users {
    let mut makes = Vec::new();
    let mut grants = BTreeSet::new();
    let mut of = String::new();
    let mut known = BTreeSet::new();
    for line in lines {
        if line.starts_with(MARK) {
            of = line;
            continue;
        }
        known.insert(of.clone());
        match line.strip_prefix("CREATE ").and_then(|rest| rest.split_once(' ')) {
            Some((kind, rest)) => makes.push(format!("CREATE {kind} IF NOT EXISTS {rest};\n")),
            // The server lists them in the order of its memory.
            None => drop(grants.insert(format!("{line};\n"))),
        }
    }
    let unknown = accounts.iter().filter(|account| !known.contains(&account.mark()));
    let unknown = unknown.map(|account| account.name.clone()).collect();
    Users { script: makes.into_iter().chain(grants).collect(), unknown }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accounts_are_made_before_anything_is_granted() {
        let accounts = ["r", "a", "b"].map(|name| Account { name: name.to_owned(), is_role: name == "r" });
        let lines = [
            "#keepstone r",
            "CREATE ROLE 'r'",
            "GRANT USAGE ON *.* TO `r`",
            "#keepstone a",
            "CREATE USER `a`@`%` IDENTIFIED BY PASSWORD '*1'",
            "#keepstone b",
        ];
        let users = users(&accounts, lines.into_iter().map(str::to_owned));
        assert_eq!(
            users.script,
            "CREATE ROLE IF NOT EXISTS 'r';\nCREATE USER IF NOT EXISTS `a`@`%` IDENTIFIED BY PASSWORD '*1';\n\
             GRANT USAGE ON *.* TO `r`;\n"
        );
        assert_eq!(users.unknown, ["b"]);
    }
}
