//! What is kept on this machine of a repository far away: trees, lists and small objects. Nobody trusts it, nobody
//! needs it, and with it what was read or written once is not downloaded again.

use crate::latency::far::Far;
use crate::vault::{Vault, back_up, backup_of, key, noise, prune_all, verify_all};
use keepstone::base::monitor::Remember;
use keepstone::base::{SnapshotId, Stop};
use keepstone::format::snapshot::Snapshot;
use keepstone::ops::{Context, backup, browse, forget, select};
use keepstone::repo::SealedRepository;
use keepstone::store::{Area, Entry, ObjectStore, Operation, Record};
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Some nights, and a machine that has a cache.
struct Remote {
    vault: Vault,
    store: Record,
    cache: tempfile::TempDir,
    seen: Arc<Remember>,
}

impl Remote {
    fn new() -> Remote {
        let vault = Vault::new();
        let store = Record::logging(vault.store.clone());
        for folder in 0..30 {
            vault.write(&format!("{folder}/deep/file"), &noise(folder, 2_000));
            vault.write(&format!("{folder}/tiny"), b"few bytes");
        }
        // Long enough for a content list.
        vault.write("long", &noise(99, 3_000_000));
        Remote { vault, store, cache: tempfile::tempdir().unwrap(), seen: Arc::default() }
    }

    fn open(&self) -> Context {
        self.open_with(Some(self.cache.path().to_owned()), 1 << 30)
    }

    fn open_with(&self, cache: Option<PathBuf>, bytes: u64) -> Context {
        let store: Arc<dyn ObjectStore> = Arc::new(Far::near(self.store.clone()));
        let repository = SealedRepository::open(store).unwrap().unlock(&key(), self.vault.clock.clone()).unwrap();
        Context::open_keeping(repository, cache, bytes, self.seen.clone(), Stop::new()).unwrap().0
    }

    fn back_up(&self, context: &Context) -> SnapshotId {
        self.vault.hours(1);
        back_up(context, self.vault.files.path()).unwrap()
    }

    /// What was read since this was asked last, listings left out.
    fn downloads(&self) -> Vec<Entry> {
        let reads = |entry: &Entry| matches!(entry.operation, Operation::Get | Operation::GetRange);
        let log = self.store.log().into_iter().filter(reads).collect();
        self.store.clear();
        log
    }

    /// Of those, what lies in packs.
    fn of_packs(&self) -> Vec<String> {
        let downloads = self.downloads().into_iter();
        downloads.map(|entry| entry.path).filter(|path| path.starts_with("packs/")).collect()
    }

    fn pieces(&self) -> Vec<PathBuf> {
        let mut paths: Vec<PathBuf> =
            fs::read_dir(self.cache.path().join("metadata")).unwrap().map(|entry| entry.unwrap().path()).collect();
        paths.sort();
        paths
    }
}

fn snapshot(context: &Context, id: SnapshotId) -> Snapshot {
    let text = std::ffi::OsString::from(id.to_string());
    select::select(context, &text, &select::Filter::default()).unwrap().snapshot
}

fn list(context: &Context, id: SnapshotId) -> Vec<Vec<u8>> {
    let mut paths = Vec::new();
    let problems = browse::ls(context, &snapshot(context, id), b"", true, &mut |entry| {
        paths.push(entry.path.to_vec());
        Ok(())
    });
    assert!(problems.unwrap().is_empty());
    paths
}

#[test]
fn what_this_machine_wrote_is_looked_into_and_backed_up_again_without_a_download() {
    let remote = Remote::new();
    let first = remote.back_up(&remote.open());
    remote.vault.write("7/deep/file", b"changed");
    let second = remote.back_up(&remote.open());
    remote.downloads();

    let context = remote.open();
    let at_opening = remote.downloads();
    let kinds = ["config", "keys/", "epochs/"];
    let is_needed = |entry: &&Entry| !kinds.iter().any(|kind| entry.path.starts_with(kind));
    assert_eq!(at_opening.iter().filter(is_needed).collect::<Vec<_>>(), Vec::<&Entry>::new());
    let all = list(&context, second);
    assert!(all.len() > 90, "{all:?}");
    let (before, after) = (snapshot(&context, first), snapshot(&context, second));
    let mut changes = Vec::new();
    let totals = browse::diff(&context, (&before, b""), (&after, b""), &mut |difference| {
        changes.push(difference.path.to_vec());
        Ok(())
    });
    assert_eq!(totals.unwrap().files_changed, 1, "{changes:?}");
    let mut find = browse::Find::default();
    find.add(b"tiny", false).unwrap();
    let mut found = 0;
    browse::find(&context, &after, b"", &find, &mut |_| {
        found += 1;
        Ok(())
    })
    .unwrap();
    assert_eq!(found, 30);
    assert_eq!(remote.of_packs(), Vec::<String>::new());

    remote.back_up(&context);
    assert_eq!(remote.of_packs(), Vec::<String>::new());
    // Each snapshot is read once, and then no more.
    select::list(&context, &select::Filter::default()).unwrap();
    remote.downloads();
    assert_eq!(select::list(&context, &select::Filter::default()).unwrap().snapshots.len(), 3);
    assert_eq!(remote.downloads(), Vec::new());
}

