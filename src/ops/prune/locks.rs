//! Retention by Object Lock: what keeps things longer than prune wants, and what has to be kept longer than it was locked.

use super::super::{Context, Error, Result};
use crate::base::monitor::Event;
use crate::base::{Kind, PackId, SortedSet, Timestamp, side_by_side};
use crate::store::{Area, Extended, Key, S3Lock};

/// Objects whose locks are looked at in one go.
const AT_ONCE: usize = 1000;

/// What became of the locks of all that is needed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Locks {
    /// Objects that were looked at.
    pub objects: u64,
    /// Those whose lock was made to last longer.
    pub extended: u64,
    /// When the first of all locks ends.
    pub first_end: Option<Timestamp>,
}

impl Locks {
    fn add(&mut self, lock: Extended) {
        let until = match lock {
            Extended::Enough(until) => until,
            Extended::Now(until) => {
                self.extended += 1;
                until
            }
        };
        self.objects += 1;
        self.first_end = Some(self.first_end.map_or(until, |first| first.min(until)));
    }
}

/// Sees to it that all that a restore needs stays locked: what is there after a prune, packs only if the index counts on
/// them.
pub fn extend(context: &Context) -> Result<Locks> {
    context.monitor.event(Event::Phase("extending locks"));
    let store = &**context.repository.store();
    let mut packs = Vec::new();
    context.index.each_pack::<Error>(&mut |pack| {
        packs.extend((!pack.void).then_some(pack.id));
        Ok(())
    })?;
    let packs: SortedSet<PackId> = packs.into_iter().collect();
    let mut locks = Locks::default();
    for area in Area::ALL.into_iter().filter(|area| S3Lock::covers(*area)) {
        let mut keys = Vec::new();
        store.list(area, &mut |listed| {
            if area != Area::Packs || listed.name.parse().is_ok_and(|pack| packs.contains(&pack)) {
                keys.push(Key::new(area, listed.name));
            }
        })?;
        for keys in keys.chunks(AT_ONCE) {
            context.check_stop()?;
            for lock in side_by_side(store.requests_at_once(), keys, |key| store.extend_lock(key)) {
                match lock {
                    // Taken away by somebody since it was listed.
                    Err(error) if error.kind() == Kind::NotFound => {}
                    lock => locks.add(lock?),
                }
            }
        }
    }
    Ok(locks)
}
