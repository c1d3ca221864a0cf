//! What `diff` says of databases: rows of each table, in one snapshot and in the other.

use super::tell;
use crate::base::{Kind, Problem};
use crate::cli::app::App;
use crate::cli::error::Result;
use crate::cli::exit::Exit;
use crate::cli::print::human;
use crate::cli::print::json::path_pair;
use crate::cli::print::table::Table;
use crate::format::dump::Manifest;
use crate::format::snapshot::Snapshot;
use crate::ops::Context;
use crate::ops::dumps::{self, Size, TableChange};
use serde::Serialize;
use std::collections::BTreeSet;

#[derive(Serialize)]
struct JsonTableDifference {
    message_type: &'static str,
    /// The dump's directory.
    dump: String,
    schema: String,
    table: String,
    /// `added`, `removed`, `changed`.
    change: &'static str,
    before_rows: Option<u64>,
    after_rows: Option<u64>,
    before_bytes: Option<u64>,
    after_bytes: Option<u64>,
}

#[derive(Serialize)]
struct JsonDatabaseDifference {
    message_type: &'static str,
    /// The dump's directory.
    dump: String,
    /// `added`, `removed`, `compared`.
    change: &'static str,
    before_rows: Option<u64>,
    after_rows: Option<u64>,
    before_tables: Option<u64>,
    after_tables: Option<u64>,
}

/// Compares the databases that lie beneath the paths that are compared.
pub fn compare(app: &App, context: &Context, old: (&Snapshot, &[u8]), new: (&Snapshot, &[u8])) -> Result<Exit> {
    let mut damaged = Vec::new();
    if old.1 == new.1 {
        let places = |(snapshot, above): (&Snapshot, &[u8])| {
            let beneath = snapshot.dumps.iter().filter(|dump| is_beneath(&dump.path.0, above));
            beneath.map(|dump| dump.path.0.clone()).collect::<BTreeSet<_>>()
        };
        let (before, after) = (places(old), places(new));
        for place in before.union(&after) {
            let load = |snapshot, there| match there {
                true => dumps::manifest_of(context, snapshot, place).map(Some),
                false => Ok(None),
            };
            let loaded =
                load(old.0, before.contains(place)).and_then(|first| Ok((first, load(new.0, after.contains(place))?)));
            match loaded {
                Ok((first, second)) => tell_database(app, place, first.as_ref(), second.as_ref()),
                Err(error) if matches!(error.kind(), Kind::Damaged | Kind::NotFound | Kind::Unsupported) => {
                    damaged.push(Problem::new(human::name(place), &error, error.kind()));
                }
                Err(error) => return Err(error.into()),
            }
        }
    }
    Ok(tell(app, &damaged))
}

/// Whether the dump lies at a path or beneath it.
fn is_beneath(place: &[u8], above: &[u8]) -> bool {
    let names = |path: &[u8]| path.split(|c| *c == b'/').filter(|name| !name.is_empty()).map(<[u8]>::to_vec).collect();
    let (place, above): (Vec<_>, Vec<_>) = (names(place), names(above));
    place.starts_with(&above)
}

fn tell_database(app: &App, place: &[u8], before: Option<&Manifest>, after: Option<&Manifest>) {
    let changes = match (before, after) {
        (Some(before), Some(after)) => dumps::compare(before, after),
        _ => Vec::new(),
    };
    match app.out.is_json() {
        true => print_json(app, place, before, after, &changes),
        false => print_text(app, place, before, after, &changes),
    }
}

fn print_json(app: &App, place: &[u8], before: Option<&Manifest>, after: Option<&Manifest>, changes: &[TableChange]) {
    let dump = path_pair(place).0;
    for change in changes {
        app.out.object(&JsonTableDifference {
            message_type: "table_difference",
            dump: dump.clone(),
            schema: change.schema.clone(),
            table: change.name.clone(),
            change: match (change.before, change.after) {
                (None, _) => "added",
                (_, None) => "removed",
                _ => "changed",
            },
            before_rows: change.before.map(|size| size.rows),
            after_rows: change.after.map(|size| size.rows),
            before_bytes: change.before.map(|size| size.bytes),
            after_bytes: change.after.map(|size| size.bytes),
        });
    }
    app.out.object(&JsonDatabaseDifference {
        message_type: "database_difference",
        dump,
        change: match (before, after) {
            (None, _) => "added",
            (_, None) => "removed",
            _ => "compared",
        },
        before_rows: before.map(Manifest::rows),
        after_rows: after.map(Manifest::rows),
        before_tables: before.map(|manifest| manifest.tables.len() as u64),
        after_tables: after.map(|manifest| manifest.tables.len() as u64),
    });
}

fn print_text(app: &App, place: &[u8], before: Option<&Manifest>, after: Option<&Manifest>, changes: &[TableChange]) {
    let place = human::name(place);
    let held = |manifest: &Manifest| {
        let tables = human::counted(manifest.tables.len() as u64, "table");
        format!("{tables}, {}", human::counted(manifest.rows(), "row"))
    };
    app.out.line("");
    match (before, after) {
        (Some(before), Some(after)) => {
            let more = i128::from(after.rows()) - i128::from(before.rows());
            let same = (after.tables.len() as u64).saturating_sub(changes.len() as u64);
            let noun = if more.abs() == 1 { "row" } else { "rows" };
            app.out.line(format!("{place}: {}, {} {noun}", held(after), signed(more)));
            print_tables(app, changes);
            app.out.line(format!("{} with as many rows and bytes as before", human::counted(same, "table")));
        }
        (Some(before), None) => app.out.line(format!("{place}: no longer there, it had {}", held(before))),
        (None, Some(after)) => app.out.line(format!("{place}: new, {}", held(after))),
        (None, None) => {}
    }
}

fn print_tables(app: &App, changes: &[TableChange]) {
    if changes.is_empty() {
        return;
    }
    let rows = |size: Option<Size>| size.map_or("-".to_owned(), |size| human::count(size.rows));
    let mut table = Table::new(&["", "Table", ">Rows before", ">Rows now", ">Change", ">Size now"]);
    for change in changes {
        let letter = match (change.before, change.after) {
            (None, _) => "+",
            (_, None) => "-",
            _ => "M",
        };
        table.row(vec![
            letter.to_owned(),
            human::table(&change.schema, &change.name),
            rows(change.before),
            rows(change.after),
            signed(change.rows_more()),
            change.after.map_or("-".to_owned(), |size| human::bytes(size.bytes)),
        ]);
    }
    table.print(&app.out);
}

/// A difference with its sign.
fn signed(number: i128) -> String {
    let digits = human::count(u64::try_from(number.unsigned_abs()).unwrap_or(u64::MAX));
    match number {
        0 => "+0".to_owned(),
        1.. => format!("+{digits}"),
        _ => format!("-{digits}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dump_lies_beneath_its_folder_and_not_beneath_one_that_only_begins_like_it() {
        for (above, is) in [("/", true), ("/@postgres", true), ("@postgres/shop/", true), ("/@postgres/sho", false)] {
            assert_eq!(is_beneath(b"/@postgres/shop", above.as_bytes()), is, "{above}");
        }
        assert_eq!((signed(0), signed(-1234)), ("+0".to_owned(), "-1,234".to_owned()));
    }
}
