//! `key`: the passwords and keys that open the repository.

use crate::base::{SlotId, ids::to_hex};
use crate::cli::app::App;
use crate::cli::args::{Key, KeyCommand};
use crate::cli::error::Result;
use crate::cli::exit::Exit;
use crate::cli::print::human;
use crate::cli::print::json::{JsonProblem, problems};
use crate::cli::print::table::Table;
use crate::cli::secrets;
use crate::ops::keys::{self, Copies, Repaired, Replaced, SlotInfo, SlotKind};
use serde::Serialize;

#[derive(Serialize)]
struct JsonKeys {
    message_type: &'static str,
    keys: Vec<JsonKey>,
}

#[derive(Serialize)]
struct JsonKey {
    id: String,
    /// `password`, `key_file`, `command`, `recipient`.
    kind: &'static str,
    label: String,
    created: String,
    /// When it was last shown to open; null for never.
    proven: Option<String>,
    /// Whether this command was opened with it.
    current: bool,
    kdf_memory_bytes: Option<u64>,
    kdf_passes: Option<u32>,
    /// `alike`; `first` and `second` of two that differ; `alone` when the other one is missing or damaged.
    copies: &'static str,
}

#[derive(Serialize)]
struct JsonRepair {
    message_type: &'static str,
    written: Vec<String>,
    left: Vec<JsonProblem>,
}

#[derive(Serialize)]
struct JsonKeyChange {
    message_type: &'static str,
    removed: Option<String>,
    added: Option<String>,
    note: Option<String>,
}

/// Does what is asked with keys.
pub fn run(app: &App, given: &Key) -> Result<Exit> {
    match &given.command {
        KeyCommand::List => list(app)?,
        KeyCommand::Add { new, label } => {
            let context = app.context()?;
            let brought = secrets::another(new)?;
            let added = keys::add(&context, &brought.unlock, secrets::guard(&brought, new.cost)?, label)?;
            report(app, "key_add", None, Some(added.id), None);
        }
        KeyCommand::Remove { id, force } => {
            let context = app.context()?;
            let removed = keys::remove(&context, keys::find_slot(&context, id)?, *force)?;
            report(app, "key_remove", Some(removed.id), None, Some(&removed.note));
        }
        KeyCommand::Passwd { id, new } => {
            let context = app.context()?;
            let slot = id.as_ref().map(|id| keys::find_slot(&context, id)).transpose()?;
            let brought = secrets::another(new)?;
            let replaced = keys::passwd(&context, slot, &brought.unlock, secrets::guard(&brought, new.cost)?)?;
            report_replaced(app, "key_passwd", &replaced);
        }
        KeyCommand::Rewrap { cost } => {
            let (repository, brought) = app.repository_and_secret()?;
            let context = app.context_of(repository)?;
            let replaced = keys::rewrap(&context, None, &brought.unlock, secrets::guard(&brought, *cost)?)?;
            report_replaced(app, "key_rewrap", &replaced);
        }
        KeyCommand::Repair => {
            let (repository, brought) = app.repository_and_secret()?;
            let repaired = keys::repair(&app.context_of(repository)?, &brought.unlock)?;
            return Ok(report_repaired(app, &repaired));
        }
    }
    Ok(Exit::Done)
}

