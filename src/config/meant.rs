//! The config as it is meant: repositories and profiles with every value in its own type.
//!
//! The command line is turned into some of these types too, so that a profile and a command mean the same thing.

mod outlook;
mod telling;
mod upkeep;

pub use outlook::{Outlook, Price};
pub use telling::{Channel, Metrics, Reports};
pub(super) use telling::{channels, metrics, reports};
pub use upkeep::{Drill, Keys, Maintained, Maintenance, Scenario};

use super::read::Reader;
use super::schedule::Schedule;
use super::{Error, Result, values};
use crate::compress::Level;
use crate::history::operations;
use crate::notify::route::Route;
use crate::notify::rules::Rules;
use crate::ops::backup::Limits;
use crate::ops::hooks::Hooks;
use crate::ops::prune::MaxUnused;
use crate::ops::retention::{Period, Policy};
use crate::ops::select::{Age, parse_age, parse_tags};
use crate::ops::verify::Part;
use crate::store::{S3Checksums, S3Encryption, S3Lock};
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Where a password or a key comes from. It never stands in the config itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// The first line of a file.
    PasswordFile(PathBuf),
    /// The first line that a shell command prints.
    PasswordCommand(OsString),
    /// An environment variable.
    PasswordVariable(String),
    /// A key file.
    KeyFile(PathBuf),
    /// All that a shell command prints.
    KeyCommand(OsString),
    /// An identity whose recipient has a key slot.
    IdentityFile(PathBuf),
}

/// A repository.
#[derive(Clone, Debug)]
pub struct Repository {
    /// What the config calls it.
    pub name: String,
    /// Where it is, as it was written.
    pub place: PathBuf,
    /// What opens it; none for what the command line or a person says.
    pub origin: Option<Origin>,
    /// Where local caches lie; none for where they lie otherwise.
    pub cache_dir: Option<PathBuf>,
    /// How large the cache of a repository in a bucket may grow, in bytes.
    pub cache_bytes: u64,
    /// How large it may grow.
    pub quota_bytes: Option<u64>,
    /// What its price is called, if somebody says so.
    pub price: Option<String>,
    /// Bytes a second to it at most.
    pub limit_upload: Option<u64>,
    /// Bytes a second from it at most.
    pub limit_download: Option<u64>,
    /// New keys by the calendar.
    pub keys: Option<Keys>,
    /// How a bucket is talked to.
    pub bucket: Bucket,
}

/// How a bucket is talked to, and what is said of its objects.
#[derive(Clone, Debug, Default)]
pub struct Bucket {
    /// Its region.
    pub region: Option<String>,
    /// A file of authorities to trust too.
    pub authorities: Option<PathBuf>,
    /// Whether the bucket is named in the path.
    pub path_style: Option<bool>,
    /// When checksums of S3 are added.
    pub checksums: Option<S3Checksums>,
    /// Requests at once.
    pub connections: Option<u16>,
    /// Tries of a request.
    pub tries: Option<u32>,
    /// The storage class of packs.
    pub storage_class: Option<String>,
    /// Tags of objects.
    pub tags: Vec<(String, String)>,
    /// How the server encrypts.
    pub encryption: Option<S3Encryption>,
    /// How long objects are locked.
    pub lock: Option<S3Lock>,
    /// Whether a server on another machine may be talked to without encryption.
    pub plain_http: bool,
}

