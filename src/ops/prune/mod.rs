//! Pruning: freeing what no snapshot needs, while others write.
//!
//! ```text
//! presence  a session of our own; dead ones are fenced, living ones go on
//! earlier   the record that an earlier prune could not sweep is swept, if it can be now
//! vouch     what clients stored that may only write is read once; what is as it should be counts from then on
//! plan      which blobs live, what becomes of each pack
//! repack    what lives in packs that go is copied into new ones, with a segment
//! merge     new segments in the place of those that name packs that go, and of those of a level that is too full
//! sweep     the proof; the condemned record; when everybody knows of it, segments go, then packs
//! ```
//!
//! Build from the ground up, take down from the roof: at every moment each needed blob lies in a pack that a segment
//! names. An interrupted prune leaves nothing that the next one does not settle. Nobody waits: what cannot be swept yet,
//! because somebody is at work who does not know of the record, is left to a later prune. Why that is safe beside any
//! number of writers and other prunes stands in [`crate::repo::session`].
//!
//! In a store that only looks before it puts, prune refuses while others are at work.

pub mod alone;
pub mod locks;
mod merge;
mod plan;
pub mod presence;
mod repack;
mod sidecars;
mod spare;
pub mod sweep;
mod vouch;

pub use locks::Locks;
pub(super) use plan::stored_among;
pub use plan::{mark_tree, missing};

use super::record::Record;
use super::select::Age;
use super::{Context, Error, Result, verify};
use crate::base::monitor::Event;
use crate::base::{Kind, PackId, Problem, SegmentId, SessionId, SortedSet, counted};
use crate::format::run::Outcome as Ended;
use crate::format::session::Condemned;
use crate::repo;
use crate::repo::index::{each_segment, present_segments, segments};
use crate::repo::pack_reader::pack_key;
use crate::repo::{history, ledger, session, snapshots};
use crate::store::{self, Area, Locked};
use plan::{Plan, Seen};
use presence::Presence;
use std::collections::{BTreeMap, BTreeSet};
use std::str::FromStr;
use std::time::Duration;
use sweep::Swept;

/// How often a plan is made again because another prune was quicker.
const PLANS: usize = 3;
/// A pack that is this much older than the oldest open session belongs to none of them: store nodes' clocks differ, and
/// some tell only whole seconds.
const ORPHAN_MARGIN_NS: i64 = 600 * 1_000_000_000;

/// How much may stay unused inside packs that are needed for something else.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum MaxUnused {
    /// This part of all packs, in per cent.
    Percent(f64),
    /// So many bytes.
    Bytes(u64),
    /// Any amount: only packs that nobody needs go.
    Unlimited,
}

impl Default for MaxUnused {
    fn default() -> MaxUnused {
        MaxUnused::Percent(5.0)
    }
}

/// A text that says no amount.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no amount: use a percentage (5%), bytes with or without K, M, G or T (500M), or `unlimited`")]
pub struct NotAnAmount(String);

impl FromStr for MaxUnused {
    type Err = NotAnAmount;
    fn from_str(text: &str) -> Result<MaxUnused, NotAnAmount> {
        if text == "unlimited" {
            return Ok(MaxUnused::Unlimited);
        }
        let amount = match text.strip_suffix('%') {
            Some(percent) => {
                percent.parse().ok().filter(|percent| (0.0..=100.0).contains(percent)).map(MaxUnused::Percent)
            }
            None => parse_bytes(text).map(MaxUnused::Bytes),
        };
        amount.ok_or_else(|| NotAnAmount(text.to_owned()))
    }
}

fn parse_bytes(text: &str) -> Option<u64> {
    let shift = match text.chars().last()?.to_ascii_uppercase() {
        'K' => 10,
        'M' => 20,
        'G' => 30,
        'T' => 40,
        _ => 0,
    };
    let digits = if shift > 0 { &text[..text.len() - 1] } else { text };
    digits.parse::<u64>().ok()?.checked_mul(1 << shift)
}

