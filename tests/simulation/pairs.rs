//! Two at once: one does all that it does between two requests of the other, at every such moment in turn; and the
//! interleavings that are known to have killed others.

use super::hook::Hook;
use super::plans::{Act as Do, Files as Folder, HONEST, Plan, does, dump};
use super::turns::Moment::Lists;
use super::turns::Turn::{End, Until};
use crate::vault::{
    Files, Vault, back_up, backup_of, count, files_below, keys, noise, open, prune_all, read_index, restore, verify_all,
};
use keepstone::base::{Clock, SnapshotId};
use keepstone::format::session::SessionKind;
use keepstone::ops::backup::{self, Parent};
use keepstone::ops::{Context, forget, prune};
use keepstone::repo::session::{self, Session};
use keepstone::repo::snapshots;
use keepstone::store::{Area, Crash, Fault, Memory, ObjectStore, Operation};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// A repository with a past, and what its snapshots hold, by the tag that each carries.
struct Story {
    vault: Vault,
    holds: Holds,
    first: SnapshotId,
    /// What the forgotten night held, in another folder: whoever backs that up finds all of it among the garbage.
    old: tempfile::TempDir,
}

/// What the snapshot of a tag holds, and the folder that it is of.
type Holds = BTreeMap<String, (PathBuf, Files)>;

fn hours(clock: &Clock, hours: u64) {
    clock.advance(Duration::from_secs(hours * 3600));
}

fn shared(store: &Memory) -> Arc<dyn ObjectStore> {
    Arc::new(store.clone())
}

fn tagged(folder: &Path, tag: &str) -> backup::Options {
    backup::Options { tags: vec![tag.to_owned()], ..backup_of(folder) }
}

impl Story {
    /// Three nights; the first holds what no other does, and is about to be forgotten. `old` is going to hold it again.
    fn new() -> Story {
        let (vault, old) = (Vault::new(), tempfile::tempdir().unwrap());
        let mut holds = Holds::new();
        vault.write("rare", &noise(50, 50_000));
        for night in 0..3 {
            vault.write("dump.sql", &dump(night));
            vault.write("some", &noise(60 + night, 20_000));
            vault.hours(1);
            let tag = format!("night-{night}");
            backup::backup(&vault.open(), &tagged(vault.files.path(), &tag)).unwrap();
            holds.insert(tag, held_by(vault.files.path()));
            let _ = std::fs::remove_file(vault.files.path().join("rare"));
        }
        vault.hours(1);
        let first = snapshots::list(&vault.open().repository).unwrap().0[0].id;
        std::fs::write(old.path().join("rare"), noise(50, 50_000)).unwrap();
        std::fs::write(old.path().join("dump.sql"), dump(0)).unwrap();
        holds.insert("old".to_owned(), held_by(old.path()));
        Story { vault, holds, first, old }
    }

    /// Backs the old files up without a look at any parent.
    fn back_up_old(&self, store: Arc<dyn ObjectStore>, clock: &Clock) -> backup::Outcome {
        let options = backup::Options { parent: Parent::None, ..tagged(self.old.path(), "old") };
        backup::backup(&open(store, clock).unwrap(), &options).unwrap()
    }
}

fn held_by(folder: &Path) -> (PathBuf, Files) {
    (folder.to_path_buf(), files_below(folder))
}

/// The nights that stay, and the old files.
const ALL: [&str; 3] = ["night-1", "night-2", "old"];

/// Everything that the store holds is what it should be; then prune leaves nothing that is not needed.
fn check(store: &Memory, clock: &Clock, holds: &Holds, tags: &[&str], what: &str) {
    look(store, clock, holds, tags, what);
    hours(clock, 26);
    for _ in 0..2 {
        prune_all(&open(shared(store), clock).unwrap()).unwrap_or_else(|error| panic!("{what}: prune: {error}"));
    }
    assert!(session::condemned_numbers(store).unwrap().is_empty(), "{what}");
    assert_eq!((count(store, Area::Sessions), count(store, Area::Condemned)), (0, 1), "{what}");
    look(store, clock, holds, tags, &format!("{what}, pruned"));
    let context = open(shared(store), clock).unwrap();
    read_index(&context).unwrap_or_else(|error| panic!("{what}: {error}"));
    let options = prune::Options { dry_run: true, max_unused: prune::MaxUnused::Bytes(0), ..prune::Options::default() };
    let left = prune::prune(&context, &options).unwrap();
    assert_eq!((left.packs_deleted, left.unused_bytes), (0, 0), "{what}: {left:?}");
}

