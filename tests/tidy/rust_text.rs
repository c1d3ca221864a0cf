//! Just enough of Rust's grammar to see names in code, and not in comments, strings or tests.

use std::ops::RangeInclusive;

/// A name, `::`, or one other character of code. Strings, characters and numbers are each one token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Token<'a> {
    /// As written; a literal of any kind is `"`.
    pub text: &'a str,
    /// Line number, from 1.
    pub line: usize,
    /// Whether it stands in an item under `#[cfg(test)]`.
    pub in_test: bool,
}

/// The tokens of a source text, comments left out.
pub fn tokens(text: &str) -> Vec<Token<'_>> {
    let mut tokens = Vec::new();
    let mut line = 1;
    let mut at = 0;
    while at < text.len() {
        let (length, is_code) = piece(&text[at..]);
        let piece = &text[at..at + length];
        if is_code {
            tokens.push(Token { text: if is_literal(piece) { "\"" } else { piece }, line, in_test: false });
        }
        line += piece.matches('\n').count();
        at += length;
    }
    mark_tests(&mut tokens);
    tokens
}

/// The lines of the items under `#[cfg(test)]`.
pub fn test_lines(tokens: &[Token]) -> Vec<RangeInclusive<usize>> {
    tokens
        .chunk_by(|a, b| a.in_test == b.in_test)
        .filter(|part| part[0].in_test)
        .map(|part| part[0].line..=part[part.len() - 1].line)
        .collect()
}

/// The places where `words` follow each other directly.
pub fn find<'t, 'a>(tokens: &'t [Token<'a>], words: &'t [&str]) -> impl Iterator<Item = &'t Token<'a>> {
    tokens
        .windows(words.len())
        .filter(move |window| window.iter().zip(words).all(|(t, w)| t.text == *w))
        .map(|window| &window[0])
}

/// The names directly below `root::`: one for `root::a::b`, several for `root::{a::b, c}`, `*` for a glob.
pub fn below<'t, 'a>(tokens: &'t [Token<'a>], root: &'t str) -> Vec<&'t Token<'a>> {
    let mut found = Vec::new();
    for at in 0..tokens.len().saturating_sub(2) {
        if tokens[at].text == root && tokens[at + 1].text == "::" {
            match tokens[at + 2].text {
                "{" => found.extend(heads_of_group(&tokens[at + 3..])),
                _ => found.push(&tokens[at + 2]),
            }
        }
    }
    found
}

/// The first name of each comma-separated part of a `use` group that was just opened.
fn heads_of_group<'t, 'a>(tokens: &'t [Token<'a>]) -> Vec<&'t Token<'a>> {
    let mut depth = 0;
    let mut heads = Vec::new();
    let mut expect_head = true;
    for token in tokens {
        match token.text {
            "}" if depth == 0 => break,
            "}" => depth -= 1,
            "{" => depth += 1,
            "," => expect_head = expect_head || depth == 0,
            _ if expect_head => {
                heads.push(token);
                expect_head = false;
            }
            _ => {}
        }
    }
    heads
}

/// Length of the next piece of text, and whether it is code (as opposed to space and comments).
fn piece(rest: &str) -> (usize, bool) {
    let first = rest.chars().next().expect("the caller checks for the end");
    if first.is_whitespace() {
        (first.len_utf8(), false)
    } else if rest.starts_with("//") {
        (rest.find('\n').unwrap_or(rest.len()), false)
    } else if rest.starts_with("/*") {
        (block_comment(rest), false)
    } else if let Some(length) = string(rest) {
        (length, true)
    } else if first == '\'' {
        (character_or_lifetime(rest), true)
    } else if is_word(first) {
        (word(rest), true)
    } else if rest.starts_with("::") {
        (2, true)
    } else {
        (first.len_utf8(), true)
    }
}

fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

fn word(rest: &str) -> usize {
    rest.find(|c| !is_word(c)).unwrap_or(rest.len())
}

fn is_literal(piece: &str) -> bool {
    let first = piece.chars().next().expect("pieces are not empty");
    first.is_ascii_digit() || piece.len() > 1 && piece.ends_with(['"', '#', '\''])
}

fn block_comment(rest: &str) -> usize {
    let mut depth = 0;
    let mut at = 0;
    while at < rest.len() {
        let tail = &rest.as_bytes()[at..];
        if tail.starts_with(b"/*") {
            depth += 1;
            at += 2;
        } else if tail.starts_with(b"*/") {
            depth -= 1;
            at += 2;
            if depth == 0 {
                return at;
            }
        } else {
            at += 1;
        }
    }
    rest.len()
}

