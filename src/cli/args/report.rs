//! The arguments of `report`.

use clap::{Args, ValueEnum};

/// Say what became of the nights of a day, a week, a month or any days.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  keepstone report weekly
  keepstone report monthly --format html > report.html
  keepstone report --from 2026-11-01 --to 2026-11-30 --format csv
  keepstone report weekly --send --channel ops
  keepstone report due

Read from the history of this machine, never from a repository: successes and failures, durations and sizes with their trends, \
compression, errors, rows of tables, verifications, drills, and how RPO and RTO were kept, how repositories grow, with what \
needs attention first. `report due` is for a timer: it sends those of [reports] whose time has come, each once.")]
pub struct Report {
    /// The last 24 hours, seven days or month, or whatever is due
    #[arg(value_name = "PERIOD", required_unless_present = "from", conflicts_with = "from")]
    pub period: Option<ReportPeriod>,
    /// From this day on: 2026-11-01
    #[arg(long, value_name = "DAY")]
    pub from: Option<String>,
    /// To the end of this day [default: until now]
    #[arg(long, value_name = "DAY", requires = "from")]
    pub to: Option<String>,
    /// How it is written
    #[arg(long, value_name = "FORMAT", default_value = "text")]
    pub format: ReportFormat,
    /// Send it in place of printing it: mail as text and page, chats in a few lines
    #[arg(long, conflicts_with = "format")]
    pub send: bool,
    /// Through this channel (may be repeated) [default: `reports.channels`]
    #[arg(long = "channel", value_name = "CHANNEL", requires = "send")]
    pub channels: Vec<String>,
}

/// Stretches of time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum ReportPeriod {
    /// The last 24 hours
    Daily,
    /// The last seven days
    Weekly,
    /// The last month
    Monthly,
    /// Send those whose time has come (`[reports]` of the config). For timers
    Due,
}

/// Forms of a report.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum ReportFormat {
    /// For people
    Text,
    /// For programs, with every figure
    Json,
    /// A line for each run
    Csv,
    /// For wikis and tickets
    Markdown,
    /// A page with charts
    Html,
}