/// What must be safe, and what belongs to a night.
#[derive(Clone, Debug)]
pub struct Profile {
    /// What it is called.
    pub name: String,
    /// Where it goes.
    pub repository: Repository,
    /// The host's name in snapshots; none for this machine's.
    pub host: Option<String>,
    /// What is said about its snapshots.
    pub description: String,
    /// Tags of its snapshots.
    pub tags: Vec<String>,
    /// When it should run.
    pub schedule: Option<Schedule>,
    /// When everything is to be read, also what looks unchanged.
    pub whole: Option<Schedule>,
    /// Files.
    pub files: Files,
    /// Databases.
    pub databases: Vec<Database>,
    /// Commands whose output is kept: name and shell command.
    pub commands: Vec<(String, String)>,
    /// Whether files that are dumps are looked into.
    pub validate_dumps: bool,
    /// How content is stored.
    pub storing: Storing,
    /// How long, how often, how many at once.
    pub limits: Limits,
    /// Bytes that have to be free before anything begins.
    pub min_free_bytes: u64,
    /// What a run leaves to others.
    pub load: Load,
    /// Which snapshots stay; none for all.
    pub retention: Option<Policy>,
    /// What is read back.
    pub verify: Option<Verify>,
    /// How space is freed, if it is.
    pub prune: Option<Prune>,
    /// Test restores: none, one, or one for each scenario.
    pub drills: Vec<Drill>,
    /// Upkeep of databases.
    pub maintenance: Option<Maintenance>,
    /// Patterns of databases that no restore writes over or replaces.
    pub protected: Vec<String>,
    /// Commands around the backup.
    pub hooks: Hooks,
    /// Commands around restores.
    pub restore_hooks: Hooks,
    /// Whom it tells.
    pub route: Route,
    /// What is worth telling.
    pub rules: Rules,
    /// What this machine remembers of its runs.
    pub state: State,
}

/// What a machine remembers of its runs, and for how long.
#[derive(Clone, Debug)]
pub struct State {
    /// Where it keeps that; none if nobody knows.
    pub folder: Option<PathBuf>,
    /// How long the history of runs is kept.
    pub history_keep: Age,
    log_file: Option<PathBuf>,
    log_keep: Duration,
    log_bytes: u64,
}

impl State {
    pub(super) fn read(read: &Reader<'_>) -> State {
        State {
            folder: read.text("state_dir").map(PathBuf::from),
            history_keep: read.value("history_keep", parse_age).unwrap_or_default(),
            log_file: read.text("log_file").map(PathBuf::from),
            log_keep: read.value("log_keep", values::duration).unwrap_or_default(),
            log_bytes: read.value("log_size", values::size).unwrap_or(0),
        }
    }

    /// Where it keeps that, for whoever cannot do without.
    pub fn place(&self) -> Result<&Path> {
        self.folder.as_deref().ok_or_else(State::unplaced)
    }

    /// The operation log, for whoever cannot do without.
    pub fn log(&self) -> Result<operations::Log> {
        self.operations().ok_or_else(State::unplaced)
    }

    fn unplaced() -> Error {
        Error::usage(
            "where is state kept? HOME is not set: say `state_dir` at the top of the config, or set KEEPSTONE_STATE_DIR",
        )
    }

    /// The operation log; none if nobody knows where it is.
    pub fn operations(&self) -> Option<operations::Log> {
        let own = || self.folder.as_ref().map(|folder| folder.join(operations::FILE_NAME));
        let path = self.log_file.clone().or_else(own)?;
        Some(operations::Log { path, keep: self.log_keep, most_bytes: self.log_bytes })
    }
}

/// Files and what of them is left out.
#[derive(Clone, Debug, Default)]
pub struct Files {
    /// Files and directories.
    pub paths: Vec<PathBuf>,
    /// Patterns.
    pub exclude: Vec<OsString>,
    /// Patterns for which large and small letters are the same.
    pub iexclude: Vec<OsString>,
    /// Files of patterns.
    pub exclude_file: Vec<PathBuf>,
    /// Files of patterns for which large and small letters are the same.
    pub iexclude_file: Vec<PathBuf>,
    /// Leave out caches.
    pub exclude_caches: bool,
    /// Leave out what lies beside such a file.
    pub exclude_if_present: Vec<OsString>,
    /// Leave out larger files.
    pub exclude_larger_than: Option<u64>,
    /// Stay on the file systems of the paths.
    pub one_file_system: bool,
}

