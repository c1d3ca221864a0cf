//! What a restored database holds, beside what the manifest of its dump promises.

use crate::format::dump::{Manifest, Sequence, Table};
use crate::target::dump::TriedOut;
use std::collections::BTreeMap;

/// The most differences that are told one by one.
pub const MAX_DIFFERENCES: usize = 1000;

/// Something that is not as it was promised.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    /// What it concerns: `table public.orders`.
    pub object: String,
    /// What was promised and what is there.
    pub message: String,
}

/// What was compared.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Compared {
    /// Tables that are there as promised or otherwise.
    pub tables: u64,
    /// Rows of the restored tables.
    pub rows: u64,
    /// Tables whose content was read again and summed up.
    pub checksums: u64,
    /// Sequences.
    pub sequences: u64,
    /// What differs; the first [`MAX_DIFFERENCES`].
    pub differences: Vec<Difference>,
    /// How many differences there are.
    pub difference_count: u64,
}

impl Compared {
    fn differs(&mut self, object: String, message: String) {
        self.difference_count += 1;
        if self.differences.len() < MAX_DIFFERENCES {
            self.differences.push(Difference { object, message });
        }
    }
}

fn full_name(schema: &str, name: &str) -> String {
    if schema.is_empty() { name.to_owned() } else { format!("{schema}.{name}") }
}

/// Compares the set of tables, their rows, the checksums that were made, and where sequences stand.
pub fn compare(manifest: &Manifest, seen: &TriedOut) -> Compared {
    let mut compared = Compared::default();
    tables(manifest, &seen.tables, &mut compared);
    sequences(&manifest.sequences, &seen.sequences, &mut compared);
    compared
}

fn tables(manifest: &Manifest, seen: &[Table], compared: &mut Compared) {
    let key = |table: &Table| (table.schema.clone(), table.name.clone());
    let mut there: BTreeMap<_, &Table> = seen.iter().map(|table| (key(table), table)).collect();
    for promised in &manifest.tables {
        let object = format!("table {}", full_name(&promised.schema, &promised.name));
        let Some(table) = there.remove(&key(promised)) else {
            compared.differs(object, "it is in the dump and was not restored".to_owned());
            continue;
        };
        compared.tables += 1;
        compared.rows = compared.rows.saturating_add(table.rows);
        if promised.stream.is_some() && table.rows != promised.rows {
            let message = format!("{} rows were promised, {} were restored", promised.rows, table.rows);
            compared.differs(object, message);
            continue;
        }
        if let (Some(before), Some(after)) = (&promised.checksum, &table.checksum) {
            compared.checksums += 1;
            if before != after {
                let message = format!("its rows have the checksum {after} where {before} was promised");
                compared.differs(object, message);
            }
        }
    }
    for (schema, name) in there.into_keys() {
        let object = format!("table {}", full_name(&schema, &name));
        compared.differs(object, "it was restored and is not in the dump".to_owned());
    }
}

fn sequences(promised: &[Sequence], seen: &[Sequence], compared: &mut Compared) {
    let there: BTreeMap<_, _> = seen.iter().map(|sequence| ((&sequence.schema, &sequence.name), sequence)).collect();
    for before in promised {
        let object = format!("sequence {}", full_name(&before.schema, &before.name));
        match there.get(&(&before.schema, &before.name)) {
            None => compared.differs(object, "it is in the dump and was not restored".to_owned()),
            Some(after) => {
                compared.sequences += 1;
                if (after.last_value, after.is_called) != (before.last_value, before.is_called) {
                    let stand = |one: &Sequence| match one.is_called {
                        true => format!("{}, given out", one.last_value),
                        false => format!("{}, not given out yet", one.last_value),
                    };
                    compared.differs(
                        object,
                        format!("it should stand at {} and stands at {}", stand(before), stand(after)),
                    );
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::dump::{DumpKind, Server, VERSION};

    fn table(name: &str, rows: u64, checksum: Option<&str>) -> Table {
        Table {
            schema: "public".into(),
            name: name.into(),
            stream: Some(format!("tables/{name}")),
            rows,
            checksum: checksum.map(str::to_owned),
            ..Table::default()
        }
    }

    fn sequence(name: &str, last_value: i64) -> Sequence {
        Sequence { schema: "public".into(), name: name.into(), last_value, is_called: true }
    }

    fn manifest(tables: Vec<Table>, sequences: Vec<Sequence>) -> Manifest {
        Manifest {
            version: VERSION,
            kind: DumpKind::Postgres,
            server: Server::default(),
            client: String::new(),
            database: "shop".into(),
            properties: BTreeMap::new(),
            taken_ns: 0,
            ended_ns: 0,
            position: None,
            selection: Vec::new(),
            tables,
            sequences,
            streams: Vec::new(),
            notes: Vec::new(),
            unknown: BTreeMap::new(),
        }
    }

    #[test]
    fn what_is_as_promised_has_no_differences() {
        let manifest = manifest(vec![table("a", 3, Some("1")), table("b", 0, None)], vec![sequence("s", 7)]);
        let seen = TriedOut {
            tables: vec![table("b", 0, Some("0")), table("a", 3, Some("1"))],
            sequences: vec![sequence("s", 7)],
            ..TriedOut::default()
        };
        let compared = compare(&manifest, &seen);
        assert_eq!((compared.difference_count, compared.tables, compared.checksums), (0, 2, 1));
        assert_eq!((compared.rows, compared.sequences), (3, 1));
    }

    #[test]
    fn every_difference_is_named() {
        let manifest = manifest(
            vec![table("a", 3, None), table("gone", 1, None), table("sum", 1, Some("1"))],
            vec![sequence("s", 7), sequence("lost", 1)],
        );
        let seen = TriedOut {
            tables: vec![table("a", 2, None), table("more", 1, None), table("sum", 1, Some("2"))],
            sequences: vec![sequence("s", 8)],
            ..TriedOut::default()
        };
        let compared = compare(&manifest, &seen);
        let objects: Vec<&str> = compared.differences.iter().map(|one| one.object.as_str()).collect();
        assert_eq!(
            objects,
            [
                "table public.a",
                "table public.gone",
                "table public.sum",
                "table public.more",
                "sequence public.s",
                "sequence public.lost"
            ]
        );
        assert!(compared.differences[0].message.contains("3 rows were promised, 2"));
    }
}
