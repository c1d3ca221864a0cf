//! Partitions: which tables a dump makes part of which, and where rows have to find their partition anew.
//!
//! A partition's rows go straight into it, except beneath a table that is partitioned by the hash of something whose hash
//! depends on the server: values of an enumeration are hashed by their numbers, which every server gives out anew. There
//! rows go into the partitioned table, and the server puts each where it belongs.

use super::archive::Archive;
use super::options::TableName;
use super::statements::first_qualified;
use crate::db::Result;
use crate::db::postgres::{Connection, qualified};
use crate::format::dump::Table;
use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};

/// The first version that partitions by hash.
const HASHES_FROM: u32 = 110_000;

/// How many tables a partition may lie beneath.
const MAX_LEVELS: usize = 1000;

/// How the definition of a table says that it is partitioned by hash.
const BY_HASH: &[u8] = b"\nPARTITION BY HASH (";

/// Tables beneath those whose hashes are another server's others, with the topmost such table. Types, collations and
/// expressions that somebody made are taken for such: objects of the server itself have oids below 16384.
const ROUTES: &str = "WITH RECURSIVE other AS ( \
       SELECT p.partrelid AS oid FROM pg_catalog.pg_partitioned_table p \
       WHERE p.partstrat = 'h' AND (p.partexprs IS NOT NULL OR EXISTS ( \
         SELECT 1 FROM pg_catalog.unnest(p.partattrs::pg_catalog.int2[]) AS k(number) \
         JOIN pg_catalog.pg_attribute a ON a.attrelid = p.partrelid AND a.attnum = k.number \
         WHERE a.atttypid >= 16384 OR a.attcollation >= 16384)) \
     ), beneath(top, oid) AS ( \
       SELECT oid, oid FROM other \
       UNION ALL SELECT b.top, i.inhrelid FROM beneath b JOIN pg_catalog.pg_inherits i ON i.inhparent = b.oid \
     ) SELECT n.nspname, c.relname, tn.nspname, t.relname FROM beneath b \
     JOIN pg_catalog.pg_class c ON c.oid = b.oid JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace \
     JOIN pg_catalog.pg_class t ON t.oid = b.top JOIN pg_catalog.pg_namespace tn ON tn.oid = t.relnamespace \
     WHERE c.relkind = 'r' AND NOT EXISTS (SELECT 1 FROM beneath h WHERE h.oid = b.top AND h.top <> b.top)";

/// Partitions and what each is a part of, as the definitions before the rows have them.
fn attached(pre_data: &Archive) -> impl Iterator<Item = (TableName, TableName)> {
    pre_data.entries.iter().filter(|entry| entry.is("TABLE ATTACH")).filter_map(|entry| {
        let whole = first_qualified(&entry.definition, None).and_then(name);
        let part = first_qualified(&entry.definition, Some("PARTITION")).and_then(name);
        part.zip(whole)
    })
}

/// The tables, and the partitioned ones of these schemas, with all their partitions, and those of these, as the definitions
/// before the rows have them: rows of a table that is meant may lie in another schema.
pub fn with_partitions(tables: &[TableName], schemas: &[String], pre_data: &Archive) -> Vec<TableName> {
    let mut of: HashMap<TableName, Vec<TableName>> = HashMap::new();
    let mut queue: VecDeque<TableName> = tables.iter().cloned().collect();
    for (part, whole) in attached(pre_data) {
        if schemas.contains(&whole.schema) {
            queue.push_back(whole.clone());
        }
        of.entry(whole).or_default().push(part);
    }
    let mut all = Vec::new();
    let mut seen = HashSet::new();
    while let Some(table) = queue.pop_front() {
        if seen.insert(table.clone()) {
            queue.extend(of.get(&table).into_iter().flatten().cloned());
            all.push(table);
        }
    }
    all
}

fn name((schema, name): (Vec<u8>, Vec<u8>)) -> Option<TableName> {
    Some(TableName { schema: String::from_utf8(schema).ok()?, name: String::from_utf8(name).ok()? })
}

/// Partitions whose rows are given to a table above them.
#[derive(Debug, Default)]
pub struct Routes(HashMap<(String, String), (String, String)>);

