//! The arguments of `config`.

use super::Named;
use super::databases::command;
use super::values::named;
use clap::{Args, Subcommand};
use std::path::PathBuf;

/// Look at the config, or make a first one.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  keepstone config init
  keepstone config check
  keepstone config show nightly

The config is read from /etc/keepstone/keepstone.toml and then from ~/.config/keepstone/keepstone.toml, whose values count \
more; or from the files that --config names, and no others. All keys: docs/CONFIG.md.")]
pub struct Config {
    /// What to do
    #[command(subcommand)]
    pub command: ConfigCommand,
}

/// What to do with the config.
#[derive(Debug, Subcommand)]
pub enum ConfigCommand {
    /// Say what is wrong with it, each with its place
    #[command(after_help = "Examples:\n  keepstone config check\n  keepstone --config ./keepstone.toml config check")]
    Check,
    /// Show what holds for a profile, and where each value comes from
    #[command(
        after_help = "Examples:\n  keepstone config show\n  keepstone config show nightly\n\nSecrets never stand in the config; \
                            commands that print some are not shown either."
    )]
    Show {
        /// The profile [default: a list of all]
        #[arg(value_name = "PROFILE")]
        name: Option<String>,
    },
    /// Print the JSON schema of the config, for editors
    #[command(
        after_help = "Example:\n  keepstone config schema > keepstone.schema.json\n\nAn editor with a TOML language server reads it \
                            where the config begins with `#:schema ./keepstone.schema.json`."
    )]
    Schema,
    /// Ask a few questions and write a config that can be run
    Init(ConfigInit),
}

/// Write a first config.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  keepstone config init
  keepstone -r /var/backups/keepstone config init --yes /etc /home
  keepstone -r s3://offsite/vault --password-file /etc/keepstone/password config init --yes --postgres shop=postgres://backup@db1/shop

The repository comes from -r, what opens it from --key-file, --password-file, --password-command, --key-command or \
--identity-file; a key file that is not there is made. What is not said is asked for, line by line. The file goes where \
--config says, else to /etc/keepstone for root and to ~/.config/keepstone for others; one that is there is never overwritten.")]
pub struct ConfigInit {
    /// Files and directories to back up
    #[arg(value_name = "PATH")]
    pub paths: Vec<PathBuf>,
    /// What the profile is called
    #[arg(long, value_name = "NAME", default_value = "nightly")]
    pub name: String,
    /// A PostgreSQL database (may be repeated)
    #[arg(long, value_name = "NAME=URL", value_parser = named)]
    pub postgres: Vec<Named>,
    /// A MySQL or MariaDB database (may be repeated)
    #[arg(long, value_name = "NAME=URL", value_parser = named)]
    pub mysql: Vec<Named>,
    /// A shell command whose output is kept (may be repeated)
    #[arg(long, value_name = "NAME=COMMAND", value_parser = command)]
    pub command: Vec<(String, String)>,
    /// Begin no run where less is free
    #[arg(long, value_name = "SIZE", default_value = "10G")]
    pub min_free: String,
    /// Read every snapshot back within a day, not within a week
    #[arg(long)]
    pub critical: bool,
    /// Ask nothing: what is not said is as usual
    #[arg(short, long)]
    pub yes: bool,
}
