//! What a store honours, tried out: put-if-absent, listing what was just written, ranges, its clock against ours.
//!
//! `init` does this and records the answers in `config`; `store probe` shows them. A store can look right and lose
//! backups: one that silently ignores the condition of a put lets two machines overwrite each other.

use super::{Area, Error, Key, ObjectStore, Put};
use crate::base::ids::to_hex;
use crate::base::{Clock, Kind, random};
use std::time::Duration;

/// No clock may differ more from the store's: what prune deletes is decided by times, and servers refuse requests that
/// are this old.
pub const MOST_SKEW: Duration = Duration::from_secs(15 * 60);
/// Times in listings may be whole seconds, and a request takes its time.
const UNSURE: Duration = Duration::from_secs(5);

/// How a check ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Verdict {
    /// As it should be.
    Good,
    /// It works, with less comfort or at a higher price.
    Warning,
    /// Nothing good comes of it.
    Bad,
}

/// One thing that was looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Check {
    /// What: `put-if-absent`, `clock`, …
    pub name: &'static str,
    /// How it ended.
    pub verdict: Verdict,
    /// What was found.
    pub message: String,
    /// What to do about it; empty if nothing needs to be done.
    pub remedy: String,
}

impl Check {
    /// As it should be.
    pub fn good(name: &'static str, message: impl Into<String>) -> Check {
        Check { name, verdict: Verdict::Good, message: message.into(), remedy: String::new() }
    }

    /// It works, but.
    pub fn warning(name: &'static str, message: impl Into<String>, remedy: impl Into<String>) -> Check {
        Check { name, verdict: Verdict::Warning, message: message.into(), remedy: remedy.into() }
    }

    /// It does not do.
    pub fn bad(name: &'static str, message: impl Into<String>, remedy: impl Into<String>) -> Check {
        Check { name, verdict: Verdict::Bad, message: message.into(), remedy: remedy.into() }
    }
}

/// What was found.
#[derive(Clone, Debug)]
pub struct Found {
    /// An object that is there is left alone by a put, and the store says so.
    pub put_if_absent: bool,
    /// A listing shows what was stored before it began.
    pub list_after_write: bool,
    /// A part of an object can be read.
    pub range_reads: bool,
    /// How far the store's clock is ahead of ours, in milliseconds; none if the listing did not tell.
    pub skew_ms: Option<i64>,
    /// These credentials may delete.
    pub deletes: bool,
}

const FIRST: &[u8] = b"first, and to be left alone";
const SECOND: &[u8] = b"second";

/// Tries it out with one small object, which is deleted again where that is allowed.
pub fn probe(store: &dyn ObjectStore, clock: &Clock) -> Result<Found, Error> {
    // Its name is that of no session, so that one that stays behind is nobody's mark.
    let key = Key::new(Area::Sessions, format!("{}.probe", to_hex(&random::bytes::<16>())));
    let before = clock.now();
    let first = store.put(&key, FIRST)?;
    let after = clock.now();
    let second = store.put(&key, SECOND)?;
    let kept = store.get(&key, 64)? == FIRST;
    let (mut listed, mut stored_at) = (false, None);
    store.list(Area::Sessions, &mut |entry| {
        if entry.name == key.name() {
            (listed, stored_at) = (true, Some(entry.stored_at));
        }
    })?;
    let range_reads = match store.get_range(&key, 1, 4) {
        Ok(part) => !kept || part == FIRST[1..5],
        Err(error) if error.kind() == Kind::Damaged => false,
        Err(error) => return Err(error),
    };
    let deletes = match store.delete(&key) {
        Ok(()) => true,
        // Whoever may only add does without.
        Err(error) if error.kind() == Kind::Denied => false,
        Err(error) => return Err(error),
    };
    Ok(Found {
        put_if_absent: first == Put::Stored && second == Put::Existed && kept && store.puts_are_atomic(),
        list_after_write: listed,
        range_reads,
        skew_ms: stored_at.map(|at| skew_ms(at.as_millisecond(), before.as_millisecond(), after.as_millisecond())),
        deletes,
    })
}

/// How far `stored` lies outside the time that the put took by our clock.
fn skew_ms(stored: i64, before: i64, after: i64) -> i64 {
    // A whole second may be cut off.
    let before = before.saturating_sub(1000);
    match stored {
        _ if stored < before => stored.saturating_sub(before),
        _ if stored > after => stored.saturating_sub(after),
        _ => 0,
    }
}

