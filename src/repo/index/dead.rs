//! Frames whose blobs are unknown: gone with their pack, in a condemned pack, or damaged.

use rusqlite::Connection;

/// Ranges of frame numbers. One pack more or less is one range, so this stays small.
#[derive(Default)]
pub struct Dead {
    /// First and last frames of ranges that do not overlap, ascending.
    ranges: Vec<(i64, i64)>,
}

impl Dead {
    /// Reads the ranges of frames that are gone or damaged, and of void packs.
    pub fn load(connection: &Connection) -> rusqlite::Result<Dead> {
        Dead::query(
            connection,
            "SELECT first, last FROM dead_frames
             UNION ALL
             SELECT first, first + count - 1 FROM packs JOIN pack_frames ON pack = packs.number WHERE void = 1",
        )
    }

    /// Reads the ranges of frames that are gone: their rows can leave.
    pub fn load_gone(connection: &Connection) -> rusqlite::Result<Dead> {
        Dead::query(connection, "SELECT first, last FROM dead_frames WHERE damaged = 0")
    }

    /// Reads the ranges of frames in packs for which nobody vouches.
    pub fn load_unproven(connection: &Connection) -> rusqlite::Result<Dead> {
        let query =
            "SELECT first, first + count - 1 FROM packs JOIN pack_frames ON pack = packs.number WHERE proven = 0";
        Dead::query(connection, query)
    }

    fn query(connection: &Connection, query: &str) -> rusqlite::Result<Dead> {
        let mut ranges = Vec::new();
        let mut found = connection.prepare_cached(query)?;
        let mut rows = found.query([])?;
        while let Some(row) = rows.next()? {
            ranges.push((row.get(0)?, row.get(1)?));
        }
        Ok(Dead::of(ranges))
    }

    /// The frames of any ranges.
    pub fn of(mut ranges: Vec<(i64, i64)>) -> Dead {
        ranges.sort_unstable();
        let mut joined: Vec<(i64, i64)> = Vec::new();
        for (first, last) in ranges {
            match joined.last_mut() {
                Some(before) if first <= before.1.saturating_add(1) => before.1 = before.1.max(last),
                _ => joined.push((first, last)),
            }
        }
        Dead { ranges: joined }
    }

    /// Whether the frame is one of them.
    pub fn holds(&self, frame: i64) -> bool {
        if self.ranges.is_empty() {
            return false;
        }
        let place = self.ranges.partition_point(|(first, _)| *first <= frame);
        place > 0 && frame <= self.ranges[place - 1].1
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_joined_and_their_ends_belong_to_them() {
        let dead = Dead::of(vec![(10, 12), (4, 5), (6, 6), (11, 20)]);
        assert_eq!(dead.ranges, [(4, 6), (10, 20)]);
        let held: Vec<i64> = (0..25).filter(|frame| dead.holds(*frame)).collect();
        assert_eq!(held, (4..=6).chain(10..=20).collect::<Vec<_>>());
    }
}
