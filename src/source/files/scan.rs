//! Scanners that run ahead of the consumer.
//!
//! The work ahead is a stack of segments in the order of the walk, the nearest on top: each is the rest of the
//! subdirectories of one listing, or a place held for a directory that somebody is reading at the moment. A
//! scanner takes the first subdirectory from the top, leaves a place for it, and puts its own subdirectories
//! there when it has read it. So the scanners stay in the order of the walk however many they are, and the stack
//! is never longer than a path is deep (plus the scanners). They pause while what they have prepared takes more
//! memory than allowed.
//!
//! A consumer that asks for a directory nobody has begun reads it itself; it never waits for a queue.

use super::listing::{Names, PAGE_ENTRIES, Page};
use super::{Entry, Error, Filter, Marker};
use crate::base::directory::{DEFAULT_OPEN_LIMIT, Directory, DirectoryPool};
use crate::base::{Stat, Stop};
use crate::format::meta::Meta;
use std::collections::{BTreeMap, VecDeque};
use std::ffi::CString;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::vec;

/// What to scan and how.
#[derive(Clone, Debug)]
pub struct ScanOptions {
    /// What these patterns match is left out; they see absolute paths if the roots are absolute.
    pub excludes: Filter,
    /// Do not enter directories on other devices than their root; mount points are kept as empty directories.
    pub one_file_system: bool,
    /// Of directories with a valid `CACHEDIR.TAG` keep only that file.
    pub exclude_caches: bool,
    /// Directories that the walk leaves out wherever it meets them, by device and inode.
    pub own: Vec<(u64, u64)>,
    /// Leave out regular files of more bytes than this.
    pub exclude_larger_than: Option<u64>,
    /// Of directories with one of these files keep only that file.
    pub exclude_if_present: Vec<Marker>,
    /// Scanner threads; with none the consumer reads every directory itself.
    pub threads: usize,
    /// How much memory prepared listings may take. One directory may exceed it.
    pub look_ahead_bytes: usize,
}

impl Default for ScanOptions {
    fn default() -> Self {
        ScanOptions {
            excludes: Filter::new(),
            one_file_system: false,
            exclude_caches: false,
            own: Vec::new(),
            exclude_larger_than: None,
            exclude_if_present: Vec::new(),
            threads: 2,
            look_ahead_bytes: 6 * 1024 * 1024,
        }
    }
}

/// A walk through file trees. Dropped, it ends its threads.
pub struct Scan {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
    roots: Vec<Result<Entry, Error>>,
}

/// The entries of one directory in byte order of their names, as an iterator. An entry that could not be
/// `stat`ed is an error in its place. Dropped before its end, it lets go of what was prepared beneath it.
pub struct Listing {
    shared: Arc<Shared>,
    names: Arc<Names>,
    /// The directory's own, as it was when it was opened.
    meta: Meta,
    page: vec::IntoIter<(u32, Result<Meta, Error>)>,
    /// The first entry that is not in a page yet.
    next: usize,
}

/// A listing that waits to be asked for.
struct Prepared {
    names: Arc<Names>,
    meta: Meta,
    page: Page,
}

struct Shared {
    options: ScanOptions,
    stop: Stop,
    state: Mutex<State>,
    /// Tells scanners that there may be work.
    work: Condvar,
    /// Tells the consumer that something is ready.
    ready: Condvar,
}

/// What a task prepares: the directory at an index of a listing, or the page that begins there.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Task {
    listing: u64,
    index: u32,
    is_page: bool,
}

enum Slot {
    Begun,
    Directory(Result<Prepared, Error>),
    Page(Page),
}

enum Segment {
    /// Where the subdirectories of a directory that is being read will be put.
    Place(Task),
    Subdirectories {
        names: Arc<Names>,
        indices: Vec<u32>,
        next: usize,
    },
}

#[derive(Default)]
struct State {
    /// The top of the stack is the end of the vector.
    segments: Vec<Segment>,
    pages: VecDeque<(Task, Arc<Names>)>,
    slots: BTreeMap<Task, Slot>,
    held_bytes: usize,
    next_id: u64,
    idle_scanners: usize,
    /// Consumers that wait for what a scanner has begun.
    waiting_consumers: usize,
    ended: bool,
}

