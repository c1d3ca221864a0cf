//! The ledger of verification: when each pack was last read, and what is known of each snapshot.
//!
//! Whoever reads back what is stored leaves an object with what it has proven beside the record of its run. It says only
//! what is new; one in so many says all that those before it said and covers them, so that a reader opens a few however
//! many nights there were. What is covered stays until somebody prunes: nobody needs a right to delete. Two that are
//! stored at once each say what the other does not, and both are read.
//!
//! A ledger is as good as the clock of who wrote it. What claims to have been read after the store received it, or in the
//! future, is not believed: the packs count as not read, and the reader is told.

use super::Repository;
use super::ahead::Ahead;
use super::error::{Error, Result};
use crate::base::{Kind, PackId, RunId, SnapshotId};
use crate::format::cbor::{Bytes, Cbor, Unknown};
use crate::format::envelope::ObjectKind;
use crate::format::ledger::{Finding, Ledger, MAX_COVERED, PackPrefix, PacksRead, SnapshotsFound, prefix};
use crate::store::{self, Area, Key, ObjectStore};
use std::collections::{BTreeMap, BTreeSet};
use std::num::NonZeroU32;

/// What the name of a ledger ends with.
pub const ENDING: &str = ".ledger";
/// With so many that are not covered, the next one says all that they say.
const MERGE_AT: usize = 16;
/// How far the clocks of a writer and of the store may differ.
const SKEW_NS: i64 = 3600 * 1_000_000_000;
/// The most packs and snapshots that are kept in memory and in one ledger.
const MAX_PACKS: usize = 1_000_000;
const MAX_SNAPSHOTS: usize = 200_000;

/// When something was last found whole, and when damaged, nanoseconds since 1970.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Times {
    whole_ns: Option<i64>,
    hurt_ns: Option<i64>,
    drilled_ns: Option<i64>,
}

/// When a pack was last found whole, and when damaged: numbers of moments. There may be a million packs and hardly ever
/// more moments than runs, so that a pack costs its prefix and these.
#[derive(Clone, Copy, Debug, Default)]
struct PackTimes {
    whole: Option<NonZeroU32>,
    hurt: Option<NonZeroU32>,
}

/// Times, each with a number.
#[derive(Clone, Debug, Default)]
struct Moments {
    times_ns: Vec<i64>,
    numbers: BTreeMap<i64, NonZeroU32>,
}

impl Moments {
    fn number(&mut self, at_ns: i64) -> NonZeroU32 {
        let next = u32::try_from(self.times_ns.len() + 1).ok().and_then(NonZeroU32::new);
        *self.numbers.entry(at_ns).or_insert_with(|| {
            self.times_ns.push(at_ns);
            next.expect("there are at most two moments for each of a million packs")
        })
    }

    fn at(&self, number: Option<NonZeroU32>) -> Option<i64> {
        number.map(|number| self.times_ns[number.get() as usize - 1])
    }
}

/// What is known of a snapshot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// It was never read whole.
    Unverified,
    /// All that it needs was read and is whole; when the first of that was read, nanoseconds since 1970.
    Verified(i64),
    /// Something that it needs was found damaged then, and it was not found whole since.
    Damaged(i64),
    /// It came back in a drill then, which is later than it was read last.
    Drilled(i64),
}

impl State {
    /// The word for it.
    pub fn name(self) -> &'static str {
        match self {
            State::Unverified => "unverified",
            State::Verified(_) => "verified",
            State::Damaged(_) => "damaged",
            State::Drilled(_) => "drilled",
        }
    }

    /// Since when.
    pub fn at_ns(self) -> Option<i64> {
        match self {
            State::Unverified => None,
            State::Verified(at_ns) | State::Damaged(at_ns) | State::Drilled(at_ns) => Some(at_ns),
        }
    }
}

/// All that is known.
#[derive(Clone, Debug, Default)]
pub struct Known {
    packs: BTreeMap<PackPrefix, PackTimes>,
    moments: Moments,
    snapshots: BTreeMap<SnapshotId, Times>,
    /// Ledgers that were opened, and those that they cover.
    told: BTreeSet<RunId>,
    opened: usize,
    /// Something was later than this machine's clock, though the store had received it by then: who knows whose clock is
    /// wrong.
    is_clock_in_doubt: bool,
    /// What is not believed, and what cannot be read.
    pub doubts: Vec<String>,
}

