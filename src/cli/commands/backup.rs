//! `backup`: files, directories and streams into a snapshot.

use super::init;
use crate::base::Problem;
use crate::cli::app::App;
use crate::cli::args::Backup;
use crate::cli::databases;
use crate::cli::error::{Error, Result};
use crate::cli::exit::Exit;
use crate::cli::print::imported::{self, JsonImported};
use crate::cli::print::json::{
    JsonDump, JsonProblem, JsonSnapshot, JsonStream, JsonTotals, JsonTraffic, Saved, problems,
};
use crate::cli::print::{human, table};
use crate::config::meant::Files;
use crate::config::{self, values};
use crate::format::snapshot::Snapshot;
use crate::job::build;
use crate::job::databases::Wanted;
use crate::ops::backup::{self, Dumped, Limits, Options, Outcome, Parent, Source, StreamKind};
use crate::ops::select::{self, Filter as Snapshots};
use crate::ops::{Context, verify};
use crate::source::files::{paths_from_lines, paths_from_raw};
use crate::store::Traffic;
use serde::Serialize;
use std::ffi::OsStr;
use std::io::Read;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// No list of paths or patterns is longer.
const MAX_LIST_BYTES: u64 = 256 << 20;

/// Imported dumps that are shown to people; JSON has all.
const SHOWN_DUMPS: usize = 50;

#[derive(Serialize)]
struct JsonBackup {
    message_type: &'static str,
    dry_run: bool,
    /// The new snapshot; null after a dry run.
    snapshot: Option<JsonSnapshot>,
    parent: Option<String>,
    partial: bool,
    /// Whether what was stored was read back (`--verify`) and is whole; null if it was not.
    verified: Option<bool>,
    files_unchanged: u64,
    totals: JsonTotals,
    dumps: Vec<JsonDumped>,
    streams: Vec<JsonStream>,
    /// Files that already were dumps (`--validate-dumps`).
    imported: Vec<JsonImported>,
    /// What was asked of the store since this command began; null for a folder, where requests cost nothing.
    store: Option<JsonTraffic>,
    problem_count: u64,
    problems: Vec<JsonProblem>,
    /// Damage that was met in the repository; what it hurts was stored again.
    damages: Vec<JsonProblem>,
}

#[derive(Serialize)]
struct JsonDumped {
    #[serde(flatten)]
    dump: JsonDump,
    streams: u64,
    streams_unchanged: u64,
    /// Bytes of content that were not in the repository before.
    new_bytes: u64,
}

/// Backs up.
pub fn run(app: &App, given: &Backup) -> Result<Exit> {
    let mut options = options(app, given)?;
    let wanted = Wanted::of(&databases::meant(&given.databases)?, config::surroundings())?;
    let context = open(app, given)?;
    if given.verify {
        context.repository.keyring().check_full("verify what was stored")?;
    }
    if given.trust_writers {
        context.index.trust_writers();
    }
    // First, since they take longest.
    options.sources.splice(0..0, wanted.sources(&context, &options.limits)?);
    build::keep_out(&app.location()?, &context, &mut options)?;
    if let Some(parent) = &given.parent {
        options.parent = Parent::Given(select::select(&context, parent, &Snapshots::default())?.snapshot.id);
    }
    let outcome = backup::backup(&context, &options)?;
    let whole = match &outcome.snapshot {
        Some(snapshot) if given.verify => Some(is_whole(&context, snapshot)?),
        _ => None,
    };
    app.look.finish();
    let traffic = context.repository.store().traffic();
    match app.out.is_json() {
        true => print_json(app, &options, &outcome, &traffic, whole),
        false => print_text(app, &options, &outcome, &traffic, whole),
    }
    Ok(match (whole, outcome.problem_count) {
        (Some(false), _) => Exit::Damage,
        _ if !outcome.damages.is_empty() => Exit::Damage,
        (_, 0) => Exit::Done,
        _ => Exit::Partial,
    })
}

