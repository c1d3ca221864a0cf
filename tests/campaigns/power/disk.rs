//! A model of a disk: what was asked of it, what of that must have arrived at any moment, and what may be found after a
//! power cut then.
//!
//! The bytes of a file are on the disk when that file was flushed, and not before. A name is on the disk when the folder
//! in which it stands was flushed: a name that appears, changes or goes is one change of one folder, so a renaming
//! between two folders is two, each on its own. A flush covers what had ended before it began. Everything else may be
//! there or not, in part or not: an [`Image`] is what a certain choice leaves.

use super::trace::Call;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// A file, folder or link, whatever its names.
pub type Node = usize;

/// The folder that is looked at.
const TOP: Node = 0;

/// A disk before, while and after something was done.
#[derive(Clone)]
pub struct Disk {
    root: PathBuf,
    /// As it was before.
    before: View,
    /// With everything that was done so far.
    now: View,
    /// What was done, in its order.
    pub changes: Vec<Change>,
    /// What was flushed, in its order.
    pub flushes: Vec<Flush>,
    /// What the program wrote to its standard output, and by when.
    said: Vec<(usize, Vec<u8>)>,
    /// How many lines the trace has.
    pub end: usize,
    /// Where the next write to a descriptor goes.
    places: BTreeMap<u64, u64>,
    /// Under which folder of the top each node came to be.
    areas: Vec<String>,
    /// How many nodes there were before.
    nodes_before: usize,
}

/// One thing that can be on the disk or not.
#[derive(Clone, Debug)]
pub struct Change {
    /// The line of the trace in which it began.
    pub begun: usize,
    /// The line in which it ended.
    pub ended: usize,
    /// What it is.
    pub what: What,
    /// The folder of the top beneath which it is.
    pub area: String,
}

/// What a change does.
#[derive(Clone, Debug)]
pub enum What {
    /// A name stands for something from now on, or for nothing.
    Name { folder: Node, name: String, node: Option<Node>, replaces: bool },
    /// Bytes of a file.
    Bytes { node: Node, offset: usize, bytes: Arc<Vec<u8>> },
    /// The length of a file.
    Length { node: Node, length: usize },
    /// When a file was last changed, in nanoseconds since 1970; none means lately.
    Time { node: Node, at: Option<i128> },
}

/// A file or folder was brought to the disk, or all of them.
#[derive(Clone, Debug)]
pub struct Flush {
    /// The line in which it began.
    pub begun: usize,
    /// The line in which it ended.
    pub ended: usize,
    /// What was flushed; none is everything.
    pub node: Option<Node>,
    /// Whether it was a folder.
    pub is_folder: bool,
    /// The folder of the top beneath which it lies.
    pub area: String,
}

/// What becomes of a change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It is there.
    Whole,
    /// It is not.
    Lost,
    /// Of bytes, so many from the beginning.
    Prefix(usize),
    /// Of bytes, the length alone: zeros where nothing was before.
    Zeros,
    /// Of bytes, some pages, chosen by the bits.
    Pages(u64),
}

/// In what pages bytes are written.
const PAGE: usize = 4096;

#[derive(Clone, Debug, PartialEq)]
enum Content {
    File { bytes: Arc<Vec<u8>>, time: Option<i128> },
    Folder(BTreeMap<String, Node>),
    Link(Vec<u8>),
}

/// Everything that is there under some choice.
#[derive(Clone)]
struct View {
    nodes: Vec<Content>,
}

/// What is found at a path of an image.
#[derive(Clone, Debug, PartialEq)]
pub enum Item {
    /// Bytes, and when they were last changed.
    File(Arc<Vec<u8>>, Option<i128>),
    /// A folder.
    Folder,
    /// A symbolic link.
    Link(Vec<u8>),
}

/// What is found after a power cut, by path beneath the top.
pub type Image = BTreeMap<String, Item>;

