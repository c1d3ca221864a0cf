//! How golden repositories are made: by the program, with a little of all that a repository can hold.
//!
//! With `KEEPSTONE_GOLDEN=FOLDER` they are left in that folder, which must not be there yet; otherwise they are made
//! all the same, checked like those that are kept, and thrown away.

use super::{Golden, told};
use crate::program::{CHEAP, Place, Run, noise};
use crate::{servers, servers_mysql};
use keepstone::base::Clock;
use keepstone::format::session::SessionKind;
use keepstone::ops::verify::{self, Depth};
use keepstone::repo::Session;
use keepstone::store::{Crash, Fault, Local};
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

/// A golden repository in the making.
struct Maker<'m> {
    place: Place,
    golden: &'m Golden,
    /// What each snapshot has to come back as.
    expected: String,
}

impl Maker<'_> {
    fn new(golden: &Golden) -> Maker<'_> {
        let maker = Maker { place: Place::new(), golden, expected: String::new() };
        fs::create_dir_all(golden.path("keys")).unwrap();
        fs::write(golden.path("keys/password"), format!("{}\n", crate::program::PASSWORD)).unwrap();
        maker
    }

    fn run(&self, args: &[&str]) -> Run {
        self.place.run(args).expect(0)
    }

    /// Backs up a folder and writes down what has to come back.
    fn back_up(&mut self, folder: &str, options: &[&str]) -> String {
        let run = self.run(&[&["backup", "--json"], options, &[folder]].concat()).json();
        let id = run[0]["snapshot"]["id"].as_str().unwrap().to_owned();
        let tree = told(&self.place.path(folder)).join("\n");
        self.expected.push_str(&format!("snapshot {id} {folder}\n{tree}\n\n"));
        id
    }

    /// Forgets what was said of a snapshot, and the snapshot.
    fn forget(&mut self, id: &str) {
        self.run(&["forget", id]);
        let rest = self.expected.split("\n\n").filter(|part| !part.is_empty() && !part.contains(id));
        self.expected = rest.map(|part| format!("{part}\n\n")).collect();
    }

    /// Keeps a file that opens the repository.
    fn keep_key(&self, name: &str) {
        fs::copy(self.place.path(name), self.golden.path("keys").join(name)).unwrap();
    }

    /// A night of a profile with these sources, which leaves a record with phases and tables.
    fn night(&self, sources: &str) {
        let at = |name: &str| self.place.path(name).display().to_string();
        let text = format!(
            "state_dir = \"{}\"\n[repositories.main]\nplace = \"{}\"\npassword_file = \"{}\"\ncache_dir = \"{}\"\n\
             [profiles.web]\nrepository = \"main\"\nlimits.min_free = 0\nverify.share = \"1/1\"\n{sources}",
            at("state"),
            at("vault"),
            self.golden.path("keys/password").display(),
            at("cache"),
        );
        fs::write(self.place.path("keepstone.toml"), text).unwrap();
        let night = |command: &mut Command| {
            command.env("MYSQL_WORD", servers_mysql::server::PASSWORD).env("HOME", self.place.path(""));
        };
        self.place.run_with(&["run", "web", "--config", "keepstone.toml"], night, b"").expect(0);
    }

    fn finish(self) {
        fs::write(self.golden.path("expected"), &self.expected).unwrap();
        copy_tree(&self.place.path("vault"), &self.golden.path("repository"));
    }
}

/// Copies a folder with all that is in it.
pub fn copy_tree(from: &Path, to: &Path) {
    let done = Command::new("cp").arg("-R").arg(from).arg(to).status().unwrap();
    assert!(done.success(), "cp {} {}", from.display(), to.display());
}

/// Rows of which each night changes a few.
fn rows(night: usize) -> Vec<u8> {
    let mut text = Vec::new();
    for (row, values) in noise(150_000).chunks(24).enumerate() {
        let changed = (1..=night).rfind(|night| (row + night * 37).is_multiple_of(151)).unwrap_or(0);
        let hex: String = values.iter().map(|byte| format!("{byte:02x}")).collect();
        writeln!(text, "{row},{changed},{hex}").unwrap();
    }
    text
}

