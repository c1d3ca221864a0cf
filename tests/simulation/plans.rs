//! Plans: who does what, who goes on when, and one place that is left open, which is tried everywhere.
//!
//! A crowd goes through a window that is open between two requests only by luck. A plan leads there: its turns stop one
//! client before the request that matters and let the others go on; the open place is every request of a client in turn.
//! So a plan is all schedules with that many changes of turn in which only one is not fixed, and each is tried.

use super::gate::Gate;
use super::judge::{self, Content, Known, copy_of};
use super::liar::{Liar, Lie};
use super::turns::{Clocks, Moment, Turn, Turns};
use crate::vault::{self, Vault, backup_of, noise, open};
use keepstone::base::{Clock, SnapshotId};
use keepstone::format::snapshot::Snapshot;
use keepstone::ops::backup::{self, Parent};
use keepstone::ops::{Context, Error, forget, prune, tag};
use keepstone::repo::snapshots;
use keepstone::store::{Memory, ObjectStore};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, OnceLock};

/// The place that is left open: each request in turn that changes something or lists.
pub const ANY_STEP: Moment = Moment::Step(0);
/// The same, of all requests.
pub const ANY_REQUEST: Moment = Moment::Request(0);

/// What a client does.
#[derive(Clone, Copy, Debug)]
pub enum Act {
    /// Backs a folder up.
    BackUp(&'static str, Files),
    /// The same beside the newest snapshot of that folder.
    BackUpBeside(&'static str, Files),
    /// The same as the first, with an index that was made before.
    BackUpWithCache(&'static str, Files),
    /// Frees all that can be freed.
    Prune,
    /// Frees only packs that nobody needs.
    PruneUnneeded,
    /// Forgets a snapshot, if it is there.
    Forget(&'static str),
    /// Gives a snapshot another tag.
    Tag(&'static str, &'static str),
    /// Restores a snapshot and compares it.
    Restore(&'static str),
    /// Reads everything.
    Verify,
}

/// The folders that there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Files {
    /// What only the first night held, and what others hang on: whoever backs that up once it is forgotten finds all of it
    /// among the garbage.
    Old,
    /// A dump that differs a little from the first night's.
    Next,
    /// Something that nobody has seen.
    New,
}

impl Files {
    const ALL: [Files; 3] = [Files::Old, Files::Next, Files::New];

    fn content(self) -> Content {
        let mut next = dump(0);
        next[60_000..60_030].fill(7);
        let files = match self {
            Files::Old => vec![("rare", noise(50, 50_000)), ("dump.sql", dump(0))],
            Files::Next => vec![("dump.sql", next)],
            Files::New => vec![("new", noise(70, 30_000))],
        };
        files.into_iter().map(|(name, bytes)| (name.to_owned(), bytes)).collect()
    }
}

/// One who works on the repository.
#[derive(Clone, Debug, Default)]
pub struct Client {
    pub acts: Vec<Act>,
    /// He slept, or meets what has been taken away before he came: he may fail.
    pub may_fail: bool,
    /// His clock is the store's.
    pub by_the_store: bool,
    /// What his store shows him, whatever rules are kept.
    pub always: &'static [Lie],
}

/// Somebody who does these things, one after the other.
pub fn does(acts: impl IntoIterator<Item = Act>) -> Client {
    Client { acts: acts.into_iter().collect(), ..Client::default() }
}

/// The same, and he may fail.
pub fn tries(acts: impl IntoIterator<Item = Act>) -> Client {
    Client { may_fail: true, ..does(acts) }
}

/// Who does what, and who goes on when.
#[derive(Clone, Debug)]
pub struct Plan {
    pub clients: Vec<Client>,
    /// One of them may end at [`ANY_STEP`] or [`ANY_REQUEST`].
    pub turns: Vec<Turn>,
}

/// Who breaks which rules.
#[derive(Clone, Copy, Debug, Default)]
pub struct Broken<'l> {
    /// By client.
    pub lies: &'l [(usize, &'l [Lie])],
    /// Those who prune in the end break these.
    pub in_the_end: &'l [Lie],
}

/// Nobody breaks a rule.
pub const HONEST: Broken<'static> = Broken { lies: &[], in_the_end: &[] };

/// A dump that changes a little each night, so that nights hang on one another.
pub fn dump(night: u64) -> Vec<u8> {
    let mut dump = noise(1, 120_000);
    for place in 0..3 {
        dump[place * 40_000 + 2_000 + night as usize * 900..][..40]
            .copy_from_slice(&noise(night * 10 + place as u64, 40));
    }
    dump
}

/// A repository with three nights: made once, then copied.
struct Past {
    store: Memory,
    clock: Clock,
    known: Known,
}

fn past() -> &'static Past {
    static PAST: OnceLock<Past> = OnceLock::new();
    PAST.get_or_init(|| {
        // In the future: files that were written just now have not changed lately.
        let vault = Vault::at("2031-05-01T12:00:00Z");
        let mut known = Known::default();
        for night in 0..3 {
            let mut content = Content::new();
            content.insert("dump.sql".to_owned(), dump(night));
            content.insert("some".to_owned(), noise(60 + night, 20_000));
            if night == 0 {
                content.insert("rare".to_owned(), noise(50, 50_000));
            } else {
                let _ = std::fs::remove_file(vault.files.path().join("rare"));
            }
            content.iter().for_each(|(name, bytes)| vault.write(name, bytes));
            vault.hours(1);
            let tag = format!("night-{night}");
            let options = backup::Options { tags: vec![tag.clone()], ..backup_of(vault.files.path()) };
            let outcome = backup::backup(&vault.open(), &options).unwrap();
            known.committed.insert(outcome.snapshot.unwrap().id, tag.clone());
            known.runs.insert(tag, content);
        }
        vault.hours(1);
        Past { store: vault.store, clock: vault.clock, known }
    })
}

