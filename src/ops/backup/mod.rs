//! A byte through backup.
//!
//! ```text
//! scanners -> walk (beside the parent) -> steps -> builder -> blob writer -> packs, segments -> snapshot
//!                                      -> jobs  -> readers -> builder
//! databases, commands -> feed -> gather (the builder's) -> directories for the walk to merge
//! ```
//!
//! Databases and commands come first: the moment that they stand for lies near the snapshot's own, files are scanned
//! no earlier than they are read, and what is in memory for the one is not in memory for the other.
//!
//! The snapshot is the commit point: before it, a crash leaves packs that the next run uses again; after it, a
//! complete snapshot.

mod build;
mod content;
mod feed;
mod gather;
mod imported;
mod limits;
mod parent;
mod read;
mod roots;
mod sources;
mod stream;
mod trust;
mod walk;

pub use gather::{Dumped, TableSize};
pub use limits::{Limits, TimeLimit};

use super::record::{Record, stored_problem};
use super::space::Space;
use super::whole::{BEGINNINGS, is_of_sleep, is_still_there};
use super::{Context, Error, Result};
use crate::base::{Budget, Event, Kind, Problem, SessionId, SnapshotId, Timestamp};
use crate::compress::Level;
use crate::format::cbor::{Bytes, Unknown};
use crate::format::run::Outcome as RunOutcome;
use crate::format::session::SessionKind;
use crate::format::snapshot::{ImportedDump, Snapshot, Stream, Totals};
use crate::format::tree::Node;
use crate::repo::Session;
use crate::repo::base_cache::BaseCache;
use crate::repo::blob_reader::BlobReader;
use crate::repo::blob_writer::{BlobWriter, Counters, Settings};
use crate::repo::{runs, snapshots};
use crate::source::dump::DumpSource;
use crate::source::files::{Scan, ScanOptions};
use crate::store::Traffic;
use build::{Builder, Dry, Found, Sink};
use feed::Feed;
use gather::gather;
use parent::Past;
use read::{Namer, Readers};
use sources::{Sources, Walked, places};
use std::collections::BTreeSet;
use std::ffi::OsString;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::sync_channel;
use walk::{Walk, walk};

/// Threads that read files. Many more than there are processors: small files on a cold disk are one wait each.
const READERS: usize = 8;
/// Bytes of files that may be read ahead.
const READ_AHEAD_BYTES: usize = 14 << 20;
/// Raw bytes that may be between compression and pack.
const IN_FLIGHT_BYTES: usize = 12 << 20;
/// Decoded frames of the parent's trees that the walk and the builder keep, each.
const PARENT_FRAMES_BYTES: usize = 6 << 20;
/// Batches of steps that may wait for the builder.
const WAITING_STEPS: usize = 8;
/// Deep paths are walked by recursion: room for some hundred thousand levels.
const WALK_STACK_BYTES: usize = 512 << 20;
const NS_PER_MS: u64 = 1_000_000;

/// Where bytes come from.
#[derive(Clone, Debug)]
pub enum Source {
    /// A file or a directory with everything in it.
    Path(PathBuf),
    /// A stream, kept as a file of this name at the top of the snapshot.
    Stream {
        /// The file's name.
        name: String,
        /// Where it comes from.
        kind: StreamKind,
    },
    /// A database, kept as a directory of streams: `/@postgres/NAME`, `/@mysql/NAME`. If it fails, the others go on.
    Dump(Arc<dyn DumpSource>),
    /// What a shell command prints, kept as the file `/@command/NAME`. If it fails, the others go on.
    Command {
        /// The file's name.
        name: String,
        /// The command line, for `sh -c`.
        command: String,
    },
}

/// Where a stream comes from.
#[derive(Clone, Debug)]
pub enum StreamKind {
    /// Standard input.
    Stdin,
    /// The output of a command: program and arguments.
    Command(Vec<OsString>),
}

/// Which snapshot the sources are compared with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Parent {
    /// The newest of the same host and paths.
    Newest,
    /// This one.
    Given(SnapshotId),
    /// None: everything is read.
    None,
}

