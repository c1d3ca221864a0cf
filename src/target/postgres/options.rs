//! What the user chose about the way of a dump back to PostgreSQL.

use crate::db::postgres::{identifier, literal};
use crate::format::dump::Table;
use std::fmt;
use std::path::PathBuf;

/// Which database is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Destination {
    /// One that is there, and empty unless only some tables are restored.
    #[default]
    Existing,
    /// A new one.
    Create,
    /// A new one in the place of one that is there, which is dropped when the new one is whole.
    Replace,
}

/// One table by schema and name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TableName {
    /// Its schema.
    pub schema: String,
    /// Its name.
    pub name: String,
}

impl fmt::Display for TableName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.schema, self.name)
    }
}

impl TableName {
    /// That of a table.
    pub fn of(table: &Table) -> TableName {
        TableName { schema: table.schema.clone(), name: table.name.clone() }
    }

    /// From `schema.table`, with double quotes around what holds a point; without a schema it is in `public`.
    pub fn parse(text: &str) -> Result<TableName, String> {
        let mut parts = vec![String::new()];
        let mut in_quotes = false;
        let mut letters = text.chars().peekable();
        while let Some(letter) = letters.next() {
            let last = parts.last_mut().expect("there is always a part");
            match letter {
                '"' if in_quotes && letters.peek() == Some(&'"') => {
                    last.push('"');
                    letters.next();
                }
                '"' => in_quotes = !in_quotes,
                '.' if !in_quotes => parts.push(String::new()),
                letter => last.push(letter),
            }
        }
        match <[String; 2]>::try_from(parts) {
            Ok([schema, name]) if !in_quotes && !schema.is_empty() && !name.is_empty() => {
                Ok(TableName { schema, name })
            }
            Err(mut parts) if parts.len() == 1 && !in_quotes && !parts[0].is_empty() => {
                Ok(TableName { schema: "public".to_owned(), name: parts.remove(0) })
            }
            _ => Err(format!("`{text}` names no table: write schema.table, with double quotes around odd names")),
        }
    }
}

/// Which steps are taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Phases {
    /// Definitions that come before the rows.
    pub pre_data: bool,
    /// Rows, sequences, large objects.
    pub data: bool,
    /// Indexes, constraints, triggers, and what else comes after the rows.
    pub post_data: bool,
}

impl Phases {
    /// All of them.
    pub const ALL: Phases = Phases { pre_data: true, data: true, post_data: true };
}

/// What is restored and how.
#[derive(Clone, Debug)]
pub struct Options {
    /// Which database is written.
    pub destination: Destination,
    /// Only these tables, with their sequences, indexes, constraints and triggers. Empty for all.
    pub tables: Vec<TableName>,
    /// Only what lies in these schemas. Empty for all.
    pub schemas: Vec<String>,
    /// Which steps are taken.
    pub phases: Phases,
    /// Give objects to the owners that they had.
    pub owners: bool,
    /// Grant what was granted.
    pub grants: bool,
    /// Make the roles and tablespaces of the dump that the server lacks.
    pub globals: bool,
    /// Connections that write rows and build indexes side by side, at least 1.
    pub jobs: usize,
    /// Gather statistics for the planner afterwards.
    pub analyze: bool,
    /// Where names are looked for that have no schema, while rows are written and what comes after them is made. Empty for
    /// nowhere but among the server's own, as `pg_restore` does it.
    pub search_path: Vec<String>,
    /// Leave out what a drill cannot make or must not: policies of roles that the server lacks, subscriptions.
    pub is_drill: bool,
    /// Definitions of everything, and of these tables alone rows and what comes after them; none for all. For drills.
    pub rows_of: Option<Vec<TableName>>,
    /// Where files lie for a moment: a folder that only we can read.
    pub temp_dir: PathBuf,
}

impl Options {
    /// The statement that lets names without a schema be looked for where these options say.
    pub fn set_search_path(&self) -> String {
        let schemas: Vec<String> = self.search_path.iter().map(|schema| identifier(schema)).collect();
        format!("SELECT pg_catalog.set_config('search_path', {}, false)", literal(&schemas.join(", ")))
    }

    /// Everything, into a database that is there and empty, with two connections.
    pub fn new(temp_dir: PathBuf) -> Options {
        Options {
            destination: Destination::Existing,
            tables: Vec::new(),
            schemas: Vec::new(),
            phases: Phases::ALL,
            owners: true,
            grants: true,
            globals: false,
            jobs: 2,
            analyze: true,
            search_path: Vec::new(),
            is_drill: false,
            rows_of: None,
            temp_dir,
        }
    }

    /// Whether only a part of the database is restored.
    pub fn is_partial(&self) -> bool {
        !self.tables.is_empty() || !self.schemas.is_empty()
    }

    /// Whether the rows of a table are written.
    pub fn wants_rows(&self, schema: &str, name: &str) -> bool {
        let is_one = |wanted: &TableName| wanted.schema == schema && wanted.name == name;
        self.wants(schema, name) && self.rows_of.as_ref().is_none_or(|tables| tables.iter().any(is_one))
    }

    /// Whether a table is meant.
    pub fn wants(&self, schema: &str, name: &str) -> bool {
        !self.is_partial()
            || self.schemas.iter().any(|wanted| wanted == schema)
            || self.tables.iter().any(|wanted| wanted.schema == schema && wanted.name == name)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn tables_are_named_with_or_without_schema_and_quotes() {
        let table = |schema: &str, name: &str| TableName { schema: schema.into(), name: name.into() };
        assert_eq!(TableName::parse("orders"), Ok(table("public", "orders")));
        assert_eq!(TableName::parse("sales.orders"), Ok(table("sales", "orders")));
        assert_eq!(TableName::parse("\"a.b\".\"c\"\"d\""), Ok(table("a.b", "c\"d")));
        for wrong in ["", "a.b.c", ".b", "a.", "\"a", "\"a.b"] {
            assert!(TableName::parse(wrong).is_err(), "{wrong}");
        }
    }
}
