//! Trees and content lists of a remote repository, kept at hand: pieces of metadata packs as they lie in the store.
//!
//! A pack is read and kept in pieces of [`PIECE_BYTES`], each a file `PACK-NUMBER` in the folder of the local caches;
//! what was used last stays when there are too many. The bytes are sealed as in the store, and nobody trusts them: a
//! blob counts only when its block opens and its bytes have its name, and where they do not the piece is thrown away
//! and the store is asked. Files are written aside and renamed, so several processes can share a folder; one that
//! takes a file away takes nothing from a reader, who asks the store then.
//!
//! Without a folder (none is wanted, none can be written) some pieces lie in memory for as long as the process works.

use super::error::Result;
use super::pack_reader::pack_key;
use crate::base::ids::to_hex;
use crate::base::{PackId, random, side_by_side};
use crate::store::{Area, Key, ObjectStore};
use rustix::fs::{Timespec, Timestamps, UTIME_NOW};
use std::collections::{BTreeSet, HashMap, HashSet};
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

/// What is read of a pack at once.
pub const PIECE_BYTES: u64 = 2 << 20;
/// Bytes of pieces that lie in memory.
const HELD_BYTES: usize = 8 << 20;
/// The folder of pieces.
const PIECES: &str = "metadata";
/// The folder of whole small objects.
const OBJECTS: &str = "objects";
/// What a file is called while it is written.
const ASIDE: &str = "writing";
/// A file that was left half written is removed after this time.
const LEFT_BEHIND: Duration = Duration::from_secs(86_400);
/// When the folder is too large, it is brought down to this part of its limit, so that it is not looked through for
/// each further piece.
const LEFT_OF_LIMIT: (u64, u64) = (7, 8);

/// A piece of a pack.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Piece {
    /// The pack.
    pub pack: PackId,
    /// Which of its pieces, from 0.
    pub number: u64,
    /// Its bytes.
    pub length: usize,
}

impl Piece {
    /// The pieces of a pack of `pack_bytes` in which `length` bytes from `offset` lie; none if they cannot.
    pub fn of(pack: PackId, pack_bytes: u64, offset: u64, length: u64) -> Vec<Piece> {
        match offset.checked_add(length) {
            Some(end) if end <= pack_bytes && length > 0 => {
                let numbers = offset / PIECE_BYTES..=(end - 1) / PIECE_BYTES;
                numbers.map(|number| Piece::numbered(pack, pack_bytes, number)).collect()
            }
            _ => Vec::new(),
        }
    }

    fn numbered(pack: PackId, pack_bytes: u64, number: u64) -> Piece {
        let length = (pack_bytes - number * PIECE_BYTES).min(PIECE_BYTES) as usize;
        Piece { pack, number, length }
    }

    fn offset(&self) -> u64 {
        self.number * PIECE_BYTES
    }

    fn file_name(&self) -> String {
        format!("{}-{}", self.pack, self.number)
    }
}

type Tell = dyn Fn(&str) + Send + Sync;

/// The cache of one repository, as one process uses it.
pub struct PackCache {
    folder: Option<Folder>,
    state: Mutex<State>,
    /// A piece has come or will not.
    came: Condvar,
    /// The bytes of the folder as far as this process knows; none before it looked. Who changes it holds it meanwhile:
    /// of two that read it, add and write it back, one would be forgotten and the folder outgrow its limit.
    folder_bytes: Mutex<Option<u64>>,
}

/// The folder on the local disk.
struct Folder {
    path: PathBuf,
    limit_bytes: u64,
    tell: Box<Tell>,
}

#[derive(Default)]
struct State {
    /// Pieces in memory, in the order of their last use.
    held: Vec<(Piece, Arc<Vec<u8>>)>,
    under_way: HashSet<Piece>,
    /// Pieces whose last use was written down by this process.
    touched: HashSet<Piece>,
    /// The disk did not take something: nothing more is written.
    full: bool,
}

impl PackCache {
    /// A cache in memory alone.
    pub fn in_memory() -> PackCache {
        PackCache { folder: None, state: Mutex::default(), came: Condvar::new(), folder_bytes: Mutex::default() }
    }

