//! Where the bytes of a file tree go back to.
//!
//! A `Target` is a directory beneath which everything is written. Whatever a snapshot or the target itself holds,
//! nothing outside is touched: every entry is made by a single checked name relative to an open directory that was
//! reached without following any symlink. Only the path of the target itself is followed as the user gave it.
//!
//! A file appears under its name when it is complete, with owner, mode, attributes and times; until then it has a
//! temporary name beside it (`.keepstone-…`). There are two exceptions: a large existing file that is updated in place
//! ([`FileUpdate`]), and a file in a directory that was made by the same restore and is nobody else's to enter until it
//! is finished: if its whole content is at hand it is made and written under its name, one call after the other
//! ([`Target::begin_whole_file`]).
//!
//! The caller makes directories first, then what is in them in any order and from any number of threads, and
//! finishes each directory after all beneath it, for only then its times stay as they were set.
//!
//! What the system refuses to someone who is not root (foreign owners, privileged attributes) is not an error: it
//! is counted and told once by [`Target::notes`].

mod metadata;
mod remove;
mod update;
mod writer;

pub use update::FileUpdate;
pub use writer::FileWriter;

#[cfg(test)]
mod tests;

use crate::base::directory::{DEFAULT_OPEN_LIMIT, Directory, DirectoryPool};
use crate::base::{Kind, Problem, Stat, ids, random};
use crate::format::meta::{EntryKind, Meta};
use metadata::{Identity, Refused};
use rustix::fd::OwnedFd;
use rustix::fs::{AtFlags, FileType, Mode, OFlags};
use rustix::io::Errno;
use std::ffi::{CStr, CString};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// The beginning of the temporary names that files have until they are complete.
pub const TEMPORARY_PREFIX: &str = ".keepstone-";

/// What happens to a file that is there already.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Overwrite {
    /// Its content is compared and what differs is written.
    #[default]
    Always,
    /// The same, unless size and time of last change say that it has not changed.
    IfChanged,
    /// The same, only if the snapshot's is newer.
    IfNewer,
    /// It stays as it is.
    Never,
}

/// How a target is written.
#[derive(Clone, Debug)]
pub struct Options {
    /// What happens to files that are there already.
    pub overwrite: Overwrite,
    /// Directories with content may be removed when something else belongs in their place.
    pub delete: bool,
    /// Long runs of zeros become holes; otherwise the space of large files is reserved when they are begun.
    pub sparse: bool,
}

impl Default for Options {
    fn default() -> Self {
        Options { overwrite: Overwrite::Always, delete: false, sparse: true }
    }
}

/// Why something was not written.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A name that cannot stand for one entry of a directory: a damaged or forged snapshot.
    #[error("will not write {name:?} in {}: it is not the name of a single entry", directory.display())]
    BadName {
        /// Where it was to be written.
        directory: PathBuf,
        /// The name.
        name: String,
    },
    /// Something else is there and may not be removed.
    #[error("{} is in the way: {what}", path.display())]
    InTheWay {
        /// The entry.
        path: PathBuf,
        /// What it is and how to go on.
        what: &'static str,
    },
    /// The operating system refuses it.
    #[error("cannot {operation} {}: {source}", path.display())]
    Failed {
        /// The entry.
        path: PathBuf,
        /// What was tried.
        operation: &'static str,
        /// What came back.
        source: io::Error,
    },
}

impl Error {
    /// [`Kind::Full`] when there is no space left, otherwise [`Kind::Target`].
    pub fn kind(&self) -> Kind {
        match self {
            Error::Failed { source, .. } if Kind::of_io(source) == Kind::Full => Kind::Full,
            _ => Kind::Target,
        }
    }

    /// The same as a problem to report.
    pub fn problem(&self) -> Problem {
        let subject = match self {
            Error::BadName { directory: path, .. } | Error::InTheWay { path, .. } | Error::Failed { path, .. } => path,
        };
        Problem::at(subject, self, self.kind())
    }
}

/// How an existing entry compares with one of a snapshot, by what `stat` says of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Comparison {
    /// There is nothing of that name.
    Absent,
    /// The same kind, size and time of last change; for a symlink the same target, for a device the same device.
    Same,
    /// The same kind, but not the same content.
    Differs,
    /// Something of another kind.
    OtherKind,
}