/// How to prune.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// What may stay unused.
    pub max_unused: MaxUnused,
    /// Packs of at most so many bytes are rewritten in one run; the next run goes on.
    pub max_repack_bytes: Option<u64>,
    /// Packs that are rewritten even if all of them is needed: whatever is written is sealed under the newest keys.
    pub rewrite: BTreeSet<PackId>,
    /// Run records of this age are dropped; none for no age.
    pub keep_log: Option<Age>,
    /// See to it that what stays stays locked, in a bucket with Object Lock.
    pub extend_locks: bool,
    /// Only say what would go.
    pub dry_run: bool,
    /// What becomes of what only snapshots need that are gone and that nobody is known to have forgotten.
    pub gone: Gone,
}

/// What a prune makes of snapshots that are gone and that nobody is known to have forgotten.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Gone {
    /// It does not ask.
    #[default]
    Unasked,
    /// Somebody deleted them from the store, perhaps by mistake: it deletes nothing.
    Refused,
    /// They were meant to go, and are written down as such.
    Forgotten,
}

/// Deals with snapshots that are gone and that nobody is known to have forgotten.
fn look_for_gone(context: &Context, options: &Options) -> Result<()> {
    if options.gone == Gone::Unasked {
        return Ok(());
    }
    context.repository.keyring().check_full("prune")?;
    let gone = verify::gone(context)?;
    let Some(first) = gone.first() else { return Ok(()) };
    if options.gone == Gone::Forgotten {
        if options.dry_run {
            return Ok(());
        }
        let mut record = Record::begin(context, "forget");
        gone.iter().for_each(|id| record.snapshot(*id));
        return record.save(context, Ended::Done);
    }
    let which = match gone.len() {
        1 => format!("snapshot {} is gone", first.short()),
        others => format!("snapshot {} and {} more are gone", first.short(), others - 1),
    };
    Err(Error::Refused(format!(
        "{which}, and no record tells of a `forget`: somebody deleted from the store, and a prune would delete what only they \
         need. Put their objects back from a mirror of the repository (`keepstone verify` names them), or say --forget-gone if \
         they were meant to go. Nothing was deleted"
    )))
}

/// Deleting was left to a later prune: somebody is at work who may count on what would go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Waiting {
    /// The number of the condemned record that stays open.
    pub record: u64,
    /// How many packs it names.
    pub packs: u64,
    /// Their bytes.
    pub bytes: u64,
    /// For whom it waits, or why.
    pub reason: String,
}

