//! `verify`: is what is stored whole, and can it be restored?

use super::{filter, tell};
use crate::base::{Kind, Problem, SnapshotId};
use crate::cli::app::App;
use crate::cli::args::Verify;
use crate::cli::error::{Error, Result};
use crate::cli::exit::Exit;
use crate::cli::print::json::path_pair;
use crate::cli::print::{human, table};
use crate::ops::select;
use crate::ops::verify::{self, Coverage, Damage, Depth, HurtFile, Options, Outcome, Part, Sidecars, Tally};
use serde::Serialize;

/// Damages and files that are shown to people; JSON has all that were kept.
const SHOWN_DAMAGES: usize = 20;
const SHOWN_FILES: usize = 5;

#[derive(Serialize)]
struct JsonVerify {
    message_type: &'static str,
    /// `presence`, `structure`, `content`, `sample`, `all`, `part`.
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
    /// Objects of the store that were looked at, and how many of them are damaged.
    objects: u64,
    objects_damaged: u64,
    /// Trees, lists and chunks that were looked at.
    blobs: u64,
    blobs_damaged: u64,
    /// Snapshots that something is hurt of, whether they were asked for or not.
    hurt_snapshots: Vec<JsonHurtSnapshot>,
    /// Parity sidecars; null if packs get none and have none.
    parity: Option<JsonParity>,
    /// Snapshots of which all is proven now.
    proven_snapshots: u64,
    /// How far all packs are read; null if no whole packs were.
    coverage: Option<JsonCoverage>,
    notes: Vec<String>,
}

#[derive(Serialize)]
struct JsonParity {
    sidecars: u64,
    /// Packs that should have one and have none.
    missing: u64,
    /// With another size than they should have by now.
    other_size: u64,
    /// Read to their last byte.
    read: u64,
}

#[derive(Serialize)]
struct JsonHurtSnapshot {
    snapshot: String,
    /// Files and directories, once for each damage.
    file_count: u64,
}

#[derive(Serialize)]
struct JsonCoverage {
    packs: u64,
    bytes: u64,
    /// Never read to their last byte, or not since they were damaged.
    unread_packs: u64,
    unread_bytes: u64,
    /// When the pack was read whose turn comes next, of those that were read at all.
    oldest_read: Option<String>,
    /// In how many runs like this all packs are read; null if all were.
    nights: Option<u64>,
}

#[derive(Serialize)]
struct JsonDamage {
    object: String,
    message: String,
    /// How many files it touches.
    file_count: u64,
    files: Vec<JsonHurt>,
    /// How many in each snapshot.
    snapshots: Vec<JsonHurtSnapshot>,
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
    let depth = depth(given)?;
    let mut wanted = filter(&given.filters);
    wanted.newer_than = given.newer_than.as_deref().map(select::parse_age).transpose()?;
    let one = depth == Depth::Content && given.snapshots.is_empty() && wanted.newer_than.is_none();
    let listing = match one {
        true => select::newest_readable(&context, &wanted)?,
        false => select::select_all(&context, &given.snapshots, &wanted)?,
    };
    if listing.snapshots.is_empty() && listing.damaged.is_empty() && !given.all {
        return Err(Error::Said(Kind::NotFound, "there is no such snapshot: see `keepstone snapshots`".to_owned()));
    }
    let outcome = verify::verify(&context, &Options { snapshots: listing.snapshots, depth })?;
    app.look.finish();
    tell(app, &listing.damaged);
    let outcome = with_unreadable(outcome, &listing.damaged);
    match app.out.is_json() {
        true => print_json(app, depth, &outcome),
        false => print_text(app, depth, &outcome, &listing.damaged, context.repository.now_ns()),
    }
    Ok(if outcome.damage { Exit::Damage } else { Exit::Done })
}

