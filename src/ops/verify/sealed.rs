//! Whether stored bytes are those that were written, without any key.
//!
//! Packs and segments are named by the hash of their bytes, and what opens a repository lies there twice. So whoever has
//! the store can tell which objects are altered, cut off or unreadable: the host of a storage, with no password and no
//! right to write. What is gone altogether shows only to somebody with a key. Each byte is read once, several objects at
//! a time, and no more of one is in memory than a piece.

use super::super::{Error, Result};
use crate::base::{Event, Kind, Monitor, PackId, Problem, SegmentId, Stop, side_by_side};
use crate::crypto::names::PackHasher;
use crate::format::envelope::{self, ObjectKind};
use crate::format::keys::Slot;
use crate::format::{self, config};
use crate::repo::parity::{self, Sidecar};
use crate::repo::{self, pack_reader::pack_key, twice};
use crate::store::{self, Area, Key, ObjectStore};
use std::collections::BTreeSet;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// The most damages that are kept; all are counted and told to the onlooker.
pub const MAX_DAMAGES: usize = 1000;
/// Objects read at once at most: each has a piece of 4 MiB in memory.
const MOST_LANES: usize = 12;
/// The most bytes of an object that lies there twice.
const TWICE_BYTES: u64 = 64 << 10;

/// An object that is not what was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Altered {
    /// The object's name in the store.
    pub object: String,
    /// What was tried and what came back.
    pub message: String,
}

/// What was found.
#[derive(Clone, Debug, Default)]
pub struct Outcome {
    /// Packs that were read.
    pub packs: u64,
    /// Segments that were read.
    pub segments: u64,
    /// Parity sidecars that were read.
    pub sidecars: u64,
    /// Packs without one although the config asks for it, as far as it can be read.
    pub packs_without_sidecar: u64,
    /// Config, key slots and epochs, each with its copy.
    pub pairs: u64,
    /// Bytes that were read.
    pub bytes_read: u64,
    /// Objects that are not what was written; the first thousand.
    pub damages: Vec<Altered>,
    /// How many there are.
    pub damage_count: u64,
    /// Names in these areas that no object has.
    pub strangers: u64,
    /// Objects that went away while they were about to be read: a prune was at work.
    pub gone: u64,
}

impl Outcome {
    /// Objects that were looked at, pairs as one.
    pub fn objects(&self) -> u64 {
        self.packs + self.segments + self.sidecars + self.pairs
    }
}

/// How many objects are best read at once, if nobody says.
pub fn lanes(store: &dyn ObjectStore) -> usize {
    let lanes = match store.is_remote() {
        true => store.requests_at_once(),
        false => std::thread::available_parallelism().map_or(1, std::num::NonZero::get),
    };
    lanes.clamp(1, MOST_LANES)
}

/// Reads every pack and every segment in `store`, on so many lanes, and compares what lies there twice.
pub fn verify_sealed(store: &dyn ObjectStore, lanes: usize, monitor: &dyn Monitor, stop: &Stop) -> Result<Outcome> {
    let check = Check { store, monitor, stop, state: Mutex::default() };
    monitor.event(Event::Phase("comparing keys and their copies"));
    check.pairs()?;
    let segments = check.list::<SegmentId>(Area::Index)?;
    // Before the packs: each sidecar is stored after its pack.
    let sidecars = check.list::<PackId>(Area::Parity)?;
    let packs = check.list::<PackId>(Area::Packs)?;
    if asks_for_parity(store) {
        let protected: BTreeSet<[u8; 32]> = sidecars.iter().map(|(id, _)| *id).collect();
        let bare = packs.iter().filter(|(id, _)| !protected.contains(id)).count();
        check.state().outcome.packs_without_sidecar = bare as u64;
    }
    monitor.event(Event::Phase("reading packs"));
    let bytes = packs.iter().chain(&segments).chain(&sidecars).map(|(_, size_bytes)| size_bytes).sum();
    let items = (packs.len() + segments.len() + sidecars.len()) as u64;
    monitor.event(Event::Total { items, bytes, complete: true });
    side_by_side(lanes, &segments, |(id, size)| check.object(&Key::new(Area::Index, SegmentId(*id)), id, *size));
    side_by_side(lanes, &packs, |(id, size)| check.object(&pack_key(PackId(*id)), id, *size));
    side_by_side(lanes, &sidecars, |(id, size)| check.sidecar(PackId(*id), *size));
    check.finish()
}

