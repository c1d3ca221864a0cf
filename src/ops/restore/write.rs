//! Files and directories on their way into the target.
//!
//! A file in the making is shared by all of its chunks that are still on their way. The last one to let go of it
//! finishes it, but only if every byte came; a directory is let go of by the last entry beneath it, and gets its
//! metadata then. So no list of what is unfinished has to be kept.

use super::super::fetch::{Sink, is_damage};
use super::super::{Context, Error, Result};
use super::Options;
use crate::base::{Event, Kind, Monitor, Problem};
use crate::format::meta::{EntryKind, Meta};
use crate::format::tree::{Node, NodeKind};
use crate::repo;
use crate::source::files::Accounts;
use crate::target::files::{self, FileUpdate, FileWriter, Folder, Target};
use std::os::unix::fs::MetadataExt;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

/// The most problems that are kept; all are counted and told to the onlooker.
const MAX_PROBLEMS: usize = 1000;

/// What all parts of a restore share.
pub(super) struct Shared {
    /// None only in a dry run into a directory that is not there.
    pub target: Option<Target>,
    pub counts: Counts,
    monitor: Arc<dyn Monitor>,
    problems: Mutex<Problems>,
    notes: Mutex<Vec<String>>,
    fatal: Mutex<Option<Error>>,
    owners: Owners,
}

/// What was done so far.
#[derive(Default)]
pub(super) struct Counts {
    pub files: AtomicU64,
    pub directories: AtomicU64,
    pub others: AtomicU64,
    pub links: AtomicU64,
    pub unchanged: AtomicU64,
    pub skipped: AtomicU64,
    pub deleted: AtomicU64,
    pub bytes_written: AtomicU64,
    pub bytes: AtomicU64,
    pub verified_files: AtomicU64,
    pub verified_bytes: AtomicU64,
}

/// What went wrong so far.
#[derive(Clone, Default)]
pub(super) struct Problems {
    pub first: Vec<Problem>,
    pub count: u64,
    pub damage: bool,
}

/// Whom restored entries belong to.
enum Owners {
    Numbers,
    Names(Accounts),
    Us(Option<(u32, u32)>),
}

