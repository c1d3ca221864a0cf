//! `ls` and `find`: what is in snapshots.

use super::{entry, filter, tell};
use crate::base::Problem;
use crate::cli::app::App;
use crate::cli::args::{Find, Ls};
use crate::cli::error::Result;
use crate::cli::exit::Exit;
use crate::cli::print::human;
use crate::ops::{browse, select};
use serde::Serialize;
use std::os::unix::ffi::OsStrExt;

#[derive(Serialize)]
struct JsonListed {
    message_type: &'static str,
    entries: u64,
    /// Bytes of content of the files among them.
    content_bytes: u64,
    snapshots: u64,
}

#[derive(Default)]
struct Count {
    entries: u64,
    bytes: u64,
}

/// Lists files.
pub fn ls(app: &App, given: &Ls) -> Result<Exit> {
    let context = app.context()?;
    let selected = select::select(&context, &given.snapshot, &filter(&given.filters))?;
    app.look.finish();
    let top = selected.path.clone().unwrap_or_else(|| b"/".to_vec());
    let directories: Vec<Vec<u8>> = match given.directories.is_empty() {
        true => vec![top],
        false => given.directories.iter().map(|path| beneath(&top, path.as_bytes())).collect(),
    };
    let recursive = given.recursive || given.directories.is_empty();
    let mut count = Count::default();
    let mut problems = Vec::new();
    for directory in &directories {
        let listed = browse::ls(&context, &selected.snapshot, directory, recursive, &mut |found| {
            count.entries += 1;
            count.bytes = count.bytes.saturating_add(found.node.size);
            entry::print(app, found, given.long, None);
            app.still_read()
        });
        problems.extend(app.listed(listed)?);
    }
    close(app, "ls", &count, 1, &problems, &format!("restore {} --target DIR", selected.snapshot.id.short()))
}

/// A path given beside `SNAP:PATH` lies beneath it.
pub fn beneath(top: &[u8], path: &[u8]) -> Vec<u8> {
    if top == b"/" { path.to_vec() } else { [top, b"/", path].concat() }
}

/// Finds files by name.
pub fn find(app: &App, given: &Find) -> Result<Exit> {
    let context = app.context()?;
    let mut wanted = browse::Find {
        newer_ns: given.newer.map(|time| time.as_nanosecond() as i64),
        larger: given.larger,
        ..browse::Find::default()
    };
    for pattern in &given.patterns {
        wanted.add(pattern.as_bytes(), given.ignore_case)?;
    }
    let listing = select::select_all(&context, &given.snapshots, &filter(&given.filters))?;
    app.look.finish();
    let mut count = Count::default();
    let mut problems = listing.damaged;
    let mut last = None;
    for snapshot in &listing.snapshots {
        let mut first = true;
        let found = browse::find(&context, snapshot, b"/", &wanted, &mut |found| {
            if std::mem::take(&mut first) && !app.out.is_json() {
                app.out.line(format!("snapshot {} of {}", snapshot.id.short(), human::time(snapshot.time_ns)));
            }
            count.entries += 1;
            count.bytes = count.bytes.saturating_add(found.node.size);
            last = Some((snapshot.id.short(), found.path.to_vec()));
            entry::print(app, found, given.long, Some(&snapshot.id.to_string()));
            app.still_read()
        });
        problems.extend(app.listed(found)?);
    }
    let next = match last {
        Some((id, path)) => format!("restore {id}:{} --target DIR", human::shell_word(&String::from_utf8_lossy(&path))),
        None => "snapshots".to_owned(),
    };
    close(app, "find", &count, listing.snapshots.len() as u64, &problems, &next)
}

fn close(
    app: &App,
    message_type: &'static str,
    count: &Count,
    snapshots: u64,
    problems: &[Problem],
    next: &str,
) -> Result<Exit> {
    if app.out.is_json() {
        let (entries, content_bytes) = (count.entries, count.bytes);
        app.out.object(&JsonListed { message_type, entries, content_bytes, snapshots });
    } else if !app.global.quiet {
        let entries = human::count(count.entries);
        app.look.note(&format!("{entries} found, {}; next: {}", human::bytes(count.bytes), app.command(next)));
    }
    Ok(tell(app, problems))
}
