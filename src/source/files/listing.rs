//! The entries of one directory: names in one piece of memory, in byte order, and a `stat` of each.

use super::{Error, Filter, ScanOptions, Trail};
use crate::base::Stat;
use crate::base::directory::{Directory, read_names};
use crate::format::meta::{EntryKind, Meta};
use rustix::fd::OwnedFd;
use rustix::fs::{FileType, Mode, OFlags};
use std::ffi::CStr;
use std::fmt;
use std::io;
use std::ops::Range;
use std::path::PathBuf;
use std::sync::Arc;

/// The first bytes of a valid `CACHEDIR.TAG` (Cache Directory Tagging Specification).
pub const CACHEDIR_TAG_SIGNATURE: &[u8] = b"Signature: 8a477f597d28d172789f06886806bc55";

/// Entries that are `stat`ed in one go. A directory of a million entries has all its names in memory but only
/// two such pages of what is known of them.
pub(super) const PAGE_ENTRIES: usize = 2048;

/// Bytes of names for which there is room at once.
const NAMES_BYTES: usize = 512;

/// A file whose presence excludes the directory that holds it; the directory and the marker itself are kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Marker {
    /// Its name.
    pub name: Vec<u8>,
    /// What it must begin with; an empty header is always right.
    pub header: Vec<u8>,
}

impl Marker {
    /// A marker from the argument of `--exclude-if-present`: `NAME` or `NAME:HEADER`.
    pub fn parse(argument: &[u8]) -> Marker {
        let mut parts = argument.splitn(2, |&c| c == b':');
        Marker { name: parts.next().unwrap_or_default().to_vec(), header: parts.next().unwrap_or_default().to_vec() }
    }

    /// The marker of cache directories.
    pub fn cache_directory() -> Marker {
        Marker { name: b"CACHEDIR.TAG".to_vec(), header: CACHEDIR_TAG_SIGNATURE.to_vec() }
    }

    fn is_in(&self, directory: &OwnedFd, name: &CStr) -> bool {
        if self.header.is_empty() {
            return true;
        }
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let Ok(file) = rustix::fs::openat(directory, name, flags, Mode::empty()) else {
            return false;
        };
        let mut header = vec![0; self.header.len()];
        matches!(rustix::io::read(&file, &mut header[..]), Ok(n) if header[..n] == self.header)
    }
}

/// One entry of a directory, as it was when it was listed. Cheap to clone and to hand to another thread.
#[derive(Clone)]
pub struct Entry {
    pub(super) names: Arc<Names>,
    pub(super) index: u32,
    /// What `stat` said; symlink target and extended attributes are empty until they are asked for.
    pub meta: Meta,
}

impl Entry {
    /// Its name in its directory; for a root without a name of its own (such as `/`) a single dot.
    pub fn name(&self) -> &[u8] {
        self.names.name(self.index as usize).to_bytes()
    }

    pub(super) fn c_name(&self) -> &CStr {
        self.names.name(self.index as usize)
    }

    /// The directory that it lies in.
    pub fn directory(&self) -> &Directory {
        &self.names.directory
    }

    /// Its path, for messages. It is put together on each call.
    pub fn path(&self) -> PathBuf {
        self.names.directory.path_of(self.name())
    }

    /// Whether it is a directory.
    pub fn is_directory(&self) -> bool {
        self.meta.kind == EntryKind::Directory
    }

    pub(super) fn error(&self, operation: &'static str, source: impl Into<io::Error>) -> Error {
        Error::new(self.path(), operation, source)
    }
}

impl fmt::Debug for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.meta.kind.name(), self.path().display())
    }
}

/// The names in a directory, sorted by their bytes.
pub(super) struct Names {
    /// Unique in its scan.
    pub id: u64,
    pub directory: Directory,
    /// How far the exclude patterns have come; none when there are no patterns.
    pub trail: Option<Trail>,
    /// The device of the root above, for those who stay on it.
    pub root_device: u64,
    /// Whether it stands for no more than the way to a root.
    pub holds_root: bool,
    /// For each entry one byte of file type, the name, a zero byte.
    arena: Vec<u8>,
    /// Where each name begins in the arena, in byte order of the names.
    order: Vec<u32>,
}

/// What is known of some entries in a row; an excluded entry is left out.
pub(super) type Page = Vec<(u32, Result<Meta, Error>)>;

impl Names {
    pub fn new(id: u64, directory: Directory, trail: Option<Trail>, root_device: u64) -> Names {
        Names { id, directory, trail, root_device, holds_root: false, arena: Vec::new(), order: Vec::new() }
    }

    /// A directory of which only the entry `name` matters: how a root is reached.
    pub fn single(id: u64, directory: Directory, trail: Option<Trail>, name: &CStr) -> Names {
        let mut names = Names { holds_root: true, ..Names::new(id, directory, trail, 0) };
        names.push(name, FileType::Unknown).expect("one name is not longer than 4 GB");
        names
    }