#[test]
fn another_machine_reads_trees_once() {
    let remote = Remote::new();
    let id = remote.back_up(&remote.open_with(None, 0));
    remote.downloads();
    let context = remote.open();
    let before = list(&context, id);
    assert!(!remote.of_packs().is_empty());
    assert_eq!(list(&context, id), before);
    drop(context);
    let context = remote.open();
    assert_eq!(list(&context, id), before);
    remote.back_up(&context);
    assert_eq!(remote.of_packs(), Vec::<String>::new());
}

/// What may lie where a piece should.
fn spoil(path: &Path, other: &Path, how: usize) {
    let bytes = fs::read(path).unwrap();
    match how {
        0 => fs::write(path, &bytes[..bytes.len() / 2]).unwrap(),
        1 => fs::write(path, vec![0; bytes.len()]).unwrap(),
        2 => fs::write(path, bytes.iter().map(|byte| byte ^ 0x55).collect::<Vec<_>>()).unwrap(),
        3 => {
            // Of another pack, sealed under the same key, and as long as this one.
            let mut foreign = fs::read(other).unwrap();
            foreign.resize(bytes.len(), 0);
            fs::write(path, foreign).unwrap();
        }
        4 => {
            fs::remove_file(path).unwrap();
            symlink(other, path).unwrap();
        }
        5 => {
            fs::remove_file(path).unwrap();
            fs::create_dir(path).unwrap();
        }
        _ => fs::remove_file(path).unwrap(),
    }
}

#[test]
fn a_file_of_the_cache_that_lies_is_thrown_away_and_the_store_is_asked() {
    for how in 0..7 {
        let remote = Remote::new();
        remote.back_up(&remote.open());
        remote.vault.write("3/more", &noise(5, 1_000));
        let id = remote.back_up(&remote.open());
        let before = list(&remote.open(), id);
        let pieces = remote.pieces();
        assert_eq!(pieces.len(), 2, "a pack of trees each night");
        for (piece, other) in [(&pieces[0], &pieces[1]), (&pieces[1], &pieces[0])] {
            spoil(piece, other, how);
        }
        remote.downloads();
        let context = remote.open();
        assert_eq!(list(&context, id), before, "{how}");
        assert!(!remote.of_packs().is_empty(), "{how}");
        // Nothing of the repository counts as damaged for it.
        let verified = verify_all(&context).unwrap();
        assert!(!verified.damage && verified.notes.is_empty(), "{how}: {:?}", verified.damages);
        assert!(!context.index.check_packs(&**context.repository.store(), true).unwrap().damaged, "{how}");
        drop(context);
        remote.downloads();
        assert_eq!(list(&remote.open(), id), before, "{how}");
        // A folder in the way of a file stays; all else was replaced.
        assert_eq!(remote.of_packs().is_empty(), how != 5, "{how}");
    }
}

#[test]
fn without_a_cache_or_a_disk_that_takes_it_everything_works() {
    let remote = Remote::new();
    let id = remote.back_up(&remote.open_with(None, 1 << 30));
    let all = list(&remote.open_with(None, 1 << 30), id);
    assert_eq!(list(&remote.open_with(Some(remote.cache.path().to_owned()), 0), id), all);
    assert!(!remote.cache.path().join("metadata").exists());
    // A file where the folder should be: nothing can be kept.
    fs::write(remote.cache.path().join("metadata"), "in the way").unwrap();
    let context = remote.open();
    assert_eq!(list(&context, id), all);
    remote.back_up(&context);
    let notes = remote.seen.notes.lock().unwrap().clone();
    assert_eq!(notes.iter().filter(|note| note.contains("nothing more is kept")).count(), 1, "{notes:?}");
}

#[test]
fn the_cache_stays_within_its_bound_and_what_was_used_last_stays() {
    let remote = Remote::new();
    let mut last = remote.back_up(&remote.open());
    let limit = {
        let bytes: u64 = remote.pieces().iter().map(|path| fs::metadata(path).unwrap().len()).sum();
        2 * bytes
    };
    for night in 0..12 {
        remote.vault.write(&format!("{night}/deep/file"), &noise(500 + night, 2_000));
        let context = remote.open_with(Some(remote.cache.path().to_owned()), limit);
        last = remote.back_up(&context);
        list(&context, last);
        let bytes: u64 = remote.pieces().iter().map(|path| fs::metadata(path).unwrap().len()).sum();
        assert!(bytes <= limit, "night {night}: {bytes} of {limit}");
    }
    let small = remote.open_with(Some(remote.cache.path().to_owned()), 1);
    let all = list(&small, last);
    assert_eq!(all, list(&remote.open_with(None, 0), last));
    // A reader does not mind that another process takes everything away.
    let reader = remote.open();
    list(&reader, last);
    for piece in remote.pieces() {
        fs::remove_file(piece).unwrap();
    }
    assert_eq!(list(&reader, last), all);
}

