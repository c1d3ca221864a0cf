//! All keys of the config: table by table, each with what may stand behind it and what it means.

pub(super) mod outlook;
pub(super) mod telling;
pub(super) mod upkeep;

use super::describe::{Form, Key, Section, Text};
use super::schedule::Schedule;
use super::{links, values};
use crate::compress::Level;
use crate::ops::prune::MaxUnused;
use crate::ops::retention::Period;
use crate::ops::select::{Age, parse_age};
use crate::source::files::Filter;
use crate::store::S3Address;

const SIZE_PATTERN: &str = r"^[0-9]+(\.[0-9]+)?\s*([KMGTkmgt]([Ii]?[Bb])?)?$";

static PLAIN: Text = text("a text", "", not_empty);
static PATTERN: Text = text("a text", "", |text| {
    not_empty(text)?;
    Filter::new().add(text.as_bytes()).map_err(|error| error.to_string())
});
static PLACE: Text =
    text("the absolute path of a folder, s3://BUCKET/PREFIX or s3:https://HOST/BUCKET/PREFIX", "^(/|s3:)", |place| {
        match S3Address::is_meant(place) {
            true => S3Address::parse(place, true).map(drop).map_err(|error| error.to_string()),
            false => (ABSOLUTE.check)(place),
        }
    });
static ABSOLUTE: Text = text("an absolute path", "^/", |path| match path.starts_with('/') {
    true => Ok(()),
    false => Err(format!("`{path}` is not an absolute path: a run may begin in any folder, so write it from `/` on")),
});
static SECRET_COMMAND: Text = Text { hidden: true, ..text("a shell command that prints it", "", not_empty) };
static VARIABLE: Text = text("the name of an environment variable", "^[A-Za-z_][A-Za-z0-9_]*$", |name| {
    let is_part = |c: char| c.is_ascii_alphanumeric() || c == '_';
    match !name.is_empty() && name.chars().all(is_part) && !name.starts_with(|c: char| c.is_ascii_digit()) {
        true => Ok(()),
        false => Err("this is not the name of an environment variable: write one such as SHOP_PASSWORD".to_owned()),
    }
});
static COMMAND: Text = text("a shell command", "", not_empty);
static POSTGRES_URL: Text = text("a URL, `key=value` words or the name of a database", "", links::check_postgres);
static MYSQL_URL: Text = text("a URL or the name of a database", "", links::check_mysql);
static SIZE: Text =
    Text { number: true, ..text("a size such as 500M or 10G", SIZE_PATTERN, |text| values::size(text).map(drop)) };
static RATE: Text = Text {
    number: true,
    ..text("a bandwidth in KiB a second, or such as 2M", SIZE_PATTERN, |text| values::rate(text).map(drop))
};
static DURATION: Text = Text {
    number: true,
    ..text("a span of time in seconds, or such as 30min or 2h", r"^([0-9]+(s|min|h|d|w)?)+$", |text| {
        values::duration(text).map(drop)
    })
};
static AGE: Text = text("an age such as 7d or 24h", r"^([0-9]+(y|m|w|d|h|min|s))+$", |text| {
    parse_age(text).map(drop).map_err(|error| error.to_string())
});
static SOME_AGE: Text =
    text("an age such as 7d or 24h", r"^([0-9]+(y|m|w|d|h|min|s))+$", |text| match parse_age(text) {
        Ok(age) if age == Age::default() => Err(format!("`{text}` is no time at all: nothing is that young")),
        read => read.map(drop).map_err(|error| error.to_string()),
    });
static YEARS: Text =
    text("an age of a year at least", r"^([0-9]+(y|m|w|d|h|min|s))+$", |text| values::log_age(text).map(drop));
