//! One run of a profile at a time on a machine.

use super::error::{Error, Result};
use crate::base::Kind;
use std::fs::{DirBuilder, File, OpenOptions, TryLockError};
use std::io::{Read, Seek, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;

/// What is read of a lock file that somebody else holds.
const MAX_BYTES: u64 = 200;

/// Held while a profile is run. The kernel lets go of it when the process is gone, however it went.
pub struct Lock(File);

impl Lock {
    /// Takes the lock of a profile, or says who has it.
    pub fn take(folder: &Path, profile: &str) -> Result<Lock> {
        let path = folder.join(format!("{profile}.lock"));
        let failed = |source| {
            Error::io(format!("make {} (`state_dir` in the config names another folder)", path.display()), source)
        };
        DirBuilder::new().recursive(true).mode(0o700).create(folder).map_err(failed)?;
        // Not truncated: what stands in it is about whoever holds it.
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false).mode(0o600);
        let mut file = options.open(&path).map_err(failed)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let mut holder = String::new();
                // It only helps; what it says may be half written.
                let _ = file.take(MAX_BYTES).read_to_string(&mut holder);
                let holder = holder
                    .lines()
                    .next()
                    .filter(|line| !line.is_empty())
                    .map_or(String::new(), |line| format!(" ({line})"));
                let text = format!(
                    "profile `{profile}` is being run on this machine already{holder}: this run leaves it alone"
                );
                return Err(Error::Said(Kind::Refused, text));
            }
            Err(TryLockError::Error(source)) => return Err(failed(source)),
        }
        let mark = format!("process {}\n", std::process::id());
        file.set_len(0).and_then(|()| file.rewind()).and_then(|()| file.write_all(mark.as_bytes())).map_err(failed)?;
        Ok(Lock(file))
    }
}

/// Which process holds the lock of a profile, as far as its file says: `process 4711`.
pub fn holder(folder: &Path, profile: &str) -> Option<String> {
    let file = File::open(folder.join(format!("{profile}.lock"))).ok()?;
    let held = matches!(file.try_lock_shared(), Err(TryLockError::WouldBlock));
    let mut said = String::new();
    file.take(MAX_BYTES).read_to_string(&mut said).ok()?;
    said.lines().next().filter(|line| held && !line.is_empty()).map(str::to_owned)
}

impl Drop for Lock {
    fn drop(&mut self) {
        // The file stays: who would take it away could take away that of somebody who has just opened it.
        let _ = self.0.unlock();
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_second_run_is_refused_and_the_next_one_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path().join("state");
        let first = Lock::take(&folder, "web").unwrap();
        let error = Lock::take(&folder, "web").err().unwrap();
        assert_eq!(error.kind(), Kind::Refused);
        assert!(error.to_string().contains(&format!("process {}", std::process::id())), "{error}");
        assert!(Lock::take(&folder, "mail").is_ok(), "another profile is another matter");
        assert_eq!(holder(&folder, "web"), Some(format!("process {}", std::process::id())));
        drop(first);
        assert_eq!(holder(&folder, "web"), None);
        assert!(Lock::take(&folder, "web").is_ok());
    }
}
