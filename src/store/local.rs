//! Objects as files in a folder of this machine.
//!
//! ```text
//! repository/            0700
//!   config               0600, objects of Area::Config lie at the top
//!   keys/ index/ …       one folder per area, made when the first object comes
//!   packs/3f/3fa9…       fanned out by the first two characters
//!   tmp/<32 hex digits>  objects on their way, never listed
//!   tmp/reserve          room for the prune of a full disk
//! ```
//!
//! An object is written under a random name in `tmp/`, flushed to the disk, given its name in one step that
//! fails if the name is taken, and then the folder is flushed. A crash before the naming leaves a file in `tmp/`
//! and nothing else; after it the object is whole.

mod reserve;
mod upload;

use super::{Area, Error, Key, Listed, ObjectStore, Operation, Put, Upload, check_limit, check_range};
use crate::base::{Clock, Kind, Timestamp};
use rustix::fs::{AtFlags, CWD, Dir, FileType, FlockOperation, Mode, OFlags, RawMode, Stat};
use rustix::io::Errno;
use std::collections::BTreeSet;
use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use upload::{LocalUpload, Temporary};

/// Where objects on their way lie. Not the name of an area, so it is never listed.
const TEMPORARY: &str = "tmp";

/// The shortest id or number that an object is named by.
const SHORTEST_STEM: usize = 8;

/// Repositories tell who has which data at which size: nobody else's business. A narrower umask narrows further.
const FILE_MODE: RawMode = 0o600;
const FOLDER_MODE: RawMode = 0o700;

/// A store in a folder. Clones share it.
#[derive(Clone)]
pub struct Local {
    place: Arc<Place>,
}

struct Place {
    path: PathBuf,
    root: OwnedFd,
    /// Folders whose own entry in their parent is known to be on the disk.
    durable_folders: Mutex<BTreeSet<String>>,
    /// Fan-out folders that something was deleted from since they were flushed.
    unflushed_fans: Mutex<BTreeSet<String>>,
    /// Set once the file system turned out not to know `RENAME_NOREPLACE` (NFS, some FUSE).
    names_by_link: AtomicBool,
    clock: Clock,
}

impl Local {
    /// Makes the folder `path`, with the folders above it, and opens it.
    ///
    /// A folder that is there already will do if nothing strange lies in it: anything that is not ours is
    /// [`Kind::Refused`]. Whether a repository is there already shows when its `config` is put.
    pub fn create(path: impl AsRef<Path>) -> Result<Local, Error> {
        let path = path.as_ref();
        make_durable_folders(path).map_err(|error| failed_at("create", path, &error))?;
        let local = Local::open(path)?;
        local.place.refuse_strangers()?;
        Ok(local)
    }

    /// Opens the folder `path`; makes and changes nothing in it.
    pub fn open(path: impl AsRef<Path>) -> Result<Local, Error> {
        let path = path.as_ref();
        let root = rustix::fs::open(path, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
            .map_err(|errno| match errno {
                Errno::NOENT => Error::new(
                    Kind::NoRepository,
                    "open",
                    path.display(),
                    "there is no such folder; is the disk mounted, is the path right?",
                ),
                _ => failed_at("open", path, &errno.into()),
            })?;
        Ok(Local {
            place: Arc::new(Place {
                path: path.to_owned(),
                root,
                durable_folders: Mutex::default(),
                unflushed_fans: Mutex::default(),
                names_by_link: AtomicBool::new(false),
                clock: Clock::System,
            }),
        })
    }
}

impl ObjectStore for Local {
    fn put(&self, key: &Key, bytes: &[u8]) -> Result<Put, Error> {
        self.place.written(bytes, key)?.keep_if_absent(key)
    }

    fn begin(&self) -> Result<Box<dyn Upload>, Error> {
        self.keep_reserve();
        Ok(Box::new(LocalUpload::begin(&self.place)?))
    }

    fn replace(&self, key: &Key, bytes: &[u8]) -> Result<(), Error> {
        self.place.written(bytes, key)?.keep_instead(key)
    }

    fn get(&self, key: &Key, limit_bytes: u64) -> Result<Vec<u8>, Error> {
        let (file, size_bytes) = self.place.open_object(Operation::Get, key)?;
        check_limit(&self.place.name_of(key), size_bytes, limit_bytes)?;
        self.place.read(&file, key, 0, size_bytes)
    }

    fn get_range(&self, key: &Key, offset: u64, length: usize) -> Result<Vec<u8>, Error> {
        let (file, size_bytes) = self.place.open_object(Operation::GetRange, key)?;
        check_range(&self.place.name_of(key), size_bytes, offset, length)?;
        self.place.read(&file, key, offset, length as u64)
    }

