//! Which paths a pattern means.
//!
//! Patterns are those that restic users know, on raw bytes, component by component:
//!
//! | pattern | means |
//! | --- | --- |
//! | `*.o` | any entry whose name ends in `.o`, at any depth |
//! | `src/*.o` | the same directly in any directory called `src` |
//! | `/home/*/tmp` | an absolute path: it begins at the root |
//! | `/srv/**/cache` | `cache` at any depth beneath `/srv`, also directly |
//! | `a?c`, `[a-f]x`, `[^0-9]*` | one character; one of a set; one that is not in a set |
//! | `\*` | the character itself |
//! | `!keep.o` | takes back what an earlier pattern of the list matched |
//!
//! What matches a directory matches everything beneath it. A directory that is excluded is not entered, so a
//! `!pattern` brings back only what lies in directories that are not themselves excluded (exclude `cache/*`, then
//! `!cache/keep`).
//!
//! A directory that is named is taken even where a pattern matches it or something it lies in: patterns choose among what
//! is found beneath it, by what they match there.
//!
//! All patterns are followed at once while a tree is walked: each directory has a `Trail` that says how far each
//! pattern has come, and an entry needs only its own name and the trail of its directory. No path is built.

use std::borrow::Cow;
use std::ffi::OsString;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// Components that one pattern may have: its progress is kept in the bits of one number.
const MAX_COMPONENTS: usize = 62;

/// A pattern that cannot be understood.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("cannot use pattern `{pattern}`: {reason}")]
pub struct BadPattern {
    pattern: String,
    reason: &'static str,
}

impl BadPattern {
    /// Always a mistake in the request.
    pub fn kind(&self) -> crate::base::Kind {
        crate::base::Kind::Usage
    }
}

/// A list of patterns. Case-sensitive and case-insensitive ones are two lists of their own: a `!pattern` takes
/// back only what its own list matched.
#[derive(Clone, Debug, Default)]
pub struct Filter {
    patterns: Vec<Pattern>,
}

/// How far each pattern of a filter has come on the way to a directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trail(Box<[u64]>);

/// What a filter says of one entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// The patterns match it or a directory that it lies in.
    pub matched: bool,
    /// If it is a directory: something beneath it matches or could match.
    pub below: bool,
}

