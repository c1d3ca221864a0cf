//! Values that people write on the command line: those of the config, and times and databases.

use super::Named;
use crate::base::Timestamp;
pub use crate::config::values::{encryption, lock, percent, rate, share, size, tag};
use jiff::Zoned;
use jiff::civil::DateTime;
use jiff::tz::TimeZone;

/// A moment: `2025-03-10T14:00:00Z`, `2025-03-10 14:00:00+01:00`, or `2025-03-10 14:00` in local time.
pub fn time(text: &str) -> Result<Timestamp, String> {
    let local = || -> Option<Zoned> { text.parse::<DateTime>().ok()?.to_zoned(TimeZone::system()).ok() };
    let moment = text
        .parse::<Timestamp>()
        .ok()
        .or_else(|| local().map(|zoned| zoned.timestamp()))
        .ok_or_else(|| format!("`{text}` is not a time: write 2025-03-10 14:00:00, or 2025-03-10T14:00:00Z"))?;
    // Snapshots count nanoseconds since 1970 in 64 bits.
    match i64::try_from(moment.as_nanosecond()) {
        Ok(_) => Ok(moment),
        Err(_) => Err(format!("`{text}` is no time that a snapshot can have: it must lie between 1678 and 2262")),
    }
}

/// Words that stand before `=` in the `key=value` form of an address, so that they cannot be the name of a database
/// there. (libpq, "Parameter Key Words")
const KEY_WORDS: [&str; 16] = [
    "host",
    "hostaddr",
    "port",
    "dbname",
    "user",
    "password",
    "passfile",
    "service",
    "sslmode",
    "sslrootcert",
    "sslcert",
    "sslkey",
    "options",
    "application_name",
    "connect_timeout",
    "target_session_attrs",
];

/// A database: `NAME=ADDRESS` or an address alone, which may have `=` in it. A name is made of letters, digits and
/// `_.-`.
pub fn named(text: &str) -> Result<Named, String> {
    let plain = |name: &str| name.chars().all(|c| c.is_alphanumeric() || "_.-".contains(c));
    let (name, address) = match text.split_once('=') {
        Some((name, address)) if !name.is_empty() && plain(name) && !is_key_word(name, address) => {
            (Some(name.to_owned()), address)
        }
        _ => (None, text),
    };
    Ok(Named { name, address: address.to_owned() })
}

fn is_key_word(name: &str, address: &str) -> bool {
    KEY_WORDS.contains(&name) && !address.contains("://")
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_time_that_no_snapshot_can_have_is_refused() {
        for text in ["9999-01-01", "2263-01-01T00:00:00Z", "1600-01-01 00:00:00"] {
            assert!(time(text).unwrap_err().contains("between 1678 and 2262"), "{text}");
        }
        assert!(time("1969-12-31").is_ok());
    }

    #[test]
    fn times_are_read_with_and_without_a_zone() {
        assert_eq!(time("2025-03-10T14:00:00Z").unwrap().to_string(), "2025-03-10T14:00:00Z");
        assert!(time("2025-03-10 14:00").is_ok());
        assert!(time("2025-03-10").is_ok());
        assert!(time("yesterday").is_err());
    }

    #[test]
    fn a_database_may_have_a_name_before_its_address() {
        let parts = |text: &str| {
            let Named { name, address } = named(text).unwrap();
            (name.unwrap_or_default(), address)
        };
        for (text, name, address) in [
            ("shop=postgres://u@h/d?sslmode=require", "shop", "postgres://u@h/d?sslmode=require"),
            ("postgres://u@h/d?sslmode=require", "", "postgres://u@h/d?sslmode=require"),
            ("host=/run/pg dbname=d", "", "host=/run/pg dbname=d"),
            ("d2=host=/run/pg dbname=d", "d2", "host=/run/pg dbname=d"),
            ("user=mysql://h/d", "user", "mysql://h/d"),
            ("shop", "", "shop"),
            ("", "", ""),
        ] {
            assert_eq!(parts(text), (name.to_owned(), address.to_owned()), "{text}");
        }
    }
}