    fn size(&self, key: &Key) -> Result<u64, Error> {
        let stat = rustix::fs::statat(&self.place.root, key.path(), AtFlags::SYMLINK_NOFOLLOW)
            .map_err(|errno| self.place.failed(Operation::Size, key, errno.into()))?;
        self.place.check_regular(Operation::Size, key, &stat)?;
        Ok(size_of(&stat))
    }

    fn list(&self, area: Area, each: &mut dyn FnMut(Listed)) -> Result<(), Error> {
        if !area.fans_out() {
            return self.place.list_folder(area.folder(), each);
        }
        let fans =
            self.place.folders_in(area.folder()).map_err(|errno| self.place.failed_in(area.folder(), &errno.into()))?;
        for fan in fans {
            let folder = format!("{}/{fan}", area.folder());
            self.place.list_folder(&folder, &mut |listed| {
                // A name in the wrong folder would not be found by `get` either.
                if fan_of(&listed.name) == fan {
                    each(listed);
                }
            })?;
        }
        Ok(())
    }

    fn delete(&self, key: &Key) -> Result<(), Error> {
        match rustix::fs::unlinkat(&self.place.root, key.path(), AtFlags::empty()) {
            Ok(()) => {
                // Flushed later, all at once: see `flush`.
                self.place.fans_deleted_from(key);
                Ok(())
            }
            Err(Errno::NOENT) => Ok(()),
            Err(errno) => Err(self.place.failed(Operation::Delete, key, errno.into())),
        }
    }

    fn flush(&self, area: Area) -> Result<(), Error> {
        let folders = match area.fans_out() {
            true => std::mem::take(&mut *self.place.unflushed_fans()),
            // Whoever deleted: a folder is flushed in one go.
            false => BTreeSet::from([area.folder().to_owned()]),
        };
        for folder in &folders {
            match self.place.flush_folder(folder) {
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => {
                    // Asked again, it does them all again.
                    self.place.unflushed_fans().extend(folders.iter().filter(|_| area.fans_out()).cloned());
                    return Err(self.place.failed_in(folder, &error));
                }
            }
        }
        Ok(())
    }

    fn location(&self) -> String {
        self.place.path.display().to_string()
    }

    fn free_bytes(&self) -> Option<u64> {
        let figures = rustix::fs::fstatvfs(&self.place.root).ok()?;
        figures.f_bavail.checked_mul(figures.f_frsize)
    }

    fn keep_reserve(&self) {
        self.place.keep_reserve(self.free_bytes().unwrap_or(0));
    }

    fn give_up_reserve(&self) -> Result<bool, Error> {
        self.place.give_up_reserve()
    }

    fn sweep_uploads(&self, older_than: Duration) -> Result<u64, Error> {
        // Whoever is at work holds a lock on the file.
        let place = &self.place;
        let newest = place.clock.now().saturating_sub(older_than).unwrap_or(Timestamp::MIN);
        let mut names = Vec::new();
        place.each_file(TEMPORARY, &mut |name, stat| {
            if is_temporary_name(name) && modified_at(stat) <= newest {
                names.push(name.to_owned());
            }
        })?;
        let mut removed = 0;
        for name in names {
            removed += u64::from(place.remove_abandoned(&name)?);
        }
        Ok(removed)
    }
}

/// Reading and listing.
impl Place {
    /// Opens an object's file and tells its size.
    fn open_object(&self, operation: Operation, key: &Key) -> Result<(OwnedFd, u64), Error> {
        // NONBLOCK: a pipe somebody put there must not make us wait for its other end.
        let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW | OFlags::NONBLOCK;
        let open = |flags| rustix::fs::openat(&self.root, key.path(), flags, Mode::empty());
        let file = match open(flags | OFlags::NOATIME) {
            // Only a file's owner may leave its access time alone.
            Err(Errno::PERM) => open(flags),
            outcome => outcome,
        };
        let file = file.map_err(|errno| self.failed(operation, key, errno.into()))?;
        let stat = rustix::fs::fstat(&file).map_err(|errno| self.failed(operation, key, errno.into()))?;
        self.check_regular(operation, key, &stat)?;
        Ok((file, size_of(&stat)))
    }

    fn check_regular(&self, operation: Operation, key: &Key, stat: &Stat) -> Result<(), Error> {
        if FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile {
            return Ok(());
        }
        Err(Error::new(Kind::Damaged, operation.verb(), self.name_of(key), "it is not a regular file"))
    }

