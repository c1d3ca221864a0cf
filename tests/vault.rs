//! A repository in memory with a clock that is told what time it is, and files to put into it.

use crate::founder;
use keepstone::base::monitor::Silent;
use keepstone::base::{BlobId, Clock, Secret, SnapshotId, Stop};
use keepstone::compress::Level;
use keepstone::crypto::slots::Unlock;
use keepstone::format::pack::BlobKind;
use keepstone::format::tree::{HOLE, ListPiece, NodeKind, TreePiece};
use keepstone::ops::backup::{self, Parent, Source};
use keepstone::ops::{Context, Result, prune, restore, verify};
use keepstone::repo::SealedRepository;
use keepstone::repo::blob_reader::BlobReader;
use keepstone::repo::snapshots::{self, Found};
use keepstone::repo::trees::GetBlob;
use keepstone::source::files::ScanOptions;
use keepstone::store::{Area, Crash, Fault, Key, Memory, ObjectStore};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

/// A repository, its clock, and a folder of files.
pub struct Vault {
    /// Objects.
    pub store: Memory,
    /// What time it is, for store and repository alike.
    pub clock: Clock,
    /// Files to back up.
    pub files: tempfile::TempDir,
}

/// The key that opens it: a file, since stretching a passphrase takes time.
pub fn key() -> Unlock {
    Unlock::KeyFile(Secret::new(b"a key file of at least sixteen bytes".to_vec()))
}

/// Opens the repository in `store`.
pub fn open(store: Arc<dyn ObjectStore>, clock: &Clock) -> Result<Context> {
    let repository = SealedRepository::open(store)?.unlock(&key(), clock.clone())?;
    Ok(Context::open(repository, None, Arc::new(Silent), Stop::new())?.0)
}

/// Bytes that do not compress, the same for the same seed.
pub fn noise(seed: u64, length: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut step = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 32) as u8
    };
    (0..length).map(|_| step()).collect()
}

impl Vault {
    /// An empty repository with small chunks.
    pub fn new() -> Vault {
        Vault::at("2025-03-01T12:00:00Z")
    }

    /// The same, made at a time that is given.
    pub fn at(time: &str) -> Vault {
        Vault::made(time, &founder::found)
    }

    /// The same, which names content by keys that no other has.
    pub fn strange() -> Vault {
        Vault::made("2025-03-01T12:00:00Z", &founder::strange)
    }

    fn made(time: &str, make: founder::Make) -> Vault {
        let clock = Clock::manual(time.parse().unwrap());
        let store = Memory::with_clock(clock.clone());
        make(Arc::new(store.clone()), "first", &clock).unwrap();
        Vault { store, clock, files: tempfile::tempdir().unwrap() }
    }

    /// Opens it.
    pub fn open(&self) -> Context {
        open(Arc::new(self.store.clone()), &self.clock).unwrap()
    }

    /// Writes a file.
    pub fn write(&self, name: &str, bytes: &[u8]) {
        let path = self.files.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, bytes).unwrap();
    }

    /// Lets hours pass.
    pub fn hours(&self, hours: u64) {
        self.clock.advance(Duration::from_secs(hours * 3600));
    }

    /// Backs the files up, an hour later.
    pub fn back_up(&self) -> SnapshotId {
        self.hours(1);
        back_up(&self.open(), self.files.path()).unwrap()
    }

    /// A second repository with the same objects.
    pub fn copy(&self) -> (Memory, Clock) {
        let clock = Clock::manual(self.clock.now());
        let copy = Memory::with_clock(clock.clone());
        for key in keys(&self.store) {
            copy.put(&key, &self.store.get(&key, u64::MAX).unwrap()).unwrap();
        }
        clock.advance(Duration::from_secs(3600));
        (copy, clock)
    }
}

/// Backs a folder up.
pub fn back_up(context: &Context, folder: &Path) -> Result<SnapshotId> {
    Ok(backup::backup(context, &backup_of(folder))?.snapshot.unwrap().id)
}