/// What a run has found out.
#[derive(Clone, Debug, Default)]
pub struct News {
    /// Packs that were read to their last byte and have their names.
    pub packs: Vec<PackId>,
    /// Packs that do not.
    pub damaged: Vec<PackId>,
    /// Snapshots of which all was read, with the time when the first of it was.
    pub whole: Vec<(SnapshotId, i64)>,
    /// Snapshots that need what is damaged.
    pub hurt: Vec<SnapshotId>,
    /// Snapshots that came back in a drill.
    pub drilled: Vec<SnapshotId>,
}

impl News {
    /// Whether there is nothing to say.
    pub fn is_empty(&self) -> bool {
        self.packs.is_empty()
            && self.damaged.is_empty()
            && self.whole.is_empty()
            && self.hurt.is_empty()
            && self.drilled.is_empty()
    }
}

impl Known {
    /// When a pack was last read to its last byte and was whole, nanoseconds since 1970.
    pub fn read_ns(&self, pack: &PackId) -> Option<i64> {
        let times = self.packs.get(&prefix(pack))?;
        let hurt_ns = self.moments.at(times.hurt);
        self.moments.at(times.whole).filter(|whole_ns| hurt_ns.is_none_or(|hurt_ns| hurt_ns < *whole_ns))
    }

    /// Whether a pack was read and did not have its name, and has not been read whole since.
    pub fn is_damaged(&self, pack: &PackId) -> bool {
        self.packs.get(&prefix(pack)).is_some_and(|times| times.hurt.is_some()) && self.read_ns(pack).is_none()
    }

    /// Takes in that packs were read now.
    pub fn read_now(&mut self, news: &News, now_ns: i64) {
        for (packs, damaged) in [(&news.packs, false), (&news.damaged, true)] {
            for pack in packs {
                self.note(prefix(pack), now_ns, damaged);
            }
        }
    }

    /// Takes in that a pack was read.
    fn note(&mut self, pack: PackPrefix, at_ns: i64, damaged: bool) {
        let number = self.moments.number(at_ns);
        let times = self.packs.entry(pack).or_default();
        let time = if damaged { &mut times.hurt } else { &mut times.whole };
        if self.moments.at(*time).is_none_or(|known_ns| known_ns < at_ns) {
            *time = Some(number);
        }
    }

    /// What is known of a snapshot.
    pub fn state(&self, snapshot: &SnapshotId) -> State {
        let times = self.snapshots.get(snapshot).copied().unwrap_or_default();
        match times {
            Times { hurt_ns: Some(hurt_ns), whole_ns, .. } if whole_ns.is_none_or(|whole_ns| whole_ns <= hurt_ns) => {
                State::Damaged(hurt_ns)
            }
            Times { drilled_ns: Some(drilled_ns), whole_ns, .. } if whole_ns.is_none_or(|at_ns| at_ns < drilled_ns) => {
                State::Drilled(drilled_ns)
            }
            Times { whole_ns: Some(whole_ns), .. } => State::Verified(whole_ns),
            _ => State::Unverified,
        }
    }

    /// When all that a snapshot needs had been read and was whole; none if never, or if it is damaged.
    pub fn whole_ns(&self, snapshot: &SnapshotId) -> Option<i64> {
        let times = self.snapshots.get(snapshot)?;
        times.whole_ns.filter(|whole_ns| times.hurt_ns.is_none_or(|hurt_ns| hurt_ns < *whole_ns))
    }

    /// When a snapshot last came back in a drill.
    pub fn drilled_ns(&self, snapshot: &SnapshotId) -> Option<i64> {
        self.snapshots.get(snapshot)?.drilled_ns
    }

    /// Takes in what a ledger says and is not later than `latest_ns`; gives how many of its times are.
    fn take(&mut self, ledger: &Ledger, latest_ns: i64) -> usize {
        let mut late = 0;
        for group in &ledger.packs {
            if group.at_ns > latest_ns {
                late += group.prefixes().count();
                continue;
            }
            for pack in group.prefixes() {
                if self.packs.len() < MAX_PACKS || self.packs.contains_key(&pack) {
                    self.note(pack, group.at_ns, group.damaged);
                }
            }
        }
        for group in &ledger.snapshots {
            if group.at_ns > latest_ns {
                late += group.snapshots.len();
                continue;
            }
            for snapshot in &group.snapshots {
                if self.snapshots.len() < MAX_SNAPSHOTS || self.snapshots.contains_key(snapshot) {
                    let times = self.snapshots.entry(*snapshot).or_default();
                    let time = match group.finding {
                        Finding::Whole => &mut times.whole_ns,
                        Finding::Hurt => &mut times.hurt_ns,
                        Finding::Drilled => &mut times.drilled_ns,
                    };
                    *time = (*time).max(Some(group.at_ns));
                }
            }
        }
        late
    }

