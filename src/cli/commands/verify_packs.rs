//! `verify-packs`: are stored bytes those that were written? No key is needed.

use crate::cli::app::App;
use crate::cli::args::VerifyPacks;
use crate::cli::error::{Error, Result};
use crate::cli::exit::Exit;
use crate::cli::print::json::JsonTraffic;
use crate::cli::print::{human, table};
use crate::cli::terminal;
use crate::ops::verify::sealed::{self, Altered, Outcome};
use crate::store::Traffic;
use serde::Serialize;

#[derive(Serialize)]
struct JsonVerifyPacks {
    message_type: &'static str,
    location: String,
    packs: u64,
    segments: u64,
    /// Parity sidecars that were read, and packs that should have one and have none.
    sidecars: u64,
    packs_without_sidecar: u64,
    /// Config, key slots and epochs, each with its copy.
    pairs: u64,
    read_bytes: u64,
    damage: bool,
    damage_count: u64,
    /// The first thousand.
    damages: Vec<JsonAltered>,
    /// Names that no object has.
    strangers: u64,
    /// Objects that a prune took away meanwhile.
    gone: u64,
    /// What was asked of the store; null where requests cost nothing.
    store: Option<JsonTraffic>,
}

#[derive(Serialize)]
struct JsonAltered {
    object: String,
    message: String,
}

/// Reads packs and segments and compares them with their names.
pub fn run(app: &App, given: &VerifyPacks) -> Result<Exit> {
    let store = app.location()?.open(&app.reach()?)?;
    terminal::heed_signals(&app.stop).map_err(|source| Error::io("listen for signals", source))?;
    let lanes = given.jobs.map_or_else(|| sealed::lanes(&*store), usize::from);
    let outcome = sealed::verify_sealed(&*store, lanes, &*app.look, &app.stop)?;
    app.look.finish();
    match app.out.is_json() {
        true => print_json(app, &store.location(), &store.traffic(), &outcome),
        false => print_text(app, &outcome),
    }
    Ok(if outcome.damage_count > 0 { Exit::Damage } else { Exit::Done })
}

fn print_json(app: &App, location: &str, traffic: &Traffic, outcome: &Outcome) {
    let altered = |one: &Altered| JsonAltered { object: one.object.clone(), message: one.message.clone() };
    app.out.object(&JsonVerifyPacks {
        message_type: "verify_packs",
        location: location.to_owned(),
        packs: outcome.packs,
        segments: outcome.segments,
        sidecars: outcome.sidecars,
        packs_without_sidecar: outcome.packs_without_sidecar,
        pairs: outcome.pairs,
        read_bytes: outcome.bytes_read,
        damage: outcome.damage_count > 0,
        damage_count: outcome.damage_count,
        damages: outcome.damages.iter().map(altered).collect(),
        strangers: outcome.strangers,
        gone: outcome.gone,
        store: JsonTraffic::of(traffic),
    });
}

/// How many sidecars were read, and how many packs lack one.
fn parity(outcome: &Outcome) -> String {
    let there = human::counted(outcome.sidecars, "sidecar");
    match outcome.packs_without_sidecar {
        0 => there,
        packs => format!("{there}; {} without one", human::counted(packs, "pack")),
    }
}

fn print_text(app: &App, outcome: &Outcome) {
    let objects = outcome.objects();
    let sound = objects.saturating_sub(outcome.damage_count);
    let mut facts = vec![
        (
            "read",
            format!(
                "{}, {}, {} of keys and config; {}",
                human::counted(outcome.packs, "pack"),
                human::counted(outcome.segments, "segment"),
                human::counted(outcome.pairs, "pair"),
                human::bytes(outcome.bytes_read)
            ),
        ),
        ("passed", format!("{}: {} of {}", human::share(sound, objects), sound, human::counted(objects, "object"))),
        (
            "damage",
            match outcome.damage_count {
                0 => "none".to_owned(),
                count => human::counted(count, "object"),
            },
        ),
    ];
    if outcome.sidecars + outcome.packs_without_sidecar > 0 {
        facts.insert(1, ("parity", parity(outcome)));
    }
    if outcome.strangers > 0 {
        facts.push((
            "besides",
            format!("{} that no object of a repository has", human::counted(outcome.strangers, "name")),
        ));
    }
    if outcome.gone > 0 {
        facts.push(("gone", format!("{} that a prune took away meanwhile", human::counted(outcome.gone, "object"))));
    }
    table::facts(&app.out, &facts);
    match outcome.damage_count {
        0 => app.close(
            "every byte that was read is the one that was written",
            "what is missing altogether: that shows only to somebody with a key",
            "verify",
        ),
        _ => app.close(
            "every object that is not named above",
            "what the named objects hold; which files that is shows to somebody with a key",
            "verify --all",
        ),
    }
}
