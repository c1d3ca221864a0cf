//! Golden repositories: what earlier versions wrote is read, proven and written on for ever.
//!
//! Each folder in `tests/formats/v1/` holds a `repository/`, the `keys/` that open it and what its snapshots have to
//! come back as (`expected`). Nothing in there changes any more; `SUMS` holds the BLAKE3 hash of every file. What a later
//! version adds to the format gets a folder more, made by the tests named `…_can_be_made_anew`.

mod made;

use crate::program::{Place, Run, describe};
use crate::reader::{packages, python};
use crate::{servers, servers_mysql};
use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// One of them, wherever it lies.
pub struct Golden {
    folder: PathBuf,
}

/// A snapshot and the lines that describe what it holds.
struct Expected {
    id: String,
    folder: String,
    lines: Vec<String>,
}

impl Golden {
    fn path(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    fn expected(&self) -> Vec<Expected> {
        let text = fs::read_to_string(self.path("expected")).unwrap();
        let parts = text.split("\n\n").filter(|part| !part.is_empty());
        let one = |part: &str| {
            let mut lines = part.lines().map(str::to_owned);
            let head = lines.next().unwrap();
            let words: Vec<&str> = head.split(' ').collect();
            Expected { id: words[1].to_owned(), folder: words[2].to_owned(), lines: lines.collect() }
        };
        parts.map(one).collect()
    }

    /// A place with a copy of it as `vault`, which may be written to.
    pub fn place(&self) -> Place {
        let place = Place::new();
        made::copy_tree(&self.path("repository"), &place.path("vault"));
        made::copy_tree(&self.path("keys"), &place.path("keys"));
        place
    }
}

/// One of those that are kept, for whoever needs a repository of an earlier day.
pub fn golden(name: &str) -> Golden {
    kept(name)
}

/// Those that are kept.
fn kept(name: &str) -> Golden {
    Golden { folder: v1().join(name) }
}

fn v1() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/formats/v1")
}

/// What can be seen of a tree, without its owner, who is another when a user restores it.
pub fn told(top: &Path) -> Vec<String> {
    let without_owner = |line: String| {
        let (before, after) = line.rsplit_once(&format!(" {}:", owner(&line))).unwrap();
        format!("{before} {}", after.split_once(' ').unwrap().1)
    };
    let mut lines: Vec<String> = describe(top).into_iter().skip(1).map(without_owner).collect();
    for file in ["runs.txt"] {
        if let Ok(Some(value)) = xattr::get(top.join(file), "user.colour") {
            lines.push(format!("{file:?} is {}", String::from_utf8_lossy(&value)));
        }
    }
    lines
}

/// The user in a line of [`describe`]: `NAME MODE UID:GID SECONDS.NANOSECONDS CONTENT`.
fn owner(line: &str) -> String {
    let mut uid = line.split(' ').filter_map(|word| word.split_once(':')).map(|(uid, _)| uid);
    uid.rfind(|uid| uid.parse::<u32>().is_ok()).unwrap_or_default().to_owned()
}

/// The files of a folder and what is in them, by name.
fn sums(folder: &Path) -> String {
    let mut lines = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(next) = folders.pop() {
        for entry in fs::read_dir(next).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            let name = path.strip_prefix(folder).unwrap().to_string_lossy().into_owned();
            if name != "SUMS" {
                lines.push(format!("{}  {name}\n", blake3::hash(&fs::read(&path).unwrap()).to_hex()));
            }
        }
    }
    lines.sort_by(|one, other| one[66..].cmp(&other[66..]));
    lines.concat()
}

#[test]
fn golden_repositories_never_change() {
    let mut names: Vec<String> =
        fs::read_dir(v1()).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    assert_eq!(names, ["amid", "clients", "databases", "files"], "each has a test of its own");
    for name in names {
        let golden = kept(&name);
        let frozen = fs::read_to_string(golden.path("SUMS")).unwrap();
        assert_eq!(frozen, sums(&golden.folder), "{name} is frozen: what is new gets a folder more");
    }
}

