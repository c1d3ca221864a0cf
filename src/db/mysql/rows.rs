//! The rows of a dump as its bytes come: statements, and the tuples of `INSERT … VALUES (…),(…);` one by one.
//!
//! A `Scanner` is given bytes and hands out pieces; it never holds a row, only the beginning of a statement. It knows
//! what `mysqldump` and `mariadb-dump` write: texts in quotes with backslashes or doubled quotes in them, names in
//! backquotes, hexadecimal numbers, `-- ` and `/* */` comments, comments that are executed (`/*!40101 … */`), the line
//! that switches on MariaDB's sandbox. It does not know `DELIMITER`: streams of rows have no procedures in them.

use super::quote;

/// The longest beginning of a statement, before its rows: 4,096 columns with long names fit many times.
const MAX_HEAD_BYTES: usize = 4 << 20;

/// What comes next in a stream.
#[derive(Debug, PartialEq, Eq)]
pub enum Piece<'a> {
    /// A statement that holds no rows, without its `;`. Executed comments are part of it.
    Statement(&'a [u8]),
    /// A line comment between statements, without its line end.
    Comment(&'a [u8]),
    /// Rows begin: the statement up to `VALUES`.
    Insert(&'a [u8]),
    /// The next bytes of a row: what stands between its parentheses.
    Row(&'a [u8]),
    /// The row ends.
    RowEnd,
    /// The statement with rows ends.
    InsertEnd,
}

/// What a stream of rows cannot hold.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{what} at byte {offset} of the dump")]
pub struct Malformed {
    /// What was found.
    pub what: &'static str,
    /// Where, counted from the stream's first byte.
    pub offset: u64,
}

/// Where in the text the scanner is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Place {
    /// In a statement, or before one.
    #[default]
    Statement,
    /// In a comment up to the end of its line.
    LineComment,
    /// In `/* … */`; whether the last byte was a `*`.
    BlockComment { star: bool },
    /// Behind `VALUES` or a row.
    Tuples,
    /// In a row.
    Row,
}

/// Cuts a stream of SQL into [`Piece`]s.
#[derive(Debug, Default)]
pub struct Scanner {
    place: Place,
    /// The quote that is open.
    quote: Option<u8>,
    /// Whether the last byte was a backslash that escapes the next one.
    escaped: bool,
    /// Parentheses open within the row.
    depth: u32,
    /// The statement so far, or the comment.
    head: Vec<u8>,
    /// Where the head of a statement goes on when a comment within it ends.
    comment_from: usize,
    /// Whether the head was handed out and is to be emptied.
    handed_out: bool,
    offset: u64,
}

impl Scanner {
    /// At the beginning of a stream.
    pub fn new() -> Scanner {
        Scanner::default()
    }

    /// Takes bytes from the beginning of `input` and says how many, and what they made; nothing if all were taken and
    /// more are needed. What was not taken is to be given again.
    pub fn next<'a>(&'a mut self, input: &'a [u8]) -> Result<(usize, Option<Piece<'a>>), Malformed> {
        if std::mem::take(&mut self.handed_out) {
            self.head.clear();
        }
        if self.place == Place::Row {
            return Ok(self.row(input));
        }
        for (at, byte) in input.iter().enumerate() {
            self.offset += 1;
            let made = match self.place {
                Place::Statement => self.statement(*byte)?,
                Place::LineComment => self.line_comment(*byte),
                Place::BlockComment { star } => {
                    self.block_comment(*byte, star);
                    Made::Nothing
                }
                Place::Tuples => self.between_tuples(*byte)?,
                Place::Row => unreachable!("rows are read by `row`"),
            };
            let taken = at + 1;
            match made {
                Made::Nothing => {}
                Made::Statement => return Ok((taken, Some(Piece::Statement(self.hand_out())))),
                Made::Comment => return Ok((taken, Some(Piece::Comment(self.hand_out())))),
                Made::Insert => return Ok((taken, Some(Piece::Insert(self.hand_out())))),
                Made::InsertEnd => return Ok((taken, Some(Piece::InsertEnd))),
                Made::RowBegin => {
                    let (more, piece) = self.row(&input[taken..]);
                    return Ok((taken + more, piece));
                }
            }
        }
        Ok((input.len(), None))
    }

    /// Whether the stream may end here: between statements.
    pub fn may_end(&self) -> bool {
        self.place == Place::Statement && self.quote.is_none() && (self.handed_out || self.head.is_empty())
            || self.place == Place::LineComment && self.comment_from == 0
    }

    fn hand_out(&mut self) -> &[u8] {
        self.handed_out = true;
        self.head.trim_ascii_end()
    }

    fn malformed(&self, what: &'static str) -> Malformed {
        Malformed { what, offset: self.offset }
    }

    fn statement(&mut self, byte: u8) -> Result<Made, Malformed> {
        if self.head.len() >= MAX_HEAD_BYTES {
            return Err(self.malformed("a statement without rows of more than 4 MiB"));
        }
        if let Some(quote) = self.quote {
            self.quoted(byte, quote);
            self.head.push(byte);
            return Ok(Made::Nothing);
        }
        if let [.., b'/', b'*'] = self.head[..]
            && !matches!(byte, b'!' | b'M')
        {
            self.head.truncate(self.head.len() - 2);
            self.comment_from = self.head.len();
            self.place = Place::BlockComment { star: byte == b'*' };
            return Ok(Made::Nothing);
        }
        if byte.is_ascii_whitespace() && self.head.ends_with(b"--") {
            self.head.truncate(self.head.len() - 2);
            return Ok(self.begin_line_comment(byte));
        }
        match byte {
            b'#' => return Ok(self.begin_line_comment(byte)),
            b';' => return Ok(if self.head.is_empty() { Made::Nothing } else { Made::Statement }),
            b'\'' | b'"' | b'`' => self.quote = Some(byte),
            b'(' if self.begins_rows() => {
                self.place = Place::Row;
                self.depth = 0;
                // The row's own parenthesis was taken with the head: hand out the head first, then the row.
                return Ok(Made::Insert);
            }
            _ if byte.is_ascii_whitespace() && self.head.is_empty() => return Ok(Made::Nothing),
            _ if byte.is_ascii_whitespace() && self.begins_rows() => {
                self.place = Place::Tuples;
                return Ok(Made::Insert);
            }
            _ => {}
        }
        self.head.push(byte);
        if self.head.ends_with(b"*/") && is_sandbox_line(&self.head) {
            return Ok(Made::Comment);
        }
        Ok(Made::Nothing)
    }

    fn begins_rows(&self) -> bool {
        let Some(before) = self.head.len().checked_sub(b"VALUES".len()) else { return false };
        let (front, word) = self.head.split_at(before);
        word.eq_ignore_ascii_case(b"VALUES")
            && front.last().is_some_and(|byte| byte.is_ascii_whitespace() || matches!(byte, b')' | b'`'))
            && [&b"INSERT"[..], b"REPLACE"].iter().any(|verb| begins_with_word(front, verb))
    }

    fn begin_line_comment(&mut self, byte: u8) -> Made {
        self.comment_from = self.head.len();
        self.place = Place::LineComment;
        match byte {
            b'\n' => self.line_comment(byte),
            _ => Made::Nothing,
        }
    }

    fn line_comment(&mut self, byte: u8) -> Made {
        if byte != b'\n' {
            // Long ones are cut: nothing that we look for is long.
            if self.head.len() < MAX_HEAD_BYTES {
                self.head.push(byte);
            }
            return Made::Nothing;
        }
        self.place = Place::Statement;
        if self.comment_from > 0 {
            self.head.truncate(self.comment_from);
            self.comment_from = 0;
            return Made::Nothing;
        }
        match self.head.is_empty() {
            true => Made::Nothing,
            false => Made::Comment,
        }
    }

    fn block_comment(&mut self, byte: u8, star: bool) {
        self.place = match (star, byte) {
            (true, b'/') => Place::Statement,
            _ => Place::BlockComment { star: byte == b'*' },
        };
    }

    fn between_tuples(&mut self, byte: u8) -> Result<Made, Malformed> {
        match byte {
            b'(' => {
                self.place = Place::Row;
                self.depth = 0;
                Ok(Made::RowBegin)
            }
            b';' => {
                self.place = Place::Statement;
                Ok(Made::InsertEnd)
            }
            b',' => Ok(Made::Nothing),
            _ if byte.is_ascii_whitespace() => Ok(Made::Nothing),
            _ => Err(self.malformed("something that is no row between rows")),
        }
    }

    fn row<'a>(&mut self, input: &'a [u8]) -> (usize, Option<Piece<'a>>) {
        let length = self.row_bytes(input);
        self.offset += length as u64;
        match input.get(length) {
            _ if length > 0 => (length, Some(Piece::Row(&input[..length]))),
            Some(_) => {
                self.offset += 1;
                self.place = Place::Tuples;
                (1, Some(Piece::RowEnd))
            }
            None => (0, None),
        }
    }

    /// How many bytes belong to the row, up to its closing parenthesis.
    fn row_bytes(&mut self, input: &[u8]) -> usize {
        let mut at = 0;
        while let Some(byte) = input.get(at) {
            if let Some(quote) = self.quote {
                at += self.rest_of_quoted(&input[at..], quote);
                continue;
            }
            match byte {
                b'\'' | b'"' | b'`' => self.quote = Some(*byte),
                b'(' => self.depth += 1,
                b')' if self.depth == 0 => return at,
                b')' => self.depth -= 1,
                _ => {}
            }
            at += 1;
        }
        at
    }

    /// How many bytes belong to the quoted text, its closing quote included. A doubled quote closes and opens again.
    fn rest_of_quoted(&mut self, input: &[u8], quote: u8) -> usize {
        let mut at = usize::from(std::mem::take(&mut self.escaped));
        while let Some(next) = input[at.min(input.len())..].iter().position(|byte| *byte == quote || *byte == b'\\') {
            at += next;
            if input[at] == quote {
                self.quote = None;
                return at + 1;
            }
            // Names in backquotes know no backslash.
            at += if quote == b'`' { 1 } else { 2 };
            if at > input.len() {
                self.escaped = true;
                return input.len();
            }
        }
        input.len()
    }

    fn quoted(&mut self, byte: u8, quote: u8) {
        if std::mem::take(&mut self.escaped) {
            return;
        }
        if byte == quote {
            self.quote = None;
        }
        self.escaped = byte == b'\\' && quote != b'`';
    }
}

