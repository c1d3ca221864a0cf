//! The log: what was done, and whether nothing of it was taken away, exchanged or put elsewhere.
//!
//! Each record names those before it on its machine by their hashes, a snapshot names the newest of the machine that made
//! it, and each machine remembers its own newest. What is named and not there was removed; what does not have the hash
//! that it is named by was altered; a record whose place is not the one after those that it names was reordered. The
//! newest record of a machine is named by nobody yet: that it is missing looks like a run that was killed before it could
//! store one, and is told as such.

use super::select::Age;
use super::{Context, Result, select};
use crate::base::{Problem, RunId, SessionId};
use crate::format::cbor::Cbor;
use crate::format::run::{Outcome as Ended, Run, RunRef};
use crate::format::snapshot::Snapshot;
use crate::repo::runs::Dropped;
use crate::repo::{ledger, runs, session};
use crate::store::Area;
use std::collections::{BTreeMap, BTreeSet, HashMap};

/// The most findings that are kept; all are counted.
const MAX_FINDINGS: usize = 1000;
/// The most notes of one sort.
const MAX_NOTES: usize = 20;

/// Which records are meant. What is empty lets all through.
#[derive(Clone, Debug, Default)]
pub struct Filter {
    /// One of these machines.
    pub hosts: Vec<String>,
    /// One of these operations.
    pub operations: Vec<String>,
    /// One of these outcomes.
    pub outcomes: Vec<Ended>,
    /// Not older than this.
    pub newer_than: Option<Age>,
}

impl Filter {
    fn lets_through(&self, run: &Run, now_ns: i64) -> bool {
        (self.hosts.is_empty() || self.hosts.contains(&run.host))
            && (self.operations.is_empty() || self.operations.contains(&run.operation))
            && (self.outcomes.is_empty() || self.outcomes.contains(&run.outcome))
            && self.newer_than.is_none_or(|age| run.begun_ns >= age.before(now_ns))
    }
}

/// Some of the log.
#[derive(Clone, Debug, Default)]
pub struct Listing {
    /// The newest that the filter lets through, the oldest of them first.
    pub runs: Vec<Run>,
    /// How many older ones it lets through besides.
    pub older: u64,
    /// Records that cannot be read.
    pub damaged: Vec<Problem>,
}

/// The newest `most` records that the filter lets through.
pub fn list(context: &Context, filter: &Filter, most: usize) -> Result<Listing> {
    let now_ns = context.repository.now_ns();
    let (mut newest, mut listing) = (BTreeMap::new(), Listing::default());
    runs::each(&context.repository, &mut |run| {
        match run {
            Ok(run) if filter.lets_through(&run, now_ns) => {
                newest.insert((run.begun_ns, run.id), run);
                if newest.len() > most {
                    newest.pop_first();
                    listing.older += 1;
                }
            }
            Ok(_) => {}
            Err((name, error)) => listing.damaged.push(Problem::new(format!("runs/{name}"), &error, error.kind())),
        }
        Ok(())
    })?;
    listing.runs = newest.into_values().collect();
    Ok(listing)
}

/// What is wrong with an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wrong {
    /// It is named and not there.
    Removed,
    /// It is not what it was when it was named, or cannot be read.
    Altered,
    /// Its place is not the one after those that it names.
    Reordered,
}

impl Wrong {
    /// The word for it.
    pub fn name(self) -> &'static str {
        match self {
            Wrong::Removed => "removed",
            Wrong::Altered => "altered",
            Wrong::Reordered => "reordered",
        }
    }
}

/// Something that is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// The entry.
    pub entry: RunId,
    /// What is wrong with it.
    pub wrong: Wrong,
    /// How that is known.
    pub message: String,
}

/// What was found.
#[derive(Clone, Debug, Default)]
pub struct Checked {
    /// Records that were looked at.
    pub entries: u64,
    /// Machines that they are of.
    pub machines: u64,
    /// Places that were compared: what records, snapshots and this machine name.
    pub references: u64,
    /// What is wrong; the first thousand.
    pub findings: Vec<Finding>,
    /// How much is wrong.
    pub finding_count: u64,
    /// What is worth knowing and not wrong.
    pub notes: Vec<String>,
}

impl Checked {
    fn add(&mut self, entry: RunId, wrong: Wrong, message: String) {
        self.finding_count += 1;
        if self.findings.len() < MAX_FINDINGS {
            self.findings.push(Finding { entry, wrong, message });
        }
    }
}

/// What is kept of a record. Half a hash tells two records apart as well as a whole one.
struct Entry {
    hash: [u8; 16],
    sequence: u64,
    ledger: Option<[u8; 32]>,
}