/// What to back up and how.
#[derive(Clone, Debug)]
pub struct Options {
    /// The sources; at least one.
    pub sources: Vec<Source>,
    /// What is left out.
    pub scan: ScanOptions,
    /// The patterns of `scan` as they were given, to be kept in the snapshot.
    pub exclude_texts: Vec<Vec<u8>>,
    /// The host's name; none for this machine's own.
    pub host: Option<String>,
    /// The user's name.
    pub user: String,
    /// Tags.
    pub tags: Vec<String>,
    /// What somebody wants to say about it.
    pub description: String,
    /// The time it stands for; none for now.
    pub time: Option<Timestamp>,
    /// What it is compared with.
    pub parent: Parent,
    /// How hard to compress.
    pub level: Level,
    /// Whether to look for bases.
    pub deltas: bool,
    /// Inode numbers do not tell whether a file changed.
    pub ignore_inode: bool,
    /// Change times of inodes do not tell whether a file changed.
    pub ignore_ctime: bool,
    /// Store nothing, only say what would be.
    pub dry_run: bool,
    /// How large the base cache may grow, in bytes; 0 for none.
    pub base_cache_bytes: u64,
    /// Bounds for databases and commands.
    pub limits: Limits,
    /// Whether files that already are dumps are looked into while they are read.
    pub validate_dumps: bool,
}

/// What became of it.
#[derive(Debug)]
pub struct Outcome {
    /// The new snapshot; none after a dry run.
    pub snapshot: Option<Snapshot>,
    /// What was found and what it cost.
    pub totals: Totals,
    /// Files that are as they were in the parent.
    pub unchanged_files: u64,
    /// What could not be read; the first thousand.
    pub problems: Vec<Problem>,
    /// How many problems there were.
    pub problem_count: u64,
    /// Damage that it met in the repository. It did not rely on what is damaged: the snapshot has all that was found.
    pub damages: Vec<Problem>,
    /// What it was compared with.
    pub parent: Option<SnapshotId>,
    /// Streams that ended well, and commands that failed.
    pub streams: Vec<Stream>,
    /// Dumps that ended well.
    pub dumps: Vec<Dumped>,
    /// Files that already were dumps, by path.
    pub imported: Vec<ImportedDump>,
    /// Where its time went.
    pub times: Times,
    /// How often a database was tried again.
    pub source_retries: u64,
}

/// Where time went, summed over what went side by side: more than the run took is no contradiction.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Times {
    /// Encryption.
    pub seal_ms: u64,
    /// Decoding again what was just sealed.
    pub prove_ms: u64,
    /// Writing and storing packs.
    pub upload_ms: u64,
}

/// Totals of nothing.
pub(super) fn no_totals() -> Totals {
    Totals {
        files: 0,
        directories: 0,
        others: 0,
        bytes: 0,
        files_new: 0,
        files_changed: 0,
        bytes_read: 0,
        bytes_new: 0,
        bytes_delta: 0,
        stored_delta: 0,
        stored_data: 0,
        metadata_new: 0,
        stored_metadata: 0,
        added: 0,
        whole_delta: 0,
        unknown: Unknown::none(),
    }
}

/// Backs up.
pub fn backup(context: &Context, options: &Options) -> Result<Outcome> {
    let mut record = Record::begin(context, "backup");
    let before = context.repository.store().traffic();
    let done = run(context, options, &mut record);
    traffic_figures(&mut record, &context.repository.store().traffic().since(&before));
    match &done {
        Err(error) => record.save_failure(context, error),
        Ok(_) if options.dry_run => {}
        Ok(outcome) => {
            figures(&mut record, outcome);
            record.problems(&outcome.damages);
            record.problems(&outcome.problems);
            record.save(context, ended(outcome))?;
        }
    }
    done
}

/// Damage in the repository outranks a source that could not be read: it hurts what was thought to be safe.
fn ended(outcome: &Outcome) -> RunOutcome {
    match (outcome.damages.is_empty(), outcome.problem_count) {
        (false, _) => RunOutcome::Damage,
        (true, 0) => RunOutcome::Done,
        (true, _) => RunOutcome::Partial,
    }
}