/// A family of database servers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    /// PostgreSQL.
    Postgres,
    /// MySQL and MariaDB.
    Mysql,
}

/// A server and a database on it.
#[derive(Clone, PartialEq, Eq)]
pub struct Link {
    /// The family.
    pub family: Family,
    /// URL, words or name. From a command line it may hold a password: never printed.
    pub url: String,
    /// Where its password comes from, if not from where the servers' own programs look for it.
    pub password: Option<Origin>,
    /// The folder of the client programs; none if they are found by themselves.
    pub programs: Option<PathBuf>,
}

impl std::fmt::Debug for Link {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Link").field("family", &self.family).finish_non_exhaustive()
    }
}

/// A database that is backed up, and what of it.
#[derive(Clone, Debug)]
pub struct Database {
    /// What it is called in the snapshot; none for its own name.
    pub name: Option<String>,
    /// Where it is.
    pub link: Link,
    /// What of it is taken.
    pub parts: Parts,
    /// So many tables at once.
    pub workers: u32,
    /// Wait so long for a table that somebody else has locked.
    pub lock_timeout: Duration,
}

/// What of a database is taken.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Parts {
    /// Every database of the server.
    pub all_databases: bool,
    /// Only tables that match.
    pub include_table: Vec<String>,
    /// All tables but those that match.
    pub exclude_table: Vec<String>,
    /// Of tables that match only the definition.
    pub exclude_table_data: Vec<String>,
    /// Only schemas that match.
    pub schema: Vec<String>,
    /// All schemas but those that match.
    pub exclude_schema: Vec<String>,
    /// Definitions, and no rows.
    pub schema_only: bool,
    /// Rows, and no definitions.
    pub data_only: bool,
    /// No roles, tablespaces, users and grants.
    pub no_globals: bool,
    /// Tables in the order of their primary keys.
    pub primary_key_order: bool,
}

/// How content is stored.
#[derive(Clone, Copy, Debug)]
pub struct Storing {
    /// How hard to compress.
    pub level: Level,
    /// Whether to look for bases.
    pub deltas: bool,
    /// How large the base cache may grow.
    pub base_cache_bytes: u64,
    /// Inode numbers do not tell whether a file changed.
    pub ignore_inode: bool,
    /// Change times do not tell whether a file changed.
    pub ignore_ctime: bool,
}

/// What a run leaves to others on its machine.
#[derive(Clone, Debug, Default)]
pub struct Load {
    /// Its priority for processors, from 0 to 19; none for the usual one.
    pub nice: Option<u8>,
    /// Its priority for disks; none for the usual one.
    pub ionice: Option<IoClass>,
    /// Above this share of time, in percent, in which tasks wait for processors it stands still.
    pub cpu: Option<f64>,
    /// The same for memory.
    pub memory: Option<f64>,
    /// The same for disks.
    pub io: Option<f64>,
    /// It stands still while a replica is further behind.
    pub replication_lag: Option<Duration>,
    /// No pause is longer.
    pub longest_pause: Duration,
}

/// A lower priority for disks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IoClass {
    /// Only when nobody else wants them.
    Idle,
    /// After all others.
    Low,
}

impl Load {
    fn read(read: Reader<'_>) -> Load {
        let class = |word: String| if word == "idle" { IoClass::Idle } else { IoClass::Low };
        let load = Load {
            nice: small(&read, "nice"),
            ionice: read.text("ionice").map(class),
            cpu: read.value("cpu", values::percent),
            memory: read.value("memory", values::percent),
            io: read.value("io", values::percent),
            replication_lag: read.value("replication_lag", values::duration),
            longest_pause: read.value("longest_pause", values::duration).unwrap_or_default(),
        };
        read.finish();
        load
    }
}

/// What is read back.
#[derive(Clone, Debug)]
pub struct Verify {
    /// When it is due; none for every run.
    pub schedule: Option<Schedule>,
    /// All content of snapshots that are younger.
    pub newer_than: Option<Age>,
    /// Packs whose turn it is.
    pub part: Option<Part>,
}

