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
    take_with(source, &watch())
}

/// The same while `watch` looks on.
pub fn take_with(source: &dyn DumpSource, watch: &Watch) -> Taken {
    let dump = source.begin(watch).unwrap();
    let (next, streams) = (AtomicUsize::new(0), Mutex::new(BTreeMap::new()));
    thread::scope(|scope| {
        for _ in 0..dump.workers() {
            scope.spawn(|| {
                loop {
                    let at = next.fetch_add(1, Ordering::Relaxed);
                    let Some(planned) = dump.streams().get(at) else { break };
                    let mut bytes = Vec::new();
                    let read = dump.read(at, &mut |reader| reader.read_to_end(&mut bytes).map(|length| length as u64));
                    read.unwrap_or_else(|error| panic!("{}: {error}", planned.path));
                    assert!(streams.lock().unwrap().insert(planned.path.clone(), bytes).is_none());
                }
            });
        }
    });
    Taken { manifest: dump.finish().unwrap(), streams: streams.into_inner().unwrap() }
}