#[derive(Clone, Debug)]
struct Pattern {
    components: Vec<Component>,
    absolute: bool,
    negated: bool,
    ignores_case: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Component {
    /// `**`: any number of components, also none.
    AnyDepth,
    /// `*`
    Anything,
    /// No wildcards at all.
    Literal(Vec<u8>),
    /// `*` and then a literal.
    Suffix(Vec<u8>),
    /// A literal and then `*`.
    Prefix(Vec<u8>),
    /// All others.
    Glob(Vec<Token>),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Token {
    Byte(u8),
    AnyCharacter,
    AnyRun,
    Set { negated: bool, ranges: Vec<(char, char)> },
}

impl Filter {
    /// A filter that matches nothing.
    pub fn new() -> Filter {
        Filter::default()
    }

    /// Adds a pattern, as given to `--exclude` or `--include`.
    pub fn add(&mut self, pattern: &[u8]) -> Result<(), BadPattern> {
        self.patterns.push(Pattern::parse(pattern, false)?);
        Ok(())
    }

    /// Adds a pattern that ignores case, as given to `--iexclude` or `--iinclude`.
    pub fn add_ignoring_case(&mut self, pattern: &[u8]) -> Result<(), BadPattern> {
        self.patterns.push(Pattern::parse(pattern, true)?);
        Ok(())
    }

    /// Whether some pattern takes back what others match.
    pub fn takes_back(&self) -> bool {
        self.patterns.iter().any(|pattern| pattern.negated)
    }

    /// Whether there are no patterns.
    pub fn is_empty(&self) -> bool {
        self.patterns.is_empty()
    }

    /// The trail at the root of all paths (`/`, or the top of a snapshot).
    pub fn start(&self) -> Trail {
        Trail(self.patterns.iter().map(|p| p.closure(1)).collect())
    }

    /// What the filter says of the entry `name` in the directory with this trail.
    pub fn judge(&self, trail: &Trail, name: &[u8]) -> Verdict {
        let mut judgement = Judgement::default();
        let mut lower = LowerCase::new(name);
        for (pattern, &state) in self.patterns.iter().zip(&trail.0) {
            judgement.hear(pattern, pattern.step(state, &mut lower));
        }
        judgement.verdict()
    }

    /// The trail of the directory `name` in the directory with this trail. `.` is the directory itself: so the top of all,
    /// which has no name, is reached.
    pub fn enter(&self, trail: &Trail, name: &[u8]) -> Trail {
        if name == b"." {
            return Trail(trail.0.clone());
        }
        let mut lower = LowerCase::new(name);
        let states = self.patterns.iter().zip(&trail.0);
        Trail(states.map(|(p, &state)| p.step(state, &mut lower)).collect())
    }

    /// The trail of a directory given by its path; an absolute and a relative path are the same.
    pub fn enter_path(&self, path: &[u8]) -> Trail {
        components_of(path).fold(self.start(), |trail, name| self.enter(&trail, name))
    }

    /// The trail of a directory that is taken although patterns may match it or what it lies in: they are heard anew for
    /// what is beneath it. None if they match all of that too.
    pub fn begin_beneath(&self, trail: &Trail) -> Option<Trail> {
        let states = self.patterns.iter().zip(&trail.0);
        let anew = Trail(states.map(|(pattern, &state)| pattern.without_match(state)).collect());
        let matches_all = |(pattern, &state): (&Pattern, &u64)| !pattern.negated && pattern.matches_every_name(state);
        let all = !self.takes_back() && self.patterns.iter().zip(&anew.0).any(matches_all);
        (!all).then_some(anew)
    }

    /// What the filter says of a whole path.
    pub fn judge_path(&self, path: &Path) -> Verdict {
        let trail = self.enter_path(path.as_os_str().as_bytes());
        let mut judgement = Judgement::default();
        for (pattern, &state) in self.patterns.iter().zip(&trail.0) {
            judgement.hear(pattern, state);
        }
        judgement.verdict()
    }
}

/// Gathers what the patterns say, in their order.
#[derive(Default)]
struct Judgement {
    matched: [bool; 2],
    below: bool,
}

impl Judgement {
    fn hear(&mut self, pattern: &Pattern, state: u64) {
        let list = usize::from(pattern.ignores_case);
        let matches = pattern.is_complete(state);
        if pattern.negated {
            self.matched[list] &= !matches;
        } else {
            self.matched[list] |= matches;
            self.below |= state != 0;
        }
    }

    fn verdict(&self) -> Verdict {
        Verdict { matched: self.matched.contains(&true), below: self.below }
    }
}

fn components_of(path: &[u8]) -> impl Iterator<Item = &[u8]> {
    path.split(|&c| c == b'/').filter(|c| !c.is_empty() && *c != b".")
}

/// Lines of a text, trimmed of white space, without blank ones and comments. The mark that some editors put before
/// UTF-8 belongs to no line.
pub fn lines_without_comments(text: &[u8]) -> impl Iterator<Item = &[u8]> {
    let text = text.strip_prefix(b"\xef\xbb\xbf").unwrap_or(text);
    text.split(|&c| c == b'\n').map(|line| line.trim_ascii()).filter(|line| !line.is_empty() && !line.starts_with(b"#"))
}

/// A line of a file of patterns with the values of variables in place of `$NAME` and `${NAME}`; `$$` is a dollar. A
/// variable without a value stays as it stands: `$RECYCLE.BIN` is more often the name of a folder.
pub fn with_variables(line: &[u8], value: impl Fn(&str) -> Option<OsString>) -> Vec<u8> {
    let mut text = Vec::with_capacity(line.len());
    let mut rest = line;
    while let Some(dollar) = rest.iter().position(|&c| c == b'$') {
        text.extend_from_slice(&rest[..dollar]);
        rest = &rest[dollar..];
        let (taken, name) = variable_at(rest);
        match name.and_then(&value) {
            _ if rest.starts_with(b"$$") => text.push(b'$'),
            Some(value) => text.extend_from_slice(value.as_bytes()),
            None => text.extend_from_slice(&rest[..taken]),
        }
        rest = &rest[taken..];
    }
    text.extend_from_slice(rest);
    text
}

/// How many bytes belong to the `$` that a text begins with, and which variable they name, if any.
fn variable_at(text: &[u8]) -> (usize, Option<&str>) {
    let name_length = |text: &[u8]| match text.first() {
        Some(first) if first.is_ascii_alphabetic() || *first == b'_' => {
            text.iter().take_while(|c| c.is_ascii_alphanumeric() || **c == b'_').count()
        }
        _ => 0,
    };
    let (before, after) = match text.get(1) {
        Some(b'$') => return (2, None),
        Some(b'{') => (2, 1),
        _ => (1, 0),
    };
    let length = name_length(&text[before..]);
    let end = before + length;
    match length {
        0 => (1, None),
        _ if after == 1 && text.get(end) != Some(&b'}') => (1, None),
        _ => (end + after, std::str::from_utf8(&text[before..end]).ok()),
    }
}

/// A name, and the same in lower case once somebody has asked for it.
struct LowerCase<'a> {
    name: &'a [u8],
    lower: Option<Cow<'a, [u8]>>,
}

impl<'a> LowerCase<'a> {
    fn new(name: &'a [u8]) -> Self {
        LowerCase { name, lower: None }
    }

