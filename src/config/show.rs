//! What holds, and why: every value of a profile with its origin.

use super::check::as_text;
use super::describe::{Form, Key, Section};
use super::keys::telling::{METRICS, NOTIFY};
use super::keys::{PROFILE, REPOSITORY, ROOT};
use super::tree::{At, Entry, Item, Table, Value};
use super::{Config, Result, files, table_of, tables};
use std::path::PathBuf;

/// What is shown in place of what may hold a secret.
const HIDDEN: &str = "…";

/// Where a value comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum From {
    /// Nobody said anything.
    Default,
    /// No file says anything, and the environment does, or else who runs it.
    Environment,
    /// Somebody did.
    File {
        /// The file.
        file: PathBuf,
        /// The line.
        line: usize,
        /// The profile that it was inherited from.
        profile: Option<String>,
    },
}

/// A value that holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shown {
    /// The table it stands in: `profiles.nightly.sources`.
    pub table: String,
    /// Its key.
    pub key: &'static str,
    /// The value as TOML; none if there is none.
    pub value: Option<String>,
    /// Where it comes from.
    pub from: From,
}

/// The keys at the top that are no tables.
static ROOT_KEYS: Section = Section { doc: ROOT.doc, keys: ROOT.keys.split_at(VALUES_AT_TOP).0, one_of: &[] };

/// How many they are.
const VALUES_AT_TOP: usize = 6;

impl Config {
    /// All values of a repository or profile that hold, table by table.
    pub fn shown(&self, profile: &str) -> Result<Vec<Shown>> {
        let table = self.laid(profile)?;
        let mut shown = Vec::new();
        let repository = table.get("repository").and_then(|entry| match &entry.item.value {
            Value::Text(name) => Some(name.clone()),
            _ => None,
        });
        self.section("", Some(&self.root), &ROOT_KEYS, &mut shown);
        if let Some(shown) = shown.iter_mut().find(|shown| shown.key == "state_dir" && shown.value.is_none())
            && let Some(folder) = files::own_state()
        {
            (shown.value, shown.from) = (Some(quoted(&folder.to_string_lossy())), From::Environment);
        }
        for (name, entry) in tables(&self.root, "repositories").filter(|(name, _)| Some(*name) == repository.as_deref())
        {
            self.section(&format!("repositories.{}", word(name)), Some(table_of(entry)), &REPOSITORY, &mut shown);
        }
        self.section(&format!("profiles.{}", word(profile)), Some(table), &PROFILE, &mut shown);
        self.section("metrics", self.root.get("metrics").map(table_of), &METRICS, &mut shown);
        self.section("notify", self.root.get("notify").map(table_of), &NOTIFY, &mut shown);
        Ok(shown)
    }

    fn section(&self, name: &str, table: Option<&Table>, section: &'static Section, shown: &mut Vec<Shown>) {
        for key in section.keys.iter().filter(|key| key.form.section().is_none()) {
            let entry = table.and_then(|table| table.get(key.name));
            shown.push(Shown {
                table: name.to_owned(),
                key: key.name,
                value: value(key, entry),
                from: self.origin(entry),
            });
        }
        for key in section.keys {
            let entry = table.and_then(|table| table.get(key.name));
            let below = format!("{name}.{}", key.name);
            match (key.form, entry) {
                (Form::Part(section), _) => self.section(&below, entry.map(table_of), section, shown),
                (Form::Optional(section), Some(entry)) => self.section(&below, Some(table_of(entry)), section, shown),
                (Form::Named(section), Some(entry)) => {
                    for (name, entry) in table_of(entry) {
                        self.section(&format!("{below}.{}", word(name)), Some(table_of(entry)), section, shown);
                    }
                }
                _ => {}
            }
        }
    }

    fn origin(&self, entry: Option<&Entry>) -> From {
        let Some(Entry { item: Item { at, .. }, .. }) = entry else { return From::Default };
        let At { file, via, .. } = at;
        From::File { file: self.files.get(*file).0.to_owned(), line: self.files.line(at), profile: via.clone() }
    }
}

/// A value as TOML, or its default.
fn value(key: &Key, entry: Option<&Entry>) -> Option<String> {
    let Some(entry) = entry else {
        return (!key.default.is_empty()).then(|| written(&key.form, key.default));
    };
    Some(match (&key.form, &entry.item.value) {
        (Form::List(of), Value::List(list)) => {
            let all: Vec<String> = list.iter().filter_map(|one| Some(written(of, &as_text(of, &one.value)?))).collect();
            format!("[{}]", all.join(", "))
        }
        (Form::List(of), value) => written(of, &as_text(of, value)?),
        (form, value) => written(form, &as_text(form, value)?),
    })
}

/// A text as a value of TOML.
fn written(form: &Form, text: &str) -> String {
    match form {
        Form::Text(kind) if kind.hidden => quoted(HIDDEN),
        Form::Count { .. } | Form::Switch => text.to_owned(),
        Form::Text(kind) if kind.number && text.parse::<u64>().is_ok() => text.to_owned(),
        _ => quoted(text),
    }
}

/// A text in quotes, as TOML reads it.
pub fn quoted(text: &str) -> String {
    let mut quoted = String::from("\"");
    for c in text.chars() {
        match c {
            '"' | '\\' => quoted.extend(['\\', c]),
            '\n' => quoted.push_str("\\n"),
            '\t' => quoted.push_str("\\t"),
            c if c.is_control() => quoted.push_str(&format!("\\u{:04X}", u32::from(c))),
            c => quoted.push(c),
        }
    }
    quoted.push('"');
    quoted
}

/// A name in the header of a table.
fn word(name: &str) -> String {
    let is_bare = name.chars().all(|c| c.is_ascii_alphanumeric() || "_-".contains(c));
    if is_bare { name.to_owned() } else { quoted(name) }
}
