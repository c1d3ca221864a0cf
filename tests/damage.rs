//! The damage matrix: every kind of object, damaged in every way, under every command.
//!
//! Whatever is damaged, nothing panics, nothing wrong is restored without a word, what is not hurt is restored, what
//! is hurt is named, and no command makes it worse: with the object back in place everything is there again.

use crate::vault::{
    Files, Vault, back_up, backup_of, files_below, key, keys, noise, open, prune_all, restore, verify_all,
};
use keepstone::base::{Clock, Kind, Secret, SnapshotId};
use keepstone::crypto::slots::{GuardKind, Unlock};
use keepstone::format::pack::Role;
use keepstone::format::session::SessionKind;
use keepstone::ops::backup::{self, Parent};
use keepstone::ops::{self, Context, rebuild, select};
use keepstone::repo::Session;
use keepstone::repo::index::load_condemned;
use keepstone::store::{Area, Crash, Fault, Key, Memory, ObjectStore};
use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

/// A repository with an object of every kind, and what its snapshots hold.
struct Subject {
    vault: Vault,
    snapshots: BTreeMap<SnapshotId, Files>,
    objects: Vec<Object>,
}

/// An object that is damaged, and another of its kind.
struct Object {
    kind: &'static str,
    key: Key,
    other: Option<Key>,
}

/// What happens to an object.
#[derive(Clone, Copy, Debug)]
enum Damage {
    Flip(u32),
    Cut(u32),
    Swap,
    Zero,
    Miss,
}

/// Where in an object, in thousandths of its length.
const DAMAGES: [Damage; 11] = [
    Damage::Flip(0),
    Damage::Flip(15),
    Damage::Flip(60),
    Damage::Flip(250),
    Damage::Flip(500),
    Damage::Flip(999),
    Damage::Cut(0),
    Damage::Cut(999),
    Damage::Swap,
    Damage::Zero,
    Damage::Miss,
];

fn other_key() -> Unlock {
    Unlock::KeyFile(Secret::new(b"a second key file, for the other slot".to_vec()))
}

/// A prune that left its roster, three nights, two slots, two slots' worth of copies, a session that died, a prune that
/// was killed after it had condemned something.
fn subject() -> Subject {
    let vault = Vault::new();
    vault.write("first", &noise(41, 20_000));
    let first = vault.back_up();
    std::fs::remove_file(vault.files.path().join("first")).unwrap();
    ops::forget::remove(&vault.open(), first).unwrap();
    prune_all(&vault.open()).unwrap();
    let mut snapshots = BTreeMap::new();
    let mut dump = noise(7, 150_000);
    for night in 0..3u8 {
        dump[20_000 + usize::from(night) * 700..][..30].fill(night);
        vault.write("dump.sql", &dump);
        vault.write("same", &noise(3, 50_000));
        vault.write(&format!("of/{night}"), &noise(20 + u64::from(night), 30_000));
        let id = vault.back_up();
        snapshots.insert(id, files_below(vault.files.path()));
    }
    let context = vault.open();
    ops::keys::add(&context, &other_key(), GuardKind::KeyFile, "other").unwrap();
    vault.write("gone", &noise(40, 60_000));
    let gone = vault.back_up();
    std::fs::remove_file(vault.files.path().join("gone")).unwrap();
    ops::forget::remove(&vault.open(), gone).unwrap();
    killed_prune(&vault);
    std::mem::forget(Session::begin(&vault.open().repository, SessionKind::Writer, "backup").unwrap());
    vault.hours(25);
    let objects = objects(&vault);
    Subject { vault, snapshots, objects }
}

/// Kills a prune right after it has condemned something.
fn killed_prune(vault: &Vault) {
    for change in 1.. {
        let fault = Fault::new(vault.store.clone());
        fault.crash_at(change, Crash::After);
        prune_all(&open(Arc::new(fault), &vault.clock).unwrap()).unwrap_err();
        let mut condemned = 0;
        vault.store.list(Area::Condemned, &mut |listed| condemned += u32::from(!listed.name.contains('.'))).unwrap();
        if condemned > 0 {
            return;
        }
        vault.hours(25);
    }
}

/// What waits for its deletion is needed by nobody: it says nothing about damage.
fn condemned_segments(context: &Context, all: &[Key]) -> Vec<Key> {
    let repository = &context.repository;
    let is_record = |key: &&Key| key.area() == Area::Condemned && !key.name().contains('.');
    let load = |key: &Key| load_condemned(&**repository.store(), repository.keyring(), key.name().parse().unwrap());
    let records = all.iter().filter(is_record).map(|key| load(key).unwrap());
    records.flat_map(|record| record.segments).map(|segment| Key::new(Area::Index, segment)).collect()
}

