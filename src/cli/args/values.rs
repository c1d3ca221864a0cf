//! Values that people write: sizes, shares, times.

use super::Named;
use crate::base::Timestamp;
use crate::store::{S3Encryption, S3Lock, S3LockMode};
use jiff::Zoned;
use jiff::civil::DateTime;
use jiff::tz::TimeZone;

/// A size: a number with `K`, `M`, `G` or `T` behind it (powers of 1024), or a plain number of bytes.
pub fn size(text: &str) -> Result<u64, String> {
    let wrong = || format!("`{text}` is not a size: write a number of bytes, or 500K, 20M, 1.5G, 2T");
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let shift = match text[digits.len()..].to_ascii_lowercase().as_str() {
        "" | "b" => 0,
        "k" | "kb" | "kib" => 10,
        "m" | "mb" | "mib" => 20,
        "g" | "gb" | "gib" => 30,
        "t" | "tb" | "tib" => 40,
        _ => return Err(wrong()),
    };
    if let Ok(whole) = digits.parse::<u64>() {
        return whole.checked_mul(1 << shift).ok_or_else(wrong);
    }
    let number: f64 = digits.parse().map_err(|_| wrong())?;
    let bytes = number * (1u64 << shift) as f64;
    // Above 2^53 a fraction is beyond what the number can hold anyway.
    if (0.0..9e15).contains(&bytes) { Ok(bytes as u64) } else { Err(wrong()) }
}

/// A bandwidth: KiB a second, or a size a second with `K`, `M` or `G` behind it. The answer is in bytes a second.
pub fn rate(text: &str) -> Result<u64, String> {
    let wrong = || format!("`{text}` is not a bandwidth: write KiB a second, as in 500, or 2M");
    let unit = if text.ends_with(|c: char| c.is_ascii_digit()) { "K" } else { "" };
    size(&format!("{text}{unit}")).ok().filter(|rate| *rate >= 1024).ok_or_else(wrong)
}

/// A tag: `KEY=VALUE`.
pub fn tag(text: &str) -> Result<(String, String), String> {
    let (key, value) = text.split_once('=').ok_or_else(|| format!("`{text}` is not a tag: write KEY=VALUE"))?;
    if key.is_empty() {
        Err(format!("`{text}` has no key: write KEY=VALUE"))
    } else {
        Ok((key.to_owned(), value.to_owned()))
    }
}

/// How a server encrypts: `AES256`, `aws:kms` or `aws:kms:KEY`.
pub fn encryption(text: &str) -> Result<S3Encryption, String> {
    match (text, text.strip_prefix("aws:kms:")) {
        ("AES256", _) => Ok(S3Encryption::Aes256),
        ("aws:kms", _) => Ok(S3Encryption::Kms(None)),
        (_, Some(key)) if !key.is_empty() => Ok(S3Encryption::Kms(Some(key.to_owned()))),
        _ => Err(format!("`{text}` is no encryption of S3: write AES256, aws:kms or aws:kms:KEY")),
    }
}

/// A retention: `governance:DAYS` or `compliance:DAYS`.
pub fn lock(text: &str) -> Result<S3Lock, String> {
    let wrong = || format!("`{text}` is no retention: write governance:DAYS or compliance:DAYS");
    let (mode, days) = text.split_once(':').ok_or_else(wrong)?;
    let mode = match mode {
        "governance" => S3LockMode::Governance,
        "compliance" => S3LockMode::Compliance,
        _ => return Err(wrong()),
    };
    Ok(S3Lock { mode, days: days.parse().map_err(|_| wrong())? })
}

/// A share: `5%`. The answer is between 0 and 100.
pub fn percent(text: &str) -> Result<f64, String> {
    let number = text.strip_suffix('%').and_then(|number| number.trim().parse::<f64>().ok());
    number
        .filter(|number| *number > 0.0 && *number <= 100.0)
        .ok_or_else(|| format!("`{text}` is not a share: write 5%, up to 100%"))
}

/// A share of a whole: `1/30`.
pub fn share(text: &str) -> Result<(u32, u32), String> {
    let parts = text.split_once('/').and_then(|(parts, of)| Some((parts.parse().ok()?, of.parse().ok()?)));
    parts
        .filter(|(parts, of)| (1..=*of).contains(parts))
        .ok_or_else(|| format!("`{text}` is not a share: write 1/30, up to 1/1"))
}

/// A moment: `2025-03-10T14:00:00Z`, `2025-03-10 14:00:00+01:00`, or `2025-03-10 14:00` in local time.
pub fn time(text: &str) -> Result<Timestamp, String> {
    if let Ok(moment) = text.parse::<Timestamp>() {
        return Ok(moment);
    }
    let local: Option<Zoned> = text.parse::<DateTime>().ok().and_then(|civil| civil.to_zoned(TimeZone::system()).ok());
    local
        .map(|zoned| zoned.timestamp())
        .ok_or_else(|| format!("`{text}` is not a time: write 2025-03-10 14:00:00, or 2025-03-10T14:00:00Z"))
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
    fn sizes_are_read_as_people_write_them() {
        for (text, bytes) in [("0", 0), ("17", 17), ("500K", 500 << 10), ("1.5G", 3 << 29), ("2TiB", 2 << 40)] {
            assert_eq!(size(text), Ok(bytes), "{text}");
        }
        for wrong in ["", "K", "-1", "1X", "1e400M", "NaN", "99999999999999999999", "20000000T", "1 K x"] {
            assert!(size(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn shares_are_parts_of_one() {
        assert_eq!((share("1/30"), share("30/30")), (Ok((1, 30)), Ok((30, 30))));
        for wrong in ["", "1", "0/3", "4/3", "1/0", "-1/3", "1/3/5", "a/b", "1/99999999999"] {
            assert!(share(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn bandwidths_are_kibibytes_unless_said_otherwise() {
        for (text, bytes) in [("1", 1 << 10), ("500", 500 << 10), ("2M", 2 << 20), ("1.5", 1536), ("64K", 64 << 10)] {
            assert_eq!(rate(text), Ok(bytes), "{text}");
        }
        for wrong in ["0", "", "-1", "x", "100B"] {
            assert!(rate(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn what_is_said_of_objects_is_read_as_it_is_written() {
        assert_eq!(tag("team=a=b"), Ok(("team".to_owned(), "a=b".to_owned())));
        assert!(tag("team").is_err() && tag("=x").is_err());
        assert_eq!(encryption("aws:kms:arn:aws:kms:x"), Ok(S3Encryption::Kms(Some("arn:aws:kms:x".to_owned()))));
        assert!(encryption("aes").is_err() && encryption("aws:kms:").is_err());
        assert_eq!(lock("compliance:30"), Ok(S3Lock { mode: S3LockMode::Compliance, days: 30 }));
        assert!(lock("governance").is_err() && lock("legal:3").is_err() && lock("governance:x").is_err());
    }

    #[test]
    fn shares_are_above_nothing_and_at_most_all() {
        assert_eq!(percent("5%"), Ok(5.0));
        assert_eq!(percent("0.5 %"), Ok(0.5));
        for wrong in ["5", "0%", "101%", "-1%", "x%", "%", "NaN%"] {
            assert!(percent(wrong).is_err(), "{wrong}");
        }
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
