//! SQL as `pg_dump` writes it, cut into words and statements.
//!
//! Enough to find where a statement ends, whom a grant names and which table an index belongs to; not enough, and not
//! meant, to understand a query. Works on bytes: in every encoding that a server can have, ASCII means itself.

use crate::db::postgres::identifier;

/// A word of a statement.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Word<'s> {
    /// A name or a keyword; names without quotes as they were written, those in quotes without them.
    Name {
        /// The name.
        name: Vec<u8>,
        /// Whether it stood in double quotes: then it is no keyword.
        quoted: bool,
    },
    /// A string constant with all its quotes.
    String(&'s [u8]),
    /// Any other byte.
    Sign(u8),
}

impl Word<'_> {
    /// Whether it is a keyword; `keyword` is in capitals.
    pub fn is(&self, keyword: &str) -> bool {
        matches!(self, Word::Name { name, quoted: false } if name.eq_ignore_ascii_case(keyword.as_bytes()))
    }

    /// The name, if it is one.
    pub fn name(&self) -> Option<&[u8]> {
        match self {
            Word::Name { name, .. } => Some(name),
            _ => None,
        }
    }
}

/// Walks through text, word by word.
struct Reader<'s> {
    text: &'s [u8],
    at: usize,
}

impl<'s> Reader<'s> {
    fn rest(&self) -> &'s [u8] {
        &self.text[self.at..]
    }

    fn skip_blanks(&mut self) {
        loop {
            let rest = self.rest();
            self.at += if rest.first().is_some_and(u8::is_ascii_whitespace) {
                1
            } else if rest.starts_with(b"--") {
                rest.iter().position(|byte| *byte == b'\n').unwrap_or(rest.len())
            } else if rest.starts_with(b"/*") {
                comment_bytes(rest)
            } else {
                return;
            };
        }
    }

    fn next(&mut self) -> Option<Word<'s>> {
        self.skip_blanks();
        let rest = self.rest();
        let first = *rest.first()?;
        let (word, length) = match first {
            b'"' => {
                let length = quoted_bytes(rest, b'"', false);
                (Word::Name { name: unquoted(&rest[..length]), quoted: true }, length)
            }
            b'\'' => string(rest, 0, false),
            b'E' | b'e' if rest.get(1) == Some(&b'\'') => string(rest, 1, true),
            b'B' | b'b' | b'X' | b'x' | b'N' | b'n' if rest.get(1) == Some(&b'\'') => string(rest, 1, false),
            b'$' => match dollar_bytes(rest) {
                Some(length) => (Word::String(&rest[..length]), length),
                None => (Word::Sign(first), 1),
            },
            _ if is_letter(first) => {
                let continues = |byte: &u8| is_letter(*byte) || byte.is_ascii_digit() || *byte == b'$';
                let length = rest.iter().position(|byte| !continues(byte)).unwrap_or(rest.len());
                (Word::Name { name: rest[..length].to_vec(), quoted: false }, length)
            }
            _ => (Word::Sign(first), 1),
        };
        self.at += length;
        Some(word)
    }
}

fn is_letter(byte: u8) -> bool {
    byte.is_ascii_alphabetic() || byte == b'_' || byte >= 0x80
}

fn string(rest: &[u8], prefix: usize, escapes: bool) -> (Word<'_>, usize) {
    let length = prefix + quoted_bytes(&rest[prefix..], b'\'', escapes);
    (Word::String(&rest[..length]), length)
}

/// How long the quoted thing at the beginning is, quotes included; to the end if it has none.
fn quoted_bytes(text: &[u8], quote: u8, escapes: bool) -> usize {
    let mut at = 1;
    while at < text.len() {
        match text[at] {
            b'\\' if escapes => at += 2,
            byte if byte == quote && text.get(at + 1) == Some(&quote) => at += 2,
            byte if byte == quote => return at + 1,
            _ => at += 1,
        }
    }
    text.len()
}

fn unquoted(text: &[u8]) -> Vec<u8> {
    let inner = text.strip_prefix(b"\"").unwrap_or(text);
    let inner = inner.strip_suffix(b"\"").unwrap_or(inner);
    let mut name = Vec::with_capacity(inner.len());
    let mut bytes = inner.iter();
    while let Some(byte) = bytes.next() {
        name.push(*byte);
        if *byte == b'"' {
            bytes.next();
        }
    }
    name
}

/// Comments nest.
fn comment_bytes(text: &[u8]) -> usize {
    let (mut at, mut depth) = (2, 1_usize);
    while at < text.len() && depth > 0 {
        match (text[at], text.get(at + 1)) {
            (b'/', Some(b'*')) => (at, depth) = (at + 2, depth + 1),
            (b'*', Some(b'/')) => (at, depth) = (at + 2, depth - 1),
            _ => at += 1,
        }
    }
    at.min(text.len())
}

/// The length of `$tag$ … $tag$`, if the text begins so.
fn dollar_bytes(text: &[u8]) -> Option<usize> {
    let name = text[1..].iter().position(|byte| !(is_letter(*byte) || byte.is_ascii_digit()))?;
    if text.get(1 + name) != Some(&b'$') || text[1].is_ascii_digit() {
        return None;
    }
    let tag = &text[..name + 2];
    let end = text[tag.len()..].windows(tag.len()).position(|window| window == tag);
    Some(end.map_or(text.len(), |end| end + 2 * tag.len()))
}

/// The words of a text.
pub fn words(text: &[u8]) -> Vec<Word<'_>> {
    let mut reader = Reader { text, at: 0 };
    std::iter::from_fn(|| reader.next()).collect()
}

