//! A checked table, read key by key with its defaults.

use super::check::as_text;
use super::describe::{Form, Key, Section};
use super::tree::{Entry, Table, Value};
use std::cell::RefCell;
use std::collections::BTreeSet;

/// Reads a table that was checked. Every key of its description has to be asked for: a setting that is accepted and
/// ignored would be a lie.
pub struct Reader<'t> {
    table: Option<&'t Table>,
    section: &'static Section,
    asked: RefCell<BTreeSet<&'static str>>,
}

impl<'t> Reader<'t> {
    /// Reads `table`, or the defaults alone.
    pub fn new(table: Option<&'t Table>, section: &'static Section) -> Reader<'t> {
        Reader { table, section, asked: RefCell::default() }
    }

    /// All that is known of `name`, which the section describes.
    fn entry(&self, name: &str) -> (&'static Key, Option<&'t Entry>) {
        let key = self.section.key(name).expect("the caller reads a key that the section describes");
        self.asked.borrow_mut().insert(key.name);
        (key, self.table.and_then(|table| table.get(name)))
    }

    /// The text of a value, or its default.
    pub fn text(&self, name: &str) -> Option<String> {
        let (key, entry) = self.entry(name);
        let given = entry.and_then(|entry| as_text(&key.form, &entry.item.value));
        given.or_else(|| Some(key.default.to_owned()).filter(|default| !default.is_empty()))
    }

    /// The value itself.
    pub fn value<T, E>(&self, name: &str, read: impl Fn(&str) -> Result<T, E>) -> Option<T> {
        self.text(name).map(|text| read(&text).ok().expect("the check has read it with the same function"))
    }

    /// Whether something is switched on; off unless somebody says otherwise.
    pub fn switch(&self, name: &str) -> bool {
        self.value(name, str::parse).unwrap_or(false)
    }

    /// The texts of a list.
    pub fn list(&self, name: &str) -> Vec<String> {
        let (key, entry) = self.entry(name);
        let (Form::List(of), Some(entry)) = (key.form, entry) else { return Vec::new() };
        match &entry.item.value {
            Value::List(list) => list.iter().filter_map(|one| as_text(of, &one.value)).collect(),
            one => as_text(of, one).into_iter().collect(),
        }
    }

    /// Whether the section has such a key at all.
    pub fn has(&self, name: &str) -> bool {
        self.section.key(name).is_some()
    }

    /// Whether somebody said something: an empty list is something else than none.
    pub fn is_said(&self, name: &str) -> bool {
        self.entry(name).1.is_some()
    }

    /// A table that holds with its defaults even if it is not there.
    pub fn part(&self, name: &str) -> Reader<'t> {
        let (key, entry) = self.entry(name);
        let section = key.form.section().expect("the caller reads a table where one is described");
        Reader::new(entry.and_then(|entry| as_table(&entry.item.value)), section)
    }

    /// A table that means something by being there.
    pub fn optional(&self, name: &str) -> Option<Reader<'t>> {
        let reader = self.part(name);
        reader.table.is_some().then_some(reader)
    }

    /// Tables with names.
    pub fn named(&self, name: &str) -> Vec<(String, Reader<'t>)> {
        let (key, entry) = self.entry(name);
        let section = key.form.section().expect("the caller reads tables where some are described");
        let tables = entry.and_then(|entry| as_table(&entry.item.value)).into_iter().flatten();
        tables
            .filter_map(|(name, entry)| Some((name.clone(), Reader::new(Some(as_table(&entry.item.value)?), section))))
            .collect()
    }

    /// Ends it: nothing was left out.
    pub fn finish(self) {
        let all: BTreeSet<&str> = self.section.keys.iter().map(|key| key.name).collect();
        debug_assert!(
            *self.asked.borrow() == all,
            "keys that nobody reads: {:?}",
            all.difference(&self.asked.borrow())
        );
    }
}

fn as_table(value: &Value) -> Option<&Table> {
    match value {
        Value::Table(table) => Some(table),
        _ => None,
    }
}
