//! `report`: what became of the nights.

use crate::base::Clock;
use crate::base::clock::TimeZone;
use crate::cli::app::App;
use crate::cli::args::{Report as Given, ReportFormat, ReportPeriod};
use crate::cli::error::{Error, Result};
use crate::cli::exit::Exit;
use crate::config::Config;
use crate::job::reports;
use crate::report::period::{Period, Sort};
use crate::report::render;
use crate::report::summary::Report;
use serde::Serialize;

#[derive(Serialize)]
struct JsonReport<'a> {
    message_type: &'static str,
    #[serde(flatten)]
    report: &'a Report,
}

/// Prints a report.
pub fn run(app: &App, given: &Given) -> Result<Exit> {
    let config = Config::load(&app.global.config)?;
    let now = Clock::System.now().to_zoned(TimeZone::system());
    let period = match (given.period, &given.from) {
        (Some(ReportPeriod::Daily), _) => Period::before(Sort::Daily, &now),
        (Some(ReportPeriod::Weekly), _) => Period::before(Sort::Weekly, &now),
        (Some(ReportPeriod::Monthly), _) => Period::before(Sort::Monthly, &now),
        (None, Some(from)) => Period::days(from, given.to.as_deref(), &now).map_err(Error::usage)?,
        (None, None) => return Err(Error::usage("of which time? Say daily, weekly or monthly, or --from DAY")),
    };
    let report = reports::report(&config, &period, app.global.of_profile.as_deref(), &now)?;
    let format = if app.out.is_json() { ReportFormat::Json } else { given.format };
    let text = match format {
        ReportFormat::Json => {
            app.out.object(&JsonReport { message_type: "report", report: &report });
            return Ok(Exit::Done);
        }
        ReportFormat::Text => render::text(&report),
        ReportFormat::Csv => render::csv(&report),
        ReportFormat::Markdown => render::markdown(&report),
        ReportFormat::Html => render::html(&report),
    };
    app.out.line(text.trim_end());
    Ok(Exit::Done)
}