/// What is to be done for one entry of a snapshot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    /// Write it whole; what is there, if anything, is replaced.
    Write,
    /// A file is there: compare its content and write what differs.
    Update,
    /// The same content is there: only the metadata is to be set.
    Same,
    /// Leave what is there.
    Keep,
}

/// A directory beneath which a tree is written. Clones are the same target.
#[derive(Clone)]
pub struct Target {
    root: Folder,
    shared: Arc<Shared>,
}

/// A directory of the target.
#[derive(Clone)]
pub struct Folder {
    directory: Directory,
    /// Made by this restore, so that nothing can be in the way in it.
    is_fresh: bool,
    /// What is made in it gets access lists from a default list above, which are not of the snapshot.
    passes_on_acl: bool,
}

struct Shared {
    options: Options,
    identity: Identity,
    refused: Refused,
    /// The temporary prefix with random digits: two restores into one directory do not meet.
    temporary_prefix: String,
    temporary_number: AtomicU64,
}

impl Folder {
    /// Its path, for messages.
    pub fn path(&self) -> PathBuf {
        self.directory.path()
    }

    fn descriptor(&self) -> Result<Arc<OwnedFd>, Error> {
        self.directory.descriptor().map_err(|source| Error::Failed {
            path: self.path(),
            operation: "open directory",
            source,
        })
    }

    /// Checks that `name` stands for one entry of this directory and nothing else.
    fn checked(&self, name: &[u8]) -> Result<CString, Error> {
        let is_single = !matches!(name, b"" | b"." | b"..") && !name.contains(&b'/');
        CString::new(name)
            .ok()
            .filter(|_| is_single)
            .ok_or_else(|| Error::BadName { directory: self.path(), name: String::from_utf8_lossy(name).into_owned() })
    }

    fn failed(&self, name: &CStr, operation: &'static str, source: impl Into<io::Error>) -> Error {
        Error::Failed { path: self.directory.path_of(name.to_bytes()), operation, source: source.into() }
    }
}

impl Target {
    /// Opens the directory at `path`, and makes it and those above it when they are missing.
    pub fn open(path: &Path, options: Options) -> Result<Target, Error> {
        let failed = |operation| move |source| Error::Failed { path: path.to_owned(), operation, source };
        std::fs::create_dir_all(path).map_err(failed("create"))?;
        let directory = DirectoryPool::new(DEFAULT_OPEN_LIMIT).open_root(path).map_err(failed("open"))?;
        let passes_on_acl = metadata::has_default_acl(&directory).map_err(failed("open"))?;
        let shared = Shared {
            options,
            identity: Identity::of_this_process(),
            refused: Refused::default(),
            temporary_prefix: format!("{TEMPORARY_PREFIX}{}-", ids::to_hex(&random::bytes::<4>())),
            temporary_number: AtomicU64::new(0),
        };
        let root = Folder { directory, is_fresh: false, passes_on_acl };
        Ok(Target { root, shared: Arc::new(shared) })
    }

    /// The target's own directory.
    pub fn root(&self) -> &Folder {
        &self.root
    }

    /// How it is written.
    pub fn options(&self) -> &Options {
        &self.shared.options
    }

    /// Makes the directory `name` or takes the one that is there. A file or a symlink in its place is removed, unless
    /// nothing may be overwritten. Its metadata are set by [`Target::finish_directory`].
    pub fn make_directory(&self, parent: &Folder, name: &[u8]) -> Result<Folder, Error> {
        let name = parent.checked(name)?;
        let descriptor = parent.descriptor()?;
        let directory = parent.directory.child(&name);
        match rustix::fs::mkdirat(&descriptor, &name, Mode::RWXU) {
            Ok(()) => return self.fresh(parent, &descriptor, directory),
            Err(Errno::EXIST) => {}
            Err(source) => return Err(parent.failed(&name, "create directory", source)),
        }
        match self.open_existing(&descriptor, &directory) {
            Ok(folder) => Ok(folder),
            Err(source) if is_not_a_directory(&source) => self.replace_by_directory(parent, &descriptor, &name),
            Err(source) => Err(parent.failed(&name, "open directory", source)),
        }
    }

    fn open_existing(&self, parent: &OwnedFd, directory: &Directory) -> io::Result<Folder> {
        let stat = Stat::of_entry(parent, directory.name())?;
        let is_directory = EntryKind::of_mode(stat.raw_mode) == Some(EntryKind::Directory);
        if is_directory && self.shared.identity.is_kept_out(&stat) {
            metadata::make_accessible(parent, directory.name())?;
        }
        let passes_on_acl = metadata::has_default_acl(directory)?;
        Ok(Folder { directory: directory.clone(), is_fresh: false, passes_on_acl })
    }