/// What came of it; in a dry run, about what would.
#[derive(Clone, Debug, Default)]
pub struct Outcome {
    /// Nothing was changed.
    pub dry_run: bool,
    /// Snapshots that were looked through.
    pub snapshots: u64,
    /// Blobs that they need, bases included.
    pub live_blobs: u64,
    /// Packs in the store before.
    pub packs_before: u64,
    /// Packs that stay as they are.
    pub packs_kept: u64,
    /// Their bytes.
    pub kept_bytes: u64,
    /// Packs that went, rewritten ones and those that an earlier prune had condemned included.
    pub packs_deleted: u64,
    /// Their bytes, and those of the segments that went.
    pub deleted_bytes: u64,
    /// Packs whose living blobs were copied.
    pub packs_repacked: u64,
    /// Their bytes.
    pub repacked_bytes: u64,
    /// What of them has to be read and written, about.
    pub copied_bytes: u64,
    /// Packs that a run which died had left without a segment.
    pub packs_orphaned: u64,
    /// Packs that were condemned and that somebody needs after all.
    pub packs_spared: u64,
    /// Packs that nobody needs and that the store keeps, because they are locked. A later prune tries again.
    pub packs_locked: u64,
    /// Their bytes.
    pub locked_bytes: u64,
    /// Segments that were replaced and that the store keeps, because they are locked.
    pub segments_locked: u64,
    /// What keeps the one of them that is kept longest.
    pub lock: Option<Locked>,
    /// Bytes of packs that go before the time that their storage class is billed for at least.
    pub early_bytes: u64,
    /// Packs of clients that may only write which were read and are relied on from now on.
    pub packs_vouched: u64,
    /// Blobs of such clients that are not what they say, or cannot be read: nothing relies on them.
    pub blobs_doubtful: u64,
    /// Parity sidecars that went with their packs, or had none any more.
    pub sidecars_deleted: u64,
    /// Their bytes, which are in no other figure here.
    pub sidecar_bytes_deleted: u64,
    /// New packs.
    pub packs_written: u64,
    /// Their bytes, and those of new segments; in a dry run about what copying would write.
    pub written_bytes: u64,
    /// Bytes of packs and segments before.
    pub bytes_before: u64,
    /// Bytes of packs and segments after.
    pub bytes_after: u64,
    /// The difference; 0 when nothing was gained.
    pub freed_bytes: u64,
    /// Bytes inside kept packs that nobody needs, about.
    pub unused_bytes: u64,
    /// Bytes in kept packs, about, that only differences hang on which nobody needs. They count as unused when it is
    /// decided what is rewritten.
    pub pinned_bytes: u64,
    /// Segments before.
    pub segments_before: u64,
    /// Segments after.
    pub segments_after: u64,
    /// Segments that went: merged into others, or replaced because they named packs that go.
    pub segments_deleted: u64,
    /// New segments.
    pub segments_written: u64,
    /// Dead sessions that can no longer commit.
    pub sessions_fenced: u64,
    /// Ended sessions whose marks were taken away.
    pub sessions_cleared: u64,
    /// Older run records that were put together.
    pub records_merged: u64,
    /// Run records that were dropped because they are old.
    pub records_dropped: u64,
    /// What became of the locks of what stays, if they were to last longer.
    pub locks: Option<Locks>,
    /// Deleting was left to a later prune.
    pub waiting: Option<Waiting>,
    /// Packs with something that is needed and cannot be read. They stayed as they were, and so did all that they hang on;
    /// everything else was done.
    pub damaged: Vec<Problem>,
}

impl Outcome {
    /// The same, if nothing is damaged: an error that names the first of what is, otherwise.
    pub fn whole(self) -> Result<Outcome> {
        match self.damaged.first() {
            None => Ok(self),
            Some(first) => Err(Error::Repo(repo::Error::damaged(&first.subject, &first.message))),
        }
    }
}

/// Frees what no snapshot needs, beside whoever is at work. Deletes nothing when a snapshot, a tree or a segment cannot
/// be read, because then nobody knows what is needed.
pub fn prune(context: &Context, options: &Options) -> Result<Outcome> {
    if options.dry_run {
        look_for_gone(context, options)?;
        return preview(context, options);
    }
    let mut record = Record::begin(context, "prune");
    match look_for_gone(context, options).and_then(|()| run(context, options, &mut record)) {
        Ok(outcome) => {
            save(context, record, &outcome)?;
            Ok(outcome)
        }
        Err(error) => {
            record.save_failure(context, &error);
            Err(error)
        }
    }
}