/// File trees: odd names and modes, holes, links, attributes, nights of a dump that changes a little, every level of
/// compression, sidecars, epochs, a new root, keys of every kind, a damage that was mended and one that was not, a
/// prune, and so many records that older ones lie in a history.
pub fn files(golden: &Golden) {
    let mut maker = Maker::new(golden);
    make_source(&maker.place);
    maker.run(&[&["init", "--parity", "10%"], &CHEAP[..]].concat());
    let first = maker.back_up("source", &["--compression", "none", "--tag", "first,of-many"]);
    fs::create_dir(maker.place.path("nightly")).unwrap();
    for (night, level) in ["fast", "default", "max", "default"].iter().enumerate() {
        let name = |night: usize| maker.place.path(&format!("nightly/shop_2025031{night}.sql"));
        let _ = fs::remove_file(name(night.saturating_sub(1)));
        fs::write(name(night), rows(night)).unwrap();
        maker.back_up("nightly", &["--compression", level, "--description", "a night"]);
    }
    add_keys(&maker);
    maker.run(&["key", "rotate"]);
    hurt_and_mend(&maker);
    fs::remove_file(maker.place.path("source/numbers.bin")).unwrap();
    fs::write(maker.place.path("source/letters/new.txt"), "Dear Eve\n").unwrap();
    maker.back_up("source", &[]);
    maker.forget(&first);
    maker.run(&["prune", "--max-unused", "0"]);
    maker.run(&["key", "rotate", "--root"]);
    maker.run(&["key", "rotate", "--reseal", "--budget", "100K"]);
    maker.back_up("source/letters", &["--host", "another"]);
    leave_records(&maker, 130);
    maker.run(&["verify"]);
    maker.run(&["prune"]);
    maker.finish();
}

fn make_source(place: &Place) {
    place.make_tree();
    place.make_odd_tree();
    fs::rename(place.path("odd"), place.path("source/odd")).unwrap();
    let source = place.path("source");
    fs::write(source.join("runs.txt"), "the same again and again\n".repeat(100_000)).unwrap();
    let holes = fs::File::create(source.join("holes")).unwrap();
    holes.set_len(5_000_000).unwrap();
    std::os::unix::fs::FileExt::write_all_at(&holes, b"an island", 3_000_000).unwrap();
    fs::create_dir(source.join("many")).unwrap();
    for number in 0..600 {
        fs::write(source.join(format!("many/one of many, number {number:05}")), number.to_string()).unwrap();
    }
    xattr::set(source.join("runs.txt"), "user.colour", b"green").unwrap();
    assert!(Command::new("mkfifo").arg(source.join("pipe")).status().unwrap().success());
}

/// One damage that the sidecar mends, and one that only the files themselves do: it is written down, and what they still
/// hold is stored again.
fn hurt_and_mend(maker: &Maker<'_>) {
    let (pack, bytes) = largest_pack(&maker.place.path("vault"));
    let mut hurt = bytes.clone();
    hurt[bytes.len() / 2] ^= 0x10;
    fs::write(&pack, hurt).unwrap();
    maker.run(&["repair", "apply", "--all"]);
    assert!(fs::read(&pack).unwrap() == bytes, "mended");
    let name = pack.file_name().unwrap().to_string_lossy().into_owned();
    fs::remove_file(maker.place.path(&format!("vault/parity/{}/{name}", &name[..2]))).unwrap();
    let mut hurt = bytes.clone();
    hurt[bytes.len() / 4..bytes.len() / 2].fill(0);
    fs::write(&pack, hurt).unwrap();
    maker.place.run(&["repair", "apply", "--all"]).expect(4);
    maker.run(&["backup", "--force", "source", "nightly"]);
    maker.run(&["forget", "latest"]);
}

