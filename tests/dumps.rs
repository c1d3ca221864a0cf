//! Databases and commands as sources of a backup: consistent, parallel, alone in their failures.

mod fake;
mod mysql;
mod postgres;
mod program;
mod proof;

use crate::vault::{
    Vault, backup_of, bytes, files_below, noise, open, prune_all, read_everything, restore, verify_all,
};
use fake::{Fake, Fault};
use keepstone::base::monitor::Remember;
use keepstone::base::{Event, Kind, Monitor, Pace, SnapshotId, Stop};
use keepstone::format::snapshot::Snapshot;
use keepstone::ops::backup::{Limits, Options, Outcome, Parent, Source, backup};
use keepstone::ops::{Context, Error, dumps, forget, restore as restoring};
use keepstone::store::{Area, Crash, Fault as StoreFault, ObjectStore};
use keepstone::target::dump::StoredDump;
use std::io::Read;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

/// A backup of these sources that waits for nothing longer than it must.
fn options(sources: Vec<Source>) -> Options {
    let limits = Limits { first_wait: Duration::from_millis(1), ..Limits::default() };
    Options { sources, limits, ..backup_of(Path::new("/")) }
}

fn command(name: &str, line: &str) -> Source {
    Source::Command { name: name.to_owned(), command: line.to_owned() }
}

/// Tables that do not compress; `night` changes a hundredth of each.
fn tables(count: usize, length: usize, night: u64) -> Vec<(String, Vec<u8>)> {
    let table = |number: usize| {
        let mut rows = noise(number as u64 + 1, length);
        for change in 0..night {
            let seed = change * 1000 + number as u64;
            let at = (seed as usize * 7919) % (length - length / 100);
            rows[at..at + length / 100].copy_from_slice(&noise(seed + 77, length / 100));
        }
        (format!("tables/public.t{number}"), rows)
    };
    (0..count).map(table).collect()
}

fn shop(night: u64) -> Fake {
    Fake::new("shop", tables(4, 200_000, night))
}

/// Backs up an hour later; gives the outcome and what was told.
fn back_up(vault: &Vault, options: &Options) -> (keepstone::ops::Result<Outcome>, Arc<Remember>) {
    vault.hours(1);
    let told = Arc::new(Remember::default());
    let context = watched(vault, told.clone(), Stop::new());
    (backup(&context, options), told)
}

fn watched(vault: &Vault, monitor: Arc<dyn Monitor>, stop: Stop) -> Context {
    let context = vault.open();
    Context {
        repository: context.repository,
        index: context.index,
        cache_dir: None,
        monitor,
        stop,
        pace: Pace::default(),
    }
}

fn done(vault: &Vault, sources: Vec<Source>) -> Snapshot {
    let outcome = back_up(vault, &options(sources)).0.unwrap();
    assert_eq!(outcome.problems, []);
    outcome.snapshot.unwrap()
}

/// The files of a dump as they are restored.
fn restored(vault: &Vault, id: SnapshotId, place: &str) -> crate::vault::Files {
    let (outcome, mut files) = restore(&vault.open(), id, Path::new(place)).unwrap();
    assert_eq!(outcome.problem_count, 0, "{:?}", outcome.problems);
    files.remove("manifest.json");
    files
}

fn expected(tables: Vec<(String, Vec<u8>)>) -> crate::vault::Files {
    tables.into_iter().collect()
}

