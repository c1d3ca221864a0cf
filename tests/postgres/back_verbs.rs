//! Drills of dumps whose manifests promise something else than their streams hold.

use super::taken::{options as how, source};
use crate::servers::postgres::{Server, another, server, surroundings};
use crate::vault::{Vault, backup_of};
use keepstone::base::{Kind, Scratch};
use keepstone::db::{Result, Watch};
use keepstone::format::dump::{DumpKind, Manifest};
use keepstone::format::run::Outcome as RunOutcome;
use keepstone::format::snapshot::Snapshot;
use keepstone::ops::Context;
use keepstone::ops::backup::{Options as Backup, Source, backup};
use keepstone::ops::drill::{Back, Dumps, Ended, Options, Outcome, Sample, drill};
use keepstone::repo::runs;
use keepstone::source::dump::{Consume, Dump, DumpSource, Planned};
use keepstone::source::postgres::PostgresSource;
use keepstone::target::postgres::{Drill, Programs};
use std::path::Path;
use std::sync::Arc;

/// A source whose manifest is changed before it is kept.
#[derive(Debug)]
struct Lying {
    inner: PostgresSource,
    change: fn(&mut Manifest),
}

struct LyingDump {
    inner: Box<dyn Dump>,
    change: fn(&mut Manifest),
}

impl DumpSource for Lying {
    fn kind(&self) -> DumpKind {
        self.inner.kind()
    }
    fn name(&self) -> &str {
        "shop"
    }
    fn label(&self) -> String {
        self.inner.label()
    }
    fn begin(&self, watch: &Watch) -> Result<Box<dyn Dump>> {
        Ok(Box::new(LyingDump { inner: self.inner.begin(watch)?, change: self.change }))
    }
}

impl Dump for LyingDump {
    fn streams(&self) -> &[Planned] {
        self.inner.streams()
    }
    fn workers(&self) -> usize {
        self.inner.workers()
    }
    fn read(&self, stream: usize, consume: &mut Consume<'_>) -> Result<()> {
        self.inner.read(stream, consume)
    }
    fn finish(self: Box<Self>) -> Result<Manifest> {
        let mut manifest = self.inner.finish()?;
        (self.change)(&mut manifest);
        Ok(manifest)
    }
}

const SHOP: &str = "CREATE TABLE a (n int); INSERT INTO a VALUES (1), (2); CREATE TABLE b (n int); CREATE SEQUENCE s";

fn snapshot(vault: &Vault, server: &Server, change: fn(&mut Manifest)) -> Snapshot {
    let inner = source(&server.create(SHOP), how());
    let sources = vec![Source::Dump(Arc::new(Lying { inner, change }))];
    let outcome = backup(&vault.open(), &Backup { sources, ..backup_of(Path::new("/")) }).unwrap();
    outcome.snapshot.unwrap()
}

fn try_out(context: &Context, snapshot: &Snapshot, server: &Server) -> keepstone::ops::Result<Outcome> {
    let scratch = Scratch::new(&std::env::temp_dir()).unwrap();
    let programs = Programs { surroundings: surroundings(), folder: None };
    let temp_dir = scratch.path().to_owned();
    let on = Drill {
        address: server.address("postgres"),
        programs,
        jobs: 2,
        search_path: Vec::new(),
        temp_dir: temp_dir.clone(),
    };
    let options = Options {
        servers: vec![Box::new(on)],
        dumps: Dumps::Whole(Vec::new()),
        allow_source_server: true,
        sample: Sample::Full,
        files: true,
        temp_dir,
        back: Back::default(),
    };
    drill(context, snapshot, &options)
}

fn first_row_count(manifest: &mut Manifest) -> &mut u64 {
    &mut manifest.tables.iter_mut().find(|table| table.name == "a").unwrap().rows
}

#[test]
fn what_is_not_as_promised_is_found_told_and_written_down() {
    let (Some(server), Some(other)) = (server(), another(&[])) else { return };
    let vault = Vault::new();
    let context = vault.open();

    let honest = snapshot(&vault, server, |_| {});
    let outcome = try_out(&context, &honest, &other).unwrap();
    assert_eq!((outcome.kind(), &outcome.databases[0].ended), (None, &Ended::Same));
    assert_eq!(outcome.databases[0].compared.checksums, 2);

    // One row more than there is: the restore itself counts, so that it does not even come back.
    let short = snapshot(&vault, server, |manifest| *first_row_count(manifest) += 1);
    let outcome = try_out(&context, &short, &other).unwrap();
    let Ended::Failed { message, kind } = &outcome.databases[0].ended else { panic!("{outcome:?}") };
    assert!(message.contains("table public.a") && message.contains("promises 3"), "{message}");
    assert_eq!(*kind, Kind::Damaged);

    let other_content = snapshot(&vault, server, |manifest| {
        manifest.tables.iter_mut().for_each(|table| table.checksum = Some("0".repeat(32)));
        manifest.sequences[0].last_value = 7;
        manifest.tables[1].name = "gone".to_owned();
        manifest.tables[1].stream = None;
    });
    let outcome = try_out(&context, &other_content, &other).unwrap();
    let drill = &outcome.databases[0];
    assert_eq!((outcome.kind(), &drill.ended), (Some(Kind::Damaged), &Ended::Different));
    let objects: Vec<&str> = drill.compared.differences.iter().map(|one| one.object.as_str()).collect();
    assert_eq!(objects, ["table public.a", "table public.gone", "table public.b"]);

    let (runs, _) = runs::list(&context.repository).unwrap();
    let mut drills: Vec<_> = runs.iter().filter(|run| run.operation == "drill").collect();
    drills.sort_by_key(|run| run.ended_ns);
    let of = |snapshot: &Snapshot| drills.iter().find(|run| run.snapshots == [snapshot.id]).unwrap();
    assert_eq!(of(&honest).outcome, RunOutcome::Done);
    assert_eq!(of(&short).outcome, RunOutcome::Damage);
    assert_eq!(of(&other_content).outcome, RunOutcome::Damage);
    assert!(
        of(&other_content)
            .problems
            .iter()
            .any(|problem| String::from_utf8_lossy(&problem.subject.0).contains("table public.gone"))
    );
    assert!(of(&honest).figures.iter().any(|figure| figure.name == "restore_ms"));
    let left = other.connect("postgres").value("SELECT count(*) FROM pg_database WHERE datname LIKE 'keepstone%'");
    assert_eq!(left.unwrap().as_deref(), Some("0"));
}
