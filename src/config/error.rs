//! What is wrong with a config, each with its place: file, line, column, the line itself and a mark beneath it.

use super::tree::{At, Files};
use crate::base::Kind;
use std::fmt::{self, Write};
use std::io;

/// No more complaints are shown at once.
const MAX_SHOWN: usize = 50;
/// A line is shown up to so many characters.
const MAX_LINE: usize = 160;

/// Why a config cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Something in it is wrong.
    #[error("{}", shown(.0))]
    Wrong(Vec<Complaint>),
    /// Something else about it: kind and message.
    #[error("{1}")]
    Said(Kind, String),
    /// A file cannot be read or made.
    #[error("cannot {what}: {source}")]
    Io {
        /// What was tried, on what.
        what: String,
        /// What came back.
        source: io::Error,
    },
}

/// What rooms of the config answer.
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    /// A mistake in the request.
    pub fn usage(text: impl Into<String>) -> Error {
        Error::Said(Kind::Usage, text.into())
    }

    /// A file cannot be read or made.
    pub fn io(what: impl Into<String>, source: io::Error) -> Error {
        Error::Io { what: what.into(), source }
    }

    /// What kind of failure it is.
    pub fn kind(&self) -> Kind {
        match self {
            Error::Wrong(_) => Kind::Usage,
            Error::Said(kind, _) => *kind,
            Error::Io { source, .. } => Kind::of_io(source),
        }
    }
}

/// Something that is wrong, and where. Secrets in the line are not in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Complaint {
    /// The file.
    pub file: String,
    /// The line, from 1.
    pub line: usize,
    /// The column in characters, from 1.
    pub column: usize,
    /// What is wrong, and what to do.
    pub message: String,
    /// The line itself.
    pub text: String,
    /// How many characters of it are meant.
    pub width: usize,
}

impl Complaint {
    /// A complaint about what stands at `at`.
    pub fn new(files: &Files, at: &At, message: impl Into<String>) -> Complaint {
        let (file, text) = files.get(at.file);
        let place = floor(text, at.from);
        let begin = text[..place].rfind('\n').map_or(0, |end| end + 1);
        let end = text[place..].find('\n').map_or(text.len(), |end| place + end);
        let line = text[begin..end].trim_end_matches('\r');
        let column = text[begin..place].chars().count();
        let width = text[place..floor(text, at.to).clamp(place, end)].chars().count();
        let (shown, open) = hide_secrets(line);
        let shown: String = shown.chars().take(MAX_LINE).collect();
        Complaint {
            file: file.display().to_string(),
            line: text[..place].matches('\n').count() + 1,
            column: column + 1,
            message: plain(&message.into()),
            width: width.min(open.saturating_sub(column)).min(MAX_LINE.saturating_sub(column)).max(1),
            text: plain(&shown),
        }
    }
}

impl fmt::Display for Complaint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}:{}:{}: {}", self.file, self.line, self.column, self.message)?;
        let number = self.line.to_string();
        writeln!(f, "  {number} | {}", self.text)?;
        let before = " ".repeat(self.column - 1);
        write!(f, "  {:width$} | {before}{}", "", "^".repeat(self.width), width = number.len())
    }
}

/// All complaints, one after the other.
fn shown(complaints: &[Complaint]) -> String {
    let mut text = String::new();
    for complaint in complaints.iter().take(MAX_SHOWN) {
        let _ = writeln!(text, "{complaint}");
    }
    if complaints.len() > MAX_SHOWN {
        let _ = writeln!(text, "and {} more", complaints.len() - MAX_SHOWN);
    }
    text.truncate(text.trim_end().len());
    text
}

/// A text in which nothing is left that could command a terminal; what stood there is as wide as before.
fn plain(text: &str) -> String {
    let deceives =
        |c: char| matches!(c, '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}');
    let shown = |c: char| match c {
        '\t' => ' ',
        c if c.is_control() || deceives(c) => char::REPLACEMENT_CHARACTER,
        c => c,
    };
    text.chars().map(shown).collect()
}

/// The last place up to `at` where a character begins.
fn floor(text: &str, at: usize) -> usize {
    (0..=at.min(text.len())).rev().find(|place| text.is_char_boundary(*place)).unwrap_or(0)
}

/// A line without what may be a secret, and how many characters of it are as they were.
fn hide_secrets(line: &str) -> (String, usize) {
    let whole = (line.to_owned(), line.chars().count());
    let Some((key, _)) = line.split_once('=') else { return whole };
    let name: String =
        key.chars().filter(|c| c.is_alphanumeric() || *c == '_').collect::<String>().to_ascii_lowercase();
    let (stem, refers) = match name.rsplit_once('_') {
        Some((stem, "file" | "env" | "dir")) => (stem, true),
        _ => (name.as_str(), false),
    };
    let secret = ["password", "passphrase", "secret", "token", "key"].iter().any(|word| stem.ends_with(word));
    if secret && !refers || name.ends_with("_command") {
        return (format!("{key}= …"), key.chars().count());
    }
    // A URL with a login in it, or words with a password.
    let hidden = line.find("://").is_some_and(|at| line[at + 3..].contains('@') && line[at + 3..].contains(':'))
        || ["password=", "pwd="].iter().any(|word| line.to_ascii_lowercase().contains(word));
    if hidden { (format!("{key}= …"), key.chars().count()) } else { whole }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn complaint(text: &str, part: &str) -> Complaint {
        let mut files = Files::default();
        let file = files.add("keepstone.toml".into(), text.to_owned());
        let from = text.find(part).unwrap_or(0);
        Complaint::new(&files, &At { file, from, to: from + part.len(), via: None }, "wrong")
    }

    #[test]
    fn a_complaint_shows_the_line_and_marks_the_place() {
        let shown = complaint("a = 1\n\tblü = \"x\" # here\n", "\"x\"").to_string();
        assert_eq!(shown, "keepstone.toml:2:8: wrong\n  2 |  blü = \"x\" # here\n    |        ^^^");
        assert_eq!(complaint("", "").to_string(), "keepstone.toml:1:1: wrong\n  1 | \n    | ^");
    }

    #[test]
    fn no_secret_is_shown_in_a_line() {
        for text in [
            "password = \"hunter2\"",
            "\"passphrase\"= 'hunter2'",
            "s3.secret_key = \"hunter2\"",
            "key_command = \"echo hunter2\"",
            "url = \"postgres://ann:hunter2@db1/shop\"",
            "url = \"host=db1 password=hunter2\"",
        ] {
            let shown = complaint(text, "hunter2").to_string();
            assert!(!shown.contains("hunter2") && shown.contains('…'), "{shown}");
        }
        let shown = complaint("password_file = \"/etc/secret\"", "/etc").to_string();
        assert!(shown.contains("/etc/secret"), "{shown}");
    }
}