#[test]
fn databases_commands_and_files_lie_in_one_snapshot_and_come_back_as_they_were() {
    let vault = Vault::new();
    vault.write("a/file", b"of the house");
    let small = vec![("pre-data".to_owned(), b"create table a ();".to_vec()), ("tables/empty".to_owned(), Vec::new())];
    let sources = vec![
        Source::Path(vault.files.path().to_owned()),
        shop(0).source(),
        Fake::new("shop", small.clone()).mysql().source(),
        command("words", "printf 'one two'; echo said >&2"),
        command("numbers", "seq 1 100000"),
    ];
    let snapshot = done(&vault, sources);
    assert!(!snapshot.partial);
    assert_eq!(snapshot.kinds, ["command", "db", "files"]);
    let dumps: Vec<_> = snapshot.dumps.iter().map(|dump| String::from_utf8_lossy(&dump.path.0).into_owned()).collect();
    assert_eq!(dumps, ["/@mysql/shop", "/@postgres/shop"]);
    assert_eq!((snapshot.dumps[1].tables, snapshot.dumps[1].rows), (4, 8000));
    let streams: Vec<_> = snapshot.streams.iter().map(|stream| (stream.status, stream.bytes)).collect();
    assert_eq!(streams, [(Some(0), 588_895), (Some(0), 7)]);
    assert_eq!(snapshot.streams[1].errors.0, b"said\n");
    assert!(snapshot.paths.iter().any(|path| path.0 == b"/@postgres/shop"));
    let id = snapshot.id;
    assert_eq!(restored(&vault, id, "/@postgres/shop"), expected(tables(4, 200_000, 0)));
    assert_eq!(restored(&vault, id, "/@mysql/shop"), expected(small));
    assert_eq!(restored(&vault, id, "/@command")["words"], b"one two");
    assert_eq!(restored(&vault, id, vault.files.path().to_str().unwrap()), files_below(vault.files.path()));
    let found = verify_all(&vault.open()).unwrap();
    assert!(!found.damage, "{:?}", found.damages);
}

#[test]
fn the_streams_of_a_stored_dump_are_read_by_their_paths() {
    let vault = Vault::new();
    let snapshot = done(&vault, vec![shop(0).source()]);
    let context = vault.open();
    let mut entries = dumps::dumps_of(&context, &snapshot).unwrap();
    assert_eq!(entries.len(), 1);
    let entry = entries.remove(0);
    assert_eq!((entry.path.as_slice(), entry.manifest.database.as_str()), (b"/@postgres/shop".as_slice(), "shop"));
    let stored = dumps::stored(&context, &snapshot, entry).unwrap();
    for (path, rows) in tables(4, 200_000, 0) {
        let mut read = Vec::new();
        stored.open(&path).unwrap().read_to_end(&mut read).unwrap();
        assert_eq!(read, rows);
    }
    // Somebody who has seen enough.
    stored.open("tables/public.t1").unwrap().read_exact(&mut [0; 10]).unwrap();
    for path in ["tables/none", "tables", "pre-data", ""] {
        let error = stored.open(path).err().unwrap();
        assert_eq!(error.kind(), std::io::ErrorKind::NotFound, "{path}: {error}");
    }
}

#[test]
fn a_stream_that_is_damaged_fails_and_does_not_just_end() {
    let vault = Vault::new();
    let snapshot = done(&vault, vec![shop(0).source()]);
    let context = vault.open();
    let entry = dumps::dumps_of(&context, &snapshot).unwrap().remove(0);
    let stored = dumps::stored(&context, &snapshot, entry).unwrap();
    let mut failed = 0;
    for key in crate::vault::keys(&vault.store).into_iter().filter(|key| key.area() == Area::Packs) {
        let mut pack = vault.store.get(&key, u64::MAX).unwrap();
        for place in (64..pack.len() / 2).step_by(1000) {
            pack[place] ^= 1;
        }
        vault.store.replace(&key, &pack).unwrap();
    }
    for (path, _) in tables(4, 200_000, 0) {
        let read = stored.open(&path).and_then(|mut stream| stream.read_to_end(&mut Vec::new()));
        failed += u32::from(read.is_err());
    }
    assert!(failed > 0);
}

#[test]
fn a_night_stores_the_difference_and_what_did_not_change_keeps_its_node() {
    let vault = Vault::new();
    let first = done(&vault, vec![shop(0).source(), command("words", "echo same")]);
    let mut tables_now = tables(4, 200_000, 0);
    for place in (3000..200_000).step_by(20_000) {
        tables_now[2].1[place..place + 20].fill(7);
    }
    let second = done(&vault, vec![Fake::new("shop", tables_now.clone()).source(), command("words", "echo same")]);
    assert_eq!(second.parent, Some(first.id));
    let totals = &second.totals;
    assert_eq!((totals.files, totals.files_new, totals.files_changed), (6, 0, 1), "{totals:?}");
    assert_eq!(totals.bytes_read, first.totals.bytes_read);
    assert!(totals.bytes_delta > 100_000 && totals.stored_delta * 10 < totals.bytes_delta, "{totals:?}");
    assert!(totals.added * 10 < first.totals.added, "{} of {}", totals.added, first.totals.added);
    assert_eq!(restored(&vault, second.id, "/@postgres/shop"), expected(tables_now));
    let context = vault.open();
    let node = |snapshot: &Snapshot, path: &[u8]| keepstone::ops::browse::resolve(&context, snapshot, path).unwrap();
    let same = b"/@postgres/shop/tables/public.t1";
    assert_eq!(node(&first, same), node(&second, same));
    assert_eq!(node(&first, b"/@command"), node(&second, b"/@command"));
    assert_ne!(node(&first, b"/@postgres/shop/tables"), node(&second, b"/@postgres/shop/tables"));
}

