//! Making the index anew from the packs themselves.
//!
//! For when segments are lost or damaged. Every pack says in its own directory what it holds, so nothing else is
//! needed. New segments are stored before old ones go.

use super::prune::alone;
use super::record::Record;
use super::{Context, Error, Result};
use crate::base::Problem;
use crate::format::run::Outcome as Ended;
use crate::repo::index::{Origin, cache, delete_replaced, rebuild_from_packs};
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
    let alone = alone::begin(context, "rebuild-index")?;
    let own = alone.session.id();
    record.session(own);
    let (store, keyring) = (&**context.repository.store(), context.repository.keyring());
    // What an interrupted prune condemned is still there, or named by no segment: it may be needed.
    for number in session::condemned_numbers(store)? {
        session::close_condemned(&context.repository, number, own)?;
    }
    let origin = Origin {
        session: own,
        level: 0,
        supersedes: Vec::new(),
        previous: Vec::new(),
        condemned_seen: 0,
        written_ns: context.repository.now_ns(),
    };
    let rebuilt = rebuild_from_packs(store, keyring, &origin, &*context.monitor, &context.stop);
    context.check_stop()?;
    let rebuilt = rebuilt?;
    // Before anything goes: from here on nobody misses the old ones.
    let snapshots = snapshots::names(&context.repository)?;
    session::put_roster(&context.repository, own, snapshots, rebuilt.segments.clone(), rebuilt.replaced.clone())?;
    delete_replaced(store, &rebuilt)?;
    alone.session.end()?;
    forget_cache(context)?;
    context.index.refresh(store, keyring)?;
    Ok(Outcome {
        packs: rebuilt.packs,
        blobs: rebuilt.blobs,
        segments_written: rebuilt.segments.len() as u64,
        segments_deleted: rebuilt.replaced.len() as u64,
        damaged: rebuilt.damaged,
    })
}

fn forget_cache(context: &Context) -> Result<()> {
    let Some(folder) = &context.cache_dir else { return Ok(()) };
    let what = || format!("delete the index cache in {}", folder.display());
    cache::remove(folder).map_err(|source| Error::Io { what: what(), source })
}