fn largest_pack(vault: &Path) -> (PathBuf, Vec<u8>) {
    let folders = fs::read_dir(vault.join("packs")).unwrap().map(|entry| entry.unwrap().path());
    let packs = folders.flat_map(|folder| fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()));
    let pack = packs.max_by_key(|pack| pack.metadata().unwrap().len()).unwrap();
    let bytes = fs::read(&pack).unwrap();
    (pack, bytes)
}

/// Leaves records of as many looks at what is there, which costs less in one process.
fn leave_records(maker: &Maker<'_>, count: usize) {
    let store = Arc::new(Local::open(maker.place.path("vault")).unwrap());
    let context = crate::vault::open(store, &Clock::System).unwrap();
    for _ in 0..count {
        verify::verify(&context, &verify::Options { snapshots: Vec::new(), depth: Depth::Presence }).unwrap();
    }
}

/// A slot of each kind.
fn add_keys(maker: &Maker<'_>) {
    maker.run(&["key", "add", "--generate-key-file", "generated.key"]);
    fs::write(maker.place.path("own.key"), "a key file of at least sixteen bytes").unwrap();
    maker.run(&["key", "add", "--new-key-file", "own.key", "--label", "a file of one's own"]);
    let made = maker.run(&["key", "generate", "bank.identity"]).text();
    let recipient = made.split_whitespace().find(|word| word.starts_with("age1")).unwrap().to_owned();
    maker.run(&["key", "add", "--recipient", &recipient, "--label", "bank"]);
    ["generated.key", "own.key", "bank.identity"].iter().for_each(|name| maker.keep_key(name));
}

/// What is left in the midst of things: epochs that hold others, a damage that is written down and whose content was stored
/// anew, a prune that was killed after it had condemned something, and a backup that died.
pub fn amid(golden: &Golden) {
    let mut maker = Maker::new(golden);
    maker.place.make_tree();
    maker.run(&[&["init"], &CHEAP[..]].concat());
    let first = maker.back_up("source", &["--tag", "first"]);
    fs::write(maker.place.path("own.key"), "a key file of at least sixteen bytes").unwrap();
    maker.run(&["key", "add", "--new-key-file", "own.key"]);
    maker.keep_key("own.key");
    for _ in 0..9 {
        maker.run(&["key", "rotate"]);
    }
    fs::remove_file(maker.place.path("source/letters/old/bob.txt")).unwrap();
    fs::write(maker.place.path("source/letters/new.txt"), rows(1)).unwrap();
    maker.back_up("source", &[]);
    let (pack, mut bytes) = largest_pack(&maker.place.path("vault"));
    let (from, to) = (bytes.len() / 4, bytes.len() / 2);
    bytes[from..to].fill(0);
    fs::write(&pack, bytes).unwrap();
    maker.place.run(&["repair", "apply", "--all"]).expect(4);
    maker.back_up("source", &["--force"]);
    maker.forget(&first);
    kill_a_prune(&maker);
    let store = Arc::new(Local::open(maker.place.path("vault")).unwrap());
    let context = crate::vault::open(store, &Clock::System).unwrap();
    std::mem::forget(Session::begin(&context.repository, SessionKind::Writer, "backup").unwrap());
    maker.finish();
}

/// Kills a prune right after it has condemned something.
fn kill_a_prune(maker: &Maker<'_>) {
    let vault = maker.place.path("vault");
    for change in 1..100 {
        let trial = maker.place.path(&format!("trial{change}"));
        copy_tree(&vault, &trial);
        let fault = Fault::new(Local::open(trial.clone()).unwrap());
        fault.crash_at(change, Crash::After);
        crate::vault::prune_all(&crate::vault::open(Arc::new(fault), &Clock::System).unwrap()).unwrap_err();
        if fs::read_dir(trial.join("condemned")).is_ok_and(|mut records| records.next().is_some()) {
            fs::remove_dir_all(&vault).unwrap();
            fs::rename(&trial, &vault).unwrap();
            return;
        }
        fs::remove_dir_all(trial).unwrap();
    }
    panic!("it condemned nothing");
}