fn save(context: &Context, mut record: Record, outcome: &Outcome) -> Result<()> {
    for (name, value) in [
        ("packs_deleted", outcome.packs_deleted),
        ("packs_repacked", outcome.packs_repacked),
        ("packs_spared", outcome.packs_spared),
        ("packs_written", outcome.packs_written),
        ("packs_vouched", outcome.packs_vouched),
        ("blobs_doubtful", outcome.blobs_doubtful),
        ("packs_kept", outcome.packs_kept),
        ("packs_locked", outcome.packs_locked),
        ("kept_bytes", outcome.kept_bytes),
        ("repacked_bytes", outcome.repacked_bytes),
        ("locked_bytes", outcome.locked_bytes),
        ("sidecars_deleted", outcome.sidecars_deleted),
        ("sidecar_bytes", outcome.sidecar_bytes_deleted),
        ("segments_deleted", outcome.segments_deleted),
        ("segments_written", outcome.segments_written),
        ("deleted_bytes", outcome.deleted_bytes),
        ("written_bytes", outcome.written_bytes),
        ("waiting_bytes", outcome.waiting.as_ref().map_or(0, |waiting| waiting.bytes)),
        ("freed_bytes", outcome.freed_bytes),
        ("unused_bytes", outcome.unused_bytes),
        ("pinned_bytes", outcome.pinned_bytes),
        ("sessions_fenced", outcome.sessions_fenced),
        ("records_merged", outcome.records_merged),
        ("records_dropped", outcome.records_dropped),
    ] {
        record.figure(name, value);
    }
    record.problems(&outcome.damaged);
    record.save(context, if outcome.damaged.is_empty() { Ended::Done } else { Ended::Damage })
}

/// What lies in the store.
struct Size {
    packs: u64,
    segments: u64,
    bytes: u64,
}

fn measure(context: &Context) -> Result<Size> {
    let mut size = Size { packs: 0, segments: 0, bytes: 0 };
    let store = context.repository.store();
    store.list(Area::Packs, &mut |listed| {
        size.packs += 1;
        size.bytes += listed.size_bytes;
    })?;
    store.list(Area::Index, &mut |listed| {
        size.segments += 1;
        size.bytes += listed.size_bytes;
    })?;
    Ok(size)
}

fn begin_outcome(context: &Context, options: &Options) -> Result<Outcome> {
    let before = measure(context)?;
    Ok(Outcome {
        dry_run: options.dry_run,
        packs_before: before.packs,
        bytes_before: before.bytes,
        segments_before: before.segments,
        ..Outcome::default()
    })
}

/// Brings the index up to date; gives the segments that it was brought up to date with. One that cannot be read makes
/// packs look unneeded that are not.
fn refresh(context: &Context) -> Result<Vec<SegmentId>> {
    let opened = context.refresh()?;
    opened.damaged.first().map_or(Ok(opened.segments), |problem| Err(index_damaged(problem)))
}

fn index_damaged(problem: &Problem) -> Error {
    let reason = format!("{}; nothing was deleted: run `keepstone rebuild-index` first", problem.message);
    Error::Repo(repo::Error::damaged(&problem.subject, reason))
}

/// Whether prune may run beside others: the store puts only what is absent, and shows what was just put.
fn beside_others(context: &Context) -> bool {
    let honours = &context.repository.config().store;
    honours.put_if_absent && honours.list_after_write && context.repository.store().puts_are_atomic()
}

/// An upload that was not written to for so long, by a process that is gone, is nobody's any more.
const ABANDONED: Duration = Duration::from_secs(10 * 60);

/// Less than this is not enough for a mark, so the room that is kept is taken at once.
const FULL_BYTES: u64 = 64 << 10;

/// Gives up the room that is kept for a prune; whether there was any.
fn make_room(context: &Context) -> Result<bool> {
    let was_kept = context.repository.store().give_up_reserve()?;
    if was_kept {
        context.monitor.event(Event::Note("the disk is full: this prune works in the room that is kept for it"));
    }
    Ok(was_kept)
}

/// Runs; on a disk that is full, in the room that was kept for it. What was freed is there to be kept again.
fn run(context: &Context, options: &Options, record: &mut Record) -> Result<Outcome> {
    let store = context.repository.store();
    if store.free_bytes().is_some_and(|free| free < FULL_BYTES) {
        make_room(context)?;
    }
    let mut presence = match Presence::begin(context, "prune") {
        Err(error) if error.kind() == Kind::Full && make_room(context)? => Presence::begin(context, "prune")?,
        other => other?,
    };
    let outcome = match run_present(context, options, record, &mut presence) {
        Err(error) if error.kind() == Kind::Full && make_room(context)? => {
            // The session that could not go on ends, or this prune would wait for it.
            presence.renew(context)?;
            run_present(context, options, record, &mut presence)?
        }
        other => other?,
    };
    let outcome = close(context, options, presence, outcome)?;
    store.keep_reserve();
    Ok(outcome)
}