static PERIOD: Text = text("a period such as 30d or 1y6m", r"^([0-9]+[ymwdh])+$", |text| {
    text.parse::<Period>().map(drop).map_err(|error| error.to_string())
});
static PERCENT: Text = text("a share such as 10%", r"^[0-9]+(\.[0-9]+)?\s*%$", |text| values::percent(text).map(drop));
static PART: Text = text("a share such as 1/30", "^[0-9]+/[0-9]+$", |text| values::share(text).map(drop));
static UNUSED: Text = text("a share such as 5%, a size or `unlimited`", "", |text| {
    text.parse::<MaxUnused>().map(drop).map_err(|error| error.to_string())
});
static TAG: Text = text("a tag", "^[^,]+$", |tag| {
    if tag.is_empty() || tag.contains(',') {
        return Err(format!("`{tag}` is not a tag: it has to be a text without commas"));
    }
    values::free_tag(tag)
});
static TAGS: Text = text("tags with commas between them", "", not_empty);
static OBJECT_TAG: Text = text("KEY=VALUE", "^[^=]+=", |text| values::tag(text).map(drop));
static ENCRYPTION: Text =
    text("AES256, aws:kms or aws:kms:KEY", "^(AES256|aws:kms(:.+)?)$", |text| values::encryption(text).map(drop));
static LOCK: Text =
    text("governance:DAYS or compliance:DAYS", "^(governance|compliance):[0-9]+$", |text| values::lock(text).map(drop));
static LEVEL: Text = Text {
    number: true,
    ..text("none, fast, default, max or a level from 1 to 22", "", |text| {
        Level::parse(text).map(drop).map_err(|error| error.to_string())
    })
};
static SCHEDULE: Text =
    text("a schedule in the five fields of crontab, or @daily", "", |text| Schedule::parse(text).map(drop));

const fn text(what: &'static str, pattern: &'static str, check: fn(&str) -> Result<(), String>) -> Text {
    Text { what, pattern, number: false, fraction: false, hidden: false, check }
}

fn not_empty(text: &str) -> Result<(), String> {
    if text.trim().is_empty() { Err("this is empty: say something, or leave the key out".to_owned()) } else { Ok(()) }
}

const fn key(name: &'static str, form: Form, default: &'static str, doc: &'static str) -> Key {
    Key { name, form, default, required: false, doc }
}

const fn needed(name: &'static str, form: Form, doc: &'static str) -> Key {
    Key { name, form, default: "", required: true, doc }
}

const NUMBER: Form = Form::Count { least: 0, most: 1_000_000 };
const WORKERS: Form = Form::Count { least: 1, most: 64 };
const PATHS: Form = Form::List(&Form::Text(&ABSOLUTE));
const TEXTS: Form = Form::List(&Form::Text(&PLAIN));
const PATTERNS: Form = Form::List(&Form::Text(&PATTERN));
const COMMANDS: Form = Form::List(&Form::Text(&COMMAND));

/// The whole file.
pub static ROOT: Section = Section {
    doc: "What the whole file is about.",
    keys: &[
        key(
            "state_dir",
            Form::Text(&ABSOLUTE),
            "",
            "Where a machine keeps what it has to remember of its runs [KEEPSTONE_STATE_DIR, or /var/lib/keepstone for root and ~/.local/state/keepstone for others]",
        ),
        key("history_keep", Form::Text(&AGE), "5y", "How long the history of runs is kept"),
        key(
            "log_file",
            Form::Text(&ABSOLUTE),
            "",
            "The operation log, a JSON object a line, if not `operations.jsonl` in `state_dir`",
        ),
        key("log_keep", Form::Text(&DURATION), "90d", "How long its lines are kept at least"),
        key("log_size", Form::Text(&SIZE), "10M", "How large it may grow before a new file is begun"),
        key(
            "protected",
            TEXTS,
            "",
            "Patterns of databases that no restore on this machine writes over or replaces, whatever is confirmed: `shop`, `*live*`",
        ),
        key("forecast", Form::Part(&outlook::FORECAST), "", "How `predict` guesses"),
        key(
            "prices",
            Form::Named(&outlook::PRICE),
            "",
            "What storage costs, by the name of a storage class or any other",
        ),
        key("repositories", Form::Named(&REPOSITORY), "", "Where backups go to, each repository by its name"),
        key("profiles", Form::Named(&PROFILE), "", "What must be safe, each profile by its name"),
        key("notify", Form::Part(&telling::NOTIFY), "", "How people can be told"),
        key("reports", Form::Part(&telling::REPORTS), "", "Reports that are sent by themselves"),
        key("metrics", Form::Part(&telling::METRICS), "", "Metrics for Prometheus"),
    ],
    one_of: &[],
};

/// Secrets that open what has one password only.
const THE_PASSWORD_FILE: Key =
    key("password_file", Form::Text(&ABSOLUTE), "", "The file whose first line is the password");
