//! SQL texts that fit into memory: definitions, cut into statements as the client program cuts them, and what they name.
//!
//! The texts are those of dump programs: statements end with `;` or with what `DELIMITER` said last; comments that are
//! executed (`/*!50003 … */`) are code. Texts are changed only where it is said, byte by byte the same elsewhere.

use super::quote;
use super::rows::is_sandbox_line;
use std::ops::Range;

/// The last line of a dump begins so.
pub const TRAILER: &str = "-- Dump completed\n";

/// A statement of a text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Statement<'a> {
    /// The statement without comments before it and without its delimiter.
    pub text: &'a str,
    /// Where it stands in the text, its delimiter included.
    pub place: Range<usize>,
}

/// Cuts a text into statements. What follows the last delimiter is a statement too, unless it is blank.
pub fn statements(text: &str) -> Vec<Statement<'_>> {
    let mut found = Vec::new();
    let mut delimiter = ";";
    let mut backslashes = Backslashes::default();
    let mut at = 0;
    while at < text.len() {
        let rest = &text[at..];
        if let Some(length) = skipped(rest) {
            at += length;
        } else if let Some(length) = delimiter_line(rest) {
            delimiter = rest[..length].split_whitespace().nth(1).unwrap_or(";");
            at += length;
        } else {
            let length = statement_bytes(rest, delimiter, backslashes.escape);
            let end = (length + delimiter.len()).min(rest.len());
            let statement = rest[..length].trim_end();
            backslashes.follow(statement);
            if !statement.is_empty() {
                found.push(Statement { text: statement, place: at..at + end });
            }
            at += end;
        }
    }
    found
}

/// Whether a backslash takes away the meaning of what follows it in a string: not in what was written under the mode
/// `NO_BACKSLASH_ESCAPES`, as routines may have been.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Backslashes {
    /// Whether it does now.
    pub escape: bool,
    /// Whether it does where the mode is what it was before a routine.
    outside: bool,
}

impl Default for Backslashes {
    fn default() -> Backslashes {
        Backslashes { escape: true, outside: true }
    }
}

impl Backslashes {
    /// Takes note of a statement that sets the mode.
    pub fn follow(&mut self, statement: &str) {
        let mut tokens = tokens(statement);
        if !tokens.next().is_some_and(|first| first.is("SET")) {
            return;
        }
        let words: Vec<&str> = tokens.filter(|token| token.text != ":").map(|token| token.text).collect();
        let value_of = |name: &str| {
            words.windows(3).find(|words| words[0].eq_ignore_ascii_case(name) && words[1] == "=").map(|words| words[2])
        };
        self.escape = match value_of("sql_mode") {
            Some("@") => self.outside,
            Some(mode) => !mode.to_ascii_uppercase().contains("NO_BACKSLASH_ESCAPES"),
            None => self.escape,
        };
        // How a dump begins.
        if value_of("old_sql_mode").is_some() {
            self.outside = self.escape;
        }
    }
}

/// The length of what stands between statements: white space, comments, the sandbox line.
fn skipped(text: &str) -> Option<usize> {
    if text.starts_with(|letter: char| letter.is_whitespace()) {
        return Some(text.len() - text.trim_start().len());
    }
    let line = || text.find('\n').map_or(text.len(), |end| end + 1);
    if text.starts_with('#') || is_line_comment(text) || is_sandbox_line(text.as_bytes()) {
        return Some(line());
    }
    block_comment(text)
}

fn is_line_comment(text: &str) -> bool {
    text.strip_prefix("--")
        .is_some_and(|rest| rest.is_empty() || rest.starts_with(|letter: char| letter.is_whitespace()))
}

/// The length of a comment that is not executed.
fn block_comment(text: &str) -> Option<usize> {
    let rest = text.strip_prefix("/*").filter(|rest| !rest.starts_with(['!']) && !rest.starts_with("M!"))?;
    Some(rest.find("*/").map_or(text.len(), |end| end + 4))
}

/// The length of a `DELIMITER` line, its end included.
fn delimiter_line(text: &str) -> Option<usize> {
    let word = text.get(..10)?;
    let is_one = word[..9].eq_ignore_ascii_case("DELIMITER") && word.ends_with([' ', '\t']);
    is_one.then(|| text.find('\n').map_or(text.len(), |end| end + 1))
}