    /// Reads `length` bytes from `offset`, or fails; the caller has compared both with the size.
    fn read(&self, file: &OwnedFd, key: &Key, offset: u64, length: u64) -> Result<Vec<u8>, Error> {
        read_exactly(file, offset, length).map_err(|error| self.failed(Operation::Get, key, error))
    }

    fn list_folder(&self, folder: &str, each: &mut dyn FnMut(Listed)) -> Result<(), Error> {
        self.each_file(folder, &mut |name, stat| {
            let (size_bytes, stored_at) = (size_of(stat), modified_at(stat));
            each(Listed { name: name.to_owned(), size_bytes, stored_at, class: None });
        })
    }

    /// Calls `each` for the regular files with object names in a folder; a folder that is not there is empty.
    fn each_file(&self, folder: &str, each: &mut dyn FnMut(&str, &Stat)) -> Result<(), Error> {
        let failed = |errno: Errno| self.failed_in(folder, &errno.into());
        let Some(mut entries) = self.read_folder(folder).map_err(failed)? else {
            return Ok(());
        };
        while let Some(entry) = entries.read() {
            let entry = entry.map_err(failed)?;
            let Ok(name) = entry.file_name().to_str() else {
                continue;
            };
            let may_be_file = matches!(entry.file_type(), FileType::RegularFile | FileType::Unknown);
            if !may_be_file || !Key::is_name(name) {
                continue;
            }
            let folder = entries.fd().map_err(failed)?;
            match rustix::fs::statat(folder, name, AtFlags::SYMLINK_NOFOLLOW) {
                Ok(stat) if FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile => {
                    each(name, &stat);
                }
                // Something else, or deleted meanwhile.
                Ok(_) | Err(Errno::NOENT) => {}
                Err(errno) => return Err(failed(errno)),
            }
        }
        Ok(())
    }

    /// The names of the fan-out folders in an area.
    fn folders_in(&self, folder: &str) -> rustix::io::Result<Vec<String>> {
        let mut names = Vec::new();
        let Some(mut entries) = self.read_folder(folder)? else {
            return Ok(names);
        };
        while let Some(entry) = entries.read() {
            let entry = entry?;
            let may_be_folder = matches!(entry.file_type(), FileType::Directory | FileType::Unknown);
            match entry.file_name().to_str() {
                Ok(name) if may_be_folder && Key::is_name(name) && fan_of(name) == name => {
                    names.push(name.to_owned());
                }
                _ => {}
            }
        }
        Ok(names)
    }

    fn read_folder(&self, folder: &str) -> rustix::io::Result<Option<Dir>> {
        match self.open_folder(folder) {
            Ok(opened) => Dir::new(opened).map(Some),
            // NOTDIR and LOOP: a stray file or symbolic link where a folder would be holds no objects.
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => Ok(None),
            Err(errno) => Err(errno),
        }
    }

    fn open_folder(&self, folder: &str) -> rustix::io::Result<OwnedFd> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        let path = if folder.is_empty() { "." } else { folder };
        rustix::fs::openat(&self.root, path, flags, Mode::empty())
    }
}

/// Writing and removing.
impl Place {
    /// A new temporary file that holds `bytes`.
    fn written(self: &Arc<Self>, bytes: &[u8], key: &Key) -> Result<Temporary, Error> {
        let mut temporary = Temporary::create(self)?;
        temporary.write_all(bytes).map_err(|error| self.failed(Operation::Put, key, error))?;
        Ok(temporary)
    }

    fn create_file(&self, path: &str) -> io::Result<File> {
        let create = || {
            let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
            rustix::fs::openat(&self.root, path, flags, Mode::from_raw_mode(FILE_MODE))
        };
        let file = match create() {
            Err(Errno::NOENT) => {
                self.make_folder(TEMPORARY)?;
                create()?
            }
            outcome => outcome?,
        };
        Ok(File::from(file))
    }

    /// Runs `name`, which gives a file the name `key`, after the folder for it is there for good.
    fn in_folder_of<T>(&self, key: &Key, mut name: impl FnMut() -> rustix::io::Result<T>) -> io::Result<T> {
        self.prepare_folder_of(key)?;
        match name() {
            // Somebody removed the folder although we know it to have been there: once more from the start.
            Err(Errno::NOENT) => {
                self.durable_folders().clear();
                self.prepare_folder_of(key)?;
                Ok(name()?)
            }
            outcome => Ok(outcome?),
        }
    }

