//! A night: a profile from a first look to the test restore, each phase with its own outcome.
//!
//! ```text
//! lock -> preflight -> before -> backup -> after | failed -> finally -> verify -> forget -> prune -> drill
//!      -> keys -> maintenance -> records -> announce -> metrics
//! ```
//!
//! Single tasks can be done at times of their own ([`Extent`]): preflight -> verify, drill -> records -> announce -> metrics.
//!
//! A phase that fails does not stop those after it where that is safe: nothing is forgotten or pruned unless this very
//! night has made a complete snapshot and nothing was found damaged. What became of it goes into the history, see `annals`. How the
//! night ended is settled before anybody is told: that nobody could be reached is written down, and makes no bad night of a good one.

use super::annals::{self, Annals};
use super::announce::Announcer;
use super::error::{Error, Result};
use super::extent::{Extent, Task};
use super::health::Seen;
use super::lock::Lock;
use super::reach::Reach;
use super::upkeep::{self, Renewal};
use super::{build, databases::Wanted, drills, due, guard, health, load, metrics, past};
use crate::base::clock::Stopwatch;
use crate::base::{Event, Kind, Pace, Problem, SnapshotId, Stop, counted};
use crate::config::Config;
use crate::config::meant::{Channel, Keys, Profile, Prune, Verify};
use crate::config::schedule::Schedule;
use crate::db::Surroundings;
use crate::db::probe::{Verdict, amount};
use crate::format::snapshot::Snapshot;
use crate::history::{Entry, TableCount, figure};
use crate::ops::backup::{Dumped, Parent, TableSize};
use crate::ops::drill::Back;
use crate::ops::select::{self, Filter};
use crate::ops::verify::Depth;
use crate::ops::{Context, backup, forget, hooks, prune, verify};
use crate::repo::snapshots as stored;

pub use crate::history::By;

/// What is run, and how the repository is opened.
pub struct Night<'n> {
    /// The config that it stands in.
    pub config: &'n Config,
    /// The profile.
    pub profile: &'n Profile,
    /// How people can be told of it.
    pub channels: &'n [Channel],
    /// What started it.
    pub by: By,
    /// What of it is done.
    pub extent: Extent,
    /// The way to its repository.
    pub reach: &'n Reach,
    /// Opens it.
    pub open: &'n dyn Fn() -> Result<Context>,
    /// The environment, as far as it concerns databases.
    pub surroundings: &'n Surroundings,
    /// What snapshots call the user.
    pub user: String,
}

impl Night<'_> {
    /// When a phase is due. Whoever asks for a single task by hand does not ask whether it is.
    fn schedule<'s>(&self, schedule: Option<&'s Schedule>) -> Option<&'s Schedule> {
        schedule.filter(|_| self.extent.is_night() || self.by == By::Schedule)
    }

    /// Whether everything is read: somebody says so, or nothing has done so since the last time for it. Of records that cannot
    /// be read nobody learns that it was.
    fn is_whole(&self, context: &Context) -> bool {
        match (&self.extent, &self.profile.whole) {
            (Extent::Night { whole: true }, _) => true,
            (_, None) => false,
            (_, Some(schedule)) => {
                let now = due::local(context.repository.now_ns());
                let sealed = || due::last_whole(context, &self.profile.name).ok().flatten();
                let last_ns = past::last_whole(self.profile, schedule, &now).or_else(sealed);
                due::not_before(schedule, last_ns, &now).is_none()
            }
        }
    }
}

/// How a phase ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ended {
    /// All was done.
    Done,
    /// Some sources could not be read, or some tables not kept in good order.
    Partial,
    /// Damage was found.
    Damage,
    /// It failed.
    Failed(Kind),
    /// It was not begun.
    Skipped,
}

impl Ended {
    /// The word for it.
    pub fn name(&self) -> &'static str {
        match self {
            Ended::Done => "done",
            Ended::Partial => "partial",
            Ended::Damage => "damage",
            Ended::Failed(_) => "failed",
            Ended::Skipped => "skipped",
        }
    }

    /// How grave it is, compared with others.
    fn gravity(&self) -> u8 {
        match self {
            Ended::Skipped => 0,
            Ended::Done => 1,
            Ended::Partial => 2,
            Ended::Failed(Kind::Interrupted) => 5,
            Ended::Failed(_) => 3,
            Ended::Damage => 4,
        }
    }
}

