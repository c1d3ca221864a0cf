//! `key status`: what lies under which epoch of keys.

use crate::cli::app::App;
use crate::cli::error::Result;
use crate::cli::print::human;
use crate::cli::print::table::Table;
use crate::ops::keys::{self, EpochInfo};
use serde::Serialize;

#[derive(Serialize)]
struct JsonStatus {
    message_type: &'static str,
    root_key_id: String,
    epochs: Vec<JsonEpoch>,
}

#[derive(Serialize)]
struct JsonEpoch {
    id: String,
    number: u64,
    created: String,
    /// New objects are sealed under it.
    current: bool,
    /// Packs with blocks under its keys.
    packs: u64,
    pack_bytes: u64,
    snapshots: u64,
    runs: u64,
}

/// Says what lies under which epoch.
pub fn run(app: &App) -> Result<()> {
    let context = app.context()?;
    let epochs = keys::status(&context)?;
    let root_key_id = context.repository.root_id().to_string();
    if app.out.is_json() {
        let epochs = epochs.iter().map(json).collect();
        app.out.object(&JsonStatus { message_type: "key_status", root_key_id, epochs });
        return Ok(());
    }
    let mut table = Table::new(&["", "Epoch", "Opened", "Packs", "Sealed under it", "Snapshots", "Runs"]);
    for epoch in &epochs {
        table.row(vec![
            if epoch.current { "*" } else { "" }.to_owned(),
            epoch.number.to_string(),
            human::time(epoch.created_ns),
            human::count(epoch.packs),
            human::bytes(epoch.pack_bytes),
            human::count(epoch.snapshots),
            human::count(epoch.runs),
        ]);
    }
    table.print(&app.out);
    app.out.line("");
    app.out.line(format!("root key  {root_key_id}"));
    let old = epochs.iter().filter(|epoch| !epoch.current);
    let (packs, bytes) = old.fold((0, 0), |sum, epoch| (sum.0 + epoch.packs, sum.1 + epoch.pack_bytes));
    let not_safe = match packs {
        0 => "nothing known of packs; snapshots and runs keep the keys that they were stored under".to_owned(),
        _ => format!(
            "{} ({}) under older keys, from whoever has these",
            human::counted(packs, "pack"),
            human::bytes(bytes)
        ),
    };
    let next = if packs == 0 { "key list" } else { "key rotate --reseal" };
    app.close("what is stored from now on lies under the epoch marked `*`", &not_safe, next);
    Ok(())
}

fn json(epoch: &EpochInfo) -> JsonEpoch {
    JsonEpoch {
        id: epoch.id.to_string(),
        number: epoch.number,
        created: human::rfc3339(epoch.created_ns),
        current: epoch.current,
        packs: epoch.packs,
        pack_bytes: epoch.pack_bytes,
        snapshots: epoch.snapshots,
        runs: epoch.runs,
    }
}