fn look(store: &Memory, clock: &Clock, holds: &Holds, tags: &[&str], what: &str) {
    let context = open(shared(store), clock).unwrap();
    let found = verify_all(&context).unwrap();
    assert!(!found.damage, "{what}: {:?}", found.damages);
    let (listed, damaged) = snapshots::list(&context.repository).unwrap();
    assert!(damaged.is_empty(), "{what}");
    let mut there: Vec<&str> = listed.iter().map(|snapshot| &*snapshot.tags[0]).collect();
    there.sort();
    assert_eq!(there, tags, "{what}");
    for snapshot in &listed {
        let (folder, files) = &holds[&snapshot.tags[0]];
        let (outcome, restored) = restore(&context, snapshot.id, folder).unwrap();
        assert!(restored == *files, "{what}: {}: {:?}", snapshot.tags[0], outcome.problems);
    }
}

type Act<'a> = &'a dyn Fn(Arc<dyn ObjectStore>, &Clock);

/// Runs `first`, and at its requests in turn all of `second`; then there is what `holds` says of `tags`.
fn at_every_moment(
    story: &Story,
    holds: &Holds,
    first: Act<'_>,
    second: &(dyn Fn(Arc<dyn ObjectStore>, &Clock) + Send + Sync),
    tags: &[&str],
) -> u64 {
    let every = if std::env::var_os("KEEPSTONE_LONG").is_some() { 1 } else { EVERY };
    let mut moment = 1;
    loop {
        let (store, clock) = story.vault.copy();
        let (inner, time) = (shared(&store), clock.clone());
        let struck = std::thread::scope(|scope| {
            // What is done is done by somebody else: on another thread.
            let (tell, told) = std::sync::mpsc::channel::<()>();
            let (done, finished) = std::sync::mpsc::channel::<()>();
            scope.spawn(move || {
                if told.recv().is_ok() {
                    second(inner, &time);
                    let _ = done.send(());
                }
            });
            let hook = Hook::new(
                shared(&store),
                move |number, _, _| number == moment,
                move || {
                    tell.send(()).unwrap();
                    finished.recv().expect("what is done beside it succeeds");
                },
            );
            first(Arc::new(hook.clone()), &clock);
            hook.has_struck()
        });
        if !struck {
            return moment;
        }
        check(&store, &clock, holds, tags, &format!("at request {moment}"));
        moment += every;
    }
}

/// Not every moment in a usual run: every fifth. Plans try every step.
const EVERY: u64 = 5;

fn forget_and_prune(store: Arc<dyn ObjectStore>, clock: &Clock, id: SnapshotId) -> prune::Outcome {
    let context = open(store, clock).unwrap();
    let _ = forget::remove(&context, id);
    prune_all(&context).unwrap()
}

#[test]
fn a_prune_at_any_moment_of_a_backup_takes_nothing_that_it_counts_on() {
    let story = Story::new();
    let moments = at_every_moment(
        &story,
        &story.holds,
        &|store, clock| drop(story.back_up_old(store, clock)),
        &|store, clock| drop(forget_and_prune(store, clock, story.first)),
        &ALL,
    );
    assert!(moments > 20, "{moments}");
}

#[test]
fn a_backup_at_any_moment_of_a_prune_is_whole() {
    let story = Story::new();
    let moments = at_every_moment(
        &story,
        &story.holds,
        &|store, clock| drop(forget_and_prune(store, clock, story.first)),
        &|store, clock| drop(backup::backup(&open(store, clock).unwrap(), &tagged(story.old.path(), "old")).unwrap()),
        &ALL,
    );
    assert!(moments > 40, "{moments}");
}