    fn get(&mut self) -> &[u8] {
        self.lower.get_or_insert_with(|| to_lower(self.name))
    }
}

/// Lower case of every letter where the bytes are UTF-8, otherwise of ASCII letters alone.
fn to_lower(name: &[u8]) -> Cow<'_, [u8]> {
    match std::str::from_utf8(name) {
        Ok(text) => Cow::Owned(text.to_lowercase().into_bytes()),
        Err(_) => Cow::Owned(name.to_ascii_lowercase()),
    }
}

impl Pattern {
    fn parse(text: &[u8], ignores_case: bool) -> Result<Pattern, BadPattern> {
        let bad = |reason| BadPattern { pattern: String::from_utf8_lossy(text).into_owned(), reason };
        let (negated, rest) = match text.strip_prefix(b"!") {
            Some(rest) => (true, rest),
            None => (false, text),
        };
        let rest = if ignores_case { to_lower(rest) } else { Cow::Borrowed(rest) };
        let mut components = Vec::new();
        for component in components_of(&rest) {
            let component = Component::parse(component).map_err(bad)?;
            // `**/**` says nothing that `**` does not.
            if component != Component::AnyDepth || components.last() != Some(&component) {
                components.push(component);
            }
        }
        if rest.is_empty() {
            return Err(bad("it is empty"));
        }
        if components.len() > MAX_COMPONENTS {
            return Err(bad("it has more than 62 components"));
        }
        Ok(Pattern { components, absolute: rest.starts_with(b"/"), negated, ignores_case })
    }

    /// Bit `i` of a state: the first `i` components have been matched. The bit beyond the last component stays
    /// once it is set, for what matches a directory matches all beneath it.
    fn is_complete(&self, state: u64) -> bool {
        state >> self.components.len() & 1 == 1
    }

    /// Adds what is reached by letting `**` stand for no component.
    fn closure(&self, mut state: u64) -> u64 {
        for (i, component) in self.components.iter().enumerate() {
            if *component == Component::AnyDepth && state >> i & 1 == 1 {
                state |= 1 << (i + 1);
            }
        }
        state
    }

    /// A state as if nothing had been matched yet, with all that may still match.
    fn without_match(&self, state: u64) -> u64 {
        state & !(1 << self.components.len())
    }