#[test]
fn a_partition_that_is_new_hangs_on_the_one_that_is_gone() {
    let vault = Vault::new();
    let rows = noise(5, 300_000);
    let mut later = rows.clone();
    later[150_000..150_050].fill(1);
    // Cut to a stream that has no marks in common with the other at its ends.
    done(&vault, vec![Fake::new("log", vec![("events_2025_03".to_owned(), rows)]).source()]);
    let second = done(&vault, vec![Fake::new("log", vec![("events_2025_04".to_owned(), later)]).source()]);
    assert_eq!(second.totals.files_changed, 2, "{:?}", second.totals);
    assert!(second.totals.bytes_new < 200_000, "{:?}", second.totals);
}

#[test]
fn a_database_that_fails_is_named_and_the_others_are_backed_up() {
    let cases = [
        (Fault::Begin(Kind::Denied), "db:5432, database bad: connection refused"),
        (Fault::Stream(1, Kind::Source), "server closed the connection"),
        (Fault::Finish(Kind::Source), "the schema changed meanwhile"),
        (Fault::Lies, "its manifest says that tables/public.t0 has 200001 bytes, but 200000 bytes came of it"),
        (Fault::Panics(2), "ended in a panic"),
    ];
    for (fault, said) in cases {
        let vault = Vault::new();
        let first = done(&vault, vec![shop(0).source()]);
        let bad = Fake::new("bad", tables(3, 200_000, 0)).wrong(&[fault]);
        let (outcome, told) = back_up(&vault, &options(vec![bad.source(), shop(1).source()]));
        let outcome = outcome.unwrap();
        let snapshot = outcome.snapshot.unwrap();
        assert!(snapshot.partial && outcome.problem_count == 1, "{fault:?}");
        let problem = &outcome.problems[0];
        assert!(problem.message.starts_with("@postgres/bad was not backed up: "), "{}", problem.message);
        assert!(problem.message.contains(said), "{fault:?}: {}", problem.message);
        assert_eq!((problem.kind, problem.subject.as_str()), (Kind::Source, "@postgres/bad"));
        assert_eq!(told.problems.lock().unwrap().len(), 1);
        assert_eq!((bad.begun.load(Ordering::SeqCst), snapshot.dumps.len()), (1, 1), "{fault:?}");
        assert_eq!(restored(&vault, snapshot.id, "/@postgres/bad"), expected(Vec::new()));
        assert_eq!(restored(&vault, snapshot.id, "/@postgres/shop"), expected(tables(4, 200_000, 1)));
        assert_eq!(restored(&vault, first.id, "/@postgres/shop"), expected(tables(4, 200_000, 0)));
        assert!(!verify_all(&vault.open()).unwrap().damage);
    }
}

#[test]
fn a_database_that_cannot_fit_is_refused_before_it_is_read_unless_somebody_insists() {
    let vault = Vault::new();
    let (store, clock) = vault.copy();
    let fault = StoreFault::new(store);
    fault.full_after(3 << 20);
    let context = open(Arc::new(fault), &clock).unwrap();
    let large = || Fake::new("large", tables(2, 50_000, 0)).claiming(16 << 20);
    let both = options(vec![large().source(), Fake::new("small", tables(2, 50_000, 0)).source()]);
    let outcome = backup(&context, &both).unwrap();
    assert!(outcome.snapshot.unwrap().partial);
    let said = &outcome.problems[0].message;
    assert!(said.contains("@postgres/large was not backed up") && said.contains("3.0 MiB are free"), "{said}");
    assert!(said.contains("about 32.") && said.contains("--ignore-free-space"), "{said}");
    let alone = options(vec![large().source()]);
    assert!(matches!(backup(&context, &alone), Err(Error::NothingRead(..))));
    let limits = Limits { ignore_free_space: true, ..alone.limits.clone() };
    let outcome = backup(&context, &Options { limits, ..alone }).unwrap();
    assert!(!outcome.snapshot.unwrap().partial);
}