/// Where the delimiter stands that ends the statement at the beginning of `text`, or its end.
fn statement_bytes(text: &str, delimiter: &str, backslashes: bool) -> usize {
    let mut at = 0;
    while at < text.len() {
        let rest = &text[at..];
        if rest.starts_with(delimiter) {
            return at;
        }
        at += match rest.as_bytes()[0] {
            quote @ (b'\'' | b'"') => quoted_bytes(rest, quote, backslashes),
            _ => step(rest),
        };
    }
    text.len()
}

/// The length of what is read as one: a quoted text, a comment, or a letter.
fn step(text: &str) -> usize {
    match text.as_bytes().first() {
        Some(quote @ (b'\'' | b'"' | b'`')) => quoted_bytes(text, *quote, *quote != b'`'),
        Some(b'#') => text.find('\n').unwrap_or(text.len()),
        Some(b'-') if is_line_comment(text) => text.find('\n').unwrap_or(text.len()),
        Some(b'/') => block_comment(text).unwrap_or(1),
        _ => text.chars().next().map_or(1, char::len_utf8),
    }
}

/// The length of a quoted text with its quotes; a doubled quote is part of it, and what follows a backslash that counts.
fn quoted_bytes(text: &str, quote: u8, backslashes: bool) -> usize {
    let bytes = text.as_bytes();
    let mut at = 1;
    while at < bytes.len() {
        match bytes[at] {
            byte if byte == quote && bytes.get(at + 1) == Some(&quote) => at += 2,
            byte if byte == quote => return at + 1,
            b'\\' if backslashes => at += 2,
            _ => at += 1,
        }
    }
    bytes.len()
}

/// A word, number, quoted text or sign of a statement.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Token<'a> {
    /// Its text, quotes included.
    pub text: &'a str,
    /// Where it stands in the statement.
    pub place: Range<usize>,
}

impl Token<'_> {
    /// Whether it is this keyword.
    pub fn is(&self, word: &str) -> bool {
        self.text.eq_ignore_ascii_case(word)
    }
}

/// The tokens of a statement. Comments are left out; of those that are executed, only their marks.
pub fn tokens(text: &str) -> impl Iterator<Item = Token<'_>> {
    let mut at = 0;
    std::iter::from_fn(move || {
        loop {
            let rest = text.get(at..).filter(|rest| !rest.is_empty())?;
            let (length, counts) = token(rest);
            let place = at..at + length;
            at += length;
            if counts {
                return Some(Token { text: &text[place.clone()], place });
            }
        }
    })
}

/// The length of the first token and whether it is one, not white space or a comment.
fn token(text: &str) -> (usize, bool) {
    let is_word = |letter: char| letter.is_alphanumeric() || "_$".contains(letter);
    if text.starts_with(char::is_whitespace) {
        return (text.len() - text.trim_start().len(), false);
    }
    if text.starts_with("/*!") || text.starts_with("/*M!") {
        let mark = text.find('!').map_or(0, |at| at + 1);
        let digits = text[mark..].find(|letter: char| !letter.is_ascii_digit()).unwrap_or(text.len() - mark);
        return (mark + digits, false);
    }
    if text.starts_with("*/") {
        return (2, false);
    }
    if is_line_comment(text) || text.starts_with('#') || block_comment(text).is_some() {
        return (step(text).max(1), false);
    }
    if text.starts_with(is_word) {
        return (text.find(|letter| !is_word(letter)).unwrap_or(text.len()), true);
    }
    (step(text), true)
}

/// What a statement defines or drops, as a person would name it: `` table a b ``, `view v1`; for messages.
pub fn object(statement: &str) -> Option<String> {
    const KINDS: [&str; 8] = ["TABLE", "VIEW", "TRIGGER", "EVENT", "FUNCTION", "PROCEDURE", "SEQUENCE", "PACKAGE"];
    let mut tokens = tokens(statement);
    tokens.next().filter(|first| first.is("CREATE"))?;
    let kind = tokens.find(|token| KINDS.iter().any(|kind| token.is(kind)))?.text.to_ascii_lowercase();
    let mut name = tokens.next()?;
    while name.is("IF") || name.is("NOT") || name.is("EXISTS") || name.is("BODY") {
        name = tokens.next()?;
    }
    let mut rest = tokens;
    if rest.next().is_some_and(|sign| sign.text == ".") {
        name = rest.next()?;
    }
    let (name, _) = quote::unquoted(name.text)?;
    Some(format!("{kind} {name}"))
}