/// Restores every snapshot and compares it with what it has to be.
#[track_caller]
fn comes_back(golden: &Golden, restore: &dyn Fn(&Expected, &str) -> PathBuf) {
    for (number, expected) in golden.expected().iter().enumerate() {
        let top = restore(expected, &format!("restored{number}"));
        assert_eq!(told(&top), expected.lines, "snapshot {}", expected.id);
    }
}

/// The folder beneath `target` in which a snapshot of `path` lies: restored paths are whole.
fn beneath(place: &Place, target: &str, path: &str) -> PathBuf {
    place.path(target).join(path.strip_prefix('/').unwrap())
}

/// The path that a snapshot was taken of.
fn path_of(place: &Place, id: &str) -> String {
    let shown = place.run(&["show", id, "--json"]).expect(0).json().remove(0);
    shown["snapshot"]["paths"][0].as_str().unwrap().to_owned()
}

fn restore(place: &Place, expected: &Expected, target: &str) -> PathBuf {
    place.run(&["restore", &expected.id, "--sparse", "--target", target]).expect(0);
    let path = path_of(place, &expected.id);
    assert!(path.ends_with(&format!("/{}", expected.folder)), "{path}");
    beneath(place, target, &path)
}

/// Everything that has to hold of a repository of files, wherever it comes from.
fn check_files(golden: &Golden, openers: &[[&str; 2]]) {
    let place = golden.place();
    comes_back(golden, &|expected, target| restore(&place, expected, target));
    place.run(&["verify", "--all"]).expect(0);
    place.run(&["verify-packs", "vault"]).expect(0);
    place.run(&["log", "verify"]).expect(0);
    let bare = |command: &mut Command| {
        command.env_remove("KEEPSTONE_PASSWORD");
    };
    for opener in openers {
        place.run_with(&[&opener[..], &["snapshots"]].concat(), bare, b"").expect(0);
    }
    read_by_another(golden, &place, Hurt::Nothing);
    goes_on(golden, &place);
}

/// Everything that has to hold of a repository that was left in the midst of things.
fn check_amid(golden: &Golden) {
    let place = golden.place();
    let count = |folder: &str| fs::read_dir(place.path("vault").join(folder)).map_or(0, Iterator::count);
    assert!(count("condemned") > 0 && count("damage") > 0 && count("sessions") > 1);
    assert_eq!(count("epochs"), 20);
    comes_back(golden, &|expected, target| restore(&place, expected, target));
    place.run(&["log", "verify"]).expect(0);
    let found = place.run(&["verify", "--all", "--json"]).expect(4);
    assert!(found.text().contains("packs/"), "{}", found.text());
    read_by_another(golden, &place, Hurt::APack);
    // Nobody waits for the dead longer than a day.
    let vault = place.path("vault");
    let aged =
        Command::new("find").arg(&vault).args(["-exec", "touch", "-d", "3 days ago", "{}", "+"]).status().unwrap();
    assert!(aged.success());
    place.run(&["prune", "--max-unused", "0"]).expect(0);
    assert_eq!(count("damage"), 0);
    let open = |name: &str| name.len() == 10;
    let records = fs::read_dir(vault.join("condemned")).unwrap().map(|entry| entry.unwrap().file_name());
    let left: Vec<_> = records.filter(|name| open(&name.to_string_lossy())).collect();
    assert!(left.is_empty(), "{left:?}");
    place.run(&["verify", "--all"]).expect(0);
    goes_on(golden, &place);
}

#[test]
fn a_golden_repository_in_the_midst_of_things_is_read_and_written_on() {
    check_amid(&kept("amid"));
}

#[test]
fn a_golden_repository_in_the_midst_of_things_can_be_made_anew() {
    let make = |golden: &Golden| {
        made::amid(golden);
        true
    };
    made_anew("amid", make, check_amid);
}

/// The reader that knows the document alone restores the same.
fn read_by_another(golden: &Golden, place: &Place, hurt: Hurt) {
    let Some(packages) = packages() else { return };
    let read = |command: &[&str]| -> Run {
        let all = [&command[..1], &["--repo", "vault", "--password-file", "keys/password"], &command[1..]].concat();
        python(place, &packages, "reader.py", &all.iter().map(OsStr::new).collect::<Vec<_>>())
    };
    comes_back(golden, &|expected, target| {
        let target = format!("read-{target}");
        read(&["restore", &expected.id, &target]).expect(0);
        beneath(place, &target, &path_of(place, &expected.id))
    });
    match hurt {
        Hurt::Nothing => drop(read(&["verify"]).expect(0)),
        Hurt::APack => drop(read(&["verify"]).expect(4)),
    }
}

