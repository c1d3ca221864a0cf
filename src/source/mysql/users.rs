//! The users, roles and grants of a server as SQL, with what their passwords are stored as.

use crate::base::Kind;
use crate::db::Result;
use crate::db::mysql::{Family, Session, literal};

/// Accounts that servers make for themselves.
const OWN: [&str; 5] = ["mariadb.sys", "mysql.sys", "mysql.session", "mysql.infoschema", "PUBLIC"];
/// How a row looks that says whose answer follows.
const MARK: &str = "#keepstone";

/// Statements that make them, one a line; nothing if we may not see them. They never go back by themselves.
pub(super) fn read(session: &Session, family: Family) -> Result<Option<String>> {
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
    match server.query(&question) {
        Ok(rows) => Ok(Some(script(rows.into_iter().filter_map(|row| row.into_iter().next())))),
        Err(error) if error.kind() == Kind::Denied => Ok(None),
        Err(error) => Err(error),
    }
}

struct Account {
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

    fn ask(&self, question: &mut String) {
        let name = &self.name;
        let make = match self.is_role {
            true => format!("SELECT {};\n", literal(&format!("CREATE ROLE {name}"))),
            false => format!("SHOW CREATE USER {name};\n"),
        };
        question.push_str(&format!("SELECT '{MARK}';\n{make}SHOW GRANTS FOR {name};\n"));
    }
}

/// First whoever is granted something, then the grants: one may be granted to another.
fn script(lines: impl Iterator<Item = String>) -> String {
    let lines = lines.filter(|line| line != MARK);
    let (makes, grants): (Vec<String>, Vec<String>) = lines.partition(|line| line.starts_with("CREATE "));
    let makes = makes.into_iter().map(|line| match line.split_once(' ').and_then(|(_, rest)| rest.split_once(' ')) {
        Some((kind, rest)) => format!("CREATE {kind} IF NOT EXISTS {rest};\n"),
        None => format!("{line};\n"),
    });
    let mut grants: Vec<String> = grants.into_iter().map(|line| format!("{line};\n")).collect();
    // Without their order they are what they are; the server's is that of its memory.
    grants.sort();
    grants.dedup();
    makes.chain(grants).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accounts_are_made_before_anything_is_granted() {
        let lines = [
            "#keepstone",
            "CREATE ROLE 'r'",
            "GRANT USAGE ON *.* TO `r`",
            "CREATE USER `a`@`%` IDENTIFIED BY PASSWORD '*1'",
        ];
        assert_eq!(
            script(lines.into_iter().map(str::to_owned)),
            "CREATE ROLE IF NOT EXISTS 'r';\nCREATE USER IF NOT EXISTS `a`@`%` IDENTIFIED BY PASSWORD '*1';\nGRANT USAGE ON *.* TO `r`;\n"
        );
    }
}
