//! How far SQL of `mysqldump` and `mariadb-dump` reaches: which databases it names by itself, and what no database bounds.
//!
//! Such SQL is given to a client on one database, and the name of that stands only on the command line. What says `USE`,
//! makes or drops databases, or writes to `other.table` goes elsewhere all the same. Known are the statements that dump
//! programs write; what is none of them (accounts, prepared statements, calls) counts as unbounded. Bodies of triggers,
//! routines, events and views are definitions: what they name they use when somebody runs them.

use crate::db::mysql::script::{Token, tokens};
use std::collections::BTreeMap;

/// So many databases, and so many statements without bounds, are told apart.
const MAX_NAMED: usize = 100;
/// What is shown of a statement, in letters.
const SHOWN_LETTERS: usize = 60;
/// How many of them a message names.
const SAID: usize = 3;

/// Where statements lead.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reach {
    /// Databases that are named, each with the first statement that does.
    named: BTreeMap<String, String>,
    /// Databases that are dropped or made in the place of what is there.
    replaced: BTreeMap<String, String>,
    /// Statements that no database bounds.
    unbounded: Vec<String>,
}

impl Reach {
    /// Takes note of a statement; `is_whole` says whether all of it is here.
    pub(super) fn take(&mut self, statement: &[u8], is_whole: bool) {
        let text = String::from_utf8_lossy(statement);
        let shown = || super::report::text(text.chars().take(SHOWN_LETTERS).collect::<String>().as_bytes());
        for led in led(&text, is_whole) {
            let (names, name) = match led {
                Led::To(name) => (&mut self.named, name),
                Led::InPlaceOf(name) => (&mut self.replaced, name),
                Led::Anywhere => {
                    self.unbound(shown());
                    continue;
                }
            };
            if names.len() < MAX_NAMED || names.contains_key(&name) {
                names.entry(name).or_insert_with(shown);
            }
        }
    }

    /// Takes note of something that no database bounds.
    pub(super) fn unbound(&mut self, what: String) {
        if self.unbounded.len() < MAX_NAMED {
            self.unbounded.push(what);
        }
    }

    /// What leads out of a database, or takes it away; none if all stays in it.
    pub fn beyond(&self, database: &str) -> Option<String> {
        let others = self.named.iter().chain(&self.replaced).filter(|(name, _)| *name != database);
        let others: BTreeMap<&String, &String> = others.collect();
        let own = self.replaced.get(database).map(|statement| format!("{database} itself is replaced (`{statement}`)"));
        let some = |all: Vec<String>| {
            let more = all.len().saturating_sub(SAID);
            let said = all[..all.len() - more].join(", ");
            if more > 0 { format!("{said} and {more} more") } else { said }
        };
        let elsewhere = others.iter().map(|(name, statement)| format!("{name} (`{statement}`)")).collect::<Vec<_>>();
        let unbounded = self.unbounded.iter().map(|statement| format!("`{statement}`")).collect::<Vec<_>>();
        let mut said = Vec::new();
        if !elsewhere.is_empty() {
            said.push(format!("it writes to other databases: {}", some(elsewhere)));
        }
        said.extend(own);
        if !unbounded.is_empty() {
            said.push(format!("no database bounds {}", some(unbounded)));
        }
        (!said.is_empty()).then(|| said.join("; "))
    }

    /// The database, if it is the only one that is named and nothing else is in the way of a restore to that name.
    pub fn only_database(&self) -> Option<&str> {
        let mut names = self.named.keys();
        let (Some(name), None) = (names.next(), names.next()) else { return None };
        self.beyond(name).is_none().then_some(name.as_str())
    }
}

/// Where a statement leads.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Led {
    To(String),
    InPlaceOf(String),
    Anywhere,
}