    /// Whether any name at all completes the pattern in this state.
    fn matches_every_name(&self, state: u64) -> bool {
        let is_any = |component: &Component| matches!(component, Component::AnyDepth | Component::Anything);
        let ends = self.components.iter().rposition(|component| !is_any(component)).map_or(0, |last| last + 1);
        // One `*` of the rest is the name itself; a second one would ask for a directory in between.
        let left = |from: usize| self.components[from..].iter().filter(|one| **one == Component::Anything).count();
        (ends..self.components.len()).any(|from| state >> from & 1 == 1 && left(from) <= 1)
    }

    fn step(&self, state: u64, name: &mut LowerCase<'_>) -> u64 {
        let length = self.components.len();
        let mut next = state & 1 << length;
        let mut open = state & !(1 << length);
        while open != 0 {
            let i = open.trailing_zeros() as usize;
            open &= open - 1;
            let component = &self.components[i];
            if *component == Component::AnyDepth {
                next |= 1 << i;
            } else if component.matches(if self.ignores_case { name.get() } else { name.name }) {
                next |= 1 << (i + 1);
            }
        }
        // A relative pattern may begin at every depth.
        self.closure(next | u64::from(!self.absolute))
    }
}

impl Component {
    pub(super) fn parse(text: &[u8]) -> Result<Component, &'static str> {
        match text {
            b"**" => return Ok(Component::AnyDepth),
            b"*" => return Ok(Component::Anything),
            _ => {}
        }
        let tokens = tokens_of(text)?;
        let literal = |tokens: &[Token]| -> Option<Vec<u8>> {
            tokens
                .iter()
                .map(|token| match token {
                    Token::Byte(byte) => Some(*byte),
                    _ => None,
                })
                .collect()
        };
        if let Some(bytes) = literal(&tokens) {
            return Ok(Component::Literal(bytes));
        }
        match tokens.as_slice() {
            [Token::AnyRun, rest @ ..] if let Some(bytes) = literal(rest) => Ok(Component::Suffix(bytes)),
            [rest @ .., Token::AnyRun] if let Some(bytes) = literal(rest) => Ok(Component::Prefix(bytes)),
            _ => Ok(Component::Glob(tokens)),
        }
    }

    pub(super) fn matches(&self, name: &[u8]) -> bool {
        match self {
            Component::AnyDepth | Component::Anything => true,
            Component::Literal(bytes) => name == bytes.as_slice(),
            Component::Suffix(bytes) => name.ends_with(bytes),
            Component::Prefix(bytes) => name.starts_with(bytes),
            Component::Glob(tokens) => glob_matches(tokens, name),
        }
    }
}

fn tokens_of(mut text: &[u8]) -> Result<Vec<Token>, &'static str> {
    let mut tokens = Vec::new();
    while let Some((&first, rest)) = text.split_first() {
        text = rest;
        match first {
            b'*' if tokens.last() == Some(&Token::AnyRun) => {}
            b'*' => tokens.push(Token::AnyRun),
            b'?' => tokens.push(Token::AnyCharacter),
            b'[' => tokens.push(set_of(&mut text)?),
            b'\\' => {
                let (&escaped, rest) = text.split_first().ok_or("it ends in a backslash")?;
                tokens.push(Token::Byte(escaped));
                text = rest;
            }
            byte => tokens.push(Token::Byte(byte)),
        }
    }
    Ok(tokens)
}

/// Reads a set up to and including its `]`; the `[` is already taken.
fn set_of(text: &mut &[u8]) -> Result<Token, &'static str> {
    const OPEN: &str = "a `[` has no matching `]`";
    let negated = matches!(text.first(), Some(b'^' | b'!'));
    if negated {
        *text = &text[1..];
    }
    let mut ranges = Vec::new();
    loop {
        match text.first() {
            None => return Err(OPEN),
            Some(b']') if !ranges.is_empty() => break,
            Some(_) => {}
        }
        let from = set_character(text)?;
        let is_range = text.first() == Some(&b'-') && text.get(1).is_some_and(|&c| c != b']');
        let to = if is_range {
            *text = &text[1..];
            set_character(text)?
        } else {
            from
        };
        if from > to {
            return Err("a range in `[…]` runs backwards");
        }
        ranges.push((from, to));
    }
    *text = &text[1..];
    Ok(Token::Set { negated, ranges })
}