#[test]
fn without_any_good_source_there_is_no_snapshot() {
    let vault = Vault::new();
    let first = done(&vault, vec![shop(0).source()]);
    let bad = shop(1).wrong(&[Fault::Stream(0, Kind::Source)]);
    let (outcome, _) = back_up(&vault, &options(vec![bad.source(), command("false", "echo no >&2; exit 3")]));
    let error = outcome.unwrap_err();
    assert_eq!(error.kind(), Kind::Source);
    let Error::NothingRead(text, problems) = error else { panic!("{error}") };
    assert!(text.contains("so there is no snapshot"), "{text}");
    assert_eq!(problems.len(), 2);
    assert_eq!(keepstone::repo::snapshots::names(&vault.open().repository).unwrap(), [first.id]);
    assert_eq!(restored(&vault, first.id, "/@postgres/shop"), expected(tables(4, 200_000, 0)));
}

#[test]
fn what_may_pass_is_tried_again_and_each_try_is_told() {
    let vault = Vault::new();
    let gone = Kind::Unavailable;
    let good = shop(0).wrong(&[Fault::Begin(gone), Fault::Stream(3, gone)]);
    let (outcome, told) = back_up(&vault, &options(vec![good.source()]));
    let outcome = outcome.unwrap();
    assert_eq!((outcome.problem_count, good.begun.load(Ordering::SeqCst)), (0, 3));
    let notes = told.notes.lock().unwrap().join("\n");
    assert!(notes.contains("@postgres/shop: attempt 1 of 3 failed") && notes.contains("attempt 2 of 3"), "{notes}");
    assert_eq!(restored(&vault, outcome.snapshot.unwrap().id, "/@postgres/shop"), expected(tables(4, 200_000, 0)));

    let bad = shop(0).wrong(&[Fault::Begin(gone); 4]);
    let (outcome, _) = back_up(&vault, &options(vec![bad.source(), command("good", "echo")]));
    let problem = outcome.unwrap().problems.remove(0);
    assert!(problem.message.ends_with("connection refused (tried 3 times)"), "{}", problem.message);
    assert_eq!(bad.begun.load(Ordering::SeqCst), 3);
}

#[test]
fn a_source_that_takes_too_long_is_stopped_and_named() {
    let vault = Vault::new();
    let slow = || Fake::new("slow", tables(3, 50_000, 0)).wrong(&[Fault::Hangs(1)]).source();
    let sources = || vec![slow(), shop(0).source(), command("good", "echo good"), command("silent", "sleep 1000")];
    let mut with = options(sources());
    with.limits = Limits { source_timeout: Duration::from_millis(300), max_parallel: 2, ..with.limits };
    let outcome = back_up(&vault, &with).0.unwrap();
    let mut said: Vec<_> = outcome.problems.iter().map(|problem| problem.message.as_str()).collect();
    said.sort_unstable();
    assert_eq!(said.len(), 2, "{said:?}");
    assert!(said[0].starts_with("@command/silent was not backed up: it took longer than 0.3 s"), "{said:?}");
    assert!(said[1].starts_with("@postgres/slow was not backed up: it took longer than 0.3 s"), "{said:?}");
    let snapshot = outcome.snapshot.unwrap();
    assert!(snapshot.partial);
    assert_eq!(restored(&vault, snapshot.id, "/@postgres/shop"), expected(tables(4, 200_000, 0)));
    assert_eq!(restored(&vault, snapshot.id, "/@command")["good"], b"good\n");

    // All together: whoever had not begun is named as well.
    let mut with = options(vec![command("good", "echo good"), slow(), command("late", "echo late")]);
    with.limits = Limits { timeout: Some(Duration::from_millis(300)), max_parallel: 1, ..with.limits };
    let outcome = back_up(&vault, &with).0.unwrap();
    let said: Vec<_> = outcome.problems.iter().map(|problem| problem.message.as_str()).collect();
    assert_eq!(said.len(), 2, "{said:?}");
    assert!(said[0].contains("@postgres/slow") && said[0].contains("--timeout"), "{said:?}");
    assert!(said[1].contains("@command/late") && said[1].contains("--timeout"), "{said:?}");
}

