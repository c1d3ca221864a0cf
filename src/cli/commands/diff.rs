//! `diff`: what differs between two snapshots.

use super::entry::JsonNode;
use super::filter;
use crate::cli::app::App;
use crate::cli::args::Diff;
use crate::cli::error::Result;
use crate::cli::exit::Exit;
use crate::cli::print::human;
use crate::cli::print::json::path_pair;
use crate::ops::browse::{self, Change, DiffTotals, Difference};
use crate::ops::select;
use serde::Serialize;

#[derive(Serialize)]
struct JsonDifference {
    message_type: &'static str,
    path: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    path_hex: Option<String>,
    /// `added`, `removed`, `modified`, `metadata`, `type`.
    change: &'static str,
    before: Option<JsonNode>,
    after: Option<JsonNode>,
}

#[derive(Serialize)]
struct JsonDiff {
    message_type: &'static str,
    old: String,
    new: String,
    files_added: u64,
    files_removed: u64,
    files_changed: u64,
    others_added: u64,
    others_removed: u64,
    others_changed: u64,
    metadata_changed: u64,
    added_bytes: u64,
    removed_bytes: u64,
}

/// Compares.
pub fn run(app: &App, given: &Diff) -> Result<Exit> {
    let context = app.context()?;
    let wanted = filter(&given.filters);
    let old = select::select(&context, &given.old, &wanted)?;
    let new = select::select(&context, &given.new, &wanted)?;
    app.look.finish();
    let whole = b"/".to_vec();
    let old_path = old.path.as_ref().unwrap_or(&whole);
    let new_path = new.path.as_ref().unwrap_or(&whole);
    let compared = browse::diff(&context, (&old.snapshot, old_path), (&new.snapshot, new_path), &mut |difference| {
        if difference.change != Change::Metadata || given.metadata {
            print(app, difference);
        }
        app.still_read()
    });
    let totals = app.listed(compared)?;
    let exit = super::rows::compare(app, &context, (&old.snapshot, old_path), (&new.snapshot, new_path))?;
    if app.out.is_json() {
        app.out.object(&json_diff(old.snapshot.id.to_string(), new.snapshot.id.to_string(), &totals));
    } else {
        print_totals(app, &totals, &old.snapshot.id.short());
    }
    Ok(exit)
}

fn print(app: &App, difference: &Difference<'_>) {
    if !app.out.is_json() {
        return app.out.line(format!("{}  {}", difference.change.letter(), human::name(difference.path)));
    }
    let (path, path_hex) = path_pair(difference.path);
    app.out.object(&JsonDifference {
        message_type: "difference",
        path,
        path_hex,
        change: change_name(difference.change),
        before: difference.before.map(JsonNode::from),
        after: difference.after.map(JsonNode::from),
    });
}

fn change_name(change: Change) -> &'static str {
    match change {
        Change::Added => "added",
        Change::Removed => "removed",
        Change::Modified => "modified",
        Change::Metadata => "metadata",
        Change::Type => "type",
    }
}

fn json_diff(old: String, new: String, totals: &DiffTotals) -> JsonDiff {
    JsonDiff {
        message_type: "diff",
        old,
        new,
        files_added: totals.files_added,
        files_removed: totals.files_removed,
        files_changed: totals.files_changed,
        others_added: totals.others_added,
        others_removed: totals.others_removed,
        others_changed: totals.others_changed,
        metadata_changed: totals.metadata_changed,
        added_bytes: totals.bytes_added,
        removed_bytes: totals.bytes_removed,
    }
}

fn print_totals(app: &App, totals: &DiffTotals, old: &str) {
    let change = |added, removed, changed| {
        format!("{} added, {} removed, {} changed", human::count(added), human::count(removed), human::count(changed))
    };
    app.out.line("");
    crate::cli::print::table::facts(
        &app.out,
        &[
            ("files", change(totals.files_added, totals.files_removed, totals.files_changed)),
            ("others", change(totals.others_added, totals.others_removed, totals.others_changed)),
            ("metadata", format!("{} changed in nothing else", human::count(totals.metadata_changed))),
            (
                "content",
                format!("{} added, {} removed", human::bytes(totals.bytes_added), human::bytes(totals.bytes_removed)),
            ),
        ],
    );
    app.close("both snapshots", "what changed since the newer one", &format!("restore {old}:PATH --target DIR"));
}