/// How space is freed.
#[derive(Clone, Debug)]
pub struct Prune {
    /// When it is due; none for every run.
    pub schedule: Option<Schedule>,
    /// What may stay unused.
    pub max_unused: MaxUnused,
    /// The most that is written anew.
    pub max_repack_bytes: Option<u64>,
    /// For how long records of operations are kept.
    pub keep_log: Option<Age>,
}

/// The password that a table names, if it names one.
fn password(read: &Reader<'_>) -> Option<Origin> {
    let file = read.text("password_file").map(|path| Origin::PasswordFile(path.into()));
    let command = read.text("password_command").map(|command| Origin::PasswordCommand(command.into()));
    let variable = read.text("password_env").map(Origin::PasswordVariable);
    file.or(command).or(variable)
}

/// What opens a repository, if the table names anything.
fn opener(read: &Reader<'_>) -> Option<Origin> {
    let key_file = read.text("key_file").map(|path| Origin::KeyFile(path.into()));
    let key_command = read.text("key_command").map(|command| Origin::KeyCommand(command.into()));
    let identity = read.text("identity_file").map(|path| Origin::IdentityFile(path.into()));
    password(read).or(key_file).or(key_command).or(identity)
}

fn paths(texts: Vec<String>) -> Vec<PathBuf> {
    texts.into_iter().map(PathBuf::from).collect()
}

fn words(texts: Vec<String>) -> Vec<OsString> {
    texts.into_iter().map(OsString::from).collect()
}

fn small<T: TryFrom<u64>>(read: &Reader<'_>, name: &str) -> Option<T> {
    read.value(name, str::parse::<u64>).and_then(|number| T::try_from(number).ok())
}

impl Repository {
    /// Reads one.
    pub(super) fn read(name: String, read: Reader<'_>) -> Repository {
        let repository = Repository {
            name,
            place: read.text("place").unwrap_or_default().into(),
            origin: opener(&read),
            cache_dir: read.text("cache_dir").map(PathBuf::from),
            cache_bytes: read.value("cache_size", values::size).unwrap_or(0),
            quota_bytes: read.value("quota", values::size),
            price: read.text("price"),
            limit_upload: read.value("limit_upload", values::rate),
            limit_download: read.value("limit_download", values::rate),
            keys: read.optional("keys").map(Keys::read),
            bucket: Bucket::read(read.part("s3")),
        };
        read.finish();
        repository
    }
}

impl Bucket {
    fn read(read: Reader<'_>) -> Bucket {
        let tag = |text: &String| values::tag(text).ok();
        let bucket = Bucket {
            region: read.text("region"),
            authorities: read.text("ca").map(PathBuf::from),
            path_style: read.value("path_style", str::parse),
            checksums: read.text("checksums").map(|when| match when.as_str() {
                "when-supported" => S3Checksums::WhenSupported,
                _ => S3Checksums::WhenRequired,
            }),
            connections: small(&read, "connections"),
            tries: small(&read, "tries"),
            storage_class: read.text("storage_class"),
            tags: read.list("tags").iter().filter_map(tag).collect(),
            encryption: read.value("encryption", values::encryption),
            lock: read.value("object_lock", values::lock),
            plain_http: read.switch("allow_plain_http"),
        };
        read.finish();
        bucket
    }
}

