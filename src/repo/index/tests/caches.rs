//! The local file: made anew when it cannot be used, shared, and never half changed.

use super::super::cache::FILE_NAME;
use super::*;
use crate::format::segment::{Entry, FrameRow, PackRow};
use std::os::unix::fs::PermissionsExt;

fn world_with_one_blob() -> World {
    let world = World::new();
    world.save(&mut contents(&[(pack_id(1), directory(&[id(1)], 5))]));
    world
}

#[test]
fn a_damaged_foreign_or_newer_cache_is_made_anew() {
    let world = world_with_one_blob();
    type Spoil = fn(&Path);
    let spoils: [(&str, Spoil); 6] = [
        ("nonsense", |path| std::fs::write(path, [1; 10_000]).unwrap()),
        ("truncated", |path| {
            let bytes = std::fs::read(path).unwrap();
            std::fs::write(path, &bytes[..bytes.len() / 2]).unwrap();
        }),
        ("another repository", |path| {
            let connection = rusqlite::Connection::open(path).unwrap();
            connection.execute("UPDATE meta SET value = zeroblob(32) WHERE name = 'repository'", []).unwrap();
        }),
        ("newer", |path| {
            let connection = rusqlite::Connection::open(path).unwrap();
            connection.pragma_update(None, "user_version", 99).unwrap();
        }),
        ("another program's", |path| {
            std::fs::remove_file(path).unwrap();
            let connection = rusqlite::Connection::open(path).unwrap();
            connection.execute_batch("CREATE TABLE \"its \"\" own\" (a); CREATE VIEW v AS SELECT 1").unwrap();
        }),
        ("tables missing", |path| {
            let connection = rusqlite::Connection::open(path).unwrap();
            connection.execute_batch("DROP TABLE packs").unwrap();
        }),
    ];
    for (what, spoil) in spoils {
        let folder = tempfile::tempdir().unwrap();
        let (index, opened) = world.open(Some(folder.path()));
        assert_eq!((opened.loaded.len(), opened.rebuilt), (1, None), "{what}");
        drop(index);
        spoil(&folder.path().join(FILE_NAME));
        let (index, opened) = world.open(Some(folder.path()));
        assert!(opened.rebuilt.is_some() && opened.notes.is_empty(), "{what}: {opened:?}");
        assert_eq!(opened.loaded.len(), 1, "{what}");
        assert!(index.contains(&id(1)).unwrap(), "{what}");
    }
}

#[test]
fn only_its_owner_can_read_the_cache() {
    let world = world_with_one_blob();
    let folder = tempfile::tempdir().unwrap();
    let _index = world.open(Some(&folder.path().join("made/for it")));
    for file in folder.path().join("made/for it").read_dir().unwrap() {
        let file = file.unwrap();
        assert_eq!(file.metadata().unwrap().permissions().mode() & 0o777, 0o600, "{:?}", file.path());
    }
}

#[test]
fn where_no_file_can_be_kept_a_temporary_one_serves_and_is_spoken_of() {
    let world = world_with_one_blob();
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("file"), b"in the way").unwrap();
    let (index, opened) = world.open(Some(&folder.path().join("file/below")));
    assert_eq!(opened.notes.len(), 1, "{:?}", opened.notes);
    assert!(index.contains(&id(1)).unwrap());
}

#[test]
fn segments_that_are_gone_take_their_packs_along() {
    let world = World::new();
    let folder = tempfile::tempdir().unwrap();
    let one = world.save(&mut contents(&[(pack_id(1), directory(&[id(1)], 5))]));
    world.save(&mut contents(&[(pack_id(2), directory(&[id(2)], 5))]));
    drop(world.open(Some(folder.path())));
    world.delete(one);
    let (index, opened) = world.open(Some(folder.path()));
    assert_eq!((opened.packs_dropped, opened.loaded.len()), (1, 0));
    assert!(!index.contains(&id(1)).unwrap() && index.contains(&id(2)).unwrap());
    assert!(index.places(&id(1)).unwrap().is_empty() && index.last_places(&id(1)).unwrap().is_empty());
    assert_eq!(index.blobs().unwrap(), 1);
}

