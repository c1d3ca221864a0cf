//! The whole program in hard places: without rights, on a read-only disk, interrupted, killed.

use crate::program::{CHEAP, Place, Run, describe};
use crate::vault;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use std::fs;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

fn last(run: &Run) -> Value {
    run.json().pop().unwrap()
}

fn restored(place: &Place, target: &str, source: &str) -> PathBuf {
    place.path(target).join(place.path(source).strip_prefix("/").unwrap())
}

fn mode(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

/// Waits until `what` holds, for at most a minute.
fn until(story: &str, mut what: impl FnMut() -> bool) {
    for _ in 0..6000 {
        if what() {
            return;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    panic!("{story}: not within a minute");
}

fn signal(child: &Child, signal: Signal) {
    kill_process(Pid::from_child(child), signal).unwrap();
}

/// A number that differs from run to run; printed with what fails.
fn seed() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().subsec_nanos().into()
}

// ------------------------------------------------------------------------------------------------ without rights

/// Makes a place that user 65534 may use, with the program in it; none if this user cannot become another.
fn place_for_nobody() -> Option<Place> {
    let place = Place::new();
    if rustix::process::geteuid().is_root() {
        let works = Command::new("setpriv").args(["--reuid=65534", "--clear-groups", "true"]).status();
        if !works.is_ok_and(|status| status.success()) {
            println!("skipped: root cannot become somebody else here (setpriv)");
            return None;
        }
        std::os::unix::fs::chown(place.path(""), Some(65534), Some(65534)).unwrap();
        fs::copy(crate::program::binary(), place.path("keepstone")).unwrap();
        mode(&place.path("keepstone"), 0o755);
        mode(&place.path(""), 0o755);
    }
    Some(place)
}

/// Runs the program as somebody without rights.
fn as_nobody(place: &Place, args: &[&str]) -> Run {
    let usual = place.command(args);
    if !rustix::process::geteuid().is_root() {
        return place.run(args);
    }
    let mut command = Command::new("setpriv");
    command.args(["--reuid=65534", "--regid=65534", "--clear-groups", "--"]).arg(place.path("keepstone")).args(args);
    command.current_dir(place.path("")).env_clear();
    usual.get_envs().for_each(|(name, value)| {
        command.env(name, value.unwrap());
    });
    command.stdin(std::process::Stdio::null());
    command.stdout(std::process::Stdio::piped()).stderr(std::process::Stdio::piped());
    Run::of(command.spawn().unwrap())
}

#[test]
fn sources_that_may_not_be_read_are_named_and_the_rest_is_kept() {
    let Some(place) = place_for_nobody() else { return };
    place.make_tree();
    let source = place.path("source");
    fs::write(source.join("letters/secret"), "for my eyes only").unwrap();
    fs::create_dir_all(source.join("closed/deep")).unwrap();
    fs::write(source.join("closed/deep/file"), "out of reach").unwrap();
    mode(&source.join("letters/secret"), 0o000);
    mode(&source.join("closed"), 0o000);
    as_nobody(&place, &[&["init"], &CHEAP[..]].concat()).expect(0);
    let backup = last(&as_nobody(&place, &["backup", "--json", "source"]).expect(3));
    assert_eq!((&backup["partial"], &backup["problem_count"]), (&Value::Bool(true), &Value::from(2)));
    let problems = backup["problems"].to_string();
    assert!(problems.contains("letters/secret") && problems.contains("closed") && !problems.contains("deep"));
    let shown = as_nobody(&place, &["show", "latest"]).expect(0).text();
    assert!(shown.contains("partial") && shown.contains("ermission denied"), "{shown}");
    as_nobody(&place, &["restore", "latest", "--target", "back", "--verify"]).expect(0);
    let back = restored(&place, "back", "source");
    assert_eq!(fs::read(back.join("numbers.bin")).unwrap(), fs::read(source.join("numbers.bin")).unwrap());
    assert!(!back.join("letters/secret").exists());
    // With rights again they come along, and the snapshot is complete.
    mode(&source.join("letters/secret"), 0o644);
    mode(&source.join("closed"), 0o755);
    assert_eq!(last(&as_nobody(&place, &["backup", "--json", "source"]).expect(0))["partial"], false);
    // A source of which nothing can be read makes no snapshot.
    mode(&source, 0o000);
    as_nobody(&place, &["backup", "source"]).expect(1);
    mode(&source, 0o755);
    assert_eq!(last(&as_nobody(&place, &["snapshots", "--json"]).expect(0))["snapshots"].as_array().unwrap().len(), 2);
}

#[test]
fn extended_attributes_and_access_lists_come_back() {
    let place = Place::with_snapshot();
    let source = place.path("source");
    let file = source.join("letters/ann.txt");
    if let Err(error) = xattr::set(&file, "user.mood", b"\x00\xffgood") {
        println!("skipped: no extended attributes here ({error})");
        return;
    }
    xattr::set(source.join("letters"), "user.empty", b"").unwrap();
    let lists = [("u:1234:rw,g:4321:r", &file), ("d:u:1234:rwx", &source.join("letters/old"))];
    for (list, path) in lists {
        if !Command::new("setfacl").args(["-m", list]).arg(path).status().is_ok_and(|status| status.success()) {
            println!("skipped: no access lists here (setfacl)");
            return;
        }
    }
    place.run(&["backup", "source"]).expect(0);
    place.run(&["restore", "latest", "--target", "back", "--verify"]).expect(0);
    let back = restored(&place, "back", "source");
    for name in ["letters/ann.txt", "letters", "letters/old"] {
        let all = |top: &Path| -> Vec<_> {
            let mut all: Vec<_> = xattr::list(top.join(name)).unwrap().collect();
            all.sort();
            all.into_iter().map(|name_of| (xattr::get(top.join(name), &name_of).unwrap(), name_of)).collect()
        };
        assert!(!all(&source).is_empty(), "{name}");
        assert_eq!(all(&back), all(&source), "{name}");
    }
}

// ------------------------------------------------------------------------------------------- on a read-only disk

struct ReadOnly(PathBuf);

impl Drop for ReadOnly {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

/// Mounts a folder over itself, read-only; none where that is not allowed.
fn read_only(folder: PathBuf) -> Option<ReadOnly> {
    let mount = |args: &[&str]| {
        let done = Command::new("mount").args(args).arg(&folder).output();
        done.is_ok_and(|output| output.status.success())
    };
    if !mount(&["--bind", folder.to_str().unwrap()]) {
        return None;
    }
    let mounted = ReadOnly(folder.clone());
    mount(&["-o", "remount,bind,ro"]).then_some(mounted)
}

#[test]
fn a_repository_on_a_read_only_disk_can_be_read_and_refuses_the_rest() {
    let place = Place::with_snapshot();
    let before = describe(&place.path("vault"));
    let Some(_mounted) = read_only(place.path("vault")) else {
        println!("skipped: nothing can be mounted here");
        return;
    };
    place.run(&["snapshots"]).expect(0);
    place.run(&["ls", "latest"]).expect(0);
    place.run(&["verify", "--all"]).expect(0);
    let run = place.run(&["restore", "latest", "--target", "back", "--verify"]).expect(0);
    assert!(run.err.contains("leaves no mark"), "{}", run.err);
    assert!(restored(&place, "back", "source").join("numbers.bin").exists());
    place.run(&["backup", "--dry-run", "source"]).expect(0);
    let many = [
        &["backup", "source"][..],
        &["forget", "latest"],
        &["prune"],
        &["tag", "--add", "x", "latest"],
        &["rebuild-index"],
        &["key", "add", "--command", "printf 'a key of some length'"],
    ];
    for args in many {
        let run = place.run(args).expect(1);
        assert!(run.err.contains("ead-only"), "{args:?}: {}", run.err);
    }
    assert_eq!(describe(&place.path("vault")), before);
}

// ------------------------------------------------------------------------------------------- interrupted, killed

#[test]
fn what_an_interrupted_backup_stored_is_used_by_the_next() {
    let place = Place::new();
    place.run(&[&["init"], &CHEAP[..]].concat()).expect(0);
    let stream = vault::noise(5, 24 << 20);
    let args = ["backup", "--json", "--stdin", "--stdin-filename", "dump"];
    let mut child = place.command(&args).spawn().unwrap();
    let mut input = child.stdin.take().unwrap();
    input.write_all(&stream[..16 << 20]).unwrap();
    // All but what the pipe holds has been read; the pipe stays open and nothing comes any more.
    signal(&child, Signal::INT);
    let run = Run::of(child).expect(130);
    drop(input);
    assert!(run.err.contains("interrupted"), "{}", run.err);
    place.run(&["verify", "--all"]).expect(0);
    let done = last(&place.run_with(&args, |_| {}, &stream).expect(0));
    let new = done["totals"]["new_bytes"].as_u64().unwrap();
    assert!((8 << 20..14 << 20).contains(&new), "{new} bytes were new");
    assert!(place.run(&["dump", "latest", "/dump"]).expect(0).out == stream);
    // Nobody is taken for being at work.
    place.run(&["prune"]).expect(0);
}

#[test]
fn an_interrupt_ends_the_command_that_is_read_from() {
    let place = Place::new();
    place.run(&[&["init"], &CHEAP[..]].concat()).expect(0);
    let line = "echo $$ > number; echo begun; exec sleep 1000";
    let args = ["backup", "--stdin-filename", "x", "--stdin-from-command", "--", "sh", "-c", line];
    let child = place.command(&args).spawn().unwrap();
    let number = || fs::read_to_string(place.path("number")).unwrap_or_default().trim().to_owned();
    until("the command begins", || !number().is_empty());
    signal(&child, Signal::TERM);
    Run::of(child).expect(130);
    until("the command ends", || !Path::new(&format!("/proc/{}", number())).exists());
    let snapshots = last(&place.run(&["snapshots", "--json"]).expect(0));
    assert_eq!(snapshots["snapshots"].as_array().unwrap().len(), 0);
}

#[test]
fn a_backup_that_is_killed_again_and_again_is_made_good_in_the_end() {
    let place = Place::with_snapshot();
    let source = place.path("source");
    for number in 0..24 {
        fs::write(source.join(format!("large{number}")), vault::noise(number, 1 << 20)).unwrap();
    }
    let mut random = seed();
    println!("seed {random}");
    for _ in 0..8 {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let child = place.command(&["backup", "source"]).spawn().unwrap();
        std::thread::sleep(Duration::from_millis((random >> 33) % 400));
        // It may have ended by itself.
        let _ = kill_process(Pid::from_child(&child), Signal::KILL);
        Run::of(child);
    }
    place.run(&["verify", "--all"]).expect(0);
    place.run(&["backup", "source"]).expect(0);
    place.run(&["restore", "latest", "--target", "back", "--verify"]).expect(0);
    assert_eq!(describe(&restored(&place, "back", "source")), describe(&source));
    // The dead are known to be dead on their own machine: nobody has to wait for them.
    place.run(&["prune"]).expect(0);
    place.run(&["verify", "--all"]).expect(0);
    let left = fs::read_dir(place.path("vault/sessions")).unwrap().count();
    assert!(left <= 3, "{left} marks of sessions are left");
}

/// A backup of standard input that has read most of it and waits for the rest, and is then taken for dead: the store
/// received its mark two days ago, as it seems.
struct Asleep {
    child: Child,
    input: std::process::ChildStdin,
}

impl Asleep {
    fn new(place: &Place, stream: &[u8]) -> Asleep {
        let mut child = place.command(&STREAM).spawn().unwrap();
        let mut input = child.stdin.take().unwrap();
        // When this has been taken, all but what the pipe holds has been read.
        input.write_all(stream).unwrap();
        let sessions: Vec<_> =
            fs::read_dir(place.path("vault/sessions")).unwrap().map(|one| one.unwrap().path()).collect();
        let long_ago = SystemTime::now() - Duration::from_secs(2 * 86_400);
        for mark in sessions {
            fs::File::options().write(true).open(mark).unwrap().set_modified(long_ago).unwrap();
        }
        Asleep { child, input }
    }

    fn wakes_up(self) -> Run {
        drop(self.input);
        Run::of(self.child)
    }
}

const STREAM: [&str; 5] = ["backup", "--json", "--stdin", "--stdin-filename", "dump"];

fn identity(run: &Run) -> String {
    last(run)["snapshot"]["id"].as_str().unwrap().to_owned()
}

#[test]
fn a_stream_whose_run_was_taken_for_dead_is_committed_anew_if_all_is_there() {
    let place = Place::with_snapshot();
    let stream = vault::noise(6, 3 << 20);
    let asleep = Asleep::new(&place, &stream);
    let fenced = last(&place.run(&["prune", "--json"]).expect(0));
    assert_eq!(fenced["sessions_fenced"], 1, "{fenced}");
    let run = asleep.wakes_up().expect(0);
    assert!(run.err.contains("taken for dead by a prune: all that it stored is still there"), "{}", run.err);
    assert!(place.run(&["dump", &identity(&run), "/dump"]).expect(0).out == stream);
    place.run(&["verify", "--all"]).expect(0);
}

#[test]
fn a_stream_that_cannot_be_read_again_and_has_lost_what_it_found_says_so_and_harms_nobody() {
    let place = Place::with_snapshot();
    let stream = vault::noise(6, 3 << 20);
    // It finds all of its stream known; then that is forgotten and deleted.
    let first = place.run_with(&STREAM, |_| {}, &stream).expect(0);
    let asleep = Asleep::new(&place, &stream);
    place.run(&["forget", &identity(&first)]).expect(0);
    let pruned = last(&place.run(&["prune", "--max-unused", "0", "--json"]).expect(0));
    assert!(pruned["sessions_fenced"] == 1 && pruned["deleted_bytes"].as_u64().unwrap() > 3 << 20, "{pruned}");
    let run = asleep.wakes_up().expect(11);
    for words in ["taken for dead by a prune", "cannot be read a second time", "no snapshot was made", "run the whole"]
    {
        assert!(run.err.contains(words), "no `{words}` in {}", run.err);
    }
    let listed = last(&place.run(&["snapshots", "--json"]).expect(0));
    assert_eq!(listed["snapshots"].as_array().unwrap().len(), 1);
    place.run(&["verify", "--all"]).expect(0);
    // The command line once more, as it was told.
    let again = place.run_with(&STREAM, |_| {}, &stream).expect(0);
    assert!(place.run(&["dump", &identity(&again), "/dump"]).expect(0).out == stream);
    place.run(&["prune"]).expect(0);
    place.run(&["verify", "--all"]).expect(0);
}