/// What came of one run.
pub struct Ran {
    /// The turns that ended at their moments.
    pub struck: Vec<Turn>,
    /// What was wrong.
    pub wrong: Vec<String>,
    /// What happened.
    pub trace: Vec<String>,
}

/// What came of a plan.
pub struct Tried {
    /// How many places were tried.
    pub places: u64,
    /// The last of them, at which something was wrong if anything was.
    pub last: Ran,
}

impl Tried {
    /// What was wrong, where, and what happened; none if all went well.
    pub fn story(&self) -> Option<String> {
        let Ran { wrong, trace, .. } = &self.last;
        (!wrong.is_empty()).then(|| format!("at place {}: {}\n{}", self.places, wrong.join("\n"), trace.join("\n")))
    }
}

impl Plan {
    /// Tries the open place everywhere, until something is wrong.
    pub fn try_out(&self, broken: Broken<'_>) -> Tried {
        let folders = Folders::new();
        let mut struck = Vec::new();
        for place in 1.. {
            let turns: Vec<Turn> = self.turns.iter().map(|turn| closed(*turn, place)).collect();
            let ran = self.run(&folders, &turns, broken);
            let is_open = |turn: &&Turn| !self.turns.contains(*turn);
            let is_last = turns.iter().find(is_open).is_none_or(|open| !ran.struck.contains(open));
            struck.extend(&ran.struck);
            if !ran.wrong.is_empty() {
                return Tried { places: place, last: ran };
            }
            if is_last {
                if broken.lies.is_empty() {
                    self.check_moments(&struck);
                }
                return Tried { places: place, last: ran };
            }
        }
        unreachable!("every client comes to an end")
    }

    /// A plan whose moments do not come would show nothing.
    fn check_moments(&self, struck: &[Turn]) {
        for turn in self.turns.iter().filter(|turn| matches!(turn, Turn::Until(..))) {
            let open = closed(*turn, 1);
            assert!(struck.contains(&open), "{turn:?}: this moment never comes in {self:?}");
        }
    }

