//! Folders for a moment: only their owner can look into them, and they are gone when they are let go.
//!
//! Whoever is killed leaves his, and what lies in it may be somebody's secret. So each is locked as long as its maker lives,
//! and whoever makes one removes those beside it that nobody holds any more.

use super::random;
use std::fs::{self, DirBuilder, File};
use std::io::{self, ErrorKind};
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

const NAME: &str = "keepstone-";
const DIGITS: usize = 12;
/// How old one is at least before somebody else removes it: between making and locking it lies a moment.
const SETTLED: Duration = Duration::from_secs(600);

/// A folder that only we can read; it is removed with all that is in it when this is dropped.
#[derive(Debug)]
pub struct Scratch {
    folder: PathBuf,
    /// Holds the lock that says that we live; none where the file system has none.
    _lock: Option<File>,
}

impl Scratch {
    /// A new folder in `parent`, which is there.
    pub fn new(parent: &Path) -> io::Result<Scratch> {
        sweep(parent);
        loop {
            let digits: String = random::bytes::<{ DIGITS / 2 }>().iter().map(|byte| format!("{byte:02x}")).collect();
            let folder = parent.join(format!("{NAME}{digits}"));
            match DirBuilder::new().mode(0o700).create(&folder) {
                Ok(()) => {
                    let _lock = File::open(&folder).ok().filter(|file| file.try_lock().is_ok());
                    return Ok(Scratch { folder, _lock });
                }
                Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.folder
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // What cannot be removed lies where everybody looks for such things.
        let _ = fs::remove_dir_all(&self.folder);
    }
}

/// Removes what others of ours have left who are gone. What cannot be removed stays: it is in nobody's way.
fn sweep(parent: &Path) {
    let Ok(entries) = fs::read_dir(parent) else { return };
    for entry in entries.flatten() {
        let is_name = entry.file_name().to_str().is_some_and(is_ours);
        if is_name && is_left(&entry.path()).unwrap_or(false) {
            let _ = fs::remove_dir_all(entry.path());
        }
    }
}

fn is_ours(name: &str) -> bool {
    let digits = name.strip_prefix(NAME);
    digits.is_some_and(|digits| digits.len() == DIGITS && digits.bytes().all(|byte| byte.is_ascii_hexdigit()))
}

/// Whether a folder is our user's, has lain there for a while, and nobody holds its lock.
fn is_left(folder: &Path) -> io::Result<bool> {
    let found = fs::symlink_metadata(folder)?;
    let is_old = found.modified()?.elapsed().is_ok_and(|age| age > SETTLED);
    if !found.is_dir() || found.uid() != rustix::process::geteuid().as_raw() || !is_old {
        return Ok(false);
    }
    Ok(File::open(folder)?.try_lock().is_ok())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn a_folder_is_private_and_goes_with_all_that_is_in_it() {
        let parent = tempfile::tempdir().unwrap();
        let scratch = Scratch::new(parent.path()).unwrap();
        std::fs::write(scratch.path().join("x"), "y").unwrap();
        assert_eq!(scratch.path().metadata().unwrap().permissions().mode() & 0o777, 0o700);
        let folder = scratch.path().to_owned();
        drop(scratch);
        assert!(!folder.exists());
    }

    #[test]
    fn what_somebody_left_who_is_gone_goes_and_nothing_else() {
        let parent = tempfile::tempdir().unwrap();
        let long_ago = std::time::SystemTime::now() - 2 * SETTLED;
        let age = |path: &Path| File::open(path).unwrap().set_modified(long_ago).unwrap();
        let make = |name: &str, is_old: bool| {
            let path = parent.path().join(name);
            fs::create_dir(&path).unwrap();
            fs::write(path.join("x"), "y").unwrap();
            if is_old {
                age(&path);
            }
            path
        };
        let alive = Scratch::new(parent.path()).unwrap();
        age(alive.path());
        let left = make("keepstone-0123456789ab", true);
        let others = [("keepstone-0123456789ac", false), ("keepstone-shop", true), ("shop-0123456789ab", true)];
        let others = others.map(|(name, is_old)| make(name, is_old));
        drop(Scratch::new(parent.path()).unwrap());
        assert!(!left.exists() && alive.path().exists() && others.iter().all(|path| path.exists()));
    }
}