impl Scan {
    /// Opens the roots and starts the scanners. Relative roots are relative to the working directory; a root
    /// that is a symlink is taken as a symlink, those on the way to it are followed.
    pub fn start(roots: &[PathBuf], options: ScanOptions, stop: Stop) -> Result<Scan, Error> {
        let threads = options.threads;
        let shared =
            Arc::new(Shared { options, stop, state: Mutex::default(), work: Condvar::new(), ready: Condvar::new() });
        let pool = DirectoryPool::new(DEFAULT_OPEN_LIMIT);
        let roots: Vec<_> = roots.iter().map(|path| shared.open_root(&pool, path)).collect();
        shared.plan_roots(&roots);
        let mut scan = Scan { shared, threads: Vec::with_capacity(threads), roots };
        for number in 0..threads {
            scan.start_scanner(number)?;
        }
        Ok(scan)
    }

    fn start_scanner(&mut self, number: usize) -> Result<(), Error> {
        let shared = self.shared.clone();
        let thread = std::thread::Builder::new()
            .name(format!("scanner-{number}"))
            .spawn(move || shared.run_scanner())
            .map_err(Error::Thread)?;
        self.threads.push(thread);
        Ok(())
    }

    /// The roots in the order given; empty when called again.
    pub fn take_roots(&mut self) -> Vec<Result<Entry, Error>> {
        std::mem::take(&mut self.roots)
    }

    /// Whether the walk enters an entry of a listing: all but a directory of another file system where
    /// it stays on one. Of such a one the listing is empty.
    pub fn enters(&self, child: &Entry) -> bool {
        let elsewhere = || child.meta.device != child.names.root_device;
        !(self.shared.options.one_file_system && child.is_directory() && elsewhere())
    }

    /// The listing of a directory of this scan. Asked for in the order of the walk it is usually ready.
    pub fn list(&self, directory: &Entry) -> Result<Listing, Error> {
        let task = Task { listing: directory.names.id, index: directory.index, is_page: false };
        let prepared = match self.shared.take_or_begin(task) {
            Some(Slot::Directory(prepared)) => prepared?,
            _ => {
                let result = self.shared.prepare(&directory.names, directory.index);
                self.shared.finish(task, result.as_ref().ok());
                result?
            }
        };
        let listing = Listing {
            shared: self.shared.clone(),
            next: prepared.names.len().min(PAGE_ENTRIES),
            names: prepared.names,
            meta: prepared.meta,
            page: prepared.page.into_iter(),
        };
        listing.plan_page();
        Ok(listing)
    }
}

impl Drop for Scan {
    fn drop(&mut self) {
        self.shared.lock().ended = true;
        self.shared.work.notify_all();
        for thread in self.threads.drain(..) {
            // A scanner that panicked has nothing more to tell.
            let _ = thread.join();
        }
    }
}

impl Listing {
    /// What `stat` said of the directory itself when it was opened.
    pub fn meta(&self) -> &Meta {
        &self.meta
    }

    /// The directory.
    pub fn directory(&self) -> &Directory {
        &self.names.directory
    }

    /// The number of names, before size and device limits are applied.
    pub fn len(&self) -> usize {
        self.names.len()
    }

    /// Whether there are no names.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn page_task(&self) -> Task {
        Task { listing: self.names.id, index: self.next as u32, is_page: true }
    }

    fn plan_page(&self) {
        if self.next < self.names.len() {
            self.shared.plan_page(self.page_task(), &self.names);
        }
    }

    fn turn_page(&mut self) {
        let page = match self.shared.take_or_begin(self.page_task()) {
            Some(Slot::Page(page)) => page,
            _ => self.names.stat_page(self.next, &self.shared.options),
        };
        self.page = page.into_iter();
        self.next = self.names.len().min(self.next + PAGE_ENTRIES);
        self.plan_page();
    }
}