/// The engine that a statement makes a table or sequence with: the last that is named outside brackets.
pub fn engine(statement: &str) -> Option<String> {
    let tokens: Vec<Token<'_>> = tokens(statement).collect();
    let (mut depth, mut found) = (0_usize, None);
    for (at, token) in tokens.iter().enumerate() {
        match token.text {
            "(" => depth += 1,
            ")" => depth = depth.saturating_sub(1),
            _ if depth == 0 && token.is("ENGINE") => {
                let value = tokens[at + 1..].iter().find(|token| token.text != "=");
                found = value.and_then(|value| quote::unquoted(value.text)).map(|(name, _)| name);
            }
            _ => {}
        }
    }
    found
}

/// A text without the statements that are not wanted; what stands between statements stays.
pub fn retain(text: &str, wanted: impl Fn(&Statement<'_>) -> bool) -> String {
    let mut kept = String::with_capacity(text.len());
    let mut from = 0;
    for statement in statements(text) {
        if !wanted(&statement) {
            kept.push_str(&text[from..statement.place.start]);
            from = statement.place.end;
        }
    }
    kept.push_str(&text[from..]);
    kept
}

/// A text without the line that switches on the sandbox of MariaDB's client, which other clients stumble over. Whoever
/// feeds the text to a client lets it run no commands of its own instead.
pub fn without_sandbox_line(text: &str) -> &str {
    match is_sandbox_line(text.as_bytes()) {
        true => text.split_once('\n').map_or("", |(_, rest)| rest),
        false => text,
    }
}

/// Whether a text ends with the last line of a dump: else it was cut off.
pub fn is_complete(text: &[u8]) -> bool {
    let text = text.trim_ascii_end();
    let last = text.rsplit(|byte| *byte == b'\n').next().unwrap_or_default();
    last.starts_with(TRAILER.trim_ascii_end().as_bytes())
}

/// The table that a statement makes a trigger for.
pub fn table_of_trigger(statement: &str) -> Option<String> {
    let mut tokens = tokens(statement);
    tokens.next().filter(|first| first.is("CREATE"))?;
    tokens.find(|token| token.is("TRIGGER"))?;
    let mut name = tokens.next()?;
    while name.is("IF") || name.is("NOT") || name.is("EXISTS") {
        name = tokens.next()?;
    }
    tokens.find(|token| token.is("ON"))?;
    let mut name = tokens.next()?;
    if tokens.next().is_some_and(|sign| sign.text == ".") {
        name = tokens.next()?;
    }
    quote::unquoted(name.text).map(|(name, _)| name)
}

/// A text whose tables, views and triggers are about what is in `now` where they were about what is in `before`: servers,
/// and who writes triggers, put the database's name before a table's or a sequence's now and then. A view in which something
/// else has the database's name is left as it is.
pub fn moved(text: &str, before: &str, now: &str) -> String {
    let mut moved = String::with_capacity(text.len());
    let mut from = 0;
    for statement in statements(text) {
        for place in qualifiers(statement.text, before) {
            moved.push_str(&text[from..statement.place.start + place.start]);
            moved.push_str(&quote::identifier(now));
            from = statement.place.start + place.end;
        }
    }
    moved.push_str(&text[from..]);
    moved
}

/// Where a table (``DEFAULT nextval(`d`.`s`)``), a view, or the head of a trigger, has the name of the database before a point.
fn qualifiers(statement: &str, database: &str) -> Vec<Range<usize>> {
    let object = object(statement).unwrap_or_default();
    let (is_view, is_trigger) = (object.starts_with("view "), object.starts_with("trigger "));
    if !is_view && !is_trigger && !object.starts_with("table ") {
        return Vec::new();
    }
    let tokens: Vec<Token<'_>> = tokens(statement).collect();
    // What a table is called is its own matter.
    let is_begin =
        |token: &Token<'_>| token.is("VIEW") || token.is("TRIGGER") || !is_view && !is_trigger && token.text == "(";
    let begin = tokens.iter().position(is_begin).unwrap_or(0);
    let head = tokens[begin..].iter().position(|token| token.is("FOR")).map_or(tokens.len(), |end| begin + end);
    let end = if is_trigger { head } else { tokens.len() };
    let is_name =
        |token: &Token<'_>| quote::unquoted(token.text).is_some_and(|(name, rest)| name == database && rest.is_empty());
    let sign = |at: usize| tokens.get(at).map_or("", |token| token.text);
    let mut found = Vec::new();
    for at in (begin..end).filter(|at| is_name(&tokens[*at]) && sign(at.wrapping_sub(1)) != ".") {
        match (sign(at + 1), is_view) {
            (".", _) => found.push(tokens[at].place.clone()),
            // An alias of that name: nobody knows which is which.
            (_, true) => return Vec::new(),
            _ => {}
        }
    }
    found
}

/// What of a text has the name of a database before a point: `trigger tr`, `function f`.
pub fn naming(text: &str, database: &str) -> Vec<String> {
    let names = |statement: &Statement<'_>| {
        let tokens: Vec<Token<'_>> = tokens(statement.text).collect();
        tokens.windows(2).any(|two| {
            two[1].text == "."
                && quote::unquoted(two[0].text).is_some_and(|(name, rest)| name == database && rest.is_empty())
        })
    };
    statements(text)
        .iter()
        .filter(|statement| names(statement))
        .filter_map(|statement| object(statement.text))
        .collect()
}

