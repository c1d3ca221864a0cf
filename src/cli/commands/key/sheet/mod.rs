//! `key recovery-sheet`: one page with what is needed on a bare machine.

mod html;
mod text;

use crate::base::ids::to_hex;
use crate::cli::app::App;
use crate::cli::args::SheetFormat;
use crate::cli::error::{Error, Result};
use crate::cli::print::human;
use crate::crypto::identity::identity_text;
use crate::job::place::Location;
use crate::ops::keys::{self, Sheet, SlotKind};
use qrcode::{EcLevel, QrCode};
use serde::Serialize;
use std::fs::{self, File, OpenOptions};
use std::io::{IsTerminal, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use zeroize::Zeroize;

#[derive(Serialize)]
struct JsonSheet<'a> {
    message_type: &'static str,
    repository_id: String,
    location: &'a str,
    root_key_id: String,
    created: String,
    made: String,
    /// The slot of the identity that was made for this sheet.
    recovery_key_id: Option<String>,
    recipient: Option<String>,
    /// The identity, if the sheet went to standard output.
    identity: Option<&'a str>,
    /// Where the sheet was written.
    file: Option<String>,
    commands: Vec<String>,
}

/// A sheet, ready to be laid out.
struct Page<'s> {
    sheet: &'s Sheet,
    location: String,
    /// The identity as text; empty if none was made. Wiped when the page goes.
    identity: String,
    commands: Vec<String>,
}

impl Drop for Page<'_> {
    fn drop(&mut self) {
        self.identity.zeroize();
    }
}

/// How the sheet is made.
pub struct Wanted<'a> {
    /// Its form.
    pub format: SheetFormat,
    /// Where it is written; none for standard output.
    pub output: Option<&'a Path>,
    /// The label of a recovery key to be made for it.
    pub new_identity: Option<&'a str>,
}

/// Makes a sheet.
pub fn run(app: &App, wanted: &Wanted<'_>) -> Result<()> {
    let context = app.context()?;
    let location = absolute_location(app)?;
    // The file first: an identity that cannot be written down must not get a slot.
    let file = wanted.output.map(create).transpose()?;
    let made = keys::recovery_sheet(&context, wanted.new_identity).map_err(Error::from);
    let written = made.and_then(|sheet| {
        let page = Page::of(&sheet, location);
        let mut content = match wanted.format {
            SheetFormat::Html => html::lay_out(&page)?,
            SheetFormat::Text => text::lay_out(&page, wanted.output.is_none() && std::io::stdout().is_terminal())?,
        };
        let done = give_out(app, wanted, &page, file, &content);
        content.zeroize();
        if let (Err(_), Some(recovery)) = (&done, &sheet.recovery) {
            keys::remove_recovery(&context, recovery.slot)?;
        }
        done
    });
    if let (Err(_), Some(path)) = (&written, wanted.output) {
        // It is ours and holds nothing whole.
        let _ = fs::remove_file(path);
    }
    written
}

fn create(path: &Path) -> Result<File> {
    let made = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path);
    made.map_err(|source| Error::io(format!("make the sheet {}", path.display()), source))
}

fn give_out(app: &App, wanted: &Wanted<'_>, page: &Page<'_>, file: Option<File>, content: &str) -> Result<()> {
    if let (Some(mut file), Some(path)) = (file, wanted.output) {
        let written = file.write_all(content.as_bytes()).and_then(|()| file.sync_all());
        written.map_err(|source| Error::io(format!("write the sheet {}", path.display()), source))?;
        if app.out.is_json() {
            app.out.object(&page.json(None, Some(path)));
            return Ok(());
        }
        app.out.line(format!("wrote {}", path.display()));
        let not_safe = match page.sheet.recovery {
            Some(_) => "the file holds a secret that opens everything: print it, then shred the file",
            None => "the sheet names no secret: a key that it lists has to be kept with it",
        };
        app.close("how to get back from a bare machine, once the sheet lies in a safe place", not_safe, "key list");
    } else if app.out.is_json() {
        app.out.object(&page.json(Some(&page.identity), None));
    } else {
        app.out.line(content.trim_end_matches('\n'));
    }
    Ok(())
}

/// Where the repository is, so that it is found from another folder too.
fn absolute_location(app: &App) -> Result<String> {
    Ok(match app.location()? {
        Location::Folder(path) => fs::canonicalize(&path).unwrap_or(path).display().to_string(),
        Location::Bucket(_) => {
            app.global.repository.as_ref().map_or(String::new(), |given| given.display().to_string())
        }
    })
}

