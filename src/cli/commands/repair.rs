//! `repair`: what is damaged, made anew from whatever still has it.

use crate::base::{Clock, Kind, RepositoryId, SnapshotId};
use crate::cli::app::App;
use crate::cli::args::{Global, Repair, RepairCommand, RepairFrom};
use crate::cli::error::Result;
use crate::cli::exit::Exit;
use crate::cli::print::json::path_pair;
use crate::cli::print::{human, table};
use crate::cli::secrets::Brought;
use crate::ops::Context;
use crate::ops::repair::{self, Applied, Healed, Item, Mended, Options, Plan, Way};
use crate::ops::verify::{Damage, HurtSnapshot};
use crate::store::Area;
use serde::Serialize;

/// What is shown to people; JSON has all.
const SHOWN_ITEMS: usize = 40;
const SHOWN_FILES: usize = 20;

#[derive(Serialize)]
struct JsonPlan {
    message_type: &'static str,
    packs_read: u64,
    read_bytes: u64,
    damage: bool,
    /// Whether nothing stays damaged if this is carried out.
    mends_all: bool,
    /// Pieces of content and trees that nothing in the repository gives, and those that can be stored anew.
    blobs_lost: u64,
    healed: JsonHealed,
    items: Vec<JsonItem>,
    hurt_snapshots: Vec<JsonSnapshot>,
    hurt_files: Vec<JsonFile>,
}

#[derive(Serialize)]
struct JsonApply {
    message_type: &'static str,
    packs_read: u64,
    read_bytes: u64,
    mended: Vec<JsonMended>,
    left: Vec<JsonItem>,
    /// Pieces of content and trees that nothing in the repository gave, and those that were stored anew.
    blobs_lost: u64,
    healed: JsonHealed,
    /// Packs of which it is recorded from now on what is damaged in them.
    recorded: u64,
    /// Whether anything is still damaged.
    damage: bool,
    hurt_snapshots: Vec<JsonSnapshot>,
    hurt_files: Vec<JsonFile>,
}

#[derive(Serialize)]
struct JsonHealed {
    from_repository: u64,
    from_files: u64,
}

impl From<Healed> for JsonHealed {
    fn from(Healed { from_repository, from_files }: Healed) -> JsonHealed {
        JsonHealed { from_repository, from_files }
    }
}

#[derive(Serialize)]
struct JsonItem {
    object: String,
    reason: String,
    /// `parity`, `mirror`, `copy`, `from_pack`, `aside`, `again` or `nothing`.
    way: &'static str,
}

#[derive(Serialize)]
struct JsonMended {
    #[serde(flatten)]
    item: JsonItem,
    /// Where the damaged one is kept; null if there was none.
    quarantine: Option<String>,
}

#[derive(Serialize)]
struct JsonSnapshot {
    snapshot: String,
    /// Files and directories, once for each damage.
    file_count: u64,
}

#[derive(Serialize)]
struct JsonFile {
    snapshot: String,
    path: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    path_hex: Option<String>,
}

/// Plans, or plans and mends.
pub fn run(app: &App, given: &Repair) -> Result<Exit> {
    match &given.command {
        RepairCommand::Plan(given) => plan(app, given),
        RepairCommand::Apply(given) => apply(app, given),
    }
}

/// Opens the other repository. A mirror of this one opens with what opened this one, unless it is older than that.
fn open_from(app: &App, given: &RepairFrom, own: RepositoryId, brought: &Brought) -> Result<Option<Context>> {
    let Some(from) = &given.from else { return Ok(None) };
    let from = app.from(from, &given.opened);
    // A mirror has the same id, and what is kept here of the one is not true of the other.
    let from = App { global: Global { no_cache: true, cache_dir: None, ..from.global }, ..from };
    let sealed = from.sealed()?;
    let repository = match sealed.id() == own {
        true => match sealed.unlock(&brought.unlock, Clock::System) {
            Err(error) if error.kind() == Kind::WrongKey => from.unlocked(from.sealed()?)?.0,
            opened => opened?,
        },
        false => from.unlocked(sealed)?.0,
    };
    Ok(Some(from.second_context_of(repository)?))
}

/// Both repositories, and what opened the one that is worked on.
fn open(app: &App, given: &RepairFrom) -> Result<(Context, Option<Context>, Brought)> {
    let (repository, brought) = app.repository_and_secret()?;
    let context = app.context_of(repository)?;
    let from = open_from(app, given, context.repository.id(), &brought)?;
    Ok((context, from, brought))
}