fn run_present<'i>(
    context: &'i Context,
    options: &Options,
    record: &mut Record,
    presence: &mut Presence<'i>,
) -> Result<Outcome> {
    record.session(presence.session.id());
    if !beside_others(context) {
        alone::check(context, presence)?;
    }
    let mut outcome = begin_outcome(context, options)?;
    session::clear_records(&**context.repository.store())?;
    let mut attempts = 0;
    let mut unreadable = BTreeMap::new();
    while let Step::Again = attempt(context, options, presence, &mut unreadable, &mut outcome)? {
        attempts += 1;
        if attempts == PLANS {
            let note = "other prunes were quicker each time: what is left to free is left to the next one";
            context.monitor.event(Event::Note(note));
            break;
        }
        // What was condemned meanwhile this session has not seen: nothing of it could be swept while it is open.
        presence.renew(context)?;
    }
    Ok(outcome)
}

/// Ends the session, and clears up what others left.
fn close(context: &Context, options: &Options, presence: Presence<'_>, mut outcome: Outcome) -> Result<Outcome> {
    outcome.sessions_fenced = presence.fenced;
    presence.session.end()?;
    let uploads = context.repository.store().sweep_uploads(ABANDONED)?;
    if uploads > 0 {
        let uploads = if uploads == 1 { "1 upload".to_owned() } else { format!("{uploads} uploads") };
        context.monitor.event(Event::Note(&format!("removed {uploads} that nobody finished")));
    }
    outcome.sessions_cleared = clear_closed(&context.repository)?;
    tidy_records(context, options, &mut outcome)?;
    refresh(context)?;
    sidecars::drop_records(context)?;
    let dropped = sidecars::drop_orphans(context)?;
    (outcome.sidecars_deleted, outcome.sidecar_bytes_deleted) = (dropped.sidecars, dropped.bytes);
    let after = measure(context)?;
    outcome.bytes_after = after.bytes;
    outcome.segments_after = after.segments;
    if options.extend_locks {
        outcome.locks = Some(locks::extend(context)?);
    }
    outcome.freed_bytes = outcome.bytes_before.saturating_sub(after.bytes);
    outcome.written_bytes = (after.bytes + outcome.deleted_bytes).saturating_sub(outcome.bytes_before);
    Ok(outcome)
}

/// Puts older run records together, and takes away what newer ledgers cover.
fn tidy_records(context: &Context, options: &Options, outcome: &mut Outcome) -> Result<()> {
    let drop_before_ns = options.keep_log.map(|age| age.before(context.repository.now_ns()));
    let merged = history::merge(&context.repository, &history::Options { delete: true, drop_before_ns })?;
    outcome.records_merged = merged.runs;
    outcome.records_dropped = merged.dropped;
    ledger::clear_covered(&context.repository)?;
    Ok(())
}

/// What an attempt came to.
enum Step {
    /// All is done that can be.
    Done,
    /// Another prune was quicker, or something turned out to be damaged that the plan had counted on.
    Again,
}