#[test]
fn a_command_that_fails_leaves_its_status_and_last_words() {
    let vault = Vault::new();
    let sources = vec![
        command("bad", "head -c 100000 /dev/zero; echo disk on fire >&2; exit 7"),
        command("good", "echo good | tr o 0"),
        command("killed", "kill -9 $$"),
    ];
    let outcome = back_up(&vault, &options(sources)).0.unwrap();
    let snapshot = outcome.snapshot.unwrap();
    assert!(snapshot.partial);
    let statuses: Vec<_> = snapshot.streams.iter().map(|stream| stream.status).collect();
    assert_eq!(statuses, [Some(7), Some(0), None]);
    assert_eq!(snapshot.streams[0].errors.0, b"disk on fire\n");
    let said: Vec<_> = outcome.problems.iter().map(|problem| problem.message.clone()).collect();
    assert!(
        said.contains(
            &"@command/bad was not backed up: its command ended with exit status: 7: disk on fire".to_owned()
        ),
        "{said:?}"
    );
    let files = restored(&vault, snapshot.id, "/@command");
    assert_eq!(files.keys().collect::<Vec<_>>(), ["good"]);
    assert_eq!(files["good"], b"g00d\n");
}

#[test]
fn as_many_sources_and_streams_are_read_at_once_as_were_asked_for() {
    let vault = Vault::new();
    let one = Fake::new("one", tables(12, 100_000, 0)).workers(3);
    done(&vault, vec![one.source()]);
    assert!((1..=3).contains(&one.most_open.load(Ordering::SeqCst)));
    let lonely = Fake::new("lonely", tables(6, 100_000, 0)).workers(1);
    done(&vault, vec![lonely.source()]);
    assert_eq!(lonely.most_open.load(Ordering::SeqCst), 1);
    // Each waits for the other: only together they come to an end.
    let folder = vault.files.path().display();
    let meet = |me: &str, other: &str| {
        command(me, &format!("cd {folder}; touch {me}; until [ -e {other} ]; do sleep 0.01; done"))
    };
    let mut with = options(vec![meet("a", "b"), meet("b", "a")]);
    with.limits.source_timeout = Duration::from_secs(60);
    assert_eq!(back_up(&vault, &with).0.unwrap().problem_count, 0);
}

#[test]
fn three_thousand_tables_are_no_trouble() {
    let vault = Vault::new();
    let table = |number: u64| (format!("tables/public.table_{number}"), noise(number + 1, (number % 40) as usize * 37));
    let many: Vec<_> = (0..3000).map(table).collect();
    let first = done(&vault, vec![Fake::new("many", many.clone()).workers(4).source()]);
    assert_eq!(first.dumps[0].tables, 3000);
    let second = done(&vault, vec![Fake::new("many", many.clone()).workers(4).source()]);
    assert_eq!((second.totals.files, second.totals.files_new, second.totals.files_changed), (3001, 0, 0));
    assert_eq!(restored(&vault, second.id, "/@postgres/many"), expected(many));
}

/// Asks to stop when so many bytes have come.
/// Stops when so many tables have come to their end: what was only read by then need not have been stored.
struct StopsAfter {
    tables: std::sync::atomic::AtomicU64,
    stop: Stop,
}

impl Monitor for StopsAfter {
    fn event(&self, event: Event<'_>) {
        if let Event::Done { items: 1, .. } = event
            && self.tables.fetch_add(1, Ordering::SeqCst) == 1
        {
            self.stop.raise();
        }
    }
}

#[test]
fn an_interrupted_dump_keeps_what_is_stored_and_the_next_run_uses_it() {
    let vault = Vault::new();
    let stop = Stop::new();
    let monitor = Arc::new(StopsAfter { tables: Default::default(), stop: stop.clone() });
    let stopped =
        backup(&watched(&vault, monitor, stop), &options(vec![shop(0).source(), command("silent", "sleep 1000")]));
    assert_eq!(stopped.unwrap_err().kind(), Kind::Interrupted);
    let again = done(&vault, vec![shop(0).source()]);
    assert!(again.totals.bytes_new + 350_000 < again.totals.bytes_read, "{:?}", again.totals);
    assert_eq!(restored(&vault, again.id, "/@postgres/shop"), expected(tables(4, 200_000, 0)));
}