#[test]
fn a_writer_that_sleeps_for_a_day_at_any_moment_commits_what_is_whole() {
    let story = Story::new();
    at_every_moment(
        &story,
        &story.holds,
        &|store, clock| drop(story.back_up_old(store, clock)),
        &|store, clock| {
            drop(forget_and_prune(store.clone(), clock, story.first));
            hours(clock, 26);
            prune_all(&open(store, clock).unwrap()).unwrap();
        },
        &ALL,
    );
}

#[test]
fn two_prunes_at_any_moment_of_each_other_never_take_each_others_copies() {
    let mut story = Story::new();
    // The same content twice: two writers at once.
    let (one, two) = (story.vault.open(), story.vault.open());
    let twins = tempfile::tempdir().unwrap();
    std::fs::write(twins.path().join("twin"), noise(90, 60_000)).unwrap();
    for (context, tag) in [(&one, "one"), (&two, "two")] {
        backup::backup(context, &backup::Options { parent: Parent::None, ..tagged(twins.path(), tag) }).unwrap();
        story.holds.insert(tag.to_owned(), held_by(twins.path()));
    }
    at_every_moment(
        &story,
        &story.holds,
        &|store, clock| drop(forget_and_prune(store, clock, story.first)),
        &|store, clock| drop(forget_and_prune(store, clock, story.first)),
        &["night-1", "night-2", "one", "two"],
    );
}

#[test]
fn a_restore_at_any_moment_beside_a_prune_gets_every_byte() {
    let story = Story::new();
    let second = snapshots::list(&story.vault.open().repository).unwrap().0[1].id;
    let (folder, files) = &story.holds["night-1"];
    at_every_moment(
        &story,
        &story.holds,
        &|store, clock| {
            let (outcome, restored) = restore(&open(store, clock).unwrap(), second, folder).unwrap();
            assert!(restored == *files, "{:?}", outcome.problems);
        },
        &|store, clock| drop(forget_and_prune(store, clock, story.first)),
        &["night-1", "night-2"],
    );
}

#[test]
fn a_prune_that_slept_for_a_day_does_no_harm_when_it_wakes_up() {
    let story = Story::new();
    at_every_moment(
        &story,
        &story.holds,
        // Woken up, it may find that all has changed, and fail.
        &|store, clock| {
            let context = open(store, clock).unwrap();
            let _ = forget::remove(&context, story.first);
            let _ = prune_all(&context);
        },
        &|store, clock| {
            hours(clock, 26);
            let again = || open(store.clone(), clock).unwrap();
            backup::backup(&again(), &tagged(story.old.path(), "old")).unwrap();
            prune_all(&again()).unwrap();
            hours(clock, 1);
            prune_all(&again()).unwrap();
        },
        &ALL,
    );
}

/// Opens a session in the way of a prune, condemns what only the first night held, and leaves the record open.
fn leave_open(story: &Story) -> (Context, prune::Waiting) {
    let context = story.vault.open();
    std::mem::forget(Session::begin(&context.repository, SessionKind::Writer, "backup").unwrap());
    let outcome = forget_and_prune(shared(&story.vault.store), &story.vault.clock, story.first);
    (context, outcome.waiting.unwrap())
}

#[test]
fn a_pack_rebuilt_with_equal_content_while_condemned_stays() {
    let story = Story::new();
    let old = &story.old;
    let (_context, waiting) = leave_open(&story);
    let before = keys(&story.vault.store);
    let id = back_up(&story.vault.open(), old.path()).unwrap();
    let stored: Vec<_> = keys(&story.vault.store).into_iter().filter(|key| !before.contains(key)).collect();
    assert!(stored.iter().any(|key| key.area() == Area::Packs), "it counted on what is condemned");
    story.vault.hours(26);
    let outcome = prune_all(&story.vault.open()).unwrap();
    assert!(outcome.packs_deleted >= waiting.packs && outcome.packs_spared == 0, "{outcome:?}");
    let (_, files) = restore(&story.vault.open(), id, old.path()).unwrap();
    assert!(files == files_below(old.path()));
    assert!(!verify_all(&story.vault.open()).unwrap().damage);
}

