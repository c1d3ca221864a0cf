//! Bringing the cache up to date: segments in, packs that no segment names out, condemned packs void.

use super::add::add_all;
use super::cache::Cache;
use super::levels::{Family as _, LEVEL_0_ROWS, Marked};
use super::roster;
use super::segments::{SegmentReader, segment_key};
use super::{late, recorded};
use crate::base::{Kind, PackId, Problem, SegmentId};
use crate::format::cbor::Cbor as _;
use crate::format::envelope::ObjectKind;
use crate::format::session::Condemned;
use crate::format::vouch;
use crate::repo::ahead::Ahead;
use crate::repo::keyring::Keyring;
use crate::repo::{Error, Result};
use crate::store::{Area, Key, ObjectStore};
use rusqlite::{Connection, OptionalExtension, params};
use std::collections::{BTreeMap, BTreeSet};

/// What a condemned record leaves when it has been swept or given up: the roster of what there is then.
const DONE: &str = ".done";
/// What is spared of a condemned record: somebody needs it after all.
const SPARED: &str = ".spared";
/// How often a listing is made again because something in it was gone when it was to be read.
const LISTINGS: usize = 4;
/// How many segments are added at once, and how much of each is in memory.
const GROUP: usize = 8;
const GROUP_WINDOW_BYTES: usize = 1 << 20;
/// Small segments that are asked for together, at most, and their bytes.
const ASKED_SEGMENTS: usize = 64;
const ASKED_BYTES: u64 = 12 << 20;

/// What came of bringing the cache up to date.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Opened {
    /// Segments that were read.
    pub loaded: Vec<SegmentId>,
    /// Packs that no present segment names any more.
    pub packs_dropped: u64,
    /// Why the cache was made anew, if something was there and could not be used.
    pub rebuilt: Option<String>,
    /// What the user may want to know.
    pub notes: Vec<String>,
    /// Segments and condemned records that are damaged, and segments that are gone: what only they know is unknown.
    pub damaged: Vec<Problem>,
    /// The segments that the index was brought up to date with, damaged ones left out, ascending.
    pub segments: Vec<SegmentId>,
    /// The highest number that a condemned record has or had; 0 for none.
    pub highest_condemned: u64,
    /// The numbers of the condemned records that are open, ascending.
    pub condemned: Vec<u64>,
}

impl Opened {
    /// Fails if a condemned record cannot be read: it may name any pack, so nothing that is stored can be counted on.
    /// `location` is where the repository lies.
    pub fn check_records(&self, location: &str) -> Result<()> {
        let condemned = Area::Condemned.folder();
        // A roster names nothing that must not be used.
        let is_record = |problem: &&Problem| problem.subject.starts_with(condemned) && !problem.subject.ends_with(DONE);
        match self.damaged.iter().find(is_record) {
            None => Ok(()),
            Some(problem) => {
                let reason = format!(
                    "an interrupted prune left it and it says which packs must not be used any more: run `keepstone -r \
                     {location} rebuild-index`, which takes it back, then run this again"
                );
                Err(Error::damaged(&problem.subject, reason))
            }
        }
    }
}

/// The name of condemned record `number`: ten digits.
pub fn condemned_key(number: u64) -> Key {
    Key::new(Area::Condemned, format!("{number:010}"))
}

/// The name of the roster that condemned record `number` leaves.
pub fn done_key(number: u64) -> Key {
    Key::new(Area::Condemned, format!("{number:010}{DONE}"))
}

/// The name of what is spared of condemned record `number`.
pub fn spared_key(number: u64) -> Key {
    Key::new(Area::Condemned, format!("{number:010}{SPARED}"))
}

/// What lies among the condemned records.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Records {
    /// The numbers of the open ones.
    pub open: BTreeSet<u64>,
    /// The number of the last one that was closed; 0 for none.
    pub closed: u64,
    /// The numbers of the open ones of which it is decided what is spared.
    pub decided: BTreeSet<u64>,
    /// Objects that nobody needs: what closed records left, or who slept put when it was too late.
    pub left: Vec<Key>,
}

