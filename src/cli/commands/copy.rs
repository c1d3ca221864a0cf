//! `copy`: snapshots from another repository into this one.

use super::filter;
use crate::base::{Clock, Kind};
use crate::cli::app::App;
use crate::cli::args::Copy;
use crate::cli::error::{Error, Result};
use crate::cli::exit::Exit;
use crate::cli::print::json::{JsonProblem, JsonSnapshot, path_pair, problems};
use crate::cli::print::table::Table;
use crate::cli::print::{human, table};
use crate::cli::secrets;
use crate::ops::copy::{self, Cost, Fate, One, Options, Outcome};
use crate::ops::verify::Damage;
use crate::ops::{Context, select};
use crate::repo::SealedRepository;
use serde::Serialize;

/// Damages and files that are shown to people; JSON has all that were kept.
const SHOWN_DAMAGES: usize = 20;
const SHOWN_FILES: usize = 5;

#[derive(Serialize)]
struct JsonOne {
    message_type: &'static str,
    /// As it is in the source.
    snapshot: JsonSnapshot,
    /// `copied`, `there`, `would_be_copied`, `damaged` or `gone`.
    fate: &'static str,
    /// Its id in the destination; null if it is not there.
    copy: Option<String>,
    #[serde(flatten)]
    cost: JsonCost,
}

#[derive(Serialize)]
struct JsonCost {
    /// Trees and lists that were read.
    trees: u64,
    /// Pieces of content that the destination was not known to hold.
    blobs: u64,
    /// Their bytes.
    blob_bytes: u64,
    /// Bytes read from the source for them.
    read_bytes: u64,
    /// Blobs that were new in the destination, trees and lists included.
    new_blobs: u64,
    added_bytes: u64,
}

impl From<&Cost> for JsonCost {
    fn from(cost: &Cost) -> JsonCost {
        let Cost { trees, blobs, blob_bytes, read_bytes, new_blobs, added_bytes } = *cost;
        JsonCost { trees, blobs, blob_bytes, read_bytes, new_blobs, added_bytes }
    }
}

#[derive(Serialize)]
struct JsonCopy {
    message_type: &'static str,
    dry_run: bool,
    source_id: String,
    destination_id: String,
    /// Whether both name content alike.
    shared_names: bool,
    copied: u64,
    there: u64,
    damaged: u64,
    #[serde(flatten)]
    cost: JsonCost,
    damage_count: u64,
    damages: Vec<JsonDamage>,
    problems: Vec<JsonProblem>,
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

/// Copies.
pub fn run(app: &App, given: &Copy) -> Result<Exit> {
    let (source, destination) = open_both(app, given)?;
    let mut wanted = filter(&given.filters);
    wanted.newer_than = given.newer_than.as_deref().map(select::parse_age).transpose()?;
    let listing = select::select_all(&source, &given.snapshots, &wanted)?;
    let is_nothing = listing.snapshots.is_empty() && listing.damaged.is_empty();
    if is_nothing && !has_older(&source, given, &wanted)? {
        let place = human::name(source.repository.store().location().as_bytes());
        return Err(Error::Said(Kind::NotFound, format!("there is no such snapshot in {place}: nothing to copy")));
    }
    let options = Options { listing, level: given.compression.0, verify: given.verify, dry_run: given.dry_run };
    let outcome = copy::copy(&source, &destination, &options)?;
    app.look.finish();
    match app.out.is_json() {
        true => print_json(app, (&source, &destination), given, &outcome),
        false => print_text(app, given, &outcome),
    }
    Ok(if outcome.damage() { Exit::Damage } else { Exit::Done })
}

/// Whether there are such snapshots, and all are older than is asked for: a copy that finds nothing new has done its work.
fn has_older(source: &Context, given: &Copy, wanted: &select::Filter) -> Result<bool> {
    if wanted.newer_than.is_none() {
        return Ok(false);
    }
    let of_any_age = select::Filter { newer_than: None, ..wanted.clone() };
    Ok(!select::select_all(source, &given.snapshots, &of_any_age)?.snapshots.is_empty())
}

/// Opens both repositories. What can be said before a password is typed is said first.
fn open_both(app: &App, given: &Copy) -> Result<(Context, Context)> {
    let from = app.from(&given.from, &given.opened);
    let (sealed_source, sealed_destination) = (from.sealed()?, app.sealed()?);
    refuse_same(&sealed_source, &sealed_destination)?;
    let source = sealed_source.unlock(&secrets::unlock(&from.global, &from.stop)?.unlock, Clock::System)?;
    let destination = sealed_destination.unlock(&secrets::unlock(&app.global, &app.stop)?.unlock, Clock::System)?;
    let destination = app.context_of(destination)?;
    Ok((from.second_context_of(source)?, destination))
}

fn refuse_same(source: &SealedRepository, destination: &SealedRepository) -> Result<()> {
    if source.id() != destination.id() {
        return Ok(());
    }
    let place = |sealed: &SealedRepository| human::name(sealed.store().location().as_bytes());
    let text = format!(
        "{} and {} are the same repository: there is nothing to copy (a second one is made with `keepstone init`)",
        place(source),
        place(destination)
    );
    Err(Error::Said(Kind::Refused, text))
}

fn fate_name(fate: &Fate) -> &'static str {
    match fate {
        Fate::Copied(_) => "copied",
        Fate::There(_) => "there",
        Fate::WouldBe => "would_be_copied",
        Fate::Damaged => "damaged",
        Fate::Gone => "gone",
    }
}

