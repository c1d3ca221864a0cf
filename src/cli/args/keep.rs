//! The arguments of commands that look after a repository: `init`, `tag`, `forget`, `prune` and the rest.

use super::values::size;
use super::{Filters, Opened};
use crate::format::parity::Share;
use clap::Args;
use std::ffi::OsString;
use std::path::PathBuf;

/// Make a new repository.
#[derive(Clone, Debug, Args)]
#[command(after_help = "\
Examples:
  keepstone -r /backup/vault init
  keepstone -r /backup/vault --password-file ~/.keepstone-password init
  keepstone -r /backup/vault init --generate-key-file /media/stick/vault.key
  keepstone -r s3://offsite/vault init --from /backup/vault
  keepstone -r /backup/vault init --parity 5%

Without the password or a key nobody can read the backups, also not you: keep it in a second place.")]
pub struct Init {
    /// How it will be opened.
    #[command(flatten)]
    pub new: NewRepository,
    /// Cut and name content as this repository does, so that copies between the two share chunks
    #[arg(long, visible_alias = "from-repo", value_name = "PLACE", help_heading = "The other repository")]
    pub from: Option<PathBuf>,
    /// How that one is opened.
    #[command(flatten)]
    pub opened: Opened,
}

/// How a new repository will be opened.
#[derive(Clone, Debug, Args)]
pub struct NewRepository {
    /// Make a key file that opens the repository in place of a password
    #[arg(long, value_name = "FILE", help_heading = "A new repository")]
    pub generate_key_file: Option<PathBuf>,
    /// What the stretching of the password costs.
    #[command(flatten)]
    pub cost: KdfCost,
    /// Store a sidecar with each pack, with which so much of it can be made anew when it gets damaged: 5%
    #[arg(long, value_name = "SHARE", help_heading = "A new repository")]
    pub parity: Option<Share>,
}

/// What the stretching of a password costs whoever tries one.
#[derive(Clone, Copy, Debug, Args)]
pub struct KdfCost {
    /// Memory that stretching the password takes (argon2id), at most 64M
    #[arg(long, value_name = "SIZE", default_value = "64M", value_parser = size, help_heading = "A new password")]
    pub kdf_memory: u64,
    /// Passes over that memory, at most 16
    #[arg(long, value_name = "N", default_value_t = 3, help_heading = "A new password")]
    pub kdf_passes: u32,
}

/// Make the index anew from the packs.
#[derive(Debug, Args)]
#[command(
    after_help = "Example:\n  keepstone rebuild-index\n\nEvery pack's directory is read; snapshots and packs stay untouched."
)]
pub struct RebuildIndex {}

/// Change the tags of snapshots.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  keepstone tag --add keep latest
  keepstone tag --remove nightly 5f2a91c4 9be07d11
  keepstone tag --set release,2025 latest~1

A snapshot is never changed: one with the new tags takes its place and has an id of its own.")]
pub struct Tag {
    /// The snapshots
    #[arg(value_name = "SNAP", required = true)]
    pub snapshots: Vec<OsString>,
    /// Tags to add
    #[arg(long, value_name = "TAG", value_delimiter = ',', required_unless_present_any = ["remove", "set"])]
    pub add: Vec<String>,
    /// Tags to take away
    #[arg(long, value_name = "TAG", value_delimiter = ',')]
    pub remove: Vec<String>,
    /// The tags from now on; an empty text for none
    #[arg(long, value_name = "TAG", value_delimiter = ',', conflicts_with_all = ["add", "remove"])]
    pub set: Option<Vec<String>>,
    /// Among which they are looked for.
    #[command(flatten)]
    pub filters: Filters,
}

/// Remove snapshots, by name or by a policy.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  keepstone forget --keep-daily 7 --keep-weekly 5 --keep-monthly 12 --dry-run
  keepstone forget --keep-last 10 --host web1 --prune
  keepstone forget 5f2a91c4

A policy is applied to each group of snapshots on its own (same host and paths, unless --group-by \
says otherwise). One that would keep nothing is refused. The newest complete snapshot of a group \
stays whatever the policy says (`newest complete`), and so does one that claims to be from the \
future. While a rule has not used up its number or its age, it keeps the oldest of the group too \
(`oldest daily`, …); where snapshots claim another time than that at which they were stored, also \
the oldest of the others. Space is freed by `keepstone prune`, or with --prune at once.")]
pub struct Forget {
    /// Remove these snapshots
    #[arg(value_name = "SNAP")]
    pub snapshots: Vec<OsString>,
    /// What stays.
    #[command(flatten)]
    pub keep: Keep,
    /// What makes a group: any of host, paths, tags, separated by commas; empty for one group of all
    #[arg(short, long, value_name = "BY", default_value = "host,paths")]
    pub group_by: String,
    /// Remove nothing; say what would be removed
    #[arg(short = 'n', long)]
    pub dry_run: bool,
    /// Then delete what no snapshot needs any more
    #[arg(long)]
    pub prune: bool,
    /// Which snapshots the policy is for.
    #[command(flatten)]
    pub filters: Filters,
}

