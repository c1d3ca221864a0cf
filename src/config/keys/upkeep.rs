//! Keys of what is done now and then besides the backup: drills of several sorts, upkeep of databases, new keys.

use super::{
    ABSOLUTE, DUE, DURATION, KEY_COMMAND, MYSQL_URL, OPENERS, PASSWORD_COMMAND, PASSWORD_ENV, PASSWORD_FILE, PASSWORDS,
    PERCENT, POSTGRES_URL, PROGRAMS, SCHEDULE, SIZE, TEXTS, THE_PASSWORD_COMMAND, THE_PASSWORD_ENV, THE_PASSWORD_FILE,
    URL_DOC, WORKERS, key, needed,
};
use crate::config::describe::{Form, Key, Section};

const WHEN: &str = "When it is due, in local time, if not when `drill.schedule` says";
const OWN_SCHEDULE: Key = key("schedule", Form::Text(&SCHEDULE), "", WHEN);
const OWN_SAMPLE: Key = key("sample", Form::Text(&PERCENT), "", "As in `drill`, where it says otherwise");
const OWN_FULL: Key = key("full", Form::Switch, "", "As in `drill`, where it says otherwise");

pub(in crate::config) static DRILL: Section = Section {
    doc: "A test restore of the newest complete snapshot, compared with what it promises.",
    keys: &[
        key("schedule", Form::Text(&SCHEDULE), "", DUE),
        key(
            "sample",
            Form::Text(&PERCENT),
            "10%",
            "Compare the content of such a share of tables and files; rows are counted always",
        ),
        key("full", Form::Switch, "false", "Compare the content of everything"),
        key("files", Form::Switch, "true", "Try files too"),
        key("databases", TEXTS, "", "Only these dumps, by name"),
        key("allow_source_server", Form::Switch, "false", "Also on the very server that a dump was taken from"),
        key("jobs", WORKERS, "2", "So many tables and indexes at once"),
        key("temp_dir", Form::Text(&ABSOLUTE), "", "Where files lie for a moment, if not in $TMPDIR"),
        key("search_path", TEXTS, "", "Schemas in which PostgreSQL looks for names that functions say without one"),
        key("postgres", Form::Optional(&POSTGRES_SERVER), "", "The server on which dumps of PostgreSQL are tried"),
        key("mysql", Form::Optional(&MYSQL_SERVER), "", "The server on which dumps of MySQL and MariaDB are tried"),
        key("scenarios", Form::Optional(&SCENARIOS), "", "Several drills in place of one"),
    ],
    one_of: &[],
};

static SCENARIOS: Section = Section {
    doc: "Several drills in place of one, each a phase of its own (`drill_database`, …) with a result of its own. The keys of \
          `drill` say what they have in common.",
    keys: &[
        key("database", Form::Optional(&WHOLE_DATABASE), "", "Whole databases come back"),
        key("table", Form::Optional(&ONE_TABLE), "", "One table comes back"),
        key("files", Form::Optional(&FILES_ONLY), "", "Files come back"),
        key("machine", Form::Optional(&BARE_MACHINE), "", "All comes back to a bare machine"),
    ],
    one_of: &[],
};

static WHOLE_DATABASE: Section = Section {
    doc: "Each database is restored whole and compared.",
    keys: &[
        OWN_SCHEDULE,
        OWN_SAMPLE,
        OWN_FULL,
        key("databases", TEXTS, "", "Only these dumps, if not those of `drill`"),
    ],
    one_of: &[],
};

static ONE_TABLE: Section = Section {
    doc: "One table comes back. All definitions of its database are made, and its rows are written, counted and \
          compared.",
    keys: &[
        OWN_SCHEDULE,
        key("databases", TEXTS, "", "Only of these dumps, if not of those of `drill`"),
        key("tables", TEXTS, "", "These, as `SCHEMA.TABLE` or `TABLE`; otherwise one of each dump, by lot"),
    ],
    one_of: &[],
};

static FILES_ONLY: Section =
    Section { doc: "Files are restored and compared.", keys: &[OWN_SCHEDULE, OWN_SAMPLE, OWN_FULL], one_of: &[] };

