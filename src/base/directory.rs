//! Directories that are opened relative to their parents, a bounded number of them at a time.
//!
//! A `Directory` is a place in a tree, not an open file: it opens itself when somebody needs its descriptor and
//! may be closed again when too many are open. It is always reached from its parent by one name and never
//! through a symlink, so neither long paths nor swapped path components can lead elsewhere. Whoever opens it a
//! second time gets the same directory as the first time or an error.
//!
//! Only the root of a tree is opened by a path, as the user gave it; its descriptor stays open.

use super::Stat;
use rustix::fd::OwnedFd;
use rustix::fs::{CWD, Mode, OFlags, RawDir};
use rustix::io::Errno;
use std::collections::VecDeque;
use std::ffi::{CStr, CString, OsString};
use std::io;
use std::mem::MaybeUninit;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

/// Descriptors that one pool keeps open when it is not told otherwise. The usual limit of a process is 1024.
pub const DEFAULT_OPEN_LIMIT: usize = 200;

/// The longest piece of a path that is handed to the kernel at once; its own limit is 4096 with the ending zero.
const PATH_PIECE_BYTES: usize = 4000;

/// Opens directories and closes those that have not been used for longest.
#[derive(Clone)]
pub struct DirectoryPool(Arc<Pool>);

struct Pool {
    open_limit: usize,
    open: Mutex<VecDeque<Weak<Inner>>>,
}

/// A place in a tree of directories. Clones are the same place.
#[derive(Clone)]
pub struct Directory(Arc<Inner>);

struct Inner {
    pool: Arc<Pool>,
    parent: Option<Directory>,
    /// The name in the parent; for a root its whole path.
    name: CString,
    slot: Mutex<Slot>,
    recently_used: AtomicBool,
}

#[derive(Default)]
struct Slot {
    descriptor: Option<Arc<OwnedFd>>,
    /// Device and inode as they were when it was first opened.
    identity: Option<(u64, u64)>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// How directories are opened: for reading, never through a symlink.
const FLAGS: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

impl DirectoryPool {
    /// A pool that keeps at most `open_limit` descriptors besides those in use at the moment and those of roots.
    pub fn new(open_limit: usize) -> DirectoryPool {
        DirectoryPool(Arc::new(Pool { open_limit: open_limit.max(4), open: Mutex::default() }))
    }

    /// Opens the root of a tree; symlinks in `path` are followed, for it is the user who gave it. Paths longer
    /// than the kernel's limit are walked in pieces.
    pub fn open_root(&self, path: &Path) -> io::Result<Directory> {
        let descriptor = open_path(path)?;
        let stat = Stat::of_open(&descriptor)?;
        let slot = Slot { descriptor: Some(Arc::new(descriptor)), identity: Some(stat.identity()) };
        Ok(Directory(Arc::new(Inner {
            pool: self.0.clone(),
            parent: None,
            name: CString::new(path.as_os_str().as_bytes())?,
            slot: Mutex::new(slot),
            recently_used: AtomicBool::new(true),
        })))
    }
}

/// Opens a directory by a path of any length.
fn open_path(path: &Path) -> io::Result<OwnedFd> {
    let flags = FLAGS.difference(OFlags::NOFOLLOW);
    let bytes = path.as_os_str().as_bytes();
    let start: &[u8] = if bytes.starts_with(b"/") { b"/" } else { b"." };
    if bytes.len() <= PATH_PIECE_BYTES {
        let whole = if bytes.is_empty() { start } else { bytes };
        return Ok(rustix::fs::openat(CWD, whole, flags, Mode::empty())?);
    }
    let mut descriptor = rustix::fs::openat(CWD, start, flags, Mode::empty())?;
    for piece in pieces(bytes) {
        descriptor = rustix::fs::openat(&descriptor, piece, flags, Mode::empty())?;
    }
    Ok(descriptor)
}

/// Cuts a path at slashes into relative pieces that the kernel accepts.
fn pieces(path: &[u8]) -> Vec<Vec<u8>> {
    let mut pieces: Vec<Vec<u8>> = Vec::new();
    for component in path.split(|&c| c == b'/').filter(|c| !c.is_empty()) {
        match pieces.last_mut() {
            Some(last) if last.len() + 1 + component.len() <= PATH_PIECE_BYTES => {
                last.push(b'/');
                last.extend_from_slice(component);
            }
            _ => pieces.push(component.to_vec()),
        }
    }
    pieces
}

impl Directory {
    /// The place called `name` in this directory; nothing is opened yet. `name` must be a single component.
    pub fn child(&self, name: &CStr) -> Directory {
        assert!(!name.to_bytes().contains(&b'/'), "a child is reached by one name, not by a path");
        Directory(Arc::new(Inner {
            pool: self.0.pool.clone(),
            parent: Some(self.clone()),
            name: name.to_owned(),
            slot: Mutex::default(),
            recently_used: AtomicBool::new(true),
        }))
    }

