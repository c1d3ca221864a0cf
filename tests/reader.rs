//! The independent reader, `tools/reader/reader.py`, against the real program: it follows `docs/FORMAT.md` and knows
//! nothing of these sources, so what both of them read is what the document says.

use crate::program::{CHEAP, PASSWORD, Place, Run, describe, noise};
use std::ffi::OsStr;
use std::fs;
use std::io::{Seek, SeekFrom, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// The folder with the packages for Python that the reader needs, where `./test` puts them.
pub fn packages() -> Option<PathBuf> {
    let told = std::env::var_os("KEEPSTONE_TEST_READER").map(PathBuf::from);
    let beside = || Some(std::env::current_exe().ok()?.ancestors().nth(3)?.join("reader"));
    let folder = told.or_else(beside)?;
    if folder.join("blake3").is_dir() {
        return Some(folder);
    }
    println!("skipped: the packages of tools/reader/requirements.txt are not in {}", folder.display());
    None
}

/// A program of the reader's folder, run in a place.
pub fn python(place: &Place, packages: &Path, program: &str, args: &[&OsStr]) -> Run {
    let program = Path::new(env!("CARGO_MANIFEST_DIR")).join("tools/reader").join(program);
    let mut command = Command::new("python3");
    command.arg(program).args(args).current_dir(place.path("")).env_clear();
    command.env("PATH", std::env::var_os("PATH").unwrap_or_default()).env("PYTHONPATH", packages);
    command.env("PYTHONDONTWRITEBYTECODE", "1").env("TMPDIR", std::env::temp_dir());
    Run::of(command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap())
}

/// The reader with the password.
fn read(place: &Place, packages: &Path, args: &[&str]) -> Run {
    let all = [&args[..1], &["--repo", "vault", "--password", PASSWORD], &args[1..]].concat();
    read_with(place, packages, &all)
}

/// The reader with what opens the repository among the arguments.
fn read_with(place: &Place, packages: &Path, args: &[&str]) -> Run {
    python(place, packages, "reader.py", &args.iter().map(OsStr::new).collect::<Vec<_>>())
}

/// Extended attributes of everything in a folder.
fn attributes(folder: &Path) -> String {
    let done = Command::new("getfattr").args(["-R", "-h", "-d", "-m", "-", "."]).current_dir(folder).output().unwrap();
    String::from_utf8_lossy(&done.stdout).into_owned()
}

/// What a dump of a table looks like on a night: on each, other rows have changed here and there.
fn dump(night: usize) -> Vec<u8> {
    let mut text = Vec::new();
    for (row, values) in noise(700_000).chunks(35).enumerate() {
        let changed = (1..=night).rfind(|night| (row + night * 37).is_multiple_of(151)).unwrap_or(0);
        let hex: String = values.iter().map(|byte| format!("{byte:02x}")).collect();
        writeln!(text, "{row},{changed},{hex}").unwrap();
    }
    text
}

/// A file of many islands in a sea of holes: its list of chunks is too long for its node.
fn make_archipelago(path: &Path) {
    let mut file = fs::File::create(path).unwrap();
    for island in 0..400u64 {
        file.seek(SeekFrom::Start(island * 100_000)).unwrap();
        file.write_all(format!("island {island}").as_bytes()).unwrap();
    }
    file.set_len(50_000_000).unwrap();
}

fn make_everything(place: &Place) {
    place.make_tree();
    place.make_odd_tree();
    fs::rename(place.path("odd"), place.path("source/odd")).unwrap();
    let source = place.path("source");
    fs::write(source.join("larger.bin"), noise(3_000_000)).unwrap();
    fs::write(source.join("runs.txt"), "the same again and again\n".repeat(100_000)).unwrap();
    make_archipelago(&source.join("archipelago"));
    fs::create_dir(source.join("many")).unwrap();
    for number in 0..3_000 {
        fs::write(source.join(format!("many/one of very many files, number {number:05}")), number.to_string()).unwrap();
    }
    let mut deep = source.join("deep");
    for level in 0..40 {
        deep.push(format!("level {level}"));
    }
    fs::create_dir_all(&deep).unwrap();
    fs::write(deep.join("at the bottom"), noise(20_000)).unwrap();
    let attribute = |name: &str, value: &str, file: &str| {
        Command::new("setfattr").args(["-n", name, "-v", value, file]).current_dir(&source).status().unwrap().success()
    };
    assert!(attribute("user.colour", "green", "numbers.bin") || cfg!(not(target_os = "linux")));
    assert!(attribute("user.shape", "round", "letters/old"));
    let _ = Command::new("setfacl").args(["-m", "u:12345:r", "runs.txt"]).current_dir(&source).status();
    Command::new("mkfifo").arg(source.join("pipe")).status().unwrap();
}

/// A repository with some of everything: files, nights of a dump under changing names, streams, a prune, three slots.
fn everything() -> (Place, Vec<String>) {
    let place = Place::new();
    make_everything(&place);
    let back_up = |args: &[&str], input: &[u8]| {
        let all = [&["backup", "--quiet", "--json"], args].concat();
        place.run_with(&all, |_| {}, input).expect(0);
    };
    place.run(&[&["init"], &CHEAP[..]].concat()).expect(0);
    back_up(&["source"], b"");
    fs::create_dir(place.path("nightly")).unwrap();
    for night in 1..=4 {
        let name = |night: usize| place.path(&format!("nightly/shop_2025031{night}.sql"));
        let _ = fs::remove_file(name(night - 1));
        fs::write(name(night), dump(night)).unwrap();
        back_up(&["nightly"], b"");
    }
    fs::remove_file(place.path("source/larger.bin")).unwrap();
    fs::write(place.path("source/letters/new.txt"), "Dear Eve\n").unwrap();
    back_up(&["source"], b"");
    place.run(&["forget", "--keep-last", "1", "--group-by", "paths"]).expect(0);
    place.run(&["prune", "--max-unused", "0"]).expect(0);
    back_up(&["--stdin", "--stdin-filename", "dump.bin"], &noise(400_000));
    back_up(&["--command", "words=printf 'so many words'", "--command", "more=seq 1 5000"], b"");
    place.run(&["key", "add", "--generate-key-file", "generated.key"]).expect(0);
    fs::write(place.path("own.key"), "whatever somebody likes to keep in a file\n").unwrap();
    place.run(&["key", "add", "--new-key-file", "own.key"]).expect(0);
    let ids = snapshot_ids(&place, &[]);
    assert_eq!(ids.len(), 4);
    (place, ids)
}

fn snapshot_ids(place: &Place, change: &[(&str, &str)]) -> Vec<String> {
    let change = change.to_owned();
    let listed = place
        .run_with(
            &["snapshots", "--json"],
            |command| {
                command.envs(change);
            },
            b"",
        )
        .expect(0)
        .json();
    let snapshots = listed[0]["snapshots"].as_array().unwrap();
    snapshots.iter().map(|snapshot| snapshot["id"].as_str().unwrap().to_owned()).collect()
}

/// Compares what the program restored with what the reader did.
#[track_caller]
fn compare(place: &Place, ours: &str, theirs: &str) {
    let (ours, theirs) = (place.path(ours), place.path(theirs));
    // The folder itself is the user's own.
    let inside = |top: &Path| describe(top).split_off(1);
    assert_eq!(inside(&ours), inside(&theirs));
    assert_eq!(attributes(&ours), attributes(&theirs));
}

#[test]
fn a_reader_that_knows_only_the_document_restores_everything_bit_for_bit() {
    let Some(packages) = packages() else { return };
    let (place, ids) = everything();
    let listed = read(&place, &packages, &["snapshots"]).expect(0).text();
    for (number, id) in ids.iter().enumerate() {
        assert!(listed.contains(id.as_str()), "{id} is not in\n{listed}");
        let (ours, theirs) = (format!("ours{number}"), format!("theirs{number}"));
        place.run(&["restore", id, "--target", &ours]).expect(0);
        let done = read(&place, &packages, &["restore", id, &theirs]).expect(0);
        assert_eq!(done.err, "", "{}", done.text());
        compare(&place, &ours, &theirs);
        let ours = place.run(&["ls", id, "--json"]).expect(0).json();
        let theirs = read(&place, &packages, &["ls", id]).expect(0).text();
        let nodes = ours.iter().filter(|line| line["path"].is_string()).count();
        assert_eq!(theirs.lines().count(), nodes, "{theirs}");
    }
    let source = place.path("theirs0").join(place.path("source").strip_prefix("/").unwrap());
    let restored = [source, place.path("theirs1").join(place.path("source").strip_prefix("/").unwrap())];
    let sparse = restored.iter().map(|top| top.join("archipelago")).find(|path| path.exists()).unwrap();
    assert!(sparse.metadata().unwrap().blocks() * 512 < 10_000_000, "holes are no longer holes");
    let done = read(&place, &packages, &["verify"]).expect(0);
    assert_eq!(done.err, "", "{}", done.text());
}

#[test]
fn a_reader_opens_with_every_kind_of_slot_and_without_an_index() {
    let Some(packages) = packages() else { return };
    let place = Place::with_snapshot();
    place.run(&["key", "add", "--generate-key-file", "generated.key"]).expect(0);
    fs::write(place.path("own.key"), "whatever somebody likes to keep in a file\n").unwrap();
    place.run(&["key", "add", "--new-key-file", "own.key"]).expect(0);
    place.run(&["key", "add", "--new-key-command", "echo words that a vault of secrets prints"]).expect(0);
    fs::write(place.path("words"), format!("{PASSWORD}\nand nothing of this line\n")).unwrap();
    fs::write(place.path("printed"), "words that a vault of secrets prints\n").unwrap();
    place.run(&["restore", "latest", "--target", "ours"]).expect(0);
    let openers = [
        ["--password", PASSWORD],
        ["--password-file", "words"],
        ["--key-file", "generated.key"],
        ["--key-file", "own.key"],
        ["--key-file", "printed"],
    ];
    for (number, opener) in openers.iter().enumerate() {
        let target = format!("theirs{number}");
        let args = [&["restore", "--repo", "vault"], &opener[..], &["latest", &target]].concat();
        read_with(&place, &packages, &args).expect(0);
        compare(&place, "ours", &target);
    }
    fs::remove_dir_all(place.path("vault/index")).unwrap();
    let done = read(&place, &packages, &["restore", "latest", "no-index"]).expect(4);
    assert!(done.err.contains("directories of all packs"), "{}", done.err);
    compare(&place, "ours", "no-index");
    read(&place, &packages, &["restore", "--from-packs", "latest", "from-packs"]).expect(0);
    compare(&place, "ours", "from-packs");
}

#[test]
fn a_reader_restores_what_a_write_only_client_stored_and_does_not_open_with_its_key() {
    let Some(packages) = packages() else { return };
    let place = Place::with_snapshot();
    place.run(&["key", "add", "--write-only", "--generate-key-file", "client.key"]).expect(0);
    fs::write(place.path("source/larger.bin"), noise(700_000)).unwrap();
    let args = ["--key-file", "client.key", "backup", "--quiet", "source"];
    let without_password = |command: &mut Command| {
        command.env_remove("KEEPSTONE_PASSWORD");
    };
    place.run_with(&args, without_password, b"").expect(0);
    fs::write(place.path("source/letters/new.txt"), "Dear Eve\n").unwrap();
    place.run_with(&args, without_password, b"").expect(0);
    for from in [&[][..], &["--from-packs"]] {
        let (ours, theirs) = (format!("ours{}", from.len()), format!("theirs{}", from.len()));
        place.run(&["restore", "latest", "--target", &ours]).expect(0);
        let done = read(&place, &packages, &[&["restore"], from, &["latest", &theirs]].concat()).expect(0);
        assert_eq!(done.err, "", "{}", done.text());
        compare(&place, &ours, &theirs);
    }
    read(&place, &packages, &["verify"]).expect(0);
    let refused =
        read_with(&place, &packages, &["snapshots", "--repo", "vault", "--key-file", "client.key"]).expect(12);
    assert!(refused.err.contains("opens no key slot"), "{}", refused.err);
}

#[test]
fn a_reader_says_what_is_wrong_with_what_it_was_given() {
    let Some(packages) = packages() else { return };
    let place = Place::with_snapshot();
    fs::write(place.path("short.key"), "short").unwrap();
    fs::create_dir(place.path("nothing")).unwrap();
    fs::create_dir(place.path("full")).unwrap();
    fs::write(place.path("full/of"), "things").unwrap();
    for (args, code, words) in [
        (vec!["snapshots", "--repo", "vault", "--password", "wrong"], 12, "this passphrase opens no key slot"),
        (vec!["snapshots", "--repo", "vault", "--key-file", "short.key"], 12, "16 bytes"),
        (vec!["snapshots", "--repo", "nothing", "--password", PASSWORD], 10, "is it a repository"),
        (vec!["ls", "--repo", "vault", "--password", PASSWORD, "ffff"], 1, "no readable snapshot is named ffff"),
        (vec!["ls", "--repo", "vault", "--password", PASSWORD, "latest:/no/such"], 1, "there is no /no"),
        (vec!["restore", "--repo", "vault", "--password", PASSWORD, "latest", "full"], 11, "full is not empty"),
        (vec!["restore", "--repo", "vault"], 2, "required: SNAPSHOT"),
    ] {
        let done = read_with(&place, &packages, &args).expect(code);
        assert!(done.err.contains(words), "{args:?}: {}", done.err);
        assert!(!done.err.contains("Traceback"), "{}", done.err);
    }
}

/// The objects of a repository, the largest of each kind first.
fn objects(vault: &Path) -> Vec<String> {
    let mut found = Vec::new();
    let mut folders = vec![vault.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() { folders.push(path) } else { found.push(path) }
        }
    }
    found.sort_by_key(|path| std::cmp::Reverse(path.metadata().unwrap().len()));
    found.iter().map(|path| path.strip_prefix(vault).unwrap().to_string_lossy().into_owned()).collect()
}

