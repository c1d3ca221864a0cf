//! Names and texts as SQL, and names of tables as names of files.

/// A name in backquotes: `` `a``b` ``.
pub fn identifier(name: &str) -> String {
    format!("`{}`", name.replace('`', "``"))
}

/// A text in quotes, for a session whose mode is the usual one: backslashes escape.
pub fn literal(text: &str) -> String {
    let mut quoted = String::with_capacity(text.len() + 2);
    quoted.push('\'');
    for letter in text.chars() {
        match letter {
            '\'' => quoted.push_str("''"),
            '\\' => quoted.push_str("\\\\"),
            '\0' => quoted.push_str("\\0"),
            '\n' => quoted.push_str("\\n"),
            other => quoted.push(other),
        }
    }
    quoted.push('\'');
    quoted
}

/// The name that a quoted name stands for, and what follows it: `` `a``b`.x `` is `` a`b `` and `.x`. A name without
/// quotes ends where a name cannot go on.
pub fn unquoted(text: &str) -> Option<(String, &str)> {
    let Some(mut rest) = text.strip_prefix('`') else {
        let end = text.find(|letter: char| !letter.is_alphanumeric() && !"_$".contains(letter)).unwrap_or(text.len());
        return (end > 0).then(|| (text[..end].to_owned(), &text[end..]));
    };
    let mut name = String::new();
    loop {
        let end = rest.find('`')?;
        name.push_str(&rest[..end]);
        rest = &rest[end + 1..];
        match rest.strip_prefix('`') {
            Some(after) => {
                name.push('`');
                rest = after;
            }
            None => return Some((name, rest)),
        }
    }
}

/// A database or table as the name of a file: `%2F` stands for what no name of a file may hold. A leading dot is written
/// so as well. Two names never become one.
pub fn file_name(name: &str) -> String {
    let mut safe = String::with_capacity(name.len());
    for (at, letter) in name.char_indices() {
        match letter {
            '/' | '%' | '\0'..='\x1f' | '\x7f' => safe.push_str(&format!("%{:02X}", u32::from(letter))),
            '.' if at == 0 => safe.push_str("%2E"),
            other => safe.push(other),
        }
    }
    safe
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn odd_names_are_quoted_and_come_back() {
        for name in ["orders", "we`ird na,me(", "`", "``", "ünï😀", ""] {
            let quoted = identifier(name);
            assert_eq!(unquoted(&format!("{quoted}.x")).unwrap(), (name.to_owned(), ".x"));
        }
        assert_eq!(unquoted("plain_1 (").unwrap(), ("plain_1".to_owned(), " ("));
        assert_eq!(unquoted("`open"), None);
        assert_eq!(unquoted("("), None);
    }

    #[test]
    fn a_text_cannot_leave_its_quotes() {
        assert_eq!(literal("it's \\ a\n\0"), "'it''s \\\\ a\\n\\0'");
    }

    #[test]
    fn a_name_of_a_table_becomes_a_name_of_a_file() {
        assert_eq!(file_name("a/b%c"), "a%2Fb%25c");
        assert_eq!(file_name(".."), "%2E.");
        assert_eq!(file_name("größe 1"), "größe 1");
        assert_eq!(file_name("a\nb"), "a%0Ab");
    }
}