impl Iterator for Listing {
    type Item = Result<Entry, Error>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            if let Some((index, meta)) = self.page.next() {
                let names = &self.names;
                return Some(meta.map(|meta| Entry { names: names.clone(), index, meta }));
            }
            if self.next >= self.names.len() {
                return None;
            }
            self.turn_page();
        }
    }
}

impl Drop for Listing {
    fn drop(&mut self) {
        self.shared.forget(self.names.id);
    }
}

impl Prepared {
    fn bytes(&self) -> usize {
        self.names.bytes() + page_bytes(&self.page)
    }
}

fn page_bytes(page: &Page) -> usize {
    page.capacity() * size_of::<(u32, Result<Meta, Error>)>()
}

impl Slot {
    fn bytes(&self) -> usize {
        match self {
            Slot::Directory(Ok(prepared)) => prepared.bytes(),
            Slot::Page(page) => page_bytes(page),
            Slot::Begun | Slot::Directory(Err(_)) => 0,
        }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn open_root(&self, pool: &DirectoryPool, path: &Path) -> Result<Entry, Error> {
        let (parent, name) = split_root(path);
        // It did not vanish: nobody has seen it before.
        let error = |source| Error::Unreadable { path: path.to_owned(), operation: "open", source };
        let name = CString::new(name).map_err(|e| error(e.into()))?;
        let directory = pool.open_root(&parent).map_err(error)?;
        let trail = self.trail_of(&parent);
        let descriptor = directory.descriptor().map_err(error)?;
        let mut names = Names::single(self.new_id(), directory, trail, &name);
        let meta = names.stat(&descriptor, 0).map_err(|e| error(e.into_io()))?;
        names.root_device = meta.device;
        let root = Entry { names: Arc::new(names), index: 0, meta };
        match self.leaves_nothing_of(&root) {
            true => Err(Error::Excluded { path: path.to_owned() }),
            false => Ok(root),
        }
    }

    /// Whether the patterns match a root and also everything beneath it (`**`, `/home/**`): an empty directory is not
    /// what anybody meant.
    fn leaves_nothing_of(&self, root: &Entry) -> bool {
        let (excludes, name) = (&self.options.excludes, root.name());
        let nothing = |trail: &super::Trail| {
            excludes.judge(trail, name).matched && excludes.begin_beneath(&excludes.enter(trail, name)).is_none()
        };
        root.is_directory() && root.names.trail.as_ref().is_some_and(nothing)
    }

    /// How far the patterns have come in the directory `name`. In one that was named they begin anew.
    fn trail_in(&self, parent: &Names, name: &[u8]) -> Option<super::Trail> {
        let excludes = &self.options.excludes;
        let trail = excludes.enter(parent.trail.as_ref()?, name);
        match parent.holds_root {
            true => Some(excludes.begin_beneath(&trail).unwrap_or(trail)),
            false => Some(trail),
        }
    }

    fn trail_of(&self, path: &Path) -> Option<super::Trail> {
        let excludes = &self.options.excludes;
        (!excludes.is_empty()).then(|| excludes.enter_path(path.as_os_str().as_bytes()))
    }

    fn new_id(&self) -> u64 {
        let mut state = self.lock();
        state.next_id += 1;
        state.next_id
    }

    fn plan_roots(&self, roots: &[Result<Entry, Error>]) {
        let mut state = self.lock();
        for root in roots.iter().rev().flatten().filter(|r| r.is_directory()) {
            state.segments.push(Segment::Subdirectories {
                names: root.names.clone(),
                indices: vec![root.index],
                next: 0,
            });
        }
    }

    fn run_scanner(&self) {
        while let Some((task, names)) = self.next_task() {
            if task.is_page {
                let page = names.stat_page(task.index as usize, &self.options);
                self.store(task, Slot::Page(page));
            } else {
                let result = self.prepare(&names, task.index);
                self.finish(task, result.as_ref().ok());
                self.store(task, Slot::Directory(result));
            }
        }
    }

    /// Waits for something to do; `None` when the scan has ended.
    fn next_task(&self) -> Option<(Task, Arc<Names>)> {
        let mut state = self.lock();
        loop {
            if state.ended || self.stop.raised() {
                return None;
            }
            if let Some(task) = state.take_task(self.options.look_ahead_bytes) {
                state.slots.insert(task.0, Slot::Begun);
                self.wake_scanner(&state, self.options.look_ahead_bytes);
                return Some(task);
            }
            state.idle_scanners += 1;
            state = self.work.wait(state).unwrap_or_else(PoisonError::into_inner);
            state.idle_scanners -= 1;
        }
    }

    /// Reads one directory: its names and the first page of what is known of them.
    fn prepare(&self, parent: &Names, index: u32) -> Result<Prepared, Error> {
        let options = &self.options;
        let name = parent.name(index as usize);
        let directory = parent.directory.child(name);
        let error = |operation| {
            move |source: io::Error| Error::new(parent.directory.path_of(name.to_bytes()), operation, source)
        };
        let descriptor = directory.descriptor().map_err(error("open directory"))?;
        let meta = Stat::of_open(&descriptor)
            .map_err(|e| error("stat")(e.into()))
            .map(|stat| Meta::of_stat(&stat).expect("only a directory opens as a directory"))?;
        let trail = self.trail_in(parent, name.to_bytes());
        let mut names = Names::new(self.new_id(), directory, trail, parent.root_device);
        if !options.one_file_system || meta.device == parent.root_device {
            names.read(&descriptor, options).map_err(error("read directory"))?;
        }
        let page = names.stat_page(0, options);
        Ok(Prepared { names: Arc::new(names), meta, page })
    }

    /// Puts the subdirectories of a directory that was read into the place held for it.
    fn finish(&self, task: Task, prepared: Option<&Prepared>) {
        let subdirectories = prepared.map(|p| (p, p.names.subdirectories(&p.page)));
        let mut state = self.lock();
        let is_place = |segment: &Segment| matches!(segment, Segment::Place(t) if *t == task);
        let Some(position) = state.segments.iter().rposition(is_place) else {
            return;
        };
        match subdirectories {
            Some((prepared, indices)) if !indices.is_empty() => {
                state.segments[position] = Segment::Subdirectories { names: prepared.names.clone(), indices, next: 0 };
                self.wake_scanner(&state, self.options.look_ahead_bytes);
            }
            _ => {
                state.segments.remove(position);
            }
        }
    }

    /// Keeps what a scanner has prepared until it is asked for, unless nobody will ask any more.
    fn store(&self, task: Task, slot: Slot) {
        let mut state = self.lock();
        if !state.slots.contains_key(&task) {
            // The listing above was dropped meanwhile.
            let orphan = match &slot {
                Slot::Directory(Ok(prepared)) => Some(prepared.names.id),
                _ => None,
            };
            drop(state);
            if let Some(id) = orphan {
                self.forget(id);
            }
            return;
        }
        state.held_bytes += slot.bytes();
        state.slots.insert(task, slot);
        // Telling costs a call into the kernel even when nobody listens.
        if state.waiting_consumers > 0 {
            drop(state);
            self.ready.notify_all();
        }
    }

    /// Wakes an idle scanner if there is something to do and less than `below_bytes` are prepared.
    fn wake_scanner(&self, state: &State, below_bytes: usize) {
        if state.idle_scanners > 0 && state.held_bytes < below_bytes && state.has_task() {
            self.work.notify_one();
        }
    }

    /// What has been prepared for a task, waiting if somebody is at it. `None`: nobody is, and now it is the
    /// caller's to do.
    fn take_or_begin(&self, task: Task) -> Option<Slot> {
        let mut state = self.lock();
        loop {
            match state.slots.remove(&task) {
                Some(Slot::Begun) => {
                    state.slots.insert(task, Slot::Begun);
                    state.waiting_consumers += 1;
                    state = self.ready.wait(state).unwrap_or_else(PoisonError::into_inner);
                    state.waiting_consumers -= 1;
                }
                Some(slot) => {
                    state.held_bytes -= slot.bytes();
                    // Not for each directory: waking costs more than reading one.
                    self.wake_scanner(&state, self.options.look_ahead_bytes / 2);
                    return Some(slot);
                }
                None => {
                    state.begin(task);
                    return None;
                }
            }
        }
    }

    fn plan_page(&self, task: Task, names: &Arc<Names>) {
        let mut state = self.lock();
        state.pages.push_back((task, names.clone()));
        if state.idle_scanners > 0 {
            self.work.notify_one();
        }
    }

    /// Drops all that was planned and prepared beneath a listing.
    fn forget(&self, listing: u64) {
        let mut dropped = Vec::new();
        let mut state = self.lock();
        let mut listings = vec![listing];
        while let Some(listing) = listings.pop() {
            for slot in state.forget(listing) {
                if let Slot::Directory(Ok(prepared)) = &slot {
                    listings.push(prepared.names.id);
                }
                dropped.push(slot);
            }
        }
        if !dropped.is_empty() {
            self.work.notify_all();
        }
    }
}

impl State {
    fn has_task(&self) -> bool {
        let waits = |segment: &Segment| match segment {
            Segment::Subdirectories { indices, next, .. } => *next < indices.len(),
            Segment::Place(_) => false,
        };
        !self.pages.is_empty() || self.segments.iter().rev().any(waits)
    }