    fn replace_by_directory(&self, parent: &Folder, descriptor: &OwnedFd, name: &CStr) -> Result<Folder, Error> {
        if self.shared.options.overwrite == Overwrite::Never {
            let path = parent.directory.path_of(name.to_bytes());
            return Err(Error::InTheWay { path, what: "it is not a directory, and nothing may be overwritten" });
        }
        rustix::fs::unlinkat(descriptor, name, AtFlags::empty())
            .and_then(|()| rustix::fs::mkdirat(descriptor, name, Mode::RWXU))
            .map_err(|source| parent.failed(name, "replace by a directory", source))?;
        self.fresh(parent, descriptor, parent.directory.child(name))
    }

    fn fresh(&self, parent: &Folder, descriptor: &OwnedFd, directory: Directory) -> Result<Folder, Error> {
        if parent.passes_on_acl {
            // The list that it got may keep even us out.
            metadata::make_accessible(descriptor, directory.name())
                .map_err(|source| parent.failed(directory.name(), "open directory", source))?;
        }
        Ok(Folder { directory, is_fresh: true, passes_on_acl: parent.passes_on_acl })
    }

    /// Opens a directory that is there, for looking only; `None` when there is none.
    pub fn existing_directory(&self, parent: &Folder, name: &[u8]) -> Result<Option<Folder>, Error> {
        let name = parent.checked(name)?;
        parent.descriptor()?;
        let directory = parent.directory.child(&name);
        match directory.descriptor() {
            Ok(_) => Ok(Some(Folder { directory, is_fresh: false, passes_on_acl: false })),
            Err(source) if is_not_a_directory(&source) || source.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(source) => Err(parent.failed(&name, "open directory", source)),
        }
    }

    /// Sets the metadata of a directory, after everything beneath it is written, and closes it.
    pub fn finish_directory(&self, folder: &Folder, meta: &Meta) -> Result<(), Error> {
        let descriptor = folder.descriptor()?;
        let is_clean = folder.is_fresh && !folder.passes_on_acl;
        self.shared.set_open(&descriptor, meta, is_clean).map_err(|(operation, source)| Error::Failed {
            path: folder.path(),
            operation,
            source: source.into(),
        })?;
        folder.directory.close();
        Ok(())
    }

    /// Compares what is there with an entry of a snapshot; content is not read.
    pub fn compare(&self, folder: &Folder, name: &[u8], meta: &Meta) -> Result<Comparison, Error> {
        let name = folder.checked(name)?;
        let Some(stat) = self.stat(folder, &name)? else {
            return Ok(Comparison::Absent);
        };
        if EntryKind::of_mode(stat.raw_mode) != Some(meta.kind) {
            return Ok(Comparison::OtherKind);
        }
        let is_same = match meta.kind {
            EntryKind::File => (stat.size, stat.mtime_ns) == (meta.size, meta.mtime_ns),
            EntryKind::Symlink => rustix::fs::readlinkat(&*folder.descriptor()?, &*name, Vec::new())
                .is_ok_and(|target| target.as_bytes() == meta.symlink_target),
            EntryKind::CharDevice | EntryKind::BlockDevice => stat.rdev == meta.rdev,
            EntryKind::Directory | EntryKind::Fifo | EntryKind::Socket => true,
        };
        Ok(if is_same { Comparison::Same } else { Comparison::Differs })
    }

    /// What the options say is to be done for an entry of a snapshot that is not a directory.
    pub fn decide(&self, folder: &Folder, name: &[u8], meta: &Meta) -> Result<Decision, Error> {
        if folder.is_fresh {
            return Ok(Decision::Write);
        }
        let comparison = self.compare(folder, name, meta)?;
        if comparison == Comparison::Absent {
            return Ok(Decision::Write);
        }
        let is_kept = match self.shared.options.overwrite {
            Overwrite::Always | Overwrite::IfChanged => false,
            Overwrite::IfNewer => {
                let stat = self.stat(folder, &folder.checked(name)?)?;
                stat.is_some_and(|stat| stat.mtime_ns >= meta.mtime_ns)
            }
            Overwrite::Never => true,
        };
        let trusts_stat = meta.kind != EntryKind::File || self.shared.options.overwrite == Overwrite::IfChanged;
        Ok(match comparison {
            _ if is_kept => Decision::Keep,
            Comparison::Same if trusts_stat => Decision::Same,
            Comparison::Same | Comparison::Differs if meta.kind == EntryKind::File => Decision::Update,
            _ => Decision::Write,
        })
    }

