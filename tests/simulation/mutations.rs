//! Each rule broken, one at a time: then the simulation must find out. What breaks a rule is a store that lies to the
//! clients in just one way; the program itself is the same.

use super::crowd::{Crowd, run_many};
use keepstone::format::envelope::{self, ObjectKind};
use keepstone::store::{Area, Error, Key, Listed, Memory, ObjectStore, Put, Upload};
use std::collections::BTreeSet;
use std::io::{self, Write};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// What the store lies about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Lie {
    /// Whoever prunes sees no other sessions.
    NobodyElseIsThere,
    /// Sessions say that they have seen the records, but the index does not hear of them.
    RecordsAreNotHeeded,
    /// A snapshot takes the place of the tombstone at its name.
    TombstonesDoNotHold,
    /// A record takes the place of another of the same number.
    NumbersDoNotCount,
    /// Whoever sweeps does not see the snapshots that came since he put the record.
    NewSnapshotsAreNotLookedAt,
    /// … nor the segments.
    NewSegmentsAreNotLookedAt,
    /// Everybody else's mark seems to be more than a day old.
    EverybodySeemsDead,
}

struct Liar {
    inner: Memory,
    lie: Lie,
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    /// Names that were put through here.
    own: BTreeSet<String>,
    /// How often the records were listed since a session was marked.
    looks: u32,
    /// A record was put through here.
    condemned: bool,
    /// The sessions were listed last.
    after_sessions: bool,
    /// What was listed last before a record was put.
    listed: BTreeSet<String>,
}

impl Liar {
    fn is_tombstone(&self, key: &Key) -> bool {
        let there = self.inner.get(key, u64::MAX).ok();
        let header = there.and_then(|there| envelope::peek_any(&there, "snapshot").ok());
        header.is_some_and(|header| header.kind == ObjectKind::Tombstone)
    }

    fn shows(&self, area: Area, listed: &Listed) -> bool {
        let state = self.state.lock().unwrap();
        let id = listed.name.split('.').next().unwrap_or_default();
        match (self.lie, area) {
            (Lie::NobodyElseIsThere, Area::Sessions) => state.own.contains(id),
            (Lie::RecordsAreNotHeeded, Area::Condemned) => state.looks == 1 || listed.name.ends_with(".done"),
            (Lie::NewSnapshotsAreNotLookedAt, Area::Snapshots) if !state.after_sessions => {
                !state.condemned || state.listed.contains(&listed.name)
            }
            (Lie::NewSegmentsAreNotLookedAt, Area::Index) => {
                !state.condemned || state.listed.contains(&listed.name) || state.own.contains(id)
            }
            _ => true,
        }
    }
}

impl ObjectStore for Liar {
    fn put(&self, key: &Key, bytes: &[u8]) -> Result<Put, Error> {
        let is_record = key.area() == Area::Condemned && !key.name().contains('.');
        let overwrites = match self.lie {
            Lie::TombstonesDoNotHold => key.area() == Area::Snapshots && self.is_tombstone(key),
            Lie::NumbersDoNotCount => is_record,
            _ => false,
        };
        if overwrites {
            self.inner.delete(key)?;
        }
        let put = self.inner.put(key, bytes)?;
        let mut state = self.state.lock().unwrap();
        state.own.insert(key.name().to_owned());
        state.condemned |= is_record;
        if key.area() == Area::Sessions && !key.name().contains('.') {
            state.looks = 0;
        }
        Ok(put)
    }

    fn list(&self, area: Area, each: &mut dyn FnMut(Listed)) -> Result<(), Error> {
        if area == Area::Condemned {
            self.state.lock().unwrap().looks += 1;
        }
        let mut found = Vec::new();
        self.inner.list(area, &mut |listed| found.push(listed))?;
        found.retain(|listed| self.shows(area, listed));
        {
            let mut state = self.state.lock().unwrap();
            let what = match self.lie {
                Lie::NewSnapshotsAreNotLookedAt => Area::Snapshots,
                _ => Area::Index,
            };
            if area == what && !state.condemned {
                state.listed = found.iter().map(|listed| listed.name.clone()).collect();
            }
            state.after_sessions = area == Area::Sessions;
            if self.lie == Lie::EverybodySeemsDead && area == Area::Sessions {
                for listed in found.iter_mut().filter(|listed| !state.own.contains(&listed.name)) {
                    listed.stored_at -= Duration::from_secs(25 * 3600);
                }
            }
        }
        found.into_iter().for_each(each);
        Ok(())
    }