/// A part of a night.
#[derive(Clone, Debug)]
pub struct Phase {
    /// `preflight`, `backup`, `verify`, …
    pub name: &'static str,
    /// How it ended.
    pub ended: Ended,
    /// What it did, or why not.
    pub message: String,
    /// What it counted; the unit stands last in a name.
    pub figures: Vec<(&'static str, u64)>,
    /// What went wrong in it.
    pub problems: Vec<Problem>,
    /// How long it took.
    pub duration_ms: u64,
}

impl Phase {
    /// What it counted under this name.
    pub fn figure(&self, name: &str) -> Option<u64> {
        self.figures.iter().find(|(known, _)| *known == name).map(|(_, value)| *value)
    }
}

/// What became of a night.
#[derive(Debug, Default)]
pub struct Outcome {
    /// Its phases, in order.
    pub phases: Vec<Phase>,
    /// The snapshot that it made.
    pub snapshot: Option<Snapshot>,
    /// How long it took.
    pub duration_ms: u64,
    /// Tables of the databases in its snapshot.
    pub tables: Vec<TableCount>,
    /// Earlier runs of which nobody has heard again.
    pub vanished: Vec<Entry>,
    /// What could not be written down of it. That costs the backup nothing.
    pub unwritten: Vec<Problem>,
    /// What stands in the history of it.
    pub entry: Option<Entry>,
    /// Lets work stand still while the machine is busy.
    pub(super) pace: Pace,
    /// Snapshots of the profile as far as they are known, oldest first: they are listed once.
    ours: Vec<Seen>,
    /// What drills have brought back so far of the newest complete one.
    back: Back,
}

impl Outcome {
    /// How it ended as a whole: as its gravest phase did, the first of those.
    pub fn ended(&self) -> Ended {
        let gravest = self.phases.iter().rev().max_by_key(|phase| phase.ended.gravity());
        gravest.map_or(Ended::Done, |phase| phase.ended.clone())
    }

    /// The phase of this name.
    pub fn phase(&self, name: &str) -> Option<&Phase> {
        self.phases.iter().find(|phase| phase.name == name)
    }

    /// Snapshots of the profile that are left.
    pub(super) fn snapshots_left(&self) -> u64 {
        let kept = self.phase("forget").and_then(|phase| phase.figures.iter().find(|(name, _)| *name == figure::KEPT));
        kept.map_or(self.ours.len() as u64, |(_, kept)| *kept)
    }

    /// When the repository received the newest snapshot of the profile before this night's.
    pub(super) fn last_received_ns(&self) -> Option<i64> {
        let own = self.snapshot.as_ref().map(|snapshot| snapshot.id);
        self.ours.iter().filter(|seen| Some(seen.id) != own).map(|seen| seen.received_ns).max()
    }