pub(super) fn add(counter: &AtomicU64, number: u64) {
    counter.fetch_add(number, Ordering::Relaxed);
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Shared {
    pub fn new(context: &Context, target: Option<Target>, options: &Options) -> Shared {
        let owners = if options.no_owner {
            // The kernel lets everybody see that the folder of a process belongs to its user.
            Owners::Us(std::fs::metadata("/proc/self").ok().map(|us| (us.uid(), us.gid())))
        } else if options.numeric_ids {
            Owners::Numbers
        } else {
            Owners::Names(Accounts::of_this_machine())
        };
        Shared {
            target,
            counts: Counts::default(),
            monitor: context.monitor.clone(),
            problems: Mutex::default(),
            notes: Mutex::default(),
            fatal: Mutex::default(),
            owners,
        }
    }

    /// Tells of a problem; the run goes on.
    pub fn problem(&self, problem: Problem) {
        self.monitor.event(Event::Problem(&problem));
        let mut problems = lock(&self.problems);
        problems.count += 1;
        problems.damage |= problem.kind == Kind::Damaged;
        if problems.first.len() < MAX_PROBLEMS {
            problems.first.push(problem);
        }
    }

    /// Tells that the repository could not give what `subject` needs.
    pub fn unreadable(&self, subject: String, error: &repo::Error) {
        // Whatever is missing in the repository is damage.
        let kind = if is_damage(error) { Kind::Damaged } else { error.kind() };
        self.problem(Problem::new(subject, error, kind));
    }

    /// A target that refuses one entry is a problem, one that is full ends the run.
    pub fn refused(&self, error: files::Error) {
        if error.kind() == Kind::Full {
            lock(&self.fatal).get_or_insert(error.into());
        } else {
            self.problem(error.problem());
        }
    }

    /// Whether the run must end.
    pub fn check(&self) -> Result<()> {
        lock(&self.fatal).take().map_or(Ok(()), Err)
    }

    /// Keeps a note for the outcome and tells it.
    pub fn note(&self, note: String) {
        self.monitor.event(Event::Note(&note));
        lock(&self.notes).push(note);
    }

    pub fn problems(&self) -> Problems {
        lock(&self.problems).clone()
    }

    pub fn notes(&self) -> Vec<String> {
        lock(&self.notes).clone()
    }

    pub fn done(&self, bytes: u64) {
        self.monitor.event(Event::Done { items: 1, bytes });
    }

    /// What the target is to know of a node.
    pub fn meta(&self, node: &Node, (user, group): (&[u8], &[u8])) -> Meta {
        let (uid, gid) = self.owner(node, user, group);
        Meta {
            kind: entry_kind(node.kind),
            mode: node.mode & 0o7777,
            uid,
            gid,
            mtime_ns: node.mtime_ns,
            ctime_ns: node.mtime_ns.saturating_add(node.ctime_after_ns),
            size: node.size,
            inode: node.inode,
            device: node.device,
            links: node.links.unwrap_or(1),
            rdev: node.rdev.unwrap_or(0),
            symlink_target: node.target.0.clone(),
            xattrs: node.xattrs.iter().map(|xattr| (xattr.name.clone(), xattr.value.clone())).collect(),
        }
    }

    fn owner(&self, node: &Node, user: &[u8], group: &[u8]) -> (u32, u32) {
        match &self.owners {
            Owners::Numbers | Owners::Us(None) => (node.uid, node.gid),
            Owners::Us(Some(us)) => *us,
            Owners::Names(accounts) => {
                let uid = std::str::from_utf8(user).ok().and_then(|name| accounts.user_number(name));
                let gid = std::str::from_utf8(group).ok().and_then(|name| accounts.group_number(name));
                (uid.unwrap_or(node.uid), gid.unwrap_or(node.gid))
            }
        }
    }
}

fn entry_kind(kind: NodeKind) -> EntryKind {
    match kind {
        NodeKind::File => EntryKind::File,
        NodeKind::Directory => EntryKind::Directory,
        NodeKind::Symlink => EntryKind::Symlink,
        NodeKind::Fifo => EntryKind::Fifo,
        NodeKind::Socket => EntryKind::Socket,
        NodeKind::CharDevice => EntryKind::CharDevice,
        NodeKind::BlockDevice => EntryKind::BlockDevice,
    }
}

/// A directory that entries are restored into.
pub(super) struct FolderJob {
    pub folder: Folder,
    shared: Arc<Shared>,
    parent: Option<Arc<FolderJob>>,
    /// What is set at the end; none for a directory that stays as it is.
    meta: Option<Meta>,
}

impl FolderJob {
    /// The target's own directory, with what is set at the end if it was made for this.
    pub fn top(shared: &Arc<Shared>, folder: Folder, meta: Option<Meta>) -> Arc<FolderJob> {
        Arc::new(FolderJob { folder, shared: shared.clone(), parent: None, meta })
    }

    /// Makes a directory or takes the one that is there.
    pub fn make(
        parent: &Arc<FolderJob>,
        target: &Target,
        name: &[u8],
        meta: Meta,
    ) -> Result<Arc<FolderJob>, files::Error> {
        let folder = target.make_directory(&parent.folder, name)?;
        let shared = parent.shared.clone();
        add(&shared.counts.directories, 1);
        Ok(Arc::new(FolderJob { folder, shared, parent: Some(parent.clone()), meta: Some(meta) }))
    }

    fn finish(&mut self) {
        if let (Some(meta), Some(target)) = (self.meta.take(), &self.shared.target) {
            match target.finish_directory(&self.folder, &meta) {
                Ok(()) => self.shared.done(0),
                Err(error) => self.shared.refused(error),
            }
        }
    }
}

/// Nothing beneath is on its way any more: the metadata can be set. A loop, not a recursion: a path may have more
/// components than a stack has room for.
impl Drop for FolderJob {
    fn drop(&mut self) {
        self.finish();
        let mut parent = self.parent.take();
        while let Some(job) = parent {
            parent = Arc::into_inner(job).and_then(|mut job| {
                job.finish();
                job.parent.take()
            });
        }
    }
}

/// Where a file's content goes.
pub(super) enum Out {
    New(FileWriter),
    Existing(Box<FileUpdate>),
}

impl Out {
    pub fn write_at(&self, offset: u64, bytes: &[u8]) -> Result<(), files::Error> {
        match self {
            Out::New(writer) => writer.write_at(offset, bytes),
            Out::Existing(update) => update.write_at(offset, bytes),
        }
    }
}

/// A regular file on its way.
pub(super) struct FileJob {
    shared: Arc<Shared>,
    folder: Arc<FolderJob>,
    name: Vec<u8>,
    meta: Meta,
    /// Opened when the first bytes come, so that few are open at once. None if it cannot be opened.
    out: OnceLock<Option<Out>>,
    /// Bytes that have not come yet.
    left: AtomicU64,
    failed: AtomicBool,
    written: AtomicU64,
    links: Option<Arc<Links>>,
}

impl FileJob {
    pub fn new(
        shared: &Arc<Shared>,
        folder: &Arc<FolderJob>,
        name: &[u8],
        meta: Meta,
        existing: Option<FileUpdate>,
        links: Option<Arc<Links>>,
    ) -> Arc<FileJob> {
        let out = existing.map_or_else(OnceLock::new, |update| OnceLock::from(Some(Out::Existing(Box::new(update)))));
        Arc::new(FileJob {
            shared: shared.clone(),
            folder: folder.clone(),
            name: name.to_vec(),
            left: AtomicU64::new(meta.size),
            meta,
            out,
            failed: AtomicBool::new(false),
            written: AtomicU64::new(0),
            links,
        })
    }

    /// Its path in the target.
    pub fn path(&self) -> String {
        let name = String::from_utf8_lossy(&self.name).into_owned();
        self.folder.folder.path().join(name).display().to_string()
    }

    /// Whether both are made in the same directory.
    pub fn is_beside(&self, other: &FileJob) -> bool {
        Arc::ptr_eq(&self.folder, &other.folder)
    }

    /// What is there already, when a file is to be updated.
    pub fn existing(&self) -> Option<&FileUpdate> {
        match self.out.get() {
            Some(Some(Out::Existing(update))) => Some(update),
            _ => None,
        }
    }

    /// Where the content goes; opened for the first part, of so many bytes.
    fn out(&self, part_bytes: u64) -> Option<&Out> {
        let open = || {
            let target = self.shared.target.as_ref()?;
            let (folder, name, meta) = (&self.folder.folder, &self.name, &self.meta);
            let begun = match part_bytes == meta.size {
                true => target.begin_whole_file(folder, name, meta),
                false => target.begin_file(folder, name, meta),
            };
            match begun {
                Ok(writer) => Some(Out::New(writer)),
                Err(error) => {
                    self.refused(error);
                    None
                }
            }
        };
        self.out.get_or_init(open).as_ref()
    }

    fn refused(&self, error: files::Error) {
        if !self.failed.swap(true, Ordering::SeqCst) {
            self.shared.refused(error);
        }
    }

    /// The file cannot be restored: one of its parts cannot be read. Told once.
    pub fn fail(&self, error: &repo::Error) {
        if !self.failed.swap(true, Ordering::SeqCst) {
            self.shared.unreadable(self.path(), error);
        }
    }

    /// Writes a part of it.
    pub fn write(&self, offset: u64, bytes: &[u8]) {
        if self.failed.load(Ordering::Relaxed) {
            return;
        }
        let Some(out) = self.out(bytes.len() as u64) else { return };
        match out.write_at(offset, bytes) {
            Ok(()) => {
                self.written.fetch_add(bytes.len() as u64, Ordering::Relaxed);
                self.came(bytes.len() as u64);
            }
            Err(error) => self.refused(error),
        }
    }

    /// A part is as it should be.
    pub fn came(&self, bytes: u64) {
        let subtract = |left: u64| left.checked_sub(bytes);
        if self.left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, subtract).is_err() {
            self.fail(&repo::Error::damaged(self.path(), "its parts are longer than the whole"));
        }
    }

    fn finish(&mut self) {
        if self.failed.load(Ordering::SeqCst) || self.left.load(Ordering::SeqCst) > 0 || self.out(0).is_none() {
            return self.give_up();
        }
        let Some(Some(out)) = self.out.take() else { return self.give_up() };
        let (finished, changed) = match out {
            Out::New(writer) => (writer.finish(&self.meta), true),
            Out::Existing(update) => {
                let changed = update.is_changed() || update.size() != self.meta.size;
                (update.finish(&self.meta), changed)
            }
        };
        if let Err(error) = finished {
            self.refused(error);
            return self.give_up();
        }
        let counts = &self.shared.counts;
        add(if changed { &counts.files } else { &counts.unchanged }, 1);
        add(&counts.bytes_written, self.written.load(Ordering::Relaxed));
        add(&counts.bytes, self.meta.size);
        self.shared.done(self.meta.size);
        if let Some(links) = &self.links {
            links.ready(&self.shared, &self.folder.folder, &self.name);
        }
    }

    fn give_up(&self) {
        if let Some(links) = &self.links {
            links.lost(&self.shared);
        }
    }
}

