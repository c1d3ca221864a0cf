//! What a restored database holds: tables, exact counts, checksums, sequences.

use super::restore::count;
use crate::base::Kind;
use crate::crypto::RowSum;
use crate::db::mysql::facts::is_elsewhere;
use crate::db::mysql::run::definitions;
use crate::db::mysql::{Facts, Run, Session, Step, TableFacts, TableKind, script};
use crate::db::{Error, Result};
use crate::format::dump::{Sequence, Table};
use std::collections::BTreeMap;

/// Every table with its rows; those that `sums` names with their checksum too, read by the dump program as a dump reads
/// them.
pub(super) fn tables(session: &Session, sums: &[&str]) -> Result<Vec<Table>> {
    let facts = Facts::ask(session)?;
    let (elsewhere, own): (Vec<&TableFacts>, Vec<&TableFacts>) =
        facts.tables.iter().filter(|table| table.has_rows()).partition(|table| is_elsewhere(&table.engine));
    let names: Vec<String> = own.into_iter().map(|table| table.name.clone()).collect();
    let counted = count(session, &names)?;
    if counted.len() != names.len() {
        return Err(session.error(Kind::Target, "the server did not count all tables"));
    }
    let mut tables: BTreeMap<String, Table> = BTreeMap::new();
    // A dump holds no rows of these: what they count are rows of others.
    for (name, rows) in elsewhere.into_iter().map(|table| (table.name.clone(), 0)).chain(names.into_iter().zip(counted))
    {
        tables.insert(name.clone(), Table { name, rows, ..Table::default() });
    }
    let summed: Vec<String> =
        facts.tables.iter().map(|table| &table.name).filter(|name| sums.contains(&name.as_str())).cloned().collect();
    for (name, sum) in checksums(session, summed)? {
        if let Some(table) = tables.get_mut(&name) {
            (table.bytes, table.checksum) = (sum.bytes, Some(sum.checksum));
        }
    }
    Ok(tables.into_values().collect())
}

struct Sum {
    bytes: u64,
    checksum: String,
}

fn checksums(session: &Session, tables: Vec<String>) -> Result<Vec<(String, Sum)>> {
    if tables.is_empty() {
        return Ok(Vec::new());
    }
    let mut sums: Vec<(u64, RowSum)> = tables.iter().map(|_| (0, RowSum::new())).collect();
    let database = session.address().database.clone();
    let mut run = Run::start(session.with_database(&database)?, tables.clone(), false)?;
    loop {
        let step = run.step()?;
        let Some(at) = run.current() else {
            match step {
                Step::End => break,
                _ => continue,
            }
        };
        let (bytes, sum) = &mut sums[at];
        match step {
            Step::Row(row) => {
                *bytes += row.len() as u64;
                sum.push(run.bytes(row));
            }
            Step::RowEnd => drop(sum.end_row()),
            Step::Table(_) | Step::Insert => {}
            Step::End => break,
        }
    }
    let sums = sums.into_iter().map(|(bytes, sum)| Sum { bytes, checksum: sum.hex() });
    Ok(tables.into_iter().zip(sums).collect())
}

/// Every sequence and where it stands.
pub(super) fn sequences(session: &Session) -> Result<Vec<Sequence>> {
    let facts = Facts::ask(session)?;
    let of_kind = facts.tables.iter().filter(|table| table.kind == TableKind::Sequence);
    let names: Vec<String> = of_kind.map(|table| table.name.clone()).collect();
    if names.is_empty() {
        return Ok(Vec::new());
    }
    let text =
        definitions(session, &["--skip-triggers"], &names).map_err(|error| Error { kind: Kind::Target, ..error })?;
    let found = script::sequences(&script::settle(&text).counters).into_iter();
    Ok(found
        .map(|found| Sequence {
            schema: String::new(),
            name: found.name,
            last_value: found.value,
            is_called: found.is_used,
        })
        .collect())
}