/// What a byte completed.
enum Made {
    Nothing,
    Statement,
    Comment,
    Insert,
    RowBegin,
    InsertEnd,
}

/// MariaDB's programs begin dumps with a line that keeps the client from running commands of the shell. It has no `;`,
/// and MySQL's client stumbles over it.
pub fn is_sandbox_line(line: &[u8]) -> bool {
    line.starts_with(b"/*M!999999\\-") || line.starts_with(b"/*!999999\\-")
}

fn begins_with_word(text: &[u8], word: &[u8]) -> bool {
    text.get(..word.len()).is_some_and(|begin| begin.eq_ignore_ascii_case(word))
        && text.get(word.len()).is_some_and(u8::is_ascii_whitespace)
}

/// The table that rows go into, from the beginning of their statement.
pub fn table_of_insert(head: &[u8]) -> Option<String> {
    let head = std::str::from_utf8(head).ok()?;
    let mut rest = head;
    loop {
        let (word, after) = rest.split_once(char::is_whitespace)?;
        rest = after.trim_start();
        if word.eq_ignore_ascii_case("INTO") {
            break;
        }
    }
    let (name, after) = quote::unquoted(rest)?;
    // `database`.`table`
    match after.strip_prefix('.') {
        Some(table) => quote::unquoted(table).map(|(table, _)| table),
        None => Some(name),
    }
}