/// What kind of object a name says it is.
fn kind_of(name: &str) -> String {
    let area = name.split(['/', '.']).next().unwrap_or_default();
    let ending = name.rsplit_once('.').map(|(_, ending)| ending).unwrap_or_default();
    format!("{area} {ending}")
}

fn flip(path: &Path, thousandths: usize) {
    let mut bytes = fs::read(path).unwrap();
    let at = (bytes.len() - 1) * thousandths / 1000;
    bytes[at] ^= 0x10;
    fs::write(path, bytes).unwrap();
}

#[test]
fn a_reader_reports_a_flipped_byte_in_every_kind_of_object() {
    let Some(packages) = packages() else { return };
    let place = Place::with_snapshot();
    fs::write(place.path("source/gone.bin"), noise(150_000)).unwrap();
    place.run(&["backup", "source"]).expect(0);
    fs::remove_file(place.path("source/gone.bin")).unwrap();
    place.run(&["forget", "latest"]).expect(0);
    place.run(&["prune", "--max-unused", "0"]).expect(0);
    fs::write(place.path("source/new.bin"), noise(200_000)).unwrap();
    place.run(&["backup", "source"]).expect(0);
    let vault = place.path("vault");
    let mut seen = Vec::new();
    for name in objects(&vault) {
        let kind = kind_of(&name);
        // Two packs: the largest is of data, the smallest of metadata.
        if seen.iter().filter(|known| **known == kind).count() >= if kind == "packs " { 5 } else { 1 } {
            continue;
        }
        seen.push(kind);
        let whole = fs::read(vault.join(&name)).unwrap();
        for place_in_it in [20, 500, 1000] {
            flip(&vault.join(&name), place_in_it);
            let done = read(&place, &packages, &["verify"]).expect(4);
            assert!(done.err.contains(&format!("damaged: {name}")), "{name} at {place_in_it}: {}", done.err);
            fs::write(vault.join(&name), &whole).unwrap();
        }
    }
    seen.sort();
    seen.dedup();
    let kinds = ["condemned done", "config ", "config copy", "epochs ", "epochs copy", "index ", "keys ", "keys copy"];
    let more = ["packs ", "runs ", "sessions ", "sessions seen", "snapshots "];
    assert_eq!(seen, [&kinds[..], &more[..]].concat());
    read(&place, &packages, &["verify"]).expect(0);
}