/// What was asked of the store, where that costs something.
fn traffic_figures(record: &mut Record, traffic: &Traffic) {
    if traffic.requests() == 0 {
        return;
    }
    for (name, value) in [
        ("store_writes", traffic.writes),
        ("store_lists", traffic.lists),
        ("store_reads", traffic.reads),
        ("store_deletes", traffic.deletes),
        ("store_retries", traffic.retries),
        ("store_sent_bytes", traffic.sent_bytes),
        ("store_received_bytes", traffic.received_bytes),
    ] {
        record.figure(name, value);
    }
}

fn figures(record: &mut Record, outcome: &Outcome) {
    let totals = &outcome.totals;
    for (name, value) in [
        ("files", totals.files),
        ("files_new", totals.files_new),
        ("files_changed", totals.files_changed),
        ("content_bytes", totals.bytes),
        ("read_bytes", totals.bytes_read),
        ("new_bytes", totals.bytes_new),
        ("delta_bytes", totals.bytes_delta),
        ("added_bytes", totals.added),
        ("databases", outcome.dumps.len() as u64),
        ("rows", outcome.dumps.iter().map(|dump| dump.record.rows).fold(0, u64::saturating_add)),
        ("problems", outcome.problem_count),
        ("damages", outcome.damages.len() as u64),
        ("seal_ms", outcome.times.seal_ms),
        ("prove_ms", outcome.times.prove_ms),
        ("upload_ms", outcome.times.upload_ms),
        ("source_retries", outcome.source_retries),
    ] {
        record.figure(name, value);
    }
}

fn run(context: &Context, options: &Options, record: &mut Record) -> Result<Outcome> {
    let sources = Sources::of(options)?;
    // A dry run stores nothing, not even its mark.
    if options.dry_run {
        return Ok(make(context, options, &sources, None)?.0);
    }
    let mut session = begin(context, record)?;
    let mut made = None;
    let mut findings = context.index.findings()?;
    for beginning in 1.. {
        let last = beginning == BEGINNINGS;
        let (outcome, mut snapshot) = match made.take() {
            Some(made) => made,
            None => match make(context, options, &sources, Some(&session)) {
                Err(error) if !last && sources.can_be_read_again() && is_of_sleep(context, session.id(), &error)? => {
                    say_asleep(context, "backing up once more");
                    // What was on its way is nobody's any more.
                    context.index.finish_run()?;
                    session = begin(context, record)?;
                    continue;
                }
                made => made?,
            },
        };
        snapshot.id = session.id();
        snapshot.segments = context.index.newest_segments()?;
        // What cannot be found out now is found by who verifies the log: the snapshot is worth more.
        snapshot.log = runs::heads(&context.repository).map(|heads| heads.references()).unwrap_or_default();
        match session.commit(&snapshot) {
            Err(crate::repo::Error::Fenced(_)) if !last => {}
            committed => {
                committed?;
                record.snapshot(snapshot.id);
                // A note that is lost costs time next night, not data.
                let _ = context.index.note_sound(snapshot.id, findings);
                context.repository.store().keep_reserve();
                context.repository.own().into_iter().for_each(|own| own.remember(&snapshot));
                return Ok(Outcome { snapshot: Some(snapshot), ..outcome });
            }
        }
        // This machine slept, or the store was away, for longer than a prune waits. What was stored may be gone.
        session = begin(context, record)?;
        if !context.repository.keyring().is_write_only() && is_still_there(context, snapshot.root)? {
            say_asleep(context, "all that it stored is still there");
            made = Some((outcome, snapshot));
        } else if sources.can_be_read_again() {
            say_asleep(context, "something that it stored is gone: backing up once more");
            findings = context.index.findings()?;
        } else {
            return Err(Error::Refused(
                "this run was taken for dead by a prune, which then deleted something that it had stored or found; standard \
                 input cannot be read a second time, so no snapshot was made. All earlier snapshots are whole: run the whole \
                 command line again"
                    .to_owned(),
            ));
        }
    }
    unreachable!("the last beginning returns")
}