    /// All of it as a ledger, without packs and snapshots that are gone.
    fn groups(
        &self,
        is_there: &dyn Fn(&PackPrefix) -> bool,
        snapshots: &BTreeSet<SnapshotId>,
    ) -> (Vec<PacksRead>, Vec<SnapshotsFound>) {
        let mut packs: BTreeMap<(i64, bool), Vec<u8>> = BTreeMap::new();
        for (pack, times) in self.packs.iter().filter(|(pack, _)| is_there(pack)) {
            for (number, damaged) in [(times.whole, false), (times.hurt, true)] {
                if let Some(at_ns) = self.moments.at(number) {
                    packs.entry((at_ns, damaged)).or_default().extend_from_slice(pack);
                }
            }
        }
        let mut found: BTreeMap<(i64, Finding), Vec<SnapshotId>> = BTreeMap::new();
        for (id, times) in self.snapshots.iter().filter(|(id, _)| snapshots.contains(*id)) {
            for (at_ns, finding) in
                [(times.whole_ns, Finding::Whole), (times.hurt_ns, Finding::Hurt), (times.drilled_ns, Finding::Drilled)]
            {
                if let Some(at_ns) = at_ns {
                    found.entry((at_ns, finding)).or_default().push(*id);
                }
            }
        }
        (
            packs.into_iter().map(|((at_ns, damaged), packs)| packs_read(at_ns, packs, damaged)).collect(),
            found.into_iter().map(|((at_ns, finding), ids)| snapshots_found(at_ns, finding, ids)).collect(),
        )
    }
}

fn packs_read(at_ns: i64, packs: Vec<u8>, damaged: bool) -> PacksRead {
    PacksRead { at_ns, packs: Bytes(packs), damaged, unknown: Unknown::none() }
}

fn snapshots_found(at_ns: i64, finding: Finding, snapshots: Vec<SnapshotId>) -> SnapshotsFound {
    SnapshotsFound { at_ns, finding, snapshots, unknown: Unknown::none() }
}

/// The key of a run's ledger.
pub fn ledger_key(run: RunId) -> Key {
    Key::new(Area::Runs, format!("{run}{ENDING}"))
}

/// Opens the ledger that lay under `key`.
pub fn open(repository: &Repository, key: &Key, object: Vec<u8>) -> Result<Ledger> {
    let ledger: Ledger = repository.keyring().load(ObjectKind::Ledger, object, key)?;
    match ledger_key(ledger.run) == *key {
        true => Ok(ledger),
        false => Err(Error::damaged(key, "it is the ledger of another run")),
    }
}

/// Reads what is known.
pub fn load(repository: &Repository) -> Result<Known> {
    let (store, limit_bytes) = (&**repository.store(), ObjectKind::Ledger.max_bytes() as u64);
    let mut listed = Vec::new();
    store.list(Area::Runs, &mut |entry| {
        if let Some(run) = entry.name.strip_suffix(ENDING).and_then(|run| run.parse::<RunId>().ok()) {
            let stored_ns = i64::try_from(entry.stored_at.as_nanosecond()).unwrap_or(i64::MAX);
            listed.push((std::cmp::Reverse(stored_ns), run));
        }
    })?;
    // What covers others is stored after them.
    listed.sort_unstable();
    let ahead = Ahead::new(store);
    let first: Vec<_> = listed.iter().take(MERGE_AT + 1).map(|(_, run)| (ledger_key(*run), limit_bytes)).collect();
    ahead.ask(&first, &[]);
    let mut known = Known::default();
    let mut covered: BTreeSet<RunId> = BTreeSet::new();
    let now_ns = repository.now_ns();
    for (std::cmp::Reverse(stored_ns), run) in listed {
        if covered.contains(&run) {
            continue;
        }
        let key = ledger_key(run);
        let object = ahead.get(&key, limit_bytes).map_err(Error::from);
        match object.and_then(|object| open(repository, &key, object)) {
            Ok(ledger) => {
                let late = known.take(&ledger, now_ns.min(stored_ns).saturating_add(SKEW_NS));
                known.is_clock_in_doubt |= stored_ns > now_ns.saturating_add(SKEW_NS);
                if late > 0 {
                    known.doubts.push(format!(
                        "{key} claims for {late} packs or snapshots to have read them at a time that has not come or was \
                         after it was stored: that is not believed, they count as not read. Look at the clock of the \
                         machine that wrote it, and at this one's"
                    ));
                }
                covered.extend(&ledger.covers);
                known.told.insert(run);
                known.opened += 1;
            }
            // Covered and cleared since it was listed.
            Err(error) if error.kind() == Kind::NotFound => {}
            Err(error) if matches!(error.kind(), Kind::Damaged | Kind::Unsupported) => {
                known.doubts.push(format!("{error}: what it says was read counts as not read"));
            }
            Err(error) => return Err(error),
        }
    }
    known.told.extend(covered);
    Ok(known)
}