fn led(text: &str, is_whole: bool) -> Vec<Led> {
    let tokens: Vec<Token<'_>> = tokens(text).collect();
    let is = |at: usize, word: &str| is(&tokens, at, word);
    let first = tokens.first().map(|token| token.text.to_ascii_uppercase()).unwrap_or_default();
    match first.as_str() {
        "USE" => named(&tokens, 1).map(Led::To).into_iter().collect(),
        "CREATE" | "DROP" | "ALTER" if is_about_database(&tokens) => about_database(&tokens),
        "CREATE" => created(&tokens),
        "INSERT" | "REPLACE" => match tokens.iter().position(|token| token.is("INTO")) {
            Some(at) => qualifier(&tokens, at + 1).map(Led::To).into_iter().collect(),
            None => vec![Led::Anywhere],
        },
        "ALTER" if is(1, "TABLE") || is(1, "SEQUENCE") || is(1, "VIEW") => qualifiers(&tokens),
        "DROP" if !is(1, "USER") && !is(1, "ROLE") && !is(1, "SERVER") => all_or_anywhere(&tokens, is_whole),
        "LOCK" | "TRUNCATE" | "UPDATE" | "DELETE" | "RENAME" | "ANALYZE" | "OPTIMIZE" => {
            all_or_anywhere(&tokens, is_whole)
        }
        "DO" | "SELECT" if tokens.iter().any(|token| token.is("INTO")) => vec![Led::Anywhere],
        "SET" if is(1, "STATEMENT") || is(1, "PASSWORD") || is(1, "ROLE") || is(1, "DEFAULT") => vec![Led::Anywhere],
        "SET" | "DO" | "SELECT" | "UNLOCK" | "COMMIT" | "ROLLBACK" | "" => Vec::new(),
        "START" if is(1, "TRANSACTION") => Vec::new(),
        "BEGIN" if tokens.len() == 1 || is(1, "WORK") => Vec::new(),
        _ => vec![Led::Anywhere],
    }
}