fn say_asleep(context: &Context, what: &str) {
    context.monitor.event(Event::Note(&format!("this run was taken for dead by a prune: {what}")));
}

fn begin<'c>(context: &'c Context, record: &mut Record) -> Result<Session<'c>> {
    let session = Session::begin(&context.repository, SessionKind::Writer, "backup")?;
    record.session(session.id());
    Ok(session)
}

/// Stores what the sources hold and makes a snapshot of it, which is not committed yet.
fn make(
    context: &Context,
    options: &Options,
    sources: &Sources,
    session: Option<&Session<'_>>,
) -> Result<(Outcome, Snapshot)> {
    let repository = &context.repository;
    // Snapshots before the index: all that they need is in it then.
    let snapshots = past_snapshots(context)?;
    let opened = context.refresh()?;
    opened.check_records(&repository.store().location())?;
    // One that the session saw open counts even if it is closed by now.
    let seen = session.and_then(|session| session.condemned().last());
    let condemned = opened.condemned.last().or(seen).copied();
    let mut damages = opened.damaged;
    damages.extend(context.missing_segments(&snapshots)?);
    let snapshots = counted_on(context, &mut damages, snapshots)?;
    damages.iter().for_each(|problem| context.monitor.event(Event::Problem(problem)));
    let begun_ns = repository.now_ns();
    let past = trust::known(context, condemned, &snapshots, Past::find(context, options, sources, &snapshots)?)?;
    drop(snapshots);
    let sink = match session {
        Some(session) => Sink::Real(Box::new(begin_writer(context, options, session)?)),
        None => Sink::Dry(Dry {
            index: context.index.clone(),
            keyring: repository.keyring().clone(),
            counters: Arc::new(Counters::default()),
        }),
    };
    let built = build(context, options, sources, &past, sink, begun_ns);
    // Interrupted or not: what is on its way is stored, and the next run finds it.
    let (root, found, sink) = built?;
    let finished = match sink {
        Sink::Real(writer) => writer.finish().map_err(Error::from),
        Sink::Dry(dry) => Ok(dry.counters),
    };
    let (root, counters) = match (root, finished) {
        // What the builder met first is why the writer cannot finish: it tells its reason only once.
        (Err(first), Err(_)) if first.kind() != Kind::Interrupted => return Err(first),
        (root, finished) => (root?, finished?),
    };
    let unlisted = found.unlisted;
    let mut outcome = outcome(found, &counters, past.parent.as_ref().map(|parent| parent.id));
    outcome.damages.splice(0..0, damages);
    outcome.damages.extend(damaged_bases(context, &counters));
    refuse_nothing(&outcome, sources.ways().above() + unlisted)?;
    // A dry run commits nothing: its snapshot has no name.
    let id = session.map_or(SessionId([0; 16]), Session::id);
    let snapshot = snapshot_of(context, options, sources, id, root, begun_ns, &outcome);
    Ok((outcome, snapshot))
}

/// The snapshots of which the sources may be compared with one. Those of clients that may only write are none for others:
/// they could say that a file is as it was and has other content. Such a client itself can read none.
fn past_snapshots(context: &Context) -> Result<Vec<Snapshot>> {
    if context.repository.keyring().is_write_only() {
        return own_snapshots(context);
    }
    let (mut snapshots, _) = snapshots::list(&context.repository)?;
    snapshots.retain(|snapshot| !snapshot.unverified);
    Ok(snapshots)
}

/// Those that a client which may only write has kept, as far as they are still in the repository: what a forgotten one
/// needs may be gone.
pub fn own_snapshots(context: &Context) -> Result<Vec<Snapshot>> {
    let Some(own) = context.repository.own() else { return Ok(Vec::new()) };
    let there: BTreeSet<SnapshotId> = snapshots::names(&context.repository)?.into_iter().collect();
    let (kept, gone): (Vec<_>, Vec<_>) = own.snapshots().into_iter().partition(|snapshot| there.contains(&snapshot.id));
    own.forget(&gone.iter().map(|snapshot| snapshot.id).collect::<Vec<_>>());
    Ok(kept)
}