const THE_PASSWORD_COMMAND: Key =
    key("password_command", Form::Text(&SECRET_COMMAND), "", "The command whose first line of output is the password");
const THE_PASSWORD_ENV: Key =
    key("password_env", Form::Text(&VARIABLE), "", "The environment variable that holds the password");
const KEY_COMMAND: Key =
    key("key_command", Form::Text(&SECRET_COMMAND), "", "The command that prints a key, all of its output");
/// What opens a repository: one of these.
const OPENERS: &[&str] =
    &["password_file", "password_command", "password_env", "key_file", "key_command", "identity_file"];

pub(super) static REPOSITORY: Section = Section {
    doc: "A repository: where it is and what opens it. Passwords and keys never stand here themselves.",
    keys: &[
        needed("place", Form::Text(&PLACE), "Where it is"),
        THE_PASSWORD_FILE,
        THE_PASSWORD_COMMAND,
        THE_PASSWORD_ENV,
        key("key_file", Form::Text(&ABSOLUTE), "", "The key file that opens it in place of a password"),
        KEY_COMMAND,
        key(
            "identity_file",
            Form::Text(&ABSOLUTE),
            "",
            "The identity (AGE-SECRET-KEY-1…) whose recipient has a key slot",
        ),
        key("cache_dir", Form::Text(&ABSOLUTE), "", "Where local caches lie, if not where they lie otherwise"),
        key("cache_size", Form::Text(&SIZE), "1G", "How large the cache of a repository in a bucket may grow"),
        key("quota", Form::Text(&SIZE), "", "How large it may grow: `predict` says when"),
        key(
            "price",
            Form::Text(&PLAIN),
            "",
            "What it costs, by a name in `prices`; else by its storage class, or STANDARD",
        ),
        key("limit_upload", Form::Text(&RATE), "", "Send at most so much a second"),
        key("limit_download", Form::Text(&RATE), "", "Receive at most so much a second"),
        key("keys", Form::Optional(&upkeep::KEYS), "", "New keys by the calendar; without this table none"),
        key("s3", Form::Part(&S3), "", "How a bucket is talked to"),
    ],
    one_of: OPENERS,
};

static S3: Section = Section {
    doc: "How a bucket is talked to, and what is said of its objects; credentials come from where the AWS tools look for them.",
    keys: &[
        key("region", Form::Text(&PLAIN), "", "The region of the bucket"),
        key("ca", Form::Text(&ABSOLUTE), "", "A PEM file of authorities to trust too"),
        key("path_style", Form::Switch, "", "Name the bucket in the path and not in the host"),
        key(
            "checksums",
            Form::Word(&["when-supported", "when-required"]),
            "",
            "When checksums of S3 are added to our own",
        ),
        key("connections", Form::Count { least: 1, most: 1024 }, "", "So many requests at once at most"),
        key("tries", Form::Count { least: 1, most: 1000 }, "", "Try a request so often"),
        key("storage_class", Form::Text(&PLAIN), "", "The storage class of packs"),
        key("tags", Form::List(&Form::Text(&OBJECT_TAG)), "", "Tags of every stored object"),
        key("encryption", Form::Text(&ENCRYPTION), "", "How the server encrypts what it keeps"),
        key("object_lock", Form::Text(&LOCK), "", "Lock packs, snapshots and keys against deletion"),
        key("allow_plain_http", Form::Switch, "false", "Talk to a server on another machine without encryption"),
    ],
    one_of: &[],
};

