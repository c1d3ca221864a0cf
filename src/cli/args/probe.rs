//! The arguments of `probe`.

use clap::Args;
use std::path::PathBuf;

/// Look whether a backup of databases would work, without writing any.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct Probe {
    /// Databases: postgres://… and mysql://… URLs, `key=value` words or the name of a PostgreSQL database
    #[arg(value_name = "URL", required = true)]
    pub urls: Vec<String>,
    /// So many databases are looked at at once
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..))]
    pub max_parallel: u32,
    /// So many tables of each database will be read at once
    #[arg(long, value_name = "N", default_value_t = 2, value_parser = clap::value_parser!(u32).range(1..))]
    pub workers: u32,
    /// Where PostgreSQL's client programs are [default: looked for]
    #[arg(long, value_name = "FOLDER")]
    pub programs: Option<PathBuf>,
}

const EXAMPLES: &str = "\
Examples:
  keepstone probe postgres://backup@db.example/shop mysql://backup@db2.example/blog
  keepstone probe -r /srv/vault postgres://backup@db.example/shop

Each check is ok, a warning or failed; what is not ok comes with a remedy. With a repository (-r or \
KEEPSTONE_REPOSITORY) it is also looked whether that can be written and has room. Exit code 0: backups will work; 1: \
something failed.";
