//! Upkeep in a night: databases that are vacuumed, analyzed and optimized, and keys that are renewed by the calendar.

use super::databases::Address;
use super::due;
use super::error::{Error, Result};
use super::night::{Ended, Night, Told};
use crate::base::clock::Zoned;
use crate::base::{Kind, Problem, counted};
use crate::config::meant::{Keys, Maintained, Maintenance};
use crate::db::postgres::Connection;
use crate::db::probe::amount;
use crate::db::upkeep::{self, Chore, Kept};
use crate::db::{self, Watch, mysql, postgres};
use crate::history::{figure, is_believed};
use crate::ops::backup::TimeLimit;
use crate::ops::keys::{self as ops_keys, ResealOptions};
use crate::ops::{self, Context};
use std::time::Duration;

/// Keeps databases in good order. What fails is a problem: the backup is made, and is worth what it was.
pub fn keep(night: &Night<'_>, given: &Maintenance) -> Result<Told> {
    let stop = night.reach.stop.child();
    let limit = TimeLimit::start(&stop, given.timeout)
        .map_err(|source| Error::io("begin to measure the time of upkeep", source))?;
    let watch = Watch { stop, monitor: night.reach.monitor.clone() };
    let (mut said, mut problems, mut figures) = (Vec::new(), Vec::new(), [0; 3]);
    for database in given.databases.iter().take_while(|_| !watch.stop.raised()) {
        for one in kept(night, database, given.lock_timeout, &watch) {
            match one {
                Ok(one) => {
                    said.push(sentence(database, &one));
                    let sums = [one.tables, one.before_bytes, one.after_bytes];
                    let add = |(figure, more): (&mut u64, u64)| *figure = figure.saturating_add(more);
                    figures.iter_mut().zip(sums).for_each(add);
                    let problem = |(table, why): &(String, String)| {
                        Problem::new(format!("{}: table {table} of {}", database.name, one.database), why, Kind::Source)
                    };
                    problems.extend(one.failed.iter().map(problem));
                }
                // What was stopped is told once.
                Err(error) if error.kind() == Kind::Interrupted => {}
                Err(error) => problems.push(Problem::new(database.name.clone(), error, Kind::Source)),
            }
        }
    }
    if night.reach.stop.raised() {
        return Err(ops::Error::Interrupted.into());
    }
    if limit.ran_out() {
        let why = format!("it had not ended after {} s (`maintenance.timeout`)", given.timeout.as_secs());
        problems.push(Problem::new("maintenance", why, Kind::Source));
    }
    Ok(summary(said, problems, figures))
}

fn summary(mut said: Vec<String>, problems: Vec<Problem>, [tables, before, after]: [u64; 3]) -> Told {
    if let Some(first) = problems.first() {
        said.push(format!(
            "{}, the first: {}: {}",
            counted(problems.len() as u64, "problem"),
            first.subject,
            first.message
        ));
    }
    Told {
        ended: if problems.is_empty() { Ended::Done } else { Ended::Partial },
        message: said.join("; "),
        figures: vec![
            (figure::MAINTAINED_TABLES, tables),
            (figure::BEFORE_BYTES, before),
            (figure::AFTER_BYTES, after),
            (figure::PROBLEMS, problems.len() as u64),
        ],
        problems,
    }
}

fn sentence(database: &Maintained, kept: &Kept) -> String {
    let done: Vec<&str> = database.chores.iter().map(|chore| chore.done()).collect();
    let name = match database.all_databases {
        true => format!("{}.{}", database.name, kept.database),
        false => database.name.clone(),
    };
    format!(
        "{name}: {} {}, {} before and {} after",
        counted(kept.tables, "table"),
        done.join(" and "),
        amount(kept.before_bytes),
        amount(kept.after_bytes)
    )
}