/// Stores what `run` has found out, at `at_ns`. Where many ledgers had to be read, it says all that is known of packs
/// that are in the index and of these snapshots, and covers the others. Gives the hash that the run's record names it by.
pub fn save(
    repository: &Repository,
    run: RunId,
    at_ns: i64,
    news: &News,
    known: &mut Known,
    is_there: &dyn Fn(&PackPrefix) -> bool,
    snapshots: &BTreeSet<SnapshotId>,
) -> Result<[u8; 32]> {
    let mut own =
        Ledger { run, at_ns, covers: Vec::new(), packs: Vec::new(), snapshots: Vec::new(), unknown: Unknown::none() };
    for (packs, damaged) in [(&news.packs, false), (&news.damaged, true)] {
        let prefixes: BTreeSet<PackPrefix> = packs.iter().map(prefix).collect();
        if !prefixes.is_empty() {
            own.packs.push(packs_read(at_ns, prefixes.into_iter().flatten().collect(), damaged));
        }
    }
    let mut whole: BTreeMap<i64, Vec<SnapshotId>> = BTreeMap::new();
    news.whole.iter().for_each(|(id, whole_ns)| whole.entry(*whole_ns).or_default().push(*id));
    own.snapshots.extend(whole.into_iter().map(|(at_ns, ids)| snapshots_found(at_ns, Finding::Whole, ids)));
    for (ids, finding) in [(&news.hurt, Finding::Hurt), (&news.drilled, Finding::Drilled)] {
        if !ids.is_empty() {
            own.snapshots.push(snapshots_found(at_ns, finding, ids.clone()));
        }
    }
    known.take(&own, i64::MAX);
    if known.opened >= MERGE_AT && !known.is_clock_in_doubt && known.told.len() <= MAX_COVERED {
        own.covers = known.told.iter().copied().collect();
        (own.packs, own.snapshots) = known.groups(is_there, snapshots);
    }
    let content = own.to_cbor();
    let sealed = repository.keyring().seal(ObjectKind::Ledger, &content)?;
    repository.store().put(&ledger_key(run), &sealed)?;
    known.told.insert(run);
    Ok(crate::crypto::names::hash(&content))
}