/// What of a repository is damaged.
#[derive(Clone, Copy)]
enum Hurt {
    Nothing,
    /// A pack whose content was stored anew.
    APack,
}

/// The bytes of the files beneath a folder that lie in their trees.
fn inline_bytes(folder: &Path) -> u64 {
    let size = |entry: fs::DirEntry| {
        let stat = fs::symlink_metadata(entry.path()).unwrap();
        match (stat.is_dir(), stat.is_file() && stat.len() <= 512) {
            (true, _) => inline_bytes(&entry.path()),
            (_, true) => stat.len(),
            _ => 0,
        }
    };
    fs::read_dir(folder).unwrap().map(|entry| size(entry.unwrap())).sum()
}

/// What was stored then is found again now, byte for byte, and all that changes a repository still does.
fn goes_on(golden: &Golden, place: &Place) {
    // From now on what clients stored counts too.
    place.run(&["prune"]).expect(0);
    for (number, expected) in golden.expected().iter().enumerate() {
        let path = path_of(place, &expected.id);
        let folder = beneath(place, &format!("restored{number}"), &path);
        let args = ["backup", "--json", "--force", folder.to_str().unwrap()];
        let again = place.run(&args).expect(0).json().remove(0);
        assert!(again["totals"]["content_bytes"].as_u64().unwrap() > 0, "{again}");
        // The smallest files lie in their trees, which are new here.
        let new = again["totals"]["new_bytes"].as_u64().unwrap();
        assert!(new <= inline_bytes(&folder), "snapshot {}: chunks have other names now: {again}", expected.id);
    }
    fs::remove_dir_all(place.path("vault/index")).unwrap();
    place.run(&["rebuild-index"]).expect(0);
    place.run(&["key", "rotate", "--root"]).expect(0);
    place.run(&["key", "rotate", "--reseal"]).expect(0);
    place.run(&["forget", "--keep-last", "1", "--group-by", "host"]).expect(0);
    place.run(&["prune", "--max-unused", "0"]).expect(0);
    place.run(&["verify", "--all"]).expect(0);
}

const OPENERS: [[&str; 2]; 3] =
    [["--key-file", "keys/generated.key"], ["--key-file", "keys/own.key"], ["--identity-file", "keys/bank.identity"]];

#[test]
fn a_golden_repository_of_files_is_read_and_written_on() {
    check_files(&kept("files"), &OPENERS);
}

#[test]
fn a_golden_repository_with_a_client_that_may_only_write_is_read_and_written_on() {
    let golden = kept("clients");
    let place = golden.place();
    let bare = |command: &mut Command| {
        command.env_remove("KEEPSTONE_PASSWORD");
    };
    place.make_tree();
    let backup = ["--key-file", "keys/client.key", "backup", "source"];
    place.run_with(&backup, bare, b"").expect(0);
    place.run_with(&["--key-file", "keys/client.key", "ls", "latest"], bare, b"").expect(12);
    place.run(&["verify", "--all"]).expect(0);
    check_files(&golden, &[]);
}

