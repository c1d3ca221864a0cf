//! The arguments of `backup`.

use super::values::{size, time};
use super::{Databases, NewRepository};
use crate::base::Timestamp;
use crate::compress::Level;
use clap::{Args, builder::OsStr};
use std::ffi::OsString;
use std::path::PathBuf;

/// Back up files, directories, databases, standard input or the output of commands.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct Backup {
    /// Files and directories
    #[arg(value_name = "PATH")]
    pub paths: Vec<PathBuf>,

    /// Make the repository first if there is none
    #[arg(long)]
    pub init: bool,
    /// How the new repository is opened.
    #[command(flatten)]
    pub new: NewRepository,

    /// Leave out what a pattern matches (may be repeated)
    #[arg(short, long, value_name = "PATTERN", help_heading = "What to leave out")]
    pub exclude: Vec<OsString>,
    /// The same, whether letters are large or small
    #[arg(long, value_name = "PATTERN", help_heading = "What to leave out")]
    pub iexclude: Vec<OsString>,
    /// Leave out what the patterns in a file match, one a line; `$NAME` is the value of a variable, `#` begins a comment
    #[arg(long, value_name = "FILE", help_heading = "What to leave out")]
    pub exclude_file: Vec<PathBuf>,
    /// The same, whether letters are large or small
    #[arg(long, value_name = "FILE", help_heading = "What to leave out")]
    pub iexclude_file: Vec<PathBuf>,
    /// Leave out the content of directories with a CACHEDIR.TAG
    #[arg(long, help_heading = "What to leave out")]
    pub exclude_caches: bool,
    /// Leave out the content of directories that hold such a file (which may have to begin with HEADER)
    #[arg(long, value_name = "NAME[:HEADER]", help_heading = "What to leave out")]
    pub exclude_if_present: Vec<OsString>,
    /// Leave out files larger than this (500K, 20M, 1.5G)
    #[arg(long, value_name = "SIZE", value_parser = size, help_heading = "What to leave out")]
    pub exclude_larger_than: Option<u64>,
    /// Stay on the file systems of the given paths; of others that are mounted there keep the mount point
    #[arg(short = 'x', long, help_heading = "What to leave out")]
    pub one_file_system: bool,

    /// Read paths from a file, one a line, with wildcards if you like; `-` for standard input
    #[arg(long, value_name = "FILE", help_heading = "Where paths come from")]
    pub files_from: Vec<PathBuf>,
    /// Read paths from a file, each ended by a zero byte, as `find -print0` writes them; `-` for standard input
    #[arg(long, value_name = "FILE", help_heading = "Where paths come from")]
    pub files_from_raw: Vec<PathBuf>,

    /// Back up standard input as one file
    #[arg(long, conflicts_with_all = ["paths", "files_from", "files_from_raw"], help_heading = "Streams")]
    pub stdin: bool,
    /// What that file is called
    #[arg(long, value_name = "NAME", default_value = OsStr::from("stdin"), help_heading = "Streams")]
    pub stdin_filename: OsString,
    /// Run the command after `--` and back up what it prints; if it fails there is no snapshot
    #[arg(long, conflicts_with_all = ["stdin", "files_from", "files_from_raw"], help_heading = "Streams")]
    pub stdin_from_command: bool,

    /// Databases and commands.
    #[command(flatten)]
    pub databases: Databases,
    /// Look into files that are database dumps while they are read: are they whole, how many rows has each table
    #[arg(long)]
    pub validate_dumps: bool,

    /// Tag the snapshot (may be repeated, or separated by commas)
    #[arg(long, value_name = "TAG", value_delimiter = ',')]
    pub tag: Vec<String>,
    /// The host's name [default: this machine's]
    #[arg(short = 'H', long, value_name = "NAME")]
    pub host: Option<String>,
    /// The time that the snapshot stands for [default: now]
    #[arg(long, value_name = "TIME", value_parser = time)]
    pub time: Option<Timestamp>,
    /// What you want to say about it
    #[arg(long, value_name = "TEXT", default_value = "", hide_default_value = true)]
    pub description: String,

    /// Store nothing; say what would be stored
    #[arg(short = 'n', long, conflicts_with = "verify")]
    pub dry_run: bool,
    /// Read back all that the snapshot needs before reporting success
    #[arg(long)]
    pub verify: bool,
    /// Compare with this snapshot [default: the newest of the same host and paths]
    #[arg(long, value_name = "SNAP", conflicts_with = "force")]
    pub parent: Option<OsString>,
    /// Read everything, also what looks unchanged
    #[arg(short, long)]
    pub force: bool,
    /// Let inode numbers not tell whether a file changed
    #[arg(long)]
    pub ignore_inode: bool,
    /// Let change times of inodes not tell whether a file changed
    #[arg(long)]
    pub ignore_ctime: bool,
    /// Store no content as a difference to similar content
    #[arg(long)]
    pub no_delta: bool,
    /// Rely on what write-only clients have stored before a prune has read it
    #[arg(long)]
    pub trust_writers: bool,
    /// none, fast, default, max or a zstd level from 1 to 22
    #[arg(long, value_name = "LEVEL", default_value = "default", value_parser = compression)]
    pub compression: Compression,
    /// How large the local cache of delta bases may grow; 0 for none
    #[arg(long, value_name = "SIZE", default_value = "1G", value_parser = size)]
    pub base_cache: u64,
}

/// How hard to compress.
#[derive(Clone, Copy, Debug)]
pub struct Compression(pub Level);

pub(super) fn compression(text: &str) -> Result<Compression, String> {
    Level::parse(text).map(Compression).map_err(|error| error.to_string())
}

const EXAMPLES: &str = "\
Examples:
  keepstone backup --init ~/documents
  keepstone backup / --one-file-system --exclude-caches --exclude '/var/cache/*' --tag nightly
  find . -name '*.jpg' -print0 | keepstone backup --files-from-raw -
  pg_dump --format plain shop | keepstone backup --stdin --stdin-filename shop.sql
  keepstone backup --postgres postgres://backup@db1/shop --mysql wiki=mysql://backup@db2/wikidb /etc
  keepstone backup --command 'slapcat.ldif=slapcat' --command 'crontab=crontab -l'
  keepstone backup --stdin-filename shop.sql --stdin-from-command -- pg_dump --format plain shop

Patterns are those of restic: `*.o` matches names anywhere, `/home/*/tmp` an absolute path, `**` \
any number of directories; `!pattern` takes back what an earlier pattern matched.

Passwords of databases come from PGPASSWORD, MYSQL_PWD, ~/.pgpass, a service file or an option \
file that the URL names: in a URL they stand in the process list.

Exit code 3 says that a snapshot was made but some sources could not be read; it is marked partial.";