    /// A cache in `folder`, which may grow to `limit_bytes`. `tell` hears once if nothing can be written.
    pub fn in_folder(folder: &Path, limit_bytes: u64, tell: impl Fn(&str) + Send + Sync + 'static) -> PackCache {
        let folder = Folder { path: folder.to_owned(), limit_bytes, tell: Box::new(tell) };
        let cache = PackCache { folder: Some(folder), ..PackCache::in_memory() };
        for name in [PIECES, OBJECTS] {
            if let Err(error) = fs::create_dir_all(folder_of(&cache.folder, name)) {
                cache.gave_up(&error);
            }
        }
        cache
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn folder_bytes(&self) -> MutexGuard<'_, Option<u64>> {
        self.folder_bytes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Bytes of metadata that are worth reading ahead at once: what can be kept.
    pub fn ahead_bytes(&self) -> usize {
        match self.folder.is_some() && !self.state().full {
            true => 4 * HELD_BYTES,
            false => HELD_BYTES / 2,
        }
    }

    /// Bytes of a pack of `pack_bytes`, if they are here.
    pub fn find(&self, pack: PackId, pack_bytes: u64, offset: u64, length: usize) -> Option<Vec<u8>> {
        let pieces = Piece::of(pack, pack_bytes, offset, length as u64);
        let mut bytes = Vec::with_capacity(length);
        for piece in &pieces {
            let from = offset.max(piece.offset()) - piece.offset();
            let to = (offset + length as u64 - piece.offset()).min(piece.length as u64);
            match self.held(piece) {
                Some(held) => bytes.extend_from_slice(&held[from as usize..to as usize]),
                None => self.read_part(piece, from, to, &mut bytes)?,
            }
        }
        (bytes.len() == length && length > 0).then_some(bytes)
    }

    fn held(&self, piece: &Piece) -> Option<Arc<Vec<u8>>> {
        let mut state = self.state();
        let place = state.held.iter().position(|(held, _)| held == piece)?;
        let held = state.held.remove(place);
        let bytes = held.1.clone();
        state.held.push(held);
        Some(bytes)
    }

    fn read_part(&self, piece: &Piece, from: u64, to: u64, bytes: &mut Vec<u8>) -> Option<()> {
        let file = self.open(piece)?;
        let start = bytes.len();
        bytes.resize(start + (to - from) as usize, 0);
        file.read_exact_at(&mut bytes[start..], from).ok()?;
        if self.state().touched.insert(*piece) {
            touch(&file);
        }
        Some(())
    }

    /// The file of a piece, if it can be one.
    fn open(&self, piece: &Piece) -> Option<File> {
        open_plain(&self.path_of(piece)?, |bytes| bytes == piece.length as u64)
    }

    fn path_of(&self, piece: &Piece) -> Option<PathBuf> {
        self.folder.as_ref().map(|folder| folder.path.join(PIECES).join(piece.file_name()))
    }

    /// Whether a piece is here, as far as its file's size tells.
    pub fn has(&self, piece: &Piece) -> bool {
        self.state().held.iter().any(|(held, _)| held == piece) || self.open(piece).is_some()
    }

    /// Reads `pieces` from the store, several at once, and keeps them. One that somebody else is reading is waited for.
    pub fn fetch(&self, store: &dyn ObjectStore, pieces: &BTreeSet<Piece>) -> Result<()> {
        let (ours, theirs): (Vec<Piece>, Vec<Piece>) = {
            let mut state = self.state();
            pieces.iter().partition(|piece| state.under_way.insert(**piece))
        };
        let came = side_by_side(store.requests_at_once(), &ours, |piece| {
            let bytes = store.get_range(&pack_key(piece.pack), piece.offset(), piece.length);
            let kept = bytes.map(|bytes| self.keep(piece, bytes));
            self.state().under_way.remove(piece);
            self.came.notify_all();
            kept
        });
        let mut state = self.state();
        while theirs.iter().any(|piece| state.under_way.contains(piece)) {
            state = self.came.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        drop(state);
        came.into_iter().collect::<std::result::Result<Vec<()>, _>>()?;
        Ok(())
    }

    fn keep(&self, piece: &Piece, bytes: Vec<u8>) {
        let kept = self.folder.is_some() && !self.state().full && self.write(&piece.file_name(), PIECES, &bytes);
        if kept {
            return;
        }
        let mut state = self.state();
        state.held.push((*piece, Arc::new(bytes)));
        while state.held.iter().map(|(_, bytes)| bytes.len()).sum::<usize>() > HELD_BYTES && state.held.len() > 1 {
            state.held.remove(0);
        }
    }

    /// Writes a file aside and gives it its name; false, and told once, if the disk does not take it.
    fn write(&self, name: &str, folder: &str, bytes: &[u8]) -> bool {
        let written = Aside::begin(&folder_of(&self.folder, folder)).and_then(|mut aside| {
            aside.file.write_all(bytes)?;
            aside.rename(name)
        });
        match written {
            Ok(()) => self.grew(bytes.len() as u64),
            Err(error) => {
                self.gave_up(&error);
                return false;
            }
        }
        true
    }

    fn gave_up(&self, error: &io::Error) {
        let Some(folder) = &self.folder else { return };
        if !std::mem::replace(&mut self.state().full, true) {
            let path = folder.path.display();
            (folder.tell)(&format!("nothing more is kept in the local cache {path} ({error}): this takes longer"));
        }
    }

    /// Counts what was written; makes room when it is too much.
    fn grew(&self, bytes: u64) {
        let Some(folder) = &self.folder else { return };
        let mut folder_bytes = self.folder_bytes();
        // The first look counts what others left.
        let total = folder_bytes.map_or_else(|| folder.make_room(folder.limit_bytes), |known| known + bytes);
        let total = match total > folder.limit_bytes {
            true => folder.make_room(folder.limit_bytes / LEFT_OF_LIMIT.1 * LEFT_OF_LIMIT.0),
            false => total,
        };
        *folder_bytes = Some(total);
    }

    /// Throws away what is kept of these bytes of a pack: they are not what they should be.
    pub fn forget(&self, pack: PackId, pack_bytes: u64, offset: u64, length: u64) {
        let pieces = Piece::of(pack, pack_bytes, offset, length);
        self.state().held.retain(|(held, _)| !pieces.contains(held));
        for piece in &pieces {
            if let Some(path) = self.path_of(piece) {
                let _ = fs::remove_file(path);
            }
        }
    }

    /// Throws away the pieces of packs that are not there any more.
    pub fn retain(&self, is_there: &dyn Fn(&PackId) -> bool) {
        self.state().held.retain(|(held, _)| is_there(&held.pack));
        let Some(folder) = &self.folder else { return };
        for file in files(&folder.path.join(PIECES)) {
            let pack = file.name.split_once('-').and_then(|(pack, _)| pack.parse::<PackId>().ok());
            if pack.is_some_and(|pack| !is_there(&pack)) {
                let _ = fs::remove_file(&file.path);
            }
        }
        *self.folder_bytes() = None;
    }

    /// Begins to keep a pack that is being written, as far as that can be done.
    pub fn begin_pack(&self) -> Option<Keeping> {
        let folder = self.folder.as_ref().filter(|_| !self.state().full)?;
        let folder = folder.path.join(PIECES);
        Some(Keeping { folder, piece: Vec::new(), pieces: Vec::new(), failed: None })
    }

    /// Keeps a pack that is in the store now.
    pub fn finish_pack(&self, keeping: Keeping, pack: PackId) {
        match keeping.finish(pack) {
            Ok(bytes) => self.grew(bytes),
            Err(error) => self.gave_up(&error),
        }
    }

    /// The names of the whole objects of an area that are kept.
    pub fn objects(&self, area: Area) -> HashSet<String> {
        let Some(folder) = &self.folder else { return HashSet::new() };
        let before = format!("{}-", area.folder());
        let names = files(&folder.path.join(OBJECTS)).into_iter();
        names.filter_map(|file| file.name.strip_prefix(&before).map(str::to_owned)).collect()
    }

    /// A whole object of at most `limit_bytes`, if it is kept.
    pub fn object(&self, key: &Key, limit_bytes: u64) -> Option<Vec<u8>> {
        let mut file = open_plain(&self.object_path(key)?, |bytes| bytes <= limit_bytes)?;
        let mut bytes = Vec::new();
        Read::by_ref(&mut file).take(limit_bytes).read_to_end(&mut bytes).ok()?;
        Some(bytes)
    }

    /// Keeps a whole object that is never changed in the store.
    pub fn keep_object(&self, key: &Key, bytes: &[u8]) {
        if self.folder.is_some() && !self.state().full {
            self.write(&object_name(key), OBJECTS, bytes);
        }
    }

    /// Throws away what is kept of an object.
    pub fn forget_object(&self, key: &Key) {
        if let Some(path) = self.object_path(key) {
            let _ = fs::remove_file(path);
        }
    }

    fn object_path(&self, key: &Key) -> Option<PathBuf> {
        self.folder.as_ref().map(|folder| folder.path.join(OBJECTS).join(object_name(key)))
    }
}

fn object_name(key: &Key) -> String {
    format!("{}-{}", key.area().folder(), key.name())
}

fn folder_of(folder: &Option<Folder>, name: &str) -> PathBuf {
    folder.as_ref().map(|folder| folder.path.join(name)).unwrap_or_default()
}

/// Writes down that a file was used now. Only for the order in which files go: it may fail.
fn touch(file: &File) {
    let now = Timespec { tv_sec: 0, tv_nsec: UTIME_NOW };
    let _ = rustix::fs::futimens(file, &Timestamps { last_access: now, last_modification: now });
}

/// A plain file whose size is right. Anything else that may lie there (a link, a pipe) is not opened.
fn open_plain(path: &Path, is_right: impl Fn(u64) -> bool) -> Option<File> {
    let metadata = fs::symlink_metadata(path).ok()?;
    let file = (metadata.is_file() && is_right(metadata.len())).then(|| File::open(path).ok()).flatten()?;
    let opened = file.metadata().ok()?;
    (opened.is_file() && is_right(opened.len())).then_some(file)
}

struct Kept {
    path: PathBuf,
    name: String,
    bytes: u64,
    used: SystemTime,
}

/// The plain files of a folder; none if it cannot be read.
fn files(folder: &Path) -> Vec<Kept> {
    let Ok(entries) = fs::read_dir(folder) else { return Vec::new() };
    let file = |entry: io::Result<fs::DirEntry>| {
        let path = entry.ok()?.path();
        let metadata = fs::symlink_metadata(&path).ok().filter(fs::Metadata::is_file)?;
        let name = path.file_name()?.to_str()?.to_owned();
        Some(Kept { path, name, bytes: metadata.len(), used: metadata.modified().ok()? })
    };
    entries.filter_map(file).collect()
}

impl Folder {
    /// Removes what was used longest ago until `wanted_bytes` are left; says how many are. What others left half
    /// written goes too, once it is old.
    fn make_room(&self, wanted_bytes: u64) -> u64 {
        let mut files = files(&self.path.join(PIECES));
        let newest = files.iter().map(|file| file.used).max();
        files.retain(|file| {
            let is_aside = file.name.ends_with(ASIDE);
            let age = newest.and_then(|newest| newest.duration_since(file.used).ok());
            if is_aside && age.is_some_and(|age| age > LEFT_BEHIND) {
                let _ = fs::remove_file(&file.path);
            }
            !is_aside
        });
        files.sort_by_key(|file| file.used);
        let mut total: u64 = files.iter().map(|file| file.bytes).sum();
        for file in files {
            if total <= wanted_bytes {
                break;
            }
            // Somebody else may have been quicker.
            let _ = fs::remove_file(&file.path);
            total -= file.bytes;
        }
        total
    }
}

/// A file that has no name of its own yet; gone when it is dropped.
struct Aside {
    path: PathBuf,
    file: File,
}

impl Aside {
    fn begin(folder: &Path) -> io::Result<Aside> {
        let path = folder.join(format!("{}.{ASIDE}", to_hex(&random::bytes::<8>())));
        let file = File::options().write(true).create_new(true).mode(0o600).open(&path)?;
        Ok(Aside { path, file })
    }

    fn rename(self, name: &str) -> io::Result<()> {
        let folder = self.path.parent().unwrap_or(Path::new(""));
        fs::rename(&self.path, folder.join(name))
    }
}

impl Drop for Aside {
    fn drop(&mut self) {
        // After a renaming there is nothing of this name.
        let _ = fs::remove_file(&self.path);
    }
}

/// A pack that is kept while it is written.
pub struct Keeping {
    folder: PathBuf,
    piece: Vec<u8>,
    pieces: Vec<Aside>,
    failed: Option<io::Error>,
}

impl Keeping {
    /// The next bytes of the pack.
    pub fn write(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() && self.failed.is_none() {
            let room = PIECE_BYTES as usize - self.piece.len();
            let (now, later) = bytes.split_at(room.min(bytes.len()));
            self.piece.extend_from_slice(now);
            bytes = later;
            if self.piece.len() == PIECE_BYTES as usize {
                self.close_piece();
            }
        }
    }

    fn close_piece(&mut self) {
        let written = Aside::begin(&self.folder).and_then(|mut aside| {
            aside.file.write_all(&self.piece)?;
            Ok(aside)
        });
        match written {
            Ok(aside) => self.pieces.push(aside),
            Err(error) => self.failed = Some(error),
        }
        self.piece.clear();
    }

    /// Gives the pieces their names; says how many bytes they are.
    fn finish(mut self, pack: PackId) -> io::Result<u64> {
        let bytes = self.pieces.len() as u64 * PIECE_BYTES + self.piece.len() as u64;
        if !self.piece.is_empty() {
            self.close_piece();
        }
        if let Some(error) = self.failed {
            return Err(error);
        }
        for (number, aside) in self.pieces.into_iter().enumerate() {
            aside.rename(&Piece { pack, number: number as u64, length: 0 }.file_name())?;
        }
        Ok(bytes)
    }
}

/// How much each pack of a set has, looked up once.
#[derive(Default)]
pub struct PackSizes(HashMap<PackId, Option<u64>>);

impl PackSizes {
    /// The bytes of a pack; none if the index does not know it.
    pub fn of(&mut self, index: &super::index::Index, pack: &PackId) -> Result<Option<u64>> {
        if let Some(known) = self.0.get(pack) {
            return Ok(*known);
        }
        let bytes = index.pack_bytes(pack)?;
        self.0.insert(*pack, bytes);
        Ok(bytes)
    }
}