    /// Makes sure that the folders above `key` are there and that a crash cannot take them away.
    fn prepare_folder_of(&self, key: &Key) -> io::Result<()> {
        let folder = folder_of(key);
        if folder.is_empty() || self.durable_folders().contains(&folder) {
            return Ok(());
        }
        let area = key.area().folder();
        if !self.durable_folders().contains(area) {
            self.make_folder(area)?;
            // Even if it was there: another process may have made it a moment ago and not flushed yet.
            self.flush_folder("")?;
            self.durable_folders().insert(area.to_owned());
        }
        if key.area().fans_out() {
            self.prepare_fan(area, &folder)?;
        }
        Ok(())
    }

    fn prepare_fan(&self, area: &str, folder: &str) -> io::Result<()> {
        self.make_folder(folder)?;
        // One flush covers all fan-out folders there are by now.
        let fans = self.folders_in(area)?;
        self.flush_folder(area)?;
        let mut durable = self.durable_folders();
        durable.extend(fans.iter().map(|fan| format!("{area}/{fan}")));
        Ok(())
    }

    fn make_folder(&self, folder: &str) -> io::Result<()> {
        match rustix::fs::mkdirat(&self.root, folder, Mode::from_raw_mode(FOLDER_MODE)) {
            Ok(()) | Err(Errno::EXIST) => Ok(()),
            Err(errno) => Err(errno.into()),
        }
    }

    fn flush_folder(&self, folder: &str) -> io::Result<()> {
        flush(&self.open_folder(folder)?)
    }

    fn flush_folder_of(&self, key: &Key) -> Result<(), Error> {
        self.flush_folder(&folder_of(key)).map_err(|error| self.failed(Operation::Put, key, error))
    }

    fn fans_deleted_from(&self, key: &Key) {
        if key.area().fans_out() {
            self.unflushed_fans().insert(folder_of(key));
        }
    }

    fn unflushed_fans(&self) -> std::sync::MutexGuard<'_, BTreeSet<String>> {
        self.unflushed_fans.lock().expect("nothing panics while it holds the set")
    }

    fn durable_folders(&self) -> std::sync::MutexGuard<'_, BTreeSet<String>> {
        self.durable_folders.lock().expect("nothing panics while it holds the set")
    }

    /// Removes a temporary file if nobody holds its lock; answers whether it did.
    fn remove_abandoned(&self, name: &str) -> Result<bool, Error> {
        let path = temporary_path(name);
        let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW | OFlags::NONBLOCK;
        let failed = |errno: Errno| failed("delete", self.name_of_path(&path), &errno.into());
        let file = match rustix::fs::openat(&self.root, &path, flags, Mode::empty()) {
            Ok(file) => file,
            Err(Errno::NOENT) => return Ok(false),
            Err(errno) => return Err(failed(errno)),
        };
        if rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive).is_err() {
            return Ok(false);
        }
        match rustix::fs::unlinkat(&self.root, &path, AtFlags::empty()) {
            Ok(()) => Ok(true),
            Err(Errno::NOENT) => Ok(false),
            Err(errno) => Err(failed(errno)),
        }
    }

    fn refuse_strangers(&self) -> Result<(), Error> {
        self.refuse_others("", &is_ours)?;
        self.refuse_others(TEMPORARY, &|name| is_temporary_name(name) || name == reserve::NAME)?;
        for area in Area::ALL.into_iter().filter(|area| *area != Area::Config) {
            let folder = area.folder();
            if !area.fans_out() {
                self.refuse_others(folder, &is_object_name)?;
                continue;
            }
            self.refuse_others(folder, &|name| name.len() == 2 && name.bytes().all(|c| c.is_ascii_hexdigit()))?;
            for fan in self.folders_in(folder).map_err(|errno| self.failed_in(folder, &errno.into()))? {
                self.refuse_others(&format!("{folder}/{fan}"), &is_object_name)?;
            }
        }
        Ok(())
    }

    /// Fails if a folder holds an entry whose name is not `expected`.
    fn refuse_others(&self, folder: &str, expected: &dyn Fn(&str) -> bool) -> Result<(), Error> {
        let failed = |errno: Errno| self.failed_in(folder, &errno.into());
        let Some(mut entries) = self.read_folder(folder).map_err(failed)? else { return Ok(()) };
        while let Some(entry) = entries.read() {
            let entry = entry.map_err(failed)?;
            let name = entry.file_name().to_string_lossy();
            if !matches!(&*name, "." | "..") && !expected(&name) {
                let found = Path::new(folder).join(&*name);
                return Err(Error::new(
                    Kind::Refused,
                    "create",
                    self.path.display(),
                    format_args!("the folder is not empty, it holds {found:?}; choose a new or empty one"),
                ));
            }
        }
        Ok(())
    }
}

/// Messages.
impl Place {
    fn name_of(&self, key: &Key) -> String {
        self.name_of_path(&key.path())
    }

    fn name_of_path(&self, path: &str) -> String {
        self.path.join(path).display().to_string()
    }

