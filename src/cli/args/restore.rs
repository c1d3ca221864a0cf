//! The arguments of `dump`, `restore` and `verify`.

use super::Filters;
use super::values::percent;
use clap::{Args, ValueEnum};
use std::ffi::OsString;
use std::path::PathBuf;

/// How a directory is written to standard output.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum DumpFormat {
    /// POSIX tar
    Tar,
    /// Zip
    Zip,
}

/// Write one file, or a directory as an archive, to standard output.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  keepstone dump latest /etc/fstab
  keepstone dump latest /home/ann --archive tar | tar x
  keepstone dump latest shop.sql | psql shop")]
pub struct Dump {
    /// The snapshot, and where in it to begin
    #[arg(value_name = "SNAP[:PATH]")]
    pub snapshot: OsString,
    /// The file or directory
    #[arg(value_name = "PATH", default_value = "/")]
    pub entry: OsString,
    /// How to write a directory
    #[arg(short, long, value_name = "FORMAT", default_value = "tar")]
    pub archive: DumpFormat,
    /// Among which snapshots it is looked for.
    #[command(flatten)]
    pub filters: Filters,
}

/// What to do with a file that is there already.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Overwrite {
    /// Compare its content and write what differs
    Always,
    /// Leave it if size and time are those of the snapshot
    IfChanged,
    /// Leave it if it is as new as the snapshot's or newer
    IfNewer,
    /// Leave it
    Never,
}

/// Restore a snapshot or parts of it.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  keepstone restore latest --target ./restored
  keepstone restore latest:/home/ann --target /home/ann --dry-run
  keepstone restore 5f2a91c4 --target / --include /etc --verify

The original absolute path is made beneath the target: /home/ann becomes DIR/home/ann. With \
SNAP:PATH what lies in PATH lies directly in the target.")]
pub struct Restore {
    /// The snapshot, and where in it to begin
    #[arg(value_name = "SNAP[:PATH]")]
    pub snapshot: OsString,
    /// The directory to restore to; it is made if it is not there
    #[arg(short, long, value_name = "DIR")]
    pub target: PathBuf,
    /// Restore only what a pattern matches (may be repeated)
    #[arg(short, long, value_name = "PATTERN", conflicts_with_all = ["exclude", "iexclude"], help_heading = "What to restore")]
    pub include: Vec<OsString>,
    /// The same, whether letters are large or small
    #[arg(long, value_name = "PATTERN", conflicts_with_all = ["exclude", "iexclude"], help_heading = "What to restore")]
    pub iinclude: Vec<OsString>,
    /// Do not restore what a pattern matches (may be repeated)
    #[arg(short, long, value_name = "PATTERN", help_heading = "What to restore")]
    pub exclude: Vec<OsString>,
    /// The same, whether letters are large or small
    #[arg(long, value_name = "PATTERN", help_heading = "What to restore")]
    pub iexclude: Vec<OsString>,
    /// What to do with files that are there already
    #[arg(long, value_name = "WHEN", default_value = "always")]
    pub overwrite: Overwrite,
    /// Delete in restored directories what the snapshot does not have
    #[arg(long)]
    pub delete: bool,
    /// Write nothing; say what would be written
    #[arg(short = 'n', long, conflicts_with = "verify")]
    pub dry_run: bool,
    /// Read back what was written and compare it with the snapshot
    #[arg(long)]
    pub verify: bool,
    /// Make holes where files have long runs of zeros
    #[arg(long)]
    pub sparse: bool,
    /// Take owners by their numbers and not by their names
    #[arg(long)]
    pub numeric_ids: bool,
    /// Among which snapshots it is looked for.
    #[command(flatten)]
    pub filters: Filters,
}

/// Check that what is stored is whole and can be restored.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  keepstone verify                    read all that the newest snapshot needs
  keepstone verify --all              read everything that is stored
  keepstone verify --structure        trees and index only, no content
  keepstone verify --sample 5%        a random twentieth of the packs

Exit code 4 says that damage was found; the report names what it touches.")]
pub struct Verify {
    /// The snapshots to check [default: latest]
    #[arg(value_name = "SNAP", conflicts_with = "all")]
    pub snapshots: Vec<OsString>,
    /// Read and check everything that is stored
    #[arg(long, conflicts_with_all = ["structure", "sample"])]
    pub all: bool,
    /// Check that all that snapshots refer to is there, without reading content
    #[arg(long, conflicts_with = "sample")]
    pub structure: bool,
    /// Read a random share of what is stored
    #[arg(long, value_name = "PERCENT", value_parser = percent)]
    pub sample: Option<f64>,
    /// Among which snapshots they are looked for.
    #[command(flatten)]
    pub filters: Filters,
}