fn print_json(app: &App, (source, destination): (&Context, &Context), given: &Copy, outcome: &Outcome) {
    for one in &outcome.snapshots {
        let copy = match one.fate {
            Fate::Copied(id) | Fate::There(id) => Some(id.to_string()),
            Fate::WouldBe | Fate::Damaged | Fate::Gone => None,
        };
        app.out.object(&JsonOne {
            message_type: "copied_snapshot",
            snapshot: (&one.snapshot).into(),
            fate: fate_name(&one.fate),
            copy,
            cost: (&one.cost).into(),
        });
    }
    app.out.object(&JsonCopy {
        message_type: "copy",
        dry_run: given.dry_run,
        source_id: source.repository.id().to_string(),
        destination_id: destination.repository.id().to_string(),
        shared_names: outcome.shared_names,
        copied: copied(outcome),
        there: there(outcome),
        damaged: outcome.count(|fate| *fate == Fate::Damaged),
        cost: (&outcome.cost).into(),
        damage_count: outcome.damage_count,
        damages: outcome.damages.iter().map(json_damage).collect(),
        problems: problems(&outcome.problems),
    });
}

fn json_damage(damage: &Damage) -> JsonDamage {
    let hurt = |file: &crate::ops::verify::HurtFile| {
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

fn copied(outcome: &Outcome) -> u64 {
    outcome.count(|fate| matches!(fate, Fate::Copied(_) | Fate::WouldBe))
}

fn there(outcome: &Outcome) -> u64 {
    outcome.count(|fate| matches!(fate, Fate::There(_)))
}

fn print_text(app: &App, given: &Copy, outcome: &Outcome) {
    let told = |one: &&One| !matches!(one.fate, Fate::There(_));
    if outcome.snapshots.iter().any(|one| told(&one)) {
        let mut rows = Table::new(&["Snapshot", "Time", "Host", "Here as", ">Read", ">Added"]);
        outcome.snapshots.iter().filter(told).for_each(|one| rows.row(row(one)));
        rows.print(&app.out);
        app.out.line("");
    }
    let cost = &outcome.cost;
    let would = if given.dry_run { "would be " } else { "" };
    let damaged = outcome.count(|fate| *fate == Fate::Damaged);
    let mut facts = vec![
        ("copied", format!("{would}{}", human::counted(copied(outcome), "snapshot"))),
        ("there", format!("{} before", human::counted(there(outcome), "snapshot"))),
    ];
    if damaged > 0 {
        facts.push(("damaged", format!("{}, not copied", human::counted(damaged, "snapshot"))));
    }
    let blobs = human::counted(cost.blobs, "blob");
    facts.push(("content", format!("{blobs} of {} that {}", human::bytes(cost.blob_bytes), known(given, outcome))));
    if !given.dry_run {
        facts.push(("read", human::bytes(cost.read_bytes)));
        facts.push((
            "added",
            format!("{} ({})", human::bytes(cost.added_bytes), human::counted(cost.new_blobs, "new blob")),
        ));
    }
    let names =
        if outcome.shared_names { "as in the other repository" } else { "of its own: all content is named anew" };
    facts.push(("names", names.to_owned()));
    table::facts(&app.out, &facts);
    outcome.damages.iter().filter(|damage| damage.file_count > 0).take(SHOWN_DAMAGES).for_each(|damage| {
        print_damage(app, damage);
    });
    close(app, given, outcome);
}

fn known(given: &Copy, outcome: &Outcome) -> &'static str {
    match (outcome.shared_names, given.dry_run) {
        (true, false) => "were not here",
        (true, true) => "are not here",
        (false, _) => "were not known to be here",
    }
}

fn row(one: &One) -> Vec<String> {
    let (added, read) = (human::bytes(one.cost.added_bytes), human::bytes(one.cost.read_bytes));
    let (name, read, added) = match &one.fate {
        Fate::Copied(id) | Fate::There(id) => (id.short(), read, added),
        Fate::WouldBe => ("(dry run)".to_owned(), human::bytes(one.cost.blob_bytes), String::new()),
        Fate::Damaged => ("DAMAGED".to_owned(), read, added),
        Fate::Gone => ("(gone meanwhile)".to_owned(), String::new(), String::new()),
    };
    let host = human::name(one.snapshot.host.as_bytes());
    vec![one.snapshot.id.short(), human::time(one.snapshot.time_ns), host, name, read, added]
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

fn close(app: &App, given: &Copy, outcome: &Outcome) {
    if given.dry_run {
        return app.close("nothing was changed", "what would be copied is not here yet", "snapshots");
    }
    if outcome.count(|fate| *fate == Fate::Damaged) > 0 {
        let not_safe = "the snapshots that are damaged: they are not here; see what the messages say of the source";
        return app.close("every snapshot that is here by its name", not_safe, "snapshots");
    }
    let next = if given.verify { "snapshots" } else { "verify" };
    app.close("these snapshots are in both repositories", "what was backed up there since", next);
}