    fn run(&self, folders: &Folders, turns: &[Turn], broken: Broken<'_>) -> Ran {
        let own = Clock::manual(past().clock.now());
        let clocks = Clocks { own: own.clone(), store: Clock::manual(own.now()) };
        let store = copy_of(&past().store, clocks.store.clone());
        clocks.pass(3600);
        let turns = Turns::new(self.clients.len(), turns, clocks.clone());
        let world = World {
            store,
            clocks: &clocks,
            folders,
            turns: &turns,
            known: Mutex::new(past().known.clone()),
            wrong: Mutex::default(),
        };
        std::thread::scope(|scope| {
            for (number, client) in self.clients.iter().enumerate() {
                let clock = if client.by_the_store { &clocks.store } else { &clocks.own }.clone();
                let own = broken.lies.iter().filter(|(of, _)| *of == number).flat_map(|(_, lies)| *lies).copied();
                let lies: Vec<Lie> = own.chain(client.always.iter().copied()).collect();
                let actor = Actor { world: &world, number, client, clock, lies };
                scope.spawn(move || actor.live());
            }
        });
        let (known, mut wrong) = (world.known.into_inner().unwrap(), world.wrong.into_inner().unwrap());
        wrong.extend(judge::look(&world.store, &clocks.own, &known));
        // Whoever was stopped for ever is taken for dead by now.
        clocks.pass(26 * 3600);
        if wrong.is_empty() {
            let view = |really: Memory| -> Arc<dyn ObjectStore> {
                let shared: Arc<dyn ObjectStore> = Arc::new(really.clone());
                let lies = broken.in_the_end;
                if lies.is_empty() { shared } else { Arc::new(Liar::new(shared, really, lies, clocks.store.clone())) }
            };
            // By the store's clock: whose was wrong has been set by now.
            wrong.extend(judge::settle(&world.store, &clocks.store, &known, &view));
        }
        Ran { struck: turns.struck(), wrong, trace: turns.trace() }
    }
}

/// A turn with the place filled in that it may leave open.
fn closed(turn: Turn, place: u64) -> Turn {
    match turn {
        Turn::Until(client, ANY_STEP) => Turn::Until(client, Moment::Step(place)),
        Turn::Until(client, ANY_REQUEST) => Turn::Until(client, Moment::Request(place)),
        turn => turn,
    }
}

/// The folders, written once: what is the same is not taken for changed.
struct Folders(tempfile::TempDir);

impl Folders {
    fn new() -> Folders {
        let folders = Folders(tempfile::tempdir().unwrap());
        for files in Files::ALL {
            std::fs::create_dir(folders.of(files)).unwrap();
            for (name, bytes) in files.content() {
                std::fs::write(folders.of(files).join(name), bytes).unwrap();
            }
        }
        folders
    }

    fn of(&self, files: Files) -> PathBuf {
        self.0.path().join(format!("{files:?}"))
    }
}

struct World<'w> {
    store: Memory,
    clocks: &'w Clocks,
    folders: &'w Folders,
    turns: &'w Arc<Turns>,
    known: Mutex<Known>,
    wrong: Mutex<Vec<String>>,
}

struct Actor<'w> {
    world: &'w World<'w>,
    number: usize,
    client: &'w Client,
    clock: Clock,
    lies: Vec<Lie>,
}

