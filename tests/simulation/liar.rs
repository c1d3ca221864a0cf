//! The switches: a store that lies to a client in just one way, so that the client breaks just one rule. The program
//! itself is always the same.

use super::judge::copy_of;
use crate::vault::key as secret;
use keepstone::base::{Clock, Kind, PackId, SegmentId, SessionId, SnapshotId};
use keepstone::format::cbor::{Cbor, Unknown};
use keepstone::format::envelope::{self, ObjectKind};
use keepstone::format::pack::Role;
use keepstone::format::segment::PackRow;
use keepstone::format::session::{Condemned, Seen};
use keepstone::repo::index::{SegmentReader, list_segments, load_condemned};
use keepstone::repo::pack_reader::pack_key;
use keepstone::repo::{Keyring, SealedRepository, session};
use keepstone::store::{Area, Error, Key, Listed, Memory, ObjectStore, Put, Upload};
use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Write};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

/// What the store lies about, and so what its client does that he should not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lie {
    /// He looks at the records and at the index, and leaves his mark later.
    MarksTooLate,
    /// He says that he has seen the records, but his index does not hear of them.
    RecordsAreNotHeeded,
    /// He takes all snapshots for seen by the plan of the record that is open.
    ParentsAreTakenAtTheirWord,
    /// He says that he has seen all records although he counts on what they name.
    TagsSayWhatTheyHaveSeen,

    /// He lists the segments before the snapshots.
    SegmentsAreListedFirst,
    /// He stores his segments after his snapshot.
    SegmentsFollowTheSnapshot,
    /// He stores his packs after his segment.
    PacksFollowTheSegment,
    /// He stores copies and merged segments after the record.
    CopiesFollowTheRecord,
    /// He does not see what open sessions have segments for.
    NothingIsHeld,
    /// All packs seem to have been stored long ago.
    PacksSeemOld,

    /// He commits although a tombstone has his name.
    TombstonesDoNotHold,
    /// He takes tombstones away together with marks.
    TombstonesAreCleared,
    /// He commits anew after he was fenced without a look at what is there.
    WhoWasFencedDoesNotLook,
    /// He believes segments that no roster names.
    LateSegmentsAreBelieved,
    /// He believes segments of fenced sessions while a record is open.
    SegmentsOfTheFencedAreBelieved,
    /// Everybody else seems to have begun more than a day ago.
    EverybodySeemsDead,
    /// Everybody else seems to have begun just now.
    NobodyGrowsOld,

    /// He sees no other sessions.
    NobodyElseIsThere,
    /// He lists the snapshots before the sessions.
    SnapshotsAreListedFirst,
    /// When he sweeps he sees only the snapshots that the record names.
    NewSnapshotsAreNotLookedAt,
    /// … only the segments that the record names.
    NewSegmentsAreNotLookedAt,
    /// He spares nothing of what segments without a snapshot hang on.
    BasesAreNotSpared,
    /// What he decides to spare takes the place of what others have decided.
    DecisionsDoNotCount,
    /// He brings back what is spared after segments have gone.
    BringsBackTooLate,
    /// He deletes segments after packs.
    SegmentsGoLast,
    /// He takes no notice of the packs that the open record names.
    CondemnedPacksAreNotHeeded,
    /// He takes no notice of what rosters say was swept.
    SweptPacksAreNotHeeded,

    /// His record takes the place of another of the same number.
    NumbersDoNotCount,
    /// He does not look whether his record came too late.
    LateRecordsStay,
    /// … nor whether his decision did.
    LateDecisionsStay,

    /// His index is as it was when he looked at it first.
    NothingIsCompared,
    /// He leaves no mark.
    NoMarkIsLeft,

    /// He condemns a pack of which he can read nothing that he would have to copy.
    WhatCannotBeReadGoes,
    /// … and what that hangs on.
    WhatItHangsOnGoes,
    /// … and what hangs on that.
    WhatHangsOnItGoes,

    /// No lie: the store only looks before it puts, and says so.
    PutsAreNotAtomic,
    /// No lie: the directory of the second night's pack seems to be destroyed. It hangs on the first night's, and the third
    /// night's on it.
    APackCannotBeRead,
}

