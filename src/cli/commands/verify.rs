//! `verify`: is what is stored whole, and can it be restored?

use super::{filter, tell};
use crate::base::Kind;
use crate::cli::app::App;
use crate::cli::args::Verify;
use crate::cli::error::{Error, Result};
use crate::cli::exit::Exit;
use crate::cli::print::json::path_pair;
use crate::cli::print::{human, table};
use crate::ops::select;
use crate::ops::verify::{self, Damage, Depth, HurtFile, Options, Outcome};
use serde::Serialize;
use std::ffi::OsString;

/// Damages and files that are shown to people; JSON has all that were kept.
const SHOWN_DAMAGES: usize = 20;
const SHOWN_FILES: usize = 5;

#[derive(Serialize)]
struct JsonVerify {
    message_type: &'static str,
    /// `structure`, `content`, `sample`, `all`.
    depth: &'static str,
    snapshots: u64,
    trees: u64,
    /// Pieces of content that the snapshots need, each counted once.
    chunks: u64,
    /// Pieces of content that were read.
    blobs_read: u64,
    /// Packs whose content was read.
    packs: u64,
    /// Stored bytes that were read.
    read_bytes: u64,
    /// What they hold.
    content_bytes: u64,
    damage: bool,
    damage_count: u64,
    damages: Vec<JsonDamage>,
    notes: Vec<String>,
}

#[derive(Serialize)]
struct JsonDamage {
    object: String,
    message: String,
    /// How many files it touches.
    file_count: u64,
    files: Vec<JsonHurt>,
}

#[derive(Serialize)]
struct JsonHurt {
    snapshot: String,
    path: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    path_hex: Option<String>,
}

/// Verifies.
pub fn run(app: &App, given: &Verify) -> Result<Exit> {
    let context = app.context()?;
    let depth = match (given.all, given.structure, given.sample) {
        (true, _, _) => Depth::All,
        (_, true, _) => Depth::Structure,
        (_, _, Some(percent)) => Depth::Sample(percent),
        _ => Depth::Content,
    };
    let all = !matches!(depth, Depth::Content) && given.snapshots.is_empty();
    let named =
        if all || !given.snapshots.is_empty() { given.snapshots.clone() } else { vec![OsString::from("latest")] };
    let listing = select::select_all(&context, &named, &filter(&given.filters))?;
    if listing.snapshots.is_empty() && listing.damaged.is_empty() && !given.all {
        return Err(Error::Said(Kind::NotFound, "there is no such snapshot: see `keepstone snapshots`".to_owned()));
    }
    let outcome = verify::verify(&context, &Options { snapshots: listing.snapshots, depth })?;
    app.look.finish();
    match app.out.is_json() {
        true => print_json(app, depth, &outcome),
        false => print_text(app, depth, &outcome),
    }
    let listed = tell(app, &listing.damaged);
    Ok(if outcome.damage { Exit::Damage } else { listed })
}

fn depth_name(depth: Depth) -> &'static str {
    match depth {
        Depth::Structure => "structure",
        Depth::Content => "content",
        Depth::Sample(_) => "sample",
        Depth::All => "all",
    }
}

fn print_json(app: &App, depth: Depth, outcome: &Outcome) {
    app.out.object(&JsonVerify {
        message_type: "verify",
        depth: depth_name(depth),
        snapshots: outcome.snapshots,
        trees: outcome.trees,
        chunks: outcome.chunks,
        blobs_read: outcome.blobs_read,
        packs: outcome.packs,
        read_bytes: outcome.bytes_read,
        content_bytes: outcome.bytes_raw,
        damage: outcome.damage,
        damage_count: outcome.damage_count,
        damages: outcome.damages.iter().map(json_damage).collect(),
        notes: outcome.notes.clone(),
    });
}

fn json_damage(damage: &Damage) -> JsonDamage {
    let hurt = |file: &HurtFile| {
        let (path, path_hex) = path_pair(&file.path);
        JsonHurt { snapshot: file.snapshot.to_string(), path, path_hex }
    };
    JsonDamage {
        object: damage.object.clone(),
        message: damage.message.clone(),
        file_count: damage.file_count,
        files: damage.files.iter().map(hurt).collect(),
    }
}

fn print_text(app: &App, depth: Depth, outcome: &Outcome) {
    let mut facts = vec![
        (
            "checked",
            format!("{}, {}", human::counted(outcome.snapshots, "snapshot"), human::counted(outcome.trees, "tree")),
        ),
        (
            "read",
            format!(
                "{}, {}, {} that hold {}",
                human::counted(outcome.packs, "pack"),
                human::counted(outcome.blobs_read, "blob"),
                human::bytes(outcome.bytes_read),
                human::bytes(outcome.bytes_raw)
            ),
        ),
    ];
    facts.push((
        "damage",
        if outcome.damage { human::counted(outcome.damage_count, "object") } else { "none".to_owned() },
    ));
    table::facts(&app.out, &facts);
    // Each damage was told when it was found; what it touches is known only now.
    let hurting = || outcome.damages.iter().filter(|damage| damage.file_count > 0);
    hurting().take(SHOWN_DAMAGES).for_each(|damage| print_damage(app, damage));
    let rest = hurting().count().saturating_sub(SHOWN_DAMAGES);
    if rest > 0 {
        app.out.line(format!("  and files for {} more: see --json", human::counted(rest as u64, "object")));
    }
    outcome.notes.iter().for_each(|note| app.look.note(note));
    if outcome.damage {
        return app.close(
            "every file that is not named above",
            "what the damaged objects hold, in the snapshots named above",
            "backup PATH",
        );
    }
    match depth {
        Depth::Structure => {
            app.close("trees and index fit together, and every pack is there", "content was not read", "verify --all")
        }
        Depth::Sample(percent) => {
            app.close(&format!("the {percent} % that were read"), "content that was not read this time", "verify --all")
        }
        Depth::Content => {
            app.close("everything in these snapshots was read and is whole", "other snapshots", "verify --all")
        }
        Depth::All => {
            app.close("everything stored was read and is whole", "what changed since the newest", "snapshots")
        }
    }
}

fn print_damage(app: &App, damage: &Damage) {
    app.out.line(format!("  {}", damage.object));
    for file in damage.files.iter().take(SHOWN_FILES) {
        app.out.line(format!("    touches {} in {}", human::name(&file.path), file.snapshot.short()));
    }
    let rest = damage.file_count.saturating_sub(damage.files.len().min(SHOWN_FILES) as u64);
    if rest > 0 {
        app.out.line(format!("    and {} more", human::counted(rest, "file")));
    }
}