/// That something names a record.
struct Named {
    id: RunId,
    hash: [u8; 16],
    /// A record with its place, or what else.
    by: By,
}

enum By {
    Run(RunId, u64),
    Snapshot(SessionId),
    Machine,
}

impl By {
    fn name(&self) -> String {
        match self {
            By::Run(id, sequence) => format!("record {id} (number {sequence} of its machine)"),
            By::Snapshot(id) => format!("snapshot {id}"),
            By::Machine => "this machine, which stored it,".to_owned(),
        }
    }
}

fn half(hash: &[u8; 32]) -> [u8; 16] {
    let (first, _) = hash.split_first_chunk().expect("32 bytes begin with 16");
    *first
}

/// What was read of the log.
#[derive(Default)]
struct Read {
    entries: HashMap<RunId, Entry>,
    named: Vec<Named>,
    hosts: BTreeSet<String>,
    /// Sessions and snapshots of which a record tells.
    explained: BTreeSet<SessionId>,
    /// Objects that cannot be read, and why.
    unreadable: BTreeMap<String, String>,
    dropped: Dropped,
}

fn name(reference: &RunRef, by: By) -> Named {
    Named { id: reference.id, hash: half(&reference.hash), by }
}

fn read(context: &Context) -> Result<Read> {
    let mut read = Read::default();
    let dropped = runs::each(&context.repository, &mut |run| {
        match run {
            Ok(run) => {
                read.named.extend(run.previous.iter().map(|before| name(before, By::Run(run.id, run.sequence))));
                read.explained.extend(run.session);
                read.explained.extend(&run.snapshots);
                let hash = half(&run.reference().hash);
                read.entries.insert(run.id, Entry { hash, sequence: run.sequence, ledger: run.ledger });
                read.hosts.insert(run.host);
            }
            Err((name, error)) => drop(read.unreadable.insert(name, error.to_string())),
        }
        Ok(())
    })?;
    read.dropped = dropped;
    Ok(read)
}

/// Looks whether all that is named is there as it was.
pub fn verify(context: &Context) -> Result<Checked> {
    let repository = &context.repository;
    let mut checked = Checked::default();
    // What names comes before what is named: what is stored meanwhile is missed by nobody.
    let own = repository.remembered().on_disk().unwrap_or_default().references();
    let snapshots = select::list_stored(context)?.snapshots;
    let mut log = read(context)?;
    let of_snapshot = |snapshot: &Snapshot| {
        let id = snapshot.id;
        snapshot.log.iter().map(move |reference| name(reference, By::Snapshot(id))).collect::<Vec<_>>()
    };
    log.named.extend(snapshots.iter().flat_map(of_snapshot));
    log.named.extend(own.iter().map(|reference| name(reference, By::Machine)));
    if log.named.iter().any(|reference| !log.entries.contains_key(&reference.id)) {
        // A listing may show a record that was stored while it was made, and not the one before it.
        log.entries.extend(read(context)?.entries);
    }
    let excused: HashMap<RunId, [u8; 16]> =
        log.dropped.named.iter().map(|reference| (reference.id, half(&reference.hash))).collect();
    (checked.entries, checked.machines) = (log.entries.len() as u64, log.hosts.len() as u64);
    checked.references = log.named.len() as u64;
    compare(&log.named, &log.entries, &excused, &log.unreadable, &mut checked);
    order(&log.named, &log.entries, &mut checked);
    ledgers(context, &log.entries, &mut checked)?;
    if let Some(before_ns) = log.dropped.before_ns {
        let before = crate::base::Timestamp::from_nanosecond(i128::from(before_ns)).unwrap_or_default();
        checked.notes.push(format!("records that ended before {before} were dropped by a prune, as it was told to"));
    }
    silent(context, &snapshots, &log, &mut checked)?;
    Ok(checked)
}

/// Snapshots and sessions of which no record tells.
fn silent(context: &Context, snapshots: &[Snapshot], log: &Read, checked: &mut Checked) -> Result<()> {
    let since_ns = log.dropped.before_ns.unwrap_or(i64::MIN);
    let is_silent = |snapshot: &&Snapshot| snapshot.ended_ns >= since_ns && !log.explained.contains(&snapshot.id);
    let silent = snapshots.iter().filter(is_silent);
    let silent: Vec<String> = silent.map(|snapshot| format!("{} of {}", snapshot.id, snapshot.host)).collect();
    tell(&mut checked.notes, &silent, |which| {
        format!(
            "no record tells of the run that made snapshot {which}: it was killed after it had committed, or its record was \
             taken away before another named it"
        )
    });
    let open = session::open_sessions(&context.repository)?;
    let killed = open.iter().filter(|session| session.dead && !log.explained.contains(&session.mark.id));
    let killed: Vec<String> = killed
        .map(|session| format!("{} ({} on {})", session.mark.id, session.mark.operation, session.mark.host))
        .collect();
    tell(&mut checked.notes, &killed, |which| format!("session {which} left no record: its process is gone"));
    Ok(())
}

