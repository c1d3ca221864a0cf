//! How people are told, as it is meant.

use super::{Origin, Reader, password};
use crate::config::schedule::Schedule;
use crate::config::values;
use crate::notify::channel::{Channel as Told, Encryption, Mail, Way, Webhook};
use crate::notify::route::{Quiet, Route};
use crate::notify::rules::{Rules, Thresholds};
use crate::notify::template::Template;
use crate::report::period::Sort;
use std::path::PathBuf;
use std::time::Duration;

/// A channel, and where what is secret of it comes from.
#[derive(Clone, Debug)]
pub struct Channel {
    /// All of it that is no secret.
    pub told: Told,
    /// Its address.
    pub url: Option<Origin>,
    /// Its token, key or password.
    pub token: Option<Origin>,
}

/// Reads the channels of the whole file.
pub(crate) fn channels(read: Reader<'_>) -> Vec<Channel> {
    let mut channels = Vec::new();
    for sort in ["mail", "webhook", "slack", "teams", "discord", "telegram", "ntfy", "pagerduty", "ping", "command"] {
        channels.extend(read.named(sort).into_iter().map(|(name, read)| channel(sort, name, read)));
    }
    read.finish();
    channels
}

fn channel(sort: &str, name: String, read: Reader<'_>) -> Channel {
    let has = |key: &str| read.has(key);
    let way = match sort {
        "mail" => Way::Mail(mail(&read)),
        "webhook" => Way::Webhook(Webhook {
            method: read.text("method").unwrap_or_default(),
            headers: read.list("headers").iter().filter_map(|header| values::header(header).ok()).collect(),
            template: read.value("template", Template::parse),
        }),
        "slack" => Way::Slack,
        "teams" => Way::Teams,
        "discord" => Way::Discord,
        "telegram" => Way::Telegram {
            server: read.text("server").unwrap_or_default(),
            chat: read.text("chat").unwrap_or_default(),
        },
        "ntfy" => Way::Ntfy,
        "pagerduty" => Way::PagerDuty { server: read.text("server").unwrap_or_default() },
        "ping" => Way::Ping,
        _ => Way::Command(read.text("run").unwrap_or_default()),
    };
    let token = match sort {
        "mail" => password(&read),
        _ if has("token_file") => origin(&read, ["token_file", "token_command", "token_env"]),
        _ => None,
    };
    let url = if has("url_file") { origin(&read, ["url_file", "url_command", "url_env"]) } else { None };
    let told = Told {
        name,
        way,
        timeout: read.value("timeout", values::duration).unwrap_or_default(),
        authorities: if has("ca") { read.text("ca").map(PathBuf::from) } else { None },
        plain_http: has("allow_plain_http") && read.switch("allow_plain_http"),
    };
    read.finish();
    Channel { told, url, token }
}

fn mail(read: &Reader<'_>) -> Mail {
    Mail {
        server: read.text("server").unwrap_or_default(),
        encryption: match read.text("encryption").as_deref() {
            Some("tls") => Encryption::Tls,
            Some("none") => Encryption::None,
            _ => Encryption::StartTls,
        },
        from: read.text("from").unwrap_or_default(),
        to: read.list("to"),
        user: read.text("user"),
    }
}

/// Where a secret comes from: from a file, a command or a variable, whose keys are given.
fn origin(read: &Reader<'_>, [file, command, variable]: [&str; 3]) -> Option<Origin> {
    let file = read.text(file).map(|path| Origin::PasswordFile(path.into()));
    let command = read.text(command).map(|command| Origin::PasswordCommand(command.into()));
    let variable = read.text(variable).map(Origin::PasswordVariable);
    file.or(command).or(variable)
}

/// Reports that are sent by themselves.
#[derive(Clone, Debug)]
pub struct Reports {
    /// Channels that they are sent through.
    pub channels: Vec<String>,
    /// When each sort is due, those that are on.
    pub due: Vec<(Sort, Schedule)>,
}

/// Reads which reports are sent.
pub(crate) fn reports(read: Reader<'_>) -> Reports {
    let due = [Sort::Daily, Sort::Weekly, Sort::Monthly].into_iter().filter_map(|sort| {
        let schedule = read.value(sort.name(), |text| values::unless_off(text, Schedule::parse)).flatten();
        Some((sort, schedule?))
    });
    let reports = Reports { due: due.collect(), channels: read.list("channels") };
    read.finish();
    reports
}

/// Metrics for Prometheus.
#[derive(Clone, Debug)]
pub struct Metrics {
    /// The file for the textfile collector.
    pub textfile: Option<PathBuf>,
    /// The address of a push gateway.
    pub push: Option<Origin>,
    /// A token for it.
    pub token: Option<Origin>,
    /// Authorities to trust too.
    pub authorities: Option<PathBuf>,
    /// Give up after so long.
    pub timeout: Duration,
    /// Whether it may be told without encryption on another machine.
    pub plain_http: bool,
}

/// Reads where metrics go.
pub(crate) fn metrics(read: Reader<'_>) -> Metrics {
    let metrics = Metrics {
        textfile: read.text("textfile").map(PathBuf::from),
        push: origin(&read, ["url_file", "url_command", "url_env"]),
        token: origin(&read, ["token_file", "token_command", "token_env"]),
        authorities: read.text("ca").map(PathBuf::from),
        timeout: read.value("timeout", values::duration).unwrap_or_default(),
        plain_http: read.switch("allow_plain_http"),
    };
    read.finish();
    metrics
}

/// Reads whom a profile tells.
pub(super) fn route(read: Reader<'_>) -> Route {
    let channels = read.list("channels");
    let those = |name: &str| match (read.list(name), read.is_said(name)) {
        (_, false) => channels.clone(),
        (own, true) => own,
    };
    let critical_passes = read.switch("quiet_critical");
    let route = Route {
        critical: those("critical"),
        warning: those("warning"),
        info: those("info"),
        night: read.list("night"),
        repeat: read.value("repeat", values::duration).unwrap_or_default(),
        quiet: read.value("quiet", |text| Quiet::parse(text, critical_passes)),
    };
    read.finish();
    route
}

/// Reads what is worth telling.
pub(super) fn rules(read: Reader<'_>) -> Rules {
    let rules = Rules {
        critical: thresholds(read.part("critical")),
        warning: thresholds(read.part("warning")),
        info: thresholds(read.part("info")),
    };
    read.finish();
    rules
}

fn thresholds(read: Reader<'_>) -> Thresholds {
    fn one<T>(read: &Reader<'_>, name: &str, parse: fn(&str) -> Result<T, String>) -> Option<T> {
        read.value(name, |text| values::unless_off(text, parse)).flatten()
    }
    let thresholds = Thresholds {
        error: read.switch("error"),
        maintenance: read.switch("maintenance"),
        missed: read.switch("missed"),
        rpo: one(&read, "rpo", values::duration),
        success_rate: one(&read, "success_rate", values::percent),
        verify_rate: one(&read, "verify_rate", values::percent),
        duration: one(&read, "duration", values::duration),
        size: one(&read, "size", values::size),
        savings: one(&read, "savings", values::percent),
        free: one(&read, "free", values::size),
        forecast: read.switch("forecast"),
        rto: one(&read, "rto", values::duration),
        size_change: one(&read, "size_change", values::percent),
        record_change: one(&read, "record_change", values::count),
    };
    read.finish();
    thresholds
}