/// Sweeps what is open, plans and carries out.
fn attempt<'i>(
    context: &'i Context,
    options: &Options,
    presence: &mut Presence<'i>,
    unreadable: &mut BTreeMap<PackId, String>,
    outcome: &mut Outcome,
) -> Result<Step> {
    if !sweep_earlier(context, presence, outcome)? {
        return Ok(Step::Done);
    }
    let vouched = vouch::vouch(context, presence.session.id())?;
    outcome.packs_vouched += vouched.packs;
    outcome.blobs_doubtful = vouched.doubtful;
    outcome.segments_written += vouched.segments;
    let Some(seen) = look(context, Some(presence))? else { return Ok(Step::Again) };
    let plan = plan::make(context, options, &seen, &unreadable.keys().copied().collect())?;
    describe(&plan, outcome);
    outcome.damaged = hurt(context, &plan, unreadable)?;
    let own = presence.session.id();
    let repacked = repack::repack(context, &plan, own, seen.condemned_seen)?;
    outcome.packs_written += repacked.packs;
    outcome.segments_written += repacked.segments.len() as u64;
    if repacked.damaged || !repacked.unreadable.is_empty() {
        // The plan counted on what cannot be read. It is known now: the next plan does not.
        unreadable.extend(repacked.unreadable);
        return Ok(Step::Again);
    }
    let merge = merge::merge(context, &plan, own, seen.condemned_seen)?;
    outcome.segments_written += merge.written;
    if plan.going().next().is_none() && merge.replaced.is_empty() {
        return Ok(Step::Done);
    }
    sweep::prove(context, &plan)?;
    context.check_stop()?;
    if !beside_others(context) {
        alone::check(context, presence)?;
    }
    let Some(record) = sweep::condemn(context, plan, merge, own)? else { return Ok(Step::Again) };
    sweep_record(context, presence, &record, outcome)?;
    Ok(Step::Done)
}

