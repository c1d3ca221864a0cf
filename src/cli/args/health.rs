//! The arguments of `health`.

use clap::Args;

/// Say how things stand: ok, warning or critical.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  keepstone health
  keepstone health shop --json

Looks at the repository of each profile (opens, can be written, has all packs that its index names), at its key slots, at free \
space and what the next night is likely to add, at the clock, at the age of the newest complete, verified and drilled snapshot, at \
the last runs and missed ones, at the databases with their client programs, and at the end of certificates. Nothing is read back and nothing is changed. Exit code 0 \
is ok, 20 a warning, 21 critical.")]
pub struct Health {
    /// The profile [default: all of the config]
    #[arg(value_name = "PROFILE")]
    pub name: Option<String>,
}
