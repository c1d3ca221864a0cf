//! What the sizes of stored objects tell: with equal totals and equal compressibility nothing of which files they hold.

use crate::program::{CHEAP, Place};
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::time::{Duration, SystemTime};

/// Bytes of content in every case, whatever files they are in.
const TOTAL: usize = 4_000_000;

/// Bytes that do not compress, another sequence for each seed.
fn content(seed: u64, length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    blake3::Hasher::new().update(&seed.to_le_bytes()).finalize_xof().fill(&mut bytes);
    bytes
}

/// The sizes of all packs, segments and snapshots of a repository that holds one snapshot of these files.
fn sizes_with(files: &[Vec<u8>]) -> BTreeMap<&'static str, Vec<u64>> {
    let place = Place::new();
    let source = place.path("source");
    fs::create_dir(&source).unwrap();
    let modified = SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000);
    for (number, bytes) in files.iter().enumerate() {
        let path = source.join(format!("{number}"));
        fs::write(&path, bytes).unwrap();
        fs::File::options().write(true).open(&path).unwrap().set_modified(modified).unwrap();
    }
    place.run(&[&["backup", "--init"], &CHEAP[..], &["source"]].concat()).expect(0);
    let areas = ["packs", "index", "snapshots"];
    areas.into_iter().map(|area| (area, sizes(&place.path("vault").join(area)))).collect()
}

fn sizes(folder: &Path) -> Vec<u64> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() { found.extend(sizes(&path)) } else { found.push(path.metadata().unwrap().len()) }
    }
    found.sort_unstable();
    found
}

#[test]
fn sizes_of_stored_objects_do_not_tell_which_files_of_one_total_they_hold() {
    let whole = sizes_with(&[content(1, TOTAL)]);
    assert_eq!(whole["packs"].len(), 2, "{whole:?}");
    for seed in 2..5 {
        assert_eq!(sizes_with(&[content(seed, TOTAL)]), whole, "other content of seed {seed}");
    }
    let quarters: Vec<_> = (10..14).map(|seed| content(seed, TOTAL / 4)).collect();
    assert_eq!(sizes_with(&quarters), whole, "four files in place of one");
    let uneven = [content(20, TOTAL - 300_000), content(21, 200_000), content(22, 100_000)];
    assert_eq!(sizes_with(&uneven), whole, "three uneven files");
}