fn set_character(text: &mut &[u8]) -> Result<char, &'static str> {
    if text.first() == Some(&b'\\') {
        *text = &text[1..];
    }
    let (character, length) = first_character(text).ok_or("a `[` has no matching `]`")?;
    *text = &text[length..];
    Ok(character)
}

/// The first character and its length in bytes; a byte that is not UTF-8 counts as a character of its own, put
/// where no real character is.
fn first_character(text: &[u8]) -> Option<(char, usize)> {
    let &first = text.first()?;
    if first < 0x80 {
        return Some((first as char, 1));
    }
    let head = &text[..text.len().min(4)];
    let valid = match std::str::from_utf8(head) {
        Ok(valid) => valid,
        Err(error) => std::str::from_utf8(&head[..error.valid_up_to()]).unwrap_or(""),
    };
    match valid.chars().next() {
        Some(character) => Some((character, character.len_utf8())),
        None => char::from_u32(0x10_FF00 + u32::from(first)).map(|character| (character, 1)),
    }
}

/// Matches greedily and on failure goes back only to the last `*`: quadratic at worst, never exponential.
fn glob_matches(tokens: &[Token], name: &[u8]) -> bool {
    let (mut token, mut at) = (0, 0);
    let mut retry: Option<(usize, usize)> = None;
    loop {
        if tokens.get(token) == Some(&Token::AnyRun) {
            token += 1;
            retry = Some((token, at));
            continue;
        }
        if token == tokens.len() && at == name.len() {
            return true;
        }
        if let Some(length) = tokens.get(token).and_then(|t| token_matches(t, &name[at..])) {
            token += 1;
            at += length;
            continue;
        }
        match retry {
            Some((after, from)) if from < name.len() => {
                (token, at) = (after, from + 1);
                retry = Some((after, from + 1));
            }
            _ => return false,
        }
    }
}