/// A client that may only write, and what it stored before and after somebody vouched for it.
pub fn clients(golden: &Golden) {
    let mut maker = Maker::new(golden);
    maker.place.make_tree();
    maker.run(&[&["init"], &CHEAP[..]].concat());
    maker.back_up("source", &[]);
    maker.run(&["key", "add", "--write-only", "--generate-key-file", "client.key", "--label", "a client"]);
    maker.keep_key("client.key");
    let client = ["--key-file", "client.key"];
    fs::write(maker.place.path("source/larger.bin"), noise(400_000)).unwrap();
    back_up_with(&mut maker, &client);
    maker.run(&["verify"]);
    fs::write(maker.place.path("source/letters/new.txt"), "Dear Eve\n").unwrap();
    back_up_with(&mut maker, &client);
    maker.finish();
}

/// Backs up `source` with the key of a client, which learns no snapshot's content.
fn back_up_with(maker: &mut Maker<'_>, client: &[&str]) {
    let bare = |command: &mut Command| {
        command.env_remove("KEEPSTONE_PASSWORD");
    };
    let args = [client, &["backup", "--json", "source"]].concat();
    let run = maker.place.run_with(&args, bare, b"").expect(0).json();
    let id = run[0]["snapshot"]["id"].as_str().unwrap().to_owned();
    let tree = told(&maker.place.path("source")).join("\n");
    maker.expected.push_str(&format!("snapshot {id} source\n{tree}\n\n"));
}

/// Two databases and the output of a command. False if there are no servers to take them from.
pub fn databases(golden: &Golden) -> bool {
    let (Some(postgres), Some(mysql)) = (servers::postgres::server(), servers_mysql::server::server()) else {
        return false;
    };
    let maker = Maker::new(golden);
    const SHOP: &str = "CREATE TABLE goods (id int PRIMARY KEY, name text NOT NULL, price numeric(8,2));
        INSERT INTO goods SELECT n, 'piece ' || n, n / 7.0 FROM generate_series(1, 500) n;
        CREATE INDEX by_name ON goods (name);
        CREATE SEQUENCE tickets START 40; SELECT nextval('tickets')";
    postgres.create_named("golden", SHOP);
    mysql.fresh("golden");
    mysql.sql_in(
        "golden",
        "CREATE TABLE goods (id int PRIMARY KEY, name varchar(40), price decimal(8,2)) ENGINE=InnoDB",
    );
    for first in [1, 200] {
        let values: Vec<String> = (first..first + 150).map(|n| format!("({n}, 'piece {n}', {n}.5)")).collect();
        mysql.sql_in("golden", &format!("INSERT INTO goods VALUES {}", values.join(", ")));
    }
    maker.run(&[&["init"], &CHEAP[..]].concat());
    let (postgres_url, mysql_url) = (postgres.url("golden"), mysql.url("golden"));
    let sources = ["--postgres", &postgres_url, "--mysql", &mysql_url, "--command", "words=echo so many words"];
    maker.run(&[&["backup"], &sources[..]].concat());
    postgres.connect("golden").execute("UPDATE goods SET price = 1 WHERE id = 250").unwrap();
    maker.night(&format!(
        "[profiles.web.sources.postgres.golden]\nurl = \"{}\"\n[profiles.web.sources.mysql.golden]\nurl = \"mysql://boss@127.0.0.1:{}/golden\"\n\
         password_env = \"MYSQL_WORD\"\n[profiles.web.sources.command.words]\nrun = \"echo so many words\"\n",
        postgres.socket_url("golden"),
        mysql.port(),
    ));
    postgres.connect("postgres").execute("DROP DATABASE golden").unwrap();
    mysql.sql("DROP DATABASE golden");
    maker.finish();
    true
}
