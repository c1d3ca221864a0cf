//! The arguments of `parity` and `repair`: what makes damage good.

use super::Opened;
use crate::format::parity::Share;
use clap::{Args, Subcommand};
use std::path::PathBuf;

/// Make sidecars with which damaged parts of packs can be made anew.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  keepstone parity 5%     each pack gets a sidecar, those that are there too
  keepstone parity        make the sidecars that are missing
  keepstone parity off    take all sidecars away

A sidecar takes about as much as it can make anew, and half a per cent. It helps against damage of parts of a pack: bad \
sectors, flipped bits, a torn or cut off write. A pack that is lost altogether comes back from a second site only. An \
interrupted run is gone on with by the next.")]
pub struct Parity {
    /// How much of each pack can be made anew: 1% to 50%, or `off` [default: as it is]
    #[arg(value_name = "SHARE")]
    pub share: Option<ParityShare>,
}

/// What may be said of sidecars.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ParityShare {
    /// None.
    Off,
    /// So much of each pack.
    Share(Share),
}

impl std::str::FromStr for ParityShare {
    type Err = String;
    fn from_str(text: &str) -> Result<ParityShare, String> {
        match text {
            "off" => Ok(ParityShare::Off),
            _ => text.parse().map(ParityShare::Share).map_err(|error| format!("{error}, or `off`")),
        }
    }
}

/// Make anew what is damaged, from whatever still has it.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  keepstone repair plan                        what is known to be damaged, and how it can be mended
  keepstone repair plan --all                  the same, after everything was read
  keepstone repair apply                       mend it
  keepstone repair apply --from /media/mirror --files

The sources of truth, in this order: a pack's parity sidecar; a second copy in the repository; another repository \
(--from); the original files (--files). What is damaged is kept in quarantine/ before its place is taken, and nothing takes \
its place that does not have its name. What nothing mends is recorded: the next backup stores it anew, on whichever \
machine. Exit code 4 says that damage is left.")]
pub struct Repair {
    /// What to do
    #[command(subcommand)]
    pub command: RepairCommand,
}

/// What to do about damage.
#[derive(Debug, Subcommand)]
pub enum RepairCommand {
    /// Say what is damaged, how each can be mended, and which snapshots and files stay hurt; change nothing
    #[command(after_help = "Examples:\n  keepstone repair plan\n  keepstone repair plan --all --json")]
    Plan(RepairFrom),
    /// Mend what can be mended
    #[command(after_help = "Examples:\n  keepstone repair apply\n  keepstone repair apply --from /media/mirror")]
    Apply(RepairFrom),
}

/// Where to look for damage, and for what mends it.
#[derive(Clone, Debug, Args)]
pub struct RepairFrom {
    /// Read all packs and sidecars, not only those that an earlier verify found damaged, or that are missing
    #[arg(long)]
    pub all: bool,
    /// A mirror of this repository (it opens with the same password), or one that was made with `init --from`
    #[arg(long, visible_alias = "from-repo", value_name = "PLACE", help_heading = "The other repository")]
    pub from: Option<PathBuf>,
    /// How that one is opened.
    #[command(flatten)]
    pub opened: Opened,
    /// Look also at the files that were backed up on this machine, where they still lie
    #[arg(long)]
    pub files: bool,
}
