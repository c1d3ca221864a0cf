//! Forgetting snapshots: by name, or those that a policy does not keep.
//!
//! What only they needed is garbage from then on and stays in the store until prune. A snapshot is one object, so
//! forgetting is one deletion each, the oldest first: wherever it stops, what is left is the newest.

use super::record::Record;
use super::retention::{self, Decision, GroupBy, GroupKey, Policy, Reason};
use super::{Context, Error, Result};
use crate::base::clock::TimeZone;
use crate::base::monitor::Event;
use crate::base::{Kind, Problem, SnapshotId};
use crate::format::cbor::Bytes;
use crate::format::run::Outcome as Ended;
use crate::format::snapshot::Snapshot;
use crate::repo::snapshots::Found;
use crate::repo::{session, snapshots};
use crate::store::{self, Area, Key, ObjectStore, lock_of};
use std::collections::{BTreeMap, BTreeSet};

/// Snapshots that are removed at once, at most.
const AT_ONCE: usize = 1000;

/// Which snapshots a policy looks at; all by default. The others are left alone.
#[derive(Clone, Debug, Default)]
pub struct Filter {
    /// Any of these hosts.
    pub hosts: Vec<String>,
    /// All of these paths.
    pub paths: Vec<Vec<u8>>,
    /// All tags of any of these lists.
    pub tags: Vec<Vec<String>>,
}

impl Filter {
    /// Whether `snapshot` is meant.
    pub fn takes(&self, snapshot: &Snapshot) -> bool {
        let has_path = |wanted: &Vec<u8>| snapshot.paths.iter().any(|path| path.0 == *wanted);
        (self.hosts.is_empty() || self.hosts.contains(&snapshot.host))
            && self.paths.iter().all(has_path)
            && (self.tags.is_empty() || self.tags.iter().any(|tags| retention::has_tags(snapshot, tags)))
    }
}

/// What to forget.
#[derive(Clone, Debug)]
pub enum Selection {
    /// These, whatever they are.
    Ids(Vec<SnapshotId>),
    /// What a policy does not keep.
    Policy {
        /// The policy.
        policy: Box<Policy>,
        /// Which snapshots it looks at.
        filter: Filter,
        /// It is applied to each group by itself.
        group_by: GroupBy,
    },
}

/// How to forget.
#[derive(Clone, Debug)]
pub struct Options {
    /// What.
    pub selection: Selection,
    /// Whose calendar days count.
    pub zone: TimeZone,
    /// Only say what would go.
    pub dry_run: bool,
    /// What the caller has just stored: a policy is refused to whom it does not count as the newest of its group.
    pub fresh: Option<SnapshotId>,
}

/// A snapshot that stays, and why.
#[derive(Clone, Debug)]
pub struct Kept {
    /// The snapshot.
    pub snapshot: Snapshot,
    /// Why; never empty.
    pub reasons: Vec<Reason>,
}

/// What became of one group. For a selection by ids there is one group without a key, with `removed` only.
#[derive(Clone, Debug, Default)]
pub struct Group {
    /// The host that they share.
    pub host: Option<String>,
    /// The paths that they share.
    pub paths: Option<Vec<Bytes>>,
    /// The tags that they share.
    pub tags: Option<Vec<String>>,
    /// What stays, newest first.
    pub kept: Vec<Kept>,
    /// What went (would go, in a dry run), newest first. Those that could not be removed are among the failures.
    pub removed: Vec<Snapshot>,
}

/// What came of it.
#[derive(Clone, Debug, Default)]
pub struct Outcome {
    /// Nothing was changed.
    pub dry_run: bool,
    /// Group by group.
    pub groups: Vec<Group>,
    /// Damaged snapshots that went (would go, in a dry run) because they were named.
    pub unreadable: Vec<SnapshotId>,
    /// Snapshots that the policy keeps.
    pub kept: u64,
    /// Snapshots removed (to be removed, in a dry run).
    pub removed: u64,
    /// Readable snapshots in the repository afterwards.
    pub remaining: u64,
    /// What the runs of the removed snapshots had added to the store: about as much prune can free at most, since
    /// later snapshots may still need some of it. Forgetting alone frees nothing.
    pub added_bytes: u64,
    /// Snapshots that could not be removed, and damaged ones, which no policy touches. Not empty: the run failed.
    pub failures: Vec<Problem>,
}

/// Forgets. Refuses a policy that is empty or keeps nothing of a group, before anything is removed. When single
/// removals fail the others go on and `failures` says which.
pub fn forget(context: &Context, options: &Options) -> Result<Outcome> {
    let record = Record::begin(context, "forget");
    let (mut outcome, present) = match choose(context, options) {
        Ok(chosen) => chosen,
        Err(error) => {
            record.save_failure(context, &error);
            return Err(error);
        }
    };
    if options.dry_run {
        return Ok(outcome);
    }
    // First: of what is gone it can be told who removed it, also if this run is killed. A disk that is full takes it only
    // when something has gone.
    let told = match save(context, record, &outcome) {
        Err(error) if error.kind() != Kind::Full => return Err(error),
        told => told,
    };
    let record = Record::begin(context, "forget");
    let known = outcome.failures.len();
    if let Err(error) = apply(context, &mut outcome) {
        record.save_failure(context, &error);
        return Err(error);
    }
    outcome.count(present);
    if told.is_err() || outcome.failures.len() > known {
        save(context, record, &outcome)?;
    }
    Ok(outcome)
}

