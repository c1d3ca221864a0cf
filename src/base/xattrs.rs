//! Extended attributes of anything in a directory, without following symlinks.
//!
//! There is no system call on every supported kernel that takes a directory descriptor and a name, so what is
//! not open is reached through `/proc/self/fd`, which is just as safe against swapped path components.

use rustix::fd::{AsRawFd, BorrowedFd, OwnedFd};
use rustix::fs::XattrFlags;
use rustix::io::{Errno, Result};
use std::ffi::{CStr, CString};

/// The kernel's bound for a list of names and for one value.
const KERNEL_LIMIT_BYTES: usize = 64 * 1024;

/// Most lists and values are shorter than this; no memory is allocated for nothing.
const USUAL_BYTES: usize = 1024;

/// Whose attributes are meant.
pub enum Subject<'a> {
    /// An open file or directory.
    Open(BorrowedFd<'a>),
    /// A path through `/proc/self/fd`; a symlink at its end is meant itself.
    Path(CString),
}

impl<'a> Subject<'a> {
    /// The entry `name` of an open directory, whatever it is.
    pub fn entry(directory: &OwnedFd, name: &CStr) -> Subject<'a> {
        let mut path = format!("/proc/self/fd/{}/", directory.as_raw_fd()).into_bytes();
        path.extend_from_slice(name.to_bytes());
        Subject::Path(CString::new(path).expect("a name that was a C string has no zero byte"))
    }

    /// All attributes, sorted by name. A file system without attributes has none.
    pub fn read_all(&self) -> Result<Vec<(Vec<u8>, Vec<u8>)>> {
        let mut attributes = Vec::new();
        for name in self.names()? {
            match self.get(&name) {
                Ok(value) => attributes.push((name.into_bytes(), value)),
                // Removed meanwhile.
                Err(Errno::NODATA) => {}
                Err(error) => return Err(error),
            }
        }
        attributes.sort();
        Ok(attributes)
    }

    /// The names of all attributes.
    pub fn names(&self) -> Result<Vec<CString>> {
        let list = match read_growing(|buffer| self.list(buffer)) {
            Err(Errno::NOTSUP | Errno::NOSYS) => return Ok(Vec::new()),
            list => list?,
        };
        Ok(list.split(|&c| c == 0).filter(|name| !name.is_empty()).filter_map(|name| CString::new(name).ok()).collect())
    }

    fn list(&self, buffer: &mut [u8]) -> Result<usize> {
        match self {
            Subject::Open(descriptor) => rustix::fs::flistxattr(descriptor, buffer),
            Subject::Path(path) => rustix::fs::llistxattr(path.as_c_str(), buffer),
        }
    }

    /// The value of one attribute; `ENODATA` if there is none.
    pub fn get(&self, name: &CStr) -> Result<Vec<u8>> {
        read_growing(|buffer| match self {
            Subject::Open(descriptor) => rustix::fs::fgetxattr(descriptor, name, buffer),
            Subject::Path(path) => rustix::fs::lgetxattr(path.as_c_str(), name, buffer),
        })
    }

    /// Sets an attribute, whether it was there or not.
    pub fn set(&self, name: &CStr, value: &[u8]) -> Result<()> {
        let flags = XattrFlags::empty();
        match self {
            Subject::Open(descriptor) => rustix::fs::fsetxattr(descriptor, name, value, flags),
            Subject::Path(path) => rustix::fs::lsetxattr(path.as_c_str(), name, value, flags),
        }
    }

    /// Removes an attribute.
    pub fn remove(&self, name: &CStr) -> Result<()> {
        match self {
            Subject::Open(descriptor) => rustix::fs::fremovexattr(descriptor, name),
            Subject::Path(path) => rustix::fs::lremovexattr(path.as_c_str(), name),
        }
    }
}

/// Tries with a small buffer on the stack and, if that is too small, with one of the kernel's own limit.
fn read_growing(read: impl Fn(&mut [u8]) -> Result<usize>) -> Result<Vec<u8>> {
    let mut usual = [0; USUAL_BYTES];
    match read(&mut usual) {
        Ok(length) => Ok(usual[..length].to_vec()),
        Err(Errno::RANGE) => {
            let mut large = vec![0; KERNEL_LIMIT_BYTES];
            let length = read(&mut large)?;
            large.truncate(length);
            Ok(large)
        }
        Err(error) => Err(error),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::base::directory::DirectoryPool;

    #[test]
    fn attributes_come_back_sorted_and_whole_also_long_ones() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("a"), b"x").unwrap();
        let directory = DirectoryPool::new(4).open_root(folder.path()).unwrap();
        let subject = Subject::entry(&directory.descriptor().unwrap(), c"a");
        if subject.set(c"user.b", b"two") == Err(Errno::NOTSUP) {
            return;
        }
        let long = vec![7; 2000];
        subject.set(c"user.a", &long).unwrap();
        let all = subject.read_all().unwrap();
        assert_eq!(all[0], (b"user.a".to_vec(), long));
        assert_eq!(all[1], (b"user.b".to_vec(), b"two".to_vec()));
        subject.remove(c"user.a").unwrap();
        assert_eq!(subject.read_all().unwrap().len(), 1);
    }
}
