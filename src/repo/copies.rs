//! What lies in the store twice, and mending one copy with the other.
//!
//! Config, key slots and epochs are stored as an object and its `.copy`, alike byte for byte. When they differ, one of
//! them is damaged. Which one shows when a key proves the other; a copy that is missing or makes no sense is no loss
//! in any case. Nothing that may be the good one is ever written over.

use super::copy_of;
use super::error::Result;
use crate::base::Kind;
use crate::store::{Key, ObjectStore, Put};

/// What can be said of one copy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// A key has proven every byte that counts; of two proven ones the higher number is the later.
    Proven(u64),
    /// It makes sense, but nobody here can prove it.
    Sound,
    /// It makes no sense, and why.
    Damaged(String),
    /// It is for others: sealed under another root key, or written by a newer version.
    Foreign,
}

/// What became of an object and its copy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Mended {
    /// They are alike.
    Alike,
    /// This one was written anew with the bytes of the other.
    Written(Key),
    /// They differ or are damaged, and it cannot be told how it should be.
    Left(String),
}

/// How an object and its copy stand to each other.
#[derive(Debug)]
pub enum Standing {
    /// They are alike.
    Alike,
    /// One is worse, and the other is known to be good.
    Worse {
        /// The worse one.
        key: Key,
        /// Whether it is there at all.
        is_there: bool,
        /// What it should be.
        bytes: Vec<u8>,
    },
    /// They differ or are damaged, and it cannot be told how it should be.
    Undecided(String),
}

/// What was written anew, and what was left and why.
pub type Written = (Vec<Key>, Vec<(Key, String)>);

/// One of the two as it was found; none if it is not there.
struct Found {
    key: Key,
    bytes: Option<Vec<u8>>,
    verdict: Verdict,
}

/// Compares the object at `key` with its copy, and writes the worse one anew if the better one is known to be good, or
/// if the worse one is missing or makes no sense.
pub fn mend(store: &dyn ObjectStore, key: &Key, limit_bytes: u64, judge: &dyn Fn(&[u8]) -> Verdict) -> Result<Mended> {
    match compare(store, key, limit_bytes, judge)? {
        Standing::Alike => Ok(Mended::Alike),
        Standing::Worse { key, is_there, bytes } => write(store, key, is_there, &bytes),
        Standing::Undecided(reason) => Ok(Mended::Left(reason)),
    }
}

/// Compares the object at `key` with its copy. Nothing is written.
pub fn compare(
    store: &dyn ObjectStore,
    key: &Key,
    limit_bytes: u64,
    judge: &dyn Fn(&[u8]) -> Verdict,
) -> Result<Standing> {
    let first = find(store, key.clone(), limit_bytes, judge)?;
    let second = find(store, copy_of(key), limit_bytes, judge)?;
    if first.bytes.is_some() && first.bytes == second.bytes {
        return Ok(match first.verdict {
            Verdict::Damaged(reason) => Standing::Undecided(format!("both copies of {key} are damaged: {reason}")),
            _ => Standing::Alike,
        });
    }
    let (good, bad) = match (rank(&first.verdict), rank(&second.verdict)) {
        (a, b) if a > b => (first, second),
        (a, b) if a < b => (second, first),
        _ => return Ok(Standing::Undecided(undecided(&first, &second))),
    };
    let usable = match (&good.verdict, &bad.verdict) {
        (Verdict::Proven(_), _) | (Verdict::Sound, Verdict::Damaged(_)) => true,
        // What is not there cannot be the good one. An exchange of the root key that was cut off leaves such.
        (Verdict::Foreign, _) => bad.bytes.is_none(),
        _ => false,
    };
    Ok(match (usable, good.bytes) {
        (true, Some(bytes)) => Standing::Worse { key: bad.key, is_there: bad.bytes.is_some(), bytes },
        (_, bytes) => Standing::Undecided(undecided(&Found { bytes, ..good }, &bad)),
    })
}

