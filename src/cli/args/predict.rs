//! The arguments of `predict`.

use super::keep::Keep;
use clap::{Args, ValueEnum};

/// Say how repositories grow, when a disk or quota is full, and what it costs.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  keepstone predict
  keepstone predict --days 90 --repository offsite
  keepstone predict --backtest
  keepstone predict --price STANDARD_IA
  keepstone --profile shop predict --keep-daily 14 --keep-monthly 12

What it knows are the runs of profiles on this machine (`keepstone history`): seven days of them are the least. With \
--profile and rules of what to keep it opens the repository and says what those would come to, with nights that go on as they did.")]
pub struct Predict {
    /// So many days ahead
    #[arg(long, value_name = "N", default_value_t = 30, value_parser = clap::value_parser!(u16).range(1..=1095))]
    pub days: u16,
    /// Only this repository, by its name in the config (may be repeated)
    #[arg(long = "repository", value_name = "NAME")]
    pub of_repositories: Vec<String>,
    /// How to guess [default: as the config says, or auto]
    #[arg(long, value_name = "METHOD")]
    pub method: Option<Guess>,
    /// The share of futures that should lie within the interval [default: as the config says, or 80%]
    #[arg(long, value_name = "PERCENT")]
    pub level: Option<String>,
    /// So many days of the past count [default: as the config says, or 90]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(7..=730))]
    pub history: Option<u16>,
    /// Say how far each method was from what came, in the past
    #[arg(long)]
    pub backtest: bool,
    /// At this price of the config in place of the repository's own
    #[arg(long, value_name = "NAME")]
    pub price: Option<String>,
    /// What another policy would come to.
    #[command(flatten)]
    pub keep: Keep,
}

/// How the future is guessed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Guess {
    /// Whichever would have been nearer in the past
    Auto,
    /// Exponential smoothing
    Ets,
    /// The median slope
    TheilSen,
}