impl Records {
    /// The highest number that there is or was.
    pub fn highest(&self) -> u64 {
        self.open.last().copied().unwrap_or(0).max(self.closed)
    }
}

/// Lists the condemned records. They are closed in the order of their numbers, so one at or below the last that was
/// closed is closed too, whatever still lies there.
pub fn list_condemned(store: &dyn ObjectStore) -> Result<Records> {
    let (mut open, mut closed, mut decided) = (BTreeSet::new(), BTreeSet::new(), BTreeSet::new());
    store.list(Area::Condemned, &mut |object| {
        let (digits, numbers) = match object.name.split_at_checked(10) {
            Some((digits, "")) => (digits, &mut open),
            Some((digits, DONE)) => (digits, &mut closed),
            Some((digits, SPARED)) => (digits, &mut decided),
            // Names that nobody gives are other people's files.
            _ => return,
        };
        let number = digits.parse::<u64>().ok();
        numbers.extend(number.filter(|number| condemned_key(*number).name() == digits));
    })?;
    let last = closed.last().copied().unwrap_or(0);
    let mut records = Records { closed: last, ..Records::default() };
    let (over, above) = open.into_iter().partition(|number| *number <= last);
    (records.open, records.left) = (above, BTreeSet::into_iter(over).map(condemned_key).collect());
    let (over, above) = decided.into_iter().partition(|number| *number <= last);
    records.decided = above;
    records.left.extend(BTreeSet::into_iter(over).map(spared_key));
    records.left.extend(closed.into_iter().filter(|number| *number < last).map(done_key));
    Ok(records)
}

/// What an index is brought up to date with, in the order in which it is listed together.
pub const LOOKED_AT: [Area; 3] = [Area::Condemned, Area::Damage, Area::Index];

/// Compares the cache with the store and makes it as new.
pub fn bring_up_to_date(cache: &mut Cache, store: &dyn ObjectStore, keyring: &Keyring) -> Result<Opened> {
    let mut opened = Opened::default();
    for attempt in 1.. {
        let look = match attempt {
            1 => Look::Together,
            2 => Look::SegmentsFirst,
            _ => Look::Asking,
        };
        match try_to_bring(cache, store, keyring, look, &mut opened) {
            // Merged away, swept or closed since it was listed: a new listing shows what has taken its place.
            Err(error) if error.kind() == Kind::NotFound && attempt < LISTINGS => continue,
            Ok(Told::Missing) if look == Look::Together => continue,
            Ok(_) => break,
            Err(error) => return Err(error),
        }
    }
    apply_marks(cache)?;
    Ok(opened)
}

/// How segments and records are listed.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Look {
    /// With one request, if the store can, which shows records first. While a session of ours is open no record that
    /// it did not see is swept, so what is put after that leaves all segments that were there. Who has no session may
    /// miss one that went between the two: he looks again.
    Together,
    /// Segments, then records: of what is void we would rather know too much, and of what has gone on purpose too.
    SegmentsFirst,
    /// The same, and each segment that is new is asked for by its name: the listings show what is gone.
    Asking,
}

/// What came of looking.
enum Told {
    /// All that there is to say.
    All,
    /// Segments seem to be missing.
    Missing,
}

