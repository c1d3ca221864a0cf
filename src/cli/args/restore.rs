//! The arguments of `dump`, `restore` and `verify`.

use super::values::{percent, share, size};
use super::{Filters, ToDatabase};
use clap::{ArgGroup, Args, ValueEnum};
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

/// What a dump of a database is written as.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum DatabaseFormat {
    /// Plain SQL, for psql, mariadb or another client
    Sql,
    /// An archive in custom format, for pg_restore
    Archive,
}

/// Write one file, a directory as an archive, or a database as one stream, to standard output.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  keepstone dump latest /etc/fstab
  keepstone dump latest /home/ann --archive tar | tar x
  keepstone dump latest shop.sql | psql shop
  keepstone dump latest --as sql --database shop | psql -X -v ON_ERROR_STOP=1 -1 shop_copy
  keepstone dump latest --as sql --database wiki | mariadb wiki_copy
  keepstone dump latest --as archive > shop.dump; pg_restore --list shop.dump

`--as sql` is for a database that is empty. Let psql stop at the first error and keep all or nothing, as above: a \
dump that breaks off ends with an error for the server. psql must be 14.19, 15.14, 16.10, 17.6 or later.

A reader that has enough (`| head`) ends it with 0. Whether `tar x` came to its end, tar says: `set -o pipefail`.")]
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
    /// Write the dump of a database as one stream
    #[arg(long = "as", value_name = "FORMAT", conflicts_with_all = ["archive", "entry"])]
    pub database_format: Option<DatabaseFormat>,
    /// Which dump of the snapshot, if it holds several
    #[arg(long, value_name = "NAME", requires = "database_format")]
    pub database: Option<String>,
    /// The folder of the server's client programs [default: found by themselves]
    #[arg(long, value_name = "DIR", requires = "database_format")]
    pub programs: Option<PathBuf>,
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
#[command(group(ArgGroup::new("where").required(true)), group(ArgGroup::new("server")), after_help = "\
Examples:
  keepstone restore latest --target ./restored
  keepstone restore latest:/home/ann --target /home/ann --dry-run
  keepstone restore 5f2a91c4 --target / --include /etc --verify
  keepstone restore latest --to-postgres postgres://postgres@db2/shop --create
  keepstone restore latest --to-postgres shop --table public.orders
  keepstone restore latest:/srv/dumps/shop.dump --to-postgres shop --create
  keepstone restore latest --to-postgres shop --drop-existing --confirm-destructive shop \\
    --before 'systemctl stop shop' --after 'systemctl start shop'

The original absolute path is made beneath the target: /home/ann becomes DIR/home/ann. With \
SNAP:PATH what lies in PATH lies directly in the target. Patterns mean paths in the snapshot: \
one that begins with / counts from its top, also with SNAP:PATH; any other matches at every depth.

A dump is read and proven to its last byte before a server is touched. A database that is made or \
replaced gets its name when it is whole; what it replaces is dropped last.")]
pub struct Restore {
    /// The snapshot, and where in it to begin
    #[arg(value_name = "SNAP[:PATH]")]
    pub snapshot: OsString,
    /// The directory to restore to; it is made if it is not there
    #[arg(short, long, value_name = "DIR", group = "where")]
    pub target: Option<PathBuf>,
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
    /// A dump back to a server.
    #[command(flatten)]
    pub to_database: ToDatabase,
    /// Among which snapshots it is looked for.
    #[command(flatten)]
    pub filters: Filters,
}

/// Check that packs are what was written: no password is needed.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  keepstone verify-packs /srv/vaults/team
  keepstone verify-packs s3:https://s3.example.org/vault/team --json
  keepstone verify-packs --jobs 2

Packs and segments are named by the hash of their bytes, and config and keys lie there twice: the host of a storage can \
check them with no password, no key and no right to write. What is missing altogether shows only to `keepstone verify`. \
Exit code 4 says that damage was found.")]
pub struct VerifyPacks {
    /// The repository [default: that of -r]
    #[arg(value_name = "PLACE")]
    pub place: Option<PathBuf>,
    /// So many objects are read at once [default: one for each processor; more from a bucket]
    #[arg(short, long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=64))]
    pub jobs: Option<u16>,
}

/// Check that what is stored is whole and can be restored.
#[derive(Debug, Args)]
#[command(group(ArgGroup::new("part").multiple(true)), after_help = "\
Examples:
  keepstone verify                    read all that the newest snapshot needs
  keepstone verify --newer-than 7d    the same of all snapshots of the last seven days
  keepstone verify --all              read everything that is stored
  keepstone verify --share 1/30       a thirtieth of the packs, those that were read longest ago
  keepstone verify --budget 20G       the same, so many bytes
  keepstone verify --max-time 2h      the same, for so long
  keepstone verify --structure        trees and index only, no content
  keepstone verify --presence         small objects, and whether every pack is there
  keepstone verify --sample 5%        a random twentieth of the packs

With a part each night all packs are read in a number of nights that is printed. What was read is noted down in \
the repository: `keepstone snapshots` says of each snapshot whether and when all of it was read.
Exit code 4 says that damage was found; the report names the snapshots and files that it touches.")]
pub struct Verify {
    /// The snapshots to check [default: latest; with a part of the packs or less: all]
    #[arg(value_name = "SNAP", conflicts_with = "all")]
    pub snapshots: Vec<OsString>,
    /// All snapshots younger than this: 12h, 7d, 1y6m
    #[arg(long, value_name = "AGE", conflicts_with_all = ["all", "snapshots"])]
    pub newer_than: Option<String>,
    /// Read and check everything that is stored
    #[arg(long, group = "how", conflicts_with = "part")]
    pub all: bool,
    /// Check that all that snapshots refer to is there, without reading content
    #[arg(long, group = "how", conflicts_with = "part")]
    pub structure: bool,
    /// Check that every pack is there and has the right size, without reading trees
    #[arg(long, group = "how", conflicts_with = "part")]
    pub presence: bool,
    /// Read a random share of what is stored
    #[arg(long, value_name = "PERCENT", value_parser = percent, group = "how", conflicts_with = "part")]
    pub sample: Option<f64>,
    /// Read so many bytes of packs at most, those first that were read longest ago; one pack in any case
    #[arg(long, value_name = "SIZE", value_parser = size, group = "part")]
    pub budget: Option<u64>,
    /// Read such a share of the packs, those first that were read longest ago: 1/30 for all of them in 30 nights
    #[arg(long, value_name = "N/M", value_parser = share, group = "part")]
    pub share: Option<(u32, u32)>,
    /// Read packs for so long, those first that were read longest ago: 30min, 2h
    #[arg(long, value_name = "TIME", group = "part")]
    pub max_time: Option<String>,
    /// Among which snapshots they are looked for.
    #[command(flatten)]
    pub filters: Filters,
}