    /// Whether it has made a snapshot that lacks nothing, and met no damage.
    fn is_complete(&self) -> bool {
        let is_good = |phase: &Phase| !matches!(phase.ended, Ended::Damage);
        self.snapshot.as_ref().is_some_and(|snapshot| !snapshot.partial) && self.phases.iter().all(is_good)
    }
}

/// What a phase that came to its end has to tell.
pub(super) struct Told {
    pub ended: Ended,
    pub message: String,
    pub figures: Vec<(&'static str, u64)>,
    pub problems: Vec<Problem>,
}

impl Told {
    pub fn done(message: impl Into<String>) -> Told {
        Told { ended: Ended::Done, message: message.into(), figures: Vec::new(), problems: Vec::new() }
    }
}

/// Tags that say which profile made a snapshot, and what started it.
pub fn tags(profile: &str, by: By) -> [String; 2] {
    [profile_tag(profile), format!("by:{}", by.name())]
}

fn profile_tag(profile: &str) -> String {
    format!("profile:{profile}")
}

/// Runs a night. Refused if the profile is being run already; everything else is an outcome.
pub fn run(night: &Night<'_>) -> Result<Outcome> {
    let state_dir = night.profile.state.place()?;
    if let Some(task) = night.extent.unknown(night.profile) {
        let (name, task) = (&night.profile.name, task.name());
        return Err(Error::usage(format!("profile `{name}` has no table `{task}`: there is nothing to do")));
    }
    let lock =
        Lock::take(state_dir, &night.profile.name).inspect_err(|error| annals::refused(night, state_dir, error))?;
    // Not earlier: a run that leaves again has not begun.
    let announcer = Announcer::begin(night);
    load::ease(&night.profile.load, &*night.reach.monitor);
    let since = Stopwatch::start();
    let mut outcome = Outcome { pace: Pace::watched(), ..Outcome::default() };
    let mut annals = Annals::begin(night, state_dir);
    let watch = load::watch(night, &outcome.pace);
    let opened = outcome.first(night, &annals);
    if let Some(context) = &opened {
        annals.opened(night, context);
    }
    match &night.extent {
        Extent::Night { .. } => {
            outcome.backup(night, opened.as_ref());
            if let Some(context) = &opened {
                outcome.care(night, context);
            }
        }
        Extent::Only(tasks) => tasks.iter().for_each(|task| outcome.alone(night, opened.as_ref(), *task)),
    }
    drop(watch);
    outcome.duration_ms = since.elapsed_ms();
    annals.end(night, &mut outcome, opened.as_ref());
    announcer.end(&mut outcome);
    metrics::publish(night.config, &mut outcome);
    annals.close(night, &mut outcome);
    drop(lock);
    Ok(outcome)
}

/// Why a phase is left to others.
const WRITE_ONLY: &str = "its key may only write: this is for a machine that has another";

/// Why a phase is not begun any more.
const STOPPED: &str = "somebody asked to stop before it began";

/// Why a phase waits that could take away what is needed, or load a server, after a bad night.
const WHY: &str = "only after a backup that lacks nothing, and where nothing is damaged";

impl Outcome {
    fn push(&mut self, name: &'static str, since: Stopwatch, told: Result<Told>) {
        let told = told.unwrap_or_else(|error| Told {
            ended: Ended::Failed(error.kind()),
            message: error.to_string(),
            figures: Vec::new(),
            problems: Vec::new(),
        });
        let Told { ended, message, figures, problems } = told;
        self.phases.push(Phase { name, ended, message, figures, problems, duration_ms: since.elapsed_ms() });
    }

    /// Does a phase, unless somebody asked to stop.
    fn phase_of(&mut self, name: &'static str, night: &Night<'_>, work: impl FnOnce(&mut Outcome) -> Result<Told>) {
        let since = Stopwatch::start();
        if night.reach.stop.raised() {
            // The first that is not done says how the night ended.
            return match self.ended() {
                Ended::Failed(Kind::Interrupted) => self.skip(name, STOPPED),
                _ => self.push(name, since, Err(Error::Said(Kind::Interrupted, STOPPED.to_owned()))),
            };
        }
        night.reach.monitor.event(Event::Phase(name));
        let told = work(self);
        self.push(name, since, told);
    }

    fn skip(&mut self, name: &'static str, why: impl Into<String>) {
        let told = Told { ended: Ended::Skipped, ..Told::done(why) };
        self.push(name, Stopwatch::start(), Ok(told));
    }

    /// Opens the repository and looks whether a backup into it can work. The repository, if it can.
    fn first(&mut self, night: &Night<'_>, annals: &Annals) -> Option<Context> {
        let mut opened = None;
        self.phase_of("preflight", night, |outcome| {
            let context = Context { pace: outcome.pace.clone(), ..(night.open)()? };
            outcome.ours = snapshots(night, &context)?;
            let told = preflight(night, &context, &outcome.ours, &annals.earlier())?;
            opened = Some(context);
            Ok(told)
        });
        opened
    }

    /// The backup with its hooks.
    fn backup(&mut self, night: &Night<'_>, opened: Option<&Context>) {
        let hooks = &night.profile.hooks;
        match opened {
            None => self.skip("backup", "what the preflight says stands in its way"),
            Some(context) => {
                if self.hook(night, "before", &hooks.before, &night.reach.stop) {
                    self.phase_of("backup", night, |outcome| outcome.back_up(night, context));
                } else {
                    self.skip("backup", "a command before it failed");
                }
            }
        }
        // Whoever was told to come back up comes back up, also when somebody asked to stop.
        let whatever = Stop::new();
        match self.snapshot.is_some() {
            true => self.hook(night, "after", &hooks.after, &whatever),
            false => self.hook(night, "failed", &hooks.failed, &whatever),
        };
        self.hook(night, "finally", &hooks.finally, &whatever);
    }

