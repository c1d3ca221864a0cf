//! What the program really asks the system to do with files: `strace` of its calls, read back.
//!
//! All strings and paths come in hexadecimal (`-xx`), so nothing in them can be taken for the syntax around them; what a
//! descriptor stands for is said beside it (`-y`). A call that another thread interrupts is printed in two lines, which
//! are joined; it may have had its effect anywhere between them, so both numbers are kept.

use std::collections::BTreeMap;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Every call that changes files, brings them to the disk, or moves the place where the next write goes.
const CALLS: &str = "trace=open,openat,creat,write,pwrite64,writev,pwritev,pwritev2,lseek,truncate,ftruncate,fallocate,\
    copy_file_range,sendfile,splice,ioctl,rename,renameat,renameat2,link,linkat,symlink,symlinkat,unlink,unlinkat,rmdir,\
    mkdir,mkdirat,utimensat,fsync,fdatasync,syncfs,sync,sync_file_range,msync";

/// More than any write here is long: what is cut off would be lost to the model.
const LONGEST_STRING: &str = "16777216";

/// One call that succeeded, or one that found that somebody else had done it (`EEXIST`).
#[derive(Clone, Debug)]
pub struct Call {
    /// The line in which it began.
    pub begun: usize,
    /// The line in which it ended.
    pub ended: usize,
    /// What the system call is called.
    pub name: String,
    arguments: Vec<String>,
    answer: String,
}

/// Why there is no trace here; none if there can be one.
pub fn cannot() -> Option<String> {
    let tried = Command::new("strace").args(["-f", "--seccomp-bpf", "-o", "/dev/null", "true"]).output();
    match tried {
        Err(error) => Some(format!("strace cannot be started: {error}")),
        Ok(output) if !output.status.success() => {
            Some(format!("strace cannot attach: {}", String::from_utf8_lossy(&output.stderr).trim()))
        }
        Ok(_) => None,
    }
}

/// The same command under `strace`, which writes to `log`.
pub fn traced(command: &Command, log: &Path) -> Command {
    let mut traced = Command::new("strace");
    traced.args(["-f", "-y", "-xx", "--seccomp-bpf", "-s", LONGEST_STRING, "-e", CALLS, "-o"]).arg(log);
    traced.arg(command.get_program()).args(command.get_args()).env_clear();
    for (name, value) in command.get_envs() {
        if let Some(value) = value {
            traced.env(name, value);
        }
    }
    if let Some(folder) = command.get_current_dir() {
        traced.current_dir(folder);
    }
    traced.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    traced
}

/// All calls of a trace, in the order in which they ended, and how many lines it has.
pub fn read(text: &str) -> (Vec<Call>, usize) {
    let mut unfinished: BTreeMap<&str, (usize, String)> = BTreeMap::new();
    let mut calls = Vec::new();
    let mut lines = 0;
    for (number, line) in text.lines().enumerate() {
        lines = number + 1;
        let (thread, rest) = line.split_once(' ').unwrap_or_else(|| panic!("no thread in line {lines}: {line}"));
        let rest = rest.trim_start();
        // Signals and ends of threads.
        if rest.starts_with("---") || rest.starts_with("+++") {
            continue;
        }
        if let Some(beginning) = rest.strip_suffix("<unfinished ...>") {
            unfinished.insert(thread, (number, beginning.trim_end().to_owned()));
            continue;
        }
        let whole = match rest.strip_prefix("<... ") {
            None => (number, rest.to_owned()),
            Some(resumed) => {
                let (_, end) = resumed.split_once(" resumed>").expect("a resumed call says so");
                let (begun, beginning) = unfinished.remove(thread).expect("what is resumed was begun");
                (begun, beginning + end)
            }
        };
        calls.extend(Call::parse(whole.0, number, &whole.1));
    }
    (calls, lines)
}

impl Call {
    fn parse(begun: usize, ended: usize, text: &str) -> Option<Call> {
        let (name, rest) = text.split_once('(').unwrap_or_else(|| panic!("no call in line {ended}: {text}"));
        let (arguments, answer) =
            rest.rsplit_once(" = ").unwrap_or_else(|| panic!("no answer in line {ended}: {text}"));
        let arguments =
            arguments.trim_end().strip_suffix(')').unwrap_or_else(|| panic!("no end in line {ended}: {text}"));
        let answer = answer.trim();
        if answer.starts_with('?') || (answer.starts_with('-') && !answer.contains("EEXIST")) {
            return None;
        }
        assert!(!arguments.contains("\"..."), "a string was cut off in line {ended}");
        Some(Call { begun, ended, name: name.to_owned(), arguments: split(arguments), answer: answer.to_owned() })
    }

    /// Whether it came too late: the name was taken.
    pub fn found_it_there(&self) -> bool {
        self.answer.starts_with('-')
    }

    /// The number that it answered.
    pub fn count(&self) -> u64 {
        leading_number(&self.answer).unwrap_or_else(|| panic!("no number in {self:?}"))
    }

    /// The path that belongs to the descriptor that it answered.
    pub fn opened(&self) -> PathBuf {
        path_in(&self.answer).unwrap_or_else(|| panic!("no path in the answer of {self:?}"))
    }

