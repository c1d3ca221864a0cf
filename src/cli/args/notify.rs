//! The arguments of `notify`.

use clap::{Args, Subcommand};

/// Tell people, and see whether that works.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  keepstone notify test
  keepstone notify test ops
  keepstone notify flush
  keepstone notify check

Channels stand in the config under [notify]; whom a profile tells, in its own `notify` table.")]
pub struct Notify {
    /// What to do
    #[command(subcommand)]
    pub command: NotifyCommand,
}

/// What to do about notifications.
#[derive(Debug, Subcommand)]
pub enum NotifyCommand {
    /// Send a test message through a channel, or through each
    #[command(after_help = "Examples:\n  keepstone notify test\n  keepstone notify test ops")]
    Test {
        /// The channel [default: all]
        #[arg(value_name = "CHANNEL")]
        channel: Option<String>,
    },
    /// Send what waits since a channel did not answer
    #[command(after_help = "\
Examples:
  keepstone notify flush
  keepstone notify flush --due

The next run sends it too. What waits for the end of quiet hours goes on waiting.")]
    Flush {
        /// Only what is due by now: after each failure the pause is longer. For timers
        #[arg(long)]
        due: bool,
    },
    /// Look for what time alone brings: missed runs, snapshots that grow too old, disks that will be full. For timers
    #[command(after_help = "\
Examples:
  keepstone notify check
  keepstone --profile shop notify check

Judges the rules of all profiles, or of one, from the history, without a night and without opening a repository, and tells what \
is new, graver, there for long or over. What waits to be sent goes out too.")]
    Check,
    /// List what waits to be sent
    #[command(after_help = "Example:\n  keepstone notify list")]
    List,
}
