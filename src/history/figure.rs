//! Numbers of a run by name: what is measured, and what is made of it.

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// The most figures of one entry or phase.
pub const MAX_FIGURES: usize = 200;
/// The longest name.
const MAX_NAME_BYTES: usize = 100;

macro_rules! names {
    ($( $(#[$doc:meta])* $name:ident = $text:literal; )*) => {
        $( $(#[$doc])* pub const $name: &str = $text; )*
    };
}

names! {
    /// Files in the snapshot.
    FILES = "files";
    /// Databases in the snapshot.
    DATABASES = "databases";
    /// Tables of all databases in the snapshot; an entry names the largest of them.
    TABLES = "tables";
    /// Rows of all databases in the snapshot.
    ROWS = "rows";
    /// Bytes of all content in the snapshot.
    CONTENT_BYTES = "content_bytes";
    /// Bytes of content that were read.
    READ_BYTES = "read_bytes";
    /// Bytes of content that had not been stored before.
    NEW_BYTES = "new_bytes";
    /// What all new content takes, compressed, differences included.
    STORED_BYTES = "stored_bytes";
    /// Of the new bytes those that are stored as differences.
    DELTA_BYTES = "delta_bytes";
    /// What the differences take.
    DELTA_STORED_BYTES = "delta_stored_bytes";
    /// About what they would take as whole copies.
    DELTA_WHOLE_BYTES = "delta_whole_bytes";
    /// Bytes that the run added to the repository in all.
    ADDED_BYTES = "added_bytes";
    /// 1 if a backup read everything, also what looked unchanged: it was asked to, or had nothing to compare with.
    WHOLE = "whole";
    /// Sources that could not be read.
    PROBLEMS = "problems";
    /// Time of encryption, summed over threads.
    SEAL_MS = "seal_ms";
    /// Time of decoding again what was just sealed, before it is stored, summed over threads.
    PROVE_MS = "prove_ms";
    /// Time of storing packs, summed over what went side by side.
    UPLOAD_MS = "upload_ms";
    /// How long reading back took.
    VERIFY_MS = "verify_ms";
    /// How long the restore of a drill took.
    RESTORE_MS = "restore_ms";
    /// How long it took until a bare machine had opened the repository and knew its runs.
    OPEN_MS = "open_ms";
    /// Runs of which a bare machine found records.
    RUNS = "runs";
    /// Tables with which upkeep did all that was asked for.
    MAINTAINED_TABLES = "maintained_tables";
    /// What databases took before their upkeep.
    BEFORE_BYTES = "before_bytes";
    /// What they took after it.
    AFTER_BYTES = "after_bytes";
    /// Packs that were sealed anew under the newest keys.
    PACKS_RESEALED = "packs_resealed";
    /// Their bytes.
    RESEALED_BYTES = "resealed_bytes";
    /// Bytes of packs that are still under older keys.
    LEFT_BYTES = "left_bytes";
    /// Entries that the history let go since they are older than what is kept.
    HISTORY_DROPPED = "history_dropped";
    /// Files of the operation log that were deleted since they are older than what is kept.
    LOG_FILES_DROPPED = "log_files_dropped";
    /// The most memory that the process had at once.
    PEAK_MEMORY_BYTES = "peak_memory_bytes";
    /// For how long the run stood still since the machine was busy.
    PAUSED_MS = "paused_ms";
    /// How often it stood still.
    PAUSES = "pauses";
    /// Requests to the store that were made again.
    STORE_RETRIES = "store_retries";
    /// Databases and commands that were tried again.
    SOURCE_RETRIES = "source_retries";
    /// What was free for the repository when the run began.
    REPOSITORY_FREE_BEFORE_BYTES = "repository_free_before_bytes";
    /// What was free for the repository when it ended.
    REPOSITORY_FREE_AFTER_BYTES = "repository_free_after_bytes";
    /// What was free for the local cache when the run began.
    CACHE_FREE_BEFORE_BYTES = "cache_free_before_bytes";
    /// What was free for the local cache when it ended.
    CACHE_FREE_AFTER_BYTES = "cache_free_after_bytes";
    /// What the whole repository held when the run ended.
    REPOSITORY_BYTES = "repository_bytes";
    /// Snapshots of the profile that there were when the run ended.
    SNAPSHOTS = "snapshots";
    /// Bytes that pruning freed.
    FREED_BYTES = "freed_bytes";
    /// Snapshots that were removed.
    REMOVED = "removed";
    /// Snapshots that stayed.
    KEPT = "kept";
    /// Packs that were read back.
    PACKS_READ = "packs_read";
    /// Objects that were found damaged.
    DAMAGES = "damages";
    /// 1 if a drill, with those before it in its run, has brought back all of a snapshot; 0 for one of a part.
    WHOLE_SNAPSHOT = "whole_snapshot";
    /// What a drill found other than promised.
    DIFFERENCES = "differences";
}

/// Numbers by name; see the constants beside it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Figures(pub BTreeMap<String, u64>);

/// What figures come to. Each is none where what it is made of is not known or zero.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Ratios {
    /// Content by what of it was new: 50 means that one byte in fifty was.
    pub dedup: Option<f64>,
    /// What differences would take as whole copies, by what they take.
    pub delta: Option<f64>,
    /// New content by what it takes.
    pub compression: Option<f64>,
    /// The share of the content that did not have to be added to the repository, from 0 to 1.
    pub savings: Option<f64>,
}

impl Figures {
    /// The figure of this name, if it was measured.
    pub fn get(&self, name: &str) -> Option<u64> {
        self.0.get(name).copied()
    }

    /// Sets a figure. More than anybody reads are let go, and so are names of no sane length.
    pub fn set(&mut self, name: &str, value: u64) {
        if name.len() <= MAX_NAME_BYTES && (self.0.len() < MAX_FIGURES || self.0.contains_key(name)) {
            self.0.insert(name.to_owned(), value);
        }
    }

    /// Sets a figure if it is known.
    pub fn set_known(&mut self, name: &str, value: Option<u64>) {
        if let Some(value) = value {
            self.set(name, value);
        }
    }

    /// What the figures come to.
    pub fn ratios(&self) -> Ratios {
        let of = |whole: &str, part: &str| {
            let (whole, part) = (self.get(whole)?, self.get(part)?);
            (whole > 0 && part > 0).then(|| whole as f64 / part as f64)
        };
        let savings = || {
            let (content, added) = (self.get(CONTENT_BYTES)?, self.get(ADDED_BYTES)?);
            (content > 0).then(|| 1.0 - (added as f64 / content as f64).min(1.0))
        };
        Ratios {
            dedup: of(CONTENT_BYTES, NEW_BYTES),
            delta: of(DELTA_WHOLE_BYTES, DELTA_STORED_BYTES),
            compression: of(NEW_BYTES, STORED_BYTES),
            savings: savings(),
        }
    }
}

impl FromIterator<(String, u64)> for Figures {
    fn from_iter<I: IntoIterator<Item = (String, u64)>>(figures: I) -> Figures {
        let mut all = Figures::default();
        figures.into_iter().for_each(|(name, value)| all.set(&name, value));
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ratios_are_made_of_what_was_measured_and_of_nothing_else() {
        let figures =
            |pairs: &[(&str, u64)]| pairs.iter().map(|(name, value)| ((*name).to_owned(), *value)).collect::<Figures>();
        let ratios = figures(&[
            (CONTENT_BYTES, 1000),
            (NEW_BYTES, 100),
            (STORED_BYTES, 25),
            (ADDED_BYTES, 50),
            (DELTA_WHOLE_BYTES, 40),
            (DELTA_STORED_BYTES, 4),
        ])
        .ratios();
        assert_eq!((ratios.dedup, ratios.compression, ratios.delta), (Some(10.0), Some(4.0), Some(10.0)));
        assert_eq!(ratios.savings, Some(0.95));
        assert_eq!(figures(&[(CONTENT_BYTES, 1000), (NEW_BYTES, 0)]).ratios(), Ratios::default());
        let more = figures(&[(CONTENT_BYTES, 10), (ADDED_BYTES, 900)]).ratios();
        assert_eq!(more.savings, Some(0.0), "a small backup adds more than it saves");
    }

    #[test]
    fn what_is_kept_has_a_bound() {
        let mut figures = Figures::default();
        (0..1000).for_each(|number| figures.set(&format!("figure_{number}"), number));
        figures.set(&"x".repeat(1000), 1);
        assert_eq!(figures.0.len(), MAX_FIGURES);
        figures.set("figure_0", 7);
        assert_eq!(figures.get("figure_0"), Some(7));
    }
}