    /// Runs commands; whether all ended well. Without commands it is no phase.
    fn hook(&mut self, night: &Night<'_>, name: &'static str, commands: &[String], stop: &Stop) -> bool {
        if commands.is_empty() {
            return true;
        }
        let since = Stopwatch::start();
        let mut variables = vec![("KEEPSTONE_PROFILE", night.profile.name.clone())];
        if name != "before" {
            let last =
                self.phases.iter().rev().find(|phase| phase.ended != Ended::Skipped && phase.ended != Ended::Done);
            variables.push(("KEEPSTONE_OUTCOME", self.ended().name().to_owned()));
            variables
                .push(("KEEPSTONE_SNAPSHOT", self.snapshot.as_ref().map_or(String::new(), |one| one.id.to_string())));
            variables.push(("KEEPSTONE_MESSAGE", last.map_or(String::new(), |phase| phase.message.clone())));
        }
        let ran = hooks::run(commands, &variables, night.profile.hooks.timeout, stop);
        let is_good = ran.is_ok();
        let kind = if stop.raised() { Kind::Interrupted } else { Kind::Source };
        let told = ran.map(|()| Told::done(format!("{} ended well", counted(commands.len() as u64, "command"))));
        self.push(name, since, told.map_err(|why| Error::Said(kind, why)));
        is_good
    }

    fn back_up(&mut self, night: &Night<'_>, context: &Context) -> Result<Told> {
        let profile = night.profile;
        let wanted = Wanted::of(&profile.databases, night.surroundings.clone())?;
        let mut all = profile.tags.clone();
        all.extend(tags(&profile.name, night.by));
        let mut options = build::backup(profile, all, night.user.clone())?;
        let is_whole = night.is_whole(context);
        if is_whole {
            options.parent = Parent::None;
        }
        // First, since they take longest.
        options.sources.splice(0..0, wanted.sources(context, &options.limits)?);
        build::keep_out(&night.reach.location()?, context, &mut options)?;
        if night.reach.caches_nothing() {
            options.base_cache_bytes = 0;
        }
        let made = backup::backup(context, &options)?;
        let totals = &made.totals;
        let id = made.snapshot.as_ref().map_or(String::new(), |snapshot| snapshot.id.short());
        let mut message = format!("snapshot {id}: {}", counted(totals.files, "file"));
        for (count, what) in [
            (made.dumps.len(), "database"),
            (made.streams.iter().filter(|stream| stream.status == Some(0)).count(), "command"),
        ] {
            if count > 0 {
                message.push_str(&format!(", {}", counted(count as u64, what)));
            }
        }
        message.push_str(&format!(", {} read, {} added", amount(totals.bytes_read), amount(totals.added)));
        // The first one has nothing to compare with.
        if is_whole && !self.ours.is_empty() {
            message.push_str(", everything read whether it looked changed or not");
        }
        if let Some(first) = made.problems.first() {
            message.push_str(&format!(
                "; {} could not be read, the first: {}",
                counted(made.problem_count, "source"),
                first.told()
            ));
        }
        if let Some(first) = made.damages.first() {
            message.push_str(&format!("; the repository is damaged: {}", first.told()));
        }
        let ended = match (made.damages.is_empty(), made.problem_count) {
            (false, _) => Ended::Damage,
            (true, 0) => Ended::Done,
            (true, _) => Ended::Partial,
        };
        let figures = vec![
            (figure::FILES, totals.files),
            (figure::DATABASES, made.dumps.len() as u64),
            (figure::TABLES, made.dumps.iter().map(|dump| dump.record.tables).sum()),
            (figure::ROWS, made.dumps.iter().map(|dump| dump.record.rows).fold(0, u64::saturating_add)),
            (figure::CONTENT_BYTES, totals.bytes),
            (figure::READ_BYTES, totals.bytes_read),
            (figure::NEW_BYTES, totals.bytes_new),
            (figure::STORED_BYTES, totals.stored_data),
            (figure::DELTA_BYTES, totals.bytes_delta),
            (figure::DELTA_STORED_BYTES, totals.stored_delta),
            (figure::DELTA_WHOLE_BYTES, totals.whole_delta),
            (figure::ADDED_BYTES, totals.added),
            (figure::PROBLEMS, made.problem_count),
            (figure::SEAL_MS, made.times.seal_ms),
            (figure::PROVE_MS, made.times.prove_ms),
            (figure::UPLOAD_MS, made.times.upload_ms),
            (figure::SOURCE_RETRIES, made.source_retries),
            (figure::WHOLE, u64::from(made.parent.is_none())),
        ];
        self.tables = made.dumps.iter().flat_map(table_counts).collect();
        self.ours.extend(made.snapshot.as_ref().map(Seen::of));
        self.snapshot = made.snapshot;
        Ok(Told { ended, message, figures, problems: made.damages.into_iter().chain(made.problems).collect() })
    }

