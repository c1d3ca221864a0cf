//! Random changes of files and random commands, some killed on their way, beside a model that is a map of files for each
//! snapshot. Whatever happened, every snapshot that was made and not forgotten restores to what the model has.

use super::{Dice, first_seed, rounds};
use crate::founder;
use crate::vault::{
    Files, Vault, back_up, files_below, noise, open, prune_all, read_everything, read_index, restore, verify_all,
};
use keepstone::base::{Clock, Kind, SnapshotId, TimeZone};
use keepstone::compress::Level;
use keepstone::ops::keys::{ResealOptions, reseal, rotate};
use keepstone::ops::retention::{GroupBy, Policy};
use keepstone::ops::{Context, copy, forget, prune, rebuild, select, tag};
use keepstone::repo::SealedRepository;
use keepstone::repo::snapshots::{self, Found};
use keepstone::store::{Crash, Fault, Memory, ObjectStore};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

const STEPS: u64 = 40;

/// The repository, and what should be in it.
struct World {
    vault: Vault,
    dice: Dice,
    snapshots: BTreeMap<SnapshotId, Files>,
    told: Vec<String>,
}

#[test]
fn whatever_is_done_in_whatever_order_every_snapshot_is_what_the_files_were() {
    let first = first_seed();
    let mut kinds = BTreeMap::new();
    for seed in first..first + rounds(6, 2000) {
        let mut world = World::new(seed);
        for _ in 0..STEPS {
            let story = world.step();
            *kinds.entry(story).or_insert(0_u64) += 1;
        }
        world.check(seed);
    }
    println!("steps by kind: {kinds:?}");
    assert!(kinds.len() >= 12, "some kinds of steps never came: {kinds:?}");
}

impl World {
    fn new(seed: u64) -> World {
        let mut world = World { vault: Vault::new(), dice: Dice(seed), snapshots: BTreeMap::new(), told: Vec::new() };
        for _ in 0..6 {
            world.change_a_file();
        }
        world
    }