fn plan(app: &App, given: &RepairFrom) -> Result<Exit> {
    let (context, from, brought) = open(app, given)?;
    let options = Options { all: given.all, from: from.as_ref(), files: given.files };
    let plan = repair::plan(&context, &options, &brought.unlock)?;
    app.look.finish();
    match app.out.is_json() {
        true => app.out.object(&JsonPlan {
            message_type: "repair_plan",
            packs_read: plan.packs_read,
            read_bytes: plan.bytes_read,
            damage: plan.is_damage(),
            mends_all: plan.mends_all(),
            blobs_lost: plan.blobs_lost,
            healed: plan.healed.into(),
            items: plan.items.iter().map(json_item).collect(),
            hurt_snapshots: json_hurt(&plan.hurt),
            hurt_files: json_files(&plan.damages),
        }),
        false => print_plan(app, given, &plan),
    }
    Ok(if plan.is_damage() { Exit::Damage } else { Exit::Done })
}

fn apply(app: &App, given: &RepairFrom) -> Result<Exit> {
    let (context, from, brought) = open(app, given)?;
    let options = Options { all: given.all, from: from.as_ref(), files: given.files };
    let applied = repair::apply(&context, &options, &brought.unlock)?;
    app.look.finish();
    match app.out.is_json() {
        true => app.out.object(&JsonApply {
            message_type: "repair_apply",
            packs_read: applied.plan.packs_read,
            read_bytes: applied.plan.bytes_read,
            mended: applied.mended.iter().map(json_mended).collect(),
            left: applied.left.iter().map(json_item).collect(),
            blobs_lost: applied.blobs_lost,
            healed: applied.healed.into(),
            recorded: applied.recorded,
            damage: applied.is_damage(),
            hurt_snapshots: json_hurt(&applied.hurt),
            hurt_files: json_files(&applied.damages),
        }),
        false => print_applied(app, &applied),
    }
    Ok(if applied.is_damage() { Exit::Damage } else { Exit::Done })
}

fn way(way: &Way) -> &'static str {
    match way {
        Way::Parity { .. } => "parity",
        Way::Mirror => "mirror",
        Way::Copy => "copy",
        Way::FromPack => "from_pack",
        Way::Aside => "aside",
        Way::Again => "again",
        Way::Nothing => "nothing",
    }
}

fn json_item(item: &Item) -> JsonItem {
    JsonItem { object: item.key.to_string(), reason: item.reason.clone(), way: way(&item.way) }
}

fn json_mended(mended: &Mended) -> JsonMended {
    JsonMended { item: json_item(&mended.item), quarantine: mended.quarantine.as_ref().map(ToString::to_string) }
}

fn json_hurt(hurt: &[HurtSnapshot]) -> Vec<JsonSnapshot> {
    hurt.iter().map(|hurt| JsonSnapshot { snapshot: hurt.id.to_string(), file_count: hurt.files }).collect()
}

fn json_files(damages: &[Damage]) -> Vec<JsonFile> {
    let files = damages.iter().flat_map(|damage| &damage.files);
    let json = files.map(|file| {
        let (path, path_hex) = path_pair(&file.path);
        JsonFile { snapshot: file.snapshot.to_string(), path, path_hex }
    });
    json.collect()
}

/// What mends an object, for people.
fn by(item: &Item) -> &'static str {
    match item.way {
        Way::Parity { .. } => "its parity sidecar",
        Way::Mirror => "the other repository",
        Way::Copy => "its other copy",
        Way::FromPack => "its pack",
        Way::Aside => "setting it aside",
        Way::Again => "reading it once more",
        Way::Nothing => "nothing that was asked",
    }
}

/// How many blobs nothing in the repository gives, and what becomes of them.
fn lost_blobs(lost: u64, healed: Healed, what: &str) -> String {
    let mut text = format!("{} that no pack gives any more", human::counted(lost, "blob"));
    for (blobs, whence) in [(healed.from_repository, "the other repository"), (healed.from_files, "the original files")]
    {
        if blobs > 0 {
            text.push_str(&format!("; {} {what} from {whence}", human::count(blobs)));
        }
    }
    text
}

fn print_items<'i>(app: &App, items: impl Iterator<Item = &'i Item>, say: &dyn Fn(&Item) -> String) {
    let lines: Vec<String> = items.map(say).collect();
    lines.iter().take(SHOWN_ITEMS).for_each(|line| app.out.line(line));
    let rest = lines.len().saturating_sub(SHOWN_ITEMS);
    if rest > 0 {
        app.out.line(format!("  and {} more: see --json", human::counted(rest as u64, "object")));
    }
}