/// How a folder is backed up.
pub fn backup_of(folder: &Path) -> backup::Options {
    backup::Options {
        sources: vec![Source::Path(folder.to_path_buf())],
        scan: ScanOptions::default(),
        exclude_texts: Vec::new(),
        host: Some("alpha".to_owned()),
        user: String::new(),
        tags: Vec::new(),
        description: String::new(),
        time: None,
        parent: Parent::Newest,
        level: Level::Default,
        deltas: true,
        ignore_inode: false,
        ignore_ctime: false,
        dry_run: false,
        base_cache_bytes: 0,
        limits: backup::Limits::default(),
        validate_dumps: false,
    }
}

/// Files by their path beneath a folder.
pub type Files = BTreeMap<String, Vec<u8>>;

/// All files beneath `folder`; none if there is no folder.
pub fn files_below(folder: &Path) -> Files {
    let mut files = Files::new();
    let mut folders = vec![folder.to_path_buf()];
    while let Some(at) = folders.pop() {
        for entry in std::fs::read_dir(at).into_iter().flatten() {
            let entry = entry.unwrap();
            let kind = entry.file_type().unwrap();
            if kind.is_dir() {
                folders.push(entry.path());
            } else if kind.is_file() {
                let name = entry.path().strip_prefix(folder).unwrap().to_string_lossy().into_owned();
                files.insert(name, std::fs::read(entry.path()).unwrap());
            }
        }
    }
    files
}

/// Restores a snapshot of `folder` elsewhere; gives what came of it and the files that are there afterwards.
pub fn restore(context: &Context, id: SnapshotId, folder: &Path) -> Result<(restore::Outcome, Files)> {
    let Found::Snapshot(snapshot) = snapshots::load(&context.repository, id)? else {
        panic!("{id} is no snapshot");
    };
    let target = tempfile::tempdir().unwrap();
    let outcome = restore::restore(context, &snapshot, &restore::Options::new(target.path().to_owned()))?;
    Ok((outcome, files_below(&target.path().join(folder.strip_prefix("/").unwrap()))))
}

/// Reads every byte of the repository.
pub fn verify_all(context: &Context) -> Result<verify::Outcome> {
    verify::verify(context, &verify::Options { snapshots: Vec::new(), depth: verify::Depth::All })
}

/// All objects.
pub fn keys(store: &dyn ObjectStore) -> Vec<Key> {
    let mut keys = Vec::new();
    for area in Area::ALL {
        store.list(area, &mut |listed| keys.push(Key::new(area, listed.name))).unwrap();
    }
    keys
}

/// Objects of one area.
pub fn count(store: &dyn ObjectStore, area: Area) -> usize {
    keys(store).iter().filter(|key| key.area() == area).count()
}

/// Bytes of one area.
pub fn bytes(store: &dyn ObjectStore, area: Area) -> u64 {
    let mut bytes = 0;
    store.list(area, &mut |listed| bytes += listed.size_bytes).unwrap();
    bytes
}

/// Reads every blob that every snapshot needs, which proves its name; gives how many there are.
pub fn read_everything(context: &Context) -> Result<usize> {
    let mut reader = BlobReader::new(context.repository.clone(), context.index.clone(), 8 << 20);
    let mut seen = BTreeSet::new();
    for id in snapshots::names(&context.repository)? {
        if let Found::Snapshot(snapshot) = snapshots::load(&context.repository, id)? {
            read_tree(&mut reader, &mut seen, snapshot.root)?;
        }
    }
    Ok(seen.len())
}

/// Reads every blob that the index knows, needed or not: what lies in a pack that stays can be decoded, for it may
/// become the base of something new.
pub fn read_index(context: &Context) -> Result<usize> {
    let mut ids = BTreeSet::new();
    context.index.each_entry(&mut |located| {
        ids.insert((located.id, located.place.kind));
        Ok(())
    })?;
    let mut reader = BlobReader::new(context.repository.clone(), context.index.clone(), 8 << 20);
    for (id, kind) in &ids {
        reader.get(id, *kind)?;
    }
    Ok(ids.len())
}

