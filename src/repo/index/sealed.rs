//! Under which keys the blocks of packs are sealed.

use super::live::PackSummary;
use super::{Index, Result};
use crate::base::KeyId;
use crate::repo::Error;

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
        let sums: Vec<(i64, KeyId, u64)> = self.state().cache.read(|cache| {
            let mut sums = cache.connection.prepare(
                "SELECT frames.pack, keys.id, SUM(frames.length) FROM frames JOIN keys ON keys.number = frames.key
                 GROUP BY frames.pack, frames.key ORDER BY frames.pack",
            )?;
            let rows = sums.query_map([], |row| Ok((row.get(0)?, KeyId(row.get(1)?), row.get::<_, i64>(2)? as u64)))?;
            rows.collect()
        })?;
        let mut sums = sums.into_iter().peekable();
        let mut parts = Vec::new();
        self.each_numbered::<Error>(&mut |number, pack| {
            while sums.next_if(|(of, ..)| *of < number).is_some() {}
            while let Some((_, key, bytes)) = sums.next_if(|(of, ..)| *of == number) {
                parts.extend((!pack.void).then_some(SealedPart { pack: *pack, key, bytes }));
            }
            Ok(())
        })?;
        Ok(parts)
    }
}
