//! `store`: what lies at the place of the repository, and what that place honours. Nothing is opened.

use crate::base::Clock;
use crate::cli::app::App;
use crate::cli::args::{Store as Given, StoreCommand, StoreLs};
use crate::cli::error::{Error, Result};
use crate::cli::exit::Exit;
use crate::cli::print::human;
use crate::cli::print::json::JsonTraffic;
use crate::cli::print::table::Table;
use crate::store::probe::{self, Check, Verdict};
use crate::store::{Area, Listed, ObjectStore};
use serde::Serialize;
use std::collections::BTreeMap;
use std::sync::Arc;

#[derive(Serialize)]
struct JsonObject<'a> {
    message_type: &'static str,
    kind: &'static str,
    name: &'a str,
    size_bytes: u64,
    stored_at: String,
    storage_class: Option<&'a str>,
}

#[derive(Serialize)]
struct JsonListed {
    message_type: &'static str,
    objects: u64,
    bytes: u64,
}

#[derive(Serialize)]
struct JsonProbe {
    message_type: &'static str,
    location: String,
    verdict: &'static str,
    checks: Vec<JsonCheck>,
}

#[derive(Serialize)]
struct JsonCheck {
    name: &'static str,
    verdict: &'static str,
    message: String,
    remedy: String,
}

#[derive(Serialize)]
struct JsonStats {
    message_type: &'static str,
    location: String,
    repository_id: String,
    kinds: Vec<JsonKind>,
    objects: u64,
    bytes: u64,
    /// What this command asked of the store; null where requests cost nothing.
    store: Option<JsonTraffic>,
}

#[derive(Serialize)]
struct JsonKind {
    kind: &'static str,
    objects: u64,
    bytes: u64,
    /// By storage class, where the store has such.
    classes: BTreeMap<String, JsonSum>,
}

#[derive(Clone, Copy, Default, Serialize)]
struct JsonSum {
    objects: u64,
    bytes: u64,
}

/// Looks.
pub fn run(app: &App, given: &Given) -> Result<Exit> {
    match &given.command {
        StoreCommand::Ls(given) => ls(app, given),
        StoreCommand::Probe => probe(app),
        StoreCommand::Stats => stats(app),
    }
}

fn ls(app: &App, given: &StoreLs) -> Result<Exit> {
    let repository = app.sealed()?;
    let areas: Vec<Area> = match given.kind.is_empty() {
        true => Area::ALL.to_vec(),
        false => Area::ALL.into_iter().filter(|area| given.kind.iter().any(|kind| kind.area() == *area)).collect(),
    };
    let mut sum = JsonSum::default();
    for area in areas {
        let mut listed = Vec::new();
        repository.store().list(area, &mut |one| listed.push(one))?;
        listed.sort_by(|one, other| one.name.cmp(&other.name));
        for one in &listed {
            sum.objects += 1;
            sum.bytes += one.size_bytes;
            print_object(app, area, one);
        }
        if app.out.is_closed() {
            return Err(Error::Closed);
        }
    }
    match app.out.is_json() {
        true => {
            app.out.object(&JsonListed { message_type: "store_ls", objects: sum.objects, bytes: sum.bytes });
        }
        false => app.out.line(format!("{}, {}", human::counted(sum.objects, "object"), human::bytes(sum.bytes))),
    }
    Ok(Exit::Done)
}

fn print_object(app: &App, area: Area, one: &Listed) {
    let stored_ns = i64::try_from(one.stored_at.as_nanosecond()).unwrap_or(0);
    if app.out.is_json() {
        app.out.object(&JsonObject {
            message_type: "object",
            kind: area.name(),
            name: &one.name,
            size_bytes: one.size_bytes,
            stored_at: human::rfc3339(stored_ns),
            storage_class: one.class.as_deref(),
        });
        return;
    }
    let (size, time) = (human::bytes(one.size_bytes), human::time(stored_ns));
    let kind = if area == Area::Config { "" } else { area.name() };
    let slash = if kind.is_empty() { "" } else { "/" };
    app.out.line(format!("{size:>11}  {time}  {kind}{slash}{}", one.name));
}