impl Profile {
    /// Reads one that was laid together; `inherit` and `repository` were followed before.
    pub(super) fn read(name: String, repository: Repository, state: State, read: Reader<'_>) -> Profile {
        // Both were followed by whoever found the repository.
        let _ = (read.list("inherit"), read.text("repository"));
        let sources = read.part("sources");
        let (limits, min_free_bytes) = limits(read.part("limits"));
        let (files, databases, commands) = (Files::read(&sources), databases(&sources), commands(&sources));
        let validate_dumps = sources.switch("validate_dumps");
        sources.finish();
        let retention = read.optional("retention").map(policy);
        let (hooks, restore_hooks) = hooks(read.part("hooks"));
        let prune = read.optional("prune").or_else(|| retention.is_some().then(|| read.part("prune"))).map(Prune::read);
        let profile = Profile {
            name,
            repository,
            host: read.text("host"),
            description: read.text("description").unwrap_or_default(),
            tags: read.list("tags"),
            schedule: schedule(&read),
            whole: read.value("whole", Schedule::parse),
            maintenance: read.optional("maintenance").map(|read| Maintenance::read(read, &databases)),
            files,
            databases,
            commands,
            validate_dumps,
            storing: Storing::read(read.part("backup")),
            limits,
            min_free_bytes,
            load: Load::read(read.part("load")),
            retention,
            verify: read.optional("verify").map(Verify::read),
            prune,
            drills: read.optional("drill").map(Drill::read_all).unwrap_or_default(),
            protected: read.list("protected"),
            hooks,
            restore_hooks,
            route: telling::route(read.part("notify")),
            rules: telling::rules(read.part("alerts")),
            state,
        };
        read.finish();
        profile
    }

    /// Whether there is anything to back up.
    pub fn has_sources(&self) -> bool {
        !(self.files.paths.is_empty() && self.databases.is_empty() && self.commands.is_empty())
    }
}

fn schedule(read: &Reader<'_>) -> Option<Schedule> {
    read.value("schedule", Schedule::parse)
}

impl Files {
    fn read(read: &Reader<'_>) -> Files {
        Files {
            paths: paths(read.list("paths")),
            exclude: words(read.list("exclude")),
            iexclude: words(read.list("iexclude")),
            exclude_file: paths(read.list("exclude_file")),
            iexclude_file: paths(read.list("iexclude_file")),
            exclude_caches: read.switch("exclude_caches"),
            exclude_if_present: words(read.list("exclude_if_present")),
            exclude_larger_than: read.value("exclude_larger_than", values::size),
            one_file_system: read.switch("one_file_system"),
        }
    }
}

fn databases(read: &Reader<'_>) -> Vec<Database> {
    let postgres = read.named("postgres").into_iter().map(|(name, read)| Database::postgres(name, read));
    let mysql = read.named("mysql").into_iter().map(|(name, read)| Database::mysql(name, read));
    postgres.chain(mysql).collect()
}

fn commands(read: &Reader<'_>) -> Vec<(String, String)> {
    let one = |(name, read): (String, Reader<'_>)| {
        let command = read.text("run").unwrap_or_default();
        read.finish();
        (name, command)
    };
    read.named("command").into_iter().map(one).collect()
}

impl Database {
    fn postgres(name: String, read: Reader<'_>) -> Database {
        let parts = Parts {
            schema: read.list("schema"),
            exclude_schema: read.list("exclude_schema"),
            primary_key_order: read.switch("primary_key_order"),
            ..Parts::read(&read)
        };
        let database = Database {
            name: Some(name),
            link: Link { programs: read.text("programs").map(PathBuf::from), ..Link::read(Family::Postgres, &read) },
            parts,
            workers: small(&read, "workers").unwrap_or(1),
            lock_timeout: read.value("lock_timeout", values::duration).unwrap_or_default(),
        };
        read.finish();
        database
    }

    fn mysql(name: String, read: Reader<'_>) -> Database {
        let (link, parts) = (Link::read(Family::Mysql, &read), Parts::read(&read));
        read.finish();
        Database { name: Some(name), link, parts, workers: 1, lock_timeout: Duration::ZERO }
    }
}

impl Link {
    fn read(family: Family, read: &Reader<'_>) -> Link {
        Link { family, url: read.text("url").unwrap_or_default(), password: password(read), programs: None }
    }
}