/// Those of `snapshots` whose word for what is stored can be taken without a look at the index: all, if the index is
/// whole, every pack that it names in the store and nothing known to be damaged. With a part of the index unreadable or
/// packs gone it is none, or there could be a snapshot of files that nobody finds: everything is read, and what is not
/// known is stored again. After damage that was found earlier it is those that were made since. Packs that are gone are
/// added to `damages`.
fn counted_on(context: &Context, damages: &mut Vec<Problem>, snapshots: Vec<Snapshot>) -> Result<Vec<Snapshot>> {
    let index_whole = damages.is_empty();
    let whole = context.index.check_packs(&**context.repository.store(), index_whole)?;
    for pack in &whole.missing {
        let object = format!("packs/{pack}");
        let message = "it is gone or has another size than it should: what this backup needs of it is stored again; \
                       run `keepstone verify --all` to see which older snapshots it hurts, then `keepstone \
                       rebuild-index`";
        damages.push(Problem::new(object, message, Kind::Damaged));
    }
    match (damages.is_empty(), whole.damaged) {
        (false, _) => Ok(Vec::new()),
        (true, false) => Ok(snapshots),
        (true, true) => made_since_damage(context, snapshots),
    }
}

/// The snapshots that count on nothing that was found damaged.
fn made_since_damage(context: &Context, mut snapshots: Vec<Snapshot>) -> Result<Vec<Snapshot>> {
    let sound = context.index.sound_snapshots()?;
    snapshots.retain(|snapshot| sound.contains(&snapshot.id));
    if snapshots.is_empty() {
        let note = "damage was found earlier: everything is read, and what is damaged is stored again";
        context.monitor.event(Event::Note(note));
    }
    Ok(snapshots)
}

/// What to say of bases that could not be read.
fn damaged_bases(context: &Context, counters: &Counters) -> Option<Problem> {
    let count = counters.bases_damaged.load(Ordering::Relaxed);
    let message = "could not be read: what they were to be bases of was stored whole; run `keepstone verify --all` to \
                   see which snapshots that hurts";
    let problem = (count > 0).then(|| Problem::new(format!("{count} stored chunks"), message, Kind::Damaged));
    problem.inspect(|problem| context.monitor.event(Event::Problem(problem)))
}

fn begin_writer(context: &Context, options: &Options, session: &Session<'_>) -> Result<BlobWriter> {
    let repository = &context.repository;
    let base_cache = match (&context.cache_dir, options.deltas && options.base_cache_bytes > 0) {
        (Some(folder), true) => {
            let keyring = repository.keyring().clone();
            BaseCache::open(&folder.join("bases"), options.base_cache_bytes, keyring)
                .inspect_err(|error| {
                    let note = format!("no base cache in {} ({error}): deltas take longer", folder.display());
                    context.monitor.event(Event::Note(&note));
                })
                .ok()
        }
        _ => None,
    };
    let settings = Settings {
        level: options.level,
        deltas: options.deltas,
        in_flight_bytes: IN_FLIGHT_BYTES,
        repository_bytes: context.index.stored_bytes()?,
    };
    let condemned_seen = session.condemned_seen();
    let (repository, index) = (repository.clone(), context.index.clone());
    Ok(BlobWriter::begin(repository, index, session.id(), condemned_seen, &settings, base_cache)?)
}

/// The builder's work, in its order. The root is an error of its own, so that the sink can be finished all the same.
fn build(
    context: &Context,
    options: &Options,
    sources: &Sources,
    past: &Past,
    sink: Sink,
    now_ns: i64,
) -> Result<(Result<crate::base::BlobId>, Found, Sink)> {
    let repository = &context.repository;
    let namer = Arc::new(Namer::new(repository.chunker()?, repository.keyring().clone(), options.validate_dumps));
    let reader = blobs(context);
    let monitor = &*context.monitor;
    let mut builder =
        Builder::new(sink, reader, namer.clone(), &sources.walked, monitor, (&context.stop, &context.pace), now_ns);
    let root = feed(context, options, sources, past, &namer, &mut builder).and_then(|gathered| {
        context.monitor.event(Event::Phase("backing up"));
        files(context, options, sources, past, gathered, &namer, &mut builder)
    });
    Ok((root, std::mem::take(&mut builder.found), builder.sink))
}