/// A sequence and where a text of counters puts it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Counter {
    /// Its name.
    pub name: String,
    /// The value.
    pub value: i64,
    /// Whether that was given out already.
    pub is_used: bool,
}

/// The sequences of a text of counters, sorted by name: from ``DO SETVAL(`s`, 5010, 0);``.
pub fn sequences(counters: &str) -> Vec<Counter> {
    let mut found: Vec<Counter> = statements(counters).iter().filter_map(|statement| counter(statement.text)).collect();
    found.sort_by(|a, b| a.name.cmp(&b.name));
    found
}

fn counter(statement: &str) -> Option<Counter> {
    let (_, arguments) = statement.split_once("SETVAL(")?;
    let (name, rest) = quote::unquoted(arguments)?;
    let mut numbers = rest.trim_end_matches(')').split(',').skip(1).map(|number| number.trim().parse::<i64>());
    let value = numbers.next()?.ok()?;
    let is_used = numbers.next().is_none_or(|flag| flag.is_ok_and(|flag| flag != 0));
    Some(Counter { name, value, is_used })
}

/// Definitions without what changes by itself: where counters and sequences stand.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Settled {
    /// The definitions.
    pub definitions: String,
    /// Statements that set the counters and sequences, one a line.
    pub counters: String,
}

/// Takes `AUTO_INCREMENT=…` out of the definitions of tables, and `DO SETVAL(…)` out of those of sequences.
pub fn settle(text: &str) -> Settled {
    let mut settled = Settled::default();
    let mut from = 0;
    for statement in statements(text) {
        if is_setval(statement.text) {
            settled.definitions.push_str(&text[from..statement.place.start]);
            settled.counters.push_str(statement.text);
            settled.counters.push_str(";\n");
            // The line end behind it as well.
            let after = &text[statement.place.end..];
            from = statement.place.end + usize::from(after.starts_with('\n'));
        } else if let Some((table, counter)) = auto_increment(statement.text) {
            let start = statement.place.start;
            settled.definitions.push_str(text[from..start + counter.start].trim_end_matches(' '));
            let line = &statement.text[counter.clone()];
            settled.counters.push_str(&format!("ALTER TABLE {table} {line};\n"));
            from = start + counter.end;
        }
    }
    settled.definitions.push_str(&text[from..]);
    settled
}

fn is_setval(statement: &str) -> bool {
    let mut tokens = tokens(statement);
    tokens.next().is_some_and(|token| token.is("DO") || token.is("SELECT"))
        && tokens.next().is_some_and(|token| token.is("SETVAL"))
}