/// Wraps the store of one client.
pub struct Liar {
    inner: Arc<dyn ObjectStore>,
    /// What the store really holds.
    really: Memory,
    lies: Vec<Lie>,
    clock: Clock,
    keyring: Arc<Keyring>,
    /// The packs of data, the oldest first.
    packs: Vec<PackRow>,
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    /// Names that were put through here.
    own: BTreeSet<String>,
    /// How often the records were listed since a session was marked.
    looks: u32,
    /// The sessions were listed last.
    after_sessions: bool,
    /// What was put last, if it is to be looked at whether it came too late.
    after_put: Option<Lie>,
    /// What listings go on to show.
    frozen: BTreeMap<Area, Vec<Listed>>,
    /// The store as it was before the last put.
    before: Option<Memory>,
    /// A tombstone had the name of a snapshot.
    fenced: bool,
    held: Held,
}

/// Changes that are made later than they should be; the client sees them made.
#[derive(Default)]
struct Held {
    puts: Vec<(Key, Vec<u8>)>,
    deletions: Vec<Key>,
    /// They have been made: nothing is held any more.
    released: bool,
}

impl Held {
    fn get(&self, key: &Key) -> Option<Result<Vec<u8>, Error>> {
        if self.deletions.contains(key) {
            return Some(Err(Error::new(Kind::NotFound, "read", key, "it is not there")));
        }
        self.puts.iter().find(|(put, _)| put == key).map(|(_, bytes)| Ok(bytes.clone()))
    }
}

impl Liar {
    /// `inner` leads to `really`.
    pub fn new(inner: Arc<dyn ObjectStore>, really: Memory, lies: &[Lie], clock: Clock) -> Liar {
        let sealed = SealedRepository::open(Arc::new(really.clone())).unwrap();
        let keyring = sealed.unlock(&secret(), clock.clone()).unwrap().keyring().clone();
        let packs = if lies.contains(&Lie::APackCannotBeRead) { data_packs(&really, &keyring) } else { Vec::new() };
        Liar { inner, really, lies: lies.to_vec(), clock, keyring, packs, state: Arc::default() }
    }

