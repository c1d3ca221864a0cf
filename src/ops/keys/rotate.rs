//! New keys: a new epoch, or a new root key.

use super::super::{Context, Result};
use super::list::proven_times;
use super::recorded;
use crate::base::{EpochId, KeyId, SlotId};
use crate::crypto::slots::Unlock;
use crate::repo::{epochs, remembered, roots};

/// A new epoch was opened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rotated {
    /// The epoch's name.
    pub epoch: EpochId,
    /// Its place in the order of generations.
    pub number: u64,
    /// How many epochs there are, this one included.
    pub epochs: u64,
}

/// The root key was exchanged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RootExchanged {
    /// The root key that was in use.
    pub old: KeyId,
    /// The one that is.
    pub new: KeyId,
    /// Slots, each with the one that took its place.
    pub slots: Vec<(SlotId, SlotId)>,
    /// Epochs sealed under the new root key, a new one included.
    pub epochs: u64,
    /// An exchange that had been interrupted was brought to its end; no new one was begun.
    pub resumed: bool,
    /// Old slots and epochs that were removed.
    pub removed: u64,
}

/// Opens a new epoch: what is stored from here on is sealed under keys that nobody has seen yet. Runs at work go on
/// under the keys that they began with.
pub fn rotate(context: &Context) -> Result<Rotated> {
    recorded(context, "key rotate", || {
        context.repository.check_writable()?;
        let epoch = epochs::rotate(&context.repository)?;
        let root = context.repository.keyring().root()?;
        let loaded = epochs::load(&**context.repository.store(), context.repository.id(), root)?;
        Ok(Rotated { epoch: epoch.id, number: epoch.number, epochs: loaded.epochs.len() as u64 })
    })
}

/// When the newest epoch was opened, nanoseconds since 1970.
pub fn newest_epoch_ns(context: &Context) -> Result<i64> {
    let root = context.repository.keyring().root()?;
    let loaded = epochs::load(&**context.repository.store(), context.repository.id(), root)?;
    Ok(epochs::newest(&loaded.epochs)?.created_ns)
}

/// Exchanges the root key without anybody's secret but `unlock`, which opened the repository and proves the new one.
/// Also opens a new epoch. Brings an interrupted exchange to its end, whoever began it.
pub fn exchange_root(context: &Context, unlock: &Unlock) -> Result<RootExchanged> {
    recorded(context, "key rotate --root", || {
        let proven = proven_times(context)?;
        let done = roots::exchange(&context.repository, unlock, &proven)?;
        let roots::Exchanged { old, new, slots, epochs, resumed, removed } = done;
        // What somebody else began is nothing that this machine has made: whoever opens it with an identity compares it.
        if let Some(folder) = context.cache_dir.as_ref().filter(|_| !resumed) {
            remembered::keep_root(&context.repository, folder, new);
        }
        Ok(RootExchanged { old, new, slots, epochs, resumed, removed })
    })
}