fn list(app: &App) -> Result<()> {
    let slots = keys::list(&app.context()?)?;
    if app.out.is_json() {
        app.out.object(&JsonKeys { message_type: "keys", keys: slots.iter().map(json_key).collect() });
        return Ok(());
    }
    let mut table = Table::new(&["", "ID", "Kind", "Label", "Made", "Proven", "Cost"]);
    for slot in &slots {
        let differs = if slot.copies == Copies::Alike { "" } else { "!" };
        let cost = match (slot.memory_kib, slot.passes) {
            (Some(memory), Some(passes)) => {
                format!("{}, {}", human::bytes(u64::from(memory) * 1024), human::counted(u64::from(passes), "pass"))
                    .replace("passs", "passes")
            }
            _ => String::new(),
        };
        table.row(vec![
            format!("{}{differs}", if slot.current { "*" } else { "" }),
            to_hex(&slot.id.0[..4]),
            kind(slot.kind).replace('_', " "),
            human::name(slot.label.as_bytes()),
            human::time(slot.created_ns),
            if slot.proven_ns == 0 { "never".to_owned() } else { human::time(slot.proven_ns) },
            cost,
        ]);
    }
    table.print(&app.out);
    if slots.iter().any(|slot| slot.copies != Copies::Alike) {
        let not_safe =
            "a key marked `!`: one of its two copies is damaged or missing (it is shown twice if they differ)";
        app.close("whoever has any one of these can read everything", not_safe, "key repair");
        return Ok(());
    }
    let others = slots.iter().filter(|slot| !slot.current).count();
    let not_safe = match others {
        0 => "this is the only key: if it is lost, so are all backups",
        _ => "a key that nobody has tried for long (see Proven)",
    };
    app.close("whoever has any one of these can read everything", not_safe, "key add");
    Ok(())
}

fn json_key(slot: &SlotInfo) -> JsonKey {
    JsonKey {
        id: slot.id.to_string(),
        kind: kind(slot.kind),
        label: slot.label.clone(),
        created: human::rfc3339(slot.created_ns),
        proven: (slot.proven_ns != 0).then(|| human::rfc3339(slot.proven_ns)),
        current: slot.current,
        kdf_memory_bytes: slot.memory_kib.map(|memory| u64::from(memory) * 1024),
        kdf_passes: slot.passes,
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

fn report_repaired(app: &App, repaired: &Repaired) -> Exit {
    let exit = if repaired.left.is_empty() { Exit::Done } else { Exit::Damage };
    app.look.finish();
    if app.out.is_json() {
        let written = repaired.written.clone();
        app.out.object(&JsonRepair { message_type: "key_repair", written, left: problems(&repaired.left) });
        return exit;
    }
    repaired.written.iter().for_each(|name| app.out.line(format!("wrote {name} anew from its other copy")));
    repaired.left.iter().for_each(|problem| app.out.line(format!("left {}", human::name(problem.message.as_bytes()))));
    if repaired.written.is_empty() && repaired.left.is_empty() {
        app.out.line("all copies of keys and config are alike");
    }
    let (not_safe, next) = match repaired.left.is_empty() {
        true => ("nothing known of keys and config", "verify --structure"),
        false => ("keys whose copies differ: whoever has such a key can run this with it", "key list"),
    };
    app.close("what opens the repository now", not_safe, next);
    exit
}

fn kind(kind: SlotKind) -> &'static str {
    match kind {
        SlotKind::Passphrase => "password",
        SlotKind::KeyFile => "key_file",
        SlotKind::Command => "command",
        SlotKind::Recipient => "recipient",
    }
}

fn report_replaced(app: &App, what: &'static str, replaced: &Replaced) {
    report(app, what, Some(replaced.old), Some(replaced.new), Some(&replaced.note));
}

fn report(app: &App, what: &'static str, removed: Option<SlotId>, added: Option<SlotId>, note: Option<&str>) {
    if app.out.is_json() {
        app.out.object(&JsonKeyChange {
            message_type: what,
            removed: removed.map(|id| id.to_string()),
            added: added.map(|id| id.to_string()),
            note: note.map(str::to_owned),
        });
        return;
    }
    match (removed, added) {
        (Some(old), Some(new)) => app.out.line(format!("key {} took the place of {}", new.short(), old.short())),
        (None, Some(new)) => app.out.line(format!("added key {}", new.short())),
        (Some(old), None) => app.out.line(format!("removed key {}", old.short())),
        (None, None) => {}
    }
    let safe = if added.is_some() { "the new key was opened once before this" } else { "the other keys still open it" };
    app.close(safe, note.unwrap_or("a key that is kept in one place only"), "key list");
}