/// Counts the snapshots that could not even be read, and so not be checked, with what was found.
fn with_unreadable(mut outcome: Outcome, unreadable: &[Problem]) -> Outcome {
    let count = unreadable.len() as u64;
    outcome.damages.extend(unreadable.iter().map(|problem| Damage {
        object: problem.subject.clone(),
        message: problem.message.clone(),
        ..Damage::default()
    }));
    outcome.damage |= count > 0;
    outcome.damage_count += count;
    outcome.tally.objects += count;
    outcome.tally.objects_damaged += count;
    outcome
}

fn depth(given: &Verify) -> Result<Depth> {
    let part = Part { most_bytes: given.budget, share: given.share, most_seconds: seconds(given)? };
    Ok(match (given.all, given.structure, given.presence, given.sample) {
        (true, ..) => Depth::All,
        (_, true, ..) => Depth::Structure,
        (_, _, true, _) => Depth::Presence,
        (.., Some(percent)) => Depth::Sample(percent),
        _ if part != Part::default() => Depth::Part(part),
        _ => Depth::Content,
    })
}

fn seconds(given: &Verify) -> Result<Option<u64>> {
    let Some(text) = &given.max_time else { return Ok(None) };
    let time = select::parse_age(text)?;
    match time.months {
        0 => Ok(Some(time.seconds)),
        _ => Err(Error::usage(format!("`{text}` is too long for a run: write for example 30min or 2h"))),
    }
}

fn depth_name(depth: Depth) -> &'static str {
    match depth {
        Depth::Presence => "presence",
        Depth::Structure => "structure",
        Depth::Content => "content",
        Depth::Sample(_) => "sample",
        Depth::All => "all",
        Depth::Part(_) => "part",
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
        objects: outcome.tally.objects,
        objects_damaged: outcome.tally.objects_damaged,
        blobs: outcome.tally.blobs,
        blobs_damaged: outcome.tally.blobs_damaged,
        hurt_snapshots: outcome.hurt.iter().map(|hurt| json_hurt(&hurt.id, hurt.files)).collect(),
        parity: outcome.sidecars.map(|Sidecars { there, missing, other_size, read }| JsonParity {
            sidecars: there,
            missing,
            other_size,
            read,
        }),
        proven_snapshots: outcome.proven,
        coverage: outcome.coverage.as_ref().map(json_coverage),
        notes: outcome.notes.clone(),
    });
}

fn json_hurt(snapshot: &SnapshotId, file_count: u64) -> JsonHurtSnapshot {
    JsonHurtSnapshot { snapshot: snapshot.to_string(), file_count }
}

fn json_coverage(coverage: &Coverage) -> JsonCoverage {
    JsonCoverage {
        packs: coverage.packs,
        bytes: coverage.bytes,
        unread_packs: coverage.unread_packs,
        unread_bytes: coverage.unread_bytes,
        oldest_read: coverage.oldest_ns.map(human::rfc3339),
        nights: coverage.nights,
    }
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
        snapshots: damage.snapshots.iter().map(|(id, files)| json_hurt(id, *files)).collect(),
    }
}

/// How much of what was looked at is whole.
fn passed(tally: &Tally) -> String {
    let sound = |of: u64, damaged: u64| (of.saturating_sub(damaged), of);
    let (objects, of_objects) = sound(tally.objects, tally.objects_damaged);
    let (blobs, of_blobs) = sound(tally.blobs, tally.blobs_damaged);
    let share = human::share(objects + blobs, of_objects + of_blobs);
    let (objects, blobs) = (human::count(objects), human::count(blobs));
    format!(
        "{share}: {objects} of {}, {blobs} of {}",
        human::counted(of_objects, "object"),
        human::counted(of_blobs, "blob")
    )
}

/// How many sidecars there are, lack, and were read.
fn parity(sidecars: &Sidecars) -> String {
    let read = match sidecars.read {
        0 => "none of them read".to_owned(),
        read => format!("{} read", human::count(read)),
    };
    let lack = match sidecars.missing {
        0 => String::new(),
        packs => format!("; {} without one", human::counted(packs, "pack")),
    };
    format!("{}, {read}{lack}", human::counted(sidecars.there, "sidecar"))
}

