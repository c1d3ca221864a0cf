//! `key`: the passwords and keys that open the repository, and the keys behind them.

mod list;
mod rotate;
mod sheet;
mod status;

use crate::base::{Clock, SlotId};
use crate::cli::app::App;
use crate::cli::args::{Key, KeyCommand};
use crate::cli::error::{Error, Result};
use crate::cli::exit::Exit;
use crate::cli::print::human;
use crate::cli::print::json::{JsonProblem, problems};
use crate::cli::secrets;
use crate::crypto::slots::Recipient;
use crate::ops::keys::{self, Repaired, Replaced};
use serde::Serialize;
use std::path::Path;

#[derive(Serialize)]
struct JsonRepair {
    message_type: &'static str,
    written: Vec<String>,
    left: Vec<JsonProblem>,
}

#[derive(Serialize)]
struct JsonGenerated {
    message_type: &'static str,
    recipient: String,
    /// Where the identity was written.
    file: Option<String>,
    /// The identity itself, if it was to be written to standard output.
    identity: Option<String>,
}

#[derive(Serialize)]
struct JsonRemoved {
    message_type: &'static str,
    removed: String,
    /// The number of the epoch that was opened.
    epoch: u64,
    note: String,
}

#[derive(Serialize)]
struct JsonKeyChange {
    message_type: &'static str,
    removed: Option<String>,
    added: Option<String>,
    note: Option<String>,
}

/// What to look at after a change.
const NEXT: &str = "key list";
/// What everybody should know who adds a write-only key.
const WRITE_ONLY_NOTE: &str = "what a machine with this key stores is relied on by others only when `prune` has read it; \
                               give that machine an access to the store that cannot delete";