impl Disk {
    /// As it is now, all of it flushed.
    pub fn of(root: &Path) -> Disk {
        let mut disk = Disk {
            root: root.canonicalize().unwrap(),
            before: View { nodes: vec![Content::Folder(BTreeMap::new())] },
            now: View { nodes: Vec::new() },
            changes: Vec::new(),
            flushes: Vec::new(),
            said: Vec::new(),
            end: 0,
            places: BTreeMap::new(),
            areas: vec![String::new()],
            nodes_before: 0,
        };
        disk.now = disk.before.clone();
        let mut known = BTreeMap::new();
        disk.load(TOP, &disk.root.clone(), &mut known);
        disk.before = disk.now.clone();
        disk.nodes_before = disk.now.nodes.len();
        disk
    }

    fn load(&mut self, folder: Node, path: &Path, known: &mut BTreeMap<u64, Node>) {
        for entry in fs::read_dir(path).unwrap() {
            let entry = entry.unwrap();
            let name = entry.file_name().into_string().expect("names are text here");
            let node = match known.get(&entry.metadata().unwrap().ino()) {
                Some(node) => *node,
                None => self.add(content_of(&entry.path()), folder, &name),
            };
            known.insert(entry.metadata().unwrap().ino(), node);
            self.now.apply(&What::Name { folder, name, node: Some(node), replaces: false }, Fate::Whole);
            if entry.file_type().unwrap().is_dir() {
                self.load(node, &entry.path(), known);
            }
        }
    }

    fn add(&mut self, content: Content, folder: Node, name: &str) -> Node {
        let area = if folder == TOP { name.to_owned() } else { self.areas[folder].clone() };
        self.areas.push(area);
        self.now.nodes.push(content);
        self.now.nodes.len() - 1
    }

    /// Does what a traced program did.
    pub fn follow(&mut self, calls: &[Call], lines: usize) {
        calls.iter().for_each(|call| self.call(call));
        self.end = lines;
    }

    /// The model has to have seen everything: what it has now is what is there.
    pub fn compare(&self) {
        let real = Disk::of(&self.root).now.image();
        let seen = self.now.image();
        // SQLite writes that one through a mapping, and makes it anew whenever it is missing.
        let counts = |path: &&String| !path.ends_with("-shm");
        let paths: BTreeSet<&String> = real.keys().chain(seen.keys()).filter(counts).collect();
        for path in paths {
            let same = match (seen.get(path), real.get(path)) {
                (Some(Item::File(seen, _)), Some(Item::File(real, _))) => seen == real,
                (seen, real) => seen == real,
            };
            assert!(same, "the model has not seen all that became of {path}");
        }
    }

    /// Whether the program had written `text` to its standard output.
    pub fn has_said(&self, text: &str, at: usize) -> bool {
        let said: Vec<u8> =
            self.said.iter().filter(|(line, _)| *line < at).flat_map(|(_, text)| text.clone()).collect();
        String::from_utf8_lossy(&said).contains(text)
    }