fn try_to_bring(
    cache: &mut Cache,
    store: &dyn ObjectStore,
    keyring: &Keyring,
    look: Look,
    opened: &mut Opened,
) -> Result<Told> {
    // What the cache has is read before the store is listed: a segment that another process adds to both in
    // between is then not taken for one that has been deleted.
    let known = cached_segments(cache)?;
    let store = &Ahead::new(store);
    let records = [Area::Condemned, Area::Damage];
    if look == Look::Together {
        store.list_now(&LOOKED_AT);
    }
    let mut listed = list_segments(store)?;
    if look == Look::Asking {
        let new = listed.keys().filter(|id| !known.contains_key(id)).copied().collect();
        leave_out_ghosts(store, &mut listed, new)?;
    }
    // What comes next, as far as it is known.
    let records = if look == Look::Together { &[][..] } else { &records };
    ask_for_segments(store, &missing_segments(&known, &listed), records);
    load_missing(cache, store, keyring, &known, &listed, opened)?;
    opened.packs_dropped += drop_segments(cache, &known, &listed)?;
    let records = list_condemned(store)?;
    update_condemned(cache, store, keyring, &records, opened)?;
    recorded::update(cache, store, keyring, opened)?;
    let told = take_over(cache, store, keyring, records.closed, opened)?;
    if records.closed > 0 && !store.puts_are_atomic() {
        let kept = if told { roster::kept(cache)? } else { BTreeSet::new() };
        let doubtful = listed.keys().filter(|id| !kept.contains(id)).copied().collect();
        leave_out_ghosts(store, &mut listed, doubtful)?;
        let known = cached_segments(cache)?;
        opened.packs_dropped += drop_segments(cache, &known, &listed)?;
    }
    // Without a roster nobody can tell who is late.
    late::update(cache, store, keyring, records.open.last().copied(), if told { records.closed } else { 0 })?;
    if told {
        let missing = roster::missing(cache, store, &listed)?;
        if look == Look::Together && !missing.is_empty() {
            return Ok(Told::Missing);
        }
        opened.damaged.extend(missing.into_iter().map(missing_segment));
    }
    opened.highest_condemned = records.highest();
    opened.condemned = records.open.into_iter().collect();
    let damaged: BTreeSet<&String> = opened.damaged.iter().map(|problem| &problem.subject).collect();
    let readable = listed.into_keys().filter(|id| !damaged.contains(&segment_key(*id).to_string()));
    opened.segments = readable.collect();
    // A segment that goes is said again by others: nobody has to read it.
    let going: BTreeSet<String> = roster::going(cache)?.into_iter().map(|id| segment_key(id).to_string()).collect();
    opened.damaged.retain(|problem| !going.contains(&problem.subject));
    Ok(Told::All)
}

/// Takes over the last roster; whether it tells which segments there should be.
fn take_over(
    cache: &mut Cache,
    store: &dyn ObjectStore,
    keyring: &Keyring,
    closed: u64,
    opened: &mut Opened,
) -> Result<bool> {
    match roster::take_over(cache, store, keyring, (closed > 0).then_some(closed)) {
        // Without it nobody knows which segments went on purpose.
        Err(error) if is_damage(&error) => {
            let subject = done_key(closed).to_string();
            let reason = error.advising("run `keepstone rebuild-index`");
            push_problem(opened, Problem::new(subject, reason, error.kind()));
            Ok(false)
        }
        other => other.map(|()| true),
    }
}

fn push_problem(opened: &mut Opened, problem: Problem) {
    opened.damaged.retain(|known| known.subject != problem.subject);
    opened.damaged.push(problem);
}

/// What to say of a segment that should be there and is not.
pub fn missing_segment(id: SegmentId) -> Problem {
    let reason =
        "it is gone, and what only it knew is unknown: run `keepstone rebuild-index`, which finds it in the packs";
    let key = segment_key(id);
    Problem::new(key.to_string(), Error::damaged(&key, reason), Kind::Damaged)
}

fn cached_segments(cache: &mut Cache) -> Result<BTreeMap<SegmentId, i64>> {
    cache.read(|cache| {
        let mut found = cache.connection.prepare("SELECT id, number FROM segments")?;
        found.query_map([], |row| Ok((SegmentId(row.get(0)?), row.get(1)?)))?.collect()
    })
}