fn objects(vault: &Vault) -> Vec<Object> {
    let all = keys(&vault.store);
    let context = vault.open();
    let packs = context.index.packs().unwrap();
    let condemned = condemned_segments(&context, &all);
    let pack = |role: Role| {
        let of_role = packs.iter().filter(|pack| pack.role == role && !pack.void);
        of_role.map(|pack| Key::new(Area::Packs, pack.id)).filter(|key| all.contains(key)).collect::<Vec<_>>()
    };
    let named = |area: Area, ending: &str| {
        let fits = |key: &&Key| match ending {
            "" => key.area() == area && !key.name().contains('.'),
            _ => key.area() == area && key.name().ends_with(ending),
        };
        all.iter().filter(fits).cloned().collect::<Vec<_>>()
    };
    let config = |name: &str| vec![Key::new(Area::Config, name)];
    let kinds = [
        ("config", config("config")),
        ("config copy", config("config.copy")),
        ("slot", named(Area::Keys, "")),
        ("slot copy", named(Area::Keys, ".copy")),
        ("epoch", named(Area::Epochs, "")),
        ("epoch copy", named(Area::Epochs, ".copy")),
        ("data pack", pack(Role::Data)),
        ("metadata pack", pack(Role::Metadata)),
        ("segment", named(Area::Index, "").into_iter().filter(|key| !condemned.contains(key)).collect()),
        ("snapshot", named(Area::Snapshots, "")),
        ("session", named(Area::Sessions, "")),
        ("seen", named(Area::Sessions, ".seen")),
        ("run", named(Area::Runs, "")),
        ("condemned", named(Area::Condemned, "")),
        ("roster", named(Area::Condemned, ".done")),
    ];
    let object = |(kind, mut keys): (&'static str, Vec<Key>)| {
        // Names are random; the largest says most.
        keys.sort_by_key(|key| std::cmp::Reverse(vault.store.size(key).unwrap()));
        let key = keys.first().unwrap_or_else(|| panic!("there is no {kind}")).clone();
        Object { kind, key, other: keys.get(1).cloned() }
    };
    kinds.into_iter().map(object).collect()
}

/// Damages an object in place; false if it cannot be damaged so.
fn apply(store: &Memory, object: &Object, damage: Damage) -> bool {
    let mut bytes = store.get(&object.key, u64::MAX).unwrap();
    let at = |thousandths: u32| bytes.len() * thousandths as usize / 1000;
    match damage {
        Damage::Flip(place) => {
            let at = at(place);
            bytes[at] ^= 0x10;
        }
        Damage::Cut(place) => bytes.truncate(at(place)),
        Damage::Swap => match &object.other {
            Some(other) => bytes = store.get(other, u64::MAX).unwrap(),
            None => return false,
        },
        Damage::Zero => bytes.fill(0),
        Damage::Miss => {
            store.delete(&object.key).unwrap();
            return true;
        }
    }
    store.replace(&object.key, &bytes).unwrap();
    true
}

/// One damaged copy of the subject.
struct Case<'a> {
    subject: &'a Subject,
    object: &'a Object,
    damage: Damage,
}