fn tell(notes: &mut Vec<String>, which: &[String], say: impl Fn(&str) -> String) {
    notes.extend(which.iter().take(MAX_NOTES).map(|one| say(one)));
    if which.len() > MAX_NOTES {
        notes.push(format!("the same holds for {} more", which.len() - MAX_NOTES));
    }
}

/// Compares what is named with what is there. Each entry that is wrong is told once.
fn compare(
    named: &[Named],
    entries: &HashMap<RunId, Entry>,
    excused: &HashMap<RunId, [u8; 16]>,
    unreadable: &BTreeMap<String, String>,
    checked: &mut Checked,
) {
    let mut told = BTreeSet::new();
    for reference in named {
        let id = reference.id;
        let is_same = match entries.get(&id) {
            Some(entry) => entry.hash == reference.hash,
            None if excused.get(&id) == Some(&reference.hash) => true,
            None => false,
        };
        if is_same || !told.insert(id) {
            continue;
        }
        let by = reference.by.name();
        match (entries.contains_key(&id), unreadable.get(&id.to_string())) {
            (true, _) => checked.add(id, Wrong::Altered, format!("{by} names it by another hash: it was exchanged")),
            (false, Some(error)) => checked.add(id, Wrong::Altered, format!("{error}; {by} names it")),
            (false, None) => checked.add(id, Wrong::Removed, format!("{by} names it, and it is not there")),
        }
    }
    for (name, error) in unreadable {
        match name.parse::<RunId>() {
            Ok(id) if told.contains(&id) => {}
            Ok(id) => checked.add(id, Wrong::Altered, error.clone()),
            Err(_) => checked.notes.push(format!("{error}: the records in it are not there")),
        }
    }
}

/// The place of a record is the one after the last that it names.
fn order(named: &[Named], entries: &HashMap<RunId, Entry>, checked: &mut Checked) {
    let mut before: BTreeMap<RunId, (u64, u64, bool)> = BTreeMap::new();
    for reference in named {
        let By::Run(id, sequence) = reference.by else { continue };
        let place = before.entry(id).or_insert((sequence, 0, true));
        match entries.get(&reference.id) {
            Some(entry) => place.1 = place.1.max(entry.sequence),
            // Its place is not known any more.
            None => place.2 = false,
        }
    }
    for (id, (sequence, last, is_known)) in before {
        if sequence <= last || (is_known && sequence != last + 1) {
            let message = format!("it is number {sequence} of its machine, and names number {last} as the one before");
            checked.add(id, Wrong::Reordered, message);
        }
    }
}

/// What a run has proven is as it was, or covered by a later one.
fn ledgers(context: &Context, entries: &HashMap<RunId, Entry>, checked: &mut Checked) -> Result<()> {
    let mut there = BTreeSet::new();
    context.repository.store().list(Area::Runs, &mut |listed| {
        there.extend(listed.name.strip_suffix(ledger::ENDING).and_then(|id| id.parse::<RunId>().ok()));
    })?;
    let mut covered = BTreeSet::new();
    for id in &there {
        context.check_stop()?;
        let key = ledger::ledger_key(*id);
        let limit_bytes = crate::format::envelope::ObjectKind::Ledger.max_bytes() as u64;
        let object = context.repository.store().get(&key, limit_bytes).map_err(crate::repo::Error::from);
        match object.and_then(|object| ledger::open(&context.repository, &key, object)) {
            Ok(ledger) => {
                covered.extend(ledger.covers.iter().copied());
                let hash = crate::crypto::names::hash(&ledger.to_cbor());
                if entries.get(id).and_then(|entry| entry.ledger).is_some_and(|named| named != hash) {
                    checked.add(*id, Wrong::Altered, "its ledger is not the one that it names".to_owned());
                }
            }
            Err(error) if super::fetch::is_damage(&error) => checked.add(*id, Wrong::Altered, error.to_string()),
            Err(error) => return Err(error.into()),
        }
    }
    for (id, _) in entries.iter().filter(|(_, entry)| entry.ledger.is_some()) {
        if !there.contains(id) && !covered.contains(id) {
            let message = "it names a ledger of what it had read back, which is neither there nor covered by another";
            checked.add(*id, Wrong::Removed, message.to_owned());
        }
    }
    Ok(())
}
