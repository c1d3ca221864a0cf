//! Removing what is in the target and not in the snapshot, beneath the root and on its file system only.

use super::{Error, Folder, Target};
use crate::base::Stat;
use crate::base::directory::{Directory, read_names};
use rustix::fd::OwnedFd;
use rustix::fs::{AtFlags, Mode, OFlags};
use rustix::io::Errno;
use std::ffi::{CStr, CString};
use std::io;

/// A directory that is being emptied, and what it still holds.
struct Emptying {
    directory: Directory,
    names: Vec<CString>,
}

impl Target {
    /// The names in a directory that `is_wanted` does not know, in byte order.
    pub fn others(&self, folder: &Folder, mut is_wanted: impl FnMut(&[u8]) -> bool) -> Result<Vec<Vec<u8>>, Error> {
        if folder.is_fresh {
            return Ok(Vec::new());
        }
        let names = names_in(&folder.directory).map_err(|source| Error::Failed {
            path: folder.path(),
            operation: "read directory",
            source,
        })?;
        let names = names.into_iter().map(CString::into_bytes);
        let mut others: Vec<Vec<u8>> = names.filter(|name| !is_wanted(name)).collect();
        others.sort();
        Ok(others)
    }

    /// Removes an entry with all beneath it. Symlinks are removed, not followed; what another file system has mounted
    /// beneath is not touched and is an error.
    pub fn remove(&self, folder: &Folder, name: &[u8]) -> Result<(), Error> {
        let name = folder.checked(name)?;
        let failed = |source| folder.failed(&name, "remove", source);
        let parent = folder.descriptor()?;
        if unlink(&parent, &name).map_err(failed)? {
            return Ok(());
        }
        let device = Stat::of_open(&parent).map_err(|source| failed(source.into()))?.device;
        let mut stack = vec![begin(folder.directory.child(&name), device).map_err(failed)?];
        // A loop, not a recursion: the tree may be deeper than a stack has room for.
        while let Some(top) = stack.last_mut() {
            match top.names.pop() {
                Some(inner) => {
                    let directory = top.directory.descriptor().map_err(failed)?;
                    if !unlink(&directory, &inner).map_err(failed)? {
                        let child = top.directory.child(&inner);
                        stack.push(begin(child, device).map_err(failed)?);
                    }
                }
                None => {
                    let top = stack.pop().expect("the loop has just looked at it");
                    remove_empty(&top.directory).map_err(failed)?;
                }
            }
        }
        Ok(())
    }
}

fn begin(directory: Directory, device: u64) -> io::Result<Emptying> {
    let descriptor = directory.descriptor()?;
    if Stat::of_open(&descriptor)?.device != device {
        return Err(io::Error::other(format!("{} is on another file system", directory.path().display())));
    }
    let names = names_in(&directory)?;
    Ok(Emptying { directory, names })
}

/// Removes what is not a directory; answers whether there is nothing left.
fn unlink(directory: &OwnedFd, name: &CStr) -> io::Result<bool> {
    match rustix::fs::unlinkat(directory, name, AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => Ok(true),
        Err(Errno::ISDIR) => Ok(false),
        // What POSIX says instead of EISDIR.
        Err(Errno::PERM) if is_directory(directory, name) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

fn is_directory(directory: &OwnedFd, name: &CStr) -> bool {
    Stat::of_entry(directory, name).is_ok_and(|stat| stat.raw_mode & 0o170_000 == 0o040_000)
}

fn remove_empty(directory: &Directory) -> io::Result<()> {
    let parent = directory.parent().expect("what is removed was reached from the target's root").descriptor()?;
    match rustix::fs::unlinkat(&*parent, directory.name(), AtFlags::REMOVEDIR) {
        Ok(()) | Err(Errno::NOENT) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

fn names_in(directory: &Directory) -> io::Result<Vec<CString>> {
    // Opened anew, because a descriptor that was read once stands at its end.
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let descriptor = rustix::fs::openat(&*directory.descriptor()?, c".", flags, Mode::empty())?;
    let mut names = Vec::new();
    read_names(&descriptor, |name, _| {
        names.push(name.to_owned());
        Ok(())
    })?;
    Ok(names)
}
