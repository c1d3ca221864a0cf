//! Names of users and groups.
//!
//! Read from `/etc/passwd` and `/etc/group` themselves: asking the C library may start a conversation with a
//! directory server for every unknown number. Accounts that only a directory server knows keep their numbers.

use std::collections::HashMap;
use std::io::Read;
use std::path::Path;

/// More than this is not read of an account file; a hundred thousand accounts take about 8 MB.
const LIMIT_BYTES: u64 = 16 * 1024 * 1024;

/// The users and groups of this machine, by number and by name.
#[derive(Clone, Debug, Default)]
pub struct Accounts {
    users: Table,
    groups: Table,
}

#[derive(Clone, Debug, Default)]
struct Table {
    names: HashMap<u32, String>,
    numbers: HashMap<String, u32>,
}

impl Accounts {
    /// The accounts of this machine; a file that cannot be read counts as empty.
    pub fn of_this_machine() -> Accounts {
        Accounts::parse(&read(Path::new("/etc/passwd")), &read(Path::new("/etc/group")))
    }

    /// Accounts from the contents of `/etc/passwd` and `/etc/group`; lines that make no sense are skipped.
    pub fn parse(passwd: &[u8], group: &[u8]) -> Accounts {
        Accounts { users: Table::parse(passwd), groups: Table::parse(group) }
    }

    /// The name of a user.
    pub fn user_name(&self, uid: u32) -> Option<&str> {
        self.users.names.get(&uid).map(String::as_str)
    }

    /// The name of a group.
    pub fn group_name(&self, gid: u32) -> Option<&str> {
        self.groups.names.get(&gid).map(String::as_str)
    }

    /// The number of a user on this machine.
    pub fn user_number(&self, name: &str) -> Option<u32> {
        self.users.numbers.get(name).copied()
    }

    /// The number of a group on this machine.
    pub fn group_number(&self, name: &str) -> Option<u32> {
        self.groups.numbers.get(name).copied()
    }
}

impl Table {
    /// Both files begin their lines with `name:password:number:`. The first line of a name or a number counts.
    fn parse(text: &[u8]) -> Table {
        let mut table = Table::default();
        for line in text.split(|&c| c == b'\n') {
            let Some((name, number)) = name_and_number(line) else {
                continue;
            };
            table.names.entry(number).or_insert_with(|| name.to_owned());
            table.numbers.entry(name.to_owned()).or_insert(number);
        }
        table
    }
}

fn name_and_number(line: &[u8]) -> Option<(&str, u32)> {
    let mut fields = std::str::from_utf8(line).ok()?.split(':');
    let name = fields.next()?;
    let number = fields.nth(1)?.parse().ok()?;
    // `+` and `-` begin the lines by which NIS used to be switched on.
    (!name.is_empty() && !name.starts_with(['+', '-', '#'])).then_some((name, number))
}

fn read(path: &Path) -> Vec<u8> {
    let mut bytes = Vec::new();
    let result = std::fs::File::open(path).and_then(|file| file.take(LIMIT_BYTES).read_to_end(&mut bytes));
    match result {
        Ok(_) => bytes,
        Err(_) => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_numbers_are_found_both_ways() {
        let accounts = Accounts::parse(
            b"root:x:0:0:root:/:/bin/sh\nnonsense\n+::::::\ntoor:x:0:0::/:/\nann:x:1000:1000\n",
            b"wheel:x:10:ann\nann:x:1000:",
        );
        assert_eq!(accounts.user_name(0), Some("root"));
        assert_eq!(accounts.user_number("toor"), Some(0));
        assert_eq!(accounts.user_number("ann"), Some(1000));
        assert_eq!(accounts.group_name(10), Some("wheel"));
        assert_eq!(accounts.group_number("nobody"), None);
    }
}
