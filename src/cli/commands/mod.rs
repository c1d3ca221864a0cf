//! The commands, one short file each.

mod backup;
mod init;
mod plain;
mod snapshots;

use super::app::App;
use super::args::{Command, Filters};
use super::error::Result;
use super::exit::Exit;
use crate::ops::select;
use std::os::unix::ffi::OsStrExt;

/// Does what the arguments ask for.
pub fn run(app: &App, command: &Command) -> Result<Exit> {
    match command {
        Command::Init(given) => init::run(app, given),
        Command::Backup(given) => backup::run(app, given),
        Command::Snapshots(given) => snapshots::run(app, given),
        Command::Completions(given) => plain::completions(app, given),
        Command::Version => plain::version(app),
        _ => Err(super::error::Error::usage("not yet")),
    }
}

/// Which snapshots the common arguments mean.
fn filter(given: &Filters) -> select::Filter {
    select::Filter {
        hosts: given.host.clone(),
        tags: given.tag.iter().map(|list| select::parse_tags(list)).collect(),
        paths: given.path.iter().map(|path| path.as_bytes().to_vec()).collect(),
        ..select::Filter::default()
    }
}