    fn tells(&self, lie: Lie) -> bool {
        self.lies.contains(&lie)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    fn is_tombstone(&self, key: &Key) -> bool {
        let there = self.really.get(key, u64::MAX).ok();
        let header = there.and_then(|there| envelope::peek_any(&there, "snapshot").ok());
        header.is_some_and(|header| header.kind == ObjectKind::Tombstone)
    }

    /// The record that is open.
    fn open_record(&self) -> Option<Condemned> {
        let number = session::condemned_numbers(&self.really).ok()?.pop_last()?;
        load_condemned(&self.really, &self.keyring, number).ok()
    }

    fn names(&self, area: Area) -> Vec<Listed> {
        let mut listed = Vec::new();
        self.really.list(area, &mut |one| listed.push(one)).unwrap();
        listed
    }

    /// A record with something else in it.
    fn forge(&self, key: &Key, object: Vec<u8>, change: impl FnOnce(&mut Condemned)) -> Vec<u8> {
        let mut record: Condemned = self.keyring.load(ObjectKind::Condemned, object, key).unwrap();
        change(&mut record);
        self.keyring.seal(ObjectKind::Condemned, &record.to_cbor()).unwrap()
    }

    fn holds_put(&self, key: &Key) -> bool {
        !self.state().held.released
            && self.lies.iter().any(|lie| match lie {
                Lie::MarksTooLate => key.area() == Area::Sessions && !key.name().ends_with(".end"),
                Lie::SegmentsFollowTheSnapshot | Lie::BringsBackTooLate => key.area() == Area::Index,
                Lie::PacksFollowTheSegment => key.area() == Area::Packs,
                Lie::CopiesFollowTheRecord => matches!(key.area(), Area::Packs | Area::Index),
                _ => false,
            })
    }

    /// Whether what is held has to be made before this is put.
    fn releases_before(&self, key: &Key) -> bool {
        self.lies.iter().any(|lie| match lie {
            Lie::MarksTooLate => matches!(key.area(), Area::Packs | Area::Index | Area::Snapshots),
            Lie::BringsBackTooLate | Lie::SegmentsGoLast => key.name().ends_with(".done"),
            _ => false,
        })
    }

    fn releases_after(&self, key: &Key) -> bool {
        self.lies.iter().any(|lie| match lie {
            Lie::SegmentsFollowTheSnapshot => key.area() == Area::Snapshots,
            Lie::PacksFollowTheSegment => key.area() == Area::Index,
            Lie::CopiesFollowTheRecord => is_record(key),
            _ => false,
        })
    }

    fn release(&self) -> Result<(), Error> {
        // Put first and let go of then: whoever is stopped in between has put less, not more.
        while let Some((key, bytes)) = { self.state().held.puts.first().cloned() } {
            self.inner.put(&key, &bytes)?;
            self.state().held.puts.remove(0);
        }
        while let Some(key) = { self.state().held.deletions.first().cloned() } {
            self.inner.delete(&key)?;
            self.state().held.deletions.remove(0);
        }
        self.state().held.released = true;
        Ok(())
    }

    /// Makes room for what must not be there twice.
    fn overwrite(&self, key: &Key) -> Result<(), Error> {
        let overwrites =
            (self.tells(Lie::TombstonesDoNotHold) && key.area() == Area::Snapshots && self.is_tombstone(key))
                || (self.tells(Lie::NumbersDoNotCount) && is_record(key))
                || (self.tells(Lie::DecisionsDoNotCount) && is_decision(key));
        if overwrites { self.inner.delete(key) } else { Ok(()) }
    }

    fn put_now(&self, key: &Key, bytes: &[u8]) -> Result<Put, Error> {
        let stores = !matches!(key.area(), Area::Snapshots | Area::Runs);
        if self.tells(Lie::WhoWasFencedDoesNotLook) && stores && !self.state().fenced {
            self.state().before = Some(copy_of(&self.really, self.clock.clone()));
        }
        if self.tells(Lie::NoMarkIsLeft) && key.area() == Area::Sessions {
            return Ok(Put::Stored);
        }
        if self.tells(Lie::BasesAreNotSpared) && is_decision(key) {
            let forged = self.forge(key, bytes.to_vec(), |record| record.packs.clear());
            self.inner.put(key, &forged)?;
            // Somebody else seems to have been quicker: then his decision holds.
            return Ok(Put::Existed);
        }
        let besides = if is_record(key) { self.goes_too() } else { Vec::new() };
        if !besides.is_empty() {
            let forged = self.forge(key, bytes.to_vec(), |record| record.packs.extend(besides));
            self.inner.put(key, &forged)?;
            // The same: what he sweeps is what it says.
            return Ok(Put::Existed);
        }
        self.overwrite(key)?;
        let put = self.inner.put(key, bytes)?;
        if self.tells(Lie::TagsSayWhatTheyHaveSeen) && is_mark(key) {
            self.say_seen(key)?;
        }
        if put == Put::Existed && key.area() == Area::Snapshots {
            self.state().fenced = true;
        }
        Ok(put)
    }

    /// What he condemns besides what his plan says.
    fn goes_too(&self) -> Vec<PackId> {
        let places = [(Lie::WhatItHangsOnGoes, 0), (Lie::WhatCannotBeReadGoes, 1), (Lie::WhatHangsOnItGoes, 2)];
        let Some((lie, place)) = places.iter().find(|(lie, _)| self.tells(*lie)) else { return Vec::new() };
        let mut going = vec![self.packs[*place].id];
        if *lie == Lie::WhatItHangsOnGoes {
            // He has copied what is needed of it.
            let own = self.state().own.clone();
            let copies = self.names(Area::Packs).into_iter().filter(|listed| own.contains(&listed.name));
            going.extend(copies.filter_map(|listed| listed.name.parse::<PackId>().ok()));
        }
        going
    }

    /// What seems to lie at this place of an object: destroyed is the trailer, which says where the directory lies.
    fn hurt(&self, key: &Key, offset: u64, mut bytes: Vec<u8>) -> Vec<u8> {
        if let Some(pack) = self.packs.get(1).filter(|pack| pack_key(pack.id) == *key) {
            let whole = (pack.size_bytes - 16).saturating_sub(offset);
            bytes.iter_mut().skip(whole as usize).for_each(|byte| *byte = 0);
        }
        bytes
    }

    fn say_seen(&self, mark: &Key) -> Result<(), Error> {
        let session: SessionId = mark.name().parse().unwrap();
        let records = session::condemned_numbers(&self.really).unwrap().into_iter().collect();
        let seen = Seen { session, records, unknown: Unknown::none() };
        let sealed = self.keyring.seal(ObjectKind::Seen, &seen.to_cbor()).unwrap();
        self.inner.put(&Key::new(Area::Sessions, format!("{session}.seen")), &sealed).map(drop)
    }

    /// What an object seems to say.
    fn shown(&self, key: &Key, object: Vec<u8>) -> Result<Vec<u8>, Error> {
        let hidden = (self.tells(Lie::SegmentsOfTheFencedAreBelieved)
            && key.area() == Area::Snapshots
            && self.is_tombstone(key))
            || (self.tells(Lie::DecisionsDoNotCount) && is_decision(key) && !self.state().own.contains(key.name()));
        if hidden {
            return Err(Error::new(Kind::NotFound, "read", key, "it is not there"));
        }
        let is_roster = key.area() == Area::Condemned && key.name().ends_with(".done");
        if self.tells(Lie::ParentsAreTakenAtTheirWord) && is_record(key) {
            let names = self.names(Area::Snapshots).into_iter().filter_map(|listed| listed.name.parse().ok());
            let names: Vec<SnapshotId> = names.collect();
            return Ok(self.forge(key, object, |record| record.snapshots = names));
        }
        if self.tells(Lie::LateSegmentsAreBelieved) && is_roster {
            let segments: Vec<SegmentId> = list_segments(&self.really).unwrap().into_keys().collect();
            return Ok(self.forge(key, object, |record| record.kept_segments = segments));
        }
        let heeds_no_packs = (self.tells(Lie::SweptPacksAreNotHeeded) && is_roster)
            || (self.tells(Lie::CondemnedPacksAreNotHeeded) && is_record(key));
        if heeds_no_packs {
            return Ok(self.forge(key, object, |record| record.packs.clear()));
        }
        Ok(object)
    }

    /// The store that is read: for whoever does not look any more, the one of before.
    fn read(&self, area: Area) -> Arc<dyn ObjectStore> {
        let state = self.state();
        match &state.before {
            Some(before) if state.fenced && matches!(area, Area::Packs | Area::Index | Area::Condemned) => {
                Arc::new(before.clone())
            }
            _ => self.inner.clone(),
        }
    }

    /// Before something is listed: what later listings go on to show.
    fn freeze(&self, area: Area) {
        let freeze = |areas: &[Area], again: bool| {
            for area in areas {
                let listed = self.names(*area);
                let mut state = self.state();
                if again || !state.frozen.contains_key(area) {
                    state.frozen.insert(*area, listed);
                }
            }
        };
        if area == Area::Sessions && self.tells(Lie::SegmentsAreListedFirst) {
            freeze(&[Area::Index], true);
        }
        if area == Area::Sessions && self.tells(Lie::SnapshotsAreListedFirst) {
            freeze(&[Area::Snapshots], true);
        }
        if area == Area::Index && self.tells(Lie::NothingIsCompared) {
            freeze(&[Area::Index, Area::Condemned, Area::Packs], false);
        }
    }

    fn shows(&self, area: Area, listed: &Listed, after_put: Option<Lie>, after_sessions: bool) -> bool {
        let id = listed.name.split('.').next().unwrap_or_default();
        let state = self.state();
        let is_own = state.own.contains(&listed.name) || (area == Area::Sessions && state.own.contains(id));
        let looks = state.looks;
        drop(state);
        if is_own {
            return true;
        }
        let is_done = listed.name.ends_with(".done");
        self.lies.iter().all(|lie| match (lie, area) {
            (Lie::NobodyElseIsThere, Area::Sessions) => false,
            // The first look at the sessions is the plan's, the others are the sweep's.
            (Lie::NothingIsHeld, Area::Sessions) => self.open_record().is_some(),
            (Lie::RecordsAreNotHeeded, Area::Condemned) => looks <= 1 || is_done,
            (Lie::DecisionsDoNotCount, Area::Condemned) => !listed.name.ends_with(".spared"),
            (Lie::LateRecordsStay | Lie::LateDecisionsStay, Area::Condemned) => !(is_done && after_put == Some(*lie)),
            (Lie::NewSnapshotsAreNotLookedAt, Area::Snapshots) if !after_sessions => self
                .open_record()
                .is_none_or(|record| record.snapshots.iter().any(|snapshot| snapshot.to_string() == listed.name)),
            (Lie::NewSegmentsAreNotLookedAt, Area::Index) => self.open_record().is_none_or(|record| {
                let mut named = record.segments.iter().chain(&record.kept_segments);
                named.any(|segment| segment.to_string() == listed.name)
            }),
            _ => true,
        })
    }
}

/// The packs of data that segments name, the oldest first.
fn data_packs(store: &dyn ObjectStore, keyring: &Keyring) -> Vec<PackRow> {
    let mut packs = BTreeMap::new();
    for segment in list_segments(store).unwrap().into_keys() {
        let mut reader = SegmentReader::open(store, keyring, segment).unwrap();
        while let Some(pack) = reader.next_pack().unwrap() {
            if pack.role == Role::Data {
                packs.insert(pack.written_ns, pack);
            }
        }
    }
    packs.into_values().collect()
}

fn is_record(key: &Key) -> bool {
    key.area() == Area::Condemned && !key.name().contains('.')
}

fn is_decision(key: &Key) -> bool {
    key.area() == Area::Condemned && key.name().ends_with(".spared")
}

fn is_mark(key: &Key) -> bool {
    key.area() == Area::Sessions && !key.name().contains('.')
}

fn check_limit(bytes: Vec<u8>, key: &Key, limit_bytes: u64) -> Result<Vec<u8>, Error> {
    if bytes.len() as u64 <= limit_bytes {
        return Ok(bytes);
    }
    Err(Error::new(Kind::Damaged, "read", key, "it is longer than it can be"))
}

impl ObjectStore for Liar {
    keepstone::store::forward!(inner: replace, location, free_bytes);

