//! The arguments about buckets and bandwidth, which every command takes.

use super::values;
use crate::base::Timestamp;
use crate::store::{S3Checksums, S3Encryption, S3Lock};
use clap::{Args, ValueEnum};
use std::env;
use std::path::PathBuf;

const HEADING: &str = "S3 options";

/// How a bucket is talked to, and what is said of its objects.
#[derive(Clone, Debug, Args)]
pub struct S3 {
    /// The region of the bucket [default: what AWS_REGION or the profile says, us-east-1 if neither does]
    #[arg(long, global = true, value_name = "REGION", env = "KEEPSTONE_S3_REGION", help_heading = HEADING)]
    pub s3_region: Option<String>,
    /// Trust the authorities of this PEM file too
    #[arg(long, global = true, value_name = "FILE", env = "KEEPSTONE_S3_CA", help_heading = HEADING)]
    pub s3_ca: Option<PathBuf>,
    /// Name the bucket in the path (on) or in the host (off) [default: off at Amazon, on elsewhere]
    #[arg(long, global = true, value_name = "ON|OFF", env = "KEEPSTONE_S3_PATH_STYLE", help_heading = HEADING)]
    pub s3_path_style: Option<Switch>,
    /// When checksums of S3 are sent and checked beside our own [default: when-supported at Amazon, when-required elsewhere]
    #[arg(long, global = true, value_name = "WHEN", env = "KEEPSTONE_S3_CHECKSUMS", help_heading = HEADING)]
    pub s3_checksums: Option<When>,
    /// Make so many requests at once at most [default: no limit, and four packs on their way]
    #[arg(long, global = true, value_name = "N", env = "KEEPSTONE_S3_CONNECTIONS", help_heading = HEADING,
          value_parser = clap::value_parser!(u16).range(1..))]
    pub s3_connections: Option<u16>,
    /// Try a request that fails for a reason that may pass so often [default: 12, about half a minute]
    #[arg(long, global = true, value_name = "N", env = "KEEPSTONE_S3_TRIES", help_heading = HEADING,
          value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub s3_tries: Option<u32>,
    /// The storage class of packs, such as STANDARD_IA
    #[arg(long, global = true, value_name = "CLASS", env = "KEEPSTONE_S3_STORAGE_CLASS", help_heading = HEADING)]
    pub s3_storage_class: Option<String>,
    /// Give every stored object this tag (may be repeated)
    #[arg(long, global = true, value_name = "KEY=VALUE", value_parser = values::tag, help_heading = HEADING)]
    pub s3_tag: Vec<(String, String)>,
    /// Have the server encrypt what it keeps: AES256, aws:kms or aws:kms:KEY
    #[arg(long, global = true, value_name = "HOW", env = "KEEPSTONE_S3_ENCRYPTION",
          value_parser = values::encryption, help_heading = HEADING)]
    pub s3_encryption: Option<S3Encryption>,
    /// Lock packs, snapshots and keys against deletion for so many days: governance:DAYS or compliance:DAYS
    #[arg(long, global = true, value_name = "MODE:DAYS", env = "KEEPSTONE_S3_OBJECT_LOCK",
          value_parser = values::lock, help_heading = HEADING)]
    pub s3_object_lock: Option<S3Lock>,
    /// Read a bucket that keeps versions as it was at a time: `2026-03-11 02:00`, `2026-03-11T02:00:00Z`
    #[arg(long, global = true, value_name = "TIME", value_parser = values::time, help_heading = HEADING)]
    pub as_of: Option<Timestamp>,
    /// Talk to an S3 server on another machine without encryption
    #[arg(long, global = true, help_heading = HEADING)]
    pub allow_plain_http: bool,
    /// Send at most so many KiB a second to the repository
    #[arg(long, global = true, value_name = "RATE", value_parser = values::rate)]
    pub limit_upload: Option<u64>,
    /// Receive at most so many KiB a second from the repository
    #[arg(long, global = true, value_name = "RATE", value_parser = values::rate)]
    pub limit_download: Option<u64>,
}

/// On or off.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Switch {
    /// On
    On,
    /// Off
    Off,
}

/// When checksums are added.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum When {
    /// Wherever S3 knows them
    WhenSupported,
    /// Only where S3 requires them
    WhenRequired,
}

impl From<When> for S3Checksums {
    fn from(when: When) -> S3Checksums {
        match when {
            When::WhenSupported => S3Checksums::WhenSupported,
            When::WhenRequired => S3Checksums::WhenRequired,
        }
    }
}

impl S3 {
    /// What was given on the command line and is needed to reach the same bucket again: flags and values.
    pub fn words(&self) -> Vec<(&'static str, String)> {
        let style = self.s3_path_style.map(|switch| if switch == Switch::On { "on" } else { "off" }.to_owned());
        let given = [
            ("--s3-region", "KEEPSTONE_S3_REGION", self.s3_region.clone()),
            ("--s3-ca", "KEEPSTONE_S3_CA", self.s3_ca.as_ref().map(|file| file.to_string_lossy().into_owned())),
            ("--s3-path-style", "KEEPSTONE_S3_PATH_STYLE", style),
            ("--as-of", "", self.as_of.map(|at| at.to_string())),
        ];
        let typed = given.into_iter().filter(|(_, variable, _)| env::var_os(variable).is_none());
        typed.filter_map(|(flag, _, value)| Some((flag, value?))).collect()
    }
}
