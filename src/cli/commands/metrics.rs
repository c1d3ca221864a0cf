//! `metrics`: what Prometheus reads, printed.

use crate::cli::app::App;
use crate::cli::args::Metrics as Given;
use crate::cli::error::{Error, Result};
use crate::cli::exit::Exit;
use crate::config::Config;
use crate::job::metrics;
use crate::report::metrics::Form;
use serde::Serialize;

#[derive(Serialize)]
struct JsonMetrics {
    message_type: &'static str,
    /// All of them, as Prometheus reads them.
    text: String,
}

/// Prints them.
pub fn run(app: &App, given: &Given) -> Result<Exit> {
    let config = Config::load(&app.global.config)?;
    let form = if given.openmetrics { Form::OpenMetrics } else { Form::Prometheus };
    let text = metrics::text(&config, form).map_err(|error| Error::Said(error.kind(), error.to_string()))?;
    match app.out.is_json() {
        true => app.out.object(&JsonMetrics { message_type: "metrics", text }),
        false => app.out.line(text.trim_end()),
    }
    Ok(Exit::Done)
}
