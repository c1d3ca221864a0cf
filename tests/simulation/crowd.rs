//! Crowds: writers, readers, those who forget and those who prune, all at once, in an order that a seed decides, with
//! faults, lost answers, crashes, sleep and clocks that differ.
//!
//! What must hold: whoever was not hurt succeeds; every snapshot that was committed and not forgotten can be read bit for
//! bit, by a client that knows nothing, whenever somebody has ended something and in the end; and two prunes after the
//! last session leave nothing that is not needed.
//!
//! A seed decides the order of requests and all that happens to them. Names of objects are random as ever: where the code
//! goes by them, a second run of a seed may differ from the first.

use super::scheduler::{Dice, Fortune, Gate, Scheduler};
use crate::vault::{backup_of, count, key, noise, open, prune_all, read_index, restore_all_of};
use keepstone::base::{Clock, SnapshotId, Stop};
use keepstone::chunk::Sizes;
use keepstone::crypto::slots::GuardKind;
use keepstone::ops::backup::{self, Parent};
use keepstone::ops::{Context, forget, prune, restore};
use keepstone::repo::{Repository, session, snapshots};
use keepstone::store::{Area, Memory, ObjectStore, Retry};
use std::collections::{BTreeMap, BTreeSet};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock};
use std::time::Duration;

/// What lies in a snapshot, by name.
pub type Content = BTreeMap<String, Vec<u8>>;

/// What a client's view of the store makes of it; the plain store if nothing is wrong with it.
pub type View = dyn Fn(usize, Memory) -> Arc<dyn ObjectStore> + Sync;

/// What is known of a world beyond what its store says.
#[derive(Default)]
struct Model {
    /// What the runs that were begun would hold, by their tags.
    runs: BTreeMap<String, Content>,
    /// Snapshots whose backups ended well.
    committed: BTreeMap<SnapshotId, String>,
    /// Snapshots that somebody has set out to forget.
    forgotten: BTreeSet<SnapshotId>,
    /// What went wrong.
    wrong: Vec<String>,
}

struct World<'v> {
    store: Memory,
    clock: Clock,
    scheduler: Arc<Scheduler>,
    model: Mutex<Model>,
    view: &'v View,
}

/// A repository with three nights, the first of which is forgotten: made once, then copied.
struct Past {
    store: Memory,
    runs: BTreeMap<String, Content>,
    committed: BTreeMap<SnapshotId, String>,
}

fn start() -> Clock {
    // In the future: files that were written just now have not changed lately.
    Clock::manual("2031-05-01T12:00:00Z".parse().unwrap())
}

/// What a file may hold: dumps that are alike, and a few things that come and go.
fn variant(dice: &mut Dice) -> Content {
    let mut content = Content::new();
    let mut dump = noise(1, 40_000);
    let night = dice.below(4);
    dump[10_000 + night as usize * 50..][..30].copy_from_slice(&noise(100 + night, 30));
    content.insert("dump.sql".to_owned(), dump);
    for rare in 0..3u64 {
        if dice.chance(400) {
            content.insert(format!("rare-{rare}"), noise(200 + rare, 18_000));
        }
    }
    content
}

fn write(folder: &Path, content: &Content) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if !content.contains_key(&*path.file_name().unwrap().to_string_lossy()) {
            std::fs::remove_file(path).unwrap();
        }
    }
    for (name, bytes) in content {
        let path = folder.join(name);
        // What is the same stays as it is: then the parent's word counts.
        if std::fs::read(&path).ok().as_ref() != Some(bytes) {
            std::fs::write(path, bytes).unwrap();
        }
    }
}

fn options(folder: &Path, tag: &str, host: &str, parent: Parent) -> backup::Options {
    backup::Options { tags: vec![tag.to_owned()], host: Some(host.to_owned()), parent, ..backup_of(folder) }
}

fn past() -> &'static Past {
    static PAST: OnceLock<Past> = OnceLock::new();
    PAST.get_or_init(|| {
        let clock = start();
        let store = Memory::with_clock(clock.clone());
        let shared: Arc<dyn ObjectStore> = Arc::new(store.clone());
        let sizes = Sizes::new(4 << 10, 16 << 10, 64 << 10).unwrap();
        Repository::create(shared.clone(), sizes, &key(), GuardKind::KeyFile, "first", clock.clone()).unwrap();
        let (mut runs, mut committed) = (BTreeMap::new(), BTreeMap::new());
        let folder = tempfile::tempdir().unwrap();
        let mut dice = Dice::new(7);
        for night in 0..3 {
            let content = variant(&mut dice);
            write(folder.path(), &content);
            let tag = format!("past-{night}");
            let context = open(shared.clone(), &clock).unwrap();
            let outcome = backup::backup(&context, &options(folder.path(), &tag, "alpha", Parent::Newest)).unwrap();
            clock.advance(Duration::from_secs(3600));
            let id = outcome.snapshot.unwrap().id;
            if night == 0 {
                forget::remove(&context, id).unwrap();
            } else {
                committed.insert(id, tag.clone());
            }
            runs.insert(tag, content);
        }
        Past { store, runs, committed }
    })
}

