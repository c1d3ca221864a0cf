//! The real program, run as a user runs it, with a repository, sources and a cache of its own.

use std::ffi::OsStr;
use std::fs;
use std::io::Write;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, SystemTime};

/// The password of every repository made here.
pub const PASSWORD: &str = "correct horse";

/// Stretching that costs next to nothing.
pub const CHEAP: [&str; 4] = ["--kdf-memory", "8K", "--kdf-passes", "1"];

/// The program that was built with these tests, or the copy of it that `KEEPSTONE_BIN` says: the one that was built may
/// lie where whoever runs the tests cannot look.
pub fn binary() -> PathBuf {
    std::env::var_os("KEEPSTONE_BIN").unwrap_or_else(|| env!("CARGO_BIN_EXE_keepstone").into()).into()
}

/// A place to work in.
pub struct Place {
    folder: tempfile::TempDir,
}

/// What a run came to.
pub struct Run {
    /// The exit code.
    pub code: i32,
    /// Standard output.
    pub out: Vec<u8>,
    /// Standard error.
    pub err: String,
}

impl Place {
    /// An empty place.
    pub fn new() -> Place {
        Place { folder: tempfile::tempdir().unwrap() }
    }

    /// A place with a repository that holds one snapshot of [`Place::make_tree`].
    pub fn with_snapshot() -> Place {
        let place = Place::new();
        place.make_tree();
        let args = [&["backup", "--init"], &CHEAP[..], &["--tag", "nightly", "source"]].concat();
        place.run(&args).expect(0);
        place
    }

    /// A path in here.
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Some files in `source`.
    pub fn make_tree(&self) {
        let source = self.path("source");
        fs::create_dir_all(source.join("letters/old")).unwrap();
        fs::write(source.join("letters/ann.txt"), "Dear Ann\n").unwrap();
        fs::write(source.join("letters/old/bob.txt"), "Dear Bob\n".repeat(200)).unwrap();
        fs::write(source.join("numbers.bin"), noise(300_000)).unwrap();
        symlink("letters/ann.txt", source.join("newest")).unwrap();
        let long_ago = SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000);
        for name in ["letters/ann.txt", "letters/old/bob.txt", "numbers.bin"] {
            let file = fs::File::options().write(true).open(source.join(name)).unwrap();
            file.set_modified(long_ago).unwrap();
        }
    }

    /// Entries that programs stumble over: odd names, empty things, modes, links.
    pub fn make_odd_tree(&self) {
        let odd = self.path("odd");
        fs::create_dir_all(odd.join("empty")).unwrap();
        for name in
            [&b"a\nb"[..], b"\xff\xfe not utf-8", b"quote\" ' \\ $", "täglich é".as_bytes(), b"-n", &[b'x'; 255]]
        {
            fs::write(odd.join(OsStr::from_bytes(name)), [name, b" holds this"].concat()).unwrap();
        }
        fs::write(odd.join("nothing"), "").unwrap();
        fs::hard_link(odd.join("-n"), odd.join("second name")).unwrap();
        symlink(OsStr::from_bytes(b"nowhere/\xff"), odd.join("dangling")).unwrap();
        fs::set_permissions(odd.join("nothing"), fs::Permissions::from_mode(0o4751)).unwrap();
        fs::set_permissions(odd.join("empty"), fs::Permissions::from_mode(0o1500)).unwrap();
    }

    /// Runs with the repository `vault` and the password.
    pub fn run<S: AsRef<OsStr>>(&self, args: &[S]) -> Run {
        self.run_with(args, |_| {}, b"")
    }

    /// Runs after `change` had its way with the command, and writes `input` to its standard input.
    pub fn run_with<S: AsRef<OsStr>>(&self, args: &[S], change: impl FnOnce(&mut Command), input: &[u8]) -> Run {
        let mut command = self.command(args);
        change(&mut command);
        let mut child = command.spawn().unwrap();
        // A command that ends without reading its input is none of our business.
        let _ = child.stdin.take().unwrap().write_all(input);
        Run::of(child)
    }

    /// The program as [`Place::run`] starts it.
    pub fn command<S: AsRef<OsStr>>(&self, args: &[S]) -> Command {
        let mut command = Command::new(binary());
        command.current_dir(self.folder.path()).args(args).env_clear();
        command.env("PATH", std::env::var_os("PATH").unwrap_or_default()).env("TZ", "UTC").env("USER", "ann");
        command.env("KEEPSTONE_REPOSITORY", "vault").env("KEEPSTONE_PASSWORD", PASSWORD);
        command.env("KEEPSTONE_CACHE_DIR", self.path("cache"));
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }
}

impl Run {
    /// Waits for the end of a program; its input is closed.
    pub fn of(child: Child) -> Run {
        let output = child.wait_with_output().unwrap();
        Run {
            code: output.status.code().unwrap_or(-1),
            out: output.stdout,
            err: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }

    /// Says what was printed when the exit code is another.
    #[track_caller]
    pub fn expect(self, code: i32) -> Run {
        assert_eq!(self.code, code, "standard output:\n{}\nstandard error:\n{}", self.text(), self.err);
        self
    }

    /// Standard output as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.out).into_owned()
    }

    /// Standard output as JSON objects, one a line. Every one has a `message_type`.
    #[track_caller]
    pub fn json(&self) -> Vec<serde_json::Value> {
        let text = String::from_utf8(self.out.clone()).unwrap();
        let objects: Vec<serde_json::Value> = text
            .lines()
            .map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}")))
            .collect();
        assert!(objects.iter().all(|object| object["message_type"].is_string()), "{text}");
        objects
    }
}

/// Bytes that do not compress; always the same.
pub fn noise(length: usize) -> Vec<u8> {
    let mut state = 1u64;
    let next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (state >> 56) as u8
    };
    std::iter::repeat_with(next).take(length).collect()
}

/// Length and FNV-1a hash: a difference that can be read.
fn digest(bytes: &[u8]) -> String {
    let hash = bytes
        .iter()
        .fold(0xcbf2_9ce4_8422_2325u64, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3));
    format!("{} bytes {hash:016x}", bytes.len())
}

/// Everything that can be seen of a tree, entry by entry.
pub fn describe(top: &Path) -> Vec<String> {
    let mut lines = Vec::new();
    describe_into(top, top, &mut lines);
    lines.sort();
    lines
}

fn describe_into(top: &Path, path: &Path, lines: &mut Vec<String>) {
    use std::os::unix::fs::MetadataExt;
    let meta = path.symlink_metadata().unwrap();
    let name = path.strip_prefix(top).unwrap();
    let content = match meta.file_type() {
        kind if kind.is_symlink() => format!("{:?}", fs::read_link(path).unwrap()),
        kind if kind.is_file() => format!("{} {} links", digest(&fs::read(path).unwrap()), meta.nlink()),
        _ => String::new(),
    };
    let (mode, seconds, nanoseconds) = (meta.mode(), meta.mtime(), meta.mtime_nsec());
    lines.push(format!("{name:?} {mode:o} {}:{} {seconds}.{nanoseconds} {content}", meta.uid(), meta.gid()));
    if meta.is_dir() {
        for entry in fs::read_dir(path).unwrap() {
            describe_into(top, &entry.unwrap().path(), lines);
        }
    }
}
