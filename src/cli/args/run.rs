//! The arguments of `run`.

use clap::{Args, ValueEnum};

/// Do all that belongs to a night of a profile.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  keepstone run nightly
  keepstone run nightly --by schedule --json
  keepstone run nightly --whole
  keepstone run nightly --only verify

Looks first whether a backup can work, runs the hooks, backs up all sources into one snapshot, reads back, forgets, prunes and \
tries a restore, as far as the profile says so and each when it is due. A phase that fails stops no other, but nothing is \
forgotten or pruned unless this run has made a snapshot that lacks nothing. The exit code is that of the gravest phase: 3 for \
a partial snapshot, 4 for damage, 11 if the profile is being run on this machine already.")]
pub struct Run {
    /// The profile
    #[arg(value_name = "PROFILE")]
    pub name: String,
    /// Read everything, also what looks unchanged, whether `whole` of the profile says so or not
    #[arg(long, conflicts_with = "only")]
    pub whole: bool,
    /// Back nothing up: only read back, or only try a restore (may be repeated); by schedule when that is due, by hand at once
    #[arg(long, value_name = "TASK")]
    pub only: Vec<Alone>,
    /// What started it: its snapshots have the tag by:schedule or by:hand
    #[arg(long, value_name = "WHAT", default_value = "hand")]
    pub by: StartedBy,
}

/// What can be done without a backup.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Alone {
    /// What `verify` of the profile says
    Verify,
    /// What `drill` says
    Drill,
}

/// What started a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum StartedBy {
    /// A timer
    Schedule,
    /// Somebody
    Hand,
}