fn probe(app: &App) -> Result<Exit> {
    let store: Arc<dyn ObjectStore> = app.location()?.open(&app.reach()?)?;
    let mut checks = probe::probe(&*store, &Clock::System)?.checks();
    checks.extend(store.peculiarities());
    let worst = checks.iter().map(|check| check.verdict).max().unwrap_or(Verdict::Good);
    match app.out.is_json() {
        true => app.out.object(&JsonProbe {
            message_type: "store_probe",
            location: store.location(),
            verdict: verdict(worst),
            checks: checks.iter().map(json_check).collect(),
        }),
        false => {
            app.out.line(human::name(store.location().as_bytes()));
            checks.iter().for_each(|check| print_check(app, check));
            app.out.line(match worst {
                Verdict::Good => "all is well: a repository can live here",
                Verdict::Warning => "a repository can live here; look at the warnings",
                Verdict::Bad => "a repository would not be safe here",
            });
        }
    }
    Ok(if worst == Verdict::Bad { Exit::Failed } else { Exit::Done })
}

/// The words of `keepstone probe`.
fn verdict(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Good => "ok",
        Verdict::Warning => "warning",
        Verdict::Bad => "failed",
    }
}

fn json_check(check: &Check) -> JsonCheck {
    JsonCheck {
        name: check.name,
        verdict: verdict(check.verdict),
        message: check.message.clone(),
        remedy: check.remedy.clone(),
    }
}

fn print_check(app: &App, check: &Check) {
    let text = |text: &str| human::name(text.as_bytes());
    app.out.line(format!("  {:<8} {:<16} {}", verdict(check.verdict), check.name, text(&check.message)));
    if !check.remedy.is_empty() {
        app.out.line(format!("  {:<8} {:<16} remedy: {}", "", "", text(&check.remedy)));
    }
}

fn stats(app: &App) -> Result<Exit> {
    let repository = app.sealed()?;
    let mut kinds = Vec::new();
    for area in Area::ALL {
        let counted = count(&**repository.store(), area)?;
        if counted.objects > 0 {
            kinds.push(counted);
        }
    }
    let sum = |of: fn(&JsonKind) -> u64| kinds.iter().map(of).sum::<u64>();
    let (objects, bytes) = (sum(|kind| kind.objects), sum(|kind| kind.bytes));
    let traffic = repository.store().traffic();
    if app.out.is_json() {
        app.out.object(&JsonStats {
            message_type: "store_stats",
            location: repository.store().location(),
            repository_id: repository.id().to_string(),
            kinds,
            objects,
            bytes,
            store: JsonTraffic::of(&traffic),
        });
        return Ok(Exit::Done);
    }
    let mut table = Table::new(&["Kind", ">Objects", ">Size", "Storage class"]);
    for kind in &kinds {
        let classes: Vec<String> = kind.classes.iter().map(|(name, sum)| class(name, sum, kind)).collect();
        let cells = [human::count(kind.objects), human::bytes(kind.bytes), classes.join(", ")];
        table.row([vec![kind.kind.to_owned()], cells.to_vec()].concat());
    }
    table.row(vec!["all".to_owned(), human::count(objects), human::bytes(bytes), String::new()]);
    table.print(&app.out);
    if traffic.requests() > 0 {
        app.out.line(format!("this took {}", human::traffic(&traffic)));
    }
    Ok(Exit::Done)
}

/// A class, and how much of it if that is not all.
fn class(name: &str, sum: &JsonSum, kind: &JsonKind) -> String {
    match sum.objects == kind.objects {
        true => name.to_owned(),
        false => format!("{name} ({}, {})", human::count(sum.objects), human::bytes(sum.bytes)),
    }
}

fn count(store: &dyn ObjectStore, area: Area) -> Result<JsonKind> {
    let mut kind = JsonKind { kind: area.name(), objects: 0, bytes: 0, classes: BTreeMap::new() };
    store.list(area, &mut |one| {
        kind.objects += 1;
        kind.bytes += one.size_bytes;
        if let Some(class) = &one.class {
            let sum = kind.classes.entry(class.to_string()).or_default();
            sum.objects += 1;
            sum.bytes += one.size_bytes;
        }
    })?;
    Ok(kind)
}