#[test]
fn packs_that_prune_deleted_leave_the_cache() {
    let remote = Remote::new();
    let first = remote.back_up(&remote.open());
    let other = tempfile::tempdir().unwrap();
    remote.vault.hours(1);
    let second = backup::backup(&remote.open(), &backup_of(other.path()));
    let second = second.unwrap().snapshot.unwrap().id;
    assert_eq!(remote.pieces().len(), 2);
    forget::remove(&remote.open(), first).unwrap();
    assert!(prune_all(&remote.open()).unwrap().packs_deleted > 0);
    let context = remote.open();
    assert_eq!(list(&context, second).len(), list(&remote.open_with(None, 0), second).len());
    let packs: Vec<String> = crate::vault::keys(&remote.vault.store)
        .into_iter()
        .filter(|key| key.area() == Area::Packs)
        .map(|key| key.name().to_owned())
        .collect();
    for piece in remote.pieces() {
        let name = piece.file_name().unwrap().to_string_lossy().into_owned();
        assert!(packs.iter().any(|pack| name.starts_with(pack.as_str())), "{name} is kept of a pack that is gone");
    }
    let kept = fs::read_dir(remote.cache.path().join("objects")).unwrap().count();
    select::list(&context, &select::Filter::default()).unwrap();
    assert!(fs::read_dir(remote.cache.path().join("objects")).unwrap().count() <= kept);
}

#[test]
fn verify_reads_the_store_and_not_the_cache() {
    let remote = Remote::new();
    let id = remote.back_up(&remote.open());
    let context = remote.open();
    let all = list(&context, id);
    let pieces = remote.pieces();
    let name = pieces[0].file_name().unwrap().to_string_lossy().into_owned();
    let pack = keepstone::store::Key::new(Area::Packs, name.split_once('-').unwrap().0);
    let mut bytes = remote.vault.store.get(&pack, u64::MAX).unwrap();
    bytes[40..].iter_mut().step_by(97).for_each(|byte| *byte ^= 1);
    remote.vault.store.replace(&pack, &bytes).unwrap();
    assert_eq!(list(&remote.open(), id), all);
    assert!(verify_all(&remote.open()).unwrap().damage);
}

#[test]
fn of_a_repository_on_this_machine_nothing_is_kept() {
    let remote = Remote::new();
    let store: Arc<dyn ObjectStore> = Arc::new(remote.store.clone());
    let repository = SealedRepository::open(store).unwrap().unlock(&key(), remote.vault.clock.clone()).unwrap();
    let cache = Some(remote.cache.path().to_owned());
    let context = Context::open(repository, cache, remote.seen.clone(), Stop::new()).unwrap().0;
    let id = remote.back_up(&context);
    list(&context, id);
    for name in ["metadata", "objects"] {
        assert!(!remote.cache.path().join(name).exists(), "{name}");
    }
}

#[test]
fn a_series_of_dumps_downloads_its_bases_once() {
    // Each repository has keys of its own and cuts elsewhere. Now and then an edit moves a cut for one night; what was cut
    // before it is then the best base, and is fetched.
    let fetched: usize = (0..8).map(|_| nights_that_fetch_bases()).sum();
    assert!(fetched < 6, "bases were fetched in {fetched} of 16 nights");
}

/// Of the third and the fourth night of a dump.
fn nights_that_fetch_bases() -> usize {
    let remote = Remote::new();
    let mut dump = noise(1, 600_000);
    let (mut grown, mut fetched) = (Vec::new(), 0);
    for night in 0..4u8 {
        // So often that no chunk large enough for a base stays as it was and is in the packs alone.
        dump.chunks_mut(8_000).for_each(|part| part[100..140].fill(night));
        remote.vault.write("dump.sql", &dump);
        remote.vault.hours(1);
        let before = crate::vault::bytes(&remote.vault.store, Area::Packs);
        let options = backup::Options { base_cache_bytes: 64 << 20, ..backup_of(remote.vault.files.path()) };
        backup::backup(&remote.open(), &options).unwrap();
        grown.push(crate::vault::bytes(&remote.vault.store, Area::Packs) - before);
        let downloads = remote.of_packs();
        match night {
            0 => assert_eq!(downloads, Vec::<String>::new()),
            // The first versions of chunks lie in packs alone.
            1 => assert!(!downloads.is_empty() && downloads.len() < 16, "{downloads:?}"),
            _ => fetched += usize::from(!downloads.is_empty()),
        }
    }
    assert!(grown[1..].iter().all(|bytes| *bytes * 8 < grown[0]), "{grown:?}");
    fetched
}
