//! What may be said on the command line: clap's only door.
//!
//! Everything here is text as it was given, checked for its form; what it means is the commands' business. Secrets
//! are never arguments: an argument stands in the process list.

mod backup;
mod config;
mod copy;
mod databases;
mod health;
mod history;
mod keep;
mod key;
mod log;
mod metrics;
mod notify;
mod predict;
mod probe;
mod repair;
mod report;
mod restore;
mod run;
mod s3;
mod see;
mod store;
pub mod values;
mod ways_back;

pub use backup::{Backup, Compression};
pub use config::{Config, ConfigCommand, ConfigInit};
pub use copy::{Copy, Opened};
pub use databases::{Databases, Named, Parts};
pub use health::Health;
pub use history::{Ended, History, HistoryCommand};
pub use keep::{Completions, Forget, Init, KdfCost, Keep, NewRepository, Prune, RebuildIndex, Tag};
pub use key::{Key, KeyCommand, NewSecret, SheetFormat};
pub use log::{Log, LogCommand, LogLocal, RunOutcome};
pub use metrics::Metrics;
pub use notify::{Notify, NotifyCommand};
pub use predict::{Guess, Predict};
pub use probe::Probe;
pub use repair::{Parity, ParityShare, Repair, RepairCommand, RepairFrom};
pub use report::{Report, ReportFormat, ReportPeriod};
pub use restore::{DatabaseFormat, Dump, DumpFormat, Overwrite, Restore, Verify, VerifyPacks};
pub use run::{Alone, Run, StartedBy};
pub use s3::{S3, Switch, When};
pub use see::{Cat, Diff, Filters, Find, Info, Ls, Show, SnapshotKind, SnapshotState, Snapshots, Stats};
pub use store::{ObjectKind, Store, StoreCommand, StoreLs};
pub use ways_back::{Drill, Phase, ToDatabase};

use super::exit::Exit;
use super::print::{json_error, say};
use crate::config::meant::Origin;
use clap::{Args, CommandFactory, FromArgMatches, Parser, Subcommand};
use std::path::PathBuf;

/// Backups of file trees and streams: deduplicated, delta-compressed, encrypted, verified.
#[derive(Debug, Parser)]
#[command(
    name = "keepstone",
    version,
    max_term_width = 110,
    after_help = TOP_HELP
)]
pub struct Cli {
    /// Options of every command.
    #[command(flatten)]
    pub global: Global,
    /// What to do.
    #[command(subcommand)]
    pub command: Option<Command>,
}

const TOP_HELP: &str = "\
Examples:
  export KEEPSTONE_REPOSITORY=/backup/vault KEEPSTONE_PASSWORD_FILE=~/.keepstone-password
  keepstone init
  keepstone backup ~/documents
  keepstone snapshots
  keepstone restore latest --target ./restored

The password comes from --password-file, --password-command, --key-file, --key-command or --identity-file; or else \
from the environment variable KEEPSTONE_PASSWORD, KEEPSTONE_PASSWORD_FILE, \
KEEPSTONE_PASSWORD_COMMAND, KEEPSTONE_KEY_FILE, KEEPSTONE_KEY_COMMAND or KEEPSTONE_IDENTITY_FILE, the first of them that is set; or else it is asked for on the terminal.

Exit codes: 0 done, 1 failed, 2 usage, 3 done but some sources could not be read, 4 damage found (a backup \
makes its snapshot all the same), \
10 no repository, 11 refused, 12 wrong password or key, 20 and 21 a warning and worse (`health`), 130 interrupted.";

