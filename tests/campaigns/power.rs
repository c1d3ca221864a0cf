//! The power goes at every flush of what the real program does: whatever a disk may have kept of what was not flushed,
//! every snapshot that the program had told of is there and restores bit for bit, nothing is damaged, and the command
//! that was interrupted goes well when it is run again.
//!
//! The program runs under `strace`; `disk` makes a model of a disk of its calls, proves that the model has seen all of
//! them, and `cuts` builds what may be found after a power cut right before, right after and between flushes.

mod cuts;
mod disk;
mod look;
mod restores;
mod trace;

use super::{first_seed, rounds};
use crate::program::{Place, Run};
use crate::vault::{Files, backup_of, files_below, noise, prune_all};
use cuts::{Cut, Story};
use disk::{Disk, Image, Item};
use keepstone::base::{Kind, Secret, SnapshotId, TimeZone};
use keepstone::chunk::Sizes;
use keepstone::compress::Level;
use keepstone::crypto::slots::{GuardKind, Unlock};
use keepstone::ops::{Context, backup, copy, forget, keys, repair, select};
use keepstone::repo::{Repository, SealedRepository, snapshots};
use look::{Found, Look, Made, demand, told};
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// So many images of each command in every run; with time, all of them.
const IMAGES: u64 = 14;

/// A place with a repository in `vault`, opened by a key file, and what its snapshots hold.
struct Scene {
    place: Place,
    snapshots: BTreeMap<SnapshotId, Files>,
    /// The oldest first.
    in_order: Vec<SnapshotId>,
}

impl Scene {
    fn empty() -> Scene {
        let place = Place::new();
        fs::create_dir_all(place.path("source/of")).unwrap();
        Scene { place, snapshots: BTreeMap::new(), in_order: Vec::new() }
    }

    fn new(parity: &[&str]) -> Scene {
        let scene = Scene::empty();
        scene.run(&[&["init", "--generate-key-file", "vault.key"], parity].concat());
        scene
    }

    /// So many nights of a file that changes a little, one that is new every night, and one that stays.
    fn with_nights(nights: u64, parity: &[&str]) -> Scene {
        let mut scene = Scene::new(parity);
        (0..nights).for_each(|night| {
            scene.write_night(night);
            let run = scene.run(&BACKUP);
            scene.remember(&run);
        });
        scene
    }

    fn write_night(&self, night: u64) {
        let mut dump = noise(1, 260_000);
        for place in 0..4 {
            dump[place * 60_000 + night as usize * 977..][..8].copy_from_slice(&night.to_le_bytes());
        }
        let new = noise(50 + night, 40_000);
        fs::write(self.path("source/dump"), dump).unwrap();
        fs::write(self.path("source/new"), &new).unwrap();
        fs::write(self.path("source/of").join(night.to_string()), &new[..3_000]).unwrap();
    }

    fn remember(&mut self, run: &Run) -> SnapshotId {
        let id = run.json()[0]["snapshot"]["id"].as_str().unwrap().parse().unwrap();
        self.snapshots.insert(id, files_below(&self.path("source")));
        self.in_order.push(id);
        id
    }

    fn path(&self, name: &str) -> PathBuf {
        self.place.path(name).canonicalize().unwrap_or_else(|_| self.place.path(name))
    }

    fn key(&self, name: &str) -> Unlock {
        Unlock::KeyFile(Secret::new(fs::read(self.place.path(name)).unwrap()))
    }

    fn run(&self, args: &[&str]) -> Run {
        self.place.run_with(args, |command| with_key(command, args), b"").expect(0)
    }

    /// Runs a command and watches what it does.
    fn watch(&self, args: &[&str]) -> (Disk, Run) {
        let log = tempfile::tempdir().unwrap();
        let mut disk = Disk::of(&self.path(""));
        let mut command = self.place.command(args);
        with_key(&mut command, args);
        let run = Run::of(trace::traced(&command, &log.path().join("trace")).spawn().unwrap()).expect(0);
        let text = fs::read_to_string(log.path().join("trace")).unwrap();
        let (calls, lines) = trace::read(&text);
        disk.follow(&calls, lines);
        disk.compare();
        (disk, run)
    }

    fn ids(&self) -> BTreeSet<SnapshotId> {
        self.snapshots.keys().copied().collect()
    }

    /// A look at the repository in `vault` that expects all snapshots so far.
    fn look<'l>(&self, again: &'l dyn Fn(&Context) -> Result<Made, String>) -> Look<'l> {
        Look {
            area: "vault",
            keys: vec![self.key("vault.key")],
            source: self.path("source"),
            known: self.snapshots.clone(),
            always: self.ids(),
            when_done: BTreeSet::new(),
            gone_when_done: BTreeSet::new(),
            is_damaged: false,
            again,
        }
    }
}