    /// Reads the names of an open directory, without those that the options exclude.
    pub fn read(&mut self, descriptor: &OwnedFd, options: &ScanOptions) -> io::Result<()> {
        // Room for a directory of the usual size: growing a little at a time costs more than its names.
        self.arena.reserve(NAMES_BYTES);
        self.order.reserve(NAMES_BYTES / 32);
        read_names(descriptor, |name, file_type| {
            if self.is_excluded(&options.excludes, name) {
                return Ok(());
            }
            self.push(name, file_type)
        })?;
        let arena = &self.arena;
        // Two different names differ at the zero byte of the shorter one at the latest, so that the comparison
        // never sees what lies behind them.
        self.order.sort_unstable_by(|&a, &b| arena[a as usize..].cmp(&arena[b as usize..]));
        if let Some(marker) = self.find_marker(descriptor, options) {
            self.order = vec![marker];
        }
        Ok(())
    }

    fn is_excluded(&self, excludes: &Filter, name: &CStr) -> bool {
        self.trail.as_ref().is_some_and(|trail| excludes.judge(trail, name.to_bytes()).matched)
    }

    fn push(&mut self, name: &CStr, file_type: FileType) -> io::Result<()> {
        let start =
            u32::try_from(self.arena.len() + 1).map_err(|_| io::Error::other("its names take more than 4 GB"))?;
        self.arena.push(match file_type {
            FileType::Directory => TYPE_DIRECTORY,
            FileType::Unknown => TYPE_UNKNOWN,
            _ => TYPE_OTHER,
        });
        self.arena.extend_from_slice(name.to_bytes_with_nul());
        self.order.push(start);
        Ok(())
    }

    fn find_marker(&self, descriptor: &OwnedFd, options: &ScanOptions) -> Option<u32> {
        let caches = options.exclude_caches.then(Marker::cache_directory);
        let markers = options.exclude_if_present.iter().chain(caches.iter());
        for marker in markers {
            let found = self.order.binary_search_by(|&at| self.name_at(at).to_bytes().cmp(&marker.name));
            if let Ok(i) = found
                && marker.is_in(descriptor, self.name(i))
            {
                return Some(self.order[i]);
            }
        }
        None
    }

    pub fn len(&self) -> usize {
        self.order.len()
    }

    pub fn name(&self, index: usize) -> &CStr {
        self.name_at(self.order[index])
    }

    fn name_at(&self, start: u32) -> &CStr {
        CStr::from_bytes_until_nul(&self.arena[start as usize..]).expect("a zero byte was pushed behind each name")
    }

    /// The entries that are directories, in order. Where the file system did not tell, `page` does.
    pub fn subdirectories(&self, page: &Page) -> Vec<u32> {
        let mut indices: Vec<u32> = (0..self.len() as u32).filter(|&i| self.file_type(i) == TYPE_DIRECTORY).collect();
        let told_by_stat = page.iter().filter(|(i, meta)| {
            self.file_type(*i) == TYPE_UNKNOWN && meta.as_ref().is_ok_and(|m| m.kind == EntryKind::Directory)
        });
        let before = indices.len();
        indices.extend(told_by_stat.map(|(i, _)| *i));
        if indices.len() > before {
            indices.sort_unstable();
        }
        indices
    }

    fn file_type(&self, index: u32) -> u8 {
        self.arena[self.order[index as usize] as usize - 1]
    }

    /// `stat`s the entries from `start` on, at most a page of them.
    pub fn stat_page(&self, start: usize, options: &ScanOptions) -> Page {
        let range = start..self.len().min(start + PAGE_ENTRIES);
        if range.is_empty() {
            return Page::new();
        }
        match self.directory.descriptor() {
            Ok(descriptor) => self.stat_range(&descriptor, range, options),
            Err(error) => {
                let error = Error::new(self.directory.path(), "open directory", error);
                vec![(start as u32, Err(error))]
            }
        }
    }

    fn stat_range(&self, directory: &OwnedFd, range: Range<usize>, options: &ScanOptions) -> Page {
        let mut page = Page::with_capacity(range.len());
        for index in range {
            match self.stat(directory, index) {
                Ok(meta) if self.is_wanted(&meta, options) => page.push((index as u32, Ok(meta))),
                Ok(_) => {}
                Err(error) => page.push((index as u32, Err(error))),
            }
        }
        page
    }

    pub fn stat(&self, directory: &OwnedFd, index: usize) -> Result<Meta, Error> {
        let name = self.name(index);
        let error = |source| Error::new(self.directory.path_of(name.to_bytes()), "stat", source);
        let stat = Stat::of_entry(directory, name).map_err(|e| error(e.into()))?;
        Meta::of_stat(&stat).ok_or_else(|| error(io::Error::other("its file type is unknown")))
    }

    fn is_wanted(&self, meta: &Meta, options: &ScanOptions) -> bool {
        let too_large =
            meta.kind == EntryKind::File && options.exclude_larger_than.is_some_and(|limit| meta.size > limit);
        // A mount point is kept as an empty directory, so that a restored system has a place to mount on.
        let foreign = options.one_file_system && meta.device != self.root_device && meta.kind != EntryKind::Directory;
        !too_large && !foreign
    }

    /// Roughly the memory that it takes.
    pub fn bytes(&self) -> usize {
        self.arena.capacity() + self.order.capacity() * 4 + size_of::<Names>()
    }
}

const TYPE_OTHER: u8 = 0;
const TYPE_DIRECTORY: u8 = 1;
const TYPE_UNKNOWN: u8 = 2;
