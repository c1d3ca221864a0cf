//! Values that people write, on the command line and in the config: sizes, shares, spans of time.

use crate::ops::select::{Age, parse_age};
use crate::store::{S3Encryption, S3Lock, S3LockMode};
use std::time::Duration;

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

/// A tag that somebody may give: those that runs give by themselves say who made a snapshot, and `retention` of a profile
/// finds its own by them.
pub fn free_tag(tag: &str) -> Result<(), String> {
    match ["profile:", "by:"].iter().find(|ours| tag.starts_with(**ours)) {
        Some(ours) => Err(format!(
            "`{tag}` looks like a tag that a run of a profile gives by itself: take one that does not begin with `{ours}`, or \
             back up with `keepstone run`"
        )),
        None => Ok(()),
    }
}

/// A share: `5%`. The answer is between 0 and 100.
pub fn percent(text: &str) -> Result<f64, String> {
    let number = text.strip_suffix('%').and_then(|number| number.trim().parse::<f64>().ok());
    number
        .filter(|number| *number > 0.0 && *number <= 100.0)
        .ok_or_else(|| format!("`{text}` is not a share: write 5%, up to 100%"))
}

/// A price: `0.023`.
pub fn price(text: &str) -> Result<f64, String> {
    let number = text.parse::<f64>().ok().filter(|number| number.is_finite() && *number >= 0.0);
    number.ok_or_else(|| format!("`{text}` is not a price: write 0.023"))
}

/// A share of a whole: `1/30`.
pub fn share(text: &str) -> Result<(u32, u32), String> {
    let parts = text.split_once('/').and_then(|(parts, of)| Some((parts.parse().ok()?, of.parse().ok()?)));
    parts
        .filter(|(parts, of)| (1..=*of).contains(parts))
        .ok_or_else(|| format!("`{text}` is not a share: write 1/30, up to 1/1"))
}

/// A span of time: a number of seconds, or `90s`, `30min`, `2h`, `1d`.
pub fn duration(text: &str) -> Result<Duration, String> {
    let wrong = || format!("`{text}` is not a span of time: write a number of seconds, or 90s, 30min, 2h, 1d");
    let unit = if text.ends_with(|c: char| c.is_ascii_digit()) { "s" } else { "" };
    let age = parse_age(&format!("{text}{unit}")).map_err(|_| wrong())?;
    match (age.months, age.seconds) {
        (0, 1..) => Ok(Duration::from_secs(age.seconds)),
        _ => Err(wrong()),
    }
}

/// A whole number.
pub fn count(text: &str) -> Result<u64, String> {
    text.parse().map_err(|_| format!("`{text}` is not a whole number"))
}

/// Nothing for `off`, else what `read` makes of it.
pub fn unless_off<T>(text: &str, read: fn(&str) -> Result<T, String>) -> Result<Option<T>, String> {
    if text == "off" { Ok(None) } else { read(text).map(Some).map_err(|why| format!("{why}; or `off`")) }
}

/// A header: `NAME: VALUE`.
pub fn header(text: &str) -> Result<(String, String), String> {
    let wrong = || format!("`{text}` is not a header: write NAME: VALUE");
    let (name, value) = text.split_once(':').ok_or_else(wrong)?;
    let is_name = !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || "-_".contains(c));
    if is_name && value.chars().all(|c| !c.is_control()) {
        Ok((name.to_owned(), value.trim().to_owned()))
    } else {
        Err(wrong())
    }
}

/// For how long records of operations are kept: what somebody did last year is asked for this year.
pub fn log_age(text: &str) -> Result<Age, String> {
    let age = parse_age(text).map_err(|error| error.to_string())?;
    match age.months >= 12 || age.seconds >= 365 * 86_400 {
        true => Ok(age),
        false => Err(format!("`{text}` is too short: records of operations are kept for a year at least (1y)")),
    }
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
    fn spans_of_time_are_seconds_unless_said_otherwise() {
        for (text, seconds) in
            [("90", 90), ("90s", 90), ("30min", 1800), ("2h", 7200), ("1d", 86_400), ("1h30min", 5400)]
        {
            assert_eq!(duration(text), Ok(Duration::from_secs(seconds)), "{text}");
        }
        for wrong in ["", "0", "-1", "1m", "x", "1.5h", "99999999999999999999"] {
            assert!(duration(wrong).is_err(), "{wrong}");
        }
    }
}