impl Case<'_> {
    fn copy(&self) -> (Memory, Clock) {
        let (store, clock) = self.subject.vault.copy();
        clock.advance(Duration::from_secs(25 * 3600));
        apply(&store, self.object, self.damage);
        (store, clock)
    }

    fn open(&self) -> (Context, Memory, Clock) {
        let (store, clock) = self.copy();
        let context = open(Arc::new(store.clone()), &clock);
        let context = context.unwrap_or_else(|error| panic!("it cannot be opened: {error}"));
        (context, store, clock)
    }

    /// Whether the error or the damage text names the object.
    fn names(&self, text: &str) -> bool {
        let name = self.object.key.name();
        let short = &name[..name.len().min(8)];
        text.contains(short)
    }

    /// Whether reading can notice: nothing says which marks of others and which records there were.
    fn is_needed(&self) -> bool {
        match self.object.kind {
            "session" | "seen" | "run" | "condemned" | "roster" => !self.is_missing(),
            _ => true,
        }
    }

    fn is_missing(&self) -> bool {
        matches!(self.damage, Damage::Miss)
    }

    fn snapshot_is_hurt(&self, id: SnapshotId) -> bool {
        self.object.kind == "snapshot" && self.object.key.name() == id.to_string()
    }

    fn lists(&self, context: &Context) {
        let listing = select::list(context, &select::Filter::default()).unwrap();
        let listed: Vec<_> = listing.snapshots.iter().map(|snapshot| snapshot.id).collect();
        for id in self.subject.snapshots.keys() {
            assert_eq!(listed.contains(id), !self.snapshot_is_hurt(*id), "listed {id}");
        }
        if self.object.kind == "snapshot" && !matches!(self.damage, Damage::Miss) {
            assert!(listing.damaged.iter().any(|problem| self.names(&problem.subject)), "{:?}", listing.damaged);
        }
    }

    fn restores(&self) {
        let (context, ..) = self.open();
        self.lists(&context);
        let mut whole = 0;
        for (id, files) in &self.subject.snapshots {
            if self.snapshot_is_hurt(*id) {
                assert!(matches!(self.damage, Damage::Miss) || restore(&context, *id, self.folder()).is_err());
            } else {
                whole += u32::from(self.restores_one(&context, *id, files));
            }
        }
        if !matches!(self.object.kind, "data pack" | "metadata pack" | "segment" | "snapshot") {
            assert_eq!(whole, 3, "whole snapshots");
        }
    }

    fn folder(&self) -> &std::path::Path {
        self.subject.vault.files.path()
    }

    /// Every file is either right or spoken about.
    fn restores_one(&self, context: &Context, id: SnapshotId, files: &Files) -> bool {
        let (outcome, restored) = match restore(context, id, self.folder()) {
            Ok(done) => done,
            Err(error) => {
                assert!(matches!(error.kind(), Kind::Damaged | Kind::NotFound), "{:?}: {error}", error.kind());
                return false;
            }
        };
        let spoken = |name: &str| outcome.problems.iter().any(|problem| problem.subject.contains(name));
        for (name, bytes) in files {
            let right = restored.get(name) == Some(bytes);
            let below_a_problem = spoken(name) || spoken("of") || self.object.kind == "metadata pack";
            assert!(right || (below_a_problem && outcome.problem_count > 0), "{id}: {name}: {:?}", outcome.problems);
        }
        assert!(restored.keys().all(|name| files.contains_key(name)), "{id}: a file from nowhere");
        assert!(outcome.problem_count == 0 || outcome.damage, "{:?}", outcome.problems);
        outcome.problem_count == 0
    }

    fn verifies(&self) {
        let (context, ..) = self.open();
        let found = verify_all(&context).unwrap();
        let named = found.damages.iter().any(|damage| self.names(&damage.object) || self.names(&damage.message));
        let lost_unseen = self.object.kind == "snapshot" && matches!(self.damage, Damage::Miss);
        if self.is_needed() && !lost_unseen {
            assert!(found.damage && named, "verify does not name it: {:?}", found.damages);
        } else {
            assert!(!found.damage, "{:?}", found.damages);
        }
    }

    fn backs_up(&self, parent: Parent) {
        let (context, store, clock) = self.open();
        let options = backup::Options { parent, ..backup_of(self.folder()) };
        match backup::backup(&context, &options) {
            Ok(outcome) => {
                let id = outcome.snapshot.unwrap().id;
                if self.object.kind == "segment" {
                    assert!(outcome.damages.iter().any(|damage| self.names(&damage.subject)), "{:?}", outcome.damages);
                }
                let context = open(Arc::new(store.clone()), &clock).unwrap();
                // A pack that is gone or cut short is seen by its size; what is altered within, only by reading it.
                let hidden = matches!(self.object.kind, "data pack" | "metadata pack");
                if !hidden || matches!(self.damage, Damage::Miss | Damage::Cut(_)) {
                    let (restored, files) = restore(&context, id, self.folder()).unwrap();
                    assert_eq!(restored.problem_count, 0, "{:?}", restored.problems);
                    assert!(files == files_below(self.folder()));
                }
            }
            Err(error) => self.documented(&error),
        }
        self.heals(&store, &clock, "backup");
    }

    fn documented(&self, error: &ops::Error) {
        let text = error.to_string();
        let kinds = matches!(error.kind(), Kind::Damaged | Kind::Refused | Kind::Unsupported);
        assert!(kinds, "{:?}: {text}", error.kind());
        let named = self.names(&text) || text.contains("rebuild-index");
        assert!(error.kind() == Kind::Refused || named, "it names nothing: {text}");
    }

    fn prunes(&self) {
        let (context, store, clock) = self.open();
        if let Err(error) = prune_all(&context) {
            self.documented(&error);
        }
        if !(self.object.kind == "snapshot" && matches!(self.damage, Damage::Miss)) {
            self.heals(&store, &clock, "prune");
        }
    }

    fn rebuilds(&self) {
        let (context, store, clock) = self.open();
        match rebuild::rebuild_index(&context) {
            Ok(outcome) => {
                let hurt = matches!(self.object.kind, "data pack" | "metadata pack");
                if !hurt {
                    assert!(outcome.damaged.is_empty(), "{:?}", outcome.damaged);
                }
                if self.object.kind == "segment" {
                    let context = open(Arc::new(store.clone()), &clock).unwrap();
                    assert!(!verify_all(&context).unwrap().damage, "after the rebuild");
                }
            }
            Err(error) => self.documented(&error),
        }
        self.heals(&store, &clock, "rebuild-index");
    }

    /// With the object back in its place, and the index made anew, everything is there again.
    fn heals(&self, store: &Memory, clock: &Clock, after: &str) {
        let original = self.subject.vault.store.get(&self.object.key, u64::MAX).unwrap();
        store.replace(&self.object.key, &original).unwrap();
        clock.advance(Duration::from_secs(25 * 3600));
        let context = open(Arc::new(store.clone()), clock).unwrap();
        rebuild::rebuild_index(&context).unwrap_or_else(|error| panic!("rebuild after {after}: {error}"));
        let context = open(Arc::new(store.clone()), clock).unwrap();
        for (id, files) in &self.subject.snapshots {
            let (outcome, restored) = restore(&context, *id, self.folder()).unwrap();
            assert!(restored == *files, "{id} after {after}: {:?}", outcome.problems);
        }
    }
}