/// Reads back all that the snapshot needs.
fn is_whole(context: &Context, snapshot: &Snapshot) -> Result<bool> {
    let wanted = verify::Options { snapshots: vec![snapshot.clone()], depth: verify::Depth::Content };
    Ok(!verify::verify(context, &wanted)?.damage)
}

fn open(app: &App, given: &Backup) -> Result<Context> {
    match app.sealed() {
        Err(error) if given.init && error.exit() == Exit::NoRepository => {
            if given.dry_run {
                return Err(Error::usage("there is no repository yet: --init makes one, but not with --dry-run"));
            }
            let (repository, _) = init::create(app, &given.new)?;
            app.look.note(&format!("made repository {} in {}", repository.id().short(), repository.store().location()));
            app.context_of(repository)
        }
        Err(error) => Err(error),
        Ok(sealed) => app.context_of(app.unlocked(sealed)?.0),
    }
}

fn options(app: &App, given: &Backup) -> Result<Options> {
    given.tag.iter().try_for_each(|tag| values::free_tag(tag)).map_err(Error::usage)?;
    let files = Files {
        paths: Vec::new(),
        exclude: given.exclude.clone(),
        iexclude: given.iexclude.clone(),
        exclude_file: given.exclude_file.clone(),
        iexclude_file: given.iexclude_file.clone(),
        exclude_caches: given.exclude_caches,
        exclude_if_present: given.exclude_if_present.clone(),
        exclude_larger_than: given.exclude_larger_than,
        one_file_system: given.one_file_system,
    };
    let (scan, exclude_texts) = build::scan(&files, read)?;
    Ok(Options {
        sources: sources(given)?,
        scan,
        exclude_texts,
        host: given.host.clone(),
        user: config::user_name(),
        tags: given.tag.iter().filter(|tag| !tag.is_empty()).cloned().collect(),
        description: given.description.clone(),
        time: given.time,
        parent: if given.force { Parent::None } else { Parent::Newest },
        level: given.compression.0,
        deltas: !given.no_delta,
        ignore_inode: given.ignore_inode,
        ignore_ctime: given.ignore_ctime,
        dry_run: given.dry_run,
        validate_dumps: given.validate_dumps,
        base_cache_bytes: if app.global.no_cache { 0 } else { given.base_cache },
        limits: Limits {
            max_parallel: given.databases.max_parallel as usize,
            attempts: given.databases.attempts,
            source_timeout: given.databases.source_timeout,
            timeout: given.databases.timeout,
            ignore_free_space: given.databases.ignore_free_space,
            ..Limits::default()
        },
    })
}

fn sources(given: &Backup) -> Result<Vec<Source>> {
    let mut sources = match given.stdin || given.stdin_from_command {
        true => vec![stream(given)?],
        false => paths(given)?,
    };
    let commands = given.databases.command.iter();
    sources.extend(commands.map(|(name, command)| Source::Command { name: name.clone(), command: command.clone() }));
    Ok(sources)
}

fn paths(given: &Backup) -> Result<Vec<Source>> {
    let mut paths = given.paths.clone();
    for list in &given.files_from {
        paths.extend(paths_from_lines(&read(list)?));
    }
    for list in &given.files_from_raw {
        let listed = paths_from_raw(&read(list)?);
        paths.extend(listed.map_err(|error| Error::usage(format!("{}: {error}", list.display())))?);
    }
    Ok(paths.into_iter().map(Source::Path).collect())
}

fn stream(given: &Backup) -> Result<Source> {
    let text = |word: &OsStr| {
        let said = || Error::usage(format!("{} is not UTF-8: use a script", human::name(word.as_bytes())));
        word.to_str().map(str::to_owned).ok_or_else(said)
    };
    let kind = match given.stdin_from_command {
        false => StreamKind::Stdin,
        true if given.paths.is_empty() => {
            return Err(Error::usage("which command? Write it after `--`: --stdin-from-command -- pg_dump shop"));
        }
        true => StreamKind::Command(given.paths.iter().map(|word| word.clone().into_os_string()).collect()),
    };
    Ok(Source::Stream { name: text(&given.stdin_filename)?, kind })
}

