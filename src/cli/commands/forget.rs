//! `forget`: remove snapshots, by name or by a policy.

use super::{filter, prune, selected, tell};
use crate::base::clock::TimeZone;
use crate::base::{Kind, SnapshotId};
use crate::cli::app::App;
use crate::cli::args::{Forget, Keep};
use crate::cli::error::{Error, Result};
use crate::cli::exit::Exit;
use crate::cli::print::human;
use crate::cli::print::json::{JsonProblem, JsonSnapshot, path_list, problems};
use crate::cli::print::table::Table;
use crate::ops::forget::{self, Filter, Group, Options, Outcome, Selection};
use crate::ops::prune::{Gone, Options as PruneOptions};
use crate::ops::retention::{Period, Policy};
use crate::ops::{Context, select};
use serde::Serialize;
use std::ffi::OsString;

#[derive(Serialize)]
struct JsonForget {
    message_type: &'static str,
    dry_run: bool,
    groups: Vec<JsonGroup>,
    /// Snapshots that the filters let through, or that were named.
    matched: u64,
    kept: u64,
    removed: u64,
    /// Snapshots in the repository afterwards.
    remaining: u64,
    /// What the removed snapshots had added: about as much `prune` may free.
    added_bytes: u64,
    /// Damaged snapshots that were named.
    unreadable: Vec<String>,
    failures: Vec<JsonProblem>,
}

#[derive(Serialize)]
struct JsonGroup {
    host: Option<String>,
    paths: Option<Vec<String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    paths_hex: Option<Vec<String>>,
    tags: Option<Vec<String>>,
    kept: Vec<JsonKept>,
    removed: Vec<JsonSnapshot>,
}

#[derive(Serialize)]
struct JsonKept {
    snapshot: JsonSnapshot,
    reasons: Vec<String>,
}

/// Forgets, and prunes if asked to.
pub fn run(app: &App, given: &Forget) -> Result<Exit> {
    let policy = policy(&given.keep)?;
    if given.snapshots.is_empty() && policy.is_empty() {
        return Err(Error::usage("what should go? Name snapshots, or say what to keep: --keep-daily 7, for example"));
    }
    if !given.snapshots.is_empty() && !policy.is_empty() {
        return Err(Error::usage("name snapshots or give a policy, not both"));
    }
    let context = app.context()?;
    let options = Options {
        selection: selection(&context, given, policy)?,
        zone: TimeZone::system(),
        dry_run: given.dry_run,
        fresh: None,
    };
    let outcome = forget::forget(&context, &options)?;
    app.look.finish();
    match app.out.is_json() {
        true => print_json(app, &outcome),
        false => print_text(app, &outcome, given.prune),
    }
    match outcome.failures.as_slice() {
        [] if given.prune && !given.dry_run => {
            prune::prune(app, &context, &PruneOptions { gone: Gone::Refused, ..PruneOptions::default() })
        }
        [] => Ok(Exit::Done),
        failures => {
            tell(app, failures);
            let damage = failures.iter().all(|problem| problem.kind == Kind::Damaged);
            Ok(if damage { Exit::Damage } else { Exit::Failed })
        }
    }
}

fn selection(context: &Context, given: &Forget, policy: Policy) -> Result<Selection> {
    let wanted = filter(&given.filters);
    if !given.snapshots.is_empty() {
        return Ok(Selection::Ids(named(context, &given.snapshots, &wanted)?));
    }
    let filter = Filter { hosts: wanted.hosts, paths: wanted.paths, tags: wanted.tags };
    let group_by = given.group_by.parse().map_err(|error| Error::usage(format!("{error}")))?;
    Ok(Selection::Policy { policy: Box::new(policy), filter, group_by })
}

/// The snapshots that are named. Those that do not exist are named all at once, and nothing is removed.
fn named(context: &Context, texts: &[OsString], filter: &select::Filter) -> Result<Vec<SnapshotId>> {
    let (mut ids, mut missing) = (Vec::new(), Vec::new());
    for text in texts {
        match selected(context, std::slice::from_ref(text), filter) {
            Ok(found) => ids.extend(found),
            Err(error) if error.kind() == Kind::NotFound => missing.push(error.to_string()),
            Err(error) if error.kind() == Kind::Damaged => {
                ids.push(select::given_id(context, text)?.ok_or(error)?);
            }
            Err(error) => return Err(error),
        }
    }
    match missing.is_empty() {
        true => Ok(ids),
        false => Err(Error::Said(Kind::NotFound, format!("{}. Nothing was removed", missing.join("; ")))),
    }
}

