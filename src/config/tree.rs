//! TOML as it was written: tables, keys and values, each with the file and the place where it stands.

use super::error::Complaint;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use toml::Spanned;
use toml::de::{DeTable, DeValue};

/// The files of a config, in the order in which they count.
#[derive(Clone, Debug, Default)]
pub struct Files(Vec<(PathBuf, String)>);

impl Files {
    /// Adds one; its number.
    pub fn add(&mut self, path: PathBuf, text: String) -> usize {
        self.0.push((path, text));
        self.0.len() - 1
    }

    /// The path and the text of one.
    pub fn get(&self, file: usize) -> (&Path, &str) {
        self.0.get(file).map_or((Path::new(""), ""), |(path, text)| (path, text))
    }

    /// Where they lie.
    pub fn paths(&self) -> impl Iterator<Item = &Path> {
        self.0.iter().map(|(path, _)| path.as_path())
    }

    /// The line in which a place is, from 1.
    pub fn line(&self, at: &At) -> usize {
        let (_, text) = self.get(at.file);
        text.as_bytes().iter().take(at.from).filter(|byte| **byte == b'\n').count() + 1
    }
}

/// Where something stands.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct At {
    /// The number of the file.
    pub file: usize,
    /// The first byte.
    pub from: usize,
    /// The byte after the last.
    pub to: usize,
    /// The profile that it was inherited from.
    pub via: Option<String>,
}

/// A table.
pub type Table = BTreeMap<String, Entry>;

/// What stands behind a key.
#[derive(Clone, Debug)]
pub struct Entry {
    /// Where the key is.
    pub key_at: At,
    /// The value.
    pub item: Item,
}

/// A value and its place.
#[derive(Clone, Debug)]
pub struct Item {
    /// Where it is.
    pub at: At,
    /// What it is.
    pub value: Value,
}

/// A value.
#[derive(Clone, Debug)]
pub enum Value {
    /// A text.
    Text(String),
    /// A whole number.
    Number(i64),
    /// A number with a fraction, as it was written.
    Fraction(String),
    /// `true` or `false`.
    Switch(bool),
    /// Several.
    List(Vec<Item>),
    /// A table.
    Table(Table),
    /// Something that no key takes.
    Other(&'static str),
}

impl Value {
    /// What it is, for a message.
    pub fn what(&self) -> &'static str {
        match self {
            Value::Text(_) => "a text",
            Value::Number(_) => "a number",
            Value::Fraction(_) => "a number with a fraction",
            Value::Switch(_) => "true or false",
            Value::List(_) => "a list",
            Value::Table(_) => "a table",
            Value::Other(what) => what,
        }
    }
}

/// Reads a file of `files`. What cannot be read is complained about and left out.
pub fn parse(files: &Files, file: usize) -> (Table, Vec<Complaint>) {
    let (_, text) = files.get(file);
    let (table, errors) = DeTable::parse_recoverable(text);
    let complain = |error: &toml::de::Error| {
        let span = error.span().unwrap_or(0..0);
        Complaint::new(files, &At { file, from: span.start, to: span.end, via: None }, error.message())
    };
    (convert(file, table.get_ref()), errors.iter().map(complain).collect())
}

fn convert(file: usize, table: &DeTable<'_>) -> Table {
    let at = |span: std::ops::Range<usize>| At { file, from: span.start, to: span.end, via: None };
    let entry = |(key, value): (&Spanned<_>, &Spanned<DeValue<'_>>)| {
        let name: &std::borrow::Cow<'_, str> = key.get_ref();
        (name.to_string(), Entry { key_at: at(key.span()), item: item(file, value) })
    };
    table.iter().map(entry).collect()
}

fn item(file: usize, value: &Spanned<DeValue<'_>>) -> Item {
    let span = value.span();
    let number = |digits: &str, radix| i64::from_str_radix(digits, radix).ok();
    let converted = match value.get_ref() {
        DeValue::String(text) => Value::Text(text.to_string()),
        DeValue::Integer(integer) => {
            number(integer.as_str(), integer.radix()).map_or(Value::Other("a number that is too large"), Value::Number)
        }
        DeValue::Float(float) => Value::Fraction(float.as_str().to_owned()),
        DeValue::Boolean(switch) => Value::Switch(*switch),
        DeValue::Datetime(_) => Value::Other("a date"),
        DeValue::Array(list) => Value::List(list.iter().map(|one| item(file, one)).collect()),
        DeValue::Table(table) => Value::Table(convert(file, table)),
    };
    Item { at: At { file, from: span.start, to: span.end, via: None }, value: converted }
}

/// Lays `over` onto `base`: tables key by key, everything else takes the place of what was there.
pub fn overlay(base: &mut Table, over: Table) {
    for (name, entry) in over {
        match (base.get_mut(&name), entry) {
            (
                Some(Entry { item: Item { value: Value::Table(below), .. }, .. }),
                Entry { item: Item { value: Value::Table(table), .. }, .. },
            ) => overlay(below, table),
            (_, entry) => {
                base.insert(name, entry);
            }
        }
    }
}

/// Says of everything in a table that it was inherited, unless that is said already.
pub fn inherited(table: &mut Table, from: &str) {
    for entry in table.values_mut() {
        entry.key_at.via.get_or_insert_with(|| from.to_owned());
        inherited_item(&mut entry.item, from);
    }
}

fn inherited_item(item: &mut Item, from: &str) {
    item.at.via.get_or_insert_with(|| from.to_owned());
    match &mut item.value {
        Value::Table(table) => inherited(table, from),
        Value::List(list) => list.iter_mut().for_each(|one| inherited_item(one, from)),
        _ => {}
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn read(text: &str) -> Table {
        let mut files = Files::default();
        let file = files.add("keepstone.toml".into(), text.to_owned());
        let (table, complaints) = parse(&files, file);
        assert_eq!(complaints, []);
        table
    }

    fn below<'t>(table: &'t Table, name: &str) -> &'t Table {
        match &table[name].item.value {
            Value::Table(below) => below,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn tables_are_laid_over_each_other_key_by_key_and_lists_as_a_whole() {
        let mut base = read("[a]\nx = 1\nlist = [1, 2]\n[a.b]\ny = 2\n");
        overlay(&mut base, read("[a]\nlist = [3]\n[a.b]\nz = 0x10\n"));
        let a = below(&base, "a");
        assert!(matches!(a["x"].item.value, Value::Number(1)));
        assert!(matches!(&a["list"].item.value, Value::List(list) if list.len() == 1));
        let b = below(a, "b");
        assert!(matches!((&b["y"].item.value, &b["z"].item.value), (Value::Number(2), Value::Number(16))));
    }

    #[test]
    fn every_mistake_of_form_has_its_place() {
        let mut files = Files::default();
        let file = files.add("keepstone.toml".into(), "a = 1\nb = \nc = 'x\nd = 2\nd = 3\n".to_owned());
        let (table, complaints) = parse(&files, file);
        let lines: Vec<usize> = complaints.iter().map(|complaint| complaint.line).collect();
        assert!(lines.contains(&2) && lines.contains(&3) && lines.contains(&5), "{complaints:?}");
        assert!(matches!(table["a"].item.value, Value::Number(1)));
    }
}