/// Options of every command.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Global options")]
pub struct Global {
    /// The repository: a folder, s3://BUCKET/PREFIX or s3:https://HOST/BUCKET/PREFIX
    #[arg(short = 'r', long = "repo", global = true, value_name = "PLACE", env = "KEEPSTONE_REPOSITORY")]
    pub repository: Option<PathBuf>,
    /// Read the password from the first line of a file
    #[arg(long, global = true, value_name = "FILE", conflicts_with_all = ["password_command", "key_file"])]
    pub password_file: Option<PathBuf>,
    /// Take the first line that a shell command prints as the password
    #[arg(long, global = true, value_name = "COMMAND", conflicts_with = "key_file")]
    pub password_command: Option<String>,
    /// Open the repository with a key file in place of a password
    #[arg(long, global = true, value_name = "FILE")]
    pub key_file: Option<PathBuf>,
    /// Buckets and bandwidth.
    #[command(flatten)]
    pub s3: S3,
    /// Open the repository with a key that a shell command prints, all of its output
    #[arg(long, global = true, value_name = "COMMAND",
          conflicts_with_all = ["password_file", "password_command", "key_file"])]
    pub key_command: Option<String>,
    /// Open the repository with an identity (AGE-SECRET-KEY-1…) whose recipient has a key slot
    #[arg(long, global = true, value_name = "FILE",
          conflicts_with_all = ["password_file", "password_command", "key_file", "key_command"])]
    pub identity_file: Option<PathBuf>,
    /// Where local caches lie [default: $XDG_CACHE_HOME/keepstone or ~/.cache/keepstone]
    #[arg(long, global = true, value_name = "FOLDER", env = "KEEPSTONE_CACHE_DIR")]
    pub cache_dir: Option<PathBuf>,
    /// How large the cache of trees and lists of a repository in a bucket may grow
    #[arg(long, global = true, value_name = "SIZE", value_parser = values::size, default_value = "1G",
          env = "KEEPSTONE_CACHE_SIZE")]
    pub cache_size: u64,
    /// Keep no local cache beyond this run, wherever caches lie
    #[arg(long, global = true)]
    pub no_cache: bool,
    /// Print JSON: objects with a `message_type`, one a line
    #[arg(long, global = true)]
    pub json: bool,
    /// Print results and problems only, no progress and no notes
    #[arg(short, long, global = true)]
    pub quiet: bool,
    /// Say more
    #[arg(short, long, global = true, conflicts_with = "quiet")]
    pub verbose: bool,
    /// Show no progress on the terminal
    #[arg(long, global = true)]
    pub no_progress: bool,
    /// The config [default: /etc/keepstone/keepstone.toml and ~/.config/keepstone/keepstone.toml]; may be repeated
    #[arg(long, global = true, value_name = "FILE", env = "KEEPSTONE_CONFIG")]
    pub config: Vec<PathBuf>,
    /// The repository of this profile of the config, with all that is said there about it
    #[arg(long = "profile", global = true, value_name = "NAME")]
    pub of_profile: Option<String>,
    /// Which of two repositories these options are for.
    #[arg(skip)]
    pub side: Side,
    /// What opens the repository, as a profile says it.
    #[arg(skip)]
    pub origin: Option<Origin>,
}

/// One of the two repositories of a command that has two.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Side {
    /// The one that is worked on, or the only one.
    #[default]
    Main,
    /// The one that something is taken from.
    From,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Make a new repository
    Init(Init),
    /// Back up files, directories, databases, standard input or the output of commands
    Backup(Backup),
    /// Look whether a backup of databases would work
    Probe(Probe),
    /// List snapshots
    Snapshots(Snapshots),
    /// Show all that is known of one snapshot
    Show(Show),
    /// List the files of a snapshot
    Ls(Ls),
    /// Find files in snapshots by name
    Find(Find),
    /// Compare two snapshots
    Diff(Diff),
    /// Write one file, a directory as an archive, or a database as one stream, to standard output
    Dump(Dump),
    /// Restore a snapshot or parts of it
    Restore(Restore),
    /// Prove that a snapshot comes back: restore it for a moment and compare
    Drill(Drill),
    /// Check that what is stored is whole and can be restored
    #[command(visible_alias = "check")]
    Verify(Verify),
    /// Check that packs are what was written: no password is needed
    VerifyPacks(VerifyPacks),
    /// Say what the repository holds and what it takes
    Stats(Stats),
    /// Totals, and counts per day, week and month
    Info(Info),
    /// Show what was done, by whom and how it ended; prove that nothing of it was taken away
    Log(Log),
    /// List, add, change, remove and rotate the passwords and keys that open the repository
    Key(Key),
    /// Look at the place where the repository lies
    Store(Store),
    /// Make sidecars with which damaged parts of packs can be made anew
    Parity(Parity),
    /// Make anew what is damaged, from whatever still has it
    Repair(Repair),
    /// Make the index anew from the packs
    RebuildIndex(RebuildIndex),
    /// Print an object of the repository as it is, decrypted
    Cat(Cat),
    /// Change the tags of snapshots
    Tag(Tag),
    /// Remove snapshots, by name or by a policy
    Forget(Forget),
    /// Delete what no snapshot needs any more
    Prune(Prune),
    /// Copy snapshots from another repository into this one
    Copy(Copy),
    /// Do all that belongs to a night of a profile: back up, read back, forget, prune, try a restore
    Run(Run),
    /// Say how things stand: ok, warning or critical
    Health(Health),
    /// Show what became of the runs of profiles on this machine
    History(History),
    /// Say how repositories grow, when a disk or quota is full, and what it costs
    Predict(Predict),
    /// Look at the config, or make a first one
    Config(Config),
    /// Send test messages, and what waits to be sent
    Notify(Notify),
    /// Print metrics for Prometheus
    Metrics(Metrics),
    /// Say what became of the nights of a day, a week, a month or any days
    Report(Report),
    /// Print completions for a shell
    Completions(Completions),
    /// Print the version
    #[command(after_help = "Example:\n  keepstone version --json")]
    Version,
}