const BACKUP: [&str; 5] = ["backup", "--host", "alpha", "--json", "source"];

fn with_key(command: &mut Command, args: &[&str]) {
    command.env_remove("KEEPSTONE_PASSWORD");
    if !args.contains(&"--generate-key-file") {
        command.env("KEEPSTONE_KEY_FILE", "vault.key");
    }
}

/// How many images: all of them when there is time.
fn images() -> u64 {
    rounds(IMAGES, u64::MAX)
}

/// Whether the program can be watched here; says so if not.
fn can_watch() -> bool {
    match trace::cannot() {
        None => true,
        Some(reason) => {
            println!("skipped: {reason}");
            false
        }
    }
}

fn survives(name: &'static str, disk: Disk, done: impl Into<String>, look: &Look<'_>) {
    let check = |image: &Image, cut: Cut| look.check(image, cut);
    Story { name, disk, areas: &["vault"], done: done.into(), at_every_change: false, check: &check }
        .survives(first_seed(), images());
}

fn back_up_again(source: &Path) -> impl Fn(&Context) -> Result<Made, String> + '_ {
    |context| {
        let outcome = backup::backup(context, &backup_of(source)).map_err(told("backup"))?;
        Ok(outcome.snapshot.map(|snapshot| (snapshot.id, files_below(source))).into_iter().collect())
    }
}

/// A backup that was watched, and what to expect of it.
fn watched_backup(scene: &mut Scene) -> (Disk, SnapshotId) {
    let night = scene.snapshots.len() as u64;
    scene.write_night(night);
    let (disk, run) = scene.watch(&BACKUP);
    let differences = run.json()[0]["totals"]["delta_bytes"].as_u64().unwrap();
    assert_eq!(differences > 0, night > 0, "later nights are stored as differences");
    (disk, scene.remember(&run))
}

#[test]
fn a_backup_whose_power_goes_at_any_flush_keeps_what_it_told_of() {
    if !can_watch() {
        return;
    }
    for (name, earlier) in [("first backup", 0), ("later backup", 2)] {
        let mut scene = Scene::with_nights(earlier, &[]);
        let before = scene.ids();
        let (disk, id) = watched_backup(&mut scene);
        let source = scene.path("source");
        let again = back_up_again(&source);
        let look = Look { always: before, when_done: BTreeSet::from([id]), ..scene.look(&again) };
        survives(name, disk, id.to_string(), &look);
    }
}

#[test]
fn a_program_that_does_not_flush_is_found_out() {
    if !can_watch() {
        return;
    }
    let mut scene = Scene::with_nights(1, &[]);
    let before = scene.ids();
    let (disk, id) = watched_backup(&mut scene);
    let source = scene.path("source");
    let again = back_up_again(&source);
    let look = Look { always: before, when_done: BTreeSet::from([id]), ..scene.look(&again) };
    let check = |image: &Image, cut: Cut| look.check(image, cut);
    let lost_without = |name, flushed: &dyn Fn(&disk::Flush) -> bool| {
        let mut disk = disk.clone();
        disk.flushes.iter_mut().for_each(|flush| {
            // It covers nothing any more; its end stays a boundary.
            if flush.area == "vault" && !flushed(flush) {
                flush.begun = 0;
            }
        });
        let story =
            Story { name, disk, areas: &["vault"], done: id.to_string(), at_every_change: false, check: &check };
        let tally = story.run(first_seed(), 60);
        println!("{name}: {} of the first {} images lost something", tally.lost.len(), tally.images);
        assert!(!tally.lost.is_empty(), "{name}: nothing was noticed");
        tally.lost
    };
    let lost = lost_without("no flush at all", &|_| false);
    assert!(lost[0].ends_with(&format!("{id} is not listed")), "{}", lost[0]);
    lost_without("no flush of folders", &|flush| !flush.is_folder);
    lost_without("no flush of files", &|flush| flush.is_folder);
}

