//! Is everything in its place, and what it should be?

use super::describe::{Form, Key, Section};
use super::error::Complaint;
use super::tree::{At, Files, Item, Table, Value};
use crate::base::like;

/// Words by which people call a secret.
const SECRETS: [&str; 6] = ["password", "passphrase", "secret", "token", "key", "identity"];

/// Looks at files and collects what is wrong with them.
pub struct Check<'f> {
    files: &'f Files,
    /// What is wrong.
    pub complaints: Vec<Complaint>,
}

impl<'f> Check<'f> {
    /// Begins.
    pub fn new(files: &'f Files) -> Check<'f> {
        Check { files, complaints: Vec::new() }
    }

    /// Complains about what stands at `at`.
    pub fn complain(&mut self, at: &At, message: impl Into<String>) {
        let complaint = Complaint::new(self.files, at, message);
        if !self.complaints.contains(&complaint) {
            self.complaints.push(complaint);
        }
    }

    /// Looks at the keys and values of a table, and at everything below.
    pub fn table(&mut self, table: &Table, section: &'static Section) {
        for (name, entry) in table {
            match section.key(name) {
                Some(key) => self.item(&entry.item, &key.form, &entry.key_at),
                None => self.complain(&entry.key_at, unknown(name, section)),
            }
        }
    }

    /// Looks at what has to be there and what excludes each other, when everything is laid over each other.
    pub fn whole(&mut self, table: &Table, section: &'static Section, at: &At) {
        for key in section.keys {
            let entry = table.get(key.name);
            match (&key.form, entry.map(|entry| &entry.item.value)) {
                (_, None) if key.required => self.complain(at, missing(key)),
                (Form::Part(below) | Form::Optional(below), Some(Value::Table(table))) => {
                    let at = entry.map_or(at, |entry| &entry.key_at);
                    self.whole(table, below, at);
                }
                (Form::Named(below), Some(Value::Table(table))) => {
                    for entry in table.values() {
                        if let Value::Table(table) = &entry.item.value {
                            self.whole(table, below, &entry.key_at);
                        }
                    }
                }
                _ => {}
            }
        }
        let mut given = section.one_of.iter().filter_map(|name| Some((name, table.get(*name)?)));
        if let (Some((first, _)), Some((second, entry))) = (given.next(), given.next()) {
            self.complain(&entry.key_at, format!("`{first}` and `{second}` exclude each other: leave one out"));
        }
    }

    fn item(&mut self, item: &Item, form: &Form, key_at: &At) {
        match (form, &item.value) {
            (Form::List(of), Value::List(list)) => list.iter().for_each(|one| self.item(one, of, &one.at)),
            (Form::List(of), _) => self.item(item, of, key_at),
            (Form::Part(section) | Form::Optional(section), Value::Table(table)) => self.table(table, section),
            (Form::Named(section), Value::Table(table)) => self.named(table, section),
            (form, value) => {
                let wrong = match as_text(form, value) {
                    Some(text) => check_text(form, &text).err(),
                    None => Some(format!("this is {}: write {}", value.what(), form.what())),
                };
                if let Some(wrong) = wrong {
                    // A table that was opened with a header has no place of its own.
                    let at = if matches!(item.value, Value::Table(_)) { key_at } else { &item.at };
                    self.complain(at, wrong);
                }
            }
        }
    }

    fn named(&mut self, table: &Table, section: &'static Section) {
        for (name, entry) in table {
            if !is_name(name) {
                let text = "a name is made of letters, digits and `_.-`, and begins with a letter or digit";
                self.complain(&entry.key_at, text);
            }
            match &entry.item.value {
                Value::Table(table) => self.table(table, section),
                other => {
                    let text =
                        format!("this is {}: write a table, under a header that ends with `.{name}]`", other.what());
                    self.complain(&entry.item.at, text);
                }
            }
        }
    }
}

fn is_name(name: &str) -> bool {
    name.chars().all(|c| c.is_alphanumeric() || "_.-".contains(c)) && name.starts_with(char::is_alphanumeric)
}

/// The text that a form reads of a value; none for a value of another sort.
pub fn as_text(form: &Form, value: &Value) -> Option<String> {
    match (form, value) {
        (Form::Text(_) | Form::Word(_), Value::Text(text)) => Some(text.clone()),
        (Form::Text(text), Value::Number(number)) if text.number => Some(number.to_string()),
        (Form::Text(text), Value::Fraction(digits)) if text.fraction => Some(digits.clone()),
        (Form::Count { .. }, Value::Number(number)) => Some(number.to_string()),
        (Form::Switch, Value::Switch(switch)) => Some(switch.to_string()),
        _ => None,
    }
}

/// What is wrong with a value, written as a text, if anything.
pub fn check_text(form: &Form, value: &str) -> Result<(), String> {
    match form {
        Form::Text(text) if value.contains('\0') => Err(format!("this holds a zero byte: write {}", text.what)),
        Form::Text(text) => (text.check)(value),
        Form::Count { least, most } => match value.parse::<u64>() {
            Ok(number) if (*least..=*most).contains(&number) => Ok(()),
            _ => Err(format!("{value} is out of bounds: write {}", form.what())),
        },
        Form::Switch => value.parse::<bool>().map(drop).map_err(|_| "write true or false".to_owned()),
        Form::Word(words) if words.contains(&value) => Ok(()),
        Form::Word(words) => Err(match like(value, words.iter().copied()) {
            Some(near) => format!("`{value}` is unknown here: did you mean `{near}`?"),
            None => format!("`{value}` is unknown here: write {}", form.what()),
        }),
        Form::List(of) => check_text(of, value),
        Form::Part(_) | Form::Optional(_) | Form::Named(_) => Err("write a table".to_owned()),
    }
}

fn missing(key: &Key) -> String {
    format!("`{}` is missing here: write {}", key.name, key.form.what())
}

fn unknown(name: &str, section: &'static Section) -> String {
    let secret = SECRETS.contains(&name.to_ascii_lowercase().as_str());
    if secret && section.key("password_file").is_some() {
        return "a password or key does not belong in this file: write it into a file that only its owner can read, and name \
                that with `password_file` (or use `password_command` or `password_env`)"
            .to_owned();
    }
    let names = || section.keys.iter().map(|key| key.name);
    // As an option has it: `keep_daily` for `daily`.
    let ends = || name.match_indices(['_', '-']).map(|(at, _)| &name[at + 1..]);
    match like(name, names()).or_else(|| ends().find_map(|end| names().find(|name| *name == end))) {
        Some(near) => format!("unknown key `{name}`: did you mean `{near}`?"),
        None => format!("unknown key `{name}`; here stand {}", names().collect::<Vec<_>>().join(", ")),
    }
}
