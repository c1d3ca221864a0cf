//! A store far away, in whose time only round trips pass.
//!
//! A request is answered when every thread of the process waits: then nobody can ask anything more before an answer
//! comes, so what waits is one round, and all of it is answered. How many rounds an operation takes is the number of
//! round trips that it waits for one after the other, whatever the speed or the load of the machine. Threads of other
//! tests would count as well, so rounds are counted in a process that runs nothing else.

use keepstone::store::{Area, Error, Key, Listed, ObjectStore, Put, Upload};
use std::collections::BTreeMap;
use std::io::{self, Write};
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

/// What a remote store takes at once.
const PUTS_AT_ONCE: usize = 4;
/// How long the one who turns the rounds rests between two looks at the others.
const LOOK_AGAIN: Duration = Duration::from_micros(200);

/// A store behind a network. Clones share their rounds.
#[derive(Clone)]
pub struct Far {
    inner: Arc<dyn ObjectStore>,
    rounds: Option<Arc<Rounds>>,
}

impl Far {
    /// A store that says it is remote, and answers at once.
    pub fn near(inner: impl ObjectStore + 'static) -> Far {
        Far { inner: Arc::new(inner), rounds: None }
    }

    /// A store whose answers take a round each.
    pub fn away(inner: impl ObjectStore + 'static, rounds: &Arc<Rounds>) -> Far {
        Far { inner: Arc::new(inner), rounds: Some(rounds.clone()) }
    }

    fn travel(&self) {
        if let Some(rounds) = &self.rounds {
            rounds.wait();
        }
    }
}

/// Counts rounds.
#[derive(Default)]
pub struct Rounds {
    state: Mutex<State>,
    turned: Condvar,
}

#[derive(Default)]
struct State {
    waiting: usize,
    round: u64,
    requests: u64,
}

impl Rounds {
    /// Begins to count; a thread of its own turns the rounds.
    pub fn begin() -> Arc<Rounds> {
        let rounds = Arc::new(Rounds::default());
        let turner = rounds.clone();
        std::thread::spawn(move || turner.turn());
        rounds
    }

    /// Rounds and requests so far.
    pub fn so_far(&self) -> (u64, u64) {
        let state = self.state.lock().unwrap();
        (state.round, state.requests)
    }

    fn wait(&self) {
        let mut state = self.state.lock().unwrap();
        state.waiting += 1;
        state.requests += 1;
        let round = state.round;
        while state.round == round {
            state = self.turned.wait(state).unwrap();
        }
    }

    fn turn(&self) {
        let own = own_thread();
        loop {
            std::thread::park_timeout(LOOK_AGAIN);
            if self.state.lock().unwrap().waiting == 0 || !all_others_wait(&own) {
                continue;
            }
            let mut state = self.state.lock().unwrap();
            state.waiting = 0;
            state.round += 1;
            self.turned.notify_all();
        }
    }
}

fn own_thread() -> String {
    let link = std::fs::read_link("/proc/thread-self").unwrap();
    link.file_name().unwrap().to_string_lossy().into_owned()
}

/// Whether all other threads wait, and did all through two looks: nobody ran in between.
fn all_others_wait(own: &str) -> bool {
    match (look(own), look(own)) {
        (Some(before), Some(after)) => before == after,
        _ => false,
    }
}

/// How long each other thread has run; none if one of them runs.
fn look(own: &str) -> Option<BTreeMap<String, String>> {
    let mut ran = BTreeMap::new();
    for entry in std::fs::read_dir("/proc/self/task").ok()? {
        let entry = entry.ok()?;
        let name = entry.file_name().to_string_lossy().into_owned();
        if name == own {
            continue;
        }
        let stat = std::fs::read_to_string(entry.path().join("stat")).ok()?;
        // The name in parentheses may hold anything.
        let state = stat.rsplit_once(')')?.1.trim_start().chars().next()?;
        if state != 'S' {
            return None;
        }
        ran.insert(name, std::fs::read_to_string(entry.path().join("schedstat")).ok()?);
    }
    Some(ran)
}

impl ObjectStore for Far {
    fn put(&self, key: &Key, bytes: &[u8]) -> Result<Put, Error> {
        self.travel();
        self.inner.put(key, bytes)
    }

    fn begin(&self) -> Result<Box<dyn Upload>, Error> {
        Ok(Box::new(FarUpload { far: self.clone(), inner: self.inner.begin()? }))
    }

    fn replace(&self, key: &Key, bytes: &[u8]) -> Result<(), Error> {
        self.travel();
        self.inner.replace(key, bytes)
    }

    fn get(&self, key: &Key, limit_bytes: u64) -> Result<Vec<u8>, Error> {
        self.travel();
        self.inner.get(key, limit_bytes)
    }

    fn get_range(&self, key: &Key, offset: u64, length: usize) -> Result<Vec<u8>, Error> {
        self.travel();
        self.inner.get_range(key, offset, length)
    }

    fn stream(&self, key: &Key, offset: u64, length: u64, each: &mut dyn FnMut(&[u8]) -> bool) -> Result<(), Error> {
        self.travel();
        self.inner.stream(key, offset, length, each)
    }

    fn size(&self, key: &Key) -> Result<u64, Error> {
        self.travel();
        self.inner.size(key)
    }

    fn list(&self, area: Area, each: &mut dyn FnMut(Listed)) -> Result<(), Error> {
        self.travel();
        self.inner.list(area, each)
    }

    fn list_together(&self, areas: &[Area], each: &mut dyn FnMut(Area, Listed)) -> Result<(), Error> {
        self.travel();
        self.inner.list_together(areas, each)
    }

    fn delete(&self, key: &Key) -> Result<(), Error> {
        self.travel();
        self.inner.delete(key)
    }

    fn location(&self) -> String {
        self.inner.location()
    }

    fn free_bytes(&self) -> Option<u64> {
        None
    }

    fn is_remote(&self) -> bool {
        true
    }

    fn puts_at_once(&self) -> usize {
        PUTS_AT_ONCE
    }
}

struct FarUpload {
    far: Far,
    inner: Box<dyn Upload>,
}

impl Write for FarUpload {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.inner.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

impl Upload for FarUpload {
    fn finish(self: Box<Self>, key: &Key) -> Result<Put, Error> {
        self.far.travel();
        self.inner.finish(key)
    }
}
