//! The walk: directories are made, what is there is compared, and what is missing is gathered into windows.

use super::super::browse::reader;
use super::super::fetch::{Fetch, Wanted, is_damage};
use super::super::walk::{Step, Walk, show};
use super::super::{Context, Result};
use super::sieve::{Choice, Sieve, Trails};
use super::write::{FileJob, FolderJob, Links, Shared, Use, Writing, add};
use super::{Options, Subject};
use crate::base::BlobId;
use crate::format::meta::Meta;
use crate::format::pack::MAX_FRAME_RAW_BYTES;
use crate::format::tree::{HOLE, Node, NodeKind};
use crate::repo;
use crate::repo::blob_reader::BlobReader;
use crate::repo::trees::Chunks;
use crate::target::files::{Decision, FileUpdate, Folder, Target};
use std::collections::HashMap;
use std::sync::Arc;

/// Raw bytes of the first window: reading begins soon. Each further one may have twice as many, for what lies in one
/// frame and is wanted by two windows is decoded twice.
const FIRST_WINDOW_BYTES: u64 = if cfg!(test) { 100_000 } else { 24 << 20 };
/// The same of a remote store, where what two windows want of one pack costs a request each.
const FIRST_REMOTE_WINDOW_BYTES: u64 = 1 << 30;
/// The most raw bytes of a window.
const WINDOW_BYTES: u64 = 2 << 30;
/// Places that want a chunk in a window: what is known of their files lies in memory (about 600 bytes each).
const WINDOW_USES: usize = 16 << 10;
/// The same of a remote store: small files of one pack that come in two windows cost many requests.
const REMOTE_WINDOW_USES: usize = 64 << 10;
/// Files of a window that are open while it is written: those of several chunks.
const WINDOW_OPEN_FILES: usize = 128;
/// The same of a remote store. In the worst case each stream brings files of another window.
const REMOTE_WINDOW_OPEN_FILES: usize = 320;
/// Existing files of a window: they are open from the beginning, while several windows wait.
const WINDOW_EXISTING: usize = 24;
/// Files whose content lies in their nodes are handed over at the end of a directory when there are so many: threads
/// that make files in the same directory wait for each other.
const GIVEN_FILES: usize = 64;
/// … and at the latest when there are so many.
const GIVEN_MOST_FILES: usize = 1024;
/// Zeros are compared and written in pieces of this size.
const ZEROS: &[u8] = &[0; 128 << 10];

/// Chunks that are read together.
#[derive(Default)]
struct Window {
    places: HashMap<BlobId, usize>,
    wanted: Vec<Wanted<Vec<Use>>>,
    bytes: u64,
    limit_bytes: u64,
    limit_uses: usize,
    limit_open_files: usize,
    uses: usize,
    open_files: usize,
    existing: usize,
}

impl Window {
    /// The first one.
    fn first(is_remote: bool) -> Window {
        let (limit_bytes, limit_uses, limit_open_files) = match is_remote {
            true => (FIRST_REMOTE_WINDOW_BYTES, REMOTE_WINDOW_USES, REMOTE_WINDOW_OPEN_FILES),
            false => (FIRST_WINDOW_BYTES, WINDOW_USES, WINDOW_OPEN_FILES),
        };
        Window { limit_bytes, limit_uses, limit_open_files, ..Window::default() }
    }

    /// The window after this one, empty.
    fn next(&self) -> Window {
        let limit_bytes = (self.limit_bytes * 2).min(WINDOW_BYTES);
        let Window { limit_uses, limit_open_files, .. } = *self;
        Window { limit_bytes, limit_uses, limit_open_files, ..Window::default() }
    }

    fn add(&mut self, id: BlobId, length: u64, one: Use) {
        self.uses += 1;
        let next = self.wanted.len();
        let at = *self.places.entry(id).or_insert(next);
        match self.wanted.get_mut(at) {
            Some(wanted) if wanted.length == length => wanted.uses.push(one),
            // Two files disagree about its length: at most one of them is right.
            Some(wanted) => {
                let reason = format!("one file says it has {length} bytes, another {}", wanted.length);
                one.file.fail(&repo::Error::damaged(format!("blob {id}"), reason));
            }
            None => {
                self.wanted.push(Wanted { id, length, uses: vec![one] });
                self.bytes += length;
            }
        }
    }