    /// The directory that this one was reached from; `None` for a root.
    pub fn parent(&self) -> Option<&Directory> {
        self.0.parent.as_ref()
    }

    /// The name in the parent; for a root its whole path.
    pub fn name(&self) -> &CStr {
        &self.0.name
    }

    /// The descriptor, opened if need be. It stays open at least as long as the answer is held.
    ///
    /// Fails with `ESTALE` when another directory has taken the place of the one that was opened first.
    pub fn descriptor(&self) -> io::Result<Arc<OwnedFd>> {
        if let Some(descriptor) = self.cached() {
            return Ok(descriptor);
        }
        // A loop, not a recursion: a path may have more components than a stack has room for.
        let mut closed = vec![self];
        let mut descriptor = loop {
            let parent = closed.last().and_then(|directory| directory.parent()).expect("a root is always open");
            match parent.cached() {
                Some(descriptor) => break descriptor,
                None => closed.push(parent),
            }
        };
        for directory in closed.into_iter().rev() {
            descriptor = directory.open_in(&descriptor)?;
        }
        Ok(descriptor)
    }

    fn cached(&self) -> Option<Arc<OwnedFd>> {
        let descriptor = lock(&self.0.slot).descriptor.clone();
        if descriptor.is_some() {
            self.0.recently_used.store(true, Ordering::Relaxed);
        }
        descriptor
    }

    fn open_in(&self, parent: &OwnedFd) -> io::Result<Arc<OwnedFd>> {
        let descriptor = Arc::new(open_quietly(parent, self.name())?);
        let identity = Stat::of_open(&descriptor)?.identity();
        let mut slot = lock(&self.0.slot);
        if *slot.identity.get_or_insert(identity) != identity {
            return Err(Errno::STALE.into());
        }
        slot.descriptor = Some(descriptor.clone());
        drop(slot);
        self.0.pool.opened(&self.0);
        Ok(descriptor)
    }

    /// Closes the descriptor unless somebody holds it; it opens again when needed.
    pub fn close(&self) {
        if self.0.parent.is_some() {
            lock(&self.0.slot).descriptor = None;
        }
    }

    /// Its path, for messages and patterns: the root's path and the names below it.
    pub fn path(&self) -> PathBuf {
        let mut names = Vec::new();
        let mut directory = self;
        while let Some(parent) = directory.parent() {
            names.push(directory.name().to_bytes());
            directory = parent;
        }
        let mut path = directory.name().to_bytes().to_vec();
        for name in names.into_iter().rev() {
            push_component(&mut path, name);
        }
        PathBuf::from(OsString::from_vec(path))
    }

