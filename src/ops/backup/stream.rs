//! Streams: what comes on standard input or from a command.

use super::StreamKind;
use crate::base::child::Program;
use crate::base::stop::Stoppable;
use crate::base::{Kind, Problem, Stop};
use crate::format::cbor::{Bytes, Unknown};
use crate::format::meta::{EntryKind, Meta};
use crate::format::snapshot::Stream;
use crate::format::tree::Node;
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{Read, stdin};
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;

use super::super::{Error, Result};

/// How many of the last lines of a command's errors a message repeats; all that is kept stands in the snapshot.
const SAID_LINES: usize = 10;
/// How many letters of them at most.
const SAID_LETTERS: usize = 1000;

/// The node of a stream: a file of the user who runs us, made now.
pub fn node(name: &[u8], now_ns: i64) -> Node {
    made_now(name, EntryKind::File, 0o600, now_ns)
}

/// The node of a directory for streams, without its tree.
pub fn directory(name: &[u8], now_ns: i64) -> Node {
    made_now(name, EntryKind::Directory, 0o700, now_ns)
}

fn made_now(name: &[u8], kind: EntryKind, mode: u32, now_ns: i64) -> Node {
    let (uid, gid) = crate::base::machine::acting_as();
    let meta = Meta {
        kind,
        mode,
        uid,
        gid,
        mtime_ns: now_ns,
        ctime_ns: now_ns,
        size: 0,
        inode: 0,
        device: 0,
        links: 1,
        rdev: 0,
        symlink_target: Vec::new(),
        xattrs: Vec::new(),
    };
    super::walk::node_of(&meta, name, &[], &[])
}

/// Hands the stream to `consume`, which says how many bytes came. An input that breaks off and a command that fails
/// are errors: what came then is not the whole.
pub fn read(
    kind: &StreamKind,
    stop: &Stop,
    mut consume: impl FnMut(&mut dyn Read) -> std::io::Result<u64>,
) -> Result<Stream> {
    let mut stream = Stream {
        path: Bytes::default(),
        kind: String::new(),
        command: Vec::new(),
        status: None,
        errors: Bytes::default(),
        bytes: 0,
        unknown: Unknown::none(),
    };
    match kind {
        StreamKind::Stdin => {
            stream.kind = "stdin".to_owned();
            let failed = |source| Error::Io { what: "read standard input".to_owned(), source };
            let input = stdin().as_fd().try_clone_to_owned().map_err(failed)?;
            stream.bytes = consume(&mut Stoppable::new(File::from(input), stop.clone())).map_err(failed)?;
        }
        StreamKind::Command(command) => {
            stream.kind = "command".to_owned();
            stream.command = command.iter().map(|word| Bytes(word.as_bytes().to_vec())).collect();
            run(command, &mut stream, stop, consume)?;
        }
    }
    Ok(stream)
}

fn run(
    command: &[OsString],
    stream: &mut Stream,
    stop: &Stop,
    mut consume: impl FnMut(&mut dyn Read) -> std::io::Result<u64>,
) -> Result<()> {
    let name = command.join(OsStr::new(" ")).to_string_lossy().into_owned();
    let failed = |what: &str| {
        let what = format!("{what} `{name}`");
        move |source| Error::Io { what, source }
    };
    let (program, arguments) =
        command.split_first().ok_or_else(|| Error::Usage("no command was given to read from".to_owned()))?;
    let mut child = Program::of_user(program).args(arguments).start(stop).map_err(failed("start"))?;
    let mut output = child.take_output().expect("nobody took it before");
    // If that fails the child is dropped, which ends it.
    stream.bytes = consume(&mut output).map_err(failed("read the output of"))?;
    drop(output);
    let ended = child.finish().map_err(failed("wait for"))?;
    if ended.stopped {
        return Err(Error::Interrupted);
    }
    stream.errors.0 = ended.errors;
    stream.status = ended.status.code().map(i64::from);
    if ended.status.success() {
        return Ok(());
    }
    let status = ended.status;
    let said = behind(&stream.errors);
    let problem = Problem::new(&name, format!("{status}{said}"), Kind::Source);
    Err(Error::NothingRead(format!("`{name}` failed with {status}, so there is no snapshot{said}"), vec![problem]))
}

/// The last lines of what a command wrote to its standard error, if anything.
pub fn said(errors: &Bytes) -> Option<String> {
    Some(last_lines(&String::from_utf8_lossy(&errors.0))).filter(|said| !said.is_empty())
}

/// The same, to be put behind a message.
pub fn behind(errors: &Bytes) -> String {
    said(errors).map(|said| format!(": {said}")).unwrap_or_default()
}

/// The last lines of what a command said, as many as a message can bear.
fn last_lines(said: &str) -> String {
    let said = said.trim();
    let lines = said.lines().count();
    let mut kept = said.lines().skip(lines.saturating_sub(SAID_LINES)).collect::<Vec<_>>().join("\n");
    if let Some((last, letter)) = kept.char_indices().nth_back(SAID_LETTERS) {
        kept.replace_range(..last + letter.len_utf8(), "…");
    }
    kept
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_repeats_the_last_lines_of_what_a_command_said() {
        assert_eq!(last_lines("one\ntwo\n"), "one\ntwo");
        let many: String = (0..500).map(|number| format!("line {number}\n")).collect();
        let said = last_lines(&many);
        assert!(said.starts_with("line 490\n") && said.ends_with("line 499"), "{said}");
        let long = last_lines(&"ä".repeat(5000));
        assert!(long.starts_with('…') && long.chars().count() <= SAID_LETTERS + 1, "{}", long.chars().count());
    }
}