    /// An argument as it stands there.
    pub fn word(&self, at: usize) -> &str {
        self.arguments.get(at).map_or("", String::as_str)
    }

    /// An argument that is a number.
    pub fn number(&self, at: usize) -> u64 {
        leading_number(self.word(at)).unwrap_or_else(|| panic!("argument {at} is no number: {:.200?}", self.word(at)))
    }

    /// The file or folder of the descriptor at an argument.
    pub fn file(&self, at: usize) -> PathBuf {
        path_in(self.word(at)).unwrap_or_else(|| panic!("argument {at} has no path: {:.200?}", self.word(at)))
    }

    /// The strings of an argument, one after the other.
    pub fn bytes(&self, at: usize) -> Vec<u8> {
        // What stands between quotes is every other piece.
        self.word(at).split('"').skip(1).step_by(2).flat_map(unescape).collect()
    }

    /// The path at an argument, seen from `folder`.
    pub fn path(&self, at: usize, folder: &Path) -> PathBuf {
        let path = PathBuf::from(std::ffi::OsString::from_vec(self.bytes(at)));
        // A `.` in the middle goes when a path is taken apart; one at the beginning stays.
        folder.join(path).components().filter(|part| *part != std::path::Component::CurDir).collect()
    }

    /// The path at an argument, seen from the folder of the descriptor before it.
    pub fn path_at(&self, folder: usize) -> PathBuf {
        self.path(folder + 1, &self.file(folder))
    }
}

/// Arguments, separated by commas that do not stand within brackets.
fn split(text: &str) -> Vec<String> {
    let (mut arguments, mut argument, mut depth) = (Vec::new(), String::new(), 0);
    for c in text.chars() {
        match c {
            '<' | '[' | '{' | '(' => depth += 1,
            '>' | ']' | '}' | ')' => depth -= 1,
            ',' if depth == 0 => {
                arguments.push(std::mem::take(&mut argument));
                continue;
            }
            ' ' if argument.is_empty() => continue,
            _ => {}
        }
        argument.push(c);
    }
    arguments.push(argument);
    arguments
}

fn leading_number(text: &str) -> Option<u64> {
    if let Some(digits) = text.strip_prefix("0x") {
        return u64::from_str_radix(digits, 16).ok();
    }
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    text[..end].parse().ok()
}

fn path_in(text: &str) -> Option<PathBuf> {
    let (_, rest) = text.split_once('<')?;
    let (path, _) = rest.split_once('>')?;
    Some(PathBuf::from(std::ffi::OsString::from_vec(unescape(path))))
}

/// `\x2f` is a byte; anything else, as in `socket:[17]`, stands for itself.
fn unescape(text: &str) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(text.len() / 4);
    let mut rest = text.as_bytes();
    while let Some(first) = rest.first() {
        match rest {
            [b'\\', b'x', high, low, ..] => {
                bytes.push(digit(*high) << 4 | digit(*low));
                rest = &rest[4..];
            }
            _ => {
                bytes.push(*first);
                rest = &rest[1..];
            }
        }
    }
    bytes
}

fn digit(c: u8) -> u8 {
    char::from(c).to_digit(16).expect("strace prints hexadecimal digits") as u8
}

#[test]
fn a_trace_of_threads_that_interrupt_each_other_is_read_as_it_happened() {
    let text = r#"7 openat(3<\x2f\x72>, "\x74\x6d\x70", O_RDWR|O_CREAT|O_EXCL, 0600 <unfinished ...>
8 fsync(9<\x2f\x72\x2f\x61> <unfinished ...>
7 <... openat resumed>) = 4<\x2f\x72\x2f\x74\x6d\x70>
7 mkdirat(3<\x2f\x72>, "\x61", 0700) = -1 EEXIST (File exists)
7 unlink("\x61") = -1 ENOENT (No such file or directory)
8 <... fsync resumed>)              = 0
7 writev(4<\x2f\x72\x2f\x74\x6d\x70>, [{iov_base="\x01\x2c", iov_len=2}, {iov_base="\x22", iov_len=1}], 2) = 3
7 exit_group(0) = ?
7 +++ exited with 0 +++
"#;
    let (calls, lines) = read(text);
    assert_eq!(lines, 9);
    let names: Vec<_> = calls.iter().map(|call| (call.name.as_str(), call.begun, call.ended)).collect();
    assert_eq!(names, [("openat", 0, 2), ("mkdirat", 3, 3), ("fsync", 1, 5), ("writev", 6, 6)]);
    assert_eq!((calls[0].path_at(0), calls[0].opened()), (PathBuf::from("/r/tmp"), PathBuf::from("/r/tmp")));
    assert_eq!((calls[0].count(), calls[0].word(2)), (4, "O_RDWR|O_CREAT|O_EXCL"));
    assert!(calls[1].found_it_there() && !calls[2].found_it_there());
    assert_eq!(calls[2].file(0), PathBuf::from("/r/a"));
    assert_eq!((calls[3].bytes(1), calls[3].count()), (vec![1, b',', b'"'], 3));
}