impl<'s> Page<'s> {
    fn of(sheet: &'s Sheet, location: String) -> Page<'s> {
        let identity = match &sheet.recovery {
            Some(recovery) => identity_text(&recovery.identity).expose().clone(),
            None => String::new(),
        };
        let commands = commands(sheet, &location);
        Page { sheet, location, identity, commands }
    }

    /// What a machine that has the paper should know: no secret.
    fn repository_code(&self) -> String {
        format!("keepstone repository {} root key {} at {}", self.sheet.repository, self.sheet.root, self.location)
    }

    fn json<'p>(&'p self, identity: Option<&'p str>, file: Option<&Path>) -> JsonSheet<'p> {
        let sheet = self.sheet;
        JsonSheet {
            message_type: "recovery_sheet",
            repository_id: sheet.repository.to_string(),
            location: &self.location,
            root_key_id: sheet.root.to_string(),
            created: human::rfc3339(sheet.created_ns),
            made: human::rfc3339(sheet.made_ns),
            recovery_key_id: sheet.recovery.as_ref().map(|recovery| recovery.slot.to_string()),
            recipient: sheet.recovery.as_ref().map(|recovery| recovery.recipient.to_string()),
            identity: identity.filter(|text| !text.is_empty()),
            file: file.map(|path| path.display().to_string()),
            commands: self.commands.clone(),
        }
    }

    /// The other keys: id, kind, label.
    fn keys(&self) -> Vec<[String; 3]> {
        let own = self.sheet.recovery.as_ref().map(|recovery| recovery.slot);
        let others = self.sheet.slots.iter().filter(|slot| Some(slot.id) != own);
        others
            .map(|slot| {
                let label = human::name(slot.label.as_bytes());
                [
                    to_hex(&slot.id.0[..4]),
                    kind(slot.kind).to_owned(),
                    if label.is_empty() { "-".to_owned() } else { label },
                ]
            })
            .collect()
    }
}

fn kind(kind: SlotKind) -> &'static str {
    match kind {
        SlotKind::Passphrase => "password",
        SlotKind::KeyFile => "key file",
        SlotKind::Command => "command",
        SlotKind::Recipient => "identity file",
    }
}

/// What is typed on a bare machine, in order.
fn commands(sheet: &Sheet, location: &str) -> Vec<String> {
    let mut commands = Vec::new();
    if location.starts_with("s3:") {
        commands.push("export AWS_ACCESS_KEY_ID=... AWS_SECRET_ACCESS_KEY=...".to_owned());
    }
    commands.push(format!("export KEEPSTONE_REPOSITORY={}", human::shell_word(location)));
    if sheet.recovery.is_some() {
        commands.push("export KEEPSTONE_IDENTITY_FILE=recovery.identity".to_owned());
    } else {
        commands.push(
            "export KEEPSTONE_PASSWORD_FILE=...      # or KEEPSTONE_KEY_FILE, KEEPSTONE_IDENTITY_FILE".to_owned(),
        );
    }
    for command in [
        "keepstone key list",
        "keepstone snapshots",
        "keepstone restore latest --target /mnt/new --verify",
        "keepstone restore latest --to-postgres URL --create",
    ] {
        commands.push(command.to_owned());
    }
    commands
}

/// A code that a camera reads, as rows of dark modules.
fn code(text: &str) -> Result<Vec<Vec<bool>>> {
    let made = QrCode::with_error_correction_level(text.as_bytes(), EcLevel::M);
    let code = made.map_err(|error| Error::usage(format!("cannot draw a code of {} bytes: {error}", text.len())))?;
    let width = code.width();
    let mut modules: Vec<bool> = code.to_colors().iter().map(|color| *color == qrcode::Color::Dark).collect();
    let rows = modules.chunks(width).map(<[bool]>::to_vec).collect();
    modules.zeroize();
    Ok(rows)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
pub(super) mod tests {
    use super::*;
    use crate::base::{KeyId, RepositoryId};
    use crate::crypto::slots::Recipient;
    use crate::ops::keys::Recovery;

    pub fn sheet(with_identity: bool) -> Sheet {
        let identity = crate::base::Secret::new([8; 32]);
        let recovery = Recovery { slot: crate::base::SlotId([7; 16]), recipient: Recipient::of(&identity), identity };
        Sheet {
            repository: RepositoryId([4; 32]),
            location: "vault".to_owned(),
            root: KeyId([5; 16]),
            created_ns: 0,
            made_ns: 0,
            host: "web<1>".to_owned(),
            program: "keepstone 0.1".to_owned(),
            slots: Vec::new(),
            recovery: with_identity.then_some(recovery),
        }
    }

    #[test]
    fn a_code_is_a_square_with_three_corners() {
        let sheet = sheet(true);
        let page = Page::of(&sheet, "s3:https://s3.example.org/vault".to_owned());
        for text in [page.identity.clone(), page.repository_code()] {
            let rows = code(&text).unwrap();
            let last = rows.len() - 1;
            assert!(rows.iter().all(|row| row.len() == rows.len()));
            let corner = |x: usize, y: usize| (0..7).all(|step| rows[y][x + step] && rows[y + step][x]);
            assert!(corner(0, 0) && corner(last - 6, 0) && corner(0, last - 6) && !corner(last - 6, last - 6));
        }
    }

    #[test]
    fn the_commands_say_where_and_with_what() {
        let shown = commands(&sheet(true), "s3://vault/it's").join("\n");
        assert!(shown.contains("AWS_ACCESS_KEY_ID") && shown.contains("KEEPSTONE_IDENTITY_FILE"), "{shown}");
        assert!(shown.contains(r"'s3://vault/it'\''s'"), "{shown}");
        let shown = commands(&sheet(false), "/backup/vault").join("\n");
        assert!(!shown.contains("AWS_") && !shown.contains("recovery.identity"), "{shown}");
    }
}