    fn put(&self, key: &Key, bytes: &[u8]) -> Result<Put, Error> {
        let holds = self.holds_put(key);
        {
            let mut state = self.state();
            state.own.insert(key.name().to_owned());
            if is_mark(key) {
                state.looks = 0;
            }
            state.after_put = match (is_record(key), is_decision(key)) {
                (true, _) => Some(Lie::LateRecordsStay),
                (_, true) => Some(Lie::LateDecisionsStay),
                _ => state.after_put,
            };
            if holds {
                state.held.puts.push((key.clone(), bytes.to_vec()));
                return Ok(Put::Stored);
            }
        }
        if self.releases_before(key) {
            self.release()?;
        }
        let put = self.put_now(key, bytes)?;
        if self.releases_after(key) {
            self.release()?;
        }
        Ok(put)
    }

    fn puts_are_atomic(&self) -> bool {
        !self.tells(Lie::PutsAreNotAtomic)
    }

    fn begin(&self) -> Result<Box<dyn Upload>, Error> {
        let liar = Liar {
            inner: self.inner.clone(),
            really: self.really.clone(),
            lies: self.lies.clone(),
            clock: self.clock.clone(),
            keyring: self.keyring.clone(),
            packs: self.packs.clone(),
            state: self.state.clone(),
        };
        Ok(Box::new(LiarUpload { liar, bytes: Vec::new() }))
    }