impl Parts {
    fn read(read: &Reader<'_>) -> Parts {
        let content = read.text("content").unwrap_or_default();
        Parts {
            all_databases: read.switch("all_databases"),
            include_table: read.list("include_table"),
            exclude_table: read.list("exclude_table"),
            exclude_table_data: read.list("exclude_table_data"),
            schema_only: content == "schema",
            data_only: content == "data",
            no_globals: !read.switch("globals"),
            ..Parts::default()
        }
    }
}

impl Storing {
    fn read(read: Reader<'_>) -> Storing {
        let storing = Storing {
            level: read.value("compression", Level::parse).unwrap_or_default(),
            deltas: read.switch("deltas"),
            base_cache_bytes: read.value("base_cache", values::size).unwrap_or(0),
            ignore_inode: read.switch("ignore_inode"),
            ignore_ctime: read.switch("ignore_ctime"),
        };
        read.finish();
        storing
    }
}

/// The limits, and how much has to be free.
fn limits(read: Reader<'_>) -> (Limits, u64) {
    let default = Limits::default();
    let limits = Limits {
        attempts: small(&read, "attempts").unwrap_or(default.attempts),
        max_parallel: small(&read, "parallel").unwrap_or(default.max_parallel),
        source_timeout: read.value("source_timeout", values::duration).unwrap_or(default.source_timeout),
        timeout: read.value("timeout", values::duration),
        ignore_free_space: read.switch("ignore_free_space"),
        ..default
    };
    let min_free_bytes = read.value("min_free", values::size).unwrap_or(0);
    read.finish();
    (limits, min_free_bytes)
}

pub(super) fn policy(read: Reader<'_>) -> Policy {
    let count = |name| small(&read, name).unwrap_or(0);
    let period = |name| read.value(name, str::parse::<Period>);
    let policy = Policy {
        keep_last: count("last"),
        keep_hourly: count("hourly"),
        keep_daily: count("daily"),
        keep_weekly: count("weekly"),
        keep_monthly: count("monthly"),
        keep_yearly: count("yearly"),
        keep_within: period("within"),
        keep_within_hourly: period("within_hourly"),
        keep_within_daily: period("within_daily"),
        keep_within_weekly: period("within_weekly"),
        keep_within_monthly: period("within_monthly"),
        keep_within_yearly: period("within_yearly"),
        keep_tags: read.list("tags").iter().map(|list| parse_tags(list)).collect(),
    };
    read.finish();
    policy
}

impl Verify {
    fn read(read: Reader<'_>) -> Verify {
        let part = Part {
            most_bytes: read.value("budget", values::size),
            share: read.value("share", values::share),
            most_seconds: read.value("max_time", values::duration).map(|time| time.as_secs()),
        };
        let verify = Verify {
            schedule: schedule(&read),
            newer_than: read.value("newer_than", parse_age),
            part: Some(part).filter(|part| *part != Part::default()),
        };
        read.finish();
        verify
    }
}

impl Prune {
    fn read(read: Reader<'_>) -> Prune {
        let prune = Prune {
            schedule: schedule(&read),
            max_unused: read.value("max_unused", str::parse).unwrap_or_default(),
            max_repack_bytes: read.value("max_repack", values::size),
            keep_log: read.value("keep_log", values::log_age),
        };
        read.finish();
        prune
    }
}

/// Those around the backup, and those around restores.
fn hooks(read: Reader<'_>) -> (Hooks, Hooks) {
    let restore = read.part("restore");
    let hooks = (hooks_of(&read), hooks_of(&restore));
    read.finish();
    restore.finish();
    hooks
}

fn hooks_of(read: &Reader<'_>) -> Hooks {
    Hooks {
        before: read.list("before"),
        after: read.list("after"),
        failed: read.list("failed"),
        finally: read.list("finally"),
        timeout: read.value("timeout", values::duration).unwrap_or_default(),
        variables: Vec::new(),
    }
}
