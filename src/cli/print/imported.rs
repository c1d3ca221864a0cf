//! How imported dumps are shown: a line each for people, an object each in JSON.

use super::human;
use super::json::path_pair;
use crate::format::snapshot::ImportedDump;
use serde::Serialize;

/// A file that already was a dump.
#[derive(Debug, Serialize)]
pub struct JsonImported {
    path: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    path_hex: Option<String>,
    /// `postgres-sql`, `postgres-cluster-sql`, `postgres-custom`, `postgres-tar`, `postgres-directory`, `mysql-sql`,
    /// `mariadb-sql` or `unknown`.
    kind: String,
    tool: String,
    server: String,
    database: String,
    /// `complete`, `truncated`, `damaged`, `empty` or `unchecked`.
    state: String,
    reason: String,
    bytes: u64,
    compression: String,
    table_count: u64,
    rows: u64,
    /// The first tables by name; null for rows that could not be counted.
    tables: Vec<JsonTable>,
    notes: Vec<String>,
}

#[derive(Debug, Serialize)]
struct JsonTable {
    name: String,
    rows: Option<u64>,
}

/// Imported dumps, as a list.
pub fn json(dumps: &[ImportedDump]) -> Vec<JsonImported> {
    dumps.iter().map(json_one).collect()
}

fn json_one(dump: &ImportedDump) -> JsonImported {
    let (path, path_hex) = path_pair(&dump.path.0);
    let table =
        |table: &crate::format::snapshot::ImportedTable| JsonTable { name: table.name.clone(), rows: table.rows };
    JsonImported {
        path,
        path_hex,
        kind: dump.kind.clone(),
        tool: dump.tool.clone(),
        server: dump.server.clone(),
        database: dump.database.clone(),
        state: dump.state.clone(),
        reason: dump.reason.clone(),
        bytes: dump.bytes,
        compression: dump.compression.clone(),
        table_count: dump.table_count,
        rows: dump.rows,
        tables: dump.tables.iter().map(table).collect(),
        notes: dump.notes.clone(),
    }
}

/// A line for a dump: where it is, what it is, what is in it, and what is wrong.
pub fn line(dump: &ImportedDump) -> String {
    let text = |text: &str| human::name(text.as_bytes());
    let mut parts = vec![format!("{} ({})", human::name(&dump.path.0), what(&dump.kind))];
    let held = format!("{}, {}", human::counted(dump.table_count, "table"), human::counted(dump.rows, "row"));
    match dump.reason.as_str() {
        "" => parts.push(format!("{}, {held}", text(&dump.state))),
        reason => parts.push(format!("{}: {}", text(&dump.state).to_uppercase(), text(reason))),
    }
    parts.join(": ")
}

/// What is to be said about a dump beneath its line.
pub fn details(dump: &ImportedDump) -> Vec<String> {
    let text = |text: &str| human::name(text.as_bytes());
    let from = [("from", &dump.server), ("made by", &dump.tool), ("database", &dump.database)];
    let from = from.iter().filter(|(_, value)| !value.is_empty());
    let from: Vec<String> = from.map(|(what, value)| format!("{what} {}", text(value))).collect();
    let mut details: Vec<String> = (!from.is_empty()).then(|| from.join(", ")).into_iter().collect();
    details.extend(dump.notes.iter().map(|note| text(note)));
    details
}

/// A table's line.
pub fn table(name: &str, rows: Option<u64>) -> String {
    let rows = rows.map_or("rows not counted".to_owned(), |rows| human::counted(rows, "row"));
    format!("{}: {rows}", human::name(name.as_bytes()))
}

fn what(kind: &str) -> &str {
    match kind {
        "postgres-sql" => "SQL of pg_dump",
        "postgres-cluster-sql" => "SQL of pg_dumpall",
        "postgres-custom" => "pg_dump, custom format",
        "postgres-tar" => "pg_dump, tar format",
        "postgres-directory" => "pg_dump, directory format",
        "mysql-sql" => "SQL of mysqldump",
        "mariadb-sql" => "SQL of mariadb-dump",
        _ => "a dump by its name",
    }
}