    fn is_full(&self) -> bool {
        self.bytes >= self.limit_bytes
            || self.uses >= self.limit_uses
            || self.open_files >= self.limit_open_files
            || self.existing >= WINDOW_EXISTING
    }
}

/// A directory on the way down.
struct Level {
    name: Vec<u8>,
    /// None for the top, which stays as it is.
    meta: Option<Meta>,
    trails: Trails,
    place: Place,
}

enum Place {
    /// Made, or there already.
    Made(Arc<FolderJob>),
    /// Nothing beneath was restored so far.
    NotYet,
    /// In a dry run: what is there already.
    Dry(Option<Folder>),
    /// It could not be made, which was told.
    Failed,
}

struct Planner<'c> {
    context: &'c Context,
    shared: &'c Arc<Shared>,
    sieve: Sieve<'c>,
    dry_run: bool,
    lists: BlobReader,
    fetch: Fetch<Vec<Use>>,
    window: Window,
    given: Vec<(Vec<Use>, Vec<u8>)>,
    /// Files with several names of which not all were met, and how many are to come.
    links: HashMap<(u64, u64), (Arc<Links>, u64)>,
    levels: Vec<Level>,
    buffer: Vec<u8>,
}

/// Restores `subject`.
pub(super) fn restore(context: &Context, options: &Options, shared: &Arc<Shared>, subject: &Subject) -> Result<()> {
    let meta = subject.target_meta(shared);
    let sieve = Sieve::new(options);
    let place = match &shared.target {
        Some(target) if options.dry_run => Place::Dry(Some(target.root().clone())),
        Some(target) => Place::Made(FolderJob::top(shared, target.root().clone(), meta)),
        None => Place::Dry(None),
    };
    let trails = sieve.begin(if subject.node.tree.is_some() { &subject.path } else { parent_of(&subject.path) });
    let mut planner = Planner {
        context,
        shared,
        sieve,
        dry_run: options.dry_run,
        lists: reader(context),
        fetch: Fetch::begin(context, Arc::new(Writing))?,
        window: Window::first(context.repository.store().is_remote()),
        given: Vec::new(),
        links: HashMap::new(),
        levels: vec![Level { name: Vec::new(), meta: None, trails, place }],
        buffer: Vec::new(),
    };
    match subject.node.tree {
        Some(tree) => planner.walk(tree, &subject.path)?,
        None => {
            let meta = shared.meta(&subject.node, (b"", b""));
            planner.leaf(&subject.node, meta)?;
        }
    }
    planner.finish()
}

fn parent_of(path: &[u8]) -> &[u8] {
    path.iter().rposition(|c| *c == b'/').map_or(b"", |slash| &path[..slash])
}

