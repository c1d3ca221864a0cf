//! The arguments of `key`.

use super::KdfCost;
use super::values::size;
use clap::{Args, Subcommand, ValueEnum};
use std::path::PathBuf;

/// List, add, change, remove and rotate the passwords and keys that open the repository.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  keepstone key list
  keepstone key add --new-password-file second.txt --label 'in the safe'
  keepstone key add --recipient age1… --label recovery
  keepstone key passwd
  keepstone key rotate")]
pub struct Key {
    /// What to do.
    #[command(subcommand)]
    pub command: KeyCommand,
}

/// Where a new password or key comes from; asked for on the terminal if nothing is given.
#[derive(Clone, Debug, Args)]
pub struct NewSecret {
    /// Read the new password from the first line of a file
    #[arg(long, value_name = "FILE", conflicts_with_all = ["new_password_command", "new_key_file", "generate_key_file"])]
    pub new_password_file: Option<PathBuf>,
    /// Take the first line that a shell command prints as the new password
    #[arg(long, value_name = "COMMAND", conflicts_with_all = ["new_key_file", "generate_key_file"])]
    pub new_password_command: Option<String>,
    /// The new key is the content of this file
    #[arg(long, value_name = "FILE", conflicts_with_all = ["generate_key_file", "new_key_command"])]
    pub new_key_file: Option<PathBuf>,
    /// The new key is all that this shell command prints, at least 16 bytes that nobody guesses
    #[arg(long, visible_alias = "command", value_name = "COMMAND",
          conflicts_with_all = ["new_password_file", "new_password_command", "generate_key_file"])]
    pub new_key_command: Option<String>,
    /// Make a new key file
    #[arg(long, value_name = "FILE")]
    pub generate_key_file: Option<PathBuf>,
    /// What the stretching of a password costs.
    #[command(flatten)]
    pub cost: KdfCost,
}

/// What a recovery sheet is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum SheetFormat {
    /// Plain text
    Text,
    /// A page of HTML, to be printed from a browser
    Html,
}

/// What to do with keys.
#[derive(Debug, Subcommand)]
pub enum KeyCommand {
    /// List the key slots
    #[command(after_help = "Example:\n  keepstone key list --json")]
    List,
    /// Add a password, a key or a recipient
    #[command(after_help = "\
Examples:
  keepstone key add --label ann
  keepstone key add --generate-key-file /media/stick/vault.key --label stick
  keepstone key add --command 'ssh safe cat vault.key' --label safe
  keepstone --key-command 'ssh safe cat vault.key' snapshots
  keepstone key add --recipient age1… --label 'recovery, in the bank'
  keepstone key add --write-only --generate-key-file host7.key --label host7

A machine with a write-only key backs up and deduplicates. What it stored is opened with another key, elsewhere.")]
    Add {
        /// The new one.
        #[command(flatten)]
        new: NewSecret,
        /// Whoever holds the identity of this recipient (age1…) shall open the repository; the identity is not needed here
        #[arg(long, value_name = "RECIPIENT", conflicts_with_all =
              ["new_password_file", "new_password_command", "new_key_file", "new_key_command", "generate_key_file"])]
        recipient: Option<String>,
        /// It shall only back up: it opens nothing that is stored, not even what it stored itself
        #[arg(long, conflicts_with = "recipient")]
        write_only: bool,
        /// What people call it
        #[arg(long, value_name = "TEXT", default_value = "", hide_default_value = true)]
        label: String,
    },
    /// Make an identity and print its recipient; no repository is needed
    #[command(after_help = "\
Examples:
  keepstone key generate /media/stick/recovery.identity
  keepstone key add --recipient \"$(keepstone key generate recovery.identity --quiet)\" --label recovery
  keepstone --identity-file recovery.identity snapshots

Identity and recipient are X25519 keys in the text form of age; what `age-keygen` makes will do too.")]
    Generate {
        /// Where the identity is written, for its owner only; `-` for standard output
        #[arg(value_name = "FILE")]
        file: PathBuf,
    },
    /// Remove a key slot and open a new epoch of keys; never the last slot
    #[command(after_help = "Example:\n  keepstone key remove 4be0117c")]
    Remove {
        /// Its id, or the first digits
        #[arg(value_name = "ID")]
        id: String,
        /// Also the slot that this command was opened with
        #[arg(long)]
        force: bool,
    },
    /// Replace a password or key with a new one
    #[command(after_help = "\
Examples:
  keepstone key passwd
  keepstone key passwd --new-password-file new.txt")]
    Passwd {
        /// The slot to replace [default: the one that opened the repository]
        #[arg(value_name = "ID")]
        id: Option<String>,
        /// The new one.
        #[command(flatten)]
        new: NewSecret,
    },
    /// Wrap the same password or key anew, for example at a higher cost
    #[command(after_help = "Example:\n  keepstone key rewrap --kdf-passes 4")]
    Rewrap {
        /// What the stretching of a password costs.
        #[command(flatten)]
        cost: KdfCost,
    },
    /// Seal what is stored from now on under new keys
    #[command(after_help = "\
Examples:
  keepstone key rotate
  keepstone key rotate --reseal --newer-than 90d --budget 20G
  keepstone key rotate --root

A new epoch takes effect at once for runs that begin later. With --root the root key is exchanged too: every \
password and key still opens the repository, without being asked for; what somebody kept of the old root key opens \
nothing that is stored from then on. An exchange that was interrupted is brought to its end.

--reseal opens no epoch if there are packs under older ones already: it seals these anew under the newest, the newest \
packs first, and goes on where it, or another machine, was interrupted. What somebody has copied stays his.")]
    Rotate {
        /// Exchange the root key as well
        #[arg(long, conflicts_with = "reseal")]
        root: bool,
        /// Seal packs anew that lie under keys of older epochs; opens a new epoch first if there are none
        #[arg(long)]
        reseal: bool,
        /// Only packs that were written within this time: 90d, 1y
        #[arg(long, value_name = "AGE", requires = "reseal")]
        newer_than: Option<String>,
        /// At most so much in this run
        #[arg(long, value_name = "SIZE", value_parser = size, requires = "reseal")]
        budget: Option<u64>,
    },
    /// Say what lies under which epoch of keys
    #[command(after_help = "Example:\n  keepstone key status --json")]
    Status,
    /// Make one page with what is needed on a bare machine
    #[command(after_help = "\
Examples:
  keepstone key recovery-sheet --new-identity --format html --output sheet.html
  keepstone key recovery-sheet

With --new-identity a key is made that stands on the sheet only, as text and as a code for a camera: print it, then \
shred the file.")]
    RecoverySheet {
        /// What is made of it
        #[arg(long, value_enum, default_value_t = SheetFormat::Text)]
        format: SheetFormat,
        /// Where it is written, for its owner only [default: standard output]
        #[arg(short, long, value_name = "FILE")]
        output: Option<PathBuf>,
        /// Make a recovery key, which stands on the sheet only
        #[arg(long)]
        new_identity: bool,
        /// What people call the recovery key
        #[arg(long, value_name = "TEXT", default_value = "recovery sheet", requires = "new_identity")]
        label: String,
    },
    /// Write copies of keys and config anew that are damaged or missing
    #[command(after_help = "\
Example:
  keepstone key repair

Keys and config lie in the repository twice. A copy that is missing or makes no sense is written anew \
from the other one; where both make sense and differ, only if the one that is right opens with the \
password or key of this very command.")]
    Repair,
}