#[test]
fn an_init_whose_power_goes_at_any_flush_leaves_a_repository_that_opens_or_none() {
    if !can_watch() {
        return;
    }
    let scene = Scene::empty();
    let (disk, _) = scene.watch(&["init", "--generate-key-file", "vault.key", "--json"]);
    let check = |image: &Image, cut: Cut| {
        let key = match image.get("vault.key") {
            Some(Item::File(bytes, _)) => Unlock::KeyFile(Secret::new(bytes.to_vec())),
            _ => Unlock::KeyFile(Secret::new(b"it is not there any more".to_vec())),
        };
        let found = Found::new(image, "vault", &key, Cut { seed: 1, ..cut });
        let none = SealedRepository::open(found.store.clone()).is_err_and(|error| error.kind() == Kind::NoRepository);
        if none {
            demand(!cut.done, || "the repository is gone".to_owned())?;
            let sizes = Sizes::new(4 << 10, 16 << 10, 64 << 10).unwrap();
            let clock = found.clock.clone();
            Repository::create(found.store.clone(), sizes, &scene.key("vault.key"), GuardKind::KeyFile, "", clock)
                .map_err(told("init again"))?;
            return Ok(());
        }
        found.open().map(drop)
    };
    let story =
        Story { name: "init", disk, areas: &["vault"], done: "{".to_owned(), at_every_change: false, check: &check };
    story.survives(first_seed(), images());
}

#[test]
fn a_forget_whose_power_goes_at_any_flush_leaves_whole_snapshots_and_forgets_for_good() {
    if !can_watch() {
        return;
    }
    let scene = Scene::with_nights(3, &[]);
    let gone: BTreeSet<SnapshotId> = scene.in_order[..2].iter().copied().collect();
    let names: Vec<String> = gone.iter().map(SnapshotId::to_string).collect();
    let (disk, _) = scene.watch(&["forget", "--json", &names[0], &names[1]]);
    let again = |context: &Context| {
        let left = snapshots::list(&context.repository).map_err(told("listing"))?.0;
        let left = left.iter().map(|snapshot| snapshot.id).filter(|id| gone.contains(id)).collect();
        let options = forget::Options {
            selection: forget::Selection::Ids(left),
            zone: TimeZone::UTC,
            dry_run: false,
            fresh: None,
        };
        forget::forget(context, &options).map_err(told("forget")).map(|_| Made::new())
    };
    let look = Look { always: &scene.ids() - &gone, gone_when_done: gone.clone(), ..scene.look(&again) };
    survives("forget", disk, "\"forget\"", &look);
}

#[test]
fn a_prune_whose_power_goes_at_any_flush_loses_nothing() {
    if !can_watch() {
        return;
    }
    let mut scene = Scene::with_nights(4, &[]);
    for id in &scene.in_order[..2] {
        scene.run(&["forget", &id.to_string()]);
        scene.snapshots.remove(id);
    }
    let (disk, run) = scene.watch(&["prune", "--max-unused", "0", "--json"]);
    let outcome = run.json().pop().unwrap();
    assert!(outcome["packs_repacked"].as_u64().unwrap() > 0, "{outcome}");
    let again = |context: &Context| prune_all(context).map_err(told("prune")).map(|_| Made::new());
    survives("prune", disk, "\"prune\"", &scene.look(&again));
}

#[test]
fn a_change_of_keys_whose_power_goes_at_any_flush_locks_nobody_out() {
    if !can_watch() {
        return;
    }
    let scene = Scene::with_nights(1, &[]);
    let again = |context: &Context| {
        keys::rewrap(context, None, &scene.key("vault.key"), GuardKind::KeyFile)
            .map_err(told("rewrap"))
            .map(|_| Made::new())
    };
    let (disk, _) = scene.watch(&["key", "rewrap", "--json"]);
    survives("key rewrap", disk, "{", &scene.look(&again));

    fs::write(scene.path("new.key"), b"another key file of at least sixteen bytes").unwrap();
    let new = scene.key("new.key");
    let again = |context: &Context| {
        keys::passwd(context, None, &new, GuardKind::KeyFile).map_err(told("passwd")).map(|_| Made::new())
    };
    let (disk, _) = scene.watch(&["key", "passwd", "--new-key-file", "new.key", "--json"]);
    let look = Look { keys: vec![scene.key("vault.key"), new.clone()], ..scene.look(&again) };
    survives("key passwd", disk, "{", &look);
}

#[test]
fn a_rotation_whose_power_goes_at_any_flush_goes_on_where_it_was() {
    if !can_watch() {
        return;
    }
    let scene = Scene::with_nights(2, &[]);
    let again = |context: &Context| {
        keys::rotate(context).map_err(told("rotate"))?;
        let resealed = keys::reseal(context, &keys::ResealOptions::default()).map_err(told("reseal"))?;
        demand(resealed.failed.is_empty(), || format!("{:?}", resealed.failed)).map(|()| Made::new())
    };
    let (disk, _) = scene.watch(&["key", "rotate", "--reseal", "--json"]);
    survives("key rotate --reseal", disk, "{", &scene.look(&again));

    let key = scene.key("vault.key");
    let again =
        |context: &Context| keys::exchange_root(context, &key).map_err(told("rotate --root")).map(|_| Made::new());
    let (disk, _) = scene.watch(&["key", "rotate", "--root", "--json"]);
    survives("key rotate --root", disk, "{", &scene.look(&again));
}

