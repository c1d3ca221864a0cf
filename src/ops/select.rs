//! Which snapshot is meant.
//!
//! | text | means |
//! | --- | --- |
//! | `latest` | the newest that the filter lets through |
//! | `latest~2` | the second before it |
//! | `latest-verified` | the newest of which all was read back by `verify`, without damage since |
//! | 32 digits | that one |
//! | at least 4 digits | the only one whose id begins so |
//! | `SNAP:/path` | the path in any of these |
//!
//! The filter counts for `latest`, `latest-verified` and for lists; an id means what it says.
//!
//! A snapshot that cannot be read may be the newest, and nobody can tell: `latest` is refused while there is one, rather
//! than mean an older snapshot without a word.

use super::{Context, Error, Result};
use crate::base::{Event, Problem, SnapshotId};
use crate::format::snapshot::Snapshot;
use crate::repo::ledger::{self, Known};
use crate::repo::snapshots::Found;
use crate::repo::{Readable, snapshots};
use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;

/// The shortest beginning of an id that is taken for one.
const PREFIX_DIGITS: usize = 4;
/// The most candidates that a message names.
const NAMED_CANDIDATES: usize = 8;
const DAY_SECONDS: u64 = 86_400;

/// Which snapshots come into question. What is empty lets all through.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Filter {
    /// One of these hosts.
    pub hosts: Vec<String>,
    /// All tags of one of these lists.
    pub tags: Vec<Vec<String>>,
    /// All of these paths, as they were backed up.
    pub paths: Vec<Vec<u8>>,
    /// One of these kinds: `files`, `command`, `db`.
    pub kinds: Vec<String>,
    /// Not older than this.
    pub newer_than: Option<Age>,
}

impl Filter {
    /// Whether the filter lets a snapshot through; `now_ns` is what ages count from.
    pub fn lets_through(&self, snapshot: &Snapshot, now_ns: i64) -> bool {
        let holds = |tag: &String| snapshot.tags.contains(tag);
        let has_path = |path: &Vec<u8>| snapshot.paths.iter().any(|there| there.0 == *path);
        (self.hosts.is_empty() || self.hosts.contains(&snapshot.host))
            && (self.tags.is_empty() || self.tags.iter().any(|tags| tags.iter().all(holds)))
            && self.paths.iter().all(has_path)
            && (self.kinds.is_empty() || self.kinds.iter().any(|kind| snapshot.kinds.contains(kind)))
            && self.newer_than.is_none_or(|age| snapshot.time_ns >= age.before(now_ns))
    }
}

/// The tags of one comma list.
pub fn parse_tags(text: &str) -> Vec<String> {
    text.split(',').map(str::trim).filter(|tag| !tag.is_empty()).map(str::to_owned).collect()
}

/// A span of time. Months have the length that the calendar gives them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Age {
    /// Calendar months; a year has twelve.
    pub months: u64,
    /// Seconds besides.
    pub seconds: u64,
}

impl Age {
    /// The moment that was this long before `now_ns`, both in nanoseconds since 1970 (UTC).
    pub fn before(self, now_ns: i64) -> i64 {
        let day_ns = DAY_SECONDS as i64 * 1_000_000_000;
        let (day, within) = (now_ns.div_euclid(day_ns), now_ns.rem_euclid(day_ns));
        let day = months_before(day, i64::try_from(self.months).unwrap_or(i64::MAX));
        let seconds = i64::try_from(self.seconds).unwrap_or(i64::MAX);
        day.saturating_mul(day_ns).saturating_add(within).saturating_sub(seconds.saturating_mul(1_000_000_000))
    }
}

/// The same day of the month, or the month's last, `months` before a day since 1970.
fn months_before(day: i64, months: i64) -> i64 {
    if months == 0 {
        return day;
    }
    let (year, month, date) = civil(day);
    let total = (year * 12 + month - 1).saturating_sub(months).max(0);
    let (year, month) = (total.div_euclid(12), total.rem_euclid(12) + 1);
    let next = if month == 12 { day_of(year + 1, 1, 1) } else { day_of(year, month + 1, 1) };
    let first = day_of(year, month, 1);
    first + date.min(next - first) - 1
}

/// The first year of the 400-year cycle used below begins on 1 March, so that leap days come last; 719 468 days lie
/// between 0000-03-01 and 1970-01-01 (proleptic Gregorian calendar).
const CYCLE_START_DAYS: i64 = 719_468;
/// Days in 400 years.
const CYCLE_DAYS: i64 = 146_097;

