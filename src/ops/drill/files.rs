//! Files tried out: some or all are restored into a folder for a moment, read again and compared with the snapshot.

use super::super::browse::reader;
use super::super::restore::{self, Options};
use super::super::walk::{Step, Walk};
use super::super::{Context, Error, Result};
use super::compare::{Difference, MAX_DIFFERENCES};
use super::{Sample, wanted};
use crate::base::random::Lot;
use crate::base::{Event, Scratch};
use crate::format::dump::DumpKind;
use crate::format::snapshot::Snapshot;
use crate::format::tree::NodeKind;
use crate::source::files::Filter;
use std::path::Path;

/// A sample has at most so many files: each is a pattern that every entry of the snapshot is compared with.
const MAX_SAMPLE_FILES: u64 = 500;
/// A sample takes about this much room at most.
const MAX_SAMPLE_BYTES: u64 = 1 << 30;

/// What was tried.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FilesDrill {
    /// Files in the snapshot.
    pub of_files: u64,
    /// Files restored and compared.
    pub files: u64,
    /// Bytes of their content.
    pub bytes: u64,
    /// How long it took, in milliseconds.
    pub duration_ms: u64,
    /// What differs; the first [`MAX_DIFFERENCES`].
    pub differences: Vec<Difference>,
    /// How many differences there are.
    pub difference_count: u64,
    /// What is worth knowing.
    pub notes: Vec<String>,
}

/// The files that were drawn by lot.
#[derive(Default)]
struct Draw {
    files: u64,
    paths: Vec<(Vec<u8>, u64)>,
}

/// Tries files out beneath `temp_dir`.
pub fn drill(context: &Context, snapshot: &Snapshot, sample: Sample, temp_dir: &Path) -> Result<FilesDrill> {
    context.monitor.event(Event::Phase("restoring files"));
    let since = crate::base::clock::Stopwatch::start();
    let count = match sample {
        Sample::Full => 0,
        Sample::Percent(percent) => wanted(snapshot.totals.files, percent).min(MAX_SAMPLE_FILES),
    };
    let draw = draw(context, snapshot, count as usize)?;
    let mut drill = FilesDrill { of_files: draw.files, ..FilesDrill::default() };
    if draw.files == 0 {
        return Ok(drill);
    }
    let scratch =
        Scratch::new(temp_dir).map_err(|source| Error::Io { what: "make a folder for a moment".into(), source })?;
    let mut options = Options { verify: true, no_owner: true, ..Options::new(scratch.path().join("files")) };
    let expected = match sample {
        Sample::Full => {
            for kind in [DumpKind::Postgres, DumpKind::Mysql] {
                add(&mut options.excludes, format!("/{}", kind.folder()).as_bytes())?;
            }
            draw.files
        }
        Sample::Percent(_) => {
            for (path, _) in &draw.paths {
                add(&mut options.includes, &literally(path))?;
            }
            draw.paths.len() as u64
        }
    };
    let outcome = restore::run(context, snapshot, &options)?;
    drill.files = outcome.files + outcome.links;
    drill.bytes = outcome.bytes;
    drill.notes = outcome.notes;
    drill.difference_count = outcome.problem_count;
    drill.differences = outcome
        .problems
        .into_iter()
        .take(MAX_DIFFERENCES)
        .map(|problem| Difference { object: problem.subject, message: problem.message })
        .collect();
    if drill.difference_count == 0 && drill.files != expected {
        drill.difference_count = 1;
        let message = format!("{expected} files were promised, {} were restored", drill.files);
        drill.differences.push(Difference { object: "files".to_owned(), message });
    }
    drill.duration_ms = since.elapsed_ms();
    Ok(drill)
}

fn add(filter: &mut Filter, pattern: &[u8]) -> Result<()> {
    filter.add(pattern).map_err(|bad| Error::Usage(bad.to_string()))
}