/// All segments in the store, with their sizes.
pub fn list_segments(store: &dyn ObjectStore) -> Result<BTreeMap<SegmentId, u64>> {
    let mut listed = BTreeMap::new();
    store.list(Area::Index, &mut |object| {
        // Names that are no ids are other people's files.
        if let Ok(id) = object.name.parse::<SegmentId>() {
            listed.insert(id, object.size_bytes);
        }
    })?;
    Ok(listed)
}

/// All segments that are there, with their sizes: for those who read each, or say of each that it stays.
pub fn present_segments(store: &dyn ObjectStore) -> Result<BTreeMap<SegmentId, u64>> {
    let mut listed = list_segments(store)?;
    if !store.puts_are_atomic() {
        let all = listed.keys().copied().collect();
        leave_out_ghosts(store, &mut listed, all)?;
    }
    Ok(listed)
}

/// Takes those of some segments out of a listing that are gone.
///
/// Stores promise that a listing shows what was just stored, not that it shows nothing that was just deleted. At one whose
/// copies learn of each other late (Garage does), a copy that was away still shows what was deleted meanwhile, while each
/// object by itself is answered for by the majority. A cache that believed it would take a swept pack for one that is
/// there, and by then no tombstone may tell any more. Such stores do not honour put-if-absent either, for the same
/// reason: that is how they are known.
fn leave_out_ghosts(
    store: &dyn ObjectStore,
    listed: &mut BTreeMap<SegmentId, u64>,
    doubtful: Vec<SegmentId>,
) -> Result<()> {
    for ghost in roster::gone_of(store, &doubtful)? {
        listed.remove(&ghost);
    }
    Ok(())
}

/// The segments that are `listed` and not `known`.
fn missing_segments<'l>(
    known: &BTreeMap<SegmentId, i64>,
    listed: &'l BTreeMap<SegmentId, u64>,
) -> Vec<(&'l SegmentId, &'l u64)> {
    let mut missing: Vec<_> = listed.iter().filter(|(id, _)| !known.contains_key(id)).collect();
    // Large ones first: they go straight to the level where they stay.
    missing.sort_unstable_by_key(|(_, bytes)| std::cmp::Reverse(**bytes));
    missing
}

/// How many segments from the first on are asked for together: as many as may be in memory, and at least a group.
fn many_enough(missing: &[(&SegmentId, &u64)]) -> usize {
    let mut bytes = 0;
    let fit = missing.iter().take_while(|(_, size)| {
        bytes += if is_small(**size) { **size } else { 0 };
        bytes <= ASKED_BYTES
    });
    // Only whole groups, so that none of them is half there.
    (fit.count() / GROUP * GROUP).clamp(GROUP, ASKED_SEGMENTS)
}

/// Whether a segment is read whole.
fn is_small(size_bytes: u64) -> bool {
    size_bytes <= GROUP_WINDOW_BYTES as u64
}

/// Asks for the first of these segments, and for listings; says how many segments from the first on.
fn ask_for_segments(store: &Ahead<'_>, missing: &[(&SegmentId, &u64)], listings: &[Area]) -> usize {
    let many = many_enough(missing);
    let small = missing.iter().take(many).filter(|(_, size)| is_small(**size));
    store.ask(&small.map(|(id, size)| (segment_key(**id), **size)).collect::<Vec<_>>(), listings);
    many
}

