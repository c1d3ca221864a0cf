//! Pruning: freeing what no snapshot needs.
//!
//! ```text
//! alone   a session of our own; dead ones are fenced, living ones make us refuse
//! plan    which blobs live, what becomes of each pack
//! repack  what lives in packs that go is copied into new ones, with a segment
//! merge   new segments in the place of those that name packs that go, and of those of a level that is too full
//! sweep   the proof; the condemned record; then segments go, then packs, then the record
//! ```
//!
//! Build from the ground up, take down from the roof: at every moment each needed blob lies in a pack that a segment
//! names. An interrupted prune leaves nothing that the next one does not settle.

pub mod alone;
mod merge;
mod plan;
mod repack;
mod sweep;

use super::record::Record;
use super::{Context, Error, Result};
use crate::base::Problem;
use crate::base::monitor::Event;
use crate::format::run::Outcome as Ended;
use crate::repo;
use crate::repo::session;
use crate::store::Area;
use plan::Plan;
use std::str::FromStr;
use sweep::Swept;

/// How often a plan is made again because somebody changed something meanwhile.
const PLANS: usize = 3;

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
    /// Only say what would go.
    pub dry_run: bool,
}

/// Deleting was left to the next prune: somebody began to work meanwhile who may count on what would have gone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Waiting {
    /// The number of the condemned record, which was taken back.
    pub record: u64,
    /// Why.
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
    /// Packs that went, rewritten ones included.
    pub packs_deleted: u64,
    /// Of those, packs whose living blobs were copied.
    pub packs_repacked: u64,
    /// Of those, packs that a run which died had left without a segment.
    pub packs_orphaned: u64,
    /// New packs.
    pub packs_written: u64,
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
    /// Dead sessions that can no longer commit.
    pub sessions_fenced: u64,
    /// Ended sessions whose marks were taken away.
    pub sessions_cleared: u64,
    /// Deleting was left to the next prune.
    pub waiting: Option<Waiting>,
}