/// How many bytes the token takes from the front of `text`, if it matches.
fn token_matches(token: &Token, text: &[u8]) -> Option<usize> {
    match token {
        Token::Byte(byte) => (text.first() == Some(byte)).then_some(1),
        Token::AnyCharacter => first_character(text).map(|(_, length)| length),
        Token::AnyRun => None,
        Token::Set { negated, ranges } => {
            let (character, length) = first_character(text)?;
            let inside = ranges.iter().any(|&(from, to)| (from..=to).contains(&character));
            (inside != *negated).then_some(length)
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use std::ffi::OsStr;
    use std::os::unix::ffi::OsStrExt;

    fn filter(patterns: &[&str]) -> Filter {
        let mut filter = Filter::new();
        for pattern in patterns {
            filter.add(pattern.as_bytes()).unwrap();
        }
        filter
    }

    #[test]
    fn patterns_mean_what_restic_users_expect() {
        let cases: &[(&str, &str, bool)] = &[
            // A name at any depth, and all beneath it.
            ("*.o", "/src/main.o", true),
            ("*.o", "/src/main.o/inside", true),
            ("*.o", "/src/main.c", false),
            ("*.go", "/home/user/work/foo/test.go", true),
            ("node_modules", "/a/b/node_modules", true),
            ("node_modules", "/a/b/node_modules/x/y.js", true),
            ("node_modules", "/a/b/node_modules2", false),
            // From the documentation of `--exclude`.
            ("*.c", "/home/user/work/foo.c", true),
            ("foo/**/bar", "/home/foo/bar", true),
            ("foo/**/bar", "/home/foo/a/b/bar", true),
            ("foo/**/bar", "/home/foo/a/b/bar/file", true),
            ("foo/**/bar", "/home/foo/a/b/baz", false),
            ("/**/cache", "/cache", true),
            ("/**/cache", "/home/u/cache/x", true),
            ("src/foo.c", "/home/work/src/foo.c", true),
            ("src/foo.c", "/home/work/src/foo/foo.c", false),
            ("foo?bar", "/home/foo-bar", true),
            ("foo?bar", "/home/foobar", false),
            // Several components.
            ("user/*.txt", "/home/user/a.txt", true),
            ("user/*.txt", "/home/user/b/a.txt", false),
            ("/home/user/*.txt", "/home/user/a.txt", true),
            ("/user/*.txt", "/home/user/a.txt", false),
            ("/home", "/home", true),
            ("/home", "/home/user/x", true),
            ("/home", "/var/home", false),
            ("/", "/anything", true),
            ("/home/user/", "/home/user", true),
            ("/home//user", "/home/user/x", true),
            ("/foo/*/test.*", "/foo/bar/test.go", true),
            ("/foo/*/test.*", "/foo/bar/test", false),
            ("/foo/*/bar", "/foo/bar", false),
            ("/foo/**/bar/*.go", "/foo/bar/x.go", true),
            ("/foo/**/bar/*.go", "/foo/a/bar/b/bar/x.go", true),
            ("/foo/**/bar/*.go", "/foo/a/bar/b/x.go", false),
            ("/foo/**", "/foo/x", true),
            ("**/foo", "/a/foo", true),
            ("**", "/a", true),
            // Inside a component.
            ("a*b*c", "/aXXbYYc", true),
            ("a*b*c", "/aXXbYY", false),
            ("*foo*", "/xfoox", true),
            ("[a-c]x", "/bx", true),
            ("[a-c]x", "/dx", false),
            ("[^a-c]x", "/dx", true),
            ("[]x]y", "/]y", true),
            ("[a-]z", "/-z", true),
            ("\\*.c", "/*.c", true),
            ("\\*.c", "/a.c", false),
            ("m?ller", "/müller", true),
            ("m[ü]ller", "/müller", true),
            ("*.C", "/a.c", false),
            ("", "", false),
        ];
        for (pattern, path, expected) in cases.iter().filter(|case| !case.0.is_empty()) {
            let verdict = filter(&[pattern]).judge_path(Path::new(path));
            assert_eq!(verdict.matched, *expected, "`{pattern}` on `{path}`");
        }
    }

    #[test]
    fn a_later_negation_takes_back_what_was_matched() {
        let filter = filter(&["cache/*", "!cache/keep", "*.tmp"]);
        let matched = |path: &str| filter.judge_path(Path::new(path)).matched;
        assert!(matched("/x/cache/lose"));
        assert!(!matched("/x/cache/keep"));
        assert!(!matched("/x/cache/keep/inside"));
        assert!(matched("/x/cache/keep/inside.tmp"));
        assert!(!matched("/x/cache"));
    }

    #[test]
    fn case_is_ignored_only_where_asked_for() {
        let mut filter = filter(&["*.TXT"]);
        filter.add_ignoring_case("*.JpÉg".as_bytes()).unwrap();
        let matched = |path: &str| filter.judge_path(Path::new(path)).matched;
        assert!(matched("/a.TXT") && !matched("/a.txt"));
        assert!(matched("/a.jpég") && matched("/a.JPÉG"));
    }

    #[test]
    fn names_that_are_not_utf8_are_matched_byte_by_byte() {
        let mut filter = Filter::new();
        filter.add(b"\xff?.x").unwrap();
        filter.add(b"[\xfe]y").unwrap();
        filter.add_ignoring_case(b"A\xfdB").unwrap();
        let matched = |path: &[u8]| filter.judge_path(Path::new(OsStr::from_bytes(path))).matched;
        assert!(matched(b"/\xff\xfe.x"));
        assert!(!matched(b"/\xfe\xfe.x"));
        assert!(matched(b"/\xfey"));
        assert!(matched(b"/a\xfdb"));
    }

    #[test]
    fn an_include_tells_early_which_directories_hold_nothing() {
        let filter = filter(&["/home/*/docs/*.txt", "/srv/**/logo"]);
        let below = |path: &str| filter.judge_path(Path::new(path)).below;
        assert!(below("/home") && below("/home/ann") && below("/home/ann/docs"));
        assert!(!below("/home/ann/music") && !below("/var"));
        assert!(below("/srv/a/b/c"));
        assert!(filter.judge_path(Path::new("/home/ann/docs/a.txt")).matched);
        let anywhere = self::filter(&["logo"]);
        assert!(anywhere.judge_path(Path::new("/any/where")).below);
    }

    #[test]
    fn step_by_step_and_whole_paths_agree() {
        let filter = filter(&["/a/**/c", "b/*/d", "!b/x/d"]);
        for path in ["/a/b/c", "/a/b/x/d", "/q/b/y/d/e", "/a/c"] {
            let names: Vec<&str> = path[1..].split('/').collect();
            let (last, parents) = names.split_last().unwrap();
            let trail = parents.iter().fold(filter.start(), |t, name| filter.enter(&t, name.as_bytes()));
            let verdict = filter.judge(&trail, last.as_bytes());
            assert_eq!(verdict, filter.judge_path(Path::new(path)), "{path}");
        }
    }

    #[test]
    fn bad_patterns_are_named() {
        for pattern in ["", "!", "[a", "a\\", "[z-a]"] {
            let error = Filter::new().add(pattern.as_bytes()).unwrap_err();
            assert_eq!(error.pattern, pattern);
        }
        let long = vec!["a"; 63].join("/");
        assert!(Filter::new().add(long.as_bytes()).is_err());
    }

    #[test]
    fn a_pattern_file_has_comments_and_blank_lines_and_perhaps_a_mark_of_its_encoding() {
        let text = b"\xef\xbb\xbf*.o\n# objects\n\n  *.tmp \r\n  # more\n!keep.o";
        let lines: Vec<_> = lines_without_comments(text).collect();
        assert_eq!(lines, [b"*.o".as_slice(), b"*.tmp", b"!keep.o"]);
    }

    #[test]
    fn variables_stand_for_their_values_where_they_have_one() {
        let value = |name: &str| match name {
            "HOME" => Some("/home/ann".into()),
            "EMPTY" => Some("".into()),
            _ => None,
        };
        let expanded = |text: &str| String::from_utf8(with_variables(text.as_bytes(), value)).unwrap();
        assert_eq!(expanded("$HOME/*.o"), "/home/ann/*.o");
        assert_eq!(expanded("${HOME}work"), "/home/annwork");
        assert_eq!(expanded("a$EMPTY-b"), "a-b");
        assert_eq!(expanded("$$HOME"), "$HOME");
        assert_eq!(expanded("$RECYCLE.BIN"), "$RECYCLE.BIN", "nobody set it: it is the name of a folder");
        assert_eq!(expanded("${NONE}/x"), "${NONE}/x");
        assert_eq!(expanded("$/$1$"), "$/$1$");
        assert_eq!(expanded("${HOME"), "${HOME");
        assert_eq!(with_variables(b"\xff$HOME", value), b"\xff/home/ann");
    }

    #[test]
    fn the_top_of_all_takes_no_part_of_a_pattern() {
        let mut filter = Filter::new();
        filter.add(b"/proc").unwrap();
        filter.add(b"/var/cache").unwrap();
        let top = filter.enter(&filter.start(), b".");
        assert!(filter.judge(&top, b"proc").matched && !filter.judge(&top, b"var").matched);
        assert!(filter.judge(&filter.enter(&top, b"var"), b"cache").matched);
        assert!(!filter.judge(&filter.enter(&top, b"srv"), b"proc").matched);
    }

    #[test]
    fn a_hostile_pattern_does_not_take_for_ever() {
        let pattern = "*a".repeat(40) + "b";
        let name = "a".repeat(255);
        assert!(!filter(&[&pattern]).judge_path(Path::new(&name)).matched);
    }
}
