//! A look before anything is written: would a backup of these databases into this repository work?
//!
//! Every database is looked at on its own, several at once; what is wrong with one says nothing about the others. The
//! same look stands at the beginning of a backup: see [`preflight`].

use super::space::Space;
use super::{Context, Error, Result};
use crate::base::{Event, Kind};
use crate::db::probe::{Check, Probe, Verdict, amount};
use crate::db::{self, Surroundings, Watch, mysql, postgres};
use crate::format::session::SessionKind;
use crate::repo::Session;
use crate::source::dump::DumpSource;
use std::path::PathBuf;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::atomic::{AtomicUsize, Ordering};

/// A database to look at.
#[derive(Clone, Debug)]
pub enum Target {
    /// Of PostgreSQL.
    Postgres(Box<postgres::Address>),
    /// Of MySQL or MariaDB.
    Mysql(Box<mysql::Address>),
    /// One whose address cannot be understood: it is reported as such, and the others are looked at.
    Unknown(String, db::Error),
}

/// How to look.
#[derive(Clone, Debug)]
pub struct Options {
    /// So many databases are looked at at once, at least 1.
    pub max_parallel: usize,
    /// So many sessions will read each database.
    pub workers: u32,
    /// Where PostgreSQL's client programs are, if not where they are looked for.
    pub programs: Option<PathBuf>,
    /// The environment, as far as it concerns databases.
    pub surroundings: Surroundings,
}

impl Target {
    fn probe(&self, options: &Options, watch: &Watch) -> Probe {
        match self {
            Target::Postgres(address) => {
                let programs = options.programs.as_deref();
                postgres::probe::probe(address, programs, options.workers, &options.surroundings, watch)
            }
            Target::Mysql(address) => mysql::probe::probe(address, &watch.stop),
            Target::Unknown(label, error) => {
                let mut probe = Probe::of(label.clone(), "unknown");
                probe.checks.push(Check::of_error("address", error));
                probe
            }
        }
    }
}

/// Looks at all databases and reports in their order.
pub fn probe(targets: &[Target], options: &Options, watch: &Watch) -> Result<Vec<Probe>> {
    let next = AtomicUsize::new(0);
    let done: Mutex<Vec<Option<Probe>>> = Mutex::new(vec![None; targets.len()]);
    let look = || {
        while let Some((number, target)) =
            Some(next.fetch_add(1, Ordering::SeqCst)).and_then(|n| Some((n, targets.get(n)?)))
        {
            if watch.stop.raised() {
                return;
            }
            let probe = target.probe(options, watch);
            done.lock().unwrap_or_else(PoisonError::into_inner)[number] = Some(probe);
        }
    };
    std::thread::scope(|scope| {
        for number in 1..options.max_parallel.clamp(1, targets.len().max(1)) {
            let thread = std::thread::Builder::new().name(format!("probe-{number}"));
            // One thread less only takes longer.
            let _ = thread.spawn_scoped(scope, look);
        }
        look();
    });
    let done = done.into_inner().unwrap_or_else(PoisonError::into_inner);
    done.into_iter().collect::<Option<Vec<Probe>>>().filter(|_| !watch.stop.raised()).ok_or(Error::Interrupted)
}

/// Looks at the repository: can it be written, and is there room for dumps of `estimate_bytes`?
pub fn repository(context: &Context, estimate_bytes: u64) -> Vec<Check> {
    vec![writable(context), space(context, estimate_bytes)]
}

/// Leaves the mark of a session and ends it: the least that a backup writes.
fn writable(context: &Context) -> Check {
    let place = context.repository.store().location();
    // Who may only write may leave no other mark than this.
    let (kind, operation) = match context.repository.keyring().is_write_only() {
        true => (SessionKind::Writer, "backup"),
        false => (SessionKind::Reader, "probe"),
    };
    match Session::begin(&context.repository, kind, operation).and_then(Session::end) {
        Ok(()) => Check::ok("repository", format!("{place} can be written")),
        Err(error) => {
            let remedy = match error.kind() {
                Kind::Denied => "let this user write there, or run as the one who may",
                Kind::Full => "free some space, or run `keepstone prune`",
                _ => "run `keepstone verify`",
            };
            Check::failed("repository", format!("{place} cannot be written: {error}"), remedy)
        }
    }
}

