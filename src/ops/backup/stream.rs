//! Streams: what comes on standard input or from a command.

use super::StreamKind;
use crate::format::cbor::{Bytes, Unknown};
use crate::format::meta::{EntryKind, Meta};
use crate::format::snapshot::Stream;
use crate::format::tree::Node;
use std::io::{Read, stdin};
use std::process::{Child, Command, Stdio};

use super::super::{Error, Result};

/// The end of a command's standard error that is kept.
const ERRORS_BYTES: usize = 4 << 10;

/// The node of a stream: a file of the user who runs us, made now.
pub fn node(name: &[u8], now_ns: i64) -> Node {
    let (uid, gid) = crate::base::machine::acting_as();
    let meta = Meta {
        kind: EntryKind::File,
        mode: 0o600,
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
pub fn read(kind: &StreamKind, mut consume: impl FnMut(&mut dyn Read) -> std::io::Result<u64>) -> Result<Stream> {
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
            stream.bytes = consume(&mut stdin().lock()).map_err(failed)?;
        }
        StreamKind::Command(command) => {
            stream.kind = "command".to_owned();
            stream.command.clone_from(command);
            run(command, &mut stream, consume)?;
        }
    }
    Ok(stream)
}

fn run(
    command: &[String],
    stream: &mut Stream,
    mut consume: impl FnMut(&mut dyn Read) -> std::io::Result<u64>,
) -> Result<()> {
    let name = command.join(" ");
    let failed = |what: &str| {
        let what = format!("{what} `{name}`");
        move |source| Error::Io { what, source }
    };
    let (program, arguments) =
        command.split_first().ok_or_else(|| Error::Usage("no command was given to read from".to_owned()))?;
    let mut child = Command::new(program)
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(failed("start"))?;
    let errors = child.stderr.take().map(|errors| std::thread::spawn(move || tail_of(errors)));
    let consumed = match child.stdout.take() {
        Some(mut output) => consume(&mut output),
        None => Ok(0),
    };
    let consumed = consumed.inspect_err(|_| end(&mut child));
    let status = child.wait().map_err(failed("wait for"))?;
    stream.errors.0 = errors.and_then(|thread| thread.join().ok()).unwrap_or_default();
    stream.status = status.code().map(i64::from);
    stream.bytes = consumed.map_err(failed("read the output of"))?;
    if status.success() {
        return Ok(());
    }
    let errors = String::from_utf8_lossy(&stream.errors.0).trim().to_owned();
    let problem = crate::base::Problem::new(&name, format!("{status}: {errors}"), crate::base::Kind::Source);
    Err(Error::NothingRead(format!("`{name}` failed with {status}, so there is no snapshot: {errors}"), vec![problem]))
}

fn end(child: &mut Child) {
    // It may have ended by itself.
    let _ = child.kill();
}

/// Reads to the end and keeps the last few KiB.
fn tail_of(mut reader: impl Read) -> Vec<u8> {
    let mut tail = Vec::new();
    let mut piece = [0; 4096];
    while let Ok(length @ 1..) = reader.read(&mut piece) {
        tail.extend_from_slice(&piece[..length]);
        let excess = tail.len().saturating_sub(ERRORS_BYTES);
        tail.drain(..excess);
    }
    tail
}