    fn stat(&self, folder: &Folder, name: &CStr) -> Result<Option<Stat>, Error> {
        match Stat::of_entry(&*folder.descriptor()?, name) {
            Ok(stat) => Ok(Some(stat)),
            Err(Errno::NOENT) => Ok(None),
            Err(source) => Err(folder.failed(name, "stat", source)),
        }
    }

    /// Sets the metadata of an entry whose content is right already.
    pub fn set_metadata(&self, folder: &Folder, name: &[u8], meta: &Meta) -> Result<(), Error> {
        let name = folder.checked(name)?;
        self.set_named(folder, &name, meta, false)
    }

    fn set_named(&self, folder: &Folder, name: &CStr, meta: &Meta, is_new: bool) -> Result<(), Error> {
        let is_clean = is_new && !folder.passes_on_acl;
        self.shared
            .set_named(&*folder.descriptor()?, name, meta, is_clean)
            .map_err(|(operation, source)| folder.failed(name, operation, source))
    }

    /// Begins a regular file; it appears under its name when it is finished.
    pub fn begin_file(&self, folder: &Folder, name: &[u8], meta: &Meta) -> Result<FileWriter, Error> {
        FileWriter::begin(self, folder, folder.checked(name)?, meta)
    }

    /// The same for a file whose content is at hand and comes in one write.
    pub fn begin_whole_file(&self, folder: &Folder, name: &[u8], meta: &Meta) -> Result<FileWriter, Error> {
        FileWriter::begin_whole(self, folder, folder.checked(name)?, meta)
    }

    /// Opens a regular file that is there, to compare it and to write what differs.
    pub fn update_file(&self, folder: &Folder, name: &[u8], meta: &Meta) -> Result<FileUpdate, Error> {
        FileUpdate::begin(self, folder, folder.checked(name)?, meta)
    }

    /// Makes a symlink that points to `meta.symlink_target`, which is never followed.
    pub fn make_symlink(&self, folder: &Folder, name: &[u8], meta: &Meta) -> Result<(), Error> {
        let create =
            |directory: &OwnedFd, name: &CStr| rustix::fs::symlinkat(meta.symlink_target.as_slice(), directory, name);
        self.make(folder, name, "create symlink", Some(meta), &create)
    }

    /// Makes a fifo, a socket's place or a device file, whichever `meta.kind` says.
    pub fn make_special(&self, folder: &Folder, name: &[u8], meta: &Meta) -> Result<(), Error> {
        let file_type = match meta.kind {
            EntryKind::Fifo => FileType::Fifo,
            EntryKind::Socket => FileType::Socket,
            EntryKind::CharDevice => FileType::CharacterDevice,
            EntryKind::BlockDevice => FileType::BlockDevice,
            EntryKind::File | EntryKind::Directory | EntryKind::Symlink => {
                let source = io::Error::other("it is not a fifo, a socket or a device");
                return Err(folder.failed(&folder.checked(name)?, "create special file", source));
            }
        };
        let create = |directory: &OwnedFd, name: &CStr| {
            rustix::fs::mknodat(directory, name, file_type, Mode::RUSR | Mode::WUSR, meta.rdev)
        };
        self.make(folder, name, "create special file", Some(meta), &create)
    }

    /// Gives the file `first_name` in `first_folder`, written before, another name. A symlink there is not followed.
    pub fn hard_link(
        &self,
        first_folder: &Folder,
        first_name: &[u8],
        folder: &Folder,
        name: &[u8],
    ) -> Result<(), Error> {
        let first_name = first_folder.checked(first_name)?;
        let first = first_folder.descriptor()?;
        if !folder.is_fresh && self.is_same_file(first_folder, &first_name, folder, name)? {
            return Ok(());
        }
        let create = |directory: &OwnedFd, name: &CStr| {
            rustix::fs::linkat(&first, &first_name, directory, name, AtFlags::empty())
        };
        self.make(folder, name, "create hard link", None, &create)
    }