impl Actor<'_> {
    fn live(self) {
        let turns = self.world.turns;
        turns.begin(self.number);
        for act in &self.client.acts {
            if turns.has_crashed(self.number) {
                break;
            }
            turns.note(format!("{} begins: {act:?}", self.number));
            let failed = match catch_unwind(AssertUnwindSafe(|| self.act(*act))) {
                Ok(done) => done.err().map(|error| error.to_string()),
                Err(panic) => Some(format!("panicked: {:?}", panic.downcast_ref::<String>())),
            };
            let Some(error) = failed else { continue };
            turns.note(format!("{} failed: {error}", self.number));
            if !turns.has_crashed(self.number) && !self.client.may_fail {
                self.world.wrong.lock().unwrap().push(format!("{act:?} fails: {error}"));
            }
        }
        turns.finish(self.number);
    }

    fn context(&self) -> Result<Context, Error> {
        let really = self.world.store.clone();
        let gate = Gate { order: self.world.turns.clone(), client: self.number, inner: Arc::new(really.clone()) };
        let store: Arc<dyn ObjectStore> = match self.lies.is_empty() {
            true => Arc::new(gate),
            false => Arc::new(Liar::new(Arc::new(gate), really, &self.lies, self.world.clocks.store.clone())),
        };
        open(store, &self.clock)
    }

    fn act(&self, act: Act) -> Result<(), Error> {
        let context = self.context()?;
        match act {
            Act::BackUp(tag, files) => self.back_up(&context, tag, files, Parent::None),
            Act::BackUpBeside(tag, files) => self.back_up(&context, tag, files, Parent::Newest),
            Act::BackUpWithCache(tag, files) => {
                context.index.refresh(&**context.repository.store(), context.repository.keyring())?;
                self.back_up(&context, tag, files, Parent::None)
            }
            Act::Prune => vault::prune_all(&context).map(|outcome| {
                let left = outcome.damaged.iter().map(|problem| problem.subject.as_str());
                left.for_each(|pack| self.world.turns.note(format!("{} leaves {pack}", self.number)));
            }),
            Act::PruneUnneeded => {
                let options = prune::Options { max_unused: prune::MaxUnused::Unlimited, ..prune::Options::default() };
                prune::prune(&context, &options).map(drop)
            }
            Act::Forget(tag) => match find(&context, tag)? {
                Some(snapshot) => {
                    self.world.known.lock().unwrap().forgotten.insert(snapshot.id);
                    forget::remove(&context, snapshot.id)
                }
                None => Ok(()),
            },
            Act::Tag(old, new) => self.tag(&context, old, new),
            Act::Restore(tag) => self.restore(&context, tag),
            Act::Verify => match vault::verify_all(&context)? {
                found if found.damage => Err(Error::Refused(format!("damage: {:?}", found.damages))),
                _ => Ok(()),
            },
        }
    }

    fn back_up(&self, context: &Context, tag: &str, files: Files, parent: Parent) -> Result<(), Error> {
        self.world.known.lock().unwrap().runs.insert(tag.to_owned(), files.content());
        let folder = self.world.folders.of(files);
        let options = backup::Options { tags: vec![tag.to_owned()], parent, ..backup_of(&folder) };
        let outcome = backup::backup(context, &options)?;
        self.committed(outcome.snapshot.unwrap().id, tag);
        all_is_well(&outcome.damages)
    }

    fn committed(&self, id: SnapshotId, tag: &str) {
        self.world.known.lock().unwrap().committed.insert(id, tag.to_owned());
    }

    fn tag(&self, context: &Context, old: &str, new: &str) -> Result<(), Error> {
        let Some(snapshot) = find(context, old)? else { return Ok(()) };
        {
            let mut known = self.world.known.lock().unwrap();
            known.forgotten.insert(snapshot.id);
            let content = known.runs[old].clone();
            known.runs.insert(new.to_owned(), content);
        }
        let outcome = tag::tag(context, &[snapshot.id], &tag::Change::Set(vec![new.to_owned()]))?;
        outcome.changed.iter().for_each(|changed| self.committed(changed.new, new));
        Ok(())
    }

    fn restore(&self, context: &Context, tag: &str) -> Result<(), Error> {
        let Some(snapshot) = find(context, tag)? else { return Ok(()) };
        let target = tempfile::tempdir().unwrap();
        let options = keepstone::ops::restore::Options::new(target.path().to_owned());
        let outcome = keepstone::ops::restore::restore(context, &snapshot, &options)?;
        all_is_well(&outcome.problems)?;
        let restored = vault::files_below(target.path());
        let restored =
            restored.into_iter().map(|(path, bytes)| (path.rsplit('/').next().unwrap_or_default().to_owned(), bytes));
        match restored.collect::<Content>() == self.world.known.lock().unwrap().runs[tag] {
            true => Ok(()),
            false => Err(Error::Refused(format!("{tag} came back different"))),
        }
    }
}

fn all_is_well(problems: &[keepstone::base::Problem]) -> Result<(), Error> {
    match problems.first() {
        None => Ok(()),
        Some(problem) => Err(Error::Refused(format!("{}: {}", problem.subject, problem.message))),
    }
}

fn find(context: &Context, tag: &str) -> Result<Option<Snapshot>, Error> {
    let listed = snapshots::list(&context.repository)?.0;
    Ok(listed.into_iter().find(|snapshot| snapshot.tags == [tag]))
}
