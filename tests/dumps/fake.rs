//! A database in memory, which does what it is told to do wrong.

use keepstone::base::Kind;
use keepstone::db::{Error, Result, Watch};
use keepstone::format::dump::{DumpKind, Manifest, Server, StreamEntry, StreamRole, Table, VERSION};
use keepstone::source::dump::{Consume, Dump, DumpSource, Planned};
use std::collections::{BTreeMap, VecDeque};
use std::io::{self, Read};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// What goes wrong in one attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The connection.
    Begin(Kind),
    /// The stream of this number, after half of its bytes.
    Stream(usize, Kind),
    /// The end.
    Finish(Kind),
    /// The manifest says that one stream has a byte more.
    Lies,
    /// The stream of this number waits until somebody asks to stop.
    Hangs(usize),
    /// The thread of the stream of this number.
    Panics(usize),
}

/// A database.
#[derive(Clone, Debug)]
pub struct Fake {
    kind: DumpKind,
    name: String,
    streams: Arc<Vec<(String, Vec<u8>)>>,
    /// How many bytes it expects each stream to have; none for what it has.
    claimed: Option<u64>,
    workers: usize,
    faults: Arc<Mutex<VecDeque<Fault>>>,
    /// How often it was connected to.
    pub begun: Arc<AtomicUsize>,
    /// The most streams that were read at once.
    pub most_open: Arc<AtomicUsize>,
    open: Arc<AtomicUsize>,
}

impl Fake {
    /// A PostgreSQL database with these streams.
    pub fn new(name: &str, streams: Vec<(String, Vec<u8>)>) -> Fake {
        Fake {
            kind: DumpKind::Postgres,
            name: name.to_owned(),
            streams: Arc::new(streams),
            claimed: None,
            workers: 2,
            faults: Arc::default(),
            begun: Arc::default(),
            most_open: Arc::default(),
            open: Arc::default(),
        }
    }

    pub fn mysql(self) -> Fake {
        Fake { kind: DumpKind::Mysql, ..self }
    }

    /// Says beforehand that each stream has so many bytes.
    pub fn claiming(self, bytes: u64) -> Fake {
        Fake { claimed: Some(bytes), ..self }
    }

    pub fn workers(self, workers: usize) -> Fake {
        Fake { workers, ..self }
    }

    /// Does this wrong, one for each attempt; later attempts go well.
    pub fn wrong(self, faults: &[Fault]) -> Fake {
        Fake { faults: Arc::new(Mutex::new(faults.iter().copied().collect())), ..self }
    }

    pub fn source(&self) -> keepstone::ops::backup::Source {
        keepstone::ops::backup::Source::Dump(Arc::new(self.clone()))
    }

    fn error(&self, kind: Kind, message: &str) -> Error {
        Error::new("db:5432", kind, message).database(&self.name)
    }

    fn check(&self, wrong: bool, kind: Kind, message: &str) -> Result<()> {
        if wrong { Err(self.error(kind, message)) } else { Ok(()) }
    }
}

impl DumpSource for Fake {
    fn kind(&self) -> DumpKind {
        self.kind
    }
    fn name(&self) -> &str {
        &self.name
    }
    fn label(&self) -> String {
        format!("{} at db:5432", self.name)
    }
    fn begin(&self, watch: &Watch) -> Result<Box<dyn Dump>> {
        self.begun.fetch_add(1, Ordering::SeqCst);
        let fault = self.faults.lock().unwrap().pop_front();
        if let Some(Fault::Begin(kind)) = fault {
            return Err(self.error(kind, "connection refused"));
        }
        let planned = self
            .streams
            .iter()
            .map(|(path, bytes)| Planned { path: path.clone(), bytes: self.claimed.unwrap_or(bytes.len() as u64) });
        Ok(Box::new(Moment { fake: self.clone(), fault, planned: planned.collect(), watch: watch.clone() }))
    }
}

struct Moment {
    fake: Fake,
    fault: Option<Fault>,
    planned: Vec<Planned>,
    watch: Watch,
}

impl Dump for Moment {
    fn streams(&self) -> &[Planned] {
        &self.planned
    }
    fn workers(&self) -> usize {
        self.fake.workers
    }
    fn read(&self, stream: usize, consume: &mut Consume<'_>) -> Result<()> {
        let open = self.fake.open.fetch_add(1, Ordering::SeqCst) + 1;
        self.fake.most_open.fetch_max(open, Ordering::SeqCst);
        let read = self.read_one(stream, consume);
        self.fake.open.fetch_sub(1, Ordering::SeqCst);
        read
    }
    fn finish(self: Box<Self>) -> Result<Manifest> {
        if let Some(Fault::Finish(kind)) = self.fault {
            return Err(self.fake.error(kind, "the schema changed meanwhile"));
        }
        let mut manifest = manifest_of(&self.fake);
        if self.fault == Some(Fault::Lies) {
            manifest.streams[0].bytes += 1;
        }
        Ok(manifest)
    }
}

impl Moment {
    fn read_one(&self, stream: usize, consume: &mut Consume<'_>) -> Result<()> {
        let bytes = &self.fake.streams[stream].1;
        match self.fault {
            Some(Fault::Stream(number, kind)) if number == stream => {
                let mut half = bytes[..bytes.len() / 2].chain(Broken);
                let read = consume(&mut half);
                self.fake.check(read.is_err(), kind, "server closed the connection")
            }
            Some(Fault::Hangs(number)) if number == stream => {
                while !self.watch.stop.raised() {
                    std::thread::sleep(Duration::from_millis(5));
                }
                Err(self.fake.error(Kind::Interrupted, "stopped"))
            }
            Some(Fault::Panics(number)) if number == stream => panic!("as it was told"),
            _ => {
                let read = consume(&mut bytes.as_slice());
                self.fake.check(read.ok() != Some(bytes.len() as u64), Kind::Source, "not all was wanted")
            }
        }
    }
}

/// A connection that is lost.
struct Broken;

impl Read for Broken {
    fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
        Err(io::Error::other("connection reset"))
    }
}

fn manifest_of(fake: &Fake) -> Manifest {
    let entry = |(path, bytes): &(String, Vec<u8>)| StreamEntry {
        path: path.clone(),
        role: StreamRole::Data,
        bytes: bytes.len() as u64,
    };
    let table = |(path, bytes): &(String, Vec<u8>)| Table {
        name: path.rsplit('/').next().unwrap().to_owned(),
        stream: Some(path.clone()),
        rows: bytes.len() as u64 / 100,
        bytes: bytes.len() as u64,
        ..Table::default()
    };
    Manifest {
        version: VERSION,
        kind: fake.kind,
        server: Server { product: "PostgreSQL".into(), version: "15.8".into(), ..Server::default() },
        client: "none".into(),
        database: fake.name.clone(),
        properties: BTreeMap::new(),
        taken_ns: 1,
        ended_ns: 2,
        position: None,
        selection: Vec::new(),
        tables: fake.streams.iter().map(table).collect(),
        sequences: Vec::new(),
        streams: fake.streams.iter().map(entry).collect(),
        notes: Vec::new(),
        unknown: BTreeMap::new(),
    }
}