/// A reader for the parent's trees.
fn blobs(context: &Context) -> BlobReader {
    BlobReader::new(context.repository.clone(), context.index.clone(), PARENT_FRAMES_BYTES).walking()
}

fn start_failed(source: std::io::Error) -> Error {
    Error::Io { what: "start a reader".to_owned(), source }
}

/// Reads databases and commands; gives their directories.
fn feed(
    context: &Context,
    options: &Options,
    sources: &Sources,
    past: &Past,
    namer: &Arc<Namer>,
    builder: &mut Builder<'_>,
) -> Result<Vec<Node>> {
    if sources.fed.is_empty() {
        return Ok(Vec::new());
    }
    context.monitor.event(Event::Phase("reading databases and commands"));
    let root_before = past.parent.as_ref().map(|parent| parent.root);
    let (monitor, stop) = (context.monitor.clone(), &context.stop);
    let space = Space {
        free_bytes: context
            .repository
            .store()
            .free_bytes()
            .filter(|_| !options.dry_run && !options.limits.ignore_free_space),
        stored_bytes: context.index.stored_bytes()?,
    };
    let feed = Feed::new(&sources.fed, &options.limits, namer.clone(), monitor, stop, space);
    let gathered = feed.run(|messages| gather(builder, &sources.fed, &past.seen, root_before, messages));
    builder.found.source_retries = feed.retries();
    gathered.map_err(start_failed)?
}

/// Scans and reads files and single streams, and builds all trees down from `/`.
fn files(
    context: &Context,
    options: &Options,
    sources: &Sources,
    past: &Past,
    gathered: Vec<Node>,
    namer: &Arc<Namer>,
    builder: &mut Builder<'_>,
) -> Result<crate::base::BlobId> {
    let readers = Readers::start(READERS, namer).map_err(start_failed)?;
    let (steps, to_build) = sync_channel(WAITING_STEPS);
    let (scan, found_roots) = start_scan(options, sources, &context.stop)?;
    let parent = past.parent.as_ref();
    let work = Walk {
        sources: sources.walked.clone(),
        scan,
        roots: found_roots,
        gathered: gathered.into(),
        parent: parent.map(|parent| walk::Parent {
            root: parent.root,
            begun_ns: parent.begun_ns,
            reader: blobs(context),
            imported: options.validate_dumps.then(|| parent.imported.clone()),
        }),
        own: options.scan.own.clone(),
        ignore_inode: options.ignore_inode,
        ignore_ctime: options.ignore_ctime,
        steps,
        jobs: readers.queue(),
        budget: Budget::new(READ_AHEAD_BYTES),
        monitor: context.monitor.clone(),
        stop: context.stop.clone(),
    };
    let ways = sources.ways();
    let walker = std::thread::Builder::new()
        .name("walker".to_owned())
        .stack_size(WALK_STACK_BYTES)
        .spawn(move || walk(work, &ways))
        .map_err(start_failed)?;
    let root = builder.build(&to_build, parent.map(|parent| parent.root));
    // If the builder gave up, the walker finds its steps unwanted and ends.
    drop(to_build);
    let walked = walker.join().map_err(|_| crate::repo::Error::Internal("the walk ended early".to_owned()))?;
    match (root, walked) {
        (Ok(_), Err(walk::Gone)) if context.stop.raised() => Err(Error::Interrupted),
        (Ok(_), Err(walk::Gone)) => Err(crate::repo::Error::Internal("the walk ended early".to_owned()).into()),
        (root, _) => root,
    }
}

type Roots = Vec<Option<Result<crate::source::files::Entry, crate::source::files::Error>>>;

fn start_scan(options: &Options, sources: &Sources, stop: &crate::base::Stop) -> Result<(Scan, Roots)> {
    let paths: Vec<PathBuf> = sources
        .walked
        .iter()
        .filter_map(|source| match source {
            Walked::Path(path) => Some(path.clone()),
            Walked::Stream(..) => None,
        })
        .collect();
    let mut scan = Scan::start(&paths, options.scan.clone(), stop.clone())?;
    let mut found = scan.take_roots().into_iter();
    let roots = sources
        .walked
        .iter()
        .map(|source| match source {
            Walked::Path(_) => found.next(),
            Walked::Stream(..) => None,
        })
        .collect();
    Ok((scan, roots))
}