    fn failed(&self, operation: Operation, key: &Key, error: io::Error) -> Error {
        if operation.changes() {
            write_failed(operation, self.name_of(key), &error)
        } else {
            failed(operation.verb(), self.name_of(key), &error)
        }
    }

    fn failed_in(&self, folder: &str, error: &io::Error) -> Error {
        failed("list", self.name_of_path(folder), error)
    }
}

fn failed(operation: &'static str, subject: impl ToString, error: &io::Error) -> Error {
    Error::new(kind_of(error), operation, subject, reason_of(error))
}

/// As [`failed`], but what cannot be found is no object: the disk has gone from under us.
fn write_failed(operation: Operation, subject: String, error: &io::Error) -> Error {
    let kind = match kind_of(error) {
        Kind::NotFound => Kind::Unavailable,
        kind => kind,
    };
    Error::new(kind, operation.verb(), subject, format!("{}{}", reason_of(error), remedy(kind)))
}

/// What helps where something could not be written.
fn remedy(kind: Kind) -> &'static str {
    match kind {
        Kind::Full => "; `keepstone forget` and `keepstone prune` make room, also on a full disk; what is stored stays",
        _ => "",
    }
}

fn kind_of(error: &io::Error) -> Kind {
    match Errno::from_io_error(error) {
        // A folder or file of ours is a symbolic link, a file, a folder where it must not be.
        Some(Errno::LOOP | Errno::NOTDIR | Errno::ISDIR) => Kind::Damaged,
        // No way to give a name in one step: another mount inside the repository, or neither links nor
        // RENAME_NOREPLACE.
        Some(Errno::XDEV | Errno::NOTSUP | Errno::NOSYS) => Kind::Unsupported,
        // The disk took fewer bytes than it was given.
        _ if error.kind() == io::ErrorKind::WriteZero => Kind::Full,
        _ => Kind::of_io(error),
    }
}

/// The folder itself cannot be used: often a file is in its place or above it.
fn failed_at(what: &'static str, path: &Path, error: &io::Error) -> Error {
    match path.ancestors().find(|above| above.is_file()) {
        Some(file) => {
            Error::new(Kind::Usage, what, path.display(), format!("{} is a file: name a folder", file.display()))
        }
        None => failed(what, path.display(), error),
    }
}

fn reason_of(error: &io::Error) -> String {
    match Errno::from_io_error(error) {
        Some(Errno::XDEV) => format!("{error}; the whole repository must lie on one file system"),
        Some(Errno::LOOP) => {
            format!("{error}; symbolic links inside a repository are not followed")
        }
        _ => error.to_string(),
    }
}

fn temporary_path(name: &str) -> String {
    format!("{TEMPORARY}/{name}")
}

fn is_temporary_name(name: &str) -> bool {
    name.len() == 32 && name.bytes().all(|c| c.is_ascii_hexdigit())
}

/// Whether something that a repository stored may have that name: an id or a number, and perhaps what it is.
fn is_object_name(name: &str) -> bool {
    let stem = name.split('.').next().unwrap_or_default();
    Key::is_name(name) && stem.len() >= SHORTEST_STEM && stem.bytes().all(|c| c.is_ascii_hexdigit())
}

/// Whether a repository, or the file system itself, may have an entry of that name at the top.
fn is_ours(name: &str) -> bool {
    matches!(name, "." | ".." | "lost+found" | TEMPORARY)
        || name.starts_with("config")
        || Area::ALL.iter().any(|area| area.folder() == name)
}

/// The fan-out folder for an object's name; the same rule as in [`Key::path`].
fn fan_of(name: &str) -> &str {
    name.get(..2).unwrap_or(name)
}

/// The folder in which `key` lies, relative to the repository; empty for the top.
fn folder_of(key: &Key) -> String {
    let path = key.path();
    path.rsplit_once('/').map_or_else(String::new, |(folder, _)| folder.to_owned())
}

fn size_of(stat: &Stat) -> u64 {
    u64::try_from(stat.st_size).unwrap_or(0)
}

fn modified_at(stat: &Stat) -> Timestamp {
    // A time that cannot be told counts as young: nothing is removed because of it.
    Timestamp::new(stat.st_mtime, stat.st_mtime_nsec as i32).unwrap_or(Timestamp::MAX)
}

