//! Taking a dump in a test: all streams, read by as many threads as it wants.

use crate::servers::postgres::{surroundings, watch};
use keepstone::base::Clock;
use keepstone::db::Watch;
use keepstone::db::postgres::Address;
use keepstone::format::dump::Manifest;
use keepstone::source::dump::DumpSource;
use keepstone::source::postgres::{Options, PostgresSource};
use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

/// A dump in memory.
pub struct Taken {
    /// Its manifest.
    pub manifest: Manifest,
    /// Its streams by path.
    pub streams: BTreeMap<String, Vec<u8>>,
}

/// The usual options.
pub fn options() -> Options {
    Options::default()
}

/// The whole database of `address`.
pub fn source(address: &Address, options: Options) -> PostgresSource {
    PostgresSource::new(address.clone(), None, options, surroundings(), Clock::System)
}

/// Takes a dump, which must work.
pub fn take(source: &dyn DumpSource) -> Taken {
    take_with(source, &watch(), &mut |_| {})
}

/// Takes a dump and calls `look` with the path of each stream while it is read.
pub fn take_with(source: &dyn DumpSource, watch: &Watch, look: &mut (dyn FnMut(&str) + Send)) -> Taken {
    let dump = source.begin(watch).unwrap();
    let (next, look, streams) = (AtomicUsize::new(0), Mutex::new(look), Mutex::new(BTreeMap::new()));
    thread::scope(|scope| {
        for _ in 0..dump.workers() {
            scope.spawn(|| {
                while let Some(planned) = dump.streams().get(next.fetch_add(1, Ordering::Relaxed)) {
                    let at = dump.streams().iter().position(|other| other.path == planned.path).unwrap();
                    let mut bytes = Vec::new();
                    let read = dump.read(at, &mut |reader| {
                        let mut start = [0; 1];
                        let length = reader.read(&mut start)?;
                        bytes.extend_from_slice(&start[..length]);
                        look.lock().unwrap()(&planned.path);
                        reader.read_to_end(&mut bytes).map(|rest| (rest + length) as u64)
                    });
                    read.unwrap_or_else(|error| panic!("{}: {error}", planned.path));
                    assert!(streams.lock().unwrap().insert(planned.path.clone(), bytes).is_none());
                }
            });
        }
    });
    Taken { manifest: dump.finish().unwrap(), streams: streams.into_inner().unwrap() }
}