/// Whether packs should have sidecars. Nobody proves here what the config says.
fn asks_for_parity(store: &dyn ObjectStore) -> bool {
    ["config", "config.copy"].into_iter().any(|name| {
        let read = store.get(&Key::new(Area::Config, name), config::MAX_BYTES as u64);
        read.is_ok_and(|bytes| config::decode(&bytes).is_ok_and(|stored| parity::share(&stored.config).is_some()))
    })
}

#[derive(Default)]
struct State {
    outcome: Outcome,
    /// What ended the verb.
    failure: Option<Error>,
}

struct Check<'c> {
    store: &'c dyn ObjectStore,
    monitor: &'c dyn Monitor,
    stop: &'c Stop,
    state: Mutex<State>,
}

/// A name that is a hash.
trait Hash: std::str::FromStr {
    fn bytes(self) -> [u8; 32];
}

impl Hash for PackId {
    fn bytes(self) -> [u8; 32] {
        self.0
    }
}

impl Hash for SegmentId {
    fn bytes(self) -> [u8; 32] {
        self.0
    }
}

/// Whether the bytes of an object have its name. `heard` is told how many came each time, and says whether to go on.
pub(super) fn has_its_name(
    store: &dyn ObjectStore,
    key: &Key,
    id: &[u8; 32],
    size_bytes: u64,
    heard: &mut dyn FnMut(u64) -> bool,
) -> Result<bool, store::Error> {
    let mut hasher = PackHasher::new();
    store.stream(key, 0, size_bytes, &mut |bytes| {
        hasher.update(bytes);
        heard(bytes.len() as u64)
    })?;
    Ok(hasher.finish() == *id)
}

/// Whether what kept an object from being read is damage: on a disk of this machine all is that does not pass or come of
/// missing rights.
pub(super) fn is_damage(store: &dyn ObjectStore, kind: Kind) -> bool {
    kind == Kind::Damaged || !store.is_remote() && kind != Kind::Denied
}

/// Whether this is a config, a key slot or an epoch, as far as it shows without a key. One of a newer version may be.
fn makes_sense(first: &Key, bytes: &[u8]) -> std::result::Result<(), format::Error> {
    let read = match first.area() {
        Area::Config => config::decode(bytes).map(drop),
        Area::Keys => Slot::decode(bytes).map(drop),
        _ => envelope::peek(bytes, ObjectKind::Epoch).map(drop),
    };
    read.or_else(|error| if error.kind() == Kind::Damaged { Err(error) } else { Ok(()) })
}