/// Days since 1970 of a date.
fn day_of(year: i64, month: i64, date: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let (cycle, of_cycle) = (year.div_euclid(400), year.rem_euclid(400));
    let of_year = (153 * ((month + 9) % 12) + 2) / 5 + date - 1;
    cycle * CYCLE_DAYS + of_cycle * 365 + of_cycle / 4 - of_cycle / 100 + of_year - CYCLE_START_DAYS
}

/// Year, month and day of the month of a day since 1970.
pub(super) fn civil(day: i64) -> (i64, i64, i64) {
    let day = day + CYCLE_START_DAYS;
    let (cycle, of_cycle) = (day.div_euclid(CYCLE_DAYS), day.rem_euclid(CYCLE_DAYS));
    let year = (of_cycle - of_cycle / 1460 + of_cycle / 36_524 - of_cycle / 146_096) / 365;
    let of_year = of_cycle - (365 * year + year / 4 - year / 100);
    let march_month = (5 * of_year + 2) / 153;
    let date = of_year - (153 * march_month + 2) / 5 + 1;
    let month = if march_month < 10 { march_month + 3 } else { march_month - 9 };
    (cycle * 400 + year + i64::from(month <= 2), month, date)
}

/// Reads an age: numbers with units, such as `30d`, `12h`, `2w`, `1y6m`. Units are `y`, `m` (months), `w`, `d`, `h`,
/// `min` and `s`.
pub fn parse_age(text: &str) -> Result<Age> {
    let bad =
        || Error::Usage(format!("`{text}` is no age: write for example 30d, 12h, 2w or 1y6m (units y m w d h min s)"));
    let mut age = Age::default();
    let mut rest = text.trim();
    if rest.is_empty() {
        return Err(bad());
    }
    while !rest.is_empty() {
        let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
        let number: u64 = rest[..digits].parse().map_err(|_| bad())?;
        rest = &rest[digits..];
        let letters = rest.bytes().take_while(u8::is_ascii_alphabetic).count();
        let (months, seconds) = unit(&rest[..letters]).ok_or_else(bad)?;
        rest = &rest[letters..];
        let add = |sum: u64, unit: u64| number.checked_mul(unit).and_then(|product| sum.checked_add(product));
        age.months = add(age.months, months).ok_or_else(bad)?;
        age.seconds = add(age.seconds, seconds).ok_or_else(bad)?;
    }
    Ok(age)
}

fn unit(text: &str) -> Option<(u64, u64)> {
    Some(match text {
        "y" => (12, 0),
        "m" => (1, 0),
        "w" => (0, 7 * DAY_SECONDS),
        "d" => (0, DAY_SECONDS),
        "h" => (0, 3600),
        "min" => (0, 60),
        "s" => (0, 1),
        _ => return None,
    })
}

/// One snapshot, and a path in it if one was named.
#[derive(Clone, Debug)]
pub struct Selected {
    /// The snapshot.
    pub snapshot: Snapshot,
    /// The path after the colon.
    pub path: Option<Vec<u8>>,
}

/// Several snapshots.
#[derive(Clone, Debug, Default)]
pub struct Listing {
    /// The snapshots, oldest first.
    pub snapshots: Vec<Snapshot>,
    /// Those that could not be read.
    pub damaged: Vec<Problem>,
}

/// All snapshots that the filter lets through, oldest first.
pub fn list(context: &Context, filter: &Filter) -> Result<Listing> {
    Ok(pick(context, filter, snapshots::list(&context.repository)?))
}

/// All snapshots, read from the store alone.
pub fn list_stored(context: &Context) -> Result<Listing> {
    Ok(pick(context, &Filter::default(), snapshots::list_stored(&context.repository)?))
}

fn pick(context: &Context, filter: &Filter, (mut snapshots, damaged): Readable<Snapshot, SnapshotId>) -> Listing {
    let now_ns = context.repository.now_ns();
    snapshots.retain(|snapshot| filter.lets_through(snapshot, now_ns));
    let damaged = damaged
        .into_iter()
        .map(|(id, error)| Problem::new(format!("snapshot {}", id.short()), &error, error.kind()))
        .collect();
    Listing { snapshots, damaged }
}

