//! The arguments of `log`.

use clap::{Args, Subcommand, ValueEnum};

/// Show what was done, by whom and how it ended; prove that nothing of it was taken away.
#[derive(Debug, Args)]
#[command(
    args_conflicts_with_subcommands = true,
    after_help = "\
Examples:
  keepstone log
  keepstone log --host web1 --operation backup --outcome failed --outcome partial
  keepstone log --newer-than 30d --json
  keepstone log verify
  keepstone log local

This is the log of the repository, sealed in it: what was done to it, by any machine. `log local` is the operation log of this \
machine, `keepstone history` what became of the nights of its profiles. Each operation that changes or reads back what is stored leaves a record. Records of one machine are chained by hash, and \
snapshots name the newest of the machine that made them."
)]
pub struct Log {
    /// What to do instead of listing
    #[command(subcommand)]
    pub command: Option<LogCommand>,
    /// Only of this machine (may be repeated)
    #[arg(long, value_name = "HOST")]
    pub host: Vec<String>,
    /// Only this operation: backup, verify, restore, prune, … (may be repeated)
    #[arg(long, value_name = "NAME")]
    pub operation: Vec<String>,
    /// Only those that ended so (may be repeated)
    #[arg(long, value_name = "OUTCOME")]
    pub outcome: Vec<RunOutcome>,
    /// Only those younger than this: 12h, 30d, 1y6m
    #[arg(long, value_name = "AGE")]
    pub newer_than: Option<String>,
    /// The newest N
    #[arg(short, long, value_name = "N", default_value_t = 100)]
    pub newest: usize,
}

/// What to do with the log.
#[derive(Debug, Subcommand)]
pub enum LogCommand {
    /// Look whether records were removed, altered or reordered
    #[command(after_help = "\
Example:
  keepstone log verify

What a record, a snapshot or this machine's own memory names has to be there with the hash that it is named by. Exit code \
4 says that something is not; it is named. The newest record of a machine is named by nobody yet.")]
    Verify,
    /// Show this machine's operation log: what its runs did, also those that never reached their repository
    Local(LogLocal),
}

/// Show this machine's operation log.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  keepstone log local
  keepstone log local --operation backup --status failed --newer-than 30d
  keepstone --profile shop log local --json

Reads the file with one JSON object a line that every `keepstone run` adds to: `operations.jsonl` in the folder of state, or \
`log_file` of the config. No repository is opened.")]
pub struct LogLocal {
    /// Only this operation: run, preflight, backup, verify, forget, prune, drill, … (may be repeated)
    #[arg(long, value_name = "NAME")]
    pub operation: Vec<String>,
    /// Only those that ended so: done, partial, damage, failed, refused, interrupted, vanished (may be repeated)
    #[arg(long, value_name = "WORD")]
    pub status: Vec<String>,
    /// Only those younger than this: 12h, 30d, 1y6m
    #[arg(long, value_name = "AGE")]
    pub newer_than: Option<String>,
    /// The newest N
    #[arg(short, long, value_name = "N", default_value_t = 100)]
    pub newest: usize,
}

/// How an operation ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum RunOutcome {
    /// All was done
    Done,
    /// Nothing was achieved
    Failed,
    /// Some sources could not be read
    Partial,
    /// Damage was found
    Damage,
    /// Refused
    Refused,
    /// Stopped by the user or a signal
    Interrupted,
    /// Killed before it could say anything
    Vanished,
}