fn copy_of(from: &Memory, clock: Clock) -> Memory {
    let copy = Memory::with_clock(clock);
    for key in crate::vault::keys(from) {
        copy.put(&key, &from.get(&key, u64::MAX).unwrap()).unwrap();
    }
    copy
}

/// How a schedule is drawn up.
pub struct Crowd<'v> {
    pub clients: u64,
    pub actions: u64,
    pub view: &'v View,
    /// Faults, crashes and sleep happen.
    pub hurts: bool,
}

/// Nobody lies.
pub fn honest(_: usize, store: Memory) -> Arc<dyn ObjectStore> {
    Arc::new(store)
}

/// Runs one schedule; gives what went wrong, and what happened.
pub fn run(seed: u64, crowd: &Crowd<'_>) -> Result<(), String> {
    let mut dice = Dice::new(seed);
    let clock = start();
    clock.advance(Duration::from_secs(24 * 3600));
    let store = copy_of(&past().store, clock.clone());
    let clients = 2 + dice.below(crowd.clients - 1);
    let fortunes: Vec<(Fortune, Clock)> = (0..clients).map(|_| fortune(&mut dice, crowd.hurts, &clock)).collect();
    let scheduler = Scheduler::new(dice.below(u64::MAX), clock.clone(), &fortunes);
    let model = Model { runs: past().runs.clone(), committed: past().committed.clone(), ..Model::default() };
    let world = World { store, clock, scheduler: scheduler.clone(), model: Mutex::new(model), view: crowd.view };
    std::thread::scope(|scope| {
        for (client, (_, clock)) in fortunes.iter().enumerate() {
            let dice = Dice::new(dice.below(u64::MAX));
            let actor = Actor { world: &world, client, clock: clock.clone(), dice, retries: client % 2 == 0 };
            scope.spawn(move || actor.live(crowd.actions));
        }
    });
    world.clock.advance(Duration::from_secs(26 * 3600));
    world.end();
    let wrong = std::mem::take(&mut world.model().wrong);
    match wrong.is_empty() {
        true => Ok(()),
        false => Err(format!("{}\n{}", wrong.join("\n"), scheduler.trace().join("\n"))),
    }
}

fn fortune(dice: &mut Dice, hurts: bool, clock: &Clock) -> (Fortune, Clock) {
    let mut fortune = Fortune::default();
    if hurts {
        match dice.below(5) {
            0 => fortune.crashes = 15,
            1 => fortune.sleeps = 12,
            2 => (fortune.fails, fortune.loses) = (15, 25),
            3 => (fortune.sleeps, fortune.loses) = (25, 10),
            _ => {}
        }
    }
    // Up to three quarters of an hour fast or slow.
    let minutes = dice.below(90) as i64 - 45;
    let own = Clock::manual(clock.now() + keepstone::base::clock::Span::new().minutes(minutes));
    (fortune, own)
}