/// The policy that the options say.
pub(super) fn policy(given: &Keep) -> Result<Policy> {
    let period = |text: &Option<String>| -> Result<Option<Period>> {
        let parsed = text.as_ref().map(|text| text.parse::<Period>()).transpose();
        parsed.map_err(|error| Error::usage(error.to_string()))
    };
    Ok(Policy {
        keep_last: given.keep_last.unwrap_or(0),
        keep_hourly: given.keep_hourly.unwrap_or(0),
        keep_daily: given.keep_daily.unwrap_or(0),
        keep_weekly: given.keep_weekly.unwrap_or(0),
        keep_monthly: given.keep_monthly.unwrap_or(0),
        keep_yearly: given.keep_yearly.unwrap_or(0),
        keep_within: period(&given.keep_within)?,
        keep_within_hourly: period(&given.keep_within_hourly)?,
        keep_within_daily: period(&given.keep_within_daily)?,
        keep_within_weekly: period(&given.keep_within_weekly)?,
        keep_within_monthly: period(&given.keep_within_monthly)?,
        keep_within_yearly: period(&given.keep_within_yearly)?,
        keep_tags: given.keep_tag.iter().map(|list| crate::ops::select::parse_tags(list)).collect(),
    })
}

fn print_json(app: &App, outcome: &Outcome) {
    app.out.object(&JsonForget {
        message_type: "forget",
        dry_run: outcome.dry_run,
        groups: outcome.groups.iter().map(json_group).collect(),
        matched: outcome.kept + outcome.removed,
        kept: outcome.kept,
        removed: outcome.removed,
        remaining: outcome.remaining,
        added_bytes: outcome.added_bytes,
        unreadable: outcome.unreadable.iter().map(ToString::to_string).collect(),
        failures: problems(&outcome.failures),
    });
}

fn json_group(group: &Group) -> JsonGroup {
    let paths = group.paths.as_ref().map(|paths| path_list(paths));
    let kept = group.kept.iter().map(|kept| JsonKept {
        snapshot: (&kept.snapshot).into(),
        reasons: kept.reasons.iter().map(ToString::to_string).collect(),
    });
    JsonGroup {
        host: group.host.clone(),
        paths_hex: paths.as_ref().and_then(|(_, hex)| hex.clone()),
        paths: paths.map(|(texts, _)| texts),
        tags: group.tags.clone(),
        kept: kept.collect(),
        removed: group.removed.iter().map(JsonSnapshot::from).collect(),
    }
}

fn print_text(app: &App, outcome: &Outcome, prunes: bool) {
    let gone = if outcome.dry_run { "would go" } else { "removed" };
    if outcome.groups.is_empty() {
        let left = human::counted(outcome.remaining, "snapshot");
        app.out.line(format!("no snapshot is meant by this policy and these filters; the repository has {left}"));
    }
    let shown = |group: &&Group| !(group.kept.is_empty() && group.removed.is_empty());
    for group in outcome.groups.iter().filter(shown) {
        app.out.line(title(group));
        let mut table = Table::new(&["  ID", "Time", "State", "Reasons"]);
        for kept in &group.kept {
            let reasons: Vec<String> = kept.reasons.iter().map(ToString::to_string).collect();
            let time = human::time(kept.snapshot.time_ns);
            table.row(vec![format!("  {}", kept.snapshot.id.short()), time, "kept".to_owned(), reasons.join(", ")]);
        }
        for snapshot in &group.removed {
            let id = format!("  {}", snapshot.id.short());
            table.row(vec![id, human::time(snapshot.time_ns), gone.to_owned(), String::new()]);
        }
        table.print(&app.out);
        app.out.line("");
    }
    let removed = human::counted(outcome.removed, "snapshot");
    let size = human::bytes(outcome.added_bytes);
    app.out
        .line(format!("{removed} {gone}, {} left; prune may free up to about {size}", human::count(outcome.remaining)));
    for id in &outcome.unreadable {
        app.out.line(format!("snapshot {} was damaged", id.short()));
    }
    if prunes && !outcome.dry_run && outcome.failures.is_empty() {
        return app.out.line("");
    }
    let (not_safe, next) = match (outcome.dry_run, outcome.removed) {
        (false, _) if !outcome.failures.is_empty() => {
            ("what is named above: it is damaged, or could not be removed; nothing was pruned", "verify --all")
        }
        (true, _) => ("nothing: this was a dry run", "snapshots"),
        (false, 0) => ("nothing: no snapshot was removed", "snapshots"),
        (false, _) => ("what only the removed snapshots held: the next prune deletes it", "prune"),
    };
    app.close("what the remaining snapshots hold", not_safe, next);
}

fn title(group: &Group) -> String {
    let mut parts = Vec::new();
    parts.extend(group.host.as_ref().map(|host| format!("host {}", human::name(host.as_bytes()))));
    parts.extend(group.paths.as_ref().map(|paths| {
        let paths: Vec<String> = paths.iter().map(|path| human::name(&path.0)).collect();
        format!("paths {}", paths.join(" "))
    }));
    parts.extend(group.tags.as_ref().map(|tags| format!("tags {}", human::name(tags.join(",").as_bytes()))));
    if parts.is_empty() { "snapshots".to_owned() } else { parts.join(", ") }
}
