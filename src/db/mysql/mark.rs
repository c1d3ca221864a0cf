//! The mark of a database that a restore has begun and not ended.
//!
//! These servers cannot rename a database, so one in the making has its final name. As long as it is not whole, an empty
//! table in it says so to everybody who looks: to people, to our own programs, and after a restore that was killed too. It
//! is made together with the database and dropped last; no dump takes it along.

use super::{Session, identifier, literal};
use crate::db::Result;

/// The name of the table.
pub const TABLE: &str = "keepstone_incomplete";

/// What it says of itself in every list of tables.
const COMMENT: &str = "This database is incomplete as long as this table is in it: keepstone is restoring it, or was \
     broken off";

/// What a database that carries it is.
pub const MEANING: &str = "it is incomplete: a restore into it was broken off, or is still at work, as its table \
     keepstone_incomplete says";

/// The statement that marks a database.
pub fn set(database: &str) -> String {
    let (database, table, comment) = (identifier(database), identifier(TABLE), literal(COMMENT));
    format!("CREATE TABLE {database}.{table} (nothing int PRIMARY KEY) COMMENT={comment}")
}

/// The statement that says that it is whole.
pub fn clear(database: &str) -> String {
    format!("DROP TABLE {}.{}", identifier(database), identifier(TABLE))
}

/// The databases of a server that carry it, as far as we may see them.
pub fn marked(server: &Session) -> Result<Vec<String>> {
    let table = literal(TABLE);
    server.column(&format!(
        "SELECT table_schema FROM information_schema.tables WHERE table_name = {table} ORDER BY table_schema"
    ))
}
