//! The proof before a restore: seals find all that names find.

use super::{Fake, done, shop, tables};
use crate::vault::{Vault, keys, open};
use keepstone::base::{Clock, Kind};
use keepstone::db::{Error, Result, Watch};
use keepstone::format::dump::DumpKind;
use keepstone::format::snapshot::Snapshot;
use keepstone::ops::hooks::Hooks;
use keepstone::ops::restore_database::{Options, Outcome, Protection, restore_database};
use keepstone::store::{Area, Key, Memory, ObjectStore};
use keepstone::target::dump::{Checked, DumpTarget, PlannedRestore, Restored, StoredDump};
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

/// A server that only reads what it is given, and remembers that something was written there.
#[derive(Clone, Debug, Default)]
struct Server {
    lands_whole: bool,
    planned: Arc<AtomicU32>,
    written: Arc<AtomicBool>,
}

impl DumpTarget for Server {
    fn kind(&self) -> DumpKind {
        DumpKind::Postgres
    }
    fn label(&self) -> String {
        "db:5432, database copy".to_owned()
    }
    fn database(&self) -> &str {
        "copy"
    }
    fn may_drop(&self) -> bool {
        false
    }
    fn lands_whole(&self) -> bool {
        self.lands_whole
    }
    fn plan<'p>(&'p self, _: &'p dyn StoredDump, _: &Watch) -> Result<Box<dyn PlannedRestore + 'p>> {
        self.planned.fetch_add(1, Ordering::SeqCst);
        Ok(Box::new(Plan(self)))
    }
}

struct Plan<'s>(&'s Server);

impl PlannedRestore for Plan<'_> {
    fn checked(&self) -> Checked {
        Checked::default()
    }
    fn restore(&self, stored: &dyn StoredDump, _: &Watch) -> Result<Restored> {
        self.0.written.store(true, Ordering::SeqCst);
        for stream in &stored.manifest().streams {
            let read = stored.open(&stream.path).and_then(|mut stream| io::copy(&mut stream, &mut io::sink()));
            read.map_err(|error| Error::new("db:5432", Kind::of_io(&error), error.to_string()))?;
        }
        Ok(Restored::default())
    }
}

fn restore(
    store: &Memory,
    clock: &Clock,
    snapshot: &Snapshot,
    server: &Server,
    before: &[&str],
) -> keepstone::ops::Result<Outcome> {
    let context = open(Arc::new(store.clone()), clock).unwrap();
    let options = Options {
        dump: None,
        target: Box::new(server.clone()),
        protection: Protection::default(),
        hooks: Hooks { before: before.iter().map(|line| (*line).to_owned()).collect(), ..Hooks::default() },
        validate_only: false,
    };
    restore_database(&context, snapshot, &options)
}

/// Two nights, the second full of differences on the first.
fn two_nights() -> (Vault, Snapshot) {
    let vault = Vault::new();
    done(&vault, vec![shop(0).source()]);
    let mut now = tables(4, 200_000, 0);
    for (_, rows) in &mut now {
        for place in (3000..200_000).step_by(20_000) {
            rows[place..place + 20].fill(7);
        }
    }
    let second = done(&vault, vec![Fake::new("shop", now).source()]);
    assert!(second.totals.bytes_delta > 100_000, "{:?}", second.totals);
    (vault, second)
}

#[test]
fn damage_that_names_find_is_found_by_seals_before_anything_is_written() {
    let (vault, snapshot) = two_nights();
    let (mut hurt, mut unhurt) = (0, 0);
    let mut try_with = |key: &Key, what: &str, damage: &dyn Fn(&Memory)| {
        let ended = [true, false].map(|lands_whole| {
            let (store, clock) = vault.copy();
            damage(&store);
            let server = Server { lands_whole, ..Server::default() };
            let done = restore(&store, &clock, &snapshot, &server, &[]);
            match done {
                Ok(outcome) => {
                    assert!(server.written.load(Ordering::SeqCst));
                    Ok(outcome.proven)
                }
                Err(error) => {
                    assert_eq!(error.kind(), Kind::Damaged, "{key} {what}: {error}");
                    assert!(!server.written.load(Ordering::SeqCst), "{key} {what}: {error}");
                    let said = error.to_string();
                    Err((0..4).filter(|t| said.contains(&format!("public.t{t}: "))).collect::<Vec<_>>())
                }
            }
        });
        let [seals, names] = ended;
        assert_eq!(seals, names, "{key} {what}");
        *(if seals.is_ok() { &mut unhurt } else { &mut hurt }) += 1;
    };
    for key in keys(&vault.store).into_iter().filter(|key| key.area() == Area::Packs) {
        let pack = vault.store.get(&key, u64::MAX).unwrap();
        for place in (40..pack.len()).step_by(pack.len() / 12 + 1) {
            try_with(&key, &format!("damaged at {place} of {}", pack.len()), &|store| {
                let mut pack = pack.clone();
                pack[place] ^= 1;
                store.replace(&key, &pack).unwrap();
            });
        }
        try_with(&key, "missing", &|store| store.delete(&key).unwrap());
    }
    assert!(hurt > 20 && unhurt > 0, "{hurt} hurt, {unhurt} unhurt");
}

#[test]
fn what_may_have_changed_meanwhile_is_looked_at_again() {
    let (vault, snapshot) = two_nights();
    for (lands_whole, before, looks) in [(true, &[][..], 1), (true, &["true"], 2), (false, &[], 2)] {
        let (store, clock) = vault.copy();
        let server = Server { lands_whole, ..Server::default() };
        restore(&store, &clock, &snapshot, &server, before).unwrap();
        assert_eq!(server.planned.load(Ordering::SeqCst), looks, "{lands_whole} {before:?}");
    }
}
