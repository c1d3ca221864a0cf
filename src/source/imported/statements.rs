//! Cutting SQL of dump programs into statements as it comes.
//!
//! It knows what can hide a semicolon: strings, quoted names, dollar quotes, comments, routine bodies, other
//! delimiters, COPY data. Of a statement it keeps only the beginning, so that a row of a gigabyte takes no memory.

use super::copy::CopyRows;
use crate::db::mysql::script::Backslashes;

/// What is kept of the beginning of a statement.
pub const HEAD_BYTES: usize = 1024;
/// What is kept of a line comment.
const LINE_BYTES: usize = 512;
/// Words longer than this are none that we look for.
const WORD_BYTES: usize = 24;
/// The longest tag of a dollar quote: a name.
const TAG_BYTES: usize = 64;
/// MariaDB's dumps begin with a conditional comment of this version, which is not SQL.
const SANDBOX: &[u8] = b"999999";

/// Whose SQL it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dialect {
    /// PostgreSQL's, for `psql`.
    Postgres,
    /// MySQL's and MariaDB's.
    Mysql,
}

/// Something that was found.
pub enum Found<'a> {
    /// A line comment, without what begins it and the space around.
    Comment(&'a [u8]),
    /// A line for `psql`, without the backslash.
    Command(&'a [u8]),
    /// A statement: its beginning, white space folded; how many rows follow its VALUES; whether it stands in a
    /// conditional comment of MySQL.
    Statement(&'a [u8], u64, bool),
    /// A COPY statement and how many rows followed it.
    Copied(&'a [u8], u64),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    Code,
    /// A string or quoted name, ended by this byte; whether a backslash takes away the meaning of the next byte.
    Quoted(u8, bool),
    /// The byte after a backslash in such a one.
    Escaped(u8),
    /// `--` or `#` to the end of the line; or `\` at the beginning of a statement.
    Line {
        command: bool,
    },
    /// `--` of MySQL: a comment only if white space follows.
    Dashes,
    /// `/*`: what kind of comment is not known yet.
    CommentBegins,
    /// `/*!` or `/*M!`: its version.
    Version,
    /// `/*` to as many `*/`.
    Comment {
        depth: u32,
        last: u8,
    },
    /// `$`: the tag of a dollar quote, perhaps.
    Tag,
    /// In a dollar quote; so many bytes of its end have come.
    Dollar(usize),
    /// The rest of the line of a COPY statement.
    CopyBegins,
    Copy,
}

/// Cuts.
pub struct Statements {
    dialect: Dialect,
    place: Place,
    head: Vec<u8>,
    /// The byte of code before this one; 0 if there is none.
    before: u8,
    word: Vec<u8>,
    last_words: [Vec<u8>; 2],
    depth: u32,
    /// Rows after VALUES; none before that word.
    tuples: Option<u64>,
    /// A routine with a body of statements, and how many of its BEGIN and CASE are open.
    routine: bool,
    begun: u32,
    /// The line comment, version or dollar tag that is being read.
    text: Vec<u8>,
    /// How many semicolons end a statement.
    delimiter: usize,
    /// A delimiter was set that is not made of semicolons.
    odd_delimiter: bool,
    semicolons: usize,
    /// In a conditional comment of MySQL.
    conditional: bool,
    began_conditional: bool,
    /// Plain strings of PostgreSQL have no backslash escapes.
    standard_strings: bool,
    /// Strings of MySQL may have none either.
    backslashes: Backslashes,
    /// The last quote that was closed and whether it had escapes, if nothing came since.
    closed: Option<(u8, bool)>,
    copy: CopyRows,
}

impl Statements {
    /// At the beginning of a file.
    pub fn new(dialect: Dialect) -> Statements {
        Statements {
            dialect,
            place: Place::Code,
            head: Vec::new(),
            before: 0,
            word: Vec::new(),
            last_words: [Vec::new(), Vec::new()],
            depth: 0,
            tuples: None,
            routine: false,
            begun: 0,
            text: Vec::new(),
            delimiter: 1,
            odd_delimiter: false,
            semicolons: 0,
            conditional: false,
            began_conditional: false,
            standard_strings: true,
            backslashes: Backslashes::default(),
            closed: None,
            copy: CopyRows::default(),
        }
    }

    /// Takes the next bytes and hands out what ends in them.
    pub fn push(&mut self, mut bytes: &[u8], each: &mut dyn FnMut(Found<'_>)) {
        while !bytes.is_empty() {
            let used = match self.place {
                Place::Code => self.code(bytes, each),
                Place::Quoted(quote, escapes) => self.quoted(bytes, quote, escapes),
                Place::Escaped(quote) => self.escaped(bytes[0], quote),
                Place::Line { command } => self.line(bytes, command, each),
                Place::Dashes => self.dashes(bytes[0]),
                Place::CommentBegins => self.comment_begins(bytes[0]),
                Place::Version => self.version(bytes[0]),
                Place::Comment { depth, last } => self.comment(bytes, depth, last),
                Place::Tag => self.tag(bytes[0]),
                Place::Dollar(matched) => self.dollar(bytes, matched),
                Place::CopyBegins => self.copy_begins(bytes),
                Place::Copy => self.copy(bytes, each),
            };
            bytes = &bytes[used..];
        }
    }

    /// Whether no statement, comment or data is left open.
    pub fn is_between(&self) -> bool {
        self.place == Place::Code && self.head.is_empty() && !self.conditional
    }

    /// The beginning of the statement that is open, and whether its COPY data is.
    pub fn open(&self) -> (&[u8], bool) {
        (&self.head, matches!(self.place, Place::CopyBegins | Place::Copy))
    }

    /// Whether a delimiter was set that no dump program sets: what was cut then is not what a client cuts.
    pub fn had_odd_delimiter(&self) -> bool {
        self.odd_delimiter
    }

    fn code(&mut self, bytes: &[u8], each: &mut dyn FnMut(Found<'_>)) -> usize {
        for (at, byte) in bytes.iter().enumerate() {
            self.code_byte(*byte, each);
            if self.place != Place::Code {
                return at + 1;
            }
        }
        bytes.len()
    }

    fn code_byte(&mut self, byte: u8, each: &mut dyn FnMut(Found<'_>)) {
        if self.dialect == Dialect::Mysql && is_delimiter_line(&self.head) {
            return if byte == b'\n' { self.set_delimiter() } else { self.keep(byte) };
        }
        let is_word = byte.is_ascii_alphanumeric() || byte == b'_' || byte >= 0x80;
        let starts_escapes = self.word.eq_ignore_ascii_case(b"E");
        if is_word {
            if self.word.len() <= WORD_BYTES {
                self.word.push(byte);
            }
        } else if !self.word.is_empty() {
            self.end_word();
        }
        let (before, closed) = (std::mem::replace(&mut self.before, byte), self.closed.take());
        match (byte, self.dialect) {
            (b'\'' | b'"', _) | (b'`', Dialect::Mysql) => {
                // A doubled quote: the string goes on as it was.
                let again = closed.filter(|(quote, _)| *quote == byte).map(|(_, escapes)| escapes);
                let escapes = again.unwrap_or(match self.dialect {
                    Dialect::Mysql => byte != b'`' && self.backslashes.escape,
                    Dialect::Postgres => byte == b'\'' && (starts_escapes || !self.standard_strings),
                });
                self.place = Place::Quoted(byte, escapes);
                self.keep(byte);
            }
            (b'-', Dialect::Mysql) if before == b'-' => self.place = Place::Dashes,
            (b'-', _) if before == b'-' => self.begin_aside_at_last(Place::Line { command: false }),
            (b'#', Dialect::Mysql) => self.begin_aside(Place::Line { command: false }),
            (b'*', _) if before == b'/' => self.begin_aside_at_last(Place::CommentBegins),
            (b'/', _) if before == b'*' && self.conditional => {
                self.conditional = false;
                self.take_back();
                self.before = b' ';
            }
            (b'$', Dialect::Postgres) if !(before.is_ascii_alphanumeric() || before == b'_' || before >= 0x80) => {
                self.keep(byte);
                self.text.clear();
                self.place = Place::Tag;
            }
            (b'\\', Dialect::Postgres) if self.head.is_empty() => {
                self.text.clear();
                self.place = Place::Line { command: true };
            }
            (b';', _) => self.semicolon(each),
            _ => {
                self.semicolons = 0;
                self.parenthesis(byte);
                self.keep(byte);
            }
        }
    }

    /// What began with the byte before is no code: that byte is taken back.
    fn begin_aside_at_last(&mut self, place: Place) {
        self.take_back();
        self.begin_aside(place);
    }

    /// Takes the last byte of code out of the head, unless that is full: then it stays full, so that everybody sees it.
    fn take_back(&mut self) {
        if self.head.len() < HEAD_BYTES {
            self.head.pop();
        }
    }

    fn begin_aside(&mut self, place: Place) {
        self.before = b' ';
        self.text.clear();
        self.place = place;
    }

    fn parenthesis(&mut self, byte: u8) {
        match byte {
            b'(' => {
                self.depth = self.depth.saturating_add(1);
                if let (1, Some(tuples)) = (self.depth, &mut self.tuples) {
                    *tuples += 1;
                }
            }
            b')' => self.depth = self.depth.saturating_sub(1),
            _ => {}
        }
    }

    /// Keeps a byte of code for the head, with white space folded.
    fn keep(&mut self, byte: u8) {
        if self.head.len() >= HEAD_BYTES {
            return;
        }
        if !byte.is_ascii_whitespace() {
            if self.head.is_empty() {
                self.began_conditional = self.conditional;
            }
            self.head.push(byte);
        } else if self.head.last().is_some_and(|last| *last != b' ') {
            self.head.push(b' ');
        }
    }

    fn end_word(&mut self) {
        let word = std::mem::take(&mut self.word);
        let is = |name: &str| word.eq_ignore_ascii_case(name.as_bytes());
        if self.tuples.is_none() && self.depth == 0 && is("VALUES") && is_insert(&self.head) {
            // One row of nothing but defaults; what else follows brings its rows in parentheses.
            self.tuples = Some(u64::from(self.last_words[1].eq_ignore_ascii_case(b"DEFAULT")));
        }
        if self.dialect == Dialect::Postgres {
            self.follow_routine(&word);
        }
        let [before, last] = &mut self.last_words;
        std::mem::swap(before, last);
        *last = word;
    }

    /// A routine with a body in standard SQL has semicolons between its BEGIN and its END.
    fn follow_routine(&mut self, word: &[u8]) {
        let is = |name: &str| word.eq_ignore_ascii_case(name.as_bytes());
        if !self.routine {
            let created = self.head.get(..7).is_some_and(|head| head.eq_ignore_ascii_case(b"CREATE "));
            self.routine = created && (is("FUNCTION") || is("PROCEDURE")) && self.head.len() < 40;
        } else if is("BEGIN") || (is("CASE") && self.begun > 0) {
            self.begun = self.begun.saturating_add(1);
        } else if is("END") {
            self.begun = self.begun.saturating_sub(1);
        }
    }

    fn semicolon(&mut self, each: &mut dyn FnMut(Found<'_>)) {
        self.semicolons += 1;
        let inside = self.dialect == Dialect::Postgres && (self.depth > 0 || self.begun > 0);
        if self.semicolons < self.delimiter || inside {
            return self.keep(b';');
        }
        while self.head.last().is_some_and(|last| matches!(last, b';' | b' ')) {
            self.head.pop();
        }
        let is = |place: usize, name: &str| self.last_words[place].eq_ignore_ascii_case(name.as_bytes());
        let copies = self.dialect == Dialect::Postgres && self.head.starts_with(b"COPY ");
        if copies && is(0, "FROM") && is(1, "STDIN") {
            self.place = Place::CopyBegins;
            self.copy = CopyRows::default();
            return;
        }
        if !self.head.is_empty() {
            self.follow_settings();
            each(Found::Statement(&self.head, self.tuples.unwrap_or(0), self.began_conditional));
        }
        self.begin_statement();
    }

    fn begin_statement(&mut self) {
        self.head.clear();
        self.before = 0;
        self.word.clear();
        self.last_words.iter_mut().for_each(Vec::clear);
        self.depth = 0;
        self.tuples = None;
        self.routine = false;
        self.begun = 0;
        self.semicolons = 0;
        self.began_conditional = self.conditional;
    }

    fn follow_settings(&mut self) {
        if self.dialect == Dialect::Mysql {
            if self.head.get(..4).is_some_and(|head| head.eq_ignore_ascii_case(b"SET ")) {
                self.backslashes.follow(&String::from_utf8_lossy(&self.head));
            }
            return;
        }
        if let Some(value) = self.head.strip_prefix(b"SET standard_conforming_strings = ") {
            self.standard_strings = value != b"off";
        }
    }

    fn set_delimiter(&mut self) {
        let mut words = self.head.split(|byte| *byte == b' ').filter(|word| !word.is_empty());
        // Only semicolons end statements in what dump programs write.
        let delimiter = words.nth(1).unwrap_or(b";").trim_ascii();
        self.odd_delimiter |= delimiter.iter().any(|byte| *byte != b';');
        self.delimiter = delimiter.len().clamp(1, 8);
        self.begin_statement();
    }

    fn quoted(&mut self, bytes: &[u8], quote: u8, escapes: bool) -> usize {
        let ends = bytes.iter().position(|byte| *byte == quote || (escapes && *byte == b'\\'));
        let used = ends.map_or(bytes.len(), |at| at + 1);
        let room = HEAD_BYTES.saturating_sub(self.head.len()).min(used);
        self.head.extend_from_slice(&bytes[..room]);
        match ends.map(|at| bytes[at]) {
            Some(b'\\') if quote != b'\\' => self.place = Place::Escaped(quote),
            Some(_) => {
                self.closed = Some((quote, escapes));
                self.before = quote;
                self.place = Place::Code;
            }
            None => {}
        }
        used
    }

    fn escaped(&mut self, byte: u8, quote: u8) -> usize {
        if self.head.len() < HEAD_BYTES {
            self.head.push(byte);
        }
        self.place = Place::Quoted(quote, true);
        1
    }

    fn line(&mut self, mut bytes: &[u8], command: bool, each: &mut dyn FnMut(Found<'_>)) -> usize {
        let whole = bytes;
        let used = std::io::BufRead::skip_until(&mut bytes, b'\n').unwrap_or(0);
        let room = LINE_BYTES.saturating_sub(self.text.len()).min(used);
        self.text.extend_from_slice(&whole[..room]);
        if used > 0 && whole[used - 1] == b'\n' {
            let text = self.text.trim_ascii();
            each(if command { Found::Command(text) } else { Found::Comment(text) });
            self.place = Place::Code;
            self.before = b'\n';
        }
        used
    }

    fn dashes(&mut self, byte: u8) -> usize {
        if byte.is_ascii_whitespace() {
            self.begin_aside_at_last(Place::Line { command: false });
        } else {
            // Twice a minus: the first stays in the head, the second is kept now.
            self.keep(b'-');
            self.place = Place::Code;
        }
        0
    }

    fn comment_begins(&mut self, byte: u8) -> usize {
        let last = self.text.last().copied();
        match (self.dialect, last, byte) {
            (Dialect::Mysql, None | Some(b'M'), b'!') => {
                self.text.clear();
                self.place = Place::Version;
                1
            }
            (Dialect::Mysql, None, b'M') => {
                self.text.push(byte);
                1
            }
            _ => {
                self.place = Place::Comment { depth: 1, last: 0 };
                0
            }
        }
    }

    fn version(&mut self, byte: u8) -> usize {
        if byte.is_ascii_digit() && self.text.len() < SANDBOX.len() {
            self.text.push(byte);
            return 1;
        }
        if self.text == SANDBOX {
            self.place = Place::Comment { depth: 1, last: 0 };
        } else {
            self.conditional = true;
            self.place = Place::Code;
        }
        0
    }

    fn comment(&mut self, bytes: &[u8], mut depth: u32, mut last: u8) -> usize {
        for (at, byte) in bytes.iter().enumerate() {
            match (last, byte) {
                (b'*', b'/') => {
                    depth -= 1;
                    last = 0;
                    if depth == 0 {
                        self.place = Place::Code;
                        self.before = b' ';
                        return at + 1;
                    }
                }
                (b'/', b'*') if self.dialect == Dialect::Postgres => {
                    depth = depth.saturating_add(1);
                    last = 0;
                }
                _ => last = *byte,
            }
        }
        self.place = Place::Comment { depth, last };
        bytes.len()
    }

    fn tag(&mut self, byte: u8) -> usize {
        if byte == b'$' {
            self.text.insert(0, b'$');
            self.text.push(b'$');
            self.place = Place::Dollar(0);
            return 1;
        }
        let fits = byte.is_ascii_alphabetic()
            || byte == b'_'
            || byte >= 0x80
            || (byte.is_ascii_digit() && !self.text.is_empty());
        if fits && self.text.len() < TAG_BYTES {
            self.text.push(byte);
            return 1;
        }
        // `$1` and the like: code after all.
        let text = std::mem::take(&mut self.text);
        text.iter().for_each(|byte| self.keep(*byte));
        self.before = text.last().copied().unwrap_or(b'$');
        self.place = Place::Code;
        0
    }

    fn dollar(&mut self, bytes: &[u8], mut matched: usize) -> usize {
        for (at, byte) in bytes.iter().enumerate() {
            matched = match self.text.get(matched) {
                Some(wanted) if wanted == byte => matched + 1,
                // Only the first byte of the tag can be a dollar sign, so nothing else can have begun anew.
                _ => usize::from(*byte == b'$'),
            };
            if matched == self.text.len() {
                self.place = Place::Code;
                self.before = b' ';
                return at + 1;
            }
        }
        self.place = Place::Dollar(matched);
        bytes.len()
    }

    fn copy_begins(&mut self, bytes: &[u8]) -> usize {
        match bytes.iter().position(|byte| *byte == b'\n') {
            Some(at) => {
                self.place = Place::Copy;
                at + 1
            }
            None => bytes.len(),
        }
    }

    fn copy(&mut self, bytes: &[u8], each: &mut dyn FnMut(Found<'_>)) -> usize {
        let used = self.copy.push(bytes);
        if self.copy.ended() {
            each(Found::Copied(&self.head, self.copy.rows()));
            self.begin_statement();
            self.place = Place::Code;
        }
        used
    }
}

fn is_insert(head: &[u8]) -> bool {
    [&b"INSERT "[..], b"REPLACE "]
        .iter()
        .any(|word| head.get(..word.len()).is_some_and(|head| head.eq_ignore_ascii_case(word)))
}

fn is_delimiter_line(head: &[u8]) -> bool {
    head.get(..10).is_some_and(|head| head.eq_ignore_ascii_case(b"DELIMITER "))
}

/// The name of a table at the beginning of `text`: `schema.name`, with or without quotes; none if there is no name.
pub fn table_name(text: &[u8]) -> Option<String> {
    let mut name = Vec::new();
    let mut rest = text.trim_ascii_start();
    loop {
        let (part, after) = name_part(rest)?;
        name.extend_from_slice(&part);
        rest = after;
        match rest.split_first() {
            Some((b'.', after)) => {
                name.push(b'.');
                rest = after;
            }
            _ => break,
        }
    }
    Some(super::report::text(&name))
}

/// One part of a name and what follows it.
fn name_part(text: &[u8]) -> Option<(Vec<u8>, &[u8])> {
    let (quote, mut rest) = match text.split_first()? {
        (quote @ (b'"' | b'`'), rest) => (*quote, rest),
        _ => {
            let ends = text.iter().position(|byte| byte.is_ascii_whitespace() || b"(),;.".contains(byte));
            let (part, rest) = text.split_at(ends.unwrap_or(text.len()));
            return (!part.is_empty()).then(|| (part.to_vec(), rest));
        }
    };
    let mut part = Vec::new();
    loop {
        let at = rest.iter().position(|byte| *byte == quote)?;
        part.extend_from_slice(&rest[..at]);
        rest = &rest[at + 1..];
        if rest.first() != Some(&quote) {
            return Some((part, rest));
        }
        part.push(quote);
        rest = &rest[1..];
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is found, however the text is cut: one line each.
    fn found(dialect: Dialect, text: &str) -> Vec<String> {
        let cut = |step: usize| {
            let mut all = Vec::new();
            let mut statements = Statements::new(dialect);
            for part in text.as_bytes().chunks(step) {
                statements.push(part, &mut |found| {
                    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
                    all.push(match found {
                        Found::Comment(line) => format!("-- {}", text(line)),
                        Found::Command(line) => format!("\\{}", text(line)),
                        Found::Statement(head, tuples, _) => format!("{tuples}: {}", text(head)),
                        Found::Copied(head, rows) => format!("copied {rows}: {}", text(head)),
                    });
                });
            }
            assert!(statements.is_between(), "{text:?} by {step}: {:?}", statements.place);
            all
        };
        let whole = cut(text.len());
        for step in 1..9 {
            assert_eq!(cut(step), whole, "by {step}");
        }
        whole
    }

    #[test]
    fn what_hides_a_semicolon_in_postgres_hides_it_here() {
        let text = "\\restrict abc\n\
            -- a; comment's\n/* a /* nested; */ ' */\n\
            INSERT INTO public.\"a;\"\"b\" VALUES (1, 'x;''y', E'\\';', '\\'), (2, ')(', f(3), NULL);\n\
            INSERT INTO t (a, b) VALUES (1, 2);\nINSERT INTO t DEFAULT VALUES;\n\
            CREATE FUNCTION f() AS $_$ ; $$ INSERT INTO t VALUES (1); $_$;\n\
            CREATE FUNCTION g(a int)\n    BEGIN ATOMIC\n INSERT INTO t VALUES (1); SELECT CASE WHEN $1 THEN 1 END;\nEND;\n\
            CREATE RULE r AS ON INSERT TO t DO (DELETE FROM t; DELETE FROM u);\n\
            COPY public.t (a, b) FROM stdin;\n1\t;'\n2\t$$\n\\.\n\nSELECT 1 - -1;\n";
        assert_eq!(
            found(Dialect::Postgres, text),
            [
                "\\restrict abc",
                "-- a; comment's",
                "2: INSERT INTO public.\"a;\"\"b\" VALUES (1, 'x;''y', E'\\';', '\\'), (2, ')(', f(3), NULL)",
                "1: INSERT INTO t (a, b) VALUES (1, 2)",
                "1: INSERT INTO t DEFAULT VALUES",
                "0: CREATE FUNCTION f() AS $",
                "0: CREATE FUNCTION g(a int) BEGIN ATOMIC INSERT INTO t VALUES (1); SELECT CASE WHEN $1 THEN 1 END; END",
                "0: CREATE RULE r AS ON INSERT TO t DO (DELETE FROM t; DELETE FROM u)",
                "copied 2: COPY public.t (a, b) FROM stdin",
                "0: SELECT 1 - -1",
            ]
        );
    }

    #[test]
    fn backslashes_in_old_strings_take_away_the_meaning_of_a_quote() {
        let text = "SET standard_conforming_strings = off;\nINSERT INTO t VALUES ('\\';'), ('b');\n";
        assert_eq!(found(Dialect::Postgres, text)[1], "2: INSERT INTO t VALUES ('\\';'), ('b')");
    }

    #[test]
    fn what_hides_a_semicolon_in_mysql_hides_it_here() {
        let text = "/*!999999\\- enable the sandbox mode */ \n\
            /*M!100616 SET x=1 */;\n\
            # a; comment\n\
            INSERT INTO `a;``b` VALUES\n(1,'it''s \\'; (',0x00),\n(2,\"(\",_binary '\\\\');\n\
            DELIMITER ;;\n/*!50003 CREATE TRIGGER t BEGIN INSERT INTO x VALUES (1); SET a = '*/'; END */;;\nDELIMITER ;\n\
            /* plain ' comment */ SELECT 1;\nSELECT 5--2; SELECT 3; -- it's\n--\n";
        assert_eq!(
            found(Dialect::Mysql, text),
            [
                "0: SET x=1",
                "-- a; comment",
                "2: INSERT INTO `a;``b` VALUES (1,'it''s \\'; (',0x00), (2,\"(\",_binary '\\\\')",
                "0: CREATE TRIGGER t BEGIN INSERT INTO x VALUES (1); SET a = '*/'; END",
                "0: SELECT 1",
                "0: SELECT 5--2",
                "0: SELECT 3",
                "-- it's",
                "-- ",
            ]
        );
    }

    #[test]
    fn names_are_read_with_and_without_quotes() {
        for (text, name) in [
            ("public.orders (a, b)", Some("public.orders")),
            ("\"Odd.\"\"one\".\"b c\" VALUES", Some("Odd.\"one.b c")),
            ("`a``b`;", Some("a`b")),
            ("t", Some("t")),
            ("(", None),
            ("\"open", None),
            ("", None),
        ] {
            assert_eq!(table_name(text.as_bytes()).as_deref(), name, "{text}");
        }
    }
}