    fn get(&self, key: &Key, limit_bytes: u64) -> Result<Vec<u8>, Error> {
        if let Some(held) = { self.state().held.get(key) } {
            return check_limit(held?, key, limit_bytes);
        }
        let object = self.read(key.area()).get(key, limit_bytes)?;
        self.shown(key, self.hurt(key, 0, object))
    }

    fn get_range(&self, key: &Key, offset: u64, length: usize) -> Result<Vec<u8>, Error> {
        if let Some(held) = { self.state().held.get(key) } {
            let start = offset as usize;
            let bytes = held?.get(start..start + length).map(<[u8]>::to_vec);
            return bytes.ok_or_else(|| Error::new(Kind::Damaged, "read", key, "it is shorter"));
        }
        Ok(self.hurt(key, offset, self.read(key.area()).get_range(key, offset, length)?))
    }

    fn size(&self, key: &Key) -> Result<u64, Error> {
        let held = self.state().held.get(key);
        match held {
            Some(held) => Ok(held?.len() as u64),
            None => self.read(key.area()).size(key),
        }
    }

    fn list(&self, area: Area, each: &mut dyn FnMut(Listed)) -> Result<(), Error> {
        self.freeze(area);
        let mut found = Vec::new();
        self.read(area).list(area, &mut |listed| found.push(listed))?;
        let (after_put, after_sessions) = {
            let mut state = self.state();
            if area == Area::Condemned {
                state.looks += 1;
            }
            let after_sessions = std::mem::replace(&mut state.after_sessions, area == Area::Sessions);
            let after_put = if area == Area::Condemned { state.after_put.take() } else { None };
            // Whether a session has ended is looked at right after the sessions: that is another rule.
            let thaws = area == Area::Snapshots && after_sessions;
            if let (Some(frozen), false) = (state.frozen.get(&area), thaws) {
                let own = found.iter().filter(|listed| state.own.contains(&listed.name));
                let mut shown: BTreeMap<String, Listed> =
                    own.chain(frozen).map(|listed| (listed.name.clone(), listed.clone())).collect();
                found = std::mem::take(&mut shown).into_values().collect();
            }
            let held = &state.held;
            found.retain(|listed| !held.deletions.contains(&Key::new(area, &listed.name)));
            found.extend(held.puts.iter().filter(|(key, _)| key.area() == area).map(|(key, bytes)| Listed {
                name: key.name().to_owned(),
                size_bytes: bytes.len() as u64,
                stored_at: self.clock.now(),
                class: None,
            }));
            (after_put, after_sessions)
        };
        found.retain(|listed| self.shows(area, listed, after_put, after_sessions));
        for listed in &mut found {
            let is_own = self.state().own.contains(&listed.name);
            if area == Area::Sessions && !is_own && self.tells(Lie::EverybodySeemsDead) {
                listed.stored_at -= Duration::from_secs(25 * 3600);
            }
            if area == Area::Sessions && !is_own && self.tells(Lie::NobodyGrowsOld) {
                listed.stored_at = self.clock.now();
            }
            if area == Area::Packs && self.tells(Lie::PacksSeemOld) {
                listed.stored_at -= Duration::from_secs(1000 * 3600);
            }
        }
        found.into_iter().for_each(each);
        Ok(())
    }

    fn delete(&self, key: &Key) -> Result<(), Error> {
        if self.tells(Lie::SegmentsGoLast) && key.area() == Area::Index && !self.state().held.released {
            self.state().held.deletions.push(key.clone());
            return Ok(());
        }
        self.inner.delete(key)?;
        let tombstone = Key::new(Area::Snapshots, key.name().split('.').next().unwrap_or_default());
        match self.tells(Lie::TombstonesAreCleared) && is_mark(key) && self.is_tombstone(&tombstone) {
            true => self.inner.delete(&tombstone),
            false => Ok(()),
        }
    }
}

struct LiarUpload {
    liar: Liar,
    bytes: Vec<u8>,
}

impl Write for LiarUpload {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.bytes.write(bytes)
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Upload for LiarUpload {
    fn finish(self: Box<Self>, key: &Key) -> Result<Put, Error> {
        self.liar.put(key, &self.bytes)
    }
}