fn print_plan(app: &App, given: &RepairFrom, plan: &Plan) {
    let mendable = plan.items.iter().filter(|item| !matches!(item.way, Way::Nothing | Way::Again)).count();
    let lost = plan.items.iter().filter(|item| item.way == Way::Nothing).count();
    let mut facts = vec![
        ("read", format!("{}, {}", human::counted(plan.packs_read, "pack"), human::bytes(plan.bytes_read))),
        ("can be mended", human::counted(mendable as u64, "object")),
        ("cannot", human::counted(lost as u64, "object")),
    ];
    if plan.blobs_lost > 0 {
        facts.push(("lost", lost_blobs(plan.blobs_lost, plan.healed, "can be stored anew")));
    }
    table::facts(&app.out, &facts);
    print_items(app, plan.items.iter(), &|item| {
        let reason = human::name(item.reason.as_bytes());
        format!("{}: {reason}; mended by {}", item.key, by(item))
    });
    print_hurt(app, &plan.damages, &plan.hurt);
    let carry_out = apply_with(given);
    match (plan.is_damage(), plan.mends_all(), given.all) {
        (false, _, true) => {
            app.close("every pack and every sidecar: all were read", "what changes from now on", "verify")
        }
        (false, _, false) => app.close(
            "nothing that an earlier verify found damaged, and no pack is missing",
            "damage that nobody has found yet: `repair plan --all` reads everything",
            "verify --all",
        ),
        (true, true, _) => app.close("everything, once this is carried out", "what is damaged, until then", &carry_out),
        (true, false, _) if plan.saves_all() => app.close(
            "every file of every snapshot, once this is carried out",
            "the damaged packs themselves: when nothing needs them any more, prune takes them away",
            &carry_out,
        ),
        (true, false, _) => app.close(
            "every file that is not named above, nor lies beneath what is",
            "what nothing mends: a mirror that has it helps (--from), and a backup of the same files stores it anew",
            &carry_out,
        ),
    }
}

/// The command that carries the plan out: without the same sources it would mend less.
fn apply_with(given: &RepairFrom) -> String {
    let mut text = "repair apply".to_owned();
    if given.all {
        text.push_str(" --all");
    }
    if let Some(from) = &given.from {
        text.push_str(&format!(" --from {}", human::shell_word(&from.to_string_lossy())));
    }
    if given.files {
        text.push_str(" --files");
    }
    text
}

fn print_applied(app: &App, applied: &Applied) {
    let mended = applied.mended.len() as u64;
    let kept = applied.mended.iter().filter(|mended| mended.quarantine.is_some()).count() as u64;
    let mut facts = vec![
        ("mended", human::counted(mended, "object")),
        ("quarantine", format!("{} kept as it was", human::counted(kept, "damaged object"))),
    ];
    if applied.blobs_lost > 0 {
        facts.push(("lost", lost_blobs(applied.blobs_lost, applied.healed, "stored anew")));
    }
    if !applied.left.is_empty() {
        facts.push(("left", human::counted(applied.left.len() as u64, "object")));
    }
    table::facts(&app.out, &facts);
    print_items(app, applied.mended.iter().map(|mended| &mended.item), &|item| {
        format!("{}: mended by {}", item.key, by(item))
    });
    print_items(app, applied.left.iter(), &|item| {
        format!("{}: left, {}", item.key, human::name(item.reason.as_bytes()))
    });
    print_hurt(app, &applied.damages, &applied.hurt);
    match (applied.is_damage(), mended) {
        (false, 0) => app.close("nothing was known to be damaged", "damage that nobody has found yet", "verify --all"),
        (false, _) => {
            app.close("everything that was damaged", "the disk that it lay on: look after it", "verify --all")
        }
        (true, _) if applied.saves_all() => app.close(
            "every file of every snapshot: what was lost is stored anew, or has another copy",
            "the damaged packs themselves: prune takes away what nothing needs of them",
            "prune",
        ),
        (true, _) if applied.left.iter().any(|item| item.key.area() == Area::Index) => app.close(
            "every file that is not named above, nor lies beneath what is",
            "what only the damaged part of the index knew: it is made anew from the packs",
            "rebuild-index",
        ),
        (true, _) => app.close(
            "every file that is not named above, nor lies beneath what is",
            "what nothing mends: restore gives the rest and names it; the next backup of the same files stores it anew",
            "backup PATH",
        ),
    }
}

fn print_hurt(app: &App, damages: &[Damage], hurt: &[HurtSnapshot]) {
    let mut files: Vec<(SnapshotId, &[u8])> =
        damages.iter().flat_map(|damage| &damage.files).map(|file| (file.snapshot, &*file.path)).collect();
    files.sort();
    files.dedup();
    for (snapshot, path) in files.iter().take(SHOWN_FILES) {
        app.out.line(format!("  hurt: {} in snapshot {}", human::name(path), snapshot.short()));
    }
    if !hurt.is_empty() {
        let all: u64 = hurt.iter().map(|hurt| hurt.files).sum();
        let snapshots = human::counted(hurt.len() as u64, "snapshot");
        app.out.line(format!("  stays hurt: {snapshots}, {}", human::counted(all, "file")));
    }
}