#[test]
fn a_repair_whose_power_goes_at_any_flush_is_brought_to_its_end_by_the_next() {
    if !can_watch() {
        return;
    }
    let scene = Scene::with_nights(2, &["--parity", "20%"]);
    let largest = files_below(&scene.path("vault/packs")).into_iter().max_by_key(|(_, bytes)| bytes.len()).unwrap();
    let (name, mut bytes) = largest;
    bytes[5_000..6_000].fill(1);
    fs::write(scene.path("vault/packs").join(&name), &bytes).unwrap();
    let (disk, run) = scene.watch(&["repair", "apply", "--all", "--json"]);
    assert!(!run.json()[0]["mended"].as_array().unwrap().is_empty(), "{}", run.text());
    let again = |context: &Context| {
        let options = repair::Options { all: true, ..repair::Options::default() };
        let applied = repair::apply(context, &options, &scene.key("vault.key")).map_err(told("repair"))?;
        demand(!applied.is_damage(), || format!("{:?}", applied.left)).map(|()| Made::new())
    };
    let look = Look { is_damaged: true, ..scene.look(&again) };
    let check = |image: &Image, cut: Cut| {
        // What is damaged is kept, too.
        let holds = |item: &Item| matches!(item, Item::File(kept, _) if **kept == bytes);
        demand(image.values().any(holds), || "the damaged pack is gone".to_owned())?;
        look.check(image, cut)
    };
    let done = "\"repair_apply\"".to_owned();
    Story { name: "repair apply", disk, areas: &["vault"], done, at_every_change: false, check: &check }
        .survives(first_seed(), images());
}

#[test]
fn a_copy_whose_power_goes_at_any_flush_keeps_what_it_told_of_in_both_repositories() {
    if !can_watch() {
        return;
    }
    let scene = Scene::with_nights(2, &[]);
    let from = ["--from", "vault", "--from-key-file", "vault.key"];
    let init = ["-r", "second", "init", "--generate-key-file", "second.key"];
    scene.run(&[&init[..], &from].concat());
    let copy = ["-r", "second", "--key-file", "second.key", "copy", "--json"];
    let (disk, run) = scene.watch(&[&copy[..], &from].concat());
    let mut copied = BTreeMap::new();
    for one in run.json().iter().filter(|one| one["message_type"] == "copied_snapshot") {
        let id = |value: &serde_json::Value| value.as_str().unwrap().parse::<SnapshotId>().unwrap();
        copied.insert(id(&one["copy"]), scene.snapshots[&id(&one["snapshot"]["id"])].clone());
    }
    assert_eq!(copied.len(), 2);
    let vault_key = scene.key("vault.key");
    let check = |image: &Image, cut: Cut| {
        let source = Found::new(image, "vault", &vault_key, cut);
        let again = |context: &Context| {
            let source = source.open()?;
            let listing = select::list(&source, &select::Filter::default()).map_err(told("listing"))?;
            let options = copy::Options { listing, level: Level::Default, verify: false, dry_run: false };
            let outcome = copy::copy(&source, context, &options).map_err(told("copy"))?;
            demand(!outcome.damage() && outcome.snapshots.len() == 2, || format!("{:?}", outcome.damages))?;
            // What was cut off before it was committed has another name now.
            let made = outcome.snapshots.iter().filter_map(|one| match one.fate {
                copy::Fate::Copied(id) => Some((id, scene.snapshots[&one.snapshot.id].clone())),
                _ => None,
            });
            Ok(made.collect())
        };
        let second = Look {
            area: "second",
            keys: vec![scene.key("second.key")],
            known: copied.clone(),
            always: BTreeSet::new(),
            when_done: copied.keys().copied().collect(),
            ..scene.look(&again)
        };
        second.check(image, cut)?;
        scene.look(&|_| Ok(Made::new())).check(image, cut)
    };
    let story = Story {
        name: "copy",
        disk,
        areas: &["vault", "second"],
        done: "\"copy\"".to_owned(),
        at_every_change: false,
        check: &check,
    };
    story.survives(first_seed(), images());
}