impl Outcome {
    fn count(&mut self, present: u64) {
        self.kept = self.groups.iter().map(|group| group.kept.len() as u64).sum();
        let removed = self.groups.iter().map(|group| group.removed.len()).sum::<usize>() + self.unreadable.len();
        self.removed = removed as u64;
        self.remaining = present.saturating_sub(self.removed);
        let removed = self.groups.iter().flat_map(|group| &group.removed);
        self.added_bytes = removed.fold(0, |sum, one| sum.saturating_add(one.totals.added));
    }
}

/// What is to go, and how many snapshots there are.
fn choose(context: &Context, options: &Options) -> Result<(Outcome, u64)> {
    context.repository.keyring().check_full("forget")?;
    context.repository.check_writable()?;
    let mut outcome = Outcome { dry_run: options.dry_run, ..Outcome::default() };
    let present = match &options.selection {
        Selection::Ids(ids) => {
            let (removed, unreadable) = load_all(context, ids)?;
            outcome.groups = vec![Group { removed, ..Group::default() }];
            outcome.unreadable = unreadable;
            snapshots::names(&context.repository)?.len() as u64
        }
        Selection::Policy { policy, filter, group_by } => {
            let (all, damaged) = snapshots::list(&context.repository)?;
            let damaged = damaged.iter();
            outcome.failures.extend(damaged.map(|(id, error)| untouched(id, error)));
            let present = all.len() as u64;
            let chosen = all.into_iter().filter(|snapshot| filter.takes(snapshot)).collect();
            outcome.groups = plan(context, chosen, policy, *group_by, options)?;
            present
        }
    };
    outcome.count(present);
    Ok((outcome, present))
}

/// What a policy does with a damaged snapshot.
fn untouched(id: &SnapshotId, error: &crate::repo::Error) -> Problem {
    let id = id.short();
    let remedy = format!(
        "{error}; no policy removes it: put its object back from a mirror of the repository, or let it go with \
         `keepstone forget {id}`"
    );
    Problem::new(format!("snapshot {id}"), remedy, error.kind())
}

/// The snapshots that are named, newest first, and those of them that are damaged. These go too: as long as they are
/// there nobody knows what they need, and no prune can delete anything.
fn load_all(context: &Context, ids: &[SnapshotId]) -> Result<(Vec<Snapshot>, Vec<SnapshotId>)> {
    let ids: BTreeSet<SnapshotId> = ids.iter().copied().collect();
    let (mut found, mut unreadable) = (Vec::new(), Vec::new());
    for id in ids {
        match snapshots::load(&context.repository, id) {
            Ok(Found::Snapshot(snapshot)) => found.push(*snapshot),
            Ok(Found::Tombstone | Found::Gone) => {
                return Err(Error::NotFound(format!("there is no snapshot {id}; nothing was removed")));
            }
            Err(error) if error.kind() == Kind::Damaged => unreadable.push(id),
            Err(error) => return Err(error.into()),
        }
    }
    found.sort_by_key(|snapshot| std::cmp::Reverse(snapshot.time_ns));
    Ok((found, unreadable))
}

fn plan(
    context: &Context,
    chosen: Vec<Snapshot>,
    policy: &Policy,
    group_by: GroupBy,
    options: &Options,
) -> Result<Vec<Group>> {
    if policy.is_empty() {
        return Err(Error::Refused(
            "this policy keeps nothing: give at least one --keep-… option; to remove single snapshots, name them: \
             `keepstone forget ID`. Nothing was removed"
                .to_owned(),
        ));
    }
    let mut groups: BTreeMap<GroupKey, Vec<Snapshot>> = BTreeMap::new();
    for snapshot in chosen {
        groups.entry(GroupKey::of(&snapshot, group_by)).or_default().push(snapshot);
    }
    let now_ns = context.repository.now_ns();
    let receipts = snapshots::receipts(&context.repository)?;
    let decide = |group| retention::decide(group, &receipts, policy, &options.zone, now_ns);
    let decided: Vec<_> = groups.into_iter().map(|(key, group)| (key, decide(group))).collect();
    for (_, decisions) in &decided {
        check_newest(decisions, options.fresh)?;
    }
    decided.into_iter().map(|(key, decisions)| split(key, decisions)).collect()
}

