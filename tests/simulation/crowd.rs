//! Crowds: writers, readers, those who forget and those who prune, all at once, in an order that a seed decides, with
//! faults, lost answers, crashes, sleep and clocks that differ.
//!
//! What must hold: whoever was not hurt succeeds, and what [`judge`](super::judge) says, whenever somebody has ended
//! something and in the end.
//!
//! A seed decides the order of requests and all that happens to them. Names of objects are random as ever: where the code
//! goes by them, a second run of a seed may differ from the first.

use super::gate::Gate;
use super::judge::{self, Content, Known, copy_of};
use super::scheduler::{Dice, Fortune, Scheduler};
use crate::founder::found;
use crate::vault::{backup_of, noise, open};
use keepstone::base::clock::Stopwatch;
use keepstone::base::{Clock, Stop};
use keepstone::ops::backup::{self, Parent};
use keepstone::ops::{Context, forget, prune, restore};
use keepstone::repo::snapshots;
use keepstone::store::{Memory, ObjectStore, Retry};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock};
use std::time::Duration;

/// What a client's view of the store makes of it; the plain store if nothing is wrong with it.
pub type View = dyn Fn(usize, Memory) -> Arc<dyn ObjectStore> + Sync;

struct World<'v> {
    store: Memory,
    clock: Clock,
    scheduler: Arc<Scheduler>,
    known: Mutex<Known>,
    wrong: Mutex<Vec<String>>,
    view: &'v View,
}

/// A repository with three nights, the first of which is forgotten: made once, then copied.
struct Past {
    store: Memory,
    known: Known,
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
        found(shared.clone(), "first", &clock).unwrap();
        let mut known = Known::default();
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
                known.committed.insert(id, tag.clone());
            }
            known.runs.insert(tag, content);
        }
        Past { store, known }
    })
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
    let known = Mutex::new(past().known.clone());
    let world = World { store, clock, scheduler: scheduler.clone(), known, wrong: Mutex::default(), view: crowd.view };
    std::thread::scope(|scope| {
        for (client, (_, clock)) in fortunes.iter().enumerate() {
            let dice = Dice::new(dice.below(u64::MAX));
            let actor = Actor { world: &world, client, clock: clock.clone(), dice, retries: client % 2 == 0 };
            scope.spawn(move || actor.live(crowd.actions));
        }
    });
    world.clock.advance(Duration::from_secs(26 * 3600));
    world.end();
    let wrong = world.wrong.into_inner().unwrap();
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
    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap()
    }

    fn wrong(&self, what: String) {
        self.scheduler.note(format!("WRONG: {what}"));
        self.wrong.lock().unwrap().push(what);
    }

    fn look(&self, when: &str) {
        let known = self.known().clone();
        judge::look(&self.store, &self.clock, &known).iter().for_each(|what| self.wrong(format!("{when}: {what}")));
    }

    fn end(&self) {
        self.look("in the end");
        if !self.wrong.lock().unwrap().is_empty() {
            return;
        }
        let known = self.known().clone();
        for what in judge::settle(&self.store, &self.clock, &known, &|store| Arc::new(store)) {
            self.wrong(format!("after the last prunes: {what}"));
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
            if self.dice.chance(60) {
                world.look(&format!("after action {action} of {client}"));
            }
        }
        world.scheduler.finish(client);
    }

    fn context(&self) -> Result<Context, keepstone::ops::Error> {
        let inner = (self.world.view)(self.client, self.world.store.clone());
        let gate = Gate { order: self.world.scheduler.clone(), client: self.client, inner };
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
        self.world.known().runs.insert(tag.clone(), content);
        let host = if self.dice.chance(500) { "alpha".to_owned() } else { format!("host-{}", self.client) };
        let parent = if self.dice.chance(300) { Parent::None } else { Parent::Newest };
        let outcome = backup::backup(&self.context()?, &options(folder, &tag, &host, parent))?;
        let id = outcome.snapshot.unwrap().id;
        self.world.scheduler.note(format!("{} has committed {tag} as {id}", self.client));
        self.world.known().committed.insert(id, tag);
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
        self.world.known().forgotten.insert(snapshot.id);
        self.world.scheduler.note(format!("{} forgets {} ({})", self.client, snapshot.id, snapshot.tags[0]));
        forget::remove(&context, snapshot.id)
    }

    fn restore(&mut self) -> Result<(), keepstone::ops::Error> {
        let context = self.context()?;
        let Some(snapshot) = self.some_snapshot(&context)? else { return Ok(()) };
        self.world.scheduler.note(format!("{} restores {} ({})", self.client, snapshot.id, snapshot.tags[0]));
        let target = tempfile::tempdir().unwrap();
        let outcome = restore::restore(&context, &snapshot, &restore::Options::new(target.path().to_owned()))?;
        if outcome.problem_count > 0 && !self.world.known().forgotten.contains(&snapshot.id) {
            let text = format!("{}: {:?}", snapshot.tags[0], outcome.problems);
            return Err(keepstone::ops::Error::Refused(text));
        }
        Ok(())
    }
}

