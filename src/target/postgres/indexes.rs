//! Indexes and keys of tables that have all their rows, made while other tables still get theirs.
//!
//! Tables end at different times. Whoever finds no table left to fill makes an index or a key of one that is full, so that
//! nobody waits for the longest. Each goes through `pg_restore` as all definitions do, out of an archive with that one
//! entry; what nobody came to is made with the rest of post-data. One table gives one entry at a time: a key and an
//! index of the same table would wait for each other.

use super::archive::{Archive, Entry};
use super::circles::SETTINGS;
use super::statements::first_qualified;
use crate::format::dump::Table;
use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// The indexes of smaller tables are made faster than another `pg_restore` is started.
const FROM_BYTES: u64 = 8 << 20;

/// The indexes and keys that can be made early, and who is at work.
pub struct Indexes<'a> {
    archive: &'a Archive,
    state: Mutex<State<'a>>,
}

struct State<'a> {
    tables: Vec<OfTable<'a>>,
    /// Places in the archive of what is made, or in hand.
    taken: HashSet<usize>,
    /// Workers that fill tables or make indexes.
    busy: usize,
}

struct OfTable<'a> {
    schema: &'a str,
    name: &'a str,
    bytes: u64,
    /// Places in the archive, in its order.
    waiting: VecDeque<usize>,
    is_full: bool,
    in_hand: bool,
}

/// One index or key.
pub struct Task {
    /// An archive that holds nothing else.
    pub archive: Archive,
    /// What it is, for whoever looks on.
    pub label: String,
    table: usize,
}