/// One database, or all of a server: each by itself.
fn kept(night: &Night<'_>, database: &Maintained, patience: Duration, watch: &Watch) -> Vec<Result<Kept>> {
    let said = |error: db::Error| Error::Ops(ops::Error::Database(error));
    let found = Address::of(&database.link, night.surroundings).and_then(|address| match database.all_databases {
        true => all_of(&address, watch).map_err(said),
        false => Ok(vec![address]),
    });
    let one = |address: &Address, chores: &[Chore]| match address {
        Address::Postgres(address) => upkeep::postgres(address, chores, patience, watch),
        Address::Mysql(address) => upkeep::mysql(address, chores, patience, watch),
    };
    match found {
        Ok(all) => all.iter().map(|address| one(address, &database.chores).map_err(said)).collect(),
        Err(error) => vec![Err(error)],
    }
}

fn all_of(address: &Address, watch: &Watch) -> db::Result<Vec<Address>> {
    Ok(match address {
        Address::Postgres(address) => {
            let listed = postgres::facts::databases(&mut Connection::connect(&address.settled(watch)?, None, watch)?)?;
            let of = |name: String| Address::Postgres(Box::new(address.with_database(name)));
            listed.into_iter().map(|listed| of(listed.name)).collect()
        }
        Address::Mysql(address) => {
            let session = mysql::Session::open(address, Kind::Source, &watch.stop)?;
            let of = |name: String| Address::Mysql(Box::new(address.with_database(name)));
            mysql::facts::databases(&session)?.into_iter().map(of).collect()
        }
    })
}

/// What there is to do about keys.
pub struct Renewal {
    /// A new epoch is due.
    rotate: bool,
    /// When it is due next.
    next: Option<Zoned>,
    /// Bytes of packs under older keys.
    old_bytes: u64,
}

impl Renewal {
    /// Looks. Whoever opened an epoch, on whatever machine: the newest one counts.
    pub fn of(context: &Context, given: &Keys) -> ops::Result<Renewal> {
        let now = due::local(context.repository.now_ns());
        let newest_ns = Some(ops_keys::newest_epoch_ns(context)?);
        let newest_ns = newest_ns.filter(|newest_ns| is_believed(*newest_ns, context.repository.now_ns()));
        let next = given.rotate.as_ref().and_then(|schedule| due::not_before(schedule, newest_ns, &now));
        let (_, old_bytes) = if given.reseal_bytes.is_some() { ops_keys::old(context)? } else { (0, 0) };
        Ok(Renewal { rotate: given.rotate.is_some() && next.is_none(), next, old_bytes })
    }

    /// Why there is nothing to do, if so.
    pub fn nothing(&self) -> Option<String> {
        if self.rotate || self.old_bytes > 0 {
            return None;
        }
        Some(match &self.next {
            Some(next) => format!("not due before {}", next.strftime("%Y-%m-%d %H:%M")),
            None => "nothing lies under older keys".to_owned(),
        })
    }

    /// Opens a new epoch and seals old packs anew, as far as that is due.
    pub fn renew(&self, context: &Context, given: &Keys) -> Result<Told> {
        let mut said = Vec::new();
        if self.rotate {
            let rotated = ops_keys::rotate(context)?;
            said.push(format!("opened epoch {} of the keys: later runs seal under it", rotated.number));
        }
        let Some(budget_bytes) = given.reseal_bytes else { return Ok(Told::done(said.join("; "))) };
        let options = ResealOptions { since_ns: None, budget_bytes: Some(budget_bytes) };
        let resealed = ops_keys::reseal(context, &options)?;
        said.push(format!(
            "{} ({}) sealed anew, {} left under older keys",
            counted(resealed.packs, "pack"),
            amount(resealed.bytes),
            amount(resealed.left_bytes)
        ));
        let figures = vec![
            (figure::PACKS_RESEALED, resealed.packs),
            (figure::RESEALED_BYTES, resealed.bytes),
            (figure::LEFT_BYTES, resealed.left_bytes),
        ];
        if let Some(first) = resealed.failed.first() {
            said.push(format!(
                "{} damaged, the first: {}",
                counted(resealed.failed.len() as u64, "pack"),
                first.told()
            ));
        }
        let ended = if resealed.failed.is_empty() { Ended::Done } else { Ended::Damage };
        Ok(Told { ended, message: said.join("; "), figures, problems: resealed.failed })
    }
}