pub(super) static PROFILE: Section = Section {
    doc: "A profile: what must be safe, where it goes and what belongs to a night. What an inherited profile says holds, \
          table by table and key by key, unless this one says otherwise; a list takes the place of a list.",
    keys: &[
        key(
            "inherit",
            TEXTS,
            "",
            "The profiles whose keys hold where this one says nothing; the last named counts most",
        ),
        key("repository", Form::Text(&PLAIN), "", "The repository, by its name"),
        key("host", Form::Text(&PLAIN), "", "The host's name in snapshots, if not this machine's"),
        key("description", Form::Text(&PLAIN), "", "What is said about its snapshots"),
        key("tags", Form::List(&Form::Text(&TAG)), "", "Tags of its snapshots"),
        key("schedule", Form::Text(&SCHEDULE), "", "When it should run, in local time"),
        key(
            "whole",
            Form::Text(&SCHEDULE),
            "",
            "When everything is to be read, also what looks unchanged, in local time: the first run after it does that",
        ),
        key("sources", Form::Part(&SOURCES), "", "What is backed up"),
        key("backup", Form::Part(&BACKUP), "", "How it is stored"),
        key("limits", Form::Part(&LIMITS), "", "How long, how often and beside how much"),
        key("load", Form::Part(&LOAD), "", "What a run leaves to others on this machine"),
        key(
            "protected",
            TEXTS,
            "",
            "Patterns of databases that no restore from its snapshots writes over or replaces, besides those at the top",
        ),
        key("retention", Form::Optional(&RETENTION), "", "Which of its snapshots stay; without this table all of them"),
        key("verify", Form::Optional(&VERIFY), "", "What is read back; without this table nothing"),
        key("prune", Form::Optional(&PRUNE), "", "Freeing space; without this table it follows `retention`"),
        key("drill", Form::Optional(&upkeep::DRILL), "", "Test restores; without this table none"),
        key("maintenance", Form::Optional(&upkeep::MAINTENANCE), "", "Upkeep of databases; without this table none"),
        key("hooks", Form::Part(&HOOKS), "", "Commands around the backup and around restores"),
        key("notify", Form::Part(&telling::TELL), "", "Whom it tells"),
        key("alerts", Form::Part(&telling::ALERTS), "", "What is worth telling"),
    ],
    one_of: &[],
};

static SOURCES: Section = Section {
    doc: "What is backed up, all in one snapshot. A source that cannot be read makes the snapshot partial; the others go on.",
    keys: &[
        key("paths", PATHS, "", "Files and directories"),
        key("exclude", PATTERNS, "", "Patterns of what is left out"),
        key("iexclude", PATTERNS, "", "The same, whether letters are large or small"),
        key("exclude_file", PATHS, "", "Files with such patterns, one a line"),
        key("iexclude_file", PATHS, "", "The same, whether letters are large or small"),
        key("exclude_caches", Form::Switch, "false", "Leave out the content of directories with a CACHEDIR.TAG"),
        key(
            "exclude_if_present",
            TEXTS,
            "",
            "Leave out the content of directories that hold such a file: NAME or NAME:HEADER",
        ),
        key("exclude_larger_than", Form::Text(&SIZE), "", "Leave out larger files"),
        key("one_file_system", Form::Switch, "false", "Stay on the file systems of the paths"),
        key("validate_dumps", Form::Switch, "false", "Look into files that are database dumps"),
        key(
            "postgres",
            Form::Named(&POSTGRES),
            "",
            "Databases of PostgreSQL, each by the name that it has in snapshots",
        ),
        key("mysql", Form::Named(&MYSQL), "", "Databases of MySQL or MariaDB"),
        key("command", Form::Named(&COMMAND_SOURCE), "", "Commands whose output is kept"),
    ],
    one_of: &[],
};

const URL_DOC: &str = "The server and the database; a password never stands here";
const PASSWORD_FILE: Key = key("password_file", Form::Text(&ABSOLUTE), "", "The file whose first line is its password");
const PASSWORD_COMMAND: Key =
    key("password_command", Form::Text(&SECRET_COMMAND), "", "The command whose first line of output is its password");
const PASSWORD_ENV: Key =
    key("password_env", Form::Text(&VARIABLE), "", "The environment variable that holds its password");
const PASSWORDS: &[&str] = &["password_file", "password_command", "password_env"];
const PROGRAMS: Key = key(
    "programs",
    Form::Text(&ABSOLUTE),
    "",
    "The folder of the server's client programs, if not found by themselves",
);
const ALL_DATABASES: Key =
    key("all_databases", Form::Switch, "false", "Every database of the server, each called after itself");
const INCLUDE_TABLE: Key = key("include_table", TEXTS, "", "Only tables that match these patterns");
const EXCLUDE_TABLE: Key = key("exclude_table", TEXTS, "", "All tables but those that match");
const EXCLUDE_TABLE_DATA: Key = key("exclude_table_data", TEXTS, "", "Of tables that match only the definition");
const CONTENT: Key =
    key("content", Form::Word(&["all", "schema", "data"]), "all", "Definitions and rows, or one of them");
const GLOBALS: Key = key("globals", Form::Switch, "true", "Also roles, tablespaces, users and grants of the server");