impl Check<'_> {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn list<H: Hash>(&self, area: Area) -> Result<Vec<([u8; 32], u64)>> {
        let mut listed = Vec::new();
        let mut strangers = 0;
        self.store.list(area, &mut |entry| match entry.name.parse::<H>() {
            Ok(id) => listed.push((id.bytes(), entry.size_bytes)),
            Err(_) => strangers += 1,
        })?;
        self.state().outcome.strangers += strangers;
        Ok(listed)
    }

    fn damaged(&self, object: String, message: String) {
        self.monitor.event(Event::Problem(&Problem::new(&object, &message, Kind::Damaged)));
        let outcome = &mut self.state().outcome;
        outcome.damage_count += 1;
        if outcome.damages.len() < MAX_DAMAGES {
            outcome.damages.push(Altered { object, message });
        }
    }

    /// Reads a pack or a segment.
    fn object(&self, key: &Key, id: &[u8; 32], size_bytes: u64) {
        if self.stop.raised() || self.state().failure.is_some() {
            return;
        }
        let mut read = 0;
        let has_name = has_its_name(self.store, key, id, size_bytes, &mut |bytes| {
            read += bytes;
            self.monitor.event(Event::Done { items: 0, bytes });
            !self.stop.raised()
        });
        self.state().outcome.bytes_read += read;
        if self.stop.raised() {
            return;
        }
        match has_name {
            Ok(true) => {}
            Ok(false) => self.damaged(key.to_string(), repo::Error::altered(key).to_string()),
            Err(error) => return self.failed(key, error),
        }
        self.monitor.event(Event::Done { items: 1, bytes: 0 });
        let outcome = &mut self.state().outcome;
        match key.area() {
            Area::Index => outcome.segments += 1,
            _ => outcome.packs += 1,
        }
    }

    /// Reads a parity sidecar.
    fn sidecar(&self, pack: PackId, size_bytes: u64) {
        if self.stop.raised() || self.state().failure.is_some() {
            return;
        }
        let key = parity::sidecar_key(pack);
        let read = Sidecar::read(self.store, pack, size_bytes).and_then(|sidecar| sidecar.check(pack));
        match read {
            Err(error) if error.kind() == Kind::NotFound => {
                self.state().outcome.gone += 1;
                return;
            }
            Err(error) if is_damage(self.store, error.kind()) => {
                self.damaged(key.to_string(), error.to_string());
            }
            Err(error) => {
                self.state().failure.get_or_insert(error.into());
                return;
            }
            Ok(()) => {}
        }
        self.monitor.event(Event::Done { items: 1, bytes: size_bytes });
        let outcome = &mut self.state().outcome;
        outcome.sidecars += 1;
        outcome.bytes_read += size_bytes;
    }

    /// A disk that cannot read one object may still read the others; a store far away that answers nobody does not.
    fn failed(&self, key: &Key, error: store::Error) {
        if error.kind() == Kind::NotFound {
            self.state().outcome.gone += 1;
        } else if is_damage(self.store, error.kind()) {
            self.damaged(key.to_string(), repo::Error::damaged(key, &error).to_string());
            let outcome = &mut self.state().outcome;
            match key.area() {
                Area::Index => outcome.segments += 1,
                _ => outcome.packs += 1,
            }
        } else {
            self.state().failure.get_or_insert(error.into());
        }
    }

    /// Compares config, slots and epochs with their copies.
    fn pairs(&self) -> Result<()> {
        for area in [Area::Config, Area::Keys, Area::Epochs] {
            let mut names = BTreeSet::new();
            self.store.list(area, &mut |entry| {
                names.insert(entry.name);
            })?;
            let plain = |name: &String| twice::plain_name(area, name).map(str::to_owned);
            let firsts: BTreeSet<String> = names.iter().filter_map(plain).collect();
            // Configs of an exchange of the root key lie there once.
            if area != Area::Config {
                self.state().outcome.strangers += names.iter().filter(|name| plain(name).is_none()).count() as u64;
            }
            for first in firsts {
                self.pair(&Key::new(area, &first), &Key::new(area, format!("{first}.copy")))?;
            }
        }
        if self.state().outcome.pairs == 0 {
            return Err(repo::Error::NoRepository(self.store.location()).into());
        }
        Ok(())
    }

    fn pair(&self, first: &Key, copy: &Key) -> Result<()> {
        let mut read = Vec::new();
        for key in [first, copy] {
            match self.store.get(key, TWICE_BYTES) {
                Ok(bytes) => read.push(bytes),
                Err(error) if error.kind() == Kind::NotFound => {
                    self.damaged(key.to_string(), format!("{key} is not there: only the other copy is left"));
                }
                Err(error) if is_damage(self.store, error.kind()) => {
                    self.damaged(key.to_string(), error.to_string());
                }
                Err(error) => return Err(error.into()),
            }
        }
        // No key proves here what they say; that one says nothing at all shows.
        let wrong: Vec<format::Error> = read.iter().filter_map(|bytes| makes_sense(first, bytes).err()).collect();
        match (&read[..], &wrong[..]) {
            ([one, other], [_, reason]) if one == other => {
                self.damaged(first.to_string(), format!("{first} and {copy} are both damaged, alike: {reason}"));
            }
            ([_, _], [reason, other]) => {
                self.damaged(first.to_string(), format!("{first} and {copy} are both damaged: {reason}; {other}"));
            }
            ([one, other], _) if one != other => {
                self.damaged(first.to_string(), format!("{first} and {copy} differ: one of them is damaged"));
            }
            ([_], [reason]) => {
                self.damaged(first.to_string(), format!("what is left of {first} and {copy} is damaged: {reason}"));
            }
            _ => {}
        }
        let outcome = &mut self.state().outcome;
        outcome.pairs += 1;
        outcome.bytes_read += read.iter().map(|bytes| bytes.len() as u64).sum::<u64>();
        Ok(())
    }

    fn finish(self) -> Result<Outcome> {
        let state = self.state.into_inner().unwrap_or_else(PoisonError::into_inner);
        match state.failure {
            _ if self.stop.raised() => Err(Error::Interrupted),
            Some(error) => Err(error),
            None => Ok(state.outcome),
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::base::monitor::Silent;
    use crate::ops::tests::{Depot, noise};
    use crate::store::Memory;
    use std::fs;

    fn depot() -> Depot {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("large"), noise(700_000, 1)).unwrap();
        let depot = Depot::new();
        depot.backup(folder.path());
        depot
    }

    fn check(depot: &Depot) -> Outcome {
        verify_sealed(&*depot.store, 3, &Silent, &Stop::new()).unwrap()
    }

    #[test]
    fn every_flipped_bit_of_packs_segments_and_keys_is_found_without_a_key() {
        let depot = depot();
        let sound = check(&depot);
        assert_eq!((sound.damage_count, sound.pairs, sound.gone), (0, 3, 0), "{sound:?}");
        assert_eq!((sound.packs, sound.segments), (depot.keys(Area::Packs).len() as u64, 1));
        for area in [Area::Packs, Area::Index, Area::Keys, Area::Epochs, Area::Config] {
            for key in depot.keys(area) {
                for place in [0, 29, depot.store.size(&key).unwrap() as usize - 1] {
                    depot.damage(&key, |bytes| bytes[place] ^= 16);
                    let found = check(&depot);
                    assert_eq!((found.damage_count, found.objects()), (1, sound.objects()), "{key} {place}: {found:?}");
                    assert!(found.damages[0].message.contains(key.name().split('.').next().unwrap()), "{found:?}");
                    depot.damage(&key, |bytes| bytes[place] ^= 16);
                }
            }
        }
    }

    #[test]
    fn what_is_cut_off_or_lacks_its_copy_is_found_and_what_has_a_strange_name_is_counted() {
        let depot = depot();
        let pack = depot.keys(Area::Packs).remove(0);
        depot.damage(&pack, |bytes| bytes.truncate(bytes.len() / 2));
        depot.store.delete(&depot.keys(Area::Epochs)[0]).unwrap();
        depot.store.put(&Key::new(Area::Packs, "ab-notes"), b"by hand").unwrap();
        let found = check(&depot);
        assert_eq!((found.damage_count, found.strangers), (2, 1), "{found:?}");
        assert!(found.damages[0].message.contains("only the other copy"), "{found:?}");
    }

    #[test]
    fn what_is_destroyed_alike_in_both_copies_is_found_and_foreign_names_are_no_damage() {
        let depot = depot();
        depot.store.put(&Key::new(Area::Epochs, "readme.txt"), b"by hand").unwrap();
        depot.store.put(&Key::new(Area::Keys, "notes.txt"), b"by a server").unwrap();
        assert_eq!((check(&depot).damage_count, check(&depot).strangers), (0, 2));
        for (number, area) in [Area::Config, Area::Keys, Area::Epochs].into_iter().enumerate() {
            let ours = |key: &Key| twice::plain_name(area, key.name()).is_some();
            for key in depot.keys(area).into_iter().filter(ours) {
                depot.store.replace(&key, &[0; 300]).unwrap();
            }
            let found = check(&depot);
            assert_eq!(found.damage_count, number as u64 + 1, "{found:?}");
            assert!(found.damages.iter().all(|one| one.message.contains("both damaged")), "{found:?}");
        }
    }

    #[test]
    fn an_empty_place_is_no_repository_and_who_asks_to_stop_is_heard() {
        let nothing = verify_sealed(&Memory::new(), 1, &Silent, &Stop::new());
        assert_eq!(nothing.unwrap_err().kind(), Kind::NoRepository);
        let stop = Stop::new();
        stop.raise();
        let stopped = verify_sealed(&*depot().store, 2, &Silent, &stop);
        assert_eq!(stopped.unwrap_err().kind(), Kind::Interrupted);
    }
}
