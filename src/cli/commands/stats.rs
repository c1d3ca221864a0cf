//! `stats`: what the repository holds and what it takes.

use super::{filter, tell};
use crate::cli::app::App;
use crate::cli::args::Stats;
use crate::cli::error::Result;
use crate::cli::exit::Exit;
use crate::cli::print::human;
use crate::cli::print::table::{self, Table};
use crate::ops::browse::{self, AreaStats, SnapshotStats};
use crate::ops::select;
use crate::store::Area;
use serde::Serialize;

#[derive(Serialize)]
struct JsonStats {
    message_type: &'static str,
    snapshots: u64,
    files: u64,
    directories: u64,
    others: u64,
    /// What restoring every one of the snapshots would write.
    restore_bytes: u64,
    /// Pieces of content that they need, each counted once.
    unique_blobs: u64,
    /// What those hold, and small files, which lie in trees.
    unique_bytes: u64,
    /// What the whole repository takes.
    stored_bytes: u64,
    areas: Vec<JsonArea>,
}

#[derive(Serialize)]
struct JsonArea {
    name: &'static str,
    objects: u64,
    bytes: u64,
}

/// Prints what is held and what it takes.
pub fn run(app: &App, given: &Stats) -> Result<Exit> {
    let context = app.context()?;
    let listing = select::select_all(&context, &given.snapshots, &filter(&given.filters))?;
    let held = browse::stats(&context, &listing.snapshots)?;
    let areas = browse::repository_stats(&context)?;
    app.look.finish();
    let stored_bytes = areas.iter().map(|area| area.bytes).sum();
    match app.out.is_json() {
        true => print_json(app, &held, &areas, stored_bytes),
        false => print_text(app, &held, &areas, stored_bytes),
    }
    Ok(tell(app, &listing.damaged))
}

fn name(area: Area) -> &'static str {
    if area == Area::Config { "config" } else { area.folder() }
}

fn print_json(app: &App, held: &SnapshotStats, areas: &[AreaStats], stored_bytes: u64) {
    let area = |area: &AreaStats| JsonArea { name: name(area.area), objects: area.objects, bytes: area.bytes };
    app.out.object(&JsonStats {
        message_type: "stats",
        snapshots: held.snapshots,
        files: held.files,
        directories: held.directories,
        others: held.others,
        restore_bytes: held.restore_bytes,
        unique_blobs: held.unique_blobs,
        unique_bytes: held.unique_bytes,
        stored_bytes,
        areas: areas.iter().map(area).collect(),
    });
}

fn print_text(app: &App, held: &SnapshotStats, areas: &[AreaStats], stored_bytes: u64) {
    let bytes = human::bytes;
    let share = human::share(stored_bytes, held.restore_bytes);
    table::facts(
        &app.out,
        &[
            ("snapshots", human::count(held.snapshots)),
            (
                "hold",
                format!(
                    "{}, {}, {}",
                    human::counted(held.files, "file"),
                    human::counted(held.directories, "directory"),
                    bytes(held.restore_bytes)
                ),
            ),
            (
                "unique",
                format!("{} in {} and in trees", bytes(held.unique_bytes), human::counted(held.unique_blobs, "blob")),
            ),
            ("stored", format!("{} ({share} of what they hold)", bytes(stored_bytes))),
        ],
    );
    let mut table = Table::new(&["Part", ">Objects", ">Size"]);
    for area in areas.iter().filter(|area| area.objects > 0) {
        table.row(vec![name(area.area).to_owned(), human::count(area.objects), bytes(area.bytes)]);
    }
    app.out.line("");
    table.print(&app.out);
    app.close("what the snapshots hold", "what changed since the newest", "verify --all");
}