/// The table whose keys a statement switches off (`false`) or on again: how dump programs begin and end the rows of each.
pub fn keys_switched(statement: &[u8]) -> Option<(String, bool)> {
    let text = std::str::from_utf8(statement).ok()?;
    let rest = text.strip_prefix("/*!40000 ALTER TABLE ")?;
    let (table, rest) = quote::unquoted(rest)?;
    match rest {
        " DISABLE KEYS */" => Some((table, false)),
        " ENABLE KEYS */" => Some((table, true)),
        _ => None,
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// What a whole text is made of, given in pieces of `step` bytes; each row put together.
    fn scan(text: &[u8], step: usize) -> Result<Vec<(char, Vec<u8>)>, Malformed> {
        let mut scanner = Scanner::new();
        let (mut found, mut row) = (Vec::new(), Vec::new());
        for piece in text.chunks(step) {
            let mut rest = piece;
            while !rest.is_empty() {
                let (taken, piece) = scanner.next(rest)?;
                match piece {
                    Some(Piece::Statement(text)) => found.push(('s', text.to_vec())),
                    Some(Piece::Comment(text)) => found.push(('c', text.to_vec())),
                    Some(Piece::Insert(text)) => found.push(('i', text.to_vec())),
                    Some(Piece::Row(text)) => row.extend_from_slice(text),
                    Some(Piece::RowEnd) => found.push(('r', std::mem::take(&mut row))),
                    Some(Piece::InsertEnd) => found.push((';', Vec::new())),
                    None => assert_eq!(taken, rest.len()),
                }
                rest = &rest[taken..];
            }
        }
        assert_eq!(scanner.offset, text.len() as u64);
        if !scanner.may_end() {
            found.push(('!', Vec::new()));
        }
        Ok(found)
    }

    fn shown(text: &str) -> String {
        let whole = scan(text.as_bytes(), usize::MAX).unwrap();
        for step in [1, 2, 3, 7] {
            assert_eq!(scan(text.as_bytes(), step).unwrap(), whole, "in pieces of {step}");
        }
        whole.iter().map(|(kind, text)| format!("{kind}{}|", String::from_utf8_lossy(text))).collect()
    }

    #[test]
    fn rows_are_told_apart_as_both_families_write_them() {
        assert_eq!(
            shown("INSERT INTO `t` VALUES\n(1,'a'),\n(2,NULL);\nINSERT INTO `t` VALUES (3,0xFF);\n"),
            "iINSERT INTO `t` VALUES|r1,'a'|r2,NULL|;|iINSERT INTO `t` VALUES|r3,0xFF|;|"
        );
        assert_eq!(
            shown("INSERT INTO `t` VALUES (1,'a'),(2,_binary 'b');INSERT INTO `a`(`b`) VALUES(1);"),
            "iINSERT INTO `t` VALUES|r1,'a'|r2,_binary 'b'|;|iINSERT INTO `a`(`b`) VALUES|r1|;|"
        );
        assert_eq!(shown("REPLACE INTO t (`values (`) VALUES ();"), "iREPLACE INTO t (`values (`) VALUES|r|;|");
    }

    #[test]
    fn what_looks_like_an_end_within_quotes_is_none() {
        let row = r#"'it\'s),(\\','a''b);','quote " in','-- x',"d\"q)",`n)`,(1+(2)),'\\\\',ST_X('(')"#;
        assert_eq!(
            shown(&format!("INSERT INTO `t` VALUES ({row}),(2);")),
            format!("iINSERT INTO `t` VALUES|r{row}|r2|;|")
        );
    }

    #[test]
    fn comments_and_statements_stand_between_rows() {
        let text = "/*M!999999\\- enable the sandbox mode */ \n-- MariaDB dump\n--\n# x\n/* plain; ' */\n\
                    /*!40101 SET NAMES utf8mb4 */;\nSET a='x;y' /* b; */ -- c;\n, d=1;;\n-- Dump completed\n";
        assert_eq!(
            shown(text),
            "c/*M!999999\\- enable the sandbox mode */|cMariaDB dump|c x|s/*!40101 SET NAMES utf8mb4 */|\
             sSET a='x;y'  , d=1|cDump completed|"
        );
    }

    #[test]
    fn a_stream_that_breaks_off_is_noticed() {
        let text = "INSERT INTO `t` VALUES (1,'a'),(2,'b');";
        for end in 1..text.len() {
            assert!(shown(&text[..end]).ends_with("!|"), "{:?}", &text[..end]);
        }
    }

    #[test]
    fn something_between_rows_is_refused() {
        let error = scan(b"INSERT INTO `t` VALUES (1) ON DUPLICATE KEY UPDATE a=1;", usize::MAX).unwrap_err();
        assert_eq!(error.offset, 28);
        assert!(scan(&b"a".repeat(MAX_HEAD_BYTES + 1), usize::MAX).is_err(), "without bound");
    }

    #[test]
    fn tables_are_named_by_what_stands_around_their_rows() {
        assert_eq!(table_of_insert(b"INSERT  IGNORE INTO `a``b` (`c`) VALUES").unwrap(), "a`b");
        assert_eq!(table_of_insert(b"INSERT INTO `d`.`t` VALUES").unwrap(), "t");
        assert_eq!(table_of_insert(b"INSERT INTO plain VALUES").unwrap(), "plain");
        assert_eq!(table_of_insert(b"INSERT VALUES"), None);
        assert_eq!(keys_switched(b"/*!40000 ALTER TABLE `a b` DISABLE KEYS */"), Some(("a b".into(), false)));
        assert_eq!(keys_switched(b"/*!40000 ALTER TABLE `a` ENABLE KEYS */"), Some(("a".into(), true)));
        assert_eq!(keys_switched(b"/*!40000 ALTER TABLE `a` DROP KEYS */"), None);
    }

    /// A value as dump programs write it.
    fn value() -> impl Strategy<Value = String> {
        prop_oneof![
            Just("NULL".to_owned()),
            any::<i64>().prop_map(|number| number.to_string()),
            proptest::collection::vec(any::<u8>(), 0..9)
                .prop_map(|bytes| { bytes.iter().fold("0x".to_owned(), |text, byte| format!("{text}{byte:02X}")) }),
            proptest::collection::vec(prop_oneof![Just('\''), Just('\\'), Just(')'), Just(';'), any::<char>()], 0..12)
                .prop_map(|letters| {
                    let escaped: String = letters
                        .iter()
                        .map(|letter| match letter {
                            '\'' => "\\'".to_owned(),
                            '\\' => "\\\\".to_owned(),
                            other => other.to_string(),
                        })
                        .collect();
                    format!("'{escaped}'")
                }),
        ]
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn any_rows_come_out_as_they_went_in(
            rows in proptest::collection::vec(proptest::collection::vec(value(), 1..4), 1..6),
            step in 1_usize..40,
        ) {
            let rows: Vec<String> = rows.iter().map(|row| row.join(",")).collect();
            let text = format!("INSERT INTO `t` VALUES ({});", rows.join("),\n("));
            let found: Vec<String> = scan(text.as_bytes(), step)
                .unwrap()
                .into_iter()
                .filter(|(kind, _)| *kind == 'r')
                .map(|(_, row)| String::from_utf8(row).unwrap())
                .collect();
            prop_assert_eq!(found, rows);
        }

        #[test]
        fn any_bytes_are_cut_the_same_however_they_arrive(
            bytes in proptest::collection::vec(
                prop_oneof![
                    Just(&b"INSERT INTO `t` VALUES "[..]), Just(&b"("[..]), Just(&b")"[..]), Just(&b","[..]),
                    Just(&b"'"[..]), Just(&b"\\"[..]), Just(&b"`"[..]), Just(&b";"[..]), Just(&b"\n"[..]),
                    Just(&b"-- "[..]), Just(&b"/*"[..]), Just(&b"*/"[..]), Just(&b"/*!1 "[..]), Just(&b"x"[..]),
                ],
                0..40,
            ),
        ) {
            let bytes = bytes.concat();
            let whole = scan(&bytes, usize::MAX);
            for step in [1, 5] {
                prop_assert_eq!(scan(&bytes, step), whole.clone());
            }
        }
    }
}