    fn call(&mut self, call: &Call) {
        match call.name.as_str() {
            "open" => self.opened(call, 1),
            "openat" => self.opened(call, 2),
            "creat" => panic!("nobody calls creat: {call:?}"),
            "write" | "writev" => self.written(call, None),
            "pwrite64" | "pwritev" | "pwritev2" => self.written(call, Some(call.number(3) as usize)),
            "lseek" => drop(self.places.insert(call.number(0), call.count())),
            "ftruncate" => self.cut(call, &call.file(0), call.number(1)),
            "truncate" => self.cut(call, &call.path(0, &self.root.clone()), call.number(1)),
            "fallocate" => self.reserved(call),
            "copy_file_range" => self.copied(call),
            "ioctl" if call.word(1).contains("FICLONE") => self.cloned(call),
            "ioctl" => {}
            "rename" => self.renamed(call, &call.path(0, &self.root.clone()), &call.path(1, &self.root.clone())),
            "renameat" | "renameat2" => self.renamed(call, &call.path_at(0), &call.path_at(2)),
            "link" => self.linked(call, &call.path(0, &self.root.clone()), &call.path(1, &self.root.clone())),
            "linkat" => self.linked(call, &call.path_at(0), &call.path_at(2)),
            "symlink" => self.made(call, &call.path(1, &self.root.clone()), Content::Link(call.bytes(0))),
            "symlinkat" => self.made(call, &call.path_at(1), Content::Link(call.bytes(0))),
            "mkdir" => self.made(call, &call.path(0, &self.root.clone()), Content::Folder(BTreeMap::new())),
            "mkdirat" => self.made(call, &call.path_at(0), Content::Folder(BTreeMap::new())),
            "unlink" | "rmdir" => self.unnamed(call, &call.path(0, &self.root.clone())),
            "unlinkat" => self.unnamed(call, &call.path_at(0)),
            "utimensat" => self.timed(call),
            "fsync" | "fdatasync" => self.flushed(call, Some(call.file(0))),
            "syncfs" | "sync" => self.flushed(call, None),
            // Only asks for a beginning.
            "sync_file_range" => {}
            _ => assert!(!self.concerns(call), "the model does not know this call: {:.300?}", call),
        }
    }

    /// Whether a call has to do with something beneath the top.
    fn concerns(&self, call: &Call) -> bool {
        (0..6).any(|at| call.word(at).contains('<') && call.file(at).starts_with(&self.root))
    }

    /// The folder in which `path` stands and its name there; none if it is not beneath the top.
    fn parent(&self, path: &Path) -> Option<(Node, String)> {
        let folder = self.find(path.parent()?)?;
        Some((folder, path.file_name()?.to_str().expect("names are text here").to_owned()))
    }

    fn find(&self, path: &Path) -> Option<Node> {
        let inside = path.strip_prefix(&self.root).ok()?;
        let step = |node: Node, name: &std::ffi::OsStr| match &self.now.nodes[node] {
            Content::Folder(names) => names.get(name.to_str()?).copied(),
            _ => None,
        };
        inside.iter().try_fold(TOP, step)
    }

    fn change(&mut self, call: &Call, node: Node, what: What) {
        self.now.apply(&what, Fate::Whole);
        let area = self.areas[node].clone();
        self.changes.push(Change { begun: call.begun, ended: call.ended, what, area });
    }

    fn name(&mut self, call: &Call, (folder, name): (Node, String), node: Option<Node>) {
        let Content::Folder(names) = &self.now.nodes[folder] else { panic!("no folder: {call:?}") };
        let replaces = node.is_some() && names.contains_key(&name);
        let of = node.or_else(|| names.get(&name).copied()).unwrap_or(folder);
        self.change(call, of, What::Name { folder, name, node, replaces });
    }

    fn opened(&mut self, call: &Call, flags: usize) {
        let path = call.opened();
        let flags = call.word(flags).to_owned();
        // A file that has no name any more is nobody's business after a crash.
        let Some(place) = self.parent(&path) else { return };
        if call.found_it_there() || !(flags.contains("O_WRONLY") || flags.contains("O_RDWR")) {
            return;
        }
        let node = match self.find(&path) {
            Some(node) => node,
            None if flags.contains("O_CREAT") => self.create(call, place, Content::file(Vec::new())),
            None => return,
        };
        let length = self.now.length(node);
        if flags.contains("O_TRUNC") && length > 0 {
            self.change(call, node, What::Length { node, length: 0 });
            self.touch(call, node, None);
        }
        let place = if flags.contains("O_APPEND") { self.now.length(node) as u64 } else { 0 };
        self.places.insert(call.count(), place);
    }

    fn create(&mut self, call: &Call, place: (Node, String), content: Content) -> Node {
        let node = self.add(content, place.0, &place.1);
        // Files, folders and links that come to be are empty or nothing but their names: `before` knows them so.
        self.before.nodes.push(match &self.now.nodes[node] {
            Content::File { .. } => Content::file(Vec::new()),
            Content::Folder(_) => Content::Folder(BTreeMap::new()),
            Content::Link(target) => Content::Link(target.clone()),
        });
        self.name(call, place, Some(node));
        node
    }