    fn take_task(&mut self, look_ahead_bytes: usize) -> Option<(Task, Arc<Names>)> {
        if let Some(page) = self.pages.pop_front() {
            return Some(page);
        }
        if self.held_bytes >= look_ahead_bytes {
            return None;
        }
        let mut position = self.segments.len();
        while position > 0 {
            position -= 1;
            let Segment::Subdirectories { names, indices, next } = &mut self.segments[position] else {
                continue;
            };
            let Some(&index) = indices.get(*next) else {
                self.segments.remove(position);
                continue;
            };
            *next += 1;
            let names = names.clone();
            let task = Task { listing: names.id, index, is_page: false };
            self.segments.insert(position + 1, Segment::Place(task));
            return Some((task, names));
        }
        None
    }

    /// Notes that the consumer itself does a task, so that no scanner does it too.
    fn begin(&mut self, task: Task) {
        if task.is_page {
            self.pages.retain(|(planned, _)| *planned != task);
            return;
        }
        let found = self.segments.iter_mut().enumerate().rev().find_map(|(i, s)| match s {
            Segment::Subdirectories { names, indices, next } if names.id == task.listing => Some((i, indices, next)),
            _ => None,
        });
        let Some((position, indices, next)) = found else {
            return;
        };
        let place = indices.partition_point(|&index| index < task.index);
        if place >= *next && indices.get(place) == Some(&task.index) {
            *next = place + 1;
            self.segments.insert(position + 1, Segment::Place(task));
        }
    }

    fn forget(&mut self, listing: u64) -> Vec<Slot> {
        self.segments.retain(|segment| match segment {
            Segment::Place(task) => task.listing != listing,
            Segment::Subdirectories { names, .. } => names.id != listing,
        });
        self.pages.retain(|(task, _)| task.listing != listing);
        let task = |listing| Task { listing, index: 0, is_page: false };
        let tasks: Vec<Task> = self.slots.range(task(listing)..task(listing + 1)).map(|(task, _)| *task).collect();
        let slots: Vec<Slot> = tasks.iter().filter_map(|t| self.slots.remove(t)).collect();
        self.held_bytes -= slots.iter().map(Slot::bytes).sum::<usize>();
        slots
    }
}

/// The directory that a root is reached from and its name there. A path without a name at its end (`/`, `..`) is
/// reached from itself.
fn split_root(path: &Path) -> (PathBuf, Vec<u8>) {
    match (path.components().next_back(), path.parent()) {
        (Some(Component::Normal(name)), Some(parent)) => (parent.to_owned(), name.as_bytes().to_vec()),
        _ => (path.to_owned(), b".".to_vec()),
    }
}
