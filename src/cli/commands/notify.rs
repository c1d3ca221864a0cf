//! `notify`: do messages arrive, and what waits to be sent.

use crate::base::clock::Clock;
use crate::base::{Kind, Machine};
use crate::cli::app::App;
use crate::cli::args::{Notify as Given, NotifyCommand};
use crate::cli::error::{Error, Result};
use crate::cli::exit::Exit;
use crate::cli::print::human;
use crate::cli::print::table::Table;
use crate::config::Config;
use crate::job::alarm::{self, Looked};
use crate::job::post;
use crate::notify::message::{Change, Message, Notice, Severity};
use crate::notify::outbox::{Outbox, Tried, Which};
use crate::notify::rules::Alert;
use serde::Serialize;

#[derive(Serialize)]
struct JsonTold {
    message_type: &'static str,
    channel: String,
    /// The title of the message.
    title: String,
    sent: bool,
    error: Option<String>,
}

#[derive(Serialize)]
struct JsonWaiting {
    message_type: &'static str,
    channel: String,
    profile: String,
    title: String,
    /// When it was written.
    time: String,
    /// When it is tried next.
    not_before: Option<String>,
    /// Whether it waits for the end of quiet hours.
    quiet: bool,
    attempts: u32,
    error: Option<String>,
}

#[derive(Serialize)]
struct JsonLost {
    message_type: &'static str,
    /// So many messages were given up since this machine began.
    lost: u64,
    last: String,
}

/// Does what is to be done about notifications.
pub fn run(app: &App, given: &Given) -> Result<Exit> {
    let config = Config::load(&app.global.config)?;
    match &given.command {
        NotifyCommand::Test { channel } => test(app, &config, channel.as_deref()),
        NotifyCommand::Flush { due } => flush(app, &config, if *due { Which::Due } else { Which::All }),
        NotifyCommand::Check => check(app, &config),
        NotifyCommand::List => list(app, &config),
    }
}

fn test(app: &App, config: &Config, name: Option<&str>) -> Result<Exit> {
    let channels = match name {
        Some(name) => vec![config.channel(name)?],
        None => config.channels(),
    };
    if channels.is_empty() {
        return Err(Error::usage("there is no channel to test: the config names none under [notify]"));
    }
    let host = Machine::this().host;
    let mut tried = Vec::new();
    for channel in &channels {
        let message = Message::test(&host, &channel.told.name, Clock::System.now());
        let error = post::send(channel, &message).err().map(|error| error.to_string());
        tried.push(Tried { channel: channel.told.name.clone(), title: message.title, error });
    }
    Ok(tell(app, &tried, "a test message was sent"))
}

#[derive(Serialize)]
struct JsonLooked {
    message_type: &'static str,
    profile: String,
    /// What is not as it should be.
    alerts: Vec<JsonAlert>,
    /// What of it is told now, and what is over.
    told: Vec<Notice>,
}

#[derive(Serialize)]
struct JsonAlert {
    rule: &'static str,
    severity: Severity,
    text: String,
    next: String,
}

/// What time alone brings.
fn check(app: &App, config: &Config) -> Result<Exit> {
    let (looked, tried) = alarm::check(config, app.global.of_profile.as_deref())?;
    for one in looked {
        if app.out.is_json() {
            let alert = |alert: Alert| {
                let Alert { rule, severity, text, next, .. } = alert;
                JsonAlert { rule: rule.name(), severity, text, next }
            };
            let alerts = one.judged.alerts.into_iter().map(alert).collect();
            let Looked { profile, notices: told, .. } = one;
            app.out.object(&JsonLooked { message_type: "checked", profile, alerts, told });
            continue;
        }
        print_looked(app, &one);
    }
    Ok(tell(app, &tried, "a message was sent"))
}