#[test]
fn a_session_and_a_record_put_in_the_same_second_see_each_other_whichever_came_first() {
    // The clock stands still: only the order of requests tells. Between any two of them see above; here the two that
    // matter, the mark and the look at the records.
    for path in ["sessions/", "condemned", ".seen"] {
        let story = Story::new();
        let (first, (store, clock)) = (story.first, story.vault.copy());
        let (inner, time) = (store.clone(), clock.clone());
        let mut marked = false;
        let hook = Hook::new(
            shared(&store),
            move |_, operation, subject| {
                let strikes = (marked || path == "sessions/") && (subject.starts_with(path) || subject.ends_with(path));
                marked |= operation == Operation::Put && subject.starts_with("sessions/");
                strikes
            },
            move || {
                // Marked, it is waited for; not yet marked, it will see the record, or its end.
                let outcome = forget_and_prune(shared(&inner), &time, first);
                assert_eq!(outcome.waiting.is_none(), path == "sessions/", "{path}: {outcome:?}");
            },
        );
        story.back_up_old(Arc::new(hook.clone()), &clock);
        assert!(hook.has_struck());
        check(&store, &clock, &story.holds, &ALL, path);
    }
}

#[test]
fn a_writer_asleep_between_check_and_commit_commits_anew() {
    for again in [false, true] {
        let story = Story::new();
        let (first, (store, clock)) = (story.first, story.vault.copy());
        let (inner, time) = (store.clone(), clock.clone());
        let hook = Hook::new(
            shared(&store),
            |_, operation, subject| operation == Operation::Put && subject.starts_with("snapshots/"),
            move || {
                hours(&time, 26);
                let outcome = forget_and_prune(shared(&inner), &time, first);
                assert_eq!(outcome.sessions_fenced, 1);
                if again {
                    // Now all that it stored is garbage.
                    prune_all(&open(shared(&inner), &time).unwrap()).unwrap();
                }
            },
        );
        story.back_up_old(Arc::new(hook), &clock);
        let tombstones = snapshots::names(&open(shared(&store), &clock).unwrap().repository).unwrap();
        assert_eq!(tombstones.len(), 4, "the tombstone is still there, and two nights and the old files are");
        check(&store, &clock, &story.holds, &ALL, &format!("{again}"));
    }
}

#[test]
fn a_fenced_writer_whose_packs_are_gone_runs_its_command_again() {
    let story = Story::new();
    let (store, clock) = story.vault.copy();
    let (inner, time) = (store.clone(), clock.clone());
    let hook = Hook::new(
        shared(&store),
        |_, operation, subject| operation == Operation::Put && subject.starts_with("snapshots/"),
        move || {
            for _ in 0..3 {
                hours(&time, 26);
                prune_all(&open(shared(&inner), &time).unwrap()).unwrap();
            }
        },
    );
    let source =
        backup::Source::Stream { name: "stream".to_owned(), kind: backup::StreamKind::Command(vec!["true".into()]) };
    let options = backup::Options { sources: vec![source], ..tagged(story.vault.files.path(), "old") };
    backup::backup(&open(Arc::new(hook.clone()), &clock).unwrap(), &options).unwrap();
    assert!(hook.has_struck());
    let listed = snapshots::list(&open(shared(&store), &clock).unwrap().repository).unwrap().0;
    assert_eq!(listed.iter().filter(|snapshot| snapshot.tags == ["old"]).count(), 1);
}

