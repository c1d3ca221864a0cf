//! `key list`: which passwords and keys there are, and when each was last known to open.

use crate::base::ids::to_hex;
use crate::cli::app::App;
use crate::cli::error::Result;
use crate::cli::print::human;
use crate::cli::print::table::Table;
use crate::ops::keys::{self, Copies, Proven, ProvenBy, SlotInfo, SlotKind};
use serde::Serialize;

#[derive(Serialize)]
struct JsonKeys {
    message_type: &'static str,
    /// Says which root key it is; an identity cannot tell by itself.
    root_key_id: String,
    keys: Vec<JsonKey>,
}

#[derive(Serialize)]
struct JsonKey {
    id: String,
    /// `password`, `key_file`, `command`, `recipient`.
    kind: &'static str,
    label: String,
    created: String,
    /// When it is known to have opened last; null for never.
    proven: Option<String>,
    /// How that is known: `made`, `this_run`, or the operation of a run record.
    proven_by: Option<String>,
    /// The host of that run.
    proven_host: Option<String>,
    /// Whether this command was opened with it.
    current: bool,
    kdf_memory_bytes: Option<u64>,
    kdf_passes: Option<u32>,
    /// Whether one can only back up with it.
    write_only: bool,
    /// For recipients: whose it is.
    recipient: Option<String>,
    /// `alike`; `first` and `second` of two that differ; `alone` when the other one is missing or damaged.
    copies: &'static str,
}

/// Lists the keys.
pub fn run(app: &App) -> Result<()> {
    let context = app.context()?;
    let slots = keys::list(&context)?;
    let root_key_id = context.repository.root_id().to_string();
    if app.out.is_json() {
        let keys = slots.iter().map(json_key).collect();
        app.out.object(&JsonKeys { message_type: "keys", root_key_id, keys });
        return Ok(());
    }
    let mut table = Table::new(&["", "ID", "Kind", "Label", "Made", "Proven", "By", "Cost"]);
    slots.iter().for_each(|slot| table.row(row(slot)));
    table.print(&app.out);
    app.out.line("");
    app.out.line(format!("root key  {root_key_id}"));
    close(app, &slots);
    Ok(())
}

fn close(app: &App, slots: &[SlotInfo]) {
    let safe = match slots.iter().any(|slot| slot.write_only) {
        false => "whoever has any one of these can read everything",
        true => "whoever has one of these that is not write-only can read everything",
    };
    if slots.iter().any(|slot| slot.copies != Copies::Alike) {
        let not_safe =
            "a key marked `!`: one of its two copies is damaged or missing (it is shown twice if they differ)";
        return app.close(safe, not_safe, "key repair");
    }
    let others = slots.iter().filter(|slot| !slot.current && !slot.write_only).count();
    let not_safe = match others {
        0 => "this is the only key: if it is lost, so are all backups",
        _ => "a key that nobody has tried for long (see Proven)",
    };
    app.close(safe, not_safe, "key add");
}

fn row(slot: &SlotInfo) -> Vec<String> {
    let differs = if slot.copies == Copies::Alike { "" } else { "!" };
    let cost = match (slot.memory_kib, slot.passes) {
        (Some(memory), Some(passes)) => {
            format!("{}, {}", human::bytes(u64::from(memory) * 1024), human::counted(u64::from(passes), "pass"))
                .replace("passs", "passes")
        }
        _ => String::new(),
    };
    vec![
        format!("{}{differs}", if slot.current { "*" } else { "" }),
        to_hex(&slot.id.0[..4]),
        format!("{}{}", kind(slot.kind).replace('_', " "), if slot.write_only { ", write-only" } else { "" }),
        human::name(slot.label.as_bytes()),
        human::time(slot.created_ns),
        slot.proven.as_ref().map_or("never".to_owned(), |proven| human::time(proven.at_ns)),
        slot.proven.as_ref().map_or(String::new(), by),
        cost,
    ]
}

fn by(proven: &Proven) -> String {
    match &proven.by {
        ProvenBy::Making => "when made".to_owned(),
        ProvenBy::ThisRun => "this run".to_owned(),
        ProvenBy::Run { operation, host } => {
            format!("{} on {}", human::name(operation.as_bytes()), human::name(host.as_bytes()))
        }
    }
}

fn json_key(slot: &SlotInfo) -> JsonKey {
    let proven = slot.proven.as_ref();
    JsonKey {
        id: slot.id.to_string(),
        kind: kind(slot.kind),
        label: slot.label.clone(),
        created: human::rfc3339(slot.created_ns),
        proven: proven.map(|proven| human::rfc3339(proven.at_ns)),
        proven_by: proven.map(|proven| match &proven.by {
            ProvenBy::Making => "made".to_owned(),
            ProvenBy::ThisRun => "this_run".to_owned(),
            ProvenBy::Run { operation, .. } => operation.clone(),
        }),
        proven_host: proven.and_then(|proven| match &proven.by {
            ProvenBy::Run { host, .. } => Some(host.clone()),
            _ => None,
        }),
        current: slot.current,
        kdf_memory_bytes: slot.memory_kib.map(|memory| u64::from(memory) * 1024),
        kdf_passes: slot.passes,
        write_only: slot.write_only,
        recipient: slot.recipient.clone(),
        copies: copies(slot.copies),
    }
}

fn copies(copies: Copies) -> &'static str {
    match copies {
        Copies::Alike => "alike",
        Copies::First => "first",
        Copies::Second => "second",
        Copies::Alone => "alone",
    }
}

fn kind(kind: SlotKind) -> &'static str {
    match kind {
        SlotKind::Passphrase => "password",
        SlotKind::KeyFile => "key_file",
        SlotKind::Command => "command",
        SlotKind::Recipient => "recipient",
    }
}
