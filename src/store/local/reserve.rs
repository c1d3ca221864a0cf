//! Room that a folder keeps for the one who makes room: a prune has to write a little before it may delete anything, and
//! on a disk that is full to the last byte it could not.
//!
//! The room is a file `tmp/reserve` of no content. How large it is follows the index, of which a prune writes anew what
//! names packs that go.

use super::{FILE_MODE, Place, TEMPORARY, failed, size_of};
use crate::store::{Area, Error};
use rustix::fs::{AtFlags, FallocateFlags, Mode, OFlags};
use rustix::io::Errno;

/// The name in `tmp/`; no upload has such a one.
pub(super) const NAME: &str = "reserve";

/// What is kept in any case: marks, records and a small segment.
const LEAST_BYTES: u64 = 256 << 10;

/// What is kept for the index, at most.
const MOST_FOR_INDEX_BYTES: u64 = 32 << 20;

/// A disk with more than this is far from full. Whatever is stored is a pack at a time, and before each is looked.
const ROOMY_BYTES: u64 = 1 << 30;

/// A disk on which not even so many times the reserve is free is left alone.
const TIGHT: u64 = 4;

impl Place {
    /// Keeps the room, where the disk will soon have none and the file system knows how. Room that is about large enough stays
    /// as it is.
    pub(super) fn keep_reserve(&self, free_bytes: u64) {
        if free_bytes > ROOMY_BYTES {
            return;
        }
        let mut index_bytes = 0;
        _ = self.list_folder(Area::Index.folder(), &mut |listed| index_bytes += listed.size_bytes);
        let wanted = LEAST_BYTES + index_bytes.min(MOST_FOR_INDEX_BYTES);
        let kept = rustix::fs::statat(&self.root, path(), AtFlags::SYMLINK_NOFOLLOW).map_or(0, |stat| size_of(&stat));
        if kept < wanted / 2 && free_bytes / TIGHT >= wanted && self.allocate(wanted).is_err() {
            // Half of it would only be in the way.
            _ = self.give_up_reserve();
        }
    }

    fn allocate(&self, bytes: u64) -> std::io::Result<()> {
        self.make_folder(TEMPORARY)?;
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::CLOEXEC | OFlags::NOFOLLOW | OFlags::NONBLOCK;
        let file = rustix::fs::openat(&self.root, path(), flags, Mode::from_raw_mode(FILE_MODE))?;
        Ok(rustix::fs::fallocate(file, FallocateFlags::empty(), 0, bytes)?)
    }

    /// Gives the room up; whether there was any.
    pub(super) fn give_up_reserve(&self) -> Result<bool, Error> {
        match rustix::fs::unlinkat(&self.root, path(), AtFlags::empty()) {
            Ok(()) => Ok(true),
            Err(Errno::NOENT | Errno::NOTDIR) => Ok(false),
            Err(errno) => Err(failed("delete", self.name_of_path(&path()), &errno.into())),
        }
    }
}

fn path() -> String {
    super::temporary_path(NAME)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use crate::store::{Area, Key, Local, ObjectStore};
    use std::fs;
    use std::time::Duration;

    #[test]
    fn room_is_kept_as_the_index_grows_and_given_up_once() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("repository");
        let store = Local::create(&path).unwrap();
        assert!(!store.give_up_reserve().unwrap());
        let kept = || fs::metadata(path.join("tmp/reserve")).map(|found| found.len() >> 10).unwrap_or(0);
        let keep_in = |free_bytes| store.place.keep_reserve(free_bytes);
        keep_in(2 << 30);
        assert_eq!(kept(), 0, "a disk with much room needs none");
        keep_in(200 << 20);
        assert_eq!(kept(), 256);
        // Less than twice as much is left as it is.
        for (index_bytes, expected_kib) in [(100 << 10, 256), (800 << 10, 1156), (80 << 20, 33_024)] {
            store.put(&Key::new(Area::Index, format!("{index_bytes:08x}")), &vec![0; index_bytes]).unwrap();
            keep_in(200 << 20);
            assert_eq!(kept(), expected_kib, "{index_bytes}");
        }
        assert!(Local::create(&path).is_ok(), "it is no stranger");
        assert_eq!(store.sweep_uploads(Duration::ZERO).unwrap(), 0);
        assert!(store.give_up_reserve().unwrap() && !store.give_up_reserve().unwrap());
        keep_in(1 << 20);
        assert_eq!(kept(), 0, "a disk with little room is left alone");
    }
}
