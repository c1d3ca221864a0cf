//! The arguments of `metrics`.

use clap::Args;

/// Print metrics for Prometheus.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  keepstone metrics
  keepstone metrics --openmetrics

Read from the history of this machine, never from a repository. `textfile` and `url_file` below [metrics] in the config tell a \
collector or a push gateway at the end of each night.")]
pub struct Metrics {
    /// In the form OpenMetrics 1.0
    #[arg(long)]
    pub openmetrics: bool,
}