    fn begin(&self) -> Result<Box<dyn Upload>, Error> {
        Ok(Box::new(LiarUpload { inner: self.inner.begin()?, state: self.state.clone() }))
    }
    fn replace(&self, key: &Key, bytes: &[u8]) -> Result<(), Error> {
        self.inner.replace(key, bytes)
    }
    fn get(&self, key: &Key, limit_bytes: u64) -> Result<Vec<u8>, Error> {
        self.inner.get(key, limit_bytes)
    }
    fn get_range(&self, key: &Key, offset: u64, length: usize) -> Result<Vec<u8>, Error> {
        self.inner.get_range(key, offset, length)
    }
    fn size(&self, key: &Key) -> Result<u64, Error> {
        self.inner.size(key)
    }
    fn delete(&self, key: &Key) -> Result<(), Error> {
        self.inner.delete(key)
    }
    fn location(&self) -> String {
        "liar".to_owned()
    }
    fn free_bytes(&self) -> Option<u64> {
        None
    }
}

struct LiarUpload {
    inner: Box<dyn Upload>,
    state: Arc<Mutex<State>>,
}

impl Write for LiarUpload {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.inner.write(bytes)
    }
    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

impl Upload for LiarUpload {
    fn finish(self: Box<Self>, key: &Key) -> Result<Put, Error> {
        self.state.lock().unwrap().own.insert(key.name().to_owned());
        self.inner.finish(key)
    }
}

fn crowd_with(lie: Lie, hurts: bool, schedules: u64) -> Vec<(u64, String)> {
    let view =
        move |_: usize, inner: Memory| -> Arc<dyn ObjectStore> { Arc::new(Liar { inner, lie, state: Arc::default() }) };
    run_many(1..schedules + 1, &Crowd { clients: 4, actions: 4, view: &view, hurts }, 1)
}

/// Within so many schedules each broken rule must show.
const SCHEDULES: u64 = 1500;

#[track_caller]
fn is_found(lie: Lie) {
    let found = crowd_with(lie, true, SCHEDULES);
    let (seed, what) = found.first().unwrap_or_else(|| panic!("{lie:?}: {SCHEDULES} schedules, and nothing was wrong"));
    println!("{lie:?}: seed {seed}: {}", what.lines().next().unwrap_or_default());
}

#[test]
fn a_prune_that_does_not_look_for_sessions_is_found_out() {
    is_found(Lie::NobodyElseIsThere);
}

#[test]
#[ignore = "a measurement: in how many schedules this shows, which can take minutes"]
fn a_writer_that_relies_on_what_it_says_it_has_seen_condemned_is_found_out() {
    is_found(Lie::RecordsAreNotHeeded);
}

#[test]
#[ignore = "a measurement: in how many schedules this shows, which can take minutes"]
fn a_fenced_writer_that_commits_all_the_same_is_found_out() {
    is_found(Lie::TombstonesDoNotHold);
}

#[test]
#[ignore = "a measurement: in how many schedules this shows, which can take minutes"]
fn two_records_of_one_number_are_found_out() {
    is_found(Lie::NumbersDoNotCount);
}

#[test]
fn a_sweep_that_does_not_look_at_new_snapshots_is_found_out() {
    is_found(Lie::NewSnapshotsAreNotLookedAt);
}

#[test]
#[ignore = "a measurement: in how many schedules this shows, which can take minutes"]
fn a_sweep_that_does_not_look_at_new_segments_is_found_out() {
    is_found(Lie::NewSegmentsAreNotLookedAt);
}

#[test]
fn fencing_the_living_costs_nobody_his_data() {
    let found = crowd_with(Lie::EverybodySeemsDead, false, 20);
    let lost = found.iter().find(|(_, what)| what.lines().next().is_some_and(|first| !first.contains("was fenced")));
    assert!(lost.is_none(), "{:?}", lost.map(|(seed, what)| (seed, what.lines().take(30).collect::<Vec<_>>())));
}
