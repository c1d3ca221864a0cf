//! The definitions of a database: read before the rows and after them, since no transaction keeps them.
//!
//! `--single-transaction` shows rows as they were at one moment but tables as they are now. If the definitions are the
//! same before and after, they were the same in between.

use super::events;
use crate::base::Kind;
use crate::db::mysql::run::definitions;
use crate::db::mysql::script::{self, Settled};
use crate::db::mysql::{Facts, Session, TableFacts, TableKind};
use crate::db::{Error, Result};
use std::collections::BTreeMap;

/// What is read of a database besides rows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Definitions {
    /// Tables and sequences.
    pub schema: String,
    /// Triggers, and of a whole database events, procedures and functions.
    pub routines: String,
    /// Views.
    pub views: String,
    /// Where the counters of tables and the sequences stand: statements, not compared.
    pub counters: String,
    /// Names of everything that was chosen, with what it is.
    names: Vec<(String, TableKind)>,
}

impl Definitions {
    /// Reads those of `chosen` tables; with `whole` those of everything else in the database too.
    pub fn read(session: &Session, chosen: &[TableFacts], whole: bool) -> Result<Definitions> {
        let names = |wanted: &dyn Fn(TableKind) -> bool| -> Vec<String> {
            chosen.iter().filter(|table| wanted(table.kind)).map(|table| table.name.clone()).collect()
        };
        let tables = names(&|kind| kind != TableKind::View);
        let views = names(&|kind| kind == TableKind::View);
        let schema = match tables.is_empty() {
            true => String::new(),
            false => definitions(session, &["--skip-triggers"], &tables)?,
        };
        let Settled { definitions: schema, counters } = script::settle(&schema);
        let views = match views.is_empty() {
            true => String::new(),
            false => definitions(session, &["--skip-triggers"], &views)?,
        };
        let routines = match (whole, tables.is_empty()) {
            (true, _) if events::need_help(session) => {
                let text = definitions(session, &["--no-create-info", "--triggers", "--routines"], &[])?;
                events::added(session, &text)?
            }
            (true, _) => definitions(session, &["--no-create-info", "--triggers", "--routines", "--events"], &[])?,
            (false, false) => definitions(session, &["--no-create-info", "--triggers"], &tables)?,
            (false, true) => String::new(),
        };
        let names = chosen.iter().map(|table| (table.name.clone(), table.kind)).collect();
        Ok(Definitions { schema, routines, views, counters, names })
    }

    /// Fails if somebody defined, altered or dropped something since `self` was read, and names it.
    pub fn compare(&self, after: &Definitions, session: &Session) -> Result<()> {
        let changed = match self.names == after.names {
            false => self.first_name_that_differs(after),
            true => [(&self.schema, &after.schema), (&self.routines, &after.routines), (&self.views, &after.views)]
                .into_iter()
                .find(|(before, after)| before != after)
                .map(|(before, after)| first_object_that_differs(before, after)),
        };
        match changed {
            None => Ok(()),
            Some(object) => Err(drift(session, &object)),
        }
    }

    fn first_name_that_differs(&self, after: &Definitions) -> Option<String> {
        let gone = self.names.iter().find(|name| !after.names.contains(name));
        let new = after.names.iter().find(|name| !self.names.contains(name));
        gone.or(new).map(|(name, _)| format!("table {name}"))
    }
}

fn drift(session: &Session, object: &str) -> Error {
    // Another attempt finds the definitions as they are now.
    let message = "it was created, altered, renamed or dropped while the dump ran, and the dump is not consistent; dump again when nobody does";
    session.error(Kind::Unavailable, message).object(object)
}

fn first_object_that_differs(before: &str, after: &str) -> String {
    let (before, after) = (objects(before), objects(after));
    let differs = |(object, text): &(&String, &&str)| after.get(*object) != Some(text);
    let altered = before.iter().find(differs).map(|(object, _)| object);
    let new = || after.keys().find(|object| !before.contains_key(*object));
    altered.or_else(new).cloned().unwrap_or_else(|| "a definition".to_owned())
}

/// Definitions by the names of what they define.
fn objects(text: &str) -> BTreeMap<String, &str> {
    let statements = script::statements(text).into_iter();
    statements.filter_map(|statement| Some((script::object(statement.text)?, statement.text))).collect()
}

/// What a dump of `facts` is about to take: patterns with `*` and `?` over names of tables.
pub(super) fn chosen(facts: &Facts, include: &[String], exclude: &[String]) -> Vec<TableFacts> {
    let wanted =
        |table: &&TableFacts| (include.is_empty() || fits(include, &table.name)) && !fits(exclude, &table.name);
    facts.tables.iter().filter(wanted).cloned().collect()
}

/// Whether one of the patterns covers a name.
pub(super) fn fits(patterns: &[String], name: &str) -> bool {
    patterns.iter().any(|pattern| is_like(pattern, name))
}

/// Whether a pattern with `*` and `?` covers a name.
fn is_like(pattern: &str, name: &str) -> bool {
    let pattern: Vec<char> = pattern.chars().collect();
    let name: Vec<char> = name.chars().collect();
    let mut covered = vec![false; name.len() + 1];
    covered[0] = true;
    for wanted in pattern {
        if wanted == '*' {
            let first = covered.iter().position(|covered| *covered).unwrap_or(covered.len());
            covered[first..].fill(true);
            continue;
        }
        for end in (0..name.len()).rev() {
            covered[end + 1] = covered[end] && (wanted == '?' || wanted == name[end]);
        }
        covered[0] = false;
    }
    covered[name.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_are_chosen_by_patterns() {
        let table = |name: &str| TableFacts { name: name.to_owned(), ..TableFacts::default() };
        let facts = Facts { tables: ["log_1", "log_22", "orders"].map(table).to_vec(), ..Facts::default() };
        let names = |include: &[&str], exclude: &[&str]| -> Vec<String> {
            let owned = |patterns: &[&str]| -> Vec<String> { patterns.iter().map(|text| (*text).to_owned()).collect() };
            chosen(&facts, &owned(include), &owned(exclude)).into_iter().map(|table| table.name).collect()
        };
        assert_eq!(names(&[], &["log_*"]), ["orders"]);
        assert_eq!(names(&["log_?", "o*s"], &[]), ["log_1", "orders"]);
        assert_eq!(names(&["*"], &["*2"]), ["log_1", "orders"]);
    }

    #[test]
    fn what_changed_is_named() {
        let before = "CREATE TABLE `a` (x int);\nCREATE TABLE `b` (x int);\n";
        assert_eq!(first_object_that_differs(before, &before.replace("`b` (x int", "`b` (x int, y int")), "table b");
        assert_eq!(first_object_that_differs("CREATE TABLE `a` (x int);\n", before), "table b");
        assert_eq!(first_object_that_differs(before, "CREATE TABLE `b` (x int);\n"), "table a");
    }
}