/// Frees what no snapshot needs. Refuses while somebody else is at work; deletes nothing when a snapshot, a tree or a
/// segment cannot be read, because then nobody knows what is needed.
pub fn prune(context: &Context, options: &Options) -> Result<Outcome> {
    if options.dry_run {
        return preview(context, options);
    }
    let mut record = Record::begin(context, "prune");
    match run(context, options, &mut record) {
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
        ("packs_written", outcome.packs_written),
        ("freed_bytes", outcome.freed_bytes),
        ("unused_bytes", outcome.unused_bytes),
        ("pinned_bytes", outcome.pinned_bytes),
        ("sessions_fenced", outcome.sessions_fenced),
    ] {
        record.figure(name, value);
    }
    record.save(context, Ended::Done)
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

/// Brings the index up to date. A segment that cannot be read makes packs look unneeded that are not.
fn refresh(context: &Context) -> Result<()> {
    let opened = context.refresh()?;
    opened.damaged.first().map_or(Ok(()), |problem| Err(index_damaged(problem)))
}

fn index_damaged(problem: &Problem) -> Error {
    let reason = format!("{}; nothing was deleted: run `keepstone rebuild-index` first", problem.message);
    Error::Repo(repo::Error::damaged(&problem.subject, reason))
}

fn run(context: &Context, options: &Options, record: &mut Record) -> Result<Outcome> {
    let mut alone = alone::begin(context, "prune")?;
    record.session(alone.session.id());
    let mut outcome = begin_outcome(context, options)?;
    sweep::settle_earlier(context, alone.session.id())?;
    let mut attempts = 0;
    while !attempt(context, options, &mut alone, &mut outcome)? {
        attempts += 1;
        if attempts == PLANS {
            return Err(sweep::too_busy(attempts));
        }
    }
    outcome.sessions_fenced = alone.fenced;
    alone.session.end()?;
    outcome.sessions_cleared = alone::clear_closed(&context.repository)?;
    refresh(context)?;
    let after = measure(context)?;
    outcome.bytes_after = after.bytes;
    outcome.segments_after = after.segments;
    outcome.freed_bytes = outcome.bytes_before.saturating_sub(after.bytes);
    Ok(outcome)
}

/// Plans and carries out; false if somebody changed something meanwhile.
fn attempt(context: &Context, options: &Options, alone: &mut alone::Alone<'_>, outcome: &mut Outcome) -> Result<bool> {
    refresh(context)?;
    let plan = plan::make(context, options, alone.stored_ns)?;
    describe(&plan, outcome);
    let own = alone.session.id();
    let condemned_seen = session::next_condemned(&**context.repository.store())? - 1;
    let repacked = repack::repack(context, &plan, own, condemned_seen)?;
    outcome.packs_written += repacked.packs;
    if repacked.damaged {
        // The plan counted on what cannot be read. The index knows now: the next plan does not.
        return Ok(false);
    }
    let merge = merge::merge(context, &plan, own, condemned_seen)?;
    if plan.going().next().is_none() && merge.replaced.is_empty() {
        return Ok(true);
    }
    sweep::prove(context, &plan)?;
    context.check_stop()?;
    // Whoever began since we looked may count on packs that look unneeded: better to leave them their packs.
    alone.check(context)?;
    let Some(record) = sweep::condemn(context, &plan, &merge, own)? else {
        // Nobody else prunes now: it may be our own, whose answer was lost on the way.
        sweep::settle_earlier(context, own)?;
        return Ok(false);
    };
    // The set of what lives has served: its place on disk is free again before things go.
    drop(plan);
    match sweep::sweep(context, &record, own)? {
        Swept::Done => Ok(true),
        Swept::PlanAgain => {
            session::close_condemned(&context.repository, record.number, own)?;
            Ok(false)
        }
        Swept::Wait(reason) => {
            // Whoever began may count on what the record names. The next prune plans anew in any case, so the record
            // would only hide these packs from readers until then.
            session::close_condemned(&context.repository, record.number, own)?;
            let note = format!("deleting is left to the next prune: {reason}");
            context.monitor.event(Event::Note(&note));
            outcome.packs_deleted = 0;
            outcome.waiting = Some(Waiting { record: record.number, reason });
            Ok(true)
        }
    }
}

fn describe(plan: &Plan<'_>, outcome: &mut Outcome) {
    outcome.snapshots = plan.snapshot_count;
    outcome.live_blobs = plan.live.count();
    outcome.packs_kept = plan.kept.len() as u64;
    outcome.packs_deleted = plan.going().count() as u64;
    outcome.packs_repacked = plan.repacked.len() as u64;
    outcome.packs_orphaned = plan.orphaned.len() as u64;
    outcome.unused_bytes = plan.unused_bytes;
    outcome.pinned_bytes = plan.pinned_bytes;
}

/// What a prune would do. It leaves no mark and fences nobody, so what others do meanwhile may change the answer.
fn preview(context: &Context, options: &Options) -> Result<Outcome> {
    let mut outcome = begin_outcome(context, options)?;
    refresh(context)?;
    if let Some(record) = session::condemned_numbers(&**context.repository.store())?.first() {
        let reason = "an earlier prune was interrupted: the next real one settles what it left, then plans".to_owned();
        outcome.bytes_after = outcome.bytes_before;
        outcome.waiting = Some(Waiting { record: *record, reason });
        return Ok(outcome);
    }
    let open = session::open_sessions(&context.repository)?;
    let since_ns = open.iter().map(|other| other.stored_ns).min().unwrap_or(i64::MAX);
    let plan = plan::make(context, options, since_ns)?;
    describe(&plan, &mut outcome);
    let going: u64 = plan.going().map(|(_, bytes)| *bytes).sum();
    outcome.bytes_after = (outcome.bytes_before + plan.copied_bytes).saturating_sub(going);
    outcome.freed_bytes = outcome.bytes_before.saturating_sub(outcome.bytes_after);
    outcome.segments_after = outcome.segments_before;
    Ok(outcome)
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