#[test]
fn an_orphan_delta_whose_base_would_be_swept_keeps_it_or_is_not_counted_on() {
    for crash in [Crash::Before, Crash::After] {
        for change in 3..8 {
            let story = Story::new();
            let (store, clock) = story.vault.copy();
            // A writer stores differences on the first night's dump and dies, before or after they have a segment.
            let next = tempfile::tempdir().unwrap();
            let mut changed = dump(0);
            changed[60_000..60_030].fill(7);
            std::fs::write(next.path().join("dump.sql"), &changed).unwrap();
            let fault = Fault::new(store.clone());
            fault.crash_at(change, crash);
            let context = open(Arc::new(fault), &clock).unwrap();
            let options = backup::Options { parent: Parent::None, ..tagged(next.path(), "next") };
            let done = backup::backup(&context, &options);
            hours(&clock, 2);
            // All nights go, and with them what the differences hang on.
            let again = || open(shared(&store), &clock).unwrap();
            for id in snapshots::names(&again().repository).unwrap() {
                if done.is_err() {
                    forget::remove(&again(), id).unwrap();
                }
            }
            if done.is_ok() {
                continue;
            }
            prune_all(&again()).unwrap();
            hours(&clock, 25);
            prune_all(&again()).unwrap();
            let id = back_up(&again(), next.path()).unwrap();
            let (outcome, files) = restore(&again(), id, next.path()).unwrap();
            assert!(files == files_below(next.path()), "{crash:?} {change}: {:?}", outcome.problems);
            assert!(!verify_all(&again()).unwrap().damage);
            prune_all(&again()).unwrap();
            read_index(&again()).unwrap();
        }
    }
}

#[test]
fn a_merge_that_brings_dead_entries_back_is_not_believed() {
    // Of two prunes one merges segments and dies, or comes too late, after the other has condemned what they name.
    for change in 2..10 {
        let story = Story::new();
        let (first, (store, clock)) = (story.first, story.vault.copy());
        let again = || open(shared(&store), &clock).unwrap();
        forget::remove(&again(), first).unwrap();
        let fault = Fault::new(store.clone());
        let (inner, time) = (store.clone(), clock.clone());
        let hook = Hook::new(
            Arc::new(fault.clone()),
            |_, operation, subject| operation == Operation::Put && subject.starts_with("condemned/"),
            move || drop(prune_all(&open(shared(&inner), &time).unwrap()).unwrap()),
        );
        let context = open(Arc::new(hook), &clock).unwrap();
        fault.crash_at(fault.changes() + change, Crash::After);
        let _ = prune_all(&context);
        hours(&clock, 26);
        prune_all(&again()).unwrap();
        let old = &story.old;
        let id = back_up(&again(), old.path()).unwrap();
        let (outcome, files) = restore(&again(), id, old.path()).unwrap();
        assert!(files == files_below(old.path()), "{change}: {:?}", outcome.problems);
        assert!(!verify_all(&again()).unwrap().damage, "{change}");
        prune_all(&again()).unwrap();
        assert!(!verify_all(&again()).unwrap().damage, "{change}");
    }
}

#[test]
fn a_blob_that_is_stored_again_on_what_hangs_on_it_keeps_its_whole_copy() {
    // The record is put between the writer's looks at segments and at records: it knows nothing of the copies, and that
    // what they were copied from is void. The later nights hang on the first, which it stores again: on a later one.
    let plan = Plan {
        clients: vec![does([Do::BackUp("old", Folder::Old)]), does([Do::Forget("night-0"), Do::Prune])],
        turns: vec![Until(0, Lists("snapshots")), Until(0, Lists("condemned")), End(1), End(0)],
    };
    let tried = plan.try_out(HONEST);
    assert!(tried.last.trace.iter().filter(|line| line.starts_with("0 Finish packs/")).count() > 1, "it stores again");
    assert_eq!(tried.story(), None);
}

#[test]
fn a_tag_beside_a_prune_keeps_what_the_old_snapshot_held() {
    let mut story = Story::new();
    let second = snapshots::list(&story.vault.open().repository).unwrap().0[1].id;
    let night = story.holds["night-1"].clone();
    story.holds.insert("gold".to_owned(), night);
    at_every_moment(
        &story,
        &story.holds,
        &|store, clock| {
            let change = keepstone::ops::tag::Change::Set(vec!["gold".to_owned()]);
            keepstone::ops::tag::tag(&open(store, clock).unwrap(), &[second], &change).unwrap();
        },
        &|store, clock| drop(forget_and_prune(store, clock, story.first)),
        &["gold", "night-2"],
    );
}
