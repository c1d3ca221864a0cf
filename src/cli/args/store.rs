//! The arguments of `store`: looking at the place where a repository lies, without opening it.

use crate::store::Area;
use clap::{Args, Subcommand, ValueEnum};

/// Look at the place where the repository lies: no password is needed.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  keepstone -r s3://vault-bucket/team store probe
  keepstone store stats
  keepstone store ls --kind packs --json")]
pub struct Store {
    /// What to look at
    #[command(subcommand)]
    pub command: StoreCommand,
}

/// What to look at.
#[derive(Debug, Subcommand)]
pub enum StoreCommand {
    /// List the objects, with sizes and times
    #[command(after_help = "Examples:\n  keepstone store ls\n  keepstone store ls --kind snapshots --kind runs --json")]
    Ls(StoreLs),
    /// Try out what the store honours: put-if-absent, listings, ranges, its clock, what these credentials may do
    #[command(after_help = "\
Example:
  keepstone -r s3:https://s3.example.org/vault/team store probe

One small object is stored and deleted again; there need not be a repository yet. What is not ok comes with a remedy. \
Exit code 0: backups will work; 1: something failed.")]
    Probe,
    /// Count objects and bytes by kind and storage class, and the requests that this took
    #[command(after_help = "Example:\n  keepstone store stats --json")]
    Stats,
}

/// List the objects.
#[derive(Debug, Args)]
pub struct StoreLs {
    /// Only objects of this kind (may be repeated)
    #[arg(long, value_name = "KIND")]
    pub kind: Vec<ObjectKind>,
}

/// A kind of object.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum ObjectKind {
    /// The public description
    Config,
    /// Passwords and keys
    Keys,
    /// Generations of keys
    Epochs,
    /// Content
    Packs,
    /// Segments of the index
    Index,
    /// Snapshots
    Snapshots,
    /// Marks of who is at work
    Sessions,
    /// What prune will delete
    Condemned,
    /// Records of what was done
    Runs,
    /// What damaged parts of packs can be made anew with
    Parity,
    /// Records of damage
    Damage,
    /// What was damaged and has been replaced
    Quarantine,
}

impl ObjectKind {
    /// Where such objects lie.
    pub fn area(self) -> Area {
        match self {
            ObjectKind::Config => Area::Config,
            ObjectKind::Keys => Area::Keys,
            ObjectKind::Epochs => Area::Epochs,
            ObjectKind::Packs => Area::Packs,
            ObjectKind::Index => Area::Index,
            ObjectKind::Snapshots => Area::Snapshots,
            ObjectKind::Sessions => Area::Sessions,
            ObjectKind::Condemned => Area::Condemned,
            ObjectKind::Runs => Area::Runs,
            ObjectKind::Parity => Area::Parity,
            ObjectKind::Damage => Area::Damage,
            ObjectKind::Quarantine => Area::Quarantine,
        }
    }
}