impl<'a> Indexes<'a> {
    /// Those of `tables` in the archive of what comes after the rows.
    pub fn of(archive: &'a Archive, tables: impl Iterator<Item = &'a Table>) -> Indexes<'a> {
        let large = tables.filter(|table| table.bytes >= FROM_BYTES);
        let of_table = |table: &'a Table| OfTable {
            schema: &table.schema,
            name: &table.name,
            bytes: table.bytes,
            waiting: VecDeque::new(),
            is_full: false,
            in_hand: false,
        };
        let mut tables: Vec<OfTable<'a>> = large.map(of_table).collect();
        tables.sort_by_key(|table| std::cmp::Reverse(table.bytes));
        let names: HashMap<(&[u8], &[u8]), usize> = tables
            .iter()
            .enumerate()
            .map(|(at, table)| ((table.schema.as_bytes(), table.name.as_bytes()), at))
            .collect();
        let numbers: HashSet<i32> = archive.entries.iter().map(|entry| entry.id).collect();
        // What needs something else of this archive has to wait for it.
        let stands_alone = |entry: &Entry| !entry.needs.iter().any(|need| numbers.contains(need));
        let mut found = Vec::new();
        for (place, entry) in archive.entries.iter().enumerate() {
            if (entry.is("INDEX") || entry.is("CONSTRAINT"))
                && stands_alone(entry)
                && let Some((schema, name)) = first_qualified(&entry.definition, None)
                && let Some(at) = names.get(&(schema.as_slice(), name.as_slice()))
            {
                found.push((*at, place));
            }
        }
        found.into_iter().for_each(|(at, place)| tables[at].waiting.push_back(place));
        Indexes { archive, state: Mutex::new(State { tables, taken: HashSet::new(), busy: 0 }) }
    }

    /// So many workers begin.
    pub fn begin(&self, workers: usize) {
        self.state().busy = workers;
    }

    /// A table has all its rows.
    pub fn full(&self, table: &Table) {
        let mut state = self.state();
        let is_it = |one: &&mut OfTable<'_>| one.schema == table.schema && one.name == table.name;
        if let Some(of_table) = state.tables.iter_mut().find(is_it) {
            of_table.is_full = true;
        }
    }

    /// What a worker with no table left makes next. None ends it: there is nothing, or nobody else is at work, so that
    /// several sessions can share what is left.
    pub fn next(&self) -> Option<Task> {
        let mut state = self.state();
        let free = |table: &OfTable<'_>| table.is_full && !table.in_hand && !table.waiting.is_empty();
        let table = state.tables.iter().position(free).filter(|_| state.busy > 1);
        let Some(table) = table else {
            state.busy = state.busy.saturating_sub(1);
            return None;
        };
        let of_table = &mut state.tables[table];
        of_table.in_hand = true;
        let place = of_table.waiting.pop_front()?;
        state.taken.insert(place);
        let entry = &self.archive.entries[place];
        let settings = self.archive.entries.iter().filter(|entry| SETTINGS.iter().any(|kind| entry.is(kind)));
        let entries = settings.chain([entry]).cloned().collect();
        Some(Task { archive: self.archive.with_entries(entries), label: entry.label(), table })
    }

    /// It was made.
    pub fn made(&self, task: &Task) {
        self.state().tables[task.table].in_hand = false;
    }

    /// What is still to be made after the rows; none if that is all of the archive.
    pub fn rest(&self) -> Option<Archive> {
        let state = self.state();
        let left = |(place, entry): (usize, &Entry)| (!state.taken.contains(&place)).then(|| entry.clone());
        let rest = || self.archive.entries.iter().enumerate().filter_map(left).collect();
        (!state.taken.is_empty()).then(|| self.archive.with_entries(rest()))
    }

    fn state(&self) -> MutexGuard<'_, State<'a>> {
        // Every change is made in one step: nothing can be half done.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::super::archive::Section;
    use super::*;

    fn entry(id: i32, kind: &str, definition: &str) -> Entry {
        Entry { definition: definition.as_bytes().to_vec(), ..Entry::new(id, kind, definition, Section::PostData) }
    }

    fn archive() -> Archive {
        let after = |need: i32, entry: Entry| Entry { needs: vec![need], ..entry };
        Archive {
            entries: vec![
                entry(1, "ENCODING", "SET client_encoding = 'UTF8';"),
                after(900, entry(2, "CONSTRAINT", "ALTER TABLE ONLY s.big ADD CONSTRAINT big_pkey PRIMARY KEY (id);")),
                entry(3, "INDEX", "CREATE INDEX big_a ON s.big USING btree (a);"),
                entry(4, "INDEX", "CREATE INDEX mid_a ON s.mid USING btree (a);"),
                entry(5, "INDEX", "CREATE INDEX small_a ON s.small USING btree (a);"),
                after(2, entry(6, "INDEX", "CREATE INDEX big_f ON s.big USING btree (s.f(a));")),
                after(2, entry(7, "FK CONSTRAINT", "ALTER TABLE ONLY s.mid ADD CONSTRAINT f FOREIGN KEY (a);")),
            ],
            ..Archive::empty()
        }
    }

    fn tables() -> [Table; 3] {
        [("mid", FROM_BYTES), ("small", FROM_BYTES - 1), ("big", 2 * FROM_BYTES)].map(|(name, bytes)| Table {
            schema: "s".to_owned(),
            name: name.to_owned(),
            bytes,
            ..Table::default()
        })
    }

    fn ids(archive: &Archive) -> Vec<i32> {
        archive.entries.iter().map(|entry| entry.id).collect()
    }

    #[test]
    fn indexes_of_full_tables_are_made_one_at_a_time_while_others_work() {
        let (archive, tables) = (archive(), tables());
        let indexes = Indexes::of(&archive, tables.iter());
        indexes.begin(3);
        tables.iter().for_each(|table| indexes.full(table));
        let first = indexes.next().unwrap();
        assert_eq!(ids(&first.archive), [1, 2]);
        let second = indexes.next().unwrap();
        assert_eq!(ids(&second.archive), [1, 4]);
        assert!(indexes.next().is_none(), "the other index of the large table waits");
        indexes.made(&first);
        assert_eq!(ids(&indexes.next().unwrap().archive), [1, 3]);
        assert_eq!(ids(&indexes.rest().unwrap()), [1, 5, 6, 7]);
    }

    #[test]
    fn nothing_is_made_of_a_table_that_is_not_full_or_by_who_is_alone() {
        let (archive, tables) = (archive(), tables());
        let indexes = Indexes::of(&archive, tables.iter());
        indexes.begin(3);
        assert!(indexes.next().is_none());
        indexes.full(&tables[0]);
        let only = indexes.next().unwrap();
        assert_eq!(ids(&only.archive), [1, 4]);
        indexes.made(&only);
        indexes.full(&tables[2]);
        assert!(indexes.next().is_some());
        assert!(indexes.next().is_none());
        let alone = Indexes::of(&archive, tables.iter());
        alone.begin(1);
        alone.full(&tables[2]);
        assert!(alone.next().is_none());
        assert_eq!(alone.rest(), None);
    }
}