/// Refuses where what was stored a moment ago counts as older than something: a policy would let it go, or what comes after.
fn check_newest(decisions: &[Decision], fresh: Option<SnapshotId>) -> Result<()> {
    let Some(place) = decisions.iter().position(|decision| Some(decision.snapshot.id) == fresh) else { return Ok(()) };
    let before = decisions[..place].iter().rfind(|decision| !decision.reasons.contains(&Reason::Future));
    match before {
        None => Ok(()),
        Some(newer) => Err(Error::Refused(format!(
            "snapshot {}, which was made a moment ago, counts as older than {}: the clock of the store stands behind, or one \
             was ahead before. Set it, and let {} go by hand if it is that. Nothing was removed",
            decisions[place].snapshot.id.short(),
            newer.snapshot.id.short(),
            newer.snapshot.id.short()
        ))),
    }
}

fn split(key: GroupKey, decisions: Vec<Decision>) -> Result<Group> {
    let any_past = decisions.iter().any(|decision| !decision.reasons.contains(&Reason::Future));
    if any_past && !decisions.iter().any(Decision::by_policy) {
        return Err(Error::Refused(format!(
            "this policy keeps none of the {} snapshots of {key}: add a rule that does (`--keep-last 1` keeps the \
             newest), leave the group out by --host, --path or --tag, or name what you want removed: \
             `keepstone forget ID`. Nothing was removed",
            decisions.len()
        )));
    }
    let (kept, removed): (Vec<_>, Vec<_>) = decisions.into_iter().partition(|decision| !decision.reasons.is_empty());
    let kept = kept.into_iter().map(|decision| Kept { snapshot: decision.snapshot, reasons: decision.reasons });
    Ok(Group {
        host: key.host,
        paths: key.paths,
        tags: key.tags,
        kept: kept.collect(),
        removed: removed.into_iter().map(|decision| decision.snapshot).collect(),
    })
}

fn apply(context: &Context, outcome: &mut Outcome) -> Result<()> {
    context.monitor.event(Event::Phase("forgetting"));
    for group in &mut outcome.groups {
        let wanted = std::mem::take(&mut group.removed);
        for some in wanted.chunks(AT_ONCE) {
            context.check_stop()?;
            let ids: Vec<SnapshotId> = some.iter().map(|snapshot| snapshot.id).collect();
            for (snapshot, removed) in some.iter().zip(remove_each(context, &ids)) {
                match removed {
                    Ok(()) => group.removed.push(snapshot.clone()),
                    Err(error) => outcome.failures.push(not_removed(context, &snapshot.id, &error)),
                }
            }
        }
    }
    let wanted = std::mem::take(&mut outcome.unreadable);
    for (id, removed) in wanted.iter().zip(remove_each(context, &wanted)) {
        match removed {
            Ok(()) => outcome.unreadable.push(*id),
            Err(error) => outcome.failures.push(not_removed(context, id, &error)),
        }
    }
    Ok(context.repository.store().flush(Area::Snapshots)?)
}

fn not_removed(context: &Context, id: &SnapshotId, error: &Error) -> Problem {
    let problem = Problem::new(format!("snapshot {}", id.short()), format!("not removed: {error}"), error.kind());
    context.monitor.event(Event::Problem(&problem));
    problem
}

/// Removes a snapshot.
pub fn remove(context: &Context, id: SnapshotId) -> Result<()> {
    remove_each(context, &[id]).into_iter().collect()
}

/// Removes snapshots, many at once where that is quicker; an answer for each. What their sessions left goes first:
/// without the snapshot, which says that it has ended, a mark would look like that of somebody at work.
fn remove_each(context: &Context, ids: &[SnapshotId]) -> Vec<Result<()>> {
    let store = &**context.repository.store();
    let mut failed = session::clear_each(store, ids.iter().copied());
    let cleared: Vec<Key> =
        ids.iter().filter(|id| !failed.contains_key(id)).map(|id| Key::new(Area::Snapshots, id)).collect();
    let mut removed = cleared.iter().zip(store.delete_each(&cleared));
    let answer = |id: &SnapshotId| match failed.remove(id) {
        Some(error) => Err(error.into()),
        None => match removed.next() {
            Some((key, Err(error))) => Err(why_kept(store, key, error)),
            _ => Ok(()),
        },
    };
    ids.iter().map(answer).collect()
}

fn why_kept(store: &dyn ObjectStore, key: &Key, error: store::Error) -> Error {
    match lock_of(store, key, error) {
        Ok(lock) => Error::Refused(format!("{key} is {lock}: the store lets nobody delete it before")),
        Err(error) => error.into(),
    }
}

fn save(context: &Context, mut record: Record, outcome: &Outcome) -> Result<()> {
    for snapshot in outcome.groups.iter().flat_map(|group| &group.removed) {
        record.snapshot(snapshot.id);
    }
    outcome.unreadable.iter().for_each(|id| record.snapshot(*id));
    record.figure("snapshots_removed", outcome.removed);
    record.figure("snapshots_kept", outcome.kept);
    record.problems(&outcome.failures);
    record.save(context, if outcome.failures.is_empty() { Ended::Done } else { Ended::Failed })
}