/// Does what is asked with keys.
pub fn run(app: &App, given: &Key) -> Result<Exit> {
    match &given.command {
        KeyCommand::List => list::run(app)?,
        KeyCommand::Add { recipient: Some(recipient), label, .. } => {
            let recipient = parse_recipient(recipient)?;
            let added = keys::add_recipient(&app.context()?, &recipient, label)?;
            report_recipient(app, added.id, &recipient);
        }
        KeyCommand::Generate { file } => generate(app, file)?,
        KeyCommand::Rotate { reseal: true, newer_than, budget, .. } => {
            return rotate::reseal(app, newer_than.as_deref(), *budget);
        }
        KeyCommand::Rotate { root, .. } => rotate::run(app, *root)?,
        KeyCommand::Status => status::run(app)?,
        KeyCommand::RecoverySheet { format, output, new_identity, label } => {
            let new_identity = new_identity.then_some(label.as_str());
            sheet::run(app, &sheet::Wanted { format: *format, output: output.as_deref(), new_identity })?;
        }
        KeyCommand::Add { new, label, write_only, .. } => {
            let context = app.context()?;
            let brought = secrets::another(new)?;
            let kind = secrets::guard(&brought, new.cost)?;
            let (added, note) = match write_only {
                false => (keys::add(&context, &brought.unlock, kind, label)?, None),
                true => (keys::add_write_only(&context, &brought.unlock, kind, label)?, Some(WRITE_ONLY_NOTE)),
            };
            report(app, "key_add", None, Some(added.id), note, &app.command(NEXT));
        }
        KeyCommand::Remove { id, force } => {
            let context = app.context()?;
            let removed = keys::remove(&context, keys::find_slot(&context, id)?, *force)?;
            report_removed(app, &removed);
        }
        KeyCommand::Passwd { id, new } => {
            let context = app.context()?;
            let slot = id.as_ref().map(|id| keys::find_slot(&context, id)).transpose()?;
            let brought = secrets::another(new)?;
            let replaced = keys::passwd(&context, slot, &brought.unlock, secrets::guard(&brought, new.cost)?)?;
            // The file that has just opened the repository opens it no longer.
            let next = match (slot, new.generate_key_file.as_ref().or(new.new_key_file.as_ref())) {
                (None, key_file) => {
                    app.command_with(new.new_password_file.as_deref(), key_file.map(|file| &**file), NEXT)
                }
                (Some(_), _) => app.command(NEXT),
            };
            report_replaced(app, "key_passwd", &replaced, &next);
        }
        KeyCommand::Rewrap { cost } => {
            let (repository, brought) = app.repository_and_secret()?;
            let context = app.context_of(repository)?;
            let replaced = keys::rewrap(&context, None, &brought.unlock, secrets::guard(&brought, *cost)?)?;
            report_replaced(app, "key_rewrap", &replaced, &app.command(NEXT));
        }
        KeyCommand::Repair => {
            let (repository, brought) = app.repository_and_secret()?;
            let repaired = keys::repair(&app.context_of(repository)?, &brought.unlock)?;
            return Ok(report_repaired(app, &repaired));
        }
    }
    Ok(Exit::Done)
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

fn parse_recipient(text: &str) -> Result<Recipient> {
    // What was given is not repeated: it may be an identity.
    text.parse().map_err(|error: crate::crypto::Error| Error::usage(format!("--recipient: {error}")))
}

/// Makes an identity. Only its recipient is printed, so that it can be handed on as an argument.
fn generate(app: &App, file: &Path) -> Result<()> {
    let made_at = human::rfc3339(Clock::System.now().as_nanosecond() as i64);
    if file != Path::new("-") {
        let recipient = secrets::make_identity_file(file, &made_at)?;
        let shown = file.display().to_string();
        report_generated(app, &recipient, Some(shown.clone()), None);
        let add = app.command(&format!("key add --recipient {recipient}"));
        app.look.note(&format!(
            "wrote the identity to {shown}: keep it away from this machine, and a copy of it in a second place; `{add}` \
             lets it open a repository"
        ));
        return Ok(());
    }
    let (identity, recipient) = secrets::new_identity();
    let content = secrets::identity_file(&identity, &recipient, &made_at);
    report_generated(app, &recipient, None, Some(content.expose()));
    Ok(())
}

fn report_generated(app: &App, recipient: &Recipient, file: Option<String>, identity: Option<&String>) {
    if app.out.is_json() {
        let (message_type, recipient) = ("key_generate", recipient.to_string());
        app.out.object(&JsonGenerated { message_type, recipient, file, identity: identity.cloned() });
        return;
    }
    match identity {
        Some(content) => app.out.line(content.trim_end()),
        None => app.out.line(recipient),
    }
}

fn report_recipient(app: &App, added: SlotId, recipient: &Recipient) {
    const NOTE: &str = "that it opens is not proven: nobody here has its identity. Try it where the identity is";
    if app.out.is_json() {
        report(app, "key_add", None, Some(added), Some(NOTE), "");
        return;
    }
    app.out.line(format!("added key {} for {recipient}", added.short()));
    app.close("whoever holds the identity of this recipient can read everything", NOTE, "--identity-file FILE verify");
}

fn report_removed(app: &App, removed: &keys::Removed) {
    if app.out.is_json() {
        app.out.object(&JsonRemoved {
            message_type: "key_remove",
            removed: removed.id.to_string(),
            epoch: removed.epoch,
            note: removed.note.clone(),
        });
        return;
    }
    app.out.line(format!("removed key {}", removed.id.short()));
    app.out.line(format!("opened epoch {} of the keys: new data is sealed under it", removed.epoch));
    app.close("the other keys still open it", &removed.note, "key rotate --root");
}

fn report_replaced(app: &App, what: &'static str, replaced: &Replaced, next: &str) {
    report(app, what, Some(replaced.old), Some(replaced.new), Some(&replaced.note), next);
}

fn report(
    app: &App,
    what: &'static str,
    removed: Option<SlotId>,
    added: Option<SlotId>,
    note: Option<&str>,
    next: &str,
) {
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
    app.close_with(safe, note.unwrap_or("a key that is kept in one place only"), next);
}