/// In how many nights all is read, and what was read longest ago.
fn turn(coverage: &Coverage, now_ns: i64) -> String {
    let oldest = match (coverage.unread_packs, coverage.oldest_ns) {
        (0, Some(oldest_ns)) => format!("oldest read: {} ago", human::age(oldest_ns, now_ns)),
        (0, None) => "there are none".to_owned(),
        (packs, _) => {
            format!("not read yet: {}, {}", human::counted(packs, "pack"), human::bytes(coverage.unread_bytes))
        }
    };
    match coverage.nights {
        Some(nights) => {
            format!("all packs read within {} at this budget; {oldest}", human::counted(nights, "night"))
        }
        None => format!("{} of them; {oldest}", human::counted(coverage.packs, "pack")),
    }
}

/// The command that helps with what was found first, or shows what would.
fn what_helps(outcome: &Outcome, unreadable: &[Problem]) -> String {
    let any = |area: &str| outcome.damages.iter().any(|damage| damage.object.starts_with(&format!("{area}/")));
    if outcome.lacks_epoch {
        "repair plan --from MIRROR".to_owned()
    } else if any("index") {
        "rebuild-index".to_owned()
    } else if any("parity") {
        // No earlier run has noted down which.
        "repair plan --all".to_owned()
    } else if outcome.damage_count <= unreadable.len() as u64 {
        "snapshots".to_owned()
    } else if outcome.damages.iter().all(|damage| damage.is_lost) && !outcome.hurt.is_empty() {
        // Nothing in the repository mends it; the files themselves do, if they still have it.
        format!("show {}", outcome.hurt[0].id.short())
    } else {
        "repair plan".to_owned()
    }
}

fn print_text(app: &App, depth: Depth, outcome: &Outcome, unreadable: &[Problem], now_ns: i64) {
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
    if let Some(sidecars) = &outcome.sidecars {
        facts.push(("parity", parity(sidecars)));
    }
    facts.push(("passed", passed(&outcome.tally)));
    if let (Depth::Part(_), Some(coverage)) = (depth, &outcome.coverage) {
        facts.push(("turn", turn(coverage, now_ns)));
        facts.push((
            "proven",
            format!("{} of {}", human::count(outcome.proven), human::counted(outcome.snapshots, "snapshot")),
        ));
    }
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
    print_hurt(app, outcome);
    for problem in unreadable.iter().take(SHOWN_DAMAGES) {
        let remedy = "put its object back from a mirror of the repository, or let it go with `keepstone forget`";
        app.out.line(format!("  {} cannot be read: {remedy}", problem.subject));
    }
    outcome.notes.iter().for_each(|note| app.look.note_once(note));
    if outcome.damage {
        return app.close(
            "every file that is not named above, nor lies beneath what is",
            "what the damaged objects hold, in the snapshots named above",
            &what_helps(outcome, unreadable),
        );
    }
    match depth {
        Depth::Presence => {
            app.close("every pack is there and has its size", "trees and content were not read", "verify --all")
        }
        Depth::Part(_) => app.close(
            "what was read, and the snapshots that are proven",
            "packs whose turn has not come yet",
            "snapshots",
        ),
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

/// Which snapshots are hurt, and how much of each.
fn print_hurt(app: &App, outcome: &Outcome) {
    for hurt in outcome.hurt.iter().take(SHOWN_DAMAGES) {
        app.out.line(format!("  snapshot {}: {} hurt", hurt.id.short(), human::counted(hurt.files, "path")));
    }
    let rest = outcome.hurt.len().saturating_sub(SHOWN_DAMAGES);
    if rest > 0 {
        app.out.line(format!("  and {} more", human::counted(rest as u64, "snapshot")));
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