impl Planner<'_> {
    fn walk(&mut self, tree: BlobId, path: &[u8]) -> Result<()> {
        let mut trees = reader(self.context).walking();
        let mut walk = Walk::begin(tree, path, &mut trees)?;
        while walk.depth() > 0 {
            self.context.check_stop()?;
            self.shared.check()?;
            match walk.next(&mut trees) {
                Ok(None) => break,
                Ok(Some(Step::Leave)) => drop(self.levels.pop()),
                Ok(Some(Step::Entry(node))) => self.entry(&mut walk, &node, &mut trees)?,
                Err(error) => self.unreadable(walk.directory(), error)?,
            }
        }
        Ok(())
    }

    /// A directory that is damaged is a problem, anything else ends the run.
    fn unreadable(&self, path: &[u8], error: repo::Error) -> Result<()> {
        if !is_damage(&error) {
            return Err(error.into());
        }
        self.shared.unreadable(show(path), &error);
        Ok(())
    }

    fn entry(&mut self, walk: &mut Walk, node: &Node, trees: &mut BlobReader) -> Result<()> {
        let level = self.levels.last().expect("the top is there as long as the walk goes on");
        let choice = self.sieve.choose(&level.trails, &node.name.0);
        if choice == Choice::Skip {
            return Ok(());
        }
        let meta = self.shared.meta(node, walk.owners(node));
        let Some(tree) = node.tree else {
            return if choice == Choice::Take { self.leaf(node, meta) } else { Ok(()) };
        };
        let trails = self.sieve.enter(&level.trails, &node.name.0);
        self.levels.push(Level { name: node.name.0.clone(), meta: Some(meta), trails, place: Place::NotYet });
        if choice == Choice::Take {
            self.make_folders();
        }
        if let Err(error) = walk.enter(tree, trees) {
            self.levels.pop();
            self.unreadable(walk.path(), error)?;
        }
        Ok(())
    }

    /// Makes the innermost directory and those above that are not there yet.
    fn make_folders(&mut self) {
        for at in 1..self.levels.len() {
            if matches!(self.levels[at].place, Place::NotYet) {
                self.levels[at].place = self.make_folder(at);
            }
        }
    }

    fn make_folder(&self, at: usize) -> Place {
        let level = &self.levels[at];
        let (Some(target), Some(meta)) = (&self.shared.target, &level.meta) else {
            add(&self.shared.counts.directories, 1);
            return Place::Dry(None);
        };
        match &self.levels[at - 1].place {
            Place::Made(parent) => match FolderJob::make(parent, target, &level.name, meta.clone()) {
                Ok(folder) => Place::Made(folder),
                Err(error) => {
                    self.shared.refused(error);
                    Place::Failed
                }
            },
            Place::Dry(parent) => {
                add(&self.shared.counts.directories, 1);
                let existing = parent.as_ref().map(|parent| target.existing_directory(parent, &level.name));
                Place::Dry(existing.and_then(|existing| existing.ok().flatten()))
            }
            Place::Failed | Place::NotYet => Place::Failed,
        }
    }

    /// Restores what is not a directory.
    fn leaf(&mut self, node: &Node, meta: Meta) -> Result<()> {
        self.make_folders();
        let place = &self.levels[self.levels.len() - 1].place;
        match place {
            Place::Made(folder) => {
                let folder = folder.clone();
                self.restore_leaf(&folder, node, meta)
            }
            Place::Dry(folder) => {
                let folder = folder.clone();
                self.try_leaf(folder.as_ref(), node, &meta)
            }
            Place::Failed | Place::NotYet => Ok(()),
        }
    }

    fn restore_leaf(&mut self, folder: &Arc<FolderJob>, node: &Node, meta: Meta) -> Result<()> {
        let Some(target) = self.shared.target.clone() else { return Ok(()) };
        let name = &node.name.0;
        let decision = match target.decide(&folder.folder, name, &meta) {
            Ok(decision) => decision,
            Err(error) => {
                self.shared.refused(error);
                return Ok(());
            }
        };
        if decision == Decision::Keep {
            add(&self.shared.counts.skipped, 1);
            self.shared.done(0);
            return Ok(());
        }
        let links = match self.links_of(node) {
            LinkName::Only => None,
            LinkName::First(links) => Some(links),
            LinkName::Further(links) => {
                links.add(self.shared, folder, name);
                return Ok(());
            }
        };
        if node.kind == NodeKind::File {
            return self.file(&target, folder, node, meta, decision, links);
        }
        let made = match (decision, node.kind) {
            (Decision::Same, _) => target.set_metadata(&folder.folder, name, &meta),
            (_, NodeKind::Symlink) => target.make_symlink(&folder.folder, name, &meta),
            _ => target.make_special(&folder.folder, name, &meta),
        };
        match made {
            Ok(()) => {
                add(&self.shared.counts.others, 1);
                self.shared.done(0);
                if let Some(links) = links {
                    links.ready(self.shared, &folder.folder, name);
                }
            }
            Err(error) => {
                self.shared.refused(error);
                if let Some(links) = links {
                    links.lost(self.shared);
                }
            }
        }
        Ok(())
    }

    fn file(
        &mut self,
        target: &Target,
        folder: &Arc<FolderJob>,
        node: &Node,
        meta: Meta,
        decision: Decision,
        links: Option<Arc<Links>>,
    ) -> Result<()> {
        let name = &node.name.0;
        let existing = match decision {
            Decision::Same => {
                match target.set_metadata(&folder.folder, name, &meta) {
                    Ok(()) => {
                        add(&self.shared.counts.unchanged, 1);
                        add(&self.shared.counts.bytes, meta.size);
                        self.shared.done(meta.size);
                    }
                    Err(error) => self.shared.refused(error),
                }
                if let Some(links) = links {
                    links.ready(self.shared, &folder.folder, name);
                }
                return Ok(());
            }
            Decision::Update => match target.update_file(&folder.folder, name, &meta) {
                Ok(update) => Some(update),
                Err(error) => {
                    self.shared.refused(error);
                    if let Some(links) = links {
                        links.lost(self.shared);
                    }
                    return Ok(());
                }
            },
            Decision::Write | Decision::Keep => None,
        };
        self.window.existing += usize::from(existing.is_some());
        let file = FileJob::new(self.shared, folder, name, meta, existing, links);
        self.content(&file, node)?;
        drop(file);
        if self.window.is_full() { self.read_window() } else { Ok(()) }
    }

    /// The names of a file are told apart by device and inode; the list forgets a file when all were met.
    fn links_of(&mut self, node: &Node) -> LinkName {
        let Some(count) = node.links.filter(|count| *count > 1) else { return LinkName::Only };
        let key = (node.device, node.inode);
        match self.links.get_mut(&key) {
            Some((links, to_come)) => {
                *to_come = to_come.saturating_sub(1);
                let (links, is_last) = (links.clone(), *to_come == 0);
                if is_last {
                    self.links.remove(&key);
                }
                LinkName::Further(links)
            }
            None => {
                let links = Links::new();
                self.links.insert(key, (links.clone(), count - 1));
                LinkName::First(links)
            }
        }
    }

    /// Writes, gives or asks for the content of a file.
    fn content(&mut self, file: &Arc<FileJob>, node: &Node) -> Result<()> {
        if node.chunks.0.is_empty() && node.list.is_none() {
            return self.inline_content(file, node);
        }
        let mut chunks = Chunks::of(node);
        let mut offset = 0_u64;
        let mut pieces = 0;
        loop {
            let (id, length) = match chunks.next(&mut self.lists) {
                Ok(Some(chunk)) => chunk,
                Ok(None) => break,
                Err(error) if is_damage(&error) => {
                    file.fail(&error);
                    return Ok(());
                }
                Err(error) => return Err(error.into()),
            };
            let end = offset.checked_add(length).filter(|end| *end <= node.size);
            let (Some(end), true) = (end, id == HOLE || length <= MAX_FRAME_RAW_BYTES as u64) else {
                file.fail(&contradiction(node));
                return Ok(());
            };
            self.chunk(file, id, offset, length);
            offset = end;
            pieces += 1;
            self.window.open_files += usize::from(pieces == 2);
            if self.window.is_full() {
                self.read_window()?;
                self.window.open_files = usize::from(pieces > 1);
            }
        }
        if offset != node.size {
            file.fail(&contradiction(node));
        }
        Ok(())
    }

    fn inline_content(&mut self, file: &Arc<FileJob>, node: &Node) -> Result<()> {
        let bytes = &node.inline.0;
        if bytes.len() as u64 != node.size {
            file.fail(&contradiction(node));
        } else if file.existing().is_some_and(|existing| existing.has_at(0, bytes).is_ok_and(|same| same)) {
            file.came(node.size);
        } else {
            // Also the file of no bytes is made by the threads that take.
            let one = Use { file: file.clone(), offset: 0 };
            if self.is_enough_given(&one) {
                self.fetch.give(std::mem::take(&mut self.given))?;
            }
            self.given.push((vec![one], bytes.clone()));
        }
        Ok(())
    }

    /// Whether what was gathered is handed over before `next` joins it.
    fn is_enough_given(&self, next: &Use) -> bool {
        let last = self.given.last().and_then(|(uses, _)| uses.last());
        let same_folder = last.is_some_and(|last| last.file.is_beside(&next.file));
        self.given.len() >= if same_folder { GIVEN_MOST_FILES } else { GIVEN_FILES }
    }

    /// One chunk: there already, a hole, or to be read.
    fn chunk(&mut self, file: &Arc<FileJob>, id: BlobId, offset: u64, length: u64) {
        match (file.existing(), id == HOLE) {
            (Some(existing), true) => write_zeros(file, existing, offset, length),
            (None, true) => file.came(length),
            (Some(existing), false) if self.is_there(existing, id, offset, length) => file.came(length),
            _ => self.window.add(id, length, Use { file: file.clone(), offset }),
        }
    }

    /// Whether an existing file has the chunk at its place. What cannot be read is written anew.
    fn is_there(&mut self, existing: &FileUpdate, id: BlobId, offset: u64, length: u64) -> bool {
        if offset.saturating_add(length) > existing.size() {
            return false;
        }
        self.buffer.resize(length as usize, 0);
        existing.read_at(offset, &mut self.buffer).is_ok_and(|count| count as u64 == length)
            && self.context.repository.keyring().naming().blob_id(&self.buffer) == id
    }

    fn read_window(&mut self) -> Result<()> {
        let next = self.window.next();
        let window = std::mem::replace(&mut self.window, next);
        if window.wanted.is_empty() { Ok(()) } else { self.fetch.window(window.wanted) }
    }

    fn finish(mut self) -> Result<()> {
        self.read_window()?;
        self.fetch.give(std::mem::take(&mut self.given))?;
        self.levels.clear();
        self.links.clear();
        self.fetch.finish()?;
        Ok(())
    }

    /// What would become of an entry.
    fn try_leaf(&mut self, folder: Option<&Folder>, node: &Node, meta: &Meta) -> Result<()> {
        debug_assert!(self.dry_run);
        let counts = &self.shared.counts;
        let decision = match (folder, &self.shared.target) {
            (Some(folder), Some(target)) => target.decide(folder, &node.name.0, meta),
            _ => Ok(Decision::Write),
        };
        let decision = match decision {
            Ok(decision) => decision,
            Err(error) => {
                self.shared.refused(error);
                return Ok(());
            }
        };
        let is_file = node.kind == NodeKind::File;
        match decision {
            Decision::Keep => add(&counts.skipped, 1),
            _ if !is_file => add(&counts.others, 1),
            Decision::Same => add(&counts.unchanged, 1),
            Decision::Update => return self.try_update(folder, node, meta),
            Decision::Write => {
                add(&counts.files, 1);
                add(&counts.bytes_written, node.size);
            }
        }
        add(&counts.bytes, if is_file { node.size } else { 0 });
        self.shared.done(node.size);
        Ok(())
    }

    fn try_update(&mut self, folder: Option<&Folder>, node: &Node, meta: &Meta) -> Result<()> {
        let (Some(folder), Some(target)) = (folder, &self.shared.target) else { return Ok(()) };
        let existing = match target.update_file(folder, &node.name.0, meta) {
            Ok(existing) => existing,
            Err(error) => {
                self.shared.refused(error);
                return Ok(());
            }
        };
        let mut offset = 0;
        let mut differing = 0;
        let same = existing.has_at(0, &node.inline.0).unwrap_or(false);
        differing += if same { 0 } else { node.inline.0.len() as u64 };
        let mut chunks = Chunks::of(node);
        while let Some((id, length)) = chunks.next(&mut self.lists)? {
            let is_sane = length <= MAX_FRAME_RAW_BYTES as u64;
            if id != HOLE && !(is_sane && self.is_there(&existing, id, offset, length)) {
                differing += length;
            }
            offset += length;
        }
        let counts = &self.shared.counts;
        let is_same = differing == 0 && existing.size() == node.size;
        add(if is_same { &counts.unchanged } else { &counts.files }, 1);
        add(&counts.bytes_written, differing);
        add(&counts.bytes, node.size);
        self.shared.done(node.size);
        Ok(())
    }
}

enum LinkName {
    Only,
    First(Arc<Links>),
    Further(Arc<Links>),
}

fn contradiction(node: &Node) -> repo::Error {
    let name = String::from_utf8_lossy(&node.name.0).into_owned();
    repo::Error::damaged(format!("the tree that holds {name:?}"), "its content does not have its size")
}

/// A hole in a file that is there: what is not zero becomes zero.
fn write_zeros(file: &Arc<FileJob>, existing: &FileUpdate, offset: u64, length: u64) {
    let end = offset + length;
    let mut at = offset;
    while at < end {
        let piece = &ZEROS[..(end - at).min(ZEROS.len() as u64) as usize];
        // Beyond the end of the existing file the size alone makes zeros.
        if at >= existing.size() || existing.has_at(at, piece).is_ok_and(|same| same) {
            file.came(piece.len() as u64);
        } else {
            file.write(at, piece);
        }
        at += piece.len() as u64;
    }
}