fn read_exactly(file: &OwnedFd, offset: u64, length: u64) -> io::Result<Vec<u8>> {
    let wanted = usize::try_from(length).map_err(io::Error::other)?;
    let mut bytes = Vec::new();
    bytes.try_reserve_exact(wanted).map_err(io::Error::other)?;
    while bytes.len() < wanted {
        let at = offset + bytes.len() as u64;
        match rustix::io::pread(file, rustix::buffer::spare_capacity(&mut bytes), at) {
            Ok(0) => {
                let text = format!("unexpected end after {} of {wanted} bytes", bytes.len());
                return Err(io::Error::new(io::ErrorKind::UnexpectedEof, text));
            }
            Ok(_) | Err(Errno::INTR) => {}
            Err(errno) => return Err(errno.into()),
        }
    }
    // The allocator may have given more room than asked for, and the file may have grown into it.
    bytes.truncate(wanted);
    Ok(bytes)
}

/// Flushes a folder's entries to the disk.
fn flush(folder: impl AsFd) -> io::Result<()> {
    match rustix::fs::fsync(folder) {
        // What a file system says that does not know flushing of folders (SMB, some FUSE): it keeps its
        // entries by other means.
        Ok(()) | Err(Errno::INVAL | Errno::NOTSUP) => Ok(()),
        Err(errno) => Err(errno.into()),
    }
}

