//! `rebuild-index`: the index anew from the packs.

use super::tell;
use crate::cli::app::App;
use crate::cli::error::Result;
use crate::cli::exit::Exit;
use crate::cli::print::json::{JsonProblem, problems};
use crate::cli::print::{human, table};
use crate::ops::rebuild;
use serde::Serialize;

#[derive(Serialize)]
struct JsonRebuild {
    message_type: &'static str,
    packs: u64,
    blobs: u64,
    segments_written: u64,
    segments_deleted: u64,
    damaged: Vec<JsonProblem>,
}

/// Makes the index anew.
pub fn run(app: &App) -> Result<Exit> {
    let outcome = rebuild::rebuild_index(&app.context()?)?;
    app.look.finish();
    let exit = tell(app, &outcome.damaged);
    if app.out.is_json() {
        app.out.object(&JsonRebuild {
            message_type: "rebuild_index",
            packs: outcome.packs,
            blobs: outcome.blobs,
            segments_written: outcome.segments_written,
            segments_deleted: outcome.segments_deleted,
            damaged: problems(&outcome.damaged),
        });
        return Ok(exit);
    }
    let (written, deleted) = (outcome.segments_written, outcome.segments_deleted);
    table::facts(
        &app.out,
        &[
            ("read", format!("{}, {}", human::counted(outcome.packs, "pack"), human::counted(outcome.blobs, "blob"))),
            ("index", format!("{} written, {} deleted", human::counted(written, "segment"), human::count(deleted))),
            ("damaged", human::counted(outcome.damaged.len() as u64, "pack")),
        ],
    );
    match exit {
        Exit::Done => app.close("every blob of every pack is in the index", "content was not read", "verify --all"),
        _ => app.close("what the readable packs hold", "what lies in the damaged packs named above", "verify --all"),
    }
    Ok(exit)
}
