//! `parity`: sidecars that make damaged parts of packs anew.

use super::tell;
use crate::cli::app::App;
use crate::cli::args::{Parity, ParityShare};
use crate::cli::error::Result;
use crate::cli::exit::Exit;
use crate::cli::print::json::{JsonProblem, problems};
use crate::cli::print::{human, table};
use crate::format::parity::Share;
use crate::ops::parity::{self, Outcome};
use crate::repo::parity::share;
use serde::Serialize;

#[derive(Serialize)]
struct JsonParity {
    message_type: &'static str,
    /// How much of a pack can be made anew, in per cent; null if packs get no sidecars.
    share_percent: Option<f64>,
    packs: u64,
    /// Sidecars that were there already.
    there: u64,
    made: u64,
    made_bytes: u64,
    /// Of those, in the place of others.
    replaced: u64,
    removed: u64,
    removed_bytes: u64,
    damaged: Vec<JsonProblem>,
}

/// Sets how large sidecars are, if that was given, and makes those that are missing.
pub fn run(app: &App, given: &Parity) -> Result<Exit> {
    let mut repository = app.repository()?;
    match given.share {
        Some(ParityShare::Off) => drop(repository.set_parity(None)?),
        Some(ParityShare::Share(share)) => drop(repository.set_parity(Some(share))?),
        None => {}
    }
    let share = share(repository.config());
    let context = app.context_of(repository)?;
    let outcome = match (share, &given.share) {
        // Nothing is taken away that nobody asked to take away.
        (None, None) => Outcome::default(),
        _ => parity::build(&context, share)?,
    };
    app.look.finish();
    let exit = tell(app, &outcome.damaged);
    match app.out.is_json() {
        true => print_json(app, share, &outcome),
        false => print_text(app, share, &outcome),
    }
    Ok(exit)
}

fn print_json(app: &App, share: Option<Share>, outcome: &Outcome) {
    app.out.object(&JsonParity {
        message_type: "parity",
        share_percent: share.map(|share| f64::from(share.hundredths()) / 100.0),
        packs: outcome.packs,
        there: outcome.there,
        made: outcome.made,
        made_bytes: outcome.made_bytes,
        replaced: outcome.replaced,
        removed: outcome.removed,
        removed_bytes: outcome.removed_bytes,
        damaged: problems(&outcome.damaged),
    });
}

fn print_text(app: &App, share: Option<Share>, outcome: &Outcome) {
    let sidecars = |number| human::counted(number, "sidecar");
    let Some(share) = share else {
        let removed = format!("{}, {}", sidecars(outcome.removed), human::bytes(outcome.removed_bytes));
        table::facts(&app.out, &[("parity", "off".to_owned()), ("removed", removed)]);
        return app.close("every pack, as it was", "a pack that gets damaged: nothing makes it anew", "parity 5%");
    };
    let mut facts = vec![
        ("parity", format!("{share} of each pack can be made anew")),
        ("there", format!("{} of {}", sidecars(outcome.there), human::counted(outcome.packs, "pack"))),
        ("made", format!("{}, {}", sidecars(outcome.made), human::bytes(outcome.made_bytes))),
    ];
    if outcome.replaced > 0 {
        facts.push(("replaced", format!("{} of another size", sidecars(outcome.replaced))));
    }
    if !outcome.damaged.is_empty() {
        facts.push(("damaged", human::counted(outcome.damaged.len() as u64, "pack")));
    }
    table::facts(&app.out, &facts);
    match outcome.damaged.is_empty() {
        true => app.close(
            "every pack, against damage of a part of it",
            "a pack that is lost altogether: that takes a second site",
            "verify --all",
        ),
        false => app.close("every pack that is not named above", "the damaged packs", "repair plan --all"),
    }
}