    fn is_same_file(&self, folder_a: &Folder, a: &CStr, folder_b: &Folder, b: &[u8]) -> Result<bool, Error> {
        let a = self.stat(folder_a, a)?.map(|stat| stat.identity());
        let b = self.stat(folder_b, &folder_b.checked(b)?)?.map(|stat| stat.identity());
        Ok(a.is_some() && a == b)
    }

    /// Makes an entry in one call under its own name or, when that is taken, under a temporary one.
    fn make(
        &self,
        folder: &Folder,
        name: &[u8],
        operation: &'static str,
        meta: Option<&Meta>,
        create: &dyn Fn(&OwnedFd, &CStr) -> rustix::io::Result<()>,
    ) -> Result<(), Error> {
        let name = folder.checked(name)?;
        let descriptor = folder.descriptor()?;
        let set = |name: &CStr| meta.map_or(Ok(()), |meta| self.set_named(folder, name, meta, true));
        match create(&descriptor, &name) {
            Ok(()) => return set(&name),
            Err(Errno::EXIST) => {}
            Err(source) => return Err(folder.failed(&name, operation, source)),
        }
        let temporary = self.shared.temporary_name();
        create(&descriptor, &temporary).map_err(|source| folder.failed(&name, operation, source))?;
        let result = set(&temporary).and_then(|()| self.put_in_place(folder, &temporary, &name));
        if result.is_err() {
            // What could not be put in place is of no use; if it cannot be removed either, the next run meets it.
            let _ = rustix::fs::unlinkat(&descriptor, &temporary, AtFlags::empty());
        }
        result
    }

    /// Renames a complete entry to its name. What is there gives way at this moment and not before.
    fn put_in_place(&self, folder: &Folder, temporary: &CStr, name: &CStr) -> Result<(), Error> {
        let descriptor = folder.descriptor()?;
        let rename = || rustix::fs::renameat(&descriptor, temporary, &descriptor, name);
        match rename() {
            Ok(()) => return Ok(()),
            Err(Errno::ISDIR | Errno::NOTEMPTY | Errno::EXIST) => {}
            Err(source) => return Err(folder.failed(name, "rename a finished file to", source)),
        }
        match rustix::fs::unlinkat(&descriptor, name, AtFlags::REMOVEDIR) {
            Ok(()) | Err(Errno::NOENT) => {}
            Err(Errno::NOTEMPTY | Errno::EXIST) if self.shared.options.delete => {
                self.remove(folder, name.to_bytes())?;
            }
            Err(Errno::NOTEMPTY | Errno::EXIST) => {
                let what = "it is a directory that is not empty; remove it or allow deletion (--delete)";
                return Err(Error::InTheWay { path: folder.directory.path_of(name.to_bytes()), what });
            }
            Err(source) => return Err(folder.failed(name, "remove directory", source)),
        }
        rename().map_err(|source| folder.failed(name, "rename a finished file to", source))
    }

    /// What was refused because we are not root or the file system does not know it, a sentence each.
    pub fn notes(&self) -> Vec<String> {
        self.shared.refused.notes()
    }

    /// Asks the disk to keep everything that was written; may take long.
    pub fn sync(&self) -> Result<(), Error> {
        rustix::fs::syncfs(&*self.root.descriptor()?).map_err(|source| Error::Failed {
            path: self.root.path(),
            operation: "write to disk what is in memory of",
            source: source.into(),
        })
    }

    /// Bytes that can still be written by this user, where the file system tells.
    pub fn free_bytes(&self) -> Option<u64> {
        let answer = rustix::fs::fstatvfs(&*self.root.descriptor().ok()?).ok()?;
        answer.f_bavail.checked_mul(answer.f_frsize)
    }
}

impl Shared {
    fn temporary_name(&self) -> CString {
        let number = self.temporary_number.fetch_add(1, Ordering::Relaxed);
        CString::new(format!("{}{number:x}", self.temporary_prefix)).expect("hexadecimal digits have no zero byte")
    }
}

fn is_not_a_directory(error: &io::Error) -> bool {
    matches!(Errno::from_io_error(error), Some(Errno::NOTDIR | Errno::LOOP))
}

/// How files are opened in the target: never through a symlink, never waiting for the other end of a fifo.
const FILE_FLAGS: OFlags = OFlags::NOFOLLOW.union(OFlags::CLOEXEC).union(OFlags::NONBLOCK).union(OFlags::NOCTTY);
