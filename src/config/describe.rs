//! What may stand in the config: the one description from which reading, checking, `config show`, the schema for editors
//! and the reference in `docs/CONFIG.md` are all made, so that they cannot say different things.

use super::keys;
use std::fmt::Write;

/// A table of the config.
#[derive(Debug)]
pub struct Section {
    /// What it is for, in a sentence.
    pub doc: &'static str,
    /// What may stand in it.
    pub keys: &'static [Key],
    /// Of these keys at most one.
    pub one_of: &'static [&'static str],
}

/// A key of a table.
#[derive(Debug)]
pub struct Key {
    /// The key itself.
    pub name: &'static str,
    /// What may stand behind it.
    pub form: Form,
    /// What holds where nobody says anything; empty for nothing.
    pub default: &'static str,
    /// Whether it has to be there.
    pub required: bool,
    /// What it means, in a sentence without its end.
    pub doc: &'static str,
}

/// What may stand behind a key.
#[derive(Clone, Copy, Debug)]
pub enum Form {
    /// A text that means something.
    Text(&'static Text),
    /// A whole number.
    Count {
        /// The least.
        least: u64,
        /// The most.
        most: u64,
    },
    /// `true` or `false`.
    Switch,
    /// One of these words.
    Word(&'static [&'static str]),
    /// One of these, or a list of them.
    List(&'static Form),
    /// A table, which holds with its defaults even if it is not there.
    Part(&'static Section),
    /// A table that means something by being there.
    Optional(&'static Section),
    /// Tables with names of the user's choice.
    Named(&'static Section),
}

/// A sort of text.
pub struct Text {
    /// What it is: `a size`.
    pub what: &'static str,
    /// How it is written, as a regular expression for editors; empty for any text.
    pub pattern: &'static str,
    /// Whether a whole number may stand for it.
    pub number: bool,
    /// Whether a number with a fraction may.
    pub fraction: bool,
    /// Whether it is shown only to whoever can read the file: a command may hold a secret.
    pub hidden: bool,
    /// What is wrong with it, if anything.
    pub check: fn(&str) -> Result<(), String>,
}

impl std::fmt::Debug for Text {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.what)
    }
}

impl Section {
    /// The key of this name.
    pub fn key(&self, name: &str) -> Option<&'static Key> {
        self.keys.iter().find(|key| key.name == name)
    }
}

impl Form {
    /// What it is, for a message: `a size`, `a list of paths`.
    pub fn what(&self) -> String {
        match self {
            Form::Text(text) => text.what.to_owned(),
            Form::Count { least, most: u64::MAX } => format!("a whole number, at least {least}"),
            Form::Count { least, most } => format!("a whole number from {least} to {most}"),
            Form::Switch => "true or false".to_owned(),
            Form::Word(words) => format!("one of {}", quoted(words)),
            Form::List(of) => format!("{}, or a list", of.what()),
            Form::Part(_) | Form::Optional(_) => "a table".to_owned(),
            Form::Named(_) => "a table of tables, each with a name".to_owned(),
        }
    }

    /// The table that stands here, if one does.
    pub fn section(&self) -> Option<&'static Section> {
        match self {
            Form::Part(section) | Form::Optional(section) | Form::Named(section) => Some(section),
            _ => None,
        }
    }
}

fn quoted(words: &[&str]) -> String {
    words.iter().map(|word| format!("`{word}`")).collect::<Vec<_>>().join(", ")
}

/// The reference of all keys, table by table, in Markdown: `docs/CONFIG.md` holds it.
pub fn markdown() -> String {
    let mut text = String::new();
    write_section(&mut text, "", &keys::ROOT);
    text
}

fn write_section(text: &mut String, name: &str, section: &'static Section) {
    let title = if name.is_empty() { "At the top".to_owned() } else { format!("`[{name}]`") };
    let _ = write!(
        text,
        "### {title}\n\n{}\n\n| key | value | default | meaning |\n| --- | --- | --- | --- |\n",
        section.doc
    );
    for key in section.keys {
        let default = match (key.required, key.default) {
            (true, _) => "has to be given".to_owned(),
            (false, "") => "none".to_owned(),
            (false, default) => format!("`{default}`"),
        };
        let _ = writeln!(text, "| `{}` | {} | {default} | {} |", key.name, key.form.what(), key.doc);
    }
    if !section.one_of.is_empty() {
        let _ = write!(text, "\nOf {} at most one.\n", quoted(section.one_of));
    }
    text.push('\n');
    for key in section.keys {
        let below = if name.is_empty() { key.name.to_owned() } else { format!("{name}.{}", key.name) };
        match key.form {
            Form::Named(section) => write_section(text, &format!("{below}.NAME"), section),
            Form::Part(section) | Form::Optional(section) => write_section(text, &below, section),
            _ => {}
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::super::check::check_text;
    use super::*;
    use std::collections::BTreeSet;

    fn each(section: &'static Section, look: &mut dyn FnMut(&'static Section)) {
        look(section);
        section.keys.iter().filter_map(|key| key.form.section()).for_each(|below| each(below, look));
    }

    #[test]
    fn every_default_is_what_may_stand_there_and_every_name_stands_once() {
        each(&keys::ROOT, &mut |section| {
            let names: BTreeSet<&str> = section.keys.iter().map(|key| key.name).collect();
            assert_eq!(names.len(), section.keys.len(), "{names:?}");
            for key in section.keys {
                assert!(!key.doc.is_empty() && !key.doc.ends_with('.'), "{}", key.name);
                let default = Some(key.default).filter(|default| !default.is_empty());
                assert!(!(key.required && default.is_some()), "{}", key.name);
                if let Some(default) = default {
                    assert_eq!(check_text(&key.form, default), Ok(()), "{}", key.name);
                }
            }
            assert!(section.one_of.iter().all(|name| names.contains(name)), "{:?}", section.one_of);
        });
    }
}
