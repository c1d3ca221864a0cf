//! Sizes, counts, times and names as people read them.

pub use crate::base::counted::{count, counted};

use crate::format::snapshot::Snapshot;
use crate::repo::ledger::State;
use crate::store::Traffic;
use jiff::Timestamp;
use jiff::tz::TimeZone;
use std::fmt::Write;

/// A size in binary units: `512 B`, `1.5 MiB`.
pub fn bytes(bytes: u64) -> String {
    const UNITS: [&str; 6] = ["KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
    if bytes < 1024 {
        return format!("{bytes} B");
    }
    let mut value = bytes as f64 / 1024.0;
    let mut unit = 0;
    // 1023.95 would be printed as 1024.0.
    while value >= 1023.95 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    format!("{value:.1} {}", UNITS[unit])
}

/// What was asked of a store: requests by what they cost, repeats, bytes.
pub fn traffic(traffic: &Traffic) -> String {
    let kinds = [
        (traffic.writes, "to write"),
        (traffic.lists, "to list"),
        (traffic.reads, "to read"),
        (traffic.deletes, "to delete"),
    ];
    let kinds: Vec<String> = kinds
        .iter()
        .filter(|(number, _)| *number > 0)
        .map(|(number, what)| format!("{} {what}", count(*number)))
        .collect();
    let repeated = match traffic.retries {
        0 => String::new(),
        retries => format!(", {} of them again", count(retries)),
    };
    let (sent, received) = (bytes(traffic.sent_bytes), bytes(traffic.received_bytes));
    let requests = counted(traffic.requests(), "request");
    format!("{requests}: {}{repeated}; {sent} sent, {received} received", kinds.join(", "))
}

/// A share in percent.
pub fn share(part: u64, whole: u64) -> String {
    match whole {
        0 => "0 %".to_owned(),
        _ => format!("{:.1} %", part as f64 * 100.0 / whole as f64),
    }
}

/// A moment in local time, to the second.
pub fn time(ns: i64) -> String {
    match Timestamp::from_nanosecond(i128::from(ns)) {
        Ok(time) => time.to_zoned(TimeZone::system()).strftime("%Y-%m-%d %H:%M:%S").to_string(),
        Err(_) => "?".to_owned(),
    }
}

/// How long ago a moment was, in its largest unit: `<1h`, `5h`, `12d`. What has not come yet is not long ago.
pub fn age(at_ns: i64, now_ns: i64) -> String {
    let hours = now_ns.saturating_sub(at_ns).max(0) / 3_600_000_000_000;
    match hours {
        0 => "<1h".to_owned(),
        1..48 => format!("{hours}h"),
        _ => format!("{}d", hours / 24),
    }
}

/// Whether all could be read, and whether it was made with a write-only key.
pub fn completeness(snapshot: &Snapshot) -> String {
    let state = if snapshot.partial { "partial" } else { "complete" };
    format!("{state}{}", if snapshot.unverified { ", write-only" } else { "" })
}

/// What is known of a snapshot, with its age: `verified 3d`.
pub fn state(state: State, now_ns: i64) -> String {
    match state.at_ns() {
        Some(at_ns) => format!("{} {}", state.name(), age(at_ns, now_ns)),
        None => state.name().to_owned(),
    }
}

/// A moment as programs read it: RFC 3339 in UTC, with nanoseconds where there are any.
pub fn rfc3339(ns: i64) -> String {
    Timestamp::from_nanosecond(i128::from(ns)).unwrap_or(Timestamp::UNIX_EPOCH).to_string()
}

/// A name or path for a terminal: what is not printable or not UTF-8 is escaped, and so is the backslash, so that
/// two different names never look the same and no name can send commands to the terminal.
pub fn name(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        for character in chunk.valid().chars() {
            match character {
                '\\' => text.push_str("\\\\"),
                '\n' => text.push_str("\\n"),
                '\t' => text.push_str("\\t"),
                '\r' => text.push_str("\\r"),
                _ if character.is_control() || is_deceiving(character) => {
                    let _ = write!(text, "\\u{{{:x}}}", u32::from(character));
                }
                _ => text.push(character),
            }
        }
        for byte in chunk.invalid() {
            let _ = write!(text, "\\x{byte:02x}");
        }
    }
    text
}

/// Characters that change the direction of what follows, or separate lines.
fn is_deceiving(character: char) -> bool {
    matches!(character, '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}')
}

