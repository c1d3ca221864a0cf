//! Roles and tablespaces that a server lacks, made as `pg_dumpall --globals-only` wrote them down.
//!
//! Statement by statement over a connection, and only those that make or describe roles and tablespaces: the stream is SQL,
//! and nothing else in it is wanted. A role or tablespace that is there already is kept with all its attributes.

use super::place::connect_for_databases;
use super::plan::Plan;
use super::statements::{Word, statements, words};
use crate::base::Kind;
use crate::db::{Result, Watch};
use crate::format::dump::StreamRole;
use crate::target::dump::StoredDump;
use std::collections::HashSet;
use std::io::Read;

/// The longest such stream that is read, in bytes.
const MAX_GLOBALS_BYTES: u64 = 64 << 20;

/// What a statement does.
#[derive(Debug, PartialEq, Eq)]
enum Meaning {
    /// Makes or changes this role.
    Role(String),
    /// Makes or changes this tablespace.
    Tablespace(String),
    /// Says how the text is to be read, which we know.
    Setting,
    /// Makes a role a member of another.
    Membership,
    /// Something that has no place here.
    Foreign,
}

/// Makes what is missing. Answers with notes.
pub fn restore(plan: &Plan<'_>, stored: &dyn StoredDump, watch: &Watch) -> Result<Vec<String>> {
    let Some(stream) = plan.manifest.streams_of(StreamRole::Globals).next() else {
        let message = "the dump has no roles: it was taken without them; make them by hand, or use --no-owner --no-acl";
        return Err(plan.error(Kind::NotFound, message));
    };
    let mut text = Vec::new();
    let opened = stored.open(&stream.path);
    let read = opened.and_then(|reader| reader.take(MAX_GLOBALS_BYTES + 1).read_to_end(&mut text));
    match read {
        Err(error) => {
            let message = format!("stream {} of the snapshot cannot be read: {error}", stream.path);
            return Err(plan.error(Kind::of_io(&error), message));
        }
        Ok(length) if length as u64 > MAX_GLOBALS_BYTES => {
            return Err(
                plan.error(Kind::Unsupported, format!("{} is longer than {MAX_GLOBALS_BYTES} bytes", stream.path))
            );
        }
        Ok(_) => {}
    }
    let mut connection = connect_for_databases(plan.address, watch)?;
    let mut names = |sql: &str| -> Result<HashSet<String>> {
        Ok(connection.query(sql)?.into_iter().filter_map(|row| row.into_iter().next().flatten()).collect())
    };
    let roles = names("SELECT rolname FROM pg_catalog.pg_roles")?;
    let tablespaces = names("SELECT spcname FROM pg_catalog.pg_tablespace")?;
    let mut notes = Vec::new();
    let mut kept = HashSet::new();
    for statement in statements(&text) {
        let sql = String::from_utf8_lossy(statement).into_owned();
        match meaning(statement) {
            Meaning::Role(role) if roles.contains(&role) => {
                kept.insert(role);
                continue;
            }
            Meaning::Tablespace(name) if tablespaces.contains(&name) => continue,
            Meaning::Setting => continue,
            Meaning::Foreign => {
                let begin: String = sql.chars().take(60).collect();
                notes.push(format!("left out of {}: {begin}", stream.path));
                continue;
            }
            _ => {}
        }
        if let Err(error) = connection.execute(&sql) {
            if matches!(error.kind(), Kind::Interrupted | Kind::Unavailable) {
                return Err(error);
            }
            // The statement may hold the hash of a password: only its beginning is told.
            let begin: Vec<&str> = sql.split_whitespace().take(3).collect();
            notes.push(format!("{}: {}", begin.join(" "), error.message));
        }
    }
    if !kept.is_empty() {
        let mut kept: Vec<String> = kept.into_iter().collect();
        kept.sort();
        notes.push(format!("roles that were there were kept as they are: {}", kept.join(", ")));
    }
    Ok(notes)
}

fn meaning(statement: &[u8]) -> Meaning {
    let words = words(statement);
    let is = |at: usize, keyword: &str| words.get(at).is_some_and(|word| word.is(keyword));
    let name = |at: usize| {
        words.get(at).and_then(Word::name).map(|name| String::from_utf8_lossy(name).into_owned()).unwrap_or_default()
    };
    let of = |at: usize| match () {
        () if is(at, "ROLE") => Meaning::Role(name(at + 1)),
        () if is(at, "TABLESPACE") => Meaning::Tablespace(name(at + 1)),
        () => Meaning::Foreign,
    };
    match () {
        () if is(0, "SET") || is(0, "SELECT") && words.iter().any(|word| word.is("set_config")) => Meaning::Setting,
        () if is(0, "CREATE") || is(0, "ALTER") => of(1),
        () if is(0, "COMMENT") && is(1, "ON") => of(2),
        () if is(0, "SECURITY") && is(1, "LABEL") => match words.iter().position(|word| word.is("ON")) {
            Some(at) => of(at + 1),
            None => Meaning::Foreign,
        },
        () if is(0, "GRANT") || is(0, "REVOKE") => grant(&words),
        () => Meaning::Foreign,
    }
}

/// `GRANT role TO role`, or a grant on a tablespace or parameter. On anything else it has no place here.
fn grant(words: &[Word<'_>]) -> Meaning {
    let Some(on) = words.iter().position(|word| word.is("ON")) else { return Meaning::Membership };
    match words.get(on + 1) {
        Some(word) if word.is("TABLESPACE") || word.is("PARAMETER") => Meaning::Membership,
        _ => Meaning::Foreign,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_roles_and_tablespaces_are_taken() {
        let mean = |text: &str| meaning(text.as_bytes());
        assert_eq!(mean("CREATE ROLE \"odd role\""), Meaning::Role("odd role".into()));
        assert_eq!(mean("ALTER ROLE ann WITH SUPERUSER PASSWORD 'x'"), Meaning::Role("ann".into()));
        assert_eq!(mean("COMMENT ON ROLE ann IS 'x'"), Meaning::Role("ann".into()));
        assert_eq!(mean("CREATE TABLESPACE fast OWNER ann LOCATION '/x'"), Meaning::Tablespace("fast".into()));
        assert_eq!(mean("GRANT ann TO bob WITH ADMIN OPTION GRANTED BY postgres"), Meaning::Membership);
        assert_eq!(mean("GRANT ALL ON TABLESPACE fast TO ann"), Meaning::Membership);
        assert_eq!(mean("SET standard_conforming_strings = on"), Meaning::Setting);
        for foreign in ["DROP ROLE ann", "GRANT ALL ON DATABASE x TO ann", "DO $$ $$", "CREATE TABLE x ()", "SELECT 1"]
        {
            assert_eq!(mean(foreign), Meaning::Foreign, "{foreign}");
        }
    }
}