fn read(path: &Path) -> Result<Vec<u8>> {
    let failed = |source| Error::io(format!("read {}", path.display()), source);
    let mut bytes = Vec::new();
    let from: Box<dyn Read> = match path.as_os_str() == "-" {
        true => Box::new(std::io::stdin().lock()),
        false => Box::new(std::fs::File::open(path).map_err(failed)?),
    };
    from.take(MAX_LIST_BYTES + 1).read_to_end(&mut bytes).map_err(failed)?;
    if bytes.len() as u64 > MAX_LIST_BYTES {
        return Err(Error::usage(format!("{} is larger than {}", path.display(), human::bytes(MAX_LIST_BYTES))));
    }
    Ok(bytes)
}

/// Files that are as they were: those that were not read and those that were read and found the same.
fn unchanged(outcome: &Outcome) -> u64 {
    let totals = &outcome.totals;
    totals.files.saturating_sub(totals.files_new).saturating_sub(totals.files_changed)
}

fn print_json(app: &App, options: &Options, outcome: &Outcome, traffic: &Traffic, verified: Option<bool>) {
    app.out.object(&JsonBackup {
        message_type: "backup",
        dry_run: options.dry_run,
        snapshot: outcome.snapshot.as_ref().map(JsonSnapshot::from),
        parent: outcome.parent.map(|id| id.to_string()),
        partial: outcome.problem_count > 0,
        verified,
        files_unchanged: unchanged(outcome),
        totals: (&outcome.totals).into(),
        dumps: outcome.dumps.iter().map(json_dumped).collect(),
        streams: outcome.streams.iter().map(JsonStream::from).collect(),
        imported: imported::json(&outcome.imported),
        store: JsonTraffic::of(traffic),
        problem_count: outcome.problem_count,
        problems: problems(&outcome.problems),
        damages: problems(&outcome.damages),
    });
}

fn json_dumped(dumped: &Dumped) -> JsonDumped {
    JsonDumped {
        dump: (&dumped.record).into(),
        streams: dumped.streams,
        streams_unchanged: dumped.unchanged,
        new_bytes: dumped.new_bytes,
    }
}

/// One line for each database and each command.
fn fed(outcome: &Outcome) -> Vec<(&'static str, String)> {
    let dumps = outcome.dumps.iter().map(|dumped| {
        let new = human::bytes(dumped.new_bytes);
        ("database", format!("{}, of which {new} had not been stored before", human::dump(&dumped.record)))
    });
    let ended_well = outcome.streams.iter().filter(|stream| stream.status == Some(0));
    let commands = ended_well.map(|stream| {
        let place = human::name(stream.path.0.strip_prefix(b"/").unwrap_or(&stream.path.0));
        ("command", format!("{place}: {}", human::bytes(stream.bytes)))
    });
    dumps.chain(commands).collect()
}