    /// One step; its kind.
    fn step(&mut self) -> &'static str {
        self.vault.hours(1 + self.dice.below(30));
        let kind = match self.dice.below(20) {
            0..6 => self.back_up_changed(),
            6 => self.killed("a killed backup", &|context, folder| back_up(context, folder).map(drop)),
            7 => self.killed("a killed prune", &|context, _| prune_all(context).map(drop)),
            8 => self.forget_one(),
            9 => self.forget_by_policy(),
            10 | 11 => self.prune(),
            12 => self.rotate(),
            13 => self.reseal(),
            14 => self.rebuild(),
            15 => self.tag_one(),
            16 => self.restore_one(),
            17 => self.copy_there_and_back(),
            18 => self.verify(),
            _ => self.killed("a killed reseal", &|context, _| reseal(context, &ResealOptions::default()).map(drop)),
        };
        self.told.push(kind.to_owned());
        kind
    }

    fn change_a_file(&mut self) {
        let name = format!("{}/{}", self.dice.below(3), self.dice.below(6));
        let path = self.vault.files.path().join(&name);
        let old = std::fs::read(&path).ok();
        match (self.dice.below(5), old) {
            (0, Some(_)) => std::fs::remove_file(path).unwrap(),
            (1, Some(mut bytes)) => {
                bytes.extend_from_slice(&noise(self.dice.below(1 << 30), 3000));
                self.vault.write(&name, &bytes);
            }
            (2 | 3, Some(mut bytes)) if !bytes.is_empty() => {
                let at = self.dice.below(bytes.len() as u64) as usize;
                bytes[at] ^= 0x55;
                self.vault.write(&name, &bytes);
            }
            _ => {
                let length = [0, 1, 300, 9_000, 150_000][self.dice.below(5) as usize];
                self.vault.write(&name, &noise(self.dice.below(8), length));
            }
        }
    }

    fn back_up_changed(&mut self) -> &'static str {
        for _ in 0..self.dice.below(4) {
            self.change_a_file();
        }
        let id = back_up(&self.vault.open(), self.vault.files.path()).unwrap_or_else(|error| self.lost(&error));
        self.snapshots.insert(id, files_below(self.vault.files.path()));
        "backup"
    }

    /// Something is killed at one of its first changes of the store, before or after it.
    fn killed(
        &mut self,
        what: &'static str,
        act: &dyn Fn(&Context, &std::path::Path) -> keepstone::ops::Result<()>,
    ) -> &'static str {
        self.change_a_file();
        let fault = Fault::new(self.vault.store.clone());
        let crash = if self.dice.below(2) == 0 { Crash::Before } else { Crash::After };
        fault.crash_at(1 + self.dice.below(12), crash);
        let done =
            open(Arc::new(fault.clone()), &self.vault.clock).and_then(|context| act(&context, self.vault.files.path()));
        assert!(done.is_ok() || fault.crashed(), "{what}: {:?}", done.err());
        // Killed after its last change, a backup has made a snapshot all the same.
        self.notice_new();
        what
    }

    /// A snapshot that nobody told of is of the files as they are.
    fn notice_new(&mut self) {
        let context = self.vault.open();
        for id in snapshots::names(&context.repository).unwrap() {
            if let Found::Snapshot(snapshot) = snapshots::load(&context.repository, id).unwrap() {
                self.snapshots.entry(snapshot.id).or_insert_with(|| files_below(self.vault.files.path()));
            }
        }
    }

    fn any(&mut self) -> Option<SnapshotId> {
        let at = self.dice.below(self.snapshots.len() as u64) as usize;
        self.snapshots.keys().nth(at).copied()
    }

    fn forget_one(&mut self) -> &'static str {
        if let Some(id) = self.any() {
            forget::remove(&self.vault.open(), id).unwrap_or_else(|error| self.lost(&error));
            self.snapshots.remove(&id);
        }
        "forget one"
    }

    fn forget_by_policy(&mut self) -> &'static str {
        let policy = Policy { keep_last: 1 + self.dice.below(6) as u32, keep_daily: 2, ..Policy::default() };
        let selection = forget::Selection::Policy {
            policy: Box::new(policy),
            filter: forget::Filter::default(),
            group_by: GroupBy::default(),
        };
        let options = forget::Options { selection, zone: TimeZone::UTC, dry_run: false, fresh: None };
        let outcome = forget::forget(&self.vault.open(), &options).unwrap_or_else(|error| self.lost(&error));
        assert!(outcome.failures.is_empty(), "{:?}", outcome.failures);
        for gone in outcome.groups.iter().flat_map(|group| &group.removed) {
            assert!(self.snapshots.remove(&gone.id).is_some(), "{} was not there", gone.id);
        }
        "forget by policy"
    }

    fn prune(&mut self) -> &'static str {
        let max_unused = prune::MaxUnused::Bytes(self.dice.below(2) * 100_000);
        let options = prune::Options { max_unused, ..prune::Options::default() };
        prune::prune(&self.vault.open(), &options).unwrap_or_else(|error| self.lost(&error));
        "prune"
    }

    fn rotate(&mut self) -> &'static str {
        rotate(&self.vault.open()).unwrap_or_else(|error| self.lost(&error));
        "rotate"
    }

    fn reseal(&mut self) -> &'static str {
        let options = ResealOptions { budget_bytes: Some(50_000 + self.dice.below(500_000)), since_ns: None };
        let resealed = reseal(&self.vault.open(), &options).unwrap_or_else(|error| self.lost(&error));
        assert!(resealed.failed.is_empty(), "{:?}", resealed.failed);
        "reseal"
    }

    fn rebuild(&mut self) -> &'static str {
        match rebuild::rebuild_index(&self.vault.open()) {
            Ok(_) => "rebuild-index",
            // Somebody who was killed lately may still be at work.
            Err(error) if error.kind() == Kind::Refused => "a refused rebuild-index",
            Err(error) => self.lost(&error),
        }
    }

    fn tag_one(&mut self) -> &'static str {
        if let Some(id) = self.any() {
            let change = tag::Change::Set(vec![format!("tag-{}", self.dice.below(1000))]);
            let outcome = tag::tag(&self.vault.open(), &[id], &change).unwrap_or_else(|error| self.lost(&error));
            for changed in outcome.changed {
                let files = self.snapshots.remove(&changed.old).unwrap();
                self.snapshots.insert(changed.new, files);
            }
        }
        "tag"
    }

    fn restore_one(&mut self) -> &'static str {
        if let Some(id) = self.any() {
            self.expect_files(id);
        }
        "restore"
    }

    /// Into a repository with other keys, whose snapshots are compared there.
    fn copy_there_and_back(&mut self) -> &'static str {
        let store = Memory::with_clock(self.vault.clock.clone());
        let there = second(&store, &self.vault.clock);
        let source = self.vault.open();
        let listing = select::list(&source, &select::Filter::default()).unwrap();
        let options = copy::Options { listing, level: Level::Default, verify: false, dry_run: false };
        let outcome = copy::copy(&source, &there, &options);
        let outcome = outcome.unwrap_or_else(|error| self.lost(&error));
        assert!(!outcome.damage() && outcome.snapshots.len() == self.snapshots.len(), "{:?}", outcome.damages);
        if let Some(one) = outcome.snapshots.first() {
            let copy::Fate::Copied(id) = one.fate else { panic!("{:?}", one.fate) };
            let (_, files) = restore(&there, id, self.vault.files.path()).unwrap();
            assert!(files == self.snapshots[&one.snapshot.id], "the copy of {} differs", one.snapshot.id);
        }
        "copy"
    }

    fn verify(&mut self) -> &'static str {
        let verified = verify_all(&self.vault.open()).unwrap_or_else(|error| self.lost(&error));
        assert!(!verified.damage, "{:?}: {:?}", self.told, verified.damages);
        "verify"
    }

    fn expect_files(&self, id: SnapshotId) {
        let restored = restore(&self.vault.open(), id, self.vault.files.path());
        let (_, files) = restored.unwrap_or_else(|error| self.lost(&error));
        assert!(files == self.snapshots[&id], "{id} differs after {:?}", self.told);
    }

    /// Everything is as the model has it, and in the end nothing is left over.
    fn check(&mut self, seed: u64) {
        self.told.push(format!("the end of seed {seed}"));
        self.snapshots.keys().for_each(|id| self.expect_files(*id));
        // Those that were killed are this process, which lives: only age tells.
        self.vault.hours(30);
        prune_all(&self.vault.open()).unwrap_or_else(|error| self.lost(&error));
        let context = self.vault.open();
        let (there, damaged) = snapshots::list(&context.repository).unwrap();
        assert!(damaged.is_empty(), "seed {seed}: {damaged:?}");
        let there: BTreeSet<SnapshotId> = there.iter().map(|snapshot| snapshot.id).collect();
        assert!(there.iter().eq(self.snapshots.keys()), "seed {seed}");
        read_everything(&context).unwrap_or_else(|error| self.lost(&error));
        read_index(&context).unwrap_or_else(|error| self.lost(&error));
        self.snapshots.keys().for_each(|id| self.expect_files(*id));
        self.settles(seed);
    }

    /// In the end a prune has nothing left to do. Small packs that one leaves may be enough for the next to join them.
    fn settles(&self, seed: u64) {
        let plan = prune::Options { dry_run: true, ..prune::Options::default() };
        for _ in 0..3 {
            let context = self.vault.open();
            if prune::prune(&context, &plan).unwrap().packs_deleted == 0 {
                return;
            }
            prune_all(&context).unwrap_or_else(|error| self.lost(&error));
        }
        let left = prune::prune(&self.vault.open(), &plan).unwrap();
        assert_eq!(left.packs_deleted, 0, "seed {seed}: {left:?}");
    }

    fn lost<T>(&self, error: &keepstone::ops::Error) -> T {
        panic!("after {:?}: {error}", self.told)
    }
}

/// Another repository.
fn second(store: &Memory, clock: &Clock) -> Context {
    let shared: Arc<dyn ObjectStore> = Arc::new(store.clone());
    founder::strange(shared.clone(), "second", clock).unwrap();
    drop(SealedRepository::open(shared.clone()).unwrap());
    open(shared, clock).unwrap()
}