/// The quoted name of the table that a statement makes, and where its option `AUTO_INCREMENT=…` stands: behind the
/// parenthesis that closes its columns, where no column has such an attribute.
fn auto_increment(statement: &str) -> Option<(&str, Range<usize>)> {
    let mut tokens = tokens(statement);
    tokens.next().filter(|token| token.is("CREATE"))?;
    tokens.next().filter(|token| token.is("TABLE"))?;
    let table = tokens.next()?.text;
    let mut depth = 0_u32;
    while let Some(token) = tokens.next() {
        match token.text {
            "(" => depth += 1,
            ")" => depth = depth.saturating_sub(1),
            _ if depth == 0 && token.is("AUTO_INCREMENT") => {
                tokens.next().filter(|sign| sign.text == "=")?;
                let number = tokens.next().filter(|number| number.text.bytes().all(|byte| byte.is_ascii_digit()))?;
                return Some((table, token.place.start..number.place.end));
            }
            _ => {}
        }
    }
    None
}

/// A text whose views, triggers, routines and events belong to whoever makes them: without `DEFINER=…`.
pub fn without_definers(text: &str) -> String {
    let mut free = String::with_capacity(text.len());
    let mut from = 0;
    for statement in statements(text) {
        if let Some(definer) = definer(statement.text) {
            let start = statement.place.start;
            free.push_str(&text[from..start + definer.start]);
            from = start + definer.end;
        }
    }
    free.push_str(&text[from..]);
    free
}