    fn made(&mut self, call: &Call, path: &Path, content: Content) {
        if let Some(place) = self.parent(path)
            && self.find(path).is_none()
        {
            self.create(call, place, content);
        }
    }

    fn written(&mut self, call: &Call, offset: Option<usize>) {
        if call.number(0) == 1 && self.find(&call.file(0)).is_none() {
            self.said.push((call.ended, call.bytes(1)));
            return;
        }
        let Some(node) = self.find(&call.file(0)) else { return };
        let mut bytes = call.bytes(1);
        bytes.truncate(call.count() as usize);
        let offset = offset.unwrap_or_else(|| {
            let place = self.places.entry(call.number(0)).or_insert(0);
            *place += bytes.len() as u64;
            *place as usize - bytes.len()
        });
        self.change(call, node, What::Bytes { node, offset, bytes: Arc::new(bytes) });
        self.touch(call, node, None);
    }

    fn touch(&mut self, call: &Call, node: Node, at: Option<i128>) {
        if !matches!(&self.now.nodes[node], Content::File { time, .. } if *time == at) {
            self.change(call, node, What::Time { node, at });
        }
    }

    fn cut(&mut self, call: &Call, path: &Path, length: u64) {
        if let Some(node) = self.find(path) {
            self.change(call, node, What::Length { node, length: length as usize });
            self.touch(call, node, None);
        }
    }

    fn reserved(&mut self, call: &Call) {
        let Some(node) = self.find(&call.file(0)) else { return };
        let end = (call.number(2) + call.number(3)) as usize;
        match call.word(1) {
            "0" if end > self.now.length(node) => self.change(call, node, What::Length { node, length: end }),
            "0" | "FALLOC_FL_KEEP_SIZE" => {}
            other => panic!("the model does not know fallocate with {other}"),
        }
    }

    fn copied(&mut self, call: &Call) {
        let (Some(from), Some(to)) = (self.find(&call.file(0)), self.find(&call.file(2))) else {
            assert!(self.find(&call.file(2)).is_none(), "a copy from elsewhere: {call:?}");
            return;
        };
        let count = call.count() as usize;
        let mut place = |at: usize, descriptor: usize| match call.word(at) {
            "NULL" => {
                let place = self.places.entry(call.number(descriptor)).or_insert(0);
                *place += count as u64;
                *place as usize - count
            }
            // What is printed is the value before the call.
            other => other.trim_start_matches('[').trim_end_matches(']').parse().unwrap(),
        };
        let (start, offset) = (place(1, 0), place(3, 2));
        let bytes = Arc::new(self.now.bytes(from)[start..start + count].to_vec());
        self.change(call, to, What::Bytes { node: to, offset, bytes });
        self.touch(call, to, None);
    }

    fn cloned(&mut self, call: &Call) {
        if let (Some(to), Some(from)) = (self.find(&call.file(0)), self.find(&call.file(2))) {
            let bytes = self.now.bytes(from).clone();
            self.change(call, to, What::Bytes { node: to, offset: 0, bytes });
            self.touch(call, to, None);
        }
    }

    fn renamed(&mut self, call: &Call, from: &Path, to: &Path) {
        assert!(!call.word(4).contains("EXCHANGE"), "the model does not know how to exchange names");
        let (Some(old), Some(node)) = (self.parent(from), self.find(from)) else { return };
        if call.found_it_there() {
            return;
        }
        let new = self.parent(to).expect("nothing is renamed out of the folder that is looked at");
        self.name(call, new, Some(node));
        self.name(call, old, None);
    }

    fn linked(&mut self, call: &Call, from: &Path, to: &Path) {
        if let (Some(node), Some(new)) = (self.find(from), self.parent(to))
            && !call.found_it_there()
        {
            self.name(call, new, Some(node));
        }
    }