/// So many schedules run at once: in each only one thread is at work, and most of the time is spent on handing over.
const AT_ONCE: usize = 12;

/// Runs many schedules, until so much time has passed if it is bounded; gives the seeds that went wrong, with what
/// happened.
pub fn run_many(
    seeds: std::ops::Range<u64>,
    crowd: &Crowd<'_>,
    most: usize,
    time: Option<Duration>,
) -> Vec<(u64, String)> {
    let watch = Stopwatch::start();
    let next = Mutex::new(seeds);
    let found = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..AT_ONCE {
            scope.spawn(|| {
                loop {
                    if time.is_some_and(|time| watch.elapsed() > time) {
                        return;
                    }
                    let Some(seed) = next.lock().unwrap().next() else { return };
                    if time.is_some() && seed % 100 == 0 {
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
    if time.is_some() {
        println!("up to seed {}, {} s", next.lock().unwrap().start, watch.elapsed().as_secs());
    }
    found.into_inner().unwrap()
}

/// How long each test of crowds goes on in a long run that says no more.
const LONG: Duration = Duration::from_secs(3600);

fn number_in(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().unwrap_or_else(|_| panic!("{name} is a number")))
}

/// How long to go on if it is to be longer than usual: with KEEPSTONE_LONG_SECONDS so long, with KEEPSTONE_LONG alone
/// [`LONG`].
fn long() -> Option<Duration> {
    let asked = number_in("KEEPSTONE_LONG_SECONDS").map(Duration::from_secs);
    asked.or_else(|| std::env::var_os("KEEPSTONE_LONG").map(|_| LONG))
}

/// Tries a crowd by so many seeds, or for as long as was asked for. KEEPSTONE_SEED names one seed; of a long run it is the
/// first, so that a second one does not try the same.
fn go_well(usual: u64, crowd: &Crowd<'_>) {
    let seeds = match (number_in("KEEPSTONE_SEED"), long()) {
        (Some(seed), None) => seed..seed + 1,
        (first, Some(_)) => first.unwrap_or(1)..u64::MAX,
        (None, None) => 1..usual + 1,
    };
    if let Some((seed, what)) = run_many(seeds, crowd, 1, long()).first() {
        let folder = std::env::temp_dir().join(format!("keepstone-schedule-{seed}"));
        let _ = std::fs::write(&folder, what);
        let lines: Vec<&str> = what.lines().take(40).collect();
        panic!("seed {seed} (run it alone with KEEPSTONE_SEED={seed}; all of it in {folder:?}):\n{}", lines.join("\n"));
    }
}

#[test]
fn crowds_lose_nothing_and_leave_no_garbage() {
    go_well(1500, &Crowd { clients: 4, actions: 3, view: &honest, hurts: true });
}

#[test]
fn crowds_that_nothing_happens_to_never_fail() {
    go_well(500, &Crowd { clients: 4, actions: 4, view: &honest, hurts: false });
}