#[test]
fn a_night_after_a_failed_one_still_finds_its_bases() {
    let vault = Vault::new();
    done(&vault, vec![shop(0).source(), command("a", "echo")]);
    let bad = shop(1).wrong(&[Fault::Begin(Kind::Denied)]);
    back_up(&vault, &options(vec![bad.source(), command("a", "echo")])).0.unwrap();
    let third = done(&vault, vec![shop(0).source(), command("a", "echo")]);
    assert_eq!((third.totals.files_new, third.totals.files_changed), (0, 0), "{:?}", third.totals);
}

#[test]
fn an_earlier_night_that_is_damaged_is_told_and_takes_nothing_from_this_one() {
    let vault = Vault::new();
    done(&vault, vec![shop(0).source()]);
    for key in crate::vault::keys(&vault.store).into_iter().filter(|key| key.area() == Area::Packs) {
        let mut pack = vault.store.get(&key, u64::MAX).unwrap();
        for place in (40..pack.len() - 40).step_by(200) {
            pack[place] ^= 1;
        }
        vault.store.replace(&key, &pack).unwrap();
    }
    let others: Vec<_> =
        (0..5).map(|number| (format!("tables/public.t{number}"), noise(500 + number, 90_000))).collect();
    let (outcome, _) = back_up(&vault, &options(vec![Fake::new("shop", others.clone()).source()]));
    let outcome = outcome.unwrap();
    assert!(!outcome.damages.is_empty() && outcome.problem_count == 0, "{:?}", outcome.damages);
    let message = &outcome.damages[0].message;
    assert!(message.starts_with("cannot read /@postgres/shop"), "{message}");
    let id = outcome.snapshot.unwrap().id;
    assert_eq!(restored(&vault, id, "/@postgres/shop"), expected(others));
}

#[test]
fn two_sources_cannot_have_one_place() {
    let vault = Vault::new();
    let usage = |sources: Vec<Source>| {
        let error = back_up(&vault, &options(sources)).0.unwrap_err();
        assert_eq!(error.kind(), Kind::Usage, "{error}");
        error.to_string()
    };
    let said = usage(vec![shop(0).source(), shop(1).source()]);
    assert_eq!(said, "two sources would be @postgres/shop in the snapshot: give each a name of its own, NAME=URL");
    assert!(usage(vec![command("a", "echo"), command("a", "echo")]).contains("NAME=COMMAND"));
    assert!(usage(vec![command("a/b", "echo")]).contains("a/b"));
    assert!(usage(vec![Fake::new("..", Vec::new()).source()]).contains("NAME=URL"));
    assert_eq!(done(&vault, vec![shop(0).source(), shop(0).mysql().source()]).dumps.len(), 2);
}

#[test]
fn a_path_that_lies_where_databases_lie_is_a_problem_and_not_lost_in_silence() {
    let vault = Vault::new();
    let outcome =
        back_up(&vault, &options(vec![Source::Path("/@postgres/of/mine".into()), shop(0).source()])).0.unwrap();
    assert_eq!(outcome.problems.len(), 1, "{:?}", outcome.problems);
    assert!(outcome.problems[0].message.starts_with("/@postgres was not backed up"), "{:?}", outcome.problems);
    assert_eq!(outcome.snapshot.unwrap().dumps.len(), 1);
}

#[test]
fn databases_lie_at_the_top_even_if_the_whole_machine_is_backed_up() {
    let vault = Vault::new();
    let mut with = options(vec![Source::Path("/".into()), shop(0).source(), command("a", "echo a")]);
    with.scan.excludes.add(b"/[0-9a-zA-Z.]*").unwrap();
    let outcome = back_up(&vault, &with).0.unwrap();
    let snapshot = outcome.snapshot.unwrap();
    // All else of the machine is left out.
    assert!(snapshot.totals.files < 200, "{:?}", snapshot.totals);
    assert_eq!(restored(&vault, snapshot.id, "/@postgres/shop"), expected(tables(4, 200_000, 0)));
    let again = back_up(&vault, &with).0.unwrap().snapshot.unwrap();
    assert_eq!((again.parent, again.totals.files_changed), (Some(snapshot.id), 0));
}