#[test]
fn a_reader_restores_what_is_whole_and_names_what_is_not() {
    let Some(packages) = packages() else { return };
    let place = Place::with_snapshot();
    place.run(&["restore", "latest", "--target", "ours"]).expect(0);
    let vault = place.path("vault");
    for (number, name) in ["config", "keys/", "epochs/"].iter().enumerate() {
        let first = objects(&vault).into_iter().find(|object| object.starts_with(name) && !object.ends_with(".copy"));
        flip(&vault.join(first.unwrap()), 900);
        let target = format!("theirs{number}");
        let done = read(&place, &packages, &["restore", "latest", &target]).expect(4);
        assert!(done.err.contains(&format!("damaged: {name}")), "{name}: {}", done.err);
        compare(&place, "ours", &target);
    }
    let data = objects(&vault).into_iter().find(|object| object.starts_with("packs/")).unwrap();
    flip(&vault.join(data), 500);
    let done = read(&place, &packages, &["restore", "latest", "hurt"]).expect(4);
    assert!(done.err.contains("numbers.bin: not restored"), "{}", done.err);
    let source = |top: &str| place.path(top).join(place.path("source").strip_prefix("/").unwrap());
    assert!(!source("hurt").join("numbers.bin").exists());
    let whole = fs::read(source("ours").join("letters/ann.txt")).unwrap();
    assert_eq!(fs::read(source("hurt").join("letters/ann.txt")).unwrap(), whole);
}