/// Whether the clocks differ too much.
pub fn is_skewed(skew_ms: i64) -> bool {
    skew_ms.unsigned_abs() > MOST_SKEW.as_millis() as u64
}

impl Found {
    /// The same as checks, with a remedy for each that is not well.
    pub fn checks(&self) -> Vec<Check> {
        let mut checks = vec![self.put_check(), self.list_check(), self.range_check()];
        checks.extend(self.skew_ms.map(clock_check));
        checks.push(self.delete_check());
        checks
    }

    fn put_check(&self) -> Check {
        let name = "put-if-absent";
        match self.put_if_absent {
            true => Check::good(name, "an object that is there is left alone"),
            false => Check::warning(
                name,
                "an object that is there is overwritten, or it is looked for first",
                "any number of machines may back up, but run prune only while nothing else runs; or update the server \
                 to a version that honours `If-None-Match: *`",
            ),
        }
    }

    fn list_check(&self) -> Check {
        let name = "list-after-write";
        match self.list_after_write {
            true => Check::good(name, "a listing shows what was just stored"),
            false => Check::bad(
                name,
                "a listing does not show what was just stored",
                "such a store cannot tell who is at work: use another, or switch its caching of listings off",
            ),
        }
    }

    fn range_check(&self) -> Check {
        let name = "range reads";
        match self.range_reads {
            true => Check::good(name, "a part of an object can be read"),
            false => Check::bad(
                name,
                "a part of an object cannot be read",
                "restores read parts of packs: use a store, or a proxy before it, that honours `Range`",
            ),
        }
    }

    fn delete_check(&self) -> Check {
        let name = "delete";
        match self.deletes {
            true => Check::good(name, "these credentials may delete: forget and prune can run with them"),
            false => {
                Check::good(name, "these credentials may not delete: enough for backups, not for forget and prune")
            }
        }
    }
}

fn clock_check(skew_ms: i64) -> Check {
    let (name, apart) = ("clock", Duration::from_millis(skew_ms.unsigned_abs()));
    let ahead = if skew_ms > 0 { "ahead of" } else { "behind" };
    let message = format!("the store's clock is {} s {ahead} this machine's", apart.as_secs());
    match apart {
        _ if apart <= UNSURE => Check::good(name, "the store's clock and this machine's agree"),
        _ if apart <= MOST_SKEW => Check::warning(name, message, CLOCK_REMEDY),
        _ => Check::bad(name, message, CLOCK_REMEDY),
    }
}

/// What to do about clocks.
pub const CLOCK_REMEDY: &str =
    "set this machine's clock (NTP), or the server's: what prune and forget may delete is decided by times";

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::super::Memory;
    use super::*;
    use crate::base::Timestamp;

    #[test]
    fn a_good_store_passes_and_nothing_is_left() {
        let store = Memory::new();
        let found = probe(&store, &Clock::System).unwrap();
        assert!(found.checks().iter().all(|check| check.verdict == Verdict::Good), "{found:?}");
        let mut left = 0;
        store.list(Area::Sessions, &mut |_| left += 1).unwrap();
        assert_eq!(left, 0);
    }

    #[test]
    fn a_clock_that_is_wrong_shows() {
        let early: Timestamp = "2001-01-01T00:00:00Z".parse().unwrap();
        let found = probe(&Memory::new(), &Clock::manual(early)).unwrap();
        assert!(is_skewed(found.skew_ms.unwrap()));
        let check = found.checks().into_iter().find(|check| check.name == "clock").unwrap();
        assert_eq!(check.verdict, Verdict::Bad);
        assert!(check.message.contains("ahead of"), "{}", check.message);
    }

    #[test]
    fn a_second_cut_off_is_no_skew() {
        for (stored, before, after, skew) in
            [(5000, 5900, 6100, 0), (6000, 5900, 6100, 0), (9000, 5900, 6100, 2900), (1000, 5900, 6100, -3900)]
        {
            assert_eq!(skew_ms(stored, before, after), skew);
        }
    }

    #[test]
    fn what_is_not_honoured_has_a_remedy() {
        let found = Found {
            put_if_absent: false,
            list_after_write: false,
            range_reads: false,
            skew_ms: Some(-3_600_000),
            deletes: false,
        };
        for check in found.checks().iter().filter(|check| check.verdict != Verdict::Good) {
            assert!(!check.remedy.is_empty(), "{check:?}");
        }
        assert_eq!(found.checks().iter().filter(|check| check.verdict == Verdict::Bad).count(), 3);
    }
}