/// The snapshots that are named, each once and oldest first; all that the filter lets through when none is.
pub fn select_all(context: &Context, texts: &[OsString], filter: &Filter) -> Result<Listing> {
    if texts.is_empty() {
        return list(context, filter);
    }
    let mut named = BTreeMap::new();
    for text in texts {
        let selected = select(context, text, filter)?;
        if selected.path.is_some() {
            return Err(Error::Usage(format!("{}: name the snapshot without a path", text.display())));
        }
        named.insert((selected.snapshot.time_ns, selected.snapshot.id), selected.snapshot);
    }
    Ok(Listing { snapshots: named.into_values().collect(), damaged: Vec::new() })
}

/// The snapshot that `text` means.
pub fn select(context: &Context, text: &OsStr, filter: &Filter) -> Result<Selected> {
    let (name, path) = split(text.as_bytes());
    let name = std::str::from_utf8(name)
        .map_err(|_| Error::Usage(format!("{} names no snapshot: give `latest` or an id", text.display())))?;
    let snapshot = match parse_name(name)? {
        Name::Latest(back) => {
            let snapshots = all_readable(context, filter, name, &|_| true)?;
            nth_newest(snapshots, back, "no snapshot", filter)?
        }
        Name::LatestVerified(back) => {
            let verified = verified(context)?;
            let snapshots = all_readable(context, filter, name, &|id| verified.whole_ns(id).is_some())?;
            nth_newest(snapshots, back, "no snapshot that was verified without damage", filter)?
        }
        Name::Id(digits) => load(context, by_prefix(context, &digits)?)?,
    };
    Ok(Selected { snapshot, path: path.map(<[u8]>::to_vec) })
}

/// The newest snapshot that the filter lets through and that can be read, and all that cannot be.
pub fn newest_readable(context: &Context, filter: &Filter) -> Result<Listing> {
    let mut listing = list(context, filter)?;
    let older = listing.snapshots.len().saturating_sub(1);
    listing.snapshots.drain(..older);
    Ok(listing)
}

/// The snapshots of `counts` that the filter lets through, oldest first, for who asks for one of them by its age as
/// `name`. Fails when one that counts cannot be read.
fn all_readable(
    context: &Context,
    filter: &Filter,
    name: &str,
    counts: &dyn Fn(&SnapshotId) -> bool,
) -> Result<Vec<Snapshot>> {
    let (mut snapshots, mut unreadable) = snapshots::list(&context.repository)?;
    unreadable.retain(|(id, _)| counts(id));
    if !unreadable.is_empty() {
        return Err(Error::Damaged(not_known(name, &unreadable)));
    }
    snapshots.retain(|snapshot| counts(&snapshot.id));
    Ok(pick(context, filter, (snapshots, unreadable)).snapshots)
}

/// Why nobody knows which snapshot `name` means.
fn not_known(name: &str, unreadable: &[(SnapshotId, crate::repo::Error)]) -> String {
    let named: Vec<String> =
        unreadable.iter().take(NAMED_CANDIDATES).map(|(id, error)| format!("{} ({error})", id.short())).collect();
    let more = unreadable.len().saturating_sub(NAMED_CANDIDATES);
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    let (which, it) = match unreadable.len() {
        1 => ("a snapshot that cannot be read may be it", "its object"),
        _ => ("one of the snapshots that cannot be read may be it", "their objects"),
    };
    format!(
        "nobody can tell which snapshot is `{name}`: {which}: {}{more}. Name another by its id, as `keepstone snapshots` \
         lists those that can be read; or put {it} back from a mirror of the repository; or let go what is lost with \
         `keepstone forget ID`",
        named.join(", ")
    )
}

/// The id that `text` gives, or its beginning; none if it names a snapshot in another way. The snapshot need not be
/// readable.
pub fn given_id(context: &Context, text: &OsStr) -> Result<Option<SnapshotId>> {
    match text.to_str().map(parse_name) {
        Some(Ok(Name::Id(digits))) => by_prefix(context, &digits).map(Some),
        _ => Ok(None),
    }
}

fn split(text: &[u8]) -> (&[u8], Option<&[u8]>) {
    match text.iter().position(|c| *c == b':') {
        Some(colon) => (&text[..colon], Some(&text[colon + 1..])),
        None => (text, None),
    }
}

enum Name {
    Latest(usize),
    LatestVerified(usize),
    Id(String),
}

