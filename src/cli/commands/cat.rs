//! `cat`: an object of the repository as it is, decrypted.

use crate::cli::app::App;
use crate::cli::args;
use crate::cli::error::{Error, Result};
use crate::cli::exit::Exit;
use crate::ops::browse;
use std::io::{self, ErrorKind, IsTerminal, Write};

/// Prints an object: a structure as JSON, with `--json` on one line, a blob byte for byte.
pub fn run(app: &App, given: &args::Cat) -> Result<Exit> {
    if !browse::CAT_KINDS.contains(&given.kind.as_str()) {
        let kinds = browse::CAT_KINDS.join(", ");
        return Err(Error::usage(format!("`{}` is no kind of object: use one of {kinds}", given.kind)));
    }
    let context = app.context()?;
    let shown = browse::cat(&context, &given.kind, &given.id)?;
    app.look.finish();
    match shown {
        browse::Cat::Value(value) if app.out.is_json() => {
            app.out.object(&serde_json::json!({ "message_type": "object", "kind": given.kind, "object": value }));
        }
        browse::Cat::Value(value) => app.out.line(format!("{value:#}")),
        browse::Cat::Bytes(_) if io::stdout().is_terminal() => {
            return Err(Error::usage("a blob is nothing for a terminal: write `> FILE` behind it"));
        }
        browse::Cat::Bytes(bytes) => write(&bytes)?,
    }
    Ok(Exit::Done)
}

fn write(bytes: &[u8]) -> Result<()> {
    let mut out = io::stdout().lock();
    match out.write_all(bytes).and_then(|()| out.flush()) {
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Err(Error::Closed),
        other => other.map_err(|source| Error::io("write to standard output", source)),
    }
}