    fn unnamed(&mut self, call: &Call, path: &Path) {
        if let Some(place) = self.parent(path)
            && self.find(path).is_some()
        {
            self.name(call, place, None);
        }
    }

    fn timed(&mut self, call: &Call) {
        let path = if call.word(1) == "NULL" { call.file(0) } else { call.path_at(0) };
        let Some(node) = self.find(&path) else { return };
        // The second of two times is that of the last change.
        let time = call.word(2).rsplit_once('{').and_then(|(_, time)| {
            let number = |name: &str| time.split_once(name)?.1.split([',', '}', ' ']).next()?.parse::<i128>().ok();
            Some(number("tv_sec=")? * 1_000_000_000 + number("tv_nsec=")?)
        });
        if !call.word(2).ends_with("UTIME_OMIT]") && matches!(self.now.nodes[node], Content::File { .. }) {
            self.touch(call, node, time);
        }
    }

    fn flushed(&mut self, call: &Call, path: Option<PathBuf>) {
        let node = match path {
            None => None,
            Some(path) => match self.find(&path) {
                Some(node) => Some(node),
                None => return,
            },
        };
        let is_folder = node.is_some_and(|node| matches!(self.now.nodes[node], Content::Folder(_)));
        let area = node.map_or_else(String::new, |node| self.areas[node].clone());
        self.flushes.push(Flush { begun: call.begun, ended: call.ended, node, is_folder, area });
    }

    /// Whether it was there before anything was done.
    pub fn was_there(&self, node: Node) -> bool {
        node < self.nodes_before
    }

    /// Which changes are on the disk for certain at the moment before line `at`.
    pub fn durable(&self, at: usize) -> Vec<bool> {
        let over: Vec<&Flush> = self.flushes.iter().filter(|flush| flush.ended < at).collect();
        let covers = |flush: &Flush, change: &Change| {
            flush.begun > change.ended && flush.node.is_none_or(|node| node == change.what.belongs_to())
        };
        self.changes.iter().map(|change| over.iter().any(|flush| covers(flush, change))).collect()
    }

    /// Which changes a journal that keeps the order of names has written at that moment: every flush takes all of them.
    pub fn journalled(&self, at: usize) -> usize {
        let begun = self.flushes.iter().filter(|flush| flush.ended < at).map(|flush| flush.begun).max().unwrap_or(0);
        self.changes.iter().take_while(|change| change.ended < begun).count()
    }

    /// What is found when every change has the fate that is given.
    pub fn image(&self, fates: &[Fate]) -> Image {
        let mut view = self.before.clone();
        for (change, fate) in self.changes.iter().zip(fates) {
            view.apply(&change.what, *fate);
        }
        view.image()
    }
}

impl What {
    /// What has to be flushed for it to last.
    pub fn belongs_to(&self) -> Node {
        match self {
            What::Name { folder, .. } => *folder,
            What::Bytes { node, .. } | What::Length { node, .. } | What::Time { node, .. } => *node,
        }
    }
}

impl Content {
    fn file(bytes: Vec<u8>) -> Content {
        Content::File { bytes: Arc::new(bytes), time: None }
    }
}

fn content_of(path: &Path) -> Content {
    let meta = path.symlink_metadata().unwrap();
    if meta.is_dir() {
        Content::Folder(BTreeMap::new())
    } else if meta.file_type().is_symlink() {
        Content::Link(fs::read_link(path).unwrap().as_os_str().as_bytes().to_vec())
    } else {
        let time = i128::from(meta.mtime()) * 1_000_000_000 + i128::from(meta.mtime_nsec());
        Content::File { bytes: Arc::new(fs::read(path).unwrap()), time: Some(time) }
    }
}

impl View {
    fn bytes(&self, node: Node) -> &Arc<Vec<u8>> {
        match &self.nodes[node] {
            Content::File { bytes, .. } => bytes,
            _ => panic!("node {node} is no file"),
        }
    }