impl Routes {
    /// Those of the database that `connection` is in.
    pub fn read(connection: &mut Connection, version_number: u32) -> Result<Routes> {
        if version_number < HASHES_FROM {
            return Ok(Routes::default());
        }
        let rows = connection.query(ROUTES)?.into_iter();
        let route = |row: Vec<Option<String>>| match <[Option<String>; 4]>::try_from(row) {
            Ok([Some(schema), Some(name), Some(top_schema), Some(top)]) => Some(((schema, name), (top_schema, top))),
            _ => None,
        };
        Ok(Routes(rows.filter_map(route).collect()))
    }

    /// Those of a dump that is written for whichever server: definitions alone do not say what types are, so all beneath
    /// a table that is partitioned by hash.
    pub fn of_definitions(pre_data: &Archive) -> Routes {
        let tables = pre_data.entries.iter().filter(|entry| entry.is("TABLE"));
        let by_hash = tables.filter(|entry| entry.definition.windows(BY_HASH.len()).any(|text| text == BY_HASH));
        let by_hash: HashSet<TableName> =
            by_hash.filter_map(|entry| name((entry.schema.clone()?, entry.tag.clone()))).collect();
        let whole_of: HashMap<TableName, TableName> = attached(pre_data).collect();
        let mut routes = HashMap::new();
        for part in whole_of.keys() {
            let (mut above, mut top) = (part, None);
            for _ in 0..MAX_LEVELS {
                let Some(whole) = whole_of.get(above) else { break };
                top = if by_hash.contains(whole) { Some(whole) } else { top };
                above = whole;
            }
            if let Some(top) = top {
                routes.insert((part.schema.clone(), part.name.clone()), (top.schema.clone(), top.name.clone()));
            }
        }
        Routes(routes)
    }

    /// As SQL, the table that takes the rows of a partition in its place.
    pub fn instead_of(&self, table: &Table) -> Option<String> {
        self.top(table).map(|(schema, name)| qualified(schema, name))
    }

    fn top(&self, table: &Table) -> Option<&(String, String)> {
        self.0.get(&(table.schema.clone(), table.name.clone()))
    }

    /// Which tables are read again: of partitions that share their rows all or none.
    pub fn together(&self, tables: &[Table], sums: &mut [bool]) {
        let chosen = tables.iter().zip(sums.iter()).filter(|(_, sum)| **sum);
        let tops: HashSet<_> = chosen.filter_map(|(table, _)| self.top(table)).collect();
        for (table, sum) in tables.iter().zip(sums) {
            *sum |= self.top(table).is_some_and(|top| tops.contains(top));
        }
    }

    /// Partitions that share their rows are as promised if all of them together are: then each of `seen` says what was
    /// promised of it.
    pub fn as_promised(&self, promised: &[&Table], seen: &mut [Table]) {
        let mut groups: BTreeMap<&(String, String), Vec<&mut Table>> = BTreeMap::new();
        for table in seen.iter_mut() {
            if let Some(top) = self.top(table) {
                groups.entry(top).or_default().push(table);
            }
        }
        for (top, mut group) in groups {
            let promised: Vec<&Table> = promised.iter().copied().filter(|one| self.top(one) == Some(top)).collect();
            let is_summed = group.iter().any(|table| table.checksum.is_some());
            let found: Vec<&Table> = group.iter().map(|table| &**table).collect();
            if total(&found, is_summed) != total(&promised, is_summed) {
                continue;
            }
            for table in &mut group {
                let one = promised.iter().find(|one| (&one.schema, &one.name) == (&table.schema, &table.name));
                table.rows = one.map_or(0, |one| one.rows);
                table.checksum = table.checksum.as_ref().and(one.and_then(|one| one.checksum.clone()));
            }
        }
    }
}

/// The rows of several tables, and the checksum of all of them.
fn total(tables: &[&Table], is_summed: bool) -> (u64, u128) {
    let checksum = |table: &&Table| u128::from_str_radix(table.checksum.as_deref()?, 16).ok();
    let sums = tables.iter().filter(|_| is_summed).filter_map(checksum);
    (tables.iter().map(|table| table.rows).sum(), sums.fold(0, u128::wrapping_add))
}

#[cfg(test)]
mod tests {
    use super::super::archive::{Entry, Section};
    use super::*;

    fn table(name: &str, rows: u64, checksum: Option<&str>) -> Table {
        let checksum = checksum.map(str::to_owned);
        Table { schema: "s".into(), name: name.into(), rows, checksum, ..Table::default() }
    }

    fn routes(names: &[&str]) -> Routes {
        let top = ("s".to_owned(), "top".to_owned());
        Routes(names.iter().map(|name| (("s".to_owned(), (*name).to_owned()), top.clone())).collect())
    }