/// Puts the databases of every snapshot onto real servers and compares each row; rows and tables are as they were.
fn check_databases(golden: &Golden) {
    let place = golden.place();
    let listed = place.run(&["snapshots", "--json"]).expect(0).json().remove(0);
    let snapshots = listed["snapshots"].as_array().unwrap();
    assert_eq!(snapshots.len(), 2, "{listed}");
    place.run(&["verify", "--all"]).expect(0);
    let id = |number: usize| snapshots[number]["id"].as_str().unwrap().to_owned();
    assert_eq!(place.run(&["dump", &format!("{}:/@command/words", id(0))]).expect(0).text(), "so many words\n");
    let difference = place.run(&["diff", &id(0), &id(1)]).expect(0).text();
    assert!(difference.contains("goods"), "{difference}");
    let log = place.run(&["log", "--operation", "run", "--json"]).expect(0).text();
    assert!(log.contains(r#""rows":800"#) && log.contains(r#""tables":2"#), "{log}");
    let (Some(postgres), Some(mysql)) = (servers::postgres::server(), servers_mysql::server::server()) else { return };
    let (postgres, mysql) = (postgres.url("postgres"), mysql.url("mysql"));
    let servers = ["--full", "--json", "--allow-source-server", "--server", &postgres, "--server", &mysql];
    for number in 0..2 {
        let tried = place.run(&[&["drill", &id(number)], &servers[..]].concat()).expect(0).json().remove(0);
        let rows = |kind: &str| {
            let databases = tried["databases"].as_array().unwrap();
            let database = databases
                .iter()
                .find(|database| database["dump"] == format!("/@{kind}/golden").as_str())
                .unwrap_or_else(|| panic!("{tried}"));
            database["rows"].as_u64().unwrap()
        };
        assert_eq!((rows("postgres"), rows("mysql")), (500, 300), "{tried}");
    }
}

#[test]
fn golden_dumps_of_databases_come_back_to_servers() {
    check_databases(&kept("databases"));
}

/// Makes one anew in a folder for a moment or, with `KEEPSTONE_GOLDEN=FOLDER`, in that one.
fn made_anew(name: &str, make: impl FnOnce(&Golden) -> bool, check: impl FnOnce(&Golden)) {
    let scratch = tempfile::tempdir().unwrap();
    let folder = std::env::var_os("KEEPSTONE_GOLDEN").map_or_else(|| scratch.path().to_owned(), PathBuf::from);
    let golden = Golden { folder: folder.join(name) };
    assert!(!golden.folder.exists(), "{} is there already: golden repositories are made once", golden.folder.display());
    if make(&golden) {
        fs::write(golden.path("SUMS"), sums(&golden.folder)).unwrap();
        check(&golden);
    }
}

#[test]
fn a_golden_repository_of_files_can_be_made_anew() {
    let make = |golden: &Golden| {
        made::files(golden);
        true
    };
    made_anew("files", make, |golden| check_files(golden, &OPENERS));
}

#[test]
fn a_golden_repository_with_a_client_can_be_made_anew() {
    let make = |golden: &Golden| {
        made::clients(golden);
        true
    };
    made_anew("clients", make, |golden| check_files(golden, &[]));
}

#[test]
fn golden_dumps_of_databases_can_be_made_anew() {
    made_anew("databases", made::databases, check_databases);
}

#[test]
fn what_another_version_needs_is_named_and_a_draft_is_told_from_it() {
    use keepstone::base::Kind;
    use keepstone::format::config::{self, Config};
    use keepstone::store::{Area, Key, ObjectStore};
    let vault = crate::vault::Vault::new();
    vault.back_up();
    let object = |name: &str| Key::new(Area::Config, name);
    let opened = |reader: &[&str], writer: &[&str]| {
        let vault = vault.copy();
        let context = crate::vault::open(std::sync::Arc::new(vault.0.clone()), &vault.1).unwrap();
        let stored = config::decode(&vault.0.get(&object("config"), u64::MAX).unwrap()).unwrap();
        let words = |features: &[&str]| features.iter().map(ToString::to_string).collect();
        let config = Config { reader_features: words(reader), writer_features: words(writer), ..stored.config };
        let bytes = config::encode(&config, context.repository.keyring().root().unwrap());
        for name in ["config.copy", "config"] {
            vault.0.replace(&object(name), &bytes).unwrap();
        }
        crate::vault::open(std::sync::Arc::new(vault.0.clone()), &vault.1)
            .and_then(|context| context.repository.check_writable().map_err(Into::into))
    };
    opened(&[], &["write-only-clients"]).unwrap();
    for (reader, writer, words) in [
        (&["moon"][..], &["moon"][..], "needs the feature `moon`"),
        (&[], &["tides"], "needs the feature `tides`"),
        (&["v1-draft"], &["v1-draft"], "tried out the format: make a new repository"),
    ] {
        let refused = opened(reader, writer).unwrap_err();
        assert_eq!(refused.kind(), Kind::Unsupported);
        assert!(refused.to_string().contains(words), "{refused}");
    }
}