fn find(store: &dyn ObjectStore, key: Key, limit_bytes: u64, judge: &dyn Fn(&[u8]) -> Verdict) -> Result<Found> {
    match store.get(&key, limit_bytes) {
        Ok(bytes) => Ok(Found { verdict: judge(&bytes), key, bytes: Some(bytes) }),
        Err(error) if error.kind() == Kind::NotFound => {
            Ok(Found { key, bytes: None, verdict: Verdict::Damaged("it is not there".to_owned()) })
        }
        // Too long to be what it should be.
        Err(error) if error.kind() == Kind::Damaged => {
            Ok(Found { key, bytes: Some(Vec::new()), verdict: Verdict::Damaged(error.to_string()) })
        }
        Err(error) => Err(error.into()),
    }
}

/// The more there is to be said for one, the higher.
fn rank(verdict: &Verdict) -> (u8, u64) {
    match verdict {
        Verdict::Damaged(_) => (0, 0),
        Verdict::Foreign => (1, 0),
        Verdict::Sound => (2, 0),
        Verdict::Proven(number) => (3, *number),
    }
}

fn undecided(first: &Found, second: &Found) -> String {
    match (&first.verdict, &second.verdict) {
        (Verdict::Damaged(a), Verdict::Damaged(b)) => {
            format!("{} and {} are both damaged ({a}; {b})", first.key, second.key)
        }
        _ => format!("{} and {} differ, and it cannot be told here which of them is right", first.key, second.key),
    }
}

fn write(store: &dyn ObjectStore, key: Key, is_there: bool, bytes: &[u8]) -> Result<Mended> {
    // Both ways write aside first: a crash leaves the old state or the new one.
    if is_there {
        store.replace(&key, bytes)?;
    } else if store.put(&key, bytes)? == Put::Existed {
        return Ok(Mended::Left(format!("{key} was written by somebody else meanwhile")));
    }
    if store.get(&key, bytes.len() as u64)? != bytes {
        return Ok(Mended::Left(format!("{key} does not read back as it was written: check the disk")));
    }
    Ok(Mended::Written(key))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::store::{Area, Memory};

    /// `p3…` is proven with number 3, `s…` is sound, `f…` foreign; anything else is damaged.
    fn judge(bytes: &[u8]) -> Verdict {
        match bytes {
            [b'p', number, ..] => Verdict::Proven(u64::from(*number)),
            [b's', ..] => Verdict::Sound,
            [b'f', ..] => Verdict::Foreign,
            _ => Verdict::Damaged("nonsense".to_owned()),
        }
    }

    #[test]
    fn a_copy_is_written_anew_only_when_nothing_good_can_be_lost() {
        // What lies there, what lies there as copy, and what both are afterwards if one is written.
        let cases: [(&str, &str, Option<&str>); 15] = [
            ("p1", "p1", None),
            ("s", "s", None),
            ("xx", "xx", None),
            ("p1", "s", Some("p1")),
            ("x", "p1", Some("p1")),
            ("f", "p1", Some("p1")),
            ("", "p1", Some("p1")),
            ("p1", "p2", Some("p2")),
            ("p1a", "p1b", None),
            ("s", "x", Some("s")),
            ("", "s", Some("s")),
            ("sa", "sb", None),
            ("f", "s", None),
            ("f", "x", None),
            ("", "f", Some("f")),
        ];
        for (first, second, after) in cases {
            let store = Memory::new();
            let key = Key::new(Area::Keys, "a");
            for (key, text) in [(key.clone(), first), (copy_of(&key), second)] {
                if !text.is_empty() {
                    store.put(&key, text.as_bytes()).unwrap();
                }
            }
            let mended = mend(&store, &key, 10, &judge).unwrap();
            assert_eq!(matches!(mended, Mended::Written(_)), after.is_some(), "{first} {second}: {mended:?}");
            let read =
                |key: &Key| store.get(key, 10).map(|bytes| String::from_utf8(bytes).unwrap()).unwrap_or_default();
            let now = (read(&key), read(&copy_of(&key)));
            let expected = after.map_or((first, second), |text| (text, text));
            assert_eq!((&*now.0, &*now.1), expected, "{first} {second}");
        }
    }
}