/// Nobody has a part of it any more: it is complete, or it never will be.
impl Drop for FileJob {
    fn drop(&mut self) {
        self.finish();
    }
}

/// The names of a file that has several.
pub(super) struct Links(Mutex<LinkState>);

enum LinkState {
    /// The first is on its way; these wait for it.
    Waiting(Vec<(Arc<FolderJob>, Vec<u8>)>),
    /// The first is there.
    Ready(Folder, Vec<u8>),
    /// The first could not be restored.
    Lost,
}

impl Links {
    pub fn new() -> Arc<Links> {
        Arc::new(Links(Mutex::new(LinkState::Waiting(Vec::new()))))
    }

    /// Gives the file another name, now or when it is complete.
    pub fn add(&self, shared: &Shared, folder: &Arc<FolderJob>, name: &[u8]) {
        match &mut *lock(&self.0) {
            LinkState::Waiting(waiting) => waiting.push((folder.clone(), name.to_vec())),
            LinkState::Ready(first_folder, first_name) => link(shared, first_folder, first_name, folder, name),
            LinkState::Lost => lost(shared, folder, name),
        }
    }

    /// The file is there under `name`: the others follow.
    pub fn ready(&self, shared: &Shared, folder: &Folder, name: &[u8]) {
        let state = std::mem::replace(&mut *lock(&self.0), LinkState::Ready(folder.clone(), name.to_vec()));
        if let LinkState::Waiting(waiting) = state {
            waiting.iter().for_each(|(to, other)| link(shared, folder, name, to, other));
        }
    }

