//! `report`: what became of the nights.

use super::notify::tell;
use crate::base::Clock;
use crate::base::clock::{TimeZone, Zoned};
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

/// A report that was due.
#[derive(Serialize)]
struct JsonDue {
    message_type: &'static str,
    sort: &'static str,
    from: String,
    to: String,
    /// What it comes to, in a line.
    gist: String,
}

#[derive(Serialize)]
struct JsonReport<'a> {
    message_type: &'static str,
    #[serde(flatten)]
    report: &'a Report,
}

/// Prints a report, or sends it.
pub fn run(app: &App, given: &Given) -> Result<Exit> {
    let config = Config::load(&app.global.config)?;
    let now = Clock::System.now().to_zoned(TimeZone::system());
    let period = match (given.period, &given.from) {
        (Some(ReportPeriod::Due), _) => return due(app, given, &config, &now),
        (Some(ReportPeriod::Daily), _) => Period::before(Sort::Daily, &now),
        (Some(ReportPeriod::Weekly), _) => Period::before(Sort::Weekly, &now),
        (Some(ReportPeriod::Monthly), _) => Period::before(Sort::Monthly, &now),
        (None, Some(from)) => Period::days(from, given.to.as_deref(), &now).map_err(Error::usage)?,
        (None, None) => return Err(Error::usage("of which time? Say daily, weekly or monthly, or --from DAY")),
    };
    let report = reports::report(&config, &period, app.global.of_profile.as_deref(), &now)?;
    if given.send {
        let tried = reports::send(&config, &report, &given.channels, &now)?;
        return Ok(tell(app, &tried, "the report was sent"));
    }
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

/// Sends what is due.
fn due(app: &App, given: &Given, config: &Config, now: &Zoned) -> Result<Exit> {
    if given.send || app.global.of_profile.is_some() {
        return Err(Error::usage(
            "`report due` sends what [reports] of the config says: leave out --send and --profile",
        ));
    }
    let (made, tried) = reports::due(config, now)?;
    for one in &made {
        let Period { sort, from, to } = &one.period;
        if app.out.is_json() {
            app.out.object(&JsonDue {
                message_type: "report_due",
                sort: sort.name(),
                from: from.timestamp().to_string(),
                to: to.timestamp().to_string(),
                gist: one.gist.clone(),
            });
            continue;
        }
        app.out.line(format!("{}: {}", one.period.title(), one.gist));
    }
    if made.is_empty() && !app.out.is_json() {
        app.out.line(match config.reports().channels.is_empty() {
            true => "nobody gets reports: name `channels` in [reports] of the config",
            false => "no report is due",
        });
    }
    Ok(tell(app, &tried, "a message was sent"))
}