#[test]
fn two_processes_share_one_file_and_each_sees_what_the_other_stored() {
    let world = world_with_one_blob();
    let folder = tempfile::tempdir().unwrap();
    let (first, _) = world.open(Some(folder.path()));
    let (second, opened) = world.open(Some(folder.path()));
    assert_eq!(opened.loaded.len(), 0);
    for number in 2..300 {
        let (writer, reader) = if number % 2 == 0 { (&first, &second) } else { (&second, &first) };
        assert_eq!(writer.claim(&id(number)).unwrap(), Claim::Yours);
        let mut stored = contents(&[(pack_id(number), directory(&[id(number)], 5))]);
        let segment = world.save(&mut stored);
        writer.add(segment, &stored).unwrap();
        assert!(writer.contains(&id(number)).unwrap());
        // What another process stores is seen at the latest with one's own next change.
        reader.finish_run().unwrap();
        assert!(reader.contains(&id(number)).unwrap(), "{number}");
    }
    assert!((1..300).all(|number| first.contains(&id(number)).unwrap() && second.contains(&id(number)).unwrap()));
    let (third, opened) = world.open(Some(folder.path()));
    assert_eq!((opened.loaded.len(), third.blobs().unwrap()), (0, 299));
}

/// Rows that fail, as if the process were killed, after some entries.
struct Broken<'a>(add::OwnRows<'a>, usize);

impl add::SegmentRows for Broken<'_> {
    fn condemned_seen(&self) -> u64 {
        self.0.condemned_seen()
    }
    fn proven(&self) -> bool {
        self.0.proven()
    }
    fn previous(&self) -> Vec<SegmentId> {
        self.0.previous()
    }
    fn keys(&self) -> Vec<KeyId> {
        self.0.keys()
    }
    fn entries(&self) -> u64 {
        self.0.entries()
    }
    fn next_pack(&mut self) -> Result<Option<PackRow>> {
        self.0.next_pack()
    }
    fn next_frame(&mut self) -> Result<Option<FrameRow>> {
        self.0.next_frame()
    }
    fn next_entry(&mut self) -> Result<Option<Entry>> {
        match self.1.checked_sub(1) {
            Some(left) => {
                self.1 = left;
                self.0.next_entry()
            }
            None => Err(crate::repo::Error::Internal("killed".to_owned())),
        }
    }
    fn finish(self) -> Result<()> {
        Ok(())
    }
}

#[test]
fn an_addition_that_breaks_off_leaves_the_old_state() {
    let world = World::new();
    let folder = tempfile::tempdir().unwrap();
    let (index, _) = world.open(Some(folder.path()));
    let mut old = contents(&[(pack_id(1), directory(&(0..50).map(id).collect::<Vec<_>>(), 5))]);
    let segment = world.save(&mut old);
    index.add(segment, &old).unwrap();
    // Enough for a merge into the next level.
    let mut new = contents(&[(pack_id(2), directory(&(50..250).map(id).collect::<Vec<_>>(), 5))]);
    new.sort();
    for after in [0, 1, 100, 199] {
        let broken = Broken(add::OwnRows::new(&new, 0, Vec::new()), after);
        add::add(&mut index.state().cache, SegmentId([5; 32]), broken).unwrap_err();
        assert!((0..50).all(|number| index.contains(&id(number)).unwrap()));
        assert!((50..250).all(|number| !index.contains(&id(number)).unwrap()));
        assert_eq!(index.blobs().unwrap(), 50);
    }
    let segment = world.save(&mut new);
    index.add(segment, &new).unwrap();
    assert!((0..250).all(|number| index.contains(&id(number)).unwrap()));
}

#[test]
fn a_process_that_dies_within_a_change_leaves_the_old_state() {
    let world = world_with_one_blob();
    let folder = tempfile::tempdir().unwrap();
    let (index, _) = world.open(Some(folder.path()));
    {
        let mut state = index.state();
        state.cache.end_read().unwrap();
        let connection = &state.cache.connection;
        connection.execute_batch("BEGIN IMMEDIATE; DELETE FROM packs; DELETE FROM segments").unwrap();
    }
    drop(index);
    let (index, opened) = world.open(Some(folder.path()));
    assert_eq!((opened.loaded.len(), opened.rebuilt), (0, None));
    assert!(index.contains(&id(1)).unwrap());
}