static POSTGRES: Section = Section {
    doc: "A database of PostgreSQL.",
    keys: &[
        needed("url", Form::Text(&POSTGRES_URL), URL_DOC),
        PASSWORD_FILE,
        PASSWORD_COMMAND,
        PASSWORD_ENV,
        ALL_DATABASES,
        INCLUDE_TABLE,
        EXCLUDE_TABLE,
        EXCLUDE_TABLE_DATA,
        key("schema", TEXTS, "", "Only schemas that match"),
        key("exclude_schema", TEXTS, "", "All schemas but those that match"),
        CONTENT,
        GLOBALS,
        key("primary_key_order", Form::Switch, "false", "Read tables in the order of their primary keys"),
        key("workers", WORKERS, "2", "So many tables at once"),
        key("lock_timeout", Form::Text(&DURATION), "60", "Wait so long for a table that somebody else has locked"),
        PROGRAMS,
    ],
    one_of: PASSWORDS,
};

static MYSQL: Section = Section {
    doc: "A database of MySQL or MariaDB.",
    keys: &[
        needed("url", Form::Text(&MYSQL_URL), URL_DOC),
        PASSWORD_FILE,
        PASSWORD_COMMAND,
        PASSWORD_ENV,
        ALL_DATABASES,
        INCLUDE_TABLE,
        EXCLUDE_TABLE,
        EXCLUDE_TABLE_DATA,
        CONTENT,
        GLOBALS,
    ],
    one_of: PASSWORDS,
};

static COMMAND_SOURCE: Section = Section {
    doc: "A command whose output is kept as the file `/@command/NAME`. One that fails makes the snapshot partial.",
    keys: &[needed("run", Form::Text(&COMMAND), "The shell command")],
    one_of: &[],
};

static BACKUP: Section = Section {
    doc: "How content is stored.",
    keys: &[
        key("compression", Form::Text(&LEVEL), "default", "How hard to compress"),
        key("deltas", Form::Switch, "true", "Store content as the difference to similar content"),
        key("base_cache", Form::Text(&SIZE), "1G", "How large the local cache of delta bases may grow"),
        key("ignore_inode", Form::Switch, "false", "Inode numbers do not tell whether a file changed"),
        key("ignore_ctime", Form::Switch, "false", "Change times of inodes do not tell whether a file changed"),
    ],
    one_of: &[],
};

static LIMITS: Section = Section {
    doc: "How long, how often and beside how much.",
    keys: &[
        key("attempts", Form::Count { least: 1, most: 1000 }, "3", "Try a database whose failure may pass so often"),
        key("parallel", WORKERS, "3", "So many databases and commands at once"),
        key("source_timeout", Form::Text(&DURATION), "3600", "Give up on a database or command that takes longer"),
        key(
            "timeout",
            Form::Text(&DURATION),
            "",
            "Give up on databases and commands that have not ended after this time, all together",
        ),
        key("min_free", Form::Text(&SIZE), "1G", "Do not begin where less is free, for the repository or its cache"),
        key("ignore_free_space", Form::Switch, "false", "Begin even if databases are far larger than what is free"),
    ],
    one_of: &[],
};

static LOAD: Section = Section {
    doc: "What a run leaves to others: its priorities, and bounds near which it slows down and above which it stands still. Pressure is the share of the last \
          ten seconds in which some task waited (Linux: `/proc/pressure`), those of the run itself included.",
    keys: &[
        key("nice", Form::Count { least: 0, most: 19 }, "", "Give the run a lower priority for processors"),
        key("ionice", Form::Word(&["idle", "low"]), "", "Give it a lower priority for disks, with the program ionice"),
        key("cpu", Form::Text(&PERCENT), "", "Stand still while tasks wait for processors for more than this share"),
        key("memory", Form::Text(&PERCENT), "", "The same for memory"),
        key("io", Form::Text(&PERCENT), "", "The same for disks"),
        key(
            "replication_lag",
            Form::Text(&DURATION),
            "",
            "Stand still while a replica of a PostgreSQL server that is backed up is further behind",
        ),
        key(
            "longest_pause",
            Form::Text(&DURATION),
            "10min",
            "Go on after this time all the same, and for as long before the next pause; `source_timeout` goes on meanwhile",
        ),
    ],
    one_of: &[],
};