/// Makes `path` and the missing folders above it, and flushes each new entry.
fn make_durable_folders(path: &Path) -> io::Result<()> {
    let parent = match path.parent() {
        Some(parent) if parent.as_os_str().is_empty() => Path::new("."),
        Some(parent) => parent,
        None => return Ok(()),
    };
    match rustix::fs::mkdirat(CWD, path, Mode::from_raw_mode(FOLDER_MODE)) {
        Ok(()) => {}
        Err(Errno::EXIST) => return Ok(()),
        Err(Errno::NOENT) => {
            make_durable_folders(parent)?;
            match rustix::fs::mkdirat(CWD, path, Mode::from_raw_mode(FOLDER_MODE)) {
                Ok(()) | Err(Errno::EXIST) => {}
                Err(errno) => return Err(errno.into()),
            }
        }
        Err(errno) => return Err(errno.into()),
    }
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    flush(rustix::fs::open(parent, flags, Mode::empty())?)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::fs;
    use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
    use std::sync::atomic::Ordering;

    fn folder() -> (tempfile::TempDir, PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("deep/er/repository");
        (folder, path)
    }

    fn names(store: &Local, area: Area) -> Vec<String> {
        let mut names = Vec::new();
        store.list(area, &mut |listed| names.push(listed.name)).unwrap();
        names.sort();
        names
    }

    fn temporary_files(path: &Path) -> usize {
        fs::read_dir(path.join(TEMPORARY)).map_or(0, Iterator::count)
    }

    #[test]
    fn a_new_store_is_an_empty_folder_for_its_owner_alone() {
        let (_folder, path) = folder();
        let store = Local::create(&path).unwrap();
        assert_eq!(fs::read_dir(&path).unwrap().count(), 0);
        store.put(&Key::new(Area::Packs, "abc"), b"x").unwrap();
        for (entry, mode) in [("", 0o700), ("packs", 0o700), ("packs/ab", 0o700), ("packs/ab/abc", 0o600)] {
            let found = fs::metadata(path.join(entry)).unwrap().permissions().mode() & 0o777;
            assert_eq!(found & !mode, 0, "{entry}: {found:o}");
        }
        assert!(store.free_bytes().unwrap() > 0);
        assert_eq!(store.location(), path.display().to_string());
    }

    #[test]
    fn a_flush_covers_every_folder_that_something_was_deleted_from() {
        let (_folder, path) = folder();
        let store = Local::create(&path).unwrap();
        store.flush(Area::Index).unwrap();
        let keys = ["aa1", "ab2", "ab3"].map(|name| Key::new(Area::Packs, name));
        keys.iter().for_each(|key| assert_eq!(store.put(key, b"x").unwrap(), Put::Stored));
        keys.iter().for_each(|key| store.delete(key).unwrap());
        assert_eq!(*store.place.unflushed_fans(), BTreeSet::from(["packs/aa".to_owned(), "packs/ab".to_owned()]));
        store.flush(Area::Index).unwrap();
        assert_eq!(store.place.unflushed_fans().len(), 2);
        fs::remove_dir(path.join("packs/aa")).unwrap();
        store.flush(Area::Packs).unwrap();
        assert!(store.place.unflushed_fans().is_empty());
    }

    #[test]
    fn a_folder_with_strange_things_in_it_is_refused() {
        let (_folder, path) = folder();
        fs::create_dir_all(path.join("lost+found")).unwrap();
        Local::create(&path).unwrap();
        fs::write(path.join("holiday.jpg"), b"").unwrap();
        let error = Local::create(&path).err().unwrap();
        assert_eq!(error.kind(), Kind::Refused);
        assert!(error.to_string().contains("holiday.jpg"), "{error}");
    }

    #[test]
    fn a_store_can_be_created_again_after_it_was_interrupted() {
        let (_folder, path) = folder();
        let store = Local::create(&path).unwrap();
        for area in Area::ALL {
            let name = if area == Area::Config { "config" } else { "00c0ffee.copy" };
            store.put(&Key::new(area, name), b"x").unwrap();
        }
        assert!(Local::create(&path).is_ok());
    }

    #[test]
    fn a_folder_whose_folders_only_bear_our_names_is_refused() {
        for strange in
            ["keys/id_rsa", "keys/id", "packs/precious", "packs/ab/letter", "snapshots/2026.png", "tmp/draft"]
        {
            let (_folder, path) = folder();
            Local::create(&path).unwrap();
            fs::create_dir_all(path.join(strange).parent().unwrap()).unwrap();
            fs::write(path.join(strange), b"").unwrap();
            let error = Local::create(&path).err().unwrap();
            assert_eq!(error.kind(), Kind::Refused, "{strange}");
            assert!(error.to_string().contains(strange), "{error}");
        }
    }

    #[test]
    fn what_is_not_there_is_no_repository_and_what_is_no_folder_a_wrong_word() {
        let (_folder, path) = folder();
        assert_eq!(Local::open(&path).err().unwrap().kind(), Kind::NoRepository);
        assert!(!path.exists());
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, b"").unwrap();
        assert_eq!(Local::open(&path).err().unwrap().kind(), Kind::Usage);
        assert_eq!(Local::create(&path).err().unwrap().kind(), Kind::Usage);
    }

    #[test]
    fn strange_files_are_neither_listed_nor_read() {
        let (_folder, path) = folder();
        let store = Local::create(&path).unwrap();
        store.put(&Key::new(Area::Keys, "real"), b"x").unwrap();
        store.put(&Key::new(Area::Packs, "abc"), b"x").unwrap();
        fs::write(path.join("keys/UPPER"), b"").unwrap();
        fs::write(path.join("keys/.hidden"), b"").unwrap();
        fs::create_dir(path.join("keys/folder")).unwrap();
        symlink(path.join("keys/real"), path.join("keys/link")).unwrap();
        fs::write(path.join("packs/ab/xyz"), b"in the wrong folder").unwrap();
        fs::write(path.join("packs/abcd"), b"not in a folder").unwrap();
        symlink(path.join("packs/ab"), path.join("packs/xy")).unwrap();
        symlink(path.join("keys"), path.join("epochs")).unwrap();

        assert_eq!(names(&store, Area::Keys), ["real"]);
        assert_eq!(names(&store, Area::Packs), ["abc"]);
        assert!(names(&store, Area::Epochs).is_empty());
        for name in ["link", "folder"] {
            let key = Key::new(Area::Keys, name);
            assert_eq!(store.get(&key, 9).unwrap_err().kind(), Kind::Damaged);
            assert_eq!(store.size(&key).unwrap_err().kind(), Kind::Damaged);
        }
    }

    #[test]
    fn an_upload_under_way_is_in_tmp_and_gone_when_dropped() {
        let (_folder, path) = folder();
        let store = Local::create(&path).unwrap();
        let mut upload = store.begin().unwrap();
        upload.write_all(&[1; 300_000]).unwrap();
        assert_eq!(temporary_files(&path), 1);
        drop(upload);
        assert_eq!(temporary_files(&path), 0);
    }

    #[test]
    fn nothing_is_left_in_tmp_after_a_put_won_or_lost() {
        let (_folder, path) = folder();
        let store = Local::create(&path).unwrap();
        let key = Key::new(Area::Keys, "a");
        for by_link in [false, true] {
            store.place.names_by_link.store(by_link, Ordering::Relaxed);
            assert_eq!(store.put(&key, b"1").unwrap(), Put::Stored);
            assert_eq!(store.put(&key, b"2").unwrap(), Put::Existed);
            store.replace(&key, b"3").unwrap();
            assert_eq!(store.get(&key, 1).unwrap(), b"3");
            assert_eq!(fs::metadata(path.join("keys/a")).unwrap().nlink(), 1);
            assert_eq!(temporary_files(&path), 0);
            store.delete(&key).unwrap();
        }
    }

    #[test]
    fn a_link_whose_answer_was_lost_is_known_as_our_own() {
        let (_folder, path) = folder();
        let store = Local::create(&path).unwrap();
        let key = Key::new(Area::Config, "config");
        let temporary = store.place.written(b"x", &key).unwrap();
        assert_eq!(temporary.link(&key).unwrap(), Put::Stored);
        assert_eq!(temporary.link(&key).unwrap(), Put::Stored);
        let other = store.place.written(b"y", &key).unwrap();
        assert_eq!(other.link(&key).unwrap(), Put::Existed);
    }

    #[test]
    fn sweeping_takes_abandoned_uploads_and_leaves_living_and_young_ones() {
        let (_folder, path) = folder();
        let store = Local::create(&path).unwrap();
        assert_eq!(store.sweep_uploads(Duration::ZERO).unwrap(), 0);
        let mut living = store.begin().unwrap();
        living.write_all(b"x").unwrap();
        // As a killed process leaves it: nobody holds a lock.
        fs::write(path.join("tmp/00112233445566778899aabbccddeeff"), b"half").unwrap();
        fs::write(path.join("tmp/notes"), b"not ours").unwrap();

        let day = Duration::from_secs(24 * 3600);
        assert_eq!(store.sweep_uploads(day).unwrap(), 0);
        assert_eq!(store.sweep_uploads(Duration::MAX).unwrap(), 0);
        assert_eq!(store.sweep_uploads(Duration::ZERO).unwrap(), 1);
        assert_eq!(temporary_files(&path), 2);
        living.finish(&Key::new(Area::Keys, "a")).unwrap();
        assert_eq!(names(&store, Area::Keys), ["a"]);
    }

    #[test]
    fn a_folder_removed_meanwhile_is_made_again() {
        let (_folder, path) = folder();
        let store = Local::create(&path).unwrap();
        store.put(&Key::new(Area::Packs, "ab1"), b"x").unwrap();
        fs::remove_dir_all(path.join("packs")).unwrap();
        store.put(&Key::new(Area::Packs, "ab2"), b"x").unwrap();
        assert_eq!(names(&store, Area::Packs), ["ab2"]);
    }

    #[test]
    fn a_disk_that_has_gone_is_unavailable_and_not_an_empty_repository() {
        let (_folder, path) = folder();
        let store = Local::create(&path).unwrap();
        fs::remove_dir_all(&path).unwrap();
        let key = Key::new(Area::Packs, "ab1");
        assert_eq!(store.put(&key, b"x").unwrap_err().kind(), Kind::Unavailable);
        assert_eq!(store.begin().err().unwrap().kind(), Kind::Unavailable);
    }

    #[test]
    fn a_large_upload_with_early_writeback_is_stored_whole() {
        let (_folder, path) = folder();
        let store = Local::create(&path).unwrap();
        let bytes: Vec<u8> = (0..9_000_001u32).map(|n| (n % 253) as u8).collect();
        let mut upload = store.begin().unwrap();
        for piece in bytes.chunks(333_333) {
            upload.write_all(piece).unwrap();
        }
        let key = Key::new(Area::Packs, "ab");
        upload.finish(&key).unwrap();
        assert!(store.get(&key, 1 << 30).unwrap() == bytes);
    }

    #[test]
    fn what_the_system_says_becomes_the_right_kind() {
        for (errno, kind) in [
            (Errno::NOENT, Kind::NotFound),
            (Errno::NOSPC, Kind::Full),
            (Errno::DQUOT, Kind::Full),
            (Errno::FBIG, Kind::Full),
            (Errno::ACCESS, Kind::Denied),
            (Errno::PERM, Kind::Denied),
            (Errno::ROFS, Kind::Denied),
            (Errno::LOOP, Kind::Damaged),
            (Errno::NOTDIR, Kind::Damaged),
            (Errno::XDEV, Kind::Unsupported),
            (Errno::IO, Kind::Unavailable),
            (Errno::STALE, Kind::Unavailable),
            (Errno::MFILE, Kind::Unavailable),
        ] {
            assert_eq!(kind_of(&errno.into()), kind, "{errno}");
        }
        let short = io::Error::from(io::ErrorKind::WriteZero);
        assert_eq!(kind_of(&short), Kind::Full);
    }

    #[test]
    fn a_file_that_ends_early_is_damaged() {
        let (_folder, path) = folder();
        let store = Local::create(&path).unwrap();
        let key = Key::new(Area::Keys, "a");
        store.put(&key, b"12345").unwrap();
        let (file, _) = store.place.open_object(Operation::Get, &key).unwrap();
        fs::OpenOptions::new().write(true).open(path.join("keys/a")).unwrap().set_len(2).unwrap();
        let error = store.place.read(&file, &key, 0, 5).unwrap_err();
        assert_eq!(error.kind(), Kind::Damaged);
        assert!(error.to_string().ends_with("unexpected end after 2 of 5 bytes"), "{error}");
    }
}