impl World<'_> {
    fn model(&self) -> MutexGuard<'_, Model> {
        self.model.lock().unwrap()
    }

    fn wrong(&self, what: String) {
        self.scheduler.note(format!("WRONG: {what}"));
        self.model().wrong.push(what);
    }

    /// Reads all that is there as somebody who knows nothing.
    fn look(&self, when: &str) {
        let context = match open(Arc::new(self.store.clone()), &self.clock) {
            Ok(context) => context,
            Err(error) => return self.wrong(format!("{when}: {error}")),
        };
        let opened = context.index.refresh(&self.store, context.repository.keyring()).unwrap();
        for problem in &opened.damaged {
            self.wrong(format!("{when}: {}: {}", problem.subject, problem.message));
        }
        let (listed, damaged) = snapshots::list(&context.repository).unwrap();
        if !damaged.is_empty() {
            self.wrong(format!("{when}: damaged snapshots"));
        }
        let model = self.model();
        let there: BTreeSet<SnapshotId> = listed.iter().map(|snapshot| snapshot.id).collect();
        let lost: Vec<_> =
            model.committed.keys().filter(|id| !there.contains(id) && !model.forgotten.contains(id)).copied().collect();
        let runs = model.runs.clone();
        drop(model);
        if !lost.is_empty() {
            self.wrong(format!("{when}: snapshots that are gone: {lost:?}"));
        }
        for snapshot in &listed {
            match restore_all_of(&context, snapshot.root) {
                Ok(content) if Some(&content) == runs.get(&snapshot.tags[0]) => {}
                Ok(_) => self.wrong(format!("{when}: {} ({}) holds something else", snapshot.id, snapshot.tags[0])),
                Err(error) => self.wrong(format!("{when}: {} ({}): {error}", snapshot.id, snapshot.tags[0])),
            }
        }
    }

    /// Everybody is gone: two prunes leave what is needed and nothing else.
    fn end(&self) {
        self.look("in the end");
        if !self.model().wrong.is_empty() {
            return;
        }
        let again = || open(Arc::new(self.store.clone()), &self.clock).unwrap();
        for _ in 0..2 {
            if let Err(error) = prune_all(&again()) {
                return self.wrong(format!("the last prunes: {error}"));
            }
        }
        self.look("after the last prunes");
        let context = again();
        if let Err(error) = read_index(&context) {
            self.wrong(format!("something in the index cannot be read: {error}"));
        }
        let left =
            prune::Options { dry_run: true, max_unused: prune::MaxUnused::Bytes(0), ..prune::Options::default() };
        let left = match prune::prune(&context, &left) {
            Ok(left) => left,
            Err(error) => return self.wrong(format!("the last look: {error}")),
        };
        let open = session::condemned_numbers(&self.store).unwrap();
        let marks = (count(&self.store, Area::Sessions), count(&self.store, Area::Condemned));
        if (left.packs_deleted, left.unused_bytes) != (0, 0) || !open.is_empty() || marks.0 > 0 || marks.1 > 1 {
            self.wrong(format!("garbage is left: {left:?}, records {open:?}, marks {marks:?}"));
        }
    }
}

struct Actor<'w> {
    world: &'w World<'w>,
    client: usize,
    clock: Clock,
    dice: Dice,
    retries: bool,
}

impl Actor<'_> {
    fn live(mut self, actions: u64) {
        let (world, client) = (self.world, self.client);
        world.scheduler.begin(client);
        let folder = tempfile::tempdir().unwrap();
        for action in 0..1 + self.dice.below(actions) {
            let hours = self.dice.below(6);
            world.scheduler.rest(client, hours);
            if world.scheduler.has_crashed(client) {
                break;
            }
            let _ = world.scheduler.was_hurt(client);
            let done = catch_unwind(AssertUnwindSafe(|| self.act(action, folder.path())));
            if let Err(panic) = done {
                let text = panic.downcast_ref::<String>().cloned();
                let text = text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()));
                world.wrong(format!("{client} panicked: {}", text.unwrap_or_default()));
            }
            if self.dice.chance(150) {
                world.look(&format!("after action {action} of {client}"));
            }
        }
        world.scheduler.finish(client);
    }

    fn context(&self) -> Result<Context, keepstone::ops::Error> {
        let inner = (self.world.view)(self.client, self.world.store.clone());
        let gate = Gate { scheduler: self.world.scheduler.clone(), client: self.client, inner };
        let store: Arc<dyn ObjectStore> = match self.retries {
            true => Arc::new(Retry::new(gate, Stop::new(), |_| ()).waiting(|_| ())),
            false => Arc::new(gate),
        };
        open(store, &self.clock)
    }

    fn act(&mut self, action: u64, folder: &Path) {
        let dice = self.dice.below(10);
        let (what, done) = match dice {
            0..=3 => ("backup", self.back_up(action, folder)),
            4..=6 => ("prune", self.prune()),
            7 | 8 => ("forget", self.forget()),
            _ => ("restore", self.restore()),
        };
        // Whoever slept, or was cut off, may find that what he looked at is gone.
        let hurt = self.world.scheduler.was_hurt(self.client);
        if let Err(error) = done
            && !hurt
        {
            self.world.wrong(format!("{} of {}: {error}", what, self.client));
        }
    }

    fn back_up(&mut self, action: u64, folder: &Path) -> Result<(), keepstone::ops::Error> {
        let content = variant(&mut self.dice);
        write(folder, &content);
        let tag = format!("{}-{action}", self.client);
        self.world.scheduler.note(format!("{} backs up {tag}: {:?}", self.client, content.keys()));
        self.world.model().runs.insert(tag.clone(), content);
        let host = if self.dice.chance(500) { "alpha".to_owned() } else { format!("host-{}", self.client) };
        let parent = if self.dice.chance(300) { Parent::None } else { Parent::Newest };
        let outcome = backup::backup(&self.context()?, &options(folder, &tag, &host, parent))?;
        let id = outcome.snapshot.unwrap().id;
        self.world.scheduler.note(format!("{} has committed {tag} as {id}", self.client));
        self.world.model().committed.insert(id, tag);
        match outcome.damages.first() {
            None => Ok(()),
            Some(damage) => {
                Err(keepstone::ops::Error::Refused(format!("damage: {}: {}", damage.subject, damage.message)))
            }
        }
    }

    fn prune(&mut self) -> Result<(), keepstone::ops::Error> {
        let max_unused = match self.dice.below(3) {
            0 => prune::MaxUnused::Unlimited,
            1 => prune::MaxUnused::default(),
            _ => prune::MaxUnused::Bytes(0),
        };
        self.world.scheduler.note(format!("{} prunes", self.client));
        let outcome = prune::prune(&self.context()?, &prune::Options { max_unused, ..prune::Options::default() })?;
        let (deleted, spared, waits) = (outcome.packs_deleted, outcome.packs_spared, outcome.waiting.is_some());
        self.world
            .scheduler
            .note(format!("{} pruned: {deleted} deleted, {spared} spared, waits: {waits}", self.client));
        Ok(())
    }

    fn some_snapshot(
        &mut self,
        context: &Context,
    ) -> Result<Option<keepstone::format::snapshot::Snapshot>, keepstone::ops::Error> {
        let mut listed = snapshots::list(&context.repository)?.0;
        let chosen = self.dice.below(listed.len() as u64) as usize;
        Ok(if listed.is_empty() { None } else { Some(listed.swap_remove(chosen)) })
    }

    fn forget(&mut self) -> Result<(), keepstone::ops::Error> {
        let context = self.context()?;
        let Some(snapshot) = self.some_snapshot(&context)? else { return Ok(()) };
        self.world.model().forgotten.insert(snapshot.id);
        self.world.scheduler.note(format!("{} forgets {} ({})", self.client, snapshot.id, snapshot.tags[0]));
        forget::remove(&context, snapshot.id)
    }

    fn restore(&mut self) -> Result<(), keepstone::ops::Error> {
        let context = self.context()?;
        let Some(snapshot) = self.some_snapshot(&context)? else { return Ok(()) };
        self.world.scheduler.note(format!("{} restores {} ({})", self.client, snapshot.id, snapshot.tags[0]));
        let target = tempfile::tempdir().unwrap();
        let outcome = restore::restore(&context, &snapshot, &restore::Options::new(target.path().to_owned()))?;
        if outcome.problem_count > 0 && !self.world.model().forgotten.contains(&snapshot.id) {
            let text = format!("{}: {:?}", snapshot.tags[0], outcome.problems);
            return Err(keepstone::ops::Error::Refused(text));
        }
        Ok(())
    }
}