    #[test]
    fn a_partitioned_table_brings_its_partitions_and_theirs() {
        let attach = |definition: &str| Entry {
            definition: definition.as_bytes().to_vec(),
            ..Entry::new(1, "TABLE ATTACH", "x", Section::PreData)
        };
        let entries = vec![
            attach("ALTER TABLE ONLY s.top ATTACH PARTITION s.mid FOR VALUES IN ('a');"),
            attach("ALTER TABLE ONLY s.mid ATTACH PARTITION \"S 2\".\"le.af\" FOR VALUES FROM (1) TO (2);"),
            attach("ALTER TABLE ONLY s.another ATTACH PARTITION s.stays DEFAULT;"),
        ];
        let archive = Archive { entries, ..Archive::empty() };
        let name = |schema: &str, name: &str| TableName { schema: schema.into(), name: name.into() };
        assert_eq!(
            with_partitions(&[name("s", "top")], &[], &archive),
            [name("s", "top"), name("s", "mid"), name("S 2", "le.af")]
        );
        assert_eq!(with_partitions(&[name("s", "stays")], &[], &archive), [name("s", "stays")]);
        let of_schema = with_partitions(&[], &["s".to_owned()], &archive);
        assert!(of_schema.len() == 5 && of_schema.contains(&name("S 2", "le.af")), "{of_schema:?}");
        assert_eq!(with_partitions(&[], &["S 2".to_owned()], &archive), []);
    }

    #[test]
    fn what_lies_beneath_a_hash_goes_to_the_topmost_such_table() {
        let entry = |kind: &str, tag: &str, definition: &str| Entry {
            schema: Some(b"s".to_vec()),
            definition: definition.as_bytes().to_vec(),
            ..Entry::new(1, kind, tag, Section::PreData)
        };
        let attach = |whole: &str, part: &str| {
            entry("TABLE ATTACH", part, &format!("ALTER TABLE ONLY s.{whole} ATTACH PARTITION s.{part} DEFAULT;"))
        };
        let entries = vec![
            entry("TABLE", "list", "CREATE TABLE s.list (a int)\nPARTITION BY LIST (a);"),
            entry("TABLE", "hash", "CREATE TABLE s.hash (a int)\nPARTITION BY HASH (a);"),
            entry("TABLE", "again", "CREATE TABLE s.again (a int)\nPARTITION BY HASH (a);"),
            attach("list", "hash"),
            attach("hash", "again"),
            attach("again", "leaf"),
            attach("list", "plain"),
        ];
        let routes = Routes::of_definitions(&Archive { entries, ..Archive::empty() });
        assert_eq!(routes.instead_of(&table("leaf", 0, None)).as_deref(), Some("\"s\".\"hash\""));
        assert_eq!(routes.instead_of(&table("plain", 0, None)), None);
    }

    #[test]
    fn partitions_that_share_their_rows_are_compared_as_one() {
        let routes = routes(&["a", "b"]);
        let promised = [table("a", 3, Some("05")), table("b", 1, Some("02")), table("c", 1, Some("01"))];
        let promised: Vec<&Table> = promised.iter().collect();
        let mut seen = [table("a", 0, Some("00")), table("b", 4, Some("07")), table("c", 2, Some("09"))];
        routes.as_promised(&promised, &mut seen);
        let said: Vec<(u64, Option<&str>)> = seen.iter().map(|one| (one.rows, one.checksum.as_deref())).collect();
        assert_eq!(said, [(3, Some("05")), (1, Some("02")), (2, Some("09"))], "only what shares its rows");
        for wrong in [table("b", 5, Some("07")), table("b", 4, Some("08"))] {
            let mut seen = [table("a", 0, Some("00")), wrong];
            routes.as_promised(&promised, &mut seen);
            assert_eq!(seen[0].rows, 0, "a difference stays one");
        }
    }

    #[test]
    fn partitions_that_share_their_rows_are_read_together() {
        let tables = [table("a", 1, None), table("b", 1, None), table("c", 1, None)];
        let mut sums = [false, true, false];
        routes(&["a", "b"]).together(&tables, &mut sums);
        assert_eq!(sums, [true, true, false]);
        let mut sums = [false, false, true];
        routes(&["a", "b"]).together(&tables, &mut sums);
        assert_eq!(sums, [false, false, true]);
    }
}
