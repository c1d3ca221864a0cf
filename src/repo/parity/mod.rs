//! Parity sidecars of packs: made, looked through, and used to mend.
//!
//! Whatever is in here needs no key. A sidecar is stored after its pack, never before; a pack without one is as good as
//! before, only that nothing can be made anew. Nothing is held in memory but a group of cells at a time: what is to be
//! read in another order than it comes lies meanwhile in an upload that is not finished.

mod make;
mod mend;
mod setting;
mod sidecar;
mod spool;
#[cfg(test)]
mod tests;

pub use make::{make, make_for};
pub use mend::{Assessment, Mended, Outlook, assess, mend};
pub use setting::share;
pub use sidecar::Sidecar;
pub use spool::{Spool, each_cell};

use super::error::{Error, Result};
use crate::base::{Kind, PackId, SortedMap};
use crate::store::{Area, Key, ObjectStore};

/// The key of a pack's sidecar.
pub fn sidecar_key(pack: PackId) -> Key {
    Key::new(Area::Parity, pack)
}

/// The sidecars in the store, with their sizes.
pub fn list(store: &dyn ObjectStore) -> Result<SortedMap<PackId, u64>> {
    let mut sidecars = Vec::new();
    store.list(Area::Parity, &mut |listed| {
        if let Ok(pack) = listed.name.parse::<PackId>() {
            sidecars.push((pack, listed.size_bytes));
        }
    })?;
    Ok(sidecars.into_iter().collect())
}

/// A failure of the local disk on which something lies for a moment.
fn spool_failed(error: std::io::Error) -> Error {
    Error::Store(crate::store::Error::new(Kind::of_io(&error), "write aside", "what is being made or mended", error))
}

/// A group that the code refuses although its shape was checked.
fn refused(error: crate::parity::Error) -> Error {
    Error::Internal(format!("the cells of a pack do not make a group: {error}"))
}
