//! `dump`: one file, or a directory as an archive, to standard output.

use super::{filter, ls};
use crate::cli::app::App;
use crate::cli::args::{DatabaseFormat, Dump, DumpFormat};
use crate::cli::error::{Error, Result};
use crate::cli::exit::Exit;
use crate::cli::print::human;
use crate::config::surroundings;
use crate::ops::Context;
use crate::ops::browse::{self, Archive};
use crate::ops::export::{Shape, export};
use crate::ops::select::{self, Selected};
use crate::target::postgres::Programs;
use serde::Serialize;
use std::io::{self, BufWriter, IsTerminal, Write};
use std::os::unix::ffi::OsStrExt;

#[derive(Serialize)]
struct JsonDump {
    message_type: &'static str,
    entries: u64,
    content_bytes: u64,
    /// Entries that the archive cannot hold.
    left_out: u64,
    /// Entries whose names are not UTF-8 and stand in a zip with `\xNN` for each such byte.
    renamed: u64,
}

#[derive(Serialize)]
struct JsonDumpDatabase {
    message_type: &'static str,
    tables: u64,
    rows: u64,
    /// Bytes of rows.
    content_bytes: u64,
}

/// Standard output, which remembers whether its reader went away.
struct Pipe {
    out: BufWriter<io::Stdout>,
    closed: bool,
}

impl Pipe {
    fn note<T>(&mut self, result: io::Result<T>) -> io::Result<T> {
        self.closed |= result.as_ref().is_err_and(|error| error.kind() == io::ErrorKind::BrokenPipe);
        result
    }
}

impl Write for Pipe {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.out.write(bytes);
        self.note(written)
    }
    fn flush(&mut self) -> io::Result<()> {
        let flushed = self.out.flush();
        self.note(flushed)
    }
}

/// Dumps. With `--json` the summary goes to standard error: standard output is the content.
pub fn run(app: &App, given: &Dump) -> Result<Exit> {
    let context = app.context()?;
    let selected = select::select(&context, &given.snapshot, &filter(&given.filters))?;
    if let Some(format) = given.database_format {
        return database(app, given, &context, &selected, format);
    }
    let top = selected.path.clone().unwrap_or_else(|| b"/".to_vec());
    let path = if given.entry == "/" { top } else { ls::beneath(&top, given.entry.as_bytes()) };
    let node = browse::resolve(&context, &selected.snapshot, &path)?;
    if node.tree.is_some() && io::stdout().is_terminal() {
        return Err(Error::usage("an archive is nothing for a terminal: write `> FILE` or `| tar t` behind it"));
    }
    app.look.finish();
    let archive = match given.archive {
        DumpFormat::Tar => Archive::Tar,
        DumpFormat::Zip => Archive::Zip,
    };
    let mut pipe = Pipe { out: BufWriter::with_capacity(256 << 10, io::stdout()), closed: false };
    let dumped = browse::dump(&context, &selected.snapshot, &path, archive, &mut pipe);
    let dumped = match dumped.and_then(|dumped| flush(&mut pipe).map(|()| dumped)) {
        Ok(dumped) => dumped,
        Err(_) if pipe.closed => return Err(Error::Closed),
        Err(error) => return Err(error.into()),
    };
    if app.out.is_json() {
        let summary = JsonDump {
            message_type: "dump",
            entries: dumped.entries,
            content_bytes: dumped.bytes,
            left_out: dumped.left_out,
            renamed: dumped.renamed,
        };
        crate::cli::print::say(serde_json::to_string(&summary).unwrap_or_default());
        return Ok(Exit::Done);
    }
    if dumped.left_out > 0 {
        app.look.note(&format!("{} cannot be in such an archive", human::counted(dumped.left_out, "special file")));
    }
    if dumped.renamed > 0 {
        app.look.note(&format!(
            "{} not UTF-8: names in a zip are text, so bytes that are none stand as \\xNN there; a tar (--archive tar) holds \
             them as they are",
            human::counted(dumped.renamed, "name")
        ));
    }
    Ok(Exit::Done)
}

/// The dump of a database as one stream.
fn database(app: &App, given: &Dump, context: &Context, selected: &Selected, format: DatabaseFormat) -> Result<Exit> {
    if format == DatabaseFormat::Archive && io::stdout().is_terminal() {
        return Err(Error::usage("an archive is nothing for a terminal: write `> FILE` behind it"));
    }
    app.look.finish();
    let shape = match format {
        DatabaseFormat::Sql => Shape::Sql,
        DatabaseFormat::Archive => Shape::Archive,
    };
    let programs = Programs { surroundings: surroundings(), folder: given.programs.clone() };
    let mut pipe = Pipe { out: BufWriter::with_capacity(256 << 10, io::stdout()), closed: false };
    let exported = export(context, &selected.snapshot, given.database.as_deref(), shape, &programs, &mut pipe);
    let exported = match exported {
        Ok(exported) => exported,
        Err(_) if pipe.closed => return Err(Error::Closed),
        Err(error) => return Err(error.into()),
    };
    if app.out.is_json() {
        let summary = JsonDumpDatabase {
            message_type: "dump_database",
            tables: exported.tables,
            rows: exported.rows,
            content_bytes: exported.bytes,
        };
        crate::cli::print::say(serde_json::to_string(&summary).unwrap_or_default());
    } else {
        let (tables, rows) = (human::counted(exported.tables, "table"), human::counted(exported.rows, "row"));
        app.look.note(&format!("{tables} with {rows}, {} of rows", human::bytes(exported.bytes)));
    }
    Ok(Exit::Done)
}

fn flush(pipe: &mut Pipe) -> crate::ops::Result<()> {
    pipe.flush().map_err(|source| crate::ops::Error::Io { what: "write to standard output".to_owned(), source })
}