    /// A single task.
    fn alone(&mut self, night: &Night<'_>, opened: Option<&Context>, task: Task) {
        let why = match opened {
            None => "what the preflight says stands in its way",
            Some(context) if context.repository.keyring().is_write_only() => WRITE_ONLY,
            Some(context) => {
                return match task {
                    Task::Verify => self.verify(night, context),
                    Task::Drill => self.drills(night, context),
                };
            }
        };
        task.phases(night.profile).into_iter().for_each(|name| self.skip(name, why));
    }

    /// What belongs to a night besides the backup.
    fn care(&mut self, night: &Night<'_>, context: &Context) {
        match context.repository.keyring().is_write_only() {
            true => self.leave_to_others(night.profile),
            false => self.look_after(night, context),
        }
        if let Some(given) = &night.profile.maintenance {
            match self.is_complete() {
                true => {
                    let last = || due::last_phase(context, &night.profile.name, "maintenance");
                    self.when_due("maintenance", night, context, given.schedule.as_ref(), last, |_| {
                        upkeep::keep(night, given)
                    });
                }
                false => self.skip("maintenance", WHY),
            }
        }
    }

    /// What a key that may only write opens nothing for.
    fn leave_to_others(&mut self, profile: &Profile) {
        let asked = [
            ("verify", profile.verify.is_some()),
            ("forget", profile.retention.is_some()),
            ("prune", profile.prune.is_some()),
            ("keys", profile.repository.keys.is_some()),
        ];
        let asked = asked.into_iter().filter_map(|(name, is_asked)| is_asked.then_some(name));
        let drills = profile.drills.iter().map(|drill| drill.scenario.phase());
        for name in asked.chain(drills) {
            self.skip(name, WRITE_ONLY);
        }
    }

    fn verify(&mut self, night: &Night<'_>, context: &Context) {
        const NAME: &str = "verify";
        let Some(given) = &night.profile.verify else { return };
        // Its own snapshots are read back for each profile by itself; packs are those of all.
        let last = || match given.newer_than {
            Some(_) => due::last_phase(context, &night.profile.name, NAME),
            None => due::last(context, NAME, |_| true),
        };
        let schedule = night.schedule(given.schedule.as_ref());
        self.when_due(NAME, night, context, schedule, last, |outcome| read_back(context, &outcome.ours, given));
    }

    fn drills(&mut self, night: &Night<'_>, context: &Context) {
        for given in &night.profile.drills {
            let ours = self.ours.clone();
            let last = || drills::last(night, context, &ours, given);
            let schedule = night.schedule(given.schedule.as_ref());
            self.when_due(given.scenario.phase(), night, context, schedule, last, |outcome| {
                drills::try_out(night, context, &ours, given, &mut outcome.back)
            });
        }
    }

    /// What the repository needs.
    fn look_after(&mut self, night: &Night<'_>, context: &Context) {
        let profile = night.profile;
        self.verify(night, context);
        if let Some(policy) = &profile.retention {
            match self.is_complete() {
                true => {
                    self.phase_of("forget", night, |outcome| let_go(night, context, policy, outcome.snapshot.as_ref()))
                }
                false => self.skip("forget", WHY),
            }
        }
        if let Some(given) = &profile.prune {
            match self.is_complete() {
                true => {
                    let last = || due::last(context, "prune", |_| true);
                    self.when_due("prune", night, context, given.schedule.as_ref(), last, |_| free(context, given))
                }
                false => self.skip("prune", WHY),
            }
        }
        self.drills(night, context);
        if let Some(given) = &profile.repository.keys {
            self.renew_keys(night, context, given);
        }
    }