fn print_looked(app: &App, looked: &Looked) {
    let profile = human::name(looked.profile.as_bytes());
    if looked.judged.alerts.is_empty() {
        app.out.line(format!("{profile}: nothing is wrong"));
    }
    for alert in &looked.judged.alerts {
        let severity = alert.severity.name().to_uppercase();
        app.out.line(format!("{profile}: {severity} {}: {}", alert.rule.name(), human::name(alert.text.as_bytes())));
    }
    for notice in looked.notices.iter().filter(|notice| notice.change == Change::Recovered) {
        app.out.line(format!("{profile}: RECOVERED {}: {}", notice.rule, human::name(notice.text.as_bytes())));
    }
}

/// Says what became of each attempt.
pub(super) fn tell(app: &App, tried: &[Tried], sent: &str) -> Exit {
    for one in tried {
        if app.out.is_json() {
            let Tried { channel, title, error } = one.clone();
            app.out.object(&JsonTold { message_type: "told", channel, title, sent: error.is_none(), error });
            continue;
        }
        let channel = human::name(one.channel.as_bytes());
        app.out.line(match &one.error {
            None => format!("{channel}: {sent}"),
            Some(error) => format!("{channel}: NOT SENT: {}", human::name(error.as_bytes())),
        });
    }
    if tried.iter().any(|one| one.error.is_some()) { Exit::Failed } else { Exit::Done }
}

fn outbox(config: &Config) -> Result<Outbox> {
    Ok(Outbox::below(config.state().place()?))
}

fn flush(app: &App, config: &Config, which: Which) -> Result<Exit> {
    let outbox = outbox(config)?;
    let channels = config.channels();
    let tried = outbox.send(which, Clock::System.now(), &mut |waiting| post::send_waiting(&channels, waiting));
    let tried = tried.map_err(lowered)?;
    let exit = tell(app, &tried, "a message that waited was sent");
    let left = outbox.list().map_err(lowered)?.len();
    if !app.out.is_json() {
        app.out.line(match left {
            0 => "nothing waits any more".to_owned(),
            left => format!(
                "{} {} on; `keepstone notify list` shows them",
                human::counted(left as u64, "message"),
                if left == 1 { "waits" } else { "wait" }
            ),
        });
    }
    Ok(exit)
}

fn list(app: &App, config: &Config) -> Result<Exit> {
    let outbox = outbox(config)?;
    let mut table = Table::new(&["Written", "Channel", "Tried", "Next", "Message"]);
    let moment = |seconds: i64| human::time(seconds.saturating_mul(1_000_000_000));
    let waiting = outbox.list().map_err(lowered)?;
    for one in &waiting {
        let (title, error) = (one.message.title.clone(), one.error.clone());
        if app.out.is_json() {
            app.out.object(&JsonWaiting {
                message_type: "waiting",
                channel: one.channel.clone(),
                profile: one.message.profile.clone(),
                title,
                time: one.message.moment(),
                not_before: (one.not_before > 0).then(|| human::rfc3339(one.not_before.saturating_mul(1_000_000_000))),
                quiet: one.quiet,
                attempts: one.attempts,
                error,
            });
            continue;
        }
        let next = match (one.quiet, one.not_before) {
            (_, 0) => "now".to_owned(),
            (true, end) => format!("{}, after quiet hours", moment(end)),
            (false, at) => moment(at),
        };
        let why = error.map_or(String::new(), |error| format!(" ({error})"));
        let message = human::name(format!("{title}{why}").as_bytes());
        table.row(vec![moment(one.message.time), one.channel.clone(), one.attempts.to_string(), next, message]);
    }
    let lost = outbox.lost();
    if app.out.is_json() {
        app.out.object(&JsonLost { message_type: "lost", lost: lost.count, last: lost.last });
        return Ok(Exit::Done);
    }
    match waiting.is_empty() {
        true => app.out.line("nothing waits"),
        false => table.print(&app.out),
    }
    if lost.count > 0 {
        let last = human::name(lost.last.as_bytes());
        app.out.line(format!("{} given up so far, the last: {last}", human::counted(lost.count, "message")));
    }
    Ok(Exit::Done)
}

/// A failure of telling as one of the front door.
fn lowered(error: crate::notify::Error) -> Error {
    let kind: Kind = error.kind();
    Error::Said(kind, error.to_string())
}