/// Where `DEFINER=…` stands in a statement that makes something, the space behind it included. It comes before the kind
/// of what is made, so that nothing in a body is taken for it.
fn definer(statement: &str) -> Option<Range<usize>> {
    const KINDS: [&str; 6] = ["VIEW", "TRIGGER", "EVENT", "FUNCTION", "PROCEDURE", "PACKAGE"];
    let mut tokens = tokens(statement).peekable();
    tokens.next().filter(|token| token.is("CREATE"))?;
    let begin = tokens.find(|token| token.is("DEFINER") || KINDS.iter().any(|kind| token.is(kind)))?;
    if !begin.is("DEFINER") {
        return None;
    }
    tokens.next().filter(|sign| sign.text == "=")?;
    let mut end = tokens.next()?.place.end;
    if tokens.peek().is_some_and(|sign| matches!(sign.text, "@" | "(")) {
        // A host follows, or the parentheses of `current_user()`.
        tokens.next();
        end = tokens.next()?.place.end;
    }
    let after = &statement[end..];
    Some(begin.place.start..end + usize::from(after.starts_with(' ')))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn texts(script: &str) -> Vec<&str> {
        statements(script).into_iter().map(|statement| statement.text).collect()
    }

    const ROUTINES: &str = "/*M!999999\\- enable the sandbox mode */ \n-- MariaDB dump\n/* plain ; */\n\
        /*!50003 DROP FUNCTION IF EXISTS `f1` */;\nDELIMITER ;;\nCREATE DEFINER=`ro``ot`@`local host` FUNCTION `f1`(x int) \
        RETURNS int(11)\nbegin -- it's; DEFINER=`x`@`y`\n return ';;'; end\n;;\nDELIMITER ;\nSET a=1;\n-- end\n";

    #[test]
    fn a_text_is_cut_as_the_client_cuts_it() {
        let found = texts(ROUTINES);
        assert_eq!(found.len(), 3, "{found:#?}");
        assert_eq!(found[0], "/*!50003 DROP FUNCTION IF EXISTS `f1` */");
        assert!(found[1].starts_with("CREATE DEFINER") && found[1].ends_with("';;'; end"), "{}", found[1]);
        assert_eq!(
            texts("SELECT 'a;\\';', `b;`, \"c;\" /* ; */ # ;\n; x"),
            ["SELECT 'a;\\';', `b;`, \"c;\" /* ; */ # ;", "x"]
        );
        assert_eq!(texts(" ;; -- x"), Vec::<&str>::new());
        for end in 0..ROUTINES.len() {
            statements(&ROUTINES[..end]);
        }
    }

    #[test]
    fn objects_are_named() {
        for (statement, expected) in [
            ("CREATE TABLE `a``b` (x int)", Some("table a`b")),
            (
                "/*!50001 CREATE ALGORITHM=UNDEFINED */\n/*!50013 DEFINER=`r`@`h` SQL SECURITY DEFINER */\n/*!50001 VIEW `v` AS select 1 */",
                Some("view v"),
            ),
            ("/*!50003 CREATE*/ /*!50017 DEFINER=`r`@`h`*/ /*!50003 trigger tr1 before insert */", Some("trigger tr1")),
            ("CREATE SEQUENCE `s` start with 1", Some("sequence s")),
            ("SET NAMES utf8mb4", None),
        ] {
            assert_eq!(object(statement).as_deref(), expected, "{statement}");
        }
    }

    #[test]
    fn counters_leave_the_definitions_as_they_are() {
        let before = "DROP TABLE IF EXISTS `t`;\n/*!40101 SET x = 1 */;\nCREATE TABLE `t` (\n  `AUTO_INCREMENT` int COMMENT \
            'AUTO_INCREMENT=7',\n  `a` int NOT NULL AUTO_INCREMENT,\n  PRIMARY KEY (`a`)\n) ENGINE=InnoDB AUTO_INCREMENT=502 \
            DEFAULT CHARSET=utf8mb4 COMMENT='AUTO_INCREMENT=9';\nCREATE SEQUENCE `s` start with 1;\nDO SETVAL(`s`, 5010, 0);\n\
            CREATE TABLE `u` (`a` int);\n";
        let settled = settle(before);
        assert_eq!(settled.counters, "ALTER TABLE `t` AUTO_INCREMENT=502;\nDO SETVAL(`s`, 5010, 0);\n");
        let expected = before.replace(" AUTO_INCREMENT=502", "").replace("DO SETVAL(`s`, 5010, 0);\n", "");
        assert_eq!(settled.definitions, expected);
        assert_eq!(settle(&expected).definitions, expected);
    }

    #[test]
    fn statements_can_be_left_out() {
        let kept = retain(ROUTINES, |statement| object(statement.text).is_none());
        assert!(
            !kept.contains("FUNCTION `f1`(") && kept.contains("DROP FUNCTION") && kept.ends_with("SET a=1;\n-- end\n")
        );
        assert!(without_sandbox_line(ROUTINES).starts_with("-- MariaDB dump\n"));
        let trigger = "/*!50003 CREATE*/ /*!50017 DEFINER=`r`@`h`*/ /*!50003 trigger `on` before insert on `c``d` for each row set @a=1 */";
        assert_eq!(table_of_trigger(trigger).as_deref(), Some("c`d"));
    }

    #[test]
    fn views_and_triggers_move_with_their_database() {
        for (before, after) in [
            (
                "CREATE VIEW `v` AS select `a b`.`t`.`x` AS `x`,'`a b`.' from `t` join `o`.`a b`",
                "CREATE VIEW `v` AS select `n``w`.`t`.`x` AS `x`,'`a b`.' from `t` join `o`.`a b`",
            ),
            (
                "CREATE VIEW `v` AS select `a b`.`x` AS `x` from `t` `a b`",
                "CREATE VIEW `v` AS select `a b`.`x` AS `x` from `t` `a b`",
            ),
            (
                "CREATE trigger `a b`.tr before insert on `a b`.`t` for each row insert into `a b`.u values (1)",
                "CREATE trigger `n``w`.tr before insert on `n``w`.`t` for each row insert into `a b`.u values (1)",
            ),
            ("CREATE TABLE `a b`.`t` (x int)", "CREATE TABLE `a b`.`t` (x int)"),
        ] {
            assert_eq!(moved(&format!("{before};\n"), "a b", "n`w"), format!("{after};\n"));
        }
        assert_eq!(
            table_of_trigger("CREATE TRIGGER d.tr BEFORE INSERT ON d.`t` FOR EACH ROW SET @a=1").as_deref(),
            Some("t")
        );
        assert_eq!(
            object("CREATE TRIGGER d.tr BEFORE INSERT ON d.t FOR EACH ROW SET @a=1").as_deref(),
            Some("trigger tr")
        );
    }

    #[test]
    fn a_text_that_was_cut_off_is_noticed() {
        assert!(is_complete(b"x;\n-- Dump completed\n") && is_complete(b"-- Dump completed on 2026-01-01\n\n"));
        assert!(!is_complete(b"x;\n") && !is_complete(b"") && !is_complete(b"-- Dump completed\nx"));
    }

    #[test]
    fn sequences_are_read_from_where_they_are_set() {
        let found =
            sequences("ALTER TABLE `t` AUTO_INCREMENT=3;\nDO SETVAL(`s``x`, 5010, 0);\nDO SETVAL(`a`, -7, 1);\n");
        let shown: Vec<_> = found.iter().map(|found| (found.name.as_str(), found.value, found.is_used)).collect();
        assert_eq!(shown, [("a", -7, true), ("s`x", 5010, false)]);
    }

    #[test]
    fn a_routine_that_was_written_without_escapes_ends_where_it_ends() {
        let text = "/*!40101 SET @OLD_SQL_MODE=@@SQL_MODE, SQL_MODE='NO_AUTO_VALUE_ON_ZERO' */;\nDELIMITER ;;\n\
            /*!50003 SET sql_mode              = 'NO_BACKSLASH_ESCAPES' */ ;;\n\
            CREATE PROCEDURE `p`() SELECT 'c:\\', ';' ;;\n/*!50003 SET sql_mode = @saved_sql_mode */ ;;\nDELIMITER ;\n\
            INSERT INTO `t` VALUES ('it\\'s;');\nCREATE EVENT `e` DO SELECT 1;\n";
        let found: Vec<&str> = statements(text).iter().map(|statement| statement.text).collect();
        assert_eq!(found[2], "CREATE PROCEDURE `p`() SELECT 'c:\\', ';'", "{found:?}");
        assert_eq!(found[4..], ["INSERT INTO `t` VALUES ('it\\'s;')", "CREATE EVENT `e` DO SELECT 1"]);
    }

    #[test]
    fn the_engine_of_a_table_is_that_outside_its_brackets() {
        for (statement, expected) in [
            (
                "CREATE TABLE `engine` (`engine` int COMMENT 'ENGINE=x') ENGINE=Aria DEFAULT CHARSET=latin1",
                Some("Aria"),
            ),
            (
                "CREATE TABLE `t` (`a` int) ENGINE=InnoDB PARTITION BY RANGE (`a`) (PARTITION p ENGINE = MyISAM)",
                Some("InnoDB"),
            ),
            ("CREATE SEQUENCE `s` start with 1 ENGINE=InnoDB", Some("InnoDB")),
            ("CREATE TABLE `t` (`a` int)", None),
        ] {
            assert_eq!(engine(statement).as_deref(), expected, "{statement}");
        }
    }

    #[test]
    fn a_default_of_a_table_follows_its_sequence() {
        let text = "CREATE TABLE `d` (`d` int DEFAULT nextval(`d`.`s`), `x` int DEFAULT nextval(`e`.`d`), `y` text DEFAULT '`d`.`s`');\n";
        assert_eq!(moved(text, "d", "n"), text.replacen("`d`.`s`", "`n`.`s`", 1));
    }

    #[test]
    fn definers_are_taken_off_what_is_made_and_nothing_else() {
        let free = without_definers(ROUTINES);
        assert_eq!(free, ROUTINES.replace("DEFINER=`ro``ot`@`local host` ", ""));
        let view = "/*!50001 CREATE ALGORITHM=UNDEFINED */\n/*!50013 DEFINER=`r`@`%` SQL SECURITY DEFINER */\n\
            /*!50001 VIEW `v` AS select 'DEFINER=`a`@`b`' */;\n";
        assert_eq!(without_definers(view), view.replace("DEFINER=`r`@`%` ", ""));
        let trigger = "/*!50003 CREATE*/ /*!50017 DEFINER=`r`@`h`*/ /*!50003 trigger t before insert on c for each row set @a=1 */;";
        assert_eq!(without_definers(trigger), trigger.replace("DEFINER=`r`@`h`", ""));
        let role = "CREATE DEFINER=`role` PROCEDURE p() select 1;";
        assert_eq!(without_definers(role), "CREATE PROCEDURE p() select 1;");
        let plain = "CREATE TABLE `t` (`DEFINER` int); CREATE PROCEDURE p() set DEFINER = x;";
        assert_eq!(without_definers(plain), plain);
    }
}