fn load_missing(
    cache: &mut Cache,
    store: &Ahead<'_>,
    keyring: &Keyring,
    known: &BTreeMap<SegmentId, i64>,
    listed: &BTreeMap<SegmentId, u64>,
    opened: &mut Opened,
) -> Result<()> {
    let missing = missing_segments(known, listed);
    // The first of them were asked for with the listing of records.
    let mut asked = many_enough(&missing);
    for (number, group) in missing.chunks(GROUP).enumerate() {
        if number * GROUP >= asked {
            asked = number * GROUP + ask_for_segments(store, &missing[number * GROUP..], &[]);
        }
        match load_group(cache, store, keyring, group) {
            Ok(()) => opened.loaded.extend(group.iter().map(|(id, _)| **id)),
            Err(error) if is_damage(&error) => load_singly(cache, store, keyring, group, opened)?,
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

fn load_group(
    cache: &mut Cache,
    store: &dyn ObjectStore,
    keyring: &Keyring,
    group: &[(&SegmentId, &u64)],
) -> Result<()> {
    let mut readers = Vec::new();
    for (id, bytes) in group {
        readers.push((**id, SegmentReader::open_with(store, keyring, **id, **bytes, GROUP_WINDOW_BYTES)?));
    }
    add_all(cache, readers)
}

/// Adds what is not damaged and says what is.
fn load_singly(
    cache: &mut Cache,
    store: &dyn ObjectStore,
    keyring: &Keyring,
    group: &[(&SegmentId, &u64)],
    opened: &mut Opened,
) -> Result<()> {
    for segment in group {
        match load_group(cache, store, keyring, std::slice::from_ref(segment)) {
            Ok(()) => opened.loaded.push(*segment.0),
            Err(error) if is_damage(&error) => {
                let reason = error.advising("run `keepstone rebuild-index`, which makes it anew from the packs");
                push_problem(opened, Problem::new(segment_key(*segment.0).to_string(), reason, Kind::Damaged));
            }
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Whether it is the object that is damaged, not the cache or the way to the store. A newer version is what a damaged
/// header looks like: those who wrote it would have raised the config's.
fn is_damage(error: &Error) -> bool {
    matches!(error.kind(), Kind::Damaged | Kind::Unsupported) && !matches!(error, Error::Cache { .. })
}

/// Removes the `known` segments that are not `listed` any more, and the packs that only they named.
fn drop_segments(
    cache: &mut Cache,
    known: &BTreeMap<SegmentId, i64>,
    listed: &BTreeMap<SegmentId, u64>,
) -> Result<u64> {
    let gone: Vec<i64> = known.iter().filter(|(id, _)| !listed.contains_key(id)).map(|(_, number)| *number).collect();
    if gone.is_empty() {
        return Ok(0);
    }
    cache.write(|cache| {
        let dropped = remove_segments(cache, &gone);
        dropped.map_err(|error| cache.failed(error))
    })
}

fn remove_segments(cache: &mut Cache, segments: &[i64]) -> rusqlite::Result<u64> {
    let mut packs = BTreeSet::new();
    {
        let connection = &cache.connection;
        let mut named = connection.prepare("SELECT pack FROM segment_packs WHERE segment = ?")?;
        let mut forget = connection.prepare("DELETE FROM segment_packs WHERE segment = ?")?;
        let mut delete = connection.prepare("DELETE FROM segments WHERE number = ?")?;
        let mut unname = connection.prepare("DELETE FROM segment_previous WHERE segment = ?")?;
        for segment in segments {
            for pack in named.query_map([segment], |row| row.get::<_, i64>(0))? {
                packs.insert(pack?);
            }
            forget.execute([segment])?;
            unname.execute([segment])?;
            delete.execute([segment])?;
        }
    }
    // One scan answers for all packs: an index from packs to segments would cost more than it saves.
    let still_named: BTreeSet<i64> = {
        let mut found = cache.connection.prepare("SELECT DISTINCT pack FROM segment_packs")?;
        found.query_map([], |row| row.get(0))?.collect::<Result<_, _>>()?
    };
    let mut dropped = 0;
    for pack in packs.difference(&still_named) {
        drop_pack(cache, *pack)?;
        dropped += 1;
    }
    update_void(cache)?;
    cache.reload_dead()?;
    purge_if_worth_it(cache)?;
    Ok(dropped)
}

/// Forgets a pack. Its frames stay as a range of dead ones until a merge has taken the last of its blobs out.
fn drop_pack(cache: &Cache, pack: i64) -> rusqlite::Result<()> {
    forget_frames(&cache.connection, pack)?;
    cache.connection.prepare_cached("DELETE FROM packs WHERE number = ?")?.execute([pack])?;
    Ok(())
}

/// Forgets the frames of a pack: they stay as a range of dead ones.
pub(super) fn forget_frames(connection: &Connection, pack: i64) -> rusqlite::Result<()> {
    let ranges: Vec<(i64, i64)> = {
        let mut found = connection.prepare_cached("SELECT first, count FROM pack_frames WHERE pack = ?")?;
        found.query_map([pack], |row| Ok((row.get(0)?, row.get(1)?)))?.collect::<Result<_, _>>()?
    };
    for (first, count) in ranges {
        let last = first + count - 1;
        connection
            .prepare_cached("DELETE FROM dead_frames WHERE first BETWEEN ? AND ?")?
            .execute(params![first, last])?;
        connection.prepare_cached("INSERT INTO dead_frames VALUES (?, ?, 0)")?.execute(params![first, last])?;
        connection.prepare_cached("DELETE FROM frames WHERE number BETWEEN ? AND ?")?.execute(params![first, last])?;
    }
    connection.prepare_cached("DELETE FROM pack_frames WHERE pack = ?")?.execute([pack])?;
    Ok(())
}

/// Takes the blobs of packs that are gone out of all levels once they are a third of what is there.
fn purge_if_worth_it(cache: &mut Cache) -> rusqlite::Result<()> {
    let present: i64 = cache.connection.query_row("SELECT COALESCE(SUM(blobs), 0) FROM packs", [], |row| row.get(0))?;
    let rows = cache.blobs.rows();
    if rows < present + present / 2 + LEVEL_0_ROWS {
        return Ok(());
    }
    let Cache { connection, blobs, marks, gone, .. } = cache;
    blobs.purge(connection, &|frame| gone.holds(frame))?;
    marks.purge(connection, &|frame| gone.holds(frame))?;
    connection.execute("DELETE FROM dead_frames WHERE damaged = 0", [])?;
    cache.reload_dead()
}

/// Reads the condemned records that are new and forgets those that are closed. A damaged one
/// hinders nobody who reads; who stores has to refuse, since it names packs that must not be counted on.
fn update_condemned(
    cache: &mut Cache,
    store: &Ahead<'_>,
    keyring: &Keyring,
    listed: &Records,
    opened: &mut Opened,
) -> Result<()> {
    let known: BTreeMap<u64, bool> = cache.read(|cache| {
        let mut found = cache.connection.prepare("SELECT number, decided FROM condemned")?;
        let rows = found.query_map([], |row| Ok((row.get::<_, i64>(0)? as u64, row.get(1)?)))?;
        rows.collect()
    })?;
    let there: BTreeMap<u64, bool> = listed.open.iter().map(|n| (*n, listed.decided.contains(n))).collect();
    if known == there {
        return Ok(());
    }
    let mut changes = Changes::default();
    let new: Vec<u64> = there.iter().filter(|(n, decided)| known.get(n) != Some(*decided)).map(|(n, _)| *n).collect();
    store.ask(&new.iter().map(|number| (condemned_key(*number), record_bytes())).collect::<Vec<_>>(), &[]);
    for (number, decided) in &there {
        if known.get(number) == Some(decided) {
            continue;
        }
        match load_condemned(store, keyring, *number) {
            Ok(record) => changes.records.push((record, *decided)),
            Err(error) if is_damage(&error) => {
                let problem = Problem::new(condemned_key(*number).to_string(), &error, error.kind());
                push_problem(opened, problem);
                continue;
            }
            Err(error) => return Err(error),
        }
        if *decided {
            match load_condemned_at(store, keyring, &spared_key(*number), *number) {
                Ok(spared) => changes.spared.push(spared),
                // Until it can be read, whatever is named stays void.
                Err(error) if is_damage(&error) => {
                    push_problem(opened, Problem::new(spared_key(*number).to_string(), &error, error.kind()));
                }
                Err(error) => return Err(error),
            }
        }
    }
    changes.forgotten = known.keys().filter(|number| !there.contains_key(number)).copied().collect();
    cache.write(|cache| {
        let changed = change_condemned(cache, &changes);
        changed.map_err(|error| cache.failed(error))
    })
}

/// The most bytes of a record or a roster.
fn record_bytes() -> u64 {
    ObjectKind::Condemned.max_bytes() as u64
}

/// What is to be changed about the records that the cache knows.
#[derive(Default)]
struct Changes {
    /// Records, and whether it is decided what is spared of them.
    records: Vec<(Condemned, bool)>,
    /// What is spared.
    spared: Vec<Condemned>,
    /// Numbers of records that are closed.
    forgotten: Vec<u64>,
}

/// Reads condemned record `number`.
pub fn load_condemned(store: &dyn ObjectStore, keyring: &Keyring, number: u64) -> Result<Condemned> {
    load_condemned_at(store, keyring, &condemned_key(number), number)
}

/// Reads the record or roster of this number that lies at `key`.
pub fn load_condemned_at(store: &dyn ObjectStore, keyring: &Keyring, key: &Key, number: u64) -> Result<Condemned> {
    let object = store.get(key, record_bytes())?;
    let content = keyring.open(ObjectKind::Condemned, object, key)?;
    let record = Condemned::from_cbor(&content, ObjectKind::Condemned.name()).map_err(Error::object(key))?;
    if keyring.is_guarded() && !keyring.is_vouched(&vouch::nothing_before(), &record) {
        return Err(Error::damaged(key, "nobody who holds the repository's own keys has signed it"));
    }
    if record.number == number {
        Ok(record)
    } else {
        Err(Error::damaged(key, format!("it says that it is number {}", record.number)))
    }
}

/// The first segment or closed record in the store that is not signed, if there is one.
pub fn unvouched(store: &dyn ObjectStore, keyring: &Keyring) -> Result<Option<Key>> {
    for id in present_segments(store)?.into_keys() {
        if SegmentReader::open(store, keyring, id)?.head.voucher.is_none() {
            return Ok(Some(segment_key(id)));
        }
    }
    let records = list_condemned(store)?;
    let open = records.open.iter().map(|number| (condemned_key(*number), *number));
    let decided = records.decided.iter().map(|number| (spared_key(*number), *number));
    let closed = (records.closed > 0).then(|| (done_key(records.closed), records.closed));
    for (key, number) in open.chain(decided).chain(closed) {
        match load_condemned_at(store, keyring, &key, number) {
            Err(error) if error.kind() == Kind::NotFound => {}
            Ok(record) if keyring.is_vouched(&vouch::nothing_before(), &record) => {}
            Ok(_) => return Ok(Some(key)),
            Err(error) => return Err(error),
        }
    }
    Ok(None)
}

fn change_condemned(cache: &mut Cache, changes: &Changes) -> rusqlite::Result<()> {
    {
        let connection = &cache.connection;
        let mut record = connection.prepare_cached("INSERT OR REPLACE INTO condemned VALUES (?, ?)")?;
        let mut pack = connection.prepare_cached("INSERT OR IGNORE INTO condemned_packs VALUES (?, ?)")?;
        let mut segment = connection.prepare_cached("INSERT OR IGNORE INTO condemned_segments VALUES (?, ?, ?)")?;
        for (condemned, decided) in &changes.records {
            record.execute(params![condemned.number as i64, decided])?;
            for id in &condemned.packs {
                pack.execute(params![id.0, condemned.number as i64])?;
            }
            for (segments, stays) in [(&condemned.segments, false), (&condemned.kept_segments, true)] {
                for id in segments {
                    segment.execute(params![id.0, condemned.number as i64, stays])?;
                }
            }
        }
        // Who decided what is spared saw these too, and took care of what they need.
        for spared in &changes.spared {
            for id in &spared.kept_segments {
                segment.execute(params![id.0, spared.number as i64, true])?;
            }
        }
        for number in &changes.forgotten {
            connection.execute("DELETE FROM condemned WHERE number = ?", [*number as i64])?;
            connection.execute("DELETE FROM condemned_packs WHERE record = ?", [*number as i64])?;
            connection.execute("DELETE FROM condemned_segments WHERE record = ?", [*number as i64])?;
        }
    }
    update_void(cache)?;
    cache.reload_dead()
}

/// A pack is void
///
/// - while a condemned record names it that none of the segments naming it had seen: a segment that names it in full
///   knowledge of the record has brought it back;
/// - when the last roster says that it was swept: a segment that names it still was written without knowing;
/// - when only late segments name it ([`late`]).
///
/// Nobody brings back a pack for which somebody vouches but those who vouch for it.
pub fn update_void(cache: &Cache) -> rusqlite::Result<()> {
    cache.connection.execute_batch(
        "UPDATE packs SET void = 0 WHERE void = 1;
         UPDATE packs SET void = 1 WHERE number IN (
            SELECT named.number FROM (
                SELECT packs.number, MAX(record) AS record FROM condemned_packs JOIN packs USING (id)
                GROUP BY packs.number) AS named
            WHERE named.record > (
                SELECT COALESCE(MAX(condemned_seen), 0)
                FROM segments CROSS JOIN segment_packs ON segment = segments.number
                WHERE segment_packs.pack = named.number
                    AND (segments.proven = 1 OR (SELECT proven FROM packs WHERE number = named.number) = 0)));
         UPDATE packs SET void = 1 WHERE number IN (SELECT packs.number FROM roster_packs JOIN packs USING (id));
         UPDATE packs SET void = 1 WHERE number IN (
            SELECT pack FROM segments JOIN segment_packs ON segment = segments.number WHERE late = 1)
            AND NOT EXISTS (
                SELECT 1 FROM segments CROSS JOIN segment_packs ON segment = segments.number
                WHERE segment_packs.pack = packs.number AND late = 0)",
    )
}

/// Lets the marks of finished runs be found.
pub fn apply_marks(cache: &mut Cache) -> Result<()> {
    let any = cache.read(|cache| cache.connection.prepare_cached("SELECT 1 FROM marks_pending LIMIT 1")?.exists([]))?;
    if !any {
        return Ok(());
    }
    cache.write(|cache| {
        let applied = move_marks(cache);
        applied.map_err(|error| cache.failed(error))
    })
}

fn move_marks(cache: &mut Cache) -> rusqlite::Result<()> {
    // SQLite sorts in as much memory as the page cache may have: not both at once.
    cache.limit_page_cache(4)?;
    let moved = sort_marks(cache);
    cache.limit_page_cache(1)?;
    moved
}

fn sort_marks(cache: &mut Cache) -> rusqlite::Result<()> {
    let Cache { connection, marks, gone, .. } = cache;
    let count: i64 = connection.query_row("SELECT COUNT(*) FROM marks_pending", [], |row| row.get(0))?;
    {
        let mut sorted =
            connection.prepare("SELECT * FROM marks_pending ORDER BY mark, side, written_ms DESC, frame DESC")?;
        let mut rows = sorted.query([])?;
        marks.insert::<rusqlite::Error>(connection, count, &|frame| gone.holds(frame), || {
            rows.next()?.map(Marked::read).transpose()
        })?;
    }
    connection.execute("DELETE FROM marks_pending", [])?;
    Ok(())
}

/// Which of `packs` the index knows, void ones included. For tests and for those who plan.
pub fn pack_number(cache: &Cache, id: PackId) -> rusqlite::Result<Option<i64>> {
    let mut find = cache.connection.prepare_cached("SELECT number FROM packs WHERE id = ?")?;
    find.query_row([id.0], |row| row.get(0)).optional()
}
