//! What this machine remembers of a repository that it has opened: how often its config had been replaced.
//!
//! Whoever can write to the store can put an older config back, proof and all, and with it features and settings that
//! were given up for a reason. The revision in the config only grows, so who has seen a later one notices. It lies in
//! the folder of the local caches; without such a folder nothing is remembered.

use super::error::{Error, Result};
use super::{Repository, random};
use crate::base::ids::to_hex;
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::Path;

/// The file's name in the folder of the local caches.
pub const FILE_NAME: &str = "config-revision";
/// Digits of the largest revision, and a line end.
const MOST_BYTES: u64 = 21;

/// Refuses a config that is older than one seen before, and remembers this one.
pub fn check_config(repository: &Repository, folder: &Path) -> Result<()> {
    let path = folder.join(FILE_NAME);
    let revision = repository.config().revision;
    match read(&path) {
        Some(seen) if seen > revision => Err(Error::Refused(format!(
            "the config of {} is older than it was: it is revision {revision}, and this machine has seen {seen}. \
             Somebody put an old one back, or the whole repository was taken back to an older state. If that was you, \
             delete {} and run this again; if not, keep away from it until you know who it was",
            repository.store().location(),
            path.display()
        ))),
        Some(seen) if seen == revision => Ok(()),
        // It is a help and no promise: where it cannot be kept the next run sees what this one did.
        _ => {
            let _ = write(&path, revision);
            Ok(())
        }
    }
}

/// What was remembered; none if there is nothing that makes sense.
fn read(path: &Path) -> Option<u64> {
    let mut text = String::new();
    File::open(path).ok()?.take(MOST_BYTES).read_to_string(&mut text).ok()?;
    text.trim().parse().ok()
}

fn write(path: &Path, revision: u64) -> io::Result<()> {
    let aside = path.with_extension(to_hex(&random::bytes::<8>()));
    let written = File::create_new(&aside).and_then(|mut file| writeln!(file, "{revision}"));
    let placed = written.and_then(|()| fs::rename(&aside, path));
    placed.inspect_err(|_| {
        let _ = fs::remove_file(&aside);
    })
}
