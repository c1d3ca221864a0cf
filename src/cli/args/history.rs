//! The arguments of `history`.

use clap::{Args, Subcommand, ValueEnum};

/// Show what became of the runs of profiles on this machine.
#[derive(Debug, Args)]
#[command(
    args_conflicts_with_subcommands = true,
    after_help = "\
Examples:
  keepstone history
  keepstone --profile shop history --newer-than 30d --outcome failed --outcome vanished
  keepstone history --days --newer-than 30d
  keepstone history show 3fa9c1d2
  keepstone history rebuild

Each `keepstone run` leaves an entry, with its phases, sizes, times and problems, in `history.sqlite` in the folder of state. The \
same is sealed in the repository as a record of the operation `run` (`keepstone log` shows those of all machines), so that \
`rebuild` can bring it back."
)]
pub struct History {
    /// What to do instead of listing
    #[command(subcommand)]
    pub command: Option<HistoryCommand>,
    /// Only runs that ended so (may be repeated)
    #[arg(long, value_name = "OUTCOME")]
    pub outcome: Vec<Ended>,
    /// Only those younger than this: 12h, 30d, 1y6m
    #[arg(long, value_name = "AGE")]
    pub newer_than: Option<String>,
    /// The newest N [default: 50; with --days all]
    #[arg(short, long, value_name = "N")]
    pub newest: Option<usize>,
    /// Sums per calendar day in place of runs
    #[arg(long)]
    pub days: bool,
}

/// What to do with the history.
#[derive(Debug, Subcommand)]
pub enum HistoryCommand {
    /// Show all that is known of one run
    #[command(after_help = "Example:\n  keepstone history show 3fa9c1d2")]
    Show {
        /// The run's id, or its first digits
        #[arg(value_name = "ID")]
        id: String,
    },
    /// Take from the records in the repositories what the history does not have
    #[command(after_help = "\
Examples:
  keepstone history rebuild
  keepstone --profile shop history rebuild
  keepstone history rebuild --host old-name

Without --profile it reads the repositories of all profiles of the config. What the history has already stays as it is.")]
    Rebuild {
        /// Runs of this machine, by its name [default: this one] (may be repeated)
        #[arg(long, value_name = "HOST")]
        host: Vec<String>,
    },
}

/// How a run ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Ended {
    /// It goes on
    Running,
    /// All was done
    Done,
    /// Some sources could not be read
    Partial,
    /// Damage was found
    Damage,
    /// Something failed
    Failed,
    /// Refused
    Refused,
    /// Stopped by the user or a signal
    Interrupted,
    /// Killed before it could say anything
    Vanished,
}