/// Whether this word stands at this place.
fn is(tokens: &[Token<'_>], at: usize, word: &str) -> bool {
    tokens.get(at).is_some_and(|token| token.is(word))
}

fn is_about_database(tokens: &[Token<'_>]) -> bool {
    let at = if is(tokens, 1, "OR") { 3 } else { 1 };
    is(tokens, at, "DATABASE") || is(tokens, at, "SCHEMA")
}

/// `CREATE`, `DROP` or `ALTER` of a database. One that is made only if it is not there changes nothing of one that is.
fn about_database(tokens: &[Token<'_>]) -> Vec<Led> {
    const OPTIONS: [&str; 8] =
        ["CHARACTER", "CHARSET", "COLLATE", "COMMENT", "DEFAULT", "ENCRYPTION", "READ", "UPGRADE"];
    let is = |at: usize, word: &str| is(tokens, at, word);
    let mut at = if is(1, "OR") { 4 } else { 2 };
    let spares = is(at, "IF") && is(at + 1, "NOT");
    while is(at, "IF") || is(at, "NOT") || is(at, "EXISTS") {
        at += 1;
    }
    let alters = is(0, "ALTER");
    // Without a name it is the database that the session is in.
    if alters && tokens.get(at).is_some_and(|token| OPTIONS.iter().any(|word| token.is(word))) {
        return Vec::new();
    }
    match named(tokens, at) {
        Some(name) if alters || spares => vec![Led::To(name)],
        Some(name) => vec![Led::InPlaceOf(name)],
        None => vec![Led::Anywhere],
    }
}

/// What makes something: only its own name says where.
fn created(tokens: &[Token<'_>]) -> Vec<Led> {
    const KINDS: [&str; 9] =
        ["TABLE", "VIEW", "TRIGGER", "EVENT", "FUNCTION", "PROCEDURE", "SEQUENCE", "PACKAGE", "INDEX"];
    let Some(at) = tokens.iter().position(|token| KINDS.iter().any(|kind| token.is(kind))) else {
        return vec![Led::Anywhere];
    };
    // `CREATE USER`, `CREATE SERVER` and the like may hold such a word behind their own.
    const BEFORE: [&str; 7] = ["USER", "ROLE", "SERVER", "TABLESPACE", "LOGFILE", "UNDO", "RESOURCE"];
    if tokens[..at].iter().any(|token| BEFORE.iter().any(|word| token.is(word))) {
        return vec![Led::Anywhere];
    }
    let is = |at: usize, word: &str| is(tokens, at, word);
    let mut name = at + 1;
    while is(name, "IF") || is(name, "NOT") || is(name, "EXISTS") || is(name, "BODY") {
        name += 1;
    }
    if is(at, "FUNCTION") && tokens.iter().any(|token| token.is("SONAME")) {
        return vec![Led::Anywhere];
    }
    if is(at, "INDEX") {
        name = tokens.iter().position(|token| token.is("ON")).map_or(tokens.len(), |on| on + 1);
    }
    qualifier(tokens, name).map(Led::To).into_iter().collect()
}

/// Every database that is named before a point, where all of the statement can be looked at.
fn all_or_anywhere(tokens: &[Token<'_>], is_whole: bool) -> Vec<Led> {
    if is_whole { qualifiers(tokens) } else { vec![Led::Anywhere] }
}

fn qualifiers(tokens: &[Token<'_>]) -> Vec<Led> {
    let before = |at: usize, word: &str| at.checked_sub(1).is_some_and(|at| is(tokens, at, word));
    let mut led = Vec::new();
    for at in 0..tokens.len() {
        // What a foreign key refers to is not written.
        if !before(at, "REFERENCES") && !before(at, ".") {
            led.extend(qualifier(tokens, at).map(Led::To));
        }
    }
    led
}

/// The name of the database before the point, if the name at this place has one.
fn qualifier(tokens: &[Token<'_>], at: usize) -> Option<String> {
    tokens.get(at + 1).filter(|sign| sign.text == ".")?;
    named(tokens, at)
}

/// The name at this place.
fn named(tokens: &[Token<'_>], at: usize) -> Option<String> {
    let text = tokens.get(at)?.text;
    for quote in ['`', '"'] {
        if let Some(inner) = text.strip_prefix(quote) {
            let twice = format!("{quote}{quote}");
            return Some(inner.strip_suffix(quote).unwrap_or(inner).replace(&twice, &quote.to_string()));
        }
    }
    let is_name = text.starts_with(|letter: char| letter.is_alphanumeric() || "_$".contains(letter));
    // `1.5` is no table of a database.
    let is_number = text.bytes().all(|byte| byte.is_ascii_digit());
    (is_name && !is_number).then(|| text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reach(statements: &[&str]) -> Reach {
        let mut reach = Reach::default();
        statements.iter().for_each(|statement| reach.take(statement.as_bytes(), true));
        reach
    }

    #[test]
    fn what_a_dump_of_one_database_says_stays_in_any() {
        let plain = reach(&[
            "SET @OLD_SQL_MODE=@@SQL_MODE, SQL_MODE='NO_AUTO_VALUE_ON_ZERO'",
            "SET @@GLOBAL.GTID_PURGED='1-2-3'",
            "DROP TABLE IF EXISTS `t`",
            "CREATE TABLE `t` ( `a` int, CONSTRAINT `f` FOREIGN KEY (`a`) REFERENCES `other`.`u` (`a`) )",
            "LOCK TABLES `t` WRITE",
            "ALTER TABLE `t` DISABLE KEYS",
            "ALTER TABLE `t` ADD COLUMN `b` decimal(5,1) DEFAULT 1.5",
            "INSERT INTO `t` VALUES ('USE other', 1.5)",
            "REPLACE INTO `t` VALUES (1)",
            "UNLOCK TABLES",
            "CREATE ALGORITHM=UNDEFINED DEFINER=`a`@`h` SQL SECURITY DEFINER VIEW `v` AS select * from `other`.`t`",
            "CREATE DEFINER=`a`@`h` trigger tr before insert on t for each row insert into audit.log values (1)",
            "DROP PROCEDURE IF EXISTS `p`",
            "CREATE DEFINER=`a`@`h` PROCEDURE `p`() begin update other.t set a = 1; end",
            "DO SETVAL(`s`, 5, 0)",
            "ALTER DATABASE CHARACTER SET latin1",
            "CREATE INDEX i ON t (a)",
            "START TRANSACTION",
            "COMMIT",
        ]);
        assert_eq!((plain.beyond("any"), plain.only_database()), (None, None));
    }

    #[test]
    fn what_leads_to_another_database_is_told() {
        for statement in [
            "USE `shop`",
            "use shop",
            "CREATE DATABASE IF NOT EXISTS `shop` DEFAULT CHARACTER SET utf8mb4",
            "ALTER SCHEMA shop CHARACTER SET latin1",
            "DROP DATABASE IF EXISTS `shop`",
            "CREATE OR REPLACE DATABASE shop",
            "INSERT INTO `shop`.`t` VALUES (1)",
            "INSERT IGNORE INTO shop.t VALUES (1)",
            "DROP TABLE a, b, shop.c",
            "CREATE TABLE shop.t (a int)",
            "CREATE DEFINER=`a`@`h` TRIGGER shop.tr BEFORE INSERT ON t FOR EACH ROW SET @a = 1",
            "ALTER TABLE t RENAME TO shop.t",
            "RENAME TABLE t TO shop.t",
            "TRUNCATE shop.t",
            "CREATE INDEX i ON shop.t (a)",
        ] {
            let said = reach(&[statement]).beyond("i33");
            assert!(said.as_ref().is_some_and(|said| said.contains("shop")), "{statement}: {said:?}");
        }
    }

    #[test]
    fn what_no_database_bounds_is_told() {
        for statement in [
            "GRANT ALL ON *.* TO x",
            "CREATE USER x",
            "DROP USER x",
            "PREPARE s FROM @text",
            "EXECUTE IMMEDIATE 'DROP DATABASE x'",
            "CALL p()",
            "SET STATEMENT max_statement_time=1 FOR DELETE FROM x.t",
            "SELECT 1 INTO OUTFILE '/x'",
            "BEGIN NOT ATOMIC DROP DATABASE x; END",
            "CREATE FUNCTION f RETURNS STRING SONAME 'x.so'",
            "CREATE SERVER s FOREIGN DATA WRAPPER mysql OPTIONS (DATABASE 'TABLE')",
        ] {
            let said = reach(&[statement]).beyond("i33");
            assert!(said.as_ref().is_some_and(|said| said.contains("no database bounds")), "{statement}: {said:?}");
        }
        let mut cut = Reach::default();
        cut.take(b"DROP TABLE a, b", false);
        assert!(cut.beyond("i33").is_some(), "nobody knows what follows");
    }

    #[test]
    fn a_database_of_the_same_name_may_be_named_and_not_be_dropped() {
        let named = reach(&["CREATE DATABASE IF NOT EXISTS `shop`", "USE `shop`", "INSERT INTO shop.t VALUES (1)"]);
        assert_eq!((named.beyond("shop"), named.only_database()), (None, Some("shop")));
        let dropped = reach(&["DROP DATABASE IF EXISTS `shop`", "USE `shop`"]);
        assert!(dropped.beyond("shop").is_some_and(|said| said.contains("shop itself is replaced")));
        assert_eq!(dropped.only_database(), None);
    }

    #[test]
    fn of_many_only_some_are_kept_and_said() {
        let all: Vec<String> = (0..300).map(|number| format!("USE d{number:03}")).collect();
        let many = reach(&all.iter().map(String::as_str).collect::<Vec<_>>());
        assert_eq!(many.named.len(), MAX_NAMED);
        assert!(many.beyond("x").is_some_and(|said| said.ends_with("d002 (`USE d002`) and 97 more")));
    }
}
