//! Making the index anew from the packs themselves.
//!
//! For when segments are lost or damaged. Every pack says in its own directory what it holds, so nothing else is
//! needed. New segments are stored before old ones go, and old ones go as with a prune: a condemned record names them. Who
//! begins to write meanwhile knows only the old ones; then they stay until it has ended, and the next prune takes them.

use super::prune::alone;
use super::prune::presence::Presence;
use super::prune::sweep::{self, Swept};
use super::record::Record;
use super::{Context, Error, Result};
use crate::base::monitor::Event;
use crate::base::{Problem, SessionId};
use crate::format::cbor::Unknown;
use crate::format::run::Outcome as Ended;
use crate::format::session::Condemned;
use crate::repo::index::{Origin, Rebuilt, cache, rebuild_from_packs};
use crate::repo::{session, snapshots};

/// What came of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Outcome {
    /// Packs that were read and are in the index now.
    pub packs: u64,
    /// Blobs that they hold.
    pub blobs: u64,
    /// New segments.
    pub segments_written: u64,
    /// Old segments that they replace.
    pub segments_deleted: u64,
    /// Old segments that stay until somebody has ended who began to work meanwhile: the next prune deletes them.
    pub segments_left: u64,
    /// Packs whose directory cannot be read: what they hold is unknown. Not empty: there is damage.
    pub damaged: Vec<Problem>,
}

/// Makes the index anew and throws the local cache away. Refuses while somebody else is at work.
pub fn rebuild_index(context: &Context) -> Result<Outcome> {
    let mut record = Record::begin(context, "rebuild-index");
    match run(context, &mut record) {
        Ok(outcome) => {
            record.figure("packs", outcome.packs);
            record.figure("blobs", outcome.blobs);
            record.problems(&outcome.damaged);
            record.damaged_packs(context, &outcome.damaged);
            record.save(context, if outcome.damaged.is_empty() { Ended::Done } else { Ended::Damage })?;
            Ok(outcome)
        }
        Err(error) => {
            record.save_failure(context, &error);
            Err(error)
        }
    }
}

fn run(context: &Context, record: &mut Record) -> Result<Outcome> {
    let mut presence = Presence::begin(context, "rebuild-index")?;
    alone::check(context, &mut presence)?;
    let own = presence.session.id();
    record.session(own);
    let (store, keyring) = (&**context.repository.store(), context.repository.keyring());
    session::clear_records(store)?;
    // What an interrupted prune condemned is still there: it may be needed.
    for number in session::condemned_numbers(store)? {
        session::give_up_condemned(&context.repository, number, own)?;
    }
    let closed = session::list_condemned(store)?.closed;
    let origin = Origin {
        session: own,
        level: 0,
        supersedes: Vec::new(),
        previous: Vec::new(),
        condemned_seen: closed,
        written_ns: context.repository.now_ns(),
    };
    let snapshots = snapshots::names(&context.repository)?;
    let rebuilt = rebuild_from_packs(store, keyring, &origin, &*context.monitor, &context.stop);
    context.check_stop()?;
    let rebuilt = rebuilt?;
    let condemned = replaced(context, &rebuilt, snapshots, closed + 1, own);
    let Some(condemned) = session::put_condemned(&context.repository, condemned)? else {
        return Err(Error::Refused("another prune or rebuild was quicker: run this again".to_owned()));
    };
    forget_cache(context)?;
    let left = match sweep::sweep(context, &mut presence, &condemned)? {
        Swept::Done(_) => 0,
        Swept::Waits(who) => {
            let note = format!("the old segments stay until the first prune after the end of {who}");
            context.monitor.event(Event::Note(&note));
            condemned.segments.len() as u64
        }
    };
    presence.session.end()?;
    context.index.refresh(store, keyring)?;
    Ok(Outcome {
        packs: rebuilt.packs,
        blobs: rebuilt.blobs,
        segments_written: rebuilt.segments.len() as u64,
        segments_deleted: rebuilt.replaced.len() as u64 - left,
        segments_left: left,
        damaged: rebuilt.damaged,
    })
}

/// The record that says which segments go, and which say the same from then on.
fn replaced(
    context: &Context,
    rebuilt: &Rebuilt,
    snapshots: Vec<crate::base::SnapshotId>,
    number: u64,
    session: SessionId,
) -> Condemned {
    Condemned {
        number,
        session,
        at_ns: context.repository.now_ns(),
        packs: Vec::new(),
        segments: rebuilt.replaced.clone(),
        snapshots,
        kept_segments: rebuilt.segments.clone(),
        voucher: None,
        unknown: Unknown::none(),
    }
}

fn forget_cache(context: &Context) -> Result<()> {
    let Some(folder) = &context.cache_dir else { return Ok(()) };
    let what = || format!("delete the index cache in {}", folder.display());
    cache::remove(folder).map_err(|source| Error::Io { what: what(), source })
}