    /// The path of an entry of this directory.
    pub fn path_of(&self, name: &[u8]) -> PathBuf {
        let mut path = self.path().into_os_string().into_vec();
        push_component(&mut path, name);
        PathBuf::from(OsString::from_vec(path))
    }
}

fn push_component(path: &mut Vec<u8>, name: &[u8]) {
    if name == b"." {
        return;
    }
    if path.last().is_some_and(|&last| last != b'/') {
        path.push(b'/');
    }
    path.extend_from_slice(name);
}

/// Opens a directory without leaving a trace in its access time where that is permitted.
fn open_quietly(parent: &OwnedFd, name: &CStr) -> rustix::io::Result<OwnedFd> {
    match rustix::fs::openat(parent, name, FLAGS.union(OFlags::NOATIME), Mode::empty()) {
        Err(Errno::PERM) => rustix::fs::openat(parent, name, FLAGS, Mode::empty()),
        other => other,
    }
}

impl Pool {
    /// Notes that a directory is open and closes others that have not been used since the last round.
    fn opened(&self, directory: &Arc<Inner>) {
        let mut to_close = Vec::new();
        let mut open = lock(&self.open);
        open.push_back(Arc::downgrade(directory));
        let mut second_chances = open.len();
        while open.len() > self.open_limit {
            let Some(oldest) = open.pop_front().and_then(|weak| weak.upgrade()) else {
                continue;
            };
            if oldest.recently_used.swap(false, Ordering::Relaxed) && second_chances > 0 {
                second_chances -= 1;
                open.push_back(Arc::downgrade(&oldest));
            } else {
                to_close.push(oldest);
            }
        }
        drop(open);
        for directory in &to_close {
            lock(&directory.slot).descriptor = None;
        }
    }
}

impl Drop for Inner {
    /// Lets go of the ancestors one after the other: a chain of parents may be longer than the stack is deep.
    fn drop(&mut self) {
        let mut parent = self.parent.take();
        while let Some(Directory(inner)) = parent {
            parent = Arc::into_inner(inner).and_then(|mut inner| inner.parent.take());
        }
    }
}

/// Reads the names in a directory that has just been opened and not been read yet, without `.` and `..`, in no
/// particular order. `each` gets the name and the file type where the file system tells it.
pub fn read_names(
    descriptor: &OwnedFd,
    mut each: impl FnMut(&CStr, rustix::fs::FileType) -> io::Result<()>,
) -> io::Result<()> {
    let mut buffer = [MaybeUninit::<u8>::uninit(); 32 * 1024];
    let mut entries = RawDir::new(descriptor, &mut buffer);
    while let Some(entry) = entries.next() {
        let entry = entry?;
        let name = entry.file_name();
        if !matches!(name.to_bytes(), b"." | b"..") {
            each(name, entry.file_type())?;
        }
    }
    Ok(())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn name(text: &str) -> CString {
        CString::new(text).unwrap()
    }

    #[test]
    fn a_closed_directory_opens_again_from_its_ancestors() {
        let root = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(root.path().join("a/b/c")).unwrap();
        let pool = DirectoryPool::new(4);
        let a = pool.open_root(root.path()).unwrap().child(&name("a"));
        let b = a.child(&name("b"));
        let c = b.child(&name("c"));
        c.descriptor().unwrap();
        for directory in [&a, &b, &c] {
            directory.close();
        }
        c.descriptor().unwrap();
        assert_eq!(c.path(), root.path().join("a/b/c"));
    }

    #[test]
    fn another_directory_in_the_same_place_is_not_taken_for_the_first() {
        let root = tempfile::tempdir().unwrap();
        std::fs::create_dir(root.path().join("a")).unwrap();
        let pool = DirectoryPool::new(4);
        let a = pool.open_root(root.path()).unwrap().child(&name("a"));
        a.descriptor().unwrap();
        a.close();
        std::fs::rename(root.path().join("a"), root.path().join("old")).unwrap();
        std::fs::create_dir(root.path().join("a")).unwrap();
        let error = a.descriptor().unwrap_err();
        assert_eq!(Errno::from_io_error(&error), Some(Errno::STALE));
    }

    #[test]
    fn a_symlink_is_not_opened() {
        let root = tempfile::tempdir().unwrap();
        std::os::unix::fs::symlink("/etc", root.path().join("a")).unwrap();
        let pool = DirectoryPool::new(4);
        let a = pool.open_root(root.path()).unwrap().child(&name("a"));
        assert!(a.descriptor().is_err());
    }

    #[test]
    fn many_directories_share_few_descriptors() {
        let root = tempfile::tempdir().unwrap();
        let pool = DirectoryPool::new(8);
        let top = pool.open_root(root.path()).unwrap();
        let all: Vec<Directory> = (0..50)
            .map(|i| {
                std::fs::create_dir(root.path().join(i.to_string())).unwrap();
                let child = top.child(&name(&i.to_string()));
                child.descriptor().unwrap();
                child
            })
            .collect();
        let open = all.iter().filter(|directory| lock(&directory.0.slot).descriptor.is_some()).count();
        assert!(open <= 8, "{open} are open");
    }

    #[test]
    fn a_path_is_cut_at_slashes_into_pieces() {
        let path = vec![b"x".repeat(255); 40].join(&b'/');
        let pieces = pieces(&path);
        assert!(pieces.len() > 1 && pieces.iter().all(|p| p.len() <= PATH_PIECE_BYTES));
        assert_eq!(pieces.join(&b'/'), path);
    }
}
