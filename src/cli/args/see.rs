//! The arguments of commands that look: `snapshots`, `show`, `ls`, `find`, `diff`, `stats`, `info`, `cat`.

use super::values::{size, time};
use crate::base::Timestamp;
use clap::{Args, ValueEnum};
use std::ffi::OsString;

/// Which snapshots are meant.
#[derive(Clone, Debug, Default, Args)]
pub struct Filters {
    /// Only snapshots of this host (may be repeated: any of them)
    #[arg(short = 'H', long, value_name = "NAME", help_heading = "Which snapshots")]
    pub host: Vec<String>,
    /// Only snapshots with all of these tags, separated by commas (may be repeated: any such list)
    #[arg(long, value_name = "TAG,…", help_heading = "Which snapshots")]
    pub tag: Vec<String>,
    /// Only snapshots of this path (may be repeated: all of them)
    #[arg(long, value_name = "PATH", help_heading = "Which snapshots")]
    pub path: Vec<OsString>,
}

/// What a snapshot holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum SnapshotKind {
    /// File trees
    Files,
    /// Databases
    Db,
    /// The output of a command, or standard input
    Command,
}

/// What is known of a snapshot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum SnapshotState {
    /// It was never read whole
    Unverified,
    /// All that it needs was read and is whole
    Verified,
    /// Something that it needs is damaged
    Damaged,
    /// It came back in a drill after it was read last
    Drilled,
}

/// List snapshots.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  keepstone snapshots
  keepstone snapshots --host web1 --tag nightly --newer-than 30d
  keepstone snapshots --state unverified --state damaged
  keepstone snapshots --latest 1 --json

Verified says when the first of all that a snapshot needs was read, counted from now: unverified, verified 3d, damaged 2h, \
drilled 1d (it came back in a drill after that).")]
pub struct Snapshots {
    /// Only these
    #[arg(value_name = "SNAP")]
    pub snapshots: Vec<OsString>,
    /// Which are meant.
    #[command(flatten)]
    pub filters: Filters,
    /// Only snapshots of this kind
    #[arg(long, value_name = "KIND", help_heading = "Which snapshots")]
    pub kind: Option<SnapshotKind>,
    /// Only snapshots younger than this: 12h, 30d, 1y6m
    #[arg(long, value_name = "AGE", help_heading = "Which snapshots")]
    pub newer_than: Option<String>,
    /// Only snapshots of which this is known
    #[arg(long, value_name = "STATE", help_heading = "Which snapshots")]
    pub state: Vec<SnapshotState>,
    /// Only the newest N of each host and paths
    #[arg(long, value_name = "N", help_heading = "Which snapshots")]
    pub latest: Option<usize>,
}

/// Show all that is known of one snapshot.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  keepstone show latest
  keepstone show 5f2a91c4 --json

SNAP is `latest`, `latest~2` (the third newest), `latest-verified`, an id or its first digits.")]
pub struct Show {
    /// The snapshot
    #[arg(value_name = "SNAP", default_value = "latest")]
    pub snapshot: OsString,
    /// Among which it is looked for.
    #[command(flatten)]
    pub filters: Filters,
}

/// List the files of a snapshot.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  keepstone ls latest
  keepstone ls latest /home/ann --long
  keepstone ls latest:/home/ann --recursive --json")]
pub struct Ls {
    /// The snapshot, and where in it to begin
    #[arg(value_name = "SNAP[:PATH]")]
    pub snapshot: OsString,
    /// Only what lies directly in these directories [default: everything]
    #[arg(value_name = "DIR")]
    pub directories: Vec<OsString>,
    /// With mode, owner, size and time
    #[arg(short, long)]
    pub long: bool,
    /// What lies beneath the directories too
    #[arg(long)]
    pub recursive: bool,
    /// Among which it is looked for.
    #[command(flatten)]
    pub filters: Filters,
}

/// Find files in snapshots by name.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  keepstone find 'report*.odt'
  keepstone find '*.sql' --snapshot latest --larger 1M
  keepstone find '/home/*/.ssh' --ignore-case --json")]
pub struct Find {
    /// What to look for: a name or a path with wildcards
    #[arg(value_name = "PATTERN", required = true)]
    pub patterns: Vec<OsString>,
    /// Only in these snapshots (may be repeated) [default: all]
    #[arg(short, long = "snapshot", value_name = "SNAP")]
    pub snapshots: Vec<OsString>,
    /// Large and small letters are the same
    #[arg(short, long)]
    pub ignore_case: bool,
    /// Only what was changed after this time
    #[arg(short = 'N', long, value_name = "TIME", value_parser = time)]
    pub newer: Option<Timestamp>,
    /// With mode, owner, size and time
    #[arg(short, long)]
    pub long: bool,
    /// Only files of at least this size
    #[arg(long, value_name = "SIZE", value_parser = size)]
    pub larger: Option<u64>,
    /// Among which snapshots.
    #[command(flatten)]
    pub filters: Filters,
}

/// Compare two snapshots.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  keepstone diff latest~1 latest
  keepstone diff 5f2a91c4:/etc 9be07d11:/etc --metadata")]
pub struct Diff {
    /// The older one
    #[arg(value_name = "SNAP[:PATH]")]
    pub old: OsString,
    /// The newer one
    #[arg(value_name = "SNAP[:PATH]")]
    pub new: OsString,
    /// Show also what changed in metadata only
    #[arg(long)]
    pub metadata: bool,
    /// Among which they are looked for.
    #[command(flatten)]
    pub filters: Filters,
}

/// Say what the repository holds and what it takes.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  keepstone stats
  keepstone stats latest --json")]
pub struct Stats {
    /// Only what these snapshots hold [default: all]
    #[arg(value_name = "SNAP")]
    pub snapshots: Vec<OsString>,
    /// Among which they are looked for.
    #[command(flatten)]
    pub filters: Filters,
}

/// Totals, and counts per day, week and month.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  keepstone info
  keepstone info --json")]
pub struct Info {}

/// Print an object of the repository as it is, decrypted.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  keepstone cat config
  keepstone cat snapshot latest
  keepstone cat blob 3fa9…64 digits… > blob.bin")]
pub struct Cat {
    /// Its kind: config, snapshot, tree, blob, pack, segment, key, session, run or condemned
    #[arg(value_name = "KIND")]
    pub kind: String,
    /// Its id (for a snapshot also `latest` and the like)
    #[arg(value_name = "ID", default_value = "", hide_default_value = true)]
    pub id: String,
}