/// Takes ledgers away that others cover: prune's work, since nobody else may delete. Gives how many went.
pub fn clear_covered(repository: &Repository) -> Result<u64> {
    let (store, limit_bytes) = (&**repository.store(), ObjectKind::Ledger.max_bytes() as u64);
    let mut listed = BTreeSet::new();
    store.list(Area::Runs, &mut |entry| {
        listed.extend(entry.name.strip_suffix(ENDING).and_then(|run| run.parse::<RunId>().ok()));
    })?;
    if listed.len() < MERGE_AT {
        return Ok(0);
    }
    let mut covered: BTreeSet<RunId> = BTreeSet::new();
    for run in &listed {
        if covered.contains(run) {
            continue;
        }
        let key = ledger_key(*run);
        let opened =
            store.get(&key, limit_bytes).map_err(Error::from).and_then(|object| open(repository, &key, object));
        match opened {
            // One that was read and understood here: what it covers is said by something that is there.
            Ok(ledger) => covered.extend(ledger.covers.into_iter().filter(|other| *other != *run)),
            Err(error) if matches!(error.kind(), Kind::NotFound | Kind::Damaged | Kind::Unsupported) => {}
            Err(error) => return Err(error),
        }
    }
    let going: Vec<RunId> = covered.into_iter().filter(|run| listed.contains(run)).collect();
    let keys: Vec<Key> = going.iter().map(|run| ledger_key(*run)).collect();
    let locks = store::delete_unlocked(store, &keys)?;
    Ok(locks.into_iter().filter(Option::is_none).count() as u64)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::base::{Clock, Secret, SessionId, Timestamp, random};
    use crate::chunk::Sizes;
    use crate::crypto::slots::{GuardKind, Unlock};
    use crate::store::Memory;
    use std::sync::Arc;
    use std::time::Duration;

    const NIGHT: Duration = Duration::from_secs(86_400);

    struct Nights {
        repository: Repository,
        clock: Clock,
    }

    impl Nights {
        fn new() -> Nights {
            let clock = Clock::manual(Timestamp::from_second(1_700_000_000).unwrap());
            let sizes = Sizes::new(4 << 10, 16 << 10, 64 << 10).unwrap();
            let unlock = Unlock::KeyFile(Secret::new(b"a key file of at least sixteen bytes".to_vec()));
            let store = Arc::new(Memory::with_clock(clock.clone()));
            let repository =
                Repository::create(store, sizes, &unlock, GuardKind::KeyFile, "test", clock.clone()).unwrap();
            Nights { repository, clock }
        }

        /// Stores `news` at `at_ns`, as somebody whose clock may say anything.
        fn note_at(&self, at_ns: i64, news: &News) {
            let mut known = load(&self.repository).unwrap();
            let snapshots: BTreeSet<SnapshotId> = (0..200).map(|n| SessionId([n; 16])).collect();
            let run = RunId(random::bytes());
            save(&self.repository, run, at_ns, news, &mut known, &|_| true, &snapshots).unwrap();
        }

        fn note(&self, news: &News) {
            self.clock.advance(NIGHT);
            self.note_at(self.repository.now_ns(), news);
        }

        fn objects(&self) -> usize {
            let mut count = 0;
            self.repository.store().list(Area::Runs, &mut |_| count += 1).unwrap();
            count
        }
    }

    fn pack(number: u32) -> PackId {
        let mut id = [0; 32];
        id[..4].copy_from_slice(&number.to_be_bytes());
        PackId(id)
    }

    fn read(packs: impl IntoIterator<Item = u32>) -> News {
        News { packs: packs.into_iter().map(pack).collect(), ..News::default() }
    }

    #[test]
    fn years_of_nights_are_read_from_a_few_objects_and_say_what_each_night_said() {
        let nights = Nights::new();
        let (mut last, mut cleared) = (BTreeMap::new(), 0);
        for night in 0..400u32 {
            let packs: Vec<u32> = (0..30).map(|n| (night * 30 + n) % 900).collect();
            nights.note(&read(packs.clone()));
            last.extend(packs.iter().map(|number| (*number, nights.repository.now_ns())));
            let known = load(&nights.repository).unwrap();
            assert!(known.opened <= MERGE_AT, "{} opened in night {night}", known.opened);
            assert!(last.iter().all(|(number, at_ns)| known.read_ns(&pack(*number)) == Some(*at_ns)), "{night}");
            if night % 100 == 99 {
                cleared += clear_covered(&nights.repository).unwrap();
                let again = load(&nights.repository).unwrap();
                assert!(last.iter().all(|(number, at_ns)| again.read_ns(&pack(*number)) == Some(*at_ns)));
            }
        }
        assert!(cleared > 350 && nights.objects() <= MERGE_AT, "{cleared} cleared, {} left", nights.objects());
    }

    #[test]
    fn two_who_merge_at_once_lose_nothing() {
        let nights = Nights::new();
        (0..16).for_each(|number| nights.note(&read([number])));
        let (mut one, mut other) = (load(&nights.repository).unwrap(), load(&nights.repository).unwrap());
        for (known, number) in [(&mut one, 100), (&mut other, 101)] {
            let (run, now_ns) = (RunId(random::bytes()), nights.repository.now_ns());
            save(&nights.repository, run, now_ns, &read([number]), known, &|_| true, &BTreeSet::new()).unwrap();
        }
        clear_covered(&nights.repository).unwrap();
        let known = load(&nights.repository).unwrap();
        assert_eq!((nights.objects(), known.opened), (2, 2));
        assert!((0..16).chain([100, 101]).all(|number| known.read_ns(&pack(number)).is_some()));
    }

    #[test]
    fn a_time_that_has_not_come_is_not_believed_and_takes_nothing_away() {
        let nights = Nights::new();
        nights.note(&read([1, 2]));
        let read_ns = load(&nights.repository).unwrap().read_ns(&pack(1));
        let future = nights.repository.now_ns() + 30 * 86_400 * 1_000_000_000;
        let found =
            News { packs: vec![pack(2), pack(3)], whole: vec![(SessionId([5; 16]), future)], ..News::default() };
        nights.note_at(future, &found);
        let known = load(&nights.repository).unwrap();
        assert_eq!(known.read_ns(&pack(1)), read_ns);
        assert_eq!((known.read_ns(&pack(2)), known.read_ns(&pack(3))), (read_ns, None));
        assert_eq!(known.state(&SessionId([5; 16])), State::Unverified);
        assert!(known.doubts.len() == 1 && known.doubts[0].contains("has not come"), "{:?}", known.doubts);
        // Not even when that time has come: the store knows when it received it.
        (0..40).for_each(|_| nights.clock.advance(NIGHT));
        assert_eq!(load(&nights.repository).unwrap().read_ns(&pack(3)), None);
        // With the next that covers it the doubt is over.
        (10..30).for_each(|number| nights.note(&read([number])));
        clear_covered(&nights.repository).unwrap();
        let known = load(&nights.repository).unwrap();
        assert!(known.doubts.is_empty() && known.read_ns(&pack(1)) == read_ns, "{:?}", known.doubts);
    }

    #[test]
    fn a_machine_whose_clock_is_behind_believes_little_and_covers_nothing() {
        let nights = Nights::new();
        (0..20).for_each(|number| nights.note(&read([number])));
        let late = nights.repository.now_ns();
        let behind = Clock::manual(Timestamp::from_second(1_600_000_000).unwrap());
        let unlock = Unlock::KeyFile(Secret::new(b"a key file of at least sixteen bytes".to_vec()));
        let sealed = crate::repo::SealedRepository::open(nights.repository.store().clone()).unwrap();
        let elsewhere = Nights { repository: sealed.unlock(&unlock, behind.clone()).unwrap(), clock: behind };
        let known = load(&elsewhere.repository).unwrap();
        assert!(!known.doubts.is_empty() && known.read_ns(&pack(3)).is_none());
        elsewhere.note(&read([50]));
        let known = load(&nights.repository).unwrap();
        assert!((0..20).all(|number| known.read_ns(&pack(number)).is_some_and(|read_ns| read_ns <= late)));
    }

    #[test]
    fn damage_lasts_until_all_is_read_again_and_a_drill_does_not_end_it() {
        let nights = Nights::new();
        let id = SessionId([7; 16]);
        let state = || load(&nights.repository).unwrap().state(&id);
        let whole = || nights.note(&News { whole: vec![(id, nights.repository.now_ns() + 1)], ..News::default() });
        assert_eq!(state(), State::Unverified);
        nights.note(&News { drilled: vec![id], ..News::default() });
        assert!(matches!(state(), State::Drilled(_)));
        whole();
        assert!(matches!(state(), State::Verified(_)), "it was read later than it was drilled");
        nights.note(&News { hurt: vec![id], damaged: vec![pack(1)], ..News::default() });
        assert!(matches!(state(), State::Damaged(_)));
        nights.note(&News { drilled: vec![id], ..News::default() });
        assert!(matches!(state(), State::Damaged(_)));
        nights.clock.advance(NIGHT);
        whole();
        nights.clock.advance(NIGHT);
        assert!(!matches!(state(), State::Damaged(_)), "{:?}", state());
        assert_eq!(load(&nights.repository).unwrap().read_ns(&pack(1)), None);
    }

    #[test]
    fn a_damaged_ledger_takes_away_what_it_says_and_no_more() {
        let nights = Nights::new();
        nights.note(&read([1]));
        nights.note(&read([2]));
        let mut keys = Vec::new();
        nights.repository.store().list(Area::Runs, &mut |entry| keys.push(Key::new(Area::Runs, entry.name))).unwrap();
        let mut bytes = nights.repository.store().get(&keys[0], u64::MAX).unwrap();
        bytes[50] ^= 1;
        nights.repository.store().replace(&keys[0], &bytes).unwrap();
        let known = load(&nights.repository).unwrap();
        let left = [1, 2].into_iter().filter(|number| known.read_ns(&pack(*number)).is_some()).count();
        assert_eq!((left, known.doubts.len()), (1, 1), "{:?}", known.doubts);
    }
}
