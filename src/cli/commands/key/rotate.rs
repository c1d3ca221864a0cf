//! `key rotate`: a new epoch of keys, or a new root key.

use crate::base::Clock;
use crate::base::clock::TimeZone;
use crate::cli::app::App;
use crate::cli::error::{Error, Result};
use crate::cli::exit::Exit;
use crate::cli::print::human;
use crate::cli::print::json::{JsonProblem, problems};
use crate::cli::print::table::facts as facts_of;
use crate::ops::keys::{self, ResealOptions, Resealed, RootExchanged, Rotated};
use crate::ops::retention::Period;
use serde::Serialize;

#[derive(Serialize)]
struct JsonRotated {
    message_type: &'static str,
    epoch_id: String,
    /// Its number; what is stored from here on is sealed under it.
    epoch: u64,
    /// How many epochs there are.
    epochs: u64,
}

#[derive(Serialize)]
struct JsonRoot {
    message_type: &'static str,
    old_root_key_id: String,
    root_key_id: String,
    /// An interrupted exchange was brought to its end; no new one was begun.
    resumed: bool,
    keys: Vec<JsonSuccessor>,
    epochs: u64,
    /// Old slots and epochs that were removed.
    removed: u64,
}

#[derive(Serialize)]
struct JsonResealed {
    message_type: &'static str,
    /// The number of the epoch that was opened first; null if packs lay under older keys already.
    epoch_opened: Option<u64>,
    packs_resealed: u64,
    resealed_bytes: u64,
    packs_failed: u64,
    failed: Vec<JsonProblem>,
    /// Packs still under older keys, those that failed and those passed over included.
    packs_left: u64,
    left_bytes: u64,
    /// Packs older than `--newer-than`.
    packs_passed_over: u64,
    /// Old packs still lie there for somebody who is at work.
    waiting: bool,
}

#[derive(Serialize)]
struct JsonSuccessor {
    replaced: String,
    id: String,
}

/// Opens a new epoch, and exchanges the root key if asked to.
pub fn run(app: &App, root: bool) -> Result<()> {
    if root {
        let (repository, brought) = app.repository_and_secret()?;
        let exchanged = keys::exchange_root(&app.context_of(repository)?, &brought.unlock)?;
        report_root(app, &exchanged);
    } else {
        report_epoch(app, &keys::rotate(&app.context()?)?);
    }
    Ok(())
}

/// Seals old packs anew; opens a new epoch first if everything lies under the newest.
pub fn reseal(app: &App, newer_than: Option<&str>, budget_bytes: Option<u64>) -> Result<Exit> {
    let since_ns = newer_than.map(|text| {
        let period: Period = text.parse().map_err(|error| Error::usage(format!("--newer-than: {error}")))?;
        let now = Clock::System.now().to_zoned(TimeZone::system());
        Ok::<_, Error>(period.before(&now).as_nanosecond() as i64)
    });
    let options = ResealOptions { since_ns: since_ns.transpose()?, budget_bytes };
    let context = app.context()?;
    let is_old = |epoch: &keys::EpochInfo| !epoch.current && epoch.packs > 0;
    let opened = match keys::status(&context)?.iter().any(is_old) {
        true => None,
        false => Some(keys::rotate(&context)?),
    };
    let resealed = keys::reseal(&context, &options)?;
    report_resealed(app, opened.as_ref(), &resealed);
    Ok(if resealed.failed.is_empty() { Exit::Done } else { Exit::Damage })
}

fn report_resealed(app: &App, opened: Option<&Rotated>, resealed: &Resealed) {
    app.look.finish();
    if app.out.is_json() {
        app.out.object(&JsonResealed {
            message_type: "key_reseal",
            epoch_opened: opened.map(|rotated| rotated.number),
            packs_resealed: resealed.packs,
            resealed_bytes: resealed.bytes,
            packs_failed: resealed.failed.len() as u64,
            failed: problems(&resealed.failed),
            packs_left: resealed.left_packs,
            left_bytes: resealed.left_bytes,
            packs_passed_over: resealed.passed_over,
            waiting: resealed.waiting,
        });
        return;
    }
    if let Some(rotated) = opened {
        app.out.line(format!("opened epoch {} of the keys", rotated.number));
    }
    let packs = |count: u64| human::counted(count, "pack");
    let facts = [
        ("resealed", format!("{}, {}", packs(resealed.packs), human::bytes(resealed.bytes))),
        ("failed", packs(resealed.failed.len() as u64)),
        ("left", format!("{}, {} under older keys", packs(resealed.left_packs), human::bytes(resealed.left_bytes))),
    ];
    facts_of(&app.out, &facts);
    if resealed.waiting {
        app.out.line("old packs lie there until those who are at work have ended and a prune deletes them");
    }
    let (not_safe, next) = match (resealed.failed.is_empty(), resealed.left_packs) {
        (false, _) => ("packs that are damaged: they stay as they are", "verify --all"),
        (true, 0) => {
            ("snapshots and run records, which keep their keys; and whatever somebody copied before", "key status")
        }
        (true, left) if left == resealed.passed_over => ("packs older than asked for, under older keys", "key status"),
        (true, _) => ("what is left under older keys", "key rotate --reseal"),
    };
    app.close("what was sealed anew, from whoever has only the older keys", not_safe, next);
}

fn report_epoch(app: &App, rotated: &Rotated) {
    if app.out.is_json() {
        app.out.object(&JsonRotated {
            message_type: "key_rotate",
            epoch_id: rotated.epoch.to_string(),
            epoch: rotated.number,
            epochs: rotated.epochs,
        });
        return;
    }
    app.out.line(format!("opened epoch {} of the keys: runs that begin from now on seal under it", rotated.number));
    let old = rotated.epochs.saturating_sub(1);
    app.close(
        "what is stored from now on, from somebody who kept only the class keys of before",
        &format!(
            "what lies under the {} before; and who kept the root key finds the new keys too",
            human::counted(old, "epoch")
        ),
        "key rotate --root",
    );
}

fn report_root(app: &App, exchanged: &RootExchanged) {
    if app.out.is_json() {
        let successor = |(replaced, id): &(crate::base::SlotId, crate::base::SlotId)| JsonSuccessor {
            replaced: replaced.to_string(),
            id: id.to_string(),
        };
        app.out.object(&JsonRoot {
            message_type: "key_rotate_root",
            old_root_key_id: exchanged.old.to_string(),
            root_key_id: exchanged.new.to_string(),
            resumed: exchanged.resumed,
            keys: exchanged.slots.iter().map(successor).collect(),
            epochs: exchanged.epochs,
            removed: exchanged.removed,
        });
        return;
    }
    let what = if exchanged.resumed {
        "brought the interrupted exchange of the root key to its end"
    } else {
        "exchanged the root key"
    };
    app.out.line(format!("{what}: it is {}", exchanged.new));
    app.out.line(format!(
        "granted it to {}, sealed {} under it, removed {} old objects",
        human::counted(exchanged.slots.len() as u64, "key"),
        human::counted(exchanged.epochs, "epoch"),
        human::count(exchanged.removed),
    ));
    app.close(
        "what is stored from now on, from whoever kept the old root key; every password and key still opens",
        "what was stored before, from him: he may have kept its keys, or a copy",
        "key list",
    );
}