fn parse_name(name: &str) -> Result<Name> {
    let (word, back) = match name.split_once('~') {
        Some((word, back)) => (word, back.parse::<usize>().ok()),
        None => (name, Some(0)),
    };
    match (word, back) {
        ("latest", Some(back)) => Ok(Name::Latest(back)),
        ("latest-verified", Some(back)) => Ok(Name::LatestVerified(back)),
        _ if is_prefix(name) => Ok(Name::Id(name.to_ascii_lowercase())),
        _ => Err(Error::Usage(format!(
            "`{name}` names no snapshot: give `latest`, `latest~2`, `latest-verified`, or at least {PREFIX_DIGITS} \
             digits of an id that `keepstone snapshots` shows"
        ))),
    }
}

fn is_prefix(name: &str) -> bool {
    (PREFIX_DIGITS..=2 * SnapshotId::SIZE).contains(&name.len()) && name.bytes().all(|c| c.is_ascii_hexdigit())
}

fn nth_newest(mut snapshots: Vec<Snapshot>, back: usize, none: &str, filter: &Filter) -> Result<Snapshot> {
    let count = snapshots.len();
    if back < count {
        return Ok(snapshots.swap_remove(count - 1 - back));
    }
    let which = if *filter == Filter::default() { "" } else { " that the filter lets through" };
    Err(Error::NotFound(match count {
        0 => format!("there is {none}{which}"),
        1 => format!("there is only 1 such snapshot{which}: ~{back} goes back too far"),
        _ => format!("there are only {count} such snapshots{which}: ~{back} goes back too far"),
    }))
}

fn by_prefix(context: &Context, digits: &str) -> Result<SnapshotId> {
    let names = snapshots::names(&context.repository)?;
    let mut candidates: Vec<SnapshotId> =
        names.into_iter().filter(|name| name.to_string().starts_with(digits)).collect();
    // A tombstone has an id as well, but nobody means it.
    if candidates.len() > 1 {
        candidates
            .retain(|id| !matches!(snapshots::load(&context.repository, *id), Ok(Found::Tombstone | Found::Gone)));
    }
    match candidates.as_slice() {
        [id] => Ok(*id),
        [] => Err(Error::NotFound(format!("no snapshot's id begins with {digits}: see `keepstone snapshots`"))),
        several => {
            let named: Vec<String> = several.iter().take(NAMED_CANDIDATES).map(ToString::to_string).collect();
            let more = several.len().saturating_sub(NAMED_CANDIDATES);
            let more = if more > 0 { format!(" and {more} more") } else { String::new() };
            let named = named.join(", ");
            Err(Error::Usage(format!(
                "{digits} is the beginning of several snapshots' ids: {named}{more}; give more digits"
            )))
        }
    }
}

fn load(context: &Context, id: SnapshotId) -> Result<Snapshot> {
    match snapshots::load(&context.repository, id)? {
        Found::Snapshot(snapshot) => Ok(*snapshot),
        Found::Tombstone => Err(Error::NotFound(format!("{id} is a run that was fenced: it committed no snapshot"))),
        Found::Gone => Err(Error::NotFound(format!("snapshot {id} was removed meanwhile"))),
    }
}