/// Rules of what stays.
#[derive(Debug, Args)]
pub struct Keep {
    /// Keep the newest N
    #[arg(short = 'l', long, value_name = "N", value_parser = count, help_heading = "What to keep")]
    pub keep_last: Option<u32>,
    /// Keep the newest of each of the last N hours that have one
    #[arg(long, value_name = "N", value_parser = count, help_heading = "What to keep")]
    pub keep_hourly: Option<u32>,
    /// Keep the newest of each of the last N days that have one
    #[arg(short = 'd', long, value_name = "N", value_parser = count, help_heading = "What to keep")]
    pub keep_daily: Option<u32>,
    /// Keep the newest of each of the last N weeks that have one
    #[arg(short = 'w', long, value_name = "N", value_parser = count, help_heading = "What to keep")]
    pub keep_weekly: Option<u32>,
    /// Keep the newest of each of the last N months that have one
    #[arg(short = 'm', long, value_name = "N", value_parser = count, help_heading = "What to keep")]
    pub keep_monthly: Option<u32>,
    /// Keep the newest of each of the last N years that have one
    #[arg(short = 'y', long, value_name = "N", value_parser = count, help_heading = "What to keep")]
    pub keep_yearly: Option<u32>,
    /// Keep all that are at most this much older than the newest: 30d, 1y6m
    #[arg(long, value_name = "AGE", help_heading = "What to keep")]
    pub keep_within: Option<String>,
    /// Keep hourly ones within this age
    #[arg(long, value_name = "AGE", help_heading = "What to keep")]
    pub keep_within_hourly: Option<String>,
    /// Keep daily ones within this age
    #[arg(long, value_name = "AGE", help_heading = "What to keep")]
    pub keep_within_daily: Option<String>,
    /// Keep weekly ones within this age
    #[arg(long, value_name = "AGE", help_heading = "What to keep")]
    pub keep_within_weekly: Option<String>,
    /// Keep monthly ones within this age
    #[arg(long, value_name = "AGE", help_heading = "What to keep")]
    pub keep_within_monthly: Option<String>,
    /// Keep yearly ones within this age
    #[arg(long, value_name = "AGE", help_heading = "What to keep")]
    pub keep_within_yearly: Option<String>,
    /// Keep those with all of these tags, separated by commas (may be repeated: any such list)
    #[arg(long, value_name = "TAG,…", help_heading = "What to keep")]
    pub keep_tag: Vec<String>,
}

/// A number to keep; `unlimited` for all.
fn count(text: &str) -> Result<u32, String> {
    match text {
        "unlimited" => Ok(u32::MAX),
        _ => text.parse().map_err(|_| format!("`{text}` is not a number to keep: write 7, or unlimited")),
    }
}

/// Delete what no snapshot needs any more.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  keepstone prune --dry-run
  keepstone prune --max-unused 10% --max-repack 5G
  keepstone prune --keep-log 5y

Runs beside backups and other prunes. What a backup that began before may count on is deleted by the first prune \
after its end.")]
pub struct Prune {
    /// How much unused content may stay where it is, what unused differences hang on included: 5%, 100M or unlimited
    #[arg(long, value_name = "LIMIT", default_value = "5%")]
    pub max_unused: String,
    /// Write at most this much anew in one run
    #[arg(long, value_name = "SIZE", value_parser = size)]
    pub max_repack: Option<u64>,
    /// Drop records of operations that are older than this, a year at least [default: keep all]
    #[arg(long, value_name = "AGE")]
    pub keep_log: Option<String>,
    /// Make what stays locked for as long as --s3-object-lock says, from now on
    #[arg(long, conflicts_with = "dry_run")]
    pub extend_lock: bool,
    /// Take snapshots for forgotten that are gone and that no record tells of having been forgotten
    #[arg(long)]
    pub forget_gone: bool,
    /// Delete nothing; say what would be deleted
    #[arg(short = 'n', long)]
    pub dry_run: bool,
}

/// Print completions for a shell.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  keepstone completions bash > /usr/share/bash-completion/completions/keepstone
  keepstone completions fish > ~/.config/fish/completions/keepstone.fish")]
pub struct Completions {
    /// The shell
    #[arg(value_name = "SHELL")]
    pub shell: clap_complete::Shell,
}