/// Length of a string literal of any form (`"…"`, `b"…"`, `c"…"`, `r#"…"#`, `br"…"`), if one begins here.
fn string(rest: &str) -> Option<usize> {
    let prefix = rest.len() - rest.trim_start_matches(['b', 'c', 'r']).len();
    let raw = rest[..prefix].ends_with('r');
    let hashes = match raw {
        true => rest[prefix..].len() - rest[prefix..].trim_start_matches('#').len(),
        false => 0,
    };
    let open = prefix + hashes;
    if prefix > 2 || !rest[open..].starts_with('"') {
        return None;
    }
    let body = &rest[open + 1..];
    let length = match raw {
        true => {
            let close = format!("\"{}", "#".repeat(hashes));
            body.find(&close).map(|end| end + close.len())
        }
        false => quoted(body, b'"'),
    };
    Some(open + 1 + length.unwrap_or(body.len()))
}

/// Length up to and with the closing quote, backslashes heeded.
fn quoted(body: &str, quote: u8) -> Option<usize> {
    let mut escaped = false;
    body.bytes()
        .position(|c| {
            let closes = c == quote && !escaped;
            escaped = c == b'\\' && !escaped;
            closes
        })
        .map(|end| end + 1)
}

fn character_or_lifetime(rest: &str) -> usize {
    let body = &rest[1..];
    let mut characters = body.chars();
    let first = characters.next();
    if first == Some('\\') || characters.next() == Some('\'') {
        1 + quoted(body, b'\'').unwrap_or(body.len())
    } else {
        1 + word(body)
    }
}

/// Marks each item that follows `#[cfg(test)]`, with its attribute.
fn mark_tests(tokens: &mut [Token]) {
    const ATTRIBUTE: [&str; 7] = ["#", "[", "cfg", "(", "test", ")", "]"];
    let mut at = 0;
    while at + ATTRIBUTE.len() <= tokens.len() {
        let here = &tokens[at..at + ATTRIBUTE.len()];
        if here.iter().zip(ATTRIBUTE).all(|(t, w)| t.text == w) {
            let end = at + ATTRIBUTE.len() + item(&tokens[at + ATTRIBUTE.len()..]);
            tokens[at..end].iter_mut().for_each(|t| t.in_test = true);
            at = end;
        } else {
            at += 1;
        }
    }
}

/// Number of tokens of one item: to its `;`, or to the brace that closes its body.
fn item(tokens: &[Token]) -> usize {
    let mut depth = 0_usize;
    for (at, token) in tokens.iter().enumerate() {
        match token.text {
            "{" | "(" | "[" => depth += 1,
            ")" | "]" => depth = depth.saturating_sub(1),
            "}" if depth <= 1 => return at + 1,
            "}" => depth -= 1,
            ";" if depth == 0 => return at + 1,
            _ => {}
        }
    }
    tokens.len()
}

#[test]
fn names_in_comments_and_strings_are_not_code() {
    let text = r##"
        //! alpha::one
        /* alpha::two /* alpha::three */ alpha::four */
        fn f<'a>(x: &'a str) -> char { g("alpha::five", b"\"alpha::six", r#"alpha"::seven"#); '\'' }
        fn h() -> char { let _ = ('"', "alpha::eight"); beta::nine() }
    "##;
    let tokens = tokens(text);
    assert_eq!(find(&tokens, &["alpha"]).count(), 0, "{tokens:?}");
    assert_eq!(find(&tokens, &["beta", "::", "nine"]).next().unwrap().line, 5);
}

#[test]
fn a_group_names_each_of_its_heads() {
    let tokens = tokens("use alpha::{self, b::{c, d}, e}; use alpha::f::g; use alpha::*;");
    let names: Vec<_> = below(&tokens, "alpha").iter().map(|t| t.text).collect();
    assert_eq!(names, ["self", "b", "e", "f", "*"]);
}

#[test]
fn items_under_cfg_test_are_known_as_such() {
    let text = "fn a() {}\n#[cfg(test)]\n#[allow(x)]\nmod tests {\n fn b() { [1; 2]; }\n}\nfn c() {}\n#[cfg(test)]\nuse d::e;\nfn f() {}";
    let tokens = tokens(text);
    let tested: Vec<_> =
        "abcdef".chars().filter(|name| find(&tokens, &[&name.to_string()]).all(|t| t.in_test)).collect();
    assert_eq!(tested, ['b', 'd', 'e']);
    assert_eq!(test_lines(&tokens), [2..=6, 8..=9]);
}