/// So many schedules run at once: in each only one thread is at work, and most of the time is spent on handing over.
const AT_ONCE: usize = 12;

/// Runs many schedules; gives the seeds that went wrong, with what happened.
pub fn run_many(seeds: std::ops::Range<u64>, crowd: &Crowd<'_>, most: usize) -> Vec<(u64, String)> {
    let next = Mutex::new(seeds);
    let found = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..AT_ONCE {
            scope.spawn(|| {
                loop {
                    let Some(seed) = next.lock().unwrap().next() else { return };
                    if is_long() && seed % 100 == 0 {
                        println!("seed {seed}");
                    }
                    if let Err(wrong) = run(seed, crowd) {
                        found.lock().unwrap().push((seed, wrong));
                    }
                    if found.lock().unwrap().len() >= most {
                        return;
                    }
                }
            });
        }
    });
    found.into_inner().unwrap()
}

/// The seed to be run alone, if one was asked for.
fn asked_for() -> Option<u64> {
    std::env::var("KEEPSTONE_SEED").ok().map(|seed| seed.parse().expect("KEEPSTONE_SEED is a number"))
}

/// Whether there is time for more than a usual run.
fn is_long() -> bool {
    std::env::var_os("KEEPSTONE_LONG").is_some()
}

fn seeds(usual: u64) -> std::ops::Range<u64> {
    match asked_for() {
        Some(seed) => seed..seed + 1,
        None => 1..usual * if is_long() { 100 } else { 1 } + 1,
    }
}

fn tell(wrong: Vec<(u64, String)>) {
    if let Some((seed, what)) = wrong.first() {
        let folder = std::env::temp_dir().join(format!("keepstone-schedule-{seed}"));
        let _ = std::fs::write(&folder, what);
        let lines: Vec<&str> = what.lines().take(40).collect();
        panic!("seed {seed} (run it alone with KEEPSTONE_SEED={seed}; all of it in {folder:?}):\n{}", lines.join("\n"));
    }
}

#[test]
fn crowds_lose_nothing_and_leave_no_garbage() {
    let crowd = Crowd { clients: 4, actions: 3, view: &honest, hurts: true };
    tell(run_many(seeds(1500), &crowd, 1));
}

#[test]
fn crowds_that_nothing_happens_to_never_fail() {
    let crowd = Crowd { clients: 4, actions: 4, view: &honest, hurts: false };
    tell(run_many(seeds(500), &crowd, 1));
}