    /// The file could not be restored.
    pub fn lost(&self, shared: &Shared) {
        if let LinkState::Waiting(waiting) = std::mem::replace(&mut *lock(&self.0), LinkState::Lost) {
            waiting.iter().for_each(|(folder, name)| lost(shared, folder, name));
        }
    }
}

fn link(shared: &Shared, first_folder: &Folder, first_name: &[u8], folder: &Arc<FolderJob>, name: &[u8]) {
    let Some(target) = &shared.target else { return };
    match target.hard_link(first_folder, first_name, &folder.folder, name) {
        Ok(()) => {
            add(&shared.counts.links, 1);
            shared.done(0);
        }
        Err(error) => shared.refused(error),
    }
}

fn lost(shared: &Shared, folder: &Arc<FolderJob>, name: &[u8]) {
    let path = folder.folder.path().join(String::from_utf8_lossy(name).into_owned());
    let message = "it is another name of a file that could not be restored";
    shared.problem(Problem::new(path.display().to_string(), message, Kind::Target));
}

/// A place that wants a chunk.
pub(super) struct Use {
    pub file: Arc<FileJob>,
    pub offset: u64,
}

/// Writes chunks to all places that want them.
pub(super) struct Writing;

impl Sink<Vec<Use>> for Writing {
    fn take(&self, uses: Vec<Use>, blob: Result<&[u8], &repo::Error>) {
        for one in uses {
            match blob {
                Ok(bytes) => one.file.write(one.offset, bytes),
                Err(error) => one.file.fail(error),
            }
        }
    }
}