/// Compares what is free with what dumps would take if nothing of them were known. After the first night far less is
/// needed, so too little is only a warning once something is stored.
fn space(context: &Context, estimate_bytes: u64) -> Check {
    let Some(free) = context.repository.store().free_bytes() else {
        return Check::ok("space", "the repository does not say how much is free");
    };
    let message = format!("{} are free, dumps are about {}", amount(free), amount(estimate_bytes));
    let remedy = "free some space there, or use a larger disk";
    let space = Space { free_bytes: Some(free), stored_bytes: context.index.stored_bytes().unwrap_or(0) };
    match free {
        _ if free >= estimate_bytes => Check::ok("space", message),
        _ if space.lacks(estimate_bytes) => Check::failed("space", message, remedy),
        _ => Check::warning("space", format!("{message}; compressed they may fit"), remedy),
    }
}

/// Checks whose failure the beginning of a dump tells by itself, with a kind that says whether to try again.
const TOLD_BY_THE_DUMP: [&str; 7] =
    ["connection", "server", "database", "pooler", "client programs", "sessions", "encryption"];

/// The same look at the beginning of a backup: what is worth knowing is told, and what would make the dump of `source`
/// fail later, or leave something out, is the failure of this source alone, now. Nothing is written.
pub fn preflight(source: &dyn DumpSource, watch: &Watch) -> db::Result<()> {
    let Some(probe) = source.probe(watch)? else { return Ok(()) };
    for check in probe.checks.iter().filter(|check| check.verdict == Verdict::Warning) {
        let note = format!("{}: {}: {}; {}", probe.label, check.name, check.message, check.remedy);
        watch.monitor.event(Event::Note(&note));
    }
    let failed = |check: &&Check| check.verdict == Verdict::Failed && !TOLD_BY_THE_DUMP.contains(&check.name);
    match probe.checks.iter().find(failed) {
        None => Ok(()),
        Some(check) => {
            let message = format!("{}: {}; {}", check.name, check.message, check.remedy);
            Err(db::Error::new(probe.label.clone(), Kind::Source, message))
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::super::tests::Depot;
    use super::*;
    use crate::base::{Silent, Stop};
    use std::sync::Arc;

    fn watch() -> Watch {
        Watch { stop: Stop::new(), monitor: Arc::new(Silent) }
    }

    fn options(max_parallel: usize) -> Options {
        Options { max_parallel, workers: 2, programs: None, surroundings: Surroundings::default() }
    }

    fn unknown(name: &str) -> Target {
        let error = db::Error::new(name, Kind::Usage, "it is no address; write postgres://HOST/DATABASE");
        Target::Unknown(name.to_owned(), error)
    }

    #[test]
    fn every_target_is_reported_in_order_however_many_are_looked_at_at_once() {
        let targets: Vec<Target> = ["a", "b", "c", "d"].map(unknown).to_vec();
        for max_parallel in [0, 1, 3, 9] {
            let probes = probe(&targets, &options(max_parallel), &watch()).unwrap();
            let labels: Vec<&str> = probes.iter().map(|probe| probe.label.as_str()).collect();
            assert_eq!(labels, ["a", "b", "c", "d"]);
            assert_eq!(probes[0].checks[0].remedy, "write postgres://HOST/DATABASE");
        }
    }

    #[test]
    fn a_stopped_look_is_interrupted() {
        let watch = watch();
        watch.stop.raise();
        assert!(matches!(probe(&[unknown("a")], &options(1), &watch), Err(Error::Interrupted)));
    }

    #[test]
    fn a_repository_that_cannot_be_written_fails_the_check_with_a_remedy() {
        let depot = Depot::new();
        assert_eq!(repository(&depot.context, 1000)[0].verdict, Verdict::Ok);
        let checks = repository(&depot.read_only(), 1000);
        assert_eq!(checks[0].verdict, Verdict::Failed);
        assert!(checks[0].remedy.contains("let this user write"), "{checks:?}");
    }
}
