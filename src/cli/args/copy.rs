//! The arguments of `copy`, and those that name a second repository.

use super::backup::{Compression, compression};
use super::{Filters, Global, Side, values};
use crate::base::Timestamp;
use clap::Args;
use std::ffi::OsString;
use std::path::PathBuf;

/// Copy snapshots from another repository into this one.
#[derive(Clone, Debug, Args)]
#[command(after_help = "\
Examples:
  keepstone -r s3://offsite/vault init --from /backup/vault
  keepstone -r s3://offsite/vault copy --from /backup/vault
  keepstone -r /media/disk/vault copy --from s3://offsite/vault --from-password-file offsite.txt latest
  keepstone -r /media/disk/vault copy --from /backup/vault --host alpha --tag monthly --verify

The password of the other repository comes from --from-password-file, --from-password-command, --from-key-file or \
--from-key-command; or else from KEEPSTONE_FROM_PASSWORD, KEEPSTONE_FROM_PASSWORD_FILE, \
KEEPSTONE_FROM_PASSWORD_COMMAND, KEEPSTONE_FROM_KEY_FILE, KEEPSTONE_FROM_KEY_COMMAND or KEEPSTONE_FROM_IDENTITY_FILE; or else it is asked for.")]
pub struct Copy {
    /// The snapshots to copy, as `keepstone snapshots` shows them there, or `latest` [default: all]
    #[arg(value_name = "SNAP")]
    pub snapshots: Vec<OsString>,
    /// The repository to copy from
    #[arg(
        long,
        visible_alias = "from-repo",
        value_name = "PLACE",
        env = "KEEPSTONE_FROM_REPOSITORY",
        help_heading = "The other repository"
    )]
    pub from: PathBuf,
    /// How it is opened.
    #[command(flatten)]
    pub opened: Opened,
    /// Which snapshots.
    #[command(flatten)]
    pub filters: Filters,
    /// Only snapshots not older than this: 30d, 12h, 2w, 1y6m
    #[arg(long, value_name = "AGE", help_heading = "Which snapshots")]
    pub newer_than: Option<String>,
    /// Read what was stored back before a snapshot is committed
    #[arg(long)]
    pub verify: bool,
    /// How hard to compress what cannot be taken as it is: as for a backup
    #[arg(long, value_name = "LEVEL", default_value = "default", value_parser = compression)]
    pub compression: Compression,
    /// Store nothing, only say what would be copied
    #[arg(short = 'n', long)]
    pub dry_run: bool,
}

/// How another repository is opened.
#[derive(Clone, Debug, Default, Args)]
#[command(next_help_heading = "The other repository")]
pub struct Opened {
    /// Read its password from the first line of a file
    #[arg(long, value_name = "FILE",
          conflicts_with_all = ["from_password_command", "from_key_file", "from_key_command", "from_identity_file"])]
    pub from_password_file: Option<PathBuf>,
    /// Take the first line that a shell command prints as its password
    #[arg(long, value_name = "COMMAND", conflicts_with_all = ["from_key_file", "from_key_command", "from_identity_file"])]
    pub from_password_command: Option<String>,
    /// Open it with a key file in place of a password
    #[arg(long, value_name = "FILE", conflicts_with_all = ["from_key_command", "from_identity_file"])]
    pub from_key_file: Option<PathBuf>,
    /// Open it with a key that a shell command prints
    #[arg(long, value_name = "COMMAND", conflicts_with = "from_identity_file")]
    pub from_key_command: Option<String>,
    /// Open it with an identity of age whose recipient has a key slot
    #[arg(long, value_name = "FILE")]
    pub from_identity_file: Option<PathBuf>,
    /// The region of its bucket [default: as for the other]
    #[arg(long, value_name = "REGION", env = "KEEPSTONE_FROM_S3_REGION")]
    pub from_s3_region: Option<String>,
    /// Trust the authorities of this PEM file for its server [default: as for the other]
    #[arg(long, value_name = "FILE", env = "KEEPSTONE_FROM_S3_CA")]
    pub from_s3_ca: Option<PathBuf>,
    /// Read it as it was at a time, from a bucket that keeps versions
    #[arg(long, value_name = "TIME", value_parser = values::time)]
    pub from_as_of: Option<Timestamp>,
}

impl Opened {
    /// The options of every command, as they are for the repository at `from`.
    pub fn global(&self, from: PathBuf, global: &Global) -> Global {
        let mut s3 = global.s3.clone();
        s3.s3_region = self.from_s3_region.clone().or(s3.s3_region);
        s3.s3_ca = self.from_s3_ca.clone().or(s3.s3_ca);
        s3.as_of = self.from_as_of;
        Global {
            repository: Some(from),
            password_file: self.from_password_file.clone(),
            password_command: self.from_password_command.clone(),
            key_file: self.from_key_file.clone(),
            key_command: self.from_key_command.clone(),
            identity_file: self.from_identity_file.clone(),
            s3,
            side: Side::From,
            origin: None,
            ..global.clone()
        }
    }
}