/// Sweeps the record that an earlier prune left, or that another one has just put. False if somebody does not know of
/// it: then nothing new is condemned, so that there is never more than one open.
fn sweep_earlier(context: &Context, presence: &mut Presence<'_>, outcome: &mut Outcome) -> Result<bool> {
    let store = &**context.repository.store();
    for number in session::condemned_numbers(store)? {
        let record = match session::load_condemned(store, context.repository.keyring(), number) {
            // Closed since it was listed.
            Err(error) if error.kind() == Kind::NotFound => continue,
            Err(error) if matches!(error.kind(), Kind::Damaged | Kind::Unsupported) => {
                let key = session::condemned_key(number).to_string();
                return Err(index_damaged(&Problem::new(key, &error, error.kind())));
            }
            other => other?,
        };
        if !sweep_record(context, presence, &record, outcome)? {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Sweeps a record if everybody knows of it.
fn sweep_record(
    context: &Context,
    presence: &mut Presence<'_>,
    record: &Condemned,
    outcome: &mut Outcome,
) -> Result<bool> {
    match sweep::sweep(context, presence, record)? {
        Swept::Done(gone) => {
            outcome.packs_deleted += gone.packs;
            outcome.packs_spared += gone.spared;
            outcome.segments_deleted += gone.segments;
            outcome.deleted_bytes += gone.pack_bytes + gone.segment_bytes;
            outcome.packs_locked += gone.locked;
            outcome.locked_bytes += gone.locked_bytes;
            outcome.segments_locked += gone.locked_segments;
            outcome.lock = outcome.lock.max(gone.lock);
            if let Some(lock) = gone.lock {
                let (packs, segments) = (gone.locked, gone.locked_segments);
                let what = format!(
                    "{} and {} that nobody needs: they stay for now",
                    counted(packs, "pack"),
                    counted(segments, "segment")
                );
                let note = format!("{what}: {lock} (the last)");
                context.monitor.event(Event::Note(&note));
            }
            Ok(true)
        }
        Swept::Waits(who) => {
            let waiting = waiting(context, record, who)?;
            context.monitor.event(Event::Note(&format!("deleting is left to a later prune: {}", waiting.reason)));
            outcome.waiting = Some(waiting);
            Ok(false)
        }
    }
}

fn waiting(context: &Context, record: &Condemned, who: String) -> Result<Waiting> {
    let named: SortedSet<PackId> = record.packs.iter().copied().collect();
    let mut bytes = 0;
    plan::each_stored(context, &mut |pack, size_bytes| bytes += if named.contains(&pack) { size_bytes } else { 0 })?;
    let reason = format!("{who} began before it was known what goes; the first prune after its end deletes it");
    Ok(Waiting { record: record.number, packs: record.packs.len() as u64, bytes, reason })
}

/// Looks at all that a plan is made from; none if a record is open.
fn look(context: &Context, presence: Option<&mut Presence<'_>>) -> Result<Option<Seen>> {
    let store = &**context.repository.store();
    let records = session::list_condemned(store)?;
    if !records.open.is_empty() {
        return Ok(None);
    }
    let (others, own_ns) = match presence {
        Some(presence) => (presence.others(context)?, presence.stored_ns),
        // As if it began now.
        None => (session::open_sessions(&context.repository)?, context.repository.now_ns()),
    };
    // Snapshots before segments: what is committed has all its segments in the store.
    let names = snapshots::names(&context.repository)?;
    let segments = refresh(context)?;
    verify::reconsider(context)?;
    let oldest_ns = others.iter().map(|other| other.stored_ns).min().unwrap_or(i64::MAX).min(own_ns);
    let others = others.iter().map(|other| other.mark.id).collect();
    let held = held(context, &segments, &others)?;
    let since_ns = oldest_ns.saturating_sub(ORPHAN_MARGIN_NS);
    Ok(Some(Seen { condemned_seen: records.closed, names, held, since_ns }))
}

/// The packs that segments of these sessions name.
fn held(context: &Context, present: &[SegmentId], sessions: &BTreeSet<SessionId>) -> Result<BTreeSet<PackId>> {
    let mut held = BTreeSet::new();
    if sessions.is_empty() {
        return Ok(held);
    }
    let (store, keyring) = (&**context.repository.store(), context.repository.keyring());
    let sizes = present_segments(store)?;
    let sized = |id: &SegmentId| match sizes.get(id) {
        Some(bytes) => Ok((*id, *bytes)),
        // Taken away since the index was brought up to date: the store says so.
        None => store.size(&segments::segment_key(*id)).map(|bytes| (*id, bytes)),
    };
    let sized: Vec<(SegmentId, u64)> = present.iter().map(sized).collect::<Result<_, store::Error>>()?;
    each_segment(store, keyring, &sized, |_, mut reader| {
        while sessions.contains(&reader.head.session) {
            let Some(pack) = reader.next_pack()? else { break };
            held.insert(pack.id);
        }
        Ok::<_, Error>(())
    })?;
    // What is void is of no use to them either.
    context.index.each_pack::<Error>(&mut |pack| {
        if pack.void {
            held.remove(&pack.id);
        }
        Ok(())
    })?;
    Ok(held)
}

fn describe(plan: &Plan<'_>, outcome: &mut Outcome) {
    outcome.snapshots = plan.snapshot_count;
    outcome.live_blobs = plan.live.count();
    (outcome.packs_kept, outcome.kept_bytes) = plan.kept_bytes();
    outcome.packs_repacked = plan.repacked().count() as u64;
    outcome.repacked_bytes = plan.repacked().map(|(_, bytes)| bytes).sum();
    outcome.copied_bytes = plan.copied_bytes();
    outcome.early_bytes = plan.early_bytes;
    outcome.packs_orphaned = plan.orphans();
    outcome.unused_bytes = plan.unused_bytes();
    outcome.pinned_bytes = plan.pinned_bytes();
}

/// What to say of the packs that stay because they are damaged. Those that only hang on them are not worth a line each.
fn hurt(context: &Context, plan: &Plan<'_>, unreadable: &BTreeMap<PackId, String>) -> Result<Vec<Problem>> {
    let blocks = || "blocks in it that snapshots need cannot be read, and nothing else has what is in them".to_owned();
    let problem = |pack: &PackId| {
        let what = unreadable.get(pack).cloned().unwrap_or_else(blocks);
        let message = format!(
            "{what}; it stays as it is, with what it hangs on and what hangs on it, and everything else is pruned: run \
             `keepstone repair plan`"
        );
        Problem::new(pack_key(*pack).to_string(), message, Kind::Damaged)
    };
    let found = context.index.damaged_packs()?;
    let (mut damaged, hanging): (BTreeSet<PackId>, BTreeSet<PackId>) =
        plan.hurt.iter().partition(|pack| found.contains(*pack) || unreadable.contains_key(*pack));
    if damaged.is_empty() {
        damaged = hanging;
    }
    Ok(damaged.iter().map(problem).collect())
}

/// What a prune would do. It leaves no mark and fences nobody, so what others do meanwhile may change the answer.
fn preview(context: &Context, options: &Options) -> Result<Outcome> {
    let mut outcome = begin_outcome(context, options)?;
    outcome.segments_after = outcome.segments_before;
    let store = &**context.repository.store();
    let Some(seen) = look(context, None)? else {
        for number in session::condemned_numbers(store)? {
            let record = session::load_condemned(store, context.repository.keyring(), number)?;
            let mut waiting = waiting(context, &record, String::new())?;
            let reason = "an earlier prune condemned it; the next real one deletes it, then plans";
            waiting.reason = reason.to_owned();
            outcome.packs_deleted += waiting.packs;
            outcome.deleted_bytes += waiting.bytes;
            outcome.waiting = Some(waiting);
        }
        outcome.freed_bytes = outcome.deleted_bytes;
        outcome.bytes_after = outcome.bytes_before.saturating_sub(outcome.deleted_bytes);
        return Ok(outcome);
    };
    let plan = plan::make(context, options, &seen, &BTreeSet::new())?;
    describe(&plan, &mut outcome);
    outcome.damaged = hurt(context, &plan, &BTreeMap::new())?;
    outcome.packs_deleted = plan.going().count() as u64;
    outcome.deleted_bytes = plan.going().map(|(_, bytes)| bytes).sum();
    let sidecars = sidecars::orphans(context, &|pack| plan.goes(pack))?;
    (outcome.sidecars_deleted, outcome.sidecar_bytes_deleted) =
        (sidecars.len() as u64, sidecars.iter().map(|(_, bytes)| bytes).sum());
    outcome.written_bytes = outcome.copied_bytes;
    outcome.bytes_after = (outcome.bytes_before + outcome.copied_bytes).saturating_sub(outcome.deleted_bytes);
    outcome.freed_bytes = outcome.bytes_before.saturating_sub(outcome.bytes_after);
    Ok(outcome)
}

/// Takes away the marks of all sessions that have ended, and the tombstones of those whose processes are known to be
/// gone. Other tombstones stay: a machine that sleeps may still wake up and want to commit.
fn clear_closed(repository: &repo::Repository) -> Result<u64> {
    let store = &**repository.store();
    let closed = session::closed_sessions(store)?;
    // Asked before the marks go, which say whose they are.
    let gone = session::gone_among(repository, &closed)?;
    let cleared = session::clear_sessions(store, &closed)?;
    let tombstones = session::fenced_among(store, &gone)?;
    let keys: Vec<store::Key> = tombstones.iter().map(|id| store::Key::new(Area::Snapshots, id)).collect();
    // One that is locked says of a session that is over that it is over.
    store::delete_unlocked(store, &keys)?;
    Ok(cleared)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_amount_is_a_percentage_or_bytes_or_unlimited() {
        assert_eq!("5%".parse(), Ok(MaxUnused::Percent(5.0)));
        assert_eq!("0".parse(), Ok(MaxUnused::Bytes(0)));
        assert_eq!("2k".parse(), Ok(MaxUnused::Bytes(2048)));
        assert_eq!("3G".parse(), Ok(MaxUnused::Bytes(3 << 30)));
        assert_eq!("unlimited".parse(), Ok(MaxUnused::Unlimited));
        for text in ["", "%", "-1%", "101%", "NaN%", "M", "1.5M", "99999999999T", "5 %", "é"] {
            assert!(text.parse::<MaxUnused>().is_err(), "{text:?}");
        }
    }
}