#[test]
fn a_dry_run_counts_and_stores_nothing() {
    let vault = Vault::new();
    let before = crate::vault::keys(&vault.store).len();
    let with = Options { dry_run: true, ..options(vec![shop(0).source(), command("a", "echo a")]) };
    let outcome = back_up(&vault, &with).0.unwrap();
    assert!(outcome.snapshot.is_none());
    assert_eq!((outcome.totals.bytes_new, outcome.dumps.len()), (outcome.totals.bytes_read, 1));
    assert_eq!(crate::vault::keys(&vault.store).len(), before);
}

#[test]
fn everything_is_read_again_when_no_parent_is_wanted() {
    let vault = Vault::new();
    done(&vault, vec![shop(0).source()]);
    let with = Options { parent: Parent::None, ..options(vec![shop(0).source()]) };
    let outcome = back_up(&vault, &with).0.unwrap();
    assert_eq!((outcome.parent, outcome.totals.files_new), (None, 5));
    assert!(outcome.totals.bytes_new < 2000, "{:?}", outcome.totals);
}

#[test]
fn forget_and_prune_keep_the_dumps_of_what_stays() {
    let vault = Vault::new();
    let ids: Vec<_> = (0..4).map(|night| done(&vault, vec![shop(night).source()]).id).collect();
    forget::remove(&vault.open(), ids[0]).unwrap();
    forget::remove(&vault.open(), ids[2]).unwrap();
    vault.hours(25);
    prune_all(&vault.open()).unwrap();
    vault.hours(25);
    prune_all(&vault.open()).unwrap();
    for night in [1, 3] {
        assert_eq!(restored(&vault, ids[night as usize], "/@postgres/shop"), expected(tables(4, 200_000, night)));
    }
    assert!(read_everything(&vault.open()).unwrap() > 0);
    assert!(!verify_all(&vault.open()).unwrap().damage);
}

#[test]
fn one_table_of_a_dump_is_restored_alone() {
    let vault = Vault::new();
    let snapshot = done(&vault, vec![shop(0).source()]);
    let target = tempfile::tempdir().unwrap();
    let options = restoring::Options {
        path: Some(b"/@postgres/shop/tables".to_vec()),
        ..restoring::Options::new(target.path().to_owned())
    };
    let outcome = restoring::restore(&vault.open(), &snapshot, &options).unwrap();
    assert_eq!(outcome.problem_count, 0);
    let files = files_below(target.path());
    assert_eq!(files["public.t2"], tables(4, 200_000, 0)[2].1);
}

#[test]
fn a_backup_of_databases_that_is_killed_at_any_change_is_made_good_by_the_next() {
    let vault = Vault::new();
    let sources = |night: u64| vec![Fake::new("shop", tables(2, 120_000, night)).source(), command("a", "seq 1 5000")];
    let first = done(&vault, sources(0));
    let mut reused = 0;
    for crash in [Crash::Before, Crash::After] {
        for change in 1.. {
            let (store, clock) = vault.copy();
            let fault = StoreFault::new(store.clone());
            fault.crash_at(change, crash);
            let run = |store: Arc<dyn ObjectStore>| backup(&open(store, &clock)?, &options(sources(1)));
            let done = run(Arc::new(fault.clone()));
            if !fault.crashed() {
                done.unwrap();
                assert!(change > 6, "only {change} changes");
                break;
            }
            let context = open(Arc::new(store.clone()), &clock).unwrap();
            assert!(!verify_all(&context).unwrap().damage, "{crash:?} {change}");
            let again = run(Arc::new(store.clone())).unwrap();
            reused += u32::from(again.totals.bytes_new == 0);
            let context = open(Arc::new(store.clone()), &clock).unwrap();
            for (id, night) in [(first.id, 0), (again.snapshot.unwrap().id, 1)] {
                let (outcome, mut files) = restore(&context, id, Path::new("/@postgres/shop")).unwrap();
                assert_eq!(outcome.problem_count, 0);
                files.remove("manifest.json");
                assert_eq!(files, expected(tables(2, 120_000, night)), "{crash:?} {change}");
            }
            assert!(bytes(&store, Area::Packs) > 0);
        }
    }
    assert!(reused >= 2, "what a killed run had stored was used again {reused} times");
}