static BARE_MACHINE: Section = Section {
    doc: "This machine is gone. The repository is opened with the key that is kept for that day, with an empty cache; \
          the history of runs is made anew from its records; then databases and files are tried as in `drill`. Without one \
          of these keys it is opened as always.",
    keys: &[
        OWN_SCHEDULE,
        OWN_SAMPLE,
        OWN_FULL,
        THE_PASSWORD_FILE,
        THE_PASSWORD_COMMAND,
        THE_PASSWORD_ENV,
        key("key_file", Form::Text(&ABSOLUTE), "", "The key file that opens it"),
        KEY_COMMAND,
        key("identity_file", Form::Text(&ABSOLUTE), "", "The identity (AGE-SECRET-KEY-1…) that opens it"),
    ],
    one_of: OPENERS,
};

static POSTGRES_SERVER: Section = Section {
    doc: "A server for drills; databases for a moment are made on it.",
    keys: &[needed("url", Form::Text(&POSTGRES_URL), URL_DOC), PASSWORD_FILE, PASSWORD_COMMAND, PASSWORD_ENV, PROGRAMS],
    one_of: PASSWORDS,
};

static MYSQL_SERVER: Section = Section {
    doc: "A server for drills; databases for a moment are made on it.",
    keys: &[needed("url", Form::Text(&MYSQL_URL), URL_DOC), PASSWORD_FILE, PASSWORD_COMMAND, PASSWORD_ENV],
    one_of: PASSWORDS,
};

pub(in crate::config) static MAINTENANCE: Section = Section {
    doc: "Upkeep of databases after a backup that lacks nothing. It is done table by table; what fails is a problem of the run \
          (exit code 3) and costs the backup nothing.",
    keys: &[
        key("schedule", Form::Text(&SCHEDULE), "", DUE),
        key("timeout", Form::Text(&DURATION), "1h", "Stop after this time, all databases together"),
        key("lock_timeout", Form::Text(&DURATION), "60", "Wait so long for a table that somebody else has locked"),
        key(
            "postgres",
            Form::Named(&KEPT_POSTGRES),
            "",
            "Databases of PostgreSQL; one that is called like a source is that one",
        ),
        key("mysql", Form::Named(&KEPT_MYSQL), "", "Databases of MySQL or MariaDB; the same"),
    ],
    one_of: &[],
};

const KEPT_URL: &str = "The server and the database, if it is not the source of this name, or with another role";

static KEPT_POSTGRES: Section = Section {
    doc: "Upkeep of a database of PostgreSQL. The role has to own the tables (or to have MAINTAIN, PostgreSQL 17).",
    keys: &[
        key("run", Form::List(&Form::Word(&["vacuum", "analyze"])), "", "What is done; without it both"),
        key("url", Form::Text(&POSTGRES_URL), "", KEPT_URL),
        PASSWORD_FILE,
        PASSWORD_COMMAND,
        PASSWORD_ENV,
    ],
    one_of: PASSWORDS,
};

static KEPT_MYSQL: Section = Section {
    doc: "Upkeep of a database of MySQL or MariaDB. The user needs SELECT and INSERT; `optimize` makes InnoDB tables anew and \
          needs their room.",
    keys: &[
        key("run", Form::List(&Form::Word(&["analyze", "optimize"])), "", "What is done; without it `analyze`"),
        key("url", Form::Text(&MYSQL_URL), "", KEPT_URL),
        PASSWORD_FILE,
        PASSWORD_COMMAND,
        PASSWORD_ENV,
    ],
    one_of: PASSWORDS,
};

pub(in crate::config) static KEYS: Section = Section {
    doc: "New keys by the calendar, at the end of a night of any profile that uses the repository.",
    keys: &[
        key(
            "rotate",
            Form::Text(&SCHEDULE),
            "",
            "Open a new epoch of keys when the newest is older than the last of these times, in local time",
        ),
        key(
            "reseal",
            Form::Text(&SIZE),
            "",
            "Seal so many bytes of packs under older keys anew in a night, the newest first, until none is left",
        ),
    ],
    one_of: &[],
};