    /// New keys, if it is time. They do not wait for a night in which every source can be read.
    fn renew_keys(&mut self, night: &Night<'_>, context: &Context, given: &Keys) {
        const NAME: &str = "keys";
        if self.phases.iter().any(|phase| phase.ended == Ended::Damage) {
            return self.skip(NAME, "only where nothing is damaged");
        }
        let renewal = match Renewal::of(context, given) {
            Ok(renewal) => renewal,
            Err(error) => return self.push(NAME, Stopwatch::start(), Err(error.into())),
        };
        match renewal.nothing() {
            Some(why) => self.skip(NAME, why),
            None => self.phase_of(NAME, night, |_| renewal.renew(context, given)),
        }
    }

    /// Does a phase if it is due: if it was not done since the last time of its schedule. `last` looks when it was.
    fn when_due(
        &mut self,
        name: &'static str,
        night: &Night<'_>,
        context: &Context,
        schedule: Option<&Schedule>,
        last: impl FnOnce() -> crate::ops::Result<Option<i64>>,
        work: impl FnOnce(&mut Outcome) -> Result<Told>,
    ) {
        let next = schedule.map(|schedule| {
            let now = due::local(context.repository.now_ns());
            last().map(|last_ns| due::not_before(schedule, last_ns, &now))
        });
        match next {
            Some(Ok(Some(next))) => self.skip(name, format!("not due before {}", next.strftime("%Y-%m-%d %H:%M"))),
            Some(Err(error)) => self.push(name, Stopwatch::start(), Err(error.into())),
            None | Some(Ok(None)) => self.phase_of(name, night, work),
        }
    }
}

/// Whether a backup can work: what fails stops the night, what somebody should know is told.
fn preflight(night: &Night<'_>, context: &Context, snapshots: &[Seen], entries: &[Entry]) -> Result<Told> {
    let facts = health::Facts {
        profile: night.profile,
        context,
        now_ns: context.repository.now_ns(),
        snapshots,
        entries,
        surroundings: night.surroundings,
        temp_dir: &night.reach.temp_dir,
    };
    let looks = if night.extent.is_night() { health::BEFORE } else { health::BEFORE_TASKS };
    let checks = health::up_to_failure(looks, &facts);
    if let Some(bad) = checks.iter().find(|check| check.verdict == Verdict::Failed) {
        return Err(Error::Said(health::kind(bad), format!("{}; {}", bad.message, bad.remedy)));
    }
    let room = checks.iter().find(|check| check.name == "space" && check.verdict == Verdict::Ok);
    let room = room.map_or(String::new(), |check| format!(", {}", check.message));
    let mut message = format!("the repository opens and can be written{room}");
    for check in checks.iter().filter(|check| check.verdict == Verdict::Warning) {
        let warning = format!("{}; {}", check.message, check.remedy);
        context.monitor.event(Event::Note(&warning));
        message.push_str(&format!("; but {warning}"));
    }
    Ok(Told::done(message))
}

/// The snapshots of this profile, oldest first.
fn snapshots(night: &Night<'_>, context: &Context) -> Result<Vec<Seen>> {
    snapshots_of(night.profile, context)
}

/// The same for whoever runs no night.
pub fn snapshots_of(profile: &Profile, context: &Context) -> Result<Vec<Seen>> {
    let filter = Filter {
        hosts: vec![profile.host.clone().unwrap_or_else(|| context.repository.machine().host.clone())],
        tags: vec![vec![profile_tag(&profile.name)]],
        ..Filter::default()
    };
    if context.repository.keyring().is_write_only() {
        let (own, now_ns) = (backup::own_snapshots(context)?, context.repository.now_ns());
        return Ok(own.iter().filter(|snapshot| filter.lets_through(snapshot, now_ns)).map(Seen::of).collect());
    }
    Ok(select::list(context, &filter)?.snapshots.iter().map(Seen::of).collect())
}

/// One of them, whole; none if it is gone meanwhile.
pub(super) fn whole(context: &Context, id: SnapshotId) -> Result<Option<Snapshot>> {
    match stored::load(&context.repository, id)? {
        stored::Found::Snapshot(snapshot) => Ok(Some(*snapshot)),
        _ => Ok(None),
    }
}

fn host(night: &Night<'_>, context: &Context) -> String {
    night.profile.host.clone().unwrap_or_else(|| context.repository.machine().host.clone())
}

/// Reads back what new snapshots need, and packs whose turn it is.
fn read_back(context: &Context, ours: &[Seen], given: &Verify) -> Result<Told> {
    let mut passes = Vec::new();
    if let Some(age) = given.newer_than {
        let now_ns = context.repository.now_ns();
        let young = ours.iter().filter(|snapshot| snapshot.time_ns >= age.before(now_ns));
        let young: Vec<_> = young.map(|snapshot| whole(context, snapshot.id)).collect::<Result<_>>()?;
        passes.push(verify::Options { snapshots: young.into_iter().flatten().collect(), depth: Depth::Content });
    }
    passes.extend(given.part.map(|part| verify::Options { snapshots: Vec::new(), depth: Depth::Part(part) }));
    let (mut packs, mut bytes, mut damages) = (0, 0, 0);
    let (mut problems, mut checked) = (Vec::new(), Vec::new());
    for options in &passes {
        // No snapshots would mean all of them.
        if options.depth == Depth::Content && options.snapshots.is_empty() {
            checked.push("no new snapshot".to_owned());
            continue;
        }
        let found = verify::verify(context, options)?;
        packs += found.packs;
        bytes += found.bytes_read;
        damages += found.damage_count;
        checked.push(match options.depth {
            Depth::Part(_) => "packs whose turn it was".to_owned(),
            _ => counted(found.snapshots, "new snapshot"),
        });
        problems
            .extend(found.damages.iter().map(|damage| Problem::new(&damage.object, &damage.message, Kind::Damaged)));
    }
    let checked = checked.join(" and ");
    let figures = vec![(figure::PACKS_READ, packs), (figure::READ_BYTES, bytes), (figure::DAMAGES, damages)];
    let ended = if damages > 0 { Ended::Damage } else { Ended::Done };
    let message = match problems.first() {
        None => format!("{checked}: {} read, all whole", amount(bytes)),
        Some(first) => format!(
            "{checked}: {} damaged, the first: {}; run `keepstone repair plan`",
            counted(damages, "object"),
            first.told()
        ),
    };
    Ok(Told { ended, message, figures, problems })
}

fn let_go(
    night: &Night<'_>,
    context: &Context,
    policy: &crate::ops::retention::Policy,
    fresh: Option<&Snapshot>,
) -> Result<Told> {
    let tags = vec![vec![profile_tag(&night.profile.name)]];
    let filter = forget::Filter { hosts: vec![host(night, context)], tags, ..forget::Filter::default() };
    if let Some(fresh) = fresh {
        let all = stored::list(&context.repository)?.0;
        guard::check(context, fresh, all.into_iter().filter(|snapshot| filter.takes(snapshot)).collect())?;
    }
    let options = build::forget(policy, filter, fresh.map(|snapshot| snapshot.id))?;
    let gone = forget::forget(context, &options)?;
    let figures = vec![(figure::KEPT, gone.kept), (figure::REMOVED, gone.removed)];
    match gone.failures.first() {
        None => {
            let message = format!("{} removed, {} kept", counted(gone.removed, "snapshot"), gone.kept);
            Ok(Told { figures, ..Told::done(message) })
        }
        Some(first) => Ok(Told {
            ended: Ended::Failed(first.kind),
            message: first.message.clone(),
            figures,
            problems: gone.failures.clone(),
        }),
    }
}

/// Deletes what no snapshot needs any more.
fn free(context: &Context, given: &Prune) -> Result<Told> {
    let freed = prune::prune(context, &build::prune(given))?.whole()?;
    let waiting = freed.waiting.as_ref().map_or(String::new(), |waiting| {
        format!("; {} left to a later prune: {}", counted(waiting.packs, "pack"), waiting.reason)
    });
    Ok(Told {
        figures: vec![(figure::FREED_BYTES, freed.freed_bytes), ("packs_deleted", freed.packs_deleted)],
        ..Told::done(format!("{} freed{waiting}", amount(freed.freed_bytes)))
    })
}

/// The tables of a dump, as the history has them.
fn table_counts(dump: &Dumped) -> Vec<TableCount> {
    let source = String::from_utf8_lossy(&dump.record.path.0);
    let source = source.trim_start_matches('/');
    let table = |table: &TableSize| TableCount {
        source: source.to_owned(),
        name: table.name.clone(),
        rows: table.rows,
        bytes: table.bytes,
    };
    dump.tables.iter().map(table).collect()
}