/// A path as a pattern that matches nothing else.
fn literally(path: &[u8]) -> Vec<u8> {
    let mut pattern = Vec::with_capacity(path.len());
    for byte in path {
        if matches!(byte, b'*' | b'?' | b'[' | b']' | b'\\' | b'!') {
            pattern.push(b'\\');
        }
        pattern.push(*byte);
    }
    pattern
}

/// Counts the files besides dumps, and draws `count` of them by lot (reservoir sampling, Vitter's algorithm R).
fn draw(context: &Context, snapshot: &Snapshot, count: usize) -> Result<Draw> {
    let mut draw = Draw::default();
    let mut trees = reader(context).walking();
    let mut walk = Walk::begin(snapshot.root, b"", &mut trees)?;
    let dumps = [DumpKind::Postgres, DumpKind::Mysql].map(|kind| format!("/{}", kind.folder()).into_bytes());
    let mut lot = Lot::new();
    while let Some(step) = walk.next(&mut trees)? {
        context.check_stop()?;
        let Step::Entry(node) = step else { continue };
        if let Some(tree) = node.tree {
            if !dumps.iter().any(|folder| folder == walk.path()) {
                walk.enter(tree, &mut trees)?;
            }
            continue;
        }
        if node.kind != NodeKind::File {
            continue;
        }
        draw.files += 1;
        // Patterns have at most 62 components.
        if walk.depth() >= 60 {
            continue;
        }
        if draw.paths.len() < count {
            draw.paths.push((walk.path().to_vec(), node.size));
        } else if count > 0 {
            let place = lot.below(draw.files) as usize;
            if let Some(slot) = draw.paths.get_mut(place) {
                *slot = (walk.path().to_vec(), node.size);
            }
        }
    }
    bound(&mut draw.paths);
    Ok(draw)
}

/// Leaves out what would take too much room; one file stays in any case.
fn bound(paths: &mut Vec<(Vec<u8>, u64)>) {
    let mut room = MAX_SAMPLE_BYTES;
    let mut kept = 0;
    paths.retain(|(_, size)| {
        let fits = *size <= room || kept == 0;
        if fits {
            room = room.saturating_sub(*size);
            kept += 1;
        }
        fits
    });
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::ops::tests::{Depot, noise};
    use crate::store::Area;
    use std::fs;

    fn tree() -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("a")).unwrap();
        for number in 0..20 {
            fs::write(folder.path().join(format!("a/file [{number}]*")), noise(9_000, number)).unwrap();
        }
        fs::hard_link(folder.path().join("a/file [0]*"), folder.path().join("twin")).unwrap();
        fs::write(folder.path().join("empty"), "").unwrap();
        folder
    }

    #[test]
    fn a_sample_of_files_comes_back_and_leaves_nothing() {
        let (depot, source, temp) = (Depot::new(), tree(), tempfile::tempdir().unwrap());
        let snapshot = depot.backup(source.path());
        let all = drill(&depot.context, &snapshot, Sample::Full, temp.path()).unwrap();
        assert_eq!((all.of_files, all.files, all.difference_count), (22, 22, 0), "{:?}", all.differences);
        let some = drill(&depot.context, &snapshot, Sample::Percent(20.0), temp.path()).unwrap();
        assert_eq!((some.of_files, some.difference_count), (22, 0), "{:?}", some.differences);
        assert!((4..=6).contains(&some.files), "{}", some.files);
        assert_eq!(fs::read_dir(temp.path()).unwrap().count(), 0);
    }

    #[test]
    fn a_damaged_file_is_a_difference() {
        let (depot, source, temp) = (Depot::new(), tree(), tempfile::tempdir().unwrap());
        let snapshot = depot.backup(source.path());
        for key in depot.keys(Area::Packs) {
            depot.damage(&key, |bytes| {
                let middle = bytes.len() / 2;
                bytes[middle] ^= 1;
            });
        }
        let context = depot.fresh().unwrap();
        match drill(&context, &snapshot, Sample::Full, temp.path()) {
            Ok(drill) => assert!(drill.difference_count > 0),
            // The damage may have hit the trees.
            Err(error) => assert_eq!(error.kind(), crate::base::Kind::Damaged),
        }
    }
}