/// The statements of a text, without blanks and comments around them and without the semicolon. Lines that begin with
/// a backslash between statements are commands for `psql`: they are left out.
pub fn statements(text: &[u8]) -> Vec<&[u8]> {
    let mut reader = Reader { text, at: 0 };
    let mut found = Vec::new();
    loop {
        reader.skip_blanks();
        if reader.rest().first() == Some(&b'\\') {
            let line = reader.rest().iter().position(|byte| *byte == b'\n');
            reader.at += line.unwrap_or(reader.rest().len());
            continue;
        }
        let begin = reader.at;
        let mut end = begin;
        // A function's body in SQL (`BEGIN ATOMIC … END`) holds semicolons of its own.
        let mut depth = 0_usize;
        let mut before = None;
        loop {
            let Some(word) = reader.next() else {
                found.extend((end > begin).then(|| &text[begin..end]));
                return found;
            };
            if word == Word::Sign(b';') && depth == 0 {
                break;
            }
            let begins_body = word.is("ATOMIC") && before.is_some_and(|before: Word<'_>| before.is("BEGIN"));
            if begins_body || depth > 0 && word.is("CASE") {
                depth += 1;
            } else if depth > 0 && word.is("END") {
                depth -= 1;
            }
            end = reader.at;
            before = Some(word);
        }
        found.extend((end > begin).then(|| &text[begin..end]));
    }
}

/// The first name of the form `schema.name` in a statement, behind the first `after` if there is one to look for.
pub fn first_qualified(text: &[u8], after: Option<&str>) -> Option<(Vec<u8>, Vec<u8>)> {
    let words = words(text);
    let begin = match after {
        Some(keyword) => words.iter().position(|word| word.is(keyword))?,
        None => 0,
    };
    words[begin..].windows(3).find_map(|three| match three {
        [Word::Name { name: schema, .. }, Word::Sign(b'.'), Word::Name { name, .. }] => {
            Some((schema.clone(), name.clone()))
        }
        _ => None,
    })
}

/// A statement with another database in the place of `from`, where the word `DATABASE` comes before it; none if it
/// does not name `from` so.
pub fn with_database(statement: &[u8], from: &str, to: &str) -> Option<Vec<u8>> {
    let mut reader = Reader { text: statement, at: 0 };
    let mut after_keyword = false;
    loop {
        reader.skip_blanks();
        let begin = reader.at;
        let word = reader.next()?;
        if after_keyword && word.name() == Some(from.as_bytes()) {
            let name = identifier(to);
            return Some([&statement[..begin], name.as_bytes(), &statement[reader.at..]].concat());
        }
        after_keyword = word.is("DATABASE");
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn cut(text: &str) -> Vec<String> {
        statements(text.as_bytes()).into_iter().map(|one| String::from_utf8_lossy(one).into_owned()).collect()
    }

    #[test]
    fn statements_end_where_they_end() {
        assert_eq!(
            cut("-- a; b\nSELECT 1; /* ; /* ; */ */ SELECT ';''', E'\\';', \"a\"\";b\" ;"),
            ["SELECT 1", "SELECT ';''', E'\\';', \"a\"\";b\""]
        );
        assert_eq!(
            cut("CREATE FUNCTION f() AS $x$ a; $$ ; $x$; SELECT $1"),
            ["CREATE FUNCTION f() AS $x$ a; $$ ; $x$", "SELECT $1"]
        );
        assert_eq!(cut("\\restrict abc\n\nSET a = 1;\n\\unrestrict abc\n"), ["SET a = 1"]);
        assert_eq!(cut(" \n-- nothing"), Vec::<String>::new());
        assert_eq!(
            cut("CREATE FUNCTION f() BEGIN ATOMIC SELECT CASE WHEN a THEN 1 END; SELECT 2; END; SELECT 3").len(),
            2
        );
    }

    #[test]
    fn text_that_ends_too_early_is_one_word() {
        for text in ["'abc", "\"abc", "$x$abc", "/* abc", "E'abc\\", "$", "$1$"] {
            let _ = (words(text.as_bytes()), statements(text.as_bytes()));
        }
    }

    #[test]
    fn the_table_of_a_definition_is_its_first_qualified_name() {
        let pair = |schema: &str, name: &str| Some((schema.as_bytes().to_vec(), name.as_bytes().to_vec()));
        let first = |text: &str| first_qualified(text.as_bytes(), None);
        assert_eq!(first("CREATE INDEX i ON ONLY public.orders USING btree (a)"), pair("public", "orders"));
        assert_eq!(first("ALTER TABLE ONLY \"odd \"\"s\".\"a.b\" ADD CONSTRAINT c"), pair("odd \"s", "a.b"));
        assert_eq!(first("SELECT 'a.b'"), None);
        let statistics = "CREATE STATISTICS public.s ON a, b FROM sales.orders";
        assert_eq!(first_qualified(statistics.as_bytes(), Some("FROM")), pair("sales", "orders"));
    }

    #[test]
    fn a_statement_is_turned_to_another_database() {
        let turned = |text: &str| {
            with_database(text.as_bytes(), "shop", "x\"y").map(|text| String::from_utf8_lossy(&text).into_owned())
        };
        assert_eq!(turned("ALTER DATABASE shop SET a TO 'shop'").unwrap(), "ALTER DATABASE \"x\"\"y\" SET a TO 'shop'");
        assert_eq!(
            turned("ALTER ROLE shop IN DATABASE \"shop\" SET a TO 1").unwrap(),
            "ALTER ROLE shop IN DATABASE \"x\"\"y\" SET a TO 1"
        );
        assert_eq!(turned("ALTER DATABASE shop2 SET a TO 1"), None);
    }
}
