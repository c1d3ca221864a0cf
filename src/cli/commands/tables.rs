//! What `show` says of databases: the tables of each, with their rows.

use crate::base::{Kind, Problem};
use crate::cli::app::App;
use crate::cli::error::Result;
use crate::cli::print::human;
use crate::cli::print::table::Table;
use crate::format::snapshot::Snapshot;
use crate::ops::Context;
use crate::ops::dumps::{self, DumpEntry};

/// The dumps with their manifests, and those whose manifest cannot be read.
pub fn dumps(context: &Context, snapshot: &Snapshot) -> Result<(Vec<DumpEntry>, Vec<Problem>)> {
    let (mut entries, mut damaged) = (Vec::new(), Vec::new());
    for dump in &snapshot.dumps {
        match dumps::manifest_of(context, snapshot, &dump.path.0) {
            Ok(manifest) => entries.push(DumpEntry { path: dump.path.0.clone(), manifest }),
            Err(error) if matches!(error.kind(), Kind::Damaged | Kind::NotFound | Kind::Unsupported) => {
                damaged.push(Problem::new(human::name(&dump.path.0), &error, error.kind()));
            }
            Err(error) => return Err(error.into()),
        }
    }
    Ok((entries, damaged))
}

/// One database with its tables.
pub fn print(app: &App, entry: &DumpEntry) {
    let manifest = &entry.manifest;
    let text = |text: &str| human::name(text.as_bytes());
    let place = match (manifest.server.host.as_str(), manifest.server.port) {
        ("", _) => String::new(),
        (host, 0) => format!(" at {}", text(host)),
        (host, port) => format!(" at {}:{port}", text(host)),
    };
    app.out.line("");
    app.out.line(format!(
        "{}: {}{place}, {}",
        human::name(&entry.path),
        text(&manifest.database),
        text(&manifest.client)
    ));
    if let Some(position) = &manifest.position {
        app.out.line(format!("  log position {}", text(position)));
    }
    if !manifest.selection.is_empty() {
        app.out.line(format!("  not all of it: {}", text(&manifest.selection.join(" "))));
    }
    manifest.notes.iter().for_each(|note| app.out.line(format!("  {}", text(note))));
    let mut table = Table::new(&["Table", ">Rows", ">Size", ">Seconds", "Note"]);
    for one in &manifest.tables {
        table.row(vec![
            human::table(&one.schema, &one.name),
            human::count(one.rows),
            human::bytes(one.bytes),
            format!("{:.1}", one.duration_ms as f64 / 1000.0),
            text(&one.note),
        ]);
    }
    if !manifest.tables.is_empty() {
        table.print(&app.out);
    }
}