static RETENTION: Section = Section {
    doc: "Which snapshots of this profile stay; those of others are never touched. It has to keep something.",
    keys: &[
        key("last", NUMBER, "", "The newest so many"),
        key("hourly", NUMBER, "", "The newest of each of the last so many hours that have one"),
        key("daily", NUMBER, "", "The same for days"),
        key("weekly", NUMBER, "", "The same for weeks"),
        key("monthly", NUMBER, "", "The same for months"),
        key("yearly", NUMBER, "", "The same for years"),
        key("within", Form::Text(&PERIOD), "", "All that are at most this much older than the newest"),
        key("within_hourly", Form::Text(&PERIOD), "", "Of those the newest of each hour"),
        key("within_daily", Form::Text(&PERIOD), "", "The same for days"),
        key("within_weekly", Form::Text(&PERIOD), "", "The same for weeks"),
        key("within_monthly", Form::Text(&PERIOD), "", "The same for months"),
        key("within_yearly", Form::Text(&PERIOD), "", "The same for years"),
        key("tags", Form::List(&Form::Text(&TAGS)), "", "All that have every tag of one of these"),
    ],
    one_of: &[],
};

const DUE: &str = "When it is due, in local time: then the first run after it does it; without this every run";

static VERIFY: Section = Section {
    doc: "What is read back and compared: packs whose turn it is, or all that new snapshots need.",
    keys: &[
        key("schedule", Form::Text(&SCHEDULE), "", DUE),
        key("newer_than", Form::Text(&SOME_AGE), "", "All content of snapshots of this profile that are younger"),
        key("budget", Form::Text(&SIZE), "", "Packs of so many bytes, those that were read longest ago first"),
        key("share", Form::Text(&PART), "", "Such a share of all packs, those that were read longest ago first"),
        key("max_time", Form::Text(&DURATION), "", "Packs for so long, those that were read longest ago first"),
    ],
    one_of: &[],
};

static PRUNE: Section = Section {
    doc: "Deleting what no snapshot needs any more.",
    keys: &[
        key("schedule", Form::Text(&SCHEDULE), "", DUE),
        key("max_unused", Form::Text(&UNUSED), "5%", "How much that nobody needs may stay in packs"),
        key("max_repack", Form::Text(&SIZE), "", "Write at most this much anew in one run"),
        key("keep_log", Form::Text(&YEARS), "", "Drop records of operations that are older"),
    ],
    one_of: &[],
};

const HOOK_TIMEOUT: Key =
    key("timeout", Form::Text(&DURATION), "600", "Give up on a command that takes longer; it has failed then");

static HOOKS: Section = Section {
    doc: "Shell commands around the backup. They find KEEPSTONE_PROFILE in their environment, those after it also \
          KEEPSTONE_OUTCOME (done, partial, damage, failed, …), KEEPSTONE_SNAPSHOT and KEEPSTONE_MESSAGE.",
    keys: &[
        key("before", COMMANDS, "", "Before the backup; if one fails, nothing is backed up"),
        key("after", COMMANDS, "", "After a backup that made a snapshot, also a partial one"),
        key("failed", COMMANDS, "", "After a backup that made none"),
        key("finally", COMMANDS, "", "After the backup, however it ended"),
        HOOK_TIMEOUT,
        key("restore", Form::Part(&RESTORE_HOOKS), "", "Commands around restores"),
    ],
    one_of: &[],
};

static RESTORE_HOOKS: Section = Section {
    doc: "Shell commands around `keepstone --profile NAME restore`. They find KEEPSTONE_PROFILE, KEEPSTONE_SNAPSHOT and \
          KEEPSTONE_DATABASE or KEEPSTONE_TARGET (the folder) in their environment, those after it also KEEPSTONE_OUTCOME \
          (done, partial, damage or failed) and KEEPSTONE_MESSAGE. A restore that only looks (`--dry-run`, `--validate-only`) \
          runs none.",
    keys: &[
        key("before", COMMANDS, "", "Before anything is written; if one fails, nothing is"),
        key("after", COMMANDS, "", "After a restore that wrote all of it"),
        key("failed", COMMANDS, "", "After one that did not"),
        key("finally", COMMANDS, "", "After a restore, however it ended"),
        HOOK_TIMEOUT,
    ],
    one_of: &[],
};