    fn length(&self, node: Node) -> usize {
        match &self.nodes[node] {
            Content::File { bytes, .. } => bytes.len(),
            _ => 0,
        }
    }

    fn apply(&mut self, what: &What, fate: Fate) {
        if fate == Fate::Lost {
            return;
        }
        match what {
            What::Name { folder, name, node, .. } => {
                let Content::Folder(names) = &mut self.nodes[*folder] else { return };
                match node {
                    Some(node) => names.insert(name.clone(), *node),
                    None => names.remove(name),
                };
            }
            What::Bytes { node, offset, bytes: new } => {
                if let Content::File { bytes, .. } = &mut self.nodes[*node] {
                    lay(Arc::make_mut(bytes), *offset, new, fate);
                }
            }
            What::Length { node, length } => {
                if let Content::File { bytes, .. } = &mut self.nodes[*node] {
                    Arc::make_mut(bytes).resize(*length, 0);
                }
            }
            What::Time { node, at } => {
                if let Content::File { time, .. } = &mut self.nodes[*node] {
                    *time = *at;
                }
            }
        }
    }

    fn image(&self) -> Image {
        let mut image = Image::new();
        self.walk(TOP, "", &mut image, 0);
        image
    }

    fn walk(&self, folder: Node, path: &str, image: &mut Image, depth: usize) {
        let Content::Folder(names) = &self.nodes[folder] else { return };
        assert!(depth < 64, "folders that hold themselves");
        for (name, node) in names {
            let path = if path.is_empty() { name.clone() } else { format!("{path}/{name}") };
            let item = match &self.nodes[*node] {
                Content::File { bytes, time } => Item::File(bytes.clone(), *time),
                Content::Folder(_) => Item::Folder,
                Content::Link(target) => Item::Link(target.clone()),
            };
            image.insert(path.clone(), item);
            self.walk(*node, &path, image, depth + 1);
        }
    }
}

/// Writes what the fate leaves of `new` at `offset`.
fn lay(bytes: &mut Vec<u8>, offset: usize, new: &[u8], fate: Fate) {
    let new = match fate {
        Fate::Prefix(length) => &new[..length.min(new.len())],
        _ => new,
    };
    let end = offset + new.len();
    if bytes.len() < end {
        bytes.resize(end, 0);
    }
    // A page of the file, wherever the write begins in it.
    let arrives = |page: usize| match fate {
        Fate::Whole | Fate::Prefix(_) => true,
        Fate::Pages(bits) => bits >> (page % 64) & 1 == 1,
        Fate::Zeros | Fate::Lost => false,
    };
    let mut at = offset;
    while at < end {
        let next = end.min((at / PAGE + 1) * PAGE);
        if arrives(at / PAGE) {
            bytes[at..next].copy_from_slice(&new[at - offset..next - offset]);
        }
        at = next;
    }
}

/// Writes the part of an image beneath `area` into a folder that is empty.
pub fn unpack(image: &Image, area: &str, into: &Path) {
    fs::create_dir_all(into).unwrap();
    for (path, item) in beneath(image, area) {
        let path = into.join(path);
        match item {
            Item::Folder => fs::create_dir(path).unwrap(),
            Item::Link(target) => std::os::unix::fs::symlink(std::ffi::OsStr::from_bytes(target), path).unwrap(),
            Item::File(bytes, time) => {
                fs::write(&path, &**bytes).unwrap();
                if let Some(time) = time {
                    let since = std::time::Duration::from_nanos(*time as u64);
                    let file = fs::File::options().write(true).open(path).unwrap();
                    file.set_modified(std::time::SystemTime::UNIX_EPOCH + since).unwrap();
                }
            }
        }
    }
}

/// What an image holds beneath `area`, by path from there.
pub fn beneath<'i>(image: &'i Image, area: &str) -> impl Iterator<Item = (&'i str, &'i Item)> {
    let prefix = format!("{area}/");
    image.iter().filter_map(move |(path, item)| Some((path.strip_prefix(&prefix)?, item)))
}