#[test]
fn what_is_written_by_the_document_alone_is_read_by_the_program() {
    let Some(packages) = packages() else { return };
    let place = Place::new();
    let written = python(&place, &packages, "test_reader.py", &["--write", "theirs"].map(OsStr::new)).expect(0).text();
    let theirs = [("KEEPSTONE_REPOSITORY", "theirs"), ("KEEPSTONE_PASSWORD", "passphrase")];
    let run = |args: &[&str]| {
        place.run_with(
            args,
            |command| {
                command.envs(theirs);
            },
            b"",
        )
    };
    let ids = snapshot_ids(&place, &theirs);
    assert_eq!(ids.len(), 2);
    // Restore first: the keys of sessions are to be found without a verify that reads all directories.
    for id in &ids {
        let home = format!("restored/{id}/home");
        run(&["restore", id, "--target", &format!("restored/{id}")]).expect(0);
        for line in written.lines().filter(|line| line.starts_with(id.as_str())) {
            let [_, digest, name] = line.splitn(3, "  ").collect::<Vec<_>>()[..] else { panic!("{line}") };
            let name: Vec<u8> =
                (0..name.len() / 2).map(|at| u8::from_str_radix(&name[2 * at..][..2], 16).unwrap()).collect();
            let content = fs::read(place.path(&home).join(OsStr::from_bytes(&name))).unwrap();
            assert_eq!(blake3::hash(&content).to_hex().as_str(), digest, "{name:?} of {id}");
        }
    }
    run(&["verify", "--all"]).expect(0);
}

#[test]
fn the_readers_own_tests_pass() {
    let Some(packages) = packages() else { return };
    let done = python(&Place::new(), &packages, "test_reader.py", &[]).expect(0);
    assert!(done.err.contains("\nOK"), "{}", done.err);
}
