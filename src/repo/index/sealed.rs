//! Under which keys the blocks of packs are sealed.

use super::live::PackSummary;
use super::{Index, Result};
use crate::base::KeyId;

/// What of a pack is sealed under one key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SealedPart {
    /// The pack.
    pub pack: PackSummary,
    /// The key of some of its blocks.
    pub key: KeyId,
    /// The stored bytes of their frames.
    pub bytes: u64,
}

impl Index {
    /// What each pack holds under which key; packs that a condemned record names are left out. Reads every frame's row
    /// once.
    pub fn sealed_parts(&self) -> Result<Vec<SealedPart>> {
        let packs = self.numbered_packs()?;
        self.state().cache.read(|cache| {
            let mut sums = cache.connection.prepare(
                "SELECT frames.pack, keys.id, SUM(frames.length) FROM frames JOIN keys ON keys.number = frames.key
                 GROUP BY frames.pack, frames.key",
            )?;
            let rows = sums.query_map([], |row| {
                let pack = packs.get(&row.get::<_, i64>(0)?).filter(|pack| !pack.void);
                let (key, bytes) = (KeyId(row.get(1)?), row.get::<_, i64>(2)? as u64);
                Ok(pack.map(|pack| SealedPart { pack: *pack, key, bytes }))
            })?;
            rows.filter_map(rusqlite::Result::transpose).collect()
        })
    }
}
