//! Databases as they are named on the command line, made into databases as they are meant.

use super::args::{Databases, Named, Parts};
use super::error::{Error, Result};
use crate::config::meant::{self, Database, Family, Link};

/// The databases.
pub fn meant(given: &Databases) -> Result<Vec<Database>> {
    match (given.postgres.is_empty(), given.mysql.is_empty()) {
        (true, true) if given.parts != Parts::default() => {
            let text = "what of the databases is to be taken was said, but no database: add --postgres or --mysql";
            return Err(Error::usage(text));
        }
        (true, false) => refuse_what_mysql_has_not(&given.parts)?,
        _ => {}
    }
    let of = |family, named: &Named| Database {
        name: named.name.clone(),
        link: Link { family, url: named.address.clone(), password: None, programs: given.programs.clone() },
        parts: parts(&given.parts),
        workers: given.workers,
        lock_timeout: given.lock_timeout,
    };
    let postgres = given.postgres.iter().map(|named| of(Family::Postgres, named));
    let mysql = given.mysql.iter().map(|named| of(Family::Mysql, named));
    Ok(postgres.chain(mysql).collect())
}

fn parts(given: &Parts) -> meant::Parts {
    let Parts { include_table, exclude_table, exclude_table_data, schema, exclude_schema, .. } = given.clone();
    meant::Parts {
        all_databases: given.all_databases,
        include_table,
        exclude_table,
        exclude_table_data,
        schema,
        exclude_schema,
        schema_only: given.schema_only,
        data_only: given.data_only,
        no_globals: given.no_globals,
        primary_key_order: given.primary_key_order,
    }
}

/// What only PostgreSQL has is a mistake if there is no PostgreSQL.
fn refuse_what_mysql_has_not(parts: &Parts) -> Result<()> {
    let lists = [("--schema", &parts.schema), ("--exclude-schema", &parts.exclude_schema)];
    match lists.iter().find(|(_, list)| !list.is_empty()) {
        Some((option, _)) => Err(Error::usage(format!("{option} means nothing to MySQL and MariaDB: leave it out"))),
        None => Ok(()),
    }
}