fn read_tree(reader: &mut BlobReader, seen: &mut BTreeSet<BlobId>, id: BlobId) -> Result<()> {
    if !seen.insert(id) {
        return Ok(());
    }
    let piece = TreePiece::decode(&reader.get(&id, BlobKind::Tree)?).unwrap();
    for child in &piece.children {
        read_tree(reader, seen, child.piece)?;
    }
    for node in &piece.nodes {
        if let Some(tree) = node.tree {
            read_tree(reader, seen, tree)?;
        }
        if let Some(list) = node.list {
            read_list(reader, seen, list)?;
        }
        for (chunk, _) in node.chunks() {
            read_chunk(reader, seen, chunk)?;
        }
    }
    Ok(())
}

fn read_list(reader: &mut BlobReader, seen: &mut BTreeSet<BlobId>, id: BlobId) -> Result<()> {
    seen.insert(id);
    let piece = ListPiece::decode(&reader.get(&id, BlobKind::List)?).unwrap();
    for id in piece.ids.0 {
        match piece.level {
            0 => read_chunk(reader, seen, id)?,
            _ => read_list(reader, seen, id)?,
        }
    }
    Ok(())
}

fn read_chunk(reader: &mut BlobReader, seen: &mut BTreeSet<BlobId>, id: BlobId) -> Result<()> {
    if id != HOLE && seen.insert(id) {
        reader.get(&id, BlobKind::Data)?;
    }
    Ok(())
}

/// Prunes as thoroughly as it goes.
pub fn prune_all(context: &Context) -> Result<prune::Outcome> {
    let options = prune::Options { max_unused: prune::MaxUnused::Bytes(0), ..prune::Options::default() };
    prune::prune(context, &options)
}

/// What is stopped: it gets the store that will fail and the clock.
pub type Act<'a> = &'a dyn Fn(Arc<dyn ObjectStore>, &Clock) -> Result<()>;

/// Runs `act` on copies of `vault`, stopping it before and after each of its changes in turn; `check` gets what is left,
/// and at last what there is when it was not stopped. Answers how many changes there are.
pub fn crash_everywhere(vault: &Vault, act: Act<'_>, check: &dyn Fn(&Memory, &Clock, &str)) -> u64 {
    for crash in [Crash::Before, Crash::After] {
        for change in 1.. {
            let (store, clock) = vault.copy();
            let fault = Fault::new(store.clone());
            fault.crash_at(change, crash);
            let done = act(Arc::new(fault.clone()), &clock);
            if !fault.crashed() {
                done.unwrap();
                check(&store, &clock, "not stopped");
                if crash == Crash::After {
                    return change - 1;
                }
                break;
            }
            check(&store, &clock, &format!("{crash:?} change {change}"));
        }
    }
    unreachable!("the second round returns")
}

/// Reads all files of a snapshot, by their names alone.
pub fn restore_all_of(context: &Context, root: BlobId) -> Result<Files> {
    let mut reader = BlobReader::new(context.repository.clone(), context.index.clone(), 8 << 20);
    let (mut files, mut trees) = (Files::new(), vec![root]);
    while let Some(tree) = trees.pop() {
        let piece = TreePiece::decode(&reader.get(&tree, BlobKind::Tree)?).unwrap();
        trees.extend(piece.children.iter().map(|child| child.piece));
        for node in &piece.nodes {
            trees.extend(node.tree);
            if node.kind == NodeKind::File {
                assert!(node.list.is_none(), "files are small here");
                let mut bytes = node.inline.0.clone();
                for (chunk, _) in node.chunks() {
                    bytes.extend_from_slice(&reader.get(&chunk, BlobKind::Data)?);
                }
                files.insert(String::from_utf8_lossy(&node.name.0).into_owned(), bytes);
            }
        }
    }
    Ok(files)
}