/// A command that is run on a damaged repository.
type Command = fn(&Case<'_>);

/// Runs one command on every damaged copy; gives every case that went wrong at once.
fn matrix(command: Command) {
    let subject = subject();
    let mut wrong = Vec::new();
    for object in &subject.objects {
        for damage in DAMAGES {
            let case = Case { subject: &subject, object, damage };
            if matches!(damage, Damage::Swap) && object.other.is_none() {
                continue;
            }
            if let Err(panic) = catch_unwind(AssertUnwindSafe(|| command(&case))) {
                let text = panic.downcast_ref::<String>().cloned();
                let text = text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()));
                wrong.push(format!("{} {damage:?} {}: {}", object.kind, object.key, text.unwrap_or_default()));
            }
        }
    }
    assert!(wrong.is_empty(), "{} cases:\n{}", wrong.len(), wrong.join("\n"));
}

#[test]
fn what_is_not_hurt_is_listed_and_restored_and_nothing_wrong_is_restored_silently() {
    matrix(|case| case.restores());
}

#[test]
fn verify_names_whatever_is_damaged() {
    matrix(|case| case.verifies());
}

#[test]
fn a_backup_on_a_damaged_repository_is_whole_or_refused() {
    matrix(|case| case.backs_up(Parent::Newest));
}

#[test]
fn a_backup_without_parent_on_a_damaged_repository_is_whole_or_refused() {
    matrix(|case| {
        if matches!(case.object.kind, "data pack" | "metadata pack" | "segment") {
            case.backs_up(Parent::None);
        }
    });
}

#[test]
fn a_prune_on_a_damaged_repository_takes_nothing_that_is_needed() {
    matrix(|case| case.prunes());
}

#[test]
fn a_rebuild_on_a_damaged_repository_loses_nothing() {
    matrix(|case| case.rebuilds());
}

#[test]
fn either_slot_opens_a_repository_with_a_damaged_one() {
    let subject = subject();
    for object in subject.objects.iter().filter(|object| object.kind.starts_with("slot")) {
        for damage in DAMAGES {
            let case = Case { subject: &subject, object, damage };
            let (store, clock) = case.copy();
            for unlock in [key(), other_key()] {
                let sealed = keepstone::repo::SealedRepository::open(Arc::new(store.clone())).unwrap();
                sealed.unlock(&unlock, clock.clone()).unwrap_or_else(|error| panic!("{damage:?}: {error}"));
            }
        }
    }
    back_up(&subject.vault.open(), subject.vault.files.path()).unwrap();
}
