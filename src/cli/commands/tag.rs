//! `tag`: other tags for snapshots.

use super::{filter, selected};
use crate::cli::app::App;
use crate::cli::args::Tag;
use crate::cli::error::{Error, Result};
use crate::cli::exit::Exit;
use crate::cli::print::human;
use crate::config::values;
use crate::ops::tag::{self, Change};
use serde::Serialize;

#[derive(Serialize)]
struct JsonTag {
    message_type: &'static str,
    changed: Vec<JsonTagged>,
    unchanged: u64,
}

#[derive(Serialize)]
struct JsonTagged {
    old: String,
    new: String,
    tags: Vec<String>,
}

/// Changes tags.
pub fn run(app: &App, given: &Tag) -> Result<Exit> {
    let given_tags = given.set.iter().flatten().chain(&given.add);
    { given_tags }.try_for_each(|tag| values::free_tag(tag)).map_err(Error::usage)?;
    let context = app.context()?;
    let ids = selected(&context, &given.snapshots, &filter(&given.filters))?;
    let change = match &given.set {
        Some(tags) => Change::Set(tags.iter().filter(|tag| !tag.is_empty()).cloned().collect()),
        None => Change::Edit { add: given.add.clone(), remove: given.remove.clone() },
    };
    let outcome = tag::tag(&context, &ids, &change)?;
    app.look.finish();
    if app.out.is_json() {
        let changed = outcome.changed.iter().map(|changed| JsonTagged {
            old: changed.old.to_string(),
            new: changed.new.to_string(),
            tags: changed.tags.clone(),
        });
        app.out.object(&JsonTag { message_type: "tag", changed: changed.collect(), unchanged: outcome.unchanged });
        return Ok(Exit::Done);
    }
    for changed in &outcome.changed {
        let tags = human::name(changed.tags.join(",").as_bytes());
        app.out.line(format!("{} became {} with tags [{tags}]", changed.old.short(), changed.new.short()));
    }
    app.out.line(format!("{} changed, {} as before", outcome.changed.len(), outcome.unchanged));
    app.close("what the snapshots hold is the same", "scripts that know the old ids", "snapshots");
    Ok(Exit::Done)
}