/// What is known of snapshots from what was read back, as the ledger of verification has it; tells what of it is not
/// believed.
pub fn verified(context: &Context) -> Result<Known> {
    let known = ledger::load(&context.repository)?;
    known.doubts.iter().for_each(|doubt| context.monitor.event(Event::Note(doubt)));
    Ok(known)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::base::{Kind, SessionId};
    use crate::ops::tests::{Depot, save_snapshot};
    use crate::store::{Area, Key};

    const DAY_NS: i64 = 86_400_000_000_000;

    #[test]
    fn ages_are_read_with_all_their_units() {
        assert_eq!(parse_age("30d").unwrap(), Age { months: 0, seconds: 30 * 86_400 });
        assert_eq!(parse_age("1y6m").unwrap(), Age { months: 18, seconds: 0 });
        assert_eq!(parse_age("2w12h5min1s").unwrap(), Age { months: 0, seconds: 14 * 86_400 + 12 * 3600 + 301 });
        for wrong in ["", "d", "3", "3x", "99999999999999999999d", "18446744073709551615w", "-3d"] {
            assert!(parse_age(wrong).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn months_follow_the_calendar() {
        let day = |year, month, date| day_of(year, month, date);
        assert_eq!(day(1970, 1, 1), 0);
        assert_eq!(day(2000, 3, 1), 11_017);
        for at in (-800_000..800_000).step_by(97) {
            let (year, month, date) = civil(at);
            assert_eq!(day_of(year, month, date), at);
        }
        let age = Age { months: 1, seconds: 0 };
        assert_eq!(age.before(day(2024, 3, 31) * DAY_NS + 5), day(2024, 2, 29) * DAY_NS + 5);
        assert_eq!(Age { months: 13, seconds: 86_400 }.before(day(2025, 1, 15) * DAY_NS), day(2023, 12, 14) * DAY_NS);
        Age { months: u64::MAX, seconds: u64::MAX }.before(i64::MAX);
    }

    #[test]
    fn latest_counts_back_and_respects_the_filter() {
        let depot = Depot::new();
        let ids: Vec<_> = (0..4).map(|day| save_snapshot(&depot, day * DAY_NS, |_| {})).collect();
        let other = save_snapshot(&depot, 9 * DAY_NS, |snapshot| {
            snapshot.host = "b".to_owned();
            snapshot.tags = vec!["x".to_owned(), "y".to_owned()];
        });
        let pick =
            |text: &str, filter: &Filter| select(&depot.context, OsStr::new(text), filter).map(|s| s.snapshot.id);
        let all = Filter::default();
        assert_eq!(pick("latest", &all).unwrap(), other);
        assert_eq!(pick("latest~1", &all).unwrap(), ids[3]);
        let host = Filter { hosts: vec!["a".to_owned()], ..Filter::default() };
        assert_eq!(pick("latest~3", &host).unwrap(), ids[0]);
        assert!(pick("latest~4", &host).unwrap_err().to_string().contains("only 4"));
        let tags =
            Filter { tags: vec![vec!["z".to_owned()], vec!["x".to_owned(), "y".to_owned()]], ..Filter::default() };
        assert_eq!(pick("latest", &tags).unwrap(), other);
        assert!(pick("latest~x", &all).is_err());
        assert!(pick("latest-verified", &all).unwrap_err().to_string().contains("verified"));
    }

    #[test]
    fn latest_is_refused_while_a_snapshot_cannot_be_read_and_an_id_still_goes() {
        let depot = Depot::new();
        let (old, newest) = (save_snapshot(&depot, DAY_NS, |_| {}), save_snapshot(&depot, 2 * DAY_NS, |_| {}));
        depot.damage(&Key::new(Area::Snapshots, newest), |bytes| *bytes.last_mut().unwrap() ^= 1);
        let all = Filter::default();
        let pick = |text: &str| select(&depot.context, OsStr::new(text), &all).map(|selected| selected.snapshot.id);
        for name in ["latest", "latest~1"] {
            let error = pick(name).unwrap_err();
            assert_eq!(error.kind(), Kind::Damaged, "{error}");
            let text = error.to_string();
            assert!(text.contains(&newest.short().to_string()) && text.contains("mirror"), "{text}");
        }
        // It was never verified, so it cannot be the newest that was.
        assert_eq!(pick("latest-verified").unwrap_err().kind(), Kind::NotFound);
        assert_eq!(pick(&old.to_string()).unwrap(), old);
        let listing = newest_readable(&depot.context, &all).unwrap();
        assert_eq!((listing.snapshots[0].id, listing.snapshots.len(), listing.damaged.len()), (old, 1, 1));
    }

    #[test]
    fn an_id_a_prefix_and_a_path_are_told_apart() {
        let depot = Depot::new();
        let a = save_snapshot(&depot, 1, |snapshot| snapshot.id = SessionId([0xab; 16]));
        let mut close = [0xab; 16];
        close[15] = 0;
        save_snapshot(&depot, 2, |snapshot| snapshot.id = SessionId(close));
        let pick = |text: &str| select(&depot.context, OsStr::new(text), &Filter::default());
        assert_eq!(pick(&a.to_string()).unwrap().snapshot.id, a);
        let selected = pick(&format!("{}:/home/x", &a.to_string()[..31])).unwrap();
        assert_eq!((selected.snapshot.id, selected.path), (a, Some(b"/home/x".to_vec())));
        let ambiguous = pick("abab").unwrap_err().to_string();
        assert!(ambiguous.contains(&a.to_string()), "{ambiguous}");
        assert!(pick("aba").is_err());
        assert!(matches!(pick("0000"), Err(Error::NotFound(_))));
    }
}