fn outcome(found: Found, counters: &Counters, parent: Option<SnapshotId>) -> Outcome {
    let get = |counter: &std::sync::atomic::AtomicU64| counter.load(Ordering::Relaxed);
    // What lies in a new tree is new content, and what it takes there is its length at most.
    let totals = Totals {
        bytes_new: get(&counters.data_new).saturating_add(found.inline_new),
        bytes_delta: get(&counters.data_delta),
        stored_delta: get(&counters.stored_delta),
        stored_data: get(&counters.stored_data).saturating_add(found.inline_new),
        metadata_new: get(&counters.metadata_new),
        stored_metadata: get(&counters.stored_metadata),
        added: get(&counters.added),
        whole_delta: get(&counters.whole_delta),
        ..found.totals.unwrap_or_else(no_totals)
    };
    Outcome {
        snapshot: None,
        totals,
        unchanged_files: found.unchanged_files,
        problems: found.problems,
        problem_count: found.problem_count,
        damages: found.damages,
        parent,
        streams: found.streams,
        dumps: found.dumps,
        imported: found.imported_dumps,
        times: Times {
            seal_ms: get(&counters.seal_ns) / NS_PER_MS,
            prove_ms: get(&counters.prove_ns) / NS_PER_MS,
            upload_ms: get(&counters.upload_ns) / NS_PER_MS,
        },
        source_retries: found.source_retries,
    }
}

/// A source of which nothing could be read makes no snapshot. The directories above the sources are no sources, and
/// those that could not be listed were not read: so many are `unread`.
fn refuse_nothing(outcome: &Outcome, unread: u64) -> Result<()> {
    let totals = &outcome.totals;
    let nothing = totals.files + totals.others == 0 && totals.directories <= unread;
    if nothing && outcome.problem_count > 0 {
        let why = outcome.problems.first().map_or(String::new(), |problem| problem.message.clone());
        let text = format!("nothing could be read, so there is no snapshot: {why}");
        return Err(Error::NothingRead(text, outcome.problems.clone()));
    }
    Ok(())
}

fn snapshot_of(
    context: &Context,
    options: &Options,
    sources: &Sources,
    id: SnapshotId,
    root: crate::base::BlobId,
    begun_ns: i64,
    outcome: &Outcome,
) -> Snapshot {
    use std::os::unix::ffi::OsStrExt;
    let machine = context.repository.machine();
    let now_ns = context.repository.now_ns();
    let mut tags = options.tags.clone();
    tags.sort();
    tags.dedup();
    Snapshot {
        id,
        time_ns: options.time.map_or(begun_ns, |time| time.as_nanosecond() as i64),
        begun_ns,
        ended_ns: now_ns,
        host: options.host.clone().unwrap_or_else(|| machine.host.clone()),
        user: options.user.clone(),
        root,
        paths: places(sources).iter().map(|path| Bytes(path.as_os_str().as_bytes().to_vec())).collect(),
        tags,
        parent: outcome.parent,
        partial: outcome.problem_count > 0,
        problems: outcome.problems.iter().map(stored_problem).collect(),
        problem_count: outcome.problem_count,
        totals: outcome.totals.clone(),
        program: machine.program.clone(),
        excludes: options.exclude_texts.iter().cloned().map(Bytes).collect(),
        streams: outcome.streams.clone(),
        kinds: sources.kinds(),
        original: None,
        description: options.description.clone(),
        received_ns: now_ns,
        dumps: outcome.dumps.iter().map(|dump| dump.record.clone()).collect(),
        segments: Vec::new(),
        imported: outcome.imported.clone(),
        validated: options.validate_dumps,
        copied: None,
        log: Vec::new(),
        unverified: context.repository.keyring().is_write_only(),
        unknown: Unknown::none(),
    }
}