impl Command {
    /// Whether it stores, deletes, reads back or brings back: what somebody asks for later.
    pub fn is_operation(&self) -> bool {
        use Command as C;
        matches!(
            self,
            C::Backup(_)
                | C::Restore(_)
                | C::Drill(_)
                | C::Verify(_)
                | C::Forget(_)
                | C::Prune(_)
                | C::Copy(_)
                | C::Tag(_)
                | C::Repair(_)
                | C::Parity(_)
                | C::RebuildIndex(_)
        )
    }

    /// What is left of a run that somebody stopped; none for one that leaves nothing behind.
    pub fn after_interruption(&self) -> Option<&'static str> {
        use Command as C;
        match self {
            C::Backup(_) | C::Run(_) | C::Copy(_) => Some("what was stored stays stored and is used by the next run"),
            C::Restore(_) => Some("what was restored so far stays; the same command once more does the rest"),
            C::Verify(_) => Some("the repository is as it was; what was read so far does not count"),
            C::Dump(_) => Some("what was written is not all of it"),
            _ => None,
        }
    }

    /// What messages call it.
    pub fn name(&self) -> &'static str {
        match self {
            Command::Init(_) => "init",
            Command::Backup(_) => "backup",
            Command::Probe(_) => "probe",
            Command::Snapshots(_) => "snapshots",
            Command::Show(_) => "show",
            Command::Ls(_) => "ls",
            Command::Find(_) => "find",
            Command::Diff(_) => "diff",
            Command::Dump(_) => "dump",
            Command::Restore(_) => "restore",
            Command::Drill(_) => "drill",
            Command::Verify(_) => "verify",
            Command::VerifyPacks(_) => "verify-packs",
            Command::Stats(_) => "stats",
            Command::Info(_) => "info",
            Command::Log(_) => "log",
            Command::Key(_) => "key",
            Command::Store(_) => "store",
            Command::Parity(_) => "parity",
            Command::Repair(_) => "repair",
            Command::RebuildIndex(_) => "rebuild-index",
            Command::Cat(_) => "cat",
            Command::Tag(_) => "tag",
            Command::Forget(_) => "forget",
            Command::Prune(_) => "prune",
            Command::Copy(_) => "copy",
            Command::Run(_) => "run",
            Command::Health(_) => "health",
            Command::History(_) => "history",
            Command::Predict(_) => "predict",
            Command::Config(_) => "config",
            Command::Notify(_) => "notify",
            Command::Metrics(_) => "metrics",
            Command::Report(_) => "report",
            Command::Completions(_) => "completions",
            Command::Version => "version",
        }
    }
}

impl Cli {
    /// Reads the command line. A malformed one is answered here, with exit code 2; `--help` and `--version` with 0.
    pub fn read() -> (Global, Command) {
        let asked = without_empty(Cli::command()).try_get_matches().and_then(|found| Cli::from_arg_matches(&found));
        let Cli { mut global, command } = asked.unwrap_or_else(|error| refuse(&error));
        if let Some(Command::VerifyPacks(VerifyPacks { place: Some(place), .. })) = &command {
            global.repository = Some(place.clone());
        }
        if let Some(Command::Run(run)) = &command {
            global.of_profile = Some(run.name.clone());
        }
        match command {
            Some(command) => (global, command),
            None => {
                say(Cli::command().render_help());
                std::process::exit(i32::from(Exit::Usage.code()))
            }
        }
    }
}

/// The command line without those variables of the environment that are set to nothing: they count as not set.
fn without_empty(command: clap::Command) -> clap::Command {
    let is_empty = |arg: &clap::Arg| arg.get_env().and_then(std::env::var_os).is_some_and(|value| value.is_empty());
    let command = command.mut_args(|arg| if is_empty(&arg) { arg.env(None::<&str>) } else { arg });
    command.mut_subcommands(without_empty)
}

/// Ends the program with what is wrong with the command line, as an object if `--json` is part of it.
fn refuse(error: &clap::Error) -> ! {
    let wants_json = std::env::args_os().any(|arg| arg == "--json");
    if !(wants_json && error.use_stderr()) {
        error.exit();
    }
    let text = error.render().to_string();
    say(json_error(Exit::Usage, text.trim_end().trim_start_matches("error: ")));
    std::process::exit(i32::from(Exit::Usage.code()))
}

/// The completions of a shell.
pub fn completions(shell: clap_complete::Shell, out: &mut dyn std::io::Write) {
    let mut out = out;
    clap_complete::generate(shell, &mut Cli::command(), "keepstone", &mut out);
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_well_formed() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_command_shows_an_example() {
        fn look(command: &clap::Command) {
            let help = command.get_after_help().map(ToString::to_string).unwrap_or_default();
            assert!(help.contains("Example"), "{} has no example", command.get_name());
            command.get_subcommands().for_each(look);
        }
        look(&Cli::command());
    }

    #[test]
    fn secrets_cannot_be_arguments() {
        let command = Cli::command();
        let names: Vec<_> = command.get_arguments().filter_map(|arg| arg.get_long()).collect();
        assert!(!names.contains(&"password"), "{names:?}");
    }
}