/// A database in a snapshot: place, server, tables, rows, size.
pub fn dump(dump: &crate::format::snapshot::Dump) -> String {
    let place = name(dump.path.0.strip_prefix(b"/").unwrap_or(&dump.path.0));
    let (tables, rows) = (counted(dump.tables, "table"), counted(dump.rows, "row"));
    // `15.18 (Debian 15.18-0+deb12u1)`: who packed it matters less.
    let server = dump.server.split(" (").next().unwrap_or_default();
    format!("{place} ({}): {tables}, {rows}, {}", name(server.as_bytes()), bytes(dump.bytes))
}

/// A table with its schema where there is one.
pub fn table(schema: &str, table: &str) -> String {
    match schema {
        "" => name(table.as_bytes()),
        _ => format!("{}.{}", name(schema.as_bytes()), name(table.as_bytes())),
    }
}

/// The mode as `ls -l` shows it.
pub fn mode(kind: crate::format::tree::NodeKind, mode: u32) -> String {
    use crate::format::tree::NodeKind;
    let mut text = String::with_capacity(10);
    text.push(match kind {
        NodeKind::File => '-',
        NodeKind::Directory => 'd',
        NodeKind::Symlink => 'l',
        NodeKind::Fifo => 'p',
        NodeKind::Socket => 's',
        NodeKind::CharDevice => 'c',
        NodeKind::BlockDevice => 'b',
    });
    for (shift, special, letter) in [(6, 0o4000, 's'), (3, 0o2000, 's'), (0, 0o1000, 't')] {
        let bits = mode >> shift;
        text.push(if bits & 4 != 0 { 'r' } else { '-' });
        text.push(if bits & 2 != 0 { 'w' } else { '-' });
        text.push(match (bits & 1 != 0, mode & special != 0) {
            (true, true) => letter,
            (false, true) => letter.to_ascii_uppercase(),
            (true, false) => 'x',
            (false, false) => '-',
        });
    }
    text
}

/// A word for a shell: as it is where that is safe, else in quotes.
pub fn shell_word(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./,:=@%+~".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', r"'\''"))
    }
}

/// An option with its value, for somebody who copies it: a value that begins like an option is taken for its value all the same.
pub fn option(flag: &str, value: &str) -> String {
    format!("{flag}{}{}", if value.starts_with('-') { '=' } else { ' ' }, shell_word(value))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::tree::NodeKind;

    #[test]
    fn sizes_and_counts_are_easy_to_read() {
        assert_eq!(bytes(0), "0 B");
        assert_eq!(bytes(1023), "1023 B");
        assert_eq!(bytes(1536), "1.5 KiB");
        assert_eq!(bytes((1 << 20) - 1), "1.0 MiB");
        assert_eq!(bytes(u64::MAX), "16.0 EiB");
        assert_eq!(count(999), "999");
        assert_eq!(count(1_234_567), "1,234,567");
        assert_eq!(counted(1, "directory"), "1 directory");
        assert_eq!(counted(2, "directory"), "2 directories");
        assert_eq!(counted(2, "key"), "2 keys");
        assert_eq!(share(1, 0), "0 %");
    }

    #[test]
    fn ages_have_one_unit() {
        const HOUR_NS: i64 = 3_600_000_000_000;
        for (hours, text) in [(-5, "<1h"), (0, "<1h"), (1, "1h"), (47, "47h"), (48, "2d"), (24 * 400, "400d")] {
            assert_eq!(age(0, hours * HOUR_NS + 1), text);
        }
        assert_eq!(state(State::Verified(0), 72 * HOUR_NS), "verified 3d");
        assert_eq!(state(State::Unverified, 0), "unverified");
    }

    #[test]
    fn no_name_reaches_the_terminal_as_it_is() {
        assert_eq!(name(b"plain \xc3\xa9"), "plain é");
        assert_eq!(name(b"a\nb\x1b[31m\\\xff"), "a\\nb\\u{1b}[31m\\\\\\xff");
        assert_eq!(name("gpj.\u{202e}exe".as_bytes()), "gpj.\\u{202e}exe");
    }

    #[test]
    fn modes_look_as_in_ls() {
        assert_eq!(mode(NodeKind::File, 0o4755), "-rwsr-xr-x");
        assert_eq!(mode(NodeKind::Directory, 0o1777), "drwxrwxrwt");
        assert_eq!(mode(NodeKind::File, 0o2640), "-rw-r-S---");
    }

    #[test]
    fn words_for_the_shell_are_quoted_when_they_must_be() {
        assert_eq!(shell_word("./demo"), "./demo");
        assert_eq!(shell_word("it's"), r"'it'\''s'");
        assert_eq!(shell_word(""), "''");
        assert_eq!(option("--database", "a b"), "--database 'a b'");
        assert_eq!(option("--database", "-x"), "--database=-x");
    }
}