fn print_text(app: &App, options: &Options, outcome: &Outcome, traffic: &Traffic, verified: Option<bool>) {
    let totals = &outcome.totals;
    let saved = Saved::of(totals);
    let mut found = vec![human::counted(totals.files, "file"), human::counted(totals.directories, "directory")];
    if totals.others > 0 {
        found.push(human::counted(totals.others, "other"));
    }
    let changes = [(totals.files_new, "new"), (totals.files_changed, "changed"), (unchanged(outcome), "unchanged")];
    let changes: Vec<String> =
        changes.iter().map(|(number, what)| format!("{} {what}", human::count(*number))).collect();
    let bytes = human::bytes;
    let mut facts = fed(outcome);
    facts.extend([
        ("found", format!("{}, {}", found.join(", "), bytes(totals.bytes))),
        ("files", changes.join(", ")),
        (
            "read",
            format!("{}, of which {} had not been stored before", bytes(totals.bytes_read), bytes(totals.bytes_new)),
        ),
    ]);
    if options.dry_run {
        facts.push(("stored", "nothing: this was a dry run".to_owned()));
    } else {
        let saved_text = [(saved.dedup, "dedup"), (saved.delta, "delta"), (saved.compression, "compression")];
        let saved_text: Vec<String> = saved_text.iter().map(|(size, by)| format!("{} by {by}", bytes(*size))).collect();
        facts.push(("saved", saved_text.join(", ")));
        facts.push(("added", format!("{} to the repository", bytes(totals.added))));
    }
    if traffic.requests() > 0 {
        facts.push(("store", human::traffic(traffic)));
    }
    if let Some(snapshot) = &outcome.snapshot {
        let partial = if snapshot.partial { ", partial" } else { "" };
        facts.push(("snapshot", format!("{}{partial}", snapshot.id.short())));
    }
    for dump in outcome.imported.iter().take(SHOWN_DUMPS) {
        facts.push(("dump", imported::line(dump)));
        let notes = dump.notes.iter().map(|note| ("", human::name(note.as_bytes())));
        facts.extend(notes);
    }
    if outcome.imported.len() > SHOWN_DUMPS {
        facts.push(("", format!("and {} more dumps: see `show`", outcome.imported.len() - SHOWN_DUMPS)));
    }
    if options.validate_dumps && outcome.imported.is_empty() {
        facts.push(("dump", "no file is a dump".to_owned()));
    }
    if outcome.problem_count > 0 {
        facts.push(("problems", problem_line(outcome.problem_count, &outcome.problems)));
    }
    if let Some(first) = outcome.damages.first() {
        let first = human::name(format!("{}: {}", first.subject, first.message).as_bytes());
        facts.push(("damage", format!("{} in the repository, the first: {first}", outcome.damages.len())));
    }
    table::facts(&app.out, &facts);
    conclude(app, outcome, verified);
}

fn problem_line(count: u64, problems: &[Problem]) -> String {
    let first = problems.first().map_or(String::new(), |problem| human::name(problem.message.as_bytes()));
    match count {
        1 => format!("1: {first}"),
        _ => format!("{}, the first: {first}", human::count(count)),
    }
}

fn conclude(app: &App, outcome: &Outcome, verified: Option<bool>) {
    let Some(snapshot) = &outcome.snapshot else {
        return app.close("what earlier snapshots hold", "what is listed here: nothing was stored", "backup PATH");
    };
    let id = snapshot.id.short();
    let safe = match verified {
        Some(true) => "everything found was stored, read back and compared",
        Some(false) => "what earlier runs stored",
        None if app.is_local() => "everything found was stored and is on the disk",
        None => "everything found was stored and is in the bucket",
    };
    let safe = if outcome.problem_count > 0 {
        safe.replace("everything found", "everything that could be read")
    } else {
        safe.to_owned()
    };
    let problems = human::counted(outcome.problem_count, "source");
    let (not_safe, next) = match (verified, outcome.problem_count) {
        (Some(true) | None, _) if !outcome.damages.is_empty() => (
            "older snapshots that need what is damaged; this one stands on nothing known to be damaged".to_owned(),
            "verify --all".to_owned(),
        ),
        (Some(false), _) => ("this snapshot: what was read back is damaged".to_owned(), format!("verify {id}")),
        (_, 1..) => (format!("{problems} that could not be read"), format!("show {id}")),
        (None, 0) => ("nothing known; not read back yet".to_owned(), format!("verify {id}")),
        (Some(true), 0) => ("nothing known".to_owned(), format!("restore {id} --target DIR")),
    };
    app.close(&safe, &not_safe, &next);
}
